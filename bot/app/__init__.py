"""Assemble the packages for a venue, start the bot and shut it down."""
