"""Groups of a dataset's decisions, by which a model can be judged: operation, round, level and side."""

import numpy as np

from scml_marl_env.actions import OFFER, OPERATION_NAMES, PRICE_SIGN
from scml_marl_env.data.dataset import LEVELS, Dataset

ROUNDS = (0, 1, 3, 6, 10, 15)
"""First round of each group; round 0 opens a negotiation."""


def groups_of(data: Dataset, rows: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """Kind of group -> name of the group -> its decisions, int64 (m,), of the decisions `rows` int64 (n,), ascending.

    Every decision is in one group of each kind, but those without a round (of rollouts) in none of that kind; groups
    without any are left out.
    """
    steps = np.searchsorted(data.first_decision, rows, side="right") - 1
    episodes = np.searchsorted(data.first_step, steps, side="right") - 1
    bands = np.searchsorted(ROUNDS, data.round[steps], side="right") - 1
    last = [f"{after - 1}" for after in ROUNDS[1:]] + [""]
    band_names = [
        f"{first}" if f"{first}" == end else f"{first}-{end}" for first, end in zip(ROUNDS, last, strict=True)
    ]
    kinds = {
        "operation": (OPERATION_NAMES, np.minimum(data.action[rows], OFFER)),
        "round": (band_names, bands),
        "level": (LEVELS, data.level[episodes]),
        "side": (("sell", "buy"), (data.bounds[rows, PRICE_SIGN] > 0).astype(np.int64)),
    }
    return {
        kind: {name: rows[index == i] for i, name in enumerate(names) if (index == i).any()}
        for kind, (names, index) in kinds.items()
    }
