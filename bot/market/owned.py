"""Files written either to the bot's data folder, with owner-only permissions, or to a path given by the user."""

import os
from pathlib import Path

from bot.core.files import private, private_folder
from bot.market.paths import data_folder


def is_ours(path: Path) -> bool:
    """Return whether a path is in the bot's data folder."""
    return Path(os.path.abspath(path)).is_relative_to(os.path.abspath(data_folder()))


def make_folder(path: Path) -> Path:
    """Create a folder: owner-only in the bot's data folder, by the umask elsewhere."""
    if is_ours(path):
        return private_folder(path)
    path.mkdir(parents=True, exist_ok=True)
    return path


def opener(path: str, flags: int) -> int:
    """Open a file with the same rule: an `opener` for `open`."""
    return private(path, flags) if is_ours(Path(path)) else os.open(path, flags, 0o666)
