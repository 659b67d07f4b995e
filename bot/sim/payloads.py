"""The exchange's JSON of orders, positions and money, as plain dicts: REST replies and user-stream events.

Field names and shapes are those of the venue notes, section 3: prices and quantities are strings, times are int ms.
"""

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from bot.sim.account import ZERO, Position
from bot.sim.orders import Algo, Fill, Order

if TYPE_CHECKING:
    from bot.sim.venue import Venue

Json = dict[str, Any]


def money(amount: Decimal) -> str:
    """Write money with 8 decimals."""
    return f"{amount:.8f}"


def order_reply(venue: "Venue", order: Order) -> Json:
    """Return an order as POST, GET and DELETE order and openOrders give it."""
    rules = venue.rules[order.symbol]
    average = f"{rules.average(order.cost, order.filled):f}" if order.filled else "0.00"
    return {
        "orderId": order.order_id,
        "symbol": order.symbol,
        "status": order.status,
        "clientOrderId": order.client_id,
        "price": f"{rules.price(order.price):f}",
        "avgPrice": average,
        "origQty": f"{rules.qty(order.lots):f}",
        "executedQty": f"{rules.qty(order.filled):f}",
        "cumQty": f"{rules.qty(order.filled):f}",
        "cumQuote": f"{rules.notional(order.cost):.5f}",
        "timeInForce": order.tif,
        "type": order.type,
        "reduceOnly": order.reduce_only,
        "closePosition": order.close_position,
        "side": order.side,
        "positionSide": "BOTH",
        "stopPrice": f"{order.trigger:f}",
        "workingType": order.working_type,
        "priceProtect": order.price_protect,
        "origType": order.orig_type or order.type,
        "priceMatch": "NONE",
        "selfTradePreventionMode": order.stp,
        "goodTillDate": 0,
        "time": order.created_ms,
        "updateTime": order.updated_ms,
    }


def acknowledged(reply: Json) -> Json:
    """Return an order's reply as ACK gives it: accepted, no outcome yet."""
    nothing = {"status": "NEW", "executedQty": "0", "cumQty": "0", "cumQuote": "0", "avgPrice": "0.00"}
    return {**reply, **nothing, "updateTime": reply["time"]}


def order_event(venue: "Venue", order: Order, x: str, fill: Fill | None = None) -> Json:
    """Return ORDER_TRADE_UPDATE."""
    rules = venue.rules[order.symbol]
    bids = asks = ZERO
    for other in venue.open_orders(order.symbol):
        notional = rules.notional(other.left * other.price)
        if other.buy:
            bids += notional
        else:
            asks += notional
    body: Json = {
        "s": order.symbol,
        "c": order.client_id,
        "S": order.side,
        "o": order.type,
        "f": order.tif,
        "q": f"{rules.qty(order.lots):f}",
        "p": f"{rules.price(order.price):f}",
        "ap": f"{rules.average(order.cost, order.filled):f}",
        "sp": f"{order.trigger:f}",
        "x": x,
        "X": order.status,
        "i": order.order_id,
        "l": f"{rules.qty(fill.lots):f}" if fill else "0",
        "z": f"{rules.qty(order.filled):f}",
        "L": f"{rules.price(fill.price):f}" if fill else "0",
        "T": venue.now_ms,
        "t": fill.trade_id if fill else 0,
        "b": f"{bids:f}",
        "a": f"{asks:f}",
        "m": bool(fill and fill.maker),
        "R": order.reduce_only,
        "wt": order.working_type,
        "ot": order.orig_type or order.type,
        "ps": "BOTH",
        "cp": order.close_position,
        "rp": f"{fill.realized:f}" if fill else "0",
        "pP": order.price_protect,
        "si": 0,
        "ss": 0,
        "V": order.stp,
        "pm": "NONE",
        "gtd": 0,
        "er": order.er,
    }
    if fill is not None:
        body["N"], body["n"] = "USDT", f"{fill.fee:f}"
    if order.amends:
        body["M"] = order.amends
    return {"e": "ORDER_TRADE_UPDATE", "E": venue.now_ms, "T": venue.now_ms, "o": body}


def trade_lite(venue: "Venue", fill: Fill) -> Json:
    """Return TRADE_LITE, the short word that comes before ORDER_TRADE_UPDATE."""
    rules, order = venue.rules[fill.order.symbol], fill.order
    return {
        "e": "TRADE_LITE",
        "E": venue.now_ms,
        "T": fill.at_ms,
        "s": order.symbol,
        "q": f"{rules.qty(order.lots):f}",
        "p": f"{rules.price(order.price):f}",
        "m": fill.maker,
        "c": order.client_id,
        "S": order.side,
        "L": f"{rules.price(fill.price):f}",
        "l": f"{rules.qty(fill.lots):f}",
        "t": fill.trade_id,
        "i": order.order_id,
    }


def account_event(venue: "Venue", reason: str, *, symbols: tuple[str, ...] = (), change: Decimal = ZERO) -> Json:
    """Return ACCOUNT_UPDATE with the wallet and the positions that changed."""
    positions = []
    for symbol in symbols:
        p = venue.account.positions[symbol]
        positions.append(
            {
                "s": symbol,
                "pa": f"{p.qty:f}",
                "ep": f"{p.entry.normalize():f}",
                "bep": f"{p.entry.normalize():f}",
                "cr": f"{p.realized:f}",
                "up": money(p.unrealized(venue.mark(symbol))),
                "mt": "isolated" if p.isolated else "cross",
                "iw": money(p.isolated_wallet),
                "ps": "BOTH",
                "ma": "USDT",
            }
        )
    account = venue.account
    balance = {"a": "USDT", "wb": money(account.wallet), "cw": money(account.cross_wallet), "bc": f"{change:f}"}
    body = {"m": reason, "B": [balance], "P": positions}
    return {"e": "ACCOUNT_UPDATE", "E": venue.now_ms, "T": venue.now_ms, "a": body}


def leverage_event(venue: "Venue", symbol: str) -> Json:
    """Return ACCOUNT_CONFIG_UPDATE of a symbol's leverage."""
    config = {"s": symbol, "l": venue.account.positions[symbol].leverage}
    return {"e": "ACCOUNT_CONFIG_UPDATE", "E": venue.now_ms, "T": venue.now_ms, "ac": config}


def margin_call(venue: "Venue", symbol: str) -> Json:
    """Return MARGIN_CALL for one position."""
    p, mark = venue.account.positions[symbol], venue.mark(symbol)
    row = {
        "s": symbol,
        "ps": "BOTH",
        "pa": f"{p.qty:f}",
        "mt": "ISOLATED" if p.isolated else "CROSSED",
        "iw": money(p.isolated_wallet),
        "mp": f"{mark:f}",
        "up": money(p.unrealized(mark)),
        "mm": money(p.maintenance(mark)),
    }
    return {"e": "MARGIN_CALL", "E": venue.now_ms, "cw": money(venue.account.cross_wallet), "p": [row]}


def algo_event(venue: "Venue", algo: Algo) -> Json:
    """Return ALGO_UPDATE; what is not known before the trigger is left out."""
    rules = venue.rules[algo.symbol]
    body: Json = {
        "caid": algo.client_id,
        "aid": algo.algo_id,
        "at": "CONDITIONAL",
        "o": algo.type,
        "s": algo.symbol,
        "S": algo.side,
        "ps": "BOTH",
        "f": algo.tif,
        "q": f"{rules.qty(algo.lots):f}" if algo.lots else "0",
        "X": algo.status,
        "ai": str(algo.order.order_id) if algo.order else "",
        "tp": f"{algo.trigger:f}",
        "p": f"{rules.price(algo.price):f}" if algo.price else "0",
        "V": algo.stp,
        "wt": algo.working_type,
        "pm": "NONE",
        "cp": algo.close_position,
        "pP": algo.price_protect,
        "R": algo.reduce_only,
        "tt": algo.triggered_ms,
        "gtd": 0,
    }
    if algo.order is not None:
        order = algo.order
        body["ap"] = f"{rules.average(order.cost, order.filled):f}"
        body["aq"] = f"{rules.qty(order.filled):f}"
        body["act"] = order.type
    if algo.reject:
        body["rm"] = algo.reject
    return {"e": "ALGO_UPDATE", "T": venue.now_ms, "E": venue.now_ms, "o": body}


def algo_reply(venue: "Venue", algo: Algo) -> Json:
    """Return a conditional order as the algoOrder endpoints give it."""
    rules, order = venue.rules[algo.symbol], algo.order
    return {
        "algoId": algo.algo_id,
        "clientAlgoId": algo.client_id,
        "algoType": "CONDITIONAL",
        "orderType": algo.type,
        "symbol": algo.symbol,
        "side": algo.side,
        "positionSide": "BOTH",
        "timeInForce": algo.tif,
        "quantity": f"{rules.qty(algo.lots):f}",
        "algoStatus": algo.status,
        "actualOrderId": str(order.order_id) if order else "",
        "actualPrice": f"{rules.average(order.cost, order.filled):f}" if order else "0.00000",
        "actualQty": f"{rules.qty(order.filled):f}" if order else "0",
        "actualType": order.type if order else "",
        "triggerPrice": f"{algo.trigger:f}",
        "price": f"{rules.price(algo.price):f}",
        "icebergQuantity": None,
        "tpTriggerPrice": "0.000",
        "tpPrice": "0.000",
        "slTriggerPrice": "0.000",
        "slPrice": "0.000",
        "tpOrderType": "",
        "slOrderType": "",
        "selfTradePreventionMode": algo.stp,
        "workingType": algo.working_type,
        "priceMatch": "NONE",
        "closePosition": algo.close_position,
        "priceProtect": algo.price_protect,
        "reduceOnly": algo.reduce_only,
        "activatePrice": f"{algo.activate:f}" if algo.activate else "",
        "callbackRate": f"{algo.callback:f}" if algo.callback else "",
        "createTime": algo.created_ms,
        "updateTime": algo.updated_ms,
        "triggerTime": algo.triggered_ms,
        "goodTillDate": 0,
        "rejectReason": algo.reject,
    }


def fill_reply(venue: "Venue", fill: Fill) -> Json:
    """Return one of userTrades."""
    rules, order = venue.rules[fill.order.symbol], fill.order
    return {
        "buyer": order.buy,
        "commission": f"{fill.fee:f}",
        "commissionAsset": "USDT",
        "id": fill.trade_id,
        "maker": fill.maker,
        "orderId": order.order_id,
        "price": f"{rules.price(fill.price):f}",
        "qty": f"{rules.qty(fill.lots):f}",
        "quoteQty": f"{rules.notional(fill.lots * fill.price):f}",
        "marginAsset": "USDT",
        "realizedPnl": f"{fill.realized:f}",
        "side": order.side,
        "positionSide": "BOTH",
        "symbol": order.symbol,
        "time": fill.at_ms,
    }


def position_reply(venue: "Venue", symbol: str, *, version: int) -> Json:
    """Return one of positionRisk v3, or v2 with its settings."""
    p, mark, rules = venue.account.positions[symbol], venue.mark(symbol), venue.rules[symbol]
    margin = p.initial(mark)
    reserved = venue.order_margin(symbol)
    buys, sells = venue.open_notional(symbol)
    row: Json = {
        "symbol": symbol,
        "positionSide": "BOTH",
        "positionAmt": f"{p.qty:.{rules.qty_digits}f}",
        "entryPrice": f"{p.entry.normalize():f}" if p.qty else "0.0",
        "breakEvenPrice": f"{p.entry.normalize():f}" if p.qty else "0.0",
        "markPrice": money(mark),
        "unRealizedProfit": money(p.unrealized(mark)),
        "liquidationPrice": f"{p.liquidation(mark).normalize():f}",
        "isolatedMargin": money(p.isolated_wallet + p.unrealized(mark)) if p.isolated and p.qty else "0",
        "notional": f"{p.notional(mark):f}",
        "isolatedWallet": money(p.isolated_wallet),
        "updateTime": p.updated_ms,
    }
    if version >= 3:
        row |= {
            "marginAsset": "USDT",
            "initialMargin": money(margin + reserved),
            "maintMargin": money(p.maintenance(mark)),
            "positionInitialMargin": money(margin),
            "openOrderInitialMargin": money(reserved),
            "adl": 0,
            "bidNotional": f"{buys:f}",
            "askNotional": f"{sells:f}",
        }
    else:
        row |= {
            "marginType": "isolated" if p.isolated else "cross",
            "isAutoAddMargin": "false",
            "leverage": str(p.leverage),
            "maxNotionalValue": f"{rules.cap(p.leverage):f}",
        }
    return row


def balance_reply(venue: "Venue") -> Json:
    """Return one of balance."""
    marks, account = venue.marks(), venue.account
    available = account.available(marks, venue.reserved())
    return {
        "accountAlias": "SgsR",
        "asset": "USDT",
        "balance": money(account.wallet),
        "crossWalletBalance": money(account.cross_wallet),
        "crossUnPnl": money(account.unrealized(marks, cross_only=True)),
        "availableBalance": money(available),
        "maxWithdrawAmount": money(available),
        "marginAvailable": True,
        "updateTime": venue.account_ms,
    }


def account_reply(venue: "Venue", *, version: int) -> Json:
    """Return account v3, or v2 with its settings and all symbols."""
    marks, account = venue.marks(), venue.account
    reserved, unrealized = venue.reserved(), account.unrealized(marks)
    positions = account.positions
    margin = sum((p.initial(marks[s]) for s, p in positions.items()), ZERO)
    maintenance = sum((p.maintenance(marks[s]) for s, p in positions.items()), ZERO)
    available = money(account.available(marks, reserved))
    both = {
        "initialMargin": money(margin + reserved),
        "maintMargin": money(maintenance),
        "walletBalance": money(account.wallet),
        "unrealizedProfit": money(unrealized),
        "marginBalance": money(account.wallet + unrealized),
        "positionInitialMargin": money(margin),
        "openOrderInitialMargin": money(reserved),
        "crossWalletBalance": money(account.cross_wallet),
        "crossUnPnl": money(account.unrealized(marks, cross_only=True)),
    }
    reply: Json = {"total" + key[0].upper() + key[1:]: value for key, value in both.items()}
    reply |= {"availableBalance": available, "maxWithdrawAmount": available}
    asset: Json = {"asset": "USDT", **both, "availableBalance": available, "maxWithdrawAmount": available}
    asset |= {"marginAvailable": True, "updateTime": venue.account_ms}
    reply["assets"] = [asset]
    reply["positions"] = [
        _account_position(venue, symbol, p, marks[symbol], version=version)
        for symbol, p in positions.items()
        if version < 3 or p.qty or venue.open_orders(symbol)
    ]
    if version < 3:
        reply |= {"feeTier": 0, "canTrade": True, "canDeposit": True, "canWithdraw": True, "tradeGroupId": -1}
        reply |= {"multiAssetsMargin": False, "updateTime": 0}
    return reply


def _account_position(venue: "Venue", symbol: str, p: Position, mark: Decimal, *, version: int) -> Json:
    margin, reserved = p.initial(mark), venue.order_margin(symbol)
    row: Json = {
        "symbol": symbol,
        "positionSide": "BOTH",
        "positionAmt": f"{p.qty:f}",
        "unrealizedProfit": money(p.unrealized(mark)),
        "isolatedMargin": money(p.isolated_wallet + p.unrealized(mark)) if p.isolated and p.qty else "0",
        "notional": f"{p.notional(mark):f}",
        "isolatedWallet": money(p.isolated_wallet),
        "initialMargin": money(margin + reserved),
        "maintMargin": money(p.maintenance(mark)),
        "updateTime": p.updated_ms,
    }
    if version < 3:
        row |= {
            "positionInitialMargin": money(margin),
            "openOrderInitialMargin": money(reserved),
            "leverage": str(p.leverage),
            "isolated": p.isolated,
            "entryPrice": f"{p.entry.normalize():f}",
            "breakEvenPrice": f"{p.entry.normalize():f}",
            "maxNotional": f"{venue.rules[symbol].cap(p.leverage):f}",
            "bidNotional": "0",
            "askNotional": "0",
        }
    return row
