"""What more is known of one closed bar than each condition's sentence tells: since when, which blocks, volume, age.

Whether a condition or gate holds is read from the bar's own row, which the strategy acted on, and its sentence is the one that
the running bot shows (`strategy.wording`). What stands here is what only a look back over all bars can tell, with the numbers
as plain values. Settings are named as in config.toml.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from bot.config import Config
from bot.core.klines import Klines
from bot.core.types import Side
from bot.indicators.money_flow import FAST_VOLUME, VOLUME
from bot.market.store import format_time
from bot.strategy import rules
from bot.strategy.evidence import EVIDENCE
from bot.strategy.features import FeatureRow
from bot.strategy.rules import CONDITIONS, GATES, NAMES, gates_hold
from bot.strategy.wording import counted, explain_condition, explain_gate, number, percent, price

# Columns whose past is looked at, beside the conditions of both sides.
PAST = (
    *(f"{side}_{name}" for side in ("long", "short") for name in CONDITIONS),
    *("htf_smc_trend", "htf_pac_trend", "so_trail_dir"),
)


class Spell(NamedTuple):
    """For how many bars something has held, this one counted; or how many bars ago it last did. None: never."""

    holds: bool
    bars: int | None
    at_ms: int | None  # open of the first bar of the run, or of the last bar that had it


@dataclass(frozen=True)
class Seen:
    """One closed bar with everything that was known at its close."""

    config: Config
    bars: Klines  # gaps filled; the bar itself is the last
    row: FeatureRow
    previous: FeatureRow | None  # of the bar before; None at the start and after a reset
    state: Any  # the symbol's record, kernel SYMBOL
    clock: Any  # and CLOCK
    params: Any  # the record of settings, kernel PARAMS
    past: dict[str, np.ndarray]  # the columns PAST, one value a bar

    @property
    def close(self) -> float:
        """The bar's close."""
        return float(self.bars.close[-1])


@dataclass(frozen=True)
class Finding:
    """One condition or gate: whether it holds, why in a sentence, what more is known, and the numbers."""

    name: str
    tag: str
    holds: bool
    words: str
    detail: str
    values: dict[str, Any]
    spell: Spell | None = None
    required: bool = True


def spell(flags: np.ndarray, open_ms: np.ndarray) -> Spell:
    """Return how long the last of `flags` has been true, or since when it is not.

    >>> spell(np.array([True, False, True, True]), np.array([0, 10, 20, 30]))
    Spell(holds=True, bars=2, at_ms=20)
    >>> spell(np.array([True, False, False]), np.array([0, 10, 20]))
    Spell(holds=False, bars=2, at_ms=0)
    """
    last = len(flags) - 1
    holds = bool(flags[last])
    others = np.flatnonzero(~flags if holds else flags)
    if holds:
        first = int(others[-1]) + 1 if len(others) else 0
        return Spell(True, last - first + 1, int(open_ms[first]))
    if not len(others):
        return Spell(False, None, None)
    return Spell(False, last - int(others[-1]), int(open_ms[others[-1]]))


def _since(seen: Seen, column: str) -> str:
    """Return since when a direction is what it is."""
    run = spell(seen.past[column] == seen.row[column], seen.bars.open_ms)
    return f"since {format_time(run.at_ms or 0)} ({counted(run.bars or 0)})"


def _last_break_ms(seen: Seen) -> int | None:
    """Return the open of the 15m bar of the last break of PAC's structure; between resets no 15m bar is missing."""
    structure, bar = seen.state["htf"].pac.structure, seen.clock["htf"]
    if structure.trend == 0:
        return None
    return int(bar.open_ms) - int(bar.index - structure.break_index) * int(seen.params.rules.htf_ms)


def htf(seen: Seen, side: Side) -> tuple[str, dict[str, Any]]:
    """Since when the 15m structure of both readings is what it is, and the last break."""
    source, broken = seen.config.strategy.htf_source, _last_break_ms(seen)
    values = {
        "smc_trend": int(seen.row["htf_smc_trend"]),
        "pac_trend": int(seen.row["htf_pac_trend"]),
        "pac_break_ms": broken,
        "htf_open_ms": int(seen.clock["htf"].open_ms) if seen.clock["htf"]._bars else None,
        "source": source,
    }
    last = f"; last 15m break in PAC at {format_time(broken)}" if broken is not None else ""
    smc, pac = _since(seen, "htf_smc_trend"), _since(seen, "htf_pac_trend")
    return f"SMC {smc}, PAC {pac}{last}; htf_source {source}", values


def blocks(seen: Seen, side: Side) -> list[dict[str, Any]]:
    """Return the blocks of the side that could count as hit, newest first, each with what speaks against it.

    Those are the displayed ones and the few that were pushed off the display since their touch. The first without an
    obstacle is the hit.
    """
    strategy, show = seen.config.strategy, int(seen.params.pac.show)
    book = seen.state.ltf.pac.blocks
    own = book.demand if side is Side.LONG else book.supply
    index = int(seen.clock.ltf.index)
    split = int(seen.params.pac.split)
    filled = bool(seen.bars.filled[-1])
    shown = {int(own.shown_slot[i]) for i in range(int(own.shown))}
    found = []
    for back in range(min(int(own.active), show + strategy.tap_window)):
        slot = int(own.order[own.active - 1 - back])
        edges = sorted((float(own.sign * own.far[slot]), float(own.sign * own.near[slot])))
        dominance, rank = float(own.dominance[split, slot]), float(own.rank[slot])
        touched = int(own.touched[slot])
        since = index - touched if touched >= 0 else None
        against = []
        if since is None:
            against.append("not touched since birth")
        elif since >= strategy.tap_window:
            against.append(f"last touched {counted(since)} ago (window {strategy.tap_window}, this bar counted)")
        if not dominance >= strategy.min_dominance:
            against.append(f"dominance {percent(dominance)} below {strategy.min_dominance:g} %")
        if not rank >= strategy.min_rank:
            against.append(f"rank {number(rank, 0)} below {strategy.min_rank:g}")
        if filled:
            against.append("a filler bar touches nothing")
        if slot in shown or not against:
            found.append(
                {
                    "id": int(own.id[slot]),
                    "bottom": edges[0],
                    "top": edges[1],
                    "dominance": dominance,
                    "rank": rank,
                    "touches": int(own.touches[slot]),
                    "bars_since_touch": since,
                    "age": index - int(own.born[slot]),
                    "born_ms": int(own.born_ms[slot]),
                    "displayed": slot in shown,
                    "distance_percent": 100.0
                    * side.sign
                    * (seen.close - float(own.sign * own.near[slot]))
                    / seen.close,
                    "against": against,
                }
            )
    return found


def block_line(block: dict[str, Any]) -> str:
    """Return one block that counts for no hit: its bounds, how far the close is from it, and what speaks against it."""
    where = "away" if block["distance_percent"] >= 0 else "inside or beyond"
    return (
        f"block {block['id']}: {price(block['bottom'])}-{price(block['top'])}, {abs(block['distance_percent']):.2f} % {where}, "
        f"dominance {percent(block['dominance'])}, rank {number(block['rank'], 0)}, {counted(block['age'])} old: "
        f"{', '.join(block['against'])}"
    )


def ob(seen: Seen, side: Side) -> tuple[str, dict[str, Any]]:
    """Block that counts as hit, or the one that is nearest to it."""
    strategy, row, name = seen.config.strategy, seen.row, side.name.lower()
    candidates = blocks(seen, side)
    values: dict[str, Any] = {each: getattr(strategy, each) for each in ("tap_window", "min_dominance", "min_rank")}
    settings = ", ".join(f"{each} {value:g}" for each, value in values.items())
    values |= {"mitigated_now": int(row["pac_ob_mitigated_n"]), "hidden_now": int(row["pac_ob_hidden_n"])}
    values["blocks"] = candidates
    if not math.isnan(row[f"{name}_ob_id"]):
        hit = next(block for block in candidates if block["id"] == int(row[f"{name}_ob_id"]))
        columns = "id bottom top dominance rank share taker taker_threshold refined_bottom refined_top"
        values |= {key: row[f"{name}_ob_{key}"] for key in columns.split()}
        values |= {"bars_since_touch": hit["bars_since_touch"], "born_ms": hit["born_ms"], "touches": hit["touches"]}
        height = (hit["top"] - hit["bottom"]) / row["atr14"]
        ago = "on this bar" if hit["bars_since_touch"] == 0 else f"{counted(hit['bars_since_touch'])} ago"
        return (
            f"block {hit['id']}, {number(height, 2)} ATR14 high, touched {ago}, born {format_time(hit['born_ms'])}; {settings}",
            values,
        )
    if not candidates:
        return settings, values
    near = min(candidates, key=lambda block: (len(block["against"]), abs(block["distance_percent"])))
    return f"closest to a hit of {len(candidates)}: {block_line(near)}; {settings}", values


def _before(seen: Seen, column: str) -> float:
    return seen.previous[column] if seen.previous is not None else math.nan


def hw_cross(seen: Seen, side: Side) -> tuple[str, dict[str, Any]]:
    """HyperWave and its signal on the bar before."""
    wave, signal = _before(seen, "om_hyperwave"), _before(seen, "om_signal")
    values = {
        "hyperwave": seen.row["om_hyperwave"],
        "signal": seen.row["om_signal"],
        "previous_hyperwave": wave,
        "previous_signal": signal,
        "level": rules.HALF_LINE,
    }
    return f"on the bar before HW {number(wave)}, signal {number(signal)}", values


def relative_volume(seen: Seen) -> float:
    """Return the mean volume of the last 6 bars over that of money flow's length, as overflow compares it."""
    flow = seen.state.ltf.om.flow
    fast = flow.fast_volume
    slow = float(flow.sums.total[VOLUME]) / seen.config.oscillator.money_flow_length
    if not fast.full or not slow > 0.0:
        return math.nan
    return float(fast.head + fast.ring[fast.slot]) / FAST_VOLUME / slow


def no_overflow(seen: Seen, side: Side) -> tuple[str, dict[str, Any]]:
    """Money flow on the bar before, and the volume that an overflow needs."""
    row, oscillator = seen.row, seen.config.oscillator
    before = _before(seen, "om_money_flow")
    values: dict[str, Any] = {
        "money_flow": row["om_money_flow"],
        "previous_money_flow": before,
        "upper": row["om_upper"],
        "lower": row["om_lower"],
        "relative_volume": relative_volume(seen),
        "volume_ratio": oscillator.overflow_volume_ratio,
        "overflow_up": int(row["om_overflow_up"]),
        "overflow_down": int(row["om_overflow_down"]),
        "overflow_value": row["om_overflow_value"],
        "overflow_side": oscillator.overflow_side,
    }
    return (
        f"on the bar before MF {number(before)}; relative volume {number(values['relative_volume'], 2)}, "
        f"overflow_volume_ratio {oscillator.overflow_volume_ratio:g}, overflow_side {oscillator.overflow_side}",
        values,
    )


def conf(seen: Seen, side: Side) -> tuple[str, dict[str, Any]]:
    """Strength and age of the last confirmation signal."""
    row, strategy = seen.row, seen.config.strategy
    state, rating, age = int(row["so_state"]), row["so_rating"], row["so_age"]
    strong = row["so_strong"] == 1.0
    set_to = {each: getattr(strategy, each) for each in ("min_rating", "require_strong", "conf_max_age")}
    settings = ", ".join(f"{each} {value}" for each, value in set_to.items())
    values = {"state": state, "rating": rating, "age": age, "strong": int(strong), "sensitivity": row["so_sensitivity"]}
    values |= set_to
    if state == 0:
        return f"no confirmation signal yet; {settings}", values
    old = f"{counted(int(age))} old" if math.isfinite(age) else "from before the first signal"
    return f"{'strong' if strong else 'not strong'}, {old}; {settings}", values


def trail(seen: Seen, side: Side) -> tuple[str, dict[str, Any]]:
    """Since when Smart Trail points its way, and how far the close is from its line."""
    line, mode = seen.row["so_trail"], seen.config.strategy.trail_mode
    values = {"line": line, "direction": int(seen.row["so_trail_dir"]), "close": seen.close, "mode": mode}
    distance = f"close {100.0 * (seen.close - line) / seen.close:+.2f} % from the line; " if math.isfinite(line) else ""
    return f"direction {_since(seen, 'so_trail_dir')}; {distance}trail_mode {mode}", values


_CONDITIONS = {"htf": htf, "ob": ob, "hw_cross": hw_cross, "no_overflow": no_overflow, "conf": conf, "trail": trail}


def conditions(seen: Seen, side: Side) -> list[Finding]:
    """Return the six conditions of a side, in the strategy's order."""
    kept = {name: seen.row[name] for name in EVIDENCE} | {"close": seen.close}  # what the running bot shows
    found = []
    for name, tag in zip(CONDITIONS, NAMES[side], strict=True):
        column = f"{side.name.lower()}_{name}"
        run = spell(seen.past[column] == 1.0, seen.bars.open_ms)
        words = explain_condition(kept, side, name, run.holds)
        found.append(Finding(name, tag, run.holds, words, *_CONDITIONS[name](seen, side), run))
    return found


def gates(seen: Seen, side: Side) -> list[Finding]:
    """Return the optional gates of a side: always computed, a condition only where the settings require it."""
    row, name = seen.row, side.name.lower()
    limit, other = ("upper", "down") if side is Side.LONG else ("lower", "up")
    columns = {
        "discount": {"close": "close", "range_eq": "range_eq"},
        "money_flow_context": {
            "money_flow": "om_money_flow",
            "threshold": f"om_{limit}",
            "recent_overflow": f"om_recent_overflow_{other}",
        },
        "trend_tracer_up": {"direction": "so_tracer_dir", "line": "so_trend_tracer"},
        "trend_catcher_up": {"direction": "so_catcher_dir", "line": "so_trend_catcher"},
        "neo_cloud_up": {"lead": "so_neo_lead", "lag": "so_neo_lag"},
        "taker_side": {"taker": f"{name}_ob_taker"},
        "taker_confirm": {"taker": f"{name}_ob_taker", "threshold": f"{name}_ob_taker_threshold"},
    }
    whole = {**row.as_dict(), "close": seen.close}
    required = seen.config.strategy.gates.model_dump()
    found = []
    for i, gate in enumerate(GATES):
        holds = bool(gates_hold(int(row[f"{name}_gates"]), 1 << i))
        words = explain_gate(whole, side, gate, holds)
        values = {key: whole[column] for key, column in columns[gate].items()}
        values |= {key: int(values[key]) for key in ("direction", "recent_overflow") if key in values}
        found.append(Finding(gate, gate, holds, words, "", values, required=bool(required[gate])))
    return found
