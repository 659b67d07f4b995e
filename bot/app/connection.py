"""A connection to a venue without a bot, for `doctor` and `flatten`.

Client, gateway, request budget, sockets and addresses are the bot's own; nothing is journalled or decided. Only `addresses`
maps venues to settings.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp

from bot.app.credentials import HMAC, Credentials, secrets_for
from bot.config import Config, VenueLive, VenueTestnet
from bot.core.addresses import is_loopback, require_encrypted
from bot.core.errors import ConfigError, Unreachable, WireError
from bot.core.times import DAY_MS
from bot.execution.client import HardenedBSM, LocalClient
from bot.execution.clock import WallClock, machine_ms
from bot.execution.gateway import Gateway
from bot.execution.limits import RequestLimits
from bot.execution.replies import server_time
from bot.execution.tasks import Tasks


@dataclass(frozen=True, slots=True)
class Addresses:
    """Base URLs of a venue; `permissions_url` may be empty."""

    rest_url: str
    stream_url: str
    permissions_url: str = ""


@dataclass(frozen=True, slots=True)
class Connection:
    """An open connection to a venue."""

    venue: str
    addresses: Addresses
    clock: WallClock
    tasks: Tasks
    limits: RequestLimits
    client: LocalClient
    gateway: Gateway
    sockets: HardenedBSM
    kind: str = HMAC  # of the key


def addresses(config: Config, venue: str) -> Addresses:
    """Return the addresses of a venue outside this process.

    Raises
    ------
    ConfigError
        The venue is embedded in `run`, or an address is not encrypted.
    """
    if venue == "testnet":
        return _encrypted(config.venue.testnet, venue)
    if venue == "live":
        return _encrypted(config.venue.live, venue)
    raise ConfigError(f"--venue {venue} has no address of its own: it lives inside `run`")


def _encrypted(place: VenueTestnet | VenueLive, venue: str) -> Addresses:
    """Return a venue's addresses, all of which must be encrypted because they carry the key."""
    for name in ("rest_url", "stream_url", "permissions_url"):
        if url := getattr(place, name):
            require_encrypted(url, f"venue.{venue}.{name}")
    return Addresses(place.rest_url, place.stream_url, place.permissions_url)


@asynccontextmanager
async def connected(venue: str, at: Addresses, keys: Credentials | None = None) -> AsyncIterator[Connection]:
    """Open a connection to a venue; `keys` None takes them from the environment."""
    keys = keys if keys is not None else secrets_for(venue)
    clock = WallClock()
    tasks = Tasks(clock)
    limits = RequestLimits(tasks)
    client = LocalClient(
        keys.api_key,
        keys.secret,
        private_key=keys.private_key,
        rest_url=at.rest_url,
        stream_url=at.stream_url,
        tasks=tasks,
        limits=limits,
    )
    try:
        sockets = HardenedBSM(client, tasks=tasks)
        yield Connection(venue, at, clock, tasks, limits, client, Gateway(client, tasks, limits), sockets, keys.kind)
    finally:
        limits.close()
        await tasks.close()
        await client.close_connection()


async def clock_speed(rest_url: str) -> float:
    """Return the speed of the exchange's clock if it replays history (a day or more away from ours), else 1.

    Raises
    ------
    Unreachable
        The exchange does not answer.
    """
    readings: list[tuple[float, int]] = []
    try:
        timeout, outside = aiohttp.ClientTimeout(total=10), not is_loopback(rest_url)
        async with aiohttp.ClientSession(timeout=timeout, trust_env=outside) as session:
            for pause in (0.0, 0.5):
                await asyncio.sleep(pause)
                async with session.get(f"{rest_url.rstrip('/')}/fapi/v1/time", allow_redirects=False) as reply:
                    readings.append((machine_ms(), server_time(await reply.json())))
    except (aiohttp.ClientError, TimeoutError, ValueError, WireError) as error:
        raise Unreachable(f"no exchange answers at {rest_url}: {error or type(error).__name__}") from None
    (wall, exchange), (later_wall, later_exchange) = readings
    if abs(exchange - wall) < DAY_MS:
        return 1.0
    return max(1.0, (later_exchange - exchange) / max(later_wall - wall, 1.0))
