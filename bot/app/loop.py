"""The engine's only event queue: write ahead, handle, execute.

One event at a time: it is journalled, the engine handles it, the engine's intents are journalled and committed, and only then
executed. Quotes and funding rates are coalesced: the latest are fed right before any other event, and once a second while a
position or a setup is open, so that the journal holds all that a decision could have read and little more.

In real time (`realtime`) nothing that can be done later delays a bar's order: records, observers, the commit of events without
orders, and garbage collection are deferred by some milliseconds, the wait for the disk until no bar is about to close; funding,
which comes once a minute, is handled when it arrives and not together with the next bar.
"""

import asyncio
import gc
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from bot.core.activity import Activity
from bot.core.clock import Clock
from bot.core.errors import InvariantError
from bot.core.events import Command, Event, Funding, KlineClosed, Quotes
from bot.core.intents import Alert, CancelOrder, Intent, PlaceOrder, SetLeverage
from bot.core.klines import Aggregator
from bot.core.records import Decision, EquityPoint, NakedSpell, TradeRecord
from bot.core.types import Kline, Quote
from bot.engine import BASE_MS, Engine, Output
from bot.journal import Journal
from bot.report.hub import Hub

log = structlog.get_logger("bot")
HIGHER_MS = 900_000
URGENT = (PlaceOrder, CancelOrder, SetLeverage)
TOLD = (Decision, EquityPoint, TradeRecord, NakedSpell, Alert)
AFTERWARDS_S = 0.01  # longer than it takes to send
BEFORE_BAR_MS, AFTER_BAR_MS = 2_000, 3_000  # no wait for the disk around the close of a bar
QUOTE_PACE_MS = 1_000  # how often quotes are fed while a position or setup is open


class Loop:
    """The engine's only event queue.

    Parameters
    ----------
    perform
        Called with every intent and the time of the event it answers, after it has been journalled and committed.
    told
        Called with every alert of the engine.
    activity
        Counts queued events, so that a stepped exchange waits for them.
    halt
        Called at the first violated invariant; from then on events are only journalled.
    failed
        Called with the name and exception of a failure outside the engine (recording, sending, observing), and whether
        entries should pause for it; the loop continues. None raises it out of `run`.
    """

    def __init__(
        self,
        engine: Engine,
        journal: Journal,
        clock: Clock,
        hub: Hub,
        *,
        perform: Callable[[Intent, int], None],
        told: Callable[[Alert], None],
        activity: Activity,
        halt: Callable[[InvariantError], None] | None = None,
        failed: Callable[[str, Exception, bool], None] | None = None,
    ) -> None:
        self.engine = engine
        self.journal = journal
        self.clock = clock
        self.hub = hub
        self.activity = activity
        self.handled = 0
        self.last_ms = 0  # time of the newest event
        self.cross_checked = 0  # higher bars compared with the exchange's own
        self.cross_mismatches = 0
        self._aggregators: dict[str, Aggregator] = {}
        self._ours: dict[tuple[str, int], Kline] = {}
        self._theirs: dict[tuple[str, int], Kline] = {}
        self.broken: InvariantError | None = None
        self.on_bar: Callable[[KlineClosed], None] | None = None  # called with each handled bar, after all that matters
        self.on_spell: Callable[[NakedSpell], None] | None = None  # called with each period without a full stop
        self._perform = perform
        self._told = told
        self._halted = halt
        self._failed = failed
        self.realtime = (
            False  # whether work that no order needs is deferred until orders are sent: in real time, not in a replay
        )
        self._waiting: deque[tuple[int, Event, list[Output]]] = deque()
        self._afterwards: asyncio.TimerHandle | None = None
        self._failure: Exception | None = None  # of deferred work
        self._queue: deque[Event] = deque()
        self._wake = asyncio.Event()
        self._quotes: dict[str, Quote] = {}
        self._quotes_ms = 0
        self._fed_ms = 0
        self._funding: dict[str, Funding] = {}
        self._running = False
        self._stopping = False

    def emit(self, event: Event) -> None:
        """Queue an event; quotes and funding are held back until they can matter."""
        if isinstance(event, Quotes):
            self._quotes.update(event.quotes)
            self._quotes_ms = max(self._quotes_ms, event.at_ms)
            if not self.engine.wants_quotes or event.at_ms - self._fed_ms < QUOTE_PACE_MS:
                return
            self._fed_ms = event.at_ms
            event = self._latest_quotes()
        elif isinstance(event, Funding) and not (self.realtime and self._running):
            self._funding[event.symbol] = event
            return
        self.activity.begin()
        self._queue.append(event)
        self._wake.set()

    async def run(self) -> None:
        """Handle events until `stop`; raises the failure of deferred work if there is no `failed`."""
        self._running = True
        while True:
            while self._queue:
                event = self._queue.popleft()
                try:
                    with self._guarded("handling an event"):
                        self._deliver(event)
                finally:
                    self.activity.end()
            if self._stopping:
                with self._guarded("recording"):
                    self._catch_up()
                return
            if self.realtime:
                self._later()  # the next bar with this close time may be in flight
            else:
                with self._guarded("recording"):
                    self._store()
            self._wake.clear()
            await self._wake.wait()
            if self._failure is not None:
                raise self._failure

    @contextmanager
    def _guarded(self, name: str, *, rests: bool = True) -> Iterator[None]:
        """Pass an exception to `failed` and continue, or raise it if there is none."""
        try:
            yield
        except Exception as error:
            if self._failed is None:
                raise
            self._failed(name, error, rests)

    def _store(self) -> None:
        """Commit what was handled; wait for the disk only without a position and between bars."""
        into_bar_ms = self.clock.now_ms() % BASE_MS
        if self.engine.wants_quotes or (self.realtime and not AFTER_BAR_MS <= into_bar_ms < BASE_MS - BEFORE_BAR_MS):
            self.journal.commit()
        else:
            self.journal.settle()

    def _later(self) -> None:
        """Schedule deferred writes; anything lost in a crash is recovered by reconciliation."""
        if self._afterwards is None:
            self._afterwards = asyncio.get_running_loop().call_later(AFTERWARDS_S, self._on_time)

    def _on_time(self) -> None:
        try:
            with self._guarded("recording"):
                self._catch_up()
        except Exception as error:  # without `failed` it ends `run`, as any failure there
            self._failure = error
            self._wake.set()

    @property
    def idle(self) -> bool:
        """Whether the queue is empty."""
        return not self._queue

    def stop(self) -> None:
        """End `run` once the queue is empty."""
        self._stopping = True
        self._wake.set()

    def _latest_quotes(self) -> Quotes:
        latest = Quotes(self._quotes_ms, tuple(sorted(self._quotes.items())))
        self._quotes = {}
        return latest

    def _deliver(self, event: Event) -> None:
        for symbol in sorted(self._funding):
            self.handle(self._funding[symbol])
        self._funding.clear()
        if self._quotes and not isinstance(event, Quotes | Funding):
            self.handle(self._latest_quotes())
        self.handle(event)

    def handle(self, event: Event) -> None:
        """Journal one event, let the engine handle it, journal its outputs, then execute its intents."""
        self.last_ms = max(self.last_ms, event.at_ms)
        seq = 0  # if the event cannot be recorded
        with self._guarded("recording"):
            seq = self.journal.append_event(event)
        if self.broken is not None:
            self.hub.publish(event)
            return
        try:
            outputs = self.engine.handle(event)
        except Exception as error:  # any exception is our own bug: the engine's state is no longer trusted
            self._halt(error)
            return
        self.handled += 1
        urgent = any(isinstance(output, URGENT) for output in outputs)
        later = self.realtime and (urgent or bool(self._waiting))
        with self._guarded("recording"):
            if seq:
                self.journal.append_outputs(seq, outputs, records=not later)
            if urgent or isinstance(event, Command):
                # An order is on record before the exchange can know it, an operator's command at once.
                self.journal.commit()
        for output in outputs:
            if not isinstance(output, TOLD):
                with self._guarded("doing what the engine wants"):
                    self._perform(output, event.at_ms)
        if not later:
            self._tell(event, outputs)
            return
        self._waiting.append((seq, event, outputs))
        self._later()

    def _catch_up(self) -> None:
        """Record and publish what was deferred until the orders were sent."""
        if self._afterwards is not None:
            self._afterwards.cancel()
            self._afterwards = None
        while self._waiting:
            seq, event, outputs = self._waiting.popleft()
            with self._guarded("recording"):
                if seq:
                    self.journal.append_outputs(seq, outputs, intents=False)
            self._tell(event, outputs)
        self._store()
        if self.realtime:
            gc.collect(1)  # else it might run by itself between a bar and its order

    def _tell(self, event: Event, outputs: list[Output]) -> None:
        """Notify all observers; a failure there affects nothing else."""
        with self._guarded("showing", rests=False):
            for output in outputs:
                if isinstance(output, NakedSpell) and self.on_spell is not None:
                    self.on_spell(output)
                elif isinstance(output, Alert):
                    self._told(output)
        with self._guarded("comparing bars"):
            if isinstance(event, KlineClosed) and not event.early:
                self._compare_higher(event.kline)
                if self.on_bar is not None:
                    self.on_bar(event)
        with self._guarded("showing", rests=False):
            self.hub.publish(event, *outputs)

    def cross_check(self, bar: Kline) -> None:
        """Compare the exchange's own 15m bar with ours, built from base bars; a mismatch is logged and counted."""
        self._theirs[bar.symbol, bar.open_ms] = bar
        self._compare(bar.symbol, bar.open_ms)

    def _compare_higher(self, bar: Kline) -> None:
        aggregator = self._aggregators.setdefault(bar.symbol, Aggregator(bar.interval_ms, HIGHER_MS))
        higher = aggregator.push(bar)
        if higher is not None:
            self._ours[bar.symbol, higher.open_ms] = higher
            self._compare(bar.symbol, higher.open_ms)

    def _compare(self, symbol: str, open_ms: int) -> None:
        ours, theirs = self._ours.get((symbol, open_ms)), self._theirs.get((symbol, open_ms))
        for kept in (self._ours, self._theirs):
            while len(kept) > 64:  # bars that the other side never delivers
                del kept[next(iter(kept))]
        if ours is None or theirs is None:
            return
        self.cross_checked += 1
        if ours[3:7] != theirs[3:7]:
            self.cross_mismatches += 1
            log.warning("the exchange's 15m bar differs from ours", symbol=symbol, ours=ours[2:8], theirs=theirs[2:8])
        del self._ours[symbol, open_ms], self._theirs[symbol, open_ms]

    def _halt(self, error: Exception) -> None:
        """Stop calling the engine after our own bug; the `halt` callback closes by rule and alerts the operator."""
        broken = error if isinstance(error, InvariantError) else InvariantError(f"{type(error).__name__}: {error}")
        log.critical(
            "our own bug: the bot halts",
            error=str(broken),
            at_ms=self.clock.now_ms(),
            exc_info=None if error is broken else error,
        )
        self.broken = broken
        with self._guarded("recording"):
            self.journal.commit()
        if self._halted is not None:
            self._halted(broken)
