"""The listen key: one per account, valid for 60 minutes of the exchange's clock from the last POST or PUT."""

from collections.abc import Callable
from hashlib import sha256
from typing import Any, Final

from bot.core.times import HOUR_MS
from bot.sim.errors import Refused

LIFE_MS: Final = HOUR_MS


class ListenKeys:
    """The account's single listen key."""

    def __init__(self, now_ms: Callable[[], int], seed: int) -> None:
        self._now_ms, self._seed, self._made = now_ms, seed, 0
        self.active = ""
        self.until_ms = 0

    def create(self) -> str:
        """Return the active key with its validity extended, or a new one."""
        if not self.active:
            self._made += 1
            self.active = sha256(f"listen key {self._seed} {self._made}".encode()).hexdigest()
        self.until_ms = self._now_ms() + LIFE_MS
        return self.active

    def extend(self) -> str:
        """Extend the active key's validity.

        Raises
        ------
        Refused
            -1125 if there is none.
        """
        if not self.active:
            raise Refused(-1125)
        return self.create()

    def delete(self) -> dict[str, Any]:
        """Delete the key; its listeners receive nothing more."""
        self.active = ""
        return {}
