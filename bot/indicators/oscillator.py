"""Oscillator Matrix: money flow, HyperWave and their combined readings, one closed bar at a time.

This family provides the trigger's `hw_cross` and `no_overflow`; the other columns are context, logged and charted.
During warm-up values are NaN and flags 0. On a filled bar (inserted for a missing one) the averages advance, but no
event is flagged; overflow is a condition, not an event, and stays visible (premium indicators 3).
"""

import math
from typing import Any

import numpy as np

from bot.config import Oscillator
from bot.core.jit import kernel, outlined_kernel, record
from bot.indicators.averages import super_weights
from bot.indicators.hyperwave import (
    INNER_EMA,
    INNER_RMA,
    INNER_SMA,
    WAVE,
    WAVE_PARAMS,
    burst_ends,
    divergences_step,
    meter,
    minor_reversal,
    wave_reset,
    wave_step,
)
from bot.indicators.money_flow import (
    MONEY_FLOW,
    MONEY_FLOW_PARAMS,
    NEVER,
    money_flow_reset,
    money_flow_step,
    overflow_recent,
)

INNER_AVERAGES = {"sma": INNER_SMA, "ema": INNER_EMA, "rma": INNER_RMA}
BURST_LENGTH = 4  # period of the smoothed volume minus the reversal factor, bars

STATE = np.dtype([("flow", MONEY_FLOW), ("wave", WAVE)])
PARAMS = np.dtype(
    [
        ("flow", MONEY_FLOW_PARAMS),
        ("wave", WAVE_PARAMS),
        ("zone_signal", "i8"),  # confluence compares the wave with its signal instead of 50
        ("zone_threshold", "i8"),  # ... and money flow against its thresholds instead of 50
    ]
)
COLUMNS: tuple[str, ...] = (
    "om_money_flow",
    "om_upper",
    "om_lower",
    "om_overflow_up",
    "om_overflow_down",
    "om_overflow_value",
    "om_hyperwave",
    "om_signal",
    "om_cross_up",
    "om_cross_down",
    "om_divergence_bull",
    "om_divergence_bear",
    "om_reversal_minor_up",
    "om_reversal_minor_down",
    "om_reversal_major_up",
    "om_reversal_major_down",
    "om_confluence_upper",
    "om_confluence_lower",
    "om_meter",
    "om_money_flow_taker",
    "om_big_up",
    "om_big_down",
    "om_recent_overflow_up",
    "om_recent_overflow_down",
    "om_ready",
)


def params(oscillator: Oscillator) -> Any:
    """Return the PARAMS record that `om_step` reads, from the configuration section."""
    numbers = record(PARAMS)
    flow, wave = numbers.flow, numbers.wave
    flow.length = oscillator.money_flow_length
    flow.smooth = oscillator.money_flow_smooth
    flow.weight = oscillator.money_flow_weight
    flow.volume_ratio = oscillator.overflow_volume_ratio
    wave.length = oscillator.hyperwave_length
    wave.inner = oscillator.hyperwave_inner
    wave.from_close = oscillator.hyperwave_source == "close"
    wave.smoothing = oscillator.hyperwave_smoothing == "super"
    wave.price_first, wave.price_second = super_weights(oscillator.hyperwave_smoothing_length)
    wave.average = INNER_AVERAGES[oscillator.hyperwave_average]
    wave.signal_length = oscillator.signal_length
    wave.signal_ema = oscillator.signal_average == "ema"
    wave.quiet = 3 * oscillator.hyperwave_length
    stands_out = oscillator.divergence_prominence - oscillator.divergence_sensitivity
    wave.prominence = min(max(stands_out, 5), 48)
    wave.gain = max(0.0, (stands_out - 10) / 2)
    wave.big_floor = 50.0 - oscillator.big_dot_edge
    wave.big_ceiling = 50.0 + oscillator.big_dot_edge
    wave.edge = min(20 + 2 * oscillator.reversal_factor, 45)
    wave.factor = oscillator.reversal_factor
    wave.major_volume = oscillator.reversal_major == "volume"
    wave.volume_first, wave.volume_second = super_weights(BURST_LENGTH + oscillator.reversal_factor)
    numbers.zone_signal = oscillator.confluence_hyperwave == "signal"
    numbers.zone_threshold = oscillator.confluence_money_flow == "threshold"
    return numbers


def om_reset(state, params) -> None:
    """Reset a STATE record to its state before the first bar."""
    money_flow_reset(state.flow)
    wave_reset(state.wave)


@kernel
def majors_by_cross(wave, flow, factor: int) -> None:
    """Set the major reversals: a cross soon after a minor, while money flow is exhausted.

    A major uses up its minor: the next one needs a new minor. `wave`, `flow`: WAVE and MONEY_FLOW records; `factor` in
    bars; NaN thresholds compare false. Source: premium indicators 3.6.
    """
    if wave.cross_up and wave.since_minor_up < factor:
        if flow.since_down < 2 * factor or flow.line < flow.lower:
            wave.major_up = 1
            wave.since_minor_up = NEVER
    elif wave.cross_down and wave.since_minor_down < factor:  # noqa: SIM102
        if flow.since_up < 2 * factor or flow.line > flow.upper:
            wave.major_down = 1
            wave.since_minor_down = NEVER


@kernel
def reversals_step(wave, flow, params, volume: float) -> None:
    """Advance the reversals: minor and major, up and down; none while the wave is NaN.

    Majors by volume need neither cross nor minor: the burst ends while the wave is beyond the big-dot level. Source:
    premium indicators 3.6.

    Parameters
    ----------
    wave, flow, params
        WAVE, MONEY_FLOW and WAVE_PARAMS records.
    volume
        Volume of the bar, base asset.
    """
    up = minor_reversal(wave.line2, wave.line1, wave.line, 50.0 - params.edge)
    down = minor_reversal(-wave.line2, -wave.line1, -wave.line, -50.0 - params.edge)
    wave.since_minor_up = 0 if up else min(wave.since_minor_up + 1, NEVER)
    wave.since_minor_down = 0 if down else min(wave.since_minor_down + 1, NEVER)
    wave.minor_up = 1 if up else 0
    wave.minor_down = 1 if down else 0
    wave.major_up = 0
    wave.major_down = 0
    if params.major_volume == 0:
        majors_by_cross(wave, flow, params.factor)
    elif burst_ends(wave, params, volume):
        wave.major_up = 1 if wave.line < params.big_floor else 0
        wave.major_down = 1 if wave.line > params.big_ceiling else 0


@kernel
def zone(wave: float, wave_level: float, flow: float, flow_level: float) -> float:
    """Return how many of wave and flow lie above their level (float64, 0 to 2); NaN while an input is NaN.

    Source: premium indicators 3.7.

    Parameters
    ----------
    wave, wave_level
        Wave and its level, 0 to 100; negated for the other side.
    flow, flow_level
        Money flow and its level, likewise.

    >>> zone(60.0, 50.0, 40.0, 50.0)
    1.0
    """
    if math.isnan((wave - wave_level) + (flow - flow_level)):
        return math.nan
    return (1.0 if wave > wave_level else 0.0) + (1.0 if flow > flow_level else 0.0)


@kernel
def write_events(wave, params, out) -> None:
    """Write crosses, divergences, reversals and big dots of this bar into `out` (float64, COLUMNS), as 0 or 1.

    `wave`, `params`: WAVE and WAVE_PARAMS records. Source: premium indicators 3.4 to 3.6.
    """
    out[8] = wave.cross_up
    out[9] = wave.cross_down
    out[10] = wave.divergence_bull
    out[11] = wave.divergence_bear
    out[12] = wave.minor_up
    out[13] = wave.minor_down
    out[14] = wave.major_up
    out[15] = wave.major_down
    out[20] = 1.0 if wave.cross_up and wave.line < params.big_floor else 0.0
    out[21] = 1.0 if wave.cross_down and wave.line > params.big_ceiling else 0.0


@kernel
def write_no_events(out) -> None:
    """Write 0 for all events into `out` (float64, COLUMNS): a filled bar, or warm-up."""
    for i in range(8, 16):
        out[i] = 0.0
    out[20] = 0.0
    out[21] = 0.0


@outlined_kernel
def om_step(state, params, bar, out) -> None:
    """Advance the family by one closed bar; values are 0 to 100, NaN during warm-up, flags 0 or 1.

    Source: premium indicators 3.

    Parameters
    ----------
    state, params, bar
        STATE, PARAMS and BAR records.
    out
        Row of COLUMNS, float64, shape (25,).
    """
    flow = state.flow
    wave = state.wave
    money_flow_step(flow, params.flow, bar)
    wave_step(wave, params.wave, bar)
    divergences_step(wave, params.wave, bar)
    reversals_step(wave, flow, params.wave, bar.volume)
    out[0] = flow.line
    out[1] = flow.upper
    out[2] = flow.lower
    out[3] = flow.overflow_up
    out[4] = flow.overflow_down
    out[5] = flow.overflow
    out[6] = wave.line
    out[7] = wave.signal
    if bar.filled == 1 or wave.bars <= params.wave.quiet:
        write_no_events(out)
    else:
        write_events(wave, params.wave, out)
    wave_level = wave.signal if params.zone_signal else 50.0
    flow_top = flow.upper if params.zone_threshold else 50.0
    flow_bottom = flow.lower if params.zone_threshold else 50.0
    out[16] = zone(wave.line, wave_level, flow.line, flow_top)
    out[17] = zone(-wave.line, -wave_level, -flow.line, -flow_bottom)
    out[18] = meter(wave.line, wave.signal, flow.line, flow.upper, flow.lower)
    out[19] = flow.taker_line
    out[22] = overflow_recent(flow.overflow_up, flow.since_up)
    out[23] = overflow_recent(flow.overflow_down, flow.since_down)
    out[24] = flow.ready
