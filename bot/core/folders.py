"""The user's state folder: what belongs to the user of this machine, not to one journal (account locks, kernels)."""

import os
import sys
from pathlib import Path


def state_place() -> Path:
    """Return the path of this user's state folder without creating it; BOT_STATE overrides it.

    Raises
    ------
    RuntimeError
        The user has no home folder, and BOT_STATE is not set.
    """
    if named := os.environ.get("BOT_STATE"):
        return Path(named).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "bot"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "bot"
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "bot"


def state_folder() -> Path:
    """Create this user's state folder if missing, accessible to this user only, and return it."""
    folder = state_place()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)  # it may have existed before, or the umask may have changed it
    return folder
