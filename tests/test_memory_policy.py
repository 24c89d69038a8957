"""Policies with a memory: alike in SCML's worlds, in our environments, one by one and many at once."""

import numpy as np
import pytest
import torch

import scml_marl_env
from algorithms.evaluate import evaluate
from algorithms.recollection import DecisionTransformerPolicy, Targets
from algorithms.stream_actor import StreamActor, StreamConfig
from scml_marl_env.layout import Layout
from scml_marl_env.policy_agent import PolicyAgent
from scml_marl_env.registry import config_of
from scml_marl_env.vector import describe
from tests.policies import RandomMasked
from tests.test_policy_agent import Timed, play_agent, play_env, same_decisions

LAYOUTS = pytest.mark.parametrize("tokens", ["thread", "factory"])


def transformer(tokens, env_id="std-mini", width=16, scale=0.3, **options):
    """A Decision Transformer of random weights, whose answers depend on all that it remembers."""
    layout = Layout(config_of(env_id, **options))
    torch.manual_seed(1)
    config = StreamConfig(tokens=tokens, context=6 if width == 16 else 16, width=width)
    actor = StreamActor(len(layout.observation_names), layout.grid, config)
    for parameter in actor.parameters() if scale else ():
        torch.nn.init.normal_(parameter, std=scale)
    about = {"env": describe(layout.config)}
    policy = DecisionTransformerPolicy(actor.eval(), Targets(()), layout.observation_names, about)
    return policy.aiming(target_return=0.7)


class Noted:
    """Remembers what its memory is told of answers that are carried out: (slots, reward, elapsed, executed)."""

    def __init__(self, **options):
        self.policy, self.told = RandomMasked(**options), []
        self.config, self.observation_names, self.act = (
            self.policy.config,
            self.policy.observation_names,
            self.policy.act,
        )

    def start(self, n_slots, rng):
        outer = self

        class Memory:
            def act(self, slots, observation, bounds, reward, elapsed, rng, greedy=False):
                self.asked = [slots.tolist(), float(np.float32(reward)), float(elapsed)]
                return outer.policy.act(observation, bounds, rng, greedy)

            def executed(self, slots, action):
                outer.told.append([*self.asked, (slots.tolist(), action.tolist())])

        return Memory()


@LAYOUTS
def test_decisions_equal_those_of_the_memory_in_the_environment(tokens):
    config = config_of("std-mini", processes=3, days=40)
    policy = transformer(tokens, processes=3, days=40)
    assert same_decisions(config, 3, policy, policy=policy)[1] > 80


def test_a_memory_is_told_the_rewards_of_the_environment():
    """Window by window the same slots, rewards, days and executed actions as in ArrayEnv."""
    config = config_of("std-mini", processes=3, days=40)
    played, env = Noted(processes=3, days=40), Noted(processes=3, days=40)
    _, agent = play_agent(config, 3, policy=played, seed=7)
    play_env(config, 3, env, np.random.default_rng(agent.rng.bit_generator.seed_seq.entropy))
    assert len(played.told) == len(env.told) > 80
    for mine, theirs in zip(played.told, env.told, strict=True):
        assert mine == theirs
    assert sum(told[1] != 0 for told in played.told) > 10 and played.told[0][1:3] == [0, 0]
    assert sum(told[2] for told in played.told) > 10


@LAYOUTS
def test_many_worlds_at_once_are_played_as_one_by_one(tokens):
    options = {"engine": "fast", "opponents": "greedy", "days": 8}
    policy = transformer(tokens, **options)
    env = scml_marl_env.make_vector("std-mini", 3, 0, **options)
    episodes = evaluate(env, policy, 5, 6, greedy=True)
    env.close()
    config = config_of("std-mini", **options)
    for episode in episodes:
        windows, balances = play_env(config, episode["seed"], policy, None, greedy=True)
        assert len(windows) == episode["length"]
        start = scml_marl_env.array_env.ArrayEnv(config)
        start.reset(episode["seed"])
        initial = float(start.engine.view.initial_balance[0])
        assert episode["return"][0] == pytest.approx((balances[-1] - initial) / initial, abs=1e-9)
        start.close()
    assert len({tuple(episode["return"]) for episode in episodes}) == 6


def test_the_target_is_lowered_by_what_was_earned():
    env = scml_marl_env.make_vector("std-mini", 2, 0, engine="fast", opponents="greedy", days=8)
    policy, rng = transformer("thread", days=8), np.random.default_rng(0)
    env.reset(1)
    player = policy.player(env)
    earned, ended = np.zeros(2), 0
    for _ in range(400):
        action = player.act_all(env, rng)
        np.testing.assert_allclose(player.recollection.to_go, 0.7 - earned, atol=1e-6)
        env.step(action)
        player.receive(env)
        over = (env.terminated | env.truncated)[:, 0]
        earned = np.where(over, 0, earned + env.reward[:, 0])
        ended += over.sum()
    assert ended > 2
    env.close()


def test_a_policy_with_a_memory_answers_without_one_too():
    policy = transformer("thread")
    env = scml_marl_env.make_vector("std-mini", 2, 0, engine="fast", opponents="greedy")
    env.reset(0)
    rows = env.active
    action = policy.act(env.observation[rows], env.bounds[rows], np.random.default_rng(0))
    mask = env.action_grid.mask(env.bounds[rows])
    assert mask[np.arange(len(action)), action].all() and len(action) == rows.sum()
    assert len(policy.act(env.observation[rows][:0], env.bounds[rows][:0], np.random.default_rng(0))) == 0
    env.close()


def test_an_aim_is_a_quantile_of_the_kind_or_a_number():
    targets = Targets(("first", "absent"))
    seen = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    names = ["first", "other"]
    targets.fit(np.array([1.0, 3.0, 10.0]), seen, names)
    policy = transformer("thread")
    policy = DecisionTransformerPolicy(policy.actor, targets, names, {}, target_quantile=1.0)
    assert policy.aim(seen).tolist() == [3, 3, 10]
    assert policy.aiming(target_quantile=0.5).aim(seen).tolist() == [2, 2, 3]
    assert policy.aiming(target_return=5).aim(seen).tolist() == [5, 5, 5]
    with pytest.raises(ValueError, match=r"lies in \[0, 1\]"):
        policy.aiming(target_quantile=1.5)


def test_a_broken_memory_is_replaced():
    class Broken(Noted):
        def start(self, n_slots, rng):
            memory = super().start(n_slots, rng)
            memory.act = lambda *_: 1 / 0
            memory.executed = lambda *_: None
            return memory

    _, agent = play_agent(config_of("std-mini", days=6), 2, agent=PolicyAgent, policy=Broken())
    report = agent.tournament_report()
    assert report["fallback_exception"] == report["windows"] > 5


@pytest.mark.slow
@LAYOUTS
def test_a_decision_of_sixteen_threads_takes_below_five_milliseconds(tokens):
    config = config_of("std-mini", processes=3, level=1, factories_per_level=8, days=6)
    policy = transformer(tokens, "std-2025", width=64, scale=0)
    _, agent = play_agent(config, 1, agent=Timed, policy=policy)
    print(f"{tokens}: {len(agent.times)} windows of 16 threads: median {np.median(agent.times) * 1e3:.2f} ms")
    assert len(agent.times) > 100 and np.median(agent.times) < 5e-3
