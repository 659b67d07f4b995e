"""Carrying out one REST request: faults first, then weights, key and signature, then the handler; a refusal becomes its reply."""

import math
from typing import TYPE_CHECKING, Any, Final

from bot.sim.calls import Call, Guard, Reply
from bot.sim.errors import Refused
from bot.sim.faults import Fault
from bot.sim.limits import weight_of
from bot.sim.private import PrivateApi
from bot.sim.public import PublicApi

if TYPE_CHECKING:
    from bot.sim.server import Exchange

ORDER_PATHS: Final = ("/fapi/v1/order", "/fapi/v1/algoOrder", "/fapi/v1/batchOrders")
LATE_MS: Final = 3_000
UNKNOWN: Final = {"code": -1000, "msg": "Unknown error, please check your request or try again later."}
UNAVAILABLE: Final = {"code": -1001, "msg": "Service Unavailable."}
PAGE: Final = (
    "<html><head><title>502 Bad Gateway</title></head><body><center><h1>502 Bad Gateway</h1></center></body></html>"
)


class RestDesk:
    """Takes calls and gives replies."""

    def __init__(self, exchange: "Exchange", guard: Guard) -> None:
        self._x = exchange
        self._guard = guard
        self._public = PublicApi(exchange).routes
        self._private = PrivateApi(exchange)

    def execute(self, call: Call) -> tuple[Reply, int]:
        """Carry a request out; return the reply and by how many ms it is late."""
        route = f"{call.method} {call.path}"
        write = route in self._private.writes
        fault = self._x.faults.of_request(call.method, call.path, write=write)
        if fault is not None and (refusal := self._spoil(fault)) is not None:
            return refusal, 0
        reply = self._reply(call, route)
        reply.headers |= self._x.limits.headers(self._x.clock.now_ms())
        if call.path in ORDER_PATHS and call.method == "POST":
            reply.headers |= self._x.limits.order_headers(self._x.clock.now_ms())
        if fault is not None and fault.fault == "http_503_executed":
            return Reply(503, UNKNOWN, reply.headers), 0
        return reply, (fault.ms or LATE_MS) if fault is not None else 0

    def _spoil(self, fault: Fault) -> Reply | None:
        match fault.fault:
            case "http_503_not_executed":
                return Reply(503, UNKNOWN)
            case "http_503_unavailable":
                return Reply(503, UNAVAILABLE)
            case "http_502_html":
                return Reply(502, None, text=PAGE)
            case "http_429":
                seconds = max(1, math.ceil((fault.ms or 1_000) / 1000))
                return Reply(429, Refused(-1003, 2400).body(), {"Retry-After": str(seconds)})
        return None

    def _reply(self, call: Call, route: str) -> Reply:
        x = self._x
        now = x.clock.now_ms()
        x.venue.now_ms = now
        too_much = x.limits.charge(weight_of(call.method, call.path, call.params), now)
        if too_much is not None:
            refused, wait_ms = too_much
            seconds = max(1, math.ceil(wait_ms / 1000 / x.wall_speed))
            return Reply(refused.status, refused.body(), {"Retry-After": str(seconds)})
        try:
            result = self._handle(call, route)
        except Refused as refused:
            return Reply(refused.status, refused.body())
        return result if isinstance(result, Reply) else Reply(200, result)

    def _handle(self, call: Call, route: str) -> Any:
        handler = self._public.get(route)
        if handler is not None:
            return handler(call.params)
        private = self._private
        if route in private.keyed:
            self._guard.check_key(call)
            return private.keyed[route](call.params)
        action = private.writes.get(route) or private.reads.get(route)
        if action is None:
            raise Refused(-5000, call.path, call.method)
        self._guard.check_key(call)
        x = self._x
        self._guard.check_signature(call, replay_ms=x.clock.now_ms(), wall_ms=x.wall_ms(), speed=x.wall_speed)
        return action(call.params)
