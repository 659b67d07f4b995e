"""Performs the engine's intents: sends, cancels, waits, and answers each with an event.

Orders. An accepted order answers with its state (`OrderUpdate`; a market or IOC order asks for RESULT and so tells how it ended,
others answer NEW), a refused one with REJECTED and Binance's code. When the outcome is not known (no reply within
`reply_timeout_ms`, a lost connection, "unknown error"), the answer is UNKNOWN, and the order is looked up by its client
id after 0.3, 0.7, 1.5, 3 and 6 seconds. It is declared absent (REJECTED with -2013) only when the last two look-ups in a row did
not find it, the receiving window (5 s) is over, and none of the account's trades since belongs to it. Nothing is ever sent a
second time unless it certainly was not done: a refusal for overload is repeated after 200, 400 and 800 ms, unless the
engine has asked to cancel that order meanwhile. A reply that comes late is still heard.

Cancels may be repeated freely, and are, until the order's end is known. `CancelRejected` says that the exchange knows no
such order. A cancel that overtakes its order waits for that order's fate.

Timers run on the clock, counted from the event whose handling set them.
"""

import logging
from collections.abc import Callable
from typing import TypeGuard, assert_never

from bot.core.clock import Cancellable
from bot.core.errors import BotError
from bot.core.events import CancelRejected, Event, LeverageSet, OrderUpdate, TimerFired
from bot.core.intents import (
    Alert,
    CancelOrder,
    CancelTimer,
    Intent,
    PlaceOrder,
    RequestSnapshot,
    SetLeverage,
    SetTimer,
)
from bot.core.types import OrderStatus
from bot.execution import wire
from bot.execution.gateway import Gateway, is_absent
from bot.execution.outcomes import NO_SUCH_ORDER, UNKNOWN_ORDER, Accepted, Outcome, ReadFailed, Rejected, Unknown
from bot.execution.tasks import Tasks

log = logging.getLogger(__name__)

POLL_AT_MS = (
    300,
    700,
    1_500,
    3_000,
    6_000,
)  # since the outcome became unknown; the last lies beyond the receiving window
POLL_ON_MS = 6_000
BUSY_RETRIES_MS = (200, 400, 800)
SNAPSHOT_OVERLAP_MS = 60_000
DUPLICATE_ID = -4116


class _Placing:
    """One order between its intent and the knowledge of what became of it."""

    __slots__ = ("absent", "intent", "outcome", "replied", "resolved", "searching", "sent_ms", "withdrawn")

    def __init__(self, intent: PlaceOrder, tasks: Tasks) -> None:
        self.intent = intent
        self.sent_ms = tasks.clock.now_ms()
        self.outcome: Outcome | None = None  # of the request itself
        self.replied = tasks.latch()
        self.resolved = tasks.latch()  # the order's fate is known
        self.withdrawn = False  # a cancel was asked for, or the outcome is unknown: no more repetition
        self.searching = False
        self.absent = False  # it was told to the engine that there is no such order


class Executor:
    """Turns intents into requests and timers.

    Parameters
    ----------
    gateway
        The exchange's REST side.
    tasks
        Clock, waiting and counting.
    emit
        Takes every event; it may be called at any time from the event loop.
    symbols
        What a snapshot covers.
    on_alert
        Takes `Alert` intents, and the executor's own.
    since_ms
        From when on a snapshot tells fills; moves forward with each snapshot.
    reply_timeout_ms
        How long, on the clock, an order's reply may take before its outcome counts as unknown.
    """

    def __init__(
        self,
        gateway: Gateway,
        tasks: Tasks,
        emit: Callable[[Event], None],
        *,
        symbols: tuple[str, ...],
        on_alert: Callable[[Alert], None],
        since_ms: int | None = None,
        reply_timeout_ms: int = 5_000,
    ) -> None:
        self.gateway = gateway
        self.tasks = tasks
        self.symbols = symbols
        self.since_ms = tasks.clock.now_ms() if since_ms is None else since_ms
        self.reply_timeout_ms = reply_timeout_ms
        self._emit = emit
        self._on_alert = on_alert
        self._placing: dict[str, _Placing] = {}
        self._placed: dict[str, PlaceOrder] = {}
        self._timers: dict[str, Cancellable] = {}
        self._snapshot_running = False
        self._snapshot_wanted = False

    # Doors -------------------------------------------------------------------------------------------------------------

    def perform(self, intent: Intent, *, at_ms: int | None = None) -> None:
        """Start what the intent asks for; `at_ms` is the time of the event whose handling produced it."""
        match intent:
            case PlaceOrder():
                self._start_placing(intent)
            case CancelOrder():
                if intent.client_id in self._placing:
                    self._placing[intent.client_id].withdrawn = True
                self.tasks.spawn(self._cancel(intent), name=f"cancel {intent.client_id}")
            case SetTimer():
                self._set_timer(intent, at_ms)
            case CancelTimer():
                self._forget_timer(intent.name)
            case SetLeverage():
                self.tasks.spawn(self._set_leverage(intent), name=f"leverage {intent.symbol}")
            case RequestSnapshot():
                self._request_snapshot(intent.reason)
            case Alert():
                self._on_alert(intent)
            case _:
                assert_never(intent)

    def observe(self, event: Event) -> None:
        """Hear an event of the user stream: it may end the search for an order whose outcome was unknown."""
        if isinstance(event, OrderUpdate) and event.status is not OrderStatus.UNKNOWN:
            placing = self._placing.get(event.client_id)
            if placing is not None and not placing.absent:
                self._known(placing, event.status)
            elif event.status.is_terminal:
                self._placed.pop(event.client_id, None)

    def close(self) -> None:
        """Forget all timers; running requests end with `Tasks.close`."""
        for name in list(self._timers):
            self._forget_timer(name)

    # Timers ------------------------------------------------------------------------------------------------------------

    def _set_timer(self, intent: SetTimer, at_ms: int | None) -> None:
        self._forget_timer(intent.name)
        now = self.tasks.clock.now_ms()
        due_ms = (now if at_ms is None else at_ms) + intent.delay_ms

        def fire() -> None:
            del self._timers[intent.name]
            self._emit(TimerFired(max(self.tasks.clock.now_ms(), due_ms), intent.name))

        self._timers[intent.name] = self.tasks.clock.call_later(max(due_ms - now, 0), fire)

    def _forget_timer(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()

    # Placing -----------------------------------------------------------------------------------------------------------

    def _start_placing(self, intent: PlaceOrder) -> None:
        wire.place_params(intent)  # an intent that cannot be sent is our own bug: raise it here, not in a task
        placing = _Placing(intent, self.tasks)
        self._placing[intent.client_id] = placing
        if len(self._placed) > 5_000:
            for client_id in list(self._placed)[:2_500]:
                del self._placed[client_id]
        self._placed[intent.client_id] = intent
        self.tasks.spawn(self._post(placing), name=f"send {intent.client_id}")
        self.tasks.spawn(self._follow(placing), name=f"follow {intent.client_id}")

    async def _post(self, placing: _Placing) -> None:
        """Send the order, again only after a refusal for overload, and note how it ended."""
        intent = placing.intent
        outcome: Outcome = await self.gateway.place(intent)
        for delay_ms in BUSY_RETRIES_MS:
            if not isinstance(outcome, Rejected) or not (outcome.busy or (outcome.limited and wire.is_exit(intent))):
                break
            await self.tasks.sleep(delay_ms)
            if placing.withdrawn:
                break
            outcome = await self.gateway.place(intent)
        placing.outcome = outcome
        placing.replied.set()
        if placing.absent:
            await self._late_surprise(placing, outcome)
        elif placing.searching and not placing.resolved.is_set and self._is_told(outcome):
            self._tell(placing, outcome)  # late, but it ends the search

    async def _follow(self, placing: _Placing) -> None:
        """Wait for the reply and tell the engine; without one, search."""
        intent = placing.intent
        try:
            if not await placing.replied.wait(self.reply_timeout_ms):
                await self._search(placing, f"no reply within {self.reply_timeout_ms} ms")
                return
            outcome = placing.outcome
            assert outcome is not None
            if self._is_told(outcome):
                self._tell(placing, outcome)
            else:
                in_use = "the client id is in use: an earlier request was accepted"
                await self._search(placing, outcome.reason if isinstance(outcome, Unknown) else in_use)
        finally:
            placing.resolved.set()
            if self._placing.get(intent.client_id) is placing:
                del self._placing[intent.client_id]

    def _tell(self, placing: _Placing, outcome: Accepted | Rejected) -> None:
        if isinstance(outcome, Accepted):
            assert outcome.update is not None
            self._emit(outcome.update)
            self._known(placing, outcome.update.status)
        else:
            self._emit(self._own_update(placing.intent, OrderStatus.REJECTED, outcome.message, code=outcome.code))
            self._known(placing, OrderStatus.REJECTED)

    def _known(self, placing: _Placing, status: OrderStatus) -> None:
        placing.resolved.set()
        if status.is_terminal:
            self._placed.pop(placing.intent.client_id, None)

    def _own_update(self, intent: PlaceOrder, status: OrderStatus, reason: str, *, code: int = 0) -> OrderUpdate:
        """Return a state that the exchange did not send an order's description for."""
        return OrderUpdate(
            at_ms=self.tasks.clock.now_ms(),
            client_id=intent.client_id,
            symbol=intent.symbol,
            status=status,
            side=intent.side,
            qty=intent.qty,
            filled_qty=wire.ZERO,
            average_price=wire.ZERO,
            algo=intent.algo,
            code=code,
            reason=reason,
        )

    # Searching ---------------------------------------------------------------------------------------------------------

    async def _search(self, placing: _Placing, reason: str) -> None:
        """Look an order up until its fate is known."""
        placing.withdrawn = placing.searching = True
        if not placing.resolved.is_set:
            self._emit(self._own_update(placing.intent, OrderStatus.UNKNOWN, reason))
        log.warning("outcome of %s unknown: %s", placing.intent.client_id, reason)
        misses, waited = 0, 0
        while True:
            polls = [at for at in POLL_AT_MS if at > waited]
            next_ms = polls[0] if polls else waited + POLL_ON_MS
            if await placing.resolved.wait(next_ms - waited):
                return
            waited = next_ms
            found = await self.gateway.query(placing.intent.client_id, placing.intent.symbol, algo=placing.intent.algo)
            if placing.resolved.is_set:
                return
            if isinstance(found, Accepted):
                self._tell(placing, found)
                return
            misses = misses + 1 if is_absent(found) else 0
            if misses >= 2 and not [at for at in POLL_AT_MS if at > waited] and await self._is_proved_absent(placing):
                return

    @staticmethod
    def _is_told(outcome: Outcome | None) -> TypeGuard[Accepted | Rejected]:
        """Whether a reply says what became of the order."""
        return isinstance(outcome, Accepted) or (isinstance(outcome, Rejected) and outcome.code != DUPLICATE_ID)

    async def _is_proved_absent(self, placing: _Placing) -> bool:
        """Ask the account's trades, and settle the order's fate if they allow it."""
        intent = placing.intent
        try:
            traded = await self.gateway.find_trades(intent.client_id, intent.symbol, placing.sent_ms - 1_000)
        except BotError as error:
            log.warning("cannot prove that %s is absent: %s", intent.client_id, error)
            return False
        if placing.resolved.is_set:
            return True
        if traded is not None:
            self._tell(placing, Accepted(None, traded))
        else:
            placing.absent = True
            self._tell(placing, Rejected(NO_SUCH_ORDER, "not placed: the exchange knows no such order"))
        return True

    async def _late_surprise(self, placing: _Placing, outcome: Outcome) -> None:
        """Tell of an order that was declared absent and was accepted after all, and take it back."""
        if not isinstance(outcome, Accepted) or outcome.update is None:
            return
        intent = placing.intent
        self._emit(outcome.update)
        self._on_alert(
            Alert("critical", f"order {intent.client_id} was accepted long after it was sent: cancelling it")
        )
        if not outcome.update.status.is_terminal:
            await self._cancel(CancelOrder(intent.client_id, intent.symbol, intent.algo))

    # Cancelling --------------------------------------------------------------------------------------------------------

    async def _cancel(self, intent: CancelOrder) -> None:
        """Cancel until the order's end is known."""
        waits = iter((*POLL_AT_MS, *(POLL_ON_MS,) * 10))
        while True:
            outcome = await self.gateway.cancel(intent, known=self._placed.get(intent.client_id))
            if isinstance(outcome, Accepted):
                assert outcome.update is not None
                self._emit(outcome.update)
                if outcome.update.status.is_terminal:
                    self._placed.pop(intent.client_id, None)
                    return
            elif isinstance(outcome, Rejected) and not (outcome.busy or outcome.limited):
                if await self._settle_refused_cancel(intent, outcome):
                    return
            else:
                log.warning("cancel of %s: %s", intent.client_id, outcome)
                found = await self._look(intent)
                if isinstance(found, OrderUpdate) and found.status.is_terminal:
                    return
            delay_ms = next(waits, None)
            if delay_ms is None:
                self._emit(self._cancel_rejected(intent, 0, "the cancel's outcome stays unknown"))
                return
            await self.tasks.sleep(delay_ms)

    async def _settle_refused_cancel(self, intent: CancelOrder, refusal: Rejected) -> bool:
        """Find out what a refused cancel means; return False when the cancel should be sent again."""
        if refusal.code not in (UNKNOWN_ORDER, NO_SUCH_ORDER):
            self._emit(self._cancel_rejected(intent, refusal.code, refusal.message))
            return True
        found = await self._look(intent)
        if isinstance(found, OrderUpdate):
            return found.status.is_terminal or await self._cancel_triggered(intent, found)
        if not is_absent(found):
            return False
        placing = self._placing.get(intent.client_id)
        if placing is not None:  # it overtook the order: wait for the order's fate, then see
            await placing.resolved.wait()
            return placing.absent or isinstance(placing.outcome, Rejected)
        self._emit(self._cancel_rejected(intent, refusal.code, refusal.message))
        return True

    async def _look(self, intent: CancelOrder) -> OrderUpdate | Outcome:
        """Ask for the order and tell the engine what is found."""
        found = await self.gateway.query(intent.client_id, intent.symbol, algo=intent.algo)
        if isinstance(found, Accepted) and found.update is not None:
            self._emit(found.update)
            if found.update.status.is_terminal:
                self._placed.pop(intent.client_id, None)
            return found.update
        return found

    async def _cancel_triggered(self, intent: CancelOrder, found: OrderUpdate) -> bool:
        """Cancel the order that a triggered stop has become: as a stop it is beyond cancelling."""
        if intent.algo and not found.algo:
            await self._cancel(CancelOrder(intent.client_id, intent.symbol, algo=False))
            return True
        return False

    def _cancel_rejected(self, intent: CancelOrder, code: int, reason: str) -> CancelRejected:
        return CancelRejected(self.tasks.clock.now_ms(), intent.client_id, intent.symbol, code, reason)

    # The rest ----------------------------------------------------------------------------------------------------------

    async def _set_leverage(self, intent: SetLeverage) -> None:
        """Set the leverage; when that is refused, tell the engine which one holds."""
        outcome = await self.gateway.set_leverage(intent.symbol, intent.leverage)
        if isinstance(outcome, Accepted):
            holds = wire.integer(outcome.payload, "leverage")
        else:
            why = outcome.message if isinstance(outcome, Rejected) else outcome.reason
            try:
                holds = wire.integer(await self.gateway.symbol_config(intent.symbol), "leverage")
            except BotError as error:
                self._on_alert(
                    Alert("warning", f"leverage {intent.leverage} of {intent.symbol} not set: {why}; {error}")
                )
                return
            self._on_alert(
                Alert("warning", f"leverage {intent.leverage} of {intent.symbol} not set: {why}; it stays {holds}")
            )
        self._emit(LeverageSet(self.tasks.clock.now_ms(), intent.symbol, holds))

    def _request_snapshot(self, reason: str) -> None:
        """Start reading a snapshot; one that is asked for while another is read follows it."""
        log.info("snapshot wanted: %s", reason)
        self._snapshot_wanted = True
        if not self._snapshot_running:
            self._snapshot_running = True
            self.tasks.spawn(self._snapshots(), name="snapshot")

    async def _snapshots(self) -> None:
        try:
            while self._snapshot_wanted:
                self._snapshot_wanted = False
                try:
                    snapshot = await self.gateway.snapshot(self.symbols, self.since_ms)
                except ReadFailed as error:
                    self._on_alert(Alert("warning", f"no snapshot of the account: {error}"))
                    self._snapshot_wanted = True
                    await self.tasks.sleep(5_000)
                    continue
                self.since_ms = max(self.since_ms, snapshot.at_ms - SNAPSHOT_OVERLAP_MS)
                self._emit(snapshot)
        finally:
            self._snapshot_running = False
