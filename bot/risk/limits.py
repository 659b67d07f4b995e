"""Limits on entries: day loss, losing direction, drawdown from the peak, leverage ramp, slippage (strategy 7).

A limit never closes an open trade; it refuses the next one, with a reason. The day begins at 00:00 UTC on the exchange's
clock. R of the day rules is the base fraction of the equity at 00:00 (or at the start), R of the soft stop that of the peak.
Peak, soft stop, ramp, slippage and the day's limits survive a restart: `memory` returns them, `remember` restores them.

Transfers are neither profit nor loss: the result so far stays the same *share* of the money, so neither R of the day nor the
drawdown changes, however little is left. An account without money has no R: there are no entries, nothing is measured, and the
first deposit is the new start. Tripped limits stay tripped.
"""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from bot.config import Risk as RiskConfig
from bot.core.intents import Alert, Intent
from bot.core.times import DAY_MS, HOUR_MS
from bot.core.types import Denied, Side, to_decimal
from bot.risk.sizing import NO_MONEY, throttle

STAGES: Final = {"sim": "full", "backtest": "full", "paper": "dry_run", "testnet": "dry_run", "live": "ramp"}
ZERO: Final = Decimal(0)


@dataclass(slots=True)
class Limits:
    """The state of all limits. Equity and results in quote."""

    config: RiskConfig
    venue: str
    soft_stop_mode: str = "halt"  # halt; in back-tests also count and rearm_next_day
    equity: Decimal = ZERO
    peak: Decimal = ZERO  # of equity, for the throttle
    soft_peak: Decimal = ZERO  # the same since it was last re-armed, for the soft stop
    day: int = -1
    day_equity: Decimal = ZERO
    day_hit: bool = False
    results: dict[str, Decimal] = field(default_factory=dict)  # closed today, by direction
    broken: dict[str, bool] = field(default_factory=dict)  # directions blocked until tomorrow
    soft_stopped: bool = False
    soft_stop_day: int = -1
    soft_stops: int = 0
    step: int = 0
    step_since_ms: int = 0
    step_trades: int = 0
    slippages: list[float] = field(default_factory=list)
    slippage_alerted: bool = False
    empty_told: bool = False
    kept: dict[str, Any] = field(default_factory=dict)  # cached units and thresholds

    @property
    def stage(self) -> str:
        """Risk stage: dry_run, ramp or full."""
        return STAGES.get(self.venue, "dry_run") if self.config.stage == "auto" else self.config.stage

    @property
    def fraction(self) -> float:
        """Base risk per trade as a fraction of equity."""
        return self.config.dry_run_fraction if self.stage == "dry_run" else self.config.risk_fraction

    @property
    def leverage(self) -> int:
        """The leverage in force."""
        steps = self.config.leverage_ramp
        if self.stage == "full":
            return steps[-1]
        return steps[0] if self.stage == "dry_run" else steps[min(self.step, len(steps) - 1)]

    @property
    def throttle(self) -> float:
        """Share of the base risk that remains in the current drawdown."""
        return throttle(
            self.equity, self.peak, drawdown_limit=self.config.throttle_drawdown, floor=self.config.throttle_floor
        )

    @property
    def day_unit(self) -> Decimal:
        """One R of the day rules, in quote."""
        kept = self.kept.get("unit")
        if kept is None or kept[0] is not self.day_equity:
            kept = self.kept["unit"] = (self.day_equity, to_decimal(self.fraction) * self.day_equity)
        return kept[1]

    @property
    def day_r(self) -> float:
        """Realised and unrealised result of the day in R."""
        kept = self.kept.get("day")
        if kept is None or kept[0] is not self.equity or kept[1] is not self.day_equity:
            unit = self.day_unit
            found = float((self.equity - self.day_equity) / unit) if unit > 0 else 0.0
            kept = self.kept["day"] = (self.equity, self.day_equity, found)
        return float(kept[2])

    @property
    def mean_slippage(self) -> float:
        """Rolling mean over the last measured taker fills, 0 without any; adverse is positive."""
        return sum(self.slippages) / len(self.slippages) if self.slippages else 0.0

    @property
    def slipping(self) -> bool:
        """Whether the rolling mean over a full window is above `slippage_watch`."""
        full = len(self.slippages) >= self.config.slippage_fills
        return full and self.mean_slippage > self.config.slippage_watch

    def direction_r(self, side: Side) -> float:
        """Return the result of today's closed trades in a direction, in R of the day."""
        return float(self.results.get(side.name, ZERO) / self.day_unit) if self.day_unit > 0 else 0.0

    @property
    def empty(self) -> bool:
        """Whether there is no equity: nothing to size by and nothing to measure."""
        return self.equity <= 0

    def on_time(self, now: int) -> None:
        """Start a new day if `now` (exchange ms) is in one."""
        day = now // DAY_MS
        if day <= self.day or self.equity <= 0:
            return
        self.day, self.day_equity, self.day_hit = day, self.equity, False
        self.results, self.broken = {}, {}
        if self.soft_stopped and self.soft_stop_mode == "rearm_next_day" and day > self.soft_stop_day:
            self.arm()

    def on_equity(self, now: int, equity: Decimal, out: list[Intent]) -> None:
        """Take a sample of equity (in quote) and trip the limits that it violates."""
        if self.equity <= 0:
            if equity <= 0:
                self._rest_empty(equity, out)
                return
            self._begin(equity)  # the first sample is the start of the first day
        self.on_time(now)
        self.equity = equity
        if equity > self.peak:
            self.peak = equity
        if equity > self.soft_peak:
            self.soft_peak = equity
        self.step_since_ms = self.step_since_ms or now
        if not self.day_hit and self.day_r <= -self.config.max_day_loss_r:
            self.day_hit = True
            self._restart_step(now)
            out.append(Alert("warning", f"day loss {self.day_r:.2f} R: no more entries today"))
        unit, floor = self._soft()
        if not self.soft_stopped and equity <= floor and unit > 0:
            self.soft_stops += 1
            self.step = 0
            self._restart_step(now)
            if self.soft_stop_mode == "count":
                self.soft_peak = equity
                return
            self.soft_stopped, self.soft_stop_day = True, self.day
            fall = float((self.soft_peak - equity) / unit)
            out.append(
                Alert("critical", f"equity {equity:.2f} is {fall:.2f} R below its peak: entries off until `bot arm`")
            )

    def _soft(self) -> tuple[Decimal, Decimal]:
        """Return R of the soft stop and the equity at which it trips, cached while the peak is unchanged."""
        kept = self.kept.get("soft")
        if kept is None or kept[0] is not self.soft_peak:
            unit = to_decimal(self.fraction) * self.soft_peak
            kept = (self.soft_peak, (unit, self.soft_peak - to_decimal(self.config.soft_stop_r) * unit))
            self.kept["soft"] = kept
        return kept[1]

    def on_transfer(self, amount: Decimal) -> None:
        """Adjust all references so that a transfer is neither profit nor loss."""
        before, after = self.equity, self.equity + amount
        if before <= 0 or after <= 0:
            self._forget_money()
            if after > 0:
                self._begin(after)
            self.equity = after
            return
        self.equity = after
        # Keep the share, exact where there is no difference: rounding must not trip a limit.
        share = after / before
        self.peak = after + (self.peak - before) * share
        self.soft_peak = after + (self.soft_peak - before) * share
        self.day_equity = after + (self.day_equity - before) * share
        self.results = {name: value * share for name, value in self.results.items()}

    def _begin(self, equity: Decimal) -> None:
        """Start from the first money; a restored day equity stays."""
        self.equity = equity
        self.empty_told = False
        if self.day_equity <= 0:
            self.day_equity = equity

    def _rest_empty(self, equity: Decimal, out: list[Intent]) -> None:
        """Measure nothing while there is no money, and notify once."""
        self._forget_money()
        self.equity = equity
        if not self.empty_told:
            self.empty_told = True
            out.append(Alert("warning", NO_MONEY))

    def _forget_money(self) -> None:
        """Reset every reference in quote: there is no money to compare them with."""
        self.peak = self.soft_peak = self.day_equity = ZERO
        self.results = {}

    def on_trade(self, side: Side, result: Decimal, now: int, out: list[Intent]) -> None:
        """Book a closed trade and advance the leverage ramp.

        Parameters
        ----------
        side
            Direction of the trade.
        result
            Result net of all costs, in quote.
        now
            Exchange ms.
        out
            List that alerts are appended to.
        """
        self.on_time(now)
        self.results[side.name] = self.results.get(side.name, ZERO) + result
        self.step_trades += 1
        if not self.broken.get(side.name) and self.direction_r(side) <= -self.config.direction_breaker_r:
            self.broken[side.name] = True
            self._restart_step(now)
            out.append(
                Alert("warning", f"{side.name} lost {self.direction_r(side):.2f} R today: it rests until tomorrow")
            )
        long_enough = now - self.step_since_ms >= self.config.ramp_hours * HOUR_MS
        more = self.stage == "ramp" and self.step < len(self.config.leverage_ramp) - 1
        if more and long_enough and self.step_trades >= self.config.ramp_trades:
            self.step += 1
            self._restart_step(now)
            out.append(Alert("info", f"leverage ramp: next step, {self.leverage}x"))

    def on_slippage(self, value: float, out: list[Intent]) -> None:
        """Add the slippage of a taker fill: fraction of the reference price, adverse positive."""
        self.slippages.append(value)
        del self.slippages[: -self.config.slippage_fills]
        if self.slipping and not self.slippage_alerted:
            self.slippage_alerted = True
            out.append(
                Alert(
                    "warning",
                    f"mean slippage {self.mean_slippage:.4%} over {len(self.slippages)} fills is above the watch",
                )
            )
        elif not self.slipping:
            self.slippage_alerted = False

    def arm(self) -> str:
        """Reset the soft stop and the slippage watch if tripped, and return a message; otherwise change nothing."""
        if not self.soft_stopped and not self.slipping:
            return "no soft stop has tripped: nothing to arm"
        self.slippages.clear()
        self.slippage_alerted = False
        if not self.soft_stopped:
            return "armed: the mean slippage is measured from here on"
        self.soft_stopped = False
        self.soft_peak = self.equity
        if self.empty:
            return f"armed; {NO_MONEY}"
        return "armed: the fall from the peak is measured from here on"

    def vetoes(self, side: Side) -> list[Denied]:
        """Return the current refusals of an entry in this direction."""
        denied = []
        if self.empty:
            denied.append(Denied("no_money", NO_MONEY))
        if self.soft_stopped:
            denied.append(Denied("soft_stop", "equity fell too far from its peak; entries are off until `bot arm`"))
        if self.day_hit:
            denied.append(Denied("day_loss", f"the day lost {self.config.max_day_loss_r} R; now {self.day_r:.2f} R"))
        if self.broken.get(side.name):
            denied.append(Denied("direction", f"{side.name} lost {self.direction_r(side):.2f} R today and rests"))
        if self.venue == "live" and self.slipping:
            denied.append(
                Denied("slippage", f"mean slippage {self.mean_slippage:.4%} > {self.config.slippage_watch:.4%}")
            )
        return denied

    def memory(self) -> dict[str, Any]:
        """Return the state that has to survive a restart, as plain JSON."""
        return {
            "peak": str(self.peak),
            "soft_peak": str(self.soft_peak),
            "soft_stopped": self.soft_stopped,
            "soft_stops": self.soft_stops,
            "step": self.step,
            "step_since_ms": self.step_since_ms,
            "step_trades": self.step_trades,
            "slippages": list(self.slippages),
            "day": self.day,
            "day_equity": str(self.day_equity),
            "day_hit": self.day_hit,
            "results": {name: str(value) for name, value in self.results.items()},
            "broken": dict(self.broken),
        }

    def remember(self, memory: dict[str, Any]) -> None:
        """Restore what `memory` returned."""
        self.peak, self.soft_peak = Decimal(memory["peak"]), Decimal(memory["soft_peak"])
        self.soft_stopped, self.soft_stops = bool(memory["soft_stopped"]), int(memory["soft_stops"])
        self.step, self.step_trades = int(memory["step"]), int(memory["step_trades"])
        self.step_since_ms = int(memory["step_since_ms"])
        self.slippages = [float(v) for v in memory["slippages"]]
        self.day, self.day_hit = int(memory.get("day", -1)), bool(memory.get("day_hit", False))
        self.day_equity = Decimal(memory.get("day_equity", "0"))
        self.results = {str(name): Decimal(value) for name, value in memory.get("results", {}).items()}
        self.broken = {str(name): bool(value) for name, value in memory.get("broken", {}).items()}

    def _restart_step(self, now: int) -> None:
        self.step_since_ms, self.step_trades = now, 0
