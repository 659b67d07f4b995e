"""The shell under faults that the engine never sees: bans, look-ups, deaf and silent streams, halts; early bars."""

import asyncio
import logging
from dataclasses import replace
from decimal import Decimal as D

import pytest

from bot.app.flatten import Standing
from bot.app.halt import Halt
from bot.core.activity import Activity
from bot.core.errors import BotError
from bot.core.events import AccountSnapshot, FeedLost, KlineClosed, OrderUpdate
from bot.core.intents import Alert, CancelOrder, LookUp
from bot.core.types import OrderSide, OrderStatus, PositionReport
from bot.execution.limits import RequestLimits
from bot.execution.models_push import AggTradePush
from bot.execution.stamps import Decisions, Lag
from bot.execution.tasks import Tasks
from bot.execution.trades import TradeBars
from tests.builders import fill
from tests.loopback import START_MS, ManualClock, error
from tests.test_executor import BUY, FILLED, STOP, shell
from tests.test_streams import BAR0, PUSHES, STEP, SYMBOLS, kline, market

pytestmark = pytest.mark.wire
BAN = error(-1003, "Way too many requests; banned", status=418, Retry_After="3")
NO_ORDER = error(-2013, "Order does not exist.")
STOP_ACK = {
    "clientAlgoId": STOP.client_id, "algoId": 7, "symbol": "BTCUSDT", "side": "SELL", "algoStatus": "NEW", "quantity": "0",
    "updateTime": START_MS, "createTime": START_MS,
}  # fmt: skip


# Bans -----------------------------------------------------------------------------------------------------------------


async def test_during_a_ban_what_protects_waits_exactly_until_it_ends_and_an_entry_is_refused():
    async with shell() as s:
        s.venue.default["POST", "algoOrder"] = STOP_ACK
        s.venue.will("GET", "balance", BAN)
        await s.perform(LookUp("x", "BTCUSDT", OrderSide.BUY, D(1), START_MS))  # anything that meets the ban
        s.b.limits.pause(3_000, banned=True)

        await s.perform(STOP, BUY, advance_ms=2_990)
        before = (s.venue.sent("POST", "algoOrder"), s.executor.submission.waiting)
        await s.perform(advance_ms=20)

        assert before == ([], 1)
        assert len(s.venue.sent("POST", "algoOrder")) == 1
        told = {e.client_id: (e.status, e.code) for e in s.events if isinstance(e, OrderUpdate)}
        assert told[STOP.client_id] == (OrderStatus.NEW, 0)
        assert told[BUY.client_id] == (OrderStatus.REJECTED, -1003)


async def test_a_protective_order_that_meets_the_ban_itself_is_sent_again_when_it_ends():
    async with shell() as s:
        s.venue.will("POST", "algoOrder", BAN)
        s.venue.default["POST", "algoOrder"] = STOP_ACK

        await s.perform(STOP, advance_ms=2_900)
        during = [e.status for e in s.events]
        await s.perform(advance_ms=200)

        assert during == []
        assert [e.status for e in s.events] == [OrderStatus.NEW]
        assert len(s.venue.sent("POST", "algoOrder")) == 2


async def test_an_order_withdrawn_during_a_ban_is_never_sent():
    async with shell() as s:
        s.venue.default["DELETE", "algoOrder"] = error(-2011, "Unknown order sent.")
        s.venue.default["GET", "algoOrder"] = NO_ORDER
        s.b.limits.pause(3_000, banned=True)

        await s.perform(STOP, CancelOrder(STOP.client_id, "BTCUSDT", algo=True), advance_ms=4_000)

        assert s.venue.sent("POST", "algoOrder") == []
        assert [e.status for e in s.events if isinstance(e, OrderUpdate)] == [OrderStatus.REJECTED]


async def test_a_pause_is_told_once_at_its_begin_and_at_its_end():
    clock = ManualClock(activity := Activity())
    limits = RequestLimits(Tasks(clock, activity=activity))
    told = []
    limits.on_pause = told.append

    for _ in range(5):
        limits.observe_refusal(429, {"Retry-After": "2"}, "")
    limits.observe_refusal(418, {"Retry-After": "5"}, "")
    await clock.advance(5_000)

    assert [text[:32] for text in told] == ["the exchange asked for a pause f", "the exchange banned this address", ""]


async def test_too_many_orders_rest_entries_until_the_window_has_rolled_and_exits_go_on_trying():
    async with shell() as s:
        s.venue.will("POST", "algoOrder", error(-1015, "Too many new orders."), error(-1015, "Too many new orders."))
        s.venue.default["POST", "algoOrder"] = STOP_ACK

        await s.perform(STOP)
        await s.perform(BUY, advance_ms=700)

        told = {e.client_id: e.status for e in s.events}
        assert told == {STOP.client_id: OrderStatus.NEW, BUY.client_id: OrderStatus.REJECTED}


# Looking up -----------------------------------------------------------------------------------------------------------


async def test_a_look_up_tells_what_became_of_the_order():
    async with shell() as s:
        s.venue.default["GET", "order"] = FILLED

        await s.perform(LookUp(BUY.client_id, "BTCUSDT", OrderSide.BUY, D("0.012"), START_MS - 60_000))

        assert [(e.status, e.filled_qty) for e in s.events] == [(OrderStatus.FILLED, D("0.012"))]


@pytest.mark.parametrize(("accepted", "status"), [(False, OrderStatus.REJECTED), (True, OrderStatus.EXPIRED)])
async def test_a_look_up_declares_absent_only_after_the_window_two_misses_and_the_accounts_trades(accepted, status):
    async with shell() as s:
        s.venue.default["GET", "order"] = NO_ORDER
        intent = LookUp(BUY.client_id, "BTCUSDT", OrderSide.BUY, D("0.012"), START_MS - 1_000, accepted=accepted)

        await s.perform(intent, intent, advance_ms=4_000)
        early = list(s.events)
        await s.perform(advance_ms=20_000)

        assert early == []
        assert [(e.status, e.code) for e in s.events] == [(status, -2013)]
        assert s.venue.sent("GET", "userTrades")


async def test_the_user_stream_ends_a_look_up():
    async with shell() as s:
        s.venue.default["GET", "order"] = NO_ORDER
        await s.perform(LookUp(BUY.client_id, "BTCUSDT", OrderSide.BUY, D("0.012"), START_MS), advance_ms=400)

        s.executor.observe(
            OrderUpdate(START_MS, BUY.client_id, "BTCUSDT", OrderStatus.NEW, OrderSide.BUY, D("0.012"), D(0), D(0))
        )
        asked = len(s.venue.sent("GET", "order"))
        await s.perform(advance_ms=60_000)

        assert s.events == []
        assert len(s.venue.sent("GET", "order")) <= asked + 1


# Streams --------------------------------------------------------------------------------------------------------------


def frame_of(name):
    """Return a frame that belongs on a stream of the market."""
    symbol, suffix = name.upper().split("@", 1)
    if suffix.startswith("KLINE_"):
        interval = suffix.removeprefix("KLINE_").lower()
        return kline(BAR0 if interval == "3m" else BAR0 - STEP, symbol, closed=False, interval=interval)
    return {**PUSHES["mark_price"], "s": symbol}


async def test_one_silent_stream_on_a_socket_that_lives_is_lost_and_the_socket_replaced():
    async with market(market_silence_ms=10_000, stream_silence=3, late_bar_ms=10**9) as m:
        names = list(m.streams.feeds["market"].streams)
        for _ in range(13):
            for name in names[1:]:
                await m.venue.push("market", frame_of(name), stream=name)
            await m.clock.advance(4_000)
        await m.reconnected("market", 2)

        lost = [e for e in m.events if isinstance(e, FeedLost)]
        assert [e.stream for e in lost][:1] == ["market"]
        assert lost[0].reason == f"{names[0]} silent for 30000 ms"


async def test_a_fill_that_the_user_stream_kept_back_shows_that_it_is_deaf():
    async with market() as m:
        await m.clock.advance(10_000)
        at_ms = m.clock.now_ms() - 4_000
        missed = fill(at_ms=at_ms, trade_id=77)
        snapshot = AccountSnapshot(m.clock.now_ms(), D(1), (), (), (missed,))

        m.streams.audit(replace(snapshot, fills=(replace(missed, at_ms=m.clock.now_ms() - 1_000),)))
        too_young = list(m.feeds)
        m.streams.audit(snapshot)
        await m.reconnected("private", 2)
        await m.clock.settle()
        m.streams.audit(snapshot)  # told by the old socket or never: it is not asked for twice

        assert too_young == []
        assert m.feeds == [("FeedLost", "user"), ("FeedRestored", "user")]


async def test_what_the_user_stream_told_is_not_held_against_it():
    async with market() as m:
        await m.clock.advance(10_000)
        await m.push("private", PUSHES["order_partly_filled"])
        (told,) = [e for e in m.events if type(e).__name__ == "Fill"]

        m.streams.audit(
            AccountSnapshot(m.clock.now_ms(), D(1), (), (), (replace(told, at_ms=m.clock.now_ms() - 4_000),))
        )

        assert m.feeds == []


async def test_each_streams_lag_and_the_lag_of_closed_bars_are_measured():
    async with market() as m:
        now = m.clock.now_ms()
        await m.push("public", {**PUSHES["book_ticker"], "s": "BTCUSDT", "E": now - 35})
        await m.push("market", kline(BAR0))

        view = m.streams.view()
        assert m.streams.lag_ms == 35
        assert view["public"]["streams"]["btcusdt@bookTicker"]["p50_ms"] == 35
        assert view["public"]["streams"]["ethusdt@bookTicker"]["frames"] == 0
        assert view["close_lag"]["BTCUSDT"]["frames"] == 1


async def test_an_exchange_that_is_gone_for_long_is_told_at_growing_distances(caplog):
    caplog.set_level(logging.WARNING)
    async with market() as m:
        m.venue.default["POST", "listenKey"] = error(-1000, "no", status=500)
        await m.venue.cut("private")
        for _ in range(60):
            await m.clock.advance(10_000)

        said = [r for r in caplog.records if "reconnect" in r.message]
        assert 3 <= len(said) <= 9


def test_percentiles_of_lags_are_those_of_the_newest():
    lag = Lag()
    for value in (-5, 10, 20, 30):
        lag.add(value)

    assert lag.summary() == {"frames": 4, "last_ms": 30, "p50_ms": 20, "p99_ms": 30, "max_ms": 30}


def test_a_decisions_time_is_that_from_its_bars_first_frame_to_its_own_bytes():
    told = []
    decisions = Decisions(lambda client_id, ms: told.append((client_id, ms)))

    decisions.bar("BTCUSDT", 1, 10)
    decisions.bar("BTCUSDT", 1, 10**18)
    decisions.expect("a", "BTCUSDT", 1)
    decisions.expect("b", "BTCUSDT", 2)
    for client_id in ("a", "a", "b", "c"):
        decisions.written(client_id)

    assert [client_id for client_id, _ in told] == ["a"]
    assert told[0][1] > 0


# Early bars -----------------------------------------------------------------------------------------------------------


def trade(at_ms, number, price="100", qty="1", *, symbol="BTCUSDT", seller=False):
    return {"e": "aggTrade", "E": at_ms, "s": symbol, "a": number, "p": price, "q": qty, "T": at_ms, "m": seller}


async def trade_bars(*trades, advance_ms=0):
    clock = ManualClock(activity := Activity(), now_ms=BAR0 + 10)
    made = []
    bars = TradeBars(SYMBOLS, STEP, tasks=Tasks(clock, activity=activity), emit=made.append)
    for payload in trades:
        await clock.advance(max(payload["T"] - clock.now_ms(), 0))
        bars.push(AggTradePush.of(payload))
    await clock.advance(advance_ms)
    bars.close()
    return bars, made


async def test_a_bar_is_built_from_its_trades_and_closed_by_the_first_one_after_its_end():
    first = [
        trade(BAR0 + 20, 1),
        trade(BAR0 + STEP, 2, "101", "0.3", seller=True),
        trade(BAR0 + STEP + 9, 3, "99", "0.2"),
    ]

    bars, made = await trade_bars(*first, trade(BAR0 + 2 * STEP + 1, 4))

    (event,) = made  # the first bar was not seen from its begin
    assert event.early
    assert event.at_ms == BAR0 + 2 * STEP + 1
    assert event.kline[:9] == ("BTCUSDT", STEP, BAR0 + STEP, 101.0, 101.0, 99.0, 99.0, 0.5, 0.2)
    assert bars.late == 0


async def test_without_a_trade_the_clock_closes_the_bar_and_a_later_trade_of_it_is_counted():
    bars, made = await trade_bars(
        trade(BAR0 + 20, 1), trade(BAR0 + STEP, 2), trade(BAR0 + 2 * STEP - 5, 3), advance_ms=200
    )
    bars.push(AggTradePush.of(trade(BAR0 + 2 * STEP - 1, 4)))

    assert [e.kline.open_ms for e in made] == [BAR0 + STEP]
    assert made[0].at_ms == BAR0 + 2 * STEP + 150
    assert bars.late == 1


async def test_a_bar_with_a_hole_in_its_trades_or_a_lost_connection_is_not_made():
    hole = [trade(BAR0 + 20, 1), trade(BAR0 + STEP, 2), trade(BAR0 + STEP + 5, 4), trade(BAR0 + 2 * STEP, 5)]

    _, made = await trade_bars(*hole)

    assert made == []


async def test_early_bars_come_over_the_socket_and_the_confirmed_one_still_follows():
    async with market(early=True, late_bar_ms=10**9) as m:
        clock = m.clock
        for number, symbol in enumerate(SYMBOLS):
            await m.push("market", trade(BAR0 + 20, 10 + number, symbol=symbol))
        await clock.advance(BAR0 + STEP + 1 - clock.now_ms())
        for number, symbol in enumerate(SYMBOLS):
            await m.push("market", trade(BAR0 + STEP + 1, 11 + number, symbol=symbol))
        await clock.advance(STEP + 400)
        await m.push("market", kline(BAR0 + STEP, "ETHUSDT"), kline(BAR0 + STEP))

        found = [(e.kline.symbol[:3], e.early) for e in m.events if isinstance(e, KlineClosed)]
        assert "btcusdt@aggTrade" in m.venue.opened[-1]
        assert [f for f in found if f[1]] == [("ETH", True), ("BTC", True)]
        assert found.index(("BTC", True)) < found.index(("BTC", False))


# Halting --------------------------------------------------------------------------------------------------------------


async def test_a_halt_closes_until_it_is_flat_and_tells_the_person():
    clock = ManualClock(activity := Activity())
    tasks = Tasks(clock, activity=activity)
    told: list[Alert] = []
    ends = [
        BotError("cannot read the positions: no reply in time"),
        Standing((PositionReport("BTCUSDT", D(1), D(1)),), ()),
        Standing((), ()),
    ]

    async def close():
        end = ends.pop(0)
        if isinstance(end, Exception):
            raise end
        return end

    halt = Halt(tasks, close=close, tell=told.append)
    halt.start(ValueError("fills exceed the order"))
    halt.start(ValueError("again"))
    await clock.advance(10_000)

    assert halt.flat
    assert halt.reason == "halted: fills exceed the order"
    assert all(a.level == "critical" for a in told)
    assert "fills exceed" in told[0].text
    assert "no reply in time" in told[1].text
    assert "no position and no order" in told[-1].text
    await asyncio.sleep(0)
    assert tasks.running == 0
