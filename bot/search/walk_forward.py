"""Walk-forward analysis, which shows whether periodic re-optimisation would have helped.

For each slice: search on the `train` days before it and trade the unseen slice with the winner. It is compared with
today's settings on the same slice. The recipe requires an out-of-sample profit factor of 1.4, with slices of 90 days
after 270 (strategy 10), or the monthly form: 60 days of search for the 30 that follow (strategy 12).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import optuna
from optuna.storages import BaseStorage

from bot.backtest.market import BASE_MS, Market, load_market
from bot.config import Config
from bot.core.errors import BotError, ConfigError, DataMissing
from bot.core.times import DAY_MS, HOUR_MS, MINUTE_MS
from bot.report.page import plain
from bot.report.progress import progress as progress_bar
from bot.results import summary as metrics
from bot.results.backtest import Result
from bot.search.optimise import DONE, Found, Task, make_task, optimise, violation
from bot.search.space import Trier, factor_of, score_of, settings_of
from bot.search.storage import close_storage, open_storage
from bot.search.workers import Workers

TARGET_FACTOR: Final = 1.4


@dataclass(frozen=True, slots=True)
class Slice:
    """One step: the range searched and the range traded after it."""

    train_from_ms: int
    train_to_ms: int
    test_from_ms: int
    test_to_ms: int


def days_of(text: str, option: str) -> int:
    """Return a length such as `90d` in ms; ConfigError, naming `option`, if it is invalid.

    >>> days_of("90d", "--slice") // DAY_MS
    90
    """
    digits = text.removesuffix("d")
    if not digits.isdigit() or not 1 <= int(digits) <= 3650:
        raise ConfigError(f"{option} {text!r} is not a number of days such as 90d")
    return int(digits) * DAY_MS


def slices(from_ms: int, to_ms: int, *, train_ms: int, slice_ms: int, embargo_ms: int) -> list[Slice]:
    """Return the steps that fit into a range; the last slice may be shorter, but not below a third.

    Parameters
    ----------
    from_ms, to_ms
        The range, `to_ms` exclusive.
    train_ms, slice_ms
        Lengths of the range searched and of the slice after it.
    embargo_ms
        Left out at the beginning of each slice.

    >>> [(s.test_from_ms, s.test_to_ms) for s in slices(0, 100, train_ms=40, slice_ms=30, embargo_ms=1)]
    [(41, 70), (71, 100)]
    """
    found, at = [], from_ms + train_ms
    while at + slice_ms // 3 <= to_ms:
        end = min(at + slice_ms, to_ms)
        found.append(Slice(at - train_ms, at, at + embargo_ms, end))
        at += slice_ms
    return found


def tasks_of(
    config: Config,
    klines: Path,
    market: Market,
    *,
    train_ms: int,
    slice_ms: int,
    trials: int,
    storage: str | None = None,
    space: str = "all",
    seed: int = 7,
    from_ms: int | None = None,
    to_ms: int | None = None,
    min_trades: int = 20,
) -> list[Task]:
    """Return one search per slice; each is a separate study, so an interrupted walk resumes where it stopped.

    Parameters
    ----------
    klines
        Folder from which workers load `market` again.
    train_ms, slice_ms
        Lengths of the range searched and of the slice after it.
    trials
        Finished trials per slice.
    storage, space, seed, min_trades
        As in `make_task`.
    from_ms, to_ms
        Range of base bars by open time, `to_ms` exclusive.

    Raises
    ------
    DataMissing
        The range is too short for one slice; the message gives its length and what would fit.
    """
    bars = market.base(config.data.symbols[0]).between(from_ms, to_ms)
    if not len(bars):
        raise DataMissing(f"{market.source} has no bar of {config.data.symbols[0]} between --from and --to")
    first, end = int(bars.open_ms[0]), bars.end_ms
    embargo = 2 * HOUR_MS + round(config.trade.timeout_minutes * MINUTE_MS)
    cut = slices(first, end, train_ms=train_ms, slice_ms=slice_ms, embargo_ms=embargo)
    if not cut:
        raise DataMissing(
            f"{market.source}: {(end - first) / DAY_MS:.0f} days are too few for {train_ms // DAY_MS} days of search and "
            f"a slice of {slice_ms // DAY_MS}; use --monthly (60 and 30 days), or smaller --train and --slice"
        )
    whole = make_task(
        config,
        klines,
        market,
        trials=trials,
        storage=storage,
        space=space,
        seed=seed,
        from_ms=first,
        to_ms=end,
        holdout=0.0,
        min_trades=min_trades,
    )
    return [
        replace(
            whole,
            study=f"{whole.study}-{number + 1}of{len(cut)}-{s.train_from_ms}-{s.train_to_ms}",
            from_ms=s.train_from_ms,
            to_ms=s.train_to_ms,
            holdout_from_ms=s.test_from_ms,
            holdout_to_ms=s.test_to_ms,
        )
        for number, s in enumerate(cut)
    ]


def work(tasks: list[Task]) -> None:
    """Search the slices of one worker process."""
    market = load_market(tasks[0].config, Path(tasks[0].klines))
    for task in tasks:
        optimise(task, market, quiet=True).close()


def _count(tasks: list[Task], storage: BaseStorage) -> int:
    """Count finished trials over all slices."""
    known = {study.study_name for study in optuna.get_all_study_summaries(storage)}
    return sum(
        len(optuna.load_study(study_name=t.study, storage=storage).get_trials(deepcopy=False, states=DONE))
        for t in tasks
        if t.study in known
    )


def walk(tasks: list[Task], market: Market, *, jobs: int = 1, quiet: bool = False) -> dict[str, Any]:
    """Search every slice, trade the range after each, and return the report as plain values.

    Each slice is searched by one process with its own seeded sampler, so the result does not depend on `jobs`.

    Parameters
    ----------
    tasks
        Searches of the slices, from `tasks_of`.
    jobs
        Number of worker processes; 1 runs in this one.
    quiet
        Show no progress.

    Raises
    ------
    ConfigError
        `jobs` is below 1.
    BotError
        A worker failed; with its error message.
    """
    if jobs < 1:
        raise ConfigError(f"--jobs {jobs} must be at least 1")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    total = sum(task.trials for task in tasks)
    jobs = min(jobs, len(tasks))
    with progress_bar("walking forward", total, quiet=quiet) as advance:
        if jobs == 1:
            for number, task in enumerate(tasks):
                optimise(task, market, quiet=True).close()
                advance((number + 1) * task.trials)
        else:
            first = tasks[0]
            Trier(first.config, market, first.from_ms, first.from_ms + 700 * BASE_MS).score({})  # compile here
            storage = open_storage(first.storage)
            with Workers(work, [(tasks[number::jobs],) for number in range(jobs)]) as workers:
                for process in workers.processes:
                    while process.is_alive():
                        process.join(1.0)
                        advance(_count(tasks, storage))
            close_storage(storage)
            trouble = workers.failure()
            if trouble is not None:
                raise BotError(f"a worker of the walk failed: {trouble}")
    rows, unseen, plain_unseen = [], [], []
    for task in tasks:
        found = optimise(task, market, quiet=True)  # finished above, only opened here
        row, result, other = _judge(found, market)
        found.close()
        rows.append(row)
        unseen.append(result)
        plain_unseen.append(other)
    told = {
        "slices": rows,
        "target_profit_factor": TARGET_FACTOR,
        "trials": tasks[0].trials,
        "space": tasks[0].space,
        "min_trades": tasks[0].min_trades,
        "out_of_sample": _together(unseen),
        "today_out_of_sample": _together(plain_unseen),
    }
    told["sentences"] = sentences(told)
    return dict(plain(told))


def _judge(found: Found, market: Market) -> tuple[dict[str, Any], Result, Result]:
    task, winner = found.task, found.winner()
    unseen = Trier(task.config, market, task.holdout_from_ms, task.holdout_to_ms)
    result, other = unseen.run(winner.params), unseen.run({})
    inside, outside, today = winner.user_attrs["score"], score_of(result), score_of(other)
    row = {
        "train_from_ms": task.from_ms,
        "train_to_ms": task.to_ms,
        "from_ms": task.holdout_from_ms,
        "to_ms": task.holdout_to_ms,
        "feasible": violation(winner) <= 0,
        "in_sample": {n: inside[n] for n in ("profit_factor", "trades", "expectancy_r", "gross_r", "max_drawdown")},
        "out_of_sample": {
            n: getattr(outside, n) for n in ("profit_factor", "trades", "expectancy_r", "gross_r", "max_drawdown")
        },
        "today": {n: getattr(today, n) for n in ("profit_factor", "trades", "expectancy_r", "gross_r", "max_drawdown")},
        "settings": settings_of(winner.params),
    }
    return row, result, other


def _together(results: list[Result]) -> dict[str, Any]:
    """Return the figures of all slices' trades taken together."""
    tables = [result.table() for result in results]
    net = np.concatenate([t["net_r"] for t in tables])
    gross = np.concatenate([t["gross_r"] for t in tables])
    judged = np.concatenate([t["judged"] for t in tables])
    quote = np.concatenate([t["pnl"] for t in tables])
    return {**metrics.of_results(net, gross, judged), "profit_factor": factor_of(quote[judged])}


def sentences(told: Mapping[str, Any]) -> list[str]:
    """Return the outcome as sentences."""
    rows, unseen, today = told["slices"], told["out_of_sample"], told["today_out_of_sample"]
    kept = sum(row["out_of_sample"]["profit_factor"] >= TARGET_FACTOR for row in rows)
    found = sum(row["feasible"] for row in rows)
    lines = [
        f"{kept} of {len(rows)} slices reach an out-of-sample profit factor of {TARGET_FACTOR}; over all "
        f"{unseen['trades']} unseen trades it is {unseen['profit_factor']:.2f}, "
        f"today's settings make {today['profit_factor']:.2f} in {today['trades']}.",
    ]
    if unseen["expectancy_r"] is not None and today["expectancy_r"] is not None:
        lines.append(
            f"A trade makes {unseen['expectancy_r']:+.3f} R out of sample; with today's settings {today['expectancy_r']:+.3f} R."
        )
    if found < len(rows):
        lines.append(
            f"In {len(rows) - found} of {len(rows)} slices no setting kept both constraints on the days "
            "searched: the one that broke them least was traded."
        )
    return lines
