"""`run`: puts the rooms together for a venue, brings the engine up to date, and runs until the end or a stop.

Start-up and recovery are one path: open the journal session, replay what it holds, feed the klines that it lacks, open the
streams (their events wait in the queue), compare with the exchange's snapshot, and only then handle what waited.
"""

import asyncio
import json
import secrets
import sys
from contextlib import AsyncExitStack
from typing import Any

import structlog

from bot.app.loop import Loop
from bot.app.options import RunOptions
from bot.app.setup import compile_kernels, configure_logging, interrupted
from bot.app.venues import VENUES, Venue
from bot.config import Config
from bot.core.errors import BotError, WireError
from bot.core.events import Command, KlineClosed, LeverageSet
from bot.core.intents import Alert, RequestSnapshot
from bot.core.klines import interval_ms
from bot.core.records import TradeRecord
from bot.core.types import Kline
from bot.engine import Engine
from bot.execution.client import HardenedBSM, LocalClient
from bot.execution.clock import WallClock
from bot.execution.executor import Executor
from bot.execution.gateway import Gateway
from bot.execution.limits import Limits
from bot.execution.streams import Streams
from bot.execution.tasks import Tasks
from bot.jobs import Repeat
from bot.journal import Journal, Session
from bot.market.events_calendar import load_calendar
from bot.market.paths import data_folder, project_file
from bot.report.dashboard import Dashboard
from bot.report.hub import Hub
from bot.report.operator import remove_run_file, write_run_file
from bot.report.progress import say
from bot.report.session import render, session_report
from bot.report.terminal import Terminal
from bot.research.models import model_for
from bot.strategy.features import Features

log = structlog.get_logger("bot")
BASE = "3m"
SESSIONS_KEPT = 5  # replays whose event streams stay in the journal


async def run_bot(config: Config, options: RunOptions) -> int:
    """Run the bot as the command line said; return the exit code."""
    quiet = options.quiet or options.json
    configure_logging(options.log_format, quiet=quiet)
    async with AsyncExitStack() as stack:
        journal = stack.enter_context(Journal(data_folder() / "bot.db", sync=config.journal.sync))
        compile_kernels(config, quiet=quiet)
        venue = await VENUES[options.venue](config, options, stack)
        bot = Bot(config, options, venue, journal)
        stack.push_async_callback(bot.close)
        await bot.start()
        return await bot.run(stack)


class Bot:
    """Everything that runs, from `start` to the end of `run`."""

    def __init__(self, config: Config, options: RunOptions, venue: Venue, journal: Journal) -> None:
        self.config = config
        self.options = options
        self.venue = venue
        self.journal = journal
        self.hub = Hub()
        self.quiet = options.quiet or options.json
        self.symbols = config.data.symbols
        calendar = tuple((e.ms, e.name, e.impact) for e in load_calendar(project_file(config.events.file)))
        self.engine = Engine(
            venue.in_wall_time(config), Features(config, model=model_for(config)), venue=venue.name, calendar=calendar
        )
        self.tasks = Tasks(venue.clock, activity=venue.activity, on_error=self._failed)
        self.limits = Limits(self.tasks)
        self.client = LocalClient(
            venue.api_key,
            venue.api_secret,
            rest_url=venue.rest_url,
            stream_url=venue.stream_url,
            tasks=self.tasks,
            limits=self.limits,
            headers=venue.headers,
        )
        self.gateway = Gateway(self.client, self.tasks, self.limits)
        self.executor: Executor | None = None
        self.streams: Streams | None = None
        self.session: Session | None = None
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
        )
        self.terminal: Terminal | None = None
        self._view: asyncio.Task[None] | None = None
        self._jobs: list[Repeat] = []

    # Start -------------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Bring the engine up to date with journal, klines and exchange; streams are open, nothing of theirs is handled."""
        await self.gateway.synchronise()
        self.session = self.journal.open_session(
            self.venue.name, self.venue.account, resume=self.venue.resume, at_ms=self.venue.clock.now_ms()
        )
        last_open = self._replay() if self.session.resumed else {}
        self.executor = Executor(
            self.gateway,
            self.tasks,
            self.loop.emit,
            symbols=self.symbols,
            on_alert=self._own_alert,
            since_ms=self.loop.last_ms or None,
        )
        await self._prepare()
        self.loop.handle(await self.gateway.load_session(self.symbols, venue=self.venue.name))
        last_open = await self._catch_up(last_open)
        self.streams = Streams(
            HardenedBSM(self.client, tasks=self.tasks),
            self.gateway,
            self.symbols,
            tasks=self.tasks,
            emit=self._from_streams,
            settings=self.venue.stream_settings(),
            last_open_ms=last_open,
            on_cross_check=self._cross_check,
            on_error=self._unreadable,
        )
        await self.streams.start()
        since_ms = self.executor.since_ms
        self.loop.handle(await self.gateway.snapshot(self.symbols, since_ms))
        for intent in self.engine.resume():
            self._perform(intent, self.venue.clock.now_ms())

    def _replay(self) -> dict[str, int]:
        """Let a fresh engine handle what the journal holds; return the last bar of each symbol."""
        assert self.session is not None
        last_open: dict[str, int] = {}
        for _, event in self.journal.events(self.session.id):
            self.engine.handle(event)
            self.loop.last_ms = max(self.loop.last_ms, event.at_ms)
            if isinstance(event, KlineClosed):
                last_open[event.kline.symbol] = event.kline.open_ms
        say(f"resumed session {self.session.id}: {self.session.events} events replayed", quiet=self.quiet)
        return last_open

    async def _catch_up(self, last_open: dict[str, int]) -> dict[str, int]:
        """Feed the closed bars that the engine lacks: history for a new session, what was missed for a resumed one."""
        step = interval_ms(BASE)
        now = self.venue.clock.now_ms()
        found: list[Kline] = []
        for symbol in self.symbols:
            start = last_open[symbol] + step if symbol in last_open else now - self.config.data.history_bars * step
            found += await self.gateway.klines(symbol, BASE, max(start - start % step, 0))
        order = {symbol: i for i, symbol in enumerate((*self.symbols[1:], self.symbols[0]))}
        found.sort(key=lambda bar: (bar.open_ms, order[bar.symbol]))
        resumed = bool(last_open)
        for bar in found:
            # Missed bars are lived through (a trail, a CHoCH, the time exit count); history only warms up.
            at_ms = now if resumed else bar.close_ms
            self.loop.handle(KlineClosed(at_ms, bar, history=not resumed))
            last_open[bar.symbol] = bar.open_ms
        self.journal.commit()
        say(f"history: {len(found)} bars of {len(self.symbols)} symbols", quiet=self.quiet)
        return last_open

    async def _prepare(self) -> None:
        prepared = await self.gateway.prepare(self.symbols, self.engine.limits.leverage)
        for warning in prepared.warnings:
            log.warning(warning)
        for symbol, leverage in prepared.leverage.items():
            self.loop.handle(LeverageSet(self.venue.clock.now_ms(), symbol, leverage))

    # Run ---------------------------------------------------------------------------------------------------------------

    async def run(self, stack: AsyncExitStack) -> int:
        """Handle events until the replay ends or the process is asked to stop; return the exit code."""
        await self._open_views(stack)
        self._start_jobs()
        pump = asyncio.create_task(self.loop.run(), name="loop")
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
        self.loop.stop()
        await asyncio.wait([pump], timeout=5)
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
            raise BotError(f"stopped: {type(self.failure).__name__}: {self.failure}; positions keep their stops")
        return 0 if ended else results[1] if isinstance(results[1], int) else 1

    async def _over(self) -> None:
        """Wait for the end of the replay; for ever at a venue that has none."""
        if self.venue.finished is None:
            await asyncio.Event().wait()
            return
        await self.venue.finished()

    async def _open_views(self, stack: AsyncExitStack) -> None:
        if self.options.dashboard:
            token = secrets.token_urlsafe(24)
            page = Dashboard(
                self.hub,
                host=self.config.dashboard.host,
                port=self.options.port,
                token=token,
                snapshot=self.snapshot,
                trades=self._last_trades,
                command=self._command,
            )
            assert self.session is not None
            page.add_equity(self.journal.equity(self.session.id))
            port = await page.start()
            stack.push_async_callback(page.close)
            write_run_file(data_folder(), port=port, venue=self.venue.name, token=token)
            stack.callback(remove_run_file, data_folder())
            say(f"dashboard: http://{self.config.dashboard.host}:{port}", quiet=self.quiet)
        if self.options.json or self.options.quiet:
            return
        self.terminal = Terminal(self.hub, snapshot=self.snapshot)
        self._view = asyncio.create_task(self.terminal.run(), name="terminal")
        stack.push_async_callback(self._close_terminal)

    async def _close_terminal(self) -> None:
        if self.terminal is not None and self._view is not None:
            self.terminal.close()
            await asyncio.wait([self._view], timeout=3)
            self._view.cancel()
            self.terminal = None

    def _start_jobs(self) -> None:
        clock, jobs = self.venue.clock, self.config.jobs

        def pace() -> float:
            return jobs.reconcile_seconds * (1 if self.engine.wants_quotes else 10)

        self._jobs.append(Repeat(clock, pace, lambda: self._perform(RequestSnapshot("timetable"), clock.now_ms())))
        if isinstance(clock, WallClock):
            self._jobs.append(
                Repeat(
                    clock,
                    lambda: jobs.clock_seconds,
                    self._begin_synchronising,
                )
            )

    def _begin_synchronising(self) -> None:
        self.tasks.spawn(self._synchronise(), name="clock")

    async def _synchronise(self) -> None:
        try:
            await self.gateway.synchronise()
        except BotError as error:
            log.warning("clock not synchronised", error=str(error))

    async def _finish(self, *, ended: bool) -> None:
        """Close the session and print its report when asked to."""
        assert self.session is not None
        await self._close_terminal()
        if self.venue.name == "sim":
            self.journal.end_session(self.venue.clock.now_ms())
            self.journal.forget(venue="sim", keep=SESSIONS_KEPT)
        self.journal.commit()
        if not (self.options.once and ended):
            return
        report = self.report()
        if self.options.json:
            print(json.dumps(report, indent=2, default=str))
            return
        from rich.console import Console

        Console(file=sys.stdout).print(render(report))

    def report(self) -> dict[str, Any]:
        """Return the session report: summary and trades."""
        assert self.session is not None
        equity = self.journal.equity(self.session.id)
        return session_report(
            self.journal.trades(self.session.id),
            decisions=self.journal.decisions(self.session.id),
            equity=equity,
            meta={**self.venue.meta, "initial_equity": float(equity[0].equity) if equity else None},
        )

    async def close(self) -> None:
        """Stop streams, timers, tasks and connections; what rests on the exchange stays there."""
        for job in self._jobs:
            job.cancel()
        if self.streams is not None:
            await self.streams.close()
        if self.executor is not None:
            self.executor.close()
        await self.tasks.close()
        await self.client.close_connection()

    # Doors -------------------------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Return the engine's state with what only this shell knows."""
        return {
            **self.engine.snapshot(),
            "venue": self.venue.name,
            "clock_ms": self.venue.clock.now_ms(),
            "session": self.session.id if self.session else None,
            "source": self.venue.meta.get("source"),
            "speed": self.options.speed if self.venue.name == "sim" else None,
            "profile": self.options.profile,
            "bars_cross_checked": self.loop.cross_checked,
            "bars_mismatched": self.loop.cross_mismatches,
        }

    def _last_trades(self) -> list[TradeRecord]:
        assert self.session is not None
        return self.journal.last_trades(200, self.session.id)

    def _command(self, name: str, args: dict[str, Any]) -> None:
        self.loop.emit(Command(self.venue.clock.now_ms(), name, args))

    def _perform(self, intent: Any, at_ms: int) -> None:
        assert self.executor is not None
        self.executor.perform(intent, at_ms=at_ms)

    def _from_streams(self, event: Any) -> None:
        assert self.executor is not None
        self.executor.observe(event)
        self.loop.emit(event)

    def _own_alert(self, alert: Alert) -> None:
        """Take an alert of the shell's own: the engine's are published with what else it says."""
        self.hub.publish(alert)
        self._log_alert(alert)

    def _log_alert(self, alert: Alert) -> None:
        """Log an alert where no terminal shows it."""
        if self.terminal is None or self.options.log_format == "json":
            write = {"info": log.info, "warning": log.warning, "critical": log.critical}[alert.level]
            write(alert.text, at_ms=self.venue.clock.now_ms(), **alert.payload)

    def _cross_check(self, bar: Kline) -> None:
        self.loop.cross_check(bar)

    def _unreadable(self, error: WireError) -> None:
        log.error("the exchange said what cannot be read: entries stop", error=str(error))
        self._command("stop_entries", {"reason": str(error)})

    def _failed(self, error: BaseException) -> None:
        self.failure = error
        self.stopped.set()
