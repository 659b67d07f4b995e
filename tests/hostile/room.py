"""One trade of the real bot on a stepped exchange that lies on the way, in one process and over real sockets.

All is real but the indicators (a script, as in the kill matrix) and the bot's clock, which is the exchange's: engine, loop,
journal, executor, gateway, streams, python-binance and its connections. The exchange steps on when the bot is idle, so ten
minutes of trade take seconds. What happens is noted at the exchange after every item of its clock.
"""

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web

import bot.app.recovery
import bot.app.run
import bot.sim.clock
from bot.app.credentials import Credentials
from bot.app.options import RunOptions
from bot.app.run import Bot
from bot.app.venues import REPLAY_SILENCE_MS, TradingVenue
from bot.config import parse
from bot.core.activity import Activity
from bot.core.clock import Cancellable
from bot.core.intents import Alert
from bot.execution.clock import WallClock, machine_ms
from bot.execution.streams import StreamSettings
from bot.execution.tasks import Tasks
from bot.journal import Journal
from bot.orders.ids import role_of
from bot.sim.calls import Call, Reply
from bot.sim.server import Exchange
from bot.sim.sockets import Socket
from tests.engine_harness import BTC, SYMBOLS
from tests.hostile.liar import Answer, Asked, Liar, Lie
from tests.kill.scenarios import CLOSE, Scenario

KEY, SECRET = "hostile-key", "hostile-secret"
SAME_TIME_MS = 5_000  # a reading of the time that is off by less is the truth
STEADY_MS = 20_000  # after the first fill: stops, targets and legs rest
AFTER_MS = 5_000  # a case is over so long after its last order has ended
LATE_MS = 150_000  # and is given up so long after the honest trade was over
PATIENCE_S = 4.0  # of the wall: something of ours that was begun and never ended stops the exchange
MIN_END_MS = 240_000  # without a trade
WAITS = ("signals", "failure", "replay")  # tasks of `Bot.run` that wait for its end


class RoomClock(WallClock):
    """The bot's clock towards a venue elsewhere, where the wall is the exchange's time."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        super().__init__()
        super().synchronise(self._truth())  # as after a first reading
        self._base_ms, self.replay = 0.0, False

    def _monotonic_ms(self) -> float:  # type: ignore[override]
        return float(self._exchange.clock.now_ms())

    def _truth(self) -> float:
        return self._exchange.clock.now_ms() - machine_ms()

    def call_later(self, delay_ms: float, callback: Any) -> Cancellable:
        return self._exchange.clock.call_later(delay_ms, callback)

    def synchronise(self, offset_ms: float) -> float:
        super().synchronise(offset_ms)
        if abs(offset_ms - self._truth()) < SAME_TIME_MS:
            self._base_ms = 0.0  # the time of the machine that went by between question and answer is none here
        self.replay = False
        return 0.0  # the exchange takes requests signed with the machine's time


class RoomVenue(TradingVenue):
    """The test network as the bot sees it, with the silences of a replay."""

    def stream_settings(self) -> StreamSettings:
        return StreamSettings(market_silence_ms=REPLAY_SILENCE_MS, public_silence_ms=REPLAY_SILENCE_MS, rotate_ms=None)


class LyingExchange(Exchange):
    """The embedded exchange with a liar at its door."""

    liar: Liar

    async def serve(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() == "websocket" or request.path.startswith("/sim/"):
            return await super().serve(request)
        body = (await request.read()).decode()
        call = Call(request.method, request.path, request.rel_url.raw_query_string, body, "")
        asked = Asked(call.method, call.path, call.params)
        answer = self.liar.instead(asked)
        if answer is None:
            honest = await super().serve(request)
            if not isinstance(honest, web.Response) or request.transport is None or request.transport.is_closing():
                return honest
            told = Answer(honest.body or b"", honest.status, dict(honest.headers), honest.content_type)  # type: ignore[arg-type]
            answer = self.liar.reply(asked, told)
            if answer is told:
                return honest
        headers = {n: v for n, v in answer.headers.items() if n.lower() not in ("content-type", "content-length")}
        return web.Response(status=answer.status, body=answer.body, headers=headers, content_type=answer.kind)


class QueueCount(Activity):
    """The count of the loop's queue: what waits while the bot comes up is not waited for by the exchange."""

    __slots__ = ("_shared",)

    def __init__(self) -> None:
        super().__init__()
        self._shared: Activity | None = None

    def begin(self, n: int = 1) -> None:
        (super().begin if self._shared is None else self._shared.begin)(n)

    def end(self, n: int = 1) -> None:
        (super().end if self._shared is None else self._shared.end)(n)

    def share(self, activity: Activity) -> None:
        """Count with the others from now on."""
        if self._shared is None:
            self._shared = activity
            activity.begin(self.under_way)


@dataclass
class Seen:
    """What was seen at the exchange, and what was said to the person."""

    marks: dict[str, int] = field(default_factory=dict)  # when each phase began
    path: list[tuple[int, str, Decimal]] = field(
        default_factory=list
    )  # time, symbol, signed position after each change
    fills: list[tuple[int, str, str, Decimal]] = field(default_factory=list)  # time, symbol, role, signed quantity
    ids: Counter[str] = field(default_factory=Counter)  # accepted orders by client id
    longest_bare_ms: dict[str, int] = field(default_factory=dict)
    alerts: list[str] = field(default_factory=list)
    logged: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)  # of the process
    left: list[str] = field(default_factory=list)  # positions and orders at the end
    lied: list[int] = field(default_factory=list)
    ended_ms: int = 0
    wallet: Decimal = Decimal(0)


class Room:
    """Plays one case.

    Parameters
    ----------
    lies
        Switched on `after_ms` after the exchange has seen `phase` begin.
    phase
        One of `PHASES`, or a number: ms after the close of the signal bar.
    end_ms
        When to give up, ms after the close of the signal bar.
    """

    def __init__(
        self,
        scenario: Scenario,
        folder: Path,
        *,
        lies: tuple[Lie, ...] = (),
        phase: str | int = "held",
        after_ms: int = 0,
        overrides: tuple[str, ...] = (),
        end_ms: int = 0,
    ) -> None:
        self.scenario, self.folder, self.phase, self.after_ms = scenario, folder, phase, after_ms
        self.overrides = (*scenario.overrides, *overrides)
        self.end_ms = end_ms or scenario.end_ms - CLOSE
        self.activity = Activity()
        self.seen = Seen()
        self.exchange = LyingExchange(
            scenario.bars, from_ms=scenario.start_ms, to_ms=scenario.end_ms, wallet=scenario.wallet, api_key=KEY,
            api_secret=SECRET, activity=self.activity, stepped=True, depth_notional=scenario.depth_notional,
            forming_klines=False,
        )  # fmt: skip
        self.liar = self.exchange.liar = Liar(self.exchange, lies)
        self._lies = lies
        self._begun = False
        self._counted_fills = 0
        self._held = dict.fromkeys(SYMBOLS, Decimal(0))
        self._flat_since = 0
        self._over = asyncio.Event()
        self._death = asyncio.Event()  # asks for a restart
        self._started = asyncio.Event()
        self._open_calls: set[Call] = set()
        self._wrap()
        self.port = 0
        self.bot: Bot | None = None
        self.running: asyncio.Task[int] | None = None

    # -- the exchange's side ------------------------------------------------------------------------------------------

    def _wrap(self) -> None:
        x = self.exchange
        release, write, serve = x.clock.release, x.hub._write, x.traffic.serve

        async def watched(**more: Any) -> bool:
            touched = await release(**more)
            self._watch()
            return touched

        def lying(socket: Socket, messages: list[bytes]) -> None:
            passed = [m for message in messages for m in self.liar.frames(message)]
            if passed:
                write(socket, passed)

        async def noted(call: Call) -> Reply:
            self._open_calls.add(call)
            try:
                return await serve(call)
            finally:
                self._open_calls.discard(call)

        x.clock.release = watched  # type: ignore[method-assign]
        x.hub._write = lying  # type: ignore[method-assign]
        x.traffic.serve = noted  # type: ignore[method-assign]

    def _watch(self) -> None:
        x, venue, seen = self.exchange, self.exchange.venue, self.seen
        now = x.clock.time_ms
        since = now - CLOSE
        for fill in venue.fills[self._counted_fills :]:
            order = fill.order
            role = role_of(order.client_id) or "?"
            qty = order.sign * venue.rules[order.symbol].qty(fill.lots)
            seen.fills.append((since, order.symbol, role, qty))
            self._held[order.symbol] += qty
            seen.path.append((since, order.symbol, self._held[order.symbol]))
            if order.symbol == BTC:
                seen.marks.setdefault("first_fill", since)
            if role in ("tp", "hx"):
                seen.marks.setdefault({"tp": "scaling", "hx": "hedge"}[role], since)
            if role == "tp":
                seen.marks["last_target"] = since
        self._counted_fills = len(venue.fills)
        if "entry" not in seen.marks and any(role_of(o.client_id) == "en" for o in venue.open_orders(BTC)):
            seen.marks["entry"] = since
        first = seen.marks.get("first_fill")
        if first is not None and "held" not in seen.marks and since >= first + STEADY_MS:
            seen.marks["held"] = since
        self._begin_lies(since)
        self._look_for_end(since)

    def _begin_lies(self, since: int) -> None:
        if self._begun:
            return
        began = self.phase if isinstance(self.phase, int) else self.seen.marks.get(PHASES[self.phase])
        if began is None or since < began + self.after_ms:
            return
        self._begun = True
        if self.phase == "restart":
            self.activity.begin()  # time stands until the old process is gone
            self._death.set()
        else:
            self.liar.begin()

    def _look_for_end(self, since: int) -> None:
        venue = self.exchange.venue
        working = any(venue.open_orders(s) or venue.algos.open(s) for s in SYMBOLS)
        flat = not any(self._held.values()) and not working
        if not flat or (not self.seen.fills and since < MIN_END_MS):
            self._flat_since = 0
        elif not self._flat_since:
            self._flat_since = since
        over = (self._flat_since and since >= self._flat_since + AFTER_MS) or since >= self.end_ms
        if over and not self._over.is_set():
            self.activity.begin()  # time stands from here on
            self._over.set()

    # -- the bot's side -----------------------------------------------------------------------------------------------

    async def play(self) -> Seen:
        """Play to the end; return what was seen."""
        x, seen = self.exchange, self.seen
        with _surroundings(self):
            self.port = await x.listen("127.0.0.1", 0)
            try:
                await self._live()
            except Exception as error:
                seen.faults.append(f"{type(error).__name__}: {error}")
            finally:
                await self._bury()
                self._note_the_end()
                await x.close()
        return seen

    async def _live(self) -> None:
        await self._start()
        while True:
            finished = asyncio.ensure_future(self._finished())
            waits = {
                asyncio.ensure_future(self._over.wait()),
                asyncio.ensure_future(self._death.wait()),
                finished,
            }
            assert self.running is not None
            await asyncio.wait({*waits, self.running}, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
            if self.running.done():
                self.seen.faults.append(f"the process ended: {self.running.exception() or self.running.result()}")
                return
            if self._death.is_set():
                self._death.clear()
                await self._bury()
                self.liar.begin()
                self.activity.under_way = 0
                await self._start()
                continue
            if finished.done() and not finished.cancelled() and finished.exception() is not None:
                self.seen.faults.append(f"the exchange waits for something of the bot: {finished.exception()}")
            return

    async def _start(self) -> None:
        x = self.exchange
        venue = RoomVenue(
            name="testnet", rest_url=f"http://127.0.0.1:{self.port}", stream_url=f"ws://127.0.0.1:{self.port}",
            credentials=Credentials(KEY, SECRET), account=f"http://127.0.0.1:{self.port}", clock=RoomClock(x),
            activity=self.activity, resume=True, headers={"X-Stepped": "1"}, start=self._begin, meta={"source": "room"},
        )  # fmt: skip
        config = parse("", overrides=self.overrides)
        options = RunOptions("testnet", dashboard=False, quiet=True)
        bot = self.bot = Bot(config, options, venue, Journal(self.folder / "bot.db"))
        count = bot.loop.activity = QueueCount()
        bot.loop.realtime = False  # nothing may wait for the wall
        publish, run = bot.hub.publish, bot.loop.run

        def heard(*items: Any) -> None:
            for item in items:
                if isinstance(item, Alert) and item.level != "info":
                    self.seen.alerts.append(f"{x.clock.now_ms() - CLOSE} {item.level}: {item.text}")
            publish(*items)

        async def counted() -> None:
            count.share(self.activity)
            await run()

        bot.hub.publish = heard  # type: ignore[method-assign]
        bot.loop.run = counted  # type: ignore[method-assign]

        async def life() -> int:
            async with AsyncExitStack() as stack:
                await bot.start()
                return await bot.run(stack)

        self.running = asyncio.create_task(life(), name="bot")

    def _begin(self) -> None:
        if self.exchange.driver is None:
            self.exchange.start()
            self._started.set()

    async def _finished(self) -> None:
        await self._started.wait()
        await self.exchange.finished()

    async def _bury(self) -> None:
        """End the bot's process where it stands; what rests at the exchange stays."""
        bot, running = self.bot, self.running
        if bot is None or running is None:
            return
        self.bot = self.running = None
        if bot.loop.broken is not None:
            self.seen.faults.append(f"the engine broke a rule of its own: {bot.loop.broken}")
        running.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await running
        for task in asyncio.all_tasks():
            if task.get_name() in WAITS:
                task.cancel()  # the process would take them along
        for call in (*self._open_calls, *self.exchange.traffic.parked):
            call.counted = False
        with suppress(Exception):
            await bot.close()
        bot.journal.close()
        for _ in range(200):
            if not self.exchange.hub.sockets:
                break
            await asyncio.sleep(0.005)

    def _note_the_end(self) -> None:
        x, seen = self.exchange, self.seen
        now = x.clock.now_ms()
        seen.ended_ms = now - CLOSE
        seen.wallet = x.venue.account.wallet
        seen.lied = list(self.liar.told)
        seen.longest_bare_ms = {s: naked.report(now)["longest"] for s, naked in x.venue.naked.items()}
        orders = [o.client_id for o in x.venue.orders.values()]
        algos = [a.client_id for a in x.venue.algos.by_id.values()]
        # A stop that triggers becomes an order of the same id: each list is looked at by itself.
        seen.ids = Counter(orders) | Counter(algos)
        for symbol in SYMBOLS:
            qty = x.venue.account.positions[symbol].qty
            if qty:
                seen.left.append(f"{qty} {symbol}")
            seen.left += [o.client_id for o in (*x.venue.open_orders(symbol), *x.venue.algos.open(symbol))]


PHASES = {
    "entry": "entry",
    "first_fill": "first_fill",
    "held": "held",
    "hedge": "hedge",
    "scaling": "scaling",
    "trailing": "last_target",
    "restart": "held",
}


@contextmanager
def _surroundings(room: Room) -> Iterator[None]:
    """Put the script in the indicators' place, and listen to what is logged."""
    said = room.seen.logged

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    def ear(logger: Any, level: str, event: dict[str, Any]) -> Any:
        if level in ("warning", "error", "critical"):
            said.append(str(event.get("event")))
        raise structlog.DropEvent

    async def never() -> int:
        await asyncio.Event().wait()
        return 0

    counted, features, interrupted = Tasks.counted, bot.app.recovery.EarlyFeatures, bot.app.run.interrupted
    quiet, before = bot.sim.clock.QUIET_WITHIN_S, structlog.get_config()
    handler, logger = Ear(logging.WARNING), logging.getLogger("bot")
    propagate, data = logger.propagate, os.environ.get("BOT_DATA")
    os.environ["BOT_DATA"] = str(room.folder)
    bot.app.recovery.EarlyFeatures = lambda *_, **__: room.scenario.script()  # type: ignore[assignment, misc]
    bot.app.run.interrupted = never  # type: ignore[assignment]
    Tasks.counted = lambda self, at_most_s: counted(self, 10.0)  # type: ignore[method-assign]  # on a busy machine too
    bot.sim.clock.QUIET_WITHIN_S = PATIENCE_S  # type: ignore[misc]
    structlog.configure(processors=[ear])
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
        structlog.configure(**before)
        bot.sim.clock.QUIET_WITHIN_S = quiet  # type: ignore[misc]
        Tasks.counted = counted  # type: ignore[method-assign]
        bot.app.run.interrupted = interrupted
        bot.app.recovery.EarlyFeatures = features  # type: ignore[misc]
        if data is None:
            del os.environ["BOT_DATA"]
        else:
            os.environ["BOT_DATA"] = data
