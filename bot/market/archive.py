"""Binance's bulk archive: one zip of klines or funding per symbol and month or day, each with a SHA-256 checksum file.

Layout (venue notes 6): `data/futures/um/monthly/klines/BTCUSDT/3m/BTCUSDT-3m-2023-01.zip`, the same under `daily`, and
`monthly/fundingRate`. A month appears on the first Monday of the next one, a day one or two days later; a missing file
returns 404 and is fetched over REST instead. A zip is used only if its checksum matches; archives are sometimes
republished during a download, so a mismatch is retried before giving up.
"""

import asyncio
import hashlib
import io
import zipfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import aiohttp

from bot.core.errors import BotError, DataError
from bot.core.klines import Klines
from bot.core.times import DAY_MS
from bot.market.funding import FundingRates, settlements
from bot.market.store import first_fault, read_raw, row_words

RETRIES_S: Final = (0.5, 1.0, 2.0)
MONTH_DELAY_DAYS: Final = 7  # the first Monday of the next month is at most the 7th
DAY_DELAY_DAYS: Final = 2


@dataclass(frozen=True, slots=True)
class Part:
    """One zip of the archive: a month (`2023-01`) or a day (`2023-01-09`) of a series, `[from_ms, to_ms)`."""

    symbol: str
    series: str  # an interval, or "fundingRate"
    name: str
    from_ms: int
    to_ms: int

    @property
    def stem(self) -> str:
        """The archive's file name without its extension."""
        return f"{self.symbol}-{self.series}-{self.name}"

    @property
    def path(self) -> str:
        """Path of the zip in the archive."""
        period = "monthly" if len(self.name) == 7 else "daily"
        if self.series == "fundingRate":
            return f"data/futures/um/{period}/fundingRate/{self.symbol}/{self.stem}.zip"
        return f"data/futures/um/{period}/klines/{self.symbol}/{self.series}/{self.stem}.zip"


def _ms(moment: datetime) -> int:
    return int(moment.timestamp()) * 1000


def _next_month(first: datetime) -> datetime:
    return (first.replace(day=28) + timedelta(days=4)).replace(day=1)


def plan(symbol: str, series: str, from_ms: int, to_ms: int, *, now_ms: int) -> list[Part]:
    """Return the zips that cover `[from_ms, to_ms)` and should be published by `now_ms`, oldest first.

    >>> [p.name for p in plan("X", "3m", 1672531200000, 1675382400000, now_ms=1676851200000)]
    ['2023-01', '2023-02-01', '2023-02-02']

    Parameters
    ----------
    symbol
        The symbol.
    series
        An interval, or `fundingRate`, which has months only.
    from_ms, to_ms
        Range, UTC epoch ms.
    now_ms
        Current time, UTC epoch ms.
    """
    parts: list[Part] = []
    month = datetime.fromtimestamp(from_ms / 1000, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    end = datetime.fromtimestamp(to_ms / 1000, UTC)
    while month < end:
        following = _next_month(month)
        if _ms(following) + MONTH_DELAY_DAYS * DAY_MS <= now_ms:
            parts.append(Part(symbol, series, month.strftime("%Y-%m"), _ms(month), _ms(following)))
        elif series != "fundingRate":
            parts += days(symbol, series, max(_ms(month), from_ms), min(_ms(following), to_ms), now_ms=now_ms)
        month = following
    return parts


def days(symbol: str, series: str, from_ms: int, to_ms: int, *, now_ms: int) -> list[Part]:
    """Return the daily zips that cover `[from_ms, to_ms)`; parameters as in `plan`."""
    first = from_ms - from_ms % DAY_MS
    return [
        Part(symbol, series, datetime.fromtimestamp(day / 1000, UTC).strftime("%Y-%m-%d"), day, day + DAY_MS)
        for day in range(first, to_ms, DAY_MS)
        if day + (1 + DAY_DELAY_DAYS) * DAY_MS <= now_ms
    ]


class Archive:
    """Fetch zips and verify them.

    Parameters
    ----------
    session
        HTTP session of the requests.
    url
        Base URL, such as `https://data.binance.vision`.
    sleep
        Waits between retries, given seconds.
    """

    def __init__(
        self, session: aiohttp.ClientSession, url: str, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._session = session
        self._url = url.rstrip("/")
        self._sleep = sleep

    async def fetch(self, part: Part) -> bytes | None:
        """Return the CSV inside a zip with a valid checksum; None if the archive does not have the zip.

        Raises
        ------
        DataError
            The zip exists but is still invalid after all retries: the caller falls back to REST and reports it.
        BotError
            The archive does not respond.
        """
        fault = ""
        for pause in (*RETRIES_S, None):
            body = await self._get(f"{self._url}/{part.path}")
            told = None if body is None else await self._get(f"{self._url}/{part.path}.CHECKSUM")
            if body is None:
                return None
            if told is None:
                fault = "it has no checksum"
            else:
                wanted = told.decode("ascii", "replace").split()[:1]
                if wanted == [hashlib.sha256(body).hexdigest()]:
                    return _unzip(body, part)
                fault = "its checksum does not agree"
            if pause is not None:
                await self._sleep(pause)
        raise DataError(f"{part.stem}.zip of the archive is not used: {fault}")

    async def _get(self, url: str) -> bytes | None:
        """Return a response body, None for 404; retry every other error."""
        problem = ""
        for pause in (*RETRIES_S, None):
            try:
                async with self._session.get(url) as reply:
                    if reply.status == 404:
                        return None
                    if reply.status == 200:
                        return await reply.read()
                    problem = f"HTTP {reply.status}"
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                problem = type(error).__name__
            if pause is not None:
                await self._sleep(pause)
        raise BotError(f"the archive does not answer ({problem} for {url}); what has been fetched is kept: try again")


def _unzip(body: bytes, part: Part) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            names = [name for name in archive.namelist() if name.endswith(".csv")]
            if len(names) != 1:
                raise DataError(f"{part.stem}.zip holds {len(names)} CSV files in place of one")
            return archive.read(names[0])
    except zipfile.BadZipFile as error:
        raise DataError(f"{part.stem}.zip is no zip file: {error}") from None


def klines_of(csv: bytes, part: Part, folder: Path) -> Klines:
    """Return the bars of an archive's CSV, validated.

    `folder` temporarily holds the CSV, because the kline reader reads files.

    Raises
    ------
    DataError
        A row is invalid (the message names the first) or lies outside the period of the part.
    """
    path = folder / f"{part.stem}.csv"
    path.write_bytes(csv)
    try:
        klines = read_raw(path)
    finally:
        path.unlink(missing_ok=True)
    fault = first_fault(klines)
    if fault is not None:
        raise DataError(f"{part.stem}.zip: {row_words(klines.open_ms, fault[0])}: {fault[1]}")
    if len(klines) and not (part.from_ms <= klines.open_ms[0] and klines.open_ms[-1] < part.to_ms):
        raise DataError(f"{part.stem}.zip holds bars of another time than its name says")
    return klines


def funding_of(csv: bytes, part: Part) -> FundingRates:
    """Return the settlements of an archive's funding CSV."""
    return settlements(csv, part.symbol, f"{part.stem}.zip")
