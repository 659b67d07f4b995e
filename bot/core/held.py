"""A lock file held by one process; others can read who holds it.

The lock is `filelock`'s, which the system releases when the process ends for any reason. The holder's description is in
a file next to it, because Windows does not allow reading a locked file. Both files are kept: deleting a lock file would
let a third process lock a name that a second one is still waiting for.
"""

from contextlib import suppress
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

MODE: Final = 0o600
LONGEST: Final = 400  # characters shown of the holder's description


class Held(Exception):
    """Another process holds the file; the message is that holder's description."""


class HeldFile:
    """One lock; `words` describe its holder to other processes."""

    def __init__(self, path: Path, words: str) -> None:
        self.path, self.words = path, words
        # Not thread-local: the journal may be closed by another thread than the one that opened it.
        self._lock = FileLock(path, timeout=0, mode=MODE, thread_local=False)

    def take(self) -> None:
        """Acquire the lock without waiting.

        Raises
        ------
        Held
            Another process holds it.
        OSError
            The file cannot be opened.
        """
        try:
            self._lock.acquire()
        except Timeout:
            raise Held(_words(self.path)) from None
        note = _note(self.path)
        with suppress(OSError):  # with a full disk the lock is still valid
            note.touch(mode=MODE)
            note.write_text(self.words, encoding="utf-8")

    @property
    def held(self) -> bool:
        """Whether this process holds the lock."""
        return bool(self._lock.is_locked)

    def release(self) -> None:
        """Release the lock if it is held."""
        if self._lock.is_locked:
            self._lock.release()


def lock_holder(path: Path) -> str:
    """Return the description of a lock file's holder; empty if it is not held."""
    if not path.is_file():
        return ""
    lock = FileLock(path, timeout=0, mode=MODE, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        return _words(path)
    except OSError:
        return ""
    lock.release()
    return ""


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.holder")


def _words(path: Path) -> str:
    with suppress(OSError):
        if text := _note(path).read_text(encoding="utf-8", errors="replace")[:LONGEST].strip():
            return text
    return "unknown"
