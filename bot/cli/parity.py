"""Commands that compare this bot with a TradingView chart: compare, calibrate, pine."""

import time
from pathlib import Path
from typing import Any

import click

from bot.cli.base import command, echo, echo_json, klines_option, range_options, settings_of

COMPLETE = "Stream: the time in which absence counts, FROM..TO or all (default: as its notes mark it)."
INTERVAL = "Stream: the chart's interval, such as 15m, where the file does not have it."


@command()
@click.argument("export", metavar="EXPORT")
@klines_option()
@click.option(
    "--bind", "bind_file", metavar="FILE", help="TOML file that binds columns and alerts by hand; remembered."
)
@click.option(
    "--warm-up", type=click.IntRange(min=0), help="Bars left out at the start (default 600, at most a third)."
)
@click.option("--complete", metavar="SPAN", help=COMPLETE)
@click.option("--interval", metavar="I", help=INTERVAL)
@click.option("--out", metavar="DIR", help="Write compare.html and compare.json into this folder.")
def compare(
    export: str,
    klines: str | None,
    bind_file: str | None,
    warm_up: int | None,
    complete: str | None,
    interval: str | None,
    out: str | None,
) -> None:
    """Compare a TradingView export (chart data, list of trades, alerts log) or a stream of alerts with our values.

    A stream is a webhook log (CSV or JSON lines: time, symbol, interval, name), or a folder with events.csv and rates.csv.
    """
    from bot.market.paths import data_folder
    from bot.parity.compare import compare as run
    from bot.parity.printing import print_comparison
    from bot.parity.stream_printing import print_stream
    from bot.parity.writing import write_comparison
    from bot.report.compared import keep

    settings = settings_of()
    found = run(
        settings.load(),
        Path(export),
        klines=Path(klines) if klines else None,
        bind_file=Path(bind_file) if bind_file else None,
        warm_up=warm_up,
        complete=complete,
        interval=_interval(interval),
    )
    if out is not None:
        found.report["page"] = str(write_comparison(Path(out), found))
    if settings.json:
        echo_json(_plain(found.report))
    elif found.report["export"]["kind"] == "alert stream":
        print_stream(found.report)
    else:
        print_comparison(found.report)
    keep(data_folder(), found.report, at_ms=int(time.time() * 1000))


@command()
@click.argument("exports", metavar="EXPORT...", nargs=-1, required=True)
@klines_option()
@click.option("--second", metavar="EXPORT", help="Export of a second symbol that has to agree with every change.")
@click.option("--bind", "bind_file", metavar="FILE", help="TOML file that binds columns by hand; remembered.")
@click.option(
    "--warm-up", type=click.IntRange(min=0), help="Bars left out at the start (default 600, at most a third)."
)
@click.option("--complete", metavar="SPAN", help=COMPLETE)
@click.option("--interval", metavar="I", help=INTERVAL)
@click.option("--name", default="calibrated", show_default=True, help="Name of the profile that is written.")
@click.option("--out", metavar="FILE", help="Write the profile as TOML, to be added to config.toml.")
def calibrate(
    exports: tuple[str, ...],
    klines: str | None,
    second: str | None,
    bind_file: str | None,
    warm_up: int | None,
    complete: str | None,
    interval: str | None,
    name: str,
    out: str | None,
) -> None:
    """Fit open settings to a TradingView export: train on 70 %, accept only what improves the other 30 %.

    Streams of alerts, alerts logs and several charts at once are fitted by their events, from a fixed grid per feature.
    """
    from bot.parity.fitting import fit_exports as run
    from bot.parity.printing import print_calibration
    from bot.parity.stream_printing import print_fit
    from bot.parity.writing import checked_out
    from bot.report.charts import write_page
    from bot.report.progress import progress

    settings = settings_of()
    if out is not None:
        checked_out(Path(out))
    with progress("fitting", 100, quiet=settings.quiet or settings.json) as advance:
        report = run(
            settings.load(),
            [Path(export) for export in exports],
            klines=Path(klines) if klines else None,
            second=Path(second) if second else None,
            bind_file=Path(bind_file) if bind_file else None,
            warm_up=warm_up,
            complete=complete,
            interval=_interval(interval),
            name=name,
            advance=advance,
        )
    if out is not None:
        write_page(Path(out), report["profile"])
    if settings.json:
        echo_json(_plain(report))
        return
    (print_fit if "grids" in report else print_calibration)(report)
    echo(report["profile"] if out is None else f"profile written to {out}; add it to config.toml, use --profile {name}")


@command()
@klines_option()
@click.option("--symbol", metavar="S", help="Default BTCUSDT.")
@range_options
@click.option("--out", required=True, metavar="FILE", help="The script to write, such as findings.pine.")
def pine(klines: str | None, symbol: str | None, from_ms: int | None, to_ms: int | None, out: str) -> None:
    """Write a Pine v6 script that draws our blocks, breaks and signals on your own TradingView chart."""
    from bot.app.chart import tape_of
    from bot.core.errors import DataMissing
    from bot.market import store
    from bot.parity.compare import klines_source
    from bot.parity.writing import checked_out
    from bot.report.charts import write_page
    from bot.report.pine import pine as script

    settings = settings_of()
    config = settings.load()
    checked_out(Path(out))
    source = klines_source(Path(klines) if klines else None)
    if source is None:
        raise DataMissing(
            "there are no klines to find anything on: `python -m bot download` gets them, or use --klines DIR"
        )
    bars = store.load(source, symbol or config.data.symbols[0], "3m").between(None, to_ms)
    if not len(bars.between(from_ms)):
        raise DataMissing(f"{source} has no bar of {bars.symbol} 3m between --from and --to")
    found = script(tape_of(config, bars), bars.interval, from_ms=from_ms)
    write_page(Path(out), found.text)
    if settings.json:
        echo_json({"file": out, "symbol": bars.symbol, **found.as_dict()})
        return
    more = f", {found.left_out} older ones left out by TradingView's limits" if found.left_out else ""
    echo(
        f"{out}: {found.blocks} blocks, {found.breaks} breaks, {found.signals} signals of {bars.symbol} 3m{more}; paste it "
        "into the Pine editor and add it to the 3m chart"
    )


def _interval(text: str | None) -> str | None:
    """Return an interval in the exchange's notation."""
    from bot.core.errors import ConfigError
    from bot.parity.alerts_log import interval_of

    if text is not None and interval_of(text) is None:
        raise ConfigError(f"--interval {text!r} is no interval: write 5m, 15m or 1h")
    return interval_of(text)


def _plain(value: Any) -> Any:
    """Return a report with NaN as null and numpy numbers as Python numbers."""
    from bot.report.page import plain

    return plain(value)
