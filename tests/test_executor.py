"""The executor, through the real client over loopback: one answer to each intent, and no order sent twice."""

import asyncio
import json
from contextlib import asynccontextmanager
from decimal import Decimal as D
from pathlib import Path

import pytest

from bot.core.errors import InvariantError
from bot.core.events import AccountSnapshot, CancelRejected, LeverageSet, OrderUpdate, TimerFired
from bot.core.intents import Alert, CancelOrder, CancelTimer, PlaceOrder, RequestSnapshot, SetLeverage, SetTimer
from bot.core.types import OrderSide, OrderStatus, OrderType, TimeInForce
from bot.execution.executor import Executor
from tests.loopback import START_MS, Answer, Bench, bench, error

REPLIES = json.loads((Path(__file__).parent / "data" / "payloads_rest.json").read_text())
ACK, ABSENT, NO_ORDER = REPLIES["order_ack"], error(-2013, "Order does not exist."), error(-2011, "Unknown order sent.")
FILLED = {**ACK, "status": "FILLED", "executedQty": "0.012", "avgPrice": "76940.00"}
CANCELED = {**ACK, "status": "CANCELED", "executedQty": "0.005", "avgPrice": "76940.00"}
MAYBE = error(-1000, "Unknown error, please check your request or try again later.", status=503)
BUSY = error(-1008, "Server is currently overloaded.", status=503)
BUY = PlaceOrder(
    ACK["clientOrderId"], "BTCUSDT", OrderSide.BUY, OrderType.LIMIT, D("0.012"), D("76940.0"), TimeInForce.GTX
)
STOP = PlaceOrder(
    "rbS-cs-0-00k3f9x-01-a1", "BTCUSDT", OrderSide.SELL, OrderType.STOP_MARKET, D(0), trigger_price=D("76500.0"),
    close_position=True,
)  # fmt: skip
CANCEL = CancelOrder(BUY.client_id, "BTCUSDT")

NEW, UNKNOWN, REJECTED = OrderStatus.NEW, OrderStatus.UNKNOWN, OrderStatus.REJECTED


class Shell:
    """An executor and what it has emitted."""

    def __init__(self, b: Bench) -> None:
        self.b = b
        self.venue = b.venue
        self.events = []
        self.alerts: list[Alert] = []
        self.executor = Executor(
            b.gateway, b.tasks, self.events.append, symbols=("BTCUSDT",), on_alert=self.alerts.append
        )

    async def perform(self, *intents, advance_ms=0) -> None:
        for intent in intents:
            self.executor.perform(intent)
        await self.b.clock.advance(advance_ms)

    @property
    def told(self):
        return [event.status if isinstance(event, OrderUpdate) else type(event).__name__ for event in self.events]


@asynccontextmanager
async def shell():
    async with bench() as b:
        it = Shell(b)
        it.venue.default["GET", "userTrades"] = []
        try:
            yield it
        finally:
            it.executor.close()
        await b.clock.settle()
        assert b.activity.under_way == 0


pytestmark = pytest.mark.wire


# Placing --------------------------------------------------------------------------------------------------------------


async def test_an_accepted_order_answers_with_its_state_once():
    async with shell() as s:
        s.venue.default["POST", "order"] = ACK

        await s.perform(BUY, advance_ms=60_000)

        assert s.told == [NEW]
        assert len(s.venue.requests) == 1
        assert s.b.clock.pending == 0


async def test_a_market_order_answers_with_how_it_ended():
    async with shell() as s:
        s.venue.default["POST", "order"] = {**FILLED, "clientOrderId": "m", "type": "MARKET"}

        await s.perform(PlaceOrder("m", "BTCUSDT", OrderSide.BUY, OrderType.MARKET, D("0.012")))

        assert s.told == [OrderStatus.FILLED]
        assert s.events[0].average_price == D("76940.00")
        assert s.venue.sent("POST", "order")[0]["newOrderRespType"] == "RESULT"


async def test_a_stop_goes_to_the_algo_service_and_answers():
    async with shell() as s:
        s.venue.default["POST", "algoOrder"] = REPLIES["algo_created"]

        await s.perform(STOP)

        assert s.told == [NEW]
        assert s.events[0].algo


@pytest.mark.parametrize("code", [-5022, -2021, -2019, -4130, -4164])
async def test_a_refused_order_is_rejected_with_binance_s_code_and_not_repeated(code):
    async with shell() as s:
        s.venue.will("POST", "order", error(code))

        await s.perform(BUY, advance_ms=60_000)

        assert s.told == [REJECTED]
        assert (s.events[0].code, s.events[0].qty) == (code, BUY.qty)
        assert len(s.venue.requests) == 1


async def test_overload_is_repeated_after_200_400_and_800_ms_and_then_rejected():
    async with shell() as s:
        s.venue.default["POST", "order"] = BUSY

        await s.perform(BUY, advance_ms=199)
        first = len(s.venue.requests)
        await s.b.clock.advance(401)
        third = len(s.venue.requests)
        await s.b.clock.advance(60_000)

        assert (first, third, len(s.venue.requests)) == (1, 3, 4)
        assert s.told == [REJECTED]
        assert s.events[0].code == -1008


async def test_an_overloaded_order_that_was_cancelled_meanwhile_is_not_repeated():
    async with shell() as s:
        s.venue.will("POST", "order", BUSY)
        s.venue.default |= {("DELETE", "order"): NO_ORDER, ("GET", "order"): ABSENT}

        await s.perform(BUY, advance_ms=100)
        await s.perform(CANCEL, advance_ms=60_000)

        assert len(s.venue.sent("POST", "order")) == 1
        assert s.told == [REJECTED]


async def test_too_many_requests_refuses_an_entry_at_once_but_an_exit_tries_again():
    async with shell() as s:
        s.venue.will("POST", "order", error(-1003, "Too many requests", status=429, Retry_After="1"))
        s.venue.default["POST", "order"] = {**FILLED, "clientOrderId": "x"}

        await s.perform(BUY, advance_ms=100)
        await s.perform(PlaceOrder("x", "BTCUSDT", OrderSide.SELL, OrderType.MARKET, D("0.012"), reduce_only=True))

        assert s.told == [REJECTED, OrderStatus.FILLED]


async def test_an_intent_that_cannot_be_sent_is_our_own_bug_and_raises_at_once():
    async with shell() as s:
        with pytest.raises(InvariantError):
            s.executor.perform(PlaceOrder("a:b", "BTCUSDT", OrderSide.BUY, OrderType.MARKET, D(1)))


# Unknown outcomes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer", [MAYBE, Answer(drop=True), Answer(status=504, text="<html/>"), Answer({"orderId": 5})]
)
async def test_an_unknown_outcome_is_told_looked_up_by_client_id_and_never_posted_again(answer):
    async with shell() as s:
        s.venue.will("POST", "order", answer)
        s.venue.will("GET", "order", ABSENT, Answer(status=502, text="<html/>"))
        s.venue.default["GET", "order"] = FILLED

        await s.perform(BUY, advance_ms=60_000)

        assert s.told == [UNKNOWN, OrderStatus.FILLED]
        assert len(s.venue.sent("POST", "order")) == 1
        assert len(s.venue.sent("GET", "order")) == 3
        assert {p["origClientOrderId"] for p in s.venue.sent("GET", "order")} == {BUY.client_id}


async def test_an_order_is_declared_absent_only_after_six_seconds_of_look_ups_and_the_account_s_trades():
    async with shell() as s:
        s.venue.will("POST", "order", MAYBE)
        s.venue.default["GET", "order"] = ABSENT
        times = []

        await s.perform(BUY)
        for _ in range(80):
            before = len(s.venue.sent("GET", "order"))
            await s.b.clock.advance(100)
            times += [s.b.clock.now_ms() - START_MS] * (len(s.venue.sent("GET", "order")) - before)

        assert times == [300, 700, 1500, 3000, 6000]
        assert s.told == [UNKNOWN, REJECTED]
        assert (s.events[1].code, s.events[1].at_ms) == (-2013, START_MS + 6_000)
        assert len(s.venue.sent("GET", "userTrades")) == 1


async def test_an_order_whose_trades_exist_is_not_absent_whatever_the_look_up_says():
    async with shell() as s:
        s.venue.will("POST", "order", MAYBE)
        s.venue.default["GET", "order"] = lambda p: FILLED if "orderId" in p else ABSENT
        s.venue.will("GET", "order", *[ABSENT] * 5, Answer(FILLED), Answer(FILLED))
        s.venue.default["GET", "userTrades"] = [{**REPLIES["user_trade"], "time": START_MS + 5}]

        await s.perform(BUY, advance_ms=60_000)

        assert s.told == [UNKNOWN, OrderStatus.FILLED]


async def test_while_the_exchange_cannot_be_asked_an_order_stays_unknown():
    async with shell() as s:
        s.venue.will("POST", "order", MAYBE)
        s.venue.will("GET", "order", *[MAYBE] * 8)
        s.venue.default["GET", "order"] = ABSENT

        await s.perform(BUY, advance_ms=24_000)
        early = list(s.told)
        await s.b.clock.advance(60_000)

        assert early == [UNKNOWN]
        assert s.told == [UNKNOWN, REJECTED]


async def test_without_the_account_s_trades_an_order_is_not_declared_absent():
    async with shell() as s:
        s.venue.will("POST", "order", MAYBE)
        s.venue.default["GET", "order"] = ABSENT
        s.venue.will("GET", "userTrades", error(-1102, "bad"))

        await s.perform(BUY, advance_ms=11_000)
        early = list(s.told)
        await s.b.clock.advance(2_000)

        assert early == [UNKNOWN]
        assert s.told == [UNKNOWN, REJECTED]


async def test_no_reply_in_time_is_unknown_and_the_late_reply_is_still_heard():
    async with shell() as s:
        held = asyncio.Event()
        s.venue.will("POST", "order", Answer(ACK, hold=held))
        s.venue.default["GET", "order"] = ABSENT

        await s.perform(BUY, advance_ms=5_400)
        early = list(s.told)
        held.set()
        await asyncio.sleep(0.05)
        await s.b.clock.advance(60_000)

        assert early == [UNKNOWN]
        assert s.told == [UNKNOWN, NEW]
        assert len(s.venue.sent("POST", "order")) == 1


async def test_a_lost_look_up_is_asked_again_after_two_and_a_half_seconds():
    async with shell() as s:
        held = asyncio.Event()
        s.venue.will("POST", "order", MAYBE)
        s.venue.will("GET", "order", Answer(ACK, hold=held))
        s.venue.default["GET", "order"] = FILLED

        await s.perform(BUY, advance_ms=300 + 2_500 + 400)
        held.set()
        await asyncio.sleep(0.05)

        assert s.told == [UNKNOWN, OrderStatus.FILLED]
        assert len(s.venue.sent("GET", "order")) == 2


async def test_an_order_accepted_after_it_was_declared_absent_is_told_and_taken_back():
    async with shell() as s:
        held = asyncio.Event()
        s.venue.will("POST", "order", Answer(ACK, hold=held))
        s.venue.default |= {("GET", "order"): ABSENT, ("DELETE", "order"): CANCELED}

        await s.perform(BUY, advance_ms=12_000)
        held.set()
        await asyncio.sleep(0.05)
        await s.b.clock.advance(10)

        assert s.told == [UNKNOWN, REJECTED, NEW, OrderStatus.CANCELED]
        assert s.alerts[0].level == "critical"


async def test_the_user_stream_ends_the_search():
    async with shell() as s:
        s.venue.will("POST", "order", MAYBE)
        s.venue.default["GET", "order"] = ABSENT

        await s.perform(BUY, advance_ms=400)
        update = OrderUpdate(START_MS, BUY.client_id, "BTCUSDT", NEW, BUY.side, BUY.qty, D(0), D(0))
        s.executor.observe(update)
        await s.b.clock.advance(60_000)

        assert s.told == [UNKNOWN]
        assert len(s.venue.sent("GET", "order")) == 1


async def test_a_duplicate_client_id_means_that_an_earlier_request_was_accepted():
    async with shell() as s:
        s.venue.will("POST", "order", error(-4116, "ClientOrderId is duplicated."))
        s.venue.default["GET", "order"] = ACK

        await s.perform(BUY, advance_ms=60_000)

        assert s.told == [UNKNOWN, NEW]


# Cancelling -----------------------------------------------------------------------------------------------------------


async def test_a_cancel_answers_with_what_had_filled():
    async with shell() as s:
        s.venue.default["DELETE", "order"] = CANCELED

        await s.perform(CANCEL)

        assert s.told == [OrderStatus.CANCELED]
        assert s.events[0].filled_qty == D("0.005")


async def test_a_cancel_of_a_filled_order_answers_with_the_fill():
    async with shell() as s:
        s.venue.default |= {("DELETE", "order"): NO_ORDER, ("GET", "order"): FILLED}

        await s.perform(CANCEL, advance_ms=60_000)

        assert s.told == [OrderStatus.FILLED]
        assert len(s.venue.sent("DELETE", "order")) == 1


async def test_a_cancel_of_an_order_that_nobody_knows_is_rejected():
    async with shell() as s:
        s.venue.default |= {("DELETE", "order"): NO_ORDER, ("GET", "order"): ABSENT}

        await s.perform(CANCEL, advance_ms=60_000)

        assert s.events == [CancelRejected(START_MS, BUY.client_id, "BTCUSDT", -2011, "Unknown order sent.")]


async def test_a_cancel_with_unknown_outcome_is_looked_up_and_repeated_until_the_end_is_known():
    async with shell() as s:
        s.venue.will("DELETE", "order", MAYBE, Answer(status=502, text="<html/>"), Answer(CANCELED))
        s.venue.default["GET", "order"] = ACK

        await s.perform(CANCEL, advance_ms=60_000)

        assert s.told == [NEW, NEW, OrderStatus.CANCELED]
        assert len(s.venue.sent("DELETE", "order")) == 3


async def test_a_lost_cancel_is_given_up_looked_up_and_sent_again():
    async with shell() as s:
        held = asyncio.Event()
        s.venue.will("DELETE", "order", Answer(CANCELED, hold=held))
        s.venue.default |= {("DELETE", "order"): CANCELED, ("GET", "order"): ACK}

        await s.perform(CANCEL, advance_ms=3_000)
        held.set()
        await asyncio.sleep(0.05)

        assert s.told == [NEW, OrderStatus.CANCELED]
        assert len(s.venue.sent("DELETE", "order")) == 2


async def test_a_cancel_asked_for_again_is_sent_at_once_by_the_same_loop():
    async with shell() as s:
        s.venue.default |= {("DELETE", "order"): MAYBE, ("GET", "order"): ACK}

        await s.perform(CANCEL, advance_ms=8_000)  # sent at 0, 0.3, 1.0, 2.5 and 5.5 s
        assert len(s.venue.sent("DELETE", "order")) == 5
        await s.perform(CANCEL, CANCEL, CANCEL, advance_ms=1)
        assert len(s.venue.sent("DELETE", "order")) == 6
        s.venue.default["DELETE", "order"] = CANCELED
        await s.perform(CANCEL, advance_ms=60_000)

        assert len(s.venue.sent("DELETE", "order")) == 7
        assert s.told[-1] is OrderStatus.CANCELED


async def test_a_cancel_whose_outcome_stays_unknown_ends_with_a_word_and_any_other_refusal_at_once():
    async with shell() as s:
        s.venue.default |= {("DELETE", "order"): MAYBE, ("GET", "order"): MAYBE}
        await s.perform(CANCEL, advance_ms=100_000)
        assert [(type(e), e.code) for e in s.events] == [(CancelRejected, 0)]

        s.venue.default["DELETE", "order"] = error(-1102, "Mandatory parameter was not sent.")
        await s.perform(CANCEL)
        assert s.events[-1].code == -1102


async def test_a_cancel_that_overtakes_its_order_waits_for_it_and_then_cancels():
    async with shell() as s:
        held = asyncio.Event()
        s.venue.will("POST", "order", Answer(ACK, hold=held))
        s.venue.will("DELETE", "order", NO_ORDER, Answer(CANCELED))
        s.venue.default["GET", "order"] = ABSENT

        await s.perform(BUY, advance_ms=700)
        await s.perform(CANCEL, advance_ms=1_000)
        early = list(s.events)
        s.venue.default["GET", "order"] = Answer(CANCELED)
        held.set()
        await asyncio.sleep(0.05)
        await s.b.clock.advance(60_000)

        assert early == []
        assert s.told == [NEW, OrderStatus.CANCELED]


async def test_an_entry_whose_cancel_was_confirmed_by_nobody_but_the_reply_still_counts_as_working():
    async with shell() as s:
        s.venue.will("POST", "order", Answer(ACK))
        s.venue.will("DELETE", "order", Answer(CANCELED), Answer(CANCELED))
        s.venue.will("GET", "order", Answer(ACK))
        s.venue.default["GET", "order"] = Answer(CANCELED)

        await s.perform(BUY, advance_ms=100)
        await s.perform(CANCEL, advance_ms=5_000)

        assert s.told == [NEW, NEW, OrderStatus.CANCELED]


async def test_a_stop_that_has_triggered_is_cancelled_as_the_order_it_became():
    async with shell() as s:
        became = {**ACK, "clientOrderId": STOP.client_id, "origType": "STOP_MARKET"}
        triggered = {
            **REPLIES["algo_triggered"],
            "clientAlgoId": STOP.client_id,
            "algoStatus": "TRIGGERED",
            "actualQty": "0",
        }
        s.venue.default |= {
            ("DELETE", "algoOrder"): NO_ORDER,
            ("GET", "algoOrder"): triggered,
            ("GET", "order"): became,
            ("DELETE", "order"): {**became, "status": "CANCELED"},
        }

        await s.perform(CancelOrder(STOP.client_id, "BTCUSDT", algo=True), advance_ms=60_000)

        assert s.told == [OrderStatus.TRIGGERED, OrderStatus.CANCELED]


async def test_a_placed_stop_is_cancelled_without_another_look():
    async with shell() as s:
        s.venue.default |= {
            ("POST", "algoOrder"): REPLIES["algo_created"],
            ("DELETE", "algoOrder"): REPLIES["algo_canceled"],
        }

        await s.perform(STOP)
        await s.perform(CancelOrder(STOP.client_id, "BTCUSDT", algo=True))

        assert s.told == [NEW, OrderStatus.CANCELED]
        assert len(s.venue.requests) == 2


# Timers, leverage, snapshots ------------------------------------------------------------------------------------------


async def test_timers_fire_on_the_clock_counted_from_the_event_that_set_them():
    async with shell() as s:
        s.executor.perform(SetTimer("a", 700), at_ms=START_MS - 200)
        s.executor.perform(SetTimer("b", 300))
        s.executor.perform(SetTimer("b", 900))
        s.executor.perform(SetTimer("c", 100))
        s.executor.perform(CancelTimer("c"))
        s.executor.perform(CancelTimer("never set"))
        await s.b.clock.advance(10_000)

        assert s.events == [TimerFired(START_MS + 500, "a"), TimerFired(START_MS + 900, "b")]


async def test_a_timer_set_again_while_it_fires_fires_again():
    async with shell() as s:
        s.executor.perform(SetTimer("a", 100))
        await s.b.clock.advance(100)
        s.executor.perform(SetTimer("a", 100))
        await s.b.clock.advance(1_000)

        assert [event.at_ms - START_MS for event in s.events] == [100, 200]


async def test_leverage_answers_with_what_holds_even_when_it_is_refused():
    async with shell() as s:
        s.venue.will(
            "POST",
            "leverage",
            Answer({"leverage": 10, "maxNotionalValue": "1", "symbol": "BTCUSDT"}),
            error(-4161, "no"),
        )
        s.venue.default["GET", "symbolConfig"] = [{"symbol": "BTCUSDT", "marginType": "ISOLATED", "leverage": 10}]

        await s.perform(SetLeverage("BTCUSDT", 10))
        await s.perform(SetLeverage("BTCUSDT", 5))

        assert s.events == [LeverageSet(START_MS, "BTCUSDT", 10)] * 2
        assert "stays 10" in s.alerts[0].text


async def test_snapshots_that_are_wanted_at_once_are_read_once_more_and_failures_are_told_and_repeated():
    async with shell() as s:
        s.venue.default |= {
            ("GET", "positionRisk"): [], ("GET", "openOrders"): [], ("GET", "openAlgoOrders"): [],
            ("GET", "balance"): REPLIES["balance"],
        }  # fmt: skip
        await s.perform(RequestSnapshot("a"), RequestSnapshot("b"), RequestSnapshot("c"))
        assert [type(event) for event in s.events] == [AccountSnapshot]

        s.venue.will("GET", "balance", error(-1102, "no"))
        await s.perform(RequestSnapshot("d"), advance_ms=400)
        assert len(s.events) == 1
        assert s.alerts[0].level == "warning"

        await s.b.clock.advance(2_000)
        assert len(s.events) == 2


async def test_alerts_are_passed_on():
    async with shell() as s:
        alert = Alert("info", "hello")

        await s.perform(alert)

        assert s.alerts == [alert]


# Counting -------------------------------------------------------------------------------------------------------------


async def test_the_count_is_above_zero_whenever_the_bot_can_go_on_by_itself_and_zero_when_it_waits():
    async with shell() as s:
        held = asyncio.Event()
        s.venue.will("POST", "order", Answer(ACK, hold=held))
        s.executor.perform(BUY)
        counted_at_once = s.b.activity.under_way

        await s.b.clock.settle()
        waiting_for_exchange = s.b.activity.under_way
        held.set()
        await asyncio.sleep(0.05)
        await s.b.clock.settle()

        assert counted_at_once > 0
        assert waiting_for_exchange == 0
        assert s.told == [NEW]
        assert s.b.activity.under_way == 0


async def test_while_the_bot_finds_out_where_it_stands_entries_wait_and_exits_go_out():
    async with shell() as s:
        s.venue.default["POST", "order"] = FILLED
        s.b.limits.hold_entries()

        await s.perform(BUY, advance_ms=4_000)
        waiting = (s.venue.sent("POST", "order"), s.executor.submission.waiting)
        s.b.limits.release_entries()
        await s.perform(advance_ms=10)

        assert waiting == ([], 1)
        assert len(s.venue.sent("POST", "order")) == 1
        assert [e.status for e in s.events if isinstance(e, OrderUpdate)] == [OrderStatus.FILLED]


async def test_an_entry_withdrawn_while_entries_wait_is_never_sent():
    async with shell() as s:
        s.venue.default["DELETE", "order"] = error(-2011, "Unknown order sent.")
        s.venue.default["GET", "order"] = error(-2013, "Order does not exist.")
        s.b.limits.hold_entries()

        await s.perform(BUY, CancelOrder(BUY.client_id, "BTCUSDT"), advance_ms=1_000)
        s.b.limits.release_entries()
        await s.perform(advance_ms=10_000)

        assert s.venue.sent("POST", "order") == []
        assert OrderStatus.REJECTED in [e.status for e in s.events if isinstance(e, OrderUpdate)]
