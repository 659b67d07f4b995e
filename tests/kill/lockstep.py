"""Two processes on one stepped clock: the exchange moves on only when the bot, in a process of its own, has nothing left to do.

Within one process the stepped replay counts what is under way in one `Activity`. Here each side counts into a cell of shared
memory, and all is quiet when their sum is nothing. A thing may be begun by one side and ended by the other, as within one
process. The bot counts itself as busy whenever its event loop does not sleep, because the other process cannot see what
synchronous code is about to do. So a killed bot can be killed at the same instruction again and again.

The bot's clock reads the exchange's time from shared memory; its timers are items on the exchange's heap, asked for over a local
socket and rung over it.
"""

import asyncio
import mmap
import selectors
from collections.abc import Callable
from typing import Any

from bot.core.activity import Activity
from bot.execution.clock import ClockReading, ClockVerdict, WallClock
from bot.sim.clock import Item, ReplayClock

EXCHANGE, BOT, TIME = range(3)
SHORT_S = 0.02  # a shorter sleep of the bot's loop is work that waits for its turn


class Cells:
    """Numbers that both processes see; made before they are forked."""

    def __init__(self) -> None:
        self._map = mmap.mmap(-1, 64)
        self.values = memoryview(self._map).cast("q")

    def __getitem__(self, index: int) -> int:
        return self.values[index]

    def __setitem__(self, index: int, value: int) -> None:
        self.values[index] = value


class Half(Activity):
    """One side's part of the count."""

    __slots__ = ("_cell", "_cells")

    def __init__(self, cells: Cells, cell: int) -> None:
        self._cells, self._cell = cells, cell

    def begin(self, n: int = 1) -> None:
        self._cells[self._cell] += n

    def end(self, n: int = 1) -> None:
        self._cells[self._cell] -= n

    @property
    def under_way(self) -> int:
        return self._cells[EXCHANGE] + self._cells[BOT]

    @property
    def quiet(self) -> bool:
        return self.under_way <= 0


class ExchangeHalf(Half):
    """The exchange's part, which also knows whether there is a bot at all and whether the clock is held."""

    __slots__ = ("attached", "held")

    def __init__(self, cells: Cells) -> None:
        super().__init__(cells, EXCHANGE)
        self.attached, self.held = False, False

    def attach(self) -> None:
        """A bot has come: count from nothing (its own cell says that it is awake)."""
        self._cells[EXCHANGE] = 0
        self.attached, self.held = True, False

    @property
    def quiet(self) -> bool:
        return not self.held and (not self.attached or self.under_way <= 0)


class SharedClock(ReplayClock):
    """The exchange's clock, which tells its time in shared memory."""

    cells: Cells

    @property
    def time_ms(self) -> int:
        return self._time_ms

    @time_ms.setter
    def time_ms(self, value: int) -> None:
        self._time_ms = value
        self.cells[TIME] = value


class RemoteClock(WallClock, asyncio.Protocol):
    """The bot's clock: what a `WallClock` is towards a venue elsewhere, with time and timers of the stepped exchange."""

    def __init__(self, cells: Cells) -> None:
        super().__init__()
        self.replay = True
        self._cells = cells
        self._timers: dict[int, Callable[[], None]] = {}
        self._number = 0
        self._rest = b""
        self._transport: Any = None

    def now_ms(self) -> int:
        return self._cells[TIME]

    def judge(self, reading: ClockReading) -> ClockVerdict:
        return ClockVerdict.BELIEVED  # the time is shared: no reading can contradict it

    def synchronise(self, offset_ms: float) -> float:
        return 0.0  # requests are signed with the machine's time, as towards any replay

    def observe(self, exchange_ms: int) -> None:
        """Nothing to learn: the time is shared."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def say(self, word: str, *arguments: int) -> None:
        """Send a word to the exchange; it counts until it has been heard."""
        self._cells[BOT] += 1
        self._transport.write(" ".join([word, *map(str, arguments)]).encode() + b"\n")

    def call_later(self, delay_ms: float, callback: Callable[[], None]) -> "Timer":
        self._number += 1
        self._timers[self._number] = callback
        self.say("timer", self._number, self.now_ms() + max(0, round(delay_ms)))
        return Timer(self, self._number)

    def cancel(self, number: int) -> None:
        """Forget a timer."""
        if self._timers.pop(number, None) is not None:
            self.say("cancel", number)

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            callback = self._timers.pop(int(line), None)
            if callback is not None:
                callback()
            self._cells[BOT] -= 1


class Timer:
    """A pending call of a `RemoteClock`."""

    def __init__(self, clock: RemoteClock, number: int) -> None:
        self._clock, self._number = clock, number

    def cancel(self) -> None:
        self._clock.cancel(self._number)


class Bell(asyncio.Protocol):
    """The exchange's end of the bot's clock: keeps its timers on the heap and rings them.

    Parameters
    ----------
    on_word
        Told of ``attach`` and ``start``.
    """

    def __init__(self, clock: ReplayClock, activity: ExchangeHalf, on_word: Callable[[str], None]) -> None:
        self._clock, self._activity, self._on_word = clock, activity, on_word
        self._items: dict[int, Item] = {}
        self._rest = b""
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, error: BaseException | None) -> None:
        for item in self._items.values():
            item.cancel()
        self._items.clear()

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            word, *arguments = line.decode().split()
            match word:
                case "timer":
                    number, at_ms = map(int, arguments)
                    self._items[number] = self._clock.at(at_ms, lambda n=number: self._ring(n), name="timer")
                case "cancel":
                    item = self._items.pop(int(arguments[0]), None)
                    if item is not None:
                        item.cancel()
                case _:
                    self._on_word(word)
            self._activity.end()

    def _ring(self, number: int) -> None:
        self._items.pop(number, None)
        if self._transport is not None and not self._transport.is_closing():
            self._activity.begin()  # ended by the bot when it has done what was to be done
            self._transport.write(f"{number}\n".encode())


class AwakeSelector(selectors.DefaultSelector):
    """The bot's selector: its loop counts as busy except while it sleeps."""

    def __init__(self, cells: Cells) -> None:
        super().__init__()
        self._cells = cells

    def select(self, timeout: float | None = None) -> Any:
        if timeout is not None and timeout < SHORT_S:
            return super().select(timeout)
        self._cells[BOT] -= 1
        try:
            return super().select(timeout)
        finally:
            self._cells[BOT] += 1
