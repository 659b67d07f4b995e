"""Fair value gaps of Smart Money Concepts: three bars of which the first and the third do not overlap.

The empty range between them is the gap. A bullish gap is removed when price falls through all of it; a bearish one, as
in the original, already when price touches its *lower* edge (the two rules are not mirrored, see open indicators 1.10).
Of a bearish gap `top` is the lower edge and `bottom` the upper one: the original's field names.

The original keeps every gap forever; here the newest 256 are kept (`GAP_LIMIT`): an older one is dropped silently and
not counted as removed.
"""

import numpy as np

from bot.core.jit import kernel
from bot.structure.order_blocks import BLOCKS, CAPACITY, blocks_add, blocks_reset
from bot.structure.swings import ring_slot

GAP_LIMIT = CAPACITY
TOLERANCE = 1e-10  # TradingView's tolerance between computed numbers

GAPS = np.dtype([("cumulated", "f8"), ("gaps", BLOCKS)])


def gaps_reset(gaps) -> None:
    """Reset a GAPS record: no gaps, no mean body."""
    gaps.cumulated = 0.0
    blocks_reset(gaps.gaps)


@kernel
def body_percent(open_: float, close: float) -> float:
    """Return the body of a bar as the original scales it: (C-O)/(O*100), float64, dimensionless; 0 unless O > 0.

    Source: open indicators 1.10.

    >>> body_percent(100.0, 101.0)
    0.0001
    """
    return (close - open_) / (open_ * 100.0) if open_ > 0.0 else 0.0


@kernel
def gap_side(bars, previous_close: float) -> int:
    """Return +1 if the newest of `bars` leaves an empty range above the high two bars ago, -1 below its low, else 0.

    The middle bar must close beyond that edge too. `bars`: RING record; `previous_close` float64, NaN gives 0. Source:
    open indicators 1.10.
    """
    first = ring_slot(bars, 2)
    newest = ring_slot(bars, 0)
    if bars.low[newest] > bars.high[first] and previous_close > bars.high[first]:
        return 1
    if bars.high[newest] < bars.low[first] and previous_close < bars.low[first]:
        return -1
    return 0


@kernel
def gaps_create(gaps, bars, previous_open: float, previous_close: float, auto: bool) -> int:
    """Test for a gap that ends with the newest bar, store it and return its side (+1, -1, 0 none).

    The middle bar's body must point in the gap's direction and, with `auto`, exceed twice the mean body of all bars
    before the newest. Source: open indicators 1.10.

    Parameters
    ----------
    gaps, bars
        GAPS and RING records.
    previous_open, previous_close
        Of the middle bar, price units.
    auto
        Apply the automatic threshold.
    """
    index = bars.bars - 1
    if index == 0:
        return 0
    body = body_percent(previous_open, previous_close)
    gaps.cumulated += abs(body)
    if index < 2:
        return 0
    side = gap_side(bars, previous_close)
    if side == 0:
        return 0
    threshold = 2.0 * gaps.cumulated / index if auto else 0.0
    if side * body - threshold <= TOLERANCE:
        return 0
    first = ring_slot(bars, 2)
    newest = ring_slot(bars, 0)
    top = bars.low[newest] if side > 0 else bars.high[newest]
    bottom = bars.high[first] if side > 0 else bars.low[first]
    blocks_add(gaps.gaps, top, bottom, bars.open_ms[newest], side, GAP_LIMIT)
    return side
