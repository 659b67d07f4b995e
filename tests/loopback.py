"""A scripted exchange on loopback for tests of the execution shell: it answers what a test tells it to, and remembers.

It is no exchange: nothing trades. Each route answers with its default or with the next scripted answer; requests with
`X-Stepped: 1` take part in the counting of a stepped exchange (the count is taken over while a request is held).
"""

import asyncio
import heapq
import itertools
from collections import defaultdict, deque
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import orjson
from aiohttp import WSCloseCode, web

from bot.core.activity import Activity
from bot.execution.client import HardenedBSM, LocalClient
from bot.execution.gateway import Gateway
from bot.execution.limits import RequestLimits
from bot.execution.tasks import Tasks

START_MS = 1_789_478_280_000


class ManualClock:
    """Time that moves when the test says so; never while anything is under way."""

    def __init__(self, activity: Activity, now_ms: int = START_MS) -> None:
        self._now = now_ms
        self._activity = activity
        self._heap: list[tuple[float, int, Any]] = []
        self._ids = itertools.count()

    def now_ms(self) -> int:
        return int(self._now)

    def call_later(self, delay_ms, callback):
        entry = _Entry(callback)
        heapq.heappush(self._heap, (self._now + delay_ms, next(self._ids), entry))
        return entry

    @property
    def pending(self) -> int:
        return sum(not entry.cancelled for _, _, entry in self._heap)

    async def settle(self) -> None:
        """Wait until the bot has nothing to do but wait."""
        calm = 0
        for _ in range(20_000):
            await asyncio.sleep(0)
            calm = calm + 1 if self._activity.quiet else 0
            if calm == 5:
                return
            if not calm:
                await asyncio.sleep(0.0005)
        raise AssertionError(f"not quiet: {self._activity.under_way} under way")

    def leap(self, now_ms: float) -> None:
        """Be at a later time, without calling what falls due on the way before the next `advance`."""
        self._now = max(self._now, now_ms)

    async def advance(self, delay_ms: float) -> None:
        """Move time on, calling what falls due one by one."""
        await self.settle()
        end = self._now + delay_ms
        while self._heap and self._heap[0][0] <= end:
            due, _, entry = heapq.heappop(self._heap)
            if entry.cancelled:
                continue
            self._now = due
            entry.callback()
            await self.settle()
        self._now = end


def stream_of(payload: Any) -> str:
    """Return the name of the stream that a frame belongs to."""
    kinds = {"bookTicker": "bookTicker", "markPriceUpdate": "markPrice@1s", "aggTrade": "aggTrade"}
    if not isinstance(payload, dict):
        return "btcusdt@kline_3m"
    bar = payload.get("k")
    kind = kinds.get(payload.get("e"), f"kline_{bar['i'] if isinstance(bar, dict) and 'i' in bar else '3m'}")
    return f"{str(payload.get('s', 'BTCUSDT')).lower()}@{kind}"


class _Entry:
    def __init__(self, callback) -> None:
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class Answer:
    """One scripted reply; `hold` keeps the request until it is set, `drop` closes the connection without one."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    text: str | None = None
    hold: asyncio.Event | None = None
    drop: bool = False


def error(code: int, text: str = "", *, status: int = 400, **headers: str) -> Answer:
    return Answer(
        {"code": code, "msg": text or f"error {code}"}, status, {k.replace("_", "-"): v for k, v in headers.items()}
    )


class Venue:
    """Scripted REST and sockets; `requests` holds (method, path, parameters) in order of arrival."""

    def __init__(self, activity: Activity, clock: ManualClock | None = None) -> None:
        self.activity = activity
        self.clock = clock
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.script: dict[tuple[str, str], deque[Answer]] = defaultdict(deque)
        self.default: dict[tuple[str, str], Any] = {("GET", "time"): lambda _: {"serverTime": self.now()}}
        self.default["POST", "listenKey"] = lambda _: {"listenKey": f"key-{self.keys}"}
        self.default["PUT", "listenKey"] = lambda _: {}
        self.keys = 1
        self.sockets: dict[str, list[web.WebSocketResponse]] = defaultdict(list)
        self.opened: list[str] = []
        self.port = 0
        self._runner: web.AppRunner | None = None

    def now(self) -> int:
        return self.clock.now_ms() if self.clock is not None else START_MS

    def will(self, method: str, path: str, *answers: Answer) -> None:
        self.script[method, path].extend(answers)

    def sent(self, method: str, path: str) -> list[dict[str, str]]:
        return [params for m, p, params in self.requests if (m, p) == (method, path)]

    async def listen(self) -> None:
        app = web.Application()
        app.router.add_get("/{feed:market|public|private}/{form:ws|stream}", self._socket)
        app.router.add_route("*", "/fapi/{version}/{path:.*}", self._rest)
        self._runner = web.AppRunner(app, shutdown_timeout=0.2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def close(self) -> None:
        for answers in self.script.values():
            for answer in answers:
                if answer.hold is not None:
                    answer.hold.set()
        for sockets in self.sockets.values():
            for socket in sockets:
                await socket.close()
        assert self._runner is not None
        await self._runner.cleanup()

    async def _rest(self, request: web.Request) -> web.StreamResponse:
        body = (await request.read()).decode()
        params = dict(request.query) | dict(parse_qsl(body, keep_blank_values=True))
        path = request.match_info["path"]
        self.requests.append((request.method, path, params))
        stepped = request.headers.get("X-Stepped") == "1"
        answers = self.script.get((request.method, path))
        if answers:
            answer = answers.popleft()
        else:
            made = self.default.get((request.method, path), {"code": -1, "msg": f"no answer for {path}"})
            made = made(params) if callable(made) else made
            answer = made if isinstance(made, Answer) else Answer(made)
        if answer.hold is not None:
            if stepped:
                self.activity.end()
            await answer.hold.wait()
            if stepped:
                self.activity.begin()
        if answer.drop:
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        if answer.text is not None:
            return web.Response(
                text=answer.text, status=answer.status, headers=answer.headers, content_type="text/html"
            )
        return web.Response(
            body=orjson.dumps(answer.body),
            status=answer.status,
            headers=answer.headers,
            content_type="application/json",
        )

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False, autoping=True)
        await socket.prepare(request)
        feed = request.match_info["feed"]
        self.opened.append(str(request.rel_url))
        self.sockets[feed].append(socket)
        async for _ in socket:
            pass
        self.sockets[feed].remove(socket)
        return socket

    async def push(self, feed: str, *payloads: Any, stream: str | None = None) -> None:
        """Write frames to every open socket of a feed, counted like those of a stepped exchange."""
        for socket in list(self.sockets[feed]):
            for payload in payloads:
                frame = payload if isinstance(payload, bytes) else orjson.dumps(self._wrap(feed, payload, stream))
                self.activity.begin()
                await socket.send_str(frame.decode())

    @staticmethod
    def _wrap(feed: str, payload: Any, stream: str | None) -> Any:
        return payload if feed == "private" else {"stream": stream or stream_of(payload), "data": payload}

    async def cut(self, feed: str) -> None:
        """Close the sockets of a feed from the exchange's side."""
        for socket in list(self.sockets[feed]):
            await socket.close(code=WSCloseCode.GOING_AWAY)


@dataclass
class Bench:
    """Everything that a test of the shell needs."""

    activity: Activity
    clock: Any
    tasks: Tasks
    limits: RequestLimits
    client: LocalClient
    gateway: Gateway
    venue: Venue
    manager: HardenedBSM
    errors: list[BaseException]


@asynccontextmanager
async def bench(*, clock=None, stepped: bool = True):
    """Open a scripted venue and a client for it; at the end everything is closed and no task has failed."""
    activity = Activity()
    clock = clock if clock is not None else ManualClock(activity)
    errors: list[BaseException] = []
    tasks = Tasks(clock, activity=activity, on_error=lambda name, error: errors.append(error))
    limits = RequestLimits(tasks)
    venue = Venue(activity, clock if isinstance(clock, ManualClock) else None)
    await venue.listen()
    client = LocalClient(
        "key",
        "secret",
        rest_url=f"http://127.0.0.1:{venue.port}",
        stream_url=f"ws://127.0.0.1:{venue.port}",
        tasks=tasks,
        limits=limits,
        headers={"X-Stepped": "1"} if stepped else None,
    )
    manager = HardenedBSM(client, tasks=tasks)
    try:
        yield Bench(activity, clock, tasks, limits, client, Gateway(client, tasks, limits), venue, manager, errors)
    finally:
        limits.close()
        await tasks.close()
        await client.close_connection()
        await venue.close()
    assert errors == []
