"""Compare two sets of marked bars: hits, F1, their chance level under time shifts, and intervals of counts.

The chance level of a fit is the result of the same comparison when the wanted marks are shifted in time: they keep
their number and spacing and lose only their position. A shift wraps around the end of the period, so no mark is lost;
all sides (such as up and down) are shifted together.
"""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from bot.core.jit import outlined_kernel

NEAREST_SHIFT: Final = 5  # bars: a mark shifted by less may still match itself
MOST_SHIFTS: Final = 200
Z: Final = 1.959964  # of a 95 % interval


def poisson_interval(count: int) -> tuple[float, float]:
    """Return the 95 % interval of the mean behind a Poisson count (Garwood's, by Wilson and Hilferty's cube).

    >>> [round(end, 2) for end in poisson_interval(10)], round(poisson_interval(0)[1], 1)
    ([4.79, 18.39], 3.7)
    """

    def end(n: float, z: float) -> float:
        return n * (1.0 - 1.0 / (9.0 * n) + z / (3.0 * math.sqrt(n))) ** 3

    return (end(count, -Z) if count else 0.0), end(count + 1.0, Z)


def f1(hits: float, found: float, wanted: float) -> float:
    """Return the harmonic mean of precision and recall: 2 hits / (found + wanted); 0 when both are empty.

    >>> round(f1(14, 31, 27), 3)
    0.483
    """
    return 2.0 * hits / (found + wanted) if found + wanted else 0.0


def shifts_of(bars: int, most: int = MOST_SHIFTS) -> np.ndarray:
    """Return evenly spread shifts (bars) for a period of `bars`, none closer to 0 than `NEAREST_SHIFT`."""
    first, last = NEAREST_SHIFT, bars - NEAREST_SHIFT
    if last < first:
        return np.zeros(0, np.int64)
    return np.unique(np.linspace(first, last, min(most, last - first + 1)).round().astype(np.int64))


@outlined_kernel
def pair_count(found, wanted, within: int) -> int:  # type: ignore[no-untyped-def]
    """Return how many marks of two sides pair up one to one at most `within` bars apart; both ascending int64.

    >>> int(pair_count(np.array([1, 5, 9]), np.array([2, 5, 20]), 1))
    2
    """
    i = j = count = 0
    while i < found.shape[0] and j < wanted.shape[0]:
        if abs(found[i] - wanted[j]) <= within:
            count += 1
            i += 1
            j += 1
        elif found[i] < wanted[j]:
            i += 1
        else:
            j += 1
    return count


def hits(found: Sequence[np.ndarray], wanted: Sequence[np.ndarray], within: int) -> int:
    """Return the number of pairs over all sides; a side is the positions of its marks, ascending int64."""
    return sum(int(pair_count(mine, yours, within)) for mine, yours in zip(found, wanted, strict=True))


def shifted_hits(
    found: Sequence[np.ndarray], wanted: Sequence[np.ndarray], bars: int, within: int, shifts: np.ndarray
) -> np.ndarray:
    """Return the number of pairs over all sides for each shift of the wanted marks, int64.

    Parameters
    ----------
    found, wanted
        Positions of the marks of each side, ascending int64.
    bars
        Length of the period.
    within
        Maximum distance of a pair, bars.
    shifts
        Shifts of the wanted marks, bars.
    """
    counts = np.zeros(len(shifts), np.int64)
    for i, shift in enumerate(shifts.tolist()):
        moved = [np.sort((side + shift) % bars) for side in wanted]
        counts[i] = hits(found, moved, within)
    return counts


def positions(marks: np.ndarray) -> np.ndarray:
    """Return the positions of marks, int64."""
    return np.flatnonzero(marks).astype(np.int64)


class Spectrum:
    """Hits of many predictions against one set of wanted marks at every shift, by the Fourier transform.

    A prediction is the positions of each side. Hits at shift s are the sum over sides and bars of found[i] * wanted[i -
    s] in a circular period, which the transform gives for all shifts at once.
    """

    def __init__(self, wanted: Sequence[np.ndarray], bars: int) -> None:
        self.bars = bars
        self.count = sum(len(side) for side in wanted)
        self._wanted = [np.conj(np.fft.rfft(self._line(side))) for side in wanted]

    def _line(self, places: np.ndarray) -> np.ndarray:
        line = np.zeros(self.bars)
        line[places] = 1.0
        return line

    def hits(self, found: Sequence[np.ndarray]) -> np.ndarray:
        """Return the hits at each shift 0 .. bars - 1, float64 with integer values."""
        total = np.zeros(self.bars // 2 + 1, np.complex128)
        for side, wanted in zip(found, self._wanted, strict=True):
            total += np.fft.rfft(self._line(side)) * wanted
        return np.round(np.fft.irfft(total, self.bars))
