"""Two small VectorEnvs of arrays, written against the interface alone: idle agents, and a factored action grid."""

from typing import Any

import numpy as np

from algorithms.vector import FlatGrid
from tests.algorithms.grids import SmallGrid


class ArrayEnv:
    """The arrays of algorithms.interface.VectorEnv, and episodes that end together; subclasses write the rules."""

    n_teams, per_team, n_columns, n_state, length = 1, 1, 1, 1, 6

    def __init__(self, n_worlds: int, grid: Any, n_bounds: int) -> None:
        e, f, n = n_worlds, self.n_teams, self.n_teams * self.per_team
        self.n_worlds, self.n_agents, self.action_grid = e, n, grid
        self.observation = np.zeros((e, n, self.n_columns), np.float32)
        self.state = np.zeros((e, f, self.n_state), np.float32)
        self.bounds, self.active = np.zeros((e, n, n_bounds), np.int32), np.zeros((e, n), bool)
        self.reward, self.elapsed = np.zeros((e, f), np.float32), np.ones((e, f), np.float32)
        self.terminated, self.truncated = np.zeros((e, f), bool), np.zeros((e, f), bool)
        self.executed = np.zeros((e, n), np.int64)
        self.final_observation, self.final_state = np.zeros_like(self.observation), np.zeros_like(self.state)
        self.final_active = np.zeros((e, n), bool)
        self.episodes: list[dict[str, Any]] = []
        self.agent_names = [f"agent_{i}" for i in range(n)]
        self.observation_names = [f"column_{i}" for i in range(self.n_columns)]
        self.config: dict[str, Any] = {"env": type(self).__name__}
        self.reset(0)

    def reset(self, seed: int | None) -> None:
        if seed is not None:
            self.rng, self.seed = np.random.default_rng(seed), seed
        self.t, self.returns = 0, np.zeros((self.n_worlds, self.n_teams))
        self.begin()
        self.look()

    def step(self, actions: np.ndarray) -> None:
        self.executed[:] = np.where(self.active, actions, 0)
        self.pay()
        self.returns += self.reward
        self.t += 1
        self.terminated[:] = self.t == self.length
        self.look()
        if self.t == self.length:
            self.final_observation[:], self.final_state[:] = self.observation, self.state
            self.episodes += [
                {"world": e, "seed": self.seed, "return": r.tolist(), "length": self.length, "paid": float(r.sum())}
                for e, r in enumerate(self.returns)
            ]
            self.reset(None)

    def close(self) -> None:
        pass

    def begin(self) -> None:
        pass


class Gaps(ArrayEnv):
    """Agent 0 decides at steps 0 and 3, agent 1 at step 0 only; the pay for step 0 arrives in step 1, in the gap.

    Agent 0 is paid 1 at step 1 if its action at step 0 was the shown one, less 1 if not; the same for agent 1, who is
    its own team. At step 3 agent 0 is shown nothing and earns nothing. A day passes in steps 1 and 4 only.
    """

    n_teams, n_columns = 2, 2

    def __init__(self, n_worlds: int) -> None:
        super().__init__(n_worlds, FlatGrid(2), 2)

    def begin(self) -> None:
        self.good = self.rng.integers(0, 2, (self.n_worlds, 2))

    def look(self) -> None:
        self.observation[..., 0] = np.where(self.t == 0, 2 * self.good - 1, 0)
        self.observation[..., 1] = self.t / self.length
        self.state[..., 0] = self.observation[..., 0]
        self.bounds[:] = 1
        self.active[:, 0] = self.t in (0, 3)
        self.active[:, 1] = self.t == 0
        self.elapsed[:] = self.t in (2, 5)

    def pay(self) -> None:
        if self.t == 0:
            self.right = self.executed == self.good
        self.reward[:] = np.where(self.right, 1, -1) if self.t == 1 else 0


class GridWorld(ArrayEnv):
    """One team of three threads; each may end or offer, and 1 is paid for one offer only: lead 1, 2 items, price 2.

    Caps are drawn anew each step; half of the time the best offer is not legal, then ending pays a quarter. The
    observation says nothing of the caps, so they must come through the bounds; whoever breaks them is told so.
    """

    per_team, n_columns = 3, 1
    best = 3 + (1 * 3 + 1) * 3 + 2

    def __init__(self, n_worlds: int) -> None:
        super().__init__(n_worlds, SmallGrid(), 9)

    def look(self) -> None:
        caps = self.rng.integers(0, 3, (self.n_worlds, self.n_agents, 6))
        possible = self.rng.random((self.n_worlds, self.n_agents)) < 0.5
        caps[..., 5] = np.where(possible, 2 + 3 * self.rng.integers(0, 2, possible.shape), 1)
        self.active[:] = self.rng.random(self.active.shape) < 0.8
        self.bounds[..., 0], self.bounds[..., 1], self.bounds[..., 2] = 0, 1, 0
        self.bounds[..., 3:] = caps
        self.observation[..., 0] = possible
        self.state[..., 0] = possible.mean(-1, keepdims=True)
        self.possible = possible

    def pay(self) -> None:
        mask = self.action_grid.mask(self.bounds)
        legal = np.take_along_axis(mask, self.executed[..., None], -1)[..., 0]
        assert legal[self.active].all(), "an offer beyond its cap"
        good = np.where(self.possible, self.executed == self.best, 0.25 * (self.executed == 1))
        self.reward[:, 0] = np.where(self.active, good, 0).sum(-1) / np.maximum(self.active.sum(-1), 1)
