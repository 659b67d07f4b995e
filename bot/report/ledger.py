"""The repaint ledger: compares values at decision time with the same bars recomputed later.

A chart may look right because it was redrawn. All values and conditions at the decision on a bar are therefore stored, for
all symbols, and recomputed later by a second set of kernels that starts at the session's recorded first bar (two runs
agree only from the same start, strategy 1). Both must agree to the last bit. The figure is "0 of N closed bars rewritten";
the first miss names the bar and the column, raises an alert and stops entries.

For a bar that was closed early, the confirmed bar is compared. After a restart the stored values are those of the previous
process, so the comparison also shows whether a restart changed anything.
"""

import os
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

import numpy as np
import orjson

from bot.config import Config
from bot.core.errors import DataError
from bot.core.events import KlineClosed
from bot.core.files import open_private, private_folder, write_private
from bot.core.times import utc
from bot.strategy.features import Features
from bot.strategy.kernel import COLUMNS

VERSION: Final = 1
AT_ONCE: Final = 1_024  # bars per symbol recomputed by one check: about 20 ms while it catches up with history
FOLDER: Final = "ledger"
SUMMARY: Final = "summary.json"


@dataclass(frozen=True, slots=True)
class Miss:
    """A closed bar whose recomputed values differ."""

    symbol: str
    open_ms: int
    column: str
    stored: float
    found: float
    columns: int  # number of columns that differ

    def __str__(self) -> str:
        """Return a sentence for the user."""
        more = f" and {self.columns - 1} more" if self.columns > 1 else ""
        return (
            f"{self.symbol} bar {utc(self.open_ms)} was rewritten: {self.column}{more} was {self.stored!r} when decided, "
            f"computed again it is {self.found!r}"
        )


class LedgerBook:
    """The stored rows of one symbol: an append-only file, one record per bar (open time, then all columns).

    A file with other columns is rejected; a record truncated by a crash is removed.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.stored: dict[int, np.ndarray] = {}  # rows of an earlier process by open time, until compared
        self._file: BinaryIO | None = None
        self._size = 8 * (1 + len(COLUMNS))

    def open(self) -> None:
        """Read the rows of an earlier process and open the file for appending; DataError if its columns differ."""
        if self.path is None:
            return
        head = orjson.dumps({"version": VERSION, "columns": COLUMNS}) + b"\n"
        private_folder(self.path.parent)
        held = self.path.read_bytes() if self.path.is_file() else b""
        if held and not held.startswith(head):
            raise DataError(f"{self.path} holds columns of another version: move it away to start a new ledger")
        count = max(len(held) - len(head), 0) // self._size
        records = np.frombuffer(held, np.float64, count * (1 + len(COLUMNS)), len(head)) if count else np.empty(0)
        for record in records.reshape(count, 1 + len(COLUMNS)):
            self.stored[int(record[0])] = record[1:]
        self._file = open_private(self.path, "r+b" if held else "w+b")
        if not held:
            self._file.write(head)
        self._file.truncate(len(head) + count * self._size)
        self._file.seek(0, os.SEEK_END)

    def add(self, open_ms: int, values: np.ndarray) -> None:
        """Store a row as it was at the decision."""
        if self._file is not None:
            self._file.write(np.float64(open_ms).tobytes() + values.tobytes())

    def flush(self) -> None:
        """Flush added rows to the operating system."""
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


class RepaintLedger:
    """Stores the rows of all symbols as they were at the decision, and compares them with recomputed ones.

    Parameters
    ----------
    folder
        Folder of the books, one per session and symbol; None keeps nothing on disk.
    session
        Number of the session, part of the file names.
    model
        The learned classifier, if any.
    """

    def __init__(
        self, config: Config, *, folder: Path | None = None, session: int = 0, model: Mapping[str, Any] | None = None
    ) -> None:
        symbols = config.data.symbols
        self._again = Features(config, model=model)
        self._waiting: dict[str, deque[tuple[KlineClosed, np.ndarray | None]]] = {s: deque() for s in symbols}
        self._last = dict.fromkeys(symbols, -1)
        self._books = {s: LedgerBook(folder / f"{session}-{s}.rows" if folder else None) for s in symbols}
        self._told = folder / f"{session}-{SUMMARY}" if folder else None
        self._columns = np.array(COLUMNS)
        self.bars = 0  # closed bars stored
        self.judged = 0
        self.rewritten = 0
        self.first: Miss | None = None
        for book in self._books.values():
            book.open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def take(self, event: KlineClosed, values: np.ndarray | None) -> None:
        """Add a closed bar and its row at the decision, None for a rejected bar; history is only warm-up."""
        bar = event.kline
        if bar.symbol not in self._waiting or event.early or bar.open_ms <= self._last[bar.symbol]:
            return
        self._last[bar.symbol] = bar.open_ms
        if event.history or values is None:
            self._waiting[bar.symbol].append((event, None))
            return
        book = self._books[bar.symbol]
        earlier = book.stored.pop(bar.open_ms, None)
        if earlier is None:
            book.add(bar.open_ms, values)
        self.bars += 1
        self._waiting[bar.symbol].append((event, values if earlier is None else earlier))

    def check(self, at_once: int | None = AT_ONCE) -> Miss | None:
        """Recompute pending bars except the newest of each symbol; return the first miss if this call found it."""
        before = self.first
        for symbol, waiting in self._waiting.items():
            self._books[symbol].flush()
            keep = 0 if at_once is None else 1
            for _ in range(max(len(waiting) - keep, 0) if at_once is None else min(len(waiting) - keep, at_once)):
                self._judge(*waiting.popleft())
        return self.first if before is None else None

    def _judge(self, event: KlineClosed, values: np.ndarray | None) -> None:
        row = self._again.step(event)
        if values is None or row is None:
            return
        self.judged += 1
        if row.values.tobytes() == values.tobytes():
            return
        same = (row.values == values) | (np.isnan(row.values) & np.isnan(values))
        if same.all():  # zeros of either sign, NaN of any kind
            return
        self.rewritten += 1
        at = int(np.flatnonzero(~same)[0])
        if self.first is None:
            bar = event.kline
            stored, found = float(values[at]), float(row.values[at])
            self.first = Miss(bar.symbol, bar.open_ms, COLUMNS[at], stored, found, int((~same).sum()))

    def finish(self) -> Miss | None:
        """Compare all pending bars, including the newest."""
        return self.check(None)

    def summary(self) -> dict[str, Any]:
        """Return the figures: bars stored, recomputed and rewritten, and the first miss as a sentence."""
        return {
            "bars": self.bars,
            "judged": self.judged,
            "rewritten": self.rewritten,
            "first": str(self.first) if self.first else None,
            "text": f"{self.rewritten} of {self.judged} closed bars rewritten",
        }

    def close(self) -> None:
        """Close the books and write the figures next to them, for `status` when the bot is not running."""
        for book in self._books.values():
            book.close()
        if self._told is not None:
            write_private(self._told, orjson.dumps(self.summary()))


def left(folder: Path, session: int) -> dict[str, Any] | None:
    """Return the figures that a session's ledger wrote on closing; None if there are none, as after a crash."""
    try:
        told = orjson.loads((folder / f"{session}-{SUMMARY}").read_bytes())
    except (OSError, ValueError):
        return None
    return told if isinstance(told, dict) and "text" in told else None


def forget(folder: Path, sessions: Iterable[int]) -> int:
    """Remove the books of these sessions; return the number of files removed."""
    gone = [path for session in sessions for path in folder.glob(f"{session}-*")]
    for path in gone:
        path.unlink(missing_ok=True)
    return len(gone)
