"""Where the bot keeps its own files: `data/` of the project, or the folder that BOT_DATA names.

What belongs to the user and not to one journal (the locks of accounts, compiled kernels) lies in the state folder.
"""

import os
import sys
from pathlib import Path

from bot.core.folders import state_folder as state_folder

PROJECT = Path(__file__).resolve().parent.parent.parent


def data_folder() -> Path:
    """Return the folder of klines, journal and lock; `events.csv` and `models/` stay with the project."""
    named = os.environ.get("BOT_DATA")
    return Path(named).expanduser() if named else PROJECT / "data"


def state_folder() -> Path:
    """Return the folder of this user's state, made for this user alone; BOT_STATE names another."""
    folder = _state_place()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)  # one that stood before, or that the umask changed
    return folder


def _state_place() -> Path:
    if named := os.environ.get("BOT_STATE"):
        return Path(named).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "bot"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "bot"
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "bot"


def project_file(name: str) -> Path:
    """Return a file of the configuration: as it is when absolute, else seen from the project."""
    path = Path(name).expanduser()
    return path if path.is_absolute() else PROJECT / path
