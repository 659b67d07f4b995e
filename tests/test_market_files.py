"""Files as the archive and other sources write them: units of time, headers in their midst, months and days, funding."""

import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bot.cli import main
from bot.core.errors import DataError
from bot.core.times import HOUR_MS
from bot.market.checks import run_check
from bot.market.download import _unsettled
from bot.market.funding import FundingRates, load_funding
from bot.market.store import load, read_file, scan
from bot.market.tables import BULK_COLUMNS
from tests.builders import BASE_MS, START_MS, klines

UNITS = {"seconds": 1e-3, "ms": 1, "µs": 1_000, "ns": 1_000_000}
HEADER = ",".join(BULK_COLUMNS)
FUNDING_HEADER = "calc_time,funding_interval_hours,last_funding_rate"


def lines(bars, unit="ms"):
    factor = UNITS[unit]
    return [
        f"{int(at * factor)},{o},{h},{low},{c},{v},{int((at + BASE_MS) * factor) - 1},{q},{n},{tv},{tq},0"
        for at, o, h, low, c, v, q, n, tv, tq in zip(
            bars.open_ms.tolist(),
            bars.open.tolist(),
            bars.high.tolist(),
            bars.low.tolist(),
            bars.close.tolist(),
            bars.volume.tolist(),
            bars.quote_volume.tolist(),
            bars.trades.tolist(),
            bars.taker_buy_volume.tolist(),
            bars.taker_buy_quote_volume.tolist(),
            strict=True,
        )
    ]


def save(path, rows, end="\n"):
    text = end.join([*rows, ""])
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(path.with_suffix(".csv").name, text)
    else:
        path.write_text(text, encoding="utf-8")
    return path


def wave(middle):
    extra = {name: np.arange(60.0) for name in ("quote_volume", "trades", "taker_buy_volume", "taker_buy_quote_volume")}
    return klines(middle + np.sin(np.arange(60.0)), volume=np.full(60, 100.0), **extra)


@pytest.fixture(scope="module")
def bars():
    return wave(100.0)


@pytest.mark.parametrize("unit", UNITS)
def test_the_unit_of_a_file_is_told_by_its_numbers(tmp_path, bars, unit):
    path = save(tmp_path / "BTCUSDT-3m.csv", lines(bars, unit))

    assert read_file(path).open_ms.tolist() == bars.open_ms.tolist()


@pytest.mark.parametrize("unit", UNITS)
def test_a_parquet_file_is_read_in_any_unit_too(tmp_path, bars, unit):
    columns = {name: getattr(bars, name) for name in ("open", "high", "low", "close", "volume")}
    table = pa.table({"open_time": (bars.open_ms * UNITS[unit]).astype(np.int64), **columns})
    pq.write_table(table, tmp_path / "BTCUSDT-3m.parquet")

    assert read_file(tmp_path / "BTCUSDT-3m.parquet").open_ms.tolist() == bars.open_ms.tolist()


@pytest.mark.parametrize(("unit", "other"), [("ms", "seconds"), ("µs", "ms"), ("seconds", "ns")])
def test_two_units_in_one_file_are_refused_with_the_first_row_of_the_other(tmp_path, bars, unit, other):
    path = save(tmp_path / "BTCUSDT-3m.csv", [*lines(bars, unit)[:40], *lines(bars, other)[40:]])

    with pytest.raises(DataError, match=rf"row 41: open_time \d+ is in {other}, the rows before in {unit}"):
        read_file(path)


@pytest.mark.parametrize("stamp", ["20240101", "0", "17040672000000", "-1704067200000"])
def test_a_number_that_is_no_time_in_any_unit_is_refused_with_its_row(tmp_path, bars, stamp):
    rows = lines(bars)
    rows[7] = rows[7].replace(str(int(bars.open_ms[7])), stamp, 1)
    path = save(tmp_path / "BTCUSDT-3m.csv", rows)

    with pytest.raises(
        DataError, match=rf"row 8: open_time {stamp} is no time of 2001 to 2286 in seconds, ms, µs or ns"
    ):
        read_file(path)


@pytest.mark.parametrize("first", ["with a header", "without a header"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_headers_of_months_put_together_are_left_out(tmp_path, bars, first, end):
    rows = lines(bars)
    begin = [HEADER] if first == "with a header" else []
    path = save(
        tmp_path / "BTCUSDT-3m.csv", [*begin, *rows[:20], HEADER, *rows[20:40], f"\ufeff{HEADER}", *rows[40:]], end
    )

    assert read_file(path).open_ms.tolist() == bars.open_ms.tolist()


def test_a_line_of_words_that_is_not_the_header_is_refused(tmp_path, bars):
    rows = lines(bars)
    path = save(tmp_path / "BTCUSDT-3m.csv", [HEADER, *rows[:20], HEADER.replace("open", "first"), *rows[20:]])

    with pytest.raises(DataError, match="cannot be read as CSV in the layout of the bulk archive"):
        read_file(path)


@pytest.mark.parametrize("ending", ["csv", "zip"])
def test_the_archives_own_files_are_one_series(tmp_path, bars, ending):
    rows = lines(bars)
    save(tmp_path / f"BTCUSDT-3m-2024-01.{ending}", [HEADER, *rows[:25]])
    save(tmp_path / f"BTCUSDT-3m-2024-02.{ending}", lines(bars, "µs")[25:50])
    save(tmp_path / f"BTCUSDT-3m-2024-03-01.{ending}", [HEADER, *rows[50:]])

    found = load(tmp_path, "BTCUSDT", "3m")

    assert found.open_ms.tolist() == bars.open_ms.tolist()
    assert found.close.tolist() == bars.close.tolist()
    assert scan(tmp_path).warnings() == []


def test_a_month_and_its_days_that_hold_the_same_bars_count_them_once(tmp_path, bars):
    rows = lines(bars)
    save(tmp_path / "BTCUSDT-3m-2024-01.zip", rows[:40])
    save(tmp_path / "BTCUSDT-3m-2024-01-05.zip", rows[30:])

    assert load(tmp_path, "BTCUSDT", "3m").open_ms.tolist() == bars.open_ms.tolist()


def test_files_that_hold_different_bars_of_one_time_are_refused_with_both_names(tmp_path, bars):
    rows = lines(bars)
    save(tmp_path / "BTCUSDT-3m-2024-01.zip", rows[:40])
    save(tmp_path / "BTCUSDT-3m-2024-01-05.zip", lines(wave(101.0))[30:])

    with pytest.raises(
        DataError, match=r"BTCUSDT-3m-2024-01.zip and BTCUSDT-3m-2024-01-05.zip hold different bars of "
    ):
        load(tmp_path, "BTCUSDT", "3m")
    report, code = run_check(tmp_path)
    assert code == 1
    assert [f.kind for f in report.files[-1].findings] == ["contradiction"]


def test_a_series_own_file_comes_before_months_which_are_named_as_ignored(tmp_path, bars):
    rows = lines(bars)
    save(tmp_path / "BTCUSDT-3m.csv", rows)
    save(tmp_path / "BTCUSDT-3m-2024-01.zip", rows[:40])

    assert len(load(tmp_path, "BTCUSDT", "3m")) == 60
    assert [name for name, _ in scan(tmp_path).ignored] == ["BTCUSDT-3m-2024-01.zip"]


def test_a_zip_comes_before_what_was_taken_out_of_it(tmp_path, bars):
    save(tmp_path / "BTCUSDT-3m-2024-01.zip", lines(bars))
    save(tmp_path / "BTCUSDT-3m-2024-01.csv", lines(bars)[:10])

    assert len(load(tmp_path, "BTCUSDT", "3m")) == 60
    assert scan(tmp_path).ignored == (("BTCUSDT-3m-2024-01.csv", "BTCUSDT-3m-2024-01.zip holds the same bars"),)


def test_one_file_of_the_archive_can_be_named_itself(tmp_path, bars):
    path = save(tmp_path / "BTCUSDT-3m-2024-01-05.zip", [HEADER, *lines(bars)])

    assert len(load(path, "BTCUSDT", "15m")) == 12


@pytest.mark.parametrize("content", [b"no zip", b"PK\x03\x04 cut short"])
def test_a_damaged_zip_is_refused_in_a_sentence(tmp_path, content):
    (tmp_path / "BTCUSDT-3m-2024-01.zip").write_bytes(content)

    with pytest.raises(DataError, match=r"2024-01.zip cannot be read as zip \(truncated, or of another format\)"):
        load(tmp_path, "BTCUSDT", "3m")


def test_a_gap_between_two_months_is_a_finding(tmp_path, bars):
    rows = lines(bars)
    save(tmp_path / "BTCUSDT-3m-2024-01.csv", rows[:20])
    save(tmp_path / "BTCUSDT-3m-2024-02.csv", rows[25:])

    report, code = run_check(tmp_path)

    assert code == 1
    assert [(file.file, [f.kind for f in file.findings]) for file in report.files] == [
        ("BTCUSDT-3m-2024-01.csv", []),
        ("BTCUSDT-3m-2024-02.csv", []),
        ("BTCUSDT-3m-2024-01.csv to BTCUSDT-3m-2024-02.csv", ["gap"]),
    ]


def test_signals_are_of_the_files_time_whatever_its_unit(tmp_path, bars):
    save(tmp_path / "BTCUSDT-3m.csv", lines(bars, "ns"))
    out = tmp_path / "signals.parquet"

    with pytest.raises(SystemExit) as done:
        main(["signals", "--klines", str(tmp_path), "--out", str(out), "--quiet"])

    assert done.value.code == 0
    assert pq.read_table(out)["open_time"].to_pylist() == bars.open_ms.tolist()


def settled(hours, count, first=0):
    return [START_MS + HOUR_MS * (first + hours * i) for i in range(count)]


def test_funding_months_of_the_archive_are_joined(tmp_path):
    times = settled(4, 12)
    rows = [f"{at + 3},4,{0.0001 * i:.8f}" for i, at in enumerate(times)]
    save(tmp_path / "BTCUSDT-fundingRate-2024-01.zip", [FUNDING_HEADER, *rows[:7]])
    save(tmp_path / "BTCUSDT-fundingRate-2024-02.csv", [FUNDING_HEADER, *rows[6:9], FUNDING_HEADER, *rows[9:]])

    found = load_funding(tmp_path, "BTCUSDT")

    assert found.funding_ms.tolist() == times
    assert found.interval_hours_at(times[-1]) == 4
    assert found.warning is None
    assert len(scan(tmp_path).funding["BTCUSDT"]) == 2


def test_funding_months_that_contradict_each_other_are_refused(tmp_path):
    at = settled(8, 1)[0]
    save(tmp_path / "BTCUSDT-fundingRate-2024-01.csv", [f"{at},8,0.0001"])
    save(tmp_path / "BTCUSDT-fundingRate-2024-02.csv", [f"{at},8,0.0002"])

    with pytest.raises(DataError, match=r"2024-01.csv and BTCUSDT-fundingRate-2024-02.csv hold different rates of "):
        load_funding(tmp_path, "BTCUSDT")


@pytest.mark.parametrize("unit", UNITS)
def test_funding_is_read_in_any_unit(tmp_path, unit):
    times = settled(8, 3)
    table = pa.table({"funding_time": [int(at * UNITS[unit]) for at in times], "funding_rate": [0.1, 0.2, 0.3]})
    pq.write_table(table, tmp_path / "BTCUSDT-funding.parquet")

    assert load_funding(tmp_path, "BTCUSDT").funding_ms.tolist() == times


def asked(times, to_hours, from_hours=0):
    """Return the spans that are asked for, in hours from the start."""
    held = FundingRates("X", np.array(times, np.int64), np.zeros(len(times)))
    spans = _unsettled(held, START_MS + HOUR_MS * from_hours, START_MS + HOUR_MS * to_hours)
    return [((a - START_MS) // HOUR_MS, (b - START_MS) // HOUR_MS) for a, b in spans]


@pytest.mark.parametrize("hours", [1, 4, 8])
def test_one_settlement_that_is_missing_is_asked_for_whatever_the_interval(hours):
    times = settled(hours, 20)

    assert asked(times, 19 * hours) == []
    assert asked(times[:9] + times[10:], 19 * hours) == [(8 * hours, 10 * hours)]
    assert asked(times, 21 * hours) == [(19 * hours, 21 * hours)]
    assert asked(times[2:], 19 * hours) == [(0, 2 * hours)]


def test_a_row_of_missing_settlements_of_an_hourly_symbol_is_one_span():
    times = settled(1, 20)

    assert asked([at for at in times if (at - START_MS) // HOUR_MS not in (6, 7, 9, 10, 12)], 19) == [(5, 13)]


def test_a_change_of_the_interval_costs_one_request_and_no_more():
    assert asked([*settled(8, 6), *settled(4, 10, 44)], 80) == [(16, 40)]


def test_of_one_settlement_alone_the_interval_is_not_known_so_an_hour_counts():
    assert asked(settled(8, 1), 3) == [(0, 3)]
