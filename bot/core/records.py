"""Records: the engine's reports of decisions, trades and equity. They are journalled and shown, never executed."""

from dataclasses import dataclass, field
from decimal import Decimal

from bot.core.types import Side


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision on one closed BTC bar: the twelve conditions, and the reason for or against a trade.

    `code` is `no_signal`, `entered`, or the code of the veto (`funding`, `spread`, `beyond_stop`, ...).
    `values` holds the evidence: numbers compared, block bounds, plan.
    """

    at_ms: int
    open_ms: int
    long: tuple[bool, bool, bool, bool, bool, bool]  # htf, ob, hw_cross, no_overflow, conf, trail
    short: tuple[bool, bool, bool, bool, bool, bool]
    signal: int  # +1 long, -1 short, 0 none
    code: str
    reason: str
    values: dict[str, float | str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TradeFill:
    """One fill of a trade, alpha or leg. `role` is the role in the client id (en, io, tp, sl, cs, hx, ...)."""

    at_ms: int
    symbol: str
    role: str
    side: str
    qty: Decimal
    price: Decimal
    fee: Decimal
    maker: bool


@dataclass(frozen=True, slots=True)
class TradeRecord:
    """A closed trade, or an unfilled setup (`fills` is empty), with its plan and its result in R."""

    trade_id: str
    symbol: str
    side: Side
    signal_ms: int
    opened_ms: int  # first fill, 0 if none
    closed_ms: int
    exit_reason: str
    plan_entry: Decimal
    plan_stop: Decimal
    plan_qty: Decimal
    uncut_qty: Decimal
    qty: Decimal  # filled
    entry_price: Decimal  # average
    exit_price: Decimal  # average
    stop: Decimal  # initial
    tp1: Decimal
    tp2: Decimal
    risk_quote: Decimal
    pnl: Decimal  # net: alpha + hedge - fees - funding
    alpha_pnl: Decimal  # gross
    hedge_pnl: Decimal  # gross
    fees: Decimal
    funding: Decimal  # paid, positive = cost
    r_multiple: float
    alpha_r: float
    hedge_r: float
    expected_cost_r: float
    net_beta: float
    max_favourable_r: float
    max_adverse_r: float
    naked_ms: int  # longest time that a position of the trade had no accepted stop
    fills: tuple[TradeFill, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EquityPoint:
    """Equity = wallet + unrealised PnL at last price, sampled at each closed BTC bar and each fill."""

    at_ms: int
    wallet: Decimal
    equity: Decimal
    peak: Decimal
    day_r: float


@dataclass(frozen=True, slots=True)
class NakedSpell:
    """A period in which accepted sized stops did not fully cover a position; recorded when it ends."""

    at_ms: int  # its end
    symbol: str
    trade_id: str
    ms: int
    role: str = ""  # alpha or leg


Record = Decision | TradeRecord | EquityPoint | NakedSpell
