"""Rules, features, trade plan and trade lifecycle."""
