"""Smart Money Concepts: the kernel against its twin, its laws, and the parts without an oracle worked by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.config import Smc
from bot.core.jit import record
from bot.indicators.volatility import BAR, bar_step
from bot.structure import smc
from bot.structure.order_blocks import BLOCKS, blocks_add, blocks_mitigate, blocks_reset, blocks_slot
from bot.structure.smc_gaps import GAP_LIMIT
from bot.structure.swings import LEG, leg_reset, leg_step, leg_step_at, pivot_high, pivot_index, pivot_low, pivot_ms
from bot.structure.zones import ZONES, zones_extend, zones_pivot, zones_reset
from tests import naive_open
from tests.naive_open import markets, walk

EVENTS = [c for c in smc.COLUMNS if c.endswith(("_bos", "_choch", "_n", "_eqh", "_eql")) or "_new_" in c]


def run(bars, section=None, look=None):
    return naive_open.run(bars, smc, smc.smc_reset, smc.smc_step, smc.params(section or Smc()), look)


sections = st.builds(
    Smc,
    internal_length=st.sampled_from([2, 3, 5]),
    swing_length=st.sampled_from([5, 8, 20, 50]),
    equal_length=st.sampled_from([1, 2, 3]),
    equal_threshold=st.sampled_from([0.0, 0.1, 0.5]),
    order_block_mitigation=st.sampled_from(["close", "high_low"]),
    order_block_filter=st.sampled_from(["atr", "range"]),
    confluence_filter=st.booleans(),
    fvg_auto_threshold=st.booleans(),
)


# --- the family ------------------------------------------------------------------------------------------------------


@given(markets(), sections)
def test_every_column_equals_the_twin_to_the_bit(bars, section):
    rows = run(bars, section)

    naive_open.assert_same(rows, naive_open.smc(bars, section))


def test_the_markets_show_every_event():
    seen = dict.fromkeys(EVENTS, 0)

    for seed in range(4):
        bars = walk(seed, 900, tick=0.5, start=3000, body=6)
        for row in run(bars, Smc(swing_length=10, equal_threshold=0.5, fvg_auto_threshold=False)):
            for name in EVENTS:
                seen[name] += bool(row[name] == row[name] and row[name] != 0)

    assert min(seen.values()) >= 3, seen


def test_columns_are_those_of_the_interface():
    layers, sides = ("int", "sw"), ("bull", "bear")
    expected = {"internal_trend", "swing_trend", "eqh", "eql", "atr200", "strong_high", "strong_low"}
    expected |= {"trailing_top", "trailing_bottom", "premium_bottom", "eq_level", "discount_top"}
    expected |= {f"{lay}_{side}_{event}" for lay in layers for side in sides for event in ("bos", "choch")}
    expected |= {f"{lay}_{s}_ob_new_{edge}" for lay in layers for s in sides for edge in ("top", "bottom", "time")}
    expected |= {f"{layer}_{side}_ob_mitigated_n" for layer in layers for side in sides}
    expected |= {f"{layer}_ob_count" for layer in layers}
    expected |= {f"int_ob{i}_{field}" for i in range(5) for field in ("top", "bottom", "time", "bias")}
    expected |= {f"{pivot}_level" for pivot in ("ih", "il", "sh", "sl")}
    expected |= {f"fvg_{side}_{field}" for side in sides for field in ("new_top", "new_bottom", "removed_n")}

    assert len(smc.COLUMNS) == len(set(smc.COLUMNS))
    assert set(smc.COLUMNS) == {f"smc_{name}" for name in expected}


@given(markets(smallest=2), st.data())
def test_later_bars_change_nothing_that_was_written(bars, data):
    cut = data.draw(st.integers(1, len(bars)))

    assert repr(run(bars[:cut])) == repr(run(bars)[:cut])


@given(markets(), sections)
def test_reset_brings_a_used_state_back_to_fresh(bars, section):
    settings = smc.params(section)
    fresh, used, bar = record(smc.STATE), record(smc.STATE), record(BAR)
    out = np.zeros(len(smc.COLUMNS))
    smc.smc_reset(fresh, settings)
    smc.smc_reset(used, settings)

    for t, o, h, low, c, filler in bars:
        bar_step(bar, t, o, h, low, c, 1.0, 0.5, filler)
        smc.smc_step(used, settings, bar, out)
    smc.smc_reset(used, settings)

    assert used.tobytes() == fresh.tobytes()


@given(markets())
def test_filler_bars_are_silent(bars):
    rows = run(bars)

    for bar, row in zip(bars, rows, strict=True):
        if bar[5]:
            assert all(row[name] == 0 or math.isnan(row[name]) for name in EVENTS)


@given(st.integers(0, 2**32), st.integers(1, 6))
def test_prices_times_a_power_of_two_leave_flags_and_counts_as_they_are(seed, power):
    bars = walk(seed, 400, tick=0.25, start=4000)
    scaled = [(t, *(x * 2.0**power for x in prices), filler) for t, *prices, filler in bars]
    flags = [
        c for c in smc.COLUMNS if c.endswith(("_bos", "_choch", "_n", "_eqh", "_eql", "_trend", "_count", "_time"))
    ]

    rows, others = run(bars, Smc(swing_length=10)), run(scaled, Smc(swing_length=10))

    naive_open.assert_same([{n: r[n] for n in flags} for r in rows], [{n: r[n] for n in flags} for r in others])


# --- pivots, lists, zones --------------------------------------------------------------------------------------------


@given(markets(), st.sampled_from([1, 2, 3, 5, 50, 100]))
def test_leg_pivots_equal_the_twin_and_alternate_from_a_low(bars, size):
    leg = record(LEG)
    leg_reset(leg)
    events = []

    for t, _, h, low, _, _ in bars:
        side = leg_step_at(leg, t, h, low, size)
        if side != 0:
            at = pivot_index(leg, size)
            events.append(side)
            assert pivot_ms(leg, size) == bars[at][0]
            assert (pivot_high(leg, size), pivot_low(leg, size)) == (bars[at][2], bars[at][3])

    expected = [1 if e[0] == "high" else -1 for e in naive_open.legs(bars, size) if e]
    assert events == expected
    assert all(side == (-1 if i % 2 == 0 else 1) for i, side in enumerate(events))


def test_a_bar_beyond_both_sides_ends_the_leg_as_a_high():
    leg = record(LEG)
    # low pivot (leg 1), then an outside bar whose high and low both stand for two bars
    bars = [(10, 9), (8, 7), (10, 9), (11, 10), (20, 1), (12, 10), (11, 9)]

    assert [leg_step(leg, float(h), float(low), 2) for h, low in bars] == [0, 0, 0, -1, 0, 0, 1]


removal = st.tuples(st.floats(90, 110), st.floats(90, 110))
addition = st.tuples(st.floats(90, 110), st.floats(90, 110), st.sampled_from([-1, 1]))


@given(st.lists(st.one_of(removal, addition), max_size=700), st.sampled_from([1, 3, 100, 256]))
def test_a_list_of_blocks_behaves_like_a_plain_list_with_the_passing_over_walk(operations, limit):
    blocks = record(BLOCKS)
    blocks_reset(blocks)
    plain = []

    for number, operation in enumerate(operations):
        if len(operation) == 3:
            top, bottom, bias = operation
            blocks_add(blocks, top, bottom, number, bias, limit)
            plain = [(top, bottom, number, bias), *plain[: limit - 1]]
        else:
            rising, falling = operation
            blocks_mitigate(blocks, rising, falling)
            gone = naive_open.walk_list(plain, lambda b: falling < b[1] if b[3] > 0 else rising > b[0])  # noqa: B023
            assert blocks.bull_removed == sum(b[3] > 0 for b in gone)
            assert blocks.bear_removed == sum(b[3] < 0 for b in gone)

    slots = [blocks_slot(blocks, age) for age in range(blocks.held)]
    assert [(blocks.top[i], blocks.bottom[i], blocks.open_ms[i], blocks.bias[i]) for i in slots] == plain


def test_the_hundred_and_first_order_block_pushes_the_oldest_out():
    blocks = record(BLOCKS)
    blocks_reset(blocks)

    for number in range(101):
        blocks_add(blocks, 2.0, 1.0, number, 1, 100)

    assert blocks.held == 100
    assert blocks.open_ms[blocks_slot(blocks, 99)] == 1
    assert blocks.open_ms[blocks_slot(blocks, 0)] == 100


def test_beyond_the_gap_limit_the_oldest_gap_goes_without_being_counted():
    # a staircase on which every bar from the third on leaves a bullish gap, and price never comes back
    bars = [(i, *(30.0 * i + x for x in (10.0, 21.0, 9.0, 20.0)), 0) for i in range(GAP_LIMIT + 20)]

    rows = run(bars, Smc(fvg_auto_threshold=False), lambda state: {"held": int(state.gaps.gaps.held)})

    assert [r["held"] for r in rows] == [min(max(i - 1, 0), GAP_LIMIT) for i in range(len(bars))]
    assert sum(r["smc_fvg_bull_removed_n"] for r in rows) == 0


def test_trailing_extremes_wait_for_a_pivot_and_then_follow_price():
    zones = record(ZONES)
    zones_reset(zones)

    zones_extend(zones, 1, 110.0, 90.0)
    assert math.isnan(zones.top)
    assert math.isnan(zones.bottom)

    zones_pivot(zones, 1, 2, 105.0)
    zones_extend(zones, 3, 105.0, 80.0)
    assert (zones.top, zones.top_ms, zones.left_ms) == (105.0, 3, 2)  # an equal high moves the time
    assert math.isnan(zones.bottom)

    zones_pivot(zones, -1, 4, 85.0)
    zones_extend(zones, 5, 104.0, 84.0)
    assert (zones.top, zones.bottom, zones.bottom_ms, zones.left_ms) == (105.0, 84.0, 5, 4)


# --- fair value gaps, worked by hand ---------------------------------------------------------------------------------


def bars_of(*prices):
    return [(1000 * i, *map(float, ohlc), 0) for i, ohlc in enumerate(prices)]


FIRST, BODY = (10, 11, 9, 10), (10, 15, 10, 14)  # H[2] = 11; the middle bar closes above it
TOP, DROP = (20, 21, 19, 20), (20, 20, 15, 16)  # L[2] = 19; the middle bar closes below it
NOTHING = (math.nan, math.nan)


@pytest.mark.parametrize(
    ("name", "prices", "bull", "bear"),
    [
        ("a low above the high two bars ago is a gap", (FIRST, BODY, (14, 16, 12, 15)), (12, 11), NOTHING),
        ("touching the high two bars ago is none", (FIRST, BODY, (14, 16, 11, 15)), NOTHING, NOTHING),
        ("the middle bar has to close beyond it", (FIRST, (10, 15, 10, 11), (14, 16, 12, 15)), NOTHING, NOTHING),
        ("a falling middle bar makes no bullish gap", (FIRST, (15, 15, 13, 14), (14, 16, 12, 15)), NOTHING, NOTHING),
        ("a doji in the middle makes none", (FIRST, (14, 15, 13, 14), (14, 16, 12, 15)), NOTHING, NOTHING),
        ("a high below the low two bars ago", (TOP, DROP, (16, 18, 14, 15)), NOTHING, (18, 19)),
        ("touching the low two bars ago is none", (TOP, DROP, (16, 19, 14, 15)), NOTHING, NOTHING),
        ("a rising middle bar makes no bearish gap", (TOP, (15, 17, 15, 16), (16, 18, 14, 15)), NOTHING, NOTHING),
        ("two bars are too few", (FIRST, BODY), NOTHING, NOTHING),
    ],
)
def test_gap_creation_worked_by_hand(name, prices, bull, bear):
    last = run(bars_of(*prices), Smc(fvg_auto_threshold=False))[-1]

    got = [last[f"smc_fvg_{side}_new_{edge}"] for side in ("bull", "bear") for edge in ("top", "bottom")]
    np.testing.assert_array_equal(got, [*bull, *bear])


UP, DOWN = (FIRST, BODY, (14, 16, 12, 15)), (TOP, DROP, (16, 18, 14, 15))  # gaps 11 to 12 and 18 to 19


@pytest.mark.parametrize(
    ("name", "prices", "bull", "bear"),
    [
        ("a bullish gap stands while its lower edge holds", (*UP, (15, 15, 11, 13)), [0], [0]),
        ("and goes when price falls through all of it", (*UP, (15, 15, 10.9, 13)), [1], [0]),
        ("a bearish gap stands while its lower edge is not crossed", (*DOWN, (15, 18, 14, 15)), [0], [0]),
        ("and goes at a touch of it, far from filled", (*DOWN, (15, 18.1, 14, 15)), [0], [1]),
        ("removed once, removed for ever", (*DOWN, (15, 18.1, 14, 15), (15, 18.2, 14, 15)), [0, 0], [1, 0]),
    ],
)
def test_gap_removal_worked_by_hand(name, prices, bull, bear):
    rows = run(bars_of(*prices), Smc(fvg_auto_threshold=False))[3:]

    assert [r["smc_fvg_bull_removed_n"] for r in rows] == bull
    assert [r["smc_fvg_bear_removed_n"] for r in rows] == bear


def test_of_two_gaps_broken_at_once_the_older_one_goes_a_bar_later():
    # gaps 11-12 (older) and 15-20 (newer: 15 is the high of the middle bar, then a bar above 20)
    prices = (FIRST, BODY, (14, 22, 12, 21), (21, 25, 20, 24), (24, 24, 5, 6), (6, 7, 5, 6), (6, 7, 5, 6))

    rows = run(bars_of(*prices), Smc(fvg_auto_threshold=False))

    assert [(r["smc_fvg_bull_new_top"], r["smc_fvg_bull_new_bottom"]) for r in rows[2:4]] == [(12, 11), (20, 15)]
    assert [r["smc_fvg_bull_removed_n"] for r in rows[4:]] == [1, 1, 0]


@pytest.mark.parametrize(
    ("bodies", "passes"),
    [
        # The mean is that of all bars before the last, the middle one included, over the number of the last bar.
        ((0.0, 1.0), False),  # 2 * (0 + 1)/2 = 1: not above itself
        ((0.0, 0.0, 1.0), True),  # 2 * 1/3 < 1
        ((0.25, 0.25, 1.0), False),  # 2 * 1.5/3 = 1
        ((0.25, 0.2, 1.0), True),  # 2 * 1.45/3 < 1
        ((1.0, 1.0, 3.9), False),  # 2 * 5.9/3 = 3.93
        ((1.0, 1.0, 4.1), True),  # 2 * 6.1/3 = 4.07
        ((1.0, -1.0, 3.9), False),  # the size of a body counts, not its direction
        ((1.0, 1.0, 1.0, 2.9), False),  # 2 * 5.9/4 = 2.95
        ((1.0, 1.0, 1.0, 3.1), True),  # 2 * 6.1/4 = 3.05
    ],
)
def test_the_auto_threshold_worked_by_hand(bodies, passes):
    # bars open at 100, so a body in prices is a body in per cent; the last bar leaves a gap above 101
    rows = [(100, max(101, 100 + b), min(99, 100 + b), 100 + b) for b in bodies]
    rows[-2] = (100, 100 + max(bodies[-2], 0), 99, 100 + bodies[-2])
    prices = [*rows, (110, 112, 110, 111)]

    last = run(bars_of(*prices), Smc(fvg_auto_threshold=True))[-1]

    high = prices[-3][1]
    assert 100 + bodies[-1] > high  # only the threshold decides
    got = (last["smc_fvg_bull_new_top"], last["smc_fvg_bull_new_bottom"])
    np.testing.assert_array_equal(got, (110, high) if passes else NOTHING)


# --- the confluence filter, worked by hand ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("open_", "high", "low", "close", "bull", "bear"),
    [
        (100, 103, 99.5, 102, True, False),  # wick 1, O-L 0.5
        (100, 102, 98, 101, False, True),  # wick 1, O-L 2
        (100, 102, 99, 101, False, False),  # 1 and 1: neither
        (100, 102, 100, 102, False, False),  # 0 and 0: neither
        (100, 104, 100, 102, True, False),  # wick 2, nothing below
        (102, 102, 99, 100, False, True),  # no upper wick, O-L 3
        (102, 105, 101, 101, True, False),  # falling bar: the wick is measured from the open, 3 against O-L 1
        (102, 103, 99, 101, False, True),  # 1 against 3, though the wick below the body is 2
        (101, 102, 99, 100, False, True),  # 1 against 2: below the body there is only 1, but O-L counts
        (5, 6, 1, 2, False, True),  # the price quirk: min(C = 2, O-L = 4) = 2 against 1
        (5, 7.5, 1, 2, True, False),  # 2.5 against the price 2, though O-L is 4
        (0.5, 0.8, 0.1, 0.2, True, False),  # 0.3 against the price 0.2
    ],
)
def test_the_confluence_filter_worked_by_hand(open_, high, low, close, bull, bear):
    prices = tuple(map(float, (open_, high, low, close)))

    assert smc.confluence(*prices, 1) == bull
    assert smc.confluence(*prices, -1) == bear


def break_bars(last):
    """Pivots of size 2 and 5 first: a swing low, an (internal and swing) high at 120, an internal high at 112."""
    path = [100, 98, 96, 94, 92, 90, 95, 100, 105, 110, 118, 112, 108, 104, 101, 100, 104, 108, 111, 107, 104, 103]
    prices = [(p, p + 1, p - 1, p) for p in path]
    return bars_of(*prices, last)


@pytest.mark.parametrize(
    ("last", "without", "with_filter"),
    [
        ((104, 116, 103.5, 115), [1, 0], [1, 0]),  # wick 1 above, O-L 0.5
        ((104, 115.2, 103, 115), [1, 0], [0, 0]),  # wick 0.2, O-L 1: blocked, and the bar after starts above the level
        ((104, 116, 103.5, 112), [0, 1], [0, 1]),  # closes on 112, the bar after above it with a long wick
    ],
)
def test_the_filter_blocks_an_internal_break_and_the_crossing_is_lost(last, without, with_filter):
    close = last[3]
    bars = [*break_bars(last), (99_000, close, close + 3.0, close - 0.1, close + 0.5, 0)]

    def bulls(confluence):
        section = Smc(internal_length=2, swing_length=5, confluence_filter=confluence)
        return [r["smc_int_bull_bos"] + r["smc_int_bull_choch"] for r in run(bars, section)[-2:]]

    assert bulls(False) == without
    assert bulls(True) == with_filter


def test_an_internal_break_needs_a_swing_level_of_its_own():
    # the first swing high is confirmed long after the first internal high is crossed
    path = [100, 99, 98, 100, 102, 101, 100, 101, 103, 105, 107]
    bars = bars_of(*((p, p + 0.5, p - 0.5, p) for p in path))

    rows = run(bars, Smc(internal_length=2, swing_length=50))

    assert rows[-1]["smc_ih_level"] == 102.5
    assert sum(r["smc_int_bull_bos"] + r["smc_int_bull_choch"] for r in rows) == 0


# --- the cumulative mean range, worked by hand -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "bars", "swapped"),
    [
        ("bar 0 has no mean", [(110, 90, 100)], False),
        ("bar 1 is its own mean", [(110, 90, 100), (105, 95, 100)], False),
        ("a flat bar after one close: 0 >= 0", [(110, 90, 100), (100, 100, 100)], True),
        ("bar 0's range does not count", [(190, 10, 100), (101, 99, 100), (102, 98, 100)], False),  # 4 < 2*(2+4)/2
        ("bar 2 after a flat bar 1: 4 >= 2*(0+4)/2", [(101, 99, 100), (100, 100, 100), (102, 98, 100)], True),
        ("4 < 2*(1+4)/2", [(101, 99, 100), (100.5, 99.5, 100), (102, 98, 100)], False),
        ("8 >= 2*(2+2+8)/3", [(101, 99, 100)] * 3 + [(104, 96, 100)], True),
        ("7.5 < 2*(2+2+7.5)/3", [(101, 99, 100)] * 3 + [(104, 96.5, 100)], False),
        ("6 >= 2*(2+2+2+6)/4", [(101, 99, 100)] * 4 + [(103, 97, 100)], True),
        ("5.5 < 2*(2+2+2+5.5)/4", [(101, 99, 100)] * 4 + [(103, 97.5, 100)], False),
        # a gap widens the true range, not the bar's own range: TR 10, range 4 < 2*(2+2+10)/3
        ("a jump counts in the mean", [(101, 99, 100)] * 3 + [(110, 106, 108)], False),
        ("a quiet bar after a wild one", [(101, 99, 100)] * 3 + [(120, 80, 100), (101, 99, 100)], False),
    ],
)
def test_the_cumulative_mean_range_worked_by_hand(name, bars, swapped):
    def parsed(state):
        slot = (state.parsed.bars - 1) % 128
        return {"high": float(state.parsed.high[slot]), "low": float(state.parsed.low[slot])}

    rows = [(i, c, float(h), float(low), float(c), 0) for i, (h, low, c) in enumerate(bars)]

    last = run(rows, Smc(order_block_filter="range"), parsed)[-1]

    high, low, _ = bars[-1]
    assert (last["high"], last["low"]) == ((low, high) if swapped else (high, low))
