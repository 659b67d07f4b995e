"""Exits beside resting targets, under each reading of what the exchange does then: the bot itself against the exchange.

Binance's FAQ exempts a reduce-only order of the position's full size; a live report has one refused (-4118) while reduce-only
targets rest. The same may hold for a triggered stop, which then is REJECTED, or becomes an order that EXPIRES. Each test holds
for both sides and all readings; what differs between them is only how long the way out takes, and with a dead process which
of the two stops closes.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal as D
from pathlib import Path

import pytest

from bot.app.flatten import flatten
from bot.core.intents import Alert, CancelOrder, PlaceOrder
from bot.core.records import TradeRecord
from bot.core.types import Side
from bot.orders.bracket import Bracket
from tests import machine_tools
from tests.engine_harness import BTC, SYMBOLS, Harness, quiet_row, started
from tests.engine_harness import S as Status
from tests.machine_tools import World
from tests.places import place, set_keys
from tests.test_flatten import open_things

COUNTED = {"reduce_only_counts_resting": True}
READINGS = {"exempt": {}, "rejected": COUNTED, "expires": COUNTED | {"refused_trigger_expires": True}}
REFUSING = ("rejected", "expires")
BARE_MS = 1_500
both = pytest.mark.parametrize("side", list(Side), ids=lambda side: side.name)
every_reading = pytest.mark.parametrize("reading", READINGS)
refusing = pytest.mark.parametrize("reading", REFUSING)
scaled_or_not = pytest.mark.parametrize("scaled", [False, True], ids=["both targets rest", "the second rests"])


@pytest.fixture(scope="module", autouse=True)
def _faults_are_not_logged():
    log = logging.getLogger("bot.execution")
    before = log.level
    log.setLevel(logging.CRITICAL)
    yield
    log.setLevel(before)


class Room:
    """A trade with resting targets, and what is looked at in every case."""

    def __init__(self, world: World, side: Side) -> None:
        self.world, self.side = world, side
        self.alerts_from = 0

    @property
    def bracket(self) -> Bracket:
        assert self.world.bot is not None
        bracket = self.world.bot.engine.portfolio.bracket(BTC)
        assert bracket is not None
        return bracket

    @property
    def held(self) -> D:
        return self.world.venue.account.positions[BTC].qty

    async def open(self, *, scaled: bool) -> None:
        world = self.world
        await world.begin()
        await world.bar(self.side)
        await world.pass_time(5_000)
        assert [o.accepted for t in self.bracket.targets for o in t.orders] == [True, True]
        if scaled:
            world.move(BTC, self.bracket.targets[0].price + self.side.sign * 5)
            await world.pass_time(3_000)
            assert [t.done for t in self.bracket.targets] == [True, False]
            assert self.bracket.stop_kind == "break_even"
        self.alerts_from = len(world.alerts)

    async def bar(self, **values: float) -> None:
        """Close a bar without a signal whose row holds these values."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(machine_tools, "quiet_row", lambda: quiet_row() | values)
            await self.world.bar(None)

    def through(self, level: D) -> None:
        """Let the price fall (rise, for a short) to a level and one tick beyond."""
        self.world.move(BTC, level - self.side.sign * D("0.1"))

    async def out(self, within_ms: int = 10_000) -> int:
        """Return how long it takes until the exchange holds no BTC; on the way the position never turns."""
        world, begun, most = self.world, self.world.clock.time_ms, abs(self.held)
        while self.held and world.clock.time_ms - begun < within_ms:
            await world.pass_time(5)
            assert self.held * self.side.sign >= 0
            assert abs(self.held) <= most
            most = abs(self.held)
        assert not self.held
        return world.clock.time_ms - begun

    @property
    def bare_ms(self) -> int:
        return max(n.report(self.world.clock.time_ms)["longest"] for n in self.world.venue.naked.values())

    @property
    def alerts(self) -> list[str]:
        return self.world.alerts[self.alerts_from :]

    async def end(self) -> TradeRecord:
        """Wait until the trade is over, then look at both books; return its record."""
        world = self.world
        await world.pass_time(45_000)
        world.check()
        world.check_rest()
        assert not any(p.qty for p in world.venue.account.positions.values())
        assert not [o for s in SYMBOLS for o in (*world.venue.open_orders(s), *world.venue.algos.open(s))]
        ids = world.own_ids()
        assert len(ids) == len(set(ids))
        assert self.bare_ms <= BARE_MS
        assert world.bot is not None
        assert world.bot.engine.flat
        world.bot.journal.commit()
        (record,) = [t for t in world.bot.journal.trades() if t.opened_ms]
        sold = sum(f.qty for f in record.fills if f.symbol == BTC and f.side == self.side.exit.value)
        assert sold == record.qty
        return record


@asynccontextmanager
async def room(folder: Path, side: Side, reading: str, *, scaled: bool = False) -> AsyncIterator[Room]:
    """A world with that reading and an open trade."""
    world = World(folder)
    world.venue.turn(world.venue.quirks.changed(READINGS[reading]))
    made = Room(world, side)
    try:
        await made.open(scaled=scaled)
        yield made
    finally:
        await world.end()


# -- direct exits --------------------------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("reading", ["exempt", "rejected"])  # how a trigger is refused makes no difference here
@scaled_or_not
@pytest.mark.parametrize("way", ["flatten", "choch", "time", "naked"])
async def test_a_market_exit_beside_resting_targets_is_out_in_time(tmp_path, side, reading, scaled, way):
    async with room(tmp_path, side, reading, scaled=scaled) as r:
        world = r.world
        match way:
            case "flatten":
                world.command("flatten")
            case "choch":
                await r.bar(pac_event=2.0, pac_dir=float(-side.sign))
            case "time":
                due_ms = world.bot.engine.trade.first_fill_ms + 30 * 60_000
                await world.pass_time(due_ms - world.clock.time_ms - 5)
                assert r.held
                await world.pass_time(5)
            case "naked":
                world.fault(fault="error", path="POST /fapi/v1/algoOrder", code=-1001, count=0)
                stop = next(a for a in world.venue.algos.open(BTC) if a.reduce_only and not a.close_position)
                world.venue.now_ms = world.clock.time_ms
                world.venue.algos.end(stop, "CANCELED")
                world.exchange.market.follow_up(BTC)
                await world.pass_time(1_450)
                assert r.held
        took_ms = await r.out()
        record = await r.end()

    assert took_ms <= 600
    assert record.exit_reason == way
    assert not any(
        "-2022" in text or "critical" in text for text in r.alerts if "naked for" not in text and way != "naked"
    )


@both
@refusing
async def test_the_legs_close_beside_a_refused_exit_and_only_once(tmp_path, side, reading):
    async with room(tmp_path, side, reading) as r:
        legs = [leg.bracket for leg in r.world.bot.engine.hedger.legs if leg.bracket is not None]
        assert len(legs) == 2
        r.world.command("flatten")
        await r.out()
        record = await r.end()

    for leg in legs:
        closed = [f for f in record.fills if f.symbol == leg.symbol]
        assert sum(f.qty * (1 if f.side == "BUY" else -1) for f in closed) == 0


@both
@refusing
async def test_an_exit_leaves_the_moment_the_last_target_is_gone_not_after_a_pause(tmp_path, side, reading):
    async with room(tmp_path, side, reading) as r:
        world = r.world
        world.fault(fault="http_503_not_executed", path="DELETE /fapi/v1/order", count=5)
        world.command("flatten")
        gone_ms = flat_ms = 0
        while not flat_ms:
            await world.pass_time(5)
            if not gone_ms and not [o for o in world.venue.open_orders(BTC) if o.type == "LIMIT"]:
                gone_ms = world.clock.time_ms
            if not r.held:
                flat_ms = world.clock.time_ms
        await r.end()

    assert flat_ms - gone_ms <= 150  # hear of it, then one order's way; by pauses alone up to 4.5 s


# -- a sized stop that triggers while targets rest -----------------------------------------------------------------------


@both
@every_reading
@scaled_or_not
@pytest.mark.parametrize("back", [False, True], ids=["through", "and back"])
async def test_a_stop_refused_at_its_trigger_ends_in_a_market_exit_named_as_the_stop(
    tmp_path, side, reading, scaled, back
):
    async with room(tmp_path, side, reading, scaled=scaled) as r:
        kind, was = r.bracket.stop_kind, r.world.price()
        r.through(r.bracket.stop)
        if back:
            await r.world.pass_time(1)
            r.world.move(BTC, was)
        took_ms = await r.out()
        record = await r.end()

    assert took_ms <= 600
    assert record.exit_reason == kind
    if not back:
        assert record.alpha_r == pytest.approx(0.61 if scaled else -1.007, abs=0.01)
    if reading == "rejected":
        assert any("stop triggered and was refused: ReduceOnly" in text for text in r.alerts)
    assert not any("critical" in text for text in r.alerts)


@both
@refusing
@scaled_or_not
async def test_after_a_dead_process_the_restart_closes_what_the_stop_could_not(tmp_path, side, reading, scaled):
    async with room(tmp_path, side, reading, scaled=scaled) as r:
        kind, world = r.bracket.stop_kind, r.world
        stop, held = r.bracket.stop, r.held
        await world.kill(lose_unsent=True)
        r.through(stop)
        await world.pass_time(20_000)
        assert r.held == held
        assert r.bare_ms <= BARE_MS  # the catastrophe stop stands
        begun = world.clock.time_ms
        await world.start()
        await r.out()
        took_ms = world.clock.time_ms - begun
        record = await r.end()

    assert took_ms <= 3_000  # a start, a look at the account, an exit
    assert record.exit_reason == kind


@both
@refusing
async def test_after_a_dead_process_a_refused_stop_counts_as_hit_although_the_price_came_back(tmp_path, side, reading):
    async with room(tmp_path, side, reading) as r:
        world, stop, was = r.world, r.bracket.stop, r.world.price()
        await world.kill(lose_unsent=True)
        r.through(stop)
        await world.pass_time(5_000)
        world.move(BTC, was)
        await world.pass_time(5_000)
        await world.start()
        await r.out()
        record = await r.end()

    assert record.exit_reason == "stop"


# -- dead, and the price goes on -----------------------------------------------------------------------------------------


@both
@every_reading
@pytest.mark.parametrize(
    ("point", "kind", "loss"),
    [("open", "stop", -2.5), ("break even", "break_even", -1.45), ("trail", "trail", -1.45)],
    ids=["open", "break even", "trail"],
)
async def test_with_a_dead_process_a_stop_closes_at_every_point_of_the_trail(
    tmp_path, side, reading, point, kind, loss
):
    """The sized stop where it counts, else the catastrophe stop 1.5 R beyond the first stop; nothing is doubled."""
    async with room(tmp_path, side, reading, scaled=point != "open") as r:
        world = r.world
        if point == "trail":
            level = float(r.bracket.average) + side.sign * 80.0
            await r.bar(sta_os=float(side is Side.LONG), sta_ts=level)
            await world.pass_time(3_000)
        stop, far, left = r.bracket.stop, r.bracket.catastrophe, r.held
        assert r.bracket.stop_kind == kind
        await world.kill(lose_unsent=True)
        r.through(stop)
        await world.pass_time(20_000)
        assert r.held == (0 if reading == "exempt" else left)
        r.through(far)
        await world.pass_time(1_000)
        assert not r.held  # before anything of ours lives again
        assert r.bare_ms <= BARE_MS
        await world.start()
        record = await r.end()

    if reading == "exempt":
        assert record.exit_reason == kind
        assert record.alpha_r >= -1.01
    else:
        assert record.exit_reason == "catastrophe"
        assert record.alpha_r == pytest.approx(loss, abs=0.02)


@both
@refusing
async def test_with_a_dead_process_the_runner_has_nothing_beside_it_and_its_stop_counts(tmp_path, side, reading):
    async with room(tmp_path, side, reading, scaled=True) as r:
        world = r.world
        world.move(BTC, r.bracket.targets[1].price + side.sign * 5)
        await world.pass_time(3_000)
        assert r.bracket.targets[1].done
        stop, kind = r.bracket.stop, r.bracket.stop_kind
        await world.kill(lose_unsent=True)
        r.through(stop)
        await world.pass_time(1_000)
        assert not r.held
        await world.start()
        record = await r.end()

    assert record.exit_reason == kind


@both
@refusing
async def test_dead_between_the_refused_exit_and_the_next_the_restart_goes_on_leaving(tmp_path, side, reading):
    async with room(tmp_path, side, reading) as r:
        world = r.world
        world.fault(fault="lost_request", path="DELETE /fapi/v1/order", count=2)
        world.command("flatten")
        while not any("-4118" in text for text in r.alerts):
            await world.pass_time(5)
        await world.kill(lose_unsent=True)
        world.exchange.faults.replace([])
        await world.pass_time(10_000)
        assert r.held
        assert world.cover(BTC) == abs(r.held)
        await world.start()
        await r.out()
        record = await r.end()

    assert record.exit_reason == "flatten"


# -- what the bot makes of the refusal -----------------------------------------------------------------------------------


def refused(side: Side, *codes: int) -> Harness:
    """A trade whose market exits are refused with these codes."""
    h = started(side).enter()
    h.behave[f"xx:{BTC}"] = list(codes)
    return h


@both
def test_minus_4118_is_never_taken_for_a_flat_position(side):
    h = refused(side, -4118)
    bracket = h.engine.trade.bracket
    h.command("flatten")
    h.run(60)

    assert bracket.nothing_left_ms == 0
    (text,) = [a.text for a in h.of(Alert) if "-4118" in a.text]
    assert "it leaves again when the targets are cancelled" in text
    h.run(2_000)
    assert h.position[BTC] == 0


@both
def test_minus_4118_with_no_target_of_ours_is_critical_and_names_the_way_out(side):
    h = refused(side, -4118, -4118, -4118)
    for target in h.engine.trade.bracket.targets:
        target.given_up = True
    for order in h.live("tp"):
        order.status = Status.CANCELED
        h.tell(order)
    h.run(100)
    h.command("flatten")
    h.run(5_000)

    texts = [(a.level, a.text) for a in h.of(Alert) if "-4118" in a.text]
    assert texts
    assert {level for level, _ in texts} == {"critical"}
    assert all("orders of yours that only reduce rest there, cancel them" in text for _, text in texts)
    assert h.position[BTC] == 0


@both
def test_by_default_the_exit_and_the_cancels_leave_together_and_nothing_waits(side):
    h = started(side).enter()
    before = len(h.outputs)
    h.command("flatten")
    sent = [o for o in h.outputs[before:] if isinstance(o, PlaceOrder | CancelOrder) and o.symbol == BTC]

    assert isinstance(sent[0], PlaceOrder)
    assert [type(o) for o in sent[1:]] == [CancelOrder, CancelOrder]


# -- closing at the exchange itself, without a bot -----------------------------------------------------------------------


@pytest.mark.wire
async def test_the_direct_flatten_cancels_targets_once_it_is_refused_beside_them(tmp_path, monkeypatch):
    monkeypatch.setenv("BOT_DATA", str(tmp_path))
    set_keys(monkeypatch)
    said: list[str] = []
    async with place() as venue:
        venue.exchange.venue.turn(venue.exchange.venue.quirks.changed(COUNTED))
        await open_things(venue.config())
        code = await flatten(venue.config(), "testnet", say=said.append, confirm=lambda question: True)
        state = venue.exchange.state()

    assert code == 0
    assert not [p for p in state["positions"] if float(p["positionAmt"])]
    assert any("-4118" in text for text in said)
    assert "target tp-1 of BTCUSDT cancelled" in said
    closed = max(o["updateTime"] for o in state["orders"] if o["clientOrderId"].startswith("flat-"))
    assert all(a["updateTime"] >= closed for a in state["algo_orders"])  # the stops stood until then
