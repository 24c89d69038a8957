"""Recorded play of a known policy in a made-up world: the arrays of `algorithms.offline.OfflineData`."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from algorithms.checkpoint import describe_grid
from algorithms.networks import Actor
from tests.algorithms.grids import SmallGrid, random_bounds


@dataclass
class Recorded:
    """What `OfflineData` asks for, held in memory."""

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
    split: np.ndarray
    expert: np.ndarray
    manifest: dict[str, Any]
    observation_names: list[str]
    experts: list[str]

    def episodes_of(self, split, expert=None):
        chosen = self.split == ("train", "validation", "test").index(split)
        if expert is not None:
            chosen &= self.expert == self.experts.index(expert)
        return np.flatnonzero(chosen)

    def decisions_of(self, episodes):
        steps = [np.arange(self.first_step[p], self.first_step[p + 1]) for p in episodes]
        rows = [np.arange(self.first_decision[w], self.first_decision[w + 1]) for s in steps for w in s]
        return np.concatenate([np.zeros(0, np.int64), *rows])


def teacher(seed: int = 0, n_columns: int = 5, grid: Any = None) -> Actor:
    """A policy that is far from uniform."""
    torch.manual_seed(seed)
    actor = Actor(n_columns, grid or SmallGrid(), (8,), "tanh", False)
    for parameter in actor.parameters():
        parameter.data += torch.randn_like(parameter)
    return actor.requires_grad_(False)


def record(seed: int = 0, n_episodes: int = 12, n_steps: int = 20, actor: Actor | None = None) -> Recorded:
    """Plays random rows: 1 to 3 threads decide at each step, two steps make a day; every third episode is held out."""
    rng, grid = np.random.default_rng(seed), SmallGrid()
    w = n_episodes * n_steps
    counts = rng.integers(1, 4, w)
    r = int(counts.sum())
    first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    observation = rng.normal(size=(r, 5)).astype(np.float32)
    bounds = random_bounds(rng, r, grid)
    actor = actor or teacher()
    torch.manual_seed(seed)
    action, _ = actor.sample(torch.from_numpy(observation), torch.from_numpy(bounds), torch.rand, False)
    last = np.arange(w) % n_steps == n_steps - 1
    return Recorded(
        observation=observation,
        bounds=bounds,
        action=action.numpy().astype(np.int32),
        legal=np.ones(r, bool),
        slot=(np.arange(r) - np.repeat(first[:-1], counts)).astype(np.int16),
        state=rng.normal(size=(w, 4)).astype(np.float32),
        day=((np.arange(w) % n_steps) // 2).astype(np.int16),
        reward=rng.normal(size=w).astype(np.float32),
        elapsed=(np.arange(w) % 2).astype(np.float32),
        terminated=last,
        truncated=np.zeros(w, bool),
        first_decision=first,
        first_step=np.arange(n_episodes + 1, dtype=np.int64) * n_steps,
        level=(np.arange(n_episodes) % 2).astype(np.int16),
        score=rng.normal(size=n_episodes),
        split=np.array([0, 0, 0, 0, 1, 2])[np.arange(n_episodes) % 6].astype(np.int16),
        expert=(np.arange(n_episodes) % 2).astype(np.int16),
        manifest={"grid": describe_grid(grid), "config": {"env": "recorded"}},
        observation_names=[f"column_{i}" for i in range(5)],
        experts=["even", "odd"],
    )
