"""One run of the engine over prepared history: which bars are fed to it, and when they are matched by the broker.

Quiet bars are skipped: with nothing open and no signal the engine would do nothing with them. Before the next bar with
a signal, the engine gets the closes of the last `hedge.length` + 2 bars, which restores its state. While something is
open, bars that reach no order level and trigger no rule are passed together (`quiet_bars`). Feeding every bar is a
setting, so that a test can show that skipping changes nothing.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from bot.backtest.bars import kline_of
from bot.backtest.data import BASE_MS, Prepared
from bot.backtest.legs import LegRow
from bot.backtest.quiet_bars import silent, unreached
from bot.backtest.session import Outcome
from bot.backtest.units import Units
from bot.core.events import Command, Event, Funding, KlineClosed
from bot.core.types import to_decimal
from bot.engine.quiet_bars import QuietBars, pass_over
from bot.engine.quiet_bars import watch as watch_of
from bot.results.backtest import BacktestTrade, EntryTime
from bot.strategy import rules


class BacktestRun(Units):
    """A session over the entire range, from one bar with a signal to the next."""

    def decide(self, index: int) -> None:
        """Feed the bar at `index` to a flat engine: update its closes, then let it decide."""
        self.stand_before(index)
        self.close(index)

    def stand_before(self, index: int) -> None:
        """Set the engine's closes before the bar at `index`, as if it had been fed them."""
        alpha = self.bars[self.alpha]
        open_ms = alpha.times.item(index) if index < len(alpha.times) else alpha.base.end_ms
        length = self.config.hedge.length + 2
        for name, bars in self.bars.items():
            series = self.engine.market_state.series[name]
            stop = index if name == self.alpha else int(np.searchsorted(bars.times, open_ms))
            part = slice(max(0, stop - length), stop)
            opens = bars.times[part].tolist()
            series.closes = dict(zip(opens, bars.base.close[part].tolist(), strict=True))
            if opens and name in self.prepared.symbols:
                self._forget_before_gap(name, series.closes, part)
            series.last_open_ms = opens[-1] if opens else -1

    def pass_quiet(self, index: int) -> int:
        """Pass the quiet bars of an open trade from `index` on to the engine together; return the first bar that is not quiet."""
        places, count = self._quiet_from(index)
        if count <= 0:
            return index
        alpha, stop = self.bars[self.alpha], index + count
        closes = {n: self.bars[n].base.close[i : i + count].tolist() for n, i in places.items()}
        opens = alpha.times[index:stop].tolist()
        quiet_bars = QuietBars(
            [open_ms + BASE_MS for open_ms in opens],
            closes,
            max(alpha.base.high[index:stop].tolist()),
            min(alpha.base.low[index:stop].tolist()),
        )
        self.take(pass_over(self.engine, quiet_bars))
        for name, told in closes.items():
            series = self.engine.market_state.series[name]
            # Only the last close: earlier ones are needed by decisions alone, for which `close` restores them.
            series.closes, series.last_open_ms = {opens[-1]: told[-1]}, opens[-1]
            place = places[name] + count - 1
            series.row = self.prepared.columns.row(place) if name == self.alpha else self._leg_row(name, place)
            self.broker.here[name] = told[-1]
        self.broker.now, self.funding_until = quiet_bars.close_ms[-1], opens[-1]
        return stop

    def _quiet_from(self, index: int) -> tuple[dict[str, int], int]:
        """Return the position of each symbol's bar, the traded one last, and the number of quiet bars from there on."""
        broker, alpha = self.broker, self.bars[self.alpha]
        open_ms = alpha.times.item(index)
        due_ms = broker.next_ms()
        if due_ms <= open_ms + BASE_MS:
            return {}, 0
        watch = watch_of(self.engine)
        if watch is None or not broker.covered:
            return {}, 0
        count = min(self.prepared.stop - index, (min(due_ms, watch.due_ms) - open_ms - 1) // BASE_MS)
        places = {name: self.bars[name].at(open_ms) for name in self.legs}
        places[self.alpha] = index
        for name, first in places.items():
            bars, bounds = self.bars[name], broker.bounds(name)
            paid_ms = bars.next_paid(self.funding_until)
            count = min(count, -((open_ms - paid_ms) // BASE_MS))
            if first < 0 or bounds is None or count <= 0:
                return {}, 0
            up, down = bounds
            if name == self.alpha:
                if watch.sign > 0:
                    up = min((up, *watch.levels))
                else:
                    down = max((down, *watch.levels))
            base = bars.base
            count = unreached(base.open_ms, base.high, base.low, base.filled, first, count, up, down)
        if count > 0:
            count = silent(watch, self.prepared.columns.light, alpha.base.close, self.asks, index, count)
        return places, count

    def _leg_row(self, name: str, place: int) -> LegRow:
        """Return a leg's values by name."""
        return LegRow(self.prepared.legs[name], place)

    def _forget_before_gap(self, name: str, closes: dict[int, float], part: slice) -> None:
        """Drop closes from before a long gap, as the engine does."""
        for reset in self.prepared.symbols[name].resets:
            if part.start < reset < part.stop:
                for open_ms in self.bars[name].times[part.start : reset].tolist():
                    del closes[open_ms]

    def close(self, index: int) -> None:
        """Deliver the close of the base bar at `index` of the traded symbol: legs first, all in one instant."""
        bars, broker = self.bars[self.alpha], self.broker
        open_ms = int(bars.times[index])
        now = open_ms + BASE_MS
        broker.now = max(broker.now, now)
        entry = self.entries.get(index)
        columns = self.prepared.columns
        signal = bool(self.asks[index])
        row = columns.row(index)
        if self.entries:
            row = entry_row(row, float(bars.base.close[index]), entry)
        elif self.every_bar:
            row = row | columns.conditions(index)
        events: list[Event] = []
        if signal or self.engine.trade is not None:
            if signal:
                if self.engine.trade is not None and not self.every_bar:
                    self.stand_before(index)
                events.extend(self._funding_rates(now, index))
            # At the decision quotes are centred on the close; the next bar's open is not known yet.
            for name in self.symbols:
                i = index if name == self.alpha else self.bars[name].at(open_ms)
                if i >= 0:
                    broker.here[name] = float(self.bars[name].base.close[i])
            if signal or self._may_exit(row, float(bars.base.close[index])):
                events.append(broker.quotes(self.symbols))
        for name in self.legs:
            leg = self.bars[name]
            i = leg.at(open_ms)
            if i >= 0 and not leg.base.filled[i]:
                self.rows.next[name] = self._leg_row(name, i)
                events.append(KlineClosed(now, kline_of(leg.base, i)))
        if not bars.base.filled[index]:
            self.rows.next[self.alpha] = row
            events.append(KlineClosed(now, kline_of(bars.base, index)))
        self.deliver(events)

    def _may_exit(self, row: dict[str, float], close: float) -> bool:
        """Whether a bar may close a trade; quotes are then delivered with it, as reference for slippage."""
        trade = self.engine.trade
        if trade is None or not trade.entered:
            return trade is not None
        if rules.exit_reason(row, trade.side, trade.config, held=True, with_trend=True, trailing=trade.trailing):
            return True
        return trade.trailing and not trade.side.sign * (close - row["sta_ts"]) > 0.0

    def _funding_rates(self, now: int, index: int) -> list[Event]:
        bars = self.bars[self.alpha]
        funding = bars.funding
        mark = to_decimal(bars.base.close.item(index))
        told = Funding(
            now,
            self.alpha,
            mark,
            to_decimal(funding.rate_at(now)),
            funding.next_ms(now),
            funding.interval_hours_at(now),
        )
        return [told]

    # The entire range

    def run(self, candidates: Sequence[int], *, progress: Callable[[int], None] | None = None) -> None:
        """Run over the range, deciding at `candidates` (ascending positions of bars with a signal)."""
        stop = self.prepared.stop
        index, ahead = self.prepared.first, list(reversed(candidates))
        while True:
            while ahead and ahead[-1] < index:
                ahead.pop()
            if self.every_bar:
                if index >= stop:
                    break
                self.close(index)
            else:
                if not ahead:
                    break
                index = ahead.pop()
                if progress is not None:
                    progress(index - self.prepared.first)
                self.decide(index)
            index = self._until_flat(index + 1)
        if progress is not None:
            progress(stop - self.prepared.first)
        self.finish()

    def run_alone(
        self, entries: Sequence[tuple[int, EntryTime]], *, progress: Callable[[int], None] | None = None
    ) -> list[BacktestTrade | str]:
        """Run each entry separately with a fresh engine; return its trade, or the code of why there was none."""
        found: list[BacktestTrade | str] = []
        for number, (index, entry) in enumerate(entries):
            self.start(int(self.bars[self.alpha].times[index]))
            self.outcome = Outcome()
            self.decided.clear()
            self.take_entries({index: entry})
            self.decide(index)
            self._until_flat(index + 1)
            self.finish()
            if self.outcome.trades:
                found.append(self.outcome.trades[0])
            elif self.outcome.unfilled:
                found.append(self.outcome.unfilled[0].exit_reason)
            else:
                found.append(next((d.code for d in self.decided.values() if d.signal), "no_decision"))
            if progress is not None:
                progress(number + 1)
        return found

    def _until_flat(self, index: int) -> int:
        """Run through bars from `index` on while something is open; return the next bar to look at."""
        stop, engine = self.prepared.stop, self.engine
        self.funding_until = int(self.bars[self.alpha].times[index - 1]) + BASE_MS
        while engine.wants_quotes and index < stop:
            if not self.every_bar:
                index = self.pass_quiet(index)
                if index >= stop:
                    break
            self.live_through(index)
            if not engine.wants_quotes and not self.every_bar:
                break
            if engine.wants_quotes:
                self.close(index)
                index += 1
            else:
                break
        if not engine.wants_quotes:
            self.broker.forget()
        return index

    def finish(self) -> None:
        """Value open positions at the last closes."""
        if self.engine.wants_quotes:
            self.deliver([Command(self.prepared.to_ms, "end_of_data")])


def entry_row(row: dict[str, float], close: float, entry: EntryTime | None) -> dict[str, float]:
    """Return a bar's values with its signal replaced by a given entry, or removed."""
    row = {**row, "long_signal": 0.0, "short_signal": 0.0}
    if entry is None:
        return row
    side = entry.side.name.lower()
    atr = row["atr14"]
    bottom, top = close + entry.bottom_atr * atr, close + entry.top_atr * atr
    row |= {f"{side}_{name}": 1.0 for name in (*rules.CONDITIONS, "signal")}
    row |= {f"{side}_ob_bottom": bottom, f"{side}_ob_top": top, f"{side}_ob_id": math.nan}
    return row | {f"{side}_ob_refined_bottom": bottom, f"{side}_ob_refined_top": top}


def candidates_of(prepared: Prepared) -> list[int]:
    """Return the positions of the bars with a signal on exactly one side."""
    columns = prepared.columns
    part = slice(prepared.first, prepared.stop)
    found: list[int] = (
        prepared.first + np.flatnonzero(columns.long_signal[part] ^ columns.short_signal[part])
    ).tolist()
    return found
