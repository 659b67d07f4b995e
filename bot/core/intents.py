"""What the engine wants done. Intents are values; a shell performs them and answers with events."""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from bot.core.types import OrderSide, OrderType, TimeInForce


@dataclass(frozen=True, slots=True)
class PlaceOrder:
    """Send one order. STOP_MARKET goes to the algo service with `trigger_price`; with `close_position` there is no qty."""

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
    """Cancel by client id."""

    client_id: str
    symbol: str
    algo: bool = False


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Ask for TimerFired(name) `delay_ms` after the event now being handled; a timer of the same name is replaced."""

    name: str
    delay_ms: int


@dataclass(frozen=True, slots=True)
class CancelTimer:
    """Forget a timer."""

    name: str


@dataclass(frozen=True, slots=True)
class SetLeverage:
    """Set a symbol's leverage (only while flat)."""

    symbol: str
    leverage: int


@dataclass(frozen=True, slots=True)
class RequestSnapshot:
    """Ask for an AccountSnapshot: something needs reconciling.

    With `income_since_ms` the snapshot also brings the account's bookings since then.
    """

    reason: str
    income_since_ms: int = 0


@dataclass(frozen=True, slots=True)
class LookUp:
    """Find out what became of an order: it is not among the working ones, or its outcome was never heard.

    Answered by an `OrderUpdate`: what the exchange tells, or REJECTED (EXPIRED if it had been `accepted`) with code -2013
    once it is proved that the exchange knows no such order.
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
    """Tell the person. `level` is info, warning or critical."""

    level: str
    text: str
    payload: dict[str, Any] = field(default_factory=dict)


Intent = PlaceOrder | CancelOrder | SetTimer | CancelTimer | SetLeverage | RequestSnapshot | LookUp | Alert
