"""Streams of alerts are read whoever wrote them, laid over bars as they arrive, and judged with their chance level."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chi2

from bot.cli import main
from bot.config import parse
from bot.core.errors import BotError, ConfigError, DataError, DataMissing
from bot.parity import alert_names, chance
from bot.parity.alert_names import ALERTS, BY_KEY, FEATURES, nearest, resolve, resolve_count
from bot.parity.compare import compare
from bot.parity.csv_values import read_text
from bot.parity.csv_values import rows_of as csv_rows
from bot.parity.ours import changed
from bot.parity.reading import kind_of, read_export
from bot.parity.stream_bars import BarSource
from bot.parity.stream_compare import counts_of
from bot.parity.streams import AlertStream, Fired, bar_of, complete_option, meant, of_log, stretches_of
from tests.conftest import ROOT
from tests.parity_exports import CONFIG, market, save
from tests.parity_streams import fired, rows_of, thinned, write_log
from tests.test_parity_orders import log as alerts_log

DOC = (Path(__file__).resolve().parent.parent / "docs" / "alerts.md").read_text(encoding="utf-8")
BARS = market().part(0, 3000)
STEP = BARS.interval_ms
JSON = '{"time": "2026-08-18T09:00:14Z", "symbol": "BTC", "interval": "15", "name": "HWO Up"}'


@pytest.fixture(scope="module", autouse=True)
def data_folder(tmp_path_factory):
    """A data folder of this module's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BOT_DATA", str(tmp_path_factory.mktemp("bot")))
        yield


@pytest.fixture(scope="module")
def klines(tmp_path_factory):
    return save(tmp_path_factory.mktemp("klines"), BARS)


@pytest.fixture(scope="module")
def places():
    return fired(BARS)


@pytest.fixture
def truth(shared):
    """The outside truth; skipped when absent."""
    folder = shared / "truth"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent")
    return folder


@pytest.fixture(scope="module")
def compared(shared):
    """The report of the outside truth against years of klines with the default settings."""
    if not (shared / "truth").is_dir():
        pytest.skip(f"{shared / 'truth'} is absent")
    return compare(CONFIG, shared / "truth", klines=shared / "klines" / "um-long").report


def write(path, text):
    path.write_text(text)
    return path


def features(report, stretch=0):
    return {row["feature"]: row for row in report["stretches"][stretch]["features"]}


def sentences(report):
    return " | ".join(report["verdict"])


# ---- names ----------------------------------------------------------------------------------------------------------


def test_the_table_of_names_stands_in_the_documentation():
    table = DOC[DOC.index("| toolkit | alert |") :].split("\n\n")[0].splitlines()

    assert table == alert_names.document()


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("HyperWave Signal Up", "HyperWave Signal Up"),
        ("hyperwave_signal_up", "HyperWave Signal Up"),
        ("Oversold HWO Up", "HyperWave OS Signal Up"),
        ("HyperWave OB Signal Down", "HyperWave OB Signal Down"),
        ("Reversal Up +", "Reversal Up +"),
        ("Reversal Up (+)", "Reversal Up +"),
        ("Reversal Up -", "Reversal Up"),
        ("Internal Bullish BOS", "Bullish I-BOS"),
        ("Bullish Internal CHoCH+", "Bullish I-CHOCH+"),
        ("Swing Bearish Change of Character", "Bearish S-CHOCH"),
        ("LuxAlgo - Bullish Order Block Created", "Bullish OB Created"),
        ("Bearish Fair Value Gap Mitigated", "Bearish Imbalance Mitigated"),
        ("Smart Trail Switch Bullish", "Smart Trail Bullish"),
        ("Bullish Confirmation+", "Bullish Confirmation+"),
    ],
)
def test_the_makers_wordings_are_one_name(words, name):
    assert resolve(words) == {name}


def test_any_confirmation_is_the_normal_and_the_strong_one():
    feature, strong = BY_KEY["confirmation"], BY_KEY["confirmation_strong"]

    both = resolve("Any Bullish Confirmation")

    assert both == {"Bullish Confirmation", "Bullish Confirmation+"}
    assert (feature.side_of(both), strong.side_of(both)) == (0, None)
    assert (feature.side_of(resolve("Bearish Confirmation+")), strong.side_of(resolve("Bearish Confirmation+"))) == (
        1,
        1,
    )


def test_counted_names_sum_both_sides_and_unknown_ones_get_a_suggestion():
    assert resolve_count("I-CHOCH (both, plain)") == {"Bullish I-CHOCH", "Bearish I-CHOCH"}
    assert resolve_count("HyperWave OB/OS (both)") == BY_KEY["hyperwave_big"].leaves
    assert resolve("OB Created") is None  # a fired alert has a side
    assert (nearest("Bulish OB Mitigatd"), nearest("gap up and go")) == ("Bullish OB Mitigated", None)


def test_an_alert_of_a_zone_replaces_the_plain_cross(places):
    for plain, zone in (("Signal Up", "OS Signal Up"), ("Signal Down", "OB Signal Down")):
        assert not np.intersect1d(places[f"HyperWave {plain}"], places[f"HyperWave {zone}"]).size
        assert places[f"HyperWave {zone}"].size


def test_a_name_without_a_column_is_not_computed_and_says_so(klines, tmp_path, places):
    named = {alert.name for alert in ALERTS if alert.read is None}
    rows = rows_of(
        BARS, {"HyperWave Signal Up": places["HyperWave Signal Up"], "Broken Downtrendline": np.arange(700, 720)}
    )

    report = compare(CONFIG, write_log(tmp_path / "a.csv", BARS, rows), klines=klines, complete="all").report

    assert named <= {name for feature in FEATURES if not feature.computed for name in feature.leaves}
    if "Broken Downtrendline" in named:
        assert "not computed here, so not compared: Broken Downtrendline" in report["verdict"]
        assert "trend_line_break" not in features(report)


# ---- arrival and stretches ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("clock", "interval", "opens"),
    [
        ("08:35:01", 5, "08:30"),
        ("08:35:40", 5, "08:30"),
        ("08:35:00", 5, "08:30"),
        ("09:00:14", 15, "08:45"),
        ("08:37:00", 5, None),
    ],
)
def test_an_alert_belongs_to_the_bar_that_closed(clock, interval, opens):
    def ms(text):
        return int(np.datetime64(f"2026-08-08T{text}", "ms").astype(int))

    assert bar_of(ms(clock), interval * 60_000) == (ms(opens) if opens else None)


def test_a_note_makes_a_stretch_complete_and_the_rest_is_a_sample(tmp_path):
    rows = [
        "symbol,interval,time_utc,name,note",
        "BTC,15m,2026-08-18 09:30:06,HyperWave Signal Down,complete sequence 08-18 09:00 .. 08-19 22:00",
        "BTC,15m,2026-08-18 11:00:07,HyperWave Signal Up,complete sequence 08-18 09:00 .. 08-19 22:00",
        "BTC,15m,2026-08-21 11:00:07,HyperWave Signal Up,subset (long only)",
        "SOL,5m,2026-08-18 11:00:07,Bullish I-BOS,",
    ]
    stream = read_export(write(tmp_path / "a.csv", "\n".join(rows) + "\n"))

    found = stretches_of(stream)

    assert [(s.symbol, s.complete, len(s.alerts)) for s in found] == [
        ("BTCUSDT", True, 2),
        ("BTCUSDT", False, 1),
        ("SOLUSDT", False, 1),
    ]
    assert found[0].label == "BTCUSDT 15m complete 2026-08-18T08:45 to 2026-08-19T22:00"
    assert [s.complete for s in stretches_of(stream, "all")] == [True, True]
    span = complete_option("2026-08-21T11:00..2026-08-21T12:00")
    assert next((s.complete, s.to_ms - s.from_ms) for s in stretches_of(stream, span)) == (True, 5 * 900_000)
    with pytest.raises(ConfigError, match="write all, or a span"):
        complete_option("yesterday")


def test_alerts_are_parted_without_holding_each_against_each(tmp_path, monkeypatch):
    rows = ["symbol,interval,time_utc,name"] + [f"BTC,15m,2026-08-18 {hour:02d}:30:06,HWO Up" for hour in range(24)]
    stream = read_export(write(tmp_path / "a.csv", "\n".join(rows) + "\n"))
    monkeypatch.setattr(Fired, "__eq__", lambda *_: pytest.fail("years of alerts would take hours"))

    found = stretches_of(stream, complete_option("2026-08-18T09:00..2026-08-18T12:00"))

    assert [(s.complete, len(s.alerts)) for s in found] == [(True, 3), (False, 21)]


def test_what_came_at_no_close_is_reported(tmp_path, klines, places):
    rows = rows_of(BARS, {"HyperWave Signal Up": places["HyperWave Signal Up"]})
    rows[3] = (rows[3][0] + 100_000, rows[3][1])

    report = compare(CONFIG, write_log(tmp_path / "a.csv", BARS, rows), klines=klines, complete="all").report

    assert "1 alerts came at no close and belong to no bar (rows 5;" in sentences(report)
    assert report["stretches"][0]["unassigned"][0]["row"] == 5


# ---- files ----------------------------------------------------------------------------------------------------------


def test_csv_and_json_in_all_forms_say_the_same(tmp_path):
    flat = {"timestamp": "2026-08-18T09:00:14Z", "ticker": "BINANCE:BTCUSDT.P", "timeframe": "15", "alert": "HWO Up"}
    inner = {
        "received_at": "2026-08-18T09:00:14Z",
        "body": json.dumps({k: v for k, v in flat.items() if k != "timestamp"}),
    }
    files = [
        write(tmp_path / "a.csv", "time;symbol;interval;name\n1787043614;BTCUSDT;15m;HyperWave Signal Up\n"),
        write(tmp_path / "b.jsonl", json.dumps(flat) + "\n"),
        write(tmp_path / "c.jsonl", json.dumps(inner) + "\n\n"),
        write(tmp_path / "d.json", json.dumps([flat], indent=1)),
        write(tmp_path / "e.csv", 'time_utc,ticker,name\n2026-08-18 09:00:14,"BINANCE:BTCUSDT.P, 15m",hyperwave up\n'),
    ]
    found = [read_export(path) for path in files]

    assert {kind_of(stream) for stream in found} == {"alert stream"}
    assert {(a.at_ms, a.symbol, a.interval, *a.leaves) for s in found for a in s.alerts} == {
        (1787043614000, "BTCUSDT", "15m", "HyperWave Signal Up")
    }


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "a.jsonl",
            JSON + "\n" + JSON[:40],
            "row 2 is no complete JSON object (the last one: it was cut off, delete it)",
        ),
        ("a.jsonl", JSON[:40] + "\n" + JSON, "row 1 is no complete JSON object: each line has to be one, such as"),
        ("a.jsonl", '{"time": 1, "symbol": "BTC"}', "row 1 has no field with the name of the alert"),
        ("a.json", "[" + JSON, "is no complete JSON list"),
        (
            "a.csv",
            "time_utc,symbol,interval,name\n2026-08-18 09:00:14,my coin,5m,HWO Up\n",
            "row 2: 'my coin' is no symbol",
        ),
        ("a.csv", "time_utc,symbol,interval,name\n2026-08-18 09:00:14,,5m,HWO Up\n", "row 2: the symbol is missing"),
        (
            "a.csv",
            "time_utc,symbol,interval,name\n2026-08-18 09:00:14,BTC,7x,HWO Up\n",
            "row 2: '7x' is no interval: write 5m",
        ),
        (
            "a.csv",
            "time_utc,symbol,interval,name\n2026-08-18 09:00:14,BTC,5m,HWO Up\n2026-08-18 09:15:14,BTC,15m,HWO Up\n"
            "2026-08-18 09:30:14,BTC,,HWO Up\n",
            "row 4: the interval is missing and the file mixes 5m and 15m: write it in each row, or split the file",
        ),
        (
            "a.csv",
            "time_utc,symbol,name\n2026-08-18 09:00:14,BTC,HWO Up\n",
            "row 2: the interval of the chart is not in the file: add a column interval ({{interval}} in",
        ),
        (
            "a.csv",
            "time,symbol,interval,name\n2026-08-18 09:00:14,BTC,5m,HWO Up\n",
            "row 2: the time '2026-08-18 09:00:14' has no zone and may be local: write it with one",
        ),
        ("a.csv", "time_utc,symbol,interval,name\nyesterday,BTC,5m,HWO Up\n", "row 2: 'yesterday' is no time: write"),
        (
            "a.csv",
            "time_utc,symbol,interval,name\n2026-08-18 09:00:14,BTC\n",
            "row 2 is cut off (2 of 4 cells): delete it",
        ),
        (
            "a.csv",
            "time_utc,symbol,interval,name\n2026-08-18 09:00:14,BTC,5m,Bulish OB Created\n",
            "no alert has a known name, most often 'Bulish OB Created' (did you mean 'Bullish OB Created'?)",
        ),
        (
            "a.csv",
            "time_utc,symbol,interval,name\n2026-08-18 09:00:14,BTC,5m,HWO Up, Bullish\n",
            "row 2 has 5 cells, the header 4: quote cells that hold a comma",
        ),
        (
            "a.jsonl",
            '{"time": null, "symbol": "BTC", "interval": "15", "name": "HWO Up"}\n',
            "row 1 has no field with a time: one of timeutc, time",
        ),
        ("a.csv", "time_utc,symbol,interval,name\n", "is a stream without an alert"),
        (
            "rates.csv",
            "symbol,interval,name,count,bars\nBTC,5m,OB Created (both),many,10\n",
            "row 2: count and bars have to be",
        ),
        (
            "rates.csv",
            "symbol,interval,name,count,bars\nBTC,5m,OB Created (both),1000,10\n",
            "row 2: 1000 alerts on 10 bars",
        ),
    ],
)
def test_bad_input_is_refused_in_one_sentence_with_the_row_and_the_way_out(tmp_path, name, text, message):
    path = write(tmp_path / name, text)

    with pytest.raises(DataError) as refused:
        read_export(path)

    assert message in str(refused.value)
    assert str(refused.value).startswith(str(path))
    assert "\n" not in str(refused.value)


def test_a_folder_without_a_stream_and_a_time_without_klines_are_missing_data(tmp_path, klines):
    with pytest.raises(DataError, match=r"a folder without events.csv or rates.csv"):
        read_export(tmp_path)
    later = write(tmp_path / "a.csv", "time_utc,symbol,interval,name\n2029-08-18 09:00:14,BTC,15m,HWO Up\n")
    with pytest.raises(DataMissing, match=r"holds .* to .*; name klines of that time with --klines"):
        compare(CONFIG, later, klines=klines)
    other = write(tmp_path / "b.csv", "time_utc,symbol,interval,name\n2029-08-18 09:00:14,XRP,15m,HWO Up\n")
    with pytest.raises(DataMissing, match="no klines of XRPUSDT 15m or finer in"):
        compare(CONFIG, other, klines=klines)


@pytest.mark.parametrize(
    "text", ["", "\0", "[]", "{}", "[1]", "{\n", "a,b\n1,2", "time,name,symbol\n,,\n", JSON + "\0"]
)
def test_rubbish_is_refused_without_a_crash(tmp_path, text):
    with pytest.raises(BotError):
        read_export(write(tmp_path / "a.txt", text))


def test_typed_over_bars_are_read_without_volumes_and_aggregated(tmp_path):
    lines = ["open_time,open,high,low,close,volume"]
    lines += [f"{1787043600000 + i * 300_000},100,101,99,{100 + i % 2}," for i in range(30)]
    write(tmp_path / "BTCUSDT-5m.csv", "\n".join(lines) + "\n")

    bars = BarSource(CONFIG, [tmp_path]).find("BTCUSDT", "15m", [1787043600000])

    assert (len(bars.klines), bars.klines.interval, bars.has_volume) == (10, "15m", False)
    assert bars.notes == [
        "BTCUSDT-5m.csv has no volumes: they count as 0, so what is made of them (money flow, volume conditions) says nothing",
        "15m bars are made of BTCUSDT-5m.csv",
    ]


# ---- chance ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 2, 5, 27, 100, 4391])
def test_poisson_intervals_are_the_exact_ones(count):
    low, high = chance.poisson_interval(count)

    exact = (chi2.ppf(0.025, 2 * count) / 2 if count else 0.0, chi2.ppf(0.975, 2 * count + 2) / 2)
    assert (low, high) == pytest.approx(exact, rel=0.02, abs=0.03)


def test_hits_at_all_shifts_are_those_counted_one_by_one():
    rng = np.random.default_rng(1)
    found, wanted = ([np.sort(rng.choice(97, 12, replace=False)) for _ in range(2)] for _ in range(2))

    at_once = chance.Spectrum(wanted, 97).hits(found)

    one_by_one = chance.shifted_hits(found, wanted, 97, 0, np.arange(97))
    assert at_once.tolist() == one_by_one.tolist()


# ---- compare --------------------------------------------------------------------------------------------------------


def test_our_own_alerts_agree_in_all_features(tmp_path, klines, places):
    report = compare(
        CONFIG, write_log(tmp_path / "a.csv", BARS, rows_of(BARS, places)), klines=klines, complete="all"
    ).report

    rows = features(report)
    assert {"hyperwave_cross", "internal_break", "block_within", "confirmation", "smart_trail"} <= set(rows)
    for row in rows.values():
        if row["theirs"] >= 5:
            assert row["f1_0"] == 1.0 > row["chance_0"]
            assert row["verdict"] == "fires on the same bars"
            assert row["theirs_interval"][0] < row["ours"] == row["theirs"] < row["theirs_interval"][1]
    assert report["stretches"][0]["late_ms_max"] < 40_000
    assert all(row["verdict"] == "within" for row in report["stretches"][0]["ratios"])


def test_lost_alerts_cost_precision_and_alerts_a_bar_late_are_a_bar_apart(tmp_path, klines, places):
    lost = write_log(tmp_path / "a.csv", BARS, rows_of(BARS, thinned(places, 0.3)))
    late = write_log(tmp_path / "b.csv", BARS, [(at + STEP, name) for at, name in rows_of(BARS, places)])

    row = features(compare(CONFIG, lost, klines=klines, complete="all").report)["hyperwave_cross"]
    assert row["recall_0"] == 1.0
    assert row["precision_0"] == pytest.approx(0.7, abs=0.06)
    assert "times as many as the alerts" in row["verdict"]
    row = features(compare(CONFIG, late, klines=klines, complete="all").report)["confirmation"]
    assert row["f1_0"] < row["f1_1"]
    assert row["verdict"].startswith("fires a bar apart")


def test_random_times_are_no_better_than_chance(tmp_path, klines, places):
    rng = np.random.default_rng(5)
    random = {name: np.sort(rng.choice(3000, len(at), replace=False)) for name, at in places.items()}
    log = write_log(tmp_path / "a.csv", BARS, rows_of(BARS, random))

    rows = features(compare(CONFIG, log, klines=klines, complete="all").report)

    judged = [row for row in rows.values() if row["theirs"] >= 5]
    assert sum(row["verdict"].startswith("no better than chance") for row in judged) >= len(judged) - 1


def test_of_a_sample_only_recall_is_said(tmp_path, klines, places):
    rows = [row for row in rows_of(BARS, places) if row[1].startswith(("HyperWave", "Within"))]
    log = write_log(tmp_path / "a.csv", BARS, rows[::7], note="subset (long triggers)")

    report = compare(CONFIG, log, klines=klines).report

    row = features(report)["hyperwave_cross"]
    assert (row["recall_0"], "precision_0" in row, "f1_0" in row) == (1.0, False, False)
    assert row["verdict"] == "fires on the bars of the sample"
    assert "--complete means that absence counts" in sentences(report)


def test_prices_of_another_time_are_noticed(tmp_path, klines, places):
    rows = rows_of(BARS, {"HyperWave Signal Up": places["HyperWave Signal Up"]})
    close = dict(zip((BARS.open_ms + STEP).tolist(), BARS.close.tolist(), strict=True))
    for shift, fits in ((0, True), (1.05, False)):
        lines = ["time_utc,symbol,interval,name,price_near"]
        for at, name in rows:
            price = close[at - at % STEP] * (shift or 1.0)
            lines.append(f"{np.datetime64(at, 'ms')},BTCUSDT,3m,{name},{price:.1f}")
        report = compare(CONFIG, write(tmp_path / "a.csv", "\n".join(lines)), klines=klines).report

        assert ("may be of another zone" in sentences(report)) is not fits


def test_counts_are_held_against_windows_elsewhere_and_ratios_need_none(tmp_path, klines, places):
    breaks = sum(
        len(places[f"{side} I-{word}"]) for side in ("Bullish", "Bearish") for word in ("BOS", "CHOCH", "CHOCH+")
    )
    crosses = sum(len(at) for name, at in places.items() if name.startswith("HyperWave"))
    bos = len(places["Bullish I-BOS"]) + len(places["Bearish I-BOS"])
    lines = [
        "symbol,interval,name,count,from,to,bars,note",
        f"BTC,3m,I-BOS (a),{bos // 2},2031-01-01,2031-01-03,3000,",
        f"BTC,3m,I-BOS (b),{bos - bos // 2},2031-01-01,2031-01-03,3000,",
        f"BTC,3m,I-CHOCH (both),{(breaks - bos) // 2},2031-01-01,2031-01-03,3000,",
        f"BTC,3m,I-CHOCH+ (both),{breaks - bos - (breaks - bos) // 2},2031-01-01,2031-01-03,3000,",
        f"BTC,3m,HyperWave Signal Up,{crosses},2031-01-01,2031-01-02,1000,",
        "BTC,3m,HyperWave Signal Down,10,2031-01-01,2031-01-02,1000,",
        "BTC,3m,HyperWave OB/OS (both),10,2031-01-01,2031-01-02,1000,",
        "BTC,3m,Exit Signal,7,2031-01-01,2031-01-02,1000,span unknown; use ratios only",
        "BTC,3m,Confirmation family,7,2031-01-01,2031-01-02,1000,",
    ]
    path = write(tmp_path / "rates.csv", "\n".join(lines) + "\n")

    report = compare(CONFIG, path, klines=klines).report

    rates = {row["feature"]: row for row in report["rates"]}
    assert set(rates) == {
        "internal_break",
        "internal_bos",
        "internal_choch",
        "internal_choch_plus",
        "hyperwave_cross",
        "hyperwave_big",
    }
    assert rates["internal_break"]["count"] == breaks
    assert "has fewer bars than the span of the count (3,000)" in rates["internal_break"]["verdict"]
    wave = rates["hyperwave_cross"]
    assert wave["windows"] > 1
    assert wave["on"].startswith("windows of 20")
    assert wave["verdict"] == f"only {wave['factor']:.2g} of them"
    assert any(
        row["ratio"] == "BOS share of internal breaks" and row["verdict"] == "within" for row in report["ratios"]
    )
    assert [row["alert"] for row in report["unknown"]] == ["Confirmation family"]


def test_counts_of_a_time_that_is_held_are_held_against_the_same_bars(tmp_path, klines, places):
    first, last = (str(np.datetime64(int(BARS.open_ms[i]), "ms"))[:16] for i in (600, 2600))
    crosses = sum(
        int(((at >= 600) & (at < 2600)).sum()) for name, at in places.items() if name.startswith("Trend Catcher")
    )
    path = write(
        tmp_path / "rates.csv",
        f"symbol,interval,name,count,from,to,bars\nBTC,3m,Trend Catcher (both),{crosses},{first},{last},2000\n",
    )

    row = compare(CONFIG, path, klines=klines).report["rates"][0]

    assert (row["on"], row["verdict"]) == ("the same bars", "within")
    assert row["ours"] == pytest.approx(row["true"])


def test_an_alerts_log_gets_the_figures_of_its_features_too(tmp_path, klines, places):
    rows = [(at, name) for at, name in rows_of(BARS, places) if name.startswith("Smart Trail")]
    lines = ["Alert ID,Ticker,Name,Description,Time,Webhook status"]
    lines += [f'{i},"BINANCE:BTCUSDT.P, 3m",{name},,{np.datetime64(at, "ms")}Z,' for i, (at, name) in enumerate(rows)]
    path = write(
        tmp_path / "log.csv", "\n".join(reversed(lines[1:])) and "\n".join([lines[0], *reversed(lines[1:])]) + "\n"
    )

    report = compare(CONFIG, path, klines=klines, complete="all").report

    assert report["export"]["kind"] == "alerts log"
    assert features(report)["smart_trail"]["f1_0"] == 1.0
    assert "BTCUSDT 3m Smart Trail switches: fires on the same bars" in sentences(report)


def test_a_name_is_found_in_the_message_that_the_documentation_gives(tmp_path):
    message = re.search(r"`({\"time\".*?})`", (ROOT / "docs" / "alerts.md").read_text())[1]
    filled = {"timenow": "2026-08-18T09:00:14Z", "ticker": "BTCUSDT.P", "interval": "15"}
    told = re.sub(r"{{(\w+)}}", lambda match: filled[match[1]], message)
    words = [
        told,
        "BTCUSDT.P 15 2026-08-18T09:00:14Z HyperWave Signal Up",
        "BINANCE:BTCUSDT.P, 15 2026-08-18 09:00 HWO Up",
    ]
    quoted = ['"' + word.replace('"', '""') + '"' for word in words]
    lines = ["Alert ID,Ticker,Name,Description,Time"]
    lines += [
        f'1,"BINANCE:BTCUSDT.P, 15m",Any alert() call,{word},2026-08-18T{9 + i:02d}:00:14Z'
        for i, word in enumerate(quoted)
    ]
    of_the_log = of_log(read_export(write(tmp_path / "log.csv", "\n".join(lines) + "\n")))
    lines = ["time,symbol,interval,message"]
    lines += [f"2026-08-18T{9 + i:02d}:00:14Z,BTC,15,{word}" for i, word in enumerate(quoted)]
    webhook = read_export(write(tmp_path / "web.csv", "\n".join(lines) + "\n"))

    for stream in (of_the_log, webhook):
        assert [alert.leaves for alert in stream.alerts] == [frozenset({"HyperWave Signal Up"})] * 3
        assert not stream.unknown
    assert meant("Some EQH words") is meant("{") is meant("BTCUSDT") is None


def test_the_time_of_the_message_counts_before_the_time_at_which_a_server_took_it(tmp_path):
    inner = '{"time": "2026-08-18T09:00:14Z", "symbol": "BTC", "interval": "15", "name": "HWO Up"}'
    wrapped = json.dumps({"time_utc": "2026-08-18T09:03:00", "body": inner})

    stream = read_export(write(tmp_path / "a.jsonl", wrapped + "\n"))

    assert [alert.at_ms for alert in stream.alerts] == [1_787_043_614_000]


def test_an_alerts_log_of_our_own_signals_is_reported_as_before(tmp_path, klines):
    path = alerts_log(tmp_path / "a.csv", [(int(BARS.open_ms[700]) + STEP + 1500, 1)])

    report = compare(CONFIG, path, klines=klines).report

    assert "stretches" not in report
    assert set(report["alerts"]) == {"long_signal"}


def test_the_command_prints_the_tables_and_writes_the_page(tmp_path, klines, places, capsys):
    log = write_log(tmp_path / "a.csv", BARS, rows_of(BARS, places))
    options = ["compare", str(log), "--klines", str(klines), "--complete", "all"]

    for more in ([], ["--json"], ["--out", str(tmp_path / "page")]):
        with pytest.raises(SystemExit) as ended:
            main([*options, *more])
        assert ended.value.code in (None, 0)
        printed = capsys.readouterr().out
        if more == ["--json"]:
            assert json.loads(printed)["stretches"][0]["complete"] is True
        else:
            assert "HyperWave crosses" in printed
            assert "95 % / highest of 200 shifts" in " ".join(printed.split())
    assert "HyperWave crosses" in (tmp_path / "page" / "compare.html").read_text()


def test_the_interval_can_be_named_when_the_file_does_not_have_it(tmp_path, klines, places, capsys):
    rows = rows_of(BARS, {"Smart Trail Bullish": places["Smart Trail Bullish"]})
    lines = ["time_utc,symbol,name", *(f"{np.datetime64(at, 'ms')},BTC,{name}" for at, name in rows)]
    path = write(tmp_path / "a.csv", "\n".join(lines) + "\n")

    assert compare(CONFIG, path, klines=klines, interval="3m").report["export"]["interval"] == "3m"
    with pytest.raises(SystemExit) as ended:
        main(["compare", str(path), "--klines", str(klines), "--interval", "often"])
    assert ended.value.code == 2
    assert "write 5m, 15m or 1h" in capsys.readouterr().err


# ---- the outside truth ----------------------------------------------------------------------------------------------


def test_every_name_of_the_truth_is_known(truth):
    unknown = []
    for file, known in (("events.csv", resolve), ("rates.csv", resolve_count)):
        rows = csv_rows(read_text(truth / file), truth / file)
        unknown += [row[rows[0].index("name")] for row in rows[1:] if known(row[rows[0].index("name")]) is None]

    assert unknown == ["Confirmation family"]  # it counts each signal twice


def test_the_truth_is_read_with_its_stretches_and_sums(truth):
    stream = read_export(truth)

    assert isinstance(stream, AlertStream)
    assert (len(stream.alerts), len(stream.counts)) == (127, 175)
    assert not any(stretch.unassigned for stretch in stretches_of(stream))
    complete = [stretch.label for stretch in stretches_of(stream) if stretch.complete]
    assert "BTCUSDT 15m complete 2026-08-18T08:45 to 2026-08-19T22:00" in complete
    sums = {place[:2]: features for place, features in counts_of(stream.counts) if features.get("hyperwave_cross")}
    assert sums["SOLUSDT", "15m"]["hyperwave_cross"][0] in (2 * 537, 407 + 398 + 160)


def test_the_truth_is_compared_with_its_chance(compared):
    report = compared

    stretch = next(row for row in report["stretches"] if row["interval"] == "15m" and row["complete"])
    wave = next(row for row in stretch["features"] if row["feature"] == "hyperwave_cross")
    assert wave["theirs"] == 27
    assert wave["shifts"] == 140
    assert wave["f1_0"] > wave["chance_0"]
    assert stretch["prices"]["fits"] == stretch["prices"]["priced"] == 35
    rates = {(row["symbol"], row["interval"], row["feature"]): row for row in report["rates"]}
    crosses = rates["SOLUSDT", "15m", "hyperwave_cross"]
    assert (crosses["count"], round(crosses["true"], 1)) == (1074, 183.8)
    assert crosses["windows"] > 50
    assert all(row["ours"] is None or row["windows"] or row["on"] == "the same bars" for row in report["rates"])
    assert rates["BTCUSDT", "5m", "block_within"]["count"] == 4391 + 3636


def _complete_15m(config, truth):
    report = compare(config, truth).report
    stretch = next(row for row in report["stretches"] if row["interval"] == "15m" and row["complete"])
    return {row["feature"]: row for row in stretch["features"]}


def test_the_earlier_readings_hit_half_of_the_true_crosses(truth, shared):
    config = parse((ROOT / "config.toml").read_text(), profile="before")

    wave = _complete_15m(config, truth)["hyperwave_cross"]

    assert (wave["hits_0"], wave["ours"]) == (14, 30)
    assert wave["f1_0"] == pytest.approx(0.49, abs=0.01)
    assert wave["f1_1"] == pytest.approx(0.84, abs=0.01)
    assert wave["chance_95_0"] == pytest.approx(0.21, abs=0.01)
    assert wave["chance_0"] == pytest.approx(0.28, abs=0.01)  # the highest of all 140 shifts
    assert wave["verdict"] == "better than chance, but often on other bars"


def test_the_defaults_hit_nearly_all_true_crosses_and_breaks(truth, shared):
    """The figures of `docs/truth.md`."""
    features = _complete_15m(CONFIG, truth)

    wave, breaks = features["hyperwave_cross"], features["internal_break"]
    assert (wave["hits_0"], wave["ours"]) == (24, 25)
    assert wave["f1_0"] == pytest.approx(0.92, abs=0.01)
    assert wave["chance_0"] == pytest.approx(0.23, abs=0.01)
    assert wave["verdict"] == "fires on the same bars"
    assert (breaks["hits_0"], breaks["ours"]) == (8, 10)
    assert breaks["f1_0"] == pytest.approx(0.84, abs=0.01)


def test_the_recipes_signal_hits_four_of_five(truth, shared):
    recipe = {"oscillator.signal_average": "sma", "oscillator.hyperwave_average": "rma"}

    wave = _complete_15m(changed(CONFIG, recipe), truth)["hyperwave_cross"]

    assert wave["f1_0"] >= 0.80


WITHIN = {
    ("SOLUSDT", "15m"): "hyperwave_cross hyperwave_big reversal_minor reversal_major divergence internal_break "
    "internal_bos internal_choch internal_choch_plus swing_bos swing_choch",
    ("BTCUSDT", "15m"): "hyperwave_cross hyperwave_big reversal_minor reversal_major divergence internal_break "
    "internal_bos internal_choch internal_choch_plus swing_bos swing_choch",
    ("SOLUSDT", "5m"): "imbalance_new imbalance_mitigated block_mitigated breaker internal_choch internal_choch_plus "
    "swing_bos swing_choch grab",
    (
        "BTCUSDT",
        "5m",
    ): "imbalance_new imbalance_mitigated block_created block_entered block_within block_mitigated breaker equal",
    ("SOLUSDT", "1h"): "confirmation confirmation_strong exit trend_tracer smart_trail neo_cloud",
    ("BTCUSDT", "1h"): "confirmation confirmation_strong trend_catcher trend_tracer smart_trail neo_cloud",
}


def test_the_accepted_rates_lie_within_the_intervals_of_both_symbols(compared):
    """What is not in the list is outside, and `docs/truth.md` names it."""
    found = {}
    for row in compared["rates"]:
        if row["verdict"] == "within":
            found.setdefault((row["symbol"], row["interval"]), set()).add(row["feature"])

    assert {place: sorted(names) for place, names in found.items()} == {
        place: sorted(names.split()) for place, names in WITHIN.items()
    }


def test_the_accepted_ratios_lie_within_the_intervals_of_both_symbols(compared):
    outside = [(row["symbol"], row["ratio"]) for row in compared["ratios"] if row["verdict"] != "within"]
    mitigated = [row["symbol"] for row in compared["ratios"] if row["ratio"] == "blocks mitigated per block created"]

    assert outside == [("SOLUSDT", "blocks entered per block created")]
    assert sorted(mitigated) == ["BTCUSDT", "SOLUSDT"]
