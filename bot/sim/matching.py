"""One symbol's order book: our orders against the market's ticks.

The market is recorded and does not react to us, so every fill rests on an assumption. These are all of them.

* **The book is one level deep.** A tick sets bid and ask with a finite quantity each. A taking order gets at most what
  is left of the level it hits; the level is replenished by the next tick, or by the refill that the exchange schedules
  while a MARKET order waits.
* **Taking.** A LIMIT order takes when its price reaches the other side of the book, at the book's price, never worse
  than its own. The unfilled part of an IOC EXPIRES (er 2), a FOK that cannot fill completely is rejected (-5021), a GTC
  remainder rests, a MARKET remainder continues with the next book until filled or until the book is more than 5 % from
  where it started (er 9).
* **Post-only (GTX)** is rejected (-5022) when the book, or one of our own resting orders, is at its price or better.
* **Resting orders** fill as maker at their own price, in price-time priority, never for more than the tick's traded
  quantity:
  1. when a trade prints *through* the price (lower than a resting buy, higher than a resting sell), at once;
  2. when a trade prints *at* the price and the aggressor came from the other side, after the queue ahead has traded.
     That queue is the displayed quantity of our side when the order arrived (none if we improved the price);
  3. when the new book is beyond the price (an ask at or below a resting buy), up to that level's quantity.
* **Reduce-only** orders never do more than close the position: the excess EXPIRES with er 4.
* **Self-trade prevention** follows the taker's mode: a resting order of ours that our taker would hit is
  EXPIRED_IN_MATCH first (EXPIRE_MAKER, the default), the taker is (EXPIRE_TAKER), or both are; NONE does nothing. FOK
  and GTX are exempt.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from bot.sim.errors import Refused
from bot.sim.orders import Tick, VenueOrder

UNBOUNDED: Final = 1 << 62


class BookReport(NamedTuple):
    """An order event: NEW, TRADE, EXPIRED, CANCELED or AMENDMENT; price in ticks, lots of this trade."""

    kind: str
    order: VenueOrder
    price: int = 0
    lots: int = 0
    maker: bool = False


class OrderBook:
    """Bid, ask and our orders of one symbol.

    Parameters
    ----------
    room : callable
        Returns the lots that an order may still execute: the position for a reduce-only order, unbounded otherwise.
    report : callable
        Receives each `BookReport` as it happens, so that the position is right before the next match.
    """

    __slots__ = (
        "ask",
        "ask_lots",
        "bid",
        "bid_lots",
        "last",
        "post_only_expires",
        "report",
        "resting",
        "room",
        "working",
    )

    def __init__(self, room: Callable[[VenueOrder], int], report: Callable[[BookReport], None]) -> None:
        self.room = room
        self.report = report
        self.post_only_expires = False  # former behaviour of the exchange; otherwise rejected
        self.bid = self.ask = self.last = 0
        self.bid_lots = self.ask_lots = 0
        self.resting: list[VenueOrder] = []  # in order of arrival
        self.working: list[VenueOrder] = []  # MARKET remainders

    def tick(self, tick: Tick) -> None:
        """Apply one market trade, then the book after it."""
        self.last = tick.price
        if self.resting and tick.lots:
            self._traded(tick.price, tick.lots, seller=tick.seller)
        self.quote(tick.bid, tick.bid_lots, ask=tick.ask, ask_lots=tick.ask_lots)

    def quote(self, bid: int, bid_lots: int, *, ask: int, ask_lots: int) -> None:
        """Replace the book's level and match waiting orders against it.

        Parameters
        ----------
        bid, ask
            In ticks.
        bid_lots, ask_lots
            Quantities in lots.
        """
        self.bid, self.bid_lots, self.ask, self.ask_lots = bid, bid_lots, ask, ask_lots
        if self.resting:
            for order in self._by_priority():
                if order.live and self._beyond(order):
                    lots = min(order.left, self.ask_lots if order.buy else self.bid_lots)
                    self._consume(order, self._trade(order, order.price, lots=lots, maker=True))
        for order in tuple(self.working):
            if order.live:
                self._take(order)
            if not order.live and order in self.working:
                self.working.remove(order)

    def submit(self, order: VenueOrder) -> None:
        """Accept an order, or reject it before anything has changed.

        Raises
        ------
        Refused
            -5022 for a post-only order that would take, -5021 for a FOK that cannot fill completely.
        """
        crossing = self.crosses(order)
        if order.tif == "GTX" and (crossing or self._own_touches(order)):
            if not self.post_only_expires:
                raise Refused(-5022)
            self.report(BookReport("NEW", order))
            self.expire(order, "0")
            return
        if order.tif == "FOK" and (not crossing or self._level(order) < min(order.left, self.room(order))):
            raise Refused(-5021)
        self.report(BookReport("NEW", order))
        if crossing:
            self._prevent_self_trade(order)
        if crossing and order.live:
            self._take(order)
        if not order.live:
            return
        if order.type == "MARKET":
            self.working.append(order)
        elif order.tif in ("IOC", "FOK"):
            self.expire(order, "2")
        else:
            self._rest(order)

    def cancel(self, order: VenueOrder) -> None:
        """Cancel a live order."""
        self._remove(order)
        order.status = "CANCELED"
        self.report(BookReport("CANCELED", order))

    def expire(self, order: VenueOrder, er: str, status: str = "EXPIRED") -> None:
        """End an order by the exchange's own rule `er`."""
        self._remove(order)
        order.status, order.er = status, er
        self.report(BookReport("EXPIRED", order))

    def amend(self, order: VenueOrder, price: int, *, lots: int) -> None:
        """Amend price and quantity of a resting order, which loses its queue position.

        A post-only order amended into the book expires.

        Raises
        ------
        Refused
            -5027 if nothing changes, -5026 after 10,000 amendments.
        """
        if price == order.price and lots == order.lots:
            raise Refused(-5027)
        if order.amends >= 10_000:
            raise Refused(-5026)
        self._remove(order)
        order.price, order.lots, order.amends = price, lots, order.amends + 1
        if order.left <= 0:
            self.resting.append(order)
            self.cancel(order)
            return
        self.report(BookReport("AMENDMENT", order))
        if self.crosses(order):
            if order.tif == "GTX":
                self.expire(order, "0")
                return
            self._prevent_self_trade(order)
            if order.live:
                self._take(order)
        if order.live:
            self._rest(order)

    def trade_against(self, order: VenueOrder, lots: int) -> int:
        """Fill a resting order at its price with a market trade; return the lots executed."""
        return self._trade(order, order.price, lots=min(lots, order.left), maker=True)

    def crosses(self, order: VenueOrder) -> bool:
        """Return whether the order would take from the book."""
        if order.type == "MARKET":
            return True
        return order.price >= self.ask if order.buy else order.price <= self.bid

    def _level(self, order: VenueOrder) -> int:
        return self.ask_lots if order.buy else self.bid_lots

    def _consume(self, order: VenueOrder, lots: int) -> None:
        if order.buy:
            self.ask_lots -= lots
        else:
            self.bid_lots -= lots

    def _beyond(self, order: VenueOrder) -> bool:
        return order.price >= self.ask if order.buy else order.price <= self.bid

    def _own_touches(self, order: VenueOrder) -> bool:
        return any(
            other.buy != order.buy and (order.price >= other.price if order.buy else order.price <= other.price)
            for other in self.resting
        )

    def _by_priority(self) -> list[VenueOrder]:
        return sorted(self.resting, key=lambda order: -order.sign * order.price)  # stable sort: then by arrival

    def _prevent_self_trade(self, taker: VenueOrder) -> None:
        if taker.stp == "NONE" or taker.tif in ("FOK", "GTX"):
            return
        reach = (self.ask if taker.buy else self.bid) * taker.sign
        hit = [o for o in self.resting if o.buy != taker.buy and o.price * taker.sign <= reach]
        if not hit:
            return
        if taker.stp != "EXPIRE_TAKER":
            for other in hit:
                self.expire(other, "1", "EXPIRED_IN_MATCH")
        if taker.stp != "EXPIRE_MAKER":
            self.expire(taker, "3" if taker.tif == "IOC" else "1", "EXPIRED_IN_MATCH")

    def _take(self, order: VenueOrder) -> None:
        price = self.ask if order.buy else self.bid
        if order.bound and (price - order.bound) * order.sign > 0:
            self.expire(order, "9")
            return
        lots = min(order.left, self._level(order))
        if lots > 0:
            self._consume(order, self._trade(order, price, lots=lots, maker=False))

    def _rest(self, order: VenueOrder) -> None:
        best, shown = (self.bid, self.bid_lots) if order.buy else (self.ask, self.ask_lots)
        order.ahead = 0 if (order.price - best) * order.sign > 0 else shown
        self.resting.append(order)

    def _traded(self, price: int, lots: int, *, seller: bool) -> None:
        left = lots
        for order in self._by_priority():
            if left <= 0:
                return
            if not order.live:
                continue
            through = (order.price - price) * order.sign
            if through > 0:
                left -= self._trade(order, order.price, lots=min(order.left, left), maker=True)
            elif through == 0 and seller == order.buy:
                waited = min(order.ahead, left)
                order.ahead -= waited
                # The queue ahead trades only once, whichever of our orders is behind it.
                if left > waited:
                    left -= self._trade(order, order.price, lots=min(order.left, left - waited), maker=True)

    def _trade(self, order: VenueOrder, price: int, *, lots: int, maker: bool) -> int:
        """Execute up to `lots`; return the lots executed."""
        room = self.room(order)
        lots = min(lots, room)
        if lots > 0:
            order.filled += lots
            order.cost += lots * price
            order.status = "FILLED" if order.left == 0 else "PARTIALLY_FILLED"
            if order.left == 0:
                self._remove(order)
            self.report(BookReport("TRADE", order, price, lots, maker))
        # The report may have ended the order already: a flat position expires reduce-only orders.
        if order.live and room - lots <= 0 and order.left > 0:
            self.expire(order, "4")
        return max(lots, 0)

    def _remove(self, order: VenueOrder) -> None:
        if order in self.resting:
            self.resting.remove(order)
        if order in self.working:
            self.working.remove(order)
