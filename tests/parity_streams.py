"""Streams of alerts made from our own engine, so that their right answer is known."""

from pathlib import Path

import numpy as np

from bot.config import Config
from bot.core.klines import Klines
from bot.market.store import format_time
from bot.parity.alert_names import ALERTS
from bot.parity.ours import changed
from bot.parity.stream_bars import StreamBars, columns_on
from tests.parity_exports import CONFIG

DOUBLE = frozenset({"Bullish S-CHOCH+", "Bearish S-CHOCH+"})  # read as their twin is


def bars_of(klines: Klines) -> StreamBars:
    return StreamBars(klines, np.zeros(len(klines), np.int64), "made", [], True)


def fired(klines: Klines, changes: dict | None = None, config: Config = CONFIG) -> dict[str, np.ndarray]:
    """Positions at which each alert of the table that is computed fires."""
    columns = {name for alert in ALERTS if alert.read for name in alert.read.columns}
    table = columns_on(bars_of(klines), changed(config, changes or {}), columns)
    return {
        alert.name: np.flatnonzero(alert.read.flags(table))
        for alert in ALERTS
        if alert.read is not None and alert.name not in DOUBLE
    }


def thinned(places: dict[str, np.ndarray], lost: float, seed: int = 3) -> dict[str, np.ndarray]:
    """The same with a share of all alerts lost."""
    rng = np.random.default_rng(seed)
    return {name: at[rng.random(len(at)) >= lost] for name, at in places.items()}


def rows_of(klines: Klines, places: dict[str, np.ndarray], *, first: int = 600, seed: int = 4) -> list[tuple[int, str]]:
    """(time of arrival, name) from bar `first` on, oldest first, 0 to 40 s after the close."""
    rng = np.random.default_rng(seed)
    rows = []
    for name, at in places.items():
        closes = klines.open_ms[at[at >= first]] + klines.interval_ms
        rows += [
            (int(close) + int(late), name)
            for close, late in zip(closes, rng.integers(0, 40_000, len(closes)), strict=True)
        ]
    return sorted(rows)


def write_log(path: Path, klines: Klines, rows: list[tuple[int, str]], *, note: str = "") -> Path:
    """Write a webhook log as CSV."""
    lines = ["time_utc,symbol,interval,name,note"]
    lines += [
        f"{format_time(at)[:19]}.{at % 1000:03d},{klines.symbol},{klines.interval},{name},{note}" for at, name in rows
    ]
    path.write_text("\n".join(lines) + "\n")
    return path
