"""Volumetric order blocks: the candle from which a break of a pivot started, with the volume traded since.

A demand block is born when a close goes above the last pivot high: it is the candle with the lowest low between that
pivot and the break (both excluded), from its low to its high. Its interval runs from that candle to the break, and the
volume of the interval is split into buying and selling. *Dominance* is the share on the block's own side (buying in a
demand block, selling in a supply block) in per cent, by four readings of a bar: `candle` (a rising candle is all
buying), `clv` (by the close's location in the range), `flux3` (the first candle against the next two) and `taker` (true
taker volume). The newest `show` of a side are displayed, and only those can be touched.

A block's life has two models. *Plain*: a block ends when price closes (wicks, goes half-way) through it, or when a
younger one overlaps it. *Breaker*: going through it breaks the block, which keeps its id and its place as a breaker; it
ends with a close beyond its other edge. A broken block is no longer touched, but like an active one it counts as
`within` when the bar closes inside it. The alerts of the real indicator behave in this way: what they report as the end
of a bullish block lies above the price, and a rise ends it.

Both sides use one formula in the side's own frame (prices times +1 for demand, -1 for supply): a block reaches from
`far`, through which it ends, up to `near`, where price meets it first. Negation is exact: mirrored markets give
mirrored blocks.

Choices where the documents are silent: a block born when all `CAPACITY` places of its side are taken drops the side's
oldest; `inside` on the previous bar means that bar's range overlapped the block after its birth; a filled bar neither
mitigates nor touches, since nobody traded in it.

Source: the public documentation of the indicator; premium indicators 2.2, strategy 2 (what counts as hit); for the
breaker model real alerts (`tests/test_pac_truth.py`).
"""

import math

import numpy as np

from bot.core.jit import kernel, outlined_kernel
from bot.structure.block_history import PAST, past_push, past_reset, volume_rank
from bot.structure.block_window import (
    WINDOW,
    own_share,
    window_add,
    window_consider,
    window_rebuild,
    window_reset,
)
from bot.structure.swings import ring_slot

CAPACITY = 60  # active blocks per side
SHOWN = 10  # maximum displayed blocks per side
CLOSE, WICK, AVERAGE = 0, 1, 2
OVERLAP_BOTH, OVERLAP_SAME, OVERLAP_OFF = 0, 1, 2
CANDLE, CLV, FLUX3, TAKER = 0, 1, 2, 3
PLAIN, BREAKER = 0, 1  # a block's life
TOUCH, ENTERED, WITHIN = 0, 1, 2  # what counts as hit
ACTIVE = -1  # in place of the time at which a block was broken
LONG_AGO = -1_000_000

SIDE = np.dtype(
    [
        ("sign", "f8"),  # +1 demand, -1 supply
        ("level", "f8"),  # pivot whose break creates a block, own frame; NaN before the first
        ("crossed", "i8"),
        ("window", WINDOW),
        ("active", "i8"),
        ("order", "i8", CAPACITY),  # a permutation of the slots: active ones by age, oldest first, then the free ones
        ("id", "i8", CAPACITY),
        ("far", "f8", CAPACITY),
        ("near", "f8", CAPACITY),
        ("volume", "f8", CAPACITY),
        ("dominance", "f8", (4, CAPACITY)),  # per cent by CANDLE, CLV, FLUX3, TAKER
        ("rank", "f8", CAPACITY),
        ("born", "i8", CAPACITY),
        ("born_ms", "i8", CAPACITY),
        ("origin", "i8", CAPACITY),
        ("origin_ms", "i8", CAPACITY),
        ("touches", "i8", CAPACITY),
        ("touched", "i8", CAPACITY),  # bar of the last touch, -1 before the first
        ("refined_far", "f8", CAPACITY),
        ("refined_near", "f8", CAPACITY),
        ("broken_ms", "i8", CAPACITY),  # open time of the bar that broke the block; ACTIVE before
        ("trigger", "f8"),  # nearest level whose loss mitigates or breaks a block; -inf without blocks
        ("ceiling", "f8"),  # lowest near edge of the broken blocks: a close above it ends one; inf without
        ("last_birth", "i8"),  # bar of the last birth, far in the past before the first
        ("last_touch", "i8"),  # bar of the last touch of any block, likewise
        ("shown", "i8"),  # displayed blocks, copied contiguously when the list changes: they are read on every bar
        ("shown_slot", "i8", SHOWN),
        ("shown_far", "f8", SHOWN),
        ("shown_near", "f8", SHOWN),
        ("shown_share", "f8", SHOWN),  # of the volume of all displayed blocks, per cent
        ("shown_edge", "f8"),  # highest far edge of the displayed active blocks, -inf without
        ("shown_edge_place", "i8"),  # place of that block; the newest of equals
        ("shown_floor", "f8"),  # lowest far edge of the displayed broken blocks, inf without: a close below is in none
        ("shown_reach", "f8"),  # highest near edge of the active ones: a bar that stays above it touches nothing
        ("nearest", "i8"),  # place of the displayed active block beyond the close and nearest to it, or -1
        ("entered", "i8"),  # displayed blocks entered, inside, left on this bar; only active ones are entered and left
        ("within", "i8"),
        ("exited", "i8"),
        ("broken", "i8"),  # blocks that became breakers on this bar, and that ended on it
        ("mitigated", "i8"),
        ("breakers", "i8"),  # mitigated blocks kept for the other side, oldest first
        ("breaker_id", "i8", CAPACITY),
        ("breaker_far", "f8", CAPACITY),
        ("breaker_near", "f8", CAPACITY),
        ("breaker_ms", "i8", CAPACITY),
    ]
)
BLOCKS = np.dtype(
    [
        ("demand", SIDE),
        ("supply", SIDE),
        ("past", PAST),
        ("fresh", "i8"),  # +1 a demand block was born on this bar, -1 supply, 0 none
        ("fresh_slot", "i8"),
        ("hidden", "i8"),  # blocks replaced by younger ones on this bar
    ]
)


# ---- start ----------------------------------------------------------------------------------------------------------


def side_reset(side, sign: float) -> None:
    """Reset a SIDE record to its initial state; `sign` is +1 for demand, -1 for supply."""
    side.sign = sign
    side.level = math.nan
    side.crossed = 0
    window_reset(side.window)
    side.active = 0
    side.order[:] = np.arange(CAPACITY)
    side.id[:] = 0
    side.far[:] = 0.0
    side.near[:] = 0.0
    side.volume[:] = 0.0
    side.rank[:] = 0.0
    side.born[:] = 0
    side.born_ms[:] = 0
    side.origin[:] = 0
    side.origin_ms[:] = 0
    side.touches[:] = 0
    side.touched[:] = 0
    side.refined_far[:] = 0.0
    side.refined_near[:] = 0.0
    side.breaker_id[:] = 0
    side.breaker_far[:] = 0.0
    side.breaker_near[:] = 0.0
    side.breaker_ms[:] = 0
    side.dominance[:] = 0.0
    side.broken_ms[:] = 0
    side.trigger = -math.inf
    side.ceiling = math.inf
    side.last_birth = LONG_AGO
    side.last_touch = LONG_AGO
    side.shown = 0
    side.shown_slot[:] = 0
    side.shown_far[:] = 0.0
    side.shown_near[:] = 0.0
    side.shown_share[:] = 0.0
    side.shown_edge = -math.inf
    side.shown_edge_place = -1
    side.shown_floor = math.inf
    side.shown_reach = -math.inf
    side.nearest = -1
    side.entered = 0
    side.within = 0
    side.exited = 0
    side.broken = 0
    side.mitigated = 0
    side.breakers = 0


def blocks_reset(blocks) -> None:
    """Reset a BLOCKS record to its initial state."""
    side_reset(blocks.demand, 1.0)
    side_reset(blocks.supply, -1.0)
    past_reset(blocks.past)
    blocks.fresh = 0
    blocks.fresh_slot = 0
    blocks.hidden = 0


# ---- the list of a side ---------------------------------------------------------------------------------------------


@kernel
def block_limit(side, slot: int, mitigation: int) -> float:
    """Return the level whose loss mitigates a block: its far edge, or its middle (float64, own frame).

    `side`: SIDE record; `mitigation`: CLOSE, WICK or AVERAGE. Source: premium indicators 2.2.
    """
    if mitigation == AVERAGE:
        return (side.near[slot] + side.far[slot]) / 2.0
    return side.far[slot]


@outlined_kernel
def trigger_renew(side, mitigation: int) -> None:
    """Recompute the nearest limits after blocks were removed or changed (SIDE record; infinite without blocks)."""
    side.trigger = -math.inf
    side.ceiling = math.inf
    for i in range(side.active):
        slot = side.order[i]
        if side.broken_ms[slot] == ACTIVE:
            side.trigger = max(side.trigger, block_limit(side, slot, mitigation))
        else:
            side.ceiling = min(side.ceiling, side.near[slot])


@outlined_kernel
def breaker_add(side, slot: int, born_ms: int) -> None:
    """Keep a mitigated block as a breaker; when all places are taken the oldest is dropped.

    `side`: SIDE record; `slot`: the block's slot; `born_ms`: open time of the bar that broke it, ms UTC. Source:
    premium indicators 2.2.
    """
    if side.breakers == CAPACITY:
        for i in range(CAPACITY - 1):
            breaker_move(side, i + 1, i)
        side.breakers -= 1
    last = side.breakers
    side.breaker_id[last] = side.id[slot]
    side.breaker_far[last] = side.far[slot]
    side.breaker_near[last] = side.near[slot]
    side.breaker_ms[last] = born_ms
    side.breakers += 1


@kernel
def breaker_move(side, source: int, target: int) -> None:
    """Copy a breaker from place `source` to `target` of a SIDE record."""
    side.breaker_id[target] = side.breaker_id[source]
    side.breaker_far[target] = side.breaker_far[source]
    side.breaker_near[target] = side.breaker_near[source]
    side.breaker_ms[target] = side.breaker_ms[source]


@outlined_kernel
def breakers_step(side, close: float) -> None:
    """Remove the breakers that a close (float64, own frame) went back through. Source: premium indicators 2.2."""
    kept = 0
    for i in range(side.breakers):
        if not close > side.breaker_near[i]:
            breaker_move(side, i, kept)
            kept += 1
    side.breakers = kept


@outlined_kernel
def break_or_end(side, params, bar, probe: float, close: float) -> None:
    """Turn active blocks that this bar went through into breakers, and remove breakers that it closed back above.

    A touch before the break is discarded: no order rests at a block that gave way. Source: premium indicators 2.2.

    Parameters
    ----------
    side, params, bar
        SIDE, PARAMS and BAR records.
    probe
        Price that breaks a block (low or close), own frame.
    close
        Close of the bar, own frame.
    """
    kept = 0
    for i in range(side.active):
        slot = side.order[i]
        if side.broken_ms[slot] == ACTIVE:
            if probe < block_limit(side, slot, params.mitigation):
                side.broken_ms[slot] = bar.open_ms
                side.touched[slot] = -1
                side.broken += 1
        elif close > side.near[slot]:
            side.mitigated += 1
            continue
        side.order[i] = side.order[kept]
        side.order[kept] = slot
        kept += 1
    side.active = kept
    trigger_renew(side, params.mitigation)


@kernel
def mitigate(side, params, bar, low: float, close: float) -> None:
    """Remove or break the side's blocks that this bar went through, by the model of their life.

    Source: premium indicators 2.2.

    Parameters
    ----------
    side, params, bar
        SIDE, PARAMS and BAR records.
    low, close
        Of the bar, own frame.
    """
    if side.breakers > 0:
        breakers_step(side, close)
    probe = low
    if params.mitigation == CLOSE or (params.mitigation == AVERAGE and params.average_source == CLOSE):
        probe = close
    if not (probe < side.trigger or close > side.ceiling):
        return
    if params.block_life == BREAKER:
        break_or_end(side, params, bar, probe, close)
        return
    kept = 0
    for i in range(side.active):
        slot = side.order[i]
        if probe < block_limit(side, slot, params.mitigation):
            if params.breakers == 1:
                breaker_add(side, slot, bar.open_ms)
        else:
            side.order[i] = side.order[kept]
            side.order[kept] = slot
            kept += 1
    side.mitigated = side.active - kept
    side.broken = side.mitigated * params.breakers
    side.active = kept
    trigger_renew(side, params.mitigation)


@outlined_kernel
def hide(side, mitigation: int, far: float, near: float) -> int:
    """Remove the side's blocks that overlap a new one; return how many. Source: premium indicators 2.2.

    Parameters
    ----------
    side
        SIDE record.
    mitigation
        CLOSE, WICK or AVERAGE.
    far, near
        Edges of the new block, in this side's frame.
    """
    kept = 0
    for i in range(side.active):
        slot = side.order[i]
        if not (side.far[slot] < near and side.near[slot] > far):
            side.order[i] = side.order[kept]
            side.order[kept] = slot
            kept += 1
    gone = side.active - kept
    if gone > 0:
        side.active = kept
        trigger_renew(side, mitigation)
    return gone


@outlined_kernel
def place(side) -> int:
    """Return the slot for a new block and count it as active; when all places are taken the oldest block is dropped.

    `side`: SIDE record.
    """
    if side.active == CAPACITY:
        oldest = side.order[0]
        for i in range(CAPACITY - 1):
            side.order[i] = side.order[i + 1]
        side.order[CAPACITY - 1] = oldest
        side.active -= 1
    slot = side.order[side.active]
    side.active += 1
    return slot


# ---- birth ----------------------------------------------------------------------------------------------------------


@outlined_kernel
def fill(side, slot: int, params, bar, near: float) -> None:
    """Write a new block from the side's window into its slot: prices in own frame, volume in base asset, shares in per cent.

    Source: premium indicators 2.2.

    Parameters
    ----------
    side
        SIDE record.
    slot
        The block's slot.
    params, bar
        PARAMS and BAR records.
    near
        Its near edge, own frame, after the height cap.
    """
    window = side.window
    side.far[slot] = window.far
    side.near[slot] = near
    side.volume[slot] = window.volume
    side.dominance[CANDLE, slot] = own_share(window.candle, window.volume)
    side.dominance[CLV, slot] = own_share(window.clv, window.volume)
    side.dominance[FLUX3, slot] = own_share(window.tail, window.head + window.tail)
    side.dominance[TAKER, slot] = own_share(window.taker, window.volume)
    side.born[slot] = bar.index
    side.born_ms[slot] = bar.open_ms
    side.origin[slot] = window.origin
    side.origin_ms[slot] = window.origin_ms
    side.touches[slot] = 0
    side.touched[slot] = -1
    side.broken_ms[slot] = ACTIVE
    side.refined_far[slot] = window.far
    side.refined_near[slot] = near
    side.trigger = max(side.trigger, block_limit(side, slot, params.mitigation))


@outlined_kernel
def create(blocks, side, other, params, bar) -> None:
    """Turn the side's window into a block, unless it has no height, and hide what it overlaps.

    Without ATR 200 (NaN) the height is not capped. Source: premium indicators 2.2.

    Parameters
    ----------
    blocks, side, other
        BLOCKS record, SIDE records of the block's side and of the opposite one.
    params, bar
        PARAMS and BAR records.
    """
    window = side.window
    near = window.near
    if params.zone_cap_atr200 > 0.0 and not math.isnan(window.atr200):
        near = min(near, window.far + params.zone_cap_atr200 * window.atr200)
    if near <= window.far:
        return
    if params.hide_overlap != OVERLAP_OFF:
        blocks.hidden += hide(side, params.mitigation, window.far, near)
    if params.hide_overlap == OVERLAP_BOTH:
        blocks.hidden += hide(other, params.mitigation, -near, -window.far)
    slot = place(side)
    fill(side, slot, params, bar, near)
    past = blocks.past
    side.rank[slot] = volume_rank(past, window.volume, params.rank_window)
    past_push(past, window.volume, side.dominance[CANDLE, slot], side.dominance[TAKER, slot], params.min_dominance)
    side.id[slot] = past.created
    side.last_birth = bar.index
    blocks.fresh = 1 if side.sign > 0.0 else -1
    blocks.fresh_slot = slot


@kernel
def side_step(blocks, side, other, params, bar, bars, pivot_level: float, price: float) -> None:
    """Take a new pivot of the side, or create a block, or continue tracking the extreme candle.

    On its own confirmation bar a pivot cannot break: no later bar has been beyond it yet. Source: premium indicators
    2.2.

    Parameters
    ----------
    blocks, side, other
        BLOCKS record, SIDE records of this and of the opposite side.
    params, bar, bars
        PARAMS, BAR and BARS records.
    pivot_level
        New pivot of the side, own frame; NaN when none was confirmed.
    price
        Price that breaks pivots, own frame.
    """
    if not math.isnan(pivot_level):
        side.level = pivot_level
        side.crossed = 0
        window_rebuild(side.window, bars, params.order_block_length, bar.index, side.sign)
    elif side.crossed == 0:
        if price > side.level:
            side.crossed = 1
            create(blocks, side, other, params, bar)
        elif side.window.origin >= 0:
            window_consider(side.window, bars, ring_slot(bars.pivots, 0), bar.index, side.sign)


# ---- touches --------------------------------------------------------------------------------------------------------


@outlined_kernel
def show_copy(side, show: int) -> float:
    """Copy the newest `show` active blocks to the displayed ones; return their volume (float64, base asset).

    `side`: SIDE record. Source: premium indicators 2.2.
    """
    first = max(side.active - show, 0)
    side.shown = side.active - first
    side.shown_edge = -math.inf
    side.shown_edge_place = -1
    side.shown_floor = math.inf
    side.shown_reach = -math.inf
    volume = 0.0
    for i in range(side.shown):
        slot = side.order[first + i]
        side.shown_slot[i] = slot
        side.shown_far[i] = side.far[slot]
        side.shown_near[i] = side.near[slot]
        if side.broken_ms[slot] == ACTIVE:
            if side.far[slot] >= side.shown_edge:
                side.shown_edge = side.far[slot]
                side.shown_edge_place = i
            side.shown_reach = max(side.shown_reach, side.near[slot])
        else:
            side.shown_floor = min(side.shown_floor, side.far[slot])
        volume += side.volume[slot]
    return volume


@outlined_kernel
def show_shares(side, total: float) -> None:
    """Set the displayed blocks' shares of the volume `total` of all displayed ones, per cent; 0 when nothing was traded.

    `side`: SIDE record; `total` in base asset. Source: premium indicators 2.2.
    """
    for i in range(side.shown):
        side.shown_share[i] = 100.0 * side.volume[side.shown_slot[i]] / total if total > 0.0 else 0.0


@kernel
def touch(side, params, i: int, bar, now: bool, before: bool, closed: bool) -> None:
    """Record how this bar and the previous one met the i-th displayed block. Source: premium indicators 2.2, strategy 2.

    Parameters
    ----------
    side, params
        SIDE and PARAMS records.
    i
        Place among the displayed blocks.
    bar
        BAR record.
    now, before
        Whether the range of this bar, and of the previous one, overlaps the block.
    closed
        Whether the bar closed inside it.
    """
    slot = side.shown_slot[i]
    age = bar.index - side.born[slot]
    if age < 1 or bar.filled != 0:
        return
    before = before and age > 1
    active = side.broken_ms[slot] == ACTIVE
    entered = active and now and not before
    if entered:
        side.entered += 1
        side.touches[slot] += 1
    elif active and before and not now:
        side.exited += 1
    if closed if params.block_life == BREAKER else now:
        side.within += 1
    if params.ob_hit == TOUCH:
        counts = active and now
    else:
        counts = entered if params.ob_hit == ENTERED else closed
    if counts:
        side.touched[slot] = bar.index
        side.last_touch = bar.index


@kernel
def look(side, params, bar, low: float, high: float, previous_low: float, previous_high: float, close: float) -> None:
    """Update the displayed blocks: which one is nearest, which were entered, stayed in or left.

    Most bars close above all of the side's far edges, touch no block and close in no broken one: then a few comparisons
    suffice. NaN (no previous bar) compares false. Source: premium indicators 2.2.

    Parameters
    ----------
    side, params, bar
        SIDE, PARAMS and BAR records.
    low, high, previous_low, previous_high, close
        Of this bar and the previous one, own frame.
    """
    side.entered = 0
    side.within = 0
    side.exited = 0
    side.nearest = side.shown_edge_place
    untouched = low > side.shown_reach and previous_low > side.shown_reach
    if side.shown_edge < close and untouched and close < side.shown_floor:
        return
    side.nearest = -1
    best = -math.inf
    for i in range(side.shown - 1, -1, -1):
        far = side.shown_far[i]
        near = side.shown_near[i]
        if best < far < close and side.broken_ms[side.shown_slot[i]] == ACTIVE:
            best = far
            side.nearest = i
        now = low <= near and high >= far
        before = previous_low <= near and previous_high >= far
        if now or before:
            touch(side, params, i, bar, now, before, far <= close <= near)


@kernel
def hit(side, params, bar) -> int:
    """Return the slot of the newest eligible block that was hit within the tap window, -1 if none.

    What counts as hit (`touched`) is a setting of the strategy. A block mitigated, broken or hidden since is no longer
    a hit; a broken one is hit only by closes inside it. A block was displayed when it was hit, and at most one is born
    per bar and side: so it cannot lie deeper than `show` plus the window. `side`, `params`, `bar`: SIDE, PARAMS and BAR
    records. Source: premium indicators 2.2, strategy 2.
    """
    if bar.filled != 0 or bar.index - side.last_touch >= params.tap_window:
        return -1
    for back in range(min(side.active, params.show + params.tap_window)):
        slot = side.order[side.active - 1 - back]
        if side.touched[slot] < 0 or bar.index - side.touched[slot] >= params.tap_window:
            continue
        # NaN (no rank yet, no taker volume) compares false.
        if side.dominance[params.split, slot] >= params.min_dominance and side.rank[slot] >= params.min_rank:
            return slot
    return -1


@kernel
def blocks_step(blocks, params, bar, bars, price: float, pivot: int, pivot_level: float) -> None:
    """Advance by one closed bar, already written into the ring buffer.

    The order of work is fixed, because the results depend on it: sums, mitigation, pivots, birth, overlap, touches.
    Source: premium indicators 2.2.

    Parameters
    ----------
    blocks : record of BLOCKS
    params : record of the family's settings
    bar : record of BAR
    bars : record of BARS
        its newest bar is this one
    price : float
        what must be beyond a pivot for the birth of a block; the last traded bar's on a filled bar
    pivot : int
        +1 a pivot high was confirmed on this bar, -1 a pivot low, 0 none
    pivot_level : float
        price of that pivot
    """
    demand, supply = blocks.demand, blocks.supply
    blocks.fresh = 0
    blocks.hidden = 0
    demand.broken = demand.mitigated = supply.broken = supply.mitigated = 0
    now = ring_slot(bars.pivots, 0)
    if demand.crossed == 0 and demand.window.origin >= 0:
        window_add(demand.window, bars, now, 1.0)
    if supply.crossed == 0 and supply.window.origin >= 0:
        window_add(supply.window, bars, now, -1.0)
    if bar.filled == 0:
        mitigate(demand, params, bar, bar.low, bar.close)
        mitigate(supply, params, bar, -bar.high, -bar.close)
    side_step(blocks, demand, supply, params, bar, bars, pivot_level if pivot > 0 else math.nan, price)
    side_step(blocks, supply, demand, params, bar, bars, -pivot_level if pivot < 0 else math.nan, -price)
    if blocks.fresh != 0 or demand.mitigated + supply.mitigated + demand.broken + supply.broken > 0:
        total = show_copy(demand, params.show) + show_copy(supply, params.show)
        show_shares(demand, total)
        show_shares(supply, total)
    look(demand, params, bar, bar.low, bar.high, bar.previous_low, bar.previous_high, bar.close)
    look(supply, params, bar, -bar.high, -bar.low, -bar.previous_high, -bar.previous_low, -bar.close)
