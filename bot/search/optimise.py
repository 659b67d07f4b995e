"""Search for better settings with Optuna.

Optuna's TPE sampler proposes settings; each trial is a back-test of the first part of the range. The last part
(`holdout`) is never shown to the search and only evaluates its winner. Trials are kept in a storage (SQLite by default;
any Optuna RDB URL, or `journal://FILE`), so a search resumes where it stopped and several machines may share it. With
one job the same seed gives the same trials; with several, the sampler depends on the order in which trials finish.
"""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import optuna
from optuna.samplers import TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from bot.backtest.market import BASE_MS, Market, load_market
from bot.config import Config
from bot.core.errors import BotError, ConfigError, DataMissing
from bot.core.redact import redact_addresses
from bot.core.times import HOUR_MS, MINUTE_MS
from bot.market import store
from bot.report.progress import progress as progress_bar
from bot.search.space import MAX_DRAWDOWN, Choice, Range, Trier, space_of, suggest
from bot.search.storage import close_storage, default_storage, open_storage
from bot.search.workers import Workers

DONE: Final = (TrialState.COMPLETE,)


@dataclass(frozen=True, slots=True)
class Task:
    """Definition of one search, shared by all workers on all machines.

    Attributes
    ----------
    trials : int
        Number of finished trials in the study at which the search ends.
    from_ms, to_ms : int
        Range of the trials.
    holdout_from_ms, holdout_to_ms : int
        Range that the trials never see, empty for none. An embargo separates it from theirs, so that no trade of one
        touches a bar of the other.
    """

    klines: str
    config: Config
    storage: str
    study: str
    trials: int
    space: str
    seed: int
    from_ms: int
    to_ms: int
    holdout_from_ms: int
    holdout_to_ms: int
    min_trades: int
    use_cache: bool = True

    @property
    def ranges(self) -> dict[str, Range]:
        """The searched settings and their ranges."""
        return space_of(self.space)


@dataclass(slots=True)
class Found:
    """A finished search: its task, study, market and duration."""

    task: Task
    study: Study
    market: Market
    seconds: float
    ran: int  # trials run by this call
    cache: dict[str, int] = field(default_factory=dict)

    @property
    def done(self) -> list[FrozenTrial]:
        """All finished trials, by number."""
        return self.study.get_trials(deepcopy=False, states=DONE)

    def close(self) -> None:
        """Close the storage's connections; reading the study reopens them."""
        close_storage(self.study._storage)

    def feasible(self) -> list[FrozenTrial]:
        """Return the finished trials that satisfy both constraints."""
        return [trial for trial in self.done if violation(trial) <= 0]

    def winner(self) -> FrozenTrial:
        """Return the best feasible trial; if there is none, the one with the smallest violation."""
        feasible = self.feasible()
        if feasible:
            return max(feasible, key=lambda t: (t.value or 0.0, -t.number))
        return min(self.done, key=lambda t: (violation(t), -(t.value or 0.0), t.number))


def violation(trial: FrozenTrial) -> float:
    """Return the sum of a trial's constraint violations, each as a share of its limit; 0 if it is feasible."""
    attrs = trial.user_attrs["score"]
    deep = max(0.0, attrs["max_drawdown"] / MAX_DRAWDOWN - 1.0)
    if attrs["max_drawdown"] >= MAX_DRAWDOWN:
        deep = max(deep, 1e-9)
    few = max(0.0, 1.0 - attrs["trades"] / attrs["min_trades"]) if attrs["min_trades"] else 0.0
    return float(deep + few)


def fingerprint(config: Config, market: Market, *, from_ms: int, to_ms: int, space: str, min_trades: int) -> str:
    """Return the identity of a study as twelve hex digits: same data, settings, range and space give the same study.

    The data are everything that a trial reads: 3m bars from the warm-up on, 1m bars where available, and funding.

    Parameters
    ----------
    from_ms, to_ms
        Range of the trials, `to_ms` exclusive.
    space
        Names of the searched spaces, as in `space_of`.
    min_trades
        Constraint on the number of trades.
    """
    warm_ms = from_ms - config.data.history_bars * BASE_MS
    series = [
        bars.between(warm_ms, to_ms)
        for symbol in config.data.symbols
        for interval in ("3m", "1m")
        if (bars := market.bars[symbol].get(interval)) is not None
    ]
    funding = ((symbol, market.funding.get(symbol)) for symbol in config.data.symbols)
    paid = {symbol: rates.payments(from_ms, to_ms) for symbol, rates in funding if rates is not None}
    told = [store.data_hash(*series), paid, config.model_dump_json(), from_ms, to_ms, space, min_trades]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]


def sampler_of(seed: int) -> TPESampler:
    """Return the seeded sampler; running trials count as bad, so that workers do not sample the same region."""
    return TPESampler(seed=seed, constant_liar=True, n_startup_trials=20)


def defaults_of(config: Config, space: dict[str, Range]) -> dict[str, Any]:
    """Return the current settings as trial values where they lie in the space: the first trial of every search."""
    values: dict[str, Any] = {}
    dumped = config.model_dump()
    for name, choice in space.items():
        if name == "strategy.gate":
            closed = [gate for gate, on in config.strategy.gates.model_dump().items() if on]
            if len(closed) < 2 and (not closed or closed[0] in getattr(choice, "values", ())):
                values[name] = closed[0] if closed else "none"
            continue
        value: Any = dumped
        for part in name.split("."):
            value = value[part]
        if name == "trade.tp2_r":
            value = value - config.trade.tp1_r if "trade.tp1_r" in space else value
        inside = value in choice.values if isinstance(choice, Choice) else choice.low <= value <= choice.high
        if inside:
            values[name] = value
    return values


def objective_of(trier: Trier, task: Task) -> Callable[[Trial], float]:
    """Return the objective function that Optuna calls for each trial."""
    space = task.ranges

    def objective(trial: Trial) -> float:
        began = time.perf_counter()
        score = trier.score(suggest(trial, space))
        trial.set_constraint("max_drawdown", score.max_drawdown - MAX_DRAWDOWN)
        trial.set_constraint("trades", float(task.min_trades - score.trades))
        told = {name: value if value == value else None for name, value in score.as_dict().items()}  # NaN is no JSON
        told |= {"min_trades": task.min_trades, "seconds": round(time.perf_counter() - began, 4)}
        trial.set_user_attr("score", told)
        return score.profit_factor

    return objective


def _stopper(trials: int, told: Callable[[int], None] | None = None) -> Callable[[Study, FrozenTrial], None]:
    def stop(study: Study, _trial: FrozenTrial) -> None:
        done = len(study.get_trials(deepcopy=False, states=DONE))
        if told is not None:
            told(done)
        if done >= trials:
            study.stop()

    return stop


def work(task: Task, number: int) -> None:
    """Run trials in one worker process until the study has enough."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    market = load_market(task.config, Path(task.klines))
    trier = Trier(task.config, market, task.from_ms, task.to_ms, use_cache=task.use_cache)
    study = optuna.load_study(
        study_name=task.study, storage=open_storage(task.storage), sampler=sampler_of(task.seed + 1000 * number)
    )
    study.optimize(objective_of(trier, task), callbacks=[_stopper(task.trials)])
    close_storage(study._storage)


def make_task(
    config: Config,
    klines: Path,
    market: Market,
    *,
    trials: int,
    storage: str | None = None,
    study: str | None = None,
    space: str = "all",
    seed: int = 7,
    from_ms: int | None = None,
    to_ms: int | None = None,
    holdout: float = 0.3,
    min_trades: int = 30,
    use_cache: bool = True,
) -> Task:
    """Split the range into search and holdout, and name the study by its fingerprint.

    Parameters
    ----------
    klines
        Folder from which workers load `market` again.
    trials
        Number of finished trials at which the search ends.
    storage, study
        URL of the storage and name of the study; defaults if None.
    space
        Names of the searched spaces, as in `space_of`.
    seed
        Seed of the sampler.
    from_ms, to_ms
        Range of base bars by open time, `to_ms` exclusive.
    holdout
        Share of the range, at its end, that the search never sees.
    min_trades
        Trials with fewer trades are infeasible.
    use_cache
        Share indicator results between trials.

    Raises
    ------
    ConfigError
        A number is out of range.
    DataMissing
        Fewer than 1000 bars lie in the range.
    """
    if trials < 1:
        raise ConfigError(f"--trials {trials} must be at least 1")
    if not 0 <= holdout < 0.9:
        raise ConfigError(f"--holdout {holdout:g} must be at least 0 and below 0.9")
    if min_trades < 1:
        raise ConfigError(f"--min-trades {min_trades} must be at least 1")
    bars = market.base(config.data.symbols[0]).between(from_ms, to_ms)
    if len(bars) < 1_000:
        raise DataMissing(f"{market.source}: {len(bars)} bars between --from and --to are too few to search on")
    first, end = int(bars.open_ms[0]), bars.end_ms
    cut = first + round((end - first) * (1 - holdout) / BASE_MS) * BASE_MS
    embargo = 2 * HOUR_MS + round(config.trade.timeout_minutes * MINUTE_MS)
    name = fingerprint(config, market, from_ms=first, to_ms=cut, space=space, min_trades=min_trades)
    return Task(
        klines=str(klines),
        config=config,
        storage=storage or default_storage(),
        study=study or f"bot-{name}",
        trials=trials,
        space=space,
        seed=seed,
        from_ms=first,
        to_ms=cut,
        holdout_from_ms=min(cut + embargo, end) if holdout else end,
        holdout_to_ms=end,
        min_trades=min_trades,
        use_cache=use_cache,
    )


def open_study(task: Task, name: str) -> Study:
    """Create or resume the study.

    Raises
    ------
    ConfigError
        A study of this name has another fingerprint.
    """
    space = task.ranges
    study = optuna.create_study(
        study_name=task.study,
        storage=open_storage(task.storage),
        sampler=sampler_of(task.seed),
        direction="maximize",
        load_if_exists=True,
    )
    about = study.user_attrs.get("about")
    if about is None:
        study.set_user_attr("about", name)
        values = defaults_of(task.config, space)
        if values:
            study.enqueue_trial(values, skip_if_exists=True)
    elif about != name:
        raise ConfigError(
            f"the study {task.study!r} searched other data or settings: give another --study, or leave the name out"
        )
    return study


def optimise(task: Task, market: Market, *, jobs: int = 1, quiet: bool = False) -> Found:
    """Run a search to its number of trials and return it.

    Parameters
    ----------
    jobs
        Number of worker processes; 1 runs in this one.
    quiet
        Show no progress.

    Raises
    ------
    ConfigError
        `jobs` is below 1, or the study has another fingerprint.
    BotError
        A worker failed; with its error message.
    """
    if jobs < 1:
        raise ConfigError(f"--jobs {jobs} must be at least 1")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    about = fingerprint(
        task.config,
        market,
        from_ms=task.from_ms,
        to_ms=task.to_ms,
        space=task.space,
        min_trades=task.min_trades,
    )
    study = open_study(task, about)
    before = len(study.get_trials(deepcopy=False, states=DONE))
    began = time.perf_counter()
    cache: dict[str, int] = {}
    if before < task.trials:
        with progress_bar("searching", task.trials, quiet=quiet) as advance:
            if jobs == 1:
                trier = Trier(task.config, market, task.from_ms, task.to_ms, use_cache=task.use_cache)
                study.optimize(objective_of(trier, task), callbacks=[_stopper(task.trials, advance)])
                cache = {"hits": trier.cache.kept.hits, "misses": trier.cache.kept.misses}
            else:
                _with_workers(task, market, study, jobs=jobs, advance=advance)
    done = len(study.get_trials(deepcopy=False, states=DONE))
    return Found(task, study, market, time.perf_counter() - began, done - before, cache)


def _with_workers(task: Task, market: Market, study: Study, *, jobs: int, advance: Callable[[int], None]) -> None:
    Trier(task.config, market, task.from_ms, min(task.to_ms, task.from_ms + 700 * BASE_MS)).score({})  # compile here
    with Workers(work, [(task, number) for number in range(jobs)]) as workers:
        while workers.alive:
            time.sleep(0.25)
            advance(len(study.get_trials(deepcopy=False, states=DONE)))
            trouble = workers.failure()
            if trouble is not None:
                raise BotError(f"a worker of the search failed: {trouble}")
    trouble = workers.failure() if workers.processes else None
    if trouble is not None:
        raise BotError(f"a worker of the search failed: {trouble}")


def task_of(found: Found) -> dict[str, Any]:
    """Return the task as plain values, for the report."""
    told = asdict(found.task) | {"config": None, "storage": redact_addresses(found.task.storage)}
    del told["config"]
    return told
