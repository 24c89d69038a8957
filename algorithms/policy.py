"""A trained policy without its trainer: rows of observations and bounds in, actions out, numpy on both sides."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from algorithms.dense import padded
from algorithms.interface import ActionGrid, VectorEnv
from algorithms.networks import Actor
from algorithms.rows import RowActor


class Policy:
    """What evaluation, opponents and the official competition see of a learner.

    Deterministic given its generator: the same rows and the same state of `rng` give the same actions, on one thread
    of torch whatever the caller's setting is.
    """

    def __init__(self, actor: Actor, observation_names: list[str], config: dict[str, Any]) -> None:
        """Wraps an actor; it is used where it is, so a learner's policy follows the learner."""
        self.actor = actor
        self.observation_names = observation_names
        self.config = config
        self._row_actor: RowActor | None = None

    @classmethod
    def uniform(cls, n_columns: int, grid: ActionGrid) -> "Policy":
        """Returns the random masked policy: every legal choice alike, factor by factor where the grid has factors."""
        actor = Actor(n_columns, grid, hidden=(1,), activation="tanh", normalise=False)
        for parameter in actor.parameters():
            nn.init.zeros_(parameter)
        return cls(actor, [], {"policy": "uniform"})

    @torch.inference_mode()
    def act(
        self, observation: np.ndarray, bounds: np.ndarray, rng: np.random.Generator, greedy: bool = False
    ) -> np.ndarray:
        """Returns int64 (n,) for float32 (n, D) and int32 (n, M), a legal action for each row.

        Args:
            observation: rows of agents that have something to decide.
            bounds: their compact bounds.
            rng: the only source of chance; not read where `greedy`.
            greedy: the most probable choice instead of a drawn one.
        """
        if not len(observation):
            return np.zeros(0, np.int64)
        device = next(self.actor.parameters()).device

        def uniform(n: int) -> torch.Tensor:
            return torch.from_numpy(rng.random(n, dtype=np.float32)).to(device)

        with one_thread():
            rows, limits = torch.from_numpy(observation), torch.from_numpy(bounds).to(device)
            index = padded(np.arange(len(observation)))
            if len(index) > len(rows):
                rows = rows.index_select(0, index)
            return self.actor.sample(rows.to(device), limits, uniform, greedy)[0].cpu().numpy()

    def act_rows(self, observation: np.ndarray, bounds: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """Returns int64 (n,), each row's action from its own float32 (n, 4) numbers of [0, 1); see `rows.RowActor`.

        The weights are those of the first call.
        """
        if self._row_actor is None:
            self._row_actor = RowActor(self.actor)
        return self._row_actor.act(observation, bounds, uniform)

    def act_all(self, env: VectorEnv, rng: np.random.Generator, greedy: bool = False) -> np.ndarray:
        """Returns int64 (E, N) for a whole vector environment, 0 where an agent is not active."""
        action = np.zeros(env.active.shape, np.int64)
        action[env.active] = self.act(env.observation[env.active], env.bounds[env.active], rng, greedy)
        return action

    def player(self, env: VectorEnv) -> "Player":
        """Returns what plays a vector environment from its next reset on: itself, since it keeps no memory."""
        return self

    def receive(self, env: VectorEnv) -> None:
        """Takes in nothing of what the last step did."""


class Player(Protocol):
    """Plays all teams of a vector environment: `act_all` before every step, `receive` after it."""

    def act_all(self, env: VectorEnv, rng: np.random.Generator, greedy: bool = False) -> np.ndarray:
        """Returns int64 (E, N), 0 where an agent is not active."""

    def receive(self, env: VectorEnv) -> None:
        """Takes in what the last step did and brought."""


class Playable(Protocol):
    """A policy, with a memory or without one."""

    @property
    def observation_names(self) -> list[str]:
        """The columns that it expects."""

    @property
    def config(self) -> dict[str, Any]:
        """Of its checkpoint."""

    def act(
        self, observation: np.ndarray, bounds: np.ndarray, rng: np.random.Generator, greedy: bool = False
    ) -> np.ndarray:
        """Returns int64 (n,) for float32 (n, D) and int32 (n, M), see `Policy.act`."""

    def player(self, env: VectorEnv) -> Player:
        """Returns what plays a vector environment from its next reset on."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Lets torch use one thread inside the block."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
