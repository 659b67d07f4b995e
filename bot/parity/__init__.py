"""The parity lab: exports of a TradingView chart read, aligned with klines, scored against our values, and fitted."""
