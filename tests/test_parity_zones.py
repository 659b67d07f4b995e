"""Exports in a zone whose clocks are changed in their time: laid over the klines stretch by stretch, before any other cause."""

import numpy as np
import pytest

from bot.core.errors import DataError
from bot.core.klines import make_klines
from bot.core.times import HOUR_MS
from bot.parity.align import align
from bot.parity.compare import compare
from bot.parity.exports import ChartData
from bot.parity.reading import read_export
from tests.parity_exports import CONFIG, Sheet, chart, market, save

BARS = market()
SPRING = (-5, -4)
AUTUMN = (-4, -5)


@pytest.fixture(scope="module", autouse=True)
def data_folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BOT_DATA", str(tmp_path_factory.mktemp("bot")))
        yield


@pytest.fixture(scope="module")
def um(tmp_path_factory):
    folder = tmp_path_factory.mktemp("klines") / "um"
    save(folder, BARS, market("ETHUSDT"))
    return save(folder, market(interval="15m"))


def local(ms, switch_ms, offsets):
    """Return a UTC time as the chart's clock showed it."""
    hours = offsets[0] if ms < switch_ms else offsets[1]
    return str(np.datetime64(int(ms + hours * HOUR_MS), "ms"))[:16].replace("T", " ")


def switched(bars, switch_ms, offsets, source=None):
    """Return a chart of the bars in local time."""
    made = chart(source or bars, {})
    for row, ms in zip(made.rows, bars.open_ms.tolist(), strict=True):
        row[0] = local(ms, switch_ms, offsets)
    return made


def switch_at(bars, share):
    at = int(bars.open_ms[int(len(bars) * share)])
    return at - at % HOUR_MS


def laid(path, source):
    data = read_export(path)
    assert isinstance(data, ChartData)
    prices = (data.open, data.high, data.low, data.close)
    return align(
        data.open_ms,
        prices,
        data.volume,
        step_ms=data.step_ms,
        source=source,
        zoned=data.zoned,
        added_ms=data.added_ms,
    )


def found_zones(found):
    return [(zone.from_ms, zone.offset_ms // HOUR_MS) for zone in found.zones]


@pytest.mark.parametrize("offsets", [SPRING, AUTUMN], ids=["spring", "autumn"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("interval", ["3m", "15m"])
def test_both_offsets_of_a_chart_are_found_and_every_bar_lies_on_its_own(tmp_path, um, interval, share, offsets):
    bars = market(interval=interval)
    switch = switch_at(bars, share)

    found = laid(switched(bars, switch, offsets).write(tmp_path / "a.csv"), um)

    assert found.open_ms.tolist() == bars.open_ms.tolist()
    assert found.equal.all()
    assert found_zones(found) == [(int(bars.open_ms[0]), offsets[0]), (switch, offsets[1])]
    assert f"UTC{offsets[0]:+d} h, from" in found.sentences[1]
    assert f"on UTC{offsets[1]:+d} h" in found.sentences[1]
    assert len(found.sentences) == 2


def test_a_chart_that_stands_newest_first_is_turned_round_before_its_repeated_hour_is_read(tmp_path, um):
    made = switched(BARS, switch_at(BARS, 0.4), AUTUMN)
    made.rows.reverse()

    found = laid(made.write(tmp_path / "a.csv"), um)

    assert found.open_ms.tolist() == BARS.open_ms.tolist()


def test_both_offsets_are_found_for_another_market_too(tmp_path, um):
    rng = np.random.default_rng(3)
    near = {name: getattr(BARS, name) * 1.0003 for name in ("open", "high", "low", "close")}
    near["close"] = np.clip(near["close"] * (1 + rng.normal(0, 1e-5, len(BARS))), near["low"], near["high"])
    columns = BARS.columns() | near
    other = make_klines(BARS.symbol, BARS.interval_ms, columns=columns)
    switch = switch_at(BARS, 0.3)

    found = laid(switched(BARS, switch, SPRING, other).write(tmp_path / "a.csv"), um)

    assert found_zones(found) == [(int(BARS.open_ms[0]), -5), (switch, -4)]
    assert not found.same_market
    assert "different markets" in found.sentences[-1] or "perpetual" in found.sentences[-1]


@pytest.mark.parametrize("hours", [0, -5])
def test_bars_that_are_missing_are_no_change_of_a_clock(tmp_path, um, hours):
    made = switched(BARS, 0, (0, hours))
    del made.rows[1_000:1_020]

    found = laid(made.write(tmp_path / "a.csv"), um)

    assert found_zones(found) == [(int(BARS.open_ms[0]), hours)]


def test_the_hour_that_a_clock_leaves_out_is_not_reported_as_missing_bars(tmp_path, um):
    path = switched(BARS, switch_at(BARS, 0.5), SPRING).write(tmp_path / "a.csv")

    found = compare(CONFIG, path, klines=um)

    assert not [note for note in found.report["notes"] if "missing" in note]
    assert [zone["shift_minutes"] for zone in found.report["alignment"]["zones"]] == [-300.0, -240.0]


def test_times_that_name_their_zone_may_not_go_back(tmp_path):
    made = switched(BARS, switch_at(BARS, 0.5), AUTUMN)
    for row in made.rows:
        row[0] = row[0].replace(" ", "T") + ":00Z"

    with pytest.raises(DataError, match="is earlier than the row before: the export is not in order of time"):
        read_export(made.write(tmp_path / "a.csv"))


@pytest.mark.parametrize("rows", [(200, 400), (100, 3_000)], ids=["twice in a day", "by hours"])
def test_rows_that_go_back_otherwise_are_disorder(tmp_path, rows):
    made = switched(BARS, 0, (0, 0))
    first, last = rows
    if rows == (200, 400):
        made = switched(BARS, int(BARS.open_ms[first]), AUTUMN)
        made = Sheet(made.header, [*made.rows[:last], *made.rows[last - 5 :]])
    else:
        made.rows[first], made.rows[last] = made.rows[last], made.rows[first]

    with pytest.raises(DataError, match="is earlier than the row before"):
        read_export(made.write(tmp_path / "a.csv"))


# ---- the list of trades ---------------------------------------------------------------------------------------------


def trades(path, entries, switch_ms, offsets):
    """Write a list of trades that enter at the open of a bar and leave at that of another, in local time."""
    lines = ["Trade #,Type,Signal,Date/Time,Price USDT,Contracts,Profit USDT"]
    for number, (first, last) in enumerate(entries, 1):
        for kind, place in (("Entry", first), ("Exit", last)):
            when = local(int(BARS.open_ms[place]), switch_ms, offsets)
            lines.append(f"{number},{kind} long,x,{when},{float(BARS.open[place])},0.1,1")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("offsets", [SPRING, AUTUMN], ids=["spring", "autumn"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_both_offsets_of_a_list_of_trades_are_found_and_every_entry_lies_in_its_bar(tmp_path, um, share, offsets):
    entries = [(place, place + 7) for place in range(30, len(BARS) - 20, 97)]
    switch = switch_at(BARS, share)

    found = compare(CONFIG, trades(tmp_path / "t.csv", entries, switch, offsets), klines=um).report

    assert found["export"]["entries_inside_bars"] == 1.0
    assert [zone["shift_minutes"] / 60 for zone in found["export"]["zones"]] == list(offsets)
    after = min(int(BARS.open_ms[p]) for pair in entries for p in pair if BARS.open_ms[p] >= switch)
    assert found["export"]["zones"][1]["from_ms"] == after
    assert not [sentence for sentence in found["verdict"] if "another market" in sentence]


def test_trades_in_the_hour_that_stands_twice_are_told_apart_by_the_bar_that_holds_their_price(tmp_path, um):
    switch = switch_at(BARS, 0.5)
    at = int(np.searchsorted(BARS.open_ms, switch))
    around = [(at - 17, at - 12), (at - 8, at + 3), (at + 5, at + 9), (at + 14, at + 18)]
    entries = [(place, place + 7) for place in range(30, at - 60, 97)] + around
    entries += [(place, place + 7) for place in range(at + 60, len(BARS) - 20, 97)]

    found = compare(CONFIG, trades(tmp_path / "t.csv", entries, switch, AUTUMN), klines=um).report

    assert found["export"]["entries_inside_bars"] == 1.0
    assert found["export"]["zones"][1]["from_ms"] == int(BARS.open_ms[at + 3])


def test_an_exit_before_its_entry_is_refused_where_no_clock_went_back(tmp_path, um):
    entries = [(place, place + 7) for place in range(30, 2_000, 97)]
    entries[5] = entries[5][0], entries[5][0] - 7

    with pytest.raises(DataError, match="trade 6 ends before it begins, and no clock of its zone went back"):
        compare(CONFIG, trades(tmp_path / "t.csv", entries, 0, (0, 0)), klines=um)


def test_prices_outside_their_bars_by_slippage_are_no_change_of_a_clock(tmp_path, um):
    entries = [(place, place + 7) for place in range(30, len(BARS) - 20, 97)]
    path = trades(tmp_path / "t.csv", entries, 0, (0, 0))
    rows = path.read_text().splitlines()
    for number in range(1, len(rows), 6):
        cells = rows[number].split(",")
        cells[4] = str(float(cells[4]) * 1.05)
        rows[number] = ",".join(cells)
    path.write_text("\n".join(rows) + "\n")

    found = compare(CONFIG, path, klines=um).report

    assert [zone["shift_minutes"] for zone in found["export"]["zones"]] == [0.0]
    assert any("another market" in sentence for sentence in found["verdict"])
