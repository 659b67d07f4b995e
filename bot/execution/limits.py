"""Binance's request budget: what is used, what is reserved for exits, and when requests must pause.

Every reply states how much of the minute's weight (2,400 per address) and of the order counts (300 in 10 s, 1,200 in a minute
per account) is used; this module only remembers it. A fifth of each is reserved: when four fifths are used, reads wait and new
entries are rejected, while exits, cancels and order queries continue.

After HTTP 429 only exits, cancels and order queries are sent until `Retry-After`; after 418 the address is banned and nothing
is sent: protective orders wait for the ban's end and are sent at that moment. Pauses end by a timer on the clock. Too many
orders (-1015) also comes as HTTP 429 but is different: only entries pause, until its window has rolled.
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
LONGEST_BAN_MS = 3 * DAY_MS  # Binance's maximum: a header that says more is wrong
BANNED_UNTIL = re.compile(r"banned until (\d{13})")


class Lane(Enum):
    """The purpose of a request; decides what may be sent when the budget is short."""

    ENTRY = "entry"  # an order that opens or adds
    EXIT = "exit"  # reduce-only, stops, cancels
    QUERY = "query"  # order queries
    READ = "read"  # everything else


class RequestLimits:
    """Used weight and order counts, pauses and bans.

    Parameters
    ----------
    tasks
        Clock and waiting.
    weight, orders_10s, orders_1m
        The venue's limits, from exchangeInfo's rateLimits.
    reserve
        Fraction of each limit that only exits, cancels and order queries may use.
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
        self._used: dict[str, tuple[int, int]] = {}  # header -> (window number, used in it)
        self._full: dict[str, int] = {}  # header -> number of the window in which an order was rejected with -1015
        self._windows = {WEIGHT_HEADER: 60_000, ORDERS_10S_HEADER: 10_000, ORDERS_1M_HEADER: 60_000}
        self._pause: Latch | None = None
        self._pause_timer: Cancellable | None = None
        self.banned = False
        self.pauses = 0
        self.until_ms = 0  # end of the pause
        self._opening: Latch | None = None  # set while the bot is still recovering
        self.on_pause: Callable[[str], None] = lambda reason: None  # called when one begins, and at its end with ""

    def used(self, header: str) -> int:
        """Return the count that the exchange last reported for the current window of `header`."""
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
        """Whether a pause or ban is in effect."""
        return self._pause is not None

    def observe(self, headers: Mapping[str, str]) -> None:
        """Read the counters from a reply's headers."""
        now = self._tasks.clock.now_ms()
        for header, window in self._windows.items():
            value = headers.get(header, "")
            if NUMBER.fullmatch(value):
                self._used[header] = (now // window, int(value))

    def observe_refusal(self, status: int, headers: Mapping[str, str], message: str) -> None:
        """Pause after HTTP 429 or 418 for as long as it says (in seconds; else one minute, or two for a ban)."""
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
        """Pause for `delay_ms`; a later call replaces the end of the pause, but never shortens a ban."""
        self.pauses += 1
        news = self._pause is None or (banned and not self.banned)
        self.banned = self.banned or banned
        if self._pause is None:
            self._pause = self._tasks.latch()
        if self._pause_timer is not None:
            self._pause_timer.cancel()
        now = self._tasks.clock.now_ms()
        if self.banned:  # the rejection of a request sent before the ban may come late
            delay_ms = max(delay_ms, self.until_ms - now)
        delay_ms = max(delay_ms, 1.0)
        self.until_ms = now + round(delay_ms)
        self._pause_timer = self._tasks.clock.call_later(delay_ms, self._resume)
        if news:  # reported once, however many requests are rejected
            told = "banned this address" if self.banned else "asked for a pause"
            self.on_pause(f"the exchange {told} for {delay_ms / 1000:.1f} s")

    def _resume(self) -> None:
        latch, self._pause, self._pause_timer, self.banned = self._pause, None, None, False
        if latch is not None:
            latch.set()
            self.on_pause("")

    def exhausted(self, message: str = "") -> None:
        """Pause entries after -1015 (too many orders) until the window named in `message` has rolled.

        Reads and exits continue: the exchange decides what is left of the exits' reserve.
        """
        header = ORDERS_1M_HEADER if "MINUTE" in message.upper() else ORDERS_10S_HEADER
        self._full[header] = self._tasks.clock.now_ms() // self._windows[header]

    def refusal(self, lane: Lane) -> tuple[int, str] | None:
        """Return why an order or cancel may not be sent now, as Binance code and message; None if it may."""
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
        """Hold orders that open or add until `release_entries`."""
        self._opening = self._opening or self._tasks.latch()

    def release_entries(self) -> None:
        """Release the held entries."""
        latch, self._opening = self._opening, None
        if latch is not None:
            latch.set()

    def held(self, lane: Lane) -> bool:
        """Return whether an order must wait: exits during a ban, entries while they are held."""
        return (self.banned and lane is not Lane.ENTRY) or (self._opening is not None and lane is Lane.ENTRY)

    async def allowed(self, lane: Lane) -> None:
        """Wait until an order is no longer held."""
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
        """Return usage and pause state, for terminal and page."""
        return {
            "weight_used": self.used_weight,
            "weight_limit": self.weight_limit,
            "orders_10s_used": self.used(ORDERS_10S_HEADER),
            "orders_1m_used": self.used(ORDERS_1M_HEADER),
            "paused_until_ms": self.until_ms if self.paused else None,
            "banned": self.banned,
        }

    def close(self) -> None:
        """Cancel the pause."""
        if self._pause_timer is not None:
            self._pause_timer.cancel()
        self.on_pause = lambda reason: None
        self._resume()
