"""Smart Money Flow: direction and strength of money flow, its thresholds, and overflow.

The line ranges from 0 to 100 around 50: part Money Flow Index (volume of rising against falling typical prices), part
Chaikin Money Flow (where in its range the bar closed, weighted by volume), smoothed. The thresholds are the mean
excursions above and below 50. An overflow is flow beyond its threshold, still growing, on volume above its own mean:
the late chasers. The definition is our own, deliberately stricter than the threshold, because the strategy requires
strong flow and no overflow at the same time (premium indicators 3.1 to 3.3). A second line reads true taker volume
instead of the close's location.
"""

import math

import numpy as np

from bot.core.jit import kernel
from bot.indicators.window_sum import WINDOW, WINDOWS, lanes_reset, lanes_step, window_reset, window_step

NEVER = 1 << 30  # age in bars of an event that has not occurred
RECENT = 5  # a recent overflow: one of the last five bars had it
FAST_VOLUME = 6  # window of the volume that an overflow compares with the mean, bars

# Indices of the sums over the money flow's length.
RISING = 0  # typical price times volume of bars whose typical price rose
FALLING = 1
VOLUME = 2
PRESSURE = 3  # close location times volume
PRESSURE_SQUARE = 4
DELTA = 5  # taker buys minus taker sells
DELTA_SQUARE = 6

MONEY_FLOW_PARAMS = np.dtype([("length", "i8"), ("smooth", "i8"), ("weight", "f8"), ("volume_ratio", "f8")])

MONEY_FLOW = np.dtype(
    [
        ("typical", "f8"),  # of the previous bar; NaN on the first
        ("line", "f8"),  # 0..100, 50 = balance
        ("upper", "f8"),
        ("lower", "f8"),
        ("taker_line", "f8"),  # the line with taker volume instead of the close's location
        ("overflow", "f8"),  # display value, 50 = inactive
        ("ready", "i8"),  # 1: every input of the overflow is known
        ("overflow_up", "i8"),
        ("overflow_down", "i8"),
        ("since_up", "i8"),  # bars since the side's last overflow, 0 on its bar
        ("since_down", "i8"),
        ("sums", WINDOWS),  # the seven indexed above
        ("fast_volume", WINDOW),
        ("raw", WINDOW),
        ("taker_raw", WINDOW),
        ("above", WINDOW),  # excursions of the line above 50
        ("below", WINDOW),
    ]
)


def money_flow_reset(flow) -> None:
    """Reset a MONEY_FLOW record to its state before the first bar."""
    flow.typical = math.nan
    flow.line = math.nan
    flow.upper = math.nan
    flow.lower = math.nan
    flow.taker_line = math.nan
    flow.overflow = math.nan
    flow.ready = 0
    flow.overflow_up = 0
    flow.overflow_down = 0
    flow.since_up = NEVER
    flow.since_down = NEVER
    lanes_reset(flow.sums)
    window_reset(flow.fast_volume)
    window_reset(flow.raw)
    window_reset(flow.taker_raw)
    window_reset(flow.above)
    window_reset(flow.below)


@kernel
def close_location(high: float, low: float, close: float) -> float:
    """Return where in its range the bar closed (float64): +1 at the high, -1 at the low, 0 for a flat bar.

    Prices in the same unit; NaN propagates. Source: Chaikin's close location value; premium indicators 3.1.

    >>> close_location(10.0, 6.0, 9.0)
    0.5
    """
    if high == low:
        return 0.0
    return (2.0 * close - high - low) / (high - low)


@kernel
def spread_ratio(squares: float, total: float, other_squares: float, other_total: float, length: int) -> float:
    """Return the ratio of two standard deviations from sums and sums of squares; 1 where the second is 0.

    A variance below 1e-12 of its mean square is rounding and counts as 0. Float64, dimensionless; NaN where the second
    variance is. Source: premium indicators 3.1.

    Parameters
    ----------
    squares, total
        Sum of squares and sum of the first series.
    other_squares, other_total
        The same of the second series, in the same unit.
    length
        Number of values, bars.
    """
    mean = total / length
    other_mean = other_total / length
    square = squares / length
    other_square = other_squares / length
    other_variance = other_square - other_mean * other_mean
    if not other_variance > 1e-12 * other_square:
        return math.nan if math.isnan(other_variance) else 1.0
    variance = square - mean * mean
    return math.sqrt(max(variance, 0.0) / other_variance)


@kernel
def taker_flow(totals, length: int) -> float:
    """Return the money flow of true taker volume, -1 to +1: 2*taker - volume instead of location*volume.

    It is rescaled by the ratio of the two standard deviations over the window (taker shares stay close to one half,
    close locations do not) and clipped to -1..+1. `totals`: float64, shape (LANES,), sums over `length` bars. NaN while
    a bar in the window has no taker volume. Source: premium indicators 3.1.
    """
    volume = totals[VOLUME]
    delta = totals[DELTA]
    if volume == 0.0:
        return 0.0 if not math.isnan(delta) else math.nan
    scale = spread_ratio(totals[PRESSURE_SQUARE], totals[PRESSURE], totals[DELTA_SQUARE], delta, length)
    flow = scale * delta / volume
    if flow > 1.0:
        flow = 1.0
    elif flow < -1.0:
        flow = -1.0
    return flow


@kernel
def sums_step(flow, bar, length: int) -> None:
    """Advance the seven sums by one bar; on the first bar there is no typical price to compare with.

    `flow`, `bar`: MONEY_FLOW and BAR records; `length` in bars. Sums are float64 (base volume, or price times volume),
    NaN until `length` bars. Source: premium indicators 3.1.
    """
    fresh = flow.sums.fresh
    typical = (bar.high + bar.low + bar.close) / 3.0
    moved = typical * bar.volume
    fresh[RISING] = moved if typical > flow.typical else 0.0
    fresh[FALLING] = moved if typical < flow.typical else 0.0
    flow.typical = typical
    pressure = close_location(bar.high, bar.low, bar.close) * bar.volume
    delta = 2.0 * bar.taker - bar.volume
    fresh[VOLUME] = bar.volume
    fresh[PRESSURE] = pressure
    fresh[PRESSURE_SQUARE] = pressure * pressure
    fresh[DELTA] = delta
    fresh[DELTA_SQUARE] = delta * delta
    lanes_step(flow.sums, length)


@kernel
def line_step(flow, params, bar) -> None:
    """Advance the line and its taker-volume variant; the first value is on bar length + smooth - 1.

    `flow`, `params`, `bar`: MONEY_FLOW, MONEY_FLOW_PARAMS and BAR records. Lines are float64, 0 to 100, NaN during
    warm-up. Source: premium indicators 3.1; Money Flow Index, Chaikin Money Flow.
    """
    sums_step(flow, bar, params.length)
    totals = flow.sums.total
    moved = totals[RISING] + totals[FALLING]
    index = 50.0 if moved == 0.0 else 100.0 * totals[RISING] / moved
    chaikin = 0.0 if totals[VOLUME] == 0.0 else totals[PRESSURE] / totals[VOLUME]
    taker = taker_flow(totals, params.length)
    rest = 1.0 - params.weight
    raw = params.weight * index + rest * (50.0 + 50.0 * chaikin)
    taker_raw = params.weight * index + rest * (50.0 + 50.0 * taker)
    flow.line = window_step(flow.raw, raw, params.smooth) / params.smooth
    flow.taker_line = window_step(flow.taker_raw, taker_raw, params.smooth) / params.smooth


@kernel
def overflow_step(flow, params, previous_line: float, fast: float, slow: float) -> None:
    """Set the overflow flags, their display value and their ages from the line, its thresholds and volume.

    Comparisons with NaN are false: no overflow; `flow.ready` is then 0. Source: premium indicators 3.3.

    Parameters
    ----------
    flow, params
        MONEY_FLOW and MONEY_FLOW_PARAMS records.
    previous_line
        Line of the previous bar, 0 to 100 or NaN.
    fast, slow
        Mean volume of FAST_VOLUME bars and of the money flow's length, base asset.
    """
    relative = math.nan if slow == 0.0 else fast / slow
    heavy = relative > params.volume_ratio
    up = heavy & (flow.line > flow.upper) & (flow.line >= previous_line)
    down = heavy & (flow.line < flow.lower) & (flow.line <= previous_line)
    flow.overflow = math.nan if math.isnan(flow.upper) else 50.0
    if up:
        flow.overflow = 50.0 + (flow.line - flow.upper)
    elif down:
        flow.overflow = 50.0 - (flow.lower - flow.line)
    flow.overflow_up = 1 if up else 0
    flow.overflow_down = 1 if down else 0
    flow.since_up = 0 if up else min(flow.since_up + 1, NEVER)
    flow.since_down = 0 if down else min(flow.since_down + 1, NEVER)
    unknown = math.isnan(flow.upper) or math.isnan(previous_line) or math.isnan(relative)
    flow.ready = 0 if unknown else 1


@kernel
def money_flow_step(flow, params, bar) -> None:
    """Advance money flow, thresholds and overflow by one closed bar (thresholds from bar 2*length + smooth - 2).

    `flow`, `params`, `bar`: MONEY_FLOW, MONEY_FLOW_PARAMS and BAR records; float64, 0 to 100, NaN during warm-up.
    Source: premium indicators 3.1 to 3.3.
    """
    previous_line = flow.line
    line_step(flow, params, bar)
    above = flow.line - 50.0  # NaN while the line is NaN
    below = 50.0 - flow.line
    if above < 0.0:
        above = 0.0
    if below < 0.0:
        below = 0.0
    flow.upper = 50.0 + window_step(flow.above, above, params.length) / params.length
    flow.lower = 50.0 - window_step(flow.below, below, params.length) / params.length
    fast = window_step(flow.fast_volume, bar.volume, FAST_VOLUME) / FAST_VOLUME
    overflow_step(flow, params, previous_line, fast, flow.sums.total[VOLUME] / params.length)


@kernel
def overflow_recent(active: int, since: int) -> float:
    """Return 1.0 when an overflow has ended (`active` 0) but occurred within the last RECENT bars, else 0.0.

    `since`: bars since the last overflow, NEVER if none. Source: premium indicators 3.3.
    """
    return 1.0 if active == 0 and since <= RECENT else 0.0
