"""One trade of a real `python -m bot run` through a lying proxy, on the market's own time: eleven lies one after the other."""

import asyncio
import os
import signal
import socket
import sys
from dataclasses import dataclass

import orjson
import pytest

from tests.conftest import ROOT
from tests.hostile import lies
from tests.hostile.liar import Lie, Phantom, ReplyLie
from tests.hostile.lies import YEAR_2100, raw, wrapped

pytestmark = [pytest.mark.wire, pytest.mark.nightly]
SIGNAL_MS = 1_704_816_720_000  # a long of the synthetic month that lives for half an hour
LEAD_MS = 240_000  # for the bot's start on a busy machine
TIMEOUT_MINUTES = 4.0  # the trade's end by time, after the last lie
LASTS_MS, REST_S = 6_000, 9.0
BARE_MS = 1_500


@dataclass(frozen=True)
class Step:
    """One lie, and what it is called."""

    number: str
    title: str
    lies: tuple[Lie, ...]


def reply(endpoint: str, spoil: lies.Spoil) -> ReplyLie:
    """Return a lie of six seconds."""
    return ReplyLie(endpoint, spoil, ms=LASTS_MS)


def flat(scene: object) -> list[bytes]:
    """An account update that says flat."""
    now = scene.now_ms
    row = {"s": "BTCUSDT", "cr": "0", "mt": "isolated", "ps": "BOTH", "ma": "USDT", "bep": "0", **lies.FLAT}
    balance = {"a": "USDT", "wb": "998.9", "cw": "998.9", "bc": "0"}
    return [orjson.dumps({"e": "ACCOUNT_UPDATE", "E": now, "T": now, "a": {"m": "ORDER", "B": [balance], "P": [row]}})]


def late_bar(scene: object) -> list[bytes]:
    """A closed bar of the year 2100."""
    open_ms = YEAR_2100 // 180_000 * 180_000
    bar = {"t": open_ms, "T": open_ms + 179_999, "s": "BTCUSDT", "i": "3m", "o": "54520", "c": "54530", "h": "54560",
           "l": "54500", "v": "10", "n": 5, "x": True, "q": "1", "V": "5", "Q": "1", "f": 1, "L": 2, "B": "0"}  # fmt: skip
    return [wrapped("market", {"e": "kline", "E": YEAR_2100, "s": "BTCUSDT", "k": bar})]


EMPTY = tuple(
    reply(name, lies.LIST) for name in ("positionRisk", "openAlgoOrders", "openOrders", "userTrades", "balance")
)
STEPS = (
    Step("HP-01", "positionRisk answers `[]`", (reply("positionRisk", lies.LIST),)),
    Step("HP-02", "positionRisk answers an empty body", (reply("positionRisk", lies.EMPTY),)),
    Step("HP-03", "positionRisk answers `null`", (reply("positionRisk", lies.NULL),)),
    Step("HP-04", "openAlgoOrders answers `[]`", (reply("openAlgoOrders", lies.LIST),)),
    Step("HP-05", "balance tells 0", (reply("balance", lies.fields(balance="0")),)),
    Step("HP-06", "userTrades answers a page of HTML", (reply("userTrades", lies.PAGE),)),
    Step("HP-07", "every read of the account answers `[]`", EMPTY),
    Step("HP-08", "ACCOUNT_UPDATE says flat", (Phantom("private", flat),)),
    Step("HP-09", "positionRisk answers `[]` and the stream says flat",
         (reply("positionRisk", lies.LIST), Phantom("private", flat))),
    Step("HP-10", "a closed bar of the year 2100", (Phantom("market", late_bar),)),
    Step("HP-11", "junk on all streams", tuple(raw(f, b"<html>", b"[]", b"null") for f in ("market", "public", "private"))),
)  # fmt: skip


def free_port() -> int:
    """Return a port that nobody uses now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Trade:
    """An exchange, a proxy and a bot; what counts is `/sim/state`."""

    def __init__(self, folder, klines):
        self.folder, self.klines = folder, klines
        self.processes = []

    async def start(self):
        from tests.hostile.proxy import Proxy

        port = free_port()
        self.exchange = await self.run(
            "exchange", "exchange", "--port", str(port), "--klines", str(self.klines), "--from", str(SIGNAL_MS - LEAD_MS),
            "--speed", "1",
        )  # fmt: skip
        for _ in range(240):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                break
            except OSError:
                await asyncio.sleep(0.25)
        self.proxy = Proxy(port)
        await self.proxy.open()
        base = f"127.0.0.1:{self.proxy.port}"
        self.bot = await self.run(
            "bot", "run", "--venue", "testnet", "--no-dashboard", "--log-format", "json",
            "--set", f"venue.testnet.rest_url=http://{base}", "--set", f"venue.testnet.stream_url=ws://{base}",
            "--set", "jobs.reconcile_seconds=3", "--set", f"trade.timeout_minutes={TIMEOUT_MINUTES}",
        )  # fmt: skip

    async def run(self, name, *words):
        keys = {"BINANCE_API_KEY": "sim-key", "BINANCE_API_SECRET": "sim-secret"}
        env = {**os.environ, **keys, "BOT_DATA": str(self.folder / name), "BOT_STATE": str(self.folder / "state")}
        with (self.folder / f"{name}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "bot", *words, cwd=ROOT, stdout=log, stderr=log, env=env
            )
        self.processes.append(process)
        return process

    async def state(self):
        return await self.proxy.ask("/sim/state")

    async def until(self, held, within_s):
        """Wait until BTC is held, or is not."""
        for _ in range(int(within_s * 2)):
            state = await self.state()
            if any(float(p["positionAmt"]) for p in state["positions"] if p["symbol"] == "BTCUSDT") is held:
                return state
            assert self.bot.returncode is None, self.log()
            await asyncio.sleep(0.5)
        raise AssertionError(f"{'no position' if held else 'still held'} after {within_s} s: {self.log()}")

    def log(self):
        return (self.folder / "bot.log").read_text()[-3_000:]

    async def close(self):
        for process in reversed(self.processes):
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
                try:
                    await asyncio.wait_for(process.wait(), 40)
                except TimeoutError:
                    process.kill()
                    await process.wait()
        await self.proxy.close()


def picture(state):
    """Positions and how many stops guard each."""
    held = {p["symbol"]: p["positionAmt"] for p in state["positions"] if float(p["positionAmt"])}
    stops = [a["symbol"] for a in state["algo_orders"] if a["algoStatus"] == "NEW"]
    return {symbol: (qty, stops.count(symbol)) for symbol, qty in held.items()}


def bare(before, after):
    """For how long any position was without its stops from one state to another, ms."""
    spent = {symbol: spell["total"] for symbol, spell in before["naked_ms"].items()}
    return max(spell["total"] - spent[symbol] for symbol, spell in after["naked_ms"].items())


@pytest.mark.timeout(1_200)
async def test_a_real_bot_goes_on_through_eleven_lies_and_ends_its_trade_by_time(tmp_path):
    klines = tmp_path / "klines"
    trade = Trade(tmp_path, klines)
    market = await trade.run("market", "synth", "--out", str(klines), "--days", "30")
    assert await market.wait() == 0
    faults = []
    try:
        await trade.start()
        await trade.until(held=True, within_s=420)
        await asyncio.sleep(8)
        for step in STEPS:
            before = await trade.state()
            trade.proxy.liar.forget()
            for lie in step.lies:
                trade.proxy.liar.add(lie)
            await asyncio.sleep(LASTS_MS / 1_000 + REST_S)
            after = await trade.state()
            if trade.bot.returncode is not None:
                faults.append(f"{step.number} {step.title}: the process ended")
                break
            if (spell := bare(before, after)) > BARE_MS:
                faults.append(f"{step.number} {step.title}: bare for {spell} ms")
            if picture(after) != picture(before):
                faults.append(f"{step.number} {step.title}: {picture(before)} became {picture(after)}")
            if not all(trade.proxy.liar.told):
                faults.append(f"{step.number} {step.title}: lied {trade.proxy.liar.told} times")
        assert faults == [], trade.log()
        trade.proxy.liar.forget()
        ended = await trade.until(held=False, within_s=TIMEOUT_MINUTES * 60)
        await asyncio.sleep(5)
        left = picture(await trade.state())
    finally:
        await trade.close()

    exits = [f["clientOrderId"] for f in ended["fills"] if f["symbol"] == "BTCUSDT"]
    assert exits[-1].split("-")[1] == "xx"
    assert left == {}
