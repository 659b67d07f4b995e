"""A self-contained trading bot for Binance USDⓈ-M futures."""
