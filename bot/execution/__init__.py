"""The asynchronous shell towards Binance."""
