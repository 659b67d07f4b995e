"""What a list of closed trades amounts to: win rate, profit factor, drawdown, and one plain row a trade.

Every figure is `None` where there is nothing to measure: no trades, no losing trade to divide by, less than a day of time.
A trade that the end of the data closed is real money but no verdict: it is left out of win rate and profit factor
(strategy 10), and in everything else.
"""

import math
from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import pairwise
from statistics import fmean, stdev
from typing import Any

from bot.core.records import EquityPoint, TradeRecord
from bot.core.times import DAY_MS

END_OF_DATA = "end_of_data"


def number(value: Decimal | float | int) -> float | int:
    """Return money as a JSON number: 15 digits, what a cent-exact sum needs (the journal keeps every digit)."""
    return value if isinstance(value, int) else float(value)


def filled(trades: Iterable[TradeRecord]) -> list[TradeRecord]:
    """Return the trades that took a position; the others are setups that filled nothing."""
    return [trade for trade in trades if trade.fills or trade.qty > 0]


def judged(trades: Iterable[TradeRecord]) -> list[TradeRecord]:
    """Return the trades that count for win rate and profit factor."""
    return [trade for trade in filled(trades) if trade.exit_reason != END_OF_DATA]


def win_rate(trades: Sequence[TradeRecord]) -> float | None:
    """Return the share of trades with a net profit, of those judged."""
    counted = judged(trades)
    return sum(trade.pnl > 0 for trade in counted) / len(counted) if counted else None


def profit_factor(trades: Sequence[TradeRecord]) -> float | None:
    """Return net profit of the winners over net loss of the losers, of those judged; None without a loser."""
    counted = judged(trades)
    won = sum((trade.pnl for trade in counted if trade.pnl > 0), Decimal(0))
    lost = -sum((trade.pnl for trade in counted if trade.pnl < 0), Decimal(0))
    return float(won / lost) if lost > 0 else None


def wilson(wins: int, n: int) -> tuple[float, float] | None:
    """Return the 95 % interval of a share (Wilson's score interval): how little a short run can tell.

    >>> low, high = wilson(7, 10)
    >>> round(low, 3), round(high, 3)
    (0.397, 0.892)
    """
    if n == 0:
        return None
    z = 1.959964
    share = wins / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def max_drawdown(values: Iterable[float]) -> float:
    """Return the deepest fall of a line from its peak so far, as a fraction of that peak.

    >>> max_drawdown([100, 110, 99, 120, 114])
    0.1
    """
    peak, deepest = -math.inf, 0.0
    for value in values:
        peak = max(peak, value)
        if peak > 0:
            deepest = max(deepest, (peak - value) / peak)
    return deepest


def max_drawdown_r(multiples: Iterable[float]) -> float:
    """Return the deepest fall of the running sum of R, from its peak (which starts at 0).

    >>> max_drawdown_r([1.0, -1.0, -1.5, 3.0])
    2.5
    """
    total = peak = deepest = 0.0
    for multiple in multiples:
        total += multiple
        peak = max(peak, total)
        deepest = max(deepest, peak - total)
    return deepest


def day_drawdown_r(trades: Sequence[TradeRecord], equity: Sequence[EquityPoint]) -> float | None:
    """Return the worst standing of any UTC day, in R below its start: realised and open, where equity was sampled."""
    if equity:
        return max(0.0, *(-point.day_r for point in equity))
    standing: dict[int, float] = {}
    worst = 0.0
    taken = sorted(filled(trades), key=lambda trade: trade.closed_ms)
    for trade in taken:
        day = trade.closed_ms // DAY_MS
        standing[day] = standing.get(day, 0.0) + trade.r_multiple
        worst = max(worst, -standing[day])
    return worst if taken else None


def sharpe_daily(equity: Sequence[EquityPoint]) -> float | None:
    """Return mean over deviation of the daily returns, times the root of 365; None below three days."""
    closes: dict[int, float] = {}
    for point in equity:
        closes[point.at_ms // DAY_MS] = float(point.equity)
    values = list(closes.values())
    returns = [after / before - 1 for before, after in pairwise(values) if before > 0]
    if len(returns) < 2 or (deviation := stdev(returns)) == 0:
        return None
    return fmean(returns) / deviation * math.sqrt(365)


def mean(values: Sequence[float]) -> float | None:
    """Return the mean, or None of nothing."""
    return fmean(values) if values else None


def trade_row(trade: TradeRecord) -> dict[str, Any]:
    """Return a trade as one plain object: plan, result, costs and every fill with its price and fee."""
    money = (
        *("plan_entry", "plan_stop", "plan_qty", "uncut_qty", "qty", "entry_price", "exit_price", "stop", "tp1", "tp2"),
        *("risk_quote", "pnl", "alpha_pnl", "hedge_pnl", "fees", "funding"),
    )
    ratios = (
        *("r_multiple", "alpha_r", "hedge_r", "expected_cost_r", "net_beta", "max_favourable_r", "max_adverse_r"),
        "naked_ms",
    )
    costs = trade.fees + trade.funding
    return {
        "trade_id": trade.trade_id,
        "symbol": trade.symbol,
        "side": trade.side.name,
        "signal_ms": trade.signal_ms,
        "opened_ms": trade.opened_ms,
        "closed_ms": trade.closed_ms,
        "exit_reason": trade.exit_reason,
        **{name: number(getattr(trade, name)) for name in money},
        **{name: getattr(trade, name) for name in ratios},
        "cost_r": float(costs / trade.risk_quote) if trade.risk_quote > 0 else None,
        "notes": list(trade.notes),
        "fills": [
            {
                "at_ms": fill.at_ms,
                "symbol": fill.symbol,
                "role": fill.role,
                "side": fill.side,
                "qty": number(fill.qty),
                "price": number(fill.price),
                "fee": number(fill.fee),
                "maker": fill.maker,
            }
            for fill in trade.fills
        ],
    }
