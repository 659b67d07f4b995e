"""SuperTrend AI: several SuperTrends compete, and the trail follows those with the best recent performance.

Every ATR factor has its own SuperTrend and a performance: an average of the gain per bar from following it. On each bar
the performances are split into three clusters (`clustering`). The mean factor of the chosen cluster drives the final
trail; its mean performance measures how well trends are being followed (0 to about 1).

Source: open indicators 2. TradingView compares with a tolerance of 1e-10, within which a difference is 0; so does this
module.
"""

import math

import numpy as np

from bot.config import SupertrendAi
from bot.core.jit import kernel, outlined_kernel, record
from bot.indicators.averages import EMA, RMA, ema_step, rma_step
from bot.indicators.clustering import CAPACITY, CLUSTERS, QUARTILES, TOLERANCE, cluster, clusters_reset, quartiles_of
from bot.indicators.window_sum import ema_reset, rma_reset

PARAMS = np.dtype(
    [
        ("factors", "i8"),  # number of factors
        ("factor", "f8", CAPACITY),
        ("atr_length", "i8"),
        ("alpha", "f8"),  # EMA weight of a bar in the performance
        ("den_length", "i8"),  # int(memory)
        ("cluster", "i8"),  # 0 worst, 1 average, 2 best
        ("first_clustered", "i8"),  # bars before it are not clustered; 0 = cluster all
        ("quartiles", QUARTILES),
    ]
)
TREND = np.dtype(
    [
        ("upper", "f8"),  # bands that still limit the next ones; infinite once a close is outside
        ("lower", "f8"),
        ("output", "f8"),
        ("trend", "i8"),
    ]
)
STATE = np.dtype(
    [
        ("bars", "i8"),
        ("close", "f8"),
        ("atr", RMA),
        ("den", EMA),
        ("upper", "f8", CAPACITY),
        ("lower", "f8", CAPACITY),
        ("output", "f8", CAPACITY),
        ("trend", "i8", CAPACITY),
        ("clusters", CLUSTERS),  # of the performances
        ("target_factor", "f8"),
        ("perf_idx", "f8"),
        ("final", TREND),
        ("perf_ama", "f8"),
    ]
)
COLUMNS: tuple[str, ...] = (
    "sta_ts",
    "sta_os",
    "sta_target_factor",
    "sta_perf_idx",
    "sta_perf_ama",
    "sta_signal",
)


def factors(section: SupertrendAi) -> list[float]:
    """Return the ATR factors (multiples of the ATR) from `factor_min` to `factor_max`.

    >>> factors(SupertrendAi())
    [1.0, 1.5, 2.0, 2.5, 3.0]
    """
    steps = int((section.factor_max - section.factor_min) / section.factor_step)
    return [section.factor_min + k * section.factor_step for k in range(steps + 1)]


def params(section: SupertrendAi, last_index: int = 0) -> np.record:
    """Return the settings as a PARAMS record for the kernels.

    `last_index` is the index of the last bar and matters only with `max_data` > 0.
    """
    out: np.record = record(PARAMS)
    values = factors(section)
    count = len(values)
    out.factors = count
    out.factor[:count] = values
    out.atr_length = section.atr_length
    out.alpha = 2.0 / (section.memory + 1.0)
    out.den_length = int(section.memory)
    out.cluster = ("worst", "average", "best").index(section.cluster)
    out.first_clustered = max(last_index - section.max_data, 0) if section.max_data > 0 else 0
    out["quartiles"] = quartiles_of(count)
    return out


@kernel
def above(a: float, b: float) -> bool:
    """Return whether a > b (float64) as TradingView compares, with tolerance 1e-10; false with NaN. Source: open indicators 2."""
    return a - b > TOLERANCE


def supertrend_reset(state) -> None:
    """Reset a TREND record to its state before the first bar."""
    state.upper = math.inf
    state.lower = -math.inf
    state.output = math.nan
    state.trend = 0


@kernel
def supertrend_step(state, middle: float, width: float, close: float) -> float:
    """Advance one SuperTrend, whose flips are tested against the bands of the current bar; return its line.

    The line (float64, price units) is the lower band in an up-trend (`trend` 1), else the upper; NaN while the width
    is. Source: open indicators 2.4.

    Parameters
    ----------
    state
        TREND record.
    middle, width, close
        (H+L)/2, distance of the bands from it, and close; price units.
    """
    upper = min(middle + width, state.upper)
    lower = max(middle - width, state.lower)
    state.upper = upper if above(upper, close) else math.inf
    state.lower = lower if above(close, lower) else -math.inf
    if above(close, upper):
        state.trend = 1
    elif above(lower, close):
        state.trend = 0
    state.output = lower if state.trend == 1 else upper
    return state.output


def sta_reset(state, params) -> None:
    """Reset a STATE record to its state before the first bar."""
    state.bars = 0
    state.close = math.nan
    rma_reset(state.atr)
    ema_reset(state.den)
    state.upper[:] = 0.0
    state.lower[:] = 0.0
    state.output[:] = math.nan
    state.trend[:] = 0
    clusters_reset(state.clusters)
    state.target_factor = math.nan
    state.perf_idx = math.nan
    supertrend_reset(state.final)
    state.perf_ama = math.nan


@kernel
def factors_step(state, params, middle: float, atr: float, close: float) -> None:
    """Advance the SuperTrend and the performance of every factor.

    Here a flip is tested against the bands of the previous bar, and the performance is the gain of the previous bar's
    line. While the ATR is NaN, so are the bands and lines; the performances stay 0. Source: open indicators 2.2.

    Parameters
    ----------
    state, params
        STATE and PARAMS records.
    middle, atr, close
        (H+L)/2, ATR and close; price units.
    """
    previous = state.close
    change = 0.0 if math.isnan(previous) else close - previous
    alpha = params.alpha
    performance = state.clusters.value
    for k in range(params.factors):  # select values, do not branch to store: the branches are unpredictable
        old_upper = state.upper[k]
        old_lower = state.lower[k]
        old_output = state.output[k]
        trend = state.trend[k]
        trend = 0 if old_lower - close > TOLERANCE else trend
        trend = 1 if close - old_upper > TOLERANCE else trend
        width = atr * params.factor[k]
        upper = middle + width
        lower = middle - width
        upper = old_upper if (old_upper - previous > TOLERANCE) & (old_upper < upper) else upper
        lower = old_lower if (previous - old_lower > TOLERANCE) & (old_lower > lower) else lower
        gain = -change if previous < old_output else 0.0
        gain = change if previous > old_output else gain
        performance[k] += alpha * (gain - performance[k])
        state.upper[k] = upper
        state.lower[k] = lower
        state.trend[k] = trend
        state.output[k] = lower if trend == 1 else upper


@kernel
def target_step(state, params, den: float) -> None:
    """Cluster, and set the chosen cluster's mean factor and performance; an empty cluster keeps the last factor.

    `state`, `params`: STATE and PARAMS records; `den`: float64, mean |close change| in price units. `perf_idx` is
    dimensionless, NaN unless `den` > 0. Source: open indicators 2.3 and 2.4.
    """
    clusters = state.clusters
    cluster(clusters, params.quartiles)
    performance = 0.0
    factor = 0.0
    members = 0.0
    for k in range(params.factors):
        share = 1.0 * (clusters.member[k] == params.cluster)  # a number, not a branch
        performance += share * clusters.value[k]
        factor += share * params.factor[k]
        members += share
    if members > 0.0:
        state.target_factor = factor / members
        performance = max(performance / members, 0.0)
    state.perf_idx = performance / den if den > 0.0 else math.nan


@outlined_kernel
def sta_step(state, params, bar, out) -> None:
    """Advance by one closed bar and write all columns. Source: open indicators 2.

    Lines are in price units, NaN until the ATR is known; the signal is -1, 0 or +1, and 0 on a filled bar.

    Parameters
    ----------
    state, params, bar
        STATE, PARAMS and BAR records.
    out
        Row of COLUMNS, float64, shape (6,).
    """
    close = bar.close
    middle = (bar.high + bar.low) / 2.0
    if state.bars == 0:
        for k in range(params.factors):
            state.upper[k] = middle
            state.lower[k] = middle
    atr = rma_step(state.atr, bar.tr, params.atr_length)
    den = math.nan
    if state.bars > 0:
        den = ema_step(state.den, abs(close - state.close), params.den_length, True)
    factors_step(state, params, middle, atr, close)
    if state.bars >= params.first_clustered:
        target_step(state, params, den)

    old_line = state.final.output
    old_trend = state.final.trend
    line = supertrend_step(state.final, middle, atr * state.target_factor, close)
    if math.isnan(old_line):
        state.perf_ama = line
    else:
        state.perf_ama += state.perf_idx * (line - state.perf_ama)
    state.close = close
    state.bars += 1

    out[0] = line
    out[1] = state.final.trend
    out[2] = state.target_factor
    out[3] = state.perf_idx
    out[4] = state.perf_ama
    out[5] = 0.0 if bar.filled != 0 or bar.index == 0 else state.final.trend - old_trend
