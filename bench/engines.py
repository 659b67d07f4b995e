"""Compare back-tests: our strategy, and a plain SuperTrend flip in backtesting.py and vectorbt, on the same bars.

Ours does far more per bar: three symbols, five families on two intervals, plans, stops, targets, a hedge, limits. The
others compute one indicator and reverse a position at the next open. So a ratio shows how long a user waits, not which
is faster at the same work.
"""

import json
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numba import njit

from bench import clock
from bench.markets import repeat
from bot.backtest.data import prepare
from bot.backtest.market import Market
from bot.backtest.run import run_backtest
from bot.config import Config
from bot.core.klines import Klines, aggregate
from bot.market.synthetic import synthetic_market
from tools import fast

BASE_MS = 180_000
SUITES_PER_BAR = 3.6  # three symbols, each with a 3m bar and a fifth of a 15m bar
MULTIPLE, LENGTH = 3.0, 10
WHOLE, GIVEN, COMPILED = "ours, whole strategy", "ours, indicators given", ", engine compiled"
MEMORY = """
import sys
from bench.clock import peak_mb
from bench import engines
from bot.config import Config
from bot.backtest.run import run_backtest
run_backtest(Config(), engines.market(int(sys.argv[1])))
print(peak_mb())
"""
COMPILED_RUN = """
import json, sys
import bot.engine.machine
from bench import clock, engines
from bot.config import Config
assert not bot.engine.machine.__file__.endswith(".py"), "this is not the compiled engine"
runs = engines.ours(engines.market(int(sys.argv[1])), Config())
print(json.dumps(clock.seconds(runs, int(sys.argv[2]))))
"""


def market(count: int, *, days: int = 60, seed: int = 7) -> Market:
    """Return `count` synthetic 3m bars of three symbols: `days` of a market, repeated in continuing time if shorter."""
    made = synthetic_market(days, seed)
    bars = {}
    for symbol, minutes in made.klines.items():
        bars[symbol] = {"3m": repeat(aggregate(minutes, BASE_MS), count)}  # a back-test reads no other interval
    return Market(bars, made.funding, "synthetic")


@njit
def direction(high: np.ndarray, low: np.ndarray, close: np.ndarray, length: int, multiple: float) -> np.ndarray:
    """Return +1 or -1 per bar: the plain SuperTrend on an exponentially smoothed true range.

    Parameters
    ----------
    high, low, close
        Prices, one per bar.
    length
        Length of the smoothing, bars.
    multiple
        Distance of the bands from the mid, in smoothed true ranges.
    """
    found = np.ones(len(close))
    atr, upper, lower, trend = high[0] - low[0], np.inf, -np.inf, 1.0
    for i in range(1, len(close)):
        tr = max(high[i] - low[i], abs(high[i] - close[i - 1]), abs(low[i] - close[i - 1]))
        atr += (tr - atr) / length
        mid = 0.5 * (high[i] + low[i])
        above, below = mid + multiple * atr, mid - multiple * atr
        upper = above if above < upper or close[i - 1] > upper else upper
        lower = below if below > lower or close[i - 1] < lower else lower
        if close[i] > upper:
            trend = 1.0
        elif close[i] < lower:
            trend = -1.0
        found[i] = trend
    return found


def direction_of(bars: Klines) -> np.ndarray:
    """Return the SuperTrend direction of every bar."""
    return direction(bars.high, bars.low, bars.close, LENGTH, MULTIPLE)


def frame(bars: Klines) -> pd.DataFrame:
    """Return the bars in the format of backtesting.py."""
    names = ("open", "high", "low", "close", "volume")
    table = pd.DataFrame({name.capitalize(): getattr(bars, name) for name in names})
    table.index = pd.to_datetime(bars.open_ms, unit="ms")
    return table


def backtesting_py(bars: Klines, *, commission: float = 0.0004, stop: float | None = None) -> Any:
    """Run the flip in backtesting.py with one unit.

    `stop` is the distance of a protective stop as a fraction of the close; its level is rounded to 0.1.
    """
    warnings.filterwarnings("ignore", module="backtesting")
    from backtesting import Backtest, Strategy

    turn = direction_of(bars)

    class Flip(Strategy):
        def init(self) -> None:
            self.turn = self.I(lambda: turn, plot=False)

        def next(self) -> None:
            if len(self.data) < 2 or self.turn[-1] == self.turn[-2]:
                return
            self.position.close()
            close = self.data.Close[-1]
            if self.turn[-1] > 0:
                self.buy(size=1, sl=round(close * (1 - stop), 1) if stop else None)
            else:
                self.sell(size=1, sl=round(close * (1 + stop), 1) if stop else None)

    test = Backtest(frame(bars), Flip, cash=1e9, commission=commission, exclusive_orders=False, finalize_trades=False)
    return test.run()


def vectorbt_run(bars: Klines) -> Any:
    """Run the flip in vectorbt."""
    import vectorbt as vbt

    turn = direction_of(bars)
    flip = np.diff(turn, prepend=turn[0]) != 0
    longs, shorts = flip & (turn > 0), flip & (turn < 0)
    portfolio = vbt.Portfolio.from_signals(
        bars.close, entries=longs, short_entries=shorts, size=1.0, init_cash=1e9, fees=0.0004
    )
    return portfolio.total_return()


def ours(bars: Market, config: Config) -> dict[str, Callable[[], Any]]:
    """Return runs of the entire strategy: with indicators computed, and with their results given."""
    kept = prepare(config, bars)
    return {
        WHOLE: lambda: run_backtest(config, bars),
        GIVEN: lambda: run_backtest(config, bars, signals_cache=kept),
    }


def side_by_side(count: int, config: Config, repeats: int) -> dict[str, Any]:
    """Return bars per second of each engine, and the number of signals and trades of ours."""
    data = market(count)
    runs = ours(data, config)
    alpha = data.base(config.data.symbols[0])
    runs["backtesting.py, SuperTrend flip"] = lambda: backtesting_py(alpha)
    try:
        import vectorbt  # noqa: F401

        runs["vectorbt, SuperTrend flip"] = lambda: vectorbt_run(alpha)
    except ImportError:
        pass  # it is in the bench lock only; without it the others are still compared
    taken = clock.seconds(runs, repeats)
    result = run_backtest(config, data)
    return {
        "bars": count,
        "signals": result.signals,
        "trades": len(result.trades),
        "bars_per_s": {name: count / seconds for name, seconds in taken.items()},
    }


def compiled(count: int, repeats: int) -> dict[str, float]:
    """Return bars per second of our runs with the engine compiled by `make fast`, in a separate process.

    Empty if the engine cannot be compiled, so that earlier measurements are not lost.
    """
    try:
        fast.build()
    except fast.BuildError as error:
        print(f"left out: {error}", file=sys.stderr)
        return {}
    taken = json.loads(clock.python(COMPILED_RUN, str(count), str(repeats), first=fast.FAST)[1])
    return {f"{name}{COMPILED}": count / seconds for name, seconds in taken.items()}


def growth(lengths: tuple[int, ...], config: Config) -> dict[str, float]:
    """Return bars per second of the entire strategy by length of history."""
    found = {}
    run_backtest(config, market(min(lengths)))  # warm-up
    for length in lengths:
        data = market(length)
        began = time.process_time()
        run_backtest(config, data)
        found[str(length)] = length / (time.process_time() - began)
    return found


def memory(count: int) -> float:
    """Return the peak resident memory, MB, of a process that makes and back-tests `count` bars of three symbols."""
    return float(clock.python(MEMORY, str(count))[1])
