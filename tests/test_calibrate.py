"""Fitting open settings: hidden ones are found through noise, and nothing that does not hold is taken."""

import numpy as np
import pytest

from bot.cli import main
from bot.config import parse
from bot.core.errors import DataError
from bot.parity.calibrate import calibrate
from bot.parity.formulas import ema, rsi, source, super_smoother
from bot.parity.variants import money_flow, smart_trail
from tests.parity_exports import CONFIG, OSCILLATOR, OVERLAYS, Sheet, chart, market, values

BARS = market().part(0, 3000)
WAVE = {name: OSCILLATOR[name] for name in ("HyperWave", "HWO Up", "HWO Down")}
FLOW = {name: OSCILLATOR[name] for name in ("Money Flow", "Upper Money Flow Threshold", "Lower Money Flow Threshold")}


@pytest.fixture(scope="module", autouse=True)
def data_folder(tmp_path_factory):
    """A data folder of this module's own, so that remembered bind files stay apart."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BOT_DATA", str(tmp_path_factory.mktemp("bot")))
        yield


def fit(tmp_path, columns, hidden, noise, **options):
    path = chart(BARS, columns, changes=hidden, noise=noise).write(tmp_path / "a.csv")
    return calibrate(CONFIG, path, **options)


def test_hidden_settings_are_found_through_noise(tmp_path):
    hidden = {"oscillator.hyperwave_length": 11, "oscillator.hyperwave_inner": 4}
    hidden |= {"overlays.smart_trail": 2, "overlays.sensitivity": 16.0}
    columns = WAVE | {name: OVERLAYS[name] for name in ("Smart Trail", "Bullish", "Bearish", "Bullish+", "Bearish+")}

    report = fit(tmp_path, columns, hidden, 0.05)

    assert report["changes"] == hidden
    families = {family["family"]: family for family in report["families"]}
    assert all(
        families[name]["holdout_after"] < families[name]["holdout_before"] / 2 for name in ("hyperwave", "smart trail")
    )
    applied = parse(report["profile"], profile="calibrated")
    assert (applied.oscillator.hyperwave_length, applied.overlays.smart_trail) == (11, 2)


def test_what_agrees_already_stays_and_the_profile_is_empty(tmp_path):
    report = fit(tmp_path, WAVE | {"Smart Trail": "so_trail"}, {}, 0.02)

    assert report["changes"] == {}
    assert "the profile is empty: keep the settings as they are" in report["verdict"]


def test_noise_alone_changes_nothing(tmp_path):
    made = chart(BARS, {"HyperWave": "om_hyperwave"})
    rng = np.random.default_rng(8)
    for row in made.rows:
        row[-1] = repr(float(rng.uniform(0, 100)))

    report = calibrate(CONFIG, made.write(tmp_path / "a.csv"))

    assert report["changes"] == {}


def test_a_change_that_the_second_symbol_does_not_want_is_refused(tmp_path):
    hidden = {"oscillator.hyperwave_length": 11}
    path = chart(BARS, WAVE, changes=hidden, noise=0.01).write(tmp_path / "a.csv")
    agrees = chart(market("ETHUSDT").part(0, 3000), WAVE, changes=hidden, noise=0.01).write(tmp_path / "b.csv")
    differs = chart(market("ETHUSDT").part(0, 3000), WAVE, noise=0.01).write(tmp_path / "c.csv")

    assert calibrate(CONFIG, path, second=agrees)["changes"] == hidden
    assert calibrate(CONFIG, path, second=differs)["changes"] == {}


def test_what_cannot_be_fitted_is_said_with_the_reason(tmp_path):
    report = fit(tmp_path, WAVE, {}, 0.0)

    reasons = {row["family"]: row["reason"] for row in report["not_fitted"]}
    assert reasons["money flow"] == "no column of it is bound"
    assert "hyperwave" not in reasons


def test_a_choice_that_is_no_setting_is_told_and_not_applied(tmp_path):
    made: Sheet = chart(BARS, {"HyperWave": "om_hyperwave"})
    other = ema(rsi(super_smoother(source(BARS, "hlc3"), 3), 9), 3)
    for i, row in enumerate(made.rows):
        row[-1] = "NaN" if np.isnan(other[i]) else repr(float(other[i]))

    report = calibrate(CONFIG, made.write(tmp_path / "a.csv"))

    variant = report["families"][0]["variant"]
    assert variant["choice"] == "RSI of hlc3 with RMA, length 9"
    assert variant["holdout_after"] < 1e-9
    assert any("could not be fitted by a setting" in sentence for sentence in report["verdict"])


def test_too_short_an_export_and_another_kind_are_refused(tmp_path):
    short = chart(BARS.part(0, 250), WAVE).write(tmp_path / "a.csv")
    listed = tmp_path / "t.csv"
    listed.write_text("Trade #,Type,Signal,Date/Time,Price\n1,Entry long,x,2024-01-01 09:00,60000\n")

    with pytest.raises(DataError, match="a fit needs 200"):
        calibrate(CONFIG, short)
    with pytest.raises(DataError, match="calibrate needs chart data"):
        calibrate(CONFIG, listed)


def test_the_command_writes_a_profile_that_the_configuration_takes(tmp_path, capsys):
    path = chart(BARS, WAVE, changes={"oscillator.hyperwave_length": 14}).write(tmp_path / "a.csv")
    out = tmp_path / "profile.toml"

    with pytest.raises(SystemExit) as ended:
        main(["calibrate", str(path), "--out", str(out), "--name", "mine"])
    printed = capsys.readouterr().out

    assert ended.value.code in (None, 0)
    assert "oscillator.hyperwave_length 7 → 14" in printed
    assert parse(out.read_text(), profile="mine").oscillator.hyperwave_length == 14


def test_the_twins_of_the_variants_are_our_formulas_where_they_coincide():
    flow = money_flow(BARS, 35, 6, 0.4)
    trail = smart_trail(BARS, 13, 4.0, 8)

    ours = values(BARS, "om_money_flow")
    known = np.isfinite(ours) & np.isfinite(flow)
    assert known.sum() > 2900
    np.testing.assert_allclose(flow[known], ours[known], rtol=1e-9)
    np.testing.assert_allclose(trail[600:], values(BARS, "so_trail")[600:], rtol=1e-9)


@pytest.mark.nightly
def test_all_hidden_settings_of_both_toolkits_are_found(tmp_path):
    hidden = {
        "oscillator.hyperwave_length": 11,
        "oscillator.money_flow_length": 28,
        "oscillator.money_flow_weight": 0.55,
        "oscillator.overflow_volume_ratio": 1.45,
        "overlays.smart_trail": 2,
        "overlays.neo_cloud": 4,
        "overlays.trend_catcher": 5,
        "overlays.trend_tracer": 4,
        "overlays.sensitivity": 16.0,
    }

    path = chart(market(), OSCILLATOR | OVERLAYS, changes=hidden, noise=0.03).write(tmp_path / "a.csv")
    report = calibrate(CONFIG, path)

    assert report["changes"] == hidden
