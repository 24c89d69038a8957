"""The adapter shows a ParallelEnv's episodes faithfully as arrays."""

import numpy as np
import pytest
from gymnasium import spaces

from algorithms.vector import FlatGrid, ParallelVectorEnv, parallel_env
from tests.algorithms import probes

spread_v3 = pytest.importorskip("mpe2.simple_spread_v3")


def spread(n_worlds=2, **options):
    return ParallelVectorEnv([lambda: spread_v3.parallel_env(max_cycles=7)] * n_worlds, seed=3, **options)


def test_arrays_equal_the_dicts_of_the_env_over_whole_episodes():
    env, rng, compared = spread(), np.random.default_rng(0), 0
    twin = spread_v3.parallel_env(max_cycles=7)
    for _ in range(3):
        observations, _ = twin.reset(seed=env._episode_seed(1))
        total = np.zeros(3)
        for t in range(7):
            assert (env.observation[1] == np.stack([observations[a] for a in twin.possible_agents])).all()
            assert (env.state[1, :, :-3] == twin.state()).all()
            assert (env.state[1, :, -3:] == np.eye(3)).all()
            assert env.active[1].all() and (env.bounds[1] == 1).all()
            actions = rng.integers(0, 5, (2, 3))
            env.step(actions)
            observations, rewards, _, truncations, _ = twin.step(
                dict(zip(twin.possible_agents, actions[1].tolist(), strict=True))
            )
            total += list(rewards.values())
            assert env.reward[1].tolist() == np.array(list(rewards.values()), np.float32).tolist()
            assert env.truncated[1].tolist() == list(truncations.values()) == [t == 6] * 3
            assert not env.terminated.any() and (env.elapsed == 1).all() and (env.executed == actions).all()
            compared += 1
        assert (env.final_observation[1] == np.stack([observations[a] for a in twin.possible_agents])).all()
        assert (env.final_state[1, :, :-3] == twin.state()).all()
        episode = [e for e in env.episodes if e["world"] == 1][-1]
        assert episode["return"] == pytest.approx(total.tolist(), rel=1e-6) and episode["length"] == 7
    assert compared == 21


def test_the_arrays_are_the_same_objects_for_the_life_of_the_env():
    env = spread()
    names = ("observation", "state", "bounds", "active", "reward", "elapsed", "terminated", "truncated", "executed")
    before = {name: id(getattr(env, name)) for name in names}
    for _ in range(9):
        env.step(np.zeros((2, 3), np.int64))
    env.reset(1)
    assert {name: id(getattr(env, name)) for name in names} == before


def test_seeds_fix_every_episode_and_differ_between_worlds_and_episodes():
    first, second, other = spread(), spread(), ParallelVectorEnv([lambda: spread_v3.parallel_env(max_cycles=7)] * 2, 4)
    starts = []
    for t in range(15):
        assert (first.observation == second.observation).all()
        if t % 7 == 0:
            starts += [first.observation[0].copy(), first.observation[1].copy(), other.observation[0].copy()]
        for env in (first, second, other):
            env.step(np.full((2, 3), t % 5))
    assert len({start.tobytes() for start in starts}) == len(starts) == 9


def test_state_dict_puts_every_array_back_in_the_middle_of_an_episode():
    env, rng = spread(), np.random.default_rng(0)
    for _ in range(10):
        env.step(rng.integers(0, 5, (2, 3)))
    state, other = env.state_dict(), spread()
    other.load_state_dict(state)
    assert len(state["actions"][0]) == 3 and state["episode"].tolist() == [1, 1]
    for _ in range(12):
        for name in ("observation", "state", "bounds", "active"):
            assert (getattr(env, name) == getattr(other, name)).all()
        actions = rng.integers(0, 5, (2, 3))
        env.step(actions)
        other.step(actions)
    assert env.episodes[-1] == other.episodes[-1]


def test_an_agent_that_leaves_is_inactive_and_its_team_done_until_the_world_restarts():
    env = ParallelVectorEnv(probes.constructors(probes.LeavesEarly, 1))
    env.step(np.ones((1, 2), np.int64))
    assert env.active.tolist() == [[True, False]] and env.terminated.tolist() == [[False, True]]
    env.step(np.ones((1, 2), np.int64))
    assert env.executed.tolist() == [[1, 0]] and env.reward.tolist() == [[1.0, 0.0]]
    assert not env.terminated.any()
    env.step(np.ones((1, 2), np.int64))
    assert env.terminated.tolist() == [[True, False]] and env.active.all()
    assert env.episodes[0]["return"] == [3.0, 1.0]


def test_one_team_of_all_shares_the_mean_reward_and_lives_as_long_as_any_of_them():
    env = ParallelVectorEnv(probes.constructors(probes.LeavesEarly, 1), teams="all")
    found = []
    for _ in range(3):
        env.step(np.zeros((1, 2), np.int64))
        found.append((env.reward[0, 0].item(), env.terminated[0, 0].item()))
    assert found == [(1.0, False), (0.5, False), (0.5, True)]


class Uneven(probes.Probe):
    """Two agents with spaces of different sizes; the second says that it has nothing to decide."""

    n_agents = 2

    def __init__(self):
        super().__init__()
        self._observation["agent_1"] = spaces.Dict({"a": spaces.Box(0, 1, (2,)), "b": spaces.Discrete(2)})
        self._action["agent_1"] = spaces.Discrete(4)

    def _views(self):
        return {"agent_0": np.full(1, 0.5, np.float32), "agent_1": {"a": np.array([0.1, 0.2], np.float32), "b": 1}}

    def step(self, actions):
        result = super().step(actions)
        result[4]["agent_1"]["active"] = False
        return result


def test_uneven_spaces_are_padded_masked_and_told_apart():
    env = ParallelVectorEnv([lambda: Uneven()])
    assert env.observation[0, 0].tolist() == [0.5, 0, 0, 0, 1, 0]
    assert env.observation[0, 1] == pytest.approx([0.1, 0.2, 0, 1, 0, 1])
    assert env.action_grid.mask(env.bounds).tolist() == [[[True, True, False, False], [True] * 4]]
    assert len(env.observation_names) == 6


def test_an_agent_may_say_that_it_is_idle():
    Uneven.length = 2
    env = ParallelVectorEnv([lambda: Uneven()])
    env.step(np.zeros((1, 2), np.int64))
    assert env.active.tolist() == [[True, False]]


def test_state_is_all_observations_where_the_env_has_none():
    env = ParallelVectorEnv(probes.constructors(probes.TeamMustDiffer, 1))
    assert env.state.tolist() == [[[-1, 1, 1, 0], [-1, 1, 0, 1]]]


def test_continuous_actions_are_refused():
    with pytest.raises(ValueError, match="only Discrete"):
        ParallelVectorEnv([lambda: spread_v3.parallel_env(continuous_actions=True)])


def test_environments_are_found_by_name():
    assert parallel_env("mpe2:simple_spread_v3") is spread_v3.parallel_env
    assert parallel_env("tests.algorithms.probes:RightAction") is probes.RightAction
    with pytest.raises(ValueError, match="package:module"):
        parallel_env("mpe2")


def test_flat_grid_reads_masks_of_both_libraries():
    import torch

    bounds = np.array([[1, 0, 1]], np.int32)
    assert FlatGrid(3).mask(bounds).tolist() == FlatGrid(3).mask(torch.from_numpy(bounds), xp=torch).tolist()
