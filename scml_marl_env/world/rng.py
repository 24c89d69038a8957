"""Isolation of the global random generators, which SCML draws from, between worlds and from the caller."""

import random
from types import TracebackType

import numpy as np


class GlobalRandomness:
    """A private state of `random` and `numpy.random`, swapped in for the length of a `with` block.

    Everything inside the block draws from, and advances, this state; outside it the caller's generators are as they
    were.

    Example:
        >>> world_randomness = GlobalRandomness(seed=3)
        >>> with world_randomness:
        ...     first = random.random()
    """

    def __init__(self, seed: int) -> None:
        self._python = random.Random(seed).getstate()
        self._numpy = np.random.RandomState(seed % 2**32).get_state(legacy=False)
        self._outside: tuple | None = None

    def __enter__(self) -> "GlobalRandomness":
        if self._outside is not None:
            raise RuntimeError(
                "This GlobalRandomness is already swapped in; worlds must not be entered from themselves."
            )
        self._outside = random.getstate(), np.random.get_state(legacy=False)
        random.setstate(self._python)
        np.random.set_state(self._numpy)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._outside is not None
        self._python = random.getstate()
        self._numpy = np.random.get_state(legacy=False)
        random.setstate(self._outside[0])
        np.random.set_state(self._outside[1])
        self._outside = None
