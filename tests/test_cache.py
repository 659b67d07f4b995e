"""Kept rows equal the step of live trading, and are kept by what they depend on."""

import numpy as np
import pytest

from bot.backtest.data import Symbol, prepare
from bot.backtest.market import load_market
from bot.backtest.models import model_for
from bot.backtest.run import run_backtest
from bot.backtest.signals import resets_at
from bot.config import parse
from bot.core.errors import ConfigError
from bot.core.klines import fill_gaps
from bot.market.funding import no_funding
from bot.market.synthetic import write_market
from bot.search import cache
from bot.search.space import Trier
from bot.strategy.features import batch

LOOSE = (
    "strategy.min_rating=1",
    "strategy.tap_window=10",
    "strategy.min_dominance=50",
    "strategy.min_rank=0",
    "strategy.trail_mode=price",
    "strategy.htf_source=pac",
)


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    folder = tmp_path_factory.mktemp("klines")
    write_market(folder, 20, 3)
    return load_market(parse("", overrides=LOOSE), folder)


def _with_gaps(bars):
    keep = np.ones(len(bars), bool)
    keep[4_000:4_006] = False  # short: filled flat
    keep[6_000:6_040] = False  # long: memory starts anew
    return fill_gaps(bars._take(keep), 10)


CONFIGS = {
    "alert": (),
    "loose": LOOSE,
    "strict": ("strategy.require_strong=true", "strategy.conf_max_age=30", "oscillator.overflow_side=same_side"),
    "gates": ("strategy.gates.discount=true", "strategy.gates.taker_confirm=true", "strategy.htf_source=smc"),
    "indicators": (
        "overlays.smart_trail=1",
        "pac.mitigation=wick",
        "oscillator.hyperwave_length=14",
        "hedge.stop_lookback=20",
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_kept_rows_with_other_rules_equal_rows_computed_anew_bit_for_bit(market, name):
    config = parse("", overrides=CONFIGS[name])
    filled, resets = _with_gaps(market.base("BTCUSDT"))
    symbol = Symbol(filled, resets, None, no_funding("BTCUSDT", warning=""))
    kept = cache.KeptArrays()

    for first in CONFIGS:  # whatever was asked for before
        cache.rows_of(symbol, parse("", overrides=CONFIGS[first]), kept)
    rows = cache.rows_of(symbol, config, kept)

    anew = batch(filled, config, resets=resets_at(len(filled), resets), model=model_for(config))
    assert rows.tobytes() == anew.tobytes()


def test_a_back_test_on_kept_results_is_the_same_back_test(market):
    config = parse("", overrides=LOOSE)
    kept = cache.PreparedCache(config, market)

    first = run_backtest(config, market, signals_cache=kept.prepared(config))
    again = run_backtest(config, market, signals_cache=kept.prepared(config))
    plain = run_backtest(config, market, signals_cache=prepare(config, market))

    assert len(plain.trades) > 3
    assert [t.record for t in first.trades] == [t.record for t in plain.trades] == [t.record for t in again.trades]
    assert first.data_hash == plain.data_hash
    assert np.array_equal(first.equity.equity, plain.equity.equity)


def test_only_what_a_setting_touches_is_computed_anew(market):
    config = parse("", overrides=LOOSE)
    kept = cache.PreparedCache(config, market)
    kept.prepared(config)

    def misses(*changes):
        before = kept.kept.misses
        kept.prepared(parse("", overrides=(*LOOSE, *changes)))
        return kept.kept.misses - before

    assert (
        misses("strategy.min_rating=3", "strategy.gates.discount=true", "trade.tp1_r=0.5", "hedge.enabled=false") == 0
    )
    assert misses("overlays.smart_trail=5") == 1  # all rows of the traded symbol
    assert misses("oscillator.hyperwave_length=9") == 1
    assert misses("strategy.tap_window=4") == 1 + 2  # and the legs' blocks
    assert misses("overlays.smart_trail=5") == 0


def test_the_least_used_results_go_when_the_room_is_full(market):
    small = cache.KeptArrays(megabytes=0.1)

    for number in range(5):
        small.get((number,), lambda: np.zeros(5_000))  # 40 kB

    assert list(small._held) == [(3,), (4,)]


def test_symbols_and_gaps_cannot_change_between_trials(market):
    config = parse("", overrides=LOOSE)
    kept = cache.PreparedCache(config, market)
    kept.prepared(config)

    with pytest.raises(ConfigError, match=r"may not change \[data\]"):
        kept.prepared(parse("", overrides=(*LOOSE, "data.max_gap_bars=3")))


def test_trials_with_and_without_kept_results_score_the_same(market):
    config = parse("", overrides=LOOSE)
    bars = market.base("BTCUSDT")
    span = (int(bars.open_ms[3_000]), bars.end_ms)
    values = {"strategy.tap_window": 5, "trade.tp1_r": 0.5, "trade.tp2_r": 1.0, "overlays.smart_trail": 2}

    kept = Trier(config, market, *span).score(values)
    fresh = Trier(config, market, *span, use_cache=False).score(values)

    assert kept == fresh
