"""The user's state folder: what belongs to the user of this machine, not to one journal (locks of accounts, kernels)."""

import os
import sys
from pathlib import Path


def state_place() -> Path:
    """Return where this user's state belongs, without making it; BOT_STATE names another place.

    Raises
    ------
    RuntimeError
        The system knows no home folder for this user, and BOT_STATE is not set.
    """
    if named := os.environ.get("BOT_STATE"):
        return Path(named).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "bot"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "bot"
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "bot"


def state_folder() -> Path:
    """Return the folder of this user's state, made for this user alone."""
    folder = state_place()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)  # one that stood before, or that the umask changed
    return folder
