"""The search: repeatable, resumable, shared by workers, and honest about what it found."""

import json
import os
import shutil
import socket
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from bot.backtest.market import load_market
from bot.cli.main import cli
from bot.config import Config, parse
from bot.core.errors import ConfigError, DataMissing
from bot.market.synthetic import write_market
from bot.search import optimise as o
from bot.search import report as search_report
from bot.search import space as search
from bot.search import walk_forward
from bot.search.overfitting import backtest_overfitting
from bot.search.storage import open_storage

LOOSE = (
    "strategy.min_rating=1",
    "strategy.tap_window=10",
    "strategy.min_dominance=50",
    "strategy.min_rank=0",
    "strategy.trail_mode=price",
    "strategy.htf_source=pac",
)
POSTGRES = Path("/usr/lib/postgresql/15/bin")


@pytest.fixture(scope="module")
def klines(tmp_path_factory):
    folder = tmp_path_factory.mktemp("klines")
    write_market(folder, 20, 3)
    return folder


@pytest.fixture(scope="module")
def config():
    return parse("", overrides=LOOSE)


@pytest.fixture(scope="module")
def market(klines, config):
    return load_market(config, klines)


def task(config, klines, market, storage, **more):
    given = {"trials": 5, "space": "strategy,exits", "min_trades": 3, "holdout": 0.25} | more
    return o.make_task(config, klines, market, storage=storage, **given)


def params(found):
    return [(t.params, t.value) for t in found.done]


def test_today_s_settings_are_the_first_trial_and_a_seed_repeats_the_rest(config, klines, market, tmp_path):
    first = o.optimise(task(config, klines, market, f"sqlite:///{tmp_path}/a.db"), market, quiet=True)
    second = o.optimise(task(config, klines, market, f"sqlite:///{tmp_path}/b.db"), market, quiet=True)

    assert params(first) == params(second)
    assert first.done[0].params["strategy.min_rating"] == 1
    assert first.done[0].params["trade.tp2_r"] == 0.5  # its distance beyond the first target
    assert first.ran == 5


def test_a_search_goes_on_where_it_stopped(config, klines, market, tmp_path):
    storage = f"journal://{tmp_path}/study.log"

    begun = o.optimise(task(config, klines, market, storage, trials=2), market, quiet=True)
    before = params(begun)
    ended = o.optimise(task(config, klines, market, storage, trials=4), market, quiet=True)
    idle = o.optimise(task(config, klines, market, storage, trials=4), market, quiet=True)

    assert (begun.ran, ended.ran, idle.ran) == (2, 2, 0)
    assert params(ended)[:2] == before


def test_a_study_of_other_data_is_refused(config, klines, market, tmp_path):
    storage = f"sqlite:///{tmp_path}/a.db"
    o.optimise(task(config, klines, market, storage, study="mine", trials=1), market, quiet=True)

    with pytest.raises(ConfigError, match="'mine' searched other data or settings"):
        o.optimise(task(config, klines, market, storage, study="mine", trials=1, space="blocks"), market, quiet=True)


def test_constraints_are_told_to_the_sampler_and_bind_the_winner(config, klines, market, tmp_path):
    found = o.optimise(task(config, klines, market, f"sqlite:///{tmp_path}/a.db", min_trades=3), market, quiet=True)

    winner = found.winner()

    for trial in found.done:
        score = trial.user_attrs["score"]
        kept = score["max_drawdown"] < 0.08 and score["trades"] >= 3
        assert (o.violation(trial) <= 0) is kept
    feasible = found.feasible()
    assert feasible
    assert winner.value == max(t.value for t in feasible)


def test_the_report_doubts_its_winner_and_writes_a_profile_that_can_be_read(config, klines, market, tmp_path):
    found = o.optimise(task(config, klines, market, f"sqlite:///{tmp_path}/a.db", trials=12), market, quiet=True)

    told = search_report.doubts(found, pool=30)
    files = search_report.write_search(told, found, tmp_path / "out")

    assert told["winner"]["holdout"]["trades"] >= 0
    assert 0 <= told["overfitting"]["probability"] <= 1
    assert 0 < told["chance"]["share_as_good"] <= 1
    assert sum(told["importance"].values()) == pytest.approx(1.0)
    assert {f.name for f in files} == {"optimise.html", "optimise.json", "winner.toml"}
    assert json.loads((tmp_path / "out" / "optimise.json").read_text()) == told
    chosen = parse((tmp_path / "out" / "winner.toml").read_text(), profile="found")
    assert chosen.trade.tp1_r == told["winner"]["settings"]["trade.tp1_r"]


def test_overfitting_is_judged_over_the_settings_that_the_search_may_choose(config, klines, market, tmp_path):
    found = o.optimise(
        task(config, klines, market, f"sqlite:///{tmp_path}/a.db", trials=12, min_trades=3), market, quiet=True
    )

    told = search_report.doubts(found, pool=0)

    days = np.array([t.user_attrs["score"]["daily_r"] for t in found.feasible()])
    assert 2 <= told["feasible"] < told["trials"] == 12
    assert told["overfitting"]["settings"] == told["feasible"]
    assert told["overfitting"]["probability"] == pytest.approx(backtest_overfitting(days.T).probability)
    assert f"over the {told['feasible']} settings that keep both constraints." in " ".join(told["sentences"])


def test_a_search_without_two_settings_to_choose_from_says_what_overfitting_was_judged_on(
    config, klines, market, tmp_path
):
    def sentences(**given):
        storage = f"sqlite:///{tmp_path}/{given['trials']}.db"
        made = o.optimise(task(config, klines, market, storage, **given), market, quiet=True)
        return " ".join(search_report.doubts(made, pool=0)["sentences"])

    assert "over the 2 settings tried, of which none keeps both" in sentences(trials=2, min_trades=10_000)
    assert "No probability of overfitting: only one setting keeps both" in sentences(trials=1, min_trades=1)


def test_minutes_funding_and_the_warm_up_belong_to_what_a_study_is_about(config, klines, market):
    first, symbol = int(market.base("BTCUSDT").open_ms[0]), "BTCUSDT"
    without_minutes = {s: {name: b for name, b in bars.items() if name != "1m"} for s, bars in market.bars.items()}
    paid = market.funding[symbol]
    dearer = market.funding | {symbol: replace(paid, rate=paid.rate + 1e-4)}
    later = market.base(symbol).between(first + 60 * 180_000)
    shorter = market.bars | {symbol: market.bars[symbol] | {"3m": later}}
    assert "1m" in market.bars[symbol]

    def study(of):
        return task(config, klines, of, "sqlite://", from_ms=first + 100 * 180_000).study

    others = [replace(market, bars=without_minutes), replace(market, funding=dearer), replace(market, bars=shorter)]
    assert len({study(market), *map(study, others)}) == 4
    assert study(replace(market, source="elsewhere")) == study(market)


def test_what_the_search_saw_ends_before_what_judges_it(config, klines, market):
    made = task(config, klines, market, "sqlite://")

    assert made.to_ms + 2 * 3_600_000 < made.holdout_from_ms < made.holdout_to_ms
    assert made.to_ms % 180_000 == 0


def test_folds_share_no_trade(config, klines, market):
    made = task(config, klines, market, "sqlite://", holdout=0.0)
    result = search.Trier(config, market, made.from_ms, made.to_ms).run({})

    rows = search_report.folds(result, 3)

    assert sum(row["trades"] for row in rows) <= len(result.trades)
    assert [row["to_ms"] for row in rows[:-1]] == [row["from_ms"] for row in rows[1:]]


def test_storages_that_cannot_be_opened_say_how_to_name_one(tmp_path):
    for url in ("nonsense", "sqlite:////no/such/folder/a.db", "postgresql+psycopg://me:secret@127.0.0.1:1/x"):
        with pytest.raises(ConfigError, match=r"give sqlite:///FILE") as caught:
            open_storage(url)
        assert "secret" not in str(caught.value)
    with pytest.raises(ConfigError, match="lives in memory"):
        open_storage("sqlite:///:memory:")
    with pytest.raises(ConfigError, match="does not exist; make it first"):
        open_storage(f"journal://{tmp_path}/none/study.log")


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"trials": 0}, "--trials 0"),
        ({"holdout": 0.95}, "--holdout 0.95"),
        ({"min_trades": 0}, "--min-trades 0"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(config, klines, market, more, sentence):
    with pytest.raises(ConfigError, match=sentence):
        task(config, klines, market, "sqlite://", **more)


def test_spaces_hold_settings_that_exist_and_today_s_values():
    space = search.space_of("all")

    values = o.defaults_of(Config(), space)

    assert set(values) == set(space)
    assert search.configured(Config(), values) == Config()
    with pytest.raises(ConfigError, match="'nothing' is not known"):
        search.space_of("exits,nothing")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def postgres():
    """A PostgreSQL of its own on a free port, gone afterwards; it refuses to run as root, so another user runs it then."""
    if not (POSTGRES / "initdb").exists():
        pytest.skip(f"no PostgreSQL in {POSTGRES}")
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    as_other = {}
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
        as_other = {"user": "postgres", "group": "postgres", "extra_groups": []}

    def run(*command):
        subprocess.run([str(part) for part in command], check=True, capture_output=True, cwd=folder, **as_other)

    port = free_port()
    run(POSTGRES / "initdb", "-D", folder / "data", "-U", "bot", "--auth=trust", "--no-sync")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
    run(POSTGRES / "pg_ctl", "-D", folder / "data", "-l", folder / "log", "-o", options, "-w", "start")
    yield f"postgresql+psycopg://bot@127.0.0.1:{port}/postgres"
    run(POSTGRES / "pg_ctl", "-D", folder / "data", "-m", "immediate", "stop")
    shutil.rmtree(folder)


def test_two_workers_share_a_study_in_postgresql(config, klines, market, postgres):
    made = task(config, klines, market, postgres, trials=6)

    found = o.optimise(made, market, jobs=2, quiet=True)

    assert len(found.done) >= 6
    assert [t.number for t in found.done] == list(range(len(found.done)))
    repeated = search.Trier(config, market, made.from_ms, made.to_ms)
    for trial in found.done[:3]:  # what a worker found is what this process finds
        assert repeated.score(trial.params).profit_factor == trial.value
    found.close()


def test_the_command_needs_klines_and_tells_its_outcome(klines, tmp_path):
    arguments = ["optimise", "--klines", str(klines), "--trials", "2", "--space", "exits", "--min-trades", "1"]
    arguments += [
        "--pool",
        "20",
        "--storage",
        f"sqlite:///{tmp_path}/a.db",
        "--quiet",
        *(x for s in LOOSE for x in ("--set", s)),
    ]

    done = CliRunner().invoke(cli, arguments)
    without = CliRunner().invoke(cli, ["optimise", "--trials", "2"])

    assert done.exit_code == 0, done.output
    assert "Best of 2 trials" in done.output
    assert "trade.tp1_r = " in done.output
    assert without.exit_code == 2


def test_slices_follow_each_other_without_touching():
    day = walk_forward.DAY_MS
    cut = walk_forward.slices(0, 212 * day, train_ms=60 * day, slice_ms=30 * day, embargo_ms=day // 8)

    assert len(cut) == 5
    for piece in cut:
        assert piece.train_to_ms - piece.train_from_ms == 60 * day
        assert piece.test_from_ms == piece.train_to_ms + day // 8
    assert cut[-1].test_to_ms <= 212 * day


def test_a_range_that_is_too_short_says_what_would_fit(config, klines, market):
    day = walk_forward.DAY_MS
    with pytest.raises(
        DataMissing, match="20 days are too few for 270 days of search and a slice of 90; use --monthly"
    ):
        walk_forward.tasks_of(config, klines, market, train_ms=270 * day, slice_ms=90 * day, trials=1)
    with pytest.raises(ConfigError, match="--slice 'soon'"):
        walk_forward.days_of("soon", "--slice")


def test_a_walk_judges_each_winner_on_what_followed(config, klines, market, tmp_path):
    day = walk_forward.DAY_MS
    given = {"train_ms": 8 * day, "slice_ms": 5 * day, "trials": 2, "space": "exits", "min_trades": 1}
    tasks = walk_forward.tasks_of(config, klines, market, storage=f"sqlite:///{tmp_path}/w.db", **given)

    told = walk_forward.walk(tasks, market, quiet=True)

    assert len(told["slices"]) == 3
    for row in told["slices"]:
        assert row["train_to_ms"] < row["from_ms"] < row["to_ms"]
        assert row["in_sample"]["profit_factor"] >= 0
    assert told["out_of_sample"]["trades"] == sum(row["out_of_sample"]["trades"] for row in told["slices"])
    assert "out-of-sample profit factor of 1.4" in told["sentences"][0]


@pytest.mark.nightly
def test_a_walk_does_not_depend_on_the_number_of_workers(config, klines, market, tmp_path):
    day = walk_forward.DAY_MS
    given = {"train_ms": 8 * day, "slice_ms": 5 * day, "trials": 3, "space": "exits", "min_trades": 1}
    made = [
        walk_forward.tasks_of(config, klines, market, storage=f"sqlite:///{tmp_path}/{jobs}.db", **given)
        for jobs in (1, 2)
    ]

    alone, together = (
        walk_forward.walk(tasks, market, jobs=jobs, quiet=True) for tasks, jobs in zip(made, (1, 2), strict=True)
    )

    assert alone == together
