"""Models of the frames that the exchange pushes, one per kind; the one-letter keys are Binance's (venue notes 3)."""

from typing import Annotated, Literal

from pydantic import FailFast, Field

from bot.core.types import OrderSide
from bot.execution.models import (
    ZERO,
    Amount,
    AmountOrZero,
    ClientId,
    Count,
    Message,
    Name,
    NameOrEmpty,
    Number,
    NumberOrZero,
    OptionalName,
    OrderId,
    OrderIdOrEmpty,
    Positive,
    Real,
    Stamp,
    StampOrZero,
    Words,
)

MOST_LINES = 1_000  # balances or positions in one update
OrderState = Literal[
    "NEW", "PARTIALLY_FILLED", "FILLED", "CANCELED", "REJECTED", "EXPIRED", "EXPIRED_IN_MATCH", "NEW_INSURANCE", "NEW_ADL"
]  # fmt: skip
AlgoState = Literal["NEW", "TRIGGERING", "TRIGGERED", "FINISHED", "CANCELED", "REJECTED", "EXPIRED"]


class Push(Message):
    """Base of all frames: the time of the event."""

    event_ms: Stamp = Field(alias="E")


# Market ---------------------------------------------------------------------------------------------------------------


class MarketPush(Push):
    """Base of all frames about one symbol's market."""

    symbol: Name = Field(alias="s")


class KlineBar(Message):
    """The bar inside a kline frame."""

    open_ms: Stamp = Field(alias="t")
    symbol: Name = Field(alias="s")
    interval: Name = Field(alias="i")
    open: Real = Field(alias="o")
    high: Real = Field(alias="h")
    low: Real = Field(alias="l")
    close: Real = Field(alias="c")
    volume: Real = Field(alias="v")
    taker_buy_volume: Real = Field(alias="V")
    is_closed: bool = Field(alias="x", strict=True)


class KlinePush(MarketPush):
    """`kline`."""

    bar: KlineBar = Field(alias="k")


class BookTickerPush(MarketPush):
    """`bookTicker`."""

    number: Count = Field(alias="u")
    bid: Positive = Field(alias="b")
    bid_qty: Amount = Field(alias="B")
    ask: Positive = Field(alias="a")
    ask_qty: Amount = Field(alias="A")


class MarkPricePush(MarketPush):
    """`markPriceUpdate`; the rate is empty for a contract without funding."""

    mark: Positive = Field(alias="p")
    rate: Annotated[Number | Literal[""] | None, Field(union_mode="left_to_right")] = Field(default=None, alias="r")
    next_funding_ms: StampOrZero = Field(default=0, alias="T")


class AggTradePush(MarketPush):
    """`aggTrade`."""

    number: Count = Field(alias="a")
    price: Positive = Field(alias="p")
    qty: Amount = Field(alias="q")
    trade_ms: Stamp = Field(alias="T")
    buyer_is_maker: bool = Field(default=False, alias="m")


# Account --------------------------------------------------------------------------------------------------------------


class OrderBody(Message):
    """The order inside ORDER_TRADE_UPDATE."""

    symbol: Name = Field(alias="s")
    client_id: ClientId = Field(alias="c")
    side: OrderSide = Field(alias="S")
    execution: Name = Field(alias="x")
    state: OrderState = Field(alias="X")
    order_id: OrderId = Field(alias="i")
    qty: Amount = Field(alias="q")
    filled_qty: Amount = Field(alias="z")
    average_price: AmountOrZero = Field(default=ZERO, alias="ap")
    original_type: OptionalName = Field(default=None, alias="ot")
    last_qty: AmountOrZero = Field(default=ZERO, alias="l")
    last_price: AmountOrZero = Field(default=ZERO, alias="L")
    fee: NumberOrZero = Field(default=ZERO, alias="n")
    fee_asset: OptionalName = Field(default=None, alias="N")
    maker: bool = Field(default=False, alias="m")
    trade_ms: Stamp = Field(alias="T")
    trade_id: Count = Field(alias="t")
    realized: NumberOrZero = Field(default=ZERO, alias="rp")
    expiry: Annotated[str, Field(max_length=8, coerce_numbers_to_str=True)] = Field(default="0", alias="er")


class OrderPush(Push):
    """`ORDER_TRADE_UPDATE`."""

    order: OrderBody = Field(alias="o")


class AlgoBody(Message):
    """The order inside ALGO_UPDATE."""

    symbol: Name = Field(alias="s")
    client_id: ClientId = Field(alias="caid")
    algo_id: OrderId = Field(alias="aid")
    side: OrderSide = Field(alias="S")
    state: AlgoState = Field(alias="X")
    qty: AmountOrZero = Field(default=ZERO, alias="q")
    filled_qty: AmountOrZero = Field(default=ZERO, alias="aq")
    average_price: AmountOrZero = Field(default=ZERO, alias="ap")
    order_id: OrderIdOrEmpty = Field(default="", alias="ai")
    reason: Words = Field(default="", alias="rm")


class AlgoPush(Push):
    """`ALGO_UPDATE`."""

    order: AlgoBody = Field(alias="o")


class BalanceLine(Message):
    """One asset of ACCOUNT_UPDATE."""

    asset: Name = Field(alias="a")
    wallet: Number = Field(alias="wb")
    change: NumberOrZero = Field(default=ZERO, alias="bc")


class PositionLine(Message):
    """One position of ACCOUNT_UPDATE."""

    symbol: Name = Field(alias="s")
    qty: Number = Field(alias="pa")
    entry_price: Amount = Field(alias="ep")
    isolated_wallet: NumberOrZero = Field(default=ZERO, alias="iw")
    unrealized: NumberOrZero = Field(default=ZERO, alias="up")
    margin_type: OptionalName = Field(default=None, alias="mt")
    position_side: OptionalName = Field(default="BOTH", alias="ps")


class AccountBody(Message):
    """The changes inside ACCOUNT_UPDATE."""

    reason: NameOrEmpty = Field(default="", alias="m")
    balances: Annotated[list[BalanceLine], FailFast()] = Field(default=[], alias="B", max_length=MOST_LINES)
    positions: Annotated[list[PositionLine], FailFast()] = Field(default=[], alias="P", max_length=MOST_LINES)


class AccountPush(Push):
    """`ACCOUNT_UPDATE`."""

    change: AccountBody = Field(alias="a")


class LeverageBody(Message):
    """A symbol's leverage, inside ACCOUNT_CONFIG_UPDATE."""

    symbol: Name = Field(alias="s")
    leverage: Annotated[int, Field(ge=1, le=1_000)] = Field(alias="l")


class ConfigPush(Push):
    """`ACCOUNT_CONFIG_UPDATE`: a symbol's leverage, or a setting of the account."""

    leverage: LeverageBody | None = Field(default=None, alias="ac")


class MarginCallLine(Message):
    """One position of MARGIN_CALL."""

    symbol: Name = Field(alias="s")


class MarginCallPush(Push):
    """`MARGIN_CALL`."""

    positions: Annotated[list[MarginCallLine], FailFast()] = Field(alias="p", max_length=MOST_LINES)


class KeyExpiredPush(Push):
    """`listenKeyExpired`."""
