"""Alerts reach a person once, not a hundred times, and their addresses reach nobody."""

import asyncio
import json
import logging
import subprocess
import sys
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from click.testing import CliRunner

from bot.cli.main import cli
from bot.config import Config, Notify
from bot.core.errors import ConfigError
from bot.core.intents import Alert
from bot.core.redact import redact
from bot.report.hub import Hub
from bot.report.notify import BadAddress, Notifier, addresses, try_addresses
from tests.conftest import ROOT

# apprise looks for a module that Python is about to drop, and can do without.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
MINUTE = 60_000
SIGNAL = {"symbol": "BINANCE:BTCUSDT", "side": "BUY", "qty": "1", "sl": "2", "tp1": "3", "trail": "AI_SUPERTREND"}


class Inbox:
    """A service that takes messages over HTTP."""

    def __init__(self) -> None:
        self.got: list[dict] = []
        self.status = 200
        self.port = 0

    async def take(self, request: web.Request) -> web.Response:
        self.got.append(await request.json())
        return web.Response(status=self.status)


@asynccontextmanager
async def inbox():
    box = Inbox()
    app = web.Application()
    app.router.add_post("/{path:.*}", box.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    box.port = runner.addresses[0][1]
    try:
        yield box
    finally:
        await runner.cleanup()


@pytest.fixture(autouse=True)
def surroundings(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("BOT_NOTIFY_URLS", "BOT_NOTIFY_URLS_FILE", "BOT_WEBHOOK_URL"):
        monkeypatch.delenv(name, raising=False)


class Clock:
    def __init__(self) -> None:
        self.ms = 1_000_000

    def __call__(self) -> int:
        return self.ms


def notifier(clock=None, *, urls=("json://h/x",), webhook="", **settings) -> Notifier:
    return Notifier(Notify(**settings), list(urls), webhook=webhook, now_ms=clock or Clock())


async def test_an_alert_arrives_through_apprise_and_names_its_level():
    async with inbox() as box:
        sender = notifier(urls=[f"json://127.0.0.1:{box.port}/hook"])

        good = await sender.send(Alert("critical", "BTCUSDT naked for 1600 ms: closing at market"))

    assert good
    assert box.got[0]["message"] == "BTCUSDT naked for 1600 ms: closing at market"
    assert box.got[0]["type"] == "failure"
    assert sender.sent == 1


async def test_what_is_published_on_the_hub_is_sent_and_signals_go_to_the_webhook_in_their_form():
    hub = Hub()
    async with inbox() as box, inbox() as hook:
        sender = notifier(urls=[f"json://127.0.0.1:{box.port}/x"], webhook=f"http://127.0.0.1:{hook.port}/hook")
        tasks = [asyncio.create_task(sender.run()), asyncio.create_task(sender.watch(hub))]
        await asyncio.sleep(0)
        hub.publish(Alert("info", "LONG 1 BTCUSDT near 2, stop 3", SIGNAL))
        hub.publish(Alert("info", "a trade closed"))
        hub.publish(Alert("warning", "stop refused"))
        await asyncio.sleep(0.05)
        sender.close()
        await asyncio.wait(tasks[:1], timeout=10)
        hub.close()
        await asyncio.wait(tasks, timeout=5)

    assert [m["message"] for m in box.got] == ["stop refused"]
    assert hook.got == [SIGNAL]


def test_the_same_alert_is_not_sent_twice_within_the_time_whatever_its_numbers():
    clock = Clock()
    sender = notifier(clock, repeat_minutes=10)

    first = sender.offer(Alert("warning", "BTCUSDT naked for 1501 ms"))
    again = sender.offer(Alert("warning", "BTCUSDT naked for 1733 ms"))
    other = sender.offer(Alert("warning", "ETHUSDT naked for 1501 ms"))
    graver = sender.offer(Alert("critical", "BTCUSDT naked for 1501 ms"))
    clock.ms += 10 * MINUTE
    later = sender.offer(Alert("warning", "BTCUSDT naked for 9 ms"))

    assert [first, again, other, graver, later] == [True, False, True, True, True]
    assert sender.held_back == 1


def test_no_more_than_so_many_in_an_hour_but_critical_ones_pass():
    clock = Clock()
    sender = notifier(clock, per_hour=3)
    words = ["stop", "entry", "exit", "target", "trail"]

    taken = [sender.offer(Alert("warning", f"{word} refused")) for word in words]
    critical = sender.offer(Alert("critical", "equity fell"))
    clock.ms += 61 * MINUTE
    after = sender.offer(Alert("warning", "leg refused"))

    assert taken == [True, True, True, False, False]
    assert critical
    assert after


def test_alerts_below_the_level_are_not_sent():
    sender = notifier(level="critical")

    assert not sender.offer(Alert("warning", "x"))
    assert sender.offer(Alert("critical", "x"))


async def test_what_was_held_back_is_told_with_the_next_alert():
    async with inbox() as box:
        sender = notifier(urls=[f"json://127.0.0.1:{box.port}/x"])
        sender.offer(Alert("warning", "same"))
        sender.offer(Alert("warning", "same"))
        sender.offer(Alert("warning", "same"))

        await sender.send(Alert("warning", "other"))

    assert "2 repeated" in box.got[0]["message"]


async def test_a_service_that_fails_is_told_by_its_kind_and_never_by_its_address(caplog):
    token = "AAF9secretTokenOfTheChat"
    async with inbox() as box:
        box.status = 500
        url = f"json://127.0.0.1:{box.port}/{token}"
        with caplog.at_level(logging.DEBUG):
            good = await notifier(urls=[url], webhook=f"http://127.0.0.1:9/{token}").send(
                Alert("critical", "x", SIGNAL)
            )

    assert not good
    assert "json" in caplog.text
    own = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("bot."))
    assert token not in own
    assert token not in redact(caplog.text)


def test_addresses_come_from_the_environment_and_are_kept_out_of_every_text(monkeypatch, tmp_path):
    monkeypatch.setenv(
        "BOT_NOTIFY_URLS", "tgram://123456789:AAbbCCddEEff/987654321\nmailto://me:hunter2hunter@mail.tld"
    )
    monkeypatch.setenv("BOT_WEBHOOK_URL", "https://hooks.tld/services/T0000SECRET")

    urls, webhook = addresses()
    text = redact(f"failed: {urls[0]} and {urls[1]} and {webhook}; AAbbCCddEEff hunter2hunter T0000SECRET")

    assert len(urls) == 2
    assert not any(word in text for word in ("AAbbCCddEEff", "hunter2hunter", "T0000SECRET", "987654321"))
    monkeypatch.setenv("BOT_NOTIFY_URLS", "")
    file = tmp_path / "urls"
    file.write_text("json://one.tld\njson://two.tld\n")
    monkeypatch.setenv("BOT_NOTIFY_URLS_FILE", str(file))
    assert len(addresses()[0]) == 2


def test_a_wrong_address_is_one_sentence_without_the_address(monkeypatch):
    monkeypatch.setenv("BOT_NOTIFY_URLS", "just-a-secret-word")

    with pytest.raises(BadAddress, match="address 1 of BOT_NOTIFY_URLS") as refused:
        addresses()

    assert "just-a-secret-word" not in str(refused.value)


async def test_without_addresses_the_test_says_how_to_set_them():
    with pytest.raises(ConfigError, match="BOT_NOTIFY_URLS"):
        await try_addresses(Config().notify)


def test_the_command_tries_every_address_and_exits_by_the_result(monkeypatch):
    async def play(status):
        async with inbox() as box:
            box.status = status
            monkeypatch.setenv("BOT_NOTIFY_URLS", f"json://127.0.0.1:{box.port}/a xml://127.0.0.1:9/b")
            monkeypatch.setenv("BOT_WEBHOOK_URL", f"http://127.0.0.1:{box.port}/hook")
            words = ["notify", "--test", "--json"]
            done = await asyncio.to_thread(lambda: CliRunner().invoke(cli, words, catch_exceptions=False))
            return done, box.got

    done, got = asyncio.run(play(200))

    rows = json.loads(done.stdout)
    assert rows == [{"kind": "json", "ok": True}, {"kind": "xml", "ok": False}, {"kind": "webhook", "ok": True}]
    assert done.exit_code == 1
    assert got[-1]["trail"] == "AI_SUPERTREND"
    assert got[-1]["test"] is True


def test_apprise_is_not_imported_before_the_first_alert():
    program = "import sys, bot.report.notify; sys.exit('apprise' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0
