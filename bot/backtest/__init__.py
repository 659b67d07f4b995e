"""The back-test: the strategy over history through the live engine, with data, broker, bars, runs and output files."""
