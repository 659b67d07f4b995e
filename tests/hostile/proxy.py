"""The same liar between two processes: a proxy on loopback between a real `python -m bot exchange` and a real bot."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import WSMsgType, web

from bot.sim.calls import Call
from tests.hostile.liar import Answer, Asked, Liar

HOP = ("host", "content-length", "accept-encoding", "transfer-encoding", "connection", "date", "server", "content-type")


@dataclass(eq=False)
class Line:
    """One of the bot's streams."""

    category: str
    ws: web.WebSocketResponse


class Elsewhere:
    """What a liar has to know of an exchange in another process: its time, and where frames go."""

    def __init__(self) -> None:
        self.clock = self.hub = self
        self.sockets: list[Line] = []
        self.offset_ms = 0

    def now_ms(self) -> int:
        """The exchange's time, at 1x."""
        return int(time.time() * 1000) + self.offset_ms

    def at(self, at_ms: int, run: Callable[[], None], *, name: str) -> None:
        """Call `run` at a time."""
        asyncio.get_running_loop().call_later(max(at_ms - self.now_ms(), 0) / 1_000, run)

    def _write(self, line: Line, frames: list[bytes]) -> None:
        async def send() -> None:
            for frame in frames:
                await line.ws.send_str(frame.decode("utf-8", "replace"))

        self._sending = asyncio.ensure_future(send())


class Proxy:
    """A proxy in front of an exchange's port.

    Parameters
    ----------
    target
        The exchange's port on loopback.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self.elsewhere = Elsewhere()
        self.liar = Liar(self.elsewhere)  # type: ignore[arg-type]
        self.port = 0

    async def open(self) -> None:
        """Listen."""
        self._session = aiohttp.ClientSession(auto_decompress=False, connector=aiohttp.TCPConnector(limit=0))
        app = web.Application(client_max_size=1 << 26)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        self.elsewhere.offset_ms = (await self.ask("/fapi/v1/time"))["serverTime"] - int(time.time() * 1000)

    async def close(self) -> None:
        """Close all."""
        await self._runner.cleanup()
        await self._session.close()

    async def ask(self, path: str) -> Any:
        """Ask the exchange itself."""
        async with self._session.get(f"http://127.0.0.1:{self._target}{path}") as reply:
            return await reply.json(content_type=None)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._stream(request)
        body = await request.read()
        call = Call(request.method, request.path, request.rel_url.raw_query_string, body.decode(), "")
        asked = Asked(call.method, call.path, call.params)
        answer = self.liar.instead(asked)
        if answer is None:
            headers = {n: v for n, v in request.headers.items() if n.lower() not in HOP[:4]}
            url = f"http://127.0.0.1:{self._target}{request.raw_path}"
            async with self._session.request(request.method, url, headers=headers, data=body) as reply:
                told = Answer(await reply.read(), reply.status, dict(reply.headers), reply.content_type)
            answer = self.liar.reply(asked, told)
        kept = {n: v for n, v in answer.headers.items() if n.lower() not in HOP}
        return web.Response(status=answer.status, body=answer.body, headers=kept, content_type=answer.kind)

    async def _stream(self, request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(max_msg_size=0)
        await ws.prepare(request)
        line = Line(request.path.split("/")[1], ws)
        self.elsewhere.sockets.append(line)
        try:
            async with self._session.ws_connect(f"ws://127.0.0.1:{self._target}{request.raw_path}") as upstream:
                await self._relay(ws, upstream)
        finally:
            self.elsewhere.sockets.remove(line)
        return ws

    async def _relay(self, ws: web.WebSocketResponse, upstream: aiohttp.ClientWebSocketResponse) -> None:
        async def down() -> None:
            async for message in upstream:
                if message.type == WSMsgType.TEXT:
                    for frame in self.liar.frames(message.data.encode()):
                        await ws.send_str(frame.decode())

        async def up() -> None:
            async for message in ws:
                if message.type == WSMsgType.TEXT:
                    await upstream.send_str(message.data)

        tasks = [asyncio.create_task(down()), asyncio.create_task(up())]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError, ConnectionError):
                await task
