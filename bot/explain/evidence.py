"""What stood behind one closed bar: the six conditions and the gates of either side, each with the numbers that were compared.

The answer (holds or not) is read from the bar's own row, which the strategy acted on; the numbers say why. A condition
also tells for how long it has held, or when it last did. Long and short are one text with the side's words put in.
Conditions and gates: strategy 2.
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
from bot.strategy.features import FeatureRow
from bot.strategy.rules import CONDITIONS, GATES, NAMES, gates_hold

TREND = {1: "bullish", -1: "bearish", 0: "undecided"}
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
    """One condition or gate: whether it holds, why in a sentence, and the numbers."""

    name: str
    tag: str
    holds: bool
    words: str
    values: dict[str, Any]
    spell: Spell | None = None
    required: bool = True


def number(value: float | None, digits: int = 1) -> str:
    """Return a number for a sentence; what is not known yet says so.

    >>> number(31.25), number(float("nan"))
    ('31.2', 'unknown')
    """
    return f"{value:.{digits}f}" if value is not None and math.isfinite(value) else "unknown"


def percent(value: float | None) -> str:
    """Return a share for a sentence.

    >>> percent(61.04), percent(float("nan"))
    ('61.0 %', 'unknown')
    """
    return f"{number(value)} %" if value is not None and math.isfinite(value) else number(value)


def counted(bars: int) -> str:
    """Return a number of bars.

    >>> counted(1), counted(3)
    ('1 bar', '3 bars')
    """
    return f"{bars} bar{'' if bars == 1 else 's'}"


def price(value: float | None) -> str:
    """Return a price with eight digits, as many as float columns of klines are worth.

    >>> price(16750.120000001), price(0.00012345)
    ('16750.12', '0.00012345')
    """
    return f"{value:.8g}" if value is not None and math.isfinite(value) else "unknown"


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


def _trend_words(seen: Seen, label: str, column: str) -> str:
    trend = int(seen.row[column])
    if trend == 0:
        return f"{label} {TREND[0]}"
    run = spell(seen.past[column] == trend, seen.bars.open_ms)
    return f"{label} {TREND[trend]} since the bar at {format_time(run.at_ms or 0)} ({counted(run.bars or 0)})"


def _last_break_ms(seen: Seen) -> int | None:
    """Return the open of the 15m bar of the last break of PAC's structure; between resets no 15m bar is missing."""
    structure, bar = seen.state["htf"].pac.structure, seen.clock["htf"]
    if structure.trend == 0:
        return None
    return int(bar.open_ms) - int(bar.index - structure.break_index) * int(seen.params.rules.htf_ms)


def htf(seen: Seen, side: Side) -> tuple[str, dict[str, Any]]:
    """15m structure of both readings, since when, and which of them must agree."""
    wanted = TREND[side.sign]
    source = seen.config.strategy.htf_source
    needs = {"both": f"both must be {wanted}"}.get(source, f"{source.upper()} must be {wanted}")
    broken = _last_break_ms(seen)
    last = f"; last 15m break in PAC at {format_time(broken)}" if broken is not None else ""
    smc, pac = _trend_words(seen, "SMC", "htf_smc_trend"), _trend_words(seen, "PAC", "htf_pac_trend")
    values = {
        "smc_trend": int(seen.row["htf_smc_trend"]),
        "pac_trend": int(seen.row["htf_pac_trend"]),
        "pac_break_ms": broken,
        "htf_open_ms": int(seen.clock["htf"].open_ms) if seen.clock["htf"]._bars else None,
        "source": source,
    }
    return f"15m structure: {smc}, {pac}; {needs}{last}", values


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


def ob(seen: Seen, side: Side) -> tuple[str, dict[str, Any]]:
    """Return the block that counts as hit, or why none does."""
    strategy, row, name = seen.config.strategy, seen.row, side.name.lower()
    kind = "demand" if side is Side.LONG else "supply"
    candidates = blocks(seen, side)
    values: dict[str, Any] = {
        "tap_window": strategy.tap_window,
        "min_dominance": strategy.min_dominance,
        "min_rank": strategy.min_rank,
        "mitigated_now": int(row["pac_ob_mitigated_n"]),
        "hidden_now": int(row["pac_ob_hidden_n"]),
        "blocks": candidates,
    }
    if not math.isnan(row[f"{name}_ob_id"]):
        hit = next(block for block in candidates if block["id"] == int(row[f"{name}_ob_id"]))
        values |= {key: row[f"{name}_ob_{key}"] for key in ("id", "bottom", "top", "dominance", "rank", "share")}
        values |= {
            key: row[f"{name}_ob_{key}"] for key in ("taker", "taker_threshold", "refined_bottom", "refined_top")
        }
        values |= {"bars_since_touch": hit["bars_since_touch"], "born_ms": hit["born_ms"], "touches": hit["touches"]}
        height = (hit["top"] - hit["bottom"]) / row["atr14"]
        ago = "on this bar" if hit["bars_since_touch"] == 0 else f"{counted(hit['bars_since_touch'])} ago"
        words = (
            f"{kind} block {hit['id']}, {price(hit['bottom'])} to {price(hit['top'])} ({number(height, 2)} ATR14 high), "
            f"touched {ago} (window {strategy.tap_window}); dominance {percent(hit['dominance'])} "
            f"(needs {strategy.min_dominance:g}), rank {number(hit['rank'], 0)} (needs {strategy.min_rank:g}), "
            f"born {format_time(hit['born_ms'])}"
        )
        return words, values
    if not candidates:
        return f"no {kind} block is displayed", values
    near = min(candidates, key=lambda block: (len(block["against"]), abs(block["distance_percent"])))
    place = f"{abs(near['distance_percent']):.2f} % {'from' if near['distance_percent'] >= 0 else 'inside or beyond'}"
    words = (
        f"no eligible {kind} block of {len(candidates)} was touched within {strategy.tap_window} bars; closest to it: "
        f"block {near['id']}, {price(near['bottom'])} to {price(near['top'])}, the close {place} its near edge: "
        f"{', '.join(near['against'])}"
    )
    return words, values


def hw_cross(seen: Seen, side: Side) -> tuple[str, dict[str, Any]]:
    """HyperWave against its signal, on this bar and the one before, and the half it is in."""
    row, before, up = seen.row, seen.previous, side is Side.LONG
    wave, signal = row["om_hyperwave"], row["om_signal"]
    wave1 = before["om_hyperwave"] if before is not None else math.nan
    signal1 = before["om_signal"] if before is not None else math.nan
    values = {
        "hyperwave": wave,
        "signal": signal,
        "previous_hyperwave": wave1,
        "previous_signal": signal1,
        "level": rules.HALF_LINE,
    }
    numbers = f"HyperWave {number(wave)} (before {number(wave1)}), signal {number(signal)} (before {number(signal1)})"
    needs = f"needs a cross {'up below' if up else 'down above'} {rules.HALF_LINE:g}"
    crossed = row["om_cross_up" if up else "om_cross_down"] == 1.0
    if rules.wave_crossed(side.sign, float(crossed), wave):
        return f"{numbers}: crossed {'up below' if up else 'down above'} {rules.HALF_LINE:g}", values
    if crossed:
        return f"{numbers}: crossed {'up' if up else 'down'}, but in the wrong half; {needs}", values
    return f"{numbers}: no cross on this bar; {needs}", values


def relative_volume(seen: Seen) -> float:
    """Return the mean volume of the last 6 bars over that of money flow's length, as overflow compares it."""
    flow = seen.state.ltf.om.flow
    fast = flow.fast_volume
    slow = float(flow.sums.total[VOLUME]) / seen.config.oscillator.money_flow_length
    if not fast.full or not slow > 0.0:
        return math.nan
    return float(fast.head + fast.ring[fast.slot]) / FAST_VOLUME / slow


def no_overflow(seen: Seen, side: Side) -> tuple[str, dict[str, Any]]:
    """Money flow, its thresholds and the volume, and which overflow forbids an entry."""
    row, oscillator = seen.row, seen.config.oscillator
    before = seen.previous["om_money_flow"] if seen.previous is not None else math.nan
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
    numbers = (
        f"money flow {number(values['money_flow'])} (before {number(before)}), thresholds {number(values['lower'])} and "
        f"{number(values['upper'])}, relative volume {number(values['relative_volume'], 2)} "
        f"(an overflow needs more than {oscillator.overflow_volume_ratio:g})"
    )
    if row["om_ready"] != 1.0:
        return f"{numbers}: overflow is not known yet", values
    active = [name for name in ("up", "down") if values[f"overflow_{name}"]]
    which = "either side" if oscillator.overflow_side == "both" else "the trade's own side"
    state = f"overflow {' and '.join(active)} is active" if active else "no overflow"
    return f"{numbers}: {state}; one on {which} forbids", values


def conf(seen: Seen, side: Side) -> tuple[str, dict[str, Any]]:
    """Return the last confirmation signal with its rating and age."""
    row, strategy = seen.row, seen.config.strategy
    state, rating, age = int(row["so_state"]), row["so_rating"], row["so_age"]
    strong = row["so_strong"] == 1.0
    values = {
        "state": state,
        "rating": rating,
        "age": age,
        "strong": int(strong),
        "sensitivity": row["so_sensitivity"],
        "min_rating": strategy.min_rating,
        "require_strong": strategy.require_strong,
        "conf_max_age": strategy.conf_max_age,
    }
    needs = f"needs {TREND[side.sign]} with rating {strategy.min_rating} or more"
    needs += ", strong" if strategy.require_strong else ""
    needs += f", at most {strategy.conf_max_age} bars old" if strategy.conf_max_age else ""
    if state == 0:
        return f"no confirmation signal yet; {needs}", values
    kind = f"{'strong ' if strong else ''}{TREND[state]}"
    old = f"{counted(int(age))} old" if math.isfinite(age) else "from before the first signal"
    return f"last signal {kind}, rating {number(rating, 0)}, {old}; {needs}", values


def trail(seen: Seen, side: Side) -> tuple[str, dict[str, Any]]:
    """Smart Trail's line and direction against the close."""
    row, mode = seen.row, seen.config.strategy.trail_mode
    line, direction = row["so_trail"], int(row["so_trail_dir"])
    values = {"line": line, "direction": direction, "close": seen.close, "mode": mode}
    where = "above" if side is Side.LONG else "below"
    needs = f"needs the close {where} the line" + ("" if mode == "price" else f" and direction {TREND[side.sign]}")
    if not math.isfinite(line):
        return f"Smart Trail is not ready; {needs}", values
    run = spell(seen.past["so_trail_dir"] == direction, seen.bars.open_ms)
    held = f" for {counted(run.bars or 0)}" if direction else ""
    distance = 100.0 * (seen.close - line) / seen.close
    words = f"line {price(line)} {TREND[direction]}{held}, close {price(seen.close)} ({distance:+.2f} %); {needs}"
    return words, values


_CONDITIONS = {"htf": htf, "ob": ob, "hw_cross": hw_cross, "no_overflow": no_overflow, "conf": conf, "trail": trail}


def conditions(seen: Seen, side: Side) -> list[Finding]:
    """Return the six conditions of a side, in the strategy's order."""
    found = []
    for name, tag in zip(CONDITIONS, NAMES[side], strict=True):
        column = f"{side.name.lower()}_{name}"
        words, values = _CONDITIONS[name](seen, side)
        run = spell(seen.past[column] == 1.0, seen.bars.open_ms)
        found.append(Finding(name, tag, seen.row[column] == 1.0, words, values, run))
    return found


def gates(seen: Seen, side: Side) -> list[Finding]:
    """Return the optional gates of a side: always computed, a condition only where the settings require it."""
    row, name, long = seen.row, side.name.lower(), side is Side.LONG
    middle, flow = row["range_eq"], row["om_money_flow"]
    level = row["om_upper" if long else "om_lower"]
    recent = int(row["om_recent_overflow_down" if long else "om_recent_overflow_up"])
    taker, threshold = row[f"{name}_ob_taker"], row[f"{name}_ob_taker_threshold"]
    lead, lag = row["so_neo_lead"], row["so_neo_lag"]
    tracer, catcher = int(row["so_tracer_dir"]), int(row["so_catcher_dir"])
    block = "" if math.isfinite(row[f"{name}_ob_id"]) else " (no block is hit)"
    told: dict[str, tuple[str, dict[str, Any]]] = {
        "discount": (
            f"close {price(seen.close)}, middle of the 15m range {price(middle)}: needs it {'below' if long else 'above'}",
            {"close": seen.close, "range_eq": middle},
        ),
        "money_flow_context": (
            f"money flow {number(flow)}, threshold {number(level)}: needs it {'above' if long else 'below'}, or an overflow "
            f"{'down' if long else 'up'} that ended within 5 bars ({'yes' if recent else 'no'})",
            {"money_flow": flow, "threshold": level, "recent_overflow": recent},
        ),
        "trend_tracer_up": (f"Trend Tracer {TREND[tracer]}", {"direction": tracer, "line": row["so_trend_tracer"]}),
        "trend_catcher_up": (
            f"Trend Catcher {TREND[catcher]}",
            {"direction": catcher, "line": row["so_trend_catcher"]},
        ),
        "neo_cloud_up": (f"Neo Cloud lead {price(lead)}, lag {price(lag)}", {"lead": lead, "lag": lag}),
        "taker_side": (
            f"taker share of the block {percent(taker)}: needs more than {rules.TAKER_MAJORITY:g} %{block}",
            {"taker": taker},
        ),
        "taker_confirm": (
            "no block is hit" if block else f"taker share of the block {percent(taker)}: needs {percent(threshold)}",
            {"taker": taker, "threshold": threshold},
        ),
    }
    bits = int(row[f"{name}_gates"])
    required = seen.config.strategy.gates.model_dump()
    return [
        Finding(gate, gate, bool(gates_hold(bits, 1 << i)), *told[gate], required=bool(required[gate]))
        for i, gate in enumerate(GATES)
    ]
