"""Pause garbage collection while a start imports modules, or numba compiles.

Their objects are long-lived: the collector scans them repeatedly, frees nothing, and takes a twelfth of the time.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Run a block with garbage collection disabled; restore the previous setting afterwards."""
    active = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if active:
            gc.enable()
