"""The comparison as one HTML file: verdict, exported chart and ours with a shared cursor, and figures.

The file is self-contained and can be mailed. A click on the bar where a column first differs moves both charts there;
marks on only one side carry an exclamation mark.
"""

import math
from html import escape
from pathlib import Path
from typing import Any, Final

import numpy as np

from bot.core.times import utc
from bot.report.charts import document, scripts_of, write_page
from bot.results.numbers import DASH

MOST_BARS: Final = 20_000  # newest bars drawn; the figures cover all bars
APART: Final = 50.0  # lines that differ in size by more than this factor get separate panes
_UP: Final = ("bull", "up", "long")
_STYLE: Final = """
.twin { height: clamp(18rem, 44vh, 30rem); border: 1px solid var(--line); margin-bottom: .6rem; }
.twin.tall { height: clamp(22rem, 46vh, 44rem); }
#cursor { font-size: .85rem; min-height: 2.6em; padding: .2rem 0; }
#cursor { position: sticky; top: 0; z-index: 5; background: var(--ground); }
#cursor > * { white-space: nowrap; margin-right: .7rem; } #cursor b.apart { color: var(--bad); }
#verdict { padding-left: 1.1rem; list-style: disc; } #verdict .head { font-weight: 600; }
.side { display: flex; gap: .6rem; align-items: baseline; }
table { border-collapse: collapse; font-size: .85rem; }
td, th { padding: .2rem .6rem; text-align: left; border-bottom: 1px solid var(--line); }
.wide { overflow-x: auto; } li { margin: .2rem 0; }
"""


def _digits(values: np.ndarray) -> int:
    known = np.abs(values[np.isfinite(values)])
    size = float(np.median(known)) if len(known) else 0.0
    return 2 if size == 0.0 else int(min(8, max(0, 4 - math.floor(math.log10(size)))))


def _short(feature: str) -> str:
    """Return the short label next to a mark.

    >>> _short("so_bullish_strong"), _short("om_cross_up"), _short("long_signal")
    ('bullish+', 'cross', 'long')
    """
    word = feature.split("_", 1)[1] if feature.split("_")[0] in ("so", "om", "smc", "pac") else feature
    word = word.replace("_strong", "+")
    for end in ("_up", "_down", "_signal"):
        word = word.removesuffix(end)
    return word.replace("_", " ")


def _panes(series: list[dict[str, Any]], close: np.ndarray) -> list[int]:
    """Return the pane of each series: the price pane if its size is similar, else one pane per family, four at most.

    Lines of one family that differ widely in size (a volume and a wave) would flatten each other, so they are separated.
    """
    middle = float(np.nanmedian(close))
    groups: list[tuple[str, float]] = []
    panes = []
    for one in series:
        known = one["theirs"][np.isfinite(one["theirs"])]
        on_price = one["kind"] == "plot" and len(known) > 0 and abs(float(np.median(known)) / middle - 1.0) < 0.5
        if on_price or one["kind"] == "event":
            panes.append(0)
            continue
        name = one["family"] if one["kind"] != "state" else "states"
        size = max(float(np.quantile(np.abs(known), 0.9)), 1e-12) if len(known) and name != "states" else 1.0
        fits = [i for i, (other, had) in enumerate(groups) if other == name and 1 / APART < size / had < APART]
        if not fits:
            groups.append((name, size))
            fits = [len(groups) - 1]
        panes.append(min(fits[0] + 1, 4))
    return panes


def page_data(page: dict[str, Any]) -> dict[str, Any]:
    """Return the data that the script draws: times in s, bars and series of both sides, marks as bar numbers."""
    first = max(0, len(page["open_ms"]) - MOST_BARS)
    cut = slice(first, None)
    close = page["theirs"]["close"][cut]
    decimals = max(1, _digits(close) - 1) if float(np.nanmedian(close)) < 1000 else 2
    series = []
    for one, pane in zip(page["series"], _panes(page["series"], close), strict=True):
        drawn: dict[str, Any] = {
            "label": one["label"],
            "short": _short(one["feature"]),
            "kind": "event" if one["kind"] == "event" else "state" if one["kind"] == "state" else "plot",
            "up": any(word in one["feature"] for word in _UP) and "down" not in one["feature"],
            "pane": pane,
            "decimals": 0 if one["kind"] == "state" else min(4, _digits(one["theirs"])),
        }
        for side in ("theirs", "ours"):
            values = one[side][cut]
            if one["kind"] == "event":
                drawn[side] = np.flatnonzero(np.isfinite(values) & (values != 0.0))
            else:
                drawn[side] = np.round(values, _digits(one["theirs"]) + 2)
        series.append(drawn)
    return {
        "time": page["open_ms"][cut] // 1000,
        "decimals": decimals,
        "theirs": {name: values[cut] for name, values in page["theirs"].items()},
        "ours": {name: values[cut] for name, values in page["ours"].items()},
        "series": series,
    }


def _share(value: float) -> str:
    """Return a share in per cent; never 100 for less than all."""
    return f"{min(100 * value, 99.99) if value < 1.0 else 100:.2f}"


def _cell(value: Any) -> str:
    if value is None:
        return DASH
    return escape(f"{value:.4g}" if isinstance(value, float) else str(value))


def _at(ms: int | None) -> str:
    if ms is None:
        return "never"
    return f'<button type="button" class="small" data-at="{ms // 1000}">{escape(utc(ms))}</button>'


def _columns_table(report: dict[str, Any]) -> str:
    head = (
        *("column", "feature", "bound by", "bars", "agree %", "max error", "median error", "correlation"),
        *("precision / recall", "within 1 bar", "first differs", "agree % on our klines"),
    )
    rows = []
    for row in report.get("columns", []):
        own, klines = row["export_bars"], row["klines"]
        pairs = [f"{_cell(own.get(f'precision_{n}'))} / {_cell(own.get(f'recall_{n}'))}" for n in (0, 1)]
        cells = [
            *(_cell(row[name]) for name in ("column", "feature", "bound_by")),
            f"{own['bars']:,}",
            _share(own["agree"]),
            *(_cell(own.get(name)) for name in ("max_error", "median_error", "correlation")),
            *(pairs if own["kind"] in ("event", "wave") else (DASH, DASH)),
            _at(own["first_divergent_ms"]),
            _share(klines["agree"]) if klines is not None and klines["bars"] else DASH,
        ]
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return _table("Columns", head, rows)


def _conditions_table(report: dict[str, Any]) -> str:
    rows = []
    for side, found in report.get("conditions", {}).items():
        for name, score in found.items():
            borrowed = f" (ours on both sides: {', '.join(score['borrowed'])})" if score.get("borrowed") else ""
            cells = (
                *(escape(side), escape(name + borrowed), f"{score['bars']:,}", _share(score["agree"])),
                *(str(score[key]) for key in ("ours", "theirs", "only_ours", "only_theirs")),
                _at(score["first_divergent_ms"]),
            )
            rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    head = ("side", "condition", "bars", "agree %", "ours", "theirs", "ours only", "theirs only", "first differs")
    return _table("Conditions and signal", head, rows)


def _facts_table(report: dict[str, Any]) -> str:
    """Return alerts or trades as a table of counts."""
    rows = []
    for name, found in report.get("alerts", {}).items():
        told = {key: value for key, value in found.items() if not isinstance(value, list)}
        rows += [
            f"<tr><td>{escape(name)}</td><td>{escape(key)}</td><td>{_cell(v)}</td></tr>" for key, v in told.items()
        ]
    for key, value in report.get("trades", {}).items():
        if not isinstance(value, list):
            rows.append(f"<tr><td>trades</td><td>{escape(key)}</td><td>{_cell(value)}</td></tr>")
    return _table("Matched", ("what", "figure", "value"), rows)


def _unbound_table(report: dict[str, Any]) -> str:
    rows = [
        f"<tr><td>{_cell(row.get('column', row.get('alert')))}</td><td>{_cell(row.get('reason', row.get('count')))}</td></tr>"
        for row in report.get("unbound", [])
    ]
    rows += [
        f"<tr><td>{_cell(row['column'])}</td><td>constant {_cell(row['value'])}</td></tr>"
        for row in report.get("constants", [])
    ]
    return _table("Not compared", ("column", "why"), rows)


def _table(title: str, head: tuple[str, ...], rows: list[str]) -> str:
    if not rows:
        return ""
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    return f'<h2>{escape(title)}</h2><div class="wide"><table><tr>{top}</tr>{"".join(rows)}</table></div>'


def _sentence(report: dict[str, Any], sentence: str) -> str:
    """Return one sentence of the verdict as a list item, highlighted if the stored headline starts with it."""
    head = ' class="head"' if report["headline"].startswith(sentence) else ""
    return f"<li{head}>{escape(sentence)}</li>"


def page(report: dict[str, Any], drawn: dict[str, Any]) -> str:
    """Return the report of `compare` as a self-contained page; `drawn` holds the chart series, empty for no charts."""
    export = report["export"]
    charts = scripts = ""
    if drawn:
        data = page_data(drawn)
        tall = " tall" if any(one["pane"] > 1 for one in data["series"]) else ""
        charts = (
            '<p id="cursor" class="chart-legend"></p>'
            '<div class="side"><h2>Your chart</h2><button type="button" class="small" id="colours">Colours</button></div>'
            f'<div id="theirs" class="twin{tall}"></div>'
            f'<h2>This bot, on {escape(drawn["ours_from"])}</h2><div id="ours" class="twin{tall}"></div>'
            "<p>Under the cursor: the chart's value / ours, and events that stand there on either side. Marks with ! are on one "
            "side only; closer to, the others have their names too.</p>"
        )
        scripts = scripts_of(data, name="compare-data", entry="compare_page.js")
    verdict = "".join(_sentence(report, sentence) for sentence in report["verdict"])
    tables = (_columns_table, _conditions_table, _facts_table, _unbound_table)
    return document(
        title=f"{export['file']}: does it match?",
        body=f'<ul id="verdict">{verdict}</ul>\n{charts}\n{"".join(make(report) for make in tables)}',
        scripts=scripts,
        style=_STYLE,
    )


def write(path: Path, report: dict[str, Any], drawn: dict[str, Any]) -> None:
    """Write the page atomically."""
    write_page(path, page(report, drawn))
