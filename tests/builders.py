"""Values with good defaults: a test names only what it is about."""

from decimal import Decimal
from typing import Any

import numpy as np

from bot.core.events import Fill, KlineClosed, OrderUpdate
from bot.core.klines import Klines, make_klines
from bot.core.types import Instrument, Kline, OrderSide, OrderStatus, Quote, Tier

D = Decimal
START_MS = 1_704_067_200_000  # 2024-01-01, a Monday
BASE_MS = 180_000
HIGHER_MS = 900_000

BTC_TIERS = (
    Tier(D(300_000), 150, D("0.004"), D(0)),
    Tier(D(800_000), 100, D("0.005"), D(300)),
    Tier(D(3_000_000), 75, D("0.0065"), D(1_500)),
    Tier(D(12_000_000), 50, D("0.01"), D(12_000)),
)
SOL_TIERS = (
    Tier(D(50_000), 100, D("0.005"), D(0)),
    Tier(D(400_000), 75, D("0.0065"), D(75)),
    Tier(D(1_000_000), 50, D("0.01"), D(1_475)),
)
# symbol: tick, lot, largest limit and market quantity, smallest notional, tiers
FILTERS = {
    "BTCUSDT": ("0.10", "0.001", 1_000, 120, 50, BTC_TIERS),
    "ETHUSDT": ("0.01", "0.001", 10_000, 2_000, 20, BTC_TIERS),
    "SOLUSDT": ("0.01", "0.01", 1_000_000, 5_000, 5, SOL_TIERS),
}


def instrument(symbol: str = "BTCUSDT", **changes: Any) -> Instrument:
    """An instrument as the venue tells it, with the fees of the strategy."""
    tick, lot, largest, market, notional, tiers = FILTERS[symbol]
    values = {
        "symbol": symbol,
        "tick": D(tick),
        "lot": D(lot),
        "min_qty": D(lot),
        "max_qty": D(largest),
        "market_max_qty": D(market),
        "min_notional": D(notional),
        "tiers": tiers,
        "maker_fee": D("0.0002"),
        "taker_fee": D("0.0004"),
    }
    return Instrument(**(values | changes))


def kline(
    index: int = 0,
    close: float = 60_000.0,
    *,
    open: float | None = None,
    high: float | None = None,
    low: float | None = None,
    volume: float = 100.0,
    taker_buy_volume: float = 50.0,
    symbol: str = "BTCUSDT",
    interval_ms: int = BASE_MS,
    start_ms: int = START_MS,
) -> Kline:
    """The bar at `index` after `start_ms`; open defaults to the close, high and low to the body."""
    open = close if open is None else open
    high = max(open, close) if high is None else high
    low = min(open, close) if low is None else low
    open_ms = start_ms + index * interval_ms
    return Kline(symbol, interval_ms, open_ms, open, high, low, close, volume, taker_buy_volume)


def kline_closed(
    index: int = 0, close: float = 60_000.0, *, filled: bool = False, history: bool = False, **bar: Any
) -> KlineClosed:
    """The event of that bar's close, at the instant of the close."""
    value = kline(index, close, **bar)
    return KlineClosed(value.close_ms, value, filled=filled, history=history)


def klines(
    closes: Any, *, symbol: str = "BTCUSDT", interval_ms: int = BASE_MS, start_ms: int = START_MS, **columns: Any
) -> Klines:
    """A gapless series: each bar opens at the close before it, with wicks of 0.01 % unless `high` and `low` are given."""
    close = np.asarray(closes, dtype=np.float64)
    opened = np.concatenate((close[:1], close[:-1]))
    values = {
        "open_ms": start_ms + interval_ms * np.arange(len(close), dtype=np.int64),
        "open": opened,
        "high": np.maximum(opened, close) * 1.0001,
        "low": np.minimum(opened, close) * 0.9999,
        "close": close,
        "volume": np.full(len(close), 100.0),
        "taker_buy_volume": np.full(len(close), 50.0),
    }
    return make_klines(symbol, interval_ms, columns=values | columns)


def without(series: Klines, *rows: int) -> Klines:
    """The series with the bars at `rows` missing."""
    return make_klines(
        series.symbol,
        series.interval_ms,
        columns={name: np.delete(column, rows) for name, column in series.columns().items()},
    )


def quote(bid: str = "59999.9", ask: str = "60000.1", *, bid_qty: str = "1.000", ask_qty: str = "1.000") -> Quote:
    """Best prices."""
    return Quote(D(bid), D(bid_qty), D(ask), D(ask_qty))


def fill(
    client_id: str = "rbL-en-0-00k3f9x-01-a1",
    qty: str = "0.010",
    price: str = "60000.0",
    *,
    side: OrderSide = OrderSide.BUY,
    maker: bool = True,
    trade_id: int = 1,
    at_ms: int = START_MS,
    symbol: str = "BTCUSDT",
) -> Fill:
    """One trade of ours at the strategy's fees."""
    rate = D("0.0002") if maker else D("0.0004")
    return Fill(at_ms, client_id, symbol, side, D(qty), D(price), D(qty) * D(price) * rate, maker, trade_id)


def order_update(
    client_id: str = "rbL-en-0-00k3f9x-01-a1",
    status: OrderStatus = OrderStatus.NEW,
    *,
    qty: str = "0.010",
    filled_qty: str = "0",
    average_price: str = "0",
    side: OrderSide = OrderSide.BUY,
    at_ms: int = START_MS,
    symbol: str = "BTCUSDT",
    **changes: Any,
) -> OrderUpdate:
    """An order's state."""
    return OrderUpdate(at_ms, client_id, symbol, status, side, D(qty), D(filled_qty), D(average_price), **changes)
