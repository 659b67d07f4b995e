"""`flatten`: close every position, in an order that leaves none without a stop, and verify it at the exchange.

A running bot is asked through its page and flattens by itself, because it knows what it holds; afterwards the exchange is
queried (a bot that does not answer or does not finish in time is bypassed). Without one: entries are cancelled first, so that
nothing is added; positions are closed reduce-only at market while their stops still rest; then every order is cancelled,
conditional ones too; then positions and orders are read again, until there are none or the rounds are used up. A reduce-only
order sent twice cannot reverse a position, so an unknown outcome costs only another read.

From the journal only the venue and the address of a session left open are needed: when it cannot be read, whatever the reason,
the settings name them.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from bot.app.connection import Addresses, Connection, addresses, connected
from bot.config import Config
from bot.core.errors import BotError, ConfigError
from bot.core.held import lock_holder
from bot.core.intents import CancelOrder, PlaceOrder
from bot.core.types import REAL_VENUES, Instrument, OrderReport, OrderSide, OrderType, PositionReport
from bot.core.words import positions
from bot.execution.outcomes import Accepted
from bot.journal import Journal
from bot.market.paths import data_folder
from bot.report import operator

ROUNDS: Final = 8
PAUSE_S: Final = (0.3, 0.7, 1.5, 3.0, 3.0, 3.0, 3.0)
BOT_PATIENCE_S: Final = 20.0
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Standing:
    """The account's positions and orders at the exchange."""

    positions: tuple[PositionReport, ...]
    orders: tuple[OrderReport, ...]
    others: tuple[str, ...] = ()  # symbols with a position that the bot does not trade

    @property
    def flat(self) -> bool:
        """Whether there is no position and no order in the bot's symbols."""
        return not self.positions and not self.orders

    def words(self) -> str:
        """Return positions and order count as text."""
        held = positions((p.symbol, p.qty) for p in self.positions) or "no position"
        return f"{held}; {len(self.orders)} orders"


async def standing(line: Connection, symbols: tuple[str, ...]) -> Standing:
    """Read positions and orders."""
    held = await line.gateway.positions()
    orders = await line.gateway.open_orders(symbols)
    mine = tuple(p for p in held if p.symbol in symbols)
    return Standing(mine, orders, tuple(p.symbol for p in held if p.symbol not in symbols))


async def flatten_venue(config: Config, line: Connection, say: Say) -> Standing:
    """Close everything directly at the exchange; return what is left.

    Raises
    ------
    BotError
        The exchange could not be read.
    """
    symbols = config.data.symbols
    await line.gateway.synchronise()
    rules = {i.symbol: i for i in (await line.gateway.load_session(symbols, venue=line.venue)).instruments}
    now = await standing(line, symbols)
    say(f"found: {now.words()}")
    for attempt in range(ROUNDS):
        if now.flat:
            return now
        try:
            await _once(line, now, rules, attempt=attempt, say=say)
            now = await standing(line, symbols)
            if attempt < len(PAUSE_S) and not now.flat:
                await asyncio.sleep(PAUSE_S[attempt])
                now = await standing(line, symbols)
        except BotError as error:
            say(f"{error}; trying again")
            await asyncio.sleep(PAUSE_S[min(attempt, len(PAUSE_S) - 1)])
    return now


async def _once(line: Connection, now: Standing, rules: dict[str, Instrument], *, attempt: int, say: Say) -> None:
    """Cancel entries, close positions, cancel the rest: each step for all symbols at once."""
    # From the second attempt on targets are cancelled first too: an exchange may reject closing orders next to them (-4118).
    # Stops stay.
    resting = [
        o for o in now.orders if not o.algo and (not o.reduce_only or (attempt and o.order_type is OrderType.LIMIT))
    ]
    await asyncio.gather(*(_cancel(line, order, say) for order in resting))
    held = await line.gateway.positions(line_symbols(rules)) if resting else now.positions  # one may have filled
    closings = [order for p in held for order in closing_orders(p, rules[p.symbol], attempt=attempt)]
    await asyncio.gather(*(_close(line, order, say) for order in closings))
    left = {p.symbol for p in await line.gateway.positions(line_symbols(rules))}
    for symbol in rules:
        if symbol in left:
            continue  # its stops stay until it is flat
        if any(o.symbol == symbol for o in now.orders) or any(p.symbol == symbol for p in held):
            for outcome in await line.gateway.cancel_all(symbol):
                if not isinstance(outcome, Accepted):
                    say(f"cancelling all orders of {symbol}: {outcome}")


def line_symbols(rules: dict[str, Instrument]) -> tuple[str, ...]:
    """Return the symbols to flatten."""
    return tuple(rules)


def closing_orders(position: PositionReport, instrument: Instrument, *, attempt: int) -> list[PlaceOrder]:
    """Return the reduce-only market orders that close a position, none larger than the exchange accepts."""
    side = OrderSide.SELL if position.qty > 0 else OrderSide.BUY
    left, orders = abs(position.qty), list[PlaceOrder]()
    while left > 0:
        part = min(left, instrument.market_max_qty)
        own_id = f"flat-{int(time.time() * 1000)}-{attempt}-{len(orders)}-{position.symbol[:6]}"
        orders.append(PlaceOrder(own_id, position.symbol, side, OrderType.MARKET, part, reduce_only=True))
        left -= part
    return orders


async def _cancel(line: Connection, order: OrderReport, say: Say) -> None:
    outcome = await line.gateway.cancel(CancelOrder(order.client_id, order.symbol))
    words = "cancelled" if isinstance(outcome, Accepted) else f"not cancelled: {outcome}"
    say(f"{'target' if order.reduce_only else 'entry'} {order.client_id} of {order.symbol} {words}")


async def _close(line: Connection, order: PlaceOrder, say: Say) -> None:
    outcome = await line.gateway.place(order)
    words = "sent" if isinstance(outcome, Accepted) else f"not certain: {outcome}"
    say(f"{order.side.value} {order.qty:f} {order.symbol} reduce-only at market {words}")


def venue_of(venue: str | None, bot: dict[str, Any] | None, recorded: "Record") -> str:
    """Return the venue: as named, else the running bot's, else an open session's, else a simulated one.

    Raises
    ------
    ConfigError
        None of these names it.
    """
    if venue is not None:
        return venue
    if bot is not None and "venue" in bot:
        return str(bot["venue"])
    sessions = recorded.sessions
    if recorded.fault:
        raise ConfigError("the journal cannot name the venue: say --venue testnet or --venue live")
    if left := _left_open(sessions, *REAL_VENUES):
        return str(left["venue"])
    if sessions and sessions[-1]["venue"] not in REAL_VENUES:
        return str(sessions[-1]["venue"])
    raise ConfigError("no bot is running and the journal names no venue: say --venue testnet or --venue live")


def _left_open(sessions: list[dict[str, Any]], *venues: str) -> dict[str, Any] | None:
    """Return the newest session at one of the venues that was not ended."""
    mine = [s for s in sessions if s["venue"] in venues and s["ended_ms"] is None]
    return mine[-1] if mine else None


@dataclass(frozen=True, slots=True)
class Record:
    """The journal's sessions, if it can be read: nothing here depends on it."""

    sessions: list[dict[str, Any]]
    fault: str = ""  # why it could not be read


def record() -> Record:
    """Read the journal's sessions, whatever state the file is in."""
    path = data_folder() / "bot.db"
    try:
        if not path.exists():
            return Record([])
        with Journal(path, read_only=True) as journal:
            return Record(journal.sessions())
    except (BotError, OSError, sqlite3.Error, ValueError) as error:
        return Record([], str(error) or type(error).__name__)


def address_of(config: Config, venue: str, recorded: Record, *, running: bool, say: Say) -> Addresses:
    """Return the venue's addresses: from the settings, or a running bot's if it trades elsewhere.

    Parameters
    ----------
    recorded
        The journal's sessions.
    running
        Whether a bot is running.
    say
        Receives progress sentences.
    """
    at = addresses(config, venue)
    session = _left_open(recorded.sessions, venue)
    theirs = at.rest_url if session is None else str(session["account"])
    if theirs == at.rest_url:
        return at
    if running:
        say(f"the running bot trades at {theirs}, the settings name {at.rest_url}: going on at {theirs}")
        return replace(at, rest_url=theirs)
    say(f"the session that was left open traded at {theirs}; this looks at {at.rest_url}, which the settings name")
    return at


async def through_bot(bot: dict[str, Any], say: Say) -> bool:
    """Have the running bot flatten; return whether it reports that it is flat."""
    await asyncio.to_thread(operator.ask, bot, "/api/command", {"name": "stop_entries"})
    await asyncio.to_thread(operator.ask, bot, "/api/command", {"name": "flatten"})
    say(f"the running bot (pid {bot['pid']}, {bot['venue']}) has been told")
    end = time.monotonic() + BOT_PATIENCE_S
    while time.monotonic() < end:
        await asyncio.sleep(0.4)
        if _is_flat(await asyncio.to_thread(operator.ask, bot, "/api/status")):
            return True
    return False


def _is_flat(status: dict[str, Any]) -> bool:
    """Return whether the bot's page reports no position, no trade and nothing unexplained."""
    held = status.get("positions") or {}
    return (
        not any(float(qty or 0) for qty in held.values()) and not status.get("trade") and not status.get("unexplained")
    )


async def flatten(config: Config, venue: str | None, *, say: Say, confirm: Callable[[str], bool]) -> int:
    """Close every position and cancel every order; return exit code 0.

    Parameters
    ----------
    venue
        None for the running bot's or the journal's.
    say
        Receives progress sentences.
    confirm
        Asks the user a question; False aborts.

    Raises
    ------
    BotError
        The user did not confirm, or the venue is not verified flat.
    """
    bot = await asyncio.to_thread(operator.running_bot)
    recorded = record()
    if recorded.fault:
        say(f"the journal could not be read ({recorded.fault}): going by the settings and by what the exchange shows")
    name = venue_of(venue, bot, recorded)
    asked = False
    if bot is not None and bot.get("venue") == name:
        if not confirm(f"Have the running bot on {name} close every position and cancel every order?"):
            raise BotError("nothing was done")
        asked = True
        try:
            flat = await through_bot(bot, say)
        except Exception as error:  # whatever its page answers, the exchange is queried next
            flat = False
            say(str(error) or type(error).__name__)
        if name not in REAL_VENUES:
            return verdict(flat, "the running bot", name, say)
        say("the bot says it is flat: asking the exchange" if flat else "the bot is not flat: closing at the exchange")
    if name not in REAL_VENUES:
        say(f"no bot runs on {name}, whose exchange lives inside the bot: there is nothing to close")
        return 0
    holder = "" if asked else lock_holder(data_folder() / "bot.db.lock")
    at = address_of(config, name, recorded, running=asked or bool(holder), say=say)
    if holder:
        say(
            f"a bot without a page holds the journal (pid {holder}): it goes on trading unless you stop it "
            f"(kill {holder}); closing at the exchange"
        )
    async with connected(name, at) as line:
        if not asked:
            await line.gateway.synchronise()
            found = await standing(line, config.data.symbols)
            question = f"{name} at {at.rest_url} holds {found.words()}. Close every position and cancel every order?"
            if not found.flat and not confirm(question):
                raise BotError("nothing was done")
        end = await flatten_venue(config, line, say)
    if end.others:
        say(f"not touched, because the bot does not trade them: {', '.join(end.others)}")
    return verdict(end.flat, end.words(), name, say)


def verdict(flat: bool, what: str, venue: str, say: Say) -> int:
    """Report the result and return exit code 0.

    Parameters
    ----------
    what
        What is left, as text.
    say
        Receives the sentence.

    Raises
    ------
    BotError
        The venue is not flat.
    """
    if flat:
        say(f"{venue} is flat: no position, no order")
        return 0
    raise BotError(
        f"{venue} is NOT verified flat ({what}): run it again, or close by hand on the exchange's own page; "
        "stops that protect an open position were left in place"
    )
