"""The terminal's summary of a comparison: verdict first, then the columns as a table."""

from typing import Any

from bot.market.store import format_time
from bot.parity.stream_printing import print_stretches
from bot.report.compared import percent
from bot.report.consoles import wide_console
from bot.strategy.rules import TITLES


def _percent(value: float | None) -> str:
    return "-" if value is None else percent(value).removesuffix(" %")


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _told(score: dict[str, Any] | None) -> str:
    """Return a score in one cell, by its kind."""
    if score is None or not score["bars"]:
        return "-"
    match score["kind"]:
        case "plot":
            r = score["correlation"]
            told = f"max {_short(score['max_error'])}, median {_short(score['median_error'])}"
            return told + (f", r {r:.4f}" if r is not None else "")
        case "state":
            return f"{_percent(score['agree'])} %, ours only {score['only_ours']}, theirs only {score['only_theirs']}"
    pairs = (f"{_percent(score[f'precision_{n}'])}/{_percent(score[f'recall_{n}'])}" for n in (0, 1))
    return f"{score['theirs']} theirs, {score['ours']} ours; precision/recall {' (±1: '.join(pairs)})"


def print_comparison(report: dict[str, Any]) -> None:
    """Print the report of `compare`."""
    from rich.markup import escape
    from rich.table import Table

    console = wide_console()
    export = report["export"]
    span = f"{format_time(export['from_ms'])[:16]} to {format_time(export['to_ms'])[:16]}"
    title = f"{export['file']}: {export['kind']}, {export['symbol']} {export.get('interval', '')}, {span}"
    console.print(f"[bold]{escape(title)}[/]", highlight=False)
    for sentence in report["verdict"]:
        console.print(f"- {escape(sentence)}", highlight=False)
    if report.get("columns"):
        table = Table("column", "feature", "bound by", "bars", "on the export's bars", "on our klines", "first differs")
        for row in report["columns"]:
            own = row["export_bars"]
            first = own["first_divergent_ms"]
            table.add_row(
                *(escape(row[name]) for name in ("column", "feature", "bound_by")),
                f"{own['bars']:,}",
                _told(own),
                _told(row["klines"]),
                "never" if first is None else format_time(first)[:16],
            )
        console.print(table, highlight=False)
    for side, rows in report.get("conditions", {}).items():
        table = Table("condition", "agree %", "ours", "theirs", "ours only", "theirs only", title=f"{side}: conditions")
        for name, score in rows.items():
            ours = ", ".join(TITLES[tag] for tag in score.get("borrowed", ()))
            borrowed = f" ({ours} are ours)" if ours else ""
            counts = (str(score[key]) for key in ("ours", "theirs", "only_ours", "only_theirs"))
            table.add_row(escape(TITLES.get(name, name) + borrowed), _percent(score["agree"]), *counts)
        console.print(table, highlight=False)
    if report.get("constants"):
        told = ", ".join(f"{row['column']} {row['value']:g}" for row in report["constants"])
        console.print(f"constant lines: {escape(told)}", highlight=False)
    for row in report.get("unbound", []):
        if "reason" in row:
            console.print(f"not bound: {escape(row['column'])} ({escape(row['reason'])})", highlight=False)
    for note in report.get("notes", []):
        console.print(f"note: {escape(note)}", highlight=False)
    if "bind_remembered" in report:
        console.print(f"the bind file is remembered as {escape(report['bind_remembered'])}", highlight=False)
    if report.get("stretches"):
        print_stretches(report, console)
    if "page" in report:
        console.print(f"both charts: {escape(report['page'])}", highlight=False)


def print_calibration(report: dict[str, Any]) -> None:
    """Print the report of `calibrate`."""
    from rich.markup import escape
    from rich.table import Table

    console = wide_console()
    for sentence in report["verdict"]:
        console.print(f"- {escape(sentence)}", highlight=False)
    table = Table(
        "family",
        "setting",
        "was",
        "fitted",
        "train before",
        "train after",
        "holdout before",
        "holdout after",
        "accepted",
    )
    for family in report["families"]:
        for step in family["steps"]:
            figures = (f"{step[key]:.4g}" for key in ("train_before", "train_after", "holdout_before", "holdout_after"))
            table.add_row(
                *(escape(str(step[key])) for key in ("family", "setting", "was", "value")),
                *figures,
                "yes" if step["accepted"] else "no",
            )
    if table.row_count:
        console.print(table, highlight=False)
    for row in report["not_fitted"]:
        console.print(f"not fitted: {escape(row['family'])}: {escape(row['reason'])}", highlight=False)
    for note in report.get("notes", []):
        console.print(f"note: {escape(note)}", highlight=False)
