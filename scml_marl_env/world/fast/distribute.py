"""SCML's `distribute`: how the agents of the official generator spread a quantity over their partners."""

import numpy as np

from scml_marl_env.kernels import lean
from scml_marl_env.world.fast.chance import draw_whole, shuffle_by

NO_LIMIT = 1 << 40


@lean
def distribute(
    random: np.ndarray,
    f: int,
    out: np.ndarray,
    quantity: int,
    n: int,
    limit: int = NO_LIMIT,
    concentrated: bool = False,
    equal: bool = False,
    allow_zero: bool = False,
) -> None:
    """Splits a quantity over `n` > 0 places, as `scml.common.distribute` does.

    Args:
        random, f: streams of a world, uint64 (F,), and the one that is drawn from.
        out: int64 (n or more,), receives the parts. They sum to min(quantity, limit * n).
        quantity: what is split, >= 0.
        n: places.
        limit: the most of a place; kept only by `concentrated`, as in SCML.
        concentrated: as few places as possible.
        equal: as evenly as possible, if zeros are not allowed.
        allow_zero: places may stay empty though there is enough for all.
    """
    quantity = min(quantity, limit * n)
    if concentrated:
        ones = 0 if allow_zero else min(quantity, n)
        quantity -= ones
        for k in range(n):
            out[k] = 1 if k < ones else 0
        if quantity > 0:
            for k in range(n):
                quantity += out[k]
                out[k] = min(limit, quantity)
                quantity -= out[k]
        shuffle_by(random, f, out, n)
    elif quantity < n:
        for k in range(n):
            out[k] = 1 if k >= n - quantity else 0
        shuffle_by(random, f, out, n)
    elif quantity == n:
        for k in range(n):
            out[k] = 1
    else:
        per = 0 if allow_zero else quantity // n if equal else 1
        for k in range(n):
            out[k] = per
        for _ in range(quantity - per * n):
            out[draw_whole(random, f, 0, n - 1)] += 1
