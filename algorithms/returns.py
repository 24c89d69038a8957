"""Generalised advantage estimation over decisions that may be days apart."""

from typing import NamedTuple

import numpy as np
from numba import njit

EVERY_TEAM = np.zeros((0, 0), np.int64)
"""`Trajectory.team` where all teams are shown in every step"""


class Trajectory(NamedTuple):
    """T steps of E worlds. F teams of K agents own the rewards, N = F*K agents the decisions; n is of team n // K.

    Where one team is shown at a time, the rows of a step are its K agents, and `team` says whose they are.

    Attributes:
        reward: float32 (T, E, F).
        elapsed: float32 (T, E, F), time that passes during the step, >= 0.
        terminated: bool (T, E, F), the future is worth nothing.
        truncated: bool (T, E, F), we stopped looking; never together with terminated.
        active: bool (T, E, N) or (T, E, K), the agent decides at this step.
        value: float32, as active: V when the agent decides; read only where active.
        final_value: float32 (T, E, N), V of the last view of an episode; read only where truncated.
        last_value: float32 (E, N), V after the last step, of agents that decide then and of those that do not.
        team: int64 (T, E), whose rows those of a step are; (0, 0) where they are those of all agents.
    """

    reward: np.ndarray
    elapsed: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    active: np.ndarray
    value: np.ndarray
    final_value: np.ndarray
    last_value: np.ndarray
    team: np.ndarray = EVERY_TEAM


@njit(cache=True)
def gae(trajectory: Trajectory, gamma: float, lam: float) -> np.ndarray:
    """Generalised advantage estimation (Schulman et al., 2016, eq. 16) over the decisions of each agent.

    Let t be a decision of an agent and t' its next one. Everything between is one transition, of the length that
    passes (a semi-Markov step, Sutton, Precup and Singh, 1999, with elapsed times d_i that may be 0):

        D(a, b)  = gamma ** (d_a + ... + d_{b-1})
        delta_t  = sum_{i=t}^{t'-1} D(t, i) r_i + D(t, t') V(s_t') - V(s_t)
        A_t      = delta_t + lambda D(t, t') A_t'

    so rewards that arrive while the agent has nothing to decide count, discounted by the time that really passed, and
    lambda counts decisions. If the team terminates at step c, t <= c < t', the sum ends at c and nothing follows; if
    it is truncated at c, the sum ends at c and D(t, c+1) V(final view) follows; if the rollout ends first, the sum
    ends with it and the discounted last_value follows. In each of the three the A_t' term is 0.

    Returns:
        float32, as active: 0 where the agent is not active. Add `value` to get the critic's target.
    """
    n_steps, n_worlds, n_rows = trajectory.active.shape
    n_agents, n_teams = trajectory.last_value.shape[1], trajectory.reward.shape[2]
    per_team = n_agents // n_teams
    advantage = np.zeros((n_steps, n_worlds, n_rows), np.float32)
    ahead = trajectory.last_value.astype(np.float64)  # rewards up to, and V at, the next decision, as of step t + 1
    carried = np.zeros((n_worlds, n_agents))  # advantage of the next decision, as of step t + 1
    for t in range(n_steps - 1, -1, -1):
        for e in range(n_worlds):
            eventful = False  # most steps of a world are inside a day
            for f in range(n_teams):
                happens = (trajectory.reward[t, e, f] != 0) | (trajectory.elapsed[t, e, f] != 0)
                eventful |= happens | trajectory.terminated[t, e, f] | trajectory.truncated[t, e, f]
            for f in range(n_teams if eventful else 0):
                reward, elapsed = float(trajectory.reward[t, e, f]), float(trajectory.elapsed[t, e, f])
                discount = 1.0 if elapsed == 0 else gamma**elapsed
                terminated, truncated = trajectory.terminated[t, e, f], trajectory.truncated[t, e, f]
                if reward == 0 and elapsed == 0 and not terminated and not truncated:
                    continue
                for n in range(f * per_team, (f + 1) * per_team):
                    if terminated:
                        ahead[e, n], carried[e, n] = 0.0, 0.0
                    elif truncated:
                        ahead[e, n], carried[e, n] = float(trajectory.final_value[t, e, n]), 0.0
                    ahead[e, n] = reward + discount * ahead[e, n]
                    carried[e, n] *= discount
            first = trajectory.team[t, e] * per_team if n_rows < n_agents else 0
            for row in range(n_rows):
                if trajectory.active[t, e, row]:
                    n, value = first + row, float(trajectory.value[t, e, row])
                    carried[e, n] = ahead[e, n] - value + lam * carried[e, n]
                    ahead[e, n] = value
                    advantage[t, e, row] = carried[e, n]
    return advantage


@njit(cache=True)
def unit_targets(advantage: np.ndarray, value: np.ndarray, active: np.ndarray, per_unit: int) -> np.ndarray:
    """Returns what the critic should have said of each unit: the mean of advantage + value over its active agents.

    Args:
        advantage, value: float32 (T, E, N).
        active: bool (T, E, N).
        per_unit: agents that share one value, K.

    Returns:
        float32 (T, E, N / K), 0 where no agent of the unit is active.
    """
    n_steps, n_worlds, n_agents = active.shape
    target = np.zeros((n_steps, n_worlds, n_agents // per_unit), np.float32)
    for t in range(n_steps):
        for e in range(n_worlds):
            for u in range(n_agents // per_unit):
                total, count = 0.0, 0
                for n in range(u * per_unit, (u + 1) * per_unit):
                    if active[t, e, n]:
                        total += np.float64(advantage[t, e, n]) + np.float64(value[t, e, n])
                        count += 1
                if count:
                    target[t, e, u] = total / count
    return target
