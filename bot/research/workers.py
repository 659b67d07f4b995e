"""Processes that work beside this one, each with a kernel cache of its own.

Two processes that write one numba cache at once can leave it broken (numba issue 4807). So the kernels are compiled
here first, and each worker gets a copy of the machine code in a folder of its own, gone when it ends.
"""

import hashlib
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from bot.core.jit import KERNEL_ROOMS, PACKAGE

VARIABLE = "NUMBA_CACHE_DIR"


def copy_kernels(into: Path) -> int:
    """Copy the compiled kernels into a cache folder as numba lays it out; return how many files."""
    copied = 0
    for room in KERNEL_ROOMS:
        folder = PACKAGE / room
        source = Path(os.environ[VARIABLE]) / _place(folder) if VARIABLE in os.environ else folder / "__pycache__"
        if not source.is_dir():
            continue
        target = into / _place(folder)
        target.mkdir(parents=True, exist_ok=True)
        for file in source.glob("*.nb[ic]"):
            shutil.copy2(file, target / file.name)
            copied += 1
    return copied


def _place(folder: Path) -> str:
    """Return the folder that numba keeps the cache of a source folder in, below its cache directory."""
    return f"{folder.name}_{hashlib.sha1(str(folder).encode()).hexdigest()}"


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _begin(target: Callable[..., None], arguments: tuple[Any, ...], errors: Any) -> None:
    try:
        target(*arguments)
    except KeyboardInterrupt:
        sys.exit(130)
    except BaseException as error:
        errors.put(f"{type(error).__name__}: {error}")
        raise SystemExit(1) from None


class Workers:
    """A few processes running the same function; `with` waits for them, and ends them if this side fails.

    Parameters
    ----------
    target
        A function of a module, called with the arguments of each worker.
    arguments
        One tuple a worker.
    """

    def __init__(self, target: Callable[..., None], arguments: list[tuple[Any, ...]]) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="kernels-"))
        context = multiprocessing.get_context("spawn")
        self.errors: Any = context.Queue()
        self.processes: list[BaseProcess] = []
        for number, given in enumerate(arguments):
            home = self._folder / str(number)
            copy_kernels(home)
            process = context.Process(
                target=_begin, args=(target, given, self.errors), name=f"worker-{number}", daemon=True
            )
            before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is this side's to answer; it ends them
            try:
                with _environment(VARIABLE, str(home)):
                    process.start()
            finally:
                signal.signal(signal.SIGINT, before)
            self.processes.append(process)

    def __enter__(self) -> "Workers":
        """Return the running workers."""
        return self

    @property
    def alive(self) -> bool:
        """Whether any still works."""
        return any(process.is_alive() for process in self.processes)

    def failure(self) -> str | None:
        """Return what went wrong in a worker, in its own words; None if nothing did."""
        if not self.errors.empty():
            return str(self.errors.get())
        codes = [p.exitcode for p in self.processes if p.exitcode not in (None, 0)]
        return f"a worker ended with code {codes[0]}" if codes else None

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Wait for the workers, or end them when this side failed; remove their kernel caches."""
        for process in self.processes:
            if kind is not None:
                process.terminate()
            process.join()
        self.errors.close()
        shutil.rmtree(self._folder, ignore_errors=True)
