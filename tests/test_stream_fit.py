"""`calibrate` on alerts: hidden settings are found although alerts are lost, and random times change nothing."""

import numpy as np
import pytest

from bot.cli import main
from bot.config import parse
from bot.core.errors import DataError
from bot.parity import grids
from bot.parity.alert_names import FEATURES
from bot.parity.fitting import fit_exports
from bot.parity.grids import GRIDS, Axis, Grid, present
from bot.parity.ours import changed
from bot.parity.stream_bars import StreamBars
from bot.parity.stream_fit import FitSegment, Jury, Predictions, Rate, fit, fit_grid, without_overlaps
from tests.parity_exports import CONFIG, OSCILLATOR, chart, market, save
from tests.parity_streams import bars_of, fired, rows_of, thinned, write_log
from tests.test_indicators_doc import TEXT

BARS = market().part(0, 3000)
ETH = market("ETHUSDT").part(0, 3000)
BTC_BARS, ETH_BARS = bars_of(BARS), bars_of(ETH)
HIDDEN = {
    "oscillator.hyperwave_length": 9,
    "oscillator.hyperwave_inner": 4,
    "oscillator.signal_average": "sma",
    "pac.structure_length": 8,
    "pac.fvg_threshold": 0.8,
    "overlays.sensitivity": 18.0,
    "overlays.smart_trail": 2,
}
WAVE = Grid(
    "HyperWave",
    ("hyperwave_cross",),
    (
        Axis("oscillator.hyperwave_length", (6, 7, 8, 9, 10)),
        Axis("oscillator.hyperwave_inner", (2, 3, 4)),
        Axis("oscillator.signal_average", ("sma", "ema")),
    ),
)
SMALL = (WAVE, *(grid for grid in GRIDS if len(grid) <= 30))


@pytest.fixture(scope="module", autouse=True)
def data_folder(tmp_path_factory):
    """A data folder of this module's own, so that remembered bind files stay apart."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BOT_DATA", str(tmp_path_factory.mktemp("bot")))
        yield


@pytest.fixture(scope="module")
def predictions():
    """Columns of each value of a grid, computed once for all tests."""
    return Predictions(CONFIG)


def segment(klines: StreamBars, places: dict[str, np.ndarray], *, first: int = 600) -> FitSegment:
    """A complete stretch from bar `first` on."""
    part = slice(first, len(klines.klines))
    wanted = {}
    for feature in FEATURES:
        sides = []
        for side in feature.sides:
            at = [places[name] for name in side if name in places]
            sides.append(np.unique(np.concatenate([np.zeros(0, np.int64), *at])).astype(np.int64))
        sides = [side[side >= first] - first for side in sides]
        if feature.computed and any(map(len, sides)):
            wanted[feature.key] = sides
    return FitSegment(klines.klines.symbol, klines.klines.interval, klines, part, wanted, "made")


def random_times(klines, seed):
    """As many alerts of each name as ours, at random bars."""
    rng = np.random.default_rng(seed)
    return {name: np.sort(rng.choice(len(klines), len(at), replace=False)) for name, at in fired(klines).items()}


def test_hidden_settings_are_found_although_a_tenth_of_the_alerts_is_lost(predictions):
    hidden = {name: value for name, value in HIDDEN.items() if not name.startswith("overlays.sens")}
    lost = [segment(b, thinned(fired(b.klines, hidden), 0.1)) for b in (BTC_BARS, ETH_BARS)]

    rows, changes = fit(CONFIG, lost, predictions, grids=SMALL)

    assert changes == hidden
    wave = rows[0]
    assert wave["train_after"] > 0.9 > wave["train_before"]
    assert wave["train_chance"] < 0.5
    assert {row["grid"] for row in rows if row["accepted"]} == {
        "HyperWave",
        "internal structure",
        "imbalances",
        "Smart Trail",
    }


@pytest.mark.parametrize("seed", range(10))
def test_random_times_change_nothing(predictions, seed):
    rows, changes = fit(CONFIG, [segment(BTC_BARS, random_times(BARS, seed))], predictions, grids=SMALL)

    assert changes == {}
    assert all(row["reason"] for row in rows)


@pytest.mark.nightly
def test_of_a_hundred_streams_of_random_times_at_most_five_change_anything():
    predictions = Predictions(CONFIG)
    accepted = []
    for seed in range(100):
        _, changes = fit(CONFIG, [segment(BTC_BARS, random_times(BARS, 1000 + seed))], predictions)
        accepted += [changes] if changes else []

    assert len(accepted) <= 5


@pytest.mark.nightly
def test_the_shipped_grids_find_hidden_settings(tmp_path):
    folder = save(tmp_path / "klines", BARS, ETH)
    logs = [
        write_log(tmp_path / f"{b.symbol}.csv", b, rows_of(b, thinned(fired(b, HIDDEN), 0.1)), note="complete")
        for b in (BARS, ETH)
    ]

    report = fit_exports(CONFIG, logs, klines=folder)

    assert report["changes"] == HIDDEN


def test_what_agrees_already_stays(predictions):
    rows, changes = fit(CONFIG, [segment(BTC_BARS, thinned(fired(BARS), 0.1))], predictions, grids=SMALL)

    assert changes == {}
    assert all("no value fits better" in row["reason"] or not row["tried"] for row in rows)


def test_a_change_that_the_other_symbol_does_not_want_is_refused(predictions):
    hidden = {"oscillator.hyperwave_length": 9}
    parts = [segment(BTC_BARS, fired(BARS, hidden)), segment(ETH_BARS, thinned(fired(ETH), 0.2))]

    row = fit_grid(CONFIG, WAVE, parts, predictions, {})

    assert row["value"] == hidden
    assert not row["accepted"]
    assert "does not help the other symbol" in row["reason"]


def test_a_change_that_only_the_first_part_wants_is_refused(predictions):
    places = {}
    changed_, as_set = fired(BARS, {"oscillator.hyperwave_length": 9}), fired(BARS)
    cut = 600 + int(0.7 * 2400)
    for name in as_set:
        places[name] = np.concatenate([changed_[name][changed_[name] < cut], as_set[name][as_set[name] >= cut]])

    row = fit_grid(CONFIG, WAVE, [segment(BTC_BARS, places)], predictions, {})

    assert not row["accepted"]
    assert "but not surely the rest" in row["reason"]


def test_a_value_that_takes_a_rate_out_of_its_interval_is_refused(predictions):
    grid = Grid("HyperWave", ("hyperwave_cross",), (Axis("oscillator.hyperwave_inner", (3, 12)),))
    hidden = {"oscillator.hyperwave_inner": 12}
    counts = [
        sum(len(at[at >= 600]) for name, at in fired(BARS, changes).items() if name.startswith("HyperWave"))
        for changes in (hidden, {})
    ]
    assert counts[1] > 1.4 * counts[0]
    agrees, against = ([Rate("hyperwave_cross", count, 2400, BTC_BARS)] for count in counts)
    parts = [segment(BTC_BARS, fired(BARS, hidden))]

    assert fit_grid(CONFIG, grid, parts, predictions, {}, agrees)["accepted"]
    refused = fit_grid(CONFIG, grid, parts, predictions, {}, against)
    assert (refused["value"], refused["accepted"]) == (hidden, False)
    assert "out of its interval" in refused["reason"]


def test_columns_of_a_value_are_computed_once(predictions, monkeypatch):
    fit_grid(CONFIG, WAVE, [segment(BTC_BARS, fired(BARS))], predictions, {})

    monkeypatch.setattr("bot.parity.stream_fit.columns_on", None)  # a call would fail
    fit_grid(CONFIG, WAVE, [segment(BTC_BARS, random_times(BARS, 77))], predictions, {})


def test_a_setting_of_a_grid_exists_and_takes_each_value_and_has_the_present_one():
    for grid in GRIDS:
        assert len(list(grid.values())) == len(grid) <= 5_000
        for axis in grid.axes:
            assert present(CONFIG, axis.setting) in axis.values
            for value in axis.values:
                assert present(changed(CONFIG, {axis.setting: value}), axis.setting) == value


def test_the_grids_stand_in_the_documentation():
    missing = [line for line in grids.document() if line not in TEXT.splitlines()]

    assert missing == []


def test_streams_and_charts_are_fitted_together(tmp_path):
    hidden = {"pac.structure_length": 8, "overlays.smart_trail": 2}
    folder = save(tmp_path / "klines", BARS, ETH)
    names = {"HyperWave", "Smart Trail", "BOS", "CHOCH"}
    places = {name: at for name, at in fired(BARS, hidden).items() if any(word in name for word in names)}
    log = write_log(tmp_path / "btc.csv", BARS, rows_of(BARS, thinned(places, 0.1)), note="complete")
    columns = {name: OSCILLATOR[name] for name in ("HWO Up", "HWO Down", "Oversold HWO Up", "Overbought HWO Down")}
    sheet = chart(ETH, columns).write(tmp_path / "eth.csv")

    report = fit_exports(CONFIG, [log, sheet], klines=folder, grids=SMALL)

    assert report["changes"] == hidden
    assert report["export"]["stretches"] == 2
    wave = next(row for row in report["grids"] if row["grid"] == "HyperWave")
    assert wave["symbol"] == "ETHUSDT"  # it has the most alerts, as none is lost on the chart
    assert wave["train_before"] == 1.0 > wave["other_before"] > 0.9


def test_the_command_writes_a_profile_that_the_configuration_takes(tmp_path, capsys):
    folder = save(tmp_path / "klines", BARS)
    places = {name: at for name, at in fired(BARS, {"overlays.smart_trail": 2}).items() if "Trail" in name}
    log = write_log(tmp_path / "log.csv", BARS, rows_of(BARS, places))
    out = tmp_path / "profile.toml"

    with pytest.raises(SystemExit) as ended:
        main(["calibrate", str(log), "--klines", str(folder), "--complete", "all", "--out", str(out), "--name", "mine"])
    printed = capsys.readouterr().out

    assert ended.value.code in (None, 0)
    assert "Smart Trail: overlays.smart_trail 3 → 2" in printed
    assert "not fitted: imbalances: no alert of new imbalances" in printed
    assert parse(out.read_text(), profile="mine").overlays.smart_trail == 2


def test_a_sample_is_not_fitted_to(tmp_path):
    folder = save(tmp_path / "klines", BARS)
    log = write_log(tmp_path / "log.csv", BARS, rows_of(BARS, fired(BARS)))

    with pytest.raises(DataError, match=r"no complete stretch.*are a sample and are not fitted to; --complete all"):
        fit_exports(CONFIG, [log], klines=folder)


def test_what_is_left_out_of_a_fit_is_named(tmp_path):
    folder = save(tmp_path / "klines", BARS.part(0, 2900), ETH)
    rows = rows_of(BARS, {name: at for name, at in fired(BARS).items() if "Trail" in name})
    rows = [(rows[0][0] + 100_000, rows[0][1]), (rows[1][0], "Moon phase"), *rows[2:]]
    lines = ["Alert ID,Ticker,Name,Description,Time"]
    lines += [f'1,"BINANCE:BTCUSDT.P, 3m",,{name},{np.datetime64(at, "ms")}Z' for at, name in rows]
    lines += [f'1,"BINANCE:ETHUSDT.P, 3m",,{rows[5][1]},{np.datetime64(rows[5][0], "ms")}Z']
    log = tmp_path / "log.csv"
    log.write_text("\n".join(lines) + "\n")

    said = " | ".join(fit_exports(CONFIG, [log], klines=folder, complete="all", grids=SMALL[-1:])["notes"])

    assert "log.csv: only BTCUSDT.P 3m is read; left out: ETHUSDT.P 3m" in said
    assert "1 alerts came at no close and belong to no bar (rows" in said
    assert "the name 'Moon phase' (1 rows) is not known" in said
    assert "alerts lie outside the klines" in said


def test_alerts_that_stand_in_two_files_count_once(tmp_path):
    folder = save(tmp_path / "klines", BARS)
    places = thinned(fired(BARS, {"oscillator.hyperwave_length": 9}), 0.1)
    rows = rows_of(BARS, {name: at for name, at in places.items() if name.startswith("HyperWave")})
    logs = [
        write_log(tmp_path / f"{i}.csv", BARS, rows[a:b], note="complete")
        for i, (a, b) in enumerate([(0, None), (0, None), (150, 250)])
    ]

    once, thrice = (fit_exports(CONFIG, given, klines=folder, grids=[WAVE]) for given in (logs[:1], logs))

    assert thrice["grids"] == once["grids"]
    assert "1.csv: what stands in an earlier file too counts once" in thrice["notes"]


def test_of_two_files_with_part_of_their_time_in_common_none_judges_what_the_other_chooses_by():
    places = fired(BARS)
    whole = segment(BTC_BARS, places)
    trail = {name: at for name, at in places.items() if "Trail" in name or name.startswith("HyperWave")}
    late = segment(BTC_BARS, trail).cut(1200, 2400)
    early = segment(BTC_BARS, {name: at for name, at in places.items() if name.startswith("HyperWave")}).cut(0, 1500)

    parts = without_overlaps([early, late], notes := [])

    assert [(p.part.start, p.part.stop, sorted(p.wanted)) for p in parts] == [
        (600, 2100, ["hyperwave_big", "hyperwave_cross"]),
        (1800, 2100, ["smart_trail"]),
        (2100, 3000, ["hyperwave_big", "hyperwave_cross", "smart_trail"]),
    ]
    assert sum(map(len, parts[0].wanted["hyperwave_cross"] + parts[2].wanted["hyperwave_cross"])) == sum(
        map(len, whole.wanted["hyperwave_cross"])
    )
    assert len(notes) == 1


def test_absence_counts_only_for_what_a_file_has(predictions):
    judges = ("internal_bos", "internal_choch")
    places = fired(BARS)
    only = [
        segment(BTC_BARS, {name: at for name, at in places.items() if word in name}) for word in ("I-BOS", "I-CHOCH")
    ]
    only = [
        FitSegment(s.symbol, s.interval, s.bars, s.part, {j: s.wanted[j]}, "")
        for s, j in zip(only, judges, strict=True)
    ]

    assert Jury(only, judges, predictions).tally({}).f1 == 1.0


def test_a_short_stretch_beside_a_long_one_leaves_all_shifts(predictions):
    whole = segment(BTC_BARS, fired(BARS))
    both = [whole.cut(0, 2300), whole.cut(2300, 2316)]

    jury = Jury(both, ["hyperwave_cross"], predictions)

    assert jury.shifts == 200
    assert jury.tally({}).f1 == 1.0 > jury.tally({}).f1_shifted.max()
