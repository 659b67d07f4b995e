"""From the frame of a closed bar to the bytes of its order, through everything that stands between them in a running bot.

The bot is the real one (loop, journal with its commit before each order, engine with all indicators of three symbols, executor,
gateway, python-binance); only the indicators' verdict is replaced, so that each bar is a signal. The exchange runs in
another process, on another core where there is one, and refuses every order for lack of margin, so that the next bar can be
a signal again. Times are taken by the bot's own stamps: from the read of the frame's last byte to the hand-over of the order's
bytes; beside them the exchange's view, from writing the frame to receiving the order.
"""

import argparse
import asyncio
import gc
import json
import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from bench.clock import ROOT
from bot.app.options import RunOptions
from bot.app.run import Bot
from bot.app.setup import configure_logging
from bot.app.venues import Venue
from bot.config import Config, parse
from bot.core.activity import Activity
from bot.core.events import KlineClosed
from bot.engine import Engine
from bot.execution.clock import WallClock
from bot.execution.stamps import percentile
from bot.journal import Journal
from bot.strategy.early import EarlyFeatures
from bot.strategy.features import Row

HISTORY_BARS = 800
WARM_UP = 200  # the first decisions look types up and fill caches


class SignalRow:
    """A bar's real values with the verdict of a long signal on a block around the price."""

    def __init__(self, row: Row, close: float) -> None:
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


class BenchBot(Bot):
    """The bot with that verdict."""

    def new_engine(self, config: Config) -> Engine:
        return Engine(config, Signals(config), venue=self.venue.name, calendar=self.calendar)


async def decide(port: int, count: int, folder: Path) -> list[float]:
    """Run the bot against the feeder until `count` decisions are through; return their times in ms."""
    rest, overrides = f"http://127.0.0.1:{port}", (f"data.history_bars={HISTORY_BARS}", "risk.soft_stop_r=1000")
    config = parse("", overrides=overrides)
    venue = Venue(
        "testnet", rest, f"ws://127.0.0.1:{port}", "sim-key", "sim-secret", rest, WallClock(), Activity(), resume=False
    )
    with Journal(folder / "bot.db") as journal:
        bot = BenchBot(config, RunOptions("testnet", dashboard=False, quiet=True), venue, journal)
        try:
            await bot.start()
            gc.collect()
            gc.freeze()  # as `Bot.run` does
            pump = asyncio.create_task(bot.loop.run())
            async with aiohttp.ClientSession() as session, session.get(f"{rest}/go"):
                pass
            while not (await asyncio.wait([pump], timeout=1.0))[0] and bot.failure is None:
                if len(journal.measures(1, "decision_ms")) >= count:
                    bot.loop.stop()
            if bot.failure is not None:
                raise bot.failure
            return journal.measures(1, "decision_ms")
        finally:
            await bot.close()


def measure(count: int) -> dict[str, Any]:
    """Return p50, p99 and the longest decision in ms, and the exchange's view."""
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
            taken = asyncio.run(decide(port, count + WARM_UP, Path(folder)))
        seen = json.loads(feeder.stdout.readline())
    finally:
        feeder.kill()
        feeder.wait()
        os.sched_setaffinity(0, set(cores))
        logging.disable(logging.NOTSET)
    taken, seen = taken[WARM_UP:], seen[WARM_UP:]
    return {
        "decision_ms_p50": percentile(taken, 0.5),
        "decision_ms_p99": percentile(taken, 0.99),
        "decision_ms_p999": percentile(taken, 0.999),
        "decision_ms_max": max(taken),
        "frame_to_order_received_ms_p50": percentile(seen, 0.5),
        "frame_to_order_received_ms_p99": percentile(seen, 0.99),
        "decisions": len(taken),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.latency", description=__doc__)
    parser.add_argument("--decisions", type=int, default=10_000)
    options = parser.parse_args()
    results = measure(options.decisions)
    print(json.dumps({name: round(float(np.float64(value)), 3) for name, value in results.items()}, indent=2))


if __name__ == "__main__":
    main()
