"""Sections of a back-test's report about money: costs per trade, effect of the hedge, comparison with chance."""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from bot.report.backtest_parts import Controls, band, kind_of
from bot.report.page import Cell, Page, paragraph, table, tiles
from bot.results import summary as metrics
from bot.results.numbers import show

PART_WORDS = {
    "fees": "fees",
    "spread": "spread",
    "slippage": "slippage",
    "funding": "funding",
    "hedge": "hedge legs",
    "all together": "all together",
}


def costs(page: Page, columns: metrics.Columns, figures: Mapping[str, Any]) -> None:
    """Add the mean cost of a trade by part, and the reduction needed for the mean trade to break even."""
    parts = metrics.costs(columns)
    names = [name for name in metrics.COST_PARTS if parts[name] is not None]
    if not names:
        return
    figure = page.plot(
        "rows",
        title="Mean cost of a trade by part",
        names=[PART_WORDS[name] for name in names],
        values=[parts[name] for name in names],
        colour="c2",
        unit=" R",
        places=3,
    )
    needed = metrics.needed_costs(figures["gross_expectancy_r"], parts)
    rows = []
    for name, part in needed["parts"].items():
        if needed["net_r"] >= 0:
            words = "already positive"
        elif part["needed_r"] is None:
            words = f"not enough: at 0 a trade still makes {show(part['left_at_zero_r'], '+.2f')} R"
        else:
            words = f"to {show(part['needed_r'], '.3f')} R, {show(part['factor'], '.0%')} of today's"
        rows.append([PART_WORDS[name], show(part["today_r"], ".3f"), Cell(words, "words")])
    if needed["net_r"] >= 0:
        sentence = "The mean trade is positive after costs."
    elif needed["gross_r"] <= 0:
        sentence = (
            f"Before any cost the mean trade makes {show(needed['gross_r'], '+.3f')} R: no cost can fall far enough, "
            "the entries and exits themselves would have to be better."
        )
    else:
        able = [PART_WORDS[n] for n, p in needed["parts"].items() if p["needed_r"] is not None and n != "all together"]
        sentence = (
            f"For the mean trade to break even, {' or '.join(able)} alone would have to fall as shown."
            if able
            else "No single part of the costs is large enough: only all of them together, to "
            f"{show(needed['parts']['all together']['factor'], '.0%')} of today's."
        )
    page.section(
        "What a trade costs",
        figure,
        paragraph(sentence, "words"),
        table(["part alone", "today, R", Cell("would have to fall", "words")], rows),
        note="Mean of all trades, in R of what a trade risks. " + distance_words(figures["median_stop_distance"]),
        short="Costs",
    )


def distance_words(distance: float | None) -> str:
    """Return sentences on how much of the price one R is, and what a cost of 0.1 % is in R."""
    if not distance:
        return ""
    share = f"R is the way to the stop, in the median {distance:.2%} of the price"
    return f"{share}: a cost of 0.1 % of the price is {0.001 / distance:.2f} R."


def hedge(page: Page, columns: metrics.Columns, figures: Mapping[str, Any], controls: Controls) -> None:
    """Add BTC and hedge results separately, and a comparison of the same trades with and without the hedge.

    Parameters
    ----------
    page
        The page to add to.
    columns
        Columns of the trades.
    figures
        Figures of the report.
    controls
        Control runs; their `hedge` and `variants` are shown.
    """
    parts = [
        tiles(
            [
                (
                    "BTC alone, before fees",
                    show(figures["alpha_r"], "+.1f", " R"),
                    "sum over all trades",
                    kind_of(figures["alpha_r"]),
                ),
                (
                    "Hedge legs, before fees",
                    show(figures["hedge_r"], "+.1f", " R"),
                    "sum over all trades",
                    kind_of(figures["hedge_r"]),
                ),
                (
                    "Net beta",
                    show(float(np.median(columns["net_beta"])) if len(columns["net_beta"]) else None),
                    "median of the book at entry; 1 = unhedged",
                    "",
                ),
                (
                    "Variance removed",
                    show(controls.hedge.get("variance_removed"), ".0%"),
                    "of the trades' gross result; below 0 it added",
                    kind_of(controls.hedge.get("variance_removed")),
                ),
                (
                    "Cost of the hedge",
                    show(controls.hedge.get("cost_r"), ".2f", " R"),
                    "a trade: fees, spread, slippage",
                    "",
                ),
            ]
        )
    ]
    rows = [
        [
            Cell(variant["name"], "words"),
            str(variant["trades"]),
            show(variant["win_rate"], ".1%"),
            show(variant["profit_factor"]),
            show(variant["gross_expectancy_r"], "+.3f"),
            Cell(show(variant["expectancy_r"], "+.3f"), kind_of(variant["expectancy_r"])),
            show(variant.get("deviation_r")),
            show(variant["max_drawdown"], ".1%"),
            Cell(show(variant["return"], "+.1%"), kind_of(variant["return"])),
        ]
        for variant in controls.variants
    ]
    if rows:
        head = [
            Cell("the same range", "words"),
            "trades",
            "won",
            "PF",
            "gross R",
            "net R",
            "deviation",
            "fall",
            "return",
        ]
        parts.append(table(head, rows))
    beta = columns["net_beta"]
    if len(beta) > 1:
        day = columns["signal_ms"].astype(float)
        width = max(1, min(20, len(beta) // 5))
        smooth = np.convolve(beta, np.ones(width) / width, "valid")
        parts.append(
            page.plot(
                "lines",
                title="Net beta over time",
                time=True,
                zero=True,
                height=170,
                series=[
                    {"name": "net beta", "x": day, "y": np.round(beta, 3), "width": 1},
                    {"name": f"mean of {width}", "x": day[width - 1 :], "y": np.round(smooth, 3), "width": 2.5},
                ],
                legend=[
                    {"colour": "c1", "text": "net beta of each trade's book"},
                    {"colour": "c2", "text": f"mean of {width} trades"},
                ],
            )
        )
    page.section(
        "BTC and hedge apart",
        *parts,
        note="The legs are there to take the market's move out of the trade. What they removed, what they cost, "
        "and what the same trades were without them.",
        wide=True,
        short="Hedge",
    )


def chance(page: Page, controls: Controls) -> None:
    """Add the comparison of the strategy with random entries, if it was run."""
    found = controls.chance
    if found is None:
        return
    edges, counts = found["histogram"]["edges"], found["histogram"]["counts"]
    middles = [(a + b) / 2 for a, b in itertools.pairwise(edges)]
    x = [edges[0], *middles, edges[-1], found["net_r"]]
    figure = page.plot(
        "lines",
        title="Random lists of trades",
        zero=True,
        series=[
            {"name": "random lists", "x": [edges[0], *middles, edges[-1]], "y": [0.0, *counts, 0.0]},
            {"name": "", "x": [min(x), max(x)], "y": [0, 0], "width": 0},
        ],
        bands=[{"x": [edges[0], *middles, edges[-1]], "low": [0.0] * (len(middles) + 2), "high": [0.0, *counts, 0.0]}],
        xmarks=[{"at": found["net_r"], "text": "the strategy"}],
        xlabel="mean net R of a list",
        digits=0,
    )
    rows = [
        [
            Cell("net R a trade", "words"),
            show(found["net_r"], "+.3f"),
            show(found["random_net_r"], "+.3f"),
            band(found["net_band"]),
            show(found["p_net"], ".3f"),
        ],
        [
            Cell("gross R a trade", "words"),
            show(found["gross_r"], "+.3f"),
            show(found["random_gross_r"], "+.3f"),
            band(found["gross_band"]),
            show(found["p_gross"], ".3f"),
        ],
        [Cell("net profit factor", "words"), "", "", "", show(found["p_factor"], ".3f")],
    ]
    page.section(
        "Better than chance?",
        figure,
        table([Cell("", "words"), "strategy", "random", "95 % of random", "p"], rows),
        note=f"{found['draws']:,} lists of {found['trades']} random entries, same sides, block shapes, plan, exits and costs, "
        f"drawn from {found['pool']:,} simulated ones. p: share of the lists that did at least as well; "
        "above 0.05 the entries are no better than chance.",
        short="Chance",
    )
