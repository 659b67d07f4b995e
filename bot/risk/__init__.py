"""Position size, limits and vetoes of entries."""
