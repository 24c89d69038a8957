"""Ids, options, spaces, features and infos are the same on both engines; the fast one passes the official tests."""

from dataclasses import fields

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from pettingzoo.test import api_test, parallel_api_test, parallel_seed_test, seed_test, state_test
from pettingzoo.utils.conversions import parallel_to_aec

import scml_marl_env
from scml_marl_env.config import EnvConfig
from scml_marl_env.registry import config_of
from tests.test_env_api import DICT_OBSERVATIONS, SEVERAL

EVERY = [(env_id, {}) for env_id in scml_marl_env.ids()] + SEVERAL
# Another value of every option that changes what an environment is.
OPTIONS = {
    "controlled": 2,
    "level": -1,
    "opponents": "nothing",
    "days": 7,
    "processes": 3,
    "factories_per_level": 3,
    "rounds": 5,
    "reward": "potential",
    "discount": 0.9,
    "shield": "covered",
    "useful": True,
    "observation": ("macro", "thread"),
    "history": 2,
    "slots": 5,
    "price_levels": 7,
    "inventory": "conserving",
    "privileged_state": True,
    "audit": True,
    "max_cycles": 9,
    "mask_in": "observation",
    "strict": True,
    "render_mode": "ansi",
}
ELSEWHERE = {"track", "year", "engine", "bank"}  # ids differ by the first two; the others have tests of their own


def both(env_id, **options):
    return [scml_marl_env.make(env_id, engine=engine, **options) for engine in ("scml", "fast")]


def test_every_option_is_gone_through():
    assert set(OPTIONS) | ELSEWHERE == {field.name for field in fields(EnvConfig)}


@pytest.mark.parametrize("env_id", scml_marl_env.ids())
def test_every_id_has_the_same_spaces_and_names(env_id):
    real, fast = both(env_id)
    assert real.possible_agents == fast.possible_agents
    assert real.observation_names == fast.observation_names and real.state_names == fast.state_names
    assert real.action_grid == fast.action_grid
    for agent in real.possible_agents:
        assert real.observation_space(agent) == fast.observation_space(agent)
        assert real.action_space(agent) == fast.action_space(agent)


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_gives_the_same_episode(name):
    """With opponents that draw nothing: every observation, mask, reward, end, info and state over a whole episode."""
    options = {"days": 4, "opponents": "prudent", name: OPTIONS[name]}
    real, fast = both("std-mini", **options)
    rng, steps = np.random.default_rng(0), 0
    seen = [env.reset(seed=6) for env in (real, fast)]
    while real.agents:
        assert real.agents == fast.agents
        (observations, infos), (others, other_infos) = seen
        for agent in real.agents:
            for key in ("observation", "action_mask"):
                assert (observations[agent][key] == others[agent][key]).all(), (steps, agent, key)
            assert infos[agent].keys() == other_infos[agent].keys()
            for key in infos[agent].keys() - {"action_mask"}:
                assert infos[agent][key] == other_infos[agent][key], key
        assert (real.state() == fast.state()).all()
        assert len(real.partners()) == len(fast.partners())
        actions = {
            agent: int(rng.choice(np.flatnonzero(observations[agent]["action_mask"]))) for agent in real.agents
        }  # fmt: skip
        steps += 1
        results = [env.step(actions) for env in (real, fast)]
        assert results[0][1:4] == results[1][1:4]
        seen = [(result[0], result[4]) for result in results]
    assert not fast.agents and steps >= 3
    assert real.statistics() == fast.statistics()
    if name == "render_mode":
        real.reset(seed=6)
        fast.reset(seed=6)
        assert [line[:8] for line in real.render().splitlines()] == [line[:8] for line in fast.render().splitlines()]


@pytest.mark.parametrize(("env_id", "options"), EVERY)
def test_parallel_api_on_the_fast_engine(env_id, options):
    parallel_api_test(scml_marl_env.make(env_id, engine="fast", **options), num_cycles=60)


@DICT_OBSERVATIONS
@pytest.mark.parametrize(("env_id", "options"), [("std-mini", {}), ("oneshot-mini", {}), *SEVERAL])
def test_the_other_official_tests_on_the_fast_engine(env_id, options):
    options = {"days": 5, "engine": "fast", **options}
    api_test(parallel_to_aec(scml_marl_env.make(env_id, **options)), num_cycles=60)
    parallel_seed_test(lambda: scml_marl_env.make(env_id, **options), num_cycles=30)
    seed_test(lambda: parallel_to_aec(scml_marl_env.make(env_id, **options)), num_cycles=30)
    env = scml_marl_env.make(env_id, **options)
    state_test(parallel_to_aec(env), env, num_cycles=30)


@pytest.mark.parametrize("env_id", ["std-mini", "oneshot-mini"])
def test_gymnasium_check_env_on_the_fast_engine(env_id):
    check_env(scml_marl_env.make_factory(env_id, engine="fast"), skip_render_check=True)


def test_with_a_bank_both_engines_play_the_same_world(tmp_path):
    from scml_marl_env.world.bank import build_bank

    build_bank(config_of("std-mini"), tmp_path / "bank", 3, processes=1, show_progress=False)
    real, fast = both("std-mini", bank=str(tmp_path / "bank"), opponents="nothing", controlled="all")
    for seed in range(4):
        for env in (real, fast):
            env.reset(seed=seed)
        assert (real.game.engine.view.initial_balance == fast.game.engine.view.initial_balance).all()
        assert (real.state() == fast.state()).all()
