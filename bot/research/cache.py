"""Indicator results that are kept between back-tests, each by exactly the settings that it depends on.

The fused step of live trading computes everything at once. A search changes a few settings at a time: with the Smart
Trail's setting changed, Price Action Concepts come out the same. Here each family of a symbol and interval is stepped
by its own kernel, the same step as live, and what it wrote is kept under the bytes of its parameters. Strategy rules
(ratings, gates, sources) are then joined on top in a few vector operations; a test holds every column equal to the
fused step's, bit for bit. A trial that changes only strategy, trade, entry, hedge or risk settings computes no
indicator at all.
"""

import functools
import itertools
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from bot.config import Config
from bot.core.errors import ConfigError
from bot.core.jit import records
from bot.core.klines import Klines, aggregate
from bot.indicators.volatility import BAR
from bot.research.bt_data import Prepared, Symbol, columns_of, data_hash_of, load_symbols
from bot.research.bt_legs import leg_columns
from bot.research.families import FAMILIES, context_run
from bot.research.models import model_for
from bot.research.replay import Market
from bot.strategy import kernel as k

HTF_MS: Final = 900_000
RANGE_BARS: Final = 50  # of the higher interval, until its swing pivots exist


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of bars without a long gap: what remembers starts fresh before it."""

    first: int  # position in the base series
    base: Klines
    higher: Klines

    @property
    def last(self) -> int:
        """Position behind its last bar."""
        return self.first + len(self.base)


def segments(bars: Klines, positions: list[int]) -> list[Segment]:
    """Cut a filled series (`core.klines.fill_gaps`) at the positions before which memory resets."""
    edges = [0, *positions, len(bars)]
    found = []
    for start, stop in itertools.pairwise(edges):
        if stop > start:
            base = bars.part(start, stop)
            found.append(Segment(start, base, aggregate(base, HTF_MS)))
    return found


def _matrix(bars: Klines) -> np.ndarray:
    return np.ascontiguousarray(
        np.stack((bars.open, bars.high, bars.low, bars.close, bars.volume, bars.taker_buy_volume))
    )


@dataclass(slots=True)
class FamilyCache:
    """Results of families by symbol, interval and parameters; the least used go first when `megabytes` are full."""

    megabytes: float = 1_500.0
    hits: int = 0
    misses: int = 0
    _held: OrderedDict[tuple[Any, ...], np.ndarray] = field(default_factory=OrderedDict)
    _bytes: int = 0

    def get(self, key: tuple[Any, ...], make: Callable[[], np.ndarray]) -> np.ndarray:
        """Return what is kept under `key`, or make and keep it."""
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

    def clear(self) -> None:
        """Forget everything."""
        self._held.clear()
        self._bytes = 0


@dataclass(slots=True)
class SymbolFeatures:
    """The columns of one symbol's closed base bars under any configuration, from kept results where they fit.

    Parameters
    ----------
    bars
        Base bars with short gaps filled, and `positions` of the first bars after long ones (`core.klines.fill_gaps`).
    """

    bars: Klines
    positions: list[int]
    cache: FamilyCache
    _parts: list[Segment] = field(default_factory=list)
    _inputs: dict[tuple[int, bool], tuple[np.ndarray, np.ndarray, np.ndarray]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Cut the series once."""
        self._parts = segments(self.bars, self.positions)

    def family(self, name: str, params: np.ndarray, *, higher: bool, wanted: tuple[str, ...]) -> dict[str, np.ndarray]:
        """Return columns of a family on the base or the higher interval, one entry a bar of that interval."""
        family = FAMILIES[name]
        keep = np.array([family.columns.index(column) for column in wanted], np.int64)
        key = (self.bars.symbol, higher, name, params.tobytes(), wanted)

        def make() -> np.ndarray:
            total = sum(len(part.higher if higher else part.base) for part in self._parts)
            out, at = np.empty((len(wanted), total)), 0
            scratch = np.empty(len(family.columns))
            for number, part in enumerate(self._parts):
                open_ms, matrix, filled = self._input(number, part, higher)
                piece = np.empty((len(wanted), len(open_ms)))
                state = records(family.state, 1)
                family.reset(state[0], params[0])
                family.run(state, params, records(BAR, 1), open_ms, matrix, filled, keep, scratch, piece)
                out[:, at : at + len(open_ms)] = piece
                at += len(open_ms)
            return out

        return dict(zip(wanted, self.cache.get(key, make), strict=True))

    def atr14(self) -> np.ndarray:
        """Return ATR14 of the base bars."""

        def make() -> np.ndarray:
            out = np.empty((1, len(self.bars)))
            for number, part in enumerate(self._parts):
                open_ms, matrix, filled = self._input(number, part, False)
                piece = np.empty((1, len(open_ms)))
                context_run(records(BAR, 1), open_ms, matrix, filled, piece)
                out[:, part.first : part.last] = piece
            return out

        return self.cache.get((self.bars.symbol, "atr14"), make)[0]

    def extremes(self, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the highest high and lowest low of the last `length` base bars; NaN until there are as many."""

        def make() -> np.ndarray:
            out = np.full((2, len(self.bars)), np.nan)
            for part in self._parts:
                if len(part.base) >= length:
                    out[0, part.first + length - 1 : part.last] = _rolling(part.base.high, length, np.maximum)
                    out[1, part.first + length - 1 : part.last] = _rolling(part.base.low, length, np.minimum)
            return out

        found = self.cache.get((self.bars.symbol, "extremes", length), make)
        return found[0], found[1]

    def higher_index(self) -> tuple[np.ndarray, np.ndarray]:
        """Return for each base bar the position of the newest complete higher bar (-1: none) and their number."""

        def make() -> np.ndarray:
            out, before = np.full((2, len(self.bars)), -1, np.int64), 0
            for part in self._parts:
                closes = part.higher.open_ms + HTF_MS
                seen = np.searchsorted(closes, part.base.open_ms + part.base.interval_ms, side="right")
                out[0, part.first : part.last] = np.where(seen > 0, before + seen - 1, -1)
                out[1, part.first : part.last] = seen
                before += len(part.higher)
            return out

        found = self.cache.get((self.bars.symbol, "higher index"), make)
        return found[0], found[1]

    def range_extremes(self) -> tuple[np.ndarray, np.ndarray]:
        """Return highest and lowest of the last 50 higher bars, one entry a higher bar; NaN until there are as many."""

        def make() -> np.ndarray:
            total = sum(len(part.higher) for part in self._parts)
            out, at = np.full((2, total), np.nan), 0
            for part in self._parts:
                count = len(part.higher)
                if count >= RANGE_BARS:
                    out[0, at + RANGE_BARS - 1 : at + count] = _rolling(part.higher.high, RANGE_BARS, np.maximum)
                    out[1, at + RANGE_BARS - 1 : at + count] = _rolling(part.higher.low, RANGE_BARS, np.minimum)
                at += count
            return out

        found = self.cache.get((self.bars.symbol, "range"), make)
        return found[0], found[1]

    def bars_seen(self) -> np.ndarray:
        """Return how many base bars were seen since the start or the last reset, this one counted."""
        out = np.empty(len(self.bars), np.int64)
        for part in self._parts:
            out[part.first : part.last] = np.arange(1, len(part.base) + 1)
        return out

    def _input(self, number: int, part: Segment, higher: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if (number, higher) not in self._inputs:
            bars = part.higher if higher else part.base
            open_ms = np.ascontiguousarray(bars.open_ms)
            self._inputs[number, higher] = (open_ms, _matrix(bars), bars.filled.astype(np.int64))
        return self._inputs[number, higher]


def _rolling(values: np.ndarray, length: int, pick: np.ufunc) -> np.ndarray:
    """Return the extreme of each window of `length`, by doubling: log2(length) passes."""
    result, width = values, 1
    while width < length:
        step = min(width, length - width)
        result = pick(result[:-step], result[step:])
        width += step
    return result


def _up(column: np.ndarray, index: np.ndarray, before: float) -> np.ndarray:
    """Return a higher interval's column on the base bars; `before` until the first higher bar is complete."""
    if not len(column):
        return np.full(len(index), before)
    return np.where(index >= 0, column[np.maximum(index, 0)], before)


def alpha_columns(features: SymbolFeatures, config: Config) -> dict[str, np.ndarray]:
    """Return the traded symbol's columns: what rules, plan, exits and explanations read."""
    params = records(k.PARAMS, 1)
    params[0] = k.params(
        config, base_ms=features.bars.interval_ms, model=model_for(config), last_index=len(features.bars) - 1
    )
    row: dict[str, np.ndarray] = {}
    for name, family in FAMILIES.items():
        row |= features.family(name, _part(params, name), higher=False, wanted=family.wanted)
    row["atr14"] = features.atr14()
    row["highest50"], row["lowest50"] = features.extremes(config.hedge.stop_lookback)
    index, seen = features.higher_index()
    above = features.family(
        "smc",
        _part(params, "smc"),
        higher=True,
        wanted=("smc_internal_trend", "smc_trailing_top", "smc_trailing_bottom"),
    )
    row["htf_smc_trend"] = _up(above["smc_internal_trend"], index, 0.0)
    other = features.family("pac", _part(params, "pac"), higher=True, wanted=("pac_trend",))
    row["htf_pac_trend"] = _up(other["pac_trend"], index, 0.0)
    top, bottom = _up(above["smc_trailing_top"], index, np.nan), _up(above["smc_trailing_bottom"], index, np.nan)
    highest, lowest = features.range_extremes()
    fallback = np.isnan(top) | np.isnan(bottom)
    top = np.where(fallback, _up(highest, index, np.nan), top)
    bottom = np.where(fallback, _up(lowest, index, np.nan), bottom)
    row["range_eq"] = np.where(top == bottom, np.nan, 0.5 * (top + bottom))
    warm = config.strategy.warm_up_bars
    row["ready"] = ((features.bars_seen() >= warm) & (seen >= warm)).astype(np.float64)
    for side, sign in (("long", 1), ("short", -1)):
        row |= _conditions(row, config, features.bars, side, sign)
    return row


def _part(params: np.ndarray, name: str) -> np.ndarray:
    """Return one family's parameters as an array of one record of their own."""
    part = records(params.dtype[name], 1)
    part[0] = params[0][name]
    return part


def _conditions(
    row: Mapping[str, np.ndarray], config: Config, bars: Klines, side: str, sign: int
) -> dict[str, np.ndarray]:
    """Return one side's six flags, gates, count and signal (`strategy.kernel` computes the same bar by bar)."""
    rules, with_it, against = config.strategy, ("up", "down")[sign < 0], ("down", "up")[sign < 0]
    smc_agrees, pac_agrees = row["htf_smc_trend"] == sign, row["htf_pac_trend"] == sign
    htf = {"both": smc_agrees & pac_agrees, "smc": smc_agrees, "pac": pac_agrees}[rules.htf_source]
    hit = ~np.isnan(row[f"{side}_ob_id"])
    cross = (row[f"om_cross_{with_it}"] == 1.0) & (sign * (50.0 - row["om_hyperwave"]) > 0.0)
    overflow = row[f"om_overflow_{with_it}"] == 1.0
    if config.oscillator.overflow_side != "same_side":
        overflow = overflow | (row[f"om_overflow_{against}"] == 1.0)
    calm = (row["om_ready"] == 1.0) & ~overflow
    confirmed = (row["so_state"] == sign) & (row["so_rating"] >= rules.min_rating)
    if rules.require_strong:
        confirmed &= row["so_strong"] == 1.0
    if rules.conf_max_age > 0:
        confirmed &= row["so_age"] <= rules.conf_max_age
    trail = sign * (bars.close - row["so_trail"]) > 0.0
    if rules.trail_mode != "price":
        trail &= row["so_trail_dir"] == sign
    flow = row["om_money_flow"] > row["om_upper"] if sign > 0 else row["om_money_flow"] < row["om_lower"]
    taker = row[f"{side}_ob_taker"]
    gates = (
        sign * (row["range_eq"] - bars.close) > 0.0,
        flow | (row[f"om_recent_overflow_{against}"] == 1.0),
        row["so_tracer_dir"] == sign,
        row["so_catcher_dir"] == sign,
        sign * (row["so_neo_lead"] - row["so_neo_lag"]) > 0.0,
        taker > 50.0,
        taker >= row[f"{side}_ob_taker_threshold"],
    )
    flags = dict(zip(k.CONDITIONS, (htf, hit, cross, calm, confirmed, trail), strict=True))
    count = np.sum(list(flags.values()), axis=0)
    bits = sum(gate.astype(np.int64) << i for i, gate in enumerate(gates))
    wanted = sum(1 << i for i, name in enumerate(k.GATES) if getattr(rules.gates, name))
    allowed = ((bits & wanted) == wanted) & (row["ready"] == 1.0) & (bars.filled == 0)
    found = {f"{side}_{name}": flag.astype(np.float64) for name, flag in flags.items()}
    found[f"{side}_signal"] = ((count == len(flags)) & allowed).astype(np.float64)
    found[f"{side}_gates"] = np.asarray(bits, np.float64)
    found[f"{side}_count"] = count.astype(np.float64)
    return found


@dataclass(slots=True)
class PreparedCache:
    """Makes `bt_data.Prepared` for one range under any configuration, from kept results where they fit.

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
    kept: FamilyCache = field(default_factory=FamilyCache)
    _base: Prepared | None = None
    _features: SymbolFeatures | None = None

    def prepared(self, config: Config) -> Prepared:
        """Return what a back-test of the range reads under `config`."""
        if self._base is None:
            symbols, first, stop = load_symbols(
                self.config, self.market, from_ms=self.from_ms, to_ms=self.to_ms, bars=self.bars
            )
            alpha = next(iter(symbols.values()))
            self._features = SymbolFeatures(alpha.base, alpha.resets, self.kept)
            columns = columns_of(alpha_columns(self._features, config))
            self._base = Prepared(
                symbols=symbols,
                first=first,
                stop=stop,
                columns=columns,
                legs=self._legs(symbols, config),
                data_hash=data_hash_of(symbols),
                source=self.market.source,
                warnings=self.market.warnings,
            )
            return self._base
        if config.data != self.config.data:
            raise ConfigError("a search may not change [data]: symbols, warm-up and gaps are those of the kept bars")
        assert self._features is not None
        columns = columns_of(alpha_columns(self._features, config))
        if not config.hedge.enabled:
            first_only = dict(list(self._base.symbols.items())[:1])
            return replace(self._base, columns=columns, symbols=first_only, legs={})
        if len(self._base.symbols) < len(config.data.symbols):
            raise ConfigError("a search that begins with hedge.enabled=false cannot turn it on: begin with it on")
        return replace(self._base, columns=columns, legs=self._legs(self._base.symbols, config))

    def _legs(self, symbols: Mapping[str, Symbol], config: Config) -> dict[str, np.ndarray]:
        settings = k.params(config)["pac"].tobytes()
        lookback = config.hedge.stop_lookback

        def make(symbol: Symbol) -> np.ndarray:
            return leg_columns(symbol.base, config, resets=symbol.resets)

        return {
            name: self.kept.get((name, "leg", settings, lookback), functools.partial(make, symbols[name]))
            for name in list(symbols)[1:]
        }
