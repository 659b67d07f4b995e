"""Bars closed by the clock before the exchange confirms them: decided on at once, compared afterwards (strategy 1).

An early bar is built from aggTrades. The bar's single decision is taken on a copy of the state; trails and exits wait for the
exchange's own bar, which also steps the real state. Differences are counted and marked on the decision.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from bot.core.records import Decision
from bot.core.types import Kline, Side
from bot.strategy import evidence
from bot.strategy.rules import CONDITIONS, Row
from bot.strategy.series import Series

FIELDS = ("open", "high", "low", "close", "volume", "taker_buy_volume")


@dataclass(slots=True)
class EarlyBar:
    """A bar built from trades, and its indicator row on a copy of the state."""

    kline: Kline
    row: Row | None


@dataclass(slots=True)
class Early:
    """The newest early bars, and the decision taken on them."""

    alpha: str
    bars: dict[str, EarlyBar] = field(default_factory=dict)
    decision: Decision | None = None

    def has(self, symbol: str, open_ms: int) -> bool:
        """Return whether the symbol's early bar of that open time, or a later one, has arrived."""
        bar = self.bars.get(symbol)
        return bar is not None and bar.kline.open_ms >= open_ms

    @contextmanager
    def overlaid(self, series: dict[str, Series]) -> Iterator[None]:
        """Append the early bars to the series for the duration of a decision."""
        true = dict(series)
        for symbol, bar in self.bars.items():
            if bar.kline.open_ms > true[symbol].last_open_ms:
                series[symbol] = replace(true[symbol], closes=dict(true[symbol].closes))
                series[symbol].add(bar.kline, bar.row)
        try:
            yield
        finally:
            series.update(true)

    def confirm(self, kline: Kline, row: Row | None, counters: dict[str, int]) -> Decision | None:
        """Compare the exchange's bar with the early one; return the decision with the differences marked, None without any."""
        bar = self.bars.get(kline.symbol)
        if bar is None or bar.kline.open_ms != kline.open_ms:
            return None
        differ = [name for name in FIELDS if repr(getattr(kline, name)) != repr(getattr(bar.kline, name))]
        _count(counters, "early_bars")
        if differ:
            _count(counters, "early_bars_differ")
        decision = self.decision
        if decision is None or decision.open_ms != kline.open_ms or kline.symbol != self.alpha:
            return None
        found = [f"{n} {getattr(bar.kline, n)} was {getattr(kline, n)}" for n in differ]
        if row is not None:
            told = {Side.LONG: decision.long, Side.SHORT: decision.short}
            for side, flags in told.items():
                true = evidence.flags(row, side)
                found += [f"{side.name} {c} was {b}" for c, a, b in zip(CONDITIONS, flags, true, strict=True) if a != b]
            if evidence.signal(row) != decision.signal:
                found.append(f"signal was {evidence.signal(row)}")
                _count(counters, "early_signals_differ")
        return replace(decision, values={**decision.values, "early_differs": "; ".join(found)}) if found else None


def _count(counters: dict[str, int], name: str) -> None:
    counters[name] = counters.get(name, 0) + 1


def marked(decision: Decision, bars: Mapping[str, EarlyBar]) -> Decision:
    """Return the decision marked with the symbols whose early bars it was taken on."""
    named = " ".join(sorted(s for s, b in bars.items() if b.kline.open_ms == decision.open_ms))
    return replace(decision, values={**decision.values, "early": named})
