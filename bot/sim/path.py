"""Price path inside a recorded bar: klines in, ticks out.

A bar has open, high, low, close and volume, but not the path between. The path assumed here: a bar that closes up goes
open, low, high, close, one that closes down open, high, low, close, a bar that closes where it opened takes either by a
seeded draw. Five ticks make a bar:

* the open, at the bar's first millisecond;
* an early one 0.15 to 1.5 s later, on the way to the first extreme with a little seeded noise inside the bar's range:
  the price that an order sent at the previous bar's close meets;
* the first extreme at 15 to 45 % of the bar, the second at 55 to 85 %, the close 0.1 to 1.5 s before the end.

They carry 2, 2, 32, 34 and 30 % of the volume. A tick's aggressor bought if the price rose and sold if it fell. The
book around a price is `spread` wide (at least one tick), half of it on either side, with log-normal quantities around
`depth_notional`. Between two ticks of a bar the price moves in a straight line: where a stop or a liquidation lies on
it, the exchange inserts a tick. From one bar's close to the next one's open it jumps. Everything depends only on the
seed, the symbol and the day: the same day is the same wherever a replay starts.
"""

from dataclasses import dataclass
from typing import Final
from zlib import crc32

import numpy as np

from bot.core.klines import Klines, interval_ms
from bot.core.times import DAY_MS
from bot.sim.filters import SymbolRules

SHARES: Final = np.array([0.02, 0.02, 0.32, 0.34, 0.30])
NOISE: Final = 0.1  # standard deviation of the early tick, as a fraction of the bar's range
DEPTH_SIGMA: Final = 0.7
COLUMNS: Final = ("open", "high", "low", "close", "volume", "quote_volume", "trades", "taker_buy_volume",
                  "taker_buy_quote_volume")  # fmt: skip


@dataclass(frozen=True, slots=True)
class BaseBars:
    """A symbol's finest bars, whose lengths may differ: `columns` in the order of `COLUMNS`, NaN replaced by 0."""

    open_ms: np.ndarray
    length_ms: np.ndarray
    columns: np.ndarray


def base_bars(series: dict[str, Klines]) -> BaseBars:
    """Merge a symbol's intervals: the finest where it exists, the next coarser in its gaps."""
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    covered = np.zeros(0, dtype=np.int64)
    for name in sorted(series, key=interval_ms):
        klines = series[name]
        if parts and klines.interval_ms > 180_000:
            break  # a path through four prices is too coarse for longer bars
        opens = klines.open_ms
        if parts:
            first = np.searchsorted(covered, opens, side="left")
            last = np.searchsorted(covered, opens + klines.interval_ms, side="left")
            keep = np.flatnonzero(first == last)
            if not len(keep):
                continue
        else:
            keep = np.arange(len(opens))
        columns = np.vstack([getattr(klines, column)[keep] for column in COLUMNS])
        np.nan_to_num(columns, copy=False)
        opens = opens[keep]
        parts.append((opens, np.full(len(opens), klines.interval_ms, dtype=np.int64), columns))
        covered = np.sort(np.concatenate([covered, opens])) if len(parts) > 1 else opens
    if len(parts) == 1:
        return BaseBars(*parts[0])
    opens = np.concatenate([part[0] for part in parts])
    order = np.argsort(opens, kind="stable")
    lengths = np.concatenate([part[1] for part in parts])[order]
    return BaseBars(opens[order], lengths, np.concatenate([part[2] for part in parts], axis=1)[:, order])


def day_ticks(
    bars: BaseBars, rules: SymbolRules, *, day: int, seed: int, spread: float, depth_notional: float
) -> np.ndarray | None:
    """Return the ticks of one UTC day, or None if the day has no bars.

    Parameters
    ----------
    day
        Number of the day since 1970.
    seed
        Seed of all draws.
    spread
        Width of the book as a fraction of the price.
    depth_notional
        Typical quantity at the best price, USDT.

    Returns
    -------
    ndarray(int64, ndim=2)
        One column per tick, oldest first: time ms, price, lots, seller (0/1), bid, bid lots, ask, ask lots, trades, and
        the bar's next tick: time and price (0 after its last); prices in ticks.
    """
    start, stop = (int(i) for i in np.searchsorted(bars.open_ms, [day * DAY_MS, (day + 1) * DAY_MS]))
    n = stop - start
    if n == 0:
        return None
    rng = np.random.default_rng([seed, crc32(rules.symbol.encode()), day])
    tick, step = float(rules.tick), float(rules.step)
    opens, lengths = bars.open_ms[start:stop], bars.length_ms[start:stop]
    o, h, l, c, volume = np.rint(bars.columns[:5, start:stop] / np.array([[tick]] * 4 + [[step]])).astype(np.int64)  # noqa: E741
    trades = bars.columns[6, start:stop]

    low_first = np.where(c == o, rng.random(n) < 0.5, c > o)
    x1, x2 = np.where(low_first, l, h), np.where(low_first, h, l)
    u = rng.random((4, n))
    times = np.empty((n, 5), dtype=np.int64)
    times[:, 0] = opens
    times[:, 1] = opens + 150 + (u[0] * 1_350).astype(np.int64)
    times[:, 2] = opens + ((0.15 + 0.30 * u[1]) * lengths).astype(np.int64)
    times[:, 3] = opens + ((0.55 + 0.30 * u[2]) * lengths).astype(np.int64)
    times[:, 4] = opens + lengths - 100 - (u[3] * 1_400).astype(np.int64)

    share = (times[:, 1] - opens) / (times[:, 2] - opens)
    early = o + (x1 - o) * share + rng.standard_normal(n) * NOISE * (h - l)
    prices = np.stack([o, np.clip(np.rint(early).astype(np.int64), l, h), x1, x2, c], axis=1)
    lots = np.floor(volume[:, None] * SHARES).astype(np.int64)
    lots[:, 4] += volume - lots.sum(axis=1)
    counts = np.maximum(1, np.rint(trades[:, None] * SHARES)).astype(np.int64)

    price = prices.ravel()
    change = np.diff(price, prepend=price[0])
    seller = np.where(change == 0, rng.random(5 * n) < 0.5, change < 0)
    width = np.maximum(1, np.rint(price * spread)).astype(np.int64)
    bid = np.where(seller, price - width // 2, price + width // 2 - width)
    bid = np.maximum(bid, 1)
    typical = depth_notional / (price * tick) / step
    depth = typical * np.exp(DEPTH_SIGMA * rng.standard_normal((2, 5 * n)))
    bid_lots, ask_lots = np.maximum(1, depth).astype(np.int64)
    ahead = np.zeros((2, n, 5), dtype=np.int64)
    ahead[0, :, :4], ahead[1, :, :4] = times[:, 1:], prices[:, 1:]
    rows = (times.ravel(), price, lots.ravel(), seller.astype(np.int64), bid, bid_lots, bid + width, ask_lots)
    return np.stack([*rows, counts.ravel(), ahead[0].ravel(), ahead[1].ravel()])
