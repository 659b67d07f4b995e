"""REST payloads of orders, conditional orders and fills, as plain dicts.

Field names and shapes are those of venue notes 3: prices and quantities are strings, times are int ms.
"""

from typing import TYPE_CHECKING

from bot.sim.events import Json, money
from bot.sim.orders import Algo, VenueFill, VenueOrder

if TYPE_CHECKING:
    from bot.sim.venue import Venue

__all__ = ["Json", "acknowledged", "algo_reply", "fill_reply", "money", "order_reply"]


def order_reply(venue: "Venue", order: VenueOrder) -> Json:
    """Return an order as POST, GET and DELETE order and openOrders report it."""
    rules, algo = venue.rules[order.symbol], order.algo
    trailing = {} if algo is None or not algo.callback else {
        "activatePrice": f"{algo.activate:f}", "priceRate": f"{algo.callback:f}"}  # fmt: skip
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
        "priceMatch": order.price_match,
        "selfTradePreventionMode": order.stp,
        "goodTillDate": order.gtd,
        "time": order.created_ms,
        "updateTime": order.updated_ms,
        **trailing,
    }


def acknowledged(reply: Json) -> Json:
    """Return an order's reply in ACK form: accepted, outcome unknown."""
    nothing = {"status": "NEW", "executedQty": "0", "cumQty": "0", "cumQuote": "0", "avgPrice": "0.00"}
    return {**reply, **nothing, "updateTime": reply["time"]}


def algo_reply(venue: "Venue", algo: Algo) -> Json:
    """Return a conditional order as the algoOrder endpoints report it."""
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
        "priceMatch": algo.price_match,
        "closePosition": algo.close_position,
        "priceProtect": algo.price_protect,
        "reduceOnly": algo.reduce_only,
        "activatePrice": f"{algo.activate:f}" if algo.activate else "",
        "callbackRate": f"{algo.callback:f}" if algo.callback else "",
        "createTime": algo.created_ms,
        "updateTime": algo.updated_ms,
        "triggerTime": algo.triggered_ms,
        "goodTillDate": algo.gtd,
        "rejectReason": algo.reject,
    }


def fill_reply(venue: "Venue", fill: VenueFill) -> Json:
    """Return a userTrades row."""
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
