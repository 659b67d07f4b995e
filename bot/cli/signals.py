"""Commands for signals: the table of all columns, and the reasons for one bar."""

from pathlib import Path

import click

from bot.cli.base import command, echo, echo_json, klines_option, range_options, settings_of


@command()
@click.option("--klines", required=True, metavar="DIR_OR_FILE", help="Folder, or one kline file.")
@click.option("--symbol", metavar="S", help="Default BTCUSDT, or the file's.")
@click.option("--interval", type=click.Choice(["3m", "15m"]), help="Default 3m, or the file's.")
@click.option("--out", required=True, metavar="FILE", help="Parquet, or CSV by the file's ending.")
@range_options
@click.option("--cold", is_flag=True, help="Start the indicators at --from, with nothing before.")
def signals(
    klines: str, symbol: str | None, interval: str | None, out: str, from_ms: int | None, to_ms: int | None, cold: bool
) -> None:
    """Write every indicator value, condition and gate of each closed bar."""
    from bot.backtest.signals import write_signals

    settings = settings_of()
    summary = write_signals(
        settings.load(),
        Path(klines),
        Path(out),
        symbol=symbol,
        interval=interval,
        from_ms=from_ms,
        to_ms=to_ms,
        cold=cold,
        quiet=settings.quiet,
    )
    if settings.json:
        echo_json(summary)
    else:
        echo(summary["sentence"])


@command()
@click.argument("time", metavar="TIME")
@click.option("--symbol", metavar="S", help="Default BTCUSDT, which alone is decided on.")
@klines_option()
def explain(time: str, symbol: str | None, klines: str | None) -> None:
    """Explain why there was or wasn't a signal on the closed bar that contains TIME (2023-01-01T12:03, ms)."""
    from bot.explain.bar import explain as explain_bar
    from bot.explain.bar import print_explanation
    from bot.market.store import parse_time

    settings = settings_of()
    report = explain_bar(
        settings.load(),
        parse_time(time),
        symbol=symbol,
        klines=Path(klines) if klines else None,
        quiet=settings.quiet,
    )
    if settings.json:
        echo_json(report)
    else:
        print_explanation(report)
