"""Whatever a client sends and whatever breaks inside, the exchange answers with a code and its clock goes on."""

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from bot.sim.server import Exchange
from tests import venue_rig
from tests.sim_tools import KEY, SECRET, START, market
from tests.venue_rig import HOUR, Rig, build, events, order

pytestmark = pytest.mark.wire
rig = venue_rig.rig
WORD = "An unknown error occurred while processing the request."


@pytest.fixture
async def running() -> AsyncIterator[Rig]:
    """A rig whose clock runs."""
    found = await build(Exchange(market("BTCUSDT"), stepped=False, speed=20.0, from_ms=START + HOUR))
    found.exchange.start()
    try:
        yield found
    finally:
        await found.close()


async def raw(port: int, head: bytes, body: bytes = b"") -> tuple[int, Any]:
    """Send a request byte by byte as given; return status and JSON."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        length = b"Content-Length: %d\r\n" % len(body) if body else b""
        writer.write(head + b"\r\nHost: 127.0.0.1\r\nConnection: close\r\n" + length + b"\r\n" + body)
        answer = await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.close()
    top, _, rest = answer.partition(b"\r\n\r\n")
    return int(top.split()[1]), json.loads(rest) if b"application/json" in top else rest


async def moves(running: Rig) -> bool:
    """Whether the clock has moved after a moment, and requests are answered."""
    before = (await running.client.futures_time())["serverTime"]
    await asyncio.sleep(0.05)
    return (await running.client.futures_time())["serverTime"] > before


GET, POST = b"GET /fapi/v3/balance", b"POST /fapi/v1/order"
GOOD_KEY = b"\r\nX-MBX-APIKEY: sim-key"
MALFORMED = [
    (GET + b"?timestamp=1&signature=00 HTTP/1.1\r\nX-MBX-APIKEY: \xff\xfe", -2014),
    (GET + b"?timestamp=1&signature=00 HTTP/1.1\r\nX-MBX-APIKEY: sim key", -2014),
    (GET + b"?timestamp=1&signature=00 HTTP/1.1\r\nX-MBX-APIKEY: " + b"k" * 300, -2014),
    (GET + b"?timestamp=1&signature=00 HTTP/1.1", -2014),
    (GET + b"?timestamp=1&signature=00 HTTP/1.1\r\nX-MBX-APIKEY: other", -2015),
    (GET + b"?timestamp=%C2%B2&signature=00 HTTP/1.1" + GOOD_KEY, -1130),
    (GET + b"?timestamp=%D9%A3&signature=00 HTTP/1.1" + GOOD_KEY, -1130),
    (GET + b"?timestamp=" + b"9" * 5000 + b"&signature=00 HTTP/1.1" + GOOD_KEY, -1130),
    (GET + b"?timestamp=-1&signature=00 HTTP/1.1" + GOOD_KEY, -1130),
    (GET + b"?timestamp=NOW&signature=%C3%A9 HTTP/1.1" + GOOD_KEY, -1022),
    (GET + b"?timestamp=NOW&signature= HTTP/1.1" + GOOD_KEY, -1102),
    (GET + b"?timestamp=NOW&recvWindow=%C2%B2&signature=00 HTTP/1.1" + GOOD_KEY, -1130),
    (GET + b"?timestamp=NOW&recvWindow=1e3&signature=00 HTTP/1.1" + GOOD_KEY, -1130),
    (b"GET /fapi/v1/klines?symbol=%FF%FE&interval=1m HTTP/1.1", -1121),
    (b"GET /fapi/v1/klines?symbol=BTCUSDT&interval=%C2%B2m HTTP/1.1", -1120),
    (b"GET /fapi/v1/klines?symbol=BTCUSDT&interval=1m&limit=%C2%B2 HTTP/1.1", -1100),
    (b"GET /fapi/v1/klines?symbol=BTCUSDT&interval=1m&startTime=" + b"9" * 400 + b" HTTP/1.1", -1100),
    (b"GET /fapi/v1/depth?symbol=BTCUSDT&limit=" + b"9" * 5000 + b" HTTP/1.1", None),
    (b"GET /fapi/%FF%FF HTTP/1.1", -5000),
]


@pytest.mark.parametrize(("head", "code"), MALFORMED)
async def test_a_malformed_request_is_an_error_code_and_the_clock_goes_on(running, head, code):
    now = str(time.time_ns() // 1_000_000).encode()

    status, answer = await raw(running.port, head.replace(b"NOW", now))

    assert status == (200 if code is None else 404 if code == -5000 else 401 if code in (-2014, -2015) else 400)
    assert code is None or answer["code"] == code
    assert await moves(running)
    assert running.exchange.clock.failures == 0


ODD = ["", " ", "²", "٣", "é", "\u0000", "1e400", "NaN", "-0", "-1", "9" * 18, "9" * 400, "0." + "1" * 30, "{}", "[]", "[[]]",
       "true", '[{"symbol":[]}]', "BTCUSDT", "a" * 500, "%", "&", "1.0.0", "0x10", "١٢٣", "\U0001f600"]  # fmt: skip
NAMES = ["symbol", "side", "type", "timeInForce", "quantity", "price", "triggerPrice", "leverage", "marginType",
         "orderId", "algoId", "origClientOrderId", "newClientOrderId", "clientAlgoId", "limit",
         "startTime", "endTime", "fromId", "interval", "amount",
         "batchOrders", "orderIdList", "origClientOrderIdList", "countdownTime", "dualSidePosition", "multiAssetsMargin",
         "callbackRate", "activatePrice", "goodTillDate", "closePosition", "reduceOnly", "incomeType", "pair", "algoType",
         "priceMatch", "selfTradePreventionMode", "newOrderRespType", "workingType", "page", "autoCloseType"]  # fmt: skip
SOUND = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.010", "price": "99000",
         "triggerPrice": "90000", "leverage": "20", "marginType": "ISOLATED", "interval": "1m", "amount": "1",
         "algoType": "CONDITIONAL", "countdownTime": "0", "dualSidePosition": "false"}  # fmt: skip


async def test_no_odd_value_of_any_parameter_breaks_a_handler(running):
    """A seeded pass over every route: sound parameters with some replaced by odd ones; never -1000, never a failure."""
    rng, desk = random.Random(14), running.exchange.desk
    desk._guard.check_key = desk._guard.check_signature = lambda *call, **now: None
    routes = [*desk._public, *desk.writes, *desk._reads, *desk._keyed]
    async with aiohttp.ClientSession() as session:
        for route in routes:
            for _ in range(12):
                method, path = route.split()
                kept = {k: v for k, v in SOUND.items() if rng.random() < 0.8}
                params = kept | {name: rng.choice(ODD) for name in rng.sample(NAMES, rng.randint(1, 4))}
                running.exchange.limits.__init__()
                send = {"params": params} if method == "GET" else {"data": params}
                async with session.request(method, f"http://127.0.0.1:{running.port}{path}", **send) as reply:
                    answer = await reply.json()
                assert not (isinstance(answer, dict) and answer.get("code") == -1000), (route, params)

    assert running.exchange.clock.failures == 0
    assert await moves(running)


async def test_a_handler_that_fails_answers_1000_and_logs_its_traceback(running, caplog):
    def broken(params: Any) -> Any:
        raise ZeroDivisionError("a planted bug")

    running.exchange.desk._public["GET /fapi/v1/depth"] = broken

    refused = await running.refusal(running.client.futures_order_book(symbol="BTCUSDT"))

    assert refused == (500, -1000)
    assert "GET /fapi/v1/depth" in caplog.text
    assert "ZeroDivisionError: a planted bug" in caplog.text
    assert running.exchange.state()["failures"] == 1
    assert await moves(running)


async def test_a_reply_whose_outcome_cannot_be_made_is_1000_and_not_silence(running, monkeypatch):
    def broken(venue: Any, order: Any) -> Any:
        if order.status == "FILLED":
            raise KeyError("a planted bug")
        return whole(venue, order)

    running.exchange.venue.books["BTCUSDT"].ask_lots = 1  # the rest of the order waits for the next book
    from bot.sim import payloads

    whole = payloads.order_reply
    monkeypatch.setattr(payloads, "order_reply", broken)

    assert await running.refusal(order(running, "BUY")) == (500, -1000)
    assert await moves(running)


@pytest.mark.parametrize("where", ["tick", "minute", "timer", "push", "follow"])
async def test_the_clock_goes_on_whatever_fails_on_it(running, monkeypatch, where):
    x, struck = running.exchange, asyncio.Event()

    def broken(*args: Any, **more: Any) -> Any:
        struck.set()
        raise RuntimeError("a planted bug")

    match where:
        case "tick":
            monkeypatch.setattr(x.market, "apply", broken)
        case "minute":
            monkeypatch.setattr(x.market, "_pass_minute", broken)
        case "timer":
            x.clock.call_later(0, broken)
        case "push":
            await running.socket(running.manager.futures_multiplex_socket(["btcusdt@markPrice@1s"]))
            monkeypatch.setattr(x.hub, "deliver", broken)
        case "follow":
            monkeypatch.setattr(x.market, "follow_up", broken)
            await running.client.futures_change_leverage(symbol="BTCUSDT", leverage=10)
    async with asyncio.timeout(10):
        await struck.wait()
    monkeypatch.undo()

    socket = await running.socket(running.manager.futures_multiplex_socket(["btcusdt@aggTrade"]))
    assert await events(socket, "aggTrade", within=10)
    assert await moves(running)


async def test_a_stepped_exchange_survives_a_malformed_request_of_its_client():
    from bot.core.activity import Activity
    from tests.sim_tools import Bot, flat

    activity = Activity()
    exchange = Exchange(flat(minutes=65), from_ms=START + HOUR, activity=activity)
    bot = Bot(await exchange.listen(), activity, key=KEY, secret=SECRET)
    try:
        exchange.start()
        odd = await bot.call("GET", "/fapi/v3/balance", signed=False, timestamp="²", signature="é")
        sound = await bot.call("GET", "/fapi/v3/balance")
        await exchange.finished()
    finally:
        await bot.close()
        await exchange.close()

    assert (odd[0], odd[1]["code"], sound[0]) == (400, -1130, 200)
    assert exchange.clock.failures == 0


ODD_MESSAGES = ["", "[]", "null", "1", '"x"', "{", '{"id": 1}', '{"method": []}', '{"method": {}, "params": 1}',
                '{"id": 1, "method": "order.place", "params": []}',
                '{"id": {}, "method": "order.place", "params": {"symbol": null}}',
                '{"id": 1, "method": "order.place", "params": {"apiKey": "²", "timestamp": 1, "signature": "é"}}',
                '{"method": "SUBSCRIBE", "params": {"a": 1}, "id": []}',
                '{"method": "SUBSCRIBE", "params": [[], "btcusdt@depth@é"]}',
                "[" * 2_000]  # fmt: skip


async def test_odd_messages_on_sockets_are_answered_and_break_nothing(running):
    async with aiohttp.ClientSession() as session:
        for path, kinds in (("/ws-fapi/v1", ("id",)), ("/market/stream", ("result", "error"))):
            async with session.ws_connect(f"http://127.0.0.1:{running.port}{path}") as ws:
                for text in ODD_MESSAGES:
                    if path == "/market/stream":
                        await asyncio.sleep(0.11)  # ten messages a second are enough for it
                    await ws.send_str(text)
                    async with asyncio.timeout(5):
                        answer = await ws.receive_json()
                    assert any(kind in answer for kind in kinds), (path, text, answer)
                    assert answer.get("error", {}).get("code") != -1000

    assert running.exchange.clock.failures == 0
    assert await moves(running)


UPGRADE = b"\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13"


@pytest.mark.parametrize(
    "head",
    [
        GET + b"?timestamp=1&signature=\xff HTTP/1.1" + GOOD_KEY,
        b"GET /fapi/\xff HTTP/1.1",
        b"GET /market/stream?streams=btcusdt@depth@\xff HTTP/1.1" + UPGRADE,
        b"\xff\xff HTTP/1.1",
    ],
)
async def test_bytes_that_are_no_text_in_the_first_line_are_refused_by_http_itself(running, head):
    status, _ = await raw(running.port, head)

    assert status == 400
    assert await moves(running)


async def test_a_stream_whose_name_is_no_name_stays_silent(running):
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(
            f"http://127.0.0.1:{running.port}/market/stream?streams=btcusdt@aggTrade%22/btcusdt@depth@%C3%A9"
        ) as ws,
    ):
        with pytest.raises(TimeoutError):
            await ws.receive(timeout=0.5)

    assert await moves(running)
