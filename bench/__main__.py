"""`make bench`: print a table and write bench/results.json.

Everything is measured in one run on one machine: figures of one run are comparable, figures of two machines are not.
`--quick` leaves out the compilation from an empty cache, the compiled engine, the long histories and most repeats.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from bench import clock, engines, ours, peers
from bench.markets import common_bars, synthetic_bars
from bot.config import Config
from bot.core.klines import Klines
from bot.strategy import kernel as k
from bot.strategy.features import batch_chunks, compile_steps

RESULTS = Path(__file__).resolve().parent / "results.json"
COMMON_BARS = 20_000
MEANINGS = {
    "batch_bars_per_s": "whole suite: all columns of the five families, one interval, one core, warm",
    "symbol_bars_per_s": "the whole step of a symbol: 3m bar, its share of the 15m bar, conditions",
    "talib_atr_bars_per_s": "TA-Lib's ATR(14), same bars, same run",
    "cost_in_talib_atr": "one bar of the whole suite, in bars of TA-Lib's ATR",
    "families_ns_per_bar": "sum of the five families, each alone: below it the composed suite cannot come",
    "live_step_us_p50": "one closed bar of one symbol as the engine takes it, both intervals, from Python",
    "live_step_us_p99": "the same, 99th percentile",
    "suite_step_us_p50": "one bar of all families, one interval, from Python",
    "suite_step_us_p99": "the same, 99th percentile",
    "decision_ms_p50": "closed kline's frame read to its order's bytes written, exchange in another process (target p99 < 5)",
    "decision_ms_p99": "the same, 99th percentile",
    "cold_compile_s": "process start to all kernels compiled, empty cache",
    "warm_start_s": "process start to first decision possible: cached kernels, history of three symbols stepped",
    "backtest_bars_per_s": "back-test of the whole strategy with hedge, indicators of three symbols included, one core",
    "backtest_cached_bars_per_s": "the same with the indicators' results given",
    "backtest_compiled_bars_per_s": "the first of the two with the engine that `make fast` compiles",
    "backtest_compiled_cached_bars_per_s": "the second of the two with the compiled engine",
    "backtest_suite_bound": "batch_bars_per_s / 3.6: what stepping every column of three symbols alone would allow",
    "backtest_rss_mb": "memory of a process that makes and back-tests 200,000 bars of three symbols",
    "peak_rss_mb": "memory of a process that makes and steps 200,000 bars",
}
TARGETS = {  # bounds of the figures on an idle core: lower bounds for *_per_s, upper bounds for all others
    "batch_bars_per_s": 1_000_000.0,
    "suite_step_us_p50": 15.0,
    "decision_ms_p99": 5.0,
    "cold_compile_s": 45.0,
    "warm_start_s": 3.0,
    "backtest_compiled_bars_per_s": 150_000.0,
    "backtest_compiled_cached_bars_per_s": 1_000_000.0,
}
BACKTESTS = {
    "backtest_bars_per_s": engines.WHOLE,
    "backtest_cached_bars_per_s": engines.GIVEN,
    "backtest_compiled_bars_per_s": f"{engines.WHOLE}{engines.COMPILED}",
    "backtest_compiled_cached_bars_per_s": f"{engines.GIVEN}{engines.COMPILED}",
}


def verdict(name: str, value: float) -> str:
    """Return a figure's target and whether it is met; empty if it has no target.

    >>> verdict("warm_start_s", 2.5)
    'target <= 3: met'
    """
    if name not in TARGETS:
        return ""
    target = TARGETS[name]
    least = name.endswith("_per_s")
    met = value >= target if least else value <= target
    return f"target {'>=' if least else '<='} {target:,.0f}: {'met' if met else 'MISSED'}"


def throughput(bars: Klines, config: Config, repeats: int) -> dict[str, float]:
    """Return bars per second of the suite, of a symbol and of TA-Lib's ATR, and the ratio of the first and the last."""
    count = len(bars)
    many = 50  # ATR over all bars takes half a millisecond
    runs = {"suite": ours.whole(bars, config, suite_only=True), "symbol": ours.whole(bars, config, suite_only=False)}
    runs["talib"] = clock.short(peers.talib_atr(bars), many)
    best: dict[str, float] = {}
    taken = clock.seconds(runs, repeats, best)
    talib = taken["talib"] / many
    return {
        "batch_bars_per_s": count / taken["suite"],
        "batch_bars_per_s_best": count / best["suite"],
        "symbol_bars_per_s": count / taken["symbol"],
        "talib_atr_bars_per_s": count / talib,
        "cost_in_talib_atr": taken["suite"] / talib,
    }


def latency(count: int) -> dict[str, float]:
    """Return the percentiles of the live steps over `count` bars, µs."""
    symbol, suite = ours.live("live_symbol", count), ours.live("live_suite", count)
    return {
        "live_step_us_p50": symbol[0],
        "live_step_us_p99": symbol[1],
        "suite_step_us_p50": suite[0],
        "suite_step_us_p99": suite[1],
    }


def decisions(count: int) -> dict[str, float]:
    """Return the percentiles of closed bar to order over `count` decisions, ms, measured in a separate process."""
    command = [sys.executable, "-m", "bench.latency", "--decisions", str(count)]
    done = subprocess.run(command, cwd=clock.ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return {name: float(value) for name, value in json.loads(done.stdout[done.stdout.index("{") :]).items()}


def side_by_side(bars: Klines, config: Config, repeats: int, slow_repeats: int = 3) -> dict[str, float]:
    """Return ns per bar of our suite and families and of the peers, all on the same bars.

    Parameters
    ----------
    bars
        The bars to measure on.
    config
        The configuration of our kernels.
    repeats, slow_repeats
        Runs of our kernels and TA-Lib, and of the pandas peers; medians are returned.
    """
    many = 50
    mine = {"whole suite": ours.whole(bars, config, suite_only=True)}
    mine |= {name: ours.family(name, bars, config) for name in ours.FAMILIES}
    mine[peers.ATR] = clock.short(peers.talib_atr(bars), many)
    taken = clock.seconds(mine, repeats)
    taken[peers.ATR] /= many
    taken |= clock.seconds({**peers.ta_runs(bars), **peers.smc_runs(bars)}, slow_repeats)
    return {name: value / len(bars) * 1e9 for name, value in taken.items()}


def same_flags(bars: Klines, config: Config) -> dict[str, int]:
    """Return the number of signals on the bars: evidence that the real work was measured."""
    rows = np.concatenate([rows.copy() for _, rows in batch_chunks(bars, config)])
    return {side: int(rows[:, k.COLUMNS.index(f"{side}_signal")].sum()) for side in ("long", "short")}


def backtests(config: Config, suite: float, *, quick: bool) -> dict[str, Any]:
    """Return the back-test's speed next to other engines', its growth and its memory; `suite` in bars per second."""
    repeats = 1 if quick else 3
    table = engines.side_by_side(20_000 if quick else 100_000, config, repeats)
    speed = table["bars_per_s"]
    if not quick:  # the compiler takes two minutes
        speed |= engines.compiled(table["bars"], repeats)
    named = {name: speed[run] for name, run in BACKTESTS.items() if run in speed}
    lengths = (10_000, 50_000) if quick else (10_000, 100_000, 1_000_000)
    return {
        "backtests": table,
        **named,
        "backtest_suite_bound": suite / engines.SUITES_PER_BAR,
        "backtest_growth_bars_per_s": engines.growth(lengths, config),
        "backtest_rss_mb": engines.memory(20_000 if quick else 200_000),
    }


def machine() -> dict[str, Any]:
    """Return the description of the machine."""
    return {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "load_before": os.getloadavg()[0],
    }


def show(results: dict[str, Any]) -> None:
    """Print the results as tables."""
    for name, meaning in MEANINGS.items():
        if name in results:
            print(f"{name:35} {results[name]:14,.2f}  {verdict(name, results[name]):26}  {meaning}")
    if "growth_ns_per_bar" in results:
        steps = ", ".join(f"{int(n):,} bars {ns:.0f}" for n, ns in results["growth_ns_per_bar"].items())
        print(f"{'growth_ns_per_bar':35} {'':14}  whole suite: {steps}")
    if "batch_bars_per_s_best" in results:
        print(
            f"{'batch_bars_per_s_best':35} {results['batch_bars_per_s_best']:14,.2f}  {'':26}  best run instead of the median"
        )
    table = results["side_by_side"]
    suite = table["ns_per_bar"]["whole suite"]
    print(f"\nside by side, {table['bars']:,} bars ({table['market']})        ns a bar   of the whole suite")
    for name, value in table["ns_per_bar"].items():
        print(f"  {name:46} {value:14,.1f}  {value / suite:12.3f}")
    if "backtests" in results:
        show_backtests(results)
    print(
        f"\nload of the machine before the run: {results['machine']['load_before']:.1f} on {results['machine']['cores']} cores"
    )


def show_backtests(results: dict[str, Any]) -> None:
    """Print the comparison of back-tests."""
    table = results["backtests"]
    mine = f"ours: {table['signals']} signals, {table['trades']} trades"
    print(f"\nback-tests, {table['bars']:,} bars ({mine})       bars a second")
    for name, value in table["bars_per_s"].items():
        print(f"  {name:46} {value:14,.0f}")
    steps = ", ".join(f"{int(n):,} bars {v:,.0f}" for n, v in results["backtest_growth_bars_per_s"].items())
    print(f"  ours by length of history: {steps}")


def measure(*, quick: bool) -> dict[str, Any]:
    """Return all results."""
    config = Config()
    results: dict[str, Any] = {"machine": machine()}
    for _ in compile_steps(config):
        pass
    longest = 100_000 if quick else 1_000_000
    bars = synthetic_bars(longest)
    say("throughput")
    results |= throughput(bars.part(0, min(100_000, longest)), config, 5 if quick else 15)
    say("live steps")
    results |= latency(COMMON_BARS)
    say("decisions (an exchange in another process)")
    results |= decisions(500 if quick else 10_000)
    say("growth")
    lengths = (10_000, 100_000) if quick else (10_000, 100_000, 1_000_000)
    results["growth_ns_per_bar"] = ours.growth(bars, config, lengths, 3)
    say("peers")
    common, market = common_bars(COMMON_BARS)
    results["side_by_side"] = {
        "bars": len(common),
        "market": market,
        "signals": same_flags(common, config),
        "ns_per_bar": side_by_side(common, config, 5 if quick else 15, 1 if quick else 3),
    }
    results["families_ns_per_bar"] = sum(results["side_by_side"]["ns_per_bar"][name] for name in ours.FAMILIES)
    say("back-test")
    results |= backtests(config, results["batch_bars_per_s"], quick=quick)
    say("memory")
    results["peak_rss_mb"] = ours.memory(200_000)
    if not quick:
        say("start-up (an empty kernel cache first)")
        results |= ours.start_up(bars, config)
    return results


def say(what: str) -> None:
    """Print the current measurement if standard error is a terminal."""
    if sys.stderr.isatty():
        print(f"measuring {what} ...", file=sys.stderr, flush=True)


def main() -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure speed and memory.")
    parser.add_argument("--quick", action="store_true", help="fewer repeats, shorter histories, no cold start")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the figures go (default bench/results.json)")
    options = parser.parse_args()
    results = measure(quick=options.quick)
    show(results)
    options.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
