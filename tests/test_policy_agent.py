"""PolicyAgent: in the same factory of the same world it answers as its policy does in our environment."""

import logging
import pickle
import random
import time

import numpy as np
import pytest
import torch

import scml_marl_env
from algorithms import checkpoint
from algorithms.mappo import MAPPO
from algorithms.ppo import PPOConfig, Shapes
from scml_marl_env import opponents, policy_agent, prudent
from scml_marl_env.array_env import ArrayEnv
from scml_marl_env.policy import load_policy
from scml_marl_env.policy_agent import FALLBACKS, PolicyAgent
from scml_marl_env.registry import config_of
from scml_marl_env.world.draw import draw
from scml_marl_env.world.official import Player, build_with
from scml_marl_env.world.rng import GlobalRandomness
from tests.players import play, random_masked
from tests.policies import Broken, RandomMasked, Recorder

LOAD = "algorithms.checkpoint:load"
OPTIONS = {"std-mini": {"processes": 3, "days": 40}, "oneshot-mini": {"days": 40}}


def play_agent(config, world_seed, agent=Recorder, **params):
    """(the world of a seed, played to its end with `agent` in the controlled factory; that agent)."""
    drawn = draw(config, world_seed)
    players = [Player(agent, params) if path is None else Player(opponents.load(path)) for path in drawn.agent_types]
    with GlobalRandomness(drawn.world_seed + 1):
        world = build_with(drawn.params, config, players, name=f"world-{world_seed}")
    with GlobalRandomness(world_seed + 1) as agent.randomness:
        while world.step():
            pass
    ours = [a.adapted_object for a in world.agents.values() if isinstance(a.adapted_object, agent)]
    assert len(ours) == 1 and not world.agent_exceptions[ours[0].id]
    return world, ours[0]


def play_env(config, seed, policy, rng, greedy=False):
    """(windows as `Recorder` keeps them, balance after each day, to the end or a bankruptcy) in ArrayEnv."""
    env, windows = ArrayEnv(config), []
    env.reset(seed)
    arrays, resume = env.arrays, env.engine.resume
    memory = policy.start(len(arrays.active), rng) if hasattr(policy, "start") else None
    earned = np.zeros(2)

    def listen(answers=None):
        if answers is not None:
            windows[-1] += (dict(answers),)
        return resume(answers)

    env.engine.resume = listen
    while env.window is not None:
        active = arrays.active
        windows.append((arrays.observation[active].copy(), arrays.bounds[active].copy()))
        actions, slots = np.zeros(len(active), np.int64), np.flatnonzero(active)
        if active.any() and memory is None:
            actions[active] = policy.act(arrays.observation[active], arrays.bounds[active], rng, greedy)
        elif active.any():
            seen = arrays.observation[active], arrays.bounds[active]
            actions[active] = memory.act(slots, *seen, *earned, rng, greedy)
            earned[:] = 0
        env.step(actions)
        earned += arrays.reward[0], arrays.elapsed[0]
        if memory is not None:
            memory.executed(slots, arrays.executed[slots])
    result = windows, [day.balance for day in env.results(0)]
    env.close()
    return result


def save_checkpoint(folder, env_id, **options):
    """A checkpoint of a fresh learner, as training writes it."""
    env = scml_marl_env.make_vector(env_id, 1, 0, **options)
    env.reset()
    ppo = PPOConfig(actor_hidden=(32,), critic_hidden=(8,))
    checkpoint.save(folder, MAPPO(Shapes.of(env), ppo, seed=3), env, {"update": 0}, {})
    env.close()
    return folder


def same_decisions(config, seed, played, greedy=False, **params):
    """Plays both ways, asserts that they are alike, and returns how many windows and threads were compared."""
    world, agent = play_agent(config, seed, greedy=greedy, seed=7, **params)
    rng = np.random.default_rng(agent.rng.bit_generator.seed_seq.entropy)
    windows, balances = play_env(config, seed, played, rng, greedy)
    assert len(agent.windows) == len(windows)
    for mine, theirs in zip(agent.windows, windows, strict=True):
        assert np.array_equal(mine[0], theirs[0]) and np.array_equal(mine[1], theirs[1])
        assert mine[2] == theirs[2]
    mine = [*agent.balances[1:], world.current_balance(agent.id)]
    assert mine[: len(balances)] == balances
    assert len(balances) == len(mine) or (balances[-1] < 0 and world.is_bankrupt[agent.id])
    report = agent.tournament_report()
    assert not any(report[f"fallback_{kind}"] for kind in FALLBACKS)
    threads = sum(len(answers) for _, _, answers in windows)
    assert report["answers"] == threads
    return len(windows), threads


@pytest.mark.parametrize("env_id", ["std-mini", "oneshot-mini"])
@pytest.mark.parametrize("kind", ["heuristic", "checkpoint", pytest.param("greedy", marks=pytest.mark.slow)])
def test_decisions_equal_those_of_the_policy_in_the_environment(env_id, kind, tmp_path):
    config = config_of(env_id, **OPTIONS[env_id])
    if kind == "heuristic":
        policy = RandomMasked(env_id, **OPTIONS[env_id])
        params = {"policy": policy}
    else:
        policy = checkpoint.load(save_checkpoint(tmp_path / "policy", env_id, **OPTIONS[env_id]))
        params = {"policy": LOAD, "path": str(tmp_path / "policy")}
    compared = [same_decisions(config, seed, policy, kind == "greedy", **params) for seed in range(5)]
    windows, threads = np.sum(compared, axis=0)
    assert windows > 200 and threads > 400, compared


@pytest.mark.parametrize("options", [
    {"shield": "covered", "useful": True, "observation": ("macro", "thread"), "history": 0, "price_levels": 7},
    {"inventory": "conserving", "shield": "off"},
])  # fmt: skip
def test_the_policy_brings_the_options_it_was_made_with(options):
    options |= OPTIONS["std-mini"]
    policy = RandomMasked("std-mini", **options)
    assert same_decisions(config_of("std-mini", **options), 5, policy, policy=policy)[1] > 60


def test_a_world_with_more_partners_than_the_policy_was_trained_with():
    small = RandomMasked("std-mini")
    assert len(small.config["env"]) and config_of("std-mini").n_slots == 2
    config = config_of("std-mini", processes=3, level=1, factories_per_level=5, days=6)
    assert same_decisions(config, 3, small, policy=small)[1] > 200


def test_a_seed_is_a_stream_and_global_generators_are_left_alone(tmp_path):
    config = config_of("std-mini", days=6)
    folder = str(save_checkpoint(tmp_path / "policy", "std-mini"))
    played = [play_agent(config, 4, policy=LOAD, path=folder, seed=seed)[1] for seed in (1, 1, 2)]
    answers = [[window[2] for window in agent.windows] for agent in played]
    assert answers[0] == answers[1] != answers[2]
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    before = random.random(), np.random.random(), torch.rand(1).item()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    policy = load_policy(LOAD, folder)
    policy.act(*rows(policy, 4), np.random.default_rng(0))
    assert (random.random(), np.random.random(), torch.rand(1).item()) == before


def rows(policy, n):
    """n rows of a window of std-mini: (observation, bounds)."""
    env = ArrayEnv(config_of("std-mini"))
    env.reset(1)
    n_rows = np.flatnonzero(env.arrays.active)[np.arange(n) % env.arrays.active.sum()]
    found = env.arrays.observation[n_rows], env.arrays.bounds[n_rows]
    env.close()
    return found


def test_two_factories_of_a_world_draw_different_numbers():
    config = config_of("std-mini", days=5, controlled="all")
    drawn = draw(config, 1)
    players = [Player(PolicyAgent, {"policy": RandomMasked(), "seed": 1})] * len(drawn.agent_types)
    with GlobalRandomness(1):
        world = build_with(drawn.params, config, players, name="all")
        while world.step():
            pass
    agents = [a.adapted_object for a in world.agents.values() if isinstance(a.adapted_object, PolicyAgent)]
    entropies = {tuple(agent.rng.bit_generator.seed_seq.entropy) for agent in agents}
    assert len(entropies) == len(agents) == 4


@pytest.mark.parametrize("env_id", ["std-mini", "oneshot-mini"])
@pytest.mark.parametrize("kind", FALLBACKS)
def test_a_broken_policy_is_replaced_counted_and_logged_once(kind, env_id, caplog):
    config = config_of(env_id, **OPTIONS[env_id])
    with caplog.at_level(logging.WARNING, "scml_marl_env.policy_agent"):
        world, agent = play_agent(config, 2, policy=Broken(kind, env_id))
    report = agent.tournament_report()
    counts = {name: report[f"fallback_{name}"] for name in FALLBACKS}
    per = report["answers"] if kind == "range" else report["windows"]
    assert counts == dict.fromkeys(FALLBACKS, 0.0) | {kind: per} and per > 30
    assert [record.message.count(f"({kind})") for record in caplog.records] == [1]
    assert world.n_failed_negotiations == 0 and not world.is_bankrupt[agent.id]


@pytest.mark.parametrize("kind", ["exception", "range"])
def test_a_fallback_keeps_trading(kind):
    """A policy that never answers is worth far more than one that ends every negotiation."""
    config = config_of("std-mini", days=12, level=0)
    scores = {}
    for name, policy in (("broken", Broken(kind)), ("silent", Silent())):
        scores[name] = [world.scores()[agent.id] for world, agent in
                        (play_agent(config, seed, policy=policy) for seed in range(3))]  # fmt: skip
    assert np.mean(scores["broken"]) > np.mean(scores["silent"]) + 0.02, scores


class Silent(RandomMasked):
    """Ends every negotiation."""

    def act(self, observation, bounds, rng, greedy=False):
        return np.ones(len(bounds), np.int64)


class Counting(RandomMasked):
    """Notes how many actions are legal in each row that it sees."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def act(self, observation, bounds, rng, greedy=False):
        self.seen.append(self.grid.mask(bounds).sum(-1).tolist())
        return super().act(observation, bounds, rng, greedy)


def test_a_policy_rehearses_before_the_first_negotiation():
    """With one thread that can only offer, so that whatever it compiles is compiled then."""

    class Listening(PolicyAgent):
        def init(self):
            super().init()
            assert self.policy.seen == [[1]]

    _, agent = play_agent(config_of("std-mini", days=6), 2, agent=Listening, policy=Counting())
    assert agent.tournament_report()["windows"] == len(agent.policy.seen) - 1 > 5


def test_single_actions_are_judged_as_by_the_flat_mask():
    rng, judged = np.random.default_rng(0), 0
    for env_id in ("std-mini", "oneshot-mini"):
        env = ArrayEnv(config_of(env_id, days=6))

        def choose(game):
            nonlocal judged
            bounds = game.arrays.bounds
            masks = game.grid.mask(bounds)
            for _ in range(20):
                actions = rng.integers(game.grid.n_actions, size=len(bounds))
                near = rng.random(len(bounds)) < 0.5  # half of them legal
                actions[near] = np.where(masks, rng.random(masks.shape), -1).argmax(1)[near]
                expected = masks[np.arange(len(bounds)), actions]
                assert np.array_equal(game.grid.allows(bounds, actions), expected)
                judged += len(bounds)
            return random_masked(game, rng)

        play(env, 1, choose)
        env.close()
    assert judged > 1000


@pytest.mark.parametrize(
    ("module", "kernel", "agent", "params"),
    [
        (policy_agent, "open_window", PolicyAgent, {"policy": RandomMasked()}),
        (policy_agent, "close_window", PolicyAgent, {"policy": RandomMasked()}),
        (prudent.prudence, "prudent_answers", prudent.PrudentAgent, {}),
    ],
)
def test_kernels_are_compiled_before_the_first_negotiation(monkeypatch, module, kernel, agent, params):
    """Compiling may take longer than what SCML allows for a step of a negotiation."""
    threads, call = [], getattr(module, kernel)

    class Watched(agent):
        def create_negotiator(self, *args, **kwargs):
            threads.append(kernel)
            return super().create_negotiator(*args, **kwargs)

    def first(*args):
        assert not threads or first.called, f"{kernel} is first called when negotiations run"
        first.called = True
        return call(*args)

    first.called = False
    monkeypatch.setattr(module, kernel, first)
    config = config_of("std-mini", days=5)
    drawn = draw(config, 3)
    players = [Player(Watched, params) if path is None else Player(opponents.load(path)) for path in drawn.agent_types]
    with GlobalRandomness(drawn.world_seed + 1):
        world = build_with(drawn.params, config, players, name="world-3")
        world.step()
    assert first.called and threads and not sum(map(len, world.agent_exceptions.values()))


def test_it_can_be_pickled_before_it_plays_and_its_class_by_name(tmp_path):
    folder = str(save_checkpoint(tmp_path / "policy", "std-mini"))
    agent = pickle.loads(pickle.dumps(PolicyAgent(policy=LOAD, path=folder, seed=3)))
    assert pickle.loads(pickle.dumps(PolicyAgent)) is PolicyAgent
    observation, bounds = rows(agent.policy, 4)
    fresh = load_policy(LOAD, folder).act(observation, bounds, np.random.default_rng(1))
    assert np.array_equal(agent.policy.act(observation, bounds, np.random.default_rng(1)), fresh)


def test_errors_say_what_is_wrong():
    with pytest.raises(ValueError, match=r"Cannot load policy 'algorithms.checkpoint:lod'"):
        PolicyAgent(policy="algorithms.checkpoint:lod")
    with pytest.raises(ValueError, match="is no checkpoint"):
        PolicyAgent(policy=LOAD, path="/nowhere")
    with pytest.raises(TypeError, match="has a method act"):
        PolicyAgent(policy=3)
    with pytest.raises(TypeError, match="has a method act"):
        PolicyAgent(policy=RandomMasked)
    for seed in (-1, 1.5, True):
        with pytest.raises(ValueError, match="seed must be"):
            PolicyAgent(policy=RandomMasked(), seed=seed)


def error_in_world(policy, env_id):
    """What ends the world of an agent whose policy it cannot play."""
    config = config_of(env_id, days=5)
    with pytest.raises(ValueError) as raised:
        play_agent(config, 1, policy=policy)
    return str(raised.value)


def test_a_policy_of_the_other_track_or_of_other_columns_is_refused():
    assert "made for the std track and cannot play oneshot" in error_in_world(RandomMasked("std-mini"), "oneshot-mini")
    assert "made for the oneshot track" in error_in_world(RandomMasked("oneshot-mini"), "std-mini")
    renamed = RandomMasked("std-mini")
    renamed.observation_names = ["old", *renamed.observation_names[1:]]
    assert "missing ['old']" in error_in_world(renamed, "std-mini")
    foreign = RandomMasked("std-mini")
    foreign.config = {"env": {"name": "mpe2"}}
    assert "not made for an environment of scml_marl_env" in error_in_world(foreign, "std-mini")


@pytest.mark.slow
def test_a_decision_of_sixteen_threads_takes_below_five_milliseconds(tmp_path):
    config = config_of("std-mini", processes=3, level=1, factories_per_level=8, days=6)
    folder = str(save_checkpoint(tmp_path / "policy", "std-2025"))
    _, agent = play_agent(config, 1, agent=Timed, policy=LOAD, path=folder)
    assert len(agent.times) > 100
    print(f"{len(agent.times)} windows of 16 threads: median {np.median(agent.times) * 1e3:.2f} ms")
    assert np.median(agent.times) < 5e-3


class Timed(PolicyAgent):
    """Takes each decision that has several threads thirty times, as if all its threads waited; notes CPU seconds."""

    def init(self):
        self.times = []
        super().init()

    def decide(self):
        view = self.book.view
        if view.on_turn.sum() < 2:
            return super().decide()
        seen = view.flags.copy()
        view.on_turn[:] = view.alive[:] = view.exists
        assert view.on_turn.sum() == 16
        for _ in range(30):
            start = time.process_time()
            super().decide()
            self.times.append(time.process_time() - start)
        view.flags[:] = seen
        return super().decide()
