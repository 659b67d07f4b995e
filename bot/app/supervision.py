"""Whatever fails beside the engine is reported and goes on: no exception ends a process that may hold a position.

* A failure is logged with its traceback each time. The person is alerted at the first one of a name, and again when it has
  not come back for `CALM_S`, with how often it had.
* Until then entries rest, by the engine's own rule for streams that do not deliver (`FeedLost`): stops, exits and trails
  go on. What only shows something (terminal, page, chart) never touches trading: for it nothing rests.
* What runs for as long as the bot does is started anew, after pauses that grow to 30 seconds (`keep`). What is done once
  answers for itself: an order whose sending failed is of unknown outcome and is looked up (`submission`), a snapshot is read
  again (`executor`).

Only a broken engine halts (`halt`), and only a journal that stays unwritable makes the bot leave (`journal_watch`).
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import structlog

from bot.core.events import Event, FeedLost, FeedRestored
from bot.core.intents import Alert

log = structlog.get_logger("bot")
PAUSES_S: Final = (1.0, 2.0, 5.0, 15.0, 30.0)
OF_AN_ORDER: Final = re.compile(r" \S*-\S*$")
CALM_S: Final = 30.0  # without another failure of a name: it is over


class Supervision:
    """Takes every failure, and keeps what has to run running.

    Parameters
    ----------
    emit
        Puts an event on the bot's queue.
    tell
        Takes alerts.
    now_ms
        The exchange's time.
    calm_s
        After how long without a failure something counts as mended.
    """

    def __init__(
        self,
        *,
        emit: Callable[[Event], None],
        tell: Callable[[Alert], None],
        now_ms: Callable[[], int],
        calm_s: float = CALM_S,
    ) -> None:
        self._emit, self._tell, self._now_ms, self._calm_s = emit, tell, now_ms, calm_s
        self._counts: dict[str, int] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self.resting: dict[str, str] = {}  # why entries rest, by what failed

    def failed(self, name: str, error: BaseException, *, rests: bool = True) -> None:
        """Take a failure of what is called `name`; with `rests`, entries rest until it has been calm for a while."""
        log.error(f"{name} failed", error=f"{type(error).__name__}: {error}", at_ms=self._now_ms(), exc_info=error)
        first = name not in self._counts
        self._counts[name] = self._counts.get(name, 0) + 1
        if first:
            rest = "entries rest until it runs again; stops, exits and trails go on" if rests else "trading goes on"
            text = f"{name} failed ({type(error).__name__}: {error}): {rest}"
            self._tell(Alert("critical" if rests else "warning", text))
        if rests and name not in self.resting:
            self.resting[name] = f"it failed: {type(error).__name__}"
            self._emit(FeedLost(self._now_ms(), f"task: {name}", self.resting[name]))
        if name in self._timers:
            self._timers[name].cancel()
        self._timers[name] = asyncio.get_running_loop().call_later(self._calm_s, self._calm, name)

    def _calm(self, name: str) -> None:
        count = self._counts.pop(name)
        del self._timers[name]
        if self.resting.pop(name, None) is not None:
            self._emit(FeedRestored(self._now_ms(), f"task: {name}"))
        times = "once" if count == 1 else f"{count} times"
        self._tell(Alert("info", f"{name} runs again; it had failed {times}"))

    @contextmanager
    def guarded(self, name: str, *, rests: bool = True) -> Iterator[None]:
        """Take a failure inside, and go on after it."""
        try:
            yield
        except Exception as error:
            self.failed(name, error, rests=rests)

    def keep(self, name: str, start: Callable[[], Awaitable[Any]], *, rests: bool = True) -> "asyncio.Task[None]":
        """Run what `start` gives, anew whenever it fails, until it returns or the task is cancelled."""
        return asyncio.create_task(self._keep(name, start, rests=rests), name=name)

    async def _keep(self, name: str, start: Callable[[], Awaitable[Any]], *, rests: bool) -> None:
        loop, tries = asyncio.get_running_loop(), 0
        while True:
            began = loop.time()
            try:
                await start()
            except Exception as error:
                if loop.time() - began > PAUSES_S[-1]:
                    tries = 0
                self.failed(name, error, rests=rests)
            else:
                return
            await asyncio.sleep(PAUSES_S[min(tries, len(PAUSES_S) - 1)])
            tries += 1

    def job(self, name: str, work: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        """Return a job of the timetable whose failure is taken here; the timetable starts it again when it is due."""

        async def guarded(*arguments: Any) -> None:
            with self.guarded(name):
                await work(*arguments)

        return guarded

    def task_failed(self, name: str, error: BaseException) -> None:
        """Take what ended a task, under a name without the order that it was for."""
        self.failed(OF_AN_ORDER.sub("", name), error)

    def catch(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Take what the event loop reports: a callback, or a task of a library that nobody waits for, has failed.

        What is ours has a name and is taken above; a broken line is the business of who reads it.
        """
        error = context.get("exception")
        if isinstance(error, Exception) and not isinstance(error, OSError):
            self.failed("a call in the background", error, rests=False)
        else:
            loop.default_exception_handler(context)

    def close(self) -> None:
        """Expect nothing more to calm down."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
