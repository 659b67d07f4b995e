"""Commands that test how far a back-test can be trusted: search, walk-forward, Monte-Carlo."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from bot.cli.base import command, echo, echo_json, klines_option, range_options, settings_of


def _space_option(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--space",
        default="all",
        show_default=True,
        metavar="NAMES",
        help="What may change: all, or some of strategy, exits, blocks, indicators.",
    )(function)


@command()
@klines_option(required=True)
@range_options
@click.option("--trials", type=int, default=200, show_default=True, help="Finished trials at which the study ends.")
@click.option(
    "--storage", metavar="URL", help="sqlite:///FILE, another SQLAlchemy URL, journal://FILE (default: SQLite)."
)
@click.option("--study", metavar="NAME", help="Name of the study (default: one for these data and settings).")
@click.option("--jobs", type=int, default=1, show_default=True, help="Worker processes.")
@_space_option
@click.option("--seed", type=int, default=7, show_default=True, help="Seed of the sampler.")
@click.option(
    "--holdout", type=float, default=0.3, show_default=True, help="Last part of the range, never searched on."
)
@click.option("--min-trades", type=int, default=30, show_default=True, help="Fewer make a trial infeasible.")
@click.option("--no-cache", is_flag=True, help="Compute all indicators anew in every trial (to measure).")
@click.option(
    "--pool", type=int, default=200, show_default=True, help="Random entries a side to compare with; 0: none."
)
@click.option("--out", metavar="DIR", help="Write optimise.html, optimise.json and winner.toml.")
def optimise(
    klines: str,
    from_ms: int | None,
    to_ms: int | None,
    trials: int,
    storage: str | None,
    study: str | None,
    jobs: int,
    space: str,
    seed: int,
    holdout: float,
    min_trades: int,
    no_cache: bool,
    pool: int,
    out: str | None,
) -> None:
    """Search for better settings; evaluate the winner on a hold-out period and list every reason to doubt it."""
    from bot.backtest.market import load_market
    from bot.search import optimise as search
    from bot.search.report import doubts, write_search

    settings = settings_of()
    config = settings.load()
    market = load_market(config, Path(klines))
    task = search.make_task(
        config,
        Path(klines),
        market,
        trials=trials,
        storage=storage,
        study=study,
        space=space,
        seed=seed,
        from_ms=from_ms,
        to_ms=to_ms,
        holdout=holdout,
        min_trades=min_trades,
        use_cache=not no_cache,
    )
    found = search.optimise(task, market, jobs=jobs, quiet=settings.quiet or settings.json)
    with closing(found):
        told = doubts(found, pool=pool)
        files = write_search(told, found, Path(out)) if out else []
    if settings.json:
        echo_json(told | {"files": [str(file) for file in files]})
        return
    rate = told["trials_per_second"] or 0.0
    echo(
        f"study {task.study}: {told['trials']} trials, {told['ran']} now in {told['seconds']:.0f} s ({rate:.2f} a second)"
    )
    for line in told["sentences"]:
        echo(line)
    for name, value in sorted(told["winner"]["settings"].items()):
        echo(f"  {name} = {value}")
    for file in files:
        echo(f"written: {file}")


@command()
@klines_option(required=True)
@range_options
@click.option("--slice", "slice_", default="90d", show_default=True, metavar="DAYS", help="Length of an unseen slice.")
@click.option("--train", default="270d", show_default=True, metavar="DAYS", help="Days searched on before each slice.")
@click.option("--monthly", is_flag=True, help="The monthly form: 60 days of search for the 30 that follow.")
@click.option("--trials", type=int, default=50, show_default=True, help="Trials a slice.")
@click.option("--storage", metavar="URL", help="As for optimise.")
@click.option("--jobs", type=int, default=1, show_default=True, help="Worker processes; the result is the same.")
@_space_option
@click.option("--seed", type=int, default=7, show_default=True, help="Seed of the sampler.")
@click.option("--min-trades", type=int, default=20, show_default=True, help="Fewer make a trial infeasible.")
@click.option("--out", metavar="DIR", help="Write walkforward.html and walkforward.json.")
def walkforward(
    klines: str,
    from_ms: int | None,
    to_ms: int | None,
    slice_: str,
    train: str,
    monthly: bool,
    trials: int,
    storage: str | None,
    jobs: int,
    space: str,
    seed: int,
    min_trades: int,
    out: str | None,
) -> None:
    """Repeat the search through time and evaluate each winner on the slice that follows."""
    import json

    from bot.backtest.market import load_market
    from bot.report.walk_forward_page import walk_forward_page
    from bot.search import walk_forward as walking
    from bot.search.report import write_whole

    settings = settings_of()
    config = settings.load()
    market = load_market(config, Path(klines))
    tasks = walking.tasks_of(
        config,
        Path(klines),
        market,
        train_ms=walking.days_of("60d" if monthly else train, "--train"),
        slice_ms=walking.days_of("30d" if monthly else slice_, "--slice"),
        trials=trials,
        storage=storage,
        space=space,
        seed=seed,
        from_ms=from_ms,
        to_ms=to_ms,
        min_trades=min_trades,
    )
    told = walking.walk(tasks, market, jobs=jobs, quiet=settings.quiet or settings.json)
    if out:
        content = {"walkforward.json": json.dumps(told, indent=2), "walkforward.html": walk_forward_page(told).html()}
        write_whole({Path(out) / name: text for name, text in content.items()})
    if settings.json:
        echo_json(told)
        return
    for row in told["slices"]:
        inside, outside, today = row["in_sample"], row["out_of_sample"], row["today"]
        echo(
            f"{_day(row['from_ms'])} to {_day(row['to_ms'])}: in sample PF {inside['profit_factor']:.2f} ({inside['trades']}), "
            f"out of sample {outside['profit_factor']:.2f} ({outside['trades']}), "
            f"today's settings {today['profit_factor']:.2f} ({today['trades']})"
        )
    for line in told["sentences"]:
        echo(line)


@command()
@click.argument("trades", metavar="TRADES")
@click.option("--runs", type=int, default=5_000, show_default=True, help="Histories drawn for each world.")
@click.option("--seed", type=int, default=7, show_default=True, help="Seed of the draws.")
@click.option("--out", metavar="DIR", help="Write montecarlo.html and montecarlo.json.")
def montecarlo(trades: str, runs: int, seed: int, out: str | None) -> None:
    """Resample TRADES (trades.parquet of a back-test): drawdowns, risk of ruin, and the effect of higher costs."""
    import json

    from bot.core.errors import ConfigError
    from bot.report.monte_carlo_page import monte_carlo_page, sentences
    from bot.search import monte_carlo as drawing
    from bot.search.report import write_whole

    settings = settings_of()
    config = settings.load()
    if runs < 100:
        raise ConfigError(f"--runs {runs} must be at least 100: quantiles of fewer histories say nothing")
    told = drawing.report(Path(trades), config, runs=runs, seed=seed)
    if out:
        content = {"montecarlo.json": json.dumps(told, indent=2), "montecarlo.html": monte_carlo_page(told).html()}
        write_whole({Path(out) / name: text for name, text in content.items()})
    if settings.json:
        echo_json(told)
        return
    for line in sentences(told):
        echo(line)
    echo("world                R a trade  end 5 %  median   95 %  fall 95 %   ruin")
    for world in told["simulations"]:
        end, fall = world["final_equity"], world["drawdown"]["0.95"]
        echo(
            f"{world['name']:20} {world['mean_r']:+9.3f} {end['0.05'] - 1:+8.0%} {end['0.5'] - 1:+7.0%} {end['0.95'] - 1:+6.0%} "
            f"{fall:10.0%} {world['ruin']:6.1%}"
        )


def _day(at_ms: int) -> str:
    from bot.core.times import utc

    return utc(at_ms)[:10]
