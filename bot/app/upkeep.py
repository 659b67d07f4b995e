"""Background work of a bot on a real market: alerts, the sentinel, the daily report, research.

Replays have none of it: their time is not calendar time, and nobody wants a message about a trade of 2023. All of it runs next
to the event queue and never delays it; findings take the usual path, as an alert or a command.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from bot.app.connection import Addresses, Connection
from bot.app.logfile import forget_old_logs
from bot.app.running import Running
from bot.app.sentinel import Sentinel, State
from bot.core.intents import Alert
from bot.core.redact import redact
from bot.core.times import DAY_MS
from bot.execution.clock import WallClock, machine_ms
from bot.jobs import Timetable
from bot.market.paths import data_folder
from bot.report.notify import Notifier, addresses
from bot.search.runs import Research

log = structlog.get_logger("bot")
REPLAYS: Final = ("sim",)


def today() -> str:
    """Return the UTC date."""
    return datetime.now(UTC).strftime("%Y-%m-%d")


class Upkeep:
    """Notifier, sentinel, daily report and research of one running bot.

    Parameters
    ----------
    alert
        Publishes an alert of the shell's own.
    command
        Puts a command on the bot's queue.
    """

    def __init__(
        self, bot: Running, *, alert: Callable[[Alert], None], command: Callable[[str, dict[str, Any]], None]
    ) -> None:
        self.bot, self._alert, self._command = bot, alert, command
        config, venue = bot.config, bot.venue
        urls, webhook = addresses()
        self.notifier: Notifier | None = None
        if urls or webhook:
            self.notifier = Notifier(
                config.notify, urls, webhook=webhook, now_ms=lambda: int(machine_ms()), title=f"bot {venue.name}"
            )
        clock = venue.clock
        assert isinstance(clock, WallClock)
        line = Connection(
            venue.name, Addresses(venue.rest_url, venue.stream_url), clock, bot.tasks, bot.limits, bot.client,
            bot.gateway, bot.sockets,
        )  # fmt: skip
        self.sentinel = Sentinel(
            config,
            line,
            state=self._state,
            alert=alert,
            stop_entries=lambda reason: command("stop_entries", {"reason": reason}),
        )
        self.research = Research(
            config,
            folder=data_folder() / "proposals",
            klines=data_folder() / "klines",
            today=today,
            tell=lambda text: alert(Alert("info", text)),
            common=("--profile", bot.options.profile) if bot.options.profile != "alert" else (),
        )
        job = bot.supervision.job
        self.timetable = Timetable(
            config.jobs,
            sentinel=job("sentinel", self._look),
            daily=job("daily report", self.daily),
            research=job("research", self.research.run),
        )
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start timetable and notifier."""
        self.timetable.start()
        if self.notifier is not None:
            notifier, keep, hub = self.notifier, self.bot.supervision.keep, self.bot.hub
            self._tasks.append(keep("notifier", notifier.run))
            self._tasks.append(keep("alerts", lambda: notifier.watch(hub)))

    async def close(self) -> None:
        """Stop, spending at most a few seconds on pending alerts."""
        self.timetable.close()
        await self.research.close()
        if self.bot.failure is not None:
            self._alert(Alert("critical", f"the bot stops: {redact(self.bot.ending())}"))
        if self.notifier is not None:
            await asyncio.sleep(0)  # the last alerts reach the notifier first
            self.notifier.close()
            await asyncio.wait(self._tasks[:1], timeout=5)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    def figures(self) -> dict[str, Any]:
        """Return the figures for the page and the metrics."""
        notifier, sentinel = self.notifier, self.sentinel
        return {
            "alerts_sent": notifier.sent if notifier else 0,
            "alerts_failed": notifier.failed if notifier else 0,
            "sentinel": {check.name: {"status": check.status, "text": check.text} for check in sentinel.last},
        }

    def _state(self) -> State:
        bot = self.bot
        return State(
            flat=bot.engine.portfolio.flat,
            leverage=bot.engine.limits.leverage,
            instruments=dict(bot.engine.market_state.instruments),
            feeds_lost=bot.streams.lost if bot.streams is not None else (),
            last_bar_ms=bot.engine.last_decision.open_ms + 180_000 if bot.engine.last_decision is not None else 0,
        )

    async def _look(self) -> None:
        found = await self.sentinel.look()
        log.info("sentinel", **{check.name.replace(" ", "_"): check.status for check in found})

    async def daily(self) -> None:
        """Report the day, check funding and alerts, and remove old log files."""
        bot, config = self.bot, self.bot.config
        since = int(machine_ms()) - DAY_MS
        assert bot.session is not None
        trades = [t for t in bot.journal.trades(bot.session.id) if t.opened_ms and t.closed_ms >= since]
        result = sum(float(t.r_multiple) for t in trades)
        seen = bot.snapshot()
        text = f"day: {len(trades)} trades, {result:+.2f} R; equity {seen.get('equity')}"
        lost = seen.get("limits", {}).get("feeds_lost")
        text += f"; streams lost: {', '.join(lost)}" if lost else "; streams deliver"
        limit = config.risk.max_funding_rate
        high = {s: r for s, r in seen.get("funding", {}).items() if abs(float(r)) > limit}
        if high:
            text += "; funding above the limit: " + ", ".join(f"{s} {float(r):.4%}" for s, r in high.items())
        if self.notifier is not None and self.notifier.failed:
            text += f"; {self.notifier.failed} alerts could not be delivered"
        dropped = await asyncio.to_thread(forget_old_logs, data_folder() / "logs", config.jobs.log_days)
        if dropped:
            text += f"; {dropped} old log files removed"
        self._alert(Alert("warning" if high or lost else "info", text))


def upkeep_of(bot: Running, **doors: Any) -> Upkeep | None:
    """Return the upkeep of a bot on a real market, None in a replay; `doors` go to `Upkeep`."""
    return None if bot.venue.name in REPLAYS else Upkeep(bot, **doors)
