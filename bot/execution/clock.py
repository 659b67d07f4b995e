"""The exchange's time as the bot keeps it when the exchange is elsewhere: the machine's clock plus a measured offset.

The offset is the median over some readings of the exchange's `/time`, each taken against the middle of its request. The
clock never goes backwards and never lags behind a time that the exchange itself has told (`observe`): an event of
12:00:00.100 cannot be handled at 12:00:00.050.

An exchange whose time is more than a day away from the machine's replays history. Its clock may also run at another
speed; between events `WallClock` then goes on at the speed of the wall, and delays are wall delays. Requests to a replay
are signed with the machine's time, because an offset that ages at 60 times the speed of the wall would be outside the
receiving window after a second; the embedded exchange accepts either.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from statistics import median

from bot.core.clock import Cancellable

DAY_MS = 86_400_000
LEAP_MS = 60_000  # a live event further in the future than this is a broken frame, not a reason to set the clock


class Reading:
    """One reading of the exchange's time: machine time before and after the request, and what it said."""

    __slots__ = ("exchange_ms", "received_ms", "sent_ms")

    def __init__(self, sent_ms: float, received_ms: float, exchange_ms: int) -> None:
        self.sent_ms = sent_ms
        self.received_ms = received_ms
        self.exchange_ms = exchange_ms

    @property
    def offset_ms(self) -> float:
        """Exchange minus machine at the middle of the request."""
        return self.exchange_ms - (self.sent_ms + self.received_ms) / 2


def machine_ms() -> float:
    """UTC epoch ms of this machine."""
    return time.time() * 1000


def offset_of(readings: Sequence[Reading]) -> float:
    """Return the median offset in ms.

    >>> offset_of([Reading(100, 120, 1110), Reading(200, 300, 1290), Reading(300, 320, 1311)])
    1001.0
    """
    return float(median(reading.offset_ms for reading in readings))


class WallClock:
    """Wall time plus offset; implements `bot.core.clock.Clock` on the running event loop."""

    def __init__(self) -> None:
        self._base_ms = machine_ms() - self._monotonic_ms()
        self._floor_ms = 0
        self.replay = False

    @staticmethod
    def _monotonic_ms() -> float:
        return time.monotonic() * 1000

    @property
    def offset_ms(self) -> float:
        """Exchange minus machine, as set by the last `synchronise`."""
        return self._base_ms + self._monotonic_ms() - machine_ms()

    def now_ms(self) -> int:
        """UTC epoch ms on the exchange's clock; never less than what was returned or observed before."""
        now = int(self._base_ms + self._monotonic_ms())
        if now > self._floor_ms:
            self._floor_ms = now
        return self._floor_ms

    def call_later(self, delay_ms: float, callback: Callable[[], None]) -> Cancellable:
        """Run `callback` in the event loop after `delay_ms` of wall time."""
        return asyncio.get_running_loop().call_later(max(delay_ms, 0.0) / 1000, callback)

    def synchronise(self, offset_ms: float) -> float:
        """Set the clock to machine time plus `offset_ms`; return the offset to sign requests with (0 in a replay)."""
        was_replay = self.replay
        self.replay = abs(offset_ms) > DAY_MS
        self._base_ms = machine_ms() + offset_ms - self._monotonic_ms()
        if self.replay and not was_replay:
            self._floor_ms = 0  # from now on it is another time altogether
        return 0.0 if self.replay else offset_ms

    def observe(self, exchange_ms: int) -> None:
        """Note a time that the exchange told: the clock does not lag behind it."""
        lead = exchange_ms - self.now_ms()
        if lead <= 0:
            return
        if self.replay:
            self._base_ms += lead  # a replay runs faster than the wall: follow it
            self._floor_ms = exchange_ms
        elif lead <= LEAP_MS:
            self._floor_ms = exchange_ms
