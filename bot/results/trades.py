"""Closed trades as plain rows, and which of them count.

A trade that the end of the data closed is real money but no verdict: it is left out of win rate and profit factor
(strategy 10), and in everything else.
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final

from bot.core.records import TradeRecord

END_OF_DATA: Final = "end_of_data"


def number(value: Decimal | float | int) -> float | int:
    """Return money as a JSON number: 15 digits, what a cent-exact sum needs (the journal keeps every digit)."""
    return value if isinstance(value, int) else float(value)


def filled(trades: Iterable[TradeRecord]) -> list[TradeRecord]:
    """Return the trades that took a position; the others are setups that filled nothing."""
    return [trade for trade in trades if trade.fills or trade.qty > 0]


def judged(trades: Iterable[TradeRecord]) -> list[TradeRecord]:
    """Return the trades that count for win rate and profit factor."""
    return [trade for trade in filled(trades) if trade.exit_reason != END_OF_DATA]


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
