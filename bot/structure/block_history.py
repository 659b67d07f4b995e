"""What the blocks of the past say about a new one: the rank of its volume, and the bar set for taker volume.

Taker shares cluster near one half, so that the 60 per cent asked of candles would refuse nearly every block. The threshold
for taker volume is therefore measured: the value that as many of the last 500 blocks reach as reach the minimum by
candle.

Source: premium indicators 2.2 (dominance gate, strength).
"""

import math

import numpy as np

from bot.core.jit import apart, kernel

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


@apart
def volume_rank(past, volume: float, window: int) -> float:
    """Return the percentage of the previous `window` blocks with less volume; NaN with fewer than 20 of them."""
    seen = min(past.created, window)
    if seen < RANK_FROM:
        return math.nan
    smaller = 0
    slot = past.slot
    for _ in range(seen):
        slot = slot - 1 if slot > 0 else HISTORY - 1
        if past.volume[slot] < volume:
            smaller += 1
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


@apart
def past_push(past, volume: float, candle: float, taker: float, min_dominance: float) -> None:
    """Remember a created block, and move the taker threshold.

    Among the last 500 blocks that have a taker share, as many reach the threshold as reach `min_dominance` by candle.
    """
    slot = past.slot
    if past.created >= HISTORY and not math.isnan(past.taker[slot]):
        for i in range(first_not_below(past.ordered, past.known, past.taker[slot]), past.known - 1):
            past.ordered[i] = past.ordered[i + 1]
        past.known -= 1
        past.passes -= past.passed[slot]
    past.volume[slot] = volume
    past.taker[slot] = taker
    past.passed[slot] = 0
    if not math.isnan(taker):
        past.passed[slot] = 1 if candle >= min_dominance else 0
        past.passes += past.passed[slot]
        place = first_not_below(past.ordered, past.known, taker)
        for i in range(past.known, place, -1):
            past.ordered[i] = past.ordered[i - 1]
        past.ordered[place] = taker
        past.known += 1
    past.slot = slot + 1 if slot + 1 < HISTORY else 0
    past.created += 1
    if past.known >= THRESHOLD_FROM and past.passes > 0:
        past.threshold = past.ordered[past.known - past.passes]
    else:
        past.threshold = math.nan
