"""Features: the column values of every closed bar, computed live bar by bar or in batch over history.

The engine calls `Features.step`; `batch` loops the same kernel over columns. Both follow one gap rule (strategy 1): up to
`data.max_gap_bars` missing base bars are filled flat (open = high = low = close = previous close, no volume), a longer gap resets
both intervals of the symbol. An invalid bar is rejected and leaves the state unchanged.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from bot.config import Config
from bot.core.events import KlineClosed
from bot.core.garbage import uncollected
from bot.core.jit import records
from bot.core.klines import Klines, check_bar
from bot.indicators import oscillator, overlays, supertrend
from bot.indicators.volatility import BAR, bar_step
from bot.strategy import kernel as k
from bot.structure import pac, smc

INDEX = {name: i for i, name in enumerate(k.COLUMNS)}
CHUNK = k.BLOCK  # rows of a batch held in memory during iteration


class FeatureRow:
    """One bar's columns by name; a view of a float64 vector."""

    __slots__ = ("values",)

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __getitem__(self, name: str) -> float:
        return float(self.values[INDEX[name]])

    def as_dict(self) -> dict[str, float]:
        """Return all columns, in order."""
        return dict(zip(k.COLUMNS, self.values.tolist(), strict=True))


class Features:
    """The kernels of all symbols, stepped one closed base bar at a time.

    Parameters
    ----------
    base_ms, htf_ms
        Lengths of the base and the higher interval.
    model
        Coefficients of the learned classifier, needed when `overlays.classifier` is "learned".
    """

    def __init__(
        self,
        config: Config,
        *,
        base_ms: int = 180_000,
        htf_ms: int = 900_000,
        model: Mapping[str, Any] | None = None,
    ) -> None:
        self.symbols = config.data.symbols
        self.base_ms = base_ms
        self.max_gap_bars = config.data.max_gap_bars
        self._params = records(k.PARAMS, 1)
        self._params[0] = k.params(config, base_ms=base_ms, htf_ms=htf_ms, model=model)
        self._stepper = k.Stepper(self._params, symbols=len(self.symbols), block=1)
        self._index = {symbol: i for i, symbol in enumerate(self.symbols)}
        self._last: dict[str, tuple[int, float]] = {}
        self._fresh = dict.fromkeys(self.symbols, True)  # the next bar is the first one, or ends a long gap
        self._bar = _OneBar()
        self.refused: list[str] = []

    def step(self, event: KlineClosed) -> FeatureRow | None:
        """Advance a symbol by one closed base bar and return its row; None for other intervals or symbols and rejected bars.

        A rejected bar is noted in `refused` and changes nothing.
        """
        bar = event.kline
        index = self._index.get(bar.symbol)
        if index is None or bar.interval_ms != self.base_ms:
            return None
        reason = check_bar(bar.open, bar.high, bar.low, bar.close, bar.volume, bar.taker_buy_volume)
        last = self._last.get(bar.symbol)
        if reason is None and last is not None and bar.open_ms <= last[0]:
            reason = "it is not newer than the bar before"
        if reason is not None:
            self.refused.append(f"{bar.symbol} bar at {bar.open_ms}: {reason}")
            return None
        if last is not None:
            missing = (bar.open_ms - last[0]) // self.base_ms - 1
            if missing > self.max_gap_bars:
                self._fresh[bar.symbol] = True
            else:
                for i in range(missing):
                    flat = (last[1], last[1], last[1], last[1], 0.0, 0.0)
                    self._step(bar.symbol, last[0] + (i + 1) * self.base_ms, flat, filled=1)
        self._last[bar.symbol] = (bar.open_ms, bar.close)
        self._step(bar.symbol, bar.open_ms, bar[3:9], filled=int(event.filled))
        return FeatureRow(self._bar.rows[0].copy())

    def _step(self, symbol: str, open_ms: int, values: tuple[float, ...], *, filled: int) -> None:
        index = self._index[symbol]
        if self._fresh[symbol]:
            self._stepper.reset(index)
            self._fresh[symbol] = False
        self._stepper.step(index, self._bar.fill(open_ms, values, filled=filled), self._bar.rows)

    def state_bytes(self, symbol: str) -> bytes:
        """Return a symbol's entire state: two runs over the same bars give the same bytes."""
        index = self._index[symbol]
        stepper = self._stepper
        return bytes(b"".join(each[index].tobytes() for each in (stepper.states, stepper.clocks, stepper.last)))


class _OneBar:
    """Columns of length one, refilled for each bar: the kernel always takes columns."""

    def __init__(self) -> None:
        self.open_ms = np.zeros(1, np.int64)
        self.values = tuple(np.zeros(1) for _ in range(6))  # open, high, low, close, volume, taker
        self.filled = np.zeros(1, np.int64)
        self.rows = np.empty((1, len(k.COLUMNS)))
        self.columns = (self.open_ms, *self.values, self.filled)

    def fill(self, open_ms: int, values: tuple[float, ...], *, filled: int) -> tuple[np.ndarray, ...]:
        self.open_ms[0] = open_ms
        for column, value in zip(self.values, values, strict=True):
            column[0] = value
        self.filled[0] = filled
        return self.columns


def step_columns(bars: Klines) -> tuple[np.ndarray, ...]:
    """Return bars as the columns that a stepper takes: writable, because read-only arrays would need a separate signature."""
    prices = (bars.open, bars.high, bars.low, bars.close, bars.volume, bars.taker_buy_volume)
    columns = (bars.open_ms, *prices, bars.filled.astype(np.int64))
    return tuple(np.require(column, requirements=["C", "W"]) for column in columns)


def batch_chunks(
    bars: Klines,
    config: Config,
    *,
    resets: np.ndarray | None = None,
    htf_ms: int = 900_000,
    suite_only: bool = False,
    chunk: int = CHUNK,
    model: Mapping[str, Any] | None = None,
) -> Iterator[tuple[int, np.ndarray]]:
    """Step through the bars of one symbol and yield (first row, rows) in chunks; the buffer is reused.

    Parameters
    ----------
    bars
        Closed bars of the base interval, gaps already filled (`core.klines.fill_gaps`).
    resets
        int64 per bar, non-zero where a longer gap ends and the state is reset before that bar.
    htf_ms
        Length of the higher interval.
    suite_only
        Only the indicator columns, on the bars' own interval (`signals --interval 15m`).
    chunk
        Rows per chunk.
    model
        Coefficients of the learned classifier, needed when `overlays.classifier` is "learned".
    """
    resets = np.zeros(len(bars.open_ms), np.int64) if resets is None else resets.copy()
    resets[:1] = 1
    params = records(k.PARAMS, 1)
    params[0] = k.params(config, base_ms=bars.interval_ms, htf_ms=htf_ms, model=model, last_index=len(bars.open_ms) - 1)
    stepper = k.Stepper(params)
    columns = step_columns(bars)
    names = k.SUITE_COLUMNS if suite_only else k.COLUMNS
    rows = np.empty((min(chunk, len(bars.open_ms)), len(names)))
    for first in range(0, len(bars.open_ms), chunk):
        part = slice(first, min(first + chunk, len(bars.open_ms)))
        view = rows[: part.stop - first]
        given = tuple(column[part] for column in columns)
        if suite_only:
            stepper.run_suite(given, resets[part], view)
        else:
            stepper.run(0, given, resets[part], view)
        yield first, view


def batch(
    bars: Klines,
    config: Config,
    *,
    resets: np.ndarray | None = None,
    htf_ms: int = 900_000,
    suite_only: bool = False,
    model: Mapping[str, Any] | None = None,
) -> np.ndarray:
    """Return all columns of all bars as one float64 matrix (bars, columns); parameters as in `batch_chunks`."""
    names = k.SUITE_COLUMNS if suite_only else k.COLUMNS
    result = np.empty((len(bars.open_ms), len(names)))
    for first, rows in batch_chunks(bars, config, resets=resets, htf_ms=htf_ms, suite_only=suite_only, model=model):
        result[first : first + len(rows)] = rows
    return result


_BAR = (0, 100.0, 101.0, 99.0, 100.5, 1.0, 0.5, 0)  # an arbitrary bar: open time, prices, volumes, no filler
_FAMILIES = (
    ("Smart Money Concepts", "smc", smc.smc_step),
    ("SuperTrend AI", "sta", supertrend.sta_step),
    ("Price Action Concepts", "pac", pac.pac_step),
    ("Oscillator Matrix", "om", oscillator.om_step),
    ("Signals & Overlays", "so", overlays.so_step),
)


def compile_steps(config: Config, *, model: Mapping[str, Any] | None = None) -> Iterator[tuple[int, int, str]]:
    """Compile the kernels family by family and yield (number, total, name) before each, to show progress.

    The complete step calls the family steps with the same types, so compiling it last only links them. If the complete step is
    cached, only it is loaded, because it contains its families.
    """
    params = records(k.PARAMS, 1)
    params[0] = k.params(config, model=model)
    stepper, one = k.Stepper(params, block=1), _OneBar()
    families = () if stepper.is_cached(one.rows) else _FAMILIES
    total = len(families) + 1
    suite = k.fresh_suite().copy()[0]
    context = records(BAR, 1)[0]
    bar_step(context, *_BAR)
    for number, (name, field, step) in enumerate(families, 1):
        yield number, total, name
        with uncollected():
            step(suite[field], params[0][field], context, one.rows[0])
    yield total, total, "the whole step"
    with uncollected():
        stepper.step(0, one.fill(_BAR[0], _BAR[1:7], filled=_BAR[7]), one.rows)
