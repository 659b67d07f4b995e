"""The wire: what Binance says and what the bot understands, on payloads in the form of real ones."""

import json
import re
from dataclasses import replace
from decimal import Decimal as D
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.core.errors import InvariantError, WireError
from bot.core.events import (
    AccountUpdate,
    FeedLost,
    Fill,
    Funding,
    KlineClosed,
    LeverageSet,
    MarginCall,
    MarginTypeSet,
    OrderUpdate,
    Quotes,
)
from bot.core.intents import CancelOrder, PlaceOrder
from bot.core.types import Kline, OrderSide, OrderStatus, OrderType, PositionReport, Quote, Tier, TimeInForce
from bot.execution import replies, wire

DATA = Path(__file__).parent / "data"
PUSHES = json.loads((DATA / "payloads_streams.json").read_text())
REPLIES = json.loads((DATA / "payloads_rest.json").read_text())
RATES = {"BTCUSDT": (D("0.0002"), D("0.0004"))}


def events(name, **kwargs):
    return wire.events_of(PUSHES[name], **kwargs)


def changed(name, source=PUSHES, **inner):
    payload = json.loads(json.dumps(source[name]))
    target = payload.get("o") or payload.get("k") or payload.get("a") or payload
    target.update(inner)
    return payload


# Market ---------------------------------------------------------------------------------------------------------------


def test_a_bar_becomes_an_event_only_when_the_exchange_says_that_it_is_closed():
    assert events("kline_open") == ()
    assert events("kline_closed") == (
        KlineClosed(
            1789478280041,
            Kline("BTCUSDT", 180_000, 1789478100000, 76936.2, 76999.9, 76901.0, 76950.0, 61.204, 33.02),
        ),
    )


def test_best_prices_and_funding_keep_every_digit():
    assert events("book_ticker") == (
        Quotes(1789478160301, (("ETHUSDT", Quote(D("2475.10"), D("12.345"), D("2475.11"), D("3.002"))),)),
    )
    assert events("mark_price", funding_hours={"SOLUSDT": 4}) == (
        Funding(1789478161000, "SOLUSDT", D("139.87000000"), D("0.00010000"), 1789488000000, 4),
    )
    assert events("mark_price_without_funding") == ()


def test_messages_that_repeat_what_others_say_are_no_events():
    assert events("trade_lite") == ()


def test_an_expired_listen_key_is_a_lost_user_feed():
    assert events("listen_key_expired") == (FeedLost(1789481900000, "user", "listen key expired"),)


# Orders and fills -----------------------------------------------------------------------------------------------------


def test_a_trade_yields_its_fill_and_then_the_order_s_new_state():
    fill, update = events("order_partly_filled")

    assert fill == Fill(
        1789478280322, "rbS-en-0-00k3f9x-01-a1", "BTCUSDT", OrderSide.BUY, D("0.005"), D("76940.00"), D("0.07694000"),
        True, 6123457001, D(0),
    )  # fmt: skip
    assert update == OrderUpdate(
        1789478280325, "rbS-en-0-00k3f9x-01-a1", "BTCUSDT", OrderStatus.PARTIALLY_FILLED, OrderSide.BUY, D("0.012"),
        D("0.005"), D("76940.00000"), "8886774",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "status", "filled", "reason"),
    [
        ("order_new", OrderStatus.NEW, "0", ""),
        ("ioc_expired", OrderStatus.EXPIRED, "0.003", "rest of an IOC order"),
        ("self_trade", OrderStatus.EXPIRED, "0", "self-trade prevention"),
        ("stop_appears", OrderStatus.TRIGGERED, "0", ""),
    ],
)
def test_an_order_without_a_trade_yields_its_state_alone(name, status, filled, reason):
    (update,) = events(name)

    assert (update.status, update.filled_qty, update.reason) == (status, D(filled), reason)


def test_a_triggered_stop_fills_under_the_stop_s_own_client_id():
    (triggering,), (appears,), (fill, filled) = events("algo_triggering"), events("stop_appears"), events("stop_filled")
    (finished,) = events("algo_finished")

    assert {e.client_id for e in (triggering, appears, fill, filled, finished)} == {"rbS-sl-0-00k3f9x-01-a1"}
    assert [e.status for e in (triggering, appears, filled, finished)] == [
        OrderStatus.TRIGGERED, OrderStatus.TRIGGERED, OrderStatus.FILLED, OrderStatus.FILLED,
    ]  # fmt: skip
    assert (filled.order_id, finished.order_id) == ("8886790", "8886790")


def test_a_fee_in_another_coin_is_told_in_quote_by_the_account_s_rate():
    fill, _ = events("stop_filled", rates=RATES)

    assert fill.fee == D("0.012") * D("76790.10") * D("0.0004")


def test_a_liquidation_is_a_fill_even_without_a_trade_number():
    fill, update = events("liquidation")

    assert (fill.client_id, fill.qty, fill.trade_id) == ("autoclose-1789478400000", D("0.012"), -1789478400001)
    assert update.status is OrderStatus.FILLED


@pytest.mark.parametrize(
    ("name", "status", "filled"),
    [
        ("algo_new", OrderStatus.NEW, "0"),
        ("algo_finished", OrderStatus.FILLED, "0.012"),
        ("algo_finished_empty", OrderStatus.CANCELED, "0"),
        ("algo_rejected", OrderStatus.REJECTED, "0"),
        ("algo_expired", OrderStatus.EXPIRED, "0"),
    ],
)
def test_an_algo_order_has_the_same_states_as_any_order(name, status, filled):
    (update,) = events(name)

    assert (update.status, update.filled_qty, update.algo) == (status, D(filled), True)


def test_a_finished_stop_that_filled_in_part_has_expired_with_what_it_filled():
    (update,) = wire.events_of(changed("algo_finished", aq="0.007"))

    assert (update.status, update.filled_qty) == (OrderStatus.EXPIRED, D("0.007"))


def test_the_reason_of_a_rejected_stop_is_told():
    assert events("algo_rejected")[0].reason == "Reduce Only reject"


# Account --------------------------------------------------------------------------------------------------------------


def test_an_account_update_tells_the_wallet_in_quote_and_signed_positions():
    assert events("account_order") == (
        AccountUpdate(
            1789478280326, "ORDER", D("999.92306000"), D(0),
            (PositionReport("BTCUSDT", D("0.005"), D("76940.0"), D("38.47000000"), D("0.01200000")),),
        ),
    )  # fmt: skip
    (funding,) = events("account_funding")
    assert (funding.reason, funding.balance_change) == ("FUNDING_FEE", D("-0.03847000"))
    assert events("account_without_quote") == ()
    assert events("account_leverage") == (LeverageSet(1789478000001, "BTCUSDT", 20),)


def test_a_margin_call_names_the_positions_whose_margin_runs_out():
    assert events("margin_call") == (MarginCall(1789481900000, ("BTCUSDT",)),)


@pytest.mark.parametrize(("margin", "isolated"), [("isolated", True), ("ISOLATED", True), ("cross", False)])
def test_a_changed_margin_type_is_an_event_for_our_symbols_alone(margin, isolated):
    position = PUSHES["account_order"]["a"]["P"][0]
    changed_to = {**PUSHES["account_order"], "a": {
        "m": "MARGIN_TYPE_CHANGE", "B": [], "P": [{**position, "mt": margin}, {**position, "s": "DOGEUSDT", "mt": margin}],
    }}  # fmt: skip

    assert wire.events_of(changed_to, symbols=("BTCUSDT",)) == (MarginTypeSet(1789478280326, "BTCUSDT", isolated),)
    assert [e.symbol for e in wire.events_of(changed_to)] == ["BTCUSDT", "DOGEUSDT"]


def test_an_account_update_for_another_reason_says_nothing_about_margin_types():
    assert not any(isinstance(event, MarginTypeSet) for event in events("account_order"))


# What cannot be read --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "inner", "key"),
    [
        ("order_new", {"X": "SOMETHING_NEW"}, "X"),
        ("order_new", {"q": "abc"}, "q"),
        ("order_new", {"z": "NaN"}, "z"),
        ("order_new", {"S": "HOLD"}, "S"),
        ("algo_new", {"X": "PAUSED"}, "X"),
        ("order_partly_filled", {"t": None}, "t"),
    ],
)
def test_a_key_that_cannot_be_read_is_named(name, inner, key):
    with pytest.raises(WireError, match=f"'{key}'"):
        wire.events_of(changed(name, **inner))


@pytest.mark.parametrize(
    ("name", "key"), [("order_new", "c"), ("order_new", "x"), ("algo_new", "caid"), ("kline_closed", "V")]
)
def test_a_key_that_is_missing_is_named(name, key):
    payload = changed(name)
    del (payload.get("o") or payload["k"])[key]

    with pytest.raises(WireError, match=f"'{key}'"):
        wire.events_of(payload)


@pytest.mark.parametrize("inner", [{"h": "1"}, {"c": "NaN"}, {"v": "-1"}, {"l": "0"}])
def test_a_bar_that_no_market_can_make_is_refused(inner):
    with pytest.raises(WireError, match=r"impossible|'c'"):
        wire.events_of(changed("kline_closed", **inner))


@given(st.dictionaries(st.text(max_size=4), st.one_of(st.none(), st.integers(), st.text(max_size=8)), max_size=6),
       st.sampled_from(sorted(PUSHES)))  # fmt: skip
def test_unknown_keys_change_nothing(extra, name):
    payload = PUSHES[name]
    taken = set(payload) | set(payload.get("o", ())) | set(payload.get("a", ())) | set(payload.get("k", ()))
    more = {f"zz{key}": value for key, value in extra.items() if f"zz{key}" not in taken}
    inner = {
        key: {**payload[key], **more} for key in ("o", "a", "k") if key in payload and isinstance(payload[key], dict)
    }

    assert wire.events_of({**payload, **inner, **more}) == wire.events_of(payload)


@given(st.sampled_from(sorted(PUSHES)), st.data())
def test_a_mutilated_message_is_read_or_refused_but_never_another_error(name, data):
    payload = json.loads(json.dumps(PUSHES[name]))
    target = payload.get("o") or payload.get("k") or payload
    key = data.draw(st.sampled_from(sorted(target)))
    target[key] = data.draw(st.one_of(st.none(), st.text(max_size=6), st.integers(), st.lists(st.none(), max_size=1)))

    try:
        result = wire.events_of(payload)
    except WireError:
        return

    assert isinstance(result, tuple)


# Replies --------------------------------------------------------------------------------------------------------------


def test_an_instrument_comes_from_filters_brackets_and_commissions():
    symbols = ("BTCUSDT", "SOLUSDT")
    listing = replies.listing(REPLIES["exchange_info"], symbols)
    tiers = replies.tiers_of(REPLIES["leverage_bracket"], symbols)
    fees = replies.commission(REPLIES["commission_rate"], "BTCUSDT")

    btc, sol = (
        replace(listing.symbols[s], tiers=tiers[s], maker_fee=fees.maker, taker_fee=fees.taker) for s in symbols
    )

    assert (btc.tick, btc.lot, btc.min_qty, btc.market_max_qty, btc.min_notional) == (
        D("0.1"), D("0.001"), D("0.001"), D(120), D(50),
    )  # fmt: skip
    assert btc.tiers == (Tier(D(300000), 150, D("0.004"), D("0.0")), Tier(D(800000), 100, D("0.005"), D("300.0")))
    assert (btc.maker_fee, btc.taker_fee, btc.trading, sol.trading) == (D("0.000200"), D("0.000400"), True, False)
    assert str(sol.price(139.876)) == "139.88"
    assert str(btc.price(60000.17)) == "60000.2"


def test_replies_become_states_reports_and_fills():
    ack, ioc = replies.order_update(REPLIES["order_ack"]), replies.order_update(REPLIES["order_ioc_result"])
    algo = replies.algo_order_update(REPLIES["algo_triggered"])
    (order,) = replies.orders([REPLIES["open_order"]], "BTCUSDT")
    report = replies.order_report(order)
    (stop,) = replies.algo_reports([REPLIES["algo_created"]], "BTCUSDT")

    assert (ack.status, ack.order_id, ack.at_ms) == (OrderStatus.NEW, "8886774", 1789478280150)
    assert (ioc.status, ioc.filled_qty, ioc.average_price) == (OrderStatus.EXPIRED, D("0.003"), D("76960.00"))
    assert (algo.status, algo.filled_qty, algo.order_id) == (OrderStatus.FILLED, D("0.012"), "8886790")
    assert (report.price, report.reduce_only, report.algo) == (D("77240.00"), True, False)
    assert (stop.price, stop.close_position, stop.algo, stop.order_type) == (
        D("76500.00"), True, True, OrderType.STOP_MARKET,
    )  # fmt: skip
    assert replies.algo_reports([{**REPLIES["algo_created"], "orderType": "TAKE_PROFIT_MARKET"}], "BTCUSDT") == []
    assert replies.positions([REPLIES["position"]])[0].qty == D("-0.005")
    assert replies.wallet_balance(REPLIES["balance"]) == D(1000)
    (trade,) = replies.trades([REPLIES["user_trade"]], "BTCUSDT")
    assert replies.fill(trade, "x").fee == D("0.07694000")
    assert replies.funding_hours(REPLIES["funding_info"]) == {"BTCUSDT": 4}
    assert replies.funding(REPLIES["premium_index"], "BTCUSDT", hours=8).rate == D("0.00010000")
    (bar,) = replies.klines([REPLIES["kline_row"]], "BTCUSDT", interval_ms=60_000)
    assert (bar.open_ms, bar.open, bar.taker_buy_volume) == (1789478160000, 76936.2, 15.19)


def test_hedge_mode_is_refused():
    with pytest.raises(WireError, match="hedge mode"):
        replies.positions([{**REPLIES["position"], "positionSide": "LONG"}])


# Intents --------------------------------------------------------------------------------------------------------------


def test_a_post_only_entry_asks_for_ack_and_speaks_in_strings():
    intent = PlaceOrder(
        "rbS-en-0-1-01-a1", "BTCUSDT", OrderSide.BUY, OrderType.LIMIT, D("0.012"), D("76940.0"), TimeInForce.GTX
    )

    assert wire.place_params(intent) == {
        "symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "newClientOrderId": "rbS-en-0-1-01-a1", "newOrderRespType": "ACK",
        "price": "76940.0", "timeInForce": "GTX", "quantity": "0.012",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("order_type", "time_in_force", "answer"),
    [(OrderType.MARKET, None, "RESULT"), (OrderType.LIMIT, TimeInForce.IOC, "RESULT"), (OrderType.LIMIT, None, "ACK")],
)
def test_orders_that_cannot_rest_ask_how_they_ended(order_type, time_in_force, answer):
    price = D(1) if order_type is OrderType.LIMIT else None
    intent = PlaceOrder("a", "BTCUSDT", OrderSide.SELL, order_type, D("1E-3"), price, time_in_force, reduce_only=True)

    params = wire.place_params(intent)

    assert (params["newOrderRespType"], params["reduceOnly"], params["quantity"]) == (answer, "true", "0.001")


def test_a_stop_goes_to_the_algo_service_with_our_own_id():
    stop = PlaceOrder(
        "rbS-cs-0-1-01-a1", "BTCUSDT", OrderSide.SELL, OrderType.STOP_MARKET, D(0), trigger_price=D("76500.0"),
        close_position=True, working_type="MARK_PRICE",
    )  # fmt: skip

    assert wire.place_params(stop) == {
        "symbol": "BTCUSDT", "side": "SELL", "type": "STOP_MARKET", "algoType": "CONDITIONAL", "clientAlgoId": "rbS-cs-0-1-01-a1",
        "triggerPrice": "76500.0", "workingType": "MARK_PRICE", "newOrderRespType": "ACK", "closePosition": "true",
    }  # fmt: skip
    assert wire.cancel_params(CancelOrder("rbS-cs-0-1-01-a1", "BTCUSDT", algo=True)) == {
        "symbol": "BTCUSDT", "clientAlgoId": "rbS-cs-0-1-01-a1",
    }  # fmt: skip


@given(st.text(max_size=40))
def test_only_ids_that_survive_signing_are_sent(client_id):
    fits = re.fullmatch("[A-Za-z0-9_.-]{1,36}", client_id) is not None

    if fits:
        assert wire.checked_id(client_id) == client_id
    else:
        with pytest.raises(InvariantError):
            wire.checked_id(client_id)


@given(st.decimals(min_value=D("1e-9"), max_value=D("1e9"), allow_nan=False, allow_infinity=False))
def test_numbers_travel_without_exponent_and_come_back_the_same(value):
    sent = wire.text(value)

    assert re.fullmatch(r"\d+(\.\d+)?", sent)
    assert D(sent) == value
