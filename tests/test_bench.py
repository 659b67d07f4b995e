"""The bench measures real work: its functions run, on few bars, and nothing is said about how fast."""

import json

import pytest

from bench import __main__ as bench
from bench import clock, ours, peers
from bench.markets import common_bars, repeat, synthetic_bars
from bot.config import Config
from bot.core.klines import gaps

PEERS = {"talib": "TA-Lib", "smartmoneyconcepts": "smartmoneyconcepts"}


@pytest.fixture(scope="module")
def bars():
    return synthetic_bars(2_000, days=5)


@pytest.fixture
def installed(monkeypatch):
    monkeypatch.setenv("SMC_CREDIT", "0")
    for module, name in PEERS.items():
        pytest.importorskip(module, reason=f"{name} comes with `make bench`")


def test_a_repeated_market_has_no_gap_and_the_length_asked_for(bars):
    longer = repeat(bars, 4_500)

    assert len(longer) == 4_500
    assert gaps(longer) == []


def test_the_common_bars_are_as_many_as_asked_for():
    found, market = common_bars(2_000)

    assert len(found) == 2_000
    assert market


def test_each_of_our_runs_takes_time_on_two_thousand_bars(bars):
    config = Config()
    runs = {name: ours.family(name, bars, config) for name in ours.FAMILIES}
    runs |= {f"{whole}": ours.whole(bars, config, suite_only=whole) for whole in (True, False)}

    taken = clock.seconds(runs, 1)

    assert all(value > 0 for value in taken.values())


def test_growth_is_told_per_bar_for_each_length(bars):
    found = ours.growth(bars, Config(), (500, 2_000), 1)

    assert list(found) == ["500", "2000"]
    assert all(value > 0 for value in found.values())


def test_live_percentiles_are_in_order():
    found = bench.latency(2_000)

    assert 0 < found["live_step_us_p50"] <= found["live_step_us_p99"]
    assert 0 < found["suite_step_us_p50"] <= found["suite_step_us_p99"]


def test_a_figure_is_told_beside_its_target():
    assert bench.verdict("batch_bars_per_s", 1_100_000.0) == "target >= 1,000,000: met"
    assert bench.verdict("warm_start_s", 3.5) == "target <= 3: MISSED"
    assert bench.verdict("peak_rss_mb", 1.0) == ""


def test_percentiles_are_those_of_the_sorted_values():
    assert clock.percentiles(list(range(100_000, 0, -1_000))) == (51.0, 100.0)


def test_another_process_reports_its_last_line_and_its_failure():
    took, printed = clock.python("print(1); print(2)")

    assert took > 0
    assert printed == "2"
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        clock.python("1 / 0")


@pytest.mark.reference
def test_the_peers_run_on_the_same_bars_and_find_something(installed, bars):
    runs = {peers.ATR: peers.talib_atr(bars), **peers.ta_runs(bars), **peers.smc_runs(bars)}

    results = {name: run() for name, run in runs.items()}

    assert len(runs) == 7
    assert all(len(result) == len(bars) for result in results.values())


@pytest.mark.reference
def test_the_results_hold_the_keys_of_the_contract_and_are_json(installed, bars, capsys):
    results = {"machine": bench.machine(), **bench.throughput(bars, Config(), 1), **bench.latency(500)}
    table = {"bars": len(bars), "market": "synthetic", "signals": bench.same_flags(bars, Config())}
    results["side_by_side"] = table | {"ns_per_bar": bench.side_by_side(bars, Config(), 1, 1)}

    bench.show(results)

    contract = {"batch_bars_per_s", "talib_atr_bars_per_s", "cost_in_talib_atr", "live_step_us_p50", "live_step_us_p99"}
    assert contract <= results.keys()
    assert json.loads(json.dumps(results)) == results
    out = capsys.readouterr().out
    assert all(name in out for name in (*contract, *ours.FAMILIES, peers.ATR))
