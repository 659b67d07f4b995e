"""Market data of a replay: klines of a folder or the synthetic market, and the choice of its start."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bot.backtest.models import model_for
from bot.backtest.signals import resets_at
from bot.backtest.taker import check_taker
from bot.config import Config
from bot.core.errors import DataMissing
from bot.core.klines import Klines, aggregate, fill_gaps, gaps
from bot.core.times import DAY_MS, MINUTE_MS
from bot.core.words import counted
from bot.market import store
from bot.market.funding import FundingRates, load_funding
from bot.market.paths import data_folder
from bot.market.synthetic import synthetic_market
from bot.strategy.features import INDEX, batch

BASE_MS = 180_000
HTF_MS = 900_000


@dataclass(frozen=True)
class Market:
    """Klines by symbol and interval (1m where available, 3m, 15m), funding by symbol, and their source."""

    bars: dict[str, dict[str, Klines]]
    funding: dict[str, FundingRates]
    source: str
    warnings: tuple[str, ...] = ()

    def base(self, symbol: str) -> Klines:
        """Return the 3m bars of a symbol."""
        return self.bars[symbol]["3m"]


@dataclass(frozen=True)
class Start:
    """Start of a replay, and the signal it was chosen for (0 if none was found)."""

    from_ms: int
    signal_ms: int
    signals: int
    days: float


def load_market(config: Config, folder: Path | None) -> Market:
    """Read the klines of all symbols from `folder`, from BOT_DATA/klines, or generate the synthetic market.

    Raises
    ------
    DataMissing
        The folder lacks the klines of a symbol.
    ConfigError
        A setting needs taker volume, and the klines have none.
    """
    if folder is None:
        own = data_folder() / "klines"
        if not own.is_dir() or not store.scan(own).intervals(config.data.symbols[0]):
            return _synthetic_market(config)
        folder = own
    found = store.scan(folder)
    bars: dict[str, dict[str, Klines]] = {}
    funding: dict[str, FundingRates] = {}
    warnings: list[str] = []
    for symbol in config.data.symbols:
        base = store.load(folder, symbol, "3m")
        bars[symbol] = {"3m": base, "15m": aggregate(base, HTF_MS)}
        if (symbol, 60_000) in found.klines:
            bars[symbol]["1m"] = store.load(folder, symbol, "1m")
        if holes := gaps(base):
            longest = max(missing for _, missing in holes)
            warnings.append(
                f"{symbol} 3m lacks {counted(sum(n for _, n in holes), 'bar')} in "
                f"{counted(len(holes), 'gap')}, the longest of {longest}: "
                f"up to {config.data.max_gap_bars} are filled flat, a longer gap starts the indicators anew"
            )
        funding[symbol] = load_funding(folder, symbol)
        if funding[symbol].warning:
            warnings.append(str(funding[symbol].warning))
    warnings += found.warnings()
    warnings += check_taker(config, ((bars[name]["3m"], _named(folder, name)) for name in config.data.symbols))
    return Market(bars, funding, f"klines of {folder}", tuple(warnings))


def _named(folder: Path, symbol: str) -> str:
    files = store.files_of(folder, symbol, BASE_MS)
    return str(files[0]) if len(files) == 1 else f"{files[0]} to {files[-1].name}"


def _synthetic_market(config: Config) -> Market:
    made = synthetic_market(config.sim.synthetic_days, config.sim.seed)
    bars = {}
    for symbol, minutes in made.klines.items():
        base = aggregate(minutes, BASE_MS)
        bars[symbol] = {"1m": minutes, "3m": base, "15m": aggregate(base, HTF_MS)}
    source = f"synthetic market, {config.sim.synthetic_days} days, seed {config.sim.seed}"
    return Market(bars, made.funding, source)


def signal_opens(config: Config, bars: Klines) -> np.ndarray:
    """Return the open times of the bars with a signal, from a batch pass over `bars`."""
    filled, resets = fill_gaps(bars, config.data.max_gap_bars)
    rows = batch(filled, config, resets=resets_at(len(filled), resets), model=model_for(config))
    hits = (rows[:, INDEX["long_signal"]] != 0) | (rows[:, INDEX["short_signal"]] != 0)
    found: np.ndarray = filled.open_ms[hits]
    return found


def find_start(config: Config, market: Market, *, from_ms: int | None, to_ms: int | None) -> Start:
    """Return the start of the replay: `from_ms` if given, else `sim.lead_minutes` before the first signal.

    The bot loads only `data.history_bars` bars before its start, but market structure depends on more. Each candidate
    is therefore recomputed from the history the bot would have, and the first one that still signals is chosen.

    Parameters
    ----------
    from_ms, to_ms
        Range of base bars by open time, `to_ms` exclusive; None for no bound.

    Raises
    ------
    DataMissing
        No bar lies in the range.
    """
    bars = market.base(config.data.symbols[0])
    asked = bars.between(from_ms, to_ms)
    if not len(asked):
        raise DataMissing(f"{market.source}: no bar of {bars.symbol} lies between --from and --to")
    lead_ms = int(config.sim.lead_minutes * MINUTE_MS)
    opens = signal_opens(config, bars.between(None, to_ms))
    opens = opens[opens >= int(asked.open_ms[0])]
    days = len(asked) * BASE_MS / DAY_MS
    if from_ms is not None:
        return Start(from_ms, int(opens[0]) if len(opens) else 0, len(opens), days)
    for signal_ms in opens.tolist():
        start_ms = signal_ms + BASE_MS - lead_ms
        start_ms -= start_ms % BASE_MS
        known = bars.between(start_ms - config.data.history_bars * BASE_MS, signal_ms + BASE_MS)
        if signal_ms in signal_opens(config, known):
            return Start(start_ms, signal_ms, len(opens), days)
    history = min(config.data.history_bars, len(asked) // 2)
    return Start(int(asked.open_ms[history]), 0, len(opens), days)


def summary(start: Start) -> dict[str, Any]:
    """Return the figures of `start` for reports."""
    return {"from_ms": start.from_ms, "first_signal_ms": start.signal_ms, "signals": start.signals, "days": start.days}
