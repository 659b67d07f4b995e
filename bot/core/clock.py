"""The one Clock that the composition root hands out: wall time towards a venue, replay time towards the embedded exchange."""

from collections.abc import Callable
from typing import Protocol


class Cancellable(Protocol):
    """A pending call."""

    def cancel(self) -> None:
        """Forget the call; harmless when it has run."""


class Clock(Protocol):
    """Exchange time and delayed calls on it. All of the bot's own waiting goes through one of these."""

    def now_ms(self) -> int:
        """UTC epoch ms on the exchange's clock."""

    def call_later(self, delay_ms: float, callback: Callable[[], None]) -> Cancellable:
        """Run `callback` in the event loop after `delay_ms` of this clock's time."""
