"""Market data as a back-test steps through it: bars by position and time, indicator rows, instruments, event calendar."""

from bisect import bisect_right

import numpy as np

from bot.backtest.data import BASE_MS, Prepared, Symbol
from bot.config import Config
from bot.core.events import KlineClosed
from bot.core.klines import Klines
from bot.core.times import MINUTE_MS
from bot.core.types import Instrument, Kline, to_decimal
from bot.market.events_calendar import load_calendar
from bot.market.paths import project_file
from bot.sim.filters import SymbolRules, rules_for
from bot.strategy.rules import Row

FAR_MS = 1 << 62
Prices = tuple[float, float, float, float]  # open, high, low, close of one bar


def instruments_of(config: Config, prepared: Prepared) -> tuple[dict[str, Instrument], dict[str, SymbolRules]]:
    """Return filters, margin tiers and fees of all symbols, as on the embedded exchange."""
    fees = config.venue.sim
    rules = {name: rules_for(name, float(s.base.close[0])) for name, s in prepared.symbols.items()}
    for name in config.data.symbols:  # without a hedge, legs have no data
        rules.setdefault(name, rules_for(name, 100.0))
    made = {
        name: Instrument(
            name,
            r.tick,
            r.step,
            r.step,
            r.max_qty,
            r.market_max_qty,
            r.min_notional,
            r.tiers,
            to_decimal(fees.maker_fee),
            to_decimal(fees.taker_fee),
        )
        for name, r in rules.items()
    }
    return made, rules


def calendar_of(config: Config) -> tuple[tuple[int, str, str], ...]:
    """Return the scheduled events that block entries, in the form the engine takes."""
    return tuple((e.ms, e.name, e.impact) for e in load_calendar(project_file(config.events.file)))


class Rows:
    """Precomputed indicator rows, passed to the engine bar by bar in place of the live step."""

    def __init__(self) -> None:
        self.next: dict[str, Row | None] = {}

    def step(self, event: KlineClosed) -> Row | None:
        """Return the indicator row of the closed bar."""
        return self.next[event.kline.symbol]


class BacktestBars:
    """One symbol's bars: arrays for searching, plain floats on request."""

    __slots__ = ("base", "columns", "first_ms", "funding", "index", "minutes", "name", "paid_ms", "times", "whole")

    def __init__(self, name: str, symbol: Symbol) -> None:
        self.name, self.base, self.minutes = name, symbol.base, symbol.minutes
        self.times = self.base.open_ms
        self.first_ms = int(self.times[0])
        self.whole = not symbol.resets  # without long gaps, a bar's position follows from its time
        self.index = 0  # of the last bar looked up
        self.funding = symbol.funding
        self.paid_ms: list[int] = (symbol.funding.funding_ms - symbol.funding.funding_ms % MINUTE_MS).tolist()
        self.columns = (self.base.open, self.base.high, self.base.low, self.base.close)

    def at(self, open_ms: int) -> int:
        """Return the position of the bar that opens at `open_ms`, -1 if there is none."""
        i = (open_ms - self.first_ms) // BASE_MS
        if not self.whole:
            i = int(self.times.searchsorted(open_ms))
        if not 0 <= i < len(self.times) or self.times[i] != open_ms:
            return -1
        self.index = i
        return i

    def next_paid(self, before_ms: int) -> int:
        """Return the time of the first funding payment after `before_ms`, `FAR_MS` if there is none."""
        place = bisect_right(self.paid_ms, before_ms)
        return self.paid_ms[place] if place < len(self.paid_ms) else FAR_MS

    def prices(self, i: int) -> tuple[float, float, float, float]:
        """Return open, high, low and close of a base bar."""
        opened, high, low, close = self.columns
        return opened.item(i), high.item(i), low.item(i), close.item(i)

    def minute_at(self, open_ms: int) -> int:
        """Return the position of the first of a base bar's three 1m bars, -1 unless all three exist."""
        minutes = self.minutes
        if minutes is None:
            return -1
        i = int(np.searchsorted(minutes.open_ms, open_ms))
        whole = i + 2 < len(minutes) and minutes.open_ms[i] == open_ms
        return i if whole and minutes.open_ms[i + 2] == open_ms + 2 * MINUTE_MS else -1


def kline_of(bars: Klines, i: int) -> Kline:
    """Return one bar as the `Kline` that events carry."""
    return Kline(
        bars.symbol,
        bars.interval_ms,
        bars.open_ms.item(i),
        bars.open.item(i),
        bars.high.item(i),
        bars.low.item(i),
        bars.close.item(i),
        bars.volume.item(i),
        bars.taker_buy_volume.item(i),
    )
