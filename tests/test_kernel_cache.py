"""Kernels are never stale: whatever decides the machine code decides the folder in which it is looked for."""

import ast
import builtins
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import pytest

from bot.core import kernel_cache
from bot.core.kernel_cache import PACKAGE, Store, is_ours, key_of, prune, source_files
from tests.conftest import ROOT

COMPILED = os.environ.get("NUMBA_DISABLE_JIT") != "1"
compiled_only = pytest.mark.skipif(not COMPILED, reason="nothing is compiled")
INNER = "from bot.core.jit import kernel\n\n\n@kernel\ndef inner(x):\n    return {factor} * x\n"
OUTER = "from bot.core.jit import kernel\nfrom bot.indicators.inner import inner\n\n\n"
OUTER += "@kernel\ndef outer(x):\n    return inner(x)\n"
ASK = """
import sys
from bot.indicators.outer import outer
print(outer(eval(sys.argv[1])), sum(outer.stats.cache_hits.values()))
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the package with two kernels more, one taken in by the other."""
    shutil.copytree(
        PACKAGE,
        tmp_path / "bot",
        ignore=shutil.ignore_patterns("__pycache__", "backtest", "search", "parity", "sim", "app"),
    )
    (tmp_path / "bot" / "indicators" / "outer.py").write_text(OUTER)
    factor(tmp_path, "2.0")
    return tmp_path


def factor(project: Path, number: str) -> None:
    """Edit the inner kernel; size and time of the file stay as they were."""
    path = project / "bot" / "indicators" / "inner.py"
    path.write_text(INNER.format(factor=number))
    os.utime(path, (1_700_000_000, 1_700_000_000))


def begin(project: Path, value: str = "1.5", **environment: str) -> subprocess.Popen[str]:
    usual = {name: word for name, word in os.environ.items() if not name.startswith(("BOT_", "NUMBA_", "XDG_"))}
    env = {**usual, "PYTHONPATH": str(project), "PYTHONDONTWRITEBYTECODE": "1", **environment}
    env = {name: word for name, word in env.items() if word != "unset"}
    command = [sys.executable, "-P", "-c", ASK, value]
    return subprocess.Popen(command, cwd=project, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ask(project: Path, value: str = "1.5", **environment: str) -> tuple[float, int, str]:
    """Return what the outer kernel gives in a new process, how many kernels it loaded, and what it printed as errors."""
    process = begin(project, value, **environment)
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    result, hits = printed.split()
    return float(result), int(hits), errors


def kept(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.kernel"))


@compiled_only
@pytest.mark.parametrize("case", ["as it comes", "NUMBA_CACHE_DIR", "no HOME", "read-only checkout"])
def test_a_changed_kernel_gives_its_new_value_also_in_those_that_take_it_in(project, case):
    environment = {"BOT_STATE": str(project / "state")}
    if case == "NUMBA_CACHE_DIR":
        environment["NUMBA_CACHE_DIR"] = str(project / "numba")
    if case == "no HOME":
        environment["HOME"] = "unset"
    if case == "read-only checkout":  # a file where the folder would be: root may write anywhere
        for room in ("core", "indicators"):
            (project / "bot" / room / "__pycache__").touch()

    first = ask(project, **environment)
    again = ask(project, **environment)
    factor(project, "3.0")
    changed = ask(project, **environment)

    assert first == (3.0, 0, "")
    assert again == (3.0, 1, "")
    assert changed == (4.5, 0, "")
    assert len(kept(project / "state" / "kernels")) == 4  # inner and outer of either key
    assert not (project / "numba").exists()


@compiled_only
def test_what_is_changed_back_finds_its_old_kernels(project):
    environment = {"BOT_STATE": str(project / "state")}
    ask(project, **environment)
    factor(project, "3.0")
    ask(project, **environment)
    factor(project, "2.0")

    assert ask(project, **environment) == (3.0, 1, "")


@compiled_only
def test_a_state_folder_that_takes_nothing_is_named_once_and_the_temporary_folder_used(project):
    (project / "state").touch()
    (project / "tmp").mkdir()
    environment = {"BOT_STATE": str(project / "state"), "TMPDIR": str(project / "tmp")}

    result, _, errors = ask(project, **environment)

    assert result == 3.0
    assert errors.count("\n") == 1
    assert errors.startswith(f"{project / 'state' / 'kernels'} cannot keep compiled kernels (")
    assert f"they go to {project / 'tmp'}" in errors
    assert ask(project, **environment) == (3.0, 1, "")


@compiled_only
def test_where_no_folder_takes_kernels_each_start_compiles_and_one_sentence_says_so(project, monkeypatch, caplog):
    (project / "no-folder").touch()
    monkeypatch.setenv("BOT_KERNELS", str(project / "no-folder" / "kernels"))
    monkeypatch.setattr(kernel_cache.tempfile, "gettempdir", lambda: str(project / "no-folder"))
    store = Store(project / "bot")

    store.write("a.kernel", b"1")
    store.write("b.kernel", b"2")

    assert store.read("a.kernel") is None
    assert [r.getMessage().partition(": ")[2] for r in caplog.records] == [
        "each start compiles them, for a minute; BOT_KERNELS names another folder"
    ]


@compiled_only
def test_processes_that_compile_at_once_for_several_signatures_get_right_results_then_and_later(project):
    environment = {"BOT_STATE": str(project / "state")}
    values = ["1.5", "2", "1.5", "2", "1.5", "2"]

    running = [begin(project, value, **environment) for value in values]
    results = [process.communicate(timeout=300) for process in running]

    assert [float(printed.split()[0]) for printed, _ in results] == [3.0, 4.0, 3.0, 4.0, 3.0, 4.0]
    assert ask(project, "1.5", **environment) == (3.0, 1, "")
    assert ask(project, "2", **environment) == (4.0, 1, "")
    assert not list((project / "state").rglob("*.tmp"))


@compiled_only
@pytest.mark.parametrize("length", [0, 20, 500])
def test_a_file_that_was_cut_short_counts_as_none_and_is_written_again(project, length):
    environment = {"BOT_STATE": str(project / "state")}
    ask(project, **environment)
    for path in kept(project / "state"):
        os.truncate(path, length)

    assert ask(project, **environment) == (3.0, 0, "")
    assert ask(project, **environment) == (3.0, 1, "")


def test_kernels_of_another_user_or_that_others_can_write_are_not_run(tmp_path, monkeypatch):
    monkeypatch.setenv("BOT_KERNELS", str(tmp_path / "kernels"))
    monkeypatch.setattr(kernel_cache.tempfile, "gettempdir", lambda: str(tmp_path / "temporary"))
    store = Store()
    store.write("a.kernel", b"machine code")
    assert store.read("a.kernel") == b"machine code"

    (tmp_path / "kernels").chmod(0o777)
    assert store.read("a.kernel") is None
    assert not store.has("a.kernel")
    (tmp_path / "kernels").chmod(0o700)
    monkeypatch.setattr(os, "geteuid", lambda: 12_345)
    assert store.read("a.kernel") is None


def test_a_link_in_place_of_the_folder_is_not_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "kernels").symlink_to("elsewhere")

    assert is_ours(tmp_path / "elsewhere")
    assert not is_ours(tmp_path / "kernels")
    assert not is_ours(tmp_path / "absent")


def test_the_folder_of_kernels_is_this_users_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("BOT_KERNELS", str(tmp_path / "state" / "kernels"))
    store = Store()

    store.write("a.kernel", b"1")

    folders = (tmp_path / "state", tmp_path / "state" / "kernels", tmp_path / "state" / "kernels" / store.key)
    assert [folder.stat().st_mode & 0o777 for folder in folders] == [0o700, 0o700, 0o700]


def test_a_process_whose_sources_were_edited_meanwhile_keeps_and_loads_nothing(project, monkeypatch):
    monkeypatch.setenv("BOT_KERNELS", str(project / "kernels"))
    store = Store(project / "bot")
    store.write("a.kernel", b"old")
    (project / "bot" / "indicators" / "inner.py").write_text(INNER.format(factor="3.0"))

    store.write("b.kernel", b"old, under the new name or the old")

    assert store.read("a.kernel") is None
    assert not store.has("a.kernel")
    assert [path.name for path in kept(project / "kernels")] == ["a.kernel"]


def test_the_last_three_keys_stay_and_any_that_was_used_within_a_day(tmp_path):
    day = 86_400
    ages = {"new": 0, "hour": 3_600, "half": day // 2, "most": day - 60, "old": day + 60, "older": 9 * day}
    for name, age in ages.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.kernel").touch()
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))

    assert prune(tmp_path) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["half", "hour", "most", "new"]


def test_of_few_keys_none_goes_however_old(tmp_path):
    for number in range(3):
        (tmp_path / str(number)).mkdir()
        os.utime(tmp_path / str(number), (1e9 * number, 1e9 * number))

    assert prune(tmp_path) == 0


def test_another_place_of_the_same_sources_has_the_same_key(project):
    """As the compiled bot has in build/fast/."""
    for name in ("inner", "outer"):
        (project / "bot" / "indicators" / f"{name}.py").unlink()
    for room in ("backtest", "search", "parity"):
        shutil.copytree(PACKAGE / room, project / "bot" / room, ignore=shutil.ignore_patterns("__pycache__"))

    assert Store(project / "bot").key == Store().key


@pytest.mark.parametrize("what", ["numba", "llvmlite", "numpy", "processor", "features", "setting"])
def test_another_library_processor_or_setting_has_another_key(monkeypatch, what):
    files = source_files()
    before = key_of(files)
    if what == "numba":
        monkeypatch.setattr(numba, "__version__", "0.0")
    elif what in ("llvmlite", "numpy"):
        monkeypatch.setattr(sys.modules[what], "__version__", "0.0")
    else:
        name, value = {"processor": ("CPU_NAME", "generic"), "features": ("CPU_FEATURES", "+sse2")}.get(
            what, ("BOUNDSCHECK", 1)
        )
        monkeypatch.setattr(numba.config, name, value)

    assert key_of(files) != before


def kernel_files() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if kernels_of(ast.parse(path.read_text(encoding="utf-8")))]


def kernels_of(tree: ast.Module) -> list[ast.FunctionDef]:
    marks = ("kernel", "apart")
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        and any(ast.unparse(mark).split(".")[-1] in marks for mark in node.decorator_list)
    ]


def module_file(module: str) -> Path:
    path = ROOT / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def taken_in(tree: ast.Module) -> set[str]:
    """Return the names that kernels use, and those that the constants among them are made of."""
    made_of: dict[str, set[str]] = {}
    for node in tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if targets and node.value is not None:
            for target in targets:
                for name in names_in(target):
                    made_of.setdefault(name, set()).update(names_in(node.value))
        elif isinstance(node, ast.FunctionDef):
            made_of[node.name] = names_in(*node.body) - locals_of(node)
    found: set[str] = set()
    todo = [name for node in kernels_of(tree) for name in names_in(*node.body) - locals_of(node)]
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo.extend(made_of.get(name, ()))
    return found - set(dir(builtins))


def locals_of(function: ast.FunctionDef) -> set[str]:
    stored = {each.id for each in ast.walk(function) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}
    return stored | {each.arg for each in ast.walk(function.args) if isinstance(each, ast.arg)}


def names_in(*nodes: ast.AST) -> set[str]:
    return {each.id for node in nodes for each in ast.walk(node) if isinstance(each, ast.Name)}


def test_the_key_covers_each_file_with_a_kernel_and_each_that_its_constants_come_from():
    covered = set(source_files())
    for path in kernel_files():
        assert path in covered, f"add {path} to kernel_cache.FILES"
        tree = ast.parse(path.read_text(encoding="utf-8"))
        used = taken_in(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "bot":
                for alias in node.names:
                    if (alias.asname or alias.name) in used:
                        inner = module_file(f"{node.module}.{alias.name}")
                        source = inner if inner.is_file() else module_file(node.module)
                        assert source in covered, f"a kernel of {path} takes in {alias.name} of {source}"


def test_each_file_of_the_list_is_there():
    assert all((PACKAGE / name).is_file() for name in kernel_cache.FILES)
