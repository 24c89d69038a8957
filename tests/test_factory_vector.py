"""The Gymnasium VectorEnv of the factory view."""

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import scml_marl_env


def chosen(env, info, rng):
    masks = info.get("action_mask")
    masks = env.unwrapped.action_masks() if masks is None else masks
    return np.array([[rng.choice(np.flatnonzero(row)) for row in world] for world in masks])


@pytest.mark.parametrize("engine", ["fast", "scml"])
def test_it_plays_episodes_and_keeps_their_ends(engine):
    env = scml_marl_env.make_factory_vector("std-mini", 3, seed=2, engine=engine, days=5, opponents="prudent")
    assert env.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    observation, info = env.reset(seed=4)
    rng, ended, total = np.random.default_rng(0), 0, np.zeros(3)
    for _ in range(120):
        assert observation.shape == env.observation_space.shape and env.observation_space.contains(observation)
        actions = chosen(env, info, rng)
        assert env.action_space.contains(actions)
        observation, reward, terminated, truncated, info = env.step(actions)
        total += reward
        assert not truncated.any()
        for e in np.flatnonzero(terminated):
            assert info["_final_obs"][e] and info["final_obs"][e].shape == observation.shape[1:]
            episode = info["final_info"]["episode"][e]
            assert episode["world"] == e and total[e] == pytest.approx(episode["return"][0], abs=1e-5)
            total[e] = 0
            ended += 1
    assert ended >= 3
    env.close()


def test_both_engines_give_the_same():
    options = {"days": 6, "opponents": "prudent", "masks": False}
    envs = [scml_marl_env.make_factory_vector("oneshot-mini", 2, engine=e, **options) for e in ("fast", "scml")]
    seen = [env.reset(seed=1) for env in envs]
    rng = np.random.default_rng(3)
    for _ in range(60):
        assert (seen[0][0] == seen[1][0]).all()
        actions = chosen(envs[0], seen[0][1], rng)
        results = [env.step(actions) for env in envs]
        for ours, theirs in zip(results[0][:4], results[1][:4], strict=True):
            assert (ours == theirs).all()
        seen = [(result[0], result[4]) for result in results]


def test_gymnasium_makes_it():
    env = gymnasium.make_vec("scml_marl_env/OneshotMini-v0", num_envs=2, engine="fast", opponents="nothing")
    assert env.num_envs == 2
    observation, info = env.reset(seed=0)
    assert observation.shape[0] == 2 and info["action_mask"].shape[:2] == observation.shape[:2]
    env.close()


def test_several_factories_are_refused():
    with pytest.raises(ValueError, match="one factory"):
        scml_marl_env.make_factory_vector("std-mini", controlled=2)
