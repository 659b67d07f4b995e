"""Reconcile our ledger with the exchange: missed events and orphaned orders (venue notes 5).

Start-up after a crash, reconnect and the check every half minute are the same routine: a snapshot of positions, working orders
and recent fills is compared with the ledger, and the differences become the events that were missed. An order that is not listed
is queried by its id: absence never makes it terminal. What remains is either foreign (an unexplained position gets a stop, there
are no new entries, the operator is notified) or too recent to judge: a reply may still be in flight, and REST reads may lag
behind the stream.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from bot.core.events import AccountSnapshot, Fill, OrderUpdate
from bot.core.types import OrderReport
from bot.orders.ids import parse
from bot.orders.state import Ledger, Order

SETTLE_MS: Final = 6_000  # a request signed with recvWindow 5 s cannot reach the book later than this
LAG_MS: Final = 2_000  # how far a read usually lags behind the stream
AGAIN_MS: Final = 2_000  # how long a difference has to persist
STALE_MS: Final = 10_000  # the same if the exchange's own times show that the read is old


@dataclass(frozen=True, slots=True)
class Orphans:
    """Working orders that the ledger does not expect."""

    ours: tuple[OrderReport, ...]  # placed by a bot of this environment: cancelled
    strangers: tuple[OrderReport, ...]  # foreign: left alone


def missed_fills(ledger: Ledger, snapshot: AccountSnapshot, *, since_ms: int) -> list[Fill]:
    """Return the fills that were not counted, oldest first.

    Fills before `since_ms` (the start of the first session) belong to an account history that is not ours, unless they name an
    order in the ledger.
    """
    fresh = [
        f
        for f in snapshot.fills
        if (f.symbol, f.trade_id) not in ledger.trades and (f.at_ms >= since_ms or ledger.find(f.client_id) is not None)
    ]
    return sorted(fresh, key=lambda f: (f.at_ms, f.symbol, f.trade_id))


def missed_updates(ledger: Ledger, snapshot: AccountSnapshot) -> list[OrderUpdate]:
    """Return the order updates that we missed, from the list of working orders; call after counting the missed fills."""
    reports = {r.client_id: r for r in snapshot.orders}
    updates = []
    for order in ledger.orders.values():
        report = reports.get(order.client_id)
        if report is None or not order.live or report.status.is_terminal:
            continue  # a working order listed as terminal contradicts itself: `absent` has it queried by its id
        if report.status is not order.status or report.filled_qty > order.cumulative:
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
    return updates


def confirmed(ledger: Ledger, snapshot: AccountSnapshot) -> list[Order]:
    """Return our orders that only one message had reported as resting and that the list now shows too."""
    listed = {r.client_id: r.status for r in snapshot.orders}
    return [o for o in ledger.orders.values() if o.unconfirmed and listed.get(o.client_id) is o.status]


def absent(ledger: Ledger, snapshot: AccountSnapshot, *, resumed_ms: int) -> list[Order]:
    """Return our live orders that are not listed as working: each has to be queried by its id.

    Absence proves nothing by itself: reads may lag, and a request may still be in flight. For a request sent before this process
    started (`resumed_ms`) nothing else waits for the reply.
    """
    listed = {r.client_id for r in snapshot.orders if not r.status.is_terminal}
    found = []
    for order in ledger.orders.values():
        if not order.live or order.client_id in listed:
            continue
        if order.accepted:
            old = snapshot.at_ms - max(order.changed_ms, order.accepted_ms) >= LAG_MS
        else:
            old = order.placed_ms < resumed_ms or snapshot.at_ms - order.placed_ms >= SETTLE_MS
        if old:
            found.append(order)
    return found


def orphans(ledger: Ledger, snapshot: AccountSnapshot, environment: str) -> Orphans:
    """Return the working orders that are not in the ledger, or that have been terminal in it for a while."""
    ours, strangers = [], []
    for report in snapshot.orders:
        order = ledger.find(report.client_id)
        if report.status.is_terminal or (order is not None and order.filled >= order.qty > 0):
            continue  # nothing of it can be left
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
    """Return by symbol the exchange's signed position minus the sum of our fills, where they differ."""
    theirs = {p.symbol: p.qty for p in snapshot.positions if p.qty}
    symbols = sorted(theirs.keys() | {s for s, h in ledger.holdings.items() if h.qty})
    gaps = {s: theirs.get(s, Decimal(0)) - ledger.qty(s) for s in symbols}
    return {s: gap for s, gap in gaps.items() if gap}


def settled_enough(ledger: Ledger, snapshot: AccountSnapshot, symbol: str) -> bool:
    """Return whether nothing of ours in `symbol` is in flight or was so a moment ago."""
    if snapshot.at_ms - ledger.changed_ms(symbol) < LAG_MS:
        return False
    for order in (*ledger.orders.values(), *ledger.finished.values()):
        if order.symbol != symbol:
            continue
        in_flight = order.live and (not order.accepted or order.immediate)
        if in_flight or order.missing or (order.filled and snapshot.at_ms - order.changed_ms < LAG_MS):
            return False
    return True


@dataclass(slots=True)
class Suspect:
    """A difference between the exchange's figure and ours, and when it was first seen."""

    gap: Decimal
    since_ms: int


def believable(ledger: Ledger, snapshot: AccountSnapshot, symbol: str, *, since_ms: int, traded: bool) -> bool:
    """Return whether a position difference is real rather than a read that lags behind the stream.

    A position that changed at the exchange after our newest fill is new information; one that did not is believed only after it
    persisted for a while. A position that is not listed has no update time: it is believed once our newest fill is too old for a
    lagging read, because belief removes the stops. In a traded symbol nothing is believed at first sight.

    Parameters
    ----------
    since_ms
        When the difference was first seen.
    traded
        Whether a trade is open in the symbol.
    """
    if not settled_enough(ledger, snapshot, symbol):
        return False
    ours_ms, stood_ms = ledger.changed_ms(symbol), snapshot.at_ms - since_ms
    report = next((p for p in snapshot.positions if p.symbol == symbol and p.qty), None)
    if report is not None and report.update_ms:
        return (not traded or stood_ms >= AGAIN_MS) if report.update_ms >= ours_ms else stood_ms >= STALE_MS
    return snapshot.at_ms - ours_ms >= STALE_MS and stood_ms >= (AGAIN_MS if traded else 0)
