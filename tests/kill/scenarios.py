"""The trades that are killed: a market of a few minutes for each, written for a long and mirrored for a short.

The bot's verdict comes from a script instead of the indicators, so that a signal stands on the first bar that closes. Everything
after it is the bot's own: post-only entry, partly filled, the rest taken, stop and catastrophe stop, two targets, two hedge
legs with their stops, break-even, trail, and the ways out.
"""

from dataclasses import dataclass, field

import numpy as np

from bot.core.events import KlineClosed
from bot.core.klines import Klines, aggregate, make_klines
from bot.core.types import Side
from tests.engine_harness import BTC, ETH, SOL, leg_row, quiet_row, signal_row

MINUTE, BAR = 60_000, 180_000
CLOSE = 1_767_229_200_000  # 2026-01-01, 01:00 UTC + the history: the signal bar closes
HISTORY = 240  # minutes before it
CENTRE = 60_000.0
PRICES = {ETH: 3_000.0, SOL: 150.0}
FOLLOW = {ETH: 1.3, SOL: 1.6}  # how much a leg moves with BTC before the trade
TRADE_FOLLOW = 0.4  # and in it: the legs' stops are not to be reached

# minute by minute from the close of the signal bar: where BTC closes, for a long, as a distance from 60,000
BEGIN = (30.0, 35.0, 40.0)
SCALE = (*BEGIN, 125.0, 120.0, 115.0)


@dataclass(frozen=True)
class Story:
    """What the market and the indicators do.

    Parameters
    ----------
    closes
        BTC's minute closes.
    trail
        SuperTrend AI's line, as a distance from 60,000 in favour, at the close of the n-th bar after the signal.
    choch, flip
        Numbers of the bars with an opposite CHoCH, and with SuperTrend AI against the trade.
    from_ms
        Exchange time after the signal from which on points are killed: the entry is killed once and not in each story.
    leg_jump
        Minute from which on SOL stands 1 % further in BTC's favour, beyond the stop of its leg.
    """

    closes: tuple[float, ...]
    trail: dict[int, float] = field(default_factory=dict)
    choch: tuple[int, ...] = ()
    flip: tuple[int, ...] = ()
    from_ms: int = -2_000
    overrides: tuple[str, ...] = ()
    leg_jump: int | None = None


STORIES = {
    "scale": Story((*SCALE, 175.0, 180.0, 170.0, 100.0, 100.0), trail={2: 70.0, 3: 120.0}),
    "timeout": Story((*BEGIN, 30.0, 30.0, 30.0), from_ms=170_000, overrides=("trade.timeout_minutes=3.5",)),
    "choch": Story((*BEGIN, 40.0, 40.0), choch=(1,), from_ms=170_000),
    "flip": Story((*SCALE, 115.0, 115.0), flip=(2,), from_ms=350_000),
    "stop": Story((30.0, -140.0, -140.0), from_ms=50_000),
    "leg": Story((*BEGIN, 40.0, 40.0, 40.0), choch=(1,), from_ms=55_000, leg_jump=1),
}


class Row(dict[str, float]):
    """A bar of the script: no vector of values for chart and ledger."""

    values = None  # type: ignore[assignment]


class Script:
    """Stands in for the indicators: takes every bar and returns the row that the story has for it."""

    def __init__(self, story: Story, side: Side) -> None:
        self._story, self._side = story, side
        self._last: dict[str, int] = {}

    def step(self, event: KlineClosed) -> Row | None:
        bar, story, side = event.kline, self._story, self._side
        if bar.open_ms <= self._last.get(bar.symbol, 0):
            return None
        self._last[bar.symbol] = bar.open_ms
        if bar.symbol != BTC:
            return Row(leg_row(bar.symbol))
        number = (bar.open_ms + BAR - CLOSE) // BAR
        if number == 0:
            return Row(signal_row(side))
        row = Row(quiet_row())
        agrees = number not in story.flip and number > -HISTORY
        row["sta_os"] = float((side is Side.LONG) is agrees)
        row["sta_ts"] = CENTRE + side.sign * story.trail.get(number, -500.0)
        if number in story.choch:
            row |= {"pac_event": 2.0, "pac_dir": -float(side.sign)}
        return row


@dataclass(frozen=True)
class Scenario:
    """A story on a side, as klines."""

    name: str
    side: Side
    wallet: float = 10_000.0
    depth_notional: float = 12_000.0

    @property
    def story(self) -> Story:
        return STORIES[self.name]

    @property
    def start_ms(self) -> int:
        return CLOSE - MINUTE

    @property
    def end_ms(self) -> int:
        return CLOSE + 20 * MINUTE

    @property
    def overrides(self) -> tuple[str, ...]:
        return ("data.history_bars=60", "trade.timeout_minutes=12", *self.story.overrides)

    def script(self) -> Script:
        return Script(self.story, self.side)

    @property
    def bars(self) -> dict[str, dict[str, Klines]]:
        rng = np.random.default_rng(11)
        story, sign = self.story, self.side.sign
        quiet = rng.standard_normal(HISTORY - 3).cumsum() * 12.0
        quiet -= np.linspace(0.0, quiet[-1], len(quiet))  # it comes back to where it began
        after = np.array([*story.closes, *[story.closes[-1]] * (25 - len(story.closes))])
        close = CENTRE + sign * np.concatenate([quiet, [8.0, 5.0, 1.0], after])
        extremes = np.zeros(len(close))
        extremes[HISTORY] = sign * -60.0  # the first bar goes against the trade before it turns
        series = {BTC: self._series(BTC, close, extremes, volume=9.0)}
        for symbol, price in PRICES.items():
            follow = np.where(np.arange(len(close)) < HISTORY, FOLLOW[symbol], TRADE_FOLLOW)
            noise = np.where(np.arange(len(close)) < HISTORY, rng.standard_normal(len(close)) * 2e-5, 0.0)
            leg = price * (1 + follow * (close / CENTRE - 1) + noise)
            if symbol == SOL and story.leg_jump is not None:
                leg[HISTORY + story.leg_jump :] *= 1 + sign * 0.01
            series[symbol] = self._series(symbol, leg, np.zeros(len(close)), volume=600_000 / price)
        return series

    def _series(self, symbol: str, close: np.ndarray, extreme: np.ndarray, *, volume: float) -> dict[str, Klines]:
        digits = 1 if symbol == BTC else 2
        close = np.round(close, digits)
        open_ = np.concatenate([close[:1], close[:-1]])
        low, high = np.minimum(open_, close) + np.minimum(extreme, 0), np.maximum(open_, close) + np.maximum(extreme, 0)
        columns = {
            "open_ms": CLOSE + (np.arange(len(close)) - HISTORY) * MINUTE,
            "open": open_,
            "high": np.round(high, digits),
            "low": np.round(low, digits),
            "close": close,
            "volume": np.full(len(close), round(volume, 1)),
        }
        one = make_klines(symbol, MINUTE, columns=columns)
        return {"1m": one, "3m": aggregate(one, BAR), "15m": aggregate(one, 5 * BAR)}
