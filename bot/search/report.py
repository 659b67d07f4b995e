"""Report of a search with tests of its result: holdout, purged folds, overfitting, chance, importance.

The winner is proposed, never applied: `winner.toml` is a profile that a person may adopt after reading the page.
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from optuna.trial import FrozenTrial

from bot.core.times import HOUR_MS
from bot.report.page import plain
from bot.results import summary as metrics
from bot.results.backtest import Result
from bot.results.figures import profit_factor
from bot.search.chance import pool_of, searches_as_good
from bot.search.optimise import Found, task_of, violation
from bot.search.overfitting import Span, backtest_overfitting, deflated_sharpe, purged
from bot.search.space import MAX_DRAWDOWN, Trier, factor_of, score_of, settings_of

FOLDS: Final = 4
EMBARGO_MS: Final = HOUR_MS
MEASURES: Final = ("profit_factor", "max_drawdown", "trades", "expectancy_r", "gross_r")


def _short(figures: Mapping[str, Any]) -> dict[str, Any]:
    return {name: figures[name] for name in MEASURES}


def folds(result: Result, count: int = FOLDS) -> list[dict[str, Any]]:
    """Return the profit factor in R of the trades in each of `count` equal periods, purged and embargoed."""
    table = result.table()
    edges = np.linspace(result.from_ms, result.to_ms, count + 1).astype(np.int64).tolist()
    spans = [Span(a, b) for a, b in itertools.pairwise(edges)]
    rows = []
    for number, span in enumerate(spans):
        others = tuple(other for i, other in enumerate(spans) if i != number)
        mine = purged(table["signal_ms"], table["closed_ms"], span, neighbours=others, embargo_ms=EMBARGO_MS)
        net = table["net_r"][mine & table["judged"]]
        rows.append(
            {
                "from_ms": span.from_ms,
                "to_ms": span.to_ms,
                "trades": len(net),
                "profit_factor_r": profit_factor(net),
                "expectancy_r": float(net.mean()) if len(net) else None,
            }
        )
    return rows


def importance(found: Found) -> dict[str, float]:
    """Return the importance of each setting for reaching the best tenth of the trials (PED-ANOVA), largest first."""
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator

    done = found.done
    if len(done) < 10 or len({trial.value for trial in done}) < 3:
        return {}
    shared = set.intersection(*(set(trial.params) for trial in done))
    varied = sorted(name for name in shared if len({str(trial.params[name]) for trial in done}) > 1)
    if not varied:
        return {}
    values = optuna.importance.get_param_importances(
        found.study, evaluator=PedAnovaImportanceEvaluator(evaluate_on_local=True), params=varied
    )
    return {name: float(value) for name, value in values.items()}


def chance_of(found: Found, winner: FrozenTrial, trier: Trier, *, pool: int, searches: int = 1_000) -> dict[str, float]:
    """Return how many equal searches over random entries find a profit factor (in R) as good as the winner's.

    Random entries are simulated under the settings of up to three trials spread over the search, including the winner.

    Parameters
    ----------
    trier
        Runs trials over the range of the search.
    pool
        Random entries per side and trial.
    searches
        Random searches drawn.

    Returns
    -------
    dict
        Figures of `searches_as_good`; empty if the pools hold no filled entry of a side.
    """
    counted = found.feasible() or found.done
    others = [trial for trial in counted if trial.number != winner.number]
    spread = [others[i] for i in {len(others) // 3, 2 * len(others) // 3} if i < len(others)]
    pools, best = [], 0.0
    for trial in [winner, *spread]:
        result = trier.run(trial.params)
        if trial.number == winner.number:
            table = result.table()
            best = factor_of(table["net_r"][table["judged"]])
        if not result.geometry:
            continue
        made = pool_of(result.config, trier.cache.prepared(result.config), result, count=pool)
        if len(made.of(1)) and len(made.of(-1)):
            pools.append(made)
    if not pools:
        return {}
    sizes = [(t.user_attrs["score"]["longs"], t.user_attrs["score"]["shorts"]) for t in counted]
    return searches_as_good(best, sizes, pools, searches=searches)


def doubts(found: Found, *, pool: int = 200) -> dict[str, Any]:
    """Return the report of a search as plain values."""
    task, done, winner = found.task, found.done, found.winner()
    trier = Trier(task.config, found.market, task.from_ms, task.to_ms)
    best = trier.run(winner.params)
    scores = [trial.user_attrs["score"] for trial in done]
    ratios = np.array([np.nan if score["sharpe"] is None else score["sharpe"] for score in scores])
    deflated = deflated_sharpe(np.array(winner.user_attrs["score"]["daily_r"]), ratios, trials=len(done))
    # Only feasible settings: one with a few lucky trades wins most halves and is never proposed.
    feasible = found.feasible()
    eligible = feasible or done
    days = np.array([trial.user_attrs["score"]["daily_r"] for trial in eligible])
    fits = backtest_overfitting(days.T) if len(eligible) > 1 else None
    told: dict[str, Any] = {
        "task": task_of(found),
        "trials": len(done),
        "feasible": len(feasible),
        "seconds": found.seconds,
        "ran": found.ran,
        "trials_per_second": found.ran / found.seconds if found.seconds > 0 else None,
        "cache": found.cache,
        "winner": {
            "number": winner.number,
            "feasible": violation(winner) <= 0,
            "settings": settings_of(winner.params),
            "train": _short(winner.user_attrs["score"]),
            "train_figures": metrics.of_results(*_columns(best)),
            "folds": folds(best),
        },
        "default": {"train": _short(score_of(trier.run({})).as_dict())},
        "deflated_sharpe": {
            "sharpe_daily": deflated.sharpe,
            "expected_best_of_chance": deflated.expected_best,
            "probability": deflated.probability,
            "observations": deflated.observations,
            "trials": deflated.trials,
        },
        "overfitting": None
        if fits is None
        else {
            "probability": fits.probability,
            "loss_probability": fits.loss_probability,
            "degradation": fits.degradation,
            "splits": fits.splits,
            "settings": fits.settings,
            "feasible": bool(feasible),
            "days": fits.observations,
        },
        "chance": chance_of(found, winner, trier, pool=pool) if pool else {},
        "importance": importance(found),
        "best": [
            {"number": t.number, "feasible": violation(t) <= 0, **_short(t.user_attrs["score"]), "settings": t.params}
            for t in sorted(done, key=lambda t: (violation(t), -(t.value or 0.0)))[:10]
        ],
        "history": [
            {
                "number": t.number,
                "value": t.value,
                "feasible": violation(t) <= 0,
                "trades": t.user_attrs["score"]["trades"],
            }
            for t in done
        ],
    }
    if task.holdout_to_ms > task.holdout_from_ms:
        unseen = Trier(task.config, found.market, task.holdout_from_ms, task.holdout_to_ms)
        result = unseen.run(winner.params)
        told["winner"]["holdout"] = _short(score_of(result).as_dict())
        told["winner"]["holdout_figures"] = metrics.of_results(*_columns(result))
        told["default"]["holdout"] = _short(score_of(unseen.run({})).as_dict())
    told["sentences"] = sentences(told)
    return dict(plain(told))


def _columns(result: Result) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    table = result.table()
    return table["net_r"], table["gross_r"], table["judged"]


def sentences(told: Mapping[str, Any]) -> list[str]:
    """Return the outcome as sentences, a violated constraint first."""
    winner, lines = told["winner"], []
    train = winner["train"]
    if not winner["feasible"]:
        lines.append(
            f"No setting of {told['trials']} kept both constraints (fall below {MAX_DRAWDOWN:.0%}, at least "
            f"{told['task']['min_trades']} trades): the one shown breaks them least and is no proposal."
        )
    lines.append(
        f"Best of {told['trials']} trials: profit factor {train['profit_factor']:.2f} in {train['trades']} trades, "
        f"{train['expectancy_r']:+.3f} R a trade, fall {train['max_drawdown']:.1%}."
    )
    if "holdout" in winner:
        held, plain_one = winner["holdout"], told["default"]["holdout"]
        lines.append(
            f"On the part it never saw: profit factor {held['profit_factor']:.2f} in {held['trades']} trades, "
            f"{held['expectancy_r']:+.3f} R a trade (today's settings there: {plain_one['profit_factor']:.2f} and "
            f"{plain_one['expectancy_r']:+.3f} R)."
        )
    probability = told["deflated_sharpe"]["probability"]
    if probability == probability and probability is not None:
        lines.append(f"Deflated Sharpe ratio: {probability:.0%} that its true Sharpe ratio is above what luck gives.")
    fits = told["overfitting"]
    if fits is not None and fits["splits"]:
        lines.append(
            f"Probability of overfitting {fits['probability']:.0%}: share of {fits['splits']:,} ways to halve the days in which "
            f"the winner of one half is no better than the median on the other, over the {fits['settings']} settings "
            + ("that keep both constraints." if fits["feasible"] else "tried, of which none keeps both constraints.")
        )
    elif told["feasible"] == 1:
        lines.append("No probability of overfitting: only one setting keeps both constraints.")
    if told["chance"]:
        lines.append(
            f"{told['chance']['share_as_good']:.0%} of equal searches over random entries do as well (their median best: "
            f"{told['chance']['median_best_of_chance']:.2f})."
        )
    return lines


def winner_toml(told: Mapping[str, Any]) -> str:
    """Return the winner as a profile for `config.toml`: proposed, never applied."""
    sections: dict[str, dict[str, Any]] = {}
    for name, value in sorted(told["winner"]["settings"].items()):
        path, _, key = name.rpartition(".")
        sections.setdefault(path, {})[key] = value
    lines = [f"# {line}" for line in told["sentences"]]
    for path, values in sections.items():
        lines.append(f"\n[profile.found.{path}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    return "\n".join(lines) + "\n"


def write_search(told: Mapping[str, Any], found: Found, out: Path) -> list[Path]:
    """Write `optimise.json`, `optimise.html` and `winner.toml`, all or none."""
    from bot.report.search_page import search_page

    page = search_page(told, contours(found, list(told["importance"])[:3]))
    files = {
        out / "optimise.json": json.dumps(told, indent=2),
        out / "optimise.html": page.html(),
        out / "winner.toml": winner_toml(told),
    }
    return write_whole(files)


def write_whole(files: Mapping[Path, str]) -> list[Path]:
    """Write several files, all or none; folders created for them are removed on failure."""
    made: list[Path] = []
    folders: list[Path] = []
    try:
        for path, content in files.items():
            if not path.parent.is_dir():
                path.parent.mkdir(parents=True)
                folders.append(path.parent)
            temporary = path.with_name(f".{path.name}.tmp")
            made.append(temporary)
            temporary.write_text(content, encoding="utf-8")
        for temporary, path in zip(made, files, strict=True):
            temporary.replace(path)
    except OSError:
        for temporary in made:
            temporary.unlink(missing_ok=True)
        for folder in folders:
            folder.rmdir()
        raise
    return list(files)


def contours(found: Found, names: Sequence[str]) -> dict[str, Any] | None:
    """Return a contour figure of the most important settings against each other, as plain plotly values."""
    if len(names) < 2 or len(found.done) < 10:
        return None
    from optuna.visualization import plot_contour

    figure = plot_contour(found.study, params=list(names), target_name="profit factor")
    return dict(json.loads(figure.to_json()))
