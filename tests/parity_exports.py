"""Exports as TradingView writes them, made from our own engine: their right answer is known."""

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bot.config import Config, parse
from bot.core.klines import Klines
from bot.market import store
from bot.market.synthetic import synthetic
from bot.parity.ours import Ours, changed
from bot.strategy import kernel as k

CONFIG = parse("")
OSCILLATOR = {
    "Money Flow": "om_money_flow",
    "Upper Money Flow Threshold": "om_upper",
    "Lower Money Flow Threshold": "om_lower",
    "Bullish Overflow": "om_overflow_up_value",
    "Bearish Overflow": "om_overflow_down_value",
    "HyperWave": "om_hyperwave",
    "HWO Up": "om_cross_up",
    "HWO Down": "om_cross_down",
    "Oversold HWO Up": "om_big_up",
    "Overbought HWO Down": "om_big_down",
    "Reversal Up +": "om_reversal_major_up",
    "Reversal Up -": "om_reversal_minor_up",
    "Reversal Down +": "om_reversal_major_down",
    "Reversal Down -": "om_reversal_minor_down",
    "Upper Confluence Value": "om_confluence_upper",
    "Lower Confluence Value": "om_confluence_lower",
    "Confluence Meter Value": "om_meter",
}
OVERLAYS = {
    "Bullish": "so_bullish",
    "Bullish+": "so_bullish_strong",
    "Bearish": "so_bearish",
    "Bearish+": "so_bearish_strong",
    "Bullish Exit": "so_bullish_exit",
    "Bearish Exit": "so_bearish_exit",
    "Trend Strength": "so_trend_strength",
    "Trend Tracer": "so_trend_tracer",
    "Trend Catcher": "so_trend_catcher",
    "Smart Trail": "so_trail",
    "Smart Trail Extremity": "so_trail_extremity",
    "Neo Lead": "so_neo_lead",
    "Neo Lag": "so_neo_lag",
}


@functools.cache
def market(symbol: str = "BTCUSDT", interval: str = "3m") -> Klines:
    """Return a synthetic symbol's bars, ten days of them."""
    bars = synthetic(10, 11)[symbol]
    return store.build(bars, {"3m": 180_000, "15m": 900_000}[interval])


@dataclass
class Sheet:
    """A chart as rows of text cells, to be bent before it is written."""

    header: list[str]
    rows: list[list[str]]

    def write(self, path: Path, delimiter: str = ",", encoding: str = "utf-8", end: str = "\n") -> Path:
        lines = [delimiter.join(row) for row in [self.header, *self.rows]]
        path.write_text(end.join(lines) + end, encoding=encoding)
        return path

    def column(self, name: str) -> int:
        return self.header.index(name)


def word(value: float) -> str:
    return "NaN" if np.isnan(value) else repr(float(value)) if value != int(value) else str(int(value))


def values(bars: Klines, name: str, config: Config = CONFIG, changes: dict | None = None) -> np.ndarray:
    """Return our values of a feature on the bars."""
    from bot.parity.catalogue import feature

    return feature(name).read(table(bars, config, changes))


def table(bars: Klines, config: Config = CONFIG, changes: dict | None = None):
    return _table(id(bars), bars.symbol, len(bars), tuple(sorted((changes or {}).items())), _Held(bars, config))


class _Held:
    """Carries what cannot be a cache key."""

    def __init__(self, bars: Klines, config: Config) -> None:
        self.bars, self.config = bars, config

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Held)

    def __hash__(self) -> int:
        return 0


@functools.lru_cache(maxsize=16)
def _table(place: int, symbol: str, length: int, changes: tuple, held: _Held):
    config = changed(held.config, dict(changes))
    return Ours(held.bars, config, held.bars.open_ms).table


def chart(
    bars: Klines,
    columns: dict[str, str],
    *,
    changes: dict | None = None,
    noise: float = 0.0,
    seed: int = 5,
    volume: bool = True,
) -> Sheet:
    """Return an exported chart of the bars with our features under the names given.

    `changes` are hidden settings, `noise` a share of each line's deviation (from the price where it lies on it).
    """
    rng = np.random.default_rng(seed)
    found = {}
    for name, feature in columns.items():
        series = values(bars, feature, changes=changes).copy()
        if noise and len(np.unique(series[np.isfinite(series)])) > 10:
            on_price = np.nanmedian(series) > 0.5 * np.median(bars.close)
            size = np.nanstd(series - bars.close) if on_price else np.nanstd(series)
            series += np.where(series == 50.0, 0.0, rng.normal(0.0, noise * size, len(series)))
        found[name] = series
    header = ["time", "open", "high", "low", "close", *(["Volume"] if volume else []), *found]
    numbers = [bars.open, bars.high, bars.low, bars.close, *([bars.volume] if volume else []), *found.values()]
    rows = [[str(int(bars.open_ms[i]) // 1000), *(word(column[i]) for column in numbers)] for i in range(len(bars))]
    return Sheet(header, rows)


def save(folder: Path, *series: Klines) -> Path:
    """Write klines into a folder and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    for bars in series:
        store.write(folder, bars)
    return folder


__all__ = ["CONFIG", "OSCILLATOR", "OVERLAYS", "Sheet", "chart", "k", "market", "save", "table", "values"]
