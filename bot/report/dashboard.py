"""The bot on a page: the chart as it grows, twelve lights, the position in R, trades and what happened, in any browser here.

The page is served by the bot itself, from the files in `static/` and the chart library of the package `lwcharts`, with nothing
loaded from elsewhere. State comes by server-sent events: at most four a second, made once for all browsers, and a browser
that does not read is dropped; the bot never waits for one. Events name each symbol's newest bar, and a page asks for what it
lacks of the symbol that it shows. Looking needs no password, because the server listens on this machine only and answers
only to its own name; doing (flatten, stop entries, arm) needs the token that the bot prints at its start.
"""

import asyncio
import errno
import hmac
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, Final

import orjson
import structlog
from aiohttp import web

from bot.core.errors import BotError
from bot.core.records import EquityPoint, TradeRecord
from bot.report.browser import Browser, EquityLine
from bot.report.charts import LIBRARY, library, modules
from bot.report.hub import Hub
from bot.report.live import Live
from bot.report.tables import trade_row
from bot.report.view import line, view, weight

log = structlog.get_logger(__name__)

COMMANDS: Final = frozenset({"arm", "stop_entries", "start_entries", "flatten", "shutdown"})
STATIC: Final = Path(__file__).with_name("static")
TYPES: Final = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
FRAME_S: Final = 0.25  # between two frames to a browser
STUCK_S: Final = 10.0  # a browser that takes longer to read a frame is dropped
MAX_BROWSERS: Final = 16
NEWS: Final = 50
CHART_BARS: Final = 1_500  # of a symbol that a page is given at first
MOST_BARS: Final = 20_000
LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
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
        Where the shell publishes what happens.
    host, port
        Address to listen on; port 0 takes any free one.
    token
        Secret that commands must carry in the header `X-Token`.
    snapshot
        Gives the engine's snapshot; asked at most four times a second, and only while somebody looks.
    trades
        Gives the trades so far, as `TradeRecord` or plain rows, oldest first.
    command
        Puts an operator's command on the bot's queue: name and arguments.
    live
        The tapes that the chart is drawn from; without them the page has no chart.
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
    ) -> None:
        self._live = live
        self._newest: dict[str, int] = {}
        self._hub, self._host, self._port, self._token = hub, host, port, token
        self._snapshot, self._trades, self._command = snapshot, trades, command
        self._equity = EquityLine()
        self._news: deque[dict[str, str]] = deque(maxlen=NEWS)
        self._runner: web.AppRunner | None = None
        self._registry: Any = None  # of the metrics, made when they are first asked for
        self._collector: asyncio.Task[None] | None = None
        self._browsers: set[Browser] = set()
        self._frame: tuple[int, bytes] = (-1, b"")  # the hub's version and the state that was encoded at it
        pages = ("index.html", "style.css", "chart.css", "icon.svg", *modules("app.js"))
        self._files = {
            f"/{'' if name == 'index.html' else name}": (TYPES[Path(name).suffix], (STATIC / name).read_bytes())
            for name in pages
        }
        self._files[f"/{LIBRARY}"] = (TYPES[".js"], library().encode())

    async def start(self) -> int:
        """Listen, and return the port."""
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
                web.get("/health", self._health),
                web.get("/metrics", self._metrics),
                web.post("/api/command", self._do),
            ]
        )
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await runner.setup()
        try:
            site = web.TCPSite(runner, self._host, self._port)
            await site.start()
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
        self._port = int(runner.addresses[0][1])
        return self._port

    async def close(self) -> None:
        """Let all browsers go and stop listening."""
        for browser in tuple(self._browsers):
            browser.close()
        if self._collector is not None:
            self._collector.cancel()
            await asyncio.gather(self._collector, return_exceptions=True)
            self._collector = None
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def add_equity(self, points: Sequence[EquityPoint]) -> None:
        """Take over earlier samples, for instance of a resumed session."""
        for point in points:
            self._equity.add(point.at_ms, float(point.equity))

    async def _collect(self) -> None:
        """Keep the equity line and the last news, and give every browser the same frame, made once."""
        subscription = self._hub.subscribe(keep=10_000)
        try:
            while not subscription.closed:
                await subscription.wait(0.0 if self._behind() else None)
                try:
                    frame = self._changes(subscription.take())
                except Exception:  # watching must not end with one odd snapshot; the log says what it was
                    log.exception("the dashboard could not show the state")
                    frame = b""
                for browser in tuple(self._browsers):
                    browser.offer(frame)
                await asyncio.sleep(FRAME_S)
        finally:
            subscription.close()

    def _behind(self) -> bool:
        """Follow the drawings some bars further while somebody looks; whether there are more to follow."""
        return bool(self._browsers) and self._live is not None and not self._live.follow()

    def _changes(self, items: list[Any]) -> bytes:
        points = [(item.at_ms, float(item.equity)) for item in items if isinstance(item, EquityPoint)]
        for point in points:
            self._equity.add(*point)
        news = [{"text": text, "weight": weight(item)} for item in items if (text := line(item)) is not None]
        self._news.extend(news)
        if not self._browsers:
            return b""  # nobody looks: the engine is not asked
        closed = [trade_row(item) for item in items if isinstance(item, TradeRecord)]
        parts: list[tuple[str, Any]] = [("point", points[-1:]), ("trade", closed), ("news", news[-NEWS:])]
        if self._live is not None and (newest := self._live.newest()) != self._newest:
            self._newest = newest
            parts.append(("bars", newest))
        return _event("status", self._state()) + b"".join(_event(name, dumps(part)) for name, part in parts if part)

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Answer only to our own name (a foreign page may point its name at 127.0.0.1), with strict headers on everything."""
        try:
            name = request.url.host
        except ValueError:
            name = None
        if self._host in LOOPBACK and name not in LOOPBACK:
            return _json({"error": f"ask for http://127.0.0.1:{self._port} by this address"}, status=421)
        try:
            response = await handler(request)
        except web.HTTPException as problem:
            response = _json({"error": problem.reason}, status=problem.status)
        if not response.prepared:
            response.headers.update(HEADERS)
        return response

    async def _file(self, request: web.Request) -> web.Response:
        kind, body = self._files[request.path]
        return web.Response(body=body, content_type=kind, charset=None if kind == "image/svg+xml" else "utf-8")

    def _state(self) -> bytes:
        """Return the encoded state, made anew only when something has changed: one snapshot for all browsers."""
        if self._frame[0] != self._hub.version or not self._frame[1]:
            self._frame = (self._hub.version, dumps(view(self._seen())))
        return self._frame[1]

    def _seen(self) -> Mapping[str, Any]:
        """Return the engine's snapshot with what the tapes add to it."""
        snapshot = self._snapshot()
        return snapshot if self._live is None else {**snapshot, **self._live.told()}

    async def _status(self, request: web.Request) -> web.Response:
        return web.Response(body=self._state(), content_type="application/json")

    def _rows(self) -> list[Mapping[str, Any]]:
        return [trade_row(trade) if isinstance(trade, TradeRecord) else trade for trade in self._trades()]

    async def _trade_rows(self, request: web.Request) -> web.Response:
        try:
            last = max(1, int(request.query.get("last", "200")))
        except ValueError:
            return _json({"error": "last is not a whole number"}, status=400)
        return _json(self._rows()[-last:])

    async def _equity_points(self, request: web.Request) -> web.Response:
        return _json(self._equity.points)

    async def _chart(self, request: web.Request) -> web.Response:
        """Answer with a symbol's chart: its newest bars, or those after a bar that the page has."""
        if self._live is None:
            return _json({"error": "this bot keeps no chart"}, status=404)
        try:
            last = min(max(1, int(request.query.get("last", str(CHART_BARS)))), MOST_BARS)
            after = request.query.get("after")
            after_ms = None if after is None else int(after)
        except ValueError:
            return _json({"error": "last and after are whole numbers: bars, and epoch ms"}, status=400)
        symbol = request.query.get("symbol", "")
        followed = self._live.follow()
        while not followed:
            await asyncio.sleep(0)  # other work comes in between
            followed = self._live.follow()
        found = self._live.chart(symbol, last=last, after_ms=after_ms)
        if found is None:
            return _json({"error": f"there is no chart of {symbol!r}"}, status=404)
        return _json(found)

    async def _bar(self, request: web.Request) -> web.Response:
        """Answer with a bar as it was decided, in the form of the state."""
        try:
            open_ms = int(request.query.get("open_ms", ""))
        except ValueError:
            return _json({"error": "open_ms is a whole number: epoch ms of the bar's open"}, status=400)
        found = self._live.bar(open_ms) if self._live is not None else None
        if found is None:
            return _json({"error": "nothing was decided on that bar in this session"}, status=404)
        seen = view(found)
        return _json({"sides": seen["sides"], "verdict": seen["verdict"], "values": found["decision"]["values"]})

    async def _metrics(self, request: web.Request) -> web.Response:
        from bot.report.metrics_page import CONTENT_TYPE, metrics, registry_of

        if self._registry is None:
            self._registry = registry_of(self._snapshot)
        return web.Response(body=metrics(self._registry), headers={"Content-Type": CONTENT_TYPE})

    async def _health(self, request: web.Request) -> web.Response:
        seen = view(self._snapshot())
        lost = seen["feeds_lost"]
        body = {"ok": not lost, "venue": seen["venue"], "clock_ms": seen["clock_ms"], "feeds_lost": lost}
        return _json(body, status=503 if lost else 200)

    async def _do(self, request: web.Request) -> web.Response:
        if not hmac.compare_digest(request.headers.get("X-Token", "").encode(), self._token.encode()):
            return _json({"error": "commands need the token of this bot in the header X-Token"}, status=403)
        try:
            body = orjson.loads(await request.read())
        except orjson.JSONDecodeError:
            return _json({"error": "the body is not JSON"}, status=400)
        name = body.get("name") if isinstance(body, dict) else None
        arguments = body.get("args", {}) if isinstance(body, dict) else {}
        if not isinstance(name, str) or name not in COMMANDS or not isinstance(arguments, dict):
            return _json({"error": f"name must be one of {', '.join(sorted(COMMANDS))}; args an object"}, status=400)
        self._command(name, arguments)
        return _json({"accepted": name}, status=202)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if len(self._browsers) >= MAX_BROWSERS:
            return _json({"error": f"{MAX_BROWSERS} browsers are watching already"}, status=503)
        browser = Browser()
        self._browsers.add(browser)
        response = web.StreamResponse(headers={**HEADERS, "Content-Type": "text/event-stream"})
        try:
            first = _event("status", self._state()) + _event("trades", dumps(self._rows()[-200:]))
            browser.offer(
                first + _event("equity", dumps(self._equity.points)) + _event("news", dumps(list(self._news)))
            )
            await response.prepare(request)
            while (frame := await browser.next()) is not None:
                await asyncio.wait_for(response.write(frame), STUCK_S)
        except (ConnectionError, TimeoutError):
            pass  # the browser has gone or does not read: it comes back by itself when it wants to
        finally:
            self._browsers.discard(browser)
        return response


def _event(name: str, data: bytes) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data)


def _json(value: Any, *, status: int = 200) -> web.Response:
    return web.Response(body=dumps(value), status=status, content_type="application/json", headers=HEADERS)
