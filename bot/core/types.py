"""Trading types: sides, orders, klines, instruments with their rounding, positions and refusals."""

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from enum import Enum, StrEnum
from typing import Final, NamedTuple

REAL_VENUES: Final = ("testnet", "live")  # external venues: what is open there outlives the process


class Side(Enum):
    """Direction of a trade; each formula is written once, using `sign`."""

    LONG = 1
    SHORT = -1

    def __init__(self, sign: int) -> None:
        self.sign = sign  # a plain attribute, because it is read at every step and an enum's `value` is slow

    @property
    def entry(self) -> "OrderSide":
        """The order side that opens a position in this direction."""
        return OrderSide.BUY if self is Side.LONG else OrderSide.SELL

    @property
    def exit(self) -> "OrderSide":
        """The order side that closes it."""
        return OrderSide.SELL if self is Side.LONG else OrderSide.BUY

    @property
    def opposite(self) -> "Side":
        """The other direction."""
        return Side.SHORT if self is Side.LONG else Side.LONG


class OrderSide(StrEnum):
    """Binance's order side."""

    BUY = "BUY"
    SELL = "SELL"

    def __init__(self, name: str) -> None:
        self.sign = 1 if name == "BUY" else -1


class OrderType(StrEnum):
    """Order types that the bot uses; STOP_MARKET goes to the algo service (venue notes 2.1)."""

    LIMIT = "LIMIT"
    MARKET = "MARKET"
    STOP_MARKET = "STOP_MARKET"


class TimeInForce(StrEnum):
    """GTC rests, IOC takes immediately or expires, GTX is post-only."""

    GTC = "GTC"
    IOC = "IOC"
    GTX = "GTX"


class OrderStatus(StrEnum):
    """Status of regular and algo orders. UNKNOWN: sent, outcome not known, being resolved by query."""

    PENDING = "PENDING"  # journalled, not yet acknowledged
    UNKNOWN = "UNKNOWN"
    NEW = "NEW"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    TRIGGERED = "TRIGGERED"  # an algo order became a regular one
    FILLED = "FILLED"
    CANCELED = "CANCELED"
    EXPIRED = "EXPIRED"
    REJECTED = "REJECTED"  # by the exchange; an order that the bot refuses is Denied and never sent

    def __init__(self, name: str) -> None:
        self.is_terminal = name in ("FILLED", "CANCELED", "EXPIRED", "REJECTED")  # the order can no longer change
        self.is_accepted = name in ("NEW", "TRIGGERED", "PARTIALLY_FILLED")  # the exchange holds it


class Kline(NamedTuple):
    """One closed bar. Prices in quote, volumes in base units, `open_ms` UTC epoch ms of the bar's open."""

    symbol: str
    interval_ms: int
    open_ms: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    taker_buy_volume: float  # NaN where the source lacks it

    @property
    def close_ms(self) -> int:
        """Close time of the bar (the next bar's open), UTC epoch ms."""
        return self.open_ms + self.interval_ms


class Quote(NamedTuple):
    """Best bid and ask with their quantities."""

    bid: Decimal
    bid_qty: Decimal
    ask: Decimal
    ask_qty: Decimal


class Tier(NamedTuple):
    """One maintenance-margin bracket: maintenance = notional * rate - cum, up to `cap` notional."""

    cap: Decimal
    max_leverage: int
    rate: Decimal
    cum: Decimal


class Round(Enum):
    """Direction of rounding a price to the tick."""

    DOWN = ROUND_FLOOR
    UP = ROUND_CEILING
    NEAREST = ROUND_HALF_EVEN

    def __init__(self, mode: str) -> None:
        self.mode = mode


def to_decimal(value: float | int | str | Decimal) -> Decimal:
    """Return `value` as a Decimal; a float is converted by its shortest repr."""
    return value if isinstance(value, Decimal) else Decimal(str(value))


@dataclass(frozen=True, slots=True)
class Instrument:
    """A symbol's filters, maintenance tiers and fees as reported by the venue; converts float64 to rounded Decimal."""

    symbol: str
    tick: Decimal
    lot: Decimal
    min_qty: Decimal
    max_qty: Decimal
    market_max_qty: Decimal
    min_notional: Decimal
    tiers: tuple[Tier, ...]
    maker_fee: Decimal
    taker_fee: Decimal
    trading: bool = True  # status TRADING; anything else vetoes entries

    def price(self, value: float | Decimal, rounding: Round = Round.NEAREST) -> Decimal:
        """Round a price to the tick.

        >>> from decimal import Decimal as D
        >>> i = Instrument("BTCUSDT", D("0.10"), D("0.001"), D("0.001"), D(1000), D(120), D(50), (), D(0), D(0))
        >>> i.price(60000.17, Round.DOWN), i.qty(0.0129)
        (Decimal('60000.10'), Decimal('0.012'))
        """
        steps = (to_decimal(value) / self.tick).to_integral_value(rounding=rounding.mode)
        return (steps * self.tick).quantize(self.tick)

    def qty(self, value: float | Decimal) -> Decimal:
        """Round a quantity down to the lot; never negative."""
        steps = (to_decimal(value) / self.lot).to_integral_value(rounding=ROUND_DOWN)
        return max(steps * self.lot, Decimal(0)).quantize(self.lot)


@dataclass(frozen=True, slots=True)
class Denied:
    """A refusal by the bot: a short code that is counted, and a sentence with the values compared."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class PositionReport:
    """A position as reported by the venue; `qty` is signed."""

    symbol: str
    qty: Decimal
    entry_price: Decimal
    isolated_wallet: Decimal = Decimal(0)
    unrealized: Decimal = Decimal(0)
    update_ms: int = 0  # last change, exchange time; 0 = not reported


@dataclass(frozen=True, slots=True)
class Income:
    """One entry of the account's income history: a wallet change and its kind (TRANSFER, FUNDING_FEE, ...)."""

    at_ms: int
    kind: str
    symbol: str  # empty for transfers
    amount: Decimal  # in quote, positive = received
    number: int = 0  # unique together with the kind


@dataclass(frozen=True, slots=True)
class OrderReport:
    """A working order, regular or algo, as reported by the venue."""

    client_id: str
    symbol: str
    side: OrderSide
    order_type: OrderType
    status: OrderStatus
    qty: Decimal
    filled_qty: Decimal
    average_price: Decimal
    price: Decimal  # limit price, or the trigger of an algo order
    reduce_only: bool
    close_position: bool
    algo: bool
    update_ms: int
