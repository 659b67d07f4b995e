"""Who may come in to the page, how many at once, and how much of the bot's time they may take.

The page listens on this machine, but every browser on it obeys pages of strangers, and other users and programs reach the port
too. So a name that is not ours is refused (a stranger's name may be made to point here), a request that a foreign page made is
refused, connections are counted and closed when they do not ask for anything, and all guests together may use a tenth of the
event loop, because the same loop sends the orders. Who shows the token of the bot is the operator and waits for nobody.
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
HEADERS_S: Final = 10.0  # from the opening of a connection, or from the last answer, to a whole request
SHARE: Final = 0.1  # of the loop's time that guests may use
BURST_S: Final = 0.3  # loop time that may be used at once: five pages opened anew
OVERHEAD_S: Final = 0.0005  # of reading a request and writing its answer, measured
BYTE_S: Final = 1.5e-9  # of handing a byte of the answer to the system, measured
PATIENCE_S: Final = 2.0  # a guest who would wait longer is asked to come back
_NUMBER: Final = re.compile(r"-?[0-9]{1,16}")
_SYMBOL: Final = re.compile(r"[A-Z0-9]{1,30}(_[0-9]{6})?")


class _NotOfGuests(logging.Filter):
    """Lets through what aiohttp reports, except that somebody sent what is no HTTP: guests must not fill the log."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


SERVER_LOG: Final = logging.getLogger("aiohttp.server.page")
SERVER_LOG.addFilter(_NotOfGuests())


class DoorRefusal(Exception):
    """A request that is turned away.

    Parameters
    ----------
    status
        The HTTP status.
    sentence
        Why, and the way out.
    retry_s
        Seconds after which it may be asked again; None for never.
    """

    def __init__(self, status: int, sentence: str, *, retry_s: int | None = None) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.retry_s = status, sentence, retry_s


def names_of(allowed_hosts: Sequence[str]) -> frozenset[str]:
    """Return the names that the page answers to: this machine's own, and those of the settings."""
    return LOOPBACK | {name.lower().strip("[]") for name in allowed_hosts}


def netloc(host: str, port: int) -> str:
    """Return host and port as an address writes them.

    >>> netloc("127.0.0.1", 80), netloc("::1", 80)
    ('127.0.0.1:80', '[::1]:80')
    """
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def exposure(host: str, allowed_hosts: Sequence[str]) -> str | None:
    """Return the warning for a page that others than this machine can reach, None for one that they cannot."""
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
    """Refuse a request for a name that is not ours."""
    try:
        name = request.url.host
    except ValueError:
        name = None
    if name is None or name.lower() not in names:
        raise DoorRefusal(421, f"ask for {ours} by this address, or list the name in dashboard.allowed_hosts")


def check_site(request: web.Request) -> None:
    """Refuse what a page of another site asks for: browsers name the site, other programs send nothing of the kind."""
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
    """Return the parameters of a request, each known and given once."""
    for name in request.query:
        if name not in known:
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            raise DoorRefusal(400, f"{request.path} has no parameter {name[:40]!r}; {takes}")
        if len(request.query.getall(name)) > 1:
            raise DoorRefusal(400, f"{name} is given more than once")
    return request.query


def number(found: Mapping[str, str], name: str, *, default: int | None, least: int, meaning: str) -> int | None:
    """Return a parameter as a whole number from `least` on; `default` when it is not given."""
    text = found.get(name)
    if text is None:
        return default
    if not _NUMBER.fullmatch(text) or int(text) < least:
        raise DoorRefusal(400, f"{name} is a whole number from {least} on: {meaning}")
    return int(text)


def symbol_of(found: Mapping[str, str]) -> str:
    """Return the parameter `symbol`."""
    symbol = found.get("symbol", "")
    if not _SYMBOL.fullmatch(symbol):
        raise DoorRefusal(400, "symbol is a contract such as BTCUSDT")
    return symbol


class Ration:
    """The loop time that guests may use: `share` of it, and `burst_s` at once.

    A guest who comes when it is used up waits for a turn, and is asked to come back when that would take too long.
    """

    def __init__(self, *, share: float = SHARE, burst_s: float = BURST_S) -> None:
        self._share, self._burst_s = share, burst_s
        self._left_s = burst_s
        self._seen_s = math.inf  # when what is left was last counted, loop time

    def _wait_s(self) -> float:
        """Return how long the next guest has to wait."""
        now = asyncio.get_running_loop().time()
        self._left_s = min(self._burst_s, self._left_s + max(0.0, now - self._seen_s) * self._share)
        self._seen_s = now
        return -self._left_s / self._share if self._left_s < 0 else 0.0

    async def turn(self) -> None:
        """Wait for a turn.

        Raises
        ------
        Refusal
            429 with the time to come back.
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
        """Take loop time that was used off what is left."""
        self._left_s -= seconds


class DoorGate(asyncio.Protocol):
    """Gives each new connection its handler, as long as there is room; the protocol of a connection until then.

    aiohttp closes a connection that has sent no whole request for its keep-alive time, from the first moment on. When all
    places are taken, the oldest connection that asks for nothing makes room, so that those who only hold places keep nobody
    out; with every place at work the new one is closed at once.

    Parameters
    ----------
    server
        aiohttp's server, which makes the handlers.
    """

    def __init__(self, server: web.Server, *, limit: int = MAX_CONNECTIONS) -> None:
        self._server, self._limit = server, limit
        self._working: set[Any] = set()

    def __call__(self) -> asyncio.Protocol:
        """Return the protocol of a new connection."""
        return self

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Hand the connection to a handler, or close it."""
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
        """Keep a request's connection from making room."""
        handler = request.protocol
        self._working.add(handler)
        try:
            yield
        finally:
            self._working.discard(handler)
