"""Entry point of `calibrate`: one chart is fitted by its lines and marks, everything else by its events.

A single export of chart data is fitted by `calibrate` (distances of lines and marks, setting by setting); streams of
alerts, alerts logs and several charts by `stream_fit` (closed grids, chance levels).
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bot.config import Config
from bot.core.errors import DataError
from bot.parity.alerts_log import AlertsLog
from bot.parity.calibrate import calibrate
from bot.parity.exports import ChartData
from bot.parity.grids import GRIDS, Grid
from bot.parity.reading import kind_of, read_export
from bot.parity.stream_fit import calibrate_streams
from bot.parity.streams import AlertStream, of_log


def fit_exports(
    config: Config,
    paths: Sequence[Path],
    *,
    klines: Path | None = None,
    second: Path | None = None,
    bind_file: Path | None = None,
    warm_up: int | None = None,
    complete: str | None = None,
    interval: str | None = None,
    name: str = "calibrated",
    grids: Sequence[Grid] = GRIDS,
    advance: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Fit open settings to one chart, or to streams and charts together; see `calibrate` and `stream_fit`.

    Parameters
    ----------
    config
        Configuration before the fit.
    paths
        The exports.
    klines
        Folder or file with klines; None for those next to a stream or the bot's own.
    second
        Export of a second symbol; a change must help there too.
    bind_file
        Columns bound by hand.
    warm_up
        Bars of chart data left out at the start; None for the default.
    complete
        For streams: "all", or the time span in which absence counts.
    interval
        The chart's interval, for a stream without one.
    name
        Name of the profile.
    grids
        Grids to try on streams.
    advance
        Called with the progress, 0 to 100.

    Raises
    ------
    DataError
        An export is a list of trades, or an alerts log without an interval.
    """
    exports = [read_export(path, interval) for path in paths]
    if len(exports) == 1 and not isinstance(exports[0], AlertStream | AlertsLog):
        return calibrate(
            config,
            paths[0],
            klines=klines,
            second=second,
            bind_file=bind_file,
            warm_up=warm_up,
            name=name,
            advance=advance,
        )
    if second is not None:
        exports.append(read_export(second, interval))
    usable: list[AlertStream | ChartData] = []
    for path, export in zip([*paths, *([second] if second is not None else [])], exports, strict=True):
        if isinstance(export, AlertsLog):
            if export.interval is None:
                raise DataError(
                    f"{path}: its tickers have no interval: export the alerts of a chart, such as BTCUSDT.P, 15m"
                )
            export = of_log(export)
        if not isinstance(export, AlertStream | ChartData):
            raise DataError(f"{path} is a {kind_of(export)}: calibrate needs chart data or a stream of alerts")
        usable.append(export)
    return calibrate_streams(
        config,
        usable,
        klines=klines,
        bind_file=bind_file,
        warm_up=warm_up,
        complete=complete,
        name=name,
        grids=grids,
        advance=advance,
    )
