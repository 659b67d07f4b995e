"""The book against the account: what a snapshot makes up for, what is judged, cancelled and verified, and when to look again.

One routine serves start, reconnect and the look every half minute. Whatever it cannot explain it guards, and says so.
"""

from decimal import Decimal
from typing import Any, Final

from bot.core.events import AccountSnapshot, Fill, OrderUpdate
from bot.core.intents import Alert, CancelOrder, RequestSnapshot
from bot.core.types import OrderSide
from bot.engine.known import Known
from bot.orders import reconcile
from bot.orders.bracket import Bracket
from bot.orders.ids import is_sendable
from bot.orders.state import EXECUTING, ZERO, Ledger
from bot.orders.strays import Strays
from bot.risk.account import Account
from bot.risk.limits import Limits
from bot.strategy.trade import Trade

SLOW_REPLY_MS: Final = 15_000  # an order without an outcome for this long is looked up
LATE_FILL_MS: Final = 2_000  # a promised fill that has not come, a market order that does not end
DOUBT_PAUSE_MS: Final = 5_000  # between two snapshots asked for the same doubts
DEAF_PAUSE_MS: Final = 2_000  # the same while the user stream is lost and something is open
BALANCE_CENTS: Final = Decimal("0.01")  # a smaller difference of the wallet is rounding
FUNDING_SHARE: Final = Decimal("0.02")  # of what is held: no funding is larger, so a larger difference is a transfer
FLAT_WITHIN_MS: Final = 30_000  # a flatten that is not verified by then is told, and again and again


class Audit:
    """The part of the portfolio that compares it with the account."""

    known: Known
    limits: Limits
    environment: str
    working_type: str
    session_ms: int
    ledger: Ledger
    account: Account
    strays: Strays
    trade: Trade | None
    resumed_ms: int
    suspects: dict[str, reconcile.Suspect]
    told: dict[str, tuple[Decimal, int]]
    owed: reconcile.Suspect | None
    adopted: int
    doubt_ms: int
    deaf_ms: int
    flatten_ms: int
    flatten_told_ms: int
    kept: tuple[tuple[Any, ...], list[tuple[int, str]]] | None

    @property
    def symbols(self) -> tuple[str, ...]:
        """All symbols, the traded one first."""
        raise NotImplementedError

    @property
    def flat(self) -> bool:
        """No trade, and no position of any kind."""
        raise NotImplementedError

    def bracket(self, symbol: str) -> Bracket | None:
        """Return what guards the trade's position in a symbol."""
        raise NotImplementedError

    def brackets(self) -> list[Bracket]:
        """Return all brackets of the trade."""
        raise NotImplementedError

    def on_update(self, event: OrderUpdate, out: list[Any]) -> None:
        """Merge an order's state."""
        raise NotImplementedError

    def on_fill(self, event: Fill, out: list[Any]) -> None:
        """Count a fill, once, to whom it belongs."""
        raise NotImplementedError

    def advance(self, at_ms: int, out: list[Any]) -> None:
        """Let every part go on as far as what is known allows."""
        raise NotImplementedError

    def on_snapshot(self, event: AccountSnapshot, out: list[Any]) -> None:
        """Make up for what was missed, judge what remains, cancel what nobody owns."""
        for fill in reconcile.missed_fills(self.ledger, event, since_ms=self.session_ms):
            self.on_fill(fill, out)
        for update in reconcile.missed_updates(self.ledger, event):
            self.on_update(update, out)
        for order in reconcile.absent(self.ledger, event, resumed_ms=self.resumed_ms):
            self.ledger.look_up(order, self.known.now, out)
        # What was learnt may end a trade or complete an entry: act before judging positions.
        self.advance(event.at_ms, out)
        for bracket in self.brackets():
            self._overshoot(event, bracket, out)
        gaps = {s: g for s, g in reconcile.unexplained(self.ledger, event).items() if s in self.symbols}
        for symbol, gap in gaps.items():
            self._judge(event, symbol, gap, out)
        self.suspects = {s: known for s, known in self.suspects.items() if gaps.get(s) == known.gap}
        self.told = {s: told for s, told in self.told.items() if told[1] > event.at_ms}
        self._cancel_orphans(event, out)
        self._verify_flat(event, out)
        if not self.strays.qty and not self.suspects:
            self.strays.leaving = False
        if self.flat and not any(p.qty for p in event.positions if p.symbol in self.symbols):
            difference, self.owed = self.account.sync(event.wallet), None
            if abs(difference) > event.wallet / 1_000:
                out.append(Alert("warning", f"wallet differed by {difference:.4f}: taken from the exchange"))
        elif not gaps:
            self._balance(event, out)

    def _balance(self, event: AccountSnapshot, out: list[Any]) -> None:
        """Take over what changed the wallet unheard while something is open, once two looks have told the same.

        Funding that was settled while the bot was away or its user stream lost is such: it belongs to the trade's result.
        """
        difference = event.wallet - self.account.wallet
        quiet = all(reconcile.settled_enough(self.ledger, event, symbol) for symbol in self.symbols)
        if not quiet or abs(difference) < BALANCE_CENTS:
            self.owed = None
        elif self.owed is None or self.owed.gap != difference:
            self.owed = reconcile.Suspect(difference, event.at_ms)
        elif event.at_ms - self.owed.since_ms >= reconcile.AGAIN_MS:
            self.owed = None
            self.account.base += difference
            held = sum((abs(h.cost) for h in self.ledger.holdings.values()), ZERO)
            funding = self.trade is not None and abs(difference) <= FUNDING_SHARE * held
            if self.trade is not None and funding:
                self.trade.funding -= difference
            what = "funding that was not told" if funding else "not by trading"
            out.append(Alert("info", f"the wallet changed by {difference:.4f}, {what}: taken from the exchange"))

    def _judge(self, event: AccountSnapshot, symbol: str, gap: Decimal, out: list[Any]) -> None:
        """Take over a difference in a position once it cannot be a matter of messages under way."""
        known = self.suspects.get(symbol)
        if known is None or known.gap != gap:
            known = self.suspects[symbol] = reconcile.Suspect(gap, event.at_ms)
        traded = self.bracket(symbol) is not None
        if not reconcile.believable(self.ledger, event, symbol, since_ms=known.since_ms, traded=traded):
            return
        del self.suspects[symbol]
        report = next((p for p in event.positions if p.symbol == symbol), None)
        price = self.account.last.get(symbol) or (report.entry_price if report else ZERO)
        side = OrderSide.BUY if gap > 0 else OrderSide.SELL
        self.adopted += 1
        self.on_fill(Fill(event.at_ms, "external", symbol, side, abs(gap), price, ZERO, False, -self.adopted), out)

    def _cancel_orphans(self, event: AccountSnapshot, out: list[Any]) -> None:
        """Cancel what nobody owns; what guards an unexplained position stays, and of strangers all but in a flatten."""
        orphans = reconcile.orphans(self.ledger, event, self.environment)
        for report in orphans.ours:
            protective = report.close_position or (report.algo and report.reduce_only)
            if protective and (report.symbol in self.strays.qty or report.symbol in self.suspects):
                continue
            out.append(CancelOrder(report.client_id, report.symbol, report.algo))
            out.append(Alert("warning", f"order {report.client_id} belongs to no trade: cancelled"))
        for report in orphans.strangers if self.flatten_ms else ():
            if is_sendable(report.client_id):
                out.append(CancelOrder(report.client_id, report.symbol, report.algo))
            else:
                out.append(Alert("critical", f"order {report.client_id} of {report.symbol}: cancel it by hand"))

    def _verify_flat(self, event: AccountSnapshot, out: list[Any]) -> None:
        """Say that a flatten has done its work once the exchange says so, or that it has not."""
        if not self.flatten_ms or event.at_ms <= self.flatten_ms:
            return
        held = [f"{p.qty} {p.symbol}" for p in event.positions if p.qty and p.symbol in self.symbols]
        working = [o.client_id for o in event.orders if o.symbol in self.symbols]
        if self.flat and not held and not working:
            self.flatten_ms = self.flatten_told_ms = 0
            out.append(Alert("info", "everything is closed and cancelled: the exchange holds no position and no order"))
        elif event.at_ms - max(self.flatten_ms, self.flatten_told_ms) >= FLAT_WITHIN_MS:
            self.flatten_told_ms = event.at_ms
            left = ", ".join((*held, *working)) or "the book is not closed yet"
            out.append(Alert("critical", f"not flat {(event.at_ms - self.flatten_ms) // 1000} s after flatten: {left}"))

    def _overshoot(self, event: AccountSnapshot, bracket: Bracket, out: list[Any]) -> None:
        """Hand what exits sold beyond the position to the strays.

        For a moment that is only an entry's fill which comes after an exit's; a snapshot that brings no fill tells.
        """
        excess = -bracket.held
        if excess > 0 and reconcile.settled_enough(self.ledger, event, bracket.symbol):
            bracket.foreign -= excess
            self.strays.add(bracket.symbol, -bracket.side.sign * excess, out, why="exits sold more than was held")

    def doubt(self, out: list[Any]) -> None:
        """Ask for a snapshot when an order's outcome or a promised fill is overdue."""
        now = self.known.now
        overdue = [reason for at, reason in self.doubts() if now >= at]
        if overdue and now - self.doubt_ms >= self.pause_ms:
            self.doubt_ms = now
            out.append(RequestSnapshot(overdue[0]))

    @property
    def pause_ms(self) -> int:
        """How long to wait between two looks for the same doubts."""
        return DEAF_PAUSE_MS if self.deaf_ms else DOUBT_PAUSE_MS

    def doubts(self) -> list[tuple[int, str]]:
        """Return what is not as it should be: from when on it is worth a look, and why.

        Kept until an order changes: it is asked for twice an event.
        """
        key = (self.ledger.version, self.deaf_ms, self.flatten_ms, self.trade is None)
        if self.suspects or self.told or self.owed:
            return self._find_doubts()
        if self.kept is None or self.kept[0] != key:
            self.kept = (key, self._find_doubts())
        return self.kept[1]

    def _find_doubts(self) -> list[tuple[int, str]]:
        due = []
        if self.deaf_ms and (self.trade is not None or not self.flat):
            due.append((self.deaf_ms + DEAF_PAUSE_MS, "the user stream is lost"))
        if self.flatten_ms:
            due.append((self.flatten_ms + DEAF_PAUSE_MS, "is everything closed?"))
        for symbol, known in self.suspects.items():
            due.append((known.since_ms + reconcile.AGAIN_MS, f"{symbol} differs by {known.gap}"))
        if self.owed is not None:
            due.append((self.owed.since_ms + reconcile.AGAIN_MS, f"the wallet differs by {self.owed.gap}"))
        for symbol, (qty, at_ms) in self.told.items():
            if at_ms >= self.ledger.changed_ms(symbol) and qty != self.ledger.qty(symbol):
                due.append(
                    (at_ms + LATE_FILL_MS, f"{symbol} is told as {qty}, the fills say {self.ledger.qty(symbol)}")
                )
        for order in self.ledger.orders.values():
            status = order.status
            if not status.is_terminal and not status.is_accepted:
                due.append((order.placed_ms + SLOW_REPLY_MS, f"{order.client_id} has no outcome"))
            elif order.cumulative > order.known:
                due.append((order.changed_ms + LATE_FILL_MS, f"a fill of {order.client_id} is missing"))
            elif not status.is_terminal and (order.immediate or (order.algo and status in EXECUTING)):
                due.append((order.changed_ms + LATE_FILL_MS, f"{order.client_id} executes and does not end"))
        for bracket in self.brackets():
            sums = bracket.sums()
            if sums.exposed < 0 or sums.held < 0:
                changed = max(o.changed_ms for o in bracket.orders())
                due.append((changed + LATE_FILL_MS, f"{bracket.symbol}: more was sold than bought"))
        return due
