"""One bot per account: the lock of the user's state folder, and the journal's, on every system."""

import asyncio
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from bot.app.account_lock import account_lock, lock_path
from bot.app.setup import interrupted
from bot.core.errors import BotError
from bot.core.held import lock_holder
from bot.journal import Journal
from tests.conftest import ROOT

HOST = "https://h"
KEY = "the-key-of-the-account"
HOLD = (
    "import sys\n"
    "from bot.app.account_lock import account_lock\n"
    "from bot.core.errors import BotError\n"
    "try:\n    held = account_lock(sys.argv[1], 'https://h'); held.__enter__()\n"
    "except BotError as error:\n    print(error); sys.exit(error.exit_code)\n"
    "print('held', flush=True)\n"
)


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BOT_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("BOT_DATA", str(tmp_path / "data"))
    return tmp_path / "state"


def environment(**more: str) -> dict[str, str]:
    path = os.pathsep.join(part for part in (str(ROOT), os.environ.get("PYTHONPATH", "")) if part)
    return {**os.environ, "PYTHONPATH": path, **more}


def other(key: str, program: str = HOLD, **more: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", program, key]
    return subprocess.run(words, env=environment(**more), capture_output=True, text=True, check=False)


def test_two_bots_on_one_account_see_each_other_whatever_their_folders(tmp_path):
    with account_lock(KEY, HOST):
        elsewhere = {"BOT_DATA": str(tmp_path / "elsewhere"), "TMPDIR": str(tmp_path)}  # a private temporary folder
        same, another = other(KEY, **elsewhere), other("another-key-altogether", **elsewhere)
    after = other(KEY)

    assert same.returncode == 1
    assert "another bot on this machine trades on this account" in same.stdout
    assert f"pid {os.getpid()}, journal in {tmp_path / 'data'}" in same.stdout
    assert another.returncode == after.returncode == 0
    assert "the-key" not in lock_path(KEY, HOST).name


def test_a_crash_lets_the_account_go():
    words = [sys.executable, "-c", HOLD + "import time; time.sleep(60)", KEY]
    with subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE, text=True) as bot:
        assert bot.stdout is not None
        assert bot.stdout.readline() == "held\n"
        with pytest.raises(BotError, match=f"pid {bot.pid}"), account_lock(KEY, HOST):
            pass
        bot.kill()
        bot.wait()

    with account_lock(KEY, HOST):
        pass


def test_nobody_else_can_open_or_take_the_lock(state):
    state.mkdir(mode=0o777)
    state.chmod(0o777)

    with account_lock(KEY, HOST):
        assert stat.S_IMODE(state.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in state.iterdir()} == {0o600}


def test_a_state_folder_that_cannot_be_written_is_one_sentence_with_the_way_out(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BOT_STATE", str(tmp_path / "file" / "state"))

    with pytest.raises(BotError, match=r"the account's lock cannot be kept .*: set BOT_STATE to") as refused:
        account_lock(KEY, HOST).__enter__()
    assert "\n" not in str(refused.value)


def test_a_link_in_the_locks_place_is_not_followed(state, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("mine")
    lock_path(KEY, HOST).symlink_to(precious)

    with pytest.raises(BotError, match="cannot be kept"):
        account_lock(KEY, HOST).__enter__()
    assert precious.read_text() == "mine"


def test_the_journals_holder_is_known_and_forgotten(tmp_path):
    path = tmp_path / "data" / "bot.db"
    lock = path.with_name("bot.db.lock")

    assert lock_holder(lock) == ""
    with Journal(path):
        assert lock_holder(lock) == str(os.getpid())
        with pytest.raises(BotError, match=f"another bot is running on .* \\(pid {os.getpid()}\\)"):
            Journal(path)
    assert lock_holder(lock) == ""


def test_everything_imports_and_locks_without_fcntl(tmp_path):
    """Windows has none: the library takes what the system offers."""
    program = (
        "import sys, warnings; warnings.simplefilter('ignore'); sys.modules['fcntl'] = None\n"
        "import importlib, pkgutil, bot\n"
        "for found in pkgutil.walk_packages(bot.__path__, 'bot.'):\n"
        "    if not found.name.endswith('__main__'): importlib.import_module(found.name)\n"
    )

    done = other(KEY, program + HOLD)

    assert done.returncode == 0, done.stderr
    assert done.stdout == "held\n"
    assert "fcntl" not in "".join(path.read_text() for path in (ROOT / "bot").rglob("*.py"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
async def test_a_loop_that_takes_no_signal_handlers_is_stopped_all_the_same(monkeypatch, number, code):
    def refused(*_):
        raise NotImplementedError

    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setattr(asyncio.get_running_loop(), "add_signal_handler", refused)
    try:
        asked = asyncio.create_task(interrupted())
        await asyncio.sleep(0)
        os.kill(os.getpid(), number)
        assert await asyncio.wait_for(asked, 5) == code
    finally:
        for n, handler in before.items():
            signal.signal(n, handler)
