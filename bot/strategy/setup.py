"""From a signal to prices: entry, stop and targets (strategy 4).

`entry` is the middle of the block that was touched, `stop` is beyond its far edge by 0.6 or 0.75 ATR14, the larger one for a
block of at least 1.2 ATR14. R is the distance between the two. SHORT is the same formula with the opposite sign.
"""

import math
from dataclasses import dataclass
from decimal import Decimal

from bot.config import TradeSettings as TradeConfig
from bot.core.types import Denied, Instrument, Side
from bot.strategy import rules
from bot.strategy.rules import Row, column


@dataclass(frozen=True, slots=True)
class TradePlan:
    """Prices of a setup, and the block that they derive from."""

    side: Side
    sequence: int  # number of the signal bar: close time / interval
    signal_ms: int
    block_id: float
    block_bottom: Decimal
    block_top: Decimal
    atr: float
    entry: Decimal
    stop: Decimal
    tp1: Decimal  # as planned; the actual targets follow the average fill
    tp2: Decimal
    catastrophe: Decimal

    @property
    def risk_per_unit(self) -> Decimal:
        """R: |entry - stop| of one unit, in quote."""
        return abs(self.entry - self.stop)

    @property
    def least_risk_per_unit(self) -> Decimal:
        """The smallest R: from the block's far edge to the stop; a fill beyond that edge does not inflate results in R."""
        edge = self.block_bottom if self.side is Side.LONG else self.block_top
        return abs(edge - self.stop)


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
    sequence
        Number of the signal bar: close time / interval.
    refined
        Use the block's edges as refined by gaps and pools.
    """
    name = side.name.lower()
    kind = "ob_refined" if refined else "ob"
    bottom, top = column(row, f"{name}_{kind}_bottom"), column(row, f"{name}_{kind}_top")
    atr = column(row, "atr14")
    if not (math.isfinite(bottom) and math.isfinite(top) and math.isfinite(atr) and top > bottom > 0 and atr > 0):
        return Denied("block", f"no usable block: bottom {bottom}, top {top}, ATR14 {atr}")
    entry, stop = rules.entry_and_stop(side, bottom, top, atr, instrument=instrument, config=config)
    if side.sign * (entry - stop) <= 0 or stop <= 0:
        return Denied("block", f"entry {entry} and stop {stop} leave no distance on this tick")
    first, second = rules.targets(side, entry, stop, instrument, config)
    catastrophe = rules.catastrophe_stop(side, entry, stop, instrument, config)
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
