"""Failures outside the engine are reported and survived: no exception ends a process that may hold a position.

* A failure is logged with its traceback each time. The operator is alerted at the first one of a name, and again when it has
  not recurred for `CALM_S`, with its count.
* Until then entries pause, by the engine's own rule for streams that do not deliver (`FeedLost`): stops, exits and trails
  continue. Display code (terminal, page, chart) never affects trading: entries do not pause for it.
* Long-running work is restarted, after pauses that grow to 30 seconds (`keep`). One-time work handles its own failure: an
  order whose sending failed has an unknown outcome and is queried (`submission`), a snapshot is read again (`executor`).

Only a broken engine halts (`halt`), and only a journal that stays unwritable makes the bot shut down (`journal_watch`).
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
CALM_S: Final = 30.0  # without another failure of a name: it has recovered


class Supervision:
    """Handles every failure, and restarts long-running work.

    Parameters
    ----------
    emit
        Puts an event on the bot's queue.
    tell
        Receives alerts.
    now_ms
        The exchange's time.
    calm_s
        Seconds without a failure after which something counts as recovered.
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
        self.resting: dict[str, str] = {}  # why entries pause, by the name of what failed

    def failed(self, name: str, error: BaseException, *, rests: bool = True) -> None:
        """Handle a failure of `name`; with `rests`, entries pause until it has not recurred for `calm_s`."""
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
        """Handle an exception raised inside, and continue after it."""
        try:
            yield
        except Exception as error:
            self.failed(name, error, rests=rests)

    def keep(self, name: str, start: Callable[[], Awaitable[Any]], *, rests: bool = True) -> "asyncio.Task[None]":
        """Run `start()` as a task, restarted whenever it fails, until it returns or the task is cancelled."""
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
        """Return a timetable job whose failures are handled here; the timetable starts it again when it is due."""

        async def guarded(*arguments: Any) -> None:
            with self.guarded(name):
                await work(*arguments)

        return guarded

    def task_failed(self, name: str, error: BaseException) -> None:
        """Handle the error that ended a task, under the task's name without its order id."""
        self.failed(OF_AN_ORDER.sub("", name), error)

    def catch(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Handle an error reported by the event loop: a callback, or a library's task that nobody awaits, has failed.

        Our own tasks have names and are handled above; a lost connection is handled by its reader.
        """
        error = context.get("exception")
        if isinstance(error, Exception) and not isinstance(error, OSError):
            self.failed("a call in the background", error, rests=False)
        else:
            loop.default_exception_handler(context)

    def close(self) -> None:
        """Cancel all timers."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
