"""A seeded synthetic market of BTC, ETH and SOL in 1m bars, for when there is neither network nor history.

It resembles the real market in what matters to a program that reads bars, and is not tuned for signals. Seven-day
regimes (bull, bear, range) follow each other in an order drawn from the seed, so that any thirty days contain a complete
week of each. Within them the log price of BTC reverts to a sloped (or, in a range, level) line with stochastic
volatility: a common log volatility with fast, medium and slow components, intraday seasonality and quieter weekends.
ETH and SOL follow BTC by their betas, plus a shared factor, plus idiosyncratic noise. High and low are drawn from the
distribution of a Brownian bridge's extremes; volume depends on range, volatility and an autoregressive component; the
taker share leans to the side of the bar. Prices are on the tick, quantities on the lot, funding settles every 8 h.

Calibrated on the BTCUSDT, ETHUSDT and SOLUSDT perpetuals, 1m, 2025-05-04 to 06-24 (the taker share on BTC spot, 1m,
March 2026; funding on 2024 and 2025). Real value → mean of eight seeds of 51 days:

======================================  ================  ================  ================
moment of 1m bars                       BTC               ETH               SOL
======================================  ================  ================  ================
std of log returns, 1e-4                 5.13 →  5.20     10.49 →  7.66     10.51 → 10.42
kurtosis (median of the seeds)           11.1 →  12.8      61.4 →  15.2      30.6 →  13.1
autocorrelation of |r|, lag 1            0.27 →  0.27      0.29 →  0.28      0.24 →  0.28
the same, lag 5                          0.22 →  0.23      0.21 →  0.24      0.19 →  0.24
the same, lag 30                         0.17 →  0.17      0.15 →  0.17      0.14 →  0.17
mean range / mean |body|                 1.63 →  1.58      1.84 →  1.84      1.83 →  1.84
correlation of volume and |r|            0.56 →  0.55      0.64 →  0.58      0.56 →  0.57
std of log volume                        1.02 →  1.03      0.97 →  0.99      0.88 →  0.97
std of the taker share                   0.22 →  0.22
correlation of that share and r          0.46 →  0.46
correlation with BTC                                       0.75 →  0.75      0.75 →  0.75
beta on BTC                                                1.52 →  1.10      1.54 →  1.50
======================================  ================  ================  ================

ETH's beta, and with it its standard deviation, is deliberately set to its long-run 1.1: in those seven weeks ETH
outperformed. Known to be lighter than real: the tails of ETH and SOL, and of volume (std / mean 1.3 instead of 1.7).
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from bot.core.errors import ConfigError
from bot.core.jit import kernel, record
from bot.core.klines import Klines, aggregate, interval_ms, make_klines
from bot.core.times import MINUTE_MS
from bot.market.funding import FundingRates, write_funding
from bot.market.store import write

FUNDING_MS: Final = 480 * MINUTE_MS
DEFAULT_START_MS: Final = 1_704_067_200_000  # 2024-01-01, a Monday
REGIMES: Final = ("bull", "bear", "range")


@dataclass(frozen=True, slots=True)
class Coin:
    """One symbol's constants: decimals of tick and lot, first price, median volume per minute, base units per trade."""

    symbol: str
    price_decimals: int
    qty_decimals: int
    first_price: float
    median_volume: float
    qty_per_trade: float


COINS: Final = (
    Coin("BTCUSDT", 1, 3, 60_000.0, 69.0, 0.035),
    Coin("ETHUSDT", 2, 3, 3_000.0, 2_350.0, 1.3),
    Coin("SOLUSDT", 2, 2, 150.0, 8_600.0, 12.0),
)

# Mean |return| of each UTC hour relative to the day, averaged over the three perpetuals.
_HOURS: Final = (
    1.26, 1.13, 1.00, 0.85, 0.76, 0.73, 0.78, 0.88, 0.92, 0.85, 0.79, 0.81,
    0.91, 1.22, 1.35, 1.18, 1.13, 1.13, 1.10, 1.07, 1.03, 1.07, 1.07, 0.99,
)  # fmt: skip
_WEEKEND: Final = 0.75

# Returns: standard deviations per minute; variances and decay times (minutes) of the components of log volatility.
_BTC_STD: Final = 5.42e-4
_BETA: Final = (1.0, 1.1, 1.5)
_IDIO: Final = 0.88  # noise of ETH and SOL relative to beta times BTC's standard deviation: correlation 0.75
_SHARED: Final = math.sqrt(0.5)  # half of the variance of that noise is common to both
_FAST_VAR: Final = 0.06
_MID_VAR: Final = 0.10
_SLOW_VAR: Final = 0.06
_NOW_VAR: Final = 0.04  # uncorrelated in time
_OWN_VAR: Final = 0.10  # idiosyncratic, per coin
_VARIANCE: Final = _FAST_VAR + _MID_VAR + _SLOW_VAR + _NOW_VAR
_FAST_KEEP: Final = math.exp(-1.0 / 8.0)
_MID_KEEP: Final = math.exp(-1.0 / 150.0)
_SLOW_KEEP: Final = math.exp(-1.0 / 2_880.0)
_OWN_KEEP: Final = math.exp(-1.0 / 30.0)
_FAST_GAIN: Final = math.sqrt(_FAST_VAR * (1.0 - _FAST_KEEP**2))
_MID_GAIN: Final = math.sqrt(_MID_VAR * (1.0 - _MID_KEEP**2))
_SLOW_GAIN: Final = math.sqrt(_SLOW_VAR * (1.0 - _SLOW_KEEP**2))
_OWN_GAIN: Final = math.sqrt(_OWN_VAR * (1.0 - _OWN_KEEP**2))
_NOW_GAIN: Final = math.sqrt(_NOW_VAR)
_NEWS_CHANCE: Final = 1.0 / 1_200.0  # per minute: the fast component jumps up
_NEWS_SIZE: Final = 1.3
_TREND_PULL: Final = 1.0 / 1_440.0  # towards the line of a bull or bear week, per minute
_RANGE_PULL: Final = 1.0 / 480.0

# Bars.
_WICK: Final = (0.80, 0.95, 0.95)  # multiple of the bar's volatility in the bridge
_NO_WICK: Final = (0.22, 0.10, 0.10)
_SAME_OPEN: Final = 0.5  # share of bars that open at the previous close; the others open one tick off

# Volume: exponents of volatility and of the bar's range; autoregressive component and noise; taker share.
_VOLUME_STATE: Final = 1.35
_VOLUME_RANGE: Final = 0.80
_VOLUME_KEEP: Final = math.exp(-1.0 / 40.0)
_VOLUME_GAIN: Final = math.sqrt(0.10 * (1.0 - _VOLUME_KEEP**2))
_VOLUME_NOISE: Final = 0.30
_TAKER_LEAN: Final = 0.29
_TAKER_NOISE: Final = 0.44
_TAKER_MEMORY: Final = 0.15  # weight of the previous minute's noise

# Columns of noise: four of returns (BTC, shared, ETH, SOL), four of common volatility; then per coin.
_COMMON_NORMALS: Final = 8
_COIN_NORMALS: Final = 5
_NORMALS: Final = _COMMON_NORMALS + 3 * _COIN_NORMALS
_TRADES_NOISE: Final = 4  # index of the trade count's noise among a coin's columns
_COIN_UNIFORMS: Final = 5
_UNIFORMS: Final = 1 + 3 * _COIN_UNIFORMS
_PIECE: Final = 43_200  # minutes of noise in memory at a time

# State between minutes: components of log volatility, the regime's line, volume memory, log prices, last closes in ticks.
WALK: Final = np.dtype(
    [("fast", "f8"), ("mid", "f8"), ("slow", "f8"), ("line", "f8")]
    + [(name, "f8", 3) for name in ("own", "memory", "where", "last", "takers")]
)


@dataclass(frozen=True, eq=False, slots=True)
class SyntheticMarket:
    """1m klines and funding by symbol, and `(start_ms, name)` of each regime."""

    klines: dict[str, Klines]
    funding: dict[str, FundingRates]
    regimes: tuple[tuple[int, str], ...]


@kernel
def _wick(body: float, bridge: float, draw: float) -> float:
    """Return by how many ticks a Brownian bridge of volatility `bridge` exceeds its body; `draw` is uniform."""
    return math.floor(0.5 * (math.sqrt(body * body - 2.0 * bridge * bridge * math.log(1.0 - draw)) - abs(body)) + 0.5)


@kernel
def _volatility(walk, normal, uniform, season):  # type: ignore[no-untyped-def]
    """Advance the common log volatility by a minute and return it without its uncorrelated component."""
    walk.fast = _FAST_KEEP * walk.fast + _FAST_GAIN * normal[4]
    if uniform[0] < _NEWS_CHANCE:
        walk.fast += _NEWS_SIZE
    walk.mid = _MID_KEEP * walk.mid + _MID_GAIN * normal[5]
    walk.slow = _SLOW_KEEP * walk.slow + _SLOW_GAIN * normal[6]
    return season + walk.fast + walk.mid + walk.slow


@kernel
def _bar(walk, s, normal, uniform, step, wide, state, tick_count, out):  # type: ignore[no-untyped-def]
    """Move coin `s` by the log return `step` of standard deviation `wide` and write its bar to `out`."""
    walk.where[s] += step
    unit = math.exp(walk.where[s]) * tick_count
    # The bar in ticks: rounding never feeds back into the walk.
    closed = max(2.0, math.floor(unit + 0.5))
    opened = walk.last[s]
    if uniform[0] > _SAME_OPEN:
        opened += 1.0 if uniform[0] > 0.5 * (1.0 + _SAME_OPEN) else -1.0
    body = closed - opened
    bridge = _WICK[s] * wide * unit
    high, low = max(opened, closed), min(opened, closed)
    if uniform[3] >= _NO_WICK[s]:
        high += _wick(body, bridge, uniform[1])
    if uniform[4] >= _NO_WICK[s]:
        low = max(1.0, low - _wick(body, bridge, uniform[2]))
    walk.last[s] = closed
    walk.memory[s] = _VOLUME_KEEP * walk.memory[s] + _VOLUME_GAIN * normal[1]
    spread = math.log((high - low + 1.0) / (wide * unit))
    out[0], out[1], out[2], out[3] = opened, high, low, closed
    out[4] = _VOLUME_STATE * (state + walk.own[s]) + _VOLUME_RANGE * spread + walk.memory[s] + _VOLUME_NOISE * normal[2]
    takers = normal[3] + _TAKER_MEMORY * walk.takers[s]
    walk.takers[s] = normal[3]
    out[5] = 0.5 * (1.0 + math.tanh(_TAKER_LEAN * body / (wide * unit) + _TAKER_NOISE * takers))


@kernel
def _market(walk, normal, uniform, season, drift, pull, starts, tick_count, bars):  # type: ignore[no-untyped-def]
    """Simulate the market minute by minute.

    Parameters
    ----------
    walk : record of WALK
    normal, uniform : ndarray(float64, ndim=2)
        Noise, one row per minute.
    season, drift, pull : ndarray(float64, ndim=1)
        Log seasonality; slope of the regime's line (log price per minute); reversion to the line (per minute).
    starts : ndarray(bool, ndim=1)
        True where a regime begins: the line starts at the price.
    tick_count : ndarray(float64, ndim=1)
        Ticks per unit of price, by coin.
    bars : ndarray(float64, ndim=3)
        Output by minute and coin: open, high, low, close in ticks, log of relative volume, taker share.
    """
    alone = math.sqrt(1.0 - _SHARED**2)
    for i in range(normal.shape[0]):
        noise, luck = normal[i], uniform[i]
        if starts[i]:
            walk.line = walk.where[0]
        state = _volatility(walk, noise, luck, season[i])
        std = _BTC_STD * math.exp(state + _NOW_GAIN * noise[7] - _VARIANCE)
        btc = std * noise[0] + pull[i] * (walk.line - walk.where[0]) + drift[i]
        walk.line += drift[i]
        for s in range(3):
            first, chance = _COMMON_NORMALS + _COIN_NORMALS * s, 1 + _COIN_UNIFORMS * s
            walk.own[s] = _OWN_KEEP * walk.own[s] + _OWN_GAIN * noise[first]
            step, wide = btc, std
            if s > 0:
                own_std = _BETA[s] * _IDIO * std * math.exp(walk.own[s] - _OWN_VAR)
                step = _BETA[s] * btc + own_std * (_SHARED * noise[1] + alone * noise[1 + s])
                wide = math.sqrt((_BETA[s] * std) ** 2 + own_std**2)
            _bar(walk, s, noise[first:], luck[chance:], step, wide, state, tick_count[s], bars[i, s])


def _schedule(
    rng: np.random.Generator, minutes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[tuple[int, str]]]:
    """Draw the regimes: slope and reversion per minute, where one begins, and `(minute, name)` of each.

    The three repeat in one drawn order for 7 to 7.5 days each. The next of a kind therefore ends at most four times
    7.5 days after the last began: every window of thirty days contains a complete week of it.
    """
    order = [REGIMES[i] for i in rng.permutation(3)]
    drift, pull, starts = np.zeros(minutes), np.zeros(minutes), np.zeros(minutes, np.bool_)
    regimes: list[tuple[int, str]] = []
    at = 0
    while at < minutes:
        name = order[len(regimes) % 3]
        length = int(rng.integers(7 * 1440, 7 * 1440 + 721))
        week = float(rng.uniform(0.05, 0.10))
        slope = {"bull": week, "bear": -week, "range": 0.0}[name] / (7 * 1440)
        drift[at : at + length] = slope
        pull[at : at + length] = _RANGE_PULL if name == "range" else _TREND_PULL
        starts[at] = True
        regimes.append((at, name))
        at += length
    return drift, pull, starts, regimes


def _season(start_ms: int, minutes: int) -> np.ndarray:
    """Return the log seasonality of each minute, interpolated between mid-hours."""
    minute = start_ms // MINUTE_MS + np.arange(minutes)
    hours = np.array(_HOURS)
    ring = np.concatenate((hours[-1:], hours, hours[:1]))
    level = np.interp((minute % 1440) / 60.0, np.arange(-1, 25) + 0.5, ring / ring[1:-1].mean())
    weekday = (minute // 1440 + 3) % 7  # 1970-01-01 was a Thursday
    return np.log(level * np.where(weekday >= 5, _WEEKEND, 1.0))


def _klines(coin: Coin, open_ms: np.ndarray, bars: np.ndarray, noise: np.ndarray) -> Klines:
    """Convert one coin's simulated bars to klines: ticks to prices, relative to absolute volume."""
    scale, lot = 10.0**coin.price_decimals, 10.0**coin.qty_decimals
    # Whole ticks divided by a power of ten: the float nearest to the decimal price.
    opened, high, low, close = (np.ascontiguousarray(bars[:, k]) / scale for k in range(4))
    lots = np.maximum(1.0, np.rint(coin.median_volume * np.exp(bars[:, 4]) * lot))
    takers = np.rint(lots * bars[:, 5])
    trades = np.maximum(1.0, np.rint((lots / lot / coin.qty_per_trade) ** 0.95 * np.exp(0.25 * noise)))
    volume, taker_buy = lots / lot, takers / lot
    # The average price of the minute, the same for all volume and for takers.
    average = (opened + high + low + close) / 4.0
    columns = {
        "open_ms": open_ms,
        "open": opened,
        "high": high,
        "low": low,
        "close": close,
        "volume": volume,
        "taker_buy_volume": taker_buy,
        "quote_volume": np.round(volume * average, 4),
        "trades": trades,
        "taker_buy_quote_volume": np.round(taker_buy * average, 4),
    }
    return make_klines(coin.symbol, MINUTE_MS, columns=columns)


def _funding(coin: Coin, rng: np.random.Generator, start_ms: int, minutes: int, drift: np.ndarray) -> FundingRates:
    """Draw funding every eight hours: persistent, higher in a bull week, rarely several times its usual size."""
    first = start_ms - start_ms % FUNDING_MS
    times = np.arange(first, start_ms + minutes * MINUTE_MS, FUNDING_MS, dtype=np.int64)
    rates = np.empty(len(times))
    state = 0.0
    for i, noise in enumerate(rng.standard_normal(len(times)).tolist()):
        state = 0.8 * state + 0.6 * noise
        slope = drift[max(0, (int(times[i]) - start_ms) // MINUTE_MS)]
        excess = 4.0 * max(0.0, state - 1.5) if slope > 0 else 0.0
        rates[i] = 1e-4 * (0.75 + 0.45 * np.sign(slope) + 0.5 * state + excess)
    return FundingRates(coin.symbol, times, np.round(np.clip(rates, -0.003, 0.003), 8))


def synthetic_market(days: int, seed: int, *, start_ms: int = DEFAULT_START_MS) -> SyntheticMarket:
    """Simulate `days` days from `seed`; equal arguments give equal values, more days extend the same beginning.

    Parameters
    ----------
    days : int
        Length, days; at least 1.
    seed : int
        Not negative.
    start_ms : int
        Open time of the first bar, UTC epoch ms, on a quarter of an hour.

    Raises
    ------
    ConfigError
        An argument is out of range.
    """
    if days < 1:
        raise ConfigError(f"a synthetic market of {days} days has no bar: ask for at least 1")
    if seed < 0:
        raise ConfigError(f"the seed {seed} is negative: any whole number from 0 on will do")
    if start_ms < 0 or start_ms % interval_ms("15m"):
        raise ConfigError(f"a synthetic market cannot start at {start_ms} ms: take a quarter of an hour")
    minutes = days * 1440
    plan, normals, uniforms, *coins = (
        np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(3 + len(COINS))
    )
    drift, pull, starts, regimes = _schedule(plan, minutes)
    tick_count = np.array([10.0**coin.price_decimals for coin in COINS])
    walk = record(WALK)
    for s, coin in enumerate(COINS):
        walk.where[s] = math.log(coin.first_price)
        walk.last[s] = round(coin.first_price * tick_count[s])
    season = _season(start_ms, minutes)
    bars, trades = np.empty((minutes, len(COINS), 6)), np.empty((minutes, len(COINS)))
    # In pieces: the noise of ten years would not fit in memory. The draws do not depend on the piece length.
    for at in range(0, minutes, _PIECE):
        part = slice(at, min(at + _PIECE, minutes))
        normal = normals.standard_normal((part.stop - at, _NORMALS))
        uniform = uniforms.random((part.stop - at, _UNIFORMS))
        _market(walk, normal, uniform, season[part], drift[part], pull[part], starts[part], tick_count, bars[part])
        trades[part] = normal[:, _COMMON_NORMALS + _TRADES_NOISE :: _COIN_NORMALS]
    open_ms = start_ms + MINUTE_MS * np.arange(minutes, dtype=np.int64)
    return SyntheticMarket(
        klines={coin.symbol: _klines(coin, open_ms, bars[:, s], trades[:, s]) for s, coin in enumerate(COINS)},
        funding={
            coin.symbol: _funding(coin, rng, start_ms, minutes, drift) for coin, rng in zip(COINS, coins, strict=True)
        },
        regimes=tuple((start_ms + at * MINUTE_MS, name) for at, name in regimes),
    )


def synthetic(days: int, seed: int, *, start_ms: int = DEFAULT_START_MS) -> dict[str, Klines]:
    """Return the 1m klines of `synthetic_market` by symbol."""
    return synthetic_market(days, seed, start_ms=start_ms).klines


def write_market(
    folder: Path | str, days: int, seed: int, *, start_ms: int = DEFAULT_START_MS, overwrite: bool = False
) -> list[Path]:
    """Write the market as `SYMBOL-{1m,3m,15m}.parquet` and `SYMBOL-funding.parquet`; return the files.

    Parameters
    ----------
    folder
        Folder of the files.
    days, seed, start_ms
        As in `synthetic_market`.
    overwrite
        Replace existing files.

    Raises
    ------
    ConfigError
        A file of that name exists and `overwrite` is false; nothing has been written.
    """
    names = [f"{coin.symbol}-{what}.parquet" for coin in COINS for what in ("1m", "3m", "15m", "funding")]
    held = next((name for name in names if (Path(folder) / name).exists()), None)
    if held is not None and not overwrite:
        raise ConfigError(f"{folder} holds klines already ({held}): name an empty folder, or say --overwrite")
    market = synthetic_market(days, seed, start_ms=start_ms)
    paths = []
    for symbol, minutes in market.klines.items():
        base = aggregate(minutes, interval_ms("3m"))
        paths += [write(folder, series) for series in (minutes, base, aggregate(base, interval_ms("15m")))]
        paths.append(write_funding(folder, market.funding[symbol]))
    return paths
