"""The sentinel: the harmless part of `doctor`, once an hour while the bot trades.

It checks what can change without the bot: the account's modes, margin type and leverage (changed by another program, or by hand
on the exchange's page), the instruments' filters, the clock, the streams, the disk; and while the bot is flat it places a stop
far away and cancels it, so that protection is known to work before it is needed. A check that fails twice, half a minute apart,
raises an alert and stops entries; a position keeps its stops and exits. Entries stay off until the operator allows them again.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bot.app import checks, stream_checks
from bot.app.checks import FAIL, WARN, Bench, Check, failed, ok, warn
from bot.app.connection import Connection
from bot.config import Config
from bot.core.errors import BotError
from bot.core.intents import Alert
from bot.core.redact import redact
from bot.core.types import Instrument
from bot.engine import BASE_MS

AGAIN_MS: Final = 30_000
BAR_LATE_MS: Final = 60_000  # beyond the base interval


@dataclass(frozen=True, slots=True)
class State:
    """The state of the running bot that the sentinel needs."""

    flat: bool
    leverage: int
    instruments: dict[str, Instrument]
    feeds_lost: Sequence[str]
    last_bar_ms: int  # close of the newest base bar, 0 before the first


class Sentinel:
    """Repeats its checks.

    Parameters
    ----------
    line
        The bot's connection.
    state
        Returns the bot's current state.
    alert, stop_entries
        Alert the operator, and stop entries with a reason.
    again_ms
        Pause before failed checks are repeated.
    """

    def __init__(
        self,
        config: Config,
        line: Connection,
        *,
        state: Callable[[], State],
        alert: Callable[[Alert], None],
        stop_entries: Callable[[str], None],
        again_ms: int = AGAIN_MS,
    ) -> None:
        self._config, self._line = config, line
        self._state, self._alert, self._stop_entries = state, alert, stop_entries
        self._again_ms = again_ms
        self._warned: set[str] = set()
        self.rounds = 0
        self.last: list[Check] = []

    async def look(self) -> list[Check]:
        """Run all checks, repeat the failed ones, and act on those that fail again."""
        bench = Bench(self._config, self._line)
        tests: list[Callable[[Bench], Awaitable[Check]]] = [
            self._clock,
            self._account,
            self._margins,
            self._filters,
            self._streams,
            self._bars,
            self._disk,
            self._stop,
            stream_checks.budget,
        ]
        found = [await self._guarded(test, bench) for test in tests]
        if any(check.status == FAIL for check in found):
            await self._line.tasks.sleep(self._again_ms)
            found = [
                await self._guarded(test, bench) if check.status == FAIL else check
                for test, check in zip(tests, found, strict=True)
            ]
        self.rounds += 1
        self.last = found
        self._tell(found)
        return found

    def _tell(self, found: list[Check]) -> None:
        failures = [check for check in found if check.status == FAIL]
        for check in failures:
            self._alert(Alert("critical", f"sentinel: {check.name}: {check.text} ({check.hint}); entries are stopped"))
        if failures:
            self._stop_entries(f"sentinel: {failures[0].name}: {failures[0].text}")
        for check in found:
            if check.status == WARN and check.name not in self._warned:
                self._alert(Alert("warning", f"sentinel: {check.name}: {check.text} ({check.hint})"))
        self._warned = {check.name for check in found if check.status == WARN}

    async def _guarded(self, test: Callable[[Bench], Awaitable[Check]], bench: Bench) -> Check:
        try:
            return await test(bench)
        except BotError as error:
            return failed(test.__name__.strip("_"), redact(str(error)), "see the sentence")

    async def _clock(self, bench: Bench) -> Check:
        return await checks.clock_skew(bench)

    async def _account(self, bench: Bench) -> Check:
        account = await self._line.gateway.account_config()
        wrong = []
        if not account.can_trade:
            wrong.append("the account may not trade")
        if account.is_hedged:
            wrong.append("somebody has switched the account to hedge mode")
        if wrong:
            return failed("account", "; ".join(wrong), "put it back on the exchange's page, then start entries again")
        return ok("account", "may trade, one-way")

    async def _margins(self, bench: Bench) -> Check:
        state, wrong = self._state(), []
        for symbol in self._config.data.symbols:
            found = await self._line.gateway.symbol_config(symbol)
            if not found.is_isolated:
                wrong.append(f"{symbol} is on cross margin")
            if found.leverage != state.leverage and state.flat:
                wrong.append(f"{symbol} is at {found.leverage}x in place of {state.leverage}x")
        if wrong:
            return failed("margins", "; ".join(wrong), "restart the bot while flat: it sets both")
        return ok("margins", f"isolated, {state.leverage}x")

    async def _filters(self, bench: Bench) -> Check:
        known = self._state().instruments
        told = await self._line.gateway.load_session(self._config.data.symbols, venue=self._line.venue)
        changed = [i.symbol for i in told.instruments if i.symbol in known and _filters(i) != _filters(known[i.symbol])]
        halted = [i.symbol for i in told.instruments if not i.trading]
        if changed:
            return failed("filters", f"the exchange changed the filters of {', '.join(changed)}", "restart the bot")
        if halted:
            return failed("filters", f"{', '.join(halted)} not in normal trading", "wait; then start entries again")
        return ok("filters", "as at the start")

    async def _streams(self, bench: Bench) -> Check:
        lost = self._state().feeds_lost
        if lost:
            return failed(
                "streams", f"{', '.join(lost)} not delivering", "look at the network and the exchange's status"
            )
        return ok("streams", "deliver")

    async def _bars(self, bench: Bench) -> Check:
        last = self._state().last_bar_ms
        age = self._line.clock.now_ms() - last if last else 0
        if age > BASE_MS + BAR_LATE_MS and not self._line.clock.replay:
            return failed("bars", f"the last closed bar is {age / 1000:.0f} s old", "look at the exchange's status")
        return ok("bars", f"the last closed {age / 1000:.0f} s ago")

    async def _disk(self, bench: Bench) -> Check:
        return await checks.disk(self._config)

    async def _stop(self, bench: Bench) -> Check:
        if not self._state().flat:
            return ok("stop orders", "not tried while a position is open")
        if bench.session is None:
            bench.session = await self._line.gateway.load_session(self._config.data.symbols, venue=self._line.venue)
        check, _ = await stream_checks.place_and_cancel(bench)
        if check.status == FAIL and not self._state().flat:
            return warn("stop orders", check.text, "a trade began meanwhile: looked at again in an hour")
        return check


def _filters(instrument: Instrument) -> tuple[Any, ...]:
    i = instrument
    return i.tick, i.lot, i.min_qty, i.min_notional, i.market_max_qty
