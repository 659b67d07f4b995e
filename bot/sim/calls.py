"""One REST request as the exchange sees it, and its reply; parameters come in the query, in the form body or in both.

Whatever bytes a client sends, a call is made of text that can be written again: what is not UTF-8 becomes U+FFFD.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson

VOLATILE: Final = frozenset({"timestamp", "signature", "recvWindow"})


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
        for name in ("method", "path", "query", "body", "key"):
            setattr(self, name, _clean(getattr(self, name)))
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


def _clean(text: str) -> str:
    r"""Return text that UTF-8 can write: aiohttp hands over stray bytes of the head as lone surrogates.

    >>> _clean("a\udcffb")
    'a�b'
    """
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
