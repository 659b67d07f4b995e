"""What can happen to the bot. Every event is frozen, carries its own time on the exchange's clock, and is journalled.

`at_ms` is exchange time (UTC epoch ms) throughout: the event time E of a push, the update time of a reply, or the
Clock's reading for timers. The engine's notion of now is the largest `at_ms` it has seen.
"""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from bot.core.types import Income, Instrument, Kline, OrderReport, OrderSide, OrderStatus, PositionReport, Quote


@dataclass(frozen=True, slots=True)
class SessionStarted:
    """First event of every session: what the venue is and allows."""

    at_ms: int
    venue: str
    wallet: Decimal
    instruments: tuple[Instrument, ...]


@dataclass(frozen=True, slots=True)
class KlineClosed:
    """A bar closed. `filled` marks a flat bar put in for a missing one; `history` bars warm up and decide nothing.

    An `early` bar was built from trades and closed by the clock: it is decided upon with a copy of the state, and the
    exchange's own bar, which comes later, steps the true one.
    """

    at_ms: int
    kline: Kline
    filled: bool = False
    history: bool = False
    early: bool = False


@dataclass(frozen=True, slots=True)
class Quotes:
    """Latest best prices per symbol, coalesced: fed right before an event whose handling may read them."""

    at_ms: int
    quotes: tuple[tuple[str, Quote], ...]


@dataclass(frozen=True, slots=True)
class Funding:
    """Current mark and funding rate of a symbol, as a fraction per interval of `interval_hours`."""

    at_ms: int
    symbol: str
    mark: Decimal
    rate: Decimal
    next_funding_ms: int
    interval_hours: int = 8


@dataclass(frozen=True, slots=True)
class OrderUpdate:
    """An order's state, from the user stream, a REST reply or a query; merged monotonically by the ledger.

    `status` UNKNOWN means that the request's outcome is not known yet; a later OrderUpdate resolves it.
    `code` is Binance's error code when REJECTED (-5022, -2021, ...). For a cancel that failed, see `CancelRejected`.
    """

    at_ms: int
    client_id: str
    symbol: str
    status: OrderStatus
    side: OrderSide
    qty: Decimal
    filled_qty: Decimal
    average_price: Decimal  # 0 while nothing filled
    order_id: str = ""
    algo: bool = False
    code: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class CancelRejected:
    """A cancel was refused (-2011) and the following query told nothing more: usually the order is already done."""

    at_ms: int
    client_id: str
    symbol: str
    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Fill:
    """One trade of ours; recognised again by (symbol, trade_id). `fee` in quote, positive = paid."""

    at_ms: int  # trade time T of the matching engine
    client_id: str
    symbol: str
    side: OrderSide
    qty: Decimal
    price: Decimal
    fee: Decimal
    maker: bool
    trade_id: int
    realized: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class AccountUpdate:
    """Wallet and positions after a change. `reason` is Binance's m (ORDER, FUNDING_FEE, ...)."""

    at_ms: int
    reason: str
    wallet: Decimal
    balance_change: Decimal
    positions: tuple[PositionReport, ...]


@dataclass(frozen=True, slots=True)
class AccountSnapshot:
    """Everything the venue holds for us at one instant: the input of reconciliation.

    `income` holds the account's bookings since the time that was asked for; None when they were not asked for.
    """

    at_ms: int
    wallet: Decimal
    positions: tuple[PositionReport, ...]
    orders: tuple[OrderReport, ...]
    fills: tuple[Fill, ...] = ()
    income: tuple[Income, ...] | None = None


@dataclass(frozen=True, slots=True)
class LeverageSet:
    """The venue accepted (or told) a symbol's leverage."""

    at_ms: int
    symbol: str
    leverage: int


@dataclass(frozen=True, slots=True)
class MarginTypeSet:
    """The venue reported a symbol's margin type."""

    at_ms: int
    symbol: str
    isolated: bool


@dataclass(frozen=True, slots=True)
class MarginCall:
    """The venue warns that the margin of these symbols' positions is running out."""

    at_ms: int
    symbols: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TimerFired:
    """A timer that the engine set is due."""

    at_ms: int
    name: str


@dataclass(frozen=True, slots=True)
class FeedLost:
    """A stream is silent or broken: no decision on what it feeds until FeedRestored."""

    at_ms: int
    stream: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class FeedRestored:
    """The stream delivers again and its gap has been filled."""

    at_ms: int
    stream: str


@dataclass(frozen=True, slots=True)
class Command:
    """An operator's or a job's word: `arm`, `stop_entries`, `start_entries`, `flatten`, `shutdown`."""

    at_ms: int
    name: str
    args: dict[str, Any] = field(default_factory=dict)


Event = (
    SessionStarted
    | KlineClosed
    | Quotes
    | Funding
    | OrderUpdate
    | CancelRejected
    | Fill
    | AccountUpdate
    | AccountSnapshot
    | LeverageSet
    | MarginTypeSet
    | MarginCall
    | TimerFired
    | FeedLost
    | FeedRestored
    | Command
)
