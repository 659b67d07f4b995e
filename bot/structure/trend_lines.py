"""Trend lines: a line through the last two pivot highs while they fall, or pivot lows while they rise, until price breaks it.

A down-trend line is drawn when a pivot high is confirmed below the previous one, and replaces the existing line; a
higher pivot removes it. It ends with the first price above it, which is the event; if price is already above it when it
is confirmed, it is broken on that bar. The up-trend line is the mirror image. The price is the one that breaks
structure.

Both sides use one formula in the side's own frame (prices times +1 for highs, -1 for lows), in which lines fall. A
price is compared with the line without a division, ``(price - level) * span > (level - before) * passed``, so that on a
grid of ticks the comparison is exact.

The product draws zones where it finds liquidity along such a line and does not publish how; that a break of the
extremity is an alert is documented. Sources: the public documentation of the indicator; the line through two pivots is
common practice.
"""

import math

import numpy as np

from bot.core.jit import kernel

LINE = np.dtype(
    [
        ("level", "f8"),  # last pivot of the side, own frame; NaN before the first
        ("index", "i8"),  # its bar
        ("stands", "i8"),  # 1: there is a line
        ("fall", "f8"),  # last pivot minus the previous one: negative while a line exists
        ("span", "i8"),  # bars between the two
        ("broken", "i8"),  # 1: the line was broken on this bar
    ]
)
LINES = np.dtype([("falling", LINE), ("rising", LINE)])


def lines_reset(lines) -> None:
    """Reset a LINES record to its initial state."""
    for line in (lines.falling, lines.rising):
        line.level = math.nan
        line.index = -1
        line.stands = 0
        line.fall = 0.0
        line.span = 0
        line.broken = 0


@kernel
def line_pivot(line, level: float, index: int) -> None:
    """Take a new pivot of the side: if it is below the previous one the line is redrawn, else removed.

    `line`: LINE record; `level` float64, own frame; `index`: bar of the pivot. Source: premium indicators 2.7.
    """
    line.fall = level - line.level
    line.span = index - line.index
    line.stands = 1 if line.fall < 0.0 else 0  # false against NaN
    line.level = level
    line.index = index


@kernel
def line_break(line, price: float, index: int) -> None:
    """Break the line if the price (float64, own frame) is above it; NaN breaks none.

    `line`: LINE record; `index`: number of the bar. Source: premium indicators 2.7.
    """
    if line.stands == 1 and (price - line.level) * line.span > line.fall * (index - line.index):
        line.stands = 0
        line.broken = 1


@kernel
def lines_step(lines, bar, price: float, pivot: int, pivot_level: float, pivot_index: int) -> None:
    """Advance both lines by one closed bar; a filled bar breaks none. Source: premium indicators 2.7.

    Parameters
    ----------
    lines : record of LINES
    bar : record of BAR
    price : float
        what is compared with the lines
    pivot : int
        +1 a pivot high was confirmed on this bar, -1 a pivot low, 0 none
    pivot_level : float
        price of that pivot
    pivot_index : int
        bar of that pivot
    """
    lines.falling.broken = 0
    lines.rising.broken = 0
    if pivot > 0:
        line_pivot(lines.falling, pivot_level, pivot_index)
    elif pivot < 0:
        line_pivot(lines.rising, -pivot_level, pivot_index)
    if bar.filled == 0:
        line_break(lines.falling, price, bar.index)
        line_break(lines.rising, -price, bar.index)
