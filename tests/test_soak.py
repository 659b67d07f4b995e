"""Days on end through the whole bot while one request and one frame in twenty go wrong: equal ledgers, nothing naked, no leak.

The composition is that of `run --venue sim --speed max`: python-binance over loopback sockets, streams, executor,
engine, journal, and the embedded exchange with the faults of a bad day (`everyday`), whose latencies pass on the
exchange's clock, so that time without a stop is real. CI takes a day of the synthetic market; the night takes thirty
days of real klines.
"""

import asyncio
import gc
import os
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bot.app import serve, venues
from bot.app.options import RunOptions
from bot.app.run import Bot
from bot.app.setup import configure_logging
from bot.backtest.market import find_start, load_market
from bot.config import Config, parse
from bot.core.times import DAY_MS
from bot.journal import Journal
from bot.market.store import parse_time
from bot.market.synthetic import write_market
from bot.sim.faults import everyday
from bot.sim.server import Exchange

HEAL_MS = 900_000  # the last quarter of an hour goes without faults: what was lost comes to light
SAMPLE_MS = DAY_MS // 8
NAKED_MS = 1_500
# More signals than anybody would want, because time without a trade tries nothing.
EAGER = (
    "strategy.min_dominance=0",
    "strategy.min_rank=0",
    "strategy.min_rating=1",
    "strategy.tap_window=20",
    "strategy.trail_mode=price",
    "risk.max_day_loss_r=100",
    "risk.direction_breaker_r=100",
    "risk.soft_stop_r=1000",
    "risk.slippage_watch=0.1",
)


@dataclass
class Soak:
    """What a soak leaves behind."""

    code: int = -1
    days: float = 0.0
    wall_s: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    complete: bool = False
    items: int = 0  # of the exchange's clock
    trades: int = 0
    fills: int = 0
    spells: list[int] = field(default_factory=list)  # ms without a whole sized stop, by the engine
    exchange_naked: dict[str, dict[str, int]] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)
    tasks: list[int] = field(default_factory=list)
    left_tasks: list[str] = field(default_factory=list)
    files: tuple[int, int] = (0, 0)
    criticals: Counter[str] = field(default_factory=Counter)

    @property
    def beyond_ms(self) -> int:
        """Time without a stop beyond the budget, over all spells."""
        return sum(max(ms - NAKED_MS, 0) for ms in self.spells)

    @property
    def slope_mb(self) -> float:
        """Growth of the resident memory over the second half, MB a day."""
        half = self.rss_mb[len(self.rss_mb) // 2 :]
        return (half[-1] - half[0]) / max((len(half) - 1) * SAMPLE_MS / DAY_MS, 1e-9) if len(half) > 1 else 0.0

    def text(self) -> str:
        """The figures in a few lines."""
        spells = sorted(self.spells)
        p50, p99 = (spells[int(q * (len(spells) - 1))] if spells else 0 for q in (0.5, 0.99))
        return "\n".join(
            (
                f"soak: {self.days:.1f} days in {self.wall_s:.0f} s, {self.items} items of the clock, "
                f"{sum(self.faults.values())} faults",
                f"trades {self.trades}, fills {self.fills}, differences {len(self.differences)}: {self.differences[:5]}",
                f"naked spells {len(spells)}: p50 {p50}, p99 {p99}, max {max(spells, default=0)} ms, beyond {self.beyond_ms} ms",
                f"by the exchange {self.exchange_naked}",
                f"memory MB {self.rss_mb[:1]} .. {self.rss_mb[-1:]}, {self.slope_mb:+.2f} a day over the second half",
                f"tasks {min(self.tasks, default=0)} to {max(self.tasks, default=0)}, left {self.left_tasks}, files {self.files}",
                f"faults {dict(self.faults.most_common())}",
                f"critical alerts {dict(self.criticals.most_common(12))}",
            )
        )


def resident_mb() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def open_files() -> int:
    """Open descriptors of this process, sockets included."""
    return len(os.listdir("/proc/self/fd"))


async def soak(config: Config, options: RunOptions, path: Path, *, rate: float, patch: pytest.MonkeyPatch) -> Soak:
    """Run the bot over a replay with faults and compare what both sides remember."""
    result, made = Soak(), []
    original = serve.embedded_exchange

    def embedded(config: Config, market: Any, **more: Any) -> Exchange:
        made.append(original(config, market, faults=everyday(rate), **more))
        return made[-1]

    patch.setattr(serve, "embedded_exchange", embedded)
    gc.collect()
    files, began = open_files(), time.perf_counter()
    async with AsyncExitStack() as stack:
        journal = stack.enter_context(Journal(path / "bot.db"))
        venue = await venues.sim(config, options, stack)
        (exchange,) = made
        bot = Bot(config, options, venue, journal)
        stack.push_async_callback(bot.close)
        await bot.start()

        def sample() -> None:
            result.rss_mb.append(round(resident_mb(), 1))
            result.tasks.append(len(asyncio.all_tasks()))
            exchange.later(SAMPLE_MS, sample, name="sample")

        async def stop_faults() -> None:
            result.faults.update({f.fault: f.acted for f in exchange.faults.active if f.acted})
            await exchange.set_faults([])

        exchange.later(SAMPLE_MS, sample, name="sample")
        exchange.clock.at(exchange.end_ms - HEAL_MS, stop_faults, name="no more faults")
        listener = bot.hub.publish

        def publish(*items: Any) -> None:
            result.criticals.update(
                _kind(item.text) for item in items if type(item).__name__ == "Alert" and item.level == "critical"
            )
            listener(*items)

        patch.setattr(bot.hub, "publish", publish)
        result.code = await bot.run(stack)
        result.items = exchange.items
        result.days = (exchange.clock.time_ms - exchange.start_ms) / DAY_MS
        result.complete = exchange.clock.time_ms >= exchange.end_ms
        _compare(bot, exchange, journal, result)
    result.left_tasks = [t.get_name() for t in asyncio.all_tasks() if t is not asyncio.current_task()]
    await asyncio.sleep(0.1)  # transports close in the next rounds of the loop
    gc.collect()
    result.files = (files, open_files())
    result.wall_s = time.perf_counter() - began
    return result


def _kind(text: str) -> str:
    """An alert without its numbers."""
    return "".join(c for c in text if not c.isdigit())[:60]


def _compare(bot: Bot, exchange: Exchange, journal: Journal, result: Soak) -> None:
    """Hold the journal against the exchange's own books."""
    assert bot.session is not None
    venue, told = exchange.venue, result.differences
    ours = {(f["symbol"], f["trade_id"]): f for f in journal.fills(bot.session.id)}
    theirs = {(f.order.symbol, f.trade_id): f for f in venue.fills}
    told += [f"{key}: not in the journal" for key in theirs.keys() - ours.keys()]
    told += [f"{key}: not at the exchange" for key in ours.keys() - theirs.keys()]
    for key in ours.keys() & theirs.keys():
        rules, fill, line = venue.rules[key[0]], theirs[key], ours[key]
        said = (Decimal(line["qty"]), Decimal(line["price"]), Decimal(line["fee"]), line["client_id"])
        done = (rules.qty(fill.lots), rules.price(fill.price), fill.fee, fill.order.client_id)
        if said != done:
            told.append(f"{key}: {said} in the journal, {done} at the exchange")
    book = bot.engine.portfolio
    for symbol, position in venue.account.positions.items():
        if position.qty != book.ledger.qty(symbol):
            told.append(f"{symbol}: {book.ledger.qty(symbol)} in the book, {position.qty} at the exchange")
        if not position.qty:
            names = [o.client_id for o in (*venue.open_orders(symbol), *venue.algos.open(symbol))]
            told += [f"{symbol} is flat, {name} is left over" for name in names if bot.engine.trade is None]
    difference = book.account.wallet - venue.account.wallet
    if abs(difference) >= Decimal("0.01"):
        told.append(f"the wallet differs by {difference}")
    if book.unexplained.qty or book.adopted:
        told.append(f"unexplained: {book.unexplained.qty}, {book.adopted} differences adopted")
    result.trades = len([t for t in journal.trades(bot.session.id) if t.opened_ms])
    result.fills = len(theirs)
    if exchange.clock.failures:
        told.append(f"{exchange.clock.failures} items of the exchange's clock raised")
    result.spells = [spell.ms for spell in journal.naked(bot.session.id)]
    result.exchange_naked = {s: naked.report(exchange.end_ms) for s, naked in venue.naked.items()}


def hold_the_laws(result: Soak, capsys: pytest.CaptureFixture[str]) -> None:
    """What every soak has to show; its figures are printed."""
    with capsys.disabled():
        print(f"\n{result.text()}")
    assert result.code == 0
    assert result.complete
    assert not result.differences
    assert result.beyond_ms == 0
    assert all(naked["longest"] <= NAKED_MS for naked in result.exchange_naked.values())
    assert not result.left_tasks
    assert result.files[1] <= result.files[0]
    assert max(result.tasks) - min(result.tasks) <= 20


def options_of(folder: Path, from_ms: int, to_ms: int) -> RunOptions:
    """The options of `run --venue sim --speed max --once --json --no-dashboard`."""
    return RunOptions(
        venue="sim", klines=folder, from_ms=from_ms, to_ms=to_ms, once=True, dashboard=False, json=True, quiet=True
    )


@pytest.mark.wire
def test_a_day_of_faults_leaves_no_trace(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("BOT_DATA", str(tmp_path))
    configure_logging("text", quiet=True)
    folder = tmp_path / "market"
    write_market(folder, 15, 11)
    config = parse("", overrides=EAGER)
    start = find_start(config, load_market(config, folder), from_ms=None, to_ms=None)
    options = options_of(folder, start.from_ms, start.from_ms + DAY_MS)

    result = asyncio.run(soak(config, options, tmp_path, rate=0.05, patch=monkeypatch))

    hold_the_laws(result, capsys)
    assert result.trades >= 1
    assert sum(result.faults.values()) >= 100


@pytest.mark.nightly
@pytest.mark.wire
@pytest.mark.reference
@pytest.mark.timeout(7_200)
def test_thirty_days_of_faults_leave_no_trace(shared, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("BOT_DATA", str(tmp_path))
    configure_logging("text", quiet=True)
    config = parse("", overrides=EAGER)
    begin = parse_time("2023-01-09")

    result = asyncio.run(
        soak(
            config,
            options_of(shared / "klines" / "spot", begin, begin + 30 * DAY_MS),
            tmp_path,
            rate=0.05,
            patch=monkeypatch,
        )
    )

    hold_the_laws(result, capsys)
    assert result.trades >= 10
    assert result.slope_mb < 5.0
