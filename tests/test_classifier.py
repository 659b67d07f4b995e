"""The learned classifier: its features, its labels, its evaluation live, and what is known about its worth."""

import dataclasses
import json
import math
import os
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.backtest import models
from bot.backtest.signals import resets_at
from bot.config import Config, Overlays, parse
from bot.core.errors import ConfigError, DataMissing
from bot.core.events import KlineClosed
from bot.core.jit import record
from bot.core.klines import fill_gaps, make_klines
from bot.indicators import overlays, rating
from bot.market import store
from bot.search import classifier
from bot.search.classifier import LOST, OPEN, WON, Samples
from bot.strategy.features import INDEX, Features, batch
from tests import naive_premium as naive
from tests.premium_markets import Market, Runner, markets, random_market

JIT = os.environ.get("NUMBA_DISABLE_JIT") != "1"
STEP_MS = 180_000
LEARNED = Overlays(classifier="learned")
DEFAULT = Overlays()
SETTINGS = DEFAULT.model_dump(exclude={"classifier"})


def a_model(**change):
    """A model with opinions: it tells the signals of any market apart."""
    spread = [3.0, 0.4, 0.2, 1.0, 2.0, 0.2, 1.0, 1.0, 0.7, 0.7]
    weights = [0.8, -0.5, 0.3, 0.4, -0.6, 0.5, 0.2, -0.3, 0.1, -0.2]
    numbers = {"mean": [0.1] * 10, "scale": spread, "coefficients": weights, "intercept": -0.1}
    model = {"format": 1, "features": list(rating.FEATURES), "settings": SETTINGS, "thresholds": [0.3, 0.5, 0.7]}
    return model | numbers | change


class LearnedRunner(Runner):
    """The family with the learned classifier, stepped over markets from `open_ms` 0 on."""

    def __init__(self, model=None):
        family = SimpleNamespace(
            so_reset=overlays.so_reset,
            so_step=overlays.so_step,
            STATE=overlays.STATE,
            COLUMNS=overlays.COLUMNS,
            params=lambda section: overlays.params(section, model or a_model()),
        )
        super().__init__(family, "so", LEARNED)


def klines(market: Market, symbol="BTCUSDT", start_ms=0):
    columns = {"open_ms": start_ms + np.arange(len(market.close), dtype=np.int64) * STEP_MS}
    columns |= {name: getattr(market, name) for name in ("open", "high", "low", "close", "volume")}
    return make_klines(symbol, STEP_MS, columns=columns | {"filled": market.filled.astype(float)})


# --- Features --------------------------------------------------------------------------------------------------------


def naive_features(market: Market, directions, open_ms) -> list[list[float]]:
    """The ten features of every bar, as if it signalled, each written out from its definition."""
    high, low, close = market.high.tolist(), market.low.tolist(), market.close.tolist()
    tr = naive.true_ranges(high, low, close)
    atr14, atr200, ema200 = naive.rma(tr, 14), naive.rma(tr, 200), naive.ema(close, 200)
    strength, momentum = naive.trend_strength(high, low), naive.rsi(close, 14)
    trail = naive.smart_trail(high, low, close, 4.0)
    catcher = naive.trend_catcher(
        close,
        3,
        length=DEFAULT.catcher_length,
        pace=DEFAULT.catcher_pace,
        fast=DEFAULT.catcher_fast,
        slow=DEFAULT.catcher_slow,
    )
    lead, lag = naive.neo_cloud(high, low, close, 3, DEFAULT.cloud_stretch, DEFAULT.cloud_width)
    rows = []
    for t, (direction, ms) in enumerate(zip(directions, open_ms, strict=True)):
        if not (atr14[t] > 0 and atr200[t] > 0):
            rows.append([math.nan] * 10)
            continue
        hours = ms / 3_600_000
        rows.append(
            [
                direction * (close[t] - ema200[t]) / atr14[t],
                math.log(atr14[t]) - math.log(atr200[t]),
                strength[t] / 100,
                direction * trail["direction"][t],
                direction * (close[t] - trail["line"][t]) / atr14[t],
                direction * (momentum[t] / 50 - 1),
                direction * (lead[t] - lag[t]) / atr14[t],
                direction * (close[t] - catcher[t]) / atr14[t],
                math.sin(hours / 24 * 2 * math.pi),
                math.cos(hours / 24 * 2 * math.pi),
            ]
        )
    return rows


@given(markets(shortest=250, longest=500))
def test_features_of_a_signal_equal_their_definitions(market):
    bars = klines(market)

    found = classifier.samples(bars, Overlays())

    twin = naive.confirmations(
        *(c.tolist() for c in (market.high, market.low, market.close)),
        [12.0] * len(bars),
        least=DEFAULT.confirmation_least,
        pace=DEFAULT.confirmation_pace,
        crossed=DEFAULT.confirmation_crossed,
        strong_length=DEFAULT.strong_length,
        exit_rule=DEFAULT.exit_rule,
    )
    rows = naive_features(market, np.sign(twin["state"]), bars.open_ms)
    at = [t for t, s in enumerate(twin["signal"]) if s and market.filled[t] == 0 and np.isfinite(rows[t]).all()]
    assert found.at.tolist() == at
    assert found.rule_rating.tolist() == [twin["rating"][t] for t in at]
    for i, t in enumerate(at):
        np.testing.assert_allclose(found.features[i], rows[t], rtol=1e-9, atol=1e-9)


@given(markets(shortest=250, longest=500), st.integers(-8, 8))
def test_features_and_ratings_know_no_scale(market, power):
    # RSI calls moves below 1e-12 no move at all, so the smallest prices are left out
    market = market.scaled(2.0 ** -math.floor(math.log2(market.close[0])))

    out = LearnedRunner().columns(market)
    scaled = LearnedRunner().columns(market.scaled(2.0**power))

    for name in ("so_probability", "so_rating"):
        np.testing.assert_array_equal(out[name], scaled[name], err_msg=name)


@pytest.mark.parametrize("seed", range(3))
def test_the_mirrored_market_is_rated_alike(seed):
    market = random_market(seed, 2500, spike=0.02, jump=0.1)

    out, mirror = LearnedRunner().columns(market), LearnedRunner().columns(market.mirrored())

    late = slice(1500, None)  # before their first turns trail and SuperTrend are not symmetric
    np.testing.assert_allclose(out["so_probability"][late], mirror["so_probability"][late], rtol=0, atol=1e-12)
    np.testing.assert_array_equal(out["so_rating"][late], mirror["so_rating"][late])
    assert len(np.unique(out["so_rating"][late])) == 4


@given(markets(shortest=250, longest=500), st.data())
def test_a_rating_does_not_change_with_the_bars_after_it(market, data):
    cut = data.draw(st.integers(1, len(market.close)))

    rows = LearnedRunner().rows(market)

    np.testing.assert_array_equal(rows[:cut], LearnedRunner().rows(market.head(cut)))


@given(markets(shortest=250, longest=400))
def test_reset_brings_a_used_rater_back_to_a_fresh_one(market):
    used = LearnedRunner()
    first = used.rows(market)

    used.reset(used.state, used.params)

    assert used.state.tobytes() == LearnedRunner().state.tobytes()
    np.testing.assert_array_equal(used.rows(market), first)


@given(markets(shortest=250, longest=500))
def test_the_classifier_changes_ratings_and_nothing_else(market):
    learned = LearnedRunner().columns(market)
    rule = Runner(overlays, "so", Overlays()).columns(market)

    for name in overlays.COLUMNS:
        if name not in ("so_rating", "so_probability"):
            np.testing.assert_array_equal(learned[name], rule[name], err_msg=name)
    assert np.isnan(rule["so_probability"]).all()
    np.testing.assert_array_equal(np.isnan(learned["so_rating"]), np.isnan(rule["so_rating"]))


# --- Evaluation ------------------------------------------------------------------------------------------------------


def rated(features, **change):
    """Probability and rating of one signal with these features."""
    numbers = overlays.params(LEARNED, a_model(**change)).rating
    rater = record(rating.RATER)
    rating.rater_reset(rater)
    rater.features[:] = features
    rating.classify(rater, numbers)
    return float(rater.probability), float(rater.rating)


@pytest.mark.parametrize(
    ("thresholds", "expected"),
    [
        ([0.6, 0.7, 0.8], 1.0),
        ([0.5, 0.7, 0.8], 2.0),
        ([0.4, 0.5, 0.8], 3.0),
        ([0.3, 0.4, 0.5], 4.0),
    ],
)
def test_the_quartile_in_which_the_probability_lies_is_the_rating(thresholds, expected):
    answer = rated([0.1] * 10, intercept=0.0, thresholds=thresholds)

    assert answer == (0.5, expected)


def test_a_market_without_a_range_is_rated_two_as_by_the_rule():
    probability, stars = rated([math.nan] * 10)

    assert math.isnan(probability)
    assert stars == 2.0


def test_extreme_features_give_certainties_and_no_overflow():
    up, down = rated([1e6] + [0.0] * 9), rated([-1e6] + [0.0] * 9)

    assert up == (1.0, 4.0)
    assert down == (0.0, 1.0)


@given(st.lists(st.lists(st.floats(-50, 50), min_size=10, max_size=10), min_size=1, max_size=5))
def test_the_kernel_equals_scikit_learn_on_any_features(rows):
    ours = [rated(row)[0] for row in rows]

    theirs = pipeline_of(a_model()).predict_proba(np.array(rows))[:, 1]
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)


def pipeline_of(model):
    """The scaler and regression of scikit-learn that a model's numbers came from."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    scaler, regression = StandardScaler(), LogisticRegression()
    scaler.mean_, scaler.scale_ = np.array(model["mean"]), np.array(model["scale"])
    scaler.var_, scaler.n_features_in_ = scaler.scale_**2, 10
    regression.coef_, regression.intercept_ = np.array([model["coefficients"]]), np.array([model["intercept"]])
    regression.classes_, regression.n_features_in_ = np.array([False, True]), 10
    return make_pipeline(scaler, regression)


# --- Labels, gap and calibration -------------------------------------------------------------------------------------


def naive_outcome(market: Market, at: int, direction: int, reach: float, horizon: int) -> int:
    """Who came first, told from the lists of bars on which either end was touched."""
    entry = market.close[at]
    ahead = range(at + 1, min(at + 1 + horizon, len(market.close)))
    up = [t for t in ahead if market.high[t] >= entry + reach]
    down = [t for t in ahead if market.low[t] <= entry - reach]
    good, bad = (up, down) if direction > 0 else (down, up)
    if not good and not bad:
        return OPEN
    if not bad or (good and good[0] < bad[0]):
        return WON
    return LOST


@given(markets(shortest=30, longest=120), st.data())
def test_outcomes_equal_the_twin(market, data):
    at = data.draw(st.integers(0, len(market.close) - 1))
    direction, horizon = data.draw(st.sampled_from((1, -1))), data.draw(st.integers(1, 60))
    reach = data.draw(st.integers(1, 400)) * (market.close[0] / 2**17)

    outcome = classifier.decide(market.high, market.low, market.close, at, float(direction), reach, horizon)

    assert outcome == naive_outcome(market, at, direction, reach, horizon)


@given(st.lists(st.integers(1, 40), min_size=3, max_size=60), st.integers(1, 80))
def test_no_label_reaches_over_the_gap(steps, horizon):
    at = np.cumsum(steps)

    gap = classifier.gap_of(at, horizon)

    for last in range(len(at) - gap - 1):
        assert at[last] + horizon < at[last + gap + 1]
    if gap:
        assert any(at[i] + horizon >= at[i + gap] for i in range(len(at) - gap))  # no signal too many is skipped


def test_a_long_gap_in_the_bars_starts_signals_and_labels_anew():
    market = random_market(3, 2400, spike=0.02)
    bars = klines(market)
    columns = {name: column.copy() for name, column in bars.columns().items()}
    columns["open_ms"][1200:] += 500 * STEP_MS

    found = classifier.samples(make_klines("BTCUSDT", STEP_MS, columns=columns), Overlays())

    alone = [classifier.samples(klines(Market(*(c[part] for c in market))), Overlays()) for part in HALVES]
    assert found.at.tolist() == [*alone[0].at.tolist(), *(alone[1].at + 1200).tolist()]
    np.testing.assert_array_equal(found.outcome, np.concatenate([part.outcome for part in alone]))


HALVES = (slice(0, 1200), slice(1200, 2400))


def made_samples(seed: int, count: int, strength: float) -> Samples:
    """Signals whose outcome hangs on two of the features with the given strength."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count, 10))
    odds = strength * (features[:, 0] - features[:, 4])
    won = rng.random(count) < 1 / (1 + np.exp(-odds))
    at = np.cumsum(rng.integers(1, 60, count))
    return Samples(at * STEP_MS, at, np.ones(count), rng.integers(1, 5, count), np.where(won, WON, LOST), features)


def test_calibration_bins_equal_those_of_scikit_learn():
    from sklearn.calibration import calibration_curve

    rng = np.random.default_rng(5)
    p = rng.random(700)
    won = rng.random(700) < p

    rows = classifier.curve(p, won)

    reached, predicted = calibration_curve(won, p, n_bins=10, strategy="quantile")
    np.testing.assert_allclose([row["reached"] for row in rows], reached)
    np.testing.assert_allclose([row["predicted"] for row in rows], predicted)
    assert sum(row["count"] for row in rows) == 700


def test_a_market_with_an_edge_is_found_better_than_its_base_rate():
    pipeline, model = classifier.fit(made_samples(1, 2500, 0.6))

    assert model["holdout"]["better_than_base_rate"]
    assert model["holdout"]["auc"] == pytest.approx(0.70, abs=0.05)
    shares = [model["holdout"]["ratings"][value]["reached"] for value in "1234"]
    assert shares == sorted(shares)
    assert model["coefficients"][0] > 0.4 > -0.4 > model["coefficients"][4]
    np.testing.assert_allclose(pipeline[1].coef_[0], model["coefficients"], rtol=0)


@pytest.mark.parametrize("seed", range(3))
def test_a_market_without_an_edge_is_not_found_better_than_its_base_rate(seed):
    _, model = classifier.fit(made_samples(seed, 1500, 0.0))

    low, high = model["holdout"]["auc_interval"]
    assert low < 0.5 < high
    assert not model["holdout"]["better_than_base_rate"]


def test_training_sees_nothing_of_what_it_is_judged_on():
    found = made_samples(2, 1500, 0.6)
    cut = 1200
    altered = dataclasses.replace(found, outcome=np.where(np.arange(1500) < cut, found.outcome, -found.outcome))

    _, model = classifier.fit(found)
    _, other = classifier.fit(altered)

    for name in ("mean", "scale", "coefficients", "intercept", "thresholds", "training", "cross_validation"):
        assert model[name] == other[name], name
    assert model["holdout"]["auc"] == pytest.approx(1 - other["holdout"]["auc"])
    assert model["training"]["signals"] + model["training"]["gap_signals"] == cut


def test_too_few_signals_are_refused():
    with pytest.raises(DataMissing, match="too few"):
        classifier.fit(made_samples(1, 400, 0.6))


def test_a_training_that_fails_writes_nothing(tmp_path):
    folder = tmp_path / "klines"
    folder.mkdir()
    store.write(folder, klines(random_market(1, 900), start_ms=1_704_067_200_000))

    with pytest.raises(DataMissing, match="too few"):
        classifier.train(folder, tmp_path / "model.json")

    assert [path.name for path in tmp_path.iterdir()] == ["klines"]


# --- The door --------------------------------------------------------------------------------------------------------


def test_the_learned_classifier_without_a_model_is_refused_in_one_sentence():
    with pytest.raises(ConfigError, match='classifier = "learned" needs a model'):
        overlays.params(LEARNED)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 2}, "other features"),
        ({"features": list(rating.FEATURES[:9])}, "other features"),
        ({"features": None}, "other features"),
        ({"mean": [0.0] * 9}, "mean must be 10 finite numbers"),
        ({"mean": "0123456789"}, "mean must be 10 finite numbers"),
        ({"coefficients": [math.nan] + [0.0] * 9}, "coefficients must be 10 finite numbers"),
        ({"scale": [0.0] + [1.0] * 9}, "scale must be above 0"),
        ({"intercept": None}, "intercept must be 1 finite number"),
        ({"thresholds": [0.5, 0.4, 0.6]}, "thresholds must rise"),
        ({"settings": SETTINGS | {"sensitivity": 20.0}}, "overlays.sensitivity = 12.0, but .* with 20.0"),
        ({"settings": None}, "overlays.sensitivity = 12.0, but .* with None"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(change, words):
    with pytest.raises(ConfigError, match=words):
        overlays.params(LEARNED, a_model(**change))


def test_a_model_is_ignored_by_the_rule():
    numbers = overlays.params(Overlays(), {"nonsense": 1})

    assert numbers.rating.learned == 0


def test_only_the_learned_classifier_asks_for_a_file(tmp_path):
    absent = tmp_path / "model.json"

    assert models.model_for(Config(), absent) is None
    with pytest.raises(ConfigError, match=r"model\.json: No such file"):
        models.model_for(parse('overlays.classifier = "learned"'), absent)


@pytest.mark.parametrize(("text", "words"), [("{", "no JSON"), ("[]", "holds no model"), ("{}", "other features")])
def test_a_damaged_file_is_refused(tmp_path, text, words):
    path = tmp_path / "model.json"
    path.write_text(text)

    with pytest.raises(ConfigError, match=words):
        models.load_model(path)


def test_features_rate_live_as_in_batch_with_the_shipped_model():
    config = parse('overlays.classifier = "learned"')
    model = models.model_for(config)
    bars = klines(random_market(8, 1200, spike=0.02))
    features = Features(config, model=model)

    live = [features.step(KlineClosed(bar.close_ms, bar)).values for bar in bars.rows()]

    expected = batch(bars, config, model=model)
    assert np.array(live).tobytes() == expected.tobytes()
    assert np.isfinite(expected[:, INDEX["so_probability"]]).any()


# --- The shipped model -----------------------------------------------------------------------------------------------


def test_the_shipped_model_is_plain_numbers_with_its_origin_and_its_worth():
    text = models.MODEL.read_text()

    model = models.load_model()

    assert json.loads(text) == model
    assert "/" not in text  # no path of any machine
    overlays.params(LEARNED, model)
    assert model["data"]["bars"] > 100_000
    assert len(model["data"]["sha256"]) == 64
    assert sum(row["count"] for row in model["holdout"]["calibration"]) == model["holdout"]["signals"]
    share = model["holdout"]["signals"] / (model["holdout"]["signals"] + model["training"]["signals"])
    assert share == pytest.approx(0.2, abs=0.005)


def test_the_report_says_whether_the_model_is_worth_anything(capsys):
    model = models.load_model()

    models.print_report(model)

    said = capsys.readouterr().out
    assert "better than the base rate: " + ("yes" if model["holdout"]["better_than_base_rate"] else "no") in said
    assert f"AUC held out: {model['holdout']['auc']:.3f}" in said
    assert said.count("\n") == 25


@pytest.fixture(scope="module")
def real(shared):
    return store.load(shared / "klines/spot", "BTCUSDT", "3m")


@pytest.mark.reference
@pytest.mark.skipif(not JIT, reason="a hundred thousand bars")
def test_the_shipped_model_is_the_one_that_training_gives(shared, tmp_path):
    out = tmp_path / "model.json"

    report = classifier.train(shared / "klines/spot", out)

    shipped = models.load_model()
    assert models.load_model(out) == json.loads(json.dumps(report))
    for name in ("features", "settings", "label", "data", "training"):
        assert report[name] == shipped[name], name
    for name in ("mean", "scale", "coefficients", "intercept", "thresholds"):
        np.testing.assert_allclose(report[name], shipped[name], rtol=1e-6, atol=1e-9, err_msg=name)
    for name in ("auc", "brier", "auc_interval", "brier_gain_interval"):
        np.testing.assert_allclose(report["holdout"][name], shipped["holdout"][name], atol=1e-4, err_msg=name)


@pytest.mark.reference
@pytest.mark.skipif(not JIT, reason="a hundred thousand bars")
def test_the_kernel_equals_scikit_learn_on_every_signal_of_real_bars(real):
    model = models.load_model()
    filled, resets = fill_gaps(real)
    flags = resets_at(len(filled), resets)
    config = parse('overlays.classifier = "learned"')

    rows = batch(filled, config, resets=flags, suite_only=True, model=model)

    found = classifier.samples(real, LEARNED)
    expected = pipeline_of(model).predict_proba(found.features)[:, 1]
    suite = {name: rows[found.at, INDEX[name]] for name in ("so_signal", "so_probability", "so_rating")}
    assert (rows[:, INDEX["so_signal"]] != 0).sum() == len(found) > 3_000
    np.testing.assert_allclose(suite["so_probability"], expected, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(suite["so_rating"], classifier.quarter(suite["so_probability"], model["thresholds"]))


@pytest.mark.reference
@pytest.mark.skipif(not JIT, reason="a hundred thousand bars")
def test_no_label_of_a_training_part_reaches_into_what_is_tested_on_real_bars(real):
    from sklearn.model_selection import TimeSeriesSplit

    found = classifier.samples(real, Overlays())
    decided = found.take(found.outcome != OPEN)
    gap = classifier.gap_of(decided.at, classifier.HORIZON)

    for one, other in TimeSeriesSplit(classifier.SPLITS, gap=gap).split(decided.features):
        assert decided.at[one[-1]] + classifier.HORIZON < decided.at[other[0]]
    assert (found.outcome == OPEN).mean() < 0.01
