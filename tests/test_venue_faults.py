"""Venue cases of a bad day: the market and the account VC-84 to VC-91, requests and replies VC-92 to VC-98."""

import asyncio
import time
from decimal import Decimal as D

import aiohttp
import pytest
from binance.exceptions import BinanceAPIException

from tests import venue_rig
from tests.sim_tools import START
from tests.venue_rig import HOUR, events, found, limit, order, position, stop

pytestmark = pytest.mark.wire
rig, lively = venue_rig.rig, venue_rig.lively


# -- VC-84 to VC-91: the market and the account -------------------------------------------------------------------------


async def isolated(rig) -> None:
    await rig.client.futures_change_margin_type(symbol="BTCUSDT", marginType="ISOLATED")


async def test_vc84_a_liquidation_is_a_fill_that_nobody_ordered(rig):
    user = await rig.user()
    market = await rig.socket(rig.manager.futures_multiplex_socket(["btcusdt@forceOrder", "!forceOrder@arr"]))
    await isolated(rig)
    await order(rig, "BUY")
    await stop(rig, "SELL", "90000", closePosition="true")

    await rig.fault("price_gap", percent=-6)
    told = await events(user, "ORDER_TRADE_UPDATE", "ALGO_UPDATE", "ACCOUNT_UPDATE", count=9)
    forced = await events(market, "forceOrder", count=2)

    last = [e["o"] for e in told if e["e"] == "ORDER_TRADE_UPDATE"][-1]
    assert last["c"].startswith("autoclose-")
    assert (last["x"], last["X"], last["S"]) == ("CALCULATED", "FILLED", "SELL")
    assert [e["o"]["X"] for e in told if e["e"] == "ALGO_UPDATE"][-1] == "EXPIRED"
    assert {event["o"]["q"] for event in forced} == {"0.010"}
    assert await position(rig) is None
    assert len(await rig.client.futures_liquidation_orders(autoCloseType="LIQUIDATION")) == 1


async def test_vc85_auto_deleveraging_closes_a_part_without_a_fee(rig):
    await order(rig, "BUY")
    user = await rig.user()

    await rig.fault("adl", symbol="BTCUSDT", share=0.4)
    (told,) = [e["o"] for e in await events(user, "ORDER_TRADE_UPDATE", count=2) if e["o"]["x"] == "CALCULATED"]

    assert (told["c"], told["z"], told["n"]) == ("adl_autoclose", "0.004", "0.00000000")
    assert (await position(rig))["positionAmt"] == "0.006"


async def test_vc86_a_settled_symbol_is_closed_and_takes_no_orders(rig):
    await order(rig, "BUY")
    await limit(rig, "BUY", "99000", newClientOrderId="open")

    await rig.fault("settlement", symbol="BTCUSDT")
    fills = await rig.client.futures_account_trades(symbol="BTCUSDT")
    names = [o["clientOrderId"] for o in await rig.client.futures_get_all_orders(symbol="BTCUSDT")]

    assert len(fills) == 2
    assert names[-1].startswith("settlement_autoclose-")
    assert (await found(rig, "open"))["status"] == "EXPIRED"
    assert await rig.refusal(order(rig, "BUY")) == (400, -4108)
    assert (await rig.client.futures_exchange_info())["symbols"][0]["status"] == "SETTLING"


async def test_vc87_filters_change_while_the_market_is_open(rig):
    await limit(rig, "BUY", "99000.1", newClientOrderId="before")

    await rig.fault("filter_change", symbol="BTCUSDT", tick="0.50", step="0.002", min_notional="100")
    info = (await rig.client.futures_exchange_info())["symbols"][0]
    filters = {f["filterType"]: f for f in info["filters"]}

    assert (filters["PRICE_FILTER"]["tickSize"], filters["LOT_SIZE"]["stepSize"]) == ("0.50", "0.002")
    assert await rig.refusal(limit(rig, "BUY", "99000.1")) == (400, -4014)
    assert await rig.refusal(limit(rig, "BUY", "99000", quantity="0.003")) == (400, -4023)
    assert (await limit(rig, "BUY", "99000.5"))["status"] == "NEW"
    assert (await found(rig, "before"))["price"] == "99000.10"
    status, answer = await rig.post("/sim/faults", [{"fault": "filter_change", "symbol": "BTCUSDT", "tick": "0.03"}])
    assert (status, "multiple of 0.10" in answer["msg"]) == (400, True)


async def test_vc88_a_halted_symbol_refuses_orders_and_says_so(lively):
    lively.exchange.start()
    market = await lively.socket(lively.manager.futures_multiplex_socket(["!contractInfo"]))

    await lively.fault("symbol_status", symbol="ETHUSDT", ms=60_000)
    (halted,) = await events(market, "contractInfo")
    refused = await lively.refusal(order(lively, "BUY", symbol="ETHUSDT"))
    (opened,) = await events(market, "contractInfo")

    assert (halted["s"], halted["cs"], opened["cs"]) == ("ETHUSDT", "PENDING_TRADING", "TRADING")
    assert refused == (400, -4108)
    assert (await order(lively, "BUY", symbol="ETHUSDT"))["status"] == "FILLED"


async def test_vc89_the_funding_interval_changes_while_a_position_is_open(rig):
    before = await rig.client.futures_mark_price(symbol="BTCUSDT")

    await rig.fault("funding_interval", symbol="BTCUSDT", hours=1, funding_rate="0.0004")
    after = await rig.client.futures_mark_price(symbol="BTCUSDT")
    (info,) = await rig.client.futures_v1_get_funding_info()

    assert (before["nextFundingTime"], after["nextFundingTime"]) == (START + 8 * HOUR, START + 2 * HOUR)
    assert after["lastFundingRate"] == "0.00040000"
    assert (info["symbol"], info["fundingIntervalHours"]) == ("BTCUSDT", 1)


async def test_vc90_a_gap_goes_through_the_stop(rig):
    await order(rig, "BUY")
    await stop(rig, "SELL", "99500", quantity="0.010", reduceOnly="true", clientAlgoId="s1")

    await rig.fault("price_gap", symbol="BTCUSDT", percent=-3)
    algo = await rig.client.futures_get_algo_order(clientAlgoId="s1")

    assert algo["algoStatus"] == "FINISHED"
    assert D("96900") < D(algo["actualPrice"]) < D("97100")
    assert await position(rig) is None


async def test_vc91_a_thin_book_fills_in_parts(rig):
    await rig.fault("thin_book", symbol="BTCUSDT", share=0.0005)

    reply = await limit(rig, "BUY", "100100", timeInForce="IOC")

    assert (reply["status"], D(reply["executedQty"])) == ("EXPIRED", D("0.005"))


# -- VC-92 to VC-98: requests and replies --------------------------------------------------------------------------------


async def test_vc92_a_drifting_clock_refuses_until_it_is_followed(rig):
    await rig.fault("clock_drift", offset=20_000)

    assert await rig.refusal(rig.client.futures_account_balance()) == (400, -1021)
    told = (await rig.client.futures_time())["serverTime"]
    rig.client.timestamp_offset = 20_000
    assert told == START + HOUR + 20_000
    assert await rig.client.futures_account_balance()


async def test_vc93_a_ban_in_the_middle_of_a_trade(rig):
    await rig.fault("http_418", path="/fapi/v1/order", ms=90_000)

    with pytest.raises(BinanceAPIException) as banned:
        await order(rig, "BUY")

    assert (banned.value.status_code, banned.value.response.headers["Retry-After"]) == (418, "90")
    assert await rig.refusal(rig.client.futures_time()) == (418, -1003)
    rig.exchange.clock.time_ms += 90_000
    assert (await order(rig, "BUY"))["status"] == "FILLED"


@pytest.mark.parametrize(
    ("fault", "answer", "orders"),
    [
        ("unknown_1006_executed", (503, -1006), 1),
        ("unknown_1006_not_executed", (503, -1006), 0),
        ("timeout_1007_executed", (408, -1007), 1),
        ("timeout_1007_not_executed", (408, -1007), 0),
        ("http_502_executed", (502, 0), 1),
        ("http_503_unavailable", (503, -1001), 0),
        ("internal_1001", (503, -1001), 0),
        ("overload_1008", (503, -1008), 0),
        ("http_403", (403, 0), 0),
        ("error", (400, -4400), 0),
    ],
)
async def test_vc94_every_failure_has_its_status_and_code(rig, fault, answer, orders):
    more = {"code": -4400} if fault == "error" else {}
    await rig.fault(fault, path="POST /fapi/v1/order", **more)

    assert await rig.refusal(order(rig, "BUY", newClientOrderId="f1")) == answer
    assert len(await rig.client.futures_get_all_orders(symbol="BTCUSDT")) == orders


async def test_vc95_a_lost_reply_is_not_a_lost_order(rig):
    await rig.fault("lost_reply", path="POST /fapi/v1/order")
    with pytest.raises(aiohttp.ClientError):
        await order(rig, "BUY", newClientOrderId="l1")

    await rig.fault("lost_request", path="POST /fapi/v1/order")
    with pytest.raises(aiohttp.ClientError):
        await order(rig, "BUY", newClientOrderId="l2")

    assert (await found(rig, "l1"))["status"] == "FILLED"
    assert await rig.refusal(found(rig, "l2")) == (400, -2013)


async def test_vc96_a_cancel_may_lose_its_race(rig):
    for name in ("half", "whole"):
        await limit(rig, "BUY", "99000", newClientOrderId=name)
    await order(rig, "BUY")
    await stop(rig, "SELL", "98000", quantity="0.010", reduceOnly="true", clientAlgoId="s1")

    await rig.fault("cancel_race", share=0.4)
    half = await rig.client.futures_cancel_order(symbol="BTCUSDT", origClientOrderId="half")
    await rig.fault("cancel_filled", count=2)
    whole = await rig.refusal(rig.client.futures_cancel_order(symbol="BTCUSDT", origClientOrderId="whole"))
    triggered = await rig.refusal(rig.client.futures_cancel_algo_order(clientAlgoId="s1"))

    assert (half["status"], half["executedQty"]) == ("CANCELED", "0.004")
    assert (whole, (await found(rig, "whole"))["status"]) == ((400, -2011), "FILLED")
    assert (triggered, (await found(rig, "s1"))["status"]) == ((400, -2011), "FILLED")


async def test_vc97_reads_may_lag_behind_the_stream(rig):
    await limit(rig, "BUY", "99000", newClientOrderId="kept")
    await rig.fault("stale_reads", count=4, ms=1_000)
    rig.exchange.clock.time_ms += 500

    await order(rig, "BUY")
    await limit(rig, "BUY", "99000", newClientOrderId="new")
    stale = await position(rig), await rig.client.futures_get_open_orders(symbol="BTCUSDT")
    unseen = await rig.refusal(found(rig, "new"))
    trades = await rig.client.futures_account_trades(symbol="BTCUSDT")

    assert (stale[0]["positionAmt"], [o["clientOrderId"] for o in stale[1]]) == ("0.000", ["kept"])
    assert (unseen, trades) == ((400, -2013), [])
    assert ((await position(rig))["positionAmt"], (await found(rig, "new"))["status"]) == ("0.010", "NEW")


async def test_vc98_latencies_are_drawn_from_a_distribution(rig):
    rig.exchange.start()
    await rig.fault("latency", path="/fapi/v1/time", count=0, ms=400, shape="lognormal", sigma=0.7)

    async def ask() -> tuple[float, int]:
        began = time.monotonic()
        told = (await rig.client.futures_time())["serverTime"]  # when it was carried out: half of the way
        return time.monotonic() - began, told

    answers = await asyncio.gather(*(ask() for _ in range(40)))

    # A busy machine only adds to these.
    assert sorted(took for took, _ in answers)[20] >= 0.2
    assert max(told for _, told in answers) - min(told for _, told in answers) >= 250
