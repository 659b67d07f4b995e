"""Venue cases of market data, keys, limits and the account's settings: VC-05 to VC-09, VC-16 to VC-19, VC-44 to VC-49."""

import time
from decimal import Decimal as D
from itertools import pairwise

import aiohttp
import pytest
from binance.exceptions import BinanceAPIException

from tests import venue_rig
from tests.sim_tools import KEY, SECRET, START, close_client, endpoints
from tests.venue_rig import HOUR, events, limit, order

pytestmark = pytest.mark.wire
rig, lively = venue_rig.rig, venue_rig.lively


# -- VC-05 to VC-09: what anybody may ask ------------------------------------------------------------------------------


async def test_vc05_the_library_starts_by_asking_the_spot_clock(rig):
    client_class, _ = endpoints(rig.port)

    client = await client_class.create(KEY, SECRET)
    replay_ms = client.timestamp_offset + time.time_ns() // 1_000_000
    await close_client(client)

    assert abs(replay_ms - (START + HOUR)) < 3_000
    assert (await rig.client.get_server_time())["serverTime"] == START + HOUR


async def test_vc06_funding_history_has_a_limit_of_its_own(rig):
    assert await rig.client.futures_funding_rate(symbol="BTCUSDT") == []
    rig.exchange.limits._funding.used = 500

    assert await rig.refusal(rig.client.futures_funding_rate(symbol="BTCUSDT")) == (429, -1003)
    assert await rig.client.futures_mark_price(symbol="BTCUSDT")


async def test_vc07_trades_by_rest_are_those_of_the_stream(lively):
    socket = await lively.socket(lively.manager.futures_multiplex_socket(["btcusdt@aggTrade"]))
    lively.exchange.start()

    told = await events(socket, "aggTrade", count=3)
    rows = {row["a"]: row for row in await lively.client.futures_aggregate_trades(symbol="BTCUSDT")}
    trades = await lively.client.futures_recent_trades(symbol="BTCUSDT", limit=2)

    assert [rows[event["a"]]["p"] for event in told] == [event["p"] for event in told]
    assert [b["a"] - a["a"] for a, b in pairwise(told)] == [1, 1]
    assert {"id", "price", "qty", "isBuyerMaker"} <= set(trades[-1])


async def test_vc08_klines_of_mark_index_premium_and_contract(rig):
    span = {"interval": "1m", "limit": 3}
    last = await rig.client.futures_klines(symbol="BTCUSDT", **span)
    mark = await rig.client.futures_mark_price_klines(symbol="BTCUSDT", **span)
    premium = await rig.client.futures_premium_index_klines(symbol="BTCUSDT", **span)
    contract = await rig.client.futures_continuous_klines(pair="BTCUSDT", contractType="PERPETUAL", **span)

    assert contract == last
    assert [row[:5] for row in mark] == [row[:5] for row in last]
    assert {row[4] for row in premium} == {"0.00000000"}


async def test_vc09_tickers_and_paged_history(lively):
    prices = {row["symbol"]: row["price"] for row in await lively.client.futures_symbol_ticker()}
    days = await lively.client.futures_ticker()
    books = await lively.client.futures_orderbook_ticker()
    rows = await lively.client.futures_historical_klines("BTCUSDT", "1m", START, START + 30 * 60_000)
    interest = await lively.client.futures_open_interest(symbol="BTCUSDT")

    assert set(prices) == {"BTCUSDT", "ETHUSDT", "SOLUSDT"}
    assert {row["symbol"] for row in days} == {row["symbol"] for row in books} == set(prices)
    assert [row[0] for row in rows] == [START + i * 60_000 for i in range(len(rows))]
    assert D(interest["openInterest"]) == 0


# -- VC-16 to VC-19: who may ask, and how often --------------------------------------------------------------------------


async def test_vc16_a_colon_in_a_client_id_spoils_the_signature(rig):
    # The library signs the raw text, the form encodes it: the exchange sees another text than was signed.
    assert await rig.refusal(limit(rig, "BUY", "99000", newClientOrderId="a:b")) == (400, -1022)
    assert (await limit(rig, "BUY", "99000", newClientOrderId="a.b_c-d"))["clientOrderId"] == "a.b_c-d"


async def test_vc17_three_hundred_orders_in_ten_seconds_are_enough(rig):
    rig.exchange.limits.ten.roll(rig.exchange.clock.now_ms())
    rig.exchange.limits.ten.used = 298

    await limit(rig, "BUY", "99000")
    headers = rig.client.response.headers
    batch = [{"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.010",
              "price": "99000"}] * 2  # fmt: skip

    assert headers["X-MBX-ORDER-COUNT-10S"] == "299"
    assert await rig.refusal(rig.client.futures_place_batch_order(batchOrders=batch)) == (429, -1015)
    assert (await limit(rig, "BUY", "99000"))["status"] == "NEW"
    assert await rig.refusal(limit(rig, "BUY", "99000")) == (429, -1015)


async def test_vc18_who_goes_on_asking_is_banned(rig):
    limits = rig.exchange.limits
    limits.charge(2_400, rig.exchange.clock.now_ms())
    limits._refused.roll(rig.exchange.clock.now_ms())
    limits._refused.used = 100

    first = await rig.refusal(rig.client.futures_time())
    with pytest.raises(BinanceAPIException) as banned:
        await order(rig, "BUY")

    assert first == (429, -1003)
    assert (banned.value.status_code, banned.value.code) == (418, -1003)
    assert f"banned until {START + HOUR + 120_000}" in banned.value.message
    assert banned.value.response.headers["Retry-After"] == "120"


async def test_vc19_a_refusal_names_the_parameter(rig):
    async with aiohttp.ClientSession(headers={"X-MBX-APIKEY": KEY}) as session:

        async def ask(query: str) -> dict:
            async with session.get(f"http://127.0.0.1:{rig.port}/fapi/v2/account?{query}") as reply:
                return await reply.json()

        missing = await ask("recvWindow=5000")
        malformed = await ask("timestamp=now&signature=00")
        window = await ask("timestamp=1&signature=00&recvWindow=70000")

    assert (missing["code"], "timestamp" in missing["msg"]) == (-1102, True)
    assert (malformed["code"], "timestamp" in malformed["msg"]) == (-1130, True)
    assert (window["code"], "recvWindow" in window["msg"]) == (-1130, True)
    assert len((await rig.client.futures_exchange_info())["symbols"]) == 1


# -- VC-44 to VC-49: the account's settings ------------------------------------------------------------------------------


async def test_vc44_the_position_mode_changes_only_when_nothing_is_open(rig):
    async def hedge(on: str):
        return await rig.client.futures_change_position_mode(dualSidePosition=on)

    await limit(rig, "BUY", "99000", newClientOrderId="m")
    with_order = await rig.refusal(hedge("true"))
    await rig.client.futures_cancel_order(symbol="BTCUSDT", origClientOrderId="m")
    await order(rig, "BUY")
    with_position = await rig.refusal(hedge("true"))
    await order(rig, "SELL", reduceOnly="true")
    await hedge("true")

    assert (with_order, with_position) == ((400, -4067), (400, -4068))
    assert (await rig.client.futures_get_position_mode())["dualSidePosition"] is True
    assert (await rig.client.futures_account_config())["dualSidePosition"] is True
    assert await rig.refusal(order(rig, "BUY")) == (400, -4061)
    await hedge("false")
    assert (await order(rig, "BUY"))["status"] == "FILLED"


async def test_vc45_multi_assets_and_isolated_margin_exclude_each_other(rig):
    isolated = {"symbol": "BTCUSDT", "marginType": "ISOLATED"}
    user = await rig.user()
    await rig.client.futures_change_multi_assets_mode(multiAssetsMargin=True)
    (event,) = await events(user, "ACCOUNT_CONFIG_UPDATE")
    refused = await rig.refusal(rig.client.futures_change_margin_type(**isolated))
    await rig.client.futures_change_multi_assets_mode(multiAssetsMargin=False)
    await rig.client.futures_change_margin_type(**isolated)

    assert event["ai"] == {"j": True}
    assert refused == (400, -4168)
    assert await rig.refusal(rig.client.futures_change_multi_assets_mode(multiAssetsMargin=True)) == (400, -4167)


async def test_vc46_the_margin_type_changes_only_when_nothing_is_open(rig):
    async def change():
        return await rig.client.futures_change_margin_type(symbol="BTCUSDT", marginType="ISOLATED")

    await limit(rig, "BUY", "99000", newClientOrderId="m")
    with_order = await rig.refusal(change())
    await rig.client.futures_cancel_order(symbol="BTCUSDT", origClientOrderId="m")
    await order(rig, "BUY")

    assert (with_order, await rig.refusal(change())) == ((400, -4047), (400, -4048))


async def test_vc47_leverage_has_bounds(rig):
    async def leverage(times: int):
        return await rig.client.futures_change_leverage(symbol="BTCUSDT", leverage=times)

    await rig.client.futures_change_margin_type(symbol="BTCUSDT", marginType="ISOLATED")
    await order(rig, "BUY")

    assert await rig.refusal(leverage(10)) == (400, -4161)
    assert await rig.refusal(leverage(151)) == (400, -4028)
    assert (await leverage(20))["leverage"] == 20
    assert await rig.refusal(limit(rig, "BUY", "99000", quantity="0.300")) == (400, -2019)


async def test_vc48_isolated_margin_moves_within_bounds(rig):
    async def move(amount: str, kind: int):
        return await rig.client.futures_change_position_margin(symbol="BTCUSDT", amount=amount, type=kind)

    assert await rig.refusal(move("10", 1)) == (400, -4054)
    await rig.client.futures_change_margin_type(symbol="BTCUSDT", marginType="ISOLATED")
    await order(rig, "BUY")
    user = await rig.user()

    await move("10", 1)
    (event,) = await events(user, "ACCOUNT_UPDATE")

    assert event["a"]["m"] == "MARGIN_TRANSFER"
    assert await rig.refusal(move("100000", 1)) == (400, -2019)
    assert await rig.refusal(move("50", 2)) == (400, -4051)
    assert await rig.refusal(move("-1", 1)) == (400, -4055)
    assert [row["amount"] for row in await rig.client.futures_position_margin_history(symbol="BTCUSDT")] == ["10"]


async def test_vc49_versions_two_and_three_tell_the_same_money(rig):
    await order(rig, "BUY")
    two, three = [await rig.client.futures_account(version=v) for v in (2, 3)]
    risk_two = await rig.client.futures_position_information(symbol="BTCUSDT", version=2)
    risk_three = await rig.client.futures_position_information(symbol="BTCUSDT")
    permissions = await rig.client.get_account_api_permissions()

    assert {k: two[k] for k in three if k.startswith("total")} == {
        k: v for k, v in three.items() if k.startswith("total")
    }
    assert (two["canTrade"], "canTrade" in three) == (True, False)
    assert (risk_two[0]["leverage"], "leverage" in risk_three[0]) == ("20", False)
    assert risk_two[0]["positionAmt"] == risk_three[0]["positionAmt"] == "0.010"
    assert (permissions["enableWithdrawals"], permissions["ipRestrict"]) == (False, True)
