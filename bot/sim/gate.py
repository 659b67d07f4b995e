"""The handshake gate: closed during an outage."""

import asyncio


class SendGate:
    """Holds handshakes during an outage and admits them one by one, ordered by key."""

    def __init__(self) -> None:
        self.closed = False
        self._waiting: list[tuple[str, int, asyncio.Future[None]]] = []
        self._number = 0

    async def wait(self, key: str) -> None:
        """Wait to be admitted."""
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
        """Number of waiting handshakes."""
        return len(self._waiting)

    def admit(self) -> None:
        """Admit the first waiting handshake by key."""
        entry = min(self._waiting, key=lambda waiting: waiting[:2])
        self._waiting.remove(entry)
        entry[2].set_result(None)

    def open(self) -> None:
        """Admit all handshakes from now on."""
        self.closed = False
        while self._waiting:
            self.admit()
