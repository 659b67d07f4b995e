"""Measure the latency from the frame of a closed bar to the bytes of its order, through the complete running bot.

The bot is the real one (loop, journal with its commit before each order, engine with all indicators of three symbols,
executor, gateway, python-binance); only the indicators' verdict is replaced, so that each bar is a signal. The exchange
runs in another process, on another core if there is one, and rejects every order for insufficient margin, so that the
next bar can be a signal again. Times are the bot's own timestamps: from the read of the frame's last byte to the
hand-over of the order's bytes; next to them the exchange's view, from writing the frame to receiving the order.

Between decisions, on the same core, a control runs a fixed amount of plain arithmetic that takes as long as their median.
It waits for nothing and always does the same work, so the excess of its 99th percentile over its median is caused by the
machine.

`--compiled` measures the engine compiled by `make fast`, `--tuned` a tuned machine: the bot at real-time priority (root),
and no core ever idle, because a virtual core wakes up late and runs unevenly afterwards.
"""

import argparse
import asyncio
import contextlib
import gc
import inspect
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from bench.clock import ROOT
from bot.app.credentials import Credentials
from bot.app.options import RunOptions
from bot.app.run import Bot
from bot.app.setup import configure_logging
from bot.app.venues import TradingVenue
from bot.config import Config, parse
from bot.core.activity import Activity
from bot.core.events import KlineClosed
from bot.engine import Engine
from bot.execution.clock import WallClock
from bot.execution.stamps import now_ns, percentile
from bot.journal import Journal
from bot.strategy.early import EarlyFeatures
from bot.strategy.features import FeatureRow
from tools import fast

HISTORY_BARS = 800
WARM_UP = 200  # the first decisions look up types and fill caches
CONTROL_AFTER_S = 0.010  # after an order, when its rejection has been handled
REALTIME = 50  # the middle of Linux's round-robin priorities
SPIN = "while True: pass"


class SignalRow:
    """A bar's real values, with the verdict replaced by a long signal on a block around the price."""

    def __init__(self, row: FeatureRow, close: float) -> None:
        self._row = row
        atr = close * 1e-3
        names = ("htf", "ob", "hw_cross", "no_overflow", "conf", "trail", "signal")
        self._own = {f"long_{name}": 1.0 for name in names} | {"short_signal": 0.0, "ready": 1.0, "atr14": atr}
        self._own |= {"long_ob_bottom": close - atr, "long_ob_top": close + atr, "long_ob_id": 7.0}

    def __getitem__(self, name: str) -> float:
        return self._own[name] if name in self._own else self._row[name]


class Signals(EarlyFeatures):
    """All indicators, and a signal on every live bar."""

    def step(self, event: KlineClosed) -> Any:
        row = super().step(event)
        return row if row is None or event.history else SignalRow(row, event.kline.close)


class Control:
    """A fixed amount of work that takes as long as the median of the first decisions; `taken` in ms."""

    def __init__(self) -> None:
        self.rounds = 0
        self.taken: list[float] = []

    def fit(self, ms: float) -> None:
        """Choose the amount of work so that it takes `ms` without interruption."""
        trials = [self.time(20_000) for _ in range(50)]
        self.rounds = max(int(20_000 * ms / percentile(trials, 0.5)), 1)

    def run(self) -> None:
        """Do the work once and record its time."""
        self.taken.append(self.time(self.rounds))

    @staticmethod
    def time(rounds: int) -> float:
        """Return the time of `rounds` rounds, ms."""
        began, total = now_ns(), 0
        for i in range(rounds):
            total += i & 255
        return (now_ns() - began) / 1e6


class BenchBot(Bot):
    """The bot with that verdict; it stops after `count` decisions and runs the control in the pauses."""

    def __init__(self, count: int, *parts: Any) -> None:
        super().__init__(*parts)
        self.count, self.control = count, Control()
        self.taken: list[float] = []

    def new_engine(self, config: Config) -> Engine:
        return Engine(config, Signals(config), venue=self.venue.name, calendar=self.calendar)

    def _decided(self, client_id: str, ms: float) -> None:
        super()._decided(client_id, ms)
        self.taken.append(ms)
        if len(self.taken) == self.count:
            self.loop.stop()
        elif len(self.taken) == 2 * WARM_UP:
            usual = percentile(self.taken[WARM_UP:], 0.5)
            asyncio.get_running_loop().call_later(CONTROL_AFTER_S, self.control.fit, usual)
        elif len(self.taken) > 2 * WARM_UP:
            asyncio.get_running_loop().call_later(CONTROL_AFTER_S, self.control.run)


async def decide(port: int, count: int, folder: Path) -> tuple[list[float], list[float]]:
    """Run the bot against the feeder for `count` decisions; return their times and the control's, ms."""
    rest, overrides = f"http://127.0.0.1:{port}", (f"data.history_bars={HISTORY_BARS}", "risk.soft_stop_r=1000")
    config = parse("", overrides=overrides)
    keys = Credentials("sim-key", "sim-secret")
    venue = TradingVenue("testnet", rest, f"ws://127.0.0.1:{port}", keys, rest, WallClock(), Activity(), resume=False)
    with Journal(folder / "bot.db") as journal:
        bot = BenchBot(count, config, RunOptions("testnet", dashboard=False, quiet=True), venue, journal)
        try:
            await bot.start()
            gc.collect()
            gc.freeze()  # as `Bot.run` does
            pump = asyncio.create_task(bot.loop.run())
            async with aiohttp.ClientSession() as session, session.get(f"{rest}/go"):
                pass
            while not (await asyncio.wait([pump], timeout=1.0))[0] and bot.failure is None:
                pass
            if bot.failure is not None:
                raise bot.failure
            return bot.taken, bot.control.taken
        finally:
            await bot.close()


@contextlib.contextmanager
def tuned(cores: list[int]) -> Iterator[None]:
    """Give this process real-time priority, and run a loop at idle priority on each core."""
    spinners: list[subprocess.Popen[bytes]] = []
    try:
        for core in cores:
            spinner = subprocess.Popen([sys.executable, "-S", "-c", SPIN])
            spinners.append(spinner)
            os.sched_setaffinity(spinner.pid, {core})
            os.sched_setscheduler(spinner.pid, os.SCHED_IDLE, os.sched_param(0))
        try:
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(REALTIME))
        except PermissionError:
            sys.exit("--tuned sets a real-time priority, which this user may not: run it as root")
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        for spinner in spinners:
            spinner.kill()
            spinner.wait()


def measure(count: int) -> dict[str, Any]:
    """Return percentiles and maximum of the decision time, ms, the exchange's view, and the control's percentiles."""
    cores = sorted(os.sched_getaffinity(0))
    feeder = subprocess.Popen(
        [sys.executable, "-m", "bench.feeder", str(count + WARM_UP)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=(lambda: os.sched_setaffinity(0, {cores[-1]})) if len(cores) > 1 else None,
    )
    logging.disable(logging.WARNING)
    configure_logging("text", quiet=True)
    try:
        assert feeder.stdout is not None
        port = int(feeder.stdout.readline())
        os.sched_setaffinity(0, {cores[0]})
        with tempfile.TemporaryDirectory() as folder:
            os.environ["BOT_DATA"] = folder
            taken, control = asyncio.run(decide(port, count + WARM_UP, Path(folder)))
        seen = json.loads(feeder.stdout.readline())
    finally:
        feeder.kill()
        feeder.wait()
        os.sched_setaffinity(0, set(cores))
        logging.disable(logging.NOTSET)
    taken, seen = taken[WARM_UP:], seen[WARM_UP:]
    results = {
        "decision_ms_p50": percentile(taken, 0.5),
        "decision_ms_p99": percentile(taken, 0.99),
        "decision_ms_p999": percentile(taken, 0.999),
        "decision_ms_max": max(taken),
        "frame_to_order_received_ms_p50": percentile(seen, 0.5),
        "frame_to_order_received_ms_p99": percentile(seen, 0.99),
        "decisions": len(taken),
    }
    if control:  # a short run ends before the control is fitted
        results |= {"control_ms_p50": percentile(control, 0.5), "control_ms_p99": percentile(control, 0.99)}
    return results


def main() -> None:
    """Measure and print the results as JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.latency", description=__doc__)
    parser.add_argument("--decisions", type=int, default=10_000)
    parser.add_argument("--compiled", action="store_true", help="with the engine that `make fast` compiles")
    parser.add_argument("--tuned", action="store_true", help="at real-time priority (root), cores kept awake")
    options = parser.parse_args()
    if options.compiled and fast.FAST not in Path(inspect.getfile(Bot)).parents:
        fast.build_or_exit()
        fast.become("bench.latency", sys.argv[1:], ROOT)
    with tuned(sorted(os.sched_getaffinity(0))) if options.tuned else contextlib.nullcontext():
        results = measure(options.decisions)
    print(json.dumps({name: round(float(np.float64(value)), 3) for name, value in results.items()}, indent=2))


if __name__ == "__main__":
    main()
