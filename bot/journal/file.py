"""The journal's file: opened by one process at a time, validated on opening, committed and settled.

An unusable file (damaged, of a newer version, not a journal) raises `Damaged`: a starting bot renames it and begins a
new file, because open positions and orders at the exchange must be managed in any case. Nothing is ever written to such
a file, and no newer version is migrated down.

While a bot trades (`on_trouble` is set) a failed write does not raise. Everything appended since the last commit and
afterwards is buffered in memory, `on_trouble` is called once, and `retry` writes the buffer in order once the file is
writable again. The buffer holds at most `KEPT` entries: the oldest quotes are dropped first, then the oldest entries.
"""

import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self

from bot.core.errors import BotError, DataError, DataMissing, InvariantError
from bot.core.events import Quotes
from bot.core.held import Held, HeldFile
from bot.journal.schema import APPLICATION_ID, MEASURE, SCHEMA, bring_up_to_date

SETTLE_ROWS: Final = 20_000  # rows after which `settle` checkpoints the log even without a trade
KEPT: Final = 100_000  # entries buffered in memory while nothing can be written
AT_ONCE: Final = 500  # buffered entries per transaction of `retry`: some 20 ms
OPENING_WAIT_MS: Final = 1_000  # wait for another program's lock while opening
LOCKED: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
BROKEN: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_FORMAT)
Call = tuple[Callable[..., None], tuple[Any, ...]]


class Damaged(DataError):
    """The file is unusable: it is damaged, of a newer version, or not a journal."""


class Busy(BotError):
    """Another program has locked the file."""


@dataclass(slots=True)
class Trouble:
    """Why the journal cannot be written, and since when (monotonic seconds)."""

    text: str
    since: float
    dropped: int = 0  # entries dropped because the buffer was full


@dataclass(frozen=True, slots=True)
class Aside:
    """A renamed unusable file: its new path, and the reason."""

    path: Path
    why: str


class File:
    """The SQLite file at `path`, held by one bot at a time.

    Parameters
    ----------
    path
        The SQLite file; created, with its folder, if missing. A lock file and the write-ahead log are next to it.
    sync
        SQLite's `synchronous`: ``normal`` survives a killed process, ``full`` a power failure at the cost of one disk
        wait per commit.
    read_only
        For `trades` and `status` next to a running bot: takes no lock and writes nothing.
    aside
        Suffix for the name of an unusable file that is replaced by a new one; empty raises instead.

    Raises
    ------
    DataMissing
        `read_only`, and the file does not exist.
    Damaged
        The file is unusable.
    Busy
        Another program has locked the file.
    BotError
        Another bot holds the file, or the system denies access to it.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        sync: Literal["normal", "full"] = "normal",
        read_only: bool = False,
        aside: str = "",
    ) -> None:
        self.path = Path(path)
        self.aside: Aside | None = None
        self.trouble: Trouble | None = None
        self.on_trouble: Callable[[Trouble], None] | None = None  # once set, failed writes are buffered
        self._suffix, self._sync, self._wait_ms = aside, sync, OPENING_WAIT_MS
        self._lock: HeldFile | None = None
        self._db_open = False
        self._session = 0
        self._seq = 0
        self._unsettled = 0  # rows since the last checkpoint
        self._settle_due = False
        self._last_event = (0, 0)  # sequence number and time of the newest event
        self._unwritten: deque[Call] = deque()  # since the last commit
        if read_only and not self.path.exists():
            raise DataMissing(f"there is no journal at {self.path}: no bot has run there yet")
        try:
            if read_only:
                self._db = self._connect(read_only=True)
            else:
                _make_folder(self.path.parent)
                self._take_lock()
                self._open()
            self._db_open = True
        except OSError as error:
            self._release_lock()
            raise BotError(f"the journal {self.path} cannot be used: {error.strerror or error}") from error
        except (Damaged, sqlite3.Error) as error:
            self._release_lock()
            told = error if isinstance(error, Damaged) else self._unreadable(error)
            if isinstance(told, Damaged):
                told = Damaged(f"{told}: `run` sets it aside and begins a new one")
            raise told from error
        except BaseException:
            self._release_lock()
            raise

    def _open(self) -> None:
        """Connect for writing; replace an unusable file by a new one if a suffix is given."""
        try:
            self._db = self._connect(read_only=False)
        except (Damaged, sqlite3.Error) as error:
            damage = error if isinstance(error, Damaged) else self._unreadable(error)
            if not isinstance(damage, Damaged) or not self._suffix:
                raise
            self._move_aside(str(damage))
            self._db = self._connect(read_only=False)
        self._db.execute(f"PRAGMA busy_timeout = {self._wait_ms}")
        self._db.execute(f"PRAGMA synchronous = {self._sync}")
        # Checkpoints wait for the disk: only `settle` makes them, never a commit that an order waits for.
        self._db.execute("PRAGMA wal_autocheckpoint = 0")

    def start_over(self, why: str) -> Aside:
        """Rename the file, because its content is unusable, and begin a new one; return the renamed file.

        Raises
        ------
        Damaged
            The file was opened without a suffix for that.
        BotError
            The new file cannot be opened.
        """
        if not self._suffix:
            raise Damaged(why)
        self._db.close()
        self._db_open, self._session, self._seq, self._unsettled = False, 0, 0, 0
        self._unwritten.clear()
        try:
            aside = self._move_aside(why)
            self._open()
        except OSError as error:
            raise BotError(f"the journal {self.path} cannot be used: {error.strerror or error}") from error
        except sqlite3.Error as error:
            raise self._unreadable(error) from error
        self._db_open = True
        return aside

    def _move_aside(self, why: str) -> Aside:
        name, n = f"{self.path.name}.{self._suffix}", 1
        while (moved := self.path.with_name(name)).exists():
            n += 1
            name = f"{self.path.name}.{self._suffix}-{n}"
        self.path.rename(moved)
        for part in ("-wal", "-shm"):  # the names that SQLite expects
            log = self.path.with_name(self.path.name + part)
            if log.exists():
                log.rename(moved.with_name(moved.name + part))
        self.aside = Aside(moved, why)
        return self.aside

    def _unreadable(self, error: sqlite3.Error) -> BotError:
        """Map an SQLite error to an exception of the bot by its code: the message alone has been misleading."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in LOCKED:
            return Busy(f"the journal {self.path} cannot be used: another program holds it ({error})")
        # The module reports a text that is no UTF-8 without a code: a flipped bit in a column.
        if code in BROKEN or "decode to UTF-8" in str(error):
            return Damaged(f"{self.path} is not a readable journal ({error})")
        return BotError(f"the journal {self.path} cannot be used: {error}")

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
        version = self._examine(check=not read_only)
        if version < SCHEMA and not read_only:
            bring_up_to_date(self.path)
        if not read_only:
            with suppress(OSError):  # another user's file that we may write: its mode is that user's decision
                self.path.chmod(0o600)
        connection = self._line("ro" if read_only else "rw")
        connection.row_factory = sqlite3.Row
        try:
            connection.execute("SELECT count(*) FROM sessions").fetchone()  # detects damage now, not in a trade
        except BaseException:
            connection.close()
            raise
        return connection

    def _line(self, mode: str) -> sqlite3.Connection:
        uri = f"{self.path.absolute().as_uri()}?mode={mode}"
        return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=OPENING_WAIT_MS / 1000)

    def _examine(self, *, check: bool) -> int:
        """Return the schema version of the file, 0 if there is none; with `check`, scan the entire file for damage.

        Raises
        ------
        Damaged
            The file is damaged, of a newer version, or not a journal.
        """
        if not self.path.exists():
            return 0
        if not self.path.is_file():
            raise Damaged(f"{self.path} is not a file")
        if self.path.stat().st_size == 0:
            raise Damaged(f"{self.path} is empty: a journal never is")
        with closing(self._line("ro")) as probe:
            mark = probe.execute("PRAGMA application_id").fetchone()[0]
            version = int(probe.execute("PRAGMA user_version").fetchone()[0])
            foreign = mark != APPLICATION_ID and probe.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if foreign:
                raise Damaged(f"{self.path} is a database of something else, not a journal")
            if version > SCHEMA:
                raise Damaged(
                    f"{self.path} was written by a newer version {version} of the bot (this one knows {SCHEMA})"
                )
            if check:
                found = str(probe.execute("PRAGMA quick_check(1)").fetchone()[0])
                if found != "ok":
                    raise Damaged(f"{self.path} is damaged ({' '.join(found.split())})")
        return version

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Commit, checkpoint the log and release the lock. The session stays unfinished: see `end_session`."""
        try:
            if self._db_open and self._lock is not None:
                if self.trouble is None:
                    self.commit()
                while self.trouble is not None and self.retry(at_once=KEPT):
                    pass
                if self.trouble is None:
                    self._checkpoint("TRUNCATE")
        finally:
            if self._db_open:
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

    # Immediate and deferred writes -------------------------------------------------------------------------------------

    def wait_at_most(self, ms: int) -> None:
        """Set the wait for another program's lock, ms; keep it near 0 in an event loop, which the wait blocks."""
        self._wait_ms = ms
        self._db.execute(f"PRAGMA busy_timeout = {ms}")

    def _write(self, how: Callable[..., None], *what: Any) -> None:
        """Write now, or buffer the entry until the file is writable."""
        if not self._session:
            raise InvariantError("the journal is written before a session is open")
        self._unwritten.append((how, what))
        if self.trouble is not None:
            self._keep_within()
            return
        try:
            self._begin()
            how(*what)
        except sqlite3.Error as error:
            self._fail(error)
        except BaseException:
            self._unwritten.pop()  # an entry that can never be stored must not block the others
            raise

    def _keep_within(self) -> None:
        """Drop the least needed entries if the buffer is full."""
        if len(self._unwritten) <= KEPT:
            return
        assert self.trouble is not None
        before = len(self._unwritten)
        half = [self._unwritten.popleft() for _ in range(before // 2)]
        kept = [call for call in half if not any(isinstance(part, Quotes) for part in call[1])]
        self._unwritten.extendleft(reversed(kept))
        while len(self._unwritten) > KEPT:
            self._unwritten.popleft()
        self.trouble.dropped += before - len(self._unwritten)

    def _fail(self, error: sqlite3.Error) -> None:
        """Roll back and keep the appended entries for `retry`; without `on_trouble`, raise."""
        with suppress(sqlite3.Error):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        told = self._unreadable(error)
        if self.trouble is not None:
            self.trouble.text = str(told)
            return
        if self.on_trouble is None:
            self._unwritten.clear()
            raise told from error
        self.trouble = Trouble(str(told), time.monotonic())
        self.on_trouble(self.trouble)

    def retry(self, *, at_once: int = AT_ONCE) -> bool:
        """Write up to `at_once` buffered entries; return whether it succeeded. `trouble` is None when all are written."""
        if self.trouble is None:
            return True
        part = [self._unwritten[n] for n in range(min(at_once, len(self._unwritten)))]
        try:
            self._begin()
            for how, what in part:
                how(*what)
            self._db.execute("COMMIT")
            if self._settle_due:
                self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error as error:
            self._fail(error)
            return False
        for _ in part:
            self._unwritten.popleft()
        if not self._unwritten:
            self.trouble = None
        return True

    @property
    def waiting(self) -> int:
        """Number of entries not yet committed."""
        return len(self._unwritten)

    def commit(self) -> None:
        """Commit, so that everything appended survives a killed process. Called before intents are executed."""
        if self.trouble is not None or not self._db.in_transaction:
            return
        try:
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self._fail(error)
        else:
            self._unwritten.clear()

    def settle(self) -> None:
        """Commit, and after a fill, a closed trade or many rows wait for the disk. Call it when nothing is urgent."""
        self.commit()
        if self.trouble is None and (self._settle_due or self._unsettled >= SETTLE_ROWS):
            started = time.perf_counter()
            try:
                self._checkpoint("PASSIVE")
            except BotError as error:
                cause = error.__cause__
                assert isinstance(cause, sqlite3.Error)
                self._settle_due = True  # `retry` repeats the checkpoint too
                self._fail(cause)
                return
            self._settle_due, self._unsettled = False, 0
            # The first write after a checkpoint restarts the log and waits for the disk: do it here, not before an order.
            waited_ms = (time.perf_counter() - started) * 1000
            self._write(self._write_measure, "settle_ms", waited_ms, self._last_event[1])
            self.commit()

    def _write_measure(self, name: str, value: float, at_ms: int) -> None:
        self._db.execute(MEASURE, (self._session, name, at_ms, value))

    def _checkpoint(self, mode: str) -> None:
        with self._translated():
            self._db.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()

    def _rows(self, sql: str, arguments: tuple[Any, ...] = ()) -> list[dict[str, Any]]:
        with self._translated():
            return [dict(row) for row in self._db.execute(sql, arguments)]


def _make_folder(folder: Path) -> None:
    """Create the missing folders of a path for this user only; existing ones are unchanged."""
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    for parent in reversed(missing):
        parent.mkdir(mode=0o700, exist_ok=True)
