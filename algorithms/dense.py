"""Matrix products of a CPU without autograd, as fast as torch has them.

torch.mm calls MKL, which keeps to AVX2 on processors that are not Intel's: on an AMD EPYC with AVX-512 oneDNN, which
torch ships too, multiplied twice as fast (105 and 220 GFLOP/s for (2048, 132) x (132, 64) on one core), and puts tanh
behind the product at a tenth of the price of torch.tanh. On an Intel Xeon MKL was faster, with tanh as fast, and twice
as fast where a gradient by the weights has to transpose. Only the compiler of torch calls oneDNN's operator, so it is
used only on other processors than Intel's, and if it is there and its answer on a small product is right; otherwise the
public functions do the same.
"""

import platform
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from algorithms import kernels


@cache
def onednn() -> Any:
    """Returns oneDNN's act(x @ weight.T + bias) as torch has it, or None if it is not there or slower than torch.mm."""
    if is_intel() and torch.backends.mkl.is_available():
        return None
    try:
        operator = torch.ops.mkldnn._linear_pointwise.default
        with torch.inference_mode():
            x, weight, bias = torch.arange(6.0).view(2, 3) / 6, torch.arange(12.0).view(4, 3) / 12, torch.ones(4)
            right = torch.allclose(operator(x, weight, bias, "tanh", [], ""), torch.tanh(x @ weight.T + bias))
            right &= torch.allclose(operator(x.T, weight[:2].T, None, "none", [], ""), x.T @ weight[:2], atol=1e-6)
        return operator if right else None
    except (AttributeError, RuntimeError, TypeError):
        return None


def is_intel() -> bool:
    """Whether the processor is one of Intel's."""
    about = Path("/proc/cpuinfo")
    return "GenuineIntel" in (about.read_text() if about.is_file() else platform.processor())


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str = "none") -> Tensor:
    """Returns act(x @ weight.T + bias), float32 (n, H) from (n, D) and (H, D), without a gradient.

    Args:
        x, weight, bias: on the CPU, with any strides.
        activation: "none", "tanh" or "relu".
    """
    operator = onednn()
    if operator is not None and len(x):
        return operator(in_rows(x), weight, bias, activation, [], "")
    product = functional.linear(x, weight, bias)
    return product if activation == "none" else getattr(torch, f"{activation}_")(product)


def product(a: Tensor, b: Tensor) -> Tensor:
    """Returns a @ b without a gradient."""
    return linear(a, b.t())


def add_product(out: Tensor, a: Tensor, b: Tensor) -> None:
    """Adds a @ b to `out` without a gradient."""
    if onednn() is None:
        out.addmm_(a, b)
    else:
        out.add_(product(a, b))


def in_rows(a: Tensor) -> Tensor:
    """Returns float32 (n, D), with rows one after the other in memory if it was a whole matrix transposed.

    oneDNN's operator lays out its first factor so by itself, by `Tensor.contiguous`, which takes twice as long there.
    """
    if a.is_contiguous() or not a.t().is_contiguous():
        return a
    out = torch.empty(a.shape)
    kernels.transpose(a.t().detach().numpy(), out.numpy())
    return out


def round_up(n: int, step: int) -> int:
    """Returns how many rows products of n rows should have: as many, or with oneDNN the next multiple of `step`.

    oneDNN compiles code for every shape that it meets (a third of a millisecond), so it should meet few of them.
    """
    return n if onednn() is None else -(-n // step) * step


def padded(rows: np.ndarray) -> Tensor:
    """Returns indices int64 (n,) as a tensor; many are filled up with repeats of the first, see `round_up`."""
    n = round_up(len(rows), 64)
    if len(rows) < 64 or n == len(rows):
        return torch.from_numpy(rows)
    longer = np.full(n, rows[0])
    longer[: len(rows)] = rows
    return torch.from_numpy(longer)
