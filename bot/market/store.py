"""Klines on disk: one file per symbol and interval in a folder, validated on reading.

`SYMBOL-INTERVAL.parquet` (`BTCUSDT-3m.parquet`) has `open_time` in UTC epoch ms and float64 columns; a CSV of the same
name in the layout of Binance's bulk archive is read too, with or without its header, and so are the archive's own months
and days (`BTCUSDT-3m-2024-01.zip` or `.csv`), joined to one series: a bar that is equal in two files counts once, and
files that contradict each other are rejected. A missing interval is built from a finer one. Data that is impossible on
an exchange (unsorted or duplicate rows, a high below the close, a negative volume) is rejected, naming the first such
row: wrong data is worse than none.
"""

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from bot.core.errors import ConfigError, DataError, DataMissing
from bot.core.klines import (
    COLUMNS,
    INTERVALS,
    OPTIONAL,
    Klines,
    aggregate,
    bar_reason,
    impossible_rows,
    interval_ms,
    interval_name,
    make_klines,
)
from bot.market.owned import make_folder, opener
from bot.market.tables import FILE_COLUMNS, csv_table, numbers, parquet_table, whole_ms

LAST_MS: Final = 10_000_000_000_000  # the year 2286: a larger number in user input is not a time in ms

_KLINE_NAME: Final = re.compile(rf"([A-Z0-9_]+)-({'|'.join(INTERVALS)})\.(parquet|csv)")
_ARCHIVE_NAME: Final = re.compile(
    rf"([A-Z0-9_]+)-({'|'.join(INTERVALS)}|fundingRate)-(\d{{4}}-\d{{2}}(?:-\d{{2}})?)\.(csv|zip)"
)
_EXPLICIT_NAME: Final = re.compile(rf"([A-Z0-9_]+)-({'|'.join(INTERVALS)})(-[A-Za-z0-9_.-]+)?\.(parquet|csv|zip)")
_FUNDING_NAME: Final = re.compile(r"([A-Z0-9_]+)-funding\.parquet")
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2})?)?Z?")


def parse_time(text: str | int) -> int:
    """Parse a date, a date and time (UTC) or epoch ms; return UTC epoch ms.

    >>> parse_time("2023-01-01"), parse_time("2023-01-01T12:03"), parse_time("1672531200000")
    (1672531200000, 1672574580000, 1672531200000)

    Raises
    ------
    ConfigError
        The text is none of these.
    """
    word = str(text).strip()
    if word.isascii() and word.isdigit():
        value = int(word)
        if 0 < value < 100_000_000_000 or value >= LAST_MS:
            raise ConfigError(f"{word} is no time in epoch milliseconds (such as 1672531200000); a date is 2023-01-01")
        return value
    if _DATE.fullmatch(word):
        try:
            stamp = datetime.fromisoformat(word.removesuffix("Z")).replace(tzinfo=UTC)
        except ValueError as error:
            raise ConfigError(f"{word} is no date of the calendar: {error}") from error
        return int(stamp.timestamp()) * 1000
    raise ConfigError(f"{word!r} is no time: write 2023-01-01, 2023-01-01T12:03 (UTC) or epoch milliseconds")


def format_time(ms: int) -> str:
    """Format epoch ms in UTC as `parse_time` reads it, or as the number if outside the calendar's range.

    >>> format_time(1672574580000)
    '2023-01-01T12:03:00Z'
    """
    try:
        return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return str(ms)


@dataclass(frozen=True, slots=True)
class Scan:
    """The data files of a folder, identified by name.

    Attributes
    ----------
    folder : Path
    klines : dict of (symbol, interval in ms) to tuple of Path
        One file, or the archive's months and days in order.
    funding : dict of symbol to tuple of Path
        One file, or the archive's months in order.
    ignored : tuple of (file name, reason)
        Files that were ignored; `warnings()` returns them as sentences.
    """

    folder: Path
    klines: dict[tuple[str, int], tuple[Path, ...]]
    funding: dict[str, tuple[Path, ...]]
    ignored: tuple[tuple[str, str], ...]

    def warnings(self) -> list[str]:
        """Return one sentence per ignored file."""
        return [f"{self.folder / name} is ignored: {reason}" for name, reason in self.ignored]

    def symbols(self) -> list[str]:
        """Return the symbols with at least one kline file, sorted."""
        return sorted({symbol for symbol, _ in self.klines})

    def intervals(self, symbol: str) -> list[int]:
        """Return the intervals of `symbol` in ms, shortest first."""
        return sorted(length for name, length in self.klines if name == symbol)


def scan(folder: Path | str) -> Scan:
    """Classify the files in `folder` by name; hidden files and subfolders are skipped.

    Raises
    ------
    DataMissing
        The folder does not exist.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataMissing(f"there is no folder {folder}: `python -m bot synth --out DIR` makes one")
    klines: dict[tuple[str, int], tuple[Path, ...]] = {}
    funding: dict[str, tuple[Path, ...]] = {}
    ignored: list[tuple[str, str]] = []
    pieces: dict[tuple[str, str], dict[str, Path]] = {}
    # Reversed, so that of two files of one series Parquet comes before CSV, and a zip before the CSV extracted from it.
    for path in sorted(folder.iterdir(), reverse=True):
        if path.name.startswith(".") or not path.is_file():
            continue
        if match := _FUNDING_NAME.fullmatch(path.name):
            funding[match[1]] = (path,)
        elif match := _KLINE_NAME.fullmatch(path.name):
            key = (match[1], interval_ms(match[2]))
            if key in klines:
                ignored.append((path.name, f"{klines[key][0].name} holds the same series"))
            else:
                klines[key] = (path,)
        elif match := _ARCHIVE_NAME.fullmatch(path.name):
            dated = pieces.setdefault((match[1], match[2]), {})
            if match[3] in dated:
                ignored.append((path.name, f"{dated[match[3]].name} holds the same bars"))
            else:
                dated[match[3]] = path
        elif _EXPLICIT_NAME.fullmatch(path.name):
            ignored.append((path.name, "a file with a further suffix is only read when it is named itself"))
        else:
            ignored.append((path.name, "its name is not SYMBOL-INTERVAL.parquet or .csv"))
    for (symbol, series), dated in pieces.items():
        files = tuple(dated[name] for name in sorted(dated))
        if series == "fundingRate":
            held = funding.setdefault(symbol, files)
        else:
            held = klines.setdefault((symbol, interval_ms(series)), files)
        if held is not files:
            ignored += [(path.name, f"{held[0].name} holds the same series") for path in files]
    return Scan(folder, dict(sorted(klines.items())), dict(sorted(funding.items())), tuple(sorted(ignored)))


def series_of(path: Path) -> tuple[str, int]:
    """Return symbol and interval (ms) from a file name (`BTCUSDT-5m-taker.parquet`: BTCUSDT, 5m).

    Raises
    ------
    DataError
        The name has another form.
    """
    match = _EXPLICIT_NAME.fullmatch(path.name)
    if match is None:
        raise DataError(
            f"{path}: the name does not say what it holds; call it SYMBOL-INTERVAL.parquet (BTCUSDT-3m.parquet)"
        )
    return match[1], interval_ms(match[2])


def read_raw(path: Path | str) -> Klines:
    """Read a kline file without validating the bars; every row must have a time and its numbers must parse.

    Raises
    ------
    DataMissing
        The file does not exist.
    DataError
        It is truncated, of another format, or lacks a column.
    """
    path = Path(path)
    if not path.is_file():
        raise DataMissing(f"there is no file {path}")
    symbol, length_ms = series_of(path)
    table = parquet_table(path) if path.suffix == ".parquet" else csv_table(path)
    names = set(table.column_names)
    missing = [name for name in FILE_COLUMNS if name not in names and name not in OPTIONAL]
    if missing:
        raise DataError(f"{path} has no column {', '.join(missing)}: klines need {', '.join(FILE_COLUMNS[:6])}")
    columns: dict[str, Any] = {"open_ms": whole_ms(path, table, "open_time")}
    for name in FILE_COLUMNS[1:]:
        columns[name] = numbers(path, table, name) if name in names else None
    return make_klines(symbol, length_ms, columns=columns)


def read_file(path: Path | str) -> Klines:
    """Read and validate one kline file.

    Raises
    ------
    DataMissing
        The file does not exist.
    DataError
        It is invalid; the message names the first invalid row.
    """
    path = Path(path)
    klines = read_raw(path)
    fault = first_fault(klines)
    if fault is not None:
        row, reason = fault
        raise DataError(f"{path}: {row_words(klines.open_ms, row)}: {reason}; `python -m bot data check` lists all")
    return klines


def read_files(paths: Sequence[Path]) -> Klines:
    """Read and validate the files of one series and join them in time order.

    A bar that is equal in several files (a month and one of its days) counts once.

    Raises
    ------
    DataError
        A file is invalid, or a bar differs between two files; the message names the first.
    """
    parts = [read_file(path) for path in paths]
    if len(parts) == 1:
        return parts[0]
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS}
    order = np.argsort(columns["open_ms"], kind="stable")
    columns = {name: column[order] for name, column in columns.items()}
    again = np.flatnonzero(np.diff(columns["open_ms"]) == 0) + 1
    for column in columns.values():
        other = ~((column[again] == column[again - 1]) | (np.isnan(column[again]) & np.isnan(column[again - 1])))
        if other.any():
            row = int(again[np.argmax(other)])
            files = np.repeat(np.arange(len(paths)), [len(part) for part in parts])[order]
            raise DataError(
                f"{paths[files[row - 1]]} and {paths[files[row]].name} hold different bars of "
                f"{format_time(int(columns['open_ms'][row]))}: remove the one that is wrong"
            )
    columns = {name: np.delete(column, again) for name, column in columns.items()}
    return make_klines(parts[0].symbol, parts[0].interval_ms, columns=columns)


def row_words(times: np.ndarray, row: int) -> str:
    """Return the description of a row for messages: counted from 1, with its time."""
    return f"row {row + 1} (open_time {int(times[row])}, {format_time(int(times[row]))})"


def order_fault(times: np.ndarray) -> tuple[int, str] | None:
    """Return the first row that is not later than the previous one (counted from 0) and the reason, or None."""
    wrong = np.flatnonzero(np.diff(times) <= 0)
    if not len(wrong):
        return None
    row = int(wrong[0]) + 1
    return row, "duplicate of the row before" if times[row] == times[
        row - 1
    ] else "unsorted, it is earlier than the row before"


def first_fault(klines: Klines) -> tuple[int, str] | None:
    """Return the first invalid row (counted from 0) and its reason, or None for a valid series."""
    faults = []
    if (fault := order_fault(klines.open_ms)) is not None:
        faults.append(fault)
    if len(bad := impossible_rows(klines)):
        faults.append((int(bad[0]), f"impossible bar, {bar_reason(klines, int(bad[0]))}"))
    if len(off := np.flatnonzero(klines.open_ms % klines.interval_ms)):
        faults.append((int(off[0]), f"it does not open on the {klines.interval} grid"))
    return min(faults, default=None)


def load(
    source: Path | str, symbol: str, interval: str | int, from_ms: int | None = None, to_ms: int | None = None
) -> Klines:
    """Load one series, built from a finer one if its own file is missing.

    Parameters
    ----------
    source : Path
        A folder, or one kline file.
    symbol : str
    interval : str or int
        `"3m"`, or ms.
    from_ms, to_ms : int, optional
        Open times in `[from_ms, to_ms)`, UTC epoch ms; None means unbounded.

    Raises
    ------
    DataMissing
        There are no such bars (exit code 3).
    DataError
        The data is invalid (exit code 1).
    """
    length_ms = interval if isinstance(interval, int) else interval_ms(interval)
    klines = build(read_files(files_of(Path(source), symbol, length_ms)), length_ms)
    part = klines.between(from_ms, to_ms)
    if not len(part):
        first = "the start" if from_ms is None else format_time(from_ms)
        after = "the end" if to_ms is None else format_time(to_ms)
        span = f"{format_time(int(klines.open_ms[0]))} to {format_time(klines.end_ms)}" if len(klines) else "no bar"
        name = interval_name(length_ms)
        raise DataMissing(f"{source} has no {symbol} {name} bar from {first} to {after}: it holds {span}")
    return part


def files_of(source: Path, symbol: str, length_ms: int) -> tuple[Path, ...]:
    """Return the files of a series, else of the finer series that it is built from.

    Raises
    ------
    DataMissing
        There are neither.
    """
    name = interval_name(length_ms)
    if source.suffix in (".parquet", ".csv", ".zip") and not source.is_dir():
        if not source.is_file():
            raise DataMissing(f"there is no file {source}")
        held, held_ms = series_of(source)
        if held != symbol or length_ms % held_ms:
            raise DataMissing(
                f"{source} holds {held} {interval_name(held_ms)}, from which {symbol} {name} cannot be had"
            )
        return (source,)
    found = scan(source)
    finer = [ms for ms in found.intervals(symbol) if length_ms % ms == 0]
    if not finer:
        held = ", ".join(f"{s} {interval_name(ms)}" for s, ms in found.klines) or "no klines"
        raise DataMissing(f"{source} holds no {symbol} {name} nor a finer interval to build it from (it holds {held})")
    # The base interval of 3m is preferred to 5m: 15m bars are built from 3m bars everywhere.
    best = length_ms if length_ms in finer else interval_ms("3m") if interval_ms("3m") in finer else finer[-1]
    return found.klines[symbol, best]


def build(klines: Klines, to_interval_ms: int) -> Klines:
    """Aggregate to a longer interval; 1m bars go through 3m, so that sums are equal from either file."""
    base = interval_ms("3m")
    if klines.interval_ms < base < to_interval_ms and to_interval_ms % base == 0 and base % klines.interval_ms == 0:
        klines = aggregate(klines, base)
    return aggregate(klines, to_interval_ms)


def write(folder: Path | str, klines: Klines) -> Path:
    """Write `SYMBOL-INTERVAL.parquet` atomically and return its path; filled bars are not data and are left out."""
    source = {"open_time": "open_ms"}
    real = klines.filled == 0.0
    columns = {name: getattr(klines, source.get(name, name))[real] for name in FILE_COLUMNS}
    return write_table(Path(folder) / f"{klines.symbol}-{klines.interval}.parquet", columns)


def write_table(path: Path, columns: dict[str, np.ndarray]) -> Path:
    """Write int64 and float64 columns to `path` atomically, through a hidden temporary file next to it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {name: pa.int64() if column.dtype == np.int64 else pa.float64() for name, column in columns.items()}
    arrays = [
        pa.Array.from_buffers(types[name], len(column), [None, pa.py_buffer(np.ascontiguousarray(column))])
        for name, column in columns.items()
    ]
    table = pa.Table.from_arrays(arrays, schema=pa.schema(list(types.items())))

    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb", opener=opener) as file:
            pq.write_table(table, file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def data_hash(*series: Klines) -> str:
    """Return a SHA-256 over symbols, intervals and all values, which identifies the data of a report."""
    digest = hashlib.sha256()
    for klines in series:
        digest.update(f"{klines.symbol} {klines.interval_ms} {len(klines)}\n".encode())
        for name in COLUMNS:
            column = getattr(klines, name)
            if column.dtype == np.float64:  # one bit pattern for every NaN and for both zeros
                column = np.where(np.isnan(column), np.nan, column + 0.0)
            digest.update(np.ascontiguousarray(column).astype(column.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.hexdigest()
