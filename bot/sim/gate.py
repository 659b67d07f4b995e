"""The gate before the sockets: closed while an outage lasts."""

import asyncio


class SendGate:
    """Where handshakes wait while an outage lasts; they are let in one by one, in an order of their own."""

    def __init__(self) -> None:
        self.closed = False
        self._waiting: list[tuple[str, int, asyncio.Future[None]]] = []
        self._number = 0

    async def wait(self, key: str) -> None:
        """Wait to be let in."""
        if not self.closed:
            return
        self._number += 1
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = key, self._number, future
        self._waiting.append(entry)
        try:
            await future
        finally:
            if entry in self._waiting:
                self._waiting.remove(entry)

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def admit(self) -> None:
        """Let the first in, by name."""
        entry = min(self._waiting, key=lambda waiting: waiting[:2])
        self._waiting.remove(entry)
        entry[2].set_result(None)

    def open(self) -> None:
        """Let everybody in, from now on."""
        self.closed = False
        while self._waiting:
            self.admit()
