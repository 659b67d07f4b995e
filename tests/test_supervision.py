"""No exception ends a process that holds a position: it is reported once, entries rest, and what it was for goes on."""

import asyncio
import itertools
from decimal import Decimal as D
from types import SimpleNamespace

import pytest

from bot.app import recovery, supervision
from bot.app.halt import Halt
from bot.app.supervision import Supervision
from bot.core.errors import BotError
from bot.core.events import CancelRejected, FeedLost, FeedRestored, OrderUpdate
from bot.core.intents import CancelOrder, PlaceOrder, RequestSnapshot
from bot.core.types import OrderSide, OrderStatus, OrderType
from bot.execution.clock import WallClock
from bot.execution.executor import Executor
from bot.execution.limits import RequestLimits
from bot.execution.outcomes import Accepted
from bot.execution.tasks import Tasks
from bot.jobs import Repeat
from tests.engine_harness import BTC
from tests.test_loop import Bench

ORDER = PlaceOrder("rbT-sl-1-1", BTC, OrderSide.SELL, OrderType.MARKET, D(1), reduce_only=True)


@pytest.fixture
def watched():
    events, told = [], []
    watch = Supervision(emit=events.append, tell=told.append, now_ms=lambda: 1, calm_s=0.3)
    return watch, events, told


async def until(condition, seconds=5.0):
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 — timers and tasks are waited for
            await asyncio.sleep(0.01)


async def test_a_failure_is_told_once_counted_and_entries_rest_until_it_is_calm(watched):
    watch, events, told = watched
    for _ in range(3):
        watch.failed("snapshot", KeyError("x"))
        await asyncio.sleep(0.1)
    assert [a.level for a in told] == ["critical"]
    assert [type(e) for e in events] == [FeedLost]
    assert watch.resting == {"snapshot": "it failed: KeyError"}
    await until(lambda: len(told) == 2)

    assert events == [FeedLost(1, "task: snapshot", "it failed: KeyError"), FeedRestored(1, "task: snapshot")]
    assert told[1].text == "snapshot runs again; it had failed 3 times"


async def test_what_only_shows_something_rests_nothing(watched):
    watch, events, told = watched
    with watch.guarded("chart", rests=False):
        raise ValueError("x")

    assert events == []
    assert told[0].text == "chart failed (ValueError: x): trading goes on"
    watch.close()


async def test_an_order_in_a_tasks_name_makes_no_failure_of_its_own(watched):
    watch, _, told = watched
    for n in range(3):
        watch.task_failed(f"send rbT-sl-{n}-1", KeyError("x"))

    assert [a.text.partition(" (")[0] for a in told] == ["send failed"]
    watch.close()


async def test_what_has_to_run_is_started_anew_after_growing_pauses(watched, monkeypatch):
    monkeypatch.setattr(supervision, "PAUSES_S", (0.02, 0.1))
    watch, _, told = watched
    starts = []

    async def work():
        starts.append(asyncio.get_running_loop().time())
        if len(starts) < 4:
            raise RuntimeError("x")

    await watch.keep("terminal", work, rests=False)

    pauses = [b - a for a, b in itertools.pairwise(starts)]
    assert pauses[0] >= 0.02
    assert all(pause >= 0.1 for pause in pauses[1:])
    assert len(told) == 1
    watch.close()


async def test_a_call_in_the_background_that_fails_is_told_and_a_broken_line_is_not(watched):
    watch, _, told = watched
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(watch.catch)
    loop.call_soon(lambda: 1 / 0)
    await until(lambda: told)
    loop.call_exception_handler({"message": "Fatal error on transport", "exception": OSError("gone")})

    assert len(told) == 1
    assert "ZeroDivisionError" in told[0].text
    watch.close()


async def test_one_failure_is_no_end_of_a_timetable():
    calls = []

    def act():
        calls.append(1)
        raise RuntimeError("x")

    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    job = Repeat(WallClock(), lambda: 0.02, act)
    await until(lambda: len(calls) >= 3)
    job.cancel()


# The loop


@pytest.mark.parametrize("part", ["append_event", "append_outputs", "commit"])
async def test_whatever_the_journal_raises_the_order_goes_out(tmp_path, monkeypatch, part):
    bench, failures = Bench(tmp_path / "bot.db"), []
    bench.loop._failed = lambda name, error, rests: failures.append((name, rests))
    monkeypatch.setattr(bench.journal, part, lambda *a, **k: 1 / 0)
    pump = asyncio.create_task(bench.loop.run())
    for event in bench.events:
        bench.loop.emit(event)
    await bench.until(lambda: bench.sent and failures)
    await asyncio.sleep(0.05)
    bench.loop.stop()
    await asyncio.wait_for(pump, 5)

    assert set(failures) == {("recording", True)}
    assert len(bench.sent) == 1
    monkeypatch.undo()
    bench.journal.close()


async def test_whatever_a_watcher_or_a_sender_raises_the_next_event_is_handled(tmp_path):
    bench, failures = Bench(tmp_path / "bot.db"), []
    bench.loop._failed = lambda name, error, rests: failures.append((name, rests))
    bench.loop._perform = lambda intent, at_ms: 1 / 0
    bench.loop.on_bar = lambda event: 1 / 0
    bench.loop.hub.publish = lambda *items: 1 / 0
    pump = asyncio.create_task(bench.loop.run())
    for event in bench.events:
        bench.loop.emit(event)
    await bench.until(lambda: bench.loop.handled == len(bench.events))
    bench.loop.stop()
    await asyncio.wait_for(pump, 5)

    assert set(failures) == {("doing what the engine wants", True), ("comparing bars", True), ("showing", False)}
    bench.journal.close()


# Orders, cancels, snapshots


class Venue:
    """A gateway of which each part may be made to raise."""

    def __init__(self, tasks):
        self.limits = RequestLimits(tasks)
        self.calls = []

    async def place(self, intent):
        raise AttributeError("planted")

    async def cancel(self, intent, *, known=None):
        raise AttributeError("planted")

    async def query(self, client_id, symbol, *, algo):
        self.calls.append(client_id)
        update = OrderUpdate(5, client_id, symbol, OrderStatus.FILLED, OrderSide.SELL, D(1), D(1), D(9))
        return Accepted(None, update)

    async def snapshot(self, symbols, since_ms, *, income_since_ms=0):
        self.calls.append("snapshot")
        if len(self.calls) < 2:
            raise KeyError("planted")
        return SimpleNamespace(at_ms=7)


@pytest.fixture
async def shell():
    failures, events, alerts = [], [], []
    tasks = Tasks(WallClock(), on_error=lambda name, error: failures.append(name))
    executor = Executor(Venue(tasks), tasks, events.append, symbols=(BTC,), on_alert=alerts.append)
    yield SimpleNamespace(executor=executor, failures=failures, events=events, alerts=alerts, tasks=tasks)
    executor.close()
    await tasks.close()


async def test_an_order_whose_sending_fails_is_unknown_and_looked_up_at_once(shell):
    shell.executor.perform(ORDER)
    await until(lambda: len(shell.events) == 2)

    assert [e.status for e in shell.events] == [OrderStatus.UNKNOWN, OrderStatus.FILLED]
    assert "planted" in shell.events[0].reason
    assert shell.failures == [f"send {ORDER.client_id}"]
    assert shell.executor.submission.placing == {}


async def test_an_order_whose_following_fails_is_unknown_and_looked_up(shell):
    async def broken(placing, reason):
        raise ZeroDivisionError

    shell.executor.submission._search = broken
    shell.executor.perform(ORDER)
    await until(lambda: len(shell.events) == 2)

    assert [e.status for e in shell.events] == [OrderStatus.UNKNOWN, OrderStatus.FILLED]
    assert f"follow {ORDER.client_id}" in shell.failures
    assert shell.executor.submission.placing == {}


async def test_a_cancel_that_fails_is_answered(shell):
    shell.executor.perform(CancelOrder("rbT-sl-1-1", BTC))
    await until(lambda: shell.events)

    assert isinstance(shell.events[0], CancelRejected)
    assert "the cancel failed: AttributeError: planted" in shell.events[0].reason
    shell.executor.perform(CancelOrder("rbT-sl-1-1", BTC))
    await until(lambda: len(shell.events) == 2)


async def test_a_snapshot_that_fails_for_whatever_reason_is_read_again(shell):
    shell.executor.perform(RequestSnapshot("x"))
    await until(lambda: shell.events)

    assert shell.events[0].at_ms == 7
    assert shell.failures == ["snapshot"]
    assert len(shell.alerts) == 1


async def test_what_was_not_performed_is_answered_a_little_later(shell):
    shell.executor.not_performed(ORDER, "x")
    shell.executor.not_performed(CancelOrder("a", BTC), "x")
    shell.executor.not_performed(RequestSnapshot("x"), "x")
    assert shell.events == []
    await until(lambda: len(shell.events) == 2)

    assert shell.events[0].status is OrderStatus.REJECTED
    assert isinstance(shell.events[1], CancelRejected)


# Closing, starting


async def test_nothing_that_fails_ends_the_closing_after_a_halt(monkeypatch):
    monkeypatch.setattr("bot.app.halt.PAUSES_MS", (10,))
    told, tries, failures = [], [], []

    async def close():
        tries.append(1)
        if len(tries) < 3:
            raise KeyError("planted")
        return SimpleNamespace(flat=True, words=lambda: "")

    tasks = Tasks(WallClock(), on_error=lambda name, error: failures.append(name))
    halt = Halt(tasks, close=close, tell=told.append)
    halt.start(KeyError("x"))
    await until(lambda: halt.flat)

    assert len(tries) == 3
    assert failures == ["halt", "halt"]


class Starting(recovery.Recovery):
    """As much of a start as waiting needs."""

    def __init__(self, *, left_open):
        self.told, self.performed = [], []
        self.venue = SimpleNamespace(resume=True, clock=SimpleNamespace(now_ms=lambda: 1))
        self.engine = SimpleNamespace(flat=True)
        self.believed, self.left_open, self._pump = True, left_open, object()
        self.tasks = Tasks(WallClock())

    def _own_alert(self, alert):
        self.told.append(alert)

    def _perform(self, intent, at_ms):
        self.performed.append(intent)


@pytest.mark.parametrize("error", [BotError("no answer"), KeyError("x")])
async def test_a_start_with_something_open_waits_for_what_it_reads_and_one_without_ends(monkeypatch, error):
    monkeypatch.setattr(recovery, "PAUSES_S", (0.01,))
    tries = []

    async def read():
        tries.append(1)
        if len(tries) < 4:
            raise error
        return "read"

    start = Starting(left_open=True)
    assert await start.patiently("account", read) == "read"
    assert len(tries) == 4
    assert len(start.told) == 2  # at the first failure and the third
    assert [type(i) for i in start.performed] == [RequestSnapshot] * 3
    tries.clear()
    with pytest.raises(type(error)):
        await Starting(left_open=False).patiently("account", read)
