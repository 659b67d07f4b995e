"""A connected browser: its short queue of frames, and the equity line sent on connection.

A browser that does not read is disconnected, so that a page in a forgotten tab cannot make the bot wait or its memory
grow.
"""

import asyncio
from typing import Final

SILENCE_S: Final = 10.0  # after this a comment is sent, so that proxies and browsers do not time out a quiet stream
QUEUE: Final = 40  # pending frames of a browser: ten seconds
EQUITY_POINTS: Final = 2000


class EquitySeries:
    """Equity samples for a chart: when full, every other one is dropped, so that it always covers the entire session."""

    def __init__(self, capacity: int = EQUITY_POINTS) -> None:
        self._capacity = capacity
        self._step = 1
        self._skipped = 0
        self.points: list[tuple[int, float]] = []

    def add(self, at_ms: int, equity: float) -> None:
        """Add a sample, subject to the current thinning."""
        self._skipped += 1
        if self._skipped < self._step:
            return
        self._skipped = 0
        self.points.append((at_ms, equity))
        if len(self.points) >= self._capacity:
            del self.points[1::2]
            self._step *= 2


class Browser:
    """One browser's short queue of frames; if it is full, the browser is disconnected and may reconnect.

    Parameters
    ----------
    operators
        Whether it authenticated as the operator's; guests cannot displace it.
    """

    def __init__(self, *, operators: bool = False) -> None:
        self.operators = operators
        self._frames: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=QUEUE)
        self._lost = False

    def offer(self, frame: bytes) -> None:
        """Queue a frame; never waits."""
        if self._lost or not frame:
            return
        if self._frames.full():
            self.close()
        else:
            self._frames.put_nowait(frame)

    def close(self) -> None:
        """End the stream after the frame that is being sent."""
        self._lost = True
        while not self._frames.empty():
            self._frames.get_nowait()
        self._frames.put_nowait(None)

    async def next(self) -> bytes | None:
        """Return the next frame, or a keep-alive comment after a timeout; None at the end."""
        try:
            return await asyncio.wait_for(self._frames.get(), SILENCE_S)
        except TimeoutError:
            return b": nothing new\n\n"
