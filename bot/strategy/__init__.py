"""Rules, features, plan and the life of a trade."""
