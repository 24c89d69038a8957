"""Isolation of the global random generators, which SCML draws from, between worlds and from the caller."""

import random
from types import TracebackType
from typing import Any

import numpy as np

_MASK = (1 << 64) - 1


class GlobalRandomness:
    """A private state of `random` and `numpy.random`, swapped in for the length of a `with` block.

    Everything inside the block draws from, and advances, this state; outside it the caller's generators are as they
    were. For speed numpy's generator is exchanged, not copied, by which the private state forgets the second half of a
    pair of normal numbers at the end of a block (the caller's is kept).

    Example:
        >>> world_randomness = GlobalRandomness(seed=3)
        >>> with world_randomness:
        ...     first = random.random()
    """

    def __init__(self, seed: int) -> None:
        self._python = random.Random(seed).getstate()
        self._numpy = np.random.MT19937()
        state: Any = np.random.RandomState(seed % 2**32).get_state(legacy=False)
        self._numpy.state = state
        self._outside: tuple[Any, Any, Any] | None = None

    def __enter__(self) -> "GlobalRandomness":
        if self._outside is not None:
            raise RuntimeError(
                "This GlobalRandomness is already swapped in; worlds must not be entered from themselves."
            )
        self._outside = random.getstate(), np.random.get_state(legacy=False), np.random.mtrand.get_bit_generator()
        random.setstate(self._python)
        np.random.mtrand.set_bit_generator(self._numpy)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._outside is not None
        self._python = random.getstate()
        python, numpy_state, numpy_generator = self._outside
        self._outside = None
        random.setstate(python)
        np.random.mtrand.set_bit_generator(numpy_generator)
        if numpy_state["has_gauss"]:
            np.random.set_state(numpy_state)


def stream_of(seed: int, factory: int) -> int:
    """First state of the random stream of a factory in the episode of a seed: 64 bits, mixed as splitmix64 does."""
    z = (seed * 0x9E3779B97F4A7C15 + (factory + 1) * 0xD1342543DE82EF95) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)
