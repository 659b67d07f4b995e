"""The trading range and its zones: premium at its top, discount at its bottom, the equilibrium in between.

The range is between the trailing extremes: the last swing high and low, extended by every bar that goes beyond. The
high is *strong* while the swing trend is down (price failed there and fell), else weak; the low is the mirror image.

Source: open indicators 1.9.
"""

import math

import numpy as np

from bot.core.jit import kernel

ZONES = np.dtype(
    [
        ("top", "f8"),  # NaN until the first swing high
        ("bottom", "f8"),
        ("top_ms", "i8"),  # open time of the bar that made it, 0 before
        ("bottom_ms", "i8"),
        ("left_ms", "i8"),  # open time of the latest swing pivot: left edge of the drawn zones
    ]
)


def zones_reset(zones) -> None:
    """Reset a ZONES record to no range."""
    zones.top = math.nan
    zones.bottom = math.nan
    zones.top_ms = 0
    zones.bottom_ms = 0
    zones.left_ms = 0


@kernel
def zones_extend(zones, open_ms: int, high: float, low: float) -> None:
    """Extend the range by a bar; an equal extreme updates its time; NaN extremes stay until the first pivot.

    Source: open indicators 1.9.

    Parameters
    ----------
    zones
        ZONES record.
    open_ms
        Open time of the bar, ms UTC.
    high, low
        Prices of the bar.
    """
    if high >= zones.top:
        zones.top = high
        zones.top_ms = open_ms
    if low <= zones.bottom:
        zones.bottom = low
        zones.bottom_ms = open_ms


@kernel
def zones_pivot(zones, side: int, open_ms: int, level: float) -> None:
    """Set a new swing pivot as the end of the range. Source: open indicators 1.9.

    Parameters
    ----------
    zones
        ZONES record.
    side
        +1 a high, -1 a low.
    open_ms
        Open time of the pivot, ms UTC.
    level
        Price of the pivot.
    """
    if side > 0:
        zones.top = level
        zones.top_ms = open_ms
    else:
        zones.bottom = level
        zones.bottom_ms = open_ms
    zones.left_ms = open_ms


@kernel
def premium_bottom(top: float, bottom: float) -> float:
    """Return where the premium zone begins (float64, price units; NaN propagates); it ends at the top.

    Source: open indicators 1.9.

    >>> premium_bottom(200.0, 100.0)
    195.0
    """
    return 0.95 * top + 0.05 * bottom


@kernel
def equilibrium(top: float, bottom: float) -> float:
    """Return the middle of the range (float64, price units; NaN propagates). Source: open indicators 1.9."""
    return (top + bottom) / 2.0


@kernel
def discount_top(top: float, bottom: float) -> float:
    """Return where the discount zone ends (float64, price units; NaN propagates); it begins at the bottom.

    Source: open indicators 1.9.

    >>> discount_top(200.0, 100.0)
    105.0
    """
    return 0.95 * bottom + 0.05 * top
