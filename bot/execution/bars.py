"""Deliver closed bars in order and without gaps, whatever the socket does.

The exchange sends each closed bar exactly once, and not again after a reconnect. This module keeps the last bar emitted for
every symbol. A repeated or older bar is dropped. When one is missing (the connection was lost, a newer bar came first, or
nothing came a few seconds after a bar must have closed) the missing bars are read over REST; bars that arrive on the socket
meanwhile are held back and take precedence over their REST version. Then all are emitted in time order, the legs before the
first symbol.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from bot.core.clock import Cancellable
from bot.core.events import KlineClosed
from bot.core.klines import interval_ms
from bot.core.types import Kline
from bot.execution.outcomes import ReadFailed
from bot.execution.tasks import Tasks

log = logging.getLogger(__name__)

ReadKlines = Callable[[str, str, int], Awaitable[list[Kline]]]  # symbol, interval, from open time (ms)
RETRY_MS = 5_000
LONGEST_WAIT_MS = 60_000


class LiveBars:
    """Puts the closed bars of some symbols in one interval in order.

    Parameters
    ----------
    symbols
        Of the bars with the same open time, the first symbol's is emitted last.
    read
        Reads closed bars over REST.
    last_open_ms
        Open time of each symbol's last known bar (from history); a symbol without one begins with the first bar that
        arrives.
    late_ms
        Delay after a bar's close before it is fetched over REST when the socket has not delivered it.
    on_gap, on_filled
        Called when a newer bar shows that one is missing, and after each backfill.
    """

    def __init__(
        self,
        symbols: Sequence[str],
        interval: str,
        *,
        tasks: Tasks,
        read: ReadKlines,
        emit: Callable[[KlineClosed], None],
        last_open_ms: Mapping[str, int],
        late_ms: int,
        on_gap: Callable[[str], None],
        on_filled: Callable[[], None],
    ) -> None:
        self.interval = interval
        self.step_ms = interval_ms(interval)
        self.last_open_ms = dict(last_open_ms)
        self.duplicates = 0
        self.fetched = 0
        self.filling = False
        self._order = {symbol: -index for index, symbol in enumerate(symbols)}
        self._symbols = sorted(symbols, key=self._order.__getitem__)
        self._tasks = tasks
        self._read = read
        self._emit = emit
        self._late_ms = late_ms
        self._on_gap = on_gap
        self._on_filled = on_filled
        self._held: list[KlineClosed] = []
        self._timers: dict[str, Cancellable] = {}
        self._closed = False

    def push(self, event: KlineClosed) -> None:
        """Take a closed bar from the socket."""
        bar = event.kline
        last = self.last_open_ms.get(bar.symbol)
        if last is not None and bar.open_ms <= last:
            self.duplicates += 1
        elif self.filling:
            self._held.append(event)
        elif last is not None and bar.open_ms > last + self.step_ms:
            self._held.append(event)
            self._on_gap(f"bar of {bar.symbol} missing before {bar.open_ms}")
            self.fill()
        else:
            self._let_through(event)

    def fill(self) -> None:
        """Start reading the missing bars; `on_filled` is called when they have been emitted."""
        if not self.filling and not self._closed:
            self.filling = True
            self._tasks.spawn(self._fill(), name="fill bars")

    async def fill_now(self) -> None:
        """Read the missing bars and return once they have been emitted."""
        if not self.filling:
            self.filling = True
            await self._fill()

    def arm(self) -> None:
        """Start the timer for the next bar of every symbol whose last one is known."""
        for symbol in self._symbols:
            self._expect(symbol, 0)

    def close(self) -> None:
        """Cancel all timers and start no new ones."""
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _let_through(self, event: KlineClosed) -> None:
        bar = event.kline
        self.last_open_ms[bar.symbol] = bar.open_ms
        self._emit(event)
        self._expect(bar.symbol, 0)

    async def _fill(self) -> None:
        missing: dict[tuple[int, int], KlineClosed] = {}
        try:
            for symbol in self._symbols:
                for bar in await self._patiently(symbol):
                    at_ms = max(self._tasks.clock.now_ms(), bar.close_ms)
                    missing[(bar.open_ms, self._order[symbol])] = KlineClosed(at_ms, bar)
        finally:
            self.filling = False
        held, self._held = self._held, []
        self.fetched += len(missing)
        for event in held:
            key = (event.kline.open_ms, self._order[event.kline.symbol])
            self.fetched -= key in missing
            missing[key] = event
        for _, event in sorted(missing.items(), key=lambda item: item[0]):
            last = self.last_open_ms.get(event.kline.symbol)
            if last is None or event.kline.open_ms > last:
                self._let_through(event)
        self._on_filled()

    async def _patiently(self, symbol: str) -> list[Kline]:
        last = self.last_open_ms.get(symbol)
        while last is not None:
            try:
                return await self._read(symbol, self.interval, last + self.step_ms)
            except Exception as error:  # until it is read, entries are paused and later bars wait
                if not isinstance(error, ReadFailed):
                    self._tasks.report("missing bars", error)
                log.warning("missing bars not read, again in %s s: %s", RETRY_MS // 1000, error)
                await self._tasks.sleep(RETRY_MS)
        return []

    def _expect(self, symbol: str, tries: int) -> None:
        """Check for the bar after the last one a little after it must have closed."""
        old = self._timers.pop(symbol, None)
        if old is not None:
            old.cancel()
        last = self.last_open_ms.get(symbol)
        if last is None or self._closed:
            return

        def look() -> None:
            del self._timers[symbol]
            if self.last_open_ms[symbol] == last and not self.filling:
                log.warning("no bar of %s after %s: asking for it", symbol, last)
                self.fill()
            self._expect(symbol, tries + 1)

        due_ms = last + 2 * self.step_ms + self._late_ms - self._tasks.clock.now_ms()
        again_ms = min(self._late_ms * 2**tries, LONGEST_WAIT_MS) if tries else 0
        self._timers[symbol] = self._tasks.clock.call_later(max(due_ms, again_ms, 1), look)
