"""Past states of the venue, for reads that lag behind the user stream.

In volatile markets REST may answer from a state that the user stream has already left (venue notes 3, trap 4). While
such a fault is active, a copy is kept after every change; live orders are copied, ended ones shared, because they no
longer change.
"""

import copy
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from bot.sim.venue import Venue

KEPT_MS: Final = 60_000


def view(venue: "Venue") -> "Venue":
    """Return a readable copy of a venue that does not change with it."""
    copied = copy.copy(venue)
    replaced = {order_id: copy.copy(o) if o.live else o for order_id, o in venue.orders.items()}
    copied.orders = replaced
    copied.take_over(replaced)
    copied.rules = dict(venue.rules)
    copied.fills, copied.incomes = list(venue.fills), list(venue.incomes)
    copied.account = copy.copy(venue.account)
    copied.account.positions = {symbol: copy.copy(p) for symbol, p in venue.account.positions.items()}
    copied.algos = venue.algos.copied(copied)
    copied.settings = copy.copy(venue.settings)
    return copied


class Past:
    """The states of the last minute."""

    def __init__(self) -> None:
        self._views: deque[tuple[int, Venue]] = deque()

    def note(self, venue: "Venue", now_ms: int) -> None:
        """Keep the current state."""
        self._views.append((now_ms, view(venue)))
        while len(self._views) > 1 and self._views[1][0] <= now_ms - KEPT_MS:
            self._views.popleft()

    def at(self, at_ms: int, venue: "Venue") -> "Venue":
        """Return the state at `at_ms`, or the oldest known one."""
        found = venue
        for since_ms, kept in reversed(self._views):
            found = kept
            if since_ms <= at_ms:
                break
        found.now_ms = venue.now_ms
        return found

    def clear(self) -> None:
        """Discard all states."""
        self._views.clear()
