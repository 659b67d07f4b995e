"""One bot per account and user of this machine: two would cancel each other's orders and double each other's risk.

The journal's own lock covers only its folder. This one is named after a hash of the API key and the exchange's address, is in
the user's state folder (mode 0700: no other user can take it or lock us out), and is held while the process lives; a crash
releases it. A private temporary folder, as services and containers have, does not matter; containers that may trade on one
account share the lock by mounting one folder as BOT_STATE. Two keys of one account, or two machines, cannot see each other:
docs/live-checklist.md explains it.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from bot.core.errors import BotError
from bot.core.held import Held, HeldFile
from bot.market.paths import data_folder, state_folder


def lock_path(api_key: str, rest_url: str) -> Path:
    """Return the path of an account's lock file in the state folder; it does not reveal the key."""
    place = urlsplit(rest_url).netloc
    digest = hashlib.sha256(f"{place} {api_key}".encode()).hexdigest()[:20]
    return state_folder() / f"account-{digest}.lock"


@contextmanager
def account_lock(api_key: str, rest_url: str) -> Iterator[None]:
    """Hold the account's lock inside the context.

    Raises
    ------
    BotError
        Another bot of this user trades on the account, or the lock file cannot be created.
    """
    lock = _taken(api_key, rest_url)
    try:
        yield
    finally:
        lock.release()


def _taken(api_key: str, rest_url: str) -> HeldFile:
    try:
        lock = HeldFile(lock_path(api_key, rest_url), f"pid {os.getpid()}, journal in {data_folder()}")
        lock.take()
    except Held as error:
        raise BotError(
            f"another bot on this machine trades on this account ({error}): stop it first; "
            "two bots on one account would cancel each other's orders"
        ) from None
    except RuntimeError:
        raise BotError("the account's lock cannot be kept: this user has no home folder, set BOT_STATE") from None
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        raise BotError(
            f"the account's lock cannot be kept ({what}): set BOT_STATE to a folder of your own that can be written"
        ) from None
    return lock
