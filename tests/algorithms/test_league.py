"""Frozen teams: the learner sees its own teams only, and nothing of what others do is lost or added."""

import numpy as np
import pytest

import scml_marl_env
from algorithms.league import FrozenTeams, frozen_teams
from algorithms.policy import Policy


def worlds(engine="fast", n=3, **options):
    options = {"days": 4, "opponents": "prudent", "controlled": 3, **options}
    return scml_marl_env.make_vector("std-mini", n, seed=5, engine=engine, **options)


def uniform(env):
    return Policy.uniform(env.observation.shape[-1], env.action_grid)


@pytest.mark.parametrize("engine", ["fast", "scml"])
def test_rewards_and_episodes_are_those_of_the_learners_teams(engine):
    env = worlds(engine)
    policy = uniform(env)
    league = frozen_teams(env, [policy], seed=1)
    assert (league.n_teams, league.n_agents) == (2, 2 * env.n_agents // 3)
    league.reset(5)
    league.episodes.clear()
    rng, total, ended = np.random.default_rng(0), np.zeros((3, 2)), 0
    for _ in range(120):
        assert league.active.any(1).all(), "the learner decides in every world"
        league.step(policy.act_all(league, rng))
        total += league.reward
        for episode in league.episodes:
            e = episode["world"]
            assert len(episode["return"]) == 2
            assert total[e] == pytest.approx(episode["return"], abs=1e-5)
            assert (league.terminated[e] | league.truncated[e]).any()
            total[e] = 0
            ended += 1
        league.episodes.clear()
    assert ended >= 3


def test_it_is_what_playing_all_teams_by_hand_gives():
    policy = uniform(worlds())
    league = FrozenTeams(worlds(n=1), [policy, None, policy], seed=3)
    env = worlds(n=1)
    league.reset(8)
    env.reset(8)
    frozen, learner, other = np.random.default_rng(3), np.random.default_rng(9), np.random.default_rng(9)
    k, gained = env.n_agents // 3, 0.0
    decided = 0
    while decided < 25:
        if env.active[0, k : 2 * k].any():
            assert (env.observation[:, k : 2 * k] == league.observation).all()
            assert (env.bounds[:, k : 2 * k] == league.bounds).all()
            assert league.reward[0, 0] == pytest.approx(gained, abs=1e-6) or decided == 0
            league.step(policy.act_all(league, learner))
            env.step(policy.act_all(env, other))
            gained = env.reward[0, 1]
            decided += 1
        else:
            env.step(policy.act_all(env, frozen))
            gained += env.reward[0, 1]
        if env.episodes:
            break
    assert decided > 5


def test_teams_and_policies_must_fit():
    env = worlds(n=1)
    for policies in ([None], [uniform(env)] * 3):
        with pytest.raises(ValueError, match="3 teams"):
            FrozenTeams(env, policies)


def test_some_worlds_rest_while_others_are_stepped():
    env = worlds()
    env.reset(1)
    rng, policy = np.random.default_rng(0), uniform(env)
    before = [env.observation[1].copy(), env.active[1].copy()]
    for _ in range(5):
        env.step(policy.act_all(env, rng), np.array([True, False, True]))
        assert not env.reward[1].any() and not env.elapsed[1].any() and not env.terminated[1].any()
        assert (env.observation[1] == before[0]).all() and (env.active[1] == before[1]).all()
