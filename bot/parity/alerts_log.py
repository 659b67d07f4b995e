"""The alerts log: what TradingView sent and when, newest first.

Each row says which alert fired (name, message), on which ticker and interval, and when. Times are server times with a
zone. The meaning of an alert is read from its words: a side, and a feature such as BOS or a HyperWave dot.
"""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bot.core.errors import DataError, DataMissing
from bot.core.klines import INTERVALS
from bot.core.types import Side
from bot.parity.csv_values import key, times_ms

_TICKER: Final = re.compile(r"([A-Z0-9_]+):([A-Z0-9]+?)(\.P|PERP)?(?:,\s*(.+))?")
_LONG: Final = re.compile(r"\b(long|buy|bullish|bull|kauf|compra|achat|лонг|покупк\w*)\b|做多|买|買", re.IGNORECASE)
_SHORT: Final = re.compile(
    r"\b(short|sell|bearish|bear|verkauf|venta|venda|vente|шорт|продаж\w*)\b|做空|卖|賣", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class FiredAlert:
    """One row: when it was sent (UTC epoch ms), its text, and the side it names (None if none or both)."""

    at_ms: int
    alert_id: str
    name: str
    message: str
    side: Side | None
    webhook: str


@dataclass(slots=True)
class AlertsLog:
    """The alerts of one ticker, oldest first."""

    path: Path
    symbol: str
    perpetual: bool
    interval: str | None
    alerts: list[FiredAlert]
    header: list[str]
    notes: list[str] = field(default_factory=list)


def is_alerts(header: list[str], body: list[list[str]]) -> bool:
    """Return whether rows are an alerts log, by the English header or by tickers in the second column."""
    named = {"alertid", "ticker", "time"} <= {key(name) for name in header}
    sample = [row for row in body[:20] if len(row) >= 5]
    return named or (bool(sample) and len(header) in (5, 6) and all(_TICKER.fullmatch(row[1]) for row in sample))


def interval_of(word: str | None) -> str | None:
    """Return a chart's interval in the exchange's notation, or None.

    >>> interval_of("3"), interval_of("15m"), interval_of("1D"), interval_of("2 h"), interval_of("tick")
    ('3m', '15m', '1d', '2h', None)
    """
    text = (word or "").strip().replace(" ", "").lower()
    if text.isdigit():
        minutes = int(text)
        text = f"{minutes}m" if minutes < 60 else f"{minutes // 60}h"
    return text if text in INTERVALS else None


def side_of(words: str) -> Side | None:
    """Return the side named by the words of an alert, None if none or both.

    >>> side_of('{"action": "BUY"}'), side_of("Bearish+ confirmation"), side_of("crossing 21500")
    (<Side.LONG: 1>, <Side.SHORT: -1>, None)
    """
    spaced = words.replace("_", " ")
    long, short = bool(_LONG.search(spaced)), bool(_SHORT.search(spaced))
    return None if long == short else Side.LONG if long else Side.SHORT


def _side(name: str, message: str) -> Side | None:
    """Return the side from the fields of a JSON message if it has them, else from all words."""
    try:
        told: Any = json.loads(message)
    except ValueError:
        told = None
    if isinstance(told, dict):
        for field_ in ("side", "action", "signal", "direction", "order"):
            if field_ in told and (side := side_of(str(told[field_]))) is not None:
                return side
    return side_of(message) or side_of(name)


def read_alerts(path: Path, rows: list[list[str]]) -> AlertsLog:
    """Read an alerts log from its rows, header first.

    Raises
    ------
    DataMissing
        It has no row.
    DataError
        A row cannot be read (one sentence).
    """
    header, body = rows[0], rows[1:]
    notes: list[str] = []
    if not body:
        raise DataMissing(f"{path} is an alerts log without an alert")
    names = [key(name) for name in header]
    order = ("alertid", "ticker", "name", "description", "time")
    at = {word: names.index(word) if word in names else place for place, word in enumerate(order)}
    webhook = next((i for i, name in enumerate(names) if name.startswith("webhook")), 5)
    if len(body[-1]) < 5:
        notes.append(f"the last row (row {len(body) + 1}) is cut off and was left out")
        body = body[:-1]
    for line, row in enumerate(body, 2):
        if len(row) < 5:
            raise DataError(f"{path}: row {line} has {len(row)} cells, an alert has 5 or 6: export the log again")
    if not body:
        raise DataMissing(f"{path} is an alerts log without a whole row")
    tickers: dict[tuple[str, bool, str | None], int] = {}
    for line, row in enumerate(body, 2):
        match = _TICKER.fullmatch(row[at["ticker"]])
        if match is None:
            raise DataError(f"{path}: row {line}: {row[at['ticker']]!r} is no ticker such as BINANCE:BTCUSDT.P, 3m")
        found = (match[2], match[3] is not None, interval_of(match[4]))
        tickers[found] = tickers.get(found, 0) + 1
    main = max(tickers, key=lambda ticker: tickers[ticker])
    if len(tickers) > 1:
        others = ", ".join(sorted({f"{s}{'.P' if p else ''} {i or '?'}" for s, p, i in tickers if (s, p, i) != main}))
        notes.append(f"only {main[0]}{'.P' if main[1] else ''} {main[2] or ''} is read; left out: {others}")
        kept = []
        for row in body:
            match = _TICKER.fullmatch(row[at["ticker"]])
            if match is not None and (match[2], match[3] is not None, interval_of(match[4])) == main:
                kept.append(row)
        body = kept
    times, zoned = times_ms([row[at["time"]] for row in body], path=path, column=header[at["time"]])
    if not zoned:
        notes.append("its times carry no zone and are read as UTC")
    alerts = [
        FiredAlert(
            at_ms,
            row[at["alertid"]],
            row[at["name"]],
            row[at["description"]],
            _side(row[at["name"]], row[at["description"]]),
            row[webhook] if webhook < len(row) else "",
        )
        for at_ms, row in zip(times, body, strict=True)
    ]
    alerts.sort(key=lambda alert: alert.at_ms)
    whole = {(alert.at_ms, alert.alert_id, alert.message): alert for alert in alerts}
    if len(whole) < len(alerts):
        notes.append(f"{len(alerts) - len(whole)} rows stand twice and count once")
    failed = sum(bool(a.webhook) and "succe" not in a.webhook.lower() for a in whole.values())
    if failed:
        notes.append(f"the webhook of {failed} alerts was not delivered")
    return AlertsLog(path, main[0], main[1], main[2], list(whole.values()), header, notes)
