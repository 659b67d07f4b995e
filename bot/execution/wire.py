"""What Binance pushes, turned into the bot's events, and the bot's intents, turned into Binance's parameters.

Everything here is a pure function of a payload. Prices and quantities travel as strings and become `Decimal`; keys that
we do not know are normal (the exchange adds some every year); a key that we need and cannot read is a `WireError` that
names it. Replies to requests are read in `replies.py` with the same readers.

One order, one name: when an algo order (a stop) triggers, the exchange creates a regular order with a new number whose
client id is the stop's. Its updates are therefore updates of the stop: TRIGGERED when it appears, FILLED when it has done
its work.
"""

import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from bot.core.errors import ConfigError, InvariantError, WireError
from bot.core.events import (
    AccountUpdate,
    Event,
    FeedLost,
    Fill,
    Funding,
    KlineClosed,
    LeverageSet,
    OrderUpdate,
    Quotes,
)
from bot.core.intents import CancelOrder, PlaceOrder
from bot.core.klines import check_bar, interval_ms
from bot.core.types import Kline, OrderSide, OrderStatus, OrderType, PositionReport, Quote, TimeInForce

Payload = Mapping[str, Any]
FeeRates = Mapping[str, tuple[Decimal, Decimal]]  # symbol -> maker, taker

QUOTE_ASSET = "USDT"
ZERO = Decimal(0)
CLIENT_ID = re.compile(r"[A-Za-z0-9_.-]{1,36}")
CONDITIONAL = frozenset({"STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET", "TRAILING_STOP_MARKET"})

ORDER_STATUS = {
    "NEW": OrderStatus.NEW,
    "PARTIALLY_FILLED": OrderStatus.PARTIALLY_FILLED,
    "FILLED": OrderStatus.FILLED,
    "CANCELED": OrderStatus.CANCELED,
    "REJECTED": OrderStatus.REJECTED,
    "EXPIRED": OrderStatus.EXPIRED,
    "EXPIRED_IN_MATCH": OrderStatus.EXPIRED,
    "NEW_INSURANCE": OrderStatus.NEW,  # liquidation taken over by the insurance fund
    "NEW_ADL": OrderStatus.NEW,
}
ALGO_STATUS = {
    "NEW": OrderStatus.NEW,
    "TRIGGERING": OrderStatus.TRIGGERED,
    "TRIGGERED": OrderStatus.TRIGGERED,
    "CANCELED": OrderStatus.CANCELED,
    "REJECTED": OrderStatus.REJECTED,
    "EXPIRED": OrderStatus.EXPIRED,
}


def need(payload: Payload, key: str) -> Any:
    """Return a value that has to be there."""
    try:
        return payload[key]
    except (KeyError, TypeError, IndexError):
        raise WireError(f"the exchange's message lacks {key!r}: {shortened(payload)}") from None


def number(payload: Payload, key: str) -> Decimal:
    """Return a finite decimal that has to be there."""
    value = need(payload, key)
    try:
        result = Decimal(value if isinstance(value, (str, int)) else str(value))
    except (InvalidOperation, TypeError, ValueError):
        raise unreadable(key, value, payload) from None
    if not result.is_finite():
        raise unreadable(key, value, payload)
    return result


def number_or_zero(payload: Payload, key: str) -> Decimal:
    """Return a decimal that may be absent, null or empty."""
    return ZERO if payload.get(key) in (None, "") else number(payload, key)


def integer(payload: Payload, key: str) -> int:
    """Return a whole number that has to be there."""
    value = need(payload, key)
    try:
        return int(value)
    except (TypeError, ValueError):
        raise unreadable(key, value, payload) from None


def nested(payload: Payload, key: str) -> Payload:
    """Return an inner object that has to be there."""
    value = need(payload, key)
    if not isinstance(value, Mapping):
        raise unreadable(key, value, payload)
    return value


def lines_of(payload: Payload, key: str) -> list[Payload]:
    """Return a list of objects that may be absent."""
    value = payload.get(key, [])
    if not isinstance(value, list) or not all(isinstance(line, Mapping) for line in value):
        raise unreadable(key, value, payload)
    return value


def truth(payload: Payload, key: str) -> bool:
    """Return a flag that may be absent, a boolean or its text."""
    value = payload.get(key, False)
    return value is True or value == "true"


def side_of(payload: Payload, key: str) -> OrderSide:
    """Return BUY or SELL."""
    value = need(payload, key)
    try:
        return OrderSide(value)
    except ValueError:
        raise unreadable(key, value, payload) from None


def status_of(payload: Payload, key: str, table: Mapping[str, OrderStatus] = ORDER_STATUS) -> OrderStatus:
    """Return an order's status; one that we do not know is never guessed."""
    value = need(payload, key)
    if not isinstance(value, str) or value not in table:
        raise unreadable(key, value, payload)
    return table[value]


def unreadable(key: str, value: object, payload: Payload) -> WireError:
    """Return the error that names a key and its value."""
    return WireError(f"cannot read {key!r} = {value!r} in the exchange's message: {shortened(payload)}")


def shortened(payload: object) -> str:
    """Return a message's text, cut."""
    text = repr(payload)
    return text if len(text) <= 300 else text[:300] + "…"


def fee_in_quote(
    amount: Decimal, asset: str | None, *, notional: Decimal, symbol: str, maker: bool, rates: FeeRates | None
) -> Decimal:
    """Return a commission in quote; one paid in another coin (BNB) is estimated by the account's rate."""
    if amount == 0 or asset in (None, "", QUOTE_ASSET):
        return amount
    maker_rate, taker_rate = (rates or {}).get(symbol, (ZERO, ZERO))
    return notional * (maker_rate if maker else taker_rate)


# Pushes ---------------------------------------------------------------------------------------------------------------


def events_of(
    payload: Payload, *, rates: FeeRates | None = None, funding_hours: Mapping[str, int] | None = None
) -> tuple[Event, ...]:
    """Return the events of one pushed message, without its combined-stream wrapper; () for what does not concern us."""
    name = payload.get("e")
    if name == "bookTicker":
        return (quotes(payload),)
    if name == "kline":
        closed = kline_closed(payload)
        return () if closed is None else (closed,)
    if name == "markPriceUpdate":
        mark = funding(payload, hours=(funding_hours or {}).get(str(payload.get("s")), 8))
        return () if mark is None else (mark,)
    if name == "ORDER_TRADE_UPDATE":
        return order_trade_update(payload, rates=rates)
    if name == "ACCOUNT_UPDATE":
        update = account_update(payload)
        return () if update is None else (update,)
    if name == "ALGO_UPDATE":
        return (algo_update(payload),)
    if name == "ACCOUNT_CONFIG_UPDATE" and "ac" in payload:
        changed = nested(payload, "ac")
        return (LeverageSet(integer(payload, "E"), str(need(changed, "s")), integer(changed, "l")),)
    if name == "listenKeyExpired":
        return (FeedLost(integer(payload, "E"), "user", "listen key expired"),)
    return ()


def kline_closed(payload: Payload) -> KlineClosed | None:
    """Return a kline message's bar when the exchange says that it is closed."""
    bar = nested(payload, "k")
    if need(bar, "x") is not True:
        return None
    return KlineClosed(integer(payload, "E"), pushed_kline(bar))


def pushed_kline(bar: Payload) -> Kline:
    """Return a pushed bar as it stands, closed or not."""
    try:
        kline = Kline(
            symbol=str(bar["s"]),
            interval_ms=interval_ms(str(bar["i"])),
            open_ms=int(bar["t"]),
            open=float(bar["o"]),
            high=float(bar["h"]),
            low=float(bar["l"]),
            close=float(bar["c"]),
            volume=float(bar["v"]),
            taker_buy_volume=float(bar["V"]),
        )
    except KeyError as error:
        raise WireError(f"the exchange's kline lacks {error.args[0]!r}: {shortened(bar)}") from None
    except (TypeError, ValueError, ConfigError):
        raise WireError(f"cannot read the values of the exchange's kline: {shortened(bar)}") from None
    return sound(kline)


def sound(kline: Kline) -> Kline:
    """Return the bar, or raise when no market can have made it."""
    reason = check_bar(kline.open, kline.high, kline.low, kline.close, kline.volume, kline.taker_buy_volume)
    if reason is not None:
        raise WireError(f"the exchange's kline of {kline.symbol} at {kline.open_ms} is impossible: {reason}")
    return kline


def quotes(payload: Payload) -> Quotes:
    """Return best bid and ask of a bookTicker message."""
    best = Quote(number(payload, "b"), number(payload, "B"), number(payload, "a"), number(payload, "A"))
    return Quotes(integer(payload, "E"), ((str(need(payload, "s")), best),))


def funding(payload: Payload, *, hours: int = 8) -> Funding | None:
    """Return a mark price message's funding; None for a contract without one."""
    if payload.get("r") in (None, ""):
        return None
    return Funding(
        at_ms=integer(payload, "E"),
        symbol=str(need(payload, "s")),
        mark=number(payload, "p"),
        rate=number(payload, "r"),
        next_funding_ms=integer(payload, "T"),
        interval_hours=hours,
    )


def order_trade_update(payload: Payload, *, rates: FeeRates | None = None) -> tuple[Event, ...]:
    """Return the fill, if the message tells of one, and then the order's new state.

    Liquidations and deleveraging (`autoclose-…`, `adl_autoclose`) come as orders that we never placed: their fills
    change the position like any other.
    """
    order = nested(payload, "o")
    symbol, client_id = str(need(order, "s")), str(need(order, "c"))
    side = side_of(order, "S")
    execution = need(order, "x")
    status = status_of(order, "X")
    if status is OrderStatus.NEW and str(order.get("ot")) in CONDITIONAL:
        status = OrderStatus.TRIGGERED
    update = OrderUpdate(
        at_ms=integer(payload, "E"),
        client_id=client_id,
        symbol=symbol,
        status=status,
        side=side,
        qty=number(order, "q"),
        filled_qty=number(order, "z"),
        average_price=number_or_zero(order, "ap"),
        order_id=str(need(order, "i")),
        reason=expiry_reason(order, status),
    )
    if execution not in ("TRADE", "CALCULATED") or number_or_zero(order, "l") == 0:
        return (update,)
    qty, price, maker = number(order, "l"), number(order, "L"), truth(order, "m")
    traded_ms = integer(order, "T")
    fee = fee_in_quote(
        number_or_zero(order, "n"), order.get("N"), notional=qty * price, symbol=symbol, maker=maker, rates=rates
    )
    fill = Fill(
        at_ms=traded_ms,
        client_id=client_id,
        symbol=symbol,
        side=side,
        qty=qty,
        price=price,
        fee=fee,
        maker=maker,
        trade_id=integer(order, "t") or -traded_ms,  # a liquidation may come without a number: its time is as good
        realized=number_or_zero(order, "rp"),
    )
    return fill, update


def expiry_reason(order: Payload, status: OrderStatus) -> str:
    """Say why an order expired, in the exchange's words."""
    if status is not OrderStatus.EXPIRED:
        return ""
    if order.get("X") == "EXPIRED_IN_MATCH":
        return "self-trade prevention"
    return _EXPIRY.get(str(order.get("er", "0")), f"er={order.get('er')}")


_EXPIRY = {
    "0": "",
    "1": "self-trade prevention",
    "2": "rest of an IOC order",
    "3": "IOC, self-trade prevention",
    "4": "reduce-only order lost its position",
    "5": "liquidation",
    "6": "position closed (GTE)",
    "7": "contract delisted",
    "8": "first order expired after the stop triggered",
    "9": "rest of a market order",
}


def algo_update(payload: Payload) -> OrderUpdate:
    """Return an algo order's new state."""
    order = nested(payload, "o")
    filled = number_or_zero(order, "aq")
    status = algo_status(need(order, "X"), qty=number_or_zero(order, "q"), filled=filled, payload=order)
    return OrderUpdate(
        at_ms=integer(payload, "E"),
        client_id=str(need(order, "caid")),
        symbol=str(need(order, "s")),
        status=status,
        side=side_of(order, "S"),
        qty=number_or_zero(order, "q"),
        filled_qty=filled,
        average_price=number_or_zero(order, "ap"),
        order_id=str(order.get("ai") or need(order, "aid")),
        algo=True,
        reason=str(order.get("rm") or ""),
    )


def algo_status(name: Any, *, qty: Decimal, filled: Decimal, payload: Payload) -> OrderStatus:
    """Return an algo order's status; FINISHED says only that the regular order is over, `filled` says how.

    A closePosition order has no quantity of its own: whatever it filled is all of it.
    """
    if name == "FINISHED":
        if filled == 0:
            return OrderStatus.CANCELED
        return OrderStatus.FILLED if filled >= qty else OrderStatus.EXPIRED
    if not isinstance(name, str) or name not in ALGO_STATUS:
        raise unreadable("X", name, payload)
    return ALGO_STATUS[name]


def account_update(payload: Payload) -> AccountUpdate | None:
    """Return wallet and positions after a change; None when the message tells no wallet in quote."""
    change = nested(payload, "a")
    for balance in lines_of(change, "B"):
        if need(balance, "a") == QUOTE_ASSET:
            break
    else:
        return None
    positions = tuple(
        PositionReport(
            symbol=str(need(p, "s")),
            qty=number(p, "pa"),
            entry_price=number(p, "ep"),
            isolated_wallet=number_or_zero(p, "iw"),
            unrealized=number_or_zero(p, "up"),
        )
        for p in lines_of(change, "P")
        if p.get("ps", "BOTH") == "BOTH"
    )
    return AccountUpdate(
        at_ms=integer(payload, "E"),
        reason=str(change.get("m", "")),
        wallet=number(balance, "wb"),
        balance_change=number_or_zero(balance, "bc"),
        positions=positions,
    )


# Intents --------------------------------------------------------------------------------------------------------------


def text(value: Decimal) -> str:
    """Return a decimal as Binance wants it: digits, no exponent.

    >>> text(Decimal("0.00001")), text(Decimal("1E+2"))
    ('0.00001', '100')
    """
    return format(value, "f")


def checked_id(client_id: str) -> str:
    """Return a client id that survives signing and form encoding alike; another one is our own bug."""
    if CLIENT_ID.fullmatch(client_id) is None:
        raise InvariantError(f"client id {client_id!r} is not 1 to 36 letters, digits, '_', '.' or '-'")
    return client_id


def is_exit(intent: PlaceOrder) -> bool:
    """Whether an order can only shrink a position: such orders have the last word in the request budget."""
    return intent.reduce_only or intent.close_position or intent.algo


def place_params(intent: PlaceOrder) -> dict[str, str]:
    """Return the parameters of `POST order`, or of `POST algoOrder` for a stop.

    Orders that cannot rest ask for RESULT, so that the reply tells how they ended; all others for ACK.
    """
    params = {"symbol": intent.symbol, "side": intent.side.value, "type": intent.order_type.value}
    if intent.algo:
        if intent.trigger_price is None:
            raise InvariantError(f"stop {intent.client_id} has no trigger price")
        params |= {
            "algoType": "CONDITIONAL",
            "clientAlgoId": checked_id(intent.client_id),
            "triggerPrice": text(intent.trigger_price),
            "workingType": intent.working_type,
            "newOrderRespType": "ACK",
        }
    else:
        rests = intent.order_type is OrderType.LIMIT and intent.time_in_force is not TimeInForce.IOC
        params |= {
            "newClientOrderId": checked_id(intent.client_id),
            "newOrderRespType": "ACK" if rests else "RESULT",
        }
        if intent.order_type is OrderType.LIMIT:
            if intent.price is None:
                raise InvariantError(f"limit order {intent.client_id} has no price")
            params |= {"price": text(intent.price), "timeInForce": (intent.time_in_force or TimeInForce.GTC).value}
    if intent.close_position:
        if not intent.algo:
            raise InvariantError(f"order {intent.client_id}: only a stop can close the position")
        params["closePosition"] = "true"
    else:
        params["quantity"] = text(intent.qty)
        if intent.reduce_only:
            params["reduceOnly"] = "true"
    return params


def cancel_params(intent: CancelOrder) -> dict[str, str]:
    """Return the parameters of `DELETE order` or `DELETE algoOrder`."""
    return lookup_params(intent.client_id, intent.symbol, algo=intent.algo)


def lookup_params(client_id: str, symbol: str, *, algo: bool) -> dict[str, str]:
    """Return the parameters that name one order."""
    return {"symbol": symbol, "clientAlgoId" if algo else "origClientOrderId": checked_id(client_id)}
