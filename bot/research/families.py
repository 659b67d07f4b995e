"""The five indicator families, each stepped through history by itself.

The steps and the order inside a bar are those of live trading; only the loop around them is another, so that a family
can be computed without the others. `research.cache` keeps the results.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from bot.core.jit import kernel
from bot.indicators import oscillator, overlays, supertrend
from bot.indicators.volatility import bar_step
from bot.structure import pac, smc

# What the strategy and its explanations read of each family; the rest of the row is computed and let go.
WANTED: Final[dict[str, tuple[str, ...]]] = {
    "smc": (
        "smc_internal_trend",
        "smc_trailing_top",
        "smc_trailing_bottom",
        "smc_int_bull_choch",
        "smc_int_bear_choch",
    ),
    "sta": ("sta_ts", "sta_os"),
    "pac": tuple(
        name
        for name in pac.COLUMNS
        if name.startswith(("long_ob_", "short_ob_"))
        or name in ("pac_trend", "pac_event", "pac_dir", "pac_demand_top", "pac_demand_bottom")
        or name in ("pac_supply_top", "pac_supply_bottom")
    ),
    "om": (
        *("om_money_flow", "om_upper", "om_lower", "om_overflow_up", "om_overflow_down", "om_hyperwave", "om_signal"),
        *("om_cross_up", "om_cross_down", "om_ready", "om_recent_overflow_up", "om_recent_overflow_down"),
    ),
    "so": (
        *(
            "so_state",
            "so_rating",
            "so_age",
            "so_strong",
            "so_trail",
            "so_trail_dir",
            "so_tracer_dir",
            "so_catcher_dir",
        ),
        *("so_neo_lead", "so_neo_lag"),
    ),
}


@kernel
def context_run(context: Any, open_ms: Any, bars: Any, filled: Any, out: Any) -> None:
    """Step the bar context alone; `out` takes ATR14."""
    for i in range(open_ms.shape[0]):
        bar_step(
            context[0], open_ms[i], bars[0, i], bars[1, i], bars[2, i], bars[3, i], bars[4, i], bars[5, i], filled[i]
        )
        out[0, i] = context[0].atr14


@kernel
def smc_run(
    state: Any, params: Any, context: Any, open_ms: Any, bars: Any, filled: Any, keep: Any, scratch: Any, out: Any
) -> None:
    for i in range(open_ms.shape[0]):
        bar_step(
            context[0], open_ms[i], bars[0, i], bars[1, i], bars[2, i], bars[3, i], bars[4, i], bars[5, i], filled[i]
        )
        smc.smc_step(state[0], params[0], context[0], scratch)
        for j in range(keep.shape[0]):
            out[j, i] = scratch[keep[j]]


@kernel
def sta_run(
    state: Any, params: Any, context: Any, open_ms: Any, bars: Any, filled: Any, keep: Any, scratch: Any, out: Any
) -> None:
    for i in range(open_ms.shape[0]):
        bar_step(
            context[0], open_ms[i], bars[0, i], bars[1, i], bars[2, i], bars[3, i], bars[4, i], bars[5, i], filled[i]
        )
        supertrend.sta_step(state[0], params[0], context[0], scratch)
        for j in range(keep.shape[0]):
            out[j, i] = scratch[keep[j]]


@kernel
def pac_run(
    state: Any, params: Any, context: Any, open_ms: Any, bars: Any, filled: Any, keep: Any, scratch: Any, out: Any
) -> None:
    for i in range(open_ms.shape[0]):
        bar_step(
            context[0], open_ms[i], bars[0, i], bars[1, i], bars[2, i], bars[3, i], bars[4, i], bars[5, i], filled[i]
        )
        pac.pac_step(state[0], params[0], context[0], scratch)
        for j in range(keep.shape[0]):
            out[j, i] = scratch[keep[j]]


@kernel
def om_run(
    state: Any, params: Any, context: Any, open_ms: Any, bars: Any, filled: Any, keep: Any, scratch: Any, out: Any
) -> None:
    for i in range(open_ms.shape[0]):
        bar_step(
            context[0], open_ms[i], bars[0, i], bars[1, i], bars[2, i], bars[3, i], bars[4, i], bars[5, i], filled[i]
        )
        oscillator.om_step(state[0], params[0], context[0], scratch)
        for j in range(keep.shape[0]):
            out[j, i] = scratch[keep[j]]


@kernel
def so_run(
    state: Any, params: Any, context: Any, open_ms: Any, bars: Any, filled: Any, keep: Any, scratch: Any, out: Any
) -> None:
    for i in range(open_ms.shape[0]):
        bar_step(
            context[0], open_ms[i], bars[0, i], bars[1, i], bars[2, i], bars[3, i], bars[4, i], bars[5, i], filled[i]
        )
        overlays.so_step(state[0], params[0], context[0], scratch)
        for j in range(keep.shape[0]):
            out[j, i] = scratch[keep[j]]


@dataclass(frozen=True, slots=True)
class Family:
    """One family: its step over history, the type of its memory and the names it writes."""

    run: Callable[..., None]
    reset: Callable[..., None]
    state: np.dtype
    columns: tuple[str, ...]
    wanted: tuple[str, ...]


FAMILIES: Final = {
    "smc": Family(smc_run, smc.smc_reset, smc.STATE, smc.COLUMNS, WANTED["smc"]),
    "sta": Family(sta_run, supertrend.sta_reset, supertrend.STATE, supertrend.COLUMNS, WANTED["sta"]),
    "pac": Family(pac_run, pac.pac_reset, pac.STATE, pac.COLUMNS, WANTED["pac"]),
    "om": Family(om_run, oscillator.om_reset, oscillator.STATE, oscillator.COLUMNS, WANTED["om"]),
    "so": Family(so_run, overlays.so_reset, overlays.STATE, overlays.COLUMNS, WANTED["so"]),
}
