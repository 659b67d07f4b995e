"""The lifecycle of one BTC trade: PENDING, OPEN, SCALED, RUNNER, CLOSED (strategy 6).

PENDING  the entry is working; what already filled is protected
OPEN     the entry is complete; both targets are resting, the stop is the planned one
SCALED   the first target is completely filled: stop at break-even, SuperTrend AI trails the rest
RUNNER   the second target is filled too
CLOSED   flat, no live order, every fill known

Exits: stop, break-even, trail, both targets, a flip of SuperTrend AI against the runner, an opposite CHoCH, thirty minutes, a
stop that was passed or not accepted in time, a liquidation price nearer than the stop (leverage or margin changed externally),
the operator. Whichever comes first; the bracket closes the position.
"""

import math
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import StrEnum
from typing import Final

from bot.config import TradeSettings as TradeConfig
from bot.core.errors import InvariantError
from bot.core.events import Fill
from bot.core.intents import Alert, Intent
from bot.core.records import TradeFill, TradeRecord
from bot.core.types import Kline, Quote, Side, to_decimal
from bot.orders.bracket import Bracket
from bot.orders.maker_taker import Entry, Phase
from bot.orders.position import Target
from bot.orders.state import ZERO
from bot.strategy import rules
from bot.strategy.rules import Row, column
from bot.strategy.setup import TradePlan


class Stage(StrEnum):
    """The stage of a trade."""

    PENDING = "PENDING"
    OPEN = "OPEN"
    SCALED = "SCALED"
    RUNNER = "RUNNER"
    CLOSED = "CLOSED"


STAGES: Final = {
    Stage.PENDING: frozenset({Stage.OPEN, Stage.CLOSED}),
    Stage.OPEN: frozenset({Stage.SCALED, Stage.CLOSED}),
    Stage.SCALED: frozenset({Stage.RUNNER, Stage.CLOSED}),
    Stage.RUNNER: frozenset({Stage.CLOSED}),
    Stage.CLOSED: frozenset(),
}


@dataclass(slots=True)
class Trade:
    """One trade from plan to record. Call `advance` after every event, `on_bar` at every closed BTC bar."""

    plan: TradePlan
    entry: Entry
    bracket: Bracket
    config: TradeConfig
    uncut_qty: Decimal
    expected_cost_r: float
    stage: Stage = Stage.PENDING
    first_fill_ms: int = 0
    with_trend: bool = False  # whether SuperTrend AI agreed at the last closed bar
    moved_to_break_even: bool = False
    risk_unit: Decimal = ZERO  # |average fill - stop| once the entry is complete
    initial_stop: Decimal = ZERO
    tp1: Decimal = ZERO
    tp2: Decimal = ZERO
    exit_reason: str = ""
    funding: Decimal = ZERO  # paid, positive = cost
    best: Decimal = ZERO  # largest favourable and adverse distance from the average, in quote
    worst: Decimal = ZERO
    fills: list[TradeFill] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def side(self) -> Side:
        """Direction of the trade."""
        return self.plan.side

    @property
    def trade_id(self) -> str:
        """The trade's part of every client id."""
        return self.entry.orders[0].client_id.split("-")[3]

    @property
    def risk_quote(self) -> Decimal:
        """The trade's R in quote: the planned risk, once the entry is complete filled qty * |average fill - stop|."""
        return self.bracket.bought * self.risk_unit if self.risk_unit else self.entry.risk_quote

    @property
    def gone(self) -> bool:
        """Whether BTC is flat and will not be entered again."""
        return self.entered and self.bracket.exposed <= 0

    @property
    def entered(self) -> bool:
        """Whether the entry is done and all its fills are known."""
        return self.entry.phase is Phase.DONE and self.bracket.sums().entered

    @property
    def left(self) -> Decimal:
        """Share of the entry that is still held."""
        return self.bracket.sums().left

    @property
    def trailing(self) -> bool:
        """Whether the stop follows SuperTrend AI."""
        if self.stage is Stage.PENDING or not self.bracket.targets:
            return False
        first, second = self.bracket.targets
        match self.config.trail_from:
            case "entry":
                return True
            case "tp1":
                return first.proved
            case _:
                return second.proved

    def close(self, reason: str) -> None:
        """Abort the entry and exit at market."""
        self.entry.abort(reason)
        self.bracket.exit(reason)

    def on_bar(self, kline: Kline, row: Row | None) -> None:
        """Process a closed BTC bar: extremes, CHoCH, flip and trail."""
        sign, bracket = self.side.sign, self.bracket
        held = bool(self.first_fill_ms) and kline.close_ms > self.first_fill_ms and bracket.exposed > 0
        if held:
            self.note_extremes(to_decimal(kline.high), to_decimal(kline.low))
        if row is None:
            return
        trailing = self.trailing and bracket.exposed > 0
        reason = rules.exit_reason(
            row, self.side, self.config, held=held, with_trend=self.with_trend, trailing=trailing
        )
        if reason:
            self.close(reason)
        level = column(row, "sta_ts")
        if not math.isfinite(level):  # warm-up, as after a long gap: no direction yet, and the first one is no flip
            self.with_trend = False
            return
        self.with_trend = bool(rules.trend_agrees(sign, column(row, "sta_os")))
        if trailing and self.with_trend and level > 0:
            moved = bracket.tighten(bracket.toward_profit(to_decimal(level)), "trail")
            if moved and sign * (to_decimal(kline.close) - bracket.stop) <= 0:
                self.close("stop_passed")

    def would_tighten(self, level: float) -> bool:
        """Return whether a trail at `level` (finite, positive) is tighter than the stop."""
        bracket = self.bracket
        return self.side.sign * (bracket.toward_profit(to_decimal(level)) - bracket.stop) > 0

    def advance(self, at_ms: int, now: int, *, quote: Quote | None, price: Decimal | None, out: list[Intent]) -> None:
        """Advance entry and bracket as far as the known state allows; parameters as in `Bracket.advance` and `Entry.advance`."""
        bracket = self.bracket
        if quote is not None:
            bracket.reference = quote.bid if self.side is Side.LONG else quote.ask
        exposed = bracket.exposed
        if exposed > 0:
            self.first_fill_ms = self.first_fill_ms or at_ms
            due = self._time_exit_ms()
            if due and now >= due:
                bracket.exit("time")
            if price is not None:
                self._reach(price)
        self._scale()
        bracket.advance(at_ms, now, price, out)
        if bracket.closing:
            self.entry.abort(bracket.exit_reason)
        self.entry.advance(now, quote, out)
        if self.stage is Stage.CLOSED or not self.entered:
            return
        if self.stage is Stage.PENDING:
            self._entered(now, out)
        if bracket.idle:
            self.exit_reason = bracket.exit_reason or self.entry.outcome or "not_filled"
            self._to(Stage.CLOSED)

    def note_fill(self, fill: TradeFill) -> None:
        """Keep a fill of the trade or of one of its legs."""
        self.fills.append(fill)
        if fill.role in ("en", "io"):
            self.first_fill_ms = min(self.first_fill_ms or fill.at_ms, fill.at_ms)

    def unscale(self) -> None:
        """Return to the planned stop when it turns out that the first target did not fill."""
        bracket = self.bracket
        if not self.moved_to_break_even or bracket.targets[0].proved:
            return
        self.moved_to_break_even, self.stage = False, Stage.OPEN
        if bracket.stop_kind == "break_even":
            bracket.stop, bracket.stop_kind = self.plan.stop, "stop"

    def amend_fill(self, heard: Fill, listed: Fill) -> None:
        """Replace the figures of a kept fill by those that the exchange lists."""
        for index, fill in enumerate(self.fills):
            if (fill.at_ms, fill.symbol, fill.qty, fill.price) == (heard.at_ms, heard.symbol, heard.qty, heard.price):
                self.fills[index] = replace(fill, qty=listed.qty, price=listed.price, fee=listed.fee)
                return

    def forget_fill(self, event: Fill) -> None:
        """Drop a kept fill that did not happen."""
        for fill in reversed(self.fills):
            if (fill.at_ms, fill.symbol, fill.qty, fill.price) == (event.at_ms, event.symbol, event.qty, event.price):
                self.fills.remove(fill)
                return

    def deadlines(self) -> list[int]:
        """Return the times at which `advance` has something to do without an event, exchange ms, without those of the entry."""
        due = self.bracket.deadlines()
        time_exit = self._time_exit_ms()
        if time_exit and self.bracket.exposed > 0 and not self.bracket.closing:
            due.append(time_exit)
        return due

    def gross(self) -> tuple[Decimal, Decimal]:
        """Return the realised result of BTC and of the legs in quote, before fees; only meaningful when flat."""
        alpha = hedge = ZERO
        for fill in self.fills:
            flow = fill.qty * fill.price * (1 if fill.side == "SELL" else -1)
            if fill.symbol == self.bracket.symbol:
                alpha += flow
            else:
                hedge += flow
        return alpha, hedge

    def record(self, now: int, *, net_beta: float, naked_ms: int, notes: tuple[str, ...]) -> TradeRecord:
        """Return the record of the closed trade.

        Parameters
        ----------
        now
            Exchange ms: close time of a trade without fills.
        net_beta
            Net BTC beta of the book with the legs.
        naked_ms
            Longest naked spell of the legs.
        notes
            Notes of the legs.
        """
        alpha, hedge = self.gross()
        fees = sum((f.fee for f in self.fills), ZERO)
        pnl = alpha + hedge - fees - self.funding
        risk, bracket = self.risk_quote, self.bracket
        unit = self.risk_unit or self.plan.risk_per_unit
        own = [f for f in self.fills if f.symbol == bracket.symbol and f.side == self.side.exit.value]
        sold = sum((f.qty for f in own), ZERO)
        return TradeRecord(
            trade_id=self.trade_id,
            symbol=bracket.symbol,
            side=self.side,
            signal_ms=self.plan.signal_ms,
            opened_ms=self.first_fill_ms,
            closed_ms=max((f.at_ms for f in self.fills), default=now),
            exit_reason=self.exit_reason,
            plan_entry=self.plan.entry,
            plan_stop=self.plan.stop,
            plan_qty=self.entry.qty,
            uncut_qty=self.uncut_qty,
            qty=bracket.bought,
            entry_price=bracket.average,
            exit_price=sum((f.qty * f.price for f in own), ZERO) / sold if sold else ZERO,
            stop=self.plan.stop,
            tp1=self.tp1 or self.plan.tp1,
            tp2=self.tp2 or self.plan.tp2,
            risk_quote=risk,
            pnl=pnl,
            alpha_pnl=alpha,
            hedge_pnl=hedge,
            fees=fees,
            funding=self.funding,
            r_multiple=float(pnl / risk) if risk else 0.0,
            alpha_r=float(alpha / risk) if risk else 0.0,
            hedge_r=float(hedge / risk) if risk else 0.0,
            expected_cost_r=self.expected_cost_r,
            net_beta=net_beta,
            max_favourable_r=float(self.best / unit),
            max_adverse_r=float(self.worst / unit),
            naked_ms=max(bracket.naked_ms, naked_ms),
            fills=tuple(self.fills),
            notes=(*self.notes, *notes),
        )

    def _to(self, stage: Stage) -> None:
        if stage not in STAGES[self.stage]:
            raise InvariantError(f"a trade does not go from {self.stage} to {stage}")
        self.stage = stage

    def _entered(self, now: int, out: list[Intent]) -> None:
        bracket, instrument = self.bracket, self.bracket.instrument
        qty, average = bracket.bought, bracket.average
        if self.entry.outcome:
            self.notes.append(f"entry: {self.entry.outcome} {self.entry.detail}".rstrip())
        if not qty:
            return
        self._to(Stage.OPEN)
        self.risk_unit = max(abs(average - self.plan.stop), self.plan.least_risk_per_unit) or self.plan.risk_per_unit
        self.tp1, self.tp2 = rules.targets(self.side, average, self.plan.stop, instrument, self.config)
        if bracket.closing:
            return
        if qty < instrument.min_qty or qty * average < instrument.min_notional:
            bracket.exit("below_minimum")
            out.append(Alert("info", f"{qty} filled, below the exchange's minimum: closed at once"))
            return
        first, second = rules.scale_out(qty, instrument, self.config)
        bracket.targets = [Target(1, self.tp1, first), Target(2, self.tp2, second)]
        if not first:
            self.notes.append("the first target is below the lot: left out")

    def _scale(self) -> None:
        if not self.bracket.targets:
            return
        first, second = self.bracket.targets
        if self.stage is Stage.RUNNER or not first.proved or self.bracket.doubted:
            return  # after a phantom fill, break-even would be at or beyond the price and end the trade
        if not self.moved_to_break_even:
            self.moved_to_break_even = True
            entries = self.entry.orders
            paid = sum((o.fees for o in entries), ZERO) / sum((o.notional for o in entries), ZERO)
            level = rules.break_even(
                self.side,
                self.bracket.average,
                entry_fee_rate=paid,
                taker_fee=self.bracket.instrument.taker_fee,
                mode=self.config.break_even,
            )
            self.bracket.tighten(self.bracket.toward_profit(level), "break_even")
        if self.stage is Stage.OPEN:
            self._to(Stage.SCALED)
        if self.stage is Stage.SCALED and second.proved:
            self._to(Stage.RUNNER)

    def _reach(self, price: Decimal) -> None:
        sign = self.plan.side.sign
        for target in self.bracket.targets:
            if sign * (price - target.price) >= 0:
                target.reached = True

    def note_extremes(self, high: Decimal, low: Decimal) -> None:
        """Update the largest favourable and adverse distances and the reached targets from a bar's high and low."""
        average = self.bracket.average
        if not average:
            return
        good, bad = (high, low) if self.side is Side.LONG else (low, high)
        self.best = max(self.best, self.side.sign * (good - average))
        self.worst = min(self.worst, self.side.sign * (bad - average))
        self._reach(good)

    def _time_exit_ms(self) -> int:
        scaled = bool(self.bracket.targets) and self.bracket.targets[0].done
        return rules.time_exit_ms(self.first_fill_ms, scaled=scaled, config=self.config)
