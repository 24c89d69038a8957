"""Generalised advantage estimation against its definition and numbers worked out by hand."""

import numpy as np
import pytest

from algorithms.returns import Trajectory, gae
from tests.algorithms import naive


def one_agent(reward, active, elapsed=None, terminated=(), truncated=(), value=None, final=None, last=0.0):
    """A trajectory of one agent in one world; `terminated` and `truncated` are steps."""
    t = len(reward)
    column = lambda x, kind: np.array(x, kind).reshape(t, 1, 1)  # noqa: E731
    return Trajectory(
        column(reward, np.float32),
        column(elapsed or [1] * t, np.float32),
        column([i in terminated for i in range(t)], bool),
        column([i in truncated for i in range(t)], bool),
        column(active, bool),
        column(value or [0] * t, np.float32),
        column(final or [0] * t, np.float32),
        np.full((1, 1), last, np.float32),
    )


def test_without_gaps_it_is_the_textbook_recursion_by_hand():
    # gamma 1/2, lambda 1/2; delta = 1 + 4/2 - 2 = 1, 2 + 6/2 - 4 = 1, 3 + 8/2 - 6 = 1; A = 1 + 1/4 (1 + 1/4), ...
    trajectory = one_agent([1, 2, 3], [1, 1, 1], value=[2, 4, 6], last=8)
    assert gae(trajectory, 0.5, 0.5).ravel().tolist() == [1.3125, 1.25, 1.0]


def test_a_reward_in_the_gap_belongs_to_the_decision_before_it_discounted_by_the_time_that_passed():
    # decides at step 0 and 3; one day passes in step 0 and in step 2, none in step 1: D = 1/2 from step 1 on, 1/4 at 3.
    trajectory = one_agent([0, 8, 0, 0], [1, 0, 0, 1], elapsed=[1, 0, 1, 1], value=[1, 99, 99, 4])
    # delta_0 = 8/2 + 4/4 - 1 = 4; delta_3 = -4; A_0 = 4 + 1/4 * lambda * (-4)
    assert gae(trajectory, 0.5, 0.5).ravel().tolist() == [3.5, 0.0, 0.0, -4.0]


def test_termination_in_the_gap_ends_the_sum_and_truncation_adds_the_final_value():
    reward, active = [1, 2, 100, 100], [1, 0, 0, 1]
    ended = gae(one_agent(reward, active, terminated=[1], final=[7] * 4), 0.5, 0.9)
    stopped = gae(one_agent(reward, active, truncated=[1], final=[0, 8, 0, 0]), 0.5, 0.9)
    assert ended.ravel().tolist() == [2.0, 0, 0, 100.0]  # 1 + 2/2
    assert stopped.ravel().tolist() == [4.0, 0, 0, 100.0]  # 1 + 2/2 + 8/4


def test_an_agent_that_is_idle_at_the_end_is_closed_with_the_value_of_what_it_sees_then():
    assert gae(one_agent([1, 1], [1, 0], last=8), 0.5, 0.9).ravel().tolist() == [3.5, 0.0]  # 1 + 1/2 + 8/4


def test_windows_within_one_day_are_not_discounted():
    trajectory = one_agent([0, 0, 5], [1, 1, 1], elapsed=[0, 0, 1])
    assert gae(trajectory, 0.5, 1.0).ravel().tolist() == [5.0, 5.0, 5.0]


@pytest.mark.parametrize("seed", range(40))
def test_gae_equals_its_definition(seed):
    rng = np.random.default_rng(seed)
    n_steps, n_worlds, n_teams, per_team = 30, 3, 2, 3
    teams, agents = (n_steps, n_worlds, n_teams), (n_steps, n_worlds, n_teams * per_team)
    terminated = rng.random(teams) < 0.1
    trajectory = Trajectory(
        rng.normal(size=teams).astype(np.float32),
        rng.choice([0.0, 0.0, 1.0, 2.5], size=teams).astype(np.float32),
        terminated,
        (rng.random(teams) < 0.1) & ~terminated,
        rng.random(agents) < rng.choice([0.1, 0.5, 1.0]),
        rng.normal(size=agents).astype(np.float32),
        rng.normal(size=agents).astype(np.float32),
        rng.normal(size=agents[1:]).astype(np.float32),
    )
    gamma, lam = rng.uniform(0.5, 1.0), rng.uniform(0.0, 1.0)
    advantage, compared = gae(trajectory, gamma, lam), 0
    assert advantage.dtype == np.float32 and advantage.shape == agents
    for e in range(n_worlds):
        for n in range(agents[2]):
            f = n // per_team
            team = [array[:, e, f] for array in trajectory[:4]]
            own = [array[:, e, n] for array in trajectory[4:7]]
            expected = naive.gae_of_one_agent(*team, *own, trajectory.last_value[e, n], gamma, lam)
            compared += len(expected)
            got = {t: advantage[t, e, n] for t in range(n_steps) if trajectory.active[t, e, n]}
            assert got == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert compared == trajectory.active.sum() > 0
    assert (advantage[~trajectory.active] == 0).all()
