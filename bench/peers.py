"""Other packages on the same bars: TA-Lib, `ta` and `smartmoneyconcepts`, each by its documented public interface.

They do not compute the same: a single ATR is much less than a family, and `smartmoneyconcepts` finds pivots of one
length with look-ahead, whereas the families here compute several readings at once without look-ahead. The figures show
an order of magnitude, from one run.
"""

import os
from collections.abc import Callable

import pandas as pd

from bot.core.klines import Klines

ATR = "TA-Lib ATR"
LENGTH = 14
PIVOT_LENGTH = 5  # the internal pivots of Smart Money Concepts


def frame(bars: Klines) -> pd.DataFrame:
    """Return the bars as a DataFrame in the format of both pandas packages."""
    return pd.DataFrame({name: getattr(bars, name) for name in ("open", "high", "low", "close", "volume")})


def talib_atr(bars: Klines) -> Callable[[], object]:
    """Return a run of TA-Lib's ATR (C)."""
    import talib

    high, low, close = bars.high, bars.low, bars.close
    return lambda: talib.ATR(high, low, close, timeperiod=LENGTH)


def ta_runs(bars: Klines) -> dict[str, Callable[[], object]]:
    """Return runs of ATR, RSI and MFI from `ta` (pandas)."""
    from ta.momentum import RSIIndicator
    from ta.volatility import AverageTrueRange
    from ta.volume import MFIIndicator

    table = frame(bars)
    high, low, close, volume = table["high"], table["low"], table["close"], table["volume"]
    return {
        "ta ATR": lambda: AverageTrueRange(high, low, close, LENGTH).average_true_range(),
        "ta RSI": lambda: RSIIndicator(close, LENGTH).rsi(),
        "ta MFI": lambda: MFIIndicator(high, low, close, volume, LENGTH).money_flow_index(),
    }


def smc_runs(bars: Klines) -> dict[str, Callable[[], object]]:
    """Return runs of structure (pivots, BOS and CHoCH), order blocks and gaps from `smartmoneyconcepts` (pandas)."""
    os.environ.setdefault("SMC_CREDIT", "0")  # its documented switch: no greeting on standard output
    from smartmoneyconcepts.smc import smc

    table = frame(bars)
    pivots = smc.swing_highs_lows(table, swing_length=PIVOT_LENGTH)
    return {
        "smartmoneyconcepts structure": lambda: smc.bos_choch(
            table, smc.swing_highs_lows(table, swing_length=PIVOT_LENGTH)
        ),
        "smartmoneyconcepts blocks": lambda: smc.ob(table, pivots),
        "smartmoneyconcepts FVG": lambda: smc.fvg(table),
    }
