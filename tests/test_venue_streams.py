"""Venue cases of streams and the WebSocket API: VC-59 and VC-99 to VC-108."""

import asyncio
from typing import Any

import aiohttp
import pytest

from bot.sim.quirks import Quirks
from bot.sim.server import Exchange
from tests import venue_rig
from tests.sim_tools import KEY, START, flat
from tests.venue_rig import HOUR, events, limit, order, rig_of, stop

pytestmark = pytest.mark.wire
rig, lively = venue_rig.rig, venue_rig.lively


async def test_vc59_the_listen_key_in_the_path_and_the_silent_old_roots(rig):
    key = await rig.client.futures_stream_get_listen_key()
    base = f"ws://127.0.0.1:{rig.port}"
    events_wanted = "ORDER_TRADE_UPDATE/ACCOUNT_UPDATE"
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{base}/private/ws/{key}") as whole,
        session.ws_connect(f"{base}/private/ws?listenKey={key}&events={events_wanted}") as chosen,
        session.ws_connect(f"{base}/ws/{key}") as old,
    ):
        await old.send_json({"method": "SUBSCRIBE", "params": [key], "id": 7})
        await order(rig, "BUY")
        everything = [(await whole.receive_json())["e"] for _ in range(4)]
        some = [(await chosen.receive_json())["e"] for _ in range(3)]
        answer = await old.receive_json()
        with pytest.raises(TimeoutError):
            await old.receive(timeout=0.2)

    assert sorted(everything) == ["ACCOUNT_UPDATE", "ORDER_TRADE_UPDATE", "ORDER_TRADE_UPDATE", "TRADE_LITE"]
    assert sorted(some) == ["ACCOUNT_UPDATE", "ORDER_TRADE_UPDATE", "ORDER_TRADE_UPDATE"]
    assert answer == {"result": None, "id": 7}


async def test_vc99_events_come_late_and_before_the_reply(lively):
    lively.exchange.start()
    user = await lively.user()
    await lively.fault("late_reply", path="POST /fapi/v1/order", ms=30_000)

    sent = asyncio.create_task(order(lively, "BUY", newClientOrderId="e1"))
    early = await events(user, "ORDER_TRADE_UPDATE", count=2)
    before = not sent.done()
    await sent
    await lively.fault("delay_event", path="ORDER_TRADE_UPDATE", ms=60_000)
    await order(lively, "SELL", newClientOrderId="e2")
    late = await events(user, "ORDER_TRADE_UPDATE", count=2)

    assert before
    assert [e["o"]["X"] for e in early] == ["NEW", "FILLED"]
    assert [(e["o"]["c"], e["o"]["X"]) for e in late] == [("e2", "FILLED"), ("e2", "NEW")]


async def test_vc100_a_half_open_socket_answers_nothing_and_stays(lively):
    lively.exchange.start()
    url = f"ws://127.0.0.1:{lively.port}/public/ws/btcusdt@bookTicker"
    async with aiohttp.ClientSession() as session, session.ws_connect(url, autoping=False) as socket:
        await socket.ping(b"1")
        kinds = {(await socket.receive(timeout=5)).type for _ in range(5)}
        await lively.fault("half_open", path="/public")
        await asyncio.sleep(0.1)
        while True:  # what was on the way
            try:
                await socket.receive(timeout=0.05)
            except TimeoutError:
                break
        await socket.ping(b"2")
        with pytest.raises(TimeoutError):
            await socket.receive(timeout=1.0)
        closed = socket.closed

    assert kinds == {aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.PONG}
    assert not closed


async def test_vc101_a_storm_closes_sockets_again_and_again(lively):
    lively.exchange.start()
    await lively.fault("disconnect_storm", path="/public", after=3, times=3, ms=30_000)
    closed = 0
    async with aiohttp.ClientSession() as session, asyncio.timeout(15):
        while closed < 3:
            async with session.ws_connect(f"ws://127.0.0.1:{lively.port}/public/ws/btcusdt@bookTicker") as socket:
                while (await socket.receive()).type != aiohttp.WSMsgType.CLOSE:
                    pass
                assert socket.close_code == 1001
                closed += 1

    assert closed == 3


async def test_vc102_a_socket_lives_twenty_four_hours_of_the_exchange():
    async with rig_of(speed=60.0, quirks=Quirks(socket_life_ms=60_000)) as rig:
        rig.exchange.start()
        url = f"ws://127.0.0.1:{rig.port}/market/ws/btcusdt@kline_1m"
        async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
            async for _ in socket:
                pass

    assert socket.close_code == 1001
    assert Exchange(flat(), stepped=False, speed=1.0).venue.quirks.socket_life_ms == 86_400_000


async def test_vc103_too_many_messages_or_streams(rig):
    url = f"ws://127.0.0.1:{rig.port}/market/ws"
    many = [f"s{number}@aggTrade" for number in range(1_025)]
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(url) as socket:
            await socket.send_json({"method": "SUBSCRIBE", "params": many, "id": 1})
            refused = await socket.receive_json()
            for number in range(40):
                await socket.send_json({"method": "LIST_SUBSCRIPTIONS", "id": number})
            while (message := await socket.receive()).type == aiohttp.WSMsgType.TEXT:
                pass
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await session.ws_connect(f"{url}/{'/'.join(many)}", max_msg_size=0)

    assert refused["error"]["code"] == 2
    assert (message.type, socket.close_code) == (aiohttp.WSMsgType.CLOSE, 1008)


async def test_vc104_streams_of_all_symbols_and_tickers(lively):
    names = ["!markPrice@arr@1s", "!miniTicker@arr", "btcusdt@ticker", "BTCUSDT@aggTrade"]
    socket = await lively.socket(lively.manager.futures_multiplex_socket(names))
    books = await lively.socket(lively.manager.futures_multiplex_socket(["!bookTicker"], category="public"))
    lively.exchange.start()

    seen: dict[str, Any] = {}
    async with asyncio.timeout(10):
        while len(seen) < 3:
            message = await socket.recv()
            seen[message["stream"]] = message["data"]
    symbols = {event["s"] for event in await events(books, "bookTicker", count=12)}

    assert seen["!markPrice@arr@1s"][0]["e"] == "markPriceUpdate"
    assert seen["!miniTicker@arr"][0]["e"] == "24hrMiniTicker"
    assert {"p", "P", "c", "o", "h", "l", "n"} <= seen["btcusdt@ticker"].keys()
    assert symbols == {"BTCUSDT", "ETHUSDT", "SOLUSDT"}


async def test_vc105_orders_by_the_websocket_api(rig):
    client = rig.client
    limit_order = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.010",
                   "price": "99000", "newClientOrderId": "w1"}  # fmt: skip

    placed = await client.ws_futures_create_order(**limit_order)
    changed = await client.ws_futures_edit_order(
        symbol="BTCUSDT", side="BUY", quantity="0.020", price="99100", origClientOrderId="w1")  # fmt: skip
    status = await client.ws_futures_get_order(symbol="BTCUSDT", origClientOrderId="w1")
    gone = await client.ws_futures_cancel_order(symbol="BTCUSDT", origClientOrderId="w1")
    again = await rig.refusal(client.ws_futures_cancel_order(symbol="BTCUSDT", origClientOrderId="w1"))

    assert (placed["status"], changed["origQty"], status["price"]) == ("NEW", "0.020", "99100.00")
    assert gone["status"] == "CANCELED"
    assert again[1] == -2011


async def test_vc106_account_and_stops_by_the_websocket_api(rig):
    client = rig.client
    await order(rig, "BUY")
    placed = await client.ws_futures_create_algo_order(
        algoType="CONDITIONAL", symbol="BTCUSDT", side="SELL", type="STOP_MARKET", triggerPrice="98000",
        quantity="0.010", reduceOnly="true", clientAlgoId="w1",
    )  # fmt: skip
    cancelled = await client.ws_futures_cancel_algo_order(clientAlgoId="w1")

    assert (placed["algoStatus"], cancelled["code"]) == ("NEW", "200")
    assert (await client.ws_futures_v2_account_position())[0]["positionAmt"] == "0.010"
    assert (await client.ws_futures_v2_account_balance())[0]["asset"] == "USDT"
    assert "totalWalletBalance" in await client.ws_futures_v2_account_status()
    assert (await client.ws_futures_get_order_book_ticker(symbol="BTCUSDT"))["symbol"] == "BTCUSDT"


async def test_vc107_the_websocket_api_has_types_and_rules_of_its_own(rig):
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"ws://127.0.0.1:{rig.port}/ws-fapi/v1") as socket,
    ):

        async def ask(method: str, **params: Any) -> Any:
            await socket.send_json({"id": method, "method": method, "params": params})
            return await socket.receive_json()

        clock = await ask("time")
        logon = await ask("session.logon", apiKey=KEY)
        number = await ask("order.place", symbol="BTCUSDT", quantity=0.01, apiKey=KEY)
        unknown = await ask("order.fly")
        unsigned = await ask("v2/account.balance", apiKey=KEY, timestamp=START + HOUR, signature="00")
        started = await ask("userDataStream.start", apiKey=KEY)

    assert (clock["status"], clock["result"]) == (200, {"serverTime": START + HOUR})
    assert {row["rateLimitType"] for row in clock["rateLimits"]} == {"REQUEST_WEIGHT", "ORDERS"}
    assert (logon["status"], logon["error"]["code"]) == (400, -4056)
    assert (number["error"]["code"], "quantity" in number["error"]["msg"]) == (-1102, True)
    assert unknown["error"]["code"] == -1020
    assert unsigned["error"]["code"] == -1022
    assert started["result"]["listenKey"] == await rig.client.futures_stream_get_listen_key()


async def test_vc108_what_is_not_documented_can_be_switched():
    quirks = Quirks(immediate_trigger=-4142, close_stop_while_flat=True, one_reduce_only_stop=True,
                    post_only_expires=True, trade_lite=False, max_leverage=20)  # fmt: skip
    async with rig_of(quirks=quirks) as rig:
        early = await stop(rig, "SELL", "98000", closePosition="true", clientAlgoId="early")
        user = await rig.user()
        await order(rig, "BUY")
        first = await stop(rig, "SELL", "97000")
        kinds = [event["e"] for event in await events(user, count=4)]

        assert (early["algoStatus"], first["algoStatus"]) == ("NEW", "NEW")
        assert "TRADE_LITE" not in kinds
        assert await rig.refusal(stop(rig, "SELL", "96000")) == (400, -4130)
        assert await rig.refusal(stop(rig, "SELL", "101000", quantity="0.001")) == (400, -4142)
        assert (await limit(rig, "BUY", "100100", timeInForce="GTX"))["status"] == "EXPIRED"
        assert await rig.refusal(rig.client.futures_change_leverage(symbol="BTCUSDT", leverage=21)) == (400, -4202)
        await order(rig, "SELL", reduceOnly="true")
        assert (await rig.client.futures_get_algo_order(clientAlgoId="early"))["algoStatus"] == "EXPIRED"
