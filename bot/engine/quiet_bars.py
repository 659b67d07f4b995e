"""Quiet stretches: closed bars on which nothing can act while a trade is open, noted without a pass over everything.

Between two things that happen, a trade only watches: bars reach neither stop nor target, no deadline comes, the
indicators say nothing that would end it or move its stop. `watch` states what would; whoever has the bars beforehand (a
back-test) searches for the first one that does, and hands those before it over together. `pass_over` then notes of them
what closing each by itself would have left: equity sample by sample, extremes, last prices.
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
    """What an open trade listens to while it is at rest."""

    sign: int  # +1 long, -1 short
    with_trend: bool  # SuperTrend AI agreed at the last bar: a bar that says otherwise counts
    trailing: bool
    would_tighten: Callable[[float], bool]  # whether a level of SuperTrend AI moves the stop
    levels: tuple[float, ...]  # prices that count when they are reached, beside the orders' own
    due_ms: int  # the next instant at which something is to be done by itself
    choch_source: int  # whose changes of character end it (`rules.choch_against`)


@dataclass(frozen=True, slots=True)
class QuietBars:
    """Quiet bars of all symbols, end to end and complete."""

    close_ms: Sequence[int]
    closes: Mapping[str, Sequence[float]]  # by symbol, in the order in which bars are told: the traded one last
    highest: float  # of the traded symbol over the stretch
    lowest: float


def watch(engine: "Engine") -> Watch | None:
    """Return what the open trade listens to; None unless it is complete, held and everything is at rest."""
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
    """Note a quiet stretch: the same state and the same samples as closing its bars one by one.

    The bars must keep what `watch` asked for; the newest rows and closes are the caller's to hand over (`known.series`).
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
