"""Drift-free sums over the last bars, and resets of the shared averages.

The lines of the oscillator and of the overlays are means and sums of a few dozen bars. A running sum that subtracts
what leaves the window keeps a rounding residue: after a period of bars without volume it would divide one residue by
another. Here nothing is subtracted: the series is split into blocks of the window's length, the finished block keeps
its suffix sums, the running block its prefix sum, and the window's sum is one of each. The sum of zeros is zero, a NaN
affects exactly the windows that contain it, and the cost stays at two additions per bar.
"""

import math

import numpy as np

from bot.core.jit import kernel, outlined_kernel
from bot.indicators.averages import CAPACITY

WINDOW = np.dtype(
    [
        ("slot", "i8"),  # position of the next value in the running block
        ("full", "i8"),  # 1 once a block is complete
        ("head", "f8"),  # sum of the running block
        ("ring", "f8", CAPACITY),  # values of the running block, suffix sums of the previous one
    ]
)

LANES = 8
WINDOWS = np.dtype(  # eight windows of one length, advanced together: a quarter of the cost of eight single ones
    [
        ("slot", "i8"),
        ("full", "i8"),
        ("fresh", "f8", LANES),  # in: the values of this bar
        ("total", "f8", LANES),  # out: the sums
        ("head", "f8", LANES),
        ("ring", "f8", (CAPACITY, LANES)),
    ]
)


def window_reset(window) -> None:
    """Reset a WINDOW record to zeros."""
    window.slot = 0
    window.full = 0
    window.head = 0.0
    window.ring[:] = 0.0


@kernel
def window_turn(window, length: int) -> float:
    """Close the running block: store its suffix sums, return its sum (float64).

    `window`: WINDOW record; `length` in bars.
    """
    total = window.head
    tail = 0.0
    for i in range(length - 1, -1, -1):
        tail += window.ring[i]
        window.ring[i] = tail
    window.slot = 0
    window.full = 1
    window.head = 0.0
    return total


@kernel
def window_step(window, x: float, length: int) -> float:
    """Return the sum of the last `length` values (bars, 1 to CAPACITY); NaN until `length` values.

    `window`: WINDOW record; float64 in the unit of `x`; a NaN affects only windows that contain it. Source: two-stack
    sliding sum (this project).

    >>> from bot.core.jit import record; window = record(WINDOW)
    >>> [float(window_step(window, x, 2)) for x in (1.0, 3.0, 6.0)]
    [nan, 4.0, 9.0]
    """
    slot = window.slot
    window.ring[slot] = x
    window.head += x
    slot += 1
    if slot == length:
        return window_turn(window, length)
    window.slot = slot
    return window.head + window.ring[slot] if window.full else math.nan


def lanes_reset(lanes) -> None:
    """Reset a WINDOWS record to zeros."""
    lanes.slot = 0
    lanes.full = 0
    lanes.fresh[:] = 0.0
    lanes.total[:] = 0.0
    lanes.head[:] = 0.0
    lanes.ring[:] = 0.0


@outlined_kernel
def lanes_turn(lanes, length: int) -> None:
    """Close the running block of all eight windows (WINDOWS record; `length` in bars)."""
    for j in range(LANES):
        lanes.total[j] = lanes.head[j]
        lanes.head[j] = 0.0
    for i in range(length - 2, -1, -1):
        for j in range(LANES):
            lanes.ring[i, j] += lanes.ring[i + 1, j]
    lanes.slot = 0
    lanes.full = 1


@kernel
def lanes_step(lanes, length: int) -> None:
    """Push `fresh` into eight windows of one length at once; their sums are in `total`, NaN until `length` values.

    `lanes`: WINDOWS record; `fresh` and `total` are float64, shape (LANES,), in the unit of each series; `length` in
    bars. Source: as `window_step`.
    """
    slot = lanes.slot
    for j in range(LANES):
        lanes.ring[slot, j] = lanes.fresh[j]
        lanes.head[j] += lanes.fresh[j]
    slot += 1
    if slot == length:
        lanes_turn(lanes, length)
        return
    lanes.slot = slot
    for j in range(LANES):
        lanes.total[j] = lanes.head[j] + lanes.ring[slot, j] if lanes.full else math.nan


def rma_reset(rma) -> None:
    """Reset an RMA record to zeros."""
    rma.bars = 0
    rma.value = 0.0


def ema_reset(ema) -> None:
    """Reset an EMA record to zeros."""
    ema.bars = 0
    ema.value = 0.0
    ema.seed = 0.0


def rsi_reset(rsi) -> None:
    """Reset an RSI record to zeros."""
    rsi.bars = 0
    rsi.previous = 0.0
    rma_reset(rsi.gain)
    rma_reset(rsi.loss)


def super_reset(smoother) -> None:
    """Reset a SUPER record to zeros."""
    smoother.bars = 0
    smoother.input = 0.0
    smoother.value = 0.0
    smoother.value1 = 0.0
    smoother.value2 = 0.0
