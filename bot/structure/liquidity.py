"""Liquidity: levels where stop orders rest (pools), and bars that sweep them.

Two kinds of levels are pools: the last unswept pivots (five per side), and equal highs or lows: two consecutive
short-term pivots closer than a tenth of ATR 200. A *grab* is a bar whose wick goes through a pooled pivot while its
body stays inside: bullish under a low, bearish above a high. A body beyond the level ends the pool without a grab. An
equal level lasts until a close beyond it, or 500 bars.

Both sides use one formula in the side's own frame (prices times +1 for lows, -1 for highs), in which pools lie below.

Choices where the documents are silent: a sweep that is no event because of the wick-to-body ratio or the cooldown still
removes the pools it swept, since the orders resting there are gone. Two grabs of a side must be more than `cooldown`
bars apart. A level of a pivot confirmed on a filled bar becomes a pool, without a flag.

Sources: the public documentation of the indicator and public descriptions of liquidity grabs; premium indicators 2.3,
2.4 and 2.6.
"""

import math

import numpy as np

from bot.core.jit import kernel, outlined_kernel

PIVOTS = 5  # unswept pivots per side
EQUALS = 64  # equal levels per side: about three form a day, none outlives 500 bars; beyond it the oldest is dropped
EQUAL_LIFE = 500  # bars
SMALLEST_BODY = 1e-12

POOLS = np.dtype(
    [
        ("pivots", "i8"),  # pooled pivots, oldest first
        ("pivot", "f8", PIVOTS),  # own frame
        ("reach", "f8"),  # nearest pooled pivot: a low that stays above it sweeps nothing
        ("last_grab", "i8"),  # bar of the last grab, far in the past before the first
        ("grab", "i8"),  # 1: a grab on this bar
        ("grab_level", "f8"),  # the deepest level of this bar's grab, a price; NaN without one
        ("previous", "f8"),  # last short-term pivot of the side, own frame
        ("equal_reach", "f8"),  # nearest equal level
        ("equals", "i8"),  # open equal levels, oldest first
        ("equal", "f8", EQUALS),
        ("equal_born", "i8", EQUALS),
        ("equal_fresh", "i8"),  # 1: equal to the previous pivot, confirmed on this bar
        ("equal_level", "f8"),  # the price of this bar's new equal level; NaN without one
    ]
)


def pools_reset(pools) -> None:
    """Reset a POOLS record to its initial state."""
    pools.pivots = 0
    pools.pivot[:] = 0.0
    pools.reach = -math.inf
    pools.last_grab = -1_000_000
    pools.grab = 0
    pools.grab_level = math.nan
    pools.previous = math.nan
    pools.equal_reach = -math.inf
    pools.equals = 0
    pools.equal[:] = 0.0
    pools.equal_born[:] = 0
    pools.equal_fresh = 0
    pools.equal_level = math.nan


@outlined_kernel
def pools_sweep(pools, low: float, body: float) -> float:
    """Remove the pools that this bar takes out; return the deepest one grabbed (float64, own frame), NaN if none.

    Grabbed: the low beyond it, the entire body inside. Removed without a grab: the body beyond it. `pools`: POOLS
    record; `low`, `body` in own frame. Source: premium indicators 2.3.
    """
    deepest = math.nan
    kept = 0
    reach = -math.inf
    for i in range(pools.pivots):
        level = pools.pivot[i]
        if low < level and body > level:
            if not deepest < level:  # true for the first one, against NaN
                deepest = level
        elif not body < level:
            pools.pivot[kept] = level
            kept += 1
            reach = max(reach, level)
    pools.pivots = kept
    pools.reach = reach
    return deepest


@outlined_kernel
def pools_add(pools, level: float) -> None:
    """Pool a newly confirmed pivot (float64, own frame); beyond PIVOTS the oldest is dropped.

    `pools`: POOLS record. Source: premium indicators 2.3.
    """
    if pools.pivots == PIVOTS:
        for i in range(PIVOTS - 1):
            pools.pivot[i] = pools.pivot[i + 1]
        pools.pivots -= 1
    pools.pivot[pools.pivots] = level
    pools.pivots += 1
    pools.reach = -math.inf
    for i in range(pools.pivots):
        pools.reach = max(pools.reach, pools.pivot[i])


@kernel
def grab_step(pools, params, bar, sign: float, low: float, body: float, pivot_level: float) -> None:
    """Test this bar for a grab, then pool the pivot that it confirmed. Source: premium indicators 2.3.

    Parameters
    ----------
    pools : record of POOLS
    params : record with grab_min_wick_body (ratio) and grab_cooldown (bars)
    bar : record of BAR
    sign : float
        +1 for lows, -1 for highs
    low, body : float
        the bar's low and the nearer end of its body towards it, own frame
    pivot_level : float
        own frame; NaN when no pivot of this side was confirmed
    """
    pools.grab = 0
    pools.grab_level = math.nan
    if low < pools.reach:
        deepest = pools_sweep(pools, low, body)
        if not math.isnan(deepest):
            ratio = (body - low) / max(abs(bar.close - bar.open), SMALLEST_BODY)
            rested = bar.index - pools.last_grab > params.grab_cooldown
            if rested and ratio >= params.grab_min_wick_body and bar.filled == 0:
                pools.grab = 1
                pools.grab_level = sign * deepest
                pools.last_grab = bar.index
    if not math.isnan(pivot_level):
        pools_add(pools, pivot_level)


@outlined_kernel
def equals_expire(pools, close: float, index: int) -> None:
    """Remove equal levels that a close went beyond, or that have reached EQUAL_LIFE bars.

    `pools`: POOLS record; `close` float64, own frame; `index`: number of the bar. Source: premium indicators 2.4.
    """
    kept = 0
    pools.equal_reach = -math.inf
    for i in range(pools.equals):
        if not close < pools.equal[i] and index - pools.equal_born[i] < EQUAL_LIFE:
            pools.equal[kept] = pools.equal[i]
            pools.equal_born[kept] = pools.equal_born[i]
            pools.equal_reach = max(pools.equal_reach, pools.equal[i])
            kept += 1
    pools.equals = kept


@kernel
def equal_step(pools, params, bar, sign: float, close: float, pivot_level: float) -> None:
    """Advance equal levels by one closed bar. Source: premium indicators 2.4.

    Parameters
    ----------
    pools, params, bar
        POOLS record, record with equal_threshold (multiple of ATR 200), BAR record.
    sign
        +1 for lows, -1 for highs.
    close
        Close of the bar, own frame.
    pivot_level
        New short-term pivot, own frame; NaN when none of this side was confirmed.
    """
    pools.equal_fresh = 0
    pools.equal_level = math.nan
    if pools.equals > 0 and (close < pools.equal_reach or bar.index - pools.equal_born[0] >= EQUAL_LIFE):
        equals_expire(pools, close, bar.index)
    if not math.isnan(pivot_level):
        # Without ATR 200 or a previous pivot the comparison is with NaN, and false.
        if abs(pivot_level - pools.previous) < params.equal_threshold * bar.atr200:
            if pools.equals == EQUALS:
                for i in range(EQUALS - 1):
                    pools.equal[i] = pools.equal[i + 1]
                    pools.equal_born[i] = pools.equal_born[i + 1]
                pools.equals -= 1  # `equal_reach` may now be too near, which only costs a scan
            level = min(pivot_level, pools.previous)
            pools.equal[pools.equals] = level
            pools.equal_born[pools.equals] = bar.index
            pools.equals += 1
            pools.equal_reach = max(pools.equal_reach, level)
            if bar.filled == 0:
                pools.equal_fresh = 1
                pools.equal_level = sign * level
        pools.previous = pivot_level


@outlined_kernel
def pool_below(pools, lowest: float, edge: float) -> float:
    """Return the deepest pool P with lowest <= P < edge (float64, own frame), else NaN.

    The deepest, because a stop must lie beyond all the orders that rest there. `pools`: POOLS record. Source: premium
    indicators 2.6.
    """
    found = math.nan
    for i in range(pools.pivots):
        level = pools.pivot[i]
        if lowest <= level < edge and not found < level:
            found = level
    for i in range(pools.equals):
        level = pools.equal[i]
        if lowest <= level < edge and not found < level:
            found = level
    return found
