"""Features, conditions, plan and the life of a trade."""
