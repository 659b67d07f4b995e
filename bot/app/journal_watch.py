"""A journal that cannot be written, while the bot trades.

Locked by another program, on a disk that is full or answers with errors: what happens is kept in memory (`journal.file`), exits,
stops and trails go on as they are, entries rest, and nothing ever waits for SQLite. It is tried again a few times a second;
the person is alerted once, and once more when all of it is on file. After `PATIENCE_S` the bot leaves as it does when it is
asked to stop, because a trade that nobody records should not become a day that nobody records.

What is lost if the process dies meanwhile: the events since the last commit, and that orders were sent. The next start
reads the account, finds the orders by their client ids, and guards what no record explains.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

import structlog

from bot.core.errors import BotError
from bot.core.events import Event, FeedLost, FeedRestored
from bot.core.intents import Alert
from bot.journal import Journal, Trouble

log = structlog.get_logger("bot")
JOURNAL: Final = "journal"  # what counts as lost while it cannot be written
PATIENCE_S: Final = 60.0
PAUSE_S: Final = 0.25
WAIT_MS: Final = 5  # for another program's lock: the event loop waits with it


class JournalWatch:
    """Has the journal written as soon as it can be, and gives up after a while.

    Parameters
    ----------
    emit
        Puts an event on the bot's queue.
    tell
        Takes alerts.
    now_ms
        The exchange's time.
    give_up
        Called with the reason when it could not be written for `patience_s`.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        emit: Callable[[Event], None],
        tell: Callable[[Alert], None],
        now_ms: Callable[[], int],
        give_up: Callable[[BotError], None],
        patience_s: float = PATIENCE_S,
        wait_ms: int = WAIT_MS,
    ) -> None:
        self._journal, self._emit, self._tell, self._now_ms = journal, emit, tell, now_ms
        self._give_up, self._patience_s = give_up, patience_s
        self._timer: asyncio.TimerHandle | None = None
        self.reason = ""  # why entries rest
        journal.on_trouble = self._begin
        journal.wait_at_most(wait_ms)

    def _begin(self, trouble: Trouble) -> None:
        self.reason = trouble.text
        log.error("the journal cannot be written", error=trouble.text, at_ms=self._now_ms())
        self._emit(FeedLost(self._now_ms(), JOURNAL, trouble.text))
        self._tell(
            Alert(
                "critical",
                f"{trouble.text}: entries rest, stops and exits go on, and what happens is kept in memory; "
                f"if it cannot be written within {self._patience_s:.0f} s the bot leaves",
            )
        )
        self._again(PAUSE_S)

    def _again(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        trouble = self._journal.trouble
        assert trouble is not None
        written = self._journal.retry()
        if self._journal.trouble is None:
            self._end(trouble)
        elif written:
            self._again(0.0)  # the rest of it
        elif time.monotonic() - trouble.since < self._patience_s:
            self._again(PAUSE_S)
        else:
            self._give_up(BotError(trouble.text))

    def _end(self, trouble: Trouble) -> None:
        self.reason = ""
        lost = f"; {trouble.dropped} entries had to be dropped" if trouble.dropped else ""
        seconds = time.monotonic() - trouble.since
        self._emit(FeedRestored(self._now_ms(), JOURNAL))
        self._tell(Alert("warning", f"the journal is written again, all of it, after {seconds:.0f} s{lost}"))

    def close(self) -> None:
        """Try no more: what fails from now on is raised."""
        self._journal.on_trouble = None
        if self._timer is not None:
            self._timer.cancel()
