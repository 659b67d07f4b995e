"""Before there is a bot: the journal opened, whatever state it is in, and the exchange reached.

A journal that cannot be gone on with is set aside under a name with the time, and a new one is begun: the account has to be
looked after all the same. One that another program holds is waited for, one that another bot holds is refused at once.

A start that fails before anything is held ends with one sentence. When something of the account may be open (by the journal's
fills, or because the journal had to be set aside) an exchange that does not answer, or a `doctor` that finds a fault, is no
end: it is tried again after growing pauses, and the stops on the exchange protect meanwhile.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, TypeVar

import structlog

from bot.app.doctor import DoctorFailed
from bot.app.options import RunOptions
from bot.app.supervision import PAUSES_S
from bot.app.venues import VENUES, TradingVenue
from bot.config import Config
from bot.core.errors import Unreachable
from bot.core.types import REAL_VENUES
from bot.journal import Busy, Journal
from bot.report.progress import say

T = TypeVar("T")
log = structlog.get_logger("bot")
LOCKED_S: Final = 60.0  # how long another program's lock on the journal is waited for
LOOK_S: Final = 0.5


async def open_journal(path: Path, *, sync: Literal["normal", "full"] = "normal") -> Journal:
    """Return the journal at `path`, open; a damaged one is set aside first, and `Journal.aside` tells where it is.

    Raises
    ------
    BotError
        Another bot holds it, or nothing can be written there.
    """
    return await when_free(lambda: Journal(path, sync=sync, aside=f"damaged-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"))


async def when_free(act: Callable[[], T]) -> T:
    """Return what `act` gives as soon as no other program holds the journal.

    Raises
    ------
    Busy
        It is held for longer than a minute.
    """
    began, told = time.monotonic(), False
    while True:
        try:
            return act()
        except Busy as error:
            if time.monotonic() - began > LOCKED_S:
                raise
            if not told:
                log.warning(f"{error}: waiting for it, for {LOCKED_S:.0f} s at most")
                told = True
        await asyncio.sleep(LOOK_S)


async def reach(config: Config, options: RunOptions, journal: Journal, stack: AsyncExitStack) -> TradingVenue:
    """Return the venue, open; patiently when something may be open there."""
    tries = 0
    patient = options.venue in REAL_VENUES and journal.left_open(options.venue)
    while True:
        try:
            async with AsyncExitStack() as tried:
                venue = await VENUES[options.venue](config, options, tried)
                stack.push_async_exit(tried.pop_all())
                return venue
        except (Unreachable, DoctorFailed) as error:
            if not patient:
                raise
            pause = PAUSES_S[min(tries, len(PAUSES_S) - 1)]
            if tries & (tries + 1) == 0:
                say(
                    f"{error}; something may be open there: trying again every {pause:.0f} s, its stops stay",
                    quiet=False,
                )
            tries += 1
            await asyncio.sleep(pause)
