"""Orders held at the exchange: regular orders in the book, conditional (algo) orders outside it, and their fills.

Binance keeps the two separate (venue notes 2.1): a conditional order has an `algoId` and its own statuses, and becomes
a regular order with a new `orderId` at its trigger price; the regular order then carries the `clientAlgoId` as its
client id.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Final, NamedTuple

LIVE: Final = frozenset({"NEW", "PARTIALLY_FILLED"})
ALGO_LIVE: Final = frozenset({"NEW", "TRIGGERING", "TRIGGERED"})
CONDITIONAL: Final = frozenset({"STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET", "TRAILING_STOP_MARKET"})


@dataclass(slots=True, eq=False)
class VenueOrder:
    """A regular order; `price` in ticks (0 for MARKET), quantities in lots, `cost` in ticks x lots."""

    order_id: int
    client_id: str
    symbol: str
    buy: bool
    type: str
    tif: str
    lots: int
    price: int
    reduce_only: bool
    created_ms: int
    updated_ms: int = 0
    status: str = "NEW"
    filled: int = 0
    cost: int = 0
    bound: int = 0  # worst price a MARKET order may take, ticks; 0 = none
    ahead: int = 0  # lots queued ahead of it at its price
    er: str = "0"
    stp: str = "EXPIRE_MAKER"
    orig_type: str = ""
    trigger: Decimal = Decimal(0)
    working_type: str = "CONTRACT_PRICE"
    close_position: bool = False
    price_protect: bool = False
    algo: "Algo | None" = None
    amends: int = 0
    price_match: str = "NONE"
    gtd: int = 0  # goodTillDate, ms; 0 = good till cancelled
    forced: str = ""  # initiated by the exchange: liquidation, adl or settlement

    @property
    def left(self) -> int:
        """Lots not yet filled."""
        return self.lots - self.filled

    @property
    def live(self) -> bool:
        """Whether it can still trade."""
        return self.status in LIVE

    @property
    def sign(self) -> int:
        """+1 for BUY, -1 for SELL."""
        return 1 if self.buy else -1

    @property
    def side(self) -> str:
        """Binance's side, BUY or SELL."""
        return "BUY" if self.buy else "SELL"


@dataclass(slots=True, eq=False)
class Algo:
    """A conditional order; `lots` is 0 with `close_position`."""

    algo_id: int
    client_id: str
    symbol: str
    buy: bool
    type: str
    tif: str
    lots: int
    price: int
    trigger: Decimal
    reduce_only: bool
    close_position: bool
    created_ms: int
    working_type: str = "CONTRACT_PRICE"
    price_protect: bool = False
    stp: str = "EXPIRE_MAKER"
    callback: Decimal = Decimal(0)  # per cent, TRAILING_STOP_MARKET
    activate: Decimal = Decimal(0)
    extreme: Decimal = Decimal(0)  # best price since the trail was activated
    updated_ms: int = 0
    triggered_ms: int = 0
    status: str = "NEW"
    reject: str = ""
    order: VenueOrder | None = None
    price_match: str = "NONE"
    gtd: int = 0
    early: bool = False  # placed without a position, waiting for one

    @property
    def guards(self) -> bool:
        """Whether it expires with the position that it can close (time in force GTE_GTC)."""
        return self.tif == "GTE_GTC"

    @property
    def live(self) -> bool:
        """Whether it is not in a terminal state: not triggered yet, or its order working."""
        return self.status in ALGO_LIVE

    @property
    def stop(self) -> bool:
        """Whether it is a stop (STOP*, TRAILING*), not a target."""
        return not self.type.startswith("TAKE")

    @property
    def sign(self) -> int:
        """+1 for BUY, -1 for SELL."""
        return 1 if self.buy else -1

    @property
    def side(self) -> str:
        """Binance's side, BUY or SELL."""
        return "BUY" if self.buy else "SELL"


class VenueFill(NamedTuple):
    """One fill of our orders."""

    at_ms: int
    trade_id: int
    order: VenueOrder
    lots: int
    price: int
    maker: bool
    fee: Decimal
    realized: Decimal


class Tick(NamedTuple):
    """One market trade and the book after it; prices in ticks, quantities in lots."""

    at_ms: int
    price: int
    lots: int
    seller: bool  # the aggressor sold: Binance's m, the buyer is the maker
    bid: int
    bid_lots: int
    ask: int
    ask_lots: int
