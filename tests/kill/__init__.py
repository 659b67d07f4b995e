"""The kill matrix: the bot is killed at every journal write and request of a trade, restarted, and judged by the exchange."""
