"""The private random stream of every scripted agent: splitmix64, one word of state for each factory.

    x += 0x9E3779B97F4A7C15;  z = mix(x);  uniform = (z >> 11) * 2**-53

All words are uint64 and stay so: numba turns a mixture of signed and unsigned numbers into a float. Functions that are
called, not inlined, take the streams of one world: to hand on a whole `State` costs more than to draw from it.
"""

import numba
import numpy as np

from scml_marl_env.kernels import inlined, lean
from scml_marl_env.world.fast.columns import State

STRIDE = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_11, _27, _30, _31 = np.uint64(11), np.uint64(27), np.uint64(30), np.uint64(31)


@inlined
def draw(random: np.ndarray, f: int) -> float:
    """The next number of stream `f` of a world's streams, uint64 (F,): evenly from [0, 1)."""
    x = random[f] + STRIDE
    random[f] = x
    x = (x ^ (x >> _30)) * _FIRST
    x = (x ^ (x >> _27)) * _SECOND
    x = x ^ (x >> _31)
    return float(x >> _11) * 2.0**-53


if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]  # set at run time; numpy's scalars wrap too, but warn
    draw = np.errstate(over="ignore")(draw)


@inlined
def draw_whole(random: np.ndarray, f: int, low: int, high: int) -> int:
    """The next whole number of stream `f`, evenly from `low` to `high`, both included."""
    return low + int(draw(random, f) * (high - low + 1))


@lean
def fill(random: np.ndarray, f: int, out: np.ndarray) -> None:
    """Writes the next numbers of stream `f` into float32 (n, C), row by row."""
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = draw(random, f)


@lean
def shuffle_by(random: np.ndarray, f: int, array: np.ndarray, n: int) -> None:
    """Shuffles the first `n` items of `array` by stream `f` (Fisher and Yates, from the end), with n - 1 draws."""
    for i in range(n - 1, 0, -1):
        j = draw_whole(random, f, 0, i)
        array[i], array[j] = array[j], array[i]


@inlined
def uniform(s: State, e: int, f: int) -> float:
    """`draw` for factory `f` of world `e`."""
    return draw(s.random[e], f)


@inlined
def whole(s: State, e: int, f: int, low: int, high: int) -> int:
    """`draw_whole` for factory `f` of world `e`."""
    return draw_whole(s.random[e], f, low, high)


@inlined
def shuffle(s: State, e: int, f: int, array: np.ndarray, n: int) -> None:
    """`shuffle_by` for factory `f` of world `e`."""
    shuffle_by(s.random[e], f, array, n)
