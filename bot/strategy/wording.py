"""Each condition and each optional gate in one sentence: the numbers that were compared, and what is lacking (strategy 2 and 9).

A sentence about a condition reads only what is kept with every decision (`evidence.EVIDENCE`) and the bar's close, so the
terminal, the page and `explain` tell the same of the same bar. ▲ and ▼ are bullish and bearish, · is undecided. Settings are
not kept with a decision: what depends on one is named without its number.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from bot.core.types import Side
from bot.strategy import rules
from bot.strategy.rules import Row, column

UNKNOWN: Final = "not known"
_Words = Callable[[Row, Side, bool | None], str]
ARROWS: Final = {1: "▲", -1: "▼", 0: "·"}


def number(value: float | None, digits: int = 1) -> str:
    """Return a number for a sentence; what is not known says so.

    >>> number(31.25), number(float("nan"))
    ('31.2', 'unknown')
    """
    return f"{value:.{digits}f}" if value is not None and math.isfinite(value) else "unknown"


def percent(value: float | None, digits: int = 1) -> str:
    """Return a share for a sentence.

    >>> percent(61.04), percent(61.04, 0), percent(float("nan"))
    ('61.0 %', '61 %', 'unknown')
    """
    return f"{number(value, digits)} %" if value is not None and math.isfinite(value) else number(value)


def price(value: float | None) -> str:
    """Return a price with eight digits, as many as float columns of klines are worth.

    >>> price(16750.120000001), price(0.00012345)
    ('16,750.12', '0.00012345')
    """
    return f"{value:,.8g}" if value is not None and math.isfinite(value) else "unknown"


def counted(bars: int) -> str:
    """Return a number of bars.

    >>> counted(1), counted(3)
    ('1 bar', '3 bars')
    """
    return f"{bars} bar{'' if bars == 1 else 's'}"


def explain_condition(values: Row, side: Side, condition: str, holds: bool | None) -> str:
    """Return what a condition compared on a closed bar, and what it lacks where it does not hold.

    Parameters
    ----------
    values
        Columns of `evidence.EVIDENCE` and `close`; what is absent or NaN is not known.
    condition
        One of `rules.CONDITIONS`.
    holds
        As it was decided; None where nothing was.

    >>> bar = {"om_hyperwave": 31.2, "om_signal": 30.1, "htf_smc_trend": 1.0, "htf_pac_trend": -1.0}
    >>> explain_condition(bar, Side.LONG, "hw_cross", True), explain_condition(bar, Side.SHORT, "hw_cross", False)
    ('HW 31.2 > 30.1: crossed below 50', 'HW 31.2 > 30.1: needs a cross above 50')
    >>> explain_condition(bar, Side.LONG, "htf", False), explain_condition(bar, Side.LONG, "conf", False)
    ('SMC ▲ PAC ▼: needs ▲', 'not known')
    """
    return _told(_CONDITIONS[condition], values, side, holds)


def explain_gate(values: Row, side: Side, gate: str, holds: bool | None) -> str:
    """Return what an optional gate compared on a closed bar, and what it lacks where it does not hold.

    Parameters
    ----------
    values
        All columns of the bar and `close`.
    gate
        One of `rules.GATES`.

    >>> explain_gate({"close": 99.0, "range_eq": 100.0}, Side.SHORT, "discount", False)
    'close 99 < 100, the middle of the 15m range: needs a close above'
    """
    return _told(_GATES[gate], values, side, holds)


def _told(words: _Words, values: Row, side: Side, holds: bool | None) -> str:
    try:
        return words(values, side, holds)
    except LookupError:
        return "" if holds is None else UNKNOWN


def _sentence(compared: str, holds: bool | None, *, needs: str) -> str:
    return f"{compared}: needs {needs}" if holds is False else compared


def _read(values: Row, *names: str) -> tuple[float, ...]:
    """Return columns; LookupError when one of them is not known."""
    found = tuple(column(values, name) for name in names)
    if not all(map(math.isfinite, found)):
        raise LookupError
    return found


def _arrow(direction: float) -> str:
    return ARROWS[(direction > 0) - (direction < 0)]


def _pair(left: float, right: float, show: Callable[[float], str] = number) -> str:
    return f"{show(left)} {'<' if left < right else '>' if left > right else '='} {show(right)}"


def _to(side: Side) -> str:
    return "above" if side is Side.LONG else "below"


# ---- the six conditions ---------------------------------------------------------------------------------------------


def _htf(values: Row, side: Side, holds: bool | None) -> str:
    smc, pac = _read(values, "htf_smc_trend", "htf_pac_trend")
    return _sentence(f"SMC {_arrow(smc)} PAC {_arrow(pac)}", holds, needs=ARROWS[side.sign])


def _ob(values: Row, side: Side, holds: bool | None) -> str:
    names = [f"{side.name.lower()}_ob_{each}" for each in ("id", "bottom", "top", "dominance", "rank")]
    if rules.block_hit(column(values, names[0])):
        bottom, top, dominance, rank = _read(values, *names[1:])
        return f"{price(bottom)}-{price(top)} · {percent(dominance, 0)} · rank {number(rank, 0)}"
    near = column(values, "pac_demand_top" if side is Side.LONG else "pac_supply_bottom")
    if math.isfinite(near):
        return _sentence(f"nearest {price(near)}", holds, needs="an eligible touch")
    return "" if holds is None else "no block on this side"


def _hw_cross(values: Row, side: Side, holds: bool | None) -> str:
    wave, signal = _read(values, "om_hyperwave", "om_signal")
    half = f"{_to(side.opposite)} {rules.HALF_LINE:g}"
    if holds:
        return f"HW {_pair(wave, signal)}: crossed {half}"
    before = rules.in_own_half(side.sign, wave) and side.sign * (wave - signal) > 0
    return _sentence(f"HW {_pair(wave, signal)}", holds, needs=f"{'a new' if before else 'a'} cross {half}")


def _no_overflow(values: Row, side: Side, holds: bool | None) -> str:
    flow, lower, upper = _read(values, "om_money_flow", "om_lower", "om_upper")
    for direction, limit in (("up", upper), ("down", lower)):
        if column(values, f"om_overflow_{direction}") == 1.0:
            return _sentence(f"MF {_pair(flow, limit)}, overflow {direction}", holds, needs="none")
    if holds is False:
        raise LookupError
    return f"MF {number(flow)} ({number(lower)} to {number(upper)}), no overflow"


def _conf(values: Row, side: Side, holds: bool | None) -> str:
    state, rating = _read(values, "so_state", "so_rating")
    needs = "rating, strength or age" if state == side.sign else ARROWS[side.sign]
    return _sentence(f"{_arrow(state)} rating {number(rating, 0)}", holds, needs=needs)


def _trail(values: Row, side: Side, holds: bool | None) -> str:
    line, direction = _read(values, "so_trail", "so_trail_dir")
    close = column(values, "close")
    if math.isnan(close):
        return f"{_arrow(direction)} line {price(line)}"
    needs = ARROWS[side.sign] if side.sign * (close - line) > 0 else _to(side)
    return _sentence(f"{_arrow(direction)} close {_pair(close, line, price)}", holds, needs=needs)


# ---- the optional gates ---------------------------------------------------------------------------------------------


def _discount(values: Row, side: Side, holds: bool | None) -> str:
    close, middle = _read(values, "close", "range_eq")
    compared = f"close {_pair(close, middle, price)}, the middle of the 15m range"
    return _sentence(compared, holds, needs=f"a close {_to(side.opposite)}")


def _money_flow_context(values: Row, side: Side, holds: bool | None) -> str:
    limit, other = ("upper", "down") if side is Side.LONG else ("lower", "up")
    flow, threshold, recent = _read(values, "om_money_flow", f"om_{limit}", f"om_recent_overflow_{other}")
    compared = f"MF {_pair(flow, threshold)}" + (f", overflow {other} just ended" if recent == 1.0 else "")
    return _sentence(compared, holds, needs=f"{_to(side)}, or an overflow {other} that just ended")


def _trend(values: Row, side: Side, holds: bool | None, *, name: str, direction: str) -> str:
    (points,) = _read(values, direction)
    return _sentence(f"{name} {_arrow(points)}", holds, needs=ARROWS[side.sign])


def _neo_cloud(values: Row, side: Side, holds: bool | None) -> str:
    lead, lag = _read(values, "so_neo_lead", "so_neo_lag")
    return _sentence(f"Neo Cloud lead {_pair(lead, lag, price)} lag", holds, needs=f"the lead {_to(side)}")


def _taker_side(values: Row, side: Side, holds: bool | None) -> str:
    return _takers(values, side, holds, f"more than {percent(rules.TAKER_MAJORITY)}")


def _taker_confirm(values: Row, side: Side, holds: bool | None) -> str:
    return _takers(values, side, holds, percent(column(values, f"{side.name.lower()}_ob_taker_threshold")))


def _takers(values: Row, side: Side, holds: bool | None, needs: str) -> str:
    name = side.name.lower()
    if not rules.block_hit(column(values, f"{name}_ob_id")):
        return "no block is hit"
    (share,) = _read(values, f"{name}_ob_taker")
    return _sentence(f"takers of the block {percent(share)}", holds, needs=needs)


_CONDITIONS: Final[Mapping[str, _Words]] = {
    "htf": _htf,
    "ob": _ob,
    "hw_cross": _hw_cross,
    "no_overflow": _no_overflow,
    "conf": _conf,
    "trail": _trail,
}
_GATES: Final[Mapping[str, _Words]] = {
    "discount": _discount,
    "money_flow_context": _money_flow_context,
    "trend_tracer_up": partial(_trend, name="Trend Tracer", direction="so_tracer_dir"),
    "trend_catcher_up": partial(_trend, name="Trend Catcher", direction="so_catcher_dir"),
    "neo_cloud_up": _neo_cloud,
    "taker_side": _taker_side,
    "taker_confirm": _taker_confirm,
}
