"""Paper, test network and live: one code, addresses by configuration, and nothing real without saying so."""

import asyncio
import json
import os
import subprocess
import sys
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
import pytest

from bot.app import venues
from bot.app.account_lock import account_lock
from bot.app.connection import Addresses, connected
from bot.app.doctor import DoctorFailed, examine
from bot.app.options import RunOptions
from bot.app.paper import paper_exchange
from bot.app.run import Bot
from bot.core.errors import BotError, ConfigError
from bot.core.events import KlineClosed, SessionStarted
from bot.journal import Journal
from bot.sim import paper as paper_module
from bot.sim.filters import rules_for
from bot.sim.paper import LiveFunding
from bot.sim.upstream import rules_of
from tests.conftest import ROOT
from tests.places import SYMBOLS, place, set_keys
from tests.sim_tools import KEY

pytestmark = pytest.mark.wire


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    monkeypatch.setenv("BOT_DATA", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    set_keys(monkeypatch)
    return tmp_path


def options(venue: str, **more) -> RunOptions:
    return RunOptions(venue=venue, dashboard=False, quiet=True, json=True, **more)


@asynccontextmanager
async def paper_line(speed: float = 60.0):
    """Open a paper exchange on another embedded exchange in the place of the live one, and a line to it."""
    async with place(speed=speed) as live, AsyncExitStack() as stack:
        exchange, keys = await paper_exchange(live.config(), stack)
        at = Addresses(f"http://127.0.0.1:{exchange.port}", f"ws://127.0.0.1:{exchange.port}")
        line = await stack.enter_async_context(connected("paper", at, keys))
        await line.gateway.synchronise()
        await until(lambda: exchange.ticks > 8)
        yield live, exchange, line


async def until(condition, seconds: float = 15.0):
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 — what is waited for is another program's state
            await asyncio.sleep(0.05)


async def test_paper_tells_the_live_markets_data_to_the_digit():
    async with paper_line() as (live, exchange, line), aiohttp.ClientSession() as session:
        path = "/fapi/v1/klines?symbol=BTCUSDT&interval=3m&limit=50&endTime=1748750399999"
        answers = []
        for port in (live.port, exchange.port):
            async with session.get(f"http://127.0.0.1:{port}{path}") as reply:
                answers.append(await reply.json())
        socket = line.sockets.futures_multiplex_socket(["btcusdt@kline_3m", "btcusdt@markPrice@1s"], category="market")
        await socket.connect()
        frames = [await asyncio.wait_for(socket.recv(), 10) for _ in range(5)]
        await socket.close()

    assert answers[0] == answers[1]
    assert len(answers[0]) == 50
    assert {frame["data"]["s"] for frame in frames} == {"BTCUSDT"}


async def test_paper_orders_fill_at_the_live_markets_prices_and_never_reach_it():
    async with paper_line() as (live, exchange, line):
        quote = await line.gateway.quote("BTCUSDT")
        reply = await line.client.futures_create_order(
            symbol="BTCUSDT", side="BUY", type="MARKET", quantity="0.002", newOrderRespType="RESULT"
        )
        positions = await line.gateway.positions()
        theirs = live.exchange.state()

    assert reply["status"] == "FILLED"
    assert float(reply["avgPrice"]) == pytest.approx(float(quote.ask), rel=2e-3)
    assert [(p.symbol, str(p.qty)) for p in positions] == [("BTCUSDT", "0.002")]
    assert theirs["orders"] == []
    assert theirs["fills"] == []
    assert exchange.state()["fills"][0]["symbol"] == "BTCUSDT"


async def test_a_paper_stop_triggers_when_the_live_market_comes_to_it():
    async with paper_line(speed=60.0) as (_, exchange, line):
        await line.client.futures_create_order(
            symbol="BTCUSDT", side="BUY", type="MARKET", quantity="0.002", newOrderRespType="RESULT"
        )
        price = float((await line.gateway.quote("BTCUSDT")).bid)
        for name, side, level in (("down", "SELL", price * 0.9995), ("up", "BUY", price * 1.0005)):
            await line.client.futures_create_algo_order(
                symbol="BTCUSDT", side=side, type="STOP_MARKET", triggerPrice=f"{level:.1f}",
                quantity="0.002", clientAlgoId=name,
            )  # fmt: skip
        await until(lambda: any(a["algoStatus"] == "FINISHED" for a in exchange.state()["algo_orders"]), 30)
        fired = [a for a in exchange.state()["algo_orders"] if a["algoStatus"] == "FINISHED"]

    assert fired[0]["clientAlgoId"] in ("down", "up")


async def test_paper_refuses_orders_while_the_live_market_is_silent(monkeypatch):
    async with paper_line() as (live, exchange, line):
        await live.exchange.close()
        monkeypatch.setattr(paper_module, "STALE_S", 0.2)
        await asyncio.sleep(0.5)
        from bot.core.intents import PlaceOrder
        from bot.core.types import OrderSide, OrderType
        from bot.execution.outcomes import Rejected

        outcome = await line.gateway.place(
            PlaceOrder("x-1", "BTCUSDT", OrderSide.BUY, OrderType.MARKET, rules_for("BTCUSDT", 1.0).step * 2)
        )

    assert isinstance(outcome, Rejected)
    assert outcome.busy
    assert not exchange.is_fed


async def test_the_filters_of_paper_are_the_live_exchanges():
    async with paper_line() as (live, exchange, _):
        for symbol in SYMBOLS:
            told = rules_for(symbol, 1.0).exchange_info()

            assert rules_of(told, 1.0).exchange_info() == told
            assert exchange.venue.rules[symbol].exchange_info() == live.exchange.venue.rules[symbol].exchange_info()


def test_paper_pays_the_funding_that_was_announced_once():
    funding = LiveFunding()
    funding.announce(8_000, 0.0001)
    funding.announce(8_000, 0.0002)
    funding.announce(16_000, 0.0003)

    assert funding.at(7_999) is None
    assert funding.at(8_000) == 0.0002
    assert funding.at(8_000) is None
    assert funding.next(9_000) == (16_000, 0.0003)


async def test_doctor_examines_paper():
    async with place(speed=20.0) as live:
        report = await examine(live.config(), "paper", quiet=True)

    assert report.ok, report.failures()


async def run_for(config, run_options, seconds, path, *, seen):
    """Run the bot on a venue until `seen(bot)` holds; return its journal's events."""
    async with AsyncExitStack() as stack:
        journal = stack.enter_context(Journal(path / "bot.db"))
        venue = await venues.VENUES[run_options.venue](config, run_options, stack)
        bot = Bot(config, run_options, venue, journal)
        stack.push_async_callback(bot.close)
        await bot.start()
        pump = asyncio.create_task(bot.loop.run())
        venue.start()
        try:
            await until(lambda: seen(bot) or pump.done(), seconds)
        finally:
            bot.loop.stop()
            await asyncio.wait([pump], timeout=5)
        await pump
        return list(journal.events(bot.session.id)), bot, journal.sessions()


@pytest.mark.parametrize("venue", ["paper", "live", "testnet"])
async def test_the_same_bot_runs_on_every_venue(venue, tmp_path):
    async with place(speed=60.0) as real:
        config = real.config(data={"history_bars": 60})
        events, bot, sessions = await run_for(
            config, options(venue), 40, tmp_path, seen=lambda bot: _decided(bot) is not None
        )

    assert isinstance(events[0][1], SessionStarted) or any(isinstance(e, SessionStarted) for _, e in events)
    assert any(isinstance(e, KlineClosed) and not e.history for _, e in events)
    assert bot.engine.venue == venue
    assert bot.engine.limits.stage == ("ramp" if venue == "live" else "dry_run")
    assert sessions[-1]["venue"] == venue


def _decided(bot):
    return bot.engine.last_decision


async def test_live_refuses_without_arming_without_keys_and_without_a_passing_doctor(monkeypatch):
    async with place() as real, AsyncExitStack() as stack:
        with pytest.raises(ConfigError, match="not armed"):
            await venues.live(real.config(armed=False), options("live"), stack)
        monkeypatch.delenv("BINANCE_API_SECRET")
        with pytest.raises(ConfigError, match="BINANCE_API_SECRET"):
            await venues.live(real.config(), options("live"), stack)
        set_keys(monkeypatch, key="not-the-key")
        with pytest.raises(DoctorFailed, match="keys"):
            await venues.live(real.config(), options("live"), stack)


async def test_live_says_what_it_is_about_to_do(capsys):
    async with place(speed=60.0) as real, AsyncExitStack() as stack:
        await venues.live(real.config(), RunOptions(venue="live"), stack)

    said = capsys.readouterr().err
    assert "LIVE: real money at http://127.0.0.1" in said
    assert "0.75% of equity at risk" in said
    assert KEY not in said


async def test_an_account_is_held_while_the_bot_runs_on_it():
    async with place() as real, AsyncExitStack() as stack:
        await venues.testnet(real.config(), options("testnet"), stack)
        with pytest.raises(BotError, match="another bot"), account_lock(KEY, real.rest):
            pass


async def test_a_dead_live_market_is_one_sentence():
    async with place() as live:
        config = live.config()
    async with AsyncExitStack() as stack:
        with pytest.raises(BotError, match="no exchange answers at http"):
            await venues.paper(config, options("paper"), stack)


def test_an_unarmed_live_run_starts_nothing(surroundings):
    done = subprocess.run(
        [sys.executable, "-m", "bot", "run", "--venue", "live", "--no-dashboard", "--quiet"],
        cwd=ROOT,
        env={**os.environ, "BOT_DATA": str(surroundings)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert "venue.live.armed = true" in done.stderr
    assert json.dumps(done.stderr).count("Traceback") == 0
