"""Fair value gaps of Smart Money Concepts: three bars that move so fast that the first and the third do not overlap.

The empty range between them is the gap. A bullish gap is removed when price falls through all of it; a bearish one, as in
the original, already when price touches its *lower* edge (the two rules are not mirrored, see open indicators 1.10).
Of a bearish gap `top` is the lower edge and `bottom` the upper one: the original's field names.

The original keeps every gap for ever; here the newest 256 live (`GAP_LIMIT`): an older one goes silently and is not
counted as removed.
"""

import numpy as np

from bot.core.jit import kernel
from bot.structure.order_blocks import BLOCKS, CAPACITY, blocks_add, blocks_reset
from bot.structure.swings import ring_slot

GAP_LIMIT = CAPACITY
TOLERANCE = 1e-10  # TradingView's comparison of computed numbers

GAPS = np.dtype([("cumulated", "f8"), ("gaps", BLOCKS)])


def gaps_reset(gaps) -> None:
    """Forget all gaps and the mean body."""
    gaps.cumulated = 0.0
    blocks_reset(gaps.gaps)


@kernel
def body_percent(open_: float, close: float) -> float:
    """Return the body of a bar as the original scales it: (C-O)/(O*100).

    >>> body_percent(100.0, 101.0)
    0.0001
    """
    return (close - open_) / (open_ * 100.0) if open_ > 0.0 else 0.0


@kernel
def gap_side(bars, previous_close: float) -> int:
    """Return +1 if the newest of `bars` leaves an empty range above the high two bars ago, -1 below its low, else 0.

    The bar between has to close beyond that edge too.
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
    """Look for a gap that ends with the newest bar, keep it and return its side.

    The middle bar's body has to point the gap's way and, with `auto`, be more than twice the mean body of all bars
    before the newest.
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
