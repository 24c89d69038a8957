"""Learning against frozen policies: an environment whose other teams are played by checkpoints, many at once."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from algorithms.interface import VectorEnv
from algorithms.policy import Policy


class FrozenTeams:
    """A vector environment in which some teams are played by frozen policies; the learner sees only the others.

    A step of the learner goes on until it has to decide again in every world: whenever a frozen team's window comes
    first, in however many worlds, one inference for each policy answers all of them. Rewards and elapsed times of the
    steps between add up; what comes before the learner's first decision of an episode follows from none, and is left
    out. The environment must be able to step some of its worlds, `step(actions, worlds)`.

    Attributes: as of `algorithms.interface.VectorEnv`, with the learner's F teams and N agents only.
    """

    observation: np.ndarray
    state: np.ndarray
    bounds: np.ndarray
    active: np.ndarray
    reward: np.ndarray
    elapsed: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    executed: np.ndarray
    final_observation: np.ndarray
    final_state: np.ndarray
    final_active: np.ndarray

    def __init__(self, env: Any, policies: Sequence[Policy | None], seed: int = 0) -> None:
        """Takes over an environment.

        Args:
            env: with as many teams as there are policies.
            policies: of each team; None for the learner's.
            seed: of the frozen policies' draws.

        Raises:
            ValueError: if the numbers do not fit, or no team is the learner's.
        """
        if len(policies) != env.n_teams or None not in policies:
            raise ValueError(
                f"The environment has {env.n_teams} teams: name a policy for each, None for the learner's (one at "
                f"least), got {len(policies)} with {sum(policy is None for policy in policies)} None."
            )
        self._env, self._policies = env, list(policies)
        self._per_team = env.n_agents // env.n_teams
        self._teams = np.array([f for f, policy in enumerate(policies) if policy is None])
        self._agents = np.concatenate([np.arange(f * self._per_team, (f + 1) * self._per_team) for f in self._teams])
        self._rng = np.random.default_rng(seed)
        self.n_worlds, self.n_teams, self.n_agents = env.n_worlds, len(self._teams), len(self._agents)
        self.action_grid, self.observation_names, self.config = env.action_grid, env.observation_names, env.config
        self.agent_names = [env.agent_names[n] for n in self._agents]
        for name in ("observation", "bounds", "active", "executed", "final_observation", "final_active"):
            setattr(self, name, getattr(env, name)[:, self._agents].copy())
        for name in ("state", "reward", "elapsed", "terminated", "truncated", "final_state"):
            setattr(self, name, getattr(env, name)[:, self._teams].copy())
        self.episodes: list[dict[str, Any]] = []

    def reset(self, seed: int | None) -> None:
        """Starts every world anew and plays to the learner's first decisions."""
        self._env.reset(seed)
        self._clear()
        self._play_on()

    def step(self, actions: np.ndarray) -> None:
        """Carries out int (E, N) actions of the learner's agents and plays on to its next decisions."""
        everyone = np.zeros((self.n_worlds, self._env.n_agents), np.int64)
        everyone[:, self._agents] = actions
        self._clear()
        self._env.step(everyone)
        self._add(np.ones(self.n_worlds, bool))
        self.executed[:] = self._env.executed[:, self._agents]
        self._play_on()

    def refresh(self) -> None:
        """Brings every row up to date."""
        self._env.refresh()
        self._look()

    def close(self) -> None:
        """Closes the environment."""
        self._env.close()

    def _clear(self) -> None:
        for array in (self.reward, self.elapsed, self.terminated, self.truncated):
            array[:] = 0

    def _play_on(self) -> None:
        """Lets the frozen teams answer until the learner has to, in every world."""
        env = self._env
        while True:
            waits = ~env.active[:, self._agents].any(1)
            if not waits.any():
                break
            env.step(self._frozen_actions(waits), waits)
            self._add(waits)
        for episode in env.episodes:
            returns = np.asarray(episode["return"])
            self.episodes.append(episode | {"return": returns[self._teams[self._teams < len(returns)]].tolist()})
        env.episodes.clear()
        self._look()

    def _frozen_actions(self, worlds: np.ndarray) -> np.ndarray:
        """int64 (E, N), the answers of the frozen teams that have a window in these worlds."""
        env, k = self._env, self._per_team
        actions = np.zeros(env.active.shape, np.int64)
        for policy in {id(policy): policy for policy in self._policies if policy is not None}.values():
            mine = np.repeat([policy is other for other in self._policies], k)
            rows = env.active & mine & worlds[:, None]
            actions[rows] = policy.act(env.observation[rows], env.bounds[rows], self._rng)
        return actions

    def _add(self, worlds: np.ndarray) -> None:
        """Adds a step's results; what follows a team's end belongs to an episode that it does not see."""
        env = self._env
        going = worlds[:, None] & ~(self.terminated | self.truncated)
        self.reward += np.where(going, env.reward[:, self._teams], 0)
        self.elapsed += np.where(going, env.elapsed[:, self._teams], 0)
        ended = going & (env.terminated | env.truncated)[:, self._teams]
        self.terminated |= going & env.terminated[:, self._teams]
        self.truncated |= going & env.truncated[:, self._teams]
        if ended.any():
            agents = np.repeat(ended, self._per_team, axis=1)
            self.final_observation[agents] = env.final_observation[:, self._agents][agents]
            self.final_active[agents] = env.final_active[:, self._agents][agents]
            self.final_state[ended] = env.final_state[:, self._teams][ended]

    def _look(self) -> None:
        """What the learner sees now."""
        env = self._env
        for name in ("observation", "bounds", "active"):
            getattr(self, name)[:] = getattr(env, name)[:, self._agents]
        self.state[:] = env.state[:, self._teams]


def frozen_teams(env: VectorEnv, frozen: Sequence[Policy], seed: int) -> FrozenTeams:
    """The environment with its last teams played by `frozen`, and the first ones left to the learner."""
    return FrozenTeams(env, [None] * (env.n_teams - len(frozen)) + list(frozen), seed)
