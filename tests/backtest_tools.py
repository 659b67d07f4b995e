"""Hand-made markets for the back-test: bars and signals by hand, so that a trade can be worked out on paper.

The signal comes at the close of a bar at 60,000 (index `SIGNAL`), long or short, then what
happens is a list of bars (open, high, low, close).
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bot.backtest.data import RICH, Columns, Prepared, Symbol, columns_from
from bot.backtest.market import Market
from bot.backtest.run import run_backtest
from bot.config import Config, parse
from bot.core.klines import Klines, make_klines
from bot.core.types import Side
from bot.market.funding import FundingRates, no_funding
from bot.results.backtest import BacktestTrade, Result
from bot.strategy.features import INDEX
from bot.strategy.rules import CONDITIONS

START_MS = 1_704_067_200_000  # 2024-01-01T00:00Z
BASE_MS = 180_000
SIGNAL = 30  # index of the bar that signals
BTC, ETH, SOL = "BTCUSDT", "ETHUSDT", "SOLUSDT"
PRICE = {BTC: 60_000.0, ETH: 3_000.0, SOL: 150.0}
Bar = tuple[float, float, float, float]


def series(
    symbol: str, bars: list[Bar], *, start_ms: int = START_MS, length_ms: int = BASE_MS, volume: Any = 100.0
) -> Klines:
    """Bars end to end."""
    table = np.array(bars, np.float64).reshape(-1, 4)
    return make_klines(
        symbol,
        length_ms,
        columns={
            "open_ms": start_ms + length_ms * np.arange(len(table), dtype=np.int64),
            **{name: table[:, i] for i, name in enumerate(("open", "high", "low", "close"))},
            "volume": np.broadcast_to(np.asarray(volume, np.float64), (len(table),)),
        },
    )


def flat(price: float) -> Bar:
    """A bar on which nothing happened."""
    return (price, price, price, price)


@dataclass
class Story:
    """What happens after the signal; prices of BTC in quote, indices of `rows` count from the bar after the signal."""

    bars: list[Bar]
    side: Side = Side.LONG
    rows: dict[int, dict[str, float]] = field(default_factory=dict)  # -1 is the signal bar
    minutes: dict[int, list[tuple[float, float, float, float, float]]] = field(default_factory=dict)  # with volume
    legs: dict[str, list[Bar]] = field(default_factory=dict)
    funding: dict[int, float] = field(default_factory=dict)  # rate paid at the open of that bar
    signals: dict[int, Side] = field(default_factory=dict)  # more signals
    scale: float = 1.0  # of BTC's price before the bars, its blocks and its ATR

    def prepared(self, config: Config) -> Prepared:
        """Everything as the back-test takes it."""
        hedged = config.hedge.enabled
        names = (BTC, ETH, SOL) if hedged else (BTC,)
        total = SIGNAL + 1 + len(self.bars)
        swing = 1.0 + 4e-4 * np.sin(np.arange(SIGNAL) * 2.1) if hedged else np.ones(SIGNAL)
        symbols = {}
        for name in names:
            price = PRICE[name] * (self.scale if name == BTC else 1.0)
            history = [flat(float(price * share)) for share in swing]
            after = self.bars if name == BTC else self.legs.get(name, [flat(price)] * len(self.bars))
            base = series(name, [*history, flat(price), *after])
            minutes = self._minutes(name) if name == BTC or name in self.legs else self._flat_minutes(name)
            symbols[name] = Symbol(base, [], minutes, self._funding(name))
        columns = _columns(self._values(total))
        legs = {
            name: np.tile([PRICE[name] * 0.001, PRICE[name] * 1.004, PRICE[name] * 0.996, PRICE[name] * 1.01,
                           PRICE[name] * 0.99], (total, 1))
            for name in names[1:]
        }  # fmt: skip
        return Prepared(symbols, 0, total, columns, legs, "by hand", "by hand", ())

    def _funding(self, name: str) -> FundingRates:
        if not self.funding:
            return no_funding(name)
        times = [START_MS + (SIGNAL + 1 + k) * BASE_MS for k in sorted(self.funding)]
        return FundingRates(name, np.array(times, np.int64), np.array([self.funding[k] for k in sorted(self.funding)]))

    def _minutes(self, name: str) -> Klines | None:
        if not self.minutes:
            return None
        parts, times = [], []
        for k, rows in sorted(self.minutes.items()):
            for i, row in enumerate(rows):
                parts.append(row)
                times.append(START_MS + (SIGNAL + 1 + k) * BASE_MS + i * 60_000)
        table = np.array(parts)
        names = ("open", "high", "low", "close", "volume")
        values = {n: table[:, i] for i, n in enumerate(names)}
        return make_klines(name, 60_000, columns={"open_ms": np.array(times, np.int64), **values})

    def _flat_minutes(self, name: str) -> Klines | None:
        if not self.minutes:
            return None
        times = [START_MS + (SIGNAL + 1 + k) * BASE_MS + i * 60_000 for k in sorted(self.minutes) for i in range(3)]
        ones = np.full(len(times), PRICE[name])
        values = dict.fromkeys(("open", "high", "low", "close"), ones) | {"volume": np.full(len(times), 100.0)}
        return make_klines(name, 60_000, columns={"open_ms": np.array(times, np.int64), **values})

    def _values(self, total: int) -> dict[str, np.ndarray]:
        values = {name: np.zeros(total) for name in RICH}
        long = self.side is Side.LONG
        values["atr14"][:] = 100.0 * self.scale
        values["ready"][:] = 1.0
        values["sta_os"][:] = 1.0 if long else 0.0
        values["sta_ts"][:] = self.scale * (59_000.0 if long else 61_000.0)
        values["highest50"][:], values["lowest50"][:] = 61_000.0 * self.scale, 59_000.0 * self.scale
        for index, side in {SIGNAL: self.side, **{SIGNAL + 1 + k: s for k, s in self.signals.items()}}.items():
            name = side.name.lower()
            for condition in (*CONDITIONS, "signal"):
                values[f"{name}_{condition}"][index] = 1.0
            values[f"{name}_count"][index] = len(CONDITIONS)
            # 80 high (below 1.2 ATR): entry 59,940, stop 0.6 ATR under 59,900 = 59,840; short mirrored at 60,000
            bottom, top = (59_900.0, 59_980.0) if side is Side.LONG else (60_020.0, 60_100.0)
            values[f"{name}_ob_bottom"][index], values[f"{name}_ob_top"][index] = bottom * self.scale, top * self.scale
        for k, row in self.rows.items():
            for name, value in row.items():
                values[name][SIGNAL + 1 + k] = value
        return values


def config_of(*overrides: str) -> Config:
    """The default settings with 10,000 USDT, without a hedge unless asked for."""
    return parse("", overrides=("backtest.initial_equity=10000", "hedge.enabled=false", *overrides))


def play(story: Story, *overrides: str, **more: Any) -> Result:
    """Run the back-test over the story."""
    config = config_of(*overrides)
    prepared = story.prepared(config)
    return run_backtest(config, Market({}, {}, "by hand"), signals_cache=prepared, **more)


def the_trade(result: Result) -> BacktestTrade:
    """The one trade of a result."""
    (trade,) = result.trades
    return trade


def fills_of(trade: BacktestTrade) -> list[tuple[str, str, str, str]]:
    """Symbol's coin, role, quantity and price of each fill, as text."""
    return [(f.symbol[:3], f.role, f"{f.qty:f}", f"{f.price:f}") for f in trade.record.fills]


def _columns(values: dict[str, np.ndarray]) -> Columns:
    """What a back-test reads of rows in which these columns are as given, and all others not ready."""
    length = len(values["atr14"])
    rows = np.full((length, len(INDEX)), np.nan)
    for name, column in values.items():
        rows[:, INDEX[name]] = column
    for side in ("long", "short"):
        rows[:, INDEX[f"{side}_count"]] = sum(rows[:, INDEX[f"{side}_{name}"]] == 1.0 for name in CONDITIONS)
        rows[:, INDEX[f"{side}_gates"]] = np.nan_to_num(rows[:, INDEX[f"{side}_gates"]])
    return columns_from(length, iter([(0, rows)]))
