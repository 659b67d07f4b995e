"""What the engine tells about itself: decisions, trades and equity. Records are journalled and shown, never performed."""

from dataclasses import dataclass, field
from decimal import Decimal

from bot.core.types import Side


@dataclass(frozen=True, slots=True)
class Decision:
    """One closed BTC bar: the twelve conditions, and why there was or wasn't a trade.

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
    """One fill of a trade, alpha or leg. `role` is the client id's role (en, io, tp, sl, cs, hx, ...)."""

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
    """A closed trade (or setup that filled nothing: `fills` is empty), with its plan and its result in R."""

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
    naked_ms: int  # longest time a position of the trade was without an accepted stop
    fills: tuple[TradeFill, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EquityPoint:
    """Equity = wallet + unrealised at last price, sampled at each closed BTC bar and each fill."""

    at_ms: int
    wallet: Decimal
    equity: Decimal
    peak: Decimal
    day_r: float


@dataclass(frozen=True, slots=True)
class NakedSpell:
    """A time during which a position was not wholly covered by accepted sized stops; told when it is over."""

    at_ms: int  # its end
    symbol: str
    trade_id: str
    ms: int
    role: str = ""  # alpha or leg


Record = Decision | TradeRecord | EquityPoint | NakedSpell
