"""One symbol's fused step: the bar context, the five indicator families on both intervals, and the twelve conditions.

A closed base bar (3m) first completes the higher bar (15m) if the clock says so, steps its families, then the families of
the base interval, then the conditions of both sides. Live calls `symbol_step` once per bar, history loops over the
same step in `symbol_run`: there is no other place where a value is computed. Conditions: strategy 2.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from bot.config import Config
from bot.core.jit import inlined, kernel, record
from bot.indicators import oscillator, overlays, supertrend
from bot.indicators.volatility import BAR, bar_step
from bot.structure import pac, smc

SUITE_COLUMNS: tuple[str, ...] = (
    *smc.COLUMNS,
    *supertrend.COLUMNS,
    *pac.COLUMNS,
    *oscillator.COLUMNS,
    *overlays.COLUMNS,
)
CONDITIONS = ("htf", "ob", "hw_cross", "no_overflow", "conf", "trail")
GATES = (
    "discount",
    "money_flow_context",
    "trend_tracer_up",
    "trend_catcher_up",
    "neo_cloud_up",
    "taker_side",
    "taker_confirm",
)
STRATEGY_COLUMNS: tuple[str, ...] = (
    "atr14",
    "htf_smc_trend",
    "htf_pac_trend",
    "range_eq",
    *(f"{side}_{name}" for side in ("long", "short") for name in CONDITIONS),
    "long_signal",
    "short_signal",
    "long_gates",
    "short_gates",
    "long_count",
    "short_count",
    "highest50",
    "lowest50",
    "ready",
)
COLUMNS: tuple[str, ...] = (*SUITE_COLUMNS, *STRATEGY_COLUMNS)

SUITE = np.dtype(
    [
        ("bar", BAR),
        ("smc", smc.STATE),
        ("sta", supertrend.STATE),
        ("pac", pac.STATE),
        ("om", oscillator.STATE),
        ("so", overlays.STATE),
    ]
)
EXTREMES = 64  # capacity of the rings of highs and lows
WINDOW = np.dtype([("bars", "i8"), ("slot", "i8"), ("high", "f8", EXTREMES), ("low", "f8", EXTREMES)])
PARTIAL = np.dtype(
    [
        ("bars", "i8"),
        ("fillers", "i8"),
        ("open_ms", "i8"),
        ("open", "f8"),
        ("high", "f8"),
        ("low", "f8"),
        ("close", "f8"),
        ("volume", "f8"),
        ("taker", "f8"),
    ]
)
SYMBOL = np.dtype(
    [
        ("ltf", SUITE),
        ("htf", SUITE),
        ("partial", PARTIAL),
        ("window", WINDOW),
        ("htf_window", WINDOW),
    ]
)
RULES = np.dtype(
    [
        ("base_ms", "i8"),
        ("htf_ms", "i8"),
        ("htf_source", "i8"),  # 0 both, 1 smc, 2 pac
        ("same_side_overflow", "i8"),
        ("min_rating", "i8"),
        ("require_strong", "i8"),
        ("conf_max_age", "i8"),
        ("trail_by_price", "i8"),
        ("gates", "i8"),  # bit set of the gates that are conditions
        ("warm_up", "i8"),
        ("stop_lookback", "i8"),
    ]
)
PARAMS = np.dtype(
    [
        ("smc", smc.PARAMS),
        ("sta", supertrend.PARAMS),
        ("pac", pac.PARAMS),
        ("om", oscillator.PARAMS),
        ("so", overlays.PARAMS),
        ("rules", RULES),
    ]
)

# Where each family writes in a row, and the columns that the conditions read.
_SMC = 0
_STA = _SMC + len(smc.COLUMNS)
_PAC = _STA + len(supertrend.COLUMNS)
_OM = _PAC + len(pac.COLUMNS)
_SO = _OM + len(oscillator.COLUMNS)
_END = _SO + len(overlays.COLUMNS)


def _at(name: str) -> int:
    return COLUMNS.index(name)


_SMC_TREND, _PAC_TREND = _at("smc_internal_trend"), _at("pac_trend")
_TOP, _BOTTOM = _at("smc_trailing_top"), _at("smc_trailing_bottom")
_LONG_OB, _SHORT_OB = _at("long_ob_id"), _at("short_ob_id")
_LONG_TAKER, _SHORT_TAKER = _at("long_ob_taker"), _at("short_ob_taker")
_LONG_TAKER_MIN, _SHORT_TAKER_MIN = _at("long_ob_taker_threshold"), _at("short_ob_taker_threshold")
_MF, _UPPER, _LOWER = _at("om_money_flow"), _at("om_upper"), _at("om_lower")
_OVER_UP, _OVER_DOWN, _OM_READY = _at("om_overflow_up"), _at("om_overflow_down"), _at("om_ready")
_RECENT_UP, _RECENT_DOWN = _at("om_recent_overflow_up"), _at("om_recent_overflow_down")
_HW, _CROSS_UP, _CROSS_DOWN = _at("om_hyperwave"), _at("om_cross_up"), _at("om_cross_down")
_STATE, _RATING, _AGE, _STRONG = _at("so_state"), _at("so_rating"), _at("so_age"), _at("so_strong")
_TRAIL, _TRAIL_DIR = _at("so_trail"), _at("so_trail_dir")
_TRACER, _CATCHER, _LEAD, _LAG = _at("so_tracer_dir"), _at("so_catcher_dir"), _at("so_neo_lead"), _at("so_neo_lag")
_ATR14 = _at("atr14")
_HTF_SMC, _HTF_PAC, _RANGE_EQ = _at("htf_smc_trend"), _at("htf_pac_trend"), _at("range_eq")
_FLAGS = _at("long_htf")
_SIGNAL, _GATES, _COUNT = _at("long_signal"), _at("long_gates"), _at("long_count")
_HIGHEST, _LOWEST, _READY = _at("highest50"), _at("lowest50"), _at("ready")
_N_CONDITIONS = len(CONDITIONS)
_RANGE_BARS = 50  # fallback of the 15m range until swing pivots exist


def params(
    config: Config,
    *,
    base_ms: int = 180_000,
    htf_ms: int = 900_000,
    model: Mapping[str, Any] | None = None,
    last_index: int = 0,
) -> Any:
    """Return the parameter record of `config`; intervals in ms, `model` for the learned classifier.

    `last_index` is the number of the last bar of a history, which a finite `supertrend_ai.max_data` counts back from.
    """
    result = record(PARAMS)
    result["smc"] = smc.params(config.smc)
    result["sta"] = supertrend.params(config.supertrend_ai, last_index)
    result["pac"] = pac.params(config.pac, config.strategy)
    result["om"] = oscillator.params(config.oscillator)
    result["so"] = overlays.params(config.overlays, model)
    rules = result.rules
    rules.base_ms = base_ms
    rules.htf_ms = htf_ms
    rules.htf_source = ("both", "smc", "pac").index(config.strategy.htf_source)
    rules.same_side_overflow = config.oscillator.overflow_side == "same_side"
    rules.min_rating = config.strategy.min_rating
    rules.require_strong = config.strategy.require_strong
    rules.conf_max_age = config.strategy.conf_max_age
    rules.trail_by_price = config.strategy.trail_mode == "price"
    rules.gates = sum(1 << i for i, name in enumerate(GATES) if getattr(config.strategy.gates, name))
    rules.warm_up = config.strategy.warm_up_bars
    rules.stop_lookback = config.hedge.stop_lookback
    return result


def htf_rows(count: int) -> np.ndarray:
    """Return room for the higher interval's last row of each symbol.

    It stands beside the record: as a field it would be an array of another type, and every step would be compiled twice.
    """
    return np.zeros((count, len(SUITE_COLUMNS)))


@kernel
def suite_reset(suite, params) -> None:
    """Bring one interval's state back to before its first bar."""
    bar = suite.bar
    bar._bars = 0
    bar._atr10.bars = 0
    bar._atr10.value = 0.0
    bar._atr14.bars = 0
    bar._atr14.value = 0.0
    bar._atr200.bars = 0
    bar._atr200.value = 0.0
    bar._ema200.bars = 0
    smc.smc_reset(suite.smc, params.smc)
    supertrend.sta_reset(suite.sta, params.sta)
    pac.pac_reset(suite.pac, params.pac)
    oscillator.om_reset(suite.om, params.om)
    overlays.so_reset(suite.so, params.so)


@kernel
def suite_step(suite, params, open_ms, open_, high, low, close, volume, taker, filled, row) -> None:
    """Advance one interval's context and families by one closed bar and write `SUITE_COLUMNS` into `row`."""
    bar = suite.bar
    bar_step(bar, open_ms, open_, high, low, close, volume, taker, filled)
    smc.smc_step(suite.smc, params.smc, bar, row[_SMC:_STA])
    supertrend.sta_step(suite.sta, params.sta, bar, row[_STA:_PAC])
    pac.pac_step(suite.pac, params.pac, bar, row[_PAC:_OM])
    oscillator.om_step(suite.om, params.om, bar, row[_OM:_SO])
    overlays.so_step(suite.so, params.so, bar, row[_SO:_END])


@kernel
def _window_step(window, high, low, length) -> None:
    slot = window.slot
    window.high[slot] = high
    window.low[slot] = low
    window.slot = slot + 1 if slot + 1 < length else 0
    window.bars += 1


@kernel
def _window_high(window, length) -> float:
    highest = -math.inf
    for i in range(length):
        if window.high[i] > highest:
            highest = window.high[i]
    return highest


@kernel
def _window_low(window, length) -> float:
    lowest = math.inf
    for i in range(length):
        if window.low[i] < lowest:
            lowest = window.low[i]
    return lowest


@inlined
def symbol_reset(symbol, params, htf_row) -> None:
    """Bring a symbol's state, both intervals, and the higher interval's last row back to before the first bar."""
    suite_reset(symbol.ltf, params)
    suite_reset(symbol.htf, params)
    symbol.partial.bars = 0
    symbol.window.bars = 0
    symbol.window.slot = 0
    symbol.htf_window.bars = 0
    symbol.htf_window.slot = 0
    for i in range(_END):
        htf_row[i] = 0.0
    htf_row[_TOP] = math.nan
    htf_row[_BOTTOM] = math.nan


@inlined
def _higher_step(symbol, params, htf_row, open_ms, open_, high, low, close, volume, taker, filled) -> None:
    """Add a base bar to the higher bar; step the higher families when the clock completes it with all its parts."""
    rules = params.rules
    part = symbol.partial
    if open_ms % rules.htf_ms == 0:
        part.bars = 1
        part.fillers = filled
        part.open_ms = open_ms
        part.open = open_
        part.high = high
        part.low = low
        part.volume = volume
        part.taker = taker
    elif part.bars > 0 and open_ms == part.open_ms + part.bars * rules.base_ms:
        part.bars += 1
        part.fillers += filled
        part.high = max(part.high, high)
        part.low = min(part.low, low)
        part.volume += volume
        part.taker += taker
    else:
        part.bars = 0  # began in the middle: this higher bar is missing
        return
    part.close = close
    if (open_ms + rules.base_ms) % rules.htf_ms != 0:
        return
    flat = 1 if part.fillers == part.bars else 0
    part.bars = 0
    suite_step(
        symbol.htf,
        params,
        part.open_ms,
        part.open,
        part.high,
        part.low,
        part.close,
        part.volume,
        part.taker,
        flat,
        htf_row,
    )
    _window_step(symbol.htf_window, part.high, part.low, _RANGE_BARS)


@kernel
def _range_middle(symbol, htf_row) -> float:
    """Return the middle of the higher interval's range: trailing extremes, or 50 bars until swing pivots exist."""
    top = htf_row[_TOP]
    bottom = htf_row[_BOTTOM]
    if math.isnan(top) or math.isnan(bottom):
        if symbol.htf_window.bars < _RANGE_BARS:
            return math.nan
        top = _window_high(symbol.htf_window, _RANGE_BARS)
        bottom = _window_low(symbol.htf_window, _RANGE_BARS)
    if top == bottom:
        return math.nan
    return 0.5 * (top + bottom)


@kernel
def _side(
    symbol, rules, row, htf_row, sign, ob, taker, taker_min, cross, over, over_other, recent_other, offset
) -> None:
    """Write one side's six flags, gates, count and signal; `sign` is +1 for long, -1 for short."""
    close = symbol.ltf.bar.close
    smc_agrees = htf_row[_SMC_TREND] == sign
    pac_agrees = htf_row[_PAC_TREND] == sign
    if rules.htf_source == 0:
        htf = smc_agrees and pac_agrees
    elif rules.htf_source == 1:
        htf = smc_agrees
    else:
        htf = pac_agrees
    hit = not math.isnan(row[ob])
    hw_cross = row[cross] == 1.0 and sign * (50.0 - row[_HW]) > 0.0
    overflow = row[over] == 1.0 or (rules.same_side_overflow == 0 and row[over_other] == 1.0)
    no_overflow = row[_OM_READY] == 1.0 and not overflow
    conf = row[_STATE] == sign and row[_RATING] >= rules.min_rating
    if rules.require_strong == 1 and row[_STRONG] != 1.0:
        conf = False
    if rules.conf_max_age > 0 and not row[_AGE] <= rules.conf_max_age:
        conf = False
    beyond = sign * (close - row[_TRAIL]) > 0.0
    trail = beyond and (rules.trail_by_price == 1 or row[_TRAIL_DIR] == sign)

    strong_flow = row[_MF] > row[_UPPER] if sign > 0 else row[_MF] < row[_LOWER]
    gates = 0
    if sign * (row[_RANGE_EQ] - close) > 0.0:
        gates |= 1
    if strong_flow or row[recent_other] == 1.0:
        gates |= 2
    if row[_TRACER] == sign:
        gates |= 4
    if row[_CATCHER] == sign:
        gates |= 8
    if sign * (row[_LEAD] - row[_LAG]) > 0.0:
        gates |= 16
    if row[taker] > 50.0:
        gates |= 32
    if row[taker] >= row[taker_min]:
        gates |= 64

    at = _FLAGS + offset * _N_CONDITIONS
    row[at] = htf
    row[at + 1] = hit
    row[at + 2] = hw_cross
    row[at + 3] = no_overflow
    row[at + 4] = conf
    row[at + 5] = trail
    count = 0
    for i in range(_N_CONDITIONS):
        if row[at + i] == 1.0:
            count += 1
    allowed = gates & rules.gates == rules.gates and row[_READY] == 1.0 and symbol.ltf.bar.filled == 0
    row[_SIGNAL + offset] = count == _N_CONDITIONS and allowed
    row[_GATES + offset] = gates
    row[_COUNT + offset] = count


@inlined
def symbol_step(symbol, params, htf_row, open_ms, open_, high, low, close, volume, taker, filled, row) -> None:
    """Advance a symbol by one closed base bar and write `COLUMNS` into `row` (float64, 1-D)."""
    rules = params.rules
    _higher_step(symbol, params, htf_row, open_ms, open_, high, low, close, volume, taker, filled)
    suite_step(symbol.ltf, params, open_ms, open_, high, low, close, volume, taker, filled, row)
    _window_step(symbol.window, high, low, rules.stop_lookback)
    row[_ATR14] = symbol.ltf.bar.atr14
    row[_HTF_SMC] = htf_row[_SMC_TREND]
    row[_HTF_PAC] = htf_row[_PAC_TREND]
    row[_RANGE_EQ] = _range_middle(symbol, htf_row)
    if symbol.window.bars < rules.stop_lookback:
        row[_HIGHEST] = math.nan
        row[_LOWEST] = math.nan
    else:
        row[_HIGHEST] = _window_high(symbol.window, rules.stop_lookback)
        row[_LOWEST] = _window_low(symbol.window, rules.stop_lookback)
    row[_READY] = symbol.ltf.bar._bars >= rules.warm_up and symbol.htf.bar._bars >= rules.warm_up
    _side(
        symbol,
        rules,
        row,
        htf_row,
        1,
        _LONG_OB,
        _LONG_TAKER,
        _LONG_TAKER_MIN,
        _CROSS_UP,
        _OVER_UP,
        _OVER_DOWN,
        _RECENT_DOWN,
        0,
    )
    _side(
        symbol,
        rules,
        row,
        htf_row,
        -1,
        _SHORT_OB,
        _SHORT_TAKER,
        _SHORT_TAKER_MIN,
        _CROSS_DOWN,
        _OVER_DOWN,
        _OVER_UP,
        _RECENT_UP,
        1,
    )


@kernel
def symbol_run(
    symbols, params, htf_rows, index, open_ms, open_, high, low, close, volume, taker, filled, resets, rows
) -> None:
    """Step symbol `index` through bars: all of history, or the one bar that has just closed.

    `resets[i]` non-zero brings the state back to fresh before bar i, also before the very first; `rows` is (bars, columns).
    Live hands over columns of one bar: a kernel of its own for it would be compiled over everything once more. Arrays of
    records cost 0.6 µs at the door, a single record of this size 15 µs, because its type is looked up anew.
    """
    for i in range(open_ms.shape[0]):
        if resets[i] != 0:
            symbol_reset(symbols[index], params[0], htf_rows[index])
        symbol_step(
            symbols[index],
            params[0],
            htf_rows[index],
            open_ms[i],
            open_[i],
            high[i],
            low[i],
            close[i],
            volume[i],
            taker[i],
            filled[i],
            rows[i],
        )


@kernel
def suite_run(suites, params, open_ms, open_, high, low, close, volume, taker, filled, resets, rows) -> None:
    """Loop `suite_step` over the bars of one interval: the indicator columns alone."""
    for i in range(open_ms.shape[0]):
        if resets[i] != 0:
            suite_reset(suites[0], params[0])
        suite_step(
            suites[0],
            params[0],
            open_ms[i],
            open_[i],
            high[i],
            low[i],
            close[i],
            volume[i],
            taker[i],
            filled[i],
            rows[i],
        )
