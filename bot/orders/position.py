"""One position as the sum of its orders: quantity held, quantity covered by stops, and naked time.

*Held* counts known fills, *exposed* also the fills that updates imply beyond them: protection acts on the larger. The position
is *naked* while the accepted sized stops do not add up to it; each naked spell is recorded when it ends, in exchange time from
the fill to the acceptance of the stop.
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
    """One part of the position that exits at a limit; `qty` 0 means no order, only the price level counts."""

    leg: int
    price: Decimal
    qty: Decimal
    reached: bool = False  # the price reached the level (for a part that has no order)
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
        """Whether known fills complete it: fills that an update only implies neither move the stop nor start the trail."""
        return self.reached if not self.qty or self.given_up else sum([o.known for o in self.orders], ZERO) >= self.qty

    @property
    def done(self) -> bool:
        """Whether it is completely filled or, without an order, the price reached the level."""
        return self.reached if not self.qty or self.given_up else self.filled >= self.qty


class Sums(NamedTuple):
    """Totals over the orders of a position at one version of the ledger."""

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
    """One position: its entry and exit orders, their totals, and its naked time."""

    ledger: Ledger
    ids: IdMaker
    instrument: Instrument
    symbol_index: int
    side: Side
    naked_limit_ms: int
    working_type: str  # CONTRACT_PRICE or MARK_PRICE
    stop: Decimal
    stop_kind: str = "stop"  # stop, break_even or trail: exit reason of a stop-out
    catastrophe: Decimal | None = None
    entries: list[Order] = field(default_factory=list)
    stops: list[Order] = field(default_factory=list)
    guards: list[Order] = field(default_factory=list)  # catastrophe stops
    exits: list[Order] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    foreign: Decimal = ZERO  # quantity closed by orders that are not ours
    exit_reason: str = ""  # set once the position is closing or closed
    exit_cause: str = ""  # client id of the order whose end or trigger gave the reason; empty if the exit was requested
    closed_ms: int = 0  # when it was first seen flat again
    trusting: bool = False  # a back-test: the fills are true, no second witness is needed
    doubted: bool = False  # no witness besides the fills has reported the position as it is
    flat_confirmed: bool = False  # the exchange's position and trades agree that it is flat: its stops may be cancelled
    nothing_left_ms: int = 0  # when an exit or a closePosition stop was last rejected because there is nothing to close
    denials: int = 0  # stops reported as resting that a query did not find, as last counted
    crowded: bool = False  # a market exit was rejected because targets are resting
    naked_since: int | None = None
    naked_start: int = 0  # of the last naked spell
    naked_end: int = 0
    naked_ms: int = 0  # the longest spell
    last_reduction: str = ""  # role of the fill that last made it smaller
    kinds: dict[str, str] = field(default_factory=dict)  # exit reason of each stop order if it triggers
    reference: Decimal = ZERO  # best price on the exit side, updated by the owner to measure slippage
    stop_retry: Retry = field(default_factory=Retry)
    guard_retry: Retry = field(default_factory=Retry)
    exit_retry: Retry = field(default_factory=Retry)
    kept: "Sums | None" = None
    kept_rest: tuple[Any, ...] = ()  # the state in which `advance` had nothing to do, see `Bracket.resting`
    kept_until: int = 0  # the next time at which it has something to do in that state
    kept_due: tuple[int, ...] = ()  # the deadlines of that state

    # Totals

    @property
    def symbol(self) -> str:
        """Symbol of the position."""
        return self.instrument.symbol

    def sums(self) -> "Sums":
        """Return the totals over the orders, cached until one of them changes."""
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
        """The position to protect: fills, and quantities that updates imply beyond them."""
        return self.sums().exposed

    @property
    def held(self) -> Decimal:
        """The position by known fills only."""
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
        """Whether the position is closing or closed."""
        return bool(self.exit_reason)

    @property
    def idle(self) -> bool:
        """Whether it is flat, with no live order and no missing fill, and confirmed flat if it ever held anything."""
        sums = self.sums()
        return sums.idle and (self.flat_confirmed or self.trusting or not self.closed_ms)

    @property
    def misled(self) -> bool:
        """Whether a query failed to find a stop reported as resting: from then on one message does not suffice."""
        return any([o.denied for o in self.stops])  # noqa: C419  # a list is faster here

    # Naked time

    def note_fill(self, order: Order, event: Fill, out: list[Any]) -> None:
        """Update the last reducing role and the naked time for a known fill of one of its orders."""
        if order.role not in OPENING_ROLES:
            self.last_reduction = order.role
        elif self.naked_since is not None:
            self.naked_since = min(self.naked_since, event.at_ms)
        elif self.naked_start <= self.naked_end and event.at_ms < self.naked_start and order.cumulative >= order.known:
            # An update had implied this fill; the fill's own time is earlier.
            self.naked_start = event.at_ms
            self._tell_spell(out)

    def measure(self, exposed: Decimal, at_ms: int, out: list[Any]) -> None:
        """Start or end a naked spell; `exposed` is the quantity to protect, `at_ms` the exchange time of the event."""
        naked = exposed > 0 and self.cover < exposed
        if naked and self.naked_since is None:
            self.naked_since = at_ms
            if any(o.denied and o.live and o.accepted_ms >= self.naked_end for o in self.stops) and self.naked_end:
                self.naked_since = min(at_ms, self.naked_start)  # the spell had ended on a single false message
        elif not naked and self.naked_since is not None:
            self.naked_start, self.naked_since = self.naked_since, None
            # The acceptance may be reported long after it happened, for example after a restart.
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
