"""Commands that start the bot or the embedded exchange."""

import asyncio
from pathlib import Path

import click

from bot.cli.base import command, klines_option, range_options, settings_of, speed_of
from bot.core.errors import ConfigError
from bot.core.garbage import uncollected


@command()
@click.option(
    "--venue",
    type=click.Choice(["sim", "paper", "testnet", "live"]),
    default="sim",
    show_default=True,
    help="Where to trade.",
)
@klines_option()
@range_options
@click.option("--speed", metavar="X", help="Replay speed of sim, a number or max (default sim.speed).")
@click.option("--once", is_flag=True, help="End when the replay ends and print the session report.")
@click.option("--no-dashboard", is_flag=True, help="Do not serve the dashboard.")
@click.option("--port", type=click.IntRange(0, 65535), help="The dashboard's port (default dashboard.port).")
def run(
    venue: str,
    klines: str | None,
    from_ms: int | None,
    to_ms: int | None,
    speed: str | None,
    once: bool,
    no_dashboard: bool,
    port: int | None,
) -> None:
    """Run the bot: signals, orders and protection in one process."""
    settings = settings_of()
    config = settings.load()
    if venue != "sim" and (klines or from_ms is not None or to_ms is not None or speed or once):
        raise ConfigError("--klines, --from, --to, --speed and --once replay history and belong to --venue sim")
    with uncollected():
        from bot.app.options import RunOptions
        from bot.app.run import run_bot

    options = RunOptions(
        venue=venue,
        klines=Path(klines) if klines else None,
        from_ms=from_ms,
        to_ms=to_ms,
        speed=speed_of(speed, config.sim.speed),
        once=once,
        dashboard=not no_dashboard,
        port=config.dashboard.port if port is None else port,
        json=settings.json,
        quiet=settings.quiet,
        log_format=settings.log_format,
        profile=settings.profile or "alert",
        debug=settings.debug,
    )
    raise SystemExit(asyncio.run(run_bot(config, options)))


@command()
@click.option("--port", type=click.IntRange(0, 65535), default=8787, show_default=True, help="0 takes any free port.")
@klines_option()
@range_options
@click.option("--speed", default="1", show_default=True, metavar="X", help="Replay seconds per second, at most 60.")
@click.option("--faults", metavar="FILE", help="JSON list of faults to begin with (docs/venue-cases.md).")
@click.option("--quirk", "quirks", multiple=True, metavar="NAME=VALUE", help="Turn a switch (docs/venue-cases.md).")
def exchange(
    port: int,
    klines: str | None,
    from_ms: int | None,
    to_ms: int | None,
    speed: str,
    faults: str | None,
    quirks: tuple[str, ...],
) -> None:
    """Serve the embedded exchange alone, for any Binance futures client."""
    settings = settings_of()
    config = settings.load()
    factor = speed_of(speed, 1.0)
    if factor is None or factor > 60:
        raise ConfigError("exchange --speed is at most 60: clients of a free-running clock need wall time to answer")
    from bot.app.serve import serve_exchange

    code = serve_exchange(
        config,
        port=port,
        klines=Path(klines) if klines else None,
        from_ms=from_ms,
        to_ms=to_ms,
        speed=factor,
        faults=Path(faults) if faults else None,
        quirks=quirks,
        quiet=settings.quiet,
        log_format=settings.log_format,
    )
    raise SystemExit(asyncio.run(code))
