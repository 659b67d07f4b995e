"""Terminal tables of a stream of alerts: comparison and fit."""

from collections.abc import Mapping
from typing import Any

from bot.report.consoles import wide_console


def _figure(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _interval(ends: tuple[float, float] | None, digits: int = 1) -> str:
    return "-" if ends is None else f"{ends[0]:.{digits}f} to {ends[1]:.{digits}f}"


def _at_both(row: Mapping[str, Any], name: str) -> str:
    return f"{_figure(row.get(f'{name}_0'))} · {_figure(row.get(f'{name}_1'))}"


def stretch_rows(row: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the table cells of a period's features."""
    return [
        (
            one["label"],
            f"{one['theirs']} ({_interval(one['theirs_interval'], 0)})",
            str(one["ours"]) if row["complete"] else "-",
            _at_both(one, "precision"),
            _at_both(one, "recall"),
            _at_both(one, "f1"),
            f"{_figure(one['chance_95_0'])} / {_figure(one['chance_0'])}",
            f"{_figure(one['chance_95_1'])} / {_figure(one['chance_1'])}",
            one["verdict"],
        )
        for one in row["features"]
    ]


def print_stream(report: Mapping[str, Any]) -> None:
    """Print the result of `compare` on a stream: the verdict, then a table per period, the rates and the ratios."""
    from rich.markup import escape
    from rich.table import Table

    console = wide_console()
    export = report["export"]
    title = f"{export['file']}: {export['kind']}, {export.get('alerts', 0)} alerts with times, {export.get('counts', 0)} counts"
    console.print(f"[bold]{escape(title)}[/]", highlight=False)
    for sentence in report["verdict"]:
        console.print(f"- {escape(sentence)}", highlight=False)
    print_stretches(report, console)
    if report["rates"]:
        table = Table(
            *(
                "symbol",
                "feature",
                "bars",
                "alerts per 1,000 (95 %)",
                "here",
                "spread of windows",
                "here on",
                "verdict",
            ),
            title="Rates per 1,000 bars, both sides together",
        )
        for row in report["rates"]:
            table.add_row(
                f"{row['symbol']} {row['interval']}",
                escape(row["label"]),
                f"{row['bars']:,}",
                f"{row['true']:.1f} ({_interval(row['true_interval'])})",
                _figure(row["ours"], 1),
                _interval(row["ours_spread"]),
                "-" if row["on"] is None else row["on"] + (f" ({row['windows']})" if row["windows"] else ""),
                escape(row["verdict"]),
            )
        console.print(table, highlight=False)
    if report["ratios"]:
        table = Table("symbol", "ratio", "alerts (95 %)", "here", "verdict", title="Ratios, which need no span")
        for row in report["ratios"]:
            figures = f"{row['true']:.2f} ({_interval(row['true_interval'], 2)})"
            place = f"{row['symbol']} {row['interval']}"
            table.add_row(place, escape(row["ratio"]), figures, _figure(row["ours"]), escape(row["verdict"]))
        console.print(table, highlight=False)
    for note in report["notes"]:
        console.print(f"note: {escape(note)}", highlight=False)
    if "page" in report:
        console.print(f"page: {escape(report['page'])}", highlight=False)


def print_stretches(report: Mapping[str, Any], console: Any) -> None:
    """Print a table for each period of a stream."""
    from rich.markup import escape
    from rich.table import Table

    for row in report.get("stretches", []):
        if not row["features"]:
            continue
        shifts = max(one["shifts"] for one in row["features"])
        chance = f"chance: 95 % / highest of {shifts} shifts"
        table = Table(
            *("feature", "alerts (95 %)", "here", "precision 0 · ±1", "recall 0 · ±1", "F1 0 · ±1"),
            *("chance at 0", "chance at ±1", "verdict"),
            title=escape(f"{row['label']} ({row['bars']:,} bars; {chance})"),
        )
        for cells in stretch_rows(row):
            table.add_row(*(escape(cell) for cell in cells))
        console.print(table, highlight=False)


def print_fit(report: Mapping[str, Any]) -> None:
    """Print the result of `calibrate` on streams: the verdict, then the trials of each grid."""
    from rich.markup import escape
    from rich.table import Table

    console = wide_console()
    for sentence in report["verdict"]:
        console.print(f"- {escape(sentence)}", highlight=False)
    table = Table(
        *("grid", "values", "alerts", "F1 as set", "F1 best", "chance of the grid", "later: as set", "later: best"),
        *("later: chance", "other: as set", "other: best", "accepted"),
        title="F1 on the bar; chance is the highest that the grid's best reaches on shifted alerts",
    )
    for row in report["grids"]:
        cells = (
            *(row["grid"], f"{row['values']:,}", str(row["alerts"])),
            *(_figure(row[name]) for name in ("train_before", "train_after", "train_chance")),
            *(_figure(row[name]) for name in ("holdout_before", "holdout_after", "holdout_chance")),
            *(_figure(row[name]) for name in ("other_before", "other_after")),
            "yes" if row["accepted"] else "no",
        )
        table.add_row(*(escape(cell) for cell in cells))
    if table.row_count:
        console.print(table, highlight=False)
    for row in report["not_fitted"]:
        console.print(f"not fitted: {escape(row['grid'])}: {escape(row['reason'])}", highlight=False)
    for note in report["notes"]:
        console.print(f"note: {escape(note)}", highlight=False)
