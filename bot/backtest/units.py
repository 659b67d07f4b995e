"""Simulate the time between two closes: match base or 1m bars against resting orders, and pay funding."""

from bisect import bisect_right
from typing import Final

from bot.backtest.bars import Prices
from bot.backtest.data import BASE_MS
from bot.backtest.session import BacktestSession
from bot.core.events import AccountUpdate, Event, Fill
from bot.core.times import MINUTE_MS
from bot.core.types import to_decimal
from bot.sim.account import booked

TOLD_MS: Final = 2_000  # before the end of a unit: fills inside it are reported
ENDED_MS: Final = 1_000  # before the end of a unit: its close is known


class Units(BacktestSession):
    """A session that simulates base bars, in 1m steps where available and something could happen."""

    def live_through(self, index: int) -> None:
        """Simulate the base bar at `index` up to its close."""
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

    def _nothing_happens(self, open_ms: int, whole: dict[str, Prices]) -> bool:
        """Whether the bar reaches no resting order, nothing is in flight, and no timer or funding falls into it."""
        broker, end_ms = self.broker, open_ms + BASE_MS
        if broker.next_ms() < end_ms or not broker.covered or not broker.unmoved(whole):
            return False
        before, self.funding_until = self.funding_until, open_ms
        for bars in self.bars.values():
            if bisect_right(bars.paid_ms, open_ms) != bisect_right(bars.paid_ms, before):
                self.funding_until = before
                return False
        return True

    def _units(self, whole: dict[str, Prices], open_ms: int, minute: int) -> list[tuple[int, int, dict[str, Prices]]]:
        """Return (start, length, prices by symbol) of the units: three 1m bars where all symbols have them."""
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

    def _unit(self, at_ms: int, length: int, prices: dict[str, Prices]) -> None:
        broker = self.broker
        order = [n for n in (*self.legs, self.alpha) if n in prices]
        held = broker.holdings
        # The open: funding, gaps, and orders sent at the previous close.
        broker.begin_unit()
        for name in order:
            broker.here[name] = prices[name][0]  # after a gap in the data, orders that arrived in it fill at this open
        self.drain(at_ms)
        broker.now = at_ms
        events = self._funding_paid(at_ms)
        for name in order:
            broker.gap(name, prices[name][0], events)
        self._tell(events)
        self.drain(at_ms + length - TOLD_MS)
        # Fills at the bar's extremes, reported near its end.
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
