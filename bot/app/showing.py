"""The visible part of a running bot: the page, the terminal, the chart's bars, the repaint ledger, the state, the report.

Nothing here decides: it only reads engine, journal and streams. The one exception is the ledger's first miss, which stops
entries.
"""

import asyncio
import secrets
import sys
from contextlib import AsyncExitStack
from typing import Any

from bot.app.halt import Halt
from bot.app.loop import Loop
from bot.app.measures import Measures
from bot.app.options import RunOptions
from bot.app.supervision import Supervision
from bot.app.upkeep import Upkeep
from bot.app.venues import TradingVenue
from bot.config import Config
from bot.core.errors import BotError
from bot.core.events import KlineClosed
from bot.core.intents import Alert
from bot.core.records import Decision, TradeRecord
from bot.engine import Engine
from bot.engine import view as engine_view
from bot.execution.executor import Executor
from bot.execution.limits import RequestLimits
from bot.execution.stamps import percentile
from bot.execution.streams import Streams
from bot.journal import Journal, Session
from bot.market.paths import data_folder
from bot.report.compared import Compared
from bot.report.dashboard import Dashboard
from bot.report.doors import exposure, netloc
from bot.report.hub import Hub
from bot.report.ledger import Miss, RepaintLedger
from bot.report.live import Live
from bot.report.operator import remove_run_file, write_run_file
from bot.report.progress import say
from bot.report.terminal import Terminal
from bot.results.session import session_report


class Showing:
    """The part of the bot that shows its state."""

    config: Config
    options: RunOptions
    venue: TradingVenue
    journal: Journal
    engine: Engine
    loop: Loop
    hub: Hub
    live: Live
    halt: Halt
    limits: RequestLimits
    measures: Measures
    supervision: Supervision
    compared: Compared
    executor: Executor | None
    streams: Streams | None
    upkeep: Upkeep | None
    ledger: RepaintLedger | None
    session: Session | None
    symbols: tuple[str, ...]
    quiet: bool
    terminal: Terminal | None
    _view: asyncio.Task[None] | None

    async def _open_views(self, stack: AsyncExitStack) -> None:
        if self.options.dashboard:
            try:
                await self._open_page(stack)
            except (BotError, OSError) as error:
                if self.engine.flat:
                    raise
                # A trade is open: it continues without the page, which is opened as soon as possible.
                self.supervision.failed("dashboard", error, rests=False)
                opening = self.supervision.keep("dashboard", lambda: self._open_page(stack), rests=False)
                stack.callback(opening.cancel)
        if self.options.json or self.options.quiet:
            return
        self._view = self.supervision.keep("terminal", self._run_terminal, rests=False)
        stack.push_async_callback(self._close_terminal)

    async def _open_page(self, stack: AsyncExitStack) -> None:
        token = secrets.token_urlsafe(24)
        page = Dashboard(
            self.hub,
            host=self.config.dashboard.host,
            port=self.options.port,
            token=token,
            snapshot=self.snapshot,
            trades=self._last_trades,
            command=self._command,
            live=self.live,
            allowed_hosts=self.config.dashboard.allowed_hosts,
        )
        assert self.session is not None
        page.add_equity(self.journal.equity(self.session.id))
        port = await page.start()
        host = self.config.dashboard.host
        try:
            write_run_file(data_folder(), port=port, venue=self.venue.name, token=token, host=host)
        except OSError:
            await page.close()
            raise
        stack.push_async_callback(page.close)
        stack.callback(remove_run_file, data_folder())
        place = f"http://{netloc(host, port)}"
        # The token is shown only on a terminal; output that is piped or kept by a service manager names its file.
        shown = f"{place}/#token={token}" if sys.stderr.isatty() else f"the token is in {data_folder() / 'token'}"
        say(f"dashboard: {place} (commands: {shown})", quiet=self.quiet)
        if (warning := exposure(host, self.config.dashboard.allowed_hosts)) is not None:
            say(f"warning: {warning}")

    async def _run_terminal(self) -> None:
        self.terminal = Terminal(self.hub, snapshot=self.snapshot)
        await self.terminal.run()

    async def _close_terminal(self) -> None:
        if self.terminal is not None and self._view is not None:
            self.terminal.close()
            await asyncio.wait([self._view], timeout=3)
            self._view.cancel()
            self.terminal = None

    def report(self) -> dict[str, Any]:
        """Return the session report: summary and trades."""
        assert self.session is not None
        equity = self.journal.equity(self.session.id)
        return session_report(
            self.journal.trades(self.session.id),
            decisions=self.journal.decisions(self.session.id),
            equity=equity,
            meta={
                **self.venue.meta,
                **self._measured(),
                "ledger": self.ledger.summary() if self.ledger else None,
                "initial_equity": float(equity[0].equity) if equity else None,
            },
        )

    def _bar(self, event: KlineClosed) -> None:
        """Pass a bar that the engine has handled to chart and ledger, with the feature row that it used."""
        bar = event.kline
        series = self.engine.market_state.series.get(bar.symbol)
        row = series.row if series is not None and series.last_open_ms == bar.open_ms else None
        values = getattr(row, "values", None)
        with self.supervision.guarded("chart", rests=False):
            self.live.take(event, values)
        assert self.ledger is not None
        self.ledger.take(event, values)
        if bar.symbol == self.symbols[0] and not event.history:
            self._told_miss(self.ledger.check())

    def _told_miss(self, miss: Miss | None) -> None:
        """Alert the operator to the first closed bar that was recomputed differently, and stop entries."""
        if miss is not None:
            self._own_alert(Alert("critical", f"{miss}; entries stop"))
            self._command("stop_entries", {"reason": f"repaint: {miss}"})

    def _decision_on(self, open_ms: int) -> Decision | None:
        assert self.session is not None
        return next(self.journal.decisions(self.session.id, from_ms=open_ms, to_ms=open_ms + 1), None)

    def _measured(self) -> dict[str, Any]:
        """Return the session report's measurements of the bot itself."""
        assert self.session is not None
        decisions = self.journal.measures(self.session.id, "decision_ms")
        naked = [float(spell.ms) for spell in self.journal.naked(self.session.id)]
        return {
            "decision_ms": percentile(decisions, 0.5) if decisions else None,
            "decision_ms_p99": percentile(decisions, 0.99) if decisions else None,
            "naked_ms_p50": percentile(naked, 0.5) if naked else None,
            "naked_ms_p99": percentile(naked, 0.99) if naked else None,
            "slippage": engine_view.snapshot(self.engine)["slippage"],
        }

    def snapshot(self) -> dict[str, Any]:
        """Return the engine's state, completed by what only the shell knows."""
        state = engine_view.snapshot(self.engine)
        if self.halt.reason:
            state["limits"]["entries_off"] = self.halt.reason
        return {
            **state,
            **self.measures.view(),
            "halted": self.halt.reason,
            "lag_ms": self.streams.lag_ms if self.streams is not None else None,
            "feeds": self.streams.view() if self.streams is not None else {},
            "rate_limits": self.limits.view(),
            "orders_waiting": self.executor.submission.waiting if self.executor is not None else 0,
            "venue": self.venue.name,
            "clock_ms": self.venue.clock.now_ms(),
            "session": self.session.id if self.session else None,
            "source": self.venue.meta.get("source"),
            "speed": self.options.speed if self.venue.name == "sim" else None,
            "profile": self.options.profile,
            "bars_cross_checked": self.loop.cross_checked,
            "bars_mismatched": self.loop.cross_mismatches,
            **(self.upkeep.figures() if self.upkeep else {}),
            "ledger": self.ledger.summary() if self.ledger else None,
            "compared": self.compared.rows(),
            "forming": self.streams.forming() if self.streams is not None else {},
        }

    def _last_trades(self) -> list[TradeRecord]:
        assert self.session is not None
        return self.journal.last_trades(200, self.session.id)

    def _command(self, name: str, args: dict[str, Any]) -> None:
        raise NotImplementedError

    def _own_alert(self, alert: Alert) -> None:
        raise NotImplementedError
