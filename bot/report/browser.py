"""A browser that watches: its short queue of frames, and the equity line that it is given when it comes.

A browser that does not read is given up, so that no page in a forgotten tab can make the bot wait or its memory grow.
"""

import asyncio
from typing import Final

SILENCE_S: Final = 10.0  # a comment keeps proxies and browsers from giving up on a quiet stream
QUEUE: Final = 40  # frames that wait for a browser: ten seconds
EQUITY_POINTS: Final = 2000


class EquitySeries:
    """Equity samples for a drawing: when full, every other one is dropped, so that the whole session stays in view."""

    def __init__(self, capacity: int = EQUITY_POINTS) -> None:
        self._capacity = capacity
        self._step = 1
        self._skipped = 0
        self.points: list[tuple[int, float]] = []

    def add(self, at_ms: int, equity: float) -> None:
        """Take a sample, if it is its turn."""
        self._skipped += 1
        if self._skipped < self._step:
            return
        self._skipped = 0
        self.points.append((at_ms, equity))
        if len(self.points) >= self._capacity:
            del self.points[1::2]
            self._step *= 2


class Browser:
    """One browser's short queue of frames; one that lets it fill up is given up and may connect again.

    Parameters
    ----------
    operators
        Whether it has shown that it is the operator's: it keeps its place when others come.
    """

    def __init__(self, *, operators: bool = False) -> None:
        self.operators = operators
        self._frames: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=QUEUE)
        self._lost = False

    def offer(self, frame: bytes) -> None:
        """Hand over a frame; never waits."""
        if self._lost or not frame:
            return
        if self._frames.full():
            self.close()
        else:
            self._frames.put_nowait(frame)

    def close(self) -> None:
        """End the stream once the frame that is being sent is through."""
        self._lost = True
        while not self._frames.empty():
            self._frames.get_nowait()
        self._frames.put_nowait(None)

    async def next(self) -> bytes | None:
        """Wait for a frame, or for the moment to give a sign of life; None at the end."""
        try:
            return await asyncio.wait_for(self._frames.get(), SILENCE_S)
        except TimeoutError:
            return b": nothing new\n\n"
