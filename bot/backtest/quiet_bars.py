"""Find bars of an open trade that can be skipped: no order level is reached, nothing is due, no indicator acts on it.

The engine states what its trade reacts to (`engine.quiet_bars`), the broker its order levels; kernels search arrays for
the first bar that touches any of them. All bars before that one are passed to the engine together.
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
    """Count leading bars that exist, traded, and stay below `up` and above `down`.

    Parameters
    ----------
    open_ms, high, low, filled
        Columns of the series.
    first, count
        Position of the first bar, and the number of bars to look at.
    up, down
        Nearest levels above and below the price; reaching one ends the count.
    """
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
    """Count leading bars without a signal, opposite CHoCH or trail change.

    Parameters
    ----------
    light
        Columns `LIGHT` of the traded symbol.
    close
        Close of each bar.
    asks
        Bars on which the engine has to decide.
    first, count
        Position of the first bar, and the number of bars to look at.
    sign
        +1 for a long trade, -1 for a short one.
    with_trend, trailing
        1 if the trade agrees with the trend of SuperTrend AI, and if its stop trails.
    harmless
        A level of SuperTrend AI that would not move the stop; levels farther from profit do not either.
    source
        As in `rules.choch_against`.
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
    """Count leading bars on which no indicator of the traded symbol gives anything that the trade reacts to.

    Parameters
    ----------
    watch
        What the trade reacts to.
    light, close, asks
        Columns `LIGHT`, closes, and the bars on which the engine has to decide.
    first, count
        Position of the first bar, and the number of bars to look at.
    """
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
