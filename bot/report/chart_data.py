"""Chart data: closed bars of one symbol with everything that is drawn on them, for the live page and for files.

A tape takes closed bars with the columns of `signals`, one at a time while the bot runs or an entire history at once, and
returns the chart as plain JSON: prices, lines, flags and the findings with start and end. Positions are bar numbers
counted from the tape's first bar, so that data already sent stays valid when bars are added.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from bot.config import Config
from bot.core.klines import Klines
from bot.core.types import Kline, Side
from bot.report import findings
from bot.report.findings import STATES, Findings
from bot.strategy.features import INDEX
from bot.strategy.rules import CONDITIONS, stop_distance

BARS: Final = ("open", "high", "low", "close", "volume")
# Name in the payload: column of `signals`, decimals (None: those of the price).
LINES: Final = {
    "trail": ("so_trail", None),
    "trail_extremity": ("so_trail_extremity", None),
    "trail_dir": ("so_trail_dir", 0),
    "supertrend": ("sta_ts", None),
    "supertrend_dir": ("sta_os", 0),
    "equilibrium": ("range_eq", None),
    "money_flow": ("om_money_flow", 2),
    "upper": ("om_upper", 2),
    "lower": ("om_lower", 2),
    "overflow": ("om_overflow_value", 2),
    "hyperwave": ("om_hyperwave", 2),
    "wave_signal": ("om_signal", 2),
    "tracer": ("so_trend_tracer", None),
    "tracer_dir": ("so_tracer_dir", 0),
    "catcher": ("so_trend_catcher", None),
    "catcher_dir": ("so_catcher_dir", 0),
    "neo_lead": ("so_neo_lead", None),
    "neo_lag": ("so_neo_lag", None),
}
FLAGS: Final = tuple(f"{side}_{name}" for side in ("long", "short") for name in CONDITIONS)
_EXTRA: Final = (
    *("so_signal", "so_rating", "om_cross_up", "om_cross_down", "om_big_up", "om_big_down"),
    *("htf_smc_trend", "htf_pac_trend", "atr14", "long_signal", "short_signal", "pac_fvg_bull", "pac_fvg_bear"),
    *(f"{side}_ob_{edge}" for side in ("long", "short") for edge in ("bottom", "top")),
)
COLUMNS: Final = tuple(dict.fromkeys((*(c for c, _ in LINES.values()), *_EXTRA, *FLAGS, *findings.COLUMNS)))
_TAKE: Final = np.array([INDEX[name] for name in COLUMNS])
_AT: Final = {name: i for i, name in enumerate(COLUMNS)}
_FOUND: Final = [_AT[name] for name in findings.COLUMNS]
_EVENTS: Final = [_AT[name] for name in findings.EVENTS]
_LEVELS: Final = [_AT[name] for name in findings.LEVELS]
_STANDING: Final = ("htf_smc_trend", "htf_pac_trend", "atr14", "so_rating")
_HAPPENED: Final = [
    *_EVENTS,
    *(_AT[name] for name in (*FLAGS, *_EXTRA) if name not in _STANDING),
]
_GROW: Final = 4096


Parts = Iterator[tuple[tuple[str, ...], Any]]  # (path of one or two keys, value)


class ChartTape:
    """Closed bars of one symbol with the columns that a chart shows, oldest first.

    Parameters
    ----------
    decimals
        Decimals of prices; derived from the prices if None.
    """

    def __init__(self, config: Config, symbol: str, *, interval_ms: int = 180_000, decimals: int | None = None) -> None:
        self.config, self.symbol, self.interval_ms = config, symbol, interval_ms
        self._decimals = decimals
        self._count = 0
        self._open_ms = np.empty(_GROW, np.int64)
        self._bars = np.empty((_GROW, len(BARS)))
        self._rows = np.empty((_GROW, len(COLUMNS)))
        self._filled = np.empty(_GROW, bool)
        self._found = Findings(config)

    def __len__(self) -> int:
        """Return the number of bars."""
        return self._count

    @property
    def last_open_ms(self) -> int:
        """Open time of the newest bar, -1 before the first."""
        return int(self._open_ms[self._count - 1]) if self._count else -1

    @property
    def open_ms(self) -> np.ndarray:
        """Open times, ms."""
        return self._open_ms[: self._count]

    def column(self, name: str) -> np.ndarray:
        """Return one of COLUMNS or BARS."""
        if name in BARS:
            return self._bars[: self._count, BARS.index(name)]
        return self._rows[: self._count, _AT[name]]

    def take(self, bar: Kline, values: np.ndarray, *, filled: bool = False) -> None:
        """Add one closed bar and its row of `signals`; ignore a bar that is not newer.

        A short gap before it is filled with flat bars without events and with unchanged lines, as in the features.
        """
        last_ms = self.last_open_ms
        if bar.open_ms <= last_ms:
            return
        missing = (bar.open_ms - last_ms) // self.interval_ms - 1 if last_ms >= 0 else 0
        for k in range(missing if missing <= self.config.data.max_gap_bars else 0):
            i = self._room(1)
            self._open_ms[i], self._filled[i] = last_ms + (k + 1) * self.interval_ms, True
            self._bars[i] = (*[self._bars[i - 1, 3]] * 4, 0.0)
            self._rows[i] = self._rows[i - 1]
            self._rows[i, _HAPPENED] = 0.0
        i = self._room(1)
        self._open_ms[i], self._filled[i], self._bars[i] = bar.open_ms, filled, (*bar[3:8],)
        self._rows[i] = values[_TAKE]

    def extend(self, bars: Klines, rows: np.ndarray) -> None:
        """Add many bars with their rows, as `features.batch` returns them."""
        first = self._room(len(bars))
        part = slice(first, self._count)
        self._open_ms[part], self._filled[part], self._rows[part] = bars.open_ms, bars.filled != 0, rows[:, _TAKE]
        for k, name in enumerate(BARS):
            self._bars[part, k] = getattr(bars, name)

    def _room(self, more: int) -> int:
        """Reserve space for more bars and return the position of the first."""
        first, self._count = self._count, self._count + more
        if self._count > len(self._open_ms):
            size = max(self._count, 2 * len(self._open_ms))
            for name in ("_open_ms", "_filled", "_bars", "_rows"):
                old = getattr(self, name)
                setattr(self, name, np.empty((size, *old.shape[1:]), old.dtype))
                getattr(self, name)[:first] = old[:first]
        return first

    @property
    def found(self) -> Findings:
        """The findings up to the newest bar."""
        self.follow()
        return self._found

    def follow(self, most: int | None = None) -> bool:
        """Update the findings by at most `most` bars; return whether they are up to date.

        This is kept out of the decision path: a page updates them while somebody watches, some bars at a time.
        """
        first = len(self._found.high)
        last = self._count if most is None else min(first + most, self._count)
        events = (self._rows[first:last, _EVENTS] != 0).any(axis=1)
        longest = (self.config.data.max_gap_bars + 1) * self.interval_ms
        resets = np.diff(self._open_ms[max(first - 1, 0) : last], prepend=0 if first else self._open_ms[:1]) > longest
        resets = resets[1:] if first else resets
        bars, filled = self._bars[first:last].tolist(), self._filled[first:last].tolist()
        for offset, (happened, reset) in enumerate(zip(events.tolist(), resets.tolist(), strict=True)):
            i = first + offset
            row = dict(zip(findings.COLUMNS, self._rows[i, _FOUND].tolist(), strict=True)) if happened else None
            if row is not None and i > 0 and not reset:
                row.update(zip(findings.LEVELS, self._rows[i - 1, _LEVELS].tolist(), strict=True))
            _, high, low, close, _ = bars[offset]
            self._found.step(high, low, close, filled=filled[offset], reset=reset, row=row)
        return last == self._count

    @property
    def decimals(self) -> int:
        """Decimals needed by the newest thousand closes, at most 6."""
        if self._decimals is None:
            closes = self._bars[max(self._count - 1000, 0) : self._count, 3]
            fits = (n for n in range(6) if np.allclose(closes, np.round(closes, n), rtol=0, atol=1e-9))
            found = next(fits, 6)
            if self._count < 100:
                return found
            self._decimals = found
        return self._decimals

    def bias(self, part: slice = slice(None)) -> np.ndarray:
        """Return the 15m structure that both sources agree on: +1, -1, or 0."""
        smc, pac = self.column("htf_smc_trend")[part], self.column("htf_pac_trend")[part]
        source = self.config.strategy.htf_source
        chosen = {"smc": smc, "pac": pac}.get(source, np.where(smc == pac, smc, 0.0))
        return np.nan_to_num(chosen)

    def lit(self, side: str, part: slice = slice(None)) -> np.ndarray:
        """Return the six conditions of a side as bits, the first one lowest."""
        held = [self.column(f"{side}_{name}")[part] == 1.0 for name in CONDITIONS]
        bits: np.ndarray = np.sum([flags.astype(np.int64) << i for i, flags in enumerate(held)], axis=0)
        return bits

    def payload(self, *, last: int | None = None, after_ms: int | None = None) -> dict[str, Any]:
        """Return the chart as plain JSON.

        Parameters
        ----------
        last
            Maximum number of bars, the newest ones.
        after_ms
            Only bars that opened later, for a page that has the others. Findings are those that may have changed since.
        """
        return assembled(self.parts(last=last, after_ms=after_ms))

    def parts(self, *, last: int | None = None, after_ms: int | None = None) -> Parts:
        """Yield the parts of `payload` one by one, each with its path, so that other work can run in between.

        The range of bars is fixed at the start, even if bars are added meanwhile.
        """
        first = 0 if last is None else max(self._count - last, 0)
        if after_ms is not None:
            first = max(first, int(np.searchsorted(self.open_ms, after_ms, side="right")))
        part = slice(first, self._count)
        decimals = self.decimals
        # Findings change with every bar, so they are read first, together with the columns.
        column = {name: self.column(name)[part] for name in (*COLUMNS, *BARS)}
        signal = column["long_signal"] - column["short_signal"]
        yield ("symbol",), self.symbol
        yield ("interval_ms",), self.interval_ms
        yield ("decimals",), decimals
        yield ("first",), first
        found = self._boxes(first), self._segments(first, since=after_ms is not None), self._plans(part, signal)
        for name, value in zip(("boxes", "segments", "plans"), found, strict=True):
            yield (name,), value
        yield ("time",), (self.open_ms[part] // 1000).tolist()
        for name in BARS:
            yield (name,), column[name].tolist()
        for name, (source, digits) in LINES.items():
            yield ("lines", name), _numbers(column[source], decimals + 1 if digits is None else digits)
        cross = column["om_cross_up"] + column["om_big_up"] - column["om_cross_down"] - column["om_big_down"]
        yield ("flags", "cross"), _whole(cross)
        yield ("flags", "confirmation"), _whole(column["so_signal"])
        yield ("flags", "rating"), _whole(column["so_rating"])
        yield ("flags", "bias"), _whole(self.bias(part))
        yield ("flags", "long"), self.lit("long", part).tolist()
        yield ("flags", "short"), self.lit("short", part).tolist()
        yield ("flags", "signal"), _whole(signal)
        yield ("flags", "gap"), _whole(column["pac_fvg_bull"] - column["pac_fvg_bear"])
        yield ("gap_end",), self.config.pac.fvg_mitigation

    def _boxes(self, first: int) -> list[list[Any]]:
        """Return blocks that are active or end at bar `first` or later."""
        decimals = self.decimals
        return [
            [
                *(box.number, box.side, box.start, box.end, round(box.bottom, decimals), round(box.top, decimals)),
                *(_number(box.buy_share, 4), STATES.index(box.state), box.born, _number(box.volume, 3)),
            ]
            for box in self.found.boxes
            if box.end < 0 or box.end >= first
        ]

    def _segments(self, first: int, *, since: bool) -> list[list[Any]]:
        # An equal level is confirmed some bars after its second pivot, at which its segment ends.
        reach = first - self.config.pac.equal_length if since else first
        decimals = self.decimals
        return [
            [s.start, s.end, round(s.price, decimals), s.side, s.label, s.layer]
            for s in self.found.segments
            if s.end >= reach
        ]

    def _plans(self, part: slice, signal: np.ndarray) -> list[list[Any]]:
        """Return the plan of each signal: bar, side, entry, stop, targets (strategy 4, before rounding to ticks)."""
        plans = []
        trade = self.config.trade
        for offset in np.flatnonzero(np.nan_to_num(signal)).tolist():
            i = part.start + offset
            side = Side.LONG if signal[offset] > 0 else Side.SHORT
            name = side.name.lower()
            bottom, top = (float(self.column(f"{name}_ob_{edge}")[i]) for edge in ("bottom", "top"))
            atr = float(self.column("atr14")[i])
            if not (math.isfinite(bottom) and math.isfinite(top) and math.isfinite(atr)):
                continue
            entry = (bottom + top) / 2
            stop = (bottom if side is Side.LONG else top) - side.sign * stop_distance(bottom, top, atr, trade)
            risk = entry - stop
            prices = (entry, stop, entry + trade.tp1_r * risk, entry + trade.tp2_r * risk)
            plans.append([i, side.sign, *(round(price, self.decimals) for price in prices)])
        return plans

    def funnel(self, first: int = 0) -> dict[str, Any]:
        """Return how many bars from `first` on pass each condition alone, and in sequence, for each side."""
        result: dict[str, Any] = {"bars": self._count - first}
        for side in ("long", "short"):
            alone, running = [], np.ones(self._count - first, bool)
            sequence = []
            for name in CONDITIONS:
                held = self.column(f"{side}_{name}")[first:] == 1.0
                running &= held
                alone.append(int(held.sum()))
                sequence.append(int(running.sum()))
            result[side] = {
                "alone": alone,
                "sequence": sequence,
                "signals": int((self.column(f"{side}_signal")[first:] == 1.0).sum()),
            }
        return result

    def recent(self, bars: int = 60) -> dict[str, dict[str, Any]]:
        """Return for each condition its last bars as 0 and 1, and how many bars ago it last held (None: never)."""
        result: dict[str, dict[str, Any]] = {}
        for name in FLAGS:
            held = self.column(name) == 1.0
            hits = np.flatnonzero(held)
            since = int(self._count - 1 - hits[-1]) if len(hits) else None
            result[name] = {"since": since, "strip": "".join("1" if on else "0" for on in held[-bars:].tolist())}
        return result


def assembled(parts: Parts) -> dict[str, Any]:
    """Assemble the payload from its parts."""
    made: dict[str, Any] = {}
    for path, value in parts:
        place = made if len(path) == 1 else made.setdefault(path[0], {})
        place[path[-1]] = value
    return made


def _number(value: float, digits: int) -> float | None:
    return round(value, digits) if math.isfinite(value) else None


def _numbers(values: np.ndarray, digits: int) -> list[float | None]:
    rounded: Sequence[float] = np.round(values, digits).tolist()
    return [value if value == value else None for value in rounded]


def _whole(values: np.ndarray) -> list[int]:
    return np.nan_to_num(values).astype(np.int64).tolist()


def trade_marks(trade: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a chart shows of a trade row (`results.trades.trade_row`): levels, times, and fills with symbol."""
    names = ("trade_id", "symbol", "side", "signal_ms", "opened_ms", "closed_ms", "exit_reason", "r_multiple")
    prices = ("entry_price", "exit_price", "stop", "tp1", "tp2")
    fills = [[f["at_ms"], f["symbol"], f["role"], f["side"], f["price"], f["qty"]] for f in trade.get("fills", ())]
    return {**{name: trade.get(name) for name in (*names, *prices)}, "fills": fills}
