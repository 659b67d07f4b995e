"""The learned classifier of confirmation signals: training data, evaluation and storage.

The label of a confirmation signal: does price move one R with the signal before it moves one R against it? R is 1.2 ATR 14
of the signal's bar, about the stop distance of a plan (half a block's height and 0.6 ATR). Entry is the signal's close. A
bar that touches both levels counts as lost, because the order is unknown; a signal that touches neither within 60 bars is
excluded, and the share of those is reported. A logistic regression on ten standardised features (`indicators/rating.py`)
gives the probability; the quartiles of its training probabilities give the rating.

The last fifth of the signals is a holdout. Before it, and between the folds of the cross-validation, enough signals are
skipped that no training label overlaps the test period. The results are stored next to the coefficients, good or bad
(`models.print_report` shows them). Training needs scikit-learn; using the model does not.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bot.backtest.models import MODEL
from bot.config import Overlays
from bot.core.errors import ConfigError, DataMissing
from bot.core.jit import kernel, record
from bot.core.klines import Klines, fill_gaps
from bot.core.times import DAY_MS
from bot.indicators import overlays, rating
from bot.indicators.volatility import BAR, bar_step
from bot.market import store

REACH_ATR = 1.2  # R, in ATR 14 of the signal's bar
HORIZON = 60  # bars within which a signal has to be decided
HOLDOUT = 0.2  # share of the signals, the last ones, that is never used for training
SPLITS = 5
REGULARISATION = 0.1  # C of the logistic regression: fixed in advance, not tuned
BINS = 10
RESAMPLES = 2_000
FEWEST = 500  # minimum number of decided signals

WON, LOST, OPEN = 1, -1, 0
FAMILY = np.dtype([("bar", BAR), ("so", overlays.STATE)])
_SIGNAL = overlays.COLUMNS.index("so_signal")
_RATING = overlays.COLUMNS.index("so_rating")


@dataclass(frozen=True)
class Samples:
    """Confirmation signals of one history, oldest first.

    Attributes
    ----------
    open_ms : ndarray(int64, ndim=1)
        Open of the signal's bar.
    at : ndarray(int64, ndim=1)
        Position of that bar.
    direction, rule_rating, outcome : ndarray(float64, ndim=1)
        +1 or -1; 1 to 4 by the rule; WON, LOST or OPEN.
    features : ndarray(float64, ndim=2)
        One row of `rating.FEATURES` per signal.
    """

    open_ms: np.ndarray
    at: np.ndarray
    direction: np.ndarray
    rule_rating: np.ndarray
    outcome: np.ndarray
    features: np.ndarray

    def __len__(self) -> int:
        """Return the number of signals."""
        return len(self.at)

    def take(self, which: Any) -> "Samples":
        """Return a subset of the signals, by index, mask or slice."""
        return Samples(*(getattr(self, name)[which] for name in self.__dataclass_fields__))


@kernel
def collect(
    family: Any,
    params: Any,
    open_ms: np.ndarray,
    open_: np.ndarray,
    high: np.ndarray,
    low: np.ndarray,
    close: np.ndarray,
    volume: np.ndarray,
    filled: np.ndarray,
    row: np.ndarray,
    signals: np.ndarray,
    features: np.ndarray,
) -> None:
    """Step Signals & Overlays over bars and write signal, rating, ATR 14 and features of each bar with a signal.

    Parameters
    ----------
    family
        A `FAMILY` record, reset before; updated in place.
    params
        Parameters of Signals & Overlays.
    open_ms, open_, high, low, close, volume, filled
        Columns of the bars, shape (bars,).
    row
        Buffer of `overlays.COLUMNS`.
    signals
        Output (bars, 3): signal, rating, ATR 14; 0 without a signal.
    features
        Output (bars, features); unchanged without a signal.
    """
    bar, so = family.bar, family.so
    for i in range(len(open_ms)):
        bar_step(bar, open_ms[i], open_[i], high[i], low[i], close[i], volume[i], 0.0, filled[i])
        overlays.so_step(so, params, bar, row)
        signals[i, 0] = row[_SIGNAL]
        if row[_SIGNAL] != 0.0:
            signals[i, 1] = row[_RATING]
            signals[i, 2] = bar.atr14
            for j in range(rating.COUNT):
                features[i, j] = so.confirmation.rater.features[j]


@kernel
def decide(
    high: np.ndarray, low: np.ndarray, close: np.ndarray, at: int, direction: float, reach: float, horizon: int
) -> float:
    """Return WON or LOST, whichever level is touched first after bar `at`, LOST for both on one bar, OPEN for none.

    Parameters
    ----------
    high, low, close
        Columns of the bars.
    at
        Position of the signal's bar; entry is its close.
    direction
        +1 for long, -1 for short.
    reach
        Distance of both levels from the entry, in price.
    horizon
        Number of bars after which the signal stays OPEN.
    """
    won = close[at] + direction * reach
    lost = close[at] - direction * reach
    for i in range(at + 1, min(at + horizon + 1, len(close))):
        if direction > 0.0:
            if low[i] <= lost:
                return -1.0
            if high[i] >= won:
                return 1.0
        else:
            if high[i] >= lost:
                return -1.0
            if low[i] <= won:
                return 1.0
    return 0.0


def samples(bars: Klines, section: Overlays, *, reach_atr: float = REACH_ATR, horizon: int = HORIZON) -> Samples:
    """Return all confirmation signals of the bars with features and outcome; a long gap resets the indicators.

    Parameters
    ----------
    section
        Settings of Signals & Overlays; the classifier itself is ignored.
    reach_atr
        R in ATR 14 of the signal's bar.
    horizon
        Bars within which a signal has to be decided.
    """
    filled, resets = fill_gaps(bars)
    params = overlays.params(section.model_copy(update={"classifier": "spec"}))
    parts = []
    for first, stop in zip([0, *resets], [*resets, len(filled)], strict=True):
        part = filled.part(first, stop)
        signals, features = np.zeros((len(part), 3)), np.full((len(part), rating.COUNT), np.nan)
        prices = (part.open, part.high, part.low, part.close, part.volume, part.filled.astype(np.int64))
        row = np.empty(len(overlays.COLUMNS))
        family = record(FAMILY)
        overlays.so_reset(family.so, params)
        collect(family, params, part.open_ms, *prices, row, signals, features)
        at = np.flatnonzero((signals[:, 0] != 0.0) & np.isfinite(features).all(axis=1))
        direction = np.sign(signals[at, 0])
        reach = reach_atr * signals[at, 2]
        outcome = [
            decide(part.high, part.low, part.close, *one, horizon)
            for one in zip(at.tolist(), direction.tolist(), reach.tolist(), strict=True)
        ]
        parts.append((part.open_ms[at], at + first, direction, signals[at, 1], np.array(outcome), features[at]))
    return Samples(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def gap_of(at: np.ndarray, horizon: int) -> int:
    """Return how many signals to skip so that no label overlaps: the maximum number within one horizon.

    >>> gap_of(np.array([0, 10, 50, 61, 500]), 60)
    2
    """
    reached = np.searchsorted(at, at + horizon, side="right") - 1
    return int((reached - np.arange(len(at))).max())


def curve(probability: np.ndarray, won: np.ndarray, bins: int = BINS) -> list[dict[str, float]]:
    """Return the calibration curve: bins of equal count by probability, with predicted probability and share won."""
    order = np.argsort(probability, kind="stable")
    rows = []
    for part in np.array_split(order, bins):
        p = probability[part]
        ends = {"from": float(p[0]), "to": float(p[-1]), "count": len(part)}
        rows.append(ends | {"predicted": float(p.mean()), "reached": float(won[part].mean())})
    return rows


def shares(ratings: np.ndarray, won: np.ndarray) -> dict[str, dict[str, float | None]]:
    """Return count and share won of each rating; the share is None for a rating that did not occur."""
    found = {}
    for value in (1, 2, 3, 4):
        these = won[ratings == value]
        found[str(value)] = {"count": len(these), "reached": float(these.mean()) if len(these) else None}
    return found


def quarter(probability: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return the rating of each probability, 1 to 4, by quartile `thresholds`."""
    return 1 + np.searchsorted(thresholds, probability, side="right")


def _judge(probability: np.ndarray, part: Samples, base: float, seed: int) -> dict[str, Any]:
    """Return Brier score and AUC with 95 % intervals from resampled days, because signals of a day are correlated."""
    from sklearn.metrics import brier_score_loss, roc_auc_score

    won = part.outcome == WON
    gain = (base - won) ** 2 - (probability - won) ** 2  # improvement of the Brier score, per signal
    days = part.open_ms // DAY_MS
    members = [np.flatnonzero(days == day) for day in np.unique(days)]
    rng = np.random.default_rng(seed)
    drawn = np.empty((RESAMPLES, 2))
    for i in range(RESAMPLES):
        which = np.concatenate([members[j] for j in rng.integers(0, len(members), len(members))])
        drawn[i] = roc_auc_score(won[which], probability[which]), gain[which].mean()
    low, high = np.percentile(drawn, (2.5, 97.5), axis=0)
    return {
        "signals": len(part),
        "base_rate": float(won.mean()),
        "auc": float(roc_auc_score(won, probability)),
        "auc_interval": [float(low[0]), float(high[0])],
        "brier": float(brier_score_loss(won, probability)),
        "brier_of_base_rate": float(np.mean((base - won) ** 2)),
        "brier_gain_interval": [float(low[1]), float(high[1])],
        "better_than_base_rate": bool(low[0] > 0.5 and low[1] > 0.0),
    }


def _span(part: Samples) -> dict[str, Any]:
    first, last = int(part.open_ms[0]), int(part.open_ms[-1])
    return {"from": store.format_time(first), "to": store.format_time(last), "signals": len(part)}


def _digest(bars: Klines) -> str:
    columns = (bars.open_ms, bars.open, bars.high, bars.low, bars.close)
    return hashlib.sha256(b"".join(np.ascontiguousarray(column).tobytes() for column in columns)).hexdigest()


def _fitted(part: Samples) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    regression = LogisticRegression(C=REGULARISATION, tol=1e-8, max_iter=1_000)
    return make_pipeline(StandardScaler(), regression).fit(part.features, part.outcome == WON)


def fit(found: Samples, *, horizon: int = HORIZON, seed: int = 7) -> tuple[Any, dict[str, Any]]:
    """Fit the regression to the first four fifths of the signals and evaluate it on the holdout.

    Returns
    -------
    Pipeline
        Scaler and regression of scikit-learn.
    dict
        The model as plain numbers, with its cross-validation and its holdout results.

    Raises
    ------
    DataMissing
        Fewer than 500 signals are decided.
    """
    from sklearn.metrics import brier_score_loss, roc_auc_score
    from sklearn.model_selection import TimeSeriesSplit

    decided = found.take(found.outcome != OPEN)
    if len(decided) < FEWEST:
        raise DataMissing(f"{len(decided)} decided signals are too few to learn from: {FEWEST} are needed")
    gap = gap_of(decided.at, horizon)
    cut = int(len(decided) * (1.0 - HOLDOUT))
    training, unseen = decided.take(slice(0, cut - gap)), decided.take(slice(cut, None))
    folds = []
    for one, other in TimeSeriesSplit(SPLITS, gap=gap).split(training.features):
        tested = training.take(other)
        p, won = _fitted(training.take(one)).predict_proba(tested.features)[:, 1], tested.outcome == WON
        scores = {"auc": float(roc_auc_score(won, p)), "brier": float(brier_score_loss(won, p))}
        folds.append(_span(tested) | {"base_rate": float(won.mean())} | scores)
    pipeline = _fitted(training)
    scaler, regression = pipeline[0], pipeline[1]
    thresholds = np.percentile(pipeline.predict_proba(training.features)[:, 1], (25, 50, 75))
    p, won = pipeline.predict_proba(unseen.features)[:, 1], unseen.outcome == WON
    base = float((training.outcome == WON).mean())
    return pipeline, {
        "format": rating.FORMAT,
        "features": list(rating.FEATURES),
        "mean": scaler.mean_.tolist(),
        "scale": scaler.scale_.tolist(),
        "coefficients": regression.coef_[0].tolist(),
        "intercept": float(regression.intercept_[0]),
        "thresholds": thresholds.tolist(),
        "training": _span(training) | {"base_rate": base, "regularisation": REGULARISATION, "gap_signals": gap},
        "undecided_share": 1.0 - len(decided) / len(found),
        "cross_validation": folds,
        "holdout": _span(unseen)
        | _judge(p, unseen, base, seed)
        | {
            "ratings": shares(quarter(p, thresholds), won),
            "ratings_by_rule": shares(unseen.rule_rating, won),
            "calibration": curve(p, won),
        },
    }


def train(
    klines_folder: Path,
    out: Path = MODEL,
    *,
    symbol: str = "BTCUSDT",
    interval: str = "3m",
    section: Overlays | None = None,
) -> dict[str, Any]:
    """Train the classifier on a folder of klines, write coefficients and results to `out` as JSON, and return them.

    Parameters
    ----------
    klines_folder
        Folder of kline files.
    out
        File of the model, replaced atomically.
    symbol, interval
        Klines to train on.
    section
        Settings of Signals & Overlays; defaults if None.

    Raises
    ------
    ConfigError
        scikit-learn is not installed.
    DataMissing
        There are no such klines, or fewer than 500 decided signals in them.
    """
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise ConfigError("training the classifier needs scikit-learn: `make test` installs it") from error
    section = section or Overlays()
    bars = store.load(klines_folder, symbol, interval)
    found = samples(bars, section)
    _, model = fit(found)
    span = {"from": store.format_time(int(bars.open_ms[0])), "to": store.format_time(bars.end_ms)}
    report = {
        **model,
        "settings": section.model_dump(exclude={"classifier"}),
        "label": {"reach_atr14": REACH_ATR, "horizon_bars": HORIZON, "both_on_one_bar": "lost", "neither": "left out"},
        "data": {"symbol": symbol, "interval": interval, "bars": len(bars), **span, "sha256": _digest(bars)},
    }
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(report, indent=1) + "\n")
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)
    return report
