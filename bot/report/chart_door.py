"""Charts for the page: cached for identical requests, and encoded part by part, because the event loop sends the orders.

The 5,000 newest bars of a symbol are about a megabyte of JSON; encoded at once they would block the loop for tens of
milliseconds, in a thread they would hold the interpreter lock as long. So each of some forty parts is encoded separately,
and other tasks run in between.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from time import perf_counter
from typing import Any, Final

from bot.report.live import Live

KEPT: Final = 6  # cached charts: two per symbol
SLICE_S: Final = 0.001  # of work before yielding to the event loop


class ChartDoor:
    """Serves charts as JSON.

    Parameters
    ----------
    dumps
        Encodes a part as JSON.
    """

    def __init__(self, live: Live, *, dumps: Callable[[Any], bytes]) -> None:
        self._live, self._dumps = live, dumps
        self._kept: OrderedDict[tuple[Any, ...], bytes] = OrderedDict()
        self._making = asyncio.Lock()

    async def chart(
        self, symbol: str, *, last: int, after_ms: int | None, spend: Callable[[float], None]
    ) -> bytes | None:
        """Return the chart of a symbol; None for an unknown one.

        Parameters
        ----------
        last, after_ms
            As `Live.chart`.
        spend
            Called repeatedly with the seconds of loop time used.
        """
        if symbol not in self._live.tapes:
            return None
        async with self._making:
            followed = False
            while not followed:
                began = perf_counter()
                followed = self._live.follow()
                spend(perf_counter() - began)
                await asyncio.sleep(0)
            key = (symbol, last, after_ms, self._live.newest()[symbol])
            if key not in self._kept:
                self._kept[key] = await self._made(symbol, last, after_ms, spend)
                while len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            return self._kept[key]

    async def _made(self, symbol: str, last: int, after_ms: int | None, spend: Callable[[float], None]) -> bytes:
        parts = self._live.chart(symbol, last=last, after_ms=after_ms)
        assert parts is not None
        made: dict[str, bytes | dict[str, bytes]] = {}
        began = perf_counter()
        for path, value in parts:
            if len(path) == 1:
                made[path[0]] = self._dumps(value)
            else:
                inner = made.setdefault(path[0], {})
                assert isinstance(inner, dict)
                inner[path[1]] = self._dumps(value)
            if (took := perf_counter() - began) > SLICE_S:
                spend(took)
                await asyncio.sleep(0)
                began = perf_counter()
        spend(perf_counter() - began)
        return _object({name: _object(part) if isinstance(part, dict) else part for name, part in made.items()})


def _object(parts: dict[str, bytes]) -> bytes:
    return b"{" + b",".join(b'"%b":%b' % (name.encode(), part) for name, part in parts.items()) + b"}"
