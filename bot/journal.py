"""The bot's memory: every event that came in, every intent and decision that went out, kept in one SQLite file.

The rule is write-ahead: an event is recorded before it is handled, and an order is recorded, in a transaction that
survives a killed process, before it is sent. After a crash the events are read back, the engine handles them again and
knows what it knew; what the exchange did meanwhile is found by reconciliation. Orders, fills, trades, decisions and equity
are kept in tables of their own for the person who asks.

Entries belong to a session: one engagement of one account at one venue. The embedded exchange starts a new one each time;
a test network or live account resumes its last unfinished one. Prices and money are stored as text, to the digit.

Theory of operation: one connection, one stream of transactions. Appending begins a transaction when none is open, `commit`
ends it; in WAL mode with `synchronous = normal` a commit writes without waiting for the disk (about as long as the rows
themselves), and the wait is taken in `settle`, when nothing is urgent: after fills and closed trades, and at the end.
"""

import fcntl
import math
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Literal, Self

import orjson

from bot.core.codec import pack, unpack
from bot.core.errors import BotError, DataError, DataMissing, InvariantError
from bot.core.events import AccountSnapshot, Event, Fill, OrderUpdate
from bot.core.intents import Alert, CancelOrder, CancelTimer, Intent, PlaceOrder, RequestSnapshot, SetLeverage, SetTimer
from bot.core.records import Decision, EquityPoint, Record, TradeRecord
from bot.core.types import OrderStatus

APPLICATION_ID: Final = 0x626F7421  # in the file's header: how a journal is told from any other SQLite file
SCHEMA: Final = 1
SETTLE_ROWS: Final = 20_000  # rows after which the log is moved into the file even without a trade
Intents = PlaceOrder | CancelOrder | SetTimer | CancelTimer | SetLeverage | RequestSnapshot | Alert

_EVENT: Final = "INSERT INTO events VALUES (?, ?, ?, ?, ?)"
_INTENT: Final = "INSERT OR REPLACE INTO intents VALUES (?, ?, ?, ?, ?, ?)"
_DECISION: Final = "INSERT OR REPLACE INTO decisions VALUES (?, ?, ?, ?, ?, ?)"
_TRADE: Final = "INSERT OR REPLACE INTO trades VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_EQUITY: Final = "INSERT OR REPLACE INTO equity VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_FILL: Final = "INSERT OR IGNORE INTO fills VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_ORDER_COLUMNS: Final = """session, client_id, symbol, side, type, qty, price, reduce_only, algo,
    status, filled_qty, average_price, created_ms, updated_ms, order_id, code, reason"""
_ORDER_NEW: Final = f"""INSERT OR IGNORE INTO orders ({_ORDER_COLUMNS})
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'PENDING', '0', '0', ?, ?, '', 0, '')"""
# A status never goes back: a late "NEW" after a partial fill, or anything after the end, changes nothing.
_RANK: Final = """CASE {} WHEN 'PENDING' THEN 0 WHEN 'UNKNOWN' THEN 1 WHEN 'NEW' THEN 2
    WHEN 'PARTIALLY_FILLED' THEN 3 WHEN 'TRIGGERED' THEN 3 ELSE 4 END"""
_ORDER_UPDATE: Final = f"""INSERT INTO orders ({_ORDER_COLUMNS})
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (session, client_id) DO UPDATE SET status = excluded.status, filled_qty = excluded.filled_qty,
     average_price = excluded.average_price, updated_ms = excluded.updated_ms, code = excluded.code, reason = excluded.reason,
     order_id = CASE excluded.order_id WHEN '' THEN order_id ELSE excluded.order_id END
    WHERE {_RANK.format("status")} < 4 AND {_RANK.format("excluded.status")} >= {_RANK.format("status")}"""


@dataclass(frozen=True, slots=True)
class Session:
    """One engagement of an account; `resumed` tells that it holds events to replay before anything new is handled."""

    id: int
    venue: str
    account: str
    resumed: bool
    events: int  # how many it holds: the last sequence number


def _schema(path: Path) -> None:
    """Bring the file to this version's tables. Only a file that is not there yet pays for the import."""
    from sqlite_utils import Database, Migrations  # 0.6 s: not on the way to a decision

    migrations = Migrations("journal")

    @migrations()
    def first_tables(db: Any) -> None:
        text, whole = str, int
        order = {"session": whole, "client_id": text, "symbol": text, "side": text, "type": text, "qty": text}
        order |= {"price": text, "reduce_only": whole, "algo": whole, "status": text, "filled_qty": text}
        order |= {"average_price": text, "created_ms": whole, "updated_ms": whole, "order_id": text, "code": whole}
        fill = {"session": whole, "symbol": text, "trade_id": whole, "at_ms": whole, "client_id": text, "side": text}
        fill |= {"qty": text, "price": text, "fee": text, "maker": whole, "realized": text}
        trade = {"session": whole, "trade_id": text, "signal_ms": whole, "opened_ms": whole, "closed_ms": whole}
        trade |= {"side": text, "exit_reason": text, "qty": text, "pnl": text, "body": text}
        equity = {"session": whole, "seq": whole, "n": whole, "at_ms": whole, "wallet": text, "equity": text}
        equity |= {"peak": text, "day_r": float}
        session = {"id": whole, "venue": text, "account": text, "started_ms": whole, "ended_ms": whole}
        event = {"session": whole, "seq": whole, "at_ms": whole, "type": text, "body": text}
        intent = {"session": whole, "seq": whole, "n": whole, "type": text, "client_id": text, "body": text}
        decision = {"session": whole, "open_ms": whole, "at_ms": whole, "signal": whole, "code": text, "body": text}
        db.table("sessions").create(session, pk="id", not_null={"venue", "account"})
        db.table("trades").create(trade, pk=("session", "trade_id"))
        # Clustered by their key: one page is touched by an append, and each page of a commit costs a write.
        for name, columns, key in (
            ("events", event, ("session", "seq")),
            ("intents", intent, ("session", "seq", "n")),
            ("orders", order | {"reason": text}, ("session", "client_id")),
            ("fills", fill, ("session", "symbol", "trade_id")),
            ("equity", equity, ("session", "seq", "n")),
            ("decisions", decision, ("session", "open_ms")),
        ):
            types = {int: "INTEGER NOT NULL", str: "TEXT NOT NULL", float: "REAL"}  # SQLite keeps NaN as NULL
            body = ", ".join(f"{column} {types[kind]}" for column, kind in columns.items())
            db.execute(f"CREATE TABLE {name} ({body}, PRIMARY KEY ({', '.join(key)})) WITHOUT ROWID")

    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")  # first: a half-made journal is still ours
        migrations.apply(Database(connection, execute_plugins=False))
        connection.execute(f"PRAGMA user_version = {SCHEMA}")
        connection.commit()


class Journal:
    """The journal at `path`, held by one bot at a time.

    Parameters
    ----------
    path
        The SQLite file; made, with its folder, when it is not there. Beside it stand a lock file and the write-ahead log.
    sync
        SQLite's `synchronous`: ``normal`` survives a killed process, ``full`` a power cut at the cost of one disk wait
        a commit.
    read_only
        For `trades` and `status` beside a running bot: takes no lock and writes nothing.
    """

    def __init__(
        self, path: Path | str, *, sync: Literal["normal", "full"] = "normal", read_only: bool = False
    ) -> None:
        self.path = Path(path)
        self._lock: int | None = None
        self._db_open = False
        self._session = 0
        self._seq = 0
        self._unsettled = 0  # rows since the log was moved into the file
        self._settle_due = False
        if read_only and not self.path.is_file():
            raise DataMissing(f"there is no journal at {self.path}: no bot has run there yet")
        try:
            if not read_only:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._take_lock()
            self._db = self._connect(read_only=read_only)
            self._db_open = True
            if not read_only:
                self._db.execute(f"PRAGMA synchronous = {sync}")
                # Checkpoints wait for the disk: `settle` makes them, never a commit that an order waits for.
                self._db.execute("PRAGMA wal_autocheckpoint = 0")
        except OSError as error:
            self._release_lock()
            raise BotError(f"the journal {self.path} cannot be used: {error.strerror or error}") from error
        except sqlite3.Error as error:
            self._release_lock()
            raise self._unreadable(error) from error
        except BaseException:
            self._release_lock()
            raise

    def _unreadable(self, error: sqlite3.Error) -> BotError:
        if isinstance(error, sqlite3.OperationalError):
            return BotError(f"the journal {self.path} cannot be used: {error}")
        return DataError(
            f"{self.path} is not a readable journal ({error}): move it away, or set BOT_DATA to another folder"
        )

    def _take_lock(self) -> None:
        lock_path = self.path.with_name(self.path.name + ".lock")
        self._lock = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._lock, 32).decode(errors="replace").strip() or "unknown"
            raise BotError(
                f"another bot is running on {self.path} (pid {holder}): stop it first, or set BOT_DATA to another folder"
            ) from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def _release_lock(self) -> None:
        # The file stays: removing it would let a third process lock a name that a second one still waits for.
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _connect(self, *, read_only: bool) -> sqlite3.Connection:
        if self.path.is_file() and self.path.stat().st_size > 0:
            with closing(sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True)) as probe:
                mark = probe.execute("PRAGMA application_id").fetchone()[0]
                version = probe.execute("PRAGMA user_version").fetchone()[0]
                foreign = mark != APPLICATION_ID and probe.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if foreign:
                raise DataError(
                    f"{self.path} is a database of something else, not a journal: move it away, "
                    "or set BOT_DATA to another folder"
                )
            if version > SCHEMA:
                raise DataError(f"{self.path} was written by a newer version of the bot: use that version to open it")
        else:
            version = 0
        if version < SCHEMA and not read_only:
            _schema(self.path)
        mode = "ro" if read_only else "rw"
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, timeout=5.0
        )
        connection.row_factory = sqlite3.Row
        try:
            connection.execute("SELECT count(*) FROM sessions").fetchone()  # a damaged file shows here, not in a trade
        except BaseException:
            connection.close()
            raise
        return connection

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Commit, move the log into the file and let the next bot in. The session stays unfinished: see `end_session`."""
        if self._db_open:
            if self._lock is not None:
                self.commit()
                self._checkpoint("TRUNCATE")
            self._db.close()
            self._db_open = False
        self._release_lock()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._unreadable(error) from error

    # Sessions

    def open_session(self, venue: str, account: str, *, resume: bool, at_ms: int = 0) -> Session:
        """Return the session that is written from now on.

        Parameters
        ----------
        venue, account
            Where, and whose: the account is any stable text (never a secret).
        resume
            Take up the last session of this venue and account that was not ended, if there is one.
        at_ms
            Exchange time, of a new session's start.
        """
        with self._translated():
            if resume:
                row = self._db.execute(
                    "SELECT id FROM sessions WHERE venue = ? AND account = ? AND ended_ms IS NULL ORDER BY id DESC LIMIT 1",
                    (venue, account),
                ).fetchone()
                if row:
                    self._session = row["id"]
                    last = self._db.execute(
                        "SELECT max(seq) FROM events WHERE session = ?", (self._session,)
                    ).fetchone()
                    self._seq = last[0] or 0
                    return Session(self._session, venue, account, resumed=True, events=self._seq)
            self.commit()
            cursor = self._db.execute(
                "INSERT INTO sessions (venue, account, started_ms) VALUES (?, ?, ?)", (venue, account, at_ms)
            )
            self._session, self._seq = int(cursor.lastrowid or 0), 0
        return Session(self._session, venue, account, resumed=False, events=0)

    def end_session(self, at_ms: int) -> None:
        """Mark the session finished: it will not be resumed."""
        with self._translated():
            self._begin()
            self._db.execute("UPDATE sessions SET ended_ms = ? WHERE id = ?", (at_ms, self._session))
        self.commit()

    def sessions(self) -> list[dict[str, Any]]:
        """Return all sessions, oldest first: `id, venue, account, started_ms, ended_ms, trades`."""
        return self._rows(
            "SELECT s.*, (SELECT count(*) FROM trades t WHERE t.session = s.id AND t.opened_ms > 0) AS trades "
            "FROM sessions s ORDER BY id"
        )

    def forget(self, *, venue: str, keep: int) -> int:
        """Drop the event streams of a venue's sessions but the last `keep`; trades and equity stay. Return how many.

        A replay on the embedded exchange is never resumed, and its events weigh far more than what came of them.
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

    # Writing

    def _begin(self) -> None:
        if not self._db.in_transaction:
            if not self._session:
                raise InvariantError("the journal is written before a session is open")
            self._db.execute("BEGIN IMMEDIATE")

    def append_event(self, event: Event) -> int:
        """Record an event, before it is handled, and return its sequence number. Durable at the next `commit`."""
        seq = self._seq + 1
        name = type(event).__name__
        try:
            self._begin()
            self._db.execute(_EVENT, (self._session, seq, event.at_ms, name, orjson.dumps(pack(event)).decode()))
            if name == "OrderUpdate" or name == "Fill" or name == "AccountSnapshot":
                self._append_book(event)
        except sqlite3.Error as error:
            raise self._unreadable(error) from error
        self._seq = seq
        self._unsettled += 1
        return seq

    def append_events(self, events: Iterable[Event]) -> int:
        """Record many events that decide nothing (the klines of the warm-up) at once; return the last number."""
        rows = [
            (self._session, seq, event.at_ms, type(event).__name__, orjson.dumps(pack(event)).decode())
            for seq, event in enumerate(events, self._seq + 1)
        ]
        with self._translated():
            self._begin()
            self._db.executemany(_EVENT, rows)
        self._seq += len(rows)
        self._unsettled += len(rows)
        return self._seq

    def append_outputs(self, seq: int, outputs: Iterable[Intent | Record]) -> bool:
        """Record what the engine answered to event `seq`; True if it holds an intent, which `commit` must precede.

        Writing the answers of a replayed event again changes nothing: they have the same keys.
        """
        urgent = False
        session = self._session
        try:
            self._begin()
            execute = self._db.execute
            for n, output in enumerate(outputs):
                self._unsettled += 1
                if isinstance(output, EquityPoint):
                    money = (str(output.wallet), str(output.equity), str(output.peak), float(output.day_r))
                    execute(_EQUITY, (session, seq, n, output.at_ms, *money))
                    continue
                body = orjson.dumps(pack(output)).decode()
                if isinstance(output, Decision):
                    execute(_DECISION, (session, output.open_ms, output.at_ms, output.signal, output.code, body))
                elif isinstance(output, TradeRecord):
                    self._append_trade(output, body)
                else:
                    urgent = True
                    client_id = getattr(output, "client_id", "")
                    execute(_INTENT, (session, seq, n, type(output).__name__, client_id, body))
                    if isinstance(output, PlaceOrder):
                        self._append_order(seq, output)
        except sqlite3.Error as error:
            raise self._unreadable(error) from error
        return urgent

    def _append_trade(self, trade: TradeRecord, body: str) -> None:
        times = (trade.signal_ms, trade.opened_ms, trade.closed_ms)
        result = (trade.side.name, trade.exit_reason, str(trade.qty), str(trade.pnl))
        self._db.execute(_TRADE, (self._session, trade.trade_id, *times, *result, body))
        self._settle_due = True

    def _append_order(self, seq: int, order: PlaceOrder) -> None:
        row = self._db.execute(
            "SELECT at_ms FROM events WHERE session = ? AND seq = ?", (self._session, seq)
        ).fetchone()
        at_ms = row[0] if row else 0
        price = order.price if order.trigger_price is None else order.trigger_price
        what = (
            order.client_id,
            order.symbol,
            order.side.value,
            order.order_type.value,
            str(order.qty),
            str(price or ""),
        )
        flags = (int(order.reduce_only or order.close_position), int(order.algo))
        self._db.execute(_ORDER_NEW, (self._session, *what, *flags, at_ms, at_ms))

    def _append_book(self, event: Event) -> None:
        """Keep the tables of orders and fills in step with what the venue tells."""
        execute = self._db.execute
        if isinstance(event, OrderUpdate):
            what = (event.client_id, event.symbol, event.side.value, "", str(event.qty), "", 0, int(event.algo))
            state = (event.status.value, str(event.filled_qty), str(event.average_price), event.at_ms, event.at_ms)
            execute(_ORDER_UPDATE, (self._session, *what, *state, event.order_id, event.code, event.reason))
        elif isinstance(event, Fill):
            self._append_fill(event)
        elif isinstance(event, AccountSnapshot):
            for fill in event.fills:
                self._append_fill(fill)
            for order in event.orders:
                kind = (order.client_id, order.symbol, order.side.value, order.order_type.value, str(order.qty))
                flags = (str(order.price), int(order.reduce_only or order.close_position), int(order.algo))
                found = (order.status.value, str(order.filled_qty), str(order.average_price), *(2 * (order.update_ms,)))
                execute(_ORDER_UPDATE, (self._session, *kind, *flags, *found, "", 0, ""))

    def _append_fill(self, fill: Fill) -> None:
        key = (self._session, fill.symbol, fill.trade_id, fill.at_ms, fill.client_id, fill.side.value)
        money = (str(fill.qty), str(fill.price), str(fill.fee), int(fill.maker), str(fill.realized))
        self._db.execute(_FILL, (*key, *money))
        self._settle_due = True

    def commit(self) -> None:
        """Make everything appended so far survive the death of this process. Called before intents are performed."""
        if self._db.in_transaction:
            with self._translated():
                self._db.execute("COMMIT")

    def settle(self) -> None:
        """Commit, and after a fill, a closed trade or many rows also wait for the disk. For moments without hurry."""
        self.commit()
        if self._settle_due or self._unsettled >= SETTLE_ROWS:
            self._checkpoint("PASSIVE")
            self._settle_due, self._unsettled = False, 0

    def _checkpoint(self, mode: str) -> None:
        with self._translated():
            self._db.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()

    # Reading

    def _rows(self, sql: str, arguments: tuple[Any, ...] = ()) -> list[dict[str, Any]]:
        with self._translated():
            return [dict(row) for row in self._db.execute(sql, arguments)]

    def _bodies(self, sql: str, arguments: tuple[Any, ...], name: str) -> list[Any]:
        with self._translated():
            return [unpack(name, orjson.loads(row[0])) for row in self._db.execute(sql, arguments)]

    def events(self, session: int, *, after: int = 0) -> Iterator[tuple[int, Event]]:
        """Yield (sequence number, event) of a session in the order in which they were handled."""
        with self._translated():
            rows = self._db.execute(
                "SELECT seq, type, body FROM events WHERE session = ? AND seq > ? ORDER BY seq", (session, after)
            )
            for seq, name, body in rows:
                yield seq, unpack(name, orjson.loads(body))

    def intents(self, session: int, *, after: int = 0) -> Iterator[tuple[int, Intents]]:
        """Yield (sequence number of the event answered, intent) of a session."""
        with self._translated():
            rows = self._db.execute(
                "SELECT seq, type, body FROM intents WHERE session = ? AND seq > ? ORDER BY seq, n", (session, after)
            )
            for seq, name, body in rows:
                yield seq, unpack(name, orjson.loads(body))

    def trades(self, session: int | None = None) -> list[TradeRecord]:
        """Return the trades, and the setups that filled nothing, of a session or of all, in the order of their signals."""
        where, arguments = ("WHERE session = ?", (session,)) if session is not None else ("", ())
        return self._bodies(
            f"SELECT body FROM trades {where} ORDER BY session, signal_ms, rowid", arguments, "TradeRecord"
        )

    def last_trades(self, n: int, session: int | None = None) -> list[TradeRecord]:
        """Return the last `n` trades that filled something, newest last."""
        where, arguments = ("AND session = ?", (session,)) if session is not None else ("", ())
        sql = f"SELECT body FROM trades WHERE opened_ms > 0 {where} ORDER BY session DESC, closed_ms DESC, rowid DESC LIMIT ?"
        return self._bodies(sql, (*arguments, n), "TradeRecord")[::-1]

    def decisions(self, session: int, *, from_ms: int = 0, to_ms: int = 2**62) -> Iterator[Decision]:
        """Yield the decisions on bars that opened in [from_ms, to_ms); each holds all values of its bar, so not a list."""
        sql = "SELECT body FROM decisions WHERE session = ? AND open_ms >= ? AND open_ms < ? ORDER BY open_ms"
        with self._translated():
            for (body,) in self._db.execute(sql, (session, from_ms, to_ms)):
                yield unpack("Decision", orjson.loads(body))

    def equity(self, session: int, *, last: int | None = None) -> list[EquityPoint]:
        """Return the equity line of a session, or its `last` points."""
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

    def orders(self, session: int, *, working: bool = False) -> list[dict[str, Any]]:
        """Return the orders of a session as last told by the venue, oldest first; only the live ones with `working`."""
        rows = self._rows("SELECT * FROM orders WHERE session = ? ORDER BY created_ms, client_id", (session,))
        return [row for row in rows if not working or not OrderStatus(row["status"]).is_terminal]

    def fills(self, session: int) -> list[dict[str, Any]]:
        """Return our fills in a session, oldest first, each once."""
        return self._rows("SELECT * FROM fills WHERE session = ? ORDER BY at_ms, trade_id", (session,))
