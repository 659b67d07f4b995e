"""Exceptions that end an operation; a refusal is a value (`types.Denied`), not an exception."""


class BotError(Exception):
    """Base of the bot's exceptions; the message is one sentence for the user at the terminal."""

    exit_code = 1


class ConfigError(BotError):
    """A setting, option or argument is invalid: the bot does not start."""

    exit_code = 2


class DataError(BotError):
    """A stored value or data file is invalid."""


class DataMissing(DataError):
    """Requested data is missing."""

    exit_code = 3


class WireError(BotError):
    """A message of the exchange cannot be parsed: stop trading the symbol, keep its stops."""


class ContradictingMessage(WireError):
    """A message contradicts what was sent or what the exchange reported before: the message is rejected."""


class Unreachable(BotError):
    """The exchange does not respond: retry while orders or positions are open there."""


class InvariantError(BotError):
    """A bug in the bot: halt, and flatten by rule."""
