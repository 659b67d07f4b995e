"""The door of the lab: one exported file in, chart data, a list of trades or an alerts log out, whichever it is."""

from pathlib import Path

from bot.core.errors import DataMissing
from bot.research.parity.alerts_log import AlertsLog, is_alerts, read_alerts
from bot.research.parity.exports import ChartData, is_chart, load_rows, read_chart, unknown
from bot.research.parity.trades_list import TradesList, is_trades, read_trades

Export = ChartData | TradesList | AlertsLog


def read_export(path: Path) -> Export:
    """Read an export of TradingView, detected by its content.

    Raises
    ------
    DataMissing
        There is no file, or nothing in it (exit code 3).
    DataError
        It is none of the three, or damaged; one sentence with the row (exit code 1).
    """
    rows = load_rows(path)
    if not rows:
        raise DataMissing(f"{path} is empty: export it again")
    header, body = rows[0], rows[1:]
    if is_alerts(header, body):
        return read_alerts(path, rows)
    if is_chart(header):
        return read_chart(path, rows)
    if is_trades(header, body):
        return read_trades(path, rows)
    raise unknown(path, header)


def kind_of(export: Export) -> str:
    """Return what an export is called to a person."""
    match export:
        case ChartData():
            return "chart data"
        case TradesList():
            return "list of trades"
        case AlertsLog():
            return "alerts log"
