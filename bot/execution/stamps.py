"""How late the bot is: the lag of each stream, and the time from a closed bar's frame to the bytes of its order.

Lag is the exchange's event time against the time of receipt, on the clock that the bot keeps of the exchange: it holds network,
queue and the error of that clock. Decision time is taken on this machine alone, in nanoseconds of one steady clock: from
the moment in which the frame's last byte was read off the socket to the moment in which the order's bytes were handed to it.
"""

import time
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

KEPT = 512  # lags of a stream that its percentiles are taken from
BARS_KEPT = 64

#: Client id of the order whose request is being written; set by the gateway, read where the bytes leave.
SENDING: ContextVar[str] = ContextVar("order that is being sent", default="")


def now_ns() -> int:
    """Nanoseconds of this machine's steady clock."""
    return time.perf_counter_ns()


def percentile(values: list[float], share: float) -> float:
    """Return the value below which `share` of `values` lies (the nearest one that occurs).

    >>> percentile([5.0, 1.0, 3.0], 0.5), percentile([5.0, 1.0, 3.0], 0.99)
    (3.0, 5.0)
    """
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


class Lag:
    """Lags of one stream in ms: the last one, and percentiles of the newest."""

    __slots__ = ("count", "last", "longest", "newest")

    def __init__(self) -> None:
        self.count = 0
        self.last = 0
        self.longest = 0
        self.newest: deque[float] = deque(maxlen=KEPT)

    def add(self, lag_ms: int) -> None:
        """Take one; an event from the future has none."""
        self.last = max(lag_ms, 0)
        self.count += 1
        self.longest = max(self.longest, self.last)
        self.newest.append(self.last)

    def summary(self) -> dict[str, Any]:
        """Return count, last, p50, p99 and the longest; percentiles are None before the first."""
        values = list(self.newest)
        return {
            "frames": self.count,
            "last_ms": self.last if values else None,
            "p50_ms": percentile(values, 0.5) if values else None,
            "p99_ms": percentile(values, 0.99) if values else None,
            "max_ms": self.longest if values else None,
        }


class Decisions:
    """Times from a bar's frame to its order's bytes.

    Parameters
    ----------
    told
        Given each time in ms, with the order's client id.
    """

    def __init__(self, told: Callable[[str, float], None] = lambda client_id, ms: None) -> None:
        self.told = told
        self._bars: dict[tuple[str, int], int] = {}
        self._expected: dict[str, int] = {}

    def bar(self, symbol: str, open_ms: int, received_ns: int) -> None:
        """Note when the frame that closed a bar was read; the first one counts."""
        self._bars.setdefault((symbol, open_ms), received_ns)
        while len(self._bars) > BARS_KEPT:
            del self._bars[next(iter(self._bars))]

    def expect(self, client_id: str, symbol: str, open_ms: int) -> None:
        """Note that an order answers a bar."""
        received_ns = self._bars.get((symbol, open_ms))
        if received_ns is not None:
            self._expected[client_id] = received_ns

    def written(self, client_id: str) -> None:
        """Note that an order's bytes have been handed to the socket."""
        received_ns = self._expected.pop(client_id, None)
        if received_ns is not None:
            self.told(client_id, (now_ns() - received_ns) / 1e6)
