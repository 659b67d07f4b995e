"""Publish/subscribe without back-pressure: the engine's shell publishes, terminal and dashboard read when they can.

Publishing is a few list operations and never waits. There are two kinds of notification: *the state has changed* (only the
latest counts, so subscribers request a snapshot when they are ready to show one), and *items* (fills, decisions, trades,
alerts), kept for each subscriber in a bounded queue that drops and counts its oldest items if the subscriber is too slow.
"""

import asyncio
from collections import deque
from typing import Any


class Subscription:
    """One subscription to the hub.

    Parameters
    ----------
    keep
        Maximum number of pending items; older ones are dropped and counted in `dropped`.
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
        """Wait for a notification, at most `seconds` of wall time; False on timeout."""
        try:
            await asyncio.wait_for(self._wake.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def take(self) -> list[Any]:
        """Return the items since the last call, oldest first, and reset `wait`."""
        self._wake.clear()
        items = list(self._items)
        self._items.clear()
        return items

    def close(self) -> None:
        """End the subscription."""
        self.closed = True
        self._wake.set()
        self._hub._subscriptions.discard(self)


class Hub:
    """The hub to which the bot's shell publishes; call it only in the event loop's thread."""

    def __init__(self) -> None:
        self._subscriptions: set[Subscription] = set()
        self.version = 0  # number of changes: an equal version means an unchanged state

    def publish(self, *items: Any) -> None:
        """Notify all subscribers that the state has changed, with items (events, intents, records) if any."""
        self.version += 1
        for subscription in self._subscriptions:
            subscription._offer(items)

    def subscribe(self, *, keep: int = 1000) -> Subscription:
        """Return a new subscription."""
        subscription = Subscription(self, keep=keep)
        self._subscriptions.add(subscription)
        return subscription

    @property
    def watchers(self) -> int:
        """Number of subscriptions."""
        return len(self._subscriptions)

    def close(self) -> None:
        """Close all subscriptions."""
        for subscription in tuple(self._subscriptions):
            subscription.close()
