"""Near misses: bars on which five of the six conditions held, and the results their trades would have had.

Each is simulated separately with the initial equity, on the block that was hit; where the missing condition is the block
itself, on a block of one ATR around the close. Gates and vetoes apply as they would to a signal.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from bot.backtest.data import SIX, Prepared, block_edges
from bot.backtest.run import simulate_entries
from bot.config import Config
from bot.core.types import Side
from bot.results.backtest import EntryTime, NearMiss, Result
from bot.strategy import rules


def find(config: Config, prepared: Prepared) -> list[tuple[NearMiss, EntryTime]]:
    """Return all near misses of the range on ready, unfilled bars whose required gates hold, in order of time."""
    columns, base = prepared.columns, prepared.alpha.base
    part = slice(prepared.first, prepared.stop)
    usable = columns.ready[part] & (base.filled[part] == 0.0)
    wanted = rules.required_gates(config.strategy.gates)
    found: list[tuple[NearMiss, EntryTime]] = []
    for side in Side:
        bits = (columns.long if side is Side.LONG else columns.short)[part]
        gates = (columns.long_gates if side is Side.LONG else columns.short_gates)[part]
        hits = np.flatnonzero(
            usable & (np.bitwise_count(bits) == len(rules.CONDITIONS) - 1) & rules.where_gates_hold(gates, wanted)
        )
        for place in hits.tolist():
            index = prepared.first + place
            lacking = (SIX & ~int(bits[place])).bit_length() - 1
            open_ms, close = int(base.open_ms[index]), float(base.close[index])
            edges = block_edges(columns, index, side, close)
            entry = EntryTime(open_ms, side) if edges is None else EntryTime(open_ms, side, *edges)
            found.append((NearMiss(open_ms, side, rules.NAMES[side][lacking]), entry))
    return sorted(found, key=lambda item: (item[0].open_ms, item[0].side.sign))


def with_near_misses(
    result: Result, prepared: Prepared, *, limit: int | None = None, progress: Callable[[int], None] | None = None
) -> Result:
    """Return the result with its near misses; at most `limit` of them, evenly spread, are simulated.

    Parameters
    ----------
    limit
        Maximum number of simulations; None for all.
    progress
        Called with the number of simulations done.
    """
    found = find(result.config, prepared)
    chosen = range(len(found))
    if limit is not None and limit < len(found):
        chosen = sorted(set(np.linspace(0, len(found) - 1, limit).round().astype(int).tolist())) if limit else []  # type: ignore[assignment]
    made = simulate_entries(result.config, prepared, [found[i][1] for i in chosen], progress=progress)
    misses = [replace(miss, outcome="not simulated") for miss, _ in found]
    for i, trade in zip(chosen, made, strict=True):
        simulated = not isinstance(trade, str)
        misses[i] = replace(
            misses[i], trade=None if isinstance(trade, str) else trade, outcome="" if simulated else str(trade)
        )
    return replace(result, near_misses=tuple(misses))
