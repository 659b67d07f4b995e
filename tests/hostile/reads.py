"""Replies to reads that lie, one endpoint at a time."""

from typing import Final

import orjson

from tests.engine_harness import BTC, ETH
from tests.hostile import lies
from tests.hostile.case import BEFORE, CONTRADICTION, FAILED, HARMLESS, Case
from tests.hostile.liar import ReplyLie, Spoil

LONG_MS: Final = 12_000
CLOCK: Final = ("jobs.reconcile_seconds=5", "jobs.clock_seconds=10")


def reply(
    endpoint: str, spoil: Spoil, *, ms: int = LONG_MS, method: str = "GET", symbol: str = "", count: int = 0
) -> tuple[ReplyLie]:
    """Return the one lie of a case."""
    return (ReplyLie(endpoint, spoil, method=method, ms=ms, symbol=symbol, count=count),)


POSITIONS: Final = "positionRisk"
ALGOS: Final = "openAlgoOrders"
ORDERS: Final = "openOrders"
BALANCE: Final = "balance"
TRADES: Final = "userTrades"
btc, eth = lies.of_symbol(BTC), lies.of_symbol(ETH)
NO_TRANSFER = {"symbol": "", "incomeType": "TRANSFER", "income": "-9000", "asset": "USDT", "time": 1_767_229_200_000, "info": "",
               "tranId": 1, "tradeId": ""}  # fmt: skip
GAP = lies.dropped("kline", symbol=ETH, ms=200_000)  # a bar of a leg does not come: it is read


READS: Final = (
    Case("HC-001", "positionRisk answers `[]`", reply(POSITIONS, lies.LIST), CONTRADICTION),
    Case("HC-002", "positionRisk answers `[]` for 40 s, at the default pace",
         reply(POSITIONS, lies.LIST, ms=40_000), CONTRADICTION, overrides=()),
    Case("HC-003", "positionRisk answers an empty body", reply(POSITIONS, lies.EMPTY), FAILED),
    Case("HC-004", "positionRisk answers `{}`", reply(POSITIONS, lies.OBJECT), FAILED),
    Case("HC-005", "positionRisk answers `null` once", reply(POSITIONS, lies.NULL, count=1), FAILED),
    Case("HC-006", "positionRisk answers a page of HTML", reply(POSITIONS, lies.PAGE), FAILED),
    Case("HC-007", "positionRisk answers a string", reply(POSITIONS, lies.STRING), FAILED),
    Case("HC-008", "positionRisk answers a body that is cut off", reply(POSITIONS, lies.CUT), FAILED),
    Case("HC-009", "positionRisk tells quantities of 0",
         reply(POSITIONS, lies.fields(positionAmt="0.000", entryPrice="0.0")), CONTRADICTION),
    Case("HC-010", "positionRisk lacks the traded symbol", reply(POSITIONS, lies.without(btc)), CONTRADICTION),
    Case("HC-011", "positionRisk lacks a leg", reply(POSITIONS, lies.without(eth)), CONTRADICTION),
    Case("HC-012", "positionRisk is as old as the entry", reply(POSITIONS, lies.stale, ms=20_000), HARMLESS, "scaling", "flip"),
    Case("HC-013", "positionRisk gives the position to another symbol",
         reply(POSITIONS, lies.fields_of(btc, symbol="DOGEUSDT")), CONTRADICTION),
    Case("HC-014", "positionRisk tells NaN", reply(POSITIONS, lies.fields(positionAmt="NaN")), FAILED),
    Case("HC-015", "positionRisk tells the opposite side", reply(POSITIONS, lies.scaled("positionAmt", -1)), CONTRADICTION),
    Case("HC-016", "positionRisk tells half the quantity", reply(POSITIONS, lies.scaled("positionAmt", 0.5)), CONTRADICTION),
    Case("HC-017", "positionRisk tells twice the quantity", reply(POSITIONS, lies.scaled("positionAmt", 2)), CONTRADICTION),
    Case("HC-018", "positionRisk has every row twice", reply(POSITIONS, lies.doubled), FAILED),
    Case("HC-019", "positionRisk is flat as of the year 2100",
         reply(POSITIONS, lies.fields(positionAmt="0.000", updateTime=lies.YEAR_2100)), CONTRADICTION),
    Case("HC-020", "positionRisk has a body of 9 MB", reply(POSITIONS, lies.padded), FAILED),
    Case("HC-021", "positionRisk becomes 9 MB when decompressed", reply(POSITIONS, lies.bomb), FAILED),
    Case("HC-022", "positionRisk tells a quantity of 400 digits", reply(POSITIONS, lies.fields(positionAmt="9" * 400)), FAILED),
    Case("HC-023", "positionRisk answers an error with HTTP 200",
         reply(POSITIONS, lies.error(-2015, "Invalid API-key", status=200)), FAILED),
    Case("HC-024", "positionRisk refuses the key (-2015)",
         reply(POSITIONS, lies.error(-2015, "Invalid API-key", status=401)), FAILED),
    Case("HC-025", "positionRisk says that the time is wrong (-1021)",
         reply(POSITIONS, lies.error(-1021, "Timestamp outside recvWindow")), FAILED),
    Case("HC-026", "positionRisk says too many requests (-1003)",
         reply(POSITIONS, lies.error(-1003, "Too many requests"), count=1), HARMLESS),
    Case("HC-027", "positionRisk tells a row of hedge mode", reply(POSITIONS, lies.fields(positionSide="LONG")), FAILED),
    Case("HC-028", "openAlgoOrders answers `[]`", reply(ALGOS, lies.LIST), HARMLESS),
    Case("HC-029", "openAlgoOrders answers an empty body", reply(ALGOS, lies.EMPTY), FAILED),
    Case("HC-030", "openAlgoOrders answers `null`", reply(ALGOS, lies.NULL, count=2), FAILED),
    Case("HC-031", "openAlgoOrders answers `{}`", reply(ALGOS, lies.OBJECT), FAILED),
    Case("HC-032", "openAlgoOrders answers a page of HTML", reply(ALGOS, lies.PAGE), FAILED),
    Case("HC-033", "openAlgoOrders lacks the sized stops", reply(ALGOS, lies.without(lies.of_role("sl"))), HARMLESS),
    Case("HC-034", "openAlgoOrders says that every stop is cancelled",
         reply(ALGOS, lies.fields(algoStatus="CANCELED")), CONTRADICTION),
    Case("HC-035", "openAlgoOrders says that every stop has failed as of the year 2100",
         reply(ALGOS, lies.fields(algoStatus="EXPIRED", updateTime=lies.YEAR_2100)), CONTRADICTION),
    Case("HC-036", "openAlgoOrders gives the stops to another symbol", reply(ALGOS, lies.fields(symbol="DOGEUSDT")), FAILED),
    Case("HC-037", "openAlgoOrders tells NaN", reply(ALGOS, lies.fields(triggerPrice="NaN")), FAILED),
    Case("HC-038", "openAlgoOrders tells negative quantities", reply(ALGOS, lies.fields(quantity="-1")), FAILED),
    Case("HC-039", "openAlgoOrders lists stops that are not ours under our names",
         reply(ALGOS, lies.each(lambda row: [row, row | {"clientAlgoId": row["clientAlgoId"][:-1] + "9", "algoId": 1}])),
         HARMLESS),
    Case("HC-040", "openOrders answers `[]`", reply(ORDERS, lies.LIST), HARMLESS),
    Case("HC-041", "openOrders answers an empty body", reply(ORDERS, lies.EMPTY), FAILED),
    Case("HC-042", "openOrders answers `null`", reply(ORDERS, lies.NULL, count=2), FAILED),
    Case("HC-043", "openOrders says that the targets have filled",
         reply(ORDERS, lies.each(lambda row: row | {"status": "FILLED", "executedQty": row["origQty"]})), CONTRADICTION),
    Case("HC-044", "openOrders says that the targets are cancelled",
         reply(ORDERS, lies.fields(status="CANCELED")), CONTRADICTION),
    Case("HC-045", "openOrders tells negative quantities", reply(ORDERS, lies.fields(origQty="-1")), FAILED),
    Case("HC-046", "openOrders is as old as the entry", reply(ORDERS, lies.stale, ms=20_000), HARMLESS, "scaling", "flip"),
    Case("HC-047", "balance answers `[]`", reply(BALANCE, lies.LIST), FAILED),
    Case("HC-048", "balance answers an empty body", reply(BALANCE, lies.EMPTY), FAILED),
    Case("HC-049", "balance answers `null`", reply(BALANCE, lies.NULL, count=1), FAILED),
    Case("HC-050", "balance answers `{}`", reply(BALANCE, lies.OBJECT), FAILED),
    Case("HC-051", "balance tells 0", reply(BALANCE, lies.fields(balance="0.00000000")), CONTRADICTION),
    Case("HC-052", "balance tells a debt", reply(BALANCE, lies.fields(balance="-5000")), CONTRADICTION),
    Case("HC-053", "balance tells NaN", reply(BALANCE, lies.fields(balance="NaN")), FAILED),
    Case("HC-054", "balance tells ten times the money before the entry",
         reply(BALANCE, lies.scaled("balance", 10), ms=60_000), CONTRADICTION, BEFORE, course="ended"),  # no entry meanwhile
    Case("HC-055", "balance tells a tenth of the money", reply(BALANCE, lies.scaled("balance", 0.1)), CONTRADICTION),
    Case("HC-056", "balance tells a number of 400 digits", reply(BALANCE, lies.fields(balance="9" * 400)), FAILED),
    Case("HC-057", "balance lacks the quote asset", reply(BALANCE, lies.fields(asset="BNB")), FAILED),
    Case("HC-058", "userTrades answers `[]`", reply(TRADES, lies.LIST), HARMLESS),
    Case("HC-059", "userTrades answers an empty body", reply(TRADES, lies.EMPTY), FAILED),
    Case("HC-060", "userTrades answers `null`", reply(TRADES, lies.NULL, count=2), FAILED),
    Case("HC-061", "userTrades has every trade twice, with two ids", reply(TRADES, lies.doubled_with_new_ids), CONTRADICTION),
    Case("HC-062", "userTrades has a trade that closed everything", reply(TRADES, lies.phantom_trade, symbol=BTC), CONTRADICTION),
    Case("HC-063", "userTrades tells NaN", reply(TRADES, lies.fields(qty="NaN")), FAILED),
    Case("HC-064", "userTrades tells negative quantities",
         reply(TRADES, lies.each(lambda row: row | {"qty": f"-{row['qty']}"})), FAILED),
    Case("HC-065", "userTrades tells trades of another symbol", reply(TRADES, lies.fields(symbol="DOGEUSDT")), FAILED),
    Case("HC-066", "userTrades tells times of the year 2100", reply(TRADES, lies.fields(time=lies.YEAR_2100)), FAILED),
    Case("HC-067", "time answers `{}`", reply("time", lies.OBJECT), FAILED, overrides=CLOCK),
    Case("HC-068", "time answers `null`", reply("time", lies.NULL), FAILED, overrides=CLOCK),
    Case("HC-069", "time is in the year 2100", reply("time", lies.fields(serverTime=lies.YEAR_2100)), FAILED, overrides=CLOCK),
    Case("HC-070", "time is 0", reply("time", lies.fields(serverTime=0)), FAILED, overrides=CLOCK),
    Case("HC-071", "time is five minutes ahead",
         reply("time", lies.each(lambda row: {"serverTime": row["serverTime"] + 300_000})), FAILED, overrides=CLOCK),
    Case("HC-072", "the listen key is prolonged with `null`",
         reply("listenKey", lies.NULL, method="PUT", ms=200_000), HARMLESS, may_pass_by=True),
    Case("HC-073", "the listen key is said not to exist (-1125)",
         reply("listenKey", lies.error(-1125, "This listenKey does not exist."), method="PUT", count=1), HARMLESS,
         may_pass_by=True, story="scale"),
    Case("HC-074", "a bar is missing and klines answers `[]`", (GAP, *reply("klines", lies.LIST)), FAILED, late_ms=60_000),
    Case("HC-075", "a bar is missing and klines answers `null`", (GAP, *reply("klines", lies.NULL)), FAILED, late_ms=60_000),
    Case("HC-076", "a bar is missing and klines tells NaN",
         (GAP, *reply("klines", lies.kline_value(4, "NaN"))), FAILED, late_ms=60_000),
    Case("HC-077", "a bar is missing and klines tells bars of the future",
         (GAP, *reply("klines", lies.klines_shifted(3_600_000))), FAILED, late_ms=60_000),
    Case("HC-078", "a bar is missing and klines tells bars between bars",
         (GAP, *reply("klines", lies.klines_shifted(7))), FAILED, late_ms=60_000),
    Case("HC-079", "income tells a transfer that never was",
         reply("income", lies.body(orjson.dumps([NO_TRANSFER])), ms=60_000), HARMLESS, may_pass_by=True),
    Case("HC-080", "income answers `null`", reply("income", lies.NULL, ms=60_000), HARMLESS, may_pass_by=True),
)  # fmt: skip
