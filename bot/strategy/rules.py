"""Every rule of the strategy, once: names, conditions, gates, the plan's prices, and the ways out of a trade.

What a bar decides is written as kernels over plain numbers, because history and live trading step them over millions of bars;
`strategy.kernel` only puts them in order. What a trade does happens a few times a day and is written in `Decimal`, in ticks and
lots. The engine, the back-test, the search, the comparison with charts and every page call these functions and read these
names; no other module restates one.

In all kernels `sign` is +1 for long and -1 for short, directions and trends are +1, -1 or 0 (float64, as columns hold them),
flags are 0.0 or 1.0, and NaN means "not ready": no condition holds on it.
"""

import math
from decimal import Decimal
from enum import IntEnum
from typing import Any, Final, Protocol

import numpy as np

from bot.config import Config, Gates
from bot.config import TradeSettings as TradeConfig
from bot.core.jit import kernel
from bot.core.times import MINUTE_MS
from bot.core.types import Instrument, Round, Side, to_decimal

# ---- names ----------------------------------------------------------------------------------------------------------

CONDITIONS: Final = ("htf", "ob", "hw_cross", "no_overflow", "conf", "trail")
NAMES: Final = {
    Side.LONG: ("HTF_BULL", "OB_DEMAND_HIT", "HW_CROSS_UP", "NO_OVERFLOW", "BUY_CONF", "TRAIL_BULL"),
    Side.SHORT: ("HTF_BEAR", "OB_SUPPLY_HIT", "HW_CROSS_DOWN", "NO_OVERFLOW", "SELL_CONF", "TRAIL_BEAR"),
}
LABELS: Final = {
    "htf": "15m structure",
    "ob": "order block hit",
    "hw_cross": "HyperWave cross",
    "no_overflow": "no overflow",
    "conf": "confirmation",
    "trail": "Smart Trail",
}  # in plain words
TITLES: Final = {
    tag: f"{tag} · {label}" for tags in NAMES.values() for tag, label in zip(tags, LABELS.values(), strict=True)
}  # by tag: how a condition is called wherever a person reads it
PAIRED: Final = tuple(
    f"{long} · {label}" if long == short else f"{long}, {short} · {label}"
    for long, short, label in zip(*NAMES.values(), LABELS.values(), strict=True)
)  # in the order of CONDITIONS: both sides in one row


class Gate(IntEnum):
    """The optional gates by their bit; `strategy.gates` names those that are required."""

    DISCOUNT = 0
    MONEY_FLOW_CONTEXT = 1
    TREND_TRACER_UP = 2
    TREND_CATCHER_UP = 3
    NEO_CLOUD_UP = 4
    TAKER_SIDE = 5
    TAKER_CONFIRM = 6


GATES: Final = tuple(gate.name.lower() for gate in Gate)

# ---- numbers --------------------------------------------------------------------------------------------------------

HALF_LINE = 50.0  # HyperWave's middle: a cross counts below it for longs, above it for shorts
TAKER_MAJORITY = 50.0  # per cent of a block's volume that takers of its side traded
RANGE_BARS = 50  # higher bars that stand for the range until swing pivots exist
CHOCH = 2.0  # value of `pac_event` from which on a break is a change of character
HTF_BOTH, HTF_SMC, HTF_PAC = 0, 1, 2
HTF_SOURCES: Final = ("both", "smc", "pac")  # by those numbers
CHOCH_EITHER, CHOCH_PAC, CHOCH_SMC = 0, 1, 2
CHOCH_SOURCES: Final = ("either", "pac", "smc")

RULES = np.dtype(
    [
        ("base_ms", "i8"),
        ("htf_ms", "i8"),
        ("htf_source", "i8"),  # HTF_BOTH, HTF_SMC or HTF_PAC
        ("same_side_overflow", "i8"),
        ("min_rating", "i8"),
        ("require_strong", "i8"),
        ("conf_max_age", "i8"),  # bars, 0 for any
        ("trail_by_price", "i8"),
        ("gates", "i8"),  # bit set of the gates that are conditions
        ("warm_up", "i8"),
        ("stop_lookback", "i8"),
    ]
)


def required_gates(gates: Gates) -> int:
    """Return the bit set of the gates that the settings require.

    >>> required_gates(Gates(discount=True, taker_side=True))
    33
    """
    return sum(1 << gate for gate in Gate if getattr(gates, gate.name.lower()))


def set_rules(rules: Any, config: Config, *, base_ms: int, htf_ms: int) -> None:
    """Fill a record of `RULES` from the settings; intervals in ms."""
    rules.base_ms = base_ms
    rules.htf_ms = htf_ms
    rules.htf_source = HTF_SOURCES.index(config.strategy.htf_source)
    rules.same_side_overflow = config.oscillator.overflow_side == "same_side"
    rules.min_rating = config.strategy.min_rating
    rules.require_strong = config.strategy.require_strong
    rules.conf_max_age = config.strategy.conf_max_age
    rules.trail_by_price = config.strategy.trail_mode == "price"
    rules.gates = required_gates(config.strategy.gates)
    rules.warm_up = config.strategy.warm_up_bars
    rules.stop_lookback = config.hedge.stop_lookback


# ---- the six conditions ---------------------------------------------------------------------------------------------


@kernel
def structure_agrees(sign: int, smc_trend: float, pac_trend: float, source: int) -> bool:
    """HTF: the structure of the higher interval points the side's way, by both readings or the chosen one.

    >>> structure_agrees(1, 1.0, 0.0, HTF_BOTH), structure_agrees(1, 1.0, 0.0, HTF_SMC)
    (False, True)
    """
    if source == HTF_SMC:
        return smc_trend == sign
    if source == HTF_PAC:
        return pac_trend == sign
    return smc_trend == sign and pac_trend == sign


@kernel
def block_hit(block_id: float) -> bool:
    """OB: an eligible order block of the side was touched; the block's id is NaN where there is none.

    >>> block_hit(7.0), block_hit(math.nan)
    (True, False)
    """
    return not math.isnan(block_id)


@kernel
def in_own_half(sign: int, wave: float) -> bool:
    """Whether HyperWave is where a cross counts: below its middle for longs, above it for shorts.

    >>> in_own_half(1, 42.0), in_own_half(1, HALF_LINE), in_own_half(-1, 42.0)
    (True, False, False)
    """
    return sign * (HALF_LINE - wave) > 0.0


@kernel
def wave_crossed(sign: int, crossed: float, wave: float) -> bool:
    """HW_CROSS: HyperWave crossed its signal on this bar, up in the lower half or down in the upper half.

    >>> wave_crossed(1, 1.0, 42.0), wave_crossed(1, 1.0, 58.0), wave_crossed(-1, 1.0, 58.0)
    (True, False, True)
    """
    return crossed == 1.0 and in_own_half(sign, wave)


@kernel
def flow_is_calm(ready: float, own: float, other: float, same_side: int) -> bool:
    """NO_OVERFLOW: no money-flow overflow is active, on either side or on the trade's own only.

    >>> flow_is_calm(1.0, 0.0, 1.0, 0), flow_is_calm(1.0, 0.0, 1.0, 1), flow_is_calm(0.0, 0.0, 0.0, 0)
    (False, True, False)
    """
    return ready == 1.0 and not (own == 1.0 or (same_side == 0 and other == 1.0))


@kernel
def is_confirmed(
    sign: int,
    state: float,
    rating: float,
    age: float,
    strong: float,
    min_rating: int,
    max_age: int,
    require_strong: int,
) -> bool:
    """CONF: the last confirmation signal is the side's, rated high enough, and strong and young enough where required.

    Parameters
    ----------
    age, max_age
        Bars since the signal, and the most that may have passed (0: any).

    >>> is_confirmed(1, 1.0, 3.0, 12.0, 0.0, 3, 0, 0), is_confirmed(1, 1.0, 3.0, 12.0, 0.0, 3, 10, 0)
    (True, False)
    """
    if state != sign or not rating >= min_rating:
        return False
    if require_strong == 1 and strong != 1.0:
        return False
    return not (max_age > 0 and not age <= max_age)


@kernel
def trail_agrees(sign: int, close: float, line: float, direction: float, by_price: int) -> bool:
    """TRAIL: the close is on the side's side of Smart Trail's line, which points that way unless price alone decides.

    >>> trail_agrees(1, 101.0, 100.0, -1.0, 0), trail_agrees(1, 101.0, 100.0, -1.0, 1)
    (False, True)
    """
    return sign * (close - line) > 0.0 and (by_price == 1 or direction == sign)


# ---- the optional gates ---------------------------------------------------------------------------------------------


@kernel
def in_discount(sign: int, close: float, middle: float) -> bool:
    """DISCOUNT: the close is in the cheaper half of the higher interval's range (the dearer one for shorts).

    >>> in_discount(1, 99.0, 100.0), in_discount(-1, 99.0, 100.0)
    (True, False)
    """
    return sign * (middle - close) > 0.0


@kernel
def flow_supports(sign: int, flow: float, upper: float, lower: float, recent_other: float) -> bool:
    """MONEY_FLOW_CONTEXT: money flow beyond its threshold, or an overflow of the other side has just ended.

    >>> flow_supports(1, 70.0, 65.0, 35.0, 0.0), flow_supports(1, 50.0, 65.0, 35.0, 1.0)
    (True, True)
    """
    beyond = flow > upper if sign > 0 else flow < lower
    return beyond or recent_other == 1.0


@kernel
def points_with(sign: int, direction: float) -> bool:
    """TREND_TRACER_UP, TREND_CATCHER_UP: a trend line points the side's way.

    >>> points_with(-1, -1.0)
    True
    """
    return direction == sign


@kernel
def cloud_agrees(sign: int, lead: float, lag: float) -> bool:
    """NEO_CLOUD_UP: the cloud's lead is on the side's side of its lag.

    >>> cloud_agrees(1, 101.0, 100.0)
    True
    """
    return sign * (lead - lag) > 0.0


@kernel
def takers_lead(share: float) -> bool:
    """TAKER_SIDE: takers of the block's side traded more than half of its volume; per cent.

    >>> takers_lead(50.0), takers_lead(51.0)
    (False, True)
    """
    return share > TAKER_MAJORITY


@kernel
def takers_confirm(share: float, threshold: float) -> bool:
    """TAKER_CONFIRM: the takers' share of the block reaches its threshold; per cent.

    >>> takers_confirm(60.0, 60.0)
    True
    """
    return share >= threshold


@kernel
def gates_hold(bits: int, required: int) -> bool:
    """Whether all required gates are among those that hold.

    >>> gates_hold(0b0111, 0b0101), gates_hold(0b0010, 0b0101)
    (True, False)
    """
    return bits & required == required


def where_gates_hold(bits: np.ndarray, required: int) -> np.ndarray:
    """Return `gates_hold` for an integer array of bit sets, as bools."""
    return np.asarray(bits & required == required)


@kernel
def may_signal(bits: int, required: int, ready: float, filled: int) -> bool:
    """Whether a bar on which all six conditions hold is a signal: required gates hold, warmed up, a traded bar.

    >>> may_signal(0b1, 0b1, 1.0, 0), may_signal(0b1, 0b1, 1.0, 1)
    (True, False)
    """
    return gates_hold(bits, required) and ready == 1.0 and filled == 0


@kernel
def middle_of(top: float, bottom: float) -> float:
    """Return the middle of a range, NaN where it has no height or is not known.

    >>> middle_of(110.0, 100.0), middle_of(100.0, 100.0)
    (105.0, nan)
    """
    return math.nan if top == bottom else 0.5 * (top + bottom)


# ---- the plan's prices ----------------------------------------------------------------------------------------------


class Row(Protocol):
    """One closed bar's columns by name; NaN where a value is not ready."""

    def __getitem__(self, name: str) -> float:
        """Return a column; KeyError if there is none of that name."""


def column(row: Row, name: str) -> float:
    """Return a column as a float, NaN if this row does not carry it: evidence is shown where there is some."""
    try:
        return float(row[name])
    except KeyError:
        return math.nan


def stop_distance(bottom: float, top: float, atr: float, config: TradeConfig) -> float:
    """Return how far beyond the block's far edge the stop lies, in price: a multiple of ATR14, the larger one for tall blocks.

    >>> stop_distance(100.0, 101.0, 1.0, TradeConfig()), stop_distance(100.0, 101.2, 1.0, TradeConfig())
    (0.6, 0.75)
    """
    narrow = top - bottom < config.stop_height_atr * atr
    return (config.stop_atr_small if narrow else config.stop_atr_large) * atr


def entry_and_stop(
    side: Side, bottom: float, top: float, atr: float, *, instrument: Instrument, config: TradeConfig
) -> tuple[Decimal, Decimal]:
    """Return the entry, the block's middle, and the stop beyond its far edge, both rounded away from the market to ticks.

    Parameters
    ----------
    bottom, top, atr
        Edges of the block and ATR14 of the signal's bar, in price.
    """
    away = Round.DOWN if side is Side.LONG else Round.UP
    far_edge = bottom if side is Side.LONG else top
    entry = instrument.price((bottom + top) / 2, away)
    stop = instrument.price(far_edge - side.sign * stop_distance(bottom, top, atr, config), away)
    return entry, stop


def targets(side: Side, average: Decimal, stop: Decimal, instrument: Instrument, config: TradeConfig) -> list[Decimal]:
    """Return the prices of both targets, multiples of R from the average entry, rounded toward the entry."""
    distance = abs(average - stop)
    rounding = Round.DOWN if side is Side.LONG else Round.UP
    return [
        instrument.price(average + side.sign * Decimal(str(multiple)) * distance, rounding)
        for multiple in (config.tp1_r, config.tp2_r)
    ]


def catastrophe_stop(side: Side, entry: Decimal, stop: Decimal, instrument: Instrument, config: TradeConfig) -> Decimal:
    """Return the price of the closePosition stop that guards when the sized one fails, a multiple of R behind it."""
    away = Round.DOWN if side is Side.LONG else Round.UP
    return instrument.price(stop - side.sign * Decimal(str(config.catastrophe_r)) * abs(entry - stop), away)


def scale_out(qty: Decimal, instrument: Instrument, config: TradeConfig) -> tuple[Decimal, Decimal]:
    """Return the quantities of both targets, rounded down to the lot; the runner is the rest.

    A first part of 0 takes one lot if the position is at least two, else it is left out.
    """
    zero = Decimal(0)
    unit = max(instrument.lot, instrument.min_qty)
    first = instrument.qty(qty * to_decimal(config.tp1_fraction))
    second = instrument.qty(qty * to_decimal(config.tp2_fraction))
    if first < unit:
        first = unit if config.tp1_fraction and qty >= 2 * unit else zero
    if second < unit or first + second > qty:
        second = zero
    return first, second


# ---- the ways out ---------------------------------------------------------------------------------------------------


def break_even(side: Side, average: Decimal, *, entry_fee_rate: Decimal, taker_fee: Decimal, mode: str) -> Decimal:
    """Return the price at which the rest pays for its fees: average * (1 + side * (fee paid + taker fee)).

    >>> D = Decimal
    >>> break_even(Side.LONG, D(60000), entry_fee_rate=D("0.0002"), taker_fee=D("0.0004"), mode="net")
    Decimal('60036.0000')
    """
    return average if mode == "entry" else average * (1 + side.sign * (entry_fee_rate + taker_fee))


def time_exit_ms(first_fill_ms: int, *, scaled: bool, config: TradeConfig) -> int:
    """Return when a trade ends by time, 0 for never: so many minutes after its first fill, a runner only if it is to.

    >>> time_exit_ms(1_000, scaled=False, config=TradeConfig(timeout_minutes=30))
    1801000
    """
    if not first_fill_ms or (scaled and not config.timeout_runner):
        return 0
    return first_fill_ms + round(config.timeout_minutes * MINUTE_MS)


@kernel
def choch_against(sign: int, event: float, direction: float, bull: float, bear: float, source: int) -> bool:
    """Whether a bar's internal structure changed character against the trade.

    Parameters
    ----------
    event, direction
        `pac_event` and `pac_dir` of the bar.
    bull, bear
        `smc_int_bull_choch` and `smc_int_bear_choch`.
    source
        CHOCH_EITHER, CHOCH_PAC or CHOCH_SMC.

    >>> choch_against(1, 2.0, -1.0, 0.0, 0.0, CHOCH_PAC), choch_against(1, 1.0, -1.0, 0.0, 0.0, CHOCH_PAC)
    (True, False)
    >>> choch_against(-1, 0.0, 0.0, 1.0, 0.0, CHOCH_EITHER), choch_against(-1, 0.0, 0.0, 1.0, 0.0, CHOCH_PAC)
    (True, False)
    """
    pac = event >= CHOCH and direction == -sign
    smc = (bear if sign > 0 else bull) == 1.0
    return (source != CHOCH_SMC and pac) or (source != CHOCH_PAC and smc)


@kernel
def trend_agrees(sign: int, trend: float) -> bool:
    """Whether SuperTrend AI (`sta_os`: 1 up, 0 down) points the trade's way.

    >>> trend_agrees(1, 1.0), trend_agrees(-1, 0.0), trend_agrees(-1, 1.0)
    (True, True, False)
    """
    return (trend == 1.0) == (sign > 0)


def choch_source(config: TradeConfig) -> int:
    """Return the number of the setting `trade.choch_source`.

    >>> choch_source(TradeConfig(choch_source="smc")) == CHOCH_SMC
    True
    """
    return CHOCH_SOURCES.index(config.choch_source)


def is_choch_exit(row: Row, side: Side, config: TradeConfig) -> bool:
    """Whether a closed bar ends a trade by a change of character against it."""
    return bool(
        choch_against(
            side.sign,
            column(row, "pac_event"),
            column(row, "pac_dir"),
            column(row, "smc_int_bull_choch"),
            column(row, "smc_int_bear_choch"),
            choch_source(config),
        )
    )


def exit_reason(row: Row, side: Side, config: TradeConfig, *, held: bool, with_trend: bool, trailing: bool) -> str:
    """Return by what a closed bar ends a trade: `choch`, `trail_flip` or nothing.

    Parameters
    ----------
    held
        The position was open before the bar closed: a bar from before the first fill says nothing of its structure.
    with_trend
        SuperTrend AI agreed at the bar before: only then can it flip.
    trailing
        The stop follows SuperTrend AI already.
    """
    if held and is_choch_exit(row, side, config):
        return "choch"
    level = column(row, "sta_ts")
    if not math.isfinite(level) or not trailing or config.trail_flip != "exit":
        return ""
    return "trail_flip" if with_trend and not trend_agrees(side.sign, column(row, "sta_os")) else ""
