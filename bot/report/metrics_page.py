"""`/metrics` for Prometheus: figures worth an alarm, under conventional names.

They are read on request from the same snapshot that the page shows; nothing is counted twice and nothing runs between
requests. Money is in USDT, times in seconds, R in multiples of the risk.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

from bot.report.view import figure

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
Snapshot = Callable[[], Mapping[str, Any]]
_MONEY: Final = (
    ("equity", "bot_equity_usdt", "Wallet and unrealised profit."),
    ("wallet", "bot_wallet_usdt", "Wallet balance."),
    ("peak", "bot_equity_peak_usdt", "Highest equity so far."),
    (
        "day_r",
        "bot_day_r",
        "Result of the UTC day in day R (risk fraction of the equity at 00:00), open trade included.",
    ),
)
_LIMITS: Final = (
    ("leverage", "bot_leverage", "Leverage step in force."),
    ("risk_fraction", "bot_risk_fraction", "Share of equity at risk in a trade."),
    ("mean_slippage", "bot_mean_slippage", "Rolling mean slippage, fraction of the price."),
)
_FLAGS: Final = (
    ("entries_off", "bot_entries_off", "1 while no entry is taken."),
    ("soft_stopped", "bot_soft_stopped", "1 after the equity soft stop, until armed again."),
    ("reconciled", "bot_reconciled", "1 once the book has been compared with the exchange."),
)


class BotCollector(Collector):
    """Converts a snapshot to metrics."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterable[Any]:
        """Yield all metrics of the current state."""
        seen = self._snapshot()
        limits = _table(seen.get("limits"))
        words = {name: str(seen.get(name) or "") for name in ("venue", "stage", "profile")}
        yield InfoMetricFamily("bot", "What runs.", value=words)
        for source, names in ((seen, _MONEY), (limits, _LIMITS)):
            for key, name, text in names:
                if (value := figure(source.get(key))) is not None:
                    yield GaugeMetricFamily(name, text, value=value)
        for key, name, text in _FLAGS:
            yield GaugeMetricFamily(name, text, value=float(bool(limits.get(key))))
        yield GaugeMetricFamily("bot_trade_open", "1 while a trade is open.", value=float(bool(seen.get("trade"))))
        yield _by("bot_position", "Position, signed, in coins.", "symbol", _table(seen.get("positions")))
        yield _by("bot_unexplained", "Position that no trade explains.", "symbol", _table(seen.get("unexplained")))
        yield _by("bot_price_usdt", "Last price.", "symbol", _table(seen.get("prices")))
        yield _by("bot_funding_rate", "Announced funding rate.", "symbol", _table(seen.get("funding")))
        lost = limits.get("feeds_lost") or ()
        yield _by("bot_feed_lost", "1 while a stream does not deliver.", "stream", dict.fromkeys(lost, 1))
        clock, decided = figure(seen.get("clock_ms")), figure(_table(seen.get("decision")).get("at_ms"))
        if clock is not None and decided is not None:
            age = max(0.0, (clock - decided) / 1000)
            yield GaugeMetricFamily("bot_decision_age_seconds", "Since the last decision.", value=age)
        yield from _numbers(seen, "lag", "bot_stream_lag_seconds", "Exchange event to receipt.", 1000.0)
        yield from _numbers(seen, "naked", "bot_naked_seconds", "Time without an accepted stop.", 1000.0)
        ledger = _table(seen.get("ledger"))
        for key in ("judged", "rewritten"):
            if (number := figure(ledger.get(key))) is not None:
                yield CounterMetricFamily(f"bot_bars_{key}", f"Closed bars {key} by the repaint ledger.", value=number)
        for key, value in sorted(_table(seen.get("counters")).items()):
            if (number := figure(value)) is not None:
                yield CounterMetricFamily(f"bot_{_name(key)}", f"Count of {key}.", value=number)
        for key in ("bars_cross_checked", "bars_mismatched", "alerts_sent", "alerts_failed"):
            if (number := figure(seen.get(key))) is not None:
                yield CounterMetricFamily(f"bot_{key}", f"Count of {key.replace('_', ' ')}.", value=number)


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _name(text: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in text.lower())


def _by(name: str, text: str, label: str, values: Mapping[str, Any]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in sorted(values.items()):
        if (number := figure(value)) is not None:
            family.add_metric([str(key)], number)
    return family


def _numbers(seen: Mapping[str, Any], key: str, name: str, text: str, scale: float) -> Iterable[GaugeMetricFamily]:
    """Yield a nested table of ms (`{stream: {p50: ...}}`) as one family in seconds."""
    family = GaugeMetricFamily(name, text, labels=["of", "statistic"])
    for outer, inner in sorted(_table(seen.get(key)).items()):
        for statistic, value in sorted((_table(inner) or {"value": inner}).items()):
            if (number := figure(value)) is not None:
                family.add_metric([str(outer), str(statistic)], number / scale)
    if family.samples:
        yield family


def registry_of(snapshot: Snapshot) -> CollectorRegistry:
    """Return a registry with the bot's and the process's metrics."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(BotCollector(snapshot))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


def metrics(registry: CollectorRegistry) -> bytes:
    """Return the metrics in Prometheus text format."""
    return generate_latest(registry)
