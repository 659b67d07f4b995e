"""What a watcher sees, in one form for the terminal and the page: made from the engine's snapshot, patient with gaps.

Twelve lights, six a side (strategy 2), each with the numbers behind it (`strategy.wording`); the position in R with its stop
and targets; hedge legs; money and limits; whether the exchange is heard. A key that the snapshot lacks leaves its place empty:
watching must work from the first second on, before the first bar, and through changes of the engine.
"""

import math
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

from bot.core.events import Command, FeedLost, FeedRestored, Fill, OrderUpdate
from bot.core.intents import Alert
from bot.core.records import Decision, TradeRecord
from bot.core.times import utc
from bot.core.types import Kline, OrderStatus, Side
from bot.report.compared import percent, sentence
from bot.strategy.rules import CONDITIONS, LABELS, NAMES, TITLES
from bot.strategy.wording import explain_condition

MODES: Final = {
    "sim": "SIMULATION · replayed market, no real money",
    "paper": "PAPER · live market, simulated money",
    "testnet": "TEST NETWORK · no real money",
    "live": "LIVE · REAL MONEY",
}


LAST_MS: Final = 253_402_300_800_000  # the year 10000: what no calendar shows


def figure(value: Any) -> float | None:
    """Return a number that can be shown, whatever it was stored as; None for text, nothing, NaN and infinity."""
    if value is None or isinstance(value, bool):
        return None
    try:
        result = float(value)
    except (TypeError, ValueError):
        return None
    return result if math.isfinite(result) else None


def view(snapshot: Mapping[str, Any]) -> dict[str, Any]:
    """Return the watcher's view of `engine.view.snapshot`, which the app enriches with `venue`, `clock_ms`, `lag_ms`, ..."""
    decision = _mapping(snapshot.get("decision"))
    limits = _mapping(snapshot.get("limits"))
    trade = _mapping(snapshot.get("trade"))
    venue = str(snapshot.get("venue") or "")
    recent = _mapping(snapshot.get("recent"))
    symbols = _list(snapshot.get("symbols"))
    symbol = str(symbols[0]) if symbols else "BTCUSDT"
    equity, peak = figure(snapshot.get("equity")), figure(snapshot.get("peak"))
    return {
        "venue": venue,
        "mode": MODES.get(venue, venue.upper() or "unknown venue"),
        "real_money": venue == "live",
        "stage": _text(snapshot.get("stage")),
        "profile": _text(snapshot.get("profile")),
        "clock_ms": _instant(snapshot.get("clock_ms")) or _instant(snapshot.get("at_ms")),
        "lag_ms": figure(snapshot.get("lag_ms")),
        "symbol": symbol,
        "price": figure(_mapping(snapshot.get("prices")).get(symbol)),
        "sides": {side.name.lower(): _side(decision, side, recent) for side in Side},
        "verdict": {
            "open_ms": _instant(decision.get("open_ms")),
            "signal": figure(decision.get("signal")),
            "code": _text(decision.get("code")),
            "reason": _text(decision.get("reason")),
        },
        "trade": _trade(trade),
        "legs": [_leg(_mapping(leg)) for leg in _list(trade.get("legs"))],
        "positions": {str(k): _text(v) for k, v in _mapping(snapshot.get("positions")).items()},
        "unexplained": {str(k): _text(v) for k, v in _mapping(snapshot.get("unexplained")).items()},
        "money": {
            "wallet": figure(snapshot.get("wallet")),
            "equity": equity,
            "peak": peak,
            "drawdown": 1 - equity / peak if equity is not None and peak else None,
            "day_r": figure(snapshot.get("day_r")),
            "leverage": figure(limits.get("leverage")),
            "risk_fraction": figure(limits.get("risk_fraction")),
        },
        "limits": _limits(limits),
        "entries": _entries(snapshot, limits),
        "counters": {
            str(key): value
            for key, value in _mapping(snapshot.get("counters")).items()
            if isinstance(value, int | float | str)
        },
        "feeds_lost": [str(name) for name in _list(limits.get("feeds_lost"))],
        "symbols": [str(name) for name in symbols] or [symbol],
        "source": _text(snapshot.get("source")),
        "speed": figure(snapshot.get("speed")),
        "streams": _streams(snapshot),
        "times": _times(snapshot),
        "funnel": snapshot.get("funnel"),
        "ledger": snapshot.get("ledger"),
        "forming": _forming(snapshot),
        "compared": [_compared(_mapping(row)) for row in _list(snapshot.get("compared"))],
        "parity": {
            "checked": figure(snapshot.get("bars_cross_checked")),
            "mismatched": figure(snapshot.get("bars_mismatched")),
        },
    }


def _forming(snapshot: Mapping[str, Any]) -> dict[str, list[float]]:
    """Return the unfinished bar of each symbol: open time in ms, then open, high, low, close."""
    bars = {symbol: bar for symbol, bar in _mapping(snapshot.get("forming")).items() if isinstance(bar, Kline)}
    return {str(symbol): [bar.open_ms, bar.open, bar.high, bar.low, bar.close] for symbol, bar in bars.items()}


def _compared(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return one comparison with the person's own chart, its shares as words."""
    at_ms, signal = _instant(row.get("at_ms")), figure(row.get("signal"))
    return {
        "export": f"{_text(row.get('kind'))} {_text(row.get('file'))}",
        "day": utc(at_ms)[:10] if at_ms else "",
        "sentence": _text(row.get("sentence")),
        "signal": signal,
        "signal_text": "" if signal is None else percent(signal),
        "conditions": {
            side: [[TITLES.get(name, name), share, percent(share)] for name, share in _mapping(shares).items()]
            for side, shares in _mapping(row.get("conditions")).items()
        },
        "borrowed": [TITLES.get(str(name), str(name)) for name in _list(row.get("borrowed"))],
        "text": sentence(row),
    }


def _streams(snapshot: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one row a stream of each feed: its age and lag in ms, and whether the feed is heard."""
    rows = []
    for feed, told in _mapping(snapshot.get("feeds")).items():
        if not isinstance(told, Mapping) or "lost" not in told:
            continue
        streams = _mapping(told.get("streams")) or {str(feed): {}}
        for name, lag in streams.items():
            values = _mapping(lag)
            row = {key: figure(values.get(key)) for key in ("age_ms", "last_ms", "p50_ms", "p99_ms")}
            rows.append({"name": str(name), "heard": not told["lost"], **row})
    return rows


def _times(snapshot: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one row a measured time: bars closing late, a decision to its order, positions without a stop."""
    late = _mapping(_mapping(snapshot.get("feeds")).get("close_lag"))
    measured = [(f"{symbol} bar closes late by", told) for symbol, told in late.items()]
    measured.append(("bar to order", snapshot.get("decision_times")))
    measured += [(f"{symbol} without a stop", told) for symbol, told in _mapping(snapshot.get("naked")).items()]
    rows = []
    for name, told in measured:
        row = {key: figure(_mapping(told).get(key)) for key in ("p50_ms", "p99_ms", "max_ms")}
        if row["max_ms"] is not None:
            rows.append({"name": name, **row})
    return rows


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, Iterable) and not isinstance(value, str | bytes) else []


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _instant(value: Any) -> int | None:
    number = figure(value)
    return int(number) if number is not None and 0 < number < LAST_MS else None


def _side(decision: Mapping[str, Any], side: Side, recent: Mapping[str, Any]) -> dict[str, Any]:
    key = side.name.lower()
    lit, told = _mapping(decision.get(key)), _mapping(decision.get("values"))
    values = {str(name): number for name, raw in told.items() if (number := figure(raw)) is not None}
    if (close := figure(decision.get("close"))) is not None:
        values["close"] = close
    lights = []
    for name, tag in zip(CONDITIONS, NAMES[side], strict=True):
        on = bool(lit[name]) if name in lit else None
        past = _mapping(recent.get(f"{key}_{name}"))
        lights.append(
            {
                "name": name,
                "label": LABELS[name],
                "title": TITLES[tag],
                "on": on,
                "number": explain_condition(values, side, name, on),
                "since": past.get("since"),
                "strip": _text(past.get("strip")),
            }
        )
    return {"lights": lights, "count": sum(light["on"] is True for light in lights)}


def _trade(trade: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the trade, also one that still waits for its first fill; None without."""
    if not trade:
        return None
    targets = {t.get("leg"): t for t in map(_mapping, _list(trade.get("targets")))}
    prices = [_level(_mapping(target).get("price")) for target in targets.values()]
    tp1, tp2 = (*prices, None, None)[:2]
    qty = figure(trade.get("qty"))
    stages = [_text(trade.get("stage"))]
    if trade.get("working"):
        stages.append(f"entry {_text(trade.get('entry_phase'))}")
    if trade.get("closing"):
        stages.append(f"closing: {_text(trade.get('closing'))}")
    return {
        "id": _text(trade.get("trade_id")),
        "side": _text(trade.get("side")).upper(),
        "state": " · ".join(stage for stage in stages if stage),
        "qty": abs(qty) if qty is not None else None,
        "entry": _level(trade.get("average")) or _level(trade.get("plan_entry")),
        "stop": _level(trade.get("stop")) or _level(trade.get("plan_stop")),
        "stop_kind": _text(trade.get("stop_kind")),
        "tp1": tp1,
        "tp2": tp2,
        "r": figure(trade.get("r")),
        "risk_quote": figure(trade.get("risk_quote")),
        "pnl": figure(trade.get("pnl")),
        "opened_ms": _instant(trade.get("opened_ms")),
        "naked_ms": figure(trade.get("naked_ms")),
        "stop0": _level(trade.get("plan_stop")),
        "covered": figure(trade.get("covered")),
        "net_beta": figure(trade.get("net_beta")),
        "signal_ms": _instant(trade.get("signal_ms")),
        "cost_r": figure(trade.get("expected_cost_r")),
    }


def _level(value: Any) -> float | None:
    """Return a price; the engine's 0 and None stand for one that does not exist yet."""
    return figure(value) or None


def _leg(leg: Mapping[str, Any]) -> dict[str, Any]:
    qty = figure(leg.get("qty"))
    return {
        "symbol": _text(leg.get("symbol")),
        "side": "" if not qty else "LONG" if qty > 0 else "SHORT",
        "qty": abs(qty) if qty else None,
        "entry": _level(leg.get("average")),
        "stop": _level(leg.get("stop")),
        "beta": figure(leg.get("beta")),
        "r2": figure(leg.get("r2")),
        "note": " ".join(part for part in (_text(leg.get("state")), _text(leg.get("note"))) if part),
    }


def _limits(limits: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the figures that limits watch; a direction that rests is marked as hit."""
    resting = {str(name) for name in _list(limits.get("resting"))}
    rows: list[dict[str, Any]] = [
        {"name": f"{name} today".lower(), "text": f"{value:+.2f} day R", "hit": str(name) in resting}
        for name, worth in _mapping(limits.get("direction_r")).items()
        if (value := figure(worth)) is not None
    ]
    if unit := figure(limits.get("day_unit")):
        rows.append({"name": "one day R", "text": f"{unit:,.2f} USDT", "hit": False})
    for name, form in (("risk_fraction", ".2%"), ("throttle", ".2f"), ("leverage", ".0f"), ("mean_slippage", "z.3%")):
        value = figure(limits.get(name))
        if value is not None:
            rows.append({"name": name.replace("_", " "), "text": format(value, form), "hit": False})
    return rows


def _entries(snapshot: Mapping[str, Any], limits: Mapping[str, Any]) -> dict[str, Any]:
    """Return whether entries are allowed, and every reason why not."""
    reasons = []
    if limits.get("no_money"):
        reasons.append(_text(limits["no_money"]))
    if limits.get("entries_off"):
        reasons.append(_text(limits["entries_off"]))
    if limits.get("soft_stopped"):
        reasons.append("soft stop: equity fell too far from its peak, re-arm to go on")
    if limits.get("day_hit"):
        reasons.append("the day's loss limit is reached")
    if lost := sorted(str(name) for name in _list(limits.get("feeds_lost"))):
        reasons.append(f"no data from {', '.join(lost)}")
    if limits.get("reconciled") is False:
        reasons.append("the account has not been compared with the exchange yet")
    if snapshot.get("unexplained"):
        reasons.append("the exchange holds a position that this bot cannot explain")
    return {"allowed": not reasons, "reason": "; ".join(reasons)}


def line(item: Any) -> str | None:
    """Return one plain line about something that happened; None for what a watcher need not read.

    Every fill's line contains the word `filled`.
    """
    match item:
        case Fill():
            kind = "maker" if item.maker else "taker"
            text = (
                f"filled {item.side} {item.qty} {item.symbol} at {item.price} ({kind}, fee {item.fee}) {item.client_id}"
            )
        case Decision() if item.signal:
            side = "LONG" if item.signal > 0 else "SHORT"
            outcome = "entering" if item.code == "entered" else f"vetoed {item.code}: {item.reason}"
            text = f"signal {side} · {outcome}".rstrip(": ")
        case TradeRecord() if item.qty > 0:
            result = f"{item.r_multiple:+.2f} R, {item.pnl:+.2f} USDT"
            text = f"trade {item.trade_id} {item.side.name} closed by {item.exit_reason}: {result}"
        case TradeRecord():
            text = f"setup {item.trade_id} {item.side.name} over without a position: {item.exit_reason}"
        case OrderUpdate() if item.status is OrderStatus.REJECTED:
            text = f"order {item.client_id} rejected by the exchange: {item.code} {item.reason}"
        case Alert():
            return f"{item.level}: {item.text}"
        case FeedLost():
            text = f"stream {item.stream} lost {item.reason}".rstrip()
        case FeedRestored():
            text = f"stream {item.stream} is back"
        case Command():
            text = f"command {item.name}"
        case str():
            return item
        case _:
            return None
    at_ms = item.closed_ms if isinstance(item, TradeRecord) else item.at_ms
    return f"{utc(at_ms, seconds=True)}  {text}"


def weight(item: Any) -> str:
    """Return how a line is to be coloured: `good`, `bad`, `warn` or `plain`."""
    match item:
        case TradeRecord() if item.qty > 0:
            return "good" if item.pnl > Decimal(0) else "bad"
        case Alert():
            return "plain" if item.level == "info" else "bad" if item.level == "critical" else "warn"
        case FeedLost():
            return "bad"
        case OrderUpdate() | Command():
            return "warn"
        case Decision():
            return "good" if item.code == "entered" else "warn"
    return "plain"
