"""The free settings of each feature: what a comparison tries as the cause of a difference, and what calibration fits.

Each feature's formula leaves numbers open (premium indicators 2 to 4, "Calibrate"). Those that are settings of this bot
are listed here with the values to try; the other open choices are in `variants`.
"""

from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting (`section.key`) and the values to try."""

    name: str
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Space:
    """A family's settings in fitting order, the features that judge them, and `spec`, the section that leaves them open.

    The `judges` that are bound count equally.
    """

    family: str
    settings: tuple[Setting, ...]
    judges: tuple[str, ...]
    spec: str


# In the order of premium indicators 7.3: what later features read is fitted first.
SPACES: Final = (
    Space(
        "hyperwave",
        (
            Setting("oscillator.hyperwave_length", tuple(range(3, 31))),
            Setting("oscillator.hyperwave_source", ("ohlc4", "close")),
            Setting("oscillator.hyperwave_smoothing", ("off", "super")),
            Setting("oscillator.hyperwave_average", ("sma", "ema", "rma")),
            Setting("oscillator.hyperwave_inner", tuple(range(1, 11))),
            Setting("oscillator.signal_length", tuple(range(1, 13))),
            Setting("oscillator.signal_average", ("sma", "ema")),
        ),
        ("om_hyperwave", "om_signal", "om_cross_up", "om_cross_down", "om_big_up", "om_big_down"),
        "3.4",
    ),
    Space(
        "money flow",
        (
            Setting("oscillator.money_flow_length", tuple(range(5, 101))),
            Setting("oscillator.money_flow_smooth", tuple(range(1, 21))),
            Setting("oscillator.money_flow_weight", tuple(round(0.05 * i, 2) for i in range(21))),
        ),
        ("om_money_flow", "om_upper", "om_lower"),
        "3.1, 3.2",
    ),
    Space(
        "overflow",
        (Setting("oscillator.overflow_volume_ratio", tuple(round(0.05 * i, 2) for i in range(61))),),
        ("om_overflow_up_value", "om_overflow_down_value", "om_overflow_up", "om_overflow_down"),
        "3.3",
    ),
    Space(
        "oscillator",
        (
            Setting("oscillator.confluence_hyperwave", ("50", "signal")),
            Setting("oscillator.confluence_money_flow", ("50", "threshold")),
            Setting("oscillator.reversal_factor", tuple(range(1, 11))),
            Setting("oscillator.divergence_sensitivity", (2, 5, 8, 10, 12, 15, 18, 20, 22, 25, 30, 35, 40, 45)),
        ),
        (
            *("om_confluence_upper", "om_confluence_lower", "om_reversal_minor_up", "om_reversal_minor_down"),
            *("om_reversal_major_up", "om_reversal_major_down", "om_divergence_bull", "om_divergence_bear"),
        ),
        "3.5 to 3.7",
    ),
    Space(
        "smart trail",
        (Setting("overlays.smart_trail", (1, 2, 3, 4, 5)),),
        ("so_trail", "so_trail_extremity"),
        "4.4",
    ),
    Space("neo cloud", (Setting("overlays.neo_cloud", (1, 2, 3, 4, 5)),), ("so_neo_lead", "so_neo_lag"), "4.7"),
    Space("trend tracer", (Setting("overlays.trend_tracer", (1, 2, 3, 4, 5)),), ("so_trend_tracer",), "4.5"),
    Space("trend catcher", (Setting("overlays.trend_catcher", (1, 2, 3, 4, 5)),), ("so_trend_catcher",), "4.6"),
    Space("trend strength", (), ("so_trend_strength",), "4.8"),
    Space(
        "confirmation",
        (
            Setting("overlays.autopilot", ("off", "short", "mid", "long")),
            Setting("overlays.sensitivity", tuple(float(v) for v in range(5, 31))),
        ),
        ("so_bullish", "so_bearish", "so_bullish_strong", "so_bearish_strong", "so_signal", "so_state"),
        "4.1, 4.3",
    ),
    Space(
        "supertrend ai",
        (
            Setting("supertrend_ai.atr_length", (5, 7, 8, 9, 10, 11, 12, 13, 14, 16, 18, 20, 21)),
            Setting("supertrend_ai.factor_max", (2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 6.0)),
            Setting("supertrend_ai.factor_min", (0.5, 1.0, 1.5, 2.0)),
            Setting("supertrend_ai.memory", (5.0, 8.0, 10.0, 12.0, 15.0, 20.0, 30.0)),
            Setting("supertrend_ai.cluster", ("best", "average", "worst")),
        ),
        ("sta_ts", "sta_perf_ama", "sta_os"),
        "open indicators 2",
    ),
    Space(
        "smart money concepts",
        (
            Setting("smc.internal_length", tuple(range(3, 13))),
            Setting("smc.confluence_filter", (False, True)),
            Setting("smc.swing_length", (20, 25, 30, 35, 40, 45, 50, 55, 60, 75, 100)),
        ),
        (
            *("smc_int_bull_bos", "smc_int_bear_bos", "smc_int_bull_choch", "smc_int_bear_choch", "smc_internal_trend"),
            *("smc_sw_bull_bos", "smc_sw_bear_bos", "smc_sw_bull_choch", "smc_sw_bear_choch", "smc_swing_trend"),
        ),
        "open indicators 1",
    ),
    Space(
        "price action concepts",
        (
            Setting("pac.structure_length", tuple(range(3, 16))),
            Setting("pac.equal_length", tuple(range(1, 9))),
            Setting("pac.equal_threshold", (0.02, 0.05, 0.08, 0.1, 0.12, 0.15, 0.2, 0.3)),
            Setting("pac.grab_min_wick_body", (0.0, 0.25, 0.5, 0.75, 1.0)),
            Setting("pac.grab_cooldown", (0, 1, 2, 3, 5)),
            Setting("pac.fvg_threshold", (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)),
        ),
        (
            *("pac_event", "pac_dir", "pac_trend", "pac_eqh", "pac_eql", "pac_grab_bull", "pac_grab_bear"),
            *("pac_fvg_bull", "pac_fvg_bear"),
        ),
        "2.1, 2.3 to 2.5",
    ),
)

# What the chart does not export or this bot has no setting for, by family.
NOT_FITTED: Final = {
    "hyperwave": "the average inside the RSI (RMA or EMA) is no setting; it is tried and reported",
    "money flow": "SMA or EMA smoothing, hlc3 or close and weighting by relative volume are no settings; tried and told",
    "overflow": "the slope test and an extra margin are no settings",
    "smart trail": "period, factor, smoothing and the Fibonacci level are one setting from 1 to 5; tried apart and told",
    "trend catcher": "length, fast and slow constant and the dead band are one setting from 1 to 5",
    "neo cloud": "the lengths and factors follow one setting from 1 to 5",
    "trend tracer": "the lengths follow one setting from 1 to 5",
    "trend strength": "it has no setting; its distance is told",
    "confirmation": "ATR length, centre, number of shadows, memory and EMA length are no settings",
    "exits": "they have no setting",
    "price action concepts": "order blocks are drawings and do not export: split, interval, zone and hiding stay as set",
}


def space_of(family: str) -> Space | None:
    """Return the space of a family, None if it has no free setting."""
    return next((space for space in SPACES if space.family == family), None)
