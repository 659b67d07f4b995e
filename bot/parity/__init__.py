"""TradingView exports and alert streams: read, align with klines, score against our values, fit settings."""
