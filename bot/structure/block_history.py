"""What the blocks of the past say about a new one: the rank of its volume, and the bar set for taker volume.

Taker shares cluster near one half, so that the 60 per cent asked of candles would refuse nearly every block. The threshold
for taker volume is therefore measured: the value that as many of the last 500 blocks reach as reach the minimum by
candle.

Source: premium indicators 2.2 (dominance gate, strength).
"""

import math

import numpy as np

from bot.core.jit import kernel, outlined_kernel

HISTORY = 500  # created blocks remembered
RANK_FROM = 20  # blocks before the first rank
THRESHOLD_FROM = 50  # blocks with a taker share before the first threshold

PAST = np.dtype(
    [
        ("created", "i8"),  # blocks since the start: the newest block's id
        ("slot", "i8"),  # where the next one goes
        ("volume", "f8", HISTORY),
        ("taker", "f8", HISTORY),  # dominance by taker volume, NaN where unknown
        ("passed", "i8", HISTORY),  # 1: dominance by candle at least the minimum
        ("ordered", "f8", HISTORY),  # the known ones of `taker`, ascending
        ("known", "i8"),
        ("passes", "i8"),  # how many of the known ones passed by candle
        ("threshold", "f8"),  # taker dominance with the same pass rate; NaN until it is known
    ]
)


def past_reset(past) -> None:
    """Bring any state back to that of a fresh start."""
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
    """Return the percentage of the previous `window` blocks with less volume; NaN with fewer than 20 of them."""
    seen = min(past.created, window)
    if seen < RANK_FROM:
        return math.nan
    smaller = 0
    first = past.slot - seen
    for i in range(max(first, 0), past.slot):
        smaller += 1 if past.volume[i] < volume else 0
    for i in range(first + HISTORY, HISTORY):  # the ring's end, when its start is too short
        smaller += 1 if past.volume[i] < volume else 0
    return 100.0 * smaller / seen


@kernel
def first_not_below(ordered, known: int, value: float) -> int:
    """Return the place of the first of the ascending values that is not below `value`."""
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
    """Take `old` out of the ascending values and put `new` in, NaN for none: only what lies between the two moves."""
    ordered = past.ordered
    gap = past.known  # the free place
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
    """Remember a created block, and move the taker threshold.

    Among the last 500 blocks that have a taker share, as many reach the threshold as reach `min_dominance` by candle.
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
