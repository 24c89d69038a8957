"""Cached machine code is never older than the sources it was compiled from."""

import re
from pathlib import Path
from typing import NamedTuple

import numba
import numpy as np
import pytest

import scml_marl_env
from scml_marl_env.handles import handle
from scml_marl_env.kernels import discard_stale, inlined, kernel, lean, sources

PACKAGE = Path(scml_marl_env.__file__).parent


def make_package(folder):
    (folder / "__pycache__").mkdir(parents=True)
    (folder / "layers" / "__pycache__").mkdir(parents=True)
    (folder / "callee.py").write_text("from scml_marl_env.kernels import kernel\n")
    (folder / "layers" / "caller.py").write_text("from scml_marl_env.kernels import kernel\n")
    (folder / "other.py").write_text("import os\n")
    return [
        folder / "__pycache__" / "callee.f-1.py311.nbi",
        folder / "layers" / "__pycache__" / "caller.g-2.py311.1.nbc",
    ]


def test_a_change_of_one_kernel_source_discards_the_cache_of_all(tmp_path):
    cached = make_package(tmp_path)
    discard_stale(tmp_path)
    for path in cached:
        path.write_bytes(b"code")
    assert not discard_stale(tmp_path) and all(path.exists() for path in cached)
    (tmp_path / "other.py").write_text("import sys\n")
    assert not discard_stale(tmp_path) and all(path.exists() for path in cached)
    (tmp_path / "callee.py").write_text("from scml_marl_env.kernels import kernel\n\nX = 1\n")
    assert discard_stale(tmp_path)
    assert not any(path.exists() for path in cached)


def test_every_kernel_is_made_by_the_one_decorator():
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text()
        if path.name not in ("kernels.py", "handles.py"):  # the decorators, and an extension of the compiler
            assert not re.search(r"@njit|@numba|numba\.n?jit|import n?jit|fastmath=", text), path
        if re.search(r"@(kernel|lean|inlined|unlocked)\b|\b(kernel|inlined)\(", text):
            assert path in sources()


class Pair(NamedTuple):
    one: np.ndarray
    other: np.ndarray


@kernel
def _write_and_read(pair: Pair) -> int:
    before = pair.one[1]
    pair.other[0] = 7
    return 10 * before + pair.one[1]


def test_fields_of_a_handle_may_share_memory():
    """The compiler may keep what describes an array over a store, never what the array holds."""
    numbers = np.array([3, 4, 5])
    assert _write_and_read(handle(Pair(numbers, numbers[1:]))) == 47
    assert numbers.tolist() == [3, 7, 5]


@lean
def _double(number: int) -> int:
    return 2 * number


@inlined
def _twice(number: float) -> float:
    return 2.0 * number


@kernel
def _doubles(numbers: np.ndarray) -> float:
    return _double(3) + _double(4) + _double(numbers[0]) + _twice(1.5)


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="without a compiler every function is Python's")
def test_kernels_share_one_instance_of_what_they_call_and_python_has_its_own():
    part = _double.get_overload.__self__
    assert _doubles(np.array([5], np.int16)) == 27.0
    _doubles.recompile()  # from the cache it needs no instance of what it calls
    assert [made.signature.args for made in part.overloads.values()] == [(numba.int64,)]
    assert not _double.signatures  # nothing was made for Python, which has not called it yet
    assert _double(2) == 4 and _twice(2.0) == 4.0
    assert len(_double.signatures) == 1


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="without a compiler every function is Python's")
def test_what_only_kernels_call_is_optimised_where_it_is_called():
    """Otherwise the first compilation takes twice the time: each function would be optimised with all that it calls."""
    part = _double.get_overload.__self__
    _doubles.recompile()
    (made,) = part.overloads.values()
    assert not list(made.library.get_defined_functions())  # it has no machine code
    assert any("_double" in f.name for f in made.library._get_module_for_linking().functions)
