"""The back-test's exchange: orders against bars, with nothing between but a heap (strategy 10).

A bar does not tell the way between its four prices. These are the assumptions, all of them; a report prints them.

* **One clock.** An order, a cancel and a timer take effect `latency_ms` (timers: at once) after the event that asked
  for them; what comes of it is known at that very instant.
* **The unit** is the 1m bar where every symbol that is held has the three of a 3m bar, else the 3m bar. What is sent at
  a bar's close arrives at the *open* of the next unit. What happens inside a unit (stops, targets) is told two seconds
  before its end, and what is sent because of it meets the unit's close.
* **Taking** fills whole at the price in force * (1 + spread/2 + slippage) (selling: minus), rounded against us to the
  tick. An IOC whose limit lies nearer expires. Depth is not modelled.
* **The post-only entry** is refused when it would take at the open. It fills only if the first 1m bar trades *through*
  its price, for at most (its lifetime / one minute) of that bar's volume; without 1m bars it does not fill.
* **Stops** trigger when a bar touches them and fill at their trigger, or at the open beyond it on a gap, less slippage.
  If a unit holds both a stop and a target, the stop comes first, unless the unit opens beyond the target.
* **Targets** fill as maker at their own price when a unit trades *through* them (`backtest.target_fill = "touch"`: at
  them). On the unit in which a resting entry filled they fill only if it closes beyond.
* **A stop moved inside a unit** (break-even after the first target) is hit in that unit only if the unit closes beyond
  it.
* **Funding** is paid at the unit's open at its time: -side * qty * price * rate. **Liquidation** by the isolated
  formula (venue notes 2.9) when a unit reaches its price before any stop: at that price or the open beyond it, never
  worse than the bankruptcy price, with what is left of the margin, at most 1.25 % of the value, as fee.
* When a position is flat, orders that could only reduce it end by themselves. Margin is never refused; the engine sizes
  for it.
"""

import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from bot.config import Config
from bot.core.errors import InvariantError
from bot.core.events import Event, Fill, LeverageSet, OrderUpdate, Quotes, TimerFired
from bot.core.intents import CancelOrder, CancelTimer, PlaceOrder, SetLeverage, SetTimer
from bot.core.types import Instrument, OrderSide, OrderStatus, OrderType, Quote, Round, TimeInForce, to_decimal
from bot.sim.account import Position, booked
from bot.sim.filters import SymbolRules

S = OrderStatus
ZERO: Final = Decimal(0)
WOULD_TAKE: Final = -5022
ALREADY_THROUGH: Final = -2021
NOTHING_TO_REDUCE: Final = -2022
BELOW_NOTIONAL: Final = -4164
EPSILON: Final = 1e-6  # of a tick: what a float may be off and still count as that tick
LIQUIDATION_WATCH: Final = 0.5  # share of the isolated margin whose loss makes the exact formula worth asking
_DEPTH: Final = Decimal(1_000_000)  # the book's quantity as quotes tell it; depth is not modelled


class Resting:
    """An order that the exchange holds."""

    __slots__ = ("fresh", "intent", "left", "level", "sign")

    def __init__(self, intent: PlaceOrder, level: float, *, fresh: bool) -> None:
        self.intent = intent
        self.sign = 1 if intent.side is OrderSide.BUY else -1
        self.left = intent.qty
        self.level = level  # trigger or limit
        self.fresh = fresh  # came inside the unit, after what happened in it


@dataclass(slots=True)
class Holding:
    """One symbol's position: what the exchange holds for us."""

    instrument: Instrument
    rules: SymbolRules
    tick: float
    qty: Decimal = ZERO  # signed
    cost: Decimal = ZERO  # what the open part was opened for
    margin: Decimal = ZERO  # isolated


@dataclass(slots=True)
class Paid:
    """What the fills of the current trade paid in spread and slippage, quote."""

    spread: float = 0.0
    slippage: float = 0.0


class Broker:
    """Orders, positions and timers of one run. Prices in force are floats by symbol, money is Decimal.

    Parameters
    ----------
    leverage
        In force on every symbol, as the engine set it.
    """

    def __init__(self, config: Config, instruments: Mapping[str, Instrument], rules: Mapping[str, SymbolRules]) -> None:
        settings = config.backtest
        self.latency_ms = settings.latency_ms
        self.half_spread, self.slippage = settings.spread / 2, settings.slippage
        self.touch = settings.target_fill == "touch"
        self.maker_share = config.entry.maker_timeout_ms / 60_000
        self.now = 0
        self.inside = False  # a unit's happenings have been told, its close is in force
        self.here: dict[str, float] = {}  # price in force
        self.minute: tuple[float, float, float] | None = None  # low, high, volume of the first 1m bar after the close
        self.maker_unit = False  # a resting entry filled in this unit
        self.holdings = {s: Holding(i, rules[s], float(i.tick)) for s, i in instruments.items()}
        self.orders: dict[str, dict[str, Resting]] = {s: {} for s in instruments}
        self.leverage: dict[str, int] = {}
        self.timers: dict[str, int] = {}
        self.heap: list[tuple[int, int, Any]] = []
        self.trade_id = 0
        self.paid = {s: Paid() for s in instruments}
        self._pushed = 0

    # What the engine wants

    def perform(self, output: Any) -> None:
        """Take an intent; its effect is on the heap."""
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
        """Let the next instant before `until_ms` happen and return what it tells; None if there is none.

        Everything that takes effect at one instant is told together. The list may be empty.
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
        if crosses:  # a target that the price has passed while it was under way
            self._take(intent, holding, min(intent.qty, able), here, events, limit=intent.price)
            return
        resting = Resting(intent, level, fresh=self.inside)
        self.orders[intent.symbol][intent.client_id] = resting
        events.append(self._told(intent, S.NEW, ZERO))
        if intent.time_in_force is TimeInForce.GTX:
            self._rest_as_maker(resting, holding, events)

    def _rest_as_maker(self, resting: Resting, holding: Holding, events: list[Event]) -> None:
        """Let the post-only entry meet the first minute."""
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
        if order is not None:  # else it ended before, and that was told
            events.append(self._told(order.intent, S.CANCELED, order.intent.qty - order.left))

    def _refused(self, intent: PlaceOrder, code: int) -> OrderUpdate:
        return OrderUpdate(
            self.now,
            intent.client_id,
            intent.symbol,
            S.REJECTED,
            intent.side,
            intent.qty,
            ZERO,
            ZERO,
            algo=intent.algo,
            code=code,
        )

    def _told(self, intent: PlaceOrder, status: OrderStatus, filled: Decimal) -> OrderUpdate:
        return OrderUpdate(
            self.now,
            intent.client_id,
            intent.symbol,
            status,
            intent.side,
            intent.qty,
            filled,
            ZERO,
            algo=intent.order_type is OrderType.STOP_MARKET,
        )

    # Prices

    def _tick(self, holding: Holding, price: float, sign: int) -> Decimal:
        """Round a price against us: up when buying, down when selling."""
        steps = price / holding.tick
        whole = math.ceil(steps - EPSILON) if sign > 0 else math.floor(steps + EPSILON)
        return holding.instrument.tick * whole

    def _near(self, holding: Holding, sign: int, here: float) -> Decimal:
        """Return the price that a taker of `sign` sees: the ask, or the bid."""
        return self._tick(holding, here * (1.0 + sign * self.half_spread), sign)

    def _taken_at(self, holding: Holding, sign: int, here: float) -> Decimal:
        return self._tick(holding, here * (1.0 + sign * (self.half_spread + self.slippage)), sign)

    def quotes(self, symbols: tuple[str, ...]) -> Quotes:
        """Return the book of `symbols` as it stands."""
        told = []
        for symbol in symbols:
            here = self.here.get(symbol)
            if here is not None:
                holding = self.holdings[symbol]
                bid, ask = self._near(holding, -1, here), self._near(holding, 1, here)
                told.append((symbol, Quote(bid, _DEPTH, ask, _DEPTH)))
        return Quotes(self.now, tuple(told))

    # Executions

    def _take(
        self,
        intent: PlaceOrder,
        holding: Holding,
        qty: Decimal,
        here: float,
        events: list[Event],
        *,
        limit: Decimal | None = None,
    ) -> None:
        """Execute at once against the book, never beyond `limit`."""
        sign = 1 if intent.side is OrderSide.BUY else -1
        price = self._taken_at(holding, sign, here)
        if limit is not None and sign * (price - limit) > 0:
            price = limit
        value = float(qty) * here
        paid = self.paid[intent.symbol]
        paid.spread += value * self.half_spread
        paid.slippage += sign * (float(qty * price) - value) - value * self.half_spread
        self._fill(intent, holding, qty, price, events, maker=False, resting=None)
        if intent.qty > qty:
            events.append(self._told(intent, S.EXPIRED, qty))

    def _fill(
        self,
        intent: PlaceOrder,
        holding: Holding,
        qty: Decimal,
        price: Decimal,
        events: list[Event],
        *,
        maker: bool,
        resting: Resting | None,
    ) -> None:
        """Book a fill and tell it; when it leaves nothing, what could only reduce ends."""
        instrument = holding.instrument
        fee = booked(qty * price * (instrument.maker_fee if maker else instrument.taker_fee))
        self._hold(holding, qty if intent.side is OrderSide.BUY else -qty, price)
        self.trade_id += 1
        events.append(
            Fill(self.now, intent.client_id, intent.symbol, intent.side, qty, price, fee, maker, self.trade_id)
        )
        if resting is not None:
            resting.left -= qty
            whole = intent.close_position and not holding.qty
            if whole:
                events.append(self._told(intent, S.FILLED, qty))
            if whole or (resting.left <= 0 and not intent.close_position):
                self.orders[intent.symbol].pop(intent.client_id, None)
        if not holding.qty:
            self._knock_out(intent.symbol, events)

    def _hold(self, holding: Holding, signed: Decimal, price: Decimal) -> None:
        held = holding.qty
        if held * signed < 0:
            left = held + signed
            if left * held < 0:
                raise InvariantError(f"{holding.instrument.symbol}: {signed} turned {held} around")
            share = left / held
            holding.cost, holding.margin, holding.qty = holding.cost * share, holding.margin * share, left
            return
        value = abs(signed) * price
        holding.qty += signed
        holding.cost += value
        holding.margin += value / self.leverage.get(holding.instrument.symbol, 20)

    def _knock_out(self, symbol: str, events: list[Event]) -> None:
        orders = self.orders[symbol]
        for client_id in [c for c, o in orders.items() if o.intent.reduce_only or o.intent.close_position]:
            order = orders.pop(client_id)
            events.append(self._told(order.intent, S.EXPIRED, order.intent.qty - order.left))

    # What bars do to what rests

    def gap(self, symbol: str, price: float, events: list[Event]) -> None:
        """Open a unit: stops beyond which it opens fill there, targets too at their own price."""
        self.here[symbol] = price
        holding = self.holdings[symbol]
        if not holding.qty:
            return
        if self._liquidated(symbol, holding, price, events, opened=price):
            return
        for order in self._by_distance(symbol, stops=True):
            if order.sign * (price - order.level) >= 0:
                self._stopped(order, holding, price, events)
                if not holding.qty:
                    return
        for order in self._by_distance(symbol, stops=False):
            if order.sign * (price - order.level) < 0:
                self._reached(order, holding, events)
                if not holding.qty:
                    return

    def pass_bar(self, symbol: str, low: float, high: float, close: float, events: list[Event]) -> None:
        """Let a unit pass after its open: stops that it touches, else targets that it trades through."""
        holding = self.holdings[symbol]
        if not holding.qty:
            self.here[symbol] = close
            return
        long = holding.qty > 0
        worst, best = (low, high) if long else (high, low)
        stopped = False
        for order in self._by_distance(symbol, stops=True):
            if order.sign * (worst - order.level) >= 0:
                stopped = True
                self.here[symbol] = order.level
                self._stopped(order, holding, order.level, events)
                if not holding.qty:
                    return
        if self._liquidated(symbol, holding, worst, events) or stopped:
            return
        self.here[symbol] = close
        for order in self._by_distance(symbol, stops=False):
            beyond = -order.sign * (best - order.level)
            hit = beyond >= 0 if self.touch else beyond > 0
            if hit and self.maker_unit:
                hit = -order.sign * (close - order.level) > 0
            if hit:
                self.here[symbol] = order.level
                self._reached(order, holding, events)
                if not holding.qty:
                    return

    def close_bar(self, symbol: str, close: float, events: list[Event]) -> None:
        """End a unit: a stop that came inside it is hit if the unit closes beyond."""
        self.here[symbol] = close
        holding = self.holdings[symbol]
        if not holding.qty:
            return
        for order in self._by_distance(symbol, stops=True):
            if order.fresh and order.sign * (close - order.level) >= 0:
                self._stopped(order, holding, order.level, events)
                if not holding.qty:
                    return

    def unmoved(self, prices: Mapping[str, tuple[float, float, float, float]]) -> bool:
        """Whether bars (open, high, low, close by symbol) reach nothing that rests: then finer ones would tell nothing."""
        for symbol, orders in self.orders.items():
            if not orders:
                continue
            bar = prices.get(symbol)
            if bar is None:
                return False
            _, high, low, _ = bar
            for order in orders.values():
                stop = order.intent.order_type is OrderType.STOP_MARKET
                # A buy stop and a sell limit are met from below, the others from above.
                above = (order.sign > 0) is stop
                if order.intent.time_in_force is TimeInForce.GTX or (
                    high >= order.level if above else low <= order.level
                ):
                    return False
        return not any(type(item) is PlaceOrder for _, _, item in self.heap)

    @property
    def covered(self) -> bool:
        """Whether every position has a stop: then nothing can happen to it that its stop does not meet first."""
        return all(
            not h.qty or any(o.intent.order_type is OrderType.STOP_MARKET for o in self.orders[s].values())
            for s, h in self.holdings.items()
        )

    def stale(self, item: tuple[int, int, Any]) -> bool:
        """Whether a timer on the heap was replaced or cancelled."""
        return self.timers.get(item[2].name) != item[0]

    def forget(self) -> None:
        """Drop timers and cancels that nobody waits for any more."""
        self.heap.clear()
        self.timers.clear()

    def begin_unit(self) -> None:
        """Forget what was special about the unit before."""
        self.inside = self.maker_unit = False
        for orders in self.orders.values():
            for order in orders.values():
                order.fresh = False

    def _by_distance(self, symbol: str, *, stops: bool) -> list[Resting]:
        """Return resting exits, the nearest to the price first."""
        found = [
            o
            for o in self.orders[symbol].values()
            if (o.intent.order_type is OrderType.STOP_MARKET) is stops
            and (o.intent.reduce_only or o.intent.close_position)
        ]
        if len(found) > 1:
            found.sort(key=lambda o: o.sign * o.level if stops else -o.sign * o.level)
        return found

    def _stopped(self, order: Resting, holding: Holding, price: float, events: list[Event]) -> None:
        """Fill a triggered stop at `price` less slippage."""
        intent, held = order.intent, abs(holding.qty)
        qty = held if intent.close_position else min(order.left, held)
        at = self._tick(holding, price * (1.0 + order.sign * self.slippage), order.sign)
        self.paid[intent.symbol].slippage += order.sign * float(qty) * (float(at) - price)
        self._fill(intent, holding, qty, at, events, maker=False, resting=order)

    def _reached(self, order: Resting, holding: Holding, events: list[Event]) -> None:
        intent = order.intent
        assert intent.price is not None
        self._fill(intent, holding, min(order.left, abs(holding.qty)), intent.price, events, maker=True, resting=order)

    # Margin

    def _liquidated(
        self, symbol: str, holding: Holding, worst: float, events: list[Event], *, opened: float | None = None
    ) -> bool:
        """Close what the isolated margin no longer carries at `worst`: at the liquidation price, or where a gap `opened`."""
        size, sign = abs(holding.qty), 1 if holding.qty > 0 else -1
        if sign * (float(holding.cost) - float(size) * worst) < LIQUIDATION_WATCH * float(holding.margin):
            return False
        leverage, reached = self.leverage.get(symbol, 20), to_decimal(worst)
        level = Position(holding.rules, holding.qty, holding.cost, holding.margin, leverage, isolated=True).liquidation(
            reached
        )
        if sign * (reached - level) > 0:
            return False
        at = level if opened is None else sign * min(sign * level, sign * to_decimal(opened))
        instrument = holding.instrument
        bankrupt = instrument.price((holding.cost - sign * holding.margin) / size, Round.UP if sign > 0 else Round.DOWN)
        price = sign * max(sign * self._tick(holding, float(at), -sign), sign * bankrupt)
        left = max(holding.margin + sign * (price * size - holding.cost), ZERO)
        fee = booked(min(left, size * price * holding.rules.liquidation_fee))
        side = OrderSide.SELL if sign > 0 else OrderSide.BUY
        holding.qty = holding.cost = holding.margin = ZERO
        self.trade_id += 1
        client_id = f"autoclose-{self.now}{self.trade_id}"
        events.append(Fill(self.now, client_id, symbol, side, size, price, fee, False, self.trade_id))
        self._knock_out(symbol, events)
        return True
