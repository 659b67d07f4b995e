"""Intents: the engine's outputs. They are values; a shell executes them and replies with events."""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from bot.core.types import OrderSide, OrderType, TimeInForce


@dataclass(frozen=True, slots=True)
class PlaceOrder:
    """Place one order. STOP_MARKET goes to the algo service with `trigger_price`; `close_position` excludes `qty`."""

    client_id: str
    symbol: str
    side: OrderSide
    order_type: OrderType
    qty: Decimal
    price: Decimal | None = None
    time_in_force: TimeInForce | None = None
    trigger_price: Decimal | None = None
    reduce_only: bool = False
    close_position: bool = False
    working_type: str = "CONTRACT_PRICE"

    @property
    def algo(self) -> bool:
        """Whether the order belongs to the algo service."""
        return self.order_type is OrderType.STOP_MARKET


@dataclass(frozen=True, slots=True)
class CancelOrder:
    """Cancel an order by client id."""

    client_id: str
    symbol: str
    algo: bool = False


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Request TimerFired(name) `delay_ms` after the event being handled; replaces a timer of the same name."""

    name: str
    delay_ms: int


@dataclass(frozen=True, slots=True)
class CancelTimer:
    """Cancel a timer."""

    name: str


@dataclass(frozen=True, slots=True)
class SetLeverage:
    """Set a symbol's leverage (only while flat)."""

    symbol: str
    leverage: int


@dataclass(frozen=True, slots=True)
class RequestSnapshot:
    """Request an AccountSnapshot for reconciliation.

    With `income_since_ms` the snapshot includes the account's income entries since then.
    """

    reason: str
    income_since_ms: int = 0


@dataclass(frozen=True, slots=True)
class LookUp:
    """Query the state of an order that is not among the working orders, or whose outcome was never reported.

    The reply is an `OrderUpdate`: the state reported by the exchange, or REJECTED (EXPIRED if it had been `accepted`)
    with code -2013 once it is proven that the exchange has no such order.
    """

    client_id: str
    symbol: str
    side: OrderSide
    qty: Decimal
    sent_ms: int
    algo: bool = False
    accepted: bool = False


@dataclass(frozen=True, slots=True)
class Alert:
    """Notify the operator. `level` is info, warning or critical."""

    level: str
    text: str
    payload: dict[str, Any] = field(default_factory=dict)


Intent = PlaceOrder | CancelOrder | SetTimer | CancelTimer | SetLeverage | RequestSnapshot | LookUp | Alert
