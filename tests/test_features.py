"""The fused step: live equals batch to the bit, the past never changes, gaps follow the rule."""

import math
import os

import numpy as np
import pytest

from bot.backtest.signals import resets_at
from bot.config import Config
from bot.core.events import KlineClosed
from bot.core.jit import records
from bot.core.klines import fill_gaps, make_klines
from bot.core.types import Kline
from bot.market import store
from bot.strategy import kernel as k
from bot.strategy import rules
from bot.strategy.features import Features, batch, compile_steps, step_columns

CONFIG = Config()


@pytest.fixture(scope="module")
def real(shared):
    return store.load(shared / "klines" / "um", "BTCUSDT", "3m")


@pytest.fixture(scope="module")
def rows(real):
    filled, resets = fill_gaps(real)
    return filled, batch(filled, CONFIG, resets=resets_at(len(filled), resets))


def _same(a, b):
    return a.tobytes() == b.tobytes()


@pytest.mark.reference
def test_live_equals_batch_to_the_bit_over_20000_real_bars(real):
    bars = real.part(0, 20_000)
    filled, resets = fill_gaps(bars)
    expected = batch(filled, CONFIG, resets=resets_at(len(filled), resets))
    features = Features(CONFIG)

    live = [features.step(KlineClosed(bar.close_ms, bar)).values for bar in bars.rows()]

    assert _same(np.array(live), expected[filled.filled == 0])


@pytest.mark.reference
def test_every_column_on_200_random_prefixes_equals_the_full_run(rows):
    filled, full = rows
    rng = np.random.default_rng(1)

    for length in rng.integers(1, len(filled), 200):
        part = filled.part(0, int(length))
        assert _same(batch(part, CONFIG), full[:length]), length


@pytest.mark.reference
@pytest.mark.parametrize("block", [1, 7, 512])
def test_the_size_of_a_block_changes_no_bit(real, rows, block):
    filled, full = rows
    count = 6_000 if block > 1 else 800
    params = records(k.PARAMS, 1)
    params[0] = k.params(CONFIG)
    got = np.empty((count, len(k.COLUMNS)))

    columns = tuple(column[:count] for column in step_columns(filled))
    k.Stepper(params, block=block).run(0, columns, resets_at(count, []), got)

    assert _same(got, full[:count])


@pytest.mark.reference
def test_a_reset_inside_a_block_is_a_start_anew(real):
    params = records(k.PARAMS, 1)
    params[0] = k.params(CONFIG)
    columns = step_columns(real.part(0, 1_000))
    whole, outlined_kernel = np.empty((1_000, len(k.COLUMNS))), np.empty((300, len(k.COLUMNS)))

    k.Stepper(params).run(0, columns, resets_at(1_000, [700]), whole)
    k.Stepper(params).run(0, tuple(column[700:] for column in columns), resets_at(300, []), outlined_kernel)

    assert _same(whole[700:], outlined_kernel)


@pytest.mark.reference
def test_symbols_of_a_stepper_do_not_touch_each_other(real):
    params = records(k.PARAMS, 1)
    params[0] = k.params(CONFIG)
    columns = step_columns(real.part(0, 900))
    stepper, alone = k.Stepper(params, symbols=2), k.Stepper(params)
    got, expected = np.empty((900, len(k.COLUMNS))), np.empty((900, len(k.COLUMNS)))

    stepper.run(0, tuple(column[300:600] for column in columns), resets_at(300, []), got[:300])
    stepper.run(1, columns, resets_at(900, []), got)
    alone.run(0, columns, resets_at(900, []), expected)

    assert _same(got, expected)


@pytest.mark.reference
def test_the_future_does_not_touch_the_past(rows):
    filled, full = rows
    half = len(filled) // 2
    columns = {name: column.copy() for name, column in filled.columns().items()}
    for name in ("open", "high", "low", "close"):
        columns[name][half:] *= 1.5

    altered = batch(make_klines(filled.symbol, filled.interval_ms, columns=columns), CONFIG)

    assert _same(altered[:half], full[:half])


@pytest.mark.reference
def test_the_signal_is_the_and_of_the_six_once_warm(rows):
    _, full = rows
    at = k.COLUMNS.index
    for side in ("long", "short"):
        six = np.all([full[:, at(f"{side}_{name}")] == 1.0 for name in rules.CONDITIONS], axis=0)
        ready = full[:, at("ready")] == 1.0

        assert np.array_equal(full[:, at(f"{side}_signal")] == 1.0, six & ready)
        assert six.any()


@pytest.mark.reference
def test_nothing_is_a_signal_before_600_bars_of_both_intervals(rows):
    _, full = rows
    ready = full[:, k.COLUMNS.index("ready")] == 1.0

    first = int(np.argmax(ready))
    assert 600 * 5 <= first + 1 <= 600 * 5 + 10
    assert ready[first:].all()


def _flat(i, price=100.0):
    return Kline("BTCUSDT", 180_000, i * 180_000, price, price + 1, price - 1, price, 5.0, 2.5)


def _step(features, bar):
    return features.step(KlineClosed(bar.close_ms, bar))


def test_a_gap_of_ten_bars_is_filled_flat():
    features, twin = Features(CONFIG), Features(CONFIG)
    for i in range(30):
        _step(features, _flat(i))
        _step(twin, _flat(i))

    after = _step(features, _flat(40))
    for i in range(30, 40):
        filler = Kline("BTCUSDT", 180_000, i * 180_000, 100.0, 100.0, 100.0, 100.0, 0.0, 0.0)
        twin.step(KlineClosed(filler.close_ms, filler, filled=True))
    expected = _step(twin, _flat(40))

    assert _same(after.values, expected.values)


def test_a_longer_gap_starts_the_symbol_anew():
    features, fresh = Features(CONFIG), Features(CONFIG)
    for i in range(30):
        _step(features, _flat(i, 50.0))

    after = [_step(features, _flat(i)).values for i in range(41, 400)]
    expected = [_step(fresh, _flat(i)).values for i in range(41, 400)]

    assert _same(np.array(after), np.array(expected))


@pytest.mark.parametrize(
    "change",
    [{"high": 90.0}, {"low": 110.0}, {"close": math.nan}, {"volume": -1.0}, {"open_ms": 0}, {"high": math.inf}],
)
def test_an_impossible_bar_is_refused_and_changes_nothing(change):
    features = Features(CONFIG)
    for i in range(30):
        _step(features, _flat(i))
    before = features.state_bytes("BTCUSDT")

    answer = _step(features, _flat(30)._replace(**change))

    assert answer is None
    assert features.refused
    assert features.state_bytes("BTCUSDT") == before


def test_bars_of_other_symbols_and_intervals_are_not_ours():
    features = Features(CONFIG)

    assert _step(features, _flat(0)._replace(symbol="XRPUSDT")) is None
    assert _step(features, _flat(0)._replace(interval_ms=900_000)) is None
    assert not features.refused


@pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="nothing is compiled")
def test_kernels_that_lie_in_the_cache_are_loaded_in_one_step():
    first = list(compile_steps(CONFIG))

    assert list(compile_steps(CONFIG)) == [(1, 1, "the whole step")]
    assert first[-1][2] == "the whole step"
    assert first[-1][0] == first[-1][1] == len(first)


def test_a_reset_symbol_is_as_fresh_as_a_new_one():
    params = records(k.PARAMS, 1)
    params[0] = k.params(CONFIG)
    used, new = k.Stepper(params, block=1), k.Stepper(params, block=1)
    bars = make_klines(
        "BTCUSDT",
        180_000,
        columns={
            "open_ms": np.arange(40) * 180_000,
            **{name: np.linspace(100.0, 110.0, 40) for name in ("open", "high", "low", "close")},
            **{name: np.ones(40) for name in ("volume", "taker_buy_volume")},
        },
    )
    used.run(0, step_columns(bars), np.zeros(40, np.int64), np.empty((40, len(k.COLUMNS))))

    used.reset(0)

    for mine, theirs in ((used.states, new.states), (used.clocks, new.clocks), (used.last, new.last)):
        assert mine.tobytes() == theirs.tobytes()
