"""Models of the exchange's REST replies, one per endpoint that is read (venue notes 2).

Where a reply covers more than was requested (all symbols, all assets), only the relevant lines are validated: a contract of
another kind may have any form.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, TypeVar, cast

from pydantic import BeforeValidator, FailFast, Field

from bot.core.errors import WireError
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
    OrderId,
    OrderIdOrEmpty,
    Positive,
    Real,
    Stamp,
    StampOrZero,
    Whole,
    reader,
    shortened,
)
from bot.execution.models_push import AlgoState, OrderState

M = TypeVar("M", bound=Message)

MOST_SYMBOLS: Final = 10_000
MOST_BRACKETS: Final = 100
MOST_FILTERS: Final = 100
MOST_ORDERS: Final = 5_000
MOST_ROWS: Final = 1_500  # trades, income entries, bars in one reply


# Lists of which only some lines are read ---------------------------------------------------------------------------------

_objects: Final = reader(dict[str, Any], MOST_SYMBOLS)


def lines(payload: Any, key: str, wanted: Callable[[str], bool], model: type[M]) -> list[M]:
    """Return the lines of a list whose `key` is wanted.

    Parameters
    ----------
    key
        The key whose value `wanted` is called with.
    wanted
        Returns whether a line is to be read.
    model
        Validates the wanted lines.

    Raises
    ------
    WireError
        `payload` is not a list of objects, or a wanted line does not fit.
    """
    return [model.of(line) for line in _objects(payload) if isinstance(line.get(key), str) and wanted(line[key])]


def one(found: list[M], what: str, payload: Any) -> M:
    """Return the only line of `found`.

    Raises
    ------
    WireError
        There is none, or more than one.
    """
    if len(found) != 1:
        raise WireError(f"the exchange's reply holds {len(found)} lines of {what}: {shortened(payload)}")
    return found[0]


# Session --------------------------------------------------------------------------------------------------------------


class ServerTime(Message):
    """`GET time`."""

    server_ms: Annotated[Stamp, Field(gt=0)] = Field(alias="serverTime")


class RateLimit(Message):
    """One limit of exchangeInfo; kinds that the bot does not know are ignored."""

    kind: NameOrEmpty = Field(default="", alias="rateLimitType")
    interval: NameOrEmpty = ""
    limit: Annotated[int, Field(ge=1, le=10_000_000)]


class ExchangeInfo(Message):
    """`GET exchangeInfo`: the limits and, unread, the symbols; `lines` reads the requested ones."""

    rate_limits: Annotated[list[RateLimit], FailFast()] = Field(default=[], alias="rateLimits", max_length=MOST_FILTERS)
    symbols: list[dict[str, Any]] = Field(max_length=MOST_SYMBOLS)


class PriceFilter(Message):
    """PRICE_FILTER."""

    kind: Literal["PRICE_FILTER"] = Field(alias="filterType")
    tick: Positive = Field(alias="tickSize")


class LotFilter(Message):
    """LOT_SIZE."""

    kind: Literal["LOT_SIZE"] = Field(alias="filterType")
    step: Positive = Field(alias="stepSize")
    min_qty: Amount = Field(alias="minQty")
    max_qty: Positive = Field(alias="maxQty")


class MarketLotFilter(Message):
    """MARKET_LOT_SIZE."""

    kind: Literal["MARKET_LOT_SIZE"] = Field(alias="filterType")
    max_qty: Positive = Field(alias="maxQty")


class NotionalFilter(Message):
    """MIN_NOTIONAL."""

    kind: Literal["MIN_NOTIONAL"] = Field(alias="filterType")
    notional: Amount


class Listed(Message):
    """One symbol of exchangeInfo."""

    symbol: Name
    status: Name
    filters: list[dict[str, Any]] = Field(max_length=MOST_FILTERS)


class BracketLine(Message):
    """One maintenance tier."""

    cap: Positive = Field(alias="notionalCap")
    max_leverage: Annotated[int, Field(ge=1, le=1_000)] = Field(alias="initialLeverage")
    rate: Positive = Field(alias="maintMarginRatio")
    cum: Amount


class Brackets(Message):
    """One symbol of `GET leverageBracket`."""

    symbol: Name
    brackets: Annotated[list[BracketLine], FailFast()] = Field(min_length=1, max_length=MOST_BRACKETS)


LARGEST_FEE: Final = Decimal("0.01")  # no venue charges 1 % of the notional


class Commission(Message):
    """`GET commissionRate`."""

    symbol: Name
    maker: Annotated[Number, Field(ge=-LARGEST_FEE, le=LARGEST_FEE)] = Field(alias="makerCommissionRate")
    taker: Annotated[Number, Field(ge=-LARGEST_FEE, le=LARGEST_FEE)] = Field(alias="takerCommissionRate")


class FundingHours(Message):
    """One symbol of `GET fundingInfo`."""

    symbol: Name
    hours: Annotated[int, Field(ge=1, le=24)] = Field(default=8, alias="fundingIntervalHours")


# The account's settings -----------------------------------------------------------------------------------------------


class AccountConfig(Message):
    """`GET accountConfig`."""

    can_trade: bool = Field(alias="canTrade")
    is_hedged: bool = Field(alias="dualSidePosition")
    is_multi_assets: bool = Field(alias="multiAssetsMargin")


class SymbolConfig(Message):
    """One symbol of `GET symbolConfig`."""

    symbol: Name
    margin_type: Name = Field(alias="marginType")
    leverage: Annotated[int, Field(ge=1, le=1_000)]

    @property
    def is_isolated(self) -> bool:
        """Whether the symbol is on isolated margin (Binance writes ISOLATED, isolated and ISOLATED_MARGIN)."""
        return self.margin_type.upper() in ("ISOLATED", "ISOLATED_MARGIN")


class FeeBurn(Message):
    """`GET feeBurn`."""

    in_bnb: bool = Field(alias="feeBurn")


class LeverageReply(Message):
    """`POST leverage`."""

    symbol: Name
    leverage: Annotated[int, Field(ge=1, le=1_000)]


class Permissions(Message):
    """`GET apiRestrictions`: the key's permissions beyond reading."""

    futures: bool = Field(alias="enableFutures")
    withdrawals: bool = Field(default=False, alias="enableWithdrawals")
    internal_transfer: bool = Field(default=False, alias="enableInternalTransfer")
    universal_transfer: bool = Field(default=False, alias="permitsUniversalTransfer")
    listed_addresses_only: bool = Field(default=False, alias="ipRestrict")
    portfolio_margin: bool = Field(default=False, alias="enablePortfolioMarginTrading")


# Market ---------------------------------------------------------------------------------------------------------------


def _first_columns(row: Any) -> Any:
    return row[:10] if isinstance(row, list) else row


Row = tuple[int, float, float, float, float, float, Any, Any, Any, float]
#: A row of `GET klines`: open time, open, high, low, close, volume, close time, quote volume, trades, taker's volume.
KlineRow = Annotated[tuple[Stamp, Real, Real, Real, Real, Real, Any, Any, Any, Real], BeforeValidator(_first_columns)]
kline_rows: Final[Callable[[Any], list[Row]]] = reader(cast(Any, KlineRow), MOST_ROWS)


class PremiumIndex(Message):
    """`GET premiumIndex`."""

    symbol: Name
    mark: Positive = Field(alias="markPrice")
    rate: NumberOrZero = Field(default=ZERO, alias="lastFundingRate")
    next_funding_ms: StampOrZero = Field(alias="nextFundingTime")
    at_ms: Stamp = Field(alias="time")


class BookTicker(Message):
    """`GET ticker/bookTicker`."""

    symbol: Name
    bid: Positive = Field(alias="bidPrice")
    bid_qty: Amount = Field(alias="bidQty")
    ask: Positive = Field(alias="askPrice")
    ask_qty: Amount = Field(alias="askQty")
    at_ms: StampOrZero = Field(default=0, alias="time")


# Account --------------------------------------------------------------------------------------------------------------


class Balance(Message):
    """One asset of `GET balance`."""

    asset: Name
    balance: Number


class PositionReply(Message):
    """One position of `GET positionRisk` (v2 or v3)."""

    symbol: Name
    position_side: NameOrEmpty = Field(default="BOTH", alias="positionSide")
    qty: Number = Field(alias="positionAmt")
    entry_price: Amount = Field(alias="entryPrice")
    isolated_wallet: NumberOrZero = Field(default=ZERO, alias="isolatedWallet")
    unrealized: NumberOrZero = Field(default=ZERO, alias="unRealizedProfit")
    update_ms: StampOrZero = Field(default=0, alias="updateTime")


class OrderReply(Message):
    """A regular order: the reply to placing, cancelling or querying it."""

    symbol: Name
    client_id: ClientId = Field(alias="clientOrderId")
    order_id: OrderId = Field(alias="orderId")
    side: OrderSide
    original_kind: NameOrEmpty = Field(default="", alias="origType")
    state: OrderState = Field(alias="status")
    qty: Amount = Field(alias="origQty")
    filled_qty: Amount = Field(alias="executedQty")
    average_price: AmountOrZero = Field(default=ZERO, alias="avgPrice")
    price: AmountOrZero = ZERO
    reduce_only: bool = Field(default=False, alias="reduceOnly")
    close_position: bool = Field(default=False, alias="closePosition")
    update_ms: Stamp = Field(alias="updateTime")


class OpenOrder(OrderReply):
    """A line of openOrders."""

    kind: Name = Field(alias="type")


class AlgoOrder(Message):
    """An algo order: the reply to placing or querying it."""

    symbol: Name
    client_id: ClientId = Field(alias="clientAlgoId")
    algo_id: OrderId = Field(alias="algoId")
    side: OrderSide
    state: AlgoState = Field(alias="algoStatus")
    qty: AmountOrZero = Field(default=ZERO, alias="quantity")
    filled_qty: AmountOrZero = Field(default=ZERO, alias="actualQty")
    average_price: AmountOrZero = Field(default=ZERO, alias="actualPrice")
    trigger_price: AmountOrZero = Field(default=ZERO, alias="triggerPrice")
    order_id: OrderIdOrEmpty = Field(default="", alias="actualOrderId")
    reduce_only: bool = Field(default=False, alias="reduceOnly")
    close_position: bool = Field(default=False, alias="closePosition")
    created_ms: StampOrZero = Field(default=0, alias="createTime")
    changed_ms: StampOrZero = Field(default=0, alias="updateTime")

    @property
    def update_ms(self) -> int:
        """Time of the last change, UTC epoch ms."""
        return self.changed_ms or self.created_ms


class OpenAlgoOrder(AlgoOrder):
    """A line of openAlgoOrders."""

    kind: Name = Field(alias="orderType")


class AlgoCanceled(Message):
    """`DELETE algoOrder`: only the ids."""

    client_id: ClientId = Field(alias="clientAlgoId")
    algo_id: OrderId = Field(alias="algoId")


class TradeReply(Message):
    """A line of userTrades."""

    symbol: Name
    trade_id: Count = Field(alias="id")
    order_id: OrderId = Field(alias="orderId")
    client_id: NameOrEmpty = Field(default="", alias="clientOrderId")
    side: OrderSide
    qty: Positive
    price: Positive
    fee: NumberOrZero = Field(default=ZERO, alias="commission")
    fee_asset: NameOrEmpty = Field(default="", alias="commissionAsset")
    maker: bool = False
    realized: NumberOrZero = Field(default=ZERO, alias="realizedPnl")
    at_ms: Stamp = Field(alias="time")


class IncomeLine(Message):
    """A line of `GET income`."""

    asset: NameOrEmpty = ""
    symbol: NameOrEmpty = ""
    kind: Name = Field(alias="incomeType")
    amount: Number = Field(alias="income")
    number: Whole = Field(alias="tranId")
    at_ms: Stamp = Field(alias="time")


positions: Final = reader(PositionReply, MOST_SYMBOLS)
orders: Final = reader(OpenOrder, MOST_ORDERS)
algo_orders: Final = reader(OpenAlgoOrder, MOST_ORDERS)
trades: Final = reader(TradeReply, MOST_ROWS)
incomes: Final = reader(IncomeLine, MOST_ROWS)
