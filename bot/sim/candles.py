"""Klines as the exchange reports them: closed bars for REST and `x: true`, and the forming bar.

A closed bar equals the recorded one to the last digit, so that history, stream and batch agree. An interval that was
not recorded is aggregated from the coarsest recorded one that divides it and exists only where all its parts do. A bar
missing from the data is never closed on the stream: to a client it is an outage. The forming bar combines the complete
base bars within it and the ticks of the current one.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bot.core.klines import INTERVALS, Klines, aggregate, interval_ms
from bot.core.times import DAY_MS
from bot.sim.errors import Refused
from bot.sim.filters import SymbolRules
from bot.sim.path import COLUMNS, BaseBars, base_bars

CLOSE, VOLUME = COLUMNS.index("close"), COLUMNS.index("volume")


def write(value: float, digits: int) -> str:
    """Format a number with `digits` decimals, or with as many as an exact round trip needs.

    >>> write(60000.1, 2), write(0.30000000000000004, 3), write(float("nan"), 3)
    ('60000.10', '0.30000000000000004', '0')
    """
    text = f"{value:.{digits}f}"
    if float(text) == value:
        return text
    return np.format_float_positional(value, trim="0") if value == value else "0"


def _rounded(value: float, digits: int) -> str:
    return f"{value:.{digits}f}"


@dataclass(slots=True)
class Bar:
    """A forming or closed bar: the numbers of a kline message."""

    open_ms: int
    open: float
    high: float
    low: float
    close: float
    volume: float = 0.0
    quote: float = 0.0
    trades: int = 0
    taker: float = 0.0
    taker_quote: float = 0.0

    def add(self, other: "Bar") -> None:
        """Merge a later bar into this one."""
        self.high, self.low, self.close = max(self.high, other.high), min(self.low, other.low), other.close
        self.volume += other.volume
        self.quote += other.quote
        self.trades += other.trades
        self.taker += other.taker
        self.taker_quote += other.taker_quote


@dataclass(slots=True)
class CandleSeries:
    """One interval of a symbol: closed bars, and the sum of the complete base bars within the forming bar."""

    name: str
    length_ms: int
    closed: Klines
    done: Bar | None = None  # base bars of the forming bar that are complete
    done_start: int = -1
    done_until: int = -1


@dataclass(slots=True)
class Candles:
    """All intervals of one symbol."""

    symbol: str
    rules: SymbolRules
    source: dict[str, Klines]
    base: BaseBars = field(init=False)
    current: Bar | None = None  # from the ticks of the current base bar
    current_end: int = 0
    _series: dict[str, CandleSeries] = field(default_factory=dict)
    _step: float = 0.0
    _tick: float = 0.0

    def __post_init__(self) -> None:
        """Merge the recorded intervals into base bars."""
        self.base = base_bars(self.source)
        self._step, self._tick = float(self.rules.step), float(self.rules.tick)

    def series(self, name: str) -> CandleSeries:
        """Return an interval's series, built on first use.

        Raises
        ------
        Refused
            -1120 if the interval is unknown or no recorded interval divides it.
        """
        found = self._series.get(name)
        if found is None:
            if name not in INTERVALS:
                raise Refused(-1120)
            length = interval_ms(name)
            finer = [k for k in self.source.values() if k.interval_ms <= length and length % k.interval_ms == 0]
            if not finer:
                raise Refused(-1120)
            # The coarsest that divides it: data recorded for this very interval comes first.
            closed = aggregate(max(finer, key=lambda k: k.interval_ms), length)
            found = self._series[name] = CandleSeries(name, length, closed)
        return found

    def tick(self, at_ms: int, price: int, *, lots: int, seller: bool, trades: int) -> None:
        """Add a market trade to the current base bar.

        Parameters
        ----------
        price, lots
            In ticks and lots; a tick without a trade has 0 lots.
        seller
            Whether the aggressor sold.
        trades
            Number of trades in the tick.
        """
        p, v = price * self._tick, lots * self._step
        taker = 0.0 if seller else v
        bar = Bar(at_ms, p, p, p, p, v, v * p, trades if lots else 0, taker, taker * p)
        if self.current is None or at_ms >= self.current_end:
            index = int(np.searchsorted(self.base.open_ms, at_ms, side="right")) - 1
            bar.open_ms = int(self.base.open_ms[index])
            self.current, self.current_end = bar, bar.open_ms + int(self.base.length_ms[index])
        else:
            self.current.add(bar)

    def forming(self, name: str, now_ms: int) -> Bar | None:
        """Return an interval's forming bar at `now_ms`; None if nothing has traded in it yet."""
        s = self.series(name)
        start = now_ms - now_ms % s.length_ms
        current = self.current if self.current is not None and self.current_end > now_ms else None
        until = current.open_ms if current is not None else now_ms
        if s.done_start != start or s.done_until != until:
            s.done = self._sum(start, until)
            s.done_start, s.done_until = start, until
        if current is None or current.open_ms < start:
            return s.done
        bar = Bar(start, current.open, current.high, current.low, current.close) if s.done is None else None
        if bar is not None:
            bar.volume, bar.quote, bar.trades = current.volume, current.quote, current.trades
            bar.taker, bar.taker_quote = current.taker, current.taker_quote
            return bar
        assert s.done is not None
        d = s.done
        bar = Bar(start, d.open, d.high, d.low, d.close, d.volume, d.quote, d.trades, d.taker, d.taker_quote)
        bar.add(current)
        return bar

    def closed_bar(self, name: str, end_ms: int) -> Bar | None:
        """Return the recorded bar of an interval that ends at `end_ms`; None if it is missing."""
        s = self.series(name)
        open_ms = end_ms - s.length_ms
        index = int(np.searchsorted(s.closed.open_ms, open_ms))
        if index >= len(s.closed) or int(s.closed.open_ms[index]) != open_ms:
            return None
        return _bar(s.closed, index)

    def last_price(self, now_ms: int) -> int:
        """Return the last price at `now_ms` in ticks, from recorded bars without looking ahead into the current one."""
        index = int(np.searchsorted(self.base.open_ms, now_ms, side="left")) - 1
        value = self.base.columns[CLOSE, index] if index >= 0 else self.base.columns[0, 0]
        if index >= 0 and int(self.base.open_ms[index] + self.base.length_ms[index]) > now_ms:
            value = self.base.columns[0, index]
        return round(float(value) / self._tick)

    def rows(self, name: str, *, start: int | None, end: int | None, limit: int, now_ms: int) -> list[list[Any]]:
        """Return REST rows, oldest first: closed bars up to now and the forming one.

        Parameters
        ----------
        name
            Interval, such as 3m.
        start, end
            First and last open time, UTC epoch ms, inclusive.
        limit
            Maximum number of rows: the first ones from `start`, or the last ones without it.
        """
        s = self.series(name)
        closed = s.closed
        last = int(np.searchsorted(closed.open_ms, now_ms - s.length_ms, side="right"))
        first = 0 if start is None else int(np.searchsorted(closed.open_ms, start, side="left"))
        stop = last if end is None else min(last, int(np.searchsorted(closed.open_ms, end, side="right")))
        forming = self.forming(name, now_ms)
        with_forming = (
            forming is not None
            and stop == last
            and (end is None or forming.open_ms <= end)
            and (start is None or forming.open_ms >= start)
        )
        if start is None:
            first = max(0, stop - limit + (1 if with_forming else 0))
        stop = min(stop, first + limit)
        rows = [self.row(_bar(closed, index), s.length_ms) for index in range(first, max(first, stop))]
        if with_forming and len(rows) < limit and forming is not None:
            rows.append(self.row(forming, s.length_ms))
        return rows

    def row(self, bar: Bar, length_ms: int) -> list[Any]:
        """Return one REST row."""
        digits, lots = self.rules.price_digits, self.rules.qty_digits
        return [
            bar.open_ms,
            write(bar.open, digits),
            write(bar.high, digits),
            write(bar.low, digits),
            write(bar.close, digits),
            write(bar.volume, lots),
            bar.open_ms + length_ms - 1,
            write(bar.quote, 5),
            bar.trades,
            write(bar.taker, lots),
            write(bar.taker_quote, 5),
            "0",
        ]

    def message(self, bar: Bar, s: CandleSeries, *, closed: bool) -> dict[str, Any]:
        """Return the `k` of a kline message: a closed bar exactly, a forming one rounded to the symbol's digits."""
        digits, lots = self.rules.price_digits, self.rules.qty_digits
        text = write if closed else _rounded
        return {
            "t": bar.open_ms,
            "T": bar.open_ms + s.length_ms - 1,
            "s": self.symbol,
            "i": s.name,
            "f": bar.open_ms * 10,
            "L": bar.open_ms * 10 + max(0, bar.trades - 1),
            "o": text(bar.open, digits),
            "c": text(bar.close, digits),
            "h": text(bar.high, digits),
            "l": text(bar.low, digits),
            "v": text(bar.volume, lots),
            "n": bar.trades,
            "x": closed,
            "q": text(bar.quote, 5),
            "V": text(bar.taker, lots),
            "Q": text(bar.taker_quote, 5),
            "B": "0",
        }

    def day(self, now_ms: int) -> Bar | None:
        """Return the last 24 hours as one bar."""
        return self._sum(now_ms - DAY_MS, now_ms)

    def _sum(self, start: int, until: int) -> Bar | None:
        """Aggregate the complete base bars in [start, until)."""
        first, stop = (int(i) for i in np.searchsorted(self.base.open_ms, [start, until]))
        while stop > first and int(self.base.open_ms[stop - 1] + self.base.length_ms[stop - 1]) > until:
            stop -= 1
        if stop <= first:
            return None
        part = self.base.columns[:, first:stop]
        sums = part[VOLUME:].sum(axis=1)
        return Bar(
            start,
            float(part[0, 0]),
            float(part[1].max()),
            float(part[2].min()),
            float(part[CLOSE, -1]),
            float(sums[0]),
            float(sums[1]),
            int(sums[2]),
            float(sums[3]),
            float(sums[4]),
        )


def _bar(closed: Klines, i: int) -> Bar:
    quote, trades = float(closed.quote_volume[i]), float(closed.trades[i])
    return Bar(
        int(closed.open_ms[i]),
        float(closed.open[i]),
        float(closed.high[i]),
        float(closed.low[i]),
        float(closed.close[i]),
        float(closed.volume[i]),
        quote,
        int(trades) if trades == trades else 0,
        float(closed.taker_buy_volume[i]),
        float(closed.taker_buy_quote_volume[i]),
    )
