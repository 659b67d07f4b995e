"""The bot's own measurements: time without a stop per position and leg, and time from a closed bar to its order."""

from collections import deque
from typing import Any, Final

from bot.core.records import NakedSpell
from bot.execution.stamps import percentile

KEPT: Final = 1_000


def summary(values: list[float]) -> dict[str, float | int | None]:
    """Return count, median, 99th percentile and maximum of some times in ms."""
    if not values:
        return {"n": 0, "p50_ms": None, "p99_ms": None, "max_ms": None}
    return {
        "n": len(values),
        "p50_ms": percentile(values, 0.5),
        "p99_ms": percentile(values, 0.99),
        "max_ms": max(values),
    }


class Measures:
    """The newest measurements, for terminal and page; all of them are in the journal."""

    def __init__(self) -> None:
        self.decisions: deque[float] = deque(maxlen=KEPT)
        self.naked: dict[str, deque[float]] = {}

    def take(self, spell: NakedSpell) -> None:
        """Add a period without a full stop, at its end."""
        self.naked.setdefault(spell.symbol, deque(maxlen=KEPT)).append(spell.ms)

    def view(self) -> dict[str, Any]:
        """Return medians, percentiles and maxima."""
        return {
            "naked": {symbol: summary(list(values)) for symbol, values in sorted(self.naked.items())},
            "decision_times": summary(list(self.decisions)),
        }
