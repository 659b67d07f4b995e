"""Other orders and other costs of the same trades."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from click.testing import CliRunner

from bot.backtest.market import Market
from bot.backtest.output import trade_rows, write_parquet
from bot.backtest.run import run_backtest
from bot.cli.main import cli
from bot.config import parse
from bot.core.errors import DataError, DataMissing
from bot.core.klines import aggregate
from bot.market.synthetic import synthetic_market
from bot.report.monte_carlo_page import sentences
from bot.search import monte_carlo as m

EASY = ("strategy.htf_source=smc", "strategy.min_rating=1", "strategy.tap_window=12", "strategy.min_rank=0")
STEADY = m.Sizing(risk_fraction=0.01, throttle_drawdown=1.0, throttle_floor=1.0)


def test_a_fixed_result_gives_one_history():
    told = m.simulate(np.full(10, 0.5), STEADY, runs=200)

    assert told.final_equity["0.01"] == pytest.approx(1.005**10)
    assert told.final_equity["0.99"] == pytest.approx(1.005**10)
    assert told.drawdown["0.99"] == 0.0
    assert (told.ruin, told.loss, told.soft_stop) == (0.0, 0.0, 0.0)


def test_an_account_is_throttled_in_a_drawdown():
    sizing = m.Sizing(risk_fraction=0.01, throttle_drawdown=0.08, throttle_floor=0.5)

    equity, deepest = m.account(np.array([[-2.0, -2.0, -2.0]]), sizing)

    first = 1 - 0.02
    second = first * (1 - 0.02 * (1 - 0.02 / 0.08))
    third = second * (1 - 0.02 * max(0.5, 1 - (1 - second) / 0.08))
    assert equity[0].tolist() == pytest.approx([1.0, first, second, third])
    assert deepest[0] == pytest.approx((1 - third) / 0.01)


def test_an_account_with_nothing_left_stays_at_nothing():
    equity, _ = m.account(np.array([[-150.0, 100.0]]), STEADY)

    assert equity[0].tolist() == [1.0, 0.0, 0.0]


def test_a_trade_moves_the_account_by_the_share_of_its_planned_risk():
    equity, deepest = m.account(np.array([[1.0, -2.0]]), STEADY, np.array([[1.0, 0.25]]))

    assert equity[0].tolist() == pytest.approx([1.0, 1.01, 1.01 * (1 - 0.005)])
    assert deepest[0] == pytest.approx(0.5)  # R of the peak: half of what the plan risked


def test_a_trade_is_drawn_together_with_its_share():
    results, share = np.array([1.0, -1.0]), np.array([0.0, 1.0])

    told = m.simulate(results, STEADY, share=share, runs=500)

    assert told.final_equity["0.99"] == 1.0  # what wins risks nothing here
    assert told.final_equity["0.01"] == pytest.approx(0.99**2)
    assert (told.mean_r, told.mean_share) == (0.0, 0.5)


@pytest.fixture(scope="module")
def tested():
    """A back-test at 5x on a market that signals a few times a day: margin decides its quantities."""
    config = parse("", overrides=EASY)
    made = synthetic_market(20, 11)
    bars = {}
    for symbol, minutes in made.klines.items():
        base = aggregate(minutes, 180_000)
        bars[symbol] = {"3m": base, "15m": aggregate(base, 900_000)}
    return run_backtest(config, Market(bars, made.funding, "synthetic"))


def test_the_real_history_is_one_of_the_histories(tested):
    columns = tested.table()
    share, real = m.shares(columns), tested.final_equity / tested.initial_equity
    assert len(tested.trades) >= 8
    assert share.mean() < 0.95

    sizing = m.sizing_of(tested.config)
    cut, _ = m.account(columns["net_r"][None], sizing, share[None])
    whole, _ = m.account(columns["net_r"][None], sizing)

    assert cut[0, -1] == pytest.approx(real, abs=0.003)
    assert abs(whole[0, -1] - real) > 5 * abs(cut[0, -1] - real)


def test_a_study_takes_the_shares_of_the_list_a_back_test_writes(tested, tmp_path):
    write_parquet(tmp_path / "trades.parquet", trade_rows(tested))

    told = m.report(tmp_path / "trades.parquet", tested.config, runs=200, seed=1)

    assert {s["mean_share"] for s in told["simulations"]} == {float(m.shares(tested.table()).mean())}


@pytest.mark.parametrize("wanting", m.SHARE_COLUMNS)
def test_a_list_without_planned_quantities_risks_all_of_the_plan_and_says_so(wanting, tested, tmp_path):
    rows = trade_rows(tested)
    del rows[wanting]
    write_parquet(tmp_path / "old.parquet", rows)

    told = m.report(tmp_path / "old.parquet", tested.config, runs=200, seed=1)

    plain = m.simulate(rows["net_r"], m.sizing_of(tested.config), runs=200, seed=1)
    assert told["simulations"][0]["final_equity"] == plain.final_equity
    assert told["simulations"][0]["mean_share"] is None
    assert sentences(told)[-1].startswith("The list does not tell what each trade risked of its plan")


def test_blocks_keep_neighbours_together():
    drawn = m.draw(np.random.default_rng(1), 20, runs=50, block=5)

    steps = np.diff(drawn, axis=1) % 20
    inside = np.arange(19) % 5 != 4
    assert (steps[:, inside] == 1).all()
    assert drawn.shape == (50, 20)


def test_streaks_make_deeper_falls_in_blocks_than_one_by_one():
    results = np.array(([1.0] * 10 + [-1.0] * 10) * 5)

    single = m.simulate(results, STEADY, runs=2_000)
    blocks = m.simulate(results, STEADY, runs=2_000, block=10)

    assert blocks.drawdown["0.5"] > single.drawdown["0.5"]


def test_the_same_seed_gives_the_same_study():
    results = np.random.default_rng(2).normal(0, 1, 60)

    assert m.study(results, STEADY, runs=300) == m.study(results, STEADY, runs=300)


def test_the_draws_agree_with_theory():
    results = np.random.default_rng(3).normal(0.1, 1, 100)

    told = m.simulate(results, STEADY, runs=20_000)

    spread = told.total_r["0.95"] - told.total_r["0.05"]
    assert told.total_r["0.5"] == pytest.approx(results.sum(), abs=0.3)
    assert spread == pytest.approx(2 * 1.645 * results.std() * 10, rel=0.03)


def test_dearer_worlds_take_what_they_say():
    columns = {"taker_turnover_r": np.array([1_000.0]), "maker_turnover_r": np.array([500.0])}
    columns["atr_fraction"] = np.array([0.001])

    found = {s.name: float(s.extra_cost_r[0]) for s in m.stresses(columns, m.Prices())}

    assert found["slippage x2"] == pytest.approx(0.1)  # 1000 R of turnover at 0.01 %
    assert found["slippage x4"] == pytest.approx(0.3)
    assert found["taker fee 0.05%"] == pytest.approx(0.1)
    assert found["no maker fill"] == pytest.approx(500 * (0.0002 + 0.00005 + 0.0001))
    assert found["1 s later"] == pytest.approx(0.5 * 0.001 / 1.6 / 180**0.5 * 1_000)
    assert found["250 ms later"] == pytest.approx(found["1 s later"] / 2)
    together = found["slippage x2"] + found["taker fee 0.05%"] + found["250 ms later"] + found["no maker fill"]
    assert found["all of these"] == pytest.approx(together)


def test_what_a_list_lacks_leaves_its_stress_out():
    assert m.stresses({}, m.Prices()) == []


def _write(path, **columns):
    parquet.write_table(pa.table(columns), path)
    return path


def test_bad_lists_are_named_in_one_sentence(tmp_path):
    with pytest.raises(DataMissing, match=r"none\.parquet does not exist"):
        m.read_trades(tmp_path / "none.parquet")
    with pytest.raises(DataError, match="no column net_r or r_multiple"):
        m.read_trades(_write(tmp_path / "other.parquet", price=[1.0]))
    with pytest.raises(DataError, match="row 2: net_r is not a number"):
        m.read_trades(_write(tmp_path / "hole.parquet", net_r=[1.0, None]))
    with pytest.raises(DataError, match="holds no trade"):
        m.read_trades(_write(tmp_path / "empty.parquet", net_r=pa.array([], pa.float64())))
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1 not really")
    with pytest.raises(DataError, match="cannot be read as a trade list"):
        m.read_trades(broken)


def test_the_folder_of_a_back_test_stands_for_its_trades(tmp_path):
    _write(tmp_path / "trades.parquet", net_r=[1.0, -1.0])

    assert m.read_trades(tmp_path)["net_r"].tolist() == [1.0, -1.0]


def test_the_command_writes_numbers_and_a_page(tmp_path):
    path = _write(
        tmp_path / "trades.parquet",
        net_r=np.random.default_rng(4).normal(-0.3, 1, 80),
        taker_turnover_r=np.full(80, 900.0),
        maker_turnover_r=np.full(80, 300.0),
        exit_reason=["stop"] * 80,
    )

    done = CliRunner().invoke(cli, ["montecarlo", str(path), "--runs", "500", "--out", str(tmp_path / "mc"), "--json"])

    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    assert [s["name"] for s in told["simulations"]][:2] == ["trades", "blocks"]
    assert told == json.loads((tmp_path / "mc" / "montecarlo.json").read_text())
    page = (tmp_path / "mc" / "montecarlo.html").read_text()
    assert "all of these" in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_too_few_histories_are_refused(tmp_path):
    path = _write(tmp_path / "trades.parquet", net_r=[1.0])

    done = CliRunner().invoke(cli, ["montecarlo", str(path), "--runs", "5"])

    assert "at least 100" in str(done.exception)
