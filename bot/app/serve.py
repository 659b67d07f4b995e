"""`exchange`: the embedded exchange alone with a free-running clock, for any Binance futures client."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from bot.app.setup import configure_logging, interrupted
from bot.backtest.market import Market, load_market
from bot.config import Config
from bot.core.errors import ConfigError
from bot.market.store import format_time
from bot.report.progress import say
from bot.sim.quirks import Quirks
from bot.sim.server import SOCKET_LIFE_MS, Exchange


def embedded_exchange(config: Config, market: Market, **more: Any) -> Exchange:
    """Return an exchange on `market` with the configured wallet, fees, book and latencies; `more` goes to `Exchange`."""
    return Exchange(
        market.bars,
        market.funding,
        wallet=config.venue.sim.wallet,
        maker_fee=config.venue.sim.maker_fee,
        taker_fee=config.venue.sim.taker_fee,
        seed=config.sim.seed,
        order_latency_ms=config.sim.order_latency_ms,
        push_latency_ms=config.sim.push_latency_ms,
        spread=config.sim.spread,
        depth_notional=config.sim.depth_notional,
        **more,
    )


async def serve_exchange(
    config: Config,
    *,
    port: int,
    klines: Path | None,
    from_ms: int | None,
    to_ms: int | None,
    speed: float,
    faults: Path | None,
    quirks: Sequence[str],
    quiet: bool,
    log_format: str,
) -> int:
    """Serve until a stop is requested and return the exit code; at the end of the data the clock stops, REST still answers.

    Parameters
    ----------
    port
        On 127.0.0.1; 0 for any free one.
    klines
        Folder of kline files; None for `load_market`'s default.
    from_ms, to_ms
        Range of bar open times, UTC epoch ms.
    speed
        Exchange seconds per wall second.
    faults
        JSON file of faults to inject.
    quirks
        Switches as NAME=VALUE.
    quiet, log_format
        As in `configure_logging`.
    """
    configure_logging(log_format, quiet=quiet)
    market = load_market(config, klines)
    for warning in market.warnings:
        say(f"warning: {warning}", quiet=quiet)
    exchange = embedded_exchange(
        config,
        market,
        from_ms=from_ms,
        to_ms=to_ms,
        api_key=os.environ.get("BINANCE_API_KEY") or "sim-key",
        api_secret=os.environ.get("BINANCE_API_SECRET") or "sim-secret",
        speed=speed,
        stepped=False,
        public_key=_read_public_key(os.environ.get("EXCHANGE_PUBLIC_KEY_FILE")),
        faults=_read_faults(faults),
        quirks=_read_quirks(quirks),
    )
    try:
        bound = await exchange.listen("127.0.0.1", port)
        exchange.start()
        say(f"exchange: http://127.0.0.1:{bound} and ws://127.0.0.1:{bound}, {market.source}", quiet=quiet)
        say(
            f"clock: from {format_time(exchange.start_ms)} to {format_time(exchange.end_ms)} at {speed:g}x", quiet=quiet
        )
        return await interrupted()
    finally:
        await exchange.close()


def _read_public_key(path: str | None) -> str:
    """Return the PEM that signatures are verified with, or "": then the secret is used."""
    if not path:
        return ""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"EXCHANGE_PUBLIC_KEY_FILE {path} cannot be read: {error}") from None


def _read_quirks(given: Sequence[str]) -> Quirks:
    """Return the switches of a free-running exchange, changed by `--quirk NAME=VALUE`."""
    values: dict[str, object] = {}
    for text in given:
        name, _, value = text.partition("=")
        try:
            values[name.strip()] = orjson.loads(value)
        except orjson.JSONDecodeError:
            values[name.strip()] = value
    return Quirks(socket_life_ms=SOCKET_LIFE_MS).changed(values)


def _read_faults(path: Path | None) -> list:
    if path is None:
        return []
    from bot.sim.errors import Refused
    from bot.sim.faults import parse

    try:
        return list(parse(orjson.loads(path.read_bytes())))
    except OSError as error:
        raise ConfigError(f"--faults {path} cannot be read: {error.strerror}") from None
    except (ValueError, Refused) as error:
        raise ConfigError(f"--faults {path}: {error}") from None
