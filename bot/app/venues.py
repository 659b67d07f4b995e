"""The venues of `run`: where orders go, which clock applies, and how a replay starts and ends."""

import secrets
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from bot.app.account_lock import account_lock
from bot.app.connection import clock_speed
from bot.app.credentials import Credentials, secrets_for
from bot.app.options import RunOptions
from bot.config import Config, VenueLive, VenuePaper, VenueTestnet
from bot.core.activity import Activity
from bot.core.addresses import require_encrypted
from bot.core.clock import Clock
from bot.core.errors import ConfigError
from bot.core.types import REAL_VENUES
from bot.execution.clock import WallClock
from bot.execution.streams import StreamSettings
from bot.report.progress import say

log = structlog.get_logger("bot")
REPLAY_SILENCE_MS: Final = 600_000  # replayed markets advance in steps of up to a base bar, and recordings have gaps


@dataclass
class TradingVenue:
    """An exchange to trade on. `account` identifies the journal session and holds no secret."""

    name: str
    rest_url: str
    stream_url: str
    credentials: Credentials
    account: str
    clock: Clock
    activity: Activity
    resume: bool
    headers: dict[str, str] = field(default_factory=dict)
    start: Callable[[], None] = lambda: None
    finished: Callable[[], Awaitable[None]] | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    speed: float = 1.0  # exchange seconds per wall second of the bot's own work

    def in_wall_time(self, config: Config) -> Config:
        """Return the settings with limits on the bot's own latency multiplied by the speed of a replay in another process.

        At 60x, 1.5 s of exchange time without a stop are 25 ms there: less than any client needs for a reply. Limits on the
        market's time (targets, exits, funding) are not changed.
        """
        if self.speed <= 1.0:
            return config
        trade = {"naked_limit_ms": round(config.trade.naked_limit_ms * self.speed)}
        entry = {name: round(getattr(config.entry, name) * self.speed) for name in ("max_data_age_ms", "leg_wait_ms")}
        return config.model_copy(
            update={"trade": config.trade.model_copy(update=trade), "entry": config.entry.model_copy(update=entry)}
        )

    def stream_settings(self) -> StreamSettings:
        """Return the subscriptions; a replayed market may be silent for longer than a live one."""
        usual = StreamSettings()
        if isinstance(self.clock, WallClock) and not self.clock.replay:
            return usual
        return StreamSettings(
            market_silence_ms=REPLAY_SILENCE_MS,
            public_silence_ms=REPLAY_SILENCE_MS,
            rotate_ms=None if self.headers else usual.rotate_ms,  # in one process there is no 24 h limit
        )


async def sim(config: Config, options: RunOptions, stack: AsyncExitStack) -> TradingVenue:
    """Start the embedded exchange in this process, stepped by the bot's progress."""
    from bot.app.serve import embedded_exchange
    from bot.backtest.market import find_start, load_market
    from bot.market.store import format_time

    quiet = options.quiet or options.json
    market = load_market(config, options.klines)
    for warning in market.warnings:
        log.warning(warning)
    start = find_start(config, market, from_ms=options.from_ms, to_ms=options.to_ms)
    per_day = start.signals / max(start.days, 1e-9)
    say(f"market: {market.source}", quiet=quiet)
    pace = f", {per_day:.2f} a day (claimed: about 7)" if start.days >= 1 else ""
    say(f"signals in {start.days:.1f} days: {start.signals}{pace}", quiet=quiet)
    place = f"{config.sim.lead_minutes:.0f} minutes before the first signal" if start.signal_ms else "no signal found"
    place = "as asked" if options.from_ms is not None else place
    say(f"starting at {format_time(start.from_ms)} ({place})", quiet=quiet)
    keys = Credentials(secrets.token_hex(16), secrets.token_hex(16))
    activity = Activity()
    exchange = embedded_exchange(
        config,
        market,
        from_ms=start.from_ms,
        to_ms=options.to_ms,
        api_key=keys.api_key,
        api_secret=keys.secret,
        activity=activity,
        speed=options.speed,
        stepped=True,
    )
    stack.push_async_callback(exchange.close)
    port = await exchange.listen("127.0.0.1", 0)
    return TradingVenue(
        name="sim",
        rest_url=f"http://127.0.0.1:{port}",
        stream_url=f"ws://127.0.0.1:{port}",
        credentials=keys,
        account="sim",
        clock=exchange.clock,
        activity=activity,
        resume=False,
        headers={"X-Stepped": "1"},
        start=exchange.start,
        finished=exchange.finished,
        meta={
            "source": market.source,
            "from_ms": start.from_ms,
            "batch_signals": start.signals,
            "batch_signals_per_day": per_day,
            "seed": config.sim.seed,
        },
    )


async def testnet(config: Config, options: RunOptions, stack: AsyncExitStack) -> TradingVenue:
    """Point the bot at the testnet, or at the exchange that the configuration names instead."""
    keys = secrets_for(options.venue)
    place = config.venue.testnet
    stack.enter_context(account_lock(keys.api_key, place.rest_url))
    speed = await clock_speed(place.rest_url)
    if speed > 1.0:
        say(f"the exchange replays history at about {speed:.0f}x", quiet=options.quiet or options.json)
    return _apart("testnet", place, keys, speed=speed)


def _apart(name: str, place: VenueTestnet | VenueLive, keys: Credentials, *, speed: float) -> TradingVenue:
    """Return an external venue: its account outlives the process and its session is resumed."""
    return TradingVenue(
        name=name,
        rest_url=place.rest_url,
        stream_url=place.stream_url,
        credentials=keys,
        account=place.rest_url,
        clock=WallClock(),
        activity=Activity(),
        resume=True,
        meta={"source": place.rest_url},
        speed=speed,
    )


def preflight(config: Config, venue: str) -> None:
    """Validate the venue before anything is opened or compiled.

    Raises
    ------
    ConfigError
        Keys are missing, an address is not encrypted, or live is not armed; one sentence with a remedy.
    """
    if venue == "live" and not config.venue.live.armed:
        raise ConfigError(
            "--venue live trades real money and is not armed: read docs/live-checklist.md, then set venue.live.armed = true"
        )
    if venue in REAL_VENUES:
        secrets_for(venue)
        _require_encrypted(config.venue.live if venue == "live" else config.venue.testnet, venue)
    if venue == "paper":
        _require_encrypted(config.venue.paper, venue)


def _require_encrypted(place: VenueTestnet | VenueLive | VenuePaper, venue: str) -> None:
    """Reject addresses over which keys or prices would be sent unencrypted."""
    require_encrypted(place.rest_url, f"venue.{venue}.rest_url")
    require_encrypted(place.stream_url, f"venue.{venue}.stream_url")


async def paper(config: Config, options: RunOptions, stack: AsyncExitStack) -> TradingVenue:
    """Trade simulated money on the live market: its data unchanged, orders on the embedded exchange."""
    from bot.app.paper import paper_exchange  # the exchange is loaded only for paper

    exchange, keys = await paper_exchange(config, stack)
    place, quiet = config.venue.paper, options.quiet or options.json
    say(f"paper: the market of {place.rest_url}, {place.wallet:g} USDT of simulated money", quiet=quiet)
    return TradingVenue(
        name="paper",
        rest_url=f"http://127.0.0.1:{exchange.port}",
        stream_url=f"ws://127.0.0.1:{exchange.port}",
        credentials=keys,
        account="paper",
        clock=WallClock(),
        activity=Activity(),
        resume=False,  # the account exists only in this process
        meta={"source": f"live market of {place.rest_url}"},
        speed=exchange.wall_speed,
    )


async def live(config: Config, options: RunOptions, stack: AsyncExitStack) -> TradingVenue:
    """Trade real money: only when armed, with keys, after a passing `doctor`, and after printing what it will do.

    Raises
    ------
    ConfigError
        `venue.live.armed` is not true, or there are no keys.
    DoctorFailed
        `doctor` found a reason not to trade.
    """
    from bot.app.doctor import examine, must_pass

    place, quiet = config.venue.live, options.quiet or options.json
    preflight(config, "live")
    keys = secrets_for("live")
    stack.enter_context(account_lock(keys.api_key, place.rest_url))
    say("examining the venue before the first order (doctor)", quiet=quiet)
    report = await examine(config, "live", quiet=quiet, held_here=True)
    for check in report.checks:
        if check.status != "ok":
            log.warning("doctor", check=check.name, status=check.status, finding=check.text, way_out=check.hint)
    must_pass(report)
    speed = await clock_speed(place.rest_url)
    for line in intention(config, keys.api_key):
        say(line, quiet=quiet)
    return _apart("live", place, keys, speed=speed)


def intention(config: Config, key: str) -> list[str]:
    """Return lines that say what a live run will do."""
    risk, symbols = config.risk, config.data.symbols
    hedge = (
        f", hedged with {' and '.join(symbols[1:])}" if config.hedge.enabled and len(symbols) > 1 else ", not hedged"
    )
    steps = " then ".join(f"{step}x" for step in risk.leverage_ramp)
    return [
        f"LIVE: real money at {config.venue.live.rest_url} with the key that ends in …{key[-4:]}",
        f"LIVE: {symbols[0]}{hedge}; isolated margin, {steps}; {risk.risk_fraction:.2%} of equity at risk in a trade",
        f"LIVE: entries stop at -{risk.max_day_loss_r:g} R in a day and {risk.soft_stop_r:g} R below the peak; "
        "`bot flatten` gets out of everything",
    ]


VENUES: Final[dict[str, Callable[[Config, RunOptions, AsyncExitStack], Awaitable[TradingVenue]]]] = {
    "sim": sim,
    "paper": paper,
    "testnet": testnet,
    "live": live,
}
