"""The engine: handle one event at a time, in order, and return the intents and records that follow.

An event is booked first, then all parts advance until nothing changes any more. Time is the largest exchange time seen; every
deadline is both a timer and a comparison at each event, so a lost timer causes only a short delay. Nothing here reads a clock,
draws a random number or does IO: the same events give the same state and outputs.

Decisions (strategy 1): one per closed BTC bar, once the legs' bars of the same open time have arrived or after `leg_wait_ms`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, assert_never

from bot.config import Config
from bot.core.errors import InvariantError
from bot.core.events import (
    AccountSnapshot,
    AccountUpdate,
    CancelRejected,
    Command,
    Event,
    FeedLost,
    FeedRestored,
    Fill,
    Funding,
    KlineClosed,
    LeverageSet,
    MarginCall,
    MarginTypeSet,
    OrderUpdate,
    Quotes,
    SessionStarted,
    TimerFired,
)
from bot.core.intents import Alert, CancelTimer, Intent, RequestSnapshot, SetLeverage, SetTimer
from bot.core.records import Decision, Record
from bot.core.types import REAL_VENUES, Denied, Kline, OrderStatus, to_decimal
from bot.engine.decision import Desk
from bot.engine.early import Early, EarlyBar, marked
from bot.engine.liquidation import LiquidationWatch
from bot.engine.market_state import BASE_MS, MarketState
from bot.engine.portfolio import Portfolio
from bot.hedge.hedger import Hedger
from bot.orders.ids import ENVIRONMENTS
from bot.orders.maker_taker import Phase
from bot.risk.limits import Limits
from bot.risk.vetoes import VetoEvent
from bot.strategy import evidence
from bot.strategy.rules import Row
from bot.strategy.trade import Trade

LEVERAGE_RETRY_MS: Final = 60_000
PASSES: Final = 12  # a change may enable the next; more than a few would be an endless loop
USER: Final = "user"  # the stream of our own orders and fills
# Keys, permissions, account mode, trading restricted by the exchange: no opening order can succeed until a person acts.
FORBIDDEN: Final = frozenset({-1002, -1022, -2014, -2015, -2017, -4060, -4061, -4087, -4088, -4109, -4400, -4401})

Output = Intent | Record


def _only_bars(events: Sequence[Event]) -> bool:
    return all([type(event) is KlineClosed for event in events])  # noqa: C419


class FeatureSource(Protocol):
    """Turns a closed bar into a row of values."""

    def step(self, event: KlineClosed) -> Row | None:
        """Advance the bar's symbol and return its row; None while not available, or for a rejected bar."""


@dataclass(slots=True)
class Pending:
    """A BTC bar whose decision waits for the legs' bars."""

    kline: Kline
    row: Row | None
    deadline_ms: int
    early: bool = False


class Engine:
    """The trading bot without IO.

    Parameters
    ----------
    features
        Steps the indicators; one row per closed base bar.
    venue
        sim, backtest, paper, testnet or live: determines risk stage, id letter and how strict start-up is.
    calendar
        (ms, name, impact) of the events with a blackout for entries.
    memory
        What `memory` returned when the last session ended: peak, soft stop, ramp.

    Raises
    ------
    InvariantError
        The venue is unknown.
    """

    def __init__(
        self,
        config: Config,
        features: FeatureSource,
        *,
        venue: str,
        calendar: tuple[tuple[int, str, str], ...] = (),
        memory: Mapping[str, Any] | None = None,
    ) -> None:
        if venue not in ENVIRONMENTS:
            raise InvariantError(f"venue {venue!r} is not one of {', '.join(ENVIRONMENTS)}")
        self.config, self.features, self.venue = config, features, venue
        self.alpha = config.data.symbols[0]
        self.legs = config.data.symbols[1:] if config.hedge.enabled else ()
        mode = config.backtest.soft_stop if venue == "backtest" else "halt"
        self.limits = Limits(config.risk, venue, mode)
        self.market_state = MarketState(config)
        working = "MARK_PRICE" if config.trade.working_type == "mark" else "CONTRACT_PRICE"
        self.portfolio = Portfolio(
            self.market_state, self.limits, ENVIRONMENTS[venue], working, trusting=venue == "backtest"
        )
        events = tuple(VetoEvent(*event) for event in sorted(calendar))
        self.desk = Desk(self.market_state, self.portfolio.account, self.limits, self.legs, events)
        self.reconciled = venue not in REAL_VENUES  # no entry there before the first account snapshot
        self.entries_off = ""
        if memory:
            self.remember(memory)
        self.leaving = ""  # why this process makes no more entries: it is being stopped
        self.early = Early(self.alpha)
        self.pending: Pending | None = None
        self.rest: tuple[Any, ...] = ()  # the state after the last full pass, which `calm` compares with
        self.every_bar_decides = True  # a back-test decides only on bars that signal: the others' decision is known
        self.leverage_asked: dict[str, int] = {}
        self.liquidation = LiquidationWatch()
        self.timers: dict[str, int] = {}
        self.last_decision: Decision | None = None

    @property
    def now(self) -> int:
        """The largest exchange time seen."""
        return self.market_state.now

    @property
    def trade(self) -> Trade | None:
        """The open trade or setup."""
        return self.portfolio.trade

    @property
    def hedger(self) -> Hedger | None:
        """The hedge legs of the open trade."""
        return self.portfolio.hedger

    def handle(self, event: Event) -> list[Output]:
        """Book one event and return the intents and records that follow from it.

        Raises
        ------
        InvariantError
            The event contradicts the ledger, or an invariant is broken: our own bug.
        """
        return self.handle_all((event,))

    def handle_all(self, events: Sequence[Event]) -> list[Output]:
        """Book several events of the same time, then advance once: the result does not depend on their order."""
        out: list[Any] = []
        going = False
        for event in events:
            if event.at_ms > self.market_state.now:
                self.market_state.now = event.at_ms
            going = self._book(event, out) or going
        if going and not self.holding and not (_only_bars(events) and self.calm()):
            self._run(events[-1].at_ms, out)
            self.portfolio.check()
            self._arm(out)
            self.rest = self._at_rest()
        return out

    def _at_rest(self) -> tuple[Any, ...]:
        """Return a key that changes whenever an order, a request or a reached level does."""
        reached = [t.reached for t in self.trade.bracket.targets] if self.trade is not None else []
        return (self.portfolio.ledger.version, self.portfolio.progress(), reached)

    def calm(self) -> bool:
        """Return whether nothing could act: no order or request has changed since the last pass, and no deadline has passed.

        Then a closed bar alone needs no full pass; this holds for most bars in a trade.
        """
        trade, portfolio = self.trade, self.portfolio
        return (
            trade is not None
            and self.pending is None
            and trade.entry.phase is Phase.DONE
            and not portfolio.unexplained.qty
            and self.now < min(self.timers.values(), default=0)
            and self.rest == self._at_rest()
        )

    def _book(self, event: Event, out: list[Any]) -> bool:
        """Book one event; return False if no advance is needed."""
        market_state, portfolio = self.market_state, self.portfolio
        match event:
            case KlineClosed():
                self._on_kline(event, out)
                return not event.history and self.wants_quotes  # not: a leg's bar with nothing open
            case Quotes():
                market_state.take_quotes(event)
                return self.wants_quotes
            case Funding():
                market_state.funding[event.symbol] = event
                return self.trade is not None
            case OrderUpdate():
                portfolio.on_update(event, out)
                self._stop_if_forbidden(event, out)
            case CancelRejected():
                portfolio.on_cancel_rejected(event, out)
            case Fill():
                portfolio.on_fill(event, out)
            case AccountUpdate():
                portfolio.on_account(event, out)
                self.liquidation.on_report(event)
            case AccountSnapshot():
                portfolio.on_snapshot(event, out)
                self.liquidation.on_report(event)
                self.reconciled = True
            case SessionStarted():
                self._on_session(event, out)
            case LeverageSet():
                self.liquidation.on_leverage(event, market_state, portfolio, out)
                self.leverage_asked.pop(event.symbol, None)
            case MarginTypeSet():
                self.liquidation.on_margin_type(event, market_state, portfolio, out)
            case MarginCall():
                self.liquidation.on_margin_call(event, market_state, portfolio, out)
            case TimerFired():
                self.timers.pop(event.name, None)
            case FeedLost():
                market_state.lost[event.stream] = event.reason
                if event.stream == USER:
                    portfolio.deaf_ms = portfolio.deaf_ms or market_state.now
                    out.append(RequestSnapshot("user stream lost"))
            case FeedRestored():
                market_state.lost.pop(event.stream, None)
                if event.stream == USER:
                    portfolio.deaf_ms = 0
                    out.append(RequestSnapshot("user stream restored"))
            case Command():
                self._on_command(event, out)
            case _:
                assert_never(event)
        return True

    def resume(self) -> list[Intent]:
        """Return the timers that a replayed state needs, and a request for an account snapshot."""
        out: list[Any] = []
        self.timers.clear()
        self._arm(out)
        out.append(RequestSnapshot("start"))
        return out

    @property
    def holding(self) -> bool:
        """Whether no action is allowed yet: after a restart with something open, before the first account snapshot.

        The state is stale then: a stop whose acceptance was missed would be taken for missing.
        """
        return not self.reconciled and not self.portfolio.flat

    # Events handled by the engine itself

    def _on_session(self, event: SessionStarted, out: list[Any]) -> None:
        market_state, portfolio = self.market_state, self.portfolio
        told = {i.symbol: i for i in event.instruments}
        missing = [s for s in self.config.data.symbols if s not in told]
        if missing:
            raise InvariantError(f"the venue told no instrument for {', '.join(missing)}")
        market_state.take_instruments(told)
        if not portfolio.session_ms:
            portfolio.session_ms = event.at_ms
            portfolio.unexplained_ids.sequence = event.at_ms // BASE_MS
            portfolio.account.base = portfolio.agreed = event.wallet
            portfolio.agreed_ms = event.at_ms
        if event.at_ms > portfolio.resumed_ms:
            portfolio.ledger.forget_questions()
        portfolio.resumed_ms, portfolio.deaf_ms, self.leaving = event.at_ms, 0, ""
        market_state.lost.clear()  # streams lost in the last session
        self.reconciled = self.venue not in REAL_VENUES
        portfolio.sample(out, point=False)

    def _on_kline(self, event: KlineClosed, out: list[Any]) -> None:
        kline, market_state = event.kline, self.market_state
        series = market_state.series.get(kline.symbol)
        if series is None or kline.interval_ms != BASE_MS or not series.is_new(kline):
            return
        if event.early:
            self._on_early(event, out)
            return
        row = self.features.step(event)
        series.add(kline, row)
        close = to_decimal(kline.close)
        self.portfolio.account.last[kline.symbol] = close
        market_state.take_price(kline.symbol, close, kline.close_ms)
        if event.history:
            return
        if kline.symbol == self.alpha and self.pending is not None:
            self._decide(self.pending, out)
        confirmed = self.early.confirm(kline, row, self.portfolio.counters) if self.early.bars else None
        if kline.symbol != self.alpha:
            return
        if self.trade is not None:
            self.trade.on_bar(kline, row)
        self.portfolio.sample(out)
        if self.early.decision is not None and self.early.decision.open_ms == kline.open_ms:
            if confirmed is not None:
                out.append(confirmed)
                self.last_decision = confirmed
            return  # this bar already has its decision
        if self.every_bar_decides or row is None or evidence.signal(row):
            self.pending = Pending(kline, row, market_state.now + self.config.entry.leg_wait_ms)

    def _on_early(self, event: KlineClosed, out: list[Any]) -> None:
        """Evaluate a bar that is not confirmed yet, on a copy of the state."""
        kline, peek = event.kline, getattr(self.features, "peek", None)
        series = self.market_state.series[kline.symbol]
        if peek is None or kline.open_ms != series.last_open_ms + BASE_MS:
            return  # an earlier bar is missing: the decision waits for the confirmed bar
        row = peek(event)
        self.early.bars[kline.symbol] = EarlyBar(kline, row)
        if kline.symbol == self.alpha:
            if self.pending is not None:
                self._decide(self.pending, out)
            self.pending = Pending(kline, row, self.market_state.now + self.config.entry.leg_wait_ms, early=True)

    def _stop_if_forbidden(self, event: OrderUpdate, out: list[Any]) -> None:
        if event.status is OrderStatus.REJECTED and event.code in FORBIDDEN and not self.entries_off:
            self.entries_off = f"the exchange refuses us: {event.code} {event.reason}"
            out.append(Alert("critical", f"entries are off: {event.code} {event.reason}; check keys and account"))

    def _on_command(self, event: Command, out: list[Any]) -> None:
        reason = str(event.args.get("reason", event.name))
        match event.name:
            case "arm":
                out.append(Alert("info", self.limits.arm()))
            case "stop_entries":
                self.entries_off = reason
            case "start_entries":
                self.entries_off = ""
                self.portfolio.accept_wallet = self.portfolio.owed is not None
            case "flatten":
                self.entries_off = reason
                self.portfolio.flatten(reason, out)
            case "shutdown":
                self.leaving = reason
                self.portfolio.stop_entering(reason)
            case "end_of_data":
                self.leaving = reason
                self.portfolio.value_open(out)
            case other:
                out.append(Alert("warning", f"command {other!r} is not known"))

    # Advancing

    def _run(self, at_ms: int, out: list[Any]) -> None:
        """Advance all parts until nothing changes any more."""
        portfolio = self.portfolio
        before = self._progress(out)
        for _ in range(PASSES):
            if self.pending is not None and self._legs_ready(self.pending):
                self._decide(self.pending, out)
            self.liquidation.advance(self.market_state, portfolio, out)
            portfolio.advance(at_ms, out)
            self._set_leverage(out)
            after = self._progress(out)
            if after == before:
                break
            before = after
        else:
            raise InvariantError(f"no rest after {PASSES} passes over one event")
        portfolio.doubt(out)

    def _progress(self, out: list[Any]) -> tuple[Any, ...]:
        return (len(out), self.pending is None, self.portfolio.progress())

    def _set_leverage(self, out: list[Any]) -> None:
        """Request the leverage in force while flat."""
        market_state = self.market_state
        if self.trade is not None or not market_state.instruments:
            return
        in_force = self.limits.leverage
        for symbol in (self.alpha, *self.legs):
            wanted = market_state.wanted_leverage(symbol, in_force)
            if market_state.leverage.get(symbol) == wanted:
                continue
            asked = self.leverage_asked.get(symbol)
            due = asked is None or market_state.now - asked >= LEVERAGE_RETRY_MS
            if due and not self.portfolio.ledger.qty(symbol):
                self.leverage_asked[symbol] = market_state.now
                out.append(SetLeverage(symbol, wanted))

    def _legs_ready(self, pending: Pending) -> bool:
        series = self.market_state.series
        open_ms = pending.kline.open_ms
        waiting = any(
            series[s].last_open_ms < open_ms and not (pending.early and self.early.has(s, open_ms)) for s in self.legs
        )
        return not waiting or self.now >= pending.deadline_ms

    def _decide(self, pending: Pending, out: list[Any]) -> None:
        """Make the decision on a closed BTC bar, and enter if it allows."""
        self.pending = None
        if pending.early:
            with self.early.overlaid(self.market_state.series):
                verdict = self.desk.decide(pending.kline, pending.row, self._refusals())
            verdict = replace(verdict, decision=marked(verdict.decision, self.early.bars))
            self.early.decision = verdict.decision
        else:
            verdict = self.desk.decide(pending.kline, pending.row, self._refusals())
        self.last_decision = verdict.decision
        out.append(verdict.decision)
        self.portfolio.count(f"decision_{verdict.decision.code}")
        if verdict.decision.signal:
            self.portfolio.count("signals")
        if verdict.order is not None and pending.row is not None:
            self.portfolio.enter(verdict.order, pending.row, out)

    def _refusals(self) -> list[Denied]:
        """Return the current reasons against any entry."""
        denied = []
        if self.trade is not None:
            denied.append(Denied("trade_open", f"trade {self.trade.trade_id} is {self.trade.stage}"))
        if self.entries_off or self.leaving:
            denied.append(Denied("entries_off", f"entries are off: {self.entries_off or self.leaving}"))
        if self.portfolio.unexplained.qty or self.portfolio.suspects:
            named = ", ".join({**self.portfolio.unexplained.qty, **self.portfolio.suspects})
            denied.append(Denied("unexplained", f"position that no trade explains: {named}"))
        denied += [Denied("contradiction", found.text) for found in self.portfolio.contradictions.values()]
        if self.portfolio.claims:
            denied.append(Denied("unexplained", "a fill of an unknown order waits to be borne out"))
        if self.portfolio.orphans:
            named = ", ".join(self.portfolio.orphans)
            denied.append(Denied("unexplained", f"protective orders that nobody knows: {named}"))
        if self.portfolio.owed is not None:
            denied.append(Denied("wallet", f"the wallet differs by {self.portfolio.owed.gap} from our trades"))
        if not self.reconciled:
            denied.append(Denied("not_reconciled", "the account has not been looked at yet"))
        denied += self.liquidation.denied((self.alpha, *self.legs))
        return denied

    # Timers

    def _deadlines(self) -> dict[str, int]:
        """Return the next deadline of each timer, exchange ms."""
        due = self.portfolio.deadlines()
        if self.pending is not None:
            due["legs"] = [self.pending.deadline_ms]
        if self.leverage_asked and self.trade is None:
            due["leverage"] = [at + LEVERAGE_RETRY_MS for at in self.leverage_asked.values()]
        if self.liquidation.due:
            due["liquidation"] = list(self.liquidation.due.values())
        now, soonest = self.now, {}
        for name, times in due.items():
            ahead = [at for at in times if at > now]
            if ahead:
                soonest[name] = min(ahead)
        return soonest

    def _arm(self, out: list[Any]) -> None:
        """Set, move and cancel timers to match the deadlines."""
        wanted = self._deadlines()
        for name in [n for n in self.timers if n not in wanted]:
            del self.timers[name]
            out.append(CancelTimer(name))
        for name, at in wanted.items():
            if self.timers.get(name) != at:
                self.timers[name] = at
                out.append(SetTimer(name, at - self.now))

    # Public state

    @property
    def wants_quotes(self) -> bool:
        """Whether quotes are needed now: a setup or a position is open, or a decision is due."""
        return self.trade is not None or self.pending is not None or bool(self.portfolio.unexplained.qty)

    @property
    def flat(self) -> bool:
        """Whether nothing is open: no trade, no position, no live order."""
        return self.portfolio.flat and not any(o.live for o in self.portfolio.ledger.orders.values())

    def remember(self, memory: Mapping[str, Any]) -> None:
        """Restore what `memory` returned, before the first event of a session."""
        self.limits.remember(dict(memory))
        self.entries_off = str(memory.get("entries_off", ""))

    def memory(self) -> dict[str, Any]:
        """Return the state that has to survive into the next session, as plain JSON."""
        return {**self.limits.memory(), "entries_off": self.entries_off}
