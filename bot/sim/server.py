"""The embedded exchange: Binance's futures protocol on loopback, fed by recorded klines.

It has its own clock (`bot.sim.clock`), its own book and money (`bot.sim.venue`), serves REST and WebSockets like
Binance, and knows nothing of the bot: any client of Binance's futures API can trade on it. Requests, replies and pushes
have a latency on that clock, so the market moves while an order is in flight. Before `start` and after the end of the
data the clock is stopped, and requests are answered at once.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web

from bot.core.activity import Activity
from bot.core.errors import BotError, ConfigError, DataMissing
from bot.core.klines import Klines
from bot.core.times import DAY_MS, MINUTE_MS
from bot.core.types import to_decimal
from bot.sim import balances, payloads
from bot.sim.calls import Reply
from bot.sim.candles import Candles
from bot.sim.clock import FreeDriver, ReplayClock, SteppedDriver
from bot.sim.door import Door
from bot.sim.draws import Draws
from bot.sim.faults import Fault, Faults
from bot.sim.feed import Batches, MarketFeed
from bot.sim.filters import SymbolRules, rules_for
from bot.sim.funding import FundingSchedule, SettlementRates
from bot.sim.guard import Guard
from bot.sim.keys import ListenKeys
from bot.sim.limits import RateLimits
from bot.sim.market import MarketDesk
from bot.sim.market_faults import MarketFaults
from bot.sim.outages import Outages
from bot.sim.private import KEY_PERMISSIONS
from bot.sim.quirks import Quirks
from bot.sim.replay import span
from bot.sim.rest import RestDesk
from bot.sim.sockets import SocketHub
from bot.sim.tape import Tape
from bot.sim.traffic import Traffic
from bot.sim.venue import Venue
from bot.sim.view import Past

LOG = logging.getLogger(__name__)
HISTORY_MS: Final = 1_500 * 180_000  # history before the clock's default start
MAX_FREE_SPEED: Final = 60.0
SOCKET_LIFE_MS: Final = DAY_MS


def machine_ms() -> int:
    """Return the machine's clock, UTC epoch ms: signed timestamps may use it."""
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
        Range of the clock, UTC epoch ms; default 1,500 three-minute bars into the data, and its end.
    wallet, maker_fee, taker_fee : float
        USDT, and fractions.
    seed : int
        Seed of everything random.
    order_latency_ms, push_latency_ms : float
        Typical time from request to reply (half of it inbound) and from event to frame, exchange ms.
    spread, depth_notional : float
        Width of the book as a fraction of the price, and typical quantity at the best price in USDT.
    api_key, api_secret, public_key : str
        The user's key and its secret, or the PEM of an Ed25519 or RSA public key that verifies signatures instead.
    activity : Activity, optional
        Shared with the bot in stepped mode.
    stepped : bool
        Whether items are released one at a time while nothing is in flight; otherwise the clock follows wall time.
    speed : float, optional
        Replay seconds per second; None (stepped only) = as fast as possible.
    rules : mapping, optional
        Filters and tiers by symbol, instead of the defaults.
    faults : sequence of Fault
        Enabled when the clock starts.
    quirks : Quirks, optional
        Readings of undocumented behaviour; sockets of a free-running exchange live 24 hours unless these say otherwise.
    forming_klines : bool
        Whether kline streams send the forming bar at each tick, or only closed bars.
    wall_ms : callable
        Returns the machine's clock, UTC epoch ms.

    Raises
    ------
    ConfigError
        The mode and its settings do not fit, or the start is not before the end of the data.
    DataMissing
        There are no klines, or none of a symbol.
    """

    def __init__(
        self,
        bars: Mapping[str, Mapping[str, Klines]],
        funding: Mapping[str, SettlementRates] | None = None,
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
        public_key: str = "",
        activity: Activity | None = None,
        speed: float | None = None,
        stepped: bool = True,
        rules: Mapping[str, SymbolRules] | None = None,
        faults: Sequence[Fault] = (),
        quirks: Quirks | None = None,
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
        self.wall_speed = speed or 1.0  # exchange time per wall time, for what is measured in wall time
        self.drift_ms = 0  # error of the exchange's clock, as clients see it
        self.stepped, self._speed, self.activity = stepped, speed, activity if stepped else None
        if quirks is None:
            quirks = Quirks() if stepped else Quirks(socket_life_ms=SOCKET_LIFE_MS)

        every = {symbol: {name: k for name, k in series.items() if len(k)} for symbol, series in bars.items()}
        known = {s: (rules or {}).get(s) or rules_for(s, _price(series)) for s, series in every.items()}
        self.candles = {symbol: Candles(symbol, known[symbol], series) for symbol, series in every.items()}
        first, last = span(self.candles)
        self.end_ms = last if to_ms is None else min(to_ms, last)
        start = first + HISTORY_MS if from_ms is None else max(from_ms, first)
        start = start if start < self.end_ms or from_ms is not None else first
        self.start_ms = -(-start // MINUTE_MS) * MINUTE_MS
        if self.start_ms >= self.end_ms:
            begin, end = (datetime.fromtimestamp(ms / 1000, UTC).isoformat() for ms in (self.start_ms, self.end_ms))
            raise ConfigError(f"the replay would start at {begin}, but the data end at {end}: choose an earlier --from")

        self.clock = ReplayClock(self.start_ms)
        money = {"wallet": wallet, "maker_fee": maker_fee, "taker_fee": taker_fee}
        self.venue = Venue(known, **{name: to_decimal(value) for name, value in money.items()}, quirks=quirks)
        if wallet:
            self.venue.account_ms = self.start_ms  # a funded asset has an update time: ccxt treats 0 as no asset
        self.funding = {symbol: FundingSchedule((funding or {}).get(symbol)) for symbol in known}
        self.tapes = {symbol: Tape(rules) for symbol, rules in known.items()}
        self.limits, self.keys, self.past = RateLimits(), ListenKeys(self.clock.now_ms, seed), Past()
        draws = Draws(seed)
        self.faults, self._first_faults = Faults(draws), list(faults)
        self.running = False
        self.hub = SocketHub(self.activity, self.faults)
        self.hub.now_ms = self.clock.now_ms
        self.traffic = Traffic(self, draws=draws, order_latency_ms=order_latency_ms, push_latency_ms=push_latency_ms)
        feed = MarketFeed(self.venue, self.candles, self.funding, self.tapes, hub=self.hub, forming=forming_klines)
        self.desk = RestDesk(self, Guard(api_key, api_secret, public_key))
        self.market_faults, self.outages = MarketFaults(self), Outages(self)
        self._door = Door(self, self.serve)
        self.key_permissions: dict[str, Any] = dict(KEY_PERMISSIONS)  # what apiRestrictions returns
        self._symbols = list(known)
        self.driver: SteppedDriver | FreeDriver | None = None
        self._task: asyncio.Task[None] | None = None
        self._over: asyncio.Future[None] | None = None
        self.market = MarketDesk(self, feed, seed=seed, spread=spread, depth_notional=depth_notional)

    # -- life cycle -------------------------------------------------------------------------------------------------

    async def listen(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen; return the port."""
        return await self._door.open(host, port)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Serve one connection; subclasses override this."""
        return await self._door.serve(request)

    def start(self) -> None:
        """Start the clock."""
        self._over = asyncio.get_running_loop().create_future()
        self.running = True
        if self.stepped:
            assert self.activity is not None
            self.driver = SteppedDriver(
                self.clock, self.activity, end_ms=self.end_ms, park=self.traffic.take_parked, speed=self._speed
            )
        else:
            self.driver = FreeDriver(self.clock, end_ms=self.end_ms, speed=self.wall_speed)
        self.market.begin()
        if self._first_faults:
            self.clock.at(self.clock.time_ms, self._first_strike, name="faults", rank=0)
        self._task = asyncio.create_task(self._run(), name="exchange")

    async def finished(self) -> None:
        """Wait for the end of the data.

        Raises
        ------
        BotError
            The exchange has not been started, or the replay stopped early; any other error that ended it is raised as
            it is.
        """
        if self._over is None:
            raise BotError("the exchange has not been started")
        await asyncio.shield(self._over)

    async def close(self) -> None:
        """Stop the clock and stop listening."""
        self.running = False
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        self.traffic.refuse_parked(Reply(503, {"code": -1001, "msg": "The exchange is closing."}))
        self.clock.drop(keep_closing=False)
        await self._door.close()

    def later(self, ms: int, action: Callable[[], Any], *, name: str, closing: bool = False) -> None:
        """Schedule an action.

        Parameters
        ----------
        ms
            Delay, exchange time.
        action
            May return an awaitable.
        name
            For logs.
        closing
            Whether it is still run after the end of the data.
        """
        self.clock.at(self.clock.now_ms() + ms, action, name=name, closing=closing)

    def push(self, batches: Batches, what: str) -> None:
        """Send frames with their latency."""
        self.traffic.push(batches, what)

    def tell_user(self) -> None:
        """Send pending user events."""
        self.traffic.tell_user()

    def expire_key(self) -> None:
        """Expire the listen key and notify its listeners."""
        self.traffic.expire_key()

    async def set_faults(self, faults: Sequence[Fault]) -> None:
        """Replace the active faults."""
        await self.outages.set_faults(faults)

    @property
    def items(self) -> int:
        """Number of items that the clock has released."""
        return self.driver.items if self.driver is not None else 0

    def state(self, *, live_only: bool = False) -> dict[str, Any]:
        """Return the state for tests and operators (`/sim/state`).

        Parameters
        ----------
        live_only : bool
            Omit ended orders and fills, so that a long run can afford to poll at every step.
        """
        venue, now = self.venue, self.clock.now_ms()
        venue.now_ms = max(venue.now_ms, now)
        orders, algos, fills = list(venue.orders.values()), list(venue.algos.by_id.values()), venue.fills
        if live_only:
            orders = [order for symbol in self._symbols for order in venue.open_orders(symbol)]
            algos = [algo for symbol in self._symbols for algo in venue.algos.open(symbol)]
            fills = []
        shown = [s for s in self._symbols if venue.account.positions[s].qty or venue.open_orders(s)]
        return {
            "clock_ms": now,
            "finished": self._over is not None and self._over.done(),
            "failures": self.clock.failures,
            "wallet": payloads.money(venue.account.wallet),
            "positions": [balances.position_reply(venue, symbol, version=3) for symbol in shown],
            "orders": [payloads.order_reply(venue, order) for order in orders],
            "algo_orders": [payloads.algo_reply(venue, algo) for algo in algos],
            "fills": [{**payloads.fill_reply(venue, fill), "clientOrderId": fill.order.client_id} for fill in fills],
            "naked_ms": {symbol: naked.report(now) for symbol, naked in venue.naked.items()},
        }

    async def _run(self) -> None:
        assert self.driver is not None
        assert self._over is not None
        try:
            await self.driver.run()
        except Exception as error:
            self.running = False
            if not isinstance(error, BotError):
                LOG.exception("the exchange failed")
            await self.traffic.answer_parked()
            self._over.set_exception(error)
            self._over.exception()  # mark it as retrieved: only callers of `finished` need it
            return
        self.running = False
        await self.traffic.answer_parked()
        self._over.set_result(None)

    async def _first_strike(self) -> None:
        await self.set_faults(self._first_faults)


def _price(series: Mapping[str, Klines]) -> float:
    return float(next(iter(series.values())).close[-1])
