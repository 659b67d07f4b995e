"""Compare a chart strategy's list of trades with our signals on klines.

The list has no bars and no symbol: both are found by matching its entry prices with the klines' ranges. A strategy's
trade enters at the open after the signal's bar, or on its close, whichever fits the list better.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from bot.config import Config
from bot.core.errors import DataError, DataMissing
from bot.core.klines import Klines, interval_ms
from bot.core.times import HOUR_MS, MINUTE_MS
from bot.core.types import Side
from bot.parity import align as lay
from bot.parity.ours import BASE, Ours
from bot.parity.score import flags_of
from bot.parity.trades_list import ListedTrade, TradesList
from bot.parity.verdict import bars_list
from bot.parity.zones import SWITCHES, Zone, accepted, cheapest, zone_figures, zone_sentence, zones_of

EXAMPLES: Final = 10
SWITCH_MISFIT: Final = 2.5  # a clock change must bring this many prices into their bars


def _inside(trades: list[ListedTrade], bars: Klines, shift: int) -> float:
    """Return the share of entry prices within the range of their bar, -1 if fewer than half have a bar."""
    at = np.array([trade.entry_ms - shift for trade in trades], np.int64)
    rows = lay.positions(bars, at - at % bars.interval_ms)
    there = rows >= 0
    if there.sum() < max(1, len(trades) // 2):
        return -1.0
    price = np.array([trade.entry_price for trade in trades])
    slack = 1e-9 * price
    held = (price >= bars.low[rows] - slack) & (price <= bars.high[rows] + slack) & there
    return float(held.sum() / there.sum())


def _found(listed: TradesList, source: Path) -> tuple[Klines, int, float]:
    trades = listed.trades
    found = lay.series_in(source, interval_ms(BASE))
    lay.refuse_apart(trades[0].entry_ms, trades[-1].entry_ms, found, source, "list of trades")
    best: tuple[float, int, Klines] | None = None
    for bars in found:
        for shift in [0] if listed.zoned else lay.shifts(bars.interval_ms):
            share = _inside(trades, bars, shift)
            if best is None or share > best[0] + 0.05:
                best = (share, shift, bars)
    if best is None or best[0] < 0.3:
        names = ", ".join(sorted(bars.symbol for bars in found))
        raise DataMissing(
            f"the entry prices of {listed.path} lie in no bar of {source} ({names}): another symbol, or klines of another time"
        )
    return best[2], best[1], best[0]


def _in_utc(listed: TradesList, bars: Klines, shift: int) -> tuple[list[ListedTrade], tuple[Zone, ...]]:
    """Return the trades with their times in UTC, and the offsets found: more than one where clocks changed.

    Entries and exits are taken in the order of the trades' numbers, which a clock change does not affect. A price equal
    to its bar's open or close supports an offset, one outside its bar contradicts it.
    """
    numbered = sorted(listed.trades, key=lambda trade: trade.number)
    times = [(t.entry_ms, t.entry_price) for t in numbered]
    ends = [(t.exit_ms, t.exit_price) for t in numbered]
    order = [(i, at, price) for i, pair in enumerate(zip(times, ends, strict=True)) for at, price in pair]
    known = [(i, at, price) for i, at, price in order if at is not None and price is not None]
    at_ms = np.array([at for _, at, _ in known], np.int64)
    price = np.array([price for _, _, price in known])
    best: tuple[float, np.ndarray] | None = None
    for base in () if listed.zoned else (shift, shift + HOUR_MS, shift - HOUR_MS):
        states = [base + switch for switch in SWITCHES]
        cost = np.array([_misfit(bars, at_ms - one, price) for one in states])
        path = cheapest(cost, SWITCH_MISFIT)
        total = float(cost[path, np.arange(len(path))].sum())
        if accepted(cost, path, at_ms) and (best is None or total < best[0]):
            best = total, np.array(states)[path]
    moved = np.full(len(known), shift) if best is None else best[1]
    utc = dict(zip(((i, at) for i, at, _ in known), (at_ms - moved).tolist(), strict=True))
    trades = [
        replace(
            trade,
            entry_ms=utc[i, trade.entry_ms],
            exit_ms=None if trade.exit_ms is None else utc.get((i, trade.exit_ms), trade.exit_ms - shift),
        )
        for i, trade in enumerate(numbered)
    ]
    for trade in trades:
        if trade.exit_ms is not None and trade.exit_ms < trade.entry_ms:
            raise DataError(
                f"{listed.path}: trade {trade.number} ends before it begins, and no clock of its zone went back between"
            )
    return sorted(trades, key=lambda trade: (trade.entry_ms, trade.number)), zones_of(at_ms - moved, moved)


def _misfit(bars: Klines, at_ms: np.ndarray, price: np.ndarray) -> np.ndarray:
    rows = lay.positions(bars, at_ms - at_ms % bars.interval_ms)
    slack = 1e-9 * price
    inside = (rows >= 0) & (price >= bars.low[rows] - slack) & (price <= bars.high[rows] + slack)
    edge = np.minimum(np.abs(price - bars.open[rows]), np.abs(price - bars.close[rows])) <= slack
    return np.where(inside, np.where(edge, 0.0, 0.3), 1.0)


def compare_trades(config: Config, listed: TradesList, source: Path) -> dict[str, Any]:
    """Return the report of a list of trades against our signals on klines.

    Raises
    ------
    DataMissing
        No symbol of the klines has the list's prices at its times.
    DataError
        A trade ends before it begins.
    """
    bars, shift, _ = _found(listed, source)
    step = bars.interval_ms
    trades, zones = _in_utc(listed, bars, shift)
    inside = _inside(trades, bars, 0)
    known = bars.between(None, trades[-1].entry_ms + step)
    ours = Ours(known, config, known.open_ms)
    signals = {
        side: set(known.open_ms[flags_of(ours.table[f"{side.name.lower()}_signal"], "event")].tolist()) for side in Side
    }
    entries = [(t, t.entry_ms - t.entry_ms % step) for t in trades if t.side is not None]
    counts = {lag: sum(at - lag * step in signals[t.side] for t, at in entries if t.side) for lag in (1, 0)}
    lag = max(counts, key=lambda value: counts[value])
    matched, near, theirs, used = 0, 0, [], set()
    for trade, at in entries:
        side = trade.side or Side.LONG
        hits = [off for off in (0, -1, 1) if at - (lag + off) * step in signals[side]]
        if hits:
            matched, near = matched + (hits[0] == 0), near + (hits[0] != 0)
            used.add((side, at - (lag + hits[0]) * step))
        else:
            theirs.append({"trade": trade.number, "side": side.name, "at_ms": at, "price": trade.entry_price})
    first = entries[0][1] - lag * step if entries else 0
    ends = [(t.entry_ms, t.exit_ms or trades[-1].entry_ms) for t in trades]
    mine = [(side, at) for side in Side for at in sorted(signals[side]) if at >= first and (side, at) not in used]
    busy = [(side, at) for side, at in mine if any(a <= at + step <= z for a, z in ends)]
    only = [{"side": side.name, "at_ms": at} for side, at in mine if (side, at) not in busy]
    report: dict[str, Any] = {
        "export": {
            "kind": "list of trades",
            "file": listed.path.name,
            "trades": len(trades),
            "symbol": bars.symbol,
            "shift_minutes": zones[0].offset_ms / MINUTE_MS,
            "zones": zone_figures(zones),
            "entries_inside_bars": inside,
            "from_ms": trades[0].entry_ms,
            "to_ms": trades[-1].entry_ms,
        },
        "trades": {
            "matched": matched,
            "matched_within_1": near,
            "only_theirs": len(theirs),
            "only_theirs_listed": theirs[:EXAMPLES],
            "only_ours": len(only),
            "only_ours_listed": only[:EXAMPLES],
            "ours_while_in_a_trade": len(busy),
            "side_unknown": len(trades) - len(entries),
            "enters": "at the open after the signal" if lag else "on the close of the signal's bar",
        },
        "notes": listed.notes,
    }
    report["verdict"] = _trade_verdict(report, zones, source)
    return report


def _trade_verdict(report: dict[str, Any], zones: tuple[Zone, ...], source: Path) -> list[str]:
    export, row = report["export"], report["trades"]
    judged = export["trades"] - row["side_unknown"]
    inside = f"{100 * export['entries_inside_bars']:.0f} % of the entries lie in their bar"
    said = [f"{export['trades']} trades, found to be of {export['symbol']}: {inside}"]
    if len(zones) > 1 or zones[0].offset_ms:
        said.append(zone_sentence(zones, "prices"))
    if export["entries_inside_bars"] < 0.9:
        market = lay.market_by_place(source)
        said.append(
            f"{100 - 100 * export['entries_inside_bars']:.0f} % of the entries lie outside their bar: the list is of another "
            f"market than these klines{f' ({market})' if market != 'unknown' else ''}, or has slippage set"
        )
    if judged and row["matched"] == judged and not row["only_ours"]:
        said.append(f"100 %: all {judged} entries are our signals, {row['enters']}")
        report["headline"] = said[-1]
        return said
    said.append(
        f"{row['matched']} of {judged} entries are our signals ({row['enters']}), {row['matched_within_1']} more within a bar; "
        f"{row['only_theirs']} only on the chart, {row['only_ours']} only here"
        + (
            f" ({row['ours_while_in_a_trade']} more while the strategy was in a trade)"
            if row["ours_while_in_a_trade"]
            else ""
        )
    )
    report["headline"] = said[-1]
    for name, words in (("only_theirs", "only on the chart"), ("only_ours", "only here")):
        times = [one["at_ms"] for one in row[f"{name}_listed"]]
        if times:
            said.append(f"{words}: {bars_list(times, row[name])}")
    return said
