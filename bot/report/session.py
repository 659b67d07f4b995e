"""The report of a session: what was traded, what it cost, and the recipe's claims beside what was measured.

The strategy's authors claim a win rate of 62 to 68 %, a profit factor of 1.6, seven signals a day and more (strategy 10).
This report never assumes any of it. Each claim stands beside its measurement, with `null` where the session is too short or
nothing was traded, and with the number of trades it rests on: ten trades prove neither the claim nor its opposite.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bot.core.records import Decision, EquityPoint, TradeRecord
from bot.core.times import DAY_MS, utc
from bot.core.words import counted
from bot.report.tables import (
    END_OF_DATA,
    day_drawdown_r,
    filled,
    judged,
    max_drawdown,
    max_drawdown_r,
    mean,
    number,
    profit_factor,
    sharpe_daily,
    trade_row,
    wilson,
    win_rate,
)

BASE_MS = 180_000
FEW_TRADES = 30  # below, a win rate's 95 % interval is wider than 30 points: no verdict on a claim about trades

# name, words of the claim, lowest and highest value that keeps it, whether it speaks about trades
CLAIMS: tuple[tuple[str, str, float | None, float | None, bool], ...] = (
    ("win_rate", "62 to 68 %", 0.62, None, True),
    ("profit_factor", "at least 1.6", 1.6, None, True),
    ("signals_per_day", "about 7", 5.0, 9.0, False),
    ("expectancy_r", "0.276 R a trade", 0.276, None, True),
    ("day_drawdown_r", "at most 2.5 R", None, 2.5, False),
    ("max_drawdown", "below 8 %", None, 0.08, False),
    ("slippage", "below 0.06 %", None, 0.0006, True),
    ("day_return", "1.45 % a day", 0.0145, None, True),
    ("month_return", "31.88 % in 22 days", 0.3188, None, True),
    ("decision_ms", "price to order within 150 to 250 ms", None, 250.0, False),
)


def session_report(
    trades: Sequence[TradeRecord],
    *,
    decisions: Iterable[Decision] = (),
    equity: Sequence[EquityPoint] = (),
    meta: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return `{"summary": {...}, "trades": [...]}` as plain JSON values.

    Parameters
    ----------
    trades
        Every trade and every setup that filled nothing, in the order of their signals.
    decisions
        One a closed bar of the alpha symbol.
    equity
        Samples of equity, oldest first.
    meta
        What only the caller knows; taken over into the summary. Read here: `initial_equity`, `interval_ms`, `slippage`
        (mean fraction of the price, taker fills), `decision_ms` (closed kline to order, median), `bars`, `days`.
    """
    known = dict(meta or {})
    taken = filled(trades)
    completed = judged(trades)
    multiples = [trade.r_multiple for trade in taken]
    bars, signals, vetoes, span_ms = _count(decisions, int(known.get("interval_ms", BASE_MS)))
    days = float(known.get("days", span_ms / DAY_MS))
    first, last = _ends(equity, known, taken)
    change = last / first if first is not None and last is not None and first > 0 else None
    values = [*([] if first is None else [first]), *(float(point.equity) for point in equity)]
    values = values if equity else _equity_of_trades(first, taken)
    wins = sum(trade.pnl > 0 for trade in completed)
    costs = [float((trade.fees + trade.funding) / trade.risk_quote) for trade in taken if trade.risk_quote > 0]
    summary: dict[str, Any] = {
        **known,
        "bars": int(known.get("bars", bars)),
        "days": days,
        "signals": signals,
        "signals_per_day": signals / days if days > 0 else None,
        "vetoes": dict(vetoes.most_common()),
        "setups_unfilled": len(trades) - len(taken),
        "trades": len(taken),
        "trades_end_of_data": sum(trade.exit_reason == END_OF_DATA for trade in taken),
        "wins": wins,
        "win_rate": win_rate(trades),
        "win_rate_95": wilson(wins, len(completed)),
        "profit_factor": profit_factor(trades),
        "expectancy_r": mean(multiples),
        "total_r": sum(multiples),
        "alpha_r": sum(trade.alpha_r for trade in taken),
        "hedge_r": sum(trade.hedge_r for trade in taken),
        "avg_cost_r": mean(costs),
        "pnl": _total(taken, "pnl"),
        "fees": _total(taken, "fees"),
        "funding": _total(taken, "funding"),
        "max_drawdown": max_drawdown(values) if values else None,
        "max_drawdown_r": max_drawdown_r(multiples),
        "day_drawdown_r": day_drawdown_r(trades, equity),
        "sharpe_daily": sharpe_daily(equity),
        "naked_ms_max": max((trade.naked_ms for trade in taken), default=0),
        "exits": dict(Counter(trade.exit_reason for trade in taken).most_common()),
        "initial_equity": first,
        "final_equity": last,
        "return": change - 1 if change is not None else None,
        # A return of an hour says nothing of a day: no extrapolation.
        "day_return": change ** (1 / days) - 1 if change is not None and change > 0 and days >= 1 else None,
        "month_return": change ** (22 / days) - 1 if change is not None and change > 0 and days >= 22 else None,
        "slippage": known.get("slippage"),
        "decision_ms": known.get("decision_ms"),
    }
    summary["claims"] = claims(summary)
    return {"summary": summary, "trades": [trade_row(trade) for trade in taken]}


def _count(decisions: Iterable[Decision], interval_ms: int) -> tuple[int, int, Counter[str], int]:
    bars = signals = 0
    vetoes: Counter[str] = Counter()
    first = last = None
    for decision in decisions:
        bars += 1
        first = decision.open_ms if first is None else first
        last = decision.open_ms
        if decision.signal:
            signals += 1
            if decision.code not in ("no_signal", "entered"):
                vetoes[decision.code] += 1
    span_ms = last - first + interval_ms if first is not None and last is not None else 0
    return bars, signals, vetoes, span_ms


def _ends(
    equity: Sequence[EquityPoint], known: Mapping[str, Any], taken: Sequence[TradeRecord]
) -> tuple[float | None, float | None]:
    """Return equity at the beginning and at the end, None where neither a sample nor the caller tells."""
    given = known.get("initial_equity")
    first = float(given) if given is not None else float(equity[0].equity) if equity else None
    if equity:
        return first, float(equity[-1].equity)
    return first, first + float(_total(taken, "pnl")) if first is not None else None


def _equity_of_trades(first: float | None, taken: Sequence[TradeRecord]) -> list[float]:
    if first is None:
        return []
    values = [first]
    for trade in taken:
        values.append(values[-1] + float(trade.pnl))
    return values


def _total(trades: Sequence[TradeRecord], name: str) -> float | int:
    return number(sum((getattr(trade, name) for trade in trades), Decimal(0)))


def claims(summary: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return each of the recipe's claims beside the measurement; `met` is None where there is no verdict to give."""
    result: dict[str, dict[str, Any]] = {}
    few = summary["trades"] - summary["trades_end_of_data"] < FEW_TRADES
    for name, words, low, high, of_trades in CLAIMS:
        measured = summary.get(name)
        short = few if of_trades else not summary["days"] >= 1
        inside = measured is not None and (low is None or measured >= low) and (high is None or measured <= high)
        met = None if measured is None or short else inside
        result[name] = {"claimed": words, "low": low, "high": high, "measured": measured, "met": met}
    return result


def render(report: Mapping[str, Any]) -> RenderableType:
    """Return the report for a terminal: result, claims beside measurements, exits and vetoes."""
    summary = report["summary"]
    return Group(_result_table(summary), _claims_table(summary), trades_table(report["trades"]), _honest(summary))


def _result_table(summary: Mapping[str, Any]) -> Table:
    table = Table(title="Session", title_justify="left", show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(justify="right")
    vetoes = ", ".join(f"{code} {n}" for code, n in summary["vetoes"].items()) or "none"
    exits = ", ".join(f"{code} {n}" for code, n in summary["exits"].items()) or "none"
    rows = (
        ("bars", f"{summary['bars']:,} in {summary['days']:.2f} days"),
        ("signals", f"{summary['signals']} ({_show(summary['signals_per_day'], '.1f')} a day)"),
        ("vetoes", vetoes),
        ("setups that filled nothing", str(summary["setups_unfilled"])),
        ("trades", f"{summary['trades']} ({summary['trades_end_of_data']} closed by the end of the data)"),
        ("exits", exits),
        ("result", f"{summary['total_r']:+.2f} R, {summary['pnl']:+.2f} USDT"),
        ("of it BTC, hedge (gross)", f"{summary['alpha_r']:+.2f} R, {summary['hedge_r']:+.2f} R"),
        ("fees, funding", f"{summary['fees']:.2f}, {summary['funding']:.2f} USDT"),
        ("mean cost of a trade", f"{_show(summary['avg_cost_r'], '.2f')} R"),
        ("deepest fall", f"{_show(summary['max_drawdown'], '.2%')}, {summary['max_drawdown_r']:.2f} R"),
        ("longest time without a stop", f"{summary['naked_ms_max']:,} ms"),
        ("equity", f"{_show(summary['initial_equity'], ',.2f')} → {_show(summary['final_equity'], ',.2f')} USDT"),
    )
    for row in rows:
        table.add_row(*row)
    return table


CLAIM_FORMATS = {
    **dict.fromkeys(("win_rate", "max_drawdown", "day_return", "month_return"), ".2%"),
    "slippage": "z.3%",
    "decision_ms": ".0f",
    "signals_per_day": ".1f",
}


CLAIM_NAMES = {"day_drawdown_r": "day drawdown, day R"}


def _claims_table(summary: Mapping[str, Any]) -> Table:
    table = Table(title="The recipe's claims beside what was measured", title_justify="left", pad_edge=False)
    table.add_column("claim")
    table.add_column("claimed")
    table.add_column("measured", justify="right")
    table.add_column("")
    for name, claim in summary["claims"].items():
        verdict = {None: "no verdict", True: "as claimed", False: "not as claimed"}[claim["met"]]
        measured = _show(claim["measured"], CLAIM_FORMATS.get(name, ".3f"))
        table.add_row(CLAIM_NAMES.get(name, name.replace("_", " ")), claim["claimed"], measured, verdict)
    return table


def trades_table(trades: Sequence[Mapping[str, Any]], last: int = 15) -> Table:
    """Return the last trades as a table; rows as `tables.trade_row` makes them."""
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
            _show(trade["cost_r"], ".2f"),
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


def _show(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
