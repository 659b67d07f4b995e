"""The back-test: history through the live engine, in one thread, without network or clock (strategy 10).

The indicators come from the batch kernel, which agrees with the live step bit for bit; the engine handles the same
events as live. Only the exchange is simplified (`broker`); every report prints its assumptions.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from bot.backtest.assumptions import assumptions
from bot.backtest.bars import calendar_of
from bot.backtest.data import SIX, Prepared, geometry, prepare
from bot.backtest.market import Market
from bot.backtest.simulation import BacktestRun, candidates_of
from bot.config import Config
from bot.core.errors import ConfigError, DataMissing
from bot.core.records import Decision, EquityPoint
from bot.results.backtest import BacktestTrade, BarGrid, EntryTime, EquityLine, Result

CODES: Final = ("no_signal", "gates", "warm_up", "filled")


def run_backtest(
    config: Config,
    market: Market,
    *,
    from_ms: int | None = None,
    to_ms: int | None = None,
    bars: int | None = None,
    signals_cache: Prepared | None = None,
    entry_times: Sequence[EntryTime] | None = None,
    skip_quiet: bool = True,
    one_by_one: bool = False,
    profile: str = "alert",
    progress: Callable[[int], None] | None = None,
) -> Result:
    """Run the strategy over `market` and return the complete result.

    Parameters
    ----------
    market
        `bot.backtest.market.load_market(config, folder)`: bars by symbol and interval, funding.
    from_ms, to_ms, bars
        Range of base bars by open time, `to_ms` exclusive; `bars` limits their number.
    signals_cache
        `bot.backtest.data.prepare(config, market, from_ms=..., ...)`: prepared data and indicator results. The
        range is then that of the cache, and neither market nor indicators are read again.
    entry_times
        Entries that replace all signals, on one account; `simulate_entries` runs each entry separately.
    skip_quiet
        Skip bars on which nothing can happen.
    one_by_one
        Hand events of one instant to the engine one at a time instead of together.
    progress
        Called with the number of bars done.

    Raises
    ------
    DataMissing
        No bar lies in the range.
    """
    began = time.process_time()
    prepared = signals_cache
    if prepared is None:
        prepared = prepare(config, market, from_ms=from_ms, to_ms=to_ms, bars=bars)
    run = BacktestRun(config, prepared, calendar=calendar_of(config), every_bar=not skip_quiet, one_by_one=one_by_one)
    if entry_times is None:
        candidates = candidates_of(prepared)
    else:
        run.take_entries({_index(prepared, entry): entry for entry in entry_times})
        candidates = sorted(run.entries)
    run.run(candidates, progress=progress)
    seconds = time.process_time() - began
    outcome, engine = run.outcome, run.engine
    alpha = prepared.alpha
    return Result(
        config=config,
        profile=profile,
        source=prepared.source,
        data_hash=prepared.data_hash,
        from_ms=prepared.from_ms,
        to_ms=prepared.to_ms,
        initial_equity=config.backtest.initial_equity,
        trades=tuple(outcome.trades),
        unfilled=tuple(outcome.unfilled),
        decisions=tuple(outcome.decisions),
        equity=equity_line(outcome.equity),
        grid=grid(prepared, run.decided),
        assumptions=assumptions(config, prepared),
        counters=dict(engine.portfolio.counters),
        soft_stops=engine.limits.soft_stops,
        seconds=seconds,
        signals_cached=signals_cache is not None,
        geometry=geometry(prepared.columns, alpha.base.close, prepared.first, prepared.stop),
        warnings=_warnings(prepared),
    )


def simulate_entries(
    config: Config,
    prepared: Prepared,
    entries: Sequence[EntryTime],
    *,
    progress: Callable[[int], None] | None = None,
) -> list[BacktestTrade | str]:
    """Simulate each entry separately with the initial equity, independent of the others.

    Parameters
    ----------
    entries
        Bar, side and block of each entry; the bar must lie in the range of `prepared`.
    progress
        Called with the number of entries done.

    Returns
    -------
    list
        One item per entry, in order: its trade, or the code of its rejection (a veto, or why it did not fill).

    Raises
    ------
    DataMissing
        An entry is not at the open time of a bar.
    ConfigError
        An entry lies outside of the range.
    """
    run = BacktestRun(config, prepared, calendar=calendar_of(config))
    return run.run_alone([(_index(prepared, entry), entry) for entry in entries], progress=progress)


def _index(prepared: Prepared, entry: EntryTime) -> int:
    times = prepared.alpha.base.open_ms
    index = int(np.searchsorted(times, entry.open_ms))
    if index >= len(times) or times[index] != entry.open_ms:
        raise DataMissing(
            f"no base bar opens at {entry.open_ms}: an entry is given by the open time of a bar of the data"
        )
    if not prepared.first <= index < prepared.stop:
        raise ConfigError(f"the entry at {entry.open_ms} lies outside of the range")
    return index


def equity_line(points: Sequence[EquityPoint]) -> EquityLine:
    """Return the equity samples as columns."""
    return EquityLine(
        np.array([p.at_ms for p in points], np.int64),
        np.array([float(p.wallet) for p in points], np.float64),
        np.array([float(p.equity) for p in points], np.float64),
        np.array([float(p.peak) for p in points], np.float64),
        np.array([p.day_r for p in points], np.float64),
    )


def grid(prepared: Prepared, decided: dict[int, Decision]) -> BarGrid:
    """Return conditions, gates, signal and decision of every bar of the range."""
    columns, base = prepared.columns, prepared.alpha.base
    part = slice(prepared.first, prepared.stop)
    filled = base.filled[part] == 1.0
    ready, long, short = columns.ready[part], columns.long[part], columns.short[part]
    signal = columns.long_signal[part].astype(np.int8) - columns.short_signal[part].astype(np.int8)
    code = np.zeros(len(filled), np.int16)
    code[(long == SIX) | (short == SIX)] = CODES.index("gates")
    code[~ready] = CODES.index("warm_up")
    code[filled] = CODES.index("filled")
    codes = list(CODES)
    asked = [d for d in decided.values() if d.signal]
    places = np.searchsorted(base.open_ms[part], [d.open_ms for d in asked])
    for place, decision in zip(places.tolist(), asked, strict=True):
        if decision.code not in codes:
            codes.append(decision.code)
        code[place] = codes.index(decision.code)
    return BarGrid(
        open_ms=base.open_ms[part],
        close=base.close[part],
        atr14=columns.light[part, 0],
        filled=filled,
        ready=ready,
        long=long,
        short=short,
        long_gates=columns.long_gates[part],
        short_gates=columns.short_gates[part],
        signal=signal,
        code=code,
        codes=tuple(codes),
    )


def _warnings(prepared: Prepared) -> tuple[str, ...]:
    return prepared.warnings
