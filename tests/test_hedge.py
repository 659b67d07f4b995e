"""Betas, hedge plan and leg stops, worked by hand; the legs' life against a BTC trade."""

import math
from decimal import Decimal as D

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.config import Hedge
from bot.core.intents import PlaceOrder
from bot.core.types import OrderType, Quote, Side
from bot.engine import view as engine_view
from bot.hedge import beta
from bot.hedge.hedger import LegMarket, leg_stop
from tests.engine_harness import BASE, BTC, ETH, INSTRUMENTS, SOL, started


def closes(returns, first: float = 100.0) -> dict[int, float]:
    level, result = math.log(first), {0: first}
    for i, r in enumerate(returns):
        level += r
        result[(i + 1) * BASE] = math.exp(level)
    return result


RETURNS = [0.001 * (-1) ** i * (1 + i % 3) for i in range(20)]


def plan_of(btc, legs, **config) -> beta.HedgePlan:
    return beta.plan(btc, legs, last_open_ms=20 * BASE, interval_ms=BASE, config=Hedge(**config))


def test_hedge_ratio_by_hand_for_a_leg_that_moves_twice_as_much():
    """Leg = 2 * BTC exactly: beta 0.5, own beta 2, R2 1, factor 0.7, half weight: ratio 0.175, net beta 1 - 0.35."""
    plan = plan_of(closes(RETURNS), {ETH: closes([2 * r for r in RETURNS])})

    (leg,) = plan.legs
    assert leg.beta == pytest.approx(0.5)
    assert leg.own_beta == pytest.approx(2)
    assert leg.r2 == pytest.approx(1)
    assert leg.ratio == pytest.approx(0.175)
    assert plan.net_beta == pytest.approx(0.65)
    assert plan.scale == 1


def test_the_literal_reading_is_scaled_down_before_it_turns_the_trade_around():
    """Weight 1 and beta of the leg: ratio 1.4 each, taken 2 * 1.4 * 2 = 5.6: scaled to 0.9 / 5.6."""
    double = closes([2 * r for r in RETURNS])

    plan = plan_of(closes(RETURNS), {ETH: double, SOL: double}, weight="each", beta_of="leg")

    assert plan.scale == pytest.approx(0.9 / 5.6)
    assert plan.net_beta == pytest.approx(0.1)
    assert plan.ratio == pytest.approx(0.9 / 2)


def test_legs_without_explanation_direction_or_data_are_left_out_with_the_reason():
    rng = np.random.default_rng(3)
    legs = {
        "NOISE": closes(rng.normal(0, 0.001, 20)),
        "AGAINST": closes([-r for r in RETURNS]),
        "STILL": closes([0.0] * 20),
        "SHORT": {t: c for t, c in closes(RETURNS).items() if t > 5 * BASE},
    }

    plan = plan_of(closes(RETURNS), legs)

    why = {leg.symbol: leg.skip for leg in plan.legs}
    assert why["NOISE"].startswith(("R2", "beta"))
    assert why["AGAINST"].startswith("beta")
    assert why["STILL"] == "no movement to regress"
    assert why["SHORT"].startswith("fewer than 20")
    assert plan.ratio == 0
    assert plan.net_beta == 1


@given(st.lists(st.tuples(st.floats(-0.01, 0.01), st.floats(-0.01, 0.01)), min_size=20, max_size=20))
def test_regression_agrees_with_numpys_covariance_and_the_book_keeps_its_beta(pairs):
    x, y = [p[0] for p in pairs], [p[1] for p in pairs]
    fit = beta.regress(list(closes(x).values()), list(closes(y).values()))
    cov = np.cov(np.diff(np.log(list(closes(x).values()))), np.diff(np.log(list(closes(y).values()))))

    if fit is None:
        assert min(cov[0, 0], cov[1, 1]) < 1e-18
        return
    assert fit.beta == pytest.approx(cov[0, 1] / cov[1, 1], rel=1e-6, abs=1e-9)
    assert fit.own_beta == pytest.approx(cov[0, 1] / cov[0, 0], rel=1e-6, abs=1e-9)
    assert 0 <= fit.r2 <= 1 + 1e-9
    plan = plan_of(closes(x), {ETH: closes(y)}, weight="each", beta_of="leg")
    assert plan.net_beta >= 0.1 - 1e-9


def market(**changes) -> LegMarket:
    values = {
        "instrument": INSTRUMENTS[ETH],
        "quote": Quote(D(3000), D(1), D("3000.01"), D(1)),
        "last": D(3000),
        "supply_top": 3012.0,
        "demand_bottom": 2988.0,
        "highest": 3030.0,
        "lowest": 2970.0,
        "atr": 3.0,
        "leverage_set": True,
    }
    return LegMarket(**(values | changes))


@pytest.mark.parametrize(
    ("side", "changes", "stop"),
    [
        (Side.SHORT, {}, 3014.7),  # block 3,012 + 0.9 * 3
        (Side.LONG, {}, 2985.3),
        (Side.SHORT, {"supply_top": math.nan}, 3032.7),  # no block: highest high + 2.7
        (Side.LONG, {"demand_bottom": math.nan}, 2967.3),
        (Side.SHORT, {"supply_top": 2999.0}, 3032.7),  # the price is already beyond the block
        (Side.SHORT, {"supply_top": math.nan, "highest": 2990.0}, math.nan),  # and beyond the extreme
        (Side.LONG, {"atr": math.nan}, math.nan),
    ],
)
def test_a_leg_stop_lies_beyond_its_block_or_the_extreme(side, changes, stop):
    found = leg_stop(side, market(**changes), D(3000), Hedge())

    assert found == pytest.approx(stop, nan_ok=True)


# The legs' life


@pytest.mark.parametrize("side", Side)
def test_legs_open_against_btc_when_its_entry_is_complete_and_not_before(side):
    h = started(side)
    h.signal()
    h.run(100)

    h.fill("en", D("0.3"))
    h.run(100)
    assert h.placed("hx", ETH) == []
    h.fill("en")
    h.run(100)

    for symbol in (ETH, SOL):
        (order,) = h.placed("hx", symbol)
        assert (order.side, order.order_type, order.reduce_only) == (side.exit, OrderType.MARKET, False)
        plan = next(leg for leg in h.engine.hedger.plan.legs if leg.symbol == symbol)
        mid = (h.book(symbol)[0] + h.book(symbol)[1]) / 2
        assert order.qty == INSTRUMENTS[symbol].qty(D("0.714") * 60_000 * D(str(plan.ratio)) / mid)
        (stop,) = h.placed("sl", symbol)
        assert (stop.side, stop.qty, stop.reduce_only) == (side.entry, order.qty, True)
        assert not h.placed("cs", symbol)


@pytest.mark.parametrize("side", Side)
def test_legs_shrink_with_btc_and_close_with_it(side):
    h = started(side).enter()
    full = abs(h.position[ETH])

    h.move(h.at(106))
    h.run(300)
    left = D("0.5") / D("0.714")
    assert abs(h.position[ETH]) == pytest.approx(full * left, abs=D("0.001"))
    (stop,) = h.live("sl", ETH)
    assert stop.intent.qty == abs(h.position[ETH])
    h.move(h.at(10))
    h.run(500)

    assert all(not q for q in h.position.values())
    assert not any(o.live for o in h.orders.values())
    assert {f.role for f in h.record.fills if f.symbol == ETH} == {"hx", "hc", "xx"}
    assert h.record.hedge_pnl != 0


@pytest.mark.parametrize("side", Side)
def test_a_stopped_leg_is_not_reopened_and_btc_goes_on(side):
    h = started(side).enter()

    h.move(PRICE_BEYOND[side], ETH)
    h.run(500)
    h.next_bar()
    h.run(500)

    assert h.position[ETH] == 0
    assert h.position[SOL] != 0
    assert abs(h.position[BTC]) == D("0.714")
    assert len(h.placed("hx", ETH)) == 1
    states = {leg["symbol"]: leg["state"] for leg in engine_view.snapshot(h.engine)["trade"]["legs"]}
    assert states == {ETH: "closed", SOL: "open"}


PRICE_BEYOND = {Side.LONG: D(3020), Side.SHORT: D(2980)}


def test_a_naked_leg_is_closed_after_its_limit_and_btc_goes_on():
    h = started(Side.LONG)
    h.behave[f"sl:{ETH}"] = "silent"

    h.enter()
    h.run(1_000)
    assert h.position[ETH] != 0
    h.run(400)

    assert h.position[ETH] == 0
    assert abs(h.position[BTC]) == D("0.714")
    assert h.engine.hedger.naked_ms <= 1_500 + 3 * h.latency


@pytest.mark.parametrize("code", [-2019, -1111])
def test_a_refused_leg_is_noted_and_the_other_stands(code):
    h = started(Side.LONG)
    h.behave[f"hx:{ETH}"] = code

    h.enter()
    h.command("flatten")
    h.run(500)

    assert any(str(code) in note for note in h.record.notes)
    assert {f.symbol for f in h.record.fills} == {BTC, SOL}
    assert h.record.net_beta < 1


def test_without_hedge_only_btc_is_traded():
    h = started(Side.LONG, "hedge.enabled=false").enter()

    assert {o.symbol for o in h.of(PlaceOrder)} == {BTC}
    assert engine_view.snapshot(h.engine)["trade"]["legs"] == []
