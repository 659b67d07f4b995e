"""Entry execution: post-only first, then take the rest, never with more risk than planned (strategy 5).

1. MAKER: a post-only (GTX) limit at the plan's entry or the best bid, whichever is lower (short: the entry or the best ask,
   whichever is higher), so that it rests. If rejected with -5022 because it would have taken, it is re-priced once at the new
   best bid, then step 2 follows. A price at or beyond the trade's own stop is void: such a fill would be stopped out at once.
2. After `maker_timeout_ms` the order is cancelled. Only when the outcome of the cancel is known (CANCELLING) is the rest sent as
   an immediate-or-cancel limit at ask * (1 + max_slippage) (TAKER). The price has usually moved away by then, so the quantity
   is cut to what the planned risk still allows at that limit.
3. DONE: whatever filled is the position. If nothing filled, the setup ends with its reason.

An order whose outcome is unknown is waited for: a second entry could double the position.
"""

from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Final

from bot.config import EntrySettings as EntryConfig
from bot.core.errors import InvariantError
from bot.core.intents import Intent
from bot.core.types import Instrument, OrderStatus, OrderType, Quote, Round, Side, TimeInForce, to_decimal
from bot.orders.ids import IdMaker
from bot.orders.state import ZERO, Ledger, Order

POST_ONLY_WOULD_TAKE: Final = -5022


class Phase(StrEnum):
    """The phase of the entry."""

    MAKER = "MAKER"
    CANCELLING = "CANCELLING"
    TAKER = "TAKER"
    DONE = "DONE"


PHASES: Final = {
    Phase.MAKER: frozenset({Phase.CANCELLING, Phase.TAKER, Phase.DONE}),
    Phase.CANCELLING: frozenset({Phase.TAKER, Phase.DONE}),
    Phase.TAKER: frozenset({Phase.DONE}),
    Phase.DONE: frozenset(),
}


def maker_price(side: Side, entry: Decimal, quote: Quote, instrument: Instrument) -> Decimal:
    """Return the post-only price: the entry, but never through the best price of its own side of the book.

    Parameters
    ----------
    side
        Direction of the trade.
    entry
        Entry price of the plan.
    quote
        Best bid and ask.
    instrument
        Gives the tick; rounded to the less aggressive one.
    """
    best = min(entry, quote.bid) if side is Side.LONG else max(entry, quote.ask)
    return instrument.price(best, Round.DOWN if side is Side.LONG else Round.UP)


def taker_limit(side: Side, quote: Quote, max_slippage: float, instrument: Instrument) -> Decimal:
    """Return the IOC limit: beyond the opposite best price by the allowed slippage, rounded to the less aggressive tick.

    Parameters
    ----------
    side
        Direction of the trade.
    quote
        Best bid and ask.
    max_slippage
        Fraction of the opposite best price.
    instrument
        Gives the tick.
    """
    far = quote.ask if side is Side.LONG else quote.bid
    limit = far * (1 + side.sign * to_decimal(max_slippage))
    return instrument.price(limit, Round.DOWN if side is Side.LONG else Round.UP)


def capped_qty(
    rest: Decimal,
    *,
    risk_quote: Decimal,
    filled: Decimal,
    average: Decimal,
    stop: Decimal,
    limit: Decimal,
    side: Side,
    instrument: Instrument,
) -> Decimal:
    """Return how much of the rest the planned risk allows at `limit`, rounded down to the lot.

    min(rest, (risk_quote - filled * (average - stop)) / (limit - stop)), distances in the trade's direction.

    Parameters
    ----------
    rest, filled
        Unfilled and filled quantity in base units.
    risk_quote
        Planned risk of the trade in quote.
    average
        Average price of the filled part.
    stop, limit
        Stop price, and limit price of the IOC.
    """
    distance = side.sign * (limit - stop)
    if distance <= 0:
        return ZERO
    used = filled * side.sign * (average - stop)
    return instrument.qty(min(rest, max(risk_quote - used, ZERO) / distance))


@dataclass(slots=True)
class Entry:
    """One attempt to enter a position. Call `advance` after every event."""

    ledger: Ledger
    ids: IdMaker
    instrument: Instrument
    config: EntryConfig
    side: Side
    entry: Decimal
    stop: Decimal
    qty: Decimal
    risk_quote: Decimal
    phase: Phase = Phase.MAKER
    deadline_ms: int = 0
    reprices: int = 0
    aborted: str = ""
    outcome: str = ""  # code for why it ended or the rest was left; `detail` is a sentence with the values
    detail: str = ""
    orders: list[Order] = field(default_factory=list)

    @property
    def done(self) -> bool:
        """Whether the entry is done and all its fills are known."""
        if self.phase is not Phase.DONE:
            return False
        for order in self.orders:  # noqa: SIM110
            if not order.status.is_terminal or order.cumulative > order.known:
                return False
        return True

    @property
    def filled(self) -> Decimal:
        """Filled quantity by updates or fills, whichever is larger."""
        return sum([o.filled for o in self.orders], ZERO)

    def start(self, now: int, quote: Quote, out: list[Intent]) -> None:
        """Send the post-only order.

        Raises
        ------
        InvariantError
            The entry was started before.
        """
        if self.orders:
            raise InvariantError("an entry starts once")
        self._maker(now, quote, out)

    def abort(self, reason: str) -> None:
        """Enter no further: cancel the working order, send no IOC."""
        if not self.aborted and self.phase is not Phase.DONE:
            self.aborted = reason

    def advance(self, now: int, quote: Quote | None, out: list[Intent]) -> None:
        """Take the next step that the known order states allow; `quote` is None if there is no fresh one."""
        if self.phase is Phase.DONE or not self.orders:
            return
        order = self.orders[-1]
        if order.live:
            late = now >= self.deadline_ms
            if order.role == "en" and order.accepted and (late or self.aborted):
                self._to(Phase.CANCELLING)
                self.ledger.cancel(order, now, out)
            return
        if order.missing and self.phase is not Phase.TAKER:
            return  # the rest is sized by what the fills cost: wait for them
        if self.aborted:
            self._finish(self.aborted)
        elif order.role == "io" and order.status is OrderStatus.REJECTED:
            self._finish("taker_refused", f"{order.code} {order.reason}")
        elif order.role == "io" or self.filled >= self.qty:
            self._finish("" if self.filled else "not_filled")
        elif order.status is OrderStatus.REJECTED and order.code != POST_ONLY_WOULD_TAKE:
            self._finish("maker_refused", f"{order.code} {order.reason}")
        elif self._would_have_taken(order) and self.reprices < self.config.post_only_retries:
            if quote is not None:
                price = maker_price(self.side, self.entry, quote, self.instrument)
                if self.side.sign * (price - self.stop) <= 0:
                    self._finish("beyond_stop", f"{price} is at or beyond the stop {self.stop}")
                    return
                self.reprices += 1
                self._maker(now, quote, out)
            elif now >= self.deadline_ms:
                self._finish("no_quote", "nothing fresh to re-price with")
        else:
            self._taker(now, quote, out)

    def deadlines(self) -> list[int]:
        """Return the times at which `advance` has something to do without an event, exchange ms."""
        return [] if self.phase in (Phase.DONE, Phase.TAKER) else [self.deadline_ms]

    def _to(self, phase: Phase) -> None:
        if phase is self.phase:
            return
        if phase not in PHASES[self.phase]:
            raise InvariantError(f"an entry does not go from {self.phase} to {phase}")
        self.phase = phase

    def _finish(self, outcome: str = "", detail: str = "") -> None:
        self._to(Phase.DONE)
        self.outcome, self.detail = outcome, detail

    @staticmethod
    def _would_have_taken(order: Order) -> bool:
        # The older form of the rejection: accepted, then expired (venue notes 2.6).
        expired = order.status is OrderStatus.EXPIRED and not order.filled and not order.cancel_ms
        return order.code == POST_ONLY_WOULD_TAKE or expired

    def _maker(self, now: int, quote: Quote, out: list[Intent]) -> None:
        self.deadline_ms = now + self.config.maker_timeout_ms
        self.orders.append(
            self.ledger.place(
                self.ids.next("en", 0),
                self.instrument.symbol,
                side=self.side.entry,
                order_type=OrderType.LIMIT,
                qty=self.qty,
                role="en",
                now=now,
                out=out,
                price=maker_price(self.side, self.entry, quote, self.instrument),
                time_in_force=TimeInForce.GTX,
            )
        )

    def _taker(self, now: int, quote: Quote | None, out: list[Intent]) -> None:
        if quote is None:
            self._finish("no_quote", "nothing fresh to take with")
            return
        far = quote.ask if self.side is Side.LONG else quote.bid
        sign = self.side.sign
        if sign * (far - self.stop) <= 0:
            self._finish("beyond_stop", f"{far} is at or beyond the stop {self.stop}")
            return
        chase = float(sign * (far - self.entry) / abs(self.entry - self.stop))
        if self.config.max_chase_r and chase > self.config.max_chase_r:
            self._finish("chase", f"{far} is {chase:.2f} R beyond {self.entry}, allowed {self.config.max_chase_r}")
            return
        limit = taker_limit(self.side, quote, self.config.max_slippage, self.instrument)
        filled = self.filled
        average = sum((o.notional for o in self.orders), ZERO) / filled if filled else self.entry
        qty = capped_qty(
            self.qty - filled,
            risk_quote=self.risk_quote,
            filled=filled,
            average=average,
            stop=self.stop,
            limit=limit,
            side=self.side,
            instrument=self.instrument,
        )
        if qty < self.instrument.min_qty or qty * limit < self.instrument.min_notional:
            self._finish("rest_too_small", f"{qty} at {limit}, with {far} {chase:.2f} R beyond {self.entry}")
            return
        self._to(Phase.TAKER)
        self.orders.append(
            self.ledger.place(
                self.ids.next("io", 0),
                self.instrument.symbol,
                side=self.side.entry,
                order_type=OrderType.LIMIT,
                qty=qty,
                role="io",
                now=now,
                out=out,
                price=limit,
                time_in_force=TimeInForce.IOC,
                reference=far,
            )
        )
