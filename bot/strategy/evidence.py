"""The six conditions of either side with the numbers behind them (strategy 2 and 9).

What was compared is kept with every decision, so that any bar can be explained afterwards.
"""

import math
from typing import Final

from bot.core.types import Side
from bot.strategy.rules import CONDITIONS, GATES, NAMES, Row, column, gates_hold

# What each condition compares; shown beside its light. Both sides read the same numbers, the blocks apart.
EVIDENCE: Final = (
    "htf_smc_trend",
    "htf_pac_trend",
    "range_eq",
    *(f"{side}_ob_{name}" for side in ("long", "short") for name in ("id", "bottom", "top", "dominance", "rank")),
    "pac_demand_top",
    "pac_supply_bottom",
    "om_hyperwave",
    "om_signal",
    "om_money_flow",
    "om_upper",
    "om_lower",
    "om_overflow_up",
    "om_overflow_down",
    "so_state",
    "so_rating",
    "so_trail",
    "so_trail_dir",
    "atr14",
    "sta_ts",
    "sta_os",
    "long_gates",
    "short_gates",
    "long_count",
    "short_count",
)

Flags = tuple[bool, bool, bool, bool, bool, bool]
NO_FLAGS: Final[Flags] = (False, False, False, False, False, False)


def flags(row: Row, side: Side) -> Flags:
    """Return the six conditions of a side, in the order of CONDITIONS."""
    name = side.name.lower()
    htf, block, cross, calm, confirmed, trail = (column(row, f"{name}_{c}") == 1.0 for c in CONDITIONS)
    return htf, block, cross, calm, confirmed, trail


def signal(row: Row) -> int:
    """Return +1, -1, or 0 for none; both at once cannot be followed and is none."""
    return int(column(row, "long_signal") == 1.0) - int(column(row, "short_signal") == 1.0)


def missing(conditions: Flags, side: Side) -> str:
    """Return the one condition that five of six lacked, else nothing.

    >>> missing((True, True, False, True, True, True), Side.LONG)
    'HW_CROSS_UP'
    """
    if sum(conditions) != len(conditions) - 1:
        return ""
    return NAMES[side][conditions.index(False)]


def closed_gates(row: Row, side: Side, wanted: tuple[str, ...]) -> list[str]:
    """Return the optional gates among `wanted` that do not hold."""
    bits = column(row, f"{side.name.lower()}_gates")
    held = int(bits) if math.isfinite(bits) else 0
    return [name for i, name in enumerate(GATES) if name in wanted and not gates_hold(held, 1 << i)]


def numbers(row: Row, long: Flags, short: Flags) -> dict[str, float | str]:
    """Return the numbers behind the conditions; what is not ready is left out, and near misses are named."""
    values: dict[str, float | str] = {}
    for name in EVIDENCE:
        try:
            value = float(row[name])
        except KeyError:
            continue
        if math.isfinite(value):
            values[name] = value
    for side, held in ((Side.LONG, long), (Side.SHORT, short)):
        lacking = missing(held, side)
        if lacking:
            values[f"near_miss_{side.name.lower()}"] = lacking
    return values
