"""The one place where numba's flags are chosen, and where its cache is kept honest.

`fastmath` stays off and `error_model` is numpy's, because live and batch must agree to the last bit and a division
by zero must give NaN or infinity, not an exception, as in the Pine runtime that the formulas come from.
`NUMBA_DISABLE_JIT=1` turns every kernel into plain Python (coverage and debugging see inside).

Where machine code is kept, and that it is never that of other sources, is `kernel_cache`'s to see to.
"""

import functools
import importlib
import sys
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np
from numba import njit, types

from bot.core.kernel_cache import KernelCache, Store

P = ParamSpec("P")
R = TypeVar("R")

FLAGS: dict[str, Any] = {
    "fastmath": False,
    "error_model": "numpy",
    "no_cfunc_wrapper": True,
    "_nrt": False,
}
# Made before any kernel's module is read: a process keeps only what was compiled of the sources that it began with.
STORE = Store()


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile `function` on first use and keep the machine code; kernels that call it take it in.

    A kernel allocates nothing, so that numba need not count references (atomic operations, a sixth of the time of a bar).
    Left to itself the compiler calls sixty kernels a bar, each saving and loading registers and reporting success: taken
    into their callers they cost a fifth less. What is seldom done stays `apart`.
    Two more options save a third of the compile time: no wrapper for callers in C, of which there are none, and one
    signature a kernel. By itself numba compiles a kernel once more for every literal that a caller writes
    (`ema_step(x, 10)`).
    """
    return _compiled(function, inlined=True)


def outlined_kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile `function` as a kernel that is called: work that few bars need, or so large that a call is nothing beside it.

    It keeps its callers small and what they do on every bar in the processor's nearest cache.
    """
    return _compiled(function, inlined=False)


def _compiled(function: Callable[P, R], *, inlined: bool) -> Callable[P, R]:
    # said either way: what is not said, a caller hands down
    compiled: Any = njit(**FLAGS, forceinline=inlined)(function)
    if hasattr(compiled, "get_call_template"):  # not with jit off
        compiled.get_call_template = _without_literals(compiled.get_call_template)
        if STORE.holds_source(function.__code__.co_filename) and function.__closure__ is None:
            compiled._cache = KernelCache(function, STORE)
    return cast("Callable[P, R]", compiled)


def is_cached(compiled: Any, *arguments: Any) -> bool:
    """Whether machine code for such arguments is kept, so that a call would load it instead of compiling.

    False for a kernel that is not kept: whoever asks then goes the long way, which is right too.
    """
    cache = getattr(compiled, "_cache", None)
    if not isinstance(cache, KernelCache):
        return False
    return cache.holds(tuple(compiled.typeof_pyval(each) for each in arguments), compiled.targetctx)


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
