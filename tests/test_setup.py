"""Prices of a plan and the tags of a bar, worked by hand."""

import math
from decimal import Decimal as D

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.config import TradeSettings
from bot.core.types import Denied, Side
from bot.strategy import evidence, setup
from tests.engine_harness import BTC, INSTRUMENTS, quiet_row, signal_row

INSTRUMENT = INSTRUMENTS[BTC]


def plan_of(row: dict[str, float], side: Side, **more):
    given_ = {
        "signal_ms": 180_000,
        "sequence": 1,
        "instrument": INSTRUMENT,
        "config": TradeSettings(),
        "refined": False,
    }
    return setup.plan(row, side, **(given_ | more))


@pytest.mark.parametrize(
    ("side", "bottom", "top", "atr", "entry", "stop", "tp1", "tp2", "catastrophe"),
    [
        # height 120 >= 1.2 * 60: k = 0.75, 45 beyond the edge; R = 105
        (Side.LONG, 59_940.0, 60_060.0, 60.0, "60000", "59895", "60105", "60157.5", "59737.5"),
        (Side.SHORT, 59_940.0, 60_060.0, 60.0, "60000", "60105", "59895", "59842.5", "60262.5"),
        # height 60 < 72: k = 0.6, 36 beyond the edge; R = 66
        (Side.LONG, 59_970.0, 60_030.0, 60.0, "60000", "59934", "60066", "60099", "59835"),
        (Side.SHORT, 59_970.0, 60_030.0, 60.0, "60000", "60066", "59934", "59901", "60165"),
    ],
)
def test_entry_is_the_middle_of_the_block_and_the_stop_lies_k_atr_beyond_it(
    side, bottom, top, atr, entry, stop, tp1, tp2, catastrophe
):
    name = side.name.lower()
    row = signal_row(side) | {f"{name}_ob_bottom": bottom, f"{name}_ob_top": top, "atr14": atr}

    plan = plan_of(row, side)

    assert (plan.entry, plan.stop) == (D(entry), D(stop))
    assert (plan.tp1, plan.tp2, plan.catastrophe) == (D(tp1), D(tp2), D(catastrophe))
    assert plan.risk_per_unit == abs(D(entry) - D(stop))


@pytest.mark.parametrize(
    ("side", "entry", "stop"), [(Side.LONG, "60000.1", "59895.1"), (Side.SHORT, "60000.2", "60105.2")]
)
def test_entry_and_stop_round_away_from_crossing(side, entry, stop):
    name = side.name.lower()
    row = signal_row(side) | {f"{name}_ob_bottom": 59_940.17, f"{name}_ob_top": 60_060.17}

    plan = plan_of(row, side)

    assert plan.entry == D(entry)
    assert plan.stop == D(stop)


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("broken", ["bottom", "top", "atr14"])
def test_a_plan_without_a_usable_block_is_denied_not_guessed(side, broken):
    column = broken if broken == "atr14" else f"{side.name.lower()}_ob_{broken}"

    refused = plan_of(signal_row(side) | {column: math.nan}, side)

    assert isinstance(refused, Denied)
    assert refused.code == "block"


def test_refined_edges_are_used_only_when_asked_for():
    row = signal_row(Side.LONG) | {"long_ob_refined_bottom": 59_960.0, "long_ob_refined_top": 60_060.0}

    assert plan_of(row, Side.LONG).entry == D(60_000)
    assert plan_of(row, Side.LONG, refined=True).entry == D(60_010)


@given(
    middle=st.floats(100, 200_000),
    half=st.floats(0.0005, 0.01),
    atr=st.floats(0.0003, 0.01),
)
def test_short_is_the_mirror_of_long(middle, half, atr):
    """Mirrored around the middle, both plans have the same distances, to the tick."""
    bottom, top = middle * (1 - half), middle * (1 + half)
    values = {"atr14": middle * atr}
    for name in ("long", "short"):
        values |= {f"{name}_ob_bottom": bottom, f"{name}_ob_top": top, f"{name}_ob_id": 1.0}

    long, short = plan_of(values, Side.LONG), plan_of(values, Side.SHORT)

    if isinstance(long, Denied) or isinstance(short, Denied):
        assert half * middle < 1
        return
    assert abs(long.risk_per_unit - short.risk_per_unit) <= 2 * INSTRUMENT.tick
    for plan in (long, short):
        sign = plan.side.sign
        assert sign * (plan.entry - plan.stop) > 0
        assert sign * (plan.tp1 - plan.entry) >= 0
        assert sign * (plan.stop - plan.catastrophe) > 0


def test_a_near_miss_names_the_condition_that_was_missing():
    row = signal_row(Side.SHORT) | {"short_conf": 0.0}

    values = evidence.numbers(row, evidence.flags(row, Side.LONG), evidence.flags(row, Side.SHORT))

    assert values["near_miss_short"] == "SELL_CONF"
    assert "near_miss_long" not in values
    assert all(not isinstance(v, float) or math.isfinite(v) for v in values.values())


def test_both_signals_at_once_are_none():
    row = signal_row(Side.LONG) | {"short_signal": 1.0}

    assert evidence.signal(row) == 0
    assert evidence.signal(signal_row(Side.LONG)) == 1
    assert evidence.signal(signal_row(Side.SHORT)) == -1
    assert evidence.signal(quiet_row()) == 0


def test_closed_gates_are_read_from_the_bit_set():
    row = quiet_row() | {"long_gates": float(0b0000101)}  # discount and trend_tracer_up hold

    assert evidence.closed_gates(row, Side.LONG, ("discount", "money_flow_context", "trend_tracer_up")) == [
        "money_flow_context"
    ]
