"""What may be believed about the account, and which witnesses it takes.

A witness is a source that reports account state: the user stream (fills, order updates, account updates), the reply to a request,
and reads (positions, open orders, trades, balance, income). Any one of them can be wrong, stale or missing. A belief that costs
money when it is wrong needs a second witness:

| belief | witnesses | sufficient evidence | while the witnesses disagree |
| --- | --- | --- | --- |
| a position is larger, or new | fills; the position read; an account update | any one; but in a symbol with an open trade the position read alone only after it has persisted for `ALONE_MS`, because a real increase appears among the trades | what the fills show is protected, the rest as soon as it is believed |
| a position is smaller or gone | fills; the position read; an account update; a rejected reduce-only exit or closePosition stop ("nothing to close"); a closePosition stop that the exchange ended | fills of our own orders: booked at once. Fills of unknown orders: the trades read lists them and, unless they make the position larger, the position read agrees; if they make it larger or were made by the exchange (liquidation, ADL), an account update that agrees is enough. Without fills: the position read, repeated after a delay, plus one of the other witnesses; never the position read alone | stops stay, no new entries, the reads are repeated |
| flat, so that its stops may be cancelled | the same | the position read agrees with the fills, and the trades read lists them | stops and catastrophe stop stay |
| a fill happened | the user stream, the trades read | one, for protection | a fill that two trades reads do not list and that the position read contradicts is reversed: at once if no other witness reports the position including it, or if it closed a position that a live closePosition order of the fill's side still guards; otherwise after `ALONE_MS` |
| a fill's figures | the user stream, the trades read | one, for protection; an implausible price or fee waits for the trades read. Two trades reads with other figures correct the fill if the position read confirms the quantity | the fill counts as first reported, the stops of a closed position stay |
| a stop is resting | the reply, the user stream, a query, the open-orders read | one, for protection; two, before an older stop is cancelled. A stop with one witness is queried; a query that does not find it outweighs that witness | another stop is sent, and in this position one witness no longer suffices |
| an order is gone | the order's own update or reply, its query, the open-orders read | absence from the list: never, the order is queried by its id. An order that the list shows as working twice is working, whatever was reported before | it counts as working |
| an order of ours that is not in the ledger is superfluous | the open-orders read, the position read | protective orders: no position for `ORPHAN_MS` | it stays, no new entries |
| the wallet changed | our fills and funding; the balance read; the income read | the balance read, if the income entries since the last agreement add up to it | the last agreed wallet counts, no new entries |

Evidence against "gone": a live closePosition order (it ends with its position), an unchanged wallet, a newer account update that
reports the position.
"""  # noqa: E501  # a table's row is one line

from collections.abc import Container
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from bot.core.events import AccountSnapshot, Fill
from bot.core.types import Income, OrderSide
from bot.orders.ids import forced
from bot.orders.reconcile import AGAIN_MS, LAG_MS
from bot.orders.state import ZERO, Ledger

ALONE_MS: Final = 60_000  # persistence for the position read to count alone, or to remove what only it had reported
ORPHAN_MS: Final = 20_000  # how long a protective order that is not in the ledger stays without a position
REACH_MS: Final = 55_000  # every trades read covers at least this period (two snapshots overlap by a minute)
CENT: Final = Decimal("0.01")  # a smaller wallet difference is rounding
FAR: Final = Decimal("0.05")  # fraction of the price: no fill of ours is this far from a price of the last seconds
LARGEST_FEE: Final = Decimal("0.01")  # fraction of the notional, either sign


@dataclass(frozen=True, slots=True)
class Evidence:
    """Evidence other than the position read about a position that the read shows as smaller.

    Attributes
    ----------
    reported : Decimal | None
        Signed quantity of the newest account update, None if none came since our newest fill.
    nothing_to_close : bool
        The exchange rejected a reduce-only exit or a closePosition stop because there is nothing to close.
    guard_ended : bool
        The exchange ended a closePosition stop of ours that it had accepted.
    alone : Decimal
        Signed part of the position that only the position read has ever reported.
    """

    reported: Decimal | None = None
    nothing_to_close: bool = False
    guard_ended: bool = False
    alone: Decimal = ZERO


def shrinks(ours: Decimal, theirs: Decimal) -> bool:
    """Return whether `theirs` is a smaller or reversed version of the position `ours`.

    >>> shrinks(Decimal(2), Decimal(1)), shrinks(Decimal(-2), Decimal(1)), shrinks(Decimal(0), Decimal(1))
    (True, True, False)
    """
    return ours != 0 and (theirs * ours <= 0 or abs(theirs) < abs(ours))


def may_shrink(
    ledger: Ledger, snapshot: AccountSnapshot, symbol: str, evidence: Evidence, *, wallet: Decimal, since_ms: int
) -> str:
    """Return why a position read that shows less than our fills is not believed, or "" if it is.

    Parameters
    ----------
    wallet
        Our own wallet in quote: a closed position must have changed the exchange's.
    since_ms
        When the reads first showed this difference.
    """
    ours = ledger.qty(symbol)
    theirs = next((p.qty for p in snapshot.positions if p.symbol == symbol), ZERO)
    stood_ms = snapshot.at_ms - since_ms
    if evidence.alone and abs(ours - theirs) <= abs(evidence.alone) and evidence.alone * ours > 0:
        if stood_ms >= ALONE_MS:
            return ""
        return f"the position read alone says so, for {max(stood_ms, 0) // 1000} s"
    if theirs * ours <= 0 and (guard := closing_stop(snapshot, symbol, OrderSide.SELL if ours > 0 else OrderSide.BUY)):
        return f"closePosition stop {guard} is alive"
    if abs(snapshot.wallet - wallet) < CENT:
        return "the wallet is unchanged"
    if evidence.reported is not None and evidence.reported != theirs:
        return f"the newest account update reports {evidence.reported}"
    if evidence.reported == theirs or ((evidence.nothing_to_close or evidence.guard_ended) and not theirs):
        return ""
    return "no trade, no account update and no refused exit explains it"


def closing_stop(snapshot: AccountSnapshot, symbol: str, side: OrderSide) -> str:
    """Return the client id of a live closePosition order of this side, or "" if there is none."""
    live = (o.client_id for o in snapshot.orders if o.symbol == symbol and o.side is side and o.close_position)
    return next(live, "")


def position(snapshot: AccountSnapshot, symbol: str) -> Decimal:
    """Return the signed quantity of the position read, 0 if the symbol is not listed."""
    return next((p.qty for p in snapshot.positions if p.symbol == symbol), ZERO)


def confirmed_claims(ledger: Ledger, snapshot: AccountSnapshot, symbol: str, claims: list[Fill]) -> list[Fill]:
    """Return the fills of unknown orders that may be counted, oldest first.

    They are the longest prefix that adds up with the ledger to the position read, or that only makes the position larger: too
    much protection is harmless.

    Parameters
    ----------
    claims
        Fills that the trades read lists and the ledger has not counted.
    """
    wanted, total = position(snapshot, symbol), ledger.qty(symbol)
    ordered = sorted(claims, key=lambda f: (f.at_ms, f.trade_id))
    found, growing = 0, True
    for count, fill in enumerate(ordered, start=1):
        signed = fill.side.sign * fill.qty
        growing = growing and total * signed >= 0
        total += signed
        if growing or total == wanted:
            found = count
    return ordered[:found]


def reported_claims(held: Decimal, claims: list[Fill], reported: Decimal) -> list[Fill]:
    """Return the fills of unknown orders that an account update confirms, oldest first: all of them or none.

    Together with the ledger they add up to the position that it reports, and each makes the position larger or is a forced close
    (liquidation, ADL). Two messages of the user stream then agree, and an added position needs its stop even while reads fail.

    >>> bought = Fill(0, "hand", "ETHUSDT", OrderSide.BUY, Decimal(2), Decimal(100), ZERO, False, 7)
    >>> len(reported_claims(Decimal(1), [bought], Decimal(3))), len(reported_claims(Decimal(-3), [bought], Decimal(-1)))
    (1, 0)
    """
    ordered, total = sorted(claims, key=lambda f: (f.at_ms, f.trade_id)), held
    for fill in ordered:
        signed = fill.side.sign * fill.qty
        if total * signed < 0 and not forced(fill.client_id):
            return []
        total += signed
    return ordered if total == reported else []


@dataclass(slots=True)
class Unproved:
    """A booked fill that only one witness has reported so far."""

    fill: Fill
    streamed: bool = False  # by the user stream, else by the trades read; a repeated report is no second witness
    missed: int = 0  # consecutive trades reads that should have listed it and did not
    missed_ms: int = 0  # time of the first of them


def prove(
    unproved: dict[tuple[str, int], Unproved], ledger: Ledger, snapshot: AccountSnapshot, reported: Container[str]
) -> list[Fill]:
    """Remove the fills that the trades read lists from `unproved`, and return those to reverse, newest first.

    A fill is reversed when two trades reads, `AGAIN_MS` apart, did not list it and the position read shows the position without
    it. If another witness reports the position with the fill, two reads stand against two messages: then both reads have to
    persist for `ALONE_MS`, unless a live closePosition order still guards the position that the fill closed. Fills without a
    trade id (a liquidation's) are matched by time, side and quantity. A fill that the position read confirms and that is older
    than the period that trades reads cover counts as proved.

    Parameters
    ----------
    unproved
        Booked fills with one witness, by symbol and trade id; modified in place.
    reported
        Symbols for which another witness has reported the position that the fills add up to, since the newest fill.
    """
    listed = {(f.symbol, f.trade_id): f for f in snapshot.fills}
    same = {(f.symbol, f.at_ms, f.side, f.qty) for f in snapshot.fills}
    doubtful: dict[str, list[Fill]] = {}
    for key, known in list(unproved.items()):
        fill = known.fill
        numberless = fill.trade_id < 0 and (fill.symbol, fill.at_ms, fill.side, fill.qty) in same
        if key in listed and otherwise(fill, listed[key]):
            continue  # `misreported` judges it
        if key in listed or numberless:
            del unproved[key]
            continue
        agrees = position(snapshot, fill.symbol) == ledger.qty(fill.symbol)
        if agrees and snapshot.at_ms - fill.at_ms >= REACH_MS:
            del unproved[key]
            continue
        if snapshot.at_ms - fill.at_ms < LAG_MS:
            continue
        known.missed += 1
        known.missed_ms = known.missed_ms or snapshot.at_ms
        guarded = not ledger.qty(fill.symbol) and closing_stop(snapshot, fill.symbol, fill.side) != ""
        patience_ms = ALONE_MS if fill.symbol in reported and not guarded else AGAIN_MS
        if known.missed >= 2 and snapshot.at_ms - known.missed_ms >= patience_ms:
            doubtful.setdefault(fill.symbol, []).append(fill)
    taken_back: list[Fill] = []
    for symbol, fills in doubtful.items():
        wanted, total = position(snapshot, symbol), ledger.qty(symbol)
        if total == wanted:
            continue
        for count, fill in enumerate(reversed(fills), start=1):
            total -= fill.side.sign * fill.qty
            if total == wanted:
                taken_back += fills[-count:][::-1]
                break
    return taken_back


def unlikely(fill: Fill, price: Decimal | None) -> str:
    """Return why a fill's price or fee is implausible, or ""; `price` is a fresh price of the symbol, if any.

    >>> fill = Fill(0, "ours", "BTCUSDT", OrderSide.BUY, Decimal(1), Decimal(30_000), Decimal(15), False, 1)
    >>> unlikely(fill, Decimal(60_000)), unlikely(fill, Decimal(30_100)), unlikely(fill, None)
    ('price 30000, the market is at 60000', '', '')
    """
    if price is not None and abs(fill.price - price) > FAR * price:
        return f"price {fill.price}, the market is at {price}"
    if abs(fill.fee) > LARGEST_FEE * fill.qty * fill.price:
        return f"fee {fill.fee} of {fill.qty} at {fill.price}"
    return ""


def otherwise(heard: Fill, listed: Fill) -> bool:
    """Return whether a trade is listed for the same order with other figures than first reported."""
    if (heard.client_id, heard.side) != (listed.client_id, listed.side):
        return False
    return heard.qty != listed.qty or heard.price != listed.price or abs(heard.fee - listed.fee) >= CENT


def misreported(
    unproved: dict[tuple[str, int], Unproved], ledger: Ledger, snapshot: AccountSnapshot
) -> list[tuple[Fill, Fill]]:
    """Return the booked fills that two trades reads, `AGAIN_MS` apart, list with other figures, each with the listed trade.

    If quantities differ, the position read has to show the position that the listed quantities and the uncounted fills of our
    orders add up to.
    """
    found: dict[str, list[tuple[Fill, Fill]]] = {}
    for fill in snapshot.fills:
        known = unproved.get((fill.symbol, fill.trade_id))
        if known is None or not otherwise(known.fill, fill):
            continue
        known.missed += 1
        known.missed_ms = known.missed_ms or snapshot.at_ms
        if known.missed >= 2 and snapshot.at_ms - known.missed_ms >= AGAIN_MS:
            found.setdefault(fill.symbol, []).append((known.fill, fill))
    result = []
    for symbol, pairs in found.items():
        total = ledger.qty(symbol) + sum((new.side.sign * (new.qty - old.qty) for old, new in pairs), ZERO)
        for fill in snapshot.fills:
            uncounted = fill.symbol == symbol and (symbol, fill.trade_id) not in ledger.trades
            if uncounted and ledger.find(fill.client_id) is not None:
                total += fill.side.sign * fill.qty
        if total == position(snapshot, symbol) or all([old.qty == new.qty for old, new in pairs]):  # noqa: C419
            result += pairs
    return result


def still_unproved(unproved: dict[tuple[str, int], Unproved], symbol: str) -> bool:
    """Return whether a booked fill of a symbol waits for its second witness."""
    return any(known.fill.symbol == symbol for known in unproved.values())


@dataclass(slots=True)
class Contradiction:
    """Two witnesses that disagree, since when, and whether the operator was notified."""

    text: str
    since_ms: int
    reported: bool = False


def explained(lines: tuple[Income, ...], *, since_ms: int, wallet: Decimal, agreed: Decimal) -> bool:
    """Return whether the income entries since the last agreement add up to the wallet of the balance read.

    Parameters
    ----------
    lines
        Income entries of the account.
    since_ms
        Time of the last agreement.
    wallet, agreed
        Wallet of the balance read, and the last agreed one; in quote.

    >>> line = Income(5, "TRANSFER", "", Decimal(100))
    >>> explained((line,), since_ms=4, wallet=Decimal(1100), agreed=Decimal(1000))
    True
    >>> explained((line,), since_ms=4, wallet=Decimal(0), agreed=Decimal(1000))
    False
    """
    booked = sum((line.amount for line in lines if line.at_ms > since_ms), ZERO)
    return abs(agreed + booked - wallet) < CENT
