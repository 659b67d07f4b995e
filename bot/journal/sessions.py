"""Sessions: one run of one account at one venue; started, resumed after a crash, ended, pruned."""

import sqlite3
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson

from bot.core.errors import DataError
from bot.core.types import OrderSide
from bot.journal.file import Damaged, File


@dataclass(frozen=True, slots=True)
class Session:
    """One run of an account; if `resumed`, its events must be replayed before any new one is handled."""

    id: int
    venue: str
    account: str
    resumed: bool
    events: int  # number of events: the last sequence number
    config: str | None = None  # the settings that it was started with
    memory: dict[str, Any] | None = None  # state left by the previous session


def _loaded(text: str | None, session: int) -> dict[str, Any] | None:
    try:
        return None if text is None else dict(orjson.loads(text))
    except (ValueError, TypeError):
        raise Damaged(f"what session {session} took over from the one before it cannot be read") from None


def salvage(path: Path, venue: str, account: str) -> dict[str, Any] | None:
    """Recover the limits from a damaged file: the state that the last session of an account left or took over.

    A higher peak of its equity curve replaces the stored one. None if nothing can be read.
    """
    sql = "SELECT id, final, memory FROM sessions WHERE venue = ? AND account = ? ORDER BY ended_ms IS NULL DESC, id DESC LIMIT 1"
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=0.1)) as db:
            number, final, memory = db.execute(sql, (venue, account)).fetchone()
            found = _loaded(final or memory, number)
            if found is None:
                return None
            with suppress(sqlite3.Error, ArithmeticError, TypeError):
                last = "SELECT peak FROM equity WHERE session = ? ORDER BY seq DESC, n DESC LIMIT 1"
                peak = Decimal(db.execute(last, (number,)).fetchone()[0])
                found |= {name: str(max(peak, Decimal(found[name]))) for name in ("peak", "soft_peak")}
            return found
    except (sqlite3.Error, DataError, ArithmeticError, TypeError, KeyError):
        return None


class Sessions(File):
    """The sessions of a journal."""

    def open_session(
        self,
        venue: str,
        account: str,
        *,
        resume: bool,
        at_ms: int = 0,
        config: str | None = None,
        memory: Mapping[str, Any] | None = None,
    ) -> Session:
        """Resume or start a session, to which all further writes belong, and return it.

        Parameters
        ----------
        venue, account
            The account is any stable text (never a secret).
        resume
            Resume the last session of this venue and account if it is unfinished; else a new one takes over the state
            of the last one.
        at_ms
            Start of a new session, exchange time, UTC epoch ms.
        config
            The settings of a new session, as text that `Config` can read.
        memory
            State for a new session, instead of that left by the last one.

        Raises
        ------
        Damaged
            The stored state cannot be read, or events are missing.
        """
        left = None
        with self._translated():
            self.commit()
            if resume:
                row = self._db.execute(
                    "SELECT * FROM sessions WHERE venue = ? AND account = ? ORDER BY ended_ms IS NULL DESC, id DESC LIMIT 1",
                    (venue, account),
                ).fetchone()
                if row and row["ended_ms"] is None:
                    return self._take_up(row)
                left = (row["final"] or row["memory"]) if row else None
                _loaded(left, row["id"] if row else 0)
            if memory is not None:
                left = orjson.dumps(memory).decode()
            cursor = self._db.execute(
                "INSERT INTO sessions (venue, account, started_ms, config, memory) VALUES (?, ?, ?, ?, ?)",
                (venue, account, at_ms, config, left),
            )
            self._session, self._seq = int(cursor.lastrowid or 0), 0
        return Session(self._session, venue, account, False, 0, config, _loaded(left, self._session))

    def _take_up(self, row: sqlite3.Row) -> Session:
        self._session = int(row["id"])
        sql = "SELECT max(seq), count(*) FROM events WHERE session = ?"
        last, count = self._db.execute(sql, (self._session,)).fetchone()
        self._seq = last or 0
        memory = _loaded(row["memory"], self._session)
        if count != self._seq:
            raise Damaged(f"{self._seq - count} of {self._seq} events of session {self._session} are missing")
        return Session(self._session, row["venue"], row["account"], True, self._seq, row["config"], memory)

    def has_begun(self, session: int) -> bool:
        """Return whether a session has an account snapshot: before that, it has only history bars."""
        sql = "SELECT 1 FROM events WHERE session = ? AND type = 'AccountSnapshot' LIMIT 1"
        return bool(self._rows(sql, (session,)))

    def end_session(self, at_ms: int, *, memory: Mapping[str, Any] | None = None) -> None:
        """Mark the session as finished, so that it is not resumed; `memory` is the state for the next one."""
        text = orjson.dumps(memory).decode() if memory is not None else None
        with self._translated():
            self._begin()
            self._db.execute(
                "UPDATE sessions SET ended_ms = ?, final = COALESCE(?, final) WHERE id = ?",
                (at_ms, text, self._session),
            )
        self.commit()

    def sessions(self) -> list[dict[str, Any]]:
        """Return all sessions, oldest first: `id, venue, account, started_ms, ended_ms, trades`."""
        return self._rows(
            "SELECT s.*, (SELECT count(*) FROM trades t WHERE t.session = s.id AND t.opened_ms > 0) AS trades "
            "FROM sessions s ORDER BY id"
        )

    def left_open(self, venue: str) -> bool:
        """Return whether a position may be open at a venue.

        That is so if the fills of an unfinished session do not net to 0 or cannot be read, or a damaged file was renamed.
        """
        if self.aside is not None:
            return True
        try:
            rows = self._rows("SELECT id FROM sessions WHERE venue = ? AND ended_ms IS NULL", (venue,))
            return any(self.held(row["id"]) for row in rows)
        except (DataError, ArithmeticError, ValueError):
            return True

    def held(self, session: int) -> dict[str, Decimal]:
        """Return the net quantity of the recorded fills by symbol, without flat ones."""
        rows = self._rows("SELECT symbol, side, qty FROM fills WHERE session = ? ORDER BY symbol", (session,))
        found: dict[str, Decimal] = {}
        for row in rows:
            signed = OrderSide(row["side"]).sign * Decimal(row["qty"])
            found[row["symbol"]] = found.get(row["symbol"], Decimal(0)) + signed
        return {symbol: qty for symbol, qty in found.items() if qty}

    def forget(self, *, venue: str, keep: int) -> int:
        """Delete events and intents of all but the last `keep` sessions of a venue; return the number of sessions.

        Trades and equity are kept. A replay on the embedded exchange is never resumed, and its events take far more space
        than its results.
        """
        old = self._rows("SELECT id FROM sessions WHERE venue = ? ORDER BY id DESC LIMIT -1 OFFSET ?", (venue, keep))
        with self._translated():
            self._begin()
            dropped = 0
            for row in old:
                dropped += self._db.execute("DELETE FROM events WHERE session = ?", (row["id"],)).rowcount > 0
                self._db.execute("DELETE FROM intents WHERE session = ?", (row["id"],))
        self.commit()
        return dropped
