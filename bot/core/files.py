"""Files that only their owner can read, whatever the umask: everything the bot stores about money."""

import os
from pathlib import Path
from typing import Any, Final

FILE: Final = 0o600
FOLDER: Final = 0o700


def private_folder(path: Path) -> Path:
    """Create a folder and its missing parents, each accessible to its owner only; return it."""
    missing = [place for place in (path, *path.parents) if not place.is_dir()]
    for place in reversed(missing):
        place.mkdir(mode=FOLDER, exist_ok=True)
        place.chmod(FOLDER)  # the umask may have cleared bits
    return path


def private(path: str, flags: int) -> int:
    """Open a file with owner-only permissions (an `opener` for `open`); a writable existing file is restricted too."""
    handle = os.open(path, flags, FILE)
    if flags & (os.O_WRONLY | os.O_RDWR):
        os.chmod(path, FILE)
    return handle


def open_private(path: Path, mode: str) -> Any:
    """Open an owner-only file; text is UTF-8. The caller closes it."""
    return open(path, mode, encoding=None if "b" in mode else "utf-8", opener=private)


def write_private(path: Path, data: bytes) -> None:
    """Write an owner-only file atomically."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        with open(temporary, "xb", opener=private) as file:
            file.write(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
