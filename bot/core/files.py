"""Files for their owner's eyes: what the bot keeps about money is read by nobody else, whatever umask it was started with."""

import os
from pathlib import Path
from typing import Any, Final

FILE: Final = 0o600
FOLDER: Final = 0o700


def private_folder(path: Path) -> Path:
    """Make a folder and those above it that are missing, each for its owner alone; return it."""
    missing = [place for place in (path, *path.parents) if not place.is_dir()]
    for place in reversed(missing):
        place.mkdir(mode=FOLDER, exist_ok=True)
        place.chmod(FOLDER)  # the umask has taken bits away
    return path


def private(path: str, flags: int) -> int:
    """Open a file that its owner alone may read: an `opener` for `open`; one that was left open to others is closed to them."""
    handle = os.open(path, flags, FILE)
    if flags & (os.O_WRONLY | os.O_RDWR):
        os.chmod(path, FILE)
    return handle


def open_private(path: Path, mode: str) -> Any:
    """Open a file for its owner alone, to be kept open; text is UTF-8."""
    return open(path, mode, encoding=None if "b" in mode else "utf-8", opener=private)


def write_private(path: Path, data: bytes) -> None:
    """Write a file for its owner alone, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        with open(temporary, "xb", opener=private) as file:
            file.write(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
