"""Initial margin of open orders: what the exchange reserves for them, by side, without orders that could only close."""

from decimal import Decimal
from typing import TYPE_CHECKING

from bot.sim.account import ZERO
from bot.sim.orders import VenueOrder

if TYPE_CHECKING:
    from bot.sim.venue import Venue


def open_notional(venue: "Venue", symbol: str) -> tuple[Decimal, Decimal]:
    """Return the notional of open buys and sells that could increase a position."""
    sides = _sides(venue, symbol, None)
    return sides[0][1], sides[1][1]


def order_margin(venue: "Venue", symbol: str, extra: VenueOrder | None = None) -> Decimal:
    """Return the initial margin of open orders: that of the side that needs more, without closing quantity."""
    p = venue.account.positions[symbol]
    held = int(abs(p.qty) / p.rules.step)
    need = ZERO
    for sign, (lots, notional) in zip((1, -1), _sides(venue, symbol, extra), strict=True):
        opening = max(0, lots - held) if p.sign == -sign else lots
        if opening:
            need = max(need, notional * opening / lots)
    return need / p.leverage


def _sides(venue: "Venue", symbol: str, extra: VenueOrder | None) -> tuple[tuple[int, Decimal], tuple[int, Decimal]]:
    """Return lots and notional of the open buys, then of the sells, that are not reduce-only."""
    rules, book = venue.rules[symbol], venue.books[symbol]
    lots, cost = [0, 0], [0, 0]
    for order in (*venue.open_orders(symbol), *(() if extra is None else (extra,))):
        if not order.reduce_only:
            side = 0 if order.buy else 1
            lots[side] += order.left
            cost[side] += order.left * (order.price or (book.ask if order.buy else book.bid))
    return (lots[0], rules.notional(cost[0])), (lots[1], rules.notional(cost[1]))
