"""One pass of the engine over prepared history: which bars are fed, when, and what the broker makes of them.

Quiet bars are passed over: with nothing open and no signal the engine would only look at the bar and go on. Before the
next bar that signals, the closes of the last hour are handed to it and it stands where it would have stood. While
something is open every bar is fed. Both are settings, so that a test can show that they change nothing.
"""

import heapq
import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

import numpy as np

from bot.config import Config
from bot.core.events import AccountUpdate, Command, Event, Fill, Funding, KlineClosed, OrderUpdate, SessionStarted
from bot.core.events import TimerFired as Timer
from bot.core.klines import Klines
from bot.core.records import Decision, EquityPoint, TradeRecord
from bot.core.types import Instrument, Kline, to_decimal
from bot.engine import Engine
from bot.market.events_calendar import load_calendar
from bot.market.paths import project_file
from bot.orders.ids import role_of
from bot.research.broker import Broker, Paid
from bot.research.bt_data import BASE_MS, MINUTE_MS, Prepared, Symbol
from bot.research.bt_legs import LEG_COLUMNS
from bot.research.result import BacktestTrade, CostParts, EntryTime
from bot.sim.account import booked
from bot.sim.filters import SymbolRules, rules_for
from bot.strategy.setup import Row
from bot.strategy.tags import CONDITIONS

TOLD_MS: Final = 2_000  # before the end of a unit: what happened inside it is told
ENDED_MS: Final = 1_000  # before its end: its close is known
_ENTRY_ROLES: Final = ("en", "io")


def instruments_of(config: Config, prepared: Prepared) -> tuple[dict[str, Instrument], dict[str, SymbolRules]]:
    """Return filters, tiers and fees of all symbols, as the embedded exchange has them."""
    fees = config.venue.sim
    rules = {name: rules_for(name, float(s.base.close[0])) for name, s in prepared.symbols.items()}
    for name in config.data.symbols:  # without a hedge the legs are only names
        rules.setdefault(name, rules_for(name, 100.0))
    made = {
        name: Instrument(
            name,
            r.tick,
            r.step,
            r.step,
            r.max_qty,
            r.market_max_qty,
            r.min_notional,
            r.tiers,
            to_decimal(fees.maker_fee),
            to_decimal(fees.taker_fee),
        )
        for name, r in rules.items()
    }
    return made, rules


def calendar_of(config: Config) -> tuple[tuple[int, str, str], ...]:
    """Return the events that black entries out, as the engine takes them."""
    return tuple((e.ms, e.name, e.impact) for e in load_calendar(project_file(config.events.file)))


class Rows:
    """The indicators' results, handed to the engine bar by bar in place of the live step."""

    def __init__(self) -> None:
        self.next: dict[str, Row | None] = {}

    def step(self, event: KlineClosed) -> Row | None:
        """Return the row of the bar."""
        return self.next[event.kline.symbol]


@dataclass(slots=True)
class Outcome:
    """What the passes left behind, in order."""

    trades: list[BacktestTrade] = field(default_factory=list)
    unfilled: list[TradeRecord] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    equity: list[EquityPoint] = field(default_factory=list)


class Bars:
    """One symbol's bars for stepping: arrays for the search, plain numbers on request."""

    __slots__ = ("base", "columns", "first_ms", "funding", "index", "minutes", "name", "paid_ms", "times", "whole")

    def __init__(self, name: str, symbol: Symbol) -> None:
        self.name, self.base, self.minutes = name, symbol.base, symbol.minutes
        self.times = self.base.open_ms
        self.first_ms = int(self.times[0])
        self.whole = not symbol.resets  # without long gaps a bar's place follows from its time
        self.index = 0  # of the bar looked at last
        self.funding = symbol.funding
        self.paid_ms: list[int] = (symbol.funding.funding_ms - symbol.funding.funding_ms % MINUTE_MS).tolist()
        self.columns = (self.base.open, self.base.high, self.base.low, self.base.close)

    def at(self, open_ms: int) -> int:
        """Return the position of the bar that opens at `open_ms`, -1 if there is none."""
        i = (open_ms - self.first_ms) // BASE_MS
        if not self.whole:
            i = int(self.times.searchsorted(open_ms))
        if not 0 <= i < len(self.times) or self.times[i] != open_ms:
            return -1
        self.index = i
        return i

    def prices(self, i: int) -> tuple[float, float, float, float]:
        """Return open, high, low and close of a base bar."""
        opened, high, low, close = self.columns
        return opened.item(i), high.item(i), low.item(i), close.item(i)

    def minute_at(self, open_ms: int) -> int:
        """Return the position of the first of the three minutes of a base bar, -1 unless all three are there."""
        minutes = self.minutes
        if minutes is None:
            return -1
        i = int(np.searchsorted(minutes.open_ms, open_ms))
        whole = i + 2 < len(minutes) and minutes.open_ms[i] == open_ms
        return i if whole and minutes.open_ms[i + 2] == open_ms + 2 * MINUTE_MS else -1


class Pass:
    """An engine, a broker and the bars between them.

    Parameters
    ----------
    every_bar
        Feed every bar and let every bar decide, instead of passing over the quiet ones.
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
        self.bars = {name: Bars(name, symbol) for name, symbol in prepared.symbols.items()}
        self.outcome = Outcome()
        self.entries: dict[int, EntryTime] = {}
        self.decided: dict[int, Decision] = {}
        self.start(prepared.from_ms)

    # Sessions

    def start(self, at_ms: int) -> None:
        """Begin with a fresh engine and the initial equity."""
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
        """Hand events of one instant to the engine and take what it says."""
        if not events:
            return
        if self.one_by_one:
            for event in events:
                self._take(self.engine.handle(event))
        else:
            self._take(self.engine.handle_all(events))

    def _take(self, outputs: Sequence[Any]) -> None:
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
        """Let everything happen that is due before `until_ms`."""
        broker = self.broker
        while broker.heap and broker.heap[0][0] < until_ms:
            events = broker.next_events(until_ms)
            if events is None:
                return
            if events:
                if any(_wants_book(event, self.alpha) for event in events):
                    events.insert(0, broker.quotes(self.symbols))
                self.deliver(events)

    # Bars

    def decide(self, index: int) -> None:
        """Feed the bar at `index` to an engine that is flat: bring it up to date, then let it decide."""
        alpha = self.bars[self.alpha]
        open_ms = int(alpha.times[index])
        length = self.config.hedge.length + 2
        for name, bars in self.bars.items():
            series = self.engine.known.series[name]
            stop = index if name == self.alpha else int(np.searchsorted(bars.times, open_ms))
            part = slice(max(0, stop - length), stop)
            opens = bars.times[part].tolist()
            series.closes = dict(zip(opens, bars.base.close[part].tolist(), strict=True))
            if opens and name in self.prepared.symbols:
                self._forget_before_gap(name, series.closes, part)
            series.last_open_ms = opens[-1] if opens else -1
        self.close(index)

    def _forget_before_gap(self, name: str, closes: dict[int, float], part: slice) -> None:
        """Drop closes from before a long gap, as the engine does when it meets one."""
        for reset in self.prepared.symbols[name].resets:
            if part.start < reset < part.stop:
                for open_ms in self.bars[name].times[part.start : reset].tolist():
                    del closes[open_ms]

    def close(self, index: int) -> None:
        """Close the base bar at `index` of the traded symbol: legs first, then the bar, in one instant."""
        bars, broker = self.bars[self.alpha], self.broker
        open_ms = int(bars.times[index])
        now = open_ms + BASE_MS
        broker.now = max(broker.now, now)
        entry = self.entries.get(index)
        columns = self.prepared.columns
        signal = entry is not None or bool(columns.long_signal[index] ^ columns.short_signal[index])
        row = columns.row(index)
        if self.entries:
            row = entry_row(row, float(bars.base.close[index]), entry)
            signal = entry is not None
        elif self.every_bar:
            row = row | columns.conditions(index)
        events: list[Event] = []
        if signal or self.engine.trade is not None:
            if signal:
                events.extend(self._funding_rates(now))
            # At the decision the book stands around the close; the next bar's open is not known yet.
            for name in self.symbols:
                i = index if name == self.alpha else self.bars[name].at(open_ms)
                if i >= 0:
                    broker.here[name] = float(self.bars[name].base.close[i])
            if signal or self._may_exit(row, float(bars.base.close[index])):
                events.append(broker.quotes(self.symbols))
        for name in self.legs:
            leg = self.bars[name]
            i = leg.at(open_ms)
            if i >= 0 and not leg.base.filled[i]:
                self.rows.next[name] = dict(zip(LEG_COLUMNS, self.prepared.legs[name][i].tolist(), strict=True))
                events.append(KlineClosed(now, kline_of(leg.base, i)))
        if not bars.base.filled[index]:
            self.rows.next[self.alpha] = row
            events.append(KlineClosed(now, kline_of(bars.base, index)))
        self.deliver(events)

    def _may_exit(self, row: dict[str, float], close: float) -> bool:
        """Whether a bar may end a trade: then prices are told with it, to measure slippage against."""
        trade = self.engine.trade
        if trade is None or not trade.entry.done:
            return trade is not None
        sign = trade.side.sign
        if row["pac_event"] >= 2.0 and row["pac_dir"] == -sign:
            return True
        if row["smc_int_bear_choch" if sign > 0 else "smc_int_bull_choch"] == 1.0:
            return True
        return trade.trailing and ((row["sta_os"] == 1.0) is (sign < 0) or not sign * (close - row["sta_ts"]) > 0.0)

    def _funding_rates(self, now: int) -> list[Event]:
        bars = self.bars[self.alpha]
        funding = bars.funding
        mark = to_decimal(float(bars.base.close[bars.index]))
        told = Funding(
            now,
            self.alpha,
            mark,
            to_decimal(funding.rate_at(now)),
            funding.next_ms(now),
            funding.interval_hours_at(now),
        )
        return [told]

    def live_through(self, index: int) -> None:
        """Let the base bar at `index` happen, up to its close."""
        bars = self.bars[self.alpha]
        open_ms = int(bars.times[index])
        places = {name: (index if name == self.alpha else self.bars[name].at(open_ms)) for name in self.symbols}
        minute = bars.minute_at(open_ms)
        minutes = bars.minutes
        if minutes is not None and minute >= 0:
            low, high, volume = (float(column[minute]) for column in (minutes.low, minutes.high, minutes.volume))
            self.broker.minute = (low, high, volume)
        else:
            self.broker.minute = None
        whole = {n: self.bars[n].prices(i) for n, i in places.items() if i >= 0}
        if self._nothing_happens(open_ms, whole):
            for name, prices in whole.items():
                self.broker.here[name] = prices[3]
            return
        units = self._units(whole, open_ms, minute)
        for at_ms, length, bars_of in units:
            self._unit(at_ms, length, bars_of)
            if not self.engine.wants_quotes:
                return

    def _nothing_happens(self, open_ms: int, whole: dict[str, tuple[float, float, float, float]]) -> bool:
        """Whether the bar reaches nothing that rests, nothing is under way, and no timer or funding falls into it."""
        broker, end_ms = self.broker, open_ms + BASE_MS
        while broker.heap and type(broker.heap[0][2]) is Timer and broker.stale(broker.heap[0]):
            heapq.heappop(broker.heap)
        if (broker.heap and broker.heap[0][0] < end_ms) or not broker.covered or not broker.unmoved(whole):
            return False
        before, self.funding_until = self.funding_until, open_ms
        for bars in self.bars.values():
            if bisect_right(bars.paid_ms, open_ms) != bisect_right(bars.paid_ms, before):
                self.funding_until = before
                return False
        return True

    def _units(
        self, whole: dict[str, tuple[float, float, float, float]], open_ms: int, minute: int
    ) -> list[tuple[int, int, dict[str, tuple[float, float, float, float]]]]:
        """Return (start, length, open high low close by symbol) of the units: three minutes where all symbols have them."""
        if minute < 0 or self.broker.unmoved(whole):
            return [(open_ms, BASE_MS, whole)]
        starts = {}
        for name in whole:
            starts[name] = minute if name == self.alpha else self.bars[name].minute_at(open_ms)
            if starts[name] < 0:
                return [(open_ms, BASE_MS, whole)]
        units = []
        for k in range(3):
            prices = {}
            for name, first in starts.items():
                m = self.bars[name].minutes
                assert m is not None
                i = first + k
                prices[name] = (float(m.open[i]), float(m.high[i]), float(m.low[i]), float(m.close[i]))
            units.append((open_ms + k * MINUTE_MS, MINUTE_MS, prices))
        return units

    def _unit(self, at_ms: int, length: int, prices: dict[str, tuple[float, float, float, float]]) -> None:
        broker = self.broker
        order = [n for n in (*self.legs, self.alpha) if n in prices]
        held = broker.holdings
        # The open: funding, gaps, and what was sent at the close before.
        broker.begin_unit()
        for name in order:
            broker.here[name] = prices[name][0]  # a time that nobody recorded ends here
        self.drain(at_ms)
        broker.now = at_ms
        events = self._funding_paid(at_ms)
        for name in order:
            broker.gap(name, prices[name][0], events)
        self._tell(events)
        self.drain(at_ms + length - TOLD_MS)
        # What the bar's extremes did, told near its end.
        broker.now, broker.inside, events = at_ms + length - TOLD_MS, True, []
        for name in order:
            _, high, low, close = prices[name]
            if held[name].qty:
                broker.pass_bar(name, low, high, close, events)
            else:
                broker.here[name] = close
        self._tell(events)
        self.drain(at_ms + length - ENDED_MS)
        broker.now, events = at_ms + length - ENDED_MS, []
        for name in order:
            broker.close_bar(name, prices[name][3], events)
        self._tell(events)
        self.drain(at_ms + length)

    def _tell(self, events: list[Event]) -> None:
        if events:
            if any(type(e) is Fill for e in events):
                events.insert(0, self.broker.quotes(self.symbols))
            self.deliver(events)

    def _funding_paid(self, now: int) -> list[Event]:
        """Pay the funding that fell due since the last unit."""
        before, self.funding_until = self.funding_until, now
        events: list[Event] = []
        for name in self.symbols:
            holding = self.broker.holdings[name]
            if not holding.qty:
                continue
            times = self.bars[name].paid_ms
            for i in range(bisect_right(times, before), bisect_right(times, now)):
                rate = to_decimal(float(self.bars[name].funding.rate[i]))
                change = booked(-holding.qty * to_decimal(self.broker.here[name]) * rate)
                if change:
                    self.paid_funding += change
                    events.append(AccountUpdate(now, "FUNDING_FEE", self.paid_funding, change, ()))
        return events

    # The whole range

    def run(self, candidates: Sequence[int], *, progress: Callable[[int], None] | None = None) -> None:
        """Live through the range, stopping at `candidates` (positions of bars that signal, rising)."""
        stop = self.prepared.stop
        index, ahead = self.prepared.first, list(reversed(candidates))
        while True:
            while ahead and ahead[-1] < index:
                ahead.pop()
            if self.every_bar:
                if index >= stop:
                    break
                self.close(index)
            else:
                if not ahead:
                    break
                index = ahead.pop()
                if progress is not None:
                    progress(index - self.prepared.first)
                self.decide(index)
            index = self._until_flat(index + 1)
        if progress is not None:
            progress(stop - self.prepared.first)
        self.finish()

    def run_alone(
        self, entries: Sequence[tuple[int, EntryTime]], *, progress: Callable[[int], None] | None = None
    ) -> list[BacktestTrade | str]:
        """Take each entry by itself, with a fresh engine; return its trade, or why there was none."""
        found: list[BacktestTrade | str] = []
        for number, (index, entry) in enumerate(entries):
            self.start(int(self.bars[self.alpha].times[index]))
            self.outcome = Outcome()
            self.decided.clear()
            self.entries = {index: entry}
            self.decide(index)
            self._until_flat(index + 1)
            self.finish()
            if self.outcome.trades:
                found.append(self.outcome.trades[0])
            elif self.outcome.unfilled:
                found.append(self.outcome.unfilled[0].exit_reason)
            else:
                found.append(next((d.code for d in self.decided.values() if d.signal), "no_decision"))
            if progress is not None:
                progress(number + 1)
        return found

    def _until_flat(self, index: int) -> int:
        """Live through bars from `index` on while something is open; return the next bar to look at."""
        stop, engine = self.prepared.stop, self.engine
        self.funding_until = int(self.bars[self.alpha].times[index - 1]) + BASE_MS
        while engine.wants_quotes and index < stop:
            self.live_through(index)
            if not engine.wants_quotes and not self.every_bar:
                break
            if engine.wants_quotes:
                self.close(index)
                index += 1
            else:
                break
        if not engine.wants_quotes:
            self.broker.forget()
        return index

    def finish(self) -> None:
        """Value what is still open at the last closes."""
        if self.engine.wants_quotes:
            self.deliver([Command(self.prepared.to_ms, "end_of_data")])


def _wants_book(event: Event, alpha: str) -> bool:
    """Whether prices are read when the event is handled: an entry goes on, or something leaves at market."""
    kind = type(event)
    if kind is OrderUpdate:
        return event.status.is_terminal and role_of(event.client_id) in _ENTRY_ROLES  # type: ignore[union-attr]
    return kind is Timer or (kind is Fill and event.symbol == alpha)  # type: ignore[union-attr]


def kline_of(bars: Klines, i: int) -> Kline:
    """Return one bar as the value that events carry."""
    columns = (bars.open_ms, bars.open, bars.high, bars.low, bars.close, bars.volume, bars.taker_buy_volume)
    return Kline(bars.symbol, bars.interval_ms, *(column.item(i) for column in columns))


def entry_row(row: dict[str, float], close: float, entry: EntryTime | None) -> dict[str, float]:
    """Return a bar's values with its signal replaced by a given entry, or taken away."""
    row = {**row, "long_signal": 0.0, "short_signal": 0.0}
    if entry is None:
        return row
    side = entry.side.name.lower()
    atr = row["atr14"]
    bottom, top = close + entry.bottom_atr * atr, close + entry.top_atr * atr
    row |= {f"{side}_{name}": 1.0 for name in (*CONDITIONS, "signal")}
    row |= {f"{side}_ob_bottom": bottom, f"{side}_ob_top": top, f"{side}_ob_id": math.nan}
    return row | {f"{side}_ob_refined_bottom": bottom, f"{side}_ob_refined_top": top}


def cost_parts(record: TradeRecord, paid: dict[str, Paid]) -> CostParts:
    """Return what a trade's fills paid, in R."""
    risk = float(record.risk_quote)
    if risk <= 0:
        return CostParts(0.0, 0.0, 0.0, 0.0, 0.0)
    fees = sum(float(f.fee) for f in record.fills if f.symbol == record.symbol)
    legs = sum(float(f.fee) for f in record.fills if f.symbol != record.symbol)
    legs += sum(p.spread + p.slippage for s, p in paid.items() if s != record.symbol)
    own = paid[record.symbol]
    return CostParts(fees / risk, own.spread / risk, own.slippage / risk, float(record.funding) / risk, legs / risk)


def candidates_of(prepared: Prepared) -> list[int]:
    """Return the positions of the bars that signal on exactly one side."""
    columns = prepared.columns
    part = slice(prepared.first, prepared.stop)
    found: list[int] = (
        prepared.first + np.flatnonzero(columns.long_signal[part] ^ columns.short_signal[part])
    ).tolist()
    return found
