"""Frames that lie: phantoms that the exchange never sent, and true ones that are changed, repeated or held back."""

from typing import Final

import orjson

from tests.engine_harness import BTC, ETH
from tests.hostile import lies
from tests.hostile.case import CONTRADICTION, HARMLESS, REFUSED, SAFE, Case
from tests.hostile.lies import YEAR_2100, push, raw

DEEP = b'{"a":' * 2_000 + b"1" + b"}" * 2_000
WEIRD = {"e": "ORDER_TRADE_UPDATE", "E": 1, "T": 1, "o": {"s": BTC, "c": "rbT-sl-0-005xv50-01-a1", "S": "SELL", "x": "NEW",
         "X": "WEIRD", "i": 1, "q": "1", "z": "0", "ap": "0", "T": 1}}  # fmt: skip


def market(data: object) -> bytes:
    """A frame of the market stream."""
    return lies.wrapped("market", data)


PUSHES: Final = (
    Case("HC-101", "a closed bar ten bars ahead", (push("market", lies.closed_bar(bars=10)),), REFUSED),
    Case("HC-102", "a closed bar of the year 2100", (push("market", lies.closed_bar(t=YEAR_2100, E=YEAR_2100)),), REFUSED),
    Case("HC-103", "a true bar with an event time of the year 2100", (push("market", lies.closed_bar(E=YEAR_2100)),), REFUSED),
    Case("HC-104", "a bar that has come before, with other prices",
         (push("market", lies.closed_bar(c="50000", l="49000")),), HARMLESS),
    Case("HC-105", "a bar that begins between two bars", (push("market", lies.closed_bar(shift_ms=7)),), REFUSED),
    Case("HC-106", "a bar of a symbol that nobody asked for", (push("market", lies.closed_bar(symbol="DOGEUSDT")),), REFUSED),
    Case("HC-107", "a bar that closes at NaN", (push("market", lies.closed_bar(bars=1, c="NaN")),), REFUSED),
    Case("HC-108", "a bar of negative prices", (push("market", lies.closed_bar(bars=1, c="-5", l="-6")),), REFUSED),
    Case("HC-109", "a bar of 400 digits", (push("market", lies.closed_bar(bars=1, h="9" * 400, c="9" * 400)),), REFUSED),
    Case("HC-110", "a bar without values",
         (raw("market", market({"e": "kline", "E": 1, "s": BTC, "k": {"x": False}})),), REFUSED),
    Case("HC-111", "a bar whose symbol is a list",
         (raw("market", market({"e": "kline", "E": 1, "s": BTC, "k": {"x": False, "s": ["a"], "i": {}}})),), REFUSED),
    Case("HC-112", "a market frame whose data are a list", (raw("market", market([1, 2])),), REFUSED),
    Case("HC-113", "a market frame whose data are null", (raw("market", market(None)),), REFUSED),
    Case("HC-114", "a market frame whose data are a string", (raw("market", market("x")),), REFUSED),
    Case("HC-115", "a market frame whose event is an object", (raw("market", market({"e": {"a": 1}})),), REFUSED),
    Case("HC-116", "a page of HTML on the market stream", (raw("market", lies.HTML),), REFUSED),
    Case("HC-117", "an empty frame on the market stream", (raw("market", b""),), REFUSED),
    Case("HC-118", "two thousand objects in one another", (raw("market", DEEP),), REFUSED),
    Case("HC-119", "junk on the user stream", (raw("private", b"\x00{", b"[]", b"5", b"null", b'"x"'),), REFUSED),
    Case("HC-120", "junk on the quotes stream", (raw("public", b"<html>", b"[]", b"5", lies.wrapped("public", None)),), REFUSED),
    Case("HC-121", "bid 0, ask a million million", (push("public", lies.best(b="0", B="0", a="1000000000000")),), REFUSED),
    Case("HC-122", "a quote with a negative bid", (push("public", lies.best(b="-1")),), REFUSED),
    Case("HC-123", "a quote whose number is a word", (push("public", lies.best(u="x")),), REFUSED),
    Case("HC-124", "quotes of the year 2100", (push("public", lies.best(E=YEAR_2100, T=YEAR_2100), times=5),), REFUSED),
    Case("HC-125", "a quote of a symbol that nobody asked for", (push("public", lies.best(s="DOGEUSDT")),), REFUSED),
    Case("HC-126", "a mark price of 1 and funding of 9,900 %", (push("market", lies.mark(p="1", r="99")),), REFUSED),
    Case("HC-127", "mark prices of the year 2100", (push("market", lies.mark(E=YEAR_2100), times=5),), REFUSED),
    Case("HC-128", "a user frame without its order", (raw("private", b'{"e":"ORDER_TRADE_UPDATE","E":1,"T":1}'),), REFUSED),
    Case("HC-129", "an order in a state that does not exist", (raw("private", orjson.dumps(WEIRD)),), REFUSED),
    Case("HC-130", "an account update whose balances are an object",
         (raw("private", b'{"e":"ACCOUNT_UPDATE","E":1,"T":1,"a":{"m":"ORDER","B":{"a":"USDT"},"P":[]}}'),), REFUSED),
    Case("HC-131", "ACCOUNT_UPDATE says flat", (push("private", lies.account(**lies.FLAT)),), CONTRADICTION),
    Case("HC-132", "ACCOUNT_UPDATE says flat five times", (push("private", lies.account(**lies.FLAT), times=5),), CONTRADICTION),
    Case("HC-133", "ACCOUNT_UPDATE says that a leg is flat",
         (push("private", lies.account(symbol=ETH, **lies.FLAT), times=3),), CONTRADICTION),
    Case("HC-134", "ACCOUNT_UPDATE tells twice the quantity", (push("private", lies.account(pa="0.800")),), CONTRADICTION),
    Case("HC-135", "ACCOUNT_UPDATE tells a wallet of 0", (push("private", lies.account(wallet="0.00000000")),), CONTRADICTION),
    Case("HC-136", "ACCOUNT_UPDATE tells a wallet ten times as large",
         (push("private", lies.account(wallet="100000")),), CONTRADICTION),
    Case("HC-137", "ACCOUNT_UPDATE of the year 2100 says flat",
         (push("private", lies.account(at_ms=YEAR_2100, **lies.FLAT)),), REFUSED),
    Case("HC-138", "ACCOUNT_UPDATE tells NaN", (push("private", lies.account(pa="NaN")),), REFUSED),
    Case("HC-139", "a fill of an unknown order closes everything", (push("private", lies.filled()),), CONTRADICTION),
    Case("HC-140", "our stop is said to have filled", (push("private", lies.filled("sl")),), CONTRADICTION),
    Case("HC-141", "our catastrophe stop is said to have filled", (push("private", lies.filled("cs")),), CONTRADICTION),
    Case("HC-142", "our target is said to have filled", (push("private", lies.filled("tp")),), CONTRADICTION),
    Case("HC-143", "a liquidation that never was",
         (push("private", lies.filled(client_id="autoclose-1767229200000", x="CALCULATED")),), CONTRADICTION),
    Case("HC-144", "a deleveraging of half that never was",
         (push("private", lies.filled(client_id="adl_autoclose", share=0.5)),), CONTRADICTION),
    Case("HC-145", "a fill of the year 2100", (push("private", lies.filled(at_ms=YEAR_2100)),), REFUSED),
    Case("HC-146", "a fill of another symbol", (push("private", lies.filled(s="DOGEUSDT")),), HARMLESS),
    Case("HC-147", "a fill of a negative quantity", (push("private", lies.filled(l="-0.4")),), REFUSED),
    Case("HC-148", "a fill of NaN", (push("private", lies.filled(l="NaN")),), REFUSED),
    Case("HC-149", "a fill of 400 digits", (push("private", lies.filled(l="9" * 400, L="9" * 400)),), REFUSED),
    Case("HC-150", "our stop is said to be cancelled", (push("private", lies.stop_is("CANCELED")),), CONTRADICTION),
    Case("HC-151", "our stop is said to have expired", (push("private", lies.stop_is("EXPIRED")),), CONTRADICTION),
    Case("HC-152", "our stop is said to be finished, all filled",
         (push("private", lies.stop_is("FINISHED", aq="0.400", ap="59900", ai="77")),), CONTRADICTION),
    Case("HC-153", "our stop is said to be finished, nothing filled",
         (push("private", lies.stop_is("FINISHED", aq="0", ai="77")),), CONTRADICTION),
    Case("HC-154", "our stop is said to be rejected",
         (push("private", lies.stop_is("REJECTED", rm="Margin is insufficient")),), CONTRADICTION),
    Case("HC-155", "our stop is said to be at work", (push("private", lies.stop_is("TRIGGERED", ai="77")),), SAFE,
         course="ended"),  # a stop at work that has not filled after 1.5 s is helped out at market
    Case("HC-156", "our catastrophe stop is said to be cancelled",
         (push("private", lies.stop_is("CANCELED", "cs")),), CONTRADICTION),
    Case("HC-157", "the stop of a leg is said to be cancelled",
         (push("private", lies.stop_is("CANCELED", symbol=ETH)),), CONTRADICTION),
    Case("HC-158", "our stop is cancelled in the year 2100",
         (push("private", lies.stop_is("CANCELED", at_ms=YEAR_2100)),), REFUSED),
    Case("HC-159", "every fill of the first target comes twice, with two ids",
         (lies.changed("ORDER_TRADE_UPDATE", lies.fill_twice, symbol=BTC),), CONTRADICTION, 200_000, "flip"),
    Case("HC-160", "every fill of the entry comes twice, with two ids",
         (lies.changed("ORDER_TRADE_UPDATE", lies.fill_twice, ms=3_000, symbol=BTC),), SAFE, "entry",
         course="ended"),  # what seems to have filled is not bought again
    Case("HC-161", "user frames come with times of the year 2100",
         (lies.changed("ORDER_TRADE_UPDATE", lies.in_2100), lies.changed("ACCOUNT_UPDATE", lies.in_2100)), REFUSED, 200_000,
         "flip"),
    Case("HC-162", "orders are told under another symbol",
         (lies.changed("ORDER_TRADE_UPDATE", lies.of_doge),), REFUSED, 200_000, "flip"),
    Case("HC-163", "stops are told in the year 2100", (lies.changed("ALGO_UPDATE", lies.in_2100),), REFUSED, 200_000, "flip"),
    Case("HC-164", "ACCOUNT_UPDATE does not come for ten minutes",
         (lies.dropped("ACCOUNT_UPDATE", ms=600_000),), HARMLESS, "entry"),
    Case("HC-165", "the leverage is said to be 0", (push("private", lies.leverage(0)),), REFUSED),
    Case("HC-166", "the leverage is said to be -20", (push("private", lies.leverage(-20)),), REFUSED),
    Case("HC-167", "the leverage is said to be a word", (push("private", lies.leverage("many")),), REFUSED),
    Case("HC-168", "the listen key is said to have expired in the year 2100",
         (raw("private", b'{"e":"listenKeyExpired","E":4102444800000,"listenKey":"x"}'),), REFUSED),
)  # fmt: skip
