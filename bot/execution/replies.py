"""Convert Binance's REST replies into events, reports and instruments: pure functions of a reply's JSON.

Its model (`models_rest.py`) defines what a reply may hold. All functions raise `WireError` for a reply that does not fit or is
about another symbol than requested; `rest.py` treats it like a reply that never came.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from bot.core.errors import WireError
from bot.core.events import Fill, Funding, OrderUpdate
from bot.core.intents import PlaceOrder
from bot.core.types import (
    Income,
    Instrument,
    Kline,
    OrderReport,
    OrderStatus,
    OrderType,
    PositionReport,
    Quote,
    Tier,
)
from bot.execution import models_rest as models
from bot.execution.models import shortened
from bot.execution.models_rest import (
    AccountConfig,
    AlgoOrder,
    OpenAlgoOrder,
    OpenOrder,
    OrderReply,
    Permissions,
    SymbolConfig,
    TradeReply,
)
from bot.execution.wire import (
    CONDITIONAL,
    ORDER_STATUS,
    QUOTE_ASSET,
    FeeRates,
    algo_status,
    fee_in_quote,
    settlement,
    sound,
)


def about(symbol: str, told: str) -> str:
    """Return the requested symbol; raises `WireError` if the reply is about another one."""
    if told != symbol:
        raise WireError(f"the exchange answered about {told} when {symbol} was asked for")
    return symbol


# Session --------------------------------------------------------------------------------------------------------------


def server_time(payload: Any) -> int:
    """Return the exchange's time."""
    return models.ServerTime.of(payload).server_ms


@dataclass(frozen=True, slots=True)
class Listing:
    """The requested symbols of exchangeInfo, and the venue's limits by their names in `RequestLimits`."""

    symbols: dict[str, Instrument]  # without tiers and fees, which come in other replies
    limits: dict[str, int]


def listing(payload: Any, symbols: Sequence[str]) -> Listing:
    """Return the relevant part of exchangeInfo; a symbol that it does not list is missing from the result.

    Raises
    ------
    WireError
        A symbol is listed twice, or the reply does not fit.
    """
    info = models.ExchangeInfo.of(payload)
    found = models.lines(info.symbols, "symbol", lambda symbol: symbol in symbols, models.Listed)
    if len({line.symbol for line in found}) != len(found):
        raise WireError(f"the exchange lists a symbol twice: {shortened(found)}")
    names = {
        ("REQUEST_WEIGHT", "MINUTE"): "weight",
        ("ORDERS", "SECOND"): "orders_10s",
        ("ORDERS", "MINUTE"): "orders_1m",
    }
    limits = {name: line.limit for line in info.rate_limits if (name := names.get((line.kind, line.interval)))}
    return Listing({line.symbol: instrument(line) for line in found}, limits)


def tiers_of(brackets: Any, symbols: Sequence[str]) -> dict[str, tuple[Tier, ...]]:
    """Return the maintenance tiers of `symbols`, smallest first."""
    found = models.lines(brackets, "symbol", lambda symbol: symbol in symbols, models.Brackets)
    result = {}
    for symbol in symbols:
        line = models.one([each for each in found if each.symbol == symbol], f"brackets of {symbol}", brackets)
        ordered = sorted(line.brackets, key=lambda tier: tier.cap)
        result[symbol] = tuple(Tier(cap=t.cap, max_leverage=t.max_leverage, rate=t.rate, cum=t.cum) for t in ordered)
    return result


def commission(payload: Any, symbol: str) -> models.Commission:
    """Return commissionRate of one symbol."""
    found = models.Commission.of(payload)
    about(symbol, found.symbol)
    return found


def instrument(info: models.Listed) -> Instrument:
    """Return one instrument without tiers and fees, from its filters; `pricePrecision` and `quantityPrecision` are ignored."""
    filters = {str(line.get("filterType")): line for line in info.filters}
    price, lot = models.PriceFilter.of(filters.get("PRICE_FILTER")), models.LotFilter.of(filters.get("LOT_SIZE"))
    market = filters.get("MARKET_LOT_SIZE")
    return Instrument(
        symbol=info.symbol,
        tick=_plain(price.tick),
        lot=_plain(lot.step),
        min_qty=_plain(lot.min_qty),
        max_qty=_plain(lot.max_qty),
        market_max_qty=_plain(lot.max_qty if market is None else models.MarketLotFilter.of(market).max_qty),
        min_notional=_plain(models.NotionalFilter.of(filters.get("MIN_NOTIONAL")).notional),
        tiers=(),
        maker_fee=Decimal(0),
        taker_fee=Decimal(0),
        trading=info.status == "TRADING",
    )


def _plain(value: Decimal) -> Decimal:
    """Drop trailing zeros but keep integers without exponent, because `Instrument` rounds to this number of digits.

    >>> _plain(Decimal("0.0100")), _plain(Decimal("100.0"))
    (Decimal('0.01'), Decimal('100'))
    """
    short = value.normalize()
    exponent = short.as_tuple().exponent
    return short.quantize(Decimal(1)) if isinstance(exponent, int) and exponent > 0 else short


def funding_hours(payload: Any) -> dict[str, int]:
    """Return the funding interval in hours of the symbols that `GET fundingInfo` lists; all others have 8 hours."""
    return {line.symbol: line.hours for line in models.lines(payload, "symbol", lambda _: True, models.FundingHours)}


# The account's settings -----------------------------------------------------------------------------------------------


def account_config(payload: Any) -> AccountConfig:
    """Return accountConfig: position mode, multi-assets mode, permission to trade."""
    return AccountConfig.of(payload)


def symbol_config(payload: Any, symbol: str) -> SymbolConfig:
    """Return symbolConfig of one symbol: margin type and leverage."""
    found = models.lines(payload, "symbol", lambda name: name == symbol, SymbolConfig)
    return models.one(found, f"settings of {symbol}", payload)


def leverage(payload: Any, symbol: str) -> int:
    """Return the leverage that `POST leverage` set."""
    found = models.LeverageReply.of(payload)
    about(symbol, found.symbol)
    return found.leverage


def fees_in_bnb(payload: Any) -> bool:
    """Return whether the account pays fees in BNB while it holds any."""
    return models.FeeBurn.of(payload).in_bnb


def permissions(payload: Any) -> Permissions:
    """Return the key's permissions."""
    return Permissions.of(payload)


# Market ---------------------------------------------------------------------------------------------------------------


def klines(payload: Any, symbol: str, *, interval_ms: int) -> list[Kline]:
    """Return the rows of `GET klines` (the last one may still be forming: the caller checks the clock).

    Raises
    ------
    WireError
        A row does not fit, is impossible, off the grid or out of order.
    """
    result: list[Kline] = []
    for row in models.kline_rows(payload):
        open_ms = row[0]
        if open_ms % interval_ms or (result and open_ms <= result[-1].open_ms):
            raise WireError(f"the exchange's kline of {symbol} at {open_ms} is off the grid or out of order")
        result.append(sound(Kline(symbol, interval_ms, open_ms, row[1], row[2], row[3], row[4], row[5], row[9])))
    return result


def funding(payload: Any, symbol: str, *, hours: int) -> Funding:
    """Return `GET premiumIndex` of one symbol as its current funding."""
    found = models.PremiumIndex.of(payload)
    return Funding(
        at_ms=found.at_ms,
        symbol=about(symbol, found.symbol),
        mark=found.mark,
        rate=found.rate,
        next_funding_ms=settlement(found.next_funding_ms, found.at_ms),
        interval_hours=hours,
    )


def quote(payload: Any, symbol: str) -> Quote:
    """Return the best bid and ask of one symbol."""
    found = models.BookTicker.of(payload)
    about(symbol, found.symbol)
    return Quote(found.bid, found.bid_qty, found.ask, found.ask_qty)


# Orders ---------------------------------------------------------------------------------------------------------------


def order_update(payload: Any) -> OrderUpdate:
    """Return a regular order's state from the reply to placing, cancelling or querying it."""
    order = OrderReply.of(payload)
    return OrderUpdate(
        at_ms=order.update_ms,
        client_id=order.client_id,
        symbol=order.symbol,
        status=_status(order),
        side=order.side,
        qty=order.qty,
        filled_qty=order.filled_qty,
        average_price=order.average_price,
        order_id=order.order_id,
    )


def _status(order: OrderReply) -> OrderStatus:
    status = ORDER_STATUS[order.state]
    return OrderStatus.TRIGGERED if status is OrderStatus.NEW and order.original_kind in CONDITIONAL else status


def algo_order_update(payload: Any) -> OrderUpdate:
    """Return an algo order's state from the reply to placing or querying it."""
    return _algo_update(AlgoOrder.of(payload))


def _algo_update(order: AlgoOrder) -> OrderUpdate:
    return OrderUpdate(
        at_ms=order.update_ms,
        client_id=order.client_id,
        symbol=order.symbol,
        status=algo_status(order.state, qty=order.qty, filled=order.filled_qty),
        side=order.side,
        qty=order.qty,
        filled_qty=order.filled_qty,
        average_price=order.average_price,
        order_id=order.order_id or order.algo_id,
        algo=True,
    )


def has_triggered(payload: Any) -> bool:
    """Return whether an algo order's reply says that a regular order has replaced it."""
    return AlgoOrder.of(payload).state in ("TRIGGERING", "TRIGGERED", "FINISHED")


def canceled(payload: Any, known: PlaceOrder, *, at_ms: int) -> OrderUpdate:
    """Return the state that a successful `DELETE algoOrder` implies: its reply only repeats the ids.

    Only an order that has not triggered can be cancelled there, so it has no fills.

    Raises
    ------
    WireError
        The reply does not fit or is about another order.
    """
    found = models.AlgoCanceled.of(payload)
    if found.client_id != known.client_id:
        raise WireError(f"the exchange answered about order {found.client_id} when {known.client_id} was asked for")
    return OrderUpdate(
        at_ms=at_ms,
        client_id=known.client_id,
        symbol=known.symbol,
        status=OrderStatus.CANCELED,
        side=known.side,
        qty=known.qty,
        filled_qty=Decimal(0),
        average_price=Decimal(0),
        order_id=found.algo_id,
        algo=True,
    )


def client_id(payload: Any, symbol: str, order_id: str) -> str:
    """Return the client id of the order that was queried by its order id.

    Raises
    ------
    WireError
        The reply does not fit or is about another order.
    """
    order = OrderReply.of(payload)
    about(symbol, order.symbol)
    if order.order_id != order_id:
        raise WireError(f"the exchange answered about order {order.order_id} when {order_id} was asked for")
    return order.client_id


def orders(payload: Any, symbol: str) -> list[OpenOrder]:
    """Return the lines of `GET openOrders` of one symbol."""
    found = models.orders(payload)
    for order in found:
        about(symbol, order.symbol)
    return found


def order_report(order: OpenOrder) -> OrderReport | None:
    """Return a working order; None for an order type that the bot does not use (not placed by the bot)."""
    if order.kind not in OrderType.__members__:
        return None
    return OrderReport(
        client_id=order.client_id,
        symbol=order.symbol,
        side=order.side,
        order_type=OrderType(order.kind),
        status=ORDER_STATUS[order.state],
        qty=order.qty,
        filled_qty=order.filled_qty,
        average_price=order.average_price,
        price=order.price,
        reduce_only=order.reduce_only,
        close_position=order.close_position,
        algo=False,
        update_ms=order.update_ms,
    )


def algo_reports(payload: Any, symbol: str) -> list[OrderReport]:
    """Return the stops of `GET openAlgoOrders` of one symbol, without the order types that the bot does not use."""
    found = models.algo_orders(payload)
    for order in found:
        about(symbol, order.symbol)
    return [report for order in found if (report := algo_report(order)) is not None]


def algo_report(order: OpenAlgoOrder) -> OrderReport | None:
    """Return a working stop; None for an order type that the bot does not use."""
    if order.kind not in OrderType.__members__:
        return None
    update = _algo_update(order)
    return OrderReport(
        client_id=update.client_id,
        symbol=update.symbol,
        side=update.side,
        order_type=OrderType(order.kind),
        status=update.status,
        qty=update.qty,
        filled_qty=update.filled_qty,
        average_price=update.average_price,
        price=order.trigger_price,
        reduce_only=order.reduce_only,
        close_position=order.close_position,
        algo=True,
        update_ms=update.at_ms,
    )


# Account --------------------------------------------------------------------------------------------------------------


def positions(payload: Any) -> list[PositionReport]:
    """Return positionRisk (v2 or v3), one report per symbol.

    Raises
    ------
    WireError
        A line does not fit or is in hedge mode, or a symbol occurs twice.
    """
    found = [position_report(line) for line in models.positions(payload)]
    if len({report.symbol for report in found}) != len(found):
        raise WireError(f"the exchange's reply holds a position twice: {shortened(payload)}")
    return found


def position_report(line: models.PositionReply) -> PositionReport:
    """Return one position; raises `WireError` in hedge mode."""
    if line.position_side not in ("BOTH", ""):
        raise WireError("the account is in hedge mode: switch it to one-way mode while flat")
    return PositionReport(
        symbol=line.symbol,
        qty=line.qty,
        entry_price=line.entry_price,
        isolated_wallet=line.isolated_wallet,
        unrealized=line.unrealized,
        update_ms=line.update_ms,
    )


def wallet_balance(payload: Any) -> Decimal:
    """Return the quote balance from `GET balance`; 0 without a line, as for an account that never held any."""
    found = models.lines(payload, "asset", lambda asset: asset == QUOTE_ASSET, models.Balance)
    return models.one(found, QUOTE_ASSET, payload).balance if found else Decimal(0)


def funded_assets(payload: Any) -> frozenset[str]:
    """Return the assets with a balance in `GET balance`."""
    return frozenset(
        line.asset for line in models.lines(payload, "asset", lambda asset: True, models.Balance) if line.balance
    )


def incomes(payload: Any) -> tuple[int, list[Income]]:
    """Return the number of entries in `GET income`, and those of them in the quote asset."""
    found = models.incomes(payload)
    return len(found), [
        Income(at_ms=line.at_ms, kind=line.kind, symbol=line.symbol, amount=line.amount, number=line.number)
        for line in found
        if line.asset == QUOTE_ASSET
    ]


def trades(payload: Any, symbol: str) -> list[TradeReply]:
    """Return the lines of `GET userTrades` of one symbol."""
    found = models.trades(payload)
    for trade in found:
        about(symbol, trade.symbol)
    return found


def fill(trade: TradeReply, client_id: str, *, rates: FeeRates | None = None) -> Fill:
    """Return one of the account's trades as a fill; the caller passes the client id because a trade may lack it."""
    return Fill(
        at_ms=trade.at_ms,
        client_id=client_id,
        symbol=trade.symbol,
        side=trade.side,
        qty=trade.qty,
        price=trade.price,
        fee=fee_in_quote(
            trade.fee,
            trade.fee_asset,
            notional=trade.qty * trade.price,
            symbol=trade.symbol,
            maker=trade.maker,
            rates=rates,
        ),
        maker=trade.maker,
        trade_id=trade.trade_id,
        realized=trade.realized,
    )
