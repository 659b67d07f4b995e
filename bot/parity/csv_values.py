"""Cells of an exported file: text, numbers and times as TradingView writes them in any language.

The exports are CSV, but a spreadsheet may have rewritten them: a byte order mark, semicolons with decimal commas, true
minus signs, thousands separated by spaces, losses in brackets. Everything is read from the content and nothing is
guessed silently: an error names its row and column.
"""

import csv
import io
import math
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from bot.core.errors import DataError, DataMissing
from bot.parity.i18n_terms import EMPTY, MINUS, SPACES

LARGEST: Final = 200_000_000  # bytes; an export of 40,000 bars with 60 columns is 30 MB
_NUMBER: Final = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?")
_DAYS_FIRST: Final = re.compile(r"(\d{1,2})[./-](\d{1,2})[./-](\d{4})(?:[,T ]+(\d{1,2}:\d{2}(?::\d{2})?))?")
_YEAR_FIRST: Final = re.compile(
    r"(\d{4})[./-](\d{1,2})[./-](\d{1,2})(?:[,T ]+(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,6})\d*)?)?)?"
    r"\s*(Z|UTC|GMT|[-+]\d{2}:?\d{2})?",
    re.IGNORECASE,
)


def read_text(path: Path) -> str:
    """Return a file's text: UTF-8 with or without BOM, UTF-16 with BOM, else Windows-1252.

    Raises
    ------
    DataMissing
        There is no such file.
    DataError
        It is a folder, too large, unreadable or binary.
    """
    try:
        if path.is_dir():
            raise DataError(f"{path} is a folder: name one exported file")
        if path.stat().st_size > LARGEST:
            raise DataError(f"{path} has more than {LARGEST // 1_000_000} MB: no export is that large")
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataMissing(f"there is no file {path}: export it from TradingView and name it here") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif b"\0" in data[:4096]:
        raise DataError(
            f"{path} is no text: a CSV export of TradingView is wanted (not a picture, workbook or archive)"
        )
    else:
        encoding = "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def rows_of(text: str, path: Path) -> list[list[str]]:
    """Return the rows of a CSV text, cells stripped, empty rows dropped; the delimiter is detected in the header.

    Raises
    ------
    DataMissing
        The text is empty.
    DataError
        It is not valid CSV.
    """
    first = next((line for line in text.splitlines() if line.strip()), "")
    if not first:
        raise DataMissing(f"{path} is empty: export it again")
    bare = re.sub(r'"[^"]*"', "", first)
    delimiter = max(",;\t", key=bare.count)
    try:
        found = list(csv.reader(io.StringIO(text.lstrip("\ufeff\r\n ")), delimiter=delimiter, strict=False))
    except csv.Error as error:
        raise DataError(f"{path} is no CSV that can be read: {error}") from None
    return [[cell.strip() for cell in row] for row in found if any(cell.strip() for cell in row)]


def number(cell: str, *, comma: bool = False) -> float:
    """Return a cell as a number, NaN where it is empty; `ValueError` if it is neither.

    `comma` states that the file's decimal sign is a comma.

    >>> number("(124.75)"), number("−3,5", comma=True), number("1 234,5 USDT", comma=True), number("—")
    (-124.75, -3.5, 1234.5, nan)
    """
    word = cell.strip()
    if word.lower() in EMPTY:
        return math.nan
    negative = word.startswith("(") and word.endswith(")")
    word = word.strip("()").translate(MINUS)
    word = re.sub(r"(?<=\d)[\s\u00a0\u202f]*(%|[A-Z]{3,5}|[$€£₽¥])$", "", word).translate(SPACES)
    word = word.replace(".", "").replace(",", ".") if comma else word.replace(",", "")
    if not _NUMBER.fullmatch(word.lower()):
        raise ValueError(cell)
    return -float(word) if negative else float(word)


def decimal_comma(cells: list[str]) -> bool:
    """Return whether numbers use a decimal comma: detected where a comma is not followed by three digits.

    >>> decimal_comma(["16925,1", "2"]), decimal_comma(["1,234.5"]), decimal_comma(["1,234"])
    (True, False, False)
    """
    for cell in cells:
        word = cell.translate(SPACES).translate(MINUS)
        comma, point = word.rfind(","), word.rfind(".")
        if comma >= 0 and comma > point and (point >= 0 or not re.fullmatch(r"[-+]?\(?\d{1,3}(,\d{3})+\)?", word)):
            return True
    return False


def time_ms(cell: str, *, month_first: bool = False) -> tuple[int, bool]:
    """Return a cell as UTC epoch ms, and whether it has a zone; without one it is read as UTC. `ValueError` if it is no time.

    >>> time_ms("1673074800"), time_ms("2023-01-07T09:00:00+02:00"), time_ms("07.01.2023 07:00")
    ((1673074800000, True), (1673074800000, True), (1673074800000, False))
    """
    word = cell.strip()
    if word.isascii() and word.replace(".", "", 1).isdigit() and (len(word) >= 9 or word.isdigit()):
        stamp = int(float(word))
        scale = 1000 if stamp < 100_000_000_000 else 1
        if not 300_000_000_000 <= stamp * scale < 10_000_000_000_000:
            raise ValueError(cell)
        return stamp * scale, True
    if (match := _YEAR_FIRST.fullmatch(word)) is not None:
        year, month, day, hour, minute, second, fraction, zone = match.groups()
        at = datetime(int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), tzinfo=UTC)
        if zone and zone[0] in "+-":
            digits = zone[1:].replace(":", "")
            away = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
            at = at - away if zone[0] == "+" else at + away
        return int(at.timestamp()) * 1000 + int((fraction or "0").ljust(6, "0")) // 1000, zone is not None
    if (match := _DAYS_FIRST.fullmatch(word)) is not None:
        first, second_, year, clock = match.groups()
        day, month = (second_, first) if month_first else (first, second_)
        at = datetime(int(year), int(month), int(day), tzinfo=UTC)
        for part, unit in zip((clock or "0").split(":"), (3600, 60, 1), strict=False):
            at += timedelta(seconds=int(part) * unit)
        return int(at.timestamp()) * 1000, False
    raise ValueError(cell)


def times_ms(cells: list[str], *, path: Path, column: str) -> tuple[list[int], bool]:
    """Return a column of times (epoch ms), and whether all have a zone; the header is row 1.

    Raises
    ------
    DataError
        A cell is not a time.
    """
    month_first = any((m := _DAYS_FIRST.fullmatch(cell.strip())) is not None and int(m[2]) > 12 for cell in cells)
    found: list[int] = []
    zoned = True
    for row, cell in enumerate(cells, 2):
        try:
            at, said = time_ms(cell, month_first=month_first)
        except ValueError:
            raise DataError(f"{path}: row {row}: {cell!r} in column {column!r} is no time") from None
        found.append(at)
        zoned = zoned and said
    return found, zoned


def key(name: str) -> str:
    """Return a column or alert name in normal form for comparison: letters, digits, + and -, lower case.

    >>> key("Upper Money Flow Threshold "), key("HWO_Up"), key("Reversal Up (+)")
    ('uppermoneyflowthreshold', 'hwoup', 'reversalup+')
    """
    return re.sub(r"[^\w+-]|_", "", name.translate(MINUS).lower())
