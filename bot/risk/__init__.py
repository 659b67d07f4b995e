"""How much is risked, and what forbids an entry."""
