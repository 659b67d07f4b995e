"""Signals & Overlays: confirmation signals with their rating, Smart Trail, and four trend indicators.

This family provides the strategy's `conf` (the last signal is a state, its rating a gate) and `trail`; the trends are
optional gates. During warm-up values are NaN, flags and directions 0. On a filled bar (inserted for a missing one) the
state advances, but no event is flagged (premium indicators 4).
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from bot.config import Overlays
from bot.core.errors import ConfigError
from bot.core.jit import kernel, outlined_kernel, record
from bot.indicators.autopilot import CYCLE, autopilot, cycle_reset, cycle_step
from bot.indicators.confirmation import CONFIRMATION, CONFIRMATION_PARAMS, QUIET, confirmation_reset, confirmation_step
from bot.indicators.rating import RATING_PARAMS, classify, learned_params, write_features
from bot.indicators.smart_trail import QUIET as TRAIL_QUIET
from bot.indicators.smart_trail import TRAIL, trail_reset, trail_step
from bot.indicators.trends import (
    CLOUD_QUIET,
    TRACER_QUIET,
    TRENDS,
    TRENDS_PARAMS,
    catcher_step,
    cloud_step,
    strength_step,
    tracer_step,
    trends_reset,
)

TERMS = {"off": 0.0, "short": 0.5, "mid": 1.0, "long": 2.0}  # sensitivity as a multiple of the dominant cycle

STATE = np.dtype([("confirmation", CONFIRMATION), ("cycle", CYCLE), ("trail", TRAIL), ("trends", TRENDS)])
PARAMS = np.dtype(
    [
        ("sensitivity", "f8"),
        ("term", "f8"),  # 0: autopilot off
        ("trail_factor", "f8"),
        ("confirmation", CONFIRMATION_PARAMS),
        ("trends", TRENDS_PARAMS),
        ("rating", RATING_PARAMS),
    ]
)
COLUMNS: tuple[str, ...] = (
    "so_state",
    "so_signal",
    "so_rating",
    "so_exit",
    "so_trail",
    "so_trail_extremity",
    "so_trail_dir",
    "so_trend_tracer",
    "so_tracer_dir",
    "so_trend_catcher",
    "so_catcher_dir",
    "so_neo_lead",
    "so_neo_lag",
    "so_trend_strength",
    "so_age",
    "so_strong",
    "so_turn_strong",
    "so_factor",
    "so_trail_switch",
    "so_trail_in_area",
    "so_z",
    "so_sensitivity",
    "so_probability",
)


def params(overlays: Overlays, model: Mapping[str, Any] | None = None) -> Any:
    """Return the PARAMS record that `so_step` reads, from the configuration section.

    Parameters
    ----------
    model
        Coefficients of the learned classifier (`rating.learned_params`); needed when `classifier` is "learned", else
        ignored.

    Raises
    ------
    ConfigError
        The learned classifier has no model, or an incompatible one.
    """
    numbers = record(PARAMS)
    if overlays.classifier == "learned":
        if model is None:
            raise ConfigError(
                'overlays.classifier = "learned" needs a model and none was given: use "spec", or train one'
            )
        learned_params(numbers.rating, model, overlays.model_dump(exclude={"classifier"}))
    numbers.sensitivity = overlays.sensitivity
    numbers.term = TERMS[overlays.autopilot]
    numbers.trail_factor = overlays.smart_trail + 1.0
    confirmation = numbers.confirmation
    confirmation.least = overlays.confirmation_least
    confirmation.pace = overlays.confirmation_pace
    confirmation.turn = overlays.confirmation_crossed == "turn"
    confirmation.strong_length = overlays.strong_length
    confirmation.repeated = overlays.confirmation_repeat == "turned"
    confirmation.entering = overlays.exit_rule == "entering"
    confirmation.exit_length = overlays.exit_length
    confirmation.exit_level = overlays.exit_level
    trends = numbers.trends
    trends.tracer_factor = overlays.tracer_factor * overlays.trend_tracer / 3.0
    trends.catcher_length = overlays.catcher_length + 5 * (overlays.trend_catcher - 3)
    trends.catcher_squared = overlays.catcher_pace == "squared"
    trends.catcher_fast = 2.0 / (overlays.catcher_fast + 1.0)
    trends.catcher_slow = 2.0 / (overlays.catcher_slow + 1.0)
    trends.catcher_band = overlays.catcher_band
    stretch = overlays.cloud_stretch
    trends.cloud_first = max(2, round(stretch * 6 * overlays.neo_cloud / 3))
    trends.cloud_second = max(2, round(stretch * 5 * overlays.neo_cloud / 3))
    trends.cloud_slow = max(2, round(stretch * 26 * overlays.neo_cloud / 3))
    trends.cloud_width = overlays.cloud_width
    trends.cloud_quiet = round(CLOUD_QUIET * stretch)
    return numbers


def so_reset(state, params) -> None:
    """Reset a STATE record to its state before the first bar."""
    confirmation_reset(state.confirmation)
    cycle_reset(state.cycle)
    trail_reset(state.trail)
    trends_reset(state.trends)


@kernel
def write_confirmation(conf, filled: int, out) -> None:
    """Write the columns of the confirmation signals into `out` (float64, COLUMNS); no events on a filled bar.

    `conf`: CONFIRMATION record; age (bars) is NaN before the first signal, the factor during warm-up. Source: premium
    indicators 4.1.
    """
    event = 0.0 if filled == 1 else 1.0
    out[0] = conf.state
    out[1] = conf.signal * event
    out[2] = conf.rater.rating
    out[3] = conf.leave * event
    out[14] = math.nan if conf.age < 0 else conf.age
    out[15] = conf.strong
    out[16] = conf.turn_strong * event
    out[17] = math.nan if conf.bars <= QUIET else conf.factor
    out[20] = conf.rater.z
    out[22] = conf.rater.probability


@kernel
def write_trail(trail, filled: int, close: float, out) -> None:
    """Write the columns of the Smart Trail; NaN and 0 during warm-up. Source: premium indicators 4.4.

    Parameters
    ----------
    trail
        TRAIL record.
    filled
        1 on a filled bar, which flags no event.
    close
        Close of the bar.
    out
        Row of COLUMNS, float64, shape (23,).
    """
    if trail.bars <= TRAIL_QUIET:
        out[4] = math.nan
        out[5] = math.nan
        out[6] = 0.0
        out[18] = 0.0
        out[19] = 0.0
        return
    bottom = min(trail.line, trail.extremity)
    top = max(trail.line, trail.extremity)
    out[4] = trail.line
    out[5] = trail.extremity
    out[6] = trail.direction
    out[18] = 0.0 if filled == 1 else trail.turned
    out[19] = 1.0 if filled == 0 and bottom <= close <= top else 0.0


@kernel
def write_trends(trends, params, out) -> None:
    """Write lines (price units) and directions (-1, 0, +1) of Tracer, Catcher and Cloud into `out` (float64, COLUMNS).

    `trends`, `params`: TRENDS and TRENDS_PARAMS records; NaN and 0 during warm-up. Source: premium indicators 4.5 to
    4.7.
    """
    tracer, catcher, cloud = trends.tracer, trends.catcher, trends.cloud
    early = tracer.bars <= TRACER_QUIET
    out[7] = math.nan if early else tracer.line
    out[8] = 0.0 if early else tracer.direction
    out[9] = catcher.line
    out[10] = catcher.direction
    early = cloud.bars <= params.cloud_quiet
    out[11] = math.nan if early else cloud.lead
    out[12] = math.nan if early else cloud.lag


@outlined_kernel
def so_step(state, params, bar, out) -> None:
    """Advance the family by one closed bar; lines are in price units, NaN during warm-up.

    Source: premium indicators 4.

    Parameters
    ----------
    state, params, bar
        STATE, PARAMS and BAR records.
    out
        Row of COLUMNS, float64, shape (23,).
    """
    sensitivity = params.sensitivity
    if params.term > 0.0:
        cycle_step(state.cycle, bar.high, bar.low)
        sensitivity = autopilot(state.cycle, params.term, sensitivity)
    confirmation_step(state.confirmation, params.confirmation, sensitivity, bar)
    trail_step(state.trail, params.trail_factor, bar)
    trends = state.trends
    tracer_step(trends.tracer, params.trends.tracer_factor, bar)
    catcher_step(trends.catcher, params.trends, bar)
    cloud_step(trends.cloud, params.trends, bar)
    out[13] = strength_step(trends.strength, bar)
    out[21] = sensitivity
    conf = state.confirmation
    if conf.signal != 0:
        write_features(conf.rater, conf.state, conf.strength, out[13], state.trail, trends, bar)
        if params.rating.learned == 1:
            classify(conf.rater, params.rating)
    write_confirmation(conf, bar.filled, out)
    write_trail(state.trail, bar.filled, bar.close, out)
    write_trends(trends, params.trends, out)
