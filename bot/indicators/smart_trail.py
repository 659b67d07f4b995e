"""Smart Trail: a stop line that follows price in a trend, and the area next to it.

A close beyond the line turns the trend; until then the line only moves with the trend. The distance is a factor times a
Wilder average of modified true ranges (a bar counts at most one and a half mean ranges, gaps count half). Line and
extremity are smoothed over eight bars, so the strategy's "trail" requires both the direction of the state machine and
the close on the right side of the line (premium indicators 4.4).
"""

import math

import numpy as np

from bot.core.jit import kernel
from bot.indicators.window_sum import WINDOW, window_reset, window_step

PERIOD = 13  # of the mean range and of its Wilder average, bars
SMOOTH = 8  # of line and extremity, bars
BAND = 0.786  # edge of the area, as a fraction of the way from the extreme to the trail
QUIET = 65  # warm-up bars

TRAIL = np.dtype(
    [
        ("bars", "i8"),
        ("ranges", WINDOW),
        ("average", "f8"),  # Wilder's, seeded with 0
        ("up", "f8"),  # trail of an up and of a down trend
        ("down", "f8"),
        ("up_held", "f8"),  # the same while they limit the next ones; infinite once a close is outside
        ("down_held", "f8"),
        ("direction", "i8"),
        ("extreme", "f8"),  # highest high, lowest low of the trend
        ("lines", WINDOW),
        ("extremities", WINDOW),
        ("line", "f8"),
        ("extremity", "f8"),
        ("turned", "i8"),  # +1 or -1 on the bar on which the direction changed
    ]
)


def trail_reset(trail) -> None:
    """Reset a TRAIL record to its state before the first bar."""
    trail.bars = 0
    window_reset(trail.ranges)
    trail.average = 0.0
    trail.up = math.nan
    trail.down = math.nan
    trail.up_held = -math.inf
    trail.down_held = math.inf
    trail.direction = 1
    trail.extreme = math.nan
    window_reset(trail.lines)
    window_reset(trail.extremities)
    trail.line = math.nan
    trail.extremity = math.nan
    trail.turned = 0


@kernel
def modified_range(bar, mean_range: float) -> float:
    """Return the largest of the capped range and the two gap references, in which a gap counts half.

    `bar`: BAR record, not the first; result float64 in price units. Source: premium indicators 4.4.
    """
    high_reference = bar.high - bar.previous_close
    if bar.low > bar.previous_high:
        high_reference -= 0.5 * (bar.low - bar.previous_high)
    low_reference = bar.previous_close - bar.low
    if bar.high < bar.previous_low:
        low_reference -= 0.5 * (bar.previous_low - bar.high)
    capped = min(bar.high - bar.low, 1.5 * mean_range)
    return max(capped, high_reference, low_reference)


@kernel
def trail_step(trail, factor: float, bar) -> None:
    """Advance the trail by one closed bar.

    `trail`, `bar`: TRAIL and BAR records; `factor`: multiple of the mean range. Lines are float64 in price units, NaN
    until SMOOTH bars. Source: premium indicators 4.4.
    """
    total = window_step(trail.ranges, bar.high - bar.low, PERIOD)
    mean_range = 0.0 if math.isnan(total) else total / PERIOD
    first = math.isnan(bar.previous_close) or trail.bars == 0
    move = bar.high - bar.low if first else modified_range(bar, mean_range)
    trail.average += (move - trail.average) / PERIOD
    trail.bars += 1

    close = bar.close
    up = close - factor * trail.average
    down = close + factor * trail.average
    direction = trail.direction
    if not first:
        if close > trail.down:
            direction = 1
        elif close < trail.up:
            direction = -1
        up = max(up, trail.up_held)
        down = min(down, trail.down_held)
    trail.up = up
    trail.down = down
    trail.up_held = up if close > up else -math.inf
    trail.down_held = down if close < down else math.inf

    trail.turned = direction if direction != trail.direction else 0
    trail.direction = direction
    if first or trail.turned != 0:
        trail.extreme = bar.high if direction == 1 else bar.low
    elif direction == 1:
        trail.extreme = max(trail.extreme, bar.high)
    else:
        trail.extreme = min(trail.extreme, bar.low)
    stop = up if direction == 1 else down
    trail.line = window_step(trail.lines, stop, SMOOTH) / SMOOTH
    band = trail.extreme + (stop - trail.extreme) * BAND
    trail.extremity = window_step(trail.extremities, band, SMOOTH) / SMOOTH
