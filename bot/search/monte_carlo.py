"""Monte-Carlo bootstrap of a trade list: the same trades in another order, with other luck and at higher costs.

The list of trades is resampled thousands of times with replacement: trade by trade, and in blocks of neighbours, which
preserves streaks of losses. Each draw is a possible history of the account, with the bot's own sizing: a fixed fraction
of the equity per trade, throttled in a drawdown, times the share that the trade really risked after margin and fills cut
it. The result is the quantiles of final equity and drawdown, and the share of histories that end in ruin. The stresses
repeat this at higher costs: double slippage, higher fees, later orders, no maker fill at all.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from bot.config import Config
from bot.core.errors import DataError, DataMissing

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Sizing:
    """Share of the equity that a trade risks (strategy 7) and the definition of ruin.

    Attributes
    ----------
    risk_fraction : float
        Share of the equity at risk in one R.
    throttle_drawdown, throttle_floor : float
        `fraction * max(floor, 1 - drawdown / throttle_drawdown)`.
    ruin : float
        Loss that counts as ruin, share of the starting equity.
    soft_stop_r : float
        Drawdown from the peak, in R of the peak, at which the bot stops entering.
    """

    risk_fraction: float = 0.0075
    throttle_drawdown: float = 0.08
    throttle_floor: float = 0.5
    ruin: float = 0.5
    soft_stop_r: float = 6.0


@dataclass(frozen=True, slots=True)
class Simulation:
    """Quantiles over all drawn histories.

    Attributes
    ----------
    mean_share : float or None
        Mean share of the planned risk that the trades really took; None if the list lacks it, and each trade risks all.
    total_r, final_equity, drawdown, drawdown_r : dict
        Value by quantile (`"0.05"` to `"0.99"`); equity in multiples of the start, drawdown as a fraction of the peak.
    ruin, soft_stop, loss : float
        Share of histories that lose `Sizing.ruin`, that reach the soft stop, and that end below their start.
    fan : dict
        Equity by quantile over the number of trades, for the chart: `{"trade": [...], "0.05": [...], ...}`.
    """

    name: str
    note: str
    runs: int
    trades: int
    block: int
    mean_r: float
    mean_share: float | None
    total_r: dict[str, float]
    final_equity: dict[str, float]
    drawdown: dict[str, float]
    drawdown_r: dict[str, float]
    ruin: float
    soft_stop: float
    loss: float
    fan: dict[str, list[float]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def block_length(trades: int) -> int:
    """Return the usual block length of a block bootstrap: the cube root of the number of trades, at least 2.

    >>> block_length(200), block_length(3)
    (6, 2)
    """
    return max(2, round(trades ** (1 / 3)))


def draw(rng: np.random.Generator, count: int, *, runs: int, block: int = 1) -> np.ndarray:
    """Return (runs, count) positions into a list of `count` trades.

    Parameters
    ----------
    count
        Length of the list and of each draw.
    runs
        Number of draws.
    block
        Length of the circular blocks of neighbours; 1 draws single trades.
    """
    if block <= 1:
        return rng.integers(0, count, (runs, count))
    blocks = -(-count // block)
    starts = rng.integers(0, count, (runs, blocks, 1))
    positions: np.ndarray = ((starts + np.arange(block)) % count).reshape(runs, blocks * block)[:, :count]
    return positions


SHARE_COLUMNS: Final = ("risk_quote", "uncut_qty", "plan_entry", "plan_stop")


def shares(columns: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """Return each trade's actual risk as a share of its planned risk before margin and fills cut it.

    None if a column is missing. The cuts are those of the run that made the list: a list from 5x carries that leverage's
    margin.

    >>> plan = {"plan_entry": np.array([60_000.0]), "plan_stop": np.array([59_900.0])}
    >>> shares({"risk_quote": np.array([6.0]), "uncut_qty": np.array([0.08]), **plan})
    array([0.75])
    """
    if not all(name in columns for name in SHARE_COLUMNS):
        return None
    risk, uncut, entry, stop = (columns[name] for name in SHARE_COLUMNS)
    planned = uncut * np.abs(entry - stop)
    return np.divide(risk, planned, out=np.ones_like(risk), where=planned > 0)


def account(results: np.ndarray, sizing: Sizing, share: np.ndarray | float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Return equity (runs, trades + 1) in multiples of the start, and the maximum drawdown of each run in R of the peak.

    `results` are R multiples (runs, trades), `share` is the share of the planned fraction that each risked. An account at 0
    stays at 0.
    """
    results = results * share
    runs, trades = results.shape
    equity = np.ones((runs, trades + 1))
    peak, deepest = np.ones(runs), np.zeros(runs)
    for i in range(trades):
        before = equity[:, i]
        fall = 1 - before / peak
        fraction = sizing.risk_fraction * np.maximum(sizing.throttle_floor, 1 - fall / sizing.throttle_drawdown)
        after = np.maximum(before * (1 + fraction * results[:, i]), 0.0)
        equity[:, i + 1] = after
        peak = np.maximum(peak, after)
        deepest = np.maximum(deepest, (peak - after) / (sizing.risk_fraction * peak))
    return equity, deepest


def quantiles(values: np.ndarray) -> dict[str, float]:
    """Return the quantiles `QUANTILES` of `values` by name."""
    return {f"{q:g}": float(v) for q, v in zip(QUANTILES, np.quantile(values, QUANTILES), strict=True)}


def simulate(
    results: np.ndarray,
    sizing: Sizing,
    *,
    runs: int = 5_000,
    share: np.ndarray | None = None,
    block: int = 1,
    seed: int = 7,
    name: str = "trades",
    note: str = "",
    fan_points: int = 200,
) -> Simulation:
    """Return the quantiles of `runs` histories drawn from `results`.

    Parameters
    ----------
    results
        R multiples of the trades, in order of time.
    share
        Share of the planned risk of each trade, drawn together with it; None: each risks all of it.
    block
        Length of the blocks drawn; 1 draws single trades.
    name, note
        Labels of the simulation.
    fan_points
        Number of points of the fan chart.

    Raises
    ------
    ValueError
        There is no trade.
    """
    if not len(results):
        raise ValueError("no trade to draw from")
    rng = np.random.default_rng(seed)
    chunks = max(1, math.ceil(runs * len(results) / 4_000_000))  # 32 MB of draws at once
    totals, finals, falls, falls_r, lows, lines = [], [], [], [], [], []
    points = np.unique(np.linspace(0, len(results), min(fan_points, len(results) + 1)).round().astype(int))
    for part in np.array_split(np.arange(runs), chunks):
        at = draw(rng, len(results), runs=len(part), block=block)
        drawn = results[at]
        equity, deepest = account(drawn, sizing, 1.0 if share is None else share[at])
        peak = np.maximum.accumulate(equity, axis=1)
        totals.append(drawn.sum(axis=1))
        finals.append(equity[:, -1])
        falls.append((1 - equity / peak).max(axis=1))
        falls_r.append(deepest)
        lows.append(equity.min(axis=1))
        lines.append(equity[:, points])
    final, low, fall_r = np.concatenate(finals), np.concatenate(lows), np.concatenate(falls_r)
    line = np.concatenate(lines)
    fan: dict[str, list[float]] = {"trade": [float(p) for p in points]}
    for q in QUANTILES:
        fan[f"{q:g}"] = [round(float(v), 6) for v in np.quantile(line, q, axis=0)]
    return Simulation(
        name=name,
        note=note,
        runs=runs,
        trades=len(results),
        block=block,
        mean_r=float(results.mean()),
        mean_share=None if share is None else float(share.mean()),
        total_r=quantiles(np.concatenate(totals)),
        final_equity=quantiles(final),
        drawdown=quantiles(np.concatenate(falls)),
        drawdown_r=quantiles(fall_r),
        ruin=float(np.mean(low <= 1 - sizing.ruin)),
        soft_stop=float(np.mean(fall_r >= sizing.soft_stop_r)),
        loss=float(np.mean(final < 1)),
        fan=fan,
    )


@dataclass(frozen=True, slots=True)
class Stress:
    """One scenario with higher costs: a sentence, and the extra cost of each trade in R."""

    name: str
    note: str
    extra_cost_r: np.ndarray


@dataclass(frozen=True, slots=True)
class Prices:
    """Costs of trading, as fractions of the price."""

    maker_fee: float = 0.0002
    taker_fee: float = 0.0004
    spread: float = 0.0001
    slippage: float = 0.0001
    high_taker_fee: float = 0.0005


RANGE_OF_DEVIATION = 1.6  # mean range of a bar over the deviation of its return, for a random walk
BAR_SECONDS = 180.0


def stresses(columns: Mapping[str, np.ndarray], prices: Prices) -> list[Stress]:
    """Return the stress scenarios that the columns of a trade list allow.

    Parameters
    ----------
    columns
        Per trade: `taker_turnover_r` and `maker_turnover_r` (notional turned over as taker and maker, legs included,
        in units of the trade's risk) and `atr_fraction` (ATR14 of 3m bars over the price). A missing column omits its
        stress.
    """
    found: list[Stress] = []
    if "taker_turnover_r" in columns:
        taker = columns["taker_turnover_r"]
        slip, fee = prices.slippage * taker, (prices.high_taker_fee - prices.taker_fee) * taker
        found.append(Stress("slippage x2", "every taker fill slips twice as far", slip))
        found.append(Stress("slippage x4", "every taker fill slips four times as far", 3 * slip))
        if (fee > 0).any():
            found.append(Stress(f"taker fee {prices.high_taker_fee:.2%}", "the venue's standard rate", fee))
        if "atr_fraction" in columns:
            # Half of the move's standard deviation in that time counts as adverse, at every taker fill: conservative, since
            # late orders see moves of both signs.
            a_second = columns["atr_fraction"] / RANGE_OF_DEVIATION / math.sqrt(BAR_SECONDS)
            late = 0.5 * a_second * taker
            found.append(Stress("250 ms later", "each taker order meets half a deviation of 250 ms", late * 0.5))
            found.append(Stress("1 s later", "each taker order meets half a deviation of one second", late))
    if "maker_turnover_r" in columns:
        dearer = prices.taker_fee - prices.maker_fee + prices.spread / 2 + prices.slippage
        missed = dearer * columns["maker_turnover_r"]
        found.append(Stress("no maker fill", "whatever rested is taken: taker fee, half a spread, slippage", missed))
    together = [s for s in found if s.name not in ("slippage x4", "1 s later")]
    if len(together) > 1:
        total = np.sum([s.extra_cost_r for s in together], axis=0)
        found.append(Stress("all of these", " + ".join(s.name for s in together), total))
    return found


def study(
    results: np.ndarray,
    sizing: Sizing,
    *,
    columns: Mapping[str, np.ndarray] | None = None,
    prices: Prices | None = None,
    runs: int = 5_000,
    seed: int = 7,
) -> list[Simulation]:
    """Return the simulations of a trade list: trades, blocks, and each stress in blocks.

    Parameters
    ----------
    results
        R multiples of the trades, in order of time.
    columns
        Other columns of the list, for `shares` and `stresses`.
    prices
        Costs that the list was made with.
    runs
        Histories per simulation.
    """
    block = block_length(len(results))
    drawn = partial(simulate, sizing=sizing, share=shares(columns or {}), runs=runs, seed=seed)
    return [
        drawn(results, name="trades", note="drawn one by one"),
        drawn(results, block=block, name="blocks", note=f"in blocks of {block}"),
        *(
            drawn(results - stress.extra_cost_r, block=block, name=stress.name, note=stress.note)
            for stress in stresses(columns or {}, prices or Prices())
        ),
    ]


NAMES_OF_R = ("net_r", "r_multiple")


def read_trades(path: Path) -> dict[str, np.ndarray]:
    """Return the numeric columns of a trade list: a back-test's `trades.parquet` or folder, or a CSV file of `trades --csv`.

    Raises
    ------
    DataMissing
        The file does not exist.
    DataError
        It is not a trade list, or holds no trade.
    """
    if path.is_dir():
        path /= "trades.parquet"
    if not path.is_file():
        raise DataMissing(f"{path} does not exist: name the trades.parquet of a back-test, or a file of `trades --csv`")
    import pyarrow as pa
    import pyarrow.csv as csv
    import pyarrow.parquet as parquet

    try:
        table = csv.read_csv(path) if path.suffix == ".csv" else parquet.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read as a trade list: {str(error).splitlines()[0]}") from None
    found: dict[str, np.ndarray] = {}
    for name in table.column_names:
        kind = table.schema.field(name).type
        if pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind):
            found[name] = table.column(name).to_numpy(zero_copy_only=False).astype(np.float64)
    result = next((name for name in NAMES_OF_R if name in found), None)
    if result is None:
        raise DataError(f"{path} has no column {' or '.join(NAMES_OF_R)}: it is no trade list of this bot")
    bad = np.flatnonzero(~np.isfinite(found[result]))
    if len(bad):
        raise DataError(f"{path}, row {int(bad[0]) + 1}: {result} is not a number")
    if not len(found[result]):
        raise DataError(f"{path} holds no trade: there is nothing to draw from")
    found["result"] = found[result]
    return {name: column for name, column in found.items() if name == "result" or np.isfinite(column).all()}


def sizing_of(config: Config) -> Sizing:
    """Return the bot's own sizing at full stage."""
    risk = config.risk
    return Sizing(
        risk.risk_fraction, risk.throttle_drawdown, risk.throttle_floor, ruin=0.5, soft_stop_r=risk.soft_stop_r
    )


def prices_of(config: Config) -> Prices:
    """Return the trading costs assumed by the back-test."""
    fees, assumed = config.venue.sim, config.backtest
    return Prices(fees.maker_fee, fees.taker_fee, assumed.spread, assumed.slippage)


def report(path: Path, config: Config, *, runs: int, seed: int) -> dict[str, Any]:
    """Return the study of a trade list as plain values.

    Parameters
    ----------
    path
        As in `read_trades`, which raises for an invalid list.
    config
        Sizing and costs.
    runs, seed
        Histories per simulation, and seed of the draws.
    """
    columns = read_trades(path)
    results = columns.pop("result")
    sizing = sizing_of(config)
    found = study(results, sizing, columns=columns, prices=prices_of(config), runs=runs, seed=seed)
    return {
        "source": path.name,
        "trades": len(results),
        "runs": runs,
        "seed": seed,
        "sizing": asdict(sizing),
        "simulations": [simulation.as_dict() for simulation in found],
    }
