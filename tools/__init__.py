"""Development tools; the bot does not depend on them."""
