"""What an order can become, and the book of our own orders, fills and positions.

Theory. The exchange tells one story through three mouths (user stream, replies, queries) that do not wait for each other.
The ledger therefore never believes the order in which it hears things:

* a status moves only along TRANSITIONS; a step back is old news and is passed over; a terminal status stays;
* the filled quantity of an order is the larger of what updates said (`cumulative`) and what fills add up to (`known`);
* a fill counts once, recognised by (symbol, trade id);
* a position is the sum of its fills and nothing else. What an update promised beyond the fills is `missing`: protection
  acts on it at once, accounting waits for the fill.

An event that contradicts what was sent (other side, more than was ordered) raises Contradiction and changes nothing: it is
the message that is wrong. What was counted on one message and turns out not to have happened can be taken back (`reverse`,
`correct`, `revive`); who may ask for that is the subject of `beliefs`.
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
CANCEL_RETRY_MS: Final = 2_000  # a cancel that nobody answered is sent again; cancelling twice harms nothing
NOT_FOUND: Final = -2013
LOOK_AGAIN_MS: Final = 5_000  # between two questions after the same order
_KEPT_ORDERS: Final = 400  # finished orders that are still recognised
_KEPT_TRADES: Final = 20_000  # trade ids that are still recognised


@dataclass(slots=True)
class Order:
    """One order of ours, as far as we know."""

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
    looked_ms: int = 0  # when it was last asked after
    code: int = 0
    reason: str = ""
    handled: bool = False  # its owner has reacted to its end
    witnesses: int = 0  # messages that said something about it: its reply, the user stream, a query, a list
    denied: bool = False  # accepted by one message alone, and a query did not find it

    @property
    def algo(self) -> bool:
        """Whether it lives in the algo service (until it triggers)."""
        return self.order_type is OrderType.STOP_MARKET

    @property
    def immediate(self) -> bool:
        """Whether it ends as soon as it arrives: a market order or an IOC."""
        return self.order_type is OrderType.MARKET or self.role == "io"

    @property
    def live(self) -> bool:
        """Whether something can still happen to it."""
        return not self.status.is_terminal

    @property
    def accepted(self) -> bool:
        """Whether the exchange holds it."""
        return self.status.is_accepted

    @property
    def filled(self) -> Decimal:
        """Filled quantity as far as anybody said."""
        return self.known if self.known >= self.cumulative else self.cumulative

    @property
    def unheard(self) -> bool:
        """Whether it is alive as far as we know and the exchange has not said that it holds it."""
        return not self.status.is_terminal and not self.status.is_accepted

    @property
    def unconfirmed(self) -> bool:
        """Whether one message alone says that the exchange holds it."""
        return self.status is S.NEW and self.witnesses < 2

    def unanswered(self, now: int, patience_ms: int) -> bool:
        """Whether it is alive and its outcome has not been heard for so long."""
        return self.unheard and now - self.changed_ms >= patience_ms

    @property
    def remaining(self) -> Decimal:
        """What may still fill."""
        if self.status.is_terminal:
            return ZERO
        left = self.qty - (self.known if self.known >= self.cumulative else self.cumulative)
        return left if left >= ZERO else ZERO

    @property
    def missing(self) -> Decimal:
        """Filled quantity whose fills have not come."""
        return max(self.cumulative - self.known, ZERO)

    @property
    def settled(self) -> bool:
        """Done, and every fill of it is known."""
        return self.status.is_terminal and self.cumulative <= self.known

    @property
    def average(self) -> Decimal:
        """Average price of the known fills, 0 without any."""
        return self.notional / self.known if self.known else ZERO


@dataclass(slots=True)
class Holding:
    """A symbol's position and the money that made it: equity = wallet + cash + qty * price - fees."""

    qty: Decimal = ZERO  # signed
    cash: Decimal = ZERO  # minus what was bought, plus what was sold
    fees: Decimal = ZERO
    cost: Decimal = ZERO  # what the open quantity cost on average, signed
    changed_ms: int = 0  # time of the newest fill

    def add(self, signed: Decimal, price: Decimal, fee: Decimal) -> None:
        """Book one fill; a fill that turns the position around closes it and opens the rest anew."""
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
    """Our orders, the fills that were counted, and the positions that they add up to."""

    orders: dict[str, Order] = field(default_factory=dict)
    finished: dict[str, Order] = field(default_factory=dict)
    holdings: dict[str, Holding] = field(default_factory=dict)
    trades: dict[tuple[str, int], None] = field(default_factory=dict)
    version: int = 0  # counts changes of any order
    booked: int = 0  # counts what changes a holding
    since_flat: dict[str, list[Fill]] = field(default_factory=dict)  # the fills that a holding consists of
    versions: dict[str, int] = field(default_factory=dict)  # the same by symbol: sums are kept until it moves

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
        """Append a cancel for an order that the exchange holds, unless one is under way."""
        if order.accepted and (not order.cancel_ms or now - order.cancel_ms >= CANCEL_RETRY_MS):
            order.cancel_ms = now
            algo = order.algo and order.status is S.NEW  # a triggered one is a regular order (venue notes 2.1)
            out.append(CancelOrder(order.client_id, order.symbol, algo))

    def look_up(self, order: Order, now: int, out: list[Intent]) -> None:
        """Append a question after an order, unless one was asked a moment ago."""
        if not order.looked_ms or now - order.looked_ms >= LOOK_AGAIN_MS:
            order.looked_ms = now
            algo = order.algo and order.status not in EXECUTING
            out.append(
                LookUp(order.client_id, order.symbol, order.side, order.qty, order.placed_ms, algo, order.accepted)
            )

    def forget_questions(self) -> None:
        """Let every order be asked after anew: whoever waited for the answers died with the last process."""
        for order in self.orders.values():
            order.looked_ms = 0

    def _changed(self, symbol: str) -> None:
        self.version += 1
        self.versions[symbol] = self.versions.get(symbol, 0) + 1

    def deadlines(self) -> list[int]:
        """Return when unanswered cancels are due again."""
        return [o.cancel_ms + CANCEL_RETRY_MS for o in self.orders.values() if o.cancel_ms and o.live]

    def find(self, client_id: str) -> Order | None:
        """Return an order of ours, finished ones included."""
        return self.orders.get(client_id) or self.finished.get(client_id)

    def update(self, event: OrderUpdate) -> Order | None:
        """Merge what was said about an order; None if it is not in the book.

        Raises
        ------
        Contradiction
            Another symbol or side than was sent, or more filled than was ordered.
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
        """Count the list of working orders as a witness of an order that it shows as it is known."""
        order.witnesses, order.denied = order.witnesses + 1, False
        self._changed(order.symbol)

    def fill(self, event: Fill) -> bool:
        """Count a fill; False if it was counted before. A fill of a foreign order counts too.

        Raises
        ------
        Contradiction
            Another side than was sent, more than was ordered, or a quantity that is not positive.
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
        """Take back a fill that was counted and that the exchange does not know: position, money and order as before it."""
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
        """Let a counted fill be what the exchange lists it as: position, money and its order's fills; False if it cannot be."""
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
        """Let an order's filled quantity be what its fills add up to: an update had promised more than there is."""
        order.cumulative = order.known
        self._restate(order, status, now)

    def revive(self, order: Order, status: OrderStatus, now: int) -> None:
        """Count an order as alive that was heard to be over and that the exchange shows as working."""
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
        """Move settled orders out of the way; they are still recognised for a while."""
        for client_id in [o.client_id for o in self.orders.values() if o.settled]:
            self.finished[client_id] = self.orders.pop(client_id)
        while len(self.finished) > _KEPT_ORDERS:
            self.finished.pop(next(iter(self.finished)))

    def settle_cash(self) -> Decimal:
        """Take the cash of closed positions out of the book (gross of fees, fees subtracted) and return it."""
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
    """A growing pause between attempts of the same thing."""

    DELAYS_MS = (0, 200, 400, 800, 1_600, 5_000)

    failures: int = 0
    not_before_ms: int = 0

    def failed(self, now: int) -> None:
        """Note a failure and set the pause."""
        self.not_before_ms = now + self.DELAYS_MS[min(self.failures, len(self.DELAYS_MS) - 1)]
        self.failures += 1

    def worked(self) -> None:
        """Forget the failures."""
        self.failures = self.not_before_ms = 0
