"""Our side of the comparison: every column of `signals`, recomputed on given bars.

On 3m bars all columns including the conditions, on other intervals the indicators only. The indicators start cold:
their state from before the first bar was known to the chart but is not in the export.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np

from bot.backtest.models import model_for
from bot.backtest.signals import resets_at
from bot.config import Config
from bot.core.klines import Klines, fill_gaps, make_klines
from bot.parity.exports import ChartData
from bot.strategy import kernel as k
from bot.strategy.features import batch

BASE: Final = "3m"


class OurColumns(Mapping[str, np.ndarray]):
    """Columns by name over selected rows of a matrix; a column that the interval does not have is NaN."""

    def __init__(self, matrix: np.ndarray, names: tuple[str, ...], rows: np.ndarray) -> None:
        self._matrix, self._rows = matrix, rows
        self._index = {name: i for i, name in enumerate(names)}

    def __getitem__(self, name: str) -> np.ndarray:
        """Return a column over the selected rows; NaN where there is no row."""
        place = self._index.get(name)
        out = np.full(len(self._rows), np.nan)
        if place is not None:
            there = self._rows >= 0
            out[there] = self._matrix[self._rows[there], place]
        elif name not in k.COLUMNS:
            raise KeyError(name)
        return out

    def __iter__(self) -> Any:
        """Iterate over the names of the computed columns."""
        return iter(self._index)

    def __len__(self) -> int:
        """Return the number of computed columns."""
        return len(self._index)


@dataclass(eq=False)
class Ours:
    """Our columns on bars, read at the opens of the export."""

    bars: Klines
    config: Config
    at_ms: np.ndarray

    @cached_property
    def _filled(self) -> tuple[Klines, np.ndarray]:
        filled, resets = fill_gaps(self.bars, self.config.data.max_gap_bars)
        return filled, resets_at(len(filled), resets)

    @cached_property
    def rows(self) -> np.ndarray:
        """Positions of the export's bars among ours, -1 where we have none."""
        filled = self._filled[0]
        place = np.minimum(np.searchsorted(filled.open_ms, self.at_ms), len(filled) - 1)
        return np.where(filled.open_ms[place] == self.at_ms, place, -1)

    @cached_property
    def table(self) -> OurColumns:
        """All columns at the export's bars with the given configuration."""
        return self.with_config(self.config)

    def with_config(self, config: Config, wanted: frozenset[str] | None = None) -> OurColumns:
        """Return our columns at the export's bars with another configuration; `wanted` keeps only those in memory."""
        filled, resets = self._filled
        suite_only = self.bars.interval != BASE
        matrix = batch(filled, config, resets=resets, suite_only=suite_only, model=model_for(config))
        names = k.SUITE_COLUMNS if suite_only else k.COLUMNS
        if wanted is None:
            return OurColumns(matrix, names, self.rows)
        places = [i for i, name in enumerate(names) if name in wanted]
        return OurColumns(matrix[:, places], tuple(names[i] for i in places), self.rows)

    def series(self, values: np.ndarray) -> np.ndarray:
        """Map a series over the filled bars to the export's bars, NaN where we have none."""
        return np.where(self.rows >= 0, values[self.rows], np.nan)

    @property
    def filled_bars(self) -> Klines:
        """The bars used for the computation, short gaps filled."""
        return self._filled[0]


def bars_of(data: ChartData, symbol: str, volume: np.ndarray | None = None) -> Klines:
    """Return the export's own bars as klines; `volume` is used where the export has none (0 if None)."""
    own = data.volume if data.volume is not None else volume
    columns = {
        "open_ms": data.open_ms,
        "open": data.open,
        "high": data.high,
        "low": data.low,
        "close": data.close,
        "volume": np.zeros(len(data.open_ms)) if own is None else own,
    }
    return make_klines(symbol, data.step_ms, columns=columns)


def changed(config: Config, changes: Mapping[str, Any]) -> Config:
    """Return the configuration with `section.key` settings replaced, validated as from the command line.

    >>> from bot.config import parse
    >>> changed(parse(""), {"oscillator.hyperwave_length": 14}).oscillator.hyperwave_length
    14
    """
    values = config.model_dump()
    for name, value in changes.items():
        section, setting = name.split(".")
        values[section][setting] = value
    return type(config).model_validate(values)
