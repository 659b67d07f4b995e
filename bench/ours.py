"""The cost of the bot's kernels: batch, by family, by length of history, live, at the start, in memory."""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numba import njit

from bench import clock
from bot.config import Config
from bot.core.events import KlineClosed
from bot.core.jit import records
from bot.core.klines import Klines
from bot.indicators import oscillator, overlays, supertrend
from bot.indicators.volatility import BAR, bar_step
from bot.market import store
from bot.strategy import kernel as k
from bot.strategy.features import Features, batch_chunks, compile_steps, step_columns
from bot.structure import pac, smc

FAMILIES = {
    "Smart Money Concepts": ("smc", smc.smc_reset, smc.smc_step, smc.COLUMNS),
    "SuperTrend AI": ("sta", supertrend.sta_reset, supertrend.sta_step, supertrend.COLUMNS),
    "Price Action Concepts": ("pac", pac.pac_reset, pac.pac_step, pac.COLUMNS),
    "Oscillator Matrix": ("om", oscillator.om_reset, oscillator.om_step, oscillator.COLUMNS),
    "Signals & Overlays": ("so", overlays.so_reset, overlays.so_step, overlays.COLUMNS),
}
# Everything that a start needs before it can decide: settings, kernels, and the history of three symbols.
START = """
import os, sys
from pathlib import Path
from bot.core.garbage import uncollected
with uncollected():
    import bot.app.run
from bot.config import parse
from bot.core.events import KlineClosed
from bot.market import store
from bot.strategy.features import Features, compile_steps
path = Path("config.toml")
config = parse(path.read_text(encoding="utf-8"), source=path.name)
for _ in compile_steps(config):
    pass
if len(sys.argv) > 1:
    features = Features(config)
    for symbol in config.data.symbols:
        for bar in store.load(Path(sys.argv[1]), symbol, "3m").rows():
            row = features.step(KlineClosed(bar.close_ms, bar))
    print(row["ready"], flush=True)
os._exit(0)  # what a process does at its end, half a second, is no part of its start
"""
LIVE = """
import sys
from bench import clock, ours
from bench.markets import synthetic_bars
from bot.config import Config
taken = ours.{which}(synthetic_bars(int(sys.argv[1])), Config())
print(*clock.percentiles(taken[len(taken) // 10 :]))  # the first calls look their types up
"""
MEMORY = """
import sys
from bench.clock import peak_mb
from bench.markets import synthetic_bars
from bot.config import Config
from bot.strategy.features import batch_chunks
for _ in batch_chunks(synthetic_bars(int(sys.argv[1])), Config()):
    pass
print(peak_mb())
"""


def whole(bars: Klines, config: Config, *, suite_only: bool) -> Callable[[], None]:
    """Return a run over all bars: the five families on one interval, or the complete step of a symbol."""

    def run() -> None:
        for _ in batch_chunks(bars, config, suite_only=suite_only):
            pass

    return run


def family(name: str, bars: Klines, config: Config) -> Callable[[], None]:
    """Return a run of one family alone, with the bar's averages that all share, over all bars."""
    field, reset, step, columns = FAMILIES[name]

    # Not cached: the cache key covers only the kernels' own sources, so numba's cache could measure stale code here.
    @njit(error_model="numpy")
    def loop(bar, state, settings, open_ms, open_, high, low, close, volume, taker, filled, row):
        for i in range(open_ms.shape[0]):
            bar_step(bar[0], open_ms[i], open_[i], high[i], low[i], close[i], volume[i], taker[i], filled[i])
            step(state[0], settings[0], bar[0], row)

    all_settings = k.params(config, base_ms=bars.interval_ms)
    settings = records(k.PARAMS[field], 1)
    settings[0] = all_settings[field]
    inputs = [getattr(bars, each) for each in ("open_ms", "open", "high", "low", "close", "volume", "taker_buy_volume")]
    inputs.append(bars.filled.astype(np.int64))
    row = np.empty(len(columns))

    def run() -> None:
        bar = records(BAR, 1)
        state = records(k.SUITE[field], 1)
        reset(state[0], settings[0])
        loop(bar, state, settings, *inputs, row)

    return run


def growth(bars: Klines, config: Config, lengths: tuple[int, ...], repeats: int) -> dict[str, float]:
    """Return ns per bar of the entire suite by length of history.

    Parameters
    ----------
    bars
        The bars to measure on, at least the largest length.
    config
        The configuration.
    lengths
        Numbers of bars, ascending; the first bars are taken.
    repeats
        Runs of each; medians are returned.
    """
    runs = {}
    for length in lengths:
        run = whole(bars.part(0, length), config, suite_only=True)
        runs[str(length)] = clock.short(run, max(1, lengths[-1] // length // 4))
    taken = clock.seconds(runs, repeats)
    return {name: taken[name] / max(1, lengths[-1] // int(name) // 4) / int(name) * 1e9 for name in runs}


def live_suite(bars: Klines, config: Config) -> list[int]:
    """Return the time of each bar through all families on one interval, called from Python, ns."""
    params = records(k.PARAMS, 1)
    params[0] = k.params(config, base_ms=bars.interval_ms)
    stepper = k.Stepper(params, block=1)
    rows = np.empty((1, len(k.SUITE_COLUMNS)))
    columns = step_columns(bars)
    reset = np.zeros(1, np.int64)
    taken = []
    for i in range(len(bars)):
        one = tuple(column[i : i + 1] for column in columns)
        began = time.perf_counter_ns()
        stepper.run_suite(one, reset, rows)
        taken.append(time.perf_counter_ns() - began)
    return taken


def live_symbol(bars: Klines, config: Config) -> list[int]:
    """Return the time of each bar as in the engine, ns: checks, both intervals, conditions; kernels are precompiled."""
    for _ in compile_steps(config):
        pass
    features = Features(config, base_ms=bars.interval_ms)
    taken = []
    for bar in bars.rows():
        event = KlineClosed(bar.close_ms, bar)
        began = time.perf_counter_ns()
        features.step(event)
        taken.append(time.perf_counter_ns() - began)
    return taken


def live(which: str, count: int) -> tuple[float, float]:
    """Return p50 and p99 of `live_suite` or `live_symbol`, µs, measured in a separate process, as in live trading."""
    printed = clock.python(LIVE.format(which=which), str(count))[1]
    middle, late = printed.split()
    return float(middle), float(late)


def start_up(bars: Klines, config: Config, *, repeats: int = 3) -> dict[str, float]:
    """Return the seconds of a start in a new process: with an empty kernel cache (once), and with cache and history.

    Python's bytecode cache is on, as for a user: with PYTHONDONTWRITEBYTECODE every start would compile the sources again.
    """
    with tempfile.TemporaryDirectory() as folder:
        history = Path(folder) / "klines"
        history.mkdir()
        columns = bars.part(0, min(config.data.history_bars, len(bars))).columns()
        for symbol in config.data.symbols:
            store.write(history, Klines(symbol, bars.interval_ms, **columns))
        cache = str(Path(folder) / "cache")
        usual = {"BOT_KERNELS": cache, "PYTHONDONTWRITEBYTECODE": ""}
        cold, _ = clock.python(START, **usual)
        warm = [clock.python(START, str(history), **usual) for _ in range(repeats)]
    if any(printed != "1.0" for _, printed in warm):
        raise RuntimeError("the history was too short: after it no decision was possible")
    return {"cold_compile_s": cold, "warm_start_s": statistics.median(took for took, _ in warm)}


def memory(count: int) -> float:
    """Return the peak resident memory, MB, of a process that makes `count` bars and steps through them."""
    return float(clock.python(MEMORY, str(count))[1])
