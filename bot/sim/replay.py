"""The recorded market as one stream: all symbols' ticks, and the minutes on which bars close and funding is paid.

On a full minute bars close first, then come the ticks of the bars that open.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np

from bot.core.times import DAY_MS, MINUTE_MS
from bot.sim.candles import Candles
from bot.sim.path import day_ticks

AT_ONCE: Final = 2_048
MINUTE: Final = -1  # instead of a symbol number

# time, symbol number, price, lots, seller, bid, bid lots, ask, ask lots, trades, time and price of the bar's next tick
Row = list[int]


def span(candles: dict[str, Candles]) -> tuple[int, int]:
    """Return the first open and the last close of all bars, UTC epoch ms."""
    first = min(int(c.base.open_ms[0]) for c in candles.values())
    last = max(int(c.base.open_ms[-1] + c.base.length_ms[-1]) for c in candles.values())
    return first, last


def replay(
    candles: dict[str, Candles], from_ms: int, to_ms: int, *, seed: int, spread: float, depth_notional: float
) -> Iterator[Row]:
    """Yield the minutes in [from_ms, to_ms] and the ticks in [from_ms, to_ms), in time order.

    Symbols are numbered in the order of `candles`; of ticks on one millisecond the first symbol's comes first.

    Parameters
    ----------
    from_ms, to_ms
        UTC epoch ms.
    seed
        Seed of the price paths.
    spread
        Width of the book as a fraction of the price.
    depth_notional
        Typical quantity at the best price, USDT.
    """
    for day in range(from_ms // DAY_MS, to_ms // DAY_MS + 1):
        parts = []
        for number, c in enumerate(candles.values()):
            ticks = day_ticks(c.base, c.rules, day=day, seed=seed, spread=spread, depth_notional=depth_notional)
            if ticks is not None:
                parts.append(np.insert(ticks, 1, number, axis=0))
        minutes = np.zeros((12, DAY_MS // MINUTE_MS), dtype=np.int64)
        minutes[0] = day * DAY_MS + np.arange(minutes.shape[1]) * MINUTE_MS
        minutes[1] = MINUTE
        rows = np.concatenate([minutes, *parts], axis=1)
        keep = (rows[0] >= from_ms) & ((rows[0] < to_ms) | ((rows[1] == MINUTE) & (rows[0] == to_ms)))
        rows = rows[:, keep]
        rows = rows[:, np.lexsort((rows[1], rows[0]))].T
        for first in range(0, len(rows), AT_ONCE):  # an entire day at once would delay its first instant
            yield from rows[first : first + AT_ONCE].tolist()
