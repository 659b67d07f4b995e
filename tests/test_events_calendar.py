"""The calendar of announcements: two formats, one clear sentence for a bad row."""

import pytest

from bot.core.errors import ConfigError, DataError
from bot.market.events_calendar import CalendarEvent, load_calendar, parse_csv, parse_ics
from bot.market.store import parse_time
from tests.conftest import ROOT

HEADER = "time_utc,name,impact\n"


def ics(*events: str) -> str:
    body = "".join(f"BEGIN:VEVENT\r\n{event}\r\nEND:VEVENT\r\n" for event in events)
    return f"BEGIN:VCALENDAR\r\nVERSION:2.0\r\n{body}END:VCALENDAR\r\n"


def test_rows_come_out_sorted_by_time():
    text = HEADER + '2025-06-18T18:00,FOMC,high\n\n2025-06-11 12:30:00,"CPI, core", Medium \n'

    events = parse_csv(text, "events.csv")

    assert events == (
        CalendarEvent(parse_time("2025-06-11T12:30"), "CPI, core", "medium"),
        CalendarEvent(parse_time("2025-06-18T18:00"), "FOMC", "high"),
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "first line must be time_utc,name,impact"),
        ("time,name,impact\n", "first line must be time_utc,name,impact"),
        (HEADER + "2025-06-11T12:30,CPI\n", "line 2 has 2 fields"),
        (HEADER + "2025-06-11T12:30,CPI,high\n11.06.2025,CPI,high\n", "line 3: '11.06.2025' is no time"),
        (HEADER + "2025-02-30,CPI,high\n", "line 2: 2025-02-30 is no date"),
        (HEADER + "2025-06-11T12:30,,high\n", "line 2 has no name"),
        (HEADER + "2025-06-11T12:30,CPI,red\n", "impact 'red' is none of high, medium, low"),
    ],
)
def test_a_bad_row_is_named_in_one_sentence(text, sentence):
    with pytest.raises(DataError) as caught:
        parse_csv(text, "events.csv")

    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_calendar_events_are_read_with_their_zone_and_impact():
    text = ics(
        "DTSTART:20250618T180000Z\r\nSUMMARY:FOMC\\, rate deci\r\n sion",
        "DTSTART;TZID=America/New_York:20250611T083000\r\nSUMMARY:CPI\r\nPRIORITY:5",
        "DTSTART:20250612T123000\r\nSUMMARY:PPI\r\nCATEGORIES:Economy,Low",
        "DTSTART;VALUE=DATE:20250619\r\nSUMMARY:Juneteenth",
        "DTSTART:20250620T120000Z\r\nSUMMARY:called off\r\nSTATUS:CANCELLED",
        "DTSTART:20250621T120000Z\r\nBEGIN:VALARM\r\nDTSTART:20000101T000000Z\r\nEND:VALARM\r\nPRIORITY:9\r\nSUMMARY:x",
    )

    events = parse_ics(text, "c.ics")

    assert events == (
        CalendarEvent(parse_time("2025-06-11T12:30"), "CPI", "medium"),
        CalendarEvent(parse_time("2025-06-12T12:30"), "PPI", "low"),
        CalendarEvent(parse_time("2025-06-18T18:00"), "FOMC, rate decision", "high"),
        CalendarEvent(parse_time("2025-06-19"), "Juneteenth", "low"),
        CalendarEvent(parse_time("2025-06-21T12:00"), "x", "low"),
    )


def test_a_colon_in_a_quoted_parameter_does_not_end_the_head():
    events = parse_ics(ics('DTSTART:20250618T180000Z\r\nSUMMARY;ALTREP="http://a:1/b":FOMC'), "c.ics")

    assert events[0].name == "FOMC"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (ics("SUMMARY:x"), "the event at line 3 has no DTSTART"),
        (ics("DTSTART:tomorrow\r\nSUMMARY:x"), "DTSTART 'tomorrow' cannot be read"),
        (ics("DTSTART;TZID=Mars/Base:20250611T083000\r\nSUMMARY:x"), "cannot be read"),
        (ics("DTSTART:20250618T180000Z\r\nRRULE:FREQ=MONTHLY"), "repeats (RRULE)"),
        (ics("DTSTART:20250618T180000Z\r\nPRIORITY:urgent"), "PRIORITY 'urgent'"),
        ("BEGIN:VCALENDAR\nBEGIN:VEVENT\nDTSTART:20250618T180000Z\n", "does not end"),
        ("hello", "no BEGIN:VCALENDAR"),
    ],
)
def test_a_bad_calendar_event_is_named_in_one_sentence(text, sentence):
    with pytest.raises(DataError) as caught:
        parse_ics(text, "c.ics")

    assert sentence in str(caught.value)


def test_the_ending_tells_the_format(tmp_path):
    (tmp_path / "a.csv").write_text("\ufeff" + HEADER + "2025-06-18T18:00,FOMC,high\n", encoding="utf-8")
    (tmp_path / "a.ics").write_text(ics("DTSTART:20250618T180000Z\r\nSUMMARY:FOMC"))
    (tmp_path / "bad.csv").write_bytes(b"\xff\xfe\x00")

    assert load_calendar(tmp_path / "a.csv") == load_calendar(tmp_path / "a.ics")
    with pytest.raises(DataError, match="cannot be read"):
        load_calendar(tmp_path / "bad.csv")
    with pytest.raises(ConfigError, match=r"events\.file"):
        load_calendar(tmp_path / "none.csv")


def test_the_shipped_calendar_is_readable_and_empty():
    assert load_calendar(ROOT / "data" / "events.csv") == ()
