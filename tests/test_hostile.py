"""A lie of the exchange costs nothing: each numbered case plays a trade under one, and the exchange judges.

`tests/hostile` holds the room and the cases, `docs/venue-cases.md` lists them. CI plays a tenth, drawn by the cases' numbers,
`make nightly` all.
"""

import asyncio
import tempfile
from functools import cache
from pathlib import Path

import pytest

from bot.core.types import Side
from tests.conftest import ROOT
from tests.hostile.case import Case
from tests.hostile.cases import CASES, in_ci
from tests.hostile.judge import Verdict, judge
from tests.hostile.room import LATE_MS, Room, Seen
from tests.kill.scenarios import Scenario

pytestmark = pytest.mark.wire


def play(case: Case, *, honest: Seen | None = None) -> Seen:
    """Play a case; without `honest` the same trade without its lies."""
    memory = Path("/dev/shm")  # the journal is real; only its disk is not
    more = {} if honest is None else {"lies": case.lies, "phase": case.phase, "after_ms": case.after_ms,
                                      "end_ms": honest.ended_ms + LATE_MS}  # fmt: skip
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:

        async def main() -> Seen:
            room = Room(Scenario(case.story, case.side), Path(folder), overrides=case.overrides, **more)
            return await room.play()

        return asyncio.run(main())


@cache
def honest_trade(story: str, side: Side, overrides: tuple[str, ...]) -> Seen:
    """The trade without lies."""
    case = Case("", "", (), None, story=story, side=side, overrides=overrides)  # type: ignore[arg-type]
    seen = play(case)
    assert not seen.faults
    assert not seen.left
    assert not seen.alerts
    return seen


def verdict_on(case: Case) -> tuple[Verdict, Seen]:
    """Play a case and judge it."""
    honest = honest_trade(case.story, case.side, case.overrides)
    seen = play(case, honest=honest)
    return judge(case, seen, honest), seen


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, id=c.number, marks=() if in_ci(c) else pytest.mark.nightly) for c in CASES],
)
def test_a_lie_costs_nothing(case):
    verdict, seen = verdict_on(case)

    assert verdict.faults == [], f"{case.title}, {case.when}: {seen.alerts} {seen.logged}"


def test_the_document_lists_every_hostile_case_in_one_line():
    part = (ROOT / "docs" / "venue-cases.md").read_text().split("## Lies\n")[1].split("\n## ")[0]
    rows = [line for line in part.splitlines() if line.startswith("| HC-")]

    assert rows == [f"| {c.number} | {c.title} | {c.when} | {c.right.text} |" for c in CASES]
    assert len({c.number for c in CASES}) == len(CASES) >= 80


def test_ci_plays_about_a_tenth():
    share = sum(map(in_ci, CASES)) / len(CASES)

    assert 0.05 <= share <= 0.15
