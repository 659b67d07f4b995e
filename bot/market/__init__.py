"""Klines, funding and calendar events on disk, their download, and the synthetic market."""
