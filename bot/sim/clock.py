"""The exchange's clock and its event heap: everything that happens is an item released from here.

Items are ordered by (time, rank, sequence). Market ticks, requests and their replies, pushes and the bot's own timers
are all items. Two drivers release them:

* **Stepped**: the next item is released only when nothing is in flight between the exchange and the bot (`Activity`),
  so a replay as fast as the machine allows is the same on every machine. With a speed, replay time never runs ahead of
  it.
* **Free**: the clock follows wall time multiplied by a speed; items are released when they are due.

An item that raises is logged with its traceback and counted; the clock continues with the next one.
"""

import asyncio
import heapq
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from bot.core.activity import Activity
from bot.core.errors import BotError

Run = Callable[[], Awaitable[None] | None]

QUIET_WITHIN_S: Final = 10.0
GRACE: Final = 2  # rounds of the event loop between an item and the check of the counter
BUSY_POLLS: Final = 3_000  # polls before each further one sleeps for a millisecond
LOG = logging.getLogger(__name__)


class Item:
    """A scheduled action; `touches` marks effects outside the exchange, after which the bot may have work to do."""

    __slots__ = ("at_ms", "cancelled", "closing", "name", "run", "touches")

    def __init__(self, at_ms: int, run: Run, *, name: str, touches: bool, closing: bool) -> None:
        self.at_ms = at_ms
        self.run = run
        self.name = name
        self.touches = touches
        self.closing = closing  # still released after the end of the data: replies and pushes
        self.cancelled = False

    def cancel(self) -> None:
        """Cancel the item."""
        self.cancelled = True


class ReplayClock:
    """Exchange time and the event heap; implements `bot.core.clock.Clock`."""

    def __init__(self, now_ms: int) -> None:
        self.time_ms = now_ms
        self.last_name = "nothing yet"
        self.failures = 0  # items and handlers that raised
        self.wake: Callable[[], None] | None = None  # called when an item is added
        self.wall: Callable[[], int] | None = None  # free running: exchange time from wall time
        self._heap: list[tuple[int, int, int, Item]] = []
        self._sequence = 0

    def now_ms(self) -> int:
        """UTC epoch ms on the exchange's clock."""
        return self.time_ms if self.wall is None else max(self.time_ms, self.wall())

    def call_later(self, delay_ms: float, callback: Callable[[], None]) -> Item:
        """Run `callback` after `delay_ms` of exchange time."""
        return self.at(self.now_ms() + max(0, round(delay_ms)), callback, name="timer")

    def at(
        self, at_ms: int, run: Run, *, name: str, rank: int = 1, touches: bool = True, closing: bool = False
    ) -> Item:
        """Schedule an item and return it.

        Parameters
        ----------
        at_ms
            UTC epoch ms; a past time means now.
        run
            The action; it may return an awaitable.
        rank
            Order within the same millisecond.
        touches
            Whether the action has effects outside the exchange.
        closing
            Whether it is still released after the end of the data.
        """
        item = Item(max(at_ms, self.time_ms), run, name=name, touches=touches, closing=closing)
        self._sequence += 1
        heapq.heappush(self._heap, (item.at_ms, rank, self._sequence, item))
        if self.wake is not None:
            self.wake()
        return item

    def peek(self) -> Item | None:
        """Return the next item without releasing it."""
        while self._heap and self._heap[0][3].cancelled:
            heapq.heappop(self._heap)
        return self._heap[0][3] if self._heap else None

    async def release(self, *, no_later_than: int | None = None) -> bool:
        """Run the next item at its time; return whether it has effects outside the exchange."""
        item = heapq.heappop(self._heap)[3]
        if no_later_than is None or item.at_ms <= no_later_than:
            self.time_ms = item.at_ms
        self.last_name = item.name
        try:
            result = item.run()
            if result is not None:
                await result
        except Exception as error:
            self.note_failure(item.name, error)
        return item.touches

    def note_failure(self, what: str, error: Exception) -> None:
        """Log an exception with its traceback, and count it."""
        self.failures += 1
        LOG.error("the exchange failed at %s (%d ms); its clock goes on", what, self.time_ms, exc_info=error)

    def drop(self, *, keep_closing: bool) -> None:
        """Discard the remaining items: all, or all but replies and pushes."""
        self._heap = [entry for entry in self._heap if keep_closing and entry[3].closing]
        heapq.heapify(self._heap)


class SteppedDriver:
    """Releases one item at a time while nothing is in flight.

    Parameters
    ----------
    end_ms
        End of the data, UTC epoch ms.
    park
        Schedules the requests that have arrived, in an order that does not depend on wall time; returns whether there
        were any.
    speed
        Maximum replay seconds per second; None = as fast as possible.
    """

    def __init__(
        self, clock: ReplayClock, activity: Activity, *, end_ms: int, park: Callable[[], bool], speed: float | None
    ) -> None:
        self._clock, self._activity, self._end_ms, self._park, self._speed = clock, activity, end_ms, park, speed
        self._arrived = asyncio.Event()
        self.items = 0

    def arrived(self) -> None:
        """Signal that a request is waiting; this ends a pacing pause."""
        self._arrived.set()

    async def run(self) -> None:
        """Replay to the end of the data."""
        clock, loop = self._clock, asyncio.get_running_loop()
        started_ms, started = clock.time_ms, loop.time()
        touched = True
        while True:
            if touched or not self._activity.quiet:
                await self._settle(GRACE if touched and self._activity.quiet else 0)
            elif self.items % 64 == 0:
                await asyncio.sleep(0)
            self._park()
            item = clock.peek()
            if item is None or item.at_ms > self._end_ms:
                break
            if self._speed is not None:
                ahead = (item.at_ms - started_ms) / 1000 / self._speed - (loop.time() - started)
                if ahead > 0.001 and await self._pause(ahead):
                    touched = True
                    continue
            self.items += 1
            touched = await clock.release()
        await self._wind_up()

    async def _pause(self, seconds: float) -> bool:
        """Wait; return True if a request arrived or something is in flight."""
        self._arrived.clear()
        try:
            await asyncio.wait_for(self._arrived.wait(), seconds)
        except TimeoutError:
            return not self._activity.quiet
        return True

    async def _settle(self, rounds: int = 0) -> None:
        """Wait until nothing is in flight, after `rounds` of the event loop for work that is not counted yet."""
        for _ in range(rounds):
            await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        since, polls = loop.time(), 0
        while not self._activity.quiet:
            polls += 1
            await asyncio.sleep(0 if polls < BUSY_POLLS else 0.001)
            if polls % 256 == 0 and loop.time() - since > QUIET_WITHIN_S:
                text = (
                    f"the replay stopped at {self._clock.time_ms}: {self._activity.under_way} frames or requests were not "
                    f"dealt with within {QUIET_WITHIN_S:.0f} s after: {self._clock.last_name}"
                )
                LOG.error(text)
                raise BotError(text)
            if self._activity.quiet:
                await asyncio.sleep(0)  # work that became ready in the last round may start more

    async def _wind_up(self) -> None:
        """Stop the clock at the end of the data; replies and pushes in flight still arrive."""
        clock = self._clock
        clock.time_ms = max(clock.time_ms, min(self._end_ms, clock.time_ms)) if clock.peek() is None else self._end_ms
        clock.drop(keep_closing=True)
        for _ in range(10_000):
            await self._settle(GRACE)
            self._park()
            item = clock.peek()
            while item is not None and not item.closing:
                item.cancel()
                item = clock.peek()
            if item is None:
                return
            await clock.release(no_later_than=self._end_ms)
        LOG.error("requests did not end after the end of the data")


class FreeDriver:
    """Runs the clock with wall time."""

    def __init__(self, clock: ReplayClock, *, end_ms: int, speed: float) -> None:
        self._clock, self._end_ms, self._speed = clock, end_ms, speed
        self._woken = asyncio.Event()
        self.items = 0

    async def run(self) -> None:
        """Run to the end of the data."""
        clock, loop = self._clock, asyncio.get_running_loop()
        started_ms, started = clock.time_ms, loop.time()

        def wall() -> int:
            return min(self._end_ms, started_ms + int((loop.time() - started) * 1000 * self._speed))

        clock.wall, clock.wake = wall, self._woken.set
        try:
            while True:
                now, done = wall(), 0
                while (item := clock.peek()) is not None and item.at_ms <= now:
                    await clock.release()
                    self.items += 1
                    done += 1
                    if done % 32 == 0:
                        await asyncio.sleep(0)
                if now >= self._end_ms:
                    break
                pause = (
                    (self._end_ms - now if item is None else min(item.at_ms, self._end_ms) - now) / 1000 / self._speed
                )
                self._woken.clear()
                try:
                    await asyncio.wait_for(self._woken.wait(), max(pause, 0.0005))
                except TimeoutError:
                    continue
        finally:
            clock.time_ms = max(clock.time_ms, wall())
            clock.wall = clock.wake = None
        clock.drop(keep_closing=True)
        while clock.peek() is not None:
            await clock.release(no_later_than=self._end_ms)
