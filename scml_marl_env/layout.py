"""Layout: sizes, names and rules that follow from a config; the arrays of an environment. Shared by all who play.

Letters as in `array_env`.
"""

from typing import NamedTuple

import numpy as np

from scml_marl_env import features
from scml_marl_env.actions import ActionGrid
from scml_marl_env.config import SHIELDS, EnvConfig
from scml_marl_env.windows import Columns, Rules

PRIVATE_COLUMNS = ("exists", "stock", "balance", "bought", "sold", "bankrupt")


class EnvArrays(NamedTuple):
    """What a world shows, written in place. A vector environment holds these with a leading axis E."""

    observation: np.ndarray  # float32 (N, D)
    state: np.ndarray  # float32 (F, S)
    bounds: np.ndarray  # int32 (N, M)
    active: np.ndarray  # bool (N,), the agent has a decision to take now
    reward: np.ndarray  # float32 (F,), of the last step
    elapsed: np.ndarray  # float32 (F,), days that passed in the last step
    terminated: np.ndarray  # bool (F,), at the last step: the run is over or the factory bankrupt
    truncated: np.ndarray  # bool (F,), at the last step: the caller's limit, or a world that failed
    executed: np.ndarray  # int64 (N,), what L1 made of the actions of the last step


class Layout:
    """Sizes and names that follow from a config, before any world is drawn.

    With `one_team` the agents are the slots of whichever factory has to answer, instead of those of every factory; of
    one factory they are the same.
    """

    def __init__(self, config: EnvConfig, one_team: bool = False) -> None:
        self.config, self.one_team = config, one_team and config.n_controlled > 1
        self.grid = ActionGrid.covering(config.horizon, config.n_lines, config.max_quantity, config.n_price_levels)
        self.n_factories = config.n_controlled
        self.n_slots = config.n_slots
        self.n_shown = 1 if self.one_team else self.n_factories
        self.n_agents = self.n_shown * self.n_slots
        self.agent_names = [f"thread_{n}" for n in range(self.n_agents)]
        n_leads = config.horizon + 1
        parts = {
            "thread": features.thread_names(),
            "history": features.history_names(config.history),
            "broadcast": features.broadcast_names(n_leads),
            "macro": features.macro_names(n_leads),
        }
        self.part_names = parts
        self.observation_names = [name for part in config.observation for name in parts[part]]
        first = dict.fromkeys(Columns._fields, -1)
        for i, part in enumerate(config.observation):
            first[part] = sum(len(parts[before]) for before in config.observation[:i])
        first["pools"] = len(parts["macro"]) + len(parts["broadcast"])
        self.columns = Columns(**first)
        self.rules = Rules(
            SHIELDS.index(config.shield), config.useful, self.grid.quantity_array, self.grid.n_price_levels
        )
        self.state_names = [*parts["macro"], *parts["broadcast"]]
        self.state_names += [f"{pool}_{name}" for pool in ("mean", "max") for name in parts["thread"]]
        self.n_public = len(self.state_names)  # columns of a state that are no simulator secrets
        if config.privileged_state:
            places = config.processes_range[1] * config.factories_range[1]
            self.state_names += [f"private_{i}_{name}" for i in range(places) for name in PRIVATE_COLUMNS]

    def shapes(self) -> dict[str, tuple[tuple[int, ...], type]]:
        """Name of `EnvArrays` -> (shape, dtype)."""
        n, f = self.n_agents, self.n_factories
        return {
            "observation": ((n, len(self.observation_names)), np.float32),
            "state": ((self.n_shown, len(self.state_names)), np.float32),
            "bounds": ((n, self.grid.n_bounds), np.int32),
            "active": ((n,), np.bool_),
            "reward": ((f,), np.float32),
            "elapsed": ((f,), np.float32),
            "terminated": ((f,), np.bool_),
            "truncated": ((f,), np.bool_),
            "executed": ((n,), np.int64),
        }

    def arrays(self) -> EnvArrays:
        return EnvArrays(**{name: np.zeros(shape, dtype) for name, (shape, dtype) in self.shapes().items()})
