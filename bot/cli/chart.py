"""The command that draws a chart."""

from pathlib import Path

import click

from bot.cli.base import command, echo, echo_json, klines_option, range_options, settings_of


@command()
@klines_option()
@range_options
@click.option("--out", default="chart.html", show_default=True, metavar="FILE", help="The page to write.")
@click.option("--trades", "with_trades", is_flag=True, help="Also draw the trades of the journal's last session.")
def chart(klines: str | None, from_ms: int | None, to_ms: int | None, out: str, with_trades: bool) -> None:
    """Draw klines with order blocks, structure, trails and signals as one HTML file."""
    from bot.app.chart import write_chart

    settings = settings_of()
    summary = write_chart(
        settings.load(),
        Path(klines) if klines else None,
        Path(out),
        from_ms=from_ms,
        to_ms=to_ms,
        with_trades=with_trades,
        quiet=settings.quiet or settings.json,
    )
    if settings.json:
        echo_json(summary)
        return
    bars = sum(told["bars"] for told in summary["symbols"].values())
    size = summary["bytes"] / 1e6
    echo(f"{summary['file']}: {bars:,} bars, {summary['from']} to {summary['to']}, {size:.1f} MB, needs no network")
