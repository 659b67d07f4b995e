"""Rating of a confirmation signal, 1 to 4: by rule, or by a learned model.

The rule reads one thing: the signed distance of the close from the average of strong signals (EMA of
`overlays.strong_length`, 120 bars), in units that adapt to past signals; 3 and 4 are with the main trend, 1 and 2
against it (premium indicators 4.2). The learned rater reads ten features, each known when the bar closes and
independent of the price's scale. A logistic regression converts them into the probability that price moves one R with
the signal before one R against it. The quartile of the training probabilities into which it falls is the rating. The
model is a few numbers, trained by `bot/search/classifier.py` and passed in as a plain mapping. Features are signed by
the signal's direction, so that one model serves both sides.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bot.core.errors import ConfigError
from bot.core.jit import kernel, outlined_kernel
from bot.core.times import DAY_MS

ADAPTATION = 0.1  # EMA weight of a signal in the rule's threshold
UNDECIDED = 2.0  # rating of a signal in a market without a range
FORMAT = 1  # version of the model's mapping layout

# Inputs of the model, in order; "signed" means times +1 for a bullish, -1 for a bearish signal.
FEATURES: tuple[str, ...] = (
    "distance",  # close from EMA 200, in ATR 14, signed
    "volatility",  # log of ATR 14 against ATR 200
    "trend_strength",  # 0 to 1
    "trail_side",  # direction of the Smart Trail, signed: +1 agrees
    "trail_distance",  # close from the trail's line, in ATR 14, signed
    "momentum",  # RSI 14, -1 to +1, signed
    "cloud",  # lead of the Neo Cloud above its lag, in ATR 14, signed
    "catcher_distance",  # close from the Trend Catcher, in ATR 14, signed
    "hour_sine",  # open time of the bar on the 24 hours of UTC
    "hour_cosine",
)
COUNT = len(FEATURES)

RATER = np.dtype(
    [
        ("threshold", "f8"),
        ("z", "f8"),
        ("rating", "f8"),
        ("features", "f8", COUNT),  # of the last signal; NaN before the first and without a range
        ("probability", "f8"),  # of the learned model; NaN with the rule
    ]
)
RATING_PARAMS = np.dtype(
    [
        ("learned", "i8"),
        ("centre", "f8", COUNT),
        ("spread", "f8", COUNT),
        ("weight", "f8", COUNT),
        ("intercept", "f8"),
        ("quarters", "f8", 3),  # probabilities at which the ratings 2, 3 and 4 begin
    ]
)


def rater_reset(rater) -> None:
    """Reset a RATER record to its state before the first signal."""
    rater.threshold = math.nan
    rater.z = math.nan
    rater.rating = math.nan
    rater.features[:] = math.nan
    rater.probability = math.nan


@kernel
def rate(rater, direction: int, close: float, ema: float, atr: float) -> None:
    """Rate a signal 1 to 4 by its signed distance from the average in ATRs, against the mean distance of earlier signals.

    A distance of 0 is rated 3; without a range (ATR 0 or NaN) the rating is 2, `z` NaN, and the threshold is not
    updated. Source: premium indicators 4.2.

    Parameters
    ----------
    rater
        RATER record.
    direction
        +1 or -1, of the signal.
    close, ema, atr
        Close, average of strong signals and ATR 14, price units.
    """
    if not atr > 0.0:
        rater.z = math.nan
        rater.rating = UNDECIDED
        return
    z = direction * (close - ema) / atr
    threshold = abs(z) if math.isnan(rater.threshold) else rater.threshold
    if z == 0.0:
        rater.rating = 3.0
    elif z > 0.0:
        rater.rating = 4.0 if z >= threshold else 3.0
    else:
        rater.rating = 2.0 if z >= -threshold else 1.0
    rater.z = z
    rater.threshold = threshold + ADAPTATION * (abs(z) - threshold)


@outlined_kernel
def write_features(rater, direction: int, momentum: float, strength: float, trail, trends, bar) -> None:
    """Write FEATURES of a signal on this bar (float64, shape (10,)); all NaN while the market has no range.

    Dimensionless. Source: this project (`bot/search/classifier.py`).

    Parameters
    ----------
    rater
        RATER record.
    direction
        +1 or -1, of the signal.
    momentum
        RSI 14 of the close, 0 to 100.
    strength
        Trend strength, 0 to 100.
    trail, trends
        Records of the Smart Trail and of the four trends, already advanced to this bar.
    bar
        BAR record.
    """
    features = rater.features
    if not (bar.atr14 > 0.0 and bar.atr200 > 0.0):
        for i in range(COUNT):
            features[i] = math.nan
        return
    atr = bar.atr14
    angle = 2.0 * math.pi * (bar.open_ms % DAY_MS) / DAY_MS
    features[0] = direction * (bar.close - bar.ema200) / atr
    features[1] = math.log(atr / bar.atr200)
    features[2] = strength / 100.0
    features[3] = direction * trail.direction
    features[4] = direction * (bar.close - trail.line) / atr
    features[5] = direction * (momentum - 50.0) / 50.0
    features[6] = direction * (trends.cloud.lead - trends.cloud.lag) / atr
    features[7] = direction * (bar.close - trends.catcher.line) / atr
    features[8] = math.sin(angle)
    features[9] = math.cos(angle)


@kernel
def logistic(x: float) -> float:
    """Return 1/(1 + e^-x) (float64), evaluated so that the exponential cannot overflow; NaN for NaN.

    >>> logistic(0.0), logistic(-1000.0), logistic(1000.0)
    (0.5, 0.0, 1.0)
    """
    if x >= 0.0:
        return 1.0 / (1.0 + math.exp(-x))
    power = math.exp(x)
    return power / (1.0 + power)


@kernel
def probability(params, features) -> float:
    """Return the model's probability (float64, 0 to 1) of a signal with these features; NaN if one is not finite.

    `params`: RATING_PARAMS record; `features`: float64, shape (10,). Source: logistic regression.
    """
    score = params.intercept
    for i in range(COUNT):
        score += (features[i] - params.centre[i]) / params.spread[i] * params.weight[i]
    if not math.isfinite(score):
        return math.nan
    return logistic(score)


@outlined_kernel
def classify(rater, params) -> None:
    """Replace the rule's rating of a signal with that of the learned model.

    4 from the upper quartile of the training probabilities, 1 below the lower one; the rule's rating of a market
    without a range if the probability is NaN. `rater`, `params`: RATER and RATING_PARAMS records.
    """
    p = probability(params, rater.features)
    rater.probability = p
    if math.isnan(p):
        rater.rating = UNDECIDED
        return
    rating = 1.0
    for i in range(3):
        if p >= params.quarters[i]:
            rating += 1.0
    rater.rating = rating


def _numbers(model: Mapping[str, Any], name: str, count: int) -> np.ndarray:
    values = model.get(name)
    right = isinstance(values, Sequence) and len(values) == count
    if not right or not all(type(v) in (int, float) and math.isfinite(v) for v in values or ()):
        raise ConfigError(f"the model of the learned classifier is damaged: {name} must be {count} finite numbers")
    return np.array(values, dtype=np.float64)


def learned_params(numbers: Any, model: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Write a model into a RATING_PARAMS record.

    Parameters
    ----------
    numbers
        Record of RATING_PARAMS.
    model
        `format`, `features`, `settings`, `mean`, `scale`, `coefficients`, `intercept`, `thresholds`; other keys are
        ignored.
    settings
        Settings in force of Signals & Overlays, by name.

    Raises
    ------
    ConfigError
        The model is incomplete or invalid, reads other features, or was trained with other settings.
    """
    if model.get("format") != FORMAT or model.get("features") not in (FEATURES, list(FEATURES)):
        raise ConfigError("the model of the learned classifier reads other features than this version: train it again")
    trained = model.get("settings")
    for name, value in settings.items():
        known = trained.get(name) if isinstance(trained, Mapping) else None
        if known != value:
            raise ConfigError(
                f"overlays.{name} = {value!r}, but the model of the learned classifier was trained with {known!r}: "
                'set it back, train again, or use overlays.classifier = "spec"'
            )
    numbers.centre[:] = _numbers(model, "mean", COUNT)
    numbers.spread[:] = _numbers(model, "scale", COUNT)
    numbers.weight[:] = _numbers(model, "coefficients", COUNT)
    numbers.intercept = _numbers({"intercept": [model.get("intercept")]}, "intercept", 1)[0]
    numbers.quarters[:] = _numbers(model, "thresholds", 3)
    if not (numbers.spread > 0.0).all() or not 0.0 <= numbers.quarters[0] <= numbers.quarters[1] <= numbers.quarters[2]:
        raise ConfigError("the model of the learned classifier is damaged: scale must be above 0, thresholds must rise")
    numbers.learned = 1
