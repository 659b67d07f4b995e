"""The bot's own state: orders, fills, money, the trade with its hedge, and unexplained positions.

Events are booked first; `advance` then advances every part from the known state. All parts compare the wanted state with the
actual one, so the order of messages does not matter. `check` verifies the invariants of the ledger.
"""

from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Final

from bot.core.errors import ContradictingMessage, InvariantError
from bot.core.events import AccountUpdate, CancelRejected, Fill, OrderUpdate
from bot.core.intents import Alert, CancelOrder, RequestSnapshot
from bot.core.records import EquityPoint, TradeFill
from bot.core.types import OrderStatus, Side
from bot.engine.audit import Audit
from bot.engine.decision import EntryOrder
from bot.engine.market_state import MarketState
from bot.hedge.hedger import Hedger
from bot.orders import beliefs, reconcile
from bot.orders.bracket import Bracket
from bot.orders.ids import FOREIGN, IdMaker, parse
from bot.orders.maker_taker import Entry
from bot.orders.state import NOT_FOUND, OPENING_ROLES, ZERO, Ledger
from bot.orders.unexplained import UnexplainedPositions
from bot.risk.account import TRANSFERS, Account
from bot.risk.limits import Limits
from bot.strategy import rules
from bot.strategy.rules import Row, column
from bot.strategy.trade import Stage, Trade

END_ROLE: Final = "ed"  # of the fills that value an open position at the end of the data


@dataclass(slots=True)
class Portfolio(Audit):
    """The bot's side of the account."""

    market_state: MarketState
    limits: Limits
    environment: str  # letter in the client ids
    working_type: str
    session_ms: int = 0  # start of the first session: older fills are not ours
    ledger: Ledger = field(default_factory=Ledger)
    account: Account = field(init=False)
    unexplained: UnexplainedPositions = field(init=False)
    unexplained_ids: IdMaker = field(init=False)
    trade: Trade | None = None
    hedger: Hedger | None = None
    resumed_ms: int = 0  # start of this session: replies to earlier requests are lost
    suspects: dict[str, reconcile.Suspect] = field(default_factory=dict)  # position differences, not believed yet
    reported: dict[str, tuple[Decimal, int]] = field(default_factory=dict)  # newest position by other witnesses, when
    denied: tuple[str, Decimal] | None = None  # an account update that a snapshot has just contradicted
    claims: dict[tuple[str, int], Fill] = field(default_factory=dict)  # fills of unknown orders, not believed yet
    unproved: dict[tuple[str, int], beliefs.Unproved] = field(default_factory=dict)  # booked with a single witness
    alone: dict[str, Decimal] = field(default_factory=dict)  # quantities that only the position read has reported
    alive: dict[str, int] = field(default_factory=dict)  # listed as working but reported as over, and since when
    orphans: dict[str, int] = field(default_factory=dict)  # protective orders not in the ledger, and since when
    disowned: dict[str, None] = field(default_factory=dict)  # orphans that were already reported
    contradictions: dict[str, beliefs.Contradiction] = field(default_factory=dict)  # by symbol, "orders" or "wallet"
    trusting: bool = False  # a back-test: its broker's reports are true
    left: Decimal = ZERO  # share of the entry that is still held, as last confirmed
    deaf_ms: int = 0  # since when the user stream is lost
    flatten_ms: int = 0  # when a flatten was requested, until it is verified
    flatten_told_ms: int = 0
    slippage_sum: float = 0.0  # over measured taker fills, fractions of the price
    slippage_fills: int = 0
    owed: reconcile.Suspect | None = None  # how the exchange's wallet differs from ours, and since when
    agreed: Decimal = ZERO  # the last agreed wallet, and when
    agreed_ms: int = 0
    agreements: int = 0
    on_word: Decimal = ZERO  # wallet difference that was booked because the operator started the entries
    wallet_reported: tuple[Decimal, int] | None = None  # by the newest account update, until a snapshot has judged it
    transfers: Decimal = ZERO  # reported by the user stream since the last agreement
    income_asked_ms: int = 0
    accept_wallet: bool = False  # the operator has accepted the exchange's wallet
    adopted: int = 0  # number of booked position differences, for their trade ids
    doubt_ms: int = 0
    counters: dict[str, int] = field(default_factory=dict)
    kept: tuple[tuple[Any, ...], list[tuple[int, str]]] | None = None  # doubts

    def __post_init__(self) -> None:
        """Create the parts that share the ledger: account and unexplained positions."""
        self.account = Account(self.ledger)
        self.unexplained = UnexplainedPositions(self.ledger, self.working_type)
        self.unexplained_ids = IdMaker(self.environment, 0)

    @property
    def symbols(self) -> tuple[str, ...]:
        """All symbols, the traded one first."""
        return self.market_state.config.data.symbols

    @property
    def flat(self) -> bool:
        """Whether there is no trade and no position of any kind."""
        return self.trade is None and not any(h.qty for h in self.ledger.holdings.values())

    @property
    def sheltered(self) -> bool:
        """Whether the bot may stop: no order can open anything, all fills of such are known, each position has its stop."""
        opening = any(o.role in OPENING_ROLES and not o.settled for o in self.ledger.orders.values())
        return not opening and all(b.exposed <= b.cover or b.exposed <= 0 for b in self.brackets())

    def bracket(self, symbol: str) -> Bracket | None:
        """Return the bracket of the trade's position in a symbol."""
        trade, hedger = self.trade, self.hedger
        if trade is None:
            return None
        if symbol == trade.bracket.instrument.symbol:
            return trade.bracket
        return hedger.find(symbol) if hedger else None

    def brackets(self) -> list[Bracket]:
        """Return all brackets of the trade."""
        if self.trade is None:
            return []
        legs = self.hedger.legs if self.hedger else ()
        return [self.trade.bracket, *[leg.bracket for leg in legs if leg.bracket is not None]]

    def count(self, name: str) -> None:
        """Increment a counter."""
        self.counters[name] = self.counters.get(name, 0) + 1

    # Events

    def on_update(self, event: OrderUpdate, out: list[Any]) -> None:
        """Merge an order update."""
        try:
            order = self.ledger.update(event)
        except ContradictingMessage as error:
            self._refuse_message(error, out)
            return
        live = not event.status.is_terminal
        if order is None:
            parts = parse(event.client_id)
            if live and parts is not None and parts.environment == self.environment:
                out.append(RequestSnapshot(f"{event.client_id} is not in the book"))
        elif not order.live and order.code == NOT_FOUND and live:
            # A query did not find it, but it exists: it is no longer wanted.
            out.append(CancelOrder(order.client_id, order.symbol, order.algo and event.status is OrderStatus.NEW))

    def on_cancel_rejected(self, event: CancelRejected, out: list[Any]) -> None:
        """Request a snapshot when a cancel was rejected and the order is not known to be terminal."""
        order = self.ledger.find(event.client_id)
        if order is not None and order.live:
            out.append(RequestSnapshot(f"cancel of {event.client_id} refused: {event.code}"))

    def _refuse_message(self, error: ContradictingMessage, out: list[Any]) -> None:
        """Ignore a message that cannot be true, report the first of its kind, and request a snapshot."""
        self.count("contradicting_messages")
        if self.counters["contradicting_messages"] == 1:
            out.append(Alert("critical", f"a message of the exchange contradicts what was sent: {error}; not believed"))
        out.append(RequestSnapshot(f"contradicting message: {error}"))

    def on_account(self, event: AccountUpdate, out: list[Any]) -> None:
        """Book wallet changes without a trade, and compare the reported positions with ours."""
        before = self.account.base
        received = self.account.update(event)
        if event.reason in TRANSFERS:
            self.limits.on_transfer(self.account.base - before)
            self.transfers += self.account.base - before
        if self.account.base != before:
            out.append(RequestSnapshot(f"the wallet changed: {event.reason}", max(self.agreed_ms, 1)))
        if self.trade is not None:
            self.trade.funding -= received
        self.wallet_reported = (event.wallet, event.at_ms)
        for report in event.positions:
            if report.symbol in self.symbols and event.at_ms >= self.ledger.changed_ms(report.symbol):
                self.reported[report.symbol] = (report.qty, event.at_ms)
                self._count_claims(report.symbol, out)

    def on_fill(self, event: Fill, out: list[Any]) -> None:
        """Take a fill of the user stream: for our orders it counts at once, for others when the account confirms it."""
        key = (event.symbol, event.trade_id)
        ours = self.ledger.find(event.client_id) is not None
        strange = beliefs.unlikely(event, self.market_state.price(event.symbol)) if ours and not self.trusting else ""
        if strange and key not in self.ledger.trades:
            # Its order's update gets the change protected; the trades read decides how the fill is booked.
            self._refuse_message(
                ContradictingMessage(f"trade {event.trade_id} of {event.client_id} has {strange}"), out
            )
        elif ours or self.trusting:
            self.count_fill(event, out, heard=True)
        elif event.symbol in self.symbols and key not in self.ledger.trades and key not in self.claims:
            self.claims[key] = event
            out.append(RequestSnapshot(f"is trade {event.trade_id} of {event.client_id} listed?"))
            self._count_claims(event.symbol, out)

    def _count_claims(self, symbol: str, out: list[Any]) -> None:
        """Count the fills of unknown orders that an account update confirms, without waiting for the reads."""
        claims = [fill for fill in self.claims.values() if fill.symbol == symbol]
        qty, at_ms = self.reported.get(symbol, (ZERO, 0))
        if not claims or at_ms < max(fill.at_ms for fill in claims):
            return
        for fill in beliefs.reported_claims(self.ledger.qty(symbol), claims, qty):
            del self.claims[symbol, fill.trade_id]
            self.count_fill(fill, out, heard=True)

    def count_fill(self, event: Fill, out: list[Any], *, heard: bool, proved: bool = False) -> None:
        """Count a fill once, for the trade, a leg or the unexplained positions.

        Parameters
        ----------
        out
            List that intents and records are appended to.
        heard
            The user stream reported it, else the trades read.
        proved
            It needs no second witness.
        """
        try:
            counted = self.ledger.fill(event)
        except ContradictingMessage as error:
            self._refuse_message(error, out)
            return
        key = (event.symbol, event.trade_id)
        if not counted:
            unproved = self.unproved.get(key)
            if heard and unproved is not None and not unproved.streamed and not beliefs.otherwise(unproved.fill, event):
                del self.unproved[key]  # both have reported it now
            return
        if not proved and not self.trusting:
            self.unproved[key] = beliefs.Unproved(event, streamed=heard)
        self.account.last[event.symbol] = event.price
        self.market_state.take_price(event.symbol, event.price, event.at_ms)
        order = self.ledger.find(event.client_id)
        signed = event.side.sign * event.qty
        bracket = self.bracket(event.symbol)
        if order is not None and bracket is not None and any(order is o for o in bracket.orders()):
            bracket.note_fill(order, event, out)
            self._book(event, order.role, event.qty)
            self._set_off(event, bracket, out)
        elif order is not None and self.unexplained.owns(order):
            self._foreign(event, bracket, out)  # a guard closes the entire position, the trade's part too
        elif order is not None:
            self.unexplained.add(event.symbol, signed, out, why=f"late fill of {event.client_id}")
        else:
            self._foreign(event, bracket, out)
        if order is not None and order.reference and not event.maker:
            drift = event.side.sign * (event.price - order.reference) / order.reference
            self.slippage_sum += float(drift)
            self.slippage_fills += 1
            self.limits.on_slippage(float(drift), out)
        self.count("fills")
        self.sample(out)

    def _set_off(self, event: Fill, bracket: Bracket, out: list[Any]) -> None:
        """Net the trade's position against an opposite unexplained one: the exchange has one net position.

        The netted quantity leaves the trade at the price of this fill.
        """
        sign = bracket.side.sign
        taken = min(-sign * self.unexplained.qty.get(event.symbol, ZERO), bracket.held)
        if taken <= 0:
            return
        self.unexplained.add(event.symbol, sign * taken, out, why="set off against the trade's own position")
        bracket.absorb(replace(event, client_id="external"), taken)
        self._book(replace(event, side=bracket.side.exit, fee=ZERO), FOREIGN, taken)

    def _foreign(self, event: Fill, bracket: Bracket | None, out: list[Any]) -> None:
        """Book a fill of no order of the trade: reduce an unexplained position, then the trade, then add the rest."""
        rest, sign, symbol, why = event.qty, event.side.sign, event.symbol, f"fill of {event.client_id}"
        unexplained_qty = self.unexplained.qty.get(symbol, ZERO)
        if unexplained_qty * sign < 0:
            taken = min(rest, abs(unexplained_qty))
            self.unexplained.add(symbol, sign * taken, out, why=why)
            rest -= taken
        if rest and bracket is not None and event.side is bracket.side.exit and bracket.held > 0:
            taken = min(rest, bracket.held)
            bracket.absorb(event, taken)
            self._book(event, FOREIGN, taken)
            out.append(Alert("critical", f"{symbol}: {taken} closed by {event.client_id}, not by the trade"))
            rest -= taken
        if rest:
            self.unexplained.add(symbol, sign * rest, out, why=why)

    def _book(self, event: Fill, role: str, qty: Decimal) -> None:
        if self.trade is None:
            raise InvariantError(f"fill {event.trade_id} of {event.client_id} has no trade to be booked to")
        fee = event.fee * qty / event.qty
        self.trade.note_fill(
            TradeFill(event.at_ms, event.symbol, role, event.side.value, qty, event.price, fee, event.maker)
        )

    # Requests

    def enter(self, order: EntryOrder, row: Row, out: list[Any]) -> None:
        """Start a trade with its post-only order."""
        market_state, plan, sized = self.market_state, order.plan, order.size
        config, instrument = market_state.config, market_state.instruments[self.symbols[0]]
        ids, naked = IdMaker(self.environment, plan.sequence), config.trade.naked_limit_ms
        entry = Entry(
            self.ledger, ids, instrument, config.entry, plan.side, plan.entry, plan.stop, sized.qty, sized.risk_quote
        )
        bracket = Bracket(
            self.ledger,
            ids,
            instrument,
            0,
            plan.side,
            naked,
            self.working_type,
            plan.stop,
            catastrophe=plan.catastrophe,
            entries=entry.orders,
            trusting=self.trusting,
        )
        trade = Trade(plan, entry, bracket, config.trade, sized.uncut_qty, order.cost_r)
        trade.with_trend = bool(rules.trend_agrees(plan.side.sign, column(row, "sta_os")))
        if sized.cut:
            trade.notes.append(f"quantity cut by {sized.cut} from {sized.uncut_qty} to {sized.qty}")
        trade.notes.extend(f"decided without {symbol}" for symbol in order.late)
        hedge = (config.hedge, order.hedge, plan.side.opposite, self.symbols, naked, self.working_type)
        self.trade, self.hedger = trade, Hedger(self.ledger, ids, *hedge, trusting=self.trusting)
        self.left = ZERO
        entry.start(market_state.now, order.quote, out)
        webhook = {
            "symbol": f"BINANCE:{instrument.symbol}",
            "side": plan.side.entry.value,
            "qty": str(sized.qty),
            "sl": str(plan.stop),
            "tp1": str(plan.tp1),
            "trail": "AI_SUPERTREND",
        }
        text = f"{plan.side.name} {sized.qty} {instrument.symbol} near {plan.entry}, stop {plan.stop}"
        out.append(Alert("info", text, webhook))

    def flatten(self, reason: str, out: list[Any]) -> None:
        """Close everything at market, and request a snapshot to find unknown positions and orders."""
        self.unexplained.leaving = True
        self.flatten_ms = self.flatten_ms or self.market_state.now
        out.append(RequestSnapshot(f"{reason}: is everything closed?"))
        if self.trade is not None:
            self.trade.close(reason)
        for leg in self.hedger.legs if self.hedger else ():
            if leg.bracket is not None:
                leg.bracket.exit(reason)

    def stop_entering(self, reason: str) -> None:
        """Abort the entry; the position keeps its stops and targets."""
        if self.trade is not None:
            self.trade.entry.abort(reason)

    # Advancing

    def progress(self) -> tuple[Any, ...]:
        """Return a key that changes whenever a part acted without an output."""
        trade, hedger = self.trade, self.hedger
        if trade is None or hedger is None:
            return ()
        bracket = trade.bracket
        return (
            trade.stage,
            trade.entry.phase,
            trade.entry.aborted,
            bracket.exit_reason,
            bracket.stop,
            bracket.closed_ms,
            len(bracket.targets),
            hedger.opened,
            *[(leg.bracket.exit_reason, leg.note) for leg in hedger.legs if leg.bracket],
        )

    def advance(self, at_ms: int, out: list[Any]) -> None:
        """Advance trade, hedge and guards once, as far as the known state allows."""
        if self.trade is not None and self.hedger is not None:
            self._advance_trade(self.trade, self.hedger, at_ms, out)
        if not self.unexplained.qty and not (self.unexplained.orders and any(self.unexplained.orders.values())):
            return
        for index, symbol in enumerate(self.symbols):
            last = self.account.last.get(symbol)
            if last is not None and (symbol in self.unexplained.qty or self.unexplained.orders.get(symbol)):
                side = Side.LONG if self.unexplained.qty.get(symbol, ZERO) > 0 else Side.SHORT
                self.unexplained.advance(
                    self.market_state.instruments[symbol],
                    symbol_index=index,
                    ids=self.unexplained_ids,
                    level=self.market_state.guard_level(symbol, side, last),
                    bracket=self.bracket(symbol),
                    now=self.market_state.now,
                    out=out,
                )

    def _advance_trade(self, trade: Trade, hedger: Hedger, at_ms: int, out: list[Any]) -> None:
        market_state, alpha, leverage = self.market_state, self.symbols[0], self.limits.leverage
        trade.bracket.doubted = not self.heard(alpha)
        trade.advance(
            at_ms, market_state.now, quote=market_state.quote(alpha), price=market_state.price(alpha), out=out
        )
        complete = not hedger.opened and trade.stage is not Stage.PENDING and trade.entered and self.heard(alpha)
        if complete and not trade.bracket.closing:
            hedger.open(
                trade.bracket.bought * trade.bracket.average,
                lambda symbol: market_state.leg_market(symbol, self.account.last.get(symbol), leverage),
                market_state.now,
                out,
            )
        if self.heard(alpha):  # a single message about the trade must not close its hedge
            self.left = trade.left
        hedger.advance(
            at_ms,
            market_state.now,
            alpha_left=self.left if hedger.opened else trade.left,
            alpha_gone=trade.gone and self.heard(alpha),
            prices=lambda symbol: (market_state.price(symbol), market_state.quote(symbol)),
            out=out,
        )
        if trade.stage is Stage.CLOSED and hedger.idle:
            self._finish(trade, hedger, out)

    def _finish(self, trade: Trade, hedger: Hedger, out: list[Any]) -> None:
        notes = tuple(f"{leg.plan.symbol}: {leg.note}" for leg in hedger.legs if leg.note)
        now = self.market_state.now
        record = trade.record(now, net_beta=hedger.net_beta, naked_ms=hedger.naked_ms, notes=notes)
        self.trade = self.hedger = None
        self.account.settle()
        self.ledger.retire()
        out.append(record)
        self.count("trades" if record.fills else "setups_unfilled")
        if record.fills:
            self.limits.on_trade(record.side, record.pnl, now, out)
            result = f"{record.r_multiple:+.2f} R, {record.pnl:+.2f} USDT"
            out.append(Alert("info", f"trade {record.trade_id} closed by {record.exit_reason}: {result}"))
            out.append(RequestSnapshot(f"trade {record.trade_id} is flat"))
        self.sample(out)

    def value_open(self, out: list[Any]) -> None:
        """Record the open trade at the end of the data: the rest is valued at the last closes, without a fee."""
        trade, hedger = self.trade, self.hedger
        if trade is None or not trade.fills:
            return
        now = self.market_state.now
        for symbol in self.symbols:
            qty = self.ledger.qty(symbol)
            if qty:
                side, close = "SELL" if qty > 0 else "BUY", self.account.last[symbol]
                trade.note_fill(TradeFill(now, symbol, END_ROLE, side, abs(qty), close, ZERO, False))
        naked_ms = hedger.naked_ms if hedger else 0
        record = trade.record(now, net_beta=hedger.net_beta if hedger else 1.0, naked_ms=naked_ms, notes=())
        out.append(replace(record, exit_reason="end_of_data"))

    def sample(self, out: list[Any], *, point: bool = True) -> None:
        """Sample equity into the limits and, unless `point` is False, into a record."""
        wallet, now = self.account.wallet, self.market_state.now
        equity = wallet + self.account.unrealised
        self.limits.on_equity(now, equity, out)
        if point:
            out.append(EquityPoint(now, wallet, equity, self.limits.peak, self.limits.day_r))

    # Deadlines and invariants

    def deadlines(self) -> dict[str, list[int]]:
        """Return the deadlines of each part in exchange ms, passed ones included."""
        due: dict[str, list[int]] = {}
        if self.trade is not None and self.hedger is not None:
            due["entry"] = self.trade.entry.deadlines()
            due["trade"] = self.trade.deadlines()
            due["hedge"] = self.hedger.deadlines()
        busy = (
            self.ledger.orders
            or self.suspects
            or self.claims
            or self.contradictions
            or self.owed
            or self.orphans
            or self.alive
            or self.unheard()
        )
        if busy or self.flatten_ms or self.deaf_ms:
            due["orders"] = self.ledger.deadlines()
            doubts = self.doubts()
            if doubts:
                again_ms = self.doubt_ms + self.pause_ms
                due["orders"] += [max(at, again_ms) for at, _ in doubts]
        if self.unexplained.qty:
            due["strays"] = self.unexplained.deadlines()
        return due

    def check(self) -> None:
        """Verify the invariants of the ledger.

        Raises
        ------
        InvariantError
            A position is not the sum of its fills, or lacks its stop without its naked time being measured.
        """
        unexplained, ledger = self.unexplained.qty, self.ledger
        for symbol in self.symbols:
            bracket = self.bracket(symbol)
            sums = bracket.sums() if bracket else None
            own = bracket.side.sign * sums.held if bracket and sums else ZERO
            if unexplained:
                own += unexplained.get(symbol, ZERO)
            if own != ledger.qty(symbol):
                raise InvariantError(f"{symbol}: held {own}, unexplained {unexplained}, fills {ledger.qty(symbol)}")
            if bracket and sums and sums.exposed > sums.cover and bracket.naked_since is None:
                raise InvariantError(f"{symbol}: {bracket.exposed} held, {bracket.cover} covered, and nobody counts")
