"""The simulated exchange of the back-test: matches orders against bars, with one event heap (strategy 10).

A bar does not give the path between its four prices. All assumptions are listed here, and every report prints them.

* **One clock.** An order, a cancel and a timer take effect `latency_ms` (timers: at once) after the event that asked
  for them; the result is reported at that same instant.
* **The unit** is the 1m bar where every symbol has all three 1m bars of a 3m bar, else the 3m bar. An order sent at a
  bar's close arrives at the *open* of the next unit. Fills inside a unit (stops, targets) are reported two seconds
  before its end, and orders sent in response fill at the unit's close.
* **Taker orders** fill completely at the current price * (1 + spread/2 + slippage) (selling: minus), rounded against us
  to the tick. An IOC whose limit is worse than that expires. Depth is not modelled.
* **The post-only entry** is rejected if it would take at the open. It fills only if the first 1m bar trades *through*
  its price, for at most (its lifetime / one minute) of that bar's volume; without 1m bars it does not fill.
* **Stops** trigger when a bar touches them and fill at their trigger, or at the open beyond it on a gap, less slippage.
  If a unit reaches both a stop and a target, the stop comes first, unless the unit opens beyond the target.
* **Targets** fill as maker at their own price when a unit trades *through* them (`backtest.target_fill = "touch"`: when
  it touches them). On the unit in which a resting entry filled, they fill only if the unit closes beyond them.
* **A stop moved inside a unit** (break-even after the first target) triggers in that unit only if the unit closes
  beyond it.
* **Funding** is paid at the open of the unit in which it falls due: -side * qty * price * rate. **Liquidation** follows
  the isolated-margin formula (venue notes 2.9) when a unit reaches its price before any stop: at that price or the open
  beyond it, never worse than the bankruptcy price. The fee is the remaining margin, at most 1.25 % of the notional.
* When a position is closed, its reduce-only orders expire. Orders are never rejected for margin; the engine sizes for
  it.
"""

import heapq
from typing import Any, Final

from bot.backtest.broker_bars import BarBook
from bot.backtest.broker_book import EPSILON, ZERO, BrokerHolding, Resting, S
from bot.core.events import Event, LeverageSet, TimerFired
from bot.core.intents import CancelOrder, CancelTimer, PlaceOrder, SetLeverage, SetTimer
from bot.core.types import OrderSide, OrderType, TimeInForce

FAR_MS: Final = 1 << 62
WOULD_TAKE: Final = -5022
ALREADY_THROUGH: Final = -2021
NOTHING_TO_REDUCE: Final = -2022
BELOW_NOTIONAL: Final = -4164


class Broker(BarBook):
    """The exchange of one run: queues intents, executes them after latency and reports the results."""

    # Intents

    def perform(self, output: Any) -> None:
        """Queue an intent on the heap, or start or cancel a timer."""
        kind = type(output)
        if kind is PlaceOrder or kind is CancelOrder or kind is SetLeverage:
            self._push(self.now + self.latency_ms, output)
        elif kind is SetTimer:
            at_ms = self.now + output.delay_ms
            self.timers[output.name] = at_ms
            self._push(at_ms, TimerFired(at_ms, output.name))
        elif kind is CancelTimer:
            self.timers.pop(output.name, None)

    def _push(self, at_ms: int, item: Any) -> None:
        self._pushed += 1
        heapq.heappush(self.heap, (at_ms, self._pushed, item))

    def next_events(self, until_ms: int) -> list[Event] | None:
        """Process the next instant before `until_ms` and return its events; None if nothing is due.

        Everything that takes effect at one instant is returned together. The list may be empty.
        """
        heap = self.heap
        while heap and heap[0][0] < until_ms:
            at_ms = heap[0][0]
            self.now = max(self.now, at_ms)
            events: list[Event] = []
            seen = False
            while heap and heap[0][0] == at_ms:
                item = heapq.heappop(heap)[2]
                kind = type(item)
                if kind is TimerFired:
                    if self.timers.get(item.name) == at_ms:
                        del self.timers[item.name]
                        events.append(item)
                        seen = True
                    continue
                seen = True
                if kind is PlaceOrder:
                    self._arrive(item, events)
                elif kind is CancelOrder:
                    self._cancel(item, events)
                else:
                    self.leverage[item.symbol] = item.leverage
                    events.append(LeverageSet(at_ms, item.symbol, item.leverage))
            if seen:
                return events
        return None

    # Arrivals

    def _arrive(self, intent: PlaceOrder, events: list[Event]) -> None:
        holding = self.holdings[intent.symbol]
        kind = intent.order_type
        sign = 1 if intent.side is OrderSide.BUY else -1
        if intent.reduce_only and not intent.algo:
            able = max(-sign * holding.qty, ZERO)
            if not able:
                events.append(self._refused(intent, NOTHING_TO_REDUCE))
                return
        else:
            able = intent.qty
        here = self.here[intent.symbol]
        if kind is OrderType.STOP_MARKET:
            assert intent.trigger_price is not None
            level = float(intent.trigger_price)
            if sign * (here - level) >= 0:
                events.append(self._refused(intent, ALREADY_THROUGH))
                return
            self.orders[intent.symbol][intent.client_id] = Resting(intent, level, fresh=self.inside)
            events.append(self._told(intent, S.NEW, ZERO))
            return
        if kind is OrderType.MARKET:
            if (
                not intent.reduce_only
                and intent.qty * self._near(holding, sign, here) < holding.instrument.min_notional
            ):
                events.append(self._refused(intent, BELOW_NOTIONAL))
                return
            self._take(intent, holding, min(intent.qty, able), here, events)
            return
        assert intent.price is not None
        if not intent.reduce_only and intent.qty * intent.price < holding.instrument.min_notional:
            events.append(self._refused(intent, BELOW_NOTIONAL))
            return
        level = float(intent.price)
        far = float(self._near(holding, sign, here))
        crosses = sign * (level - far) > -EPSILON * holding.tick
        if intent.time_in_force is TimeInForce.IOC:
            cost = self._taken_at(holding, sign, here)
            if sign * (intent.price - cost) >= 0:
                self._take(intent, holding, intent.qty, here, events)
            else:
                events.append(self._told(intent, S.EXPIRED, ZERO))
            return
        if intent.time_in_force is TimeInForce.GTX and crosses:
            events.append(self._refused(intent, WOULD_TAKE))
            return
        if crosses:  # a target that the price passed while it was in flight
            self._take(intent, holding, min(intent.qty, able), here, events, limit=intent.price)
            return
        resting = Resting(intent, level, fresh=self.inside)
        self.orders[intent.symbol][intent.client_id] = resting
        events.append(self._told(intent, S.NEW, ZERO))
        if intent.time_in_force is TimeInForce.GTX:
            self._rest_as_maker(resting, holding, events)

    def _rest_as_maker(self, resting: Resting, holding: BrokerHolding, events: list[Event]) -> None:
        """Match the post-only entry against the first 1m bar."""
        if self.minute is None:
            return
        low, high, volume = self.minute
        through = low < resting.level if resting.sign > 0 else high > resting.level
        if not through:
            return
        qty = min(resting.left, holding.instrument.qty(self.maker_share * volume))
        if qty > 0:
            assert resting.intent.price is not None
            self.maker_unit = True
            self._fill(resting.intent, holding, qty, resting.intent.price, events, maker=True, resting=resting)

    def _cancel(self, intent: CancelOrder, events: list[Event]) -> None:
        order = self.orders[intent.symbol].pop(intent.client_id, None)
        if order is not None:  # else it is already terminal, which was reported
            events.append(self._told(order.intent, S.CANCELED, order.intent.qty - order.left))

    def next_ms(self) -> int:
        """Return the next instant at which something takes effect, `FAR_MS` if none; drop stale timers."""
        heap = self.heap
        while heap and type(heap[0][2]) is TimerFired and self.stale(heap[0]):
            heapq.heappop(heap)
        return heap[0][0] if heap else FAR_MS

    def stale(self, item: tuple[int, int, Any]) -> bool:
        """Whether a timer on the heap was replaced or cancelled."""
        return self.timers.get(item[2].name) != item[0]

    def forget(self) -> None:
        """Drop pending timers and cancels once the engine is flat."""
        self.heap.clear()
        self.timers.clear()
