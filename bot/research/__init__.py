"""Offline work over historical klines."""
