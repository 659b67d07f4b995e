"""Summary of a finished back-test: all figures, with confidence intervals.

R is what a trade risked. *Gross* is the result of the same fills at the mid price without fees, *net* the result after
all costs. A trade closed by the end of the data counts as money but not as a win or loss: it is left out of win rate and
profit factor (strategy 10). Intervals are 95 % percentile bootstraps with a fixed seed, so equal trades give equal
intervals; that of the win rate is Wilson's. A figure is None where it is undefined.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from bot.core.times import DAY_MS
from bot.results.backtest import EquityLine, Result
from bot.results.claims import claims
from bot.results.figures import (
    day_drawdown_r,
    day_ends,
    interval,
    max_drawdown,
    max_drawdown_r,
    mean,
    profit_factor,
    return_over,
    share_won,
    sharpe_daily,
    wilson,
)
from bot.results.funnel import funnel_of

Columns = Mapping[str, np.ndarray]
COST_PARTS: Final = ("fees", "spread", "slippage", "funding", "hedge")


def daily(at_ms: np.ndarray, values: np.ndarray, *, from_ms: int, to_ms: int) -> np.ndarray:
    """Return the sum of `values` per UTC day of the range; 0 on days without any.

    Parameters
    ----------
    at_ms : ndarray(int64, ndim=1)
        Times of the values, UTC epoch ms; those outside the range count for its first or last day.
    values : ndarray(float64, ndim=1)
        The values, one per time.
    from_ms, to_ms : int
        Range, UTC epoch ms.
    """
    first, last = from_ms // DAY_MS, max(from_ms, to_ms - 1) // DAY_MS
    days = np.clip(at_ms // DAY_MS - first, 0, last - first)
    return np.bincount(days, weights=values, minlength=last - first + 1)


def daily_equity(line: EquityLine, *, initial: float, from_ms: int, to_ms: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `(end of each UTC day in epoch ms, equity there)`; the last day is clipped to the end of the range.

    Parameters
    ----------
    line
        The equity curve.
    initial
        Equity before its first sample, quote units.
    from_ms, to_ms
        Range, UTC epoch ms.
    """
    ends = day_ends(from_ms, to_ms)
    return ends, line.at(ends, initial)


def drawdown(line: EquityLine, initial: float, *, from_ms: int, to_ms: int) -> dict[str, float]:
    """Return the maximum drawdown, in quote and as a fraction of the peak, and the longest drawdown in days.

    A drawdown lasts from a peak until it is reached again; an unfinished one ends with the range.

    Parameters
    ----------
    line
        The equity curve.
    initial
        Equity before its first sample, quote units.
    from_ms, to_ms
        Range, UTC epoch ms.
    """
    equity = np.concatenate(([initial], line.equity))
    peak = np.maximum.accumulate(equity)
    # Equity is constant between samples: a value below the peak stays there until the next sample, or until the end.
    starts = np.concatenate(([from_ms], line.at_ms))
    ends = np.concatenate((line.at_ms, [to_ms]))
    below = equity < peak
    at_peak = starts[np.maximum.accumulate(np.where(below, 0, np.arange(len(equity))))]
    return {
        "quote": float((peak - equity).max()),
        "fraction": max_drawdown(equity),
        "longest_days": float(np.where(below, ends - at_peak, 0).max()) / DAY_MS,
    }


def of_results(net: np.ndarray, gross: np.ndarray, judged: np.ndarray) -> dict[str, Any]:
    """Return the figures of one group of trades (one table row) from their R multiples; `judged` is a mask."""
    counted = net[judged]
    return {
        "trades": len(net),
        "win_rate": share_won(counted),
        "win_rate_95": wilson(int(np.sum(counted > 0)), len(counted)),
        "profit_factor_r": profit_factor(counted),
        "profit_factor_r_95": interval(counted, "profit_factor"),
        "expectancy_r": mean(net),
        "expectancy_r_95": interval(net),
        "gross_expectancy_r": mean(gross),
        "gross_expectancy_r_95": interval(gross),
        "gross_profit_factor_r": profit_factor(gross[judged]),
        "total_r": float(net.sum()),
        "max_drawdown_r": max_drawdown_r(net),
    }


def costs(table: Columns) -> dict[str, float | None]:
    """Return the mean cost per trade by part and in total, R."""
    found: dict[str, float | None] = {}
    for name in COST_PARTS:
        found[name] = mean(table[f"cost_{name}_r"])
    found["total"] = mean(table["cost_r"])
    return found


def excursions(table: Columns) -> dict[str, Any]:
    """Return the favourable and adverse excursions, R: means, quartiles, and the share that reached each level."""
    best, worst = table["max_favourable_r"], table["max_adverse_r"]
    if not len(best):
        return {"favourable": None, "adverse": None, "reached": {}}
    return {
        "favourable": {"mean": float(best.mean()), "quartiles": np.quantile(best, (0.25, 0.5, 0.75)).tolist()},
        "adverse": {"mean": float(worst.mean()), "quartiles": np.quantile(worst, (0.25, 0.5, 0.75)).tolist()},
        "reached": {f"{level:g} R": float(np.mean(best >= level)) for level in (0.5, 1.0, 1.5, 2.0, 3.0)},
    }


def groups(table: Columns, keys: Sequence[Any], wanted: Sequence[Any] | None = None) -> dict[str, dict[str, Any]]:
    """Return the figures of the trades grouped by `keys`; `wanted` fixes the order and keeps empty groups."""
    labels = np.array([str(key) for key in keys], object)
    order = [str(w) for w in wanted] if wanted is not None else sorted(set(labels.tolist()))
    result = {}
    for name in order:
        chosen = labels == name
        figures = of_results(table["net_r"][chosen], table["gross_r"][chosen], table["judged"][chosen])
        figures["cost_r"] = mean(table["cost_r"][chosen])
        result[name] = figures
    return result


def months(table: Columns, equity_at: Callable[[np.ndarray], np.ndarray], *, from_ms: int, to_ms: int) -> list[dict]:
    """Return one row per calendar month of the range: trades, R and return of the equity.

    Parameters
    ----------
    table
        Columns of `trade_table`.
    equity_at
        Returns equity at the given times, UTC epoch ms.
    from_ms, to_ms
        Range, UTC epoch ms.
    """
    start = np.array([from_ms], "datetime64[ms]").astype("datetime64[M]")[0]
    rows = []
    while int(start.astype("datetime64[ms]").astype(np.int64)) < to_ms:
        end = start + np.timedelta64(1, "M")
        low = max(from_ms, int(start.astype("datetime64[ms]").astype(np.int64)))
        high = min(to_ms, int(end.astype("datetime64[ms]").astype(np.int64)))
        # The end of the data closes a trade at exactly `to_ms`: it belongs to the last month.
        chosen = (table["closed_ms"] >= low) & ((table["closed_ms"] < high) | (high == to_ms))
        # A sample at exactly the start of a month still belongs to the previous month.
        before, after = equity_at(np.array([low, high]))
        net = table["net_r"][chosen]
        rows.append(
            {
                "month": str(start),
                "days": (high - low) / DAY_MS,
                "trades": int(chosen.sum()),
                "win_rate": share_won(net[table["judged"][chosen]]),
                "profit_factor_r": profit_factor(net[table["judged"][chosen]]),
                "total_r": float(net.sum()),
                "return": float(after / before - 1) if before > 0 else None,
            }
        )
        start = end
    return rows


VOLATILITIES: Final = ("calm", "middle", "wild")
TRENDS: Final = ("with the day's move", "quiet day", "against the day's move")


def regimes(result: Result) -> dict[str, list[str]]:
    """Return the volatility and trend regime of each trade at its signal.

    Volatility: ATR14 over price against the terciles of the bars *before* the signal's day (of all bars if those are
    fewer than 480, as on the first day). Trend: a move of more than 1 % in the last 24 hours with or against the trade.
    """
    grid, table = result.grid, result.table()
    at = np.clip(np.searchsorted(grid.open_ms + 180_000, table["signal_ms"]), 0, max(0, len(grid) - 1))
    width = grid.atr14 / grid.close
    known = np.isfinite(width)
    volatility, trend = [], []
    cuts: dict[int, np.ndarray] = {}
    for index, side in zip(at.tolist(), table["side"].tolist(), strict=True):
        day = int(grid.open_ms[index]) // DAY_MS
        if day not in cuts:
            seen = width[: int(np.searchsorted(grid.open_ms, day * DAY_MS))]
            seen = seen[np.isfinite(seen)]
            cuts[day] = np.quantile(seen if len(seen) >= 480 else width[known], (1 / 3, 2 / 3))
        volatility.append(VOLATILITIES[int(np.searchsorted(cuts[day], width[index]))])
        before = max(0, index - 480)
        move = side * (grid.close[index] / grid.close[before] - 1)
        trend.append(TRENDS[0 if move > 0.01 else 2 if move < -0.01 else 1])
    return {"volatility": volatility, "trend": trend}


def needed_costs(gross_r: float, parts: Mapping[str, float | None]) -> dict[str, Any]:
    """Return the level to which each cost part alone would have to fall for the mean trade to break even.

    `factor` is the allowed share of today's cost; None where even a cost of 0 is not enough. With a gross result below 0
    no reduction is enough.
    """
    known = {name: float(parts[name] or 0.0) for name in COST_PARTS}
    net = gross_r - sum(known.values())
    found: dict[str, Any] = {"net_r": net, "gross_r": gross_r, "parts": {}}
    for name, cost in [*known.items(), ("all together", sum(known.values()))]:
        allowed = cost + net
        possible = cost > 0 and allowed >= 0
        found["parts"][name] = {
            "today_r": cost,
            "needed_r": min(allowed, cost) if possible else None,
            "factor": min(1.0, allowed / cost) if possible else None,
            "left_at_zero_r": net + max(cost, 0.0),
        }
    return found


def summary_figures(result: Result) -> dict[str, Any]:
    """Return all figures of a back-test by name, plain JSON values; the caller adds assumptions and claims."""
    table = result.table()
    net, gross, judged = table["net_r"], table["gross_r"], table["judged"]
    fall = drawdown(result.equity, result.initial_equity, from_ms=result.from_ms, to_ms=result.to_ms)
    _, equity = daily_equity(result.equity, initial=result.initial_equity, from_ms=result.from_ms, to_ms=result.to_ms)
    quote = table["pnl"]
    figures = of_results(net, gross, judged)
    figures |= {
        "profit_factor": profit_factor(quote[judged]),
        "max_drawdown": fall["fraction"],
        "max_drawdown_quote": fall["quote"],
        "longest_drawdown_days": fall["longest_days"],
        "day_drawdown_r": day_drawdown_r(result.equity.day_r),
        "sharpe_daily": sharpe_daily(equity, result.initial_equity),
        "avg_cost_r": costs(table)["total"],
        "cost_parts_r": costs(table),
        "pnl": float(quote.sum()),
        "fees": float(table["fees"].sum()),
        "funding": float(table["funding"].sum()),
        "alpha_r": float(table["alpha_r"].sum()),
        "hedge_r": float(table["hedge_r"].sum()),
        "excursions": excursions(table),
        "signals": result.signals,
        "signals_per_day": result.signals / result.days if result.days > 0 else None,
        "trades_per_day": len(net) / result.days if result.days > 0 else None,
        "days": result.days,
        "initial_equity": result.initial_equity,
        "final_equity": result.final_equity,
        "return": result.final_equity / result.initial_equity - 1,
        "median_stop_distance": float(np.median(table["stop_distance"])) if len(net) else None,
        "median_break_even_stop": float(np.median(table["break_even_stop"])) if len(net) else None,
    }
    growth = result.final_equity / result.initial_equity
    if result.days >= 1 and growth > 0:
        figures["day_return"] = return_over(1, growth, result.days)
        figures["month_return"] = return_over(22, growth, result.days)
    return figures


def report_figures(result: Result) -> dict[str, Any]:
    """Return the figures of a result with the strategy's claims and the funnel."""
    figures = summary_figures(result)
    figures["trades_end_of_data"] = int((~result.table()["judged"]).sum())
    figures["claims"] = claims(figures)
    figures["funnel"] = funnel_of(result)
    return figures
