"""Leaving: a process that is asked to stop goes when what it leaves behind is protected.

Between the sending of an entry and the acceptance of its stop only this process knows what has to be done. So it hears the
fills of the orders that are out and waits for their stops, for `PATIENCE_S` of the wall at most (an unknown outcome is
proved absent within six seconds). What is still bare then, or can no longer be protected because the loop has ended, is closed by
rule and told. Without this a stop in the second of an entry left a position or a leg without any stop at six of seven instants.
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
    """Wait until nothing is on its way and every position has its stop; close what cannot be sheltered.

    Parameters
    ----------
    pump
        The loop's task: when it has ended the engine hears nothing more.
    close, tell
        As `Halt` takes them.
    """
    if not bot.venue.resume or bot.executor is None:
        return  # the exchange is in this process: its positions end with it
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
    bot.executor.close()  # from here on only the closing sends orders
    tell(Alert("critical", "stopping with an entry or a position that has no whole stop: closing everything"))
    try:
        async with asyncio.timeout(CLOSING_S):
            left = (await close()).words()
    except Exception as error:  # nothing that fails here ends the process before the person knows
        if not isinstance(error, BotError | TimeoutError):
            bot.tasks.report("closing everything", error)
        why = str(error) or "the exchange does not answer"
        left = f"{why}; look at the exchange, or run `python -m bot flatten`"
    tell(Alert("critical", f"stopped: {left}"))
