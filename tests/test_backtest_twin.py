"""The twin: the same days through REST and websockets on the embedded exchange, and through the back-test.

Both read the same klines with the same engine, so conditions, signals and plan prices agree on every bar. Fills do not:
one exchange has ticks and a book, the other bars and assumptions. Vetoes and quantities agree until the first fill that
differs. The session's journal, replayed, reproduces the session exactly.
"""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from bot.backtest.data import candidates_open_ms, prepare
from bot.backtest.journal import replay_journal
from bot.backtest.market import load_market
from bot.backtest.run import run_backtest
from bot.cli.main import cli
from bot.config import Config, parse
from bot.core.klines import aggregate
from bot.core.times import HOUR_MS
from bot.journal import Journal
from bot.market import store
from bot.market.funding import write_funding
from bot.market.store import format_time, parse_time
from bot.market.synthetic import synthetic_market
from tests.conftest import ROOT

pytestmark = pytest.mark.wire
BASE_MS = 180_000
EASY = ("strategy.htf_source=smc", "strategy.min_rating=1", "strategy.tap_window=12", "strategy.min_rank=0")
PLAN = ("entry", "stop", "tp1", "tp2", "catastrophe")


def live(klines: Path, data: Path, *, begin: str, end: str, settings: tuple[str, ...] = ()) -> int:
    """Run the bot on the embedded exchange and return its journal's session."""
    words = ["run", "--venue", "sim", "--klines", str(klines), "--from", begin, "--to", end, "--speed", "max", "--once"]
    words += ["--json", "--no-dashboard", *(w for o in settings for w in ("--set", o))]
    done = subprocess.run(
        [sys.executable, "-m", "bot", *words],
        cwd=ROOT,
        env={**os.environ, "BOT_DATA": str(data)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    with Journal(data / "bot.db", read_only=True) as journal:
        return int(journal.sessions()[-1]["id"])


def compare(
    klines: Path, data: Path, session: int, *, begin: str, end: str, settings: tuple[str, ...] = ()
) -> dict[str, int]:
    """Hold the session's decisions against the back-test's; return what was compared."""
    config = parse("", overrides=("risk.stage=full", *settings))
    market = load_market(config, klines)
    result = run_backtest(config, market, from_ms=parse_time(begin), to_ms=parse_time(end))
    with Journal(data / "bot.db", read_only=True) as journal:
        decisions = list(journal.decisions(session))
        trades = [t for t in journal.trades(session) if t.fills]
    grid = result.grid
    ours = {d.open_ms: d for d in result.decisions}
    first_live = min((f.at_ms for t in trades for f in t.fills), default=2**62)
    first_ours = min((f.at_ms for t in result.trades for f in t.record.fills), default=2**62)
    bars = signals = alike = 0
    place = {int(ms): i for i, ms in enumerate(grid.open_ms)}
    for decision in decisions:
        i = place[decision.open_ms]
        assert sum(1 << k for k, on in enumerate(decision.long) if on) == grid.long[i], decision
        assert sum(1 << k for k, on in enumerate(decision.short) if on) == grid.short[i], decision
        assert decision.signal == grid.signal[i], decision
        bars += 1
        if not decision.signal:
            continue
        signals += 1
        twin = ours[decision.open_ms]
        for name in PLAN:
            assert decision.values.get(name) == twin.values.get(name), (name, decision, twin)
        if decision.at_ms < min(first_live, first_ours):
            assert decision.code == twin.code
            assert decision.values.get("qty") == twin.values.get("qty")
            alike += 1
    assert bars == len(grid)
    return {"bars": bars, "signals": signals, "alike": alike, "trades": len(trades), "ours": len(result.trades)}


@pytest.fixture(scope="module")
def day(tmp_path_factory):
    """A synthetic market as files, and the settings under which it signals often enough."""
    folder = tmp_path_factory.mktemp("twin")
    made = synthetic_market(16, 11)
    for symbol, minutes in made.klines.items():
        store.write(folder, aggregate(minutes, BASE_MS))
        store.write(folder, minutes)
        write_funding(folder, made.funding[symbol])
    config = parse("", overrides=EASY)
    opens = candidates_open_ms(prepare(config, load_market(config, folder)))
    signal = next(ms for ms in opens if ms >= made.klines["BTCUSDT"].open_ms[0] + 5_100 * BASE_MS)
    begin = signal - signal % HOUR_MS - HOUR_MS
    return folder, format_time(begin)[:19], format_time(begin + 8 * HOUR_MS)[:19]


@pytest.fixture(scope="module")
def session(day, tmp_path_factory):
    folder, begin, end = day
    data = tmp_path_factory.mktemp("data")
    return data, live(folder, data, begin=begin, end=end, settings=EASY)


def test_hours_on_the_exchange_and_in_the_back_test_decide_alike(day, session):
    folder, begin, end = day
    data, number = session

    found = compare(folder, data, number, begin=begin, end=end, settings=EASY)

    assert found["bars"] == 160
    assert found["alike"] >= 1


def test_a_session_is_reproduced_exactly_from_its_journal(session, monkeypatch):
    data, number = session

    done = CliRunner().invoke(cli, ["backtest", "--journal", str(data / "bot.db"), "--session", str(number), "--json",
                                    *(w for o in EASY for w in ("--set", o))])  # fmt: skip

    told = json.loads(done.stdout)
    assert done.exit_code == 0, told["differences"][:3]
    assert told["differences"] == []
    assert told["compared"]["decision"] == 160
    assert told["compared"]["intent"] > 20
    assert told["compared"]["trade"] >= 1


def test_a_journal_that_was_tampered_with_is_reported_as_a_bug(session, tmp_path):
    data, number = session
    shutil.copy(data / "bot.db", tmp_path / "bot.db")
    with sqlite3.connect(tmp_path / "bot.db") as connection:
        connection.execute(
            "UPDATE decisions SET body = replace(body, 'no_signal', 'entered') WHERE session = ?", (number,)
        )

    done = CliRunner().invoke(
        cli, ["backtest", "--journal", str(tmp_path / "bot.db"), *(w for o in EASY for w in ("--set", o))]
    )

    assert done.exit_code == 1
    assert "BUG:" in done.stdout
    assert "decision at" in done.stdout


@pytest.fixture
def killed(session, tmp_path):
    """The session's journal as a kill leaves it: an order on record and sent, what is only told of its event not yet."""
    data, number = session
    shutil.copy(data / "bot.db", tmp_path / "bot.db")
    with sqlite3.connect(tmp_path / "bot.db") as connection:
        (last,) = connection.execute(
            "SELECT max(seq) FROM intents JOIN equity USING (session, seq) WHERE session = ? AND type = 'PlaceOrder'",
            (number,),
        ).fetchone()
        for table in ("events", "intents"):
            connection.execute(f"DELETE FROM {table} WHERE session = ? AND seq > ?", (number, last))
        (at_ms,) = connection.execute(
            "SELECT at_ms FROM events WHERE session = ? AND seq = ?", (number, last)
        ).fetchone()
        connection.execute("DELETE FROM equity WHERE session = ? AND seq >= ?", (number, last))
        connection.execute("DELETE FROM decisions WHERE session = ? AND at_ms >= ?", (number, at_ms))
        connection.execute("DELETE FROM trades WHERE session = ? AND closed_ms >= ?", (number, at_ms))
        connection.execute("UPDATE sessions SET ended_ms = NULL WHERE id = ?", (number,))
    return tmp_path / "bot.db", number


def test_what_a_killed_bot_had_not_recorded_yet_is_one_line_and_no_difference(killed):
    path, number = killed

    report = replay_journal(Config(), path, session=number)

    assert report.differences == []
    (note,) = report.notes
    assert note.startswith("the bot was stopped between sending and recording: ")


def test_a_record_that_is_missing_before_a_kill_is_a_difference(killed):
    path, number = killed
    with sqlite3.connect(path) as connection:
        connection.execute(
            "DELETE FROM decisions WHERE session = ? AND open_ms = (SELECT min(open_ms) FROM decisions)", (number,)
        )

    report = replay_journal(Config(), path, session=number)

    assert [(d.kind, d.journal) for d in report.differences] == [("decision", "nothing")]


@pytest.mark.nightly
@pytest.mark.reference
@pytest.mark.timeout(3_600)
def test_a_week_of_real_klines_decides_alike(shared, tmp_path):
    spot = shared / "klines" / "spot"
    begin, end = "2023-01-09", "2023-01-16"

    number = live(spot, tmp_path, begin=begin, end=end)
    found = compare(spot, tmp_path, number, begin=begin, end=end)

    assert found["bars"] == 3_360
    assert found["signals"] >= 5
    assert found["alike"] >= 1
