"""Timing: medians of several runs, with all compared runs interleaved in one process.

Single-core work is measured in CPU time of this process: another program then delays the run but does not change the
figure. Start-up and the live step are measured in wall time, because there waiting counts.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def seconds(
    runs: Mapping[str, Callable[[], object]], repeats: int, best: dict[str, float] | None = None
) -> dict[str, float]:
    """Return the median CPU seconds of each of `runs`, interleaved, after one warm-up of each.

    The minima are stored in `best`: on a shared machine they show the cost of the code, the medians include the load.
    """
    for run in runs.values():
        run()
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            began = time.process_time_ns()
            run()
            taken[name].append((time.process_time_ns() - began) / 1e9)
    if best is not None:
        best |= {name: min(values) for name, values in taken.items()}
    return {name: statistics.median(values) for name, values in taken.items()}


def short(run: Callable[[], object], times: int) -> Callable[[], None]:
    """Return a run that repeats a very short one, so that the clock's overhead is negligible."""

    def many() -> None:
        for _ in range(times):
            run()

    return many


def percentiles(values: list[int]) -> tuple[float, float]:
    """Return median and 99th percentile, µs, of values in ns."""
    ordered = sorted(values)
    return ordered[len(ordered) // 2] / 1000, ordered[int(len(ordered) * 0.99)] / 1000


def python(code: str, *arguments: str, first: Path | None = None, **environment: str) -> tuple[float, str]:
    """Run code in a new process; return its wall time, including its start, and the last line that it printed.

    Modules in the folder `first` take precedence over the project's own.

    Raises
    ------
    RuntimeError
        The process failed.
    """
    path = os.pathsep.join(str(folder) for folder in (first, ROOT) if folder is not None)
    env = {**os.environ, **environment, "PYTHONPATH": path}
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *arguments], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    took = time.perf_counter() - began
    if done.returncode != 0:
        raise RuntimeError(f"a measured process failed:\n{done.stderr[-2000:]}")
    return took, (done.stdout.splitlines() or [""])[-1]


def peak_mb() -> float:
    """Return the peak resident memory of this process in MB.

    `getrusage` is wrong in a child process: it starts at the parent's peak (observed: 1,390 MB for a process of 340).
    """
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    import resource  # macOS, in bytes

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
