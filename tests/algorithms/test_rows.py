"""Rows of a policy: each is answered by itself, as the head would answer it with the same random numbers."""

import numpy as np
import pytest
import torch

import scml_marl_env
from algorithms.mappo import MAPPO
from algorithms.policy import Policy
from algorithms.ppo import PPOConfig, Shapes
from algorithms.rows import RowActor


def decisions(n, **options):
    """(policy of a fresh learner with large weights, n rows of observation, bounds and numbers)."""
    env = scml_marl_env.make_vector("std-2025", 2, 0, engine="fast", days=30, controlled=3)
    ppo = PPOConfig(actor_hidden=(32, 16), critic_hidden=(8,), **options)
    learner = MAPPO(Shapes.of(env), ppo, seed=1)
    policy, rng = Policy(learner.actor, env.observation_names, {}), np.random.default_rng(0)
    with torch.no_grad():
        for layer in policy.actor.head.children():
            layer.weight.mul_(100 if isinstance(layer, torch.nn.Linear) else 3)
    env.reset(0)
    rows, limits = [], []
    while sum(map(len, rows)) < n:
        rows.append(env.observation[env.active].copy())
        limits.append(env.bounds[env.active].copy())
        env.step(policy.act_all(env, rng))
    observation, bounds = np.concatenate(rows)[:n], np.concatenate(limits)[:n]
    if options.get("normalise_observation"):
        policy.actor.scale.update(torch.from_numpy(observation))
    return policy, observation, bounds, rng.random((n, 4), np.float32)


@pytest.mark.parametrize("options", [{}, {"activation": "relu", "normalise_observation": True}])
def test_rows_draw_what_the_head_draws(options):
    policy, observation, bounds, uniform = decisions(600, **options)
    mine = policy.act_rows(observation, bounds, uniform)
    columns = iter(uniform.T)

    def given(n):
        numbers = next(columns)
        return torch.from_numpy(numbers[mine >= 3] if n < len(numbers) else numbers.copy())

    actor = policy.actor
    with torch.inference_mode():
        features = actor.torso(actor.scale(torch.from_numpy(observation)))
        theirs = actor.head.sample(features, torch.from_numpy(bounds), given, False)[0].numpy()
    assert (mine == theirs).mean() > 0.99  # sums are rounded in another order
    assert len(np.unique(mine)) > 50


def test_a_row_does_not_depend_on_the_others():
    policy, observation, bounds, uniform = decisions(200)
    together = policy.act_rows(observation, bounds, uniform)
    for n in (1, 2, 3, 5, 64, 133):
        for first in (0, 7):
            part = slice(first, first + n)
            assert (policy.act_rows(observation[part], bounds[part], uniform[part]) == together[part]).all()
    order = np.random.default_rng(1).permutation(200)
    assert (policy.act_rows(observation[order], bounds[order], uniform[order]) == together[order]).all()
    assert policy.act_rows(observation[:0], bounds[:0], uniform[:0]).shape == (0,)


def test_answers_are_legal_whatever_the_numbers():
    policy, observation, bounds, uniform = decisions(200)
    masks = policy.actor.head.grid.mask(bounds)
    for number in (0.0, 1.0, np.nextafter(np.float32(1), np.float32(0))):
        action = policy.act_rows(observation, bounds, np.full_like(uniform, number))
        assert masks[np.arange(200), action].all()


def test_a_flat_head_is_refused():
    with pytest.raises(ValueError, match="factors"):
        RowActor(Policy.uniform(3, FlatGrid()).actor)


class FlatGrid:
    """A plain Discrete(2)."""

    n_actions, factors, quantities = 2, None, np.zeros(0)
