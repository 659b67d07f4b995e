"""Klines as columns: one symbol's closed bars of one interval, and aggregation of 3m bars to 15m bars.

A kline (candle) covers `[open_ms, open_ms + interval_ms)` in UTC. History, replay and live build their 15m bars from the
3m bars here, by one rule (strategy 1): a 15m bar is complete when the 3m bar that closes on a quarter of an hour has
closed and all five are present, else it is missing. A short gap is filled with flat bars (open = high = low = close =
the previous close, no volume, `filled` = 1): no known trade happened, so they give no signals; a longer gap is left,
and all state that depends on earlier bars is reset after it.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np

from bot.core.errors import ConfigError
from bot.core.times import MINUTE_MS
from bot.core.types import Kline

_UNITS: Final = {"m": MINUTE_MS, "h": 60 * MINUTE_MS, "d": 1440 * MINUTE_MS}
INTERVALS: Final = ("1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d")  # on the UTC grid

# Taker volume may exceed the volume only by the float64 rounding of sums.
TAKER_TOLERANCE: Final = 1e-9


def interval_ms(name: str) -> int:
    """Return the length of the exchange's interval `name` in ms.

    >>> interval_ms("3m"), interval_ms("1h")
    (180000, 3600000)

    Raises
    ------
    ConfigError
        `name` is not one of `INTERVALS`.
    """
    if name not in INTERVALS:
        raise ConfigError(
            f"{name!r} is no interval of fixed length that klines come in: use one of {', '.join(INTERVALS)}"
        )
    return int(name[:-1]) * _UNITS[name[-1]]


_NAMES: Final = {interval_ms(name): name for name in INTERVALS}


def interval_name(length_ms: int) -> str:
    """Return the exchange's name of an interval of `length_ms`.

    >>> interval_name(900000)
    '15m'

    Raises
    ------
    ConfigError
        No interval has that length.
    """
    if length_ms not in _NAMES:
        raise ConfigError(f"klines do not come in an interval of {length_ms} ms: use one of {', '.join(INTERVALS)}")
    return _NAMES[length_ms]


def check_bar(open: float, high: float, low: float, close: float, volume: float, taker_buy_volume: float) -> str | None:
    """Return why a bar is invalid, or None.

    >>> check_bar(10.0, 9.0, 8.0, 9.0, 1.0, float("nan"))
    'high 9.0 is below the open 10.0'

    Parameters
    ----------
    open, high, low, close
        Prices in quote units.
    volume
        Base units.
    taker_buy_volume
        Base units; NaN if the source lacks it.
    """
    for name, value in (("open", open), ("high", high), ("low", low), ("close", close), ("volume", volume)):
        if not math.isfinite(value):
            return f"{name} is {value}"
    if low <= 0.0:
        return f"low {low!r} is not above 0"
    for name, value in (("open", open), ("close", close)):
        if high < value:
            return f"high {high!r} is below the {name} {value!r}"
        if low > value:
            return f"low {low!r} is above the {name} {value!r}"
    if volume < 0.0:
        return f"volume {volume!r} is negative"
    if taker_buy_volume < 0.0:
        return f"taker_buy_volume {taker_buy_volume!r} is negative"
    if taker_buy_volume > volume * (1.0 + TAKER_TOLERANCE):
        return f"taker_buy_volume {taker_buy_volume!r} is above the volume {volume!r}"
    return None


@dataclass(frozen=True, eq=False, slots=True)
class Klines:
    """Closed bars of one symbol and interval, oldest first, as columns of equal length.

    Attributes
    ----------
    symbol : str
    interval_ms : int
        Length of a bar, ms.
    open_ms : ndarray(int64, ndim=1)
        UTC epoch ms of each bar's open, strictly rising.
    open, high, low, close : ndarray(float64, ndim=1)
        Prices in quote units.
    volume, taker_buy_volume : ndarray(float64, ndim=1)
        Base units; the taker part is NaN where the source lacks it.
    quote_volume, trades, taker_buy_quote_volume : ndarray(float64, ndim=1)
        Quote units and a count; NaN where the source lacks them.
    filled : ndarray(float64, ndim=1)
        1 for a flat bar that fills a gap, else 0.
    """

    symbol: str
    interval_ms: int
    open_ms: np.ndarray
    open: np.ndarray
    high: np.ndarray
    low: np.ndarray
    close: np.ndarray
    volume: np.ndarray
    taker_buy_volume: np.ndarray
    quote_volume: np.ndarray
    trades: np.ndarray
    taker_buy_quote_volume: np.ndarray
    filled: np.ndarray

    def __len__(self) -> int:
        """Return the number of bars."""
        return len(self.open_ms)

    @property
    def interval(self) -> str:
        """The exchange's name of the interval."""
        return interval_name(self.interval_ms)

    @property
    def end_ms(self) -> int:
        """Close time of the last bar, UTC epoch ms; 0 without bars."""
        return int(self.open_ms[-1]) + self.interval_ms if len(self) else 0

    def columns(self) -> dict[str, np.ndarray]:
        """Return the columns by name, in the order of `COLUMNS`."""
        return {name: getattr(self, name) for name in COLUMNS}

    def part(self, start: int, stop: int) -> "Klines":
        """Return the bars `[start, stop)` by position, as views."""
        return self._take(slice(start, stop))

    def between(self, from_ms: int | None = None, to_ms: int | None = None) -> "Klines":
        """Return the bars that open in `[from_ms, to_ms)`, as views; None means unbounded."""
        start = 0 if from_ms is None else int(np.searchsorted(self.open_ms, from_ms, side="left"))
        stop = len(self) if to_ms is None else int(np.searchsorted(self.open_ms, to_ms, side="left"))
        return self.part(start, max(start, stop))

    def kline(self, index: int) -> Kline:
        """Return one bar as a `Kline`, the type used in events."""
        return Kline(
            self.symbol,
            self.interval_ms,
            int(self.open_ms[index]),
            float(self.open[index]),
            float(self.high[index]),
            float(self.low[index]),
            float(self.close[index]),
            float(self.volume[index]),
            float(self.taker_buy_volume[index]),
        )

    def rows(self) -> Iterator[Kline]:
        """Yield the bars as `Kline` values, oldest first."""
        names = ("open_ms", "open", "high", "low", "close", "volume", "taker_buy_volume")
        for values in zip(*(getattr(self, name).tolist() for name in names), strict=True):
            yield Kline(self.symbol, self.interval_ms, *values)

    def _take(self, index: Any) -> "Klines":
        return Klines(self.symbol, self.interval_ms, **{name: column[index] for name, column in self.columns().items()})


COLUMNS: Final = tuple(f.name for f in fields(Klines) if f.name not in ("symbol", "interval_ms"))
OPTIONAL: Final = ("taker_buy_volume", "quote_volume", "trades", "taker_buy_quote_volume")  # a source may lack them
_SUMMED: Final = ("volume", *OPTIONAL)


def make_klines(symbol: str, interval_ms: int, *, columns: dict[str, Any]) -> Klines:
    """Build `Klines` from columns by name; a missing optional column becomes NaN, a missing `filled` 0.

    Raises
    ------
    KeyError
        A required column is missing.
    ValueError
        Columns differ in length.
    """
    length = len(columns["open_ms"])
    full: dict[str, np.ndarray] = {"open_ms": np.ascontiguousarray(columns["open_ms"], dtype=np.int64)}
    for name in COLUMNS[1:]:
        if columns.get(name) is not None:
            full[name] = np.ascontiguousarray(columns[name], dtype=np.float64)
        elif name in OPTIONAL:
            full[name] = np.full(length, np.nan)
        elif name == "filled":
            full[name] = np.zeros(length)
        else:
            raise KeyError(name)
        if len(full[name]) != length:
            raise ValueError(f"column {name} has {len(full[name])} values, open_ms {length}")
    return Klines(symbol, interval_ms, **full)


def empty_klines(symbol: str, interval_ms: int) -> Klines:
    """Return empty `Klines` of a symbol and interval."""
    return make_klines(symbol, interval_ms, columns=dict.fromkeys(COLUMNS, ()))


def from_rows(rows: Sequence[Kline]) -> Klines:
    """Build `Klines` from one symbol's bars, oldest first; at least one.

    Raises
    ------
    ValueError
        The bars differ in symbol or interval.
    """
    symbol, length = rows[0].symbol, rows[0].interval_ms
    if any(row.symbol != symbol or row.interval_ms != length for row in rows):
        raise ValueError("bars of different symbols or intervals do not make one series")
    names = ("open_ms", "open", "high", "low", "close", "volume", "taker_buy_volume")
    return make_klines(symbol, length, columns={name: [getattr(row, name) for row in rows] for name in names})


def join(parts: Sequence[Klines]) -> Klines:
    """Concatenate series of one symbol and interval; at least one, in ascending time order.

    Raises
    ------
    ValueError
        The series differ in symbol or interval, overlap, or are out of order.
    """
    first = parts[0]
    if any(p.symbol != first.symbol or p.interval_ms != first.interval_ms for p in parts):
        raise ValueError("series of different symbols or intervals cannot be joined")
    columns = {name: np.concatenate([getattr(p, name) for p in parts]) for name in COLUMNS}
    if (np.diff(columns["open_ms"]) <= 0).any():
        raise ValueError(f"the parts of {first.symbol} overlap or run backwards in time")
    return Klines(first.symbol, first.interval_ms, **columns)


def impossible_rows(klines: Klines) -> np.ndarray:
    """Return the positions of all bars that `check_bar` rejects, ascending."""
    k = klines
    bad = (
        ~np.isfinite(k.open)
        | ~np.isfinite(k.high)
        | ~np.isfinite(k.low)
        | ~np.isfinite(k.close)
        | ~np.isfinite(k.volume)
    )
    bad |= (
        (k.low <= 0.0)
        | (k.high < np.maximum(k.open, k.close))
        | (k.low > np.minimum(k.open, k.close))
        | (k.volume < 0.0)
    )
    bad |= (k.taker_buy_volume < 0.0) | (k.taker_buy_volume > k.volume * (1.0 + TAKER_TOLERANCE))
    return np.flatnonzero(bad)


def bar_reason(klines: Klines, index: int) -> str | None:
    """Return why the bar at `index` is invalid, or None."""
    k = klines.kline(index)
    return check_bar(k.open, k.high, k.low, k.close, k.volume, k.taker_buy_volume)


def gaps(klines: Klines) -> list[tuple[int, int]]:
    """Return `(index, missing)` for each gap: bars are missing before the bar at `index`."""
    steps = np.diff(klines.open_ms)
    at = np.flatnonzero(steps > klines.interval_ms)
    return [(int(i) + 1, int(steps[i]) // klines.interval_ms - 1) for i in at]


def missing_bars(previous_open_ms: int, open_ms: int, *, interval_ms: int) -> int:
    """Return the number of bars missing between two consecutive ones; 0 if none."""
    return (open_ms - previous_open_ms) // interval_ms - 1


def flat_bar(previous: Kline) -> Kline:
    """Return the flat bar that follows `previous`."""
    price = previous.close
    return Kline(previous.symbol, previous.interval_ms, previous.close_ms, price, price, price, price, 0.0, 0.0)


def fill_gaps(klines: Klines, max_gap_bars: int = 10) -> tuple[Klines, list[int]]:
    """Fill each gap of up to `max_gap_bars` with flat bars and report the longer ones.

    Parameters
    ----------
    klines : Klines
    max_gap_bars : int
        Longest gap to fill, bars (`data.max_gap_bars`).

    Returns
    -------
    Klines
        The series including the flat bars.
    list of int
        Positions, in the returned series, of the first bar after each unfilled gap: state is reset before it.
    """
    found = gaps(klines)
    short = [(i, n) for i, n in found if n <= max_gap_bars]
    counts = np.ones(len(klines), dtype=np.int64)
    for i, n in short:
        counts[i - 1] += n  # the bar before the gap is repeated
    if short:
        source = np.repeat(np.arange(len(klines)), counts)
        first = np.cumsum(counts) - counts
        offset = np.arange(len(source)) - first[source]
        columns = {name: column[source] for name, column in klines.columns().items()}
        columns["open_ms"] = columns["open_ms"] + offset * klines.interval_ms
        filler = offset > 0
        for name in ("open", "high", "low"):
            columns[name][filler] = columns["close"][filler]
        for name in _SUMMED:
            columns[name][filler] = 0.0
        columns["filled"][filler] = 1.0
        klines = Klines(klines.symbol, klines.interval_ms, **columns)
    position = np.cumsum(counts) - counts
    return klines, [int(position[i]) for i, n in found if n > max_gap_bars]


def aggregate(klines: Klines, to_interval_ms: int) -> Klines:
    """Build the bars of a longer interval, aligned to UTC, from complete sets of shorter ones only.

    A filled bar counts as present; a bar made only of filled bars is itself marked `filled`. Sums of a column that the
    source lacks stay NaN.

    Parameters
    ----------
    klines : Klines
    to_interval_ms : int
        A multiple of the interval of `klines`, ms.

    Raises
    ------
    ConfigError
        It is not a multiple.
    """
    ratio = _ratio(klines.interval_ms, to_interval_ms)
    if ratio == 1:
        return klines
    start = klines.open_ms - klines.open_ms % to_interval_ms
    # Open times are strictly increasing and on the grid: a set is complete if its last bar is `ratio - 1` after its first.
    first = np.flatnonzero((klines.open_ms == start)[: max(0, len(klines) - ratio + 1)])
    first = first[klines.open_ms[first + ratio - 1] == start[first] + to_interval_ms - klines.interval_ms]
    if not len(first):
        return empty_klines(klines.symbol, to_interval_ms)
    block = first[:, None] + np.arange(ratio)
    columns: dict[str, np.ndarray] = {
        "open_ms": klines.open_ms[first],
        "open": klines.open[first],
        "high": klines.high[block].max(axis=1),
        "low": klines.low[block].min(axis=1),
        "close": klines.close[first + ratio - 1],
        "filled": klines.filled[block].min(axis=1),
    }
    for name in _SUMMED:
        # Sum left to right like `Aggregator`, so that both agree to the last bit.
        column = getattr(klines, name)
        total = column[first]
        for k in range(1, ratio):
            total = total + column[first + k]
        columns[name] = total
    return make_klines(klines.symbol, to_interval_ms, columns=columns)


def _ratio(short_ms: int, long_ms: int) -> int:
    if long_ms < short_ms or long_ms % short_ms:
        raise ConfigError(f"bars of {long_ms} ms cannot be built from bars of {short_ms} ms")
    return long_ms // short_ms


class Aggregator:
    """Build the bars of a longer interval one closed bar at a time; agrees with `aggregate` to the last bit.

    >>> aggregator = Aggregator(180_000, 900_000)
    >>> bars = [Kline("X", 180_000, 900_000 + i * 180_000, 1.0, 2.0 + i, 1.0, 1.5, 1.0, 0.5) for i in range(5)]
    >>> aggregator.extend(bars)[0][2:]
    (900000, 1.0, 6.0, 1.0, 1.5, 5.0, 2.5)
    """

    __slots__ = ("_all_filled", "_bar", "_bars", "_long_ms", "_ratio", "_short_ms", "filled")

    def __init__(self, short_ms: int, long_ms: int) -> None:
        self._ratio = _ratio(short_ms, long_ms)
        self._short_ms = short_ms
        self._long_ms = long_ms
        self._bars = 0
        self._bar: Kline | None = None
        self._all_filled = True
        self.filled = False  # whether the last returned bar was made only of filled bars

    def push(self, bar: Kline, *, filled: bool = False) -> Kline | None:
        """Add the next closed bar and return the longer bar that it completes, or None."""
        start = bar.open_ms - bar.open_ms % self._long_ms
        if bar.open_ms == start:
            self._bar = bar._replace(interval_ms=self._long_ms)
            self._bars, self._all_filled = 1, filled
        elif self._bar is not None and bar.open_ms == self._bar.open_ms + self._bars * self._short_ms:
            so_far = self._bar
            self._bar = so_far._replace(
                high=max(so_far.high, bar.high),
                low=min(so_far.low, bar.low),
                close=bar.close,
                volume=so_far.volume + bar.volume,
                taker_buy_volume=so_far.taker_buy_volume + bar.taker_buy_volume,
            )
            self._bars += 1
            self._all_filled = self._all_filled and filled
        else:  # a bar is missing: this longer bar stays incomplete
            self._bar = None
        if self._bar is None or self._bars < self._ratio:
            return None
        complete, self._bar, self.filled = self._bar, None, self._all_filled
        return complete

    def extend(self, bars: Iterable[Kline]) -> list[Kline]:
        """Add several bars and return the longer bars that they complete."""
        return [long for bar in bars if (long := self.push(bar)) is not None]
