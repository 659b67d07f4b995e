"""The calendar of announcements around which the bot does not enter (strategy 3): rate decisions, inflation, jobs.

Two formats are supported. `events.csv` has the columns `time_utc,name,impact`, one event per row, times as
`2025-06-11T12:30` in UTC, impact `high`, `medium` or `low`. Of an `.ics` file, as calendars export it, each event's
`DTSTART` and `SUMMARY` are read; its impact is high unless `CATEGORIES` contains one of the three words or `PRIORITY`
sets another (1 to 4 high, 5 medium, 6 to 9 low). An all-day event has no exact time to avoid: it is placed at 00:00 UTC
with impact low. A cancelled event is skipped. The shipped `data/events.csv` contains only its header: announced dates
change, and a wrong one is worse than none, so the user enters the dates.
"""

import csv
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from bot.core.errors import ConfigError, DataError
from bot.market.store import parse_time

COLUMNS: Final = ("time_utc", "name", "impact")
IMPACTS: Final = ("high", "medium", "low")


class CalendarEvent(NamedTuple):
    """One announcement: its time (UTC epoch ms), its name, and its impact: `high`, `medium` or `low`."""

    ms: int
    name: str
    impact: str


def parse_csv(text: str, source: str) -> tuple[CalendarEvent, ...]:
    r"""Parse an `events.csv`; `source` names it in errors.

    >>> parse_csv("time_utc,name,impact\n2025-06-11T12:30,CPI,high\n", "events.csv")
    (CalendarEvent(ms=1749645000000, name='CPI', impact='high'),)

    Raises
    ------
    DataError
        The header or a row is invalid.
    """
    events = []
    rows = csv.reader(text.removeprefix("\ufeff").splitlines())
    header = tuple(word.strip() for word in next(rows, []))
    if header != COLUMNS:
        raise DataError(f"{source}: the first line must be {','.join(COLUMNS)}, not {','.join(header)!r}")
    for row in rows:
        if not any(word.strip() for word in row):
            continue
        where = f"{source}: line {rows.line_num}"
        if len(row) != len(COLUMNS):
            raise DataError(f"{where} has {len(row)} fields instead of {len(COLUMNS)} ({','.join(COLUMNS)})")
        stamp, name, impact = (word.strip() for word in row)
        if not name:
            raise DataError(f"{where} has no name")
        if impact.lower() not in IMPACTS:
            raise DataError(f"{where}: impact {impact!r} is none of {', '.join(IMPACTS)}")
        try:
            events.append(CalendarEvent(parse_time(stamp), name, impact.lower()))
        except ConfigError as error:
            raise DataError(f"{where}: {error}") from error
    return tuple(sorted(events))


def parse_ics(text: str, source: str) -> tuple[CalendarEvent, ...]:
    """Parse an iCalendar file (RFC 5545); `source` names it in errors.

    Raises
    ------
    DataError
        The file or an event is invalid.
    """
    events = []
    fields: dict[str, tuple[str, str]] | None = None  # of the open VEVENT: name -> (parameters, value)
    opened, nested = 0, 0
    for number, line in _unfolded(text):
        head, colon, value = line.partition(":")
        name, _, parameters = head.partition(";")
        # A quoted parameter may contain the colon that appeared to end the head.
        while colon and head.count('"') % 2:
            more, colon, value = value.partition(":")
            head = f"{head}:{more}"
            name, _, parameters = head.partition(";")
        name = name.upper()
        if name == "BEGIN" and value.upper() == "VEVENT":
            fields, opened, nested = {}, number, 0
        elif name == "END" and value.upper() == "VEVENT" and fields is not None:
            event = _ics_event(fields, where=f"{source}: the event at line {opened}")
            if event is not None:
                events.append(event)
            fields = None
        elif name in ("BEGIN", "END"):
            nested += 1 if name == "BEGIN" else -1  # a nested component such as an alarm has its own fields
        elif fields is not None and nested == 0:
            fields.setdefault(name, (parameters, value))
    if fields is not None:
        raise DataError(f"{source}: the event at line {opened} does not end: the file is cut off")
    if "BEGIN:VCALENDAR" not in text.upper():
        raise DataError(f"{source} is no iCalendar file: it has no BEGIN:VCALENDAR")
    return tuple(sorted(events))


def load_calendar(path: Path | str) -> tuple[CalendarEvent, ...]:
    """Read an `.ics` file (by its extension) or a CSV like `events.csv`; return the events sorted by time.

    Raises
    ------
    ConfigError
        The file does not exist.
    DataError
        It cannot be read or parsed.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"there is no event calendar {path}: set events.file, or put a header there") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the event calendar {path} cannot be read: {error}") from error
    if path.suffix.lower() == ".ics":
        return parse_ics(text, str(path))
    return parse_csv(text, str(path))


def _unfolded(text: str) -> list[tuple[int, str]]:
    """Return the logical lines with their numbers: a line that starts with whitespace continues the previous one."""
    lines: list[tuple[int, str]] = []
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        if line[:1] in (" ", "\t") and lines:
            lines[-1] = (lines[-1][0], lines[-1][1] + line[1:])
        elif line.strip():
            lines.append((number, line))
    return lines


def _ics_event(fields: dict[str, tuple[str, str]], *, where: str) -> CalendarEvent | None:
    if fields.get("STATUS", ("", ""))[1].upper() == "CANCELLED":
        return None
    if "RRULE" in fields or "RDATE" in fields:
        raise DataError(f"{where} repeats (RRULE); export it as single events")
    if "DTSTART" not in fields:
        raise DataError(f"{where} has no DTSTART")
    parameters, value = fields["DTSTART"]
    ms, whole_day = _ics_time(parameters, value, where=where)
    name = _plain(fields.get("SUMMARY", ("", ""))[1]) or "unnamed"
    return CalendarEvent(ms, name, "low" if whole_day else _ics_impact(fields, where=where))


def _ics_time(parameters: str, value: str, *, where: str) -> tuple[int, bool]:
    """Return the time (UTC epoch ms) and whether it is an all-day date; a time without zone is UTC."""
    words = dict(word.partition("=")[::2] for word in parameters.split(";") if word)
    whole_day = "T" not in value
    try:
        stamp = datetime.strptime(value.removesuffix("Z"), "%Y%m%d" if whole_day else "%Y%m%dT%H%M%S").replace(
            tzinfo=UTC
        )
        zone = words.get("TZID", "").strip('"')
        if zone and not whole_day and not value.endswith("Z"):
            stamp = stamp.replace(tzinfo=ZoneInfo(zone))
    except (ValueError, OSError, KeyError) as error:  # ZoneInfoNotFoundError is a KeyError
        given = f"{parameters}:{value}" if parameters else value
        raise DataError(f"{where}: DTSTART {given!r} cannot be read: {error}") from error
    return int(stamp.timestamp()) * 1000, whole_day


def _ics_impact(fields: dict[str, tuple[str, str]], *, where: str) -> str:
    words = fields.get("CATEGORIES", ("", ""))[1].lower().replace(",", " ").split()
    for impact in IMPACTS:
        if impact in words:
            return impact
    priority = fields.get("PRIORITY", ("", "0"))[1].strip()
    if not priority.isdigit() or int(priority) > 9:
        raise DataError(f"{where}: PRIORITY {priority!r} is not 0 to 9")
    return "high" if int(priority) < 5 else "medium" if int(priority) == 5 else "low"


def _plain(text: str) -> str:
    """Unescape a text value."""
    out, escaped = [], False
    for letter in text:
        if escaped:
            out.append(" " if letter in "nN" else letter)
            escaped = False
        elif letter == "\\":
            escaped = True
        else:
            out.append(letter)
    return "".join(out).strip()
