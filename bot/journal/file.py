"""The file itself: opened by one process at a time, checked at the door, committed and settled."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any, Final, Literal, Self

from bot.core.errors import BotError, DataError, DataMissing, InvariantError
from bot.core.held import Held, HeldFile
from bot.journal.schema import APPLICATION_ID, MEASURE, SCHEMA, bring_up_to_date

SETTLE_ROWS: Final = 20_000  # rows after which the log is moved into the file even without a trade


class File:
    """The SQLite file at `path`, held by one bot at a time.

    Parameters
    ----------
    path
        The SQLite file; made, with its folder, when it is not there. Beside it stand a lock file and the write-ahead log.
    sync
        SQLite's `synchronous`: ``normal`` survives a killed process, ``full`` a power cut at the cost of one disk wait
        a commit.
    read_only
        For `trades` and `status` beside a running bot: takes no lock and writes nothing.
    """

    def __init__(
        self, path: Path | str, *, sync: Literal["normal", "full"] = "normal", read_only: bool = False
    ) -> None:
        self.path = Path(path)
        self._lock: HeldFile | None = None
        self._db_open = False
        self._session = 0
        self._seq = 0
        self._unsettled = 0  # rows since the log was moved into the file
        self._settle_due = False
        self._last_event = (0, 0)  # sequence number and time of the newest event
        if read_only and not self.path.is_file():
            raise DataMissing(f"there is no journal at {self.path}: no bot has run there yet")
        try:
            if not read_only:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._take_lock()
            self._db = self._connect(read_only=read_only)
            self._db_open = True
            if not read_only:
                self._db.execute(f"PRAGMA synchronous = {sync}")
                # Checkpoints wait for the disk: `settle` makes them, never a commit that an order waits for.
                self._db.execute("PRAGMA wal_autocheckpoint = 0")
        except OSError as error:
            self._release_lock()
            raise BotError(f"the journal {self.path} cannot be used: {error.strerror or error}") from error
        except sqlite3.Error as error:
            self._release_lock()
            raise self._unreadable(error) from error
        except BaseException:
            self._release_lock()
            raise

    def _unreadable(self, error: sqlite3.Error) -> BotError:
        if isinstance(error, sqlite3.OperationalError):
            return BotError(f"the journal {self.path} cannot be used: {error}")
        return DataError(
            f"{self.path} is not a readable journal ({error}): move it away, or set BOT_DATA to another folder"
        )

    def _take_lock(self) -> None:
        lock = HeldFile(self.path.with_name(self.path.name + ".lock"), str(os.getpid()))
        try:
            lock.take()
        except Held as holder:
            raise BotError(
                f"another bot is running on {self.path} (pid {holder}): stop it first, or set BOT_DATA to another folder"
            ) from None
        self._lock = lock

    def _release_lock(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _connect(self, *, read_only: bool) -> sqlite3.Connection:
        if self.path.is_file() and self.path.stat().st_size > 0:
            with closing(sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True)) as probe:
                mark = probe.execute("PRAGMA application_id").fetchone()[0]
                version = probe.execute("PRAGMA user_version").fetchone()[0]
                foreign = mark != APPLICATION_ID and probe.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if foreign:
                raise DataError(
                    f"{self.path} is a database of something else, not a journal: move it away, "
                    "or set BOT_DATA to another folder"
                )
            if version > SCHEMA:
                raise DataError(f"{self.path} was written by a newer version of the bot: use that version to open it")
        else:
            version = 0
        if version < SCHEMA and not read_only:
            bring_up_to_date(self.path)
        mode = "ro" if read_only else "rw"
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, timeout=5.0
        )
        connection.row_factory = sqlite3.Row
        try:
            connection.execute("SELECT count(*) FROM sessions").fetchone()  # a damaged file shows here, not in a trade
        except BaseException:
            connection.close()
            raise
        return connection

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Commit, move the log into the file and let the next bot in. The session stays unfinished: see `end_session`."""
        if self._db_open:
            if self._lock is not None:
                self.commit()
                self._checkpoint("TRUNCATE")
            self._db.close()
            self._db_open = False
        self._release_lock()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._unreadable(error) from error

    def _begin(self) -> None:
        if not self._db.in_transaction:
            if not self._session:
                raise InvariantError("the journal is written before a session is open")
            self._db.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Make everything appended so far survive the death of this process. Called before intents are performed."""
        if self._db.in_transaction:
            with self._translated():
                self._db.execute("COMMIT")

    def settle(self) -> None:
        """Commit, and after a fill, a closed trade or many rows also wait for the disk. For moments without hurry."""
        self.commit()
        if self._settle_due or self._unsettled >= SETTLE_ROWS:
            started = perf_counter()
            self._checkpoint("PASSIVE")
            self._settle_due, self._unsettled = False, 0
            # The first write after that begins the log anew and waits for the disk once more: here, not before an order.
            with self._translated():
                self._begin()
                waited_ms = (perf_counter() - started) * 1000
                self._db.execute(MEASURE, (self._session, "settle_ms", self._last_event[1], waited_ms))
            self.commit()

    def _checkpoint(self, mode: str) -> None:
        with self._translated():
            self._db.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()

    def _rows(self, sql: str, arguments: tuple[Any, ...] = ()) -> list[dict[str, Any]]:
        with self._translated():
            return [dict(row) for row in self._db.execute(sql, arguments)]
