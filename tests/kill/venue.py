"""The exchange's process: the embedded exchange on a scenario, run for so long as it is told to, and asked for its state.

Orders from whoever runs the matrix come as JSON lines on a socket: `run` (ms; the clock is then held), `died` (the bot is
gone: let what it sent arrive, then run so long without one), `quit`. Each is answered with the exchange's state.
"""

import asyncio
import json
import logging
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import bot.sim.clock
import bot.sim.server
from bot.sim.server import Exchange
from tests.kill.lockstep import Bell, Cells, ExchangeHalf, SharedClock
from tests.kill.scenarios import Scenario

LOG = logging.getLogger(__name__)
STEP_MS = 200  # how much longer the clock runs while a request of the dead bot is still under way
KEY, SECRET = "kill-key", "kill-secret"


class VenueProcess:
    """The exchange and the orders that it is given."""

    def __init__(self, scenario: Scenario, cells: Cells) -> None:
        SharedClock.cells = cells
        bot.sim.server.ReplayClock = SharedClock  # the clock tells its time in shared memory
        bot.sim.clock.BUSY_POLLS, bot.sim.clock.QUIET_WITHIN_S = 30, 60.0  # two processes share the cores
        self.activity = ExchangeHalf(cells)
        self.exchange = Exchange(
            scenario.bars, from_ms=scenario.start_ms, to_ms=scenario.end_ms, wallet=scenario.wallet, api_key=KEY,
            api_secret=SECRET, activity=self.activity, stepped=True, depth_notional=scenario.depth_notional,
            forming_klines=False,
        )  # fmt: skip
        self._attached, self._started = asyncio.Event(), asyncio.Event()
        self._open = 0
        serve = self.exchange.traffic.serve

        async def counted(call: Any) -> Any:
            self._open += 1
            try:
                return await serve(call)
            finally:
                self._open -= 1

        self.exchange.traffic.serve = counted  # type: ignore[method-assign]

    async def main(self, control: socket.socket, path: Path) -> None:
        """Serve until told to quit."""
        loop = asyncio.get_running_loop()
        port = await self.exchange.listen("127.0.0.1", 0)
        clock = self.exchange.clock
        server = await loop.create_unix_server(lambda: Bell(clock, self.activity, self._word), str(path))
        reader, writer = await asyncio.open_unix_connection(sock=control)
        writer.write(json.dumps({"port": port}).encode() + b"\n")
        running: asyncio.Task[None] | None = None
        while line := await reader.readline():
            order = json.loads(line)
            if running is not None:
                running.cancel()
                with suppress(asyncio.CancelledError):
                    await running
            if order["do"] == "quit":
                break
            running = asyncio.create_task(self._obey(order, writer))
        server.close()
        await self.exchange.close()

    def _word(self, word: str) -> None:
        if word == "attach":
            self.activity.attach()
            self._attached.set()
        elif word == "start":
            if self.exchange.driver is None:
                self.exchange.start()
            self._started.set()

    async def _obey(self, order: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        try:
            answer = await self._answer(order)
        except Exception as error:
            LOG.exception("an order could not be carried out")
            answer = {"error": f"{type(error).__name__}: {error}"}
        writer.write(json.dumps(answer).encode() + b"\n")

    async def _answer(self, order: dict[str, Any]) -> dict[str, Any]:
        if order["do"] == "died":
            await self._bury()
        else:
            await self._attached.wait()
            await self._started.wait()
        if self.exchange.driver is not None:
            await self._run(order["ms"])
            while order["do"] == "died" and self._open:
                await self._run(STEP_MS)
        return self.exchange.state()

    async def _run(self, ms: int) -> None:
        """Let the clock run for so long, then hold it."""
        clock, reached = self.exchange.clock, asyncio.Event()

        def stop() -> None:
            self.activity.held = True
            reached.set()

        item = clock.at(min(clock.time_ms + ms, self.exchange.end_ms - 1), stop, name="pause", rank=9)
        self.activity.held = False
        waits = [asyncio.ensure_future(reached.wait()), asyncio.ensure_future(self.exchange.finished())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if waits[1].done():
                waits[1].result()
        finally:
            item.cancel()
            for wait in waits:
                wait.cancel()

    async def _bury(self) -> None:
        """Read what the dead bot has still sent, until all its connections are closed; then nobody is waited for."""
        server = self.exchange._door._runner.server
        async with asyncio.timeout(20):
            # A handler whose request is still under way outlives its connection.
            while any(c.transport is not None for c in server.connections) or self.exchange.hub.sockets:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            for _ in range(5):
                await asyncio.sleep(0.001)
        self.activity.attached = False
        self._attached.clear()


def serve(scenario: Scenario, cells: Cells, control: socket.socket, folder: Path) -> None:
    """Be the exchange's process; never returns."""
    logging.basicConfig(filename=folder / "exchange.log", level=logging.WARNING, force=True)
    code = 1
    try:
        asyncio.run(VenueProcess(scenario, cells).main(control, folder / "clock"))
        code = 0
    except BaseException:
        LOG.exception("the exchange's process failed")
    finally:
        os._exit(code)
