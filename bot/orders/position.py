"""One position as its orders add up: what is held, what is covered by stops, and how long it was not.

*Held* counts known fills, *exposed* also what updates promise beyond them: protection acts on the larger. The position is
*naked* while the accepted sized stops do not add up to it; every such spell is told when it is over, with the
exchange's own times: from the fill to the acceptance of the stop.
"""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

from bot.core.events import Fill
from bot.core.records import NakedSpell
from bot.core.types import Instrument, Round, Side
from bot.orders.ids import IdMaker, base36
from bot.orders.state import OPENING_ROLES, ZERO, Ledger, Order, Retry


@dataclass(slots=True)
class Target:
    """One part of the position that leaves at a limit; `qty` 0 means left out, only its level counts."""

    leg: int
    price: Decimal
    qty: Decimal
    reached: bool = False  # the price was there (for a part that has no order)
    given_up: bool = False
    orders: list[Order] = field(default_factory=list)
    retry: Retry = field(default_factory=Retry)

    @property
    def filled(self) -> Decimal:
        """Filled quantity over all attempts."""
        total = ZERO
        for order in self.orders:
            total += order.filled
        return total

    @property
    def proved(self) -> bool:
        """Done by known fills: what an update only promises neither moves the stop nor starts the trail."""
        return self.reached if not self.qty or self.given_up else sum([o.known for o in self.orders], ZERO) >= self.qty

    @property
    def done(self) -> bool:
        """Wholly filled; a part without an order: the price was there."""
        return self.reached if not self.qty or self.given_up else self.filled >= self.qty


class Sums(NamedTuple):
    """What the orders of a position add up to at a version of the ledger."""

    version: int
    foreign: Decimal
    bought: Decimal
    exposed: Decimal
    held: Decimal
    average: Decimal
    cover: Decimal
    idle: bool
    entered: bool  # every entry order has ended, and all its fills are known
    left: Decimal  # share of the filled entry that is still held, 0 to 1


@dataclass(slots=True)
class Position:
    """One position: the orders that made and unmake it, what they add up to, and how long it was naked."""

    ledger: Ledger
    ids: IdMaker
    instrument: Instrument
    symbol_index: int
    side: Side
    naked_limit_ms: int
    working_type: str  # CONTRACT_PRICE or MARK_PRICE
    stop: Decimal
    stop_kind: str = "stop"  # stop, break_even or trail: what a stop-out is called
    catastrophe: Decimal | None = None
    entries: list[Order] = field(default_factory=list)
    stops: list[Order] = field(default_factory=list)
    guards: list[Order] = field(default_factory=list)  # catastrophe stops
    exits: list[Order] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    foreign: Decimal = ZERO  # quantity taken off by orders that are not ours
    exit_reason: str = ""  # set once the position has to go, or has gone
    exit_cause: str = ""  # client id of the order whose end or trigger gave the reason; empty when it was wished for
    closed_ms: int = 0  # when it was first seen flat again
    trusting: bool = False  # a back-test: the fills are the truth, nobody else is asked
    doubted: bool = False  # nobody but the fills has reported the position as it is
    flat_confirmed: bool = False  # the exchange's position and trades agree that it is flat: its stops may go
    nothing_left_ms: int = 0  # when an exit or a closePosition stop was last refused because there is nothing to close
    denials: int = 0  # stops that were said to rest and that a query did not find, as last counted
    crowded: bool = False  # a market exit was refused because targets rest beside it
    naked_since: int | None = None
    naked_start: int = 0  # of the last naked spell
    naked_end: int = 0
    naked_ms: int = 0  # the longest spell
    last_reduction: str = ""  # role of the fill that last made it smaller
    kinds: dict[str, str] = field(default_factory=dict)  # what each stop order is called when it triggers
    reference: Decimal = ZERO  # best price on the exit side, kept by the owner for the slippage watch
    stop_retry: Retry = field(default_factory=Retry)
    guard_retry: Retry = field(default_factory=Retry)
    exit_retry: Retry = field(default_factory=Retry)
    kept: "Sums | None" = None
    kept_rest: tuple[Any, ...] = ()  # the state in which `advance` had nothing to do, see `Bracket.resting`
    kept_until: int = 0  # the next instant at which it has something to do in that state
    kept_due: tuple[int, ...] = ()  # the deadlines of that state

    # What is held

    @property
    def symbol(self) -> str:
        """The symbol it guards."""
        return self.instrument.symbol

    def sums(self) -> "Sums":
        """Return what the orders add up to, kept until one of them changes."""
        kept, version = self.kept, self.ledger.versions.get(self.instrument.symbol, 0)
        if kept is None or kept.version != version or kept.foreign != self.foreign:
            kept = self.kept = self._add_up(version)
        return kept

    def _add_up(self, version: int) -> "Sums":
        bought = filled = value = ZERO
        settled = True
        for order in self.entries:
            bought += order.known
            filled += order.filled
            value += order.notional
            settled = settled and order.settled
        entered = settled
        held, exposed, cover = bought - self.foreign, filled - self.foreign, ZERO
        for order in self._reducers():
            known, cumulative = order.known, order.cumulative
            if known or cumulative:
                held -= known
                exposed -= order.filled
            settled = settled and order.status.is_terminal and cumulative <= known
        strict = self.misled
        for order in self.stops:
            if order.status.is_accepted and not (strict and (order.denied or order.unconfirmed)):
                cover += order.remaining
        average = value / bought if bought else ZERO
        idle = not exposed and not held and settled
        left = max(exposed, ZERO) / filled if filled else ZERO
        return Sums(version, self.foreign, bought, exposed, held, average, cover, idle, entered, left)

    def _reducers(self) -> list[Order]:
        found = [*self.stops, *self.guards, *self.exits]
        for target in self.targets:
            found += target.orders
        return found

    def orders(self) -> list[Order]:
        """Return every order of the position, entries included."""
        return [*self.entries, *self._reducers()]

    @property
    def exposed(self) -> Decimal:
        """The position that has to be protected: fills, and what updates promised beyond them."""
        return self.sums().exposed

    @property
    def held(self) -> Decimal:
        """The position by known fills alone."""
        return self.sums().held

    @property
    def bought(self) -> Decimal:
        """Entry quantity by known fills."""
        return self.sums().bought

    @property
    def average(self) -> Decimal:
        """Average entry price of the known fills, 0 without any."""
        return self.sums().average

    @property
    def average_exit(self) -> Decimal:
        """Average price of the known reductions by our own orders, 0 without any."""
        sold = sum((o.known for o in self._reducers()), ZERO)
        return sum((o.notional for o in self._reducers()), ZERO) / sold if sold else ZERO

    @property
    def cover(self) -> Decimal:
        """Quantity covered by sized stops that the exchange has accepted."""
        return self.sums().cover

    @property
    def closing(self) -> bool:
        """Whether the position is on its way out, or gone."""
        return bool(self.exit_reason)

    @property
    def idle(self) -> bool:
        """Flat, with nothing alive and nothing missing, and confirmed if it ever held anything."""
        sums = self.sums()
        return sums.idle and (self.flat_confirmed or self.trusting or not self.closed_ms)

    @property
    def misled(self) -> bool:
        """Whether a stop was said to rest that a query did not find: from then on one message is not enough."""
        return any([o.denied for o in self.stops])  # noqa: C419  # a list is faster here

    # Naked time

    def note_fill(self, order: Order, event: Fill, out: list[Any]) -> None:
        """Note what a known fill of one of its orders says about names and naked time."""
        if order.role not in OPENING_ROLES:
            self.last_reduction = order.role
        elif self.naked_since is not None:
            self.naked_since = min(self.naked_since, event.at_ms)
        elif self.naked_start <= self.naked_end and event.at_ms < self.naked_start and order.cumulative >= order.known:
            # An update had promised this fill; its own time is the earlier one.
            self.naked_start = event.at_ms
            self._tell_spell(out)

    def measure(self, exposed: Decimal, at_ms: int, out: list[Any]) -> None:
        """Begin or end a naked spell."""
        naked = exposed > 0 and self.cover < exposed
        if naked and self.naked_since is None:
            self.naked_since = at_ms
            if any(o.denied and o.live and o.accepted_ms >= self.naked_end for o in self.stops) and self.naked_end:
                self.naked_since = min(at_ms, self.naked_start)  # the spell had ended on one false word
        elif not naked and self.naked_since is not None:
            self.naked_start, self.naked_since = self.naked_since, None
            # The acceptance may be heard long after it happened, after a restart for one.
            accepted_ms = max((o.accepted_ms for o in self.stops if o.accepted), default=at_ms)
            self.naked_end = max(self.naked_start, min(at_ms, accepted_ms) if exposed > 0 else at_ms)
            self._tell_spell(out)

    def _tell_spell(self, out: list[Any]) -> None:
        spell_ms = self.naked_end - self.naked_start
        self.naked_ms = max(self.naked_ms, spell_ms)
        role = "leg" if self.symbol_index else "alpha"
        out.append(NakedSpell(self.naked_end, self.symbol, base36(self.ids.sequence), spell_ms, role))

    # Rounding (strategy 6)

    def away(self, price: Decimal) -> Decimal:
        """Round a stop away from the position."""
        return self.instrument.price(price, Round.DOWN if self.side is Side.LONG else Round.UP)

    def toward_profit(self, price: Decimal) -> Decimal:
        """Round a break-even or trailing stop toward profit."""
        return self.instrument.price(price, Round.UP if self.side is Side.LONG else Round.DOWN)

    def toward_entry(self, price: Decimal) -> Decimal:
        """Round a target toward the entry."""
        return self.instrument.price(price, Round.DOWN if self.side is Side.LONG else Round.UP)
