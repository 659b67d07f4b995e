"""`run`: assemble the packages for a venue, bring the engine up to date, and run until the end or a stop.

Start-up and recovery are the same path: open the journal session, replay it, feed the klines that it lacks, open the streams
(their events wait in the queue), reconcile with the exchange's snapshot, and only then handle the queued events. After a
restart with something open, the account is additionally reconciled before all that.

No exception ends the process while it may hold a position: see `supervision`. It ends on a request to stop, at the end of a
replay, or when the journal stays unwritable; its last sentence is read back from the exchange.
"""

import asyncio
import gc
import json
import sys
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, cast

import structlog

from bot.app.connection import Addresses, Connection
from bot.app.flatten import Standing, flatten_venue, standing
from bot.app.halt import Halt
from bot.app.journal_watch import JOURNAL, PATIENCE_S, WAIT_MS, JournalWatch
from bot.app.loop import Loop
from bot.app.measures import Measures
from bot.app.opening import open_journal, reach, when_free
from bot.app.options import RunOptions
from bot.app.recovery import Recovery
from bot.app.setup import compile_kernels, configure_logging, interrupted
from bot.app.showing import Showing
from bot.app.shutdown import shelter
from bot.app.supervision import Supervision
from bot.app.upkeep import Upkeep, upkeep_of
from bot.app.venues import TradingVenue, preflight
from bot.config import Config
from bot.core.errors import BotError, InvariantError, WireError
from bot.core.events import AccountSnapshot, Command, FeedLost, FeedRestored
from bot.core.intents import Alert, PlaceOrder, RequestSnapshot
from bot.core.printable import visible_json
from bot.core.types import Instrument, Kline
from bot.core.words import positions
from bot.engine import BASE_MS
from bot.execution.client import HardenedBSM, LocalClient
from bot.execution.clock import WallClock
from bot.execution.executor import SNAPSHOT_OVERLAP_MS, Executor
from bot.execution.gateway import Gateway
from bot.execution.limits import RequestLimits
from bot.execution.stamps import Decisions
from bot.execution.streams import Streams
from bot.execution.tasks import Tasks
from bot.execution.wire import is_exit
from bot.jobs import Repeat
from bot.journal import Journal, Session
from bot.market.events_calendar import load_calendar
from bot.market.paths import data_folder, project_file
from bot.orders.ids import parse
from bot.report.compared import Compared
from bot.report.consoles import console
from bot.report.hub import Hub
from bot.report.ledger import FOLDER, RepaintLedger, forget
from bot.report.live import Live
from bot.report.progress import say
from bot.report.session import render
from bot.report.terminal import Terminal

log = structlog.get_logger("bot")
REST = "rest"  # the feed reported lost while the exchange accepts no requests
LAST_LOOK_S = 5.0  # timeout for reading back what is left at the end
CLOCK_READINGS = 5  # of the exchange's clock, for a good median
SESSIONS_KEPT = 5  # replays whose event streams stay in the journal


async def run_bot(config: Config, options: RunOptions) -> int:
    """Run the bot with the command line's options; return the exit code."""
    quiet = options.quiet or options.json
    logs = data_folder() / "logs" if options.venue != "sim" else None
    configure_logging(options.log_format, quiet=quiet, debug=options.debug, folder=logs)
    preflight(config, options.venue)
    async with AsyncExitStack() as stack:
        journal = stack.enter_context(await open_journal(data_folder() / "bot.db", sync=config.journal.sync))
        compile_kernels(config, quiet=quiet)
        venue = await reach(config, options, journal, stack)
        bot = Bot(config, options, venue, journal)
        stack.push_async_callback(bot.close)
        await bot.start()
        return await bot.run(stack)


class Bot(Showing, Recovery):
    """The running bot, from `start` to the end of `run`.

    Parameters
    ----------
    options
        How `run` was called.
    venue
        The connected venue.
    journal
        The open journal.
    """

    def __init__(self, config: Config, options: RunOptions, venue: TradingVenue, journal: Journal) -> None:
        self.config = config
        self.options = options
        self.venue = venue
        self.journal = journal
        self.hub = Hub()
        self.quiet = options.quiet or options.json
        self.symbols = config.data.symbols
        calendar = tuple((e.ms, e.name, e.impact) for e in load_calendar(project_file(config.events.file)))
        self.calendar = calendar
        self.engine = self.new_engine(venue.in_wall_time(config))
        self.measures = Measures()
        self.decisions = Decisions(self._decided)
        self.supervision = Supervision(
            emit=lambda event: self.loop.emit(event), tell=self._own_alert, now_ms=venue.clock.now_ms
        )
        self.tasks = Tasks(venue.clock, activity=venue.activity, on_error=self.supervision.task_failed)
        self.limits = RequestLimits(self.tasks)
        self.client = LocalClient(
            venue.credentials.api_key,
            venue.credentials.secret,
            private_key=venue.credentials.private_key,
            rest_url=venue.rest_url,
            stream_url=venue.stream_url,
            tasks=self.tasks,
            limits=self.limits,
            headers=venue.headers,
            decisions=self.decisions,
        )
        self.limits.on_pause = self._paused
        self.sockets = HardenedBSM(self.client, tasks=self.tasks)
        self.gateway = Gateway(self.client, self.tasks, self.limits)
        self.upkeep: Upkeep | None = None
        self.executor: Executor | None = None
        self.streams: Streams | None = None
        self.session: Session | None = None
        self.instruments: dict[str, Instrument] = {}
        self.believed, self.left_open = True, False
        self.left = ""  # what the exchange held at the end
        self.failure: BaseException | None = None
        self.stopped = asyncio.Event()
        self.loop = Loop(
            self.engine,
            journal,
            venue.clock,
            self.hub,
            perform=self._perform,
            told=self._log_alert,
            activity=venue.activity,
            halt=self._broken,
            failed=lambda name, error, rests: self.supervision.failed(name, error, rests=rests),
        )
        replay = venue.name == "sim"  # its market waits for the journal, and its account ends with the process
        self.journal_watch = JournalWatch(
            journal,
            emit=self.loop.emit,
            tell=self._own_alert,
            now_ms=venue.clock.now_ms,
            give_up=self._give_up,
            patience_s=0.0 if replay else PATIENCE_S,
            wait_ms=5_000 if replay else WAIT_MS,
        )
        self.halt = Halt(self.tasks, close=self._close_everything, tell=self._own_alert)
        self.loop.on_spell = self.measures.take
        self.loop.realtime = isinstance(venue.clock, WallClock)
        self.live = Live(config, decision=self._decision_on)
        self.ledger: RepaintLedger | None = None
        self.compared = Compared(data_folder())
        self.loop.on_bar = self._bar
        self.terminal: Terminal | None = None
        self._view: asyncio.Task[None] | None = None
        self._jobs: list[Repeat] = []
        self._pump: asyncio.Task[None] | None = None  # the loop's run

    # Start -------------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Bring the engine up to date with journal, klines and exchange, and open the streams.

        With something open, it is protected first (`Recovery.look_first`), and entries wait until the start is complete.
        Otherwise no stream event is handled before `run`.
        """
        asyncio.get_running_loop().set_exception_handler(self.supervision.catch)
        self.left_open = self.venue.resume and self.journal.left_open(self.venue.name)
        await self._read_clock(1 if self.venue.resume else CLOCK_READINGS)
        last_open = await when_free(self.take_up_session)
        executor = self.executor = Executor(
            self.gateway,
            self.tasks,
            self.loop.emit,
            symbols=self.symbols,
            on_alert=self._own_alert,
            on_snapshot=self._audit,
            since_ms=max(self.loop.last_ms - SNAPSHOT_OVERLAP_MS, 0) or None,
        )
        looked_ms, read = await self.look_first()
        if looked_ms:
            self._pump = self.supervision.keep("queue", self.loop.run)
        if self.venue.resume:
            await self._read_clock(CLOCK_READINGS)
        session = read
        if session is None:
            session = await self.patiently(
                "instruments", lambda: self.gateway.load_session(self.symbols, venue=self.venue.name)
            )
        if not looked_ms:
            self.loop.handle(session)
        await self.prepare()
        last_open = last_open or await self.load_history()
        # Bars missed while the bot was down wait in the queue, after the snapshot.
        await self.patiently("streams", lambda: self._open_streams(last_open))
        since_ms = executor.since_ms
        snapshot = await self.patiently("account", lambda: self.gateway.snapshot(self.symbols, since_ms))
        if looked_ms:
            self.loop.handle(replace(session, at_ms=looked_ms))  # the session began when the account was first read
            self._tell_losses()
        self.loop.handle(snapshot)
        for intent in self.engine.resume():
            self._perform(intent, self.venue.clock.now_ms())
        self.limits.release_entries()

    async def _read_clock(self, samples: int) -> None:
        await self.patiently("clock", lambda: self.gateway.synchronise(samples=samples))

    async def _open_streams(self, last_open: dict[str, int]) -> None:
        streams = Streams(
            self.sockets,
            self.gateway,
            self.symbols,
            tasks=self.tasks,
            emit=self._from_streams,
            settings=replace(self.venue.stream_settings(), early=self.config.data.bar_close == "early"),
            last_open_ms=last_open,
            on_cross_check=self._cross_check,
            on_error=self._unreadable,
            decisions=self.decisions,
        )
        try:
            await streams.start()
        except BaseException:
            await streams.close()
            raise
        self.streams = streams

    def _tell_losses(self) -> None:
        """Report to the engine which feeds are lost now: it forgets them at the beginning of a session."""
        now = self.venue.clock.now_ms()
        for name in self.streams.lost if self.streams is not None else ():
            self.loop.handle(FeedLost(now, name, "lost while starting"))
        if self.limits.paused:
            self.loop.handle(FeedLost(now, REST, "the exchange asked for a pause"))
        if self.journal_watch.reason:
            self.loop.handle(FeedLost(now, JOURNAL, self.journal_watch.reason))
        for name, reason in self.supervision.resting.items():
            self.loop.handle(FeedLost(now, f"task: {name}", reason))

    # Run ---------------------------------------------------------------------------------------------------------------

    async def run(self, stack: AsyncExitStack) -> int:
        """Handle events until the replay ends or a stop is requested; return the exit code.

        Raises
        ------
        BotError
            The bot stopped because of a failure.
        """
        await self._open_views(stack)
        try:
            self._start_jobs()
        except BotError as error:
            if self.engine.flat:
                raise
            self.supervision.failed("timetable", error)
        # Loaded objects stay: frozen out of garbage collection, they do not lengthen its pauses.
        gc.collect()
        gc.freeze()
        pump = self._pump = self._pump or self.supervision.keep("queue", self.loop.run)
        asked = asyncio.create_task(interrupted(), name="signals")
        broken = asyncio.create_task(self.stopped.wait(), name="failure")
        self.venue.start()
        over = asyncio.create_task(self._over(), name="replay")
        await asyncio.wait((pump, asked, broken, over), return_when=asyncio.FIRST_COMPLETED)
        ended = over.done() and over.exception() is None
        if ended and not self.options.once and not asked.done():
            say("the replay has ended; the dashboard stays, Ctrl-C leaves", quiet=self.quiet)
            await asyncio.wait((pump, asked, broken), return_when=asyncio.FIRST_COMPLETED)
        for job in self._jobs:
            job.cancel()
        self.loop.emit(Command(self.venue.clock.now_ms(), "end_of_data" if ended else "shutdown"))
        if not ended:
            await shelter(self, pump, close=self._close_everything, tell=self._own_alert)
        self.loop.stop()
        await asyncio.wait([pump], timeout=5)
        if pump.done() and not pump.cancelled():
            self.failure = self.failure or pump.exception()
        tasks = (pump, asked, broken, over)
        for task in tasks:
            if not task.done():
                task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        await self._finish(ended=ended)
        for result in results:
            if isinstance(result, Exception):
                raise result
        if self.failure is not None:
            raise BotError(f"stopped: {self.ending()}")
        return 0 if ended else results[1] if isinstance(results[1], int) else 1

    def ending(self) -> str:
        """Return why the bot stops, and what the exchange held at that time."""
        failure = self.failure
        why = str(failure) if isinstance(failure, BotError) else f"{type(failure).__name__}: {failure}"
        return f"{why}; {self.left}" if self.left else why

    async def _over(self) -> None:
        """Wait for the end of the replay; for ever at any other venue."""
        if self.venue.finished is None:
            await asyncio.Event().wait()
            return
        await self.venue.finished()

    def _start_jobs(self) -> None:
        clock, jobs = self.venue.clock, self.config.jobs

        # A replay reconciles a flat account less often.
        idle = 1 if isinstance(clock, WallClock) and not clock.replay else 10

        def pace() -> float:
            return jobs.reconcile_seconds * (1 if self.engine.wants_quotes else idle)

        self._jobs.append(Repeat(clock, pace, lambda: self._perform(RequestSnapshot("timetable"), clock.now_ms())))
        if isinstance(clock, WallClock):
            self._jobs.append(
                Repeat(
                    clock,
                    lambda: jobs.clock_seconds,
                    self._begin_synchronising,
                )
            )

        self.upkeep = upkeep_of(self, alert=self._own_alert, command=self._command)
        if self.upkeep is not None:
            self.upkeep.start()

    def _begin_synchronising(self) -> None:
        self.tasks.spawn(self._synchronise(), name="clock")

    async def _synchronise(self) -> None:
        try:
            await self.gateway.synchronise()
        except BotError as error:
            log.warning("clock not synchronised", error=str(error))

    async def _finish(self, *, ended: bool) -> None:
        """Close the session and print its report if requested."""
        assert self.session is not None
        assert self.ledger is not None
        await self._close_terminal()
        with self.supervision.guarded("repaint ledger", rests=False):
            self._told_miss(self.ledger.finish())
        with self.supervision.guarded("journal", rests=False):
            self._end_session()
        if self.venue.resume:
            self.left = await self._left_behind()
            say(self.left, quiet=False)
        if not (self.options.once and ended):
            return
        report = self.report()
        if self.options.json:
            print(visible_json(json.dumps(report, indent=2, default=str)))
            return
        console(file=sys.stdout).print(render(report))

    def _end_session(self) -> None:
        """End the session of an account that ends with the process; leave any other open."""
        if not self.venue.resume:
            self.journal.end_session(self.venue.clock.now_ms())
            self.journal.forget(venue=self.venue.name, keep=SESSIONS_KEPT)
            old = [s["id"] for s in self.journal.sessions() if s["venue"] == self.venue.name][:-SESSIONS_KEPT]
            forget(data_folder() / FOLDER, old)
        self.journal.commit()

    async def _left_behind(self) -> str:
        """Read back what the exchange holds, for the last sentence; our own book is used only if that fails."""
        name = self.venue.name
        again = f"`run` takes it up again, `flatten --venue {name}` closes it"
        try:
            async with asyncio.timeout(LAST_LOOK_S):
                found = await standing(self._line(), self.symbols)
        except Exception as error:
            held = {b.symbol: b.side.sign * b.held for b in self.engine.portfolio.brackets() if b.held}
            book = positions(held.items()) or "nothing"
            why = str(error) or f"no answer within {LAST_LOOK_S:.0f} s"
            return f"{name} cannot be read at the end ({why}); by the bot's own book it holds {book}: {again}"
        if found.flat:
            return f"{name} is flat: no position, no order"
        if not found.positions:
            return f"{name} has no position; {len(found.orders)} orders rest there: {again}"
        held_there = positions((p.symbol, p.qty) for p in found.positions)
        bare = {p.symbol for p in found.positions} - {o.symbol for o in found.orders if o.algo}
        stops = f"{', '.join(sorted(bare))} has NO stop" if bare else "stops rest on the exchange"
        return f"still open at {name}: {held_there}; {stops}. {again}"

    async def close(self) -> None:
        """Stop streams, timers, tasks and connections; orders resting at the exchange stay there."""
        for job in self._jobs:
            job.cancel()
        if self._pump is not None and not self._pump.done():
            self._pump.cancel()
            await asyncio.wait([self._pump])
        self.journal_watch.close()
        with self.supervision.guarded("closing", rests=False):
            if self.upkeep is not None:
                await self.upkeep.close()
        with self.supervision.guarded("closing", rests=False):
            if self.streams is not None:
                await self.streams.close()
        with self.supervision.guarded("closing", rests=False):
            if self.executor is not None:
                self.executor.close()
            if self.ledger is not None:
                self.ledger.close()
        await self.tasks.close()
        await self.client.close_connection()
        self.supervision.close()

    # Callbacks ---------------------------------------------------------------------------------------------------------

    def _command(self, name: str, args: dict[str, Any]) -> None:
        self.loop.emit(Command(self.venue.clock.now_ms(), name, args))

    def _perform(self, intent: Any, at_ms: int) -> None:
        assert self.executor is not None
        if isinstance(intent, PlaceOrder):
            if self.journal_watch.reason and not is_exit(intent):
                self.executor.not_performed(intent, self.journal_watch.reason)
                return
            parts = parse(intent.client_id)
            if parts is not None and parts.role == "en" and parts.attempt == 1:
                self.decisions.expect(intent.client_id, intent.symbol, (parts.sequence - 1) * BASE_MS)
        try:
            self.executor.perform(intent, at_ms=at_ms)
        except Exception as error:  # our own bug; nothing was sent, and the engine must not wait for it
            self.supervision.failed(f"performing {type(intent).__name__}", error)
            self.executor.not_performed(intent, f"{type(error).__name__}: {error}")

    def _from_streams(self, event: Any) -> None:
        assert self.executor is not None
        self.executor.observe(event)
        self.loop.emit(event)

    def _own_alert(self, alert: Alert) -> None:
        """Publish an alert of the shell's own: the engine's are published with its other outputs."""
        self.hub.publish(alert)
        self._log_alert(alert)

    def _log_alert(self, alert: Alert) -> None:
        """Log an alert if no terminal shows it."""
        if self.terminal is None or self.options.log_format == "json":
            write = {"info": log.info, "warning": log.warning, "critical": log.critical}[alert.level]
            write(alert.text, at_ms=self.venue.clock.now_ms(), **alert.payload)

    def _decided(self, client_id: str, ms: float) -> None:
        """Record the time from a bar's frame to the bytes of its order."""
        self.measures.decisions.append(ms)
        self.journal.measure("decision_ms", ms, at_ms=self.venue.clock.now_ms())

    def _audit(self, snapshot: AccountSnapshot) -> None:
        with self.supervision.guarded("comparing the account"):
            if self.streams is not None:
                self.streams.audit(snapshot)

    def _paused(self, reason: str) -> None:
        """Stop entries while the exchange accepts no requests, and alert."""
        now = self.venue.clock.now_ms()
        if not reason:
            self.loop.emit(FeedRestored(now, REST))
            return
        self.loop.emit(FeedLost(now, REST, reason))
        waiting = self.executor.submission.waiting if self.executor is not None else 0
        text = f"{reason}: entries stop, stops at the exchange stay; {waiting} protective orders wait for its end"
        self._own_alert(Alert("critical" if self.limits.banned else "warning", text))

    def _broken(self, error: InvariantError) -> None:
        """Halt after our own bug: timers and intents of the engine are ignored, everything is closed by rule."""
        if self.executor is not None:
            self.executor.close()
        self.halt.start(error)

    def _line(self) -> Connection:
        venue = self.venue
        return Connection(
            venue.name,
            Addresses(venue.rest_url, venue.stream_url),
            cast(WallClock, venue.clock),
            self.tasks,
            self.limits,
            self.client,
            self.gateway,
            self.sockets,
        )

    async def _close_everything(self) -> Standing:
        return await flatten_venue(self.config, self._line(), lambda text: log.warning("halted", step=text))

    def _cross_check(self, bar: Kline) -> None:
        self.loop.cross_check(bar)

    def _unreadable(self, error: WireError) -> None:
        """Report a rejected kind of frame: it is ignored, and trading continues."""
        self._own_alert(Alert("warning", str(error)))

    def _give_up(self, error: BotError) -> None:
        """Shut down: the journal stays unwritable."""
        self.failure = error
        self.stopped.set()
