"""One REST request as the exchange sees it, and who may make it: key, signature and timestamp.

Parameters come in the query, in the form body or in both; the signature is HMAC-SHA256 over the raw query followed by the raw
body, without the signature itself (Binance's totalParams). A timestamp is good within recvWindow, in wall time, of the
exchange's clock or of the machine's, because a replay's clock is neither.
"""

import asyncio
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

import orjson

from bot.sim.errors import Refused

VOLATILE: Final = frozenset({"timestamp", "signature", "recvWindow"})
MAX_WINDOW_MS: Final = 60_000
AHEAD_MS: Final = 1_000


@dataclass(slots=True, eq=False)
class Call:
    """A request."""

    method: str
    path: str
    query: str
    body: str
    key: str
    counted: bool = False  # its client takes part in the stepped replay
    signed: str | None = None  # what the signature is over, when not query and body (WebSocket API)
    params: dict[str, str] = field(init=False)
    reply: "asyncio.Future[Reply] | None" = None
    answer_ms: int = 0

    def __post_init__(self) -> None:
        """Merge query and body."""
        pairs = parse_qsl(self.query, keep_blank_values=True) + parse_qsl(self.body, keep_blank_values=True)
        self.params = dict(pairs)

    @property
    def name(self) -> str:
        """Method, path and what was asked, without what differs from run to run."""
        asked = "&".join(f"{k}={v}" for k, v in sorted(self.params.items()) if k not in VOLATILE)
        return f"{self.method} {self.path}?{asked}"


@dataclass(slots=True)
class Reply:
    """An answer; with `later` the body is made when it leaves, None meaning not yet."""

    status: int
    data: Any
    headers: dict[str, str] = field(default_factory=dict)
    later: Callable[[], Any] | None = None
    text: str | None = None  # a body that is not JSON
    cut: bool = False  # no reply: the connection is cut instead

    def body(self) -> bytes:
        """Return the JSON."""
        return orjson.dumps(self.data)


class Guard:
    """Knows the one key pair."""

    def __init__(self, key: str, secret: str) -> None:
        self._key, self._secret = key, secret.encode()

    def check_key(self, call: Call) -> None:
        """Refuse a request without the right key."""
        if not call.key:
            raise Refused(-2014)
        if not hmac.compare_digest(call.key, self._key):
            raise Refused(-2015)

    def check_signature(self, call: Call, *, replay_ms: int, wall_ms: int, speed: float) -> None:
        """Refuse a request whose signature or timestamp is wrong."""
        for name in ("timestamp", "signature"):
            if not call.params.get(name):
                raise Refused(-1102, name)
        window, stamp = call.params.get("recvWindow", "5000"), call.params["timestamp"]
        if not stamp.isdigit() or not window.isdigit() or not 0 < int(window) <= MAX_WINDOW_MS:
            raise Refused(-1130, "timestamp" if not stamp.isdigit() else "recvWindow")
        if not (
            _fresh(int(stamp), wall_ms, int(window), AHEAD_MS)
            or _fresh(int(stamp), replay_ms, round(int(window) * speed), round(AHEAD_MS * speed))
        ):
            raise Refused(-1021)
        total = call.signed
        if total is None:
            total = _without_signature(call.query) + _without_signature(call.body)
        expected = hmac.new(self._secret, total.encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected, unquote(call.params["signature"])):
            raise Refused(-1022)


def _fresh(stamp: int, now: int, window: int, ahead: int) -> bool:
    return now - window <= stamp <= now + ahead


def _without_signature(text: str) -> str:
    """Return the raw text as it was signed.

    >>> _without_signature("a=1&signature=ab&b=2")
    'a=1&b=2'
    """
    return "&".join(part for part in text.split("&") if not part.startswith("signature="))
