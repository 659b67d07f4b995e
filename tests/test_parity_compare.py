"""Does it match my chart: what `compare` says of exports whose right answer is known."""

import json

import numpy as np
import pytest

from bot.cli import main
from bot.parity.compare import compare
from bot.parity.formulas import common, compute
from bot.parity.score import matches, score_event, score_plot, score_state
from tests.parity_exports import CONFIG, OSCILLATOR, OVERLAYS, chart, market, save

BARS = market().part(0, 2600)
ALL = OSCILLATOR | OVERLAYS
CONDITIONS = {
    "HTF_BULL": "long_htf",
    "OB_DEMAND_HIT": "long_ob",
    "Long Signal": "long_signal",
    "Short Signal": "short_signal",
}


@pytest.fixture(scope="module", autouse=True)
def data_folder(tmp_path_factory):
    """A data folder of this module's own, so that remembered bind files stay apart."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BOT_DATA", str(tmp_path_factory.mktemp("bot")))
        yield


@pytest.fixture(scope="module")
def um(tmp_path_factory):
    return save(tmp_path_factory.mktemp("klines") / "um", market(), market("ETHUSDT"))


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return ended.value.code or 0, out, err


def said(found):
    return " | ".join(found.report["verdict"])


def row(found, label):
    return next(r for r in found.report["columns"] if r["column"] == label)


def test_an_export_of_our_own_engine_agrees_to_the_last_bit_on_both_bars(tmp_path, um):
    path = chart(BARS, ALL | CONDITIONS).write(tmp_path / "BINANCE_BTCUSDT.P, 3.csv")

    found = compare(CONFIG, path, klines=um)

    report = found.report
    assert report["agreement"] == 1.0
    assert len(report["columns"]) == len(ALL | CONDITIONS)
    assert all(r["export_bars"]["agree"] == r["klines"]["agree"] == 1.0 for r in report["columns"])
    assert (report["export"]["symbol"], report["export"]["interval"], report["export"]["bars"]) == (
        "BTCUSDT",
        "3m",
        2600,
    )
    assert f"100 %: {len(ALL | CONDITIONS)} of {len(ALL | CONDITIONS)} bound columns agree" in said(found)
    assert all(r["agree"] == 1.0 for side in report["conditions"].values() for r in side.values())
    assert report["conditions"]["long"]["HW_CROSS_UP"]["ours"] > 50
    assert report["conditions"]["long"]["BUY_CONF"]["ours"] > 50


def test_on_15m_the_indicators_alone_are_compared(tmp_path):
    path = chart(market(interval="15m"), OSCILLATOR).write(tmp_path / "a.csv")

    found = compare(CONFIG, path, warm_up=100)

    assert found.report["agreement"] == 1.0
    assert found.report["conditions"] == {}


@pytest.mark.parametrize(
    ("setting", "value", "columns"),
    [
        ("oscillator.hyperwave_length", 14, {"HyperWave", "HWO Up", "Oversold HWO Up", "Confluence Meter Value"}),
        ("oscillator.money_flow_length", 34, {"Money Flow", "Upper Money Flow Threshold"}),
        ("overlays.smart_trail", 4, {"Smart Trail", "Smart Trail Extremity"}),
        ("overlays.sensitivity", 15.0, {"Bullish", "Bearish+"}),
    ],
)
def test_one_changed_setting_is_named_with_its_value(tmp_path, setting, value, columns):
    path = chart(BARS, ALL, changes={setting: value}).write(tmp_path / "a.csv")

    found = compare(CONFIG, path)

    named = [sentence for sentence in found.report["verdict"] if "the chart uses" in sentence]
    assert len(named) == 1
    assert f"the chart uses {setting} = {value}, this bot " in named[0]
    assert all(name in named[0] for name in columns)
    assert set(found.report["causes"].values()) == {"setting"}


@pytest.mark.parametrize(("bars", "word"), [(1, "1 bar late"), (-1, "1 bar early"), (2, "2 bars late")])
def test_a_column_that_stands_a_bar_away_is_named(tmp_path, bars, word):
    made = chart(BARS, OSCILLATOR)
    place = made.column("HyperWave")
    cells = [row[place] for row in made.rows]
    for row_, cell in zip(made.rows, np.roll(cells, bars).tolist(), strict=True):
        row_[place] = cell

    found = compare(CONFIG, made.write(tmp_path / "a.csv"))

    assert found.report["causes"] == {"HyperWave": "shift"}
    assert f"it stands {word} on the chart" in said(found)


def test_the_one_bar_on_which_a_mark_is_missing_is_named(tmp_path):
    made = chart(BARS, ALL)
    place = made.column("Bullish")
    at = max(i for i, cells in enumerate(made.rows[:-1]) if cells[place] == "1")
    made.rows[at][place] = "0"
    when = str(np.datetime64(int(made.rows[at][0]), "s"))[:16].replace("T", " ")

    found = compare(CONFIG, made.write(tmp_path / "a.csv"))

    assert row(found, "Bullish")["export_bars"]["only_ours"] == 1
    assert f"Bullish (so_bullish) differs on 1 of 1,999 bars, {when}: 1 only here" in said(found)
    assert f"{len(ALL) - 1} of {len(ALL)} bound columns agree" in said(found)


def test_one_bar_of_the_export_that_is_not_that_of_the_klines_is_named(tmp_path, um):
    made = chart(BARS, {"HyperWave": "om_hyperwave"})
    close = made.column("close")
    made.rows[2000][close] = made.rows[2000][made.column("high")]
    when = str(np.datetime64(int(made.rows[2000][0]), "s"))

    found = compare(CONFIG, made.write(tmp_path / "a.csv"), klines=um)

    assert f"1 bar differs from the klines, first that of {when}Z" in said(found)
    assert row(found, "HyperWave")["klines"]["agree"] == 1.0
    assert row(found, "HyperWave")["export_bars"]["first_divergent_ms"] == int(BARS.open_ms[2000])


def test_a_last_bar_that_was_unfinished_is_left_out_and_told(tmp_path, um):
    made = chart(BARS, {"HyperWave": "om_hyperwave"})
    last = made.rows[-1]
    last[made.column("high")] = last[made.column("low")] = last[made.column("close")] = last[made.column("open")]
    last[-1] = "50"

    found = compare(CONFIG, made.write(tmp_path / "a.csv"), klines=um)

    assert row(found, "HyperWave")["export_bars"]["agree"] == 1.0
    assert any("was unfinished when exported" in note for note in found.report["notes"])


def test_an_indicator_that_began_earlier_is_called_warm_up(tmp_path):
    whole = chart(BARS, {"Neo Lead": "so_neo_lead", "EMA": "so_trend_tracer"})
    whole.header[-1] = "Trend Tracer"
    whole.rows = whole.rows[700:]

    found = compare(CONFIG, whole.write(tmp_path / "a.csv"), warm_up=10)

    assert found.report["causes"].get("Trend Tracer") == "warm_up"


def test_without_volume_what_needs_it_is_left_out_and_the_klines_stand_in(tmp_path, um):
    path = chart(BARS, OSCILLATOR, volume=False).write(tmp_path / "a.csv")

    alone = compare(CONFIG, path)
    beside = compare(CONFIG, path, klines=um)

    assert row(alone, "Money Flow")["export_bars"]["bars"] == 0
    assert row(alone, "HyperWave")["export_bars"]["agree"] == 1.0
    assert beside.report["agreement"] == 1.0


def test_a_bind_file_is_obeyed_and_remembered_for_its_header(tmp_path):
    path = chart(BARS, {"Mine": "om_signal", "Plot": "so_trail"}).write(tmp_path / "a.csv")
    bind = tmp_path / "bind.toml"
    bind.write_text('[bind]\n"Mine" = "om_signal"\n"Plot" = "ignore"\n')

    before = compare(CONFIG, path)
    bound = compare(CONFIG, path, bind_file=bind)
    after = compare(CONFIG, path)

    assert before.report["columns"] == []
    assert row(bound, "Mine")["bound_by"] == "bind file"
    assert row(after, "Mine")["bound_by"] == "remembered bind file"
    assert row(after, "Mine")["export_bars"]["agree"] == 1.0
    assert after.report["unbound"] == [{"column": "Plot", "reason": "ignored by the bind file"}]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[bind]\n"Wave" = "om_signal"\n', "no column 'Wave'"),
        ('[bind]\n"Mine" = "om_signl"\n', "did you mean 'om_signal'"),
        ('[bind]\n"Mine" = "sma(price,9)"\n', "neither a whole number nor a price"),
        ('[bind]\n"Mine" = "magic(9)"\n', "is no known formula"),
        ("[bind\n", "is not valid TOML"),
        ("[binds]\n", "'binds' is not known"),
    ],
)
def test_a_wrong_bind_file_is_one_sentence_and_exit_2(tmp_path, capsys, text, words):
    path = chart(BARS, {"Mine": "om_signal"}).write(tmp_path / "a.csv")
    (tmp_path / "bind.toml").write_text(text)

    code, out, err = run(capsys, "compare", path, "--bind", tmp_path / "bind.toml", "--out", tmp_path / "out")

    assert (code, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_repeated_names_are_bound_by_their_place(tmp_path):
    made = chart(BARS, {"HyperWave": "om_hyperwave", "second": "om_signal", "third": "om_meter"})
    made.header[-2:] = ["HyperWave", "HyperWave"]

    found = compare(CONFIG, made.write(tmp_path / "a.csv"))

    assert [(r["column"], r["feature"], r["bound_by"]) for r in found.report["columns"]] == [
        ("HyperWave#1", "om_hyperwave", "position"),
        ("HyperWave#2", "om_signal", "position"),
    ]
    assert found.report["agreement"] == 1.0
    assert found.report["unbound"][0]["column"] == "HyperWave#3"


@pytest.mark.parametrize("formula", ["sma(volume,20)", "ema(close,50)", "rsi(close,14)", "wavetrend(10,21)"])
def test_a_public_formula_is_recognised_by_its_numbers(tmp_path, formula):
    made = chart(BARS, {"X": "om_meter"})
    values = compute(formula, BARS)
    for i, cells in enumerate(made.rows):
        cells[-1] = "NaN" if np.isnan(values[i]) else repr(float(values[i]))

    found = compare(CONFIG, made.write(tmp_path / "a.csv"))

    assert formula in list(common())
    assert row(found, "X")["feature"] == formula
    assert row(found, "X")["export_bars"]["max_error"] == 0.0


def test_the_command_prints_a_summary_and_writes_page_and_figures(tmp_path, capsys, um):
    path = chart(BARS, OSCILLATOR).write(tmp_path / "a.csv")

    code, out, _ = run(capsys, "compare", path, "--klines", um, "--out", tmp_path / "out")
    as_json = json.loads(run(capsys, "compare", path, "--klines", um, "--json")[1])

    assert code == 0
    assert "100 %: 17 of 17 bound columns" in out
    assert as_json["agreement"] == 1.0
    assert json.loads((tmp_path / "out" / "compare.json").read_text())["columns"] == as_json["columns"]
    assert "lightweight-charts" in (tmp_path / "out" / "compare.html").read_text().lower()


def test_precision_and_recall_within_a_bar_pair_one_to_one():
    ours, theirs = np.zeros(20), np.zeros(20)
    ours[[3, 4, 10]] = 1.0
    theirs[[4, 11, 17]] = 1.0
    at = np.arange(20)

    found = score_event(ours, theirs, at, at >= 0)

    assert (found.figures["precision_0"], found.figures["recall_0"]) == (1 / 3, 1 / 3)
    assert (found.figures["precision_1"], found.figures["recall_1"]) == (2 / 3, 2 / 3)
    assert matches(np.array([5, 6]), np.array([6]), 1) == 1


def test_figures_of_a_line_and_a_state_are_those_of_their_definitions():
    at = np.arange(6)
    theirs = np.array([1.0, 2.0, 3.0, np.nan, 5.0, 6.0])
    line = score_plot(np.array([1.0, 2.0, 3.5, 4.0, 5.0, np.nan]), theirs, at, at >= 0)
    state = score_state(np.array([0.0, 1, 1, 0, 0, 1]), np.array([0.0, 1, 0, 1, 0, 1]), at, at >= 0)

    assert (line.bars, line.differing, line.first_divergent_ms) == (4, 1, 2)
    assert (line.figures["max_error"], line.figures["median_error"]) == (0.5, 0.0)
    assert (line.figures["only_ours"], line.figures["only_theirs"]) == (1, 1)
    assert (state.agree, state.figures["only_ours"], state.figures["only_theirs"]) == (pytest.approx(4 / 6), 1, 1)


@pytest.mark.reference
def test_the_real_export_is_recognised_and_public_formulas_agree_to_a_millionth(shared, capsys):
    path = shared / "tradingview" / "BINANCE_BTCUSDT.P, 15.csv"

    code, out, _ = run(capsys, "compare", path, "--klines", shared / "klines" / "spot", "--json")

    report = json.loads(out)
    told = " | ".join(report["verdict"])
    by_label = {r["column"]: r for r in report["columns"]}
    assert code == 0
    assert "5,060 of 5,060 bars aligned with BTCUSDT 15m" in told
    assert "the export is the perpetual BTCUSDT.P and these klines are spot BTCUSDT" in told
    assert report["alignment"]["bars_common"] == 5060
    assert {name: r["feature"] for name, r in by_label.items()} == {
        "Volume MA": "sma(volume,20)",
        "Lt Blue Wave": "wavetrend(9,12)",
        "Blue Wave": "wavetrend_signal(9,12,3)",
        "VWAP": "wavetrend_difference(9,12,3)",
    }
    assert all(r["export_bars"]["max_error"] < 1e-6 for r in by_label.values())
    assert {r["column"] for r in report["unbound"]} == {
        "Mny Flow",
        "Buy",
        "Blue Wave Crossing UP",
        "Blue Wave Crossing Down",
    }


@pytest.mark.reference
def test_klines_of_another_time_are_one_sentence_and_exit_3(shared, capsys, tmp_path):
    path = shared / "tradingview" / "BINANCE_BTCUSDT.P, 15.csv"

    code, out, err = run(capsys, "compare", path, "--klines", shared / "klines" / "um", "--out", tmp_path / "out")

    assert (code, out) == (3, "")
    assert err.startswith("bot: the times do not overlap: the export is of 2023-01-07T07:00 to 2023-02-28T23:45")
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.reference
def test_a_header_without_bars_is_missing_data(shared, capsys):
    code, _, err = run(capsys, "compare", shared / "tradingview" / "signals_overlays_header.csv")

    assert code == 3
    assert "has a header but no bar" in err
