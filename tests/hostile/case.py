"""What a hostile case is: a lie, when it is told, and what is right."""

from dataclasses import dataclass
from typing import Literal

from bot.core.types import Side
from tests.hostile.liar import Lie


@dataclass(frozen=True)
class Right:
    """What is right under a lie, and how the person has to learn of it.

    Parameters
    ----------
    alerts
        At least so many alerts.
    sentences
        At least so many different sentences, alerts and warnings of the log together.
    """

    text: str
    alerts: int = 0
    sentences: int = 0


FAILED = Right("a failed read: told, asked again", sentences=1)
REFUSED = Right("refused and told", sentences=1)
CONTRADICTION = Right("a contradiction: stops stay, told, the trade goes on", alerts=1)
HARMLESS = Right("nothing changes")
SAFE = Right("ended or guarded, nothing bare, told", alerts=1)


@dataclass(frozen=True)
class Case:
    """One case.

    Parameters
    ----------
    title
        What lies.
    phase
        A phase of the trade (`room.PHASES`), or ms after the close of the signal bar.
    story
        Of `tests.kill.scenarios`; the same trade without lies says what the right course is.
    course
        "same": as the honest trade. "ended": it may end sooner and otherwise, and leaves nothing. "guarded": the same, or a
        position that is left to the person with a guard.
    may_pass_by
        The bot need not ask what is lied about.
    late_ms
        By how much the end of the trade may move.
    """

    number: str
    title: str
    lies: tuple[Lie, ...]
    right: Right
    phase: str | int = "held"
    story: str = "choch"
    side: Side = Side.LONG
    after_ms: int = 0
    overrides: tuple[str, ...] = ("jobs.reconcile_seconds=5",)
    course: Literal["same", "ended", "guarded"] = "same"
    may_pass_by: bool = False
    late_ms: int = 0

    @property
    def when(self) -> str:
        """The phase in words."""
        if isinstance(self.phase, int):
            return WHEN_AT.get(self.phase, f"{self.phase / 1_000:g} s after the signal")
        return WHEN[self.phase]


CLOSING = 179_900  # the bar with the opposite CHoCH is about to end
BEFORE = -30_000
WHEN_AT = {CLOSING: "closing", BEFORE: "before the entry"}
WHEN = {
    "entry": "entry working",
    "first_fill": "first fill",
    "held": "position held",
    "hedge": "legs opening",
    "scaling": "after the first target",
    "trailing": "trailing",
    "restart": "restart",
}
