"""Couple an engine to a broker with a simulated clock: events go to the engine, its intents to the broker.

Nothing here depends on bars. Events that take effect at one instant are delivered together; the engine's records
(trades, decisions, equity) are kept in order.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np

from bot.backtest.bars import BacktestBars, Rows, instruments_of
from bot.backtest.broker import Broker
from bot.backtest.broker_book import Paid
from bot.backtest.data import Prepared
from bot.config import Config
from bot.core.events import Event, Fill, OrderUpdate, SessionStarted
from bot.core.events import TimerFired as Timer
from bot.core.records import Decision, EquityPoint, TradeRecord
from bot.core.types import to_decimal
from bot.engine import Engine
from bot.orders.ids import role_of
from bot.orders.state import ENTRY_ROLES
from bot.results.backtest import BacktestTrade, CostParts, EntryTime


@dataclass(slots=True)
class Outcome:
    """Records of the runs, in order."""

    trades: list[BacktestTrade] = field(default_factory=list)
    unfilled: list[TradeRecord] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    equity: list[EquityPoint] = field(default_factory=list)


class BacktestSession:
    """A fresh engine and broker over prepared data, with their records.

    Parameters
    ----------
    every_bar
        Feed every bar and decide on every bar, instead of skipping quiet ones.
    one_by_one
        Hand events of one instant to the engine one at a time instead of together.
    """

    def __init__(
        self,
        config: Config,
        prepared: Prepared,
        *,
        calendar: tuple[tuple[int, str, str], ...] = (),
        every_bar: bool = False,
        one_by_one: bool = False,
    ) -> None:
        self.config, self.prepared, self.calendar = config, prepared, calendar
        self.every_bar, self.one_by_one = every_bar, one_by_one
        self.instruments, self.rules = instruments_of(config, prepared)
        self.symbols = tuple(prepared.symbols)
        self.alpha, self.legs = self.symbols[0], self.symbols[1:]
        self.bars = {name: BacktestBars(name, symbol) for name, symbol in prepared.symbols.items()}
        self.outcome = Outcome()
        self.entries: dict[int, EntryTime] = {}
        self.decided: dict[int, Decision] = {}
        self.asks = prepared.columns.long_signal ^ prepared.columns.short_signal  # bars that need a decision
        self.start(prepared.from_ms)

    def take_entries(self, entries: dict[int, EntryTime]) -> None:
        """Replace all signals by given entries, keyed by position of their bar."""
        for index in self.entries:
            self.asks[index] = False
        if not self.entries:
            self.asks = np.zeros_like(self.asks)
        self.entries = entries
        self.asks[list(entries)] = True

    def start(self, at_ms: int) -> None:
        """Start with a fresh engine and the initial equity."""
        config = self.config
        self.rows = Rows()
        self.engine = Engine(config, self.rows, venue="backtest", calendar=self.calendar)
        self.engine.every_bar_decides = self.every_bar
        self.broker = Broker(config, self.instruments, self.rules)
        self.broker.now = at_ms
        self.paid_funding = Decimal(0)
        self.funding_until = at_ms
        self.last_decision: Decision | None = None
        wallet = to_decimal(config.backtest.initial_equity)
        told = tuple(self.instruments.values())
        self.deliver([SessionStarted(at_ms, "backtest", wallet, told)])
        self.drain(at_ms + self.broker.latency_ms + 1)

    # Between engine and broker

    def deliver(self, events: list[Event]) -> None:
        """Pass events of one instant to the engine and process its outputs."""
        if not events:
            return
        if self.one_by_one:
            for event in events:
                self.take(self.engine.handle(event))
        else:
            self.take(self.engine.handle_all(events))

    def take(self, outputs: Sequence[Any]) -> None:
        """Keep the engine's records and pass its intents to the broker."""
        outcome, perform = self.outcome, self.broker.perform
        for output in outputs:
            match output:
                case EquityPoint():
                    outcome.equity.append(output)
                case Decision():
                    self._decided(output)
                case TradeRecord():
                    self._closed(output)
                case _:
                    perform(output)

    def _decided(self, decision: Decision) -> None:
        if decision.signal:
            self.outcome.decisions.append(decision)
        self.decided[decision.open_ms] = decision
        if decision.code == "entered":
            self.last_decision = decision
            for paid in self.broker.paid.values():
                paid.spread = paid.slippage = 0.0

    def _closed(self, record: TradeRecord) -> None:
        if not record.fills:
            self.outcome.unfilled.append(record)
            return
        assert self.last_decision is not None
        cost = cost_parts(record, self.broker.paid)
        self.outcome.trades.append(BacktestTrade(record, cost, self.last_decision))

    def drain(self, until_ms: int) -> None:
        """Process everything that is due before `until_ms`."""
        broker = self.broker
        while broker.heap and broker.heap[0][0] < until_ms:
            events = broker.next_events(until_ms)
            if events is None:
                return
            if events:
                if any([_wants_book(event, self.alpha) for event in events]):  # noqa: C419
                    events.insert(0, broker.quotes(self.symbols))
                self.deliver(events)


def _wants_book(event: Event, alpha: str) -> bool:
    """Whether handling the event needs quotes: an entry continues, or a position is closed at market."""
    kind = type(event)
    if kind is OrderUpdate:
        return event.status.is_terminal and role_of(event.client_id) in ENTRY_ROLES  # type: ignore[union-attr]
    return kind is Timer or (kind is Fill and event.symbol == alpha)  # type: ignore[union-attr]


def cost_parts(record: TradeRecord, paid: dict[str, Paid]) -> CostParts:
    """Return the costs of a trade's fills, in R."""
    risk = float(record.risk_quote)
    if risk <= 0:
        return CostParts(0.0, 0.0, 0.0, 0.0, 0.0)
    fees = sum((float(f.fee) for f in record.fills if f.symbol == record.symbol), 0.0)
    legs = sum((float(f.fee) for f in record.fills if f.symbol != record.symbol), 0.0)
    legs += sum((p.spread + p.slippage for s, p in paid.items() if s != record.symbol), 0.0)
    own = paid[record.symbol]
    return CostParts(fees / risk, own.spread / risk, own.slippage / risk, float(record.funding) / risk, legs / risk)
