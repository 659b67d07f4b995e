"""Window of a volumetric order block: the extreme candle since a pivot, and the volume traded since that candle.

While a pivot high is unbroken, the candle with the lowest low since then is the candidate for a demand block (the first
one on ties; neither the pivot nor the breaking bar qualifies). The window keeps that candle and the sums of volume from
it to the newest bar, split into the block's own side by four readings of a bar. A new extreme restarts the sums, so
they are exact and independent of where history begins. Supply is the mirror image in its own frame: prices times -1.

Source: premium indicators 2.2.
"""

import math

import numpy as np

from bot.core.jit import kernel, outlined_kernel
from bot.structure.swings import CAPACITY, RING, ring_slot

# Past bars for the window, next to the highs and lows in the pivots' ring buffer; same slots.
BARS = np.dtype(
    [
        ("pivots", RING),
        ("open", "f8", CAPACITY),
        ("close", "f8", CAPACITY),
        ("volume", "f8", CAPACITY),
        ("taker", "f8", CAPACITY),
        ("atr200", "f8", CAPACITY),
    ]
)
# The extreme candle since the pivot and the sums from it to now: the candidate for a block.
WINDOW = np.dtype(
    [
        ("origin", "i8"),  # bar of the extreme candle; -1 while there is none
        ("origin_ms", "i8"),
        ("far", "f8"),
        ("near", "f8"),
        ("atr200", "f8"),
        ("volume", "f8"),
        ("candle", "f8"),  # own side's volume by each reading
        ("clv", "f8"),
        ("taker", "f8"),
        ("head", "f8"),  # volume of the extreme candle
        ("tail", "f8"),  # volume of the next two
        ("age", "i8"),  # bars since the extreme candle
    ]
)


@kernel
def own_share(part: float, whole: float) -> float:
    """Return `part` of `whole` in per cent (float64), 50 when `whole` is not above 0, clipped to 0..100; a NaN part stays NaN.

    Source: premium indicators 2.2 (dominance).

    >>> own_share(3.0, 4.0), own_share(0.0, 0.0)
    (75.0, 50.0)
    """
    if whole > 0.0:
        share = 100.0 * part / whole
        if share > 100.0:
            return 100.0
        return 0.0 if share < 0.0 else share
    return 50.0


@kernel
def window_reset(window) -> None:
    """Reset a WINDOW record to no extreme candle."""
    window.origin = -1
    window.origin_ms = 0
    window.far = math.inf
    window.near = math.inf
    window.atr200 = math.nan
    window.volume = 0.0
    window.candle = 0.0
    window.clv = 0.0
    window.taker = 0.0
    window.head = 0.0
    window.tail = 0.0
    window.age = 0


@kernel
def window_add(window, bars, slot: int, sign: float) -> None:
    """Add the bar at `slot` to the sums: its volume, and the own side's part by each reading (float64, base asset).

    A NaN taker volume makes the taker sum NaN. Source: premium indicators 2.2.

    Parameters
    ----------
    window, bars
        WINDOW and BARS records.
    slot
        Slot of the bar in the ring buffer.
    sign
        +1 demand, -1 supply.
    """
    volume = bars.volume[slot]
    window.volume += volume
    move = sign * (bars.close[slot] - bars.open[slot])
    half = 0.5 * volume if move == 0.0 else 0.0
    window.candle += volume if move > 0.0 else half  # selected without a branch: a candle's colour is unpredictable
    high = bars.pivots.high[slot]
    low = bars.pivots.low[slot]
    if high > low:
        inward = bars.close[slot] - low if sign > 0.0 else high - bars.close[slot]
        window.clv += volume * (inward / (high - low))
    else:
        window.clv += 0.5 * volume
    if volume > 0.0:
        window.taker += bars.taker[slot] if sign > 0.0 else volume - bars.taker[slot]
    window.age += 1
    if window.age == 0:
        window.head = volume
    elif window.age <= 2:
        window.tail += volume


@kernel
def window_consider(window, bars, slot: int, index: int, sign: float) -> None:
    """Make the bar at `slot` the extreme candle if it is one (the first on ties) and restart the sums with it.

    Source: premium indicators 2.2.

    Parameters
    ----------
    window, bars
        WINDOW and BARS records.
    slot, index
        Slot of the bar in the ring buffer, and its bar number.
    sign
        +1 demand, -1 supply.
    """
    far = bars.pivots.low[slot] if sign > 0.0 else -bars.pivots.high[slot]
    if far < window.far:
        window_reset(window)
        window.origin = index
        window.origin_ms = bars.pivots.open_ms[slot]
        window.far = far
        window.near = bars.pivots.high[slot] if sign > 0.0 else -bars.pivots.low[slot]
        window.atr200 = bars.atr200[slot]
        window.age = -1
        window_add(window, bars, slot, sign)


@outlined_kernel
def window_rebuild(window, bars, length: int, index: int, sign: float) -> None:
    """Rebuild the window from the bars after a pivot `length` bars ago: at most 49 bars, once per pivot.

    Source: premium indicators 2.2.

    Parameters
    ----------
    window, bars
        WINDOW and BARS records.
    length
        Age of the pivot, bars.
    index
        Number of the newest bar.
    sign
        +1 demand, -1 supply.
    """
    window_reset(window)
    for ago in range(length - 1, -1, -1):
        slot = ring_slot(bars.pivots, ago)
        window_add(window, bars, slot, sign)
        window_consider(window, bars, slot, index - ago, sign)
