"""The embedded exchange: Binance's protocol on loopback, with injected faults."""
