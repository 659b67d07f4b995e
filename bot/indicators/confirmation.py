"""Confirmation signals: a SuperTrend that follows the factor which has been paying lately, and how a signal is rated.

Five shadow SuperTrends run at half to one and a half of the base factor (a quarter of the sensitivity). Each is
scored by the moves it was on the right side of; the factor in force walks slowly towards the best of them. A flip of
the SuperTrend with that factor is a signal: strong when price stands on the same side of its 200-bar average, and a
normal one may turn strong later. Each signal is rated 1 to 4 (`rating.py`). Exits are momentum leaving an extreme on a
winning signal; the strategy ignores them (premium features 4.1).
"""

import math

import numpy as np

from bot.core.jit import apart, kernel
from bot.indicators.averages import RSI, rsi_step
from bot.indicators.rating import RATER, rate, rater_reset
from bot.indicators.window_sum import rsi_reset

SHADOWS = 5  # factors of 0.5, 0.75, 1, 1.25 and 1.5 times the base factor
BASE_FACTOR = 0.25  # base factor per unit of sensitivity
MEMORY = 2.0 / 101.0  # of a shadow's performance: an EMA of 100 bars
PACE = 0.05  # share of the way to the best factor that is walked on a bar
QUIET = 200  # no signals on so many first bars
EXIT_LENGTH = 14  # of the RSI behind the exits
EXIT_LEVEL = 20.0  # from 50: bullish exits leave 70, bearish ones 30

SUPERTREND = np.dtype(
    [
        ("upper", "f8"),  # bands that still hold the next ones back: infinite once a close is not inside
        ("lower", "f8"),
        ("line", "f8"),
        ("side", "i8"),  # 1 up, 0 down
    ]
)

CONFIRMATION = np.dtype(
    [
        ("bars", "i8"),
        ("shadows", SUPERTREND, SHADOWS),
        ("performance", "f8", SHADOWS),
        ("factor", "f8"),  # in force; NaN before the first range is known
        ("trend", SUPERTREND),
        ("rsi", RSI),
        ("strength", "f8"),  # RSI of this bar
        ("started", "i8"),  # 1 after the first flip that counts: the one that is not signalled
        ("state", "i8"),  # +1 bullish, -1 bearish, 0 none yet
        ("signal", "i8"),  # of this bar: +-1 normal, +-2 strong, 0 none
        ("age", "i8"),  # bars since the last signal, -1 before the first
        ("strong", "i8"),
        ("turn_strong", "i8"),  # event
        ("leave", "i8"),  # event: +1 bullish exit, -1 bearish exit
        ("entry_close", "f8"),
        ("rater", RATER),
    ]
)


def supertrend_reset(trend) -> None:
    trend.upper = math.inf
    trend.lower = -math.inf
    trend.line = math.nan
    trend.side = 0


@kernel
def supertrend_step(trend, middle: float, width: float, close: float) -> None:
    """Advance the bands by one bar; the side changes when the close is beyond the band of this bar.

    Whether a band holds is decided when its bar closes: asked a bar later it would be one condition with the comparison of
    the bands, and a branch that no processor foretells.
    """
    upper = min(middle + width, trend.upper)
    lower = max(middle - width, trend.lower)
    side = 1 if close > upper else 0 if close < lower else trend.side
    trend.upper = upper if close < upper else math.inf
    trend.lower = lower if close > lower else -math.inf
    trend.side = side
    trend.line = lower if side == 1 else upper


def confirmation_reset(conf) -> None:
    """Bring the signals back to where no bar has been seen."""
    conf.bars = 0
    for i in range(SHADOWS):
        supertrend_reset(conf.shadows[i])
        conf.performance[i] = 0.0
    conf.factor = math.nan
    supertrend_reset(conf.trend)
    rsi_reset(conf.rsi)
    conf.strength = math.nan
    conf.started = 0
    conf.state = 0
    conf.signal = 0
    conf.age = -1
    conf.strong = 0
    conf.turn_strong = 0
    conf.leave = 0
    conf.entry_close = math.nan
    rater_reset(conf.rater)


@kernel
def factor_step(conf, middle: float, atr: float, close: float, previous_close: float, factor: float) -> None:
    """Advance the shadows around `factor` by one bar and walk the factor in force towards the best of them."""
    known = not math.isnan(conf.factor)
    best = 0
    most = -math.inf
    for i in range(SHADOWS):
        shadow = conf.shadows[i]
        if known:
            move = close - previous_close if previous_close > shadow.line else previous_close - close
            performance = conf.performance[i] + MEMORY * (move - conf.performance[i])
            conf.performance[i] = performance
            if performance > most:
                most = performance
                best = i
        supertrend_step(shadow, middle, (0.5 + 0.25 * i) * factor * atr, close)
    if known:
        conf.factor += PACE * ((0.5 + 0.25 * best) * factor - conf.factor)
    else:
        conf.factor = factor


@apart
def flip(conf, direction: int, bar) -> None:
    """Take a flip of the trend: the first one sets the state only, the others are rated signals."""
    conf.state = direction
    conf.strong = 0
    if conf.started == 0:
        conf.started = 1
        return
    if direction * (bar.close - bar.ema200) > 0.0:
        conf.strong = 1
    conf.signal = direction * (1 + conf.strong)
    conf.age = 0
    conf.entry_close = bar.close
    rate(conf.rater, direction, bar.close, bar.ema200, bar.atr14)


@kernel
def after_signal(conf, bar, strength1: float) -> None:
    """Look at a bar after a signal: has it turned strong, has momentum left its extreme with a profit."""
    direction = conf.state
    conf.age += 1
    if conf.strong == 0 and direction * (bar.close - bar.ema200) > 0.0:
        conf.strong = 1
        conf.turn_strong = 1
    was = direction * (strength1 - 50.0)
    now = direction * (conf.strength - 50.0)
    if was >= EXIT_LEVEL and now < EXIT_LEVEL and direction * (bar.close - conf.entry_close) > 0.0:
        conf.leave = direction


@kernel
def confirmation_step(conf, sensitivity: float, bar) -> None:
    """Advance the signals by one closed bar; `sensitivity` as set, or by the autopilot."""
    conf.signal = 0
    conf.turn_strong = 0
    conf.leave = 0
    strength1 = conf.strength
    conf.strength = rsi_step(conf.rsi, bar.close, EXIT_LENGTH)
    conf.bars += 1
    if math.isnan(bar.atr10):
        return
    middle = (bar.high + bar.low) / 2.0
    known = not math.isnan(conf.factor)
    factor_step(conf, middle, bar.atr10, bar.close, bar.previous_close, BASE_FACTOR * sensitivity)
    side = conf.trend.side
    supertrend_step(conf.trend, middle, conf.factor * bar.atr10, bar.close)
    if known and conf.trend.side != side and conf.bars > QUIET:
        flip(conf, 1 if conf.trend.side == 1 else -1, bar)
    elif conf.age >= 0:
        after_signal(conf, bar, strength1)
