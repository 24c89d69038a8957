"""The buffer keeps what the environment showed, and nothing of an earlier rollout."""

import numpy as np
import pytest

from algorithms.buffer import RolloutBuffer
from algorithms.vector import ParallelVectorEnv
from tests.algorithms import probes
from tests.algorithms.worlds import GridWorld


def fill(buffer, env, rng):
    shown = []
    for _ in range(buffer.n_steps):
        buffer.observe(env)
        before = [getattr(env, name).copy() for name in ("observation", "state", "bounds", "active")]
        action = np.where(env.active, rng.integers(0, 2, env.active.shape), 0)
        buffer.choose(action, -action.astype(np.float32))
        env.step(action)
        buffer.receive(env)
        after = [getattr(env, name).copy() for name in ("executed", "reward", "elapsed", "terminated")]
        shown.append([*before, action, *after])
    buffer.finish(env)
    return [np.stack(column) for column in zip(*shown, strict=True)]


def test_every_step_is_kept_as_it_was_shown_in_every_rollout():
    env, rng = GridWorld(n_worlds=3), np.random.default_rng(0)
    env.pay = lambda: env.reward.__setitem__(..., rng.normal(size=env.reward.shape))
    buffer = RolloutBuffer(10, env)
    for _ in range(2):
        shown = fill(buffer, env, rng)
        kept = (buffer.observation, buffer.state, buffer.bounds, buffer.active, buffer.action, buffer.executed)
        kept += (buffer.reward, buffer.elapsed, buffer.terminated)
        assert all((a == b).all() for a, b in zip(kept, shown, strict=True))
        assert (buffer.log_prob == -buffer.action).all()
        assert (buffer.last_observation == env.observation).all() and (buffer.last_state == env.state).all()


def test_last_views_are_kept_of_truncated_episodes_of_this_rollout_only():
    env = ParallelVectorEnv(probes.constructors(probes.EndlessReward, 2))
    buffer, rng = RolloutBuffer(7, env), np.random.default_rng(0)
    fill(buffer, env, rng)
    assert [cut[:2] for cut in buffer.cuts] == [(4, 0), (4, 1)]
    fill(buffer, env, rng)  # steps 8 to 14; episodes end after 10
    assert [cut[:2] for cut in buffer.cuts] == [(2, 0), (2, 1)]


def test_a_team_that_terminates_is_not_also_truncated():
    env = ParallelVectorEnv(probes.constructors(probes.ConstantReward, 2))
    buffer = RolloutBuffer(1, env)
    buffer.observe(env)
    env.step(np.zeros((2, 1), np.int64))
    env.truncated[:] = True
    buffer.receive(env)
    assert buffer.terminated.all() and not buffer.truncated.any() and not buffer.cuts


def test_misuse_is_told():
    env = GridWorld(n_worlds=3)
    buffer = RolloutBuffer(4, env)
    with pytest.raises(RuntimeError, match="0 of 4 steps"):
        buffer.finish(env)
    agents = np.zeros((4, 3, 3), np.float32)
    with pytest.raises(ValueError, match="last_value has shape"):
        buffer.trajectory(agents, agents, np.zeros((3, 1), np.float32))
