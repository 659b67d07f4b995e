"""The doors of the page: who is refused, what idle and greedy guests can hold, and that the operator always gets in."""

import asyncio
import contextlib
import json
import logging
import os
import pty
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator
from time import perf_counter

import aiohttp
import pytest

from bot.config import parse
from bot.core.errors import ConfigError
from bot.report import dashboard as module
from bot.report import doors
from bot.report.dashboard import Dashboard
from bot.report.doors import DoorGate, DoorRefusal, Ration, exposure, names_of
from tests.conftest import ROOT
from tests.test_dashboard import TOKEN, Bot, close_bars

OPERATOR = {"X-Token": TOKEN}
ROUTES = ("/", "/app.js", "/events", "/api/status", "/api/trades", "/api/equity", "/api/chart?symbol=BTCUSDT",
          "/api/bar?open_ms=1", "/api/pass", "/health", "/metrics")  # fmt: skip


@pytest.fixture
async def bot() -> AsyncIterator[Bot]:
    bot = Bot()
    bot.url = f"http://127.0.0.1:{await bot.dashboard.start()}"
    yield bot
    await bot.dashboard.close()


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def address(bot) -> tuple[str, int]:
    return "127.0.0.1", int(bot.url.rsplit(":", 1)[1])


async def raw(bot, text: bytes) -> bytes:
    """Send bytes and return what comes until the page closes, or ten seconds have passed."""
    reader, writer = await asyncio.open_connection(*address(bot))
    writer.write(text)
    try:
        async with asyncio.timeout(10):
            return await reader.read()
    finally:
        writer.close()


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


# Other sites ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "something-new"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://[::1"},
    ],
    ids=str,
)
async def test_what_another_site_asks_for_is_refused_in_a_sentence_on_every_route(bot, client, path, headers):
    async with client.get(bot.url + path, headers=headers | OPERATOR) as response:
        assert response.status == 403
        assert "other sites" in (await response.json())["error"]
    async with client.post(f"{bot.url}/api/command", data=b"{}", headers=headers | OPERATOR) as response:
        assert response.status == 403


@pytest.mark.parametrize("path", [route for route in ROUTES if route not in ("/api/bar?open_ms=1", "/events")])
async def test_our_own_page_a_typed_address_and_programs_are_let_in(bot, client, path):
    for headers in ({}, {"Sec-Fetch-Site": "none"}, {"Sec-Fetch-Site": "same-origin", "Origin": bot.url}):
        async with client.get(bot.url + path, headers=headers | OPERATOR) as response:
            assert response.status == 200, (path, headers)


# Names ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "status"),
    [("evil.example", 421), ("192.0.2.1", 421), ("bot.lan", 200), ("BOT.LAN:81", 200), ("127.0.0.1", 200)],
)
async def test_only_listed_names_and_this_machines_own_are_answered_whatever_the_page_listens_on(client, host, status):
    bot = Bot()
    bot.dashboard = Dashboard(
        bot.hub, host="0.0.0.0", port=0, token=TOKEN, snapshot=bot.snapshot, trades=list,
        command=lambda name, args: None, allowed_hosts=("Bot.lan",),
    )  # fmt: skip
    port = await bot.dashboard.start()
    try:
        async with client.get(f"http://127.0.0.1:{port}/api/status", headers={"Host": host}) as response:
            assert response.status == status
            if status == 421:
                assert "dashboard.allowed_hosts" in (await response.json())["error"]
    finally:
        await bot.dashboard.close()


def test_a_page_that_others_can_reach_is_warned_of_and_names_are_checked():
    text = (ROOT / "config.toml").read_text(encoding="utf-8")

    assert exposure("127.0.0.1", ()) is None
    assert "dashboard.allowed_hosts" in str(exposure("0.0.0.0", ()))
    assert "bot.lan" in str(exposure("192.0.2.7", ("bot.lan",)))
    assert names_of(["[FE80::1]"]) >= {"fe80::1", "localhost"}
    assert parse(text, overrides=('dashboard.allowed_hosts=["bot.lan"]',)).dashboard.allowed_hosts == ("bot.lan",)
    for wrong in ("http://bot.lan", "bot.lan:80", "a b", ""):
        with pytest.raises(ConfigError, match="without port"):
            parse(text, overrides=(f"dashboard.allowed_hosts={json.dumps([wrong])}",))


# Parameters -------------------------------------------------------------------------------------------------------------

JUNK = ("", "x", "-1", "1.5", "1e3", "0x10", "1_0", "%201", "+1", "%D9%A3", "%00", "1%00", "%FF", "9" * 5_000, "9" * 40,
        "NaN", "%F0%9F%92%A9", "[]", "1;2", "%2e%2e/")  # fmt: skip
NUMBERS = (("/api/trades", "last"), ("/api/chart?symbol=BTCUSDT", "last"), ("/api/chart?symbol=BTCUSDT", "after"),
           ("/api/bar", "open_ms"))  # fmt: skip


async def sentence(bot, target: str, *, method: str = "GET", headers: str = "", body: bytes = b"") -> tuple[int, str]:
    """Ask with a target as it stands, and return status and error."""
    head = f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Token: {TOKEN}\r\nConnection: close\r\n{headers}"
    answer = await raw(bot, f"{head}Content-Length: {len(body)}\r\n\r\n".encode("latin-1") + body)
    status, _, rest = answer.partition(b"\r\n")
    return int(status.split()[1]), str(json.loads(rest.partition(b"\r\n\r\n")[2])["error"])


@pytest.mark.parametrize(("path", "name"), NUMBERS)
async def test_wrong_numbers_are_400_in_one_sentence_without_a_traceback(bot, caplog, path, name):
    close_bars(bot, 3)
    joint = "&" if "?" in path else "?"
    for value in JUNK:
        status, said = await sentence(bot, f"{path}{joint}{name}={value}")
        assert (status, "\n" in said, "Traceback" in said) == (400, False, False), (value, said)
    status, said = await sentence(bot, f"{path}{joint}{name}=1&{name}=2")
    assert (status, said) == (400, f"{name} is given more than once")
    assert caplog.records == []


@pytest.mark.parametrize(
    "path", [route.partition("?")[0] for route in ROUTES if route.startswith(("/api", "/health", "/ev"))]
)
async def test_unknown_parameters_are_named_with_those_that_are_known(bot, caplog, path):
    status, said = await sentence(bot, f"{path}?lsat=5")

    assert status == 400
    assert "'lsat'" in said
    assert "it takes" in said
    assert caplog.records == []


@pytest.mark.parametrize("symbol", ["", "btcusdt", "%00", "%FF", "BTC%0AUSDT", "../x", "A" * 3_000, "%E2%82%BF"])
async def test_a_symbol_that_can_be_none_is_400(bot, symbol):
    assert (await sentence(bot, f"/api/chart?symbol={symbol}"))[0] == 400


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff\xfe", b"[" * 10_000, b"null", b"5", b'"arm"', b'{"name": 5}', b'{"name": "arm", "args": []}',
     b'{"name": "arm", "args": {"reason": {"a": 1}}}', b'{"name": "arm", "args": {"reason": "\\u001b[2J"}}',
     b'{"name": "arm", "args": {"by": ' + b"9" * 400 + b"}}",
     json.dumps({"name": "arm", "args": {"by": "x" * 300}}).encode(),
     json.dumps({"name": "arm", "args": {str(i): i for i in range(50)}}).encode()],
)  # fmt: skip
async def test_a_command_that_is_none_is_400_and_reaches_nobody(bot, caplog, body):
    status, said = await sentence(bot, "/api/command", method="POST", body=body)

    assert (status, "\n" in said) == (400, False)
    assert bot.commands == []
    assert caplog.records == []


async def test_a_body_too_large_bytes_that_are_no_request_and_odd_tokens_leave_no_trace_in_the_log(bot, caplog):
    assert (await sentence(bot, "/api/command", method="POST", body=b"x" * 20_000))[0] == 413
    assert b" 403 " in await raw(
        bot, b"POST /api/command HTTP/1.1\r\nHost: localhost\r\nX-Token: \xff\xfe\r\nConnection: close\r\n\r\n"
    )
    for host in (b"[::1", b"a b", b"\xff", b"127.0.0.1:x", b"http://h"):
        await raw(bot, b"GET / HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n" % host)
    for junk in (b"\x00\x01\x02\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00", b"GET /\r\n\r\n"):
        await raw(bot, junk + b"\r\n\r\n")

    assert [record for record in caplog.records if record.levelno >= logging.INFO] == []


async def test_a_failure_of_our_own_is_a_sentence_and_is_logged_once(bot, client, capsys):
    bot.state = None  # type: ignore[assignment]

    for _ in range(3):
        bot.hub.publish()
        async with client.get(f"{bot.url}/api/status", headers=OPERATOR) as response:
            assert response.status == 500
            assert "the bot's log" in (await response.json())["error"]

    shown = capsys.readouterr()
    assert (shown.out + shown.err).count("could not answer") == 1


async def test_clients_that_go_away_before_the_answer_leave_no_trace_in_the_log(bot, caplog):
    close_bars(bot, 5_000)
    for text in (
        b"GET /api/chart?symbol=BTCUSDT&last=5000 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /api/command HTTP/1.1\r\nHost: localhost\r\nX-Token: %b\r\nContent-Length: 90\r\n\r\n{" % TOKEN.encode(),
    ):
        for pause in (0.0, 0.01, 0.05):
            one = socket.socket()
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing is a reset
            one.setblocking(False)
            await asyncio.get_running_loop().sock_connect(one, address(bot))
            one.send(text * (5 if text.startswith(b"GET") else 1))
            await asyncio.sleep(pause)
            one.close()
    await asyncio.sleep(0.5)

    assert caplog.records == []


# Connections ------------------------------------------------------------------------------------------------------------


async def test_a_thousand_half_sent_requests_take_64_places_and_no_log_and_keep_nobody_out(bot, client, caplog, capsys):
    before = open_files()
    half = []
    for _ in range(1_100):
        one = socket.socket()
        one.setblocking(False)
        await asyncio.get_running_loop().sock_connect(one, address(bot))
        one.send(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-a: ")
        half.append(one)
    await asyncio.sleep(0.2)

    ours = open_files() - before - len(half)
    async with client.get(f"{bot.url}/api/status") as response:
        status = response.status
    for one in half:
        one.close()

    assert ours <= doors.MAX_CONNECTIONS + 1
    assert status == 200
    assert caplog.records == []
    assert capsys.readouterr().err == ""


@pytest.fixture
async def hasty(monkeypatch) -> AsyncIterator[Bot]:
    """A page with short limits."""
    monkeypatch.setattr(doors, "HEADERS_S", 0.5)
    monkeypatch.setattr(module, "STUCK_S", 0.5)
    bot = Bot()
    bot.url = f"http://127.0.0.1:{await bot.dashboard.start()}"
    yield bot
    await bot.dashboard.close()


@pytest.mark.parametrize("sent", [b"", b"GET /xx", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-a: ",
                                  b"GET /icon.svg HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"])  # fmt: skip
async def test_a_connection_that_asks_for_nothing_is_closed_after_the_limit_even_when_it_dribbles(hasty, sent):
    reader, writer = await asyncio.open_connection(*address(hasty))
    writer.write(sent)
    began = perf_counter()

    async def dribble() -> None:
        while sent and not sent.endswith(b"\r\n\r\n"):
            await asyncio.sleep(0.1)
            writer.write(b"x" if sent.startswith(b"GET") else b"")

    dribbling = asyncio.create_task(dribble())
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(5):
            while await reader.read(65_536):
                pass
    dribbling.cancel()
    writer.close()

    assert 0.4 < perf_counter() - began < 3


@pytest.mark.parametrize("path", ["/events", "/lightweight-charts.js"])
async def test_who_does_not_read_is_dropped(hasty, monkeypatch, path):
    monkeypatch.setattr(module, "FRAME_S", 0.01)
    hasty.state["counters"] = {f"a counter with a long name {i}": i for i in range(10_000)}
    before = open_files()
    silent = []
    for _ in range(4):
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        one.setblocking(False)
        await asyncio.get_running_loop().sock_connect(one, address(hasty))
        one.send(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode() * (1 if path == "/events" else 40))
        silent.append(one)

    for _ in range(100):
        hasty.hub.publish()
        await asyncio.sleep(0.05)
        if open_files() - before <= len(silent):
            break

    assert open_files() - before <= len(silent)
    assert not hasty.dashboard._browsers
    for one in silent:
        one.close()


async def test_when_every_place_is_at_work_a_new_connection_is_closed_at_once(bot, client, monkeypatch):
    bot.dashboard._gate._limit = 2
    streams = [await client.get(f"{bot.url}/events") for _ in range(2)]

    assert await raw(bot, b"GET /icon.svg HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n") == b""

    for stream in streams:
        stream.close()


# The operator -----------------------------------------------------------------------------------------------------------


async def test_strangers_on_every_place_keep_neither_a_new_page_nor_the_operators_out(bot, client):
    strangers = [await client.get(f"{bot.url}/events") for _ in range(module.MAX_BROWSERS)]
    async with client.get(f"{bot.url}/events") as new:
        assert new.status == 200
    async with client.get(f"{bot.url}/api/pass", headers=OPERATOR) as response:
        shown = (await response.json())["pass"]

    own = await client.get(f"{bot.url}/events?pass={shown}")
    # They come again and again.
    strangers += [await client.get(f"{bot.url}/events") for _ in range(2 * module.MAX_BROWSERS)]

    assert sum(browser.operators for browser in bot.dashboard._browsers) == 1
    assert len(bot.dashboard._browsers) <= module.MAX_BROWSERS
    assert await own.content.readline() == b"event: status\n"
    for response in (own, *strangers):
        response.close()


async def test_the_pass_is_for_who_has_the_token_and_is_no_token(bot, client):
    async with client.get(f"{bot.url}/api/pass") as response:
        assert response.status == 403
    async with client.get(f"{bot.url}/api/pass", headers=OPERATOR) as response:
        shown = (await response.json())["pass"]

    async with client.post(f"{bot.url}/api/command", data=b'{"name": "arm"}', headers={"X-Token": shown}) as response:
        assert response.status == 403


async def test_guests_who_ask_too_much_wait_and_are_asked_to_come_back_and_the_operator_does_not(bot, client):
    bot.dashboard._ration.spend(10.0)

    async with client.get(f"{bot.url}/api/status") as response:
        refused = response.status, int(response.headers["Retry-After"]), await response.json()
    began = perf_counter()
    async with client.post(f"{bot.url}/api/command", data=b'{"name": "flatten"}', headers=OPERATOR) as response:
        answered = response.status

    assert refused[0] == 429
    assert 90 <= refused[1] <= 100
    assert refused[2]["error"].startswith("the page is busy")
    assert answered == 202
    assert perf_counter() - began < 1


async def test_the_ration_gives_a_share_of_the_time_and_a_burst():
    ration = Ration(share=0.5, burst_s=0.1)
    began = perf_counter()
    for _ in range(5):
        await ration.turn()
        ration.spend(0.1)

    assert 0.55 < perf_counter() - began < 1.5  # 0.5 s of work, 0.1 at once, the last one's share not waited for
    ration.spend(5)
    with pytest.raises(DoorRefusal) as refused:
        await ration.turn()
    assert refused.value.status == 429


async def test_hammering_clients_take_a_tenth_of_the_loop(bot):
    """Six clients ask for the largest chart as fast as they can."""
    close_bars(bot, 6_000)
    charts = 0

    async def hammer() -> None:
        nonlocal charts
        async with aiohttp.ClientSession() as session:
            while True:
                async with session.get(f"{bot.url}/api/chart?symbol=BTCUSDT&last=20000") as response:
                    charts += response.status == 200
                    body = await response.read()
                    assert response.status == 429 or len(json.loads(body)["time"]) == module.MOST_BARS

    spent = bot.dashboard._ration
    before = perf_counter()
    taken = 0.0
    original = spent.spend

    def count(seconds: float) -> None:
        nonlocal taken
        taken += seconds
        original(seconds)

    spent.spend = count
    hammers = [asyncio.create_task(hammer()) for _ in range(6)]
    await asyncio.sleep(3)
    for task in hammers:
        task.cancel()
    results = await asyncio.gather(*hammers, return_exceptions=True)

    assert all(isinstance(result, asyncio.CancelledError) for result in results), results
    assert charts >= 6
    assert taken <= doors.BURST_S + doors.SHARE * (perf_counter() - before) + 0.3


async def test_a_chart_made_in_parts_is_the_same_and_is_made_once_for_all(bot, client):
    close_bars(bot, 40)
    made = 0
    original = bot.live.chart

    def counted(*args, **named):
        nonlocal made
        made += 1
        return original(*args, **named)

    bot.live.chart = counted

    async def chart() -> dict:
        async with client.get(f"{bot.url}/api/chart?symbol=BTCUSDT&last=30") as response:
            return await response.json()

    answers = await asyncio.gather(*(chart() for _ in range(5)))

    assert made == 1
    assert all(answer == answers[0] for answer in answers)
    assert answers[0] == json.loads(module.dumps(bot.live.tapes["BTCUSDT"].payload(last=30)))
    close_bars(bot, 41)
    assert (await chart())["time"][-1] > answers[0]["time"][-1]
    assert made == 2


def test_the_gate_is_the_protocol_of_a_connection_until_there_is_a_handler():
    assert issubclass(DoorGate, asyncio.Protocol)


@pytest.mark.slow
@pytest.mark.wire
@pytest.mark.parametrize("terminal", [True, False])
async def test_the_token_is_shown_on_a_terminal_alone_and_elsewhere_its_file_is_named(tmp_path, terminal):
    reader, writer = pty.openpty() if terminal else os.pipe()
    words = ["run", "--venue", "sim", "--speed", "max", "--once", "--port", "0", "--log-format", "json"]
    words += ["--from", "2024-01-09T10:00", "--to", "2024-01-09T11:00"]

    bot = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bot", *words), cwd=ROOT, env={**os.environ, "BOT_DATA": str(tmp_path)},
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=writer,
    )  # fmt: skip
    os.close(writer)
    said = (await asyncio.to_thread(everything, reader)).decode()
    code = await bot.wait()

    assert code == 0, said
    assert "dashboard: http://127.0.0.1:" in said
    assert ("#token=" in said) is terminal
    assert (f"the token is in {tmp_path / 'token'}" in said) is not terminal


def everything(reader: int) -> bytes:
    """Return what comes until the other end is closed."""
    seen = b""
    while True:
        try:
            chunk = os.read(reader, 65_536)
        except OSError:  # so ends a terminal
            chunk = b""
        if not chunk:
            os.close(reader)
            return seen
        seen += chunk
