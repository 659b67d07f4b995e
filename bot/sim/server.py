"""The embedded exchange: Binance's futures protocol on loopback, fed by recorded klines.

It has its own clock (`bot.sim.clock`), its own book and money (`bot.sim.venue`), speaks REST and WebSockets like Binance, and
knows nothing of the bot: any client of Binance's futures API can trade on it. Requests arrive and are answered with a latency
on that clock, pushes likewise, so the market moves while an order is under way. Before `start` and after the end of the data the
clock stands, and requests are answered at once.
"""

import asyncio
import errno
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson
from aiohttp import web

from bot.core.activity import Activity
from bot.core.errors import BotError, ConfigError, DataMissing
from bot.core.klines import Klines
from bot.core.types import to_decimal
from bot.sim import payloads
from bot.sim.calls import Call, Guard, Reply
from bot.sim.candles import Candles
from bot.sim.clock import FreeDriver, ReplayClock, SteppedDriver
from bot.sim.draws import Draws
from bot.sim.errors import Refused
from bot.sim.faults import Fault, Faults, parse
from bot.sim.feed import Batches, Feed
from bot.sim.filters import SymbolRules, rules_for
from bot.sim.funding import FundingSchedule, Rates
from bot.sim.keys import ListenKeys
from bot.sim.limits import Limits
from bot.sim.market import MarketDesk
from bot.sim.replay import MINUTE_MS, span
from bot.sim.rest import RestDesk
from bot.sim.sockets import FOR_EVER, Frame, Hub, Socket
from bot.sim.venue import Venue

LOG = logging.getLogger(__name__)
HISTORY_MS: Final = 1_500 * 180_000  # before the clock's default start
MAX_FREE_SPEED: Final = 60.0
OUTCOME_WAIT_MS: Final = 1_000  # how long the reply to a MARKET order with RESULT waits for its outcome
OUTAGE_MS: Final = 1_000
REOPEN_WITHIN_S: Final = 10.0


def machine_ms() -> int:
    """Return the machine's clock: signed timestamps may be on it."""
    return time.time_ns() // 1_000_000


class Exchange:
    """One exchange with one user.

    Parameters
    ----------
    bars : mapping
        Klines by symbol and interval; the finest makes the market, all serve as history.
    funding : mapping, optional
        Recorded rates by symbol (anything with `funding_ms` and `rate`).
    from_ms, to_ms : int, optional
        Span of the clock, UTC epoch ms; default 1,500 three-minute bars into the data, and its end.
    wallet, maker_fee, taker_fee : float
        USDT, and fractions.
    order_latency_ms, push_latency_ms : float
        Typical time from request to reply (half of it on the way in) and from event to frame, exchange ms.
    spread, depth_notional : float
        Width of the book as a fraction, and typical quantity at the best price in USDT.
    activity : Activity, optional
        Shared with the bot in the stepped mode.
    stepped : bool
        Whether items go one at a time when all is quiet; else the clock runs with the wall.
    speed : float, optional
        Replay seconds per second; None (stepped only) = as fast as possible.
    rules : mapping, optional
        Filters and tiers by symbol, in place of the defaults.
    faults : sequence of Fault
        Switched on when the clock starts.
    forming_klines : bool
        Whether kline streams tell the bar under way at each tick, or only closed bars.
    """

    def __init__(
        self,
        bars: Mapping[str, Mapping[str, Klines]],
        funding: Mapping[str, Rates] | None = None,
        *,
        from_ms: int | None = None,
        to_ms: int | None = None,
        wallet: float = 1_000.0,
        maker_fee: float = 0.0002,
        taker_fee: float = 0.0004,
        seed: int = 7,
        order_latency_ms: float = 80.0,
        push_latency_ms: float = 20.0,
        spread: float = 0.00002,
        depth_notional: float = 30_000.0,
        api_key: str = "sim-key",
        api_secret: str = "sim-secret",
        activity: Activity | None = None,
        speed: float | None = None,
        stepped: bool = True,
        rules: Mapping[str, SymbolRules] | None = None,
        faults: Sequence[Fault] = (),
        forming_klines: bool = True,
        wall_ms: Callable[[], int] = machine_ms,
    ) -> None:
        if stepped and activity is None:
            raise ConfigError("a stepped exchange needs the Activity that it shares with its client")
        if not stepped and (speed is None or not 0 < speed <= MAX_FREE_SPEED):
            raise ConfigError(f"an exchange that runs by itself needs a speed above 0 and at most {MAX_FREE_SPEED:g}")
        if not bars or any(not any(len(k) for k in series.values()) for series in bars.values()):
            raise DataMissing("there are no klines to replay")
        self.wall_ms = wall_ms
        self.wall_speed = speed or 1.0  # of the clock against the wall, for what is measured in wall time
        self._stepped, self._speed, self._activity = stepped, speed, activity
        self._order_latency, self._push_latency = order_latency_ms, push_latency_ms
        self._spread, self._depth, self._seed = spread, depth_notional, seed

        every = {symbol: {name: k for name, k in series.items() if len(k)} for symbol, series in bars.items()}
        known = {s: (rules or {}).get(s) or rules_for(s, _price(series)) for s, series in every.items()}
        self.candles = {symbol: Candles(symbol, known[symbol], series) for symbol, series in every.items()}
        first, last = span(self.candles)
        self.end_ms = last if to_ms is None else min(to_ms, last)
        start = first + HISTORY_MS if from_ms is None else max(from_ms, first)
        start = start if start < self.end_ms or from_ms is not None else first
        self.start_ms = -(-start // MINUTE_MS) * MINUTE_MS
        if self.start_ms >= self.end_ms:
            raise ConfigError(f"the replay would start at {self.start_ms}, but the data end at {self.end_ms}")

        self.clock = ReplayClock(self.start_ms)
        self.venue = Venue(
            known, wallet=to_decimal(wallet), maker_fee=to_decimal(maker_fee), taker_fee=to_decimal(taker_fee)
        )
        self.funding = {symbol: FundingSchedule((funding or {}).get(symbol)) for symbol in known}
        self.faults, self._first_faults = Faults(), list(faults)
        self.limits, self.keys = Limits(), ListenKeys(self.clock.now_ms, seed)
        self._hub = Hub(activity if stepped else None, self.faults)
        self._hub.now_ms = self.clock.now_ms
        self._hub.close_faulty = self._outage
        self._hub.expire_key = self.expire_key
        self._feed = Feed(self.venue, self.candles, self.funding, hub=self._hub, forming=forming_klines)
        self._desk = RestDesk(self, Guard(api_key, api_secret))
        self._draws = Draws(seed)
        self._asked: dict[str, int] = {}
        self._parked: list[Call] = []
        self._at_once: list[tuple[Socket, list[Frame]]] = []
        self._symbols = list(known)
        self._running = False
        self._holding = False
        self._waiting_for = 0
        self._driver: SteppedDriver | FreeDriver | None = None
        self._task: asyncio.Task[None] | None = None
        self._over: asyncio.Future[None] | None = None
        self._runner: web.AppRunner | None = None
        self._market = MarketDesk(
            self,
            self._feed,
            seed=seed,
            spread=spread,
            depth_notional=depth_notional,
        )

    # -- life -------------------------------------------------------------------------------------------------------

    async def listen(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Open the door; return the port."""
        app = web.Application(client_max_size=1 << 20)
        app.router.add_route("*", "/{path:.*}", self._serve)
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

    def start(self) -> None:
        """Let the clock run."""
        self._over = asyncio.get_running_loop().create_future()
        self._running = True
        if self._stepped:
            assert self._activity is not None
            self._driver = SteppedDriver(
                self.clock, self._activity, end_ms=self.end_ms, park=self._take_parked, speed=self._speed
            )
        else:
            self._driver = FreeDriver(self.clock, end_ms=self.end_ms, speed=self.wall_speed)
        self._market.begin()
        if self._first_faults:
            self.clock.at(self.clock.time_ms, self._first_strike, name="faults", rank=0)
        self._task = asyncio.create_task(self._run(), name="exchange")

    async def finished(self) -> None:
        """Wait for the end of the data; raise what stopped the replay before it."""
        if self._over is None:
            raise BotError("the exchange has not been started")
        await asyncio.shield(self._over)

    async def close(self) -> None:
        """Stop the clock and close the door."""
        self._running = False
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        for call in self._parked:
            self._give(call, Reply(503, {"code": -1001, "msg": "The exchange is closing."}))
        self._parked.clear()
        self.clock.drop(keep_closing=False)
        await self._hub.close()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @property
    def items(self) -> int:
        """How many items the clock has released."""
        return self._driver.items if self._driver is not None else 0

    def state(self) -> dict[str, Any]:
        """Return all that tests and operators want to know (`/sim/state`)."""
        venue, now = self.venue, self.clock.now_ms()
        shown = [s for s in self._symbols if venue.account.positions[s].qty or venue.open_orders(s)]
        return {
            "clock_ms": now,
            "finished": self._over is not None and self._over.done(),
            "wallet": payloads.money(venue.account.wallet),
            "positions": [payloads.position_reply(venue, symbol, version=3) for symbol in shown],
            "orders": [payloads.order_reply(venue, order) for order in venue.orders.values()],
            "algo_orders": [payloads.algo_reply(venue, algo) for algo in venue.algos.by_id.values()],
            "fills": [
                {**payloads.fill_reply(venue, fill), "clientOrderId": fill.order.client_id} for fill in venue.fills
            ],
            "naked_ms": {symbol: naked.report(now) for symbol, naked in venue.naked.items()},
        }

    async def _run(self) -> None:
        assert self._driver is not None
        assert self._over is not None
        try:
            await self._driver.run()
        except Exception as error:
            self._running = False
            if not isinstance(error, BotError):
                LOG.exception("the exchange failed")
            await self._answer_parked()
            self._over.set_exception(error)
            self._over.exception()  # seen: whoever awaits `finished` gets it, others need not
            return
        self._running = False
        await self._answer_parked()
        self._over.set_result(None)

    # -- pushes -----------------------------------------------------------------------------------------------------

    def tell_user(self) -> None:
        """Send what the user stream has to say."""
        events, self.venue.outbox = self.venue.outbox, []
        if not events or not self.keys.active:
            return
        batches: Batches = {}
        for event in events:
            frame = Frame(self.keys.active, event["e"], orjson.dumps(event))
            for socket in self._hub.users(self.keys.active, event["e"]):
                batches.setdefault(socket, []).append(frame)
        self.push(batches, "user")

    def expire_key(self) -> None:
        """End the listen key and say so."""
        key, now = self.keys.active, self.clock.now_ms()
        if not key:
            return
        self.tell_user()
        payload = orjson.dumps({"e": "listenKeyExpired", "E": now, "listenKey": key})
        sockets = self._hub.users(key, "listenKeyExpired")
        self.push({socket: [Frame(key, "listenKeyExpired", payload)] for socket in sockets}, "user")
        self.keys.delete()

    def push(self, batches: Batches, what: str) -> None:
        """Put frames on the heap: they arrive with the push latency, each socket's in order."""
        if not batches:
            return
        now = self.clock.time_ms
        for socket in sorted(batches, key=lambda s: s.key):
            frames = batches[socket]
            if not self._running:
                self._at_once.append((socket, frames))
                continue
            latency = self._push_latency * (0.5 + self._draws.uniform(what, socket.key, now))
            at_ms = max(socket.sent_until_ms, now + round(latency))
            socket.sent_until_ms = at_ms
            self.clock.at(at_ms, self._delivery(socket, frames), name=f"{what} frames", rank=2, closing=True)

    def _delivery(self, socket: Socket, frames: list[Frame]) -> Callable[[], Any]:
        return lambda: self._hub.deliver(socket, frames)

    async def _deliver_at_once(self) -> None:
        pending, self._at_once = self._at_once, []
        for socket, frames in pending:
            await self._hub.deliver(socket, frames)

    # -- requests ---------------------------------------------------------------------------------------------------

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._hub.handle(request)
        body = (await request.read()).decode("utf-8", "replace")
        call = Call(
            request.method,
            request.path,
            request.rel_url.raw_query_string,
            body,
            request.headers.get("X-MBX-APIKEY", ""),
            counted=self._stepped and request.headers.get("X-Stepped") == "1",
        )
        if call.path.startswith("/sim/"):
            return await self._operate(call)
        if not self._running or self._holding or (self._stepped and not call.counted):
            reply, _ = self._desk.execute(call)
            self._changed(call)
            await self._deliver_at_once()
            return _response(reply)
        call.reply = asyncio.get_running_loop().create_future()
        if self._stepped:
            self._parked.append(call)
            if call.counted and self._activity is not None:
                self._activity.end()
            if isinstance(self._driver, SteppedDriver):
                self._driver.arrived()
        else:
            self._schedule(call)
        return _response(await call.reply)

    def _take_parked(self) -> bool:
        """Put the requests of one quiet spell on the heap, in an order of their own."""
        if not self._parked:
            return False
        parked, self._parked = self._parked, []
        for call in sorted(parked, key=lambda call: call.name):
            self._schedule(call)
        return True

    def _schedule(self, call: Call) -> None:
        name = call.name
        nth = self._asked[name] = self._asked.get(name, 0) + 1
        total = round(self._order_latency * (0.7 + 0.6 * self._draws.uniform("request", name, nth)))
        now = self.clock.now_ms()
        call.answer_ms = now + total
        self.clock.at(now + total // 2, lambda: self._arrive(call), name=name, touches=False, closing=True)

    def _arrive(self, call: Call) -> None:
        reply, late_ms = self._desk.execute(call)
        self._changed(call)
        self._answer_at(call, reply, call.answer_ms + late_ms)

    def _changed(self, call: Call) -> None:
        """Follow up on a request that may have changed a book."""
        symbol = call.params.get("symbol")
        self._market.follow_up(symbol if symbol in self.venue.books else None)

    def _answer_at(self, call: Call, reply: Reply, at_ms: int) -> None:
        self.clock.at(at_ms, lambda: self._answer(call, reply), name=f"reply to {call.name}", closing=True)

    def _answer(self, call: Call, reply: Reply) -> None:
        if reply.later is not None:
            data = reply.later()
            waited = self.clock.time_ms - call.answer_ms
            if data is None and waited < OUTCOME_WAIT_MS and self.clock.time_ms < self.end_ms:
                self._answer_at(call, reply, self.clock.time_ms + 25)
                return
            reply.data = data if data is not None else reply.data
        self._give(call, reply)

    def _give(self, call: Call, reply: Reply) -> None:
        if call.counted and self._activity is not None:
            self._activity.begin()  # ended when the client has read it
        if call.reply is not None and not call.reply.done():
            call.reply.set_result(reply)

    async def _answer_parked(self) -> None:
        """Answer at once what waits while the clock stands."""
        parked, self._parked = self._parked, []
        for call in sorted(parked, key=lambda call: call.name):
            reply, _ = self._desk.execute(call)
            self._changed(call)
            await self._deliver_at_once()
            self._give(call, reply)

    # -- operators --------------------------------------------------------------------------------------------------

    async def _operate(self, call: Call) -> web.Response:
        if (call.method, call.path) == ("GET", "/sim/state"):
            return _response(Reply(200, self.state()))
        if call.path == "/sim/faults" and call.method in ("GET", "POST"):
            if call.method == "POST":
                try:
                    await self.set_faults(parse(orjson.loads(call.body)))
                except orjson.JSONDecodeError as error:
                    return _response(Reply(400, {"code": -1130, "msg": f"not JSON: {error}"}))
                except Refused as refused:
                    return _response(Reply(400, refused.body()))
            return _response(Reply(200, {"faults": [fault.report() for fault in self.faults.active]}))
        return _response(Reply(404, Refused(-5000, call.path, call.method).body()))

    async def set_faults(self, faults: Sequence[Fault]) -> None:
        """Replace the faults that are on; those on sockets without `after` act now."""
        for socket in self._hub.sockets:
            socket.silent_until_ms = 0
        self.faults.replace(list(faults))
        for fault in faults:
            if fault.after:
                continue
            sockets = [s for s in self._hub.sockets if _concerns(fault, s)]
            match fault.fault:
                case "close_sockets":
                    fault.strikes()
                    await self._outage(sockets, fault.ms)
                case "silent_stream":
                    fault.strikes()
                    for socket in sockets:
                        socket.silent_until_ms = self.clock.now_ms() + fault.ms if fault.ms else FOR_EVER
                case "listen_key_expired":
                    fault.strikes()
                    self.expire_key()
                    await self._deliver_at_once()

    async def _first_strike(self) -> None:
        await self.set_faults(self._first_faults)

    async def _outage(self, sockets: Sequence[Socket], ms: int) -> None:
        """Close sockets; on a stepped clock they can come back after `ms`, and the market waits for them then."""
        if not sockets:
            return
        LOG.warning("closing %d sockets at %d", len(sockets), self.clock.now_ms())
        if self._running:
            self._hub.gate.clear()
            self._waiting_for = max(self._waiting_for, len(self._hub.sockets))
            self.clock.at(self.clock.now_ms() + (ms or OUTAGE_MS), self._reopen, name="end of an outage", closing=True)
        await asyncio.gather(*(self._hub.close_socket(socket) for socket in sockets))

    async def _reopen(self) -> None:
        """Let clients in again; a stepped clock stands until all that were there have come back."""
        self._hub.gate.set()
        wanted, self._waiting_for = self._waiting_for, 0
        if not self._stepped:
            return
        loop = asyncio.get_running_loop()
        since = loop.time()
        self._holding = True
        try:
            while len(self._hub.sockets) < wanted and loop.time() - since < REOPEN_WITHIN_S:
                await self._answer_parked()
                await asyncio.sleep(0.002)
            if len(self._hub.sockets) < wanted:
                LOG.error("%d of %d sockets have not come back", wanted - len(self._hub.sockets), wanted)
        finally:
            self._holding = False


def _concerns(fault: Fault, socket: Socket) -> bool:
    return not fault.path or ("/" + socket.category).startswith(fault.path) or fault.path in socket.streams


def _price(series: Mapping[str, Klines]) -> float:
    return float(next(iter(series.values())).close[-1])


def _response(reply: Reply) -> web.Response:
    if reply.text is not None:
        return web.Response(status=reply.status, text=reply.text, content_type="text/html", headers=reply.headers)
    return web.Response(
        status=reply.status, body=reply.body(), content_type="application/json", charset="utf-8", headers=reply.headers
    )
