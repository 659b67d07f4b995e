"""A planted key is looked for everywhere that the bot writes, shows or says, on good days and on bad ones: it is not there."""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import time

import aiohttp
import pytest
from aiohttp.client_reqrep import RequestInfo
from binance.exceptions import BinanceAPIException, BinanceRequestException
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from bot.app.credentials import Credentials, secrets_for
from bot.app.setup import STANDARD_ERROR
from bot.core.errors import ConfigError
from bot.core.redact import hide, redact, redact_addresses
from bot.execution.outcomes import describe, translate
from bot.sim.faults import parse
from tests.conftest import ROOT
from tests.places import place

KEY = "PlantedKey7f3c9e1b2d4a6f8e0c1b3d5f7a9e2c4b"
SECRET = "PlantedSecret91d8c7b6a5f4e3d2c1b0a9f8e7d6c5b4"
TELEGRAM = "123456789:AAPlantedTokenOfTheChat"
SIGNED = re.compile(rb"signature=[0-9a-f]{16,}")
FAULTS = [
    {"fault": "http_503_not_executed", "path": "/fapi/v1/klines", "after": 3, "count": 2},
    {"fault": "http_502_html", "path": "/fapi/v3/balance", "after": 2, "count": 2},
    {"fault": "http_429", "path": "/fapi/v1/openOrders", "after": 3, "count": 1, "ms": 200},
    {"fault": "close_sockets", "path": "/private", "after": 0, "count": 1, "ms": 500},
]


def planted(where: bytes | str, listen_keys=()) -> list[str]:
    """Return which secrets stand in a text."""
    data = where.encode() if isinstance(where, str) else where
    words = [KEY, SECRET, TELEGRAM.partition(":")[2], *listen_keys]
    found = [word for word in words if word.encode() in data]
    return found + [match.decode() for match in SIGNED.findall(data)]


@pytest.fixture
def environment(tmp_path):
    more = {
        "BOT_DATA": str(tmp_path / "data"),
        "BINANCE_API_KEY": KEY,
        "BINANCE_API_SECRET": SECRET,
        "BOT_NOTIFY_URLS": f"json://127.0.0.1:9/{TELEGRAM}",
        "PYTHONFAULTHANDLER": "1",
        "NO_PROXY": "127.0.0.1",
    }
    return {**os.environ, **more}


async def page(port: int) -> list[tuple[str, bytes]]:
    """Return everything that the dashboard serves, the first seconds of its events included."""
    got = []
    async with aiohttp.ClientSession() as session:
        for path in ("/", "/api/status", "/api/trades", "/api/equity", "/health", "/metrics", "/nowhere"):
            async with session.get(f"http://127.0.0.1:{port}{path}") as reply:
                got.append((path, await reply.read()))
        async with session.get(f"http://127.0.0.1:{port}/events") as reply:
            body = b""
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(3):
                    async for chunk in reply.content.iter_any():
                        body += chunk
            got.append(("/events", body))
    return got


@pytest.mark.wire
@pytest.mark.slow
async def test_a_planted_key_is_nowhere_after_a_day_of_faults_and_a_crash(environment, tmp_path):
    async with place(speed=60.0, minutes=2_000, key=(KEY, SECRET)) as venue:
        await venue.exchange.set_faults(parse(FAULTS))
        words = [
            sys.executable,
            "-X",
            "faulthandler",
            "-m",
            "bot",
            "run",
            "--venue",
            "testnet",
            "--port",
            "0",
            "--debug",
        ]
        words += ["--set", "data.history_bars=60", "--set", "notify.level=info"]
        words += ["--set", f"venue.testnet.rest_url={venue.rest}", "--set", f"venue.testnet.stream_url={venue.stream}"]
        with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
            bot = await asyncio.create_subprocess_exec(*words, cwd=ROOT, env=environment, stdout=out, stderr=err)
            try:
                port = await _port(tmp_path / "err", bot)
                pages = await page(port)
                await venue.exchange.set_faults(parse([{"fault": "close_sockets", "count": 1, "ms": 200}]))
                await asyncio.sleep(2)
                pages += await page(port)
                bot.send_signal(signal.SIGABRT)  # a crash, with its dump
                await asyncio.wait_for(bot.wait(), 10)
            finally:
                if bot.returncode is None:
                    bot.kill()
                    await bot.wait()
        listen_key = venue.exchange.keys.active

    said = (tmp_path / "err").read_bytes()
    files = {path: path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file()}
    assert b"DEBUG" in said, "the log was meant to be at its most talkative"
    assert b"Fatal Python error" in said
    assert any(path.name.startswith("bot-") and path.suffix == ".log" for path in files)
    assert any(path.name.startswith("bot.db") for path in files)
    assert len(listen_key) == 64
    everything = [("err", said), ("out", (tmp_path / "out").read_bytes()), *pages, *files.items()]
    assert {str(name): planted(body, [listen_key]) for name, body in everything if planted(body, [listen_key])} == {}


async def _port(log, process) -> int:
    """Wait for the dashboard's line."""
    end = time.monotonic() + 90
    while time.monotonic() < end and process.returncode is None:
        found = re.search(rb"dashboard: http://127.0.0.1:(\d+)", log.read_bytes())
        if found:
            return int(found[1])
        await asyncio.sleep(0.2)
    raise AssertionError(log.read_text()[-3000:])


@pytest.mark.parametrize(
    "words", [["show-config"], ["show-config", "--json"], ["doctor", "--venue", "testnet", "--json"]]
)
def test_commands_show_no_secret(environment, words):
    words = [*words, "--set", "venue.testnet.rest_url=http://127.0.0.1:9", "--debug"]

    done = subprocess.run(
        [sys.executable, "-m", "bot", *words], cwd=ROOT, env=environment, capture_output=True, check=False
    )

    assert done.stdout
    assert planted(done.stdout + done.stderr) == []


@pytest.mark.parametrize("debug", [True, False])
def test_an_exception_of_our_own_with_a_key_in_it_is_printed_without_it(environment, debug):
    program = (
        "import sys\nfrom bot.app.credentials import secrets_for\nfrom bot.cli import base\nfrom bot.cli.main import main\n"
        "@base.command('burst')\n"
        "def burst():\n"
        "    keys = secrets_for('testnet')\n"
        "    raise RuntimeError(f'https://h/order?timestamp=1&signature={\"ab\" * 32} {keys.api_key} {keys.secret} {keys}')\n"
        f"main({['burst', '--debug'] if debug else ['burst']!r})\n"
    )

    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, check=False)

    assert done.returncode == 1
    assert b"RuntimeError" in done.stderr
    assert (b"Traceback" in done.stderr) is debug
    assert planted(done.stderr) == []


def exceptions():
    """Yield what python-binance and aiohttp raise, with signed addresses and keys inside."""
    url = URL(f"https://fapi.binance.com/fapi/v1/order?timestamp=1&signature={'ab' * 32}&listenKey={'c' * 64}")
    info = RequestInfo(url, "POST", CIMultiDictProxy(CIMultiDict({"X-MBX-APIKEY": KEY})), url)
    yield aiohttp.ContentTypeError(info, (), message=f"unexpected mimetype for {url}", status=200)
    yield aiohttp.ClientResponseError(info, (), message=str(url), status=400)
    yield aiohttp.ClientConnectionError(f"Connection closed: {url} {KEY}")
    yield aiohttp.InvalidURL(str(url))
    yield BinanceRequestException(f"Invalid Response: {url} {SECRET}")
    yield OSError(f"{url}")
    yield RuntimeError(f"{url} {KEY}")

    class Reply:
        headers: dict[str, str] = {}  # noqa: RUF012

    text = '{"code": -1022, "msg": "Signature for this request is not valid: signature=%s key %s"}' % ("ab" * 32, KEY)  # noqa: UP031
    yield BinanceAPIException(Reply(), 400, text)


@pytest.mark.parametrize("error", list(exceptions()), ids=lambda e: type(e).__name__)
def test_what_libraries_raise_becomes_an_outcome_without_keys_and_signatures(error):
    hide(KEY, SECRET)

    assert planted(describe(error)) == []
    assert planted(repr(translate(error))) == []


def test_everything_that_is_logged_passes_one_door(capsys):
    hide(KEY)

    STANDARD_ERROR.write(f"a library says {KEY} and https://h/x?signature={'ab' * 32}\n")

    assert capsys.readouterr().err == "a library says *** and https://h/x?signature=***\n"


def test_keys_come_from_files_too_and_an_unreadable_one_is_one_sentence(monkeypatch, tmp_path):
    for name, text in (("KEY", KEY), ("SECRET", SECRET)):
        (tmp_path / name).write_text(f"{text}\n")
        monkeypatch.delenv(f"BINANCE_API_{name}", raising=False)
        monkeypatch.setenv(f"BINANCE_API_{name}_FILE", str(tmp_path / name))

    assert secrets_for("live") == Credentials(KEY, SECRET)

    monkeypatch.setenv("BINANCE_API_KEY_FILE", str(tmp_path / "absent"))
    with pytest.raises(ConfigError, match="BINANCE_API_KEY_FILE cannot be read"):
        secrets_for("live")
    monkeypatch.delenv("BINANCE_API_KEY_FILE")
    with pytest.raises(ConfigError, match="needs BINANCE_API_KEY in the environment"):
        secrets_for("live")


def test_plain_words_stay_as_they_are():
    text = "BTCUSDT stop refused: -2021 Order would immediately trigger. (key position, secretly)"

    assert redact(text) == text


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://user:word@host:81/x?a=1", "http://user:***@host:81/x?a=1"),
        ("https://LongToken@host", "https://***@host"),
        ("postgresql+psycopg://bot:w@rd@db/studies", "postgresql+psycopg://bot:***@db/studies"),
        ("http://bot:un/quoted@host/x", "http://bot:***@host/x"),
        ("postgresql+psycopg://USER@HOST/DATABASE", "postgresql+psycopg://USER@HOST/DATABASE"),
        ("redis://:word@host", "redis://:***@host"),
        ("wss://host/ws?token=1&x=2&apiKey=3", "wss://host/ws?token=***&x=2&apiKey=***"),
        ("see 'https://a:b@c' and https://d:e@f.", "see 'https://a:***@c' and https://d:***@f."),
        ("http://127.0.0.1:8700/a@b?page=2", "http://127.0.0.1:8700/a@b?page=2"),
        ("http://[::1]:80/a@b", "http://[::1]:80/a@b"),
        ("mail somebody@example.com", "mail somebody@example.com"),
    ],
)
def test_passwords_in_addresses_are_struck_out_and_nothing_else_is(address, shown):
    assert redact_addresses(address) == shown
    assert redact(address) == shown


def test_show_config_and_logs_hide_the_passwords_of_addresses(environment, capsys):
    words = ["--set", "venue.testnet.rest_url=https://me:PlantedWord@host/x?token=PlantedToken"]
    words += ["--set", "data.archive_url=https://PlantedUser@archive"]
    for form in ([], ["--json"]):
        done = subprocess.run(
            [sys.executable, "-m", "bot", "show-config", *words, *form],
            cwd=ROOT, env=environment, capture_output=True, check=False,
        )  # fmt: skip
        assert b"https://me:***@host/x?token=***" in done.stdout, done.stderr
        assert b"Planted" not in done.stdout + done.stderr

    STANDARD_ERROR.write("connecting to https://me:PlantedWord@host\n")

    assert capsys.readouterr().err == "connecting to https://me:***@host\n"
