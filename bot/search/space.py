"""Search space and objective: one trial from settings to a score.

The space holds settings that a trader would tune: conditions, blocks, exits, hedge, and the few indicator settings that
the recipe itself names. A trial is a complete back-test. Its value is the profit factor in quote; a deep drawdown or too
few trades make it infeasible (strategy 10), and the sampler gets the size of the violation.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bot.backtest.market import Market
from bot.backtest.run import run_backtest
from bot.config import Config
from bot.core.errors import ConfigError
from bot.results import summary as metrics
from bot.results.backtest import Result
from bot.results.figures import max_drawdown, max_drawdown_r, mean, profit_factor, sharpe
from bot.search.cache import PreparedCache
from bot.search.controls import with_values

if TYPE_CHECKING:
    from optuna.trial import Trial

MAX_DRAWDOWN: Final = 0.08
FACTOR_CAP: Final = 10.0  # a list without a loss is merely short, not infinitely good


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several values."""

    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Whole:
    """An integer from `low` to `high` in steps."""

    low: int
    high: int
    step: int = 1


@dataclass(frozen=True, slots=True)
class Real:
    """A float from `low` to `high` in steps, so that equal settings are found in the cache."""

    low: float
    high: float
    step: float


Range = Choice | Whole | Real
BOOL: Final = Choice((False, True))

# No indicator depends on "strategy" and "exits"; "blocks" and "indicators" change indicators.
SPACES: Final[dict[str, dict[str, Range]]] = {
    "strategy": {
        "strategy.htf_source": Choice(("both", "smc", "pac")),
        "strategy.min_rating": Whole(1, 3),
        "strategy.trail_mode": Choice(("direction", "price")),
        "strategy.max_cost_r": Choice((0.0, 0.4, 0.6, 0.8, 1.0)),
        "strategy.gate": Choice(("none", "money_flow_context", "trend_tracer_up", "trend_catcher_up", "neo_cloud_up")),
        "hedge.enabled": BOOL,
    },
    "exits": {
        "trade.stop_atr_small": Real(0.4, 3.0, 0.1),
        "trade.tp1_r": Real(0.5, 2.5, 0.25),
        "trade.tp2_r": Real(0.5, 3.0, 0.25),  # beyond tp1_r
        "trade.tp1_fraction": Real(0.0, 0.5, 0.1),
        "trade.timeout_minutes": Choice((15.0, 30.0, 60.0, 120.0, 240.0, 480.0)),
        "trade.timeout_runner": BOOL,
        "trade.trail_from": Choice(("entry", "tp1", "tp2")),
        "trade.trail_flip": Choice(("exit", "ignore")),
        "trade.choch_source": Choice(("pac", "smc", "either")),
    },
    "blocks": {
        "strategy.tap_window": Whole(1, 10),
        "strategy.min_dominance": Real(50.0, 75.0, 5.0),
        "strategy.min_rank": Real(0.0, 60.0, 10.0),
        "pac.mitigation": Choice(("close", "wick", "average")),
        "pac.order_block_length": Whole(3, 9),
    },
    "indicators": {
        "oscillator.hyperwave_length": Whole(5, 14),
        "oscillator.money_flow_length": Choice((21, 28, 35, 42, 56)),
        "overlays.smart_trail": Whole(1, 5),
        "overlays.sensitivity": Choice((6.0, 9.0, 12.0, 16.0, 20.0)),
    },
}
STOP_RATIO: Final = 1.25  # stop_atr_large over stop_atr_small, as 0.75 over 0.6


def space_of(names: str) -> dict[str, Range]:
    """Return the settings of one or several spaces, comma-separated, or of `all`; ConfigError for an unknown name.

    >>> len(space_of("strategy,exits")) == len(SPACES["strategy"]) + len(SPACES["exits"])
    True
    """
    wanted = list(SPACES) if names == "all" else [name.strip() for name in names.split(",")]
    unknown = [name for name in wanted if name not in SPACES]
    if unknown:
        raise ConfigError(f"--space {unknown[0]!r} is not known: use all, or some of {', '.join(SPACES)}")
    return {key: value for name in wanted for key, value in SPACES[name].items()}


def suggest(trial: "Trial", space: Mapping[str, Range]) -> dict[str, Any]:
    """Return one value of each range, as proposed by the sampler."""
    found: dict[str, Any] = {}
    for name, choice in space.items():
        if isinstance(choice, Choice):
            found[name] = trial.suggest_categorical(name, choice.values)
        elif isinstance(choice, Whole):
            found[name] = trial.suggest_int(name, choice.low, choice.high, step=choice.step)
        else:
            found[name] = round(trial.suggest_float(name, choice.low, choice.high, step=choice.step), 6)
    return found


def settings_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a trial's values to settings.

    The second target is searched as its distance beyond the first, the wide stop keeps its ratio to the narrow one,
    and at most one of the optional gates is enabled: several at once leave almost no trades.

    >>> settings_of({"trade.tp2_r": 0.5})
    {'trade.tp2_r': 0.5}
    >>> settings_of({"trade.tp1_r": 1.0, "trade.tp2_r": 0.5, "trade.stop_atr_small": 1.0})["trade.tp2_r"]
    1.5
    """
    made = dict(values)
    gate = made.pop("strategy.gate", "none")
    if gate != "none":
        made[f"strategy.gates.{gate}"] = True
    if "trade.stop_atr_small" in made:
        made["trade.stop_atr_large"] = round(made["trade.stop_atr_small"] * STOP_RATIO, 6)
    if "trade.tp1_r" in made and "trade.tp2_r" in made:
        made["trade.tp2_r"] = made["trade.tp1_r"] + made["trade.tp2_r"]
    return made


def configured(config: Config, values: Mapping[str, Any]) -> Config:
    """Return the configuration of a trial."""
    return with_values(config, settings_of(values))


@dataclass(frozen=True, slots=True)
class TrialScore:
    """Result of a trial.

    Attributes
    ----------
    profit_factor : float
        In quote, capped; 0 without a winning trade.
    max_drawdown : float
        Fraction of the peak.
    trades, longs, shorts : int
        Judged trades.
    sharpe : float
        Of the daily R, per day; NaN if nothing was traded.
    daily_r : list of float
        Net R of each day of the range, by the trade's close.
    """

    profit_factor: float
    max_drawdown: float
    max_drawdown_r: float
    trades: int
    longs: int
    shorts: int
    expectancy_r: float
    gross_r: float
    sharpe: float
    daily_r: list[float]

    def feasible(self, min_trades: int, max_drawdown: float = MAX_DRAWDOWN) -> bool:
        """Return whether the trial satisfies both constraints."""
        return self.trades >= min_trades and self.max_drawdown < max_drawdown

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def factor_of(results: np.ndarray) -> float:
    """Return the profit factor, capped; 0 without a winning trade."""
    factor = profit_factor(results)
    return min(factor, FACTOR_CAP) if factor is not None else FACTOR_CAP * bool((results > 0).any())


def score_of(result: Result) -> TrialScore:
    """Return the score of a back-test."""
    table = result.table()
    judged = table["judged"]
    net = table["net_r"][judged]
    days = metrics.daily(table["closed_ms"][judged], net, from_ms=result.from_ms, to_ms=result.to_ms)
    return TrialScore(
        profit_factor=factor_of(table["pnl"][judged]),
        max_drawdown=max_drawdown(np.concatenate(([result.initial_equity], result.equity.equity))),
        max_drawdown_r=max_drawdown_r(net),
        trades=len(net),
        longs=int(np.sum(table["side"][judged] > 0)),
        shorts=int(np.sum(table["side"][judged] < 0)),
        expectancy_r=mean(net) or 0.0,
        gross_r=mean(table["gross_r"][judged]) or 0.0,
        sharpe=sharpe(days),
        daily_r=[round(float(day), 4) for day in days],
    )


@dataclass(slots=True)
class Trier:
    """Runs trials over one range; caches indicator results between them unless `use_cache` is False."""

    config: Config
    market: Market
    from_ms: int
    to_ms: int
    use_cache: bool = True
    _cache: PreparedCache | None = None

    def __post_init__(self) -> None:
        """Open the cache."""
        self._cache = PreparedCache(self.config, self.market, from_ms=self.from_ms, to_ms=self.to_ms)

    @property
    def cache(self) -> PreparedCache:
        """The cache of indicator results."""
        assert self._cache is not None
        return self._cache

    def run(self, values: Mapping[str, Any]) -> Result:
        """Back-test one set of values."""
        config = configured(self.config, values)
        prepared = self.cache.prepared(config) if self.use_cache else None
        return run_backtest(
            config, self.market, from_ms=self.from_ms, to_ms=self.to_ms, signals_cache=prepared, profile="trial"
        )

    def score(self, values: Mapping[str, Any]) -> TrialScore:
        """Back-test one set of values and return its score."""
        return score_of(self.run(values))
