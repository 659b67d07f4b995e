"""Four trend indicators: Trend Tracer, Trend Catcher, Neo Cloud and trend strength.

The Tracer is a range filter: it moves only when price leaves a band of its own typical step. The Catcher is Kaufman's
adaptive average, fast in a clean move and slow in noise, with a dead band around its slope; its pace is squared, as in
Kaufman, or not. The Neo Cloud lies between two midlines of SuperTrends of different lengths, which may be scaled. Trend
strength maps Wilder's ADX to 0..100, where an ADX of 25 is 50 (premium indicators 4.5 to 4.8; Kaufman, Smarter Trading,
1995; Wilder, New Concepts, 1978). A direction is a slope with memory: it stays until the line moves the other way.
"""

import math

import numpy as np

from bot.core.jit import kernel
from bot.indicators.averages import EMA, RMA, ema_step, rma_step
from bot.indicators.confirmation import SUPERTREND, supertrend_reset, supertrend_step
from bot.indicators.window_sum import WINDOW, ema_reset, rma_reset, window_reset, window_step

TRACER_FAST = 22
TRACER_SLOW = 43
TRACER_QUIET = 100  # warm-up bars of the Tracer
KAMA_CAPACITY = 64
CLOUD_QUIET = 60  # warm-up bars of the cloud, scaled with its lengths
ADX_LENGTH = 14
HALF_STRENGTH = 25.0  # ADX that counts as 50 %

TRACER = np.dtype([("bars", "i8"), ("fast", EMA), ("slow", EMA), ("line", "f8"), ("direction", "i8")])
CATCHER = np.dtype(
    [
        ("bars", "i8"),
        ("slot", "i8"),
        ("closes", "f8", KAMA_CAPACITY),
        ("path", WINDOW),
        ("line", "f8"),
        ("direction", "i8"),
    ]
)
MIDLINE = np.dtype(
    [("atr", RMA), ("trend", SUPERTREND), ("close_above", "i8"), ("top", "f8"), ("bottom", "f8"), ("middle", "f8")]
)
CLOUD = np.dtype(
    [("bars", "i8"), ("first", MIDLINE), ("second", MIDLINE), ("slow", MIDLINE), ("lead", "f8"), ("lag", "f8")]
)
STRENGTH = np.dtype([("plus", RMA), ("minus", RMA), ("adx", RMA)])

TRENDS = np.dtype([("tracer", TRACER), ("catcher", CATCHER), ("cloud", CLOUD), ("strength", STRENGTH)])
TRENDS_PARAMS = np.dtype(
    [
        ("tracer_factor", "f8"),
        ("catcher_length", "i8"),
        ("catcher_squared", "i8"),  # 1: the pace is squared
        ("catcher_fast", "f8"),  # paces of a clean move and of pure noise
        ("catcher_slow", "f8"),
        ("catcher_band", "f8"),  # dead band of the slope, in ATR 14
        ("cloud_first", "i8"),
        ("cloud_second", "i8"),
        ("cloud_slow", "i8"),
        ("cloud_width", "f8"),  # factor on the ATR multiples of the midlines
        ("cloud_quiet", "i8"),  # warm-up bars without a cloud
    ]
)


def midline_reset(midline) -> None:
    rma_reset(midline.atr)
    supertrend_reset(midline.trend)
    midline.close_above = 0
    midline.top = 0.0
    midline.bottom = 0.0
    midline.middle = math.nan


def trends_reset(trends) -> None:
    """Reset a TRENDS record to its state before the first bar."""
    tracer, catcher, cloud, strength = trends.tracer, trends.catcher, trends.cloud, trends.strength
    tracer.bars = 0
    ema_reset(tracer.fast)
    ema_reset(tracer.slow)
    tracer.line = math.nan
    tracer.direction = 0
    catcher.bars = 0
    catcher.slot = 0
    catcher.closes[:] = 0.0
    window_reset(catcher.path)
    catcher.line = math.nan
    catcher.direction = 0
    cloud.bars = 0
    midline_reset(cloud.first)
    midline_reset(cloud.second)
    midline_reset(cloud.slow)
    cloud.lead = math.nan
    cloud.lag = math.nan
    rma_reset(strength.plus)
    rma_reset(strength.minus)
    rma_reset(strength.adx)


@kernel
def slope(line: float, previous: float, band: float, direction: int) -> int:
    """Return +1 or -1 when the line moved by more than `band`, else (also with NaN) the previous direction.

    Source: premium indicators 4.5 and 4.6.

    Parameters
    ----------
    line, previous, band
        Line now and one bar ago, and dead band; price units.
    direction
        Previous direction, +1, -1 or 0.

    >>> slope(2.0, 1.0, 0.0, -1), slope(1.0, 1.0, 0.0, -1)
    (1, -1)
    """
    moved = (1 if line > previous + band else 0) - (1 if line < previous - band else 0)
    return moved if moved != 0 else direction


@kernel
def tracer_step(tracer, factor: float, bar) -> None:
    """Advance the range filter; its band is `factor` times the twice averaged step.

    `tracer`, `bar`: TRACER and BAR records; line float64 in price units, from the first bar. Source: premium indicators
    4.5.
    """
    tracer.bars += 1
    previous = tracer.line
    if tracer.bars == 1 or math.isnan(bar.previous_close):
        tracer.line = bar.close
        return
    step = ema_step(tracer.fast, abs(bar.close - bar.previous_close), TRACER_FAST, False)
    band = ema_step(tracer.slow, step, TRACER_SLOW, False) * factor
    above = max(previous, bar.close - band)
    below = min(previous, bar.close + band)
    tracer.line = above if bar.close > previous else below
    tracer.direction = slope(tracer.line, previous, 0.0, tracer.direction)


@kernel
def catcher_step(catcher, params, bar) -> None:
    """Advance Kaufman's average over n = `catcher_length` bars; it starts at the first close with a close n bars before it.

    K += p*(close - K) with p = e*(fast - slow) + slow, or the square of that; e = |close - close n bars ago| / path.
    `catcher`, `params`, `bar`: CATCHER, TRENDS_PARAMS and BAR records; line float64 in price units, NaN before its
    start. Source: premium indicators 4.6; Kaufman (1995).
    """
    length = params.catcher_length
    slot = catcher.slot
    oldest = catcher.closes[slot]
    catcher.closes[slot] = bar.close
    catcher.slot = slot + 1 if slot + 1 < length else 0
    catcher.bars += 1
    if catcher.bars == 1 or math.isnan(bar.previous_close):
        return
    path = window_step(catcher.path, abs(bar.close - bar.previous_close), length)
    if catcher.bars <= length:
        return
    previous = catcher.line
    if math.isnan(previous):
        catcher.line = bar.close
        return
    efficiency = 0.0 if path == 0.0 else abs(bar.close - oldest) / path
    pace = efficiency * (params.catcher_fast - params.catcher_slow) + params.catcher_slow
    if params.catcher_squared == 1:
        pace *= pace
    catcher.line = previous + pace * (bar.close - previous)
    catcher.direction = slope(catcher.line, previous, params.catcher_band * bar.atr14, catcher.direction)


@kernel
def midline_step(midline, length: int, multiple: float, bar) -> float:
    """Advance one midline of the cloud and return it: the middle between the extremes of the close and the trend's other line.

    Float64 in price units, NaN until the ATR is known. Source: premium indicators 4.7.

    Parameters
    ----------
    midline, bar
        MIDLINE and BAR records.
    length
        Length of the ATR, bars.
    multiple
        Distance of the bands, multiple of the ATR.
    """
    atr = rma_step(midline.atr, bar.tr, length)
    close = bar.close
    if math.isnan(atr):
        midline.top = close
        midline.bottom = close
        return math.nan
    trend = midline.trend
    supertrend_step(trend, (bar.high + bar.low) / 2.0, multiple * atr, close, 0)
    above = 1 if close > trend.line else 0
    crossed = above != midline.close_above
    midline.close_above = above
    midline.top = max(close, midline.top) if crossed or trend.side == 1 else trend.line
    midline.bottom = min(close, midline.bottom) if crossed or trend.side == 0 else trend.line
    midline.middle = (midline.top + midline.bottom) / 2.0
    return midline.middle


@kernel
def cloud_step(cloud, params, bar) -> None:
    """Advance the cloud: lead is the mean of two fast midlines, lag a slow one.

    `cloud`, `params`, `bar`: CLOUD, TRENDS_PARAMS and BAR records; float64 in price units, NaN until the ATRs are
    known. Source: premium indicators 4.7.
    """
    cloud.bars += 1
    width = params.cloud_width
    first = midline_step(cloud.first, params.cloud_first, 2.0 * width, bar)
    second = midline_step(cloud.second, params.cloud_second, 3.0 * width, bar)
    cloud.lead = (first + second) / 2.0
    cloud.lag = midline_step(cloud.slow, params.cloud_slow, 4.0 * width, bar)


@kernel
def strength_step(strength, bar) -> float:
    """Advance ADX 14 and return 100*(1 - 2^(-ADX/25)), float64, 0 to 100; NaN until ADX is known.

    The true range divides both directional indices alike and cancels out of their quotient. `strength`, `bar`: STRENGTH
    and BAR records. Source: premium indicators 4.8; Wilder (1978).
    """
    if math.isnan(bar.previous_close):
        return math.nan
    rise = bar.high - bar.previous_high
    fall = bar.previous_low - bar.low
    plus = rma_step(strength.plus, rise if rise > max(fall, 0.0) else 0.0, ADX_LENGTH)
    minus = rma_step(strength.minus, fall if fall > max(rise, 0.0) else 0.0, ADX_LENGTH)
    if math.isnan(plus):
        return math.nan
    moved = plus + minus
    index = 0.0 if moved == 0.0 else 100.0 * abs(plus - minus) / moved
    adx = rma_step(strength.adx, index, ADX_LENGTH)
    return 100.0 * (1.0 - math.exp(-math.log(2.0) / HALF_STRENGTH * adx))
