"""Figures of a back-test, each worked out by hand beside it."""

import math

import numpy as np
import pytest

from bot.core.types import Side
from bot.results import figures as formulas
from bot.results import summary as metrics
from bot.results.backtest import CostParts
from bot.results.funnel import funnel_of
from bot.results.summary import report_figures
from tests.research_tools import DAY, START, result, trade

FOUR = (2.0, -1.0, -1.5, 1.0)  # R, one a day


def four(**more):
    return result([trade(r, at_ms=START + day * DAY, **more) for day, r in enumerate(FOUR)], days=10)


def test_expectation_and_profit_factor_follow_from_the_list():
    figures = metrics.summary_figures(four())

    assert figures["trades"] == 4
    assert figures["win_rate"] == 0.5
    assert figures["expectancy_r"] == pytest.approx(0.5 / 4)
    assert figures["total_r"] == pytest.approx(0.5)
    assert figures["profit_factor_r"] == pytest.approx(3.0 / 2.5)
    assert figures["profit_factor"] == pytest.approx(22.5 / 18.75)  # 7.5 USDT an R
    assert figures["gross_expectancy_r"] == pytest.approx(0.125 + 0.5)  # costs are 0.5 R each


def test_drawdown_is_told_in_quote_share_and_r():
    figures = metrics.summary_figures(four())

    # 1000, 1015, 1007.5, 996.25, 1003.75: from 1015 down to 996.25
    assert figures["max_drawdown_quote"] == pytest.approx(18.75)
    assert figures["max_drawdown"] == pytest.approx(18.75 / 1015)
    assert figures["max_drawdown_r"] == pytest.approx(2.5)
    assert figures["return"] == pytest.approx(0.00375)


def test_sharpe_ratio_counts_quiet_days():
    equity = np.array([1010.0, 1010.0, 999.9])

    found = formulas.sharpe_daily(equity, 1000.0)

    returns = [0.01, 0.0, -0.01]
    deviation = math.sqrt(sum(x * x for x in returns) / 2)
    assert found == pytest.approx(0.0 / deviation, abs=1e-9)
    assert formulas.sharpe_daily(np.array([1000.0, 1000.0, 1000.0]), 1000.0) is None


def test_a_trade_ended_by_the_data_is_money_but_no_verdict():
    trades = [trade(1.0), trade(-1.0, at_ms=START + DAY), trade(3.0, at_ms=START + 2 * DAY, reason="end_of_data")]

    figures = metrics.summary_figures(result(trades, days=5))

    assert figures["win_rate"] == 0.5
    assert figures["profit_factor_r"] == 1.0
    assert figures["total_r"] == pytest.approx(3.0)


def test_costs_by_part_sum_to_the_whole():
    parts = CostParts(fees=0.4, spread=0.05, slippage=0.1, funding=-0.02, hedge=0.17)

    found = metrics.costs(four(cost=parts).table())

    assert found == pytest.approx(
        {"fees": 0.4, "spread": 0.05, "slippage": 0.1, "funding": -0.02, "hedge": 0.17, "total": 0.7}
    )


def test_a_cost_that_is_large_enough_alone_is_solved_for():
    found = metrics.needed_costs(0.3, {"fees": 0.4, "spread": 0.05, "slippage": 0.1, "funding": 0.0, "hedge": 0.05})

    assert found["net_r"] == pytest.approx(-0.3)
    assert found["parts"]["fees"]["needed_r"] == pytest.approx(0.1)
    assert found["parts"]["fees"]["factor"] == pytest.approx(0.25)
    assert found["parts"]["slippage"]["needed_r"] is None
    assert found["parts"]["slippage"]["left_at_zero_r"] == pytest.approx(-0.2)
    assert found["parts"]["all together"]["factor"] == pytest.approx(0.5)


def test_no_cost_can_mend_a_gross_loss():
    found = metrics.needed_costs(-0.1, {"fees": 0.4, "spread": 0.0, "slippage": 0.1, "funding": 0.0, "hedge": 0.1})

    assert all(part["needed_r"] is None for part in found["parts"].values())


def test_intervals_are_the_same_for_the_same_trades_and_hold_the_mean():
    values = np.random.default_rng(1).normal(0.2, 1.0, 150)

    first, second = formulas.interval(values), formulas.interval(values)

    assert first == second
    assert first[0] < values.mean() < first[1]
    # Normal theory: 1.96 deviations of the mean either side.
    assert first[1] - first[0] == pytest.approx(2 * 1.96 * values.std(ddof=1) / math.sqrt(150), rel=0.06)
    assert formulas.interval(np.array([1.0])) is None


def test_a_profit_factor_without_losses_has_an_open_interval():
    low, high = formulas.interval(np.array([1.0, 2.0, 3.0, -0.1]), "profit_factor")

    assert low > 1
    assert high == math.inf


def test_days_without_trades_count_as_zero():
    found = metrics.daily(
        np.array([START, START + 5, START + 2 * DAY]), np.array([1.0, 2.0, -1.0]), from_ms=START, to_ms=START + 4 * DAY
    )

    assert found.tolist() == [3.0, 0.0, -1.0, 0.0]


def test_months_split_trades_and_return():
    trades = [trade(1.0, at_ms=START), trade(-2.0, at_ms=START + 40 * DAY)]
    made = result(trades, days=50)

    rows = metrics.months(
        made.table(), lambda times: made.equity.at(times, 1000.0), from_ms=made.from_ms, to_ms=made.to_ms
    )

    assert [row["month"] for row in rows] == ["2023-01", "2023-02"]
    assert [row["total_r"] for row in rows] == [1.0, -2.0]
    assert rows[0]["return"] == pytest.approx(0.0075)
    assert rows[1]["return"] == pytest.approx(-15 / 1007.5)


def test_the_trade_that_the_end_of_the_data_closes_belongs_to_the_last_month():
    last = START + 40 * DAY - 20 * 60_000
    made = result([trade(1.0), trade(-2.0, at_ms=last, reason="end_of_data")], days=40)
    assert made.trades[-1].record.closed_ms == made.to_ms

    rows = metrics.months(
        made.table(), lambda times: made.equity.at(times, 1000.0), from_ms=made.from_ms, to_ms=made.to_ms
    )

    assert [row["trades"] for row in rows] == [1, 1]
    assert [row["total_r"] for row in rows] == [1.0, -2.0]


def test_a_month_s_last_instant_belongs_to_the_next_month_if_the_range_goes_on():
    midnight = START + 31 * DAY - 20 * 60_000
    made = result([trade(1.0, at_ms=midnight)], days=40)

    rows = metrics.months(
        made.table(), lambda times: made.equity.at(times, 1000.0), from_ms=made.from_ms, to_ms=made.to_ms
    )

    assert [row["trades"] for row in rows] == [0, 1]


def longest_fall(*trades, days=10):
    return metrics.summary_figures(result(list(trades), days=days))["longest_drawdown_days"]


def test_the_longest_fall_counts_from_the_start_of_the_range_to_its_end():
    at, closed = START + 6 * DAY, 20 / 1440  # trades close 20 minutes after they open

    assert longest_fall(trade(-1.0, at_ms=at)) == pytest.approx(10)  # never above the start again
    assert longest_fall(trade(1.0, at_ms=START), trade(-1.0, at_ms=at)) == pytest.approx(10 - closed)
    assert longest_fall(trade(1.0, at_ms=at)) == 0.0
    assert longest_fall() == 0.0


def test_the_longest_fall_ends_where_the_peak_is_seen_again():
    trades = [trade(r, at_ms=START + day * DAY) for day, r in ((0, 1.0), (1, -1.0), (7, 1.5), (9, -0.5))]

    assert longest_fall(*trades) == pytest.approx(7)  # no sample lies between days 1 and 7, the account did


def test_excursions_tell_how_many_reached_each_level():
    found = metrics.excursions(four().table())

    assert found["reached"]["1 R"] == 0.5  # 2.4 and 1.4, the losers 0.4
    assert found["reached"]["2 R"] == 0.25


def test_regimes_use_only_what_was_known():
    made = four()
    before = metrics.regimes(made)

    made.grid.atr14[4 * 480 :] *= 50  # after the last signal
    made.grid.close[4 * 480 :] *= 2

    assert metrics.regimes(made) == before


def test_the_funnel_counts_alone_in_sequence_and_without():
    made = result([trade(1.0)], days=2)
    found = funnel_of(made)["sides"]["long"]
    usable = made.grid.ready
    bits = [(made.grid.long >> i & 1).astype(bool) & usable for i in range(6)]

    steps = found["steps"]

    assert [step["alone"] for step in steps] == [int(b.sum()) for b in bits]
    assert steps[1]["in_sequence"] == int((bits[0] & bits[1]).sum())
    assert steps[2]["without"] == int((bits[0] & bits[1] & bits[3] & bits[4] & bits[5]).sum())
    assert found["signals"] == int(np.all(bits, axis=0).sum())


def test_every_claim_stands_beside_its_measurement():
    trades = [trade(r, at_ms=START + i * DAY // 4) for i, r in enumerate([1.0, -0.5] * 20)]

    figures = report_figures(result(trades, days=30))

    assert figures["claims"]["profit_factor"]["met"] is True
    assert figures["claims"]["win_rate"] == {
        "claimed": "62 to 68 %",
        "low": 0.62,
        "high": None,
        "measured": 0.5,
        "met": False,
    }
    assert figures["claims"]["expectancy_r"]["measured"] == pytest.approx(0.25)


def test_a_list_without_trades_has_no_figures_but_no_error():
    figures = report_figures(result([], days=3))

    assert figures["trades"] == 0
    assert figures["expectancy_r"] is None
    assert figures["profit_factor"] is None


def test_results_by_group_keep_empty_groups():
    made = four(side=Side.SHORT)

    found = metrics.groups(made.table(), ["short"] * 4, ("long", "short"))

    assert found["long"]["trades"] == 0
    assert found["short"]["expectancy_r"] == pytest.approx(0.125)
