"""Values of a bar that is not confirmed yet: the kernels step the symbol's state, which is restored afterwards.

Used with `bar_close = early` (strategy 1): the decision is taken on the bar's very probable values, and the exchange's own bar
steps the real state when it arrives.
"""

from bot.core.events import KlineClosed
from bot.strategy.features import FeatureRow, Features


class EarlyFeatures(Features):
    """Features that can also evaluate a bar without keeping it."""

    def peek(self, event: KlineClosed) -> FeatureRow | None:
        """Return what `step` would return, without a change of state."""
        symbol = event.kline.symbol
        index = self._index.get(symbol)
        if index is None:
            return None
        memory = (self._stepper.states, self._stepper.clocks, self._stepper.last)
        kept = [each[index : index + 1].copy() for each in memory]
        last, fresh, refused = self._last.get(symbol), self._fresh[symbol], len(self.refused)
        try:
            return self.step(event)
        finally:
            for each, before in zip(memory, kept, strict=True):
                each[index : index + 1] = before
            self._fresh[symbol] = fresh
            del self.refused[refused:]
            if last is None:
                self._last.pop(symbol, None)
            else:
                self._last[symbol] = last
