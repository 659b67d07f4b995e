"""The time of a remote exchange as the bot keeps it: the machine's clock plus a measured offset.

The offset is the median over some readings of the exchange's `/time`, each compared with the middle of its request. The
clock never goes backwards and never lags behind a timestamp that the exchange has sent (`observe`): an event of
12:00:00.100 cannot be handled at 12:00:00.050.

Which times are accepted:

| source | accepted |
|---|---|
| a frame or reply up to 30 s ahead of this clock | yes: the clock follows |
| a frame or reply further ahead | never: the message is rejected (`latest_ms`), and `/time` is read at once |
| a reading of `/time` within 30 s of this clock, or of the machine's clock plus the last offset | yes |
| a first reading that contradicts the machine's clock (a replay, no time service) | when a second one, a second later, agrees |
| a later reading that contradicts both | when one at least 30 s after it agrees; until then the clock does not change |
| a later reading a day or more away from the machine's clock, from an exchange that was live | never |

There are two predictions because each fails in its own way: the monotonic clock stops while a machine sleeps, and the
machine's time may be set by hand. A wrong `/time` contradicts both.

An exchange whose time is more than a day away from the machine's replays history. Its clock may also run up to 60 times as
fast; between events `WallClock` then advances at wall speed, and delays are wall delays: 30 s ahead are 30 minutes there.
Requests to a replay are signed with the machine's time, because an offset that ages at 60 times wall speed would be outside
`recvWindow` after a second; the embedded exchange accepts either.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Final

from bot.core.clock import Cancellable, Clock
from bot.core.times import DAY_MS

AHEAD_MS: Final = 30_000  # no message of the exchange can be further ahead of this clock
FASTEST_REPLAY: Final = 60
SURE_MS: Final = 30_000  # between two readings that agree with each other and contradict this clock
AGREE_MS: Final = 1_000


class ClockReading:
    """One reading of the exchange's time, with machine time before and after the request."""

    __slots__ = ("exchange_ms", "received_ms", "sent_ms")

    def __init__(self, sent_ms: float, received_ms: float, exchange_ms: int) -> None:
        self.sent_ms = sent_ms
        self.received_ms = received_ms
        self.exchange_ms = exchange_ms

    @property
    def offset_ms(self) -> float:
        """Exchange time minus machine time at the middle of the request."""
        return self.exchange_ms - (self.sent_ms + self.received_ms) / 2


def machine_ms() -> float:
    """Return this machine's time in UTC epoch ms."""
    return time.time() * 1000


def middle_of(readings: Sequence[ClockReading]) -> ClockReading:
    """Return the reading with the median offset.

    >>> middle_of([ClockReading(100, 120, 1110), ClockReading(200, 300, 1251), ClockReading(300, 320, 9999)]).offset_ms
    1001.0
    """
    return sorted(readings, key=lambda reading: reading.offset_ms)[len(readings) // 2]


class ClockVerdict(Enum):
    """Whether a reading of the exchange's time is accepted."""

    BELIEVED = "believed"
    CONFIRM = "confirm"  # accepted when the next one, a second later, agrees
    REFUSED = "refused"


def _agree(first: ClockReading, second: ClockReading) -> bool:
    """Return whether two readings are of one clock; a replay's may stand still or run fast."""
    wall, exchange = second.sent_ms - first.sent_ms, second.exchange_ms - first.exchange_ms
    if abs(second.offset_ms) > DAY_MS:
        return -AGREE_MS <= exchange <= FASTEST_REPLAY * (wall + AGREE_MS)
    return abs(exchange - wall) <= AGREE_MS


class WallClock:
    """Wall time plus offset; implements `bot.core.clock.Clock` on the running event loop."""

    def __init__(self) -> None:
        self._base_ms = machine_ms() - self._monotonic_ms()
        self._floor_ms = 0
        self._set_offset_ms: float | None = None  # of the last `synchronise`, relative to the machine's clock
        self._doubtful: ClockReading | None = None  # contradicts this clock; pending until another agrees
        self.replay = False

    @staticmethod
    def _monotonic_ms() -> float:
        return time.monotonic() * 1000

    @property
    def offset_ms(self) -> float:
        """Exchange time minus machine time, as set by the last `synchronise`."""
        return self._base_ms + self._monotonic_ms() - machine_ms()

    def now_ms(self) -> int:
        """Return UTC epoch ms on the exchange's clock, never less than what was returned or observed before."""
        now = int(self._base_ms + self._monotonic_ms())
        if now > self._floor_ms:
            self._floor_ms = now
        return self._floor_ms

    def call_later(self, delay_ms: float, callback: Callable[[], None]) -> Cancellable:
        """Run `callback` in the event loop after `delay_ms` of wall time."""
        return asyncio.get_running_loop().call_later(max(delay_ms, 0.0) / 1000, callback)

    def judge(self, reading: ClockReading) -> ClockVerdict:
        """Return whether a reading may set the clock; one that needs confirmation is remembered."""
        known = self._set_offset_ms
        predicted = (0.0,) if known is None else (known, self.offset_ms)
        doubtful, self._doubtful = self._doubtful, None
        if any(abs(reading.offset_ms - offset) <= self.ahead_ms for offset in predicted):
            return ClockVerdict.BELIEVED
        running = known is not None and not self.replay
        if running and abs(reading.offset_ms) > DAY_MS:
            return ClockVerdict.REFUSED
        self._doubtful = reading
        if doubtful is None or not _agree(doubtful, reading):
            return ClockVerdict.REFUSED if running else ClockVerdict.CONFIRM
        if running and reading.sent_ms - doubtful.sent_ms < SURE_MS:
            self._doubtful = doubtful
            return ClockVerdict.REFUSED
        self._doubtful = None
        return ClockVerdict.BELIEVED

    @property
    def ahead_ms(self) -> int:
        """How far ahead of this clock a valid message of the exchange may be."""
        return AHEAD_MS * FASTEST_REPLAY if self.replay else AHEAD_MS

    def synchronise(self, offset_ms: float) -> float:
        """Set the clock to machine time plus `offset_ms`; return the offset to sign requests with (0 in a replay)."""
        first, was_replay = self._set_offset_ms is None, self.replay
        self.replay = abs(offset_ms) > DAY_MS
        self._base_ms = machine_ms() + offset_ms - self._monotonic_ms()
        self._set_offset_ms = offset_ms
        if first or (self.replay and not was_replay):
            # A different time altogether: events of an exchange behind this machine could never advance a clock left ahead.
            self._floor_ms = 0
        return 0.0 if self.replay else offset_ms

    def observe(self, exchange_ms: int) -> None:
        """Advance the clock to a timestamp that the exchange sent, unless it is impossibly far ahead."""
        lead = exchange_ms - self.now_ms()
        if not 0 < lead <= self.ahead_ms:
            return
        if self.replay:
            self._base_ms += lead  # a replay runs faster than the wall: follow it
        self._floor_ms = exchange_ms


def latest_ms(clock: Clock) -> int:
    """Return the latest timestamp that a message of the exchange can have now."""
    return clock.now_ms() + (clock.ahead_ms if isinstance(clock, WallClock) else AHEAD_MS)
