"""Klines as columns: slicing, filling gaps, and the way from 3m bars to 15m bars."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.core.errors import ConfigError
from bot.core.klines import (
    INTERVALS,
    Aggregator,
    Klines,
    aggregate,
    bar_reason,
    check_bar,
    empty_klines,
    fill_gaps,
    flat_bar,
    from_rows,
    gaps,
    impossible_rows,
    interval_ms,
    interval_name,
    join,
    missing_bars,
)
from tests.builders import BASE_MS, HIGHER_MS, START_MS, kline, klines, without

NAN = float("nan")


@st.composite
def holed_series(draw):
    """A 3m series that starts anywhere in a quarter of an hour, with gaps, flats, no volume and extreme wicks."""
    steps = draw(st.lists(st.sampled_from([1, 1, 1, 1, 1, 1, 2, 3, 7, 11, 12, 13, 40]), min_size=0, max_size=60))
    first = draw(st.integers(0, 9))
    scale = draw(st.sampled_from([1e-6, 1.0, 60_000.0, 1e9]))
    size = len(steps) + 1
    unit = st.floats(0.5, 2.0)
    opens, closes = (np.array(draw(st.lists(unit, min_size=size, max_size=size))) * scale for _ in range(2))
    wick = np.array(draw(st.lists(st.sampled_from([0.0, 0.0, 0.001, 0.4]), min_size=size, max_size=size)))
    volume = np.array(draw(st.lists(st.sampled_from([0.0, 0.1, 7.25, 1e7]), min_size=size, max_size=size)))
    taker = np.full(size, NAN) if draw(st.booleans()) else volume * draw(st.floats(0.0, 1.0))
    return klines(
        closes,
        open_ms=START_MS + BASE_MS * (first + np.concatenate(([0], np.cumsum(np.array(steps, dtype=np.int64))))),
        open=opens,
        high=np.maximum(opens, closes) * (1 + wick),
        low=np.minimum(opens, closes) * (1 - wick),
        volume=volume,
        taker_buy_volume=taker,
    )


def naive_aggregate(series: Klines, long_ms: int) -> dict[int, tuple]:
    """The slow twin: a dictionary of lists."""
    sets: dict[int, list] = {}
    for i, bar in enumerate(series.rows()):
        sets.setdefault(bar.open_ms // long_ms * long_ms, []).append((bar, series.filled[i]))
    out = {}
    for start, bars in sets.items():
        if len(bars) == long_ms // series.interval_ms:
            volume = taker = 0.0
            for bar, _ in bars:
                volume, taker = volume + bar.volume, taker + bar.taker_buy_volume
            highs, lows = [b.high for b, _ in bars], [b.low for b, _ in bars]
            flat = float(all(f for _, f in bars))
            out[start] = (bars[0][0].open, max(highs), min(lows), bars[-1][0].close, volume, taker, flat)
    return out


def as_dict(series: Klines) -> dict[int, tuple]:
    return {bar.open_ms: (*bar[3:], float(series.filled[i])) for i, bar in enumerate(series.rows())}


def same(left: dict[int, tuple], right: dict[int, tuple]) -> bool:
    return left.keys() == right.keys() and all(
        np.array_equal(np.array(left[k]), np.array(right[k]), equal_nan=True) for k in left
    )


@given(holed_series())
def test_aggregation_agrees_with_its_slow_twin(series):
    long = aggregate(series, HIGHER_MS)

    assert same(as_dict(long), naive_aggregate(series, HIGHER_MS))
    assert (long.open_ms % HIGHER_MS == 0).all()
    assert len(impossible_rows(long)) == 0


@given(holed_series(), st.booleans())
def test_one_bar_at_a_time_gives_the_same_bits_as_all_at_once(series, filling):
    if filling:
        series, _ = fill_gaps(series)
    aggregator = Aggregator(BASE_MS, HIGHER_MS)

    pushed = {}
    for i, bar in enumerate(series.rows()):
        long = aggregator.push(bar, filled=bool(series.filled[i]))
        if long is not None:
            assert long.close_ms == bar.close_ms
            pushed[long.open_ms] = (*long[3:], float(aggregator.filled))

    assert same(pushed, as_dict(aggregate(series, HIGHER_MS)))


@given(holed_series(), st.integers(0, 14))
def test_short_gaps_are_filled_flat_and_long_ones_are_reported(series, largest):
    filled, resets = fill_gaps(series, largest)

    expected, starts = [], []
    previous = None
    for bar in series.rows():
        if previous is not None:
            missing = missing_bars(previous.open_ms, bar.open_ms, interval_ms=BASE_MS)
            if missing > largest:
                starts.append(len(expected))
            else:
                for _ in range(missing):
                    previous = flat_bar(previous)
                    expected.append((previous, 1.0))
        expected.append((bar, 0.0))
        previous = bar
    assert resets == starts
    assert filled.filled.tolist() == [flag for _, flag in expected]
    assert all(
        np.array_equal(np.array(a[2:]), np.array(b[2:]), equal_nan=True)
        for a, (b, _) in zip(filled.rows(), expected, strict=True)
    )
    assert [index for index, _ in gaps(filled)] == resets


@given(holed_series(), st.integers(-5, 400), st.integers(-5, 400))
def test_a_slice_holds_the_bars_that_open_from_inclusive_to_exclusive(series, first, last):
    start, stop = START_MS + first * 60_000, START_MS + last * 60_000

    part = series.between(start, stop)

    assert part.open_ms.tolist() == [ms for ms in series.open_ms.tolist() if start <= ms < stop]
    assert series.between().open_ms is not None
    assert len(series.between()) == len(series)


@given(holed_series(), st.sampled_from(["open", "high", "low", "close", "volume"]), st.data())
def test_the_check_by_columns_agrees_with_the_check_by_bars(series, name, data):
    row = data.draw(st.integers(0, len(series) - 1))
    value = data.draw(st.sampled_from([NAN, math.inf, -math.inf, -1.0, 0.0, 1e-12, 1e300]))
    getattr(series, name)[row] = value

    bad = [i for i in range(len(series)) if bar_reason(series, i) is not None]

    assert impossible_rows(series).tolist() == bad


@pytest.mark.parametrize(
    ("bar", "word"),
    [
        ((10.0, 11.0, 9.0, 10.5, 1.0, 0.5), None),
        ((10.0, 10.0, 10.0, 10.0, 0.0, 0.0), None),
        ((10.0, 11.0, 9.0, 10.5, 1.0, NAN), None),
        ((10.0, NAN, 9.0, 10.5, 1.0, 0.5), "high is nan"),
        ((10.0, 11.0, 9.0, 10.5, math.inf, 0.5), "volume is inf"),
        ((10.0, 10.2, 9.0, 10.5, 1.0, 0.5), "high 10.2 is below the close 10.5"),
        ((10.0, 11.0, 10.2, 10.5, 1.0, 0.5), "low 10.2 is above the open 10.0"),
        ((10.0, 11.0, 0.0, 10.5, 1.0, 0.5), "low 0.0 is not above 0"),
        ((10.0, 11.0, 9.0, 10.5, -1.0, 0.5), "volume -1.0 is negative"),
        ((10.0, 11.0, 9.0, 10.5, 1.0, -0.5), "taker_buy_volume -0.5 is negative"),
        ((10.0, 11.0, 9.0, 10.5, 1.0, 1.5), "taker_buy_volume 1.5 is above the volume 1.0"),
    ],
)
def test_an_impossible_bar_is_refused_with_its_reason(bar, word):
    assert check_bar(*bar) == word


def test_a_quarter_of_an_hour_without_one_of_its_five_bars_is_missing():
    series = klines(np.arange(15) + 100.0)

    whole, holed = aggregate(series, HIGHER_MS), aggregate(without(series, 7), HIGHER_MS)

    assert whole.open_ms.tolist() == [START_MS, START_MS + HIGHER_MS, START_MS + 2 * HIGHER_MS]
    assert holed.open_ms.tolist() == [START_MS, START_MS + 2 * HIGHER_MS]


def test_a_filled_bar_counts_as_there():
    filled, resets = fill_gaps(without(klines(np.arange(15) + 100.0), 7))

    long = aggregate(filled, HIGHER_MS)

    assert resets == []
    assert len(long) == 3
    assert long.volume.tolist() == [500.0, 400.0, 500.0]
    assert long.filled.tolist() == [0.0, 0.0, 0.0]


def test_a_bar_of_nothing_but_fillers_is_marked():
    filled, _ = fill_gaps(without(klines(np.arange(15) + 100.0), *range(4, 11)))

    assert aggregate(filled, HIGHER_MS).filled.tolist() == [0.0, 1.0, 0.0]


def test_a_longer_interval_must_be_a_multiple():
    with pytest.raises(ConfigError, match="cannot be built"):
        aggregate(klines([1.0, 2.0]), 300_000)


def test_interval_names_and_lengths_are_inverse():
    assert [interval_name(interval_ms(name)) for name in INTERVALS] == list(INTERVALS)

    with pytest.raises(ConfigError, match="'4m'"):
        interval_ms("4m")
    with pytest.raises(ConfigError, match="240000"):
        interval_name(240_000)


def test_rows_and_columns_hold_the_same_bars():
    bars = [kline(i, 100.0 + i, high=200.0, low=50.0) for i in range(4)]

    series = from_rows(bars)

    assert list(series.rows()) == bars
    assert series.kline(2) == bars[2]
    assert series.end_ms == bars[-1].close_ms
    assert np.isnan(series.trades).all()


def test_joining_refuses_what_overlaps():
    series = klines(np.arange(6) + 100.0)

    whole = join([series.part(0, 2), series.part(2, 6)])

    assert whole.open_ms.tolist() == series.open_ms.tolist()
    with pytest.raises(ValueError, match="overlap"):
        join([series.part(0, 3), series.part(2, 6)])


def test_no_bars_stay_no_bars():
    nothing = empty_klines("BTCUSDT", BASE_MS)

    assert fill_gaps(nothing) == (nothing, [])
    assert len(aggregate(nothing, HIGHER_MS)) == 0
    assert nothing.end_ms == 0


@pytest.mark.reference
def test_the_exchanges_own_longer_bars_are_ours(shared):
    from bot.market.store import load, read_file

    for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT"):
        minutes = load(shared / "klines" / "um", symbol, "1m")
        theirs = read_file(shared / "klines" / "um" / f"{symbol}-3m.parquet")

        ours = aggregate(minutes, BASE_MS)

        common, left, right = np.intersect1d(ours.open_ms, theirs.open_ms, return_indices=True)
        assert len(common) > 24_000
        for name in ("open", "high", "low", "close"):
            assert np.array_equal(getattr(ours, name)[left], getattr(theirs, name)[right])
        assert np.allclose(ours.volume[left], theirs.volume[right], rtol=1e-9)
