"""`doctor`: find what would stop the bot before it does, each finding in one line with a remedy.

The checks go from this machine outwards: settings and disk, the exchange's clock, the key and its permissions, the account's
modes, the instruments and whether the wallet can carry the smallest trade, the three streams, a stop order placed far away and
cancelled (which also proves that the private stream delivers), and the lag of a closed bar. Nothing is changed at the venue
except that one reduce-only stop; settings that `run` changes at its start (one-way mode, isolated margin, leverage) are only
read.

A check returns ok, warn (the bot runs, but you should know) or fail (it would not run, or should not). The hourly sentinel
repeats the harmless ones while the bot trades.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from typing import Any, Final

from bot.app import checks, stream_checks
from bot.app.checks import FAIL, Bench, Check, failed
from bot.app.connection import Addresses, Connection, addresses, connected
from bot.app.credentials import Credentials
from bot.config import Config
from bot.core.errors import BotError, ConfigError
from bot.core.redact import redact
from bot.core.types import REAL_VENUES
from bot.report.progress import say

CHECK_TIMEOUT_S: Final = 30.0
BAR_TIMEOUT_S: Final = 75.0  # the next 1m bar closes within a minute


@dataclass(frozen=True, slots=True)
class Examination:
    """The results of all checks."""

    venue: str
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether no check failed; warnings do not count."""
        return not any(check.status == FAIL for check in self.checks)

    def failures(self) -> list[Check]:
        """Return the checks that failed."""
        return [check for check in self.checks if check.status == FAIL]

    def data(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return {"venue": self.venue, "ok": self.ok, "checks": [asdict(check) for check in self.checks]}


async def examine(
    config: Config, venue: str, *, quiet: bool = False, wait_for_bar: bool = True, held_here: bool = False
) -> Examination:
    """Run all checks for a venue, from the settings to the streams.

    Parameters
    ----------
    wait_for_bar
        Wait for the next closed 1m bar (up to a minute) to measure its lag.
    held_here
        Whether this process holds the journal itself.
    """
    found = [await _guarded(check, config) for check in (checks.settings, checks.calendar, checks.alerts)]
    found += [await _guarded(checks.disk, config), await _guarded(checks.journal, config, held_here)]
    async with AsyncExitStack() as stack:
        try:
            line = await _line(config, venue, stack, quiet=quiet)
        except ConfigError as error:
            return Examination(
                venue, (*found, failed("keys", str(error), "set both in the environment, or name files"))
            )
        except BotError as error:
            return Examination(venue, (*found, failed("exchange", str(error), "check the address and the network")))
        found += await examine_line(config, line, quiet=quiet, wait_for_bar=wait_for_bar)
    return Examination(venue, tuple(found))


async def examine_line(config: Config, line: Connection, *, quiet: bool, wait_for_bar: bool) -> list[Check]:
    """Check an open connection; without a reply or with a rejected key the remaining checks are skipped.

    Parameters
    ----------
    line
        The connection to check.
    quiet
        Show no progress.
    wait_for_bar
        Wait for the next closed 1m bar (up to a minute) to measure its lag.
    """
    bench = Bench(config, line)
    found = [await _guarded(checks.clock_skew, bench)]
    if found[-1].status == FAIL:
        return found
    found.append(await _guarded(checks.keys, bench))
    if found[-1].status == FAIL:
        return found
    account = (
        checks.permissions,
        checks.position_mode,
        checks.margins,
        checks.fees,
        checks.instruments,
        checks.positions,
    )
    found += [await _guarded(check, bench) for check in account]
    say(
        "looking at the streams" + (" and waiting for a bar to close (up to a minute)" if wait_for_bar else ""),
        quiet=quiet,
    )
    async with stream_checks.Listening(bench) as ears:
        found.append(await _guarded(stream_checks.market_stream, bench, ears))
        found.append(await _guarded(stream_checks.public_stream, bench, ears))
        found += await _several(stream_checks.stop_order, bench, ears)
        if wait_for_bar:
            found.append(await _guarded(stream_checks.bar_lag, bench, ears, timeout_s=BAR_TIMEOUT_S))
    found.append(await _guarded(stream_checks.budget, bench))
    return found


async def _guarded(check: Callable[..., Awaitable[Check]], *given: Any, timeout_s: float = CHECK_TIMEOUT_S) -> Check:
    """Run one check; an error in it becomes its finding."""
    name = check.__name__.replace("_", " ")
    try:
        async with asyncio.timeout(timeout_s):
            return await check(*given)
    except BotError as error:
        return failed(name, redact(str(error)), "see the sentence")
    except TimeoutError:
        return failed(name, f"no answer within {timeout_s:.0f} s", "check the network, then try again")


async def _several(check: Callable[..., Awaitable[list[Check]]], *given: Any) -> list[Check]:
    name = check.__name__.replace("_", " ")
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            return await check(*given)
    except BotError as error:
        return [failed(name, redact(str(error)), "see the sentence")]
    except TimeoutError:
        return [failed(name, f"no answer within {CHECK_TIMEOUT_S:.0f} s", "check the network, then try again")]


async def _line(config: Config, venue: str, stack: AsyncExitStack, *, quiet: bool) -> Connection:
    """Open a connection to a venue; `sim` and `paper` are started for the checks."""
    if venue in REAL_VENUES:
        return await stack.enter_async_context(connected(venue, addresses(config, venue)))
    if venue == "paper":
        from bot.app.paper import paper_exchange

        exchange, keys = await paper_exchange(config, stack)
        port = exchange.port
    else:
        import secrets

        from bot.app.serve import embedded_exchange
        from bot.backtest.market import load_market

        keys = Credentials(secrets.token_hex(16), secrets.token_hex(16))
        market = load_market(config, None)
        say(f"market: {market.source}", quiet=quiet)
        sim = embedded_exchange(config, market, api_key=keys.api_key, api_secret=keys.secret, speed=60.0, stepped=False)
        stack.push_async_callback(sim.close)
        port = await sim.listen("127.0.0.1", 0)
        sim.start()
    at = Addresses(f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}", f"http://127.0.0.1:{port}")
    return await stack.enter_async_context(connected(venue, at, keys))


def must_pass(report: Examination) -> None:
    """Require that no check failed: else `run --venue live` does not start.

    Raises
    ------
    DoctorFailed
        With the first failure's sentence.
    """
    if not report.ok:
        first = report.failures()[0]
        raise DoctorFailed(
            f"doctor found {len(report.failures())} reasons not to trade on {report.venue}; the first: {first.name}: "
            f"{first.text} ({first.hint}). `python -m bot doctor --venue {report.venue}` shows all"
        )


class DoctorFailed(BotError):
    """`doctor` found a reason not to start."""
