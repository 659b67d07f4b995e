"""Findings drawn on the chart: order blocks from creation to end, breaks of structure, equal highs and lows.

For each closed bar the indicators report what was created, broken or confirmed on it. A drawing also needs the other end:
the candle of a block, the bar on which it was mitigated or covered by a newer one, the pivot that a break broke. This
module follows the columns bar by bar, live and over history alike, and keeps those ends. The rules of a block's life are
those of the kernel (premium indicators 2.2); a test checks that both end the same number of blocks on every bar.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from bot.config import Config

CAPACITY: Final = 60  # active blocks per side, as in the kernel
SHOWN, WAITING, MITIGATED, COVERED = "shown", "waiting", "mitigated", "covered"
STATES: Final = (SHOWN, WAITING, MITIGATED, COVERED)
BREAKS: Final = {1: "BOS", 2: "CHoCH", 3: "CHoCH+"}
LOOK_BACK: Final = 500  # bars searched for the candle of a block or the pivot of a level

# The columns that `Findings.step` reads: events of a bar, and the values that belong to them.
EVENTS: Final = (
    *("pac_event", "pac_eqh", "pac_eql", "pac_ob_new"),
    *(
        f"smc_{layer}_{side}_{event}"
        for layer in ("int", "sw")
        for side in ("bull", "bear")
        for event in ("bos", "choch")
    ),
)
LEVELS: Final = ("smc_ih_level", "smc_il_level", "smc_sh_level", "smc_sl_level")
COLUMNS: Final = (
    *EVENTS,
    *("pac_dir", "pac_level", "pac_pivot_index", "pac_break_index", "pac_eqh_level", "pac_eql_level"),
    *("pac_ob_new_bottom", "pac_ob_new_top", "pac_ob_new_volume", "pac_ob_new_buy_share"),
    *LEVELS,
)


@dataclass(slots=True)
class Box:
    """An order block; bars are counted from the first one, `end` is -1 while it is active."""

    number: int
    side: int  # +1 demand, -1 supply
    start: int  # the candle that defines the zone
    born: int
    bottom: float
    top: float
    buy_share: float  # 0 to 1
    volume: float
    end: int = -1
    state: str = WAITING
    broken: int = -1  # bar that made it a breaker, -1 before


@dataclass(frozen=True, slots=True)
class ChartSegment:
    """A level from the bar where it formed to the bar that broke or confirmed it."""

    start: int
    end: int
    price: float
    side: int
    label: str  # BOS, CHoCH, CHoCH+, EQH, EQL
    layer: str  # pac, equal, int (SMC internal), sw (SMC swing)


@dataclass(slots=True)
class Pivots:
    """Pivots of the short-term legs, on which equal highs and lows are measured."""

    length: int
    leg: int = 0
    highs: list[int] = field(default_factory=list)
    lows: list[int] = field(default_factory=list)

    def step(self, i: int, high: Sequence[float], low: Sequence[float]) -> None:
        """Check the bar `length` bars ago: it is a pivot if it is above or below all later bars and the leg turns there."""
        k = i - self.length
        if k < 0:
            return
        leg = self.leg
        if high[k] > max(high[k + 1 : i + 1]):
            leg = 0
        elif low[k] < min(low[k + 1 : i + 1]):
            leg = 1
        if leg != self.leg:
            (self.highs if leg == 0 else self.lows).append(k)
            self.leg = leg


class Findings:
    """All findings of one symbol, updated one closed bar at a time."""

    def __init__(self, config: Config) -> None:
        pac = config.pac
        self._mitigation, self._average_source = pac.mitigation, pac.average_source
        self._breakers_stay = pac.block_life == "breaker"
        self._overlap, self._show, self._capped = pac.hide_overlap, pac.show, pac.zone_cap_atr200 > 0
        self._pivots = Pivots(pac.equal_length)
        self.boxes: list[Box] = []
        self.segments: list[ChartSegment] = []
        self._active: dict[int, list[Box]] = {1: [], -1: []}
        self._trigger = {1: -math.inf, -1: -math.inf}
        self.high: list[float] = []
        self.low: list[float] = []
        self.mitigated = 0  # blocks that ended on the newest bar, by reason
        self.covered = 0

    def step(
        self, high: float, low: float, close: float, *, filled: bool, reset: bool, row: Mapping[str, float] | None
    ) -> None:
        """Process the next closed bar.

        Parameters
        ----------
        high, low, close
            Prices of the bar.
        filled
            Whether it is a flat bar that fills a gap.
        reset
            Whether a long gap lies before it.
        row
            Values of COLUMNS; None if none of EVENTS occurred on the bar. The SMC levels in it are those before the bar,
            which it may have broken.
        """
        i = len(self.high)
        self.high.append(high)
        self.low.append(low)
        self.mitigated = self.covered = 0
        if reset:
            self._forget(i)
        self._pivots.step(i, self.high, self.low)
        if not filled:
            self._mitigate(i, 1, low, close)
            self._mitigate(i, -1, -high, -close)
        if row is not None and row["pac_ob_new"]:
            self._birth(i, int(row["pac_ob_new"]), row)
            self._display()
        elif self.mitigated:
            self._display()
        if row is not None:
            self._breaks(i, row)

    def _forget(self, i: int) -> None:
        for side in (1, -1):
            for box in self._active[side]:
                box.end, box.state = i - 1, COVERED
            self._active[side] = []
            self._trigger[side] = -math.inf
        self._pivots = Pivots(self._pivots.length)

    # Blocks, in the frame of their side: prices times +1 for demand, -1 for supply

    def _limit(self, box: Box) -> float:
        if self._mitigation == "average":
            return box.side * (box.top + box.bottom) / 2.0
        return box.bottom if box.side > 0 else -box.top

    def _near(self, box: Box) -> float:
        return box.top if box.side > 0 else -box.bottom

    def _mitigate(self, i: int, side: int, low: float, close: float) -> None:
        on_close = self._mitigation == "close" or (self._mitigation == "average" and self._average_source == "close")
        probe = close if on_close else low
        if self._breakers_stay:
            self.mitigated += self._drop(side, lambda box: box.broken >= 0 and close > self._near(box), i, MITIGATED)
            for box in self._active[side]:
                if box.broken < 0 and probe < self._limit(box):
                    box.broken = i
            return
        if not probe < self._trigger[side]:
            return
        gone = self._drop(side, lambda box: probe < self._limit(box), i, MITIGATED)
        self.mitigated += gone

    def _drop(self, side: int, goes: Callable[[Box], bool], i: int, state: str) -> int:
        kept = []
        for box in self._active[side]:
            if goes(box):
                box.end, box.state = i, state
            else:
                kept.append(box)
        gone = len(self._active[side]) - len(kept)
        self._active[side] = kept
        self._trigger[side] = max((self._limit(box) for box in kept), default=-math.inf)
        return gone

    def _birth(self, i: int, side: int, row: Mapping[str, float]) -> None:
        bottom, top = row["pac_ob_new_bottom"], row["pac_ob_new_top"]
        for other in (side, -side) if self._overlap == "both" else (side,) if self._overlap == "same" else ():
            self.covered += self._drop(other, lambda box: box.bottom < top and box.top > bottom, i, COVERED)
        if len(self._active[side]) == CAPACITY:
            oldest = self._active[side].pop(0)
            oldest.end, oldest.state = i, COVERED
        box = Box(
            len(self.boxes) + 1,
            side,
            self._candle(i, side, bottom, top),
            i,
            bottom,
            top,
            row["pac_ob_new_buy_share"],
            row["pac_ob_new_volume"],
        )
        self.boxes.append(box)
        self._active[side].append(box)
        self._trigger[side] = max(self._trigger[side], self._limit(box))

    def _candle(self, i: int, side: int, bottom: float, top: float) -> int:
        """Return the bar whose low (high of a supply block) and range define the zone; the first one on ties."""
        found = i
        for k in range(i - 1, max(i - LOOK_BACK, -1), -1):
            low, high = self.low[k], self.high[k]
            if (side > 0 and low < bottom) or (side < 0 and high > top):
                break
            edge = low == bottom if side > 0 else high == top
            if edge and (self._capped or (high == top and low == bottom)):
                found = k
        return found

    def _display(self) -> None:
        for side in (1, -1):
            for place, box in enumerate(reversed(self._active[side])):
                box.state = SHOWN if place < self._show else WAITING

    # Structure

    def _breaks(self, i: int, row: Mapping[str, float]) -> None:
        event = row["pac_event"]
        if event:
            start = i - int(row["pac_break_index"] - row["pac_pivot_index"])
            self.segments.append(
                ChartSegment(start, i, row["pac_level"], int(row["pac_dir"]), BREAKS[int(event)], "pac")
            )
        pivots = self._pivots
        for flag, name, side, turns in (("pac_eqh", "EQH", -1, pivots.highs), ("pac_eql", "EQL", 1, pivots.lows)):
            if row[flag] and len(turns) > 1:
                self.segments.append(ChartSegment(turns[-2], turns[-1], row[f"{flag}_level"], side, name, "equal"))
        for layer, up, down in (("int", "smc_ih_level", "smc_il_level"), ("sw", "smc_sh_level", "smc_sl_level")):
            for side, name, level in ((1, "bull", up), (-1, "bear", down)):
                for event_name, label in (("bos", "BOS"), ("choch", "CHoCH")):
                    if row[f"smc_{layer}_{name}_{event_name}"]:
                        start = self._pivot(i, side, row[level])
                        self.segments.append(ChartSegment(start, i, row[level], side, label, layer))

    def _pivot(self, i: int, side: int, price: float) -> int:
        values = self.high if side > 0 else self.low
        return next((k for k in range(i - 1, max(i - LOOK_BACK, -1), -1) if values[k] == price), i)
