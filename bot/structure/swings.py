"""Pivots: a bar whose high no later bar of the look-back exceeded, or whose low none undercut, confirmed `size` bars late.

A *leg* is the range of bars between two pivots: 0 after a high (price falls from it), 1 after a low. A pivot is
confirmed only when the leg turns, so highs and lows alternate strictly, and the first pivot of a detector is always a
low.

`LEG` is one detector with its own ring buffer of bars. A family that runs several sizes over the same bars keeps one
`RING` and calls `leg_turn` once per size. Look-backs are at most `CAPACITY - 1` bars.

Source: open indicators 1.4; Price Action Concepts uses the same legs.
"""

import numpy as np

from bot.core.jit import kernel

CAPACITY = 128  # bars kept, a power of two: the slot is a bitwise `and`
MASK = CAPACITY - 1
STRIDE = 6  # bars that a scan compares at a time

RING = np.dtype([("bars", "i8"), ("open_ms", "i8", CAPACITY), ("high", "f8", CAPACITY), ("low", "f8", CAPACITY)])
LEG = np.dtype([("ring", RING), ("leg", "i8")])


def ring_reset(ring) -> None:
    """Reset a RING record to no bars."""
    ring.bars = 0
    ring.open_ms[:] = 0
    ring.high[:] = 0.0
    ring.low[:] = 0.0


@kernel
def ring_push(ring, open_ms: int, high: float, low: float) -> None:
    """Append a bar; the oldest is dropped.

    Parameters
    ----------
    ring
        RING record.
    open_ms
        Open time of the bar, ms UTC.
    high, low
        Prices of the bar.
    """
    slot = ring.bars & MASK
    ring.open_ms[slot] = open_ms
    ring.high[slot] = high
    ring.low[slot] = low
    ring.bars += 1


@kernel
def ring_slot(ring, ago: int) -> int:
    """Return the slot of the bar `ago` bars before the newest (0 = newest) in a RING record."""
    return (ring.bars - 1 - ago) & MASK


@kernel
def is_high(ring, size: int) -> bool:
    """Return whether the high `size` bars ago is above all highs since (RING record, no NaN). Source: open indicators 1.4.

    The scan starts right after it: most scans end within a few bars. Which bar ends it is unpredictable, so `STRIDE` of
    them are compared at once.
    """
    last = ring.bars - 1
    level = ring.high[(last - size) & MASK]
    for ago in range(size - 1, -1, -STRIDE):
        top = ring.high[(last - ago) & MASK]
        for i in range(1, STRIDE):
            top = max(top, ring.high[(last - max(ago - i, 0)) & MASK])
        if not top < level:
            return False
    return True


@kernel
def is_low(ring, size: int) -> bool:
    """Return whether the low `size` bars ago is below all lows since (RING record, no NaN). Source: open indicators 1.4."""
    last = ring.bars - 1
    level = ring.low[(last - size) & MASK]
    for ago in range(size - 1, -1, -STRIDE):
        bottom = ring.low[(last - ago) & MASK]
        for i in range(1, STRIDE):
            bottom = min(bottom, ring.low[(last - max(ago - i, 0)) & MASK])
        if not bottom > level:
            return False
    return True


@kernel
def leg_turn(ring, leg: int, size: int) -> int:
    """Return the leg after the newest bar: 0 after a new high, 1 after a new low, else unchanged.

    A bar that is both ends the leg as a high. Only the test that can turn the leg is made: from 1 for a high, from 0
    for a low that is not a high. `ring`: RING record; unchanged until `size` + 1 bars. Source: open indicators 1.4.
    """
    if ring.bars <= size:
        return leg
    if leg == 1:
        return 0 if is_high(ring, size) else 1
    return 1 if is_low(ring, size) and not is_high(ring, size) else 0


def leg_reset(leg) -> None:
    """Reset a LEG record to its state before the first bar."""
    ring_reset(leg.ring)
    leg.leg = 0


@kernel
def leg_step_at(leg, open_ms: int, high: float, low: float, size: int) -> int:
    """Advance by one bar: +1 a pivot high is confirmed, -1 a pivot low, 0 neither; the pivot is `size` bars old.

    Source: open indicators 1.4.

    Parameters
    ----------
    leg
        LEG record.
    open_ms
        Open time of the bar, ms UTC.
    high, low
        Prices of the bar.
    size
        Look-back, bars.
    """
    ring_push(leg.ring, open_ms, high, low)
    turned = leg_turn(leg.ring, leg.leg, size)
    if turned == leg.leg:
        return 0
    leg.leg = turned
    return 1 if turned == 0 else -1


@kernel
def leg_step(leg, high: float, low: float, size: int) -> int:
    """Advance by one bar as `leg_step_at`, without its time (`pivot_ms` is then 0).

    Parameters
    ----------
    leg
        LEG record.
    high, low
        Prices of the bar.
    size
        Look-back, bars.

    >>> from bot.core.jit import record; leg = record(LEG)
    >>> [leg_step(leg, price + 1.0, price - 1.0, 2) for price in (5.0, 4.0, 5.0, 7.0, 6.0, 5.0)]
    [0, 0, 0, -1, 0, 1]
    """
    return leg_step_at(leg, 0, high, low, size)


@kernel
def pivot_high(leg, size: int) -> float:
    """Return the high (float64) of the bar `size` bars ago: the level of a pivot high confirmed now."""
    return leg.ring.high[ring_slot(leg.ring, size)]


@kernel
def pivot_low(leg, size: int) -> float:
    """Return the low (float64) of the bar `size` bars ago: the level of a pivot low confirmed now."""
    return leg.ring.low[ring_slot(leg.ring, size)]


@kernel
def pivot_ms(leg, size: int) -> int:
    """Return the open time of the bar `size` bars ago, ms UTC."""
    return leg.ring.open_ms[ring_slot(leg.ring, size)]


@kernel
def pivot_index(leg, size: int) -> int:
    """Return the 0-based number of the bar `size` bars ago."""
    return leg.ring.bars - 1 - size
