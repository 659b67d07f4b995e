"""Thirteen ways in which a journal on disk can be damaged, each done to the files in a folder after a killed bot."""

import os
import random
import shutil
import sqlite3
from contextlib import closing

PAGE = 4096


def _merge(db):
    with closing(sqlite3.connect(db)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _sql(db, *statements):
    _merge(db)
    with closing(sqlite3.connect(db)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def _without_log(db):
    for part in ("-wal", "-shm"):
        db.with_name(db.name + part).unlink(missing_ok=True)


def wal_half(db):
    log = db.with_name(db.name + "-wal")
    log.write_bytes(log.read_bytes()[: log.stat().st_size // 2])


def wal_flip(db):
    log = db.with_name(db.name + "-wal")
    held = bytearray(log.read_bytes())
    held[len(held) * 9 // 10] ^= 0xFF
    log.write_bytes(held)


def page_flip(db):
    _merge(db)
    held, dice = bytearray(db.read_bytes()), random.Random(1)
    for _ in range(40):
        held[dice.randrange(PAGE * 3, len(held))] ^= 1 << dice.randrange(8)
    db.write_bytes(held)


def page_wipe(db):
    _merge(db)
    held = bytearray(db.read_bytes())
    pages = len(held) // PAGE
    for page in (pages // 2, pages - 2, pages - 3):
        held[page * PAGE : (page + 1) * PAGE] = bytes(PAGE)
    db.write_bytes(held)


def json_broken(db):
    _sql(db, "UPDATE events SET body = substr(body, 1, 10) WHERE seq = (SELECT max(seq) - 3 FROM events)")


def config_broken(db):
    _sql(db, """UPDATE sessions SET config = '{"config":{"risk":{"nope":1}},"speed":1}'""")


def config_json(db):
    _sql(db, "UPDATE sessions SET config = '{', memory = '['")


def newer(db):
    _sql(db, "PRAGMA user_version = 99")


def older(db):
    _sql(db, "PRAGMA user_version = 1")


def fill_gone(db):
    _sql(db, "DELETE FROM events WHERE type = 'Fill'")


def garbage(db):
    _without_log(db)
    db.write_bytes(os.urandom(50_000))


def zero(db):
    _without_log(db)
    db.write_bytes(b"")


def isdir(db):
    _without_log(db)
    db.unlink()
    db.mkdir()


#: what is done, and what the sentence has to name; None where SQLite itself mends it
KINDS = {
    wal_half: None,
    wal_flip: None,
    page_flip: "",  # which of its checks finds it depends on what the bits meant
    page_wipe: "",
    json_broken: "event",
    config_broken: "was begun with settings that this version does not know",
    config_json: "cannot be read",
    newer: "written by a newer version 99",
    older: None,
    fill_gone: "events of session 1 are missing",
    garbage: "not a database",
    zero: "is empty",
    isdir: "is not a file",
}


def copied(folder, to):
    """A copy of a folder with a journal."""
    shutil.copytree(folder, to)
    return to / "bot.db"
