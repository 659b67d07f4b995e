"""Breaks of structure as Price Action Concepts tells them: BOS, CHoCH and CHoCH+.

A pivot high and a pivot low are watched at any time. A close beyond one of them is a break: in the direction of the
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


@kernel
def pivot_replace(pivot, level: float, index: int) -> None:
    """Watch a new pivot; `level` in the side's own frame. The first pivot is never the weaker one."""
    pivot.weaker = 1 if level < pivot.level else 0  # false against NaN
    pivot.level = level
    pivot.index = index
    pivot.crossed = 0


@kernel
def break_test(structure, pivot, other, sign: int, close: float, previous_close: float, index: int) -> None:
    """Test one side (closes in its own frame) and record the event if the pivot breaks on this bar."""
    if pivot.crossed == 0 and close > pivot.level and previous_close <= pivot.level:
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
def structure_step(structure, bar, pivot: int, pivot_level: float, pivot_index: int) -> None:
    """Advance structure by one closed bar.

    Parameters
    ----------
    structure : record of STRUCTURE
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
    # A flat filler repeats the last close and can break nothing, so that it needs no case of its own.
    break_test(structure, structure.high, structure.low, 1, bar.close, bar.previous_close, bar.index)
    break_test(structure, structure.low, structure.high, -1, -bar.close, -bar.previous_close, bar.index)
