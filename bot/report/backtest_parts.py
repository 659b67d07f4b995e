"""Sections of a back-test's report, one function each, which adds figures and tables to the page."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bot.core.times import utc
from bot.report.page import Cell, Page, paragraph, table, tiles
from bot.results import summary as metrics
from bot.results.backtest import Result
from bot.results.claims import CLAIMED_EXPECTANCY_R, FEW_TRADES, claim_row
from bot.results.numbers import show

EXIT_WORDS = {"end_of_data": "end of the data"}


@dataclass(frozen=True, slots=True)
class Controls:
    """Control runs of a result: the same range under other assumptions, and random entries.

    Attributes
    ----------
    variants : list of dict
        `name`, `note` and the figures of `results.summary.summary_figures`, in order; the first is the run itself.
    hedge : dict
        Figures of `search.controls.hedge_truth`: the hedge compared with none.
    chance : dict or None
        `search.chance.Chance` as plain values.
    """

    variants: list[dict[str, Any]] = field(default_factory=list)
    hedge: dict[str, Any] = field(default_factory=dict)
    chance: dict[str, Any] | None = None


def kind_of(value: float | None) -> str:
    """Return the CSS class of a number by its sign: good, bad or none."""
    return "" if value is None or value == 0 else "good" if value > 0 else "bad"


def band(pair: Sequence[float] | None, form: str = "+.2f") -> str:
    """Return an interval as text."""
    return "no interval" if pair is None else f"{show(pair[0], form)} to {show(pair[1], form)}"


def verdict(figures: Mapping[str, Any], controls: Controls) -> tuple[str, list[str]]:
    """Return CSS class and sentences of the verdict: did it make money, and was it luck."""
    if not figures["trades"]:
        return "", ["No trade was made in this range: there is nothing to judge."]
    mean, gross, span = figures["expectancy_r"], figures["gross_expectancy_r"], figures["expectancy_r_95"]
    change = figures["return"]
    word = "made" if change > 0 else "lost"
    first = (
        f"It {word} money: {show(change, '+.1%')} on {figures['initial_equity']:,.0f} USDT over {figures['days']:.0f} days, "
        f"{show(mean, '+.2f')} R a trade (95 %: {band(span)}) in {figures['trades']} trades."
    )
    cost = figures["avg_cost_r"]
    second = (
        f"Before costs a trade makes {show(gross, '+.2f')} R (95 %: {band(figures['gross_expectancy_r_95'])}); "
        f"costs take {show(cost)} R of what a trade risks."
    )
    lines = [first, second]
    if controls.chance:
        p = controls.chance["p_gross"]
        than = "better than" if p < 0.05 else "not better than"
        lines.append(
            f"Its entries are {than} random ones with the same plan and exits: those make "
            f"{show(controls.chance['random_gross_r'], '+.2f')} R before costs (p = {p:.3f})."
        )
    if span is not None and span[0] <= 0 <= span[1]:
        lines.append("The interval holds 0: these trades prove neither a gain nor a loss.")
    return ("good" if span and span[0] > 0 else "bad" if mean < 0 else ""), lines


def overview(page: Page, figures: Mapping[str, Any]) -> None:
    """Add the tiles with the main figures."""
    won = figures["win_rate_95"]
    page.section(
        "At a glance",
        tiles(
            [
                (
                    "Net, R a trade",
                    show(figures["expectancy_r"], "+.2f"),
                    f"95 %: {band(figures['expectancy_r_95'])}",
                    kind_of(figures["expectancy_r"]),
                ),
                (
                    "Gross, R a trade",
                    show(figures["gross_expectancy_r"], "+.2f"),
                    f"95 %: {band(figures['gross_expectancy_r_95'])}",
                    kind_of(figures["gross_expectancy_r"]),
                ),
                ("Cost, R a trade", show(figures["avg_cost_r"]), "fees, spread, slippage, funding, hedge", ""),
                ("Win rate", show(figures["win_rate"], ".1%"), f"95 %: {band(won, '.0%')}", ""),
                (
                    "Profit factor",
                    show(figures["profit_factor"]),
                    f"in R, 95 %: {band(figures['profit_factor_r_95'], '.2f')}",
                    "",
                ),
                (
                    "Trades",
                    f"{figures['trades']}",
                    f"{show(figures['trades_per_day'])} a day, {figures['signals']} signals",
                    "",
                ),
                ("Return", show(figures["return"], "+.1%"), f"{figures['pnl']:+,.2f} USDT", kind_of(figures["return"])),
                (
                    "Deepest fall",
                    show(figures["max_drawdown"], ".1%"),
                    f"{figures['max_drawdown_quote']:,.2f} USDT, {figures['max_drawdown_r']:.1f} R",
                    "",
                ),
                (
                    "Worst day",
                    show(figures["day_drawdown_r"], ".2f", " day R"),
                    "realised and open, below its start",
                    "",
                ),
                (
                    "Sharpe ratio, daily",
                    show(figures["sharpe_daily"]),
                    "times the root of 365",
                    kind_of(figures["sharpe_daily"]),
                ),
                (
                    "Stop distance",
                    show(figures["median_stop_distance"], ".3%"),
                    f"median; {show(figures['median_break_even_stop'], '.3%')} would just pay the costs at the claimed "
                    f"{CLAIMED_EXPECTANCY_R} R",
                    "",
                ),
            ]
        ),
        wide=True,
        short="Overview",
    )


def claims(page: Page, claimed: Mapping[str, Mapping[str, Any]]) -> None:
    """Add the recipe's claims next to the measurements."""
    rows = []
    for figure, claim in claimed.items():
        label, words, measured, verdict = claim_row(figure, claim)
        kind = {None: "quiet", True: "good", False: "bad"}[claim["met"]]
        rows.append([Cell(label, "words"), Cell(words, "words"), measured, Cell(verdict, kind)])
    page.section(
        "The recipe's claims beside what was measured",
        table([Cell("claim", "words"), Cell("claimed", "words"), "measured", "verdict"], rows),
        note=f"Claims are never assumed. Fewer than {FEW_TRADES} trades give no verdict on a claim about trades; signals per "
        "day, worst day and deepest fall get one after a day.",
        short="Claims",
    )


def equity(page: Page, result: Result, scripts: Sequence[str]) -> None:
    """Add the equity line with its drawdown, drawn by the chart library with cursor and zoom."""
    line = result.equity
    at = np.concatenate(([result.from_ms], line.at_ms, [result.to_ms]))
    values = np.concatenate(([result.initial_equity], line.equity, [result.final_equity]))
    seconds = at // 1000
    last_of = np.append(np.flatnonzero(np.diff(seconds)), len(seconds) - 1)
    peak = np.maximum.accumulate(values)
    fall = np.where(peak > 0, values / peak - 1, 0.0)
    if len(last_of) > 4_000:  # keep the extremes of each period, drop the rest
        parts = np.array_split(last_of, 2_000)
        last_of = np.unique(np.concatenate([[p[np.argmin(values[p])], p[np.argmax(values[p])]] for p in parts]))
    page.data["equity"] = {
        "time": seconds[last_of],
        "equity": np.round(values[last_of], 2),
        "fall": np.round(100 * fall[last_of], 3),
    }
    page.scripts += list(scripts)
    page.section(
        "Equity and drawdown",
        '<div class="tv" id="equity-chart"></div>',
        note="Equity in USDT, realised and open, at each fill and each closed bar with something open; below it "
        "the fall from the peak in per cent. Drag and pinch to zoom.",
        wide=True,
        short="Equity",
    )


def monthly(page: Page, result: Result) -> None:
    """Add one row per calendar month."""
    rows_of = metrics.months(
        result.table(),
        lambda times: result.equity.at(times, result.initial_equity),
        from_ms=result.from_ms,
        to_ms=result.to_ms,
    )
    top = max((abs(r["return"] or 0.0) for r in rows_of), default=0.0) or 1.0
    rows = [
        [
            r["month"],
            str(r["trades"]),
            show(r["win_rate"], ".0%"),
            show(r["profit_factor_r"]),
            Cell(show(r["total_r"], "+.1f"), kind_of(r["total_r"])),
            Cell(show(r["return"], "+.1%"), heat=(r["return"] or 0.0) / top),
        ]
        for r in rows_of
    ]
    page.section(
        "By month",
        table(["month", "trades", "won", "PF (R)", "R", "return"], rows),
        note=f"Calendar months in UTC; {sum((r['return'] or 0) > 0 for r in rows_of)} of {len(rows_of)} gained.",
        short="Months",
    )


def distribution(page: Page, columns: metrics.Columns) -> None:
    """Add the histogram of results and the table of exits."""
    net = columns["net_r"]
    if len(net):
        low, high = np.floor(net.min() * 4) / 4, np.ceil(net.max() * 4) / 4 + 0.25
        edges = np.arange(low, high + 0.01, 0.25)
        heights, _ = np.histogram(net, edges)
        names = [f"{edge:g}" for edge in edges[:-1]]
        hints = [f"{a:g} to {b:g} R\n{int(h)} trades" for a, b, h in zip(edges, edges[1:], heights, strict=False)]
        figure = page.plot(
            "bars",
            title="Histogram of results in R",
            names=names,
            series=[{"name": "trades", "values": heights.tolist()}],
            colours=["good" if edge >= 0 else "bad" for edge in edges[:-1]],
            hints=hints,
            xlabel="net result, R",
            digits=0,
        )
        page.section("Results in R", figure, note="Trades by net result, a quarter of R a bar.", short="Results")
    exits = Counter(columns["exit_reason"].tolist())
    rows = []
    for reason, count in exits.most_common():
        chosen = columns["exit_reason"] == reason
        mean, gross = float(net[chosen].mean()), float(columns["gross_r"][chosen].mean())
        rows.append(
            [
                EXIT_WORDS.get(reason, reason.replace("_", " ")),
                str(count),
                show(count / len(net), ".0%"),
                show(gross, "+.2f"),
                Cell(show(mean, "+.2f"), kind_of(mean)),
                show(float(net[chosen].sum()), "+.1f"),
            ]
        )
    page.section(
        "How trades ended",
        table(["exit", "trades", "share", "gross R", "net R", "sum R"], rows),
        note="The last exit of each trade; gross and net are means.",
        short="Exits",
    )


def excursions(page: Page, columns: metrics.Columns) -> None:
    """Add the favourable and adverse excursions of the trades."""
    found = metrics.excursions(columns)
    points = [
        {
            "x": round(-abs(a), 3),
            "y": round(f, 3),
            "colour": "good" if n > 0 else "bad",
            "hint": f"{utc(int(t))}\nworst {abs(a):.2f} R against, best {f:.2f} R\nnet {n:+.2f} R",
        }
        for a, f, n, t in zip(
            columns["max_adverse_r"].tolist(),
            columns["max_favourable_r"].tolist(),
            columns["net_r"].tolist(),
            columns["signal_ms"].tolist(),
            strict=True,
        )
    ]
    if not points:
        return
    reached = ", ".join(f"{level} {show(share, '.0%')}" for level, share in found["reached"].items())
    page.section(
        "How far trades went",
        page.plot(
            "dots",
            title="Best against worst excursion",
            points=points,
            xlabel="worst excursion, R",
            unit="",
            legend=[{"colour": "good", "text": "won"}, {"colour": "bad", "text": "lost"}],
        ),
        paragraph(f"Share of trades that reached, at best: {reached}."),
        note="Each dot is a trade: its worst excursion (across) against its best (up), R of the price, before costs.",
        short="Excursions",
    )
