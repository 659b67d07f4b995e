"""How much of a good back-test is luck of the search: the deflated Sharpe ratio and the probability of overfitting.

The best of two hundred settings raises two questions. Would the best of two hundred worthless settings have looked as
good (deflated Sharpe ratio; Bailey and López de Prado, 2014)? And is the setting that wins on one half of the history
still above the median on the other half (probability of back-test overfitting by combinatorially symmetric
cross-validation, CSCV; Bailey, Borwein, López de Prado and Zhu, 2017)? Purged splits exclude a trade that spans a border
from both sides, and an embargo excludes the bars that follow.
"""

import math
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist
from typing import Literal

import numpy as np

from bot.results.figures import sharpe

EULER = 0.5772156649015329
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Deflated:
    """A Sharpe ratio compared with what luck alone gives.

    Attributes
    ----------
    sharpe : float
        Mean over standard deviation of the returns, per observation (not annualised).
    expected_best : float
        Sharpe ratio per observation that the best of `trials` worthless settings is expected to show.
    probability : float
        Probability that the true ratio is above 0 after correction for the search; 0.95 is the usual threshold.
    observations, trials : int
    """

    sharpe: float
    expected_best: float
    probability: float
    observations: int
    trials: int


def expected_best_sharpe(variance: float, trials: int) -> float:
    """Return the Sharpe ratio that the best of `trials` worthless settings shows on average.

    `variance` is that of the trials' ratios. The formula is the mean of the largest of N normal draws.

    >>> round(expected_best_sharpe(1.0, 100), 3)
    2.531
    """
    if trials < 2 or variance <= 0:
        return 0.0
    first = _NORMAL.inv_cdf(1 - 1 / trials)
    second = _NORMAL.inv_cdf(1 - 1 / (trials * math.e))
    return math.sqrt(variance) * ((1 - EULER) * first + EULER * second)


def probability_above(ratio: float, against: float, *, observations: int, skew: float, kurtosis: float) -> float:
    """Return the probability that the true Sharpe ratio is above `against`.

    Parameters
    ----------
    ratio
        Measured Sharpe ratio, per observation.
    against
        Sharpe ratio to exceed, in the same unit.
    observations
        Number of returns.
    skew, kurtosis
        Of the returns; 0 and 3 for a normal distribution.

    >>> round(probability_above(2.5 / 250**0.5, 0.1132, observations=1250, skew=-3.0, kurtosis=10.0), 3)
    0.9
    """
    spread = 1 - skew * ratio + (kurtosis - 1) / 4 * ratio**2
    if not spread > 0 or observations < 2:
        return math.nan
    return _NORMAL.cdf((ratio - against) * math.sqrt((observations - 1) / spread))


def probabilistic_sharpe(returns: np.ndarray, against: float) -> float:
    """Return the probability that the true Sharpe ratio of `returns` is above `against`; NaN where nothing varies."""
    ratio = sharpe(returns)
    if math.isnan(ratio):
        return math.nan
    scaled = (returns - returns.mean()) / np.std(returns)
    skew, kurtosis = float(np.mean(scaled**3)), float(np.mean(scaled**4))
    return probability_above(ratio, against, observations=len(returns), skew=skew, kurtosis=kurtosis)


def deflated_sharpe(returns: np.ndarray, ratios_of_trials: np.ndarray, *, trials: int | None = None) -> Deflated:
    """Return the winner's Sharpe ratio corrected for the luck of the search.

    Parameters
    ----------
    returns : ndarray(float64, ndim=1)
        The winner's result per day (or trade), days without a trade included as 0.
    ratios_of_trials : ndarray(float64, ndim=1)
        Sharpe ratio of every trial, in the same unit of time; NaN for trials that did not trade.
    trials : int, optional
        Number of settings tried, if more than the ratios known.
    """
    known = ratios_of_trials[np.isfinite(ratios_of_trials)]
    count = max(len(known), trials or 0)
    variance = float(np.var(known, ddof=1)) if len(known) > 1 else 0.0
    hurdle = expected_best_sharpe(variance, count)
    return Deflated(sharpe(returns), hurdle, probabilistic_sharpe(returns, hurdle), len(returns), count)


@dataclass(frozen=True, slots=True)
class Overfitting:
    """Out-of-sample result of the in-sample winner, over all ways to halve the history.

    Attributes
    ----------
    probability : float
        Share of splits in which the winner of one half falls to or below the median of the other (PBO).
    loss_probability : float
        Share of splits in which it loses out of sample.
    degradation : float
        Slope of the out-of-sample measure on the in-sample one over all splits; below 0, the better in sample the
        worse out of sample.
    splits, settings, observations : int
    """

    probability: float
    loss_probability: float
    degradation: float
    splits: int
    settings: int
    observations: int


Measure = Literal["profit_factor", "mean", "sharpe"]
_BREAK_EVEN = {"profit_factor": 1.0, "mean": 0.0, "sharpe": 0.0}


def _measures(kind: Measure, gain: np.ndarray, loss: np.ndarray, square: np.ndarray, rows: int) -> np.ndarray:
    """Return the measure of each column from its sums over some blocks; 0 for a column without a result."""
    total = gain - loss
    if kind == "mean":
        return total / rows
    if kind == "profit_factor":
        # The cap keeps a column without a loss finite; a column that never traded counts as a loser: 0.
        with np.errstate(divide="ignore", invalid="ignore"):
            factor = np.where(loss > 0, gain / loss, np.where(gain > 0, 1e6, 0.0))
        return np.minimum(factor, 1e6)
    mean = total / rows
    variance = np.maximum(square / rows - mean**2, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(variance > 1e-18, mean / np.sqrt(variance), 0.0)


def backtest_overfitting(
    results: np.ndarray, *, blocks: int = 16, measure: Measure = "profit_factor", max_splits: int = 20_000
) -> Overfitting:
    """Return the probability of back-test overfitting by CSCV.

    Parameters
    ----------
    results : ndarray(float64, ndim=2)
        (time, setting): result of each setting on each day, 0 where it did not trade.
    blocks : int
        Even number of blocks of time; each half of them is once the sample, with the other half as the test.
    measure
        Criterion of the winner: the optimiser's own objective.
    max_splits : int
        Maximum number of splits; the number of blocks is lowered by two until it fits.
    """
    while math.comb(blocks, blocks // 2) > max_splits:
        blocks -= 2
    rows, columns = results.shape
    blocks = min(blocks, rows - rows % 2)
    if columns < 2 or blocks < 2 or blocks % 2:
        return Overfitting(math.nan, math.nan, math.nan, 0, columns, rows)
    parts = np.array_split(np.arange(rows), blocks)
    size = np.array([len(part) for part in parts])
    gain = np.stack([np.maximum(results[part], 0.0).sum(axis=0) for part in parts])
    loss = np.stack([np.maximum(-results[part], 0.0).sum(axis=0) for part in parts])
    square = np.stack([(results[part] ** 2).sum(axis=0) for part in parts])
    below = losing = 0
    inside, outside = [], []
    halves = list(combinations(range(blocks), blocks // 2))
    everything = set(range(blocks))
    for half in halves:
        chosen, rest = list(half), sorted(everything - set(half))
        seen = _measures(
            measure, gain[chosen].sum(0), loss[chosen].sum(0), square[chosen].sum(0), int(size[chosen].sum())
        )
        unseen = _measures(measure, gain[rest].sum(0), loss[rest].sum(0), square[rest].sum(0), int(size[rest].sum()))
        winner = int(np.argmax(seen))
        # Relative rank in (0, 1), ties in the middle; at or below 0.5 the winner is no better than a coin toss.
        rank = (np.sum(unseen < unseen[winner]) + 0.5 * (np.sum(unseen == unseen[winner]) - 1) + 1) / (columns + 1)
        below += rank <= 0.5
        losing += unseen[winner] < _BREAK_EVEN[measure]
        inside.append(seen[winner])
        outside.append(unseen[winner])
    x, y = np.array(inside), np.array(outside)
    slope = float(np.polyfit(x, y, 1)[0]) if np.ptp(x) > 1e-12 else math.nan
    return Overfitting(below / len(halves), losing / len(halves), slope, len(halves), columns, rows)


@dataclass(frozen=True, slots=True)
class Span:
    """Half-open time range `[from_ms, to_ms)`."""

    from_ms: int
    to_ms: int


def purged(
    opened_ms: np.ndarray, closed_ms: np.ndarray, span: Span, *, neighbours: tuple[Span, ...] = (), embargo_ms: int = 0
) -> np.ndarray:
    """Return which trades belong to `span` only: opened and closed inside, not overlapping a neighbour or its embargo.

    Parameters
    ----------
    opened_ms, closed_ms : ndarray(int64, ndim=1)
        Time of the signal and of the close of each trade.
    neighbours
        The other side of the split; trades opened right after its end are excluded.
    embargo_ms
        Length of that exclusion.

    >>> opened, closed = np.array([0, 9, 12, 30]), np.array([5, 11, 14, 35])
    >>> purged(opened, closed, Span(10, 40), neighbours=(Span(0, 10),), embargo_ms=3).tolist()
    [False, False, False, True]
    """
    keep: np.ndarray = (opened_ms >= span.from_ms) & (closed_ms < span.to_ms)
    for other in neighbours:
        keep &= ~((opened_ms < other.to_ms + embargo_ms) & (closed_ms >= other.from_ms))
    return keep
