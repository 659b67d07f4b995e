"""The compiler's door: one signature a kernel, states that read as attributes, garbage collected again afterwards."""

import gc
import os

import numpy as np
import pytest

from bot.core import jit

COMPILED = os.environ.get("NUMBA_DISABLE_JIT") != "1"
POINT = np.dtype([("x", "f8"), ("seen", "i8")])


@pytest.mark.skipif(not COMPILED, reason="nothing is compiled")
def test_a_literal_argument_makes_no_signature_of_its_own(monkeypatch):
    monkeypatch.setitem(jit.FLAGS, "cache", False)

    @jit.kernel
    def scaled(x, length, flag):
        return x * length if flag else x

    @jit.kernel
    def both(x):
        return scaled(x, 2, True) + scaled(x, 3, False)

    assert both(1.5) == 4.5
    assert len(scaled.signatures) == 1


@pytest.mark.skipif(not COMPILED, reason="nothing is compiled")
def test_a_kernel_on_arrays_counts_no_references(monkeypatch):
    monkeypatch.setitem(jit.FLAGS, "cache", False)

    @jit.kernel
    def total(values):
        part = values[1:]
        return part[0] + part[1]

    assert total(np.array([1.0, 2.0, 4.0])) == 6.0
    assert "NRT_incref" not in next(iter(total.inspect_llvm().values()))


def test_a_kernel_writes_into_records_of_an_array(monkeypatch):
    monkeypatch.setitem(jit.FLAGS, "cache", False)
    points = jit.records(POINT, 2)

    @jit.kernel
    def move(points, x):
        points[1].x = x
        points[1].seen += 1

    move(points, 2.5)

    assert (float(points[1].x), int(points[1].seen), int(points[0].seen)) == (2.5, 1, 0)


def test_garbage_is_collected_again_after_compiling_even_after_an_error():
    def broken():
        with jit.compiling():
            seen.append(gc.isenabled())
            raise ValueError("stop")

    seen = []
    with pytest.raises(ValueError, match="stop"):
        broken()

    assert seen == [False]
    assert gc.isenabled()


def test_one_dtype_object_serves_all_records_of_a_kind():
    assert jit.records(POINT, 1).dtype is jit.records(POINT, 3).dtype
