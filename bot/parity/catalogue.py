"""The feature and the kind of each plot column of a known toolkit.

A *plot* is a line, compared by distance; an *event* is a mark on a bar, found or not; a *wave* is an event with a
height, idle at 50; a *state* takes few values (a direction, a zone, a condition), equal or not. Every column of
`signals` can be bound by its own name.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from bot.parity.csv_values import key
from bot.strategy import kernel as k

Kind = Literal["plot", "event", "wave", "state"]
Table = Mapping[str, np.ndarray]
IDLE: Final = 50.0  # value of an overflow column while there is none

_EVENTS: Final = re.compile(
    r"smc_(int|sw)_(bull|bear)_(bos|choch)|smc_eq[hl]|om_(cross|big)_(up|down)|om_divergence_\w+|om_reversal_\w+|"
    r"pac_eq[hl]|pac_grab_(bull|bear)|pac_fvg_(bull|bear)|so_turn_strong|so_trail_switch|(long|short)_signal|sta_signal"
)
_STATES: Final = re.compile(
    r"smc_(internal|swing)_trend|pac_(trend|event|dir)|so_(state|signal|rating|exit|trail_dir|tracer_dir|catcher_dir|strong)|"
    r"sta_os|om_confluence_(upper|lower)|om_overflow_(up|down)|om_recent_overflow_(up|down)|so_trail_in_area|"
    r"htf_(smc|pac)_trend|(long|short)_(htf|ob|hw_cross|no_overflow|conf|trail|count|gates)|smc_strong_(high|low)"
)


@dataclass(frozen=True, slots=True)
class Feature:
    """A quantity that both sides compute: its name, kind, family and a function that reads ours."""

    name: str
    kind: Kind
    family: str
    read: Callable[[Table], np.ndarray]
    needs_volume: bool = False


def _equals(column: str, value: float) -> Callable[[Table], np.ndarray]:
    return lambda table: (table[column] == value).astype(np.float64)


def _overflow(column: str) -> Callable[[Table], np.ndarray]:
    return lambda table: np.where(
        np.isnan(table["om_overflow_value"]), np.nan, np.where(table[column] == 1.0, table["om_overflow_value"], IDLE)
    )


_DERIVED: Final = {
    "so_bullish": Feature("so_bullish", "event", "confirmation", _equals("so_signal", 1.0)),
    "so_bullish_strong": Feature("so_bullish_strong", "event", "confirmation", _equals("so_signal", 2.0)),
    "so_bearish": Feature("so_bearish", "event", "confirmation", _equals("so_signal", -1.0)),
    "so_bearish_strong": Feature("so_bearish_strong", "event", "confirmation", _equals("so_signal", -2.0)),
    "so_bullish_exit": Feature("so_bullish_exit", "event", "exits", _equals("so_exit", 1.0)),
    "so_bearish_exit": Feature("so_bearish_exit", "event", "exits", _equals("so_exit", -1.0)),
    "om_overflow_up_value": Feature("om_overflow_up_value", "wave", "overflow", _overflow("om_overflow_up"), True),
    "om_overflow_down_value": Feature(
        "om_overflow_down_value", "wave", "overflow", _overflow("om_overflow_down"), True
    ),
}
_FAMILIES: Final = (
    (r"om_(money_flow|upper|lower)", "money flow"),
    (r"om_(recent_)?overflow", "overflow"),
    (r"om_(hyperwave|signal|cross|big)", "hyperwave"),
    (r"om_", "oscillator"),
    (r"so_trail", "smart trail"),
    (r"so_(trend_)?tracer", "trend tracer"),
    (r"so_(trend_)?catcher", "trend catcher"),
    (r"so_neo", "neo cloud"),
    (r"so_trend_strength", "trend strength"),
    (r"so_exit", "exits"),
    (r"so_", "confirmation"),
    (r"sta_", "supertrend ai"),
    (r"smc_", "smart money concepts"),
    (r"pac_|(long|short)_ob_", "price action concepts"),
    (r"", "strategy"),
)
_VOLUME: Final = re.compile(
    r"om_(money_flow|upper|lower|overflow|recent|meter|confluence|ready|reversal_major)|pac_(demand|supply)|"
    r"(long|short)_(ob|signal|no_overflow|gates|count)"
)


def family_of(name: str) -> str:
    """Return the family that a column of `signals` belongs to."""
    return next(family for pattern, family in _FAMILIES if re.match(pattern, name))


def feature(name: str) -> Feature | None:
    """Return the feature of a name: a derived one, or any column of `signals`; None if there is none."""
    if name in _DERIVED:
        return _DERIVED[name]
    if name not in k.COLUMNS:
        return None
    kind: Kind = "event" if _EVENTS.fullmatch(name) else "state" if _STATES.fullmatch(name) else "plot"
    return Feature(name, kind, family_of(name), lambda table: table[name], bool(_VOLUME.match(name)))


def names() -> tuple[str, ...]:
    """Return all names that a bind file may use, except formulas."""
    return (*_DERIVED, *k.COLUMNS)


# Exported names, and the features of the first, second, ... column of that name.
_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "Money Flow": ("om_money_flow",),
    "Upper Money Flow Threshold": ("om_upper",),
    "Lower Money Flow Threshold": ("om_lower",),
    "Money Flow Threshold": ("om_upper", "om_lower"),
    "Bullish Overflow": ("om_overflow_up_value",),
    "Bearish Overflow": ("om_overflow_down_value",),
    "Overflow": ("om_overflow_up_value", "om_overflow_down_value"),
    "HyperWave": ("om_hyperwave", "om_signal"),
    "HyperWave Signal": ("om_signal",),
    "Signal Line": ("om_signal",),
    "HWO Up": ("om_cross_up",),
    "HWO Down": ("om_cross_down",),
    "Oversold HWO Up": ("om_big_up",),
    "Overbought HWO Down": ("om_big_down",),
    "Reversal Up +": ("om_reversal_major_up",),
    "Reversal Up -": ("om_reversal_minor_up",),
    "Reversal Down +": ("om_reversal_major_down",),
    "Reversal Down -": ("om_reversal_minor_down",),
    "Reversal Up": ("om_reversal_major_up", "om_reversal_minor_up"),
    "Reversal Down": ("om_reversal_major_down", "om_reversal_minor_down"),
    "Upper Confluence Value": ("om_confluence_upper",),
    "Lower Confluence Value": ("om_confluence_lower",),
    "Confluence Value": ("om_confluence_upper", "om_confluence_lower"),
    "Confluence Meter Value": ("om_meter",),
    "Bullish Divergence": ("om_divergence_bull",),
    "Bearish Divergence": ("om_divergence_bear",),
    "Bullish": ("so_bullish", "so_bullish_strong"),
    "Bullish+": ("so_bullish_strong",),
    "Bearish": ("so_bearish", "so_bearish_strong"),
    "Bearish+": ("so_bearish_strong",),
    "Bullish Exit": ("so_bullish_exit",),
    "Bearish Exit": ("so_bearish_exit",),
    "Trend Strength": ("so_trend_strength",),
    "Trend Tracer": ("so_trend_tracer",),
    "Trend Catcher": ("so_trend_catcher",),
    "Smart Trail": ("so_trail", "so_trail_extremity"),
    "Smart Trail Extremity": ("so_trail_extremity",),
    "Neo Lead": ("so_neo_lead",),
    "Neo Lag": ("so_neo_lag",),
    "Trailing Stop": ("sta_ts", "sta_perf_ama"),
    "Trailing Stop AMA": ("sta_perf_ama",),
    "HTF_BULL": ("long_htf",),
    "OB_DEMAND_HIT": ("long_ob",),
    "HW_CROSS_UP": ("long_hw_cross",),
    "NO_OVERFLOW": ("long_no_overflow",),
    "BUY_CONF": ("long_conf",),
    "TRAIL_BULL": ("long_trail",),
    "HTF_BEAR": ("short_htf",),
    "OB_SUPPLY_HIT": ("short_ob",),
    "HW_CROSS_DOWN": ("short_hw_cross",),
    "SELL_CONF": ("short_conf",),
    "TRAIL_BEAR": ("short_trail",),
    "Long Signal": ("long_signal",),
    "Short Signal": ("short_signal",),
}
KNOWN: Final = {key(name): features for name, features in _NAMES.items()}

# Columns of the toolkits that this bot does not compute, listed so that they can be reported as such.
NOT_OURS: Final = frozenset(
    map(
        key,
        (
            *("Take Profit", "Stop Loss", "Bar Color Value", "Reversal Zones Average", "LUCID Connector"),
            *(f"RZ {side}{n} Band" for side in "RS" for n in (1, 2, 3)),
            *("Custom Alert Condition Highlighter", "Alert Scripting Condition Highlighter", "@valuewhen"),
        ),
    )
)
