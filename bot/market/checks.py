"""`bot data check`: validate a folder of klines, file by file.

A finding is a gap, a duplicate row, a row out of order, an impossible bar, a bar off its interval's grid, an empty file,
an unreadable file, or two files that contradict each other. Gaps are findings because they cost signals: a short one is
filled with flat bars, a long one resets the indicators. Exit code: 1 with any finding, 3 without any kline file or row,
else 0.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from bot.core.errors import BotError, DataError, DataMissing
from bot.core.klines import Klines, bar_reason, gaps, impossible_rows, make_klines
from bot.core.words import counted
from bot.market.funding import read_funding
from bot.market.store import format_time, read_files, read_raw, row_words, scan

LINES_PER_FILE: Final = 20  # findings per file in the text report; JSON has all


@dataclass(frozen=True, slots=True)
class DataFinding:
    """One defect of a file.

    Attributes
    ----------
    kind : str
        `gap`, `duplicate`, `unsorted`, `impossible`, `misaligned`, `empty`, `unreadable` or `contradiction`.
    row : int
        Data row counted from 1; 0 if the finding concerns the entire file.
    at_ms : int
        Open time of that row, for a gap of its first missing bar; 0 for the entire file.
    text : str
        Description, one sentence.
    """

    kind: str
    row: int
    at_ms: int
    text: str


@dataclass(frozen=True, slots=True)
class FileReport:
    """One file's row count, range (open of the first bar to close of the last, UTC epoch ms) and findings."""

    file: str
    rows: int
    from_ms: int
    to_ms: int
    findings: tuple[DataFinding, ...]

    def count(self, kind: str) -> int:
        """Return the number of findings of `kind`."""
        return sum(finding.kind == kind for finding in self.findings)


@dataclass(frozen=True, slots=True)
class DataReport:
    """The reports of all files in a folder; `warnings` lists the files that were ignored."""

    folder: str
    files: tuple[FileReport, ...]
    warnings: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        out = []
        for file in self.files:
            span = f", {format_time(file.from_ms)} to {format_time(file.to_ms)}" if file.rows else ""
            kinds = sorted({finding.kind for finding in file.findings})
            words = ", ".join(f"{kind} {file.count(kind)}" for kind in kinds) or "ok"
            out.append(f"{file.file}: {counted(file.rows, 'row')}{span}: {words}")
            out += [f"  {finding.text}" for finding in file.findings[:LINES_PER_FILE]]
            if len(file.findings) > LINES_PER_FILE:
                out.append(f"  and {len(file.findings) - LINES_PER_FILE} more (--json lists all)")
        out += [f"warning: {warning}" for warning in self.warnings]
        if not self.files:
            out.append(f"{self.folder} holds no kline file: `download` or `synth --out DIR` writes some")
            return out
        total = sum(len(file.findings) for file in self.files)
        rows = counted(sum(file.rows for file in self.files), "row")
        out.append(f"{counted(len(self.files), 'file')}, {rows}, {counted(total, 'finding')} in {self.folder}")
        return out

    def data(self) -> dict[str, Any]:
        """Return the report as plain data for JSON."""
        return asdict(self)

    def json(self) -> str:
        """Return the report as JSON."""
        return json.dumps(self.data(), indent=2)


def check_klines(klines: Klines) -> list[DataFinding]:
    """Return all findings of a series in row order; gaps are searched between the sorted, distinct bars."""
    times = klines.open_ms
    found = []
    for row in np.flatnonzero(np.diff(times) <= 0) + 1:
        same = times[row] == times[row - 1]
        kind, reason = (
            ("duplicate", "the row before has the same time") if same else ("unsorted", "earlier than the row before")
        )
        found.append(_finding(klines, kind, int(row), reason))
    impossible = impossible_rows(klines)
    found += [_finding(klines, "impossible", int(row), str(bar_reason(klines, int(row)))) for row in impossible]
    off_grid = f"the bar does not open on the {klines.interval} grid"
    found += [_finding(klines, "misaligned", int(row), off_grid) for row in np.flatnonzero(times % klines.interval_ms)]
    distinct, rows = np.unique(times, return_index=True)
    ordered = klines if len(distinct) == len(times) and not found else _in_order(klines, rows)
    for index, missing in gaps(ordered):
        if missing < 1:  # off the grid by less than a bar: already reported
            continue
        first = int(distinct[index - 1]) + klines.interval_ms
        text = f"gap of {counted(missing, 'bar')} from {format_time(first)} to {format_time(int(distinct[index]))}"
        found.append(DataFinding("gap", int(rows[index]) + 1, first, text))
    return sorted(found, key=lambda finding: (finding.row, finding.kind))


def _in_order(klines: Klines, rows: np.ndarray) -> Klines:
    columns = {name: column[rows] for name, column in klines.columns().items()}
    return make_klines(klines.symbol, klines.interval_ms, columns=columns)


def _finding(klines: Klines, kind: str, row: int, reason: str) -> DataFinding:
    return DataFinding(kind, row + 1, int(klines.open_ms[row]), f"{kind}: {row_words(klines.open_ms, row)}: {reason}")


def _check_file(path: Path) -> FileReport:
    klines = read_raw(path)
    if not len(klines):
        return FileReport(path.name, 0, 0, 0, (DataFinding("empty", 0, 0, f"empty: {path.name} has no row"),))
    start, last = int(klines.open_ms.min()), int(klines.open_ms.max())
    return FileReport(path.name, len(klines), start, last + klines.interval_ms, tuple(check_klines(klines)))


def _check_joined(paths: Sequence[Path], parts: Sequence[FileReport]) -> FileReport:
    """Check the joined files of one series: gaps between files, and bars on which two files disagree."""
    name = f"{paths[0].name} to {paths[-1].name}"
    try:
        klines = read_files(paths)
    except DataError as error:
        return FileReport(name, 0, 0, 0, (DataFinding("contradiction", 0, 0, f"contradiction: {error}"),))
    known = {finding.at_ms for part in parts for finding in part.findings}
    between = tuple(finding for finding in check_klines(klines) if finding.at_ms not in known)
    return FileReport(name, len(klines), int(klines.open_ms[0]), klines.end_ms, between)


def _check_funding(path: Path) -> FileReport:
    rates = read_funding(path, path.name.partition("-")[0])
    span = (int(rates.funding_ms[0]), int(rates.funding_ms[-1])) if len(rates) else (0, 0)
    return FileReport(path.name, len(rates), *span, ())


def check(source: Path | str) -> DataReport:
    """Check every kline and funding file of a folder, or a single file."""
    source = Path(source)
    if source.is_file():
        return DataReport(str(source.parent), (_guarded(source, _check_file),), ())
    found = scan(source)
    files: list[FileReport] = []
    for paths in found.klines.values():
        parts = [_guarded(path, _check_file) for path in paths]
        files += parts
        if len(paths) > 1 and all(part.count("gap") == len(part.findings) for part in parts):
            files.append(_check_joined(paths, parts))
    files += [_guarded(path, _check_funding) for paths in found.funding.values() for path in paths]
    return DataReport(str(source), tuple(files), tuple(found.warnings()))


def _guarded(path: Path, examine: Callable[[Path], FileReport]) -> FileReport:
    try:
        return examine(path)
    except DataError as error:
        return FileReport(path.name, 0, 0, 0, (DataFinding("unreadable", 0, 0, f"unreadable: {error}"),))


def exit_code(report: DataReport) -> int:
    """Return the exit code of a report: 1 with any finding, 3 without a kline row, else 0."""
    kinds = {finding.kind for file in report.files for finding in file.findings}
    if kinds - {"empty"}:
        return BotError.exit_code
    klines = [file for file in report.files if "-funding" not in file.file]
    if not any(file.rows for file in klines):
        return DataMissing.exit_code
    return BotError.exit_code if kinds else 0


def run_check(source: Path | str) -> tuple[DataReport, int]:
    """Check `source` and return the report and the command's exit code.

    Raises
    ------
    DataMissing
        The folder does not exist (exit code 3).
    """
    report = check(source)
    return report, exit_code(report)
