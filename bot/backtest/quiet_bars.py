"""Which bars of an open trade can be passed over: nothing that rests is reached, nothing is due, no indicator speaks.

The engine says what it listens to (`engine.stretch`), the broker what rests where; the search for the first bar that
touches any of it runs over arrays. What lies before that bar is handed to the engine as one stretch.
"""

from typing import Any, Final

import numpy as np

from bot.backtest.data import BASE_MS, LIGHT
from bot.core.jit import kernel
from bot.engine.quiet_bars import Watch
from bot.strategy.rules import choch_against, trend_agrees

_EVENT: Final = LIGHT.index("pac_event")
_DIRECTION: Final = LIGHT.index("pac_dir")
_BULL: Final = LIGHT.index("smc_int_bull_choch")
_BEAR: Final = LIGHT.index("smc_int_bear_choch")
_TRAIL: Final = LIGHT.index("sta_ts")
_TREND: Final = LIGHT.index("sta_os")


@kernel
def unreached(open_ms: Any, high: Any, low: Any, filled: Any, first: int, count: int, up: float, down: float) -> int:
    """Return how many of `count` bars from `first` on are there, traded, and stay below `up` and above `down`."""
    for k in range(count):
        i = first + k
        if i >= open_ms.shape[0] or open_ms[i] != open_ms[first] + k * BASE_MS or filled[i] != 0.0:
            return k
        if high[i] >= up or low[i] <= down:
            return k
    return count


@kernel
def unspoken(
    light: Any,
    close: Any,
    asks: Any,
    first: int,
    count: int,
    sign: int,
    with_trend: int,
    trailing: int,
    harmless: float,
    source: int,
) -> int:
    """Return on how many of `count` bars from `first` on no signal, no opposite CHoCH and no news of the trail comes.

    `harmless` is a level of SuperTrend AI that would not move the stop; levels farther from profit do not either. `source`
    is that of `rules.choch_against`.
    """
    for k in range(count):
        i = first + k
        if asks[i] or choch_against(
            sign, light[i, _EVENT], light[i, _DIRECTION], light[i, _BULL], light[i, _BEAR], source
        ):
            return k
        if not np.isfinite(light[i, _TRAIL]) or trend_agrees(sign, light[i, _TREND]) != (with_trend == 1):
            return k
        if trailing == 1:
            level = light[i, _TRAIL]
            if with_trend == 0 or not sign * (close[i] - level) > 0.0 or not sign * (level - harmless) <= 0.0:
                return k
    return count


def silent(watch: Watch, light: np.ndarray, close: np.ndarray, asks: np.ndarray, first: int, count: int) -> int:
    """Return on how many bars from `first` on the indicators of the traded symbol say nothing that the trade listens to."""
    harmless = 0.0
    if watch.trailing:
        harmless = light.item(first, _TRAIL)
        if not (np.isfinite(harmless) and harmless > 0.0) or watch.would_tighten(harmless):
            return 0
    return unspoken(
        light,
        close,
        asks,
        first,
        count,
        watch.sign,
        int(watch.with_trend),
        int(watch.trailing),
        harmless,
        watch.choch_source,
    )
