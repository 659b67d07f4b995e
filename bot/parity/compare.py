"""`compare`: compare a TradingView export with our values and give a verdict in words.

Chart data is compared twice: with our indicators recomputed on the export's own bars, so that feed differences do not
matter, and with those on our klines. A list of trades, an alerts log and a stream of alerts have no bars and are
aligned with klines.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from bot.config import Config
from bot.core.errors import ConfigError, DataMissing
from bot.core.klines import Klines
from bot.market.paths import data_folder
from bot.market.store import format_time
from bot.parity import align as lay
from bot.parity.alerts_compare import compare_alerts
from bot.parity.align import Alignment
from bot.parity.bind import BindFile, Binding, Bound, bind, load_bind, remember, values_of
from bot.parity.conditions import compare_conditions
from bot.parity.exports import MISSING, ChartData, gap_note
from bot.parity.ours import Ours, bars_of
from bot.parity.reading import kind_of, read_export
from bot.parity.score import ParityScore, score
from bot.parity.stream_compare import compare_stream
from bot.parity.streams import AlertStream, of_log
from bot.parity.trades_compare import compare_trades
from bot.parity.trades_list import TradesList
from bot.parity.verdict import PERFECT, Diagnosis, borrowed_sentence, feed_sentence, sentence, signals_sentence

WARM_UP: Final = 600  # bars left out at the start (premium indicators 7.2), at most a third


@dataclass(slots=True)
class Comparison:
    """The report as plain objects, and the series that the page draws."""

    report: dict[str, Any]
    page: dict[str, Any] = field(default_factory=dict)


def klines_source(given: Path | None) -> Path | None:
    """Return the klines to align an export with: those given, else the bot's own if there are any."""
    if given is not None:
        return given
    own = data_folder() / "klines"
    return own if own.is_dir() and any(own.glob("*-*.parquet")) else None


def compare(
    config: Config,
    path: Path,
    *,
    klines: Path | None = None,
    bind_file: Path | None = None,
    warm_up: int | None = None,
    complete: str | None = None,
    interval: str | None = None,
) -> Comparison:
    """Compare an export with our values.

    Parameters
    ----------
    config
        Configuration of our side.
    path
        The export.
    klines
        Folder or file; optional for chart data, required for a list of trades or an alerts log.
    bind_file
        Columns and alerts bound by hand; remembered for the header.
    warm_up
        Bars left out at the start; None for 600, at most a third.
    complete
        For a stream of alerts: "all", or the time span in which absence counts.
    interval
        The chart's interval, for a stream without one.

    Raises
    ------
    DataMissing
        No file, nothing in it, no klines of its time (exit code 3).
    DataError, ConfigError
        It cannot be read, or a setting or bind file is wrong.
    """
    export = read_export(path, interval)
    source = klines_source(klines)
    if isinstance(export, AlertStream):
        return Comparison(compare_stream(config, export, stream_places(export, klines), complete=complete))
    fingerprint = export.fingerprint if isinstance(export, ChartData) else f"{kind_of(export).replace(' ', '_')}"
    by_hand = load_bind(bind_file, fingerprint, export.header)
    if isinstance(export, ChartData):
        found = _chart(config, export, source, by_hand, required=klines is not None, warm_up=warm_up)
    else:
        if source is None:
            raise DataMissing(f"{path} is a {kind_of(export)} and has no bars: name klines of its time with --klines")
        if isinstance(export, TradesList):
            found = Comparison(compare_trades(config, export, source))
        else:
            found = Comparison(compare_alerts(config, export, source, by_hand.alerts))
            stream = of_log(export)
            if stream.alerts:
                found.report |= _features_of(compare_stream(config, stream, [source], complete=complete), found.report)
    if bind_file is not None:
        found.report["bind_remembered"] = str(remember(fingerprint, by_hand, export.header))
    return found


def stream_places(stream: AlertStream, klines: Path | None) -> list[Path]:
    """Return where klines of a stream may be: those given, those next to it, and the bot's own."""
    own = klines_source(None)
    return [place for place in (klines, stream.folder, own) if place is not None]


def _features_of(found: dict[str, Any], report: dict[str, Any]) -> dict[str, Any]:
    """Return what the comparison of features adds to the report of an alerts log."""
    return {
        "stretches": found["stretches"],
        "verdict": [*report["verdict"], *(words for words in found["verdict"] if words not in report["verdict"])],
    }


def _describe(data: ChartData) -> dict[str, Any]:
    return {
        "kind": kind_of(data),
        "file": data.path.name,
        "bars": len(data.open_ms),
        "columns": len(data.columns),
        "interval": data.interval,
        "from_ms": int(data.open_ms[0]),
        "to_ms": int(data.open_ms[-1]) + data.step_ms,
        "ticker": data.ticker,
        "volume": data.volume is not None,
        "notes": data.notes,
    }


def _aligned(data: ChartData, source: Path | None, required: bool) -> tuple[Alignment | None, str | None]:
    """Align the bars with klines; if the source was not named and has another time, the reason is only reported."""
    if source is None:
        return None, "no klines to compare the bars with: name some with --klines"
    prices = (data.open, data.high, data.low, data.close)
    try:
        found = lay.align(
            data.open_ms,
            prices,
            data.volume,
            step_ms=data.step_ms,
            source=source,
            ticker=data.ticker,
            zoned=data.zoned,
            added_ms=data.added_ms,
        )
    except DataMissing as error:
        if required:
            raise
        return None, str(error)
    data.open_ms = found.open_ms
    if not data.zoned:  # a clock that went forward looked like missing bars
        data.notes = [note for note in data.notes if not note.startswith(MISSING)]
        data.notes += gap_note(data.open_ms, data.step_ms)
    return found, None


def kept_bars(data: ChartData, aligned: Alignment | None, warm_up: int | None) -> tuple[np.ndarray, list[str]]:
    """Return a mask of the bars that count: after the warm-up, and the last one only when the klines confirm it as finished.

    Raises
    ------
    ConfigError
        The warm-up leaves no bar.
    """
    count, notes = len(data.open_ms), []
    wanted = WARM_UP if warm_up is None else warm_up
    skipped = wanted if warm_up is not None else min(wanted, count // 3)
    if skipped >= count - 1:
        raise ConfigError(f"--warm-up {skipped} leaves no bar of the {count} in {data.path}")
    if skipped < wanted:
        notes.append(f"only {skipped} bars of warm-up: the export is short, {WARM_UP} are wanted")
    keep = np.arange(count) >= skipped
    if aligned is None or not aligned.equal[-1]:
        keep[-1] = False
        if aligned is not None and aligned.same_market and aligned.rows[-1] >= 0:
            notes.append(
                f"the last bar ({format_time(int(data.open_ms[-1]))}) was unfinished when exported and is left out"
            )
        else:
            notes.append("the last bar may have been unfinished when exported and is left out")
    return keep, notes


@dataclass(slots=True, eq=False)
class _Scored:
    binding: Binding
    own: ParityScore
    own_values: np.ndarray
    klines: ParityScore | None


def _scores(bound: Bound, own: Ours, other: Ours | None, keep: np.ndarray, has_volume: bool) -> list[_Scored]:
    found = []
    for binding in bound.bindings:
        values = values_of(binding, own)
        if binding.needs_volume and not has_volume:
            values = np.full(len(values), np.nan)
        theirs = binding.column.values
        on_klines = None
        if other is not None:
            kept = keep & (other.rows >= 0)
            on_klines = score(binding.kind, values_of(binding, other), theirs, own.at_ms, kept)
        found.append(_Scored(binding, score(binding.kind, values, theirs, own.at_ms, keep), values, on_klines))
    return found


def _own_side(
    config: Config, data: ChartData, source: Path | None, required: bool
) -> tuple[Ours, Alignment | None, str | None, bool]:
    """Return our side on the export's bars, their alignment with klines or why there is none, and whether volume is known."""
    aligned, unaligned = _aligned(data, source, required)
    volume = None
    if data.volume is None and aligned is not None and (aligned.rows >= 0).all():
        volume = aligned.bars.volume[aligned.rows]
        data.notes.append("the export has no volume column; that of the klines is used")
    has_volume = data.volume is not None or volume is not None
    if not has_volume:
        data.notes.append("the export has no volume column: what needs volume is not compared on its own bars")
    symbol = aligned.symbol if aligned is not None else (data.ticker or "").removesuffix(".P") or "the export"
    return Ours(bars_of(data, symbol, volume), config, data.open_ms), aligned, unaligned, has_volume


def aligned_export(
    config: Config, data: ChartData, source: Path | None, *, required: bool
) -> tuple[Ours, Alignment | None]:
    """Return our side on the export's own bars, and their alignment with klines if any cover their time.

    Parameters
    ----------
    config
        Configuration of our side.
    data
        Chart data.
    source
        Folder or file with klines, None without.
    required
        Whether missing klines are an error.

    Raises
    ------
    DataMissing
        The klines lack the time and are required.
    """
    own, aligned, _, _ = _own_side(config, data, source, required)
    return own, aligned


def _chart(
    config: Config, data: ChartData, source: Path | None, by_hand: BindFile, *, required: bool, warm_up: int | None
) -> Comparison:
    own, aligned, unaligned, has_volume = _own_side(config, data, source, required)
    keep, kept_notes = kept_bars(data, aligned, warm_up)
    bound = bind(data, own, by_hand)
    other = None if aligned is None else Ours(_known(aligned, data), config, data.open_ms)
    scored = _scores(bound, own, other, keep, has_volume)
    report: dict[str, Any] = {
        "export": {
            **_describe(data),
            "symbol": own.bars.symbol,
            "market": aligned.market if aligned is not None else _guess(data),
        },
        "alignment": aligned.as_dict() if aligned is not None else None,
        "compared": {"bars": int(keep.sum()), "warm_up": int(np.argmax(keep)), "notes": kept_notes},
        "columns": [_row(s) for s in scored],
        "constants": [{"column": label, "value": value} for label, value in bound.constants],
        "unbound": [{"column": label, "reason": reason} for label, reason in bound.unbound],
        "conditions": compare_conditions(bound, own.table, data.close, data.open_ms, keep, config)
        if data.interval == "3m"
        else {},
    }
    diagnosis = Diagnosis(own, config, keep, bound.bindings)
    report["verdict"] = _verdict(report, scored, aligned, unaligned, diagnosis)
    report.setdefault("headline", report["verdict"][-1])
    report["agreement"] = overall(scored)
    report["notes"] = [*data.notes, *kept_notes]
    return Comparison(report, _page(data, own, other, aligned, scored))


def _known(aligned: Alignment, data: ChartData) -> Klines:
    """Return the klines up to the export's last bar: earlier ones warm up, later ones were not known then."""
    return aligned.bars.between(None, int(data.open_ms[-1]) + 1)


def _guess(data: ChartData) -> str:
    return "unknown" if data.ticker is None else "perpetual" if data.ticker.endswith(".P") else "spot"


def _row(s: _Scored) -> dict[str, Any]:
    row: dict[str, Any] = {
        "column": s.binding.column.label,
        "feature": s.binding.feature,
        "family": s.binding.family,
        "bound_by": s.binding.how,
    }
    row["export_bars"] = s.own.as_dict()
    return row | {"klines": s.klines.as_dict() if s.klines is not None else None}


def overall(scored: list[_Scored]) -> float | None:
    """Return the mean share of bars that agree, over all bound columns with a bar to compare."""
    shares = [s.own.agree for s in scored if s.own.bars]
    return float(np.mean(shares)) if shares else None


def _verdict(
    report: dict[str, Any],
    scored: list[_Scored],
    aligned: Alignment | None,
    unaligned: str | None,
    diagnosis: Diagnosis,
) -> list[str]:
    said = list(aligned.sentences) if aligned is not None else [unaligned] if unaligned else []
    if not scored:
        said.append(
            "no column could be bound: none has a known name or the numbers of a public formula; use --bind FILE"
        )
        return said
    perfect = [s for s in scored if s.own.bars and s.own.agree >= PERFECT and not _one_sided(s.own)]
    rest = [s for s in scored if s not in perfect]
    total = (
        f"{len(perfect)} of {len(scored)} bound columns agree on every bar compared ({report['compared']['bars']:,})"
    )
    said.append(f"100 %: {total}" if not rest else total)
    report["headline"] = said[-1]
    causes = diagnosis.causes([(s.binding, s.own, s.own_values) for s in rest])
    by_setting: dict[str, list[str]] = {}
    for s, cause in zip(rest, causes, strict=True):
        if cause is not None and cause.setting is not None:
            by_setting.setdefault(cause.words, []).append(s.binding.column.label)
    for words, labels in by_setting.items():
        many = f"{len(labels)} columns" if len(labels) > 1 else "one column"
        said.append(f"{words}: that explains {many} ({', '.join(labels)})")
    report["headline"] = "; ".join([report["headline"], *by_setting])
    for s, cause in zip(rest, causes, strict=True):
        words = sentence(s.binding, s.own, cause)
        if s.own.figures.get("only_theirs") and s.own.kind == "plot" and s.own.agree >= PERFECT and s.own.bars:
            words += f": {s.own.figures['only_theirs']} bars have a value on the chart only"
        report["columns"][scored.index(s)]["said"] = words
        if cause is None or cause.setting is None:
            said.append(words)
    report["causes"] = {s.binding.column.label: c.code for s, c in zip(rest, causes, strict=True) if c is not None}
    if (told := signals_sentence(report["conditions"])) is not None:
        borrowed = borrowed_sentence(report["conditions"])
        said += [told, borrowed] if borrowed is not None else [told]
        report["headline"] += f"; {told}"
    if aligned is not None:
        on_klines = [s.klines.agree for s in scored if s.klines is not None and s.klines.bars]
        own = overall(scored)
        told = None
        if on_klines and own is not None:
            told = feed_sentence(own, float(np.mean(on_klines)), same_market=aligned.same_market)
        said += [told] if told is not None else []
    if report["unbound"]:
        names = ", ".join(row["column"] for row in report["unbound"])
        said.append(f"{len(report['unbound'])} columns are not bound: {names}")
    return said


def _one_sided(result: ParityScore) -> bool:
    """Return whether a line has bars after the warm-up where only one side has a value."""
    return result.kind == "plot" and bool(result.figures["only_ours"] or result.figures["only_theirs"])


def _page(
    data: ChartData, own: Ours, other: Ours | None, aligned: Alignment | None, scored: list[_Scored]
) -> dict[str, Any]:
    """Return the bars and series of both charts for the page; ours are on our klines where they cover the export."""
    covered = other is not None and aligned is not None and bool((other.rows >= 0).mean() > 0.95)
    ours_bars = {name: getattr(data, name) for name in ("open", "high", "low", "close")}
    if covered and aligned is not None:
        place = np.maximum(aligned.rows, 0)
        there = aligned.rows >= 0
        ours_bars = {name: np.where(there, getattr(aligned.bars, name)[place], np.nan) for name in ours_bars}
    return {
        "open_ms": data.open_ms,
        "theirs": {name: getattr(data, name) for name in ("open", "high", "low", "close")},
        "ours": ours_bars,
        "ours_from": "our klines" if covered else "the export's bars",
        "series": [
            {
                "label": s.binding.column.label,
                "feature": s.binding.feature,
                "family": s.binding.family,
                "kind": s.binding.kind,
                "theirs": s.binding.column.values,
                "ours": values_of(s.binding, other) if covered and other is not None else s.own_values,
            }
            for s in scored
        ],
    }
