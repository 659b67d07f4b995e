"""Funding schedule: the recorded rates of a symbol, and a rate of 0 every eight hours where there is no record.

premiumIndex's `lastFundingRate` is the rate that will be charged at `nextFundingTime` (venue notes 2.10), so the
exchange reports the next recorded rate. Recorded times jitter by some ms; payments fall on the minute.
"""

from typing import Final, Protocol

import numpy as np

from bot.core.times import HOUR_MS, MINUTE_MS

EIGHT_HOURS_MS: Final = 8 * HOUR_MS


class SettlementRates(Protocol):
    """Recorded funding: times in UTC epoch ms, ascending, and rates as fractions of the notional."""

    @property
    def funding_ms(self) -> np.ndarray: ...
    @property
    def rate(self) -> np.ndarray: ...


class FundingSchedule:
    """One symbol's funding payments."""

    def __init__(self, rates: SettlementRates | None) -> None:
        times = np.zeros(0, dtype=np.int64) if rates is None else np.asarray(rates.funding_ms, dtype=np.int64)
        self.rates = np.zeros(0) if rates is None else np.nan_to_num(np.asarray(rates.rate, dtype=np.float64))
        self.times = times - times % MINUTE_MS

        self._changed: tuple[int, int, float] | None = None  # since when (ms), interval in hours, rate

    def change(self, now_ms: int, *, hours: int, rate: float | None = None) -> None:
        """Pay every `hours` from now on, at `rate` or, without one, at the rate due next."""
        self._changed = now_ms, hours, self.next(now_ms)[1] if rate is None else rate

    def next(self, now_ms: int) -> tuple[int, float]:
        """Return time and rate of the first payment after `now_ms`."""
        if self._changed is not None:
            step = self._changed[1] * HOUR_MS
            return now_ms - now_ms % step + step, self._changed[2]
        grid = now_ms - now_ms % EIGHT_HOURS_MS + EIGHT_HOURS_MS
        index = int(np.searchsorted(self.times, now_ms, side="right"))
        if index < len(self.times) and self.times[index] <= grid:
            return int(self.times[index]), float(self.rates[index])
        return grid, 0.0

    def at(self, now_ms: int) -> float | None:
        """Return the rate paid exactly at `now_ms`, or None."""
        if self._changed is not None:
            due = now_ms % (self._changed[1] * HOUR_MS) == 0 and now_ms > self._changed[0]
            return self._changed[2] if due else None
        index = int(np.searchsorted(self.times, now_ms))
        return float(self.rates[index]) if index < len(self.times) and self.times[index] == now_ms else None

    def history(self, start: int | None, end: int, limit: int) -> list[tuple[int, float]]:
        """Return past payments in [start, end], oldest first: the last `limit` without a start, else the first."""
        stop = int(np.searchsorted(self.times, end, side="right"))
        first = max(0, stop - limit) if start is None else int(np.searchsorted(self.times, start))
        part = slice(first, min(stop, first + limit))
        return list(zip(self.times[part].tolist(), self.rates[part].tolist(), strict=True))

    def interval_hours(self, now_ms: int) -> int:
        """Return the hours between the payments around `now_ms`."""
        if self._changed is not None:
            return self._changed[1]
        index = int(np.searchsorted(self.times, now_ms, side="right"))
        if 0 < index < len(self.times):
            hours = round(int(self.times[index] - self.times[index - 1]) / HOUR_MS)
            if 1 <= hours <= 8:
                return hours
        return 8


def write_rate(rate: float) -> str:
    """Format a rate as Binance does, with 8 decimals."""
    return f"{rate:.8f}"
