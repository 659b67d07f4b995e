"""Where the bot keeps its own files: `data/` of the project, or the folder that BOT_DATA names.

What belongs to the user and not to one journal (the locks of accounts, compiled kernels) lies in the state folder.
"""

import os
from pathlib import Path

from bot.core.folders import state_folder as state_folder

PROJECT = Path(__file__).resolve().parent.parent.parent


def data_folder() -> Path:
    """Return the folder of klines, journal and lock; `events.csv` and `models/` stay with the project."""
    named = os.environ.get("BOT_DATA")
    return Path(named).expanduser() if named else PROJECT / "data"


def project_file(name: str) -> Path:
    """Return a file of the configuration: as it is when absolute, else seen from the project."""
    path = Path(name).expanduser()
    return path if path.is_absolute() else PROJECT / path
