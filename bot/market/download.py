"""Download history into `data/klines/`: months and days from the bulk archive, the rest over REST.

Data that the folder already has is not fetched again. Every piece is validated on arrival (checksum, order, grid,
impossible bars) and saved atomically in `.download/`, so an interrupted download resumes where it stopped; the series'
own file is replaced atomically at the end. A missing or invalid piece of the archive is fetched over REST instead, an
invalid one with a warning. Data available from neither is reported as a gap: exchanges have had outages, and files
without gaps would be made up.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Final

import aiohttp
import numpy as np

from bot.core.addresses import is_loopback
from bot.core.errors import DataError
from bot.core.klines import COLUMNS, Klines, empty_klines, gaps, interval_ms, interval_name, make_klines
from bot.core.times import HOUR_MS
from bot.market.archive import Archive, Part, days, funding_of, klines_of, plan
from bot.market.funding import FundingRates, no_funding, read_funding, write_funding
from bot.market.history import History
from bot.market.owned import make_folder
from bot.market.store import first_fault, format_time, read_file, read_raw, row_words, write

PARALLEL: Final = 6  # the archive needs no more
REST_BARS: Final = 1_000  # this many missing bars or fewer take one REST request, not a zip
CHUNK_BARS: Final = 20_000  # bars per saved REST piece
LONGEST_STEP_MS: Final = 8 * HOUR_MS  # between two settlements
LATE_MS: Final = 60_000
NEAR_STEPS: Final = 3
MONTHS_FROM_MS: Final = 10 * 24 * HOUR_MS  # ranges up to this take one REST request, not a zip
ASIDE: Final = ".download"
Advance = Callable[[int], None]


@dataclass(slots=True)
class SeriesReport:
    """Result of the download of one file."""

    file: str
    rows: int = 0
    new: int = 0
    from_ms: int = 0
    to_ms: int = 0
    gaps: list[tuple[int, int]] = field(default_factory=list)  # open time of the first missing bar, number of bars
    warnings: list[str] = field(default_factory=list)

    def line(self) -> str:
        """Return the report as one line."""
        span = f", {format_time(self.from_ms)} to {format_time(self.to_ms)}" if self.rows else ""
        bars = sum(n for _, n in self.gaps)
        held = f"{len(self.gaps)} gaps of {bars} bars, the first at {format_time(self.gaps[0][0])}" if bars else "whole"
        return f"{self.file}: {self.rows} rows ({self.new} new){span}: {held}"


class Download:
    """Download series into a folder.

    Parameters
    ----------
    folder
        Folder of the kline and funding files.
    archive, history
        The two sources: bulk archive and REST.
    now_ms
        Current exchange time, UTC epoch ms.
    advance
        Progress callback, given the number of bars processed since the last call.
    """

    def __init__(
        self, folder: Path, archive: Archive, history: History, *, now_ms: int, advance: Advance = lambda bars: None
    ) -> None:
        self._folder = folder
        self._aside = folder / ASIDE
        self._archive, self._history = archive, history
        self._now_ms = now_ms
        self._advance = advance
        self._slots = asyncio.Semaphore(PARALLEL)

    # Klines ------------------------------------------------------------------------------------------------------------

    async def klines(self, symbol: str, interval: str, from_ms: int, to_ms: int) -> SeriesReport:
        """Complete `SYMBOL-INTERVAL.parquet` for `[from_ms, to_ms)` and return the report.

        Parameters
        ----------
        symbol
            The symbol.
        interval
            The exchange's name of the interval.
        from_ms, to_ms
            Range, UTC epoch ms.

        Raises
        ------
        DataError
            The existing file is invalid, or the merged bars are; the file is left unchanged.
        """
        length = interval_ms(interval)
        path = self._folder / f"{symbol}-{interval}.parquet"
        report = SeriesReport(path.name)
        held = read_file(path) if path.is_file() else empty_klines(symbol, length)
        first = await self._history.first_ms(symbol, length)
        if first is not None and first > from_ms:
            report.warnings.append(f"{symbol} {interval} begins at {format_time(first)}")
        start, stop = _grid(max(from_ms, first or 0), length), _grid(min(to_ms, self._now_ms - length + 1), length)
        pieces = [held] + await self._from_archive(held, interval, start, stop, report)
        merged = _merge(pieces, symbol, length)
        for begin, end in _holes(merged, start, stop):
            pieces.append(await self._over_rest(symbol, length, begin, end))
        merged = _merge(pieces, symbol, length)
        if (fault := first_fault(merged)) is not None:
            raise DataError(f"{path.name} is not written: {row_words(merged.open_ms, fault[0])}: {fault[1]}")
        report.rows, report.new = len(merged), len(merged) - len(held)
        if len(merged):
            report.from_ms, report.to_ms = int(merged.open_ms[0]), merged.end_ms
            report.gaps = [(int(merged.open_ms[i - 1]) + length, n) for i, n in gaps(merged)]
        if report.new:
            make_folder(self._folder)
            write(self._folder, merged)
        self._forget(f"{symbol}-{interval}-*")
        return report

    async def _from_archive(
        self, held: Klines, interval: str, start: int, stop: int, report: SeriesReport
    ) -> list[Klines]:
        """Fetch the months and days with more than `REST_BARS` missing bars."""
        parts = [
            p for p in plan(held.symbol, interval, start, stop, now_ms=self._now_ms) if _lacks(held, p, start, stop)
        ]
        results = await asyncio.gather(*(self._part(part, held, start, stop, report) for part in parts))
        return [piece.between(start, stop) for found in results for piece in found]

    async def _part(self, part: Part, held: Klines, start: int, stop: int, report: SeriesReport) -> list[Klines]:
        async with self._slots:
            piece = await self._fetched(part, held.interval_ms, report)
        if piece is not None:
            self._advance(min(part.to_ms, stop) // held.interval_ms - max(part.from_ms, start) // held.interval_ms)
            return [piece]
        if len(part.name) > 7:
            return []
        single = days(part.symbol, part.series, max(part.from_ms, start), min(part.to_ms, stop), now_ms=self._now_ms)
        wanted = [day for day in single if _lacks(held, day, start, stop)]
        found = await asyncio.gather(*(self._part(day, held, start, stop, report) for day in wanted))
        return [one for part_of in found for one in part_of]

    async def _fetched(self, part: Part, length: int, report: SeriesReport) -> Klines | None:
        """Return a piece saved by an earlier run, else from the archive; None if the archive has no valid one."""
        aside = self._aside / f"{part.stem}.parquet"
        if (kept := _kept(aside)) is not None:
            return kept
        try:
            csv = await self._archive.fetch(part)
            if csv is None:
                return None
            make_folder(self._aside)
            piece = klines_of(csv, part, self._aside)
        except DataError as error:
            report.warnings.append(f"{error}; taken over REST")
            return None
        return self._put_aside(aside, piece)

    async def _over_rest(self, symbol: str, length: int, begin: int, end: int) -> Klines:
        """Fetch a gap over REST and save each complete chunk."""
        pieces = []
        for first in range(begin, end, CHUNK_BARS * length):
            last = min(first + CHUNK_BARS * length, end)
            aside = self._aside / f"{symbol}-{interval_name(length)}-rest-{first}-{last}.parquet"
            piece = _kept(aside)
            if piece is None:
                piece = await self._history.klines(symbol, length, first, last)
                self._put_aside(aside, piece)
            pieces.append(piece)
            self._advance((last - first) // length)
        return _merge(pieces, symbol, length)

    def _put_aside(self, path: Path, piece: Klines) -> Klines:
        """Save a piece atomically until its series is written."""
        scratch = self._aside / path.stem  # a folder of its own, because `write` names the file after the series
        make_folder(scratch)
        write(scratch, piece).replace(path)
        scratch.rmdir()
        return piece

    def _forget(self, pattern: str) -> None:
        for path in self._aside.glob(f"{pattern}.parquet") if self._aside.is_dir() else ():
            path.unlink()
        if self._aside.is_dir() and not any(self._aside.iterdir()):
            self._aside.rmdir()

    # Funding -----------------------------------------------------------------------------------------------------------

    async def funding(self, symbol: str, from_ms: int, to_ms: int) -> SeriesReport:
        """Complete `SYMBOL-funding.parquet` for `[from_ms, to_ms)` and return the report."""
        path = self._folder / f"{symbol}-funding.parquet"
        report = SeriesReport(path.name)
        held = read_funding(path, symbol) if path.is_file() else no_funding(symbol)
        stop = min(to_ms, self._now_ms)
        found = [held]
        for begin, end in _unsettled(held, from_ms, stop):
            if end - begin <= MONTHS_FROM_MS:
                found.append(await self._history.funding(symbol, begin, end))
                continue
            covered = begin
            for part in plan(symbol, "fundingRate", begin, end, now_ms=self._now_ms):
                try:
                    csv = await self._archive.fetch(part)
                    if csv is not None:
                        found.append(funding_of(csv, part))
                        continue
                except DataError as error:
                    report.warnings.append(f"{error}; taken over REST")
                found.append(await self._history.funding(symbol, max(part.from_ms, covered), min(part.to_ms, end)))
            covered = max([begin, *(p.to_ms for p in plan(symbol, "fundingRate", begin, end, now_ms=self._now_ms))])
            if covered < end:
                found.append(await self._history.funding(symbol, covered, end))
        merged = _merge_funding(found, symbol, from_ms, stop, held)
        report.rows, report.new = len(merged), len(merged) - len(held)
        if len(merged):
            report.from_ms, report.to_ms = int(merged.funding_ms[0]), int(merged.funding_ms[-1])
        if report.new:
            make_folder(self._folder)
            write_funding(self._folder, merged)
        self._advance(1)
        return report


def _grid(ms: int, length: int) -> int:
    return -(-ms // length) * length


def _missing_in(held: Klines, begin: int, end: int) -> int:
    return max(0, (end - begin) // held.interval_ms - len(held.between(begin, end)))


def _lacks(held: Klines, part: Part, start: int, stop: int) -> bool:
    """Return whether enough bars of a zip are missing to fetch it."""
    return _missing_in(held, max(part.from_ms, start), min(part.to_ms, stop)) > REST_BARS


def _kept(path: Path) -> Klines | None:
    """Return a piece saved by an earlier run, or None."""
    if not path.is_file():
        return None
    try:
        return read_raw(path)
    except DataError:
        path.unlink()  # damaged: fetch it again
        return None


def _merge(pieces: Sequence[Klines], symbol: str, length: int) -> Klines:
    """Return all bars in order without duplicates; the earlier piece wins."""
    filled = [piece for piece in pieces if len(piece)]
    if not filled:
        return empty_klines(symbol, length)
    columns = {name: np.concatenate([getattr(piece, name) for piece in filled]) for name in COLUMNS}
    _, index = np.unique(columns["open_ms"], return_index=True)
    return make_klines(symbol, length, columns={name: column[index] for name, column in columns.items()})


def _holes(klines: Klines, start: int, stop: int) -> list[tuple[int, int]]:
    """Return the ranges of `[start, stop)` without bars."""
    times = klines.between(start, stop).open_ms
    edges = np.concatenate(([start - klines.interval_ms], times, [stop]))
    wide = np.flatnonzero(np.diff(edges) > klines.interval_ms)
    return [(int(edges[i]) + klines.interval_ms, int(edges[i + 1])) for i in wide]


def _unsettled(held: FundingRates, from_ms: int, to_ms: int) -> list[tuple[int, int]]:
    """Return the ranges before, within and after the held settlements in which one may be missing.

    A symbol settles every 8, 4 or 1 hours and may change from one to another. A step longer than a nearby one is
    therefore requested again; after a change of interval that is one needless request.
    """
    edges = [from_ms - 1, *(int(t) for t in held.funding_ms if from_ms <= t < to_ms), to_ms]
    steps = [b - a for a, b in pairwise(edges)]
    spans: list[tuple[int, int]] = []
    for place, step in enumerate(steps):
        near = steps[max(1, place - NEAR_STEPS) : min(len(steps) - 1, place + NEAR_STEPS + 1)]  # without the two ends
        if step <= min([*near, LONGEST_STEP_MS] if near else [HOUR_MS]) + LATE_MS:
            continue
        if spans and spans[-1][1] == edges[place]:
            spans[-1] = spans[-1][0], edges[place + 1]
        else:
            spans.append((edges[place] + 1, edges[place + 1]))
    return spans


def _merge_funding(
    found: Sequence[FundingRates], symbol: str, from_ms: int, to_ms: int, held: FundingRates
) -> FundingRates:
    times = np.concatenate([rates.funding_ms for rates in found])
    rates = np.concatenate([rates.rate for rates in found])
    wanted = (times >= from_ms) & (times < to_ms)
    wanted[: len(held)] = True
    distinct, index = np.unique(times[wanted], return_index=True)
    return FundingRates(symbol, distinct, rates[wanted][index])


async def download(
    folder: Path,
    *,
    symbols: Sequence[str],
    intervals: Sequence[str],
    from_ms: int,
    to_ms: int | None,
    archive_url: str,
    rest_url: str,
    advance: Advance = lambda bars: None,
    planned: Callable[[int], None] = lambda bars: None,
) -> list[SeriesReport]:
    """Fetch klines and funding of all symbols, one file after the other, and return a report per file.

    Parameters
    ----------
    folder
        Folder of the kline and funding files.
    symbols, intervals
        Every interval is fetched for every symbol.
    from_ms, to_ms
        Range, UTC epoch ms; `to_ms` None means until now.
    archive_url, rest_url
        Base URLs of the bulk archive and of REST.
    advance
        Progress callback, given the number of bars processed since the last call.
    planned
        Called once with the total number of bars.
    """
    timeout = aiohttp.ClientTimeout(total=120, sock_connect=10, sock_read=60)

    def session_for(url: str) -> aiohttp.ClientSession:
        """Return a session that uses the system's proxy, except for loopback."""
        connector = aiohttp.TCPConnector(limit=PARALLEL + 2)
        return aiohttp.ClientSession(timeout=timeout, connector=connector, trust_env=not is_loopback(url))

    async with session_for(rest_url) as session, session_for(archive_url) as bulk:
        history = History(session, rest_url)
        now = await history.now_ms()
        stop = now if to_ms is None else min(to_ms, now)
        planned(sum(max(0, stop - from_ms) // interval_ms(name) for name in intervals) * len(symbols) + len(symbols))
        work = Download(folder, Archive(bulk, archive_url), history, now_ms=now, advance=advance)
        reports = []
        for symbol in symbols:
            reports += [await work.klines(symbol, interval, from_ms, stop) for interval in intervals]
            reports.append(await work.funding(symbol, from_ms, stop))
        return reports
