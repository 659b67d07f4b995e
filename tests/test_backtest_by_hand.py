"""Trades worked out on paper: each row tells bars, fills and the money, with the arithmetic beside it.

10,000 USDT, risk 0.75 % = 75. The signal bar closes at 60,000, ATR 100. LONG: block 59,900 to 59,980, so entry 59,940,
stop 59,900 - 0.6 * 100 = 59,840, R = 100, planned quantity 75 / 100 = 0.75. Spread 0.01 %, slippage 0.01 %, maker 0.02
%, taker 0.04 %, tick 0.1, lot 0.001.

Opening at 60,000: ask = 60,000 * 1.00005 = 60,003.0; IOC limit = 60,003 * 1.0006 = 60,039.0; quantity 75 / (60,039 -
59,840) = 0.376; price = 60,000 * 1.00015 = 60,009.0. R = 60,009 - 59,840 = 169; TP1 = 60,178 on 0.112, TP2 = 60,262.5
on 0.112, runner 0.152. SHORT: limit 59,961.1, quantity 75 / (60,160 - 59,961.1) = 0.377, price 59,991.0, TP1 59,822,
TP2 59,737.5.
"""

import re
from dataclasses import dataclass
from decimal import Decimal

import pytest

from bot.core.types import Side
from tests.backtest_tools import ETH, SOL, Story, fills_of, flat, play, the_trade

Q = flat(60_000.0)  # nothing happens
L, S = Side.LONG, Side.SHORT
OPEN = "io 0.376 60009.0"
OPEN_SHORT = "io 0.377 59991.0"
UP = (60_000, 60_190, 59_990, 60_150)  # trades through TP1
QUIET_MINUTE = (60_000, 60_000, 60_000, 60_000, 10)
THROUGH = (60_000, 60_010, 59_930, 60_000, 1_000)  # trades through the maker's 59,940; 700/60,000 of 1,000 = 11.67
RESTED = (60_000, 60_010, 59_930, 60_000)
AGAINST = {"pac_event": 2.0, "pac_dir": -1.0}


@dataclass(frozen=True)
class Case:
    name: str
    story: Story
    reason: str
    fills: str  # "role qty price, ..." of BTC, legs with the coin before
    money: str  # net result
    settings: tuple[str, ...] = ()


def money(text: str) -> Decimal:
    """Evaluate arithmetic on decimals."""
    return eval(re.sub(r"\d+(\.\d+)?", lambda m: f"Decimal('{m[0]}')", text.replace(",", "")), {"Decimal": Decimal})


CASES = (
    # -- the stop --------------------------------------------------------------------------------------------------
    Case("stop on the entry bar", Story([(60_000, 60_010, 59_800, 59_850)]), "stop",
         f"{OPEN}, sl 0.376 59834.0",  # 59,840 * 0.9999 = 59,834.016, down
         "0.376 * (59834.0 - 60009.0) - 0.0004 * 0.376 * (60009.0 + 59834.0)"),
    Case("stop, short", Story([(60_000, 60_200, 59_990, 60_150)], S), "stop",
         f"{OPEN_SHORT}, sl 0.377 60166.1",  # 60,160 * 1.0001 = 60,166.016, up
         "0.377 * (59991.0 - 60166.1) - 0.0004 * 0.377 * (59991.0 + 60166.1)"),
    Case("stop touched to the tick", Story([Q, (60_000, 60_000, 59_840, 59_990)]), "stop",
         f"{OPEN}, sl 0.376 59834.0",
         "0.376 * (59834.0 - 60009.0) - 0.0004 * 0.376 * (60009.0 + 59834.0)"),
    Case("a tick above the stop is no stop", Story([Q, (60_000, 60_000, 59_840.1, 60_000), *[Q] * 9]), "time",
         f"{OPEN}, xx 0.376 59991.0",  # 60,000 * 0.99985
         "0.376 * (59991.0 - 60009.0) - 0.0004 * 0.376 * (60009.0 + 59991.0)"),
    Case("gap through the stop", Story([Q, (59_700, 59_710, 59_600, 59_650)]), "stop",
         f"{OPEN}, sl 0.376 59694.0",  # the open 59,700 * 0.9999 = 59,694.03, down
         "0.376 * (59694.0 - 60009.0) - 0.0004 * 0.376 * (60009.0 + 59694.0)"),
    Case("gap through the stop, short", Story([Q, (60_300, 60_400, 60_290, 60_350)], S), "stop",
         f"{OPEN_SHORT}, sl 0.377 60306.1",  # 60,300 * 1.0001 = 60,306.03, up
         "0.377 * (59991.0 - 60306.1) - 0.0004 * 0.377 * (59991.0 + 60306.1)"),
    Case("a bar with stop and target: the stop first", Story([(60_000, 60_300, 59_800, 60_100)]), "stop",
         f"{OPEN}, sl 0.376 59834.0",
         "0.376 * (59834.0 - 60009.0) - 0.0004 * 0.376 * (60009.0 + 59834.0)"),
    Case("minutes tell that the target came first, then break-even",
         Story([(60_000, 60_190, 59_800, 59_900)],
               minutes={0: [(60_000, 60_190, 59_990, 60_180, 10), (60_180, 60_180, 59_800, 59_850, 10),
                            (59_850, 59_900, 59_850, 59_900, 10)]}),
         "break_even", f"{OPEN}, tp 0.112 60178.0, sl 0.264 60051.0",
         "0.112 * (60178.0 - 60009.0) + 0.264 * (60051.0 - 60009.0)"
         "- 0.0004 * (0.376 * 60009.0 + 0.264 * 60051.0) - 0.0002 * 0.112 * 60178.0"),
    # -- the first target and break-even: 60,009 * (1 + 0.0004 + 0.0004) = 60,057.0072, up to 60,057.1 ------------------
    Case("break-even", Story([(60_000, 60_190, 59_990, 60_180), (60_180, 60_180, 60_000, 60_020)]), "break_even",
         f"{OPEN}, tp 0.112 60178.0, sl 0.264 60051.0",  # 60,057.1 * 0.9999 = 60,051.09, down
         "0.112 * (60178.0 - 60009.0) + 0.264 * (60051.0 - 60009.0)"
         "- 0.0004 * (0.376 * 60009.0 + 0.264 * 60051.0) - 0.0002 * 0.112 * 60178.0"),
    Case("break-even, short", Story([(60_000, 60_010, 59_810, 59_820), (59_820, 60_000, 59_820, 59_980)], S),
         "break_even",  # 59,991 * (1 - 0.0008) = 59,943.0072, down to 59,943.0; * 1.0001 = 59,948.9943, up
         f"{OPEN_SHORT}, tp 0.113 59822.0, sl 0.264 59949.0",
         "0.113 * (59991.0 - 59822.0) + 0.264 * (59991.0 - 59949.0)"
         "- 0.0004 * (0.377 * 59991.0 + 0.264 * 59949.0) - 0.0002 * 0.113 * 59822.0"),
    Case("break-even at the entry itself",  # 60,009.0 * 0.9999 = 60,002.9991, down
         Story([(60_000, 60_190, 59_990, 60_180), (60_180, 60_180, 60_000, 60_020)]), "break_even",
         f"{OPEN}, tp 0.112 60178.0, sl 0.264 60002.9",
         "0.112 * (60178.0 - 60009.0) + 0.264 * (60002.9 - 60009.0)"
         "- 0.0004 * (0.376 * 60009.0 + 0.264 * 60002.9) - 0.0002 * 0.112 * 60178.0", ("trade.break_even=entry",)),
    Case("the bar of the first target closes beyond the moved stop: hit on it", Story([(60_000, 60_190, 59_990, 60_050)]),
         "break_even", f"{OPEN}, tp 0.112 60178.0, sl 0.264 60051.0",
         "0.112 * (60178.0 - 60009.0) + 0.264 * (60051.0 - 60009.0)"
         "- 0.0004 * (0.376 * 60009.0 + 0.264 * 60051.0) - 0.0002 * 0.112 * 60178.0"),
    Case("the bar of the first target closes above the moved stop: not hit", Story([UP, *[flat(60_150.0)] * 10]), "time",
         f"{OPEN}, tp 0.112 60178.0, xx 0.264 60140.9",  # 60,150 * 0.99985 = 60,140.9775, down
         "0.112 * (60178.0 - 60009.0) + 0.264 * (60140.9 - 60009.0)"
         "- 0.0004 * (0.376 * 60009.0 + 0.264 * 60140.9) - 0.0002 * 0.112 * 60178.0"),
    Case("a bar that only touches the target does not fill it", Story([(60_000, 60_178, 59_990, 60_100), *[Q] * 10]), "time",
         f"{OPEN}, xx 0.376 59991.0",
         "0.376 * (59991.0 - 60009.0) - 0.0004 * 0.376 * (60009.0 + 59991.0)"),
    Case("touching fills when asked for", Story([(60_000, 60_178, 59_990, 60_150), *[flat(60_150.0)] * 10]), "time",
         f"{OPEN}, tp 0.112 60178.0, xx 0.264 60140.9",
         "0.112 * (60178.0 - 60009.0) + 0.264 * (60140.9 - 60009.0)"
         "- 0.0004 * (0.376 * 60009.0 + 0.264 * 60140.9) - 0.0002 * 0.112 * 60178.0", ("backtest.target_fill=touch",)),
    # -- the runner ----------------------------------------------------------------------------------------------------
    Case("both targets, then the trail",  # set to 60,200 at the close of the second bar: works from the third
         Story([UP, (60_150, 60_300, 60_140, 60_290), (60_290, 60_290, 60_190, 60_195)], rows={1: {"sta_ts": 60_200.0}}),
         "trail", f"{OPEN}, tp 0.112 60178.0, tp 0.112 60262.5, sl 0.152 60193.9",  # 60,200 * 0.9999 = 60,193.98
         "0.112 * (60178.0 - 60009.0) + 0.112 * (60262.5 - 60009.0) + 0.152 * (60193.9 - 60009.0)"
         "- 0.0004 * (0.376 * 60009.0 + 0.152 * 60193.9) - 0.0002 * 0.112 * (60178.0 + 60262.5)"),
    Case("both targets in one bar", Story([(60_000, 60_300, 59_990, 60_280), *[flat(60_280.0)] * 10]), "time",
         f"{OPEN}, tp 0.112 60178.0, tp 0.112 60262.5, xx 0.152 60270.9",  # 60,280 * 0.99985 = 60,270.958
         "0.112 * (60178.0 - 60009.0) + 0.112 * (60262.5 - 60009.0) + 0.152 * (60270.9 - 60009.0)"
         "- 0.0004 * (0.376 * 60009.0 + 0.152 * 60270.9) - 0.0002 * 0.112 * (60178.0 + 60262.5)"),
    Case("a target opened beyond fills at its own price", Story([Q, (60_400, 60_400, 60_390, 60_400),
                                                                *[flat(60_400.0)] * 9]), "time",
         f"{OPEN}, tp 0.112 60178.0, tp 0.112 60262.5, xx 0.152 60390.9",  # 60,400 * 0.99985 = 60,390.94
         "0.112 * (60178.0 - 60009.0) + 0.112 * (60262.5 - 60009.0) + 0.152 * (60390.9 - 60009.0)"
         "- 0.0004 * (0.376 * 60009.0 + 0.152 * 60390.9) - 0.0002 * 0.112 * (60178.0 + 60262.5)"),
    Case("SuperTrend AI turns against the runner",  # at the close of the second bar: out at the third's open
         Story([UP, (60_150, 60_300, 60_140, 60_290), (60_280, 60_290, 60_190, 60_195)], rows={1: {"sta_os": 0.0}}),
         "trail_flip", f"{OPEN}, tp 0.112 60178.0, tp 0.112 60262.5, xx 0.152 60270.9",
         "0.112 * (60178.0 - 60009.0) + 0.112 * (60262.5 - 60009.0) + 0.152 * (60270.9 - 60009.0)"
         "- 0.0004 * (0.376 * 60009.0 + 0.152 * 60270.9) - 0.0002 * 0.112 * (60178.0 + 60262.5)"),
    Case("a trail that the close has passed already",
         Story([UP, (60_150, 60_170, 60_140, 60_160), flat(60_160.0)], rows={1: {"sta_ts": 60_165.0}}), "stop_passed",
         f"{OPEN}, tp 0.112 60178.0, xx 0.264 60150.9",  # 60,160 * 0.99985 = 60,150.976
         "0.112 * (60178.0 - 60009.0) + 0.264 * (60150.9 - 60009.0)"
         "- 0.0004 * (0.376 * 60009.0 + 0.264 * 60150.9) - 0.0002 * 0.112 * 60178.0"),
    Case("all in two targets",  # 0.5 each: 0.188 and 0.188, nothing left
         Story([(60_000, 60_300, 59_990, 60_280)]), "targets",
         f"{OPEN}, tp 0.188 60178.0, tp 0.188 60262.5",
         "0.188 * (60178.0 - 60009.0) + 0.188 * (60262.5 - 60009.0)"
         "- 0.0004 * 0.376 * 60009.0 - 0.0002 * 0.188 * (60178.0 + 60262.5)",
         ("trade.tp1_fraction=0.5", "trade.tp2_fraction=0.5")),
    # -- hard exits ------------------------------------------------------------------------------------------------------
    Case("an opposite CHoCH leaves at the next open", Story([Q, flat(60_050.0)], rows={0: AGAINST}), "choch",
         f"{OPEN}, xx 0.376 60040.9",  # 60,050 * 0.99985 = 60,040.9925
         "0.376 * (60040.9 - 60009.0) - 0.0004 * 0.376 * (60009.0 + 60040.9)"),
    Case("an opposite CHoCH, short", Story([Q, flat(59_950.0)], S, rows={0: {"pac_event": 3.0, "pac_dir": 1.0}}), "choch",
         f"{OPEN_SHORT}, xx 0.377 59959.0",  # 59,950 * 1.00015 = 59,958.9925, up
         "0.377 * (59991.0 - 59959.0) - 0.0004 * 0.377 * (59991.0 + 59959.0)"),
    Case("a CHoCH on the signal bar itself is none", Story([*[Q] * 11], rows={-1: AGAINST}), "time",
         f"{OPEN}, xx 0.376 59991.0",
         "0.376 * (59991.0 - 60009.0) - 0.0004 * 0.376 * (60009.0 + 59991.0)"),
    Case("thirty minutes: at the open of the eleventh bar", Story([*[Q] * 10, (60_030, 60_400, 59_000, 59_850)]), "time",
         f"{OPEN}, xx 0.376 60020.9",  # 60,030 * 0.99985 = 60,020.9955
         "0.376 * (60020.9 - 60009.0) - 0.0004 * 0.376 * (60009.0 + 60020.9)"),
    Case("the time exit comes before that bar's stop, a gap through the stop before it",
         Story([*[Q] * 10, (59_700, 59_710, 59_000, 59_850)]), "stop",
         f"{OPEN}, sl 0.376 59694.0",
         "0.376 * (59694.0 - 60009.0) - 0.0004 * 0.376 * (60009.0 + 59694.0)"),
    Case("the runner lives on without the time exit",
         Story([UP, *[flat(60_150.0)] * 11, (60_150, 60_150, 60_050, 60_060)]), "break_even",
         f"{OPEN}, tp 0.112 60178.0, sl 0.264 60051.0",
         "0.112 * (60178.0 - 60009.0) + 0.264 * (60051.0 - 60009.0)"
         "- 0.0004 * (0.376 * 60009.0 + 0.264 * 60051.0) - 0.0002 * 0.112 * 60178.0", ("trade.timeout_runner=false",)),
    # -- the post-only entry: 59,940, for 0.75; TP1 = 60,040 on 0.225, TP2 = 60,090 on 0.225 ------------------------------
    Case("filled as maker when the first minute trades through",
         Story([RESTED, Q, (60_000, 60_100, 60_000, 60_090), *[Q] * 8], minutes={0: [THROUGH, QUIET_MINUTE, QUIET_MINUTE]}),
         "time",  # break-even 59,940 * (1 + 0.0002 + 0.0004) = 59,975.964, up to 59,976.0, is not reached
         "en 0.750 59940.0, tp 0.225 60040.0, tp 0.225 60090.0, xx 0.300 59991.0",
         "0.225 * (60040.0 - 59940.0) + 0.225 * (60090.0 - 59940.0) + 0.300 * (59991.0 - 59940.0)"
         "- 0.0002 * (0.750 * 59940.0 + 0.225 * 60040.0 + 0.225 * 60090.0) - 0.0004 * 0.300 * 59991.0"),
    Case("the minute of the maker fill reaches the target but closes below: not filled",
         Story([(60_000, 60_060, 59_930, 60_000), *[Q] * 10],
               minutes={0: [(60_000, 60_060, 59_930, 60_000, 1_000), QUIET_MINUTE, QUIET_MINUTE]}), "time",
         "en 0.750 59940.0, xx 0.750 59991.0",
         "0.750 * (59991.0 - 59940.0) - 0.0002 * 0.750 * 59940.0 - 0.0004 * 0.750 * 59991.0"),
    Case("it closes beyond the target: filled",
         Story([(60_000, 60_060, 59_930, 60_050), *[flat(60_050.0)] * 10],
               minutes={0: [(60_000, 60_060, 59_930, 60_050, 1_000), (60_050, 60_050, 60_050, 60_050, 10),
                            (60_050, 60_050, 60_050, 60_050, 10)]}), "time",
         "en 0.750 59940.0, tp 0.225 60040.0, xx 0.525 60040.9",
         "0.225 * (60040.0 - 59940.0) + 0.525 * (60040.9 - 59940.0)"
         "- 0.0002 * (0.750 * 59940.0 + 0.225 * 60040.0) - 0.0004 * 0.525 * 60040.9"),
    Case("partly maker, the rest taken for the risk that is left",
         # 700/60,000 * 20 = 0.2333; rest min(0.517, (75 - 0.233 * 100) / 199) = 0.259
         Story([RESTED, *[Q] * 10], minutes={0: [(60_000, 60_010, 59_930, 60_000, 20), QUIET_MINUTE, QUIET_MINUTE]}), "time",
         "en 0.233 59940.0, io 0.259 60009.0, xx 0.492 59991.0",
         "0.233 * (59991.0 - 59940.0) + 0.259 * (59991.0 - 60009.0)"
         "- 0.0002 * 0.233 * 59940.0 - 0.0004 * (0.259 * 60009.0 + 0.492 * 59991.0)"),
    Case("the open below the plan: post-only refused, re-priced, then taken whole",
         # ask 59,903.0 < 59,940; then at the bid 59,897.0; limit 59,938.9, 75 / 98.9 = 0.758; price 59,900 * 1.00015 = 59,908.985
         Story([*[flat(59_900.0)] * 11]), "time", "io 0.750 59909.0, xx 0.750 59891.0",  # 59,900 * 0.99985 = 59,891.015
         "0.750 * (59891.0 - 59909.0) - 0.0004 * 0.750 * (59909.0 + 59891.0)"),
    # -- what protects when the stop does not, and what is too small to protect -----------------------------------------------
    Case("the catastrophe stop takes what the sized stop does not cover yet",
         # 30 s to the exchange: 0.233 rest as above, filled at 0:30; their stop (59,840) and the catastrophe stop (59,840 - 1.5 *
         # 100 = 59,690) stand at 1:00; 0.259 are taken at 1:30, the stop for all 0.492 is under way when the second minute falls.
         Story([(60_000, 60_010, 59_600, 59_650)],
               minutes={0: [(60_000, 60_010, 59_930, 60_000, 20), (60_000, 60_000, 59_600, 59_650, 10),
                            (59_650, 59_650, 59_650, 59_650, 10)]}), "stop",
         "en 0.233 59940.0, io 0.259 60009.0, sl 0.233 59834.0, cs 0.259 59684.0",  # 59,690 * 0.9999 = 59,684.031
         "0.233 * (59834.0 - 59940.0) + 0.259 * (59684.0 - 60009.0) - 0.0002 * 0.233 * 59940.0"
         "- 0.0004 * (0.259 * 60009.0 + 0.233 * 59834.0 + 0.259 * 59684.0)",
         ("backtest.latency_ms=30000", "trade.naked_limit_ms=60000", "entry.max_data_age_ms=60000")),
    Case("the catastrophe stop takes what the sized stop does not cover yet, short",
         # mirrored at 60,000: rests at 60,060, stop 60,160, catastrophe 60,310; (75 - 0.233 * 100) / (60,160 - 59,961.1) = 0.2599
         Story([(60_000, 60_400, 59_990, 60_350)], S,
               minutes={0: [(60_000, 60_070, 59_990, 60_000, 20), (60_000, 60_400, 60_000, 60_350, 10),
                            (60_350, 60_350, 60_350, 60_350, 10)]}), "stop",
         "en 0.233 60060.0, io 0.259 59991.0, sl 0.233 60166.1, cs 0.259 60316.1",  # 60,310 * 1.0001 = 60,316.031, up
         "0.233 * (60060.0 - 60166.1) + 0.259 * (59991.0 - 60316.1) - 0.0002 * 0.233 * 60060.0"
         "- 0.0004 * (0.259 * 59991.0 + 0.233 * 60166.1 + 0.259 * 60316.1)",
         ("backtest.latency_ms=30000", "trade.naked_limit_ms=60000", "entry.max_data_age_ms=60000")),
    Case("naked for longer than allowed: out at market",
         # 2 s to the exchange: filled at 0:06, the stop would stand at 0:08, allowed are 1.5 s
         Story([Q, Q]), "naked", f"{OPEN}, xx 0.376 59991.0",
         "0.376 * (59991.0 - 60009.0) - 0.0004 * 0.376 * (60009.0 + 59991.0)", ("backtest.latency_ms=2000",)),
    Case("naked for longer than allowed: out at market, short",
         Story([Q, Q], S), "naked", f"{OPEN_SHORT}, xx 0.377 60009.0",
         "0.377 * (59991.0 - 60009.0) - 0.0004 * 0.377 * (59991.0 + 60009.0)", ("backtest.latency_ms=2000",)),
    Case("dust: less than the exchange's minimum filled, closed at once",
         # at half the price: entry 29,970, stop 29,920; 700/60,000 of 0.1 = 0.001, worth 29.97 < 50; the rest is not chased, for
         # (30,001.5 - 29,970) / 50 = 0.63 R > 0.5
         Story([(30_000, 30_005, 29_965, 30_000), flat(30_000.0)], scale=0.5,
               minutes={0: [(30_000, 30_005, 29_965, 30_000, 0.1), (30_000, 30_000, 30_000, 30_000, 10),
                            (30_000, 30_000, 30_000, 30_000, 10)]}), "below_minimum",
         "en 0.001 29970.0, xx 0.001 29995.5",  # 30,000 * 0.99985
         "0.001 * (29995.5 - 29970.0) - 0.0002 * 0.001 * 29970.0 - 0.0004 * 0.001 * 29995.5", ("entry.max_chase_r=0.5",)),
    Case("one lot: the first target cannot be sold, reaching it moves the stop",
         # TP1 = 60,040; break-even 59,940 * 1.0006 = 59,975.964, up to 59,976.0, stands from the third bar on
         Story([RESTED, (60_000, 60_060, 60_000, 60_050), (60_050, 60_050, 59_940, 59_950)],
               minutes={0: [(60_000, 60_010, 59_930, 60_000, 0.1), QUIET_MINUTE, QUIET_MINUTE]}), "break_even",
         "en 0.001 59940.0, sl 0.001 59970.0",  # 59,976 * 0.9999 = 59,970.0024
         "0.001 * (59970.0 - 59940.0) - 0.0002 * 0.001 * 59940.0 - 0.0004 * 0.001 * 59970.0", ("entry.max_chase_r=0.5",)),
    # -- funding, liquidation, the end of the data -----------------------------------------------------------------------------
    Case("funding is paid by a long", Story([*[Q] * 11], funding={3: 0.0001}), "time",
         f"{OPEN}, xx 0.376 59991.0",
         "0.376 * (59991.0 - 60009.0) - 0.0004 * 0.376 * (60009.0 + 59991.0) - 0.376 * 60000 * 0.0001"),
    Case("funding is received by a short", Story([*[Q] * 11], S, funding={3: 0.0001}), "time",
         f"{OPEN_SHORT}, xx 0.377 60009.0",
         "0.377 * (59991.0 - 60009.0) - 0.0004 * 0.377 * (59991.0 + 60009.0) + 0.377 * 60000 * 0.0001"),
    Case("funding at the instant of the signal is not ours", Story([*[Q] * 11], funding={0: 0.0001}), "time",
         f"{OPEN}, xx 0.376 59991.0",
         "0.376 * (59991.0 - 60009.0) - 0.0004 * 0.376 * (60009.0 + 59991.0)"),
    Case("liquidation on a gap: never worse than bankruptcy",
         # 20x: 60,009 * 0.95 = 57,008.55, up to the tick; what is left of the margin is the fee: 0.376 * 0.05 = 0.0188
         Story([Q, (56_000, 56_000, 55_900, 55_950)]), "liquidation",
         f"{OPEN}, fx 0.376 57008.6",
         "0.376 * (57008.6 - 60009.0) - 0.0004 * 0.376 * 60009.0 - 0.0188"),
    Case("liquidation on a gap, short",  # 59,991 * 1.05 = 62,990.55, down to the tick; fee 0.377 * 0.05 = 0.01885
         Story([Q, (64_000, 64_100, 63_900, 64_000)], S), "liquidation",
         f"{OPEN_SHORT}, fx 0.377 62990.5",
         "0.377 * (59991.0 - 62990.5) - 0.0004 * 0.377 * 59991.0 - 0.01885"),
    Case("open at the end of the data: valued at the last close", Story([Q, Q]), "end_of_data",
         f"{OPEN}, ed 0.376 60000.0",
         "0.376 * (60000.0 - 60009.0) - 0.0004 * 0.376 * 60009.0"),
    # -- the hedge: both legs move as BTC does, R2 = 1, factor 0.7, half each: 0.35 of 0.376 * 60,009 = 7,897.18 -----------
    # ETH 7,897.18 / 3,000 = 2.632 sold at 3,000 * 0.99985 = 2,999.55; SOL 7,897.18 / 150 = 52.64 at 149.9775, down
    Case("the hedge opens with the entry and closes with it", Story([*[Q] * 11]), "time",
         f"{OPEN}, ETH hx 2.632 2999.55, SOL hx 52.64 149.97, xx 0.376 59991.0, ETH xx 2.632 3000.45, SOL xx 52.64 150.03",
         "0.376 * (59991.0 - 60009.0) + 2.632 * (2999.55 - 3000.45) + 52.64 * (149.97 - 150.03)"
         "- 0.0004 * (0.376 * (60009.0 + 59991.0) + 2.632 * (2999.55 + 3000.45) + 52.64 * (149.97 + 150.03))",
         ("hedge.enabled=true",)),
    Case("a leg is stopped first and is not opened again",
         # its stop: the supply block's top 3,012 + 0.9 * 3 = 3,014.7; * 1.0001 = 3,015.0015, up
         Story([Q, *[Q] * 10], legs={ETH: [flat(3_000.0), (3_000, 3_030, 3_000, 3_020), *[flat(3_020.0)] * 9]}), "time",
         f"{OPEN}, ETH hx 2.632 2999.55, SOL hx 52.64 149.97, ETH sl 2.632 3015.01, xx 0.376 59991.0, SOL xx 52.64 150.03",
         "0.376 * (59991.0 - 60009.0) + 2.632 * (2999.55 - 3015.01) + 52.64 * (149.97 - 150.03)"
         "- 0.0004 * (0.376 * (60009.0 + 59991.0) + 2.632 * (2999.55 + 3015.01) + 52.64 * (149.97 + 150.03))",
         ("hedge.enabled=true",)),
    Case("the legs shrink with the first target",  # 0.264 / 0.376 is left: 2.632 * 0.2979 = 0.784, 52.64 * 0.2979 = 15.68
         Story([(60_000, 60_190, 59_990, 60_180), *[flat(60_180.0)] * 10]), "time",
         f"{OPEN}, ETH hx 2.632 2999.55, SOL hx 52.64 149.97, tp 0.112 60178.0, ETH hc 0.784 3000.45, SOL hc 15.68 150.03, "
         "xx 0.264 60170.9, ETH xx 1.848 3000.45, SOL xx 36.96 150.03",  # 60,180 * 0.99985 = 60,170.973
         "0.112 * (60178.0 - 60009.0) + 0.264 * (60170.9 - 60009.0)"
         "+ 2.632 * (2999.55 - 3000.45) + 52.64 * (149.97 - 150.03)"
         "- 0.0004 * (0.376 * 60009.0 + 0.264 * 60170.9) - 0.0002 * 0.112 * 60178.0"
         "- 0.0004 * (2.632 * (2999.55 + 3000.45) + 52.64 * (149.97 + 150.03))", ("hedge.enabled=true",)),
    Case("BTC is stopped inside a bar: the legs leave at that bar's close",
         # ETH closes at 2,990: * 1.00015 = 2,990.4485, up; SOL at 149.0: 149.02235, up
         Story([Q, (60_000, 60_010, 59_800, 59_850)],
               legs={ETH: [flat(3_000.0), (3_000, 3_000, 2_985, 2_990)], SOL: [flat(150.0), (150, 150, 148.5, 149)]}), "stop",
         f"{OPEN}, ETH hx 2.632 2999.55, SOL hx 52.64 149.97, sl 0.376 59834.0, ETH xx 2.632 2990.45, SOL xx 52.64 149.03",
         "0.376 * (59834.0 - 60009.0) + 2.632 * (2999.55 - 2990.45) + 52.64 * (149.97 - 149.03)"
         "- 0.0004 * (0.376 * (60009.0 + 59834.0) + 2.632 * (2999.55 + 2990.45) + 52.64 * (149.97 + 149.03))",
         ("hedge.enabled=true",)),
    Case("literal sizing puts the whole hedge on each leg, scaled to keep 0.1 of BTC's beta",
         # 0.7 each would leave 1 - 1.4 < 0.1: scaled by 0.9 / 1.4 to 0.45 each; 0.376 * 60,009 * 0.45 = 10,153.5
         Story([*[Q] * 11]), "time",
         f"{OPEN}, ETH hx 3.384 2999.55, SOL hx 67.69 149.97, xx 0.376 59991.0, ETH xx 3.384 3000.45, SOL xx 67.69 150.03",
         "0.376 * (59991.0 - 60009.0) + 3.384 * (2999.55 - 3000.45) + 67.69 * (149.97 - 150.03)"
         "- 0.0004 * (0.376 * (60009.0 + 59991.0) + 3.384 * (2999.55 + 3000.45) + 67.69 * (149.97 + 150.03))",
         ("hedge.enabled=true", "hedge.weight=each")),
)  # fmt: skip


def expected_fills(text: str) -> list[tuple[str, str, Decimal, Decimal]]:
    found = []
    for part in text.split(", "):
        words = part.split()
        coin, role, qty, price = words if len(words) == 4 else ("BTC", *words)
        found.append((coin, role, Decimal(qty), Decimal(price)))
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_a_trade_equals_its_hand_calculation_to_the_cent(case):
    trade = the_trade(play(case.story, *case.settings))

    made = [(coin, role, Decimal(qty), Decimal(price)) for coin, role, qty, price in fills_of(trade)]
    assert made == expected_fills(case.fills)
    assert abs(trade.record.pnl - money(case.money)) < Decimal("0.005")
    assert trade.record.exit_reason == case.reason


def test_at_least_twenty_five_trades_are_worked_out():
    assert len(CASES) >= 25
    assert {case.story.side for case in CASES} == {L, S}
