"""A vector environment of random arrays in the shapes of std-2025: the time of training without that of a simulator."""

from typing import Any

import numpy as np

from scml_marl_env.actions import (
    BEST_PRICE,
    CAN_ACCEPT,
    CAN_END,
    LAST_LEAD,
    N_PRICES,
    PRICE_SIGN,
    QUANTITY,
    UNLIMITED,
    ActionGrid,
)


class SyntheticEnv:
    """The arrays of algorithms.interface.VectorEnv; one of a few frames drawn in advance is copied in at each step.

    Half of the K = 12 threads of a world's one factory decide. Bounds are legal ones of the action grid: buyers and
    sellers, agendas of 8 to 30 prices, some leads closed, some budgets limited, one thread in ten without an offer to
    make. A day passes every 20 steps and an episode ends after 1,000, at another step in each world.
    """

    n_frames, length = 16, 1000

    def __init__(self, n_worlds: int, seed: int = 0) -> None:
        """Draws the frames."""
        e, n, f = n_worlds, 12, 1
        self.n_worlds, self.n_agents, self.n_teams = e, n, f
        self.action_grid = ActionGrid(11, (*range(1, 11), 12, 15, 20, 25, 30), 20)
        rng = np.random.default_rng(seed)
        self._frames = [self._frame(rng, e, n) for _ in range(self.n_frames)]
        self.observation, self.state, self.bounds, self.active = (array.copy() for array in self._frames[0])
        self.reward, self.elapsed = np.zeros((e, f), np.float32), np.zeros((e, f), np.float32)
        self.terminated, self.truncated = np.zeros((e, f), bool), np.zeros((e, f), bool)
        self.executed = np.zeros((e, n), np.int64)
        self.final_observation, self.final_state = np.zeros_like(self.observation), np.zeros_like(self.state)
        self.final_active = np.zeros((e, n), bool)
        self.episodes: list[dict[str, Any]] = []
        self.agent_names = [f"thread_{i}" for i in range(n)]
        self.observation_names = [f"column_{i}" for i in range(self.observation.shape[-1])]
        self.config: dict[str, Any] = {"env": "synthetic"}
        self._rewards = rng.normal(size=(self.n_frames, e, f)).astype(np.float32)
        self._ends, self._t = rng.integers(0, self.length, (e, 1)), 0

    def _frame(self, rng: np.random.Generator, e: int, n: int) -> tuple[np.ndarray, ...]:
        grid = self.action_grid
        leads, levels = grid.n_leads, grid.n_price_levels
        bounds = np.zeros((e, n, grid.n_bounds), np.int32)
        bounds[..., CAN_END] = 1
        bounds[..., CAN_ACCEPT] = rng.integers(0, 2, (e, n))
        bounds[..., N_PRICES] = rng.integers(8, 31, (e, n))
        bounds[..., BEST_PRICE] = rng.integers(40, 60, (e, n))
        bounds[..., PRICE_SIGN] = np.where(np.arange(n) < n // 2, 1, -1)
        bounds[..., LAST_LEAD] = rng.integers(1, leads, (e, n))
        quantity = rng.integers(0, 15, (e, n, leads)) * (rng.random((e, n, 1)) < 0.9)
        bounds[..., QUANTITY : grid.budget_column] = quantity
        limited = rng.integers(0, 600, (e, n, leads))
        free = rng.random((e, n, leads)) < 0.8
        bounds[..., grid.budget_column : grid.today_column] = np.where(free, UNLIMITED, limited)
        bounds[..., grid.today_column :] = rng.integers(0, 15, (e, n, levels))
        observation = rng.normal(size=(e, n, 132)).astype(np.float32)
        state = rng.normal(size=(e, 1, 278)).astype(np.float32)
        return observation, state, bounds, rng.random((e, n)) < 0.5

    def reset(self, seed: int | None) -> None:
        """Starts from the first frame."""
        self._t = 0
        self._show()

    def step(self, actions: np.ndarray) -> None:
        """Ignores the actions."""
        np.multiply(actions, self.active, out=self.executed)
        self.reward[:] = self._rewards[self._t % self.n_frames]
        self.elapsed[:] = self._t % 20 == 19
        np.equal(self._ends, self._t % self.length, out=self.terminated)
        self._t += 1
        self._show()

    def close(self) -> None:
        """Nothing to free."""

    def _show(self) -> None:
        views = (self.observation, self.state, self.bounds, self.active)
        for view, frame in zip(views, self._frames[self._t % self.n_frames], strict=True):
            np.copyto(view, frame)
