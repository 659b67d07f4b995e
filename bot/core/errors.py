"""Errors that end something; a refusal is a value (`types.Denied`), not an exception."""


class BotError(Exception):
    """Base of all of ours: its text is one sentence for the person at the terminal."""

    exit_code = 1


class ConfigError(BotError):
    """A setting, option or argument is wrong: we do not start."""

    exit_code = 2


class DataError(BotError):
    """A kline or funding file says something impossible."""


class DataMissing(DataError):
    """Data that was asked for is not there."""

    exit_code = 3


class WireError(BotError):
    """The exchange said something that we cannot read: stop trading the symbol, keep its stops."""


class ContradictingMessage(WireError):
    """The exchange's message contradicts what was sent or what it said before: that message is not believed."""


class Unreachable(BotError):
    """The exchange does not answer: with something open there it is tried again."""


class InvariantError(BotError):
    """Our own bug: halt, and flatten by rule."""
