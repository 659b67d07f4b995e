"""The hostile room: an exchange whose replies and frames lie on their way, a bot in a trade, and a judge at the exchange."""
