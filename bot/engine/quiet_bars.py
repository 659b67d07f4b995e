"""Quiet bars: closed bars of an open trade on which nothing can act, booked without a full engine pass.

Between two events a trade only watches: bars reach neither stop nor target, no deadline passes, and no indicator ends the trade
or moves its stop. `watch` returns what would end this; a back-test, which has the bars in advance, searches for the first such
bar and passes the bars before it together. `pass_over` then records what closing each bar separately would have recorded: the
equity samples, extremes and last prices.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bot.core.records import Record
from bot.core.types import to_decimal
from bot.strategy import rules

if TYPE_CHECKING:
    from bot.engine.machine import Engine


@dataclass(frozen=True, slots=True)
class Watch:
    """What an open trade at rest reacts to."""

    sign: int  # +1 long, -1 short
    with_trend: bool  # SuperTrend AI agreed at the last bar: a bar that disagrees ends the quiet bars
    trailing: bool
    would_tighten: Callable[[float], bool]  # whether a level of SuperTrend AI moves the stop
    levels: tuple[float, ...]  # prices to watch, besides those of the orders
    due_ms: int  # the next deadline
    choch_source: int  # the indicator whose CHoCH ends the trade (`rules.choch_against`)


@dataclass(frozen=True, slots=True)
class QuietBars:
    """Consecutive quiet bars of all symbols, without gaps."""

    close_ms: Sequence[int]
    closes: Mapping[str, Sequence[float]]  # by symbol, in the order in which bars are handled: the traded one last
    highest: float  # of the traded symbol over the period
    lowest: float


def watch(engine: "Engine") -> Watch | None:
    """Return what the open trade reacts to; None unless its entry is complete, it holds a position and the engine is calm."""
    trade = engine.trade
    if trade is None or not engine.calm() or trade.bracket.closing or trade.bracket.exposed <= 0:
        return None
    if not trade.first_fill_ms or not trade.entered:
        return None
    return Watch(
        trade.side.sign,
        trade.with_trend,
        trade.trailing,
        trade.would_tighten,
        tuple(float(t.price) for t in trade.bracket.targets if not t.reached),
        min(engine.timers.values(), default=0),
        rules.choch_source(trade.config),
    )


def pass_over(engine: "Engine", quiet_bars: QuietBars) -> list[Record]:
    """Book quiet bars, with the same state and samples as closing them one by one.

    The bars must satisfy `watch`; the caller has to update the newest rows and closes (`market_state.series`).
    """
    market_state, portfolio = engine.market_state, engine.portfolio
    out: list[Record] = []
    last = portfolio.account.last
    for index, close_ms in enumerate(quiet_bars.close_ms):
        market_state.now = close_ms
        for symbol, closes in quiet_bars.closes.items():
            last[symbol] = to_decimal(closes[index])
        portfolio.sample(out)
    for symbol in quiet_bars.closes:
        market_state.take_price(symbol, last[symbol], market_state.now)
    if engine.trade is not None:
        engine.trade.note_extremes(to_decimal(quiet_bars.highest), to_decimal(quiet_bars.lowest))
    return out
