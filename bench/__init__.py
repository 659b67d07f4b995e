"""Speed, measured on demand: ratios of one run, medians, no timed tests."""
