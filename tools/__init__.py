"""Tools beside the bot; nothing of it needs them."""
