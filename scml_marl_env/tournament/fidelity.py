"""How much of an agent's worth another has in its place: a ratio over seats that both, and an idle agent, played."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from scml_marl_env.tournament.record import WorldRecord
from scml_marl_env.tournament.statistics import LEVELS, Estimate, Sample, estimate, level_class

ALL = "all"


@dataclass(frozen=True)
class Worth:
    """Mean scores in the same seats, and what they make of the copy.

        ratio = (mean of the copy - mean of the idle agent) / (mean of the original - mean of the idle agent)

    Its interval draws world seeds anew, with all that was played there, as `statistics` does for other figures.
    """

    original: float
    copy: float
    idle: float
    ratio: Estimate


def worth(records: Iterable[WorldRecord], original: str, copy: str, idle: str, seed: int = 0) -> dict[str, Worth]:
    """The worth of a copy over all seats and by level class ("all", "first", "middle", "last").

    Args:
        records: of a tournament with mode="swap", in which the three play.
        original, copy, idle: names of competitors.
        seed: of the bootstrap.

    Raises:
        ValueError: if there is no seat that all three played.
    """
    scores: dict[tuple[int, int, str], dict[str, float]] = defaultdict(dict)
    for record in records:
        for seat in record.seats:
            scores[record.world_seed, seat.index, level_class(seat)][seat.competitor] = seat.measures["score"]
    names = (original, copy, idle)
    shared = [
        (place, [found[name] for name in names]) for place, found in sorted(scores.items()) if {*names} <= {*found}
    ]
    shared = [(place, found) for place, found in shared if np.isfinite(found).all()]
    if not shared:
        raise ValueError(f"No world was played to its end by all of {', '.join(names)}.")
    levels = [ALL, *(level for level in LEVELS if any(place[2] == level for place, _ in shared))]
    return {level: _worth([one for one in shared if level in (ALL, one[0][2])], seed) for level in levels}


def _worth(seats: list[tuple[tuple[int, int, str], list[float]]], seed: int) -> Worth:
    table = np.array([found for _, found in seats])
    gains = table - table[:, 2:]

    def ratio(which: np.ndarray, weight: np.ndarray) -> np.ndarray:
        original, copy, _ = gains[which.astype(np.int64)].T
        return weight @ copy / (weight @ original)

    sample = Sample.of([(float(i), place[0], place[2]) for i, (place, _) in enumerate(seats)])
    mean = table.mean(0)
    return Worth(float(mean[0]), float(mean[1]), float(mean[2]), estimate(sample, ratio, seed))
