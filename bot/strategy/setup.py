"""From a signal to prices: where to get in, where the trade is wrong, where to take profit (strategy 4).

`entry` is the middle of the block that was touched, `stop` lies beyond its far edge by 0.6 or 0.75 ATR14, the wider one for
a block of 1.2 ATR14 and more. R is the distance between the two. SHORT is the same formula with the sign turned.
"""

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from bot.config import Trade as TradeConfig
from bot.core.types import Denied, Instrument, Round, Side


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


@dataclass(frozen=True, slots=True)
class TradePlan:
    """Prices of a setup, and the block that they come from."""

    side: Side
    sequence: int  # number of the bar that gave the signal: close time / interval
    signal_ms: int
    block_id: float
    block_bottom: Decimal
    block_top: Decimal
    atr: float
    entry: Decimal
    stop: Decimal
    tp1: Decimal  # as planned; the real ones follow the average fill
    tp2: Decimal
    catastrophe: Decimal

    @property
    def risk_per_unit(self) -> Decimal:
        """R: |entry - stop| of one unit, in quote."""
        return abs(self.entry - self.stop)

    @property
    def least_risk_per_unit(self) -> Decimal:
        """The smallest R: from the block's far edge to the stop; a fill beyond that edge makes no result larger in R."""
        edge = self.block_bottom if self.side is Side.LONG else self.block_top
        return abs(edge - self.stop)


def stop_distance(bottom: float, top: float, atr: float, config: TradeConfig) -> float:
    """Return how far beyond the block's far edge the stop lies.

    >>> stop_distance(100.0, 101.0, 1.0, TradeConfig()), stop_distance(100.0, 101.2, 1.0, TradeConfig())
    (0.6, 0.75)
    """
    narrow = top - bottom < config.stop_height_atr * atr
    return (config.stop_atr_small if narrow else config.stop_atr_large) * atr


def targets(side: Side, average: Decimal, stop: Decimal, instrument: Instrument, config: TradeConfig) -> list[Decimal]:
    """Return the prices of both targets, rounded toward the entry."""
    distance = abs(average - stop)
    rounding = Round.DOWN if side is Side.LONG else Round.UP
    return [
        instrument.price(average + side.sign * Decimal(str(multiple)) * distance, rounding)
        for multiple in (config.tp1_r, config.tp2_r)
    ]


def plan(
    row: Row,
    side: Side,
    *,
    signal_ms: int,
    sequence: int,
    instrument: Instrument,
    config: TradeConfig,
    refined: bool,
) -> TradePlan | Denied:
    """Return the plan of a signal, or why there is none.

    Parameters
    ----------
    signal_ms
        Close time of the bar.
    refined
        Use the block's edges as refined by gaps and pools.
    """
    name = side.name.lower()
    kind = "ob_refined" if refined else "ob"
    bottom, top = column(row, f"{name}_{kind}_bottom"), column(row, f"{name}_{kind}_top")
    atr = column(row, "atr14")
    if not (math.isfinite(bottom) and math.isfinite(top) and math.isfinite(atr) and top > bottom > 0 and atr > 0):
        return Denied("block", f"no usable block: bottom {bottom}, top {top}, ATR14 {atr}")
    away = Round.DOWN if side is Side.LONG else Round.UP
    far_edge = bottom if side is Side.LONG else top
    entry = instrument.price((bottom + top) / 2, away)
    stop = instrument.price(far_edge - side.sign * stop_distance(bottom, top, atr, config), away)
    if side.sign * (entry - stop) <= 0 or stop <= 0:
        return Denied("block", f"entry {entry} and stop {stop} leave no distance on this tick")
    first, second = targets(side, entry, stop, instrument, config)
    catastrophe = instrument.price(stop - side.sign * Decimal(str(config.catastrophe_r)) * abs(entry - stop), away)
    if catastrophe <= 0:
        return Denied("block", f"the catastrophe stop would be at {catastrophe}")
    return TradePlan(
        side,
        sequence,
        signal_ms,
        column(row, f"{name}_ob_id"),
        instrument.price(bottom),
        instrument.price(top),
        atr,
        entry,
        stop,
        first,
        second,
        catastrophe,
    )
