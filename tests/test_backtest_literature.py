"""The literature check: a plain SuperTrend flip with a protective stop, in our back-test's exchange and in backtesting.py.

Both enter and leave at the next open, pay the same commission, and stop out at the stop's price or at the open beyond
it. The same bars must give the same trades: times, prices and results.
"""

from decimal import Decimal

import numpy as np
import pytest

from bench import engines
from bench.engines import backtesting_py, direction_of, market
from bot.backtest.broker import Broker
from bot.config import Config, parse
from bot.core.events import Fill
from bot.core.intents import CancelOrder, PlaceOrder
from bot.core.klines import Klines, make_klines
from bot.core.types import OrderSide, OrderType
from bot.sim.filters import rules_for
from tests.builders import instrument

D = Decimal
BTC = "BTCUSDT"
BASE_MS = 180_000
FEE = 0.0004


@pytest.fixture(scope="module")
def bars() -> Klines:
    """Bars whose prices lie on the tick, so that no rounding differs."""
    made = market(12_000, days=30).base(BTC)
    columns = {n: np.round(c, 1) if n in ("open", "high", "low", "close") else c for n, c in made.columns().items()}
    columns["high"] = np.max([columns[n] for n in ("open", "high", "low", "close")], axis=0)
    columns["low"] = np.min([columns[n] for n in ("open", "high", "low", "close")], axis=0)
    return make_klines(BTC, BASE_MS, columns=columns)


def ours(bars: Klines, stop: float | None) -> list[tuple[int, int, int, float, float]]:
    """Run the flip on the back-test's exchange: (side, entry bar, exit bar, entry, exit) of each closed trade."""
    config = parse("", overrides=("backtest.spread=0", "backtest.slippage=0", "backtest.latency_ms=0"))
    broker = Broker(config, {BTC: instrument()}, {BTC: rules_for(BTC, 60_000.0)})
    turn, trades, live, number, opened = direction_of(bars), [], "", 0, None

    def take(events, bar):
        nonlocal opened
        for event in events:
            if isinstance(event, Fill):
                if opened is None:
                    opened = (event.side.sign, bar, float(event.price))
                else:
                    trades.append((opened[0], opened[1], bar, opened[2], float(event.price)))
                    opened = None

    for i in range(2, len(bars)):
        held = broker.holdings[BTC].qty
        if turn[i - 1] != turn[i - 2]:
            broker.now, side = int(bars.open_ms[i]), OrderSide.BUY if turn[i - 1] > 0 else OrderSide.SELL
            number += 1
            if held:
                away = OrderSide.SELL if held > 0 else OrderSide.BUY
                broker.perform(CancelOrder(live, BTC, True))
                broker.perform(PlaceOrder(f"out{number}", BTC, away, OrderType.MARKET, abs(held), reduce_only=True))
            broker.perform(PlaceOrder(f"in{number}", BTC, side, OrderType.MARKET, D(1)))
            if stop:
                live, other = f"stop{number}", OrderSide.SELL if side is OrderSide.BUY else OrderSide.BUY
                level = D(str(round(float(bars.close[i - 1]) * (1 - side.sign * stop), 1)))
                broker.perform(
                    PlaceOrder(live, BTC, other, OrderType.STOP_MARKET, D(1), trigger_price=level, reduce_only=True)
                )
        broker.begin_unit()
        broker.now, events = int(bars.open_ms[i]), []
        broker.gap(BTC, float(bars.open[i]), events)
        take(events, i)
        while (told := broker.next_events(broker.now + 1)) is not None:
            take(told, i)
        events = []
        broker.pass_bar(BTC, float(bars.low[i]), float(bars.high[i]), float(bars.close[i]), events)
        take(events, i)
    return trades


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("stop", [None, 0.004], ids=["flips", "flips with a stop"])
def test_the_same_trades_as_backtesting_py(bars, stop):
    theirs = backtesting_py(bars, commission=FEE, stop=stop)["_trades"]

    mine = ours(bars, stop)

    assert len(mine) == len(theirs) >= 50
    for made, other in zip(mine, theirs.sort_values(["EntryBar", "ExitBar"]).itertuples(), strict=True):
        side, entry_bar, exit_bar, entry, left = made
        assert (side, entry_bar, exit_bar) == (int(np.sign(other.Size)), other.EntryBar, other.ExitBar)
        assert entry == pytest.approx(other.EntryPrice, abs=1e-6)
        assert left == pytest.approx(other.ExitPrice, abs=1e-6)
        assert side * (left - entry) - FEE * (entry + left) == pytest.approx(other.PnL, abs=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_the_engines_run_side_by_side_on_the_same_bars():
    table = engines.side_by_side(4_000, Config(), 1)

    assert {"ours, whole strategy", "ours, indicators given"} < table["bars_per_s"].keys()
    assert all(value > 0 for value in table["bars_per_s"].values())
    assert list(engines.growth((2_000,), Config())) == ["2000"]
