"""Benchmarks, run on demand: ratios within one run, medians, no timed tests."""
