"""Price Action Concepts: structure, volumetric order blocks, liquidity and gaps, advanced together once per closed bar.

One step serves 3m and 15m, live and batch. The ring buffer of past bars is written first; then structure, liquidity and
gaps process the bar, then the blocks, whose edges are refined two bars after birth by the gaps and pools of that
moment. Last the columns are written: the displayed block nearest to the close on either side, and the block that counts
as hit.

Sources: premium indicators 2, strategy 2.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from bot.config import Pac, Strategy
from bot.core.jit import kernel, outlined_kernel, record
from bot.structure.block_window import BARS
from bot.structure.breaks import STRUCTURE, structure_reset, structure_step
from bot.structure.imbalance import BODY, GAPS, gap_edge, gaps_reset, gaps_step
from bot.structure.liquidity import POOLS, equal_step, grab_step, pool_below, pools_reset
from bot.structure.swings import leg_turn, ring_push, ring_reset, ring_slot
from bot.structure.trend_lines import LINES, lines_reset, lines_step
from bot.structure.volumetric_blocks import (
    ACTIVE,
    BLOCKS,
    TAKER,
    blocks_reset,
    blocks_step,
    hit,
)

REFINE_AFTER = 2  # bars from birth to the refinement of a block's edges
POOL_REACH = 0.25  # maximum distance of a pool below a block to become its edge, ATR 14

STATE = np.dtype(
    [
        ("bars", BARS),
        ("structure_leg", "i8"),
        ("block_leg", "i8"),
        ("equal_leg", "i8"),
        ("line_leg", "i8"),
        ("structure", STRUCTURE),
        ("lines", LINES),
        ("lows", POOLS),
        ("highs", POOLS),
        ("bull_gaps", GAPS),
        ("bear_gaps", GAPS),
        ("blocks", BLOCKS),
    ]
)
PARAMS = np.dtype(
    [
        ("structure_length", "i8"),
        ("order_block_length", "i8"),
        ("break_source", "i8"),
        ("show", "i8"),
        ("block_life", "i8"),
        ("mitigation", "i8"),
        ("average_source", "i8"),
        ("hide_overlap", "i8"),
        ("split", "i8"),
        ("zone_cap_atr200", "f8"),
        ("rank_window", "i8"),
        ("breakers", "i8"),
        ("grab_min_wick_body", "f8"),
        ("grab_cooldown", "i8"),
        ("equal_length", "i8"),
        ("equal_threshold", "f8"),
        ("fvg_threshold", "f8"),
        ("fvg_measure", "i8"),
        ("fvg_mitigation", "i8"),
        ("trend_line_length", "i8"),
        ("ob_hit", "i8"),
        ("tap_window", "i8"),
        ("min_dominance", "f8"),
        ("min_rank", "f8"),
    ]
)

_BLOCK = ("id", "bottom", "top", "mid", "dominance", "dominance_taker", "rank", "share", "touches")
_SEEN = ("entered", "within", "exited")
_LOST = ("broken", "mitigated")
_HIT = ("id", "bottom", "top", "dominance", "rank")
_MORE = ("taker", "taker_threshold", "refined_bottom", "refined_top", "share", "touches", "born", "born_ms")

COLUMNS: tuple[str, ...] = (
    *("pac_trend", "pac_event", "pac_dir", "pac_level", "pac_pivot_index", "pac_break_index"),
    *(f"pac_{side}_{name}" for side in ("demand", "supply") for name in _BLOCK + _SEEN),
    *("pac_eqh", "pac_eql", "pac_grab_bull", "pac_grab_bear", "pac_fvg_bull", "pac_fvg_bear"),
    *("pac_eqh_level", "pac_eql_level", "pac_grab_bull_level", "pac_grab_bear_level"),
    *(f"{side}_ob_{name}" for side in ("long", "short") for name in _HIT + _MORE),
    *("pac_ob_new", "pac_ob_new_bottom", "pac_ob_new_top", "pac_ob_new_volume", "pac_ob_new_buy_share"),
    *("pac_ob_mitigated_n", "pac_ob_hidden_n"),
    *(f"pac_{side}_{name}" for side in ("demand", "supply") for name in _LOST),
    *("pac_fvg_bull_mitigated", "pac_fvg_bear_mitigated", "pac_line_bull", "pac_line_bear"),
)
_AT_DEMAND = COLUMNS.index("pac_demand_id")
_AT_SUPPLY = COLUMNS.index("pac_supply_id")
_AT_LIQUIDITY = COLUMNS.index("pac_eqh")
_AT_LONG = COLUMNS.index("long_ob_id")
_AT_SHORT = COLUMNS.index("short_ob_id")
_AT_NEW = COLUMNS.index("pac_ob_new")
_AT_GAPS = COLUMNS.index("pac_fvg_bull_mitigated")
_HIT_COLUMNS = len(_HIT + _MORE)
_BLOCK_COLUMNS = len(_BLOCK)


def params(pac: Pac, strategy: Strategy) -> Any:
    """Return the settings as a PARAMS record; string settings become the integers that the kernels compare."""
    p = record(PARAMS)
    p.structure_length = pac.structure_length
    p.order_block_length = pac.order_block_length
    p.break_source = ("close", "ohlc4").index(pac.break_source)
    p.show = pac.show
    p.block_life = ("plain", "breaker").index(pac.block_life)
    p.mitigation = ("close", "wick", "average").index(pac.mitigation)
    p.average_source = ("close", "wick").index(pac.average_source)
    p.hide_overlap = ("both", "same", "off").index(pac.hide_overlap)
    p.split = ("candle", "clv", "flux3", "taker").index(pac.split)
    p.zone_cap_atr200 = pac.zone_cap_atr200
    p.rank_window = pac.rank_window
    p.breakers = int(pac.breakers)
    p.grab_min_wick_body = pac.grab_min_wick_body
    p.grab_cooldown = pac.grab_cooldown
    p.equal_length = pac.equal_length
    p.equal_threshold = pac.equal_threshold
    p.fvg_threshold = pac.fvg_threshold
    p.fvg_measure = ("gap", "body").index(pac.fvg_measure)
    p.fvg_mitigation = ("close", "wick", "average", "none").index(pac.fvg_mitigation)
    p.trend_line_length = pac.trend_line_length
    p.ob_hit = ("touch", "entered", "within").index(strategy.ob_hit)
    p.tap_window = strategy.tap_window
    p.min_dominance = strategy.min_dominance
    p.min_rank = strategy.min_rank
    return p


def pac_reset(state, params) -> None:
    """Reset a STATE record to its initial state."""
    bars = state.bars
    ring_reset(bars.pivots)
    bars.open[:] = 0.0
    bars.close[:] = 0.0
    bars.volume[:] = 0.0
    bars.taker[:] = 0.0
    bars.atr200[:] = 0.0
    state.structure_leg = 0
    state.block_leg = 0
    state.equal_leg = 0
    state.line_leg = 0
    structure_reset(state.structure)
    lines_reset(state.lines)
    pools_reset(state.lows)
    pools_reset(state.highs)
    gaps_reset(state.bull_gaps)
    gaps_reset(state.bear_gaps)
    blocks_reset(state.blocks)


@kernel
def bars_push(bars, bar) -> None:
    """Append the bar (BAR record) to the ring buffer (BARS record)."""
    ring_push(bars.pivots, bar.open_ms, bar.high, bar.low)
    slot = ring_slot(bars.pivots, 0)
    bars.open[slot] = bar.open
    bars.close[slot] = bar.close
    bars.volume[slot] = bar.volume
    bars.taker[slot] = bar.taker
    bars.atr200[slot] = bar.atr200


@kernel
def turn(before: int, after: int) -> int:
    """Return +1 when a leg's turn announces a pivot high, -1 a pivot low, 0 when it did not turn.

    `before`, `after`: legs, 0 or 1. Source: premium indicators 2.1.
    """
    if before == after:
        return 0
    return 1 if after == 0 else -1


@kernel
def level_at(bars, pivot: int, length: int) -> float:
    """Return the price of the pivot `length` bars ago (float64); NaN when `pivot` is 0.

    `bars`: BARS record; `pivot`: +1 high, -1 low, 0 none.
    """
    if pivot == 0:
        return math.nan
    slot = ring_slot(bars.pivots, length)
    return bars.pivots.high[slot] if pivot > 0 else bars.pivots.low[slot]


@kernel
def structure_and_pools(state, params, bar) -> int:
    """Advance structure, grabs (both on its pivots) and equal levels (on shorter pivots); return structure's pivot.

    `state`, `params`, `bar`: STATE, PARAMS and BAR records; returns +1, -1 or 0. Source: premium indicators 2.1, 2.3
    and 2.4.
    """
    pivots = state.bars.pivots
    leg = leg_turn(pivots, state.structure_leg, params.structure_length)
    structure_pivot = turn(state.structure_leg, leg)
    pivot = structure_pivot
    state.structure_leg = leg
    level = level_at(state.bars, pivot, params.structure_length)
    structure_step(state.structure, params.break_source, bar, pivot, level, bar.index - params.structure_length)
    body_low = min(bar.open, bar.close)
    body_high = max(bar.open, bar.close)
    grab_step(state.lows, params, bar, 1.0, bar.low, body_low, level if pivot < 0 else math.nan)
    grab_step(state.highs, params, bar, -1.0, -bar.high, -body_high, -level if pivot > 0 else math.nan)
    leg = leg_turn(pivots, state.equal_leg, params.equal_length)
    pivot = turn(state.equal_leg, leg)
    state.equal_leg = leg
    level = level_at(state.bars, pivot, params.equal_length)
    equal_step(state.lows, params, bar, 1.0, bar.close, level if pivot < 0 else math.nan)
    equal_step(state.highs, params, bar, -1.0, -bar.close, -level if pivot > 0 else math.nan)
    return structure_pivot


@kernel
def gaps_both(state, params, bar) -> None:
    """Advance the gaps of both sides; a gap is never born on a filled bar.

    `state`, `params`, `bar`: STATE, PARAMS and BAR records; with a NaN high, low or ATR no gap is born. Source: premium
    indicators 2.5.
    """
    high, low = math.nan, math.nan
    if state.bars.pivots.bars > 2:
        slot = ring_slot(state.bars.pivots, 2)
        high = state.bars.pivots.high[slot]
        low = state.bars.pivots.low[slot]
    open_, close = bar.previous_open, bar.previous_close
    smallest, wide = 0.0, True
    if params.fvg_threshold > 0.0:
        if params.fvg_measure == BODY:
            wide = abs(close - open_) > params.fvg_threshold * bar.atr14
        else:
            smallest = params.fvg_threshold * bar.atr200
    # `&`, not `and`: each of these comparisons is unpredictable, all of them together are rare
    wide = wide & (bar.filled == 0)
    bull = wide & (close > high) & (close > open_)
    bear = wide & (close < low) & (close < open_)
    gaps_step(state.bull_gaps, params.fvg_mitigation, smallest, bar.index, high, bar.low, bar.close, bull)
    gaps_step(state.bear_gaps, params.fvg_mitigation, smallest, bar.index, -low, -bar.high, -bar.close, bear)


@kernel
def refine(side, gaps, pools, bar) -> None:
    """Refine the edges of the side's block that is two bars old; after that they are frozen.

    The near edge moves to the newest open gap that begins in the near half, the far edge to a pool just below. Own
    frame; NaN from gaps or pools leaves the edge. Source: premium indicators 2.6.

    Parameters
    ----------
    side
        SIDE record.
    gaps, pools
        GAPS and POOLS records of the side.
    bar
        BAR record.
    """
    if bar.index - side.last_birth > REFINE_AFTER:
        return
    for back in range(side.active):
        slot = side.order[side.active - 1 - back]
        age = bar.index - side.born[slot]
        if age > REFINE_AFTER:
            break
        if age == REFINE_AFTER:
            far, near = side.far[slot], side.near[slot]
            edge = gap_edge(gaps, side.origin[slot], (near + far) / 2.0, near)
            if not math.isnan(edge):
                side.refined_near[slot] = edge
            pool = pool_below(pools, far - POOL_REACH * bar.atr14, far)
            if not math.isnan(pool):
                side.refined_far[slot] = pool


@kernel
def share_of(side, slot: int) -> float:
    """Return the block's volume in per cent of all displayed blocks' volume (float64); NaN when it is not displayed.

    `side`: SIDE record; `slot`: the block's slot. Source: premium indicators 2.2.
    """
    for i in range(side.shown):
        if side.shown_slot[i] == slot:
            return side.shown_share[i]
    return math.nan


@kernel
def write_nearest(params, side, out, at: int) -> None:
    """Write the side's nearest displayed block (NaN if none) and this bar's counts of entered, within and exited.

    Source: premium indicators 2.2.

    Parameters
    ----------
    params, side
        PARAMS and SIDE records.
    out
        Row, float64, shape (len(COLUMNS),).
    at
        First column of the group.
    """
    place = side.nearest
    if place < 0:
        for i in range(_BLOCK_COLUMNS):
            out[at + i] = math.nan
    else:
        slot = side.shown_slot[place]
        far, near = side.sign * side.far[slot], side.sign * side.near[slot]
        out[at] = side.id[slot]
        out[at + 1] = min(far, near)
        out[at + 2] = max(far, near)
        out[at + 3] = (far + near) / 2.0
        out[at + 4] = side.dominance[params.split, slot]
        out[at + 5] = side.dominance[TAKER, slot]
        out[at + 6] = side.rank[slot]
        out[at + 7] = side.shown_share[place]
        out[at + 8] = side.touches[slot]
    out[at + 9] = side.entered
    out[at + 10] = side.within
    out[at + 11] = side.exited


@kernel
def write_hit(params, side, bar, threshold: float, out, at: int) -> None:
    """Write the side's block that counts as hit, or NaN. Source: premium indicators 2.2, strategy 2.

    Parameters
    ----------
    params, side, bar
        PARAMS, SIDE and BAR records.
    threshold
        Taker dominance threshold, per cent.
    out
        Row, float64, shape (len(COLUMNS),).
    at
        First column of the group.
    """
    slot = hit(side, params, bar)
    if slot < 0:
        for i in range(_HIT_COLUMNS):
            out[at + i] = math.nan
        return
    far, near = side.sign * side.far[slot], side.sign * side.near[slot]
    out[at] = side.id[slot]
    out[at + 1] = min(far, near)
    out[at + 2] = max(far, near)
    out[at + 3] = side.dominance[params.split, slot]
    out[at + 4] = side.rank[slot]
    out[at + 5] = side.dominance[TAKER, slot]
    out[at + 6] = threshold
    far, near = side.sign * side.refined_far[slot], side.sign * side.refined_near[slot]
    out[at + 7] = min(far, near)
    out[at + 8] = max(far, near)
    out[at + 9] = share_of(side, slot)
    out[at + 10] = side.touches[slot]
    out[at + 11] = side.born[slot]
    out[at + 12] = side.born_ms[slot]


@kernel
def write_new(blocks, params, out) -> None:
    """Write the block born on this bar (NaN if none) and the numbers of blocks hidden, broken and mitigated.

    `blocks`, `params`: BLOCKS and PARAMS records; `out`: float64, shape (len(COLUMNS),). Source: premium indicators
    2.2.
    """
    at = _AT_NEW
    out[at] = blocks.fresh
    if blocks.fresh == 0:
        for i in range(1, 5):
            out[at + i] = math.nan
    else:
        side = blocks.demand if blocks.fresh > 0 else blocks.supply
        slot = blocks.fresh_slot
        far, near = side.sign * side.far[slot], side.sign * side.near[slot]
        share = side.dominance[params.split, slot] / 100.0
        out[at + 1] = min(far, near)
        out[at + 2] = max(far, near)
        out[at + 3] = side.volume[slot]
        out[at + 4] = share if blocks.fresh > 0 else 1.0 - share
    out[at + 5] = blocks.demand.mitigated + blocks.supply.mitigated
    out[at + 6] = blocks.hidden
    out[at + 7] = blocks.demand.broken
    out[at + 8] = blocks.demand.mitigated
    out[at + 9] = blocks.supply.broken
    out[at + 10] = blocks.supply.mitigated


@kernel
def write_rest(state, out) -> None:
    """Write structure, liquidity, gaps and trend lines into `out` (float64, shape (len(COLUMNS),)); NaN for no level.

    `state`: STATE record. Source: premium indicators 2.1 and 2.3 to 2.5.
    """
    structure, lows, highs = state.structure, state.lows, state.highs
    out[0] = structure.trend
    out[1] = structure.event
    out[2] = structure.direction
    out[3] = structure.level
    out[4] = structure.pivot_index if structure.event > 0 else math.nan
    out[5] = structure.break_index if structure.trend != 0 else math.nan
    at = _AT_LIQUIDITY
    out[at] = highs.equal_fresh
    out[at + 1] = lows.equal_fresh
    out[at + 2] = lows.grab
    out[at + 3] = highs.grab
    out[at + 4] = state.bull_gaps.fresh
    out[at + 5] = state.bear_gaps.fresh
    out[at + 6] = highs.equal_level
    out[at + 7] = lows.equal_level
    out[at + 8] = lows.grab_level
    out[at + 9] = highs.grab_level
    at = _AT_GAPS
    out[at] = state.bull_gaps.mitigated
    out[at + 1] = state.bear_gaps.mitigated
    out[at + 2] = state.lines.falling.broken
    out[at + 3] = state.lines.rising.broken


@outlined_kernel
def trend_lines(state, params, bar, price: float) -> None:
    """Advance the trend lines on pivots of their own length.

    Source: premium indicators 2.7.

    Parameters
    ----------
    state, params, bar
        STATE, PARAMS and BAR records.
    price
        Price that breaks structure, of this bar.
    """
    length = params.trend_line_length
    leg = leg_turn(state.bars.pivots, state.line_leg, length)
    pivot = turn(state.line_leg, leg)
    state.line_leg = leg
    lines_step(state.lines, bar, price, pivot, level_at(state.bars, pivot, length), bar.index - length)


@outlined_kernel
def pac_step(state, params, bar, out) -> None:
    """Advance by one closed bar and write its columns: prices, per cent, counts and flags; NaN where there is no value.

    Source: premium indicators 2.

    Parameters
    ----------
    state : record of STATE
        reset before the first bar
    params : record of PARAMS
    bar : record of BAR
        already advanced to this bar
    out : float64, shape (len(COLUMNS),)
        the row, in the order of COLUMNS
    """
    bars_push(state.bars, bar)
    pivot = structure_and_pools(state, params, bar)
    gaps_both(state, params, bar)
    blocks = state.blocks
    if params.order_block_length != params.structure_length:  # else both use the same pivots
        leg = leg_turn(state.bars.pivots, state.block_leg, params.order_block_length)
        pivot = turn(state.block_leg, leg)
        state.block_leg = leg
    level = level_at(state.bars, pivot, params.order_block_length)
    price = state.structure.price
    blocks_step(blocks, params, bar, state.bars, price, pivot, level)
    if params.trend_line_length > 0:
        trend_lines(state, params, bar, price)
    refine(blocks.demand, state.bull_gaps, state.lows, bar)
    refine(blocks.supply, state.bear_gaps, state.highs, bar)
    write_rest(state, out)
    write_nearest(params, blocks.demand, out, _AT_DEMAND)
    write_nearest(params, blocks.supply, out, _AT_SUPPLY)
    write_hit(params, blocks.demand, bar, blocks.past.threshold, out, _AT_LONG)
    write_hit(params, blocks.supply, bar, blocks.past.threshold, out, _AT_SHORT)
    write_new(blocks, params, out)


class BlockView(NamedTuple):
    """A displayed order block or breaker for charts, dashboard and explanations; shares in per cent."""

    id: int
    side: int  # +1 demand, -1 supply; of a breaker its present side
    bottom: float
    top: float
    mid: float
    volume: float  # base units, over the block's interval; NaN for a breaker, as all fields before `touches`
    dominance: float  # own side's share by the configured split
    dominance_candle: float
    dominance_clv: float
    dominance_flux3: float
    dominance_taker: float
    rank: float
    share: float  # of the volume of all displayed blocks
    touches: int  # entries since birth
    refined_bottom: float
    refined_top: float
    origin_ms: int  # open of the candle that forms the zone; of a breaker, of the bar that broke it
    born_ms: int
    breaker: bool

    @property
    def association(self) -> int:
        """+1 when the own side dominates, -1 when the other does, 0 when neither or unknown."""
        return (self.dominance > 50.0) - (self.dominance < 50.0)


def displayed_blocks(state: Any, params: Any) -> tuple[BlockView, ...]:
    """Return the displayed blocks of a state, newest first, demand before supply, then the breakers."""
    views, broken = [], []
    blocks = state.blocks
    for side in (blocks.demand, blocks.supply):
        sign = int(side.sign)
        for i in range(int(side.shown) - 1, -1, -1):
            slot = int(side.shown_slot[i])
            bottom, top = sorted((sign * float(side.far[slot]), sign * float(side.near[slot])))
            since_ms = int(side.broken_ms[slot])
            if since_ms != ACTIVE:
                broken.append(breaker_view(int(side.id[slot]), -sign, bottom, top, since_ms))
                continue
            refined = sorted((sign * float(side.refined_far[slot]), sign * float(side.refined_near[slot])))
            by_split = [float(side.dominance[split, slot]) for split in range(4)]
            views.append(
                BlockView(
                    id=int(side.id[slot]),
                    side=sign,
                    bottom=bottom,
                    top=top,
                    mid=(bottom + top) / 2.0,
                    volume=float(side.volume[slot]),
                    dominance=by_split[int(params.split)],
                    dominance_candle=by_split[0],
                    dominance_clv=by_split[1],
                    dominance_flux3=by_split[2],
                    dominance_taker=by_split[3],
                    rank=float(side.rank[slot]),
                    share=float(side.shown_share[i]),
                    touches=int(side.touches[slot]),
                    refined_bottom=refined[0],
                    refined_top=refined[1],
                    origin_ms=int(side.origin_ms[slot]),
                    born_ms=int(side.born_ms[slot]),
                    breaker=False,
                )
            )
    for side in (blocks.demand, blocks.supply):
        sign = int(side.sign)
        for i in range(int(side.breakers) - 1, -1, -1):
            bottom, top = sorted((sign * float(side.breaker_far[i]), sign * float(side.breaker_near[i])))
            broken.append(breaker_view(int(side.breaker_id[i]), -sign, bottom, top, int(side.breaker_ms[i])))
    return (*views, *broken)


def breaker_view(number: int, side: int, bottom: float, top: float, since_ms: int) -> BlockView:
    """Return a view of a breaker: only its zone and side matter, its volume fields are NaN.

    Parameters
    ----------
    number
        Id of the block.
    side
        +1 or -1: the side on which it now stands.
    bottom, top
        Edges, price units.
    since_ms
        Open time of the bar that broke it, ms UTC.
    """
    nan = math.nan
    zone = (bottom, top, (bottom + top) / 2.0)
    return BlockView(
        number, side, *zone, nan, nan, nan, nan, nan, nan, nan, nan, 0, bottom, top, since_ms, since_ms, True
    )
