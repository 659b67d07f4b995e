"""The timetable: what is done again and again while the bot runs, on the exchange's clock.

Reconciliation runs every `jobs.reconcile_seconds` while a position or an order of ours may be open and ten times as seldom while
flat; the clock is synchronised every `jobs.clock_seconds`. Replays keep the same timetable on their own clock.
"""

from collections.abc import Callable

from bot.core.clock import Cancellable, Clock


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
        self._action()
        self._wait()

    def cancel(self) -> None:
        """Stop repeating."""
        if self._pending is not None:
            self._pending.cancel()
            self._pending = None
