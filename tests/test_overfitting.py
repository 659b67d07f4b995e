"""The luck of a search: known cases of the literature, and markets where there is nothing to find."""

import math

import numpy as np
import pytest

from bot.search import overfitting as o


def test_deflated_sharpe_ratio_of_the_published_example():
    """Bailey and López de Prado (2014): yearly ratio 2.5 over 1250 days, skew -3, kurtosis 10, 100 trials of variance 1/2."""
    hurdle = o.expected_best_sharpe(0.5 / 250, 100)

    probability = o.probability_above(2.5 / math.sqrt(250), hurdle, observations=1250, skew=-3.0, kurtosis=10.0)

    assert hurdle == pytest.approx(0.1132, abs=5e-5)
    assert probability == pytest.approx(0.9004, abs=5e-4)


def test_the_best_of_many_worthless_settings_is_seen_through():
    rng = np.random.default_rng(2)
    days = rng.normal(0, 1, (150, 200))
    ratios = days.mean(axis=0) / days.std(axis=0, ddof=1)
    best = int(np.argmax(ratios))

    told = o.deflated_sharpe(days[:, best], ratios)

    assert o.probabilistic_sharpe(days[:, best], 0.0) > 0.98  # looks sure by itself
    assert told.probability < 0.8
    assert told.trials == 200


def test_more_trials_raise_the_hurdle():
    ratios = np.random.default_rng(3).normal(0, 0.1, 50)
    returns = np.random.default_rng(4).normal(0.2, 1, 200)

    few, many = o.deflated_sharpe(returns, ratios), o.deflated_sharpe(returns, ratios, trials=5_000)

    assert many.expected_best > few.expected_best
    assert many.probability < few.probability


def test_worthless_settings_overfit_half_the_time():
    days = np.random.default_rng(5).normal(0, 1, (160, 100))

    found = o.backtest_overfitting(days, blocks=10, measure="mean")

    assert found.splits == math.comb(10, 5)
    assert 0.3 < found.probability < 0.8


@pytest.mark.parametrize("measure", ["profit_factor", "mean", "sharpe"])
def test_a_setting_that_is_truly_better_is_not_overfitted(measure):
    days = np.random.default_rng(6).normal(-0.1, 1, (160, 40))
    days[:, 7] += 1.0

    found = o.backtest_overfitting(days, blocks=8, measure=measure)

    assert found.probability == 0.0
    assert found.loss_probability == 0.0


def test_two_blocks_by_hand():
    # Setting 0 wins the first day and loses the second, setting 1 the other way round: the winner always falls.
    days = np.array([[2.0, -1.0], [-1.0, 2.0]])

    found = o.backtest_overfitting(days, blocks=2, measure="mean")

    assert (found.probability, found.loss_probability, found.splits) == (1.0, 1.0, 2)


def test_one_setting_cannot_be_judged():
    assert math.isnan(o.backtest_overfitting(np.ones((10, 1))).probability)


def test_settings_that_never_trade_are_no_winners():
    days = np.zeros((40, 3))
    days[:, 1] = np.where(np.arange(40) % 3 == 0, -0.5, 0.6)

    found = o.backtest_overfitting(days, blocks=4)

    assert found.probability == 0.0


def test_a_purged_part_shares_no_trade_with_its_neighbour():
    rng = np.random.default_rng(8)
    opened = np.sort(rng.integers(0, 1_000, 200))
    closed = opened + rng.integers(1, 30, 200)
    first, second = o.Span(0, 500), o.Span(500, 1_100)

    left = o.purged(opened, closed, first, neighbours=(second,), embargo_ms=20)
    right = o.purged(opened, closed, second, neighbours=(first,), embargo_ms=20)

    assert not (left & right).any()
    assert closed[left].max() < 500
    assert opened[right].min() >= 520
