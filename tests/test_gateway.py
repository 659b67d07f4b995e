"""The REST door, through the real client over loopback: three outcomes, patience, budget, and the account's pictures."""

import asyncio
import json
from decimal import Decimal as D
from pathlib import Path

import pytest

from bot.core.activity import Activity
from bot.core.errors import BotError
from bot.core.intents import CancelOrder, PlaceOrder
from bot.core.times import DAY_MS
from bot.core.types import OrderSide, OrderStatus, OrderType, TimeInForce
from bot.execution.clock import ClockReading, WallClock, machine_ms, middle_of
from bot.execution.limits import WEIGHT_HEADER, Lane, RequestLimits
from bot.execution.outcomes import Accepted, ReadFailed, Rejected, Unknown
from bot.execution.tasks import Tasks
from tests.loopback import START_MS, Answer, ManualClock, bench, error

REPLIES = json.loads((Path(__file__).parent / "data" / "payloads_rest.json").read_text())
BUY = PlaceOrder(
    "rbS-en-0-00k3f9x-01-a1", "BTCUSDT", OrderSide.BUY, OrderType.LIMIT, D("0.012"), D("76940.0"), TimeInForce.GTX
)
EXIT = PlaceOrder("rbS-hx-0-1-01-a1", "BTCUSDT", OrderSide.SELL, OrderType.MARKET, D("0.012"), reduce_only=True)
STOP = PlaceOrder(
    "rbS-cs-0-00k3f9x-01-a1", "BTCUSDT", OrderSide.SELL, OrderType.STOP_MARKET, D(0), trigger_price=D("76500.0"),
    close_position=True,
)  # fmt: skip
ENGINE_ERROR = "Unknown error, please check your request or try again later."


def ack(**headers):
    """Answer every order with its own acknowledgement."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda p: Answer({**REPLIES["order_ack"], "clientOrderId": p["newClientOrderId"]}, headers=names)


# Outcomes -------------------------------------------------------------------------------------------------------------


@pytest.mark.wire
async def test_an_accepted_order_tells_its_state_and_was_sent_signed_once():
    async with bench() as b:
        b.venue.default["POST", "order"] = REPLIES["order_ack"]

        outcome = await b.gateway.place(BUY)

        (sent,) = b.venue.sent("POST", "order")
        assert isinstance(outcome, Accepted)
        assert (outcome.update.status, outcome.update.client_id) == (OrderStatus.NEW, BUY.client_id)
        assert (sent["newClientOrderId"], sent["recvWindow"], sent["timeInForce"]) == (BUY.client_id, "5000", "GTX")
        assert "signature" in sent
        assert b.activity.under_way == 0


@pytest.mark.wire
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (error(-5022, "Post Only order will be rejected."), Rejected(-5022, "Post Only order will be rejected.")),
        (error(-2019, "Margin is insufficient."), Rejected(-2019, "Margin is insufficient.")),
        (error(-4116, "ClientOrderId is duplicated."), Rejected(-4116, "ClientOrderId is duplicated.")),
        (error(-1008, "Server overloaded", status=503), Rejected(-1008, "Server overloaded", busy=True)),
        (error(0, "Service Unavailable.", status=503), Rejected(-503, "Service Unavailable.", busy=True)),
        (error(-1001, "Internal error; unable to process your request.", status=500),
         Rejected(-1001, "Internal error; unable to process your request.", busy=True)),
        (error(-1003, "Too many requests", status=429), Rejected(-1003, "Too many requests", limited=True)),
        (error(-1015, "Too many new orders"), Rejected(-1015, "Too many new orders", limited=True)),
        (Answer(status=403, text="<html>blocked</html>"), Rejected(-403, "HTTP 403 without a readable body")),
        (error(-1000, ENGINE_ERROR, status=503), Unknown(ENGINE_ERROR)),
        (error(-1006, "unexpected response", status=500), Unknown("unexpected response")),
        (error(-1007, "timeout", status=408), Unknown("timeout")),
        (error(-1001, "Disconnected", status=500), Unknown("Disconnected")),
        (Answer(status=502, text="<html>bad gateway</html>"), Unknown("HTTP 502 without a readable body")),
        (Answer(text="<html>hello</html>"), Unknown("the reply is no JSON (HTTP 200)")),
        (Answer({"orderId": 1}), None),
        (Answer(drop=True), None),
        (Answer([], status=500), None),
    ],
)  # fmt: skip
async def test_every_answer_to_an_order_is_accepted_rejected_or_unknown(answer, expected):
    async with bench() as b:
        b.venue.will("POST", "order", answer)

        outcome = await b.gateway.place(BUY)

        assert isinstance(outcome, Unknown) if expected is None else outcome == expected
        assert len(b.venue.sent("POST", "order")) == 1
        assert b.activity.under_way == 0


@pytest.mark.wire
async def test_a_venue_that_is_not_there_has_certainly_not_taken_the_order():
    async with bench() as b:
        await b.venue.close()

        outcome = await b.gateway.place(BUY)

        assert isinstance(outcome, Rejected)
        assert outcome.busy
        await b.venue.listen()  # the bench closes it again


@pytest.mark.wire
async def test_a_wrong_clock_is_set_and_the_order_sent_once_more_and_no_oftener():
    async with bench(clock=WallClock(), stepped=False) as b:
        ahead = round(machine_ms()) + 30_000
        b.venue.default["GET", "time"] = lambda _: {"serverTime": round(machine_ms()) + 30_000}
        late = error(-1021, "Timestamp for this request is outside of the recvWindow.")
        b.venue.will("POST", "order", late, late)

        outcome = await b.gateway.place(BUY)

        first, second = b.venue.sent("POST", "order")
        assert isinstance(outcome, Rejected)
        assert outcome.code == -1021
        assert int(second["timestamp"]) - int(first["timestamp"]) > 29_000
        assert b.clock.now_ms() >= ahead - 1_000


# Reading --------------------------------------------------------------------------------------------------------------


@pytest.mark.wire
async def test_a_lost_read_is_given_up_after_two_and_a_half_seconds_of_the_clock_and_asked_again():
    async with bench() as b:
        held = asyncio.Event()
        b.venue.will("GET", "balance", Answer(REPLIES["balance"], hold=held))
        b.venue.default["GET", "balance"] = REPLIES["balance"]
        reading = asyncio.create_task(b.gateway.wallet())

        await b.clock.advance(2_499)
        early = len(b.venue.sent("GET", "balance"))
        await b.clock.advance(201)

        assert early == 1
        assert await reading == D(1000)
        assert len(b.venue.sent("GET", "balance")) == 2
        held.set()  # what was given up still ends, and nobody counts it twice
        await asyncio.sleep(0.05)
        await b.clock.settle()
        assert (b.activity.under_way, b.tasks.running) == (0, 0)


@pytest.mark.wire
async def test_a_refusal_that_comes_late_is_heard_although_its_read_was_given_up():
    async with bench() as b:
        held = asyncio.Event()
        banned = error(-1003, "Way too many requests", status=418, Retry_After="30")
        banned.hold = held
        b.venue.will("GET", "balance", banned)
        b.venue.default["GET", "balance"] = REPLIES["balance"]
        reading = asyncio.create_task(b.gateway.wallet())

        await b.clock.advance(3_000)
        held.set()
        await asyncio.sleep(0.05)
        await b.clock.settle()

        assert await reading == D(1000)
        assert b.gateway.limits.banned


@pytest.mark.wire
async def test_a_read_is_repeated_with_growing_waits_on_the_clock():
    async with bench() as b:
        b.venue.will(
            "GET",
            "balance",
            error(-1000, ENGINE_ERROR, status=503),
            Answer(status=502, text="<html/>"),
            Answer(drop=True),
        )
        b.venue.default["GET", "balance"] = REPLIES["balance"]
        reading = asyncio.create_task(b.gateway.wallet())

        await b.clock.advance(100)
        early = len(b.venue.sent("GET", "balance"))
        await b.clock.advance(2_000)

        assert early == 1
        assert await reading == D(1000)
        assert len(b.venue.sent("GET", "balance")) == 4


@pytest.mark.wire
async def test_a_read_that_is_refused_fails_with_one_sentence_and_the_way_out():
    async with bench() as b:
        b.venue.default["GET", "balance"] = error(-2015, "Invalid API-key, IP, or permissions for action.", status=401)

        with pytest.raises(ReadFailed, match="check the API key") as caught:
            await b.gateway.wallet()

        assert caught.value.code == -2015
        assert len(b.venue.sent("GET", "balance")) == 1


@pytest.mark.wire
async def test_a_session_is_loaded_from_one_exchange_info_by_symbol():
    async with bench() as b:
        b.venue.default |= {
            ("GET", "exchangeInfo"): REPLIES["exchange_info"],
            ("GET", "leverageBracket"): REPLIES["leverage_bracket"],
            ("GET", "commissionRate"): lambda p: {**REPLIES["commission_rate"], "symbol": p["symbol"]},
            ("GET", "fundingInfo"): REPLIES["funding_info"],
            ("GET", "balance"): REPLIES["balance"],
        }

        session = await b.gateway.load_session(("BTCUSDT", "SOLUSDT"), venue="testnet")

        assert [i.symbol for i in session.instruments] == ["BTCUSDT", "SOLUSDT"]
        assert (session.venue, session.wallet, session.at_ms) == ("testnet", D(1000), START_MS)
        assert len(b.venue.sent("GET", "exchangeInfo")) == 1
        assert (b.limits.weight_limit, b.limits.orders_10s_limit, b.limits.orders_1m_limit) == (2400, 300, 1200)
        with pytest.raises(ReadFailed, match="ETHUSDT"):
            await b.gateway.load_session(("ETHUSDT",), venue="testnet")


def settings(margin="isolated", dual=False, leverage=5):
    return {
        ("POST", "positionSide/dual"): error(-4059, "No need to change position side."),
        ("POST", "multiAssetsMargin"): error(-4171, "No need to change."),
        ("POST", "marginType"): error(-4046, "No need to change margin type."),
        ("POST", "leverage"): lambda p: {
            "leverage": int(p["leverage"]),
            "maxNotionalValue": "1",
            "symbol": p["symbol"],
        },
        ("GET", "accountConfig"): {"dualSidePosition": dual, "multiAssetsMargin": False, "canTrade": True},
        ("GET", "symbolConfig"): lambda p: [
            {"symbol": p["symbol"], "marginType": margin, "isAutoAddMargin": "false", "leverage": leverage}
        ],
    }


@pytest.mark.wire
async def test_an_account_that_already_stands_right_is_prepared_without_a_warning():
    async with bench() as b:
        b.venue.default |= settings(margin="ISOLATED")

        prepared = await b.gateway.prepare(("BTCUSDT", "ETHUSDT"), 5)

        assert prepared.leverage == {"BTCUSDT": 5, "ETHUSDT": 5}
        assert prepared.warnings == ()
        assert b.venue.sent("POST", "multiAssetsMargin")[0]["multiAssetsMargin"] == "false"
        assert b.venue.sent("POST", "positionSide/dual")[0]["dualSidePosition"] == "false"


@pytest.mark.wire
async def test_what_open_positions_keep_from_changing_is_a_warning_and_hedge_mode_or_cross_margin_an_end():
    async with bench() as b:
        b.venue.default |= settings(leverage=20) | {
            ("POST", "leverage"): error(-4161, "Leverage reduction is not supported")
        }
        prepared = await b.gateway.prepare(("BTCUSDT",), 5)
        assert prepared.leverage == {"BTCUSDT": 20}
        assert "-4161" in prepared.warnings[0]

        b.venue.default |= settings(dual=True)
        with pytest.raises(BotError, match="hedge mode"):
            await b.gateway.prepare(("BTCUSDT",), 5)

        b.venue.default |= settings(margin="crossed")
        with pytest.raises(BotError, match="cross margin"):
            await b.gateway.prepare(("BTCUSDT",), 5)


def kline_rows(params, *, step=180_000):
    start, end, limit = int(params["startTime"]), int(params["endTime"]), int(params["limit"])
    first = -(-start // step) * step
    opens = list(range(first, min(end, START_MS) + 1, step))[:limit]  # the forming bar is among them
    return [[t, "1", "2", "0.5", "1.5", "10", t + step - 1, "0", 1, "4", "0", "0"] for t in opens]


@pytest.mark.wire
async def test_klines_come_in_pages_closed_only_without_hole_or_repetition():
    async with bench() as b:
        b.venue.default["GET", "klines"] = kline_rows
        step, bars = 180_000, 1_234
        last_closed = START_MS // step * step - step

        klines = await b.gateway.klines("BTCUSDT", "3m", last_closed - (bars - 1) * step)

        assert [k.open_ms for k in klines] == [last_closed - i * step for i in reversed(range(bars))]
        assert [p["limit"] for p in b.venue.sent("GET", "klines")] == ["1000", "499"]
        assert await b.gateway.klines("BTCUSDT", "3m", last_closed - 5 * step, last_closed - 3 * step) == klines[-6:-4]
        assert await b.gateway.klines("BTCUSDT", "3m", last_closed + step) == []


@pytest.mark.wire
async def test_funding_knows_the_symbol_s_interval():
    async with bench() as b:
        b.venue.default |= {
            ("GET", "premiumIndex"): lambda p: {**REPLIES["premium_index"], "symbol": p["symbol"]},
            ("GET", "fundingInfo"): REPLIES["funding_info"],
        }

        assert (await b.gateway.funding("BTCUSDT")).interval_hours == 4
        assert (await b.gateway.funding("SOLUSDT")).interval_hours == 8


@pytest.mark.wire
async def test_a_quote_is_read_for_those_who_have_no_stream():
    async with bench() as b:
        b.venue.default["GET", "ticker/bookTicker"] = {
            "symbol": "BTCUSDT", "bidPrice": "1.0", "bidQty": "2", "askPrice": "1.1", "askQty": "3", "time": START_MS,
        }  # fmt: skip

        assert await b.gateway.quote("BTCUSDT") == (D("1.0"), D(2), D("1.1"), D(3))


# Snapshot -------------------------------------------------------------------------------------------------------------


def account(**more):
    return {
        ("GET", "positionRisk"): [REPLIES["position"]],
        ("GET", "balance"): REPLIES["balance"],
        ("GET", "openOrders"): lambda p: [REPLIES["open_order"]] if p["symbol"] == "BTCUSDT" else [],
        ("GET", "openAlgoOrders"): lambda p: [REPLIES["algo_created"]] if p["symbol"] == "BTCUSDT" else [],
        ("GET", "userTrades"): lambda p: [REPLIES["user_trade"]] if p["symbol"] == "BTCUSDT" else [],
        ("GET", "order"): REPLIES["order_ack"],
        **more,
    }


@pytest.mark.wire
async def test_a_snapshot_holds_positions_wallet_orders_stops_and_fills_with_their_client_ids():
    async with bench() as b:
        b.venue.default |= account()

        snapshot = await b.gateway.snapshot(("BTCUSDT", "ETHUSDT"), START_MS - 60_000)

        assert {p.symbol: p.qty for p in snapshot.positions} == {"BTCUSDT": D("-0.005")}
        assert {(o.client_id, o.algo) for o in snapshot.orders} == {
            ("rbS-tp-0-00k3f9x-01-a1", False), ("rbS-cs-0-00k3f9x-01-a1", True),
        }  # fmt: skip
        assert [(f.client_id, f.trade_id) for f in snapshot.fills] == [("rbS-en-0-00k3f9x-01-a1", 6123457001)]
        assert (snapshot.wallet, snapshot.at_ms) == (D(1000), START_MS)
        assert b.activity.under_way == 0


@pytest.mark.wire
async def test_a_snapshot_whose_position_moved_while_it_was_read_is_read_again():
    async with bench() as b:
        b.venue.default |= account()
        b.venue.will("GET", "positionRisk", Answer([]))  # flat at first, then the default

        snapshot = await b.gateway.snapshot(("BTCUSDT",), START_MS - 60_000)

        assert len(b.venue.sent("GET", "userTrades")) == 2
        assert snapshot.positions[0].qty == D("-0.005")


@pytest.mark.wire
async def test_trades_come_in_pages_and_windows_of_seven_days():
    trades = [{**REPLIES["user_trade"], "id": i, "time": START_MS - 10 * DAY_MS + i * 60_000} for i in range(2_400)]

    def page(params):
        start, end = int(params["startTime"]), int(params["endTime"])
        assert end - start < 7 * DAY_MS
        return [t for t in trades if start <= t["time"] <= end][:1_000]

    async with bench() as b:
        b.venue.default |= account() | {("GET", "userTrades"): page}

        fills = await b.gateway.fills("BTCUSDT", START_MS - 10 * DAY_MS)

        assert [f.trade_id for f in fills] == list(range(2_400))
        assert len(b.venue.sent("GET", "order")) == 1  # one order, asked for once


# Orders ---------------------------------------------------------------------------------------------------------------


@pytest.mark.wire
async def test_a_triggered_stop_is_looked_up_as_the_order_it_became():
    async with bench() as b:
        b.venue.default |= {
            ("GET", "algoOrder"): REPLIES["algo_triggered"],
            ("GET", "order"): error(-2013, "Order does not exist."),
        }
        stop_only = await b.gateway.query("rbS-sl-0-00k3f9x-01-a1", "BTCUSDT", algo=True)
        became = {**REPLIES["order_ioc_result"], "clientOrderId": "rbS-sl-0-00k3f9x-01-a1", "origType": "STOP_MARKET"}
        b.venue.default["GET", "order"] = became
        both = await b.gateway.query("rbS-sl-0-00k3f9x-01-a1", "BTCUSDT", algo=True)

        assert (stop_only.update.status, stop_only.update.filled_qty) == (OrderStatus.FILLED, D("0.012"))
        assert (both.update.status, both.update.filled_qty, both.update.algo) == (
            OrderStatus.EXPIRED,
            D("0.003"),
            False,
        )


@pytest.mark.wire
async def test_a_cancelled_stop_is_described_by_what_was_placed_or_else_looked_up():
    async with bench() as b:
        b.venue.default["DELETE", "algoOrder"] = REPLIES["algo_canceled"]
        b.venue.default["GET", "algoOrder"] = {**REPLIES["algo_created"], "algoStatus": "CANCELED"}
        cancel = CancelOrder(STOP.client_id, "BTCUSDT", algo=True)

        known = await b.gateway.cancel(cancel, known=STOP)
        unknown = await b.gateway.cancel(cancel)

        assert known.update.status is unknown.update.status is OrderStatus.CANCELED
        assert known.update.side is unknown.update.side is OrderSide.SELL


@pytest.mark.wire
async def test_everything_of_a_symbol_can_be_cancelled_regular_and_algo():
    async with bench() as b:
        b.venue.default |= {
            ("DELETE", "allOpenOrders"): {"code": 200, "msg": "done"},
            ("DELETE", "algoOpenOrders"): {"code": "200", "msg": "done"},
        }

        outcomes = await b.gateway.cancel_all("BTCUSDT")

        assert all(isinstance(outcome, Accepted) for outcome in outcomes)


# Budget ---------------------------------------------------------------------------------------------------------------


@pytest.mark.wire
async def test_after_429_entries_are_refused_reads_wait_and_exits_pass():
    async with bench() as b:
        b.venue.will("POST", "order", error(-1003, "Too many requests", status=429, Retry_After="7"))
        b.venue.default |= {("POST", "order"): ack(), ("GET", "balance"): REPLIES["balance"]}
        await b.gateway.place(BUY)
        reading = asyncio.create_task(b.gateway.wallet())
        await b.clock.settle()

        refused, passed = await b.gateway.place(BUY), await b.gateway.place(EXIT)
        waiting = not reading.done() and not b.venue.sent("GET", "balance")
        await b.clock.advance(7_001)

        assert isinstance(refused, Rejected)
        assert (refused.code, refused.limited) == (-1003, True)
        assert isinstance(passed, Accepted)
        assert waiting
        assert await reading == D(1000)
        assert len(b.venue.sent("POST", "order")) == 2


@pytest.mark.wire
async def test_a_ban_silences_everything_until_it_ends():
    async with bench() as b:
        b.venue.will("POST", "order", error(-1003, f"IP banned until {START_MS + 120_000}.", status=418))
        b.venue.default["POST", "order"] = ack()
        await b.gateway.place(BUY)

        banned = await b.gateway.place(EXIT)
        await b.clock.advance(120_001)
        after = await b.gateway.place(EXIT)

        assert isinstance(banned, Rejected)
        assert isinstance(after, Accepted)
        assert len(b.venue.sent("POST", "order")) == 2


@pytest.mark.wire
async def test_used_weight_is_read_from_every_reply_and_the_last_fifth_is_kept_for_exits():
    async with bench() as b:
        b.venue.default["GET", "balance"] = Answer(REPLIES["balance"], headers={WEIGHT_HEADER: "1950"})
        await b.gateway.wallet()
        reading = asyncio.create_task(b.gateway.wallet())
        await b.clock.advance(59_000)
        waiting = len(b.venue.sent("GET", "balance"))
        await b.clock.advance(1_100)

        assert b.limits.used(WEIGHT_HEADER) in (0, 1950)
        assert waiting == 1
        assert await reading == D(1000)


@pytest.mark.wire
async def test_order_counts_refuse_entries_but_not_exits_near_the_limit():
    async with bench() as b:
        b.venue.default["POST", "order"] = ack(X_MBX_ORDER_COUNT_10S="240")
        await b.gateway.place(BUY)

        assert b.limits.refusal(Lane.ENTRY)[0] == -1015
        assert b.limits.refusal(Lane.EXIT) is None
        assert isinstance(await b.gateway.place(EXIT), Accepted)
        await b.clock.advance(10_000)
        assert b.limits.refusal(Lane.ENTRY) is None


@pytest.mark.wire
@pytest.mark.parametrize(
    ("window", "rest_ms"), [("300 orders per 10 SECOND", 10_000), ("1200 orders per 1 MINUTE", 60_000)]
)
async def test_too_many_orders_rest_entries_alone_until_the_window_rolls(window, rest_ms):
    async with bench() as b:
        text = f"Too many new orders; current limit is {window}."
        b.venue.will("POST", "order", error(-1015, text, status=429))
        counted = ack(X_MBX_ORDER_COUNT_10S="3", X_MBX_ORDER_COUNT_1M="3")
        b.venue.default |= {("POST", "order"): counted, ("GET", "balance"): REPLIES["balance"]}

        refused = await b.gateway.place(BUY)
        read, kept, exited = await b.gateway.wallet(), await b.gateway.place(BUY), await b.gateway.place(EXIT)
        still = b.limits.refusal(Lane.ENTRY)
        await b.clock.advance(rest_ms - START_MS % rest_ms)

        assert (refused.code, refused.limited) == (-1015, True)
        assert read == D(1000)  # at once: nothing was waited for
        assert (kept.code, kept.limited) == (-1015, True)
        assert isinstance(exited, Accepted)
        assert still is not None  # a lower count told with the exit frees nothing
        assert isinstance(await b.gateway.place(BUY), Accepted)
        assert len(b.venue.sent("POST", "order")) == 3  # the second entry was not sent
        assert not b.limits.paused


async def test_a_longer_ban_replaces_a_pause_and_a_close_frees_the_waiting():
    clock = ManualClock(activity := Activity())
    limits = RequestLimits(tasks := Tasks(clock, activity=activity))
    limits.observe_refusal(429, {"Retry-After": "x"}, "")
    limits.observe_refusal(418, {}, "")
    waiting = asyncio.create_task(limits.clearance(Lane.QUERY))
    await clock.advance(119_000)

    assert not waiting.done()
    assert limits.banned

    limits.close()
    await waiting
    await tasks.close()
    assert (limits.banned, limits.paused, activity.under_way) == (False, False, 0)


# Clock ----------------------------------------------------------------------------------------------------------------


def test_the_offset_is_the_median_of_the_readings():
    readings = [ClockReading(100, 120, 1_110), ClockReading(200, 300, 1_250), ClockReading(400, 404, 9_999)]

    assert middle_of(readings).offset_ms == 1_000


def test_the_clock_never_goes_back_and_never_lags_behind_what_the_exchange_told():
    clock = WallClock()
    clock.synchronise(5_000)
    first = clock.now_ms()
    clock.observe(first + 700)
    after = clock.now_ms()
    clock.synchronise(0)
    clock.observe(first + 10_000_000)  # a broken frame

    assert abs(first - machine_ms() - 5_000) < 100
    assert after >= first + 700
    assert after <= clock.now_ms() < first + 10_000


def test_towards_a_replay_the_clock_follows_its_events_and_requests_are_signed_with_the_machine_s_time():
    clock = WallClock()
    start = round(machine_ms()) - 500 * DAY_MS

    signed_offset = clock.synchronise(-500 * DAY_MS)
    early = clock.now_ms()
    clock.observe(start + 1_500_000)

    assert signed_offset == 0
    assert clock.replay
    assert abs(early - start) < 1_000
    assert 0 <= clock.now_ms() - (start + 1_500_000) < 1_000


@pytest.mark.wire
async def test_the_clock_is_synchronised_over_the_wire_and_the_client_signs_with_the_offset():
    async with bench(clock=WallClock(), stepped=False) as b:
        b.venue.default["GET", "time"] = lambda _: {"serverTime": round(machine_ms()) - 20_000}

        offset = await b.gateway.synchronise()

        assert abs(offset + 20_000) < 50
        assert abs(b.client.timestamp_offset + 20_000) < 50
        assert len(b.venue.sent("GET", "time")) == 5
