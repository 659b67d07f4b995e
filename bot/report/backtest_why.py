"""Sections of a back-test's report about reasons: why so seldom, what was nearly a signal, when, and on what assumptions."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from bot.core.times import DAY_MS, HOUR_MS, MINUTE_MS, utc
from bot.report.backtest_parts import band, kind_of
from bot.report.page import Cell, Page, paragraph, table, text
from bot.results import figures
from bot.results import summary as metrics
from bot.results.backtest import BacktestTrade, Result
from bot.results.numbers import show
from bot.strategy.rules import TITLES


def funnel(page: Page, counted: Mapping[str, Any]) -> None:
    """Add the funnel of both sides."""
    days = counted["days"]
    for side, found in counted["sides"].items():
        rows = [
            [
                Cell(TITLES.get(step["name"], step["name"]), "words"),
                show(step["alone_share"], ".1%"),
                show(step["alone_per_day"], ".1f"),
                show(step["in_sequence_per_day"], ".2f"),
                show(step["without_per_day"], ".2f"),
            ]
            for step in found["steps"]
        ]
        head = [Cell("condition", "words"), "share of bars", "alone", "in sequence", "without it"]
        figure = page.plot(
            "rows",
            title=f"Funnel, {side}",
            names=[step["name"] for step in found["steps"]],
            values=[step["without_per_day"] for step in found["steps"]],
            texts=[f"{step['without_per_day']:.2f}" for step in found["steps"]],
            colour="c1",
        )
        page.section(
            f"Why so seldom: {side}",
            paragraph(f"{found['signals']} signals on {found['bars']:,} bars, {found['signals_per_day']:.2f} a day."),
            table(head, rows),
            "<h3>Signals a day if one condition were dropped</h3>",
            figure,
            note=f"Bars a day over {days:.0f} days: alone, in the order shown, and with all the others holding.",
            short="Funnel" if side == "long" else "",
        )
    rows = [[Cell(code.replace("_", " "), "words"), str(count)] for code, count in counted["decisions"].items()]
    if rows:
        page.section(
            "What became of the signals",
            table([Cell("decision", "words"), "bars"], rows),
            note="Entered, or the first reason that spoke against it.",
        )


def near_misses(page: Page, result: Result) -> None:
    """Add what the bars with five of six would have made."""
    misses = result.near_misses
    if not misses:
        return
    rows = []
    for name in sorted({miss.missing for miss in misses}):
        group = [miss for miss in misses if miss.missing == name]
        trades: list[BacktestTrade] = [miss.trade for miss in group if miss.trade is not None]
        net = np.array([trade.net_r for trade in trades])
        gross = np.array([trade.gross_r for trade in trades])
        span = figures.interval(net)
        rows.append(
            [
                Cell(TITLES[name], "words"),
                str(len(group)),
                str(len(trades)),
                show(float(np.mean(net > 0)) if len(net) else None, ".0%"),
                show(figures.profit_factor(net)),
                show(float(gross.mean()) if len(gross) else None, "+.2f"),
                Cell(
                    show(float(net.mean()) if len(net) else None, "+.2f"),
                    kind_of(float(net.mean()) if len(net) else None),
                ),
                band(span),
            ]
        )
    page.section(
        "Near misses: five of six",
        table(
            [Cell("the one that was missing", "words"), "bars", "filled", "won", "PF (R)", "gross R", "net R", "95 %"],
            rows,
        ),
        note="Each bar on which only this condition was missing, traded alone with the same plan and exits: "
        "what the condition keeps out.",
        wide=True,
        short="Near misses",
    )


def by_time(page: Page, result: Result) -> None:
    """Add results by hour of the day, side and regime."""
    columns = result.table()
    if not len(columns["net_r"]):
        return
    hours = (columns["signal_ms"] // HOUR_MS % 24).tolist()
    names = [str(h) for h in range(24)]
    grouped = metrics.groups(columns, hours, names)
    figure = page.plot(
        "bars",
        title="Net R a trade by hour",
        names=[f"{h:02d}" for h in range(24)],
        series=[{"name": "net R a trade", "values": [grouped[n]["expectancy_r"] for n in names]}],
        low=[(grouped[n]["expectancy_r_95"] or [None])[0] for n in names],
        high=[(grouped[n]["expectancy_r_95"] or [None, None])[1] for n in names],
        hints=[
            f"{int(n):02d}:00 UTC\n{grouped[n]['trades']} trades, {show(grouped[n]['expectancy_r'], '+.2f')} R a trade\n"
            f"95 %: {band(grouped[n]['expectancy_r_95'])}"
            for n in names
        ],
        xlabel="hour of the signal, UTC",
    )
    page.section(
        "By hour",
        figure,
        note="Mean net R of the trades of each hour with its 95 % interval. Few trades an hour: mostly noise.",
        short="Hours",
    )
    regime = metrics.regimes(result)
    blocks = []
    for title, keys, wanted in (
        ("Side", ["long" if s > 0 else "short" for s in columns["side"].tolist()], ("long", "short")),
        ("Volatility at the signal", regime["volatility"], metrics.VOLATILITIES),
        ("The last 24 hours", regime["trend"], metrics.TRENDS),
        (
            "Day of the week",
            [
                ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[(int(t) // DAY_MS + 3) % 7]
                for t in columns["signal_ms"].tolist()
            ],
            ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"),
        ),
    ):
        rows = [
            [
                Cell(name, "words"),
                str(g["trades"]),
                show(g["win_rate"], ".0%"),
                show(g["profit_factor_r"]),
                show(g["gross_expectancy_r"], "+.2f"),
                Cell(show(g["expectancy_r"], "+.2f"), kind_of(g["expectancy_r"])),
                band(g["expectancy_r_95"]),
            ]
            for name, g in metrics.groups(columns, keys, wanted).items()
        ]
        head = [Cell("", "words"), "trades", "won", "PF", "gross R", "net R", "95 %"]
        blocks.append(f"<div><h3>{text(title)}</h3>{table(head, rows)}</div>")
    page.section(
        "By side and regime",
        f'<div class="pair">{"".join(blocks)}</div>',
        wide=True,
        note="Volatility: ATR against the terciles of the days before. The last 24 hours: "
        "a move of more than 1 % with or against the trade.",
        short="Regimes",
    )


def trades(page: Page, columns: metrics.Columns) -> None:
    """Add every trade."""
    rows = []
    for i in range(len(columns["net_r"]) - 1, -1, -1):
        net = float(columns["net_r"][i])
        rows.append(
            [
                utc(int(columns["signal_ms"][i])),
                "long" if columns["side"][i] > 0 else "short",
                Cell(str(columns["exit_reason"][i]).replace("_", " "), "words"),
                show(float(columns["entry_price"][i]), ",.1f"),
                show(float(columns["stop"][i]), ",.1f"),
                show(float(columns["exit_price"][i]), ",.1f"),
                f"{(columns['closed_ms'][i] - columns['opened_ms'][i]) / MINUTE_MS:.0f}",
                show(float(columns["gross_r"][i]), "+.2f"),
                show(float(columns["cost_r"][i])),
                Cell(show(net, "+.2f"), kind_of(net)),
                show(float(columns["pnl"][i]), "+.2f"),
            ]
        )
    head = [
        "signal (UTC)",
        "side",
        Cell("exit", "words"),
        "entry",
        "stop",
        "exit price",
        "min",
        "gross R",
        "cost R",
        "net R",
        "USDT",
    ]
    page.section(
        "Every trade",
        table(head, rows, tall=True),
        note="Newest first. `bot explain TIME` tells why.",
        wide=True,
        short="Trades",
    )


def assumptions(page: Page, result: Result, changed: Mapping[str, Any]) -> None:
    """Add what was assumed, on which data, with which settings."""
    rows = [
        [Cell(name.replace("_", " "), "words"), Cell(str(value), "words")] for name, value in result.assumptions.items()
    ]
    data = [
        ["range", Cell(f"{utc(result.from_ms)} to {utc(result.to_ms)} UTC, {result.bars:,} bars", "words")],
        ["source", Cell(result.source, "words")],
        ["data hash", Cell(result.data_hash, "words mono")],
        ["profile", Cell(result.profile, "words")],
        ["settings other than the default", Cell(json.dumps(changed) if changed else "none", "words mono")],
        [
            "soft stops met",
            Cell(f"{result.soft_stops} (backtest.soft_stop = {result.config.backtest.soft_stop})", "words"),
        ],
        ["speed", Cell(f"{result.bars_per_second:,.0f} bars a second", "words")],
        *(["warning", Cell(warning, "words")] for warning in result.warnings),
    ]
    page.section("Data and settings", table(["", Cell("", "words")], data), wide=True, short="Assumptions")
    page.section("What was assumed", table([Cell("", "words"), Cell("assumption", "words")], rows), wide=True)
