"""A bot and an exchange in one process and one event loop, without sockets: what the state machine drives.

Everything that decides is real: the engine with its orders, the loop with its SQLite journal, the executor with
gateway, limits and python-binance's client down to the signed request, and the exchange from its request desk to the
books. Left out are the TCP connections: a request goes to the exchange as a `Call`, a frame of the user stream is put on
the queue of a socket that is not connected. The market stands still until a test moves it; the clock goes on only in
`pass_time`, one item at a time, and every item is looked at. Replies and frames pass a liar on their way (`tests.hostile`).
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import aiohttp
import orjson
import yarl

from bot.app.loop import Loop
from bot.app.sessions import replay
from bot.core.activity import Activity
from bot.core.errors import BotError, WireError
from bot.core.events import Command, FeedLost, FeedRestored, KlineClosed, Quotes, SessionStarted
from bot.core.intents import Alert, RequestSnapshot
from bot.core.klines import Klines, make_klines
from bot.core.records import TradeRecord
from bot.core.types import Kline, Quote, Side
from bot.engine import Engine
from bot.engine import view as engine_view
from bot.execution import wire
from bot.execution.client import LocalClient
from bot.execution.executor import SNAPSHOT_OVERLAP_MS, Executor
from bot.execution.gateway import Gateway
from bot.execution.limits import RequestLimits
from bot.execution.sockets import HardenedSocket
from bot.execution.streams import USER, Streams
from bot.execution.tasks import Tasks
from bot.jobs import Repeat
from bot.journal import Journal
from bot.orders.ids import parse
from bot.report.hub import Hub
from bot.sim.calls import Call
from bot.sim.errors import Refused
from bot.sim.faults import Fault
from bot.sim.faults import parse as parse_faults
from bot.sim.server import Exchange
from bot.sim.sockets import Socket
from tests.engine_harness import (
    BASE,
    BTC,
    ETH,
    NOISE,
    PRICES,
    SOL,
    START,
    SWING,
    SYMBOLS,
    Rows,
    config_of,
    leg_row,
    quiet_row,
    signal_row,
)
from tests.hostile.liar import Answer, Liar
from tests.hostile.liar import Asked as Question
from tests.hostile.menu import MENU

ZERO = Decimal(0)
NAKED_MS = 1_500
QUOTES_S = 4.0  # how often the best prices are told by themselves; every move tells them too
SLACK_MS = 300  # from the engine's word to the exchange's deed
HEALING_MS = 9_000  # a reply that is lost is given up after 5 s, then asked after
SETTLED_MS = 3_000  # after the last fill: what it brings about has been done
QUIET_MS = 40_000  # until everything that can heal by itself has: a snapshot every 30 s
OVERRIDES = (
    "risk.stage=full",
    "risk.max_day_loss_r=100",
    "risk.direction_breaker_r=100",
    "risk.soft_stop_r=1000",
    "risk.throttle_floor=1.0",
)
KEY, SECRET = "machine-key", "machine-secret"


class Broken(AssertionError):
    """A law does not hold."""


def standing(symbol: str) -> dict[str, Klines]:
    """Bars of a market that does not move, from before the start to far beyond the end of any run."""
    count, price = 600, float(PRICES[symbol])
    bars = [[price] * count for _ in range(4)]
    columns: dict[str, Any] = dict(zip(("open", "high", "low", "close"), bars, strict=True))
    columns["open_ms"] = [START + (i - 40) * BASE for i in range(count)]
    for name in ("volume", "taker_buy_volume", "quote_volume", "trades", "taker_buy_quote_volume"):
        columns[name] = [10.0] * count
    return {"3m": make_klines(symbol, BASE, columns=columns)}


MARKET = {symbol: standing(symbol) for symbol in SYMBOLS}


class Reply:
    """What is read of a response; it is its own content."""

    def __init__(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.status, self.headers, self._body = status, headers, body
        self.content, self.content_length = self, len(body)

    async def iter_any(self) -> AsyncIterator[bytes]:
        """Give the body in one piece."""
        yield self._body

    def close(self) -> None:
        """There is no connection."""


class Session:
    """In the place of aiohttp's session: hands requests to the exchange, and knows which are under way."""

    def __init__(self, exchange: Exchange, limits: RequestLimits, liar: Liar) -> None:
        self.exchange, self.limits, self.liar = exchange, limits, liar
        self.under_way: set[Call] = set()
        self.closed = True

    def __getattr__(self, method: str) -> Callable[..., "Asked"]:
        if method not in ("get", "post", "put", "delete"):
            raise AttributeError(method)

        def ask(url: yarl.URL, *, data: Any = None, **_: Any) -> Asked:
            body = "" if data is None else data if isinstance(data, str) else urlencode(data)
            return Asked(self, Call(method.upper(), url.path, url.raw_query_string, body, KEY, counted=True))

        return ask

    async def close(self) -> None:
        self.under_way.clear()


class Asked:
    """One request between its sending and its reply."""

    def __init__(self, session: Session, call: Call) -> None:
        self.session, self.call = session, call

    async def __aenter__(self) -> Reply:
        session = self.session
        session.under_way.add(self.call)
        try:
            reply = await session.exchange.traffic.serve(self.call)
        finally:
            session.under_way.discard(self.call)
        if reply.cut:
            raise aiohttp.ServerDisconnectedError
        session.limits.observe(reply.headers)
        body = reply.text.encode() if reply.text is not None else orjson.dumps(reply.data)
        call = self.call
        answer = Answer(body, reply.status, reply.headers)
        answer = session.liar.reply(Question(call.method, call.path, call.params), answer)
        return Reply(answer.status, answer.body, dict(answer.headers))

    async def __aexit__(self, *_: object) -> None:
        return None


class Client(LocalClient):
    """python-binance's client without connections."""

    def __init__(self, exchange: Exchange, tasks: Tasks, limits: RequestLimits, liar: Liar) -> None:
        self._line = Session(exchange, limits, liar)
        super().__init__(
            KEY, SECRET, rest_url="http://127.0.0.1", stream_url="ws://127.0.0.1", tasks=tasks, limits=limits
        )

    def _init_session(self) -> Any:
        return self._line

    @property
    def under_way(self) -> set[Call]:
        return self._line.under_way


@dataclass
class Process:
    """One life of the bot, from its start to its death."""

    journal: Journal
    tasks: Tasks
    limits: RequestLimits
    client: Client
    gateway: Gateway
    engine: Engine
    loop: Loop
    executor: Executor
    streams: Streams
    inbox: HardenedSocket  # the user stream's, not connected
    pump: "asyncio.Task[None] | None" = None
    jobs: list[Repeat] = field(default_factory=list)


class World:
    """The exchange, the bot when it lives, and the laws that hold between them.

    Parameters
    ----------
    folder
        Where the journal lies.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "bot.db"
        self.config = config_of(*OVERRIDES)
        self.rows = Rows()
        self.activity = Activity()
        self.exchange = Exchange(
            MARKET, from_ms=START, wallet=10_000.0, api_key=KEY, api_secret=SECRET, activity=self.activity
        )
        x = self.exchange
        x.running = True
        x.hub._write = self._heard  # type: ignore[method-assign]  # no connection: the frames are read as they come
        self.clock, self.venue = x.clock, x.venue
        self.liar = Liar(x)
        self.lied_ms = -(10**9)  # when a lie last acted
        self.lies_seen = 0
        self.phantoms = False  # whether fills were told that never were
        self.bot: Process | None = None
        self.socket: Socket | None = None
        self.open_ms = START  # of the next bar
        self.naked_since: dict[str, int] = {}
        self.longest_naked = 0  # without any fault in the last seconds
        self.impaired_ms = -(10**9)  # when a fault last acted
        self.acted = 0
        self.alerts: list[str] = []
        self.trades: list[TradeRecord] = []
        self.restarts = 0
        self.hands = 0  # trades by hand: what they add is guarded, not sized
        self.by_hand: dict[str, Decimal] = {}  # quantities traded by hand
        self.failure: BaseException | None = None

    # -- life -------------------------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Start the bot for the first time."""
        await self.start()
        await self.pass_time(BASE - (self.clock.time_ms - START) % BASE)

    async def start(self) -> None:
        """Start a process: as `app.run` does, journal and replay first, then the account, then what waited."""
        journal = Journal(self.path)
        tasks = Tasks(self.clock, activity=self.activity, on_error=self._failed)
        limits = RequestLimits(tasks)
        client = Client(self.exchange, tasks, limits, self.liar)
        gateway = Gateway(client, tasks, limits)
        now = self.clock.time_ms
        session = journal.open_session("testnet", "machine", resume=True, at_ms=now)
        if session.resumed and not journal.has_begun(session.id):
            journal.end_session(now)
            session = journal.open_session("testnet", "machine", resume=True, at_ms=now)
        engine = self.new_engine()
        last_ms, fresh = 0, True
        if session.memory is not None:
            engine.remember(session.memory)
        if session.resumed:
            replayed = replay(journal, session, engine, on_bar=lambda event: None)
            if replayed.fault:
                raise Broken(f"the journal cannot be gone on with: {replayed.fault}")
            last_ms, fresh = replayed.last_ms, not replayed.last_open
        loop = Loop(
            engine,
            journal,
            self.clock,
            Hub(),
            perform=lambda intent, at_ms: executor.perform(intent, at_ms=at_ms),
            told=self._told,
            activity=Activity(),  # its own: while the bot comes up, what the streams tell waits in the queue
        )
        loop.last_ms = last_ms
        executor = Executor(
            gateway,
            tasks,
            loop.emit,
            symbols=SYMBOLS,
            on_alert=self._told,
            since_ms=max(last_ms - SNAPSHOT_OVERLAP_MS, 0) or None,
        )
        limits.on_pause = self._paused

        def heard(event: Any) -> None:
            executor.observe(event)
            loop.emit(event)

        sockets: Any = SimpleNamespace(futures_user_socket=None)
        streams = Streams(sockets, gateway, SYMBOLS, tasks=tasks, emit=heard, on_error=self._unreadable)
        inbox = streams.feeds[USER].socket = HardenedSocket(url="ws://in/", path="in", tasks=tasks)
        streams._start_consumer(streams.feeds[USER], inbox)
        bot = self.bot = Process(journal, tasks, limits, client, gateway, engine, loop, executor, streams, inbox)
        done = tasks.latch()
        tasks.spawn(self._boot(bot, done, fresh=fresh, known=session.resumed), name="boot")
        for _ in range(20_000):
            if done.is_set or self.failure is not None:
                break
            await self._one_item(self.clock.time_ms + 120_000)
        self._raise_failure()
        if not done.is_set:
            raise Broken("the bot does not come up")
        bot.pump = bot.pump or asyncio.create_task(loop.run())
        bot.jobs.append(Repeat(self.clock, self._pace, lambda: executor.perform(RequestSnapshot("timetable"))))
        bot.jobs.append(Repeat(self.clock, lambda: QUOTES_S, self._quote))
        await self._settle()

    async def _boot(self, bot: Process, done: Any, *, fresh: bool, known: bool) -> None:
        loop, gateway = bot.loop, bot.gateway
        try:
            looked_ms = 0
            if known and (not bot.engine.flat or await gateway.positions(SYMBOLS)):
                looked_ms = await self._look_first(bot)
            session = await gateway.load_session(SYMBOLS, venue="testnet")
            if not looked_ms:
                loop.handle(session)
            prepared = await gateway.prepare(SYMBOLS, bot.engine.limits.leverage)
            for symbol, leverage in prepared.leverage.items():
                loop.handle(wire.LeverageSet(self.clock.time_ms, symbol, leverage))
            if fresh:
                self._load_history(loop)
            for symbol in SYMBOLS:
                loop.emit(await gateway.funding(symbol))
            await self._open_stream()
            snapshot = await gateway.snapshot(SYMBOLS, bot.executor.since_ms)
            if looked_ms:
                loop.handle(replace(session, at_ms=looked_ms))
                if bot.limits.paused:
                    loop.handle(FeedLost(self.clock.time_ms, "rest", "the exchange asked for a pause"))
            loop.handle(snapshot)
            for intent in bot.engine.resume():
                bot.executor.perform(intent, at_ms=self.clock.time_ms)
            bot.limits.release_entries()
        except BotError as error:  # the exchange refuses to be read just now: a person starts it again
            self.failure = error
        finally:
            done.set()

    async def _look_first(self, bot: Process) -> int:
        """Look at the account with what the journal knows, as `app.recovery` does."""
        loop, now = bot.loop, self.clock.time_ms
        bot.limits.hold_entries()
        bot.gateway.know_orders(bot.journal.order_numbers(bot.journal._session))
        instruments = tuple(bot.engine.market_state.instruments.values())
        bot.gateway.fee_rates = {i.symbol: (i.maker_fee, i.taker_fee) for i in instruments}
        snapshot = await bot.gateway.snapshot(SYMBOLS, bot.executor.since_ms)
        loop.handle(SessionStarted(now, "testnet", snapshot.wallet, instruments))
        loop.handle(FeedLost(now, "start", "the start is not complete"))
        loop.handle(snapshot)
        for intent in bot.engine.resume():
            if not isinstance(intent, RequestSnapshot):
                bot.executor.perform(intent, at_ms=now)
        bot.pump = asyncio.create_task(loop.run())
        return now

    def _load_history(self, loop: Loop) -> None:
        level = {symbol: float(PRICES[symbol]) for symbol in SYMBOLS}
        for i in range(30):
            open_ms = START - (30 - i) * BASE
            for symbol, factor in ((ETH, 1.2), (SOL, 1.5), (BTC, 1.0)):
                level[symbol] *= 1 + factor * SWING[i % 10] + (NOISE[i % 7] if symbol != BTC else 0.0)
                close = level[symbol]
                bar = Kline(symbol, BASE, open_ms, close, close, close, close, 10.0, 5.0)
                loop.handle(KlineClosed(open_ms + BASE, bar, history=True))

    def new_engine(self) -> Engine:
        """An engine that has seen nothing."""
        return Engine(self.config, self.rows, venue="testnet")

    async def kill(self, *, lose_unsent: bool) -> None:
        """SIGKILL: what was not committed is gone, what had left still arrives; `lose_unsent`: what had not left does not."""
        bot, x = self.bot, self.exchange
        assert bot is not None
        self.bot = None
        if bot.journal._db.in_transaction:
            bot.journal._db.execute("ROLLBACK")
        if lose_unsent:
            x.traffic.parked.clear()
        else:
            x.traffic.take_parked()
        for call in list(bot.client.under_way):
            call.counted = False
        for job in bot.jobs:
            job.cancel()
        bot.executor.close()
        bot.streams._closing = True
        for feed in bot.streams.feeds.values():
            feed.cancel()
        bot.limits.on_pause = lambda reason: None
        bot.limits.close()
        await bot.tasks.close()
        if bot.pump is not None:
            bot.pump.cancel()
            with suppress(asyncio.CancelledError):
                await bot.pump
        self._close_socket()
        bot.journal.close()
        self.activity.under_way = 0
        self.impaired_ms = self.clock.time_ms
        self.restarts += 1

    async def end(self) -> None:
        """Leave nothing behind."""
        if self.bot is not None:
            await self.kill(lose_unsent=True)
        await self.exchange.close()

    # -- time -------------------------------------------------------------------------------------------------------

    async def pass_time(self, ms: int) -> None:
        """Let `ms` of the exchange's time pass."""
        until = self.clock.time_ms + ms
        while await self._one_item(until):
            pass
        self.clock.time_ms = max(self.clock.time_ms, until)
        self._watch()
        self._raise_failure()

    async def _one_item(self, until: int) -> bool:
        await self._settle()
        self.exchange.traffic.take_parked()
        item = self.clock.peek()
        if item is None or item.at_ms > until:
            return False
        await self.clock.release()
        await self._settle()
        self._watch()
        return True

    async def _settle(self) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
        rounds = 0
        while not self.activity.quiet or self._queue_is_busy:
            await asyncio.sleep(0)
            rounds += 1
            if rounds > 2_000:
                self._raise_failure()
                raise Broken(f"{self.activity.under_way} things under way do not end after {self.clock.last_name}")

    @property
    def _queue_is_busy(self) -> bool:
        bot = self.bot
        return bot is not None and bot.pump is not None and not bot.pump.done() and not bot.loop.activity.quiet

    def _pace(self) -> float:
        return self.config.jobs.reconcile_seconds

    def _failed(self, name: str, error: BaseException) -> None:
        self.failure = error

    def _raise_failure(self) -> None:
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure

    # -- the streams ------------------------------------------------------------------------------------------------

    async def _open_stream(self) -> None:
        key = self.exchange.keys.create()
        self.socket = Socket(SimpleNamespace(closed=False), "private", False, "/private", False, {key: None})  # type: ignore[arg-type]
        self.exchange.hub.sockets.append(self.socket)
        self.exchange.hub.reindex()

    def _close_socket(self) -> None:
        if self.socket is not None:
            self.exchange.hub.sockets.remove(self.socket)
            self.exchange.hub.reindex()
            self.socket = None

    def _heard(self, socket: Socket, messages: list[bytes]) -> None:
        if socket is not self.socket or self.bot is None:
            return  # was closed while these were on their way
        inbox = self.bot.inbox
        for message in messages:
            for told in self.liar.frames(message):
                self.activity.begin()
                inbox._queue.put_nowait(inbox._decoded(told, None))

    def lose_stream(self) -> None:
        """Close the user stream; what happens meanwhile is never told."""
        if self.socket is not None and self.bot is not None:
            self._close_socket()
            self.bot.loop.emit(FeedLost(self.clock.time_ms, "user", "connection lost"))
            self.impaired_ms = self.clock.time_ms

    async def restore_stream(self) -> None:
        """Open it again."""
        if self.socket is None and self.bot is not None:
            await self._open_stream()
            self.bot.loop.emit(FeedRestored(self.clock.time_ms, "user"))

    def _paused(self, reason: str) -> None:
        now = self.clock.time_ms
        if self.bot is not None:
            self.bot.loop.emit(FeedLost(now, "rest", reason) if reason else FeedRestored(now, "rest"))

    def _unreadable(self, error: WireError) -> None:
        self.alerts.append(f"{self.clock.time_ms - START} {error}")

    def _told(self, alert: Alert) -> None:
        self.alerts.append(f"{self.clock.time_ms - START} {alert.level}: {alert.text}")

    def _quote(self) -> None:
        if self.bot is not None and self.bot.engine.wants_quotes:
            self.quote()

    def quote(self) -> None:
        """Tell the best prices."""
        assert self.bot is not None
        pairs = []
        for symbol in SYMBOLS:
            book, rules = self.venue.books[symbol], self.venue.rules[symbol]
            sizes = rules.qty(max(book.bid_lots, 1)), rules.qty(max(book.ask_lots, 1))
            pairs.append((symbol, Quote(rules.price(book.bid), sizes[0], rules.price(book.ask), sizes[1])))
        self.bot.loop.emit(Quotes(self.clock.time_ms, tuple(pairs)))

    # -- what tests do ----------------------------------------------------------------------------------------------

    def move(self, symbol: str, price: Decimal) -> None:
        """Let the price jump there: the book stands there now."""
        x, rules = self.exchange, self.venue.rules[symbol]
        ticks = max(1, round(price / rules.tick))
        x.market._legs[symbol] = (self.clock.time_ms, ticks, self.clock.time_ms, ticks)
        x.market._between(symbol, ticks)
        x.market.follow_up(symbol)
        if self.bot is not None:
            self.quote()

    def price(self, symbol: str = BTC) -> Decimal:
        """The last price."""
        return self.venue.mark(symbol)

    async def bar(self, side: Side | None) -> None:
        """Let the bar under way close, with a signal or without."""
        now = self.clock.time_ms
        if now < self.open_ms + BASE:
            await self.pass_time(self.open_ms + BASE - now)
        self.open_ms = self.clock.time_ms - self.clock.time_ms % BASE - BASE
        for symbol in (ETH, SOL, BTC):
            close = float(self.price(symbol))
            row = leg_row(symbol) if symbol != BTC else self._signal(side) if side else quiet_row()
            self.rows.rows[symbol, self.open_ms] = row
            if self.bot is not None:
                bar = Kline(symbol, BASE, self.open_ms, close, close, close, close, 10.0, 5.0)
                self.quote()
                self.bot.loop.emit(KlineClosed(self.clock.time_ms, bar))
        self.open_ms += BASE
        await self._settle()

    def _signal(self, side: Side) -> dict[str, float]:
        """All six conditions of a side, on a block around the price."""
        row, shift = signal_row(side), float(self.price()) - 60_000.0
        name = side.name.lower()
        for column in (f"{name}_ob_bottom", f"{name}_ob_top", "sta_ts", "highest50", "lowest50"):
            row[column] += shift
        return row

    def meet(self, symbol: str, share: float) -> None:
        """Let the market meet resting orders of ours, for a share of what is left of them."""
        self.venue.now_ms = self.clock.time_ms
        for order in self.venue.open_orders(symbol):
            if order.live and order.type == "LIMIT":
                self.venue.books[symbol].trade_against(order, max(1, round(order.left * share)))
        self.exchange.market.follow_up(symbol)

    def fault(self, **what: Any) -> Fault:
        """Switch one more fault on."""
        faults = self.exchange.faults
        (fault,) = parse_faults([what])
        faults.replace([f for f in faults.active if not f.count or f.acted < f.count] + [fault])
        if faults.on_reads:
            self.exchange.past.note(self.venue, self.clock.time_ms)
        return fault

    def lie(self, name: str, ms: int) -> None:
        """Let one of the lies of the menu act from now on."""
        self.liar.add(MENU[name](ms))
        self.phantoms = self.phantoms or "fill" in name

    def strike(self, **what: Any) -> None:
        """Let something happen to market or account at once."""
        self.venue.now_ms = self.clock.time_ms
        (fault,) = parse_faults([what])
        self.exchange.market_faults.strike(fault)
        self.impaired_ms = self.clock.time_ms

    def trade_by_hand(self, symbol: str, side: str, lots: int) -> None:
        """Let the person trade beside the bot, at market."""
        rules = self.venue.rules[symbol]
        self.venue.now_ms = self.impaired_ms = self.clock.time_ms
        self.hands += 1
        qty = max(lots * rules.step, (rules.min_notional / self.price(symbol)).quantize(rules.step) + rules.step)
        with suppress(Refused):  # not enough margin
            self.by_hand[symbol] = self.by_hand.get(symbol, ZERO) + qty
            self.venue.place({"symbol": symbol, "side": side, "type": "MARKET", "quantity": f"{qty:f}"})
        self.exchange.market.follow_up(symbol)

    def command(self, name: str) -> None:
        """Say a word of the operator's."""
        if self.bot is not None:
            self.bot.loop.emit(Command(self.clock.time_ms, name, {"reason": name}))

    def pay_funding(self, rate: Decimal) -> None:
        """Settle funding in all symbols."""
        self.venue.now_ms = self.clock.time_ms
        for symbol in SYMBOLS:
            self.venue.pay_funding(symbol, rate)
        self.exchange.market.follow_up()

    async def heal(self) -> None:
        """Switch all faults off, bring everything back, and wait until what can heal has."""
        self.exchange.faults.replace([])
        self.liar.forget()
        if self.bot is None:
            await self.start()
        await self.restore_stream()
        if self.bot is not None and self.bot.limits.paused:  # reads rest for a minute after a bare 429
            await self.pass_time(max(self.bot.limits.until_ms - self.clock.time_ms, 0))
        await self.pass_time(QUIET_MS)

    # -- the laws ---------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Look after every item of the clock."""
        now, bot = self.clock.time_ms, self.bot
        acted = sum(fault.acted for fault in self.exchange.faults.active)
        if acted != self.acted:
            self.acted, self.impaired_ms = acted, now
        if self.lies_seen != sum(self.liar.told):
            self.lies_seen, self.lied_ms = sum(self.liar.told), now
        if bot is None or self.socket is None or bot.limits.paused:
            self.impaired_ms = now
        if bot is not None and bot.loop.broken is not None:
            raise Broken(f"the engine breaks a rule of its own: {bot.loop.broken}")
        for symbol in SYMBOLS:
            self._watch_naked(symbol, now)
        self._watch_entries()

    def _watch_naked(self, symbol: str, now: int) -> None:
        qty = self.venue.account.positions[symbol].qty
        if abs(qty) <= self.cover(symbol):
            since = self.naked_since.pop(symbol, None)
            if since is not None and not self.hands and self.impaired_ms < since - HEALING_MS:
                self.longest_naked = max(self.longest_naked, now - since)
            return
        since = self.naked_since.setdefault(symbol, now)
        bot = self.bot
        if bot is None or self.leaving(symbol, since):
            return
        # What a person added is learnt from what the exchange says of it, so its time counts from the last lie.
        added = abs(qty) - self.cover(symbol) <= self.by_hand.get(symbol, ZERO)
        wrong_ms = max(self.impaired_ms, self.lied_ms) if added else self.impaired_ms
        allowed = NAKED_MS + SLACK_MS if wrong_ms < since - HEALING_MS else NAKED_MS + HEALING_MS
        age = now - max(since, wrong_ms) if allowed > NAKED_MS + SLACK_MS else now - since
        if age > allowed:
            raise Broken(f"{symbol}: {qty} naked for {now - since} ms, covered {self.cover(symbol)}, no exit under way")

    def cover(self, symbol: str) -> Decimal:
        """What live sized stops at the exchange cover."""
        held, rules = self.venue.account.positions[symbol], self.venue.rules[symbol]
        lots = 0
        for algo in self.venue.algos.open(symbol):
            if algo.reduce_only and not algo.close_position and algo.sign == -held.sign:
                lots += algo.order.left if algo.order is not None else algo.lots
        return rules.qty(lots)

    def leaving(self, symbol: str, since: int) -> bool:
        """Whether an exit is under way: the exchange executes one, or the engine has decided upon it and not for long."""
        assert self.bot is not None
        portfolio = self.bot.engine.portfolio
        bracket = portfolio.bracket(symbol)
        executing = any(o.reduce_only and o.type == "MARKET" for o in self.venue.open_orders(symbol))
        unexplained_qty = (
            symbol in portfolio.unexplained.qty
        )  # guarded by a closePosition stop, which the person decides about
        decided = bracket is not None and bracket.closing
        # What the bot believes counts for as long as an exit takes: it may believe that it is flat.
        lately = self.clock.time_ms - max(since, self.impaired_ms) <= NAKED_MS + HEALING_MS
        return executing or unexplained_qty or (decided and lately)

    def _watch_entries(self) -> None:
        working = [o for o in self.venue.open_orders(BTC) if not o.reduce_only and o.type == "LIMIT"]
        if len(working) > 1:
            raise Broken(f"{len(working)} entries work at once: {[o.client_id for o in working]}")
        bot = self.bot
        if bot is not None and bot.engine.trade is not None and not self.hands:
            held = abs(self.venue.account.positions[BTC].qty)
            if held > bot.engine.trade.entry.qty:
                raise Broken(f"{held} held, {bot.engine.trade.entry.qty} planned")

    @property
    def at_rest(self) -> bool:
        """Whether nothing is under way and nothing went wrong for long."""
        bot = self.bot
        return (
            bot is not None
            and self.socket is not None
            and self.clock.time_ms - max(self.impaired_ms, self.lied_ms) >= QUIET_MS
            and self.clock.time_ms - self.venue.account_ms >= SETTLED_MS
            and not bot.client.under_way
            and not bot.executor.submission.placing
            and not bot.engine.portfolio.suspects
            and not bot.engine.portfolio.claims
            and not bot.engine.portfolio.contradictions
            and not any(o.live and (not o.accepted or o.cancel_ms) for o in bot.engine.portfolio.ledger.orders.values())
        )

    def check(self) -> None:
        """Compare what the bot believes with the exchange; only what cannot be a matter of messages under way."""
        bot = self.bot
        if bot is None:
            return
        if self.clock.failures:
            raise Broken(f"{self.clock.failures} items of the exchange's clock raised")
        ledger = bot.engine.portfolio.ledger
        heard: dict[str, Decimal] = {}
        bot.journal.commit()
        for line in bot.journal.fills(bot.journal._session):
            sign = 1 if line["side"] == "BUY" else -1
            heard[line["symbol"]] = heard.get(line["symbol"], ZERO) + sign * Decimal(line["qty"])
        traded: dict[str, Decimal] = {}
        for fill in self.venue.fills:
            rules = self.venue.rules[fill.order.symbol]
            traded[fill.order.symbol] = traded.get(fill.order.symbol, ZERO) + fill.order.sign * rules.qty(fill.lots)
        for symbol in SYMBOLS:
            theirs = self.venue.account.positions[symbol].qty
            if theirs != traded.get(symbol, ZERO):
                raise Broken(f"{symbol}: the exchange holds {theirs}, its fills say {traded.get(symbol)}")
            adopted = bot.engine.portfolio.adopted or self.phantoms
            claimed = [f for f in bot.engine.portfolio.claims.values() if f.symbol == symbol]  # heard, not believed yet
            booked = ledger.qty(symbol) + sum((f.side.sign * f.qty for f in claimed), ZERO)
            if not adopted and booked != heard.get(symbol, ZERO):
                raise Broken(f"{symbol}: the book says {booked}, the fills heard {heard.get(symbol)}")
        if self.at_rest:
            self.check_rest()

    def check_rest(self) -> None:
        """Compare the two books when nothing is under way: equal, protected, and nothing left over."""
        bot, venue = self.bot, self.venue
        assert bot is not None
        portfolio = bot.engine.portfolio
        for symbol in SYMBOLS:
            theirs, ours = venue.account.positions[symbol].qty, portfolio.ledger.qty(symbol)
            if theirs != ours:
                raise Broken(f"{symbol}: the exchange holds {theirs}, the book says {ours}")
            algos, orders = venue.algos.open(symbol), venue.open_orders(symbol)
            if not theirs:
                names = [o.client_id for o in (*algos, *orders) if o.reduce_only or o.close_position]  # type: ignore[attr-defined]
                if names:
                    raise Broken(f"{symbol} is flat and {', '.join(names)} is left over")
                continue
            bracket = portfolio.bracket(symbol)
            if symbol in portfolio.unexplained.qty:
                if not any(
                    a.close_position and a.stop and a.sign == -venue.account.positions[symbol].sign for a in algos
                ):
                    raise Broken(f"{symbol}: {theirs} unexplained and not guarded")
                continue
            if bracket is None:
                raise Broken(f"{symbol}: {theirs} held and no trade knows of it")
            if bracket.closing:
                raise Broken(f"{symbol}: {theirs} still held long after its exit was decided: {bracket.exit_reason}")
            if self.cover(symbol) != abs(theirs):
                raise Broken(f"{symbol}: {theirs} held, sized stops of {self.cover(symbol)}")
            guards = [a for a in algos if a.close_position]
            if bracket.catastrophe is not None and len(guards) != 1:
                raise Broken(f"{symbol}: {theirs} held and {len(guards)} catastrophe stops")
        if self.clock.time_ms - venue.account_ms < QUIET_MS:  # funding of a lost stream is found by the next snapshot
            return
        difference = portfolio.account.wallet - venue.account.wallet
        if abs(difference) >= Decimal("0.01") and not portfolio.adopted and not self.phantoms:
            raise Broken(f"our wallet differs by {difference}")

    def check_replay(self) -> None:
        """Replay the journal through a fresh engine: the same ids in the same orders, and the same state."""
        bot = self.bot
        assert bot is not None
        bot.journal.commit()
        rows = bot.journal._rows("SELECT * FROM sessions WHERE ended_ms IS NULL")
        session = bot.journal._take_up(rows[-1])  # type: ignore[arg-type]
        engine = self.new_engine()
        if session.memory is not None:
            engine.remember(session.memory)
        replayed = replay(bot.journal, session, engine, on_bar=lambda event: None)
        if replayed.fault:
            raise Broken(f"the replay differs: {replayed.fault}")
        mine, theirs = _without_timers(engine), _without_timers(bot.engine)
        if mine != theirs:
            raise Broken("the replay ends in another state")

    def own_ids(self) -> list[str]:
        """Every order id that reached the exchange, in its order."""
        return [o.client_id for o in self.venue.orders.values() if parse(o.client_id) is not None]


def _without_timers(engine: Engine) -> str:
    """The state's digest; timers are set anew by a start, which is no event."""
    timers, engine.timers = engine.timers, {}
    try:
        return engine_view.digest(engine)
    finally:
        engine.timers = timers
