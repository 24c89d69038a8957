"""Recorded play: what learners read of it, which episodes they learn from, and its decisions in shuffled pools.

The arrays may be files far larger than memory: nothing here reads more of them than one pool of rows at a time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from algorithms.interface import ActionGrid
from algorithms.load import build_grid
from algorithms.returns import Trajectory, gae

SPLITS = ("train", "validation", "test")
BLOCK, POOL = 4096, 65536  # rows that are read in one piece, and rows that are shuffled together


class OfflineData(Protocol):
    """Decisions of experts as flat arrays; the package that records them documents the format.

    R decisions (one thread's answer) in W steps (one window of one factory) of P episodes (one factory in one world);
    D observation columns, M bounds, S state columns.

    Attributes:
        observation: float32 (R, D).  bounds: int32 (R, M).  action: int32 (R,), on the grid.
        legal: bool (R,), the bounds allow the action.  slot: int16 (R,), the thread.
        state: float32 (W, S).  day: int16 (W,).  reward, elapsed: float32 (W,), until the factory's next step.
        terminated, truncated: bool (W,).
        first_decision: int64 (W + 1,), decisions of step w are first_decision[w] : first_decision[w + 1].
        first_step: int64 (P + 1,), likewise the steps of an episode.
        level: int16 (P,).  score: float64 (P,), what the episode was worth.
        manifest: "grid" describes the action grid as checkpoints do, "config" the environment.
        experts: names.
    """

    observation: np.ndarray
    bounds: np.ndarray
    action: np.ndarray
    legal: np.ndarray
    slot: np.ndarray
    state: np.ndarray
    day: np.ndarray
    reward: np.ndarray
    elapsed: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    first_decision: np.ndarray
    first_step: np.ndarray
    level: np.ndarray
    score: np.ndarray
    manifest: dict[str, Any]
    observation_names: list[str]
    experts: list[str]

    def episodes_of(self, split: str, expert: str | None = None) -> np.ndarray:
        """Returns int64 (n,): the episodes of "train", "validation" or "test", of one expert or of all."""

    def decisions_of(self, episodes: np.ndarray) -> np.ndarray:
        """Returns int64 (n,): the rows of all decisions of these episodes, in ascending order."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Whose play is learnt from, and which of it. Held-out episodes are chosen by the same measure."""

    experts: tuple[str, ...] = ()
    """names of experts; by default all"""
    min_score: float | None = None
    """episodes of at least this score only"""
    best_share: float = 1.0
    """this share of the episodes of each level only, those of the highest scores (filtered behaviour cloning)"""

    def __post_init__(self) -> None:
        if not 0 < self.best_share <= 1:
            raise ValueError(f"Selection.best_share must lie in (0, 1], got {self.best_share}.")


@dataclass(frozen=True)
class Pool:
    """n decisions in memory, in random order where they were drawn so.

    Attributes:
        rows: int64 (n,), their numbers in the data.
        observation: float32 (n, D).  bounds: int32 (n, M).  action: int64 (n,).
    """

    rows: np.ndarray
    observation: Tensor
    bounds: Tensor
    action: Tensor


def grid_of(data: OfflineData) -> ActionGrid:
    """Returns the action grid that the actions are indices of."""
    return build_grid(data.manifest["grid"])


def select(data: OfflineData, selection: Selection) -> dict[str, np.ndarray]:
    """Returns the episodes int64 (n,) of each split; the least score of `best_share` is that of the training split.

    Raises:
        ValueError: for an expert that the data does not have, or if no episode is left to train or to validate on.
    """
    unknown = sorted(set(selection.experts) - set(data.experts))
    if unknown:
        raise ValueError(f"The data has no experts {unknown}; it has {list(data.experts)}.")
    names: tuple[str | None, ...] = selection.experts or (None,)
    episodes = {
        split: np.unique(np.concatenate([data.episodes_of(split=split, expert=name) for name in names]))
        for split in SPLITS
    }
    score, level = np.asarray(data.score), np.asarray(data.level)
    least = np.full(int(level.max(initial=0)) + 1, -np.inf if selection.min_score is None else selection.min_score)
    if selection.best_share < 1:
        for i in range(len(least)):
            scores = score[episodes["train"]][level[episodes["train"]] == i]
            scores = scores[~np.isnan(scores)]
            if len(scores):
                least[i] = max(least[i], np.quantile(scores, 1 - selection.best_share))
    kept = episodes
    if selection.best_share < 1 or selection.min_score is not None:  # a score that is not known is not enough
        kept = {split: chosen[score[chosen] >= least[level[chosen]]] for split, chosen in episodes.items()}
    for split in ("train", "validation"):
        if not len(kept[split]):
            raise ValueError(
                f"No {split} episode is left of {len(episodes[split])}: collect more worlds, or ask for other experts "
                "or a lower score."
            )
    return kept


def legal_rows(data: OfflineData, episodes: np.ndarray) -> tuple[np.ndarray, int]:
    """Returns the rows int64 (n,) of the episodes' decisions that the bounds allow, and how many were left out.

    What the bounds forbid has probability 0 under every masked policy: no loss can be had of it.
    """
    rows = data.decisions_of(episodes)
    legal = np.asarray(data.legal)[rows]
    return rows[legal], int((~legal).sum())


def shuffled(
    rows: np.ndarray, rng: np.random.Generator | None, block: int = BLOCK, pool: int = POOL
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Cuts rows into pools: (rows ascending, their order), each row in exactly one of them.

    Blocks of neighbours are drawn at random, several blocks make a pool, and a pool is shuffled as a whole; so reading
    stays sequential within blocks, and an order needs no more memory than a pool.

    Args:
        rows: ascending row numbers.
        rng: of the order; None leaves everything in place.
    """
    blocks = np.split(rows, np.arange(block, len(rows), block))
    order = np.arange(len(blocks)) if rng is None else rng.permutation(len(blocks))
    for some in np.split(order, np.arange(max(1, pool // block), len(order), max(1, pool // block))):
        chosen = np.concatenate([blocks[b] for b in np.sort(some)])
        yield chosen, np.arange(len(chosen)) if rng is None else rng.permutation(len(chosen))


def pools(data: OfflineData, rows: np.ndarray, rng: np.random.Generator | None, pool: int = POOL) -> Iterator[Pool]:
    """Reads decisions pool by pool, see `shuffled`."""
    for chosen, order in shuffled(rows, rng, min(BLOCK, pool), pool):
        observation, bounds, action = (
            torch.from_numpy(np.asarray(array[chosen], kind)[order])
            for array, kind in ((data.observation, np.float32), (data.bounds, np.int32), (data.action, np.int64))
        )
        yield Pool(chosen[order], observation, bounds, action)


def sample_rows(rows: np.ndarray, most: int | None, seed: int = 0) -> np.ndarray:
    """Returns at most `most` of the rows, drawn once and for all, in ascending order."""
    if most is None or len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


def steps_of(data: OfflineData, rows: np.ndarray) -> np.ndarray:
    """Returns int64 (n,): the step of each decision."""
    return np.searchsorted(np.asarray(data.first_decision), rows, side="right") - 1


def spans(first: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Returns int64 (n,): all of first[i] .. first[i + 1] - 1 for every i of `which`, in its order."""
    starts, lengths = np.asarray(first)[which], np.asarray(first)[which + 1] - np.asarray(first)[which]
    offsets = np.cumsum(lengths) - lengths
    return np.repeat(starts - offsets, lengths) + np.arange(int(lengths.sum()))


def returns_to_go(data: OfflineData, episodes: np.ndarray, gamma: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns the steps int64 (n,) of the episodes, and what followed each of them until the end, float32 (n,).

    It is the advantage of `returns.gae` over a critic that says 0, with lambda 1: online and offline have one formula,
    and a day counts as much in both. Whatever follows the end of an episode, however it ended, counts nothing.
    """
    steps = spans(data.first_step, episodes)
    shape = (len(steps), 1, 1)

    def of(array: np.ndarray) -> np.ndarray:
        return np.asarray(array)[steps].reshape(shape)

    zero = np.zeros(shape, np.float32)
    terminated, truncated = of(data.terminated), of(data.truncated)
    ends = np.cumsum(np.asarray(data.first_step)[episodes + 1] - np.asarray(data.first_step)[episodes]) - 1
    truncated[ends] |= ~terminated[ends]  # a recording that stops before the episode does
    trajectory = Trajectory(
        reward=of(data.reward),
        elapsed=of(data.elapsed),
        terminated=terminated,
        truncated=truncated,
        active=np.ones(shape, bool),
        value=zero,
        final_value=zero,
        last_value=zero[0] if len(steps) else np.zeros((1, 1), np.float32),
    )
    return steps, gae(trajectory, gamma, 1.0).reshape(-1)
