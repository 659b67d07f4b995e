"""The order of things around an order, in real time: on record first, sent next, everything else afterwards."""

import asyncio
import sqlite3
from contextlib import closing, suppress

import pytest

from bot.app.loop import Loop
from bot.core.activity import Activity
from bot.core.errors import BotError
from bot.core.events import Funding, KlineClosed
from bot.core.intents import PlaceOrder
from bot.journal import Journal
from bot.report.hub import Hub
from tests.engine_harness import BASE, BTC, started
from tests.test_journal import trade_record

KIND = {"decisions": "code"}


class StillClock:
    """A clock that stands at one time."""

    def __init__(self, now):
        self.now = now

    def now_ms(self):
        return self.now


class Bench:
    """A loop in real time over a journal in a file, an engine that is about to see a signal, and what it sends."""

    def __init__(self, path, *, into_bar_ms=60_000):
        script = started()
        known = len(script.events)
        script.signal()
        self.events = script.events[known:]  # quotes, the legs' bars and the bar with the signal
        self.path = path
        self.journal = Journal(path)
        self.journal.open_session("testnet", "a", resume=False)
        self.sent = []
        self.clock = StillClock(script.now // BASE * BASE + into_bar_ms)
        engine = started().engine
        engine.features = script.rows
        self.loop = Loop(
            engine,
            self.journal,
            self.clock,
            Hub(),
            perform=self.perform,
            told=lambda alert: None,
            activity=Activity(),
        )
        self.loop.realtime = True

    def perform(self, intent, at_ms):
        if isinstance(intent, PlaceOrder):
            self.sent.append((intent, self.on_file("intents"), self.on_file("decisions")))

    def on_file(self, table):
        """What another process reads, and what is left when this one is killed now."""
        with closing(sqlite3.connect(f"{self.path.as_uri()}?mode=ro", uri=True)) as other:
            return [row[0] for row in other.execute(f"SELECT {KIND.get(table, 'type')} FROM {table}")]

    async def until(self, condition):
        for _ in range(500):
            if condition():
                return
            await asyncio.sleep(0.002)
        raise AssertionError("it did not happen within a second")


@pytest.fixture
async def bench(tmp_path):
    bench = Bench(tmp_path / "bot.db")
    pump = asyncio.create_task(bench.loop.run())
    yield bench
    bench.loop.stop()
    with suppress(BotError):
        await asyncio.wait_for(pump, 5)
    bench.journal.close()


async def test_an_order_is_on_file_before_it_is_sent_and_its_decision_afterwards(bench):
    for event in bench.events:
        bench.loop.emit(event)

    await bench.until(lambda: bench.sent)
    (order, intents, decisions), *more = bench.sent

    assert not more
    assert "PlaceOrder" in intents
    assert decisions == []
    await bench.until(lambda: bench.on_file("decisions") == ["entered"])
    assert order.client_id in [o["client_id"] for o in bench.journal.orders(1)]


async def test_events_that_ask_for_no_order_are_on_file_soon(bench):
    legs = [event for event in bench.events if isinstance(event, KlineClosed) and event.kline.symbol != BTC]
    for event in legs:
        bench.loop.emit(event)

    await bench.until(lambda: bench.on_file("events").count("KlineClosed") == len(legs))


async def test_funding_does_not_wait_for_the_next_bar(bench):
    await asyncio.sleep(0)
    bench.loop.emit(Funding(bench.clock.now, BTC, *_funding(bench, BTC)))

    await bench.until(lambda: bench.on_file("events") == ["Funding"])


def _funding(bench, symbol):
    told = bench.loop.engine.market_state.funding[symbol]
    return told.mark, told.rate, told.next_funding_ms, told.interval_hours


async def test_a_journal_that_cannot_be_written_afterwards_ends_the_run(tmp_path, monkeypatch):
    bench = Bench(tmp_path / "bot.db")

    def full():
        raise BotError("the journal cannot be used: disk full")

    monkeypatch.setattr(bench.journal, "settle", full)
    pump = asyncio.create_task(bench.loop.run())
    bench.loop.emit(bench.events[0])

    with pytest.raises(BotError, match="disk full"):
        await asyncio.wait_for(pump, 5)
    monkeypatch.undo()
    bench.journal.close()


@pytest.mark.parametrize(
    ("into_bar_ms", "settled"), [(0, False), (2_999, False), (3_000, True), (177_999, True), (178_000, False)]
)
async def test_nobody_waits_for_the_disk_around_the_end_of_a_bar(tmp_path, into_bar_ms, settled):
    bench = Bench(tmp_path / "bot.db", into_bar_ms=into_bar_ms)
    seq = bench.journal.append_event(bench.events[0])
    bench.journal.append_outputs(seq, [trade_record()])

    bench.loop._store()

    with closing(sqlite3.connect(f"{bench.path.as_uri()}?immutable=1", uri=True)) as only_the_file:
        assert only_the_file.execute("SELECT count(*) FROM trades").fetchone() == (int(settled),)
    assert bench.on_file("events") == [type(bench.events[0]).__name__]
    bench.journal.close()
