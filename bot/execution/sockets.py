"""python-binance's websockets, hardened by subclassing: they reconnect for ever, report it, and close at once.

What the library's sockets lack (venue notes 4) and what is done about it here:

* They give up after four attempts: these go on, waiting at most thirty seconds on the bot's clock (P2), and seldom log it.
* They do not report that they have reconnected: these put a note `{"e": "reconnected"}` on their queue (P3).
* A full queue or a frame that is not JSON ends the read loop for good, and what was queued is lost: here the queue is long, such
  a frame becomes a note, the queue can be read to its end, and its last entry is `{"e": "ended"}` (P1).
* Closing takes up to their timeout or hangs while they reconnect: here closing the connection ends the reading at once; frames
  that had already arrived are still delivered (P15).
* They format every message into an unused debug text: a `Frame` formats as one word (P24).
* They follow redirects, and accept any small frame: these refuse redirects, and nothing the exchange sends can be mistaken for
  one of their own notes (`Note`).
* The user socket renews its listen key on the wall clock: here on the bot's clock, and a reconnect requests the key again,
  because the old one may have expired in between (P18).
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from binance.ws.constants import WSListenerState
from binance.ws.keepalive_websocket import KeepAliveWebsocket
from binance.ws.reconnecting_websocket import ReconnectingWebsocket
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.frames import Frame as WireFrame
from websockets.frames import Opcode
from websockets.protocol import Event, State

from bot.core.addresses import host_of
from bot.execution.clock import WallClock
from bot.execution.models import shortened
from bot.execution.outcomes import describe
from bot.execution.stamps import now_ns
from bot.execution.tasks import Hold, Tasks

log = logging.getLogger(__name__)
# Everything the library logs as an error it also puts on the queue, from where `streams` reports it once in its own words.
library_log = logging.getLogger(f"{__name__}.library")
library_log.setLevel(logging.CRITICAL)

RECONNECTED = "reconnected"
ENDED = "ended"
UNREADABLE = "unreadable"
ERROR = "error"
HANDSHAKE_COUNTS_S = (
    0.25  # wall clock; an exchange that accepts nobody for a while would otherwise wait for us, and we for it
)
REPLAY_KEEP_ALIVE_S = 20.0


class Frame(dict[str, Any]):
    """One decoded message, cheap to format into a log line. `received_ns`: when its bytes were read, 0 for notes."""

    __slots__ = ("received_ns",)
    received_ns: int

    def __format__(self, spec: str) -> str:
        """Return one word: the library formats every message for its debug log."""
        return "frame"


class Note(Frame):
    """A message that a socket puts on its own queue; a frame of the exchange with the same content is not one."""

    __slots__ = ()


class SocketConnection(ClientConnection):
    """A connection that reports, as soon as the bytes arrive, that it is open or that the peer closes it.

    The library's reader learns it some event loop iterations later; a stepped exchange must not advance in between.

    Parameters
    ----------
    opened, closed
        Called once each, at the first bytes and at the close.
    """

    def __init__(self, *args: Any, opened: Callable[[], None], closed: Callable[[], None], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._tell_opened: Callable[[], None] | None = opened
        self._tell_closed: Callable[[], None] | None = closed
        self._read_ns = 0
        self.stamps: deque[int] = deque()  # when each message not yet consumed was read

    async def handshake(self, *args: Any, **kwargs: Any) -> None:
        """Open the connection without following redirects, as the library would.

        Raises
        ------
        InvalidHandshake
            The exchange redirects.
        """
        try:
            await super().handshake(*args, **kwargs)
        except InvalidStatus as error:
            status = error.response.status_code
            if 300 <= status < 400:
                place = host_of(error.response.headers.get("Location", ""))
                raise InvalidHandshake(f"the exchange redirects to {place} (HTTP {status}): refused") from None
            raise

    def process_event(self, event: Event) -> None:
        """Record when a message began to arrive, for its consumer."""
        if isinstance(event, WireFrame) and event.opcode in (Opcode.TEXT, Opcode.BINARY):
            self.stamps.append(self._read_ns)
        super().process_event(event)

    def data_received(self, data: bytes) -> None:
        """Receive bytes from the connection."""
        self._read_ns = now_ns()
        if self._tell_opened is not None:
            self._tell_opened()
            self._tell_opened = None
        super().data_received(data)
        if self.protocol.close_rcvd is not None:
            self._is_closed()

    def connection_lost(self, exc: Exception | None) -> None:
        """Report the loss of the connection."""
        self._is_closed()
        super().connection_lost(exc)

    def _is_closed(self) -> None:
        if self._tell_closed is not None:
            self._tell_closed()
            self._tell_closed = None


class HardenedSocket(ReconnectingWebsocket):  # type: ignore[misc]  # the library is untyped
    """A market or public socket."""

    MAX_RECONNECTS = 10**9
    MAX_RECONNECT_SECONDS = 30
    FIRST_WAIT_MS = 200
    ws: Any
    TIMEOUT = None  # nothing here waits on the wall clock: closing the connection ends the reading

    def __init__(self, *args: Any, tasks: Tasks, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._log = library_log
        self._tasks = tasks
        self._closing = False
        self._reader: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()
        self.reconnections = 0
        self._handshake: Hold | None = None
        self._loss = Hold(tasks.activity)  # from the peer's close until the reader has noticed
        self._loss.release()
        self._ws_kwargs["create_connection"] = self._make_connection

    def _make_connection(self, *args: Any, **kwargs: Any) -> SocketConnection:
        return SocketConnection(*args, opened=self._on_open, closed=self._on_close, **kwargs)

    def _on_open(self) -> None:
        if self._handshake is not None:
            self._handshake.take()

    def _on_close(self) -> None:
        if self.ws_state is WSListenerState.STREAMING and self._reader is not None and not self._ended.is_set():
            self._loss.take()

    async def recv(self) -> Any:
        """Return the next frame or note, including those queued before the reading ended."""
        return await self._queue.get()

    def waiting(self) -> int:
        """Return the number of queued frames and notes."""
        return int(self._queue.qsize())

    def _handle_message(self, evt: Any) -> Any:
        return self._decoded(evt, self.ws)

    def _decoded(self, evt: Any, connection: Any) -> Frame:
        try:
            message = self.json_loads(evt)
        except ValueError as error:
            frame: Frame = Note(e=UNREADABLE, m=f"{error}: {str(evt)[:200]}")
        else:
            readable = isinstance(message, dict) and message
            frame = Frame(message) if readable else Note(e=UNREADABLE, m=shortened(message))
        stamps = getattr(connection, "stamps", None)
        frame.received_ns = stamps.popleft() if stamps else 0
        return frame

    def _note(self, kind: str, text: str = "") -> None:
        self._tasks.activity.begin()
        note = Note(e=kind, m=text)
        note.received_ns = 0
        self._queue.put_nowait(note)

    async def _propagate_error(self, error_msg: dict[str, Any]) -> None:
        self._loss.release()
        self._note(ERROR, f"{error_msg.get('type', '')} {error_msg.get('m', '')}".strip())

    async def _read_loop(self) -> None:
        self._reader = asyncio.current_task()
        try:
            await super()._read_loop()
        finally:
            self._loss.release()
            self._ended.set()
            self._note(ENDED)

    async def connect(self) -> None:
        """Open the connection; only the handshake is counted here: the request for a listen key counts itself."""
        await self._before_connect()
        with self._tasks.counted(HANDSHAKE_COUNTS_S) as self._handshake:
            try:
                await super().connect()
            finally:
                self._handshake = None

    async def _after_connect(self) -> None:
        self.ws.close_timeout = 1.0
        await super()._after_connect()

    def _reconnect(self) -> None:
        self.ws_state = WSListenerState.RECONNECTING
        if self.ws is not None and self.ws.state is State.OPEN:  # requested from outside: wake the reader
            self._tasks.spawn(self.ws.close(), name="close for reconnect")

    async def before_reconnect(self) -> None:
        """Close the old connection, keeping the frames that had arrived."""
        connection, self.ws = self.ws, None
        if connection is not None:
            await connection.close()
            await self._deliver_rest(connection)
        self._reconnects += 1

    async def _deliver_rest(self, connection: Any) -> None:
        """Queue the messages that a closed connection has received but not delivered."""
        while True:
            try:
                message = self._decoded(await connection.recv(), connection)
            except ConnectionClosed:
                return
            self._queue.put_nowait(message)

    async def _run_reconnect(self) -> None:
        activity = self._tasks.activity
        activity.begin()
        try:
            await self.before_reconnect()
        finally:
            activity.end()
        tried = self._reconnects - 1
        longest_ms = self.MAX_RECONNECT_SECONDS * 1000
        await self._tasks.sleep(0 if tried == 0 else min(longest_ms, self.FIRST_WAIT_MS * 2 ** min(tried - 1, 10)))
        if self._closing:
            self.ws_state = WSListenerState.EXITING
            return
        try:
            await self.connect()
        except Exception as error:
            if tried & (tried - 1) == 0:  # logged at the first, second, fourth, eighth ... failure
                log.warning("cannot reconnect %s (attempt %s, trying on): %s", self._url, tried + 1, describe(error))
        else:
            self.reconnections += 1
            self._note(RECONNECTED)
        if self._closing:
            self.ws_state = WSListenerState.EXITING

    async def __aexit__(self, *_: object) -> None:
        """Close at once, also while reconnecting; frames that had arrived stay on the queue."""
        self._closing = True
        self.ws_state = WSListenerState.EXITING
        self._tasks.activity.begin()
        try:
            connection = self.ws
            if connection is not None:
                await connection.close()
            if self._handle_read_loop is not None:
                await self._stop_reader(connection is None)
            if connection is not None:
                await self._deliver_rest(connection)
        finally:
            self.ws = None
            self._tasks.activity.end()

    async def _stop_reader(self, at_once: bool) -> None:
        if not at_once:
            try:
                await asyncio.wait_for(self._ended.wait(), 1.0)
            except TimeoutError:
                log.warning("the reader of %s does not end: cancelled", self._url)
        if not self._ended.is_set() and self._reader is not None:
            self._reader.cancel()
            await asyncio.wait((self._reader,), timeout=1.0)


class HardenedUserSocket(HardenedSocket, KeepAliveWebsocket):  # type: ignore[misc]  # the library is untyped
    """The private socket of an account's listen key."""

    _timer: Any

    def _start_socket_timer(self) -> None:
        def prolong() -> None:
            self._tasks.spawn(self._keepalive_socket(), name="listen key")

        clock = self._tasks.clock
        # With a replay in another process the key ages on the replay's clock, up to 60 times faster than our delays.
        seconds = REPLAY_KEEP_ALIVE_S if isinstance(clock, WallClock) and clock.replay else self._user_timeout
        self._timer = clock.call_later(seconds * 1000, prolong)

    async def before_reconnect(self) -> None:
        """Close, and drop the listen key: requesting it again returns the same one if it is still valid."""
        await super().before_reconnect()
        self._listen_key = None

    async def __aexit__(self, *args: object) -> None:
        """Stop renewing the key, then close."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await super().__aexit__(*args)


SocketFactory = Callable[[], HardenedSocket]
