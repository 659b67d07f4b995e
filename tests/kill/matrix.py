"""One point of the matrix: play the trade, die at the point, come back twice, play to the end, compare both books."""

import gc
import json
import os
import random
import re
import select
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bot.core.types import Side
from tests.kill import books, trader, venue
from tests.kill.lockstep import BOT, Cells
from tests.kill.scenarios import CLOSE, Scenario

PATIENCE_S = 60.0  # of the wall, for one order to the exchange's process
LOOK_MS = 8_000  # after a restart: everything is to be in order
SECOND_LOOK_MS = 5_000
IN_FLIGHT_MS = 15_000  # by then the fate of every order is known
AGAIN, AGAIN_AT = 0.5, (1, 200)  # how often, and at which of its points, the bot dies again while it comes back
STOPPING_S = 20  # more than it waits for stops
AWAY_MS = (300, 3_000, 45_000)  # how long the bot is gone; the exchange goes on
IDLE = re.compile(r": GET |listenKey|commit: (Funding ?|Quotes ?|AccountSnapshot ?)+$")
Point = tuple[int, int, str]  # number, exchange time after the signal, label


@dataclass
class Result:
    """What came of one point."""

    name: str
    side: str
    point: int
    label: str = ""
    at_ms: int = 0  # exchange time after the signal
    away_ms: int = 0
    again: int = 0  # the point of the restart at which it died again, if it came to that
    faults: list[str] = field(default_factory=list)
    trade: str = ""  # how the trade ended
    naked_ms: int = 0  # from the restart on, at most
    drifted: bool = False  # two things at one instant went in another order than in the whole trade


class Ended(Exception):
    """The bot's process has ended."""


class Session:
    """The two processes, forked from this one: no interpreter, import or kernel is paid for twice."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario, self.cells = scenario, Cells()
        self.folder = Path(tempfile.mkdtemp(prefix="kill-"))
        ours, theirs = socket.socketpair()
        self._exchange = fork(lambda: venue.serve(scenario, self.cells, theirs, self.folder), ours)
        theirs.close()
        self._socket, self._lines = ours, ours.makefile("rb")
        self._bot = self._pidfd = 0
        self.port = int(self._answer()["port"])

    def start(self, name: str, kill_at: int = 0, by: signal.Signals = signal.SIGKILL) -> None:
        """Start a bot."""
        self.cells[BOT] = 1  # awake from its birth
        more = {"port": self.port, "folder": self.folder, "kill_at": kill_at, "by": by, "name": name}
        self._bot = fork(lambda: trader.trade(self.scenario, self.cells, **more), self._socket)
        self._pidfd = os.pidfd_open(self._bot)

    def run(self, ms: int) -> dict[str, Any]:
        """Let the exchange's clock run for so long; `Ended` if the bot dies meanwhile."""
        self._order("run", ms)
        return self._answer()

    def bury(self, ms: int) -> dict[str, Any]:
        """Kill the bot if it still lives, and let the exchange go on without it."""
        if self._bot:
            with suppress(ProcessLookupError):
                os.kill(self._bot, signal.SIGKILL)
            os.waitpid(self._bot, 0)
            os.close(self._pidfd)
            self._bot = self._pidfd = 0
        self._order("died", ms)
        return self._answer()

    def points(self, name: str) -> list[Point]:
        """Return the points that a bot passed: number, exchange time after the signal, label."""
        found = []
        for line in (self.folder / f"{name}.points").read_text().splitlines():
            number, at_ms, label = line.split("\t")
            found.append((int(number), int(at_ms) - CLOSE, label.strip()))
        return found

    def close(self) -> None:
        """End both processes."""
        for pid in (self._bot, self._exchange):
            if pid:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        if self._pidfd:
            os.close(self._pidfd)
        self._lines.close()
        self._socket.close()

    def _order(self, word: str, ms: int) -> None:
        self._socket.sendall(json.dumps({"do": word, "ms": ms}).encode() + b"\n")

    def _answer(self) -> dict[str, Any]:
        watched = [self._socket, *([self._pidfd] if self._pidfd else [])]
        ready, _, _ = select.select(watched, [], [], PATIENCE_S)
        if self._socket in ready:
            line = self._lines.readline()
            if not line:
                raise RuntimeError(f"the exchange's process ended: {self.log('exchange')}")
            answer = dict(json.loads(line))
            if "error" in answer:
                raise RuntimeError(f"the exchange's process: {answer['error']} {self.log('exchange')}")
            return answer
        if ready:
            raise Ended
        raise RuntimeError(f"no answer within {PATIENCE_S:.0f} s; under way: {list(self.cells.values[:2])}")

    def log(self, name: str) -> str:
        """Return the end of a log."""
        path = self.folder / f"{name}.log"
        return path.read_text()[-2_000:] if path.is_file() else ""


def fork(child: Callable[[], None], *unwanted: socket.socket) -> int:
    """Run `child` in a forked process, which never returns here."""
    pid = os.fork()
    if pid:
        return pid
    try:
        for end in unwanted:
            end.close()
        child()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(70)


def play(scenario: Scenario) -> list[Point]:
    """Play a trade without killing anything; return its points, and fail if its books do not hold."""
    session = Session(scenario)
    try:
        session.start("whole")
        state = to_the_end(session)
        session.bury(0)
        points = session.points("whole")
        faults = books.compare(session.folder, state, scenario)
        if faults:
            raise AssertionError(
                f"{scenario.name} {scenario.side.name} without a kill: {faults} {session.log('whole')}"
            )
        return points
    finally:
        session.close()
        shutil.rmtree(session.folder, ignore_errors=True)


@contextmanager
def played(scenario: Scenario, result: Result, *, keep: bool) -> Iterator[Session]:
    """Open the two processes; what goes wrong with them is a fault, and files are kept only of faults."""
    session = Session(scenario)
    try:
        yield session
    except (RuntimeError, OSError) as error:
        result.faults.append(f"{error}")
    finally:
        session.close()
        if keep and result.faults:
            result.faults.append(f"kept in {session.folder}")
        else:
            shutil.rmtree(session.folder, ignore_errors=True)


def kill(scenario: Scenario, point: int, label: str, *, keep: bool = False) -> Result:
    """Kill the bot at one point and judge what follows."""
    draw = random.Random(f"{scenario.name} {scenario.side.name} {point}")
    result = Result(scenario.name, scenario.side.name, point, away_ms=draw.choice(AWAY_MS))
    with played(scenario, result, keep=keep) as session:
        try:
            session.start("killed", point)
            try:
                to_the_end(session)
                result.faults.append("the point was not reached")
                return result
            except Ended:
                pass
            before = session.bury(result.away_ms)
            died_at, result.at_ms, result.label = session.points("killed")[-1]
            if died_at != point:
                raise RuntimeError(f"the bot ended by itself: {session.log('killed')}")
            result.drifted = result.label != label
            if draw.random() < AGAIN:
                result.again = draw.randrange(*AGAIN_AT)
            session.start("again", result.again)
            try:
                look(session, LOOK_MS, result, "after the restart")
            except Ended:
                if not result.again:
                    raise
                session.bury(min(AWAY_MS))
                session.start("again")
                look(session, LOOK_MS, result, "after the restart")
            between, unresolved = session.bury(300), books.unresolved(session.folder)
            session.start("third")
            second = look(session, SECOND_LOOK_MS, result, "after a second restart")
            result.faults += books.repeated(between, second, unresolved=unresolved)
            state = to_the_end(session)
            session.bury(0)
            result.faults += books.compare(session.folder, state, scenario)
            result.trade = books.ending(session.folder)
            result.naked_ms = books.naked_since(before, state)
        except Ended:
            result.faults.append(f"the bot ended by itself: {session.log('again')} {session.log('third')}")
    return result


def stop(scenario: Scenario, point: int, label: str, *, keep: bool = False) -> Result:
    """Ask the bot to stop at one point, as a manager of services does, and judge what it leaves behind."""
    result = Result(scenario.name, scenario.side.name, point, label, away_ms=max(AWAY_MS))
    with played(scenario, result, keep=keep) as session:
        session.start("stopped", point, signal.SIGTERM)
        try:
            to_the_end(session)
            for _ in range(STOPPING_S * 10):  # asked at the very end: leaving takes time of the wall
                time.sleep(0.1)
                session.run(100)
            result.faults.append("it did not stop")
        except Ended:
            state = session.bury(result.away_ms)
            result.faults += books.unprotected(state, exact=False)
            at = next(p for p in session.points("stopped") if p[0] == point)
            result.at_ms, result.drifted = at[1], at[2] != label
    return result


def look(session: Session, ms: int, result: Result, when: str) -> dict[str, Any]:
    """Let a restarted bot run, note what is wrong with its protection, and return the exchange's state."""
    state = session.run(ms)
    result.faults += [f"{when}: {fault}" for fault in books.unprotected(state, exact=False)]
    if books.unprotected(state, exact=True):
        state = session.run(IN_FLIGHT_MS)
        result.faults += [f"{when}, in the end: {fault}" for fault in books.unprotected(state, exact=True)]
    return state


def to_the_end(session: Session) -> dict[str, Any]:
    """Run until the trade is over; return the exchange's last state."""
    state = session.run(1_000)
    seen = False
    while state["clock_ms"] < session.scenario.end_ms - 90_000:
        state = session.run(30_000)
        held = any(float(p["positionAmt"]) for p in state["positions"])
        seen = seen or held
        if (seen or state["clock_ms"] > CLOSE + 240_000) and not held and not books.live(state):
            return session.run(3_000)
    return state


def chosen(points: list[Point], scenario: Scenario) -> list[Point]:
    """Return the points of the part of the trade that a story is about, one for each state that a death can leave behind.

    What is left is the file (commits) and the wire (requests sent) at an instant: a point that shares all three with the
    one before it is the same death. Of what changes nothing (reads, the listen key, rows of quotes alone) the first of a kind is
    taken.
    """
    found, seen, left, last = [], set(), (0, 0), None
    for point in points:
        _, at_ms, label = point
        left = (left[0] + label.startswith("after commit"), left[1] + label.startswith("request is sent"))
        idle = IDLE.search(label) is not None
        if at_ms < scenario.story.from_ms or (*left, at_ms) == last or (idle and label in seen):
            continue
        last = (*left, at_ms)
        seen.add(label)
        found.append(point)
    return found


def scenarios(names: tuple[str, ...]) -> list[Scenario]:
    """Return every story for both sides."""
    return [Scenario(name, side) for name in names for side in Side]


def warm_up() -> None:
    """Import and compile what the forked processes need."""
    import sqlite_utils  # noqa: F401

    from bot.app.setup import compile_kernels
    from bot.config import Config

    compile_kernels(Config(), quiet=True)
    gc.collect()
    gc.freeze()
