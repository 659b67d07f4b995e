"""Venue cases of orders: conditional ones VC-34 to VC-39, regular ones VC-70 to VC-83."""

from decimal import Decimal as D

import pytest

from tests import venue_rig
from tests.venue_rig import events, found, limit, order, position, stop

pytestmark = pytest.mark.wire
rig, lively = venue_rig.rig, venue_rig.lively


async def jump(rig, percent: float) -> None:
    """Let the price jump."""
    await rig.fault("price_gap", percent=percent)


# -- VC-34 to VC-39: conditional orders ----------------------------------------------------------------------------------


async def test_vc34_a_closing_stop_expires_with_its_position(rig):
    user = await rig.user()
    await order(rig, "BUY")
    await stop(rig, "SELL", "98000", closePosition="true", clientAlgoId="g1")
    (new,) = await events(user, "ALGO_UPDATE")

    await order(rig, "SELL", reduceOnly="true")
    (gone,) = await events(user, "ALGO_UPDATE")

    assert (new["o"]["f"], new["o"]["q"], new["o"]["R"], new["o"]["cp"]) == ("GTE_GTC", "0", True, True)
    assert (gone["o"]["caid"], gone["o"]["X"]) == ("g1", "EXPIRED")
    assert await rig.client.futures_get_open_algo_orders(symbol="BTCUSDT") == []


async def test_vc35_a_closing_stop_needs_a_position(rig):
    assert await rig.refusal(stop(rig, "SELL", "98000", closePosition="true")) == (400, -4509)
    await order(rig, "BUY")
    assert await rig.refusal(stop(rig, "BUY", "102000", closePosition="true")) == (400, -4509)
    assert await rig.refusal(stop(rig, "SELL", "98000", closePosition="true", quantity="0.010")) == (400, -4137)


async def test_vc36_two_hundred_conditional_orders_are_enough(rig):
    await order(rig, "BUY")
    desk = rig.exchange.venue.algos
    for number in range(199):
        desk.place({"algoType": "CONDITIONAL", "symbol": "BTCUSDT", "side": "SELL", "type": "STOP_MARKET",
                    "quantity": "0.010", "triggerPrice": str(90_000 + number)})  # fmt: skip

    assert (await stop(rig, "SELL", "95000"))["algoStatus"] == "NEW"
    assert await rig.refusal(stop(rig, "SELL", "96000")) == (400, -4045)


async def test_vc37_a_trailing_stop_wakes_at_its_price_and_follows(rig):
    user = await rig.user()
    await order(rig, "BUY")
    trail = {"symbol": "BTCUSDT", "side": "SELL", "type": "TRAILING_STOP_MARKET", "quantity": "0.010"}
    create = rig.client.futures_create_algo_order

    assert await rig.refusal(create(**trail, callbackRate="21")) == (400, -1130)
    assert await rig.refusal(create(**trail, callbackRate="1", activatePrice="99000")) == (400, -2021)
    await create(**trail, callbackRate="1", activatePrice="101000", clientAlgoId="t1", reduceOnly="true")
    await jump(rig, 2)
    await jump(rig, -2)
    told = [event["o"] for event in await events(user, "ALGO_UPDATE", count=5)]

    assert [o["X"] for o in told] == ["NEW", "NEW", "TRIGGERING", "TRIGGERED", "FINISHED"]
    assert [o["ia"] for o in told[:2]] == [False, True]
    assert await position(rig) is None


async def test_vc38_a_closing_target_may_stand_beside_a_closing_stop(rig):
    await order(rig, "BUY")
    await stop(rig, "SELL", "98000", closePosition="true")
    await stop(rig, "SELL", "102000", type="TAKE_PROFIT_MARKET", closePosition="true")

    await jump(rig, 3)

    assert await position(rig) is None
    kinds = {a["orderType"]: a["algoStatus"] for a in await rig.client.futures_get_all_algo_orders(symbol="BTCUSDT")}
    assert kinds == {"STOP_MARKET": "EXPIRED", "TAKE_PROFIT_MARKET": "FINISHED"}


async def test_vc39_a_triggered_stop_limit_is_a_regular_order_with_the_stops_client_id(rig):
    await order(rig, "BUY")
    await rig.client.futures_create_algo_order(
        symbol="BTCUSDT", side="SELL", type="STOP", triggerPrice="99500", price="99800", quantity="0.010",
        reduceOnly="true", clientAlgoId="sl1", timeInForce="GTC",
    )  # fmt: skip

    await jump(rig, -1)
    algo = await rig.client.futures_get_algo_order(clientAlgoId="sl1")
    regular = await found(rig, "sl1")

    assert algo["algoStatus"] == "TRIGGERED"
    assert (str(regular["orderId"]), regular["status"], regular["origType"]) == (algo["actualOrderId"], "NEW", "STOP")
    assert await rig.refusal(rig.client.futures_cancel_algo_order(clientAlgoId="sl1")) == (400, -2011)
    await rig.client.futures_cancel_order(symbol="BTCUSDT", origClientOrderId="sl1")
    assert (await rig.client.futures_get_algo_order(clientAlgoId="sl1"))["algoStatus"] == "FINISHED"


# -- VC-70 to VC-83: regular orders --------------------------------------------------------------------------------------


async def test_vc70_a_dated_order_expires_at_its_date(rig):
    now = (await rig.client.futures_time())["serverTime"]
    user = await rig.user()

    soon = limit(rig, "BUY", "99000", timeInForce="GTD", goodTillDate=now + 300_000)
    assert await rig.refusal(soon) == (400, -5040)
    reply = await limit(rig, "BUY", "99000", timeInForce="GTD", goodTillDate=now + 630_500, newClientOrderId="d1")
    rig.exchange.clock.time_ms += 629_500
    rig.exchange.start()
    told = await events(user, "ORDER_TRADE_UPDATE", count=2)

    assert (reply["goodTillDate"], told[0]["o"]["gtd"]) == (now + 630_000, now + 630_000)
    assert (told[-1]["o"]["X"], told[-1]["T"]) == ("EXPIRED", now + 630_000)


async def test_vc71_a_price_may_be_matched_to_the_book(rig):
    book = await rig.client.futures_orderbook_ticker(symbol="BTCUSDT")
    match = {"type": "LIMIT", "timeInForce": "GTC"}

    queue = await order(rig, "BUY", priceMatch="QUEUE", **match)
    fifth = await order(rig, "BUY", priceMatch="QUEUE_5", **match)
    taken = await order(rig, "BUY", priceMatch="OPPONENT", **match)

    assert (queue["price"], queue["priceMatch"], queue["status"]) == (book["bidPrice"], "QUEUE", "NEW")
    assert D(fifth["price"]) == D(book["bidPrice"]) - 4 * D("0.1")
    assert taken["status"] == "FILLED"
    assert await rig.refusal(order(rig, "BUY", priceMatch="OPPONENT_20", **match)) == (400, -5037)
    assert await rig.refusal(order(rig, "BUY", priceMatch="QUEUE")) == (400, -5038)


@pytest.mark.parametrize(
    ("mode", "maker", "taker"),
    [
        ("EXPIRE_MAKER", "EXPIRED_IN_MATCH", "FILLED"),
        ("EXPIRE_TAKER", "NEW", "EXPIRED_IN_MATCH"),
        ("EXPIRE_BOTH", "EXPIRED_IN_MATCH", "EXPIRED_IN_MATCH"),
    ],
)
async def test_vc72_ones_own_orders_do_not_trade_with_each_other(rig, mode, maker, taker):
    ask = (await rig.client.futures_orderbook_ticker(symbol="BTCUSDT"))["askPrice"]
    await limit(rig, "SELL", ask, newClientOrderId="maker")

    reply = await order(rig, "BUY", selfTradePreventionMode=mode)

    assert (reply["status"], (await found(rig, "maker"))["status"]) == (taker, maker)


async def test_vc73_fill_or_kill_is_all_or_a_refusal_without_a_trace(rig):
    rig.exchange.venue.books["BTCUSDT"].ask_lots = 4
    whole = {"timeInForce": "FOK", "newClientOrderId": "f1"}

    assert await rig.refusal(limit(rig, "BUY", "100100", **whole)) == (400, -5021)
    assert await rig.refusal(found(rig, "f1")) == (400, -2013)
    assert (await limit(rig, "BUY", "100100", **whole, quantity="0.003"))["status"] == "FILLED"


async def test_vc74_the_reply_to_a_market_order_waits_for_its_outcome(lively):
    lively.exchange.start()
    await lively.fault("thin_book", symbol="BTCUSDT", share=0.02, ms=600_000)

    reply = await order(lively, "BUY", newClientOrderId="m1")
    fills = await lively.client.futures_account_trades(symbol="BTCUSDT")

    assert (reply["status"], reply["executedQty"]) == ("FILLED", "0.010")
    assert len(fills) > 1
    assert sum(D(f["qty"]) for f in fills) == D("0.010")


async def test_vc75_a_post_only_order_amended_into_the_book_is_gone(rig):
    await limit(rig, "BUY", "99000", timeInForce="GTX", newClientOrderId="x1")
    change = {"symbol": "BTCUSDT", "origClientOrderId": "x1", "side": "BUY", "quantity": "0.010"}

    assert await rig.refusal(rig.client.futures_modify_order(**change, price="99100", reduceOnly="true")) == (
        400,
        -5047,
    )
    gone = await rig.client.futures_modify_order(**change, price="100500")

    assert gone["status"] == "EXPIRED"
    assert await rig.refusal(rig.client.futures_modify_order(**change, price="99000")) == (400, -2013)
    (row,) = await rig.client.futures_v1_get_order_amendment(symbol="BTCUSDT")
    assert row["amendment"]["price"] == {"before": "99000.00", "after": "100500.00"}


async def test_vc76_a_client_id_is_taken_again_once_its_order_has_ended(rig):
    first = await limit(rig, "BUY", "99000", newClientOrderId="twice")

    assert await rig.refusal(limit(rig, "BUY", "99000", newClientOrderId="twice")) == (400, -4116)
    assert await rig.refusal(limit(rig, "BUY", "99000", newClientOrderId="x" * 37)) == (400, -4015)
    await rig.client.futures_cancel_order(symbol="BTCUSDT", origClientOrderId="twice")
    market = [await order(rig, "BUY", newClientOrderId="twice") for _ in range(2)]

    assert {reply["status"] for reply in market} == {"FILLED"}
    assert len({first["orderId"], *(reply["orderId"] for reply in market)}) == 3
    assert (await found(rig, "twice"))["orderId"] == market[-1]["orderId"]


async def test_vc77_an_ended_order_without_a_fill_is_forgotten_after_three_days(rig):
    await limit(rig, "BUY", "99000", newClientOrderId="old")
    await rig.client.futures_cancel_order(symbol="BTCUSDT", origClientOrderId="old")
    await order(rig, "BUY", newClientOrderId="filled")
    await limit(rig, "BUY", "99000", newClientOrderId="open")

    rig.exchange.clock.time_ms += 3 * 86_400_000 + 1
    names = [o["clientOrderId"] for o in await rig.client.futures_get_all_orders(symbol="BTCUSDT")]

    assert names == ["filled", "open"]
    assert await rig.refusal(found(rig, "old")) == (400, -2013)
    rig.exchange.clock.time_ms += 90 * 86_400_000
    assert await rig.refusal(found(rig, "filled")) == (400, -2013)
    assert await rig.client.futures_account_trades(symbol="BTCUSDT") == []
    assert (await found(rig, "open"))["status"] == "NEW"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"quantity": "0.0005"}, -1111),
        ({"quantity": "0"}, -4003),
        ({"quantity": "1001"}, -4005),
        ({"price": "99000.05"}, -4014),
        ({"price": "105100"}, -4016),
        ({"side": "SELL", "price": "94900"}, -4024),
        ({"quantity": "0.001", "price": "49000"}, -4164),
        ({"side": "HOLD"}, -1117),
        ({"timeInForce": "GTE"}, -1115),
        ({"positionSide": "LONG"}, -4061),
        ({"symbol": "DOGEUSDT"}, -1121),
        ({"reduceOnly": "true"}, -2022),
    ],
)
async def test_vc78_every_filter_has_its_code(rig, change, code):
    params = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.010",
              "price": "99000"} | change  # fmt: skip

    assert await rig.refusal(rig.client.futures_create_order(**params)) == (400, code)
    assert rig.exchange.venue.orders == {}


async def test_vc79_the_countdown_cancels_orders_and_spares_stops(lively):
    lively.exchange.start()
    await order(lively, "BUY", quantity="0.050")
    last = float((await lively.client.futures_symbol_ticker(symbol="BTCUSDT"))["price"])
    await stop(lively, "SELL", f"{last * 0.9:.0f}", quantity="0.050", reduceOnly="true")
    await limit(lively, "BUY", f"{last * 0.96:.0f}", newClientOrderId="c1")
    user = await lively.user()

    reply = await lively.client.futures_countdown_cancel_all(symbol="BTCUSDT", countdownTime=30_000)
    (event,) = await events(user, "ORDER_TRADE_UPDATE", within=10)

    assert reply == {"symbol": "BTCUSDT", "countdownTime": "30000"}
    assert (event["o"]["c"], event["o"]["X"]) == ("c1", "CANCELED")
    assert len(await lively.client.futures_get_open_algo_orders(symbol="BTCUSDT")) == 1


async def test_vc80_two_hundred_open_orders_are_enough(rig):
    for number in range(200):
        rig.exchange.venue.place({"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC",
                                  "quantity": "0.001", "price": str(96_000 + number)})  # fmt: skip

    assert await rig.refusal(limit(rig, "BUY", "99000", quantity="0.001")) == (400, -2025)
    assert len(await rig.client.futures_get_open_orders(symbol="BTCUSDT")) == 200
    await rig.client.futures_cancel_all_open_orders(symbol="BTCUSDT")
    assert (await limit(rig, "BUY", "99000"))["status"] == "NEW"


async def test_vc81_reduce_only_orders_end_when_there_is_nothing_left_to_reduce(rig):
    user = await rig.user()
    await order(rig, "BUY")
    for number in (1, 2):
        await limit(rig, "SELL", f"10{number}000", timeInForce="GTX", reduceOnly="true", newClientOrderId=f"tp{number}")

    await jump(rig, 1.5)
    ended = [e["o"] for e in await events(user, "ORDER_TRADE_UPDATE", count=6)]

    assert [(o["c"], o["X"], o["er"]) for o in ended[-2:]] == [("tp1", "FILLED", "0"), ("tp2", "EXPIRED", "4")]
    assert await rig.refusal(limit(rig, "SELL", "102000", reduceOnly="true")) == (400, -2022)


async def test_vc82_bookings_and_trades_are_paged(rig):
    for side in ("BUY", "SELL", "BUY"):
        await order(rig, side)

    trades = await rig.client.futures_account_trades(symbol="BTCUSDT")
    page = await rig.client.futures_account_trades(symbol="BTCUSDT", fromId=trades[1]["id"], limit=1)
    fees = await rig.client.futures_income_history(incomeType="COMMISSION")
    account = await rig.client.futures_account(version=3)

    assert [trade["id"] for trade in page] == [trades[1]["id"]]
    assert len(fees) == 3
    total = sum(D(row["income"]) for row in await rig.client.futures_income_history())
    assert D(account["totalWalletBalance"]) == D(1000) + total


async def test_vc83_an_ioc_rest_is_told_with_its_reason(rig):
    user = await rig.user()
    rig.exchange.venue.books["BTCUSDT"].ask_lots = 4

    await limit(rig, "BUY", "100100", timeInForce="IOC")
    told = [e["o"] for e in await events(user, "ORDER_TRADE_UPDATE", count=3)]

    assert [(o["x"], o["X"], o["z"], o["er"]) for o in told] == [
        ("NEW", "NEW", "0.000", "0"), ("TRADE", "PARTIALLY_FILLED", "0.004", "0"),
        ("EXPIRED", "EXPIRED", "0.004", "2")]  # fmt: skip
    assert told[1]["t"] > 0
    assert told[2]["t"] == 0
