"""What the page draws while the bot runs: one tape a symbol, filled as bars close, and the decisions of the past by bar.

Taking a bar costs a few microseconds, after its decision has been acted on. Everything that takes longer (finding where a
block's candle stands, making JSON) waits until somebody looks, and is done some bars at a time.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from bot.config import Config
from bot.core.events import KlineClosed
from bot.core.records import Decision
from bot.core.times import DAY_MS
from bot.report.chart_data import ChartTape, Parts
from bot.strategy.rules import CONDITIONS, PAIRED

STRIP_BARS: Final = 60
FOLLOW: Final = 400  # bars followed at once: about 4 ms


class Live:
    """The tapes of all symbols of the running bot.

    Parameters
    ----------
    decision
        Gives what was decided on the bar that opened at a time, None where nothing was.
    """

    def __init__(self, config: Config, *, decision: Callable[[int], Decision | None] = lambda open_ms: None) -> None:
        self.config = config
        self.tapes = {symbol: ChartTape(config, symbol) for symbol in config.data.symbols}
        self.alpha = config.data.symbols[0]
        self.session_bars = 0  # bars of the alpha symbol before the first one that was decided
        self._decision = decision
        self._began = False
        self._told: tuple[int, dict[str, Any]] = (-1, {})

    def take(self, event: KlineClosed, values: np.ndarray | None) -> None:
        """Take a closed bar and its row; a refused bar has none and is not drawn."""
        tape = self.tapes.get(event.kline.symbol)
        if tape is None or values is None or event.early:
            return  # a bar closed early is drawn when it is confirmed
        if not event.history and event.kline.symbol == self.alpha and not self._began:
            self._began, self.session_bars = True, len(tape)
        tape.take(event.kline, values, filled=event.filled)

    def follow(self) -> bool:
        """Bring the drawings a little nearer to the newest bars; whether all are there."""
        done = [tape.follow(FOLLOW) for tape in self.tapes.values()]
        return all(done)

    def chart(self, symbol: str, *, last: int, after_ms: int | None) -> Parts | None:
        """Return the parts of a symbol's chart, or of what is new since `after_ms`; None for a symbol that is not there."""
        tape = self.tapes.get(symbol)
        return None if tape is None else tape.parts(last=last, after_ms=after_ms)

    def newest(self) -> dict[str, int]:
        """Return the open time of each symbol's newest bar, ms."""
        return {symbol: tape.last_open_ms for symbol, tape in self.tapes.items()}

    def told(self) -> dict[str, Any]:
        """Return what the state of the page adds: how long each condition has (not) held, and the funnel."""
        tape = self.tapes[self.alpha]
        if self._told[0] != len(tape):
            told = {"recent": tape.recent(STRIP_BARS), "funnel": self._funnel(tape), "bars": len(tape)}
            self._told = (len(tape), told)
        return self._told[1]

    def _funnel(self, tape: ChartTape) -> dict[str, Any]:
        live = tape.funnel(self.session_bars if self._began else len(tape))
        days = live["bars"] * tape.interval_ms / DAY_MS
        return {**live, "days": days, "conditions": list(CONDITIONS), "titles": list(PAIRED)}

    def bar(self, open_ms: int) -> dict[str, Any] | None:
        """Return the bar of the alpha symbol as it was decided, in the form of the engine's snapshot."""
        decision = self._decision(open_ms)
        if decision is None:
            return None
        tape = self.tapes[self.alpha]
        at = int(np.searchsorted(tape.open_ms, open_ms))
        close = float(tape.column("close")[at]) if at < len(tape) and int(tape.open_ms[at]) == open_ms else None
        lit = {side: dict(zip(CONDITIONS, getattr(decision, side), strict=True)) for side in ("long", "short")}
        told: Mapping[str, Any] = {
            "at_ms": decision.at_ms,
            "open_ms": open_ms,
            "close": close,
            "signal": decision.signal,
        }
        return {
            "decision": {**told, **lit, "code": decision.code, "reason": decision.reason, "values": decision.values}
        }
