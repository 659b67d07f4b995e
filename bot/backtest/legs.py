"""The columns that rules read of a hedge leg: its ATR, its nearest blocks, its extremes.

A leg never gives signals, so of its five indicator families only Price Action Concepts is stepped, and of its two
intervals only the base one. The kernels are those of the full step; a test checks that the columns equal the full
step's, bit for bit.
"""

import itertools
import math
from typing import Any

import numpy as np

from bot.config import Config
from bot.core.jit import kernel, records
from bot.core.klines import Klines
from bot.indicators.volatility import BAR, bar_step
from bot.strategy.kernel import params as all_params
from bot.structure import pac

LEG_COLUMNS = ("atr14", "pac_supply_top", "pac_demand_bottom", "highest50", "lowest50")
_AT = {name: place for place, name in enumerate(LEG_COLUMNS)}
_SUPPLY = pac.COLUMNS.index("pac_supply_top")
_DEMAND = pac.COLUMNS.index("pac_demand_bottom")


@kernel
def leg_run(
    bars: Any,
    states: Any,
    settings: Any,
    lookback: int,
    open_ms: Any,
    open_: Any,
    high: Any,
    low: Any,
    close: Any,
    volume: Any,
    taker: Any,
    filled: Any,
    row: Any,
    result: Any,
) -> None:
    """Step one leg through bars without a long gap and write `LEG_COLUMNS`.

    Parameters
    ----------
    bars, states, settings
        Arrays of one `BAR`, `pac.STATE` and `pac.PARAMS`; the first two are updated in place.
    lookback
        Bars of the highest high and lowest low.
    open_ms, open_, high, low, close, volume, taker, filled
        Columns of the bars, shape (bars,).
    row
        Buffer of `pac.COLUMNS`.
    result
        Output, float64 (bars, 5).
    """
    bar, state, given = bars[0], states[0], settings[0]
    top_at, bottom_at = 0, 0
    for i in range(open_ms.shape[0]):
        bar_step(bar, open_ms[i], open_[i], high[i], low[i], close[i], volume[i], taker[i], filled[i])
        pac.pac_step(state, given, bar, row)
        first = max(0, i - lookback + 1)
        if high[i] >= high[top_at]:
            top_at = i
        elif top_at < first:
            top_at = first
            for j in range(first + 1, i + 1):
                if high[j] >= high[top_at]:
                    top_at = j
        if low[i] <= low[bottom_at]:
            bottom_at = i
        elif bottom_at < first:
            bottom_at = first
            for j in range(first + 1, i + 1):
                if low[j] <= low[bottom_at]:
                    bottom_at = j
        out = result[i]
        out[0] = bar.atr14
        out[1] = row[_SUPPLY]
        out[2] = row[_DEMAND]
        if i + 1 < lookback:
            out[3] = math.nan
            out[4] = math.nan
        else:
            out[3] = high[top_at]
            out[4] = low[bottom_at]


def leg_columns(bars: Klines, config: Config, *, resets: list[int]) -> np.ndarray:
    """Return `LEG_COLUMNS` of every bar, shape (bars, 5); `resets` are the bars after long gaps."""
    params = records(pac.PARAMS, 1)
    params[0] = all_params(config, base_ms=bars.interval_ms)["pac"]
    filled = bars.filled.astype(np.int64)
    result = np.empty((len(bars), len(LEG_COLUMNS)))
    row = np.empty(len(pac.COLUMNS))
    names = ("open_ms", "open", "high", "low", "close", "volume", "taker_buy_volume")
    columns = [getattr(bars, name) for name in names]
    run: Any = leg_run  # a type checker cannot count unpacked arguments
    edges = [0, *(i for i in resets if i > 0), len(bars)]
    for start, stop in itertools.pairwise(edges):
        inputs: Any = [column[start:stop] for column in columns]
        states = records(pac.STATE, 1)
        pac.pac_reset(states[0], params[0])
        run(
            records(BAR, 1),
            states,
            params,
            config.hedge.stop_lookback,
            *inputs,
            filled[start:stop],
            row,
            result[start:stop],
        )
    return result


class LegRow:
    """One bar of a leg: values by name, read from the table on access, which is rare."""

    __slots__ = ("place", "table")

    def __init__(self, table: np.ndarray, place: int) -> None:
        self.table, self.place = table, place

    def __getitem__(self, name: str) -> float:
        """Return a column's value; KeyError if there is none of that name."""
        return float(self.table[self.place, _AT[name]])
