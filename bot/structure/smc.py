"""Smart Money Concepts: the direction of market structure, its breaks, and the ranges from which it broke.

There are two layers of structure, internal (pivots of 5 bars) and swing (50), each with its trend. A close through the
last pivot is a break of structure (BOS) along the trend or a change of character (CHoCH) against it, and leaves an
order block. In addition: equal highs and lows, the trading range with its premium and discount zones, and fair value
gaps.

`smc_step` processes one closed bar in the order of open indicators 1.2, which matters. On a filled bar the state
advances, but the event columns stay silent.
"""

import math

import numpy as np

from bot.config import Smc
from bot.core.jit import kernel, outlined_kernel, record
from bot.structure.order_blocks import DISPLAYED, blocks_mitigate, blocks_slot
from bot.structure.smc_gaps import GAPS, gaps_create, gaps_reset
from bot.structure.smc_layers import LAYER, layer_extend, layer_mitigate, layer_pivots, layer_reset, layer_test
from bot.structure.swings import RING, leg_turn, ring_push, ring_reset, ring_slot
from bot.structure.zones import (
    ZONES,
    discount_top,
    equilibrium,
    premium_bottom,
    zones_extend,
    zones_pivot,
    zones_reset,
)

TOLERANCE = 1e-10  # TradingView's tolerance between computed numbers; prices are on ticks and compare exactly

PARAMS = np.dtype(
    [
        ("internal_length", "i8"),
        ("swing_length", "i8"),
        ("equal_length", "i8"),
        ("equal_threshold", "f8"),
        ("close_mitigation", "i8"),
        ("range_filter", "i8"),
        ("confluence_filter", "i8"),
        ("fvg_auto", "i8"),
    ]
)
STATE = np.dtype(
    [
        ("bars", RING),
        ("parsed", RING),  # high and low swapped on bars of high volatility
        ("cumulated_range", "f8"),
        ("internal", LAYER),
        ("swing", LAYER),
        ("equal_leg", "i8"),
        ("equal_high", "f8"),
        ("equal_low", "f8"),
        ("zones", ZONES),
        ("gaps", GAPS),
    ]
)

_LAYERS = ("int", "sw")
_SIDES = ("bull", "bear")
COLUMNS: tuple[str, ...] = (
    *("smc_internal_trend", "smc_swing_trend"),
    *(f"smc_{layer}_{side}_{event}" for layer in _LAYERS for side in _SIDES for event in ("bos", "choch")),
    *("smc_eqh", "smc_eql"),
    *(f"smc_{lay}_{side}_ob_new_{edge}" for lay in _LAYERS for side in _SIDES for edge in ("top", "bottom", "time")),
    *(f"smc_{layer}_{side}_ob_mitigated_n" for layer in _LAYERS for side in _SIDES),
    *("smc_fvg_bull_new_top", "smc_fvg_bull_new_bottom", "smc_fvg_bear_new_top", "smc_fvg_bear_new_bottom"),
    *("smc_fvg_bull_removed_n", "smc_fvg_bear_removed_n"),
    *("smc_int_ob_count", "smc_sw_ob_count"),
    *(f"smc_int_ob{i}_{field}" for i in range(DISPLAYED) for field in ("top", "bottom", "time", "bias")),
    *("smc_trailing_top", "smc_trailing_bottom", "smc_premium_bottom", "smc_eq_level", "smc_discount_top"),
    *("smc_ih_level", "smc_il_level", "smc_sh_level", "smc_sl_level"),
    *("smc_atr200", "smc_strong_high", "smc_strong_low"),
)
# First columns of the groups, for the step.
_BREAKS = COLUMNS.index("smc_int_bull_bos")
_EQUAL = COLUMNS.index("smc_eqh")
_NEW = COLUMNS.index("smc_int_bull_ob_new_top")
_MITIGATED = COLUMNS.index("smc_int_bull_ob_mitigated_n")
_GAP_NEW = COLUMNS.index("smc_fvg_bull_new_top")
_GAP_REMOVED = COLUMNS.index("smc_fvg_bull_removed_n")
_COUNT = COLUMNS.index("smc_int_ob_count")
_SHOWN = COLUMNS.index("smc_int_ob0_top")
_ZONES = COLUMNS.index("smc_trailing_top")
_LEVELS = COLUMNS.index("smc_ih_level")
_REST = COLUMNS.index("smc_atr200")


def params(smc: Smc) -> np.record:
    """Return the settings as a PARAMS record for the kernels."""
    out: np.record = record(PARAMS)
    out.internal_length = smc.internal_length
    out.swing_length = smc.swing_length
    out.equal_length = smc.equal_length
    out.equal_threshold = smc.equal_threshold
    out.close_mitigation = smc.order_block_mitigation == "close"
    out.range_filter = smc.order_block_filter == "range"
    out.confluence_filter = smc.confluence_filter
    out.fvg_auto = smc.fvg_auto_threshold
    return out


def smc_reset(state, params) -> None:
    """Reset a STATE record to its state before the first bar."""
    ring_reset(state.bars)
    ring_reset(state.parsed)
    state.cumulated_range = 0.0
    layer_reset(state.internal)
    layer_reset(state.swing)
    state.equal_leg = 0
    state.equal_high = math.nan
    state.equal_low = math.nan
    zones_reset(state.zones)
    gaps_reset(state.gaps)


@kernel
def push_parsed(state, params, bar) -> None:
    """Append the bar to both ring buffers; on a bar of high volatility the parsed high and low are swapped.

    `state`, `params`, `bar`: STATE, PARAMS and BAR records; while the volatility is NaN nothing is swapped. Source:
    open indicators 1.3.
    """
    index = state.bars.bars
    ring_push(state.bars, bar.open_ms, bar.high, bar.low)
    volatility = bar.atr200
    if params.range_filter:
        if index > 0:  # the true range of bar 0 does not count
            state.cumulated_range += bar.tr
        volatility = state.cumulated_range / index if index > 0 else math.nan
    if bar.high - bar.low - 2.0 * volatility >= -TOLERANCE:
        ring_push(state.parsed, bar.open_ms, bar.low, bar.high)
    else:
        ring_push(state.parsed, bar.open_ms, bar.high, bar.low)


@kernel
def confluence(open_: float, high: float, low: float, close: float, side: int) -> bool:
    """Return whether the wick allows an internal break: the upper wick against min(C, O-L), a price and a distance.

    The mixed units are a quirk of the original; in practice the minimum is the distance O-L. Source: open indicators
    1.6.

    Parameters
    ----------
    open_, high, low, close
        Prices of the bar, float64, no NaN.
    side
        +1 a break up, -1 a break down.

    >>> confluence(100.0, 103.0, 99.5, 102.0, 1), confluence(100.0, 102.0, 98.0, 101.0, 1)
    (True, False)
    """
    wick = high - max(close, open_)
    other = min(close, open_ - low)
    return wick - other > TOLERANCE if side > 0 else other - wick > TOLERANCE


@kernel
def structure(state, params, bar, out) -> None:
    """Test internal structure, then swing structure; NaN levels do not break. Source: open indicators 1.6.

    Parameters
    ----------
    state, params, bar
        STATE, PARAMS and BAR records.
    out
        Row, float64, shape (len(COLUMNS),).
    """
    internal = state.internal
    swing = state.swing
    # An internal level equal to the swing level belongs to the swing layer; without a swing level nothing may break.
    bull = internal.high.level < swing.high.level or internal.high.level > swing.high.level
    bear = internal.low.level < swing.low.level or internal.low.level > swing.low.level
    if params.confluence_filter:
        bull = bull and confluence(bar.open, bar.high, bar.low, bar.close, 1)
        bear = bear and confluence(bar.open, bar.high, bar.low, bar.close, -1)
    layer_test(internal, bar, bull, bear, out, _BREAKS, _NEW)
    layer_test(swing, bar, True, True, out, _BREAKS + 4, _NEW + 6)


@kernel
def equal_levels(state, params, atr200: float, out) -> None:
    """Compare a new pivot of the equal detector with the previous one on its side; with NaN nothing is equal.

    Source: open indicators 1.5.

    Parameters
    ----------
    state, params
        STATE and PARAMS records.
    atr200
        ATR 200 of this bar, price units.
    out
        Row, float64, shape (len(COLUMNS),).
    """
    size = params.equal_length
    leg = leg_turn(state.bars, state.equal_leg, size)
    if leg == state.equal_leg:
        return
    state.equal_leg = leg
    slot = ring_slot(state.bars, size)
    allowed = params.equal_threshold * atr200
    if leg == 0:
        level = state.bars.high[slot]
        if allowed - abs(state.equal_high - level) > TOLERANCE:
            out[_EQUAL] = 1.0
        state.equal_high = level
    else:
        level = state.bars.low[slot]
        if allowed - abs(state.equal_low - level) > TOLERANCE:
            out[_EQUAL + 1] = 1.0
        state.equal_low = level


@kernel
def quiet(out) -> None:
    """Write "no event" (0 or NaN) into all event columns of `out` (float64, shape (len(COLUMNS),))."""
    for i in range(_BREAKS, _NEW):
        out[i] = 0.0
    for i in range(_NEW, _MITIGATED):
        out[i] = math.nan
    for i in range(_MITIGATED, _GAP_NEW):
        out[i] = 0.0
    for i in range(_GAP_NEW, _GAP_REMOVED):
        out[i] = math.nan
    for i in range(_GAP_REMOVED, _COUNT):
        out[i] = 0.0


@kernel
def write_drawn(state, out) -> None:
    """Write what the original draws before the bar's pivots: zones (price units, NaN without a range), strong and weak ends.

    `state`: STATE record; `out`: float64, shape (len(COLUMNS),). Source: open indicators 1.9.
    """
    top = state.zones.top
    bottom = state.zones.bottom
    out[_ZONES + 2] = premium_bottom(top, bottom)
    out[_ZONES + 3] = equilibrium(top, bottom)
    out[_ZONES + 4] = discount_top(top, bottom)
    out[_REST + 1] = 1.0 if state.swing.bias == -1 else 0.0
    out[_REST + 2] = 1.0 if state.swing.bias == 1 else 0.0


@kernel
def write_blocks(state, out) -> None:
    """Write the numbers of removed and remaining order blocks, and the displayed ones of the internal layer, newest first.

    `state`: STATE record; `out`: float64, shape (len(COLUMNS),), NaN where there is no block. Source: open indicators
    1.7 and 1.8.
    """
    blocks = state.swing.blocks
    out[_MITIGATED + 2] = blocks.bull_removed
    out[_MITIGATED + 3] = blocks.bear_removed
    out[_COUNT + 1] = blocks.held
    blocks = state.internal.blocks
    out[_MITIGATED] = blocks.bull_removed
    out[_MITIGATED + 1] = blocks.bear_removed
    out[_COUNT] = blocks.held
    for age in range(DISPLAYED):
        column = _SHOWN + 4 * age
        if age < blocks.held:
            slot = blocks_slot(blocks, age)
            out[column] = blocks.top[slot]
            out[column + 1] = blocks.bottom[slot]
            out[column + 2] = blocks.open_ms[slot]
            out[column + 3] = blocks.bias[slot]
        else:
            for i in range(column, column + 4):
                out[i] = math.nan


@kernel
def write_rest(state, bar, out) -> None:
    """Write trends, levels and the trailing extremes (price units, NaN before the first) after the bar is processed.

    `state`, `bar`: STATE and BAR records; `out`: float64, shape (len(COLUMNS),). Source: open indicators 1.6 and 1.9.
    """
    out[0] = state.internal.bias
    out[1] = state.swing.bias
    out[_ZONES] = state.zones.top
    out[_ZONES + 1] = state.zones.bottom
    out[_LEVELS] = state.internal.high.level
    out[_LEVELS + 1] = state.internal.low.level
    out[_LEVELS + 2] = state.swing.high.level
    out[_LEVELS + 3] = state.swing.low.level
    out[_REST] = bar.atr200


@kernel
def gaps_work(state, params, bar, out) -> None:
    """Write the number of gaps removed on this bar, and test for a new one. Source: open indicators 1.10.

    Parameters
    ----------
    state, params, bar
        STATE, PARAMS and BAR records.
    out
        Row, float64, shape (len(COLUMNS),).
    """
    gaps = state.gaps.gaps
    out[_GAP_REMOVED] = gaps.bull_removed
    out[_GAP_REMOVED + 1] = gaps.bear_removed
    side = gaps_create(state.gaps, state.bars, bar.previous_open, bar.previous_close, params.fvg_auto != 0)
    if side != 0:
        slot = blocks_slot(gaps, 0)
        column = _GAP_NEW + (0 if side > 0 else 2)
        out[column] = gaps.top[slot]
        out[column + 1] = gaps.bottom[slot]


@outlined_kernel
def smc_step(state, params, bar, out) -> None:
    """Advance by one closed bar and write all columns: prices, flags, counts and ms UTC; NaN where there is no value.

    Source: open indicators 1.2.

    Parameters
    ----------
    state, params, bar
        STATE, PARAMS and BAR records.
    out
        Row, float64, shape (len(COLUMNS),).
    """
    quiet(out)
    push_parsed(state, params, bar)
    zones_extend(state.zones, bar.open_ms, bar.high, bar.low)
    write_drawn(state, out)
    blocks_mitigate(state.gaps.gaps, bar.high, bar.low)

    size = params.swing_length
    side = layer_pivots(state.swing, state.bars, state.parsed, size)
    if side != 0:
        level = state.swing.high.level if side > 0 else state.swing.low.level
        zones_pivot(state.zones, side, state.bars.open_ms[ring_slot(state.bars, size)], level)
    layer_pivots(state.internal, state.bars, state.parsed, params.internal_length)
    equal_levels(state, params, bar.atr200, out)

    structure(state, params, bar, out)
    by_close = params.close_mitigation != 0
    layer_mitigate(state.internal, bar, by_close)
    layer_mitigate(state.swing, bar, by_close)
    slot = ring_slot(state.parsed, 0)
    layer_extend(state.internal, bar.open_ms, state.parsed.high[slot], state.parsed.low[slot])
    layer_extend(state.swing, bar.open_ms, state.parsed.high[slot], state.parsed.low[slot])
    gaps_work(state, params, bar, out)

    write_blocks(state, out)
    write_rest(state, bar, out)
    if bar.filled != 0:
        quiet(out)
