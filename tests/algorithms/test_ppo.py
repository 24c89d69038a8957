"""The update: what it computes on, what it ignores, and its formulas by hand."""

import numpy as np
import pytest
import torch

from algorithms.buffer import RolloutBuffer
from algorithms.ippo import IPPO
from algorithms.log import Clock
from algorithms.losses import clipped_objective, explained_variance, squared_error
from algorithms.mappo import MAPPO
from algorithms.networks import Scale, ValueScale
from algorithms.ppo import PPOConfig, Shapes
from algorithms.train import collect
from tests.algorithms.worlds import Gaps, GridWorld

SMALL = PPOConfig(actor_hidden=(16,), critic_hidden=(16, 16), epochs=1, minibatches=1)
LEARNERS = {
    "ippo": lambda env, config: IPPO(Shapes.of(env), config, seed=0),
    "mappo": lambda env, config: MAPPO(Shapes.of(env), config, seed=0),
    "pooled": lambda env, config: MAPPO(Shapes.of(env), config, seed=0, critic_sees="pooled"),
}


def rollout(env, learner, n_steps=16):
    buffer = RolloutBuffer(n_steps, env)
    collect(env, learner, buffer, Clock())
    return buffer


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize("world", [Gaps, GridWorld])
def test_the_ratio_is_one_on_the_first_minibatch(name, world):
    env = world(n_worlds=8)
    learner = LEARNERS[name](env, SMALL)
    for _ in range(3):
        buffer = rollout(env, learner)
        metrics = learner.update(buffer, progress=0.0)
        assert abs(metrics["policy/first_kl"]) < 1e-9
        assert metrics["policy/clip_fraction"] == 0


def test_rows_of_inactive_agents_change_nothing():
    results = []
    for noise in (0.0, np.nan):
        env = Gaps(n_worlds=8)
        learner = LEARNERS["ippo"](env, SMALL)
        buffer = rollout(env, learner)
        buffer.observation[~buffer.active] = noise
        buffer.log_prob[~buffer.active] = noise
        results.append(learner.update(buffer, progress=0.0))
    assert results[0] == results[1]
    assert all(np.isfinite(list(results[0].values())))


@pytest.mark.parametrize("name", LEARNERS)
def test_the_network_sees_the_rows_of_active_agents_only(name, monkeypatch):
    env = Gaps(n_worlds=8)
    learner = LEARNERS[name](env, SMALL)
    seen = []
    original = learner.actor.torso.forward
    monkeypatch.setattr(learner.actor.torso, "forward", lambda x: (seen.append(len(x)), original(x))[1])
    buffer = rollout(env, learner)
    assert sum(seen) == buffer.active.sum() < buffer.active.size
    seen.clear()
    learner.update(buffer, progress=0.0)
    assert sum(seen) == buffer.active.sum()  # one epoch


def test_a_team_is_valued_once_whatever_its_number_of_agents():
    env = GridWorld(n_worlds=8)
    learner = LEARNERS["mappo"](env, SMALL)
    valued, learnt = [], []
    forward, backward = learner.critic.forward, learner._critic_side.backward
    learner.critic.forward = lambda x: (valued.append(len(x)), forward(x))[1]
    learner._critic_side.backward = lambda source, j, *rest: (learnt.append(len(j)), backward(source, j, *rest))[1]
    buffer = rollout(env, learner)
    learner.update(buffer, progress=0.0)
    teams = buffer.active.reshape(16, 8, env.n_teams, -1).any(-1).sum()
    assert valued[0] == learnt[-1] == teams and env.n_agents > env.n_teams


def test_early_stop_ends_the_epochs_once_the_policy_has_moved_too_far():
    env = GridWorld(n_worlds=8)
    far = PPOConfig(actor_hidden=(16,), critic_hidden=(16,), lr=0.05, epochs=20, minibatches=1, target_kl=0.01)
    learner = LEARNERS["ippo"](env, far)
    metrics = learner.update(rollout(env, learner), progress=0.0)
    assert 1 < metrics["policy/epochs"] < 20


def test_schedules_go_from_the_first_value_to_the_last():
    env = GridWorld(n_worlds=8)
    config = PPOConfig(actor_hidden=(16,), critic_hidden=(16,), lr=0.01, lr_end=0.2, entropy=0.1, entropy_end=0.0)
    learner = LEARNERS["ippo"](env, config)
    found = [learner.update(rollout(env, learner), progress) for progress in (0.0, 0.5, 1.0)]
    assert [m["policy/lr"] for m in found] == pytest.approx([0.01, 0.006, 0.002])
    assert [m["policy/entropy_weight"] for m in found] == pytest.approx([0.1, 0.05, 0.0])
    assert learner.optimizer.param_groups[0]["lr"] == pytest.approx(0.002)


def test_clipped_objective_by_hand():
    old = torch.zeros(4)
    log_prob = torch.log(torch.tensor([1.5, 1.5, 0.5, 1.0])).requires_grad_()
    advantage = torch.tensor([1.0, -1.0, 1.0, 2.0])
    loss, kl, clipped = clipped_objective(log_prob, old, advantage, clip=0.2)
    assert loss.item() == pytest.approx(-(1.2 - 1.5 + 0.5 + 2.0) / 4)
    assert clipped.item() == 0.75
    assert kl.item() == pytest.approx((0.5 - np.log(1.5) + 0.5 - np.log(1.5) - 0.5 - np.log(0.5)) / 4)
    loss.backward()
    assert log_prob.grad[0] == 0 and log_prob.grad[1] != 0  # beyond the interval only losses still count


def test_value_clipping_takes_the_worse_error_by_hand():
    value, old, target = torch.tensor([3.0, 3.0]), torch.tensor([1.0, 1.0]), torch.tensor([3.0, 9.0])
    assert squared_error(value, old, target, clip=None).item() == pytest.approx(0.5 * (0 + 36) / 2)
    assert squared_error(value, old, target, clip=0.5).item() == pytest.approx(0.5 * (1.5**2 + 7.5**2) / 2)


def test_explained_variance_by_hand():
    target = torch.tensor([0.0, 2.0, 4.0])
    assert explained_variance(target, target) == 1
    assert explained_variance(torch.zeros(3), target) == 0
    assert explained_variance(target, torch.ones(3)) == 0  # constant targets leave nothing to explain


def test_value_scale_is_the_average_without_bias_to_its_start():
    scale = ValueScale(decay=0.9)
    assert scale.restore(torch.tensor(7.0)) == 0.0
    scale.update(torch.tensor([8.0, 12.0]))
    assert scale.normalise(torch.tensor([8.0, 12.0])).tolist() == pytest.approx([-1.0, 1.0])
    scale.update(torch.tensor([20.0, 20.0]))
    mean = (0.09 * 10 + 0.1 * 20) / 0.19
    assert scale.restore(torch.tensor(0.0)).item() == pytest.approx(mean)
    x = torch.randn(10)
    assert scale.restore(scale.normalise(x)).numpy() == pytest.approx(x.numpy(), abs=1e-5)
    never = ValueScale(decay=None)
    never.update(x)
    assert torch.equal(never.restore(x), x) and torch.equal(never.normalise(x), x)


def test_column_scale_is_mean_and_deviation_of_everything_seen():
    rng = np.random.default_rng(0)
    scale, seen = Scale(3), []
    for n in (5, 1, 40):
        seen.append(rng.normal(5, [1, 2, 3], size=(n, 3)).astype(np.float32))
        scale.update(torch.from_numpy(seen[-1]))
    rows = np.concatenate(seen)
    expected = (rows - rows.mean(0)) / rows.std(0)
    assert scale(torch.from_numpy(rows)).numpy() == pytest.approx(expected, abs=1e-4)


def test_an_empty_rollout_says_what_to_do():
    env = Gaps(n_worlds=2)
    learner = LEARNERS["ippo"](env, SMALL)
    buffer = rollout(env, learner)
    buffer.active[:] = False
    with pytest.raises(RuntimeError, match="Raise n_steps"):
        learner.update(buffer, progress=0.0)
