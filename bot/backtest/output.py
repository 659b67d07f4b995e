"""Output of a back-test: the summary with claims next to measurements, and the files of `--out`.

`summary.json`, `trades.parquet`, `equity.parquet`, `funnel.json` and `report.html` are written to a folder next to
`--out` and moved there when all are complete: a failed command leaves nothing.
"""

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bot.core.errors import BotError, ConfigError
from bot.core.times import utc
from bot.report.backtest_page import write_page
from bot.report.backtest_parts import Controls
from bot.report.session import claims_table
from bot.results.backtest import BacktestTrade, Result
from bot.results.claims import CLAIMED_EXPECTANCY_R, FEW_TRADES
from bot.results.numbers import show
from bot.results.summary import report_figures
from bot.results.trades import trade_row

HIGH_TAKER_FEE: Final = 0.0005  # the venue's standard rate, printed next to the result at the account's own rate


def slippage_of(trades: tuple[BacktestTrade, ...]) -> float | None:
    """Return the mean slippage of BTC's taker fills as a fraction of the price."""
    paid = value = 0.0
    for trade in trades:
        record = trade.record
        taken = [f for f in record.fills if f.symbol == record.symbol and not f.maker and f.fee > 0]
        value += sum(float(f.qty * f.price) for f in taken)
        paid += trade.cost.slippage * float(record.risk_quote)
    return paid / value if value > 0 else None


def at_taker_fee(result: Result, fee: float = HIGH_TAKER_FEE) -> dict[str, float | None]:
    """Return expectancy and total R of the same trades with every taker fill charged `fee`."""
    extra = fee - result.config.venue.sim.taker_fee
    net = []
    for trade in result.trades:
        record = trade.record
        taken = sum(float(f.qty * f.price) for f in record.fills if not f.maker and f.fee > 0)
        risk = float(record.risk_quote)
        net.append(trade.net_r - extra * taken / risk if risk > 0 else 0.0)
    return {"taker_fee": fee, "expectancy_r": float(np.mean(net)) if net else None, "total_r": float(np.sum(net))}


def summary(result: Result) -> dict[str, Any]:
    """Return all figures as plain JSON values: `summary.json`."""
    figures = report_figures(result)
    figures.pop("funnel", None)
    vetoes = Counter(d.code for d in result.decisions if d.code != "entered")
    slippage = slippage_of(result.trades)
    found: dict[str, Any] = {
        "profile": result.profile,
        "source": result.source,
        "data_hash": result.data_hash,
        "from_ms": result.from_ms,
        "to_ms": result.to_ms,
        "bars": result.bars,
        **figures,
        "slippage": slippage,
        "vetoes": dict(vetoes.most_common()),
        "setups_unfilled": dict(Counter(t.exit_reason for t in result.unfilled).most_common()),
        "exits": dict(Counter(t.record.exit_reason for t in result.trades).most_common()),
        "soft_stops": result.soft_stops,
        "near_misses": len(result.near_misses),
        "at_high_taker_fee": at_taker_fee(result),
        "assumptions": dict(result.assumptions),
        "warnings": list(result.warnings),
        "signals_cached": result.signals_cached,
        "seconds": result.seconds,
        "bars_per_second": result.bars_per_second,
    }
    found["claims"] = {**figures["claims"]}
    claim = found["claims"].get("slippage")
    if claim is not None:
        claim["measured"] = slippage  # an assumption is no measurement: no verdict
    return found


def trade_rows(result: Result) -> dict[str, np.ndarray]:
    """Return the columns of `trades.parquet`: plan, result, costs, exit; fills, notes and evidence as JSON text."""
    table = dict(result.table())
    rows = [trade_row(t.record) for t in result.trades]
    table["fills"] = np.array([json.dumps(r["fills"]) for r in rows], object)
    table["notes"] = np.array([json.dumps(r["notes"]) for r in rows], object)
    table["evidence"] = np.array([json.dumps(t.decision.values) for t in result.trades], object)
    return table


def write_parquet(path: Path, table: Mapping[str, np.ndarray]) -> None:
    """Write columns of numbers, flags and strings as Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = {
        name: pa.array(column.tolist(), pa.string()) if column.dtype == object else pa.array(column)
        for name, column in table.items()
    }
    pq.write_table(pa.table(arrays), path, compression="zstd")


def near_miss_rows(result: Result) -> list[dict[str, Any]]:
    """Return the near misses as plain objects."""
    return [
        {
            "open_ms": miss.open_ms,
            "side": miss.side.name,
            "missing": miss.missing,
            "net_r": miss.trade.net_r if miss.trade else None,
            "gross_r": miss.trade.gross_r if miss.trade else None,
            "outcome": miss.trade.record.exit_reason if miss.trade else miss.outcome,
        }
        for miss in result.near_misses
    ]


def check_out(out: Path) -> None:
    """Validate the output folder of the report.

    Raises
    ------
    ConfigError
        `out` is a file, or its parent folder does not exist.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out} is a file: name a folder for the report")
    if not out.absolute().parent.is_dir():
        raise ConfigError(f"--out {out}: the folder {out.absolute().parent} does not exist; make it first")


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Yield a temporary folder whose files are moved to `out` on success and deleted on failure.

    Raises
    ------
    ConfigError
        `out` is a file, or its parent folder does not exist.
    BotError
        `out` cannot be written.
    """
    check_out(out)
    place = out.absolute()
    making = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    try:
        making.mkdir()
        yield making
        if place.is_dir():
            for file in sorted(making.iterdir()):
                file.replace(place / file.name)
        else:
            making.replace(place)
    except OSError as error:
        raise BotError(f"--out {out} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(making, ignore_errors=True)


def write_report(result: Result, out: Path, *, controls: Controls | None = None) -> dict[str, Any]:
    """Write all files of a back-test to `out`, all or none; return the summary.

    Parameters
    ----------
    controls
        Control runs shown next to the result on the page (`search.controls`).
    """
    told = summary(result)
    funnel = report_figures(result)["funnel"] | {"near_misses": near_miss_rows(result)}
    line = result.equity
    with whole_folder(out) as folder:
        (folder / "summary.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
        (folder / "funnel.json").write_text(json.dumps(funnel, indent=2) + "\n", encoding="utf-8")
        write_parquet(folder / "trades.parquet", trade_rows(result))
        names = ("at_ms", "wallet", "equity", "peak", "day_r")
        write_parquet(folder / "equity.parquet", {name: getattr(line, name) for name in names})
        write_page(result, folder / "report.html", controls)
    return told


# For a terminal -----------------------------------------------------------------------------------------------------------


def render(told: Mapping[str, Any]) -> RenderableType:
    """Return the summary for a terminal: result, claims next to measurements, and a note on reliability."""
    return Group(_result(told), claims_table(told["claims"]), _trust(told))


def _between(told: Mapping[str, Any], name: str, form: str) -> str:
    value, interval = told.get(name), told.get(f"{name}_95")
    text = show(value, form)
    return text if value is None or not interval else f"{text} ({show(interval[0], form)} to {show(interval[1], form)})"


def _result(told: Mapping[str, Any]) -> Table:
    title = f"Back-test, profile {told['profile']}, {utc(told['from_ms'])} to {utc(told['to_ms'])}"
    table = Table(title=title, title_justify="left", show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column()
    counts = {
        n: ", ".join(f"{k} {v}" for k, v in told[n].items()) or "none" for n in ("exits", "vetoes", "setups_unfilled")
    }
    parts = told["cost_parts_r"]
    costs = ", ".join(f"{name} {value:.2f}" for name, value in parts.items() if name != "total" and value is not None)
    high = told["at_high_taker_fee"]
    rows = (
        ("bars", f"{told['bars']:,} in {told['days']:.1f} days, {told['bars_per_second']:,.0f} bars/s"),
        ("signals", f"{told['signals']} ({show(told['signals_per_day'], '.2f')} a day)"),
        ("refused", counts["vetoes"]),
        ("filled nothing", counts["setups_unfilled"]),
        ("trades", f"{told['trades']} ({told['trades_end_of_data']} only closed by the end of the data)"),
        ("exits", counts["exits"]),
        ("result", f"{told['total_r']:+.2f} R, {told['pnl']:+.2f} USDT, {told['return']:+.2%}"),
        ("a trade, net", _between(told, "expectancy_r", "+.3f") + " R"),
        ("a trade, gross", _between(told, "gross_expectancy_r", "+.3f") + " R"),
        ("cost of a trade", f"{show(told['avg_cost_r'], '.2f')} R ({costs})"),
        ("at 0.05 % taker", f"{show(high['expectancy_r'], '+.3f')} R a trade"),
        ("BTC and hedge", f"{told['alpha_r']:+.2f} R and {told['hedge_r']:+.2f} R before fees"),
        ("stop distance", f"median {show(told['median_stop_distance'], '.3%')}; the claimed {CLAIMED_EXPECTANCY_R} R would pay "
                          f"the costs at {show(told['median_break_even_stop'], '.3%')}"),
        ("drawdown", f"{told['max_drawdown']:.2%}, {told['max_drawdown_r']:.1f} R"),
    )  # fmt: skip
    for name, value in rows:
        table.add_row(name, value)
    return table


def _trust(told: Mapping[str, Any]) -> Text:
    if not told["trades"]:
        return Text("No trade was made: there is nothing to judge.")
    text = "In brackets: 95 % bootstrap intervals. Every assumption stands in summary.json and report.html."
    if told["trades"] < FEW_TRADES:
        text += f" Fewer than {FEW_TRADES} trades carry no verdict on the claims about trades."
    return Text(text)
