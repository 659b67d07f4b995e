"""The order state machine, and the ledger of our own orders, fills and positions.

Theory. The exchange reports the same changes through three channels (user stream, replies, queries) that are not synchronised.
The ledger therefore never relies on the order in which messages arrive:

* a status moves only along TRANSITIONS; a backward step is stale and ignored; a terminal status stays;
* the filled quantity of an order is the larger of what updates reported (`cumulative`) and what fills add up to (`known`);
* a fill counts once, identified by (symbol, trade id);
* a position is the sum of its fills and nothing else. What an update reported beyond the fills is `missing`: protection acts on
  it at once, accounting waits for the fill.

An event that contradicts the request (other side, more than was ordered) raises ContradictingMessage and changes nothing: the
message is wrong. What was counted on one message and did not happen can be undone (`reverse`, `correct`, `revive`); `beliefs`
defines the evidence that this needs.
Quantities are in base units, prices and cash in quote, times in exchange ms.
"""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from bot.core.errors import ContradictingMessage, InvariantError
from bot.core.events import Fill, OrderUpdate
from bot.core.intents import CancelOrder, Intent, LookUp, PlaceOrder
from bot.core.types import OrderSide, OrderStatus, OrderType, TimeInForce

S = OrderStatus
ZERO: Final = Decimal(0)
TRANSITIONS: Final[dict[OrderStatus, frozenset[OrderStatus]]] = {
    S.PENDING: frozenset(
        {S.UNKNOWN, S.NEW, S.TRIGGERED, S.PARTIALLY_FILLED, S.FILLED, S.CANCELED, S.EXPIRED, S.REJECTED}
    ),
    S.UNKNOWN: frozenset({S.NEW, S.TRIGGERED, S.PARTIALLY_FILLED, S.FILLED, S.CANCELED, S.EXPIRED, S.REJECTED}),
    S.NEW: frozenset({S.TRIGGERED, S.PARTIALLY_FILLED, S.FILLED, S.CANCELED, S.EXPIRED, S.REJECTED}),
    S.TRIGGERED: frozenset({S.PARTIALLY_FILLED, S.FILLED, S.CANCELED, S.EXPIRED, S.REJECTED}),
    S.PARTIALLY_FILLED: frozenset({S.FILLED, S.CANCELED, S.EXPIRED}),
    S.FILLED: frozenset(),
    S.CANCELED: frozenset(),
    S.EXPIRED: frozenset(),
    S.REJECTED: frozenset(),
}
EXECUTING: Final = frozenset({S.TRIGGERED, S.PARTIALLY_FILLED})
ENTRY_ROLES: Final = frozenset({"en", "io"})
OPENING_ROLES: Final = ENTRY_ROLES | {"hx"}
CANCEL_RETRY_MS: Final = 2_000  # an unanswered cancel is resent after this; cancelling is idempotent
NOT_FOUND: Final = -2013
LOOK_AGAIN_MS: Final = 5_000  # between two queries of the same order
_KEPT_ORDERS: Final = 400  # finished orders that are still recognised
_KEPT_TRADES: Final = 20_000  # trade ids that are still recognised


@dataclass(slots=True)
class Order:
    """One order of ours and its known state."""

    client_id: str
    symbol: str
    side: OrderSide
    order_type: OrderType
    qty: Decimal  # 0 for closePosition
    role: str
    placed_ms: int
    price: Decimal | None = None
    trigger: Decimal | None = None
    reduce_only: bool = False
    close_position: bool = False
    reference: Decimal = ZERO  # price that a taker fill is measured against; 0 = not measured
    status: OrderStatus = S.PENDING
    cumulative: Decimal = ZERO
    known: Decimal = ZERO
    notional: Decimal = ZERO  # sum of qty * price over fills
    fees: Decimal = ZERO
    accepted_ms: int = 0
    changed_ms: int = 0
    cancel_ms: int = 0  # when a cancel was last sent, 0 = never
    looked_ms: int = 0  # when it was last queried
    code: int = 0
    reason: str = ""
    handled: bool = False  # its owner has reacted to its terminal state
    witnesses: int = 0  # messages that reported its state: its reply, the user stream, a query, a list
    denied: bool = False  # accepted by a single message, and a query did not find it

    @property
    def algo(self) -> bool:
        """Whether it belongs to the algo service (until it triggers)."""
        return self.order_type is OrderType.STOP_MARKET

    @property
    def immediate(self) -> bool:
        """Whether it never rests: a market order or an IOC."""
        return self.order_type is OrderType.MARKET or self.role == "io"

    @property
    def live(self) -> bool:
        """Whether it is not terminal."""
        return not self.status.is_terminal

    @property
    def accepted(self) -> bool:
        """Whether the exchange has acknowledged it and it is not terminal."""
        return self.status.is_accepted

    @property
    def filled(self) -> Decimal:
        """Filled quantity by updates or fills, whichever is larger."""
        return self.known if self.known >= self.cumulative else self.cumulative

    @property
    def unheard(self) -> bool:
        """Whether it is not terminal and not yet acknowledged."""
        return not self.status.is_terminal and not self.status.is_accepted

    @property
    def unconfirmed(self) -> bool:
        """Whether only one message reports it as resting."""
        return self.status is S.NEW and self.witnesses < 2

    def unanswered(self, now: int, patience_ms: int) -> bool:
        """Return whether it has been unacknowledged for `patience_ms`."""
        return self.unheard and now - self.changed_ms >= patience_ms

    @property
    def remaining(self) -> Decimal:
        """Quantity that may still fill."""
        if self.status.is_terminal:
            return ZERO
        left = self.qty - (self.known if self.known >= self.cumulative else self.cumulative)
        return left if left >= ZERO else ZERO

    @property
    def missing(self) -> Decimal:
        """Quantity reported as filled whose fills have not arrived."""
        return max(self.cumulative - self.known, ZERO)

    @property
    def settled(self) -> bool:
        """Whether it is terminal and all its fills are known."""
        return self.status.is_terminal and self.cumulative <= self.known

    @property
    def average(self) -> Decimal:
        """Average price of the known fills, 0 without any."""
        return self.notional / self.known if self.known else ZERO


@dataclass(slots=True)
class Holding:
    """A symbol's position and its cash flows: equity = wallet + cash + qty * price - fees."""

    qty: Decimal = ZERO  # signed
    cash: Decimal = ZERO  # value sold minus value bought
    fees: Decimal = ZERO
    cost: Decimal = ZERO  # signed quantity times its average entry price
    changed_ms: int = 0  # time of the newest fill

    def add(self, signed: Decimal, price: Decimal, fee: Decimal) -> None:
        """Book one fill; a fill that reverses the position closes it and opens a new one with the rest."""
        closing = signed
        if self.qty * signed >= 0:
            closing = ZERO
        elif abs(signed) > abs(self.qty):
            closing = -self.qty
        if closing:
            self.cost = self.cost * (self.qty + closing) / self.qty
            self.qty += closing
        self.qty += signed - closing
        self.cost += (signed - closing) * price
        self.cash -= signed * price
        self.fees += fee


@dataclass(slots=True)
class Ledger:
    """Our orders, the counted fills, and the positions that they add up to."""

    orders: dict[str, Order] = field(default_factory=dict)
    finished: dict[str, Order] = field(default_factory=dict)
    holdings: dict[str, Holding] = field(default_factory=dict)
    trades: dict[tuple[str, int], None] = field(default_factory=dict)
    version: int = 0  # number of changes to any order
    booked: int = 0  # number of changes to any holding
    since_flat: dict[str, list[Fill]] = field(default_factory=dict)  # the fills that a holding consists of
    versions: dict[str, int] = field(default_factory=dict)  # order changes by symbol: cached sums hold until it changes

    def place(
        self,
        client_id: str,
        symbol: str,
        *,
        side: OrderSide,
        order_type: OrderType,
        qty: Decimal,
        role: str,
        now: int,
        out: list[Intent],
        price: Decimal | None = None,
        time_in_force: TimeInForce | None = None,
        trigger: Decimal | None = None,
        reduce_only: bool = False,
        close_position: bool = False,
        reference: Decimal = ZERO,
        working_type: str = "CONTRACT_PRICE",
    ) -> Order:
        """Enter an order as PENDING and append the intent that sends it.

        Parameters
        ----------
        qty
            Base units; 0 only for closePosition.
        role
            One of `ids.ROLES`.
        now
            Largest exchange time seen, ms.
        out
            List that the intent is appended to.
        price, trigger
            Limit price, and trigger price of a stop.
        reference
            Price that a taker fill is measured against; 0 is not measured.
        working_type
            CONTRACT_PRICE or MARK_PRICE: which price triggers a stop.

        Raises
        ------
        InvariantError
            The id was used before, the quantity is not positive, or another entry order is working.
        """
        if client_id in self.orders or client_id in self.finished:
            raise InvariantError(f"order id {client_id} was used before")
        if qty <= 0 and not close_position:
            raise InvariantError(f"order {client_id} has no quantity: {qty}")
        if role in ENTRY_ROLES:
            working = [o.client_id for o in self.orders.values() if o.role in ENTRY_ROLES and o.live]
            if working:
                raise InvariantError(f"entry {client_id} would work beside {working[0]}")
        order = Order(
            client_id,
            symbol,
            side,
            order_type,
            qty,
            role,
            now,
            price,
            trigger,
            reduce_only,
            close_position,
            reference,
            changed_ms=now,
        )
        self.orders[client_id] = order
        self._changed(symbol)
        out.append(
            PlaceOrder(
                client_id,
                symbol,
                side,
                order_type,
                qty,
                price,
                time_in_force,
                trigger,
                reduce_only,
                close_position,
                working_type,
            )
        )
        return order

    def cancel(self, order: Order, now: int, out: list[Intent]) -> None:
        """Append a cancel for an acknowledged order, unless one is in flight."""
        if order.accepted and (not order.cancel_ms or now - order.cancel_ms >= CANCEL_RETRY_MS):
            order.cancel_ms = now
            algo = order.algo and order.status is S.NEW  # a triggered one is a regular order (venue notes 2.1)
            out.append(CancelOrder(order.client_id, order.symbol, algo))

    def look_up(self, order: Order, now: int, out: list[Intent]) -> None:
        """Append a query of an order, unless it was queried within `LOOK_AGAIN_MS`."""
        if not order.looked_ms or now - order.looked_ms >= LOOK_AGAIN_MS:
            order.looked_ms = now
            algo = order.algo and order.status not in EXECUTING
            out.append(
                LookUp(order.client_id, order.symbol, order.side, order.qty, order.placed_ms, algo, order.accepted)
            )

    def forget_questions(self) -> None:
        """Allow every order to be queried again: the replies were lost with the last process."""
        for order in self.orders.values():
            order.looked_ms = 0

    def _changed(self, symbol: str) -> None:
        self.version += 1
        self.versions[symbol] = self.versions.get(symbol, 0) + 1

    def deadlines(self) -> list[int]:
        """Return when unanswered cancels are due to be resent, exchange ms."""
        return [o.cancel_ms + CANCEL_RETRY_MS for o in self.orders.values() if o.cancel_ms and o.live]

    def find(self, client_id: str) -> Order | None:
        """Return an order of ours, finished ones included."""
        return self.orders.get(client_id) or self.finished.get(client_id)

    def update(self, event: OrderUpdate) -> Order | None:
        """Merge an order update and return its order; None if it is not in the ledger.

        Raises
        ------
        ContradictingMessage
            The symbol or side differs from the request, or more is filled than was ordered.
        """
        order = self.find(event.client_id)
        if order is None:
            return None
        if event.symbol != order.symbol or event.side is not order.side:
            raise ContradictingMessage(
                f"{event.client_id} was sent as {order.side} {order.symbol}, told as {event.side} {event.symbol}"
            )
        if order.qty and event.filled_qty > order.qty:
            raise ContradictingMessage(f"{event.client_id} filled {event.filled_qty} of {order.qty}")
        self._changed(order.symbol)
        if event.status is S.UNKNOWN:
            order.denied = order.denied or (order.unconfirmed and event.code == NOT_FOUND)
        else:
            order.witnesses += 1
            order.denied = order.denied and not event.status.is_accepted
        order.cumulative = max(order.cumulative, event.filled_qty)
        if event.status in TRANSITIONS[order.status]:
            order.status = event.status
            order.changed_ms = max(order.changed_ms, event.at_ms)
            if event.code:
                order.code, order.reason = event.code, event.reason
            elif event.reason:
                order.reason = event.reason
            if order.accepted and not order.accepted_ms:
                order.accepted_ms = event.at_ms
        return order

    def confirm(self, order: Order) -> None:
        """Count the list of working orders as a witness of an order that it shows in its known status."""
        order.witnesses, order.denied = order.witnesses + 1, False
        self._changed(order.symbol)

    def fill(self, event: Fill) -> bool:
        """Count a fill, of a foreign order too; return False if it was counted before.

        Raises
        ------
        ContradictingMessage
            The symbol or side differs from the request, more is filled than was ordered, or the quantity is not positive.
        """
        key = (event.symbol, event.trade_id)
        if key in self.trades:
            return False
        order = self.find(event.client_id)
        if event.qty <= 0:
            raise ContradictingMessage(f"fill {event.trade_id} of {event.client_id} has quantity {event.qty}")
        if order is not None:
            if event.symbol != order.symbol or event.side is not order.side:
                raise ContradictingMessage(f"fill {event.trade_id} contradicts {event.client_id}: {event.side}")
            if order.qty and order.known + event.qty > order.qty:
                raise ContradictingMessage(f"fills of {event.client_id} exceed its {order.qty}")
            self._changed(order.symbol)
            order.known += event.qty
            order.notional += event.qty * event.price
            order.fees += event.fee
            if order.qty and order.known == order.qty:
                self._raise_status(order, S.FILLED, event.at_ms)
            else:
                self._raise_status(order, S.PARTIALLY_FILLED, event.at_ms)
        self.trades[key] = None
        while len(self.trades) > _KEPT_TRADES:
            self.trades.pop(next(iter(self.trades)))
        holding = self.holdings.setdefault(event.symbol, Holding())
        self.booked += 1
        holding.add(event.side.sign * event.qty, event.price, event.fee)
        holding.changed_ms = max(holding.changed_ms, event.at_ms)
        self.since_flat.setdefault(event.symbol, []).append(event)
        return True

    def reverse(self, event: Fill) -> None:
        """Undo a counted fill that did not happen: position, cash and order return to the state before it."""
        self.trades.pop((event.symbol, event.trade_id), None)
        fills, holding = self.since_flat[event.symbol], self.holdings[event.symbol]
        fills.remove(event)
        rebuilt = Holding()
        for fill in fills:
            rebuilt.add(fill.side.sign * fill.qty, fill.price, fill.fee)
        holding.qty, holding.cost = rebuilt.qty, rebuilt.cost
        holding.cash += event.side.sign * event.qty * event.price
        holding.fees -= event.fee
        holding.changed_ms = max((fill.at_ms for fill in fills), default=0)
        self.booked += 1
        self._changed(event.symbol)
        order = self.find(event.client_id)
        if order is not None:
            order.known -= event.qty
            order.notional -= event.qty * event.price
            order.fees -= event.fee
            order.cumulative = order.known
            order.status = S.PARTIALLY_FILLED if order.known else S.NEW
            order.handled = False
            order.looked_ms = 0

    def amend(self, heard: Fill, listed: Fill) -> bool:
        """Replace a counted fill by the listed one in position, cash and order; return False if that is impossible."""
        order, fills = self.find(heard.client_id), self.since_flat.get(heard.symbol, [])
        more = listed.qty - heard.qty
        if heard not in fills or order is None or (order.qty and order.known + more > order.qty):
            return False
        fills[fills.index(heard)] = listed
        holding, rebuilt, sign = self.holdings[heard.symbol], Holding(), heard.side.sign
        for fill in fills:
            rebuilt.add(fill.side.sign * fill.qty, fill.price, fill.fee)
        holding.qty, holding.cost = rebuilt.qty, rebuilt.cost
        holding.cash += sign * (heard.qty * heard.price - listed.qty * listed.price)
        holding.fees += listed.fee - heard.fee
        order.known += more
        order.notional += listed.qty * listed.price - heard.qty * heard.price
        order.fees += listed.fee - heard.fee
        if order.qty and order.known == order.qty:
            self._raise_status(order, S.FILLED, listed.at_ms)
        self.booked += 1
        self._changed(heard.symbol)
        return True

    def correct(self, order: Order, status: OrderStatus, now: int) -> None:
        """Set an order's filled quantity to the sum of its fills: an update had reported more than happened."""
        order.cumulative = order.known
        self._restate(order, status, now)

    def revive(self, order: Order, status: OrderStatus, now: int) -> None:
        """Count an order as working again that was reported as terminal and that the exchange shows as working."""
        self._restate(order, status, now)
        order.code, order.reason, order.cancel_ms = 0, "", 0

    def _restate(self, order: Order, status: OrderStatus, now: int) -> None:
        order.status, order.changed_ms, order.handled = status, max(order.changed_ms, now), False
        if order.accepted and not order.accepted_ms:
            order.accepted_ms = now
        self._changed(order.symbol)

    @staticmethod
    def _raise_status(order: Order, status: OrderStatus, at_ms: int) -> None:
        if status in TRANSITIONS[order.status]:
            order.status = status
            order.changed_ms = max(order.changed_ms, at_ms)
            order.accepted_ms = order.accepted_ms or at_ms

    def changed_ms(self, symbol: str) -> int:
        """Return the time of the newest fill in a symbol, 0 without any."""
        holding = self.holdings.get(symbol)
        return holding.changed_ms if holding else 0

    def qty(self, symbol: str) -> Decimal:
        """Return the signed position: the sum of the fills."""
        holding = self.holdings.get(symbol)
        return holding.qty if holding else ZERO

    def retire(self) -> None:
        """Move settled orders to `finished`, where they are still recognised for a while."""
        for client_id in [o.client_id for o in self.orders.values() if o.settled]:
            self.finished[client_id] = self.orders.pop(client_id)
        while len(self.finished) > _KEPT_ORDERS:
            self.finished.pop(next(iter(self.finished)))

    def settle_cash(self) -> Decimal:
        """Remove the cash of closed positions from the ledger and return it net of fees."""
        gained = ZERO
        self.booked += 1
        for symbol, holding in self.holdings.items():
            if not holding.qty:
                gained += holding.cash - holding.fees
                holding.cash = holding.fees = ZERO
                self.since_flat.pop(symbol, None)
        return gained


@dataclass(slots=True)
class Retry:
    """A growing delay between attempts of the same action."""

    DELAYS_MS = (0, 200, 400, 800, 1_600, 5_000)

    failures: int = 0
    not_before_ms: int = 0

    def failed(self, now: int) -> None:
        """Count a failure and set the delay."""
        self.not_before_ms = now + self.DELAYS_MS[min(self.failures, len(self.DELAYS_MS) - 1)]
        self.failures += 1

    def worked(self) -> None:
        """Reset the failures and the delay."""
        self.failures = self.not_before_ms = 0
