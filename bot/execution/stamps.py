"""Latency: the lag of each stream, and the time from a closed bar's frame to the bytes of its order.

Lag is the time of receipt minus the exchange's event time, on the bot's clock of the exchange: it includes network, queue and
the error of that clock. Decision time is measured on this machine alone, in nanoseconds of one monotonic clock: from reading
the frame's last byte from the socket to handing the order's bytes to it.
"""

import time
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

KEPT = 512  # newest lags of a stream, for its percentiles
BARS_KEPT = 64

#: Client id of the order whose request is being written; set by the gateway, read where the bytes are sent.
SENDING: ContextVar[str] = ContextVar("order that is being sent", default="")


def now_ns() -> int:
    """Return nanoseconds of this machine's monotonic clock."""
    return time.perf_counter_ns()


def percentile(values: list[float], share: float) -> float:
    """Return the value below which `share` of `values` lies (the nearest rank, not interpolated).

    >>> percentile([5.0, 1.0, 3.0], 0.5), percentile([5.0, 1.0, 3.0], 0.99)
    (3.0, 5.0)
    """
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


class Lag:
    """Lags of one stream in ms: the last one, and percentiles of the newest `KEPT`."""

    __slots__ = ("count", "last", "longest", "newest")

    def __init__(self) -> None:
        self.count = 0
        self.last = 0
        self.longest = 0
        self.newest: deque[float] = deque(maxlen=KEPT)

    def add(self, lag_ms: int) -> None:
        """Add a lag; an event from the future counts as 0."""
        self.last = max(lag_ms, 0)
        self.count += 1
        self.longest = max(self.longest, self.last)
        self.newest.append(self.last)

    def summary(self) -> dict[str, Any]:
        """Return count, last, p50, p99 and maximum; all but the count are None before the first lag."""
        values = list(self.newest)
        return {
            "frames": self.count,
            "last_ms": self.last if values else None,
            "p50_ms": percentile(values, 0.5) if values else None,
            "p99_ms": percentile(values, 0.99) if values else None,
            "max_ms": self.longest if values else None,
        }


class Decisions:
    """Measures decision times, from a bar's frame to its order's bytes.

    Parameters
    ----------
    told
        Called with the order's client id and each time in ms.
    """

    def __init__(self, told: Callable[[str, float], None] = lambda client_id, ms: None) -> None:
        self.told = told
        self._bars: dict[tuple[str, int], int] = {}
        self._expected: dict[str, int] = {}

    def bar(self, symbol: str, open_ms: int, received_ns: int) -> None:
        """Record when the frame that closed a bar was read; the first one counts."""
        self._bars.setdefault((symbol, open_ms), received_ns)
        while len(self._bars) > BARS_KEPT:
            del self._bars[next(iter(self._bars))]

    def expect(self, client_id: str, symbol: str, open_ms: int) -> None:
        """Record that an order was decided on a bar."""
        received_ns = self._bars.get((symbol, open_ms))
        if received_ns is not None:
            self._expected[client_id] = received_ns

    def written(self, client_id: str) -> None:
        """Report the decision time of an order whose bytes have been handed to the socket."""
        received_ns = self._expected.pop(client_id, None)
        if received_ns is not None:
            self.told(client_id, (now_ns() - received_ns) / 1e6)
