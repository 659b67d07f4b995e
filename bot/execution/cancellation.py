"""Cancel orders and retry until their terminal state is known.

A cancel is idempotent and is retried by one loop per order, which continues at once when the cancel is requested again (with a
loop per request there had been 50 for one order while an exchange was down). `CancelRejected` means that the exchange knows no
such order. The terminal state of an opening order needs two sources, the reply and the user stream (or a query when that is
silent): if one wrong reply were believed, the remainder would be sent again while the order is still working. A cancel that
overtakes its order waits for that order's outcome; one for a triggered stop goes on to the order that the stop became.
"""

import logging
from collections.abc import Callable

from bot.core.events import CancelRejected, Event, OrderUpdate
from bot.core.intents import CancelOrder
from bot.execution import wire
from bot.execution.gateway import Gateway, is_absent
from bot.execution.limits import Lane
from bot.execution.outcomes import NO_SUCH_ORDER, UNKNOWN_ORDER, Accepted, Outcome, Rejected
from bot.execution.submission import POLL_AT_MS, POLL_ON_MS, Submission
from bot.execution.tasks import Latch, Tasks

log = logging.getLogger(__name__)

HEARD_MS = 300  # how far the user stream may lag behind the reply to a cancel


class Cancellation:
    """Cancels orders; `submission` holds what was placed and what is still in flight.

    Parameters
    ----------
    gateway
        The exchange's REST API.
    tasks
        Clock, waiting and counting.
    emit
        Receives every event.
    submission
        The orders placed and in flight.
    """

    def __init__(self, gateway: Gateway, tasks: Tasks, emit: Callable[[Event], None], submission: Submission) -> None:
        self.gateway = gateway
        self.tasks = tasks
        self._emit = emit
        self._submission = submission
        self._pauses: dict[tuple[str, bool], Latch] = {}  # one per cancel in progress: ends its wait

    def cancel(self, intent: CancelOrder) -> None:
        """Start cancelling; an order that has not been sent yet is withdrawn."""
        if intent.client_id in self._submission.placing:
            self._submission.placing[intent.client_id].withdrawn = True
        key = (intent.client_id, intent.algo)
        if key in self._pauses:
            self._pauses[key].set()
            return
        self._pauses[key] = self.tasks.latch()
        self.tasks.spawn(self._until_known(intent), name=f"cancel {intent.client_id}")

    async def _until_known(self, intent: CancelOrder) -> None:
        try:
            await self._cancel(intent)
        except Exception as error:  # outcome unknown, as for a cancel without a reply
            self._emit(self._cancel_rejected(intent, 0, f"the cancel failed: {type(error).__name__}: {error}"))
            raise
        finally:
            del self._pauses[intent.client_id, intent.algo]

    async def _pause(self, intent: CancelOrder, delay_ms: int) -> None:
        """Wait before the next attempt, or until the cancel is requested again."""
        pause = self.tasks.latch()
        if (intent.client_id, intent.algo) in self._pauses:
            self._pauses[intent.client_id, intent.algo] = pause
        await pause.wait(delay_ms)

    async def _cancel(self, intent: CancelOrder) -> None:
        """Cancel until the order's terminal state is known."""
        waits = iter((*POLL_AT_MS, *(POLL_ON_MS,) * 10))
        while True:
            await self.gateway.limits.allowed(Lane.EXIT)
            known = self._submission.placed.get(intent.client_id)
            outcome = await self.gateway.cancel(intent, known=known)
            if isinstance(outcome, Accepted) and known is not None and not wire.is_exit(known):
                if await self._settle_opening(intent, outcome):
                    return
            elif isinstance(outcome, Accepted):
                assert outcome.update is not None
                self._emit(outcome.update)
                if outcome.update.status.is_terminal:
                    self._submission.placed.pop(intent.client_id, None)
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
            await self._pause(intent, delay_ms)

    async def _settle_opening(self, intent: CancelOrder, outcome: Accepted) -> bool:
        """Report an opening order's terminal state once a second source confirms it; False when it may still be working."""
        assert outcome.update is not None
        if not outcome.update.status.is_terminal:
            self._emit(outcome.update)
            return False
        if await self._submission.end_heard(intent.client_id, HEARD_MS):
            self._emit(outcome.update)
            self._submission.placed.pop(intent.client_id, None)
            return True
        found = await self._look(intent)
        return isinstance(found, OrderUpdate) and found.status.is_terminal

    async def _settle_refused_cancel(self, intent: CancelOrder, refusal: Rejected) -> bool:
        """Find out what a rejected cancel means; return False when it should be retried."""
        if refusal.code not in (UNKNOWN_ORDER, NO_SUCH_ORDER):
            self._emit(self._cancel_rejected(intent, refusal.code, refusal.message))
            return True
        found = await self._look(intent)
        if isinstance(found, OrderUpdate):
            return found.status.is_terminal or await self._cancel_triggered(intent, found)
        if not is_absent(found):
            return False
        placing = self._submission.placing.get(intent.client_id)
        if placing is not None:  # the cancel overtook the order: wait for its outcome
            await placing.resolved.wait()
            return placing.absent or isinstance(placing.outcome, Rejected)
        self._emit(self._cancel_rejected(intent, refusal.code, refusal.message))
        return True

    async def _look(self, intent: CancelOrder) -> OrderUpdate | Outcome:
        """Query the order and report its state to the engine."""
        found = await self.gateway.query(intent.client_id, intent.symbol, algo=intent.algo)
        if isinstance(found, Accepted) and found.update is not None:
            self._emit(found.update)
            if found.update.status.is_terminal:
                self._submission.placed.pop(intent.client_id, None)
            return found.update
        return found

    async def _cancel_triggered(self, intent: CancelOrder, found: OrderUpdate) -> bool:
        """Cancel the order that a triggered stop has become: the stop itself can no longer be cancelled."""
        if intent.algo and not found.algo:
            await self._cancel(CancelOrder(intent.client_id, intent.symbol, algo=False))
            return True
        return False

    def _cancel_rejected(self, intent: CancelOrder, code: int, reason: str) -> CancelRejected:
        return CancelRejected(self.tasks.clock.now_ms(), intent.client_id, intent.symbol, code, reason)
