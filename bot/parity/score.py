"""Distance between two series, in the figures that suit each kind.

A line has errors and a correlation; a mark has precision (the share of ours that are theirs) and recall (the share of
theirs that are ours) on the same bar and within one bar; a state has a number of bars that agree. Only bars after the
warm-up count, and only those on which both sides have a value.
"""

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from bot.parity.catalogue import IDLE, Kind

TOLERANCE: Final = 1e-6  # relative to a line's median size (at least 1): closer values are equal
EXAMPLES: Final = 5  # maximum number of example bars


@dataclass(slots=True)
class ParityScore:
    """The figures of one binding.

    Attributes
    ----------
    bars : int
        Bars compared.
    agree : float
        Share of them on which both sides are equal (a line: within the tolerance).
    first_divergent_ms : int or None
        Open of the first bar that differs.
    figures : dict
        Figures of the kind: errors and correlation, or counts, precision and recall.
    """

    kind: Kind
    bars: int
    agree: float
    first_divergent_ms: int | None
    differing: int
    figures: dict[str, Any] = field(default_factory=dict)
    examples_ms: list[int] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return the score as one flat object."""
        return {
            "kind": self.kind,
            "bars": self.bars,
            "agree": self.agree,
            "differing": self.differing,
            "first_divergent_ms": self.first_divergent_ms,
            "divergent_ms": self.examples_ms,
            **self.figures,
        }


def flags_of(values: np.ndarray, kind: Kind) -> np.ndarray:
    """Return where an event column marks a bar: a number other than 0, or other than the idle 50 of a wave."""
    idle = IDLE if kind == "wave" else 0.0
    return np.isfinite(values) & (values != idle)


def matches(found: np.ndarray, wanted: np.ndarray, within: int) -> int:
    """Return how many marks of two sides pair up one to one at most `within` bars apart, in order of time.

    >>> matches(np.array([1, 5, 9]), np.array([2, 5, 20]), 1)
    2
    """
    i = j = count = 0
    while i < len(found) and j < len(wanted):
        if abs(int(found[i]) - int(wanted[j])) <= within:
            count, i, j = count + 1, i + 1, j + 1
        elif found[i] < wanted[j]:
            i += 1
        else:
            j += 1
    return count


def correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    """Return Pearson's correlation, None where one side is constant."""
    if len(a) < 3 or np.ptp(a) == 0.0 or np.ptp(b) == 0.0:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def tolerance_of(theirs: np.ndarray) -> float:
    """Return the distance up to which two values of a line count as equal."""
    known = theirs[np.isfinite(theirs)]
    return TOLERANCE * max(1.0, float(np.median(np.abs(known)))) if len(known) else TOLERANCE


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def score_plot(
    ours: np.ndarray, theirs: np.ndarray, at_ms: np.ndarray, keep: np.ndarray, kind: Kind = "plot"
) -> ParityScore:
    """Compare a line: bars, maximum and median error, bias, correlation, first bar that differs.

    Parameters
    ----------
    ours, theirs
        Values of both sides, shape (n,), NaN where unknown.
    at_ms
        Bar opens, ms UTC.
    keep
        Mask of the bars that count.
    kind
        Kind recorded in the score.
    """
    both = keep & np.isfinite(ours) & np.isfinite(theirs)
    distance = np.abs(ours[both] - theirs[both])
    limit = tolerance_of(theirs[both])
    apart = np.zeros(len(ours), bool)
    apart[both] = distance > limit
    places = np.flatnonzero(apart)
    bars = int(both.sum())
    figures: dict[str, Any] = {
        "max_error": float(distance.max()) if bars else None,
        "median_error": float(np.median(distance)) if bars else None,
        "bias": float(np.mean(ours[both] - theirs[both])) if bars else None,
        "correlation": correlation(ours[both], theirs[both]),
        "only_ours": int((keep & np.isfinite(ours) & ~np.isfinite(theirs)).sum()),
        "only_theirs": int((keep & ~np.isfinite(ours) & np.isfinite(theirs)).sum()),
        "tolerance": limit,
    }
    return _score(kind, bars, places, at_ms, figures)


def _score(kind: Kind, bars: int, places: np.ndarray, at_ms: np.ndarray, figures: dict[str, Any]) -> ParityScore:
    first = int(at_ms[places[0]]) if len(places) else None
    agree = 1.0 - len(places) / bars if bars else 0.0
    return ParityScore(kind, bars, agree, first, len(places), figures, [int(at_ms[p]) for p in places[:EXAMPLES]])


def score_event(
    ours: np.ndarray, theirs: np.ndarray, at_ms: np.ndarray, keep: np.ndarray, kind: Kind = "event"
) -> ParityScore:
    """Compare marks: counts, precision and recall on the bar itself and within one bar.

    Parameters
    ----------
    ours, theirs
        Values of both sides, shape (n,), NaN where unknown.
    at_ms
        Bar opens, ms UTC.
    keep
        Mask of the bars that count.
    kind
        "event", or "wave" with idle 50.
    """
    mine, yours = flags_of(ours, kind) & keep, flags_of(theirs, kind) & keep
    a, b = np.flatnonzero(mine), np.flatnonzero(yours)
    figures: dict[str, Any] = {"ours": len(a), "theirs": len(b)}
    for within in (0, 1):
        hit = matches(a, b, within)
        figures |= {f"precision_{within}": _ratio(hit, len(a)), f"recall_{within}": _ratio(hit, len(b))}
    figures |= {"only_ours": int((mine & ~yours).sum()), "only_theirs": int((yours & ~mine).sum())}
    return _score(kind, int(keep.sum()), np.flatnonzero(mine != yours), at_ms, figures)


def score_wave(ours: np.ndarray, theirs: np.ndarray, at_ms: np.ndarray, keep: np.ndarray) -> ParityScore:
    """Compare a wave: as marks, and by its height where both sides have one.

    Parameters
    ----------
    ours, theirs
        Values of both sides, shape (n,), NaN where unknown.
    at_ms
        Bar opens, ms UTC.
    keep
        Mask of the bars that count.
    """
    known = keep & np.isfinite(ours) & np.isfinite(theirs)
    score = score_event(ours, theirs, at_ms, known, "wave")
    both = known & flags_of(ours, "wave") & flags_of(theirs, "wave")
    height = score_plot(ours, theirs, at_ms, both)
    score.figures |= {name: height.figures[name] for name in ("max_error", "median_error", "correlation")}
    return score


def score_state(ours: np.ndarray, theirs: np.ndarray, at_ms: np.ndarray, keep: np.ndarray) -> ParityScore:
    """Compare a state: bars that agree, and for conditions the number on which only one side holds.

    Parameters
    ----------
    ours, theirs
        Values of both sides, shape (n,), NaN where unknown.
    at_ms
        Bar opens, ms UTC.
    keep
        Mask of the bars that count.
    """
    both = keep & np.isfinite(ours) & np.isfinite(theirs)
    apart = both & (ours != theirs)
    figures: dict[str, Any] = {
        "ours": int((both & (ours != 0.0)).sum()),
        "theirs": int((both & (theirs != 0.0)).sum()),
        "only_ours": int((apart & (ours != 0.0) & (theirs == 0.0)).sum()),
        "only_theirs": int((apart & (theirs != 0.0) & (ours == 0.0)).sum()),
    }
    return _score("state", int(both.sum()), np.flatnonzero(apart), at_ms, figures)


def score(kind: Kind, ours: np.ndarray, theirs: np.ndarray, at_ms: np.ndarray, keep: np.ndarray) -> ParityScore:
    """Compare two series of a kind on the bars of `keep`.

    Parameters
    ----------
    kind
        Kind of both series.
    ours, theirs
        Values of both sides, shape (n,), NaN where unknown.
    at_ms
        Bar opens, ms UTC.
    keep
        Mask of the bars that count.
    """
    match kind:
        case "plot":
            return score_plot(ours, theirs, at_ms, keep)
        case "event":
            return score_event(ours, theirs, at_ms, keep)
        case "wave":
            return score_wave(ours, theirs, at_ms, keep)
        case "state":
            return score_state(ours, theirs, at_ms, keep)


def quality(result: ParityScore) -> float:
    """Return a figure from 0 to 1 that a fit can maximise.

    It is the correlation of a line, the agreement of a state, or the F1 of marks within one bar.
    """
    figures = result.figures
    if result.kind == "plot":
        r = figures["correlation"]
        return max(0.0, r) if r is not None else 0.0
    if result.kind == "state":
        return result.agree
    precision, recall = figures["precision_1"], figures["recall_1"]
    if precision is None and recall is None:
        return 1.0
    if not precision or not recall:
        return 0.0
    return float(2.0 * precision * recall / (precision + recall))
