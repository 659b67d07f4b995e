"""Before the bot is built: open the journal, whatever its state, and connect to the exchange.

A journal that cannot be continued is set aside under a name with the time, and a new one is begun: the account has to be
protected in any case. One that another program holds is waited for, one that another bot holds is an error at once.

A start that fails with nothing open ends with one sentence. When the account may have something open (by the journal's fills,
or because the journal had to be set aside) an exchange that does not answer, or a `doctor` that finds a fault, does not end the
start: it is retried after growing pauses, and the stops at the exchange protect meanwhile.
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
LOCKED_S: Final = 60.0  # how long to wait for another program's lock on the journal
LOOK_S: Final = 0.5


async def open_journal(path: Path, *, sync: Literal["normal", "full"] = "normal") -> Journal:
    """Open the journal at `path`; a damaged one is set aside first, and `Journal.aside` says where it is.

    Raises
    ------
    BotError
        Another bot holds it, or nothing can be written there.
    """
    return await when_free(lambda: Journal(path, sync=sync, aside=f"damaged-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"))


async def when_free(act: Callable[[], T]) -> T:
    """Return the result of `act` as soon as no other program holds the journal.

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
    """Connect to the venue, retrying for ever when something may be open there.

    Parameters
    ----------
    options
        The venue, and how `run` was called.
    journal
        Knows whether something was left open.
    stack
        Closes the venue at its end.

    Raises
    ------
    Unreachable, DoctorFailed
        The venue cannot be used and nothing may be open there.
    """
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
