"""One layer of market structure: its pivots, its trend, the breaks that turn it, and the order blocks they leave.

Smart Money Concepts runs this twice, internal and swing. A close through the last pivot is a break of structure (BOS)
along the trend or a change of character (CHoCH) against it; a pivot breaks once, and a crossing that was not allowed is
lost. The candidate bar of a block is tracked from pivot to break, so that a break needs no search.

Source: open indicators 1.4 to 1.8.
"""

import math

import numpy as np

from bot.core.jit import kernel, outlined_kernel
from bot.structure.order_blocks import (
    BLOCK_LIMIT,
    BLOCKS,
    SOURCE,
    blocks_add,
    blocks_mitigate,
    blocks_reset,
    source_extend,
    source_restart,
)
from bot.structure.swings import leg_turn, ring_slot

PIVOT = np.dtype(
    [
        ("level", "f8"),  # NaN until the first
        ("seen", "f8"),  # the level at the previous bar's test
        ("crossed", "i8"),
        ("index", "i8"),
        ("source", SOURCE),
    ]
)
LAYER = np.dtype([("leg", "i8"), ("bias", "i8"), ("high", PIVOT), ("low", PIVOT), ("blocks", BLOCKS)])


def pivot_reset(pivot) -> None:
    """Reset a PIVOT record to no pivot."""
    pivot.level = math.nan
    pivot.seen = math.nan
    pivot.crossed = 0
    pivot.index = 0
    pivot.source.measure = -math.inf
    pivot.source.top = math.nan
    pivot.source.bottom = math.nan
    pivot.source.open_ms = 0


def layer_reset(layer) -> None:
    """Reset a LAYER record to its initial state."""
    layer.leg = 0
    layer.bias = 0
    pivot_reset(layer.high)
    pivot_reset(layer.low)
    blocks_reset(layer.blocks)


@kernel
def pivot_set(pivot, bars, parsed, level: float, size: int, side: int) -> None:
    """Replace the pivot by one `size` bars ago. Source: open indicators 1.4.

    Parameters
    ----------
    pivot, bars, parsed
        PIVOT record, RING records of raw and of parsed highs and lows.
    level
        Price of the pivot.
    size
        Its age, bars.
    side
        +1 a high, -1 a low.
    """
    pivot.level = level
    pivot.crossed = 0
    pivot.index = bars.bars - 1 - size
    source_restart(pivot.source, parsed, size, side)


@kernel
def layer_pivots(layer, bars, parsed, size: int) -> int:
    """Test for a pivot `size` bars ago: return +1 for a new high, -1 for a new low, 0 for none.

    Source: open indicators 1.4.

    Parameters
    ----------
    layer
        LAYER record.
    bars, parsed
        RING records of raw and of parsed highs and lows.
    size
        Look-back, bars.
    """
    leg = leg_turn(bars, layer.leg, size)
    if leg == layer.leg:
        return 0
    layer.leg = leg
    slot = ring_slot(bars, size)
    if leg == 0:
        pivot_set(layer.high, bars, parsed, bars.high[slot], size, 1)
        return 1
    pivot_set(layer.low, bars, parsed, bars.low[slot], size, -1)
    return -1


@outlined_kernel
def layer_break(layer, pivot, side: int, out, breaks: int, new: int) -> None:
    """Record a break of `pivot`: trend, order block and the event columns. Source: open indicators 1.6 and 1.7.

    Parameters
    ----------
    layer, pivot
        LAYER and PIVOT records.
    side
        +1 up, -1 down.
    out
        Row, float64.
    breaks, new
        First columns of the side's events: BOS and CHoCH; top, bottom and time of the block.
    """
    against = layer.bias == -side
    pivot.crossed = 1
    layer.bias = side
    out[breaks + (1 if against else 0)] = 1.0
    source = pivot.source
    out[new] = source.top
    out[new + 1] = source.bottom
    out[new + 2] = source.open_ms
    blocks_add(layer.blocks, source.top, source.bottom, source.open_ms, side, BLOCK_LIMIT)


@kernel
def layer_test(layer, bar, bull: bool, bear: bool, out, breaks: int, new: int) -> None:
    """Test one layer for breaks; a crossing that is not allowed is lost; NaN levels do not break.

    Source: open indicators 1.6.

    Parameters
    ----------
    layer, bar
        LAYER and BAR records.
    bull, bear
        Whether the side may break.
    out
        Row, float64.
    breaks
        First event column of the layer: bull BOS, bull CHoCH, bear BOS, bear CHoCH.
    new
        First block column of the layer: top, bottom and time of a bullish, then of a bearish order block.
    """
    high = layer.high
    low = layer.low
    previous = bar.previous_close
    if bull and high.crossed == 0 and bar.close > high.level and previous <= high.seen:
        layer_break(layer, high, 1, out, breaks, new)
    if bear and low.crossed == 0 and bar.close < low.level and previous >= low.seen:
        layer_break(layer, low, -1, out, breaks + 2, new + 3)
    high.seen = high.level
    low.seen = low.level


@kernel
def layer_mitigate(layer, bar, close_mitigation: bool) -> None:
    """Remove the order blocks that price went through on this bar, by close or by wick.

    `layer`, `bar`: LAYER and BAR records. Source: open indicators 1.8.
    """
    if close_mitigation:
        blocks_mitigate(layer.blocks, bar.close, bar.close)
    else:
        blocks_mitigate(layer.blocks, bar.high, bar.low)


@kernel
def layer_extend(layer, open_ms: int, high: float, low: float) -> None:
    """Compare the parsed bar with the candidates for the order blocks of the next breaks. Source: open indicators 1.7.

    Parameters
    ----------
    layer
        LAYER record.
    open_ms
        Open time of the bar, ms UTC.
    high, low
        Parsed high and low, price units.
    """
    if layer.high.crossed == 0:
        source_extend(layer.high.source, open_ms, high, low, 1)
    if layer.low.crossed == 0:
        source_extend(layer.low.source, open_ms, high, low, -1)
