"""Input of a back-test, prepared once: klines without gaps, funding, and the indicator columns that rules read.

The columns come from the batch kernel, which agrees with the live step bit for bit. Like a live start, a back-test
warms up on `data.history_bars` base bars before its range (fewer if the data begin later), so both start from the same
state. For legs only the columns that rules read are computed (`legs`). The conditions of each bar are kept as bits; the
values behind them only for bars on which at least five of six hold, because a back-test reads them nowhere else.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from bot.backtest.legs import leg_columns
from bot.backtest.market import Market
from bot.backtest.models import model_for
from bot.backtest.signals import resets_at
from bot.config import Config
from bot.core.errors import ConfigError, DataMissing
from bot.core.klines import Klines, fill_gaps
from bot.core.types import Side
from bot.market import store
from bot.market.funding import FundingRates, no_funding
from bot.strategy.evidence import EVIDENCE
from bot.strategy.features import INDEX, batch_chunks
from bot.strategy.rules import CONDITIONS

BASE_MS: Final = 180_000
SIX: Final = (1 << len(CONDITIONS)) - 1
# Read on every bar while a trade is open.
LIGHT: Final = (
    "atr14",
    "sta_ts",
    "sta_os",
    "pac_event",
    "pac_dir",
    "smc_int_bull_choch",
    "smc_int_bear_choch",
    "highest50",
    "lowest50",
)
_LONG: Final = tuple(f"long_{name}" for name in CONDITIONS)
_SHORT: Final = tuple(f"short_{name}" for name in CONDITIONS)
_PLAN: Final = tuple(
    f"{side}_ob_{name}"
    for side in ("long", "short")
    for name in ("refined_bottom", "refined_top", "touches", "born_ms")
)
# Kept on bars where a decision may be made.
RICH: Final = tuple(
    dict.fromkeys(
        (*LIGHT, *EVIDENCE, *_LONG, *_SHORT, *_PLAN, "long_signal", "short_signal", "ready", "so_age", "so_strong")
    )
)
_LIGHT_AT: Final = [INDEX[name] for name in LIGHT]
_RICH_AT: Final = np.array([INDEX[name] for name in RICH])
_LONG_AT: Final = slice(INDEX[_LONG[0]], INDEX[_LONG[-1]] + 1)
_SHORT_AT: Final = slice(INDEX[_SHORT[0]], INDEX[_SHORT[-1]] + 1)
_BITS: Final = np.array([1 << i for i in range(len(CONDITIONS))], np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """The traded symbol's indicators, one entry per bar of the series; `rich` rows only where `rich_at` is not -1."""

    light: np.ndarray  # float64 (bars, LIGHT)
    long: np.ndarray  # uint8, bit i is condition i
    short: np.ndarray
    long_gates: np.ndarray  # uint8, bit i is gate i
    short_gates: np.ndarray
    long_signal: np.ndarray  # bool
    short_signal: np.ndarray
    ready: np.ndarray  # bool
    rich: np.ndarray  # float64 (kept bars, RICH)
    rich_at: np.ndarray  # int32

    def row(self, index: int) -> dict[str, float]:
        """Return the bar's values by name: all of RICH where kept, else LIGHT and the signals."""
        at = int(self.rich_at[index])
        if at >= 0:
            return dict(zip(RICH, self.rich[at].tolist(), strict=True))
        row = dict(zip(LIGHT, self.light[index].tolist(), strict=True))
        row["long_signal"], row["short_signal"] = float(self.long_signal[index]), float(self.short_signal[index])
        return row

    def conditions(self, index: int) -> dict[str, float]:
        """Return the twelve conditions, gates, counts and readiness of a bar by name."""
        long, short = int(self.long[index]), int(self.short[index])
        row = {name: float(long >> i & 1) for i, name in enumerate(_LONG)}
        row |= {name: float(short >> i & 1) for i, name in enumerate(_SHORT)}
        row |= {"long_gates": float(self.long_gates[index]), "short_gates": float(self.short_gates[index])}
        row |= {"long_count": float(long.bit_count()), "short_count": float(short.bit_count())}
        return row | {"ready": float(self.ready[index])}


@dataclass(frozen=True, slots=True, eq=False)
class Symbol:
    """One symbol's data: base bars from the warm-up on with short gaps filled, 1m bars where available, and funding."""

    base: Klines
    resets: list[int]  # positions of the first bars after long gaps
    minutes: Klines | None
    funding: FundingRates


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """Complete input of a run. `first` and `stop` bound the range in the traded symbol's bars."""

    symbols: dict[str, Symbol]  # the traded one first; the legs only if there is a hedge
    first: int
    stop: int
    columns: Columns
    legs: dict[str, np.ndarray]  # LEG_COLUMNS by symbol, one row per bar of its series
    data_hash: str
    source: str
    warnings: tuple[str, ...]

    @property
    def alpha(self) -> Symbol:
        """The traded symbol."""
        return next(iter(self.symbols.values()))

    @property
    def from_ms(self) -> int:
        """Open time of the first bar of the range."""
        return int(self.alpha.base.open_ms[self.first])

    @property
    def to_ms(self) -> int:
        """Close time of the last bar of the range."""
        return int(self.alpha.base.open_ms[self.stop - 1]) + BASE_MS

    def with_columns(self, columns: Columns) -> "Prepared":
        """Return the same data with other indicator results."""
        return replace(self, columns=columns)


def bar_range(
    bars: Klines, *, from_ms: int | None, to_ms: int | None, count: int | None, source: str
) -> tuple[int, int]:
    """Return the positions [first, stop) of the requested bars.

    Parameters
    ----------
    from_ms, to_ms
        Range of open times, `to_ms` exclusive; None for no bound.
    count
        Maximum number of bars.
    source
        Name of the data for error messages.

    Raises
    ------
    ConfigError
        `count` is below 1.
    DataMissing
        No bar lies in the range.
    """
    if count is not None and count < 1:
        raise ConfigError(f"--bars {count} must be at least 1")
    first = 0 if from_ms is None else int(np.searchsorted(bars.open_ms, from_ms))
    stop = len(bars) if to_ms is None else int(np.searchsorted(bars.open_ms, to_ms))
    if count is not None:
        stop = min(stop, first + count)
    if first >= stop:
        span = f"{store.format_time(int(bars.open_ms[0]))} to {store.format_time(bars.end_ms)}" if len(bars) else "none"
        raise DataMissing(f"{source} has no {bars.symbol} 3m bar in the range asked for: it holds {span}")
    return first, stop


def load_symbols(
    config: Config, market: Market, *, from_ms: int | None, to_ms: int | None, bars: int | None
) -> tuple[dict[str, Symbol], int, int]:
    """Cut the klines of all symbols to the range and its warm-up, fill short gaps, and return them with the range.

    Parameters
    ----------
    from_ms, to_ms, bars
        Range of base bars by open time, `to_ms` exclusive; `bars` limits their number.

    Returns
    -------
    tuple
        Data by symbol, and the positions `first` and `stop` of the range in the traded symbol's bars.

    Raises
    ------
    DataMissing
        No bar lies in the range, or a leg has none there.
    """
    names = config.data.symbols if config.hedge.enabled else config.data.symbols[:1]
    whole, _ = fill_gaps(market.base(names[0]), config.data.max_gap_bars)
    first, stop = bar_range(whole, from_ms=from_ms, to_ms=to_ms, count=bars, source=market.source)
    start_ms = int(whole.open_ms[first]) - (config.data.history_bars * BASE_MS if from_ms is not None else 0)
    end_ms = int(whole.open_ms[stop - 1]) + BASE_MS
    begin_ms = int(whole.open_ms[first])
    symbols = {}
    for name in names:
        base, resets = fill_gaps(market.base(name).between(start_ms, end_ms), config.data.max_gap_bars)
        if not len(base):
            raise DataMissing(
                f"{market.source} has no {name} 3m bar where {names[0]} has some: set hedge.enabled=false"
            )
        minutes = market.bars[name].get("1m")
        minutes = minutes.between(begin_ms, end_ms) if minutes is not None else None
        funding = market.funding.get(name) or no_funding(name, warning=f"no funding of {name}: it counts as 0")
        symbols[name] = Symbol(base, resets, minutes if minutes is not None and len(minutes) else None, funding)
    base = symbols[names[0]].base
    first = int(np.searchsorted(base.open_ms, begin_ms))
    return symbols, first, len(base)


def alpha_rows(config: Config, symbol: Symbol) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (first bar, all columns) of the traded symbol in chunks; the buffer is reused."""
    flags = resets_at(len(symbol.base), symbol.resets)
    yield from batch_chunks(symbol.base, config, resets=flags, model=model_for(config))


def columns_from(
    length: int, chunks: Iterator[tuple[int, np.ndarray]], *, progress: Callable[[int], None] | None = None
) -> Columns:
    """Extract the columns that a back-test reads from the kernel's rows."""
    light = np.empty((length, len(LIGHT)))
    bits = {name: np.empty(length, np.uint8) for name in ("long", "short", "long_gates", "short_gates")}
    flags = {name: np.empty(length, np.bool_) for name in ("long_signal", "short_signal", "ready")}
    rich_at = np.full(length, -1, np.int32)
    kept: list[np.ndarray] = []
    count = 0
    for first, rows in chunks:
        part = slice(first, first + len(rows))
        light[part] = rows[:, _LIGHT_AT]
        bits["long"][part] = rows[:, _LONG_AT] @ _BITS
        bits["short"][part] = rows[:, _SHORT_AT] @ _BITS
        for name in ("long_gates", "short_gates"):
            bits[name][part] = rows[:, INDEX[name]]
        for name, column in flags.items():
            column[part] = rows[:, INDEX[name]] == 1.0
        near = (rows[:, INDEX["long_count"]] >= 5.0) | (rows[:, INDEX["short_count"]] >= 5.0)
        found = np.flatnonzero(near)
        kept.append(rows[np.ix_(found, _RICH_AT)])
        rich_at[first + found] = np.arange(count, count + len(found), dtype=np.int32)
        count += len(found)
        if progress is not None:
            progress(first + len(rows))
    rich = np.concatenate(kept) if kept else np.empty((0, len(RICH)))
    return Columns(light=light, rich=rich, rich_at=rich_at, **bits, **flags)


def prepare(
    config: Config,
    market: Market,
    *,
    from_ms: int | None = None,
    to_ms: int | None = None,
    bars: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Prepared:
    """Run the indicators over a range and its warm-up and return the input of a back-test.

    Parameters
    ----------
    from_ms, to_ms, bars
        Range of base bars by open time, `to_ms` exclusive; `bars` limits their number.
    progress
        Called with the number of bars done.

    Raises
    ------
    DataMissing
        No bar lies in the range.
    """
    symbols, first, stop = load_symbols(config, market, from_ms=from_ms, to_ms=to_ms, bars=bars)
    alpha, *others = symbols
    columns = columns_from(stop, alpha_rows(config, symbols[alpha]), progress=progress)
    legs = {name: leg_columns(symbols[name].base, config, resets=symbols[name].resets) for name in others}
    return Prepared(
        symbols=symbols,
        first=first,
        stop=stop,
        columns=columns,
        legs=legs,
        data_hash=data_hash_of(symbols),
        source=market.source,
        warnings=market.warnings,
    )


def data_hash_of(symbols: Mapping[str, Symbol]) -> str:
    """Return a hash of the klines that a run reads: those of the range and its warm-up."""
    series = [part for s in symbols.values() for part in (s.base, s.minutes) if part is not None]
    return store.data_hash(*series)


def candidates_open_ms(prepared: Prepared) -> list[int]:
    """Return the open times of the bars in the range that signal on exactly one side."""
    part = slice(prepared.first, prepared.stop)
    hits = prepared.columns.long_signal[part] ^ prepared.columns.short_signal[part]
    found: list[int] = prepared.alpha.base.open_ms[part][hits].tolist()
    return found


def geometry(columns: Columns, closes: np.ndarray, first: int, stop: int) -> tuple[tuple[Side, float, float], ...]:
    """Return side and block edges (distances from the close in ATR14) of every signal in [first, stop).

    Parameters
    ----------
    columns
        Indicator columns of the traded symbol.
    closes
        Close of each bar of its series.
    first, stop
        Range of bar positions.
    """
    found: list[tuple[Side, float, float]] = []
    both = columns.long_signal ^ columns.short_signal
    for index in (first + np.flatnonzero(both[first:stop])).tolist():
        side = Side.LONG if columns.long_signal[index] else Side.SHORT
        edges = block_edges(columns, index, side, float(closes[index]))
        if edges is not None:
            found.append((side, *edges))
    return tuple(found)


def block_edges(columns: Columns, index: int, side: Side, close: float) -> tuple[float, float] | None:
    """Return bottom and top of the order block that was hit, as distances from the close in ATR14; None without one.

    Parameters
    ----------
    columns
        Indicator columns of the traded symbol.
    index
        Position of the bar.
    side
        Side of the signal.
    close
        Close of the bar.
    """
    row: dict[str, Any] = columns.row(index)
    name = side.name.lower()
    bottom, top, atr = row.get(f"{name}_ob_bottom"), row.get(f"{name}_ob_top"), row["atr14"]
    if bottom is None or top is None or not (top > bottom and atr > 0):
        return None
    return (bottom - close) / atr, (top - close) / atr
