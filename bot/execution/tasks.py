"""Wait on the exchange's clock, and count the work that the bot can still do without new input.

A replay may advance its clock only when the bot is idle, that is only waiting. The counting rule for this package:

* **What is triggered counts until it runs.** Synchronous code cannot be interrupted, so it needs no count; only the gaps do,
  in which something has been triggered and waits for its turn in the event loop. The trigger calls `begin`, the woken code calls
  `end` first, and by then whatever follows has been begun.
* A task counts from `Tasks.spawn` to its first step, a wait from the moment its `Latch` is set or times out until the waiting
  code continues. Nothing counts while it only waits for the clock or for the exchange.
* A request counts from its start until its reply's body has been read (`client.LocalClient`). A stepped exchange takes that
  count over while it holds the request, and returns it with the reply.
* A websocket handshake counts too, but for at most a quarter of a second until it is answered; a connection that the exchange
  closes counts from the arrival of that message until its reader has noticed.
* A frame is counted by the exchange that writes it and ended by `streams` once its event has been emitted. Notes that the
  socket layer puts on its own queue (connection lost, reconnected) are counted by that layer.
* Events are counted by the queue they are emitted to, from `emit` until the engine has handled them and the executor has
  received the intents (`Executor.perform` counts from there on).

All waits of the bot go through `Tasks.sleep` and `Latch.wait`, never through `asyncio.sleep`, so that in a replay a retry
after 300 ms comes 300 ms later on the replay's clock.
"""

import asyncio
import inspect
import logging
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from bot.core.activity import Activity
from bot.core.clock import Cancellable, Clock

log = logging.getLogger(__name__)


class Latch:
    """A one-time event to wait for; a woken waiter counts until it continues."""

    __slots__ = ("_tasks", "_waiters", "is_set")

    def __init__(self, tasks: "Tasks") -> None:
        self._tasks = tasks
        self._waiters: list[asyncio.Future[bool]] = []
        self.is_set = False

    def set(self) -> None:
        """Wake all waiters; later waits return at once."""
        self.is_set = True
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            self._wake(waiter, True)

    async def wait(self, timeout_ms: float | None = None) -> bool:
        """Wait until set, or at most `timeout_ms` on the clock; return whether it was set."""
        if self.is_set:
            return True
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        timer: Cancellable | None = None
        if timeout_ms is not None:
            timer = self._tasks.clock.call_later(max(timeout_ms, 0.0), lambda: self._wake(waiter, False))
        try:
            return await waiter
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            if timer is not None:
                timer.cancel()
            if waiter.done() and not waiter.cancelled():
                self._tasks.activity.end()

    def _wake(self, waiter: "asyncio.Future[bool]", value: bool) -> None:
        if not waiter.done():
            self._tasks.activity.begin()
            waiter.set_result(value)


class Hold:
    """One count that can be released and taken again."""

    __slots__ = ("_activity", "_held")

    def __init__(self, activity: Activity) -> None:
        self._activity = activity
        self._held = False
        self.take()

    def take(self) -> None:
        """Take the count if it is not held already."""
        if not self._held:
            self._held = True
            self._activity.begin()

    def release(self) -> None:
        """Release the count if it is held."""
        if self._held:
            self._held = False
            self._activity.end()


def _close_unstarted(coroutine: Coroutine[Any, Any, Any]) -> None:
    """Close a coroutine that will never run, and the unstarted coroutines passed to it."""
    handed = [v for v in (inspect.getcoroutinelocals(coroutine) or {}).values() if inspect.iscoroutine(v)]
    coroutine.close()
    for inner in handed:
        if inspect.getcoroutinestate(inner) == inspect.CORO_CREATED:
            inner.close()


class Tasks:
    """Starts coroutines, waits on the clock, and counts what is runnable.

    Parameters
    ----------
    clock
        The exchange's time; every delay runs on it.
    activity
        Counter shared with a stepped exchange; None for a private one that nobody reads.
    on_error
        Called with a task's name and the exception that ended it: a bug or a broken venue, never swallowed.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        activity: Activity | None = None,
        on_error: Callable[[str, BaseException], None] | None = None,
    ) -> None:
        self.clock = clock
        self.activity = activity if activity is not None else Activity()
        self._on_error = on_error
        self._running: set[asyncio.Task[None]] = set()

    @property
    def running(self) -> int:
        """Number of tasks that have not ended."""
        return len(self._running)

    def spawn(self, coroutine: Coroutine[Any, Any, None], *, name: str | None = None) -> "asyncio.Task[None]":
        """Start `coroutine` as a separate task."""
        started = False

        async def run() -> None:
            nonlocal started
            started = True
            self.activity.end()
            await coroutine

        def done(task: "asyncio.Task[None]") -> None:
            self._running.discard(task)
            if not started:  # cancelled before its first step
                self.activity.end()
                _close_unstarted(coroutine)
            if not task.cancelled() and (error := task.exception()) is not None:
                self.report(task.get_name(), error)

        self.activity.begin()
        task = asyncio.get_running_loop().create_task(run(), name=name)
        self._running.add(task)
        task.add_done_callback(done)
        return task

    def report(self, name: str, error: BaseException) -> None:
        """Report an error in a task, whether or not it ended the task."""
        if self._on_error is not None:
            self._on_error(name, error)
        else:
            log.error("task %s failed: %s", name, error, exc_info=error)

    def latch(self) -> Latch:
        """Return a new latch."""
        return Latch(self)

    async def sleep(self, delay_ms: float) -> None:
        """Wait `delay_ms` of the clock's time."""
        await Latch(self).wait(delay_ms)

    async def within(self, limit_ms: float, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Return the result of `coroutine` if it ends within `limit_ms` on the clock.

        After that it is abandoned, not cancelled: a request cancelled halfway would leave its count with the exchange.

        Raises
        ------
        TimeoutError
            It has not ended in time.
        """
        results: list[Any] = []
        errors: list[Exception] = []
        ended = self.latch()

        async def run() -> None:
            try:
                results.append(await coroutine)
            except Exception as error:
                errors.append(error)
            finally:
                ended.set()

        self.spawn(run())
        if not await ended.wait(limit_ms):
            raise TimeoutError
        if errors:
            raise errors[0]
        return results[0]

    @contextmanager
    def counted(self, at_most_s: float) -> Iterator["Hold"]:
        """Count the work inside the context, for at most `at_most_s` seconds of wall time."""
        hold = Hold(self.activity)
        timer = asyncio.get_running_loop().call_later(at_most_s, hold.release)
        try:
            yield hold
        finally:
            timer.cancel()
            hold.release()

    async def together(self, *coroutines: Coroutine[Any, Any, Any]) -> list[Any]:
        """Run coroutines concurrently and return their results in order; the first error is raised after all have ended."""
        results: list[Any] = [None] * len(coroutines)
        errors: list[Exception] = []
        left = len(coroutines)
        all_ended = self.latch()

        async def run(index: int, coroutine: Coroutine[Any, Any, Any]) -> None:
            nonlocal left
            try:
                results[index] = await coroutine
            except Exception as error:
                errors.append(error)
            finally:
                left -= 1
                if left == 0:
                    all_ended.set()  # only the last one wakes the caller: until then all may be waiting

        tasks = [self.spawn(run(index, coroutine)) for index, coroutine in enumerate(coroutines)]
        try:
            if tasks:
                await all_ended.wait()
        finally:
            for task in tasks:
                task.cancel()  # no effect on those that have ended
        if errors:
            raise errors[0]
        return results

    async def close(self) -> None:
        """Cancel every task and wait until all have ended."""
        tasks = list(self._running)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=3)
