"""The exchange without wires: refusals by Binance's codes, conditional orders, liquidation, naked time."""

from decimal import Decimal as D
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.sim.errors import Refused
from bot.sim.filters import DEFAULTS
from bot.sim.orders import Tick
from bot.sim.venue import Venue

RULES = {symbol: DEFAULTS[symbol] for symbol in ("BTCUSDT", "SOLUSDT")}


class Desk:
    """A venue at 60,000 with a book of 10 BTC a side, one tick wide; time goes one second a step."""

    def __init__(self, wallet: str = "1000") -> None:
        self.venue = Venue(RULES, wallet=D(wallet), maker_fee=D("0.0002"), taker_fee=D("0.0004"))
        self.venue.now_ms = 1_000
        self.price("60000")
        self.price("150", symbol="SOLUSDT")
        self.venue.settings.set_margin_type({"symbol": "BTCUSDT", "marginType": "ISOLATED"})
        self.venue.outbox.clear()

    def price(self, price: str, *, symbol: str = "BTCUSDT", lots: int = 100_000, depth: int = 10_000) -> None:
        self.venue.now_ms += 1_000
        ticks = int(D(price) / RULES[symbol].tick)
        seller = ticks < self.venue.books[symbol].last
        self.venue.tick(symbol, Tick(self.venue.now_ms, ticks, lots, seller, ticks, depth, ticks + 1, depth))

    def order(self, side: str, qty: str, price: str = "", **more: str) -> Any:
        params = {"symbol": "BTCUSDT", "side": side, "quantity": qty, "type": "LIMIT" if price else "MARKET"}
        if price:
            params |= {"price": price, "timeInForce": "GTC"}
        return self.venue.place(params | more)[0]

    def algo(self, side: str, trigger: str, qty: str = "", **more: str) -> Any:
        params = {"algoType": "CONDITIONAL", "symbol": "BTCUSDT", "side": side, "type": "STOP_MARKET"}
        params |= {"triggerPrice": trigger}
        params |= {"quantity": qty, "reduceOnly": "true"} if qty else {"closePosition": "true"}
        return self.venue.algos.place(params | more)

    def words(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.venue.outbox if event["e"] == kind]

    @property
    def position(self) -> D:
        return self.venue.account.positions["BTCUSDT"].qty


LIMIT = {
    "symbol": "BTCUSDT",
    "side": "BUY",
    "type": "LIMIT",
    "timeInForce": "GTC",
    "quantity": "0.010",
    "price": "60000",
}
REFUSED = [
    ({"symbol": ""}, -1102),
    ({"symbol": "DOGEUSDT"}, -1121),
    ({"side": "UP"}, -1117),
    ({"positionSide": "LONG"}, -4061),
    ({"type": "STOP_MARKET"}, -4120),
    ({"type": "FOO"}, -1116),
    ({"stopPrice": "1"}, -4120),
    ({"timeInForce": ""}, -1102),
    ({"timeInForce": "GTD"}, -1102),
    ({"timeInForce": "GTD", "goodTillDate": "500000"}, -5040),
    ({"selfTradePreventionMode": "MAKER"}, -5039),
    ({"timeInForce": "X"}, -1115),
    ({"quantity": "1e-05"}, -1100),
    ({"quantity": "0"}, -4003),
    ({"quantity": "0.0105"}, -1111),
    ({"quantity": "2000"}, -4005),
    ({"price": "60000.05"}, -4014),
    ({"price": "60000.123"}, -1111),
    ({"price": "0"}, -4001),
    ({"price": "9999999"}, -4002),
    ({"price": "100"}, -4013),
    ({"price": "63001"}, -4016),
    ({"side": "SELL", "price": "56999"}, -4024),
    ({"quantity": "0.001", "price": "49000"}, -4164),
    ({"quantity": "0.340"}, -2019),
    ({"quantity": "0.340", "reduceOnly": "true"}, -2022),
    ({"timeInForce": "GTX", "price": "60000.1"}, -5022),
    ({"timeInForce": "FOK", "price": "59000"}, -5021),
    ({"newClientOrderId": "x" * 37}, -4015),
    ({"newClientOrderId": "a b"}, -4015),
    ({"reduceOnly": "yes"}, -1130),
    ({"newOrderRespType": "FULL"}, -1130),
    ({"priceMatch": "QUEUE"}, -1106),
    ({"priceMatch": "OPPONENT_10"}, -5037),
    ({"priceMatch": "QUEUE", "type": "MARKET", "timeInForce": ""}, -5038),
    ({"type": "MARKET", "price": ""}, -1106),
]


@pytest.mark.parametrize(("change", "code"), REFUSED)
def test_a_wrong_order_is_refused_with_binances_code_and_changes_nothing(change, code):
    desk = Desk()

    with pytest.raises(Refused) as refused:
        desk.venue.place(LIMIT | change)

    assert refused.value.code == code
    assert desk.venue.outbox == []
    assert desk.venue.orders == {}
    assert desk.venue.account.wallet == D(1000)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"algoType": "VP"}, -1130),
        ({"algoType": ""}, -1102),
        ({"type": "LIMIT"}, -1116),
        ({"closePosition": "true"}, -4137),
        ({"triggerPrice": ""}, -1102),
        ({"triggerPrice": "60000"}, -2021),
        ({"triggerPrice": "60500"}, -2021),
        ({"type": "TAKE_PROFIT_MARKET", "triggerPrice": "59000"}, -2021),
        ({"type": "STOP"}, -1102),
        ({"workingType": "X"}, -1130),
        ({"clientAlgoId": "ä"}, -4015),
        ({"type": "TRAILING_STOP_MARKET", "callbackRate": "30"}, -1130),
    ],
)
def test_a_wrong_conditional_order_is_refused(change, code):
    desk = Desk()
    good = {"algoType": "CONDITIONAL", "symbol": "BTCUSDT", "side": "SELL", "type": "STOP_MARKET", "quantity": "0.010"}

    with pytest.raises(Refused) as refused:
        desk.venue.algos.place(good | {"triggerPrice": "59000"} | change)

    assert refused.value.code == code
    assert desk.venue.algos.by_id == {}


def test_a_client_id_is_locked_only_while_its_order_is_open():
    desk = Desk()
    desk.order("BUY", "0.010", "59000", newClientOrderId="a")

    with pytest.raises(Refused, match="-4116"):
        desk.order("BUY", "0.010", "59000", newClientOrderId="a")
    desk.venue.cancel({"symbol": "BTCUSDT", "origClientOrderId": "a"})
    again = desk.order("BUY", "0.010", "59000", newClientOrderId="a")

    assert desk.venue.find({"symbol": "BTCUSDT", "origClientOrderId": "a"}) is again
    with pytest.raises(Refused, match="-2011"):
        desk.venue.cancel({"symbol": "BTCUSDT", "origClientOrderId": "b"})
    with pytest.raises(Refused, match="-2013"):
        desk.venue.find({"symbol": "BTCUSDT", "orderId": "5"})


def test_a_fill_tells_order_and_account_once_each_with_the_same_numbers():
    desk = Desk()

    desk.order("BUY", "0.010", newClientOrderId="m")

    new, trade = (event["o"] for event in desk.words("ORDER_TRADE_UPDATE"))
    (account,) = (event["a"] for event in desk.words("ACCOUNT_UPDATE"))
    (lite,) = desk.words("TRADE_LITE")
    assert (new["x"], new["X"], new["z"]) == ("NEW", "NEW", "0.000")
    assert (trade["x"], trade["X"], trade["l"], trade["L"], trade["n"]) == (
        "TRADE", "FILLED", "0.010", "60000.10", "0.24000040")  # fmt: skip
    assert (lite["t"], lite["c"]) == (trade["t"], "m")
    assert account["m"] == "ORDER"
    assert account["B"][0]["wb"] == "999.75999960"
    assert (account["P"][0]["pa"], account["P"][0]["ep"], account["P"][0]["mt"]) == ("0.010", "60000.1", "isolated")


def test_a_stop_becomes_a_market_order_with_its_own_id_and_the_stops_client_id():
    desk = Desk()
    desk.order("BUY", "0.010")
    algo = desk.algo("SELL", "59500.07", "0.010", clientAlgoId="stop-1")
    desk.venue.outbox.clear()

    desk.price("59500")

    assert desk.position == 0
    assert [event["o"]["X"] for event in desk.words("ALGO_UPDATE")] == ["TRIGGERING", "TRIGGERED", "FINISHED"]
    orders = [event["o"] for event in desk.words("ORDER_TRADE_UPDATE")]
    assert {order["c"] for order in orders} == {"stop-1"}
    assert {str(order["i"]) for order in orders} == {desk.words("ALGO_UPDATE")[1]["o"]["ai"]}
    assert (orders[-1]["ot"], orders[-1]["o"], orders[-1]["sp"]) == ("STOP_MARKET", "MARKET", "59500.07")
    assert algo.status == "FINISHED"
    with pytest.raises(Refused, match="-2011"):
        desk.venue.algos.cancel({"clientAlgoId": "stop-1"})


def test_the_life_of_a_conditional_order_before_its_trigger():
    desk = Desk()
    desk.order("BUY", "0.010")

    desk.algo("SELL", "59000", "0.010", clientAlgoId="s")
    desk.venue.algos.cancel({"clientAlgoId": "s"})
    new, gone = (event["o"] for event in desk.words("ALGO_UPDATE"))

    assert (new["X"], new["ai"], new["q"], new["R"]) == ("NEW", "", "0.010", True)
    assert "aq" not in new
    assert gone["X"] == "CANCELED"


def test_one_closing_stop_a_direction_but_a_target_beside_it():
    desk = Desk()
    with pytest.raises(Refused, match="-4509"):
        desk.algo("SELL", "59000")
    desk.order("BUY", "0.010")
    desk.algo("SELL", "59000")

    with pytest.raises(Refused, match="-4130"):
        desk.algo("SELL", "58000")
    desk.algo("SELL", "61000", type="TAKE_PROFIT_MARKET")
    desk.algo("SELL", "59500", "0.010")
    desk.algo("SELL", "59400", "0.010")

    assert [a.tif for a in desk.venue.algos.open("BTCUSDT")] == ["GTE_GTC", "GTE_GTC", "GTC", "GTC"]


def test_closing_orders_expire_when_the_position_is_flat_and_sized_ones_stay():
    desk = Desk()
    desk.order("BUY", "0.010")
    closing, sized = desk.algo("SELL", "59000"), desk.algo("SELL", "59000", "0.010")
    target = desk.order("SELL", "0.005", "61000", reduceOnly="true")

    desk.order("SELL", "0.010", reduceOnly="true")

    assert (closing.status, sized.status) == ("EXPIRED", "NEW")
    assert (target.status, target.er) == ("EXPIRED", "4")


def test_a_triggered_reduce_only_order_without_a_position_is_rejected_with_the_reason():
    desk = Desk()
    desk.order("BUY", "0.010")
    algo = desk.algo("SELL", "59000", "0.010")
    desk.order("SELL", "0.010", reduceOnly="true")

    desk.price("58999")

    assert (algo.status, algo.reject) == ("REJECTED", "ReduceOnly Order is rejected.")
    assert desk.words("ALGO_UPDATE")[-1]["o"]["rm"] == "ReduceOnly Order is rejected."
    assert desk.position == 0


def test_a_trailing_stop_follows_the_best_price():
    desk = Desk()
    desk.order("BUY", "0.010")
    desk.venue.algos.place(
        {"algoType": "CONDITIONAL", "symbol": "BTCUSDT", "side": "SELL", "type": "TRAILING_STOP_MARKET",
         "quantity": "0.010", "reduceOnly": "true", "callbackRate": "1"}
    )  # fmt: skip

    for price in ("60600", "60100", "61000", "60400"):
        desk.price(price)
    before = desk.position
    desk.price("60390")

    assert (before, desk.position) == (D("0.010"), 0)


def test_an_order_beyond_the_margin_of_both_sides_counts_only_what_can_add():
    desk = Desk("310")
    desk.order("BUY", "0.100")  # 300 of margin

    with pytest.raises(Refused, match="-2019"):
        desk.order("BUY", "0.010", "60000")
    desk.order("SELL", "0.100", "61000")  # only closes

    assert desk.venue.reserved() == 0


def test_more_than_the_leverage_allows_is_refused():
    desk = Desk("10000000")
    desk.venue.settings.set_leverage({"symbol": "BTCUSDT", "leverage": "125"})

    with pytest.raises(Refused, match="-2027"):
        desk.order("BUY", "6.000", "60000")


def test_leverage_cannot_fall_under_an_isolated_position():
    desk = Desk()
    desk.order("BUY", "0.010")

    with pytest.raises(Refused, match="-4161"):
        desk.venue.settings.set_leverage({"symbol": "BTCUSDT", "leverage": "10"})
    with pytest.raises(Refused, match="-4028"):
        desk.venue.settings.set_leverage({"symbol": "BTCUSDT", "leverage": "151"})
    assert desk.venue.settings.set_leverage({"symbol": "BTCUSDT", "leverage": "25"}) == {
        "leverage": 25, "maxNotionalValue": "70000000", "symbol": "BTCUSDT"}  # fmt: skip
    with pytest.raises(Refused, match="-4048"):
        desk.venue.settings.set_margin_type({"symbol": "BTCUSDT", "marginType": "CROSSED"})
    with pytest.raises(Refused, match="-4046"):
        desk.venue.settings.set_margin_type({"symbol": "BTCUSDT", "marginType": "ISOLATED"})


@pytest.mark.parametrize(("side", "price"), [("BUY", "57200"), ("SELL", "62800")])
def test_a_liquidation_takes_no_more_than_the_isolated_margin(side, price):
    desk = Desk()
    desk.order(side, "0.100")
    stop = desk.algo("SELL" if side == "BUY" else "BUY", "50000" if side == "BUY" else "70000")
    fee = desk.venue.fills[0].fee
    margin = desk.venue.account.positions["BTCUSDT"].isolated_wallet
    desk.venue.outbox.clear()

    desk.price(price)

    assert desk.position == 0
    assert D(1000) - fee - margin <= desk.venue.account.wallet < D(1000) - fee
    last = desk.words("ORDER_TRADE_UPDATE")[-1]["o"]
    assert last["c"].startswith("autoclose-")
    assert (last["x"], last["X"]) == ("CALCULATED", "FILLED")
    assert stop.status == "EXPIRED"


def test_a_gap_far_beyond_bankruptcy_is_borne_by_the_insurance_fund():
    desk = Desk()
    desk.order("BUY", "0.100")
    wallet = desk.venue.account.wallet
    margin = desk.venue.account.positions["BTCUSDT"].isolated_wallet

    desk.price("40000")

    assert desk.position == 0
    assert abs(desk.venue.account.wallet - (wallet - margin)) < D("0.02")


def test_a_margin_call_comes_once_before_the_liquidation():
    desk = Desk()
    desk.order("BUY", "0.100")

    for price in ("58000", "57270", "57265", "57260"):
        desk.price(price)

    assert len(desk.words("MARGIN_CALL")) == 1
    assert desk.position


def test_cross_positions_are_carried_by_the_whole_wallet():
    desk = Desk()
    desk.venue.settings.set_margin_type({"symbol": "BTCUSDT", "marginType": "CROSSED"})
    desk.order("BUY", "0.100")

    desk.price("57000")
    kept = desk.position
    desk.price("50200")

    assert kept == D("0.100")
    assert desk.position == 0
    assert desk.venue.account.wallet >= 0


def test_naked_time_runs_from_the_fill_to_the_covering_stop():
    desk = Desk()
    naked = desk.venue.naked["BTCUSDT"]
    desk.order("BUY", "0.010")

    desk.venue.now_ms += 300
    desk.algo("SELL", "59000", "0.006")
    desk.venue.now_ms += 400
    desk.algo("SELL", "59000", "0.004")
    desk.venue.now_ms += 5_000

    assert naked.report(desk.venue.now_ms) == {"total": 700, "longest": 700}


def test_a_target_or_a_stop_of_the_other_side_is_no_cover():
    desk = Desk()
    desk.order("BUY", "0.010")

    desk.algo("SELL", "61000", type="TAKE_PROFIT_MARKET")
    desk.algo("BUY", "61000", "0.010")
    desk.venue.now_ms += 100

    assert desk.venue.naked["BTCUSDT"].report(desk.venue.now_ms)["longest"] == 100


def test_a_closing_stop_covers_and_its_execution_too():
    desk = Desk()
    desk.order("BUY", "0.010")
    desk.algo("SELL", "59000")

    desk.price("58000", depth=4)
    mid = desk.position
    desk.price("58000", depth=40)

    assert mid == D("0.006")
    assert desk.position == 0
    assert desk.venue.naked["BTCUSDT"].report(desk.venue.now_ms) == {"total": 0, "longest": 0}


def test_batches_of_stops_end_at_two_hundred():
    desk = Desk()
    for index in range(200):
        desk.algo("BUY", str(61000 + index), "0.010")

    with pytest.raises(Refused, match="-4045"):
        desk.algo("BUY", "62000", "0.010")


requests = st.one_of(
    st.tuples(
        st.just("order"),
        st.sampled_from(["BUY", "SELL"]),
        st.integers(1, 60),
        st.one_of(st.just(0), st.integers(-40, 40)),
        st.sampled_from(["GTC", "IOC", "GTX"]),
        st.sampled_from(["true", "false"]),
    ),
    st.tuples(
        st.just("algo"),
        st.sampled_from(["BUY", "SELL"]),
        st.integers(-60, 60),
        st.integers(0, 30),
        st.sampled_from(["STOP_MARKET", "TAKE_PROFIT_MARKET"]),
    ),
    st.tuples(st.just("price"), st.integers(-80, 80), st.integers(1, 60_000), st.integers(1, 60)),
    st.tuples(st.just("funding"), st.integers(-50, 50)),
    st.tuples(st.just("cancel all")),
)


@given(st.lists(requests, max_size=50), st.sampled_from(["50", "400", "5000"]))
def test_under_any_requests_and_prices_the_books_balance(script, wallet):
    desk = Desk(wallet)
    venue = desk.venue
    centre = D(60000)
    refusals: set[int] = set()

    for action in script:
        last = venue.mark("BTCUSDT")
        try:
            match action:
                case ("order", side, lots, offset, tif, reduce):
                    price = "" if offset == 0 else str(last + offset)
                    more = {"reduceOnly": reduce} | ({"timeInForce": tif} if offset else {})
                    desk.order(side, str(D(lots) / 1000), price, **more)
                case ("algo", side, offset, lots, kind):
                    qty = str(D(lots) / 1000) if lots else ""
                    desk.algo(side, str(last + offset), qty, type=kind)
                case ("price", offset, lots, depth):
                    desk.price(str(centre + offset * 10), lots=lots, depth=depth)
                case ("funding", rate):
                    venue.pay_funding("BTCUSDT", D(rate) / 10_000)
                case _:
                    venue.cancel_all("BTCUSDT")
        except Refused as refused:
            refusals.add(refused.code)

        # What the user stream told adds up to what the exchange holds.
        a = venue.account
        assert a.wallet == a.deposits + a.realized - a.fees - a.funding
        assert a.wallet == a.deposits + sum((D(row["income"]) for row in venue.incomes), D(0))
        assert desk.position == sum((f.order.sign * f.lots for f in venue.fills), 0) * D("0.001")
        updates = [e["a"]["P"][0]["pa"] for e in desk.words("ACCOUNT_UPDATE") if e["a"]["P"]]
        assert not updates or D(updates[-1]) == desk.position
        assert {o.order_id for o in venue.open_orders("BTCUSDT")} == {i for i, o in venue.orders.items() if o.live}
        assert all(algo.live for algo in venue.algos.open("BTCUSDT"))
        if desk.position == 0:
            assert not [o for o in venue.open_orders("BTCUSDT") if o.reduce_only]
            assert not [x for x in venue.algos.open("BTCUSDT") if x.close_position and x.status == "NEW"]
            assert a.positions["BTCUSDT"].isolated_wallet == 0

    assert refusals <= {-2019, -2021, -2022, -4130, -4164, -4509, -5022, -4016, -4024}
