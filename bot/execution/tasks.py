"""Waiting on the exchange's clock, and counting what the bot still has to do by itself.

A replay may move its clock only when the bot has nothing left to do but wait. The counting rule, for the whole of this
package, stands here:

* **What is triggered counts until it runs.** Synchronous code cannot be watched, so it needs no count; only the gaps do,
  in which something has been triggered and waits for its turn in the event loop. Whoever triggers it calls `begin`, the
  woken code calls `end` as its first act, and by then it has begun whatever follows.
* A task counts from `Tasks.spawn` to its first step, a wait from the moment its `Latch` is set or its time is up to the
  moment the waiting code goes on. Nothing counts while it only waits for the clock or for the exchange.
* A request counts from its start to the reading of its reply's body (`client.LocalClient`). A stepped exchange takes that
  count over while it holds the request, and gives it back with the reply.
* A websocket handshake counts too, but for a quarter of a second at most until it is answered; a connection that the
  exchange closes counts from the arrival of that message until its reader has noticed.
* A frame is counted by the exchange that writes it and ended by `streams` once its event has been emitted. Notes that
  the socket layer writes to itself (connection lost, connected again) are counted by that layer.
* Events are counted by the queue they are emitted to, from `emit` until the engine has handled them and the executor has
  been given the intents (`Executor.perform` counts from there on).

All waits of the bot go through `Tasks.sleep` and `Latch.wait`, never through `asyncio.sleep`, so that in a replay a
retry after 300 ms comes 300 ms later on the replay's clock.
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
    """Something that happens once and that others wait for; a waiter that is woken counts until it goes on."""

    __slots__ = ("_tasks", "_waiters", "is_set")

    def __init__(self, tasks: "Tasks") -> None:
        self._tasks = tasks
        self._waiters: list[asyncio.Future[bool]] = []
        self.is_set = False

    def set(self) -> None:
        """Let everybody through, now and later."""
        self.is_set = True
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            self._wake(waiter, True)

    async def wait(self, timeout_ms: float | None = None) -> bool:
        """Wait until set or, on the clock, for at most `timeout_ms`; return whether it was set."""
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
    """One count that can be let go and taken up again."""

    __slots__ = ("_activity", "_held")

    def __init__(self, activity: Activity) -> None:
        self._activity = activity
        self._held = False
        self.take()

    def take(self) -> None:
        """Count, if not counted already."""
        if not self._held:
            self._held = True
            self._activity.begin()

    def release(self) -> None:
        """Count no more."""
        if self._held:
            self._held = False
            self._activity.end()


def _close_unstarted(coroutine: Coroutine[Any, Any, Any]) -> None:
    """Close a coroutine that will never run, and those that were handed to it and will not run either."""
    handed = [v for v in (inspect.getcoroutinelocals(coroutine) or {}).values() if inspect.iscoroutine(v)]
    coroutine.close()
    for inner in handed:
        if inspect.getcoroutinestate(inner) == inspect.CORO_CREATED:
            inner.close()


class Tasks:
    """Starts coroutines, waits on the clock, and keeps the count of what is runnable.

    Parameters
    ----------
    clock
        The exchange's time; every delay runs on it.
    activity
        Shared counter of a stepped exchange; an own one that nobody reads when None.
    on_error
        Called with the name of a task and the exception that ended it: it is a bug or a broken venue, never swallowed.
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
        """How many tasks have not ended."""
        return len(self._running)

    def spawn(self, coroutine: Coroutine[Any, Any, None], *, name: str | None = None) -> "asyncio.Task[None]":
        """Start `coroutine` as a task of its own."""
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
        """Pass on what failed in a task, whether it ended it or not."""
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
        """Return what `coroutine` returns, or raise TimeoutError when it has not within `limit_ms` of the clock.

        It is given up then, not cancelled: a request that was abandoned halfway would leave its count with the exchange.
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
        """Count what is done on a connection inside, for at most `at_most_s` of the wall."""
        hold = Hold(self.activity)
        timer = asyncio.get_running_loop().call_later(at_most_s, hold.release)
        try:
            yield hold
        finally:
            timer.cancel()
            hold.release()

    async def together(self, *coroutines: Coroutine[Any, Any, Any]) -> list[Any]:
        """Run coroutines at the same time and return their results in order; an error is raised after all have ended."""
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
                    all_ended.set()  # only the last one wakes the caller: until then everybody may be waiting

        tasks = [self.spawn(run(index, coroutine)) for index, coroutine in enumerate(coroutines)]
        try:
            if tasks:
                await all_ended.wait()
        finally:
            for task in tasks:
                task.cancel()  # does nothing to those that have ended
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
