"""The strategy over history, through the engine that trades: data, broker, bars, one pass, its files."""
