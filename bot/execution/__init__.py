"""Asynchronous Binance client: requests, streams, orders of unknown outcome."""
