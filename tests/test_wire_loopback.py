"""Numbered venue cases: unmodified python-binance against the embedded exchange, over loopback sockets.

Each case is a promise of Binance's protocol that a client may rely on; the numbers are for reference in talk and code, and
`docs/venue-cases.md` lists them all. More cases stand in `test_venue_*.py`.
"""

import asyncio
import hashlib
import hmac
import time
from decimal import Decimal as D
from typing import Any

import aiohttp
import numpy as np
import pytest
from binance.exceptions import BinanceAPIException

from bot.sim.server import Exchange
from tests import venue_rig
from tests.sim_tools import KEY, SECRET, START, close_client, endpoints, flat
from tests.venue_rig import HOUR, events, order, stop

pytestmark = pytest.mark.wire
rig, lively = venue_rig.rig, venue_rig.lively


# -- VC-01 to VC-09: what anybody may ask ------------------------------------------------------------------------------


async def test_vc01_clock_and_symbols(rig):
    assert await rig.client.futures_ping() == {}
    assert await rig.client.ping() == {}
    assert (await rig.client.futures_time())["serverTime"] == START + HOUR
    info = await rig.client.futures_exchange_info()
    (symbol,) = info["symbols"]
    filters = {f["filterType"]: f for f in symbol["filters"]}

    assert [(r["rateLimitType"], r["intervalNum"], r["limit"]) for r in info["rateLimits"]] == [
        ("REQUEST_WEIGHT", 1, 2400), ("ORDERS", 1, 1200), ("ORDERS", 10, 300)]  # fmt: skip
    assert filters["PRICE_FILTER"]["tickSize"] == "0.10"
    assert filters["LOT_SIZE"] == {"filterType": "LOT_SIZE", "minQty": "0.001", "maxQty": "1000", "stepSize": "0.001"}
    assert filters["MIN_NOTIONAL"]["notional"] == "50"
    assert {"LIMIT", "MARKET", "STOP_MARKET"} <= set(symbol["orderTypes"])


async def test_vc02_klines_page_inclusively_up_to_the_clock(lively):
    rows = await lively.client.futures_klines(symbol="BTCUSDT", interval="3m", startTime=START, limit=1500)
    page = await lively.client.futures_klines(
        symbol="BTCUSDT", interval="1m", startTime=START + 60_000, endTime=START + 180_000
    )
    recorded = lively.exchange.candles["BTCUSDT"].source["3m"]

    assert [row[0] for row in rows] == list(range(START, START + HOUR, 180_000))
    assert [float(row[4]) for row in rows] == recorded.close[: len(rows)].tolist()
    assert [row[0] for row in page] == [START + 60_000, START + 120_000, START + 180_000]
    assert len(rows[0]) == 12
    assert all(isinstance(value, str) for value in rows[0][1:6])


async def test_vc03_every_interval_aggregates_and_an_unknown_one_is_refused(lively):
    for interval, length in (("5m", 300_000), ("15m", 900_000), ("30m", 1_800_000), ("1h", HOUR)):
        rows = await lively.client.futures_klines(symbol="ETHUSDT", interval=interval)
        assert np.diff([row[0] for row in rows]).tolist() == [length] * (len(rows) - 1)
    assert await lively.refusal(lively.client.futures_klines(symbol="ETHUSDT", interval="7m")) == (400, -1120)
    assert await lively.refusal(lively.client.futures_klines(symbol="DOGEUSDT", interval="1m")) == (400, -1121)


async def test_vc04_book_mark_and_day(rig):
    book = await rig.client.futures_orderbook_ticker(symbol="BTCUSDT")
    mark = await rig.client.futures_mark_price(symbol="BTCUSDT")
    day = await rig.client.futures_ticker(symbol="BTCUSDT")
    depth = await rig.client.futures_order_book(symbol="BTCUSDT", limit=5)

    assert D(book["bidPrice"]) < D(100_000) < D(book["askPrice"])
    assert depth["bids"] == [[book["bidPrice"], book["bidQty"]]]
    assert (mark["markPrice"], mark["nextFundingTime"]) == ("100000.00000000", START + 8 * HOUR)
    assert D(day["lastPrice"]) == D(day["openPrice"]) == 100_000
    assert await rig.client.futures_v1_get_funding_info() == []
    assert len(await rig.client.futures_mark_price()) == 1


# -- VC-10 to VC-19: who may ask -----------------------------------------------------------------------------------------


async def test_vc10_another_key_and_a_wrong_signature(rig):
    client, _ = endpoints(rig.port)
    stranger, forger = client("other", SECRET), client(KEY, "wrong")
    try:
        assert await rig.refusal(stranger.futures_account_balance()) == (401, -2015)
        assert await rig.refusal(forger.futures_account_balance()) == (400, -1022)
        assert await rig.refusal(stranger.futures_stream_get_listen_key()) == (401, -2015)
    finally:
        await close_client(stranger)
        await close_client(forger)


async def test_vc11_a_timestamp_of_the_machine_or_of_the_replay_is_good_and_no_other(rig):
    assert await rig.client.futures_account_balance()
    rig.client.timestamp_offset = START + HOUR - time.time_ns() // 1_000_000
    assert await rig.client.futures_account_balance()
    for offset in (-7_000, 5_000):
        rig.client.timestamp_offset = offset
        assert await rig.refusal(rig.client.futures_account_balance()) == (400, -1021)


async def test_vc12_parameters_may_stand_in_query_and_body(rig):
    query, body = "symbol=BTCUSDT&side=BUY", f"type=MARKET&quantity=0.010&timestamp={time.time_ns() // 1_000_000}"
    signature = hmac.new(SECRET.encode(), (query + body).encode(), hashlib.sha256).hexdigest()
    headers = {"X-MBX-APIKEY": KEY, "Content-Type": "application/x-www-form-urlencoded"}
    url = f"http://127.0.0.1:{rig.port}/fapi/v1/order?{query}"

    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.post(url, data=f"{body}&signature={signature}") as reply,
    ):
        answer = await reply.json()

    assert (reply.status, answer["status"], answer["executedQty"]) == (200, "NEW", "0")


async def test_vc13_weights_and_order_counts_are_told(rig):
    await order(rig, "BUY")
    headers = rig.client.response.headers

    assert headers["X-MBX-USED-WEIGHT-1M"].isdigit()
    assert (headers["X-MBX-ORDER-COUNT-10S"], headers["X-MBX-ORDER-COUNT-1M"]) == ("1", "1")


async def test_vc14_too_much_weight_is_429_with_retry_after(rig):
    async def much() -> None:
        for _ in range(300):
            await rig.client.futures_klines(symbol="BTCUSDT", interval="1m", limit=1500)

    with pytest.raises(BinanceAPIException) as refused:
        await much()

    assert (refused.value.status_code, refused.value.code) == (429, -1003)
    assert 1 <= int(refused.value.response.headers["Retry-After"]) <= 60


async def test_vc15_an_unknown_path_is_404(rig):
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{rig.port}/fapi/v1/nothing") as reply:
        assert reply.status == 404


# -- VC-20 to VC-29: regular orders --------------------------------------------------------------------------------------


async def test_vc20_a_market_order_with_result_is_filled_in_the_reply(rig):
    reply = await order(rig, "BUY", newClientOrderId="m1")
    position = (await rig.client.futures_position_information(symbol="BTCUSDT"))[0]

    assert (reply["status"], reply["executedQty"], reply["clientOrderId"]) == ("FILLED", "0.010", "m1")
    assert D(reply["avgPrice"]) > D(100_000)
    assert D(position["positionAmt"]) == D("0.010")
    assert D(position["entryPrice"]) == D(reply["avgPrice"])


async def test_vc21_an_ack_says_new_even_when_it_has_filled(rig):
    reply = await order(rig, "BUY", newOrderRespType="ACK")
    found = await rig.client.futures_get_order(symbol="BTCUSDT", orderId=reply["orderId"])

    assert (reply["status"], reply["executedQty"]) == ("NEW", "0")
    assert found["status"] == "FILLED"


async def test_vc22_a_post_only_order_rests_or_is_refused_without_a_trace(rig):
    limit = {"type": "LIMIT", "timeInForce": "GTX"}

    resting = await order(rig, "BUY", price="99990", newClientOrderId="g1", **limit)
    refusal = await rig.refusal(order(rig, "BUY", price="100500", newClientOrderId="g2", **limit))

    assert resting["status"] == "NEW"
    assert refusal == (400, -5022)
    assert await rig.refusal(rig.client.futures_get_order(symbol="BTCUSDT", origClientOrderId="g2")) == (400, -2013)
    assert [o["clientOrderId"] for o in await rig.client.futures_get_open_orders(symbol="BTCUSDT")] == ["g1"]


async def test_vc23_an_ioc_rest_expires(rig):
    book = rig.exchange.venue.books["BTCUSDT"]
    book.ask_lots = 4

    reply = await order(rig, "BUY", type="LIMIT", timeInForce="IOC", price="100100")

    assert (reply["status"], reply["executedQty"]) == ("EXPIRED", "0.004")


async def test_vc24_cancel_and_cancel_again(rig):
    reply = await order(rig, "SELL", type="LIMIT", timeInForce="GTC", price="101000", newClientOrderId="c1")

    cancelled = await rig.client.futures_cancel_order(symbol="BTCUSDT", origClientOrderId="c1")
    again = await rig.refusal(rig.client.futures_cancel_order(symbol="BTCUSDT", orderId=reply["orderId"]))

    assert (cancelled["status"], cancelled["orderId"]) == ("CANCELED", reply["orderId"])
    assert again == (400, -2011)


async def test_vc25_amend_needs_a_change_and_keeps_the_id(rig):
    reply = await order(rig, "BUY", type="LIMIT", timeInForce="GTX", price="99000")
    change = {"symbol": "BTCUSDT", "orderId": reply["orderId"], "side": "BUY", "quantity": "0.020", "price": "99100"}

    amended = await rig.client.futures_modify_order(**change)

    assert (amended["orderId"], amended["price"], amended["origQty"]) == (reply["orderId"], "99100.00", "0.020")
    assert await rig.refusal(rig.client.futures_modify_order(**change)) == (400, -5027)


async def test_vc26_a_batch_answers_each_element(rig):
    good = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.010"}
    answers = await rig.client.futures_place_batch_order(
        batchOrders=[good | {"price": "99000", "newClientOrderId": "b1"}, good | {"price": "99000.05"}]
    )
    gone = await rig.client.futures_cancel_orders(symbol="BTCUSDT", origclientorderidlist=["b1", "b9"])

    assert (answers[0]["clientOrderId"], answers[1]["code"]) == ("b1", -4014)
    assert (gone[0]["status"], gone[1]["code"]) == ("CANCELED", -2011)


async def test_vc27_cancel_all_leaves_conditional_orders(rig):
    await order(rig, "BUY")
    await order(rig, "BUY", type="LIMIT", timeInForce="GTC", price="99000")
    await stop(rig, "SELL", "98000")

    reply = await rig.client.futures_cancel_all_open_orders(symbol="BTCUSDT")

    assert reply["code"] == 200
    assert await rig.client.futures_get_open_orders(symbol="BTCUSDT") == []
    assert len(await rig.client.futures_get_open_algo_orders(symbol="BTCUSDT")) == 1
    await rig.client.futures_cancel_all_algo_open_orders(symbol="BTCUSDT")
    assert await rig.client.futures_get_open_algo_orders(symbol="BTCUSDT") == []


async def test_vc28_reduce_only_never_opens(rig):
    assert await rig.refusal(order(rig, "SELL", reduceOnly="true")) == (400, -2022)
    await order(rig, "BUY")

    reply = await order(rig, "SELL", quantity="0.030", reduceOnly="true")

    assert (reply["status"], reply["executedQty"]) == ("EXPIRED", "0.010")
    assert await rig.client.futures_position_information(symbol="BTCUSDT") == []


async def test_vc29_trades_income_and_balance_agree(rig):
    await order(rig, "BUY")
    await order(rig, "SELL", reduceOnly="true")

    trades = await rig.client.futures_account_trades(symbol="BTCUSDT")
    income = await rig.client.futures_income_history()
    (balance,) = await rig.client.futures_account_balance()
    account = await rig.client.futures_account(version=3)

    net = sum(D(t["realizedPnl"]) - D(t["commission"]) for t in trades)
    assert [t["side"] for t in trades] == ["BUY", "SELL"]
    assert sum(D(row["income"]) for row in income) == net
    assert D(balance["balance"]) == D(1000) + net == D(account["totalWalletBalance"])


# -- VC-30 to VC-39: conditional orders ----------------------------------------------------------------------------------


async def test_vc30_a_stop_belongs_to_the_algo_service(rig):
    raw = {"symbol": "BTCUSDT", "side": "SELL", "type": "STOP_MARKET", "quantity": "0.010", "stopPrice": "98000"}
    await order(rig, "BUY")

    direct = await rig.refusal(rig.client._request_futures_api("post", "order", True, data=dict(raw)))
    reply = await stop(rig, "SELL", "98000", quantity="0.010", reduceOnly="true", clientAlgoId="s1")

    assert direct == (400, -4120)
    assert (reply["algoStatus"], reply["clientAlgoId"], reply["orderType"]) == ("NEW", "s1", "STOP_MARKET")
    assert await rig.refusal(rig.client.futures_get_order(symbol="BTCUSDT", origClientOrderId="s1")) == (400, -2013)
    found = await rig.client.futures_get_algo_order(clientAlgoId="s1")
    assert (found["algoId"], found["actualOrderId"]) == (reply["algoId"], "")


async def test_vc31_a_stop_through_the_price_would_trigger_at_once(rig):
    await order(rig, "BUY")

    assert await rig.refusal(stop(rig, "SELL", "100500")) == (400, -2021)


async def test_vc32_one_closing_stop_in_a_direction(rig):
    await order(rig, "BUY")
    await stop(rig, "SELL", "98000", closePosition="true")

    assert await rig.refusal(stop(rig, "SELL", "97000", closePosition="true")) == (400, -4130)
    assert (await stop(rig, "SELL", "97000"))["algoStatus"] == "NEW"


async def test_vc33_cancelling_a_stop_answers_with_a_string_code(rig):
    await order(rig, "BUY")
    await stop(rig, "SELL", "98000", quantity="0.010", reduceOnly="true", clientAlgoId="s1")

    reply = await rig.client.futures_cancel_algo_order(clientAlgoId="s1")

    assert (reply["code"], reply["clientAlgoId"]) == ("200", "s1")
    assert await rig.refusal(rig.client.futures_cancel_algo_order(clientAlgoId="s1")) == (400, -2011)
    assert (await rig.client.futures_get_all_algo_orders(symbol="BTCUSDT"))[0]["algoStatus"] == "CANCELED"


# -- VC-40 to VC-49: the account's settings ------------------------------------------------------------------------------


async def test_vc40_what_is_already_so_says_no_need(rig):
    await rig.client.futures_change_margin_type(symbol="BTCUSDT", marginType="ISOLATED")

    assert await rig.refusal(rig.client.futures_change_margin_type(symbol="BTCUSDT", marginType="ISOLATED")) == (
        400,
        -4046,
    )
    assert await rig.refusal(rig.client.futures_change_position_mode(dualSidePosition="false")) == (400, -4059)
    assert await rig.refusal(rig.client.futures_change_multi_assets_mode(multiAssetsMargin=False)) == (400, -4171)
    assert (await rig.client.futures_get_position_mode())["dualSidePosition"] is False
    (config,) = await rig.client.futures_symbol_config(symbol="BTCUSDT")
    assert (config["marginType"], config["leverage"]) == ("ISOLATED", 20)
    assert (await rig.client.futures_account_config())["canTrade"] is True


async def test_vc41_leverage_is_told_by_reply_and_stream(rig):
    user = await rig.user()

    reply = await rig.client.futures_change_leverage(symbol="BTCUSDT", leverage=10)
    (event,) = await events(user, "ACCOUNT_CONFIG_UPDATE")

    assert reply == {"leverage": 10, "maxNotionalValue": "100000000", "symbol": "BTCUSDT"}
    assert event["ac"] == {"s": "BTCUSDT", "l": 10}
    assert await rig.refusal(rig.client.futures_change_leverage(symbol="BTCUSDT", leverage=0)) == (400, -4028)


async def test_vc42_fees_and_tiers(rig):
    fee = await rig.client.futures_commission_rate(symbol="BTCUSDT")
    brackets = await rig.client.futures_leverage_bracket()

    assert (D(fee["makerCommissionRate"]), D(fee["takerCommissionRate"])) == (D("0.0002"), D("0.0004"))
    assert brackets[0]["brackets"][0] == {
        "bracket": 1, "initialLeverage": 150, "notionalCap": 300000, "notionalFloor": 0, "maintMarginRatio": 0.004,
        "cum": 0.0}  # fmt: skip


async def test_vc43_isolated_margin_can_be_topped_up(rig):
    await rig.client.futures_change_margin_type(symbol="BTCUSDT", marginType="ISOLATED")
    await order(rig, "BUY")
    before = D((await rig.client.futures_position_information(symbol="BTCUSDT"))[0]["isolatedWallet"])

    await rig.client.futures_change_position_margin(symbol="BTCUSDT", amount="10", type=1)

    after = (await rig.client.futures_position_information(symbol="BTCUSDT"))[0]
    assert D(after["isolatedWallet"]) == before + 10
    assert D(0) < D(after["liquidationPrice"]) < D(after["entryPrice"])


# -- VC-50 to VC-59: streams ---------------------------------------------------------------------------------------------


async def test_vc50_market_and_book_streams_deliver_what_rest_tells(lively):
    kline = await lively.socket(
        lively.manager.futures_multiplex_socket(["btcusdt@kline_1m", "btcusdt@markPrice@1s", "btcusdt@aggTrade"])
    )
    book = await lively.socket(lively.manager.futures_multiplex_socket(["btcusdt@bookTicker"], category="public"))
    lively.exchange.start()

    closed: list[Any] = []
    async with asyncio.timeout(20):
        while len(closed) < 3:
            message = (await kline.recv())["data"]
            if message["e"] == "kline" and message["k"]["x"]:
                closed.append(message["k"])
    (quote,) = await events(book, "bookTicker")
    rows = {row[0]: row for row in await lively.client.futures_klines(symbol="BTCUSDT", interval="1m", limit=99)}

    # The bar that ends where the clock starts is closed too; then one after the other.
    assert [k["t"] for k in closed] == [START + HOUR + i * 60_000 for i in (-1, 0, 1)]
    assert [rows[k["t"]][1:6] for k in closed] == [[k[name] for name in "ohlcv"] for k in closed]
    assert D(quote["b"]) < D(quote["a"])


async def test_vc51_a_stream_on_the_wrong_path_is_silent(lively):
    wrong = await lively.socket(lively.manager.futures_multiplex_socket(["btcusdt@bookTicker"], category="market"))
    other = type(lively.manager)(lively.client)  # a manager knows its sockets by stream names alone
    right = await lively.socket(other.futures_multiplex_socket(["btcusdt@bookTicker"], category="public"))
    lively.exchange.start()

    await events(right, "bookTicker", count=5)

    assert wrong._queue.empty()


async def test_vc52_a_continuous_kline_socket_names_the_pair(lively):
    socket = await lively.socket(lively.manager.kline_futures_socket("btcusdt", interval="1m"))
    lively.exchange.start()

    (event,) = await events(socket, "continuous_kline")

    assert (event["ps"], event["ct"]) == ("BTCUSDT", "PERPETUAL")
    assert "s" not in event["k"]


async def test_vc53_subscriptions_by_message(lively):
    lively.exchange.start()
    url = f"ws://127.0.0.1:{lively.port}/public/stream"
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
        await socket.send_json({"method": "SUBSCRIBE", "params": ["ethusdt@bookTicker"], "id": 1})
        answer = await socket.receive_json()
        frame = await socket.receive_json()
        await socket.send_json({"method": "LIST_SUBSCRIPTIONS", "id": 2})
        while (listed := await socket.receive_json()).get("id") != 2:
            pass
        await socket.send_json({"method": "UNSUBSCRIBE", "params": ["ethusdt@bookTicker"], "id": 3})
        while (gone := await socket.receive_json()).get("id") != 3:
            pass
        await socket.send_json({"method": "WHAT", "id": 4})
        wrong = await socket.receive_json()

    assert answer == {"result": None, "id": 1}
    assert (frame["stream"], frame["data"]["s"]) == ("ethusdt@bookTicker", "ETHUSDT")
    assert listed["result"] == ["ethusdt@bookTicker"]
    assert gone["result"] is None
    assert wrong["error"]["code"] == 2


async def test_vc54_a_fill_is_told_by_order_and_account(rig):
    user = await rig.user()

    reply = await order(rig, "BUY", newClientOrderId="u1")
    found = await events(user, "ORDER_TRADE_UPDATE", "ACCOUNT_UPDATE", "TRADE_LITE", count=4)

    kinds = [event["e"] for event in found]
    updates = [event["o"] for event in found if event["e"] == "ORDER_TRADE_UPDATE"]
    assert kinds[0] == "ORDER_TRADE_UPDATE"
    assert sorted(kinds[1:]) == ["ACCOUNT_UPDATE", "ORDER_TRADE_UPDATE", "TRADE_LITE"]
    assert [(o["x"], o["X"], o["c"], o["i"]) for o in updates] == [
        ("NEW", "NEW", "u1", reply["orderId"]), ("TRADE", "FILLED", "u1", reply["orderId"])]  # fmt: skip


async def test_vc55_events_of_the_user_stream_can_be_chosen(rig):
    key = await rig.client.futures_stream_get_listen_key()
    url = f"ws://127.0.0.1:{rig.port}/private/stream?listenKey={key}&events=ACCOUNT_UPDATE"
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
        await order(rig, "BUY")
        frame = await socket.receive_json()

    assert (frame["stream"], frame["data"]["e"]) == (key, "ACCOUNT_UPDATE")


async def test_vc56_one_listen_key_an_account_and_its_end(rig):
    first = await rig.client.futures_stream_get_listen_key()
    assert await rig.client.futures_stream_get_listen_key() == first
    await rig.client.futures_stream_keepalive(first)
    await rig.client.futures_stream_close(first)

    assert await rig.refusal(rig.client.futures_stream_keepalive(first)) == (400, -1125)
    assert await rig.client.futures_stream_get_listen_key() != first


async def test_vc57_a_triggered_stop_lives_through_all_its_states(lively):
    user = await lively.user()
    lively.exchange.start()
    await order(lively, "BUY", quantity="0.050")
    price = (await lively.client.futures_orderbook_ticker(symbol="BTCUSDT"))["bidPrice"]
    await lively.client.futures_create_algo_order(
        symbol="BTCUSDT", side="SELL", type="TRAILING_STOP_MARKET", quantity="0.050", reduceOnly="true",
        callbackRate="0.1", clientAlgoId="t1",
    )  # fmt: skip

    found = await events(user, "ALGO_UPDATE", count=4, within=30)

    assert [event["o"]["X"] for event in found] == ["NEW", "TRIGGERING", "TRIGGERED", "FINISHED"]
    assert {event["o"]["caid"] for event in found} == {"t1"}
    assert D(found[-1]["o"]["aq"]) == D("0.050")
    order_id = int(found[-1]["o"]["ai"])
    regular = await lively.client.futures_get_order(symbol="BTCUSDT", orderId=order_id)
    assert (regular["clientOrderId"], regular["status"]) == ("t1", "FILLED")
    assert D(price) > 0


async def test_vc58_the_clock_runs_at_its_speed_and_ends_with_the_data(rig):
    exchange = Exchange(flat(minutes=62), stepped=False, speed=60.0, from_ms=START + HOUR)
    port = await exchange.listen()
    client, _ = endpoints(port)
    other = client(KEY, SECRET)
    began = time.monotonic()
    exchange.start()

    await asyncio.sleep(0.5)
    mid = (await other.futures_time())["serverTime"]
    await exchange.finished()
    took = time.monotonic() - began
    after = (await other.futures_time())["serverTime"]
    await close_client(other)
    await exchange.close()

    assert START + HOUR + 25_000 <= mid <= START + HOUR + 110_000
    assert 1.8 <= took <= 4
    assert after == START + 62 * 60_000


# -- VC-60 to VC-79: faults ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fault", "orders"), [("http_503_executed", 1), ("http_503_not_executed", 0)])
async def test_vc60_an_unknown_outcome_may_or_may_not_have_been_carried_out(rig, fault, orders):
    await rig.post("/sim/faults", [{"fault": fault, "path": "/fapi/v1/order"}])

    refusal = await rig.refusal(order(rig, "BUY", newClientOrderId="f1"))
    await order(rig, "BUY", newClientOrderId="f2")
    names = [o["clientOrderId"] for o in await rig.client.futures_get_all_orders(symbol="BTCUSDT")]

    assert refusal == (503, -1000)
    assert names == ["f1"] * orders + ["f2"]


async def test_vc61_too_many_requests_on_request(rig):
    await rig.post("/sim/faults", [{"fault": "http_429", "after": 1, "count": 2, "ms": 2_500}])
    assert await rig.client.futures_time()

    for _ in range(2):
        with pytest.raises(BinanceAPIException) as refused:
            await rig.client.futures_time()
        assert refused.value.response.headers["Retry-After"] == "3"
    assert await rig.client.futures_time()


async def test_vc62_a_page_of_html_has_code_zero(rig):
    await rig.post("/sim/faults", [{"fault": "http_502_html", "path": "GET /fapi/v1/time"}])

    assert await rig.refusal(rig.client.futures_time()) == (502, 0)


async def test_vc63_a_late_reply_is_late_by_the_exchanges_clock(lively):
    lively.exchange.start()
    await lively.post("/sim/faults", [{"fault": "late_reply", "path": "/fapi/v1/time", "ms": 60_000}])

    began = time.monotonic()
    await lively.client.futures_time()

    assert 0.9 <= time.monotonic() - began <= 3


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("drop_event", ["NEW", "FILLED"]),
        ("duplicate_event", ["NEW", "NEW", "NEW", "FILLED"]),
        ("reorder_events", ["NEW", "NEW", "FILLED"]),
    ],
)
async def test_vc64_events_get_lost_doubled_and_out_of_order(rig, fault, expected):
    user = await rig.user()
    await rig.post("/sim/faults", [{"fault": fault, "path": "ORDER_TRADE_UPDATE"}])

    await order(rig, "BUY", type="LIMIT", timeInForce="GTC", price="99000", newClientOrderId="a")
    await order(rig, "BUY", newClientOrderId="b")
    found = [e["o"] for e in await events(user, "ORDER_TRADE_UPDATE", count=len(expected))]

    assert [o["X"] for o in found] == expected
    if fault == "reorder_events":
        assert [o["c"] for o in found] == ["b", "a", "b"]


async def test_vc65_closed_sockets_are_told_and_opened_again(rig):
    user = await rig.user()
    await order(rig, "BUY")
    await events(user, "ORDER_TRADE_UPDATE", count=2)

    await rig.post("/sim/faults", [{"fault": "close_sockets", "path": "/private"}])
    (error,) = await events(user, "error", within=10)
    await asyncio.sleep(2.2)  # the library waits a second or two
    await order(rig, "SELL")
    found = await events(user, "ORDER_TRADE_UPDATE", within=10)

    assert error["type"].startswith("ConnectionClosed")
    assert found[0]["o"]["S"] == "SELL"


async def test_vc66_an_expired_listen_key_says_so_and_nothing_more(rig):
    user = await rig.user()

    await rig.post("/sim/faults", [{"fault": "listen_key_expired"}])
    (event,) = await events(user, "listenKeyExpired")
    await order(rig, "BUY")
    await asyncio.sleep(0.2)

    assert event["listenKey"]
    assert user._queue.empty()


async def test_vc67_a_silent_stream_stays_open(lively):
    book = await lively.socket(lively.manager.futures_multiplex_socket(["btcusdt@bookTicker"], category="public"))
    lively.exchange.start()
    await events(book, "bookTicker")

    await lively.post("/sim/faults", [{"fault": "silent_stream", "path": "/public"}])
    await asyncio.sleep(0.3)
    while not book._queue.empty():
        book._queue.get_nowait()
    await asyncio.sleep(1.5)
    silent = book._queue.empty()
    await lively.post("/sim/faults", [])
    await events(book, "bookTicker")

    assert silent
    assert len(lively.exchange.hub.sockets) == 1


@pytest.mark.parametrize(
    ("data", "word"),
    [
        ([{"fault": "nonsense"}], "unknown fault 'nonsense'"),
        ([{"fault": "http_429", "when": 1}], "unknown field 'when'"),
        ([{"fault": "http_429", "count": -1}], "whole number"),
        (["x"], "unknown fault 'x'"),
    ],
)
async def test_vc68_a_fault_that_does_not_exist_is_refused(rig, data, word):
    status, answer = await rig.post("/sim/faults", data)

    assert status == 400
    assert word in answer["msg"]


async def test_vc69_the_state_is_told_to_operators(rig):
    await order(rig, "BUY", newClientOrderId="z")
    url = f"http://127.0.0.1:{rig.port}/sim/state"
    async with aiohttp.ClientSession() as session:
        async with session.get(url) as reply:
            state = await reply.json()
        async with session.get(url, params={"only": "live"}) as reply:
            live = await reply.json()

    assert state["clock_ms"] == START + HOUR
    assert state["orders"][0]["status"] == "FILLED"
    assert state["fills"][0]["clientOrderId"] == "z"
    assert state["positions"][0]["positionAmt"] == "0.010"
    assert D(state["wallet"]) == D(1000) - D(state["fills"][0]["commission"])
    assert state["naked_ms"] == {"BTCUSDT": {"total": 0, "longest": 0}}
    assert live == state | {"orders": [], "fills": []}
