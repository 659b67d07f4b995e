"""Venue cases of accounts as they are, of exits beside resting targets and of histories: VC-116 to VC-131."""

from decimal import Decimal as D

import pytest

from bot.core.times import DAY_MS
from bot.sim.quirks import Quirks
from tests import venue_rig
from tests.sim_tools import START
from tests.venue_rig import HOUR, Rig, events, found, limit, order, position, rig_of, stop

pytestmark = pytest.mark.wire
rig = venue_rig.rig
COUNTING = Quirks(reduce_only_counts_resting=True)


async def held(rig: Rig) -> None:
    """Hold 0.010 BTC long with two targets of 0.006 and 0.004 resting above."""
    await order(rig, "BUY")
    for price, quantity in (("101000", "0.006"), ("102000", "0.004")):
        await limit(
            rig, "SELL", price, quantity=quantity, timeInForce="GTX", reduceOnly="true", newClientOrderId=f"tp{price}"
        )


async def fall(rig: Rig, percent: float = -3.0) -> None:
    """Let the price fall at once."""
    await rig.fault("price_gap", symbol="BTCUSDT", percent=percent)


# -- VC-116 to VC-119: exits beside resting targets ----------------------------------------------------------------------


async def test_vc116_a_full_size_exit_beside_resting_targets_is_exempt(rig):
    await held(rig)

    assert (await order(rig, "SELL", reduceOnly="true"))["status"] == "FILLED"
    assert await position(rig) is None
    assert {(await found(rig, f"tp{price}"))["status"] for price in ("101000", "102000")} == {"EXPIRED"}


async def test_vc117_or_it_is_refused_while_they_rest():
    async with rig_of(quirks=COUNTING) as rig:
        await held(rig)
        close = {"reduceOnly": "true"}

        assert await rig.refusal(order(rig, "SELL", **close)) == (400, -4118)
        assert await rig.refusal(order(rig, "SELL", quantity="0.001", **close)) == (400, -4118)
        assert await rig.refusal(limit(rig, "SELL", "103000", quantity="0.001", **close)) == (400, -4118)
        await rig.client.futures_cancel_order(symbol="BTCUSDT", origClientOrderId="tp102000")
        assert await rig.refusal(order(rig, "SELL", quantity="0.005", **close)) == (400, -4118)
        grown = rig.client.futures_modify_order(symbol="BTCUSDT", side="SELL", origClientOrderId="tp101000",
                                                quantity="0.011", price="101000")  # fmt: skip
        assert await rig.refusal(grown) == (400, -4118)
        assert (await order(rig, "SELL", quantity="0.004", **close))["status"] == "FILLED"
        assert (await order(rig, "SELL", quantity="0.002"))["status"] == "FILLED"
        assert (await position(rig))["positionAmt"] == "0.004"


@pytest.mark.parametrize(("expires", "states"), [
    (False, ["NEW", "TRIGGERING", "REJECTED"]), (True, ["NEW", "TRIGGERING", "TRIGGERED", "FINISHED"])])  # fmt: skip
async def test_vc118_a_triggered_reduce_only_stop_is_refused_the_same_way(expires, states):
    quirks = COUNTING.changed({"refused_trigger_expires": expires})
    async with rig_of(quirks=quirks) as rig:
        user = await rig.user()
        await held(rig)
        await stop(rig, "SELL", "98000", quantity="0.010", reduceOnly="true", clientAlgoId="sl")
        await fall(rig)
        told = [e["o"] for e in await events(user, "ALGO_UPDATE", count=len(states))]
        end = await rig.client.futures_get_algo_order(clientAlgoId="sl")

        assert [o["X"] for o in told] == states
        assert (await position(rig))["positionAmt"] == "0.010"
        assert end["actualQty"] in ("0", "0.000")
        if expires:
            regular = await found(rig, "sl")
            assert (regular["status"], regular["executedQty"], told[-1]["aq"]) == ("EXPIRED", "0.000", "0.000")
        else:
            assert "existing position and open orders" in told[-1]["rm"]
            assert await rig.refusal(found(rig, "sl")) == (400, -2013)


async def test_vc119_a_closing_stop_closes_whatever_rests():
    async with rig_of(quirks=COUNTING) as rig:
        await held(rig)
        await stop(rig, "SELL", "98000", closePosition="true", clientAlgoId="hard")
        await fall(rig)

        assert await position(rig) is None
        assert (await rig.client.futures_get_algo_order(clientAlgoId="hard"))["algoStatus"] == "FINISHED"
        assert (await found(rig, "tp101000"))["status"] == "EXPIRED"


# -- VC-120 to VC-122: as today's clients see it ---------------------------------------------------------------------------


async def test_vc120_a_funded_asset_has_been_updated():
    async with rig_of() as rig:
        (row,) = await rig.client.futures_account_balance()
        accounts = [await rig.client.futures_account(version=version) for version in (2, 3)]

        assert 0 < row["updateTime"] <= START + HOUR
        assert [account["assets"][0]["updateTime"] for account in accounts] == [row["updateTime"]] * 2


async def test_vc121_a_market_order_takes_no_time_in_force(rig):
    assert await rig.refusal(order(rig, "BUY", timeInForce="GTC")) == (400, -1106)
    assert await rig.refusal(order(rig, "BUY", timeInForce="NONSENSE")) == (400, -1106)
    assert (await stop(rig, "SELL", "90000", quantity="0.010", timeInForce="GTC"))["algoStatus"] == "NEW"


async def test_vc122_a_span_of_history_is_seven_days_at_most(rig):
    client, now = rig.client, START + HOUR
    await order(rig, "BUY")
    await limit(rig, "BUY", "99000")
    await stop(rig, "SELL", "90000")
    week = {"startTime": now - 7 * DAY_MS, "endTime": now}
    for read, rows in (
        (client.futures_account_trades, 1),
        (client.futures_get_all_orders, 2),
        (client.futures_get_all_algo_orders, 1),
    ):
        assert len(await read(symbol="BTCUSDT", **week)) == rows
        assert len(await read(symbol="BTCUSDT", startTime=now - 7 * DAY_MS)) == rows
        assert await read(symbol="BTCUSDT", startTime=now - 30 * DAY_MS) == []
        assert await read(symbol="BTCUSDT", endTime=now - 1) == []
        assert await rig.refusal(read(symbol="BTCUSDT", startTime=now - 7 * DAY_MS - 1, endTime=now)) == (400, -4165)
        assert await rig.refusal(read(symbol="BTCUSDT", startTime=now, endTime=now - 1)) == (400, -1023)
    assert await rig.refusal(client.futures_account_trades(symbol="BTCUSDT", fromId=1, startTime=now)) == (400, -1128)

    rig.exchange.clock.time_ms += 8 * DAY_MS
    assert await client.futures_account_trades(symbol="BTCUSDT") == []
    assert await client.futures_get_all_orders(symbol="BTCUSDT") == []
    assert await client.futures_income_history() == []
    assert len(await client.futures_account_trades(symbol="BTCUSDT", fromId=1)) == 1
    assert len(await client.futures_get_all_orders(symbol="BTCUSDT", orderId=1)) == 2
    assert len(await client.futures_income_history(startTime=now)) == 1


# -- VC-123 to VC-131: accounts as they are --------------------------------------------------------------------------------


async def test_vc123_a_credits_account_is_multi_assets_for_good_and_its_money_is_bnfcr():
    async with rig_of(quirks=Quirks(account="credits")) as rig:
        client, isolated = rig.client, {"symbol": "BTCUSDT", "marginType": "ISOLATED"}
        balance = {row["asset"]: D(row["balance"]) for row in await client.futures_account_balance()}

        assert balance == {"USDT": 0, "BNFCR": 1000}
        assert await rig.refusal(client.futures_change_multi_assets_mode(multiAssetsMargin=False)) == (400, -4172)
        assert await rig.refusal(client.futures_change_multi_assets_mode(multiAssetsMargin=True)) == (400, -4171)
        assert await rig.refusal(client.futures_change_margin_type(**isolated)) == (400, -4168)
        assert (await client.futures_account_config())["multiAssetsMargin"] is True
        assert (await client.futures_get_multi_assets_mode())["multiAssetsMargin"] is True
        assert (await client.futures_symbol_config(symbol="BTCUSDT"))[0]["marginType"] == "CROSSED"
        assert {row["asset"] for row in (await client.futures_account(version=3))["assets"]} == {"USDT", "BNFCR"}
        user = await rig.user()
        await order(rig, "BUY")
        (event,) = await events(user, "ACCOUNT_UPDATE")
        assert event["a"]["B"][0]["a"] == "BNFCR"
        assert event["a"]["P"][0]["mt"] == "cross"


async def test_vc124_a_multi_assets_account_goes_back_while_no_order_rests():
    async with rig_of(quirks=Quirks(account="multi")) as rig:
        client, isolated = rig.client, {"symbol": "BTCUSDT", "marginType": "ISOLATED"}
        assert (await client.futures_account_config())["multiAssetsMargin"] is True
        assert await rig.refusal(client.futures_change_margin_type(**isolated)) == (400, -4168)
        await limit(rig, "BUY", "99000", newClientOrderId="m")
        assert await rig.refusal(client.futures_change_multi_assets_mode(multiAssetsMargin=False)) == (400, -4170)
        await client.futures_cancel_order(symbol="BTCUSDT", origClientOrderId="m")
        await client.futures_change_multi_assets_mode(multiAssetsMargin=False)
        await client.futures_change_margin_type(**isolated)

        assert (await client.futures_symbol_config(symbol="BTCUSDT"))[0]["marginType"] == "ISOLATED"


async def test_vc125_a_portfolio_margin_account_has_no_futures_calls_and_its_key_says_so():
    async with rig_of(quirks=Quirks(account="portfolio")) as rig:
        client = rig.client
        for call in (
            client.futures_account_balance,
            client.futures_account_config,
            client.futures_stream_get_listen_key,
        ):
            assert await rig.refusal(call()) == (401, -2015)
        assert await rig.refusal(order(rig, "BUY")) == (401, -2015)
        assert (await client.get_account_api_permissions())["enablePortfolioMarginTrading"] is True
        assert await client.futures_mark_price(symbol="BTCUSDT")


async def test_vc126_a_hedge_account_has_lines_by_side_and_goes_back_while_flat():
    async with rig_of(quirks=Quirks(account="hedge")) as rig:
        client = rig.client
        rows = await client.futures_position_information(symbol="BTCUSDT", version=2)
        assert [(row["positionSide"], D(row["positionAmt"])) for row in rows] == [("LONG", 0), ("SHORT", 0)]
        assert await client.futures_position_information(symbol="BTCUSDT") == []
        assert (await client.futures_account_config())["dualSidePosition"] is True
        assert await rig.refusal(order(rig, "BUY")) == (400, -4061)
        await client.futures_change_position_mode(dualSidePosition="false")
        assert (await order(rig, "BUY"))["status"] == "FILLED"


async def test_vc127_an_empty_wallet_is_an_account_without_an_update():
    async with rig_of(wallet=0.0) as rig:
        (row,) = await rig.client.futures_account_balance()
        refused = await rig.refusal(order(rig, "BUY"))
        status, booking = await rig.post("/sim/transfer", {"asset": "USDT", "amount": "500"})

        assert (D(row["balance"]), D(row["availableBalance"]), row["updateTime"]) == (0, 0, 0)
        assert refused == (400, -2019)
        assert (status, booking["income"]) == (200, "500")
        assert (await order(rig, "BUY"))["status"] == "FILLED"


async def test_vc128_money_in_and_out_is_told_and_booked(rig):
    user = await rig.user()
    await rig.post("/sim/transfer", {"asset": "USDT", "amount": "250.5"})
    await order(rig, "BUY")
    await rig.post("/sim/transfer", {"asset": "USDT", "amount": -100})
    kinds = [event["a"] for event in await events(user, "ACCOUNT_UPDATE", count=3)]
    rows = await rig.client.futures_income_history(incomeType="TRANSFER")
    (balance,) = await rig.client.futures_account_balance()
    every = await rig.client.futures_income_history()

    assert [(a["m"], a["B"][0]["bc"]) for a in kinds] == [("DEPOSIT", "250.5"), ("ORDER", "0"), ("WITHDRAW", "-100")]
    assert (kinds[0]["P"], kinds[0]["B"][0]["wb"]) == ([], "1250.50000000")
    assert [(r["income"], r["asset"], r["info"], r["symbol"], r["tradeId"]) for r in rows] == [
        ("250.5", "USDT", "TRANSFER", "", ""), ("-100", "USDT", "TRANSFER", "", "")]  # fmt: skip
    assert D(balance["balance"]) == D(1000) + sum(D(row["income"]) for row in every)
    for data in ({"asset": "USDT", "amount": "-5000"}, {"asset": "BNB", "amount": "1"}, {"asset": "USDT", "amount": "0"},
                 {"asset": "USDT", "amount": "²"}, {"amount": "1"}, "all"):  # fmt: skip
        assert (await rig.post("/sim/transfer", data))[0] == 400


async def test_vc129_bookings_have_spans_limits_and_pages(rig):
    now = START + HOUR
    for minute in range(5):
        rig.exchange.clock.time_ms = now + minute * 60_000
        await rig.post("/sim/transfer", {"asset": "USDT", "amount": str(minute + 1)})

    async def amounts(**params: int) -> list[str]:
        return [row["income"] for row in await rig.client.futures_income_history(**params)]

    assert await amounts() == ["1", "2", "3", "4", "5"]
    assert await amounts(limit=2) == ["4", "5"]
    assert await amounts(startTime=now + 60_000, limit=2) == ["2", "3"]
    assert await amounts(startTime=now + 60_000, endTime=now + 120_000) == ["2", "3"]
    assert await amounts(startTime=now, limit=2, page=3) == ["5"]
    assert await rig.refusal(rig.client.futures_income_history(limit=1001)) == (400, -1130)


async def test_vc130_leverage_of_an_isolated_position_rises_and_its_margin_stays(rig):
    symbol = {"symbol": "BTCUSDT"}
    await rig.client.futures_change_margin_type(**symbol, marginType="ISOLATED")
    await rig.client.futures_change_leverage(**symbol, leverage=10)
    await order(rig, "BUY")
    user, before = await rig.user(), await position(rig)
    await rig.client.futures_change_leverage(**symbol, leverage=50)
    (told,) = await events(user, "ACCOUNT_CONFIG_UPDATE")
    after = await position(rig)

    assert told["ac"] == {"s": "BTCUSDT", "l": 50}
    assert after["isolatedWallet"] == before["isolatedWallet"]
    assert after["liquidationPrice"] == before["liquidationPrice"]
    assert D(after["initialMargin"]) * 5 == D(before["initialMargin"])
    assert await rig.refusal(rig.client.futures_change_leverage(**symbol, leverage=20)) == (400, -4161)
    assert await rig.refusal(rig.client.futures_change_margin_type(**symbol, marginType="CROSSED")) == (400, -4048)


async def test_vc131_a_margin_call_comes_before_the_liquidation_and_a_margin_type_is_told(rig):
    user = await rig.user()
    await rig.client.futures_change_margin_type(symbol="BTCUSDT", marginType="ISOLATED")
    (changed,) = await events(user, "ACCOUNT_UPDATE")
    await order(rig, "BUY")
    await fall(rig, -4.55)
    (call,) = await events(user, "MARGIN_CALL")

    assert (changed["a"]["m"], changed["a"]["P"][0]["mt"]) == ("MARGIN_TYPE_CHANGE", "isolated")
    assert "cw" not in call
    assert {k: call["p"][0][k] for k in ("s", "ps", "pa", "mt")} == {
        "s": "BTCUSDT", "ps": "BOTH", "pa": "0.010", "mt": "ISOLATED"}  # fmt: skip
    assert D(call["p"][0]["mm"]) > D("0.8") * (D(call["p"][0]["iw"]) + D(call["p"][0]["up"]))
    assert (await position(rig))["positionAmt"] == "0.010"
