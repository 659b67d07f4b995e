"""`chart`: write one HTML file with klines and everything that the indicators find on them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bot.backtest.market import load_market
from bot.backtest.models import model_for
from bot.backtest.signals import resets_at
from bot.config import Config
from bot.core.errors import DataMissing
from bot.core.klines import Klines, fill_gaps
from bot.journal import Journal
from bot.market.paths import data_folder
from bot.market.store import format_time
from bot.report.chart_data import ChartTape, trade_marks
from bot.report.charts import page, write_page
from bot.report.progress import progress
from bot.results.trades import trade_row
from bot.strategy.features import batch

MOST_BARS = 30_000  # per symbol in one file: about 5 MB each


def tape_of(config: Config, bars: Klines) -> ChartTape:
    """Return the tape of a symbol's entire history: all bars are stepped, the first ones warm the indicators up."""
    filled, resets = fill_gaps(bars, config.data.max_gap_bars)
    rows = batch(filled, config, resets=resets_at(len(filled), resets), model=model_for(config))
    tape = ChartTape(config, bars.symbol, interval_ms=bars.interval_ms)
    tape.extend(filled, rows)
    return tape


def write_chart(
    config: Config,
    klines: Path | None,
    out: Path,
    *,
    from_ms: int | None = None,
    to_ms: int | None = None,
    with_trades: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Write the chart of all symbols and return a summary; without a range, of the last `data.history_bars` bars.

    Parameters
    ----------
    klines
        Folder of kline files; None for `load_market`'s default.
    out
        The HTML file.
    from_ms, to_ms
        Range of bar open times, UTC epoch ms.
    with_trades
        Mark the trades of the journal's last session.
    quiet
        Show no progress.

    Raises
    ------
    DataMissing
        The range holds no bar, or more than a file can show.
    """
    market = load_market(config, klines)
    charts = []
    with progress("computing charts", len(config.data.symbols), quiet=quiet) as advance:
        for number, symbol in enumerate(config.data.symbols, 1):
            bars = market.base(symbol).between(None, to_ms)
            shown = len(bars.between(from_ms)) if from_ms is not None else min(config.data.history_bars, len(bars))
            if not shown:
                raise DataMissing(f"{market.source}: no bar of {symbol} lies between --from and --to")
            if shown > MOST_BARS:
                raise DataMissing(
                    f"{shown:,} bars of {symbol} are more than one page can show ({MOST_BARS:,}): narrow --from and --to"
                )
            tape = tape_of(config, bars)
            since = int(bars.open_ms[-shown])
            charts.append(tape.payload(after_ms=since - 1))
            advance(number)
    trades = list(_trades()) if with_trades else []
    first, last = charts[0]["time"][0] * 1000, charts[0]["time"][-1] * 1000
    title = f"{', '.join(config.data.symbols)} 3m"
    source = (
        f"klines of {klines.name}"
        if klines is not None
        else market.source.replace(str(data_folder()), "the data folder")
    )
    note = f"{source[:1].upper()}{source[1:]}, {format_time(first)} to {format_time(last)}; closed bars only."
    write_page(out, page(charts, title=title, note=note, trades=trades))
    return {
        "file": str(out),
        "bytes": out.stat().st_size,
        "symbols": {chart["symbol"]: {"bars": len(chart["time"]), "blocks": len(chart["boxes"])} for chart in charts},
        "from": format_time(first),
        "to": format_time(last),
        "trades": len(trades),
    }


def _trades() -> Iterator[dict[str, Any]]:
    """Yield the marks of the last session's trades."""
    with Journal(data_folder() / "bot.db", read_only=True) as journal:
        sessions = journal.sessions()
        for trade in journal.trades(sessions[-1]["id"]) if sessions else ():
            yield trade_marks(trade_row(trade))
