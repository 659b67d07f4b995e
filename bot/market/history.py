"""History over REST: bars and settlements missing from the bulk archive, from the exchange's public endpoints.

No API key is needed. A page of 1,000 bars costs 5 of the request weight of 2,400 per minute and IP address; at half of
it the download waits for the next minute, so that a bot on the same address always has enough. The forming bar is
left out.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import aiohttp
import numpy as np

from bot.core.errors import BotError, DataError
from bot.core.klines import Klines, empty_klines, interval_name, make_klines
from bot.market.funding import FundingRates, on_the_minute

PAGE: Final = 1_000
WEIGHT_SHARE: Final = 1_200  # of a minute's 2,400
RETRIES_S: Final = (0.5, 1.0, 2.0, 4.0)
LONGEST_PAUSE_S: Final = 300.0
_COLUMNS: Final = {
    "open_ms": 0,
    "open": 1,
    "high": 2,
    "low": 3,
    "close": 4,
    "volume": 5,
    "quote_volume": 7,
    "trades": 8,
    "taker_buy_volume": 9,
    "taker_buy_quote_volume": 10,
}


class History:
    """Client of an exchange's public REST endpoints.

    Parameters
    ----------
    session
        HTTP session of the requests.
    url
        Base URL without `/fapi`, such as `https://fapi.binance.com`.
    sleep
        Waits, given seconds.
    """

    def __init__(
        self, session: aiohttp.ClientSession, url: str, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._session = session
        self._url = url.rstrip("/")
        self._sleep = sleep
        self._one = asyncio.Lock()  # one request at a time, so that each reply's used weight is current
        self.requests = 0

    async def now_ms(self) -> int:
        """Return the exchange's time, UTC epoch ms."""
        return int((await self._get("/fapi/v1/time", {}))["serverTime"])

    async def first_ms(self, symbol: str, length_ms: int) -> int | None:
        """Return the open time of the symbol's first bar; None without bars."""
        params = {"symbol": symbol, "interval": interval_name(length_ms), "startTime": "0", "limit": "1"}
        rows = await self._get("/fapi/v1/klines", params)
        return int(rows[0][0]) if rows else None

    async def klines(self, symbol: str, length_ms: int, from_ms: int, to_ms: int) -> Klines:
        """Return the bars that open in `[from_ms, to_ms)`; the caller ensures that all have closed.

        Parameters
        ----------
        symbol
            The symbol.
        length_ms
            Interval, ms.
        from_ms, to_ms
            Range, UTC epoch ms.

        Raises
        ------
        DataError
            The reply is invalid, or the symbol is not listed.
        BotError
            The exchange does not respond, or rejects the request.
        """
        rows: list[list[Any]] = []
        start = from_ms
        while start < to_ms:
            params = {"symbol": symbol, "interval": interval_name(length_ms), "limit": str(PAGE)}
            params |= {"startTime": str(start), "endTime": str(to_ms - 1)}
            page = await self._get("/fapi/v1/klines", params)
            if not page:
                break
            rows += page
            following = int(page[-1][0]) + length_ms
            if following <= start:
                raise DataError(f"the exchange's klines of {symbol} do not go on after {start}")
            start = following
        if not rows:
            return empty_klines(symbol, length_ms)
        try:
            columns: dict[str, Any] = {
                name: [(int if name == "open_ms" else float)(row[i]) for row in rows] for name, i in _COLUMNS.items()
            }
        except (ValueError, TypeError, IndexError) as error:
            raise DataError(f"the exchange's klines of {symbol} cannot be read: {error}") from None
        return make_klines(symbol, length_ms, columns=columns)

    async def funding(self, symbol: str, from_ms: int, to_ms: int) -> FundingRates:
        """Return the settlements in `[from_ms, to_ms)`."""
        found: dict[int, float] = {}
        start = from_ms
        while start < to_ms:
            params = {"symbol": symbol, "startTime": str(start), "endTime": str(to_ms - 1), "limit": str(PAGE)}
            page = await self._get("/fapi/v1/fundingRate", params)
            found |= {int(row["fundingTime"]): float(row["fundingRate"]) for row in page}
            if len(page) < PAGE:
                break
            start = int(page[-1]["fundingTime"]) + 1
        times = np.array(sorted(found), np.int64)
        return FundingRates(symbol, on_the_minute(times), np.array([found[int(t)] for t in times]))

    async def _get(self, path: str, params: dict[str, str]) -> Any:
        problem = ""
        for pause in (*RETRIES_S, None):
            wait: float | None = pause
            try:
                async with self._one, self._session.get(f"{self._url}{path}", params=params) as reply:
                    self.requests += 1
                    body = await reply.json()
                    if reply.status == 200:
                        await self._spare(reply.headers.get("X-MBX-USED-WEIGHT-1M", ""))
                        return body
                    code = body.get("code") if isinstance(body, dict) else None
                    problem = f"{body.get('msg')} ({code})" if isinstance(body, dict) else f"HTTP {reply.status}"
                    if code == -1121:
                        raise DataError(f"the exchange at {self._url} does not list {params.get('symbol')}")
                    if reply.status == 418:
                        raise BotError(f"the exchange has banned this address: {problem}; wait, then go on")
                    if reply.status == 429:
                        wait = min(float(reply.headers.get("Retry-After", "60")), LONGEST_PAUSE_S)
                    elif reply.status < 500:
                        raise BotError(f"the exchange refuses {path}: {problem}")
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                problem = f"{type(error).__name__}"
            if wait is not None:
                await self._sleep(wait)
        raise BotError(
            f"the exchange at {self._url} does not answer {path} ({problem}); what has been fetched is kept: try again"
        )

    async def _spare(self, used: str) -> None:
        """Wait once half of this minute's request weight is used."""
        if used.isdigit() and int(used) >= WEIGHT_SHARE:
            await self._sleep(20.0)  # less than a minute: the next reply reports the weight again
