"""Handle a journal that cannot be written while the bot trades.

When it is locked by another program, or the disk is full or fails, events are kept in memory (`journal.file`), exits, stops and
trails continue, entries pause, and nothing ever waits for SQLite. Writing is retried a few times a second; the operator is
alerted once, and once more when everything is written. After `PATIENCE_S` the bot shuts down as for a requested stop, because
one unrecorded trade should not become a day of them.

If the process dies meanwhile, the events since the last commit are lost, and the record of orders sent. The next start reads
the account, finds the orders by their client ids, and guards what no record explains.
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
JOURNAL: Final = "journal"  # the feed reported lost while it cannot be written
PATIENCE_S: Final = 60.0
PAUSE_S: Final = 0.25
WAIT_MS: Final = 5  # for another program's lock: it blocks the event loop


class JournalWatch:
    """Retries writing the journal, and gives up after a while.

    Parameters
    ----------
    emit
        Puts an event on the bot's queue.
    tell
        Receives alerts.
    now_ms
        The exchange's time.
    give_up
        Called with the reason when it could not be written for `patience_s`.
    patience_s
        How long writing is retried.
    wait_ms
        How long a write may wait for another program's lock.
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
        self.reason = ""  # why entries are paused
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
        """Stop retrying: from now on failures are raised."""
        self._journal.on_trouble = None
        if self._timer is not None:
            self._timer.cancel()
