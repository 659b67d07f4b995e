"""Files that go either into the bot's own data, where they are for its owner alone, or to a place that a person has named."""

import os
from pathlib import Path

from bot.core.files import private, private_folder
from bot.market.paths import data_folder


def is_ours(path: Path) -> bool:
    """Whether a path is in the bot's data folder."""
    return Path(os.path.abspath(path)).is_relative_to(os.path.abspath(data_folder()))


def make_folder(path: Path) -> Path:
    """Make a folder: private in the bot's data, as the umask has it elsewhere."""
    if is_ours(path):
        return private_folder(path)
    path.mkdir(parents=True, exist_ok=True)
    return path


def opener(path: str, flags: int) -> int:
    """Open a file that way: an `opener` for `open`."""
    return private(path, flags) if is_ours(Path(path)) else os.open(path, flags, 0o666)
