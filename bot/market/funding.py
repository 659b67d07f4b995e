"""Funding rates on disk: what longs pay shorts (or the reverse) at fixed times, every eight, four or one hours.

`SYMBOL-funding.parquet` (`funding_time` in UTC epoch ms, `funding_rate` as a fraction of the notional), or the archive's
months (`SYMBOL-fundingRate-2024-01.zip` or `.csv`), are searched next to the klines, then in `../funding`. Without them
funding is 0, and `warning` says so. Offline the known rate is the last one settled; a payment is
`-side * qty * price * rate` (strategy 3), longs pay when the rate is positive.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from bot.core.errors import DataError
from bot.core.times import HOUR_MS, MINUTE_MS
from bot.market.store import format_time, order_fault, row_words, scan, write_table
from bot.market.tables import file_text, in_ms, numbers, parquet_table, whole_ms, without_headers

USUAL_HOURS: Final = 8
ARCHIVE_HEADER: Final = "calc_time,funding_interval_hours,last_funding_rate"


@dataclass(frozen=True, eq=False, slots=True)
class FundingRates:
    """Settled funding of one symbol.

    Attributes
    ----------
    symbol : str
    funding_ms : ndarray(int64, ndim=1)
        Settlement times, UTC epoch ms, strictly increasing.
    rate : ndarray(float64, ndim=1)
        Fraction of the notional per interval.
    warning : str or None
        Why there are no rates, one sentence.
    """

    symbol: str
    funding_ms: np.ndarray
    rate: np.ndarray
    warning: str | None = None

    def __len__(self) -> int:
        """Return the number of settlements."""
        return len(self.funding_ms)

    def rate_at(self, ms: int) -> float:
        """Return the last rate settled at or before `ms`; 0 before the first."""
        index = int(np.searchsorted(self.funding_ms, ms, side="right")) - 1
        return float(self.rate[index]) if index >= 0 else 0.0

    def eight_hour_rate_at(self, ms: int) -> float:
        """Return the last settled rate normalised to eight hours."""
        return self.rate_at(ms) * USUAL_HOURS / self.interval_hours_at(ms)

    def interval_hours_at(self, ms: int) -> int:
        """Return the hours between the last two settlements at or before `ms`; 8 if unknown."""
        index = int(np.searchsorted(self.funding_ms, ms, side="right")) - 1
        if index < 1:
            return USUAL_HOURS
        hours = round(int(self.funding_ms[index] - self.funding_ms[index - 1]) / HOUR_MS)
        return hours if 1 <= hours <= USUAL_HOURS else USUAL_HOURS  # a gap in the file is not an interval

    def payments(self, from_ms: int, to_ms: int) -> list[tuple[int, float]]:
        """Return `(time, rate)` of every settlement in `(from_ms, to_ms]`, paid by a position held over it."""
        start, stop = np.searchsorted(self.funding_ms, (from_ms, to_ms), side="right")
        return list(zip(self.funding_ms[start:stop].tolist(), self.rate[start:stop].tolist(), strict=True))

    def next_ms(self, ms: int) -> int:
        """Return the time of the first settlement after `ms`: from the file, after its end on the interval's grid."""
        index = int(np.searchsorted(self.funding_ms, ms, side="right"))
        if index < len(self.funding_ms):
            return int(self.funding_ms[index])
        step = self.interval_hours_at(ms) * HOUR_MS
        return ms - ms % step + step


def no_funding(symbol: str, *, warning: str | None = None) -> FundingRates:
    """Return empty funding for `symbol`: all rates are 0."""
    return FundingRates(symbol, np.empty(0, np.int64), np.empty(0), warning)


def on_the_minute(times: np.ndarray) -> np.ndarray:
    """Return settlement times without their jitter: those less than 1 s after a full minute are rounded down to it.

    >>> on_the_minute(np.array([1789459200005, 1789459230000])).tolist()
    [1789459200000, 1789459230000]
    """
    jitter = times % MINUTE_MS
    return np.where(jitter < 1_000, times - jitter, times)


def settlements(csv: bytes, symbol: str, source: str) -> FundingRates:
    """Parse an archive's CSV (calc_time, funding_interval_hours, last_funding_rate); `source` names it in errors.

    Raises
    ------
    DataError
        A row is invalid; the message names the first.
    """
    times, rates = [], []
    lines = without_headers(csv, ARCHIVE_HEADER).decode("utf-8-sig").splitlines()
    for row, line in enumerate(lines, start=1):
        words = line.split(",")
        if not line.strip() or (row == 1 and not words[0].strip().isdigit()):
            continue
        try:
            times.append(int(words[0]))
            rates.append(float(words[-1]))
        except (ValueError, IndexError):
            raise DataError(f"{source}: row {row} is no settlement: {line[:80]!r}") from None
    stamps = in_ms(np.array(times, np.int64), source, "calc_time")
    return _sound(FundingRates(symbol, on_the_minute(stamps), np.array(rates)), source)


def read_funding(path: Path, symbol: str) -> FundingRates:
    """Read one funding file.

    Raises
    ------
    DataError
        The file is unreadable or a row is invalid; the message names the first.
    """
    if path.suffix != ".parquet":
        return settlements(file_text(path), symbol, str(path))
    table = parquet_table(path)
    missing = [name for name in ("funding_time", "funding_rate") if name not in table.column_names]
    if missing:
        raise DataError(f"{path} has no column {', '.join(missing)}: funding needs funding_time and funding_rate")
    times, rates = whole_ms(path, table, "funding_time"), numbers(path, table, "funding_rate")
    return _sound(FundingRates(symbol, times, rates), str(path))


def _sound(funding: FundingRates, source: str) -> FundingRates:
    fault = order_fault(funding.funding_ms)
    wrong = np.flatnonzero(~np.isfinite(funding.rate))
    if fault is None and len(wrong):
        fault = int(wrong[0]), f"funding_rate is {funding.rate[wrong[0]]}"
    if fault is not None:
        where = row_words(funding.funding_ms, fault[0]).replace("open_time", "funding_time")
        raise DataError(f"{source}: {where}: {fault[1]}")
    return funding


def read_all(paths: Sequence[Path], symbol: str) -> FundingRates:
    """Read the funding files of a symbol and join them.

    Raises
    ------
    DataError
        A file is invalid, or two files have different rates for the same time.
    """
    parts = [read_funding(path, symbol) for path in paths]
    if len(parts) == 1:
        return parts[0]
    rates: dict[int, tuple[float, Path]] = {}
    for path, part in zip(paths, parts, strict=True):
        for at, rate in zip(part.funding_ms.tolist(), part.rate.tolist(), strict=True):
            known, by = rates.setdefault(at, (rate, path))
            if known != rate:
                raise DataError(
                    f"{by} and {path.name} hold different rates of {format_time(at)}: remove the one that is wrong"
                )
    times = sorted(rates)
    return FundingRates(symbol, np.array(times, np.int64), np.array([rates[at][0] for at in times]))


def load_funding(source: Path | str, symbol: str) -> FundingRates:
    """Return the funding of `symbol` from the klines' folder (or a file's folder), else from `../funding`, else 0."""
    folder = Path(source)
    if folder.is_file():
        folder = folder.parent
    # resolve: for `.` or a symbolic link, `../funding` is next to the actual folder
    for place in (folder, folder.resolve().parent / "funding"):
        if place.is_dir() and (found := scan(place).funding.get(symbol)):
            return read_all(found, symbol)
    name = f"{symbol}-funding.parquet"
    return no_funding(symbol, warning=f"no {name} in {folder} or ../funding beside it: funding of {symbol} counts as 0")


def write_funding(folder: Path | str, funding: FundingRates) -> Path:
    """Write `SYMBOL-funding.parquet` atomically and return its path."""
    columns = {"funding_time": funding.funding_ms, "funding_rate": funding.rate}
    return write_table(Path(folder) / f"{funding.symbol}-funding.parquet", columns)
