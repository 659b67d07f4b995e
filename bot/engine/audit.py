"""Reconcile the ledger with an account snapshot: missed events, differences, orphans, flatten, and when to look again.

One routine serves start, reconnect and the check every half minute. Whatever it cannot explain it guards and reports.
"""

from decimal import Decimal
from typing import Any, Final

from bot.core.events import AccountSnapshot, Fill, OrderUpdate
from bot.core.intents import Alert, CancelOrder, RequestSnapshot
from bot.core.types import Income, OrderSide, OrderStatus
from bot.core.words import some_of
from bot.engine.market_state import MarketState
from bot.orders import beliefs, reconcile
from bot.orders.bracket import Bracket
from bot.orders.ids import is_sendable
from bot.orders.state import EXECUTING, OPENING_ROLES, ZERO, Ledger, Order
from bot.orders.unexplained import UnexplainedPositions
from bot.risk.account import Account
from bot.risk.limits import Limits
from bot.strategy.trade import Trade

SLOW_REPLY_MS: Final = 15_000  # an order without an outcome for this long is queried
LATE_FILL_MS: Final = 2_000  # a missing fill or a market order that does not end is overdue after this
DOUBT_PAUSE_MS: Final = 5_000  # between two snapshots requested for the same doubts
DEAF_PAUSE_MS: Final = 2_000  # the same while the user stream is lost and something is open
FUNDING_SHARE: Final = Decimal("0.02")  # of the notional held: a larger rest cannot be funding
# Kinds of income that are transfers and belong to no result.
MOVES: Final = frozenset({"TRANSFER", "INTERNAL_TRANSFER", "CROSS_COLLATERAL_TRANSFER", "STRATEGY_UMFUTURES_TRANSFER"})
FLAT_WITHIN_MS: Final = 30_000  # a flatten that is not verified by then is reported, repeatedly


class Audit:
    """The part of the portfolio that reconciles it with the account."""

    market_state: MarketState
    limits: Limits
    environment: str
    working_type: str
    session_ms: int
    ledger: Ledger
    account: Account
    unexplained: UnexplainedPositions
    trade: Trade | None
    resumed_ms: int
    suspects: dict[str, reconcile.Suspect]
    reported: dict[str, tuple[Decimal, int]]
    denied: tuple[str, Decimal] | None
    claims: dict[tuple[str, int], Fill]
    unproved: dict[tuple[str, int], beliefs.Unproved]
    alone: dict[str, Decimal]
    alive: dict[str, int]
    orphans: dict[str, int]
    disowned: dict[str, None]
    contradictions: dict[str, beliefs.Contradiction]
    trusting: bool
    owed: reconcile.Suspect | None
    agreed: Decimal
    agreed_ms: int
    agreements: int
    transfers: Decimal
    wallet_reported: tuple[Decimal, int] | None
    on_word: Decimal
    accept_wallet: bool
    income_asked_ms: int
    counters: dict[str, int]
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
        """Whether there is no trade and no position of any kind."""
        raise NotImplementedError

    def bracket(self, symbol: str) -> Bracket | None:
        """Return the bracket of the trade's position in a symbol."""
        raise NotImplementedError

    def brackets(self) -> list[Bracket]:
        """Return all brackets of the trade."""
        raise NotImplementedError

    def on_update(self, event: OrderUpdate, out: list[Any]) -> None:
        """Merge an order update."""
        raise NotImplementedError

    def count_fill(self, event: Fill, out: list[Any], *, heard: bool, proved: bool = False) -> None:
        """Count a fill once, for its owner; see `Portfolio.count_fill`."""
        raise NotImplementedError

    def advance(self, at_ms: int, out: list[Any]) -> None:
        """Advance every part as far as the known state allows."""
        raise NotImplementedError

    def on_snapshot(self, event: AccountSnapshot, out: list[Any]) -> None:
        """Book what was missed, judge the remaining differences, cancel orphans; `beliefs` defines what is believed."""
        self._take_back_phantoms(event, out)
        self._amend_fills(event, out)
        self._take_fills(event, out)
        for update in reconcile.missed_updates(self.ledger, event):
            self.on_update(update, out)
        for order in reconcile.confirmed(self.ledger, event):
            self.ledger.confirm(order)
        self._correct_orders(event, out)
        for order in reconcile.absent(self.ledger, event, resumed_ms=self.resumed_ms):
            self.ledger.look_up(order, self.market_state.now, out)
        listed = {(f.symbol, f.trade_id): f for f in event.fills}
        for symbol in self.symbols:
            if beliefs.position(event, symbol) == self.ledger.qty(symbol):
                self._position_agrees(event, symbol)
                for key in [key for key in self.unproved if key[0] == symbol and key in listed]:
                    if not beliefs.otherwise(self.unproved[key].fill, listed[key]):
                        del self.unproved[key]  # trades and position
        # The news may end a trade or complete an entry: advance before judging positions.
        self._confirm_flat(event)
        self.advance(event.at_ms, out)
        self._confirm_flat(event)
        for bracket in self.brackets():
            self._overshoot(event, bracket, out)
        found: dict[str, str] = {}
        gaps = {s: g for s, g in reconcile.unexplained(self.ledger, event).items() if s in self.symbols}
        for symbol, gap in gaps.items():
            why = self._judge(event, symbol, gap, out)
            if why:
                ours, theirs = self.ledger.qty(symbol), beliefs.position(event, symbol)
                found[symbol] = f"{symbol}: the position read shows {theirs}, the fills {ours}; {why}"
        self.suspects = {s: suspect for s, suspect in self.suspects.items() if gaps.get(s) == suspect.gap}
        for symbol in sorted({fill.symbol for fill in self.claims.values()}):
            found.setdefault(
                symbol, f"{symbol}: a fill of an unknown order is reported and the position read denies it"
            )
        over = next((r for r in event.orders if r.status.is_terminal), None)
        if over is not None:
            found["orders"] = f"the list of working orders shows {over.client_id} as {over.status}"
        self._cancel_orphans(event, out)
        self._verify_flat(event, out)
        if not self.unexplained.qty and not self.suspects:
            self.unexplained.leaving = False
        wallet = self._wallet(event, out) if not gaps and not self.claims else ""
        if wallet:
            found["wallet"] = wallet
        self._contradictions(found, event.at_ms, out)

    # Fills and orders

    def _take_fills(self, event: AccountSnapshot, out: list[Any]) -> None:
        """Count the missed fills: those of our orders at once, others when the position confirms them."""
        claims: dict[str, list[Fill]] = {}
        streamed = set(self.claims)
        for fill in reconcile.missed_fills(self.ledger, event, since_ms=self.session_ms):
            if self.ledger.find(fill.client_id) is not None:
                self.count_fill(fill, out, heard=False)
            else:
                self.claims[fill.symbol, fill.trade_id] = fill
        listed = {(f.symbol, f.trade_id) for f in event.fills}
        for key, fill in list(self.claims.items()):
            if key in self.ledger.trades:
                del self.claims[key]
            elif key in listed or fill.trade_id < 0:
                claims.setdefault(fill.symbol, []).append(fill)
            elif event.at_ms - fill.at_ms >= reconcile.STALE_MS:
                del self.claims[key]
                out.append(
                    Alert(
                        "warning",
                        f"{fill.symbol}: the user stream reported trade {fill.trade_id} of {fill.client_id}, the exchange "
                        "does not list it: not believed",
                    )
                )
        for symbol, fills in claims.items():
            for fill in beliefs.confirmed_claims(self.ledger, event, symbol, fills):
                del self.claims[symbol, fill.trade_id]
                agrees = beliefs.position(event, symbol) == self.ledger.qty(symbol) + fill.side.sign * fill.qty
                both = agrees or (symbol, fill.trade_id) in streamed
                self.count_fill(fill, out, heard=False, proved=both)

    def _take_back_phantoms(self, event: AccountSnapshot, out: list[Any]) -> None:
        """Reverse fills that the trades reads do not list and that the position read contradicts."""
        for fill in beliefs.prove(self.unproved, self.ledger, event, {s for s in self.symbols if self.heard(s)}):
            del self.unproved[fill.symbol, fill.trade_id]
            self.take_back(fill, out)

    def take_back(self, fill: Fill, out: list[Any]) -> None:
        """Reverse a fill that did not happen: the position continues as before it."""
        symbol, signed = fill.symbol, fill.side.sign * fill.qty
        order, bracket = self.ledger.find(fill.client_id), self.bracket(symbol)
        self.ledger.reverse(fill)
        if order is not None and bracket is not None and any(order is o for o in bracket.orders()):
            if self.trade is not None:
                self.trade.forget_fill(fill)
            if order.role not in OPENING_ROLES:
                self._restore_after(order)
        else:
            self.unexplained.add(symbol, -signed, out, why=f"trade {fill.trade_id} did not happen")
        self.counters["fills_taken_back"] = self.counters.get("fills_taken_back", 0) + 1
        out.append(
            Alert(
                "critical",
                f"{symbol}: trade {fill.trade_id} of {fill.client_id} was reported, but the exchange does not list it and its "
                "position is as before: taken back, the trade goes on",
            )
        )

    def _amend_fills(self, event: AccountSnapshot, out: list[Any]) -> None:
        """Correct the figures of fills that the trades reads list differently than first reported."""
        said: list[str] = []
        for heard, listed in beliefs.misreported(self.unproved, self.ledger, event):
            del self.unproved[heard.symbol, heard.trade_id]
            order, bracket = self.ledger.find(heard.client_id), self.bracket(heard.symbol)
            if bracket is None or not any(order is o for o in bracket.orders()) or not self.ledger.amend(heard, listed):
                continue
            if self.trade is not None:
                self.trade.amend_fill(heard, listed)
            if self.account.last.get(heard.symbol) == heard.price:
                self.account.last[heard.symbol] = listed.price
            said.append(
                f"trade {listed.trade_id} of {listed.client_id} is {listed.qty} at {listed.price}, fee {listed.fee:f}, and was "
                f"reported as {heard.qty} at {heard.price}, fee {heard.fee:f}"
            )
        if said:
            out.append(Alert("warning", f"corrected after the exchange's list of trades: {'; '.join(said)}"))

    def _correct_orders(self, event: AccountSnapshot, out: list[Any]) -> None:
        """Correct the reported order states that the exchange's own list contradicts.

        An update that reported more than the fills is corrected when the list or the position denies it. An order that was
        reported as over and that the list shows as working twice is working.
        """
        reports = {report.client_id: report for report in event.orders if not report.status.is_terminal}
        owned = {order.client_id: order for bracket in self.brackets() for order in bracket.orders()}
        alive: dict[str, int] = {}
        revived: list[str] = []
        for client_id, order in owned.items():
            report, age_ms = reports.get(client_id), event.at_ms - order.changed_ms
            agrees = beliefs.position(event, order.symbol) == self.ledger.qty(order.symbol)
            if order.missing and agrees and age_ms >= reconcile.LAG_MS:
                if report is not None and report.filled_qty == order.known:
                    self._corrected(order, report.status, out)
                elif report is None and age_ms >= reconcile.STALE_MS:
                    self._corrected(order, OrderStatus.EXPIRED, out)
            elif report is not None and self._heard_over(order) and report.filled_qty == order.known:
                alive[client_id] = self.alive.get(client_id, event.at_ms)
                stood_ms = min(event.at_ms - alive[client_id], age_ms)
                if stood_ms >= reconcile.AGAIN_MS:
                    del alive[client_id]
                    self.ledger.revive(order, report.status, event.at_ms)
                    self._restore_after(order)
                    revived.append(client_id)
        self.alive = alive
        if revived:
            text = "reported as over or at work, and the exchange holds them as waiting"
            out.append(Alert("warning", f"{text}: {some_of(revived)}; they count"))

    @staticmethod
    def _heard_over(order: Order) -> bool:
        """Return whether an order counts as terminal, or a stop as triggered, with all its fills known."""
        at_work = order.algo and order.status is OrderStatus.TRIGGERED and not order.known
        return order.settled or (at_work and not order.missing)

    def _corrected(self, order: Order, status: OrderStatus, out: list[Any]) -> None:
        out.append(
            Alert(
                "warning",
                f"order {order.client_id} was reported as filled to {order.cumulative}, trades and position say {order.known}: "
                "corrected",
            )
        )
        self.ledger.correct(order, status, self.market_state.now)
        self._restore_after(order)

    def _restore_after(self, order: Order) -> None:
        bracket = self.bracket(order.symbol)
        if bracket is None or order.role in OPENING_ROLES:
            return
        if bracket.exit_cause in ("", "flat", order.client_id):
            bracket.restore()
        if self.trade is not None and bracket is self.trade.bracket:
            self.trade.unscale()

    # Positions

    def _position_agrees(self, event: AccountSnapshot, symbol: str) -> None:
        """Record that the position read confirms our fills."""
        report = self.reported.get(symbol)
        if report is not None and report[0] != self.ledger.qty(symbol) and report[1] <= event.at_ms:
            self.denied = (symbol, report[0])
        if report is None or report[1] <= event.at_ms:
            self.reported[symbol] = (self.ledger.qty(symbol), event.at_ms)
        if not self.ledger.qty(symbol):
            self.alone.pop(symbol, None)  # what only the position read had reported is closed

    def heard(self, symbol: str) -> bool:
        """Return whether another witness reports the position that the fills add up to."""
        report = self.reported.get(symbol)
        return self.trusting or (
            report is not None and report[0] == self.ledger.qty(symbol) and report[1] >= self.ledger.changed_ms(symbol)
        )

    def _confirm_flat(self, event: AccountSnapshot) -> None:
        """Release the stops of a closed position when position read and trades read agree that it is closed.

        A quantity that an update reports beyond the fills closes nothing: while fills are missing, position read and ledger agree
        on the position as it was before.
        """
        for bracket in self.brackets():
            if not bracket.closed_ms or bracket.flat_confirmed or event.at_ms < bracket.closed_ms:
                continue
            symbol = bracket.symbol
            agrees = beliefs.position(event, symbol) == self.ledger.qty(symbol)
            if (
                agrees
                and not beliefs.still_unproved(self.unproved, symbol)
                and bracket.exposed <= 0
                and bracket.held <= 0
            ):
                bracket.flat_confirmed = True

    def _judge(self, event: AccountSnapshot, symbol: str, gap: Decimal, out: list[Any]) -> str:
        """Book a position difference, or return why the position read is not believed ("" if it is too early to judge)."""
        suspect = self.suspects.get(symbol)
        if suspect is None or suspect.gap != gap:
            suspect = self.suspects[symbol] = reconcile.Suspect(gap, event.at_ms)
        bracket, ours = self.bracket(symbol), self.ledger.qty(symbol)
        if any(fill.symbol == symbol for fill in self.claims.values()) or beliefs.still_unproved(self.unproved, symbol):
            return "a reported fill is not proved"
        if not reconcile.believable(self.ledger, event, symbol, since_ms=suspect.since_ms, traded=bracket is not None):
            return ""
        evidence = self._evidence(symbol, bracket)
        if bracket is not None and not beliefs.shrinks(ours, ours + gap):
            # A real increase in a traded symbol since it was flat is among its trades.
            stood_ms = event.at_ms - suspect.since_ms
            if evidence.reported != ours + gap and stood_ms < beliefs.ALONE_MS:
                return f"the position read alone says so, for {max(stood_ms, 0) // 1000} s"
        if beliefs.shrinks(ours, ours + gap):
            why = beliefs.may_shrink(
                self.ledger, event, symbol, evidence, wallet=self.account.wallet, since_ms=suspect.since_ms
            )
            if why:
                return why
        del self.suspects[symbol]
        report = next((p for p in event.positions if p.symbol == symbol), None)
        price = self.account.last.get(symbol) or (report.entry_price if report else ZERO)
        side = OrderSide.BUY if gap > 0 else OrderSide.SELL
        self.adopted += 1
        self.alone[symbol] = self.alone.get(symbol, ZERO) + gap
        external = Fill(event.at_ms, "external", symbol, side, abs(gap), price, ZERO, False, -self.adopted)
        self.count_fill(external, out, heard=False, proved=True)
        return ""

    def _evidence(self, symbol: str, bracket: Bracket | None) -> beliefs.Evidence:
        report = self.reported.get(symbol)
        current = report is not None and report[1] >= self.ledger.changed_ms(symbol)
        guards = bracket.guards if bracket is not None else ()
        ended = any(o.accepted_ms and o.status is OrderStatus.EXPIRED and not o.cancel_ms for o in guards)
        refused = bracket is not None and bracket.nothing_left_ms > self.ledger.changed_ms(symbol)
        reported = report[0] if report is not None and current and report[0] != self.ledger.qty(symbol) else None
        return beliefs.Evidence(reported, refused, ended, self.alone.get(symbol, ZERO))

    def _contradictions(self, found: dict[str, str], now: int, out: list[Any]) -> None:
        """Track contradictions, report each once when it has persisted for a while, and report when they are resolved."""
        if self.denied is not None:
            symbol, qty = self.denied
            self.denied = None
            out.append(
                Alert(
                    "warning",
                    f"{symbol}: an account update reported {qty}, fills and position read {self.ledger.qty(symbol)}: "
                    "not believed",
                )
            )
        over = [self.contradictions.pop(key) for key in list(self.contradictions) if key not in found]
        due = []
        for key, text in found.items():
            since_ms = self.suspects[key].since_ms if key in self.suspects else now
            contradiction = self.contradictions.setdefault(key, beliefs.Contradiction(text, since_ms))
            contradiction.text = text
            if not contradiction.reported and now - contradiction.since_ms >= reconcile.AGAIN_MS:
                contradiction.reported = True
                due.append(text)
        if due:
            text = f"the exchange contradicts itself: {'. '.join(due)}. Stops stay, entries rest, it is asked again"
            out.append(Alert("critical", text))
        if any(contradiction.reported for contradiction in over) and not any(
            k.reported for k in self.contradictions.values()
        ):
            out.append(Alert("info", "the exchange agrees with itself again; the bot goes on"))

    # The wallet

    def _wallet(self, event: AccountSnapshot, out: list[Any]) -> str:
        """Book a wallet difference if the income entries explain it, or return the contradiction."""
        if not all([reconcile.settled_enough(self.ledger, event, symbol) for symbol in self.symbols]):  # noqa: C419
            return ""
        difference = event.wallet - self.account.wallet
        if abs(difference) < beliefs.CENT:
            if self.flat:
                self.account.sync(event.wallet)
            self._wallet_agreed(event)
            self._judge_report(event, out)
            return ""
        if self.owed is None or self.owed.gap != difference:
            self.owed = reconcile.Suspect(difference, event.at_ms)
        if self.on_word and abs(difference + self.on_word) < beliefs.CENT:
            # the difference that the operator accepted is gone again: our own bookings were right
            self._take_wallet(event, difference, (), out)
            self.on_word = ZERO
            return ""
        stood_ms = event.at_ms - self.owed.since_ms
        first = self.agreements < 2 and stood_ms >= reconcile.AGAIN_MS  # two reads against the session's first
        if self.accept_wallet or (first and event.wallet > 0):
            self.on_word = difference if self.accept_wallet else ZERO
            self._take_wallet(event, difference, event.income or (), out)
            return ""
        if event.income is None:
            if event.at_ms - self.income_asked_ms >= DEAF_PAUSE_MS:
                self.income_asked_ms = event.at_ms
                out.append(RequestSnapshot(f"the wallet differs by {difference}", max(self.agreed_ms, 1)))
            return "" if stood_ms < reconcile.AGAIN_MS else self._disputed(event)
        explained = beliefs.explained(event.income, since_ms=self.agreed_ms, wallet=event.wallet, agreed=self.agreed)
        if explained and self._is_possible(event):
            self._take_wallet(event, difference, event.income, out)
            return ""
        return self._disputed(event)

    def _judge_report(self, event: AccountSnapshot, out: list[Any]) -> None:
        """Report a user-stream wallet that balance read and trades contradict; it is never booked."""
        if self.wallet_reported is None or self.wallet_reported[1] > event.at_ms:
            return
        (wallet, at_ms), self.wallet_reported = self.wallet_reported, None
        traded_ms = max((h.changed_ms for h in self.ledger.holdings.values()), default=0)
        if at_ms - traded_ms >= reconcile.LAG_MS and abs(wallet - event.wallet) >= beliefs.CENT:
            text = f"an account update reported a wallet of {wallet}, balance read and trades say {event.wallet}: not believed"
            out.append(Alert("warning", text))

    def _is_possible(self, event: AccountSnapshot) -> bool:
        """Whether the wallet can be as it was read: a position cannot be held without money."""
        return event.wallet > 0 or self.flat

    def _disputed(self, event: AccountSnapshot) -> str:
        return (
            f"the balance read shows a wallet of {event.wallet}, our trades say {self.account.wallet}, and "
            + ("no booking explains the difference" if self._is_possible(event) else "a position is open")
            + " (starting the entries takes the exchange's word)"
        )

    def _wallet_agreed(self, event: AccountSnapshot) -> None:
        self.owed, self.accept_wallet = None, False
        self.agreed, self.agreed_ms = event.wallet, event.at_ms
        self.agreements += 1
        self.transfers = ZERO

    def _take_wallet(
        self, event: AccountSnapshot, difference: Decimal, income: tuple[Income, ...], out: list[Any]
    ) -> None:
        """Book a wallet difference: transfers belong to no result, possible funding belongs to the open trade."""
        moved = sum((line.amount for line in income if line.at_ms > self.agreed_ms and line.kind in MOVES), ZERO)
        transfers = moved - self.transfers
        rest = difference - transfers
        if self.flat:
            self.account.sync(event.wallet)
        else:
            self.account.base += difference
        if transfers:
            self.limits.on_transfer(transfers)
        held = sum((abs(h.cost) for h in self.ledger.holdings.values()), ZERO)
        if self.trade is not None and abs(rest) <= FUNDING_SHARE * held:
            self.trade.funding -= rest
        kinds = (
            ", ".join(sorted({line.kind.lower() for line in income if line.at_ms > self.agreed_ms})) or "not by trading"
        )
        out.append(Alert("info", f"the wallet changed by {difference:.4f} ({kinds}): taken from the exchange"))
        self._wallet_agreed(event)

    # Orphaned orders

    def _cancel_orphans(self, event: AccountSnapshot, out: list[Any]) -> None:
        """Cancel orphaned orders, except those that may guard a position; cancel foreign orders only in a flatten.

        A protective order that is not in the ledger (the journal was lost) is itself a sign of a position: it is cancelled only
        when the position read has shown none for `ORPHAN_MS`.
        """
        orphans = reconcile.orphans(self.ledger, event, self.environment)
        waiting: dict[str, int] = {}
        new: list[str] = []
        for report in orphans.ours:
            symbol, order = report.symbol, self.ledger.find(report.client_id)
            if report.close_position or (report.algo and report.reduce_only):
                held = self.ledger.qty(symbol) or beliefs.position(event, symbol) or symbol in self.suspects
                if held or symbol in self.unexplained.qty or report.client_id in self.alive:
                    continue
                since = self.orphans.get(report.client_id, event.at_ms)
                if order is None and event.at_ms - since < beliefs.ORPHAN_MS:
                    waiting[report.client_id] = since
                    continue
            out.append(CancelOrder(report.client_id, report.symbol, report.algo))
            if report.client_id not in self.disowned:
                self.disowned[report.client_id] = None
                new.append(report.client_id)
        if new:
            out.append(Alert("warning", f"cancelled, because they belong to no trade: {some_of(new)}"))
        self.orphans = waiting
        for report in orphans.strangers if self.flatten_ms else ():
            if is_sendable(report.client_id):
                out.append(CancelOrder(report.client_id, report.symbol, report.algo))
            else:
                out.append(Alert("critical", f"order {report.client_id} of {report.symbol}: cancel it by hand"))

    def _verify_flat(self, event: AccountSnapshot, out: list[Any]) -> None:
        """Report a flatten as complete once the exchange confirms it, or as overdue."""
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
        """Move what exits sold beyond the position to the unexplained positions.

        At first this may only be an entry's fill that arrives after an exit's; a snapshot without a new fill decides.
        """
        excess = -bracket.held
        if excess > 0 and reconcile.settled_enough(self.ledger, event, bracket.symbol):
            bracket.foreign -= excess
            self.unexplained.add(bracket.symbol, -bracket.side.sign * excess, out, why="exits sold more than was held")

    def doubt(self, out: list[Any]) -> None:
        """Request a snapshot when an order's outcome, a missing fill or another doubt is overdue."""
        now = self.market_state.now
        overdue = [reason for at, reason in self.doubts() if now >= at]
        if overdue and now - self.doubt_ms >= self.pause_ms:
            self.doubt_ms = now
            out.append(RequestSnapshot(overdue[0]))

    @property
    def pause_ms(self) -> int:
        """Delay between two snapshots for the same doubts, ms."""
        doubtful = self.deaf_ms or self.suspects or self.claims or self.contradictions or self.unconfirmed()
        return DEAF_PAUSE_MS if doubtful else DOUBT_PAUSE_MS

    def unconfirmed(self) -> list[Bracket]:
        """Return the brackets that are closed by fills and whose stops wait for the exchange's confirmation."""
        if self.trusting:
            return []
        return [b for b in self.brackets() if b.closed_ms and not b.flat_confirmed]

    def doubts(self) -> list[tuple[int, str]]:
        """Return the open doubts: from when on each justifies a snapshot, and why.

        Cached until an order changes, because it is called twice per event.
        """
        key = (self.ledger.version, self.deaf_ms, self.flatten_ms, self.trade is None, len(self.unproved))
        if (
            self.suspects
            or self.claims
            or self.contradictions
            or self.owed
            or self.orphans
            or self.alive
            or self.unheard()
        ):
            return self._find_doubts()
        if self.kept is None or self.kept[0] != key:
            self.kept = (key, self._find_doubts())
        return self.kept[1]

    def unheard(self) -> list[str]:
        """Return the symbols whose position by fills has no other witness yet, or is contradicted by one."""
        if self.trusting:
            return []
        moved = [s for s in self.symbols if s in self.reported or self.ledger.changed_ms(s)]
        return [s for s in moved if not self.heard(s)]

    def _find_doubts(self) -> list[tuple[int, str]]:
        due = []
        if self.deaf_ms and (self.trade is not None or not self.flat):
            due.append((self.deaf_ms + DEAF_PAUSE_MS, "the user stream is lost"))
        if self.flatten_ms:
            due.append((self.flatten_ms + DEAF_PAUSE_MS, "is everything closed?"))
        for symbol, suspect in self.suspects.items():
            due.append((suspect.since_ms + reconcile.AGAIN_MS, f"{symbol} differs by {suspect.gap}"))
        if self.owed is not None:
            due.append((self.owed.since_ms + reconcile.AGAIN_MS, f"the wallet differs by {self.owed.gap}"))
        for (symbol, _), fill in self.claims.items():
            due.append((fill.at_ms, f"is trade {fill.trade_id} of {symbol} listed?"))
        due += [
            (contradiction.since_ms, f"{key}: it contradicts itself")
            for key, contradiction in self.contradictions.items()
        ]
        due += [(since + reconcile.AGAIN_MS, f"{client_id} is listed") for client_id, since in self.alive.items()]
        for client_id, since in self.orphans.items():
            due.append((since + DOUBT_PAUSE_MS, f"nobody knows {client_id}"))
        due += [(b.closed_ms + DEAF_PAUSE_MS, f"is {b.symbol} flat?") for b in self.unconfirmed()]
        for symbol in self.unheard():
            at_ms = max(self.ledger.changed_ms(symbol), self.reported.get(symbol, (ZERO, 0))[1])
            due.append((at_ms + LATE_FILL_MS, f"nobody else reports {symbol} as {self.ledger.qty(symbol)}"))
        missed = [fill for fill in self.unproved.values() if fill.missed]
        due += [(u.missed_ms + reconcile.AGAIN_MS, f"is trade {u.fill.trade_id} listed?") for u in missed]
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
