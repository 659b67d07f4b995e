"""Worker processes; they share the cache of compiled kernels, which is safe for concurrent reads and writes."""

import multiprocessing
import signal
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any


def _begin(target: Callable[..., None], arguments: tuple[Any, ...], errors: Any) -> None:
    try:
        target(*arguments)
    except KeyboardInterrupt:
        sys.exit(130)
    except BaseException as error:
        errors.put(f"{type(error).__name__}: {error}")
        raise SystemExit(1) from None


class Workers:
    """Processes running the same function; `with` waits for them, and terminates them if the parent fails.

    Parameters
    ----------
    target
        A module-level function, called with the arguments of each worker.
    arguments
        One tuple per worker.
    """

    def __init__(self, target: Callable[..., None], arguments: list[tuple[Any, ...]]) -> None:
        context = multiprocessing.get_context("spawn")
        self.errors: Any = context.Queue()
        self.processes: list[BaseProcess] = []
        for number, given in enumerate(arguments):
            process = context.Process(
                target=_begin, args=(target, given, self.errors), name=f"worker-{number}", daemon=True
            )
            before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and terminates them
            try:
                process.start()
            finally:
                signal.signal(signal.SIGINT, before)
            self.processes.append(process)

    def __enter__(self) -> "Workers":
        """Return the running workers."""
        return self

    @property
    def alive(self) -> bool:
        """Whether any worker is still running."""
        return any(process.is_alive() for process in self.processes)

    def failure(self) -> str | None:
        """Return the error message of a failed worker; None if none failed."""
        if not self.errors.empty():
            return str(self.errors.get())
        codes = [p.exitcode for p in self.processes if p.exitcode not in (None, 0)]
        return f"a worker ended with code {codes[0]}" if codes else None

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Wait for the workers, or terminate them if the parent failed."""
        for process in self.processes:
            if kind is not None:
                process.terminate()
            process.join()
        self.errors.close()
