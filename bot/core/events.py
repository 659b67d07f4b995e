"""Events: the inputs of the engine. Every event is frozen, carries its own exchange time, and is journalled.

`at_ms` is always exchange time (UTC epoch ms): the event time E of a push, the update time of a reply, or the Clock's
time for timers. The engine's current time is the largest `at_ms` it has seen.
"""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from bot.core.types import Income, Instrument, Kline, OrderReport, OrderSide, OrderStatus, PositionReport, Quote


@dataclass(frozen=True, slots=True)
class SessionStarted:
    """First event of every session: the venue, its wallet and its instruments."""

    at_ms: int
    venue: str
    wallet: Decimal
    instruments: tuple[Instrument, ...]


@dataclass(frozen=True, slots=True)
class KlineClosed:
    """A bar closed. `filled` marks a flat bar in place of a missing one; `history` bars only warm up indicators.

    An `early` bar was built from trades and closed by the clock: its decision uses a copy of the state, and the
    exchange's own bar, which arrives later, advances the actual state.
    """

    at_ms: int
    kline: Kline
    filled: bool = False
    history: bool = False
    early: bool = False


@dataclass(frozen=True, slots=True)
class Quotes:
    """Latest best prices per symbol, coalesced: handled immediately before an event that may read them."""

    at_ms: int
    quotes: tuple[tuple[str, Quote], ...]


@dataclass(frozen=True, slots=True)
class Funding:
    """Current mark price and funding rate of a symbol; the rate is a fraction per `interval_hours`."""

    at_ms: int
    symbol: str
    mark: Decimal
    rate: Decimal
    next_funding_ms: int
    interval_hours: int = 8


@dataclass(frozen=True, slots=True)
class OrderUpdate:
    """An order's state, from the user stream, a REST reply or a query; merged monotonically by the ledger.

    `status` UNKNOWN means that the request's outcome is not yet known; a later OrderUpdate resolves it.
    `code` is Binance's error code when REJECTED (-5022, -2021, ...). For a failed cancel, see `CancelRejected`.
    """

    at_ms: int
    client_id: str
    symbol: str
    status: OrderStatus
    side: OrderSide
    qty: Decimal
    filled_qty: Decimal
    average_price: Decimal  # 0 while unfilled
    order_id: str = ""
    algo: bool = False
    code: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class CancelRejected:
    """A cancel was rejected (-2011) and the follow-up query was inconclusive: usually the order is already terminal."""

    at_ms: int
    client_id: str
    symbol: str
    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Fill:
    """One execution on our account, identified by (symbol, trade_id). `fee` in quote, positive = paid."""

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
    """Wallet and positions after a change. `reason` is Binance's field m (ORDER, FUNDING_FEE, ...)."""

    at_ms: int
    reason: str
    wallet: Decimal
    balance_change: Decimal
    positions: tuple[PositionReport, ...]


@dataclass(frozen=True, slots=True)
class AccountSnapshot:
    """Complete account state at the venue at one instant: the input of reconciliation.

    `income` holds the account's income entries since the requested time; None if not requested.
    """

    at_ms: int
    wallet: Decimal
    positions: tuple[PositionReport, ...]
    orders: tuple[OrderReport, ...]
    fills: tuple[Fill, ...] = ()
    income: tuple[Income, ...] | None = None


@dataclass(frozen=True, slots=True)
class LeverageSet:
    """The venue accepted or reported a symbol's leverage."""

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
    """The venue sent a margin call for the positions in these symbols."""

    at_ms: int
    symbols: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TimerFired:
    """A timer set by the engine is due."""

    at_ms: int
    name: str


@dataclass(frozen=True, slots=True)
class FeedLost:
    """A stream is stale or disconnected: no decision on its data until FeedRestored."""

    at_ms: int
    stream: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class FeedRestored:
    """The stream is live again and its gap has been filled."""

    at_ms: int
    stream: str


@dataclass(frozen=True, slots=True)
class Command:
    """A command of the operator or a job: `arm`, `stop_entries`, `start_entries`, `flatten`, `shutdown`."""

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
