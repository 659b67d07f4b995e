"""User-facing output: pages, terminal, notifications."""
