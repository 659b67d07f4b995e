"""Commands that show or control the running bot."""

import click

from bot.cli.base import command, echo, settings_of


@command()
@click.option("--csv", "as_csv", is_flag=True, help="Comma-separated values.")
@click.option("--all", "every", is_flag=True, help="All sessions of the journal, not only the last.")
def trades(as_csv: bool, every: bool) -> None:
    """List the trades of the last session."""
    from bot.report.operator import print_trades

    settings = settings_of()
    print_trades(settings.load(), as_json=settings.json, as_csv=as_csv, every=every)


@command()
def status() -> None:
    """Show the state of the running bot, or of the last session."""
    from bot.report.operator import print_status

    settings = settings_of()
    raise SystemExit(print_status(settings.load(), as_json=settings.json))


@command()
def arm() -> None:
    """Allow entries again after a soft stop."""
    from bot.report.operator import send_command

    settings = settings_of()
    raise SystemExit(send_command(settings.load(), "arm", as_json=settings.json))


@command("show-config")
def show_config() -> None:
    """Print the effective configuration, secrets redacted."""
    from bot.report.operator import render_config

    settings = settings_of()
    config = settings.load()
    echo(render_config(config, as_json=settings.json))
