"""The synthetic market: reproducible, sound, and alike to the real one where it matters."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.core.errors import ConfigError
from bot.core.klines import COLUMNS, aggregate, gaps, impossible_rows
from bot.core.times import DAY_MS
from bot.market.checks import run_check
from bot.market.funding import load_funding
from bot.market.store import data_hash, load
from bot.market.synthetic import COINS, DEFAULT_START_MS, synthetic, synthetic_market, write_market
from tests.builders import BASE_MS, HIGHER_MS

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")


@pytest.fixture(scope="module")
def markets():
    return [synthetic_market(51, seed) for seed in range(6)]


def returns(series):
    return np.diff(np.log(series.close))


def autocorrelation(values, lag):
    centred = values - values.mean()
    return (centred[lag:] * centred[:-lag]).mean() / (centred**2).mean()


@settings(max_examples=5)
@given(st.integers(0, 2**32), st.integers(1, 4))
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(seed, days):
    first, again, other = (synthetic_market(days, s) for s in (seed, seed, seed + 1))

    assert data_hash(*first.klines.values()) == data_hash(*again.klines.values())
    assert data_hash(*first.klines.values()) != data_hash(*other.klines.values())
    assert all(np.array_equal(first.funding[s].rate, again.funding[s].rate) for s in SYMBOLS)


def test_a_longer_market_begins_like_a_shorter_one():
    short, long = synthetic_market(5, 3), synthetic_market(40, 3)  # 40 days are made in two pieces

    for symbol in SYMBOLS:
        head = long.klines[symbol].part(0, 5 * 1440)
        assert all(np.array_equal(getattr(short.klines[symbol], name), getattr(head, name)) for name in COLUMNS)
        assert np.array_equal(short.funding[symbol].rate, long.funding[symbol].rate[: len(short.funding[symbol])])


def test_bars_are_sound_gapless_and_on_tick_and_lot(markets):
    for coin in COINS:
        for market in markets:
            series = market.klines[coin.symbol]

            assert len(series) == 51 * 1440
            assert len(impossible_rows(series)) == 0
            assert gaps(series) == []
            assert series.volume.min() > 0
            for name in ("open", "high", "low", "close"):
                values = getattr(series, name)
                assert np.array_equal(np.round(values, coin.price_decimals), values)
            for name in ("volume", "taker_buy_volume"):
                values = getattr(series, name)
                assert np.array_equal(np.round(values, coin.qty_decimals), values)
            # what a bar trades for lies between its extremes
            mean = series.quote_volume / series.volume
            assert (mean <= series.high * (1 + 1e-6)).all()
            assert (mean >= series.low * (1 - 1e-6)).all()


def test_a_price_is_the_number_that_a_person_would_write(markets):
    closes = markets[0].klines["BTCUSDT"].close[:2000].tolist()

    assert all(len(repr(price).split(".")[1]) == 1 for price in closes)


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_its_moments_are_those_of_the_real_market(markets, symbol):
    target = {"BTCUSDT": (5.2, 1.6), "ETHUSDT": (7.6, 1.84), "SOLUSDT": (10.4, 1.83)}[symbol]
    series = [market.klines[symbol] for market in markets]

    moves = [returns(s) for s in series]
    sizes = [np.abs(move) for move in moves]
    wide = np.mean([(s.high - s.low).mean() / np.abs(s.close - s.open).mean() for s in series])
    with_volume = np.mean([np.corrcoef(s.volume[1:], size)[0, 1] for s, size in zip(series, sizes, strict=True)])
    share = [s.taker_buy_volume / s.volume for s in series]
    leaning = np.mean([np.corrcoef(part[1:], move)[0, 1] for part, move in zip(share, moves, strict=True)])

    assert np.mean([move.std() for move in moves]) * 1e4 == pytest.approx(target[0], rel=0.1)
    assert 8 < np.median([((m - m.mean()) ** 4).mean() / m.std() ** 4 for m in moves]) < 30
    for lag, wanted in ((1, 0.27), (5, 0.22), (30, 0.16)):
        assert np.mean([autocorrelation(size, lag) for size in sizes]) == pytest.approx(wanted, abs=0.05)
    assert abs(np.mean([autocorrelation(move, 1) for move in moves])) < 0.02
    assert wide == pytest.approx(target[1], abs=0.1)
    assert with_volume == pytest.approx(0.57, abs=0.07)
    assert np.mean([part.std() for part in share]) == pytest.approx(0.22, abs=0.02)
    assert np.mean([part.mean() for part in share]) == pytest.approx(0.50, abs=0.01)
    assert leaning == pytest.approx(0.46, abs=0.04)


@pytest.mark.parametrize(("symbol", "beta"), [("ETHUSDT", 1.1), ("SOLUSDT", 1.5)])
@pytest.mark.parametrize("bars", [1, 3, 15])
def test_the_legs_follow_bitcoin_by_their_beta(markets, symbol, beta, bars):
    pairs = []
    for market in markets:
        btc, leg = (np.diff(np.log(market.klines[s].close[::bars])) for s in ("BTCUSDT", symbol))
        pairs.append((np.cov(btc, leg)[0, 1] / btc.var(), np.corrcoef(btc, leg)[0, 1]))

    assert np.mean([slope for slope, _ in pairs]) == pytest.approx(beta, abs=0.08)
    assert np.mean([correlation for _, correlation in pairs]) == pytest.approx(0.75, abs=0.04)


def test_the_day_has_its_rhythm(markets):
    busy, calm = [], []
    for market in markets:
        series = market.klines["BTCUSDT"]
        hour = series.open_ms[1:] // 3_600_000 % 24
        size = np.abs(returns(series))
        busy.append(size[hour == 14].mean() / size.mean())
        calm.append(size[hour == 5].mean() / size.mean())

    assert np.mean(busy) > 1.2
    assert np.mean(calm) < 0.85


@given(st.integers(0, 2**32), st.integers(0, 60))
@settings(max_examples=10)
def test_any_thirty_days_hold_a_whole_week_of_each_regime(seed, first_day):
    market = synthetic_market(100, seed)
    start, stop = DEFAULT_START_MS + first_day * DAY_MS, DEFAULT_START_MS + (first_day + 30) * DAY_MS

    ends = [at for at, _ in market.regimes[1:]] + [DEFAULT_START_MS + 100 * DAY_MS]
    longest = dict.fromkeys(("bull", "bear", "range"), 0)
    for (at, name), end in zip(market.regimes, ends, strict=True):
        longest[name] = max(longest[name], min(end, stop) - max(at, start))

    assert min(longest.values()) >= 7 * DAY_MS


def test_a_regime_moves_the_price_as_its_name_says(markets):
    moves = {"bull": [], "bear": [], "range": []}
    for market in markets:
        series = market.klines["BTCUSDT"]
        for (at, name), (end, _) in zip(market.regimes, market.regimes[1:], strict=False):
            week = series.between(at, end)
            moves[name].append(np.log(week.close[-1] / week.open[0]))

    assert min(moves["bull"]) > 0
    assert max(moves["bear"]) < 0
    assert np.mean(moves["bull"]) > 0.05
    assert np.mean(moves["bear"]) < -0.05
    assert max(map(abs, moves["range"])) < 0.04


def test_funding_falls_due_every_eight_hours(markets):
    for market in markets:
        for rates in market.funding.values():
            assert (rates.funding_ms % (8 * 3_600_000) == 0).all()
            assert (np.diff(rates.funding_ms) == 8 * 3_600_000).all()
            assert np.abs(rates.rate).max() <= 0.003
    everything = np.concatenate([rates.rate for market in markets for rates in market.funding.values()])
    assert 2e-5 < everything.mean() < 2e-4
    assert (everything < 0).any()


def test_the_files_of_the_market_are_whole_and_agree(tmp_path):
    paths = write_market(tmp_path, 2, 11)

    market = synthetic_market(2, 11)
    report, code = run_check(tmp_path)
    assert code == 0
    assert (
        sorted(p.name for p in paths)
        == sorted(p.name for p in tmp_path.iterdir())
        == sorted(file.file for file in report.files)
    )
    for symbol in SYMBOLS:
        minutes, base, higher = (load(tmp_path, symbol, interval) for interval in ("1m", "3m", "15m"))
        assert data_hash(minutes) == data_hash(market.klines[symbol])
        assert data_hash(base) == data_hash(aggregate(minutes, BASE_MS))
        assert data_hash(higher) == data_hash(aggregate(base, HIGHER_MS))
        assert np.array_equal(load_funding(tmp_path, symbol).rate, market.funding[symbol].rate)


def test_klines_that_are_there_are_not_replaced_unasked(tmp_path):
    kept = tmp_path / "SOLUSDT-funding.parquet"
    kept.write_bytes(b"real")

    with pytest.raises(
        ConfigError, match=r"holds klines already \(SOLUSDT-funding.parquet\).*empty folder.*--overwrite"
    ):
        write_market(tmp_path, 1, 11)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"real"]

    write_market(tmp_path, 1, 11, overwrite=True)
    assert len(list(tmp_path.iterdir())) == 12
    assert kept.read_bytes() != b"real"


@pytest.mark.parametrize("arguments", [(0, 1, 0), (5, -1, 0), (5, 1, 60_000), (5, 1, -900_000)])
def test_a_market_that_cannot_be_made_is_refused(arguments):
    days, seed, start_ms = arguments

    with pytest.raises(ConfigError):
        synthetic(days, seed, start_ms=start_ms)
