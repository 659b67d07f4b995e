"""The bars of the benchmarks: a seeded synthetic market of any length, and 20,000 real ones where available."""

from pathlib import Path

import numpy as np

from bot.core.klines import Klines, aggregate, make_klines
from bot.market import store
from bot.market.synthetic import synthetic_market

BASE_MS = 180_000
REAL = Path(__file__).resolve().parent.parent.parent / "shared" / "klines" / "um"
SYMBOL = "BTCUSDT"


def synthetic_bars(count: int, *, days: int = 60, seed: int = 7) -> Klines:
    """Return `count` synthetic 3m bars of BTC: `days` of a market, repeated in continuing time if shorter."""
    return repeat(aggregate(synthetic_market(days, seed).klines[SYMBOL], BASE_MS), count)


def repeat(bars: Klines, count: int) -> Klines:
    """Return the first `count` bars of `bars` repeated end to end in continuing time."""
    times = -(-count // len(bars))
    columns = {name: np.tile(column, times)[:count] for name, column in bars.columns().items()}
    columns["open_ms"] = bars.open_ms[0] + np.arange(count) * bars.interval_ms
    return make_klines(bars.symbol, bars.interval_ms, columns=columns)


def common_bars(count: int) -> tuple[Klines, str]:
    """Return the bars of the side-by-side comparison and their description: real ones, else synthetic."""
    if not REAL.is_dir():
        return synthetic_bars(count), "synthetic"
    bars = store.load(REAL, SYMBOL, "3m")
    return bars.part(len(bars) - count, len(bars)), "BTCUSDT perpetual 3m"
