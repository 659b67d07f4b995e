"""The page of a Monte-Carlo study: the same trades in another order and at other costs."""

from collections.abc import Mapping, Sequence
from typing import Any

from bot.report.backtest_parts import kind_of
from bot.report.page import Cell, Page, table, text
from bot.results.numbers import show


def monte_carlo_page(told: Mapping[str, Any]) -> Page:
    """Return the page of `search.monte_carlo.study`, given as plain values: `simulations`, `trades`, `source`."""
    simulations: Sequence[Mapping[str, Any]] = told["simulations"]
    page = Page(f"Monte-Carlo of {told['trades']} trades")
    blocks = next(s for s in simulations if s["name"] == "blocks")
    page.head = (
        f'<div class="verdict {"good" if blocks["loss"] < 0.05 else "bad"}">'
        + "".join(f"<p>{text(line)}</p>" for line in sentences(told))
        + "</div>"
    )
    page.foot = text(f"Drawn from {told['source']}, {told['runs']:,} histories each, seed {told['seed']}.")
    rows = [
        [
            Cell(s["name"], "words"),
            Cell(show(s["mean_r"], "+.3f"), kind_of(s["mean_r"])),
            show(s["final_equity"]["0.05"] - 1, "+.0%"),
            show(s["final_equity"]["0.5"] - 1, "+.0%"),
            show(s["final_equity"]["0.95"] - 1, "+.0%"),
            show(s["drawdown"]["0.5"], ".0%"),
            show(s["drawdown"]["0.95"], ".0%"),
            show(s["drawdown_r"]["0.95"], ".1f"),
            show(s["loss"], ".0%"),
            show(s["soft_stop"], ".0%"),
            show(s["ruin"], ".1%"),
        ]
        for s in simulations
    ]
    head = [
        Cell("histories", "words"),
        "R a trade",
        "end 5 %",
        "median",
        "95 %",
        "fall median",
        "fall 95 %",
        "in R",
        "lose",
    ]
    page.section(
        "All of them",
        table([*head, "soft stop", "ruin"], rows),
        note="End: equity after all trades against the start, by quantile. Fall: deepest from the peak. Lose: "
        f"share that ends below its start; soft stop: share that falls {told['sizing']['soft_stop_r']:g} R from its peak; "
        "ruin: share that loses "
        f"{told['sizing']['ruin']:.0%} of the start.",
        wide=True,
        short="Table",
    )
    for simulation in simulations:
        fan = simulation["fan"]
        x = fan["trade"]
        page.section(
            simulation["name"],
            page.plot(
                "lines",
                title=f"Equity, {simulation['name']}",
                xlabel="trades",
                places=3,
                series=[{"name": "median", "x": x, "y": fan["0.5"]}],
                bands=[
                    {"name": "1 to 99 %", "x": x, "low": fan["0.01"], "high": fan["0.99"], "opacity": 0.1},
                    {"name": "5 to 95 %", "x": x, "low": fan["0.05"], "high": fan["0.95"], "opacity": 0.16},
                    {"name": "25 to 75 %", "x": x, "low": fan["0.25"], "high": fan["0.75"], "opacity": 0.24},
                ],
                marks=[{"at": 1.0, "text": "start"}],
            ),
            note=simulation["note"],
            short=simulation["name"],
        )
    return page


def sentences(told: Mapping[str, Any]) -> list[str]:
    """Return the outcome as sentences."""
    blocks = next(s for s in told["simulations"] if s["name"] == "blocks")
    worst = told["simulations"][-1]
    lines = [
        f"Of {told['runs']:,} histories drawn from these {told['trades']} trades, {blocks['loss']:.0%} end below "
        f"their start; the middle one ends at {blocks['final_equity']['0.5'] - 1:+.1%}.",
        f"The deepest fall is {blocks['drawdown']['0.5']:.0%} in the middle history and "
        f"{blocks['drawdown']['0.95']:.0%} in one of twenty; "
        f"{blocks['ruin']:.1%} lose {told['sizing']['ruin']:.0%} of the start.",
    ]
    if worst["name"] not in ("trades", "blocks"):
        lines.append(f"With {worst['note']}: {worst['mean_r']:+.2f} R a trade, {worst['loss']:.0%} lose.")
    lines.append(share_words(blocks["mean_share"]))
    return lines


def share_words(mean_share: float | None) -> str:
    """Return a sentence on the share of the planned risk that the drawn trades take."""
    if mean_share is None:
        return (
            "The list does not tell what each trade risked of its plan (risk_quote, uncut_qty, plan_entry and plan_stop "
            "would): each risks all of it here, also where margin or a partial fill had cut it."
        )
    return f"Each trade keeps the share of its planned risk that it really took: {mean_share:.0%} in the mean."
