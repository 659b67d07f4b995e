"""The signals file: every indicator value, condition and gate of one symbol, one row per closed bar.

Earlier bars warm up the indicators; with `cold` they start at the first bar written. The values of a row are those that
the bot would have had when that bar closed.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bot.backtest.models import model_for
from bot.backtest.taker import check_taker
from bot.config import Config
from bot.core.errors import ConfigError, DataError, DataMissing
from bot.core.klines import Klines, fill_gaps, interval_ms, make_klines
from bot.core.times import DAY_MS
from bot.market import store
from bot.market import tables as tables_of
from bot.report.progress import progress, say
from bot.strategy import kernel as k
from bot.strategy.features import batch_chunks

BAR_COLUMNS = ("open_time", "close_time", "open", "high", "low", "close", "volume", "filled")


def resets_at(length: int, positions: list[int]) -> np.ndarray:
    """Return the int64 reset flags of a series from the positions that `fill_gaps` reports."""
    resets = np.zeros(length, np.int64)
    resets[positions] = 1
    return resets


def columns_of(interval: str) -> tuple[str, ...]:
    """Return the column names of a signals table: indicators only, except on 3m."""
    return (*BAR_COLUMNS, *(k.COLUMNS if interval == "3m" else k.SUITE_COLUMNS))


def tables(
    config: Config, bars: Klines, *, from_ms: int | None = None, progress: Callable[[int], None] | None = None
) -> Iterator[dict[str, np.ndarray]]:
    """Yield the columns of all closed bars from `from_ms` on, in chunks; earlier `bars` are the warm-up.

    Parameters
    ----------
    from_ms
        Open time of the first bar to yield; None for all.
    progress
        Called with the number of bars done.
    """
    filled, resets = fill_gaps(bars, config.data.max_gap_bars)
    suite_only = bars.interval != "3m"
    names = k.SUITE_COLUMNS if suite_only else k.COLUMNS
    flags = resets_at(len(filled), resets)
    for first, rows in batch_chunks(filled, config, resets=flags, suite_only=suite_only, model=model_for(config)):
        part = filled.part(first, first + len(rows))
        keep = slice(0 if from_ms is None else int(np.searchsorted(part.open_ms, from_ms)), len(rows))
        if progress is not None:
            progress(first + len(rows))
        if keep.start >= len(rows):
            continue
        table: dict[str, np.ndarray] = {
            "open_time": part.open_ms[keep],
            "close_time": part.open_ms[keep] + (bars.interval_ms - 1),
            "open": part.open[keep],
            "high": part.high[keep],
            "low": part.low[keep],
            "close": part.close[keep],
            "volume": part.volume[keep],
            "filled": part.filled[keep].astype(np.int64),
        }
        for i, name in enumerate(names):
            table[name] = rows[keep, i].copy()
        yield table


def load_bars(path: Path, *, symbol: str | None, interval: str | None, default_symbol: str) -> Klines:
    """Return the bars of a kline file, or of a symbol and interval in a folder (default 3m).

    A single file whose name gives neither symbol nor interval is read too: its interval is the smallest step between its
    bars, its symbol the requested or the default one.

    Parameters
    ----------
    path
        A kline file, or a folder of them.
    symbol, interval
        What to load; None for what the file's name says.
    default_symbol
        Symbol where neither the argument nor the file's name gives one.

    Raises
    ------
    DataMissing
        `path` does not exist.
    DataError
        The file holds no valid klines.
    """
    if path.is_dir():
        return store.load(path, symbol or default_symbol, interval or "3m")
    if not path.exists():
        raise DataMissing(f"{path} does not exist: name a folder of kline files, or one file, with --klines")
    try:
        held, held_ms = store.series_of(path)
    except DataError:
        bars = _nameless(path, symbol or default_symbol)
        return bars if interval is None else store.build(bars, interval_ms(interval))
    return store.load(path, symbol or held, interval or held_ms)


def _nameless(path: Path, symbol: str) -> Klines:
    table = tables_of.parquet_table(path)
    stamp = "open_time" if "open_time" in table.column_names else "time"
    missing = [name for name in (stamp, *BAR_COLUMNS[2:7]) if name not in table.column_names]
    if missing:
        raise DataError(
            f"{path} has no column {', '.join(missing)}: klines need open_time, open, high, low, close, volume"
        )
    columns = {"open_ms": tables_of.whole_ms(path, table, stamp)}
    columns |= {name: tables_of.numbers(path, table, name) for name in BAR_COLUMNS[2:7]}
    steps = np.diff(columns["open_ms"])
    if not len(steps) or steps.min() <= 0:
        raise DataError(f"{path}: fewer than two bars, or not in order of time: its interval cannot be told")
    bars = make_klines(symbol, int(steps.min()), columns=columns)
    fault = store.first_fault(bars)
    if fault is not None:
        raise DataError(f"{path}: {store.row_words(bars.open_ms, fault[0])}: {fault[1]}")
    return bars


def _write(path: Path, table: dict[str, np.ndarray]) -> None:
    """Write columns atomically as Parquet or CSV, by the file's suffix."""
    if path.suffix == ".parquet":
        store.write_table(path, table)
        return
    import pyarrow as pa
    import pyarrow.csv as csv

    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        csv.write_csv(pa.table(table), temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_signals(
    config: Config,
    klines: Path,
    out: Path,
    *,
    symbol: str | None = None,
    interval: str | None = None,
    from_ms: int | None = None,
    to_ms: int | None = None,
    cold: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Write the signals file and return a summary: rows, signals by side and per day.

    Parameters
    ----------
    klines
        A kline file, or a folder of them.
    out
        The file to write, .parquet or .csv.
    symbol, interval
        What to load; None for what the file's name says.
    from_ms, to_ms
        Range of open times, `to_ms` exclusive.
    cold
        Start the indicators at `from_ms`, without warm-up.
    quiet
        Show neither warnings nor progress.

    Raises
    ------
    ConfigError
        The suffix of `out` is neither .parquet nor .csv, its folder does not exist, or a setting needs taker volume and the
        klines have none.
    DataMissing
        No bar lies in the requested range.
    """
    if out.suffix not in (".parquet", ".csv"):
        raise ConfigError(f"--out {out}: the file must end in .parquet or .csv")
    if not out.parent.is_dir():
        raise ConfigError(f"--out {out}: the folder {out.parent} does not exist; make it first")
    bars = load_bars(klines, symbol=symbol, interval=interval, default_symbol=config.data.symbols[0])
    bars = bars.between(from_ms if cold else None, to_ms)
    if not len(bars.between(from_ms)):
        raise DataMissing(f"{klines} has no bar of {bars.symbol} {bars.interval} in the range asked for")
    for warning in check_taker(config, [(bars, str(klines))]):
        say(f"warning: {warning}", quiet=quiet)
    with progress("computing signals", len(bars), quiet=quiet) as advance:
        parts = list(tables(config, bars, from_ms=from_ms, progress=advance))
    table = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    _write(out, table)
    count = len(table["open_time"])
    days = max(count * bars.interval_ms / DAY_MS, 1e-9)
    summary: dict[str, Any] = {"rows": count, "symbol": bars.symbol, "interval": bars.interval, "file": str(out)}
    sentence = f"{count} bars of {bars.symbol} {bars.interval} written to {out}"
    if "long_signal" in table:
        longs, shorts = int(table["long_signal"].sum()), int(table["short_signal"].sum())
        summary |= {"long_signals": longs, "short_signals": shorts, "signals_per_day": (longs + shorts) / days}
        sentence += f"; signals: {longs} long, {shorts} short, {(longs + shorts) / days:.2f} a day (claimed: about 7)"
    return summary | {"sentence": sentence}
