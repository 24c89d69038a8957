"""Any PettingZoo ParallelEnv as a VectorEnv: E copies stepped in this process, dicts turned into arrays."""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium
import numpy as np
from pettingzoo import ParallelEnv


@dataclass(frozen=True)
class FlatGrid:
    """A plain Discrete action space: the bounds of an agent are its mask, one 0 or 1 for each action."""

    n_actions: int
    factors: None = None

    def mask(self, bounds: Any, xp: Any = np) -> Any:
        """Returns bool (..., A) from int (..., A)."""
        return bounds != 0


def parallel_env(name: str) -> Callable[..., ParallelEnv]:
    """Returns the constructor named "package:module" (its `parallel_env`) or "package.module:Class"."""
    package, _, member = name.partition(":")
    if not member:
        raise ValueError(f"An environment is named 'package:module' or 'package.module:Class', got {name!r}.")
    found: Any = getattr(importlib.import_module(package), member, None)
    if found is None:
        found = importlib.import_module(f"{package}.{member}")
    return getattr(found, "parallel_env", found)


class ParallelVectorEnv:
    """E ParallelEnvs behind the arrays of `algorithms.interface.VectorEnv`.

    Observation: each agent's, flattened, padded with zeros to the longest; agents' one-hot appended where `agent_id`.
    State: `env.state()` where the env has one, else all observations in a row; where there are several teams, the
        team's one-hot is appended, so that one critic may value them differently.
    Bounds: the mask in `observation["action_mask"]` or `info["action_mask"]`, else all actions of the agent's space.
    Active: the agent is alive and `info["active"]`, if the env says it, is true. An agent that leaves stays inactive.
    Teams: "agent" makes each agent a team with its own reward; "all" makes one team with the mean of the rewards.
    Episodes: world e starts its episode i with `reset(seed=f(seed, e, i))`, so seed, episode and the actions since
        the last reset are a complete state; `load_state_dict` replays them. (Copying or pickling would not do:
        Gymnasium's EzPickle restores the constructor's arguments and forgets everything else.)
    """

    def __init__(
        self,
        constructors: Sequence[Callable[[], ParallelEnv]],
        seed: int = 0,
        teams: Literal["agent", "all"] = "agent",
        state: Literal["env", "concat", "none"] = "env",
        agent_id: bool | None = None,
    ) -> None:
        """Builds the worlds and resets them.

        Args:
            constructors: one per world.
            seed: fixes every episode of every world.
            teams: whose reward counts, see above.
            state: "none" leaves the state empty (one zero), for a learner that does not read it.
            agent_id: append the agent's one-hot to its observation; None does so where agents' spaces differ.
        """
        self._envs = [make() for make in constructors]
        first = self._envs[0]
        self.agent_names = list(first.possible_agents)
        self.n_worlds, self.n_agents = len(self._envs), len(self.agent_names)
        self.n_teams = self.n_agents if teams == "agent" else 1
        self._per_team = self.n_agents // self.n_teams
        self._spaces, sizes = zip(*(_observation_space(first, name) for name in self.agent_names), strict=True)
        counts = [_discrete_size(first, name) for name in self.agent_names]
        differ = len(set(sizes)) > 1 or len(set(counts)) > 1
        self._agent_id = differ if agent_id is None else agent_id
        width, n_actions = max(sizes), max(counts)
        self._width = width
        n_columns = width + self.n_agents * self._agent_id
        self.action_grid = FlatGrid(n_actions)
        self.observation_names = [f"observation_{i}" for i in range(width)]
        self.observation_names += [f"is_{name}" for name in self.agent_names if self._agent_id]
        self.config = {"env": str(first), "teams": teams, "agents": self.agent_names}
        self._legal = np.zeros((self.n_agents, n_actions), np.int32)
        for i, count in enumerate(counts):
            self._legal[i, :count] = 1
        self._plain = all(isinstance(space, gymnasium.spaces.Box) for space in self._spaces)

        e, n, f = self.n_worlds, self.n_agents, self.n_teams
        first.reset(seed=0)
        self._state_source = _state_source(first) if state == "env" else state
        inner = {"env": lambda: np.asarray(first.state()).size, "concat": lambda: n * width, "none": lambda: 1}
        self._inner_state = inner[self._state_source]()
        n_state = self._inner_state + (f if f > 1 and self._state_source != "none" else 0)
        self.observation = np.zeros((e, n, n_columns), np.float32)
        self.state = np.zeros((e, f, n_state), np.float32)
        if n_state > self._inner_state:
            self.state[:, :, self._inner_state :] = np.eye(f, dtype=np.float32)
        self.bounds = np.zeros((e, n, n_actions), np.int32)
        self.active = np.zeros((e, n), bool)
        self.reward = np.zeros((e, f), np.float32)
        self.elapsed = np.ones((e, f), np.float32)
        self.terminated, self.truncated = np.zeros((e, f), bool), np.zeros((e, f), bool)
        self.executed = np.zeros((e, n), np.int64)
        self.final_observation, self.final_state = np.zeros_like(self.observation), self.state.copy()
        self.final_active = np.zeros((e, n), bool)
        self.episodes: list[dict[str, Any]] = []
        self._return = np.zeros((e, f))
        self._episode = np.zeros(e, np.int64)
        self._actions: list[list[list[int]]] = [[] for _ in range(e)]
        self.reset(seed)

    def reset(self, seed: int | None) -> None:
        """Starts episode 0 of `seed` in every world, or with None the next episode of the present seed."""
        if seed is not None:
            self._seed = seed
        self.episodes.clear()
        for e in range(self.n_worlds):
            self._begin(e, 0 if seed is not None else int(self._episode[e]) + 1)

    def step(self, actions: np.ndarray) -> None:
        """Carries out int64 (E, N); a world whose last team ends is reset within the step."""
        np.multiply(actions, self.active, out=self.executed)
        for e, chosen in enumerate(self.executed.tolist()):
            self._step_world(e, chosen)

    def state_dict(self) -> dict[str, Any]:
        """Returns the seed, and for each world its episode and the actions since the episode began."""
        logs = [np.array(log, np.int64).reshape(-1, self.n_agents) for log in self._actions]
        return {"seed": self._seed, "episode": self._episode.copy(), "actions": logs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Replays what `state_dict` returned."""
        self._seed = int(state["seed"])
        for e in range(self.n_worlds):
            self._begin(e, int(state["episode"][e]))
            for chosen in np.asarray(state["actions"][e]).tolist():
                self._step_world(e, chosen)
        self.episodes.clear()

    def close(self) -> None:
        """Closes every world."""
        for env in self._envs:
            env.close()

    def _begin(self, e: int, episode: int) -> None:
        self._episode[e] = episode
        self._return[e] = 0
        self._actions[e] = []
        observations, infos = self._envs[e].reset(seed=self._episode_seed(e))
        self._look(e, observations, infos)

    def _episode_seed(self, e: int) -> int:
        return int(np.random.SeedSequence([self._seed, e, int(self._episode[e])]).generate_state(1)[0] >> 1)

    def _step_world(self, e: int, chosen: list[int]) -> None:
        env = self._envs[e]
        self._actions[e].append(chosen)
        live = set(env.agents)
        moves = {name: action for name, action in zip(self.agent_names, chosen, strict=True) if name in live}
        observations, rewards, _, truncations, infos = env.step(moves)
        self._look(e, observations, infos)
        self._judge(e, live, rewards, truncations)
        if not env.agents:
            self.episodes.append(
                {
                    "world": e,
                    "seed": self._episode_seed(e),
                    "return": self._return[e].tolist(),
                    "length": len(self._actions[e]),
                }
            )
            self._begin(e, int(self._episode[e]) + 1)

    def _judge(self, e: int, live: set[str], rewards: dict[str, float], truncations: dict[str, bool]) -> None:
        """Fills reward, terminated and truncated of world e after its step."""
        remaining, k = self._envs[e].agents, self._per_team
        for f in range(self.n_teams):
            members = [name for name in self.agent_names[f * k : (f + 1) * k] if name in live]
            self.reward[e, f] = sum(rewards[name] for name in members) / k
            ended = bool(members) and not any(name in remaining for name in members)
            self.truncated[e, f] = ended and any(truncations[name] for name in members)
            self.terminated[e, f] = ended and not self.truncated[e, f]
            if ended:
                self.final_observation[e], self.final_state[e] = self.observation[e], self.state[e]
        self._return[e] += self.reward[e]

    def _look(self, e: int, observations: dict[str, Any], infos: dict[str, dict[str, Any]]) -> None:
        """Fills observation, state, bounds and active of world e."""
        env, rows, alive = self._envs[e], self.observation[e], self._envs[e].agents
        for i, name in enumerate(self.agent_names):
            seen: Any = observations.get(name)
            info = infos.get(name, {})
            mask = info.get("action_mask")
            self.active[e, i] = name in alive and bool(info.get("active", True))
            if isinstance(seen, dict) and "action_mask" in seen:
                mask = seen["action_mask"]
                seen = seen["observation"] if len(seen) == 2 else {k: v for k, v in seen.items() if k != "action_mask"}
            if seen is None:
                rows[i] = 0
            else:
                flat: Any = seen if self._plain else gymnasium.spaces.flatten(self._spaces[i], seen)
                flat = np.ravel(flat)
                rows[i, : flat.size] = flat
                if self._agent_id:
                    rows[i, self._width + i] = 1
            if mask is None:
                self.bounds[e, i] = self._legal[i]
            else:
                self.bounds[e, i, : len(mask)] = mask
        if self._state_source == "env":
            self.state[e, :, : self._inner_state] = np.asarray(env.state()).ravel()
        elif self._state_source == "concat":
            self.state[e, :, : self._inner_state] = rows[:, : self._width].ravel()


def _observation_space(env: ParallelEnv, name: str) -> tuple[gymnasium.Space, int]:
    """Returns the space without its action mask, and its flattened size."""
    space = env.observation_space(name)
    if isinstance(space, gymnasium.spaces.Dict) and "action_mask" in space.spaces:
        rest = {key: value for key, value in space.spaces.items() if key != "action_mask"}
        space = rest["observation"] if set(rest) == {"observation"} else gymnasium.spaces.Dict(rest)
    return space, gymnasium.spaces.flatdim(space)


def _discrete_size(env: ParallelEnv, name: str) -> int:
    space = env.action_space(name)
    if not isinstance(space, gymnasium.spaces.Discrete) or space.start != 0:
        raise ValueError(f"Agent {name!r} of {env} has actions {space}; only Discrete spaces from 0 are supported.")
    return int(space.n)


def _state_source(env: ParallelEnv) -> Literal["env", "concat"]:
    try:
        env.state()
    except (NotImplementedError, AttributeError):
        return "concat"
    return "env"
