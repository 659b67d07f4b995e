"""The report of a session: its trades and costs, and the strategy's claims next to the measurements.

A figure is `None` where the session is too short or has no trades.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

import numpy as np

from bot.core.records import Decision, EquityPoint, TradeRecord
from bot.core.times import DAY_MS
from bot.results import figures
from bot.results.claims import claims
from bot.results.trades import END_OF_DATA, filled, judged, number, trade_row

BASE_MS: Final = 180_000


def session_report(
    trades: Sequence[TradeRecord],
    *,
    decisions: Iterable[Decision] = (),
    equity: Sequence[EquityPoint] = (),
    meta: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return `{"summary": {...}, "trades": [...]}` as plain JSON values.

    Parameters
    ----------
    trades
        All trades and unfilled setups, in signal order.
    decisions
        One per closed bar of the alpha symbol.
    equity
        Samples of equity, oldest first.
    meta
        Values known only to the caller, copied to the summary. Used here: `initial_equity`, `interval_ms`, `slippage`
        (mean fraction of the price, taker fills), `decision_ms` (closed kline to order, median), `bars`, `days`.
    """
    known = dict(meta or {})
    taken = filled(trades)
    completed = judged(trades)
    multiples = np.array([trade.r_multiple for trade in taken])
    pnl = np.array([trade.pnl for trade in completed], object)
    bars, signals, vetoes, span_ms = _count(decisions, int(known.get("interval_ms", BASE_MS)))
    days = float(known.get("days", span_ms / DAY_MS))
    first, last = _ends(equity, known, taken)
    change = last / first if first is not None and last is not None and first > 0 else None
    values = [*([] if first is None else [first]), *(float(point.equity) for point in equity)]
    values = values if equity else _equity_of_trades(first, taken)
    wins = sum(trade.pnl > 0 for trade in completed)
    costs = np.array([float((t.fees + t.funding) / t.risk_quote) for t in taken if t.risk_quote > 0])
    day_r = np.array([point.day_r for point in equity]) if equity else _standing(taken)
    summary: dict[str, Any] = {
        **known,
        "bars": int(known.get("bars", bars)),
        "days": days,
        "signals": signals,
        "signals_per_day": signals / days if days > 0 else None,
        "vetoes": dict(vetoes.most_common()),
        "setups_unfilled": len(trades) - len(taken),
        "trades": len(taken),
        "trades_end_of_data": sum(trade.exit_reason == END_OF_DATA for trade in taken),
        "wins": wins,
        "win_rate": figures.share_won(pnl),
        "win_rate_95": figures.wilson(wins, len(completed)),
        "profit_factor": figures.profit_factor(pnl),
        "expectancy_r": figures.mean(multiples),
        "total_r": float(multiples.sum()),
        "alpha_r": sum(trade.alpha_r for trade in taken),
        "hedge_r": sum(trade.hedge_r for trade in taken),
        "avg_cost_r": figures.mean(costs),
        "pnl": _total(taken, "pnl"),
        "fees": _total(taken, "fees"),
        "funding": _total(taken, "funding"),
        "max_drawdown": figures.max_drawdown(np.array(values)) if values else None,
        "max_drawdown_r": figures.max_drawdown_r(multiples),
        "day_drawdown_r": figures.day_drawdown_r(day_r),
        "sharpe_daily": _sharpe(equity, first),
        "naked_ms_max": max((trade.naked_ms for trade in taken), default=0),
        "exits": dict(Counter(trade.exit_reason for trade in taken).most_common()),
        "initial_equity": first,
        "final_equity": last,
        "return": change - 1 if change is not None else None,
        "day_return": figures.return_over(1, change or 0.0, days),
        "month_return": figures.return_over(22, change or 0.0, days),
        "slippage": known.get("slippage"),
        "decision_ms": known.get("decision_ms"),
    }
    summary["claims"] = claims(summary)
    return {"summary": summary, "trades": [trade_row(trade) for trade in taken]}


def _count(decisions: Iterable[Decision], interval_ms: int) -> tuple[int, int, Counter[str], int]:
    bars = signals = 0
    vetoes: Counter[str] = Counter()
    first = last = None
    for decision in decisions:
        bars += 1
        first = decision.open_ms if first is None else first
        last = decision.open_ms
        if decision.signal:
            signals += 1
            if decision.code not in ("no_signal", "entered"):
                vetoes[decision.code] += 1
    span_ms = last - first + interval_ms if first is not None and last is not None else 0
    return bars, signals, vetoes, span_ms


def _ends(
    equity: Sequence[EquityPoint], known: Mapping[str, Any], taken: Sequence[TradeRecord]
) -> tuple[float | None, float | None]:
    """Return equity at the start and at the end, None where neither a sample nor the caller gives it."""
    given = known.get("initial_equity")
    first = float(given) if given is not None else float(equity[0].equity) if equity else None
    if equity:
        return first, float(equity[-1].equity)
    return first, first + float(_total(taken, "pnl")) if first is not None else None


def _equity_of_trades(first: float | None, taken: Sequence[TradeRecord]) -> list[float]:
    if first is None:
        return []
    values = [first]
    for trade in taken:
        values.append(values[-1] + float(trade.pnl))
    return values


def _total(trades: Sequence[TradeRecord], name: str) -> float | int:
    return number(sum((getattr(trade, name) for trade in trades), Decimal(0)))


def _standing(taken: Sequence[TradeRecord]) -> np.ndarray:
    """Return the realised R of the UTC day after each trade, in closing order."""
    standing: dict[int, float] = {}
    line = []
    for trade in sorted(taken, key=lambda trade: trade.closed_ms):
        day = trade.closed_ms // DAY_MS
        standing[day] = standing.get(day, 0.0) + trade.r_multiple
        line.append(standing[day])
    return np.array(line)


def _sharpe(equity: Sequence[EquityPoint], first: float | None) -> float | None:
    if not equity or first is None:
        return None
    at, values = np.array([p.at_ms for p in equity]), np.array([float(p.equity) for p in equity])
    ends = figures.day_ends(int(at[0]), int(at[-1]) + 1)
    return figures.sharpe_daily(figures.equity_at(at, values, ends, first), first)
