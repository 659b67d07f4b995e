"""Scheduled jobs: periodic ones while the bot trades, and hourly, daily, weekly, monthly and quarterly ones.

There are two kinds, for two clocks. Trading jobs repeat on the exchange's clock (`Repeat`): reconciliation every
`jobs.reconcile_seconds` while a position or an order of ours may be open and a tenth as often while flat, clock
synchronisation every `jobs.clock_seconds`; replays run them on their own clock. Calendar jobs (strategy 12) run on wall
time in UTC (`Timetable`, by APScheduler): the hourly sentinel, the daily report, and research runs as low-priority
processes whose results are *proposals*, written to files for a person to read, and never applied.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from bot.config import Jobs
from bot.core.clock import Cancellable, Clock

log = logging.getLogger(__name__)
LATE_S: Final = 3_600  # a job missed by a suspended machine still runs within this delay


class Repeat:
    """Call `action` periodically on a clock until cancelled.

    Parameters
    ----------
    clock
        Clock of the waits.
    seconds
        Returns the next wait; called before each one, so that the interval can depend on the state.
    action
        Called after each wait.
    """

    def __init__(self, clock: Clock, seconds: Callable[[], float], action: Callable[[], None]) -> None:
        self._clock = clock
        self._seconds = seconds
        self._action = action
        self._pending: Cancellable | None = None
        self._wait()

    def _wait(self) -> None:
        self._pending = self._clock.call_later(self._seconds() * 1000, self._run)

    def _run(self) -> None:
        try:
            self._action()
        finally:  # repeat even after a failure
            self._wait()

    def cancel(self) -> None:
        """Stop repeating."""
        if self._pending is not None:
            self._pending.cancel()
            self._pending = None


Job = Callable[[], Awaitable[None]]


class Timetable:
    """The calendar jobs of strategy 12 on wall time.

    Parameters
    ----------
    settings
        Times and intervals of the jobs.
    sentinel, daily
        The job that runs every `sentinel_minutes`, and the daily job.
    research
        Called with ``weekly``, ``monthly`` or ``quarterly``; only if `jobs.research` is on.
    """

    def __init__(
        self, settings: Jobs, *, sentinel: Job, daily: Job, research: Callable[[str], Awaitable[None]] | None
    ) -> None:
        from apscheduler.schedulers.asyncio import AsyncIOScheduler
        from apscheduler.triggers.cron import CronTrigger
        from apscheduler.triggers.interval import IntervalTrigger

        logging.getLogger("apscheduler").setLevel(logging.ERROR)
        defaults = {"coalesce": True, "max_instances": 1, "misfire_grace_time": LATE_S}
        self._scheduler = AsyncIOScheduler(timezone="UTC", job_defaults=defaults)
        hour, minute = _time(settings.daily)
        add = self._scheduler.add_job
        every = IntervalTrigger(minutes=settings.sentinel_minutes, timezone="UTC")
        if settings.sentinel_minutes != int(settings.sentinel_minutes):
            every = IntervalTrigger(seconds=round(settings.sentinel_minutes * 60), timezone="UTC")
        add(sentinel, every, id="sentinel")
        add(daily, CronTrigger(hour=hour, minute=minute, timezone="UTC"), id="daily")
        if research is not None and settings.research:
            hour, minute = _time(settings.research_at)
            at = {"hour": hour, "minute": minute, "timezone": "UTC"}
            add(research, CronTrigger(day_of_week="mon", **at), args=["weekly"], id="weekly")
            add(research, CronTrigger(day=1, **at), args=["monthly"], id="monthly")
            add(research, CronTrigger(month="1,4,7,10", day=2, **at), args=["quarterly"], id="quarterly")

    def start(self) -> None:
        """Start the scheduler in the running event loop."""
        self._scheduler.start()

    def close(self) -> None:
        """Stop the scheduler; a running job finishes or is cancelled with its task."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    def next_times(self) -> dict[str, Any]:
        """Return the next run time of each job (after `start`)."""
        return {job.id: job.next_run_time for job in self._scheduler.get_jobs()}


def _time(text: str) -> tuple[int, int]:
    hour, minute = text.split(":")
    return int(hour), int(minute)
