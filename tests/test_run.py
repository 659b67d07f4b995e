"""The whole path: embedded exchange, real client, engine, journal; deterministic, replayable, and killed without harm."""

import asyncio
import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from contextlib import AsyncExitStack, contextmanager

import numpy as np
import pytest

from bot.app import venues
from bot.app.credentials import Credentials
from bot.app.options import RunOptions
from bot.app.run import Bot
from bot.backtest.market import find_start, load_market
from bot.config import Config, parse
from bot.core.records import TradeRecord
from bot.core.times import HOUR_MS
from bot.engine import Engine
from bot.engine import view as engine_view
from bot.journal import Journal
from bot.market.synthetic import write_market
from bot.report.ledger import FOLDER, LedgerBook
from bot.strategy.features import Features
from bot.strategy.kernel import COLUMNS
from tests.conftest import ROOT
from tests.kill import books
from tests.sim_tools import close_client, endpoints

pytestmark = [pytest.mark.wire, pytest.mark.slow]


@pytest.fixture(scope="module")
def market(tmp_path_factory):
    """A synthetic market on disk, and where its first signal is."""
    folder = tmp_path_factory.mktemp("market")
    write_market(folder, 15, 11)
    config = Config()
    start = find_start(config, load_market(config, folder), from_ms=None, to_ms=None)
    assert start.signal_ms, "the market of the tests needs a signal: choose another seed"
    return folder, start


async def play(config, options, path):
    """Run the bot over a replay; return its report, the journal's content and the engine's state."""
    async with AsyncExitStack() as stack:
        journal = stack.enter_context(Journal(path / "bot.db"))
        venue = await venues.sim(config, options, stack)
        bot = Bot(config, options, venue, journal)
        stack.push_async_callback(bot.close)
        await bot.start()
        code = await bot.run(stack)
        events = list(journal.events(bot.session.id))
        intents = list(journal.intents(bot.session.id))
        return code, bot.report(), events, intents, engine_view.digest(bot.engine), bot.loop


def options_for(market, **more):
    folder, start = market
    return RunOptions(
        venue="sim",
        klines=folder,
        from_ms=start.from_ms,
        to_ms=start.signal_ms + 2 * HOUR_MS,
        once=True,
        dashboard=False,
        json=True,
        **more,
    )


@pytest.fixture(scope="module")
def session(market, tmp_path_factory):
    return asyncio.run(play(Config(), options_for(market), tmp_path_factory.mktemp("data")))


def test_a_replay_trades_the_signal_that_it_was_started_for(session, market):
    code, report, *_ = session

    assert code == 0
    assert report["summary"]["signals"] >= 1
    assert report["summary"]["trades"] >= 1
    first = report["trades"][0]
    assert first["fills"]


def test_a_new_session_does_not_judge_by_the_book_of_a_journal_that_is_gone(market, tmp_path, monkeypatch):
    monkeypatch.setenv("BOT_DATA", str(tmp_path))
    start, book = market[1], LedgerBook(tmp_path / FOLDER / "1-BTCUSDT.rows")
    book.open()
    for open_ms in range(start.from_ms, start.signal_ms, 180_000):
        book.add(open_ms, np.zeros(len(COLUMNS)))
    book.close()

    code, report, *_ = asyncio.run(play(Config(), options_for(market), tmp_path))

    assert code == 0
    assert report["summary"]["trades"] >= 1


def test_two_replays_give_the_same_trades_to_the_cent(session, market, tmp_path):
    again = asyncio.run(play(Config(), options_for(market), tmp_path))

    assert again[1]["trades"] == session[1]["trades"]
    assert again[2] == session[2]  # every event, at the same exchange time
    assert again[4] == session[4]


def test_a_paced_replay_gives_the_same_trades(session, market, tmp_path):
    paced = asyncio.run(play(Config(), options_for(market, speed=2_000.0), tmp_path))

    assert paced[1]["trades"] == session[1]["trades"]


def test_the_journal_replays_to_the_same_state_and_the_same_intents(session):
    _, _, events, intents, state, _ = session
    engine = Engine(Config(), Features(Config()), venue="sim")
    wanted = {}

    for seq, event in events:
        outputs = [o for o in engine.handle(event) if type(o).__name__ in INTENTS]
        if outputs:
            wanted[seq] = outputs

    assert engine_view.digest(engine) == state
    found = {}
    for seq, intent in intents:
        found.setdefault(seq, []).append(intent)
    assert found == wanted


INTENTS = ("PlaceOrder", "CancelOrder", "SetTimer", "CancelTimer", "SetLeverage", "RequestSnapshot", "Alert")


def test_the_exchanges_15m_bars_equal_ours(session):
    loop = session[5]

    assert loop.cross_checked > 0
    assert loop.cross_mismatches == 0


def test_results_add_up_to_the_change_of_equity(session):
    report = session[1]["summary"]
    trades = session[1]["trades"]

    change = report["final_equity"] - report["initial_equity"]

    assert sum(trade["pnl"] for trade in trades) == pytest.approx(change, abs=0.01)


def test_no_position_was_without_a_stop_for_longer_than_the_limit(session):
    assert session[1]["summary"]["naked_ms_max"] <= 1_500


def test_limits_on_our_own_latency_are_wall_time_against_a_faster_replay():
    venue = venues.TradingVenue(
        "testnet", "", "", Credentials(""), "", clock=None, activity=None, resume=True, speed=60.0
    )

    scaled = venue.in_wall_time(Config())

    assert scaled.trade.naked_limit_ms == 90_000
    assert scaled.trade.timeout_minutes == Config().trade.timeout_minutes
    assert scaled.entry.maker_timeout_ms == Config().entry.maker_timeout_ms


def test_an_exchange_that_does_not_answer_is_one_sentence(tmp_path):
    env = {**os.environ, "BOT_DATA": str(tmp_path), "BINANCE_API_KEY": "k", "BINANCE_API_SECRET": "s"}
    address = f"http://127.0.0.1:{_free_port()}"
    arguments = ["run", "--venue", "testnet", "--no-dashboard", "--set", f"venue.testnet.rest_url={address}"]

    done = subprocess.run(
        [sys.executable, "-m", "bot", *arguments], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )

    assert done.returncode == 1
    assert f"bot: no exchange answers at {address}" in done.stderr
    assert "Traceback" not in done.stderr


def _free_port():
    import socket

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def _state(port):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}/sim/state", timeout=10) as reply:
        return json.loads(reply.read())


def _until(condition, seconds, what, *, every=0.2):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(every)
    raise AssertionError(f"{what} did not happen within {seconds} s")


def _protection(state, symbol):
    live = [a for a in state["algo_orders"] if a["symbol"] == symbol and a["algoStatus"] == "NEW"]
    sized = [a for a in live if a["closePosition"] in (False, "false")]
    far = [a for a in live if a["closePosition"] in (True, "true")]
    return sized, far


@contextmanager
def launched(market, tmp_path, speed, *, lead_minutes=15):
    """An exchange of its own that begins `lead_minutes` before the signal, and what launches a bot against it.

    The lead over the speed is the wall time in which the bot has to be up; a failure prints the logs.
    """
    folder, start = market
    port = _free_port()
    env = {**os.environ, "BOT_DATA": str(tmp_path), "BINANCE_API_KEY": "sim-key", "BINANCE_API_SECRET": "sim-secret"}
    lead = start.signal_ms + 180_000 - lead_minutes * 60_000
    serve = ["exchange", "--port", str(port), "--klines", str(folder), "--from", str(lead), "--speed", str(speed)]
    trade = ["run", "--venue", "testnet", "--no-dashboard"]
    for key, scheme in (("rest_url", "http"), ("stream_url", "ws")):
        trade += ["--set", f"venue.testnet.{key}={scheme}://127.0.0.1:{port}"]
    processes = []

    def launch(arguments, log):
        # `cat` writes, so that a limit on the files of the bot is none on what it says.
        with (tmp_path / log).open("w") as file:
            copier = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=file)
        command = [sys.executable, "-m", "bot", *arguments]
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=copier.stdin, stderr=subprocess.STDOUT)
        copier.stdin.close()
        processes.extend((process, copier))
        return process

    try:
        launch(serve, "exchange.log")
        _until(lambda: _answers(port), 30, "the exchange answering")
        yield port, lambda log: launch(trade, log)
    except AssertionError:
        for log in sorted(tmp_path.glob("*.log")):
            print(f"--- {log.name}", log.read_text(), sep="\n")
        raise
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _full_disk(bot, full):
    """Let no file of this process alone grow, as on a full disk; or let them grow again."""
    hard = resource.prlimit(bot.pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(bot.pid, resource.RLIMIT_FSIZE, (4_096 if full else hard, hard))


@pytest.mark.nightly  # a minute and more of the wall
def test_a_disk_that_is_full_for_a_while_in_an_entry_costs_nothing_bare_and_nothing_of_the_record(market, tmp_path):
    with launched(market, tmp_path, 10) as (port, launch):
        bot = launch("bot.log")
        said = lambda: (tmp_path / "bot.log").read_text()  # noqa: E731
        _until(lambda: "  signal " in said(), 300, "an entry", every=0.005)
        _full_disk(bot, full=True)
        _until(lambda: "entries rest, stops and exits go on" in said(), 30, "the person being told")
        time.sleep(8)
        assert bot.poll() is None
        state = _state(port)
        _full_disk(bot, full=False)
        _until(lambda: "the journal is written again" in said(), 20, "the record")
        bot.send_signal(signal.SIGTERM)
        code = bot.wait(60)
        left = _state(port)

    assert books.unprotected(state, exact=False) == books.unprotected(left, exact=False) == []
    assert code == 0
    with Journal(tmp_path / "bot.db", read_only=True) as journal:
        seqs = [seq for seq, _ in journal.events(1)]
        kinds = {type(event).__name__ for _, event in journal.events(1)}
    assert seqs == list(range(1, len(seqs) + 1))
    assert "FeedRestored" in kinds


@pytest.mark.nightly  # a minute and more of the wall
def test_a_disk_that_stays_full_ends_in_leaving_with_the_exchanges_own_state(market, tmp_path):
    with launched(market, tmp_path, 10) as (port, launch):
        bot = launch("bot.log")
        _until(lambda: "  signal " in (tmp_path / "bot.log").read_text(), 300, "an entry", every=0.005)
        _full_disk(bot, full=True)
        began = time.monotonic()
        code = bot.wait(150)
        took = time.monotonic() - began
        state = _state(port)
        log = (tmp_path / "bot.log").read_text()

    assert code == 1
    assert took > 55
    assert books.unprotected(state, exact=False) == []
    last = log.strip().splitlines()[-1]
    held = {p["symbol"] for p in state["positions"] if float(p["positionAmt"])}
    assert last.startswith("bot: stopped: the journal")
    assert ("still open at testnet" in last) if held else ("testnet is flat" in last)
    assert all(symbol in last for symbol in held)
    assert "the bot stops" in log


async def _close_by_hand(port):
    """Close BTC with another client of the account."""
    client = endpoints(port)[0]("sim-key", "sim-secret")
    try:
        for p in await client.futures_position_information(symbol="BTCUSDT"):
            side = "SELL" if float(p["positionAmt"]) > 0 else "BUY"
            qty = p["positionAmt"].lstrip("-")
            await client.futures_create_order(
                symbol="BTCUSDT", side=side, type="MARKET", quantity=qty, reduceOnly="true"
            )
    finally:
        await close_client(client)


def test_a_locked_journal_in_a_trade_stops_neither_exits_nor_record(market, tmp_path):
    with launched(market, tmp_path, 10) as (port, launch):
        bot = launch("bot.log")
        said = lambda: (tmp_path / "bot.log").read_text()  # noqa: E731

        def held():
            return [p for p in _state(port)["positions"] if float(p["positionAmt"])]

        _until(held, 300, "a position")
        time.sleep(2)
        other = sqlite3.connect(tmp_path / "bot.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        _until(lambda: "another program holds it" in said(), 60, "the person being told")
        asyncio.run(_close_by_hand(port))  # another program on the account: the legs have to be taken out by the bot
        _until(lambda: not held(), 30, "the way out of the rest")
        other.execute("COMMIT")
        other.close()
        _until(lambda: "the journal is written again" in said(), 20, "the record")
        bot.send_signal(signal.SIGTERM)
        code = bot.wait(60)

    assert code == 0
    assert "testnet is flat" in said()
    with Journal(tmp_path / "bot.db", read_only=True) as journal:
        assert len([t for t in journal.trades() if t.opened_ms]) == 1


def test_a_killed_bot_comes_back_to_one_position_and_one_set_of_orders(market, tmp_path):
    # A minute for the start: with half of it a loaded machine was late for the signal.
    with launched(market, tmp_path, 30, lead_minutes=30) as (port, launch):

        def position():
            return [p for p in _state(port)["positions"] if p["symbol"] == "BTCUSDT" and float(p["positionAmt"])]

        def protected():
            state = _state(port)
            held = [p for p in state["positions"] if p["symbol"] == "BTCUSDT" and float(p["positionAmt"])]
            sized, far = _protection(state, "BTCUSDT")
            return state if held and len(sized) == 1 and len(far) == 1 else None

        bot = launch("first.log")
        _until(protected, 120, "a protected position")
        bot.send_signal(signal.SIGKILL)
        bot.wait()
        before = _state(port)

        launch("second.log")
        _until(lambda: "resumed session" in (tmp_path / "second.log").read_text(), 60, "the journal resuming")
        after = _until(protected, 60, "the resumed position protected by one sized and one catastrophe stop")

        assert (
            position()[0]["positionAmt"]
            == next(p for p in before["positions"] if p["symbol"] == "BTCUSDT")["positionAmt"]
        )
        sized, _ = _protection(after, "BTCUSDT")
        assert abs(float(position()[0]["positionAmt"])) == float(sized[0]["quantity"])
        ids = [o["clientOrderId"] for o in after["orders"]]
        assert len(ids) == len(set(ids))
        entries = [o for o in after["orders"] if "-en-" in o["clientOrderId"] or "-io-" in o["clientOrderId"]]
        assert all(o["status"] != "NEW" for o in entries)

        # and the trade goes on to its end (the 30-minute exit at the latest: a minute of wall time at 30x)
        _until(lambda: not position(), 240, "the end of the trade")
        _until(lambda: not [a for a in _state(port)["algo_orders"] if a["algoStatus"] == "NEW"], 20, "stops gone")
        with Journal(tmp_path / "bot.db", read_only=True) as journal:
            trades = _until(lambda: [t for t in journal.trades() if t.opened_ms], 20, "the trade on record")
        assert len(trades) == 1
        assert isinstance(trades[0], TradeRecord)


def _answers(port):
    try:
        return _state(port)
    except OSError:
        return None


def test_the_headline_profile_runs(market, tmp_path):
    config = parse((ROOT / "config.toml").read_text(), profile="headline")
    folder, start = market
    options = RunOptions(
        venue="sim",
        klines=folder,
        from_ms=start.from_ms,
        to_ms=start.from_ms + HOUR_MS,
        once=True,
        dashboard=False,
        json=True,
    )

    code, report, *_ = asyncio.run(play(config, options, tmp_path))

    assert code == 0
    assert report["summary"]["bars"] == 20


def test_json_report_of_the_command_line(market, tmp_path):
    folder, start = market
    env = {**os.environ, "BOT_DATA": str(tmp_path)}
    arguments = ["run", "--klines", folder, "--from", start.from_ms, "--to", start.from_ms + HOUR_MS, "--speed", "max"]

    done = subprocess.run(
        [sys.executable, "-m", "bot", *map(str, arguments), "--once", "--json", "--no-dashboard"],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )

    report = json.loads(done.stdout)
    assert set(report) == {"summary", "trades"}
    assert report["summary"]["claims"]
    assert report["summary"]["decision_ms"] > 0
    assert report["summary"]["slippage"] is not None
