"""The last comparison with the person's own chart, kept so that dashboard and `status` can answer "does it match my chart?".

`compare` leaves a short summary of each kind of export (chart data, list of trades, alerts log), the newest replacing the
one before; the files themselves are not kept. Whoever watches the running bot then sees which export was compared, when, and
how far it agreed: the whole signal, each condition of both sides, and the sentence that says it in words.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from bot.core.errors import BotError
from bot.core.files import private_folder, write_private
from bot.core.times import utc
from bot.report.page import plain
from bot.strategy.rules import TITLES

VERSION: Final = 1
FOLDER: Final = "parity"
NOTHING: Final = "no export compared yet: python -m bot compare FILE"
KINDS: Final = ("chart data", "list of trades", "alerts log")
LARGEST: Final = 1_000_000  # bytes: what is larger was not written here


def summary_of(report: Mapping[str, Any], *, at_ms: int) -> dict[str, Any]:
    """Return what is kept of a report of `compare`.

    Parameters
    ----------
    at_ms
        When it was compared, epoch ms.

    Returns
    -------
    dict
        `signal` and each of `conditions` (by side) are the share of cases that agree, 0 to 1; None or absent where the export
        has no such column. Cases are bars for a condition, and marks of either side for the whole signal, of which most bars
        have none. `borrowed` names the conditions that do not export: ours on both sides of the whole signal.
    """
    export = report["export"]
    found = report.get("conditions", {})
    conditions = {
        side: {name: score["agree"] for name, score in rows.items() if name != "signal" and score["bars"]}
        for side, rows in found.items()
    }
    return {
        "version": VERSION,
        "kind": export["kind"],
        "file": export["file"],
        "symbol": export.get("symbol"),
        "interval": export.get("interval"),
        "from_ms": export["from_ms"],
        "to_ms": export["to_ms"],
        "at_ms": at_ms,
        "columns": report.get("agreement"),
        "signal": _signal_share(report),
        "conditions": conditions,
        "borrowed": sorted({name for rows in found.values() for name in rows.get("signal", {}).get("borrowed", ())}),
        "sentence": report["headline"],
        "verdict": report["verdict"],
    }


def _signal_share(report: Mapping[str, Any]) -> float | None:
    """Return the share of all signals, ours and theirs, that both sides have; None when the export holds none to judge by."""
    both = every = 0
    for found in report.get("conditions", {}).values():
        if (score := found.get("signal")) is not None:
            shared = score["ours"] - score["only_ours"]
            both, every = both + shared, every + shared + score["only_ours"] + score["only_theirs"]
    if (trades := report.get("trades")) is not None:
        both = trades["matched"]
        every = both + trades["matched_within_1"] + trades["only_theirs"] + trades["only_ours"]
    for name, row in report.get("alerts", {}).items():
        if name in ("long_signal", "short_signal"):
            both += row["matched"]
            every += row["alerts"] - row["not_covered"] + row["missing"]
    return both / every if every else None


def keep(folder: Path, report: Mapping[str, Any], *, at_ms: int) -> Path:
    """Keep the summary of a comparison in the bot's data folder, whole or not at all; return where.

    Raises
    ------
    BotError
        It cannot be written.
    """
    found = summary_of(report, at_ms=at_ms)
    path = folder / FOLDER / f"{found['kind'].replace(' ', '_')}.json"
    try:
        private_folder(path.parent)
        write_private(path, orjson.dumps(plain(found), option=orjson.OPT_INDENT_2))
    except OSError as error:
        raise BotError(f"{path}: the comparison cannot be kept for the dashboard: {error.strerror}") from None
    return path


class Compared:
    """The kept comparisons, read anew only when a file has changed: it is asked at every look at the bot."""

    def __init__(self, folder: Path) -> None:
        self._paths = [folder / FOLDER / f"{kind.replace(' ', '_')}.json" for kind in KINDS]
        self._stamps: list[tuple[int, int] | None] = []
        self._rows: list[dict[str, Any]] = []

    def rows(self) -> list[dict[str, Any]]:
        """Return the comparisons, newest first; one that cannot be read is told as such."""
        stamps = [_stamp(path) for path in self._paths]
        if stamps != self._stamps:
            read = [_read(path) for path, stamp in zip(self._paths, stamps, strict=True) if stamp is not None]
            self._rows = sorted(read, key=lambda row: -row["at_ms"])
            self._stamps = stamps
        return self._rows


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _read(path: Path) -> dict[str, Any]:
    kind = path.stem.replace("_", " ")
    unreadable = {"kind": kind, "file": path.name, "at_ms": 0, "conditions": {}, "borrowed": [], "signal": None}
    unreadable["columns"] = None
    unreadable["sentence"] = f"{path} cannot be read: compare the export again"
    try:
        if path.stat().st_size > LARGEST:
            return unreadable
        row = orjson.loads(path.read_bytes())
        if row["version"] != VERSION:
            return unreadable
        words = {name: str(row[name]) for name in ("kind", "file", "sentence")}
        shares = {name: None if row[name] is None else float(row[name]) for name in ("signal", "columns")}
        conditions = {
            str(side): {str(name): float(share) for name, share in rows.items()}
            for side, rows in row["conditions"].items()
        }
        borrowed = [str(name) for name in row["borrowed"]]
        return {**words, **shares, "conditions": conditions, "borrowed": borrowed, "at_ms": int(row["at_ms"])}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return unreadable


def sentence(row: Mapping[str, Any]) -> str:
    """Return one comparison on one line: export, day, whole signal, each condition, verdict."""
    day = f" ({utc(row['at_ms'])[:10]})" if row["at_ms"] else ""
    parts = [f"{row['kind']} {row['file']}{day}: {row['sentence']}"]
    if row["signal"] is not None:
        parts.append(f"signal {percent(row['signal'])}")
    for side, rows in row["conditions"].items():
        if rows:
            parts.append(
                f"{side} " + ", ".join(f"{TITLES.get(name, name)} {percent(share)}" for name, share in rows.items())
            )
    return "; ".join(parts)


def percent(share: float) -> str:
    """Return a share in per cent, and never 100 for what is not all.

    >>> percent(1.0), percent(0.99996), percent(0.5)
    ('100 %', '99.9 %', '50.0 %')
    """
    return "100 %" if share >= 1.0 else f"{min(100 * share, 99.9):.1f} %"


def told(rows: list[dict[str, Any]]) -> list[str]:
    """Return the lines for `status`; one that says how to begin when nothing was compared."""
    return [sentence(row) for row in rows] or [NOTHING]
