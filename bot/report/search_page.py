"""The page of a search: result, number of trials, and tests for overfitting and luck."""

from collections.abc import Mapping
from typing import Any

from bot.core.times import utc
from bot.report.backtest_parts import band, kind_of
from bot.report.page import Cell, Page, static, table, text, tiles
from bot.results.numbers import show


def search_page(told: Mapping[str, Any], contour: Mapping[str, Any] | None = None) -> Page:
    """Return the page for the result of `search.report.doubts`; `contour` is a plotly figure as plain values."""
    page = Page(f"Search of {told['trials']} trials")
    good = told["winner"]["feasible"] and (told["winner"].get("holdout") or {"expectancy_r": -1})["expectancy_r"] > 0
    lines = "".join(f"<p>{text(line)}</p>" for line in told["sentences"])
    page.head = f'<div class="verdict {"good" if good else "bad"}">{lines}</div>'
    page.foot = text("A search finds what fits the past. What it proposes is never applied by itself.")
    _outcome(page, told)
    _doubts(page, told)
    _history(page, told)
    if told["importance"]:
        names = list(told["importance"])[:15]
        page.section(
            "What mattered",
            page.plot(
                "rows",
                title="Importance of each setting",
                names=names,
                values=[told["importance"][name] for name in names],
                texts=[show(told["importance"][name], ".0%") for name in names],
                colour="c1",
            ),
            note="PED-ANOVA: how far a setting separates the best tenth of the trials from the rest.",
            short="Importance",
        )
    if contour is not None:
        _contour(page, contour)
    _best(page, told)
    return page


def _outcome(page: Page, told: Mapping[str, Any]) -> None:
    rows = []
    for name, who in (("the winner", told["winner"]), ("today's settings", told["default"])):
        for part, words in (("train", "searched on"), ("holdout", "never seen")):
            figures = who.get(part)
            if figures:
                mean = figures["expectancy_r"]
                rows.append(
                    [
                        Cell(f"{name}, {words}", "words"),
                        show(figures["profit_factor"]),
                        str(figures["trades"]),
                        show(figures["gross_r"], "+.3f"),
                        Cell(show(mean, "+.3f"), kind_of(mean)),
                        show(figures["max_drawdown"], ".1%"),
                    ]
                )
    task = told["task"]
    settings = [[Cell(name, "words mono"), str(value)] for name, value in sorted(told["winner"]["settings"].items())]
    note = (
        f"Searched on {utc(task['from_ms'])[:10]} to {utc(task['to_ms'])[:10]}; "
        f"never seen: {utc(task['holdout_from_ms'])[:10]} to {utc(task['holdout_to_ms'])[:10]}."
    )
    page.section(
        "What came out",
        table([Cell("", "words"), "PF", "trades", "gross R", "net R", "fall"], rows),
        note=note,
        wide=True,
        short="Outcome",
    )
    page.section("The winner's settings", table([Cell("setting", "words"), "value"], settings), short="Settings")


def _doubts(page: Page, told: Mapping[str, Any]) -> None:
    deflated, fits, luck = told["deflated_sharpe"], told["overfitting"] or {}, told["chance"]
    page.section(
        "Reasons to doubt it",
        tiles(
            [
                (
                    "Deflated Sharpe ratio",
                    show(deflated["probability"], ".0%"),
                    "probability that it is more than the luck of the search; 95 % is the usual demand",
                    "",
                ),
                (
                    "Sharpe ratio, a day",
                    show(deflated["sharpe_daily"], ".3f"),
                    f"the best of {deflated['trials']} worthless settings: {show(deflated['expected_best_of_chance'], '.3f')}",
                    "",
                ),
                (
                    "Probability of overfitting",
                    show(fits.get("probability"), ".0%"),
                    f"{fits.get('splits', 0):,} splits of {fits.get('days', 0)} days, over {fits.get('settings', 0)} settings",
                    "",
                ),
                ("Loses out of sample", show(fits.get("loss_probability"), ".0%"), "share of those splits", ""),
                (
                    "Equal searches on random entries",
                    show(luck.get("share_as_good"), ".0%"),
                    f"do as well; their median best has a profit factor of {show(luck.get('median_best_of_chance'))}",
                    "",
                ),
            ]
        ),
        "<h3>The winner in four parts of the time it was searched on</h3>",
        table(
            ["from", "to", "trades", "PF (R)", "net R"],
            [
                [
                    utc(fold["from_ms"])[:10],
                    utc(fold["to_ms"])[:10],
                    str(fold["trades"]),
                    show(fold["profit_factor_r"]),
                    Cell(show(fold["expectancy_r"], "+.3f"), kind_of(fold["expectancy_r"])),
                ]
                for fold in told["winner"]["folds"]
            ],
        ),
        note="Trades that touch a border are left out of both sides, and an hour after it (purge and embargo).",
        short="Doubts",
    )


def _history(page: Page, told: Mapping[str, Any]) -> None:
    points = [
        {
            "x": point["number"],
            "y": round(point["value"], 4),
            "colour": "good" if point["feasible"] else "quiet",
            "hint": f"trial {point['number']}\nprofit factor {point['value']:.2f}\n{point['trades']} trades\n"
            + ("keeps both constraints" if point["feasible"] else "breaks a constraint"),
        }
        for point in told["history"]
    ]
    page.section(
        "Trial by trial",
        page.plot(
            "dots",
            title="Profit factor of each trial",
            points=points,
            xlabel="trial",
            legend=[
                {"colour": "good", "text": "keeps both constraints"},
                {"colour": "quiet", "text": "breaks one"},
            ],
        ),
        note=f"{told['feasible']} of {told['trials']} trials keep both constraints.",
        short="Trials",
    )


def _best(page: Page, told: Mapping[str, Any]) -> None:
    rows = [
        [
            str(t["number"]),
            "yes" if t["feasible"] else "no",
            show(t["profit_factor"]),
            str(t["trades"]),
            show(t["gross_r"], "+.3f"),
            Cell(show(t["expectancy_r"], "+.3f"), kind_of(t["expectancy_r"])),
            show(t["max_drawdown"], ".1%"),
        ]
        for t in told["best"]
    ]
    figures = told["winner"].get("train_figures") or {}
    page.section(
        "The ten best",
        table(["trial", "keeps both", "PF", "trades", "gross R", "net R", "fall"], rows),
        note=f"Intervals of the winner: net R {band(figures.get('expectancy_r_95'))}, "
        f"profit factor in R {band(figures.get('profit_factor_r_95'), '.2f')}.",
        short="Best",
    )


def _contour(page: Page, contour: Mapping[str, Any]) -> None:
    from plotly.offline import get_plotlyjs

    page.data["contour"] = dict(contour)
    page.scripts += [get_plotlyjs(), static("contour.js")]
    page.section(
        "Settings against each other",
        '<div class="contour" id="contour-chart"></div>',
        note="Profit factor over the settings that mattered most; dots are trials.",
        wide=True,
        short="Contours",
    )
