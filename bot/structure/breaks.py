"""Breaks of structure as defined by Price Action Concepts: BOS, CHoCH and CHoCH+.

One pivot high and one pivot low are watched at any time. A price beyond one of them is a break (the close, or the mean
of open, high, low and close, which requires the bar to trade beyond the level and not only to close there). In the
direction of the trend it is a BOS (break of structure), against it a CHoCH (change of character). A CHoCH already
announced by the other side, a higher low before a break up or a lower high before a break down, is a CHoCH+. Every
pivot breaks once. Swing structure is off (its input is "None"), so no pivot is excluded for coinciding with a swing
level.

Both sides use one formula: a side is kept in its own frame, in which prices are multiplied by the side's sign (+1 for
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
        ("weaker", "i8"),  # the pivot did not reach the previous one: a lower high, or a higher low
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
        ("price", "f8"),  # price of the newest traded bar that is compared with the pivots
    ]
)


def pivot_reset(pivot) -> None:
    """Reset a PIVOT record to no pivot."""
    pivot.level = math.nan
    pivot.index = -1
    pivot.crossed = 0
    pivot.weaker = 0


def structure_reset(structure) -> None:
    """Reset a STRUCTURE record to its initial state."""
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
    """Return the price of a bar (float64) that is compared with pivots, births of blocks and trend lines.

    `source`: CLOSE or OHLC4; `bar`: BAR record. Highs and lows are added first, then opens and closes: the sum of a
    mirrored bar is then the exact mirror image. Source: premium indicators 2.1.
    """
    if source == CLOSE:
        return bar.close
    return ((bar.high + bar.low) + (bar.open + bar.close)) / 4.0


@kernel
def pivot_replace(pivot, level: float, index: int) -> None:
    """Watch a new pivot; `level` (float64) in the side's own frame. The first pivot is never the weaker one.

    `pivot`: PIVOT record; `index`: bar of the pivot. Source: premium indicators 2.1.
    """
    pivot.weaker = 1 if level < pivot.level else 0  # false against NaN
    pivot.level = level
    pivot.index = index
    pivot.crossed = 0


@kernel
def break_test(structure, pivot, other, sign: int, price: float, previous: float, index: int) -> None:
    """Test one side and record the event if the pivot breaks on this bar; with a NaN price or level it does not.

    Source: premium indicators 2.1.

    Parameters
    ----------
    structure
        STRUCTURE record.
    pivot, other
        PIVOT records of the side and of the opposite one.
    sign
        +1 highs, -1 lows.
    price, previous
        Prices of this bar and the one before, in the side's own frame.
    index
        Number of the bar.
    """
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
    """Advance structure by one closed bar; levels are float64 in price units, NaN where there is none.

    Source: premium indicators 2.1.

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
    # A filled bar keeps the price of the last traded bar and breaks nothing, so it needs no special case.
    previous = structure.price
    price = break_price(source, bar) if bar.filled == 0 else previous
    structure.price = price
    break_test(structure, structure.high, structure.low, 1, price, previous, bar.index)
    break_test(structure, structure.low, structure.high, -1, -price, -previous, bar.index)
