"""Commands on past data: the strategy over history, and the replay of a live session."""

from dataclasses import replace
from pathlib import Path
from time import process_time

import click

from bot.cli.base import command, echo, echo_json, range_options, settings_of
from bot.core.errors import ConfigError


@command()
@click.option("--klines", metavar="DIR", help="Folder with SYMBOL-INTERVAL.parquet files (default: as `run`).")
@range_options
@click.option("--bars", type=int, metavar="N", help="At most so many 3m bars.")
@click.option("--out", metavar="DIR", help="Folder for summary.json, trades, equity, funnel and report.html.")
@click.option(
    "--near-misses", type=click.IntRange(0), default=400, show_default=True, metavar="N",
    help="How many bars with five of six are simulated for the report.",
)  # fmt: skip
@click.option(
    "--pool", type=click.IntRange(0), default=1_000, show_default=True, metavar="N",
    help="Random entries a side that the report compares with; 0 leaves the test against chance out.",
)  # fmt: skip
@click.option("--journal", metavar="FILE", help="Instead: replay a session of this journal and compare everything.")
@click.option("--session", type=int, metavar="ID", help="With --journal: which session (default the last with events).")
def backtest(
    klines: str | None,
    from_ms: int | None,
    to_ms: int | None,
    bars: int | None,
    out: str | None,
    near_misses: int,
    pool: int,
    journal: str | None,
    session: int | None,
) -> None:
    """Run the strategy over history and report its results, claims next to measurements.

    With --journal the events of a live session are replayed: every decision, order and trade must be the same, a difference
    is printed as a bug report (exit code 1).
    """
    settings = settings_of()
    config = settings.load()
    if journal is not None:
        if klines or from_ms is not None or to_ms is not None or bars or out:
            raise ConfigError(
                "--journal replays a session's own events: leave --klines, --from, --to, --bars and --out out"
            )
        from bot.backtest.journal import replay_journal

        replayed = replay_journal(config, Path(journal), session=session)
        if settings.json:
            echo_json(replayed.as_dict())
        else:
            for line in replayed.lines():
                echo(line)
        raise SystemExit(1 if replayed.differences else 0)
    if session is not None:
        raise ConfigError("--session chooses a session of --journal FILE")
    from bot.backtest.data import prepare
    from bot.backtest.market import load_market
    from bot.backtest.near_misses import with_near_misses
    from bot.backtest.output import check_out, render, summary, write_report
    from bot.backtest.run import run_backtest
    from bot.report.progress import progress, say
    from bot.search.controls import run_controls

    if out is not None:
        check_out(Path(out))
    quiet = settings.quiet or settings.json
    market = load_market(config, Path(klines) if klines else None)
    for warning in market.warnings:
        say(f"warning: {warning}", quiet=quiet)
    began = process_time()
    total = len(market.base(config.data.symbols[0]))
    with progress("indicators", total, quiet=quiet) as advance:
        prepared = prepare(config, market, from_ms=from_ms, to_ms=to_ms, bars=bars, progress=advance)
    with progress("back-test", prepared.stop - prepared.first, quiet=quiet) as advance:
        result = run_backtest(
            config, market, signals_cache=prepared, profile=settings.profile or "alert", progress=advance
        )
    result = replace(result, seconds=process_time() - began, signals_cached=False)
    if out is not None:
        with progress("near misses", near_misses, quiet=quiet) as advance:
            result = with_near_misses(result, prepared, limit=near_misses, progress=advance)
        with progress("variants and random entries", 6, quiet=quiet) as advance:
            other = run_controls(result, market, prepared=prepared, pool=pool, progress=advance)
        told = write_report(result, Path(out), controls=other)
    else:
        told = summary(result)
    if settings.json:
        echo_json(told)
        return
    from bot.report.consoles import console

    console().print(render(told))
    if out is not None:
        echo(f"written to {out}: summary.json, trades.parquet, equity.parquet, funnel.json, report.html")
