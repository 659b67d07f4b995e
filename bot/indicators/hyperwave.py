"""HyperWave: a smoothed RSI of the bar's mean price, its signal line, and the events read from their crosses.

What is smoothed, and how, is a setting: the price before the RSI (unsmoothed, or by Ehlers' super smoother) and the RSI
itself (SMA, EMA or Wilder's average).

A cross beyond the big-dot level (20 and 80, a setting) is a big dot. Divergences compare the extremum of the swing that
just ended with that of an earlier, prominent one: price made a further extreme, the wave did not; they are known at the
cross and never back-painted. Minor reversals are turns of the wave outside its bands. A major is a cross that follows a
minor while money flow is exhausted or, as another setting, a volume burst that ends while the wave is extreme.
Confluence counts how many of wave and flow point up or down (premium indicators 3.4 to 3.7). Whatever exists on both
sides is written once and called with mirrored signs.
"""

import math

import numpy as np

from bot.core.jit import kernel, outlined_kernel
from bot.indicators.averages import (
    EMA,
    RMA,
    RSI,
    SUPER,
    ema_step,
    rma_step,
    rsi_change_step,
    rsi_step,
    super_step,
)
from bot.indicators.money_flow import NEVER
from bot.indicators.window_sum import (
    WINDOW,
    ema_reset,
    rma_reset,
    rsi_reset,
    super_reset,
    window_reset,
    window_step,
)

TOLERANCE = 1e-10  # points: in a frozen market wave and signal differ by rounding only, which is no cross
DIVERGENCE_AGE = 100  # maximum bars between the two extrema of a divergence
INNER_SMA, INNER_EMA, INNER_RMA = 0, 1, 2
BURST = 2.0  # a volume burst exceeds this multiple of its mean ...
BURST_MEAN = 35  # ... over so many bars

WAVE_PARAMS = np.dtype(
    [
        ("length", "i8"),
        ("inner", "i8"),
        ("from_close", "i8"),  # 0: (o+h+l+c)/4
        ("smoothing", "i8"),  # 1: the price goes through the super smoother
        ("price_first", "f8"),  # its weights
        ("price_second", "f8"),
        ("average", "i8"),  # INNER_...
        ("signal_length", "i8"),
        ("signal_ema", "i8"),
        ("quiet", "i8"),  # warm-up bars without events
        ("prominence", "f8"),  # points by which the wave must leave an extremum
        ("gain", "f8"),  # points by which the second extremum must be nearer to 50
        ("big_floor", "f8"),  # a cross up below it, or down above the ceiling, is a big dot
        ("big_ceiling", "f8"),
        ("edge", "f8"),  # minimum distance of a reversal from 50
        ("factor", "i8"),  # of reversals
        ("major_volume", "i8"),  # 1: majors are ends of a volume burst
        ("volume_first", "f8"),  # weights of the super smoother of volume
        ("volume_second", "f8"),
    ]
)

EXTREMUM = np.dtype([("known", "i8"), ("wave", "f8"), ("price", "f8"), ("bar", "i8")])
SWINGS = np.dtype([("current", EXTREMUM), ("candidate", EXTREMUM), ("reference", EXTREMUM)])

WAVE = np.dtype(
    [
        ("bars", "i8"),
        ("rsi", RSI),
        ("price", "f8"),  # of the previous bar, for the smoother
        ("smooth_change", SUPER),
        ("inner", WINDOW),
        ("inner_exponential", EMA),
        ("inner_wilder", RMA),
        ("mean_window", WINDOW),
        ("mean_exponential", EMA),
        ("line", "f8"),
        ("line1", "f8"),  # one and two bars ago
        ("line2", "f8"),
        ("signal", "f8"),
        ("signal1", "f8"),
        ("cross_up", "i8"),
        ("cross_down", "i8"),
        ("lows", SWINGS),
        ("highs", SWINGS),  # mirrored: of -wave and -price
        ("divergence_bull", "i8"),
        ("divergence_bear", "i8"),
        ("minor_up", "i8"),
        ("minor_down", "i8"),
        ("major_up", "i8"),
        ("major_down", "i8"),
        ("since_minor_up", "i8"),  # bars since one not used by a major
        ("since_minor_down", "i8"),
        ("smooth_volume", SUPER),
        ("volume_window", WINDOW),
    ]
)


def extremum_reset(extremum) -> None:
    extremum.known = 0
    extremum.wave = 0.0
    extremum.price = 0.0
    extremum.bar = 0


def swings_reset(swings) -> None:
    extremum_reset(swings.current)
    extremum_reset(swings.candidate)
    extremum_reset(swings.reference)


def wave_reset(wave) -> None:
    """Reset a WAVE record to its state before the first bar."""
    wave.bars = 0
    rsi_reset(wave.rsi)
    wave.price = math.nan
    super_reset(wave.smooth_change)
    window_reset(wave.inner)
    ema_reset(wave.inner_exponential)
    rma_reset(wave.inner_wilder)
    window_reset(wave.mean_window)
    ema_reset(wave.mean_exponential)
    wave.line = math.nan
    wave.line1 = math.nan
    wave.line2 = math.nan
    wave.signal = math.nan
    wave.signal1 = math.nan
    wave.cross_up = 0
    wave.cross_down = 0
    swings_reset(wave.lows)
    swings_reset(wave.highs)
    wave.divergence_bull = 0
    wave.divergence_bear = 0
    wave.minor_up = 0
    wave.minor_down = 0
    wave.major_up = 0
    wave.major_down = 0
    wave.since_minor_up = NEVER
    wave.since_minor_down = NEVER
    super_reset(wave.smooth_volume)
    window_reset(wave.volume_window)


@outlined_kernel
def smoothed_strength(wave, params, price: float) -> float:
    """Return the RSI of the super-smoothed price (float64, 0 to 100); NaN during warm-up.

    The filter is linear, so the changes of the smoothed price are the smoothed changes: they do not contain the price
    level, and are exactly 0 when the price is constant. `wave`, `params`: WAVE and WAVE_PARAMS records; `price` in
    price units. Source: premium indicators 3.4.
    """
    change = price - wave.price if wave.smooth_change.bars > 0 else 0.0
    wave.price = price
    smooth = super_step(wave.smooth_change, change, params.price_first, params.price_second)
    return rsi_change_step(wave.rsi, smooth, params.length)


@outlined_kernel
def recursive_average(wave, params, strength: float) -> float:
    """Return the EMA or Wilder's average of the RSI (float64, 0 to 100); NaN during warm-up.

    `wave`, `params`: WAVE and WAVE_PARAMS records. Source: premium indicators 3.4.
    """
    if math.isnan(strength):
        return math.nan
    if params.average == INNER_EMA:
        return ema_step(wave.inner_exponential, strength, params.inner, False)
    return rma_step(wave.inner_wilder, strength, params.inner)


@kernel
def wave_step(wave, params, bar) -> None:
    """Advance the wave and its signal line by one closed bar and set the crosses.

    `wave`, `params`, `bar`: WAVE, WAVE_PARAMS and BAR records. Lines are float64, 0 to 100, NaN during warm-up; then no
    cross. Source: premium indicators 3.4.
    """
    source = bar.close if params.from_close else (bar.open + bar.high + bar.low + bar.close) / 4.0
    if params.smoothing == 0:
        strength = rsi_step(wave.rsi, source, params.length)
    else:
        strength = smoothed_strength(wave, params, source)
    wave.line2 = wave.line1
    wave.line1 = wave.line
    if params.average == INNER_SMA:
        wave.line = window_step(wave.inner, strength, params.inner) / params.inner
    else:
        wave.line = recursive_average(wave, params, strength)
    wave.signal1 = wave.signal
    if params.signal_ema == 0:
        wave.signal = window_step(wave.mean_window, wave.line, params.signal_length) / params.signal_length
    elif not math.isnan(wave.line):
        wave.signal = ema_step(wave.mean_exponential, wave.line, params.signal_length, False)
    # `&`, not `and`: these comparisons are unpredictable, and a mispredicted branch costs more than both
    before, now = wave.line1 - wave.signal1, wave.line - wave.signal
    wave.cross_up = 1 if (before <= TOLERANCE) & (now > TOLERANCE) else 0
    wave.cross_down = 1 if (before >= -TOLERANCE) & (now < -TOLERANCE) else 0
    wave.bars += 1


@outlined_kernel
def extremum_copy(source, target) -> None:
    """Copy an EXTREMUM record."""
    target.known = source.known
    target.wave = source.wave
    target.price = source.price
    target.bar = source.bar


@outlined_kernel
def is_divergence(earlier, later, gain: float) -> bool:
    """Return whether price made a lower low while the wave's low rose by at least `gain` points.

    `earlier`, `later`: EXTREMUM records (price float64, wave in points); false while `earlier` is unknown. Source:
    premium indicators 3.5.
    """
    if earlier.known == 0:
        return False
    age = later.bar - earlier.bar
    higher = later.wave >= earlier.wave + gain
    return 0 < age <= DIVERGENCE_AGE and later.price < earlier.price and higher


@kernel
def swings_step(swings, params, wave: float, price: float, bar: int, ends: int, begins: int) -> int:
    """Advance the lows of the wave by one bar; return 1 on a bullish divergence, else 0.

    For the bearish side pass wave and price with opposite signs. The lowest wave and the lowest price of a swing need
    not be on the same bar. Source: premium indicators 3.5.

    Parameters
    ----------
    swings, params
        SWINGS and WAVE_PARAMS records.
    wave, price
        Wave (points, not NaN) and low of the bar (price units).
    bar
        Number of the bar.
    ends
        1: the wave crossed up, its falling swing is over.
    begins
        1: it crossed down, a new falling swing starts with this bar.
    """
    current = swings.current
    candidate = swings.candidate
    reference = swings.reference
    lowest = math.inf
    cheapest = math.inf
    if current.known != 0 and not begins:
        lowest = current.wave
        cheapest = current.price
    current.known = 1
    current.bar = bar if wave < lowest else current.bar
    current.wave = wave if wave < lowest else lowest
    current.price = min(cheapest, price)

    if candidate.known and wave - candidate.wave >= params.prominence:
        extremum_copy(candidate, reference)
        candidate.known = 0
    found = 0
    if ends:
        if is_divergence(reference, current, params.gain):
            found = 1
            reference.known = 0
        if candidate.known == 0 or current.wave <= candidate.wave:
            extremum_copy(current, candidate)
    return found


@kernel
def divergences_step(wave, params, bar) -> None:
    """Advance the lows and, mirrored, the highs of the wave, and set the divergence flags.

    `wave`, `params`, `bar`: WAVE, WAVE_PARAMS and BAR records; flags are 0 while the wave is NaN. Source: premium
    indicators 3.5.
    """
    wave.divergence_bull = 0
    wave.divergence_bear = 0
    if math.isnan(wave.line):
        return
    up, down, now = wave.cross_up, wave.cross_down, wave.bars
    wave.divergence_bull = swings_step(wave.lows, params, wave.line, bar.low, now, up, down)
    wave.divergence_bear = swings_step(wave.highs, params, -wave.line, -bar.high, now, down, up)


@kernel
def minor_reversal(line2: float, line1: float, line: float, floor: float) -> bool:
    """Return whether the wave turned up from below `floor`; for the other side pass all four with opposite signs.

    False with NaN. Source: premium indicators 3.6.

    Parameters
    ----------
    line2, line1, line
        Wave of two bars ago, one bar ago and now, points.
    floor
        Level, points.
    """
    return (line1 < floor) & (line1 <= line2) & (line > line1)


@outlined_kernel
def burst_ends(wave, params, volume: float) -> bool:
    """Advance the super-smoothed volume and its mean; return whether it turned down from a burst.

    The mean covers BURST_MEAN bars; it is NaN before, and then nothing is a burst. `wave`, `params`: WAVE and
    WAVE_PARAMS records; `volume` float64, base asset. Source: premium indicators 3.6.
    """
    smooth = wave.smooth_volume
    super_step(smooth, volume, params.volume_first, params.volume_second)
    mean = window_step(wave.volume_window, volume, BURST_MEAN) / BURST_MEAN
    turned = (smooth.value < smooth.value1) & (smooth.value1 >= smooth.value2)
    return turned & (mean > 0.0) & (smooth.value1 > BURST * mean)


@kernel
def sign(x: float) -> float:
    """Return +1.0, 0.0 or -1.0; 0.0 for NaN."""
    return (1.0 if x > 0.0 else 0.0) - (1.0 if x < 0.0 else 0.0)


@kernel
def meter(line: float, signal: float, flow: float, upper: float, lower: float) -> float:
    """Return the confluence meter (float64, 0 to 100 in steps of 12.5); NaN while `signal` or `upper` is.

    Source: premium indicators 3.7.

    Parameters
    ----------
    line, signal
        Wave and its signal line, 0 to 100.
    flow, upper, lower
        Money flow and its thresholds, 0 to 100.

    >>> meter(70.0, 60.0, 55.0, 60.0, 45.0)
    87.5
    """
    if math.isnan(signal) or math.isnan(upper):
        return math.nan
    score = sign(line - signal) + sign(line - 50.0) + sign(flow - 50.0)
    score += (1.0 if flow > upper else 0.0) - (1.0 if flow < lower else 0.0)
    return 50.0 + 12.5 * score
