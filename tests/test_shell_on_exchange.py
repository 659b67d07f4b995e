"""The execution shell on the embedded exchange: both were written from Binance's documents alone, here they meet."""

import asyncio
import time
from collections import Counter
from contextlib import asynccontextmanager
from decimal import Decimal as D

import pytest

from bot.core.activity import Activity
from bot.core.events import (
    AccountSnapshot,
    AccountUpdate,
    FeedLost,
    FeedRestored,
    Fill,
    KlineClosed,
    OrderUpdate,
    Quotes,
    TimerFired,
)
from bot.core.intents import CancelOrder, PlaceOrder, RequestSnapshot, SetTimer
from bot.core.types import OrderSide, OrderStatus, OrderType, Round, TimeInForce
from bot.execution.client import HardenedBSM, LocalClient
from bot.execution.clock import WallClock
from bot.execution.executor import Executor
from bot.execution.gateway import Gateway
from bot.execution.limits import RequestLimits
from bot.execution.streams import Streams, StreamSettings
from bot.execution.tasks import Tasks
from bot.sim.faults import Fault
from bot.sim.server import Exchange
from tests.sim_tools import KEY, SECRET, START, market

SYMBOLS = ("BTCUSDT", "ETHUSDT")
pytestmark = pytest.mark.wire


class Trader:
    """A bot without a brain: it trades on every bar, protects what it holds, and keeps its own books.

    A bar: post-only buy at the bid, after 700 ms cancelled, the rest taken; then a stop; five minutes later all is sold.
    """

    def __init__(self, activity: Activity) -> None:
        self.activity = activity
        self.events: list[object] = []
        self.queue: asyncio.Queue[object] = asyncio.Queue()
        self.executor: Executor
        self.instrument = None
        self.bid = self.ask = D(0)
        self.position = D(0)
        self.fees = D(0)
        self.trades = set()
        self.orders: dict[str, OrderStatus] = {}
        self.filled: dict[str, D] = {}
        self.number = 0
        self.attempt = 1

    def emit(self, event) -> None:
        self.activity.begin()
        self.queue.put_nowait(event)

    async def run(self) -> None:
        while True:
            event = await self.queue.get()
            try:
                if not isinstance(event, Quotes):
                    self.events.append(event)
                for intent in self.handle(event):
                    self.executor.perform(intent, at_ms=event.at_ms)
            finally:
                self.activity.end()

    def name(self, role: str) -> str:
        return f"rbS-{role}-0-{self.number:07d}-01-a{self.attempt if role == 'hx' else 1}"

    def order(self, role, side, kind, qty, **more):
        return PlaceOrder(self.name(role), "BTCUSDT", side, kind, qty, **more)

    def handle(self, event):
        match event:
            case Quotes(quotes=((symbol, quote),)) if symbol == "BTCUSDT":
                self.bid, self.ask = quote.bid, quote.ask
            case KlineClosed(kline=bar) if bar.symbol == "BTCUSDT" and self.position == 0 and self.bid:
                self.number += 1
                price = self.instrument.price(self.bid, Round.DOWN)
                yield self.order(
                    "en", OrderSide.BUY, OrderType.LIMIT, D("0.004"), price=price, time_in_force=TimeInForce.GTX
                )
                yield SetTimer(f"maker {self.number}", 700)
            case TimerFired(name=name) if name == f"maker {self.number}":
                if not self.orders.get(self.name("en"), OrderStatus.NEW).is_terminal:
                    yield CancelOrder(self.name("en"), "BTCUSDT")
            case TimerFired(name="sell") if self.position > 0:
                yield self.order("hx", OrderSide.SELL, OrderType.MARKET, self.position, reduce_only=True)
                yield CancelOrder(self.name("sl"), "BTCUSDT", algo=True)
            case OrderUpdate(client_id=client_id, status=status):
                old = self.orders.get(client_id)
                if old is None or not old.is_terminal:
                    self.orders[client_id] = status
                    if status is OrderStatus.REJECTED and client_id == self.name("hx"):
                        self.attempt += 1
                        yield SetTimer("sell", 1_000)
                    if status.is_terminal and client_id == self.name("en"):
                        rest = D("0.004") - event.filled_qty
                        limit = self.instrument.price(self.ask * D("1.0006"), Round.UP)
                        if rest > 0:
                            yield self.order(
                                "io", OrderSide.BUY, OrderType.LIMIT, rest, price=limit, time_in_force=TimeInForce.IOC
                            )
            case Fill() if event.trade_id not in self.trades:
                self.trades.add(event.trade_id)
                self.position += event.side.sign * event.qty
                self.fees += event.fee
                if event.side is OrderSide.BUY and self.name("sl") not in self.orders:
                    self.orders[self.name("sl")] = OrderStatus.PENDING
                    trigger = self.instrument.price(event.price * D("0.99"), Round.DOWN)
                    yield self.order(
                        "sl", OrderSide.SELL, OrderType.STOP_MARKET, D(0), trigger_price=trigger, close_position=True
                    )
                    yield SetTimer("sell", 300_000)
            case FeedRestored(stream="user"):
                yield RequestSnapshot("user stream restored")
            case AccountSnapshot():
                for fill in event.fills:
                    yield from self.handle(fill)


@asynccontextmanager
async def session(exchange: Exchange, activity: Activity, clock, *, stepped: bool, settings: StreamSettings):
    """The whole shell on an exchange, with the trader behind it."""
    port = await exchange.listen("127.0.0.1", 0)
    trader, errors = Trader(activity), []
    tasks = Tasks(clock, activity=activity, on_error=lambda name, error: errors.append(error))
    limits = RequestLimits(tasks)
    client = LocalClient(
        KEY, SECRET, rest_url=f"http://127.0.0.1:{port}", stream_url=f"ws://127.0.0.1:{port}", tasks=tasks, limits=limits,
        headers={"X-Stepped": "1"} if stepped else None,
    )  # fmt: skip
    gateway = Gateway(client, tasks, limits)
    streams = None
    running = asyncio.create_task(trader.run())
    try:
        await gateway.synchronise()
        started = await gateway.load_session(SYMBOLS, venue="sim")
        trader.instrument = started.instruments[0]
        prepared = await gateway.prepare(SYMBOLS, 20)
        assert prepared.leverage == dict.fromkeys(SYMBOLS, 20)
        history = {s: await gateway.klines(s, "3m", exchange.clock.now_ms() - 600_000) for s in SYMBOLS}
        trader.executor = Executor(gateway, tasks, trader.emit, symbols=SYMBOLS, on_alert=lambda alert: None)
        streams = Streams(
            HardenedBSM(client, tasks=tasks), gateway, SYMBOLS, tasks=tasks, emit=trader.emit, settings=settings,
            last_open_ms={s: bars[-1].open_ms for s, bars in history.items()}, on_error=errors.append,
        )  # fmt: skip
        await streams.start()
        yield trader, gateway, streams
    finally:
        if streams is not None:
            await streams.close()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        limits.close()
        await tasks.close()
        await client.close_connection()
        await exchange.close()
    assert errors == []


async def stepped_run(*faults: Fault, minutes: int = 90, seed: int = 3):
    """Replay as fast as it goes; return what the trader saw and what the exchange holds."""
    activity = Activity()
    bars = market(*SYMBOLS, minutes=minutes + 60)
    exchange = Exchange(
        bars, from_ms=bars["BTCUSDT"]["1m"].open_ms[60].item(), seed=seed, activity=activity, stepped=True, api_key=KEY,
        api_secret=SECRET, faults=faults,
    )  # fmt: skip
    settings = StreamSettings(market_silence_ms=200_000, public_silence_ms=200_000)
    async with session(exchange, activity, exchange.clock, stepped=True, settings=settings) as (
        trader,
        gateway,
        streams,
    ):
        exchange.start()
        await exchange.finished()
        while not activity.quiet or not trader.queue.empty():  # noqa: ASYNC110  # what the exchange still had on the way
            await asyncio.sleep(0.001)
        state = exchange.state()
        snapshot = await gateway.snapshot(SYMBOLS, exchange.start_ms)
        return trader, state, snapshot, streams


def books_agree(trader, state, snapshot) -> None:
    """Position, fees and fills are the same on both sides, and nothing was sent twice."""
    held = {p.symbol: p.qty for p in snapshot.positions}
    assert trader.position == held.get("BTCUSDT", D(0))
    assert trader.fees == sum((D(f["commission"]) for f in state["fills"]), D(0))
    assert trader.trades == {f["id"] for f in state["fills"]}
    assert max(Counter(o["clientOrderId"] for o in state["orders"]).values()) == 1
    assert OrderStatus.UNKNOWN not in trader.orders.values()


async def test_a_stepped_replay_ends_with_the_same_books_on_both_sides():
    trader, state, snapshot, streams = await stepped_run()

    books_agree(trader, state, snapshot)
    bars = [e.kline for e in trader.events if isinstance(e, KlineClosed)]
    assert [b.open_ms for b in bars if b.symbol == "BTCUSDT"] == sorted({b.open_ms for b in bars})
    assert len(bars) >= 2 * 29
    assert streams.bars.fetched == 0
    assert len(state["fills"]) > 10
    assert {o["status"] for o in state["orders"]} >= {"FILLED", "CANCELED"}
    assert any(isinstance(e, AccountUpdate) for e in trader.events)
    assert not any(isinstance(e, FeedLost) for e in trader.events)


async def test_two_stepped_replays_are_the_same_to_the_last_event():
    first, first_state, *_ = await stepped_run()
    second, second_state, *_ = await stepped_run()

    assert first.events == second.events
    assert first_state == second_state


@pytest.mark.parametrize(
    "faults",
    [
        [Fault("http_503_executed", "/fapi/v1/order", after=2, count=3)],
        [Fault("http_503_not_executed", "/fapi/v1/order", after=2, count=3)],
        [Fault("http_503_unavailable", "/fapi/v1/*", after=5, count=4)],
        [Fault("http_502_html", "/fapi/v1/order", after=3, count=3)],
        [Fault("http_429", "/fapi/v1/order", after=3, count=2, ms=2_000)],
        [Fault("late_reply", "/fapi/v1/order", after=1, count=3, ms=9_000)],
        [Fault("duplicate_event", "ORDER_TRADE_UPDATE", count=0)],
        [Fault("reorder_events", "/private", after=3, count=20)],
        [Fault("close_sockets", "/private", after=4, ms=1_500)],
        [Fault("close_sockets", "/private", after=9), Fault("close_sockets", "/market", after=40, ms=400_000)],
        [Fault("listen_key_expired", after=50)],
        [Fault("silent_stream", "/market", after=60)],
        [Fault("drop_event", "btcusdt@kline_3m", after=7, count=30)],
    ],
    ids=lambda faults: "+".join(f"{f.fault}{f.path}" for f in faults),
)
async def test_under_every_fault_the_books_agree_and_nothing_is_sent_twice(faults):
    trader, state, snapshot, _ = await stepped_run(*faults)

    assert all(fault.acted for fault in faults)
    books_agree(trader, state, snapshot)
    for symbol in SYMBOLS:
        opens = [e.kline.open_ms for e in trader.events if isinstance(e, KlineClosed) and e.kline.symbol == symbol]
        assert opens == list(range(opens[0], opens[0] + len(opens) * 180_000, 180_000))
        assert len(opens) >= 29


async def test_a_faulty_replay_is_as_repeatable_as_any():
    faults = [
        Fault("listen_key_expired", after=50),
        Fault("silent_stream", "/market", after=90),
        Fault("late_reply", "/fapi/v1/order", after=1, count=3, ms=9_000),
        Fault("http_503_not_executed", "/fapi/v1/order", after=9, count=2),
    ]
    first, first_state, *_ = await stepped_run(*faults)
    second, second_state, *_ = await stepped_run(*[Fault(f.fault, f.path, f.after, f.count, f.ms) for f in faults])

    assert [fault.acted for fault in faults] == [1, 1, 3, 2]
    assert first_state == second_state
    assert first.events == second.events


async def test_an_exchange_that_runs_by_itself_is_traded_on_by_the_wall():
    bars = market(*SYMBOLS, minutes=70)
    exchange = Exchange(
        bars,
        from_ms=bars["BTCUSDT"]["1m"].open_ms[60].item(),
        stepped=False,
        speed=60.0,
        api_key=KEY,
        api_secret=SECRET,
    )
    activity, clock = Activity(), WallClock()
    async with session(exchange, activity, clock, stepped=False, settings=StreamSettings()) as (trader, gateway, _):
        exchange.start()
        began = time.monotonic()
        await exchange.finished()
        await asyncio.sleep(0.3)
        state = exchange.state()
        snapshot = await gateway.snapshot(SYMBOLS, exchange.start_ms)

        assert time.monotonic() - began > 8
        assert clock.replay
        books_agree(trader, state, snapshot)
        assert sum(isinstance(e, KlineClosed) for e in trader.events) >= 4
        assert state["fills"]


async def test_too_many_orders_rest_entries_and_neither_reads_nor_exits():
    exchange = Exchange(
        market(*SYMBOLS, minutes=90),
        from_ms=START + 3_600_000,
        stepped=False,
        speed=1.0,
        api_key=KEY,
        api_secret=SECRET,
    )
    port = await exchange.listen("127.0.0.1", 0)
    tasks = Tasks(WallClock())
    limits = RequestLimits(tasks)
    address = f"127.0.0.1:{port}"
    client = LocalClient(
        KEY, SECRET, rest_url=f"http://{address}", stream_url=f"ws://{address}", tasks=tasks, limits=limits
    )
    gateway = Gateway(client, tasks, limits)
    pauses = []
    limits.on_pause = pauses.append
    entry = PlaceOrder(
        "rbS-en-0-0000001-01-a1",
        "BTCUSDT",
        OrderSide.BUY,
        OrderType.LIMIT,
        D("0.004"),
        price=D(50_000),
        time_in_force=TimeInForce.GTC,
    )
    leave = PlaceOrder(
        "rbS-hx-0-0000001-01-a1", "BTCUSDT", OrderSide.SELL, OrderType.MARKET, D("0.004"), reduce_only=True
    )
    try:
        await gateway.synchronise()
        exchange.limits.ten.roll(exchange.clock.now_ms())
        exchange.limits.ten.used = 300
        while tasks.clock.now_ms() % 10_000 > 7_000:  # noqa: ASYNC110  # the window must not roll meanwhile
            await asyncio.sleep(0.2)

        refused = await gateway.place(entry)
        begun = time.monotonic()
        wallet = await gateway.wallet()
        kept, tried = await gateway.place(entry), await gateway.place(leave)
        took = time.monotonic() - begun

        assert (refused.code, refused.limited) == (-1015, True)
        assert refused.message == "Too many new orders; current limit is 300 orders per 10 SECOND."
        assert (wallet, limits.paused, pauses) == (D(1_000), False, [])
        assert took < 3
        assert kept.message.startswith("not sent")
        assert tried.message == refused.message  # the exchange itself was asked, and will be again
    finally:
        limits.close()
        await tasks.close()
        await client.close_connection()
        await exchange.close()
