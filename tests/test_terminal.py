"""The terminal shows what happens, as lines or as a picture, and never keeps the bot waiting."""

import asyncio
import io
import os
import time
from contextlib import suppress
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from bot.core.events import Command, FeedLost, Fill, OrderUpdate, TimerFired
from bot.core.intents import Alert, SetTimer
from bot.core.records import Decision
from bot.core.types import OrderSide, OrderStatus, Side
from bot.engine import view as engine_view
from bot.report.hub import Hub
from bot.report.status import status_rows
from bot.report.terminal import Terminal, picture
from bot.report.view import line, view, weight
from bot.strategy.rules import CONDITIONS
from bot.strategy.wording import explain_condition
from tests.engine_harness import Harness, started

D = Decimal
LIT = (True, True, True, True, True, False)
DARK = (False,) * 6
SNAPSHOT = {
    "venue": "sim",
    "at_ms": 1_700_000_000_000,
    "lag_ms": 12,
    "symbols": ["BTCUSDT", "ETHUSDT"],
    "prices": {"BTCUSDT": "60000.1", "ETHUSDT": "3000"},
    "equity": "1004.20",
    "peak": "1014.343434",
    "wallet": "1000",
    "day_r": -0.5,
    "decision": {
        "open_ms": 1_699_999_740_000,
        "long": {name: name != "trail" for name in CONDITIONS},
        "short": dict.fromkeys(CONDITIONS, False),
        "signal": 0,
        "code": "no_signal",
        "reason": "five of six: trail",
        "values": {
            "htf_smc_trend": 1.0,
            "htf_pac_trend": 1.0,
            "long_ob_id": 7.0,
            "long_ob_bottom": 59_900.0,
            "long_ob_top": 59_950.5,
            "long_ob_dominance": 71.2,
            "long_ob_rank": 88.0,
            "om_hyperwave": 34.56,
            "om_signal": 31.2,
            "om_money_flow": 20.1,
            "om_lower": 35.0,
            "om_upper": 65.0,
            "om_overflow_up": 0.0,
            "om_overflow_down": 1.0,
            "so_state": -1.0,
            "so_rating": 3.0,
            "so_trail_dir": -1.0,
            "so_trail": 60_100.0,
        },
    },
    "trade": {
        "trade_id": "00k3f9x",
        "side": "LONG",
        "stage": "OPEN",
        "qty": "0.012",
        "average": "59950.1",
        "r": 0.71,
        "stop": "59880.0",
        "stop_kind": "initial",
        "risk_quote": "7.5",
        "targets": [{"leg": "t1", "price": "60020.2"}, {"leg": "t2", "price": "60055.3"}],
        "legs": [{"symbol": "ETHUSDT", "qty": "-0.09", "average": "3000.5", "stop": "3020", "note": "[/x]"}],
    },
    "limits": {
        "direction_r": {"LONG": -3.1, "SHORT": 0.0},
        "resting": ["LONG"],
        "leverage": 5,
        "risk_fraction": 0.0075,
        "entries_off": "",
        "soft_stopped": False,
        "day_hit": False,
        "feeds_lost": {},
        "reconciled": True,
    },
    "counters": {"signals": 3},
}


def fill(trade_id: int = 1) -> Fill:
    return Fill(
        1_700_000_000_000, "rbS-en-0", "BTCUSDT", OrderSide.BUY, D("0.012"), D("59950.1"), D("0.14"), True, trade_id
    )


def shown(snapshot: dict) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(picture(view(snapshot), [("a line of news", "")]))
    return console.file.getvalue()


async def watched(console: Console, *items: object, snapshot: dict | None = None) -> None:
    """Publish items one after the other to a running terminal and close it."""
    hub = Hub()
    terminal = Terminal(hub, snapshot=lambda: snapshot or SNAPSHOT, console=console)
    task = asyncio.create_task(terminal.run())
    for item in items:
        hub.publish(item)
        await asyncio.sleep(0)
    terminal.close()
    await task


def test_the_picture_shows_venue_lights_with_numbers_position_and_news():
    page = shown(SNAPSHOT)

    for words in (
        "SIMULATION",
        "exchange 2023-11-14 22:13:20 UTC",
        "LONG 5/6",
        "SHORT 0/6",
        "SMC ▲ PAC ▲",
        "HTF_BULL · 15m structure",
        "59,900-59,950.5 · 71 % · rank 88",
        "HW 34.6 > 31.2: crossed below 50",
        "HW 34.6 > 31.2: needs a cross above 50",
        "MF 20.1 < 35.0, overflow down",
        "▼ rating 3",
        "▼ line 60,100",
        "no_signal · five of six: trail",
        "Position 00k3f9x",
        "+0.71 R",
        "ETHUSDT",
        "1,004.20 USDT",
        "ETHUSDT",
        "60,020.2 · 60,055.3",
        "-3.10 day R",
        "rests",
        "below peak 1.00%",
        "a line of news",
    ):
        assert words in page, words


def test_real_money_cannot_be_mistaken():
    assert "LIVE · REAL MONEY" in shown({**SNAPSHOT, "venue": "live"})
    assert "REAL MONEY" not in shown(SNAPSHOT)
    assert view({"venue": "live"})["real_money"]


def test_lost_streams_and_stopped_entries_stand_in_the_banner():
    limits = {**SNAPSHOT["limits"], "feeds_lost": {"market": "silent"}, "entries_off": "told [/]", "soft_stopped": True}

    page = shown({**SNAPSHOT, "limits": limits})

    assert "NOT HEARD: market" in page
    assert "ENTRIES OFF told [/]; soft stop" in page
    assert "ENTRIES OFF" not in shown(SNAPSHOT)


def test_lost_streams_are_a_reason_for_no_entries():
    limits = {**SNAPSHOT["limits"], "feeds_lost": {"user": "silent", "market": "silent"}}
    seen = view({**SNAPSHOT, "limits": limits})

    assert seen["entries"] == {"allowed": False, "reason": "no data from market, user"}
    assert ("entries", "OFF: no data from market, user") in status_rows(seen)


def test_the_unit_of_the_day_is_named_and_nothing_is_minus_zero():
    limits = {**SNAPSHOT["limits"], "day_unit": "7.5", "mean_slippage": -1e-9}
    seen = view({**SNAPSHOT, "limits": limits})
    rows = {row["name"]: row["text"] for row in seen["limits"]}

    assert (rows["long today"], rows["one day R"], rows["mean slippage"]) == ("-3.10 day R", "7.50 USDT", "0.000%")
    assert "today -0.50 day R" in dict(status_rows(seen))["equity"]


@pytest.mark.parametrize("side", Side)
def test_the_engines_own_snapshot_fills_every_place_of_the_picture(side):
    bot = started(side).enter()

    seen = view(engine_view.snapshot(bot.engine))

    name = side.name.lower()
    assert seen["sides"][name]["count"] == 6
    assert seen["sides"]["short" if name == "long" else "long"]["count"] == 3
    assert seen["trade"]["side"] == side.name
    for key in ("id", "state", "qty", "entry", "stop", "tp1", "tp2", "r", "risk_quote", "opened_ms"):
        assert seen["trade"][key], key
    assert [leg["side"] for leg in seen["legs"]] == [side.opposite.name] * 2
    assert all(leg["stop"] for leg in seen["legs"])
    assert seen["entries"]["allowed"]
    assert seen["price"]
    for key in ("wallet", "equity", "peak", "leverage", "risk_fraction"):
        assert seen["money"][key], key
    assert engine_view.snapshot(bot.engine)["decision"]["close"] == float(
        bot.engine.market_state.series["BTCUSDT"].closes[seen["verdict"]["open_ms"]]
    )
    assert f"Position {seen['trade']['id']}" in shown(engine_view.snapshot(bot.engine))


def test_an_engine_that_has_seen_nothing_is_shown_too():
    bot = Harness()

    seen = view(engine_view.snapshot(bot.engine))

    assert [light["on"] for light in seen["sides"]["long"]["lights"]] == [None] * 6
    assert seen["trade"] is None
    assert "no bar has been decided yet" in shown(engine_view.snapshot(bot.engine))


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.decimals(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def spoiled(data: st.DataObject, whole: dict) -> dict:
    """The snapshot with some keys missing and some holding anything, at every depth."""
    result = {}
    for key, value in whole.items():
        match data.draw(st.sampled_from(("same", "same", "gone", "junk")), label=key):
            case "same":
                result[key] = spoiled(data, value) if isinstance(value, dict) else value
            case "junk":
                result[key] = data.draw(JUNK)
    return result


@given(st.data())
def test_a_snapshot_with_missing_or_odd_keys_is_shown_all_the_same(data):
    assert "LONG" in shown(spoiled(data, SNAPSHOT))


@pytest.mark.parametrize("name", CONDITIONS)
def test_without_numbers_an_undecided_light_has_none_beside_it(name):
    assert explain_condition({}, Side.LONG, name, None) == ""


def test_each_kind_of_news_has_its_line():
    vetoed = Decision(180_000, 0, LIT, DARK, 1, "spread", "0.03 % > 0.02 %")
    refused = OrderUpdate(
        0, "x", "BTCUSDT", OrderStatus.REJECTED, OrderSide.BUY, D(1), D(0), D(0), code=-2021, reason="late"
    )

    assert line(fill()) == (
        "2023-11-14 22:13:20  filled BUY 0.012 BTCUSDT at 59950.1 (maker, fee 0.14) rbS-en-0"
    )  # fmt: skip
    assert line(vetoed) == "1970-01-01 00:03:00  signal LONG · vetoed spread: 0.03 % > 0.02 %"
    assert line(Alert("critical", "no stop")) == "critical: no stop"
    assert line(FeedLost(0, "user")) == "1970-01-01 00:00:00  stream user lost"
    assert "rejected by the exchange: -2021 late" in line(refused)
    assert "command arm" in line(Command(0, "arm"))
    assert line(TimerFired(0, "x")) is line(SetTimer("x", 1)) is None
    assert (weight(Alert("critical", "")), weight(Alert("info", ""))) == ("bad", "plain")


async def test_piped_output_has_a_filled_line_for_every_fill_of_a_replay_at_full_speed():
    console = Console(file=io.StringIO(), force_terminal=False)
    fills = [fill(i) for i in range(5000)]

    await watched(console, *fills)

    text = console.file.getvalue()
    assert text.count("filled") == 5000
    assert "\x1b" not in text


async def test_a_terminal_gets_the_picture():
    console = Console(file=io.StringIO(), force_terminal=True, width=120)

    await watched(console, fill())

    assert "SIMULATION" in console.file.getvalue()
    assert "filled BUY" in console.file.getvalue()


async def test_a_reader_that_stops_reading_does_not_hold_the_bot_up():
    reader, writer = os.pipe()
    hub = Hub()
    file = os.fdopen(writer, "w")
    terminal = Terminal(hub, snapshot=dict, console=Console(file=file, force_terminal=False))
    task = asyncio.create_task(terminal.run())
    began = time.perf_counter()

    for i in range(3000):  # far more than the pipe holds
        hub.publish(fill(i))
        if i % 100 == 0:
            await asyncio.sleep(0.001)
    took = time.perf_counter() - began
    os.close(reader)  # now the writer fails instead of waiting
    terminal.close()
    await task
    terminal._thread.join(5)

    assert took < 3
    assert isinstance(terminal._failed, BrokenPipeError)
    with suppress(BrokenPipeError):
        file.close()


async def test_a_closed_reader_ends_the_lines_and_not_the_bot():
    file = io.StringIO()
    console = Console(file=file, force_terminal=False)
    file.close()

    await watched(console, fill())


async def test_a_slow_watcher_loses_the_oldest_news_and_is_told_how_many():
    hub = Hub()
    slow = hub.subscribe(keep=3)

    for i in range(5):
        hub.publish(i)

    assert await slow.wait(1)
    assert slow.take() == [2, 3, 4]
    assert slow.dropped == 2
    assert not await slow.wait(0.01)
    hub.publish()
    assert await slow.wait(1)
    assert (slow.take(), hub.version) == ([], 6)


async def test_a_closed_hub_wakes_and_lets_go_of_its_watchers():
    hub = Hub()
    subscription = hub.subscribe()

    hub.close()

    assert await subscription.wait(1)
    assert subscription.closed
    assert hub.watchers == 0
