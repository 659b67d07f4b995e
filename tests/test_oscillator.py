"""Oscillator Matrix: kernel against the slow twin, against ta and pandas, its laws, and its rates on real klines."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.config import Config, Oscillator
from bot.core.jit import record
from bot.indicators import hyperwave, money_flow, oscillator
from bot.indicators.window_sum import WINDOW, WINDOWS, lanes_step, window_reset, window_step
from tests import naive_premium as naive
from tests.premium_markets import (
    Market,
    Real,
    Runner,
    batch_columns,
    hidden_methods,
    markets,
    random_market,
    real_klines,
    run,
)
from tests.test_oscillator_truth import BEFORE

EVENTS = (
    "om_cross_up",
    "om_cross_down",
    "om_divergence_bull",
    "om_divergence_bear",
    "om_reversal_minor_up",
    "om_reversal_minor_down",
    "om_reversal_major_up",
    "om_reversal_major_down",
    "om_big_up",
    "om_big_down",
)
CONDITIONS = (
    "om_overflow_up",
    "om_overflow_down",
    "om_recent_overflow_up",
    "om_recent_overflow_down",
    "om_ready",
)
FLAGS = EVENTS + CONDITIONS
PAIRS = tuple(
    (name, name.replace("_up", "_down").replace("_bull", "_bear")) for name in FLAGS if name.endswith(("_up", "_bull"))
)
PAIRS += tuple((b, a) for a, b in PAIRS)


def om(market: Market, **settings):
    return run(oscillator, "om", Oscillator(**settings), market)


def flags(values) -> np.ndarray:
    return np.asarray(values, dtype=np.float64)


SETTINGS = st.builds(
    Oscillator,
    money_flow_length=st.sampled_from((2, 5, 20, 35)),
    money_flow_smooth=st.sampled_from((1, 3, 6)),
    money_flow_weight=st.sampled_from((0.0, 0.4, 1.0)),
    overflow_volume_ratio=st.sampled_from((0.9, 1.2)),
    hyperwave_length=st.sampled_from((2, 7, 14)),
    hyperwave_inner=st.sampled_from((1, 3)),
    hyperwave_source=st.sampled_from(("ohlc4", "close")),
    hyperwave_smoothing=st.sampled_from(("off", "super")),
    hyperwave_smoothing_length=st.sampled_from((2, 3, 8)),
    hyperwave_average=st.sampled_from(("sma", "ema", "rma")),
    signal_length=st.sampled_from((1, 3, 5)),
    signal_average=st.sampled_from(("sma", "ema")),
    big_dot_edge=st.sampled_from((10.0, 25.0, 30.0)),
    divergence_sensitivity=st.sampled_from((2, 10, 20, 40, 45)),
    divergence_prominence=st.sampled_from((32.0, 50.0)),
    reversal_factor=st.sampled_from((1, 5, 8)),
    reversal_major=st.sampled_from(("cross", "volume")),
    confluence_hyperwave=st.sampled_from(("50", "signal")),
    confluence_money_flow=st.sampled_from(("50", "threshold")),
)


READINGS = [  # the forms that alert streams decided between: the default, the recipe's signal, and those of before
    {},
    {"hyperwave_average": "rma", "signal_average": "sma"},
    BEFORE,
]


# --- Windows ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(-1e9, 1e9) | st.just(math.nan), max_size=80), st.integers(1, 30))
def test_a_window_sums_its_last_values_and_a_nan_spoils_only_the_windows_that_hold_it(values, length):
    window = record(WINDOW)

    sums = [window_step(window, x, length) for x in values]

    for t, total in enumerate(sums):
        held = values[max(t - length + 1, 0) : t + 1]
        expected = math.fsum(held) if len(held) == length else math.nan
        assert total == pytest.approx(expected, rel=1e-12, abs=1e-6, nan_ok=True)


@given(st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_eight_windows_stepped_together_equal_eight_single_ones(length, seed):
    lanes = record(WINDOWS)
    singles = [record(WINDOW) for _ in range(8)]

    for values in np.random.default_rng(seed).normal(size=(60, 8)):
        lanes.fresh[:] = values
        lanes_step(lanes, length)
        expected = [window_step(w, float(x), length) for w, x in zip(singles, values, strict=True)]

        np.testing.assert_array_equal(lanes.total, expected)


def test_a_window_of_zeros_after_large_values_is_exactly_zero():
    window = record(WINDOW)
    for x in (1e15, 0.1, 3e7, 0.7):
        window_step(window, x, 3)

    left = [window_step(window, 0.0, 3) for _ in range(3)]

    assert left[-1] == 0.0


def test_a_reset_window_is_a_zeroed_one():
    window = record(WINDOW)
    for x in range(7):
        window_step(window, float(x), 3)

    window_reset(window)

    assert window.tobytes() == record(WINDOW).tobytes()


# --- Against the slow twin -------------------------------------------------------------------------------------------


@given(markets(), SETTINGS)
def test_money_flow_and_thresholds_equal_the_twin(market, settings):
    o, n = settings, settings.money_flow_length

    out = run(oscillator, "om", settings, market)

    mf = naive.money_flow(
        *(x.tolist() for x in (market.high, market.low, market.close, market.volume)),
        n,
        o.money_flow_smooth,
        o.money_flow_weight,
    )
    up, down = naive.thresholds(mf, n)
    for name, expected in (("om_money_flow", mf), ("om_upper", up), ("om_lower", down)):
        np.testing.assert_allclose(out[name], expected, rtol=0, atol=1e-9, err_msg=name)


@given(markets(), st.sampled_from((5, 20, 35)), st.booleans())
def test_the_true_volume_line_equals_the_twin(market, length, holes):
    if holes:
        market.taker[::97] = math.nan

    out = om(market, money_flow_length=length)

    columns = (x.tolist() for x in (market.high, market.low, market.close, market.volume, market.taker))
    expected = naive.taker_money_flow(*columns, length, 6, 0.4)
    np.testing.assert_allclose(out["om_money_flow_taker"], expected, rtol=0, atol=1e-4)
    if holes:
        whole = om(market._replace(taker=market.volume), money_flow_length=length)
        np.testing.assert_array_equal(out["om_money_flow"], whole["om_money_flow"])


@pytest.mark.parametrize("settings", READINGS)
@pytest.mark.parametrize("seed", range(20))
def test_a_market_that_stands_still_has_no_cross(seed, settings):
    """Wave and signal are equal then, but for rounding: a difference of 1e-14 had been a cross on a bar without a trade."""
    moving = random_market(seed, 300)
    still = moving._replace(
        **{n: np.append(getattr(moving, n), np.full(60, moving.close[-1])) for n in ("open", "high", "low", "close")},
        **{n: np.append(getattr(moving, n), np.zeros(60)) for n in ("volume", "taker")},
        filled=np.append(moving.filled, np.zeros(60, np.int64)),
    )

    out = om(still, **settings)

    assert not out["om_cross_up"][-40:].any()
    assert not out["om_cross_down"][-40:].any()


@given(markets(), SETTINGS)
def test_overflow_equals_the_twin(market, settings):
    out = run(oscillator, "om", settings, market)

    rv = naive.relative_volume(market.volume.tolist(), settings.money_flow_length)
    mf, top, bottom = (out[name].tolist() for name in ("om_money_flow", "om_upper", "om_lower"))
    up, down = naive.overflows(mf, top, bottom, rv, settings.overflow_volume_ratio)
    np.testing.assert_array_equal(out["om_overflow_up"], flags(up))
    np.testing.assert_array_equal(out["om_overflow_down"], flags(down))
    np.testing.assert_array_equal(out["om_recent_overflow_up"], flags(naive.recently_ended(up)))
    np.testing.assert_array_equal(out["om_recent_overflow_down"], flags(naive.recently_ended(down)))
    known = ~np.isnan([top, bottom, np.concatenate(([math.nan], mf[:-1])), rv]).any(axis=0)
    np.testing.assert_array_equal(out["om_ready"], flags(known))
    value = np.where(up, 50 + (np.array(mf) - top), np.where(down, 50 - (np.array(bottom) - mf), 50.0))
    np.testing.assert_allclose(out["om_overflow_value"], np.where(np.isnan(top), math.nan, value), rtol=0, atol=1e-12)


@given(markets(), SETTINGS)
def test_hyperwave_and_signal_equal_the_twin(market, settings):
    out = run(oscillator, "om", settings, market)

    source = market.close if settings.hyperwave_source == "close" else sum(market[:4]) / 4.0
    wave, signal = naive.hyperwave(
        source.tolist(),
        settings.hyperwave_length,
        settings.hyperwave_inner,
        settings.signal_length,
        exponential=settings.signal_average == "ema",
        average=settings.hyperwave_average,
        smoothing=settings.hyperwave_smoothing_length if settings.hyperwave_smoothing == "super" else 0,
    )
    np.testing.assert_allclose(out["om_hyperwave"], wave, rtol=0, atol=1e-9)
    np.testing.assert_allclose(out["om_signal"], signal, rtol=0, atol=1e-9)


@given(markets(), SETTINGS)
def test_events_equal_the_twin_and_are_not_told_on_fillers_and_first_bars(market, settings):
    out = run(oscillator, "om", settings, market)

    wave, signal, mf, top, bottom = (
        out[name].tolist() for name in ("om_hyperwave", "om_signal", "om_money_flow", "om_upper", "om_lower")
    )
    up, down = naive.crosses(wave, signal)
    s, at_zero = settings.divergence_sensitivity, settings.divergence_prominence
    f, big = settings.reversal_factor, settings.big_dot_edge
    over_up, over_down = out["om_overflow_up"] == 1, out["om_overflow_down"] == 1
    turns = naive.reversals(wave, up, down, over_up, over_down, mf, top, bottom, f)
    if settings.reversal_major == "volume":
        ends = naive.bursts_end(market.volume.tolist(), f + 4)
        turns["major_up"] = [end and x < 50 - big for end, x in zip(ends, wave, strict=True)]
        turns["major_down"] = [end and x > 50 + big for end, x in zip(ends, wave, strict=True)]
    expected = {
        "om_cross_up": up,
        "om_cross_down": down,
        "om_big_up": [u and x < 50 - big for u, x in zip(up, wave, strict=True)],
        "om_big_down": [d and x > 50 + big for d, x in zip(down, wave, strict=True)],
        "om_divergence_bull": naive.bullish_divergences(wave, market.low.tolist(), up, down, s, at_zero),
        "om_divergence_bear": naive.bearish_divergences(wave, market.high.tolist(), down, up, s, at_zero),
        **{f"om_reversal_{name}": values for name, values in turns.items()},
    }
    told = (market.filled == 0) & (np.arange(len(wave)) >= 3 * settings.hyperwave_length)
    assert set(expected) == set(EVENTS)
    for name, values in expected.items():
        np.testing.assert_array_equal(out[name], flags(values) * told, err_msg=name)


@given(markets(), SETTINGS)
def test_confluence_equals_the_twin(market, settings):
    out = run(oscillator, "om", settings, market)

    wave, signal, mf, top, bottom = (
        out[name] for name in ("om_hyperwave", "om_signal", "om_money_flow", "om_upper", "om_lower")
    )
    level = signal if settings.confluence_hyperwave == "signal" else np.full_like(wave, 50.0)
    high, low = (top, bottom) if settings.confluence_money_flow == "threshold" else (50.0 + 0 * mf, 50.0 + 0 * mf)
    known = ~np.isnan([wave, level, mf, high]).any(axis=0)
    upper = np.where(known, flags(wave > level) + flags(mf > high), math.nan)
    lower = np.where(known, flags(wave < level) + flags(mf < low), math.nan)
    np.testing.assert_array_equal(out["om_confluence_upper"], upper)
    np.testing.assert_array_equal(out["om_confluence_lower"], lower)
    rows = zip(*(x.tolist() for x in (wave, signal, mf, top, bottom)), strict=True)
    np.testing.assert_array_equal(out["om_meter"], [naive.confluence_meter(*row) for row in rows])


# --- Laws ------------------------------------------------------------------------------------------------------------


@given(markets(), SETTINGS, st.data())
def test_a_row_does_not_change_with_the_bars_after_it(market, settings, data):
    cut = data.draw(st.integers(1, len(market.close)))
    other = random_market(1, len(market.close), tick=float(market.close[0]) / 1e5)
    changed = Market(*(np.concatenate((a[:cut], b[cut:])) for a, b in zip(market, other, strict=True)))

    rows = Runner(oscillator, "om", settings).rows(market)
    changed_rows = Runner(oscillator, "om", settings).rows(changed)
    head_rows = Runner(oscillator, "om", settings).rows(market.head(cut))

    np.testing.assert_array_equal(rows[:cut], changed_rows[:cut])
    np.testing.assert_array_equal(rows[:cut], head_rows)


@given(markets(longest=200), SETTINGS)
def test_reset_brings_a_used_state_back_to_a_fresh_one(market, settings):
    used = Runner(oscillator, "om", settings)
    first = used.rows(market)

    used.reset(used.state, used.params)

    assert used.state.tobytes() == Runner(oscillator, "om", settings).state.tobytes()
    np.testing.assert_array_equal(used.rows(market), first)


@given(markets(), SETTINGS, st.integers(-8, 8))
def test_powers_of_two_in_price_and_volume_change_no_value(market, settings, power):
    # RSI calls moves below 1e-12 no move at all, so the smallest prices are left out
    market = market.scaled(2.0 ** -math.floor(math.log2(market.close[0])))

    out = run(oscillator, "om", settings, market)
    scaled = run(oscillator, "om", settings, market.scaled(2.0**power, 2.0**-power))

    for name in oscillator.COLUMNS:
        np.testing.assert_array_equal(out[name], scaled[name], err_msg=name)


@pytest.mark.parametrize("settings", READINGS)
@pytest.mark.parametrize("seed", range(5))
def test_prices_times_ten_change_no_flag(seed, settings):
    market = random_market(seed, 1500, spike=0.02, jump=0.1)

    out, tenfold = om(market, **settings), om(market.scaled(10.0), **settings)

    for name in FLAGS:
        np.testing.assert_array_equal(out[name], tenfold[name], err_msg=name)
    np.testing.assert_allclose(out["om_hyperwave"], tenfold["om_hyperwave"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("settings", READINGS)
@pytest.mark.parametrize("seed", range(5))
def test_the_mirrored_market_swaps_the_sides(seed, settings):
    """Exactly antisymmetric: HyperWave and everything read from it, and money flow without its MFI part.

    MFI weighs volume with the price itself, rising prices a little more than falling ones, so the full line is not.
    """
    market = random_market(seed, 1500, spike=0.02, jump=0.1)

    settings = settings | {"money_flow_weight": 0.0}
    out, mirror = om(market, **settings), om(market.mirrored(), **settings)

    for name, other in PAIRS:
        np.testing.assert_array_equal(out[name], mirror[other], err_msg=name)
    for name in ("om_money_flow", "om_money_flow_taker", "om_hyperwave", "om_signal", "om_meter", "om_overflow_value"):
        np.testing.assert_allclose(out[name], 100.0 - mirror[name], rtol=0, atol=1e-9, err_msg=name)
    np.testing.assert_allclose(out["om_upper"], 100.0 - mirror["om_lower"], rtol=0, atol=1e-9)
    np.testing.assert_array_equal(out["om_confluence_upper"], mirror["om_confluence_lower"])
    assert out["om_divergence_bull"].sum() > 0
    assert out["om_overflow_up"].sum() > 0


@given(markets(), SETTINGS)
def test_lines_stay_between_0_and_100_and_big_dots_are_crosses(market, settings):
    out = run(oscillator, "om", settings, market)

    for name in (
        "om_money_flow",
        "om_upper",
        "om_lower",
        "om_hyperwave",
        "om_signal",
        "om_meter",
        "om_money_flow_taker",
    ):
        values = out[name][~np.isnan(out[name])]
        assert ((values > -1e-9) & (values < 100 + 1e-9)).all(), name
    assert (out["om_upper"] >= 50)[~np.isnan(out["om_upper"])].all()
    assert (out["om_big_up"] <= out["om_cross_up"]).all()
    assert (out["om_overflow_up"] + out["om_overflow_down"] <= 1).all()
    for name in FLAGS:
        assert np.isin(out[name], (0.0, 1.0)).all(), name


# --- Single rules ----------------------------------------------------------------------------------------------------


def test_first_values_come_with_the_documented_bars():
    out = om(random_market(3, 120))

    first = {name: int(np.argmax(~np.isnan(out[name]))) + 1 for name in ("om_money_flow", "om_upper", "om_signal")}

    assert first == {"om_money_flow": 40, "om_upper": 74, "om_signal": 8}
    assert int(np.argmax(out["om_ready"] == 1)) + 1 == 74
    assert not any(out[name][:21].any() for name in EVENTS)


@pytest.mark.parametrize(
    ("average", "signal", "line_bar", "signal_bar"),
    [
        ("sma", "sma", 10, 12),
        ("ema", "sma", 8, 10),
        ("rma", "sma", 10, 12),
        ("ema", "ema", 8, 8),
        ("rma", "ema", 10, 10),
    ],
)
@pytest.mark.parametrize("smoothing", ["off", "super"])
def test_recursive_averages_begin_with_their_first_value(smoothing, average, signal, line_bar, signal_bar):
    """The smoother before the RSI costs no bar: it begins with the first price."""
    settings = {"hyperwave_smoothing": smoothing, "hyperwave_average": average, "signal_average": signal}

    out = om(random_market(3, 60), **settings)

    assert np.flatnonzero(~np.isnan(out["om_hyperwave"]))[0] + 1 == line_bar
    assert np.flatnonzero(~np.isnan(out["om_signal"]))[0] + 1 == signal_bar


def test_a_market_that_stands_still_is_balanced_and_silent():
    still = Market(
        *(np.full(200, 100.0) for _ in range(4)), np.full(200, 5.0), np.full(200, 2.5), np.zeros(200, np.int64)
    )

    out = om(still)

    for name in ("om_money_flow", "om_upper", "om_lower", "om_hyperwave", "om_meter", "om_money_flow_taker"):
        assert (out[name][~np.isnan(out[name])] == 50.0).all(), name
    assert not any(out[name].any() for name in EVENTS)


def test_without_volume_flow_is_balanced_and_overflow_is_not_ready():
    market = random_market(5, 200)
    market.volume[60:] = 0.0
    market.taker[60:] = 0.0

    out = om(market)

    assert out["om_money_flow"][-1] == 50.0
    assert out["om_money_flow_taker"][-1] == 50.0
    assert out["om_ready"][80] == 1
    assert out["om_ready"][-1] == 0


def test_overflow_needs_flow_beyond_its_threshold_growing_and_on_volume():
    reset_params = oscillator.params(Oscillator())
    cases = {  # line, line before, relative volume: expected up flag
        "all three": (70.0, 69.0, 1.3, 1),
        "equal flow still counts as growing": (70.0, 70.0, 1.3, 1),
        "shrinking": (70.0, 71.0, 1.3, 0),
        "on thin volume": (70.0, 69.0, 1.2, 0),
        "below the threshold": (59.0, 58.0, 1.3, 0),
        "volume unknown": (70.0, 69.0, math.nan, 0),
    }
    for name, (line, before, relative, expected) in cases.items():
        flow = record(money_flow.MONEY_FLOW)
        money_flow.money_flow_reset(flow)
        flow.line, flow.upper, flow.lower = line, 60.0, 40.0

        money_flow.overflow_step(flow, reset_params.flow, before, relative, 1.0)

        assert flow.overflow_up == expected, name
        assert flow.overflow == (50.0 + line - 60.0 if expected else 50.0), name


def test_an_ended_overflow_is_recent_for_five_bars():
    assert [money_flow.overflow_recent(0, since) for since in range(1, 7)] == [1.0] * 5 + [0.0]
    assert money_flow.overflow_recent(1, 0) == 0.0


def test_a_divergence_needs_a_prominent_reference_a_lower_price_and_a_higher_wave():
    def found(**change):
        values = {"lift": 45.0, "second_wave": 25.0, "second_price": 99.0, "wait": 0} | change
        swings = record(hyperwave.SWINGS)
        params = oscillator.params(Oscillator(divergence_prominence=50.0)).wave  # prominence 30, gain 10
        steps = [(40.0, 102.0, 0, 1), (10.0, 100.0, 0, 0), (30.0, 101.0, 1, 0)]  # swing low 10 at bar 1, cross up
        steps += [(values["lift"], 105.0, 0, 0)] * (1 + values["wait"])
        steps += [(38.0, 104.0, 0, 1), (values["second_wave"], values["second_price"], 0, 0), (35.0, 101.0, 1, 0)]
        flags = [
            hyperwave.swings_step(swings, params, wave, price, bar, ends, begins)
            for bar, (wave, price, ends, begins) in enumerate(steps)
        ]
        assert not any(flags[:-1])
        return flags[-1] == 1

    assert found()
    assert not found(lift=39.0)  # never 30 points away: no reference
    assert not found(second_price=100.0)
    assert not found(second_wave=19.0)
    assert found(second_wave=20.0)
    assert found(wait=96)
    assert not found(wait=97)  # the lows are 101 bars apart


def test_of_equal_lows_the_swing_keeps_the_first_and_the_candidate_the_last():
    swings = record(hyperwave.SWINGS)
    params = oscillator.params(Oscillator()).wave
    steps = [
        (10.0, 5.0, 0, 1),
        (10.0, 6.0, 0, 0),
        (12.0, 7.0, 1, 0),
        (11.0, 8.0, 0, 1),
        (10.0, 9.0, 0, 0),
        (12.0, 9.5, 1, 0),
    ]
    candidates = []

    for bar, (wave, price, ends, begins) in enumerate(steps):
        hyperwave.swings_step(swings, params, wave, price, bar, ends, begins)
        candidates.append((int(swings.candidate.bar), float(swings.candidate.price)))

    assert candidates[2] == (0, 5.0)
    assert candidates[5] == (4, 8.0)


def test_a_higher_reversal_factor_gives_fewer_reversals():
    market = random_market(11, 4000, spike=0.02)

    counts = [om(market, reversal_factor=f)["om_reversal_minor_up"].sum() for f in (1, 5, 8)]

    assert counts[0] > counts[1] > counts[2] > 0


def test_a_higher_reversal_factor_gives_fewer_majors_by_volume():
    market = random_market(12, 6000, trend=4.0)

    counts = [om(market, reversal_major="volume", big_dot_edge=10.0, reversal_factor=f) for f in (1, 5, 10)]

    majors = [c["om_reversal_major_down"].sum() for c in counts]
    assert majors[0] > majors[1] > majors[2]


def test_a_major_by_volume_needs_an_extreme_wave_and_the_end_of_a_burst():
    market = random_market(5, 120, step=0.0)
    close = 1000.0 + 4.0 * np.arange(120)
    rise = market._replace(open=close - 4.0, high=close + 1.0, low=close - 5.0, close=close, volume=np.full(120, 100.0))
    rise.volume[90:92] = 1500.0

    def majors(market, **settings):
        out = om(market, reversal_major="volume", **settings)
        up, down = (np.flatnonzero(out[f"om_reversal_major_{side}"]).tolist() for side in ("up", "down"))
        return up, down

    steady = rise._replace(volume=np.full(120, 100.0))
    assert majors(rise) == ([], [93])  # smoothed volume is highest on bar 92, one after the burst
    assert majors(rise.mirrored()) == ([93], [])
    assert majors(steady) == ([], [])
    flat = rise._replace(**{name: np.full(120, 1000.0) for name in ("open", "high", "low", "close")})
    assert majors(flat) == ([], [])


def test_a_smaller_edge_gives_more_big_dots_and_no_other_cross():
    market = random_market(21, 3000, spike=0.02)

    narrow, wide = om(market), om(market, big_dot_edge=30.0)

    assert narrow["om_big_up"].sum() > wide["om_big_up"].sum() > 0
    assert (narrow["om_big_up"] >= wide["om_big_up"]).all()
    np.testing.assert_array_equal(narrow["om_cross_up"], wide["om_cross_up"])


@pytest.mark.parametrize("settings", READINGS)
def test_batch_and_live_give_the_same_rows(settings):
    market = random_market(17, 800, filler=0.05, spike=0.02)
    config = Config(oscillator=Oscillator(**settings))

    rows = batch_columns(config, np.arange(800) * 180_000, np.vstack(market[:6]), market.filled, oscillator.COLUMNS)

    np.testing.assert_array_equal(rows.T, Runner(oscillator, "om", config.oscillator).rows(market))


def test_state_fields_do_not_hide_methods_of_records():
    assert hidden_methods(oscillator.STATE, oscillator.PARAMS) == set()


# --- Third witnesses and real klines ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(shared: Path) -> Real:
    return real_klines(shared)


@pytest.fixture(scope="module")
def real_columns(real: Real) -> dict[str, np.ndarray]:
    """With the readings of the notes that the families were built from."""
    return om(real.market, **BEFORE)


@pytest.fixture(scope="module")
def default_columns(real: Real) -> dict[str, np.ndarray]:
    return om(real.market)


@pytest.mark.reference
def test_money_flow_is_made_of_the_mfi_and_cmf_of_ta(real):
    from ta.volume import ChaikinMoneyFlowIndicator, MFIIndicator

    market, frame = real.market.head(20_000), real.frame.iloc[:20_000]
    hlcv = frame["high"], frame["low"], frame["close"], frame["volume"]

    mfi = om(market, money_flow_weight=1.0, money_flow_smooth=1)["om_money_flow"]
    cmf = om(market, money_flow_weight=0.0, money_flow_smooth=1)["om_money_flow"]

    np.testing.assert_allclose(mfi[35:], MFIIndicator(*hlcv, window=35).money_flow_index()[35:], rtol=1e-8)
    expected = 50 + 50 * ChaikinMoneyFlowIndicator(*hlcv, window=35).chaikin_money_flow()
    np.testing.assert_allclose(cmf[34:], expected[34:], rtol=0, atol=1e-7)


@pytest.mark.reference
def test_hyperwave_is_the_smoothed_rsi_of_ta(real, real_columns):
    from ta.momentum import RSIIndicator

    source = real.frame[["open", "high", "low", "close"]].mean(axis=1)
    wave = RSIIndicator(source, window=7).rsi().rolling(3).mean()
    signal = wave.rolling(3).mean()

    # ta seeds Wilder's average with the first change instead of a mean: 300 bars wash that out
    np.testing.assert_allclose(real_columns["om_hyperwave"][300:], wave[300:], rtol=0, atol=1e-6)
    np.testing.assert_allclose(real_columns["om_signal"][300:], signal[300:], rtol=0, atol=1e-6)


@pytest.mark.reference
def test_the_default_hyperwave_is_made_of_parts_of_scipy_ta_and_pandas(real, default_columns):
    from scipy.signal import lfilter
    from ta.momentum import RSIIndicator

    price = real.frame[["open", "high", "low", "close"]].mean(axis=1)
    a = math.exp(-math.sqrt(2) * math.pi / 3)
    second, third = 2 * a * math.cos(math.sqrt(2) * math.pi / 3), -a * a
    first = 1 - second - third
    smooth = lfilter([first / 2, first / 2], [1, -second, -third], price - price[0])  # it starts from zero
    wave = RSIIndicator(pd.Series(smooth), window=7).rsi().ewm(span=3, adjust=False).mean()
    signal = wave.ewm(span=3, adjust=False).mean()

    np.testing.assert_allclose(default_columns["om_hyperwave"][300:], wave[300:], rtol=0, atol=1e-6)
    np.testing.assert_allclose(default_columns["om_signal"][300:], signal[300:], rtol=0, atol=1e-6)


@pytest.mark.reference
def test_thresholds_are_rolling_means_of_pandas(real_columns):
    mf = pd.Series(real_columns["om_money_flow"])

    upper = 50 + (mf - 50).clip(lower=0).rolling(35).mean()
    lower = 50 - (50 - mf).clip(lower=0).rolling(35).mean()

    np.testing.assert_allclose(real_columns["om_upper"], upper, rtol=0, atol=1e-7)
    np.testing.assert_allclose(real_columns["om_lower"], lower, rtol=0, atol=1e-7)


@pytest.mark.reference
def test_rates_on_real_klines_are_those_of_the_specification(real, real_columns):
    c = real_columns

    def per_day(name):
        return c[name].sum() / real.days

    hw, mf, up, down = (c[name] for name in ("om_hyperwave", "om_money_flow", "om_upper", "om_lower"))
    overflow = c["om_overflow_up"]
    starts = np.flatnonzero(np.diff(overflow, prepend=0.0) == 1)
    ends = np.flatnonzero(np.diff(overflow, append=0.0) == -1)
    measured = {  # what: (measured, expected, tolerance)
        "crosses up a day": (per_day("om_cross_up"), 52, 2),
        "of them below 50": (((c["om_cross_up"] == 1) & (hw < 50)).sum() / real.days, 33, 2),
        "5th percentile of HyperWave": (np.nanpercentile(hw, 5), 20.1, 1),
        "95th percentile of HyperWave": (np.nanpercentile(hw, 95), 80.5, 1),
        "share above the upper threshold": ((mf > up).mean(), 0.34, 0.02),
        "share below the lower threshold": ((mf < down).mean(), 0.33, 0.02),
        "share in overflow up": (overflow.mean(), 0.058, 0.004),
        "share in overflow down": (c["om_overflow_down"].mean(), 0.058, 0.004),
        "overflow episodes a day": (len(starts) / real.days, 7, 1),
        "median length of an episode": (np.median(ends - starts[: len(ends)] + 1), 3, 0),
        "bullish divergences a day": (per_day("om_divergence_bull"), 2, 0.3),
        "bearish divergences a day": (per_day("om_divergence_bear"), 2, 0.3),
        "minor reversals a day": (per_day("om_reversal_minor_up"), 7, 1),
        "major reversals a day": (per_day("om_reversal_major_up"), 5, 1),
    }
    for what, (value, expected, tolerance) in measured.items():
        print(f"{what}: {value:.3f} (expected {expected})")  # shown by pytest -rP
        assert value == pytest.approx(expected, abs=tolerance), what


@pytest.mark.reference
def test_rates_of_the_defaults_on_real_klines_are_those_of_the_documentation(real, default_columns):
    c = default_columns
    hw = c["om_hyperwave"]
    measured = {  # what: (measured, documented)
        "crosses up a day": (c["om_cross_up"].sum() / real.days, 43.1),
        "of them below 50": (((c["om_cross_up"] == 1) & (hw < 50)).sum() / real.days, 27.4),
        "5th percentile of HyperWave": (np.nanpercentile(hw, 5), 17.4),
        "95th percentile of HyperWave": (np.nanpercentile(hw, 95), 83.5),
        "bullish divergences a day": (c["om_divergence_bull"].sum() / real.days, 3.4),
        "bearish divergences a day": (c["om_divergence_bear"].sum() / real.days, 3.3),
        "minor reversals up a day": (c["om_reversal_minor_up"].sum() / real.days, 8.6),
        "minor reversals down a day": (c["om_reversal_minor_down"].sum() / real.days, 8.9),
        "major reversals up a day": (c["om_reversal_major_up"].sum() / real.days, 2.2),
        "major reversals down a day": (c["om_reversal_major_down"].sum() / real.days, 2.3),
    }
    for what, (value, documented) in measured.items():
        assert value == pytest.approx(documented, abs=0.06), what


@pytest.mark.reference
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"divergence_sensitivity": 40}, {"om_divergence_bull": 4.4}),
        ({"divergence_sensitivity": 10}, {"om_divergence_bull": 1.7}),
        ({"divergence_sensitivity": 2}, {"om_divergence_bull": 1.5}),
        ({"reversal_factor": 1}, {"om_reversal_minor_up": 14, "om_reversal_major_up": 9}),
        ({"reversal_factor": 8}, {"om_reversal_minor_up": 3, "om_reversal_major_up": 2.5}),
    ],
)
def test_rates_move_with_sensitivity_and_factor_as_measured(real, settings, expected):
    half = real.market.head(50_000)

    out = om(half, **BEFORE | settings)

    for name, rate in expected.items():
        assert out[name].sum() / (50_000 / 480) == pytest.approx(rate, rel=0.25), name


@pytest.mark.reference
def test_a_hyperwave_of_14_hardly_reaches_20_and_80(real):
    hw = om(real.market.head(50_000), **BEFORE, hyperwave_length=14)["om_hyperwave"]

    assert np.nanpercentile(hw, 5) == pytest.approx(28, abs=1.5)
    assert np.nanpercentile(hw, 95) == pytest.approx(73, abs=1.5)
