"""The compiler's door: one signature a kernel, states that read as attributes, garbage collected again afterwards."""

import gc
import os
import subprocess
import sys

import numpy as np
import pytest

from bot.core import jit
from bot.core.garbage import uncollected
from bot.core.kernel_cache import Store

COMPILED = os.environ.get("NUMBA_DISABLE_JIT") != "1"
POINT = np.dtype([("x", "f8"), ("seen", "i8")])


@pytest.mark.skipif(not COMPILED, reason="nothing is compiled")
def test_a_literal_argument_makes_no_signature_of_its_own():
    @jit.kernel
    def scaled(x, length, flag):
        return x * length if flag else x

    @jit.kernel
    def both(x):
        return scaled(x, 2, True) + scaled(x, 3, False)

    assert both(1.5) == 4.5
    assert len(scaled.signatures) == 1


@pytest.mark.skipif(not COMPILED, reason="nothing is compiled")
def test_a_kernel_on_arrays_counts_no_references():
    @jit.kernel
    def total(values):
        part = values[1:]
        return part[0] + part[1]

    assert total(np.array([1.0, 2.0, 4.0])) == 6.0
    assert "NRT_incref" not in next(iter(total.inspect_llvm().values()))


def test_a_kernel_writes_into_records_of_an_array():
    points = jit.records(POINT, 2)

    @jit.kernel
    def move(points, x):
        points[1].x = x
        points[1].seen += 1

    move(points, 2.5)

    assert (float(points[1].x), int(points[1].seen), int(points[0].seen)) == (2.5, 1, 0)


def test_garbage_is_collected_again_after_compiling_even_after_an_error():
    def broken():
        with uncollected():
            seen.append(gc.isenabled())
            raise ValueError("stop")

    seen = []
    with pytest.raises(ValueError, match="stop"):
        broken()

    assert seen == [False]
    assert gc.isenabled()


def test_one_dtype_object_serves_all_records_of_a_kind():
    assert jit.records(POINT, 1).dtype is jit.records(POINT, 3).dtype


@pytest.mark.skipif(not COMPILED, reason="nothing is compiled")
def test_a_kernel_is_in_the_cache_once_it_was_compiled_and_only_for_such_arguments(tmp_path, monkeypatch):
    monkeypatch.setenv("BOT_KERNELS", str(tmp_path / "kernels"))
    monkeypatch.setattr(jit, "STORE", Store())
    monkeypatch.setattr(Store, "holds_source", lambda *_: True)

    @jit.kernel
    def doubled(x):
        return 2 * x

    before = jit.is_cached(doubled, 1.5)
    assert doubled(1.5) == 3.0

    assert not before
    assert jit.is_cached(doubled, 2.5)
    assert not jit.is_cached(doubled, 2)


@pytest.mark.skipif(not COMPILED, reason="nothing is compiled")
def test_a_kernel_of_a_file_that_the_key_does_not_cover_is_not_kept():
    @jit.kernel
    def doubled(x):
        return 2 * x

    assert doubled(1.5) == 3.0
    assert not jit.is_cached(doubled, 1.5)


def test_what_keeps_no_cache_is_not_in_it():
    assert not jit.is_cached(lambda x: x, 1.5)


def test_loading_kernels_leaves_scipy_out_and_whole():
    code = (
        "import sys; import bot.core.jit; print('scipy.linalg' in sys.modules); "
        "import importlib.util as u; print(u.find_spec('scipy') is None or __import__('scipy.linalg').linalg.det([[2.0]]))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split()[0] == "False"
    assert done.stdout.split()[1] in ("True", "2.0")
