"""Measure the strategy on the klines next to the repository: all numbers of `docs/findings.md`.

`python -m tools.findings --klines DIR --out FILE` (or `make findings`) runs all profiles over both markets, with and
without hedge and costs, compares with random entries, optimises on the first part of one market and evaluates on the
rest and on the other, runs a walk-forward, and writes the figures as JSON and the tables as Markdown. Nothing is tuned
on the data that it is evaluated on.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click
import numpy as np

from bot.backtest.data import prepare
from bot.backtest.market import Market, load_market
from bot.backtest.near_misses import with_near_misses
from bot.backtest.run import run_backtest
from bot.config import Config, parse
from bot.core.times import DAY_MS
from bot.report.page import plain
from bot.report.progress import say
from bot.results import summary as metrics
from bot.results.backtest import Result
from bot.results.figures import interval
from bot.results.summary import report_figures
from bot.search import monte_carlo, optimise, walk_forward
from bot.search.chance import against_chance, pool_of
from bot.search.controls import figures_of, hedge_truth, variants_of, with_values, without_legs
from bot.search.report import doubts
from bot.search.runs import changed
from bot.search.space import score_of, settings_of
from tools.findings_tables import filled_in

PROFILES: Final = ("alert", "document", "headline", "creator")
MARKETS: Final = {"spot": "spot 3m, December 2022 to June 2023", "um": "perpetuals 3m, May to June 2025"}
POOL: Final = 600
NEAR: Final = 400


def profile_rows(config: Config, market: Market, profile: str, *, pool: int) -> tuple[dict[str, Any], Result]:
    """Return all figures of one profile on one market, and its result.

    Parameters
    ----------
    config
        The configuration with the profile applied.
    market
        The klines and funding.
    profile
        Name of the profile.
    pool
        Random entries per side to compare with; 0 for none.
    """
    kept = prepare(config, market)
    result = run_backtest(config, market, signals_cache=kept, profile=profile)
    rows = [figures_of("as configured", "", result)]
    truth: dict[str, Any] = {}
    for name, note, values in variants_of(config):
        changed = with_values(config, values)
        cache = kept if changed.hedge.enabled else without_legs(kept)
        other = run_backtest(changed, market, signals_cache=cache, profile=profile)
        rows.append(figures_of(name, note, other))
        if name == "without the hedge":
            truth = hedge_truth(result, other)
    table = result.table()
    chance = None
    if len(result.trades) >= 5 and pool:
        entries = pool_of(config, kept, result, count=pool)
        found = against_chance(table["net_r"], table["gross_r"], table["side"], entries)
        chance = found.as_dict() if found else None
    told = {
        "figures": report_figures(result),
        "variants": rows,
        "hedge": truth,
        "chance": chance,
        "needed": metrics.needed_costs(rows[0]["gross_expectancy_r"], metrics.costs(table)) if result.trades else None,
        "exits": metrics.groups(table, table["exit_reason"].tolist()),
        "sides": metrics.groups(table, ["long" if s > 0 else "short" for s in table["side"].tolist()]),
        "regimes": {
            name: metrics.groups(table, keys, wanted)
            for (name, keys), wanted in zip(
                metrics.regimes(result).items(), (metrics.VOLATILITIES, metrics.TRENDS), strict=True
            )
        }
        if result.trades
        else {},
        "data_hash": result.data_hash,
        "from_ms": result.from_ms,
        "to_ms": result.to_ms,
    }
    return told, result


def near_rows(config: Config, market: Market, result: Result, *, limit: int) -> dict[str, Any]:
    """Return the simulated results of near misses, by the missing condition.

    Parameters
    ----------
    config
        The configuration.
    market
        The klines and funding.
    result
        The back-test whose near misses are simulated.
    limit
        Largest number of near misses to simulate.
    """
    made = with_near_misses(result, prepare(config, market), limit=limit)
    found: dict[str, Any] = {}
    for name in sorted({miss.missing for miss in made.near_misses}):
        group = [miss for miss in made.near_misses if miss.missing == name]
        trades = [miss.trade for miss in group if miss.trade is not None]
        net, gross = np.array([t.net_r for t in trades]), np.array([t.gross_r for t in trades])
        found[name] = {
            "bars": len(group),
            "simulated": len(trades),
            "net_r": float(net.mean()) if len(net) else None,
            "net_r_95": interval(net),
            "gross_r": float(gross.mean()) if len(gross) else None,
        }
    return found


def search_rows(
    config: Config, folder: Path, markets: dict[str, Market], *, trials: int, storage: str
) -> dict[str, Any]:
    """Optimise on the first 70 % of the spot months; evaluate the winner on the rest of them and on the other market.

    With one worker: a search by several depends on which finishes first, and finds another winner each time.

    Parameters
    ----------
    config
        The configuration to start from.
    folder
        Folder of the market folders.
    markets
        The loaded markets by name.
    trials
        Number of trials.
    storage
        URL of the study's database.
    """
    market = markets["spot"]
    task = optimise.make_task(config, folder / "spot", market, trials=trials, storage=storage)
    found = optimise.optimise(task, market, jobs=1)
    told = doubts(found)
    winner = with_values(config, settings_of(found.winner().params))
    told["winner"]["changes"] = changed(config, settings_of(found.winner().params))
    other = run_backtest(winner, markets["um"], profile="found")
    told["winner"]["other_market"] = score_of(other).as_dict() | {"daily_r": None}
    told["winner"]["other_market_figures"] = metrics.of_results(
        other.table()["net_r"], other.table()["gross_r"], other.table()["judged"]
    )
    found.close()
    return told


def measure(
    klines: Path, text: str, *, trials: int, walk_trials: int, jobs: int, pool: int, near: int, storage: str
) -> dict[str, Any]:
    """Return all figures of the findings.

    Parameters
    ----------
    klines
        Folder of the market folders.
    text
        The configuration as TOML.
    trials, walk_trials
        Trials of the search, and of each walk-forward slice.
    jobs
        Worker processes of the walk-forward.
    pool
        Random entries per side.
    near
        Largest number of near misses to simulate.
    storage
        URL of the studies' database.
    """
    configs = {name: parse(text, profile=name) for name in PROFILES}
    markets = {name: load_market(configs["alert"], klines / name) for name in MARKETS}
    told: dict[str, Any] = {"profiles": {}, "markets": MARKETS}
    for place, market in markets.items():
        told["profiles"][place] = {}
        for name, config in configs.items():
            say(f"{place}: profile {name}")
            rows, result = profile_rows(config, market, name, pool=pool)
            if name == "alert":
                rows["near"] = near_rows(config, market, result, limit=near)
                sizing = monte_carlo.sizing_of(config)
                columns = {n: c for n, c in result.table().items() if c.dtype == np.float64 and np.isfinite(c).all()}
                studies = monte_carlo.study(
                    result.table()["net_r"], sizing, columns=columns, prices=monte_carlo.prices_of(config)
                )
                rows["monte_carlo"] = [replace(s, fan={}).as_dict() for s in studies]
            told["profiles"][place][name] = rows
    say("search")
    told["search"] = search_rows(configs["alert"], klines, markets, trials=trials, storage=storage)
    say("walk-forward, monthly")
    day = DAY_MS
    tasks = walk_forward.tasks_of(
        configs["alert"],
        klines / "spot",
        markets["spot"],
        train_ms=60 * day,
        slice_ms=30 * day,
        trials=walk_trials,
        storage=storage,
    )
    told["walk"] = walk_forward.walk(tasks, markets["spot"], jobs=jobs)
    return dict(plain(told))


@click.command()
@click.option("--klines", required=True, metavar="DIR", help="Folder with the folders spot, um and funding.")
@click.option("--config", default="config.toml", show_default=True, metavar="FILE", help="Settings and profiles.")
@click.option("--out", default="docs/findings.md", show_default=True, metavar="FILE", help="Document to fill in.")
@click.option("--json", "figures", metavar="FILE", help="Also write every figure here.")
@click.option("--from-json", metavar="FILE", help="Take the figures from here instead of measuring.")
@click.option("--trials", default=200, show_default=True, help="Trials of the search.")
@click.option("--walk-trials", default=40, show_default=True, help="Trials of each walk-forward slice.")
@click.option("--jobs", default=2, show_default=True, help="Worker processes.")
@click.option("--pool", default=POOL, show_default=True, help="Random entries a side.")
@click.option("--near", default=NEAR, show_default=True, help="Near misses simulated.")
@click.option(
    "--storage", default="sqlite://", metavar="URL", help="Storage of the searches (default: in a temporary folder)."
)
def main(
    klines: str,
    config: str,
    out: str,
    figures: str | None,
    from_json: str | None,
    trials: int,
    walk_trials: int,
    jobs: int,
    pool: int,
    near: int,
    storage: str,
) -> None:
    """Measure the findings and fill them into the document."""
    import tempfile

    if from_json:
        told = json.loads(Path(from_json).read_text(encoding="utf-8"))
    else:
        with tempfile.TemporaryDirectory() as folder:
            place = f"sqlite:///{folder}/studies.db" if storage == "sqlite://" else storage
            told = measure(
                Path(klines),
                Path(config).read_text(encoding="utf-8"),
                trials=trials,
                walk_trials=walk_trials,
                jobs=jobs,
                pool=pool,
                near=near,
                storage=place,
            )
    if figures:
        Path(figures).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    document = Path(out).read_text(encoding="utf-8")
    Path(out).write_text(filled_in(document, told), encoding="utf-8")
    say(f"{out} filled in")


if __name__ == "__main__":
    main()
