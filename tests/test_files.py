"""What the bot keeps is for its owner alone, whatever umask it runs with; what a person asks for elsewhere is the umask's."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bot.app.logfile import DailyFile
from bot.core.files import private, private_folder, write_private
from bot.core.klines import make_klines
from bot.market import store
from bot.report.ledger import LedgerBook
from bot.report.operator import write_run_file
from bot.search.storage import close_storage, default_storage, open_storage
from tests.conftest import ROOT


def open_to_others(folder: Path) -> list[str]:
    """Return what in a folder, itself included, others than its owner may touch, and what its owner may not."""
    found = []
    for path in (folder, *sorted(folder.rglob("*"))):
        mode, wanted = stat.S_IMODE(path.lstat().st_mode), 0o700 if path.is_dir() else 0o600
        if mode != wanted:
            found.append(f"{path.relative_to(folder.parent)} {mode:o}")
    return found


@pytest.fixture(params=[0o000, 0o022, 0o277], ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def bars():
    close = np.full(5, 100.0)
    prices = dict.fromkeys(("open", "high", "low", "close", "volume"), close)
    return make_klines("BTCUSDT", 180_000, columns={"open_ms": np.arange(5) * 180_000, **prices})


def test_files_and_folders_are_private_under_any_umask(tmp_path, umask):
    folder = private_folder(tmp_path / "a" / "b")
    write_private(folder / "whole", b"x")
    with open(folder / "opened", "w", opener=private) as file:
        file.write("x")

    assert open_to_others(tmp_path / "a") == []
    assert sorted(path.name for path in folder.iterdir()) == ["opened", "whole"]


def test_a_file_that_was_open_to_others_is_closed_to_them_when_it_is_written_again(tmp_path):
    path = tmp_path / "bot.log"
    path.write_text("old\n")
    path.chmod(0o644)

    with open(path, "a", opener=private) as file:
        file.write("new\n")

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == "old\nnew\n"


def test_klines_are_private_in_the_bots_data_and_as_the_umask_says_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("BOT_DATA", str(tmp_path / "data"))
    before = os.umask(0o022)
    try:
        store.write(tmp_path / "data" / "klines", bars())
        path = store.write(tmp_path / "elsewhere", bars())
    finally:
        os.umask(before)

    assert open_to_others(tmp_path / "data") == []
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_log_ledger_token_and_studies_are_private(tmp_path, monkeypatch, umask):
    data = tmp_path / "data"
    monkeypatch.setenv("BOT_DATA", str(data))
    log = DailyFile(data / "logs")
    log.write("a line\n")
    log.close()
    book = LedgerBook(data / "ledger" / "1-BTCUSDT.rows")
    book.open()
    book.close()
    write_run_file(data, port=1, venue="sim", token="t")
    close_storage(open_storage(default_storage()))

    assert open_to_others(data) == []
    assert {path.name for path in data.iterdir()} == {"logs", "ledger", "token", "run.json", "studies.db"}


@pytest.mark.slow
@pytest.mark.wire
def test_after_a_run_nothing_in_the_data_folder_is_open_to_others(tmp_path):
    data = tmp_path / "data"
    words = ["run", "--venue", "sim", "--speed", "max", "--once", "--no-dashboard", "--quiet", "--log-format", "json"]
    words += ["--from", "2024-01-09T10:00", "--to", "2024-01-09T18:00"]

    done = subprocess.run(
        [sys.executable, "-m", "bot", *words],
        cwd=ROOT, env={**os.environ, "BOT_DATA": str(data)}, umask=0o022, capture_output=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert {"bot.db", "ledger"} <= {path.name for path in data.rglob("*")}
    assert [found for found in open_to_others(data) if not found.startswith(("data ", "data/bot.db"))] == []
