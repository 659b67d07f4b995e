"""Access control of the page: allowed hosts and origins, connection limit, and rate limit of loop time.

The page listens on this machine, but any browser on it also runs pages of strangers, and other users and programs reach
the port too. So unknown host names are rejected (DNS rebinding can point a stranger's name here), cross-site requests are
rejected, connections are limited and closed when idle, and all guests together may use a tenth of the event loop, because
the same loop sends the orders. A client with the bot's token is the operator and is never delayed.
"""

import asyncio
import logging
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
MAX_CONNECTIONS: Final = 64
HEADERS_S: Final = 10.0  # from opening a connection, or from its last response, to a complete request
SHARE: Final = 0.1  # share of the loop's time that guests may use
BURST_S: Final = 0.3  # loop time that may be used at once: five fresh page loads
OVERHEAD_S: Final = 0.0005  # of reading a request and writing its response, measured
BYTE_S: Final = 1.5e-9  # of passing a byte of the response to the kernel, measured
PATIENCE_S: Final = 2.0  # a guest who would wait longer gets 429
_NUMBER: Final = re.compile(r"-?[0-9]{1,16}")
_SYMBOL: Final = re.compile(r"[A-Z0-9]{1,30}(_[0-9]{6})?")


class _NotOfGuests(logging.Filter):
    """Drops aiohttp's reports of malformed HTTP, so that guests cannot fill the log."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


SERVER_LOG: Final = logging.getLogger("aiohttp.server.page")
SERVER_LOG.addFilter(_NotOfGuests())


class DoorRefusal(Exception):
    """A rejected request.

    Parameters
    ----------
    status
        The HTTP status.
    sentence
        Reason and remedy.
    retry_s
        Seconds after which to retry; None for never.
    """

    def __init__(self, status: int, sentence: str, *, retry_s: int | None = None) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.retry_s = status, sentence, retry_s


def names_of(allowed_hosts: Sequence[str]) -> frozenset[str]:
    """Return the accepted host names: this machine's own, and those of the settings."""
    return LOOPBACK | {name.lower().strip("[]") for name in allowed_hosts}


def netloc(host: str, port: int) -> str:
    """Return host and port as in a URL.

    >>> netloc("127.0.0.1", 80), netloc("::1", 80)
    ('127.0.0.1:80', '[::1]:80')
    """
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def exposure(host: str, allowed_hosts: Sequence[str]) -> str | None:
    """Return a warning if the page can be reached from other machines, else None."""
    if host in LOOPBACK:
        return None
    names = (
        ", ".join(allowed_hosts) or "none, so it answers to this machine alone: list them in dashboard.allowed_hosts"
    )
    return (
        f"the dashboard listens on {host}: whoever reaches it may look, who has the token may command, and nothing is "
        f"encrypted. Names that it answers to from elsewhere: {names}"
    )


def check_name(request: web.Request, names: frozenset[str], ours: str) -> None:
    """Raise DoorRefusal for a request to an unknown host name."""
    try:
        name = request.url.host
    except ValueError:
        name = None
    if name is None or name.lower() not in names:
        raise DoorRefusal(421, f"ask for {ours} by this address, or list the name in dashboard.allowed_hosts")


def check_site(request: web.Request) -> None:
    """Raise DoorRefusal for a cross-site request: browsers name the site, other programs send no such headers."""
    if any(site not in ("same-origin", "none") for site in request.headers.getall("Sec-Fetch-Site", ())):
        raise DoorRefusal(403, "pages of other sites may ask for nothing here: type the address, or use a bookmark")
    for origin in request.headers.getall("Origin", ()):
        try:
            place = urlsplit(origin)
            ours = place.scheme in ("http", "https") and place.netloc.lower() == request.host.lower()
        except ValueError:
            ours = False
        if not ours:
            raise DoorRefusal(403, "pages of other sites may ask for nothing here: the Origin is not this page's own")


def parameters(request: web.Request, *known: str) -> Mapping[str, str]:
    """Return the query parameters of a request; raise DoorRefusal if one is unknown or repeated."""
    for name in request.query:
        if name not in known:
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            raise DoorRefusal(400, f"{request.path} has no parameter {name[:40]!r}; {takes}")
        if len(request.query.getall(name)) > 1:
            raise DoorRefusal(400, f"{name} is given more than once")
    return request.query


def number(found: Mapping[str, str], name: str, *, default: int | None, least: int, meaning: str) -> int | None:
    """Return a query parameter as an integer.

    Parameters
    ----------
    found
        Parameters of the request.
    default
        Value if the parameter is missing.
    least
        Smallest valid value.
    meaning
        Description for the error message.

    Raises
    ------
    DoorRefusal
        The value is invalid.
    """
    text = found.get(name)
    if text is None:
        return default
    if not _NUMBER.fullmatch(text) or int(text) < least:
        raise DoorRefusal(400, f"{name} is a whole number from {least} on: {meaning}")
    return int(text)


def symbol_of(found: Mapping[str, str]) -> str:
    """Return the parameter `symbol`; raise DoorRefusal if it is missing or invalid."""
    symbol = found.get("symbol", "")
    if not _SYMBOL.fullmatch(symbol):
        raise DoorRefusal(400, "symbol is a contract such as BTCUSDT")
    return symbol


class Ration:
    """Token bucket of the loop time that guests may use: `share` of it, and `burst_s` at once.

    A guest waits while it is empty, and gets 429 if that would take too long.
    """

    def __init__(self, *, share: float = SHARE, burst_s: float = BURST_S) -> None:
        self._share, self._burst_s = share, burst_s
        self._left_s = burst_s
        self._seen_s = math.inf  # loop time of the last refill

    def _wait_s(self) -> float:
        """Refill and return how long the next guest has to wait."""
        now = asyncio.get_running_loop().time()
        self._left_s = min(self._burst_s, self._left_s + max(0.0, now - self._seen_s) * self._share)
        self._seen_s = now
        return -self._left_s / self._share if self._left_s < 0 else 0.0

    async def turn(self) -> None:
        """Wait until loop time is available.

        Raises
        ------
        DoorRefusal
            429 with the time after which to retry.
        """
        patience = PATIENCE_S
        while (wait := self._wait_s()) > 0:
            if wait > patience:
                seconds = math.ceil(wait)
                raise DoorRefusal(429, f"the page is busy: ask again in {seconds} s", retry_s=seconds)
            patience -= wait
            await asyncio.sleep(wait)
        self.spend(OVERHEAD_S)

    def spend(self, seconds: float) -> None:
        """Subtract used loop time."""
        self._left_s -= seconds


class DoorGate(asyncio.Protocol):
    """Limits connections: assigns each new one its handler while there is room, and is its protocol until then.

    aiohttp closes a connection that has sent no complete request within its keep-alive time, also at the start. When all
    places are taken, the oldest idle connection is closed, so that idle clients cannot block others; if none is idle, the
    new connection is closed at once.

    Parameters
    ----------
    server
        aiohttp's server, which creates the handlers.
    limit
        Maximum number of connections.
    """

    def __init__(self, server: web.Server, *, limit: int = MAX_CONNECTIONS) -> None:
        self._server, self._limit = server, limit
        self._working: set[Any] = set()

    def __call__(self) -> asyncio.Protocol:
        """Return the protocol of a new connection."""
        return self

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Assign a handler to the connection, or abort it."""
        assert isinstance(transport, asyncio.Transport)
        held = [handler for handler in self._server.connections if handler.connected]
        if len(held) >= self._limit:
            idle = next((handler for handler in held if handler not in self._working), None)
            if idle is None:
                transport.abort()
                return
            idle.force_close()
        handler = self._server()
        transport.set_protocol(handler)
        handler.connection_made(transport)

    @contextmanager
    def working(self, request: web.Request) -> Iterator[None]:
        """Mark a request's connection as busy while the block runs."""
        handler = request.protocol
        self._working.add(handler)
        try:
            yield
        finally:
            self._working.discard(handler)
