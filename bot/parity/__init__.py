"""Exports and alert streams of TradingView: read, aligned with klines, scored against our values, fitted."""
