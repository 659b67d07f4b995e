"""Execution of one request: faults, weights, key and signature, then the handler; a rejection becomes its reply."""

import math
from typing import TYPE_CHECKING, Any, Final

from bot.sim.calls import Call, Reply
from bot.sim.errors import MESSAGES, Refused, broken
from bot.sim.faults import Fault
from bot.sim.guard import Guard
from bot.sim.limits import weight_of
from bot.sim.private import PrivateApi
from bot.sim.public import PublicApi
from bot.sim.trading import TradingApi

if TYPE_CHECKING:
    from bot.sim.server import Exchange

ORDER_PATHS: Final = ("/fapi/v1/order", "/fapi/v1/algoOrder", "/fapi/v1/batchOrders")
UNAVAILABLE: Final = {"code": -1001, "msg": "Service Unavailable."}
PAGE: Final = "<html><head><title>{0}</title></head><body><center><h1>{0}</h1></center></body></html>"
BAD_GATEWAY: Final = PAGE.format("502 Bad Gateway")
FORBIDDEN: Final = PAGE.format("403 Forbidden")
NOT_CARRIED_OUT: Final = {"http_503_not_executed": -1000, "unknown_1006_not_executed": -1006,
                          "timeout_1007_not_executed": -1007, "internal_1001": -1001, "overload_1008": -1008}  # fmt: skip
CARRIED_OUT: Final = {"http_503_executed": -1000, "unknown_1006_executed": -1006, "timeout_1007_executed": -1007}


class RestDesk:
    """Executes calls and returns replies."""

    def __init__(self, exchange: "Exchange", guard: Guard) -> None:
        self._x = exchange
        self._guard = guard
        self._public = PublicApi(exchange).routes
        trading, private = TradingApi(exchange, exchange.venue), PrivateApi(exchange, exchange.venue)
        self.writes = trading.writes | private.writes
        self._reads = trading.reads | private.reads
        self._keyed = private.keyed

    def execute(self, call: Call) -> tuple[Reply, int]:
        """Execute a request; return the reply and its delay in ms. A handler that fails is answered with -1000."""
        try:
            return self._execute(call)
        except Exception as error:
            self._x.clock.note_failure(f"{call.method} {call.path}", error)
            return Reply(broken().status, broken().body()), 0

    def _execute(self, call: Call) -> tuple[Reply, int]:
        route = f"{call.method} {call.path}"
        faults = self._x.faults
        fault = faults.of_request(call.method, call.path, write=route in self.writes, read=route in self._reads)
        if fault is not None and fault.fault == "overload_1008" and _exempt(call):
            fault = None
        if fault is None:
            return self._told(call, self._reply(call, route)), 0
        return self._faulty(call, route, fault)

    def _faulty(self, call: Call, route: str, fault: Fault) -> tuple[Reply, int]:
        kind = fault.fault
        spoilt = self._spoil(fault)
        if spoilt is not None:
            return spoilt, fault.span_ms if spoilt.cut else 0
        if kind == "http_418":
            self._x.limits.ban(self._x.clock.now_ms(), fault.span_ms)
        if kind in ("cancel_race", "cancel_filled"):
            self._race(call, 1.0 if kind == "cancel_filled" else float(fault.get("share")))
        reply = self._told(call, self._reply(call, route, lag_ms=fault.span_ms if kind == "stale_reads" else 0))
        if kind in CARRIED_OUT:
            refused = Refused(CARRIED_OUT[kind])
            return Reply(refused.status, refused.body(), reply.headers), 0
        if kind == "http_502_executed":
            return Reply(502, None, text=BAD_GATEWAY), 0
        if kind == "lost_reply":
            return Reply(0, None, cut=True), fault.span_ms
        return reply, fault.span_ms if kind == "late_reply" else 0

    def _told(self, call: Call, reply: Reply) -> Reply:
        """Add the headers that every reply carries."""
        now = self._x.clock.now_ms()
        reply.headers |= self._x.limits.headers(now)
        if call.path in ORDER_PATHS and call.method in ("POST", "PUT"):
            reply.headers |= self._x.limits.order_headers(now)
        return reply

    def _spoil(self, fault: Fault) -> Reply | None:
        """Return the reply of a fault that prevents the execution of a request, None for other faults."""
        match fault.fault:
            case "http_503_unavailable":
                return Reply(503, UNAVAILABLE)
            case "http_502_html":
                return Reply(502, None, text=BAD_GATEWAY)
            case "http_403":
                return Reply(403, None, text=FORBIDDEN)
            case "http_429":
                seconds = max(1, math.ceil(fault.span_ms / 1000))
                return Reply(429, Refused(-1003, 2400).body(), {"Retry-After": str(seconds)})
            case "lost_request":
                return Reply(0, None, cut=True)
            case "error":
                code = int(fault.get("code"))
                refused = Refused(code, "?", "?", text=None if code in MESSAGES else "Refused on request.")
                return Reply(refused.status, refused.body())
        if fault.fault in NOT_CARRIED_OUT:
            refused = Refused(NOT_CARRIED_OUT[fault.fault])
            return Reply(refused.status, refused.body())
        return None

    def _race(self, call: Call, share: float) -> None:
        """Let the market win against a cancel: fill (a part of) the order, or trigger the stop, just before it."""
        venue = self._x.venue
        venue.now_ms = self._x.clock.now_ms()
        try:
            if call.path == "/fapi/v1/algoOrder":
                algo = venue.algos.find(call.params)
                if algo.status == "NEW" and share == 1.0:
                    venue.algos.fire(algo)
                return
            order = venue.find(call.params)
        except Refused:
            return  # nothing to race with: the cancel itself will report it
        if order.live and order.type == "LIMIT":
            lots = order.left if share == 1.0 else max(1, min(order.left - 1, round(order.left * share)))
            venue.books[order.symbol].trade_against(order, lots)

    def _reply(self, call: Call, route: str, *, lag_ms: int = 0) -> Reply:
        x = self._x
        now = x.clock.now_ms()
        x.venue.now_ms = now
        too_much = x.limits.charge(weight_of(call.method, call.path, call.params), now, call.path)
        if too_much is not None:
            refused, wait_ms = too_much
            seconds = max(1, math.ceil(wait_ms / 1000 / x.wall_speed))
            return Reply(refused.status, refused.body(), {"Retry-After": str(seconds)})
        try:
            result = self._handle(call, route, lag_ms)
        except Refused as refused:
            return Reply(refused.status, refused.body())
        return result if isinstance(result, Reply) else Reply(200, result)

    def _handle(self, call: Call, route: str, lag_ms: int) -> Any:
        x = self._x
        handler = self._public.get(route)
        if handler is not None:
            return handler(call.params)
        if route in self._keyed:
            self._guard.check_key(call)
            self._check_account(call)
            return self._keyed[route](call.params)
        action = self.writes.get(route) or self._reads.get(route)
        if action is None:
            raise Refused(-5000, call.path, call.method)
        self._guard.check_key(call)
        self._check_account(call)
        now, drift = x.clock.now_ms(), x.drift_ms
        self._guard.check_signature(call, replay_ms=now + drift, wall_ms=x.wall_ms() + drift, speed=x.wall_speed)
        if lag_ms and route in self._reads:
            then = x.past.at(now - lag_ms, x.venue)
            action = (TradingApi(x, then).reads | PrivateApi(x, then).reads)[route]
        return action(call.params)

    def _check_account(self, call: Call) -> None:
        """Reject futures calls of a portfolio margin account: it trades elsewhere (JKorf/Binance.Net#1485)."""
        if self._x.venue.quirks.account == "portfolio" and call.path.startswith("/fapi/"):
            raise Refused(-2015)


def _exempt(call: Call) -> bool:
    """Return whether a request is accepted during an overload: a cancel, or an order that only reduces."""
    closing = (call.params.get(name, "").lower() == "true" for name in ("reduceOnly", "closePosition"))
    return call.method == "DELETE" or any(closing)
