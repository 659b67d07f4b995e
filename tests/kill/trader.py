"""The bot's process: the ordinary bot with a script for indicators, which kills itself at the point that it is told to.

A point lies before and after each commit of the journal, and before a request, after its bytes are with the system, and
when its reply has come but has not been read. Rows of one transaction reach the file together, so killing between two of them
is killing before their commit. The points are wrapped around the product from outside; nothing in it knows of them.
"""

import asyncio
import os
import re
import signal
import sys
import tempfile
import traceback
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp.client_reqrep import ClientRequest

import bot.app.recovery
import bot.app.run
import bot.app.venues
from bot.app.account_lock import account_lock
from bot.app.credentials import Credentials
from bot.app.loop import Loop
from bot.app.options import RunOptions
from bot.app.run import run_bot
from bot.app.venues import TradingVenue
from bot.config import Config, parse
from bot.execution.tasks import Tasks
from bot.journal import Journal
from tests.kill.lockstep import BOT, AwakeSelector, Cells, Half, RemoteClock
from tests.kill.scenarios import Scenario
from tests.kill.venue import KEY, SECRET

CLIENT_ID = re.compile(r"(?:[cC]lient\w*Id)=rb[A-Z]-([a-z]{2}-\d)")


class Points:
    """Counts the points that this process passes and kills it at one of them.

    Parameters
    ----------
    at
        Number of the point to die at, 0 for none.
    by
        The signal that it sends itself there.
    """

    def __init__(self, cells: Cells, trace: Path, at: int, by: signal.Signals = signal.SIGKILL) -> None:
        self._cells, self._at, self._by = cells, at, by
        self._file = trace.open("w", buffering=1)
        self.passed = 0

    def __call__(self, label: str) -> None:
        self.passed += 1
        self._file.write(f"{self.passed}\t{self._cells[2]}\t{label}\n")
        if self.passed == self._at:
            os.kill(os.getpid(), self._by)

    def install(self) -> None:
        """Wrap journal and requests."""
        self._wrap_journal()
        self._wrap_requests()

    def _wrap_journal(self) -> None:
        commit, append_event, append_outputs = Journal.commit, Journal.append_event, Journal.append_outputs
        rows: list[str] = []

        def noted_event(journal: Journal, event: Any) -> int:
            rows.append(type(event).__name__)
            return append_event(journal, event)

        def noted_outputs(journal: Journal, seq: int, outputs: Any, **more: Any) -> bool:
            rows.extend(f"{type(o).__name__}:{o.client_id[4:8]}" for o in outputs if hasattr(o, "client_id"))
            return append_outputs(journal, seq, outputs, **more)

        def killing(journal: Journal) -> None:
            if not journal._db.in_transaction:
                commit(journal)
                return
            label = " ".join(dict.fromkeys(rows))
            rows.clear()
            self(f"before commit: {label}")
            commit(journal)
            self(f"after commit: {label}")

        Journal.commit, Journal.append_event = killing, noted_event  # type: ignore[method-assign, assignment]
        Journal.append_outputs = noted_outputs  # type: ignore[method-assign, assignment]

    def _wrap_requests(self) -> None:
        request, send, write_bytes = aiohttp.ClientSession._request, ClientRequest.send, ClientRequest.write_bytes

        def label_of(method: str, url: Any, body: Any) -> str:
            found = CLIENT_ID.search(f"{url} {body}")
            return f"{method} {url.path if hasattr(url, 'path') else str(url).partition('?')[0]} {found[1] if found else ''}"

        async def asked(session: Any, method: str, url: Any, **more: Any) -> Any:
            label = label_of(method, url, f"{more.get('params')} {more.get('data')}")
            self(f"before request: {label}")
            response = await request(session, method, url, **more)
            self(f"reply has come: {label}")
            return response

        async def sent(self_: Any, connection: Any) -> Any:
            response = await send(self_, connection)
            if not self_._body:
                self(f"request is sent: {label_of(self_.method, self_.url, '')}")
            return response

        async def written(self_: Any, *args: Any, **more: Any) -> Any:
            await write_bytes(self_, *args, **more)
            self(f"request is sent: {label_of(self_.method, self_.url, getattr(self_._body, '_value', ''))}")

        aiohttp.ClientSession._request = asked  # type: ignore[method-assign, assignment]
        ClientRequest.send, ClientRequest.write_bytes = sent, written  # type: ignore[method-assign]


def _patient_handshakes() -> None:
    """Count a handshake for as long as it takes: on a busy machine two processes need more than a quarter of a second."""
    counted = Tasks.counted
    Tasks.counted = lambda self, at_most_s: counted(self, 60.0)  # type: ignore[method-assign]


def _uncounted_start() -> None:
    """Do not count what waits in the queue while the bot starts: it is handled when the account has been read."""
    emit, run = Loop.emit, Loop.run
    begun: list[Loop] = []

    def uncounted(loop: Loop, event: Any) -> None:
        waiting = len(loop._queue)
        emit(loop, event)
        if not begun and len(loop._queue) > waiting:
            loop.activity.end()

    async def counted(loop: Loop) -> None:
        begun.append(loop)
        loop.activity.begin(len(loop._queue))
        await run(loop)

    Loop.emit, Loop.run = uncounted, counted  # type: ignore[method-assign]


async def _venue(config: Config, options: RunOptions, stack: AsyncExitStack, *, clock: RemoteClock, cells: Cells,
                 port: int, folder: Path) -> TradingVenue:  # fmt: skip
    loop = asyncio.get_running_loop()
    address = f"http://127.0.0.1:{port}"
    stack.enter_context(account_lock(KEY, address))
    await loop.create_unix_connection(lambda: clock, str(folder / "clock"))
    clock.say("attach")
    return TradingVenue(
        name="testnet",
        rest_url=address,
        stream_url=f"ws://127.0.0.1:{port}",
        credentials=Credentials(KEY, SECRET),
        account=address,
        clock=clock,
        activity=Half(cells, BOT),
        resume=True,
        headers={"X-Stepped": "1"},
        start=lambda: clock.say("start"),
        meta={"source": address},
    )


def trade(
    scenario: Scenario, cells: Cells, *, port: int, folder: Path, kill_at: int, by: signal.Signals, name: str
) -> None:
    """Be the bot's process; never returns.

    Parameters
    ----------
    folder
        Its data, and the clock's socket; `name` is that of its log and of its list of points.
    """
    log = os.open(folder / f"{name}.log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    code = 1
    try:
        os.environ |= {"BOT_DATA": str(folder / "data"), "BINANCE_API_KEY": KEY, "BINANCE_API_SECRET": SECRET}
        tempfile.tempdir = str(folder)  # the account's lock goes with the point
        clock = RemoteClock(cells)
        config = parse("", overrides=scenario.overrides)

        async def venue(config: Config, options: RunOptions, stack: AsyncExitStack) -> TradingVenue:
            return await _venue(config, options, stack, clock=clock, cells=cells, port=port, folder=folder)

        bot.app.venues.VENUES["testnet"] = venue
        bot.app.recovery.EarlyFeatures = lambda *_, **__: scenario.script()  # type: ignore[assignment, misc]
        bot.app.run.compile_kernels = lambda *_, **__: 0.0  # the process that forked this one has them
        _patient_handshakes()
        _uncounted_start()
        Points(cells, folder / f"{name}.points", kill_at, by).install()
        loop = asyncio.SelectorEventLoop(AwakeSelector(cells))
        asyncio.set_event_loop(loop)
        code = loop.run_until_complete(run_bot(config, RunOptions("testnet", dashboard=False, quiet=True)))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
