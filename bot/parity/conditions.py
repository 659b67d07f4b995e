"""Compare the six conditions as the chart shows them with ours, and the resulting signal.

The toolkits export four of the six: the HyperWave cross, the overflow, the confirmation and Smart Trail's line.
Structure and order blocks are drawings and do not export, nor do the rating of a confirmation and the direction of the
trail: for those our values are used on both sides of the signal, and the report says so.
"""

from typing import Any, Final

import numpy as np

from bot.config import Config
from bot.core.jit import records
from bot.core.types import Side
from bot.parity.bind import Bound
from bot.parity.catalogue import Table
from bot.parity.score import flags_of, score_event, score_state
from bot.strategy import kernel as k
from bot.strategy import rules
from bot.strategy.features import INDEX
from bot.strategy.rules import CONDITIONS, NAMES

FLAGS: Final = {name: (f"long_{name}", f"short_{name}") for name in CONDITIONS}


def _state_of(up: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Return the side of the last mark: +1, -1, 0 before the first."""
    marks = up.astype(np.int64) - down.astype(np.int64)
    last = np.maximum.accumulate(np.where(marks != 0, np.arange(len(marks)), -1))
    return np.where(last >= 0, marks[last], 0)


class Theirs:
    """The bound columns by feature, and the conditions computed from them, completed with our columns."""

    def __init__(self, bound: Bound, table: Table, close: np.ndarray, config: Config) -> None:
        self.columns = {binding.feature: binding.column.values for binding in bound.bindings}
        self.table, self.close, self.config = table, close, config
        self.replaced = self._replaced()
        self.restated = self._restated() if self.replaced else {}

    def flags(self, name: str) -> np.ndarray | None:
        """Return a bound event's marks (bool), None if it is not bound."""
        values = self.columns.get(name)
        return None if values is None else flags_of(values, "wave" if name.endswith("_value") else "event")

    def _replaced(self) -> dict[str, np.ndarray]:
        """Return the chart's values for our columns, for each condition whose required columns are all bound."""
        found: dict[str, np.ndarray] = {}
        wave = self.columns.get("om_hyperwave")
        for name in ("om_cross_up", "om_cross_down"):
            marks = self.flags(name)
            if marks is not None and wave is not None:
                found |= {name: marks, "om_hyperwave": wave}
        up, down = self.flags("om_overflow_up_value"), self.flags("om_overflow_down_value")
        if up is not None and down is not None:
            known = np.isfinite(self.columns["om_overflow_up_value"]) & np.isfinite(
                self.columns["om_overflow_down_value"]
            )
            found |= {"om_overflow_up": up, "om_overflow_down": down, "om_ready": known}
        names = ("so_bullish", "so_bullish_strong", "so_bearish", "so_bearish_strong")
        up, up_strong, down, down_strong = (self.flags(name) for name in names)
        if up is not None and down is not None:
            up, down = (a if b is None else a | b for a, b in ((up, up_strong), (down, down_strong)))
            found["so_state"] = _state_of(up, down)
        if "so_trail" in self.columns:
            found["so_trail"] = self.columns["so_trail"]
        return found

    def _restated(self) -> dict[str, np.ndarray]:
        """Return the conditions of both sides from the strategy's kernel, over our columns with the chart's substituted."""
        rows = np.stack([self.replaced.get(name, self.table[name]) for name in k.COLUMNS], axis=1).astype(np.float64)
        settings = records(rules.RULES, 1)
        rules.set_rules(settings[0], self.config, base_ms=1, htf_ms=1)  # no flag reads an interval
        k.flags_block(settings, np.require(self.close, np.float64, ["C", "W"]), np.zeros(len(rows), np.int64), rows)
        return {name: rows[:, INDEX[name]] == 1.0 for pair in FLAGS.values() for name in pair}

    def condition(self, side: Side, name: str) -> np.ndarray | None:
        """Return one condition as the chart has it (bool), None if its columns are not bound."""
        flag = FLAGS[name][0 if side is Side.LONG else 1]
        own = self.columns.get(flag)
        if own is not None:
            return np.asarray(np.nan_to_num(own) != 0.0)
        needs = {
            "hw_cross": "om_cross_up" if side is Side.LONG else "om_cross_down",
            "no_overflow": "om_overflow_up",
            "conf": "so_state",
            "trail": "so_trail",
        }.get(name)
        return self.restated[flag] if needs in self.replaced else None

    def allowed(self, side: Side) -> np.ndarray:
        """Return where the strategy may signal at all: warmed up, and the required gates hold (both ours)."""
        bits = np.nan_to_num(self.table[f"{side.name.lower()}_gates"]).astype(np.int64)
        held = rules.where_gates_hold(bits, rules.required_gates(self.config.strategy.gates))
        return np.asarray((self.table["ready"] == 1.0) & held)


def compare_conditions(
    bound: Bound, table: Table, close: np.ndarray, at_ms: np.ndarray, keep: np.ndarray, config: Config
) -> dict[str, Any]:
    """Return per side and condition how often both agree, and the same for the complete signal.

    Empty when no column of either side is bound; conditions exist on 3m bars only.

    Parameters
    ----------
    bound
        The bound columns of the export.
    table
        Our columns at the export's bars.
    close, at_ms
        Closes and opens (ms UTC) of the export's bars.
    keep
        Mask of the bars that count.
    config
        Configuration of our side.
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
