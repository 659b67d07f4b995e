"""The exchange of the latency benchmark, in a separate process: close a bar, wait for the order, reject it, repeat.

All other requests are forwarded to the embedded exchange, stopped at the end of its history; bars, quotes and replies to
orders are made here, as fast as the bot handles them. Started by `bench.latency`; prints its port, then as JSON the times
from writing each bar's frame to receiving its order, ms.
"""

import asyncio
import json
import random
import sys
import time
from typing import Any

import aiohttp
import numpy as np
from aiohttp import web

from bench.markets import synthetic_bars
from bot.core.klines import Klines
from bot.sim.server import Exchange

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
PRICES = {"BTCUSDT": 60_000.0, "ETHUSDT": 3_000.0, "SOLUSDT": 150.0}
STEP = 180_000
HISTORY = 900
PAUSE_S = 0.003  # between quotes and bars
SETTLE_S = 0.025  # after an order: lets the bot handle the rejection and run the control before the next bar


def history() -> dict[str, dict[str, Klines]]:
    """Return bars of three symbols that end near `PRICES`."""
    base = synthetic_bars(HISTORY)
    result = {}
    for symbol, price in PRICES.items():
        columns = dict(base.columns())
        factor = price / float(base.close[-1])
        for name in ("open", "high", "low", "close"):
            columns[name] = np.round(columns[name] * factor, 2)
        columns["high"] = np.maximum(columns["high"], np.maximum(columns["open"], columns["close"]))
        columns["low"] = np.minimum(columns["low"], np.minimum(columns["open"], columns["close"]))
        result[symbol] = {"3m": Klines(symbol, STEP, **columns)}
    return result


class Feeder:
    """The server that the bot connects to."""

    def __init__(self, inner: str, start_ms: int, count: int) -> None:
        self.inner, self.now_ms, self.count = inner, start_ms, count
        self.open_ms = start_ms
        self.sockets: dict[str, web.WebSocketResponse] = {}
        self.ordered = asyncio.Event()
        self.taken: list[float] = []
        self.written = 0.0
        self.update = 0
        self.done = asyncio.Event()
        self.answers: dict[tuple[str | None, ...], tuple[bytes, int]] = {}
        self.session = aiohttp.ClientSession(auto_decompress=False)

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/go", self.go)
        app.router.add_get("/fapi/v1/time", self.time)
        app.router.add_post("/fapi/v1/order", self.order)
        app.router.add_get("/{feed:market|public|private}/{form:ws|stream}", self.socket)
        app.router.add_route("*", "/{path:.*}", self.forward)
        return app

    async def time(self, request: web.Request) -> web.Response:
        return web.json_response({"serverTime": self.now_ms})

    async def forward(self, request: web.Request) -> web.Response:
        headers = {k: v for k, v in request.headers.items() if k in ("X-MBX-APIKEY", "Content-Type")}
        body = await request.read()
        question = (request.method, request.path, request.query.get("symbol"), request.query.get("startTime"))
        if (
            request.method != "GET" or question not in self.answers
        ):  # replies are cached: the state there never changes, and its request budget is not renewed
            async with self.session.request(
                request.method, f"{self.inner}{request.rel_url}", data=body, headers=headers
            ) as reply:
                self.answers[question] = await reply.read(), reply.status
        text, status = self.answers[question]
        return web.Response(body=text, status=status, content_type="application/json")

    async def order(self, request: web.Request) -> web.Response:
        arrived = time.perf_counter()
        await request.read()
        self.taken.append((arrived - self.written) * 1000)
        self.ordered.set()
        return web.json_response({"code": -2019, "msg": "Margin is insufficient."}, status=400)

    async def socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        self.sockets[request.match_info["feed"]] = socket
        async for _ in socket:
            pass
        return socket

    async def go(self, request: web.Request) -> web.Response:
        self.feeding = asyncio.create_task(self.feed())
        return web.json_response({})

    async def feed(self) -> None:
        draws = random.Random(7)
        for _ in range(self.count):
            close_ms = self.open_ms + STEP
            self.now_ms = close_ms
            for symbol in SYMBOLS:
                price = PRICES[symbol]
                self.update += 1
                book = {"e": "bookTicker", "u": self.update, "E": close_ms, "T": close_ms, "s": symbol}
                book |= {
                    "b": f"{price:.2f}",
                    "B": "5",
                    "a": f"{price + (0.1 if price > 10_000 else 0.01):.2f}",
                    "A": "5",
                }
                await self.push("public", f"{symbol.lower()}@bookTicker", book)
                mark = {"e": "markPriceUpdate", "E": close_ms, "s": symbol, "p": f"{price}", "i": f"{price}"}
                mark |= {"P": f"{price}", "r": "0.0001", "T": close_ms + 3_600_000}
                await self.push("market", f"{symbol.lower()}@markPrice@1s", mark)
            await asyncio.sleep(PAUSE_S)
            self.ordered.clear()
            for symbol in (*SYMBOLS[1:], SYMBOLS[0]):
                await self.push("market", f"{symbol.lower()}@kline_3m", self.kline(symbol, close_ms, draws))
            self.open_ms = close_ms
            try:
                await asyncio.wait_for(self.ordered.wait(), 2.0)
            except TimeoutError:
                print(f"no order for the bar at {close_ms - STEP}", file=sys.stderr)
            await asyncio.sleep(SETTLE_S)
        self.done.set()

    def kline(self, symbol: str, close_ms: int, draws: random.Random) -> dict[str, Any]:
        price = PRICES[symbol]
        close = round(price * (1 + draws.uniform(-2e-4, 2e-4)), 2)
        bar = {
            "t": close_ms - STEP,
            "T": close_ms - 1,
            "s": symbol,
            "i": "3m",
            "f": 1,
            "L": 2,
            "o": f"{price}",
            "c": f"{close}",
        }
        bar |= {
            "h": f"{max(price, close)}",
            "l": f"{min(price, close)}",
            "v": "10.5",
            "n": 10,
            "x": True,
            "q": "1",
            "V": "5.2",
        }
        self.written = time.perf_counter()
        return {"e": "kline", "E": close_ms + 2, "s": symbol, "k": {**bar, "Q": "1", "B": "0"}}

    async def push(self, feed: str, stream: str, data: dict[str, Any]) -> None:
        await self.sockets[feed].send_str(json.dumps({"stream": stream, "data": data}))


async def main(count: int) -> None:
    """Serve until all bars have been fed."""
    bars = history()
    end = int(bars["BTCUSDT"]["3m"].open_ms[-1]) + STEP
    exchange = Exchange(bars, from_ms=end - STEP, stepped=False, speed=1.0)  # never started: its clock is stopped
    port = await exchange.listen("127.0.0.1", 0)
    feeder = Feeder(f"http://127.0.0.1:{port}", end - STEP, count)
    runner = web.AppRunner(feeder.app(), shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await feeder.done.wait()
    print(json.dumps(feeder.taken), flush=True)
    await asyncio.sleep(0.2)
    await feeder.session.close()
    await runner.cleanup()
    await exchange.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
