"""The asynchronous client of Binance: requests, streams, orders of unknown outcome."""
