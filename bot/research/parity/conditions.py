"""The six conditions as the chart shows them, beside ours, and what they make of the whole signal.

The toolkits export four of the six: the HyperWave cross, the overflow, the confirmation and Smart Trail's line. Structure
and order blocks are drawings and do not export, nor do the rating of a confirmation and the direction of the trail: those
are ours on both sides of the whole signal, and the report says so.
"""

from typing import Any

import numpy as np

from bot.config import Config
from bot.core.types import Side
from bot.research.parity.bind import Bound
from bot.research.parity.catalogue import Table
from bot.research.parity.score import flags_of, score_event, score_state
from bot.strategy.tags import CONDITIONS, GATES, NAMES


def _state_of(up: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Return the side of the last mark: +1, -1, 0 before the first."""
    marks = up.astype(np.int64) - down.astype(np.int64)
    last = np.maximum.accumulate(np.where(marks != 0, np.arange(len(marks)), -1))
    return np.where(last >= 0, marks[last], 0)


class Theirs:
    """The bound columns by feature, and the conditions that they make with what only we have."""

    def __init__(self, bound: Bound, table: Table, close: np.ndarray, config: Config) -> None:
        self.columns = {binding.feature: binding.column.values for binding in bound.bindings}
        self.table, self.close, self.config = table, close, config

    def flags(self, name: str) -> np.ndarray | None:
        """Return a bound event's marks, None if it is not bound."""
        values = self.columns.get(name)
        return None if values is None else flags_of(values, "wave" if name.endswith("_value") else "event")

    def condition(self, side: Side, name: str) -> np.ndarray | None:
        """Return one condition as the chart has it, None if its columns are not bound."""
        own = self.columns.get(f"{side.name.lower()}_{name}")
        if own is not None:
            return np.asarray(np.nan_to_num(own) != 0.0)
        match name:
            case "hw_cross":
                return self._cross(side)
            case "no_overflow":
                return self._calm(side)
            case "conf":
                return self._confirmed(side)
            case "trail":
                return self._trail(side)
        return None

    def allowed(self, side: Side) -> np.ndarray:
        """Return where the strategy may signal at all: warmed up, and the required gates hold (both ours)."""
        bits = np.nan_to_num(self.table[f"{side.name.lower()}_gates"]).astype(np.int64)
        wanted = sum(1 << i for i, name in enumerate(GATES) if getattr(self.config.strategy.gates, name))
        return np.asarray((self.table["ready"] == 1.0) & (bits & wanted == wanted))

    def _cross(self, side: Side) -> np.ndarray | None:
        marks = self.flags("om_cross_up" if side is Side.LONG else "om_cross_down")
        wave = self.columns.get("om_hyperwave")
        return None if marks is None or wave is None else marks & (side.sign * (50.0 - wave) > 0.0)

    def _calm(self, side: Side) -> np.ndarray | None:
        up, down = self.flags("om_overflow_up_value"), self.flags("om_overflow_down_value")
        if up is None or down is None:
            return None
        known = np.isfinite(self.columns["om_overflow_up_value"]) & np.isfinite(self.columns["om_overflow_down_value"])
        own = up if side is Side.LONG else down
        return np.asarray(known & ~(own if self.config.oscillator.overflow_side == "same_side" else up | down))

    def _confirmed(self, side: Side) -> np.ndarray | None:
        names = ("so_bullish", "so_bullish_strong", "so_bearish", "so_bearish_strong")
        up, up_strong, down, down_strong = (self.flags(name) for name in names)
        if up is None or down is None:
            return None
        up, down = (a if b is None else a | b for a, b in ((up, up_strong), (down, down_strong)))
        rule = self.config.strategy
        held = (_state_of(up, down) == side.sign) & (self.table["so_rating"] >= rule.min_rating)
        if rule.require_strong:
            held &= self.table["so_strong"] == 1.0
        if rule.conf_max_age:
            held &= self.table["so_age"] <= rule.conf_max_age
        return np.asarray(held)

    def _trail(self, side: Side) -> np.ndarray | None:
        line = self.columns.get("so_trail")
        if line is None:
            return None
        held = side.sign * (self.close - line) > 0.0
        return held if self.config.strategy.trail_mode == "price" else held & (self.table["so_trail_dir"] == side.sign)


def compare_conditions(
    bound: Bound, table: Table, close: np.ndarray, at_ms: np.ndarray, keep: np.ndarray, config: Config
) -> dict[str, Any]:
    """Return per side and condition how often both agree, and the same for the whole signal.

    Empty when the bars are not 3m (no conditions there) or nothing of a side is bound.
    """
    theirs = Theirs(bound, table, close, config)
    report: dict[str, Any] = {}
    for side in (Side.LONG, Side.SHORT):
        rows: dict[str, Any] = {}
        held = theirs.allowed(side)
        borrowed: list[str] = []
        for name, tag in zip(CONDITIONS, NAMES[side], strict=True):
            mine = table[f"{side.name.lower()}_{name}"]
            yours = theirs.condition(side, name)
            if yours is None:
                borrowed.append(tag)
                held &= mine == 1.0
                continue
            held &= yours
            rows[tag] = score_state(mine, yours.astype(np.float64), at_ms, keep).as_dict()
        whole = theirs.columns.get(f"{side.name.lower()}_signal")
        mine = table[f"{side.name.lower()}_signal"]
        if whole is not None:
            rows["signal"] = score_event(mine, whole, at_ms, keep).as_dict()
        elif rows:
            rows["signal"] = score_event(mine, held.astype(np.float64), at_ms, keep).as_dict() | {"borrowed": borrowed}
        if rows:
            report[side.name.lower()] = rows
    return report
