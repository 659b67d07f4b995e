"""Convert Binance's pushes into the bot's events, and the bot's intents into Binance's parameters.

Everything here is a pure function of a payload. Its model (`models_push.py`) defines what a payload may hold; one that does not
fit raises `WireError`. So does one whose timestamp the exchange's clock cannot have reached (`latest_ms`), a bar off the grid of
its interval, and one that is closed before its end. `replies.py` reads replies to requests in the same way.

An order keeps its client id: when an algo order (a stop) triggers, the exchange creates a regular order with a new order id and
the stop's client id. Its updates are therefore updates of the stop: TRIGGERED when it appears, FILLED when it is filled.
"""

import re
from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Any, Final, TypeVar

from bot.core.errors import ConfigError, InvariantError, WireError
from bot.core.events import (
    AccountUpdate,
    Event,
    FeedLost,
    Fill,
    Funding,
    KlineClosed,
    LeverageSet,
    MarginCall,
    MarginTypeSet,
    OrderUpdate,
    Quotes,
)
from bot.core.intents import CancelOrder, PlaceOrder
from bot.core.klines import check_bar, interval_ms
from bot.core.times import DAY_MS
from bot.core.types import Kline, OrderStatus, OrderType, PositionReport, Quote, TimeInForce
from bot.execution.models import ZERO, Untimely, shortened, unreadable
from bot.execution.models_push import (
    AccountPush,
    AlgoPush,
    AlgoState,
    BookTickerPush,
    ConfigPush,
    KeyExpiredPush,
    KlinePush,
    MarginCallPush,
    MarkPricePush,
    OrderBody,
    OrderPush,
    OrderState,
    Push,
)

P = TypeVar("P", bound=Push)
FeeRates = Mapping[str, tuple[Decimal, Decimal]]  # symbol -> maker, taker

QUOTE_ASSET = "USDT"
FUNDING_AHEAD_MS: Final = 2 * DAY_MS
CLIENT_ID = re.compile(r"[A-Za-z0-9_.-]{1,36}")
CONDITIONAL = frozenset({"STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET", "TRAILING_STOP_MARKET"})

ORDER_STATUS: Final[dict[OrderState, OrderStatus]] = {
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
ALGO_STATUS: Final[dict[AlgoState, OrderStatus]] = {
    "NEW": OrderStatus.NEW,
    "TRIGGERING": OrderStatus.TRIGGERED,
    "TRIGGERED": OrderStatus.TRIGGERED,
    "CANCELED": OrderStatus.CANCELED,
    "REJECTED": OrderStatus.REJECTED,
    "EXPIRED": OrderStatus.EXPIRED,
}


def fee_in_quote(
    amount: Decimal, asset: str | None, *, notional: Decimal, symbol: str, maker: bool, rates: FeeRates | None
) -> Decimal:
    """Return a commission in the quote asset; one paid in another asset (BNB) is estimated from the account's fee rate.

    Parameters
    ----------
    amount, asset
        The commission as reported.
    notional
        Quantity times price of the fill, in the quote asset.
    maker
        Whether the maker rate applies.
    rates
        Maker and taker rate per symbol; without them the estimate is 0.
    """
    if amount == 0 or asset in (None, "", QUOTE_ASSET):
        return amount
    maker_rate, taker_rate = (rates or {}).get(symbol, (ZERO, ZERO))
    return notional * (maker_rate if maker else taker_rate)


# Pushes ---------------------------------------------------------------------------------------------------------------


def events_of(
    payload: Any,
    *,
    rates: FeeRates | None = None,
    funding_hours: Mapping[str, int] | None = None,
    symbols: Collection[str] | None = None,
    latest_ms: int | None = None,
) -> tuple[Event, ...]:
    """Return the events of one pushed message without its combined-stream wrapper; () for irrelevant messages.

    Parameters
    ----------
    rates
        The account's fee rates, to estimate a fee paid in another asset.
    funding_hours
        Hours between settlements of the symbols that do not have 8.
    symbols
        Symbols whose margin type is reported; None for all.
    latest_ms
        The latest time that the exchange's clock can have reached; None for any.

    Raises
    ------
    WireError
        The message does not fit its kind.
    """
    kind = kind_of(payload)
    if kind == "bookTicker":
        return (quotes(timely(BookTickerPush.of(payload), latest_ms)),)
    if kind == "kline":
        push = timely(KlinePush.of(payload), latest_ms)
        bar = pushed_kline(push)
        return (KlineClosed(push.event_ms, bar),) if push.bar.is_closed else ()
    if kind == "markPriceUpdate":
        mark = timely(MarkPricePush.of(payload), latest_ms)
        event = funding(mark, hours=(funding_hours or {}).get(mark.symbol, 8))
        return () if event is None else (event,)
    if kind == "ORDER_TRADE_UPDATE":
        return order_trade_update(timely(OrderPush.of(payload), latest_ms), rates=rates, latest_ms=latest_ms)
    if kind == "ACCOUNT_UPDATE":
        return account_update(timely(AccountPush.of(payload), latest_ms), symbols=symbols)
    if kind == "ALGO_UPDATE":
        return (algo_update(timely(AlgoPush.of(payload), latest_ms)),)
    if kind == "ACCOUNT_CONFIG_UPDATE":
        config = timely(ConfigPush.of(payload), latest_ms)
        changed = config.leverage
        return () if changed is None else (LeverageSet(config.event_ms, changed.symbol, changed.leverage),)
    if kind == "MARGIN_CALL":
        call = timely(MarginCallPush.of(payload), latest_ms)
        return (MarginCall(call.event_ms, tuple(line.symbol for line in call.positions)),)
    if kind == "listenKeyExpired":
        return (FeedLost(timely(KeyExpiredPush.of(payload), latest_ms).event_ms, "user", "listen key expired"),)
    return ()


def kind_of(payload: Any) -> str:
    """Return a message's kind; raises `WireError` if it has none."""
    kind = payload.get("e") if isinstance(payload, dict) else None
    if not isinstance(kind, str):
        raise WireError(f"the exchange's message is of no kind: {shortened(payload)}")
    return kind


def timely(push: P, latest_ms: int | None) -> P:
    """Return the message if the exchange's clock can have reached its event time, else raise `Untimely`."""
    in_time(push.event_ms, latest_ms)
    return push


def in_time(at_ms: int, latest_ms: int | None) -> None:
    """Raise `Untimely` for a timestamp that the exchange's clock cannot have reached."""
    if latest_ms is not None and at_ms > latest_ms:
        raise Untimely(f"the exchange's message is {at_ms - latest_ms} ms later than its clock can be (time {at_ms})")


def pushed_kline(push: KlinePush) -> Kline:
    """Return a pushed bar, closed or still forming.

    Raises
    ------
    WireError
        Its interval is unknown, it is off the grid, closed before its end, inconsistent or impossible.
    """
    bar = push.bar
    try:
        step_ms = interval_ms(bar.interval)
    except ConfigError:
        raise unreadable("i", bar.interval, bar) from None
    if bar.symbol != push.symbol:
        raise WireError(f"the exchange's kline is of {push.symbol} outside and of {bar.symbol} inside")
    if bar.open_ms % step_ms:
        raise WireError(f"the exchange's {bar.interval} kline of {bar.symbol} begins at {bar.open_ms}, off the grid")
    ends = bar.open_ms + step_ms
    if bar.is_closed and push.event_ms < ends - 1:
        early = ends - push.event_ms
        raise WireError(f"the exchange's {bar.interval} kline of {bar.symbol} is closed {early} ms before its end")
    return sound(
        Kline(
            symbol=bar.symbol,
            interval_ms=step_ms,
            open_ms=bar.open_ms,
            open=bar.open,
            high=bar.high,
            low=bar.low,
            close=bar.close,
            volume=bar.volume,
            taker_buy_volume=bar.taker_buy_volume,
        )
    )


def sound(kline: Kline) -> Kline:
    """Return the bar; raises `WireError` for values that no market can produce."""
    reason = check_bar(kline.open, kline.high, kline.low, kline.close, kline.volume, kline.taker_buy_volume)
    if reason is not None:
        raise WireError(f"the exchange's kline of {kline.symbol} at {kline.open_ms} is impossible: {reason}")
    return kline


def quotes(push: BookTickerPush) -> Quotes:
    """Return the best bid and ask of a bookTicker message."""
    return Quotes(push.event_ms, ((push.symbol, Quote(push.bid, push.bid_qty, push.ask, push.ask_qty)),))


def funding(push: MarkPricePush, *, hours: int = 8) -> Funding | None:
    """Return a mark price message's funding; None for a contract without one."""
    if not isinstance(push.rate, Decimal):
        return None
    return Funding(
        at_ms=push.event_ms,
        symbol=push.symbol,
        mark=push.mark,
        rate=push.rate,
        next_funding_ms=settlement(push.next_funding_ms, push.event_ms),
        interval_hours=hours,
    )


def settlement(next_ms: int, at_ms: int) -> int:
    """Return the time of the next funding; raises `Untimely` if it is over two days away: intervals are 8 hours or less."""
    if next_ms > at_ms + FUNDING_AHEAD_MS:
        raise Untimely(f"the exchange's next funding is {next_ms - at_ms} ms away: more than two days")
    return next_ms


def order_trade_update(
    push: OrderPush, *, rates: FeeRates | None = None, latest_ms: int | None = None
) -> tuple[Event, ...]:
    """Return the fill, if the message reports one, and then the order's new state.

    Liquidations and deleveraging (`autoclose-…`, `adl_autoclose`) come as orders that the bot never placed: their fills
    change the position like any other.

    Raises
    ------
    WireError
        A fill has no price, or the trade is later than `latest_ms`.
    """
    order = push.order
    in_time(order.trade_ms, latest_ms)
    status = ORDER_STATUS[order.state]
    if status is OrderStatus.NEW and order.original_type in CONDITIONAL:
        status = OrderStatus.TRIGGERED
    update = OrderUpdate(
        at_ms=push.event_ms,
        client_id=order.client_id,
        symbol=order.symbol,
        status=status,
        side=order.side,
        qty=order.qty,
        filled_qty=order.filled_qty,
        average_price=order.average_price,
        order_id=order.order_id,
        reason=expiry_reason(order, status),
    )
    if order.execution not in ("TRADE", "CALCULATED") or order.last_qty == 0:
        return (update,)
    if order.last_price == 0:
        raise unreadable("L", order.last_price, order)
    fee = fee_in_quote(
        order.fee,
        order.fee_asset,
        notional=order.last_qty * order.last_price,
        symbol=order.symbol,
        maker=order.maker,
        rates=rates,
    )
    fill = Fill(
        at_ms=order.trade_ms,
        client_id=order.client_id,
        symbol=order.symbol,
        side=order.side,
        qty=order.last_qty,
        price=order.last_price,
        fee=fee,
        maker=order.maker,
        trade_id=order.trade_id or -order.trade_ms,  # a liquidation may lack an id: its time serves instead
        realized=order.realized,
    )
    return fill, update


def expiry_reason(order: OrderBody, status: OrderStatus) -> str:
    """Return why an order expired, from the exchange's expiry code."""
    if status is not OrderStatus.EXPIRED:
        return ""
    if order.state == "EXPIRED_IN_MATCH":
        return "self-trade prevention"
    return _EXPIRY.get(order.expiry, f"er={order.expiry}")


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


def algo_update(push: AlgoPush) -> OrderUpdate:
    """Return an algo order's new state."""
    order = push.order
    return OrderUpdate(
        at_ms=push.event_ms,
        client_id=order.client_id,
        symbol=order.symbol,
        status=algo_status(order.state, qty=order.qty, filled=order.filled_qty),
        side=order.side,
        qty=order.qty,
        filled_qty=order.filled_qty,
        average_price=order.average_price,
        order_id=order.order_id or order.algo_id,
        algo=True,
        reason=order.reason,
    )


def algo_status(name: AlgoState, *, qty: Decimal, filled: Decimal) -> OrderStatus:
    """Return an algo order's status; FINISHED only means that the regular order has ended, `filled` shows how.

    A closePosition order has no quantity of its own: any fill counts as complete.
    """
    if name == "FINISHED":
        if filled == 0:
            return OrderStatus.CANCELED
        return OrderStatus.FILLED if filled >= qty else OrderStatus.EXPIRED
    return ALGO_STATUS[name]


def account_update(push: AccountPush, *, symbols: Collection[str] | None = None) -> tuple[Event, ...]:
    """Return wallet and positions after a change, and the margin types if these have changed.

    A message without a wallet in the quote asset yields neither wallet nor positions.
    """
    change, events = push.change, list[Event]()
    wallet = next((line for line in change.balances if line.asset == QUOTE_ASSET), None)
    if wallet is not None:
        positions = tuple(
            PositionReport(
                symbol=p.symbol,
                qty=p.qty,
                entry_price=p.entry_price,
                isolated_wallet=p.isolated_wallet,
                unrealized=p.unrealized,
            )
            for p in change.positions
            if p.position_side == "BOTH"
        )
        events.append(AccountUpdate(push.event_ms, change.reason, wallet.wallet, wallet.change, positions))
    if change.reason == "MARGIN_TYPE_CHANGE":
        events += (
            MarginTypeSet(push.event_ms, p.symbol, p.margin_type.lower().startswith("isolated"))
            for p in change.positions
            if p.margin_type and (symbols is None or p.symbol in symbols)
        )
    return tuple(events)


# Intents --------------------------------------------------------------------------------------------------------------


def text(value: Decimal) -> str:
    """Return a decimal in Binance's format: digits, no exponent.

    >>> text(Decimal("0.00001")), text(Decimal("1E+2"))
    ('0.00001', '100')
    """
    return format(value, "f")


def checked_id(client_id: str) -> str:
    """Return a client id that signing and form encoding leave unchanged; raises `InvariantError` for any other."""
    if CLIENT_ID.fullmatch(client_id) is None:
        raise InvariantError(f"client id {client_id!r} is not 1 to 36 letters, digits, '_', '.' or '-'")
    return client_id


def is_exit(intent: PlaceOrder) -> bool:
    """Return whether an order can only reduce a position: such orders may use the reserve of the request budget."""
    return intent.reduce_only or intent.close_position or intent.algo


def place_params(intent: PlaceOrder) -> dict[str, str]:
    """Return the parameters of `POST order`, or of `POST algoOrder` for a stop.

    Orders that cannot rest request RESULT, so that the reply holds their terminal state; all others ACK.

    Raises
    ------
    InvariantError
        A stop without trigger price, a limit order without price, an invalid client id, or `close_position` without `algo`.
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
    """Return the parameters that identify one order."""
    return {"symbol": symbol, "clientAlgoId" if algo else "origClientOrderId": checked_id(client_id)}
