"""The embedded exchange that follows the live market, for paper trading and `doctor`."""

import secrets
from contextlib import AsyncExitStack

import aiohttp

from bot.app.connection import clock_speed
from bot.app.credentials import Credentials
from bot.config import Config
from bot.core.addresses import is_loopback
from bot.sim.paper import PaperExchange
from bot.sim.upstream import look_up


async def paper_exchange(config: Config, stack: AsyncExitStack) -> tuple[PaperExchange, Credentials]:
    """Start an embedded exchange that follows the live market; return it and its keys."""
    place = config.venue.paper
    speed = await clock_speed(place.rest_url)
    # No proxy for loopback; a live exchange is reached through the machine's proxy if it has one.
    session = aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=15, sock_connect=5), trust_env=not is_loopback(place.rest_url)
    )
    stack.push_async_callback(session.close)
    upstream = await look_up(session, place.rest_url, place.stream_url, config.data.symbols, speed=min(speed, 60.0))
    keys = Credentials(secrets.token_hex(16), secrets.token_hex(16))
    exchange = PaperExchange(
        session,
        upstream,
        wallet=place.wallet,
        maker_fee=config.venue.sim.maker_fee,
        taker_fee=config.venue.sim.taker_fee,
        order_latency_ms=config.sim.order_latency_ms,
        push_latency_ms=config.sim.push_latency_ms,
        seed=config.sim.seed,
        api_key=keys.api_key,
        api_secret=keys.secret,
    )
    stack.push_async_callback(exchange.close)
    await exchange.listen("127.0.0.1", 0)
    exchange.start()
    return exchange, keys
