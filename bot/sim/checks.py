"""Validation of a well-formed order against symbol status, price band, position and margin."""

from typing import TYPE_CHECKING

from bot.sim import entry
from bot.sim.account import ZERO
from bot.sim.errors import Refused
from bot.sim.filters import number
from bot.sim.orders import VenueOrder

if TYPE_CHECKING:
    from bot.sim.venue import Venue


def check(venue: "Venue", order: VenueOrder) -> None:
    """Reject an order that violates the price band, minimum notional, position or margin.

    Raises
    ------
    Refused
        -4108 unless the symbol is trading, -4016 or -4024 outside the price band, -2022 or -4118 if a reduce-only order
        has too little to reduce, -4164 below the minimum notional, -2019 without enough margin, -2027 above the
        leverage's cap.
    """
    rules, book, p = venue.rules[order.symbol], venue.books[order.symbol], venue.account.positions[order.symbol]
    mark = venue.mark(order.symbol)
    market = order.type == "MARKET"
    if rules.status != "TRADING":
        raise Refused(-4108)
    if not market:
        rules.check_band(rules.price(order.price), mark, buy=order.buy)
    if order.reduce_only:
        if p.sign != -order.sign:
            raise Refused(-2022)
        _check_resting(venue, order)
        return
    touch = book.ask if order.buy else book.bid
    notional = rules.notional(order.left * (touch if market else order.price))
    if (rules.qty(order.lots) * mark if market else notional) < rules.min_notional:
        raise Refused(-4164, f"{rules.min_notional:f}")
    growth = venue.order_margin(order.symbol, order) - venue.order_margin(order.symbol)
    if growth > 0:
        if growth > venue.account.available(venue.marks(), venue.reserved()):
            raise Refused(-2019)
        held = abs(p.notional(mark)) if p.sign == order.sign else ZERO
        if held + notional > rules.cap(p.leverage):
            raise Refused(-2027)


def _check_resting(venue: "Venue", order: VenueOrder, lots: int | None = None) -> None:
    """Reject an order that exceeds the position together with resting reduce-only ones, if the quirk is on."""
    if not venue.quirks.reduce_only_counts_resting or order.close_position:
        return
    p = venue.account.positions[order.symbol]
    resting = sum(
        other.left
        for other in venue.open_orders(order.symbol)
        if other.reduce_only and not other.close_position and other.sign == order.sign and other is not order
    )
    wanted = order.left if lots is None else lots - order.filled
    if wanted + resting > int(abs(p.qty) / p.rules.step):
        raise Refused(-4118)


def check_amendment(venue: "Venue", order: VenueOrder, params: dict[str, str]) -> tuple[int, int]:
    """Return the lots and the price in ticks to which an order is to be amended.

    Raises
    ------
    Refused
        The amended order violates a filter, the price band, the position (-4118), the minimum notional (-4164) or the
        margin (-2019).
    """
    rules = venue.rules[order.symbol]
    quantity, price = number(params, "quantity", required=True), number(params, "price", required=True)
    assert quantity is not None
    assert price is not None
    lots, ticks = rules.lots(quantity), rules.ticks(price)
    rules.check_band(price, venue.mark(order.symbol), buy=order.buy)
    if order.reduce_only:
        _check_resting(venue, order, lots)
    else:
        if rules.notional(lots * ticks) < rules.min_notional:
            raise Refused(-4164, f"{rules.min_notional:f}")
        before = venue.order_margin(order.symbol)
        kept, order.lots, order.price = (order.lots, order.price), lots, ticks
        growth = venue.order_margin(order.symbol) - before
        order.lots, order.price = kept
        if growth > venue.account.available(venue.marks(), venue.reserved()):
            raise Refused(-2019)
    return lots, ticks


def matched_price(venue: "Venue", wanted: entry.Wanted) -> int:
    """Return the price of a priceMatch order in ticks; levels beyond the one-level book are one tick apart.

    Raises
    ------
    Refused
        -5041 if that side of the book is empty.
    """
    book, level = venue.books[wanted.symbol], entry.PRICE_MATCHES[wanted.price_match] - 1
    opposite = wanted.price_match.startswith("OPPONENT")
    touch, lots = (book.ask, book.ask_lots) if wanted.buy == opposite else (book.bid, book.bid_lots)
    if lots <= 0:
        raise Refused(-5041)
    away = level if wanted.buy == opposite else -level
    every = venue.rules[wanted.symbol].tick_every
    return max(every, touch // every * every + away * every)
