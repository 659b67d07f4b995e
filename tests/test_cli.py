"""The operator's commands: help, exit codes, and one sentence for every mistake."""

import json
import socket

import click
import numpy as np
import pandas as pd
import pytest

from bot.cli import cli, main
from tests.conftest import ROOT


def run(capsys, *arguments):
    """Run a command line in this process; return exit code, standard output and standard error."""
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    code = ended.value.code
    return (0 if code is None else code), out, err


def commands(group=cli, prefix=""):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


@pytest.mark.parametrize(("name", "command"), list(commands()))
def test_every_command_has_help_and_a_place_in_the_readme(name, command):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")

    assert command.help
    assert f"| `{name}` |" in readme
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


def bars(count=400, start=1_672_531_200_000, step=180_000):
    rng = np.random.default_rng(3)
    close = 20_000 + rng.normal(0, 20, count).cumsum()
    open_ = np.r_[close[0], close[:-1]]
    return pd.DataFrame(
        {
            "open_time": start + np.arange(count) * step,
            "open": open_,
            "high": np.maximum(open_, close) + 5,
            "low": np.minimum(open_, close) - 5,
            "close": close,
            "volume": rng.uniform(1, 9, count),
        }
    )


@pytest.fixture
def klines(tmp_path):
    folder = tmp_path / "klines"
    folder.mkdir()
    bars().to_parquet(folder / "BTCUSDT-3m.parquet")
    return folder


def test_global_options_stand_before_and_after_the_command(capsys):
    before = run(capsys, "--set", "risk.stage=full", "--json", "show-config")
    after = run(capsys, "show-config", "--json", "--set", "risk.stage=full")

    assert before == after
    assert json.loads(before[1])["risk"]["stage"] == "full"


def test_signals_writes_parquet_and_csv_alike(capsys, klines, tmp_path):
    code, out, _ = run(capsys, "signals", "--klines", klines, "--out", tmp_path / "a.parquet")
    run(capsys, "signals", "--klines", klines / "BTCUSDT-3m.parquet", "--out", tmp_path / "a.csv")

    parquet = pd.read_parquet(tmp_path / "a.parquet")
    csv = pd.read_csv(tmp_path / "a.csv")
    assert code == 0
    assert "400 bars" in out
    pd.testing.assert_frame_equal(parquet, csv, check_dtype=False, rtol=1e-12)
    assert (parquet["close_time"] == parquet["open_time"] + 179_999).all()


def test_signals_of_a_range_are_rows_of_the_whole(capsys, klines, tmp_path):
    run(capsys, "signals", "--klines", klines, "--out", tmp_path / "all.parquet")
    run(capsys, "signals", "--klines", klines, "--out", tmp_path / "part.parquet", "--from", "2023-01-01T05:00")

    whole = pd.read_parquet(tmp_path / "all.parquet")
    part = pd.read_parquet(tmp_path / "part.parquet")
    pd.testing.assert_frame_equal(whole[whole.open_time >= part.open_time[0]].reset_index(drop=True), part)


def test_signals_on_15m_carry_the_indicators_alone(capsys, klines, tmp_path):
    run(capsys, "signals", "--klines", klines, "--interval", "15m", "--out", tmp_path / "a.parquet")

    table = pd.read_parquet(tmp_path / "a.parquet")
    assert len(table) == 80
    assert "smc_internal_trend" in table
    assert "long_signal" not in table
    assert "htf_smc_trend" not in table


def _truncate(path):
    path.write_bytes(path.read_bytes()[:200])


def _rewrite(change):
    def apply(path):
        table = bars()
        change(table)
        table.to_parquet(path)

    return apply


def _high_below_low(table):
    table.loc[7, "high"] = table.loc[7, "low"] - 1


def _unsorted(table):
    table.loc[9, "open_time"], table.loc[10, "open_time"] = table.loc[10, "open_time"], table.loc[9, "open_time"]


def _twice(table):
    table.loc[5, "open_time"] = table.loc[4, "open_time"]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_truncate, ["BTCUSDT-3m.parquet", "cannot be read"]),
        (_rewrite(_high_below_low), ["BTCUSDT-3m.parquet", "row 8", "high"]),
        (_rewrite(_unsorted), ["BTCUSDT-3m.parquet", "row 11", "unsorted"]),
        (_rewrite(_twice), ["BTCUSDT-3m.parquet", "row 6", "duplicate"]),
    ],
)
def test_a_spoilt_kline_file_gets_one_sentence_and_leaves_nothing(capsys, klines, tmp_path, spoil, words):
    spoil(klines / "BTCUSDT-3m.parquet")

    code, out, err = run(capsys, "signals", "--klines", klines, "--out", tmp_path / "a.parquet")
    check_code, check_out, _ = run(capsys, "data", "check", klines)

    assert code == 1
    assert out == ""
    assert err.count("\n") == 1
    for word in words:
        assert word in err
    assert not (tmp_path / "a.parquet").exists()
    assert check_code == 1
    assert "BTCUSDT-3m.parquet" in check_out


def test_a_gap_is_a_finding_and_is_filled(capsys, klines, tmp_path):
    table = bars().drop(index=range(100, 104))
    table.to_parquet(klines / "BTCUSDT-3m.parquet")

    check_code, check_out, _ = run(capsys, "data", "check", klines)
    code, _, _ = run(capsys, "signals", "--klines", klines, "--out", tmp_path / "a.parquet")

    assert check_code == 1
    assert "gap" in check_out
    assert code == 0
    assert pd.read_parquet(tmp_path / "a.parquet")["filled"].sum() == 4


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (("data", "check", "{tmp}/nothing"), 3, "nothing"),
        (("signals", "--klines", "{tmp}/nothing", "--out", "{tmp}/a.csv"), 3, "does not exist"),
        (("signals", "--klines", "{klines}", "--out", "{tmp}/a.xls"), 2, ".parquet or .csv"),
        (("signals", "--klines", "{klines}", "--out", "{tmp}/no/a.csv"), 2, "does not exist"),
        (("signals", "--klines", "{klines}", "--out", "{tmp}/a.csv", "--from", "2030-01-01"), 3, "no bar"),
        (("signals", "--klines", "{klines}", "--out", "{tmp}/a.csv", "--from", "yesterday"), 2, "yesterday"),
        (("signals", "--klines", "{klines}", "--out", "{tmp}/a.csv", "--symbol", "XRPUSDT"), 3, "XRPUSDT"),
        (("backtest", "--klines", "{tmp}/nothing", "--from", "yesterday"), 2, "--from: 'yesterday'"),
        (("download", "--to", "2023-02-30"), 2, "--to: 2023-02-30"),
        (("run", "--klines", "{tmp}/nothing"), 3, "nothing"),
        (("run", "--speed", "fast"), 2, "fast"),
        (("run", "--venue", "testnet"), 2, "BINANCE_API_KEY"),
        (("run", "--venue", "testnet", "--once"), 2, "--venue sim"),
        (("run", "--config", "{tmp}/none.toml"), 2, "none.toml"),
        (("run", "--set", "risk.risk_fractoin=0.1"), 2, "risk_fraction"),
        (("run", "--profile", "headlin"), 2, "'headline'"),
        (("exchange", "--speed", "max"), 2, "at most 60"),
        (("exchange", "--speed", "61"), 2, "at most 60"),
        (("sinals",), 2, "sinals"),
    ],
)
def test_mistakes_get_one_sentence_and_the_right_exit_code(
    capsys, klines, tmp_path, monkeypatch, arguments, code, word
):
    monkeypatch.setenv("BOT_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("BINANCE_API_KEY", raising=False)
    words = [a.format(tmp=tmp_path, klines=klines) for a in arguments]

    got, out, err = run(capsys, *words)

    assert got == code, err
    assert word in err
    assert len([line for line in err.splitlines() if line.startswith("bot: ")]) == 1
    assert "Traceback" not in out + err


def test_a_port_in_use_is_named(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("BOT_DATA", str(tmp_path / "data"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        code, _, err = run(capsys, "exchange", "--port", port, "--set", "sim.synthetic_days=15")

    assert code == 1
    assert str(port) in err
    assert "in use" in err


def test_synth_writes_files_that_check_clean(capsys, tmp_path):
    code, _, _ = run(capsys, "synth", "--out", tmp_path / "s", "--days", "2", "--seed", "5")
    checked, out, _ = run(capsys, "data", "check", tmp_path / "s")

    assert code == 0
    assert checked == 0, out
    assert (tmp_path / "s" / "SOLUSDT-15m.parquet").is_file()
    assert (tmp_path / "s" / "BTCUSDT-funding.parquet").is_file()
