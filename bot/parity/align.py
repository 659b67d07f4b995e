"""Find the market, symbol and time zone of an export by aligning its bars with klines.

A chart of spot BTCUSDT looks like one of the perpetual; a list of trades has no symbol; times may be in the zone of the
user's chart. Prices decide: the right symbol at the right shift is closest, the same market matches exactly, and
another market of the same symbol differs by a few hundredths of a per cent.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from bot.core.errors import DataMissing
from bot.core.klines import Klines, interval_name
from bot.core.times import HOUR_MS, MINUTE_MS
from bot.market import store
from bot.market.store import format_time
from bot.parity.zones import SWITCHES, Zone, accepted, cheapest, zone_figures, zone_sentence, zones_of

QUARTER_MS: Final = 900_000
SAME: Final = 0.98  # share of equal bars from which it is the same market
NEAR: Final = 0.003  # median distance of closes up to which it is the same symbol
FAR: Final = 0.01  # distances of closes are capped at this value
SWITCH_BARS: Final = 20  # a clock change must save the misfit of this many bars
SPOT_DIRS: Final = frozenset({"spot"})
PERPETUAL_DIRS: Final = frozenset({"um", "perp", "perpetual", "perpetuals", "futures", "usdm", "fapi"})
TICKS: Final = {"BTCUSDT": 0.1}  # perpetuals with a coarser tick than spot


@dataclass(slots=True)
class Alignment:
    """The alignment of an export with klines.

    Attributes
    ----------
    shift_ms : int
        Amount subtracted from the export's first time to get its UTC bar open.
    open_ms : ndarray(int64)
        UTC bar opens of all bars of the export.
    zones : tuple of Zone
        Successive offsets: more than one where the clocks of the export's zone changed.
    common : int
        Bars of the export that the klines have.
    equal : ndarray(bool)
        Per bar of the export: open, high, low and close equal those of the klines.
    distance : float
        Median relative distance of the closes.
    market, klines_market : str
        "spot", "perpetual" or "unknown".
    """

    symbol: str
    bars: Klines
    shift_ms: int
    common: int
    equal: np.ndarray
    distance: float
    basis: float
    volume_ratio: float
    market: str
    klines_market: str
    rows: np.ndarray
    open_ms: np.ndarray
    zones: tuple[Zone, ...]
    sentences: list[str] = field(default_factory=list)

    @property
    def same_market(self) -> bool:
        """Whether the klines are of the export's market."""
        there = self.rows >= 0
        return bool(there.any()) and float(self.equal[there].mean()) >= SAME

    def as_dict(self) -> dict[str, Any]:
        """Return the figures for a report."""
        return {
            "symbol": self.symbol,
            "market": self.market,
            "klines_market": self.klines_market,
            "shift_minutes": self.shift_ms / MINUTE_MS,
            "zones": zone_figures(self.zones),
            "bars_common": self.common,
            "bars_equal": int(self.equal.sum()),
            "close_distance_median": self.distance,
            "close_basis_median": self.basis,
            "volume_ratio_median": self.volume_ratio,
            "same_market": self.same_market,
        }


def series_in(source: Path, length_ms: int) -> list[Klines]:
    """Return the klines of every symbol in a folder (or file) at an interval.

    Raises
    ------
    DataMissing
        There is no such folder or file, or no symbol has the interval.
    """
    if source.is_dir():
        symbols = store.scan(source).symbols()
    elif source.exists():
        symbols = [store.series_of(source)[0]]
    else:
        raise DataMissing(f"there is no folder or file {source}: name one with klines by --klines")
    found: list[Klines] = []
    missing: list[str] = []
    for symbol in symbols:
        try:
            found.append(store.load(source, symbol, length_ms))
        except DataMissing as error:
            missing.append(str(error))
    if not found:
        reason = missing[0] if missing else f"{source} holds no klines"
        raise DataMissing(f"the export's bars are {interval_name(length_ms)}: {reason}")
    return found


def shifts(step_ms: int) -> list[int]:
    """Return the shifts to try: none first, one bar either way, then every quarter of an hour up to 14 hours."""
    zones = range(-14 * HOUR_MS, 14 * HOUR_MS + 1, QUARTER_MS)
    return sorted({0, step_ms, -step_ms, *zones}, key=abs)


def positions(bars: Klines, at_ms: np.ndarray) -> np.ndarray:
    """Return the position of the bar that opens at each time, -1 where there is none."""
    if not len(bars):
        return np.full(len(at_ms), -1)
    place = np.minimum(np.searchsorted(bars.open_ms, at_ms), len(bars) - 1)
    return np.where(bars.open_ms[place] == at_ms, place, -1)


def spans(found: list[Klines]) -> str:
    """Return a description of the time ranges that klines cover."""
    return ", ".join(
        f"{bars.symbol} {format_time(int(bars.open_ms[0]))[:16]} to {format_time(bars.end_ms)[:16]}"
        for bars in found
        if len(bars)
    )


def refuse_apart(first_ms: int, last_ms: int, found: list[Klines], source: Path, what: str) -> None:
    """Reject an export when no series comes within 14 hours of its times.

    Parameters
    ----------
    first_ms, last_ms
        First and last time of the export, epoch ms.
    found
        Klines that were found.
    source, what
        Their folder or file and the kind of export, for the message.

    Raises
    ------
    DataMissing
        No series overlaps.
    """
    if any(len(b) and b.open_ms[0] <= last_ms + 14 * HOUR_MS and b.end_ms >= first_ms - 14 * HOUR_MS for b in found):
        return
    raise DataMissing(
        f"the times do not overlap: the {what} is of {format_time(first_ms)[:16]} to {format_time(last_ms)[:16]}, "
        f"{source} holds {spans(found)}; name klines of that time with --klines"
    )


def market_by_place(source: Path) -> str:
    """Return the market indicated by a folder's name."""
    parts = {part.lower() for part in source.resolve().parts[-3:]}
    if parts & SPOT_DIRS:
        return "spot"
    return "perpetual" if parts & PERPETUAL_DIRS else "unknown"


def market_by_tick(symbol: str, prices: np.ndarray) -> str:
    """Return the market indicated by the price grid: the BTC perpetual's tick is 0.1, spot's is 0.01."""
    tick = TICKS.get(symbol)
    if tick is None or len(prices) < 100:
        return "unknown"
    off = np.abs(prices / tick - np.round(prices / tick)) > 1e-4
    return "spot" if off.mean() > 0.05 else "perpetual" if not off.any() else "unknown"


def other(market: str) -> str:
    """Return the other of the two markets."""
    return {"spot": "perpetual", "perpetual": "spot"}.get(market, "unknown")


def align(
    open_ms: np.ndarray,
    prices: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    volume: np.ndarray | None,
    *,
    step_ms: int,
    source: Path,
    ticker: str | None = None,
    zoned: bool = True,
    added_ms: np.ndarray | None = None,
    what: str = "export",
) -> Alignment:
    """Align bars with the klines of a folder or file and identify their symbol, market and zone.

    Parameters
    ----------
    open_ms
        Bar opens of the export, ms, shape (n,).
    prices
        Open, high, low, close of the export, each shape (n,).
    volume
        Volume of the export, None where it has none.
    step_ms
        Interval, ms.
    source
        Folder or file with klines.
    ticker
        Hint such as `BTCUSDT.P`.
    zoned
        Whether the export's times have a zone: then a shift is reported as an anomaly, else as the zone.
    added_ms
        Amount added to the export's times where its clocks went back (`exports`).
    what
        Kind of export, for messages.

    Raises
    ------
    DataMissing
        The klines lack the interval or the time, or no symbol has such prices (exit code 3).
    """
    found = series_in(source, step_ms)
    refuse_apart(int(open_ms[0]), int(open_ms[-1]), found, source, what)
    close = prices[3]
    best: tuple[float, int, Klines] | None = None
    first_distance = {}
    for bars in found:
        for shift in shifts(step_ms):
            rows = positions(bars, open_ms - shift)
            there = rows >= 0
            if there.sum() < max(2, min(20, len(open_ms) // 10)):
                continue
            distance = float(np.median(np.abs(close[there] / bars.close[rows[there]] - 1.0)))
            if shift == 0:
                first_distance[bars.symbol] = distance
            if best is None or distance < best[0] * 0.5 - 1e-15:
                best = (distance, shift, bars)
    if best is None:
        raise DataMissing(
            f"the times hardly overlap: the {what} is of {format_time(int(open_ms[0]))[:16]} to "
            f"{format_time(int(open_ms[-1]))[:16]}, {source} holds {spans(found)}; name klines of that time with --klines"
        )
    distance, shift, bars = best
    moved = np.full(len(open_ms), shift)
    if not zoned and (found_shifts := _stretches(open_ms, close, bars, shift)) is not None:
        moved = found_shifts
        rows = positions(bars, open_ms - moved)
        there = rows >= 0
        distance = float(np.median(np.abs(close[there] / bars.close[rows[there]] - 1.0)))
    if distance > NEAR:
        names = ", ".join(sorted(b.symbol for b in found))
        raise DataMissing(
            f"the prices of this {what} fit none of the symbols in {source} ({names}): closest is {bars.symbol}, whose closes "
            f"are {100 * distance:.1f} % away in the median; name klines of the right symbol with --klines"
        )
    at_ms = open_ms - moved
    zones = zones_of(at_ms, moved if added_ms is None else moved - added_ms)
    return _described(at_ms, prices, volume, bars, zones, distance, source=source, ticker=ticker, zoned=zoned)


def _stretches(open_ms: np.ndarray, close: np.ndarray, bars: Klines, shift: int) -> np.ndarray | None:
    """Return each bar's shift where the clocks of the export's zone changed within its time; None where they did not."""

    def cost(shifts: list[int]) -> np.ndarray:
        found = np.full((len(shifts), len(open_ms)), FAR)
        for state, one in enumerate(shifts):
            rows = positions(bars, open_ms - one)
            there = rows >= 0
            found[state, there] = np.minimum(np.abs(close[there] / bars.close[rows[there]] - 1.0), FAR)
        return found

    best: tuple[float, np.ndarray] | None = None
    for base in (shift, shift + HOUR_MS, shift - HOUR_MS):
        states = [base + switch for switch in SWITCHES]
        table = cost(states)
        path = cheapest(table, SWITCH_BARS * float(np.mean(table)))
        moved = np.array(states)[path]
        total = float(table[path, np.arange(len(path))].sum())
        fits = accepted(table, path, open_ms) and (np.diff(open_ms - moved) > 0).all()
        if fits and (best is None or total < best[0]):
            best = total, moved
    return None if best is None else best[1]


def _described(
    open_ms: np.ndarray,
    prices: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    volume: np.ndarray | None,
    bars: Klines,
    zones: tuple[Zone, ...],
    distance: float,
    *,
    source: Path,
    ticker: str | None,
    zoned: bool,
) -> Alignment:
    rows = positions(bars, open_ms)
    there = rows >= 0
    equal = there.copy()
    for mine, theirs in zip((bars.open, bars.high, bars.low, bars.close), prices, strict=True):
        equal[there] &= np.abs(theirs[there] / mine[rows[there]] - 1.0) <= 1e-9
    basis = float(np.median(prices[3][there] / bars.close[rows[there]] - 1.0))
    ratio = float("nan")
    if volume is not None:
        traded = there & (bars.volume[rows] > 0) & (volume > 0)
        if traded.any():
            ratio = float(np.median(volume[traded] / bars.volume[rows[traded]]))
    by_place, by_tick = market_by_place(source), market_by_tick(bars.symbol, bars.close[rows[there]])
    klines_market = by_place if by_place != "unknown" else by_tick
    export_tick = market_by_tick(bars.symbol, prices[3])
    by_name = "unknown" if ticker is None else "perpetual" if ticker.endswith(".P") else "spot"
    result = Alignment(
        bars.symbol,
        bars,
        zones[0].offset_ms,
        int(there.sum()),
        equal,
        distance,
        basis,
        ratio,
        "unknown",
        klines_market,
        rows,
        open_ms,
        zones,
    )
    if result.same_market:
        result.market = klines_market if klines_market != "unknown" else by_name
    else:
        known = [m for m in (export_tick, by_name, other(klines_market)) if m != "unknown"]
        result.market = known[0] if known else "unknown"
    result.sentences = _sentences(result, len(open_ms), zoned, ticker, source)
    return result


def _sentences(a: Alignment, count: int, zoned: bool, ticker: str | None, source: Path) -> list[str]:
    found = [f"{a.common:,} of {count:,} bars aligned with {a.symbol} {a.bars.interval} of {source}"]
    if a.shift_ms and zoned:
        found.append(
            f"its times lie {a.shift_ms / MINUTE_MS:+g} minutes off the UTC bar opens of the klines; they were moved back"
            + (" (it stamps the close of a bar, not its open)" if a.shift_ms == a.bars.interval_ms else "")
        )
    elif a.shift_ms or len(a.zones) > 1:
        found.append(zone_sentence(a.zones, "bars"))
    if ticker is not None and ticker.removesuffix(".P") != a.symbol:
        found.append(f"its name says {ticker}, its prices are those of {a.symbol}")
    if a.same_market:
        differ = np.flatnonzero((a.rows >= 0) & ~a.equal)
        if len(differ):
            at = int(a.bars.open_ms[a.rows[differ[0]]])
            found.append(
                f"{len(differ)} bar{'s' * (len(differ) > 1)} differ{'s' * (len(differ) == 1)} from the klines, first that of "
                f"{format_time(at)}"
            )
        return found
    apart = f"closes {100 * abs(a.basis):.3f} % {'below' if a.basis < 0 else 'above'} in the median"
    if np.isfinite(a.volume_ratio):
        apart += f", volume {a.volume_ratio:.2f} times"
    if a.market == "perpetual" and a.klines_market == "spot":
        found.append(f"the export is the perpetual {a.symbol}.P and these klines are spot {a.symbol} ({apart})")
    elif a.market == "spot" and a.klines_market == "perpetual":
        found.append(f"this is spot {a.symbol}, the bot trades the perpetual ({apart})")
    else:
        found.append(
            f"the export and these klines are different markets or feeds of {a.symbol} ({apart}; "
            f"{100 * float(a.equal.mean()):.1f} % of the bars are equal)"
        )
    return found
