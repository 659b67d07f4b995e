"""Recover the bot's state at start-up: resume the journal's session or begin a new one, and load history.

The rules are in `sessions.py`; here they are applied to a bot that is starting.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import structlog

from bot.app.loop import Loop
from bot.app.measures import Measures
from bot.app.sessions import LONG_SESSION, engine_settings, replay, same_settings, settings_text
from bot.app.supervision import PAUSES_S
from bot.app.venues import TradingVenue
from bot.backtest.models import model_for
from bot.config import Config
from bot.core.errors import BotError
from bot.core.events import FeedLost, KlineClosed, LeverageSet, MarginTypeSet, SessionStarted
from bot.core.intents import Alert, RequestSnapshot
from bot.core.klines import interval_ms
from bot.core.types import Instrument, Kline
from bot.engine import Engine
from bot.execution.executor import Executor
from bot.execution.gateway import Gateway
from bot.execution.limits import RequestLimits
from bot.execution.tasks import Tasks
from bot.journal import Aside, Damaged, Journal, Session, salvage
from bot.market.paths import data_folder
from bot.report.ledger import FOLDER, RepaintLedger, forget
from bot.report.progress import say
from bot.strategy.early import EarlyFeatures

log = structlog.get_logger("bot")
T = TypeVar("T")
BASE = "3m"
STARTING = "start"  # the feed reported lost until the start is complete


def _until_looked(memory: dict[str, Any], reason: str) -> dict[str, Any]:
    """Return a session's memory with entries off until an operator starts them."""
    return {**memory, "entries_off": memory["entries_off"] or reason}


class Recovery:
    """The part of the bot that recovers its state."""

    config: Config
    venue: TradingVenue
    journal: Journal
    gateway: Gateway
    loop: Loop
    engine: Engine
    measures: Measures
    ledger: RepaintLedger | None
    session: Session | None
    symbols: tuple[str, ...]
    quiet: bool
    executor: Executor | None
    limits: RequestLimits
    tasks: Tasks
    instruments: dict[str, Instrument]  # from the journal
    believed: bool  # whether the journal knows what is open
    left_open: bool  # whether its last session had left something open
    _pump: asyncio.Task[None] | None  # the loop's run
    calendar: tuple[tuple[int, str, str], ...]

    def new_engine(self, config: Config) -> Engine:
        """Return a fresh engine."""
        features = EarlyFeatures(config, model=model_for(config))
        return Engine(config, features, venue=self.venue.name, calendar=self.calendar)

    def take_up_session(self) -> dict[str, int]:
        """Open the journal's session and restore the engine; return the open time of each symbol's last bar.

        A journal that cannot be read is set aside (which may already have happened when it was opened), and a new one begun.
        """
        aside = self.journal.aside
        if aside is not None:
            return self._begin_after_damage(aside)
        try:
            return self._take_up()
        except Damaged as damage:
            return self._begin_after_damage(self.journal.start_over(str(damage)))

    def _take_up(self) -> dict[str, int]:
        session = self._open_session()
        if session.resumed and not self.journal.has_begun(session.id):
            self.journal.end_session(self.venue.clock.now_ms())  # the process ended while history was loaded
            session = self._open_session()
        self._open_ledger(session)
        if not session.resumed:
            return {}
        self.gateway.know_orders(self.journal.order_numbers(session.id))
        self._use(self.new_engine(engine_settings(session, self.config, self.venue)))
        replayed = replay(self.journal, session, self.engine, on_bar=self._bar)
        self.instruments, self.believed = dict(self.engine.market_state.instruments), not replayed.fault
        changed = not same_settings(session, self.config)
        if replayed.damaged:
            aside = self.journal.start_over(replayed.fault)
            return self._begin_after_damage(aside, memory=self.engine.memory())
        if replayed.fault:
            self._own_alert(
                Alert(
                    "critical",
                    f"session {session.id} cannot be gone on with ({replayed.fault}): what the exchange holds is guarded; "
                    "what its limits had come to is not known, so entries stay off until you start them on the dashboard",
                )
            )
            # A tripped soft stop may be recorded after the fault: only an operator can clear it.
            unknown = f"the limits of session {session.id} are not known: start entries when you have looked"
            return self._begin_anew(memory=_until_looked(self.engine.memory(), unknown))
        if self.engine.flat and (changed or session.events > LONG_SESSION):
            say(f"session {session.id} is flat and ends here; a new one begins", quiet=self.quiet)
            return self._begin_anew(memory=self.engine.memory())
        if changed:
            self._own_alert(
                Alert(
                    "warning",
                    "the settings have changed: the open trade goes on with those that it was begun with; "
                    "a restart when flat takes the new ones",
                )
            )
        self.loop.last_ms = replayed.last_ms
        for spell in self.journal.naked(session.id):
            self.measures.take(spell)
        say(f"resumed session {session.id}: {session.events} events replayed", quiet=self.quiet)
        return replayed.last_open

    def _begin_after_damage(self, aside: Aside, *, memory: dict[str, Any] | None = None) -> dict[str, int]:
        """Begin in a new journal, with the limits' last state as far as `memory` or the old file holds it.

        An account that exists only in this process (a replay) starts afresh with it: there is nothing to protect.
        """
        venue = self.venue
        self._close_ledger()
        with suppress(OSError):  # its files are numbered by the old journal's sessions
            books = data_folder() / FOLDER
            books.rename(books.with_name(f"{FOLDER}.{aside.path.name.split('.', 2)[-1]}"))
        place = f"{aside.why}: it is set aside as {aside.path.name}, and a new journal begins"
        self.believed = not venue.resume
        if not venue.resume:
            self._own_alert(Alert("warning", place))
            memory = None
        else:
            engine = self.new_engine(venue.in_wall_time(self.config))
            known = "as the old one last told them"
            if memory is None and (found := salvage(aside.path, venue.name, venue.account)) is not None:
                try:
                    engine.remember(found)
                    memory = engine.memory()
                except (LookupError, ValueError, TypeError, ArithmeticError, AttributeError):
                    engine = self.new_engine(venue.in_wall_time(self.config))
            if memory is None:
                memory, known = engine.memory(), "unknown"
            unknown = "the journal was damaged, the limits may have come further: start entries when you have looked"
            memory = _until_looked(memory, unknown)
            self._own_alert(
                Alert(
                    "critical",
                    f"{place}; what the exchange holds is guarded, the limits are {known}, "
                    "and entries stay off until you start them on the dashboard",
                )
            )
        self.engine = self.new_engine(venue.in_wall_time(self.config))
        self._open_ledger(self._open_session(memory=memory))
        return {}

    async def look_first(self) -> tuple[int, SessionStarted | None]:
        """Reconcile with the account before anything is prepared, if something is or may be open there.

        The journal's instruments are enough to protect a position; without them they are read first. Until the start is
        complete the engine decides on no entry, and orders that open or add wait.

        Returns
        -------
        When the account was read, ms, 0 if there was no need to; and the session read from the venue for that.
        """
        if not self.venue.resume:
            return 0, None
        read = self.gateway
        if self.believed and self.engine.flat:
            if not await self.patiently("positions", lambda: read.positions(self.symbols)):
                return 0, None
            self.believed = False  # something is open that the journal does not know
        assert self.executor is not None
        self.limits.hold_entries()
        now, session = self.venue.clock.now_ms(), None
        instruments = tuple(self.instruments[symbol] for symbol in self.symbols if symbol in self.instruments)
        if len(instruments) < len(self.symbols):
            session = await self.patiently(
                "instruments", lambda: read.load_session(self.symbols, venue=self.venue.name)
            )
            instruments = session.instruments
        read.fee_rates = {i.symbol: (i.maker_fee, i.taker_fee) for i in instruments}
        since_ms = self.executor.since_ms
        snapshot = await self.patiently("account", lambda: read.snapshot(self.symbols, since_ms))
        self.loop.handle(SessionStarted(now, self.venue.name, snapshot.wallet, instruments))
        self.loop.handle(FeedLost(now, STARTING, "the start is not complete"))
        self.loop.handle(snapshot)
        for intent in self.engine.resume():
            if not isinstance(intent, RequestSnapshot):  # the next snapshot comes at the end of the start
                self._perform(intent, now)
        return now, session

    async def patiently(self, what: str, read: Callable[[], Awaitable[T]]) -> T:
        """Return the result of `read`, retried for as long as it takes when something may be open.

        The stops at the exchange stay meanwhile, and the account's events are acted on if the queue already runs. With
        nothing open the error ends the start: the operator reads why.
        """
        tries = 0
        while True:
            try:
                return await read()
            except Exception as error:
                if not self.venue.resume or (self.believed and self.engine.flat and not self.left_open):
                    raise
                pause = PAUSES_S[min(tries, len(PAUSES_S) - 1)]
                if not isinstance(error, BotError):
                    log.error(f"{what} failed", exc_info=error)
                if tries & (tries + 1) == 0:
                    text = f"the start waits, {what} cannot be had ({error or type(error).__name__}): stops on the exchange stay"
                    self._own_alert(Alert("critical", f"{text}, trying again every {pause:.0f} s"))
            tries += 1
            await self.tasks.sleep(pause * 1_000)  # on the clock, which a stepped exchange advances only while we wait
            if self._pump is not None:
                self._perform(RequestSnapshot("start"), self.venue.clock.now_ms())

    async def load_history(self) -> dict[str, int]:
        """Feed the closed bars that warm the indicators up; return the open time of each symbol's last one."""
        step = interval_ms(BASE)
        start = self.venue.clock.now_ms() - self.config.data.history_bars * step
        found: list[Kline] = []
        for symbol in self.symbols:
            since = max(start - start % step, 0)
            found += await self.patiently("history", partial(self.gateway.klines, symbol, BASE, since))
        order = {symbol: i for i, symbol in enumerate((*self.symbols[1:], self.symbols[0]))}
        found.sort(key=lambda bar: (bar.open_ms, order[bar.symbol]))
        last_open: dict[str, int] = {}
        for bar in found:
            self.loop.handle(KlineClosed(bar.close_ms, bar, history=True))
            last_open[bar.symbol] = bar.open_ms
        self.journal.commit()
        say(f"history: {len(found)} bars of {len(self.symbols)} symbols", quiet=self.quiet)
        return last_open

    async def prepare(self) -> None:
        """Set position mode, margin and leverage as far as the exchange allows."""
        leverage = self.engine.limits.leverage
        prepared = await self.patiently("preparation", lambda: self.gateway.prepare(self.symbols, leverage))
        for warning in prepared.warnings:
            log.warning(warning)
        for symbol, holds in prepared.leverage.items():
            self.loop.handle(LeverageSet(self.venue.clock.now_ms(), symbol, holds))
        # They are isolated now: otherwise the start would have ended.
        for symbol in tuple(self.engine.liquidation.crossed):
            self.loop.handle(MarginTypeSet(self.venue.clock.now_ms(), symbol, isolated=True))

    def _open_session(self, *, memory: dict[str, Any] | None = None) -> Session:
        venue = self.venue
        self.session = self.journal.open_session(
            venue.name,
            venue.account,
            resume=venue.resume,
            at_ms=venue.clock.now_ms(),
            config=settings_text(self.config, venue),
            memory=memory,
        )
        self._use(self.engine)
        return self.session

    def _close_ledger(self) -> None:
        if self.ledger is not None:
            with suppress(OSError):  # its figures are only for later queries
                self.ledger.close()
            self.ledger = None

    def _open_ledger(self, session: Session) -> None:
        self._close_ledger()
        model, folder = model_for(self.config), data_folder() / FOLDER
        try:
            if not session.resumed:
                forget(folder, (session.id,))  # left by a deleted journal: session ids begin at 1 again
            self.ledger = RepaintLedger(self.config, folder=folder, session=session.id, model=model)
        except (BotError, OSError) as error:  # must not end a start with something open
            if not self.venue.resume:
                raise
            self._own_alert(Alert("warning", f"the repaint ledger is kept in memory only: {error}"))
            self.ledger = RepaintLedger(self.config, model=model)

    def _use(self, engine: Engine) -> None:
        """Make this engine the bot's, with the memory of the previous session."""
        self.engine = self.loop.engine = engine
        if self.session is not None and self.session.memory is not None:
            engine.remember(self.session.memory)

    def _begin_anew(self, *, memory: dict[str, Any] | None) -> dict[str, int]:
        """End the session and begin another with a fresh engine, which has no bars yet."""
        self.journal.end_session(self.venue.clock.now_ms(), memory=memory)
        self.engine = self.new_engine(self.venue.in_wall_time(self.config))
        self._open_ledger(self._open_session())
        return {}

    def _bar(self, event: KlineClosed) -> None:
        raise NotImplementedError

    def _own_alert(self, alert: Alert) -> None:
        raise NotImplementedError

    def _perform(self, intent: Any, at_ms: int) -> None:
        raise NotImplementedError
