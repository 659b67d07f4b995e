"""Execute the engine's intents: send, cancel, query, wait, and answer each with an event.

`submission` sends orders and tracks their outcome; `cancellation` cancels them. A leverage intent is answered with the leverage
in effect. A snapshot requested while another is being read follows it; one that cannot be read is retried after growing pauses,
reported once, and taken as soon as the exchange answers. Timers run on the clock, counted from the event whose handling set
them.
"""

import logging
from collections.abc import Callable
from typing import assert_never

from bot.core.clock import Cancellable
from bot.core.errors import BotError
from bot.core.events import AccountSnapshot, CancelRejected, Event, LeverageSet, OrderUpdate, TimerFired
from bot.core.intents import (
    Alert,
    CancelOrder,
    CancelTimer,
    Intent,
    LookUp,
    PlaceOrder,
    RequestSnapshot,
    SetLeverage,
    SetTimer,
)
from bot.core.types import OrderStatus
from bot.execution.cancellation import Cancellation
from bot.execution.gateway import Gateway
from bot.execution.outcomes import Accepted, Rejected
from bot.execution.submission import Submission
from bot.execution.tasks import Tasks

log = logging.getLogger(__name__)

SNAPSHOT_OVERLAP_MS = 60_000
REFUSAL_MS = 100  # delay before a failed intent is answered
SNAPSHOT_PAUSES_MS = (1_000, 2_000, 5_000, 10_000)  # while the account cannot be read


class Executor:
    """Turns intents into requests and timers.

    Parameters
    ----------
    gateway
        The exchange's REST API.
    tasks
        Clock, waiting and counting.
    emit
        Receives every event; it may be called at any time from the event loop.
    symbols
        What a snapshot covers.
    on_alert
        Receives `Alert` intents, and the executor's own.
    on_snapshot
        Called with every snapshot before it is emitted.
    since_ms
        Time from which a snapshot includes fills; moves forward with each snapshot.
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
        on_snapshot: Callable[[AccountSnapshot], None] = lambda snapshot: None,
        since_ms: int | None = None,
        reply_timeout_ms: int = 5_000,
    ) -> None:
        self.gateway = gateway
        self.tasks = tasks
        self.symbols = symbols
        self.since_ms = tasks.clock.now_ms() if since_ms is None else since_ms
        self.submission = Submission(gateway, tasks, emit, on_alert=on_alert, reply_timeout_ms=reply_timeout_ms)
        self.cancellation = Cancellation(gateway, tasks, emit, self.submission)
        self.submission.take_back = self.cancellation.cancel
        self._emit = emit
        self._on_alert = on_alert
        self._on_snapshot = on_snapshot
        self._timers: dict[str, Cancellable] = {}
        self._snapshot_running = False
        self._snapshot_wanted = False
        self._income_since_ms = 0  # 0: no income entries requested
        self._failures = 0

    # Entry points ------------------------------------------------------------------------------------------------------

    def perform(self, intent: Intent, *, at_ms: int | None = None) -> None:
        """Start executing an intent; `at_ms` is the time of the event whose handling produced it."""
        match intent:
            case PlaceOrder():
                self.submission.place(intent)
            case CancelOrder():
                self.cancellation.cancel(intent)
            case LookUp():
                self.submission.look_up(intent)
            case SetTimer():
                self._set_timer(intent, at_ms)
            case CancelTimer():
                self._forget_timer(intent.name)
            case SetLeverage():
                self.tasks.spawn(self._set_leverage(intent), name=f"leverage {intent.symbol}")
            case RequestSnapshot():
                self._request_snapshot(intent)
            case Alert():
                self._on_alert(intent)
            case _:
                assert_never(intent)

    def not_performed(self, intent: Intent, reason: str) -> None:
        """Answer an intent that was not executed, with a delay: a caller that retries at once must not starve the rest."""

        def answer() -> None:
            now = self.tasks.clock.now_ms()
            if isinstance(intent, PlaceOrder):
                self.submission.refuse(intent, reason)
            elif isinstance(intent, CancelOrder):
                self._emit(CancelRejected(now, intent.client_id, intent.symbol, 0, f"not sent: {reason}"))

        if isinstance(intent, PlaceOrder | CancelOrder):
            self.tasks.clock.call_later(REFUSAL_MS, answer)

    def observe(self, event: Event) -> None:
        """Take an event of the user stream: it may resolve an order whose outcome was unknown."""
        if isinstance(event, OrderUpdate) and event.status is not OrderStatus.UNKNOWN:
            self.submission.observe(event)

    def close(self) -> None:
        """Cancel all timers; requests in flight end with `Tasks.close`."""
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

    # Leverage and snapshots --------------------------------------------------------------------------------------------

    async def _set_leverage(self, intent: SetLeverage) -> None:
        """Set the leverage; when that is rejected, report to the engine which one is in effect."""
        outcome = await self.gateway.set_leverage(intent.symbol, intent.leverage)
        if isinstance(outcome, Accepted):
            holds = int(outcome.payload)
        else:
            why = outcome.message if isinstance(outcome, Rejected) else outcome.reason
            try:
                holds = (await self.gateway.symbol_config(intent.symbol)).leverage
            except BotError as error:
                self._on_alert(
                    Alert("warning", f"leverage {intent.leverage} of {intent.symbol} not set: {why}; {error}")
                )
                return
            self._on_alert(
                Alert("warning", f"leverage {intent.leverage} of {intent.symbol} not set: {why}; it stays {holds}")
            )
        self._emit(LeverageSet(self.tasks.clock.now_ms(), intent.symbol, holds))

    def _request_snapshot(self, intent: RequestSnapshot) -> None:
        """Start reading a snapshot; one requested while another is being read follows it."""
        log.info("snapshot wanted: %s", intent.reason)
        if intent.income_since_ms:
            self._want_income(intent.income_since_ms)
        self._snapshot_wanted = True
        if not self._snapshot_running:
            self._snapshot_running = True
            self.tasks.spawn(self._snapshots(), name="snapshot")

    def _want_income(self, since_ms: int) -> None:
        """Let the next snapshot read income from the earliest start that was asked for; 0 asks for none."""
        self._income_since_ms = min(filter(None, (self._income_since_ms, since_ms)), default=0)

    async def _snapshots(self) -> None:
        try:
            while self._snapshot_wanted:
                self._snapshot_wanted = False
                income_since_ms, self._income_since_ms = self._income_since_ms, 0
                try:
                    snapshot = await self.gateway.snapshot(self.symbols, self.since_ms, income_since_ms=income_since_ms)
                except Exception as error:
                    self._want_income(income_since_ms)
                    if not isinstance(error, BotError):  # not a failed read but a bug: the account is read again anyway
                        self.tasks.report("snapshot", error)
                    if not self._failures:
                        self._on_alert(Alert("warning", f"no snapshot of the account, trying on: {error}"))
                    self._snapshot_wanted = True
                    pause_ms = SNAPSHOT_PAUSES_MS[min(self._failures, len(SNAPSHOT_PAUSES_MS) - 1)]
                    self._failures += 1
                    await self.tasks.sleep(pause_ms)
                    continue
                self._failures = 0
                self.since_ms = max(self.since_ms, snapshot.at_ms - SNAPSHOT_OVERLAP_MS)
                self._on_snapshot(snapshot)
                self._emit(snapshot)
        finally:
            self._snapshot_running = False
