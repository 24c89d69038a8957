"""The rollout: T steps of E worlds, allocated once, written row by row, read as flat rows of decisions."""

import numpy as np

from algorithms.interface import Refreshable, VectorEnv, shows_one_team
from algorithms.returns import EVERY_TEAM, Trajectory


class RolloutBuffer:
    """What happened in T steps, and what was seen, in the units in which the environment gives it.

    Four verbs, in this order for each step: `observe` what is seen, `choose` what is done, `receive` what comes of it;
    and `finish` once at the end. The compact bounds are stored, never a mask. Rewards belong to teams (factories), so
    they are stored once per team. Rows of agents that are not active hold whatever the environment shows; no loss
    ever reads them.

    Attributes (T steps, E worlds, N agents, F teams):
        observation: float32 (T, E, N, D).  state: float32 (T, E, F, S).  bounds: int32 (T, E, N, M).
        team: int64 (T, E), where one team is shown at a time (`interface.Windowed`), else empty: (0, 0). Then N is the
            agents of a team, and state is (T, E, 1, S).
        active: bool (T, E, N), the agent decided at this step.
        action, executed: int64 (T, E, N), chosen by the policy, and carried out by the environment.
        log_prob: float32 (T, E, N), of the chosen action when it was chosen; 0 where inactive.
        reward, elapsed: float32 (T, E, F).  terminated, truncated: bool (T, E, F), never both.
        last_observation (E, F*K, D), last_state (E, F, S): what the K agents of each team see after the last step.
        cuts: the last view of each world in which a team was truncated: (step, world, (N, D), (F, S)).
    """

    def __init__(self, n_steps: int, env: VectorEnv) -> None:
        """Allocates T = `n_steps` steps in the shapes of `env`."""
        t, e, n, f = n_steps, env.n_worlds, env.n_agents, env.n_teams
        self.n_steps, self.n_worlds, self.n_agents, self.n_teams = t, e, n, f
        self.observation = np.zeros((t, *env.observation.shape), np.float32)
        self.state = np.zeros((t, *env.state.shape), np.float32)
        self.bounds = np.zeros((t, *env.bounds.shape), np.int32)
        self.active = np.zeros((t, e, n), bool)
        self.action, self.executed = np.zeros((t, e, n), np.int64), np.zeros((t, e, n), np.int64)
        self.log_prob = np.zeros((t, e, n), np.float32)
        self.reward, self.elapsed = np.zeros((t, e, f), np.float32), np.zeros((t, e, f), np.float32)
        self.terminated, self.truncated = np.zeros((t, e, f), bool), np.zeros((t, e, f), bool)
        self.one_team = shows_one_team(env)
        self.team = np.zeros((t, e), np.int64) if self.one_team else EVERY_TEAM
        k = n if self.one_team else n // f
        self.last_observation = np.zeros((e, f * k, env.observation.shape[-1]), np.float32)
        self.last_state = np.zeros((e, f, env.state.shape[-1]), np.float32)
        self.cuts: list[tuple[int, int, np.ndarray, np.ndarray]] = []
        self._t = 0

    def observe(self, env: VectorEnv) -> None:
        """Opens the next step with what is seen before acting; after a full rollout, the first step of a new one."""
        if self._t == self.n_steps:
            self._t = 0
            self.cuts.clear()
        t = self._t
        self.observation[t], self.state[t], self.bounds[t] = env.observation, env.state, env.bounds
        self.active[t] = env.active
        if self.one_team:
            self.team[t] = env.team  # type: ignore[attr-defined]  # see `Windowed`

    def choose(self, action: np.ndarray, log_prob: np.ndarray) -> None:
        """Stores int64 and float32 (E, N); rows of inactive agents are 0."""
        self.action[self._t], self.log_prob[self._t] = action, log_prob

    def receive(self, env: VectorEnv) -> None:
        """Closes the step with its result."""
        t = self._t
        self.executed[t], self.reward[t], self.elapsed[t] = env.executed, env.reward, env.elapsed
        self.terminated[t] = env.terminated
        np.logical_and(env.truncated, ~env.terminated, out=self.truncated[t])
        for e in np.flatnonzero(self.truncated[t].any(1)):
            self.cuts.append((t, int(e), env.final_observation[e].copy(), env.final_state[e].copy()))
        self._t += 1

    def finish(self, env: VectorEnv) -> None:
        """Keeps what is seen after the last step, whose value closes trajectories that go on."""
        if self._t != self.n_steps:
            raise RuntimeError(f"finish() after {self._t} of {self.n_steps} steps; fill the buffer first.")
        if self.one_team:
            self.last_observation[:], self.last_state[:] = env.everyone()  # type: ignore[attr-defined]  # likewise
            return
        if isinstance(env, Refreshable):
            env.refresh()
        self.last_observation[:], self.last_state[:] = env.observation, env.state

    def trajectory(self, value: np.ndarray, final_value: np.ndarray, last_value: np.ndarray) -> Trajectory:
        """Returns the rollout as `algorithms.returns.gae` reads it.

        Args:
            value: float32 (T, E, N), V at each decision; rows of inactive agents are not read.
            final_value: float32 (T, E, all agents), V of the last view where the team was truncated.
            last_value: float32 (E, all agents), V of what is seen after the last step.
        """
        everyone = self.last_observation.shape[:2]
        for name, array, shape in (
            ("value", value, self.active.shape),
            ("final_value", final_value, (self.n_steps, *everyone)),
            ("last_value", last_value, everyone),
        ):
            if array.shape != shape:  # the compiled kernel would read past the end without a word
                raise ValueError(f"{name} has shape {array.shape}; each agent needs a value of its own: {shape}.")
        return Trajectory(
            self.reward,
            self.elapsed,
            self.terminated,
            self.truncated,
            self.active,
            value,
            final_value,
            last_value,
            self.team,
        )
