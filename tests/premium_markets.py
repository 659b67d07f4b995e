"""Markets for the tests of Oscillator Matrix and Signals & Overlays, and the loop that runs a family over one.

Prices and volumes lie on binary grids, so that sums of them are exact in any order: kernel and slow twin then agree on every
comparison of prices to the last bit, and what is left are the sums of quotients.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from hypothesis import strategies as st
from numpy.typing import NDArray

from bot.config import Config
from bot.core.jit import record
from bot.core.klines import make_klines
from bot.indicators.volatility import BAR, bar_step
from bot.strategy.features import batch
from bot.strategy.kernel import SUITE_COLUMNS

Array = NDArray[np.float64]
LARGEST_STEP = 4096  # ticks


class Market(NamedTuple):
    open: Array
    high: Array
    low: Array
    close: Array
    volume: Array
    taker: Array
    filled: NDArray[np.int64]

    def head(self, n: int) -> "Market":
        return Market(*(column[:n] for column in self))

    def scaled(self, factor: float, volume: float = 1.0) -> "Market":
        prices = (column * factor for column in self[:4])
        return Market(*prices, self.volume * volume, self.taker * volume, self.filled)

    def mirrored(self) -> "Market":
        """The market upside down, about zero: a reflection without rounding."""
        return Market(
            -self.open, -self.low, -self.high, -self.close, self.volume, self.volume - self.taker, self.filled
        )


def batch_columns(
    config: Config, open_ms: NDArray[np.int64], prices: Array, filled: NDArray[np.int64], names: tuple[str, ...]
) -> Array:
    """Columns of one interval's bars as history computes them, (names, bars); `prices` are open to taker volume, (6, bars)."""
    fields = ("open", "high", "low", "close", "volume", "taker_buy_volume")
    columns = {"open_ms": open_ms, "filled": filled, **dict(zip(fields, prices, strict=True))}
    bars = make_klines("BTCUSDT", int(open_ms[1] - open_ms[0]), columns=columns)
    rows = batch(bars, config, suite_only=True)
    return rows[:, [SUITE_COLUMNS.index(name) for name in names]].T


@dataclass(frozen=True)
class Real:
    """Real 3m klines of BTCUSDT as the file has them, and as a market."""

    frame: pd.DataFrame
    market: Market

    @property
    def days(self) -> float:
        return len(self.frame) / 480


def real_klines(shared: Path) -> Real:
    """The spot klines beside the repository."""
    frame = pd.read_parquet(shared / "klines/spot/BTCUSDT-3m.parquet")
    columns = [frame[name].to_numpy(np.float64) for name in ("open", "high", "low", "close", "volume")]
    unknown = np.full(len(frame), math.nan)
    return Real(frame, Market(*columns, unknown, np.zeros(len(frame), np.int64)))


def hidden_methods(*dtypes: np.dtype) -> set[str]:
    """Names of fields, nested ones too, that hide a method of a numpy record."""

    def names(dtype: np.dtype) -> Any:
        for name in dtype.names or ():
            yield name
            yield from names(dtype[name].base)

    return {name for dtype in dtypes for name in names(dtype) if hasattr(np.record, name)}


def random_market(
    seed: int,
    bars: int,
    *,
    step: float = 40.0,
    flat: float = 0.0,
    dry: float = 0.0,
    spike: float = 0.0,
    jump: float = 0.0,
    filler: float = 0.0,
    tick: float = 1 / 64,
    trend: float = 0.0,
) -> Market:
    """A random walk on a grid of `tick`; the other arguments are shares of bars of that kind, `step` and `trend` count ticks."""
    rng = np.random.default_rng(seed)
    change = np.rint(rng.normal(trend, step, bars))
    change[rng.random(bars) < spike] *= 12
    kinds = {name: rng.random(bars) < share for name, share in (("flat", flat), ("dry", dry), ("filler", filler))}
    change[kinds["flat"] | kinds["filler"]] = 0
    close = 100_000 + np.cumsum(np.clip(change, -LARGEST_STEP, LARGEST_STEP))
    close += max(0.0, 20_000 - close.min())
    before = np.concatenate((close[:1], close[:-1]))
    opened = before + np.where(rng.random(bars) < jump, np.rint(rng.normal(0, 2 * step, bars)), 0)
    still = kinds["flat"] | kinds["filler"]
    opened[still] = close[still]
    wick = np.rint(np.abs(rng.normal(0, step, (2, bars)))) * np.where(rng.random((2, bars)) < spike, 15, 1)
    wick[:, still] = 0
    high = np.maximum(opened, close) + wick[0]
    low = np.maximum(np.minimum(opened, close) - wick[1], 1)
    volume = np.rint(rng.exponential(1000, bars)) / 8
    volume[kinds["dry"] | kinds["filler"]] = 0
    taker = np.rint(volume * 8 * rng.random(bars)) / 8
    prices = (column * tick for column in (opened, high, low, close))
    return Market(*prices, volume, taker, kinds["filler"].astype(np.int64))


RARE = st.sampled_from((0.0, 0.0, 0.02, 0.3))


@st.composite
def markets(draw: Any, shortest: int = 30, longest: int = 500) -> Market:
    """Quiet, gapping, flat, dry and wild markets, at prices from 1e-6 to 1e9."""
    return random_market(
        draw(st.integers(0, 2**32 - 1)),
        draw(st.integers(shortest, longest)),
        step=draw(st.sampled_from((1.0, 5.0, 40.0, 400.0))),
        flat=draw(RARE),
        dry=draw(RARE),
        spike=draw(RARE),
        jump=draw(RARE),
        filler=draw(RARE),
        tick=2.0 ** draw(st.integers(-36, 12)),
        trend=draw(st.sampled_from((-10.0, 0.0, 0.0, 10.0))),
    )


class Runner:
    """One family, stepped bar by bar over markets."""

    def __init__(self, family: ModuleType, prefix: str, section: Any) -> None:
        self.family = family
        self.reset = getattr(family, f"{prefix}_reset")
        self.step = getattr(family, f"{prefix}_step")
        self.params = family.params(section)
        self.state = record(family.STATE)
        self.reset(self.state, self.params)

    def rows(self, market: Market) -> Array:
        """Step over the market; the state stays in `self.state`."""
        bar = record(BAR)
        out = np.full((len(market.close), len(self.family.COLUMNS)), 9e99)  # every column has to be written
        columns = [column.tolist() for column in market]
        for t, (opened, high, low, close, volume, taker, filled) in enumerate(zip(*columns, strict=True)):
            bar_step(bar, t, opened, high, low, close, volume, taker, filled)
            self.step(self.state, self.params, bar, out[t])
        return out

    def columns(self, market: Market) -> dict[str, Array]:
        return dict(zip(self.family.COLUMNS, self.rows(market).T.copy(), strict=True))


def run(family: ModuleType, prefix: str, section: Any, market: Market) -> dict[str, Array]:
    """Columns of a fresh family over the market."""
    return Runner(family, prefix, section).columns(market)
