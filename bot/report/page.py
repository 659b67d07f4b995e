"""A report as one self-contained HTML file that can be mailed, archived and opened offline.

Style, scripts and data are inside the file; a content security policy forbids it to load anything. All text goes through
`html.escape`. Each chart is data (JSON) drawn by a script inside the file, so the same page works on phone and desktop, in
light and dark mode.
"""

import html
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from bot.results.numbers import DASH

POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline' 'unsafe-eval'; img-src data: blob:"


def static(name: str) -> str:
    """Return a file of `report/static` as text."""
    return (files("bot.report") / "static" / name).read_text(encoding="utf-8")


def lightweight_charts() -> str:
    """Return the library of time charts from the installed package `lwcharts` (Apache-2.0)."""
    found = files("lwcharts") / "vendor" / "lightweight-charts.standalone.production.js"
    return found.read_text(encoding="utf-8")


def text(value: Any) -> str:
    """Return `value` as escaped text."""
    return html.escape(str(value))


def plain(value: Any) -> Any:
    """Convert `value` to plain JSON values: NaN and infinity to None, numpy to Python types."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist") and not isinstance(value, str | bytes):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    return str(value)


def json_inside(value: Any) -> str:
    """Return JSON that is safe inside a script element: nothing in it can end the element."""
    dumped = json.dumps(plain(value), separators=(",", ":"), allow_nan=False)
    return dumped.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


@dataclass
class Cell:
    """A table cell: its text, a CSS class, and a heat from -1 (bad) to 1 (good) as background colour."""

    words: str
    kind: str = ""
    heat: float | None = None
    span: int = 1

    def html(self, tag: str = "td") -> str:
        """Return the cell's HTML element."""
        kinds, style = self.kind, ""
        if self.heat is not None and math.isfinite(self.heat) and self.heat != 0:
            share = round(10 + 55 * min(1.0, abs(self.heat)))
            role = "good" if self.heat > 0 else "bad"
            style = f' style="background:color-mix(in srgb, var(--{role}) {share}%, transparent)"'
            kinds = f"{kinds} heat".strip()
        span = f' colspan="{self.span}"' if self.span > 1 else ""
        named = f' class="{text(kinds)}"' if kinds else ""
        return f"<{tag}{named}{span}{style}>{text(self.words)}</{tag}>"


def cell(value: Any) -> Cell:
    """Convert any value to a cell."""
    return value if isinstance(value, Cell) else Cell(DASH if value is None else str(value))


def table(head: Sequence[Any], rows: Iterable[Sequence[Any]], *, tall: bool = False, total: bool = False) -> str:
    """Return an HTML table.

    Parameters
    ----------
    head, rows
        Cells or values.
    tall
        Scroll inside the table.
    total
        Set off the last row.
    """
    body = [list(map(cell, row)) for row in rows]
    top = "".join(cell(name).html("th") for name in head)
    lines = []
    for i, row in enumerate(body):
        last = ' class="total"' if total and i == len(body) - 1 else ""
        lines.append(f"<tr{last}>{''.join(c.html() for c in row)}</tr>")
    return (
        f'<div class="{"tall" if tall else "scroll"}"><table><thead><tr>{top}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def tiles(items: Iterable[tuple[str, str, str, str]]) -> str:
    """Return number tiles of (label, value, note, class)."""
    found = "".join(
        f'<div class="tile"><div class="label">{text(label)}</div><div class="value {text(kind)}">{text(value)}</div>'
        f'<div class="note">{text(note)}</div></div>'
        for label, value, note, kind in items
    )
    return f'<div class="tiles">{found}</div>'


def paragraph(words: str, kind: str = "quiet") -> str:
    """Return a paragraph of escaped text."""
    return f'<p class="{kind}">{text(words)}</p>'


@dataclass
class Page:
    """Collects sections and data and renders them as one file."""

    title: str
    sections: list[str] = field(default_factory=list)
    links: list[tuple[str, str]] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)
    scripts: list[str] = field(default_factory=list)
    head: str = ""
    foot: str = ""

    def section(self, title: str, *parts: str, note: str = "", wide: bool = False, short: str = "") -> None:
        """Add a section.

        Parameters
        ----------
        title
            Heading, escaped here.
        *parts
            HTML of the section.
        note
            Paragraph below the heading, escaped here.
        wide
            Use the full width of the page.
        short
            Name in the navigation at the top; empty for none.
        """
        place = f"s{len(self.sections)}"
        if short:
            self.links.append((place, short))
        quiet = paragraph(note) if note else ""
        kind = ' class="wide"' if wide else ""
        self.sections.append(f'<section id="{place}"{kind}><h2>{text(title)}</h2>{quiet}{"".join(parts)}</section>')

    def plot(self, kind: str, **spec: Any) -> str:
        """Add a chart's data and return its placeholder element; `kind` is a chart type of `plots.js`."""
        name = f"d{len(self.data)}"
        self.data[name] = {"kind": kind, **spec}
        return f'<div class="plot" data-from="{name}"></div>'

    def html(self) -> str:
        """Return the complete HTML file."""
        links = "".join(f'<a href="#{place}">{text(words)}</a>' for place, words in self.links)
        data = "".join(
            f'<script type="application/json" id="{name}">{json_inside(value)}</script>\n'
            for name, value in self.data.items()
        )
        scripts = "".join(f"<script>{script}</script>\n" for script in [static("plots.js"), *self.scripts])
        nav = f"<nav><div>{links}</div></nav>" if links else ""
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
            f"<title>{text(self.title)}</title>\n<style>{static('report.css')}</style>\n</head>\n<body>\n"
            f'<header class="top"><h1>{text(self.title)}</h1>{self.head}</header>\n{nav}\n<main>\n'
            + "\n".join(self.sections)
            + f"\n</main>\n<footer>{self.foot}</footer>\n{data}{scripts}</body>\n</html>\n"
        )

    def write(self, path: Path) -> None:
        """Write the file atomically."""
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            temporary.write_text(self.html(), encoding="utf-8")
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
