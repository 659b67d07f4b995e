"""A file that one process holds: whoever wants it too learns who has it.

The lock is `filelock`'s, which the system drops when the process ends, however it ends. Who holds it stands in a file next to it:
Windows lets nobody read a file that is locked. Both files stay, for removing a lock lets a third process lock a name that a
second one still waits for.
"""

from contextlib import suppress
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

MODE: Final = 0o600
LONGEST: Final = 400  # characters of who holds it that are shown


class Held(Exception):
    """Another process holds the file; the text is what it wrote of itself."""


class HeldFile:
    """One lock; `words` name its holder to others."""

    def __init__(self, path: Path, words: str) -> None:
        self.path, self.words = path, words
        # Not bound to a thread: the journal may be closed from another one than opened it.
        self._lock = FileLock(path, timeout=0, mode=MODE, thread_local=False)

    def take(self) -> None:
        """Hold the file.

        Raises
        ------
        Held
            Another process has it.
        OSError
            The file cannot be opened.
        """
        try:
            self._lock.acquire()
        except Timeout:
            raise Held(_words(self.path)) from None
        note = _note(self.path)
        with suppress(OSError):  # on a full disk the lock holds all the same
            note.touch(mode=MODE)
            note.write_text(self.words, encoding="utf-8")

    @property
    def held(self) -> bool:
        """Whether this process has it."""
        return bool(self._lock.is_locked)

    def release(self) -> None:
        """Let the next one in; nothing if it is not held."""
        if self._lock.is_locked:
            self._lock.release()


def lock_holder(path: Path) -> str:
    """Return who holds a lock file; empty when nobody does."""
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
