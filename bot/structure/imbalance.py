"""Fair value gaps: three candles whose outer wicks do not meet, left by one strong candle between them.

A bullish gap lies between the high of two bars ago and this bar's low, provided the middle candle rose and closed above
that high; a bearish gap is the mirror image. A gap is open until it is mitigated: by a close, a wick, or half-way
(average). How far a chart extends its box is drawing only: no gap expires by age. The newest `CAPACITY` open gaps of a
side are kept; beyond that the oldest is dropped.

The minimum size applies to the gap itself, in ATR 200, or to the middle candle's body, in ATR 14: the documents require
a relatively volatile middle candle.

Both sides use one formula in the side's own frame (prices times +1 for bullish, -1 for bearish): a gap reaches from
`far`, where it is fully mitigated, to `near`, where price left it.

Source: the public documentation of the indicator; premium indicators 2.5.
"""

import math

import numpy as np

from bot.core.jit import kernel, outlined_kernel

CAPACITY = 100  # open gaps kept per side
CLOSE, WICK, AVERAGE, NEVER = 0, 1, 2, 3
GAP, BODY = 0, 1  # what the minimum size applies to

GAPS = np.dtype(
    [
        ("first", "i8"),  # slot of the oldest gap in the ring buffers
        ("total", "i8"),  # open gaps
        ("far", "f8", CAPACITY),  # own frame
        ("near", "f8", CAPACITY),
        ("born", "i8", CAPACITY),
        ("fresh", "i8"),  # 1: a gap was born on this bar
        ("mitigated", "i8"),  # gaps mitigated on this bar
    ]
)


def gaps_reset(gaps) -> None:
    """Reset a GAPS record to its initial state."""
    gaps.first = 0
    gaps.total = 0
    gaps.far[:] = 0.0
    gaps.near[:] = 0.0
    gaps.born[:] = 0
    gaps.fresh = 0
    gaps.mitigated = 0


@kernel
def gap_slot(gaps, i: int) -> int:
    """Return the slot of the i-th open gap, 0 the oldest (`gaps`: GAPS record)."""
    slot = gaps.first + i
    return slot if slot < CAPACITY else slot - CAPACITY


@kernel
def gaps_mitigate_newest(gaps, probe: float) -> None:
    """Close gaps from the newest backwards while `probe` is beyond their far edge.

    Sufficient for close and wick: since an open gap was born no close (low) went below its far edge, and a younger gap
    begins at a high of that time, so far edges never fall from old to young. `gaps`: GAPS record; `probe` float64, own
    frame. Source: premium indicators 2.5.
    """
    while gaps.total > 0 and probe < gaps.far[gap_slot(gaps, gaps.total - 1)]:
        gaps.total -= 1


@outlined_kernel
def gaps_mitigate_average(gaps, probe: float) -> None:
    """Close every gap whose middle `probe` is beyond; middles are unordered, so all are tested.

    `gaps`: GAPS record; `probe` float64, own frame. Source: premium indicators 2.5.
    """
    kept = 0
    for i in range(gaps.total):
        slot = gap_slot(gaps, i)
        if not probe < (gaps.far[slot] + gaps.near[slot]) / 2.0:
            target = gap_slot(gaps, kept)
            gaps.far[target] = gaps.far[slot]
            gaps.near[target] = gaps.near[slot]
            gaps.born[target] = gaps.born[slot]
            kept += 1
    gaps.total = kept


@kernel
def gaps_step(gaps, mode: int, smallest: float, index: int, far: float, low: float, close: float, rising: bool) -> None:
    """Advance one side by one closed bar; all prices float64 in the side's own frame. Source: premium indicators 2.5.

    Parameters
    ----------
    gaps : record of GAPS
    mode : int
        CLOSE, WICK, AVERAGE or NEVER
    smallest : float
        height that a gap has to exceed; NaN admits none
    index : int
        number of this bar
    far : float
        high of two bars ago; NaN where there is none
    low, close : float
        of this bar
    rising : bool
        the middle candle rose, closed above `far` and is large enough, and this bar was traded
    """
    gaps.fresh = 0
    before = gaps.total
    if mode == CLOSE:
        gaps_mitigate_newest(gaps, close)
    elif mode == WICK:
        gaps_mitigate_newest(gaps, low)
    elif mode == AVERAGE:
        gaps_mitigate_average(gaps, low)
    gaps.mitigated = before - gaps.total
    if rising & (low > far) & (low - far > smallest):
        if gaps.total == CAPACITY:
            gaps.first = gap_slot(gaps, 1)
            gaps.total -= 1
        slot = gap_slot(gaps, gaps.total)
        gaps.far[slot] = far
        gaps.near[slot] = low
        gaps.born[slot] = index
        gaps.total += 1
        gaps.fresh = 1


@outlined_kernel
def gap_edge(gaps, since: int, lowest: float, highest: float) -> float:
    """Return the far edge of the newest open gap born at bar `since` or later with its far edge in the range, else NaN.

    Float64, own frame. Source: premium indicators 2.6.

    Parameters
    ----------
    gaps
        GAPS record.
    since
        Number of the earliest bar of birth.
    lowest, highest
        Range of the far edge, own frame, inclusive.
    """
    for back in range(gaps.total):
        slot = gap_slot(gaps, gaps.total - 1 - back)
        if gaps.born[slot] < since:
            break
        if lowest <= gaps.far[slot] <= highest:
            return gaps.far[slot]
    return math.nan
