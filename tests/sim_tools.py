"""Markets and clients for the tests of the embedded exchange."""

import asyncio
import hashlib
import hmac
import time
from collections.abc import Callable, Coroutine
from typing import Any

import aiohttp
import numpy as np
import orjson
from binance import AsyncClient, BinanceSocketManager

from bot.core.activity import Activity
from bot.core.klines import Klines, aggregate, make_klines

START = 1_748_736_000_000  # 2025-06-01, 00:00 UTC
KEY, SECRET = "sim-key", "sim-secret"
PRICES = {"BTCUSDT": (100_000.0, 0.1), "ETHUSDT": (2_500.0, 0.01), "SOLUSDT": (150.0, 0.01)}


def walk(symbol: str = "BTCUSDT", minutes: int = 600, *, seed: int = 1, start_ms: int = START) -> Klines:
    """A random walk of 1m bars on the symbol's tick."""
    price, tick = PRICES[symbol]
    rng = np.random.default_rng([seed, len(symbol), int(price)])
    close = price * np.exp(np.cumsum(rng.standard_normal(minutes) * 0.0006))
    open_ = np.concatenate([[price], close[:-1]])
    high = np.maximum(open_, close) * (1 + np.abs(rng.standard_normal(minutes)) * 0.0003)
    low = np.minimum(open_, close) * (1 - np.abs(rng.standard_normal(minutes)) * 0.0003)
    o, h, l, c = (np.round(np.rint(x / tick) * tick, 2) for x in (open_, high, low, close))  # noqa: E741
    volume = np.round(rng.gamma(2.0, 2e6 / price, minutes), 2) + 0.01
    return make_klines(
        symbol,
        60_000,
        columns={
            "open_ms": start_ms + np.arange(minutes) * 60_000,
            "open": o,
            "high": np.maximum(h, np.maximum(o, c)),
            "low": np.minimum(l, np.minimum(o, c)),
            "close": c,
            "volume": volume,
            "taker_buy_volume": np.round(volume * 0.5, 3),
            "quote_volume": np.round(volume * c, 4),
            "trades": np.rint(volume * 10) + 1,
            "taker_buy_quote_volume": np.round(volume * c * 0.5, 4),
        },
    )


def market(*symbols: str, minutes: int = 600, seed: int = 1) -> dict[str, dict[str, Klines]]:
    """Bars of several symbols: 1m, 3m and 15m."""
    result = {}
    for symbol in symbols or ("BTCUSDT",):
        one = walk(symbol, minutes, seed=seed)
        result[symbol] = {"1m": one, "3m": aggregate(one, 180_000), "15m": aggregate(one, 900_000)}
    return result


def flat(price: float = 100_000.0, minutes: int = 120, *, symbol: str = "BTCUSDT") -> dict[str, dict[str, Klines]]:
    """A market that stands still at `price`."""
    n = np.full(minutes, price)
    columns = {"open_ms": START + np.arange(minutes) * 60_000, "open": n, "high": n, "low": n, "close": n}
    return {symbol: {"1m": make_klines(symbol, 60_000, columns={**columns, "volume": np.full(minutes, 50.0)})}}


def endpoints(port: int) -> tuple[type[AsyncClient], type[BinanceSocketManager]]:
    """python-binance, unmodified, pointed at the embedded exchange."""
    rest, ws = f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}"

    class LocalClient(AsyncClient):
        API_URL = f"{rest}/api"
        FUTURES_URL = f"{rest}/fapi"
        FUTURES_DATA_URL = f"{rest}/futures/data"
        MARGIN_API_URL = f"{rest}/sapi"
        WS_FUTURES_URL = f"{ws}/ws-fapi/v1"
        WS_API_URL = f"{ws}/ws-api/v3"
        REQUEST_RECVWINDOW = 5000
        REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=10, connect=2)

    class LocalManager(BinanceSocketManager):
        FSTREAM_URL = f"{ws}/"

    return LocalClient, LocalManager


async def close_client(client: AsyncClient) -> None:
    """Close all that python-binance leaves open."""
    await client.close_connection()
    await client.ws_future.close()


class Bot:
    """A small client that takes part in the stepped replay: it counts as the protocol asks."""

    def __init__(self, port: int, activity: Activity, *, key: str = KEY, secret: str = SECRET) -> None:
        self.activity = activity
        self.frames: list[dict[str, Any]] = []
        self.on_frame: Callable[[dict[str, Any]], None] = lambda frame: None
        self._base = f"127.0.0.1:{port}"
        self._key, self._secret = key, secret
        self._session = aiohttp.ClientSession(headers={"X-Stepped": "1", "X-MBX-APIKEY": key})
        self._tasks: list[asyncio.Task[None]] = []
        self._sockets: list[aiohttp.ClientWebSocketResponse] = []

    async def call(self, method: str, path: str, *, signed: bool = True, **params: Any) -> tuple[int, Any]:
        """Send one request; return status and JSON."""
        text = "&".join(f"{k}={v}" for k, v in sorted(params.items()))
        if signed:
            text += ("&" if text else "") + f"recvWindow=5000&timestamp={time.time_ns() // 1_000_000}"
            text += "&signature=" + hmac.new(self._secret.encode(), text.encode(), hashlib.sha256).hexdigest()
        self.activity.begin()
        try:
            async with self._session.request(method, f"http://{self._base}{path}?{text}") as response:
                return response.status, orjson.loads(await response.read())
        finally:
            self.activity.end()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do something in answer to a frame or a timer: it counts until its first step has been taken."""
        self.activity.begin()
        self._tasks.append(asyncio.create_task(work))
        asyncio.get_running_loop().call_soon(self.activity.end)  # by then the request, if any, counts for itself

    async def listen(self, path: str, *, again: bool = False) -> None:
        """Open a socket and read it from now on; with `again` it is opened anew when the exchange closes it."""
        url = f"ws://{self._base}{path}"
        socket = await self._session.ws_connect(url)
        self._sockets.append(socket)

        async def read(socket: aiohttp.ClientWebSocketResponse) -> None:
            while True:
                async for message in socket:
                    if message.type == aiohttp.WSMsgType.TEXT:
                        frame = orjson.loads(message.data)
                        self.frames.append(frame)
                        self.on_frame(frame)
                        self.activity.end()
                if not again:
                    return
                socket = await self._session.ws_connect(url)
                self._sockets.append(socket)

        self._tasks.append(asyncio.create_task(read(socket)))

    async def close(self) -> None:
        """Close all."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for socket in self._sockets:
            await socket.close()
        await self._session.close()
