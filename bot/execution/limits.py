"""Binance's request budget: what has been used, what is kept back for exits, and when we have to be silent.

The exchange tells in every reply how much of the minute's weight (2,400 per address) and of the order counts (300 in 10 s,
1,200 in a minute per account) is used; this module only remembers. A fifth of each is kept back: reads wait and new
entries are refused when four fifths are gone, while exits, cancels and order queries go on.

After HTTP 429 everything but exits, cancels and order queries is silent until `Retry-After`; after 418 the address is
banned and everything is: what protects waits for its end and goes out in that moment. Pauses end by a timer on the clock.
A refusal for too many orders (-1015) comes as HTTP 429 too and is another thing: only entries rest, until its window has rolled.
"""

import re
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from bot.core.clock import Cancellable
from bot.core.times import DAY_MS, MINUTE_MS
from bot.execution.tasks import Latch, Tasks

WEIGHT_HEADER = "X-MBX-USED-WEIGHT-1M"
ORDERS_10S_HEADER = "X-MBX-ORDER-COUNT-10S"
ORDERS_1M_HEADER = "X-MBX-ORDER-COUNT-1M"
NUMBER = re.compile(r"[0-9]{1,9}")
SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,6})?")
LONGEST_BAN_MS = 3 * DAY_MS  # Binance's own: a header that says more is wrong
BANNED_UNTIL = re.compile(r"banned until (\d{13})")


class Lane(Enum):
    """What a request is for; decides what may pass when the budget is short."""

    ENTRY = "entry"  # an order that opens or adds
    EXIT = "exit"  # reduce-only, stops, cancels
    QUERY = "query"  # looking an order up
    READ = "read"  # everything else


class RequestLimits:
    """Used weight and order counts, pauses and bans.

    Parameters
    ----------
    tasks
        The clock to wait on.
    weight, orders_10s, orders_1m
        The venue's limits, from exchangeInfo's rateLimits.
    reserve
        Fraction of each that only exits, cancels and order queries may use.
    """

    def __init__(
        self,
        tasks: Tasks,
        *,
        weight: int = 2400,
        orders_10s: int = 300,
        orders_1m: int = 1200,
        reserve: float = 0.2,
    ) -> None:
        self._tasks = tasks
        self.weight_limit = weight
        self.orders_10s_limit = orders_10s
        self.orders_1m_limit = orders_1m
        self.reserve = reserve
        self._used: dict[str, tuple[int, int]] = {}  # header -> (window's number, used in it)
        self._full: dict[str, int] = {}  # header -> number of the window in which the exchange refused one more order
        self._windows = {WEIGHT_HEADER: 60_000, ORDERS_10S_HEADER: 10_000, ORDERS_1M_HEADER: 60_000}
        self._pause: Latch | None = None
        self._pause_timer: Cancellable | None = None
        self.banned = False
        self.pauses = 0
        self.until_ms = 0  # end of the pause
        self._opening: Latch | None = None  # while the bot is still finding out where it stands
        self.on_pause: Callable[[str], None] = lambda reason: None  # told when one begins, and at its end with ""

    def used(self, header: str) -> int:
        """Return what the exchange last told for the window of `header` that runs now."""
        number, used = self._used.get(header, (-1, 0))
        window = self._tasks.clock.now_ms() // self._windows[header]
        told = used if number == window else 0
        return max(told, self._order_limit(header)) if self._full.get(header) == window else told

    def _order_limit(self, header: str) -> int:
        return self.orders_1m_limit if header == ORDERS_1M_HEADER else self.orders_10s_limit

    @property
    def used_weight(self) -> int:
        """Weight used in this minute."""
        return self.used(WEIGHT_HEADER)

    @property
    def paused(self) -> bool:
        """Whether the exchange has told us to be silent."""
        return self._pause is not None

    def observe(self, headers: Mapping[str, str]) -> None:
        """Read the counters from a reply's headers."""
        now = self._tasks.clock.now_ms()
        for header, window in self._windows.items():
            value = headers.get(header, "")
            if NUMBER.fullmatch(value):
                self._used[header] = (now // window, int(value))

    def observe_refusal(self, status: int, headers: Mapping[str, str], message: str) -> None:
        """Note an HTTP 429 or 418 and pause for as long as it says (seconds; else a minute, or two for a ban)."""
        if status not in (418, 429):
            return
        told = headers.get("Retry-After", "")
        if SECONDS.fullmatch(told):
            delay_ms = float(told) * 1000
        else:
            until = BANNED_UNTIL.search(message)
            if until:
                delay_ms = int(until.group(1)) - self._tasks.clock.now_ms()
            else:
                delay_ms = 60_000 if status == 429 else 120_000
        self.pause(min(delay_ms, LONGEST_BAN_MS), banned=status == 418)

    def pause(self, delay_ms: float, *, banned: bool = False) -> None:
        """Be silent for `delay_ms`; a later call may lengthen it, and a ban stays one."""
        self.pauses += 1
        news = self._pause is None or (banned and not self.banned)
        self.banned = self.banned or banned
        if self._pause is None:
            self._pause = self._tasks.latch()
        if self._pause_timer is not None:
            self._pause_timer.cancel()
        self.until_ms = self._tasks.clock.now_ms() + round(max(delay_ms, 1.0))
        self._pause_timer = self._tasks.clock.call_later(max(delay_ms, 1.0), self._resume)
        if news:  # said once, however many requests are refused
            told = "banned this address" if self.banned else "asked for a pause"
            self.on_pause(f"the exchange {told} for {max(delay_ms, 1.0) / 1000:.1f} s")

    def _resume(self) -> None:
        latch, self._pause, self._pause_timer, self.banned = self._pause, None, None, False
        if latch is not None:
            latch.set()
            self.on_pause("")

    def exhausted(self, message: str = "") -> None:
        """Note that the exchange refused an order for too many (-1015): entries rest until the window that it names has rolled.

        Reads go on, and so do exits: what is left of their reserve is for the exchange to say.
        """
        header = ORDERS_1M_HEADER if "MINUTE" in message.upper() else ORDERS_10S_HEADER
        self._full[header] = self._tasks.clock.now_ms() // self._windows[header]

    def refusal(self, lane: Lane) -> tuple[int, str] | None:
        """Return why an order or cancel may not be sent now, as Binance's code and a sentence; None if it may."""
        if self.banned:
            return -1003, "not sent: this address is banned by the exchange"
        if lane is not Lane.ENTRY:
            return None
        if self.paused:
            return -1003, "not sent: the exchange asked for a pause"
        share = 1 - self.reserve
        for header in (ORDERS_10S_HEADER, ORDERS_1M_HEADER):
            limit = self._order_limit(header)
            if self.used(header) >= share * limit:
                return -1015, f"not sent: {self.used(header)} of {limit} orders used, the rest is kept for exits"
        return None

    def hold_entries(self) -> None:
        """Let orders that open or add wait until `release_entries`."""
        self._opening = self._opening or self._tasks.latch()

    def release_entries(self) -> None:
        """Let them go."""
        latch, self._opening = self._opening, None
        if latch is not None:
            latch.set()

    def held(self, lane: Lane) -> bool:
        """Whether an order may not be sent yet: nothing during a ban, no entry while entries are held."""
        return (self.banned and lane is not Lane.ENTRY) or (self._opening is not None and lane is Lane.ENTRY)

    async def allowed(self, lane: Lane) -> None:
        """Wait until an order is not held any more."""
        while self.held(lane):
            latch = self._opening if lane is Lane.ENTRY else self._pause
            if latch is None:
                return
            await latch.wait()

    async def clearance(self, lane: Lane) -> None:
        """Wait until a read (lane READ) or an order query (lane QUERY) may be sent."""
        while self._pause is not None and (self.banned or lane is Lane.READ):
            await self._pause.wait()
        if lane is Lane.READ and self.used_weight >= (1 - self.reserve) * self.weight_limit:
            now = self._tasks.clock.now_ms()
            await self._tasks.sleep(MINUTE_MS - now % MINUTE_MS + 10)

    def view(self) -> dict[str, Any]:
        """Return how much is used and whether there is a pause, for terminal and page."""
        return {
            "weight_used": self.used_weight,
            "weight_limit": self.weight_limit,
            "orders_10s_used": self.used(ORDERS_10S_HEADER),
            "orders_1m_used": self.used(ORDERS_1M_HEADER),
            "paused_until_ms": self.until_ms if self.paused else None,
            "banned": self.banned,
        }

    def close(self) -> None:
        """Forget the pause."""
        if self._pause_timer is not None:
            self._pause_timer.cancel()
        self.on_pause = lambda reason: None
        self._resume()
