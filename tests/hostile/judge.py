"""What is asked at the exchange after a case: bare never for long, nothing doubled, alive, the trade goes on, one sentence."""

import re
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise

from tests.engine_harness import BTC, SYMBOLS
from tests.hostile.case import Case
from tests.hostile.room import Seen

BARE_MS = 1_500
ALERTS = 4  # more than a few sentences about one lie is noise; the same one for each of three symbols is one
LATE_MS = 3_000
LOT = Decimal("0.001")


@dataclass
class Verdict:
    """What came of a case."""

    faults: list[str] = field(default_factory=list)
    bare_ms: int = 0
    alerts: int = 0
    sentences: int = 0


def judge(case: Case, seen: Seen, honest: Seen) -> Verdict:
    """Compare a trade under lies with the same trade without them."""
    verdict = Verdict()
    verdict.faults += seen.faults
    verdict.bare_ms = max(seen.longest_bare_ms.values(), default=0)
    verdict.alerts = len(seen.alerts)
    verdict.sentences = len({_kind(text) for text in (*seen.alerts, *seen.logged)})
    if not case.may_pass_by and not all(seen.lied):
        verdict.faults.append(f"the case lied {seen.lied} times")
    if verdict.bare_ms > BARE_MS:
        verdict.faults.append(f"bare for {verdict.bare_ms} ms")
    verdict.faults += _doubled(seen, honest)
    verdict.faults += _course(case, seen, honest)
    if all(seen.lied):
        if verdict.alerts < case.right.alerts or verdict.sentences < case.right.sentences:
            verdict.faults.append(f"{verdict.alerts} alerts and {verdict.sentences} sentences: the person is not told")
        kinds = {_kind(text) for text in seen.alerts}
        if len(kinds) > ALERTS or verdict.alerts > ALERTS * len(SYMBOLS):
            verdict.faults.append(f"{verdict.alerts} alerts")
    return verdict


def _kind(text: str) -> str:
    """A sentence without its figures, symbols and orders."""
    text = re.sub(r"\brbT-\S+( rbT-\S+)*( and \d+ more\b[;:]?)?", "", text)
    for symbol in SYMBOLS:
        text = text.replace(symbol, "")
    return "".join(c for c in text if not c.isdigit())


def _doubled(seen: Seen, honest: Seen) -> list[str]:
    """Nothing is sent twice, no position is larger than planned or turned round."""
    faults = [f"{name} was accepted {n} times" for name, n in seen.ids.items() if n > 1]
    for symbol in SYMBOLS:
        planned, held = _largest(honest, symbol), _largest(seen, symbol)
        if held > planned:
            faults.append(f"{symbol}: {held} held, {planned} planned")
        signs = {qty > 0 for _, s, qty in (*honest.path, *seen.path) if s == symbol and qty}
        if len(signs) > 1:
            faults.append(f"{symbol}: the position was turned round")
        openings = sum(1 for before, after in _steps(seen, symbol) if not before and after)
        if openings > 1:
            faults.append(f"{symbol}: opened {openings} times")
    return faults


def _largest(seen: Seen, symbol: str) -> Decimal:
    return max((abs(qty) for _, s, qty in seen.path if s == symbol), default=Decimal(0))


def _steps(seen: Seen, symbol: str) -> list[tuple[Decimal, Decimal]]:
    path = [Decimal(0), *(qty for _, s, qty in seen.path if s == symbol)]
    return list(pairwise(path))


def _by_role(seen: Seen) -> dict[str, Decimal]:
    """What each kind of order traded of the symbol that is traded."""
    found: Counter[str] = Counter()
    for _, symbol, role, qty in seen.fills:
        if symbol == BTC:
            found[role] += qty  # type: ignore[assignment]  # a counter of decimals
    return dict(found)  # type: ignore[arg-type]


def _course(case: Case, seen: Seen, honest: Seen) -> list[str]:
    """The trade takes the course of the honest one, or at least ends and leaves nothing."""
    guarded = case.course == "guarded" and any("-gd-" in name for name in seen.left)
    faults = [f"left at the end: {', '.join(seen.left)}"] if seen.left and not guarded else []
    if case.course != "same":
        return faults
    mine, theirs = _by_role(seen), _by_role(honest)
    if _entered(mine) != _entered(theirs):
        faults.append(f"entered {_entered(mine)} of {_entered(theirs)}")
    exits, planned = (
        {role: qty for role, qty in found.items() if role not in ("en", "io")} for found in (mine, theirs)
    )
    if exits.keys() != planned.keys() or any(abs(exits[r] - planned[r]) > LOT for r in planned):
        faults.append(f"left by {_words(exits)} where the honest trade left by {_words(planned)}")
    ended, planned_ms = (max((at for at, s, _, _ in x.fills if s == BTC), default=0) for x in (seen, honest))
    if abs(ended - planned_ms) > LATE_MS + case.late_ms:
        faults.append(f"ended {(ended - planned_ms) / 1_000:+.1f} s from the honest trade's end")
    if {s for _, s, r, _ in seen.fills if r == "hx"} != {s for _, s, r, _ in honest.fills if r == "hx"}:
        faults.append("not the legs of the honest trade")
    return faults


def _entered(found: dict[str, Decimal]) -> Decimal:
    return found.get("en", Decimal(0)) + found.get("io", Decimal(0))


def _words(found: dict[str, Decimal]) -> str:
    return ", ".join(f"{role} {qty}" for role, qty in sorted(found.items())) or "nothing"
