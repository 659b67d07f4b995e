"""Order blocks of Smart Money Concepts: the bar from which a break came, and the life of its price range.

When price closes through a pivot, the most extreme bar since that pivot becomes the order block: its range is where the
move began. A bullish block lives until price falls below its bottom, a bearish one until price rises above its top.

`SOURCE` tracks the extreme bar since a pivot while the pivot is unbroken. `BLOCKS` is a list of price ranges in a ring
buffer, oldest first; fair value gaps use the same list, because they are removed by the same walk. A walk goes from the
newest to the oldest and, after a removal, skips the next range, which is tested again on the next bar (open indicators
1.8). `floor` and `ceiling` bound all live ranges, so a bar that reaches none costs two comparisons.
"""

import math

import numpy as np

from bot.core.jit import kernel, outlined_kernel
from bot.structure.swings import ring_slot

CAPACITY = 256  # ranges of one list, a power of two
MASK = CAPACITY - 1
BLOCK_LIMIT = 100  # order blocks of one layer; beyond it the oldest is dropped
DISPLAYED = 5  # displayed blocks, the newest of both sides together

SOURCE = np.dtype([("measure", "f8"), ("top", "f8"), ("bottom", "f8"), ("open_ms", "i8")])
BLOCKS = np.dtype(
    [
        ("head", "i8"),  # slot of the oldest
        ("held", "i8"),  # number of ranges
        ("floor", "f8"),  # no live bullish bottom is above it
        ("ceiling", "f8"),  # no live bearish top is below it
        ("bull_removed", "i8"),  # by the last walk
        ("bear_removed", "i8"),
        ("top", "f8", CAPACITY),
        ("bottom", "f8", CAPACITY),
        ("open_ms", "i8", CAPACITY),
        ("bias", "i8", CAPACITY),
    ]
)


@kernel
def source_extend(source, open_ms: int, high: float, low: float, side: int) -> None:
    """Compare one more bar; the first of equals stays. `side` +1 seeks the lowest low, -1 the highest high.

    Source: open indicators 1.7.

    Parameters
    ----------
    source
        SOURCE record.
    open_ms
        Open time of the bar, ms UTC.
    high, low
        Parsed high and low, price units.
    side
        +1 for a bullish, -1 for a bearish block.
    """
    measure = -low if side > 0 else high
    if measure > source.measure:
        source.measure = measure
        source.top = high
        source.bottom = low
        source.open_ms = open_ms


@outlined_kernel
def source_restart(source, parsed, size: int, side: int) -> None:
    """Restart at a pivot: compare the bars from it up to the one before the newest. Source: open indicators 1.7.

    Parameters
    ----------
    source, parsed
        SOURCE record, RING record of parsed highs and lows.
    size
        Age of the pivot, bars.
    side
        +1 for a bullish, -1 for a bearish block.
    """
    source.measure = -math.inf
    for ago in range(size, 0, -1):
        slot = ring_slot(parsed, ago)
        source_extend(source, parsed.open_ms[slot], parsed.high[slot], parsed.low[slot], side)


def blocks_reset(blocks) -> None:
    """Reset a BLOCKS record to an empty list."""
    blocks.head = 0
    blocks.held = 0
    blocks.floor = -math.inf
    blocks.ceiling = math.inf
    blocks.bull_removed = 0
    blocks.bear_removed = 0
    blocks.top[:] = 0.0
    blocks.bottom[:] = 0.0
    blocks.open_ms[:] = 0
    blocks.bias[:] = 0


@outlined_kernel
def blocks_add(blocks, top: float, bottom: float, open_ms: int, bias: int, limit: int) -> None:
    """Append a range as the newest; beyond `limit` the oldest is dropped. Source: open indicators 1.7.

    Parameters
    ----------
    blocks
        BLOCKS record.
    top, bottom
        Edges, price units.
    open_ms
        Open time of the bar of origin, ms UTC.
    bias
        +1 bullish, -1 bearish.
    limit
        Maximum number of ranges, at most CAPACITY.
    """
    if blocks.held >= limit:
        blocks.head = (blocks.head + 1) & MASK
        blocks.held -= 1
    slot = (blocks.head + blocks.held) & MASK
    blocks.top[slot] = top
    blocks.bottom[slot] = bottom
    blocks.open_ms[slot] = open_ms
    blocks.bias[slot] = bias
    blocks.held += 1
    if bias > 0:
        blocks.floor = max(blocks.floor, bottom)
    else:
        blocks.ceiling = min(blocks.ceiling, top)


@kernel
def blocks_slot(blocks, age: int) -> int:
    """Return the slot of the range with `age` newer ones (0 = newest) in a BLOCKS record."""
    return (blocks.head + blocks.held - 1 - age) & MASK


@outlined_kernel
def blocks_walk(blocks, rising: float, falling: float) -> None:
    """Remove the ranges that the prices went through, newest first, skipping the one after each removal.

    `blocks`: BLOCKS record; `rising`, `falling`: float64, price units. Source: open indicators 1.8.
    """
    newest = blocks.head + blocks.held - 1
    write = newest
    passed_over = False
    floor = -math.inf
    ceiling = math.inf
    for read in range(newest, newest - blocks.held, -1):
        slot = read & MASK
        top = blocks.top[slot]
        bottom = blocks.bottom[slot]
        bias = blocks.bias[slot]
        if not passed_over:
            if bias > 0 and falling < bottom:
                blocks.bull_removed += 1
                passed_over = True
                continue
            if bias < 0 and rising > top:
                blocks.bear_removed += 1
                passed_over = True
                continue
        passed_over = False
        if write != read:  # survivors move up towards the newest
            target = write & MASK
            blocks.top[target] = top
            blocks.bottom[target] = bottom
            blocks.open_ms[target] = blocks.open_ms[slot]
            blocks.bias[target] = bias
        write -= 1
        if bias > 0:
            floor = max(floor, bottom)
        else:
            ceiling = min(ceiling, top)
    blocks.head = (write + 1) & MASK
    blocks.held = newest - write
    blocks.floor = floor
    blocks.ceiling = ceiling


@kernel
def blocks_mitigate(blocks, rising: float, falling: float) -> None:
    """Remove bearish ranges whose top lies below `rising` and bullish ones whose bottom lies above `falling`.

    `blocks`: BLOCKS record; prices float64; NaN removes none. Source: open indicators 1.8.
    """
    blocks.bull_removed = 0
    blocks.bear_removed = 0
    if rising > blocks.ceiling or falling < blocks.floor:
        blocks_walk(blocks, rising, falling)
