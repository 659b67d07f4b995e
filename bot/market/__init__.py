"""Klines, funding and events on disk, their download, and the synthetic market."""
