"""The whole path: embedded exchange, real client, engine, journal; deterministic, replayable, and killed without harm."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import AsyncExitStack

import pytest

from bot.app import venues
from bot.app.options import RunOptions
from bot.app.run import Bot
from bot.config import Config, parse
from bot.core.records import TradeRecord
from bot.engine import Engine
from bot.journal import Journal
from bot.market.synthetic import write_market
from bot.research.replay import find_start, load_market
from bot.strategy.features import Features
from tests.conftest import ROOT

pytestmark = [pytest.mark.wire, pytest.mark.slow]
HOUR_MS = 3_600_000


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
        return code, bot.report(), events, intents, bot.engine.state_hash(), bot.loop


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

    assert engine.state_hash() == state
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
    venue = venues.Venue("testnet", "", "", "", "", "", clock=None, activity=None, resume=True, speed=60.0)

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


def _until(condition, seconds, what):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.2)
    raise AssertionError(f"{what} did not happen within {seconds} s")


def _protection(state, symbol):
    live = [a for a in state["algo_orders"] if a["symbol"] == symbol and a["algoStatus"] == "NEW"]
    sized = [a for a in live if a["closePosition"] in (False, "false")]
    far = [a for a in live if a["closePosition"] in (True, "true")]
    return sized, far


def test_a_killed_bot_comes_back_to_one_position_and_one_set_of_orders(market, tmp_path):
    folder, start = market
    port = _free_port()
    env = {**os.environ, "BOT_DATA": str(tmp_path), "BINANCE_API_KEY": "sim-key", "BINANCE_API_SECRET": "sim-secret"}
    lead = start.signal_ms + 180_000 - 15 * 60_000
    serve = ["exchange", "--port", str(port), "--klines", str(folder), "--from", str(lead), "--speed", "30"]
    trade = ["run", "--venue", "testnet", "--no-dashboard"]
    for key, scheme in (("rest_url", "http"), ("stream_url", "ws")):
        trade += ["--set", f"venue.testnet.{key}={scheme}://127.0.0.1:{port}"]
    processes = []

    def launch(arguments, log):
        with (tmp_path / log).open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "bot", *arguments], cwd=ROOT, env=env, stdout=file, stderr=file
            )
        processes.append(process)
        return process

    def position():
        return [p for p in _state(port)["positions"] if p["symbol"] == "BTCUSDT" and float(p["positionAmt"])]

    def protected():
        state = _state(port)
        held = [p for p in state["positions"] if p["symbol"] == "BTCUSDT" and float(p["positionAmt"])]
        sized, far = _protection(state, "BTCUSDT")
        return state if held and len(sized) == 1 and len(far) == 1 else None

    try:
        launch(serve, "exchange.log")
        _until(lambda: _answers(port), 30, "the exchange answering")
        bot = launch(trade, "first.log")
        _until(protected, 120, "a protected position")
        bot.send_signal(signal.SIGKILL)
        bot.wait()
        before = _state(port)

        launch(trade, "second.log")
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
    finally:
        for process in processes:
            process.kill()
            process.wait()


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
