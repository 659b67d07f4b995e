"""The `kernel` decorators: the only place where numba's flags are set.

`fastmath` stays off and `error_model` is numpy's, because live and batch must agree to the last bit and a division
by zero must give NaN or infinity, not an exception, as in the Pine runtime that the formulas come from.
`NUMBA_DISABLE_JIT=1` runs every kernel as plain Python (for coverage and debugging).

`kernel_cache` decides where machine code is stored, and that it always matches the sources.
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
# Created before any kernel module is imported: a process stores only code compiled from the sources it started with.
STORE = Store()


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile `function` on first use, cache the machine code, and inline it into kernels that call it.

    A kernel allocates nothing, so numba need not count references (atomic operations, a sixth of the time per bar).
    By default the compiler emits sixty kernel calls per bar, each saving and loading registers and returning a status:
    inlined they cost a fifth less. Rarely executed code uses `outlined_kernel`.
    Two more options save a third of the compile time: no C wrapper, as there are no C callers, and one signature per
    kernel. By default numba compiles a kernel again for every literal argument (`ema_step(x, 10)`).
    """
    return _compiled(function, inlined=True)


def outlined_kernel(function: Callable[P, R]) -> Callable[P, R]:
    """Compile `function` as a kernel that is not inlined: needed on few bars, or so large that a call is negligible.

    This keeps callers small, and their per-bar code in the processor's L1 cache.
    """
    return _compiled(function, inlined=False)


def _compiled(function: Callable[P, R], *, inlined: bool) -> Callable[P, R]:
    # set explicitly in both cases: otherwise the option is inherited from the caller
    compiled: Any = njit(**FLAGS, forceinline=inlined)(function)
    if hasattr(compiled, "get_call_template"):  # not with jit off
        compiled.get_call_template = _without_literals(compiled.get_call_template)
        if STORE.holds_source(function.__code__.co_filename) and function.__closure__ is None:
            compiled._cache = KernelCache(function, STORE)
    return cast("Callable[P, R]", compiled)


def is_cached(compiled: Any, *arguments: Any) -> bool:
    """Return whether machine code for these argument types is cached, so that a call would load instead of compile.

    False for a kernel without a cache: the caller then takes the slow path, which is also correct.
    """
    cache = getattr(compiled, "_cache", None)
    if not isinstance(cache, KernelCache):
        return False
    return cache.holds(tuple(compiled.typeof_pyval(each) for each in arguments), compiled.targetctx)


def _without_literals(lookup: Callable[..., Any]) -> Callable[..., Any]:
    unliteral: Any = types.unliteral
    return lambda args, kws: lookup(tuple(unliteral(each) for each in args), kws)


def record(dtype: np.dtype) -> Any:
    """Return a zeroed record of `dtype` whose fields are attributes, compiled or not.

    Without jit the fields are attributes of `np.record`, so no field may have the name of one of its methods or
    properties (`sum`, `max`, `size`, `base`, `flags`, ...).

    >>> int(record(np.dtype([("bars", "i8")])).bars)
    0
    """
    return records(dtype, 1)[0]


@functools.cache
def with_attributes(dtype: np.dtype) -> np.dtype:
    """Return the dtype used by `records`, the same object for equal `dtype`."""
    return np.dtype((np.record, dtype))


def records(dtype: np.dtype, count: int) -> np.ndarray:
    """Return an array of `count` zeroed records, as `record` makes them.

    The dtype object is created once: numba recognises a known type by identity in a microsecond, while comparing two
    equal dtypes of a symbol's size field by field costs 240 µs a call.
    """
    return np.zeros(count, with_attributes(dtype))


def _without_matrices() -> None:
    """Load numba's array functions without scipy, which it imports for matrix products whenever scipy is installed.

    No kernel multiplies matrices, and the import takes a tenth of a start.
    """
    name = "scipy.linalg"
    if name in sys.modules:
        return
    sys.modules[name] = cast("Any", None)  # importing it now fails as if it were not installed
    try:
        importlib.import_module("numba.np.arraymath")
    finally:
        del sys.modules[name]


_without_matrices()
