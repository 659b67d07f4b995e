"""The Clock interface: wall time against a real venue, replay time against the embedded exchange."""

from collections.abc import Callable
from typing import Protocol


class Cancellable(Protocol):
    """A pending call."""

    def cancel(self) -> None:
        """Cancel the call; no effect once it has run."""


class Clock(Protocol):
    """Exchange time and delayed calls on it. All waits of the bot use a Clock, given by the composition root."""

    def now_ms(self) -> int:
        """Return UTC epoch ms on the exchange's clock."""

    def call_later(self, delay_ms: float, callback: Callable[[], None]) -> Cancellable:
        """Schedule `callback` in the event loop after `delay_ms` of this clock's time."""
