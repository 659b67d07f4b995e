"""How a request to the exchange can end, and the translation of every exception into one of these.

A write ends in one of three ways, and they are never mixed up: accepted, rejected (it was certainly not done) or unknown (it may
have been done: look before doing anything else). Venue notes 2.12 and 2.13 say which of Binance's answers is which.
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
CLOCK_ERRORS = frozenset({-1021, -5028})  # outside the receiving window: certainly not done
NOT_PERMITTED = frozenset({-1002, -1022, -2014, -2015, -2017})
UNKNOWN_CODES = frozenset({-1000, -1001, -1006, -1007})


@dataclass(frozen=True, slots=True)
class Accepted:
    """The exchange did it; `update` is the order's state for orders, `payload` the reply as it came."""

    payload: Any
    update: OrderUpdate | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """It was certainly not done.

    `busy` marks a refusal for overload that may succeed a moment later, `limited` one for too many requests or orders.
    """

    code: int
    message: str
    busy: bool = False
    limited: bool = False


@dataclass(frozen=True, slots=True)
class Unknown:
    """It may have been done."""

    reason: str


Outcome = Accepted | Rejected | Unknown


class ReadFailed(BotError):
    """A read that the exchange refused, or that failed on every try."""

    def __init__(self, text: str, *, code: int = 0) -> None:
        super().__init__(text)
        self.code = code


class Redirected(BotError):
    """The exchange points to another address: whoever is there, nothing was done here."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def translate(error: Exception) -> Rejected | Unknown:
    """Return what an exception of the library or of the connection means for the request that raised it."""
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
    # What else the library may raise while reading a reply (a JSON list as an error body, for one): the request was sent.
    return Unknown(redact(f"{type(error).__name__}: {error}"))


def describe(error: Exception) -> str:
    """Say in a few words what an exception of the library or of the connection tells."""
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
