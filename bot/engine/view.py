"""The engine seen from outside: a plain JSON view for terminal and page, and a digest for the replay test."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from bot.core.errors import InvariantError
from bot.core.records import Decision
from bot.core.types import Side
from bot.hedge.hedger import Hedger
from bot.orders.maker_taker import Phase
from bot.orders.state import ZERO
from bot.risk.sizing import NO_MONEY
from bot.strategy.rules import CONDITIONS
from bot.strategy.trade import Trade

if TYPE_CHECKING:
    from bot.engine.machine import Engine

# Shared by many or never changing: each is part of the digest once, or not at all.
_NOT_STATE: Final = frozenset(
    {
        "config",
        "features",
        "desk",
        "ledger",
        "ids",
        "row",
        "market_state",
        "limits",
        "kept",
        "kept_rest",
        "kept_until",
        "kept_due",
        "kept_left",
    }
)


def digest(engine: "Engine") -> str:
    """Return the SHA-256 of everything that the engine remembers."""
    # A compiled class (`make fast`) has no dictionary, it lists its attributes.
    names = getattr(type(engine), "__mypyc_attrs__", None) or vars(engine)
    parts = {name: plain(getattr(engine, name)) for name in names if name not in _NOT_STATE}
    shared = (("market_state", engine.market_state), ("limits", engine.limits), ("ledger", engine.portfolio.ledger))
    parts |= {name: plain(value) for name, value in shared}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def plain(value: Any) -> Any:
    """Return a value as JSON: dataclasses by field, money as text; shared and constant parts are left out."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Decimal():
            return str(value.normalize())
        case Enum():
            return value.name
        case Mapping():
            return {str(plain(key)): plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case _ if is_dataclass(value):
            return {f.name: plain(getattr(value, f.name)) for f in fields(value) if f.name not in _NOT_STATE}
        case _:
            raise InvariantError(f"{type(value).__name__} has no plain form")


def snapshot(engine: "Engine") -> dict[str, Any]:
    """Return the state as plain JSON: money as text, rates and R as numbers."""
    limits, market_state, portfolio = engine.limits, engine.market_state, engine.portfolio
    account = portfolio.account
    return {
        "at_ms": market_state.now,
        "venue": engine.venue,
        "stage": limits.stage,
        "symbols": list(engine.config.data.symbols),
        "wallet": str(account.wallet),
        "equity": str(account.equity),
        "peak": str(limits.peak),
        "day_r": limits.day_r,
        "limits": {
            "day_hit": limits.day_hit,
            "day_unit": str(limits.day_unit),
            "direction_r": {side.name: limits.direction_r(side) for side in Side},
            "resting": sorted(name for name, broken in limits.broken.items() if broken),
            "soft_stopped": limits.soft_stopped,
            "no_money": NO_MONEY if limits.empty else "",
            "leverage": limits.leverage,
            "risk_fraction": limits.fraction,
            "throttle": limits.throttle,
            "mean_slippage": limits.mean_slippage,
            "entries_off": engine.entries_off or engine.leaving,
            "feeds_lost": dict(market_state.lost),
            "reconciled": engine.reconciled,
        },
        "prices": {s: str(p) for s, p in sorted(account.last.items())},
        "quotes": {s: {"bid": str(q.bid), "ask": str(q.ask)} for s, (q, _) in sorted(market_state.quotes.items())},
        "funding": {s: str(f.rate) for s, f in sorted(market_state.funding.items())},
        "positions": {s: str(h.qty) for s, h in sorted(portfolio.ledger.holdings.items()) if h.qty},
        "suspects": {s: str(market_state.gap) for s, market_state in sorted(portfolio.suspects.items())},
        "contradictions": {key: market_state.text for key, market_state in sorted(portfolio.contradictions.items())},
        "naked_now_ms": {
            b.symbol: market_state.now - b.naked_since for b in portfolio.brackets() if b.naked_since is not None
        },
        "slippage": portfolio.slippage_sum / portfolio.slippage_fills if portfolio.slippage_fills else None,
        "unexplained": {s: str(q) for s, q in sorted(portfolio.unexplained.qty.items())},
        "trade": _trade(engine, engine.trade, engine.hedger) if engine.trade else None,
        "decision": _decision(engine, engine.last_decision) if engine.last_decision else None,
        "counters": dict(sorted(portfolio.counters.items())),
    }


def _decision(engine: "Engine", decision: Decision) -> dict[str, Any]:
    return {
        "at_ms": decision.at_ms,
        "open_ms": decision.open_ms,
        "close": engine.market_state.series[engine.alpha].closes.get(decision.open_ms),
        "long": dict(zip(CONDITIONS, decision.long, strict=True)),
        "short": dict(zip(CONDITIONS, decision.short, strict=True)),
        "signal": decision.signal,
        "code": decision.code,
        "reason": decision.reason,
        "values": dict(decision.values),
    }


def _trade(engine: "Engine", trade: Trade, hedger: Hedger | None) -> dict[str, Any]:
    bracket, portfolio = trade.bracket, engine.portfolio
    last = portfolio.account.last
    alpha, hedge = trade.gross()
    fees = sum((f.fee for f in trade.fills), ZERO)
    open_value = sum((b.side.sign * b.held * last.get(b.symbol, ZERO) for b in portfolio.brackets()), ZERO)
    result = alpha + hedge + open_value - fees - trade.funding
    risk = trade.risk_quote
    return {
        "trade_id": trade.trade_id,
        "side": trade.side.name,
        "stage": trade.stage.value,
        "entry_phase": trade.entry.phase.value,
        "working": trade.entry.phase is not Phase.DONE,
        "signal_ms": trade.plan.signal_ms,
        "opened_ms": trade.first_fill_ms,
        "plan_entry": str(trade.plan.entry),
        "plan_stop": str(trade.plan.stop),
        "plan_qty": str(trade.entry.qty),
        "block": [str(trade.plan.block_bottom), str(trade.plan.block_top)],
        "qty": str(bracket.held),
        "filled": str(bracket.bought),
        "average": str(bracket.average),
        "last": str(last[bracket.symbol]) if bracket.symbol in last else None,
        "stop": str(bracket.stop),
        "stop_kind": bracket.stop_kind,
        "catastrophe": str(bracket.catastrophe),
        "targets": [
            {"leg": t.leg, "price": str(t.price), "qty": str(t.qty), "filled": str(t.filled), "done": t.done}
            for t in bracket.targets
        ],
        "risk_quote": str(risk),
        "pnl": str(result),
        "r": float(result / risk) if risk else 0.0,
        "expected_cost_r": trade.expected_cost_r,
        "covered": str(bracket.cover),
        "naked_ms": bracket.naked_ms,
        "closing": bracket.exit_reason,
        "net_beta": hedger.net_beta if hedger and hedger.opened else None,
        "legs": [
            {
                "symbol": leg.plan.symbol,
                "state": leg.state,
                "beta": leg.plan.beta,
                "r2": leg.plan.r2,
                "qty": str(-trade.side.sign * leg.bracket.held) if leg.bracket else "0",
                "average": str(leg.bracket.average) if leg.bracket else "0",
                "stop": str(leg.bracket.stop) if leg.bracket else None,
                "note": leg.note,
            }
            for leg in (hedger.legs if hedger else ())
        ],
    }
