"""Cache of indicator values between back-tests of one range, keyed by exactly the settings that they depend on.

A search changes a few settings at a time. As long as those belong to the strategy, the trade, the entry, the hedge or
the risk, no indicator changes: the rows of the live step are cached under the bytes of its parameters, and only the
conditions are recomputed in place, by the same kernel as live. Values of single indicator families are not cached: in a
search that also changes indicator settings that saved nothing, for 1.5 GB (docs/decisions.md).
"""

import functools
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from bot.backtest.data import Columns, Prepared, Symbol, columns_from, data_hash_of, load_symbols
from bot.backtest.legs import leg_columns
from bot.backtest.market import Market
from bot.backtest.models import model_for
from bot.backtest.signals import resets_at
from bot.config import Config
from bot.core.errors import ConfigError
from bot.core.jit import records
from bot.strategy import kernel as k
from bot.strategy import rules
from bot.strategy.features import batch

# Rules that only the flags read; all others change other columns, or which rows there are.
FLAG_RULES: Final = (
    "htf_source",
    "same_side_overflow",
    "min_rating",
    "require_strong",
    "conf_max_age",
    "trail_by_price",
    "gates",
)


@dataclass(slots=True)
class KeptArrays:
    """LRU cache of arrays, limited to `megabytes`."""

    megabytes: float = 1_500.0
    hits: int = 0
    misses: int = 0
    _held: OrderedDict[tuple[Any, ...], np.ndarray] = field(default_factory=OrderedDict)
    _bytes: int = 0

    def get(self, key: tuple[Any, ...], make: Callable[[], np.ndarray]) -> np.ndarray:
        """Return the array cached under `key`; make and cache it if missing."""
        if key in self._held:
            self.hits += 1
            self._held.move_to_end(key)
            return self._held[key]
        self.misses += 1
        made = make()
        self._held[key] = made
        self._bytes += made.nbytes
        while self._bytes > self.megabytes * 1e6 and len(self._held) > 1:
            self._bytes -= self._held.popitem(last=False)[1].nbytes
        return made


def row_key(params: np.ndarray) -> bytes:
    """Return the bytes of all parameters (an array of one `kernel.PARAMS`) except those that only the flags read."""
    other = params.copy()
    for name in FLAG_RULES:
        other[0]["rules"][name] = 0
    return other.tobytes()


def rows_of(symbol: Symbol, config: Config, kept: KeptArrays) -> np.ndarray:
    """Return all columns of a symbol's bars under `config`, float64 (bars, `kernel.COLUMNS`), from the cache if possible.

    The array is the cached one: its flags are those of the most recent call.
    """
    params = records(k.PARAMS, 1)
    model = model_for(config)
    bars = symbol.base
    params[0] = k.params(config, base_ms=bars.interval_ms, model=model, last_index=len(bars) - 1)

    def make() -> np.ndarray:
        return batch(bars, config, resets=resets_at(len(bars), symbol.resets), model=model)

    rows = kept.get((bars.symbol, row_key(params)), make)
    settings = records(rules.RULES, 1)
    settings[0] = params[0]["rules"]
    k.flags_block(settings, np.require(bars.close, requirements=["C", "W"]), bars.filled.astype(np.int64), rows)
    return rows


@dataclass(slots=True)
class PreparedCache:
    """Makes `backtest.data.Prepared` for one range under any configuration, from cached rows where possible.

    Parameters
    ----------
    config
        Decides symbols, warm-up and gaps; these may not change between trials.
    """

    config: Config
    market: Market
    from_ms: int | None = None
    to_ms: int | None = None
    bars: int | None = None
    kept: KeptArrays = field(default_factory=KeptArrays)
    _base: Prepared | None = None

    def prepared(self, config: Config) -> Prepared:
        """Return the input of a back-test of the range under `config`.

        Raises
        ------
        ConfigError
            `config` changes [data], or turns on a hedge that the first configuration had off.
        """
        if self._base is None:
            symbols, first, stop = load_symbols(
                self.config, self.market, from_ms=self.from_ms, to_ms=self.to_ms, bars=self.bars
            )
            self._base = Prepared(
                symbols=symbols,
                first=first,
                stop=stop,
                columns=self._columns(symbols, config),
                legs=self._legs(symbols, config),
                data_hash=data_hash_of(symbols),
                source=self.market.source,
                warnings=self.market.warnings,
            )
            return self._base
        if config.data != self.config.data:
            raise ConfigError("a search may not change [data]: symbols, warm-up and gaps are those of the kept bars")
        columns = self._columns(self._base.symbols, config)
        if not config.hedge.enabled:
            first_only = dict(list(self._base.symbols.items())[:1])
            return replace(self._base, columns=columns, symbols=first_only, legs={})
        if len(self._base.symbols) < len(config.data.symbols):
            raise ConfigError("a search that begins with hedge.enabled=false cannot turn it on: begin with it on")
        return replace(self._base, columns=columns, legs=self._legs(self._base.symbols, config))

    def _columns(self, symbols: Mapping[str, Symbol], config: Config) -> Columns:
        rows = rows_of(next(iter(symbols.values())), config, self.kept)
        return columns_from(len(rows), iter([(0, rows)]))

    def _legs(self, symbols: Mapping[str, Symbol], config: Config) -> dict[str, np.ndarray]:
        settings = k.params(config)["pac"].tobytes()
        lookback = config.hedge.stop_lookback

        def make(symbol: Symbol) -> np.ndarray:
            return leg_columns(symbol.base, config, resets=symbol.resets)

        return {
            name: self.kept.get((name, "leg", settings, lookback), functools.partial(make, symbols[name]))
            for name in list(symbols)[1:]
        }
