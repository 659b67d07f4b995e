"""The possible outcomes of a request to the exchange, and the translation of every exception into one of them.

A write has one of three outcomes, which are never confused: accepted, rejected (certainly not executed) or unknown (it may have
been executed: query before doing anything else). Venue notes 2.12 and 2.13 say which of Binance's replies is which.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

import aiohttp
from binance.exceptions import BinanceAPIException, BinanceRequestException

from bot.core.errors import BotError, WireError
from bot.core.events import OrderUpdate
from bot.core.redact import redact

NO_SUCH_ORDER = -2013
UNKNOWN_ORDER = -2011
TOO_MANY_ORDERS = -1015
LARGEST_CODE = 100_000
LONGEST_MESSAGE = 500
BANNED = 418  # the HTTP status
CLOCK_ERRORS = frozenset({-1021, -5028})  # outside `recvWindow`: certainly not executed
NOT_PERMITTED = frozenset({-1002, -1022, -2014, -2015, -2017})
UNKNOWN_CODES = frozenset({-1000, -1001, -1006, -1007})


@dataclass(frozen=True, slots=True)
class Accepted:
    """Executed; `update` is the order's state for orders, `payload` the raw reply."""

    payload: Any
    update: OrderUpdate | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """Certainly not executed.

    `busy` marks a rejection for overload that may succeed when retried, `limited` one for too many requests or orders.
    """

    code: int
    message: str
    busy: bool = False
    limited: bool = False


@dataclass(frozen=True, slots=True)
class Unknown:
    """Possibly executed."""

    reason: str


Outcome = Accepted | Rejected | Unknown


class ReadFailed(BotError):
    """A read that the exchange rejected, or that failed on every attempt."""

    def __init__(self, text: str, *, code: int = 0) -> None:
        super().__init__(text)
        self.code = code


class Redirected(BotError):
    """The exchange redirects to another address: nothing was executed here."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def translate(error: Exception) -> Rejected | Unknown:
    """Return the outcome that an exception of the library or of the connection means for its request."""
    if isinstance(error, BinanceAPIException):
        return _translate_answer(error)
    if isinstance(error, Redirected):
        return Rejected(-error.status, str(error))
    if isinstance(error, BinanceRequestException):
        return Unknown(f"unreadable reply: {redact(str(error.message)[:200])}")
    if isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)):
        return Rejected(0, f"cannot connect: {redact(str(error))}", busy=True)  # nothing was sent
    if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
        return Unknown("no reply in time")
    if isinstance(error, (aiohttp.ClientError, OSError)):
        return Unknown(redact(f"connection lost: {type(error).__name__} {error}".rstrip()))
    if isinstance(error, WireError):
        return Unknown(redact(str(error)))
    # Anything else that the library raises while reading a reply (e.g. a JSON list as error body): the request was sent.
    return Unknown(redact(f"{type(error).__name__}: {error}"))


def describe(error: Exception) -> str:
    """Return a short description of an exception of the library or of the connection."""
    outcome = translate(error)
    return f"{outcome.message} ({outcome.code})" if isinstance(outcome, Rejected) else outcome.reason


def _translate_answer(error: BinanceAPIException) -> Rejected | Unknown:
    status = int(error.status_code)
    code = error.code if isinstance(error.code, int) and abs(error.code) < LARGEST_CODE else 0
    readable = isinstance(error.message, str) and not error.message.startswith("Invalid JSON error message")
    message = redact(error.message[:LONGEST_MESSAGE]) if readable else f"HTTP {status} without a readable body"
    if status in (418, 429) or code == -1003:
        return Rejected(code or -1003, message, limited=True)
    if code == TOO_MANY_ORDERS:
        return Rejected(code, message, limited=True)
    if code == -1008:
        return Rejected(code, message, busy=True)
    text = message.lower()
    if status >= 500 and ("service unavailable" in text or "unable to process" in text) and "unknown error" not in text:
        return Rejected(code or -status, message, busy=True)
    if status == 408 or status >= 500 or code in UNKNOWN_CODES:
        return Unknown(message)
    return Rejected(code or -status, message)
