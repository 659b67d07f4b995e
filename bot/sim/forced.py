"""Exchange-initiated changes of a position: margin call, liquidation, auto-deleveraging, settlement.

All but the margin call are fills without a client order: their client ids begin with `autoclose-`, `adl_autoclose` and
`settlement_autoclose-` (venue notes 3), and a client must book them like any other fill.
"""

from decimal import Decimal
from typing import TYPE_CHECKING, Final

from bot.sim import events
from bot.sim.matching import BookReport
from bot.sim.orders import VenueOrder

if TYPE_CHECKING:
    from bot.sim.venue import Venue

MARGIN_CALL_AT: Final = Decimal("0.8")  # maintenance / margin; Binance does not document its warning ratio


def watch_margin(venue: "Venue", symbol: str) -> None:
    """Liquidate a position whose margin has fallen to maintenance margin; send one margin call before."""
    if venue.account.is_liquidated(symbol, venue.marks()):
        liquidate(venue, symbol)
        return
    p, mark = venue.account.positions[symbol], venue.mark(symbol)
    margin = (p.isolated_wallet if p.isolated else venue.account.cross_wallet) + p.unrealized(mark)
    low = p.maintenance(mark) > MARGIN_CALL_AT * margin
    if low and not p.warned:
        venue.outbox.append(events.margin_call(venue, symbol))
    p.warned = low


def liquidate(venue: "Venue", symbol: str) -> None:
    """Close a position whose margin is used up, at the book or at the bankruptcy price, whichever is better.

    The remaining margin pays the liquidation fee; the insurance fund covers what the margin cannot.
    """
    book, p = venue.books[symbol], venue.account.positions[symbol]
    clear(venue, symbol, er="5")
    limit = venue.account.bankruptcy(symbol) / p.rules.tick
    if p.sign > 0:
        price = max(book.bid, int(limit.to_integral_value(rounding="ROUND_CEILING")))
    else:
        price = max(1, min(book.ask, int(limit.to_integral_value(rounding="ROUND_FLOOR"))))
    number = venue.next_id()
    _close(venue, symbol, number, f"autoclose-{venue.now_ms}{number}", kind="liquidation", price=price)


def deleverage(venue: "Venue", symbol: str, share: float) -> None:
    """Close a share of a position by ADL: at the mark, without a fee; orders are left alone."""
    p = venue.account.positions[symbol]
    lots = max(1, round(int(abs(p.qty) / p.rules.step) * share))
    price = venue.books[symbol].last
    _close(venue, symbol, venue.next_id(), "adl_autoclose", kind="adl", price=price, lots=lots)


def settle(venue: "Venue", symbol: str) -> None:
    """Close a position at the mark because the symbol is delisted; its orders expire (er 7)."""
    clear(venue, symbol, er="7")
    if venue.account.positions[symbol].qty:
        number = venue.next_id()
        name = f"settlement_autoclose-{number}"
        _close(venue, symbol, number, name, kind="settlement", price=venue.books[symbol].last)


def clear(venue: "Venue", symbol: str, *, er: str) -> None:
    """Expire all orders of a symbol."""
    for order in venue.open_orders(symbol):
        venue.books[symbol].expire(order, er)
    for algo in venue.algos.open(symbol):
        venue.algos.end(algo, "EXPIRED")


def _close(
    venue: "Venue", symbol: str, number: int, client_id: str, *, kind: str, price: int, lots: int | None = None
) -> None:
    p = venue.account.positions[symbol]
    held = int(abs(p.qty) / p.rules.step)
    size = held if lots is None else min(lots, held)
    order = VenueOrder(
        number,
        client_id,
        symbol,
        p.sign < 0,
        "LIMIT",
        "IOC",
        size,
        price,
        True,
        venue.now_ms,
        updated_ms=venue.now_ms,
        forced=kind,
    )
    venue.report(BookReport("NEW", order))
    order.filled, order.cost, order.status = order.lots, order.lots * price, "FILLED"
    venue.report(BookReport("TRADE", order, price, order.lots))
