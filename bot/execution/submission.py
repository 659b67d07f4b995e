"""Send orders, and find out their outcome when the reply does not give it (venue notes 2.12).

An accepted order is answered with its state, a rejected one with REJECTED and Binance's code. When the outcome is unknown (no
reply within `reply_timeout_ms`, a lost connection, "unknown error"), the answer is UNKNOWN, and the order is queried by its
client id after 0.3, 0.7, 1.5, 3 and 6 seconds. It is declared absent (REJECTED with -2013) only when the last two queries in a
row did not find it, `recvWindow` (5 s) is over, and none of the account's trades since belongs to it. Nothing is ever sent
again unless it certainly was not executed: a rejection for overload is retried after 200, 400 and 800 ms, unless the engine has
requested to cancel that order meanwhile. A late reply is still processed.

While the exchange has banned this address, reducing orders wait exactly until they may be sent; entries are rejected. While
the bot is still recovering after a restart, entries wait.
"""

import logging
from collections.abc import Callable
from typing import TypeGuard

from bot.core.errors import BotError
from bot.core.events import Event, OrderUpdate
from bot.core.intents import Alert, CancelOrder, LookUp, PlaceOrder
from bot.core.types import OrderStatus
from bot.execution import wire
from bot.execution.gateway import Gateway, is_absent
from bot.execution.limits import Lane
from bot.execution.models import ZERO
from bot.execution.outcomes import NO_SUCH_ORDER, Accepted, Outcome, Rejected, Unknown
from bot.execution.tasks import Latch, Tasks

log = logging.getLogger(__name__)

POLL_AT_MS = (
    300,
    700,
    1_500,
    3_000,
    6_000,
)  # since the outcome became unknown; the last is beyond `recvWindow`
POLL_ON_MS = 6_000
PROOF_MS = 6_000  # a request cannot reach the book later than this after it was sent
ACCEPTED_PROOF_MS = 10_000  # an order once accepted is missing from reads only when they lag badly
BUSY_RETRIES_MS = (200, 400, 800)
LIMITED_RETRIES_MS = (200, 400, 800, 1_600, 3_200, 6_400)  # an exit is retried until the 10 s order window has rolled
DUPLICATE_ID = -4116
ENDS_KEPT = 1_000


class Placing:
    """One order from its intent until its outcome is known."""

    __slots__ = ("absent", "held", "intent", "outcome", "replied", "resolved", "searching", "sent_ms", "withdrawn")

    def __init__(self, intent: PlaceOrder, tasks: Tasks) -> None:
        self.intent = intent
        self.sent_ms = tasks.clock.now_ms()
        self.outcome: Outcome | None = None  # of the request itself
        self.replied = tasks.latch()
        self.resolved = tasks.latch()  # the order's outcome is known
        self.withdrawn = False  # cancel requested, or outcome unknown: no more retries
        self.searching = False
        self.absent = False  # reported to the engine as absent
        self.held = False  # waits to be sent: for the end of a ban, or after a rejection for overload


class Submission:
    """Sends orders and queries them until their outcome is known.

    The attribute `take_back` cancels an order that was accepted after it had been declared absent.

    Parameters
    ----------
    gateway, tasks, emit, on_alert, reply_timeout_ms
        As in `Executor`.
    """

    def __init__(
        self,
        gateway: Gateway,
        tasks: Tasks,
        emit: Callable[[Event], None],
        *,
        on_alert: Callable[[Alert], None],
        reply_timeout_ms: int,
    ) -> None:
        self.gateway = gateway
        self.tasks = tasks
        self.reply_timeout_ms = reply_timeout_ms
        self.take_back: Callable[[CancelOrder], None] = lambda intent: None
        self.placing: dict[str, Placing] = {}
        self.placed: dict[str, PlaceOrder] = {}
        self._looking: set[str] = set()
        self._ended: dict[str, None] = {}  # orders whose terminal state the user stream has reported
        self._ends: dict[str, Latch] = {}  # of those for which `end_heard` waits
        self._emit = emit
        self._on_alert = on_alert

    # Entry points ------------------------------------------------------------------------------------------------------

    def place(self, intent: PlaceOrder) -> None:
        """Start sending an order."""
        wire.place_params(intent)  # an invalid intent is our own bug: raise here, not in a task
        placing = Placing(intent, self.tasks)
        self.placing[intent.client_id] = placing
        if len(self.placed) > 5_000:
            for client_id in list(self.placed)[:2_500]:
                del self.placed[client_id]
        self.placed[intent.client_id] = intent
        self.tasks.spawn(self._post(placing), name=f"send {intent.client_id}")
        self.tasks.spawn(self._follow(placing), name=f"follow {intent.client_id}")

    def refuse(self, intent: PlaceOrder, reason: str) -> None:
        """Answer an order that is not sent with REJECTED."""
        self._emit(self._own_update(intent, OrderStatus.REJECTED, f"not sent: {reason}"))

    def look_up(self, intent: LookUp) -> None:
        """Start finding out the outcome of an order that is not in flight here."""
        if intent.client_id not in self.placing and intent.client_id not in self._looking:
            self._looking.add(intent.client_id)
            self.tasks.spawn(self._find(intent), name=f"look up {intent.client_id}")

    def observe(self, event: OrderUpdate) -> None:
        """Take an order's update from the user stream: it may end the search for the order."""
        if event.status.is_terminal:
            self._ended[event.client_id] = None
            while len(self._ended) > ENDS_KEPT:
                del self._ended[next(iter(self._ended))]
            if (latch := self._ends.pop(event.client_id, None)) is not None:
                latch.set()
        placing = self.placing.get(event.client_id)
        self._looking.discard(event.client_id)
        if placing is not None and not placing.absent:
            self._known(placing, event.status)
        elif event.status.is_terminal:
            self.placed.pop(event.client_id, None)

    async def end_heard(self, client_id: str, timeout_ms: int) -> bool:
        """Wait at most `timeout_ms` for the user stream to report an order's terminal state; return whether it has."""
        if client_id in self._ended:
            return True
        latch = self._ends.setdefault(client_id, self.tasks.latch())
        heard = await latch.wait(timeout_ms)
        if not heard:
            self._ends.pop(client_id, None)
        return heard

    @property
    def waiting(self) -> int:
        """Number of orders that wait to be sent."""
        return sum(placing.held for placing in self.placing.values())

    # Sending -----------------------------------------------------------------------------------------------------------

    async def _post(self, placing: Placing) -> None:
        """Send the order, retrying only when it was certainly not executed, and record the outcome.

        Any exception on the way leaves the outcome unknown: the exchange may have the order.
        """
        try:
            outcome = await self._send(placing)
        except Exception as error:
            placing.held = False
            placing.outcome = Unknown(f"sending it failed: {type(error).__name__}: {error}")
            placing.replied.set()
            raise
        placing.outcome = outcome
        placing.replied.set()
        if placing.absent:
            self._late_surprise(placing, outcome)
        elif placing.searching and not placing.resolved.is_set and _is_told(outcome):
            self._tell(placing, outcome)  # late, but it ends the search

    async def _send(self, placing: Placing) -> Outcome:
        intent, limits = placing.intent, self.gateway.limits
        exits = wire.is_exit(intent)
        lane = Lane.EXIT if exits else Lane.ENTRY
        busy, limited = iter(BUSY_RETRIES_MS), iter(LIMITED_RETRIES_MS)
        while True:
            while limits.held(lane):
                placing.held = True
                await limits.allowed(lane)
                placing.held = False
                if placing.withdrawn:
                    return Rejected(0, "withdrawn before it could be sent")
            placing.sent_ms = self.tasks.clock.now_ms()
            outcome = await self.gateway.place(intent)
            if not isinstance(outcome, Rejected):
                return outcome
            if exits and outcome.limited:
                delay_ms = 0 if limits.banned else next(limited, None)
            else:
                delay_ms = next(busy, None) if outcome.busy else None
            if delay_ms is None or placing.withdrawn:
                return outcome
            if delay_ms:
                placing.held = True
                await self.tasks.sleep(delay_ms)
                placing.held = False
                if placing.withdrawn:
                    return outcome

    async def _follow(self, placing: Placing) -> None:
        """Wait for the reply and report it to the engine; without one, search."""
        intent = placing.intent
        try:
            while not await placing.replied.wait(self._patience_ms(placing)):
                if not placing.held and self._patience_ms(placing) <= 0:
                    await self._search(placing, f"no reply within {self.reply_timeout_ms} ms")
                    return
            outcome = placing.outcome
            assert outcome is not None
            if _is_told(outcome):
                self._tell(placing, outcome)
            else:
                in_use = "the client id is in use: an earlier request was accepted"
                await self._search(placing, outcome.reason if isinstance(outcome, Unknown) else in_use)
        except Exception as error:
            self._forget(placing)
            reason = f"following it failed: {type(error).__name__}: {error}"
            self._emit(self._own_update(intent, OrderStatus.UNKNOWN, reason))
            self.look_up(LookUp(intent.client_id, intent.symbol, intent.side, intent.qty, placing.sent_ms, intent.algo))
            raise
        finally:
            self._forget(placing)

    def _forget(self, placing: Placing) -> None:
        placing.resolved.set()
        if self.placing.get(placing.intent.client_id) is placing:
            del self.placing[placing.intent.client_id]

    def _patience_ms(self, placing: Placing) -> int:
        if placing.held:
            return self.reply_timeout_ms
        return max(placing.sent_ms + self.reply_timeout_ms - self.tasks.clock.now_ms(), 0)

    def _tell(self, placing: Placing, outcome: Accepted | Rejected) -> None:
        if isinstance(outcome, Accepted):
            assert outcome.update is not None
            self._emit(outcome.update)
            self._known(placing, outcome.update.status)
        else:
            self._emit(self._own_update(placing.intent, OrderStatus.REJECTED, outcome.message, code=outcome.code))
            self._known(placing, OrderStatus.REJECTED)

    def _known(self, placing: Placing, status: OrderStatus) -> None:
        placing.resolved.set()
        if status.is_terminal:
            self.placed.pop(placing.intent.client_id, None)

    def _own_update(
        self, intent: PlaceOrder | LookUp, status: OrderStatus, reason: str, *, code: int = 0
    ) -> OrderUpdate:
        """Return an order update that the bot derives itself, without a report of the exchange."""
        return OrderUpdate(
            at_ms=self.tasks.clock.now_ms(),
            client_id=intent.client_id,
            symbol=intent.symbol,
            status=status,
            side=intent.side,
            qty=intent.qty,
            filled_qty=ZERO,
            average_price=ZERO,
            algo=intent.algo,
            code=code,
            reason=reason,
        )

    # Searching ---------------------------------------------------------------------------------------------------------

    async def _search(self, placing: Placing, reason: str) -> None:
        """Query an order until its outcome is known."""
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

    async def _is_proved_absent(self, placing: Placing) -> bool:
        """Check the account's trades, and settle the order's outcome if they can be read."""
        traded = await self._traded(placing.intent, placing.sent_ms)
        if placing.resolved.is_set:
            return True
        if traded is None:
            return False
        if isinstance(traded, OrderUpdate):
            self._tell(placing, Accepted(None, traded))
        else:
            placing.absent = True
            self._tell(placing, Rejected(NO_SUCH_ORDER, "not placed: the exchange knows no such order"))
        return True

    async def _traded(self, intent: PlaceOrder | LookUp, sent_ms: int) -> OrderUpdate | bool | None:
        """Return the order's state if it has traded, False if it certainly has not, None if that is unknown."""
        try:
            traded = await self.gateway.find_trades(intent.client_id, intent.symbol, sent_ms - 1_000)
        except BotError as error:
            log.warning("cannot prove that %s is absent: %s", intent.client_id, error)
            return None
        return traded if traded is not None else False

    def _late_surprise(self, placing: Placing, outcome: Outcome) -> None:
        """Report an order that was accepted after it had been declared absent, and cancel it."""
        if not isinstance(outcome, Accepted) or outcome.update is None:
            return
        intent = placing.intent
        self._emit(outcome.update)
        self._on_alert(
            Alert("critical", f"order {intent.client_id} was accepted long after it was sent: cancelling it")
        )
        if not outcome.update.status.is_terminal:
            self.take_back(CancelOrder(intent.client_id, intent.symbol, intent.algo))

    async def _find(self, intent: LookUp) -> None:
        """Query an order that is not in flight here until its outcome is known or the user stream reports it."""
        proof_ms = ACCEPTED_PROOF_MS if intent.accepted else PROOF_MS
        waits, misses, doubted = iter((*POLL_AT_MS, *(POLL_ON_MS,) * 10)), 0, False
        try:
            while intent.client_id in self._looking:
                found = await self.gateway.query(intent.client_id, intent.symbol, algo=intent.algo)
                if isinstance(found, Accepted):
                    assert found.update is not None
                    self._emit(found.update)
                    return
                if isinstance(found, Unknown) and not doubted:
                    doubted = True
                    log.warning("cannot look %s up, trying on: %s", intent.client_id, found.reason)
                misses = misses + 1 if is_absent(found) else 0
                if misses == 1 and intent.accepted and intent.algo:
                    reason = "accepted, and a query does not find it"
                    self._emit(self._own_update(intent, OrderStatus.UNKNOWN, reason, code=NO_SUCH_ORDER))
                old = self.tasks.clock.now_ms() - intent.sent_ms >= proof_ms
                if misses >= 2 and old and await self._settle_absent(intent):
                    return
                delay_ms = next(waits, None)
                if delay_ms is None:
                    return  # the engine will request it again
                await self.tasks.sleep(delay_ms)
        finally:
            self._looking.discard(intent.client_id)

    async def _settle_absent(self, intent: LookUp) -> bool:
        traded = await self._traded(intent, intent.sent_ms)
        if traded is None:
            return False
        if isinstance(traded, OrderUpdate):
            self._emit(traded)
        elif intent.client_id in self._looking:
            status = OrderStatus.EXPIRED if intent.accepted else OrderStatus.REJECTED
            self._emit(self._own_update(intent, status, "the exchange knows no such order", code=NO_SUCH_ORDER))
        return True


def _is_told(outcome: Outcome | None) -> TypeGuard[Accepted | Rejected]:
    """Return whether a reply states the order's outcome."""
    return isinstance(outcome, Accepted) or (isinstance(outcome, Rejected) and outcome.code != DUPLICATE_ID)
