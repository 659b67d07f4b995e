"""Cache of compiled kernels: one per-user folder for each combination of everything that the machine code depends on.

Numba's own cache checks only the file that defines a kernel, so after a change to a kernel inlined from another file it
would reuse the stale machine code, wherever NUMBA_CACHE_DIR put it. Here the sources of all kernels, the versions of
Python, numba, llvmlite and numpy, the processor and the compiler's settings form one key, and each key has a folder: a
change of any of them starts with an empty one. The folders are in `kernels/` of the state folder (BOT_KERNELS overrides
it); if that is not writable, in a per-user folder of the temporary folder; if that is not writable either, nothing is cached.

Several processes may compile at once. A file holds the machine code of one kernel for one signature, is written
atomically and includes a digest: a reader gets the complete file or compiles. (Numba's index is shared by the signatures
of a kernel, and of two concurrent writers the later one can leave an entry that names the other's machine code: numba
issue 4807.) Machine code is loaded only from a folder owned by this user that nobody else can write.
"""

import contextlib
import hashlib
import logging
import os
import pickle
import platform
import shutil
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import llvmlite.binding
import numba
import numpy as np
from numba.core import compiler
from numba.core import serialize as numba_serialize

from bot.core.folders import state_place

PACKAGE: Final = Path(__file__).resolve().parent.parent
# All sources of machine code: the files of kernels and of the constants that they use.
ROOMS: Final = ("indicators", "structure", "strategy")
FILES: Final = (
    "core/jit.py",
    "core/kernel_cache.py",
    "core/times.py",
    "market/synthetic.py",
    "backtest/data.py",
    "backtest/legs.py",
    "backtest/quiet_bars.py",
    "search/classifier.py",
    "parity/chance.py",
)
SETTINGS: Final = ("OPT", "BOUNDSCHECK", "DEBUGINFO_DEFAULT", "ENABLE_AVX", "LOOP_VECTORIZE", "SLP_VECTORIZE")
VARIABLE: Final = "BOT_KERNELS"
KEPT: Final = 3  # key folders kept by `prune`
UNUSED_S: Final = 86_400.0  # a folder used within a day of the newest is kept too
_DIGEST: Final = hashlib.sha256().digest_size

log = logging.getLogger(__name__)
serialize: Any = numba_serialize  # it has no annotations


def source_files(package: Path = PACKAGE) -> list[Path]:
    """Return the files whose text forms the key, in a fixed order."""
    found = [path for room in ROOMS for path in sorted((package / room).glob("*.py"))]
    return found + [path for name in FILES if (path := package / name).is_file()]


def key_of(files: list[Path], package: Path = PACKAGE) -> str:
    """Return the key: a digest of the sources and of everything else that determines the machine code."""
    digest = hashlib.sha256(repr(_surroundings()).encode())
    for path in files:
        text = path.read_bytes()
        digest.update(f"\0{path.relative_to(package).as_posix()} {len(text)}\0".encode())
        digest.update(text)
    return digest.hexdigest()[:32]


def _surroundings() -> tuple[object, ...]:
    config: Any = numba.config
    return (
        sys.version,
        platform.machine(),
        *(f"{library.__name__} {library.__version__}" for library in (numba, llvmlite, np)),
        config.CPU_NAME or llvmlite.binding.get_host_cpu_name(),
        config.CPU_FEATURES or llvmlite.binding.get_host_cpu_features().flatten(),
        *(f"{name} {getattr(config, name, None)}" for name in SETTINGS),
    )


def _stats(files: list[Path]) -> tuple[tuple[int, int], ...]:
    return tuple((stat.st_mtime_ns, stat.st_size) for stat in map(os.stat, files))


def places() -> Iterator[Path]:
    """Yield the folders that may hold kernels, in order of preference."""
    if named := os.environ.get(VARIABLE):
        yield Path(named).expanduser()
    else:
        with contextlib.suppress(RuntimeError):  # no home
            yield state_place() / "kernels"
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    yield Path(tempfile.gettempdir()) / f"bot-kernels-{user}"


def is_ours(folder: Path) -> bool:
    """Return whether `folder` is owned by this user and writable by nobody else: its contents are executed."""
    try:
        stat = folder.lstat()
    except OSError:
        return False
    if not hasattr(os, "geteuid"):
        return folder.is_dir()
    return folder.is_dir() and not folder.is_symlink() and stat.st_uid == os.geteuid() and not stat.st_mode & 0o022


class Store:
    """The cached kernels of one version of the sources, in the first writable folder.

    Parameters
    ----------
    package
        The folder of the sources; their key is computed once, at construction.
    """

    def __init__(self, package: Path = PACKAGE) -> None:
        self._files = source_files(package)
        self._names = {str(path) for path in self._files}
        self._seen = _stats(self._files)
        self.key = key_of(self._files, package)
        self._places: list[Path] | None = None
        self._writable: list[Path] = []

    def holds_source(self, file: str) -> bool:
        """Return whether the key covers this file; kernels of other files are not cached."""
        return str(Path(file).resolve()) in self._names

    def read(self, name: str) -> bytes | None:
        """Return the content of a cached file, or None if it is missing or fails its digest."""
        if self._changed():
            return None
        for place in self._all():
            if not is_ours(place):
                continue
            try:
                content = (place / self.key / name).read_bytes()
            except OSError:
                continue
            if hashlib.sha256(memoryview(content)[_DIGEST:]).digest() == content[:_DIGEST]:
                return content[_DIGEST:]
        return None

    def has(self, name: str) -> bool:
        """Return whether the cached file exists."""
        return not self._changed() and any(is_ours(p) and (p / self.key / name).is_file() for p in self._all())

    def write(self, name: str, content: bytes) -> None:
        """Write a file atomically; a folder that is not writable is reported once and not tried again."""
        if self._changed():
            return
        self._all()
        refused = ""
        while self._writable:
            place = self._writable[0]
            try:
                self._put(place, name, content)
            except OSError as error:
                self._writable.pop(0)
                refused = refused or f"{place} cannot keep compiled kernels ({error.strerror or error})"
            else:
                break
        if refused:
            then = f"they go to {self._writable[0]}" if self._writable else "each start compiles them, for a minute"
            log.warning("%s: %s; %s names another folder", refused, then, VARIABLE)

    def _all(self) -> list[Path]:
        if self._places is None:
            self._places = list(places())
            self._writable = list(self._places)
            for place in self._places:  # mark as used: a folder's mtime is its last use
                with contextlib.suppress(OSError):
                    os.utime(place / self.key)
        return self._places

    def _changed(self) -> bool:
        """Return whether the sources have changed since this process started: its kernels then match no key."""
        try:
            return _stats(self._files) != self._seen
        except OSError:
            return True

    def _put(self, place: Path, name: str, content: bytes) -> None:
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        place.mkdir(exist_ok=True, mode=0o700)
        if not is_ours(place):
            raise PermissionError("it is another user's, or others can write it")
        folder = place / self.key
        if not folder.is_dir():
            folder.mkdir(exist_ok=True, mode=0o700)
            prune(place)
        temporary = folder / f"{uuid.uuid4().hex}.tmp"
        try:
            temporary.write_bytes(hashlib.sha256(content).digest() + content)
            temporary.replace(folder / name)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


def prune(place: Path) -> int:
    """Remove old key folders except the last `KEPT` and those used within a day of the newest; return the count."""
    used: list[tuple[float, Path]] = []
    with contextlib.suppress(OSError):
        for folder in place.iterdir():
            with contextlib.suppress(OSError):
                if folder.is_dir():
                    used.append((folder.stat().st_mtime, folder))
    used.sort(reverse=True)
    old = [folder for at, folder in used[KEPT:] if used[0][0] - at > UNUSED_S]
    for folder in old:
        shutil.rmtree(folder, ignore_errors=True)
    return len(old)


class KernelCache:
    """The cache of one kernel, with the interface that numba's dispatcher expects."""

    def __init__(self, function: Callable[..., Any], store: Store) -> None:
        self._store = store
        line = function.__code__.co_firstlineno
        self._name = f"{function.__module__}.{function.__qualname__}-{line}".removeprefix("bot.")
        self.cache_path = None  # numba prints it

    def load_overload(self, signature: Any, target: Any) -> Any:
        """Return the cached compile result for a signature, or None."""
        target.refresh()
        key = _key(signature, target.codegen())
        content = self._store.read(self._file(key))
        if content is None:
            return None
        written_for, payload = pickle.loads(content)
        result: Any = compiler.CompileResult
        return result._rebuild(target, *payload) if written_for == key else None

    def save_overload(self, signature: Any, compiled: Any) -> None:
        """Cache a compile result, unless it contains addresses of this process."""
        if any(not each.can_cache for each in compiled.lifted) or compiled.library.has_dynamic_globals:
            return
        key = _key(signature, compiled.codegen)
        self._store.write(self._file(key), serialize.dumps((key, compiled._reduce())))

    def holds(self, signature: Any, target: Any) -> bool:
        """Return whether machine code for a signature is cached."""
        return self._store.has(self._file(_key(signature, target.codegen())))

    def _file(self, key: tuple[Any, ...]) -> str:
        return f"{self._name}-{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}.kernel"


def _key(signature: Any, codegen: Any) -> tuple[Any, ...]:
    return signature, codegen.magic_tuple()
