"""Commands that use the network: fetch history, check the venue, close everything, test the alerts."""

import asyncio
import sys

import click

from bot.cli.base import command, echo, echo_json, range_options, settings_of
from bot.core.errors import ConfigError
from bot.core.times import DAY_MS

VENUES = ["sim", "paper", "testnet", "live"]


def _list(text: str | None, default: tuple[str, ...]) -> tuple[str, ...]:
    return default if text is None else tuple(word.strip() for word in text.split(",") if word.strip())


@command()
@click.option("--symbols", metavar="A,B", help="Default data.symbols.")
@click.option("--intervals", default="1m,3m,15m", show_default=True, metavar="1m,3m", help="Intervals to fetch.")
@range_options
@click.option("--out", metavar="DIR", help="Default data/klines of BOT_DATA.")
def download(symbols: str | None, intervals: str, from_ms: int | None, to_ms: int | None, out: str | None) -> None:
    """Fetch klines and funding from the bulk archive with checksums, the rest over REST; resumable, verified."""
    from pathlib import Path

    from bot.core.klines import interval_ms
    from bot.execution.clock import machine_ms
    from bot.market.download import download as fetch
    from bot.market.paths import data_folder
    from bot.report.progress import progress_of

    settings = settings_of()
    config = settings.load()
    wanted = _list(intervals, ())
    for name in wanted:
        interval_ms(name)
    if not wanted or not (names := _list(symbols, config.data.symbols)):
        raise ConfigError("--symbols and --intervals need at least one name each")
    if from_ms is None:
        from_ms = (to_ms or int(machine_ms())) - config.data.download_days * DAY_MS
    if to_ms is not None and to_ms <= from_ms:
        raise ConfigError("--to must be later than --from")
    with progress_of("download", quiet=settings.quiet or settings.json) as bar:
        reports = asyncio.run(
            fetch(
                Path(out) if out else data_folder() / "klines",
                symbols=names,
                intervals=wanted,
                from_ms=from_ms,
                to_ms=to_ms,
                archive_url=config.data.archive_url,
                rest_url=config.data.history_url,
                advance=bar.advance,
                planned=bar.planned,
            )
        )
    if settings.json:
        echo_json([{name: getattr(r, name) for name in r.__slots__} for r in reports])
        return
    for report in reports:
        echo(report.line())
        for warning in report.warnings:
            echo(f"  warning: {warning}", err=True)


@command()
@click.option("--venue", type=click.Choice(VENUES), default="sim", show_default=True, help="What to examine.")
@click.option("--no-wait", is_flag=True, help="Do not wait for a bar to close (up to a minute).")
def doctor(venue: str, no_wait: bool) -> None:
    """Find what would stop the bot: settings, keys, clock, filters, streams, stop orders; one line each, with a remedy."""
    from bot.app.doctor import examine
    from bot.app.setup import configure_logging

    settings = settings_of()
    config = settings.load()
    quiet = settings.quiet or settings.json
    configure_logging(settings.log_format, quiet=True)
    report = asyncio.run(examine(config, venue, quiet=quiet, wait_for_bar=not no_wait))
    if settings.json:
        echo_json(report.data())
    else:
        _show(report)
    raise SystemExit(0 if report.ok else 1)


def _show(report: object) -> None:
    """Print the checks as a table on a terminal, as plain lines when piped."""
    import sys

    from bot.app.doctor import Examination

    assert isinstance(report, Examination)
    marks = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "red")}
    if not sys.stdout.isatty():
        for check in report.checks:
            way = f" -> {check.hint}" if check.hint else ""
            echo(f"{check.status:4} {check.name}: {check.text}{way}")
    else:
        from rich.table import Table
        from rich.text import Text

        from bot.report.consoles import console

        table = Table(show_header=False, box=None, pad_edge=False)
        for check in report.checks:
            mark, colour = marks[check.status]
            text = Text(check.text)
            if check.hint:
                text.append(f"\n→ {check.hint}", style="dim")
            table.add_row(Text(f"{mark} {check.status}", style=colour), Text(check.name), text)
        console().print(table)
    doubts = sum(check.status == "warn" for check in report.checks)
    failures = len(report.failures())
    echo(f"{report.venue}: {len(report.checks)} checks, {failures} failed, {doubts} warnings")


@command()
@click.option("--venue", type=click.Choice(VENUES), help="Default: the running bot's, else the journal's last one.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def flatten(venue: str | None, yes: bool) -> None:
    """Close every position, cancel every order, and verify it; through the running bot, or directly at the venue."""
    from bot.app.flatten import flatten as close_everything
    from bot.app.setup import configure_logging

    settings = settings_of()
    config = settings.load()
    configure_logging(settings.log_format, quiet=True)
    lines: list[str] = []

    def say(text: str) -> None:
        lines.append(text)
        if not settings.json:
            echo(text)

    def ask(question: str) -> bool:
        try:
            return yes or click.confirm(question, err=True)
        except click.Abort:
            if sys.stdin.isatty():
                raise
            raise ConfigError("nothing was closed: nobody is there to ask; say --yes") from None

    code = asyncio.run(close_everything(config, venue, say=say, confirm=ask))
    if settings.json:
        echo_json({"flat": code == 0, "steps": lines})
    raise SystemExit(code)


@command()
@click.option(
    "--test", is_flag=True, required=True, help="Send a test alert to every address and say what became of it."
)
def notify(test: bool) -> None:
    """Test the alerts: addresses come from BOT_NOTIFY_URLS and BOT_WEBHOOK_URL in the environment."""
    from bot.app.setup import configure_logging
    from bot.report.notify import try_addresses

    settings = settings_of()
    config = settings.load()
    configure_logging(settings.log_format, quiet=settings.quiet)
    results = asyncio.run(try_addresses(config.notify))
    if settings.json:
        echo_json(results)
    else:
        for row in results:
            echo(f"{row['kind']}: {'delivered' if row['ok'] else 'NOT delivered'}")
    raise SystemExit(0 if all(row["ok"] for row in results) else 1)
