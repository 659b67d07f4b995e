"""Locations of the bot's files: `data/` of the project, or the folder in BOT_DATA.

What belongs to the user and not to one journal (account locks, compiled kernels) is in the state folder.
"""

import os
from pathlib import Path

from bot.core.folders import state_folder as state_folder

PROJECT = Path(__file__).resolve().parent.parent.parent


def data_folder() -> Path:
    """Return the folder of klines, journal and lock; `events.csv` and `models/` stay in the project."""
    named = os.environ.get("BOT_DATA")
    return Path(named).expanduser() if named else PROJECT / "data"


def project_file(name: str) -> Path:
    """Return the path of a file named in the configuration; a relative one is relative to the project."""
    path = Path(name).expanduser()
    return path if path.is_absolute() else PROJECT / path
