"""Autopilot: set the sensitivity of the confirmation signals from the market's dominant cycle.

The cycle is measured by Ehlers' homodyne discriminator (Rocket Science for Traders, 2001): the mean price is smoothed
and split into an in-phase and a quadrature component by a Hilbert transformer; the phase angle between successive bars
gives the period, limited to 6 to 50 bars. The sensitivity is half the cycle (short term), the cycle (mid) or twice the
cycle (long). Off by default (premium indicators 4.3).
"""

import math

import numpy as np

from bot.core.jit import kernel, outlined_kernel

QUIET = 60  # warm-up bars: the cycle is not used before
SHORTEST = 5.0  # sensitivity
LONGEST = 50.0
TAPS = 7  # window of the transformer, bars

CYCLE = np.dtype(
    [
        ("bars", "i8"),
        ("origin", "f8"),  # first price, subtracted: seeds of 0 then equal a constant price
        ("price", "f8", TAPS),  # newest first, like all histories in this module
        ("smooth", "f8", TAPS),
        ("detrended", "f8", TAPS),
        ("in_phase", "f8", TAPS),  # detrended price of three bars ago
        ("quadrature", "f8", TAPS),
        ("i2", "f8"),
        ("q2", "f8"),
        ("re", "f8"),
        ("im", "f8"),
        ("period", "f8"),
        ("smooth_period", "f8"),
    ]
)


def cycle_reset(cycle) -> None:
    """Reset a CYCLE record to its state before the first bar: all seeds 0, period 15 bars."""
    cycle.bars = 0
    cycle.origin = 0.0
    cycle.price[:] = 0.0
    cycle.smooth[:] = 0.0
    cycle.detrended[:] = 0.0
    cycle.in_phase[:] = 0.0
    cycle.quadrature[:] = 0.0
    cycle.i2 = 0.0
    cycle.q2 = 0.0
    cycle.re = 0.0
    cycle.im = 0.0
    cycle.period = 15.0
    cycle.smooth_period = 0.0


@kernel
def push(history, x: float) -> None:
    """Shift `x` into `history` (float64, shape (TAPS,), newest first)."""
    for i in range(TAPS - 1, 0, -1):
        history[i] = history[i - 1]
    history[0] = x


@kernel
def hilbert(history, gain: float) -> float:
    """Return the Hilbert transform of `history` (float64, shape (TAPS,), newest first), scaled by `gain`.

    Same unit as the history; NaN propagates. Source: Ehlers (2001), 7-tap transformer.
    """
    odd = 0.0962 * (history[0] - history[6]) + 0.5769 * (history[2] - history[4])
    return odd * gain


@kernel
def measured_period(im: float, re: float, previous: float) -> float:
    """Return the period (bars) of the phasor's rotation, limited to 0.67 to 1.5 of `previous` and to 6 to 50.

    Scalars are float64; a rotation angle <= 0 or NaN keeps `previous`. Source: Ehlers (2001).
    """
    angle = math.atan2(im, re)
    period = 2.0 * math.pi / angle if angle > 0.0 else previous
    period = min(max(period, 0.67 * previous), 1.5 * previous)
    return min(max(period, 6.0), 50.0)


@outlined_kernel
def cycle_step(cycle, high: float, low: float) -> None:
    """Advance the dominant cycle (CYCLE record) by one closed bar.

    Prices float64; never NaN, as all seeds are 0. `cycle.smooth_period` is in bars. Source: Ehlers (2001); premium
    indicators 4.3.
    """
    middle = (high + low) / 2.0
    if cycle.bars == 0:
        cycle.origin = middle
    cycle.bars += 1
    price = cycle.price
    push(price, middle - cycle.origin)
    gain = 0.075 * cycle.period + 0.54
    push(cycle.smooth, (4.0 * price[0] + 3.0 * price[1] + 2.0 * price[2] + price[3]) / 10.0)
    push(cycle.detrended, hilbert(cycle.smooth, gain))
    push(cycle.quadrature, hilbert(cycle.detrended, gain))
    push(cycle.in_phase, cycle.detrended[3])
    i2 = cycle.in_phase[0] - hilbert(cycle.quadrature, gain)
    q2 = cycle.quadrature[0] + hilbert(cycle.in_phase, gain)
    i2 = 0.2 * i2 + 0.8 * cycle.i2
    q2 = 0.2 * q2 + 0.8 * cycle.q2
    cycle.re = 0.2 * (i2 * cycle.i2 + q2 * cycle.q2) + 0.8 * cycle.re
    cycle.im = 0.2 * (i2 * cycle.q2 - q2 * cycle.i2) + 0.8 * cycle.im
    cycle.i2 = i2
    cycle.q2 = q2
    period = measured_period(cycle.im, cycle.re, cycle.period)
    cycle.period = 0.2 * period + 0.8 * cycle.period
    cycle.smooth_period = 0.33 * cycle.period + 0.67 * cycle.smooth_period


@outlined_kernel
def autopilot(cycle, term: float, sensitivity: float) -> float:
    """Return the sensitivity in force: `term` cycles rounded, limited to 5 to 50; `sensitivity` during warm-up.

    Float64, never NaN; `term` is 0.5, 1 or 2 cycles. Source: premium indicators 4.3.
    """
    if cycle.bars <= QUIET:
        return sensitivity
    return min(max(math.floor(term * cycle.smooth_period + 0.5), SHORTEST), LONGEST)
