"""Our book against the exchange's: what we missed, and what nobody owns (venue notes 5).

Start-up after a crash, a reconnect and the look every half minute are one thing: a snapshot of positions, working orders and
recent fills is compared with the ledger, and the differences become the very events that were missed. What is left
after that is either somebody else's (a position we cannot explain gets a stop, entries rest, the person is told) or
too young to judge: a reply may still be on its way, and REST reads may lag behind the stream.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from bot.core.events import AccountSnapshot, Fill, OrderUpdate
from bot.core.types import OrderReport, OrderStatus
from bot.orders.ids import parse
from bot.orders.state import Ledger

NOT_FOUND: Final = -2013
SETTLE_MS: Final = 6_000  # a request signed with recvWindow 5 s cannot reach the book later than this
LAG_MS: Final = 2_000  # how far a read may lag behind what the stream told


@dataclass(frozen=True, slots=True)
class Orphans:
    """Working orders that the ledger does not answer for."""

    ours: tuple[OrderReport, ...]  # made by a bot of this environment: cancelled
    strangers: tuple[OrderReport, ...]  # anybody else's: left alone


def missed_fills(ledger: Ledger, snapshot: AccountSnapshot, *, since_ms: int) -> list[Fill]:
    """Return the fills that were not counted, oldest first.

    Fills from before `since_ms` (the start of the first session) belong to an account history that is not ours,
    unless they name an order in the book.
    """
    fresh = [
        f
        for f in snapshot.fills
        if (f.symbol, f.trade_id) not in ledger.trades and (f.at_ms >= since_ms or ledger.find(f.client_id) is not None)
    ]
    return sorted(fresh, key=lambda f: (f.at_ms, f.symbol, f.trade_id))


def missed_updates(ledger: Ledger, snapshot: AccountSnapshot) -> list[OrderUpdate]:
    """Return what the list of working orders says about ours: states we did not hear of, and orders that are gone.

    To be called after the missed fills have been counted.
    """
    reports = {r.client_id: r for r in snapshot.orders}
    updates = []
    for order in ledger.orders.values():
        report = reports.get(order.client_id)
        if report is not None:
            if order.live and (report.status is not order.status or report.filled_qty > order.cumulative):
                updates.append(
                    OrderUpdate(
                        report.update_ms or snapshot.at_ms,
                        report.client_id,
                        report.symbol,
                        report.status,
                        report.side,
                        report.qty,
                        report.filled_qty,
                        report.average_price,
                        algo=report.algo,
                        reason="found by reconciliation",
                    )
                )
            continue
        sent = not order.accepted
        age = snapshot.at_ms - (order.placed_ms if sent else max(order.changed_ms, order.accepted_ms))
        if order.live and age >= (SETTLE_MS if sent else LAG_MS):
            status = OrderStatus.CANCELED if order.cancel_ms else OrderStatus.EXPIRED
            updates.append(
                OrderUpdate(
                    snapshot.at_ms,
                    order.client_id,
                    order.symbol,
                    status,
                    order.side,
                    order.qty,
                    order.known,
                    order.average,
                    algo=order.algo,
                    code=NOT_FOUND if sent else 0,
                    reason="not among the working orders",
                )
            )
    return updates


def orphans(ledger: Ledger, snapshot: AccountSnapshot, environment: str) -> Orphans:
    """Return the working orders that are not in the book, or that the book knows to be done for a while."""
    ours, strangers = [], []
    for report in snapshot.orders:
        order = ledger.find(report.client_id)
        if order is not None:
            if not order.live and snapshot.at_ms - order.changed_ms >= LAG_MS:
                ours.append(report)
            continue
        parts = parse(report.client_id)
        if parts is not None and parts.environment == environment:
            ours.append(report)
        else:
            strangers.append(report)
    return Orphans(tuple(ours), tuple(strangers))


def unexplained(ledger: Ledger, snapshot: AccountSnapshot) -> dict[str, Decimal]:
    """Return by symbol how much larger the exchange's signed position is than the sum of our fills."""
    theirs = {p.symbol: p.qty for p in snapshot.positions if p.qty}
    symbols = sorted(theirs.keys() | {s for s, h in ledger.holdings.items() if h.qty})
    gaps = {s: theirs.get(s, Decimal(0)) - ledger.qty(s) for s in symbols}
    return {s: gap for s, gap in gaps.items() if gap}


def settled_enough(ledger: Ledger, snapshot: AccountSnapshot, symbol: str) -> bool:
    """Whether a difference in `symbol` can be believed: nothing of ours there is in flight or was so a moment ago."""
    for order in (*ledger.orders.values(), *ledger.finished.values()):
        if order.symbol != symbol:
            continue
        in_flight = order.live and (not order.accepted or order.immediate)
        if in_flight or order.missing or (order.filled and snapshot.at_ms - order.changed_ms < LAG_MS):
            return False
    return True
