"""Entry point of the lab: read one exported file as chart data, list of trades, alerts log or alert stream."""

from pathlib import Path

from bot.core.errors import DataMissing
from bot.parity.alerts_log import AlertsLog, is_alerts, read_alerts
from bot.parity.csv_values import read_text, rows_of
from bot.parity.exports import ChartData, is_chart, read_chart, unknown
from bot.parity.streams import (
    AlertStream,
    is_counts,
    is_json_lines,
    is_stream,
    read_counts,
    read_folder,
    read_stream,
)
from bot.parity.trades_list import TradesList, is_trades, read_trades

Export = ChartData | TradesList | AlertsLog | AlertStream


def read_export(path: Path, interval: str | None = None) -> Export:
    """Read an export of TradingView or a stream of alerts, detected by its content; a folder is a stream.

    `interval` is the chart's, for a stream without one.

    Raises
    ------
    DataMissing
        There is no file, or nothing in it (exit code 3).
    DataError
        It is of no known kind, or damaged; one sentence with the row (exit code 1).
    """
    if path.is_dir():
        return read_folder(path)
    text = read_text(path)
    if is_json_lines(text):
        return read_stream(path, text, interval)
    rows = rows_of(text, path)
    if not rows:
        raise DataMissing(f"{path} is empty: export it again")
    header, body = rows[0], rows[1:]
    if is_alerts(header, body):
        return read_alerts(path, rows)
    if is_chart(header):
        return read_chart(path, rows)
    if is_counts(header):
        stream = AlertStream(path, [], header)
        stream.counts = read_counts(path, rows, stream.notes, stream.unknown)
        return stream
    if is_stream(header):
        return read_stream(path, text, interval)
    if is_trades(header, body):
        return read_trades(path, rows)
    raise unknown(path, header)


def kind_of(export: Export) -> str:
    """Return the display name of an export's kind."""
    match export:
        case ChartData():
            return "chart data"
        case TradesList():
            return "list of trades"
        case AlertsLog():
            return "alerts log"
        case AlertStream():
            return "alert stream"
