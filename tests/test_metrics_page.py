"""The figures for Prometheus: readable by its own parser, true to the snapshot, and served on the bot's page."""

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from bot.report.dashboard import Dashboard
from bot.report.hub import Hub
from bot.report.metrics_page import metrics, registry_of
from tests.conftest import ROOT

STATE = {
    "venue": "testnet",
    "stage": "dry_run",
    "equity": "1012.5",
    "wallet": "1000",
    "peak": "1020",
    "day_r": -0.5,
    "clock_ms": 1_700_000_010_000,
    "decision": {"at_ms": 1_700_000_000_000},
    "limits": {"leverage": 5, "entries_off": True, "feeds_lost": {"market": "silent"}, "mean_slippage": None},
    "positions": {"BTCUSDT": "0.004"},
    "prices": {"BTCUSDT": "60000.1"},
    "funding": {"BTCUSDT": "0.0001"},
    "trade": {"id": 1},
    "counters": {"fills": 7, "naked ms": "12"},
    "alerts_sent": 3,
    "bars_mismatched": 0,
}


def read(text: str) -> dict:
    return {
        (s.name, *sorted(s.labels.values())): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


def test_every_figure_of_the_snapshot_is_there_once():
    found = read(metrics(registry_of(lambda: STATE)).decode())

    assert found["bot_equity_usdt",] == 1012.5
    assert found["bot_day_r",] == -0.5
    assert found["bot_leverage",] == 5
    assert found["bot_entries_off",] == 1
    assert found["bot_trade_open",] == 1
    assert found["bot_position", "BTCUSDT"] == 0.004
    assert found["bot_feed_lost", "market"] == 1
    assert found["bot_decision_age_seconds",] == 10
    assert found["bot_fills_total",] == 7
    assert found["bot_alerts_sent_total",] == 3
    assert "process_resident_memory_bytes" in {name for name, *_ in found}


def test_a_bot_that_knows_nothing_yet_has_metrics_too():
    found = read(metrics(registry_of(dict)).decode())

    assert found["bot_entries_off",] == 0


async def test_the_page_serves_them_to_this_machine():
    page = Dashboard(
        Hub(), host="127.0.0.1", port=0, token="t", snapshot=lambda: STATE, trades=list, command=lambda name, args: None
    )
    port = await page.start()
    try:
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/metrics") as reply:
            text = await reply.text()
    finally:
        await page.close()

    assert reply.status == 200
    assert reply.headers["Content-Type"].startswith("text/plain")
    assert read(text)["bot_equity_usdt",] == 1012.5


def test_the_live_checklist_holds_the_seven_open_points():
    text = (ROOT / "docs" / "live-checklist.md").read_text(encoding="utf-8")

    rows = [line for line in text.splitlines() if line.startswith(tuple(f"| {n} |" for n in range(1, 8)))]

    assert len(rows) == 7
    assert all(len(row.split("|")) == 6 for row in rows)
