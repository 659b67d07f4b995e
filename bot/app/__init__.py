"""Puts the rooms together for a venue, starts the bot and ends it."""
