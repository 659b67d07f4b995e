"""The page of a walk-forward: each slice's search next to its out-of-sample result."""

from collections.abc import Mapping
from typing import Any

from bot.core.times import utc
from bot.report.backtest_parts import band, kind_of
from bot.report.page import Cell, Page, table, text
from bot.results.numbers import show


def walk_forward_page(told: Mapping[str, Any]) -> Page:
    """Return the page for the result of `search.walk_forward.walk`."""
    rows_of, target = told["slices"], told["target_profit_factor"]
    page = Page(f"Walk-forward over {len(rows_of)} slices")
    good = told["out_of_sample"]["profit_factor"] >= target
    page.head = (
        f'<div class="verdict {"good" if good else "bad"}">'
        + "".join(f"<p>{text(line)}</p>" for line in told["sentences"])
        + "</div>"
    )
    names = [utc(row["from_ms"])[:10] for row in rows_of]
    figure = page.plot(
        "bars",
        title="Profit factor by slice",
        names=names,
        series=[
            {"name": "searched on", "values": [row["in_sample"]["profit_factor"] for row in rows_of], "colour": "c1"},
            {"name": "unseen", "values": [row["out_of_sample"]["profit_factor"] for row in rows_of], "colour": "c2"},
            {"name": "today's settings", "values": [row["today"]["profit_factor"] for row in rows_of], "colour": "c3"},
        ],
        marks=[{"at": target, "text": f"wanted: {target:g}"}],
        xlabel="begin of the slice",
        legend=[
            {"colour": "c1", "text": "in sample, the winner"},
            {"colour": "c2", "text": "out of sample, the winner"},
            {"colour": "c3", "text": "out of sample, today's settings"},
        ],
    )
    rows = []
    for row in rows_of:
        cells: list[Any] = [Cell(f"{utc(row['from_ms'])[:10]} to {utc(row['to_ms'])[:10]}", "words")]
        cells.append("yes" if row["feasible"] else "no")
        for part in ("in_sample", "out_of_sample", "today"):
            figures = row[part]
            mean = figures["expectancy_r"] if figures["trades"] else None
            cells += [show(figures["profit_factor"]), str(figures["trades"]), Cell(show(mean, "+.2f"), kind_of(mean))]
        rows.append(cells)
    head = [
        Cell("slice", "words"),
        "feasible",
        "in: PF",
        "trades",
        "R",
        "out: PF",
        "trades",
        "R",
        "today: PF",
        "trades",
        "R",
    ]
    unseen = told["out_of_sample"]
    page.section(
        "In and out of sample",
        figure,
        table(head, rows),
        note=f"{told['trials']} trials a slice. All unseen trades together: {band(unseen['expectancy_r_95'])} R a trade, "
        f"profit factor in R {band(unseen['profit_factor_r_95'], '.2f')} (95 %).",
        wide=True,
        short="Slices",
    )
    settings = sorted({name for row in rows_of for name in row["settings"]})
    page.section(
        "What each slice chose",
        table(
            [Cell("setting", "words"), *names],
            [[Cell(name, "words mono"), *(str(row["settings"].get(name, "")) for row in rows_of)] for name in settings],
        ),
        note="Settings that jump from slice to slice were fitted to noise.",
        wide=True,
        short="Settings",
    )
    return page
