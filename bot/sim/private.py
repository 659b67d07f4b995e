"""Trading and the account by REST: handlers of signed requests, in Binance's shapes."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import orjson

from bot.sim import entry, payloads
from bot.sim.calls import Reply
from bot.sim.errors import Refused
from bot.sim.orders import Order
from bot.sim.public import whole

if TYPE_CHECKING:
    from bot.sim.server import Exchange

Params = dict[str, str]
MAX_BATCH: Final = 5


class PrivateApi:
    """Handlers by `METHOD path`; `writes` are those that change something, `keyed` need a key but no signature."""

    def __init__(self, exchange: "Exchange") -> None:
        self._x = exchange
        self._venue = exchange.venue
        self.writes: dict[str, Callable[[Params], Any]] = {
            "POST /fapi/v1/order": self.post_order,
            "PUT /fapi/v1/order": self.put_order,
            "DELETE /fapi/v1/order": self.delete_order,
            "POST /fapi/v1/batchOrders": self.post_batch,
            "PUT /fapi/v1/batchOrders": self.put_batch,
            "DELETE /fapi/v1/batchOrders": self.delete_batch,
            "DELETE /fapi/v1/allOpenOrders": self.delete_all,
            "POST /fapi/v1/algoOrder": self.post_algo,
            "DELETE /fapi/v1/algoOrder": self.delete_algo,
            "DELETE /fapi/v1/algoOpenOrders": self.delete_algos,
            "POST /fapi/v1/leverage": self._venue.set_leverage,
            "POST /fapi/v1/marginType": self._venue.set_margin_type,
            "POST /fapi/v1/positionMargin": self._venue.move_margin,
            "POST /fapi/v1/positionSide/dual": self.post_dual,
            "POST /fapi/v1/multiAssetsMargin": self.post_multi,
        }
        self.reads: dict[str, Callable[[Params], Any]] = {
            "POST /fapi/v1/order/test": self.test_order,
            "GET /fapi/v1/order": lambda p: payloads.order_reply(self._venue, self._venue.find(p)),
            "GET /fapi/v1/openOrder": self.open_order,
            "GET /fapi/v1/openOrders": self.open_orders,
            "GET /fapi/v1/allOrders": self.all_orders,
            "GET /fapi/v1/algoOrder": lambda p: payloads.algo_reply(self._venue, self._venue.algos.find(p)),
            "GET /fapi/v1/openAlgoOrders": self.open_algos,
            "GET /fapi/v1/allAlgoOrders": self.all_algos,
            "GET /fapi/v1/userTrades": self.user_trades,
            "GET /fapi/v1/income": self.income,
            "GET /fapi/v2/account": lambda p: payloads.account_reply(self._venue, version=2),
            "GET /fapi/v3/account": lambda p: payloads.account_reply(self._venue, version=3),
            "GET /fapi/v2/balance": lambda p: [payloads.balance_reply(self._venue)],
            "GET /fapi/v3/balance": lambda p: [payloads.balance_reply(self._venue)],
            "GET /fapi/v2/positionRisk": lambda p: self.positions(p, 2),
            "GET /fapi/v3/positionRisk": lambda p: self.positions(p, 3),
            "GET /fapi/v1/positionSide/dual": lambda p: {"dualSidePosition": False},
            "GET /fapi/v1/multiAssetsMargin": lambda p: {"multiAssetsMargin": False},
            "GET /fapi/v1/leverageBracket": self.brackets,
            "GET /fapi/v1/commissionRate": self.commission,
            "GET /fapi/v1/accountConfig": self.account_config,
            "GET /fapi/v1/symbolConfig": self.symbol_config,
        }
        self.keyed: dict[str, Callable[[Params], Any]] = {
            "POST /fapi/v1/listenKey": lambda p: {"listenKey": self._x.keys.create()},
            "PUT /fapi/v1/listenKey": lambda p: {"listenKey": self._x.keys.extend()},
            "DELETE /fapi/v1/listenKey": lambda p: self._x.keys.delete(),
        }

    # -- regular orders ---------------------------------------------------------------------------------------------

    def post_order(self, params: Params) -> Any:
        """Place an order."""
        self._x.limits.order(self._x.clock.now_ms())
        order, result = self._venue.place(params)
        return self._outcome(order, result)

    def _outcome(self, order: Order, result: bool) -> Reply:
        reply = payloads.order_reply(self._venue, order)
        if not result:
            return Reply(200, payloads.acknowledged(reply))
        if order.type != "MARKET" or not order.live:
            return Reply(200, reply)

        def later() -> Any:
            return None if order.live else payloads.order_reply(self._venue, order)

        return Reply(200, reply, later=later)

    def test_order(self, params: Params) -> Any:
        """Check an order without placing it."""
        order, _ = self._venue.place(params, test=True)
        return payloads.order_reply(self._venue, order)

    def put_order(self, params: Params) -> Any:
        """Amend an order."""
        return payloads.order_reply(self._venue, self._venue.amend(params))

    def delete_order(self, params: Params) -> Any:
        """Cancel an order."""
        return payloads.order_reply(self._venue, self._venue.cancel(params))

    def delete_all(self, params: Params) -> Any:
        """Cancel all regular orders of a symbol."""
        self._venue.cancel_all(self._venue.symbol_of(params))
        return {"code": 200, "msg": "The operation of cancel all open order is done."}

    def post_batch(self, params: Params) -> Any:
        """Place up to five orders; each element is an order or an error."""
        orders = _list(params, "batchOrders")
        self._x.limits.order(self._x.clock.now_ms(), len(orders))
        return [self._one(self._place_one, order) for order in orders]

    def _place_one(self, params: Params) -> Any:
        order, result = self._venue.place(params)
        return self._outcome(order, result).data

    def put_batch(self, params: Params) -> Any:
        """Amend up to five orders."""
        return [self._one(self.put_order, order) for order in _list(params, "batchOrders")]

    def delete_batch(self, params: Params) -> Any:
        """Cancel orders by a list of ids."""
        symbol = self._venue.symbol_of(params)
        lists = {name.lower(): value for name, value in params.items()}  # python-binance writes them in small letters
        if "orderidlist" in lists:
            name, values = "orderId", _json(lists, "orderidlist")
        else:
            name, values = "origClientOrderId", _json(lists, "origclientorderidlist")
        return [self._one(self.delete_order, {"symbol": symbol, name: str(value)}) for value in values]

    def _one(self, action: Callable[[Params], Any], params: Params) -> Any:
        try:
            return action(params)
        except Refused as refused:
            return refused.body()

    def open_order(self, params: Params) -> Any:
        """Tell one open order."""
        order = self._venue.find(params)
        if not order.live:
            raise Refused(-2013)
        return payloads.order_reply(self._venue, order)

    def open_orders(self, params: Params) -> Any:
        """Tell the open orders; conditional ones are not among them."""
        return [payloads.order_reply(self._venue, o) for s in self._symbols(params) for o in self._venue.open_orders(s)]

    def all_orders(self, params: Params) -> Any:
        """Tell a symbol's orders, oldest first."""
        symbol, first = self._venue.symbol_of(params), whole(params, "orderId")
        orders = [o for o in self._venue.orders.values() if o.symbol == symbol and o.order_id >= (first or 0)]
        rows = [payloads.order_reply(self._venue, o) for o in orders]
        return self._window(rows, params, "time", ascending_from_id=first is not None)

    # -- conditional orders -----------------------------------------------------------------------------------------

    def post_algo(self, params: Params) -> Any:
        """Place a conditional order."""
        self._x.limits.order(self._x.clock.now_ms())
        return payloads.algo_reply(self._venue, self._venue.algos.place(params))

    def delete_algo(self, params: Params) -> Any:
        """Cancel a conditional order; the code is a string here."""
        algo = self._venue.algos.cancel(params)
        return {"algoId": algo.algo_id, "clientAlgoId": algo.client_id, "code": "200", "msg": "success"}

    def delete_algos(self, params: Params) -> Any:
        """Cancel all conditional orders of a symbol."""
        self._venue.algos.cancel_all(self._venue.symbol_of(params))
        return {"code": 200, "msg": "The operation of cancel all open order is done."}

    def open_algos(self, params: Params) -> Any:
        """Tell the conditional orders that wait."""
        desk = self._venue.algos
        algos = [a for s in self._symbols(params) for a in desk.open(s) if a.status == "NEW"]
        return [payloads.algo_reply(self._venue, algo) for algo in algos]

    def all_algos(self, params: Params) -> Any:
        """Tell a symbol's conditional orders, oldest first."""
        symbol, first = self._venue.symbol_of(params), whole(params, "algoId")
        algos = [a for a in self._venue.algos.by_id.values() if a.symbol == symbol and a.algo_id >= (first or 0)]
        rows = [payloads.algo_reply(self._venue, a) for a in algos]
        return self._window(rows, params, "createTime", ascending_from_id=first is not None)

    # -- the account ------------------------------------------------------------------------------------------------

    def positions(self, params: Params, version: int) -> Any:
        """Tell positions: v3 only those that are open or have orders, v2 all."""
        venue = self._venue
        return [
            payloads.position_reply(venue, symbol, version=version)
            for symbol in self._symbols(params)
            if version < 3 or venue.account.positions[symbol].qty or venue.open_orders(symbol)
        ]

    def user_trades(self, params: Params) -> Any:
        """Tell fills, oldest first."""
        symbol, first, order = self._venue.symbol_of(params), whole(params, "fromId"), whole(params, "orderId")
        fills = [
            fill
            for fill in self._venue.fills
            if fill.order.symbol == symbol
            and (order is None or fill.order.order_id == order)
            and fill.trade_id >= (first or 0)
        ]
        rows = [payloads.fill_reply(self._venue, fill) for fill in fills]
        return self._window(rows, params, "time", ascending_from_id=first is not None)

    def income(self, params: Params) -> Any:
        """Tell the bookings."""
        kind, symbol = params.get("incomeType"), params.get("symbol")
        rows = [
            row
            for row in self._venue.incomes
            if (not kind or row["incomeType"] == kind) and (not symbol or row["symbol"] == symbol)
        ]
        return self._window(rows, params, "time", default=100)

    def _window(
        self,
        rows: list[dict[str, Any]],
        params: Params,
        key: str,
        *,
        ascending_from_id: bool = False,
        default: int = 500,
    ) -> Any:
        start, end, limit = whole(params, "startTime"), whole(params, "endTime"), whole(params, "limit") or default
        if not 1 <= limit <= 1000:
            raise Refused(-1130, "limit")
        rows = [row for row in rows if (start is None or row[key] >= start) and (end is None or row[key] <= end)]
        return rows[:limit] if start is not None or ascending_from_id else rows[-limit:]

    def brackets(self, params: Params) -> Any:
        """Tell the maintenance tiers."""
        return [self._venue.rules[symbol].brackets() for symbol in self._symbols(params)]

    def commission(self, params: Params) -> Any:
        """Tell the fees."""
        return {
            "symbol": self._venue.symbol_of(params),
            "makerCommissionRate": f"{self._venue.maker_fee:.6f}",
            "takerCommissionRate": f"{self._venue.taker_fee:.6f}",
            "rpiCommissionRate": "0.000000",
        }

    def account_config(self, params: Params) -> Any:
        """Tell the account's settings."""
        return {
            "feeTier": 0,
            "canTrade": True,
            "canDeposit": True,
            "canWithdraw": True,
            "dualSidePosition": False,
            "updateTime": 0,
            "multiAssetsMargin": False,
            "tradeGroupId": -1,
        }

    def symbol_config(self, params: Params) -> Any:
        """Tell the symbols' settings."""
        rows = []
        for symbol in self._symbols(params):
            p = self._venue.account.positions[symbol]
            rows.append(
                {
                    "symbol": symbol,
                    "marginType": "ISOLATED" if p.isolated else "CROSSED",
                    "isAutoAddMargin": False,
                    "leverage": p.leverage,
                    "maxNotionalValue": f"{p.rules.cap(p.leverage):f}",
                }
            )
        return rows

    def post_dual(self, params: Params) -> Any:
        """Refuse to change the position mode: one-way is what there is."""
        entry.required(params, "dualSidePosition")
        raise Refused(-1020 if entry.flag(params, "dualSidePosition") else -4059)

    def post_multi(self, params: Params) -> Any:
        """Refuse to change the asset mode: single-asset is what there is."""
        entry.required(params, "multiAssetsMargin")
        raise Refused(-1020 if entry.flag(params, "multiAssetsMargin") else -4171)

    def _symbols(self, params: Params) -> list[str]:
        return [self._venue.symbol_of(params)] if params.get("symbol") else list(self._venue.rules)


def _json(params: Params, name: str) -> list[Any]:
    try:
        values = orjson.loads(entry.required(params, name))
    except orjson.JSONDecodeError:
        raise Refused(-1130, name) from None
    if not isinstance(values, list) or not values:
        raise Refused(-1130, name)
    return values


def _list(params: Params, name: str) -> list[Params]:
    rows = _json(params, name)
    if len(rows) > MAX_BATCH or not all(isinstance(row, dict) for row in rows):
        raise Refused(-1130, name)
    return [{key: str(value) for key, value in row.items()} for row in rows]
