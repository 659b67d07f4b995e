"""The money: the wallet's law, margins, funding and the liquidation price by hand."""

from decimal import Decimal as D

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.sim.account import VenueAccount, VenuePosition
from bot.sim.errors import Refused
from bot.sim.filters import DEFAULTS

BTC = DEFAULTS["BTCUSDT"]


def account(wallet: str = "1000", *, leverage: int = 20, isolated: bool = True) -> VenueAccount:
    return VenueAccount(D(wallet), {"BTCUSDT": VenuePosition(BTC, leverage=leverage, isolated=isolated)})


def fill(a: VenueAccount, sign: int, qty: str, price: str, rate: str = "0.0004"):
    return a.fill("BTCUSDT", sign, qty=D(qty), price=D(price), rate=D(rate), at_ms=1)


def test_opening_pays_the_fee_and_puts_the_initial_margin_aside():
    a = account()

    booking = fill(a, 1, "0.010", "60000")

    assert (booking.realized, booking.fee) == (0, D("0.24"))
    assert a.wallet == D("999.76")
    assert a.positions["BTCUSDT"].isolated_wallet == D(30)
    assert a.cross_wallet == D("969.76")
    assert a.available({"BTCUSDT": D(60000)}, D(0)) == D("969.76")


def test_closing_a_part_realises_its_result_and_releases_its_margin():
    a = account()
    fill(a, -1, "0.010", "60000", "0")

    booking = fill(a, 1, "0.004", "59000", "0")

    assert booking.realized == D("4.000")
    assert a.positions["BTCUSDT"].qty == D("-0.006")
    assert a.positions["BTCUSDT"].entry == D(60000)
    assert a.positions["BTCUSDT"].isolated_wallet == D(18)
    assert a.wallet == D("1004.000")


def test_a_fill_beyond_the_position_turns_it_around():
    a = account()
    fill(a, 1, "0.010", "60000", "0")

    booking = fill(a, -1, "0.015", "61000", "0")

    p = a.positions["BTCUSDT"]
    assert booking.realized == D("10.000")
    assert (p.qty, p.entry, p.isolated_wallet) == (D("-0.005"), D(61000), D("15.25"))


@pytest.mark.parametrize(
    ("sign", "qty", "entry", "leverage", "expected"),
    [
        # By the formula: tier 1, mmr 0.4 %, no cum; long (60000 - 3000) / 0.996, short 63000 / 1.004.
        (1, "0.010", "60000", 20, D(57000) / D("0.996")),
        (-1, "0.010", "60000", 20, D(63000) / D("1.004")),
        # Tier 2 (600,000): mmr 0.5 %, cum 300.
        (1, "10", "60000", 20, (D(570000) - 300) / (10 * D("0.995"))),
        (-1, "10", "60000", 20, (D(630000) + 300) / (10 * D("1.005"))),
    ],
)
def test_the_liquidation_price_is_the_isolated_formula(sign, qty, entry, leverage, expected):
    a = account("1000000", leverage=leverage)
    fill(a, sign, qty, entry, "0")
    p = a.positions["BTCUSDT"]

    price = p.liquidation(D(entry))

    assert abs(price - expected) < D("0.0000001")
    assert a.is_liquidated("BTCUSDT", {"BTCUSDT": price - sign * D("0.1")})
    assert not a.is_liquidated("BTCUSDT", {"BTCUSDT": price + sign * D("0.1")})


def test_longs_pay_a_positive_funding_rate_out_of_the_isolated_margin():
    a = account()
    fill(a, 1, "0.010", "60000", "0")

    paid = a.pay_funding("BTCUSDT", D("0.0001"), mark=D(60000), at_ms=2)

    assert paid == D("0.06")
    assert a.wallet == D("999.94")
    assert a.positions["BTCUSDT"].isolated_wallet == D("29.94")


def test_margin_can_be_added_and_only_what_is_not_needed_taken():
    a = account()
    fill(a, 1, "0.010", "60000", "0")
    marks = {"BTCUSDT": D(60000)}

    a.move_margin("BTCUSDT", D(10), marks=marks, reserved=D(0))
    a.move_margin("BTCUSDT", D(-10), marks=marks, reserved=D(0))

    assert a.positions["BTCUSDT"].isolated_wallet == D(30)
    with pytest.raises(Refused, match="-4051"):
        a.move_margin("BTCUSDT", D(-1), marks=marks, reserved=D(0))
    with pytest.raises(Refused, match="-2019"):
        a.move_margin("BTCUSDT", D(2000), marks=marks, reserved=D(0))


steps = st.one_of(
    st.tuples(
        st.just("fill"),
        st.sampled_from([1, -1]),
        st.integers(1, 5000).map(lambda n: D(n) * D("0.001")),
        st.integers(10_000, 2_000_000).map(lambda n: D(n) * D("0.1")),
        st.sampled_from([D("0.0002"), D("0.0004"), D("0")]),
    ),
    st.tuples(
        st.just("funding"), st.integers(-300, 300).map(lambda n: D(n) * D("0.00001")), st.integers(1000, 200_000)
    ),
)


@given(st.lists(steps, max_size=40), st.booleans(), st.integers(1, 125))
def test_the_wallet_is_what_came_in_plus_results_less_fees_and_funding(script, isolated, leverage):
    a = account("100000", leverage=leverage, isolated=isolated)
    cash = realized = fees = paid = D(0)
    held = D(0)

    for step in script:
        match step:
            case ("fill", sign, qty, price, rate):
                booking = a.fill("BTCUSDT", sign, qty=qty, price=price, rate=rate, at_ms=1)
                realized, fees = realized + booking.realized, fees + booking.fee
                held, cash = held + sign * qty, cash - sign * qty * price
                assert abs(booking.fee - qty * price * rate) <= D("0.000000005")
            case ("funding", rate, mark):
                paid += a.pay_funding("BTCUSDT", rate, mark=D(mark), at_ms=1)

    p = a.positions["BTCUSDT"]
    assert a.wallet == D(100000) + realized - fees - paid
    assert (a.realized, a.fees, a.funding) == (realized, fees, paid)
    assert p.qty == held
    # Realised and open result together are what the cash flows say, to the cent.
    mark = D(50000)
    assert abs(realized + p.unrealized(mark) - (cash + held * mark)) < D("0.01")
    if not held:
        assert (p.cost, p.entry) == (0, 0)
