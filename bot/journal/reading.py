"""Read the journal: events and intents for a replay, trades and equity for queries."""

import math
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from typing import Any

import orjson

from bot.core.codec import unpack
from bot.core.errors import DataError
from bot.core.events import Event
from bot.core.intents import Intent
from bot.core.records import Decision, EquityPoint, NakedSpell, TradeRecord
from bot.core.types import OrderStatus
from bot.journal.file import Damaged
from bot.journal.writing import Writing


class Journal(Writing):
    """The journal at a path, held by one bot at a time; see `File` for its parameters."""

    def _bodies(self, sql: str, arguments: tuple[Any, ...], name: str) -> list[Any]:
        with self._translated():
            return [unpack(name, orjson.loads(row[0])) for row in self._db.execute(sql, arguments)]

    def events(self, session: int, *, after: int = 0) -> Iterator[tuple[int, Event]]:
        """Yield `(sequence number, event)` of a session in the order of handling.

        Raises
        ------
        Damaged
            An event cannot be decoded.
        """
        sql = "SELECT seq, type, body FROM events WHERE session = ? AND seq > ? ORDER BY seq"
        yield from self._unpacked(sql, (session, after), "event")

    def intents(self, session: int, *, after: int = 0) -> Iterator[tuple[int, Intent]]:
        """Yield `(sequence number of the handled event, intent)` of a session.

        Raises
        ------
        Damaged
            An intent cannot be decoded.
        """
        sql = "SELECT seq, type, body FROM intents WHERE session = ? AND seq > ? ORDER BY seq, n"
        yield from self._unpacked(sql, (session, after), "intent of event")

    def _unpacked(self, sql: str, arguments: tuple[Any, ...], what: str) -> Iterator[tuple[int, Any]]:
        """Yield the sequence number and decoded value of each row.

        Raises
        ------
        Damaged
            A row cannot be decoded; the message has its number and the reason.
        """
        with self._translated(), closing(self._db.execute(sql, arguments)) as rows:
            for seq, name, body in rows:
                try:
                    thing = unpack(name, orjson.loads(body))
                except (DataError, ValueError, TypeError, ArithmeticError, LookupError) as error:
                    raise Damaged(f"{what} {seq} cannot be read ({error or type(error).__name__})") from error
                yield seq, thing

    def trades(self, session: int | None = None) -> list[TradeRecord]:
        """Return the trades and the unfilled setups of one or all sessions, in signal order."""
        where, arguments = ("WHERE session = ?", (session,)) if session is not None else ("", ())
        return self._bodies(
            f"SELECT body FROM trades {where} ORDER BY session, signal_ms, rowid", arguments, "TradeRecord"
        )

    def last_trades(self, n: int, session: int | None = None) -> list[TradeRecord]:
        """Return the last `n` filled trades, newest last."""
        where, arguments = ("AND session = ?", (session,)) if session is not None else ("", ())
        sql = f"SELECT body FROM trades WHERE opened_ms > 0 {where} ORDER BY session DESC, closed_ms DESC, rowid DESC LIMIT ?"
        return self._bodies(sql, (*arguments, n), "TradeRecord")[::-1]

    def decisions(self, session: int, *, from_ms: int = 0, to_ms: int = 2**62) -> Iterator[Decision]:
        """Yield the decisions on bars that opened in `[from_ms, to_ms)`; each is too large for a list of all."""
        sql = "SELECT body FROM decisions WHERE session = ? AND open_ms >= ? AND open_ms < ? ORDER BY open_ms"
        with self._translated():
            for (body,) in self._db.execute(sql, (session, from_ms, to_ms)):
                yield unpack("Decision", orjson.loads(body))

    def equity_by_event(self, session: int) -> Iterator[tuple[tuple[int, int], EquityPoint]]:
        """Yield `((event number, index among its outputs), point)` of a session's equity curve, in order."""
        keys = self._rows("SELECT seq, n FROM equity WHERE session = ? ORDER BY seq, n", (session,))
        yield from zip(((row["seq"], row["n"]) for row in keys), self.equity(session), strict=True)

    def equity(self, session: int, *, last: int | None = None) -> list[EquityPoint]:
        """Return the equity curve of a session, or its `last` points."""
        rows = self._rows(
            "SELECT at_ms, wallet, equity, peak, day_r FROM equity WHERE session = ? ORDER BY seq DESC, n DESC LIMIT ?",
            (session, -1 if last is None else last),
        )
        return [
            EquityPoint(
                row["at_ms"],
                Decimal(row["wallet"]),
                Decimal(row["equity"]),
                Decimal(row["peak"]),
                math.nan if row["day_r"] is None else row["day_r"],
            )
            for row in reversed(rows)
        ]

    def order_numbers(self, session: int) -> list[tuple[str, str, str]]:
        """Return symbol, exchange order id and client id of each regular order of a session that has an order id."""
        sql = "SELECT symbol, order_id, client_id FROM orders WHERE session = ? AND order_id != '' AND NOT algo"
        return [(row["symbol"], row["order_id"], row["client_id"]) for row in self._rows(sql, (session,))]

    def orders(self, session: int, *, working: bool = False) -> list[dict[str, Any]]:
        """Return the orders of a session as last reported, oldest first; with `working`, without terminal ones."""
        rows = self._rows("SELECT * FROM orders WHERE session = ? ORDER BY created_ms, client_id", (session,))
        return [row for row in rows if not working or not OrderStatus(row["status"]).is_terminal]

    def fills(self, session: int) -> list[dict[str, Any]]:
        """Return the fills of a session, oldest first, without duplicates."""
        return self._rows("SELECT * FROM fills WHERE session = ? ORDER BY at_ms, trade_id", (session,))

    def naked(self, session: int) -> list[NakedSpell]:
        """Return the naked spells of a session, oldest first."""
        rows = self._rows("SELECT * FROM naked WHERE session = ? ORDER BY at_ms, symbol", (session,))
        return [NakedSpell(r["at_ms"], r["symbol"], r["trade_id"], r["ms"], r["role"]) for r in rows]

    def measures(self, session: int, name: str) -> list[float]:
        """Return all measurements of a name in a session, oldest first."""
        sql = "SELECT value FROM measures WHERE session = ? AND name = ? ORDER BY rowid"
        return [row["value"] for row in self._rows(sql, (session, name))]
