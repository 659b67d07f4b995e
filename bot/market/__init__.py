"""Klines at rest: Parquet files and the synthetic market."""
