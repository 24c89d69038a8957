"""Learners find the known answers of the probes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from algorithms import checkpoint
from algorithms.buffer import RolloutBuffer
from algorithms.evaluate import evaluate, returns_of
from algorithms.ippo import IPPO
from algorithms.log import Clock
from algorithms.mappo import MAPPO
from algorithms.policy import Policy
from algorithms.ppo import PPO, PPOConfig, Shapes
from algorithms.train import collect
from algorithms.vector import ParallelVectorEnv
from tests.algorithms import probes
from tests.algorithms.worlds import Gaps, GridWorld

FAST = PPOConfig(
    actor_hidden=(16,),
    critic_hidden=(16, 16),
    gamma=0.5,
    lr=1e-2,
    critic_lr=1e-2,
    lr_end=0.1,
    entropy=0.0,
    minibatches=2,
)
LEARNERS = {
    "ippo": lambda shapes, config: IPPO(shapes, config, seed=0),
    "mappo": lambda shapes, config: MAPPO(shapes, config, seed=0, critic_sees="state"),
    "mappo-pooled": lambda shapes, config: MAPPO(shapes, config, seed=0, critic_sees="pooled"),
}


def learn(env, name, updates, n_steps=16, config=FAST) -> PPO:
    learner = LEARNERS[name](Shapes.of(env), config)
    buffer, clock = RolloutBuffer(n_steps, env), Clock()
    for update in range(updates):
        collect(env, learner, buffer, clock)
        learner.metrics = learner.update(buffer, progress=update / updates)
    return learner


def held_out_return(env, learner) -> float:
    policy = Policy(learner.actor, env.observation_names, {})
    return returns_of(evaluate(env, policy, seed=99, episodes=64)).mean()


def values(learner, env) -> np.ndarray:
    return learner._all_values(env.observation, env.state)


@pytest.mark.parametrize("name", LEARNERS)
def test_value_of_a_constant_reward_is_the_reward(name):
    env = ParallelVectorEnv(probes.constructors(probes.ConstantReward))
    assert values(learn(env, name, 20), env) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("name", LEARNERS)
def test_truncation_is_bootstrapped(name):
    env = ParallelVectorEnv(probes.constructors(probes.EndlessReward))
    assert values(learn(env, name, 60), env) == pytest.approx(2.0, abs=0.05)  # 1 / (1 - gamma)


def test_estimating_anew_before_every_epoch_finds_a_bootstrapped_value_sooner():
    error = {}
    for anew in (True, False):
        env = ParallelVectorEnv(probes.constructors(probes.EndlessReward))
        config = replace(FAST, gamma=0.95, recompute_advantage=anew)
        error[anew] = abs(values(learn(env, "ippo", 10, config=config), env) - 20).mean()
    assert error[True] < 1 and error[True] < 0.3 * error[False]


@pytest.mark.parametrize("name", LEARNERS)
def test_value_follows_the_observation(name):
    env = ParallelVectorEnv(probes.constructors(probes.RewardIsObservation, 16))
    learner = learn(env, name, 40)
    assert set(env.observation.ravel()) == {-1.0, 1.0}
    assert values(learner, env) == pytest.approx(env.observation[..., 0], abs=0.05)


@pytest.mark.parametrize("name", LEARNERS)
def test_reward_one_step_later_is_discounted_once(name):
    env = ParallelVectorEnv(probes.constructors(probes.RewardOneStepLater))
    learner = learn(env, name, 60)
    assert values(learner, env) == pytest.approx(0.5, abs=0.05)
    env.step(np.zeros((8, 1), np.int64))
    assert values(learner, env) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("name", LEARNERS)
def test_action_follows_the_observation(name):
    env = ParallelVectorEnv(probes.constructors(probes.RightAction))
    assert held_out_return(env, learn(env, name, 40)) > 0.97


@pytest.mark.parametrize("probe", [probes.OnlyTheMaskTells, probes.MaskInInfo])
def test_only_the_mask_tells_the_good_action(probe):
    env = ParallelVectorEnv(probes.constructors(probe))
    learner = learn(env, "ippo", 2)
    assert held_out_return(env, learner) == 1.0
    assert learner.metrics["policy/entropy"] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize("teams", ["agent", "all"])
def test_a_team_of_two_learns_to_differ(name, teams):
    env = ParallelVectorEnv(probes.constructors(probes.TeamMustDiffer), teams=teams)
    learner = learn(env, name, 60)
    assert held_out_return(env, learner) > 0.97
    assert values(learner, env) == pytest.approx(1.0, abs=0.1)  # of a team once, not once for each of its agents


@pytest.mark.parametrize("name", LEARNERS)
def test_a_reward_in_the_gap_teaches_the_decision_before_it(name):
    env = Gaps(n_worlds=16)
    learner = learn(env, name, 40, n_steps=12)
    env.reset(0)
    action, _ = learner.act(env, greedy=True)
    assert (action == env.good).all()
    assert values(learner, env) == pytest.approx(1.0, abs=0.1)  # no day passes until the pay


@pytest.mark.parametrize("name", LEARNERS)
def test_the_one_paying_offer_is_found_and_caps_are_kept(name):
    env = GridWorld(n_worlds=16)
    learner = learn(env, name, 120, n_steps=12)
    env.reset(5)
    action, _ = learner.act(env, greedy=True)
    best = np.where(env.possible, GridWorld.best, 1)
    assert (action == best)[env.active].all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("world", [Gaps, GridWorld])
def test_everything_runs_unchanged_on_a_gpu(world, monkeypatch, tmp_path):
    monkeypatch.setitem(LEARNERS, "gpu", lambda shapes, config: MAPPO(shapes, config, seed=0, device="cuda"))
    env = world(n_worlds=16)
    learner = learn(env, "gpu", 3, config=PPOConfig(normalise_observation=True))
    checkpoint.save(tmp_path / "c", learner, env, {"update": 3}, {})
    checkpoint.restore(tmp_path / "c", learner, env)
    assert np.isfinite(list(learner.metrics.values())).all() and np.isfinite(held_out_return(env, learner))
