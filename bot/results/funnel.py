"""The funnel, which shows why signals are rare: bars passing each condition alone, in sequence, and all but one.

*Alone*: bars on which the condition holds, regardless of the others. *In sequence*: bars that remain after applying the
conditions one after the other. *Without*: bars on which all the others hold, which would be the signals without this
condition. Only usable bars count: warmed up and not filled.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bot.core.types import Side
from bot.results.backtest import BarGrid, Result
from bot.strategy import rules


def side_funnel(
    flags: np.ndarray,
    gates: np.ndarray,
    usable: np.ndarray,
    *,
    names: Sequence[str],
    required: dict[str, int],
    days: float,
) -> dict[str, Any]:
    """Return one side's funnel.

    Parameters
    ----------
    flags, gates : ndarray(uint8, ndim=1)
        Bit i is condition (gate) i.
    usable : ndarray(bool, ndim=1)
        Bars that count: warmed up and not filled.
    names
        Names of the conditions, in order.
    required
        Bit number of each required gate, by name.
    days : float
        Length of the range; counts are also given per day.
    """
    columns = {name: (flags >> np.uint8(i) & 1).astype(bool) for i, name in enumerate(names)}
    columns |= {f"gate {name}": (gates >> np.uint8(bit) & 1).astype(bool) for name, bit in required.items()}
    left = usable.copy()
    steps = []
    for name, column in columns.items():
        alone = int(np.sum(usable & column))
        left &= column
        others = usable.copy()
        for other, held in columns.items():
            if other != name:
                others &= held
        without = int(np.sum(others))
        steps.append(
            {
                "name": name,
                "alone": alone,
                "alone_share": alone / max(1, int(usable.sum())),
                "in_sequence": int(left.sum()),
                "without": without,
                "alone_per_day": alone / days,
                "in_sequence_per_day": int(left.sum()) / days,
                "without_per_day": without / days,
            }
        )
    return {
        "bars": int(usable.sum()),
        "steps": steps,
        "signals": int(left.sum()),
        "signals_per_day": int(left.sum()) / days,
    }


def funnel(
    grid: BarGrid,
    *,
    names: Mapping[str, Sequence[str]],
    gate_names: Sequence[str],
    wanted: Sequence[str],
    days: float,
) -> dict[str, Any]:
    """Return the funnel of both sides and the decisions on bars with a signal.

    Parameters
    ----------
    grid
        Conditions and decisions of all bars.
    names
        `{"long": (...), "short": (...)}`: names of the six conditions.
    gate_names
        All optional gates in the order of their bits.
    wanted
        The required gates.
    days
        Length of the range.
    """
    usable = grid.ready & ~grid.filled
    required = {name: i for i, name in enumerate(gate_names) if name in wanted}
    days = max(days, 1e-9)
    sides = {
        "long": side_funnel(grid.long, grid.long_gates, usable, names=names["long"], required=required, days=days),
        "short": side_funnel(grid.short, grid.short_gates, usable, names=names["short"], required=required, days=days),
    }
    codes = Counter(grid.codes[i] for i in grid.code[grid.signal != 0].tolist())
    near = {
        side: int(np.sum((np.bitwise_count(flags) == len(names[side]) - 1) & usable))
        for side, flags in (("long", grid.long), ("short", grid.short))
    }
    return {
        "bars": len(grid),
        "usable": int(usable.sum()),
        "days": days,
        "sides": sides,
        "near_misses": near,
        "decisions": dict(codes.most_common()),
    }


def funnel_of(result: Result) -> dict[str, Any]:
    """Return the funnel of a result."""
    wanted = [name for name, on in result.config.strategy.gates.model_dump().items() if on]
    names = {"long": rules.NAMES[Side.LONG], "short": rules.NAMES[Side.SHORT]}
    return funnel(result.grid, names=names, gate_names=rules.GATES, wanted=wanted, days=result.days)
