"""Klines at rest: one file per symbol and interval in a folder, checked at the door.

`SYMBOL-INTERVAL.parquet` (`BTCUSDT-3m.parquet`) holds `open_time` in UTC epoch ms and float64 columns; a CSV of the same
name in the layout of Binance's bulk archive is read too, with or without its header, in ms or µs. An interval that is
not there is built from a finer one. Whatever could not have happened on an exchange (rows out of order or twice, a high
below the close, a negative volume) is refused with the first row that says it: wrong data is worse than none.
"""

import hashlib
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from bot.core.errors import BotError, ConfigError, DataError, DataMissing
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

BULK_COLUMNS: Final = (
    "open_time",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "close_time",
    "quote_volume",
    "count",
    "taker_buy_volume",
    "taker_buy_quote_volume",
    "ignore",
)
FILE_COLUMNS: Final = (
    "open_time",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "quote_volume",
    "trades",
    "taker_buy_volume",
    "taker_buy_quote_volume",
)
# Stamps above this are µs (spot archives from 2025 on): as ms it would be the year 2286.
MICROSECONDS_FROM: Final = 10_000_000_000_000

_KLINE_NAME: Final = re.compile(rf"([A-Z0-9_]+)-({'|'.join(INTERVALS)})\.(parquet|csv)")
_EXPLICIT_NAME: Final = re.compile(rf"([A-Z0-9_]+)-({'|'.join(INTERVALS)})(-[A-Za-z0-9_.-]+)?\.(parquet|csv)")
_FUNDING_NAME: Final = re.compile(r"([A-Z0-9_]+)-funding\.parquet")
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2})?)?Z?")


def parse_time(text: str | int) -> int:
    """Return a point in time as UTC epoch ms.

    >>> parse_time("2023-01-01"), parse_time("2023-01-01T12:03"), parse_time("1672531200000")
    (1672531200000, 1672574580000, 1672531200000)
    """
    word = str(text).strip()
    if word.isascii() and word.isdigit():
        value = int(word)
        if 0 < value < 100_000_000_000 or value >= MICROSECONDS_FROM:
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
    """Return epoch ms as `parse_time` reads it (UTC), or the bare number beyond the calendar.

    >>> format_time(1672574580000)
    '2023-01-01T12:03:00Z'
    """
    try:
        return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return str(ms)


@dataclass(frozen=True, slots=True)
class Scan:
    """What a folder holds, by name.

    Attributes
    ----------
    folder : Path
    klines : dict of (symbol, interval in ms) to Path
    funding : dict of symbol to Path
    ignored : tuple of (file name, reason)
        Files that were left out; `warnings()` says so in sentences.
    """

    folder: Path
    klines: dict[tuple[str, int], Path]
    funding: dict[str, Path]
    ignored: tuple[tuple[str, str], ...]

    def warnings(self) -> list[str]:
        """Return one sentence per ignored file."""
        return [f"{self.folder / name} is ignored: {reason}" for name, reason in self.ignored]

    def symbols(self) -> list[str]:
        """Return the symbols with at least one kline file, sorted."""
        return sorted({symbol for symbol, _ in self.klines})

    def intervals(self, symbol: str) -> list[int]:
        """Return the intervals of `symbol` in ms, finest first."""
        return sorted(length for name, length in self.klines if name == symbol)


def scan(folder: Path | str) -> Scan:
    """Look at the names of the files in `folder` (hidden ones and folders apart); `DataMissing` if there is no such folder."""
    folder = Path(folder)
    if not folder.is_dir():
        raise DataMissing(f"there is no folder {folder}: `python -m bot synth --out DIR` makes one")
    klines: dict[tuple[str, int], Path] = {}
    funding: dict[str, Path] = {}
    ignored: list[tuple[str, str]] = []
    # Reversed, so that of two files of one series the Parquet comes before the CSV.
    for path in sorted(folder.iterdir(), reverse=True):
        if path.name.startswith(".") or not path.is_file():
            continue
        if match := _FUNDING_NAME.fullmatch(path.name):
            funding[match[1]] = path
        elif match := _KLINE_NAME.fullmatch(path.name):
            key = (match[1], interval_ms(match[2]))
            if key in klines:
                ignored.append((path.name, f"{klines[key].name} holds the same series"))
            else:
                klines[key] = path
        elif _EXPLICIT_NAME.fullmatch(path.name):
            ignored.append((path.name, "a file with a further suffix is only read when it is named itself"))
        else:
            ignored.append((path.name, "its name is not SYMBOL-INTERVAL.parquet or .csv"))
    return Scan(folder, dict(sorted(klines.items())), dict(sorted(funding.items())), tuple(sorted(ignored)))


def series_of(path: Path) -> tuple[str, int]:
    """Return symbol and interval (ms) that a file's name tells (`BTCUSDT-5m-taker.parquet`: BTCUSDT, 5m)."""
    match = _EXPLICIT_NAME.fullmatch(path.name)
    if match is None:
        raise DataError(
            f"{path}: the name does not say what it holds; call it SYMBOL-INTERVAL.parquet (BTCUSDT-3m.parquet)"
        )
    return match[1], interval_ms(match[2])


def read_raw(path: Path | str) -> Klines:
    """Read a kline file as it stands, unchecked except that every row has a time and numbers can be read.

    Raises
    ------
    DataMissing
        The file does not exist.
    DataError
        It is truncated, of another format, or lacks a column; one sentence.
    """
    path = Path(path)
    if not path.is_file():
        raise DataMissing(f"there is no file {path}")
    symbol, length_ms = series_of(path)
    table = _csv_table(path) if path.suffix == ".csv" else parquet_table(path)
    names = set(table.column_names)
    missing = [name for name in FILE_COLUMNS if name not in names and name not in OPTIONAL]
    if missing:
        raise DataError(f"{path} has no column {', '.join(missing)}: klines need {', '.join(FILE_COLUMNS[:6])}")
    columns: dict[str, Any] = {"open_ms": whole_ms(path, table, "open_time")}
    for name in FILE_COLUMNS[1:]:
        columns[name] = numbers(path, table, name) if name in names else None
    return make_klines(symbol, length_ms, columns=columns)


def read_file(path: Path | str) -> Klines:
    """Read and check one kline file; `DataError` names the first offending row."""
    path = Path(path)
    klines = read_raw(path)
    fault = first_fault(klines)
    if fault is not None:
        row, reason = fault
        raise DataError(f"{path}: {row_words(klines.open_ms, row)}: {reason}; `python -m bot data check` lists all")
    return klines


def row_words(times: np.ndarray, row: int) -> str:
    """Return how a row is named to a person: counted from 1, with its time."""
    return f"row {row + 1} (open_time {int(times[row])}, {format_time(int(times[row]))})"


def order_fault(times: np.ndarray) -> tuple[int, str] | None:
    """Return the first row that does not come after the one before, and why; or None."""
    wrong = np.flatnonzero(np.diff(times) <= 0)
    if not len(wrong):
        return None
    row = int(wrong[0]) + 1
    return row, "duplicate of the row before" if times[row] == times[
        row - 1
    ] else "unsorted, it is earlier than the row before"


def first_fault(klines: Klines) -> tuple[int, str] | None:
    """Return the first offending row (counted from 0) and its reason, or None for a sound series."""
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
    """Load one series, building it from a finer one where its own file is missing.

    Parameters
    ----------
    source : Path
        A folder, or one kline file named itself.
    symbol : str
    interval : str or int
        `"3m"`, or ms.
    from_ms, to_ms : int, optional
        First open time that is wanted, and the first that is not, UTC epoch ms.

    Raises
    ------
    DataMissing
        Nothing there (exit code 3).
    DataError
        What is there is wrong (exit code 1).
    """
    length_ms = interval if isinstance(interval, int) else interval_ms(interval)
    klines = build(read_file(_find(Path(source), symbol, length_ms)), length_ms)
    part = klines.between(from_ms, to_ms)
    if not len(part):
        first = "the start" if from_ms is None else format_time(from_ms)
        after = "the end" if to_ms is None else format_time(to_ms)
        span = f"{format_time(int(klines.open_ms[0]))} to {format_time(klines.end_ms)}" if len(klines) else "no bar"
        name = interval_name(length_ms)
        raise DataMissing(f"{source} has no {symbol} {name} bar from {first} to {after}: it holds {span}")
    return part


def _find(source: Path, symbol: str, length_ms: int) -> Path:
    """Return the file of the series itself, else of the finer one that it is built from."""
    name = interval_name(length_ms)
    if source.suffix in (".parquet", ".csv") and not source.is_dir():
        if not source.is_file():
            raise DataMissing(f"there is no file {source}")
        held, held_ms = series_of(source)
        if held != symbol or length_ms % held_ms:
            raise DataMissing(
                f"{source} holds {held} {interval_name(held_ms)}, from which {symbol} {name} cannot be had"
            )
        return source
    found = scan(source)
    finer = [ms for ms in found.intervals(symbol) if length_ms % ms == 0]
    if not finer:
        held = ", ".join(f"{s} {interval_name(ms)}" for s, ms in found.klines) or "no klines"
        raise DataMissing(f"{source} holds no {symbol} {name} nor a finer interval to build it from (it holds {held})")
    # The base interval of 3m is preferred to 5m: 15m bars are made of 3m bars everywhere.
    best = length_ms if length_ms in finer else interval_ms("3m") if interval_ms("3m") in finer else finer[-1]
    return found.klines[symbol, best]


def build(klines: Klines, to_interval_ms: int) -> Klines:
    """Aggregate to a longer interval, from 1m by way of 3m, so that sums are the same from either file."""
    base = interval_ms("3m")
    if klines.interval_ms < base < to_interval_ms and to_interval_ms % base == 0 and base % klines.interval_ms == 0:
        klines = aggregate(klines, base)
    return aggregate(klines, to_interval_ms)


def write(folder: Path | str, klines: Klines) -> Path:
    """Write `SYMBOL-INTERVAL.parquet` whole or not at all; filler bars are left out, they are no data."""
    source = {"open_time": "open_ms"}
    real = klines.filled == 0.0
    columns = {name: getattr(klines, source.get(name, name))[real] for name in FILE_COLUMNS}
    return write_table(Path(folder) / f"{klines.symbol}-{klines.interval}.parquet", columns)


def write_table(path: Path, columns: dict[str, np.ndarray]) -> Path:
    """Write int64 and float64 columns to `path` by way of a hidden file beside it, so that no reader sees a part."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {name: pa.int64() if column.dtype == np.int64 else pa.float64() for name, column in columns.items()}
    arrays = [
        pa.Array.from_buffers(types[name], len(column), [None, pa.py_buffer(np.ascontiguousarray(column))])
        for name, column in columns.items()
    ]
    table = pa.Table.from_arrays(arrays, schema=pa.schema(list(types.items())))

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            pq.write_table(table, file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def data_hash(*series: Klines) -> str:
    """Return a SHA-256 over names, intervals and all values: the identity of what a report was computed on."""
    digest = hashlib.sha256()
    for klines in series:
        digest.update(f"{klines.symbol} {klines.interval_ms} {len(klines)}\n".encode())
        for name in COLUMNS:
            column = getattr(klines, name)
            if column.dtype == np.float64:  # one bit pattern for every NaN and for both zeros
                column = np.where(np.isnan(column), np.nan, column + 0.0)
            digest.update(np.ascontiguousarray(column).astype(column.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.hexdigest()


def parquet_table(path: Path) -> Any:
    """Read a Parquet file as a pyarrow table; `DataError` in one sentence if it cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, "Parquet", error) from error


def _csv_table(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.csv as csv

    with path.open("rb") as file:
        first = file.readline(4096).decode("utf-8", errors="replace").removeprefix("\ufeff").strip()
    if not first:
        return pa.schema([(name, pa.float64()) for name in FILE_COLUMNS[:6]]).empty_table()
    header = not first[0].isdigit()
    words = [word.strip().strip('"') for word in first.split(",")] if header else list(BULK_COLUMNS)
    names = ["trades" if word == "count" else word for word in words]
    types = {name: pa.float64() for name in names} | {"open_time": pa.int64()}
    try:
        return csv.read_csv(
            path,
            read_options=csv.ReadOptions(column_names=names, skip_rows=int(header), use_threads=False),
            convert_options=csv.ConvertOptions(
                column_types=types, include_columns=[name for name in FILE_COLUMNS if name in names]
            ),
        )
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, "CSV in the layout of the bulk archive", error) from error


def unreadable(path: Path, what: str, error: Exception) -> BotError:
    """Return the one sentence for a file that its format's reader refuses."""
    detail = " ".join(str(error).split())[:160].rstrip(". ")
    return DataError(f"{path} cannot be read as {what} (truncated, or of another format): {detail}")


def whole_ms(path: Path, table: Any, name: str) -> np.ndarray:
    """Return a column of times as int64 epoch ms; stamps in µs are recognised by their size."""
    import pyarrow as pa

    column = table[name]
    try:
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.timestamp("ms"))
        column = column.cast(pa.int64())
    except pa.ArrowException as error:
        raise unreadable(path, f"klines: {name} is not a whole number of ms", error) from error
    times, valid = _values(column, np.int64)
    if not valid.all():
        raise DataError(f"{path}: row {int(np.argmin(valid)) + 1} has no {name}")
    return np.where(times > MICROSECONDS_FROM, times // 1000, times)


def numbers(path: Path, table: Any, name: str) -> np.ndarray:
    """Return a column as float64; null becomes NaN."""
    import pyarrow as pa

    try:
        column = table[name].cast(pa.float64())
    except pa.ArrowException as error:
        raise unreadable(path, f"klines: {name} is not a number", error) from error
    values, valid = _values(column, np.float64)
    return np.where(valid, values, np.nan)


def _values(column: Any, dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """Return a column's values and which of them are there, from its buffers.

    `to_numpy` would do, but it imports pandas: a quarter of a second on the way to the first decision.
    """
    values: np.ndarray = np.zeros(len(column), dtype)
    valid = np.ones(len(column), np.bool_)
    done = 0
    for chunk in column.chunks:
        bits, data = chunk.buffers()
        end, start = done + len(chunk), chunk.offset
        if data is not None:
            values[done:end] = np.frombuffer(data, dtype, count=start + len(chunk))[start:]
        if bits is not None:
            mask = np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little")
            valid[done:end] = mask[start : start + len(chunk)]
        done = end
    return values, valid
