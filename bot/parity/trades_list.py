"""A TradingView strategy's list of trades: two rows per trade, in any of its three header generations and languages.

Columns are found by content: the number of the trade, a type, a time, a signal, then numbers of which the first is the
price. The exit may come before the entry. An open trade has no exit, or one that is labelled as open.
"""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bot.core.errors import DataError, DataMissing
from bot.core.times import HOUR_MS
from bot.core.types import Side
from bot.parity import i18n_terms
from bot.parity.csv_values import decimal_comma, key, number, time_ms

_NUMBERED: Final = re.compile(r"\d{1,7}")


@dataclass(frozen=True, slots=True)
class ListedTrade:
    """One trade as listed; times are UTC epoch ms if the file has a zone, else as written; prices in quote units."""

    number: int
    side: Side | None
    entry_ms: int
    entry_price: float
    exit_ms: int | None
    exit_price: float | None
    qty: float
    profit: float
    signal: str


@dataclass(slots=True)
class TradesList:
    """All trades of the file by entry time, with notes on anomalies."""

    path: Path
    trades: list[ListedTrade]
    zoned: bool
    header: list[str]
    notes: list[str] = field(default_factory=list)


def _is_time(cell: str) -> bool:
    if cell.replace(".", "", 1).isdigit() and "." in cell:
        return False  # a price
    try:
        time_ms(cell)
    except ValueError:
        return False
    return not re.fullmatch(r"\d{1,8}", cell)


def _time_column(rows: list[list[str]]) -> int | None:
    for place in range(1, min(5, len(rows[0]))):
        cells = [row[place] for row in rows if len(row) > place]
        good = sum(_is_time(cell) for cell in cells)
        if cells and good >= max(1, len(cells) // 3) and all(_is_time(c) or not c[:1].isdigit() for c in cells):
            return place
    return None


def is_trades(header: list[str], body: list[list[str]]) -> bool:
    """Return whether rows are a list of trades, by the English header or by the content of the first rows."""
    first = key(header[0])
    named = first in ("trade", "tradenumber", "trade#") and len(header) >= 4
    if not body:
        return named
    sample = [row for row in body[:40] if len(row) >= 4]
    if not sample or not all(_NUMBERED.fullmatch(row[0]) for row in sample):
        return False
    return _time_column(sample) is not None and (named or not key(sample[0][1]).replace("-", "").isdigit())


def _has(word: str, known: frozenset[str]) -> bool:
    return any(part in word for part in known)


def _role(cell: str) -> tuple[str | None, Side | None]:
    """Return `entry` or `exit` and the side that a type names; None where its language is unknown."""
    word = key(cell)
    role = "exit" if _has(word, i18n_terms.EXIT) else "entry" if _has(word, i18n_terms.ENTRY) else None
    side = Side.SHORT if _has(word, i18n_terms.SHORT) else Side.LONG if _has(word, i18n_terms.LONG) else None
    return role, side


@dataclass(frozen=True, slots=True)
class _Row:
    number: int
    role: str | None
    side: Side | None
    at_ms: int | None
    price: float
    qty: float
    profit: float
    signal: str
    line: int


def _places(path: Path, header: list[str], body: list[list[str]]) -> tuple[int, int, int, int, int | None, int | None]:
    stamp = _time_column(body)
    if stamp is None:
        raise DataError(f"{path}: the list of trades has no column with times")
    texts = [i for i in (1, 2, 3) if i != stamp and i < len(header)]
    kind, signal = texts[0], texts[1] if len(texts) > 1 else texts[0]
    after = max(kind, signal, stamp) + 1
    names = [key(name) for name in header]
    price = next((i for i in range(after, len(names)) if _has(names[i], i18n_terms.PRICE)), after)
    if price >= len(header):
        raise DataError(f"{path}: the list of trades has no column with prices")
    qty = price + 1 if price + 1 < len(header) else None
    raw = [name.lower() for name in header]
    profit = next(
        (i for i in range(after, len(raw)) if i not in (price, qty) and _has(raw[i], i18n_terms.PROFIT)), None
    )
    if profit is None:  # unknown language: the first further column that can be negative
        rest = range(price + 2, len(header))
        signed = (i for i in rest if any(len(r) > i and r[i].startswith(("-", "−", "(")) for r in body))  # noqa: RUF001
        profit = next(signed, None)
    return kind, signal, stamp, price, qty, profit


def _read_row(
    path: Path,
    row: list[str],
    line: int,
    places: tuple[int, int, int, int, int | None, int | None],
    *,
    comma: bool,
    month_first: bool,
) -> tuple[_Row, bool]:
    kind, signal, stamp, price, qty, profit = places
    role, side = _role(row[kind])
    zoned, at_ms = True, None
    cell = row[stamp]
    if cell.lower() not in i18n_terms.EMPTY and key(cell) not in i18n_terms.STILL_OPEN:
        try:
            at_ms, zoned = time_ms(cell, month_first=month_first)
        except ValueError:
            raise DataError(f"{path}: row {line}: {cell!r} in column {stamp + 1} is no time") from None

    def read(place: int | None) -> float:
        if place is None or place >= len(row):
            return math.nan
        try:
            return number(row[place], comma=comma)
        except ValueError:
            raise DataError(f"{path}: row {line}: {row[place]!r} in column {place + 1} is no number") from None

    found = _Row(int(row[0]), role, side, at_ms, read(price), read(qty), read(profit), row[signal], line)
    return found, zoned


def read_trades(path: Path, rows: list[list[str]]) -> TradesList:
    """Read a list of trades from its rows, header first.

    Raises
    ------
    DataMissing
        It has no trade.
    DataError
        A row cannot be read; one sentence with the row.
    """
    header, body = rows[0], rows[1:]
    notes: list[str] = []
    if not body:
        raise DataMissing(f"{path} is a list of trades without a trade: run the strategy over a longer time")
    width = len(header)
    if len(body[-1]) < min(width, 5):
        notes.append(f"the last row (row {len(body) + 1}) is cut off and was left out")
        body = body[:-1]
    for line, row in enumerate(body, 2):
        if len(row) < min(width, 5) or not _NUMBERED.fullmatch(row[0]):
            raise DataError(
                f"{path}: row {line} is no row of a trade (it begins with {row[0]!r}): export the list again"
            )
    places = _places(path, header, body)
    comma = decimal_comma([cell for row in body[:200] for i, cell in enumerate(row) if i > max(places[:3])])
    month_first = any(re.match(r"\d{1,2}[./-](1[3-9]|2\d|3[01])[./-]\d{4}", row[places[2]]) for row in body)
    by_number: dict[int, list[_Row]] = {}
    zoned = True
    for line, row in enumerate(body, 2):
        found, said = _read_row(path, row, line, places, comma=comma, month_first=month_first)
        zoned = zoned and said
        by_number.setdefault(found.number, []).append(found)
    trades = []
    for rows_ in by_number.values():
        trade = _pair(path, rows_, notes, zoned=zoned)
        if trade is not None:
            trades.append(trade)
    if not trades:
        raise DataMissing(f"{path} has rows but no entry that can be read")
    open_ = sum(trade.exit_ms is None for trade in trades)
    if open_:
        notes.append(f"{open_} trade{'s are' if open_ > 1 else ' is'} still open")
    if not zoned:
        notes.append("its times carry no zone; they are read as UTC until the klines say otherwise")
    unknown = sum(trade.side is None for trade in trades)
    if unknown:
        notes.append(f"the side of {unknown} trades is not written in a language that is known, nor told by the profit")
    trades.sort(key=lambda trade: (trade.entry_ms, trade.number))
    return TradesList(path, trades, zoned, header, notes)


def _pair(path: Path, rows: list[_Row], notes: list[str], *, zoned: bool) -> ListedTrade | None:
    """Return a trade from its rows in either order; None for an exit whose entry is not in the list."""
    if len(rows) > 2:
        raise DataError(f"{path}: row {rows[2].line}: trade {rows[0].number} stands there more than twice")
    entries = [row for row in rows if row.role == "entry"]
    exits = [row for row in rows if row.role == "exit"]
    if not entries and not exits:  # unknown language: the entry is the earlier one
        timed = sorted((row for row in rows if row.at_ms is not None), key=lambda row: (row.at_ms or 0, -row.line))
        entries, exits = timed[:1], [row for row in rows if row not in timed[:1]]
    if len(entries) > 1:
        raise DataError(f"{path}: row {entries[1].line}: trade {rows[0].number} has two entries")
    if not entries or entries[0].at_ms is None:
        notes.append(f"trade {rows[0].number} has no entry row and was left out")
        return None
    entry, left = entries[0], exits[0] if exits else None
    if left is not None and (left.at_ms is None or key(left.signal) in i18n_terms.STILL_OPEN or math.isnan(left.price)):
        left = None
    entry_ms = entries[0].at_ms
    back = 0 if zoned else HOUR_MS - 1  # where the chart's clocks go back, an exit may precede its entry
    if left is not None and left.at_ms is not None and left.at_ms < entry_ms - back:
        raise DataError(f"{path}: row {left.line}: trade {entry.number} ends before it begins")
    profit = left.profit if left is not None else entry.profit
    side = entry.side or (left.side if left is not None else None)
    if side is None and left is not None and profit and left.price != entry.price:
        side = Side.LONG if (left.price > entry.price) == (profit > 0) else Side.SHORT
    if math.isnan(entry.price):
        raise DataError(f"{path}: row {entry.line}: the entry of trade {entry.number} has no price")
    return ListedTrade(
        entry.number,
        side,
        entry_ms,
        entry.price,
        left.at_ms if left is not None else None,
        left.price if left is not None else None,
        abs(entry.qty),
        profit,
        entry.signal,
    )
