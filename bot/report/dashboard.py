"""The bot's web page: live chart, state of the twelve conditions, position in R, trades and recent events.

The page is served by the bot itself, from the files in `static/` and the chart library of the package `lwcharts`, and loads
nothing from elsewhere. State is sent as server-sent events: at most four a second, encoded once for all browsers. A
browser that does not read is dropped; the bot never waits for one. Events name each symbol's newest bar, and a page
requests the bars it lacks of the symbol it shows. Viewing needs no password, because the server listens on this machine
only and answers only to its own name (`doors`); commands (flatten, stop entries, arm) need the token that the bot prints
at its start.
"""

import asyncio
import errno
import hmac
import math
import secrets
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import orjson
import structlog
from aiohttp import web

from bot.core.errors import BotError
from bot.core.printable import visible
from bot.core.records import EquityPoint, TradeRecord
from bot.report import doors
from bot.report.browser import Browser, EquitySeries
from bot.report.chart_door import ChartDoor
from bot.report.charts import LIBRARY, library, modules
from bot.report.doors import DoorRefusal
from bot.report.hub import Hub
from bot.report.live import Live
from bot.report.view import line, view, weight
from bot.results.trades import trade_row

log = structlog.get_logger(__name__)

COMMANDS: Final = frozenset({"arm", "stop_entries", "start_entries", "flatten", "shutdown"})
STATIC: Final = Path(__file__).with_name("static")
TYPES: Final = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
FRAME_S: Final = 0.25  # minimum time between two frames
STUCK_S: Final = 10.0  # a browser that takes longer to read a frame or response is dropped
MAX_BROWSERS: Final = 16  # a new one replaces the oldest, except for the operator's
SEND_BUFFER: Final = 131_072  # socket send buffer of a stream, bytes; small, so that an unread stream is detected soon
ROWS_S: Final = 1.0  # minimum time between two reads of trades from the journal
NEWS: Final = 50
MOST_TRADES: Final = 200
CHART_BARS: Final = 1_500  # bars per symbol sent by default
MOST_BARS: Final = 5_000
ARGUMENT: Final = 200  # maximum characters of a command's argument
HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def _default(value: Any) -> Any:
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, Enum):
        return value.name
    return str(value)


def dumps(value: Any) -> bytes:
    """Return JSON for the page: Decimal as text, numpy's scalars as numbers, NaN as null."""
    return orjson.dumps(value, default=_default, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)


class Dashboard:
    """The dashboard's server.

    Parameters
    ----------
    hub
        The hub to which the shell publishes.
    host, port
        Address to listen on; port 0 takes any free one.
    token
        Secret that commands must carry in the header `X-Token`.
    snapshot
        Returns the engine's snapshot. The stream calls it at most four times a second, and only with a browser connected.
    trades
        Returns the trades so far, as `TradeRecord` or plain rows, oldest first.
    command
        Puts an operator's command on the bot's queue: name and arguments.
    live
        The tapes of the chart; None for no chart.
    allowed_hosts
        Host names accepted besides this machine's own.
    """

    def __init__(
        self,
        hub: Hub,
        *,
        host: str,
        port: int,
        token: str,
        snapshot: Callable[[], Mapping[str, Any]],
        trades: Callable[[], Sequence[TradeRecord | Mapping[str, Any]]],
        command: Callable[[str, dict[str, Any]], None],
        live: Live | None = None,
        allowed_hosts: Sequence[str] = (),
    ) -> None:
        self._live = live
        self._charts = ChartDoor(live, dumps=dumps) if live is not None else None
        self._names = doors.names_of(allowed_hosts)
        self._ration = doors.Ration()
        self._gate: doors.DoorGate | None = None
        self._listener: asyncio.Server | None = None
        self._pass = secrets.token_urlsafe(24)  # authenticates an operator's stream without the token in a URL
        self._failed: set[str] = set()  # routes whose failure has been logged
        self._kept_rows: tuple[float, bytes] = (-math.inf, b"")
        self._newest: dict[str, int] = {}
        self._hub, self._host, self._port, self._token = hub, host, port, token
        self._snapshot, self._trades, self._command = snapshot, trades, command
        self._equity = EquitySeries()
        self._news: deque[dict[str, str]] = deque(maxlen=NEWS)
        self._runner: web.AppRunner | None = None
        self._registry: Any = None  # of the metrics, created on first request
        self._collector: asyncio.Task[None] | None = None
        self._browsers: dict[Browser, None] = {}  # oldest first
        self._frame: tuple[int, bytes] = (-1, b"")  # version of the hub, and the state encoded at it
        pages = ("index.html", "style.css", "chart.css", "icon.svg", *modules("app.js"))
        self._files = {
            f"/{'' if name == 'index.html' else name}": (TYPES[Path(name).suffix], (STATIC / name).read_bytes())
            for name in pages
        }
        self._files[f"/{LIBRARY}"] = (TYPES[".js"], library().encode())

    async def start(self) -> int:
        """Start listening and return the port; BotError if that fails."""
        app = web.Application(middlewares=[self._guard], client_max_size=16_384)
        app.add_routes(
            [
                *(web.get(path, self._file) for path in self._files),
                web.get("/events", self._events),
                web.get("/api/status", self._status),
                web.get("/api/trades", self._trade_rows),
                web.get("/api/equity", self._equity_points),
                web.get("/api/chart", self._chart),
                web.get("/api/bar", self._bar),
                web.get("/api/pass", self._watch_pass),
                web.get("/health", self._health),
                web.get("/metrics", self._metrics),
                web.post("/api/command", self._do),
            ]
        )
        runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            shutdown_timeout=1.0,
            keepalive_timeout=doors.HEADERS_S,
            lingering_time=1.0,
            logger=doors.SERVER_LOG,
        )
        await runner.setup()
        assert runner.server is not None
        self._gate = doors.DoorGate(runner.server)
        try:
            self._listener = await asyncio.get_running_loop().create_server(
                self._gate, self._host, self._port, backlog=doors.MAX_CONNECTIONS
            )
        except OSError as error:
            await runner.cleanup()
            if error.errno == errno.EADDRINUSE:
                raise BotError(
                    f"port {self._port} for the dashboard is in use: choose another with --port N (0 = any free one), "
                    "or go without by --no-dashboard"
                ) from None
            raise BotError(
                f"the dashboard cannot listen on {self._host}:{self._port}: {error.strerror or error}"
            ) from None
        self._runner = runner
        self._collector = asyncio.create_task(self._collect(), name="dashboard")
        self._port = int(self._listener.sockets[0].getsockname()[1])
        return self._port

    async def close(self) -> None:
        """Disconnect all browsers and stop listening."""
        for browser in tuple(self._browsers):
            browser.close()
        if self._collector is not None:
            self._collector.cancel()
            await asyncio.gather(self._collector, return_exceptions=True)
            self._collector = None
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def add_equity(self, points: Sequence[EquityPoint]) -> None:
        """Add earlier samples, for instance of a resumed session."""
        for point in points:
            self._equity.add(point.at_ms, float(point.equity))

    async def _collect(self) -> None:
        """Update the equity line and recent events, and send all browsers the same frame, encoded once."""
        subscription = self._hub.subscribe(keep=10_000)
        try:
            while not subscription.closed:
                await subscription.wait(0.0 if self._behind() else None)
                try:
                    frame = self._changes(subscription.take())
                except Exception:  # one bad snapshot must not end the stream; the log has the reason
                    log.exception("the dashboard could not show the state")
                    frame = b""
                for browser in tuple(self._browsers):
                    browser.offer(frame)
                await asyncio.sleep(FRAME_S)
        finally:
            subscription.close()

    def _behind(self) -> bool:
        """Update the findings by some bars while a browser is connected; return whether more are left."""
        return bool(self._browsers) and self._live is not None and not self._live.follow()

    def _changes(self, items: list[Any]) -> bytes:
        points = [(item.at_ms, float(item.equity)) for item in items if isinstance(item, EquityPoint)]
        for point in points:
            self._equity.add(*point)
        news = [{"text": text, "weight": weight(item)} for item in items if (text := line(item)) is not None]
        self._news.extend(news)
        closed = [trade_row(item) for item in items if isinstance(item, TradeRecord)]
        if closed:
            self._kept_rows = (-math.inf, b"")
        if not self._browsers:
            return b""  # no browser: no snapshot is needed
        parts: list[tuple[str, Any]] = [("point", points[-1:]), ("trade", closed), ("news", news[-NEWS:])]
        if self._live is not None and (newest := self._live.newest()) != self._newest:
            self._newest = newest
            parts.append(("bars", newest))
        return _event("status", self._state()) + b"".join(_event(name, dumps(part)) for name, part in parts if part)

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Check a request, send its response or a one-sentence error, and drop a client that does not read it."""
        assert self._gate is not None
        with self._gate.working(request):
            response = await self._answer(request, handler)
            if not response.prepared:
                response.headers.update(HEADERS)
                try:
                    async with asyncio.timeout(STUCK_S):
                        await response.prepare(request)
                        await response.write_eof()
                except TimeoutError:
                    _drop(request)
                except ConnectionError:
                    pass  # the client has disconnected
                if not self._is_operators(request):
                    self._ration.spend((response.content_length or 0) * doors.BYTE_S)
            return response

    async def _answer(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        began = math.inf
        try:
            if not self._is_operators(request):
                await self._ration.turn()
                began = perf_counter()
            doors.check_name(request, self._names, f"http://127.0.0.1:{self._port}")
            doors.check_site(request)
            return await handler(request)
        except DoorRefusal as refusal:
            response = _json({"error": refusal.sentence}, status=refusal.status)
            if refusal.retry_s is not None:
                response.headers["Retry-After"] = str(refusal.retry_s)
            return response
        except web.HTTPException as problem:
            return _json({"error": problem.reason}, status=problem.status)
        except ConnectionError as error:
            return _json({"error": f"the connection was lost: {error}"}, status=400)
        except Exception:
            if request.path not in self._failed:  # once: repeated requests must not fill the log
                self._failed.add(request.path)
                log.exception("the dashboard could not answer", path=request.path)
            return _json({"error": "the page could not answer this; the bot's log has the reason"}, status=500)
        finally:
            # Handlers that await something account for their own loop time.
            if request.path not in ("/events", "/api/chart", "/api/command"):
                self._ration.spend(max(0.0, perf_counter() - began))

    def _is_operators(self, request: web.Request) -> bool:
        """Whether a request carries the token."""
        given = request.headers.get("X-Token", "").encode(errors="surrogateescape")
        return hmac.compare_digest(given, self._token.encode())

    async def _file(self, request: web.Request) -> web.Response:
        kind, body = self._files[request.path]
        return web.Response(body=body, content_type=kind, charset=None if kind == "image/svg+xml" else "utf-8")

    def _state(self) -> bytes:
        """Return the encoded state, cached until the hub's version changes: one snapshot for all browsers."""
        if self._frame[0] != self._hub.version or not self._frame[1]:
            self._frame = (self._hub.version, dumps(view(self._seen())))
        return self._frame[1]

    def _seen(self) -> Mapping[str, Any]:
        """Return the engine's snapshot with the additions of the tapes."""
        snapshot = self._snapshot()
        return snapshot if self._live is None else {**snapshot, **self._live.told()}

    async def _status(self, request: web.Request) -> web.Response:
        doors.parameters(request)
        return web.Response(body=self._state(), content_type="application/json")

    def _rows(self) -> list[Mapping[str, Any]]:
        return [trade_row(trade) if isinstance(trade, TradeRecord) else trade for trade in self._trades()]

    def _encoded_rows(self) -> bytes:
        """Return the last trades, read from the journal at most once a second unless one has closed."""
        now = asyncio.get_running_loop().time()
        if now - self._kept_rows[0] >= ROWS_S:
            self._kept_rows = (now, dumps(self._rows()[-MOST_TRADES:]))
        return self._kept_rows[1]

    async def _trade_rows(self, request: web.Request) -> web.Response:
        found = doors.parameters(request, "last")
        last = doors.number(found, "last", default=MOST_TRADES, least=1, meaning="so many of the newest trades")
        assert last is not None
        rows = self._encoded_rows()
        if last < MOST_TRADES:
            rows = dumps(orjson.loads(rows)[-last:])
        return web.Response(body=rows, content_type="application/json")

    async def _equity_points(self, request: web.Request) -> web.Response:
        doors.parameters(request)
        return _json(self._equity.points)

    async def _chart(self, request: web.Request) -> web.Response:
        """Return a symbol's chart: its newest bars, or those after a given bar."""
        if self._charts is None:
            raise DoorRefusal(404, "this bot keeps no chart")
        found = doors.parameters(request, "symbol", "last", "after")
        symbol = doors.symbol_of(found)
        last = doors.number(found, "last", default=CHART_BARS, least=1, meaning="so many of the newest bars")
        after_ms = doors.number(found, "after", default=None, least=0, meaning="bars that opened later, epoch ms")
        assert last is not None
        spend = (lambda seconds: None) if self._is_operators(request) else self._ration.spend
        body = await self._charts.chart(symbol, last=min(last, MOST_BARS), after_ms=after_ms, spend=spend)
        if body is None:
            raise DoorRefusal(404, f"there is no chart of {symbol}")
        return web.Response(body=body, content_type="application/json")

    async def _bar(self, request: web.Request) -> web.Response:
        """Return the decision of a bar, in the format of the state."""
        found = doors.parameters(request, "open_ms")
        open_ms = doors.number(found, "open_ms", default=None, least=0, meaning="epoch ms of the bar's open")
        if open_ms is None:
            raise DoorRefusal(400, "open_ms is missing: epoch ms of the bar's open")
        bar = self._live.bar(open_ms) if self._live is not None else None
        if bar is None:
            raise DoorRefusal(404, "nothing was decided on that bar in this session")
        seen = view(bar)
        return _json({"sides": seen["sides"], "verdict": seen["verdict"], "values": bar["decision"]["values"]})

    async def _metrics(self, request: web.Request) -> web.Response:
        from bot.report.metrics_page import CONTENT_TYPE, metrics, registry_of

        if self._registry is None:
            self._registry = registry_of(self._snapshot)
        return web.Response(body=metrics(self._registry), headers={"Content-Type": CONTENT_TYPE})

    async def _health(self, request: web.Request) -> web.Response:
        doors.parameters(request)
        seen = view(self._snapshot())
        lost = seen["feeds_lost"]
        body = {"ok": not lost, "venue": seen["venue"], "clock_ms": seen["clock_ms"], "feeds_lost": lost}
        return _json(body, status=503 if lost else 200)

    async def _do(self, request: web.Request) -> web.Response:
        if not self._is_operators(request):
            raise DoorRefusal(403, "commands need the token of this bot in the header X-Token")
        doors.parameters(request)
        try:
            body = orjson.loads(await request.read())
        except orjson.JSONDecodeError:
            raise DoorRefusal(400, "the body is not JSON") from None
        name = body.get("name") if isinstance(body, dict) else None
        arguments = body.get("args", {}) if isinstance(body, dict) else {}
        if not isinstance(name, str) or name not in COMMANDS or not isinstance(arguments, dict):
            raise DoorRefusal(400, f"name must be one of {', '.join(sorted(COMMANDS))}; args an object")
        if len(arguments) > 8 or not all(map(_is_plain, (*arguments, *arguments.values()))):
            raise DoorRefusal(400, f"args holds up to eight plain texts of up to {ARGUMENT} characters")
        self._command(name, arguments)
        return _json({"accepted": name}, status=202)

    async def _watch_pass(self, request: web.Request) -> web.Response:
        """Return the pass that authenticates the operator's stream, because a URL is no place for the token."""
        doors.parameters(request)
        if not self._is_operators(request):
            raise DoorRefusal(403, "the pass needs the token of this bot in the header X-Token")
        return _json({"pass": self._pass})

    def _make_room(self, *, operators: bool) -> None:
        """Disconnect the oldest browser if all places are taken; the operator's browsers only yield to the operator's."""
        if len(self._browsers) < MAX_BROWSERS:
            return
        guests = (browser for browser in self._browsers if not browser.operators)
        leaves = next(guests, next(iter(self._browsers)) if operators else None)
        if leaves is None:
            raise DoorRefusal(503, f"{MAX_BROWSERS} browsers of the operator are watching already", retry_s=10)
        del self._browsers[leaves]
        leaves.close()

    async def _events(self, request: web.Request) -> web.StreamResponse:
        shown = doors.parameters(request, "pass").get("pass", "").encode(errors="surrogateescape")
        operators = hmac.compare_digest(shown, self._pass.encode()) or self._is_operators(request)
        self._make_room(operators=operators)
        browser = Browser(operators=operators)
        self._browsers[browser] = None
        response = web.StreamResponse(headers={**HEADERS, "Content-Type": "text/event-stream"})
        began = perf_counter()
        try:
            first = _event("status", self._state()) + _event("trades", self._encoded_rows())
            browser.offer(
                first + _event("equity", dumps(self._equity.points)) + _event("news", dumps(list(self._news)))
            )
            self._ration.spend(0.0 if operators else perf_counter() - began)
            connection = request.get_extra_info("socket")
            if connection is not None:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            async with asyncio.timeout(STUCK_S):
                await response.prepare(request)
            while (frame := await browser.next()) is not None:
                async with asyncio.timeout(STUCK_S):
                    await response.write(frame)
        except ConnectionError:
            pass  # the browser has disconnected; it reconnects by itself
        except TimeoutError:
            _drop(request)  # the browser does not read
        finally:
            self._browsers.pop(browser, None)
        return response


def _is_plain(value: Any) -> bool:
    """Whether a command's argument can be stored in the journal: short printable text, a number, a boolean or null."""
    if isinstance(value, str):
        return len(value) <= ARGUMENT and visible(value) == value
    return value is None or isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 2**53)


def _drop(request: web.Request) -> None:
    """Abort a connection at once, discarding unsent data."""
    if request.transport is not None:
        request.transport.abort()


def _event(name: str, data: bytes) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data)


def _json(value: Any, *, status: int = 200) -> web.Response:
    return web.Response(body=dumps(value), status=status, content_type="application/json", headers=HEADERS)
