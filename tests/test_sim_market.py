"""The market inside the bars, the klines told of it, and funding."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.core.klines import Klines, aggregate, make_klines
from bot.core.times import DAY_MS
from bot.market.store import load
from bot.sim.candles import Candles, write
from bot.sim.errors import Refused
from bot.sim.filters import DEFAULTS, rules_for
from bot.sim.funding import EIGHT_HOURS_MS, FundingSchedule
from bot.sim.path import base_bars, day_ticks
from bot.sim.replay import MINUTE, replay
from tests.sim_tools import START, market, walk

RULES = DEFAULTS["BTCUSDT"]


def ticks(klines: Klines, *, seed: int = 7, spread: float = 0.00002) -> np.ndarray:
    found = day_ticks(
        base_bars({klines.interval: klines}), RULES, day=START // DAY_MS, seed=seed, spread=spread, depth_notional=3e4
    )
    assert found is not None
    return found


@pytest.mark.parametrize("interval_ms", [60_000, 180_000])
def test_every_bar_is_traversed_from_open_over_both_extremes_to_close_with_all_its_volume(interval_ms):
    klines = aggregate(walk(minutes=300), interval_ms)

    rows = ticks(klines)

    per_bar = rows.reshape(11, len(klines), 5)
    price = per_bar[1] * 0.1
    times = per_bar[0]
    assert np.allclose(price[:, 0], klines.open)
    assert np.allclose(price[:, 4], klines.close)
    assert np.allclose(price.max(axis=1), klines.high)
    assert np.allclose(price.min(axis=1), klines.low)
    assert (np.diff(times, axis=1) > 0).all()
    assert (times[:, 0] == klines.open_ms).all()
    assert (times[:, 4] < klines.open_ms + interval_ms).all()
    assert (per_bar[9, :, :4] == times[:, 1:]).all()
    assert (per_bar[10, :, :4] == per_bar[1, :, 1:]).all()
    assert (per_bar[9:, :, 4] == 0).all()
    assert (per_bar[2].sum(axis=1) == np.rint(klines.volume / 0.001)).all()
    up = klines.close > klines.open
    assert np.allclose(price[up, 2], klines.low[up])
    down = klines.close < klines.open
    assert np.allclose(price[down, 2], klines.high[down])


@given(st.integers(1, 50), st.sampled_from([0.0, 0.00001, 0.00003, 0.001]))
def test_the_book_is_at_least_a_tick_wide_and_around_the_price(seed, spread):
    rows = ticks(walk(minutes=60, seed=seed), seed=seed, spread=spread)
    price, bid, ask = rows[1], rows[4], rows[6]

    assert (ask - bid >= 1).all()
    assert ((bid <= price) & (price <= ask)).all()
    assert np.abs((ask - bid) - np.maximum(1, np.rint(price * spread))).max() == 0
    assert (rows[5] >= 1).all()
    assert (rows[7] >= 1).all()


def test_a_day_is_the_same_wherever_the_replay_starts_and_other_seeds_differ():
    candles = {s: Candles(s, rules_for(s, 1.0), series) for s, series in market("BTCUSDT", "ETHUSDT").items()}
    options: dict[str, Any] = {"spread": 0.00002, "depth_notional": 3e4}
    whole = list(replay(candles, START, START + 600 * 60_000, seed=7, **options))
    later = START + 120 * 60_000

    part = list(replay(candles, later, START + 600 * 60_000, seed=7, **options))
    other = list(replay(candles, later, START + 600 * 60_000, seed=8, **options))

    assert part == [row for row in whole if row[0] >= later]
    assert other != part
    assert [row[0] for row in whole] == sorted(row[0] for row in whole)
    assert sum(row[1] != MINUTE for row in whole) == 2 * 600 * 5
    # On a full minute the bars close before the next ones open.
    at = [row[1] for row in whole if row[0] == later]
    assert at[0] == MINUTE
    assert len(at) == 3


def test_a_coarser_interval_fills_the_gaps_of_the_finest():
    one = walk(minutes=60)
    three = aggregate(one, 180_000)
    gap = np.ones(60, dtype=bool)
    gap[30:36] = False
    broken = make_klines("BTCUSDT", 60_000, columns={name: c[gap] for name, c in one.columns().items()})

    base = base_bars({"1m": broken, "3m": three})

    assert len(base.open_ms) == 54 + 2
    assert list(base.length_ms[30:32]) == [180_000, 180_000]
    assert (np.diff(base.open_ms) == base.length_ms[:-1]).all()


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=0, max_value=1e12), st.integers(0, 8))
def test_a_written_number_is_read_back_exactly_and_without_exponent(value, digits):
    text = write(value, digits)

    assert float(text) == value
    assert "e" not in text


class Rates:
    def __init__(self, times: list[int], rates: list[float]) -> None:
        self.funding_ms = np.array(times, dtype=np.int64)
        self.rate = np.array(rates)


def test_funding_is_told_before_it_is_paid_and_falls_on_the_minute():
    schedule = FundingSchedule(Rates([START + 5, START + EIGHT_HOURS_MS + 3], [0.0001, -0.0002]))

    assert schedule.next(START - 1) == (START, 0.0001)
    assert schedule.next(START) == (START + EIGHT_HOURS_MS, -0.0002)
    assert schedule.at(START) == 0.0001
    assert schedule.at(START + 60_000) is None
    assert schedule.next(START + EIGHT_HOURS_MS) == (START + 2 * EIGHT_HOURS_MS, 0.0)
    assert FundingSchedule(None).next(START + 1) == (START + EIGHT_HOURS_MS, 0.0)


def candles_at(minutes: int, *, ticked: int | None = None) -> tuple[Candles, int]:
    """Candles that have seen the ticks of the bar after `minutes` up to its `ticked` first ones."""
    series = market("BTCUSDT", minutes=120)["BTCUSDT"]
    candles = Candles("BTCUSDT", RULES, series)
    rows = ticks(series["1m"])
    count = minutes * 5 + (ticked or 0)
    for i in range(count):
        candles.tick(int(rows[0, i]), int(rows[1, i]), lots=int(rows[2, i]), seller=bool(rows[3, i]), trades=1)
    now = START + minutes * 60_000 if not ticked else int(rows[0, count - 1])
    return candles, now


def test_rest_klines_are_the_recorded_ones_and_the_last_is_forming():
    candles, now = candles_at(50, ticked=3)
    recorded = candles.source["3m"]

    rows = candles.rows("3m", start=None, end=None, limit=5, now_ms=now)

    assert [row[0] for row in rows] == [START + i * 180_000 for i in range(12, 17)]
    for row in rows[:-1]:
        index = int(np.searchsorted(recorded.open_ms, row[0]))
        assert [float(x) for x in row[1:6]] == [
            recorded.open[index], recorded.high[index], recorded.low[index], recorded.close[index], recorded.volume[index]
        ]  # fmt: skip
    assert rows[-1][6] >= now


def test_paging_of_klines_is_inclusive_and_never_looks_ahead():
    candles, now = candles_at(50)

    rows = candles.rows("1m", start=START + 60_000, end=START + 120_000, limit=500, now_ms=now)
    last = candles.rows("1m", start=START + 49 * 60_000, end=None, limit=500, now_ms=now)

    assert [row[0] for row in rows] == [START + 60_000, START + 120_000]
    assert [row[0] for row in last] == [START + 49 * 60_000]
    assert candles.rows("1m", start=now, end=None, limit=5, now_ms=now) == []


@pytest.mark.parametrize("interval", ["1m", "3m", "5m", "15m", "1h"])
@pytest.mark.parametrize(("minutes", "ticked"), [(59, 5), (44, 5), (60, 1), (61, 4)])
def test_the_forming_bar_ends_as_the_closed_one(interval, minutes, ticked):
    candles, now = candles_at(minutes, ticked=ticked)

    forming = candles.forming(interval, now)
    closed = candles.closed_bar(interval, START + (minutes + 1) * 60_000)

    assert forming is not None
    assert forming.low <= forming.close <= forming.high
    if ticked == 5 and closed is not None:
        assert forming.open == pytest.approx(closed.open)
        assert forming.high == pytest.approx(closed.high)
        assert forming.low == pytest.approx(closed.low)
        assert forming.close == pytest.approx(closed.close)
        assert forming.volume == pytest.approx(closed.volume)


def test_an_interval_that_does_not_exist_is_refused():
    candles, now = candles_at(5)

    with pytest.raises(Refused, match="-1120"):
        candles.rows("7m", start=None, end=None, limit=5, now_ms=now)


def test_a_bar_that_the_record_lacks_is_not_closed():
    one = walk(minutes=60)
    gap = np.ones(60, dtype=bool)
    gap[31] = False
    broken = make_klines("BTCUSDT", 60_000, columns={name: c[gap] for name, c in one.columns().items()})

    candles = Candles("BTCUSDT", RULES, {"1m": broken})

    assert candles.closed_bar("1m", START + 32 * 60_000) is None
    assert candles.closed_bar("3m", START + 33 * 60_000) is None
    assert candles.closed_bar("3m", START + 36 * 60_000) is not None


@pytest.mark.reference
@pytest.mark.parametrize("symbol", ["BTCUSDT", "ETHUSDT", "SOLUSDT"])
def test_real_bars_are_traversed_and_told_exactly(shared, symbol):
    klines = load(shared / "klines" / "um", symbol, "1m")
    klines = klines.part(0, min(len(klines), 20_000))
    candles = Candles(symbol, DEFAULTS[symbol], {"1m": klines})
    tick = float(DEFAULTS[symbol].tick)
    seen = 0

    for day in range(int(klines.open_ms[0]) // DAY_MS, int(klines.open_ms[-1]) // DAY_MS + 1):
        rows = day_ticks(candles.base, candles.rules, day=day, seed=7, spread=0.00002, depth_notional=3e4)
        assert rows is not None
        bars = klines.between(day * DAY_MS, (day + 1) * DAY_MS)
        price = rows[1].reshape(len(bars), 5) * tick
        seen += len(bars)
        assert np.allclose(price.max(axis=1), bars.high, atol=tick / 2)
        assert np.allclose(price.min(axis=1), bars.low, atol=tick / 2)
        assert (np.diff(rows[0]) > 0).all()
    series = candles.series("3m")
    for i in range(0, len(series.closed), 97):
        bar = candles.closed_bar("3m", int(series.closed.open_ms[i]) + 180_000)
        assert bar is not None
        k = candles.message(bar, series, closed=True)
        assert [float(k[name]) for name in "ohlcv"] == list(series.closed.kline(i)[3:8])
    assert seen == len(klines)
