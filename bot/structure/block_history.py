"""History of created order blocks: the volume rank of a new one, and the dominance threshold for taker volume.

Taker shares cluster near one half, so the 60 per cent required of candles would reject nearly every block. The
threshold for taker volume is therefore measured: the value reached by as many of the last 500 blocks as reach the
minimum by candle.

Source: premium indicators 2.2 (dominance gate, strength).
"""

import math

import numpy as np

from bot.core.jit import kernel, outlined_kernel

HISTORY = 500  # created blocks kept
RANK_FROM = 20  # blocks before the first rank
THRESHOLD_FROM = 50  # blocks with a taker share before the first threshold

PAST = np.dtype(
    [
        ("created", "i8"),  # blocks since the start: the newest block's id
        ("slot", "i8"),  # position of the next one
        ("volume", "f8", HISTORY),
        ("taker", "f8", HISTORY),  # dominance by taker volume, NaN where unknown
        ("passed", "i8", HISTORY),  # 1: dominance by candle at least the minimum
        ("ordered", "f8", HISTORY),  # known values of `taker`, ascending
        ("known", "i8"),
        ("passes", "i8"),  # number of known ones that passed by candle
        ("threshold", "f8"),  # taker dominance with the same pass rate; NaN until known
    ]
)


def past_reset(past) -> None:
    """Reset a PAST record to its initial state."""
    past.created = 0
    past.slot = 0
    past.volume[:] = 0.0
    past.taker[:] = 0.0
    past.passed[:] = 0
    past.ordered[:] = 0.0
    past.known = 0
    past.passes = 0
    past.threshold = math.nan


@outlined_kernel
def volume_rank(past, volume: float, window: int) -> float:
    """Return the percentage of the previous `window` blocks with less volume; NaN with fewer than RANK_FROM of them.

    `past`: PAST record; `volume` float64, base asset; `window` at most HISTORY. Source: premium indicators 2.2.
    """
    seen = min(past.created, window)
    if seen < RANK_FROM:
        return math.nan
    smaller = 0
    first = past.slot - seen
    for i in range(max(first, 0), past.slot):
        smaller += 1 if past.volume[i] < volume else 0
    for i in range(first + HISTORY, HISTORY):  # wraps around to the end of the ring buffer
        smaller += 1 if past.volume[i] < volume else 0
    return 100.0 * smaller / seen


@kernel
def first_not_below(ordered, known: int, value: float) -> int:
    """Return the index of the first of `known` ascending values that is not below `value` (binary search).

    `ordered`: float64, shape (HISTORY,), its first `known` values without NaN.
    """
    low, high = 0, known
    while low < high:
        middle = (low + high) >> 1
        if ordered[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def ordered_replace(past, old: float, new: float) -> None:
    """Replace `old` by `new` in the ascending values; NaN means none. Only the values between the two move.

    `past`: PAST record; values are taker dominances, float64, per cent.
    """
    ordered = past.ordered
    gap = past.known  # the free slot
    if not math.isnan(old):
        gap = first_not_below(ordered, past.known, old)
    if math.isnan(new):
        place = past.known
    else:
        place = first_not_below(ordered, past.known, new)
    if place > gap:
        place -= 1  # its neighbours move down
    for i in range(gap, place):
        ordered[i] = ordered[i + 1]
    for i in range(gap, place, -1):
        ordered[i] = ordered[i - 1]
    if not math.isnan(new):
        ordered[place] = new
    past.known += (0 if math.isnan(new) else 1) - (0 if math.isnan(old) else 1)


@outlined_kernel
def past_push(past, volume: float, candle: float, taker: float, min_dominance: float) -> None:
    """Record a created block and update the taker threshold.

    Among the last HISTORY blocks with a taker share, as many reach the threshold as reach `min_dominance` by candle;
    NaN before THRESHOLD_FROM of them. Source: premium indicators 2.2.

    Parameters
    ----------
    past
        PAST record.
    volume
        Volume of the block, base asset.
    candle, taker
        Dominance by candle and by taker volume, per cent; `taker` NaN where unknown.
    min_dominance
        Minimum dominance, per cent.
    """
    slot = past.slot
    forgotten = past.taker[slot] if past.created >= HISTORY else math.nan
    if not math.isnan(forgotten):
        past.passes -= past.passed[slot]
    past.volume[slot] = volume
    past.taker[slot] = taker
    past.passed[slot] = 0
    if not math.isnan(taker):
        past.passed[slot] = 1 if candle >= min_dominance else 0
        past.passes += past.passed[slot]
    ordered_replace(past, forgotten, taker)
    past.slot = slot + 1 if slot + 1 < HISTORY else 0
    past.created += 1
    if past.known >= THRESHOLD_FROM and past.passes > 0:
        past.threshold = past.ordered[past.known - past.passes]
    else:
        past.threshold = math.nan
