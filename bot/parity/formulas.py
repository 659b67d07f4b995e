"""Public formulas that many charts contain: averages, RSI, WaveTrend. They bind columns whose name is unknown.

They test the comparison itself: where a column's formula is publicly known, agreement must be complete. Notation as in
a bind file: `sma(volume,20)`, `ema(close,200)`, `rsi(ohlc4,14)`, `wavetrend(9,12)`.
"""

import math
import re
from collections.abc import Iterator
from typing import Final

import numpy as np

from bot.core.errors import ConfigError
from bot.core.klines import Klines
from bot.indicators.averages import super_weights

SOURCES: Final = ("open", "high", "low", "close", "volume", "hl2", "hlc3", "ohlc4")
_CALL: Final = re.compile(r"(\w+)\(([^()]*)\)")


def source(bars: Klines, name: str) -> np.ndarray:
    """Return a price or volume series of the bars by its usual name, float64."""
    match name:
        case "hl2":
            return (bars.high + bars.low) / 2.0
        case "hlc3":
            return (bars.high + bars.low + bars.close) / 3.0
        case "ohlc4":
            return (bars.open + bars.high + bars.low + bars.close) / 4.0
        case _:
            return np.asarray(getattr(bars, name), dtype=np.float64)


def sma(x: np.ndarray, length: int) -> np.ndarray:
    """Return the mean of the last `length` values, NaN until `length` values."""
    out = np.full(len(x), np.nan)
    if len(x) >= length:
        out[length - 1 :] = np.lib.stride_tricks.sliding_window_view(x, length).mean(axis=1)
    return out


def _recursive(x: np.ndarray, alpha: float, seed_length: int) -> np.ndarray:
    """Return `r += alpha * (x - r)` from the mean of the first `seed_length` known values; NaN before."""
    out = np.full(len(x), np.nan)
    known = np.flatnonzero(np.isfinite(x))
    if len(known) < seed_length:
        return out
    start = int(known[seed_length - 1])
    value = float(np.mean(x[known[:seed_length]]))
    out[start] = value
    tail = x.tolist()
    for i in range(start + 1, len(x)):
        if math.isfinite(tail[i]):
            value += alpha * (tail[i] - value)
        out[i] = value
    return out


def ema(x: np.ndarray, length: int) -> np.ndarray:
    """Return the exponential average seeded with the first value."""
    return _recursive(x, 2.0 / (length + 1.0), 1)


def rma(x: np.ndarray, length: int) -> np.ndarray:
    """Return Wilder's average seeded with the mean of the first `length` values."""
    return _recursive(x, 1.0 / length, length)


def super_smoother(x: np.ndarray, length: float) -> np.ndarray:
    """Return Ehlers' 2-pole super smoother of a series, seeded with its first two values."""
    first, second = super_weights(length)
    out = np.array(x, float)
    for i in range(2, len(out)):
        mean = 0.5 * (x[i] + x[i - 1])
        out[i] = (1.0 - first - second) * mean + first * out[i - 1] + second * out[i - 2]
    return out


def rsi(x: np.ndarray, length: int, average: str = "rma") -> np.ndarray:
    """Return the relative strength index, 0 to 100; 50 where nothing moves."""
    change = np.diff(x, prepend=np.nan)
    smooth = rma if average == "rma" else ema if average == "ema" else sma
    up, down = smooth(np.maximum(change, 0.0), length), smooth(np.maximum(-change, 0.0), length)
    total = up + down
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total < 1e-12, 50.0, 100.0 * up / total)


def wavetrend(bars: Klines, channel: int, average: int) -> np.ndarray:
    """Return WaveTrend's first line on hlc3: the smoothed distance of price from its mean, in mean distances."""
    price = source(bars, "hlc3")
    middle = ema(price, channel)
    spread = ema(np.abs(price - middle), channel)
    with np.errstate(invalid="ignore", divide="ignore"):
        return ema((price - middle) / (0.015 * spread), average)


def compute(text: str, bars: Klines) -> np.ndarray | None:
    """Return the series of a formula such as `sma(volume,20)` on the bars; None if the text is not a formula.

    Raises
    ------
    ConfigError
        It looks like a formula but its name or its arguments are invalid.
    """
    match = _CALL.fullmatch(text.replace(" ", ""))
    if match is None:
        return None
    name, words = match[1], [word for word in match[2].split(",") if word]
    try:
        numbers = [int(word) for word in words if word not in SOURCES]
    except ValueError:
        raise ConfigError(f"bind: {text!r} has an argument that is neither a whole number nor a price") from None
    sources = [word for word in words if word in SOURCES]
    if any(not 1 <= n <= 10_000 for n in numbers):
        raise ConfigError(f"bind: {text!r}: lengths are 1 to 10000 bars")
    match name, len(sources), len(numbers):
        case "sma", 1, 1:
            return sma(source(bars, sources[0]), numbers[0])
        case "ema", 1, 1:
            return ema(source(bars, sources[0]), numbers[0])
        case "rma", 1, 1:
            return rma(source(bars, sources[0]), numbers[0])
        case "rsi", 1, 1:
            return rsi(source(bars, sources[0]), numbers[0])
        case "wavetrend", 0, 2:
            return wavetrend(bars, *numbers)
        case "wavetrend_signal", 0, 3:
            return sma(wavetrend(bars, *numbers[:2]), numbers[2])
        case "wavetrend_difference", 0, 3:
            first = wavetrend(bars, *numbers[:2])
            return first - sma(first, numbers[2])
    raise ConfigError(
        f"bind: {text!r} is no known formula: sma(SOURCE,N), ema(SOURCE,N), rma(SOURCE,N), rsi(SOURCE,N), wavetrend(N,M), "
        "wavetrend_signal(N,M,K) and wavetrend_difference(N,M,K) are"
    )


def common() -> Iterator[str]:
    """Yield the formulas against which a column without a known name is tested."""
    for length in (5, 9, 10, 14, 20, 21, 30, 34, 50, 55, 89, 100, 144, 200):
        for name in ("close", "volume", "hl2", "hlc3"):
            yield f"sma({name},{length})"
            yield f"ema({name},{length})"
    for length in (2, 7, 9, 14, 21):
        for name in ("close", "hlc3", "ohlc4"):
            yield f"rsi({name},{length})"
    for channel, average in ((9, 12), (10, 21), (9, 21), (10, 12)):
        yield f"wavetrend({channel},{average})"
        for signal in (3, 4):
            yield f"wavetrend_signal({channel},{average},{signal})"
            yield f"wavetrend_difference({channel},{average},{signal})"
