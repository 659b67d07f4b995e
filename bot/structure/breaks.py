"""Breaks of structure as Price Action Concepts tells them: BOS, CHoCH and CHoCH+.

A pivot high and a pivot low are watched at any time. A price beyond one of them is a break (the close, or the mean of
open, high, low and close, which waits for a bar that stands beyond and not only ends there): in the direction of the
trend a BOS (break of structure), against it a CHoCH (change of character). A CHoCH that the other side had already
announced, a higher low before a break up or a lower high before a break down, is a CHoCH+. Every pivot breaks once.
Swing structure is off (its input is "None"), so no pivot is left out for coinciding with a swing level.

Both sides are one formula: a side is kept in its own frame, in which prices are multiplied by the side's sign (+1 for
highs that break up, -1 for lows that break down), so that "beyond" is always "greater". Negation is exact in floating
point: a mirrored market gives mirrored breaks to the last bit.

Source: the public documentation of the indicator; premium indicators 2.1.
"""

import math

import numpy as np

from bot.core.jit import kernel

NONE, BOS, CHOCH, CHOCH_PLUS = 0, 1, 2, 3
CLOSE, OHLC4 = 0, 1  # price that breaks

PIVOT = np.dtype(
    [
        ("level", "f8"),  # own frame; NaN before the first pivot
        ("index", "i8"),  # bar of the pivot itself, not of its confirmation
        ("crossed", "i8"),
        ("weaker", "i8"),  # the pivot fell short of the one before: a lower high, or a higher low
    ]
)
STRUCTURE = np.dtype(
    [
        ("high", PIVOT),
        ("low", PIVOT),
        ("trend", "i8"),  # side of the last break: +1, -1, 0 before the first
        ("event", "i8"),  # of this bar: NONE, BOS, CHOCH, CHOCH_PLUS
        ("direction", "i8"),  # of this bar's event: +1, -1, 0
        ("level", "f8"),  # price that this bar's event broke; NaN without one
        ("pivot_index", "i8"),  # bar of the pivot that this bar's event broke; -1 without one
        ("break_index", "i8"),  # bar of the last break; -1 before the first
        ("price", "f8"),  # what is compared with the pivots, of the newest traded bar
    ]
)


def pivot_reset(pivot) -> None:
    """Forget the pivot."""
    pivot.level = math.nan
    pivot.index = -1
    pivot.crossed = 0
    pivot.weaker = 0


def structure_reset(structure) -> None:
    """Bring any state back to that of a fresh start."""
    pivot_reset(structure.high)
    pivot_reset(structure.low)
    structure.trend = 0
    structure.event = NONE
    structure.direction = 0
    structure.level = math.nan
    structure.pivot_index = -1
    structure.break_index = -1
    structure.price = math.nan


@kernel
def break_price(source: int, bar) -> float:
    """Return the price of a bar that is compared with pivots, blocks' births and trend lines.

    Highs and lows are added first, opens and closes likewise: the sum of a mirrored bar is then the mirror image to the bit.
    """
    if source == CLOSE:
        return bar.close
    return ((bar.high + bar.low) + (bar.open + bar.close)) / 4.0


@kernel
def pivot_replace(pivot, level: float, index: int) -> None:
    """Watch a new pivot; `level` in the side's own frame. The first pivot is never the weaker one."""
    pivot.weaker = 1 if level < pivot.level else 0  # false against NaN
    pivot.level = level
    pivot.index = index
    pivot.crossed = 0


@kernel
def break_test(structure, pivot, other, sign: int, price: float, previous: float, index: int) -> None:
    """Test one side (prices in its own frame) and record the event if the pivot breaks on this bar."""
    if pivot.crossed == 0 and price > pivot.level and previous <= pivot.level:
        pivot.crossed = 1
        if structure.trend == sign:
            structure.event = BOS
        elif other.weaker == 1:
            structure.event = CHOCH_PLUS
        else:
            structure.event = CHOCH
        structure.trend = sign
        structure.direction = sign
        structure.level = sign * pivot.level
        structure.pivot_index = pivot.index
        structure.break_index = index


@kernel
def structure_step(structure, source: int, bar, pivot: int, pivot_level: float, pivot_index: int) -> None:
    """Advance structure by one closed bar.

    Parameters
    ----------
    structure : record of STRUCTURE
    source : int
        CLOSE or OHLC4
    bar : record of BAR
    pivot : int
        +1 a pivot high was confirmed on this bar, -1 a pivot low, 0 none
    pivot_level : float
        price of that pivot
    pivot_index : int
        bar of that pivot
    """
    structure.event = NONE
    structure.direction = 0
    structure.level = math.nan
    structure.pivot_index = -1
    if pivot > 0:
        pivot_replace(structure.high, pivot_level, pivot_index)
    elif pivot < 0:
        pivot_replace(structure.low, -pivot_level, pivot_index)
    # A flat filler keeps the price of the last traded bar and can break nothing, so that it needs no case of its own.
    previous = structure.price
    price = break_price(source, bar) if bar.filled == 0 else previous
    structure.price = price
    break_test(structure, structure.high, structure.low, 1, price, previous, bar.index)
    break_test(structure, structure.low, structure.high, -1, -price, -previous, bar.index)
