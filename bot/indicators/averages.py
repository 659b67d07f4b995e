"""Moving averages as records and steps: SMA, EMA, Wilder's RMA, RSI, and the super smoother.

Each `x_step` advances its record by one value and returns the average as float64 in the unit of the input; NaN during
warm-up. A zeroed record (`np.zeros`) is the initial state. Windows are ring buffers of fixed capacity `CAPACITY`; the
configuration rejects longer ones.

Sources: Pine Script reference (`ta.sma`, `ta.ema`, `ta.rma`, `ta.rsi`), premium indicators 0, and for the super
smoother J. F. Ehlers, Cycle Analytics for Traders (2013), chapter 3.
"""

import math

import numpy as np

from bot.core.jit import kernel

CAPACITY = 256  # longest window of a ring buffer, bars
RESUM = 4096  # a running sum is recomputed exactly every so many bars: drift stays below 1e-12 of the sum

SMA = np.dtype([("bars", "i8"), ("slot", "i8"), ("total", "f8"), ("ring", "f8", CAPACITY)])
EMA = np.dtype([("bars", "i8"), ("value", "f8"), ("seed", "f8")])
RMA = np.dtype([("bars", "i8"), ("value", "f8")])
RSI = np.dtype([("bars", "i8"), ("previous", "f8"), ("gain", RMA), ("loss", RMA)])
SUPER = np.dtype([("bars", "i8"), ("input", "f8"), ("value", "f8"), ("value1", "f8"), ("value2", "f8")])


@kernel
def sma_step(sma, x: float, length: int) -> float:
    """Return the mean of the last `length` values (bars, 1 to CAPACITY); NaN until `length` values.

    `sma`: SMA record; result float64 in the unit of `x`. Source: Pine `ta.sma`.

    >>> from bot.core.jit import record; sma = record(SMA)
    >>> [sma_step(sma, x, 2) for x in (1.0, 3.0, 6.0)]
    [nan, 2.0, 4.5]
    """
    slot = sma.slot
    if sma.bars >= length:
        sma.total -= sma.ring[slot]
    sma.ring[slot] = x
    sma.total += x
    sma.slot = slot + 1 if slot + 1 < length else 0  # a counter, since a modulo costs 10 ns
    sma.bars += 1
    if sma.bars < length:
        return math.nan
    if sma.bars % RESUM == 0:
        total = 0.0
        for i in range(length):
            total += sma.ring[i]
        sma.total = total
    return sma.total / length


@kernel
def ema_step(ema, x: float, length: int, mean_seed: bool) -> float:
    """Return the exponential average with alpha = 2/(length+1), float64 in the unit of `x`. Source: Pine `ta.ema`.

    Parameters
    ----------
    ema
        EMA record.
    x
        Next value.
    length
        Length, bars.
    mean_seed
        False: seeded with the first value, no NaN (premium indicators). True: NaN until `length` values, then their
        mean (SuperTrend AI).

    >>> from bot.core.jit import record; ema = record(EMA)
    >>> [ema_step(ema, x, 3, False) for x in (2.0, 4.0)]
    [2.0, 3.0]
    """
    ema.bars += 1
    if mean_seed and ema.bars <= length:
        ema.seed += x
        if ema.bars < length:
            return math.nan
        ema.value = ema.seed / length
    elif ema.bars == 1:
        ema.value = x
    else:
        ema.value += 2.0 / (length + 1.0) * (x - ema.value)
    return ema.value


@kernel
def rma_step(rma, x: float, length: int) -> float:
    """Return Wilder's average: the mean of the first `length` values, then (previous*(length-1) + x)/length.

    `rma`: RMA record; `length` in bars; result float64 in the unit of `x`, NaN until `length` values. Source: Pine
    `ta.rma`.

    >>> from bot.core.jit import record; rma = record(RMA)
    >>> [rma_step(rma, x, 2) for x in (1.0, 3.0, 6.0)]
    [nan, 2.0, 4.0]
    """
    rma.bars += 1
    if rma.bars < length:
        rma.value += x
        return math.nan
    if rma.bars == length:
        rma.value = (rma.value + x) / length
    else:
        rma.value = (rma.value * (length - 1) + x) / length
    return rma.value


@kernel
def rsi_step(rsi, x: float, length: int) -> float:
    """Return the RSI of `x` (float64, 0 to 100); 50 when nothing moves; NaN until `length` changes (bars).

    `rsi`: RSI record. Source: Pine `ta.rsi` (Wilder).
    """
    change = x - rsi.previous
    rsi.previous = x
    rsi.bars += 1
    if rsi.bars == 1:
        return math.nan
    gain = rma_step(rsi.gain, max(change, 0.0), length)
    loss = rma_step(rsi.loss, max(-change, 0.0), length)
    if math.isnan(gain):
        return math.nan
    if gain + loss < 1e-12:
        return 50.0
    return 100.0 * gain / (gain + loss)


@kernel
def rsi_change_step(rsi, change: float, length: int) -> float:
    """Return the RSI (float64, 0 to 100) of a series given by its changes; the first change is ignored.

    For a filtered price: the filter's changes are exact while the price is constant, differences of its levels are not.
    `rsi`: RSI record; NaN until `length` changes (bars) after the first. Source: Pine `ta.rsi`.

    >>> from bot.core.jit import record; rsi = record(RSI)
    >>> [rsi_change_step(rsi, change, 1) for change in (0.0, 2.0, -1.0)]
    [nan, 100.0, 0.0]
    """
    rsi.previous = 0.0  # so that the next difference is the change itself
    return rsi_step(rsi, change, length)


def super_weights(length: float) -> tuple[float, float]:
    """Return the super smoother's weights of its last value and the one before, for a period of `length` bars.

    With a = exp(-sqrt(2)*pi/length) these are 2*a*cos(sqrt(2)*pi/length) and -a*a: the poles of a Butterworth filter.

    >>> [round(weight, 4) for weight in super_weights(10.0)]
    [1.158, -0.4112]
    """
    angle = math.sqrt(2.0) * math.pi / length
    a = math.exp(-angle)
    return 2.0 * a * math.cos(angle), -a * a


@kernel
def super_step(smoother, x: float, first: float, second: float) -> float:
    """Return Ehlers' 2-pole super smoother of `x`, seeded with the first value; float64 in the unit of `x`.

    No warm-up, NaN propagates. Source: Ehlers (2013), chapter 3.

    Parameters
    ----------
    smoother
        SUPER record; `value1` and `value2` are the outputs of one and two bars ago.
    x
        Next value.
    first, second
        Weights of `super_weights`.

    >>> from bot.core.jit import record; smoother = record(SUPER)
    >>> [super_step(smoother, x, 0.5, -0.25) for x in (4.0, 4.0, 8.0)]
    [4.0, 4.0, 5.5]
    """
    smoother.bars += 1
    if smoother.bars == 1:
        smoother.input = x
        smoother.value = x
        smoother.value1 = x
        smoother.value2 = x
        return x
    fresh = (1.0 - first - second) * 0.5 * (x + smoother.input) + first * smoother.value + second * smoother.value1
    smoother.input = x
    smoother.value2 = smoother.value1
    smoother.value1 = smoother.value
    smoother.value = fresh
    return fresh
