"""Sizing, limits, vetoes, cost and account, worked by hand."""

from dataclasses import replace
from decimal import Decimal as D

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.config import Risk
from bot.core.events import AccountUpdate, Fill
from bot.core.intents import Alert
from bot.core.times import DAY_MS, HOUR_MS
from bot.core.types import Denied, OrderSide, Quote, Side
from bot.orders.state import Ledger
from bot.risk import vetoes
from bot.risk.account import Account
from bot.risk.cost import expected_cost
from bot.risk.limits import Limits
from bot.risk.sizing import NO_MONEY, Size, liquidation_price, size, throttle
from bot.risk.vetoes import VetoEvent
from tests.engine_harness import BTC, ETH, INSTRUMENTS, START

INSTRUMENT = INSTRUMENTS[BTC]


def size_of(**changes):
    given_ = {
        "equity": D(10_000),
        "available": D(10_000),
        "fraction": 0.0075,
        "share": 1.0,
        "leverage": 20,
        "margin_use": 0.95,
        "hedge_ratio": 0.0,
        "lowest_price": D(60_000),
        "instrument": INSTRUMENT,
    }
    return size(D(60_000), D(59_895), **(given_ | changes))


def test_size_by_hand_uncut():
    """0.75 % of 10,000 is 75; R is 105 per unit: 0.7142..., down to the lot 0.714."""
    sized = size_of()

    assert sized == Size(D("0.714"), D("74.970"), D("0.714"), D("75.0000"), D(105), D("42840"), "")


def test_size_by_hand_cut_by_margin_with_hedge():
    """5x * 10,000 * 0.95 / 1.5 = 31,666.67 of notional: 0.527 at 60,000; the risk falls with it."""
    sized = size_of(leverage=5, hedge_ratio=0.5)

    assert (sized.qty, sized.cut, sized.uncut_qty) == (D("0.527"), "margin", D("0.714"))
    assert sized.risk_quote == D("0.527") * 105


def test_size_by_hand_throttled_in_a_drawdown():
    """4 % below the peak halves the risk (1 - 4/8): 37.5 / 105 = 0.357; further down the floor holds."""
    share = throttle(D(9_600), D(10_000), drawdown_limit=0.08, floor=0.5)

    assert share == pytest.approx(0.5)
    assert size_of(share=share).qty == D("0.357")
    assert throttle(D(5_000), D(10_000), drawdown_limit=0.08, floor=0.5) == 0.5
    assert throttle(D(10_001), D(10_000), drawdown_limit=0.08, floor=0.5) == 1.0


def test_a_tier_that_does_not_allow_the_leverage_cuts_the_size():
    sized = size_of(leverage=100, equity=D(1_000_000), available=D(1_000_000))

    assert sized.cut == "tier"
    assert sized.qty == INSTRUMENT.qty(D(800_000) / 60_000)


@pytest.mark.parametrize(("equity", "code"), [(D("0.5"), "min_qty"), (D(5), "min_qty"), (D(0), "no_money")])
def test_what_is_below_the_exchanges_minimum_is_denied(equity, code):
    refused = size_of(equity=equity)

    assert isinstance(refused, Denied)
    assert refused.code == code


@given(
    equity=st.decimals(100, 1_000_000, places=2),
    distance=st.integers(1, 5_000),
    leverage=st.sampled_from([5, 10, 20]),
    ratio=st.floats(0, 1.5),
)
def test_a_size_never_risks_more_than_planned_and_fits_the_margin(equity, distance, leverage, ratio):
    entry, stop = D(60_000), D(60_000) - distance
    sized = size(
        entry,
        stop,
        equity=equity,
        available=equity,
        fraction=0.0075,
        share=1.0,
        leverage=leverage,
        margin_use=0.95,
        hedge_ratio=ratio,
        lowest_price=entry,
        instrument=INSTRUMENT,
    )

    if isinstance(sized, Size):
        assert sized.risk_quote <= equity * D("0.0075")
        assert sized.notional * (1 + D(str(ratio))) <= leverage * equity * D("0.95") + 1
        assert sized.qty % INSTRUMENT.lot == 0


def test_liquidation_price_by_hand():
    """1 BTC at 60,000 and 20x: wallet 3,000, first tier 0.4 %: long (60000 - 3000) / 0.996, short 63000 / 1.004."""
    long = liquidation_price(Side.LONG, D(60_000), D(1), leverage=20, instrument=INSTRUMENT)
    short = liquidation_price(Side.SHORT, D(60_000), D(1), leverage=20, instrument=INSTRUMENT)

    assert long == pytest.approx(D("57228.9156"), abs=D("0.001"))
    assert short == pytest.approx(D("62749.0040"), abs=D("0.001"))


@pytest.mark.parametrize(
    ("side", "rate", "hours", "rule", "denied"),
    [
        (Side.LONG, 0.0006, 8, "symmetric", False),
        (Side.LONG, 0.00061, 8, "symmetric", True),
        (Side.LONG, -0.00061, 8, "symmetric", False),
        (Side.SHORT, -0.00061, 8, "symmetric", True),
        (Side.SHORT, 0.00061, 8, "symmetric", False),
        (Side.SHORT, 0.00061, 8, "positive_only", True),
        (Side.SHORT, -0.00061, 8, "positive_only", False),
        (Side.LONG, 0.00031, 4, "symmetric", True),  # twice a day as often
        (Side.LONG, 0.0001, 1, "symmetric", True),
        (Side.LONG, None, 8, "symmetric", True),
    ],
)
def test_funding_vetoes_the_side_that_pays_normalised_to_eight_hours(side, rate, hours, rule, denied):
    found = vetoes.funding(side, rate, interval_hours=hours, limit=0.0006, rule=rule)

    assert (found is not None) is denied


def test_the_blackout_covers_a_quarter_of_an_hour_on_either_side_of_what_counts():
    calendar = (VetoEvent(START, "rate decision", "high"), VetoEvent(START, "survey", "low"))

    def at(minutes: float) -> Denied | None:
        return vetoes.blackout(START + int(minutes * 60_000), calendar, minutes=15, impacts=("high",))

    assert at(-15)
    assert at(15)
    assert at(-15.01) is None
    assert at(15.01) is None
    assert vetoes.blackout(START, calendar[1:], minutes=15, impacts=("high",)) is None


def test_spread_and_price_beyond_the_stop_are_denied():
    quote = Quote(D(60_000), D(1), D("60012.1"), D(1))

    assert vetoes.spread(quote, 0.0002).code == "spread"
    assert vetoes.spread(quote, 0.00021) is None
    assert vetoes.beyond_stop(Side.LONG, quote, D(60_000)).code == "beyond_stop"
    assert vetoes.beyond_stop(Side.LONG, quote, D("59999.9")) is None
    assert vetoes.beyond_stop(Side.SHORT, quote, D("60012.1")).code == "beyond_stop"
    assert vetoes.beyond_stop(Side.SHORT, quote, D("60012.2")) is None


@pytest.mark.parametrize(("side", "catastrophe", "gap"), [(Side.LONG, D(57_281), True), (Side.LONG, D(57_282), False)])
def test_liquidation_nearer_than_half_an_r_beyond_the_catastrophe_stop_is_denied(side, catastrophe, gap):
    """Liquidation at 57,228.92, R 105: the catastrophe stop has to lie at 57,281.42 or above."""
    found = vetoes.liquidation(
        side,
        entry=D(60_000),
        qty=D(1),
        catastrophe=catastrophe,
        risk_per_unit=D(105),
        gap_r=0.5,
        leverage=20,
        instrument=INSTRUMENT,
    )

    assert (found is not None) is gap


def test_expected_cost_by_hand():
    """571.4 R of notional: fees 0.08 %, spread 0.01 %, slippage 0.02 %, funding 0.01 % of the net."""
    cost = expected_cost(
        Side.LONG,
        notional=D(42_840),
        risk_quote=D("74.97"),
        taker_fee=D("0.0004"),
        spread=0.0001,
        slippage=0.0001,
        funding_rate=0.0001,
        funding_due=True,
        hedge_notional=D(21_420),
        hedge_taker_fee=D("0.0004"),
    )

    assert cost.fees == pytest.approx(0.457143, abs=1e-6)
    assert cost.spread == pytest.approx(0.057143, abs=1e-6)
    assert cost.slippage == pytest.approx(0.114286, abs=1e-6)
    assert cost.funding == pytest.approx(0.028571, abs=1e-6)
    assert cost.hedge == pytest.approx(0.314286, abs=1e-6)
    assert cost.total == pytest.approx(0.971429, abs=1e-6)


def limits_of(venue: str = "sim", mode: str = "halt", **config) -> Limits:
    limits = Limits(Risk(**config), venue, mode)
    limits.on_equity(START, D(10_000), [])
    return limits


@pytest.mark.parametrize(
    ("venue", "stage", "leverage", "fraction"),
    [
        ("sim", "full", 20, 0.0075),
        ("backtest", "full", 20, 0.0075),
        ("paper", "dry_run", 5, 0.005),
        ("testnet", "dry_run", 5, 0.005),
        ("live", "ramp", 5, 0.0075),
    ],
)
def test_the_venue_decides_the_stage(venue, stage, leverage, fraction):
    limits = limits_of(venue)

    assert (limits.stage, limits.leverage, limits.fraction) == (stage, leverage, fraction)


def test_two_and_a_half_r_in_a_day_end_the_day_and_a_new_day_begins_anew():
    """R of the day is 75: at 9,812.5 the day has lost 2.5 R, and stays lost even if equity comes back."""
    limits, out = limits_of(), []

    limits.on_equity(START + 1, D("9812.51"), out)
    assert limits.vetoes(Side.LONG) == []
    limits.on_equity(START + 2, D("9812.50"), out)
    limits.on_equity(START + 3, D(10_000), out)

    assert [d.code for d in limits.vetoes(Side.LONG)] == ["day_loss"]
    assert [d.code for d in limits.vetoes(Side.SHORT)] == ["day_loss"]
    assert len(out) == 1
    limits.on_equity(START + DAY_MS, D(9_900), out)
    assert limits.vetoes(Side.LONG) == []
    assert limits.day_equity == D(10_000)  # equity at 00:00, before the first sample of the day


def test_three_r_closed_in_one_direction_rest_that_direction_only_until_tomorrow():
    limits, out = limits_of(max_day_loss_r=50), []

    limits.on_trade(Side.LONG, D(-150), START + 1, out)
    limits.on_trade(Side.SHORT, D(100), START + 2, out)
    assert limits.vetoes(Side.LONG) == []
    limits.on_trade(Side.LONG, D(-75), START + 3, out)

    assert limits.direction_r(Side.LONG) == pytest.approx(-3)
    assert [d.code for d in limits.vetoes(Side.LONG)] == ["direction"]
    assert limits.vetoes(Side.SHORT) == []
    limits.on_time(START + DAY_MS)
    assert limits.vetoes(Side.LONG) == []


def test_six_r_below_the_peak_stop_entries_until_armed_and_arming_measures_from_there():
    """Peak 12,000: R is 90, six of them 540."""
    limits, out = limits_of(max_day_loss_r=99), []
    limits.on_equity(START + 1, D(12_000), out)

    limits.on_equity(START + 2, D("11460.01"), out)
    assert not limits.soft_stopped
    limits.on_equity(START + 3, D(11_460), out)
    assert limits.soft_stopped
    limits.on_equity(START + DAY_MS, D(12_500), out)
    assert [d.code for d in limits.vetoes(Side.LONG)] == ["soft_stop"]
    limits.on_equity(START + DAY_MS, D(11_460), out)
    limits.arm()
    limits.on_equity(START + DAY_MS + 1, D(11_400), out)

    assert limits.vetoes(Side.LONG) == []
    assert limits.peak == D(12_500)  # the throttle still measures from the real peak


def test_arming_with_nothing_tripped_moves_no_reference():
    limits = limits_of(max_day_loss_r=99)
    limits.on_equity(START + 1, D(12_000), [])
    limits.on_equity(START + 2, D(11_900), [])
    limits.on_slippage(0.0007, [])
    before = limits.memory()

    assert "nothing to arm" in limits.arm()

    assert limits.memory() == before


def test_arming_after_slippage_alone_leaves_the_reference_of_the_soft_stop():
    limits = limits_of("live", max_day_loss_r=99)
    limits.on_equity(START + 1, D(12_000), [])
    limits.on_equity(START + 2, D(11_900), [])
    for _ in range(20):
        limits.on_slippage(0.0007, [])

    assert "slippage" in limits.arm()

    assert limits.soft_peak == D(12_000)
    assert limits.vetoes(Side.LONG) == []


@pytest.mark.parametrize(
    ("mode", "stopped", "next_day"), [("count", False, False), ("halt", True, True), ("rearm_next_day", True, False)]
)
def test_offline_the_soft_stop_counts_halts_or_rearms(mode, stopped, next_day):
    limits = limits_of("backtest", mode, max_day_loss_r=99)

    limits.on_equity(START + 1, D(9_000), [])
    limits.on_equity(START + 2, D(9_000), [])

    assert (limits.soft_stopped, limits.soft_stops) == (stopped, 1)
    limits.on_time(START + DAY_MS)
    assert limits.soft_stopped is next_day


def test_the_ramp_climbs_after_48_hours_and_20_trades_and_falls_back_at_the_soft_stop():
    limits, out = limits_of("live", max_day_loss_r=99), []

    for _ in range(20):
        limits.on_trade(Side.LONG, D(1), START + HOUR_MS, out)
    assert limits.leverage == 5  # enough trades, too early
    limits.on_trade(Side.LONG, D(1), START + 48 * HOUR_MS, out)
    assert limits.leverage == 10
    for _ in range(20):
        limits.on_trade(Side.LONG, D(1), START + 96 * HOUR_MS, out)
    assert limits.leverage == 20
    limits.on_equity(START + 97 * HOUR_MS, D(9_000), out)

    assert limits.leverage == 5
    assert limits.step_trades == 0


def test_a_breaker_in_a_step_begins_the_step_again():
    limits = limits_of("live", max_day_loss_r=99)
    for _ in range(19):
        limits.on_trade(Side.LONG, D(1), START + HOUR_MS, [])

    limits.on_trade(Side.LONG, D(-300), START + 49 * HOUR_MS, [])
    limits.on_trade(Side.LONG, D(1), START + 50 * HOUR_MS, [])

    assert limits.leverage == 5
    assert limits.step_trades == 1


@pytest.mark.parametrize(("venue", "denied"), [("live", ["slippage"]), ("sim", [])])
def test_slippage_over_twenty_fills_alerts_once_and_stops_entries_live(venue, denied):
    limits, out = limits_of(venue), []

    for _ in range(19):
        limits.on_slippage(0.0007, out)
    assert out == []
    limits.on_slippage(0.0007, out)
    limits.on_slippage(0.0007, out)

    assert [type(o) for o in out] == [Alert]
    assert [d.code for d in limits.vetoes(Side.LONG)] == denied
    limits.arm()
    assert limits.vetoes(Side.LONG) == []


def test_limits_survive_a_restart():
    limits = limits_of("live", max_day_loss_r=99)
    limits.on_equity(START + 1, D(12_000), [])
    limits.on_equity(START + 2, D(11_000), [])
    limits.on_slippage(0.001, [])

    again = Limits(limits.config, "live")
    again.remember(limits.memory())
    again.on_equity(START + 3, D(11_000), [])

    assert again.soft_stopped
    assert again.peak == D(12_000)
    assert again.memory() == limits.memory()


@pytest.mark.parametrize("amount", [D(1_000), D(-600), D("-9849.99")])
def test_money_that_comes_or_goes_by_a_transfer_is_neither_profit_nor_loss(amount):
    limits, out = limits_of(), []
    limits.on_equity(START + 1, D(9_850), out)  # two R of the day are gone
    limits.on_trade(Side.LONG, D(-150), START + 1, out)
    throttled = limits.throttle

    limits.on_transfer(amount)
    limits.on_equity(START + 2, D(9_850) + amount, out)

    assert limits.day_r == pytest.approx(-2)
    assert limits.direction_r(Side.LONG) == pytest.approx(-2)
    assert limits.throttle == pytest.approx(throttled)
    assert limits.vetoes(Side.LONG) == []
    assert out == []


def test_transfers_there_and_back_leave_a_loss_as_it_was():
    limits = limits_of()
    limits.on_equity(START + 1, D(9_850), [])

    for amount in (D(90_000), D(-99_000), D(9_000)):
        limits.on_transfer(amount)

    assert limits.equity == 9_850
    assert limits.day_equity == pytest.approx(D(10_000))
    assert limits.soft_peak == limits.peak == pytest.approx(D(10_000))


@pytest.mark.parametrize("venue", ["sim", "live"])
@pytest.mark.parametrize("mode", ["halt", "count", "rearm_next_day"])
@given(
    start=st.decimals(0, 5_000, places=8),
    moves=st.lists(
        st.tuples(
            st.sampled_from(["transfer", "withdraw all", "sample", "arm", "restart"]),
            st.decimals(-5_000, 5_000, places=8),
            st.integers(0, 2 * DAY_MS),
        ),
        max_size=30,
    ),
)
def test_whatever_order_transfers_and_samples_come_in_nothing_is_lost(venue, mode, start, moves):
    limits, out, money, now = Limits(Risk(), venue, mode), [], start, START
    limits.on_equity(now, money, out)

    for what, amount, later in moves:
        now += later
        if what == "arm":
            limits.arm()
        elif what == "restart":
            memory, limits = limits.memory(), Limits(Risk(), venue, mode)
            limits.remember(memory)
        elif what != "sample":
            amount = -money if what == "withdraw all" else max(amount, -money)
            if limits.equity or not money:
                limits.on_transfer(amount)
                money += amount
        limits.on_equity(now, money, out)
        assert limits.day_r == 0
        assert limits.throttle == 1
        assert not limits.soft_stopped
        assert not limits.soft_stops
        assert [d.code for d in limits.vetoes(Side.LONG)] == ([] if money else ["no_money"])

    assert {o.text for o in out} <= {NO_MONEY}


def test_an_empty_wallet_is_a_state_with_its_sentence_told_once():
    limits, out = Limits(Risk(), "live"), []

    limits.on_equity(START, D(0), out)
    limits.on_equity(START + 1, D(0), out)
    assert [o.text for o in out] == ["no USDT in the futures wallet: entries rest until there is some"]
    assert [d.code for d in limits.vetoes(Side.LONG)] == ["no_money"]

    limits.on_transfer(D(500))
    limits.on_equity(START + 2, D(500), out)
    assert limits.vetoes(Side.LONG) == []
    assert (limits.day_equity, limits.peak, limits.soft_peak) == (500, 500, 500)

    limits.on_transfer(D(-500))
    limits.on_equity(START + 3, D(0), out)
    assert len(out) == 2


def test_a_stop_that_had_tripped_outlives_an_empty_wallet_and_arming_at_zero_divides_by_nothing():
    limits, out = limits_of("live"), []
    limits.on_equity(START + 1, D(0), out)  # lost, not withdrawn
    assert limits.soft_stopped
    assert limits.day_hit

    limits.on_transfer(D(500))
    limits.on_equity(START + 2, D(500), out)
    assert [d.code for d in limits.vetoes(Side.LONG)] == ["soft_stop", "day_loss"]
    limits.on_transfer(D(-500))
    assert limits.arm() == "armed; no USDT in the futures wallet: entries rest until there is some"
    limits.on_equity(START + 3, D(0), out)

    limits.on_equity(START + DAY_MS, D(700), out)
    assert limits.vetoes(Side.LONG) == []
    assert limits.day_r == 0


def test_an_account_emptied_while_the_bot_was_away_has_lost_nothing():
    memory = limits_of("live").memory()
    limits, out = Limits(Risk(), "live"), []
    limits.remember(memory)

    limits.on_equity(START + 1, D(0), out)
    limits.on_transfer(D(300))
    limits.on_equity(START + 2, D(300), out)

    assert limits.day_r == 0
    assert not limits.soft_stopped
    assert [o.text for o in out] == [NO_MONEY]


def fill(symbol: str, side: OrderSide, qty: str, price: str, trade_id: int, fee: str = "0") -> Fill:
    return Fill(START, "foreign", symbol, side, D(qty), D(price), D(fee), False, trade_id)


def test_equity_is_wallet_plus_open_result_and_funding_counts_once():
    account = Account(Ledger(), D(1_000))
    account.ledger.fill(fill(BTC, OrderSide.BUY, "0.1", "60000", 1, "2.4"))
    account.ledger.fill(fill(BTC, OrderSide.BUY, "0.1", "60200", 2, "2.4"))
    account.ledger.fill(fill(BTC, OrderSide.SELL, "0.05", "60300", 3, "1.2"))
    account.last[BTC] = D(60_200)
    paid = AccountUpdate(START, "FUNDING_FEE", D(0), D("-1.5"), ())

    first, again = account.update(paid), account.update(paid)
    later = account.update(replace(paid, at_ms=START + 1))

    assert (first, again, later) == (D("-1.5"), 0, D("-1.5"))
    # average 60,100: closed 0.05 * 200 = 10, open 0.15 * 100 = 15, fees 6, funding 3
    assert account.wallet == D(1_001)
    assert account.equity == D(1_016)


@given(
    st.lists(
        st.tuples(st.sampled_from([BTC, ETH]), st.sampled_from(OrderSide), st.integers(1, 50), st.integers(90, 110)),
        max_size=30,
    )
)
def test_equity_is_initial_plus_cash_flows_plus_holdings_at_market(trades):
    account = Account(Ledger(), D(1_000), {BTC: D(100), ETH: D(100)})
    expected, held = D(1_000), {BTC: D(0), ETH: D(0)}

    for i, (symbol, side, qty, price) in enumerate(trades):
        account.ledger.fill(fill(symbol, side, str(qty), str(price), i + 1, "0.25"))
        expected -= side.sign * qty * price + D("0.25")
        held[symbol] += side.sign * qty
    expected += sum(q * 100 for q in held.values())

    assert account.equity == pytest.approx(expected, abs=D("0.0000001"))
    assert all(account.ledger.qty(s) == q for s, q in held.items())
