"""What Binance answers over REST, turned into events, reports and instruments: pure functions of a reply's JSON."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from bot.core.errors import WireError
from bot.core.events import Fill, Funding, OrderUpdate
from bot.core.types import (
    Income,
    Instrument,
    Kline,
    OrderReport,
    OrderSide,
    OrderStatus,
    OrderType,
    PositionReport,
    Tier,
)
from bot.execution.wire import (
    CONDITIONAL,
    QUOTE_ASSET,
    FeeRates,
    Payload,
    algo_status,
    fee_in_quote,
    integer,
    need,
    number,
    number_or_zero,
    shortened,
    side_of,
    sound,
    status_of,
    truth,
)


def order_update(payload: Payload) -> OrderUpdate:
    """Return a regular order's state from the reply to its placing, cancelling or query."""
    status = status_of(payload, "status")
    if status is OrderStatus.NEW and str(payload.get("origType")) in CONDITIONAL:
        status = OrderStatus.TRIGGERED
    return OrderUpdate(
        at_ms=integer(payload, "updateTime"),
        client_id=str(need(payload, "clientOrderId")),
        symbol=str(need(payload, "symbol")),
        status=status,
        side=side_of(payload, "side"),
        qty=number(payload, "origQty"),
        filled_qty=number(payload, "executedQty"),
        average_price=number_or_zero(payload, "avgPrice"),
        order_id=str(need(payload, "orderId")),
    )


def algo_order_update(payload: Payload) -> OrderUpdate:
    """Return an algo order's state from the reply to its placing or query."""
    qty, filled = number_or_zero(payload, "quantity"), number_or_zero(payload, "actualQty")
    return OrderUpdate(
        at_ms=_algo_time(payload),
        client_id=str(need(payload, "clientAlgoId")),
        symbol=str(need(payload, "symbol")),
        status=algo_status(need(payload, "algoStatus"), qty=qty, filled=filled, payload=payload),
        side=side_of(payload, "side"),
        qty=qty,
        filled_qty=filled,
        average_price=number_or_zero(payload, "actualPrice"),
        order_id=str(payload.get("actualOrderId") or need(payload, "algoId")),
        algo=True,
    )


def _algo_time(payload: Payload) -> int:
    return integer(payload, "updateTime" if payload.get("updateTime") else "createTime")


def has_triggered(payload: Payload) -> bool:
    """Whether an algo order's reply says that a regular order has taken over."""
    return need(payload, "algoStatus") in ("TRIGGERING", "TRIGGERED", "FINISHED")


def order_report(payload: Payload) -> OrderReport | None:
    """Return a line of openOrders; None for a kind of order that the bot does not use (somebody else's)."""
    name = str(need(payload, "type"))
    if name not in OrderType.__members__:
        return None
    return OrderReport(
        client_id=str(need(payload, "clientOrderId")),
        symbol=str(need(payload, "symbol")),
        side=side_of(payload, "side"),
        order_type=OrderType(name),
        status=status_of(payload, "status"),
        qty=number(payload, "origQty"),
        filled_qty=number(payload, "executedQty"),
        average_price=number_or_zero(payload, "avgPrice"),
        price=number_or_zero(payload, "price"),
        reduce_only=truth(payload, "reduceOnly"),
        close_position=truth(payload, "closePosition"),
        algo=False,
        update_ms=integer(payload, "updateTime"),
    )


def algo_report(payload: Payload) -> OrderReport | None:
    """Return a line of openAlgoOrders; None for a kind of order that the bot does not use."""
    name = str(need(payload, "orderType"))
    if name not in OrderType.__members__:
        return None
    update = algo_order_update(payload)
    return OrderReport(
        client_id=update.client_id,
        symbol=update.symbol,
        side=update.side,
        order_type=OrderType(name),
        status=update.status,
        qty=update.qty,
        filled_qty=update.filled_qty,
        average_price=update.average_price,
        price=number(payload, "triggerPrice"),
        reduce_only=truth(payload, "reduceOnly"),
        close_position=truth(payload, "closePosition"),
        algo=True,
        update_ms=update.at_ms,
    )


def position_report(payload: Payload) -> PositionReport:
    """Return a line of positionRisk (v2 or v3)."""
    if payload.get("positionSide", "BOTH") != "BOTH":
        raise WireError("the account is in hedge mode: switch it to one-way mode while flat")
    return PositionReport(
        symbol=str(need(payload, "symbol")),
        qty=number(payload, "positionAmt"),
        entry_price=number(payload, "entryPrice"),
        isolated_wallet=number_or_zero(payload, "isolatedWallet"),
        unrealized=number_or_zero(payload, "unRealizedProfit"),
        update_ms=integer(payload, "updateTime") if payload.get("updateTime") else 0,
    )


def wallet_balance(payload: Iterable[Payload]) -> Decimal:
    """Return the quote balance from `GET balance`."""
    for line in payload:
        if need(line, "asset") == QUOTE_ASSET:
            return number(line, "balance")
    return Decimal(0)


def income(payload: Payload) -> Income | None:
    """Return a line of `GET income`; None for one that is not in quote."""
    if need(payload, "asset") != QUOTE_ASSET:
        return None
    return Income(
        at_ms=integer(payload, "time"),
        kind=str(need(payload, "incomeType")),
        symbol=str(payload.get("symbol") or ""),
        amount=number(payload, "income"),
        number=integer(payload, "tranId"),
    )


def fill(payload: Payload, client_id: str, *, rates: FeeRates | None = None) -> Fill:
    """Return a line of userTrades; the order's client id is not part of it and comes from elsewhere."""
    qty, price, maker = number(payload, "qty"), number(payload, "price"), truth(payload, "maker")
    symbol = str(need(payload, "symbol"))
    return Fill(
        at_ms=integer(payload, "time"),
        client_id=client_id,
        symbol=symbol,
        side=side_of(payload, "side"),
        qty=qty,
        price=price,
        fee=fee_in_quote(
            number_or_zero(payload, "commission"),
            payload.get("commissionAsset"),
            notional=qty * price,
            symbol=symbol,
            maker=maker,
            rates=rates,
        ),
        maker=maker,
        trade_id=integer(payload, "id"),
        realized=number_or_zero(payload, "realizedPnl"),
    )


def kline(row: Any, symbol: str, *, interval_ms: int) -> Kline:
    """Return a row of `GET klines` (the last one is still forming: the caller looks at the clock)."""
    try:
        result = Kline(
            symbol=symbol,
            interval_ms=interval_ms,
            open_ms=int(row[0]),
            open=float(row[1]),
            high=float(row[2]),
            low=float(row[3]),
            close=float(row[4]),
            volume=float(row[5]),
            taker_buy_volume=float(row[9]),
        )
    except (IndexError, TypeError, ValueError, KeyError):
        raise WireError(f"cannot read a kline row of {symbol}: {shortened(row)}") from None
    return sound(result)


def funding(payload: Payload, *, hours: int) -> Funding:
    """Return `GET premiumIndex` of one symbol as its current funding."""
    return Funding(
        at_ms=integer(payload, "time"),
        symbol=str(need(payload, "symbol")),
        mark=number(payload, "markPrice"),
        rate=number_or_zero(payload, "lastFundingRate"),
        next_funding_ms=integer(payload, "nextFundingTime"),
        interval_hours=hours,
    )


def funding_hours(payload: Iterable[Payload]) -> dict[str, int]:
    """Return the funding interval of the symbols that `GET fundingInfo` lists; all others have 8 hours."""
    return {
        str(line["symbol"]): integer(line, "fundingIntervalHours")
        for line in payload
        if "symbol" in line and "fundingIntervalHours" in line
    }


def rate_limits(exchange_info: Payload) -> dict[str, int]:
    """Return the venue's limits by the names that `limits.Limits` takes."""
    names = {
        ("REQUEST_WEIGHT", "MINUTE"): "weight",
        ("ORDERS", "SECOND"): "orders_10s",
        ("ORDERS", "MINUTE"): "orders_1m",
    }
    found: dict[str, int] = {}
    for line in exchange_info.get("rateLimits", ()):
        name = names.get((line.get("rateLimitType"), line.get("interval")))
        if name is not None:
            found[name] = integer(line, "limit")
    return found


def instruments(
    exchange_info: Payload,
    brackets: Iterable[Payload],
    commissions: Mapping[str, Payload],
    *,
    symbols: Iterable[str],
) -> tuple[Instrument, ...]:
    """Return the instruments of `symbols` from exchangeInfo, leverageBracket and commissionRate."""
    listed = {str(need(line, "symbol")): line for line in need(exchange_info, "symbols")}
    tiers = {str(need(line, "symbol")): line for line in brackets}
    result = []
    for symbol in symbols:
        if symbol not in listed:
            raise WireError(f"the exchange does not list {symbol}")
        if symbol not in tiers:
            raise WireError(f"the exchange tells no leverage brackets for {symbol}")
        result.append(instrument(listed[symbol], tiers[symbol], commissions[symbol]))
    return tuple(result)


def instrument(info: Payload, bracket: Payload, commission: Payload) -> Instrument:
    """Return one instrument; filters count, `pricePrecision` and `quantityPrecision` do not."""
    filters = {str(need(f, "filterType")): f for f in need(info, "filters")}
    price, lot = need(filters, "PRICE_FILTER"), need(filters, "LOT_SIZE")
    market_lot = filters.get("MARKET_LOT_SIZE", lot)
    tiers = tuple(
        Tier(
            cap=number(line, "notionalCap"),
            max_leverage=integer(line, "initialLeverage"),
            rate=number(line, "maintMarginRatio"),
            cum=number(line, "cum"),
        )
        for line in sorted(need(bracket, "brackets"), key=lambda line: number(line, "notionalCap"))
    )
    return Instrument(
        symbol=str(need(info, "symbol")),
        tick=_plain(number(price, "tickSize")),
        lot=_plain(number(lot, "stepSize")),
        min_qty=_plain(number(lot, "minQty")),
        max_qty=_plain(number(lot, "maxQty")),
        market_max_qty=_plain(number(market_lot, "maxQty")),
        min_notional=_plain(number(need(filters, "MIN_NOTIONAL"), "notional")),
        tiers=tiers,
        maker_fee=number(commission, "makerCommissionRate"),
        taker_fee=number(commission, "takerCommissionRate"),
        trading=need(info, "status") == "TRADING",
    )


def _plain(value: Decimal) -> Decimal:
    """Drop trailing zeros but keep whole numbers whole, because `Instrument` rounds to this number of digits.

    >>> _plain(Decimal("0.0100")), _plain(Decimal("100.0"))
    (Decimal('0.01'), Decimal('100'))
    """
    short = value.normalize()
    exponent = short.as_tuple().exponent
    return short.quantize(Decimal(1)) if isinstance(exponent, int) and exponent > 0 else short


def canceled(payload: Payload, *, side: OrderSide, qty: Decimal, at_ms: int, symbol: str) -> OrderUpdate:
    """Return the state that a successful `DELETE algoOrder` implies: its reply only repeats the ids.

    Only an order that has not triggered can be cancelled there, so nothing of it has been filled.
    """
    return OrderUpdate(
        at_ms=at_ms,
        client_id=str(need(payload, "clientAlgoId")),
        symbol=symbol,
        status=OrderStatus.CANCELED,
        side=side,
        qty=qty,
        filled_qty=Decimal(0),
        average_price=Decimal(0),
        order_id=str(need(payload, "algoId")),
        algo=True,
    )
