"""Oscillator Matrix against genuine alerts of the product: crosses bar by bar on one stretch, rates on both symbols.

The alerts are those of `shared/truth`: on BTC 15m a stretch of 149 bars in which every alert is listed with its second,
on SOL 15m counts over 5,843 bars. The bars of the counts are not at hand; two and a half years of 15m bars of BTC and SOL
stand in for them, in windows of the same length.
"""

import csv
import itertools
import math
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bot.config import Config, Oscillator
from bot.indicators import oscillator
from tests.premium_markets import Market, batch_columns, run

QUARTER_MS = 900_000
WINDOW = 5843  # bars of the counts on SOL
FIRST_MS = 1_787_042_700_000  # 2026-08-18 08:45 UTC, the first bar of the complete stretch
# The readings before any alert stream was known: what a test does not name stays at these, whatever the defaults are.
BEFORE = {
    "hyperwave_smoothing": "off",
    "hyperwave_average": "sma",
    "hyperwave_inner": 3,
    "signal_average": "sma",
    "signal_length": 3,
    "big_dot_edge": 30.0,
    "reversal_major": "cross",
    "divergence_prominence": 50.0,
}
PRODUCT = {"hyperwave_smoothing": "super", "hyperwave_average": "ema", "signal_average": "ema"}
REST = {"big_dot_edge": 25.0, "reversal_major": "volume", "divergence_prominence": 32.0}
RECIPE = {
    "Wilder's average of 3": {"hyperwave_smoothing": "super", "hyperwave_average": "rma"},
    "EMA of 4": {"hyperwave_smoothing": "super", "hyperwave_average": "ema", "hyperwave_inner": 4},
}
ALERTS = {  # column: names of its alerts
    "om_cross_up": ("HyperWave Signal Up", "HyperWave OS Signal Up"),  # the alert of a big dot replaces the plain one
    "om_cross_down": ("HyperWave Signal Down", "HyperWave OB Signal Down"),
    "om_big_up": ("HyperWave OS Signal Up",),
    "om_big_down": ("HyperWave OB Signal Down",),
    "om_reversal_minor_up": ("Reversal Up",),
    "om_reversal_minor_down": ("Reversal Down",),
    "om_reversal_major_up": ("Reversal Up +",),
    "om_reversal_major_down": ("Reversal Down +",),
    "om_divergence_bull": ("Bullish Divergence",),
    "om_divergence_bear": ("Bearish Divergence",),
}


@pytest.fixture(scope="module")
def truth(shared: Path) -> Path:
    folder = shared / "truth"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent")
    return folder


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def quarters(truth: Path) -> tuple[np.ndarray, Market]:
    """Opening times (ms) and 15m bars, each made of three 5m bars."""
    frame = pd.DataFrame(rows_of(truth / "BTCUSDT-5m.csv")).astype(float)
    frame["open_ms"] = (frame["open_time"] // 1000 // QUARTER_MS).astype(np.int64) * QUARTER_MS  # the file has µs
    how = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    bars = frame.groupby("open_ms").agg(how)[(frame.groupby("open_ms").size() == 3).to_numpy()]
    columns = [bars[name].to_numpy(np.float64) for name in how]
    unknown = np.full(len(bars), math.nan)
    return bars.index.to_numpy(np.int64), Market(*columns, unknown, np.zeros(len(bars), np.int64))


@pytest.fixture(scope="module")
def timed(truth: Path, quarters: tuple[np.ndarray, Market]) -> dict[str, np.ndarray]:
    """Flags of the real alerts, aligned with the bars of the complete stretch.

    An alert arrives up to 40 s after the close.
    """
    open_ms = quarters[0]
    alerts = [
        (row["name"], int(datetime.fromisoformat(f"{row['time_utc']}+00:00").timestamp()) * 1000)
        for row in rows_of(truth / "events.csv")
        if row["symbol"] == "BTC" and row["interval"] == "15m" and row["note"].startswith("complete")
    ]
    flags = {}
    for column, names in ALERTS.items():
        bars = [at // QUARTER_MS * QUARTER_MS - QUARTER_MS for name, at in alerts if name in names]
        flags[column] = np.isin(open_ms, bars)[open_ms >= FIRST_MS]
    return flags


def stretch(quarters: tuple[np.ndarray, Market], settings: dict) -> dict[str, np.ndarray]:
    """Our columns on the bars of the complete stretch; the bars before it warm up."""
    open_ms, market = quarters
    out = run(oscillator, "om", Oscillator(**BEFORE | settings), market)
    return {name: values[open_ms >= FIRST_MS] for name, values in out.items()}


def sides(columns: dict[str, np.ndarray], up: str, down: str) -> np.ndarray:
    return columns[up].astype(int) - columns[down].astype(int)


def f1(ours: np.ndarray, true: np.ndarray) -> float:
    """Harmonic mean of precision and recall of events that agree in bar and side."""
    hits = ((ours == true) & (true != 0)).sum()
    return 2.0 * hits / ((ours != 0).sum() + (true != 0).sum())


def shifts(true: np.ndarray) -> list[np.ndarray]:
    """The same events, all of them moved by 3 to n - 3 bars: as many and as far apart, but at the wrong time."""
    return [np.roll(true, k) for k in range(3, len(true) - 2)]


def interval(count: int) -> tuple[float, float]:
    """Poisson's 95 % interval of an expected count, by Byar's approximation.

    >>> [round(x, 1) for x in interval(100)]
    [81.4, 121.6]
    """
    low = count * (1 - 1 / (9 * count) - 1.96 / (3 * math.sqrt(count))) ** 3
    more = count + 1
    return low, more * (1 - 1 / (9 * more) + 1.96 / (3 * math.sqrt(more))) ** 3


@pytest.mark.reference
def test_the_stretch_has_27_crosses_and_the_klines_reach_over_it(quarters, timed):
    true = sides(timed, "om_cross_up", "om_cross_down")

    assert len(true) == 149
    assert (true == 1).sum() == 14
    assert (true == -1).sum() == 13
    assert (np.diff(quarters[0]) == QUARTER_MS).all()


@pytest.mark.reference
@pytest.mark.parametrize(
    ("form", "settings", "least"),
    [
        ("signal EMA 3", PRODUCT, 0.90),
        *((f"signal SMA 3, {name}", settings, 0.80) for name, settings in RECIPE.items()),
    ],
)
def test_hyperwave_crosses_on_the_bars_of_the_real_alerts(quarters, timed, form, settings, least):
    true = sides(timed, "om_cross_up", "om_cross_down")

    ours = sides(stretch(quarters, settings), "om_cross_up", "om_cross_down")

    half = len(true) // 2
    chance = max(f1(ours, moved) for moved in shifts(true))
    halves = [f1(ours[part], true[part]) for part in (slice(0, half), slice(half, None))]
    print(f"{form}: F1 {f1(ours, true):.2f}, halves {halves[0]:.2f} and {halves[1]:.2f}, shifted at most {chance:.2f}")
    assert f1(ours, true) >= least
    assert min(halves) >= 0.75
    assert chance < 0.5


def test_the_defaults_are_the_readings_that_are_held_here():
    assert Oscillator(**BEFORE | PRODUCT | REST) == Oscillator()


@pytest.mark.reference
def test_the_line_without_the_smoother_misses_half_of_the_alerts(quarters, timed):
    """What was shipped before: the reason for the other readings."""
    true = sides(timed, "om_cross_up", "om_cross_down")

    ours = sides(stretch(quarters, {}), "om_cross_up", "om_cross_down")

    assert f1(ours, true) == pytest.approx(0.49, abs=0.01)


@pytest.mark.reference
def test_no_form_of_the_grid_fits_shifted_alerts_half_as_well(quarters, timed):
    true = sides(timed, "om_cross_up", "om_cross_down")
    grid = itertools.product(("off", "super"), ("sma", "ema", "rma"), (2, 3, 4, 5), ("sma", "ema"), (2, 3, 4))
    names = ("hyperwave_smoothing", "hyperwave_average", "hyperwave_inner", "signal_average", "signal_length")

    forms = [stretch(quarters, dict(zip(names, values, strict=True))) for values in grid]

    ours = [sides(form, "om_cross_up", "om_cross_down") for form in forms]
    best = max(f1(each, true) for each in ours)
    chance = sorted(max(f1(each, moved) for each in ours) for moved in shifts(true))
    print(
        f"{len(ours)} forms: best {best:.2f}, on shifted alerts median {chance[len(chance) // 2]:.2f}, max {chance[-1]:.2f}"
    )
    assert best >= 0.90
    assert chance[-1] < best / 2


@pytest.mark.reference
def test_majors_by_volume_come_on_the_bars_of_three_of_four_alerts(quarters, timed):
    """Four events decide little: hence the rates below as well, and the grade."""
    true = sides(timed, "om_reversal_major_up", "om_reversal_major_down")
    columns = stretch(quarters, PRODUCT | REST)

    ours = sides(columns, "om_reversal_major_up", "om_reversal_major_down")

    chance = sorted(f1(ours, moved) for moved in shifts(true))
    print(f"majors: F1 {f1(ours, true):.2f}, shifted at most {chance[-1]:.2f}")
    assert ((ours == true) & (true != 0)).sum() == 3
    assert (ours != 0).sum() == 4
    assert chance[-1] < 0.6


@pytest.fixture(scope="module")
def counted(truth: Path) -> dict[str, int]:
    """Counts of the alerts on SOL 15m over 5,843 bars, by our column."""
    counts = {
        row["name"]: int(row["count"])
        for row in rows_of(truth / "rates.csv")
        if (row["symbol"], row["interval"], row["bars"]) == ("SOL", "15m", "5843")
    }
    return {column: sum(counts[name] for name in names) for column, names in ALERTS.items()}


@pytest.fixture(scope="module", params=["BTCUSDT", "SOLUSDT"])
def bars(request, shared: Path) -> tuple[np.ndarray, np.ndarray]:
    path = shared / "klines" / "um-long" / f"{request.param}-15m.parquet"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    frame = pd.read_parquet(path)
    names = ("open", "high", "low", "close", "volume", "taker_buy_volume")
    return frame["open_time"].to_numpy(np.int64), np.vstack([frame[name].to_numpy(np.float64) for name in names])


def per_window(bars: tuple[np.ndarray, np.ndarray], settings: dict, *columns: str) -> np.ndarray:
    """Events in each window of 5,843 bars."""
    open_ms, prices = bars
    config = Config(oscillator=Oscillator(**BEFORE | settings))
    out = batch_columns(config, open_ms, prices, np.zeros(len(open_ms), np.int64), columns)
    windows = len(open_ms) // WINDOW
    return out.sum(axis=0)[: windows * WINDOW].reshape(windows, WINDOW).sum(axis=1)


@pytest.mark.reference
@pytest.mark.parametrize(
    ("settings", "columns"),
    [
        *((form, (side,)) for form in (PRODUCT, *RECIPE.values()) for side in ("om_cross_up", "om_cross_down")),
        *((PRODUCT | REST, (side,)) for side in ("om_big_up", "om_big_down")),
        (PRODUCT | REST, ("om_reversal_minor_up", "om_reversal_minor_down")),
        (PRODUCT | REST, ("om_reversal_major_up", "om_reversal_major_down")),
        (PRODUCT | REST, ("om_divergence_bull", "om_divergence_bear")),
    ],
)
def test_rates_lie_within_the_interval_of_the_counted_alerts(counted, bars, settings, columns):
    true = sum(counted[column] for column in columns)

    ours = per_window(bars, settings, *columns)

    low, high = interval(true)
    scale = 1000 / WINDOW
    print(
        f"{' and '.join(columns)}: {ours.mean() * scale:.1f} per 1,000 bars, {len(ours)} windows "
        f"{ours.min() * scale:.1f} to {ours.max() * scale:.1f}, true {true * scale:.1f} ({low * scale:.1f} to {high * scale:.1f})"
    )
    assert low <= ours.mean() <= high
