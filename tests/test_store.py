"""Klines and funding at rest, and what `data check` finds in a folder."""

import json
import os
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.core.errors import ConfigError, DataError, DataMissing
from bot.core.klines import COLUMNS, aggregate, fill_gaps
from bot.core.times import HOUR_MS, MINUTE_MS
from bot.market.checks import run_check
from bot.market.funding import FundingRates, load_funding, no_funding, write_funding
from bot.market.store import (
    data_hash,
    format_time,
    load,
    parse_time,
    read_file,
    scan,
    write,
)
from bot.market.tables import BULK_COLUMNS, FILE_COLUMNS
from tests.builders import BASE_MS, HIGHER_MS, START_MS, klines, without


def table(series, **changes):
    source = {"open_time": series.open_ms} | {n: getattr(series, n) for n in FILE_COLUMNS[1:]}
    return pa.table({name: value for name, value in (source | changes).items() if value is not None})


def bulk_lines(series, *, factor=1):
    for i in range(len(series)):
        row = series.kline(i)
        values = (row.open_ms * factor, row.open, row.high, row.low, row.close, row.volume, (row.close_ms - 1) * factor)
        yield ",".join(map(str, (*values, 1000.5, 7, row.taker_buy_volume, 500.25, 0)))


def equal(left, right):
    return all(np.array_equal(getattr(left, n), getattr(right, n), equal_nan=True) for n in COLUMNS)


# Time


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2023-01-01", 1_672_531_200_000),
        ("2023-01-01T12:03", 1_672_574_580_000),
        ("2023-01-01 12:03:30Z", 1_672_574_610_000),
        ("1672531200000", 1_672_531_200_000),
        (1_672_531_200_000, 1_672_531_200_000),
        ("0", 0),
    ],
)
def test_a_time_is_a_date_or_epoch_milliseconds(text, ms):
    assert parse_time(text) == ms


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2023-13-01", "2023-02-30T00:00", "1672531200", "01.01.2023", "-5", "1672531200000000"]
)
def test_anything_else_is_refused_as_a_wrong_argument(text):
    with pytest.raises(ConfigError) as caught:
        parse_time(text)

    assert caught.value.exit_code == 2


@given(st.integers(100_000_000, 4_000_000_000))
def test_a_written_time_reads_back(seconds):
    assert parse_time(format_time(seconds * 1000)) == seconds * 1000


# Reading and writing


def test_what_is_written_reads_back_bit_for_bit(tmp_path):
    series = without(klines([60_000.1, 60_000.3, 59_999.7, 0.1 + 0.2]), 2)

    path = write(tmp_path / "deep" / "er", series)

    assert path.name == "BTCUSDT-3m.parquet"
    assert equal(load(path.parent, "BTCUSDT", "3m"), series)
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name]
    assert pq.read_schema(path).names == list(FILE_COLUMNS)


def test_filler_bars_are_not_written(tmp_path):
    series = without(klines(np.arange(9) + 100.0), 4)

    write(tmp_path, fill_gaps(series)[0])

    assert equal(load(tmp_path, "BTCUSDT", "3m"), series)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    write(tmp_path, klines([1.0, 2.0]))

    def no_space(_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="no space"):
        write(tmp_path, klines([1.0, 2.0, 3.0]))

    assert [p.name for p in tmp_path.iterdir()] == ["BTCUSDT-3m.parquet"]
    assert len(read_file(tmp_path / "BTCUSDT-3m.parquet")) == 2


@pytest.mark.parametrize("absent", ["absent", "null", "nan", "null type"])
def test_a_column_that_the_source_lacks_is_nan(tmp_path, absent):
    series = klines([1.0, 2.0, 3.0])
    given_as = {
        "absent": None,
        "null": pa.array([None] * 3, pa.float64()),
        "nan": [np.nan] * 3,
        "null type": pa.nulls(3),
    }
    pq.write_table(table(series, taker_buy_volume=given_as[absent]), tmp_path / "BTCUSDT-3m.parquet")

    loaded = load(tmp_path, "BTCUSDT", "3m")

    assert np.isnan(loaded.taker_buy_volume).all()
    assert loaded.close.tolist() == [1.0, 2.0, 3.0]


def test_single_nulls_and_several_chunks_are_read_in_place(tmp_path):
    series = klines(np.arange(20) + 1.0)
    holed = [None if i % 7 == 3 else float(i) for i in range(20)]
    whole = table(series, trades=pa.array(holed, pa.float64()))
    pq.write_table(
        pa.concat_tables([whole.slice(0, 5), whole.slice(5, 9), whole.slice(14)]),
        tmp_path / "BTCUSDT-3m.parquet",
        row_group_size=3,
    )

    loaded = load(tmp_path, "BTCUSDT", "3m")

    assert np.array_equal(loaded.trades, np.array([np.nan if v is None else v for v in holed]), equal_nan=True)
    assert equal(loaded.part(0, 0), series.part(0, 0))


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("factor", [1, 1000])
def test_the_bulk_archives_csv_is_read_with_or_without_header_in_ms_or_us(tmp_path, header, factor):
    series = klines([100.5, 101.25, 99.75])
    lines = ([",".join(BULK_COLUMNS)] if header else []) + list(bulk_lines(series, factor=factor))
    (tmp_path / "BTCUSDT-3m.csv").write_text("\n".join(lines) + "\n")

    loaded = load(tmp_path, "BTCUSDT", "3m")

    assert loaded.open_ms.tolist() == series.open_ms.tolist()
    assert loaded.close.tolist() == series.close.tolist()
    assert loaded.taker_buy_volume.tolist() == series.taker_buy_volume.tolist()
    assert loaded.trades.tolist() == [7.0] * 3
    assert loaded.taker_buy_quote_volume.tolist() == [500.25] * 3


def test_empty_csv_fields_are_missing_values(tmp_path):
    (tmp_path / "BTCUSDT-1m.csv").write_text(f"open_time,open,high,low,close,volume,trades\n{START_MS},1,1,1,1,5,\n")

    loaded = load(tmp_path, "BTCUSDT", "1m")

    assert np.isnan(loaded.trades[0])
    assert loaded.volume[0] == 5.0


def test_a_missing_interval_is_built_from_a_finer_one(tmp_path):
    minutes = klines(np.arange(75) + 100.0, interval_ms=MINUTE_MS)
    write(tmp_path, minutes)

    base, higher = load(tmp_path, "BTCUSDT", "3m"), load(tmp_path, "BTCUSDT", "15m")

    assert equal(base, aggregate(minutes, BASE_MS))
    assert equal(higher, aggregate(base, HIGHER_MS))
    write(tmp_path, base)
    assert equal(load(tmp_path, "BTCUSDT", "15m"), higher)
    assert equal(load(tmp_path / "BTCUSDT-1m.parquet", "BTCUSDT", "15m"), higher)


def test_a_slice_is_on_the_open_time_from_inclusive_to_exclusive(tmp_path):
    write(tmp_path, klines(np.arange(10) + 100.0))

    part = load(tmp_path, "BTCUSDT", "3m", START_MS + BASE_MS, START_MS + 4 * BASE_MS)

    assert part.close.tolist() == [101.0, 102.0, 103.0]


def test_wanted_data_that_is_not_there_is_said_with_exit_code_3(tmp_path):
    write(tmp_path, klines([1.0, 2.0]))
    wanted = [
        (tmp_path / "none", "BTCUSDT", "3m", None),
        (tmp_path, "ETHUSDT", "3m", None),
        (tmp_path, "BTCUSDT", "1m", None),
        (tmp_path, "BTCUSDT", "3m", START_MS + HOUR_MS),
        (tmp_path / "BTCUSDT-5m.parquet", "BTCUSDT", "5m", None),
        (tmp_path / "BTCUSDT-3m.parquet", "ETHUSDT", "3m", None),
    ]

    for source, symbol, interval, start in wanted:
        with pytest.raises(DataMissing) as caught:
            load(source, symbol, interval, start)
        assert caught.value.exit_code == 3
        assert str(source) in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "row", "reason"),
    [
        ({"open_time": [0, 1, 1, 3]}, 3, "duplicate"),
        ({"open_time": [0, 2, 1, 3]}, 3, "unsorted"),
        ({"high": [9.0, 9.0, 2.5, 9.0]}, 3, "high 2.5 is below the close 3.0"),
        ({"volume": [100.0, -1.0, -1.0, 100.0]}, 2, "volume -1.0 is negative"),
        ({"close": [1.0, 2.0, 3.0, None]}, 4, "close is nan"),
    ],
)
def test_what_cannot_be_is_refused_with_the_first_offending_row(tmp_path, changes, row, reason):
    series = klines([1.0, 2.0, 3.0, 4.0])
    if "open_time" in changes:
        changes = {"open_time": [START_MS + BASE_MS * i for i in changes["open_time"]]}
    times = changes.get("open_time", series.open_ms.tolist())
    pq.write_table(table(series, **changes), tmp_path / "BTCUSDT-3m.parquet")

    with pytest.raises(DataError) as caught:
        load(tmp_path, "BTCUSDT", "3m")

    said = str(caught.value)
    assert f"row {row} (open_time {times[row - 1]}, {format_time(times[row - 1])})" in said
    assert reason in said
    assert "BTCUSDT-3m.parquet" in said
    assert caught.value.exit_code == 1


def test_a_bar_off_its_grid_is_refused(tmp_path):
    write(tmp_path, klines([1.0, 2.0], start_ms=START_MS + MINUTE_MS))

    with pytest.raises(DataError, match=r"row 1 .* does not open on the 3m grid"):
        load(tmp_path, "BTCUSDT", "3m")


def test_a_file_that_cannot_be_read_gives_one_sentence(tmp_path):
    whole = write(tmp_path, klines(np.arange(500) + 1.0)).read_bytes()
    files = {
        "A-3m.parquet": whole[: len(whole) // 2],
        "B-3m.parquet": b"",
        "C-3m.parquet": b"<html>not found</html>",
        "D-3m.csv": b"open_time,open,high,low,close,volume\n1,a,b,c,d,e\n",
        "E-3m.csv": b"1672531200000,1,2\n",
        "F-3m.csv": b"\xff\xfe\x00\x01",
        "G-3m.csv": b"open_time,open\n1672531200000,1\n",
        "H-3m.csv": b"open_time,open,high,low,close,volume\n,1,1,1,1,1\n",
    }

    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError) as caught:
            load(tmp_path, name[0], "3m")
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)
        assert not isinstance(caught.value, DataMissing)


def test_files_of_other_names_are_ignored_with_a_warning(tmp_path):
    series = klines([1.0, 2.0])
    write(tmp_path, series)
    for name in (
        "BTCUSDT-3m-taker.parquet",
        "notes.txt",
        "btcusdt-3m.parquet",
        "BTCUSDT-7m.parquet",
        ".hidden",
        "BTCUSDT-3m.csv",
    ):
        (tmp_path / name).write_bytes((tmp_path / "BTCUSDT-3m.parquet").read_bytes())
    (tmp_path / "folder-1m.parquet").mkdir()

    found = scan(tmp_path)

    assert found.symbols() == ["BTCUSDT"]
    assert found.intervals("BTCUSDT") == [BASE_MS]
    ignored = [name for name, _ in found.ignored]
    assert ignored == [
        "BTCUSDT-3m-taker.parquet",
        "BTCUSDT-3m.csv",
        "BTCUSDT-7m.parquet",
        "btcusdt-3m.parquet",
        "notes.txt",
    ]
    assert all("is ignored" in warning for warning in found.warnings())
    assert equal(load(tmp_path / "BTCUSDT-3m-taker.parquet", "BTCUSDT", "3m"), series)


def test_the_hash_tells_data_apart_and_nothing_else(tmp_path):
    series = klines([1.0, 2.0, 3.0], taker_buy_volume=[np.nan] * 3)
    changed = klines([1.0, 2.0, 3.0 + 1e-15 * 4], taker_buy_volume=[np.nan] * 3)
    write(tmp_path, series)

    assert data_hash(series) == data_hash(load(tmp_path, "BTCUSDT", "3m"))
    assert len({data_hash(series), data_hash(changed), data_hash(series.part(0, 2)), data_hash(series, series)}) == 4


# Funding


def rates(*values, start_ms=START_MS, step_ms=8 * HOUR_MS):
    times = start_ms + step_ms * np.arange(len(values), dtype=np.int64)
    return FundingRates("BTCUSDT", times, np.array(values))


def test_the_known_rate_is_the_one_settled_last(tmp_path):
    funding = rates(0.0001, -0.0002)

    assert [funding.rate_at(START_MS + ms) for ms in (-1, 0, 8 * HOUR_MS - 1, 8 * HOUR_MS)] == [
        0.0,
        0.0001,
        0.0001,
        -0.0002,
    ]


@given(st.lists(st.integers(0, 100), min_size=2, max_size=6).map(sorted))
def test_each_payment_is_counted_once_however_time_is_cut(cuts):
    funding = rates(*np.arange(10) / 1e4)
    instants = [START_MS + hours * HOUR_MS for hours in cuts]

    pieces = [p for a, b in pairwise(instants) for p in funding.payments(a, b)]

    assert pieces == funding.payments(instants[0], instants[-1])
    assert all(instants[0] < ms <= instants[-1] for ms, _ in pieces)


def test_a_rate_is_normalised_to_eight_hours_by_the_interval():
    funding = rates(0.0001, 0.0001, 0.0001, step_ms=4 * HOUR_MS)

    assert funding.interval_hours_at(START_MS + 9 * HOUR_MS) == 4
    assert funding.eight_hour_rate_at(START_MS + 9 * HOUR_MS) == pytest.approx(0.0002)
    assert funding.next_ms(START_MS) == START_MS + 4 * HOUR_MS
    assert funding.next_ms(START_MS + 9 * HOUR_MS) == START_MS + 12 * HOUR_MS


def test_funding_is_looked_for_in_the_folder_and_then_beside_it(tmp_path):
    write(tmp_path / "um", klines([1.0, 2.0]))

    missing = load_funding(tmp_path / "um", "BTCUSDT")
    write_funding(tmp_path / "funding", rates(0.0003))
    beside = load_funding(tmp_path / "um" / "BTCUSDT-3m.parquet", "BTCUSDT")
    write_funding(tmp_path / "um", rates(0.0001))
    within = load_funding(tmp_path / "um", "BTCUSDT")

    assert missing.rate_at(START_MS) == 0.0
    assert "counts as 0" in missing.warning
    assert (beside.rate_at(START_MS), beside.warning) == (0.0003, None)
    assert within.rate_at(START_MS) == 0.0001
    assert no_funding("X").payments(0, START_MS) == []


@pytest.mark.parametrize(("times", "values"), [([1, 1], [0.1, 0.1]), ([2, 1], [0.1, 0.1]), ([1, 2], [0.1, None])])
def test_impossible_funding_is_refused_with_its_row(tmp_path, times, values):
    times = [START_MS + at for at in times]
    pq.write_table(pa.table({"funding_time": times, "funding_rate": values}), tmp_path / "BTCUSDT-funding.parquet")

    with pytest.raises(DataError, match=r"row 2 \(funding_time"):
        load_funding(tmp_path, "BTCUSDT")


# data check


def test_a_sound_folder_has_no_findings(tmp_path):
    write(tmp_path, klines(np.arange(10) + 1.0))
    write_funding(tmp_path, rates(0.0001))

    report, code = run_check(tmp_path)

    assert code == 0
    assert report.lines()[-1].startswith("2 files, 11 rows, 0 findings")


def test_every_kind_of_finding_is_told_per_file(tmp_path):
    good = klines(np.arange(30) + 100.0)
    write(tmp_path, without(good, 5, 6, 20))
    bad_rows = table(
        good,
        high=np.where(np.arange(30) == 9, 1.0, good.high),
        open_time=np.where(np.arange(30) == 12, good.open_ms[11], good.open_ms),
    )
    pq.write_table(bad_rows, tmp_path / "ETHUSDT-3m.parquet")
    shuffled = np.array([0, 1, 3, 2, 4])
    pq.write_table(table(good).take(shuffled), tmp_path / "SOLUSDT-3m.parquet")
    pq.write_table(table(good).slice(0, 0), tmp_path / "XRPUSDT-3m.parquet")
    (tmp_path / "ADAUSDT-3m.parquet").write_bytes(b"PAR1")
    (tmp_path / "notes.txt").write_text("x")

    report, code = run_check(tmp_path)

    kinds = {file.file[:3]: [(f.kind, f.row) for f in file.findings] for file in report.files}
    assert code == 1
    assert kinds["BTC"] == [("gap", 6), ("gap", 19)]
    assert kinds["ETH"] == [("impossible", 10), ("duplicate", 13), ("gap", 14)]
    assert kinds["SOL"] == [("unsorted", 4)]
    assert kinds["XRP"] == [("empty", 0)]
    assert kinds["ADA"] == [("unreadable", 0)]
    assert "gap of 2 bars from 2024-01-01T00:15:00Z to 2024-01-01T00:21:00Z" in "\n".join(report.lines())
    assert json.loads(report.json())["files"][0]["findings"][0]["kind"] == "unreadable"
    assert len(report.warnings) == 1


def test_an_empty_folder_is_told_with_the_way_out(tmp_path):
    report, code = run_check(tmp_path)

    assert code == 3
    assert report.lines() == [f"{tmp_path} holds no kline file: `download` or `synth --out DIR` writes some"]


def test_a_folder_without_a_row_is_missing_data(tmp_path):
    assert run_check(tmp_path)[1] == 3
    (tmp_path / "BTCUSDT-1m.csv").write_text("")
    (tmp_path / "BTCUSDT-3m.csv").write_text(",".join(BULK_COLUMNS) + "\n")
    assert run_check(tmp_path)[1] == 3
    write(tmp_path, klines([1.0], interval_ms=HIGHER_MS))
    assert run_check(tmp_path)[1] == 1
    with pytest.raises(DataMissing):
        run_check(tmp_path / "none")


def test_only_the_first_findings_of_a_file_are_printed(tmp_path):
    write(tmp_path, without(klines(np.arange(100) + 1.0), *range(1, 99, 2)))

    report, code = run_check(tmp_path / "BTCUSDT-3m.parquet")

    assert code == 1
    assert len(report.files[0].findings) == 49
    assert report.lines()[-2] == "  and 29 more (--json lists all)"


@pytest.mark.reference
def test_the_real_files_hold_what_is_known_of_them(shared):
    spot, spot_code = run_check(shared / "klines" / "spot")
    um, um_code = run_check(shared / "klines" / "um")

    gaps = {file.file: [finding.text for finding in file.findings] for file in spot.files if file.findings}
    assert (spot_code, um_code) == (1, 0)
    assert set(gaps) == {"BTCUSDT-3m.parquet", "ETHUSDT-3m.parquet", "SOLUSDT-3m.parquet"}
    assert set(map(tuple, gaps.values())) == {("gap of 26 bars from 2023-03-24T12:42:00Z to 2023-03-24T14:00:00Z",)}
    assert len(um.warnings) == 1
    series, resets = fill_gaps(load(shared / "klines" / "spot", "BTCUSDT", "3m"))
    assert [int(series.open_ms[i]) for i in resets] == [parse_time("2023-03-24T14:00")]
    assert len(load_funding(shared / "klines" / "um", "SOLUSDT")) > 4_000
    assert len(read_file(shared / "klines" / "um" / "BTCUSDT-5m-taker.parquet")) == 52_128
