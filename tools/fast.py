"""`make fast`: the bot with its engine compiled to machine code from the same sources, for faster research.

`bot/` is copied to build/fast/, the modules listed in `[tool.fast]` of pyproject.toml are compiled there by mypyc (part
of mypy, which checks the types anyway), and the command runs with that folder first on the path. Results are identical
to the bit. Nothing is ever compiled next to the sources: there a stale library would hide an edited file. A build is
reused until a source, this list or a version changes.
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
LINKED: Final = ("config.toml", "data")  # what the bot expects next to its package
LEVEL: Final = "2"  # optimisation level of the C compiler: 3 gains nothing and 1 saves little


class BuildError(Exception):
    """A prerequisite is missing or a module does not compile."""


def modules() -> list[str]:
    """Return the paths of the modules to compile, as listed in pyproject.toml.

    Raises
    ------
    BuildError
        A pattern matches no file.
    """
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["fast"]["modules"]
    found = set()
    for pattern in patterns:
        paths = [path for path in ROOT.glob(pattern) if path.name != "__init__.py"]
        if not paths:
            raise BuildError(f"[tool.fast] in pyproject.toml lists {pattern}, and there is no such file")
        found.update(path.relative_to(ROOT).as_posix() for path in paths)
    return sorted(found)


def fingerprint() -> str:
    """Return a digest of everything a build depends on: sources, list, this tool, Python and mypy."""
    digest = hashlib.sha256(f"{sys.version} {importlib.metadata.version('mypy')} {LEVEL}".encode())
    sources = [p for p in (ROOT / "bot").rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    for path in sorted([*sources, ROOT / "pyproject.toml", Path(__file__)]):
        digest.update(f"\0{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def is_built(folder: Path = FAST) -> bool:
    """Return whether the build in `folder` matches the current sources."""
    stamp = folder / STAMP
    return stamp.is_file() and stamp.read_text(encoding="ascii") == fingerprint()


def check_tools() -> None:
    """Check the prerequisites of a build, before anything is written.

    Raises
    ------
    BuildError
        The C compiler or Python's headers are missing.
    """
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        raise BuildError(f"`make fast` needs a C compiler, and there is no {compiler} here (Debian: apt install gcc)")
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if not header.is_file():
        raise BuildError(
            f"`make fast` needs Python's headers, and {header} is missing (Debian: apt install python3-dev)"
        )


def build(folder: Path = FAST) -> None:
    """Copy the bot and compile its engine into `folder`, unless nothing has changed; progress goes to standard error.

    The build is made in a temporary folder and renamed to `folder` when complete, so that an interrupted build leaves
    nothing executable.

    Raises
    ------
    BuildError
        A prerequisite is missing, or the engine does not compile.
    """
    if is_built(folder):
        return
    check_tools()
    say("compiling the engine (about two minutes of one core, again after each change)")
    paths, mark, began = modules(), fingerprint(), time.perf_counter()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{folder.name}-", dir=folder.parent) as made:
        part = Path(made) / folder.name
        # Keep file times, so that bytecode stays valid. The kernel cache is keyed by source text, not by location.
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
    """Print progress to standard error; standard output belongs to the command."""
    print(what, file=sys.stderr, flush=True)


def compile_group(paths: list[str], objects: Path) -> None:
    """Compile the modules at `paths`, relative to the current folder, into one library and a small one for each.

    Raises
    ------
    BuildError
        The compilation fails.
    """
    import setuptools  # must come before mypyc's own import of it
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
                multi_file=True,  # one C file per module, so that they compile in parallel
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
    """Compile the C files of one library in parallel on all cores; by default they are compiled one by one."""
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
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def environment(*folders: Path) -> dict[str, str]:
    """Return this process's environment with the compiled bot first on Python's path, and `folders` after it."""
    before = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, (FAST, *folders)), *([before] if before else [])])}


def build_or_exit() -> None:
    """Build if something changed; exit with the error message if that fails."""
    try:
        build()
    except BuildError as error:
        sys.exit(str(error))


def become(module: str, words: list[str], *folders: Path) -> None:
    """Replace this process by `python -m module` with the compiled bot first on the path and `folders` after it."""
    # -P: do not put the current folder first, which may contain the uncompiled package
    os.execve(sys.executable, [sys.executable, "-P", "-m", module, *words], environment(*folders))


def main() -> None:
    """Build if something changed, then become `python -m bot` with the given arguments."""
    build_or_exit()
    if len(sys.argv) == 1:
        print(f'the compiled bot is in {FAST.relative_to(ROOT)}/; ARGS="backtest ..." runs a command with it')
        return
    become("bot", sys.argv[1:])


if __name__ == "__main__":
    main()
