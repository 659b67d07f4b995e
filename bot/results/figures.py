"""The formulas of all figures, one function each; `summary` and `session` combine them.

A figure is None where it is undefined: no trades, no loss to divide by, too few days. Results are R multiples or quote
(USDT), one value per trade; equity is in quote.
"""

import math
from typing import Final

import numpy as np

from bot.core.times import DAY_MS

RESAMPLES: Final = 10_000
SEED: Final = 7
DAYS_A_YEAR: Final = 365  # the market never closes
Z_95: Final = 1.959964  # 97.5 % quantile of the normal distribution


def mean(values: np.ndarray) -> float | None:
    """Return the mean of `values`, in their unit.

    >>> mean(np.array([1.0, -1.0, 3.0])), mean(np.array([]))
    (1.0, None)
    """
    return float(np.mean(values)) if len(values) else None


def share_won(results: np.ndarray) -> float | None:
    """Return the win rate: the share of results above 0, 0 to 1; a result of exactly 0 is not a win.

    >>> share_won(np.array([2.0, -1.0, 0.0, 1.0]))
    0.5
    """
    return float(np.mean(results > 0)) if len(results) else None


def wilson(wins: int, n: int) -> tuple[float, float] | None:
    """Return the 95 % confidence interval of a share (Wilson's score interval, 1927).

    >>> low, high = wilson(7, 10)
    >>> round(low, 3), round(high, 3)
    (0.397, 0.892)
    """
    if n == 0:
        return None
    z, share = Z_95, wins / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def profit_factor(results: np.ndarray) -> float | None:
    """Return the profit factor, sum of gains over sum of losses, `sum(r > 0) / -sum(r < 0)`; None without a loss.

    >>> profit_factor(np.array([2.0, -1.0, 1.0, -0.5])), profit_factor(np.array([1.0]))
    (2.0, None)
    """
    lost = -results[results < 0].sum()
    return float(results[results > 0].sum() / lost) if lost > 0 else None


def profit_factors(rows: np.ndarray) -> np.ndarray:
    """Return the profit factor of each row of `(samples, trades)`: infinite without a loss, 0 without gain or loss.

    >>> profit_factors(np.array([[2.0, -1.0], [1.0, 1.0], [0.0, 0.0]])).tolist()
    [2.0, inf, 0.0]
    """
    won, lost = np.maximum(rows, 0).sum(axis=1), np.maximum(-rows, 0).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(lost > 0, won / lost, np.where(won > 0, np.inf, 0.0))


def interval(
    values: np.ndarray,
    statistic: str = "mean",
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
    level: float = 0.95,
) -> tuple[float, float] | None:
    """Return the percentile bootstrap interval (Efron, 1979) of the mean or the profit factor; None below two values.

    Trades are treated as independent draws. The seed is fixed: equal values give an equal interval.

    Parameters
    ----------
    values : ndarray(float64, ndim=1)
        One result per trade.
    statistic
        `mean` or `profit_factor`. A resample without a loss has an infinite factor.
    resamples, seed
        Number of resamples, and seed of the generator.
    level
        Share of the resamples inside the interval.
    """
    if len(values) < 2:
        return None
    rng = np.random.default_rng(seed)
    found = []
    for part in np.array_split(np.arange(resamples), max(1, math.ceil(resamples * len(values) / 4_000_000))):
        drawn = values[rng.integers(0, len(values), (len(part), len(values)))]
        found.append(drawn.mean(axis=1) if statistic == "mean" else profit_factors(drawn))
    edge = (1 - level) / 2
    # An order statistic instead of interpolation: an infinite factor must not become NaN.
    low, high = np.quantile(np.concatenate(found), [edge, 1 - edge], method="nearest")
    return float(low), float(high)


def max_drawdown(equity: np.ndarray) -> float:
    """Return the maximum drawdown of an equity curve as a fraction of the running peak; 0 if empty.

    >>> round(max_drawdown(np.array([100.0, 110.0, 99.0, 120.0, 114.0])), 9)
    0.1
    """
    values = np.asarray(equity, np.float64)
    peak = np.maximum.accumulate(values)
    fall = np.divide(peak - values, peak, out=np.zeros_like(values), where=peak > 0)
    return float(fall.max(initial=0.0))


def max_drawdown_r(multiples: np.ndarray) -> float:
    """Return the maximum drawdown of cumulative R multiples, whose peak starts at 0; in R.

    >>> max_drawdown_r(np.array([1.0, -1.0, -1.5, 3.0]))
    2.5
    """
    line = np.concatenate(([0.0], np.cumsum(np.asarray(multiples, np.float64))))
    return float((np.maximum.accumulate(line) - line).max())


def day_drawdown_r(day_r: np.ndarray) -> float | None:
    """Return the largest fall below the start of any UTC day, in day R; None without samples.

    >>> day_drawdown_r(np.array([0.5, -1.2, 0.1]))
    1.2
    """
    return float(max(0.0, -np.min(day_r))) if len(day_r) else None


def equity_at(at_ms: np.ndarray, equity: np.ndarray, times_ms: np.ndarray, initial: float) -> np.ndarray:
    """Return equity at the given times: the last sample at or before each, `initial` before the first.

    >>> equity_at(np.array([10, 20]), np.array([101.0, 99.0]), np.array([9, 10, 25]), 100.0).tolist()
    [100.0, 101.0, 99.0]

    Parameters
    ----------
    at_ms, equity : ndarray(ndim=1)
        Times of the samples, UTC epoch ms ascending, and their equity, quote units.
    times_ms : ndarray(int64, ndim=1)
        Requested times, UTC epoch ms.
    initial : float
        Equity before the first sample.
    """
    return np.concatenate(([initial], equity))[np.searchsorted(at_ms, times_ms, side="right")]


def day_ends(from_ms: int, to_ms: int) -> np.ndarray:
    """Return the ends of all UTC days of a range in epoch ms; the last one is clipped to the end of the range.

    >>> (day_ends(0, DAY_MS + 5) / DAY_MS).round(3).tolist()
    [1.0, 1.0]
    """
    ends = np.arange(from_ms // DAY_MS + 1, max(from_ms, to_ms - 1) // DAY_MS + 2) * DAY_MS
    ends[-1] = min(int(ends[-1]), to_ms)
    return ends


def sharpe(returns: np.ndarray) -> float:
    """Return the Sharpe ratio per observation: mean over sample deviation, NaN below two values or at deviation 0.

    >>> round(sharpe(np.array([1.0, 2.0, 3.0])), 6)
    2.0
    """
    if len(returns) < 2:
        return math.nan
    deviation = float(np.std(returns, ddof=1))
    return float(np.mean(returns)) / deviation if deviation > 0 else math.nan


def sharpe_daily(equity: np.ndarray, initial: float) -> float | None:
    """Return the annualised Sharpe ratio of daily returns: mean over deviation, times the square root of 365.

    Days without a trade count as returns of 0; the risk-free rate is 0.

    Parameters
    ----------
    equity : ndarray(float64, ndim=1)
        Equity at the end of every UTC day of the range, in order.
    initial : float
        Equity at the start.

    >>> round(sharpe_daily(np.array([101.0, 101.0, 102.01]), 100.0), 2)
    22.06
    """
    values = np.concatenate(([initial], equity))
    if len(values) < 3 or (values[:-1] <= 0).any():
        return None
    ratio = sharpe(np.diff(values) / values[:-1])
    return ratio * math.sqrt(DAYS_A_YEAR) if math.isfinite(ratio) else None


def return_over(span_days: float, growth: float, days: float) -> float | None:
    """Return the compound return over `span_days` of a run that multiplied the equity by `growth` in `days`.

    None for a run shorter than `span_days`: the return of an hour is no estimate for a day.

    >>> round(return_over(1, 1.21, 2.0), 6), return_over(22, 1.21, 2.0)
    (0.1, None)
    """
    return growth ** (span_days / days) - 1 if growth > 0 and days >= span_days else None
