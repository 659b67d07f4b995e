"""After our own bug: nothing that the engine says is done any more, everything is closed by rule, and the person is told.

A broken rule of the book means that the engine's picture of orders and positions cannot be trusted. So it is not asked again.
Entries are cancelled, positions are closed reduce-only at market while their stops still stand, what is left is cancelled,
and all of it is read back from the exchange until it is flat. As long as the exchange cannot be reached the stops that
rest there go on protecting; it is tried again after growing pauses, for ever.
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
        Closes everything directly at the exchange and returns how it stands afterwards.
    tell
        Takes alerts.
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
        """Begin; a second fault changes nothing."""
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
            except Exception as error:  # nothing that fails here ends the closing
                left = str(error) or type(error).__name__
                if not isinstance(error, BotError):
                    self._tasks.report("halt", error)
            pause_ms = PAUSES_MS[min(tries, len(PAUSES_MS) - 1)]
            if tries & (tries + 1) == 0:
                self._tell(Alert("critical", f"halted and NOT flat ({left}); trying again every {pause_ms // 1000} s"))
            tries += 1
            await self._tasks.sleep(pause_ms)
