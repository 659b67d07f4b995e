"""The exchange's WebSocket streams: `/market`, `/public` and `/private`, raw or combined, subscribed by URL or message.

A stream requested on the wrong path is accepted and stays silent, as are the legacy root paths and unknown names (venue
notes 2.2). A connection lives 24 hours if the quirks set that, and accepts 10 messages per second and 1,024 streams.
Frames are sent by `deliver`, which the exchange's heap calls; in the stepped replay frames written to a socket are
counted, unless its client sent `X-Stepped: 0` or `?stepped=0` (a spectator).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import orjson
from aiohttp import WSCloseCode, WSMsgType, web

from bot.core.activity import Activity
from bot.sim.fault_kinds import SOCKET
from bot.sim.faults import Fault, Faults
from bot.sim.gate import SendGate

LOG = logging.getLogger(__name__)
CATEGORIES: Final = ("market", "public", "private")
SERVER_PING_S: Final = 180.0
TOO_SLOW_BYTES: Final = 8 << 20  # a client this far behind is disconnected, as at the real exchange
FOR_EVER: Final = 1 << 62
MAX_STREAMS: Final = 1_024
MAX_MESSAGES: Final = 10  # per second of wall time: a client floods in wall time


class PushFrame(NamedTuple):
    """One message: its stream (or listen key), event type and JSON without a wrapper."""

    stream: str
    event: str
    payload: bytes


def category_of(stream: str) -> str:
    """Return the path that serves a stream.

    >>> category_of("btcusdt@bookTicker"), category_of("btcusdt@kline_3m")
    ('public', 'market')
    """
    return "public" if "bookTicker" in stream or "@depth" in stream else "market"


@dataclass(slots=True, eq=False)
class Socket:
    """One client's connection."""

    ws: web.WebSocketResponse
    category: str
    combined: bool
    key: str  # its URL: the order of sockets does not depend on who connected first
    counted: bool
    streams: dict[str, None] = field(default_factory=dict)
    events: frozenset[str] = frozenset()  # private: requested event types; empty = all
    transport: asyncio.Transport | None = None
    sent_until_ms: int = 0  # frames of a socket arrive in order
    silent_until_ms: int = 0
    held: PushFrame | None = None
    half_open: bool = False  # receives but never answers, not even pings
    number: int = 0  # in order of opening
    talked: tuple[int, int] = (0, 0)  # second, and messages in it


class SocketHub:
    """All sockets and their subscriptions."""

    def __init__(self, activity: Activity | None, faults: Faults) -> None:
        self._activity = activity
        self._faults = faults
        self.sockets: list[Socket] = []
        self.index: dict[str, list[Socket]] = {}
        self.version = 0
        self._opened = 0
        self.now_ms: Callable[[], int] = lambda: 0
        self.strike: Callable[[Socket, Fault], Awaitable[None]] | None = None  # executes a socket fault
        self.later: Callable[[int, Callable[[], None]], None] = lambda ms, action: action()
        self.changed: Callable[[], None] = lambda: None  # called when a socket has been registered
        self.gate = SendGate()
        self.entering = 0  # handshakes admitted but not yet registered

    def reindex(self) -> None:
        """Rebuild the subscription index."""
        self.sockets.sort(key=lambda socket: socket.key)
        self.index = {}
        for socket in self.sockets:
            for stream in socket.streams:
                if socket.category in (category_of(stream), "private"):
                    self.index.setdefault(stream, []).append(socket)
        self.version += 1

    def listeners(self, stream: str) -> list[Socket]:
        """Return the sockets subscribed to a market stream."""
        return [s for s in self.index.get(stream, ()) if s.category == category_of(stream)]

    def users(self, listen_key: str, event: str) -> list[Socket]:
        """Return the sockets that receive a user event."""
        found = self.index.get(listen_key, ())
        return [s for s in found if s.category == "private" and (not s.events or event in s.events)]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one connection until it closes."""
        await self.gate.wait(request.raw_path)
        socket = self._open(request)
        if socket is None:
            return web.Response(status=404)
        if len(socket.streams) > MAX_STREAMS:
            return web.Response(status=400, text=f"more than {MAX_STREAMS} streams")
        self.entering += 1
        try:
            await socket.ws.prepare(request)
        except ConnectionError:
            return web.Response(status=400)  # the client gave up waiting
        finally:
            self.entering -= 1
        if request.transport is not None:
            request.transport.set_write_buffer_limits(high=2 * TOO_SLOW_BYTES)
            socket.transport = request.transport
        self._opened += 1
        socket.number = self._opened
        self.sockets.append(socket)
        self.reindex()
        self.changed()
        try:
            async for message in socket.ws:
                if socket.half_open:
                    continue
                if message.type == WSMsgType.PING:
                    await socket.ws.pong(message.data)
                elif message.type == WSMsgType.TEXT:
                    if self._floods(socket):
                        await socket.ws.close(code=WSCloseCode.POLICY_VIOLATION, message=b"Too many requests")
                    else:
                        self._talk(socket, message.data)
        finally:
            if socket in self.sockets:
                self.sockets.remove(socket)
                self.reindex()
        return socket.ws

    def _open(self, request: web.Request) -> Socket | None:
        parts = [part for part in request.path.split("/") if part]
        category = parts.pop(0) if parts and parts[0] in CATEGORIES else ""
        if not parts or parts[0] not in ("ws", "stream"):
            return None
        query = request.query
        names = list(parts[1:])
        if "streams" in query:
            names += [name for name in query["streams"].split("/") if name]
        if category == "private" and "listenKey" in query:
            names += [query["listenKey"]]
        stepped = request.headers.get("X-Stepped", query.get("stepped", "1"))
        events = frozenset(part for part in query.get("events", "").split("/") if part)
        ws = web.WebSocketResponse(compress=False, heartbeat=SERVER_PING_S, autoping=False, max_msg_size=1 << 20)
        return Socket(
            ws,
            category,
            parts[0] == "stream",
            request.raw_path,
            self._activity is not None and stepped != "0",
            dict.fromkeys(names),
            events,
        )

    def _floods(self, socket: Socket) -> bool:
        second = int(asyncio.get_running_loop().time())
        number = socket.talked[1] + 1 if socket.talked[0] == second else 1
        socket.talked = second, number
        return number > MAX_MESSAGES

    def _talk(self, socket: Socket, text: str) -> None:
        """Handle SUBSCRIBE, UNSUBSCRIBE and LIST_SUBSCRIPTIONS."""
        try:
            message = orjson.loads(text)
            method, params, number = message.get("method"), message.get("params", []), message.get("id")
        except (orjson.JSONDecodeError, AttributeError):
            self._answer(socket, {"error": {"code": 3, "msg": "Invalid JSON: expected value at line 1 column 1"}})
            return
        reply: dict[str, Any] = {"result": None, "id": number}
        wanted = [name for name in params if isinstance(name, str)] if isinstance(params, list) else []
        if method == "SUBSCRIBE" and len(socket.streams.keys() | set(wanted)) > MAX_STREAMS:
            reply = {"error": {"code": 2, "msg": f"Invalid request: more than {MAX_STREAMS} streams"}, "id": number}
        elif method == "SUBSCRIBE":
            socket.streams |= dict.fromkeys(wanted)
            self.reindex()
        elif method == "UNSUBSCRIBE":
            for name in wanted:
                socket.streams.pop(name, None)
            self.reindex()
        elif method == "LIST_SUBSCRIPTIONS":
            reply["result"] = list(socket.streams)
        else:
            reply = {"error": {"code": 2, "msg": f"Invalid request: unknown variant `{method}`"}, "id": number}
        self._answer(socket, reply)

    def _answer(self, socket: Socket, reply: dict[str, Any]) -> None:
        self._write(socket, [orjson.dumps(reply)])

    async def deliver(self, socket: Socket, frames: list[PushFrame]) -> None:
        """Write frames to a socket, subject to the active faults."""
        if self.now_ms() < socket.silent_until_ms or socket.half_open:
            return
        if not self._faults.on_frames:
            self._write(socket, [_wrapped(socket, frame) for frame in frames])
            return
        for frame in frames:
            await self._deliver_faulty(socket, frame)

    async def _deliver_faulty(self, socket: Socket, frame: PushFrame) -> None:
        held, socket.held = socket.held, None
        fault = self._faults.of_frame("/" + socket.category, frame.stream, frame.event)
        kind = fault.fault if fault is not None else ""
        if kind == "reorder_events" and held is None:
            socket.held = frame
            return
        if fault is None or kind in ("reorder_events", "duplicate_event"):
            self._send(socket, frame)
        if kind == "duplicate_event":
            self._send(socket, frame)
        elif kind == "delay_event" and fault is not None:
            self.later(fault.span_ms, lambda: self._send(socket, frame))
        if held is not None:
            self._send(socket, held)
        if fault is not None and fault.kind.on == SOCKET and self.strike is not None:
            if kind == "listen_key_expired":
                self._send(socket, frame)
            await self.strike(socket, fault)

    def _send(self, socket: Socket, frame: PushFrame) -> None:
        self._write(socket, [_wrapped(socket, frame)])

    def _write(self, socket: Socket, messages: list[bytes]) -> None:
        """Write text frames in one call: unmasked and uncompressed, they need only a header (RFC 6455, 5.2)."""
        transport = socket.transport
        if transport is None or socket.ws.closed or transport.is_closing():
            return
        if transport.get_write_buffer_size() > TOO_SLOW_BYTES:
            LOG.warning("a client of %s is too slow: cut off", socket.key)
            transport.abort()
            return
        if socket.counted and self._activity is not None:
            self._activity.begin(len(messages))
        transport.write(b"".join([part for message in messages for part in (_header(len(message)), message)]))

    async def close(self) -> None:
        """Close all sockets as a server going away does."""
        sockets = list(self.sockets)
        self.gate.open()
        await asyncio.gather(*(self.close_socket(socket) for socket in sockets), return_exceptions=True)

    async def close_socket(self, socket: Socket) -> None:
        """Close one socket (1001)."""
        if socket in self.sockets:
            self.sockets.remove(socket)
            self.reindex()
        try:
            await asyncio.wait_for(socket.ws.close(code=WSCloseCode.GOING_AWAY, message=b"bye"), 1.0)
        except TimeoutError:
            if socket.transport is not None:
                socket.transport.abort()


def _wrapped(socket: Socket, frame: PushFrame) -> bytes:
    if socket.combined:
        return b'{"stream":"' + frame.stream.encode() + b'","data":' + frame.payload + b"}"
    return frame.payload


def _header(length: int) -> bytes:
    r"""Return the header of a complete text frame.

    >>> _header(5), _header(300)
    (b'\x81\x05', b'\x81~\x01,')
    """
    if length < 126:
        return bytes((0x81, length))
    if length < 65_536:
        return b"\x81\x7e" + length.to_bytes(2, "big")
    return b"\x81\x7f" + length.to_bytes(8, "big")
