"""The door to the exchange: what does not fit is a failed read or a refused frame, and nothing else ever comes of it."""

import asyncio
import gzip
import json
import os
from contextlib import asynccontextmanager
from decimal import Decimal as D
from pathlib import Path

import orjson
import pytest
from aiohttp import web

from bot.core.activity import Activity
from bot.core.addresses import require_encrypted
from bot.core.errors import BotError, ConfigError, WireError
from bot.core.events import FeedLost, FeedRestored, KlineClosed, OrderUpdate, Quotes
from bot.core.intents import CancelOrder, PlaceOrder
from bot.core.types import OrderSide, OrderType, TimeInForce
from bot.execution import wire
from bot.execution.client import MOST_BODY, HardenedBSM, LocalClient
from bot.execution.clock import AHEAD_MS, FASTEST_REPLAY, ClockReading, ClockVerdict, WallClock, latest_ms, machine_ms
from bot.execution.limits import RequestLimits
from bot.execution.outcomes import ReadFailed, Rejected, Unknown
from bot.execution.streams import Streams, StreamSettings
from bot.execution.tasks import Tasks
from tests.loopback import START_MS, Answer, ManualClock, bench, stream_of

DATA = Path(__file__).parent / "data"
REPLIES = json.loads((DATA / "payloads_rest.json").read_text())
PUSHES = json.loads((DATA / "payloads_streams.json").read_text())
MARK = {**PUSHES["mark_price"], "s": "BTCUSDT"}
TRADE = {"e": "aggTrade", "E": START_MS, "s": "BTCUSDT", "a": 7, "p": "60000.1", "q": "0.1", "T": START_MS, "m": False}
CONFIG = {"dualSidePosition": False, "multiAssetsMargin": False, "canTrade": True}
SETTINGS = {"symbol": "BTCUSDT", "marginType": "ISOLATED", "leverage": 5}
INCOME = {
    "symbol": "BTCUSDT", "incomeType": "COMMISSION", "income": "-0.1", "asset": "USDT", "time": START_MS, "tranId": 1,
}  # fmt: skip
BOOK = {"symbol": "BTCUSDT", "bidPrice": "1.0", "bidQty": "2", "askPrice": "1.1", "askQty": "3", "time": START_MS}
BUY = PlaceOrder(
    "rbS-en-0-00k3f9x-01-a1", "BTCUSDT", OrderSide.BUY, OrderType.LIMIT, D("0.012"), D("76940.0"), TimeInForce.GTX
)
HUGE = "9" * 400
FUTURE = START_MS + AHEAD_MS + 60_000

# What each read is answered with when all is well: (path, reply), and how it is asked.
READS = {
    "exchangeInfo": ("exchangeInfo", REPLIES["exchange_info"], lambda g: g.load_session(("BTCUSDT",), venue="live")),
    "brackets": ("leverageBracket", REPLIES["leverage_bracket"], lambda g: g.load_session(("BTCUSDT",), venue="live")),
    "commission": ("commissionRate", REPLIES["commission_rate"], lambda g: g.load_session(("BTCUSDT",), venue="live")),
    "fundingInfo": ("fundingInfo", REPLIES["funding_info"], lambda g: g.load_session(("BTCUSDT",), venue="live")),
    "balance": ("balance", REPLIES["balance"], lambda g: g.wallet()),
    "accountConfig": ("accountConfig", CONFIG, lambda g: g.account_config()),
    "symbolConfig": ("symbolConfig", [SETTINGS], lambda g: g.symbol_config("BTCUSDT")),
    "feeBurn": ("feeBurn", {"feeBurn": False}, lambda g: g.fees_in_bnb()),
    "klines": ("klines", [REPLIES["kline_row"]], lambda g: g.klines("BTCUSDT", "1m", 1789478160000, START_MS)),
    "premiumIndex": ("premiumIndex", REPLIES["premium_index"], lambda g: g.funding("BTCUSDT")),
    "bookTicker": ("ticker/bookTicker", BOOK, lambda g: g.quote("BTCUSDT")),
    "positions": ("positionRisk", [REPLIES["position"]], lambda g: g.positions(("BTCUSDT",))),
    "openOrders": ("openOrders", [REPLIES["open_order"]], lambda g: g.open_orders(("BTCUSDT",))),
    "openAlgoOrders": ("openAlgoOrders", [REPLIES["algo_created"]], lambda g: g.open_orders(("BTCUSDT",))),
    "userTrades": ("userTrades", [REPLIES["user_trade"]], lambda g: g.fills("BTCUSDT", START_MS)),
    "income": ("income", [INCOME], lambda g: g.income(START_MS)),
}
LISTS_THAT_MAY_BE_EMPTY = {
    "fundingInfo",
    "balance",
    "klines",
    "positions",
    "openOrders",
    "openAlgoOrders",
    "userTrades",
    "income",
}
# One value of each read, and what it cannot be.
LIES = [
    ("exchangeInfo", ("symbols", 1, "filters", 0, "tickSize"), "0"),
    ("exchangeInfo", ("symbols", 1, "filters", 0, "tickSize"), HUGE),
    ("exchangeInfo", ("rateLimits", 0, "limit"), -1),
    ("brackets", (0, "brackets", 0, "notionalCap"), "NaN"),
    ("brackets", (0, "brackets", 0, "maintMarginRatio"), -0.1),
    ("brackets", (0, "brackets"), [REPLIES["leverage_bracket"][0]["brackets"][0]] * 100_000),
    ("commission", ("symbol",), "ETHUSDT"),
    ("commission", ("takerCommissionRate",), "Infinity"),
    ("fundingInfo", (0, "fundingIntervalHours"), 0),
    ("balance", (1, "balance"), "NaN"),
    ("balance", (1, "balance"), HUGE),
    ("balance", (1, "balance"), None),
    ("accountConfig", ("dualSidePosition",), None),
    ("symbolConfig", (0, "symbol"), "ETHUSDT"),
    ("symbolConfig", (0, "leverage"), -5),
    ("feeBurn", ("feeBurn",), "perhaps"),
    ("klines", (0, 0), 1789478160001),
    ("klines", (0, 0), FUTURE // 60_000 * 60_000 + 60_000),
    ("klines", (0, 4), "NaN"),
    ("klines", (0, 5), "-1"),
    ("klines", (0,), [1789478160000]),
    ("premiumIndex", ("symbol",), "ETHUSDT"),
    ("premiumIndex", ("markPrice",), "-1"),
    ("premiumIndex", ("nextFundingTime",), START_MS + 30 * 86_400_000),
    ("premiumIndex", ("time",), FUTURE),
    ("bookTicker", ("symbol",), "ETHUSDT"),
    ("bookTicker", ("bidQty",), "-1"),
    ("positions", (0, "positionAmt"), "NaN"),
    ("positions", (0, "positionAmt"), HUGE),
    ("positions", (0, "positionAmt"), "1e999999"),
    ("positions", (0, "positionAmt"), {}),
    ("positions", (0, "entryPrice"), "-1"),
    ("positions", (0, "updateTime"), FUTURE),
    ("positions", (0, "positionSide"), "LONG"),
    ("positions", (0,), None),
    ("openOrders", (0, "symbol"), "ETHUSDT"),
    ("openOrders", (0, "origQty"), "-1"),
    ("openOrders", (0, "status"), "PERHAPS"),
    ("openOrders", (0, "updateTime"), FUTURE),
    ("openAlgoOrders", (0, "symbol"), "ETHUSDT"),
    ("openAlgoOrders", (0, "triggerPrice"), "-1"),
    ("openAlgoOrders", (0, "updateTime"), FUTURE),
    ("userTrades", (0, "symbol"), "ETHUSDT"),
    ("userTrades", (0, "qty"), "-1"),
    ("userTrades", (0, "price"), "0"),
    ("userTrades", (0, "id"), str(2**70)),
    ("userTrades", (0, "time"), FUTURE),
    ("income", (0, "income"), "NaN"),
    ("income", (0, "time"), FUTURE),
]
JUNK = {
    "null": Answer(None),
    "text": Answer("x"),
    "number": Answer(5),
    "object": Answer({}),
    "list of null": Answer([None]),
    "error in a 200": Answer({"code": -1, "msg": "x"}),
    "100,000 rows": Answer([{}] * 100_000),
}


def altered(value, path, lie):
    copy = json.loads(json.dumps(value))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = lie
    return copy


def good(b):
    b.venue.default |= {("GET", path): reply for path, reply, _ in READS.values()}
    b.venue.default["GET", "order"] = REPLIES["order_ack"]


async def failed_then_true(name, answer):
    """Answer once with a lie, then truly: the read must be counted, repeated after 200 ms, and succeed."""
    async with bench() as b:
        good(b)
        path, _, ask = READS[name]
        b.venue.will("GET", path, answer)
        reading = asyncio.create_task(ask(b.gateway))
        await b.clock.advance(199)
        early, asked = reading.done(), len(b.venue.sent("GET", path))
        await b.clock.advance(1_000)
        assert not early
        assert asked == 1
        assert reading.done()
        assert await reading is not None
        assert len(b.venue.sent("GET", path)) >= 2
        assert b.gateway.refused.counts.total() <= 1


# Replies --------------------------------------------------------------------------------------------------------------


@pytest.mark.wire
@pytest.mark.parametrize("name", sorted(READS))
async def test_every_read_that_is_answered_well_is_read_at_once(name):
    async with bench() as b:
        good(b)

        assert await READS[name][2](b.gateway) is not None
        assert b.gateway.refused.counts.total() == 0


@pytest.mark.wire
@pytest.mark.parametrize("junk", sorted(JUNK))
@pytest.mark.parametrize("name", sorted(READS))
async def test_a_reply_of_another_form_is_a_failed_read_and_asked_again(name, junk):
    if junk in ("list of null", "100,000 rows") and name in ("fundingInfo", "balance", "brackets", "symbolConfig"):
        pytest.skip("a list of which only some lines matter may hold others")
    await failed_then_true(name, JUNK[junk])


@pytest.mark.wire
@pytest.mark.parametrize("name", ["fundingInfo", "balance", "brackets", "symbolConfig"])
async def test_a_list_of_lines_has_a_longest_length_even_where_only_some_matter(name):
    await failed_then_true(name, Answer([{}] * 100_000))


@pytest.mark.wire
@pytest.mark.parametrize("name", sorted(READS))
async def test_an_empty_body_is_a_failed_read(name):
    await failed_then_true(name, Answer(text=""))


@pytest.mark.wire
@pytest.mark.parametrize("name", sorted(set(READS) - LISTS_THAT_MAY_BE_EMPTY))
async def test_an_empty_list_is_a_failed_read_where_there_must_be_something(name):
    await failed_then_true(name, Answer([]))


@pytest.mark.wire
@pytest.mark.parametrize("name", sorted(LISTS_THAT_MAY_BE_EMPTY))
async def test_an_empty_list_is_well_formed_where_there_may_be_nothing(name):
    async with bench() as b:
        good(b)
        b.venue.default["GET", READS[name][0]] = []

        assert await READS[name][2](b.gateway) is not None
        assert b.gateway.refused.counts.total() == 0


@pytest.mark.wire
@pytest.mark.parametrize(("name", "path", "lie"), LIES, ids=lambda value: str(value)[:40])
async def test_a_value_that_cannot_be_is_a_failed_read_and_asked_again(name, path, lie):
    await failed_then_true(name, Answer(altered(READS[name][1], path, lie)))


@pytest.mark.wire
async def test_a_position_that_is_told_twice_is_a_failed_read():
    await failed_then_true("positions", Answer([REPLIES["position"]] * 2))


@pytest.mark.wire
async def test_a_read_that_never_fits_fails_with_one_sentence_and_one_line_in_the_log(caplog):
    async with bench() as b:
        b.venue.default["GET", "positionRisk"] = None
        reading = asyncio.create_task(b.gateway.positions())
        await b.clock.advance(10_000)

        with pytest.raises(ReadFailed, match="cannot read the positions: the exchange's message has another form"):
            await reading
        assert b.gateway.refused.counts == {"position_information": 5}
        assert len([r for r in caplog.records if "is refused" in r.getMessage()]) == 1


@pytest.mark.wire
async def test_hedge_mode_is_named_whatever_reads_it():
    async with bench() as b:
        b.venue.default["GET", "positionRisk"] = [{**REPLIES["position"], "positionSide": "SHORT"}]
        reading = asyncio.create_task(b.gateway.positions())
        await b.clock.advance(10_000)

        with pytest.raises(BotError, match="the account is in hedge mode: switch it to one-way mode while flat"):
            await reading


@pytest.mark.wire
@pytest.mark.parametrize(
    "reply",
    [
        {},
        [],
        None,
        {**REPLIES["order_ack"], "clientOrderId": "another"},
        {**REPLIES["order_ack"], "symbol": "ETHUSDT"},
        {**REPLIES["order_ack"], "executedQty": "-1"},
        {**REPLIES["order_ack"], "updateTime": FUTURE},
    ],
)
async def test_a_reply_to_an_order_that_does_not_fit_leaves_its_outcome_unknown(reply):
    async with bench() as b:
        b.venue.default |= {("POST", "order"): reply, ("DELETE", "order"): reply, ("GET", "order"): reply}

        placed, canceled = await b.gateway.place(BUY), await b.gateway.cancel(CancelOrder(BUY.client_id, "BTCUSDT"))

        assert isinstance(placed, Unknown)
        assert isinstance(canceled, Unknown)
        assert isinstance(await b.gateway.query(BUY.client_id, "BTCUSDT"), Unknown)
        assert len(b.venue.sent("POST", "order")) == 1


@pytest.mark.wire
async def test_a_leverage_of_another_symbol_leaves_the_outcome_unknown():
    async with bench() as b:
        b.venue.default["POST", "leverage"] = {"leverage": 5, "symbol": "ETHUSDT", "maxNotionalValue": "1"}

        assert isinstance(await b.gateway.set_leverage("BTCUSDT", 5), Unknown)


# Bodies ---------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def served(handler):
    """Serve one handler on every path; yields its address."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def client_of(url, key="a-key-of-our-own"):
    activity = Activity()
    tasks = Tasks(ManualClock(activity), activity=activity)
    client = LocalClient(
        key, "secret", rest_url=url, stream_url=url.replace("http", "ws", 1), tasks=tasks, limits=RequestLimits(tasks)
    )
    try:
        yield client
    finally:
        await client.close_connection()


def packed(text):
    return web.Response(body=gzip.compress(text), headers={"Content-Encoding": "gzip"}, content_type="application/json")


@pytest.mark.wire
async def test_a_packed_body_is_unpacked_and_only_this_packing_is_asked_for():
    asked = []

    async def handler(request):
        asked.append(request.headers["Accept-Encoding"])
        return packed(b'{"serverTime": 1789478280000}')

    async with served(handler) as url, client_of(url) as client:
        assert await client.futures_time() == {"serverTime": 1789478280000}
    assert asked == ["gzip"]


@pytest.mark.wire
@pytest.mark.parametrize("kind", ["plain", "without length", "bomb"])
async def test_a_body_of_more_than_8_mb_is_not_read_to_its_end(kind):
    written = 0

    async def handler(request):
        nonlocal written
        if kind == "bomb":
            return packed(b"[" + b" " * (100 << 20) + b"]")
        reply = web.StreamResponse()
        if kind == "plain":
            reply.content_length = 100 << 20
        else:
            reply.enable_chunked_encoding()
        await reply.prepare(request)
        for _ in range(100):
            await reply.write(b" " * (1 << 20))
            written += 1
        return reply

    async with served(handler) as url, client_of(url) as client:
        with pytest.raises(WireError, match="too large"):
            await client.futures_time()
        assert written <= 2 * (MOST_BODY >> 20)


@pytest.mark.wire
@pytest.mark.parametrize(
    "reply",
    [
        web.Response,
        lambda: web.Response(body=b"[" + b"9" * 400 + b"]"),
        lambda: web.Response(body=b"[" * 100_000),
        lambda: web.Response(body=b'{"serverTime": NaN}'),
        lambda: web.Response(body=b"\xff\xfe"),
        lambda: web.Response(body=b"no gzip", headers={"Content-Encoding": "gzip"}),
        lambda: web.Response(body=gzip.compress(b"{}" * 9_000)[:40], headers={"Content-Encoding": "gzip"}),
        lambda: web.Response(body=b"{}", headers={"Content-Encoding": "br"}),
    ],
)
async def test_a_body_that_is_no_json_is_one_error_of_one_kind(reply):
    async def handler(request):
        return reply()

    async with served(handler) as url, client_of(url) as client:
        with pytest.raises(WireError):
            await client.futures_time()


# Addresses and keys ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "fits"),
    [
        ("https://fapi.binance.com", True),
        ("wss://fstream.binance.com", True),
        ("http://127.0.0.1:8080", True),
        ("http://localhost:8080", True),
        ("ws://[::1]:8080", True),
        ("http://fapi.binance.com", False),
        ("ws://10.0.0.7:8080", False),
        ("http://127.0.0.1.elsewhere.example", False),
        ("ftp://fapi.binance.com", False),
        ("fapi.binance.com", False),
    ],
)
def test_an_address_is_encrypted_or_on_this_machine(url, fits):
    if fits:
        assert require_encrypted(url, "venue.live.rest_url") == url
        return
    with pytest.raises(ConfigError, match=r"venue\.live\.rest_url") as refused:
        require_encrypted(url, "venue.live.rest_url")
    assert "\n" not in str(refused.value)


async def test_a_client_is_not_made_for_a_plain_address_elsewhere():
    tasks = Tasks(ManualClock(Activity()))
    for rest, stream in (("http://h.example", "wss://h.example"), ("https://h.example", "ws://h.example")):
        with pytest.raises(ConfigError, match="not encrypted"):
            LocalClient("k", "s", rest_url=rest, stream_url=stream, tasks=tasks, limits=RequestLimits(tasks))


@pytest.mark.wire
async def test_the_key_goes_only_with_calls_that_need_it():
    keyed = {}

    async def handler(request):
        keyed[request.method, request.match_info["path"]] = request.headers.get("X-MBX-APIKEY")
        return web.json_response({"listenKey": "k"})

    async with served(handler) as url, client_of(url) as client:
        for call in (client.futures_time, client.futures_exchange_info, client.futures_v1_get_funding_info):
            await call()
        for call in (client.futures_klines, client.futures_mark_price, client.futures_orderbook_ticker):
            await call(symbol="BTCUSDT")
        await client.futures_order_book(symbol="BTCUSDT")
        public, keyed = dict(keyed), {}
        await client.futures_account_balance()
        await client.futures_create_order(symbol="BTCUSDT")
        await client.futures_cancel_order(symbol="BTCUSDT")
        await client.futures_stream_keepalive(await client.futures_stream_get_listen_key())

    assert len(public) == 7
    assert set(public.values()) == {None}
    assert len(keyed) == 5
    assert set(keyed.values()) == {"a-key-of-our-own"}


@pytest.mark.wire
async def test_a_socket_opens_without_the_key():
    async with market() as m:
        assert m.venue.sockets["market"][0]._req.headers.get("X-MBX-APIKEY") is None


@pytest.mark.wire
@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_refused_and_an_order_was_certainly_not_done(status):
    async with bench() as b:
        away = Answer({}, status, {"Location": "https://elsewhere.example/fapi/v1/order?x=1"})
        b.venue.default |= {("POST", "order"): away, ("GET", "balance"): away}

        outcome = await b.gateway.place(BUY)

        assert outcome == Rejected(-status, f"the exchange redirects to elsewhere.example (HTTP {status}): refused")
        with pytest.raises(ReadFailed, match=r"elsewhere\.example"):
            await b.gateway.wallet()
        assert len(b.venue.sent("GET", "balance")) == 1


@pytest.mark.wire
async def test_a_socket_is_not_opened_where_the_exchange_points_to():
    opened = []

    async def elsewhere(request):
        opened.append(request.path)
        return web.Response()

    async with served(elsewhere) as other:

        async def handler(request):
            return web.Response(status=302, headers={"Location": other.replace("http", "ws", 1)})

        async with served(handler) as url, client_of(url) as client:
            tasks = Tasks(ManualClock(Activity()))
            socket = HardenedBSM(client, tasks=tasks).futures_multiplex_socket(["x@bookTicker"], category="public")
            with pytest.raises(Exception, match=r"redirects to 127\.0\.0\.1"):
                await socket.connect()
    assert opened == []


# Proxies --------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def proxy(port):
    """Forward whatever is asked for to `port` of this machine, plainly or through CONNECT; yields address and requests."""
    seen = []

    async def pipe(reader, writer):
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def connection(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        line, rest = head.split(b"\r\n", 1)
        method, target, version = line.split()
        seen.append((method.decode(), target.decode()))
        there, to = await asyncio.open_connection("127.0.0.1", port)
        if method == b"CONNECT":
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            path = b"/" + target.split(b"//", 1)[1].split(b"/", 1)[1]
            to.write(b" ".join((method, path, version)) + b"\r\n" + rest)
        await asyncio.gather(pipe(reader, to), pipe(there, writer))

    server = await asyncio.start_server(connection, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", seen
    finally:
        server.close()


@pytest.fixture
def no_proxies(monkeypatch):
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    return monkeypatch


async def time_handler(request):
    if request.headers.get("Upgrade", "").lower() == "websocket":
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str('{"stream": "x", "data": {}}')
        async for _ in socket:
            pass
        return socket
    return web.json_response({"serverTime": 1789478280000})


@pytest.mark.wire
async def test_rest_and_streams_take_the_machines_proxy(no_proxies):
    async with served(time_handler) as url, proxy(int(url.rsplit(":", 1)[1])) as (address, seen):
        no_proxies.setenv("HTTP_PROXY", address)
        no_proxies.setenv("http_proxy", address)
        no_proxies.setattr("bot.execution.client.require_encrypted", lambda address, setting: address)
        async with client_of("http://exchange.invalid") as client:
            assert await client.futures_time() == {"serverTime": 1789478280000}
            tasks = Tasks(ManualClock(Activity()))
            no_proxies.setenv("https_proxy", address)  # websockets takes this one for ws too
            socket = HardenedBSM(client, tasks=tasks).futures_multiplex_socket(["x@bookTicker"], category="public")
            await socket.connect()
            frame = await socket.recv()
            await socket.close()

        assert frame == {"stream": "x", "data": {}}
        assert seen == [("GET", "http://exchange.invalid/fapi/v1/time"), ("CONNECT", "exchange.invalid:80")]


@pytest.mark.wire
async def test_no_proxy_holds_and_this_machine_is_never_asked_through_one(no_proxies):
    async with served(time_handler) as url, proxy(1) as (address, seen):
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"):
            no_proxies.setenv(name, address)
        async with client_of(url) as client:
            assert await client.futures_time() == {"serverTime": 1789478280000}

        no_proxies.setenv("NO_PROXY", "exchange.invalid")
        no_proxies.setenv("no_proxy", "exchange.invalid")
        no_proxies.setattr("bot.execution.client.require_encrypted", lambda address, setting: address)
        async with client_of("http://exchange.invalid") as client:
            with pytest.raises(OSError, match=r"exchange\.invalid"):
                await client.futures_time()
        assert seen == []


# Frames ---------------------------------------------------------------------------------------------------------------


class Market:
    """Streams on a scripted venue, and what they emitted."""

    def __init__(self, b) -> None:
        self.b, self.venue, self.clock = b, b.venue, b.clock
        self.events, self.errors, self.checked = [], [], []
        b.venue.default["GET", "klines"] = []
        self.streams = Streams(
            b.manager, b.gateway, ("BTCUSDT", "ETHUSDT"), tasks=b.tasks, emit=self.events.append,
            on_error=self.errors.append, on_cross_check=self.checked.append,
            settings=StreamSettings(market_silence_ms=None, public_silence_ms=None, rotate_ms=None, early=True),
        )  # fmt: skip

    async def push(self, feed, *payloads, stream=None):
        await self.venue.push(feed, *payloads, stream=stream)
        await self.clock.settle()

    @property
    def feeds(self):
        return [(type(e).__name__, e.stream) for e in self.events if isinstance(e, FeedLost | FeedRestored)]


@asynccontextmanager
async def market():
    async with bench() as b:
        it = Market(b)
        try:
            await it.streams.start()
            await b.clock.settle()
            yield it
        finally:
            await it.streams.close()
        await b.clock.settle()
        assert b.activity.under_way == 0


KLINE = {**PUSHES["kline_closed"], "E": START_MS + 41}
MARKET_FRAMES = {
    "kline": ("market", KLINE),
    "forming": ("market", PUSHES["kline_open"]),
    "mark": ("market", MARK),
    "trade": ("market", TRADE),
    "book": ("public", {**PUSHES["book_ticker"], "s": "BTCUSDT"}),
}
ACCOUNT_FRAMES = {
    name: ("private", PUSHES[name])
    for name in ("order_partly_filled", "algo_finished", "account_order", "account_leverage")
} | {"margin_call": ("private", {**PUSHES["margin_call"], "E": START_MS})}
FRAMES = MARKET_FRAMES | ACCOUNT_FRAMES
FRAME_LIES = [
    ("kline", ("k", "h"), "1"),
    ("kline", ("k", "c"), "NaN"),
    ("kline", ("k", "v"), "-1"),
    ("kline", ("k", "o"), HUGE),
    ("kline", ("k", "t"), PUSHES["kline_closed"]["k"]["t"] + 1),
    ("kline", ("k", "t"), PUSHES["kline_closed"]["k"]["t"] + 180_000),
    ("kline", ("k", "s"), "ETHUSDT"),
    ("kline", ("k", "i"), "7m"),
    ("kline", ("k", "i"), "1m"),
    ("kline", ("k", "x"), "true"),
    ("kline", ("E",), FUTURE),
    ("kline", ("E",), PUSHES["kline_closed"]["k"]["T"] - 1_000),
    ("kline", ("s",), "SOLUSDT"),
    ("forming", ("k", "c"), None),
    ("forming", ("E",), FUTURE),
    ("forming", ("k", "t"), START_MS + 180_000),
    ("mark", ("p",), "-1"),
    ("mark", ("r",), "NaN"),
    ("mark", ("E",), FUTURE),
    ("mark", ("T",), START_MS + 30 * 86_400_000),
    ("trade", ("p",), "0"),
    ("trade", ("q",), "-1"),
    ("trade", ("a",), None),
    ("trade", ("T",), FUTURE),
    ("book", ("b",), "NaN"),
    ("book", ("A",), "-1"),
    ("book", ("u",), None),
    ("book", ("u",), "x"),
    ("book", ("E",), FUTURE),
    ("order_partly_filled", ("o", "q"), "-1"),
    ("order_partly_filled", ("o", "l"), HUGE),
    ("order_partly_filled", ("o", "L"), "0"),
    ("order_partly_filled", ("o", "n"), "NaN"),
    ("order_partly_filled", ("o", "X"), "PERHAPS"),
    ("order_partly_filled", ("o", "S"), None),
    ("order_partly_filled", ("o", "t"), str(2**70)),
    ("order_partly_filled", ("o", "T"), FUTURE),
    ("order_partly_filled", ("E",), FUTURE),
    ("algo_finished", ("o", "aq"), "-1"),
    ("algo_finished", ("o", "X"), "PERHAPS"),
    ("account_order", ("a", "B"), [{"a": "USDT", "wb": "NaN"}]),
    ("account_order", ("a", "B"), [{"a": "USDT", "wb": "1"}] * 10_000),
    ("account_order", ("a", "P"), [{"s": "BTCUSDT", "pa": HUGE, "ep": "1"}]),
    ("account_order", ("a", "P"), {"s": "BTCUSDT"}),
    ("account_leverage", ("ac", "l"), 0),
    ("margin_call", ("p",), None),
]


@pytest.mark.wire
async def test_every_frame_that_fits_is_taken():
    async with market() as m:
        for name, (feed, payload) in FRAMES.items():
            if name != "account_leverage":
                await m.push(feed, payload)
        await m.push("private", {**PUSHES["account_leverage"], "E": START_MS})

        assert m.streams.refused.counts.total() == 0
        assert m.errors == []


@pytest.mark.wire
@pytest.mark.parametrize(("name", "path", "lie"), FRAME_LIES, ids=lambda value: str(value)[:40])
async def test_a_frame_that_does_not_fit_is_refused_and_the_stream_goes_on(name, path, lie):
    feed, payload = FRAMES[name]
    user = feed == "private"
    async with market() as m:
        await m.push(feed, altered(payload, path, lie), stream=None if user else stream_of(payload))
        refused, events = m.streams.refused.counts.total(), list(m.events)
        await m.push(feed, payload)

        assert refused == 1
        assert [type(e) for e in events] == ([FeedLost, FeedRestored] if user else [])
        assert len(m.errors) == 1
        assert m.streams.refused.counts.total() == 1


@pytest.mark.wire
@pytest.mark.parametrize("junk", [None, [], "x", 5, {}, {"e": {}}, {"e": None}, {"e": ["kline"]}, {"e": "ended"}])
@pytest.mark.parametrize("feed", ["market", "public", "private"])
async def test_junk_never_ends_a_stream_or_leaves_the_consumer(feed, junk):
    good_frame = {"market": MARK, "public": MARKET_FRAMES["book"][1], "private": PUSHES["order_new"]}[feed]
    async with market() as m:
        if feed == "private":
            await m.push(feed, junk, good_frame)
        else:
            await m.push(feed, orjson.dumps({"stream": stream_of(good_frame), "data": junk}))
            await m.push(feed, good_frame)

        assert isinstance(m.events[-1], OrderUpdate | Quotes) or m.events[-1].symbol == "BTCUSDT"
        foreign = feed == "private" and junk == {"e": "ended"}  # a kind that we do not know is normal there
        assert m.streams.feeds[{"private": "user"}.get(feed, feed)].frames == 1 + foreign
        assert m.streams.lost == ()


@pytest.mark.wire
@pytest.mark.parametrize(
    "frame",
    [b"", b"x" * 1_000, b"[1]", b"null", b'{"stream": ["x"], "data": {}}', b'{"stream": "solusdt@bookTicker", "data": {}}',
     b'{"data": {}}', b"[" * 50_000, b'{"a": ' + b"9" * 400 + b"}"],
)  # fmt: skip
async def test_a_frame_of_no_stream_of_ours_is_refused(frame):
    async with market() as m:
        await m.push("market", frame)
        await m.push("market", MARK)

        assert m.streams.refused.counts.total() == 1
        assert len(m.events) == 1


@pytest.mark.wire
async def test_a_frame_of_another_stream_than_its_wrapper_names_is_refused():
    async with market() as m:
        await m.push("market", KLINE, stream="ethusdt@kline_3m")
        await m.push("market", KLINE, stream="btcusdt@kline_15m")
        await m.push("private", KLINE)

        assert not any(isinstance(e, KlineClosed) for e in m.events)
        assert m.streams.refused.counts == {"market kline": 2, "user kline": 1}


@pytest.mark.wire
async def test_a_bar_that_is_closed_again_with_other_values_is_refused():
    async with market() as m:
        other = altered(KLINE, ("k", "c"), "76951.00")
        await m.push("market", KLINE, KLINE, other)

        (bar,) = [e for e in m.events if isinstance(e, KlineClosed)]
        assert bar.kline.close == 76950.0
        assert m.streams.refused.counts == {"market kline": 1}


@pytest.mark.wire
async def test_a_kind_of_refused_frame_is_told_at_the_first_tenth_and_hundredth_time():
    async with market() as m:
        await m.push("market", *[altered(MARK, ("p",), "-1")] * 120)

        assert len(m.errors) == 3
        assert "(100 by now)" in str(m.errors[-1])
        assert m.events == []


@pytest.mark.wire
async def test_junk_on_the_user_stream_has_the_account_compared_less_and_less_often():
    async with market() as m:
        for _ in range(600):
            await m.push("private", {"e": None})
            await m.clock.advance(100)

        assert 5 <= len(m.feeds) // 2 <= 8  # at once, and then after 2, 4, 8 ... s
        assert m.feeds == [("FeedLost", "user"), ("FeedRestored", "user")] * (len(m.feeds) // 2)
        assert m.streams.lost == ()


@pytest.mark.wire
async def test_a_frame_of_more_than_1_mb_reconnects_and_the_stream_goes_on():
    async with market() as m:
        await m.venue.push("public", b'{"stream": "x", "data": "' + b"x" * (1 << 20) + b'"}')
        m.b.activity.end()  # nobody will ever take it
        for _ in range(100):
            await m.clock.advance(100)
            await asyncio.sleep(0.005)
            if len([url for url in m.venue.opened if "/public/" in url]) == 2 and m.venue.sockets["public"]:
                break
        await m.push("public", MARKET_FRAMES["book"][1])

        assert m.feeds == [("FeedLost", "public"), ("FeedRestored", "public")]
        assert isinstance(m.events[-1], Quotes)


@pytest.mark.parametrize("payload", [None, [], "x", 5, {}, {"e": {}}, {"e": 5}])
def test_what_is_of_no_kind_is_one_error_of_one_kind(payload):
    with pytest.raises(WireError):
        wire.events_of(payload)


# Time -----------------------------------------------------------------------------------------------------------------


def test_a_message_may_be_half_a_minute_ahead_and_half_an_hour_of_a_replay():
    clock = WallClock()
    live = latest_ms(clock) - clock.now_ms()
    clock.synchronise(-500 * 86_400_000)

    assert live == AHEAD_MS
    assert abs(latest_ms(clock) - clock.now_ms() - AHEAD_MS * FASTEST_REPLAY) < 5
    stepped = ManualClock(Activity())
    assert latest_ms(stepped) == START_MS + AHEAD_MS


def reading(offset_ms, at_ms=0.0):
    now = machine_ms() + at_ms
    return ClockReading(now, now, round(now + offset_ms))


def test_a_first_time_that_contradicts_the_machine_s_needs_a_second_one():
    clock = WallClock()

    assert clock.judge(reading(20_000)) is ClockVerdict.BELIEVED
    assert clock.judge(reading(600_000)) is ClockVerdict.CONFIRM
    assert clock.judge(reading(900_000)) is ClockVerdict.CONFIRM
    assert clock.judge(reading(900_100, 1_000)) is ClockVerdict.BELIEVED
    assert clock.judge(reading(-500 * 86_400_000)) is ClockVerdict.CONFIRM
    assert (
        clock.judge(reading(-500 * 86_400_000 + 59_000, 1_000)) is ClockVerdict.BELIEVED
    )  # a replay at 60 times the speed


def test_a_later_time_that_contradicts_our_clock_needs_one_that_agrees_half_a_minute_later():
    clock = WallClock()
    clock.synchronise(100)

    assert clock.judge(reading(3_600_000)) is ClockVerdict.REFUSED
    assert clock.judge(reading(3_600_000, 10_000)) is ClockVerdict.REFUSED
    assert clock.judge(reading(3_600_000, 31_000)) is ClockVerdict.BELIEVED
    assert clock.judge(reading(3_600_000)) is ClockVerdict.REFUSED
    assert clock.judge(reading(120, 10_000)) is ClockVerdict.BELIEVED  # the truth again: the lie is forgotten
    assert clock.judge(reading(3_600_000, 31_000)) is ClockVerdict.REFUSED


def test_an_exchange_that_was_live_does_not_become_a_replay():
    clock = WallClock()
    clock.synchronise(100)

    assert [clock.judge(reading(5 * 86_400_000, at)) for at in (0, 31_000, 62_000)] == [ClockVerdict.REFUSED] * 3


def test_a_machine_that_slept_is_put_right_by_the_first_reading(monkeypatch):
    clock = WallClock()
    clock.synchronise(100)
    steady = WallClock._monotonic_ms()
    monkeypatch.setattr(
        WallClock, "_monotonic_ms", staticmethod(lambda: steady - 3_600_000)
    )  # it stood still meanwhile

    assert abs(clock.offset_ms + 3_600_000) < 1_000
    assert clock.judge(reading(100)) is ClockVerdict.BELIEVED


@pytest.mark.wire
async def test_one_absurd_time_at_the_start_does_not_set_the_clock():
    async with bench(clock=WallClock(), stepped=False) as b:
        b.venue.will("GET", "time", Answer({"serverTime": round(machine_ms()) + 86_000_000}))
        b.venue.default["GET", "time"] = lambda _: {"serverTime": round(machine_ms()) + 250}

        offset = await b.gateway.synchronise(samples=1)

        assert abs(offset - 250) < 50
        assert abs(b.clock.now_ms() - machine_ms() - 250) < 100


@pytest.mark.wire
@pytest.mark.parametrize("lie", [0, -1, 10**18, "x", None, "NaN"])
async def test_a_time_that_is_none_is_no_reading(lie):
    async with bench(clock=WallClock(), stepped=False) as b:
        b.venue.default["GET", "time"] = {"serverTime": lie}

        with pytest.raises(ReadFailed, match="cannot read the exchange's time"):
            await b.gateway.synchronise(samples=2)


@pytest.mark.wire
async def test_a_time_that_lies_while_the_bot_runs_leaves_the_clock_as_it_was():
    async with bench(clock=WallClock(), stepped=False) as b:
        b.venue.default["GET", "time"] = lambda _: {"serverTime": round(machine_ms())}
        await b.gateway.synchronise()
        b.venue.default["GET", "time"] = lambda _: {"serverTime": round(machine_ms()) + 3_600_000}

        with pytest.raises(ReadFailed, match="jumped by"):
            await b.gateway.synchronise()
        assert abs(b.clock.now_ms() - machine_ms()) < 200


@pytest.mark.wire
async def test_a_reply_from_the_future_has_the_exchange_s_time_asked_at_once():
    async with bench(clock=WallClock(), stepped=False) as b:
        now = round(machine_ms())
        b.venue.default["GET", "time"] = lambda _: {"serverTime": round(machine_ms())}
        b.venue.will("GET", "positionRisk", Answer([{**REPLIES["position"], "updateTime": now + 600_000}]))
        b.venue.default["GET", "positionRisk"] = [{**REPLIES["position"], "updateTime": now}]

        (position,) = await b.gateway.positions()

        assert position.update_ms == now
        assert len(b.venue.sent("GET", "time")) == 3


def test_the_first_reading_may_set_the_clock_back_and_no_later_one_does():
    clock = WallClock()
    ahead = clock.now_ms()

    clock.synchronise(-3_600_000)
    behind = clock.now_ms()
    clock.synchronise(-7_200_000)

    assert behind <= ahead - 3_599_000
    assert clock.now_ms() >= behind
