"""A damaged journal is set aside and the account is looked after; one that cannot be written for a while costs nothing."""

import asyncio
import os
import sqlite3
import stat
import time
from contextlib import closing

import pytest

from bot.app import journal_watch, opening
from bot.app.journal_watch import JournalWatch
from bot.app.opening import open_journal
from bot.app.recovery import Recovery
from bot.core.errors import BotError
from bot.core.events import FeedLost, FeedRestored, Quotes, TimerFired
from bot.core.intents import SetTimer
from bot.journal import Busy, Damaged, Journal, file, salvage
from tests import damage
from tests.engine_harness import started
from tests.test_recovery import Shell, written

STAMP = "damaged-20261130T154000Z"


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The folder of a bot that was killed in a trade: the file, and a log that nobody has moved into it."""
    folder = tmp_path_factory.mktemp("killed")
    h = started()
    h.send(h.snapshot())
    h.enter()
    child = os.fork()
    if not child:
        written(folder, h)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert (folder / "bot.db-wal").stat().st_size > 50_000
    return folder, h


def test_a_text_that_is_no_utf_8_is_damage(tmp_path):
    journal, _ = written(tmp_path, started())
    journal.close()
    db = sqlite3.connect(tmp_path / "bot.db")
    db.execute("UPDATE sessions SET config = CAST(x'7bff7d' AS TEXT)")
    db.commit()
    db.close()

    with pytest.raises(Damaged, match="is not a readable journal"), Journal(tmp_path / "bot.db") as journal:
        journal.open_session("testnet", "a", resume=True, config="{}")


@pytest.mark.parametrize("harm", damage.KINDS, ids=lambda harm: harm.__name__)
def test_a_start_on_a_damaged_journal_sets_it_aside_or_resumes_it_and_never_ends(killed, tmp_path, monkeypatch, harm):
    folder, h = killed
    path = damage.copied(folder, tmp_path / "data")
    monkeypatch.setenv("BOT_DATA", str(path.parent))
    harm(path)
    before = path.read_bytes() if path.is_file() else None

    with Journal(path, aside=STAMP) as journal:
        shell = Shell(journal, h)
        shell.take_up_session()
        aside, said = journal.aside, " ".join(a.text for a in shell.told)
        sessions = journal.sessions()

    if damage.KINDS[harm] is None:
        assert aside is None
        assert not (path.parent / f"bot.db.{STAMP}").exists()
        return
    assert aside.path.name == f"bot.db.{STAMP}"
    assert damage.KINDS[harm] in aside.why
    assert "locked" not in said
    assert aside.why in said
    assert aside.path.name in said
    assert "\n" not in said
    assert aside.path.exists()
    if before is not None:
        assert aside.path.read_bytes()[:100] == before[:100]
    assert not shell.believed
    assert "start entries when you have looked" in shell.engine.entries_off
    assert [s["ended_ms"] for s in sessions] == [None]
    with Journal(path) as again:  # and the next start goes on with the new one
        assert again.aside is None


class WithLedger(Shell):
    """A start with the repaint ledger's files."""

    _open_ledger = Recovery._open_ledger


@pytest.mark.parametrize("harm", [damage.json_broken, damage.config_broken, damage.garbage], ids=lambda h: h.__name__)
def test_the_ledger_of_a_damaged_journal_goes_aside_with_it(killed, tmp_path, monkeypatch, harm):
    folder, h = killed
    path = damage.copied(folder, tmp_path / "data")
    monkeypatch.setenv("BOT_DATA", str(path.parent))
    (path.parent / "ledger").mkdir()
    (path.parent / "ledger" / "1-BTCUSDT.rows").write_bytes(b"of another session 1")
    harm(path)
    if harm is not damage.garbage:  # what the session before it left is of this version
        (path.parent / "ledger" / "1-BTCUSDT.rows").unlink()

    with Journal(path, aside=STAMP) as journal:
        shell = WithLedger(journal, h)
        shell.take_up_session()
        shell.ledger.close()

    assert (path.parent / f"ledger.{STAMP}").is_dir()
    assert not any("kept in memory only" in a.text for a in shell.told)
    assert (path.parent / "ledger" / "1-summary.json").is_file()


def test_the_limits_that_can_still_be_read_are_taken_over(killed, tmp_path, monkeypatch):
    folder, h = killed
    path = damage.copied(folder, tmp_path / "data")
    monkeypatch.setenv("BOT_DATA", str(path.parent))
    left = {**h.engine.memory(), "soft_stopped": True, "peak": "12345.5"}
    with Journal(path) as journal:
        journal.open_session("testnet", "a", resume=True)
        journal.end_session(9, memory=left)
    damage.newer(path)

    with Journal(path, aside=STAMP) as journal:
        shell = Shell(journal, h)
        shell.take_up_session()

    assert shell.engine.limits.soft_stopped
    assert str(shell.engine.limits.peak) == "12345.5"
    assert "as the old one last told them" in shell.told[0].text


def test_nothing_is_salvaged_of_what_cannot_be_read(tmp_path):
    (tmp_path / "junk").write_bytes(os.urandom(5_000))

    assert salvage(tmp_path / "junk", "testnet", "a") is None
    assert salvage(tmp_path / "none", "testnet", "a") is None


def test_two_damaged_journals_of_one_second_do_not_replace_each_other(tmp_path):
    path = tmp_path / "bot.db"
    for n in (1, 2):
        path.write_bytes(b"x" * 5_000 * n)
        Journal(path, aside=STAMP).close()

    assert (tmp_path / f"bot.db.{STAMP}").stat().st_size == 5_000
    assert (tmp_path / f"bot.db.{STAMP}-2").stat().st_size == 10_000


def test_the_damaged_journal_of_a_living_bot_is_not_touched(tmp_path):
    path = tmp_path / "bot.db"
    with Journal(path):
        with pytest.raises(BotError, match="another bot is running"):
            Journal(path, aside=STAMP)
        assert sorted(p.name for p in tmp_path.iterdir() if "damaged" in p.name) == []


def test_a_journal_and_the_folders_made_for_it_are_for_its_user_alone(tmp_path):
    old = os.umask(0)
    try:
        Journal(tmp_path / "a" / "b" / "bot.db").close()
    finally:
        os.umask(old)

    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "a", *(tmp_path / "a").rglob("*"))}
    assert modes == {"a": 0o700, "b": 0o700, "bot.db": 0o600, "bot.db.lock": 0o600, "bot.db.lock.holder": 0o600}


def test_a_journal_that_was_not_made_to_its_end_is_made_anew(tmp_path):
    (tmp_path / "bot.db.new").write_bytes(b"half")

    Journal(tmp_path / "bot.db").close()

    assert not (tmp_path / "bot.db.new").exists()


async def test_a_start_waits_for_a_journal_that_another_program_holds(tmp_path, monkeypatch):
    path = tmp_path / "bot.db"
    Journal(path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN IMMEDIATE")
        monkeypatch.setattr(opening, "LOCKED_S", 0.5)
        with pytest.raises(Busy, match="another program holds it"):
            await open_journal(path)
        monkeypatch.setattr(opening, "LOCKED_S", 30.0)
        waiting = asyncio.create_task(open_journal(path))
        await asyncio.sleep(1.5)
        assert not waiting.done()
        other.execute("COMMIT")
    (await waiting).close()


class Bench:
    """A journal in a file under watch, and another program that can lock it."""

    def __init__(self, path, **more):
        self.path, self.events, self.told, self.gave_up = path, [], [], []
        self.journal = Journal(path)
        self.journal.open_session("testnet", "a", resume=False)
        self.watch = JournalWatch(
            self.journal,
            emit=self.events.append,
            tell=self.told.append,
            now_ms=lambda: 1,
            give_up=self.gave_up.append,
            **more,
        )
        self.other = sqlite3.connect(path, isolation_level=None)

    def lock(self):
        self.other.execute("BEGIN IMMEDIATE")

    def happen(self, n, first=0):
        for i in range(first, first + n):
            seq = self.journal.append_event(TimerFired(i, "t"))
            self.journal.append_outputs(seq, [SetTimer("t", i)])
            self.journal.commit()

    def on_file(self):
        return [row[0] for row in self.other.execute("SELECT at_ms FROM events ORDER BY seq")]

    async def until(self, condition):
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 — it is a timer that is waited for
                await asyncio.sleep(0.02)

    def close(self):
        self.other.close()
        self.watch.close()
        self.journal.close()


async def test_what_happens_while_the_journal_is_locked_is_written_in_order_afterwards_and_nothing_waits(tmp_path):
    bench = Bench(tmp_path / "bot.db")
    bench.happen(3)
    bench.lock()
    began = time.perf_counter()
    bench.happen(1_200, 3)
    took = time.perf_counter() - began
    await asyncio.sleep(0.6)
    waiting = bench.on_file()
    bench.other.execute("COMMIT")
    await bench.until(lambda: bench.journal.trouble is None)
    bench.happen(1, 1_203)

    assert took < 1.0  # one wait of 5 ms, not one for each
    assert waiting == [0, 1, 2]
    assert bench.on_file() == list(range(1_204))
    assert len(list(bench.journal.intents(1))) == 1_204
    assert [type(e) for e in bench.events] == [FeedLost, FeedRestored]
    assert [e.stream for e in bench.events] == ["journal", "journal"]
    assert [a.level for a in bench.told] == ["critical", "warning"]
    assert "another program holds it" in bench.told[0].text
    assert bench.gave_up == []
    bench.close()


async def test_a_journal_that_stays_locked_is_given_up_after_its_time(tmp_path):
    bench = Bench(tmp_path / "bot.db", patience_s=0.6)
    bench.lock()
    bench.happen(1)
    await bench.until(lambda: bench.gave_up)

    assert len(bench.gave_up) == 1
    assert "another program holds it" in str(bench.gave_up[0])
    assert journal_watch.PATIENCE_S == 60.0
    bench.close()


async def test_no_more_than_the_bound_is_kept_and_quotes_go_first(tmp_path, monkeypatch):
    monkeypatch.setattr(file, "KEPT", 100)
    bench = Bench(tmp_path / "bot.db")
    bench.lock()
    for i in range(200):
        bench.journal.append_event(Quotes(i, ()) if i % 2 else TimerFired(i, "t"))
        assert bench.journal.waiting <= 100
    dropped = bench.journal.trouble.dropped
    bench.other.execute("COMMIT")
    await bench.until(lambda: bench.journal.trouble is None)

    assert dropped == 200 - len(bench.on_file())
    kept = bench.on_file()
    assert kept == sorted(kept)
    assert sum(at % 2 == 0 for at in kept) > sum(at % 2 for at in kept)
    assert f"{dropped} entries had to be dropped" in bench.told[-1].text
    bench.close()


def test_without_a_watch_a_write_that_fails_is_raised(tmp_path):
    with Journal(tmp_path / "bot.db") as journal, closing(sqlite3.connect(tmp_path / "bot.db")) as other:
        journal.open_session("testnet", "a", resume=False)
        journal.wait_at_most(1)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Busy):
            journal.append_event(TimerFired(1, "t"))


def test_a_row_that_cannot_be_read_is_named(tmp_path):
    with Journal(tmp_path / "bot.db") as journal:
        journal.open_session("testnet", "a", resume=True)
        journal.append_event(TimerFired(1, "t"))
        journal._db.execute("UPDATE events SET body = '{\"at'")
        journal.commit()
        with pytest.raises(Damaged, match=r"^event 1 cannot be read"):
            list(journal.events(1))
        journal.settle()  # no statement is left open that would lock the tables
        journal.end_session(2)
