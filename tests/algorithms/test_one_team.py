"""Learning from worlds that show one team at a time: the same numbers as from those that show all of them."""

import numpy as np
import pytest
import torch

import scml_marl_env
from algorithms.buffer import RolloutBuffer
from algorithms.ippo import IPPO
from algorithms.log import Clock
from algorithms.mappo import MAPPO
from algorithms.ppo import PPO, PPOConfig, Shapes
from algorithms.recollection import WorldsPlayer
from algorithms.train import collect, rollout_metrics
from scml_marl_env.data.rollouts import from_rollout
from scml_marl_env.vector import VectorEnv

CONFIG = PPOConfig(actor_hidden=(16,), critic_hidden=(16,), minibatches=2, epochs=2)


def begun(rows: str) -> VectorEnv:
    """Worlds of which every factory is a team."""
    env = scml_marl_env.make_vector("std-mini", 5, 2, rows=rows, engine="fast", controlled="all")
    env.reset()
    return env


def learners(kind: type[PPO], options: dict) -> list[tuple[VectorEnv, PPO]]:
    """One for each way of showing, alike otherwise."""
    both = []
    for rows in ("all", "window"):
        env = begun(rows)
        both.append((env, kind(Shapes.of(env), CONFIG, 4, **options)))
    return both


@pytest.mark.parametrize(
    ("kind", "options"), [(MAPPO, {}), (MAPPO, {"critic_sees": "pooled"}), (IPPO, {})], ids=["state", "pooled", "ippo"]
)
def test_both_learn_the_same(kind, options):
    """Bit for bit: draws, advantages and weights, over rollouts in which episodes end."""
    (every, first), (window, second) = learners(kind, options)
    one, other = RolloutBuffer(150, every), RolloutBuffer(150, window)
    assert other.observation.size * every.n_teams == one.observation.size
    ends = 0
    for _ in range(3):
        for env, learner, buffer in ((every, first, one), (window, second, other)):
            collect(env, learner, buffer, Clock())
            learner.update(buffer, 0.0)
        assert one.active.sum() == other.active.sum()
        assert rollout_metrics(one, every.episodes) == rollout_metrics(other, window.episodes)
        np.testing.assert_array_equal(one.action[one.active], other.action[other.active])
        np.testing.assert_array_equal(one.log_prob[one.active], other.log_prob[other.active])
        ends += int(one.terminated.sum())
    assert ends > 0
    for name, weight in first.actor.state_dict().items():
        assert torch.equal(weight, second.actor.state_dict()[name]), name
    for name, weight in first.critic.state_dict().items():
        assert torch.equal(weight, second.critic.state_dict()[name]), name


def test_a_memory_wants_all_teams():
    """Its slots are those of all of them."""
    with pytest.raises(ValueError, match="rows='all'"):
        WorldsPlayer(None, None, begun("window"))  # type: ignore[arg-type]  # it does not come to them


def test_a_dataset_wants_all_teams():
    """And says so."""
    env = begun("window")
    learner, buffer = MAPPO(Shapes.of(env), CONFIG, 0), RolloutBuffer(3, env)
    collect(env, learner, buffer, Clock())
    with pytest.raises(ValueError, match="rows='all'"):
        list(from_rollout(buffer, env.action_grid))
