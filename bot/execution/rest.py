"""Send single requests: writes once, reads with retries.

Writes (orders, cancels, leverage) are sent once and end as accepted, rejected or unknown; only a wrong clock (-1021), which
certainly executed nothing, leads to setting the clock and sending once more. Reads time out after 2.5 s (large ones after 10)
and are retried after 200, 400, 800 and 1,600 ms, all on the bot's clock; then `ReadFailed` says so in one sentence. A reply that
does not fit its model (`models_rest.py`) is a failed read like one that never came: it is counted, reported once, and retried.
The request budget is checked before each call.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from binance.exceptions import BinanceAPIException

from bot.core.errors import WireError
from bot.core.redact import redact
from bot.execution import replies, wire
from bot.execution.client import LocalClient
from bot.execution.clock import ClockReading, ClockVerdict, WallClock, latest_ms, machine_ms, middle_of
from bot.execution.limits import Lane, RequestLimits
from bot.execution.models import Untimely
from bot.execution.outcomes import (
    BANNED,
    CLOCK_ERRORS,
    NOT_PERMITTED,
    TOO_MANY_ORDERS,
    Accepted,
    Outcome,
    ReadFailed,
    Rejected,
    Unknown,
    translate,
)
from bot.execution.refusals import Refusals
from bot.execution.tasks import Tasks

log = logging.getLogger(__name__)

READ_RETRIES_MS = (200, 400, 800, 1_600)
# Timeouts on the clock. The venue answers in some 100 ms; reads that the protection of a position may depend on are retried
# early, large replies on a slow line get the library's full timeout.
PATIENCE_MS = 2_500
LONG_PATIENCE_MS = 10_000
CONFIRM_MS = 1_000  # between a first reading that contradicts this machine's clock and the one that confirms it
CONFIRMATIONS = 3
DOUBT_EVERY_MS = 5_000
Call = Callable[..., Awaitable[Any]]
T = TypeVar("T")


class Rest:
    """Sends every request of one account.

    Parameters
    ----------
    client
        The library's client.
    tasks
        Clock and waiting.
    limits
        The request budget.
    """

    def __init__(self, client: LocalClient, tasks: Tasks, limits: RequestLimits) -> None:
        self.client = client
        self.tasks = tasks
        self.limits = limits
        self.refused = Refusals()  # replies that did not fit, by the library's name for the call
        self._doubted_ms = 0.0

    # Sending -----------------------------------------------------------------------------------------------------------

    async def _send(self, call: Call, params: dict[str, Any], patience_ms: int | None = None) -> Outcome:
        """Send once; once more after setting the clock if the exchange says that our time is wrong."""
        outcome = await self._send_once(call, params, patience_ms)
        if isinstance(outcome, Rejected) and outcome.code in CLOCK_ERRORS:
            log.warning("our clock is off (%s): setting it", outcome.message)
            try:
                await self.synchronise(samples=3)
            except ReadFailed as error:
                log.warning("%s", error)
                return outcome
            outcome = await self._send_once(call, params, patience_ms)
        return outcome

    async def _send_once(self, call: Call, params: dict[str, Any], patience_ms: int | None = None) -> Outcome:
        if patience_ms is None:
            return await self._ask(call, params)
        try:
            outcome: Outcome = await self.tasks.within(patience_ms, self._ask(call, params))
        except TimeoutError:
            return Unknown(f"no reply within {patience_ms} ms")
        return outcome

    async def _ask(self, call: Call, params: dict[str, Any]) -> Outcome:
        try:
            return Accepted(await call(**params))
        except BinanceAPIException as error:
            outcome = translate(error)
            if isinstance(outcome, Rejected) and outcome.code == TOO_MANY_ORDERS and error.status_code != BANNED:
                log.warning("too many orders: entries rest until the window has rolled (%s)", outcome.message)
                self.limits.exhausted(outcome.message)
                return outcome
            headers = getattr(error.response, "headers", {})
            self.limits.observe_refusal(int(error.status_code), headers, str(error.message))
            return outcome
        except Exception as error:
            return translate(error)

    async def _write(self, lane: Lane, call: Call, params: dict[str, Any], patience_ms: int | None = None) -> Outcome:
        refusal = self.limits.refusal(lane)
        if refusal is not None:
            return Rejected(refusal[0], refusal[1], limited=True)
        return await self._send(call, dict(params), patience_ms)

    async def _read(
        self, what: str, call: Call, patience_ms: int = PATIENCE_MS, *, parse: Callable[[Any], T], **params: Any
    ) -> T:
        """Read with retries; a reply that does not fit its model counts as none.

        Raises
        ------
        ReadFailed
            The exchange rejected the read, or every attempt failed.
        """
        outcome: Outcome = Unknown("not sent")
        for delay_ms in (*READ_RETRIES_MS, None):
            await self.limits.clearance(Lane.READ)
            outcome = await self._send(call, dict(params), patience_ms)
            if isinstance(outcome, Accepted):
                try:
                    return parse(outcome.payload)
                except WireError as error:
                    outcome = self._unfit(_name(call), error)
            if isinstance(outcome, Rejected) and not (outcome.busy or outcome.limited):
                break
            if delay_ms is not None:
                await self.tasks.sleep(delay_ms)
        if isinstance(outcome, Rejected):
            hint = "; check the API key, its permissions and its address list" if outcome.code in NOT_PERMITTED else ""
            raise ReadFailed(f"cannot read {what}: {outcome.message} ({outcome.code}){hint}", code=outcome.code)
        assert isinstance(outcome, Unknown)
        raise ReadFailed(f"cannot read {what}: {outcome.reason}")

    def _unfit(self, name: str, error: WireError) -> Unknown:
        """Count a reply that does not fit, report it once, and return that the outcome is unknown."""
        if count := self.refused.take(name):
            log.warning("the reply of %s is refused%s: %s", name, f" ({count} by now)" if count > 1 else "", error)
        if isinstance(error, Untimely):
            self.doubt_clock()
        return Unknown(redact(str(error)))

    def _in_time(self, stamps: Iterable[int]) -> None:
        """Raise `Untimely` if one of these timestamps is later than the exchange's clock can be."""
        wire.in_time(max(stamps, default=0), latest_ms(self.tasks.clock))

    # Clock -------------------------------------------------------------------------------------------------------------

    async def synchronise(self, samples: int = 5) -> float:
        """Set the clock to the exchange's time and return the offset in ms; a clock that is not a `WallClock` needs none.

        `clock.py` says which readings are accepted.

        Raises
        ------
        ReadFailed
            The exchange does not answer, or its time jumped and nothing confirms it yet: the clock is not changed.
        """
        clock = self.tasks.clock
        if not isinstance(clock, WallClock):
            self.client.timestamp_offset = 0
            return 0.0
        reading = await self._exchange_time(samples)
        verdict = clock.judge(reading)
        for _ in range(CONFIRMATIONS):
            if verdict is ClockVerdict.CONFIRM:
                await self.tasks.sleep(CONFIRM_MS)
                reading = await self._exchange_time(max(samples, 3))
                verdict = clock.judge(reading)
        if verdict is not ClockVerdict.BELIEVED:
            jump = reading.exchange_ms - clock.now_ms()
            raise ReadFailed(
                f"the exchange's time jumped by {jump} ms: not believed before another reading confirms it"
            )
        self.client.timestamp_offset = round(clock.synchronise(reading.offset_ms))
        return reading.offset_ms

    async def _exchange_time(self, samples: int) -> ClockReading:
        """Return the reading with the median offset of `samples` readings."""
        readings, why = list[ClockReading](), "no answer"
        for _ in range(samples):
            sent = machine_ms()
            outcome = await self._send_once(self.client.futures_time, {}, PATIENCE_MS)
            if isinstance(outcome, Accepted):
                try:
                    readings.append(ClockReading(sent, machine_ms(), replies.server_time(outcome.payload)))
                    continue
                except WireError as error:
                    outcome = self._unfit("time", error)
            why = outcome.message if isinstance(outcome, Rejected) else outcome.reason
        if not readings:
            raise ReadFailed(f"cannot read the exchange's time: {why}")
        return middle_of(readings)

    def doubt_clock(self) -> None:
        """Read the exchange's time again after a message from the future: our clock may be wrong (a suspended machine)."""
        clock = self.tasks.clock
        if not isinstance(clock, WallClock) or machine_ms() - self._doubted_ms < DOUBT_EVERY_MS:
            return
        self._doubted_ms = machine_ms()
        self.tasks.spawn(self._check_clock(), name="clock doubted")

    async def _check_clock(self) -> None:
        try:
            await self.synchronise(samples=3)
        except ReadFailed as error:
            log.warning("%s", error)


def _name(call: Call) -> str:
    return str(getattr(call, "__name__", "reply")).removeprefix("futures_")
