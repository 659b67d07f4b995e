"""The result of a back-test: trades with their costs, the equity curve, every bar's conditions, and the assumptions.

It contains everything that reports, statistics and optimisation need; they never access the engine. Money is in quote
(USDT), times are UTC epoch ms, R is what a trade risked (`TradeRecord.risk_quote`). A trade's *gross* result is that of
the same fills at the mid price without fees; gross minus the cost parts is the net result.
"""

from dataclasses import asdict, dataclass, field
from typing import Final

import numpy as np

from bot.config import Config
from bot.core.records import Decision, TradeRecord
from bot.core.times import DAY_MS
from bot.core.types import Side
from bot.results.claims import CLAIMED_EXPECTANCY_R
from bot.results.figures import equity_at
from bot.results.trades import END_OF_DATA


@dataclass(frozen=True, slots=True)
class EntryTime:
    """An entry in place of a signal: the same plan, sizing and exits, on a block placed around the close.

    Parameters
    ----------
    open_ms
        Open time of the base bar at whose close the entry is decided.
    side
        Direction.
    bottom_atr, top_atr
        The block's edges as distances from that close, in ATR14 of the bar. The stop rule is the usual one (0.6 or 0.75
        ATR beyond the far edge, by the block's height). `Result.geometry` has those of real signals; the default is a
        block of one ATR around the close.
    """

    open_ms: int
    side: Side
    bottom_atr: float = -0.5
    top_atr: float = 0.5


@dataclass(frozen=True, slots=True)
class CostParts:
    """The costs of a trade by part, each in R (positive = paid). `hedge` is the sum of the legs' costs."""

    fees: float
    spread: float
    slippage: float
    funding: float  # of BTC and of the legs
    hedge: float  # fees, spread and slippage of the legs

    @property
    def total(self) -> float:
        """Sum of the parts."""
        return self.fees + self.spread + self.slippage + self.funding + self.hedge


@dataclass(frozen=True, slots=True)
class BacktestTrade:
    """One filled trade: the engine's record, its costs, and the decision with its evidence."""

    record: TradeRecord
    cost: CostParts
    decision: Decision

    @property
    def net_r(self) -> float:
        """Result after all costs, in R."""
        return self.record.r_multiple

    @property
    def gross_r(self) -> float:
        """Result before fees, spread, slippage and funding, in R."""
        return self.record.r_multiple + self.cost.total

    @property
    def judged(self) -> bool:
        """Whether the trade counts for win rate and profit factor: not if the end of the data closed it."""
        return self.record.exit_reason != END_OF_DATA

    @property
    def stop_distance(self) -> float:
        """Distance of the stop from the average entry, fraction of the price."""
        return float(abs(self.record.entry_price - self.record.plan_stop) / self.record.entry_price)

    @property
    def atr_fraction(self) -> float:
        """ATR14 at the signal as a fraction of the price; NaN if the decision lacks it."""
        return float(self.decision.values.get("atr14", float("nan"))) / float(self.record.entry_price)

    def break_even_stop(self, gross_r: float = CLAIMED_EXPECTANCY_R) -> float:
        """Return the stop distance, fraction of the price, at which a gross result of `gross_r` R equals the costs."""
        return self.cost.total * self.stop_distance / gross_r if gross_r > 0 else float("nan")


@dataclass(frozen=True, slots=True)
class NearMiss:
    """A bar on which five of six conditions held: the missing one, and the trade it would have given, taken alone."""

    open_ms: int
    side: Side
    missing: str  # name in `strategy.rules.NAMES`
    trade: BacktestTrade | None = None  # None: not simulated, or not filled
    outcome: str = ""  # why there is no trade


@dataclass(frozen=True, slots=True, eq=False)
class EquityLine:
    """Equity sampled at fills and at closed bars while something was open, oldest first; constant between samples.

    Attributes
    ----------
    at_ms : ndarray(int64, ndim=1)
    wallet, equity, peak : ndarray(float64, ndim=1)
        Quote units.
    day_r : ndarray(float64, ndim=1)
        Realised and open result of the UTC day, R.
    """

    at_ms: np.ndarray
    wallet: np.ndarray
    equity: np.ndarray
    peak: np.ndarray
    day_r: np.ndarray

    def at(self, times_ms: np.ndarray, initial: float) -> np.ndarray:
        """Return equity at the given times: the last sample at or before each, `initial` before the first."""
        return equity_at(self.at_ms, self.equity, times_ms, initial)


@dataclass(frozen=True, slots=True, eq=False)
class BarGrid:
    """Conditions and decision of every base bar of the traded symbol. All arrays have one entry per bar.

    Attributes
    ----------
    open_ms : ndarray(int64)
    close, atr14 : ndarray(float64)
    filled, ready : ndarray(bool)
        A flat bar in place of a missing one; the indicators are warmed up.
    long, short : ndarray(uint8)
        Bit i is condition i of `strategy.rules.CONDITIONS`.
    long_gates, short_gates : ndarray(uint8)
        Bit i is gate i of `strategy.rules.GATES`, required or not.
    signal : ndarray(int8)
        +1, -1, 0.
    code : ndarray(int16)
        The decision, as an index into `codes` (`no_signal`, `gates`, `warm_up`, `filled`, `entered` or a veto).
    codes : tuple of str
    """

    open_ms: np.ndarray
    close: np.ndarray
    atr14: np.ndarray
    filled: np.ndarray
    ready: np.ndarray
    long: np.ndarray
    short: np.ndarray
    long_gates: np.ndarray
    short_gates: np.ndarray
    signal: np.ndarray
    code: np.ndarray
    codes: tuple[str, ...]

    def __len__(self) -> int:
        """Return the number of bars."""
        return len(self.open_ms)

    def flags(self, side: Side) -> np.ndarray:
        """Return the conditions of a side as bit masks."""
        return self.long if side is Side.LONG else self.short

    def gates(self, side: Side) -> np.ndarray:
        """Return the gates of a side as bit masks."""
        return self.long_gates if side is Side.LONG else self.short_gates


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """A finished back-test.

    `trades` and `unfilled` are in signal order; `decisions` has the bars with a signal (or with a given entry).
    """

    config: Config
    profile: str
    source: str
    data_hash: str
    from_ms: int
    to_ms: int  # exclusive
    initial_equity: float
    trades: tuple[BacktestTrade, ...]
    unfilled: tuple[TradeRecord, ...]
    decisions: tuple[Decision, ...]
    equity: EquityLine
    grid: BarGrid
    assumptions: dict[str, str]
    counters: dict[str, int]
    soft_stops: int
    seconds: float  # run time, including indicators unless cached
    signals_cached: bool  # whether cached indicator results were used
    near_misses: tuple[NearMiss, ...] = ()
    geometry: tuple[tuple[Side, float, float], ...] = ()  # side, bottom_atr, top_atr of each signal's block
    warnings: tuple[str, ...] = field(default=())

    @property
    def bars(self) -> int:
        """Number of base bars."""
        return len(self.grid)

    @property
    def days(self) -> float:
        """Length of the range, days."""
        return (self.to_ms - self.from_ms) / DAY_MS

    @property
    def signals(self) -> int:
        """Number of bars with a signal."""
        return int(np.count_nonzero(self.grid.signal))

    @property
    def bars_per_second(self) -> float:
        """Speed of the run, base bars per second."""
        return self.bars / self.seconds if self.seconds > 0 else 0.0

    @property
    def final_equity(self) -> float:
        """Equity at the end, quote units."""
        return float(self.equity.equity[-1]) if len(self.equity.equity) else self.initial_equity

    def table(self) -> dict[str, np.ndarray]:
        """Return the trades as columns, one row per trade, in order: as `trades.parquet`, without the fills."""
        return trade_table(self.trades)


_TEXT: Final = ("trade_id", "symbol", "exit_reason")
_TIMES: Final = ("signal_ms", "opened_ms", "closed_ms")
_NUMBERS: Final = (
    "plan_entry",
    "plan_stop",
    "plan_qty",
    "uncut_qty",
    "qty",
    "entry_price",
    "exit_price",
    "stop",
    "tp1",
    "tp2",
    "risk_quote",
    "pnl",
    "alpha_pnl",
    "hedge_pnl",
    "fees",
    "funding",
    "r_multiple",
    "alpha_r",
    "hedge_r",
    "expected_cost_r",
    "net_beta",
    "max_favourable_r",
    "max_adverse_r",
)


def _turnover(trade: BacktestTrade) -> tuple[float, float]:
    """Return taker and maker turnover, including legs, in units of the trade's risk: the base of all costs."""
    taker = sum(float(f.qty * f.price) for f in trade.record.fills if not f.maker)
    maker = sum(float(f.qty * f.price) for f in trade.record.fills if f.maker)
    risk = float(trade.record.risk_quote)
    return (taker / risk, maker / risk) if risk > 0 else (float("nan"), float("nan"))


def trade_table(trades: tuple[BacktestTrade, ...]) -> dict[str, np.ndarray]:
    """Return trades as columns: the record's fields, `side` (+1, -1), `gross_r`, `net_r`, the cost parts and more."""
    records = [trade.record for trade in trades]
    table: dict[str, np.ndarray] = {name: np.array([getattr(r, name) for r in records], object) for name in _TEXT}
    table["side"] = np.array([r.side.sign for r in records], np.int64)
    for name in _TIMES:
        table[name] = np.array([getattr(r, name) for r in records], np.int64)
    for name in _NUMBERS:
        table[name] = np.array([float(getattr(r, name)) for r in records], np.float64)
    table["naked_ms"] = np.array([r.naked_ms for r in records], np.int64)
    table["gross_r"] = np.array([t.gross_r for t in trades], np.float64)
    table["net_r"] = np.array([t.net_r for t in trades], np.float64)
    parts = [asdict(t.cost) for t in trades]
    for name in CostParts.__dataclass_fields__:
        table[f"cost_{name}_r"] = np.array([p[name] for p in parts], np.float64)
    table["cost_r"] = np.array([t.cost.total for t in trades], np.float64)
    table["stop_distance"] = np.array([t.stop_distance for t in trades], np.float64)
    table["break_even_stop"] = np.array([t.break_even_stop() for t in trades], np.float64)
    table["judged"] = np.array([t.judged for t in trades], np.bool_)
    turned = [_turnover(t) for t in trades]
    table["taker_turnover_r"] = np.array([taker for taker, _ in turned], np.float64)
    table["maker_turnover_r"] = np.array([maker for _, maker in turned], np.float64)
    table["atr_fraction"] = np.array([t.atr_fraction for t in trades], np.float64)
    table["hedge_legs"] = np.array([len({f.symbol for f in r.fills} - {r.symbol}) for r in records], np.int64)
    return table
