"""Is it better than chance? The strategy's entries against random ones with the same plan and the same exits.

A back-test can win because the exits are good, because the market trended, or because of a few lucky bars, without the
six conditions having any value. So the same number of trades on the same sides is opened at random times, with the
order blocks' own geometry (distance and height in ATR) and the same plan, sizing, hedge, exits and costs. The share of a
thousand such lists that did at least as well is the p-value. An optimiser is tested likewise: the best of N random lists
is what a search of N trials finds where there is nothing to find.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bot.config import Config
from bot.core.times import HOUR_MS
from bot.core.types import Side
from bot.results.backtest import EntryTime, Result
from bot.results.figures import profit_factors

if TYPE_CHECKING:
    from bot.backtest.data import Prepared

DRAWS = 1_000
SEED = 7


@dataclass(frozen=True, slots=True)
class Pool:
    """Random entries and their results: side, net and gross R, unordered.

    Attributes
    ----------
    side : ndarray(int64, ndim=1)
    net_r, gross_r : ndarray(float64, ndim=1)
        NaN where the entry did not fill.
    """

    side: np.ndarray
    net_r: np.ndarray
    gross_r: np.ndarray

    def of(self, side: int) -> np.ndarray:
        """Return the positions of one side's filled entries."""
        return np.flatnonzero((self.side == side) & np.isfinite(self.net_r))


@dataclass(frozen=True, slots=True)
class Chance:
    """Comparison of the strategy with random entries.

    Attributes
    ----------
    trades, draws, pool : int
        Trades of the strategy, random lists drawn, random entries simulated.
    net_r, gross_r : float
        Mean R of the strategy's trades.
    random_net_r, random_gross_r : float
        Mean over all random entries, on the strategy's mix of sides.
    p_net, p_gross, p_factor : float
        Share of random lists at least as good in net R, gross R and net profit factor (plus one, over draws plus one).
    net_band, gross_band : tuple
        2.5 to 97.5 % of the random lists' means.
    """

    trades: int
    draws: int
    pool: int
    net_r: float
    gross_r: float
    random_net_r: float
    random_gross_r: float
    p_net: float
    p_gross: float
    p_factor: float
    net_band: tuple[float, float]
    gross_band: tuple[float, float]
    histogram: dict[str, list[float]]

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def random_entries(result: Result, *, count: int, seed: int = SEED) -> list[EntryTime]:
    """Return `count` entries per side at random ready bars of the range, with the block geometry of real signals.

    A bar is drawn at most once per side. The geometry is that of the same side's signals, or mirrored from the other
    side if there are none.
    """
    rng = np.random.default_rng(seed)
    grid = result.grid
    # The last hour is excluded: such a trade would be closed by the end of the data, not by its exits.
    usable = np.flatnonzero(grid.ready & ~grid.filled & np.isfinite(grid.atr14))
    usable = usable[grid.open_ms[usable] < grid.open_ms[-1] - HOUR_MS] if len(usable) else usable
    found: list[EntryTime] = []
    for side in (Side.LONG, Side.SHORT):
        shapes = [(low, high) for own, low, high in result.geometry if own is side]
        shapes = shapes or [(-high, -low) for own, low, high in result.geometry if own is not side] or [(-0.5, 0.5)]
        at = rng.permutation(usable)[:count]
        picked = rng.integers(0, len(shapes), len(at))
        found += [
            EntryTime(int(grid.open_ms[i]), side, *shapes[j]) for i, j in zip(at.tolist(), picked.tolist(), strict=True)
        ]
    return sorted(found, key=lambda entry: entry.open_ms)


def pool_of(config: Config, prepared: "Prepared", result: Result, *, count: int, seed: int = SEED) -> Pool:
    """Simulate `count` random entries per side, each separately with the initial equity, over the range of `result`.

    Parameters
    ----------
    prepared
        Data and indicator results of that range.
    result
        The back-test whose bars and block geometry are drawn from.
    count
        Entries per side.
    seed
        Seed of the random draws.
    """
    from bot.backtest.run import simulate_entries

    entries = random_entries(result, count=count, seed=seed)
    made = simulate_entries(config, prepared, entries)
    sides = np.array([entry.side.sign for entry in entries], np.int64)
    net = np.array([np.nan if isinstance(trade, str) else trade.net_r for trade in made])
    gross = np.array([np.nan if isinstance(trade, str) else trade.gross_r for trade in made])
    return Pool(sides, net, gross)


def _lists(rng: np.random.Generator, pool: Pool, longs: int, shorts: int, draws: int) -> np.ndarray:
    """Return (draws, longs + shorts) positions into the pool."""
    parts = []
    for side, count in ((1, longs), (-1, shorts)):
        members = pool.of(side)
        if count and not len(members):
            raise ValueError("the pool holds no filled entry of a side that the strategy traded")
        if count:
            parts.append(members[rng.integers(0, len(members), (draws, count))])
    return np.concatenate(parts, axis=1)


def _p(better: np.ndarray) -> float:
    """Return the share of random lists that did as well; never 0, because the strategy's own list counts as one."""
    return (int(np.sum(better)) + 1) / (len(better) + 1)


def against_chance(
    net: np.ndarray, gross: np.ndarray, sides: np.ndarray, pool: Pool, *, draws: int = DRAWS, seed: int = SEED
) -> Chance | None:
    """Compare the strategy's trades with `draws` random lists of the same sides and count; None without trades.

    Parameters
    ----------
    net, gross : ndarray(float64, ndim=1)
        R of the strategy's trades.
    sides : ndarray(int64, ndim=1)
        +1 or -1 of each.

    Raises
    ------
    ValueError
        The pool holds no filled entry of a side that the strategy traded.
    """
    if not len(net):
        return None
    rng = np.random.default_rng(seed)
    longs, shorts = int(np.sum(sides > 0)), int(np.sum(sides < 0))
    at = _lists(rng, pool, longs, shorts, draws)
    nets, grosses = pool.net_r[at], pool.gross_r[at]
    means, gross_means = nets.mean(axis=1), grosses.mean(axis=1)
    own = float(profit_factors(net[None, :])[0])
    heights, edges = np.histogram(means, bins=40)
    return Chance(
        trades=len(net),
        draws=draws,
        pool=int(np.isfinite(pool.net_r).sum()),
        net_r=float(net.mean()),
        gross_r=float(gross.mean()),
        random_net_r=float(means.mean()),
        random_gross_r=float(gross_means.mean()),
        p_net=_p(means >= net.mean()),
        p_gross=_p(gross_means >= gross.mean()),
        p_factor=_p(profit_factors(nets) >= own),
        net_band=_band(means),
        gross_band=_band(gross_means),
        histogram={"edges": edges.tolist(), "counts": heights.astype(float).tolist()},
    )


def _band(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)


def searches_as_good(
    best: float,
    trials: Sequence[tuple[int, int]],
    pools: Sequence[Pool],
    *,
    searches: int = 1_000,
    seed: int = SEED,
    max_drawdown_r: float = math.inf,
) -> dict[str, float]:
    """Return how often an equally large search over random entries finds a profit factor at least as good as `best`.

    Parameters
    ----------
    best
        Profit factor (in R) of the search's winner.
    trials
        (longs, shorts) of every feasible trial; each random search has as many trials of the same sizes.
    pools
        Random entries under the exits and costs of some of the trials; each trial draws from one of them at random,
        so that the spread between settings is part of the luck too.
    max_drawdown_r
        A random list with a deeper drawdown (R) is infeasible, as it was for the search.
    """
    rng = np.random.default_rng(seed)
    tops = np.zeros(searches)
    for longs, shorts in trials:
        if longs + shorts == 0:
            continue
        chosen = rng.integers(0, len(pools), searches)
        for number in np.unique(chosen).tolist():
            mine = np.flatnonzero(chosen == number)
            at = _lists(rng, pools[number], longs, shorts, len(mine))
            nets = rng.permuted(pools[number].net_r[at], axis=1)
            factors = profit_factors(nets)
            line = np.concatenate((np.zeros((len(mine), 1)), np.cumsum(nets, axis=1)), axis=1)
            falls = (np.maximum.accumulate(line, axis=1) - line).max(axis=1)
            factors[falls > max_drawdown_r] = 0.0
            tops[mine] = np.maximum(tops[mine], factors)
    finite = tops[np.isfinite(tops)]
    return {
        "best": best,
        "searches": float(searches),
        "share_as_good": _p(tops >= best),
        "median_best_of_chance": float(np.median(finite)) if len(finite) else math.nan,
        "best_of_chance_95": float(np.quantile(finite, 0.95)) if len(finite) else math.nan,
    }
