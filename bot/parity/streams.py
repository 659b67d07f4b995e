"""Streams of fired alerts: which condition fired, on which symbol and interval, and when it arrived.

A stream is a webhook log (CSV or JSON lines), TradingView's own alerts log, or a folder with `events.csv` (alerts with
their times), `rates.csv` (counts with their spans) and kline files. An alert set to "once per bar close" arrives up to
about 40 seconds after the close and belongs to the bar that closed: one at 08:35:01 on 5m to the bar 08:30 to 08:35.
Alerts that cannot be assigned to a bar in this way are counted and named.

A *complete* period has all alerts of its features, so that absence counts; a *sample* has only some of those that
fired. A note that begins with "complete" marks a period as complete, as does an option.
"""

import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bot.core.errors import ConfigError, DataError, DataMissing
from bot.core.klines import interval_ms
from bot.core.times import DAY_MS
from bot.market.store import format_time, parse_time
from bot.parity.alert_names import Leaves, nearest, resolve, resolve_count
from bot.parity.alerts_log import AlertsLog, interval_of
from bot.parity.csv_values import key, number, read_text, rows_of, time_ms

LATEST_MS: Final = 60_000  # an alert later than this (or a third of a short bar) after a close is not of that close
EXAMPLES: Final = 5
_TIME: Final = ("timeutc", "time", "timestamp", "datetime", "receivedat", "received", "firedat", "at", "utc")
_SYMBOL: Final = ("symbol", "ticker", "pair", "market")
_INTERVAL: Final = ("interval", "timeframe", "tf", "resolution")
_NAME: Final = ("name", "alert", "alertname", "condition", "event", "message", "signal")
_PRICE: Final = ("pricenear", "price", "close")
_INSIDE: Final = ("payload", "body", "data", "json")  # where a webhook server stores the message
_QUOTES: Final = ("USDT", "USDC", "FDUSD", "BUSD", "USD")
_STAMP: Final = r"(?:(\d{4})-)?(\d{2})-(\d{2})(?:[ T](\d{2}):(\d{2}))?"
_SPAN: Final = re.compile(rf"{_STAMP}\s*(?:\.\.\.?|to|-)\s*{_STAMP}")


@dataclass(frozen=True, slots=True)
class Fired:
    """One alert: its row in the file, arrival time (UTC epoch ms), symbol, interval, name, and the known alerts it means."""

    row: int
    at_ms: int
    symbol: str
    interval: str
    name: str
    leaves: Leaves
    note: str = ""
    price: float = math.nan


@dataclass(frozen=True, slots=True)
class Counted:
    """A count of alerts over a span of bars; `estimated` means that the span is unknown, so that only ratios count."""

    symbol: str
    interval: str
    name: str
    leaves: Leaves
    count: int
    bars: int
    from_text: str
    to_text: str
    source: str
    estimated: bool


@dataclass(slots=True)
class AlertStream:
    """The content of a file or folder of alerts."""

    path: Path
    alerts: list[Fired]
    header: list[str]
    counts: list[Counted] = field(default_factory=list)
    unknown: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        """The folder in which kline files may lie next to it."""
        return self.path if self.path.is_dir() else self.path.parent

    def groups(self) -> dict[tuple[str, str], list[Fired]]:
        """Return the alerts by symbol and interval, oldest first."""
        found: dict[tuple[str, str], list[Fired]] = {}
        for alert in sorted(self.alerts, key=lambda alert: alert.at_ms):
            found.setdefault((alert.symbol, alert.interval), []).append(alert)
        return found


def symbol_of(word: str) -> str | None:
    """Return the exchange's symbol for a chart's or a user's notation, None if it is not a symbol.

    >>> symbol_of("BINANCE:BTCUSDT.P"), symbol_of("sol"), symbol_of("ETH/USDT"), symbol_of("my coin")
    ('BTCUSDT', 'SOLUSDT', 'ETHUSDT', None)
    """
    text = word.strip().upper().split(":")[-1].split(",")[0]
    text = re.sub(r"(\.P|PERP)$", "", text).replace("/", "").replace("-", "")
    if not re.fullmatch(r"[A-Z0-9]{2,20}", text):
        return None
    return text if any(text.endswith(quote) and text != quote for quote in _QUOTES) else text + "USDT"


def bar_of(at_ms: int, step_ms: int) -> int | None:
    """Return the open of the bar that an alert belongs to, None if it did not arrive at a close.

    >>> bar_of(1786178101000, 300_000) == 1786177800000, bar_of(1786178250000, 300_000)
    (True, None)
    """
    late = at_ms % step_ms
    return at_ms - late - step_ms if late <= min(LATEST_MS, step_ms // 3) else None


# ---- reading --------------------------------------------------------------------------------------------------------


def _place(names: list[str], wanted: tuple[str, ...]) -> int | None:
    return next((names.index(word) for word in wanted if word in names), None)


def is_stream(header: list[str]) -> bool:
    """Return whether a header is a webhook log's: a time, a name, and a symbol or an interval."""
    names = [key(name) for name in header]
    found = [_place(names, wanted) is not None for wanted in (_TIME, _NAME, _SYMBOL, _INTERVAL)]
    return found[0] and found[1] and (found[2] or found[3])


def is_json_lines(text: str) -> bool:
    """Return whether a text is JSON, by its first character."""
    return text.lstrip("\ufeff \r\n\t")[:1] in ("{", "[")


@dataclass(slots=True)
class _Raw:
    """One row as text, not yet interpreted."""

    row: int
    time: str
    utc: bool
    symbol: str
    interval: str
    name: str
    note: str
    price: str


def _from_csv(path: Path, rows: list[list[str]]) -> list[_Raw]:
    header = rows[0]
    names = [key(name) for name in header]
    at = {word: _place(names, wanted) for word, wanted in _COLUMNS.items()}
    if at["time"] is None or at["name"] is None:
        missing = "a time" if at["time"] is None else "the name of the alert"
        raise DataError(
            f"{path} has no column with {missing}: a stream of alerts has time_utc, symbol, interval and name"
        )
    found = []
    for line, row in enumerate(rows[1:], 2):
        if len(row) < len(header):
            if line == len(rows):
                raise DataError(f"{path}: row {line} is cut off ({len(row)} of {len(header)} cells): delete it")
            raise DataError(f"{path}: row {line} has {len(row)} cells, the header {len(header)}: export it again")
        if any(row[len(header) :]):
            raise DataError(
                f"{path}: row {line} has {len(row)} cells, the header {len(header)}: quote cells that hold a comma"
            )
        cell = {word: row[place] if place is not None else "" for word, place in at.items()}
        zone = names[at["time"]].endswith("utc")
        found.append(
            _Raw(line, cell["time"], zone, *(cell[w] for w in ("symbol", "interval", "name", "note", "price")))
        )
    return found


_COLUMNS: Final = {
    "time": _TIME,
    "symbol": _SYMBOL,
    "interval": _INTERVAL,
    "name": _NAME,
    "note": ("note",),
    "price": _PRICE,
}


def _from_json(path: Path, text: str) -> list[_Raw]:
    lines = [(number_, line) for number_, line in enumerate(text.splitlines(), 1) if line.strip()]
    values: list[tuple[int, Any]] = []
    if text.lstrip()[:1] == "[":
        try:
            values = list(enumerate(json.loads(text), 1))
        except ValueError as error:
            raise DataError(
                f"{path} is no complete JSON list ({error}): export it again, or write one object a line"
            ) from None
    else:
        for line, word in lines:
            try:
                values.append((line, json.loads(word)))
            except ValueError:
                cut = " (the last one: it was cut off, delete it)" if line == lines[-1][0] else ""
                raise DataError(
                    f"{path}: row {line} is no complete JSON object{cut}: each line has to be one, such as "
                    '{"time": "2026-08-18T09:00:14Z", "symbol": "BTCUSDT", "interval": "15", "name": "HyperWave Signal Up"}'
                ) from None
    found = []
    for line, value in values:
        zone = False
        if not isinstance(value, dict):
            raise DataError(f"{path}: row {line} is no JSON object: each alert has to be one")
        layers = _layers(value)
        cell = {}
        for word, wanted in _COLUMNS.items():
            found_in = [(fields, name) for fields in layers for name in wanted if fields.get(name) is not None]
            fields, place = found_in[0] if found_in else ({}, "")
            cell[word] = str(fields.get(place, ""))
            if word == "time":
                zone = bool(place and place.endswith("utc"))
        for word, what in (("time", "a time"), ("name", "the name of the alert")):
            if not cell[word]:
                raise DataError(f"{path}: row {line} has no field with {what}: one of {', '.join(_COLUMNS[word])}")
        found.append(
            _Raw(line, cell["time"], zone, *(cell[w] for w in ("symbol", "interval", "name", "note", "price")))
        )
    return found


def _layers(value: dict[str, Any]) -> list[dict[str, Any]]:
    """Return an object's fields by normalised name: those of the received messages first, then the server's own."""
    outer = {key(str(name)): field_ for name, field_ in value.items()}
    layers = [outer]
    for name in _INSIDE:
        inside = next((fields[name] for fields in layers if name in fields), None)
        if isinstance(inside, str) and inside.lstrip()[:1] == "{":
            try:
                inside = json.loads(inside)
            except ValueError:
                continue
        if isinstance(inside, dict):
            layers.insert(0, {key(str(name)): field_ for name, field_ in inside.items()})
    return layers


def meant(words: str) -> str | None:
    """Return the known name in the text of an alert, None without one.

    It is the entire text, the name field of its JSON, or what follows ticker, interval and time.

    >>> meant("BINANCE:BTCUSDT.P 15 2026-08-18T09:00:14Z HWO Up"), meant('{"name": "HWO Up"}'), meant("Moon phase")
    ('HWO Up', 'HWO Up', None)
    """
    text = words.strip()
    if text[:1] == "{":
        try:
            layers = _layers(json.loads(text))
        except ValueError:
            return None
        text = next((str(fields[name]) for fields in layers for name in _NAME if fields.get(name)), "")
    left = text.split()
    while resolve(text) is None:
        if not left or not _places(left[0]):
            return None
        left = left[1:]
        text = " ".join(left)
    return text


def _places(word: str) -> bool:
    """Return whether a word of a message is a ticker, an interval or a part of a time."""
    if interval_of(word) is not None or re.fullmatch(r"[\d:.]+Z?", word):
        return True
    if re.fullmatch(r"([A-Z0-9_]+:)?[A-Z0-9]{2,}(\.P|PERP)?,?", word) and word.rstrip(",").removesuffix(".P").endswith(
        _QUOTES
    ):
        return True
    try:
        time_ms(word)
    except ValueError:
        return False
    return True


def _understood(path: Path, raw: list[_Raw], stream: AlertStream, only_interval: str | None) -> None:
    """Convert rows of text into alerts of the stream."""
    intervals = {name for row in raw if (name := interval_of(row.interval)) is not None}
    if only_interval is not None:
        intervals = {only_interval}
    for row in raw:
        where = f"{path}: row {row.row}"
        try:
            at_ms, zoned = time_ms(row.time)
        except ValueError:
            raise DataError(f"{where}: {row.time!r} is no time: write 2026-08-18T09:00:14Z") from None
        if not zoned and not row.utc:
            raise DataError(
                f"{where}: the time {row.time!r} has no zone and may be local: write it with one (2026-08-18T09:00:14Z or "
                "+02:00), or call the column time_utc when it is UTC"
            )
        symbol = symbol_of(row.symbol)
        if symbol is None:
            wrong = f"{row.symbol!r} is no symbol" if row.symbol else "the symbol is missing"
            raise DataError(f"{where}: {wrong}: write BTCUSDT, BTC or BINANCE:BTCUSDT.P")
        interval = only_interval or interval_of(row.interval) or interval_of(_ticker_interval(row.symbol))
        if interval is None and row.interval:
            raise DataError(f"{where}: {row.interval!r} is no interval: write 5m, 15 or 1h")
        if interval is None:
            if len(intervals) > 1:
                mixed = " and ".join(sorted(intervals, key=interval_ms))
                raise DataError(
                    f"{where}: the interval is missing and the file mixes {mixed}: write "
                    "it in each row, or split the file and name it with --interval"
                )
            if not intervals:
                raise DataError(
                    f"{where}: the interval of the chart is not in the file: add a column interval ({{{{interval}}}} in "
                    "the alert's message), or name it with --interval 15m"
                )
            interval = next(iter(intervals))
        name = meant(row.name)
        if name is None:
            stream.unknown[row.name] = stream.unknown.get(row.name, 0) + 1
            continue
        leaves = resolve(name) or frozenset()
        try:
            price = number(row.price)
        except ValueError:
            price = math.nan
        stream.alerts.append(Fired(row.row, at_ms, symbol, interval, name, leaves, row.note.strip(), price))


def _ticker_interval(word: str) -> str | None:
    return word.split(",")[1] if "," in word else None


def read_stream(path: Path, text: str | None = None, interval: str | None = None) -> AlertStream:
    """Read a webhook log or an events file.

    Parameters
    ----------
    text
        Its content, if already read.
    interval
        The chart's interval, for a file without one; it overrides the file's.

    Raises
    ------
    DataMissing
        Nothing in it.
    DataError
        A row cannot be interpreted: one sentence with the row and the remedy.
    """
    text = read_text(path) if text is None else text
    if is_json_lines(text):
        header, raw = ["json"], _from_json(path, text)
    else:
        rows = rows_of(text, path)
        header, raw = rows[0], _from_csv(path, rows)
    stream = AlertStream(path, [], header)
    _understood(path, raw, stream, interval)
    if not raw:
        raise DataMissing(f"{path} is a stream without an alert")
    _known_only(stream)
    return stream


def _known_only(stream: AlertStream) -> None:
    """Drop duplicate rows, and reject a stream without a known name."""
    once = {(a.at_ms, a.symbol, a.interval, a.name): a for a in stream.alerts}
    if len(once) < len(stream.alerts):
        stream.notes.append(f"{len(stream.alerts) - len(once)} rows stand twice and count once")
    stream.alerts = list(once.values())
    if not stream.alerts and stream.unknown:
        name = max(stream.unknown, key=lambda name: stream.unknown[name])
        near = nearest(name)
        meant = f" (did you mean {near!r}?)" if near else ""
        raise DataError(
            f"{stream.path}: no alert has a known name, most often {name!r}{meant}; the names are in docs/alerts.md"
        )


def of_log(log: AlertsLog) -> AlertStream:
    """Return TradingView's alerts log as a stream; alerts are identified by their name or their message."""
    stream = AlertStream(log.path, [], log.header, notes=list(log.notes))
    if log.interval is None:
        return stream
    for row, alert in enumerate(log.alerts, 2):
        name = meant(alert.name) or meant(alert.message)
        if name is None:
            words = alert.message or alert.name
            stream.unknown[words] = stream.unknown.get(words, 0) + 1
            continue
        stream.alerts.append(Fired(row, alert.at_ms, log.symbol, log.interval, name, resolve(name) or frozenset()))
    return stream


# ---- counts ---------------------------------------------------------------------------------------------------------

_COUNT_COLUMNS: Final = ("symbol", "interval", "name", "count", "bars")


def is_counts(header: list[str]) -> bool:
    """Return whether a header is that of a file of counts."""
    return set(_COUNT_COLUMNS) <= {key(name) for name in header}


def read_counts(path: Path, rows: list[list[str]], notes: list[str], unknown: dict[str, int]) -> list[Counted]:
    """Read a file of counts: symbol, interval, name, count, bars, and optionally from, to, source and note.

    Counts "(a)" and "(b)" of one name are its two sides in unknown order: they are added up. A note that contains
    "ratios only" marks an unknown span.

    Parameters
    ----------
    path
        The file, for messages.
    rows
        Its rows, header first.
    notes
        Notes of the stream.
    unknown
        Number of rows per unknown name, updated in place.

    Raises
    ------
    DataError
        A row cannot be read.
    """
    names = [key(name) for name in rows[0]]
    found: dict[tuple[str, ...], Counted] = {}
    for line, row in enumerate(rows[1:], 2):
        if len(row) < len(names):
            raise DataError(f"{path}: row {line} has {len(row)} cells, the header {len(names)}: export it again")
        cell = dict(zip(names, row, strict=False))
        symbol, interval = symbol_of(cell["symbol"]), interval_of(cell["interval"])
        if symbol is None or interval is None:
            wrong = cell["symbol"] if symbol is None else cell["interval"]
            what = "symbol: write BTCUSDT or BTC" if symbol is None else "interval: write 5m, 15m or 1h"
            raise DataError(f"{path}: row {line}: {wrong!r} is no {what}")
        try:
            count, bars = int(cell["count"]), int(cell["bars"])
        except ValueError:
            raise DataError(f"{path}: row {line}: count and bars have to be whole numbers") from None
        if count < 0 or bars <= 0 or count > bars * 50:
            raise DataError(f"{path}: row {line}: {count} alerts on {bars} bars cannot be")
        leaves = resolve_count(cell["name"])
        if leaves is None:
            unknown[cell["name"]] = unknown.get(cell["name"], 0) + 1
            continue
        bare = re.sub(r"\s*\([ab]\)$", "", cell["name"])
        span = (cell.get("from", ""), cell.get("to", ""), cell.get("source", ""))
        place = (symbol, interval, bare if bare != cell["name"] else f"row {line}", *span)
        before = found[place].count if place in found else 0
        estimated = "ratios only" in cell.get("note", "").lower()
        found[place] = Counted(symbol, interval, bare, leaves, before + count, bars, *span, estimated)
    return list(found.values())


def read_folder(path: Path) -> AlertStream:
    """Read a folder with events.csv and rates.csv, at least one of them.

    Raises
    ------
    DataError
        Neither exists, or rates.csv lacks a column.
    """
    events, rates = path / "events.csv", path / "rates.csv"
    if not events.is_file() and not rates.is_file():
        raise DataError(f"{path} is a folder without events.csv or rates.csv: name one exported file, or such a folder")
    stream = read_stream(events) if events.is_file() else AlertStream(rates, [], [])
    stream.path = path
    if rates.is_file():
        rows = rows_of(read_text(rates), rates)
        if not is_counts(rows[0]):
            raise DataError(f"{rates} has no columns {', '.join(_COUNT_COLUMNS)}: give it these")
        stream.counts = read_counts(rates, rows, stream.notes, stream.unknown)
    return stream


# ---- periods --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Stretch:
    """A period of alerts of one symbol and interval, by bar: `from_ms` to `to_ms` are opens, the last one exclusive.

    `late_ms` are the delays of those that could be assigned to a bar; `unassigned` are the others.
    """

    symbol: str
    interval: str
    complete: bool
    from_ms: int
    to_ms: int
    alerts: list[tuple[Fired, int]]
    late_ms: list[int]
    unassigned: list[Fired]

    @property
    def step_ms(self) -> int:
        """Length of a bar, ms."""
        return interval_ms(self.interval)

    @property
    def label(self) -> str:
        """The display name."""
        kind = "complete" if self.complete else "sample"
        return (
            f"{self.symbol} {self.interval} {kind} {format_time(self.from_ms)[:16]} to {format_time(self.to_ms)[:16]}"
        )


def _note_span(note: str, year: int) -> tuple[int, int, bool] | None:
    """Return the span named in a note (ms; the flag: it has clock times, those of alerts); None without one."""
    match = _SPAN.search(note)
    if match is None:
        return None
    ends = []
    for part in (match.groups()[:5], match.groups()[5:]):
        years, month, day, hour, minute = part
        ends.append(parse_time(f"{years or year}-{month}-{day}T{hour or '00'}:{minute or '00'}"))
    clock = match.group(4) is not None
    return ends[0], ends[1] + (0 if match.group(9) is not None else DAY_MS), clock


def complete_option(text: str | None) -> tuple[int, int] | str | None:
    """Return the meaning of `--complete`: None, "all", or a time span (ms, the times of alerts).

    Raises
    ------
    ConfigError
        It is neither "all" nor a span that ends after it begins.

    >>> complete_option("all"), complete_option("2026-08-18T09:00..2026-08-18T10:00")
    ('all', (1787043600000, 1787047200000))
    """
    if text is None or text == "all":
        return text
    ends = text.split("..")
    if len(ends) != 2:
        raise ConfigError(f"--complete {text!r}: write all, or a span such as 2026-08-18T09:00..2026-08-19T22:00")
    found = parse_time(ends[0]), parse_time(ends[1])
    if found[0] >= found[1]:
        raise ConfigError(f"--complete {text!r}: the span ends before it begins")
    return found


def stretches_of(stream: AlertStream, complete: tuple[int, int] | str | None = None) -> list[Stretch]:
    """Return the periods of a stream: for each symbol and interval the complete ones, and the remainder as a sample."""
    found = []
    for (symbol, interval), alerts in stream.groups().items():
        step = interval_ms(interval)
        spans: list[tuple[int, int]] = []
        if complete == "all":
            spans = [(alerts[0].at_ms - alerts[0].at_ms % step - step, alerts[-1].at_ms - alerts[-1].at_ms % step)]
        elif complete is not None:
            first, last = int(complete[0]), int(complete[1])
            spans = [(-(-first // step) * step - step, last // step * step)]
        else:
            spans = _noted(alerts, step)
        left = alerts
        for first, last in spans:
            inside = [first < a.at_ms - a.at_ms % step <= last for a in left]
            own = [a for a, held in zip(left, inside, strict=True) if held]
            left = [a for a, held in zip(left, inside, strict=True) if not held]
            found.append(_stretch(symbol, interval, own, complete=True, span=(first, last)))
        if left:
            found.append(_stretch(symbol, interval, left, complete=False, span=None))
    return found


def _noted(alerts: list[Fired], step: int) -> list[tuple[int, int]]:
    """Return the spans (opens, the last exclusive) that notes call complete, extended to the alerts that carry the note."""
    groups: dict[str, list[Fired]] = {}
    for alert in alerts:
        if alert.note.lower().startswith("complete"):
            groups.setdefault(alert.note, []).append(alert)
    spans = []
    for note, own in groups.items():
        first, last = (own[0].at_ms // step * step - step, own[-1].at_ms // step * step)
        named = _note_span(note, int(format_time(own[0].at_ms)[:4]))
        if named is not None:
            start, end, clock = named
            first = min(first, start // step * step - (step if clock else 0))
            last = max(last, end // step * step)
        spans.append((first, last))
    return sorted(spans)


def _stretch(
    symbol: str, interval: str, alerts: list[Fired], *, complete: bool, span: tuple[int, int] | None
) -> Stretch:
    step = interval_ms(interval)
    placed, late, unassigned = [], [], []
    for alert in alerts:
        bar = bar_of(alert.at_ms, step)
        if bar is None:
            unassigned.append(alert)
        else:
            placed.append((alert, bar))
            late.append(alert.at_ms - bar - step)
    if span is None:
        bars = [bar for _, bar in placed] or [alert.at_ms // step * step for alert in alerts]
        span = min(bars), max(bars) + step
    return Stretch(symbol, interval, complete, *span, placed, late, unassigned)
