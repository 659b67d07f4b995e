"""Effects of a book's report: money booked, user events sent, orders ended that have nothing left to reduce."""

from decimal import Decimal
from typing import TYPE_CHECKING

from bot.sim import events
from bot.sim.account import ZERO
from bot.sim.matching import BookReport
from bot.sim.orders import VenueFill

if TYPE_CHECKING:
    from bot.sim.venue import Venue


def take(venue: "Venue", report: BookReport) -> None:
    """Apply one report."""
    order = report.order
    order.updated_ms = venue.now_ms
    if report.kind == "NEW":
        venue.accepted(order)
        venue.outbox.append(events.order_event(venue, order, "NEW"))
        return
    if not order.live:
        venue.ended(order)
    if report.kind == "TRADE":
        _trade(venue, report)
    else:
        venue.outbox.append(events.order_event(venue, order, report.kind))
    if order.algo is not None and not order.live:
        venue.algos.finished(order.algo)
    if report.kind == "TRADE":
        _knock_out(venue, order.symbol)
    venue.note_naked(order.symbol)


def _trade(venue: "Venue", report: BookReport) -> None:
    order, symbol = report.order, report.order.symbol
    rules, p = venue.rules[symbol], venue.account.positions[symbol]
    qty, price = rules.qty(report.lots), rules.price(report.price)
    rate = ZERO if order.forced else venue.maker_fee if report.maker else venue.taker_fee
    backing = p.isolated_wallet if p.isolated else venue.account.cross_wallet
    booking = venue.account.fill(symbol, order.sign, qty=qty, price=price, rate=rate, at_ms=venue.now_ms)
    fee = booking.fee
    if order.forced == "liquidation":
        fee = max(ZERO, min(qty * price * rules.liquidation_fee, backing + booking.realized)).quantize(
            Decimal("0.00000001"), rounding="ROUND_DOWN"
        )
        venue.account.charge(symbol, fee)
    venue.account_ms = venue.now_ms
    fill = VenueFill(
        venue.now_ms, venue.next_trade(symbol), order, report.lots, report.price, report.maker, fee, booking.realized
    )
    venue.fills.append(fill)
    if order.forced == "liquidation":
        venue.notices.append((symbol, events.force_order(venue, fill)))
    if booking.realized:
        venue.book_income(symbol, "REALIZED_PNL", booking.realized, info=str(fill.trade_id))
    kind = "INSURANCE_CLEAR" if order.forced == "liquidation" else "COMMISSION"
    venue.book_income(symbol, kind, -fee, info=str(fill.trade_id))
    if venue.quirks.trade_lite:
        venue.outbox.append(events.trade_lite(venue, fill))
    pair = [
        events.account_event(venue, "ORDER", symbols=(symbol,)),
        events.order_event(venue, order, "CALCULATED" if order.forced else "TRADE", fill),
    ]
    # Binance guarantees no sequence of the two: every third fill sends the order event first.
    venue.outbox.extend(reversed(pair) if fill.trade_id % 3 == 0 else pair)


def _knock_out(venue: "Venue", symbol: str) -> None:
    """Expire orders that can no longer reduce: reduce-only ones (er 4) and conditional GTE ones."""
    sign = venue.account.positions[symbol].sign
    for order in venue.open_orders(symbol):
        if order.reduce_only and order.live and order.sign != -sign:
            venue.books[symbol].expire(order, "4")
    for algo in venue.algos.open(symbol):
        if algo.sign == -sign:
            algo.early = False
        elif algo.guards and algo.status == "NEW" and not algo.early:
            venue.algos.end(algo, "EXPIRED")
