"""A finished back-test made by hand: trades from given R multiples, so that every figure can be worked out beside it."""

from collections.abc import Sequence
from decimal import Decimal

import numpy as np

from bot.config import Config
from bot.core.records import Decision, TradeFill, TradeRecord
from bot.core.types import Side
from bot.results.backtest import BacktestTrade, BarGrid, CostParts, EquityLine, NearMiss, Result

DAY = 86_400_000
START = 1_672_531_200_000  # 2023-01-01
D = Decimal


def trade(
    net: float,
    *,
    at_ms: int = START,
    minutes: int = 20,
    side: Side = Side.LONG,
    cost: CostParts | None = None,
    reason: str = "stop",
    risk: float = 7.5,
    hedge_r: float = 0.0,
    price: float = 20_000.0,
) -> BacktestTrade:
    """A trade that ended at `net` R, having risked `risk` USDT; costs as given (default: fees of 0.5 R)."""
    cost = cost or CostParts(fees=0.5, spread=0.0, slippage=0.0, funding=0.0, hedge=0.0)
    distance = price * 0.001
    qty = D(str(round(risk / distance, 3)))
    closed = at_ms + minutes * 60_000
    fills = (
        TradeFill(at_ms, "BTCUSDT", "io", side.entry.value, qty, D(str(price)), D("0.01"), False),
        TradeFill(closed, "BTCUSDT", "tp", side.exit.value, qty, D(str(price)), D("0.01"), True),
    )
    record = TradeRecord(
        trade_id=f"t{at_ms}",
        symbol="BTCUSDT",
        side=side,
        signal_ms=at_ms,
        opened_ms=at_ms,
        closed_ms=closed,
        exit_reason=reason,
        plan_entry=D(str(price)),
        plan_stop=D(str(price - side.sign * distance)),
        plan_qty=qty,
        uncut_qty=qty,
        qty=qty,
        entry_price=D(str(price)),
        exit_price=D(str(price)),
        stop=D(str(price - side.sign * distance)),
        tp1=D(str(price + side.sign * distance)),
        tp2=D(str(price + side.sign * 1.5 * distance)),
        risk_quote=D(str(risk)),
        pnl=D(str(round(net * risk, 6))),
        alpha_pnl=D(str(round((net + cost.total - hedge_r) * risk, 6))),
        hedge_pnl=D(str(round(hedge_r * risk, 6))),
        fees=D(str(round(cost.fees * risk, 6))),
        funding=D(str(round(cost.funding * risk, 6))),
        r_multiple=net,
        alpha_r=net + cost.total - hedge_r,
        hedge_r=hedge_r,
        expected_cost_r=cost.total,
        net_beta=0.6,
        max_favourable_r=max(0.0, net) + 0.4,
        max_adverse_r=max(0.0, -net) + 0.1,
        naked_ms=160,
        fills=fills,
    )
    decision = Decision(at_ms, at_ms - 180_000, (True,) * 6, (False,) * 6, side.sign, "entered", "LONG from block 1")
    return BacktestTrade(record, cost, decision)


def grid(bars: int, *, seed: int = 3) -> BarGrid:
    """Bars with conditions drawn at random; bit i holds with the same rate for each bar."""
    rng = np.random.default_rng(seed)
    share = np.array([0.4, 0.1, 0.12, 0.9, 0.4, 0.45])

    def flags() -> np.ndarray:
        return (rng.random((bars, 6)) < share).astype(np.uint8) @ (1 << np.arange(6)).astype(np.uint8)

    long, short = flags().astype(np.uint8), flags().astype(np.uint8)
    ready = np.arange(bars) >= min(600, bars // 10)
    signal = (((long == 63).astype(np.int8) - (short == 63)) * ready).astype(np.int8)
    close = 20_000 * np.exp(np.cumsum(rng.normal(0, 0.001, bars)))
    return BarGrid(
        open_ms=START + np.arange(bars) * 180_000,
        close=close,
        atr14=close * np.abs(rng.normal(0.001, 0.0003, bars)),
        filled=np.zeros(bars, bool),
        ready=ready,
        long=long,
        short=short,
        long_gates=np.zeros(bars, np.uint8),
        short_gates=np.zeros(bars, np.uint8),
        signal=signal,
        code=(signal != 0).astype(np.int16),
        codes=("no_signal", "entered", "funding"),
    )


def result(
    trades: Sequence[BacktestTrade], *, days: int = 30, initial: float = 1_000.0, near: tuple[NearMiss, ...] = ()
) -> Result:
    """A back-test of `days` from 2023-01-01 with these trades; equity is sampled at each close."""
    money = initial + np.cumsum([float(t.record.pnl) for t in trades])
    at = np.array([t.record.closed_ms for t in trades], np.int64)
    line = EquityLine(
        at_ms=at,
        wallet=money,
        equity=money,
        peak=np.maximum.accumulate(np.concatenate(([initial], money)))[1:] if len(trades) else money,
        day_r=np.minimum(0.0, np.array([t.net_r for t in trades])),
    )
    return Result(
        config=Config(),
        profile="alert",
        source="made by hand",
        data_hash="0" * 16,
        from_ms=START,
        to_ms=START + days * DAY,
        initial_equity=initial,
        trades=tuple(trades),
        unfilled=(),
        decisions=tuple(t.decision for t in trades),
        equity=line,
        grid=grid(days * 480),
        assumptions={"entry": "a sentence about <the entry>"},
        counters={},
        soft_stops=0,
        seconds=1.0,
        signals_cached=False,
        near_misses=near,
        geometry=((Side.LONG, -1.0, -0.2), (Side.SHORT, 0.3, 1.1)),
    )


def random_result(count: int = 200, *, days: int = 200, seed: int = 5) -> Result:
    """A losing strategy's back-test, drawn with a seed: for pages and speed, not for figures."""
    rng = np.random.default_rng(seed)
    times = START + np.sort(rng.choice(days * 480 - 40, count, replace=False)) * 180_000
    trades = []
    for at in times.tolist():
        cost = CostParts(*np.abs(rng.normal((0.5, 0.05, 0.1, 0.0, 0.15), 0.05)).tolist())
        gross = float(rng.choice((-1.0, -1.0, 0.4, 1.2, 2.0)) + rng.normal(0, 0.2))
        side = Side.LONG if rng.random() < 0.5 else Side.SHORT
        reason = str(rng.choice(("stop", "timeout", "choch", "flip")))
        trades.append(
            trade(gross - cost.total, at_ms=at, side=side, cost=cost, reason=reason, hedge_r=float(rng.normal(0, 0.2)))
        )
    near = tuple(
        NearMiss(int(at), Side.LONG, name, t)
        for name, at, t in zip(("HTF_BULL", "HW_CROSS_UP") * 10, times.tolist(), trades, strict=False)
    )
    return result(trades, days=days, near=near)
