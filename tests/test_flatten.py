"""Getting out of everything: in order, reduce-only, verified, and said plainly when it could not be verified."""

import asyncio
import sqlite3
import sys
from decimal import Decimal

import pytest
from click.testing import CliRunner

from bot.app import flatten as module
from bot.app.connection import addresses, connected
from bot.app.flatten import closing_orders, flatten
from bot.cli.main import cli
from bot.config import Config
from bot.core.errors import BotError, ConfigError
from bot.core.types import Instrument, PositionReport
from bot.journal import Journal
from bot.report import operator
from bot.report.dashboard import Dashboard
from bot.report.hub import Hub
from bot.sim.faults import parse
from tests import damage
from tests.conftest import ROOT
from tests.places import place, set_keys

pytestmark = pytest.mark.wire
D = Decimal


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    monkeypatch.setenv("BOT_DATA", str(tmp_path))
    set_keys(monkeypatch)
    return tmp_path


async def open_things(config, *, orders: bool = True) -> None:
    """Open a long and a short; with `orders` also two stops, a target and a resting entry of the long."""
    async with connected("testnet", addresses(config, "testnet")) as line:
        await line.gateway.synchronise()
        client = line.client
        for symbol, side, qty in (("BTCUSDT", "BUY", "0.004"), ("ETHUSDT", "SELL", "0.050")):
            await client.futures_create_order(
                symbol=symbol, side=side, type="MARKET", quantity=qty, newOrderRespType="RESULT"
            )
        if not orders:
            return
        price = float((await client.futures_orderbook_ticker(symbol="BTCUSDT"))["bidPrice"])
        for name, more in (("stop-1", {"quantity": "0.004", "reduceOnly": "true"}), ("far", {"closePosition": "true"})):
            await client.futures_create_algo_order(
                symbol="BTCUSDT",
                side="SELL",
                type="STOP_MARKET",
                triggerPrice=f"{price * 0.9:.1f}",
                clientAlgoId=name,
                **more,
            )
        for name, side, share, more in (("tp-1", "SELL", 1.03, {"reduceOnly": "true"}), ("entry", "BUY", 0.97, {})):
            await client.futures_create_order(
                symbol="BTCUSDT",
                side=side,
                type="LIMIT",
                timeInForce="GTC",
                quantity="0.001",
                price=f"{price * share:.1f}",
                newClientOrderId=name,
                **more,
            )


def live_orders(state) -> list[str]:
    return [o["clientOrderId"] for o in state["orders"] if o["status"] in ("NEW", "PARTIALLY_FILLED")] + [
        a["clientAlgoId"] for a in state["algo_orders"] if a["algoStatus"] == "NEW"
    ]


def held(state) -> list[str]:
    return [p["symbol"] for p in state["positions"] if float(p["positionAmt"])]


async def run(config, **more):
    said: list[str] = []
    code = await flatten(config, "testnet", say=said.append, confirm=more.get("confirm", lambda question: True))
    return code, said


async def test_with_no_bot_running_the_venue_itself_is_emptied_and_verified():
    async with place() as venue:
        await open_things(venue.config())
        before = venue.exchange.state()
        code, said = await run(venue.config())
        state = venue.exchange.state()

    assert held(before) == ["BTCUSDT", "ETHUSDT"]
    assert code == 0
    assert held(state) == []
    assert live_orders(state) == []
    assert said[-1] == "testnet is flat: no position, no order"


def _locked(path):
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    return other


@pytest.mark.parametrize("harm", [damage.newer, damage.garbage, damage.zero, damage.isdir, damage.page_wipe, _locked])
async def test_flatten_needs_no_journal_and_says_what_it_could_not_read(surroundings, harm):
    path = surroundings / "bot.db"
    with Journal(path) as journal:
        journal.open_session("testnet", "http://127.0.0.1:1", resume=True, at_ms=1)
    held_open = harm(path)

    async with place() as venue:
        await open_things(venue.config())
        code, said = await run(venue.config())
        state = venue.exchange.state()
    if held_open is not None:
        held_open.close()

    assert code == 0
    assert held(state) == []
    assert live_orders(state) == []
    if harm is not damage.page_wipe:  # its sessions may still be readable
        assert "the journal could not be read" in said[0]
        assert "going by the settings" in said[0]


async def test_without_a_journal_that_can_be_read_the_venue_has_to_be_said(surroundings):
    damage.garbage(surroundings / "bot.db")
    said = []

    with pytest.raises(ConfigError, match="the journal cannot name the venue: say --venue"):
        await flatten(Config(), None, say=said.append, confirm=lambda question: True)
    assert "not a database" in said[0]


async def test_entries_go_first_and_stops_stand_until_the_position_is_closed():
    async with place() as venue:
        await open_things(venue.config())
        await run(venue.config())
        state = venue.exchange.state()

    ended = {o["clientOrderId"]: o["updateTime"] for o in state["orders"]}
    stops = {a["clientAlgoId"]: a["updateTime"] for a in state["algo_orders"]}
    closed = next(o for o in state["orders"] if o["clientOrderId"].startswith("flat-") and o["symbol"] == "BTCUSDT")
    assert ended["entry"] <= closed["updateTime"] <= stops["stop-1"]
    assert closed["reduceOnly"]


async def test_unknown_outcomes_and_lost_replies_cost_another_look_only():
    async with place(speed=20.0) as venue:
        await open_things(venue.config())
        faults = [{"fault": "http_503_executed", "path": "/fapi/v1/order", "count": 2}]
        faults += [{"fault": "http_503_not_executed", "path": "/fapi/v1/order", "after": 2, "count": 2}]
        await venue.exchange.set_faults(parse(faults))
        code, said = await run(venue.config())
        state = venue.exchange.state()

    assert code == 0
    assert held(state) == []
    assert live_orders(state) == []
    assert any("not certain" in text or "not cancelled" in text for text in said)


async def test_what_cannot_be_verified_exits_1_with_a_plain_sentence(monkeypatch):
    monkeypatch.setattr(module, "PAUSE_S", (0.01,) * 7)
    async with place() as venue:
        await open_things(venue.config())
        faults = [{"fault": "http_503_not_executed", "path": "/fapi/v1/order", "count": 10_000}]
        await venue.exchange.set_faults(parse(faults))

        with pytest.raises(BotError, match="NOT verified flat") as refused:
            await run(venue.config())
        stops = [a["clientAlgoId"] for a in venue.exchange.state()["algo_orders"] if a["algoStatus"] == "NEW"]

    assert refused.value.exit_code == 1
    assert "by hand" in str(refused.value)
    assert stops == ["stop-1", "far"]


async def test_nothing_is_done_without_a_yes():
    async with place() as venue:
        await open_things(venue.config())
        asked: list[str] = []

        with pytest.raises(BotError, match="nothing was done"):
            await run(venue.config(), confirm=lambda question: bool(asked.append(question)))
        state = venue.exchange.state()

    assert held(state) == ["BTCUSDT", "ETHUSDT"]
    assert "BTCUSDT +0.004" in asked[0]


async def test_a_flat_venue_is_not_asked_about():
    async with place() as venue:
        code, _ = await run(venue.config(), confirm=lambda question: pytest.fail(question))

    assert code == 0


class Page:
    """A bot's page that answers commands, and empties itself or not."""

    def __init__(self, *, obeys: bool) -> None:
        self.obeys = obeys
        self.commands: list[str] = []
        self.positions = {"BTCUSDT": "0.004"}

    def take(self, name: str, args: dict) -> None:
        self.commands.append(name)
        if name == "flatten" and self.obeys:
            self.positions = {}

    def dashboard(self) -> Dashboard:
        return Dashboard(
            Hub(),
            host="127.0.0.1",
            port=0,
            token="the-token",
            snapshot=lambda: {"venue": "testnet", "positions": self.positions},
            trades=list,
            command=self.take,
        )


@pytest.mark.parametrize("obeys", [True, False])
async def test_a_running_bot_is_asked_and_the_exchange_has_the_last_word(surroundings, monkeypatch, obeys):
    monkeypatch.setattr(module, "BOT_PATIENCE_S", 1.0)
    page = Page(obeys=obeys)
    board = page.dashboard()
    port = await board.start()
    operator.write_run_file(surroundings, port=port, venue="testnet", token="the-token")
    try:
        async with place() as venue:
            await open_things(venue.config())
            code, said = await run(venue.config())
            state = venue.exchange.state()
    finally:
        await board.close()

    assert page.commands == ["stop_entries", "flatten"]
    assert code == 0
    assert held(state) == []
    assert any(("says it is flat" if obeys else "is not flat") in text for text in said)


@pytest.mark.parametrize("running", [True, False])
def test_a_running_bots_own_address_goes_before_the_settings_and_an_open_sessions_is_told(surroundings, running):
    said = []
    with Journal(surroundings / "bot.db") as journal:
        journal.open_session("testnet", "http://127.0.0.1:8791", resume=True, at_ms=1)

    at = module.address_of(Config(), "testnet", module.record(), running=running, say=said.append)

    assert at.rest_url == ("http://127.0.0.1:8791" if running else Config().venue.testnet.rest_url)
    assert len(said) == 1
    assert "http://127.0.0.1:8791" in said[0]
    assert Config().venue.testnet.rest_url in said[0]


def test_a_position_above_the_market_maximum_is_closed_in_parts():
    instrument = Instrument("BTCUSDT", D("0.1"), D("0.001"), D("0.001"), D(1000), D(120), D(50), (), D(0), D(0))

    orders = closing_orders(PositionReport("BTCUSDT", D("-250.5"), D(1)), instrument, attempt=0)

    assert [o.qty for o in orders] == [D(120), D(120), D("10.5")]
    assert {o.side.value for o in orders} == {"BUY"}
    assert len({o.client_id for o in orders}) == 3
    assert all(len(o.client_id) <= 36 for o in orders)


def test_the_venue_is_the_running_bots_or_the_journals_or_has_to_be_said(surroundings):
    assert module.venue_of("live", {"venue": "testnet"}, module.record()) == "live"
    assert module.venue_of(None, {"venue": "paper"}, module.record()) == "paper"
    with pytest.raises(ConfigError, match="say --venue"):
        module.venue_of(None, None, module.record())
    with Journal(surroundings / "bot.db") as journal:
        journal.open_session("sim", "sim", resume=False, at_ms=1)
    assert module.venue_of(None, None, module.record()) == "sim"
    with Journal(surroundings / "bot.db") as journal:
        journal.open_session("testnet", "http://x", resume=True, at_ms=1)

    assert module.venue_of(None, None, module.record()) == "testnet"


def test_the_command_flattens_with_yes_and_says_that_sim_has_nothing_to_close():
    async def play():
        async with place() as venue:
            await open_things(venue.config())
            words = ["flatten", "--venue", "testnet", "--yes"]
            for name, url in (("rest_url", venue.rest), ("stream_url", venue.stream)):
                words += ["--set", f"venue.testnet.{name}={url}"]
            result = await asyncio.to_thread(lambda: CliRunner().invoke(cli, words, catch_exceptions=False))
            return result, venue.exchange.state()

    result, state = asyncio.run(play())
    nothing = CliRunner().invoke(cli, ["flatten", "--venue", "sim", "--yes"], catch_exceptions=False)

    assert result.exit_code == 0
    assert held(state) == []
    assert result.stdout.splitlines()[-1] == "testnet is flat: no position, no order"
    assert nothing.exit_code == 0
    assert "nothing to close" in nothing.stdout


@pytest.mark.slow
async def test_a_real_bot_flattens_a_position_that_it_only_guards(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    async with place(speed=10.0, minutes=900) as venue:
        sets = ["--set", f"venue.testnet.rest_url={venue.rest}", "--set", f"venue.testnet.stream_url={venue.stream}"]
        words = [sys.executable, "-m", "bot", "run", "--venue", "testnet", "--port", "0", "--quiet"]
        with (tmp_path / "log").open("wb") as log:
            bot = await asyncio.create_subprocess_exec(
                *words, *sets, "--set", "data.history_bars=60", cwd=ROOT, stdout=log, stderr=log
            )
            try:
                await _until(lambda: (tmp_path / "run.json").is_file(), 60)
                await open_things(venue.config(), orders=False)
                guards = lambda: [o for o in live_orders(venue.exchange.state()) if o.startswith("rbT-gd")]  # noqa: E731
                await _until(guards, 60)
                done = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "bot", "flatten", "--yes", *sets, cwd=ROOT, stdout=asyncio.subprocess.PIPE
                )
                said, _ = await asyncio.wait_for(done.communicate(), 60)
                state = venue.exchange.state()
            finally:
                bot.terminate()
                await bot.wait()

    assert done.returncode == 0, said.decode()
    assert b"the running bot" in said
    assert said.decode().splitlines()[-1] == "testnet is flat: no position, no order"
    assert held(state) == []
    assert live_orders(state) == []


async def _until(condition, seconds):
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 — what is waited for is another process
            await asyncio.sleep(0.1)
