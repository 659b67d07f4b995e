"""Order endpoints of REST: regular and conditional orders, in Binance's shapes."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import orjson

from bot.core.times import DAY_MS
from bot.sim import entry, payloads
from bot.sim.calls import Reply
from bot.sim.errors import Refused
from bot.sim.orders import VenueOrder
from bot.sim.public import whole

if TYPE_CHECKING:
    from bot.sim.server import Exchange
    from bot.sim.venue import Venue

Params = dict[str, str]
MAX_BATCH: Final = 5
WEEK_MS: Final = 7 * DAY_MS


class TradingApi:
    """Handlers by `METHOD path`: `writes` change something, `reads` do not.

    Parameters
    ----------
    venue : Venue
        The venue to read and change: the exchange's own, or a past state of it for stale reads.
    """

    def __init__(self, exchange: "Exchange", venue: "Venue") -> None:
        self._x, self._venue = exchange, venue
        self.writes: dict[str, Callable[[Params], Any]] = {
            "POST /fapi/v1/order": self.post_order,
            "PUT /fapi/v1/order": self.put_order,
            "DELETE /fapi/v1/order": self.delete_order,
            "POST /fapi/v1/batchOrders": self.post_batch,
            "PUT /fapi/v1/batchOrders": self.put_batch,
            "DELETE /fapi/v1/batchOrders": self.delete_batch,
            "DELETE /fapi/v1/allOpenOrders": self.delete_all,
            "POST /fapi/v1/countdownCancelAll": self.countdown,
            "POST /fapi/v1/algoOrder": self.post_algo,
            "DELETE /fapi/v1/algoOrder": self.delete_algo,
            "DELETE /fapi/v1/algoOpenOrders": self.delete_algos,
        }
        self.reads: dict[str, Callable[[Params], Any]] = {
            "POST /fapi/v1/order/test": self.test_order,
            "GET /fapi/v1/order": lambda p: payloads.order_reply(venue, venue.find(p)),
            "GET /fapi/v1/openOrder": self.open_order,
            "GET /fapi/v1/openOrders": self.open_orders,
            "GET /fapi/v1/allOrders": self.all_orders,
            "GET /fapi/v1/orderAmendment": self.amendments,
            "GET /fapi/v1/algoOrder": lambda p: payloads.algo_reply(venue, venue.algos.find(p)),
            "GET /fapi/v1/openAlgoOrders": self.open_algos,
            "GET /fapi/v1/allAlgoOrders": self.all_algos,
        }

    # -- regular orders ---------------------------------------------------------------------------------------------

    def post_order(self, params: Params) -> Any:
        """Place an order."""
        self._x.limits.order(self._x.clock.now_ms())
        order, result = self._venue.place(params)
        return self._outcome(order, result)

    def _outcome(self, order: VenueOrder, result: bool) -> Reply:
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
        self._x.limits.order(self._x.clock.now_ms())
        return self._amend(params)

    def _amend(self, params: Params) -> Any:
        return payloads.order_reply(self._venue, self._venue.amend(params))

    def delete_order(self, params: Params) -> Any:
        """Cancel an order."""
        return payloads.order_reply(self._venue, self._venue.cancel(params))

    def delete_all(self, params: Params) -> Any:
        """Cancel all regular orders of a symbol."""
        self._venue.cancel_all(self._venue.symbol_of(params))
        return {"code": 200, "msg": "The operation of cancel all open order is done."}

    def post_batch(self, params: Params) -> Any:
        """Place up to five orders; each element of the reply is an order or an error."""
        orders = _list(params, "batchOrders")
        self._x.limits.order(self._x.clock.now_ms(), MAX_BATCH)
        return [self._one(self._place_one, order) for order in orders]

    def _place_one(self, params: Params) -> Any:
        order, result = self._venue.place(params)
        return self._outcome(order, result).data

    def put_batch(self, params: Params) -> Any:
        """Amend up to five orders."""
        orders = _list(params, "batchOrders")
        self._x.limits.order(self._x.clock.now_ms(), MAX_BATCH)
        return [self._one(self._amend, order) for order in orders]

    def delete_batch(self, params: Params) -> Any:
        """Cancel orders by a list of ids."""
        symbol = self._venue.symbol_of(params)
        lists = {name.lower(): value for name, value in params.items()}  # python-binance sends them in lower case
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

    def countdown(self, params: Params) -> Any:
        """Cancel all orders of a symbol after a delay, unless renewed by then.

        Raises
        ------
        Refused
            -1102 without countdownTime.
        """
        symbol, delay = self._venue.symbol_of(params), whole(params, "countdownTime")
        if delay is None:
            raise Refused(-1102, "countdownTime")
        self._venue.countdown(symbol, delay)
        return {"symbol": symbol, "countdownTime": str(delay)}

    def amendments(self, params: Params) -> Any:
        """Return amendments."""
        symbol, order = self._venue.symbol_of(params), whole(params, "orderId")
        name = params.get("origClientOrderId")
        rows = [
            row
            for row in self._venue.amendments
            if row["symbol"] == symbol
            and (order is None or row["orderId"] == order)
            and (not name or row["clientOrderId"] == name)
        ]
        return window(rows, params, "time", default=50)

    def open_order(self, params: Params) -> Any:
        """Return one open order.

        Raises
        ------
        Refused
            -2013 if it is not open.
        """
        order = self._venue.find(params)
        if not order.live:
            raise Refused(-2013)
        return payloads.order_reply(self._venue, order)

    def open_orders(self, params: Params) -> Any:
        """Return the open orders, without conditional ones."""
        return [
            payloads.order_reply(self._venue, o)
            for s in symbols(self._venue, params)
            for o in self._venue.open_orders(s)
        ]

    def all_orders(self, params: Params) -> Any:
        """Return a symbol's orders, oldest first."""
        symbol, first = self._venue.symbol_of(params), whole(params, "orderId")
        venue = self._venue
        orders = [
            o
            for o in venue.orders.values()
            if o.symbol == symbol and o.order_id >= (first or 0) and not venue.forgotten(o)
        ]
        rows = [payloads.order_reply(self._venue, o) for o in orders]
        return self._history(rows, params, "time", first)

    # -- conditional orders -----------------------------------------------------------------------------------------

    def post_algo(self, params: Params) -> Any:
        """Place a conditional order."""
        self._x.limits.order(self._x.clock.now_ms())
        return payloads.algo_reply(self._venue, self._venue.algos.place(params))

    def delete_algo(self, params: Params) -> Any:
        """Cancel a conditional order; the reply's code is a string here."""
        algo = self._venue.algos.cancel(params)
        return {"algoId": algo.algo_id, "clientAlgoId": algo.client_id, "code": "200", "msg": "success"}

    def delete_algos(self, params: Params) -> Any:
        """Cancel all conditional orders of a symbol."""
        self._venue.algos.cancel_all(self._venue.symbol_of(params))
        return {"code": 200, "msg": "The operation of cancel all open order is done."}

    def open_algos(self, params: Params) -> Any:
        """Return the conditional orders that have not triggered."""
        desk = self._venue.algos
        algos = [a for s in symbols(self._venue, params) for a in desk.open(s) if a.status == "NEW"]
        return [payloads.algo_reply(self._venue, algo) for algo in algos]

    def all_algos(self, params: Params) -> Any:
        """Return a symbol's conditional orders, oldest first."""
        symbol, first = self._venue.symbol_of(params), whole(params, "algoId")
        algos = [a for a in self._venue.algos.by_id.values() if a.symbol == symbol and a.algo_id >= (first or 0)]
        rows = [payloads.algo_reply(self._venue, a) for a in algos]
        return self._history(rows, params, "createTime", first)

    def _history(self, rows: list[dict[str, Any]], params: Params, key: str, first: int | None) -> list[dict[str, Any]]:
        """Return orders from an id on, or at most a week of them."""
        if first is None or params.get("startTime") or params.get("endTime"):
            rows = within_week(rows, params, key, now_ms=self._venue.now_ms)
        return window(rows, params, key, ascending_from_id=first is not None)


def within_week(rows: list[dict[str, Any]], params: Params, key: str, *, now_ms: int) -> list[dict[str, Any]]:
    """Return the rows of the requested range of at most seven days.

    Documented for userTrades, allOrders and allAlgoOrders: seven days at most, the last seven by default. With only one
    of the two times the other is silently seven days away: a client that asks for a month from its start gets its first
    week (measured by others on allAlgoOrders in August 2026; assumed for all three).

    Parameters
    ----------
    key
        Name of the rows' time.
    now_ms
        UTC epoch ms.

    Raises
    ------
    Refused
        -1023 if the start is after the end, -4165 for a longer range.
    """
    start, end = whole(params, "startTime"), whole(params, "endTime")
    if start is not None and end is not None:
        if start > end:
            raise Refused(-1023)
        if end - start > WEEK_MS:
            raise Refused(-4165, 7)
        return rows
    if start is not None:
        return [row for row in rows if row[key] <= start + WEEK_MS]
    last = now_ms if end is None else end
    return [row for row in rows if row[key] >= last - WEEK_MS]


def window(
    rows: list[dict[str, Any]], params: Params, key: str, *, ascending_from_id: bool = False, default: int = 500
) -> list[dict[str, Any]]:
    """Return the part of `rows` that startTime, endTime, page and limit select.

    Parameters
    ----------
    rows
        Oldest first.
    key
        Name of the rows' time.
    ascending_from_id
        Whether the rows begin at a requested id: the first `limit` rows then, not the last.
    default
        Limit if none is requested.

    Raises
    ------
    Refused
        -1130 if the limit is out of range.
    """
    start, end, limit = whole(params, "startTime"), whole(params, "endTime"), whole(params, "limit") or default
    if not 1 <= limit <= 1000:
        raise Refused(-1130, "limit")
    rows = [row for row in rows if (start is None or row[key] >= start) and (end is None or row[key] <= end)]
    if page := whole(params, "page"):
        return rows[(page - 1) * limit : page * limit]
    return rows[:limit] if start is not None or ascending_from_id else rows[-limit:]


def symbols(venue: "Venue", params: Params) -> list[str]:
    """Return the requested symbol, or all."""
    return [venue.symbol_of(params)] if params.get("symbol") else list(venue.rules)


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
