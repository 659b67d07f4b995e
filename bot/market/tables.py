"""Read columns of numbers from Parquet, and from CSV in the layout of Binance's bulk archive, also inside its zips.

Times are in seconds, ms, µs (spot archives from 2025 on) or ns. A file has one unit, inferred from the magnitude of its
numbers: years 2001 to 2286, with 10, 13, 16 or 19 digits. Anything else is rejected, naming the first such row.
"""

import io
import zipfile
import zlib
from pathlib import Path
from typing import Any, Final

import numpy as np

from bot.core.errors import BotError, DataError

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
# Unit, its first number (2001), and the first beyond its range (2286; ns end in 2262 with int64).
_UNITS: Final = (
    ("seconds", 10**9, 10**10),
    ("ms", 10**12, 10**13),
    ("µs", 10**15, 10**16),
    ("ns", 10**18, 2**63 - 1),
)


def parquet_table(path: Path) -> Any:
    """Read a Parquet file as a pyarrow table.

    Raises
    ------
    DataError
        The file cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, "Parquet", error) from error


def csv_table(path: Path) -> Any:
    """Read a CSV file, or the only one inside a zip, as a pyarrow table; repeated header lines are dropped.

    Raises
    ------
    DataError
        The file cannot be read.
    """
    import pyarrow as pa
    import pyarrow.csv as csv

    text = file_text(path)
    first = text[:4096].decode("utf-8", errors="replace").removeprefix("\ufeff").split("\n", 1)[0].strip()
    if not first:
        return pa.schema([(name, pa.float64()) for name in FILE_COLUMNS[:6]]).empty_table()
    header = not first[0].isdigit()
    words = [word.strip().strip('"') for word in first.split(",")] if header else list(BULK_COLUMNS)
    names = ["trades" if word == "count" else word for word in words]
    types = {name: pa.float64() for name in names} | {"open_time": pa.int64()}
    body = without_headers(text, first if header else ",".join(BULK_COLUMNS))
    if not body.strip():
        return pa.schema([(name, types[name]) for name in FILE_COLUMNS if name in names]).empty_table()
    try:
        return csv.read_csv(
            io.BytesIO(body),
            read_options=csv.ReadOptions(column_names=names, use_threads=False),
            convert_options=csv.ConvertOptions(
                column_types=types, include_columns=[name for name in FILE_COLUMNS if name in names]
            ),
        )
    except (pa.ArrowException, OSError) as error:
        raise unreadable(path, "CSV in the layout of the bulk archive", error) from error


def file_text(path: Path) -> bytes:
    """Return the content of a file, or of the only CSV inside a zip.

    Raises
    ------
    DataError
        The file cannot be read, or the zip does not contain exactly one CSV.
    """
    try:
        if path.suffix != ".zip":
            return path.read_bytes()
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".csv")]
            if len(names) != 1:
                raise DataError(f"{path} holds {len(names)} CSV files in place of one")
            return archive.read(names[0])
    except (OSError, zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError) as error:
        raise unreadable(path, "zip" if path.suffix == ".zip" else "CSV", error) from error


def without_headers(text: bytes, header: str) -> bytes:
    """Return the text without `header` lines: concatenated months contain one each."""
    line = header.encode()
    if line not in text:
        return text.removeprefix(b"\xef\xbb\xbf")
    return b"\n".join(
        row for each in text.split(b"\n") if (row := each.removeprefix(b"\xef\xbb\xbf").rstrip(b"\r")).strip() != line
    )


def unreadable(path: Path, what: str, error: Exception) -> BotError:
    """Return the error for a file that the reader of its format rejects."""
    detail = " ".join(str(error).split())[:160].rstrip(". ")
    return DataError(f"{path} cannot be read as {what} (truncated, or of another format): {detail}")


def whole_ms(path: Path, table: Any, name: str) -> np.ndarray:
    """Return a column of times as int64 epoch ms, whatever the file's unit.

    Raises
    ------
    DataError
        A value is missing, not an integer, or of no known unit.
    """
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
    return in_ms(times, str(path), name)


def in_ms(times: np.ndarray, source: str, name: str) -> np.ndarray:
    """Convert times of one unit to epoch ms.

    >>> in_ms(np.array([1704067200]), "a file", "open_time").tolist()
    [1704067200000]
    >>> in_ms(np.array([1704067200000000000]), "a file", "open_time").tolist()
    [1704067200000]

    Raises
    ------
    DataError
        A time is of no known unit, or of another than those before; the message names the first such row.
    """
    if not len(times):
        return times
    units = np.full(len(times), -1)
    for number, (_, first, after) in enumerate(_UNITS):
        units[(times >= first) & (times < after)] = number
    if (units < 0).any():
        row = int(np.argmax(units < 0))
        raise DataError(
            f"{source}: row {row + 1}: {name} {int(times[row])} is no time of 2001 to 2286 in seconds, ms, µs or ns"
        )
    if (units != units[0]).any():
        row = int(np.argmax(units != units[0]))
        raise DataError(
            f"{source}: row {row + 1}: {name} {int(times[row])} is in {_UNITS[units[row]][0]}, the rows before in "
            f"{_UNITS[units[0]][0]}: bring all of them to one unit"
        )
    power = 3 * (int(units[0]) - 1)
    return times * 1000 if power < 0 else times // 10**power


def numbers(path: Path, table: Any, name: str) -> np.ndarray:
    """Return a column as float64; null becomes NaN.

    Raises
    ------
    DataError
        A value is not a number.
    """
    import pyarrow as pa

    try:
        column = table[name].cast(pa.float64())
    except pa.ArrowException as error:
        raise unreadable(path, f"klines: {name} is not a number", error) from error
    values, valid = _values(column, np.float64)
    return np.where(valid, values, np.nan)


def _values(column: Any, dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """Return a column's values and the mask of valid (not null) ones, from its buffers.

    `to_numpy` would work too, but it imports pandas: a quarter of a second before the first decision.
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
