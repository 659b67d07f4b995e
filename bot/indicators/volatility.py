"""True range, ATR, and the bar context shared by all families.

The context is advanced once per bar before the families and passed to all of them: the bar, the previous bar, and the
averages that several families share, computed once.
"""

import math

import numpy as np

from bot.core.jit import kernel, outlined_kernel
from bot.indicators.averages import EMA, RMA, ema_step, rma_step
from bot.indicators.window_sum import ema_reset, rma_reset

BAR = np.dtype(
    [
        ("index", "i8"),  # 0-based number of the bar since the start or the last reset
        ("open_ms", "i8"),
        ("open", "f8"),
        ("high", "f8"),
        ("low", "f8"),
        ("close", "f8"),
        ("volume", "f8"),
        ("taker", "f8"),  # taker-buy base volume, NaN where unknown
        ("filled", "i8"),  # 1: a flat bar inserted for a missing one: no signal, no touch
        ("previous_open", "f8"),  # NaN on bar 0, like the three below
        ("previous_high", "f8"),
        ("previous_low", "f8"),
        ("previous_close", "f8"),
        ("tr", "f8"),
        ("atr10", "f8"),
        ("atr14", "f8"),
        ("atr200", "f8"),
        ("ema200", "f8"),
        ("_bars", "i8"),
        ("_atr10", RMA),
        ("_atr14", RMA),
        ("_atr200", RMA),
        ("_ema200", EMA),
    ]
)


def bar_reset(bar) -> None:
    """Reset a BAR record to its state before the first bar."""
    bar._bars = 0
    rma_reset(bar._atr10)
    rma_reset(bar._atr14)
    rma_reset(bar._atr200)
    ema_reset(bar._ema200)


@kernel
def true_range(high: float, low: float, previous_close: float) -> float:
    """Return max(H-L, |H-C1|, |L-C1|) (float64, price units), or H-L without a previous close (NaN).

    Source: Wilder, Pine `ta.tr(true)`.

    >>> true_range(10.0, 8.0, 7.0)
    3.0
    """
    if math.isnan(previous_close):
        return high - low
    return max(high - low, abs(high - previous_close), abs(low - previous_close))


@outlined_kernel
def bar_step(bar, open_ms, open_, high, low, close, volume, taker, filled) -> None:
    """Advance the context by one closed bar; a zeroed record is the initial context.

    ATRs are RMAs of the true range, NaN until their length is reached; EMA 200 is seeded with the first close. Float64
    in price units. Source: premium indicators 0.

    Parameters
    ----------
    bar
        BAR record.
    open_ms
        Open time of the bar, ms UTC (int64).
    open_, high, low, close
        Prices.
    volume, taker
        Total and taker-buy base volume; `taker` NaN where unknown.
    filled
        1 for a flat bar inserted for a missing one, else 0.
    """
    if bar._bars == 0:
        bar.previous_open = math.nan
        bar.previous_high = math.nan
        bar.previous_low = math.nan
        bar.previous_close = math.nan
    else:
        bar.previous_open = bar.open
        bar.previous_high = bar.high
        bar.previous_low = bar.low
        bar.previous_close = bar.close
    bar.index = bar._bars
    bar._bars += 1
    bar.open_ms = open_ms
    bar.open = open_
    bar.high = high
    bar.low = low
    bar.close = close
    bar.volume = volume
    bar.taker = taker
    bar.filled = filled
    bar.tr = true_range(high, low, bar.previous_close)
    bar.atr10 = rma_step(bar._atr10, bar.tr, 10)
    bar.atr14 = rma_step(bar._atr14, bar.tr, 14)
    bar.atr200 = rma_step(bar._atr200, bar.tr, 200)
    bar.ema200 = ema_step(bar._ema200, close, 200, False)
