"""Faults on request: how they are read, when they strike, and that a faulty run is the same to the byte every time."""

import json
from decimal import Decimal as D
from typing import Any

import orjson
import pytest

from bot.core.activity import Activity
from bot.core.errors import ConfigError
from bot.sim.draws import Draws
from bot.sim.errors import MESSAGES, Refused
from bot.sim.fault_kinds import KINDS
from bot.sim.faults import Fault, Faults, everyday, parse
from bot.sim.filters import DEFAULTS
from bot.sim.funding import FundingSchedule
from bot.sim.quirks import Quirks
from bot.sim.server import Exchange
from bot.sim.view import view
from tests.sim_tools import START, Bot, flat, market
from tests.test_sim_stepped import Trader

HOUR = 3_600_000


@pytest.mark.parametrize("name", sorted(KINDS))
def test_every_fault_is_read_with_its_defaults_and_told_as_it_was_read(name):
    (fault,) = parse({"fault": name})
    (again,) = parse(orjson.loads(orjson.dumps([{"fault": name, **dict(KINDS[name].more), "count": 3, "rate": 0.5}])))

    assert (fault.count, fault.after, fault.rate) == (1, 0, 0.0)
    assert fault.report()["fault"] == name
    assert (again.count, again.rate, again.at_once) == (3, 0.5, False)
    assert json.dumps(again.report())


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"fault": "late_reply", "share": 1}, "unknown field 'share'"),
        ({"fault": "late_reply", "rate": 1.5}, "from 0 to 1"),
        ({"fault": "late_reply", "rate": True}, "from 0 to 1"),
        ({"fault": "adl", "share": 0}, "above 0 and at most 1"),
        ({"fault": "latency", "shape": "normal"}, "lognormal, uniform, fixed"),
        ({"fault": "latency", "sigma": "wide"}, "a number"),
        ({"fault": "error", "code": "x"}, "a whole number"),
        ({"fault": "funding_interval", "hours": 3}, "1, 2, 4 or 8"),
        ({"fault": "symbol_status", "status": "OPEN"}, "PENDING_TRADING"),
        ({"fault": "filter_change", "tick": 0.5}, "a string"),
        ({"fault": "everyday", "count": 2}, "takes a rate"),
        ({"fault": "everyday", "rate": 0}, "takes a rate"),
        ({"fault": "late_reply", "path": 5}, "must be a string"),
    ],
)
def test_a_wrong_field_is_refused_with_what_would_be_right(row, words):
    with pytest.raises(Refused) as refused:
        parse([row])

    assert words in refused.value.text


def test_a_rate_strikes_that_often_and_always_at_the_same_matches():
    def struck(seed: int) -> list[bool]:
        faults = Faults(Draws(seed))
        faults.replace(parse([{"fault": "late_reply", "rate": 0.05}]))
        return [faults.of_request("GET", "/fapi/v1/time", write=False) is not None for _ in range(4_000)]

    assert struck(7) == struck(7) != struck(8)
    assert 150 <= sum(struck(7)) <= 250


def test_after_and_count_bound_a_rate():
    faults = Faults(Draws(1))
    faults.replace(parse([{"fault": "late_reply", "rate": 1.0, "after": 3, "count": 2}]))

    struck = [faults.of_request("GET", "/fapi/v1/time", write=False) is not None for _ in range(8)]

    assert struck == [False, False, False, True, True, False, False, False]


def test_a_bad_day_strikes_about_as_many_requests_as_asked_for():
    faults = Faults(Draws(3))
    faults.replace(everyday(0.05))

    writes = sum(faults.of_request("POST", "/fapi/v1/order", write=True) is not None for _ in range(4_000))
    reads = sum(faults.of_request("GET", "/fapi/v1/order", write=False, read=True) is not None for _ in range(4_000))

    assert 0.03 <= writes / 4_000 <= 0.12
    assert 0.01 <= reads / 4_000 <= 0.07
    with pytest.raises(ConfigError, match="rate of faults"):
        everyday(0)


def test_latencies_have_the_median_that_was_asked_for():
    faults = Faults(Draws(5))
    faults.replace(parse([{"fault": "latency", "count": 0, "ms": 200, "sigma": 0.8}]))
    drawn = sorted(faults.slowness("GET", "/fapi/v1/time") for _ in range(2_001))

    assert 180 <= drawn[1_000] <= 220
    assert 1.9 <= drawn[int(2_001 * 0.841)] / drawn[1_000] <= 2.6  # exp(0.8) at one standard deviation


def test_filters_become_coarser_and_fine_again_but_never_finer():
    rules = DEFAULTS["BTCUSDT"]

    coarse = rules.changed(tick="0.50", step="0.010", min_notional="100")

    assert (coarse.tick_size, coarse.step_size, coarse.min_notional) == (D("0.50"), D("0.010"), D(100))
    assert coarse.changed(tick="0.10").tick_size == D("0.10")
    for wrong in ("0.05", "0.15", "0", "-1", "1e-1"):
        with pytest.raises(Refused):
            rules.changed(tick=wrong)


def test_a_changed_interval_pays_on_its_own_grid_from_then_on():
    schedule = FundingSchedule(None)
    schedule.change(START + HOUR + 5, hours=2, rate=0.0003)

    assert schedule.next(START + HOUR + 6) == (START + 2 * HOUR, 0.0003)
    assert schedule.at(START + 2 * HOUR) == 0.0003
    assert schedule.at(START + 3 * HOUR) is None
    assert schedule.interval_hours(START + 3 * HOUR) == 2


def test_quirks_are_read_from_json_or_refused_by_name():
    assert Quirks().changed({"max_leverage": 20}).max_leverage == 20
    with pytest.raises(ConfigError, match="unknown quirk 'leverage'"):
        Quirks().changed({"leverage": 20})
    with pytest.raises(ConfigError, match="trade_lite must be of type bool"):
        Quirks().changed({"trade_lite": 1})


def test_every_refusal_has_a_text_and_a_status():
    for code in MESSAGES:
        refused = Refused(code, "a", "b")
        assert refused.text
        assert 400 <= refused.status < 600


def test_a_view_of_the_venue_does_not_change_with_it():
    exchange = Exchange(flat(), activity=Activity(), from_ms=START + HOUR, depth_notional=1e6)
    buy = {"symbol": "BTCUSDT", "side": "BUY", "quantity": "0.010"}
    resting, _ = exchange.venue.place(buy | {"type": "LIMIT", "timeInForce": "GTC", "price": "99000"})
    before = view(exchange.venue)

    exchange.venue.place(buy | {"type": "MARKET"})
    exchange.venue.cancel({"symbol": "BTCUSDT", "orderId": str(resting.order_id)})

    assert [o.status for o in before.orders.values()] == ["NEW"]
    assert [o.status for o in before.open_orders("BTCUSDT")] == ["NEW"]
    assert (before.fills, before.account.wallet) == ([], D(1_000))
    assert before.account.positions["BTCUSDT"].qty == 0
    assert exchange.venue.account.positions["BTCUSDT"].qty == D("0.010")


class Stubborn(Bot):
    """A client that takes what it gets: a cut connection is a status of 0, a closed socket is opened again."""

    async def call(self, method: str, path: str, *, signed: bool = True, **params: Any) -> tuple[int, Any]:
        import aiohttp

        try:
            return await super().call(method, path, signed=signed, **params)
        except (aiohttp.ClientError, orjson.JSONDecodeError):
            return 0, {}


async def faulty_session(*rows: dict[str, Any], minutes: int = 120) -> tuple[Any, Any, Any, list[int]]:
    """Run the trader of the stepped tests under faults; return state, what it saw, and how often each fault acted."""
    activity = Activity()
    exchange = Exchange(
        market("BTCUSDT", "ETHUSDT", minutes=minutes),
        from_ms=START + HOUR,
        wallet=20_000,
        activity=activity,
        depth_notional=40_000.0,
        faults=parse(list(rows)),
    )
    bot = Stubborn(await exchange.listen(), activity)
    trader = Trader(exchange, bot)
    try:
        await bot.listen("/market/stream?streams=btcusdt@kline_3m/ethusdt@kline_3m", again=True)
        await bot.listen("/public/stream?streams=btcusdt@bookTicker", again=True)
        _, key = await bot.call("POST", "/fapi/v1/listenKey", signed=False)
        await bot.listen(f"/private/ws?listenKey={key['listenKey']}", again=True)
        exchange.start()
        await exchange.finished()
        acted = [fault.acted for fault in exchange.faults.active]
        return exchange.state(), trader.log, bot.frames, acted
    finally:
        await bot.close()
        await exchange.close()


ALL_AT_ONCE = [
    {"fault": "close_sockets", "path": "/private", "after": 3, "ms": 4_000},
    {"fault": "disconnect_storm", "path": "/public", "after": 40, "times": 3, "ms": 60_000},
    {"fault": "timeout_1007_executed", "path": "/fapi/v1/order", "rate": 0.1},
    {"fault": "lost_reply", "path": "/fapi/v1/order", "rate": 0.1, "ms": 2_000},
    {"fault": "lost_request", "path": "/fapi/v1/algoOrder", "rate": 0.2, "ms": 2_000},
    {"fault": "cancel_race", "rate": 0.3},
    {"fault": "cancel_filled", "path": "/fapi/v1/order", "rate": 0.3},
    {"fault": "stale_reads", "rate": 0.3},
    {"fault": "latency", "rate": 0.5},
    {"fault": "drop_event", "path": "/private", "rate": 0.05},
    {"fault": "duplicate_event", "path": "/private", "rate": 0.1},
    {"fault": "delay_event", "path": "/private", "rate": 0.1, "ms": 3_000},
    {"fault": "push_latency", "rate": 0.3},
    {"fault": "price_gap", "symbol": "BTCUSDT", "rate": 0.05, "percent": -0.5, "ms": 30_000},
    {"fault": "thin_book", "rate": 0.05},
    {"fault": "adl", "symbol": "BTCUSDT", "rate": 0.02, "share": 0.5},
    {"fault": "filter_change", "symbol": "BTCUSDT", "after": 20, "tick": "0.50"},
    {"fault": "funding_interval", "after": 5, "hours": 1, "funding_rate": "0.0001"},
]


async def test_a_run_under_all_faults_is_the_same_to_the_last_byte():
    first, second = await faulty_session(*ALL_AT_ONCE), await faulty_session(*ALL_AT_ONCE)

    assert json.dumps(first[:3]) == json.dumps(second[:3])
    assert first[3] == second[3]
    never = [row["fault"] for row, acted in zip(ALL_AT_ONCE, first[3], strict=True) if not acted]
    assert never == []


async def test_under_all_faults_the_money_adds_up_to_the_cent():
    state, *_ = await faulty_session(*ALL_AT_ONCE)

    fees = sum(D(fill["commission"]) for fill in state["fills"])
    realized = sum(D(fill["realizedPnl"]) for fill in state["fills"])
    held = sum(D(f["qty"]) * (1 if f["side"] == "BUY" else -1) for f in state["fills"])
    shown = {p["symbol"]: D(p["positionAmt"]) for p in state["positions"]}
    assert shown.get("BTCUSDT", D(0)) == held
    assert len(state["fills"]) > 5
    funding = D(20_000) + realized - fees - D(state["wallet"])
    assert abs(funding) < 20  # the hourly payments are all that is left over


async def test_a_gap_is_in_the_ticks_and_runs_back_and_the_closed_bar_is_as_recorded():
    activity = Activity()
    exchange = Exchange(
        flat(minutes=90), from_ms=START + HOUR, activity=activity,
        faults=parse([{"fault": "price_gap", "after": 4, "percent": 2.0, "ms": 90_000}]),
    )  # fmt: skip
    bot = Bot(await exchange.listen(), activity)
    await bot.listen("/market/stream?streams=btcusdt@aggTrade/btcusdt@kline_1m")
    exchange.start()
    await exchange.finished()
    await bot.close()
    await exchange.close()

    trades = [(f["data"]["T"], D(f["data"]["p"])) for f in bot.frames if f["data"]["e"] == "aggTrade"]
    closed = [f["data"]["k"]["h"] for f in bot.frames if f["data"]["e"] == "kline" and f["data"]["k"]["x"]]
    jumped = [at for at, price in trades if price > 101_000]
    struck = START + HOUR + 5 * 60_000  # four minutes after the start pass, the fifth does not
    assert struck <= min(jumped) <= max(jumped) < struck + 90_000
    assert trades[-1][1] == 100_000
    assert set(closed) == {"100000.00"}


async def test_a_socket_that_never_comes_back_does_not_stop_the_replay(monkeypatch):
    from bot.sim import outages

    monkeypatch.setattr(outages, "REOPEN_WITHIN_S", 0.2)
    activity = Activity()
    exchange = Exchange(
        flat(minutes=70), from_ms=START + HOUR, activity=activity,
        faults=[Fault("close_sockets", "/public", after=3, ms=1_000)],
    )  # fmt: skip
    bot = Bot(await exchange.listen(), activity)
    await bot.listen("/public/ws/btcusdt@bookTicker")
    exchange.start()

    await exchange.finished()
    await bot.close()
    await exchange.close()

    assert exchange.state()["finished"]
    assert len(bot.frames) == 3


async def test_sockets_of_a_stepped_exchange_end_after_their_life_and_come_back_at_once():
    activity = Activity()
    quirks = Quirks(socket_life_ms=611_000)
    exchange = Exchange(flat(minutes=99), from_ms=START + HOUR, activity=activity, quirks=quirks)
    bot = Bot(await exchange.listen(), activity)
    await bot.listen("/market/ws/btcusdt@kline_1m", again=True)
    exchange.start()
    await exchange.finished()
    sockets = exchange.hub._opened
    await bot.close()
    await exchange.close()

    closes = [f["k"]["t"] for f in bot.frames if f["k"]["x"]]
    assert sockets == 4
    assert closes == list(range(START + HOUR - 60_000, START + 99 * 60_000, 60_000))
