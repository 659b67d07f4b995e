"""One bot per account on this machine: two would cancel each other's orders and double each other's risk.

The journal's own lock knows only its folder. This one is named after a hash of the API key and the exchange's address, lies in
the machine's temporary folder, and is held as long as the process lives; a crash lets it go. Two keys of one account, or two
machines, cannot see each other: docs/live-checklist.md says so.
"""

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from bot.core.errors import BotError
from bot.market.paths import data_folder


def lock_path(api_key: str, rest_url: str) -> Path:
    """Return the lock file of an account; nothing of the key can be read from it."""
    place = urlsplit(rest_url).netloc
    digest = hashlib.sha256(f"{place} {api_key}".encode()).hexdigest()[:20]
    return Path(tempfile.gettempdir()) / f"bot-account-{digest}.lock"


@contextmanager
def account_lock(api_key: str, rest_url: str) -> Iterator[None]:
    """Hold the account for the length of the block.

    Raises
    ------
    BotError
        Another bot on this machine trades on the account.
    """
    path = lock_path(api_key, rest_url)
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        raise BotError(f"the account's lock file {path} cannot be opened: {error.strerror}") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(handle, 400).decode(errors="replace").strip() or "unknown"
            raise BotError(
                f"another bot on this machine trades on this account ({holder}): stop it first; "
                "two bots on one account would cancel each other's orders"
            ) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"pid {os.getpid()}, journal in {data_folder()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)  # the file stays: removing it would let a third process lock a name that another waits for
