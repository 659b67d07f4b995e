"""The HTTP front end: one port for REST, streams, the WebSocket API and the operator endpoints (`/sim/…`)."""

import errno
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from aiohttp import web

from bot.core.errors import BotError
from bot.sim.calls import Call, Reply
from bot.sim.errors import broken
from bot.sim.operators import Operators
from bot.sim.wsapi import PATH, WsApi

if TYPE_CHECKING:
    from bot.sim.server import Exchange


class Door:
    """Accepts connections and turns them into calls.

    Parameters
    ----------
    handler
        Handles every connection; usually ends in `serve`.
    """

    def __init__(self, exchange: "Exchange", handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> None:
        self._x, self._handler = exchange, handler
        self._api, self._operators = WsApi(exchange), Operators(exchange)
        self._runner: web.AppRunner | None = None

    async def open(self, host: str, port: int) -> int:
        """Listen; return the port.

        Raises
        ------
        BotError
            The port is in use or cannot be opened.
        """
        app = web.Application(client_max_size=1 << 20)
        app.router.add_route("*", "/{path:.*}", self._handler)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            await self._runner.cleanup()
            self._runner = None
            if error.errno == errno.EADDRINUSE:
                raise BotError(f"port {port} on {host} is in use: choose another one") from error
            raise BotError(f"the exchange cannot listen on {host}:{port}: {error.strerror}") from error
        return int(self._runner.addresses[0][1])

    async def close(self) -> None:
        """Close all connections, then stop listening."""
        await self._api.close()
        await self._x.hub.close()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Serve one connection: a request, a stream or the WebSocket API; a failure is answered with -1000."""
        try:
            return await self._serve(request)
        except (web.HTTPException, ConnectionError):
            raise
        except Exception as error:
            self._x.clock.note_failure(f"{request.method} {request.path!r}", error)
            return _response(Reply(broken().status, broken().body()))

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await (self._api if request.path == PATH else self._x.hub).handle(request)
        body = (await request.read()).decode("utf-8", "replace")
        call = Call(
            request.method,
            request.path,
            request.rel_url.raw_query_string,
            body,
            request.headers.get("X-MBX-APIKEY", ""),
            counted=self._x.stepped and request.headers.get("X-Stepped") == "1",
        )
        if call.path.startswith("/sim/"):
            host, kind = request.headers.get("Host", ""), request.content_type
            return _response(await self._operators.answer(call, host=host, content_type=kind))
        reply = await self._x.traffic.serve(call)
        if reply.cut:
            if request.transport is not None:
                request.transport.abort()
            return web.Response()  # the client is gone
        return _response(reply)


def _response(reply: Reply) -> web.Response:
    if reply.text is not None:
        return web.Response(status=reply.status, text=reply.text, content_type="text/html", headers=reply.headers)
    return web.Response(
        status=reply.status, body=reply.body(), content_type="application/json", charset="utf-8", headers=reply.headers
    )
