"""Times in a chart's local zone across clock changes: one offset before, another after.

An export without zones is aligned with klines piece by piece. Each row is tried with the offset that fits most rows and
with those half an hour and an hour to either side; a change of the offset carries a penalty, so that noise causes none.
In autumn an hour occurs twice on the clock: bars are distinguished by their order, trades by the bar that contains
their price.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from bot.core.times import HOUR_MS, MINUTE_MS
from bot.market.store import format_time

SWITCHES: Final = (0, HOUR_MS, -HOUR_MS, HOUR_MS // 2, -HOUR_MS // 2)  # Lord Howe's clocks change by half an hour
APART_MS: Final = 30 * 24 * HOUR_MS  # minimum time between two clock changes of one zone
BETTER: Final = 0.7  # maximum share of the single-offset misfit that may remain


@dataclass(frozen=True, slots=True)
class Zone:
    """An offset from UTC, and the UTC time from which it holds in the export."""

    from_ms: int
    offset_ms: int


def cheapest(cost: np.ndarray, penalty: float) -> np.ndarray:
    """Return the state of each row on the path of minimum total cost, where every change of state costs `penalty` more.

    `cost` has shape (states, rows).

    >>> cheapest(np.array([[0, 0, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0]]), 2.0).tolist()
    [0, 0, 0, 1, 1, 1]
    >>> cheapest(np.array([[0, 0, 1, 0, 0, 0], [1, 1, 0, 1, 1, 1]]), 2.0).tolist()
    [0, 0, 0, 0, 0, 0]
    """
    states, length = cost.shape
    came_from = np.zeros((length, states), np.int64)
    total = cost[:, 0].astype(np.float64)
    stay = np.arange(states)
    for row in range(1, length):
        best = int(np.argmin(total))
        moved = total[best] + penalty < total
        came_from[row] = np.where(moved, best, stay)
        total = np.where(moved, total[best] + penalty, total) + cost[:, row]
    path = np.empty(length, np.int64)
    path[-1] = int(np.argmin(total))
    for row in range(length - 1, 0, -1):
        path[row - 1] = came_from[row, path[row]]
    return path


def accepted(cost: np.ndarray, path: np.ndarray, at_ms: np.ndarray) -> bool:
    """Return whether the changes of a path are clock changes: few, far apart, and with a much better fit."""
    changes = np.flatnonzero(np.diff(path)) + 1
    if not len(changes) or (np.diff(at_ms[changes]) < APART_MS).any():
        return False
    return float(cost[path, np.arange(len(path))].sum()) <= BETTER * float(cost.sum(axis=1).min())


def zones_of(at_ms: np.ndarray, offset_ms: np.ndarray) -> tuple[Zone, ...]:
    """Return the successive offsets, from the UTC time and offset of each row."""
    starts = [0, *(np.flatnonzero(np.diff(offset_ms)) + 1).tolist()]
    return tuple(Zone(int(at_ms[i]), int(offset_ms[i])) for i in starts)


def zone_sentence(zones: tuple[Zone, ...], compared: str) -> str:
    """Return a sentence on the zones found.

    >>> zone_sentence((Zone(0, -18_000_000),), "bars")
    "its times are UTC-5 h: the chart's zone was found by comparing bars"
    """
    first, *later = zones
    found = f"its times are UTC{first.offset_ms / HOUR_MS:+g} h"
    found += "".join(f", from {format_time(z.from_ms)[:16]} UTC on UTC{z.offset_ms / HOUR_MS:+g} h" for z in later)
    changed = ", whose clocks were changed," if later else ""
    return f"{found}: the chart's zone{changed} was found by comparing {compared}"


def zone_figures(zones: tuple[Zone, ...]) -> list[dict[str, float]]:
    """Return the offsets for a report."""
    return [{"from_ms": zone.from_ms, "shift_minutes": zone.offset_ms / MINUTE_MS} for zone in zones]
