"""SuperTrend AI: the kernel against its twin, the clustering against the plain steps and scikit-learn, and its laws."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.config import SupertrendAi
from bot.core.jit import record
from bot.indicators import clustering
from bot.indicators import supertrend as sta
from bot.indicators.volatility import BAR, bar_step
from tests import naive_open
from tests.naive_open import markets, walk


def run(bars, section=None, look=None, last_index=0):
    settings = sta.params(section or SupertrendAi(), last_index)
    return naive_open.run(bars, sta, sta.sta_reset, sta.sta_step, settings, look)


@st.composite
def sections(draw):
    smallest = draw(st.sampled_from([0.5, 1.0, 2.0]))
    return SupertrendAi(
        atr_length=draw(st.sampled_from([1, 3, 10, 14])),
        factor_min=smallest,
        factor_max=smallest + draw(st.sampled_from([0.0, 0.5, 2.0, 4.0])),
        factor_step=draw(st.sampled_from([0.1, 0.25, 0.5, 1.0])),
        memory=draw(st.sampled_from([2.0, 10.0, 30.5])),
        cluster=draw(st.sampled_from(["best", "average", "worst"])),
    )


# --- the family ------------------------------------------------------------------------------------------------------


@given(markets(longest=150), sections())
def test_every_column_equals_the_twin_to_the_bit(bars, section):
    rows = run(bars, section)

    naive_open.assert_same(rows, naive_open.sta(bars, section))


@given(markets(smallest=20, longest=120), st.integers(1, 100))
def test_a_finite_max_data_clusters_only_the_last_bars(bars, max_data):
    section = SupertrendAi(max_data=max_data)

    rows = run(bars, section, last_index=len(bars) - 1)

    naive_open.assert_same(rows, naive_open.sta(bars, section))
    assert all(math.isnan(r["sta_ts"]) for r in rows[: max(len(bars) - 1 - max_data, 0)])


@given(markets(smallest=2, longest=150), st.data())
def test_later_bars_change_nothing_that_was_written(bars, data):
    cut = data.draw(st.integers(1, len(bars)))

    assert repr(run(bars[:cut])) == repr(run(bars)[:cut])


@given(markets(longest=100), sections())
def test_reset_brings_a_used_state_back_to_fresh(bars, section):
    settings = sta.params(section)
    fresh, used, bar = record(sta.STATE), record(sta.STATE), record(BAR)
    out = np.zeros(len(sta.COLUMNS))
    sta.sta_reset(fresh, settings)
    sta.sta_reset(used, settings)

    for t, o, h, low, c, filler in bars:
        bar_step(bar, t, o, h, low, c, 1.0, 0.5, filler)
        sta.sta_step(used, settings, bar, out)
    sta.sta_reset(used, settings)

    assert used.tobytes() == fresh.tobytes()


@given(markets(longest=200))
def test_signals_are_the_flips_of_the_direction_and_silent_on_fillers(bars):
    rows = run(bars)

    direction = [r["sta_os"] for r in rows]
    for i, (bar, row) in enumerate(zip(bars, rows, strict=True)):
        flip = direction[i] - direction[i - 1] if i else 0
        assert row["sta_signal"] == (0 if bar[5] else flip)


@given(st.integers(0, 2**32))
def test_while_the_direction_stays_the_trail_only_tightens(seed):
    bars = walk(seed, 300, tick=0.1, start=1000)

    rows = run(bars)

    for i in range(1, len(rows)):
        before, now = rows[i - 1], rows[i]
        sign = 1 if now["sta_os"] else -1
        # A close on the wrong side of its line is possible where a long wick has crossed the two bands.
        if before["sta_os"] == now["sta_os"] and (bars[i - 1][4] - before["sta_ts"]) * sign > 1e-9:
            assert (now["sta_ts"] - before["sta_ts"]) * sign >= 0


def test_the_performance_index_lies_between_zero_and_one_and_flips_happen():
    rows = run(walk(5, 2000, tick=0.1, start=20_000))

    index = [r["sta_perf_idx"] for r in rows if not math.isnan(r["sta_perf_idx"])]
    assert 0.0 <= min(index) < 0.05
    assert 0.5 < max(index) <= 1.0
    assert {r["sta_signal"] for r in rows} == {-1.0, 0.0, 1.0}


def test_warm_up_holds_the_trend_of_bar_zero_and_values_begin_at_bar_ten():
    bars = walk(1, 40, tick=0.1, start=1000, flat=0.0)

    rows = run(
        bars, look=lambda s: {"trend": [int(x) for x in s.trend[:5]], "performance": s.clusters.value[:5].tolist()}
    )

    first = int(bars[0][4] > (bars[0][2] + bars[0][3]) / 2)
    assert all(r["trend"] == [first] * 5 for r in rows[:10])
    assert all(r["performance"] == [0.0] * 5 for r in rows[:10])
    assert rows[10]["performance"] != [0.0] * 5
    assert [math.isnan(r["sta_perf_idx"]) for r in rows[8:12]] == [True, True, False, False]
    begin = next(i for i, r in enumerate(rows) if not math.isnan(r["sta_ts"]))
    assert rows[begin]["sta_perf_ama"] == rows[begin]["sta_ts"]


def test_a_market_that_never_moves_has_no_index():
    bars = [(i, 5.0, 5.0, 5.0, 5.0, 0) for i in range(50)]

    rows = run(bars)

    assert all(math.isnan(r["sta_perf_idx"]) and math.isnan(r["sta_ts"]) and r["sta_signal"] == 0 for r in rows)


def test_forty_one_factors_are_the_most():
    section = SupertrendAi(factor_min=0, factor_max=20, factor_step=0.5)

    assert len(sta.factors(section)) == sta.CAPACITY
    bars = walk(3, 200, tick=0.1, start=10_000)
    naive_open.assert_same(run(bars, section), naive_open.sta(bars, section))


# --- the clustering --------------------------------------------------------------------------------------------------


def loaded(values):
    clusters = record(clustering.CLUSTERS)
    clustering.clusters_reset(clusters)
    clusters.value[: len(values)] = values
    clustering.sort_values(clusters, len(values))
    return clusters, clustering.quartiles_of(len(values))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((5.0, 1.0, 3.0, 2.0, 4.0), (1.75, 3.0, 4.25)),  # positions 0.75, 2, 3.25
        ((8.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0), (1.75, 4.0, 6.25)),  # 1.75, 4, 6.25
        ((2.0, 1.0), (1.0, 1.5, 2.0)),  # 0, 0.5, 1
        ((7.0,), (7.0, 7.0, 7.0)),  # clamped
        ((0.0, 10.0, 20.0), (2.5, 10.0, 17.5)),  # 0.25, 1, 1.75
    ],
)
def test_quartiles_worked_by_hand(values, expected):
    clusters, quartiles = loaded(values)

    assert tuple(clustering.quartile(clusters, quartiles, i) for i in range(3)) == expected


close_values = st.builds(
    lambda level, nudge: level * 0.25 + nudge,
    st.integers(-8, 8),
    st.sampled_from([0.0, 0.0, 1e-13, -1e-13, 1e-10, -1e-10, 1.5e-10, 1e-9, 1e-6]),
)


@given(st.lists(st.one_of(close_values, st.floats(-100, 100)), min_size=1, max_size=41))
def test_the_fast_clustering_says_nothing_or_what_the_plain_steps_say(values):
    clusters, quartiles = loaded(values)
    plain, _ = loaded(values)
    clustering.cluster_plain(plain, quartiles)
    members = plain.member[: len(values)].tolist()

    twin = naive_open.kmeans(values)
    assert [next(i for i in range(3) if k in twin[i]) for k in range(len(values))] == members
    if clustering.cluster_sorted(clusters, quartiles):
        assert clusters.member[: len(values)].tolist() == members


@given(st.lists(st.lists(st.integers(-5, 5), min_size=9, max_size=9), max_size=10))
def test_the_kept_order_is_sorted_whatever_came_before(rounds):
    clusters, _ = loaded([0.0] * 9)

    for values in rounds:
        clusters.value[:9] = values
        clustering.sort_values(clusters, 9)

        assert clusters.sorted[:9].tolist() == sorted(values)
        assert sorted(clusters.order[:9].tolist()) == list(range(9))
        assert [values[k] for k in clusters.order[:9]] == sorted(values)


def test_equal_performances_all_fall_into_the_worst_cluster():
    clusters, quartiles = loaded([1.5] * 5)

    assert not clustering.cluster_sorted(clusters, quartiles)
    clustering.cluster_plain(clusters, quartiles)

    assert clusters.member[:5].tolist() == [0] * 5


@pytest.mark.reference
@pytest.mark.parametrize(("largest", "plain_share"), [(3.0, 0.05), (5.0, 0.1)])
def test_scikit_learn_finds_the_same_clusters_on_real_performances(shared, largest, plain_share):
    """A third witness: `KMeans` started at the quartiles.

    Left out is what it cannot tell apart: it expands squared distances, so values closer than about 1e-8 of their size
    are one to it; and where clusters run empty it goes its own way.
    """
    from sklearn.cluster import KMeans

    table = pd.read_parquet(shared / "klines/um/BTCUSDT-3m.parquet").tail(4000)
    bars = [(*row, 0) for row in table[["open_time", "open", "high", "low", "close"]].itertuples(index=False)]
    section = SupertrendAi(factor_max=largest)
    count = len(sta.factors(section))
    rows = run(
        bars,
        section,
        lambda s: {
            "performance": s.clusters.value[:count].tolist(),
            "member": s.clusters.member[:count].tolist(),
            "plain": int(s.clusters.plain_runs),
        },
    )

    compared = 0
    for before, row in zip(rows[59:-1:10], rows[60::10], strict=False):
        values = np.array(row["performance"])
        start = np.percentile(values, (25, 50, 75), method="hazen")
        if row["plain"] > before["plain"] or np.diff(start).min() < 1e-6 * np.abs(values).max():
            continue
        fitted = KMeans(n_clusters=3, init=start[:, None], n_init=1, max_iter=1000, tol=0).fit(values[:, None])
        assert fitted.labels_.tolist() == row["member"]
        compared += 1
    assert compared > 250
    assert rows[-1]["plain"] / len(rows) < plain_share
