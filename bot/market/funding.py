"""Funding at rest: what longs pay shorts (or the reverse) at fixed instants, usually every eight hours.

`SYMBOL-funding.parquet` (`funding_time` in UTC epoch ms, `funding_rate` as a fraction of the notional) is looked for
beside the klines, then in `../funding`. Without it funding counts as 0, and `warning` says so. Offline the rate that is
known at an instant is the last one settled; a payment is `-side * qty * price * rate` (strategy 3), longs pay when the
rate is positive.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from bot.core.errors import DataError
from bot.market.store import numbers, order_fault, parquet_table, row_words, whole_ms, write_table

HOUR_MS: Final = 3_600_000
USUAL_HOURS: Final = 8


@dataclass(frozen=True, eq=False, slots=True)
class FundingRates:
    """Settled funding of one symbol.

    Attributes
    ----------
    symbol : str
    funding_ms : ndarray(int64, ndim=1)
        Instants of settlement, UTC epoch ms, strictly rising.
    rate : ndarray(float64, ndim=1)
        Fraction of the notional per interval.
    warning : str or None
        Why there are no rates, in a sentence.
    """

    symbol: str
    funding_ms: np.ndarray
    rate: np.ndarray
    warning: str | None = None

    def __len__(self) -> int:
        """Return the number of settlements."""
        return len(self.funding_ms)

    def rate_at(self, ms: int) -> float:
        """Return the rate settled last at or before `ms`; 0 before the first."""
        index = int(np.searchsorted(self.funding_ms, ms, side="right")) - 1
        return float(self.rate[index]) if index >= 0 else 0.0

    def eight_hour_rate_at(self, ms: int) -> float:
        """Return the last settled rate normalised to eight hours."""
        return self.rate_at(ms) * USUAL_HOURS / self.interval_hours_at(ms)

    def interval_hours_at(self, ms: int) -> int:
        """Return the hours between the two last settlements at or before `ms`; 8 while that is not known."""
        index = int(np.searchsorted(self.funding_ms, ms, side="right")) - 1
        if index < 1:
            return USUAL_HOURS
        hours = round(int(self.funding_ms[index] - self.funding_ms[index - 1]) / HOUR_MS)
        return hours if 1 <= hours <= USUAL_HOURS else USUAL_HOURS  # a hole in the file is not an interval

    def payments(self, from_ms: int, to_ms: int) -> list[tuple[int, float]]:
        """Return `(instant, rate)` of every settlement in `(from_ms, to_ms]`: what a position held over it pays."""
        start, stop = np.searchsorted(self.funding_ms, (from_ms, to_ms), side="right")
        return list(zip(self.funding_ms[start:stop].tolist(), self.rate[start:stop].tolist(), strict=True))

    def next_ms(self, ms: int) -> int:
        """Return the first settlement after `ms`: from the file, beyond its end on the interval's grid."""
        index = int(np.searchsorted(self.funding_ms, ms, side="right"))
        if index < len(self.funding_ms):
            return int(self.funding_ms[index])
        step = self.interval_hours_at(ms) * HOUR_MS
        return ms - ms % step + step


def no_funding(symbol: str, *, warning: str | None = None) -> FundingRates:
    """Return funding of 0 for `symbol`."""
    return FundingRates(symbol, np.empty(0, np.int64), np.empty(0), warning)


def read_funding(path: Path, symbol: str) -> FundingRates:
    """Read one funding file; `DataError` names the first offending row."""
    table = parquet_table(path)
    missing = [name for name in ("funding_time", "funding_rate") if name not in table.column_names]
    if missing:
        raise DataError(f"{path} has no column {', '.join(missing)}: funding needs funding_time and funding_rate")
    times, rates = whole_ms(path, table, "funding_time"), numbers(path, table, "funding_rate")
    fault = order_fault(times)
    wrong = np.flatnonzero(~np.isfinite(rates))
    if fault is None and len(wrong):
        fault = int(wrong[0]), f"funding_rate is {rates[wrong[0]]}"
    if fault is not None:
        raise DataError(f"{path}: {row_words(times, fault[0]).replace('open_time', 'funding_time')}: {fault[1]}")
    return FundingRates(symbol, times, rates)


def load_funding(source: Path | str, symbol: str) -> FundingRates:
    """Return the funding of `symbol` from the klines' folder (or file's folder), else from `../funding` beside it, else 0."""
    folder = Path(source)
    if folder.is_file():
        folder = folder.parent
    name = f"{symbol}-funding.parquet"
    # resolve: the folder beside `.` or of a linked folder is the real one's neighbour
    for path in (folder / name, folder.resolve().parent / "funding" / name):
        if path.is_file():
            return read_funding(path, symbol)
    return no_funding(symbol, warning=f"no {name} in {folder} or ../funding beside it: funding of {symbol} counts as 0")


def write_funding(folder: Path | str, funding: FundingRates) -> Path:
    """Write `SYMBOL-funding.parquet` whole or not at all."""
    columns = {"funding_time": funding.funding_ms, "funding_rate": funding.rate}
    return write_table(Path(folder) / f"{funding.symbol}-funding.parquet", columns)
