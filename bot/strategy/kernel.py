"""One symbol's complete step: the bar context, the five indicator families on both intervals, and the twelve conditions.

A closed base bar (3m) completes the higher bar (15m) according to its open time; the families of both intervals are stepped, then
the conditions of both sides. Live trading steps blocks of one bar, history blocks of hundreds, both through `Stepper.step`: no
value is computed anywhere else. Conditions: strategy 2.
"""

import functools
import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from bot.config import Config
from bot.core.jit import is_cached, kernel, outlined_kernel, record, records, with_attributes
from bot.indicators import oscillator, overlays, supertrend
from bot.indicators.volatility import BAR, bar_reset, bar_step
from bot.strategy import rules
from bot.strategy.rules import (
    block_hit,
    cloud_agrees,
    flow_is_calm,
    flow_supports,
    in_discount,
    is_confirmed,
    may_signal,
    middle_of,
    points_with,
    structure_agrees,
    takers_confirm,
    takers_lead,
    trail_agrees,
    wave_crossed,
)
from bot.structure import pac, smc

SUITE_COLUMNS: tuple[str, ...] = (
    *smc.COLUMNS,
    *supertrend.COLUMNS,
    *pac.COLUMNS,
    *oscillator.COLUMNS,
    *overlays.COLUMNS,
)
STRATEGY_COLUMNS: tuple[str, ...] = (
    "atr14",
    "htf_smc_trend",
    "htf_pac_trend",
    "range_eq",
    *(f"{side}_{name}" for side in ("long", "short") for name in rules.CONDITIONS),
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
        ("smc", smc.STATE),
        ("sta", supertrend.STATE),
        ("pac", pac.STATE),
        ("om", oscillator.STATE),
        ("so", overlays.STATE),
    ]
)
EXTREMES = 64  # capacity of the rings of highs and lows
WINDOW = np.dtype(
    [
        ("bars", "i8"),
        ("slot", "i8"),
        ("highest", "f8"),  # of the bars in the ring
        ("lowest", "f8"),
        ("high", "f8", EXTREMES),
        ("low", "f8", EXTREMES),
    ]
)
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
SYMBOL = np.dtype([("ltf", SUITE), ("htf", SUITE)])  # the families of both intervals
CLOCK = np.dtype(  # all other state of a symbol
    [
        ("ltf", BAR),
        ("htf", BAR),
        ("partial", PARTIAL),
        ("window", WINDOW),
        ("htf_window", WINDOW),
    ]
)
PARAMS = np.dtype(
    [
        ("smc", smc.PARAMS),
        ("sta", supertrend.PARAMS),
        ("pac", pac.PARAMS),
        ("om", oscillator.PARAMS),
        ("so", overlays.PARAMS),
        ("rules", rules.RULES),
    ]
)

# Offset of each family in a row, and the columns that the conditions read.
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
DISCOUNT, MONEY_FLOW_CONTEXT, TREND_TRACER_UP, TREND_CATCHER_UP, NEO_CLOUD_UP, TAKER_SIDE, TAKER_CONFIRM = (
    int(gate) for gate in rules.Gate
)
_HIGHEST, _LOWEST, _READY = _at("highest50"), _at("lowest50"), _at("ready")
_N_CONDITIONS = len(rules.CONDITIONS)
_AT = (  # columns that a side reads: block, taker share and threshold, cross, overflows of both sides, recent other overflow
    (_LONG_OB, _LONG_TAKER, _LONG_TAKER_MIN, _CROSS_UP, _OVER_UP, _OVER_DOWN, _RECENT_DOWN),
    (_SHORT_OB, _SHORT_TAKER, _SHORT_TAKER_MIN, _CROSS_DOWN, _OVER_DOWN, _OVER_UP, _RECENT_UP),
)
BLOCK = 512  # bars stepped together: their rows stay in the L2 cache


def params(
    config: Config,
    *,
    base_ms: int = 180_000,
    htf_ms: int = 900_000,
    model: Mapping[str, Any] | None = None,
    last_index: int = 0,
) -> Any:
    """Return the parameter record of `config`.

    Parameters
    ----------
    base_ms, htf_ms
        Lengths of the base and the higher interval.
    model
        Coefficients of the learned classifier.
    last_index
        Index of the last bar of a history, from which a finite `supertrend_ai.max_data` counts back.
    """
    result = record(PARAMS)
    result["smc"] = smc.params(config.smc)
    result["sta"] = supertrend.params(config.supertrend_ai, last_index)
    result["pac"] = pac.params(config.pac, config.strategy)
    result["om"] = oscillator.params(config.oscillator)
    result["so"] = overlays.params(config.overlays, model)
    rules.set_rules(result.rules, config, base_ms=base_ms, htf_ms=htf_ms)
    return result


# ---- start ----------------------------------------------------------------------------------------------------------


def suite_reset(suite: Any, params: Any) -> None:
    """Reset one interval's families to the state before their first bar."""
    smc.smc_reset(suite.smc, params.smc)
    supertrend.sta_reset(suite.sta, params.sta)
    pac.pac_reset(suite.pac, params.pac)
    oscillator.om_reset(suite.om, params.om)
    overlays.so_reset(suite.so, params.so)


def window_reset(window: Any) -> None:
    """Clear all highs and lows."""
    window.bars = 0
    window.slot = 0
    window.highest = -math.inf
    window.lowest = math.inf


def clock_reset(clock: Any) -> None:
    """Reset the state other than the families to before the first bar."""
    bar_reset(clock.ltf)
    bar_reset(clock.htf)
    clock.partial.bars = 0
    window_reset(clock.window)
    window_reset(clock.htf_window)


@functools.cache
def fresh_suite() -> np.ndarray:
    """Return the families before their first bar, as an array of one to copy; resets read no settings, so one serves all."""
    suite = records(SUITE, 1)
    suite_reset(suite[0], record(PARAMS))
    return suite


@functools.cache
def fresh_clock() -> np.ndarray:
    """Return the state other than the families before the first bar, as an array of one to copy."""
    clock = records(CLOCK, 1)
    clock_reset(clock[0])
    return clock


def fresh_row() -> np.ndarray:
    """Return the higher interval's row before its first bar: no trend, no range."""
    row = np.zeros(_END)
    row[[_TOP, _BOTTOM]] = math.nan
    return row


# ---- one block of bars ----------------------------------------------------------------------------------------------


@outlined_kernel
def suite_block(suites, params, index, bars, count, rows) -> None:
    """Step the families of one interval through `count` bars and write `SUITE_COLUMNS` into the first rows.

    No family reads another, so each processes the entire block before the next one starts: its code and state then stay in the
    L1 cache, which saves a quarter of the time.

    Parameters
    ----------
    suites : array of `SUITE`
    params : array of one `PARAMS`
    index
        Which suite is stepped.
    bars : array of `BAR`, at least (count,)
    count
        Number of bars.
    rows : float64 (at least count, at least SUITE_COLUMNS)
    """
    suite = suites[index]
    given = params[0]
    for i in range(count):
        smc.smc_step(suite.smc, given.smc, bars[i], rows[i, _SMC:_STA])
    for i in range(count):
        supertrend.sta_step(suite.sta, given.sta, bars[i], rows[i, _STA:_PAC])
    for i in range(count):
        pac.pac_step(suite.pac, given.pac, bars[i], rows[i, _PAC:_OM])
    for i in range(count):
        oscillator.om_step(suite.om, given.om, bars[i], rows[i, _OM:_SO])
    for i in range(count):
        overlays.so_step(suite.so, given.so, bars[i], rows[i, _SO:_END])


@kernel
def partial_step(part, given, open_ms, open_, high, low, close, volume, taker, filled) -> bool:
    """Add a base bar to the higher bar and return whether that completes it with all its parts.

    Parameters
    ----------
    part
        Record of `PARTIAL`.
    given
        Record of `rules.RULES`.
    open_ms, open_, high, low, close, volume, taker
        The base bar; volumes in base units.
    filled
        1 for a filler bar, else 0.
    """
    if open_ms % given.htf_ms == 0:
        part.bars = 1
        part.fillers = filled
        part.open_ms = open_ms
        part.open = open_
        part.high = high
        part.low = low
        part.volume = volume
        part.taker = taker
    elif part.bars > 0 and open_ms == part.open_ms + part.bars * given.base_ms:
        part.bars += 1
        part.fillers += filled
        part.high = max(part.high, high)
        part.low = min(part.low, low)
        part.volume += volume
        part.taker += taker
    else:
        part.bars = 0  # started in the middle: this higher bar is missing
        return False
    part.close = close
    return (open_ms + given.base_ms) % given.htf_ms == 0


@outlined_kernel
def bars_block(
    clocks, settings, index, bars, high_bars, done, open_ms, open_, high, low, close, volume, taker, filled
) -> int:
    """Step the bar contexts of both intervals through a block, and return how many higher bars it completed.

    Parameters
    ----------
    clocks : array of `CLOCK`
    settings : array of one `rules.RULES`
    index
        Which clock is stepped.
    bars, high_bars : arrays of `BAR`
        Written: the contexts of both intervals. With an empty `high_bars` only the base interval is stepped.
    done : int64 (bars,)
        Written: number of higher bars complete after each bar.
    open_ms, open_, high, low, close, volume, taker, filled
        Columns of the base bars; volumes in base units, `filled` non-zero on filler bars.
    """
    clock = clocks[index]
    given = settings[0]
    part = clock.partial
    higher = 0
    for i in range(open_ms.shape[0]):
        now = open_ms[i]
        bar_step(clock.ltf, now, open_[i], high[i], low[i], close[i], volume[i], taker[i], filled[i])
        bars[i] = clock.ltf
        if high_bars.shape[0] > 0:
            if partial_step(part, given, now, open_[i], high[i], low[i], close[i], volume[i], taker[i], filled[i]):
                flat = 1 if part.fillers == part.bars else 0
                part.bars = 0
                values = (part.open, part.high, part.low, part.close, part.volume, part.taker)
                bar_step(clock.htf, part.open_ms, *values, flat)
                high_bars[higher] = clock.htf
                higher += 1
            done[i] = higher
    return higher


# ---- conditions -----------------------------------------------------------------------------------------------------


@kernel
def window_step(window, high, low, length) -> None:
    """Update the highest high and lowest low of the last `length` bars; rescan only when the extreme leaves the window.

    Parameters
    ----------
    window
        Record of `WINDOW`.
    high, low
        Of the new bar.
    length
        Bars in the window, at most `EXTREMES`.
    """
    slot = window.slot
    full = window.bars >= length
    gone_high = window.high[slot]
    gone_low = window.low[slot]
    window.high[slot] = high
    window.low[slot] = low
    window.slot = slot + 1 if slot + 1 < length else 0
    window.bars += 1
    if high >= window.highest:
        window.highest = high
    elif full and gone_high == window.highest:
        window.highest = high
        for i in range(length):
            window.highest = max(window.highest, window.high[i])
    if low <= window.lowest:
        window.lowest = low
    elif full and gone_low == window.lowest:
        window.lowest = low
        for i in range(length):
            window.lowest = min(window.lowest, window.low[i])


@kernel
def range_middle(window, htf_row) -> float:
    """Return the middle of the higher interval's range: trailing extremes, or 50 bars until swing pivots exist."""
    top = htf_row[_TOP]
    bottom = htf_row[_BOTTOM]
    if math.isnan(top) or math.isnan(bottom):
        if window.bars < rules.RANGE_BARS:
            return math.nan
        top = window.highest
        bottom = window.lowest
    return middle_of(top, bottom)


@kernel
def side_step(
    given, close, filled, row, sign, ob, taker, taker_min, cross, over, over_other, recent_other, offset
) -> None:
    """Write one side's six flags, gates, count and signal; `sign` is +1 for long, -1 for short.

    Parameters
    ----------
    given
        Record of `rules.RULES`.
    row
        All columns of the bar; the strategy columns before the flags are already set.
    ob, taker, taker_min, cross, over, over_other, recent_other
        Indices of the columns that the side reads (`_AT`).
    offset
        0 for long, 1 for short.
    """
    at = _FLAGS + offset * _N_CONDITIONS
    row[at] = structure_agrees(sign, row[_HTF_SMC], row[_HTF_PAC], given.htf_source)
    row[at + 1] = block_hit(row[ob])
    row[at + 2] = wave_crossed(sign, row[cross], row[_HW])
    row[at + 3] = flow_is_calm(row[_OM_READY], row[over], row[over_other], given.same_side_overflow)
    row[at + 4] = is_confirmed(
        sign,
        row[_STATE],
        row[_RATING],
        row[_AGE],
        row[_STRONG],
        given.min_rating,
        given.conf_max_age,
        given.require_strong,
    )
    row[at + 5] = trail_agrees(sign, close, row[_TRAIL], row[_TRAIL_DIR], given.trail_by_price)

    bits = 0
    if in_discount(sign, close, row[_RANGE_EQ]):
        bits |= 1 << DISCOUNT
    if flow_supports(sign, row[_MF], row[_UPPER], row[_LOWER], row[recent_other]):
        bits |= 1 << MONEY_FLOW_CONTEXT
    if points_with(sign, row[_TRACER]):
        bits |= 1 << TREND_TRACER_UP
    if points_with(sign, row[_CATCHER]):
        bits |= 1 << TREND_CATCHER_UP
    if cloud_agrees(sign, row[_LEAD], row[_LAG]):
        bits |= 1 << NEO_CLOUD_UP
    if takers_lead(row[taker]):
        bits |= 1 << TAKER_SIDE
    if takers_confirm(row[taker], row[taker_min]):
        bits |= 1 << TAKER_CONFIRM

    count = 0
    for i in range(_N_CONDITIONS):
        if row[at + i] == 1.0:
            count += 1
    row[_SIGNAL + offset] = count == _N_CONDITIONS and may_signal(bits, given.gates, row[_READY], filled)
    row[_GATES + offset] = bits
    row[_COUNT + offset] = count


@kernel
def flags_step(given, close, filled, row) -> None:
    """Write flags, gates, counts and signals of both sides; parameters as in `side_step`."""
    for offset in range(2):
        at = _AT[offset]
        sign = 1 - 2 * offset
        side_step(given, close, filled, row, sign, at[0], at[1], at[2], at[3], at[4], at[5], at[6], offset)


@outlined_kernel
def flags_block(settings, close, filled, rows) -> None:
    """Write both sides' flags, gates, counts and signals of rows whose other columns are already set.

    Used to apply other rules to stored indicator values, or the rules to a chart's values.

    Parameters
    ----------
    settings : array of one `rules.RULES`
    close : float64 (bars,)
    filled : int64 (bars,)
        Non-zero on filler bars.
    rows : float64 (bars, COLUMNS)
    """
    for i in range(rows.shape[0]):
        flags_step(settings[0], close[i], filled[i], rows[i])


@outlined_kernel
def conditions_block(clocks, settings, index, bars, high_bars, done, htf_rows, rows) -> None:
    """Write `STRATEGY_COLUMNS` of a block whose families have been stepped on both intervals.

    Parameters
    ----------
    clocks, settings, index, bars, high_bars, done
        As in `bars_block`.
    htf_rows : float64
        Rows of the higher interval; the first is its last row before the block.
    rows : float64 (bars, COLUMNS)
    """
    given = settings[0]
    window = clocks[index].window
    htf_window = clocks[index].htf_window
    higher = 0
    for i in range(rows.shape[0]):
        bar = bars[i]
        row = rows[i]
        if done[i] > higher:
            window_step(htf_window, high_bars[higher].high, high_bars[higher].low, rules.RANGE_BARS)
            higher += 1
        htf_row = htf_rows[higher]
        window_step(window, bar.high, bar.low, given.stop_lookback)
        row[_ATR14] = bar.atr14
        row[_HTF_SMC] = htf_row[_SMC_TREND]
        row[_HTF_PAC] = htf_row[_PAC_TREND]
        row[_RANGE_EQ] = range_middle(htf_window, htf_row)
        full = window.bars >= given.stop_lookback
        row[_HIGHEST] = window.highest if full else math.nan
        row[_LOWEST] = window.lowest if full else math.nan
        row[_READY] = bar.index + 1 >= given.warm_up and htf_window.bars >= given.warm_up
        flags_step(given, bar.close, bar.filled, row)


class Stepper:
    """The states of some symbols and the buffers to step them, through all of history or by the bar that has just closed.

    Python calls three kernels per block, each compiled separately: a single kernel over all would be optimised once more as one
    unit, which takes a third of the time of a first start.

    Parameters
    ----------
    params
        Array of one PARAMS.
    symbols
        How many symbols are stepped.
    block
        Bars per block: 1 in live trading, where a bar is stepped as soon as it has closed.
    """

    def __init__(self, params: np.ndarray, *, symbols: int = 1, block: int = BLOCK) -> None:
        self.block = block
        self.states = records(SYMBOL, symbols)
        self.clocks = records(CLOCK, symbols)
        self.last = np.zeros((symbols, _END))  # the higher interval's last row
        self._params = params
        self._rules = records(rules.RULES, 1)
        self._rules[0] = params[0].rules
        self._suites = self.states.view(with_attributes(SUITE))  # of symbol i: base at 2*i, higher at 2*i + 1
        self._bars = records(BAR, block), records(BAR, block)
        self._done = np.zeros(block, np.int64)
        self._htf_rows = np.empty((block + 1, _END))
        for index in range(symbols):
            self.reset(index)

    def reset(self, index: int) -> None:
        """Reset a symbol to the state before its first bar."""
        self._suites[2 * index : 2 * index + 2] = fresh_suite()
        self.clocks[index : index + 1] = fresh_clock()
        self.last[index] = fresh_row()

    def _blocks(self, resets: np.ndarray) -> Iterator[tuple[int, int, bool]]:
        """Yield (first, stop, reset) of each block: at most `block` bars, and a reset starts a new one."""
        if not len(resets):
            return
        begins = resets[0] != 0
        if len(resets) <= self.block and np.count_nonzero(resets) == begins:  # nearly always
            yield 0, len(resets), begins
            return
        cuts = [0, *(np.flatnonzero(resets[1:]) + 1).tolist(), len(resets)]
        for start, end in itertools.pairwise(cuts):
            for first in range(start, end, self.block):
                yield first, min(first + self.block, end), first == start and resets[start] != 0

    def run(self, index: int, columns: tuple[np.ndarray, ...], resets: np.ndarray, rows: np.ndarray) -> None:
        """Step a symbol through bars and write `COLUMNS` into `rows`, one row per bar.

        Parameters
        ----------
        columns
            open_ms (int64), open, high, low, close, volume, taker volume (float64), filled (int64).
        resets
            int64 per bar, non-zero where the state is reset before that bar.
        rows
            float64, (bars, columns).
        """
        for first, stop, anew in self._blocks(resets):
            if anew:
                self.reset(index)
            self.step(index, *_part(columns, rows, first, stop))

    def step(self, index: int, columns: tuple[np.ndarray, ...], rows: np.ndarray) -> None:
        """Step a symbol through one block without a reset; parameters as in `run`."""
        bars, high_bars = self._bars
        htf_rows = self._htf_rows
        higher = bars_block(self.clocks, self._rules, index, bars, high_bars, self._done, *columns)
        suite_block(self._suites, self._params, 2 * index, bars, len(rows), rows)
        htf_rows[0] = self.last[index]
        if higher:
            suite_block(self._suites, self._params, 2 * index + 1, high_bars, higher, htf_rows[1:])
            self.last[index] = htf_rows[higher]
        conditions_block(self.clocks, self._rules, index, bars, high_bars, self._done, htf_rows, rows)

    def is_cached(self, rows: np.ndarray) -> bool:
        """Return whether the families' kernel, by far the largest, is cached."""
        return is_cached(suite_block, self._suites, self._params, 0, self._bars[0], len(rows), rows)

    def run_suite(self, columns: tuple[np.ndarray, ...], resets: np.ndarray, rows: np.ndarray) -> None:
        """Step only the first symbol's base interval and write `SUITE_COLUMNS`; parameters as in `run`."""
        bars, high_bars = self._bars
        for first, stop, anew in self._blocks(resets):
            if anew:
                self.reset(0)
            part, written = _part(columns, rows, first, stop)
            bars_block(self.clocks, self._rules, 0, bars, high_bars[:0], self._done, *part)
            suite_block(self._suites, self._params, 0, bars, stop - first, written)


def _part(
    columns: tuple[np.ndarray, ...], rows: np.ndarray, first: int, stop: int
) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Return the bars from `first` to `stop` of columns and rows; a complete block is returned as it is."""
    if first == 0 and stop == len(rows):
        return columns, rows
    return tuple(column[first:stop] for column in columns), rows[first:stop]
