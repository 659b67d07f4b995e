"""Closed trades as plain rows, and the selection of those that count.

A trade closed by the end of the data is left out of win rate and profit factor (strategy 10), and included in every
other figure.
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final

from bot.core.records import TradeRecord

END_OF_DATA: Final = "end_of_data"


def number(value: Decimal | float | int) -> float | int:
    """Return money as a JSON number: 15 digits, enough for sums exact to the cent (the journal keeps every digit)."""
    return value if isinstance(value, int) else float(value)


def filled(trades: Iterable[TradeRecord]) -> list[TradeRecord]:
    """Return the filled trades, without unfilled setups."""
    return [trade for trade in trades if trade.fills or trade.qty > 0]


def judged(trades: Iterable[TradeRecord]) -> list[TradeRecord]:
    """Return the trades that count for win rate and profit factor."""
    return [trade for trade in filled(trades) if trade.exit_reason != END_OF_DATA]


def trade_row(trade: TradeRecord) -> dict[str, Any]:
    """Return a trade as plain JSON values: plan, result, costs and every fill with its price and fee."""
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
