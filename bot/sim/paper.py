"""Paper trading: live market data, and an embedded exchange for the orders.

Market data are relayed, not generated: public REST and the `/market` and `/public` sockets are passed through to the
live exchange as they are requested, so a client sees exactly what it would see live. Orders, account and the private
stream are the embedded exchange's own (same filters as the live one's exchangeInfo, same error codes, simulated money).
Its book follows the live best prices and trades, so an order fills when the live market reaches it, under the
assumptions of `matching`: our orders do not move the market, and the queue ahead at a price has to trade first.

Without a message from the live exchange for ten seconds orders are rejected as "Service Unavailable": a stale book
would fill them at prices that are gone. Funding is what the live mark-price stream announces. Maintenance tiers are the
embedded exchange's, because the live ones require a key.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

import aiohttp
import orjson
from aiohttp import WSMsgType, web

from bot.core.times import DAY_MS, MINUTE_MS
from bot.sim.filters import SymbolRules
from bot.sim.server import Exchange
from bot.sim.upstream import Upstream

LOG = logging.getLogger(__name__)
STALE_S: Final = 10.0
HISTORY_BARS: Final = 60  # 1m bars for the first price
YEARS_MS: Final = 3_650 * DAY_MS
REOPEN_S: Final = (0.2, 1.0, 2.0, 5.0, 10.0)
OWN_PATHS: Final = frozenset({"/fapi/v1/time", "/fapi/v1/ping", "/api/v3/time", "/api/v3/ping"})
ORDER_PATHS: Final = frozenset({"/fapi/v1/order", "/fapi/v1/algoOrder", "/fapi/v1/batchOrders"})
UNAVAILABLE: Final = b'{"code":-1001,"msg":"Service Unavailable."}'


@dataclass(slots=True)
class LiveFunding:
    """One symbol's funding as announced by the mark-price stream: the rate charged at the next funding time."""

    next_ms: int = 0
    rate: float = 0.0
    due: dict[int, float] = field(default_factory=dict)

    def announce(self, next_ms: int, rate: float) -> None:
        """Record an announcement of the stream."""
        self.next_ms, self.rate = next_ms, rate
        self.due[next_ms] = rate

    def next(self, now_ms: int) -> tuple[int, float]:
        """Return time and rate of the next payment."""
        return self.next_ms, self.rate

    def at(self, now_ms: int) -> float | None:
        """Return the rate paid exactly at `now_ms`, once, or None."""
        rate = self.due.pop(now_ms, None)
        self.due = {at: r for at, r in self.due.items() if at > now_ms}
        return rate

    def history(self, start: int | None, end: int, limit: int) -> list[tuple[int, float]]:
        """Return nothing: past payments are requested from the live exchange."""
        return []

    def interval_hours(self, now_ms: int) -> int:
        """Return the usual interval: adjusted ones are requested from the live exchange."""
        return 8


class PaperExchange(Exchange):
    """An exchange whose market is the live one's.

    Parameters
    ----------
    session
        Used for relayed requests and sockets.
    upstream
        The live exchange, as `look_up` found it.
    settings
        Money, latencies and keys, as `Exchange` takes them.
    """

    def __init__(self, session: aiohttp.ClientSession, upstream: Upstream, **settings: Any) -> None:
        super().__init__(
            upstream.bars,
            rules=upstream.rules,
            from_ms=upstream.now_ms - upstream.now_ms % MINUTE_MS,
            stepped=False,
            speed=upstream.speed,
            **settings,
        )
        self.clock.time_ms = max(upstream.now_ms, self.start_ms)
        self._upstream, self._session = upstream, session
        self._live_funding = {symbol: LiveFunding() for symbol in upstream.rules}
        self.funding.update(self._live_funding)  # type: ignore[arg-type]  # the same four methods
        self._numbers = {symbol: number for number, symbol in enumerate(upstream.rules)}
        self._fed = 0.0
        self._followers: list[asyncio.Task[None]] = []
        self._relays: set[web.WebSocketResponse] = set()
        self.port = 0
        self.ticks = 0

    # Life cycle --------------------------------------------------------------------------------------------------------

    async def listen(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen; return the port."""
        self.port = await super().listen(host, port)
        return self.port

    def start(self) -> None:
        """Start the clock and follow the live market."""
        super().start()
        names = [symbol.lower() for symbol in self._numbers]
        public = "/".join(f"{name}@bookTicker" for name in names)
        market = "/".join(f"{name}@{kind}" for name in names for kind in ("aggTrade", "markPrice@1s"))
        for path in (f"/public/stream?streams={public}", f"/market/stream?streams={market}"):
            self._followers.append(asyncio.create_task(self._follow(path), name="paper feed"))

    async def close(self) -> None:
        """Stop following, disconnect all clients and stop listening."""
        for task in self._followers:
            task.cancel()
        await asyncio.gather(*self._followers, return_exceptions=True)
        await asyncio.gather(*(ws.close() for ws in tuple(self._relays)), return_exceptions=True)
        await super().close()

    @property
    def is_fed(self) -> bool:
        """Whether a message of the live market has arrived within `STALE_S`."""
        return asyncio.get_running_loop().time() - self._fed < STALE_S

    # The market --------------------------------------------------------------------------------------------------------

    async def _follow(self, path: str) -> None:
        """Receive the live market from one socket, reconnecting indefinitely."""
        failures = 0
        while True:
            try:
                async with self._session.ws_connect(f"{self._upstream.stream_url}{path}", heartbeat=15.0) as ws:
                    async for message in ws:
                        if message.type == WSMsgType.TEXT:
                            self._take(orjson.loads(message.data).get("data", {}))
                            failures = 0
            except (aiohttp.ClientError, OSError, TimeoutError, orjson.JSONDecodeError) as error:
                LOG.warning("the live market's stream is lost: %s", type(error).__name__)
            await asyncio.sleep(REOPEN_S[min(failures, len(REOPEN_S) - 1)])
            failures += 1

    def _take(self, data: Mapping[str, Any]) -> None:
        """Apply one message of the live market to the book."""
        symbol = str(data.get("s", ""))
        if symbol not in self._numbers:
            return
        self._fed = asyncio.get_running_loop().time()
        rules, book = self.venue.rules[symbol], self.venue.books[symbol]
        match data.get("e"):
            case "markPriceUpdate":
                if data.get("T") and data.get("r"):
                    self._live_funding[symbol].announce(int(data["T"]), float(data["r"]))
            case "bookTicker":
                bid, ask = self._quote(rules, data, "b", "B"), self._quote(rules, data, "a", "A")
                self._tick(symbol, book.last or bid[0], 0, seller=False, bid=bid, ask=ask)
            case "aggTrade":
                price, lots = self._quote(rules, data, "p", "q")
                sides = (book.bid, book.bid_lots), (book.ask, book.ask_lots)
                self._tick(symbol, price, lots, seller=bool(data.get("m")), bid=sides[0], ask=sides[1])

    @staticmethod
    def _quote(rules: SymbolRules, data: Mapping[str, Any], price: str, qty: str) -> tuple[int, int]:
        """Return a price in ticks and a quantity in lots."""
        return round(Decimal(data[price]) / rules.tick), int(Decimal(data[qty]) / rules.step)

    def _tick(
        self, symbol: str, price: int, lots: int, *, seller: bool, bid: tuple[int, int], ask: tuple[int, int]
    ) -> None:
        row = [self.clock.now_ms(), self._numbers[symbol], price, lots, int(seller), *bid, *ask, 1, 0, 0]
        self.market.apply(row)
        self.ticks += 1

    # Requests ----------------------------------------------------------------------------------------------------------

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer what belongs to the embedded exchange, and relay what belongs to the live one."""
        path = request.path
        if request.headers.get("Upgrade", "").lower() == "websocket":
            if path.startswith(("/market", "/public")):
                return await self._relay_socket(request)
        elif request.method == "POST" and path in ORDER_PATHS and not self.is_fed:
            return web.Response(status=503, body=UNAVAILABLE, content_type="application/json")
        elif _is_public(request):
            return await self._relay(request)
        return await super().serve(request)

    async def _relay(self, request: web.Request) -> web.Response:
        """Return the live exchange's reply to a public request; our API key is not forwarded."""
        try:
            async with self._session.get(f"{self._upstream.rest_url}{request.raw_path}") as reply:
                body = await reply.read()
                kept = {k: v for k, v in reply.headers.items() if k.upper().startswith(("X-MBX-", "RETRY-AFTER"))}
                return web.Response(status=reply.status, body=body, headers=kept, content_type="application/json")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            LOG.warning("the live exchange does not answer %s: %s", request.path, type(error).__name__)
            return web.Response(status=503, body=UNAVAILABLE, content_type="application/json")

    async def _relay_socket(self, request: web.Request) -> web.StreamResponse:
        """Relay a client's market socket to and from the live exchange, frame by frame."""
        url = f"{self._upstream.stream_url}{request.raw_path}"
        try:
            upstream = await self._session.ws_connect(url, heartbeat=15.0, max_msg_size=0)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            LOG.warning("the live exchange's stream does not open: %s", type(error).__name__)
            return web.Response(status=503, body=UNAVAILABLE, content_type="application/json")
        ws = web.WebSocketResponse(compress=False, heartbeat=180.0)
        self._relays.add(ws)
        try:
            await ws.prepare(request)
            back = asyncio.create_task(_pump(ws, upstream), name="paper relay")
            await _pump(upstream, ws)
            back.cancel()
            await asyncio.gather(back, return_exceptions=True)
        finally:
            self._relays.discard(ws)
            await upstream.close()
            await ws.close()
        return ws


def _is_public(request: web.Request) -> bool:
    """Return whether a request is for market data, which needs no key."""
    own = request.path in OWN_PATHS or "signature" in request.query
    return request.method == "GET" and not own and request.path.startswith(("/fapi/", "/futures/data/"))


async def _pump(source: Any, sink: Any) -> None:
    """Forward text frames until either side closes."""
    async for message in source:
        if message.type != WSMsgType.TEXT:
            continue
        try:
            await sink.send_str(message.data)
        except (ConnectionError, RuntimeError):  # the other side closed during the write
            return
