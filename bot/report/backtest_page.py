"""`report.html` of a back-test: one file with results, charts and all assumptions.

The order is that of a reader's questions: what was the result, does it meet the claims, how did equity develop, where
did the result come from (months, exits, excursions, hedge, costs), was it more than luck, why are there so few trades,
and what was assumed.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bot.config import Config
from bot.core.times import utc
from bot.report import backtest_money as money
from bot.report import backtest_parts as parts
from bot.report import backtest_why as why
from bot.report.backtest_parts import Controls
from bot.report.page import Page, lightweight_charts, static, text
from bot.results.backtest import Result
from bot.results.summary import report_figures


def changed_settings(config: Config) -> dict[str, Any]:
    """Return the settings that differ from their defaults, by dotted name."""

    def walk(value: Mapping[str, Any], other: Mapping[str, Any], path: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, item in value.items():
            name = f"{path}{key}"
            if isinstance(item, Mapping):
                found |= walk(item, other[key], f"{name}.")
            elif item != other[key]:
                found[name] = item
        return found

    return walk(config.model_dump(), Config().model_dump(), "")


def build_page(result: Result, controls: Controls | None = None) -> Page:
    """Return the report as an unwritten page."""
    controls = controls or Controls()
    figures = report_figures(result)
    columns = result.table()
    span = f"{utc(result.from_ms)[:10]} to {utc(result.to_ms)[:10]}"
    page = Page(f"Back-test {result.config.data.symbols[0]}, {result.profile}, {span}")
    kind, sentences = parts.verdict(figures, controls)
    lines = [f"<p><strong>{text(sentences[0])}</strong></p>", *(f"<p>{text(line)}</p>" for line in sentences[1:])]
    page.head = f'<div class="verdict {kind}">{"".join(lines)}</div>'
    page.foot = text(
        "Past results say little about future ones. R is what a trade risked; gross is before fees, spread, "
        "slippage and funding. Intervals are 95 % bootstraps with a fixed seed."
    )
    parts.overview(page, figures)
    parts.equity(page, result, (lightweight_charts(), static("equity.js")))
    parts.claims(page, figures["claims"])
    parts.monthly(page, result)
    parts.distribution(page, columns)
    parts.excursions(page, columns)
    money.costs(page, columns, figures)
    money.hedge(page, columns, figures, controls)
    money.chance(page, controls)
    why.funnel(page, figures["funnel"])
    why.near_misses(page, result)
    why.by_time(page, result)
    why.trades(page, columns)
    why.assumptions(page, result, changed_settings(result.config))
    return page


def write_page(result: Result, path: Path, controls: Controls | None = None) -> None:
    """Write `report.html` atomically.

    Parameters
    ----------
    controls
        The same range without hedge, with the literal hedge, at other fees, and random entries (`search.controls`).
    """
    build_page(result, controls).write(path)
