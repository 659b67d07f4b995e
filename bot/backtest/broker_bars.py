"""Match resting orders against bars: gaps, stops, targets, liquidation. The assumptions are listed in `broker`."""

import math
from collections.abc import Mapping
from typing import Final

from bot.backtest.broker_book import ZERO, BrokerBook, BrokerHolding, Resting
from bot.core.events import Event, Fill
from bot.core.intents import PlaceOrder
from bot.core.types import OrderSide, OrderType, Round, TimeInForce, to_decimal
from bot.sim.account import VenuePosition, booked

LIQUIDATION_WATCH: Final = 0.5  # share of the isolated margin lost before the exact formula is evaluated


class BarBook(BrokerBook):
    """A book that is matched against bars, unit by unit."""

    def gap(self, symbol: str, price: float, events: list[Event]) -> None:
        """Open a unit: fill stops that it gaps over at the open, and targets at their own price."""
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
        """Match a unit after its open: fill stops that it touches, else targets that it trades through.

        Parameters
        ----------
        low, high, close
            Prices of the unit.
        events
            Fills and order updates are appended.
        """
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
        """Close a unit: trigger stops placed inside it if the unit closes beyond them."""
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
        """Whether bars (open, high, low, close by symbol) reach no resting order, so that 1m bars would add nothing."""
        for symbol, orders in self.orders.items():
            if not orders:
                continue
            bar, bounds = prices.get(symbol), self.bounds(symbol)
            if bar is None or bounds is None or bar[1] >= bounds[0] or bar[2] <= bounds[1]:
                return False
        return not any(type(item) is PlaceOrder for _, _, item in self.heap)

    def bounds(self, symbol: str) -> tuple[float, float] | None:
        """Return the nearest order levels above and below the price; None with a post-only entry, which a bar cannot decide."""
        up, down = math.inf, -math.inf
        for order in self.orders[symbol].values():
            intent = order.intent
            if intent.time_in_force is TimeInForce.GTX:
                return None
            # The price reaches a buy stop and a sell limit from below, the others from above.
            if (order.sign > 0) is (intent.order_type is OrderType.STOP_MARKET):
                up = min(up, order.level)
            else:
                down = max(down, order.level)
        return up, down

    @property
    def covered(self) -> bool:
        """Whether every position has a stop, which is reached before anything worse can happen to it."""
        return all(
            not h.qty or any(o.intent.order_type is OrderType.STOP_MARKET for o in self.orders[s].values())
            for s, h in self.holdings.items()
        )

    def begin_unit(self) -> None:
        """Reset the per-unit flags."""
        self.inside = self.maker_unit = False
        for orders in self.orders.values():
            for order in orders.values():
                order.fresh = False

    def _by_distance(self, symbol: str, *, stops: bool) -> list[Resting]:
        """Return resting exits, nearest to the price first."""
        found = [
            o
            for o in self.orders[symbol].values()
            if (o.intent.order_type is OrderType.STOP_MARKET) is stops
            and (o.intent.reduce_only or o.intent.close_position)
        ]
        if len(found) > 1:
            found.sort(key=lambda o: o.sign * o.level if stops else -o.sign * o.level)
        return found

    def _stopped(self, order: Resting, holding: BrokerHolding, price: float, events: list[Event]) -> None:
        """Fill a triggered stop at `price` less slippage."""
        intent, held = order.intent, abs(holding.qty)
        qty = held if intent.close_position else min(order.left, held)
        at = self._tick(holding, price * (1.0 + order.sign * self.slippage), order.sign)
        self.paid[intent.symbol].slippage += order.sign * float(qty) * (float(at) - price)
        self._fill(intent, holding, qty, at, events, maker=False, resting=order)

    def _reached(self, order: Resting, holding: BrokerHolding, events: list[Event]) -> None:
        intent = order.intent
        assert intent.price is not None
        self._fill(intent, holding, min(order.left, abs(holding.qty)), intent.price, events, maker=True, resting=order)

    # Margin

    def _liquidated(
        self, symbol: str, holding: BrokerHolding, worst: float, events: list[Event], *, opened: float | None = None
    ) -> bool:
        """Liquidate if the isolated margin is exhausted at `worst`: at the liquidation price, or at `opened` on a gap."""
        size, sign = abs(holding.qty), 1 if holding.qty > 0 else -1
        if sign * (float(holding.cost) - float(size) * worst) < LIQUIDATION_WATCH * float(holding.margin):
            return False
        leverage, reached = self.leverage.get(symbol, 20), to_decimal(worst)
        level = VenuePosition(
            holding.rules, holding.qty, holding.cost, holding.margin, leverage, isolated=True
        ).liquidation(reached)
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
