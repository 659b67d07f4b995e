"""A chart as one self-contained HTML file, viewable offline in any browser.

The page bundles the same modules that the dashboard serves; the drawing library (Lightweight Charts, Apache 2.0, by
TradingView) comes from the installed package `lwcharts` and keeps its licence header.
"""

import functools
import os
import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any, Final

import orjson

from bot.core.errors import BotError, ConfigError

STATIC: Final = Path(__file__).with_name("static")
ENTRY: Final = "file_page.js"
LIBRARY: Final = "lightweight-charts.js"  # its name on the dashboard
CREDIT: Final = (
    'Charts drawn with <a href="https://www.tradingview.com/">TradingView</a> Lightweight Charts™, '
    "Copyright © TradingView, Inc., Apache License 2.0."
)
_IMPORT: Final = re.compile(r'^import .*? from "/([\w.]+)";\n', re.MULTILINE)
_POLICY: Final = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"
_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>
{style}
</style>
</head>
<body>
<main class="file">
<h1>{title}</h1>
{body}
<p class="credit">{credit}</p>
</main>
<noscript>The charts need JavaScript.</noscript>
{scripts}
</body>
</html>
"""


@functools.cache
def library() -> str:
    """Return the source of the drawing library, with its licence header.

    Raises
    ------
    BotError
        The package `lwcharts` is missing or incomplete.
    """
    try:
        found = resources.files("lwcharts") / "vendor" / "lightweight-charts.standalone.production.js"
        return re.sub(r"^//# sourceMappingURL=.*\n?", "", found.read_text(encoding="utf-8"), flags=re.MULTILINE)
    except (ModuleNotFoundError, OSError) as error:
        raise BotError(
            f"the package lwcharts with the chart library is not installed: {error}; run make setup"
        ) from None


def modules(entry: str = ENTRY) -> list[str]:
    """Return the names of the modules that `entry` needs, each after those it imports."""
    done: list[str] = []

    def visit(name: str) -> None:
        if name in done:
            return
        for needed in _IMPORT.findall((STATIC / name).read_text(encoding="utf-8")):
            visit(needed)
        done.append(name)

    visit(entry)
    return done


def bundle(entry: str = ENTRY) -> str:
    """Return the modules that `entry` needs as one script, without imports and exports; their names must not clash."""
    parts = []
    for name in modules(entry):
        text = _IMPORT.sub("", (STATIC / name).read_text(encoding="utf-8"))
        parts.append(re.sub(r"^export (?=const|class|function|async)", "", text, flags=re.MULTILINE))
    return "\n".join(parts)


def inline_json(value: Any) -> str:
    """Return JSON that is safe inside a script element."""
    text = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY).decode()
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _inside(script: str) -> str:
    """Return a script that is safe inside a script element."""
    return script.replace("</script", "<\\/script")


def scripts_of(data: Any, *, name: str, entry: str = ENTRY) -> str:
    """Return the script elements of a page: its data as JSON under the id `name`, the library, and the modules of `entry`."""
    return (
        f'<script type="application/json" id="{name}">{inline_json(data)}</script>\n'
        f"<script>{_inside(library())}</script>\n"
        f'<script type="module">\n{_inside(bundle(entry))}\n</script>'
    )


def document(*, title: str, body: str, scripts: str, style: str = "") -> str:
    """Return a page that loads nothing.

    Parameters
    ----------
    title
        Title, escaped here.
    body
        HTML between title and credit.
    scripts
        Script elements, as from `scripts_of`.
    style
        CSS appended to the dashboard's style sheets.
    """
    sheets = [(STATIC / name).read_text(encoding="utf-8") for name in ("style.css", "chart.css")]
    return _PAGE.format(
        policy=_POLICY,
        title=escape(title),
        style="\n".join(sheets) + style,
        body=body,
        credit=CREDIT,
        scripts=scripts,
    )


def page(
    charts: Sequence[Mapping[str, Any]], *, title: str, note: str, trades: Sequence[Mapping[str, Any]] = ()
) -> str:
    """Return a self-contained page with a tab for each chart.

    Parameters
    ----------
    charts
        Payloads of `chart_data.ChartTape`.
    title, note
        Texts of the page, escaped here.
    trades
        Trades to mark, as from `chart_data.trade_marks`.
    """
    return document(
        title=title,
        body=f'<div id="chart"></div>\n<p class="credit">{escape(note)}</p>',
        scripts=scripts_of({"charts": list(charts), "trades": list(trades)}, name="chart-data"),
    )


def write_page(path: Path, text: str) -> None:
    """Write a page, or any text file, atomically.

    Raises
    ------
    ConfigError
        Its folder does not exist or cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise ConfigError(f"--out {path} cannot be written: {error.strerror or error}") from None
    finally:
        temporary.unlink(missing_ok=True)
