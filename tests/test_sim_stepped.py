"""The stepped clock: nothing moves while something is under way, and a run is the same every time."""

import asyncio
import json
from typing import Any

import aiohttp
import numpy as np
import pytest

from bot.core.activity import Activity
from bot.core.errors import BotError, ConfigError
from bot.sim import clock as clock_module
from bot.sim.clock import ReplayClock
from bot.sim.faults import parse
from bot.sim.server import Exchange
from tests.sim_tools import START, Bot, flat, market

HOUR = 3_600_000
QTY = "0.400"


class Trader:
    """A bot with a habit: buys post-only at each 3m close, takes what is left, protects it, and sells at the next."""

    def __init__(self, exchange: Exchange, bot: Bot) -> None:
        self.exchange, self.bot = exchange, bot
        self.book: dict[str, Any] = {}
        self.log: list[Any] = []
        self.number = 0
        bot.on_frame = self.frame

    def frame(self, frame: dict[str, Any]) -> None:
        data = frame.get("data", frame)
        self.log.append((self.exchange.clock.now_ms(), data.get("e"), data.get("E")))
        match data.get("e"):
            case "bookTicker":
                self.book = data
            case "kline" if data["k"]["x"] and self.book:
                self.number += 1
                self.bot.spawn(self.enter(self.number) if self.number % 2 else self.leave(self.number))

    async def order(self, number: str, side: str, qty: str, **more: str) -> Any:
        params = {"symbol": "BTCUSDT", "side": side, "quantity": qty, "newClientOrderId": number} | more
        return await self.bot.call("POST", "/fapi/v1/order", **params)

    async def enter(self, n: int) -> None:
        name = f"en-{n}"
        bid = self.book["b"]
        status, _ = await self.order(name, "BUY", QTY, type="LIMIT", timeInForce="GTX", price=bid)
        if status == 200:
            self.exchange.clock.call_later(700, lambda: self.bot.spawn(self.take(n)))
        else:
            await self.take(n)

    async def take(self, n: int) -> None:
        await self.bot.call("DELETE", "/fapi/v1/order", symbol="BTCUSDT", origClientOrderId=f"en-{n}")
        _, order = await self.bot.call("GET", "/fapi/v1/order", symbol="BTCUSDT", origClientOrderId=f"en-{n}")
        rest = float(QTY) - float(order.get("executedQty", 0))
        price = f"{float(self.book['a']) + 20:.1f}"
        if rest > 0.0005:
            await self.order(
                f"io-{n}", "BUY", f"{rest:.3f}", type="LIMIT", timeInForce="IOC", price=price, newOrderRespType="RESULT"
            )
        stop = f"{float(self.book['b']) * 0.999:.1f}"
        await self.bot.call(
            "POST", "/fapi/v1/algoOrder", algoType="CONDITIONAL", symbol="BTCUSDT", side="SELL", type="STOP_MARKET",
            triggerPrice=stop, quantity=QTY, reduceOnly="true", clientAlgoId=f"sl-{n}",
        )  # fmt: skip

    async def leave(self, n: int) -> None:
        # Three at once: their order at the exchange must not depend on the machine.
        await asyncio.gather(
            self.order(f"out-{n}", "SELL", QTY, type="MARKET", reduceOnly="true", newOrderRespType="RESULT"),
            self.bot.call("DELETE", "/fapi/v1/algoOpenOrders", symbol="BTCUSDT"),
            self.bot.call("GET", "/fapi/v3/positionRisk", symbol="BTCUSDT"),
        )


async def session(seed: int = 7, *, speed: float | None = None, minutes: int = 300, **options: Any) -> Any:
    """Run one session of the trader; return the exchange's state and what the trader saw."""
    activity = Activity()
    exchange = Exchange(
        market("BTCUSDT", "ETHUSDT", minutes=minutes),
        from_ms=START + HOUR,
        wallet=20_000,
        seed=seed,
        activity=activity,
        speed=speed,
        **options,
    )
    bot = Bot(await exchange.listen(), activity)
    trader = Trader(exchange, bot)
    try:
        await bot.listen("/market/stream?streams=btcusdt@kline_3m/ethusdt@kline_3m/btcusdt@markPrice@1s")
        await bot.listen("/public/stream?streams=btcusdt@bookTicker")
        _, key = await bot.call("POST", "/fapi/v1/listenKey", signed=False)
        await bot.listen(f"/private/ws?listenKey={key['listenKey']}")
        exchange.start()
        await exchange.finished()
        return exchange.state(), trader.log, bot.frames
    finally:
        await bot.close()
        await exchange.close()


async def test_two_runs_tell_the_same_to_the_last_byte_and_trade_in_every_way():
    first = await session(depth_notional=40_000.0)
    second = await session(depth_notional=40_000.0)

    assert json.dumps(first) == json.dumps(second)
    orders = first[0]["orders"]
    kinds = {(o["clientOrderId"][:2], o["status"]) for o in orders}
    # Maker entries are missed, filled and partly filled; takers get less than they want; stops trigger.
    assert {("en", "CANCELED"), ("en", "FILLED"), ("io", "FILLED"), ("io", "EXPIRED"), ("ou", "FILLED")} <= kinds
    assert any(o["status"] == "CANCELED" and float(o["executedQty"]) > 0 for o in orders)
    assert {a["algoStatus"] for a in first[0]["algo_orders"]} >= {"CANCELED", "FINISHED"}
    assert any(f["maker"] for f in first[0]["fills"])


async def test_another_seed_is_another_market():
    assert (await session(1, minutes=120))[0] != (await session(2, minutes=120))[0]


async def test_a_paced_replay_is_the_same_as_the_fastest():
    fast, paced = await session(minutes=90), await session(minutes=90, speed=2_000.0)

    assert json.dumps(fast) == json.dumps(paced)


async def test_frames_come_after_their_event_by_the_push_latency_and_closes_exactly_once():
    _, log, frames = await session(minutes=120, push_latency_ms=200.0)

    end = START + 120 * 60_000  # what is under way then arrives while the clock stands
    lags = [seen - at for seen, _, at in log if seen < end]
    assert min(lags) >= 100
    assert max(lags) < 3_000
    closes = [f["data"]["k"] for f in frames if f.get("data", {}).get("e") == "kline" and f["data"]["k"]["x"]]
    btc = [k["t"] for k in closes if k["s"] == "BTCUSDT"]
    assert btc == list(range(START + HOUR - 180_000, START + 120 * 60_000, 180_000))


async def test_the_naked_time_is_the_latency_between_fill_and_stop():
    state, _, _ = await session(minutes=120, order_latency_ms=80.0, push_latency_ms=20.0)

    assert state["naked_ms"]["BTCUSDT"]["longest"] > 0
    assert state["naked_ms"]["ETHUSDT"] == {"total": 0, "longest": 0}


async def test_a_request_is_carried_out_and_answered_with_the_latency():
    activity = Activity()
    exchange = Exchange(flat(), from_ms=START + HOUR, activity=activity, order_latency_ms=1_000.0)
    bot = Bot(await exchange.listen(), activity)
    seen: list[tuple[int, int]] = []

    async def ask() -> None:
        _, reply = await bot.call("GET", "/fapi/v1/time", signed=False)
        seen.append((reply["serverTime"], exchange.clock.now_ms()))

    exchange.clock.call_later(10_000, lambda: bot.spawn(ask()))
    exchange.start()
    await exchange.finished()
    await bot.close()
    await exchange.close()

    ((executed, answered),) = seen
    assert 350 <= executed - (START + HOUR + 10_000) <= 650
    assert 700 <= answered - (START + HOUR + 10_000) <= 1_300


async def test_before_the_start_and_after_the_end_the_clock_stands_and_requests_are_answered():
    activity = Activity()
    exchange = Exchange(flat(minutes=70), from_ms=START + HOUR, activity=activity)
    bot = Bot(await exchange.listen(), activity)

    before = [(await bot.call("GET", "/fapi/v1/time", signed=False))[1]["serverTime"] for _ in range(2)]
    with pytest.raises(BotError, match="not been started"):
        await exchange.finished()
    exchange.start()
    await exchange.finished()
    after = (await bot.call("GET", "/fapi/v1/time", signed=False))[1]["serverTime"]
    status, order = await bot.call(
        "POST", "/fapi/v1/order", symbol="BTCUSDT", side="BUY", type="MARKET", quantity="0.010"
    )
    await bot.close()
    await exchange.close()

    assert before == [START + HOUR] * 2
    assert after == START + 70 * 60_000 == exchange.end_ms
    assert (status, order["status"]) == (200, "NEW")
    assert activity.under_way == 0


async def test_requests_under_way_at_the_end_are_still_answered():
    activity = Activity()
    exchange = Exchange(flat(minutes=70), from_ms=START + HOUR, activity=activity, order_latency_ms=5_000.0)
    bot = Bot(await exchange.listen(), activity)
    answers: list[int] = []

    async def ask() -> None:
        answers.append((await bot.call("GET", "/fapi/v1/time", signed=False))[1]["serverTime"])

    exchange.clock.call_later(10 * 60_000 - 100, lambda: bot.spawn(ask()))
    exchange.start()
    await exchange.finished()
    await bot.close()
    await exchange.close()

    assert answers == [exchange.end_ms]


async def test_a_stranger_is_answered_at_once_without_moving_the_clock():
    activity = Activity()
    exchange = Exchange(flat(minutes=120), from_ms=START + HOUR, activity=activity, speed=100_000.0)
    port = await exchange.listen()
    exchange.start()
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{port}/sim/state") as reply:
            state = await reply.json()
        async with session.get(f"http://127.0.0.1:{port}/fapi/v1/ping") as reply:
            assert await reply.json() == {}
    await exchange.finished()
    await exchange.close()

    assert START + HOUR <= state["clock_ms"] <= exchange.end_ms
    assert set(state) >= {"clock_ms", "wallet", "positions", "orders", "algo_orders", "fills", "naked_ms"}


async def test_stops_slip_by_the_book_and_not_by_half_a_bar():
    state, _, _ = await session()

    slips = [
        abs(float(algo["actualPrice"]) - float(algo["triggerPrice"]))
        for algo in state["algo_orders"]
        if algo["algoStatus"] == "FINISHED" and float(algo["actualQty"]) > 0
    ]
    # The book is 2 wide at 100,000, a bar about 100 high; a gap between two bars may still be jumped over.
    assert len(slips) > 5
    assert sorted(slips)[len(slips) // 2] < 3
    assert sum(slip > 10 for slip in slips) <= len(slips) // 4


async def run(exchange: Exchange, bot: Bot) -> None:
    """Replay to the end and close."""
    try:
        exchange.start()
        await exchange.finished()
    finally:
        await bot.close()
        await exchange.close()


async def test_a_market_order_beyond_the_level_is_filled_by_the_next_ones_and_answered_then():
    activity = Activity()
    exchange = Exchange(flat(), from_ms=START + HOUR, activity=activity, depth_notional=300.0)
    bot = Bot(await exchange.listen(), activity)
    answers: list[Any] = []

    async def buy() -> None:
        order = {
            "symbol": "BTCUSDT",
            "side": "BUY",
            "type": "MARKET",
            "quantity": "0.010",
            "newOrderRespType": "RESULT",
        }
        answers.append((await bot.call("POST", "/fapi/v1/order", **order))[1])

    exchange.clock.call_later(10_000, lambda: bot.spawn(buy()))
    await run(exchange, bot)

    (answer,) = answers
    fills = exchange.state()["fills"]
    assert (answer["status"], answer["executedQty"]) == ("FILLED", "0.010")
    assert len(fills) > 2
    assert 50 <= fills[-1]["time"] - fills[0]["time"] <= 2_500


class Rates:
    funding_ms = np.array([START + 8 * HOUR + 7])
    rate = np.array([0.0005])


async def test_funding_is_paid_on_the_hour_and_told_with_balance_and_position():
    activity = Activity()
    exchange = Exchange(flat(minutes=500), {"BTCUSDT": Rates()}, from_ms=START + 8 * HOUR - 120_000, activity=activity)
    bot = Bot(await exchange.listen(), activity)
    _, key = await bot.call("POST", "/fapi/v1/listenKey", signed=False)
    await bot.listen(f"/private/ws?listenKey={key['listenKey']}")
    await bot.call("POST", "/fapi/v1/marginType", symbol="BTCUSDT", marginType="ISOLATED")
    await bot.call("POST", "/fapi/v1/order", symbol="BTCUSDT", side="BUY", type="MARKET", quantity="0.010")
    _, premium = await bot.call("GET", "/fapi/v1/premiumIndex", signed=False, symbol="BTCUSDT")

    await run(exchange, bot)

    (paid,) = [f["a"] for f in bot.frames if f["e"] == "ACCOUNT_UPDATE" and f["a"]["m"] == "FUNDING_FEE"]
    (row,) = [r for r in exchange.venue.incomes if r["incomeType"] == "FUNDING_FEE"]
    assert (premium["lastFundingRate"], premium["nextFundingTime"]) == ("0.00050000", START + 8 * HOUR)
    assert float(paid["B"][0]["bc"]) == -0.5
    assert (paid["P"][0]["s"], paid["P"][0]["pa"]) == ("BTCUSDT", "0.010")
    assert (row["time"], float(row["income"])) == (START + 8 * HOUR, -0.5)


async def test_a_listen_key_lives_sixty_minutes_of_the_replay():
    activity = Activity()
    exchange = Exchange(flat(minutes=180), from_ms=START + HOUR, activity=activity)
    bot = Bot(await exchange.listen(), activity)
    _, key = await bot.call("POST", "/fapi/v1/listenKey", signed=False)
    await bot.listen(f"/private/ws?listenKey={key['listenKey']}")
    exchange.clock.call_later(30 * 60_000, lambda: bot.spawn(bot.call("PUT", "/fapi/v1/listenKey", signed=False)))

    await run(exchange, bot)

    (expired,) = bot.frames
    assert expired["e"] == "listenKeyExpired"
    assert 90 * 60_000 <= expired["E"] - (START + HOUR) <= 91 * 60_000


async def outage() -> tuple[list[int], Any]:
    """A socket is closed after its 50th frame for ten minutes of the replay."""
    activity = Activity()
    faults = [{"fault": "close_sockets", "path": "/public", "after": 50, "ms": 600_000}]
    exchange = Exchange(market(minutes=120), from_ms=START + HOUR, activity=activity, faults=parse(faults))
    bot = Bot(await exchange.listen(), activity)
    await bot.listen("/public/ws/btcusdt@bookTicker", again=True)
    await bot.listen("/market/ws/btcusdt@kline_1m")
    await run(exchange, bot)
    books = [f["E"] for f in bot.frames if f["e"] == "bookTicker"]
    return books, [f["k"]["t"] for f in bot.frames if f["e"] == "kline" and f["k"]["x"]]


async def test_an_outage_lasts_as_long_as_asked_and_the_market_goes_on_meanwhile():
    books, closes = await outage()

    gaps = np.diff(books)
    assert 600_000 <= gaps.max() <= 700_000
    assert int(np.argmax(gaps)) == 49
    assert closes == list(range(START + HOUR - 60_000, START + 120 * 60_000, 60_000))
    assert (await outage())[0] == books


async def test_a_bot_that_does_not_take_its_frames_stops_the_replay_with_a_sentence(monkeypatch):
    monkeypatch.setattr(clock_module, "QUIET_WITHIN_S", 0.3)
    activity = Activity()
    exchange = Exchange(flat(), from_ms=START + HOUR, activity=activity)
    port = await exchange.listen()
    session = aiohttp.ClientSession()
    socket = await session.ws_connect(f"ws://127.0.0.1:{port}/public/ws/btcusdt@bookTicker")
    exchange.start()

    with pytest.raises(BotError, match=r"1 frames or requests were not dealt with within 0 s after: market frames"):
        await exchange.finished()
    await socket.close()
    await session.close()
    await exchange.close()


async def test_the_door_says_so_when_the_port_is_taken():
    first, second = (Exchange(flat(), activity=Activity()) for _ in range(2))
    port = await first.listen()

    with pytest.raises(BotError, match=f"port {port} on 127.0.0.1 is in use"):
        await second.listen("127.0.0.1", port)
    await first.close()
    await second.close()


def test_impossible_settings_are_refused():
    with pytest.raises(ConfigError, match="Activity"):
        Exchange(flat())
    with pytest.raises(ConfigError, match="at most 60"):
        Exchange(flat(), stepped=False, speed=61.0)
    with pytest.raises(ConfigError, match="the data end at"):
        Exchange(flat(), activity=Activity(), from_ms=START + 10 * HOUR)


async def test_the_heap_releases_by_time_then_rank_then_order_and_forgets_what_is_cancelled():
    clock = ReplayClock(1_000)
    seen: list[str] = []
    for name, at_ms, rank in (("c", 1_010, 1), ("d", 1_010, 1), ("b", 1_010, 0), ("x", 1_005, 1), ("a", 900, 1)):
        item = clock.at(at_ms, lambda name=name: seen.append(f"{name}{clock.now_ms()}"), name=name, rank=rank)
        if name == "x":
            item.cancel()

    while clock.peek() is not None:
        await clock.release()

    assert seen == ["a1000", "b1010", "c1010", "d1010"]
