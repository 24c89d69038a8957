"""ThreadEnv: every concurrent negotiation thread of a factory is a PettingZoo agent."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

from scml_marl_env.actions import WAIT
from scml_marl_env.array_env import ArrayEnv
from scml_marl_env.config import EnvConfig
from scml_marl_env.features import LIMIT
from scml_marl_env.layers.l1_shield import REASONS

Observation = dict[str, np.ndarray]


class ThreadEnv(ParallelEnv[str, Observation, int]):
    """One SCML world in which K negotiation threads of each of F factories decide.

    A step is a window: one decision of one factory, in which all its threads that wait for an answer are answered at
    once. Agent `thread_<n>` is slot k = n % K of factory f = n // K: a permanent partner (suppliers first, then
    consumers), so an agent lives for the whole episode although SCML reopens its negotiation every day.

    Observation of an agent, a Dict:
        observation: float32 (D,), columns named by `observation_names`, within +-5.
        action_mask: int8 (A,), 1 where L1 allows the action. An agent that has nothing to answer may only wait (0).
    Action: Discrete(A), see `action_grid`: 0 waits, 1 ends, 2 accepts, the rest are offers (lead time, quantity,
    price). Reward: shared by the threads of a factory: its balance change over its initial balance since the last step,
    which is
        not zero only when the day has changed (and the shaping of `reward="potential"`).
    Ends: terminated when the run is over or the factory is bankrupt, truncated by `max_cycles` or when a world fails.
    Info of an agent, numbers under the same keys at every step (as TorchRL and others need it): action_mask (the very
        array of the observation), active, factory, is_buy (-1 in a slot without a partner), executed (the action that
        L1 made of the last one), elapsed (days that passed in the step; the learner's discount is gamma**elapsed),
        profit and shaping (the terms of the reward), illegal, shrunk, moved, countered, ended (answers of the last
        window that L1 changed, by reason), opponent_exceptions (so far; SCML breaks the negotiation and plays on),
        world_failed (an error that no rule of SCML catches ended the world). In words: `partners()`, `statistics()`.
    """

    metadata = {
        "render_modes": ["ansi", "rgb_array"],
        "name": "scml_marl_env",
        "is_parallelizable": True,
        "render_fps": 4,
    }

    def __init__(self, config: EnvConfig) -> None:
        self.config = config
        self.render_mode = config.render_mode
        self._game = ArrayEnv(config)
        layout = self._game.layout
        self.action_grid = layout.grid
        self.observation_names = layout.observation_names
        self.state_names = [f"factory{f}_{name}" for f in range(layout.n_factories) for name in layout.state_names]
        self.possible_agents = layout.agent_names
        self.agents: list[str] = []
        self._index = {agent: n for n, agent in enumerate(self.possible_agents)}
        # One object each, built once: seeding a space seeds that object.
        self.observation_spaces = {agent: self._observation_space() for agent in self.possible_agents}
        self.action_spaces = {agent: spaces.Discrete(self.action_grid.n_actions) for agent in self.possible_agents}
        self.state_space = spaces.Box(-LIMIT, LIMIT, (len(self.state_names),), np.float32)
        self._seeds = np.random.default_rng()

    def observation_space(self, agent: str) -> spaces.Space:
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space:
        return self.action_spaces[agent]

    @property
    def unwrapped(self) -> "ThreadEnv":
        return self

    @property
    def game(self) -> ArrayEnv:
        """The same world as arrays."""
        return self._game

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Observation], dict[str, dict[str, Any]]]:
        """Draws a new world. `seed` fixes it and those of the following resets without one; `options` are ignored.

        Raises:
            ValueError: if `seed` is neither None nor a whole number of at least 0.
        """
        if seed is not None:
            self._seeds = np.random.default_rng(check_seed(seed))
        self._game.reset(int(self._seeds.integers(2**31 - 1)) if seed is None else int(seed))
        live = ~np.repeat(self._game.done, self.config.n_slots)
        self.agents = [agent for agent, there in zip(self.possible_agents, live, strict=True) if there]
        return self._observations(), self._infos()

    def step(
        self, actions: Mapping[str, int]
    ) -> tuple[dict[str, Observation], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]:
        """Answers the window with one action of every live agent (wait for those that have nothing to answer).

        Raises:
            RuntimeError: before reset, or after the episode ended.
            ValueError: for missing or unknown agents, actions that are no whole numbers of the space, and with
                `strict=True` for actions that the mask forbids. Nothing has happened then: the step can be repeated.
        """
        if not self.agents:
            raise RuntimeError("step() after the episode ended, or before it began; call reset() first.")
        self._game.step(self._array(actions))
        arrays, live = self._game.arrays, self.agents
        observations, infos = self._observations(), self._infos()
        factory = {agent: self._index[agent] // self.config.n_slots for agent in live}
        rewards = {agent: float(arrays.reward[f]) for agent, f in factory.items()}
        terminations = {agent: bool(arrays.terminated[f]) for agent, f in factory.items()}
        truncations = {agent: bool(arrays.truncated[f]) for agent, f in factory.items()}
        self.agents = [agent for agent in live if not self._game.done[factory[agent]]]
        return observations, rewards, terminations, truncations, infos

    def state(self) -> np.ndarray:
        """float32 (F * S,), what a centralised critic sees, columns named by `state_names`. A copy."""
        return self._game.arrays.state.reshape(-1).copy()

    def partners(self) -> dict[str, str]:
        """Agent -> SCML id of its partner in the current world, for the slots that have one."""
        names = {}
        for factory in range(self._game.engine.n_factories):
            for slot, partner in enumerate(self._game.engine.partners_of(factory)):
                names[self.possible_agents[factory * self.config.n_slots + slot]] = partner
        return names

    def statistics(self) -> dict[str, Any]:
        """Of the episode so far, or of the one that has just ended; see `ArrayEnv.statistics`."""
        return self._game.statistics()

    def render(self) -> str | np.ndarray | None:
        """The current day: a table (`ansi`) or a picture uint8 (H, W, 3) (`rgb_array`)."""
        if self.render_mode is None:
            return None
        from scml_marl_env import render

        return render.day_table(self._game) if self.render_mode == "ansi" else render.day_picture(self._game)

    def close(self) -> None:
        """Ends the simulation; reset() starts a new one."""
        self._game.close()
        self.agents = []

    def _observation_space(self) -> spaces.Dict:
        return spaces.Dict(
            {
                "observation": spaces.Box(-LIMIT, LIMIT, (len(self.observation_names),), np.float32),
                "action_mask": spaces.Box(0, 1, (self.action_grid.n_actions,), np.int8),
            }
        )

    def _observations(self) -> dict[str, Observation]:
        arrays = self._game.arrays
        # A finished factory's bounds are of no use any more: its agents may only wait.
        masks = self.action_grid.mask(arrays.bounds).astype(np.int8)
        masks[~arrays.active] = 0
        masks[~arrays.active, WAIT] = 1
        self._masks = list(masks)  # the very object of the observation goes into the info as well
        rows = arrays.observation.copy()
        return {
            agent: {"observation": rows[self._index[agent]], "action_mask": self._masks[self._index[agent]]}
            for agent in self.agents
        }

    def _infos(self) -> dict[str, dict[str, Any]]:
        game, arrays, slots = self._game, self._game.arrays, self.config.n_slots
        view, infos = game.engine.view, {}
        changed = {name: game.changed.get(name, 0) for name in REASONS if name != "ok"}
        exceptions, failed = game.engine.n_exceptions(), int(game.world_error is not None)
        for agent in self.agents:
            n = self._index[agent]
            factory, slot = divmod(n, slots)
            infos[agent] = {
                **({"action_mask": self._masks[n]} if self.config.mask_in == "both" else {}),
                "active": bool(arrays.active[n]),
                "factory": factory,
                "is_buy": int(view.is_buy[factory, slot]) if view.exists[factory, slot] else -1,
                "executed": int(arrays.executed[n]),
                "elapsed": float(arrays.elapsed[factory]),
                **game.books[factory].terms,
                **changed,
                "opponent_exceptions": exceptions,
                "world_failed": failed,
            }
        return infos

    def _array(self, actions: Mapping[str, int]) -> np.ndarray:
        """int64 (N,) from a dict of actions, checked."""
        if not isinstance(actions, Mapping):
            raise ValueError(f"Actions must be a dict of agent names, got {type(actions).__name__}.")
        missing = [agent for agent in self.agents if agent not in actions]
        unknown = [agent for agent in actions if agent not in self._index]
        if missing or unknown:
            raise ValueError(
                f"step() takes one action of each live agent: missing {missing}, unknown {unknown}. "
                "Agents that have nothing to answer send 0 (wait)."
            )
        array = np.zeros(len(self.possible_agents), np.int64)
        for agent in self.agents:
            array[self._index[agent]] = check_action(actions[agent], self.action_grid.n_actions, agent)
        return array


def check_seed(seed: Any) -> int:
    """`seed` as an int. Raises ValueError unless it is a whole number of at least 0."""
    if isinstance(seed, (bool, np.bool_)) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ValueError(f"A seed must be a whole number of at least 0, got {seed!r}.")
    return int(seed)


def check_action(action: Any, n_actions: int, agent: str) -> int:
    """`action` as an int. Raises ValueError unless it is a whole number of 0..n_actions-1."""
    if isinstance(action, np.ndarray) and action.ndim == 0:
        action = action[()]
    whole = isinstance(action, (int, np.integer)) and not isinstance(action, (bool, np.bool_))
    if not whole or not 0 <= action < n_actions:
        raise ValueError(f"The action of {agent} must be a whole number of 0..{n_actions - 1}, got {action!r}.")
    return int(action)
