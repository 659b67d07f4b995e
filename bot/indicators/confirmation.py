"""Confirmation signals: an adaptive SuperTrend whose factor follows the recent best performer, and the rated signals.

Five shadow SuperTrends run at factors a quarter of the base factor apart (the base factor is a quarter of the
sensitivity). Each is scored by the moves on whose right side it was; the factor in force moves slowly towards the best.
A flip of the SuperTrend with that factor is a signal: strong when the close is on the same side of a long average; a
normal one may turn strong later. Each signal is rated 1 to 4 (`rating.py`). Exits are momentum entering or leaving an
extreme on a winning signal; the strategy ignores them (premium indicators 4.1).

The smallest factor, the pace of the adaptation, the average, the exit rule and whether a signal that turns strong is
signalled again are settings, because real alerts contradict the first choice of them (`docs/indicators.md`).
"""

import math

import numpy as np

from bot.core.jit import kernel, outlined_kernel
from bot.indicators.averages import EMA, RSI, ema_step, rsi_step
from bot.indicators.rating import RATER, rate, rater_reset
from bot.indicators.window_sum import ema_reset, rsi_reset

SHADOWS = 5
SPREAD = 0.25  # step between the shadows' factors, times the base factor
BASE_FACTOR = 0.25  # base factor per unit of sensitivity
MEMORY = 2.0 / 101.0  # EMA weight of a shadow's performance: 100 bars
QUIET = 200  # warm-up bars without signals
MOMENTUM_LENGTH = 14  # of the RSI, which the rating reads too
CONTEXT_LENGTH = 200  # of the average in the bar context

SUPERTREND = np.dtype(
    [
        ("upper", "f8"),  # bands that still limit the next ones; infinite once a close is outside
        ("lower", "f8"),
        ("line", "f8"),
        ("side", "i8"),  # 1 up, 0 down
    ]
)

CONFIRMATION_PARAMS = np.dtype(
    [
        ("least", "f8"),  # smallest factor of the shadows, times the base factor
        ("pace", "f8"),  # share of the distance to the best factor moved per bar
        ("turn", "i8"),  # a close beyond both bands: 1 turns the side, 0 sets it to up
        ("strong_length", "i8"),  # of the average that separates strong from normal signals, bars
        ("repeated", "i8"),  # 1: a normal signal that turns strong is signalled again, as a strong one
        ("entering", "i8"),  # exits: 1 momentum enters the extreme, 0 leaves it
        ("exit_length", "i8"),  # of the RSI behind the exits, bars
        ("exit_level", "f8"),  # from 50: with 20 the extremes are 70 and 30
    ]
)

CONFIRMATION = np.dtype(
    [
        ("bars", "i8"),
        ("shadows", SUPERTREND, SHADOWS),
        ("performance", "f8", SHADOWS),
        ("factor", "f8"),  # in force; NaN before the first ATR
        ("trend", SUPERTREND),
        ("slow", EMA),  # of the close; stepped only if not in the bar context
        ("average", "f8"),  # of this bar: the side of the main trend
        ("rsi", RSI),  # RSI 14
        ("strength", "f8"),  # RSI 14 of this bar
        ("exit_rsi", RSI),  # of another length; stepped only when configured
        ("momentum", "f8"),  # of this bar, read by the exits
        ("started", "i8"),  # 1 after the first valid flip, which is not signalled
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
def supertrend_step(trend, middle: float, width: float, close: float, turn: int) -> None:
    """Advance the bands by one bar; the side changes when the close is beyond the band of this bar.

    Narrow bands may be crossed, the retained lower one above the upper one, with the close beyond both. Then the side
    turns (`turn` 1: Pine's `ta.supertrend` tests only the opposite band) or is up (`turn` 0), even in a mirrored
    market.

    Whether a band is retained is decided when its bar closes: tested a bar later it would be one condition with the
    comparison of the bands, an unpredictable branch. Source: premium indicators 4.1, Pine `ta.supertrend`.

    Parameters
    ----------
    trend
        SUPERTREND record.
    middle, width, close
        (H+L)/2, distance of the bands and close; price units, not NaN.
    turn
        1 or 0, see above.
    """
    upper = min(middle + width, trend.upper)
    lower = max(middle - width, trend.lower)
    side = 1 if close > upper else 0 if close < lower else trend.side
    if turn == 1 and upper < close < lower:
        side = 1 - trend.side
    trend.upper = upper if close < upper else math.inf
    trend.lower = lower if close > lower else -math.inf
    trend.side = side
    trend.line = lower if side == 1 else upper


def confirmation_reset(conf) -> None:
    """Reset a CONFIRMATION record to its state before the first bar."""
    conf.bars = 0
    for i in range(SHADOWS):
        supertrend_reset(conf.shadows[i])
        conf.performance[i] = 0.0
    conf.factor = math.nan
    supertrend_reset(conf.trend)
    ema_reset(conf.slow)
    conf.average = math.nan
    rsi_reset(conf.rsi)
    conf.strength = math.nan
    rsi_reset(conf.exit_rsi)
    conf.momentum = math.nan
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
def factor_step(conf, params, middle: float, atr: float, close: float, previous_close: float, factor: float) -> None:
    """Advance the shadows around `factor` by one bar and move the factor in force towards the best one.

    Factors are float64 multiples of the ATR; performances are in price units. `conf.factor` is NaN before the first
    call, which sets it to `factor`. Source: premium indicators 4.1.

    Parameters
    ----------
    conf, params
        CONFIRMATION and CONFIRMATION_PARAMS records.
    middle, atr, close, previous_close
        (H+L)/2, ATR 10 and closes, price units; none is NaN.
    factor
        Base factor, multiple of the ATR.
    """
    least = params.least
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
        supertrend_step(shadow, middle, (least + SPREAD * i) * factor * atr, close, params.turn)
    if known:
        conf.factor += params.pace * ((least + SPREAD * best) * factor - conf.factor)
    else:
        conf.factor = factor


@kernel
def stands_with(conf, bar) -> bool:
    """Return whether the close is on the state's side of the average, i.e. the main trend agrees; false if NaN.

    `conf`, `bar`: CONFIRMATION and BAR records. Source: premium indicators 4.1.
    """
    return conf.state * (bar.close - conf.average) > 0.0


@kernel
def signal_now(conf, bar) -> None:
    """Make this bar a signal of the state: reset age and entry price, and rate it.

    `conf`, `bar`: CONFIRMATION and BAR records. Source: premium indicators 4.1.
    """
    conf.signal = conf.state * (1 + conf.strong)
    conf.age = 0
    conf.entry_close = bar.close
    rate(conf.rater, conf.state, bar.close, conf.average, bar.atr14)


@outlined_kernel
def flip(conf, direction: int, bar) -> None:
    """Handle a flip of the trend to `direction` (+1, -1): the first sets the state only, later ones are rated signals.

    `conf`, `bar`: CONFIRMATION and BAR records. Source: premium indicators 4.1.
    """
    conf.state = direction
    conf.strong = 0
    if conf.started == 0:
        conf.started = 1
        return
    conf.strong = 1 if stands_with(conf, bar) else 0
    signal_now(conf, bar)


@outlined_kernel
def turn_strong(conf, params, bar) -> None:
    """Mark a normal signal as turned strong; signal it again if `params.repeated` is 1.

    `conf`, `params`, `bar`: CONFIRMATION, CONFIRMATION_PARAMS and BAR records. Source: premium indicators 4.1.
    """
    conf.strong = 1
    conf.turn_strong = 1
    if params.repeated == 1:
        signal_now(conf, bar)


@kernel
def after_signal(conf, params, bar, momentum1: float) -> None:
    """Handle a bar after a signal: an exit when momentum enters or leaves its extreme in profit, and a turn to strong.

    An exit belongs to the signal before this bar and is tested first. Source: premium indicators 4.1.

    Parameters
    ----------
    conf, params, bar
        CONFIRMATION, CONFIRMATION_PARAMS and BAR records.
    momentum1
        Momentum of the previous bar, 0 to 100; NaN gives no exit.
    """
    direction = conf.state
    conf.age += 1
    before = direction * (momentum1 - 50.0) >= params.exit_level
    now = direction * (conf.momentum - 50.0) >= params.exit_level
    # NaN momentum is in no extreme, and the first valid bar does not enter one
    crossed = (now and not before) if params.entering == 1 else (before and not now)
    if crossed and direction * (bar.close - conf.entry_close) > 0.0 and not math.isnan(momentum1):
        conf.leave = direction
    if conf.strong == 0 and stands_with(conf, bar):
        turn_strong(conf, params, bar)


@kernel
def lines_step(conf, params, bar) -> None:
    """Advance the average behind strong signals (price units) and the momentum behind exits (RSI, 0 to 100).

    With lengths 200 and 14 both are already in the bar context or the state and are taken from there, so they are
    computed once. `conf`, `params`, `bar`: CONFIRMATION, CONFIRMATION_PARAMS and BAR records; NaN rules of `ema_step`
    and `rsi_step`.
    """
    conf.strength = rsi_step(conf.rsi, bar.close, MOMENTUM_LENGTH)
    conf.momentum = conf.strength
    if params.exit_length != MOMENTUM_LENGTH:
        conf.momentum = rsi_step(conf.exit_rsi, bar.close, params.exit_length)
    conf.average = bar.ema200
    if params.strong_length != CONTEXT_LENGTH:
        conf.average = ema_step(conf.slow, bar.close, params.strong_length, False)


@kernel
def confirmation_step(conf, params, sensitivity: float, bar) -> None:
    """Advance the signals by one closed bar; none while ATR 10 is NaN, nor on the first QUIET bars.

    Source: premium indicators 4.1.

    Parameters
    ----------
    conf, params, bar
        CONFIRMATION, CONFIRMATION_PARAMS and BAR records.
    sensitivity
        As set, or from the autopilot.
    """
    conf.signal = 0
    conf.turn_strong = 0
    conf.leave = 0
    momentum1 = conf.momentum
    lines_step(conf, params, bar)
    conf.bars += 1
    if math.isnan(bar.atr10):
        return
    middle = (bar.high + bar.low) / 2.0
    known = not math.isnan(conf.factor)
    factor_step(conf, params, middle, bar.atr10, bar.close, bar.previous_close, BASE_FACTOR * sensitivity)
    side = conf.trend.side
    supertrend_step(conf.trend, middle, conf.factor * bar.atr10, bar.close, params.turn)
    if known and conf.trend.side != side and conf.bars > QUIET:
        flip(conf, 1 if conf.trend.side == 1 else -1, bar)
    elif conf.age >= 0:
        after_signal(conf, params, bar, momentum1)
