"""`make fast`: the bot with its engine compiled to machine code from the very same sources, for research at speed.

A copy of `bot/` is made in build/fast/, the modules that `[tool.fast]` in pyproject.toml lists are compiled there by mypyc
(it comes with mypy, which checks the types anyway), and the command runs with that folder first on the path. Results are
the same to the bit. Nothing is ever compiled beside the sources: there a stale library would hide an edited file.
What was built is used again until a source, this list or a version changes.
"""

import contextlib
import hashlib
import importlib.metadata
import io
import os
import shutil
import sys
import sysconfig
import tempfile
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
FAST: Final = ROOT / "build" / "fast"
STAMP: Final = "built-from"
LINKED: Final = ("config.toml", "data")  # what the bot looks for beside its package
LEVEL: Final = "2"  # of the C compiler's optimisation: 3 gains nothing and 1 saves little


class BuildError(Exception):
    """What is missing or does not compile, in a sentence."""


def modules() -> list[str]:
    """Return the paths of the modules that are compiled, as pyproject.toml lists them."""
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["fast"]["modules"]
    found = set()
    for pattern in patterns:
        paths = [path for path in ROOT.glob(pattern) if path.name != "__init__.py"]
        if not paths:
            raise BuildError(f"[tool.fast] in pyproject.toml lists {pattern}, and there is no such file")
        found.update(path.relative_to(ROOT).as_posix() for path in paths)
    return sorted(found)


def fingerprint() -> str:
    """Return a digest of all that a build depends on: sources, list, this tool, Python and mypy."""
    digest = hashlib.sha256(f"{sys.version} {importlib.metadata.version('mypy')} {LEVEL}".encode())
    sources = [p for p in (ROOT / "bot").rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    for path in sorted([*sources, ROOT / "pyproject.toml", Path(__file__)]):
        digest.update(f"\0{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def is_built(folder: Path = FAST) -> bool:
    """Whether what lies in `folder` was built from the sources as they are now."""
    stamp = folder / STAMP
    return stamp.is_file() and stamp.read_text(encoding="ascii") == fingerprint()


def check_tools() -> None:
    """Say in a sentence what a build lacks, before anything is written."""
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        raise BuildError(f"`make fast` needs a C compiler, and there is no {compiler} here (Debian: apt install gcc)")
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if not header.is_file():
        raise BuildError(
            f"`make fast` needs Python's headers, and {header} is missing (Debian: apt install python3-dev)"
        )


def build(folder: Path = FAST) -> None:
    """Copy the bot and compile its engine into `folder`, saying so on standard error, unless nothing has changed.

    It is put together beside `folder` and takes its place when it is whole, so that a build that was broken off leaves
    nothing behind that runs.
    """
    if is_built(folder):
        return
    check_tools()
    say("compiling the engine (about two minutes of one core, again after each change)")
    paths, mark, began = modules(), fingerprint(), time.perf_counter()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{folder.name}-", dir=folder.parent) as made:
        part = Path(made) / folder.name
        # With the times of the files: bytecode stays valid. Kernels are found by what the sources say, wherever they lie.
        shutil.copytree(ROOT / "bot", part / "bot", copy_function=shutil.copy2)
        for name in LINKED:
            (part / name).symlink_to(os.path.relpath(ROOT / name, folder))
        with contextlib.chdir(part):
            compile_group(paths, Path(made) / "objects")
        (part / STAMP).write_text(mark, encoding="ascii")
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
    say(f"compiled in {time.perf_counter() - began:.0f} s")


def say(what: str) -> None:
    """Tell a person what takes so long; standard output is the command's."""
    print(what, file=sys.stderr, flush=True)


def compile_group(paths: list[str], objects: Path) -> None:
    """Compile the modules at `paths`, seen from here, into one library and a small one for each of them."""
    import setuptools  # has to come before mypyc's own import of it
    from mypyc.build import mypycify
    from setuptools.command.build_ext import build_ext

    options = [f"--config-file={ROOT / 'pyproject.toml'}", f"--cache-dir={objects / 'types'}"]
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            extensions = mypycify(
                [*options, *paths],
                opt_level=LEVEL,
                debug_level="0",
                multi_file=True,  # a C file a module: they are compiled beside each other
                target_dir=str(objects / "c"),
                group_name="engine",
            )
            command: Any = build_ext(setuptools.Distribution({"name": "engine", "ext_modules": extensions}))
            command.build_lib, command.build_temp, command.parallel = ".", str(objects), cores()
            command.ensure_finalized()
            with in_parallel():
                command.run()
    except (SystemExit, Exception) as error:
        raise BuildError(f"the engine does not compile: {error}\n{said.getvalue()[-4000:]}") from error


@contextlib.contextmanager
def in_parallel() -> Iterator[None]:
    """Let the C compiler work on as many files of one library at once as there are cores; by itself it takes them in turn."""
    from distutils.ccompiler import CCompiler

    one_by_one = CCompiler.compile

    def compile(self: Any, sources: list[str], *args: Any, **more: Any) -> list[str]:
        with ThreadPoolExecutor(cores()) as pool:
            done = pool.map(lambda source: one_by_one(self, [source], *args, **more), sources)
            return [name for names in done for name in names]

    CCompiler.compile = compile
    try:
        yield
    finally:
        CCompiler.compile = one_by_one


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def environment(*folders: Path) -> dict[str, str]:
    """Return this process's environment with the compiled bot first on Python's path, and `folders` after it."""
    before = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, (FAST, *folders)), *([before] if before else [])])}


def build_or_exit() -> None:
    """Build if something changed; end with a sentence where that cannot be done."""
    try:
        build()
    except BuildError as error:
        sys.exit(str(error))


def become(module: str, words: list[str], *folders: Path) -> None:
    """Go on as `python -m module` with the compiled bot first on the path and `folders` after it."""
    # -P: not the current folder first, where the plain package may lie
    os.execve(sys.executable, [sys.executable, "-P", "-m", module, *words], environment(*folders))


def main() -> None:
    """Build if something changed, then become `python -m bot` with the words given."""
    build_or_exit()
    if len(sys.argv) == 1:
        print(f'the compiled bot is in {FAST.relative_to(ROOT)}/; ARGS="backtest ..." runs a command with it')
        return
    become("bot", sys.argv[1:])


if __name__ == "__main__":
    main()
