"""When not to look for garbage: while a start loads its modules, or numba compiles.

What they make stays: Python's collector goes through it again and again, finds nothing, and takes a twelfth of the time.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Run this block without collecting garbage; afterwards it is collected again, if it was before."""
    active = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if active:
            gc.enable()
