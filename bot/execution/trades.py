"""Bars built from aggTrades and closed by the clock, seconds before the exchange confirms them (`bar_close = early`).

A bar is emitted only if it is complete: the connection must have been up since before its open, without a gap in the trade
numbers. It is closed by the first trade after its end, which on one stream proves that none of its trades is missing, or a
moment after its end by the clock (the exchange bundles trades for up to 100 ms). Trades that arrive even later are counted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from bot.core.clock import Cancellable
from bot.core.events import KlineClosed
from bot.core.types import Kline
from bot.execution import wire
from bot.execution.models import ZERO
from bot.execution.models_push import AggTradePush
from bot.execution.tasks import Tasks

GRACE_MS = 150


@dataclass(slots=True)
class _Forming:
    open_ms: int
    whole: bool  # whether all trades since its open were received
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal = ZERO
    bought: Decimal = ZERO

    def take(self, price: Decimal, qty: Decimal, *, bought: bool) -> None:
        self.high, self.low, self.close = max(self.high, price), min(self.low, price), price
        self.volume += qty
        self.bought += qty if bought else ZERO


class TradeBars:
    """Early bars of some symbols in one interval.

    Parameters
    ----------
    symbols
        Of the bars with the same open time, the first symbol's is closed last.
    step_ms
        Length of a bar.
    emit
        Receives each early bar as `KlineClosed` with `early` set.
    """

    def __init__(
        self, symbols: Sequence[str], step_ms: int, *, tasks: Tasks, emit: Callable[[KlineClosed], None]
    ) -> None:
        self.step_ms = step_ms
        self.late = 0  # trades that arrived after their bar had been closed
        self._order = (*symbols[1:], symbols[0])
        self._tasks = tasks
        self._emit = emit
        self._forming: dict[str, _Forming] = {}
        self._numbers: dict[str, int] = {}
        self._closed: dict[str, int] = {}  # open time of the last closed bar
        self._timer: Cancellable | None = None
        self._due_ms = 0

    def interrupted(self) -> None:
        """Mark the forming bars as incomplete: the connection was lost."""
        self._numbers.clear()
        for bar in self._forming.values():
            bar.whole = False

    def push(self, trade: AggTradePush) -> None:
        """Take an aggTrade message."""
        symbol, number = trade.symbol, trade.number
        price, qty, at_ms = trade.price, trade.qty, trade.trade_ms
        last = self._numbers.get(symbol)
        if last is not None and number <= last:
            return  # duplicate from an overlapping connection
        unbroken = last is not None and number == last + 1
        self._numbers[symbol] = number
        open_ms = at_ms - at_ms % self.step_ms
        if open_ms <= self._closed.get(symbol, -1):
            self.late += 1
            return
        bar = self._forming.get(symbol)
        if bar is not None and not unbroken:
            bar.whole = False
        if bar is None or bar.open_ms != open_ms:
            if bar is not None and open_ms > bar.open_ms:
                self._close(symbol)
            whole = unbroken and open_ms == self._closed.get(symbol, -1) + self.step_ms
            bar = self._forming[symbol] = _Forming(open_ms, whole, price, price, price, price)
            self._expect(open_ms + self.step_ms + GRACE_MS)
        bar.take(price, qty, bought=not trade.buyer_is_maker)

    def close(self) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _expect(self, due_ms: int) -> None:
        if self._timer is not None and self._due_ms == due_ms:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._due_ms = due_ms
        self._timer = self._tasks.clock.call_later(max(due_ms - self._tasks.clock.now_ms(), 1), self._time_is_up)

    def _time_is_up(self) -> None:
        self._timer = None
        for symbol in self._order:
            bar = self._forming.get(symbol)
            if bar is not None and bar.open_ms + self.step_ms + GRACE_MS <= self._due_ms:
                self._close(symbol)

    def _close(self, symbol: str) -> None:
        bar = self._forming.pop(symbol)
        self._closed[symbol] = bar.open_ms
        if not bar.whole:
            return
        values = (bar.open, bar.high, bar.low, bar.close, bar.volume, bar.bought)
        kline = wire.sound(Kline(symbol, self.step_ms, bar.open_ms, *(float(v) for v in values)))
        self._emit(KlineClosed(max(self._tasks.clock.now_ms(), kline.close_ms), kline, early=True))
