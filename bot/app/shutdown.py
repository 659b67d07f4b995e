"""Shutdown: a process that is asked to stop ends once everything it leaves open is protected.

Between sending an entry and the acceptance of its stop only this process knows what has to be done. So it processes the fills of
the orders in flight and waits for their stops, for at most `PATIENCE_S` of wall time (an unknown outcome is proved absent within
six seconds). What is still without a stop then, or can no longer be protected because the loop has ended, is closed by rule and
reported. Without this a shutdown in the second of an entry left a position or a leg without any stop at six of seven instants.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from bot.app.flatten import Standing
from bot.app.running import Running
from bot.core.errors import BotError
from bot.core.intents import Alert
from bot.report.progress import say

PATIENCE_S: Final = 12.0
CLOSING_S: Final = 24.0
LOOK_S: Final = 0.05


async def shelter(
    bot: Running,
    pump: "asyncio.Task[None]",
    *,
    close: Callable[[], Awaitable[Standing]],
    tell: Callable[[Alert], None],
) -> None:
    """Wait until nothing is in flight and every position has its stop; close everything if that fails.

    Parameters
    ----------
    pump
        The loop's task: when it has ended the engine handles no more events.
    close, tell
        As in `Halt`.
    """
    if not bot.venue.resume or bot.executor is None:
        return  # the exchange is embedded: its positions end with the process
    began, told = time.monotonic(), False
    while not (pump.done() or bot.halt.reason) and time.monotonic() - began < PATIENCE_S:
        await asyncio.sleep(LOOK_S)
        if bot.engine.portfolio.sheltered and bot.loop.idle and not bot.executor.submission.placing:
            return
        if not told:
            say(f"stopping within {PATIENCE_S:.0f} s: what is on its way gets its stops first", quiet=bot.quiet)
            told = True
    if bot.engine.portfolio.sheltered or bot.halt.reason:
        return
    bot.executor.close()  # from here on only closing orders are sent
    tell(Alert("critical", "stopping with an entry or a position that has no whole stop: closing everything"))
    try:
        async with asyncio.timeout(CLOSING_S):
            left = (await close()).words()
    except Exception as error:  # no error here ends the process before the alert
        if not isinstance(error, BotError | TimeoutError):
            bot.tasks.report("closing everything", error)
        why = str(error) or "the exchange does not answer"
        left = f"{why}; look at the exchange, or run `python -m bot flatten`"
    tell(Alert("critical", f"stopped: {left}"))
