"""The last bars of one symbol as the engine keeps them: closes for the betas, and the newest row."""

from dataclasses import dataclass, field

from bot.core.types import Kline
from bot.strategy.rules import Row


@dataclass(slots=True)
class Series:
    """Newest bars of one symbol on the base interval; gaps are filled as in the features."""

    length: int  # closes kept
    max_gap_bars: int
    closes: dict[int, float] = field(default_factory=dict)  # by open time, oldest first
    last_open_ms: int = -1
    row: Row | None = None

    def is_new(self, kline: Kline) -> bool:
        """Return whether the bar is newer than all bars seen; older and duplicate bars are to be ignored."""
        return kline.open_ms > self.last_open_ms

    def add(self, kline: Kline, row: Row | None) -> None:
        """Add a bar and its row; a short gap is filled flat, a long one drops the bars before it."""
        if self.last_open_ms >= 0:
            missing = (kline.open_ms - self.last_open_ms) // kline.interval_ms - 1
            if missing > self.max_gap_bars:
                self.closes.clear()
            else:
                flat = self.closes[self.last_open_ms]
                for i in range(missing):
                    self.closes[self.last_open_ms + (i + 1) * kline.interval_ms] = flat
        self.closes[kline.open_ms] = kline.close
        while len(self.closes) > self.length:
            del self.closes[next(iter(self.closes))]
        self.last_open_ms, self.row = kline.open_ms, row
