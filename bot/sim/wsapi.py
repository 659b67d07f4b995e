"""The WebSocket API (`/ws-fapi/v1`): orders and account by request and response over one connection (venue notes 2.4).

Every method maps to a REST endpoint, with the same limits, faults and rejections. Differences: DECIMAL parameters are
JSON strings and INT parameters JSON integers; the signature is over all parameters, `apiKey` and `timestamp` included,
sorted by name; replies carry the rate limits; `session.logon` is rejected.
"""

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

import orjson
from aiohttp import WSCloseCode, WSMsgType, web

from bot.sim.calls import Call, Reply
from bot.sim.errors import Refused, broken
from bot.sim.limits import weight_of

if TYPE_CHECKING:
    from bot.sim.server import Exchange

PATH: Final = "/ws-fapi/v1"
METHODS: Final = {
    "ping": ("GET", "/fapi/v1/ping"),
    "time": ("GET", "/fapi/v1/time"),
    "exchangeInfo": ("GET", "/fapi/v1/exchangeInfo"),
    "depth": ("GET", "/fapi/v1/depth"),
    "ticker.price": ("GET", "/fapi/v2/ticker/price"),
    "ticker.book": ("GET", "/fapi/v1/ticker/bookTicker"),
    "order.place": ("POST", "/fapi/v1/order"),
    "order.modify": ("PUT", "/fapi/v1/order"),
    "order.cancel": ("DELETE", "/fapi/v1/order"),
    "order.status": ("GET", "/fapi/v1/order"),
    "algoOrder.place": ("POST", "/fapi/v1/algoOrder"),
    "algoOrder.cancel": ("DELETE", "/fapi/v1/algoOrder"),
    "account.position": ("GET", "/fapi/v2/positionRisk"),
    "v2/account.position": ("GET", "/fapi/v3/positionRisk"),
    "account.balance": ("GET", "/fapi/v2/balance"),
    "v2/account.balance": ("GET", "/fapi/v3/balance"),
    "account.status": ("GET", "/fapi/v2/account"),
    "v2/account.status": ("GET", "/fapi/v3/account"),
    "userDataStream.start": ("POST", "/fapi/v1/listenKey"),
    "userDataStream.ping": ("PUT", "/fapi/v1/listenKey"),
    "userDataStream.stop": ("DELETE", "/fapi/v1/listenKey"),
}
SESSION: Final = ("session.logon", "session.status", "session.logout")
PING_S: Final = 180.0


class WsApi:
    """Serves connections of the WebSocket API."""

    def __init__(self, exchange: "Exchange") -> None:
        self._x = exchange
        self._open: set[web.WebSocketResponse] = set()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one connection until it closes."""
        x = self._x
        ws = web.WebSocketResponse(compress=False, heartbeat=PING_S, timeout=1.0, max_msg_size=1 << 20)
        x.limits.charge(weight_of("WS", "handshake", {}), x.clock.now_ms())
        await ws.prepare(request)
        self._open.add(ws)
        if x.venue.quirks.socket_life_ms:
            x.later(x.venue.quirks.socket_life_ms, lambda: ws.close(code=WSCloseCode.GOING_AWAY), name="24 hours")
        tasks: set[asyncio.Task[None]] = set()
        try:
            async for message in ws:
                if message.type == WSMsgType.TEXT:
                    task = asyncio.create_task(self._answer(ws, message.data))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
        finally:
            self._open.discard(ws)
            for task in tasks:
                task.cancel()
        return ws

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(ws.close(code=WSCloseCode.GOING_AWAY) for ws in tuple(self._open)))

    async def _answer(self, ws: web.WebSocketResponse, text: str) -> None:
        number: Any = None
        try:
            message = orjson.loads(text)
            number = message.get("id")
            reply = await self._x.traffic.serve(_call(message))
        except (orjson.JSONDecodeError, AttributeError):
            reply = Reply(400, Refused(-1130, "request").body())
        except Refused as refused:
            reply = Reply(refused.status, refused.body())
        except Exception as error:
            self._x.clock.note_failure("a request of the WebSocket API", error)
            reply = Reply(broken().status, broken().body())
        if reply.cut or ws.closed:
            return  # the reply is lost; the connection stays
        answer: dict[str, Any] = {"id": number, "status": reply.status}
        body = {"code": 0, "msg": "Bad Gateway"} if reply.text is not None else reply.data
        answer["result" if reply.status == 200 else "error"] = body
        answer["rateLimits"] = self._x.limits.rates(self._x.clock.now_ms())
        with contextlib.suppress(ConnectionError):  # the client disconnected meanwhile
            await ws.send_str(orjson.dumps(answer).decode())


def _call(message: dict[str, Any]) -> Call:
    """Return a request as its REST call."""
    name, params = message.get("method"), message.get("params") or {}
    if name in SESSION:
        raise Refused(-4056)
    if not isinstance(name, str) or name not in METHODS or not isinstance(params, dict):
        raise Refused(-1020)
    for key, value in params.items():
        if isinstance(value, float) or not isinstance(value, (str, int)):
            raise Refused(-1102, key)
    texts = {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in params.items()}
    signed = "&".join(f"{key}={value}" for key, value in sorted(texts.items()) if key != "signature")
    method, path = METHODS[name]
    call = Call(method, path, "", "", texts.get("apiKey", ""), signed=signed)
    call.params = texts
    return call
