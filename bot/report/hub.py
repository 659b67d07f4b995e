"""Lets people watch without being in the way: the engine's shell publishes, terminal and dashboard take when they can.

Publishing is a few list operations and never waits. Two kinds of news travel: *that the state has changed* (only the latest
counts, so watchers ask for a snapshot when they are ready to show one) and *things that happened* (fills, decisions,
trades, alerts), kept for each watcher in a bounded queue that drops its oldest when the watcher is too slow, and counts them.
"""

import asyncio
from collections import deque
from typing import Any


class Subscription:
    """One watcher's view of the hub.

    Parameters
    ----------
    keep
        Things that happened that are kept until taken; older ones are dropped and counted in `dropped`.
    """

    def __init__(self, hub: "Hub", *, keep: int) -> None:
        self._hub = hub
        self._items: deque[Any] = deque(maxlen=keep)
        self._wake = asyncio.Event()
        self.dropped = 0
        self.closed = False

    def _offer(self, items: tuple[Any, ...]) -> None:
        space = (self._items.maxlen or 0) - len(self._items)
        if len(items) > space:
            self.dropped += len(items) - space
        self._items.extend(items)
        self._wake.set()

    async def wait(self, seconds: float | None = None) -> bool:
        """Wait for news, at most `seconds` of wall time; False if there was none."""
        try:
            await asyncio.wait_for(self._wake.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def take(self) -> list[Any]:
        """Return what happened since the last call, oldest first, and sleep again until there is more."""
        self._wake.clear()
        items = list(self._items)
        self._items.clear()
        return items

    def close(self) -> None:
        """Stop watching."""
        self.closed = True
        self._wake.set()
        self._hub._subscriptions.discard(self)


class Hub:
    """Where the bot's shell publishes; all calls belong to the event loop's thread."""

    def __init__(self) -> None:
        self._subscriptions: set[Subscription] = set()
        self.version = 0  # counts changes: equal versions need no second look

    def publish(self, *items: Any) -> None:
        """Tell all watchers that the state has changed, and what happened (events, intents, records), if anything."""
        self.version += 1
        for subscription in self._subscriptions:
            subscription._offer(items)

    def subscribe(self, *, keep: int = 1000) -> Subscription:
        """Return a new watcher's subscription."""
        subscription = Subscription(self, keep=keep)
        self._subscriptions.add(subscription)
        return subscription

    @property
    def watchers(self) -> int:
        """How many are watching."""
        return len(self._subscriptions)

    def close(self) -> None:
        """Let every watcher go."""
        for subscription in tuple(self._subscriptions):
            subscription.close()
