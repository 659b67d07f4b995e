"""Better than chance: p-values where the answer is known."""

import math

import numpy as np
import pytest

from bot.core.types import Side
from bot.search.chance import Pool, against_chance, random_entries, searches_as_good
from tests.research_tools import random_result


def pool(seed=1, count=4_000, mean=-0.5):
    rng = np.random.default_rng(seed)
    gross = rng.normal(0.0, 1.2, count)
    return Pool(np.where(rng.random(count) < 0.5, 1, -1), gross + mean, gross)


def sample(of, count, seed):
    at = np.random.default_rng(seed).integers(0, len(of.side), count)
    return of.net_r[at], of.gross_r[at], of.side[at]


def test_random_trades_are_no_better_than_chance():
    everyone = pool()

    found = [against_chance(*sample(everyone, 100, seed), everyone, draws=400).p_gross for seed in range(60)]

    # p-values of chance itself are even: about one in ten below 0.1, half below a half.
    assert 0.3 < np.mean(np.array(found) < 0.5) < 0.7
    assert np.mean(np.array(found) < 0.1) < 0.25


def test_entries_with_an_edge_are_found():
    everyone = pool()
    net, gross, side = sample(everyone, 150, 9)

    found = against_chance(net + 0.4, gross + 0.4, side, everyone)

    assert found.p_gross < 0.01
    assert found.p_net < 0.01
    assert found.random_gross_r == pytest.approx(0.0, abs=0.05)


def test_the_mix_of_sides_is_kept():
    sides = np.where(np.arange(2_000) % 2 == 0, 1, -1)
    everyone = Pool(sides, np.where(sides > 0, 1.0, -1.0), np.where(sides > 0, 1.0, -1.0))

    found = against_chance(np.ones(10), np.ones(10), np.array([1] * 7 + [-1] * 3), everyone, draws=50)

    assert found.random_net_r == pytest.approx(0.4)  # 7 longs at +1, 3 shorts at -1


def test_entries_that_filled_nothing_are_never_drawn():
    everyone = Pool(np.ones(100, int), np.where(np.arange(100) < 50, np.nan, 0.3), np.full(100, 0.3))

    found = against_chance(np.array([0.3]), np.array([0.3]), np.array([1]), everyone, draws=200)

    assert (found.pool, found.random_net_r) == (50, pytest.approx(0.3))


def test_a_p_value_is_never_zero():
    everyone = pool(mean=-5.0)

    found = against_chance(np.full(50, 9.0), np.full(50, 9.0), np.ones(50, int), everyone, draws=99)

    assert found.p_net == pytest.approx(0.01)


def test_no_trades_no_verdict():
    empty = np.empty(0)

    assert against_chance(empty, empty, empty.astype(int), pool()) is None


def test_random_entries_are_ready_bars_with_shapes_of_real_blocks():
    made = random_result(50, days=20)

    entries = random_entries(made, count=300)

    opens = dict(zip(made.grid.open_ms.tolist(), made.grid.ready.tolist(), strict=True))
    assert len(entries) == 600
    assert all(opens[e.open_ms] for e in entries)
    assert {(e.side, e.bottom_atr, e.top_atr) for e in entries} == {(Side.LONG, -1.0, -0.2), (Side.SHORT, 0.3, 1.1)}
    assert entries == random_entries(made, count=300)


def test_a_longer_search_finds_more_in_nothing():
    everyone = pool()

    few = searches_as_good(1.2, [(20, 20)] * 5, [everyone], searches=300)
    many = searches_as_good(1.2, [(20, 20)] * 200, [everyone], searches=300)

    assert many["median_best_of_chance"] > few["median_best_of_chance"]
    assert many["share_as_good"] >= few["share_as_good"]


def test_lists_that_fall_too_deep_do_not_count():
    everyone = pool()

    free = searches_as_good(0.5, [(20, 20)] * 20, [everyone], searches=200)
    bound = searches_as_good(0.5, [(20, 20)] * 20, [everyone], searches=200, max_drawdown_r=5.0)

    assert bound["median_best_of_chance"] <= free["median_best_of_chance"]
    assert not math.isnan(bound["share_as_good"])
