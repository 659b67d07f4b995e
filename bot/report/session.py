"""A session's report for a terminal: result, claims next to measurements, trades, and a note on reliability."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bot.core.times import utc
from bot.core.words import counted
from bot.results.claims import FEW_TRADES, claim_row
from bot.results.numbers import show


def render(report: Mapping[str, Any]) -> RenderableType:
    """Return the report for a terminal: result with exits and vetoes, claims next to measurements, trades."""
    summary = report["summary"]
    return Group(
        _result_table(summary), claims_table(summary["claims"]), trades_table(report["trades"]), _honest(summary)
    )


def _result_table(summary: Mapping[str, Any]) -> Table:
    table = Table(title="Session", title_justify="left", show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(justify="right")
    vetoes = ", ".join(f"{code} {n}" for code, n in summary["vetoes"].items()) or "none"
    exits = ", ".join(f"{code} {n}" for code, n in summary["exits"].items()) or "none"
    rows = (
        ("bars", f"{summary['bars']:,} in {summary['days']:.2f} days"),
        ("signals", f"{summary['signals']} ({show(summary['signals_per_day'], '.1f')} a day)"),
        ("vetoes", vetoes),
        ("setups that filled nothing", str(summary["setups_unfilled"])),
        ("trades", f"{summary['trades']} ({summary['trades_end_of_data']} closed by the end of the data)"),
        ("exits", exits),
        ("result", f"{summary['total_r']:+.2f} R, {summary['pnl']:+.2f} USDT"),
        ("of it BTC, hedge (gross)", f"{summary['alpha_r']:+.2f} R, {summary['hedge_r']:+.2f} R"),
        ("fees, funding", f"{summary['fees']:.2f}, {summary['funding']:.2f} USDT"),
        ("mean cost of a trade", f"{show(summary['avg_cost_r'], '.2f')} R"),
        ("deepest fall", f"{show(summary['max_drawdown'], '.2%')}, {summary['max_drawdown_r']:.2f} R"),
        ("longest time without a stop", f"{summary['naked_ms_max']:,} ms"),
        ("equity", f"{show(summary['initial_equity'], ',.2f')} → {show(summary['final_equity'], ',.2f')} USDT"),
    )
    for row in rows:
        table.add_row(*row)
    return table


def claims_table(found: Mapping[str, Any]) -> Table:
    """Return the recipe's claims next to the measurements, for a terminal."""
    table = Table(title="The recipe's claims beside what was measured", title_justify="left", pad_edge=False)
    table.add_column("claim")
    table.add_column("claimed")
    table.add_column("measured", justify="right")
    table.add_column("verdict")
    for figure, claim in found.items():
        table.add_row(*claim_row(figure, claim))
    return table


def trades_table(trades: Sequence[Mapping[str, Any]], last: int = 15) -> Table:
    """Return the last trades as a table, from rows of `results.trades.trade_row`."""
    title = f"Last {last} of {len(trades)} trades" if len(trades) > last else "Trades"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("closed (UTC)", "side", "exit", "qty", "entry", "exit price", "R", "BTC", "hedge", "cost"):
        left = heading in ("closed (UTC)", "side", "exit")
        table.add_column(
            heading, justify="left" if left else "right", overflow="fold", no_wrap=heading == "closed (UTC)"
        )
    for trade in trades[-last:]:
        table.add_row(
            utc(trade["closed_ms"]),
            trade["side"],
            trade["exit_reason"],
            f"{trade['qty']:g}",
            f"{trade['entry_price']:,.1f}",
            f"{trade['exit_price']:,.1f}",
            f"{trade['r_multiple']:+.2f}",
            f"{trade['alpha_r']:+.2f}",
            f"{trade['hedge_r']:+.2f}",
            show(trade["cost_r"], ".2f"),
        )
    return table


def _honest(summary: Mapping[str, Any]) -> Text:
    complete = summary["trades"] - summary["trades_end_of_data"]
    if not complete:
        return Text("No trade was completed: there is nothing to judge.")
    low, high = summary["win_rate_95"]
    text = f"A win rate over {counted(complete, 'trade')} lies, with 95 % confidence, between {low:.0%} and {high:.0%}."
    if complete < FEW_TRADES:
        text += f" Fewer than {FEW_TRADES} trades carry no verdict on the claims about trades."
    return Text(text)
