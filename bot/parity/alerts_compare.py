"""Compare a chart's alerts with our signals on klines: matched, late, missing, repainted.

An alert set to "once per bar close" arrives a second or two after the close. One that arrives inside a bar was decided
on an unfinished bar: if the closed bar confirms it, it was early; if not, it repainted.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np

from bot.config import Config
from bot.core.errors import ConfigError, DataMissing
from bot.core.klines import Klines, interval_ms
from bot.core.types import Side
from bot.market import store
from bot.market.store import format_time
from bot.parity import align as lay
from bot.parity.alerts_log import AlertsLog, FiredAlert
from bot.parity.catalogue import feature
from bot.parity.ours import BASE, Ours
from bot.parity.score import flags_of
from bot.parity.verdict import bars_list

AT_CLOSE_MS: Final = 20_000  # an alert within this time after a close belongs to the closed bar
EXAMPLES: Final = 10

# Patterns in an alert's text and their features, first match wins; placeholders are replaced by the side's word.
_MEANINGS: Final = (
    (r"swing.*bos|bos.*swing", "smc_sw_{bull}_bos"),
    (r"swing.*choch|choch.*swing", "smc_sw_{bull}_choch"),
    (r"\bbos\b", "smc_int_{bull}_bos"),
    (r"\bchoch\b", "smc_int_{bull}_choch"),
    (r"overs?old hwo|overbought hwo", "om_big_{up}"),
    (r"\bhwo\b|hyper ?wave", "om_cross_{up}"),
    (r"divergence", "om_divergence_{bull}"),
    (r"strong|(bullish|bearish) ?\+", "so_{bullish}_strong"),
    (r"confirmation", "so_{bullish}"),
)


def meaning(alert: FiredAlert, binds: Mapping[str, str]) -> str | None:
    """Return the feature that an alert stands for: as bound by hand, by its words, else the signal of its side; or None."""
    for name in (alert.name, alert.message):
        if name in binds:
            return None if binds[name] == "ignore" else binds[name]
    words = f"{alert.name} {alert.message}".lower().replace("_", " ")
    up = re.search(r"\b(up|bull\w*|buy|long)\b", words) is not None
    down = re.search(r"\b(down|bear\w*|sell|short)\b", words) is not None
    if up != down:
        side = {
            "bull": "bull" if up else "bear",
            "up": "up" if up else "down",
            "bullish": "bullish" if up else "bearish",
        }
        for pattern, name in _MEANINGS:
            if re.search(pattern, words):
                return name.format(**side)
    return None if alert.side is None else "long_signal" if alert.side is Side.LONG else "short_signal"


def _events(ours: Ours, name: str) -> np.ndarray:
    found = feature(name)
    if found is None or found.kind == "plot":
        raise ConfigError(
            f"bind: {name!r} is no event or state that an alert could stand for (long_signal, om_cross_up)"
        )
    values = found.read(ours.table)
    marks = flags_of(values, found.kind)
    if found.kind == "state":  # an alert fires when a state begins
        marks &= np.concatenate(([True], values[1:] != values[:-1]))
    return marks


def place_alert(at_ms: int, events: Mapping[int, bool], step_ms: int) -> tuple[str, int, int]:
    """Match an alert with our events (by bar open): return `kind`, the open of its bar, and its delay after the close, ms.

    Kinds: `matched` (at or after the close), `early` (inside the bar, which then confirmed), `repainted` (inside a bar
    that did not confirm), `extra` (at a close without an event of ours). A negative delay is before the close.

    >>> place_alert(361_500, {180_000: True}, 180_000), place_alert(300_000, {180_000: True}, 180_000)
    (('matched', 180000, 1500), ('early', 180000, -60000))
    >>> place_alert(300_000, {}, 180_000), place_alert(361_500, {}, 180_000)
    (('repainted', 180000, -60000), ('extra', 180000, 1500))
    """
    bar = at_ms - at_ms % step_ms
    into = at_ms - bar
    before = bar - step_ms
    if into <= AT_CLOSE_MS:
        order = ((before, "matched"), (bar, "early"), (before - step_ms, "matched"))
        fallback = ("extra", before)
    else:
        order = ((bar, "early"), (before, "matched"), (before - step_ms, "matched"))
        fallback = ("repainted", bar)
    for open_ms, kind in order:
        if events.get(open_ms):
            return kind, open_ms, at_ms - (open_ms + step_ms)
    return fallback[0], fallback[1], at_ms - (fallback[1] + step_ms)


def compare_alerts(config: Config, log: AlertsLog, source: Path, binds: Mapping[str, str]) -> dict[str, Any]:
    """Return the report of an alerts log against our events on klines of its ticker.

    Parameters
    ----------
    config
        Configuration of our side.
    log
        The alerts log.
    source
        Folder or file with klines.
    binds
        Features bound by hand, by alert name or message.

    Raises
    ------
    DataMissing
        The klines lack the symbol, the interval or the time.
    ConfigError
        An alert is bound to something that is not an event or a state.
    """
    step = interval_ms(log.interval or BASE)
    bars = store.load(source, log.symbol, step)
    first, last = log.alerts[0].at_ms, log.alerts[-1].at_ms
    what = f"alerts log of {log.symbol}"
    if last < bars.open_ms[0] or first > bars.end_ms:
        _apart(first, last, bars, source, what)
    ours = Ours(bars, config, bars.open_ms)
    groups: dict[str, list[FiredAlert]] = {}
    unknown: dict[str, int] = {}
    for alert in log.alerts:
        name = meaning(alert, binds)
        if name is None:
            unknown[alert.name] = unknown.get(alert.name, 0) + 1
        else:
            groups.setdefault(name, []).append(alert)
    table = {name: _alert_row(ours, name, alerts, step) for name, alerts in sorted(groups.items())}
    report: dict[str, Any] = {
        "export": {
            "kind": "alerts log",
            "file": log.path.name,
            "alerts": len(log.alerts),
            "symbol": log.symbol,
            "market": "perpetual" if log.perpetual else "spot",
            "interval": log.interval or BASE,
            "from_ms": first,
            "to_ms": last,
        },
        "alerts": table,
        "unbound": [{"alert": name, "count": count} for name, count in unknown.items()],
        "notes": log.notes,
    }
    report["verdict"] = _alert_verdict(report, log, source, bars)
    return report


def _apart(first: int, last: int, bars: Klines, source: Path, what: str) -> None:
    raise DataMissing(
        f"the times do not overlap: the {what} is of {format_time(first)[:16]} to {format_time(last)[:16]}, {source} holds "
        f"{lay.spans([bars])}; name klines of that time with --klines"
    )


def _alert_row(ours: Ours, name: str, alerts: list[FiredAlert], step: int) -> dict[str, Any]:
    marks = _events(ours, name)
    opens = ours.at_ms[marks].tolist()
    events = dict.fromkeys(opens, True)
    start, end = int(ours.at_ms[0]), int(ours.at_ms[-1]) + step
    row: dict[str, Any] = {
        "alerts": len(alerts),
        "matched": 0,
        "early": 0,
        "repainted": 0,
        "extra": 0,
        "not_covered": 0,
    }
    late, listed, met = [], [], set()
    for alert in alerts:
        if not start + step <= alert.at_ms <= end + AT_CLOSE_MS:
            row["not_covered"] += 1
            continue
        kind, open_ms, late_ms = place_alert(alert.at_ms, events, step)
        row[kind] += 1
        if kind in ("matched", "early"):
            met.add(open_ms)
        if kind == "matched":
            late.append(late_ms)
        if kind != "matched" or late_ms > AT_CLOSE_MS:
            listed.append(
                {"kind": kind, "at_ms": alert.at_ms, "bar_ms": open_ms, "late_ms": late_ms, "name": alert.name}
            )
    first, last = alerts[0].at_ms - step, alerts[-1].at_ms
    missing = [at for at in opens if first - step < at and at + step <= last and at not in met]
    row |= {
        "missing": len(missing),
        "missing_ms": missing[:EXAMPLES],
        "late_by_ms_median": median(late) if late else None,
        "late_by_ms_max": max(late) if late else None,
        "listed": listed[:EXAMPLES],
    }
    return row


def _alert_verdict(report: dict[str, Any], log: AlertsLog, source: Path, bars: Klines) -> list[str]:
    said = []
    klines_market = lay.market_by_place(source)
    if klines_market == "unknown":
        klines_market = lay.market_by_tick(bars.symbol, bars.close)
    if log.perpetual and klines_market == "spot":
        said.append(f"the alerts are of the perpetual {log.symbol}.P and these klines are spot {log.symbol}")
    elif not log.perpetual and klines_market == "perpetual":
        said.append(f"this is spot {log.symbol}, the bot trades the perpetual")
    heads = []
    for name, row in report["alerts"].items():
        covered = row["alerts"] - row["not_covered"]
        if covered == row["matched"] and covered and not row["missing"]:
            late = row["late_by_ms_max"] / 1000
            said.append(f"{name}: 100 %: all {covered} alerts match our signals, at most {late:.1f} s late")
            heads.append(said[-1])
            continue
        said.append(
            f"{name}: {row['matched']} of {covered} alerts match at the close, {row['early']} came inside the bar, "
            f"{row['repainted']} repainted, {row['extra']} without a signal here, {row['missing']} signals without an alert"
        )
        heads.append(said[-1])
        if row["missing"]:
            said.append(f"{name}: no alert for our signal of {bars_list(row['missing_ms'], row['missing'])}")
        if row["early"] + row["repainted"] > row["matched"]:
            said.append(
                f"{name}: most alerts fire inside the bar: set the alert to 'Once per bar close', else it acts on bars that "
                "may still change"
            )
        for kind, words in (
            ("repainted", "fired inside a bar that did not confirm it"),
            ("extra", "has no signal here"),
        ):
            times = [alert["at_ms"] for alert in row["listed"] if alert["kind"] == kind]
            if times:
                said.append(f"{name}: the alert of {bars_list(times, row[kind])} {words}")
        if row["not_covered"]:
            said.append(f"{name}: {row['not_covered']} alerts lie outside the klines")
    if report["unbound"]:
        names = ", ".join(repr(row["alert"]) for row in report["unbound"])
        said.append(f"alerts whose words name no side or feature: {names}; bind them with --bind FILE")
    report["headline"] = "; ".join(heads or said[-1:])
    return said
