"""The three files that TradingView can export, identified by their content.

*Chart data* has time, open, high, low and close columns, then one column per plot. A *list of trades* comes from a
strategy's report, two rows per trade. An *alerts log* is written by the alerts panel. File names are ignored, except
that a `.P` in one is a hint that the chart showed a perpetual.
"""

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from bot.core.errors import DataError, DataMissing
from bot.core.klines import INTERVALS, interval_ms
from bot.core.klines import interval_name as known_interval
from bot.core.times import HOUR_MS, MINUTE_MS
from bot.market.store import format_time
from bot.parity import i18n_terms
from bot.parity.csv_values import decimal_comma, key, number, read_text, rows_of, times_ms
from bot.parity.zones import APART_MS

MISSING: Final = "bars are missing"
_PRICES: Final = {
    name: frozenset(map(key, known))
    for name, known in (
        ("open", i18n_terms.OPEN),
        ("high", i18n_terms.HIGH),
        ("low", i18n_terms.LOW),
        ("close", i18n_terms.CLOSE),
    )
}


@dataclass(frozen=True, slots=True)
class Column:
    """One plot column of a chart: `name` as exported, `number` its position among columns of the same name (from 1)."""

    name: str
    number: int
    repeated: bool
    values: np.ndarray  # float64, NaN where empty

    @property
    def label(self) -> str:
        """The name used in a bind file: with `#2` where a name occurs more than once."""
        return f"{self.name}#{self.number}" if self.repeated else self.name


@dataclass(slots=True)
class ChartData:
    """Bars and plots of an exported chart, oldest first.

    Attributes
    ----------
    open_ms : ndarray(int64)
        Bar opens, UTC epoch ms (after `shift`).
    step_ms : int
        Interval, the usual step between bars.
    zoned : bool
        Whether the times have a zone.
    volume : ndarray(float64) or None
        None where the export has no volume column.
    columns : list of Column
    notes : list of str
        Anomalies and how they were handled.
    """

    path: Path
    open_ms: np.ndarray
    open: np.ndarray
    high: np.ndarray
    low: np.ndarray
    close: np.ndarray
    volume: np.ndarray | None
    columns: list[Column]
    step_ms: int
    zoned: bool
    header: list[str]
    notes: list[str] = field(default_factory=list)
    ticker: str | None = None  # a hint from the file's name, never used alone
    added_ms: np.ndarray | None = None  # amount added to the file's times because clocks went back

    @property
    def interval(self) -> str:
        """The exchange's name of the interval."""
        return known_interval(self.step_ms)

    @property
    def fingerprint(self) -> str:
        """The key under which a bind file is remembered: a hash of the header alone."""
        return hashlib.sha256("\x1f".join(self.header).encode()).hexdigest()[:16]


def hint_of(path: Path) -> str | None:
    """Return the ticker that TradingView puts into a file's name (`BINANCE_BTCUSDT.P, 15.csv`), or None.

    >>> hint_of(Path("BINANCE_BTCUSDT.P, 15.csv"))
    'BTCUSDT.P'
    """
    match = re.search(r"(?:^|[_ ])([A-Z0-9]{5,}(?:\.P)?)(?=[_, .]|$)", path.stem.replace("BINANCE_", " "))
    return match[1] if match else None


def _prices(header: list[str]) -> dict[str, int]:
    places: dict[str, int] = {}
    for place, name in enumerate(header):
        word = key(name)
        for price, known in _PRICES.items():
            if word in known and price not in places:
                places[price] = place
    return places


def is_chart(header: list[str]) -> bool:
    """Return whether a header is that of chart data."""
    places = _prices(header)
    return len(places) == 4 and any(key(name) in i18n_terms.TIME for name in header)


def _numbers(path: Path, name: str, cells: list[str], *, comma: bool) -> np.ndarray:
    values = np.empty(len(cells))
    for i, cell in enumerate(cells):
        try:
            values[i] = number(cell, comma=comma)
        except ValueError:
            raise DataError(f"{path}: row {i + 2}: {cell!r} in column {name!r} is no number") from None
    return values


def _whole_rows(path: Path, header: list[str], body: list[list[str]], notes: list[str]) -> list[list[str]]:
    """Return the rows with a cell for each column; a truncated last row is dropped and noted."""
    width = len(header)
    good: list[list[str]] = []
    for place, row in enumerate(body):
        if len(row) > width and any(row[width:]):
            raise DataError(f"{path}: row {place + 2} has {len(row)} cells, the header {width}: export it again")
        if len(row) < width:
            if place == len(body) - 1:
                notes.append(f"the last row (row {place + 2}) is cut off and was left out")
                continue
            raise DataError(f"{path}: row {place + 2} has {len(row)} cells, the header {width}: export it again")
        good.append(row[:width])
    return good


def _sorted(
    path: Path, times: list[int], body: list[list[str]], notes: list[str], *, zoned: bool
) -> tuple[np.ndarray, np.ndarray, list[list[str]]]:
    """Return bars oldest first, and the amount added to their times for clocks that went back.

    Newest-first order is reversed, a repeated equal row dropped. Where a chart's clocks go back, an hour occurs twice;
    from there on an hour is added, so that the times keep rising. Any other disorder is rejected.
    """
    stamps = np.array(times, np.int64)
    steps = np.diff(stamps)
    if len(stamps) > 1 and (steps <= 0).mean() > 0.9 and stamps[0] > stamps[-1]:
        stamps, body = stamps[::-1].copy(), body[::-1]
        notes.append("the rows stood newest first and were turned round")
    added = np.zeros(len(stamps), np.int64)
    hourly = len(stamps) > 2 and int(np.median(np.abs(steps))) == HOUR_MS
    folded_ms: int | None = None
    keep = np.ones(len(stamps), bool)
    for i in np.flatnonzero(np.diff(stamps) <= 0) + 1:
        back = int(stamps[i - 1] - stamps[i])
        same = body[i] == body[i - 1]
        repeated = not zoned and back < HOUR_MS and (back > 0 or (hourly and not same and i != len(stamps) - 1))
        if repeated and (folded_ms is None or stamps[i] - folded_ms > APART_MS):
            folded_ms = int(stamps[i])
            added[i:] += HOUR_MS
            notes.append(f"its clocks went back an hour after the bar of {format_time(int(stamps[i - 1]))[:16]}")
            continue
        where = f"{path}: row {i + 2} ({format_time(int(stamps[i]))})"
        if back > 0:
            raise DataError(f"{where} is earlier than the row before: the export is not in order of time")
        if not same and i != len(stamps) - 1:
            raise DataError(f"{where} has the time of the row before with other values: export it again")
        keep[i if same else i - 1] = False
        notes.append(f"the bar of {format_time(int(stamps[i]))} stands twice; the later row counts")
    return (stamps + added)[keep], added[keep], [row for row, good in zip(body, keep, strict=True) if good]


def gap_note(open_ms: np.ndarray, step_ms: int) -> list[str]:
    """Return the note on missing bars in an export, empty if none are missing."""
    gaps = np.flatnonzero(np.diff(open_ms) > step_ms)
    if not len(gaps):
        return []
    places = f"{len(gaps)} place{'s' * (len(gaps) > 1)}"
    return [f"{MISSING} at {places}, first after {format_time(int(open_ms[gaps[0]]))}"]


def read_chart(path: Path, rows: list[list[str]]) -> ChartData:
    """Read chart data from its rows (the header is the first).

    Raises
    ------
    DataMissing
        There are fewer than two bars.
    DataError
        A row or number cannot be read, or a bar is impossible (one sentence with the row).
    """
    header, body = rows[0], rows[1:]
    notes: list[str] = []
    body = _whole_rows(path, header, body, notes)
    if not body:
        raise DataMissing(f"{path} has a header but no bar: load the chart's bars and export it again")
    stamp = next(i for i, name in enumerate(header) if key(name) in i18n_terms.TIME)
    times, zoned = times_ms([row[stamp] for row in body], path=path, column=header[stamp])
    open_ms, added_ms, body = _sorted(path, times, body, notes, zoned=zoned)
    if len(open_ms) < 2:
        raise DataMissing(f"{path} has one bar: an interval cannot be told from it; export more bars")
    steps, counts = np.unique(np.diff(open_ms), return_counts=True)
    step = int(steps[np.argmax(counts)])
    known = [interval_ms(name) for name in INTERVALS]
    if step not in known:
        raise DataError(
            f"{path}: its bars are {step / MINUTE_MS:g} minutes apart, which is no interval that klines come in "
            f"({', '.join(INTERVALS)}): export a chart of 3 or 15 minutes"
        )
    off = np.flatnonzero(np.diff(open_ms) % step)
    if len(off):
        row = int(off[0]) + 1
        raise DataError(
            f"{path}: row {row + 2} ({format_time(int(open_ms[row]))}) is not a whole number of bars after the row before"
        )
    if not zoned:
        notes.append("its times carry no zone; they are read as UTC until the klines say otherwise")
    notes += gap_note(open_ms, step)
    places = _prices(header)
    comma = decimal_comma([row[i] for row in body[:200] for i in range(len(header)) if i != stamp])
    used = {stamp, *places.values()}
    volume_at = next((i for i, name in enumerate(header) if key(name) in i18n_terms.VOLUME and i not in used), None)
    price = {name: _numbers(path, header[i], [row[i] for row in body], comma=comma) for name, i in places.items()}
    volume = None
    if volume_at is not None:
        used.add(volume_at)
        volume = _numbers(path, header[volume_at], [row[volume_at] for row in body], comma=comma)
        if np.isnan(volume).all():
            volume = None
    columns: list[Column] = []
    for i, name in enumerate(header):
        if i in used:
            continue
        same = [j for j in range(len(header)) if header[j] == name and j not in used]
        cells = [row[i] for row in body]
        values = _numbers(path, name or f"column {i + 1}", cells, comma=comma)
        columns.append(Column(name or f"column {i + 1}", same.index(i) + 1, len(same) > 1, values))
    data = ChartData(
        path,
        open_ms,
        price["open"],
        price["high"],
        price["low"],
        price["close"],
        volume,
        columns,
        step,
        zoned,
        header,
        notes,
        added_ms=added_ms,
    )
    data.ticker = hint_of(path)
    _possible(data)
    return data


def _possible(data: ChartData) -> None:
    """Reject a bar that no exchange could have produced; the last one alone may lack its prices and is then dropped."""
    bad = ~(np.isfinite(data.open) & np.isfinite(data.high) & np.isfinite(data.low) & np.isfinite(data.close))
    if bad[-1] and not bad[:-1].any():
        data.notes.append("the last row has no prices yet and was left out")
        for name in ("open_ms", "added_ms", "open", "high", "low", "close"):
            setattr(data, name, getattr(data, name)[:-1])
        data.volume = None if data.volume is None else data.volume[:-1]
        data.columns = [Column(c.name, c.number, c.repeated, c.values[:-1]) for c in data.columns]
        bad = bad[:-1]
    bad |= (
        (data.high < np.maximum(data.open, data.close))
        | (data.low > np.minimum(data.open, data.close))
        | (data.low <= 0)
    )
    if data.volume is not None:
        bad |= data.volume < 0
        if (hole := np.isnan(data.volume)).any():
            data.notes.append(f"{int(hole.sum())} bars have no volume; it counts as 0 there")
            data.volume = np.where(hole, 0.0, data.volume)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise DataError(
            f"{data.path}: the bar of {format_time(int(data.open_ms[row]))} is impossible: open {data.open[row]:g}, high "
            f"{data.high[row]:g}, low {data.low[row]:g}, close {data.close[row]:g}"
        )


def unknown(path: Path, header: list[str]) -> DataError:
    """Return the error for a file that is none of the three."""
    seen = ", ".join(header[:6]) + (", ..." if len(header) > 6 else "")
    missing = ""
    places = _prices(header)
    if 0 < len(places) < 4:
        missing = f"; for chart data it lacks {', '.join(p for p in _PRICES if p not in places)}"
    elif len(places) == 4:
        missing = "; for chart data it lacks a time column"
    return DataError(
        f"{path} is no export of TradingView that is known (chart data, list of trades or alerts log): its header is "
        f"{seen!r}{missing}"
    )


def load_rows(path: Path) -> list[list[str]]:
    """Return the rows of an exported file, header first."""
    return rows_of(read_text(path), path)
