"""Commands for stored klines."""

from pathlib import Path

import click

from bot.cli.base import cli, command, common_options, echo, echo_json, settings_of
from bot.core.errors import ConfigError
from bot.core.printable import visible_json
from bot.core.words import counted


@cli.group()
@common_options
def data() -> None:
    """Check stored klines."""


@command("check", group=data)
@click.argument("folder", required=False, metavar="[DIR]")
def data_check(folder: str | None) -> None:
    """Report gaps, duplicates and impossible bars of every kline file (default data/klines)."""
    from bot.market.checks import run_check
    from bot.market.paths import data_folder

    settings = settings_of()
    report, code = run_check(Path(folder) if folder else data_folder() / "klines")
    echo(visible_json(report.json()) if settings.json else "\n".join(report.lines()))
    raise SystemExit(code)


@command()
@click.option("--out", required=True, metavar="DIR", help="Folder to write the kline files to.")
@click.option("--days", type=click.IntRange(1, 3650), default=30, show_default=True, help="Length of the market.")
@click.option("--seed", type=click.IntRange(min=0), help="Same seed, same market (default sim.seed).")
@click.option("--overwrite", is_flag=True, help="Replace kline files that DIR holds already.")
def synth(out: str, days: int, seed: int | None, overwrite: bool) -> None:
    """Write a synthetic market as kline files."""
    from bot.market.synthetic import write_market

    settings = settings_of()
    config = settings.load()
    try:
        files = write_market(Path(out), days, config.sim.seed if seed is None else seed, overwrite=overwrite)
    except OSError as error:
        raise ConfigError(f"--out {out} cannot be written: {error.strerror}; name another folder") from None
    if settings.json:
        echo_json([str(path) for path in files])
    else:
        echo(f"{len(files)} files with {counted(days, 'day')} written to {out}")
