"""Klines for a stream: the user's, those next to the stream (possibly typed by hand), or the bot's own.

Files next to a stream may be typed by hand: without volumes, rounded, of a finer interval than the stream. They are
read as they are, aggregated, and what they lack is reported. Prices of alerts come from another venue's chart, so a
comparison of prices allows one tick.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from bot.backtest.models import model_for
from bot.backtest.signals import resets_at
from bot.config import Config
from bot.core.errors import DataError
from bot.core.klines import INTERVALS, Klines, aggregate, fill_gaps, interval_ms, make_klines
from bot.market import store
from bot.parity.ours import OurColumns
from bot.strategy import kernel as k
from bot.strategy.features import batch_chunks

WARM_UP: Final = 600  # bars wanted before the first alert; fewer are reported


@dataclass(slots=True, eq=False)
class StreamBars:
    """Klines with short gaps filled, where their state resets, and notes to report."""

    klines: Klines
    resets: np.ndarray
    source: str
    notes: list[str]
    has_volume: bool

    def rows(self, from_ms: int, to_ms: int) -> slice:
        """Return the rows whose opens are in a time span, ms; the end is exclusive."""
        first, last = np.searchsorted(self.klines.open_ms, [from_ms, to_ms])
        return slice(int(first), int(last))


def _columns(klines: Klines) -> dict[str, Any]:
    return {name: getattr(klines, name) for name in ("open_ms", "open", "high", "low", "close", "taker_buy_volume")}


def read_typed(path: Path) -> tuple[Klines, bool]:
    """Read a kline file that may lack volumes (they become 0); return the klines and whether it has them.

    Raises
    ------
    DataError
        A bar is impossible; the first one is named.
    """
    klines = store.read_raw(path)
    empty = np.isnan(klines.volume)
    has_volume = not empty.any()
    if not has_volume:
        klines = make_klines(
            klines.symbol,
            klines.interval_ms,
            columns=_columns(klines) | {"volume": np.where(empty, 0.0, klines.volume)},
        )
    fault = store.first_fault(klines)
    if fault is not None:
        raise DataError(f"{path}: {store.row_words(klines.open_ms, fault[0])}: {fault[1]}: correct that row")
    return klines, has_volume


def files_for(source: Path, symbol: str, interval: str) -> list[Path]:
    """Return the files of a folder (or the file itself) from which a series can be built, the nearest interval first."""
    wanted = interval_ms(interval)
    if source.is_file():
        try:
            held, length = store.series_of(source)
        except DataError:
            return []
        return [source] if held == symbol and wanted % length == 0 else []
    lengths = [name for name in reversed(INTERVALS) if interval_ms(name) <= wanted and wanted % interval_ms(name) == 0]
    found = [source / f"{symbol}-{name}.{end}" for name in lengths for end in ("parquet", "csv")]
    return [path for path in found if path.is_file()]


NO_VOLUMES: Final = (
    "has no volumes: they count as 0, so what is made of them (money flow, volume conditions) says nothing"
)


class BarSource:
    """Finds klines for a symbol, interval and span in several places; each file is read once."""

    def __init__(self, config: Config, places: Sequence[Path]) -> None:
        self.config = config
        self.places = [place for i, place in enumerate(places) if place not in places[:i]]
        self._files: dict[tuple[Path, int], tuple[Klines, bool]] = {}
        self._ready: dict[tuple[Path, int], StreamBars] = {}

    def _series(self, path: Path, interval: str) -> StreamBars:
        step = interval_ms(interval)
        if (path, step) not in self._ready:
            klines, has_volume = read_typed(path)
            finer = klines.interval
            if klines.interval_ms != step:
                klines = store.build(klines, step) if klines.interval_ms != 300_000 else aggregate(klines, step)
            filled, resets = fill_gaps(klines, self.config.data.max_gap_bars)
            notes = [] if has_volume else [f"{path.name} {NO_VOLUMES}"]
            if finer != interval:
                notes.append(f"{interval} bars are made of {path.name}")
            self._ready[path, step] = StreamBars(filled, resets_at(len(filled), resets), str(path), notes, has_volume)
        return self._ready[path, step]

    def find(self, symbol: str, interval: str, opens: Iterable[int]) -> StreamBars | None:
        """Return the bars that contain most of the opens (the longer history breaks ties), None if none do."""
        wanted = np.fromiter(opens, np.int64)
        best: tuple[int, int, StreamBars] | None = None
        for place in self.places:
            for path in files_for(place, symbol, interval):
                bars = self._series(path, interval)
                held = int(np.isin(wanted, bars.klines.open_ms).sum())
                before = int((bars.klines.open_ms < wanted.min()).sum()) if len(wanted) else 0
                if held and (best is None or (held, min(before, WARM_UP)) > best[:2]):
                    best = held, min(before, WARM_UP), bars
        return best[2] if best is not None else None

    def longest(self, symbol: str, interval: str) -> StreamBars | None:
        """Return the longest series available, None if there is none."""
        found = [self._series(path, interval) for place in self.places for path in files_for(place, symbol, interval)]
        return max(found, key=lambda bars: len(bars.klines)) if found else None

    def holdings(self, symbol: str, interval: str) -> str:
        """Return a description of what is available of a series."""
        found = self.longest(symbol, interval)
        if found is None:
            where = ", ".join(str(place) for place in self.places) or "no place"
            return f"no klines of {symbol} {interval} or finer in {where}"
        first, end = int(found.klines.open_ms[0]), found.klines.end_ms
        return f"{found.source} holds {store.format_time(first)[:16]} to {store.format_time(end)[:16]}"


def columns_on(bars: StreamBars, config: Config, wanted: Iterable[str]) -> Mapping[str, np.ndarray]:
    """Return the wanted indicator columns on bars with a configuration; one pass, only those are kept."""
    names = [name for name in k.SUITE_COLUMNS if name in set(wanted)]
    places = [k.SUITE_COLUMNS.index(name) for name in names]
    matrix = np.empty((len(bars.klines), len(names)))
    chunks = batch_chunks(bars.klines, config, resets=bars.resets, suite_only=True, model=model_for(config))
    for first, rows in chunks:
        matrix[first : first + len(rows)] = rows[:, places]
    return OurColumns(matrix, tuple(names), np.arange(len(matrix)))


def tick_of(prices: np.ndarray) -> float:
    """Return the price grid, from 1 down to 0.00001: the widest on which all prices lie, 0.0 if none.

    >>> tick_of(np.array([64270.0, 64271.0])), tick_of(np.array([73.4, 72.77]))
    (1.0, 0.01)
    """
    for digits in range(6):
        if np.allclose(prices * 10**digits, np.round(prices * 10**digits), rtol=0.0, atol=1e-6 * 10**digits):
            return float(10.0**-digits)
    return 0.0
