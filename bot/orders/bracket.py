"""The protection of one position: stop, catastrophe stop, targets and market exit (strategy 6).

The bracket does not react to individual messages. After every event it compares the orders that it wants at the exchange with
those resting or in flight (the ledger) and emits the difference. So reordered and duplicate messages do not change the outcome.

* Protection first: as soon as anything filled (a fill, or an update that implies one), a reduce-only STOP_MARKET for the entire
  position is wanted. A changed stop is a new order; the old one is cancelled once the new one is accepted, never before.
* The position is *naked* while the accepted sized stops do not add up to it. After `naked_limit_ms` it is closed at market.
* The catastrophe stop is a closePosition order far behind, which also covers quantities too small for a sized stop.
  It does not count as protection.
* One message, the reply or the user stream, suffices to count a stop as resting. It replaces an older stop, and keeps counting,
  once a second message confirms it. Without one it is queried, and a stop that the query does not find does not count: another
  is sent, and from then on one message does not suffice in this position.
* A stop or exit without a reply is not waited for: a second one is sent. Both can only reduce, and any excess is cancelled or
  rejected. (An entry in that state is waited for: see `maker_taker`.)
* A stop that cannot be placed because the price is already through it, and one that triggered without closing everything, lead
  to a market exit. Market exits are reduce-only: they can never reverse the position.
* The exchange may count resting targets against an exit or a triggered stop and reject it (-4118). The exit is then resent as
  soon as the last target is gone, and with growing delays until that is reported.
* When flat, everything left is cancelled as soon as the exchange's position and trades confirm it (`flat_confirmed`, set by the
  account audit): one wrong fill must not strip a position of its stops. `idle` means that no order is working and every fill
  is known.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from bot.core.events import Fill
from bot.core.intents import Alert, Intent, RequestSnapshot
from bot.core.types import OrderStatus, OrderType, TimeInForce
from bot.orders.ids import forced
from bot.orders.position import Position
from bot.orders.state import CANCEL_RETRY_MS, EXECUTING, LOOK_AGAIN_MS, ZERO, Order

ALREADY_THROUGH: Final = frozenset({-2021, -4142})  # "would trigger immediately"
REDUCE_ONLY_REFUSED: Final = frozenset({-2022, -4118})
NOTHING_LEFT: Final = frozenset({-2022, -2011, -2013})  # codes for the exit of a flat position: rejected, or not found
RESTING_COUNTED: Final = -4118  # "check your existing position and open orders": the position exists
NOTHING_TO_CLOSE: Final = frozenset({-2022, -4509})  # counts as a witness: a reduce-only exit, a closePosition stop
FLAT_ATTEMPTS: Final = 4  # consecutive such rejections until the alert is critical: a snapshot may explain them
CLOSE_POSITION_EXISTS: Final = -4130
TRIGGER_PATIENCE_MS: Final = 1_500  # time for a triggered stop to fill before a market exit is sent
TARGET_ATTEMPTS: Final = 4
_NEVER: Final = 1 << 62
CONFIRM_MS: Final = 300  # time for the user stream to confirm a reply before the stop is queried
UNSTABLE_MS: Final = 10_000  # stops that end within this time are replaced with growing delays
MOST_UNANSWERED: Final = 2  # stops, or market exits, without a reply at the same time


@dataclass(slots=True)
class Bracket(Position):
    """One position and the orders that protect it. Call `advance` after every event."""

    # Requests

    @property
    def stop_patience_ms(self) -> int:
        """How long a stop may be without a reply before a second one is sent: a third of the naked limit."""
        return self.naked_limit_ms // 3

    @property
    def exit_patience_ms(self) -> int:
        """How long a market exit may be without a reply before a second one is sent: two thirds of the naked limit."""
        return self.naked_limit_ms * 2 // 3

    def exit(self, reason: str, *, cause: str = "") -> None:
        """Close at market; the first reason stays. `cause` is the client id of the causing order, empty for a request."""
        if not self.exit_reason:
            self.exit_reason, self.exit_cause = reason, cause

    def tighten(self, price: Decimal, kind: str) -> bool:
        """Move the stop if that is tighter, and return whether it moved."""
        if self.side.sign * (price - self.stop) <= 0:
            return False
        self.stop, self.stop_kind = price, kind
        return True

    def absorb(self, event: Fill, qty: Decimal) -> None:
        """Reduce the position by `qty` of a fill that none of our orders made."""
        self.foreign += qty
        self.last_reduction = forced(event.client_id) or "external"

    # The comparison after every event

    def advance(self, at_ms: int, now: int, price: Decimal | None, out: list[Intent]) -> None:
        """Append the intents that bring the orders at the exchange to the wanted ones.

        Parameters
        ----------
        at_ms
            Exchange time of the handled event: when the change that it reports happened.
        now
            Largest exchange time seen, ms: deadlines are compared with it.
        price
            Price of the symbol if it is fresh, else None: then the exchange decides whether a stop is already passed.
        out
            List that intents are appended to.
        """
        before, said = self._state(), len(out)
        if now < self.kept_until and before == self.kept_rest:
            return
        self._compare(at_ms, now, price, out)
        rest = self._state()
        if rest == before and len(out) == said:
            self.kept_due = tuple(self._find_deadlines())
            self.kept_until = min(
                (due for due in (*self.kept_due, *self._cancels_again()) if due > now), default=_NEVER
            )
            self.kept_rest = rest

    def resting(self, now: int) -> bool:
        """Return whether `advance` has nothing to do: it had nothing in this same state, and no deadline has passed since.

        It compares the orders (their version counts every change), the requests and the clock; the price matters only while a
        stop is missing, and then there is something to do.
        """
        return now < self.kept_until and self._state() == self.kept_rest

    def _state(self) -> tuple[Any, ...]:
        """Return a key that changes whenever an order of the position or a request does."""
        return (
            self.ledger.versions.get(self.instrument.symbol, 0),
            self.exit_reason,
            self.stop,
            self.foreign,
            self.naked_since,
            self.closed_ms,
            len(self.targets),
            self.catastrophe,
            self.flat_confirmed,
            self.doubted,
        )

    def _cancels_again(self) -> list[int]:
        return [o.cancel_ms + CANCEL_RETRY_MS for o in self._reducers() if o.cancel_ms and not o.status.is_terminal]

    def _compare(self, at_ms: int, now: int, price: Decimal | None, out: list[Intent]) -> None:
        self._outcomes(now, out)
        exposed = self.exposed
        self.measure(exposed, at_ms, out)
        if exposed > 0 and self.naked_since is not None and now - self.naked_since >= self.naked_limit_ms:
            if not self.exit_reason:
                out.append(Alert("critical", f"{self.symbol} naked for {now - self.naked_since} ms: closing at market"))
            self.exit(self._fired() or "naked")
        if exposed > 0 and self.closed_ms:  # it was taken for flat and is not
            self.closed_ms, self.flat_confirmed = 0, False
        if exposed > 0 and not self.exit_reason:
            self._protect(exposed, now, price, out)
            self._place_targets(exposed, now, out)
        if exposed > 0 and self.exit_reason:
            self._leave(exposed, now, out)
        if exposed <= 0 and (self.closed_ms or any(o.filled for o in self.entries)):
            if not self.closed_ms:
                self.closed_ms = at_ms
                self.exit(self._why(), cause="flat")
                if not self.trusting:
                    out.append(RequestSnapshot(f"is {self.symbol} flat?"))
            for order in self._reducers() if self.flat_confirmed or self.trusting else ():
                # Market orders and triggered stops are not resting: there is nothing to cancel.
                if not (order.immediate or (order.algo and order.status in EXECUTING)):
                    self.ledger.cancel(order, now, out)

    def deadlines(self) -> list[int]:
        """Return the times at which `advance` has something to do without an event, exchange ms."""
        return list(self.kept_due) if self._state() == self.kept_rest else self._find_deadlines()

    def _find_deadlines(self) -> list[int]:
        due = []
        if self.exposed > 0:
            if self.naked_since is not None and not self.closing:
                due.append(self.naked_since + self.naked_limit_ms)
            retries = (self.stop_retry, self.guard_retry, self.exit_retry, *[t.retry for t in self.targets])
            due += [r.not_before_ms for r in retries if r.not_before_ms]
            due += [o.changed_ms + TRIGGER_PATIENCE_MS for o in (*self.stops, *self.guards) if o.status in EXECUTING]
            due += [o.changed_ms + self.stop_patience_ms for o in self.stops if o.unheard]
            due += [self._ask_ms(o) for o in self._unconfirmed()]
            due += [o.changed_ms + self.exit_patience_ms for o in self.exits if o.unheard]
        return due

    def restore(self) -> None:
        """Undo the effect of an order's end that did not happen; a requested exit stays requested."""
        self.closed_ms, self.flat_confirmed = 0, False
        if self.exit_cause:
            self.exit_reason = self.exit_cause = ""

    def _why(self) -> str:
        match self.last_reduction:
            case "sl":
                return self.stop_kind
            case "cs":
                return "catastrophe"
            case "tp":
                return "targets"
            case "" | "xx" | "hc":
                # An update reported the end before its fill: the executing order gives the reason.
                if any(o.filled for o in self.stops):
                    return self.stop_kind
                if any(o.filled for o in self.guards):
                    return "catastrophe"
                return "targets" if any(t.filled for t in self.targets) else "closed"
            case other:
                return other

    def _fired(self) -> str:
        """Return the kind of the newest sized stop if it triggered and was rejected, whether reported or inferred; else "".

        The exchange ends a resting stop in no other way; after a restart this is the only trace of what happened meanwhile.
        """
        held = next((o for o in reversed(self.stops) if o.accepted_ms), None)
        ended = held is not None and held.status in (OrderStatus.REJECTED, OrderStatus.EXPIRED) and not held.cancel_ms
        return self.kinds[held.client_id] if held is not None and ended else ""

    def _target_rested(self, since_ms: int) -> bool:
        """Return whether a target was live at some time since `since_ms`."""
        for target in self.targets:
            for order in target.orders:
                if not order.status.is_terminal or order.changed_ms >= since_ms:
                    return True
        return False

    def _outcomes(self, now: int, out: list[Intent]) -> None:
        """React once to every order that reached a terminal state."""
        for order in self._reducers():
            if order.handled or not order.status.is_terminal:
                continue
            order.handled = True
            refused = order.status is OrderStatus.REJECTED
            match order.role:
                case "sl" | "cs" if order.filled or order.status is OrderStatus.FILLED:
                    self.exit(self.kinds[order.client_id], cause=order.client_id)
                case "sl":
                    self._stop_failed(order, refused, now, out)
                case "cs":
                    self._guard_failed(order, refused, now, out)
                case "tp":
                    self._target_failed(order, refused, now, out)
                case _:
                    if refused or order.filled < order.qty:
                        self._exit_failed(order, now, out)
                    else:
                        self.exit_retry.worked()
        for order in (*self.stops, *self.guards):
            if order.status in EXECUTING:
                self.exit(self.kinds[order.client_id], cause=order.client_id)

    def _stop_failed(self, order: Order, refused: bool, now: int, out: list[Intent]) -> None:
        if refused and order.code in ALREADY_THROUGH:
            self.exit(self._fired() or ("stop_passed" if order.trigger == self.stop else self.stop_kind))
        elif refused and order.accepted_ms:
            self.stop_retry.failed(now)
            why = f"{order.code or ''} {order.reason}".strip()
            out.append(Alert("warning", f"{self.symbol} stop triggered and was refused: {why or 'no reason given'}"))
            out.append(RequestSnapshot(f"{self.symbol} stop triggered and was refused"))
        elif refused:
            self.stop_retry.failed(now)
            out.append(Alert("warning", f"{self.symbol} stop refused: {order.code} {order.reason}"))
            if order.code in NOTHING_TO_CLOSE:
                self.nothing_left_ms = now
            if order.code in REDUCE_ONLY_REFUSED:
                out.append(RequestSnapshot(f"{self.symbol} stop refused: {order.code}"))
        elif not order.cancel_ms and order.accepted_ms and self.exposed > 0 and not self.closing:
            gone = [o for o in self.stops if o.status.is_terminal and o.accepted_ms and not o.cancel_ms]
            self.stop_retry.failures = max(sum(now - o.changed_ms < UNSTABLE_MS for o in gone) - 1, 0)
            if not self.stop_retry.failures:
                out.append(Alert("warning", f"{self.symbol} stop {order.client_id} went away: {order.status}"))
            self.stop_retry.failed(now)
            out.append(RequestSnapshot(f"is {order.client_id} gone?"))

    def _guard_failed(self, order: Order, refused: bool, now: int, out: list[Intent]) -> None:
        if refused and order.code in ALREADY_THROUGH:
            self.exit("stop_passed")
        elif refused:
            self.guard_retry.failed(now)
            if order.code in NOTHING_TO_CLOSE:
                self.nothing_left_ms = now
                out.append(RequestSnapshot(f"{self.symbol} catastrophe stop refused: {order.code}"))
            if order.code == CLOSE_POSITION_EXISTS:  # an orphan: the snapshot gets it cancelled
                out.append(RequestSnapshot(f"{self.symbol} already has a closePosition stop"))
            if self.guard_retry.failures == 1:
                out.append(Alert("warning", f"{self.symbol} catastrophe stop refused: {order.code} {order.reason}"))

    def _target_failed(self, order: Order, refused: bool, now: int, out: list[Intent]) -> None:
        target = next(t for t in self.targets if order in t.orders)
        if target.done or self.closing or self.exposed <= 0:
            return
        target.retry.failed(now)
        if target.retry.failures >= TARGET_ATTEMPTS:
            target.given_up = True
            out.append(Alert("warning", f"{self.symbol} target {target.leg} given up: {order.code} {order.reason}"))
        if refused and order.code in REDUCE_ONLY_REFUSED:
            out.append(RequestSnapshot(f"{self.symbol} target refused: {order.code}"))

    def _exit_failed(self, order: Order, now: int, out: list[Intent]) -> None:
        if self.exposed <= 0:
            return
        self.exit_retry.failed(now)
        if order.status is OrderStatus.REJECTED:
            if order.code in NOTHING_TO_CLOSE:
                self.nothing_left_ms = now
            why, early = f"{order.code} {order.reason}", self.exit_retry.failures < FLAT_ATTEMPTS
            # A position closed unseen, as during a crash, is rejected like this: the snapshot will soon show it.
            level = "warning" if order.code in NOTHING_LEFT and early else "critical"
            if order.code == RESTING_COUNTED:
                self.crowded = self._target_rested(order.placed_ms)
                level = "warning" if self.crowded and early else "critical"
                why += (
                    "; it leaves again when the targets are cancelled"
                    if self.crowded
                    else "; if orders of yours that only reduce rest there, cancel them"
                )
            out.append(Alert(level, f"{self.symbol} market exit refused: {why}"))
            out.append(RequestSnapshot(f"{self.symbol} market exit refused: {order.code}"))

    def _protect(self, exposed: Decimal, now: int, price: Decimal | None, out: list[Intent]) -> None:
        """Keep one accepted sized stop for the entire position at the wanted price, and the catastrophe stop."""
        self._ask_after_stops(now, out)
        live = [o for o in self.stops if not (o.status.is_terminal or o.denied)]
        silent = [o for o in live if o.unanswered(now, self.stop_patience_ms)]
        heard = live if not silent or len(silent) >= MOST_UNANSWERED else [o for o in live if o not in silent]
        fitting = [o for o in heard if o.remaining == exposed and o.trigger == self.stop and not o.cancel_ms]
        held = [o for o in fitting if o.accepted]
        wanted = next((o for o in held if not o.unconfirmed), next(iter(held or fitting), None))
        if wanted is None and self.doubted and self.cover >= exposed:
            pass  # the stops cover the position and a second witness is imminent: one order then instead of two
        elif wanted is None:
            flying = any(not o.accepted for o in heard)
            short = exposed > sum((o.remaining for o in heard), ZERO)
            if (short or not flying) and now >= self.stop_retry.not_before_ms:
                if price is not None and self.side.sign * (price - self.stop) <= 0:
                    self.exit(self._fired() or "stop_passed")
                    return
                self.stops.append(self._stop_order("sl", exposed, self.stop, now, out))
        elif wanted.accepted and (self.trusting or not wanted.unconfirmed):
            self.stop_retry.worked()
            for order in live:
                if order is not wanted:
                    self.ledger.cancel(order, now, out)
        if self.catastrophe is not None and now >= self.guard_retry.not_before_ms:
            if any(o.accepted for o in self.guards):
                self.guard_retry.worked()
            elif not any(o.live for o in self.guards):
                self.guards.append(self._stop_order("cs", ZERO, self.catastrophe, now, out))

    def _unconfirmed(self) -> list[Order]:
        return [o for o in self.stops if o.unconfirmed] if not self.trusting else []

    @staticmethod
    def _ask_ms(order: Order) -> int:
        return max(order.changed_ms + CONFIRM_MS, order.looked_ms and order.looked_ms + LOOK_AGAIN_MS)

    def _ask_after_stops(self, now: int, out: list[Intent]) -> None:
        """Query stops that only one message reports as resting, and count those that were not found."""
        for order in self._unconfirmed():
            if now >= self._ask_ms(order):
                self.ledger.look_up(order, now, out)
        denied = [o.client_id for o in self.stops if o.denied]
        if len(denied) > self.denials:
            self.stop_retry.failed(now)
            if not self.denials:
                out.append(Alert("warning", f"{self.symbol} stop {denied[-1]} was accepted and cannot be found"))
        self.denials = len(denied)

    def _stop_order(self, role: str, qty: Decimal, trigger: Decimal, now: int, out: list[Intent]) -> Order:
        whole = role == "cs"
        client_id = self.ids.next(role, self.symbol_index)
        self.kinds[client_id] = "catastrophe" if whole else self.stop_kind
        return self.ledger.place(
            client_id,
            self.symbol,
            side=self.side.exit,
            order_type=OrderType.STOP_MARKET,
            qty=qty,
            role=role,
            now=now,
            out=out,
            trigger=trigger,
            reduce_only=not whole,
            close_position=whole,
            reference=trigger,
            working_type=self.working_type,
        )

    def _place_targets(self, exposed: Decimal, now: int, out: list[Intent]) -> None:
        for target in self.targets:
            if target.given_up or now < target.retry.not_before_ms or any([o.live for o in target.orders]):  # noqa: C419
                continue
            rest = min(target.qty - target.filled, exposed)
            if rest <= 0:
                continue
            target.orders.append(
                self.ledger.place(
                    self.ids.next("tp", self.symbol_index, leg=target.leg),
                    self.symbol,
                    side=self.side.exit,
                    order_type=OrderType.LIMIT,
                    qty=rest,
                    role="tp",
                    now=now,
                    out=out,
                    price=target.price,
                    time_in_force=TimeInForce.GTC,
                    reduce_only=True,
                )
            )

    def _leave(self, exposed: Decimal, now: int, out: list[Intent]) -> None:
        """Send a market exit for what the exits in flight do not close; cancel targets, keep stops until flat."""
        unanswered = [o for o in self.exits if o.role == "xx" and o.unanswered(now, self.exit_patience_ms)]
        doubted = unanswered if len(unanswered) < MOST_UNANSWERED else []
        on_way = sum((o.remaining for o in self.exits if o not in doubted), ZERO)
        for order in (*self.stops, *self.guards):
            if order.status in EXECUTING and now - order.changed_ms < TRIGGER_PATIENCE_MS:
                on_way += exposed if order.close_position else order.remaining
        if self.crowded and not self._target_rested(_NEVER):  # the cause of the rejection is gone: no more delay
            self.crowded = False
            self.exit_retry.worked()
        if exposed > on_way and now >= self.exit_retry.not_before_ms:
            self.market(exposed - on_way, "xx", now, out)
        for target in self.targets:
            for order in target.orders:
                self.ledger.cancel(order, now, out)

    def market(self, qty: Decimal, role: str, now: int, out: list[Intent], reference: Decimal = ZERO) -> None:
        """Send a reduce-only market order for part of the position.

        Parameters
        ----------
        qty
            Quantity in base units, capped at the instrument's largest market order.
        role
            `xx` or `hc`.
        now
            Largest exchange time seen, ms.
        out
            List that intents are appended to.
        reference
            Price that slippage is measured against; 0 takes the bracket's own.
        """
        self.exits.append(
            self.ledger.place(
                self.ids.next(role, self.symbol_index),
                self.symbol,
                side=self.side.exit,
                order_type=OrderType.MARKET,
                qty=min(qty, self.instrument.market_max_qty),
                role=role,
                now=now,
                out=out,
                reduce_only=True,
                reference=reference or self.reference,
            )
        )
