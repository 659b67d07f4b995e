"""Halt after our own bug: ignore the engine's intents, close everything by rule, and alert the operator.

A violated invariant means that the engine's state of orders and positions cannot be trusted, so the engine is not called again.
Entries are cancelled, positions are closed reduce-only at market while their stops still rest, remaining orders are cancelled,
and all of it is read back from the exchange until it is flat. While the exchange cannot be reached the stops resting there
still protect; closing is retried after growing pauses, for ever.
"""

from collections.abc import Awaitable, Callable

from bot.app.flatten import Standing
from bot.core.errors import BotError
from bot.core.intents import Alert
from bot.execution.tasks import Tasks

PAUSES_MS = (1_000, 5_000, 15_000, 30_000)


class Halt:
    """Closes everything, once.

    Parameters
    ----------
    close
        Closes everything directly at the exchange and returns what is left.
    tell
        Receives alerts.
    """

    def __init__(
        self, tasks: Tasks, *, close: Callable[[], Awaitable[Standing]], tell: Callable[[Alert], None]
    ) -> None:
        self._tasks = tasks
        self._close = close
        self._tell = tell
        self.reason = ""
        self.flat = False

    def start(self, error: BaseException) -> None:
        """Start closing; a second error has no effect."""
        if self.reason:
            return
        self.reason = f"halted: {error}"
        self._tell(
            Alert(
                "critical", f"our own bug, the bot is halted: {error}; closing everything, stops stay until it is flat"
            )
        )
        self._tasks.spawn(self._run(), name="halt")

    async def _run(self) -> None:
        tries = 0
        while True:
            try:
                end = await self._close()
                left = end.words()
                if end.flat:
                    self.flat = True
                    self._tell(
                        Alert("critical", "halted and flat: the exchange holds no position and no order of ours")
                    )
                    return
            except Exception as error:  # no error here ends the closing
                left = str(error) or type(error).__name__
                if not isinstance(error, BotError):
                    self._tasks.report("halt", error)
            pause_ms = PAUSES_MS[min(tries, len(PAUSES_MS) - 1)]
            if tries & (tries + 1) == 0:
                self._tell(Alert("critical", f"halted and NOT flat ({left}); trying again every {pause_ms // 1000} s"))
            tries += 1
            await self._tasks.sleep(pause_ms)
