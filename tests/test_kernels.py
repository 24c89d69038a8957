"""Cached machine code is never older than the sources it was compiled from."""

import re
from pathlib import Path

import numba
import numpy as np
import pytest

import scml_marl_env
from scml_marl_env.handles import flat
from scml_marl_env.kernels import discard_stale, kernel, sources

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


@kernel
def _count_up(numbers: np.ndarray, place: int) -> None:
    """Writes 1, 2, ... into one place of a batch."""
    row = flat(numbers[place])
    for i in range(row.shape[0]):
        row[i] = i + 1


def test_flat_refuses_an_array_with_gaps():
    if numba.config.DISABLE_JIT:
        pytest.skip("without numba it copies")
    with pytest.raises(numba.TypingError, match="contiguous"):
        _count_up(np.zeros((3, 2, 4), np.int32)[:, :, ::2], 1)


def test_flat_is_the_same_memory():
    numbers = np.zeros((3, 2, 4), np.int32)
    _count_up(numbers, 1)
    assert numbers[1].tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert not numbers[0].any() and not numbers[2].any()
