"""Alerts and trades of a chart against our signals: matched, late, missing, repainted."""

import numpy as np
import pytest

from bot.cli import main
from bot.config import parse
from bot.core.errors import ConfigError, DataMissing
from bot.core.types import Side
from bot.parity.alerts_compare import meaning, place_alert
from bot.parity.alerts_log import FiredAlert
from bot.parity.compare import compare
from bot.parity.ours import changed
from tests.parity_exports import market, save, table

# Looser conditions, so that ten synthetic days have signals enough.
LOOSE = {
    "strategy.min_dominance": 0.0,
    "strategy.min_rank": 0.0,
    "strategy.tap_window": 20,
    "strategy.min_rating": 1,
    "strategy.warm_up_bars": 100,
    "strategy.htf_source": "smc",
}
CONFIG = changed(parse(""), LOOSE)
BARS = market()
STEP = 180_000


@pytest.fixture(scope="module", autouse=True)
def data_folder(tmp_path_factory):
    """A data folder of this module's own, so that remembered bind files stay apart."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BOT_DATA", str(tmp_path_factory.mktemp("bot")))
        yield


@pytest.fixture(scope="module")
def um(tmp_path_factory):
    return save(tmp_path_factory.mktemp("klines") / "um", BARS, market("ETHUSDT"))


@pytest.fixture(scope="module")
def signals():
    """Opens of the bars with a signal, with the side: (bar, +1 or -1)."""
    found = table(BARS, parse(""), LOOSE)
    side = (found["long_signal"] == 1.0).astype(int) - (found["short_signal"] == 1.0)
    places = np.flatnonzero(side)
    assert len(places) >= 8
    return [(int(BARS.open_ms[i]), int(side[i])) for i in places]


def stamp(ms):
    return str(np.datetime64(ms, "ms")) + "Z"


def log(path, fired, ticker="BINANCE:BTCUSDT.P, 3m"):
    """Write an alerts log, newest first, of (time, side) pairs."""
    lines = ["Alert ID,Ticker,Name,Description,Time,Webhook status"]
    for number, (at, side) in reversed(list(enumerate(fired))):
        lines.append(
            f'{number},"{ticker}",{"Long" if side > 0 else "Short"} alert,{"buy" if side > 0 else "sell"},{stamp(at)},'
        )
    path.write_text("\n".join(lines) + "\n")
    return path


def said(found):
    return " | ".join(found.report["verdict"])


def at_close(signals, late=1500):
    return [(bar + STEP + late, side) for bar, side in signals]


def test_alerts_at_each_close_match_all_of_our_signals(tmp_path, um, signals):
    found = compare(CONFIG, log(tmp_path / "a.csv", at_close(signals)), klines=um)

    rows = found.report["alerts"]
    assert sum(row["matched"] for row in rows.values()) == len(signals)
    assert all(row["missing"] == row["extra"] == row["repainted"] == 0 for row in rows.values())
    assert {row["late_by_ms_max"] for row in rows.values()} == {1500}
    assert said(found).count("100 %") == len(rows)


def test_the_one_alert_that_is_missing_is_named(tmp_path, um, signals):
    side = signals[-1][1]
    own = [bar for bar, s in signals if s == side]
    gone = own[len(own) // 2]
    fired = [(at, s) for at, s in at_close(signals) if at != gone + STEP + 1500]
    name = "long_signal" if side > 0 else "short_signal"

    found = compare(CONFIG, log(tmp_path / "a.csv", fired), klines=um)

    when = stamp(gone)[:16].replace("T", " ")
    assert found.report["alerts"][name]["missing_ms"] == [gone]
    assert f"{name}: no alert for our signal of {when}" in said(found)
    assert sum(row["missing"] for row in found.report["alerts"].values()) == 1


def test_alerts_inside_bars_are_early_or_repainted_and_the_setting_is_named(tmp_path, um, signals):
    confirmed = [(bar + 90_000, side) for bar, side in signals]
    quiet = signals[2][0] + 10 * STEP
    assert all(abs(bar - quiet) > 3 * STEP for bar, _ in signals)
    fired = sorted([*confirmed, (quiet + 100_000, signals[2][1])])

    found = compare(CONFIG, log(tmp_path / "a.csv", fired), klines=um)

    rows = found.report["alerts"].values()
    assert sum(row["early"] for row in rows) == len(signals)
    assert sum(row["repainted"] for row in rows) == 1
    assert "Once per bar close" in said(found)
    assert "fired inside a bar that did not confirm it" in said(found)


@pytest.mark.parametrize(
    ("at_ms", "kind", "late"),
    [
        (2 * STEP + 1_000, "matched", 1_000),
        (2 * STEP - 30_000, "early", -30_000),
        (2 * STEP + 60_000, "matched", 60_000),
        (3 * STEP + 5_000, "matched", STEP + 5_000),
        (6 * STEP + 1_000, "extra", 1_000),
        (6 * STEP + 60_000, "repainted", -120_000),
    ],
)
def test_an_alert_belongs_to_the_bar_that_it_can_have_been_decided_on(at_ms, kind, late):
    assert place_alert(at_ms, {STEP: True}, STEP) == (kind, at_ms - late - STEP, late)


@pytest.mark.parametrize(
    ("name", "message", "feature"),
    [
        ("Long", '{"side": "buy"}', "long_signal"),
        ("Internal Bullish BOS", "", "smc_int_bull_bos"),
        ("Swing Bearish CHoCH formed", "", "smc_sw_bear_choch"),
        ("HWO Up", "", "om_cross_up"),
        ("Bullish+ confirmation", "", "so_bullish_strong"),
        ("Bearish confirmation", "", "so_bearish"),
        ("price crossing", "61000", None),
        ("mine", "", "om_big_up"),
        ("noise", "buy", None),
    ],
)
def test_the_words_of_an_alert_name_a_feature(name, message, feature):
    from bot.parity.alerts_log import side_of

    alert = FiredAlert(0, "1", name, message, side_of(f"{name} {message}"), "")

    assert meaning(alert, {"mine": "om_big_up", "noise": "ignore"}) == feature


def test_alerts_of_the_perpetual_on_spot_klines_are_named(tmp_path, signals):
    spot = save(tmp_path / "spot", BARS)

    found = compare(CONFIG, log(tmp_path / "a.csv", at_close(signals)), klines=spot)

    assert "the alerts are of the perpetual BTCUSDT.P and these klines are spot BTCUSDT" in said(found)


def test_alerts_of_another_symbol_or_time_are_missing_data(tmp_path, um, signals):
    other = log(tmp_path / "a.csv", at_close(signals), "BINANCE:XRPUSDT.P, 3m")
    late = log(tmp_path / "b.csv", [(at + 400 * 86_400_000, side) for at, side in at_close(signals)])

    with pytest.raises(DataMissing, match="XRPUSDT"):
        compare(CONFIG, other, klines=um)
    with pytest.raises(DataMissing, match="the times do not overlap"):
        compare(CONFIG, late, klines=um)


def test_an_alert_bound_to_a_line_is_refused(tmp_path, um, signals):
    bind = tmp_path / "bind.toml"
    bind.write_text('[alerts]\n"Long alert" = "om_hyperwave"\n"Short alert" = "om_hyperwave"\n')

    with pytest.raises(ConfigError, match="is no event or state"):
        compare(CONFIG, log(tmp_path / "a.csv", at_close(signals)), klines=um, bind_file=bind)


# ---- the list of trades ---------------------------------------------------------------------------------------------


def trades(path, entries, hours=0):
    """Write a list of trades of (entry time, side, price); each lasts one bar."""
    lines = ["Trade #,Type,Signal,Date/Time,Price USDT,Contracts,Profit USDT"]
    for number, (at, side, price) in enumerate(entries, 1):
        word = "long" if side > 0 else "short"
        for kind, ms in (("Entry", at), ("Exit", at + STEP)):
            when = str(np.datetime64(ms + hours * 3_600_000, "ms"))[:16].replace("T", " ")
            lines.append(f"{number},{kind} {word},x,{when},{price},0.1,1")
    path.write_text("\n".join(lines) + "\n")
    return path


def next_open(signals):
    place = {int(at): i for i, at in enumerate(BARS.open_ms)}
    return [(bar + STEP, side, float(BARS.open[place[bar] + 1])) for bar, side in signals]


@pytest.mark.parametrize("hours", [0, 2])
def test_trades_at_the_open_after_each_signal_match_in_any_zone(tmp_path, um, signals, hours):
    found = compare(CONFIG, trades(tmp_path / "t.csv", next_open(signals), hours), klines=um)

    row = found.report["trades"]
    assert (row["matched"], row["only_theirs"], row["only_ours"]) == (len(signals), 0, 0)
    assert row["enters"] == "at the open after the signal"
    assert (found.report["export"]["symbol"], found.report["export"]["shift_minutes"]) == ("BTCUSDT", 60 * hours)
    assert f"100 %: all {len(signals)} entries are our signals" in said(found)


def test_a_trade_without_our_signal_and_a_signal_without_a_trade_are_named(tmp_path, um, signals):
    entries = next_open(signals)
    dropped = entries.pop(3)
    at = signals[-1][0] - 40 * STEP
    place = int(np.searchsorted(BARS.open_ms, at))
    entries.insert(-1, (at, -1, float(BARS.open[place])))

    found = compare(CONFIG, trades(tmp_path / "t.csv", sorted(entries)), klines=um)

    row = found.report["trades"]
    assert [one["at_ms"] for one in row["only_theirs_listed"]] == [at]
    assert [one["at_ms"] for one in row["only_ours_listed"]] == [dropped[0] - STEP]
    assert row["matched"] == len(signals) - 1


def test_prices_of_no_symbol_are_missing_data(tmp_path, um, signals):
    entries = [(at, side, 0.5) for at, side, _ in next_open(signals)]

    with pytest.raises(DataMissing, match="lie in no bar"):
        compare(CONFIG, trades(tmp_path / "t.csv", entries), klines=um)


def test_a_list_of_trades_needs_klines(tmp_path, capsys, signals):
    with pytest.raises(SystemExit) as ended:
        main(["compare", str(trades(tmp_path / "t.csv", next_open(signals)))])

    assert ended.value.code == 3
    assert "name klines of its time with --klines" in capsys.readouterr().err
    assert Side.LONG.sign == 1
