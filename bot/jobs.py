"""The timetable: what is done again and again while the bot runs, and what is done by the day, week, month and quarter.

Two kinds, because there are two clocks. What belongs to trading repeats on the exchange's clock (`Repeat`):
reconciliation every `jobs.reconcile_seconds` while a position or an order of ours may be open and ten times as seldom
while flat, the clock every `jobs.clock_seconds`; replays keep that timetable on their own clock. What belongs to the
calendar (strategy 12) keeps wall time and UTC (`Timetable`, by APScheduler): the hourly sentinel, the daily report,
and research runs as processes of low priority whose results are *proposed*, written to files for a person to read,
and never applied.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from bot.config import Jobs
from bot.core.clock import Cancellable, Clock

log = logging.getLogger(__name__)
LATE_S: Final = 3_600  # a job that a sleeping machine missed is made up for within this time


class Repeat:
    """Calls `action` again and again on a clock until cancelled.

    Parameters
    ----------
    seconds
        Asked anew before each wait, so that a pace can depend on the state.
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
        finally:  # one failure is no end of the timetable
            self._wait()

    def cancel(self) -> None:
        """Stop repeating."""
        if self._pending is not None:
            self._pending.cancel()
            self._pending = None


Job = Callable[[], Awaitable[None]]


class Timetable:
    """The jobs of strategy 12 on wall time.

    Parameters
    ----------
    sentinel, daily
        What is done by the hour and by the day.
    research
        Given ``weekly``, ``monthly`` or ``quarterly``; only when `jobs.research` is on.
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
        """Let the timetable run, in the running event loop."""
        self._scheduler.start()

    def close(self) -> None:
        """Stop it; what runs goes on to its end or is cancelled with its task."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    def next_times(self) -> dict[str, Any]:
        """Return when each job runs next (after `start`)."""
        return {job.id: job.next_run_time for job in self._scheduler.get_jobs()}


def _time(text: str) -> tuple[int, int]:
    hour, minute = text.split(":")
    return int(hour), int(minute)
