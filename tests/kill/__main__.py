"""`python -m tests.kill`: run the matrix, or a seeded share of it, and write a line of JSON for each point.

This process imports and compiles once and forks its workers; each forks an exchange and a bot for each point.
"""

import argparse
import fcntl
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from tests.kill import matrix
from tests.kill.scenarios import STORIES


def main() -> int:
    """Run; 0 if nothing failed and everything was tried."""
    parser = argparse.ArgumentParser(prog="python -m tests.kill", description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="part of the points, drawn by the seed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2 * (os.cpu_count() or 1))
    parser.add_argument("--story", action="append", choices=sorted(STORIES))
    parser.add_argument("--side", choices=["LONG", "SHORT"])
    parser.add_argument("--point", type=int, help="only this one")
    parser.add_argument("--stop", action="store_true", help="ask it to stop (SIGTERM) instead of killing it")
    parser.add_argument("--keep", action="store_true", help="keep the files of points that failed")
    options = parser.parse_args()
    began = time.monotonic()
    matrix.warm_up()
    wanted = [s for s in matrix.scenarios(tuple(options.story or STORIES)) if options.side in (None, s.side.name)]
    work = []
    whole = list(spread([(n,) for n in range(len(wanted))], lambda n: [n, matrix.play(wanted[n])], options.workers))
    for n, points in sorted(whole):
        chosen = matrix.chosen([tuple(point) for point in points], wanted[n])
        work += [(n, point, label) for point, _, label in chosen if options.point in (None, point)]
    total = len(work)
    if not total:
        parser.error("no such point in this trade")
    work = random.Random(options.seed).sample(work, max(1, round(total * options.share)))
    tried = failures = 0
    deed = matrix.stop if options.stop else matrix.kill
    judged = lambda n, point, label: asdict(deed(wanted[n], point, label, keep=options.keep))  # noqa: E731
    for result in spread(work, judged, options.workers):
        tried, failures = tried + 1, failures + bool(result["faults"])
        print(json.dumps(result), flush=True)
    figures = {"points": total, "tried": tried, "failures": failures, "seconds": round(time.monotonic() - began, 1)}
    print(json.dumps(figures), flush=True)
    return 1 if failures or tried < len(work) or len(whole) < len(wanted) else 0


def spread(work: list[tuple[Any, ...]], job: Callable[..., Any], workers: int) -> Iterator[Any]:
    """Let forked workers take the pieces of work one by one; yield what comes of each as it comes."""
    takes, gives = os.pipe()
    reads, writes = os.pipe()
    # A long line is written in pieces: one worker at a time.
    turn = tempfile.TemporaryFile()  # noqa: SIM115

    def worker() -> None:
        os.close(gives)
        os.close(reads)
        while number := os.read(takes, 4):
            result = json.dumps(job(*work[int.from_bytes(number, "big")])).encode() + b"\n"
            fcntl.lockf(turn, fcntl.LOCK_EX)
            while result:
                result = result[os.write(writes, result) :]
            fcntl.lockf(turn, fcntl.LOCK_UN)
        os._exit(0)

    pids = [matrix.fork(worker) for _ in range(min(workers, len(work)))]
    for index in range(len(work)):
        os.write(gives, index.to_bytes(4, "big"))
    for end in (gives, takes, writes):
        os.close(end)
    with os.fdopen(reads, "r") as lines:
        yield from map(json.loads, lines)
    turn.close()
    for pid in pids:
        os.waitpid(pid, 0)


if __name__ == "__main__":
    sys.exit(main())
