"""One REST request as the exchange receives it, and its reply; parameters come in the query, the form body or both.

A call contains only text that can be encoded again: bytes that are not UTF-8 become U+FFFD.
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
    """One request."""

    method: str
    path: str
    query: str
    body: str
    key: str
    counted: bool = False  # its client takes part in the stepped replay
    signed: str | None = None  # the signed text, if not query and body (WebSocket API)
    params: dict[str, str] = field(init=False)
    reply: "asyncio.Future[Reply] | None" = None
    answer_ms: int = 0

    def __post_init__(self) -> None:
        """Replace invalid UTF-8 and merge the parameters of query and body."""
        for name in ("method", "path", "query", "body", "key"):
            setattr(self, name, _clean(getattr(self, name)))
        pairs = parse_qsl(self.query, keep_blank_values=True) + parse_qsl(self.body, keep_blank_values=True)
        self.params = dict(pairs)

    @property
    def name(self) -> str:
        """Method, path and parameters, without those that differ from run to run."""
        asked = "&".join(f"{k}={v}" for k, v in sorted(self.params.items()) if k not in VOLATILE)
        return f"{self.method} {self.path}?{asked}"


@dataclass(slots=True)
class Reply:
    """A reply; `later` builds the body when the reply is sent and returns None while it is not ready."""

    status: int
    data: Any
    headers: dict[str, str] = field(default_factory=dict)
    later: Callable[[], Any] | None = None
    text: str | None = None  # a body that is not JSON
    cut: bool = False  # no reply: the connection is aborted instead

    def body(self) -> bytes:
        """Return the data as JSON."""
        return orjson.dumps(self.data)


def _clean(text: str) -> str:
    r"""Return text that can be encoded as UTF-8: aiohttp passes stray bytes of the head as lone surrogates.

    >>> _clean("a\udcffb")
    'a�b'
    """
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
