"""The examination: what would stop the bot is found, named in one line, and nothing is left behind at the exchange."""

import asyncio
import json

import pytest
from click.testing import CliRunner

from bot.app import doctor, stream_checks
from bot.app.connection import addresses, connected
from bot.app.doctor import DoctorFailed, examine, must_pass
from bot.cli.main import cli
from bot.config import Config
from tests.places import SYMBOLS, place, set_keys

pytestmark = pytest.mark.wire


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    monkeypatch.setenv("BOT_DATA", str(tmp_path))
    monkeypatch.delenv("BOT_NOTIFY_URLS", raising=False)
    monkeypatch.delenv("BOT_WEBHOOK_URL", raising=False)
    monkeypatch.setattr(stream_checks, "FRAME_WAIT_S", 1.5)
    set_keys(monkeypatch)


def found(report, name):
    return next(check for check in report.checks if check.name == name)


async def test_a_sound_venue_passes_every_check_and_is_left_as_it_was():
    async with place() as venue:
        report = await examine(venue.config(), "testnet", quiet=True)
        state = venue.exchange.state()

    assert report.ok, report.failures()
    names = {check.name for check in report.checks}
    assert {"settings", "disk", "journal", "clock", "keys", "position mode", "margin and leverage", "fees"} <= names
    assert {"instruments", "positions", "market stream", "public stream", "user stream", "stop orders"} <= names
    assert {"closed bars", "budget", "alerts", "calendar", "permissions"} <= names
    assert all(check.hint for check in report.checks if check.status != "ok")
    assert [algo["algoStatus"] for algo in state["algo_orders"]] == ["CANCELED"]
    assert state["positions"] == []


async def test_a_wrong_key_is_found_and_the_rest_is_not_tried(monkeypatch):
    set_keys(monkeypatch, key="another-key")
    async with place() as venue:
        report = await examine(venue.config(), "testnet", quiet=True)

    assert [check.name for check in report.failures()] == ["keys"]
    assert "-2015" in found(report, "keys").text
    assert "BINANCE_API_KEY" in found(report, "keys").hint
    assert "another-key" not in json.dumps(report.data())


async def test_missing_keys_and_a_dead_exchange_are_findings_not_tracebacks(monkeypatch):
    unkeyed = Config()
    monkeypatch.delenv("BINANCE_API_KEY")
    without = await examine(unkeyed, "testnet", quiet=True)
    set_keys(monkeypatch)
    async with place() as venue:
        config = venue.config()
    dead = await examine(config, "testnet", quiet=True)

    assert "BINANCE_API_KEY" in found(without, "keys").text
    assert [check.name for check in dead.failures()] == ["clock skew"]
    with pytest.raises(DoctorFailed, match="doctor --venue testnet"):
        must_pass(dead)


@pytest.mark.parametrize(("feed", "name"), [("/market", "market stream"), ("/public", "public stream")])
async def test_a_silent_stream_fails(feed, name):
    async with place(faults=()) as venue:
        from bot.sim.faults import parse

        await venue.exchange.set_faults(parse([{"fault": "drop_event", "path": feed, "count": 100_000}]))
        report = await examine(venue.config(), "testnet", quiet=True, wait_for_bar=False)

    assert [check.name for check in report.failures()] == [name]
    assert "silent" in found(report, name).text


async def test_a_private_stream_that_tells_nothing_fails_though_the_stop_was_accepted():
    async with place() as venue:
        from bot.sim.faults import parse

        await venue.exchange.set_faults(parse([{"fault": "drop_event", "path": "/private", "count": 100_000}]))
        report = await examine(venue.config(), "testnet", quiet=True, wait_for_bar=False)

    assert found(report, "stop orders").status == "ok"
    assert [check.name for check in report.failures()] == ["user stream"]


async def test_a_wallet_too_small_for_the_smallest_trade_fails():
    async with place(wallet=5.0) as venue:
        report = await examine(venue.config(), "testnet", quiet=True, wait_for_bar=False)

    assert [check.name for check in report.failures()] == ["instruments"]
    assert "transfer funds" in found(report, "instruments").hint


async def test_fees_that_the_limits_do_not_see_are_warned_of():
    async with place() as venue:
        venue.exchange.venue.settings.fee_burn = True
        report = await examine(venue.config(), "testnet", quiet=True, wait_for_bar=False)

    assert found(report, "fees").status == "warn"
    assert "the soft stop" in found(report, "fees").text
    assert report.ok


async def test_a_position_without_a_stop_is_warned_of():
    async with place() as venue:
        config = venue.config()
        async with connected("testnet", addresses(config, "testnet")) as line:
            await line.gateway.synchronise()
            await line.client.futures_create_order(
                symbol="BTCUSDT", side="BUY", type="MARKET", quantity="0.002", newOrderRespType="RESULT"
            )
        report = await examine(config, "testnet", quiet=True, wait_for_bar=False)

    assert found(report, "positions").status == "warn"
    assert "has no stop" in found(report, "positions").text
    assert report.ok


@pytest.mark.parametrize(
    ("told", "status", "words"),
    [
        ({"ipRestrict": True, "enableWithdrawals": False, "enableFutures": True}, "ok", "without withdrawals"),
        ({"ipRestrict": True, "enableWithdrawals": True, "enableFutures": True}, "warn", "withdraw money"),
        ({"ipRestrict": False, "enableWithdrawals": False, "enableFutures": True}, "warn", "any address"),
        ({"ipRestrict": True, "enableWithdrawals": False, "enableFutures": False}, "fail", "may not trade futures"),
    ],
)
async def test_what_the_key_may_do_is_asked(told, status, words):
    async with place() as venue:
        venue.exchange.key_permissions.update(told)
        report = await examine(venue.config(), "testnet", quiet=True, wait_for_bar=False)

    assert found(report, "permissions").status == status
    assert words in found(report, "permissions").text


async def test_a_venue_that_does_not_tell_permissions_is_a_warning():
    async with place() as venue:
        config = venue.config()
        here = config.venue.testnet.model_copy(update={"permissions_url": ""})
        config = config.model_copy(update={"venue": config.venue.model_copy(update={"testnet": here})})
        report = await examine(config, "testnet", quiet=True, wait_for_bar=False)

    assert found(report, "permissions").status == "warn"


async def test_a_check_that_gets_no_answer_ends_by_itself(monkeypatch):
    async def stuck(bench):
        await asyncio.Event().wait()

    monkeypatch.setattr(doctor, "CHECK_TIMEOUT_S", 0.2)
    stuck.__name__ = "stuck"

    check = await doctor._guarded(stuck, None, timeout_s=0.2)

    assert check.status == "fail"
    assert "no answer" in check.text


def test_the_command_prints_a_line_a_check_and_exits_by_the_result(monkeypatch):
    async def run(*arguments):
        async with place() as venue:
            sets = [f"venue.testnet.{n}={u}" for n, u in (("rest_url", venue.rest), ("stream_url", venue.stream))]
            words = ["doctor", "--venue", "testnet", "--no-wait", *arguments, "--set", sets[0], "--set", sets[1]]
            return await asyncio.to_thread(lambda: CliRunner().invoke(cli, words, catch_exceptions=False))

    plain = asyncio.run(run())
    as_json = asyncio.run(run("--json"))
    set_keys(monkeypatch, key="wrong")
    refused = asyncio.run(run())

    assert plain.exit_code == 0
    assert any(line.startswith("ok   stop orders: accepted") for line in plain.stdout.splitlines())
    assert plain.stdout.splitlines()[-1].endswith("warnings")
    assert json.loads(as_json.stdout)["ok"] is True
    assert refused.exit_code == 1
    assert "fail keys" in refused.stdout


def test_the_symbols_of_the_tests_are_those_of_the_settings():
    assert Config().data.symbols == SYMBOLS
