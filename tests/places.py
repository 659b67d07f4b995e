"""Exchanges on loopback in the place of a real venue, and configurations that point at them."""

from contextlib import asynccontextmanager
from dataclasses import dataclass

from bot.config import Config
from bot.sim.server import Exchange
from tests.sim_tools import KEY, SECRET, START, market

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
HOUR = 3_600_000


@dataclass
class Place:
    """A running exchange."""

    exchange: Exchange
    port: int

    @property
    def rest(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def stream(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def config(self, **overrides) -> Config:
        """A configuration whose testnet, live and paper venues are this exchange."""
        here = {"rest_url": self.rest, "stream_url": self.stream}
        venue = {
            "testnet": here | {"permissions_url": self.rest},
            "live": here | {"permissions_url": self.rest, "armed": overrides.pop("armed", True)},
            "paper": here,
        }
        return Config.model_validate({"venue": venue, **overrides})


@asynccontextmanager
async def place(
    *,
    speed: float = 60.0,
    minutes: int = 600,
    from_ms: int = START + 4 * HOUR,
    key: tuple[str, str] = (KEY, SECRET),
    **more,
):
    """Open an exchange with three symbols and a free clock that runs."""
    exchange = Exchange(
        market(*SYMBOLS, minutes=minutes),
        stepped=False,
        speed=speed,
        from_ms=from_ms,
        api_key=key[0],
        api_secret=key[1],
        **more,
    )
    port = await exchange.listen()
    exchange.start()
    try:
        yield Place(exchange, port)
    finally:
        await exchange.close()


def set_keys(monkeypatch, key: str = KEY, secret: str = SECRET) -> None:
    monkeypatch.setenv("BINANCE_API_KEY", key)
    monkeypatch.setenv("BINANCE_API_SECRET", secret)
