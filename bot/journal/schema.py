"""The journal's tables, migration of older files, and the SQL of frequent writes."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Final

APPLICATION_ID: Final = 0x626F7421  # in the file's header: distinguishes a journal from any other SQLite file
SCHEMA: Final = 2

EVENT: Final = "INSERT INTO events VALUES (?, ?, ?, ?, ?)"
EVENT_AGAIN: Final = (
    "INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?, ?)"  # idempotent: a commit that failed may still be on disk
)
INTENT: Final = "INSERT OR REPLACE INTO intents VALUES (?, ?, ?, ?, ?, ?)"
DECISION: Final = "INSERT OR REPLACE INTO decisions VALUES (?, ?, ?, ?, ?, ?)"
TRADE: Final = "INSERT OR REPLACE INTO trades VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
EQUITY: Final = "INSERT OR REPLACE INTO equity VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
FILL: Final = "INSERT OR IGNORE INTO fills VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_ORDER_COLUMNS: Final = """session, client_id, symbol, side, type, qty, price, reduce_only, algo,
    status, filled_qty, average_price, created_ms, updated_ms, order_id, code, reason"""
ORDER_NEW: Final = f"""INSERT OR IGNORE INTO orders ({_ORDER_COLUMNS})
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'PENDING', '0', '0', ?, ?, '', 0, '')"""
# Statuses are monotonic: a late NEW after a partial fill, or any update of a terminal order, changes nothing.
_RANK: Final = """CASE {} WHEN 'PENDING' THEN 0 WHEN 'UNKNOWN' THEN 1 WHEN 'NEW' THEN 2
    WHEN 'PARTIALLY_FILLED' THEN 3 WHEN 'TRIGGERED' THEN 3 ELSE 4 END"""
ORDER_UPDATE: Final = f"""INSERT INTO orders ({_ORDER_COLUMNS})
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (session, client_id) DO UPDATE SET status = excluded.status, filled_qty = excluded.filled_qty,
     average_price = excluded.average_price, updated_ms = excluded.updated_ms, code = excluded.code, reason = excluded.reason,
     order_id = CASE excluded.order_id WHEN '' THEN order_id ELSE excluded.order_id END
    WHERE ({_RANK.format("status")} < 4 OR status = excluded.status)
     AND {_RANK.format("excluded.status")} >= {_RANK.format("status")}"""
# The sum of an order's fills: its final update may have been sent while no bot was connected.
ORDER_FILLED: Final = f"""UPDATE orders SET filled_qty = ?, average_price = ?, updated_ms = max(updated_ms, ?),
     status = CASE WHEN ? THEN 'FILLED' ELSE status END
    WHERE session = ? AND client_id = ? AND {_RANK.format("status")} < 4"""
NAKED: Final = "INSERT OR REPLACE INTO naked VALUES (?, ?, ?, ?, ?, ?)"
MEASURE: Final = "INSERT INTO measures VALUES (?, ?, ?, ?)"


def bring_up_to_date(path: Path) -> None:
    """Migrate the file to this version's tables; a new one is renamed into place when it has all of them.

    So a journal is never empty or incomplete, whenever the process ends. Only a new or older file pays for the import.
    """
    from sqlite_utils import Database, Migrations  # 0.6 s: kept off the path to a decision

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
        # Clustered by key: an append touches one page, and each page of a commit costs a write.
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

    @migrations()
    def sessions_remember(db: Any) -> None:
        for column in ("config", "memory", "final"):
            db.execute(f"ALTER TABLE sessions ADD COLUMN {column} TEXT")
        db.execute(
            "CREATE TABLE naked (session INTEGER NOT NULL, symbol TEXT NOT NULL, at_ms INTEGER NOT NULL, trade_id TEXT NOT NULL, "
            "role TEXT NOT NULL, ms INTEGER NOT NULL, PRIMARY KEY (session, symbol, at_ms)) WITHOUT ROWID"
        )
        db.execute(
            "CREATE TABLE measures (session INTEGER NOT NULL, name TEXT NOT NULL, at_ms INTEGER NOT NULL, value REAL NOT NULL)"
        )
        db.execute("CREATE INDEX measures_by_name ON measures (session, name)")

    new = not path.exists()
    place = path.with_name(path.name + ".new") if new else path
    if new:
        for part in ("", "-wal", "-shm"):  # left by an interrupted start
            place.with_name(place.name + part).unlink(missing_ok=True)
        os.close(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with closing(sqlite3.connect(place)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(
            f"PRAGMA application_id = {APPLICATION_ID}"
        )  # first: an incomplete journal is still a journal
        migrations.apply(Database(connection, execute_plugins=False))
        connection.execute(f"PRAGMA user_version = {SCHEMA}")
        connection.commit()
    if new:
        place.rename(path)
