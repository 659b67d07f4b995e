"""What the venue cases stand on: an exchange, the unmodified python-binance in front of it, and short words for both."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from binance.exceptions import BinanceAPIException

from bot.sim.server import Exchange
from tests.sim_tools import KEY, SECRET, START, close_client, endpoints, flat, market

HOUR = 3_600_000


class Rig:
    """An exchange whose clock stands (or runs by itself), a client and its sockets."""

    def __init__(self, exchange: Exchange, port: int) -> None:
        self.exchange, self.port = exchange, port
        client, manager = endpoints(port)
        self.client = client(KEY, SECRET)
        self.client.ws_future.TIMEOUT = 1  # closing waits for a read to end
        self.manager = manager(self.client, max_queue_size=10_000)
        self.closing: list[Any] = []

    async def socket(self, socket: Any) -> Any:
        """Open a socket that is closed with the rig."""
        socket.TIMEOUT = 0.2  # closing waits for a read to end
        await socket.__aenter__()
        self.closing.append(socket)
        return socket

    async def user(self) -> Any:
        """Open the user stream."""
        return await self.socket(self.manager.futures_user_socket())

    async def post(self, path: str, data: Any) -> tuple[int, Any]:
        """Speak to the operator's side."""
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"http://127.0.0.1:{self.port}{path}", json=data) as reply,
        ):
            return reply.status, await reply.json()

    async def refusal(self, work: Any) -> tuple[int, int]:
        """Return HTTP status and code of a refused request."""
        with pytest.raises(BinanceAPIException) as refused:
            await work
        return refused.value.status_code, refused.value.code

    async def close(self) -> None:
        """Close all."""
        for socket in self.closing:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(socket.__aexit__(None, None, None), 3)
        await close_client(self.client)
        await self.exchange.close()

    async def fault(self, name: str, **fields: Any) -> None:
        """Switch one fault on, and all others off."""
        status, answer = await self.post("/sim/faults", [{"fault": name, **fields}])
        assert status == 200, answer


async def build(exchange: Exchange) -> Rig:
    """Open an exchange and a client."""
    return Rig(exchange, await exchange.listen())


@asynccontextmanager
async def rig_of(**options: Any) -> AsyncIterator[Rig]:
    """A rig whose clock stands at 01:00 of a market at 100,000."""
    options = {"stepped": False, "speed": 1.0, "from_ms": START + HOUR, "depth_notional": 1e6} | options
    found = await build(Exchange(flat(), **options))
    try:
        yield found
    finally:
        await found.close()


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    """A rig whose clock stands at 01:00 of a market at 100,000."""
    async with rig_of() as found:
        yield found


@pytest.fixture
async def lively() -> AsyncIterator[Rig]:
    """A rig whose clock runs at 60x over three symbols, once it is started."""
    bars = market("BTCUSDT", "ETHUSDT", "SOLUSDT")
    found = await build(Exchange(bars, stepped=False, speed=60.0, from_ms=START + HOUR))
    try:
        yield found
    finally:
        await found.close()


async def order(rig: Rig, side: str, **more: Any) -> Any:
    """Place an order of 0.010 BTC."""
    params = {"symbol": "BTCUSDT", "side": side, "quantity": "0.010", "type": "MARKET", "newOrderRespType": "RESULT"}
    return await rig.client.futures_create_order(**(params | more))


async def stop(rig: Rig, side: str, trigger: str, **more: Any) -> Any:
    """Place a reduce-only stop of 0.010 BTC."""
    params = {"symbol": "BTCUSDT", "side": side, "type": "STOP_MARKET", "triggerPrice": trigger}
    more = more or {"quantity": "0.010", "reduceOnly": "true"}
    return await rig.client.futures_create_algo_order(**(params | more))


async def events(socket: Any, *kinds: str, count: int = 1, within: float = 5.0) -> list[Any]:
    """Read until `count` events of the wanted kinds have come."""
    found = []
    async with asyncio.timeout(within):
        while len(found) < count:
            message = await socket.recv()
            data = message.get("data", message)
            if not kinds or data.get("e") in kinds:
                found.append(data)
    return found


async def limit(rig: Rig, side: str, price: str, **more: Any) -> Any:
    """Place a LIMIT order of 0.010 BTC."""
    return await order(rig, side, **({"type": "LIMIT", "timeInForce": "GTC", "price": price} | more))


async def found(rig: Rig, client_id: str) -> Any:
    """Ask for an order by its client id."""
    return await rig.client.futures_get_order(symbol="BTCUSDT", origClientOrderId=client_id)


async def position(rig: Rig) -> Any:
    """Return the BTC position's row, or None when flat."""
    rows = await rig.client.futures_position_information(symbol="BTCUSDT")
    return rows[0] if rows else None
