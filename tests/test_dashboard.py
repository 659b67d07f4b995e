"""The dashboard: what it serves, whom it refuses, and that no browser can hold the bot up."""

import asyncio
import json
import re
import socket
import time
from collections.abc import AsyncIterator
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from yarl import URL

from bot.config import Config
from bot.core.errors import BotError
from bot.core.events import Fill, KlineClosed
from bot.core.intents import Alert
from bot.core.records import Decision, EquityPoint, TradeFill, TradeRecord
from bot.core.types import Kline, OrderSide, Side
from bot.report import dashboard as module
from bot.report.browser import EquitySeries
from bot.report.charts import modules
from bot.report.dashboard import Dashboard
from bot.report.hub import Hub
from bot.report.live import Live
from bot.strategy.kernel import COLUMNS

D = Decimal
STATIC = Path(module.__file__).with_name("static")
TOKEN = "a-token-of-this-test"


def trade(trade_id: str = "1") -> TradeRecord:
    fill = TradeFill(5, "BTCUSDT", "en", "BUY", D("0.012"), D("60000.1"), D("0.14"), True)
    prices = "plan_entry plan_stop plan_qty uncut_qty qty entry_price exit_price stop tp1 tp2 risk_quote pnl alpha_pnl"
    money = dict.fromkeys([*prices.split(), "hedge_pnl", "fees", "funding"], D("1.5"))
    ratios = "r_multiple alpha_r hedge_r expected_cost_r net_beta max_favourable_r max_adverse_r"
    return TradeRecord(
        trade_id,
        "BTCUSDT",
        Side.LONG,
        1,
        5,
        9,
        "tp2",
        **money,
        **dict.fromkeys(ratios.split(), 0.5),
        naked_ms=9,
        fills=(fill,),
    )


class Bot:
    """A dashboard with what it needs from the bot, and a client towards it."""

    def __init__(self) -> None:
        self.hub = Hub()
        self.commands: list[tuple[str, dict[str, Any]]] = []
        self.asked = 0
        self.state: dict[str, Any] = {"venue": "sim", "equity": D("1000.5"), "at_ms": 1_700_000_000_000}
        self.live = Live(Config())
        self.dashboard = self.make()
        self.url = ""

    def make(self, port: int = 0) -> Dashboard:
        return Dashboard(
            self.hub,
            host="127.0.0.1",
            port=port,
            token=TOKEN,
            snapshot=self.snapshot,
            trades=lambda: [trade()],
            command=lambda name, args: self.commands.append((name, args)),
            live=self.live,
        )

    def snapshot(self) -> dict[str, Any]:
        self.asked += 1
        return self.state


@pytest.fixture
async def bot() -> AsyncIterator[Bot]:
    bot = Bot()
    port = await bot.dashboard.start()
    bot.url = f"http://127.0.0.1:{port}"
    yield bot
    await bot.dashboard.close()


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def frames(response: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, Any]]:
    name = ""
    async for raw in response.content:
        text = raw.decode().rstrip("\n")
        if text.startswith("event: "):
            name = text[7:]
        elif text.startswith("data: "):
            yield name, json.loads(text[6:])


async def test_status_trades_equity_and_health_are_json(bot, client):
    bot.hub.publish(EquityPoint(7, D("1000"), D("1001.5"), D("1002"), 0.0))
    await asyncio.sleep(0.05)

    async with client.get(f"{bot.url}/api/status") as response:
        status = await response.json()
    async with client.get(f"{bot.url}/api/trades?last=1") as response:
        trades = await response.json()
    async with client.get(f"{bot.url}/api/equity") as response:
        equity = await response.json()
    async with client.get(f"{bot.url}/health") as response:
        health = await response.json()

    assert status["mode"].startswith("SIMULATION")
    assert status["money"]["equity"] == 1000.5
    assert [len(status["sides"][side]["lights"]) for side in ("long", "short")] == [6, 6]
    assert trades[0]["fills"][0]["price"] == 60000.1
    assert equity == [[7, 1001.5]]
    assert health == {"ok": True, "venue": "sim", "clock_ms": 1_700_000_000_000, "feeds_lost": []}


async def test_health_is_unwell_when_a_stream_is_lost(bot, client):
    bot.state["limits"] = {"feeds_lost": {"market": "silent"}}

    async with client.get(f"{bot.url}/health") as response:
        assert (response.status, (await response.json())["ok"]) == (503, False)


async def test_a_browser_first_gets_everything_and_then_what_is_new(bot, client):
    async with client.get(f"{bot.url}/events") as response:
        stream = frames(response)
        first = [await anext(stream) for _ in range(4)]

        bot.state["equity"] = np.float64(1010.0)
        fill = Fill(6, "rbS-en-0", "BTCUSDT", OrderSide.BUY, D("0.012"), D("60000.1"), D("0.14"), True, 1)
        bot.hub.publish(fill, trade("2"), EquityPoint(7, D(1000), D(1010), D(1010), 0.1))
        then = dict([await anext(stream) for _ in range(4)])

    assert [name for name, _ in first] == ["status", "trades", "equity", "news"]
    assert then["status"]["money"]["equity"] == 1010.0
    assert then["point"] == [[7, 1010.0]]
    assert then["trade"][0]["trade_id"] == "2"
    assert "filled BUY" in then["news"][0]["text"]


async def test_a_storm_of_changes_costs_few_snapshots_and_nobody_watching_none(bot, client):
    for _ in range(100):
        bot.hub.publish()
    await asyncio.sleep(0.05)
    assert bot.asked == 0

    responses = [await client.get(f"{bot.url}/events") for _ in range(3)]
    for _ in range(50):
        bot.hub.publish()
        await asyncio.sleep(0.01)

    assert bot.asked <= 8  # three to begin with, then four a second for all together
    for response in responses:
        response.close()


async def test_a_browser_that_does_not_read_never_holds_the_bot_up(bot, client, monkeypatch):
    monkeypatch.setattr(module, "FRAME_S", 0.001)
    bot.state["counters"] = {f"a counter with a long name {i}": i for i in range(3000)}  # 100 kB a frame
    response = await client.get(f"{bot.url}/events")
    slowest = 0.0

    for _ in range(300):
        then = time.perf_counter()
        bot.hub.publish()
        slowest = max(slowest, time.perf_counter() - then)
        await asyncio.sleep(0.002)

    assert slowest < 0.2
    assert all(browser._lost for browser in bot.dashboard._browsers)
    response.close()


def close_bars(bot, count, symbol="BTCUSDT"):
    """Close bars of a quiet market, and tell the hub."""
    for i in range(count):
        open_ms = 1_700_000_100_000 + 180_000 * i
        bar = Kline(symbol, 180_000, open_ms, 100.0, 101.5, 99.5, 100.0 + i / 2, 5.0, 2.5)
        bot.live.take(KlineClosed(bar.close_ms, bar), np.zeros(len(COLUMNS)))
    bot.hub.publish()


async def test_a_page_gets_the_newest_bars_and_later_what_it_lacks(bot, client):
    async with client.get(f"{bot.url}/events") as response:
        stream = frames(response)
        for _ in range(4):
            await anext(stream)
        close_bars(bot, 5)
        told = dict([await anext(stream) for _ in range(2)])

    async def chart(query: str) -> tuple[int, dict[str, Any]]:
        async with client.get(f"{bot.url}/api/chart?{query}") as response:
            return response.status, await response.json()

    status, first = await chart("symbol=BTCUSDT&last=3")
    _, rest = await chart(f"symbol=BTCUSDT&after={first['time'][0] * 1000}")

    assert told["bars"]["BTCUSDT"] == bot.live.newest()["BTCUSDT"]
    assert (status, first["close"], first["first"]) == (200, [101.0, 101.5, 102.0], 2)
    assert (rest["close"], rest["first"]) == ([101.5, 102.0], 3)
    assert (await chart("symbol=DOGE"))[0] == 404
    assert (await chart("symbol=BTCUSDT&last=x"))[0] == 400


async def test_a_bar_is_shown_as_it_was_decided(bot, client):
    close_bars(bot, 3)
    flags = (True, False, True, True, False, True)
    values = {"om_hyperwave": 31.2, "om_signal": 30.1, "so_trail": 101.0, "so_trail_dir": 1.0}
    decision = Decision(9, 1_700_000_280_000, flags, (False,) * 6, 0, "no_signal", "4 of six long", values)
    bot.live._decision = lambda open_ms: decision if open_ms == decision.open_ms else None

    async with client.get(f"{bot.url}/api/bar?open_ms={decision.open_ms}") as response:
        seen = await response.json()
    async with client.get(f"{bot.url}/api/bar?open_ms=7") as response:
        missing = response.status, await response.json()
    async with client.get(f"{bot.url}/api/bar") as response:
        assert response.status == 400

    lights = seen["sides"]["long"]["lights"]
    assert [light["on"] for light in lights] == list(flags)
    assert lights[2]["number"] == "HW 31.2 > 30.1: crossed below 50"
    assert lights[5]["number"] == "▲ close 100.5 < 101"
    assert seen["verdict"]["reason"] == "4 of six long"
    assert missing == (404, {"error": "nothing was decided on that bar in this session"})


async def test_the_state_says_how_long_each_condition_has_not_held(bot, client):
    close_bars(bot, 4)

    async with client.get(f"{bot.url}/api/status") as response:
        seen = await response.json()

    light = seen["sides"]["long"]["lights"][0]
    assert (light["since"], light["strip"]) == (None, "0000")
    assert seen["funnel"]["bars"] == 4
    assert seen["funnel"]["long"]["alone"] == [0] * 6


async def test_commands_need_the_token_and_a_known_name(bot, client):
    async def say(body: Any, token: str | None) -> tuple[int, dict[str, Any]]:
        headers = {} if token is None else {"X-Token": token}
        async with client.post(f"{bot.url}/api/command", data=body, headers=headers) as response:
            return response.status, await response.json()

    flatten = json.dumps({"name": "flatten", "args": {"by": "test"}})

    assert (await say(flatten, None))[0] == 403
    assert (await say(flatten, "wrong"))[0] == 403
    assert (await say("{", TOKEN))[0] == 400
    assert (await say(json.dumps({"name": "withdraw"}), TOKEN))[0] == 400
    assert (await say(json.dumps(["flatten"]), TOKEN))[0] == 400
    assert bot.commands == []
    assert await say(flatten, TOKEN) == (202, {"accepted": "flatten"})
    assert bot.commands == [("flatten", {"by": "test"})]


async def test_the_token_never_appears_in_anything_served(bot, client):
    bot.hub.publish(Alert("info", "hello"))
    for path in ("/", "/app.js", "/commands.js", "/api/status", "/health"):
        async with client.get(bot.url + path) as response:
            assert TOKEN not in await response.text()


async def test_a_foreign_name_that_points_here_is_turned_away(bot, client):
    for name, status in (("evil.example", 421), ("localhost:1", 200), ("127.0.0.1", 200)):
        async with client.get(f"{bot.url}/api/status", headers={"Host": name}) as response:
            assert response.status == status, name


async def test_only_the_pages_own_files_are_served_with_strict_headers(bot, client):
    async with client.get(f"{bot.url}/") as response:
        page = await response.text()
        policy = response.headers["Content-Security-Policy"]
    local = set(re.findall(r'(?:src|href)="(/[^"]+)"', page))

    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for path in sorted(local):
        async with client.get(bot.url + path) as response:
            assert response.status == 200, path
            assert response.headers["X-Content-Type-Options"] == "nosniff"
    for path in ("/nothing", "/dashboard.py", "/static/app.js"):
        async with client.get(bot.url + path) as response:
            assert response.status == 404
            assert response.headers["Content-Security-Policy"] == policy
    for path in ("/%2e%2e/dashboard.py", "/../dashboard.py"):
        async with client.get(URL(bot.url + path, encoded=True)) as response:
            assert response.status == 404


def test_the_page_loads_nothing_from_elsewhere_and_holds_nothing_inline():
    credit = 'href="https://www.tradingview.com/"'  # the link that the chart library's licence asks for
    for path in (STATIC / name for name in ("index.html", "style.css", "chart.css", "icon.svg", *modules("app.js"))):
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/", "")  # the name of SVG, not an address
        text = text.replace(credit, "")
        assert not re.search(r"https?://|//cdn", text), path.name
        assert "innerHTML" not in text
        assert "eval(" not in text
        assert path.suffix in module.TYPES
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<script(?![^>]* src=)|<style|style=|\son\w+=", page)
    assert 'name="viewport"' in page
    assert "prefers-color-scheme: dark" in (STATIC / "style.css").read_text(encoding="utf-8")


def test_the_page_has_every_element_that_its_modules_ask_for():
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    ids = set(re.findall(r'id="([\w-]+)"', page))
    texts = [(STATIC / name).read_text("utf-8") for name in modules("app.js")]
    asked = {name for text in texts for name in re.findall(r'byId\("([\w-]+)"\)', text)}
    imports = {name for text in texts for name in re.findall(r'from "/([\w.]+)"', text)}
    commands = set(re.findall(r'data-command="(\w+)"', page))

    assert asked <= ids
    assert all((STATIC / name).is_file() for name in imports)
    assert commands <= module.COMMANDS


async def test_a_port_in_use_is_one_sentence_with_the_way_out(bot):
    port = int(bot.url.rsplit(":", 1)[1])

    with pytest.raises(BotError, match=rf"port {port} for the dashboard is in use: .*--port") as caught:
        await bot.make(port).start()

    assert "\n" not in str(caught.value)


async def test_an_address_that_is_not_ours_is_one_sentence():
    dashboard = Dashboard(
        Hub(), host="203.0.113.1", port=0, token="t", snapshot=dict, trades=list, command=lambda name, args: None
    )

    with pytest.raises(BotError, match=r"cannot listen on 203\.0\.113\.1"):
        await dashboard.start()


async def test_close_ends_open_streams_and_frees_the_port(client):
    bot = Bot()
    port = await bot.dashboard.start()
    response = await client.get(f"http://127.0.0.1:{port}/events")
    began = time.perf_counter()

    await bot.dashboard.close()

    assert time.perf_counter() - began < 2
    assert bot.hub.watchers == 0
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", port))
    response.close()


async def test_when_many_watch_a_newcomer_takes_the_place_of_the_one_that_watched_longest(bot, client, monkeypatch):
    monkeypatch.setattr(module, "MAX_BROWSERS", 2)
    first = await client.get(f"{bot.url}/events")
    second = await client.get(f"{bot.url}/events")

    async with client.get(f"{bot.url}/events") as third:
        assert (await anext(frames(third)))[0] == "status"
        async with asyncio.timeout(5):
            async for _ in first.content:
                pass  # to the end of the stream
        assert len(bot.dashboard._browsers) == 2
    second.close()


async def test_an_odd_snapshot_does_not_end_the_watching(bot, client):
    async with client.get(f"{bot.url}/events") as response:
        stream = frames(response)
        for _ in range(4):
            await anext(stream)
        good, bot.state = bot.state, None

        bot.hub.publish()
        await asyncio.sleep(0.3)
        bot.state = good
        bot.hub.publish()

        assert (await anext(stream))[0] == "status"


def test_the_equity_line_keeps_the_whole_session_in_view():
    line = EquitySeries(capacity=100)

    for i in range(10_000):
        line.add(i, 1000.0 + i)

    times = [at_ms for at_ms, _ in line.points]
    assert 25 <= len(times) <= 100
    assert times == sorted(times)
    assert times[0] == 0
    assert times[-1] > 9000
    assert max(b - a for a, b in pairwise(times)) <= 10_000 / 25
