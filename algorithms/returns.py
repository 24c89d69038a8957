"""Generalised advantage estimation over decisions that may be days apart."""

from typing import NamedTuple

import numpy as np
from numba import njit


class Trajectory(NamedTuple):
    """T steps of E worlds. F teams own the rewards, N agents own the decisions; agent n is of team n // (N / F).

    Attributes:
        reward: float32 (T, E, F).
        elapsed: float32 (T, E, F), time that passes during the step, >= 0.
        terminated: bool (T, E, F), the future is worth nothing.
        truncated: bool (T, E, F), we stopped looking; never together with terminated.
        active: bool (T, E, N), the agent decides at this step.
        value: float32 (T, E, N), V when the agent decides; read only where active.
        final_value: float32 (T, E, N), V of the last view of an episode; read only where truncated.
        last_value: float32 (E, N), V after the last step, of agents that decide then and of those that do not.
    """

    reward: np.ndarray
    elapsed: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    active: np.ndarray
    value: np.ndarray
    final_value: np.ndarray
    last_value: np.ndarray


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
        float32 (T, E, N), 0 where the agent is not active. Add `value` to get the critic's target.
    """
    n_steps, n_worlds, n_agents = trajectory.active.shape
    per_team = n_agents // trajectory.reward.shape[2]
    advantage = np.zeros((n_steps, n_worlds, n_agents), np.float32)
    for e in range(n_worlds):
        for n in range(n_agents):
            f = n // per_team
            ahead = float(trajectory.last_value[e, n])  # rewards up to, and V at, the next decision, as of step t + 1
            carried = 0.0  # advantage of the next decision, as of step t + 1
            for t in range(n_steps - 1, -1, -1):
                if trajectory.terminated[t, e, f]:
                    ahead, carried = 0.0, 0.0
                elif trajectory.truncated[t, e, f]:
                    ahead, carried = float(trajectory.final_value[t, e, n]), 0.0
                discount = gamma ** float(trajectory.elapsed[t, e, f])
                ahead = float(trajectory.reward[t, e, f]) + discount * ahead
                carried *= discount
                if trajectory.active[t, e, n]:
                    value = float(trajectory.value[t, e, n])
                    carried = ahead - value + lam * carried
                    ahead = value
                    advantage[t, e, n] = carried
    return advantage
