"""Settings that need taker volume never go by in silence on klines without it."""

from pathlib import Path

import numpy as np
import pytest

from bot.backtest.market import load_market
from bot.backtest.taker import check_taker
from bot.cli import main
from bot.config import parse
from bot.core.errors import ConfigError
from bot.market import store
from bot.search.controls import with_values
from tests.builders import klines

SPLIT = {"pac.split": "taker"}
GATE = {"strategy.gates.taker_confirm": True}


def bars(taker, symbol="BTCUSDT", count=200):
    closes = 100.0 + np.sin(np.arange(float(count)))
    return klines(closes, symbol=symbol, volume=np.full(count, 10.0), taker_buy_volume=np.resize(taker, count))


def config(changes):
    return with_values(parse(""), changes)


@pytest.mark.parametrize("taker", [[np.nan], [0.0]], ids=["NaN", "0"])
@pytest.mark.parametrize("changes", [SPLIT, GATE, {"strategy.gates.taker_side": True}])
def test_a_setting_that_needs_taker_volume_is_refused_on_klines_without_it(taker, changes):
    with pytest.raises(ConfigError) as refused:
        check_taker(config(changes), [(bars(taker), "BTCUSDT-3m.parquet")])

    sentence = str(refused.value)
    assert next(iter(changes)) in sentence
    assert "BTCUSDT-3m.parquet has none" in sentence
    assert "python -m bot download" in sentence
    assert refused.value.exit_code == 2


def test_all_settings_that_need_it_stand_in_one_sentence():
    with pytest.raises(ConfigError, match=r'^pac.split = "taker" and strategy.gates.taker_confirm need taker volume'):
        check_taker(config(SPLIT | GATE), [(bars([np.nan]), "a file")])


@pytest.mark.parametrize("changes", [{}, SPLIT, GATE])
def test_klines_with_taker_volume_and_settings_that_do_not_read_it_pass(changes):
    assert check_taker(config(changes), [(bars([4.0, 6.0]), "a file")]) == []
    assert check_taker(config({}), [(bars([np.nan]), "a file")]) == []


def test_a_part_without_it_is_warned_of_with_its_size_and_single_bars_are_not():
    assert check_taker(config(SPLIT), [(bars([5.0] * 199 + [0.0]), "a file")]) == []

    (warning,) = check_taker(config(SPLIT), [(bars([5.0, np.nan]), "a file")])

    assert 'pac.split = "taker" needs taker volume, and a file lacks it on 100 bars of 200 of BTCUSDT 3m' in warning


def test_gates_concern_the_traded_symbol_alone_the_split_every_symbol():
    both = [(bars([5.0]), "first"), (bars([np.nan], "ETHUSDT"), "second")]

    assert check_taker(config(GATE), both) == []
    with pytest.raises(ConfigError, match="second has none for ETHUSDT 3m"):
        check_taker(config(SPLIT), both)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT"):
        store.write(tmp_path / "klines", bars([np.nan], symbol))
    return tmp_path / "klines"


def test_a_folder_of_klines_is_refused_with_the_file_that_lacks_it(folder):
    assert load_market(config({}), folder).base("BTCUSDT").volume[0] == 10.0

    with pytest.raises(ConfigError, match=r"BTCUSDT-3m\.parquet has none"):
        load_market(config(GATE), folder)


@pytest.mark.parametrize(
    "command",
    [
        ["backtest"],
        ["signals", "--out", "OUT"],
        ["optimise", "--trials", "1"],
        ["walkforward", "--trials", "1"],
        ["run", "--venue", "sim"],
    ],
    ids=lambda words: words[0],
)
def test_every_command_that_decides_on_klines_refuses(command, folder, monkeypatch, capsys):
    monkeypatch.setenv("BOT_DATA", str(folder.parent / "bot"))
    words = [str(folder.parent / "out.parquet") if word == "OUT" else word for word in command]

    with pytest.raises(SystemExit) as ended:
        main([*words, "--klines", str(folder), "--set", "pac.split=taker", "--quiet"])

    assert ended.value.code == 2
    assert 'pac.split = "taker" needs taker volume' in capsys.readouterr().err
    assert not (folder.parent / "out.parquet").exists()
