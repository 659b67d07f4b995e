"""Lies in each phase of a trade, pairs of lies that agree with each other, false replies to writes, and starts into lies."""

from typing import Final

from tests.engine_harness import BTC
from tests.hostile import lies
from tests.hostile.case import CLOSING, CONTRADICTION, FAILED, HARMLESS, REFUSED, SAFE, Case
from tests.hostile.liar import ReplyLie, Spoil
from tests.hostile.lies import push
from tests.hostile.reads import ALGOS, BALANCE, ORDERS, POSITIONS, TRADES, reply

NO_POSITIONS, NO_STOPS, NO_ORDERS = (
    (*reply(POSITIONS, lies.LIST),),
    (*reply(ALGOS, lies.LIST),),
    (*reply(ORDERS, lies.LIST),),
)
NO_TRADES, NO_MONEY = (*reply(TRADES, lies.LIST),), (*reply(BALANCE, lies.fields(balance="0.00000000")),)
BLANK = (*NO_POSITIONS, *NO_STOPS, *NO_ORDERS, *NO_TRADES, *NO_MONEY)
FLAT = push("private", lies.account(**lies.FLAT))
STOP_FILLED, STOP_GONE = push("private", lies.filled("sl")), push("private", lies.stop_is("CANCELED"))
BEFORE_ENTRY: Final = -500
GONE = (*reply("algoOrder", lies.error(-2013, "Order does not exist.")),)


def write(
    endpoint: str, spoil: Spoil, *, role: str, method: str = "POST", instead: bool = False, count: int = 1
) -> tuple[ReplyLie]:
    """Return the one lie about a write."""
    return (ReplyLie(endpoint, spoil, method=method, role=role, instead=instead, count=count, ms=60_000),)


PHASES: Final = (
    Case("HC-201", "positionRisk answers `[]`", NO_POSITIONS, HARMLESS, "entry"),
    Case("HC-202", "positionRisk answers `[]`", NO_POSITIONS, CONTRADICTION, "first_fill"),
    Case("HC-203", "positionRisk answers `[]`", NO_POSITIONS, CONTRADICTION, "hedge"),
    Case("HC-204", "positionRisk answers `[]`", NO_POSITIONS, CONTRADICTION, "scaling", "flip"),
    Case("HC-205", "positionRisk answers `[]`", NO_POSITIONS, CONTRADICTION, "trailing", "scale"),
    Case("HC-206", "positionRisk answers `[]`", NO_POSITIONS, HARMLESS, CLOSING),
    Case("HC-207", "positionRisk answers `[]`", NO_POSITIONS, CONTRADICTION, "restart"),
    Case("HC-208", "openAlgoOrders answers `[]`", NO_STOPS, HARMLESS, "first_fill"),
    Case("HC-209", "openAlgoOrders answers `[]`", NO_STOPS, HARMLESS, "scaling", "flip"),
    Case("HC-210", "openAlgoOrders answers `[]`", NO_STOPS, HARMLESS, "trailing", "scale"),
    Case("HC-211", "openAlgoOrders answers `[]`", NO_STOPS, HARMLESS, CLOSING),
    Case("HC-212", "openAlgoOrders answers `[]`", NO_STOPS, HARMLESS, "restart"),
    Case("HC-213", "balance tells 0", NO_MONEY, CONTRADICTION, "first_fill"),
    Case("HC-214", "balance tells 0", NO_MONEY, CONTRADICTION, "trailing", "scale"),
    Case("HC-215", "balance tells 0", NO_MONEY, CONTRADICTION, "restart"),
    Case("HC-216", "userTrades answers `[]`", NO_TRADES, HARMLESS, "first_fill"),
    Case("HC-217", "userTrades answers `[]`", NO_TRADES, HARMLESS, "scaling", "flip"),
    Case("HC-218", "userTrades answers `[]`", NO_TRADES, HARMLESS, "restart"),
    Case("HC-219", "ACCOUNT_UPDATE says flat", (FLAT,), CONTRADICTION, "scaling", "flip", after_ms=1_000),
    Case("HC-220", "ACCOUNT_UPDATE says flat", (FLAT,), CONTRADICTION, "trailing", "scale", after_ms=1_000),
    Case("HC-221", "our stop is said to have filled", (STOP_FILLED,), CONTRADICTION, "trailing", "scale", after_ms=5_000),
    Case("HC-222", "our stop is said to be cancelled", (STOP_GONE,), CONTRADICTION, "scaling", "flip", after_ms=1_000),
    Case("HC-223", "positionRisk is as old as the entry", reply(POSITIONS, lies.stale, ms=20_000), HARMLESS, "trailing", "scale"),
    Case("HC-224", "positionRisk answers `[]`, then the stop really triggers",
         reply(POSITIONS, lies.LIST, ms=60_000), CONTRADICTION, story="stop"),
    Case("HC-225", "positionRisk answers `[]` while the time runs out",
         reply(POSITIONS, lies.LIST, ms=60_000), HARMLESS, 200_000, "timeout"),
)  # fmt: skip

PAIRS: Final = (
    Case("HC-301", "positionRisk and openAlgoOrders answer `[]`", (*NO_POSITIONS, *NO_STOPS), CONTRADICTION),
    Case("HC-302", "positionRisk answers `[]` and the stream says flat", (*NO_POSITIONS, FLAT), CONTRADICTION),
    Case("HC-303", "balance tells 0 and positionRisk answers `[]`", (*NO_MONEY, *NO_POSITIONS), CONTRADICTION),
    Case("HC-304", "openOrders and userTrades answer `[]`", (*NO_ORDERS, *NO_TRADES), HARMLESS),
    Case("HC-305", "positionRisk and userTrades answer `[]`", (*NO_POSITIONS, *NO_TRADES), CONTRADICTION),
    Case("HC-306", "openAlgoOrders answers `[]` and the stream cancels a stop", (*NO_STOPS, STOP_GONE), CONTRADICTION),
    Case("HC-307", "every read of the account is blank", BLANK, CONTRADICTION),
    Case("HC-308", "every read of the account is blank", BLANK, CONTRADICTION, "restart"),
    Case("HC-309", "every read of the account is blank", BLANK, CONTRADICTION, "trailing", "scale"),
    Case("HC-310", "openAlgoOrders answers `[]` and algoOrder knows no stop", (*NO_STOPS, *GONE), CONTRADICTION),
    Case("HC-311", "openAlgoOrders answers `[]` and algoOrder says cancelled",
         (*NO_STOPS, *reply("algoOrder", lies.fields(algoStatus="CANCELED"))), SAFE, course="ended"),  # bare on two words
    Case("HC-312", "openAlgoOrders answers `[]` and algoOrder answers `null`",
         (*NO_STOPS, *reply("algoOrder", lies.NULL)), FAILED),
    Case("HC-313", "openAlgoOrders answers `[]` and algoOrder tells another order",
         (*NO_STOPS, *reply("algoOrder", lies.other_order)), FAILED),
    Case("HC-314", "openOrders answers `[]` and order knows no target",
         (*NO_ORDERS, *reply("order", lies.error(-2013, "Order does not exist."))), CONTRADICTION),
    Case("HC-315", "openOrders answers `[]` and order says filled",
         (*NO_ORDERS, *reply("order", lies.says_filled)), CONTRADICTION),
    Case("HC-316", "openOrders answers `[]` and order says cancelled",
         (*NO_ORDERS, *reply("order", lies.fields(status="CANCELED"))), CONTRADICTION),
    Case("HC-317", "openOrders answers `[]` and order answers an empty body", (*NO_ORDERS, *reply("order", lies.EMPTY)), FAILED),
    Case("HC-318", "positionRisk and openAlgoOrders answer `[]` and algoOrder knows no stop",
         (*NO_POSITIONS, *NO_STOPS, *GONE), CONTRADICTION),
    Case("HC-319", "the stream says that our stop filled and positionRisk answers `[]`",
         (*NO_POSITIONS, STOP_FILLED), CONTRADICTION),
    Case("HC-320", "the stream says that our stop is cancelled and algoOrder agrees",
         (STOP_GONE, *reply("algoOrder", lies.fields(algoStatus="CANCELED"))), CONTRADICTION, may_pass_by=True),
    Case("HC-321", "positionRisk tells half and the stream tells half",
         (*reply(POSITIONS, lies.scaled("positionAmt", 0.5)), push("private", lies.account(pa="0.200"))), CONTRADICTION),
    Case("HC-322", "balance tells 0 and the stream tells a wallet of 0",
         (*NO_MONEY, push("private", lies.account(wallet="0.00000000"))), CONTRADICTION),
)  # fmt: skip

WRITES: Final = (
    Case("HC-401", "the stop is taken, the reply says -2021",
         write("algoOrder", lies.error(-2021, "Order would immediately trigger."), role="sl"), SAFE, "entry", course="ended"),
    Case("HC-402", "the stop is taken, the reply says -4045",
         write("algoOrder", lies.error(-4045, "Reach max stop order limit."), role="sl"), HARMLESS, "entry"),
    Case("HC-403", "the stop is taken, the reply is `null`", write("algoOrder", lies.NULL, role="sl"), FAILED, "entry"),
    Case("HC-404", "the stop is taken, the reply is an empty body", write("algoOrder", lies.EMPTY, role="sl"), FAILED, "entry"),
    Case("HC-405", "the stop is taken, the reply is that of another order",
         write("algoOrder", lies.other_order, role="sl"), REFUSED, "entry"),
    Case("HC-406", "the stop is not taken, the reply says that it rests",
         write("algoOrder", lies.says_stop_placed, role="sl", instead=True), HARMLESS, "entry"),  # the next fill replaces it
    Case("HC-407", "the catastrophe stop is taken, the reply says -4130",
         write("algoOrder", lies.error(-4130, "An open stop with closePosition exists."), role="cs"), HARMLESS, "entry"),
    Case("HC-408", "the entry is taken, the reply says -2019",
         write("order", lies.error(-2019, "Margin is insufficient."), role="en"), SAFE, BEFORE_ENTRY, course="guarded"),
    Case("HC-409", "the entry is taken, the reply is `null`",
         write("order", lies.NULL, role="en"), FAILED, BEFORE_ENTRY, course="ended"),
    Case("HC-410", "the entry is taken, the reply is that of another order",
         write("order", lies.other_order, role="en"), REFUSED, BEFORE_ENTRY, course="ended"),
    Case("HC-411", "the entry rests, the reply says filled",
         write("order", lies.says_filled, role="en"), SAFE, BEFORE_ENTRY, course="guarded"),
    Case("HC-412", "the rest of the entry fills, the reply says -2022",
         write("order", lies.error(-2022, "ReduceOnly Order is rejected."), role="io"), HARMLESS, "entry"),
    Case("HC-413", "the entry is said to be cancelled and works on",
         write("order", lies.says_canceled, role="en", method="DELETE", instead=True), HARMLESS, "entry", course="ended"),
    Case("HC-414", "the entry is cancelled, the reply says -2011",
         write("order", lies.error(-2011, "Unknown order sent."), role="en", method="DELETE"), HARMLESS, "entry"),
    Case("HC-415", "a leg is taken, the reply says -2019",
         write("order", lies.error(-2019, "Margin is insufficient."), role="hx"), HARMLESS, "entry", course="guarded"),
    Case("HC-416", "a leg is taken, the reply is an empty body", write("order", lies.EMPTY, role="hx"), FAILED, "entry"),
    Case("HC-417", "the exit is taken, the reply says -2022",
         write("order", lies.error(-2022, "ReduceOnly Order is rejected."), role="xx"), HARMLESS, CLOSING),
    Case("HC-418", "the exit is taken, the reply is `null`", write("order", lies.NULL, role="xx"), FAILED, CLOSING),
    Case("HC-419", "the exit is taken, the reply is a page of HTML", write("order", lies.PAGE, role="xx"), FAILED, CLOSING),
    Case("HC-420", "the exit is taken, the reply is that of another order",
         write("order", lies.other_order, role="xx"), REFUSED, CLOSING),
    Case("HC-421", "the exit is not taken, the reply says -2022",
         write("order", lies.error(-2022, "ReduceOnly Order is rejected."), role="xx", instead=True, count=2), HARMLESS, CLOSING,
         late_ms=5_000),
    Case("HC-422", "a stop is said to be cancelled and rests",
         write("algoOrder", lies.says_stop_canceled, role="sl", method="DELETE", instead=True), HARMLESS, "scaling", "flip"),
    Case("HC-423", "a stop is cancelled, the reply says -2011",
         write("algoOrder", lies.error(-2011, "Unknown order sent."), role="sl", method="DELETE"), HARMLESS, "scaling", "flip"),
    Case("HC-424", "a stop is cancelled, the reply is `null`",
         write("algoOrder", lies.NULL, role="sl", method="DELETE"), FAILED, "scaling", "flip"),
    Case("HC-425", "the new stop of the runner is taken, the reply says -2021",
         write("algoOrder", lies.error(-2021, "Order would immediately trigger."), role="sl"), SAFE, 222_000, "flip",
         course="ended"),
    Case("HC-426", "a target is taken, the reply says -2022",
         write("order", lies.error(-2022, "ReduceOnly Order is rejected."), role="tp"), HARMLESS, "entry"),
    Case("HC-427", "the exit is not taken, the reply says filled",
         write("order", lies.says_market_filled, role="xx", instead=True), CONTRADICTION, CLOSING, late_ms=12_000),
    Case("HC-428", "the targets are not taken, the replies say filled",
         write("order", lies.says_market_filled, role="tp", instead=True, count=2), CONTRADICTION, "entry"),
)  # fmt: skip

STARTS: Final = (
    Case("HC-501", "positionRisk answers `null`", reply(POSITIONS, lies.NULL), FAILED, "restart"),
    Case("HC-502", "positionRisk answers an empty body", reply(POSITIONS, lies.EMPTY), FAILED, "restart"),
    Case("HC-503", "positionRisk answers a page of HTML", reply(POSITIONS, lies.PAGE), FAILED, "restart"),
    Case("HC-504", "openAlgoOrders answers `null`", reply(ALGOS, lies.NULL), FAILED, "restart"),
    Case("HC-505", "balance answers `[]`", reply(BALANCE, lies.LIST), FAILED, "restart"),
    Case("HC-506", "exchangeInfo answers `{}`", reply("exchangeInfo", lies.OBJECT), FAILED, "restart"),
    Case("HC-507", "exchangeInfo answers `null`", reply("exchangeInfo", lies.NULL), FAILED, "restart"),
    Case("HC-508", "exchangeInfo lists no symbols",
         reply("exchangeInfo", lies.nested(("symbols",), lambda found: [])), FAILED, "restart"),
    Case("HC-509", "exchangeInfo tells a tick of 0",
         reply("exchangeInfo", lies.with_filter("PRICE_FILTER", tickSize="0")), FAILED, "restart"),
    Case("HC-510", "exchangeInfo tells a lot of NaN",
         reply("exchangeInfo", lies.with_filter("LOT_SIZE", stepSize="NaN")), FAILED, "restart"),
    Case("HC-511", "leverageBracket answers `[]`", reply("leverageBracket", lies.LIST), FAILED, "restart"),
    Case("HC-512", "leverageBracket has 100,000 brackets", reply("leverageBracket", lies.many_brackets), FAILED, "restart"),
    Case("HC-513", "leverageBracket tells a rate of NaN",
         reply("leverageBracket", lies.with_brackets(maintMarginRatio="NaN")), FAILED, "restart"),
    Case("HC-514", "commissionRate answers `{}`", reply("commissionRate", lies.OBJECT), FAILED, "restart"),
    Case("HC-515", "commissionRate tells a fee of 100 %",
         reply("commissionRate", lies.fields(takerCommissionRate="1")), FAILED, "restart"),
    Case("HC-516", "commissionRate is that of another symbol",
         reply("commissionRate", lies.fields(symbol="DOGEUSDT")), FAILED, "restart"),
    Case("HC-517", "fundingInfo answers `null`", reply("fundingInfo", lies.NULL), FAILED, "restart"),
    Case("HC-518", "symbolConfig answers `[]`", reply("symbolConfig", lies.LIST), FAILED, "restart"),
    Case("HC-519", "symbolConfig answers `null`", reply("symbolConfig", lies.NULL), FAILED, "restart"),
    Case("HC-520", "symbolConfig claims cross margin",
         reply("symbolConfig", lies.fields(marginType="CROSSED")), REFUSED, "restart"),
    Case("HC-521", "symbolConfig tells a leverage of 0", reply("symbolConfig", lies.fields(leverage=0)), FAILED, "restart"),
    Case("HC-522", "accountConfig answers `{}`", reply("accountConfig", lies.OBJECT), FAILED, "restart"),
    Case("HC-523", "accountConfig answers `null`", reply("accountConfig", lies.NULL), FAILED, "restart"),
    Case("HC-524", "accountConfig claims hedge mode",
         reply("accountConfig", lies.fields(dualSidePosition=True)), REFUSED, "restart"),
    Case("HC-525", "the listen key is `null`", reply("listenKey", lies.NULL, method="POST"), FAILED, "restart"),
    Case("HC-526", "the listen key is a number",
         reply("listenKey", lies.body(b'{"listenKey":5}'), method="POST"), FAILED, "restart"),
    Case("HC-527", "time is in the year 2100", reply("time", lies.fields(serverTime=lies.YEAR_2100)), FAILED, "restart"),
    Case("HC-528", "time answers `{}`", reply("time", lies.OBJECT), FAILED, "restart"),
    Case("HC-529", "positionRisk lacks the traded symbol",
         reply(POSITIONS, lies.without(lies.of_symbol(BTC))), CONTRADICTION, "restart"),
    Case("HC-530", "userTrades has a trade that closed everything",
         reply(TRADES, lies.phantom_trade, symbol=BTC), CONTRADICTION, "restart"),
    Case("HC-531", "no algoOrder is known (-2013)", GONE, HARMLESS, "restart", may_pass_by=True),
    Case("HC-532", "positionRisk refuses the key (-2015)",
         reply(POSITIONS, lies.error(-2015, "Invalid API-key", status=401)), FAILED, "restart"),
    Case("HC-533", "the leverage is set, the reply is `null`", reply("leverage", lies.NULL, method="POST"), HARMLESS, "restart"),
)  # fmt: skip
