"""State of the back-test's exchange: orders, positions, current prices, and the booking of executions.

Current prices are floats by symbol, money is Decimal. The assumptions are listed in `broker`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from bot.config import Config
from bot.core.errors import InvariantError
from bot.core.events import Event, Fill, OrderUpdate, Quotes
from bot.core.intents import PlaceOrder
from bot.core.times import MINUTE_MS
from bot.core.types import Instrument, OrderSide, OrderStatus, OrderType, Quote
from bot.sim.account import booked
from bot.sim.filters import SymbolRules

S = OrderStatus
ZERO: Final = Decimal(0)
EPSILON: Final = 1e-6  # of a tick: tolerance when rounding a float to a tick
_DEPTH: Final = Decimal(1_000_000)  # quantity quoted at bid and ask; depth is not modelled


class Resting:
    """A resting order."""

    __slots__ = ("fresh", "intent", "left", "level", "sign")

    def __init__(self, intent: PlaceOrder, level: float, *, fresh: bool) -> None:
        self.intent = intent
        self.sign = 1 if intent.side is OrderSide.BUY else -1
        self.left = intent.qty
        self.level = level  # trigger or limit price
        self.fresh = fresh  # arrived inside the unit, after the unit's fills


@dataclass(slots=True)
class BrokerHolding:
    """One symbol's position on the exchange."""

    instrument: Instrument
    rules: SymbolRules
    tick: float
    qty: Decimal = ZERO  # signed
    cost: Decimal = ZERO  # entry notional of the open quantity
    margin: Decimal = ZERO  # isolated


@dataclass(slots=True)
class Paid:
    """Spread and slippage paid by the fills of the current trade, quote."""

    spread: float = 0.0
    slippage: float = 0.0


class BrokerBook:
    """Orders, positions and timers of one run.

    Parameters
    ----------
    leverage
        Current leverage by symbol, as set by the engine.
    """

    def __init__(self, config: Config, instruments: Mapping[str, Instrument], rules: Mapping[str, SymbolRules]) -> None:
        settings = config.backtest
        self.latency_ms = settings.latency_ms
        self.half_spread, self.slippage = settings.spread / 2, settings.slippage
        self.touch = settings.target_fill == "touch"
        self.maker_share = config.entry.maker_timeout_ms / MINUTE_MS
        self.now = 0
        self.inside = False  # the unit's fills have been reported; its close is the current price
        self.here: dict[str, float] = {}  # current price
        self.minute: tuple[float, float, float] | None = None  # low, high, volume of the first 1m bar after the close
        self.maker_unit = False  # a resting entry filled in this unit
        self.holdings = {s: BrokerHolding(i, rules[s], float(i.tick)) for s, i in instruments.items()}
        self.orders: dict[str, dict[str, Resting]] = {s: {} for s in instruments}
        self.leverage: dict[str, int] = {}
        self.timers: dict[str, int] = {}
        self.heap: list[tuple[int, int, Any]] = []
        self.trade_id = 0
        self.paid = {s: Paid() for s in instruments}
        self._pushed = 0

    # Prices

    def _tick(self, holding: BrokerHolding, price: float, sign: int) -> Decimal:
        """Round a price against us: up when buying, down when selling."""
        steps = price / holding.tick
        whole = math.ceil(steps - EPSILON) if sign > 0 else math.floor(steps + EPSILON)
        return holding.instrument.tick * whole

    def _near(self, holding: BrokerHolding, sign: int, here: float) -> Decimal:
        """Return the price that a taker of `sign` sees: the ask for +1, the bid for -1."""
        return self._tick(holding, here * (1.0 + sign * self.half_spread), sign)

    def _taken_at(self, holding: BrokerHolding, sign: int, here: float) -> Decimal:
        return self._tick(holding, here * (1.0 + sign * (self.half_spread + self.slippage)), sign)

    def quotes(self, symbols: tuple[str, ...]) -> Quotes:
        """Return the current quotes of `symbols`."""
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
        holding: BrokerHolding,
        qty: Decimal,
        here: float,
        events: list[Event],
        *,
        limit: Decimal | None = None,
    ) -> None:
        """Fill immediately as taker, never beyond `limit`."""
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
        holding: BrokerHolding,
        qty: Decimal,
        price: Decimal,
        events: list[Event],
        *,
        maker: bool,
        resting: Resting | None,
    ) -> None:
        """Book and report a fill; when the position is closed, expire its reduce-only orders."""
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

    def _hold(self, holding: BrokerHolding, signed: Decimal, price: Decimal) -> None:
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

    # Order updates

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
