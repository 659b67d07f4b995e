"""The one place where numba's flags are chosen, and where its cache is kept honest.

`fastmath` stays off and `error_model` is numpy's, because live and batch must agree to the last bit and a division
by zero must give NaN or infinity, not an exception, as in the Pine runtime that the formulas come from.
`NUMBA_DISABLE_JIT=1` turns every kernel into plain Python (coverage and debugging see inside).

Numba's cache looks only at the file that a kernel stands in: after a change to a kernel that it calls, it would go on
serving the old machine code. `drop_stale_cache` therefore compares each module's sources, its own and all that it
imports from here, with those of the last run, and removes what no longer matches.
"""

import ast
import functools
import hashlib
import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np
from numba import njit, types

P = ParamSpec("P")
R = TypeVar("R")

PACKAGE = Path(__file__).resolve().parent.parent
FLAGS: dict[str, Any] = {
    "cache": True,
    "fastmath": False,
    "error_model": "numpy",
    "no_cfunc_wrapper": True,
    "_nrt": False,
}
KERNEL_ROOMS = ("core", "indicators", "structure", "strategy", "hedge", "market", "research")


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile `function` on first use and cache the machine code beside its source; kernels that call it take it in.

    A kernel allocates nothing, so that numba need not count references (atomic operations, a sixth of the time of a bar).
    Left to itself the compiler calls sixty kernels a bar, each saving and loading registers and reporting success: taken
    into their callers they cost a fifth less. What is seldom done stays `apart`.
    Two more options save a third of the compile time: no wrapper for callers in C, of which there are none, and one
    signature a kernel. By itself numba compiles a kernel once more for every literal that a caller writes
    (`ema_step(x, 10)`).
    """
    return _compiled(function, inlined=True)


def apart(function: Callable[P, R]) -> Callable[P, R]:
    """Compile `function` as a kernel that is called: work that few bars need, or so large that a call is nothing beside it.

    It keeps its callers small and what they do on every bar in the processor's nearest cache.
    """
    return _compiled(function, inlined=False)


def _compiled(function: Callable[P, R], *, inlined: bool) -> Callable[P, R]:
    # said either way: what is not said, a caller hands down
    compiled: Any = njit(**FLAGS, forceinline=inlined)(function)
    if hasattr(compiled, "get_call_template"):  # not with jit off
        compiled.get_call_template = _without_literals(compiled.get_call_template)
    return cast("Callable[P, R]", compiled)


def is_cached(compiled: Any, *arguments: Any) -> bool:
    """Whether machine code for such arguments lies in the cache, so that a call would load it instead of compiling.

    False where numba keeps no cache or keeps it in another way: whoever asks then goes the long way, which is right too.
    """
    cache = getattr(compiled, "_cache", None)
    index = getattr(cache, "_cache_file", None)
    if cache is None or index is None:
        return False
    kinds = tuple(compiled.typeof_pyval(each) for each in arguments)
    return cache._index_key(kinds, compiled.targetctx.codegen()) in index._load_index()


def _without_literals(lookup: Callable[..., Any]) -> Callable[..., Any]:
    unliteral: Any = types.unliteral
    return lambda args, kws: lookup(tuple(unliteral(each) for each in args), kws)


def record(dtype: np.dtype) -> Any:
    """Return a zeroed record of `dtype` whose fields read as attributes, compiled or not.

    Without jit the fields are attributes of `np.record`, so no field may carry the name of one of its methods or
    properties (`sum`, `max`, `size`, `base`, `flags`, ...).

    >>> int(record(np.dtype([("bars", "i8")])).bars)
    0
    """
    return records(dtype, 1)[0]


@functools.cache
def with_attributes(dtype: np.dtype) -> np.dtype:
    """Return the dtype of `records`, one object for each `dtype`."""
    return np.dtype((np.record, dtype))


def records(dtype: np.dtype, count: int) -> np.ndarray:
    """Return an array of zeroed records, as `record` makes them.

    The dtype object is made once: numba recognises a type it knows by identity in a microsecond, while comparing two equal
    dtypes of a symbol's size field by field costs 240 µs a call.
    """
    return np.zeros(count, with_attributes(dtype))


def _imports(source: bytes) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("bot."):
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)  # `from bot.structure import pac`
    return names


def drop_stale_cache(package: Path = PACKAGE) -> int:
    """Remove cached machine code whose sources changed since the last call; return how many files went."""
    stamp = package / "__pycache__" / "kernel-sources.json"
    files = [path for room in KERNEL_ROOMS for path in (package / room).glob("*.py")]
    stats = {str(p.relative_to(package)): [p.stat().st_mtime_ns, p.stat().st_size] for p in files}
    try:
        old = json.loads(stamp.read_text())
    except (OSError, ValueError):
        old = {"stats": {}, "closures": {}}
    if old["stats"] == stats:
        return 0
    sources = {"bot." + p.relative_to(package).with_suffix("").as_posix().replace("/", "."): p for p in files}
    text = {name: path.read_bytes() for name, path in sources.items()}
    direct = {name: _imports(content) & text.keys() for name, content in text.items()}
    closures: dict[str, str] = {}
    removed = 0
    for name, path in sources.items():
        reached, todo = set(), [name]
        while todo:
            current = todo.pop()
            if current not in reached:
                reached.add(current)
                todo.extend(direct[current])
        digest = hashlib.sha256(b"".join(text[n] for n in sorted(reached))).hexdigest()
        closures[name] = digest
        if old["closures"].get(name) != digest:
            for cached in (path.parent / "__pycache__").glob(f"{path.stem}.*.nb[ic]"):
                cached.unlink(missing_ok=True)
                removed += 1
    try:
        stamp.parent.mkdir(exist_ok=True)
        stamp.write_text(json.dumps({"stats": stats, "closures": closures}))
    except OSError:
        pass  # a read-only installation has no stale cache of its own either
    return removed


def _without_matrices() -> None:
    """Load what numba knows of arrays without scipy, which it asks for a matrix product as soon as scipy is installed.

    No kernel multiplies matrices, and the import takes a tenth of a start.
    """
    name = "scipy.linalg"
    if name in sys.modules:
        return
    sys.modules[name] = cast("Any", None)  # an import of it now fails like that of a package that is not there
    try:
        importlib.import_module("numba.np.arraymath")
    finally:
        del sys.modules[name]


_without_matrices()
drop_stale_cache()
