"""`make fast`: the compiled engine is the plain one, only sooner, and what keeps it from being built is said in a sentence."""

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tools import fast

TESTS = ("backtest_by_hand", "engine", "trade", "orders", "hedge", "risk", "setup")
SAME = ("trades.parquet", "equity.parquet", "funnel.json")
TIMES = ("seconds", "bars_per_second")


def test_every_module_of_the_list_is_there_and_none_holds_a_kernel():
    found = fast.modules()

    assert "bot/engine/machine.py" in found
    assert len(found) > 30
    assert not [path for path in found if "@kernel" in (ROOT / path).read_text(encoding="utf-8")]


def test_a_list_that_names_no_file_is_refused(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text('[tool.fast]\nmodules = ["bot/absent/*.py"]\n', encoding="utf-8")
    monkeypatch.setattr(fast, "ROOT", tmp_path)

    with pytest.raises(fast.BuildError, match=r"lists bot/absent/\*\.py, and there is no such file"):
        fast.modules()


def test_without_a_compiler_nothing_is_written_and_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")

    with pytest.raises(fast.BuildError, match=r"needs a C compiler, and there is no no-such-compiler here"):
        fast.build(tmp_path / "fast")

    assert list(tmp_path.iterdir()) == []


def test_a_build_counts_until_a_source_changes(tmp_path, monkeypatch):
    (tmp_path / fast.STAMP).write_text(fast.fingerprint(), encoding="ascii")
    before = fast.is_built(tmp_path)
    monkeypatch.setattr(fast, "LEVEL", "0")

    assert before
    assert not fast.is_built(tmp_path)


@pytest.fixture(scope="module")
def built():
    fast.build()
    return fast.FAST


@pytest.fixture(scope="module")
def backtested(tmp_path_factory):
    """A function that back-tests through the command line, plain or compiled, and returns what it wrote."""

    def run(env, *options):
        out = tmp_path_factory.mktemp("backtest")
        command = [sys.executable, "-P", "-m", "bot", "backtest", *options, "--out", str(out)]
        subprocess.run(command, cwd=ROOT, env=env, check=True, capture_output=True)
        summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
        return {name: (out / name).read_bytes() for name in SAME}, {k: v for k, v in summary.items() if k not in TIMES}

    return run


@pytest.mark.nightly
@pytest.mark.timeout(1_800)
def test_what_runs_is_the_compiled_engine(built):
    code = "import bot.engine.machine as m, bot.orders.state as s, bot.core.klines as k\n"
    code += "print(m.__file__, s.__file__, k.__file__)"
    printed = subprocess.run(
        [sys.executable, "-P", "-c", code], env=fast.environment(), check=True, capture_output=True, text=True
    )

    machine, state, klines = printed.stdout.split()
    assert machine.startswith(str(built))
    assert machine.endswith(".so")
    assert state.endswith(".so")
    assert klines == str(built / "bot" / "core" / "klines.py")


@pytest.mark.nightly
@pytest.mark.reference
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("profile", ["alert", "headline"])
def test_a_backtest_writes_the_same_to_the_bit(built, backtested, shared, profile):
    options = ["--klines", str(shared / "klines" / "spot"), "--profile", profile]
    options += ["--from", "2023-01-01", "--to", "2023-01-15"]

    plain = backtested({**os.environ, "PYTHONPATH": str(ROOT)}, *options)
    compiled = backtested(fast.environment(), *options)

    assert compiled == plain
    assert plain[1]["trades"] >= 1


@pytest.mark.nightly
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("name", TESTS)
def test_the_tests_of_the_engine_hold_for_the_compiled_one(built, name):
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider"]
    command += ["-o", f"pythonpath={built} {ROOT}", f"tests/test_{name}.py"]

    done = subprocess.run(command, cwd=ROOT, env=fast.environment(), capture_output=True, text=True)

    assert done.returncode == 0, done.stdout[-4000:]
