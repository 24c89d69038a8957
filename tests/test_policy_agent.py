"""PolicyAgent: the policy of the environment, in an ordinary SCML world."""

import logging
import pickle
import time

import numpy as np
import pytest

from scml_marl_env.actions import END, OFFER
from scml_marl_env.array_env import ArrayEnv
from scml_marl_env.opponents import load
from scml_marl_env.policy import load_policy
from scml_marl_env.policy_agent import PolicyAgent, safe_answers
from scml_marl_env.registry import config_of
from scml_marl_env.world.draw import draw
from scml_marl_env.world.official import Player, build_with
from scml_marl_env.world.rng import GlobalRandomness
from tests.policies import RandomPolicy


class OneStream(RandomPolicy):
    """Draws from a generator of its own, whoever asks; keeps what it answered."""

    def __init__(self, env_id, seed, **options):
        super().__init__(env_id, **options)
        self.rng, self.answered = np.random.default_rng(seed), []

    def act(self, observation, bounds, rng, greedy=False):
        actions = super().act(observation, bounds, self.rng, greedy)
        self.answered.append(actions)
        return actions


def world_with(config, seed, agents):
    """The finished world of a seed of the environment, with `agents` (`Player`) in the controlled factories."""
    drawn = draw(config, seed)
    players = [Player(load(path)) if path else agents.pop(0) for path in drawn.agent_types]
    with GlobalRandomness(drawn.world_seed + 1):
        world = build_with(drawn.params, config, players, name=f"world-{seed}")
    with GlobalRandomness(seed + 1):
        world.run()
    return world, [list(world.agents)[i] for i in drawn.controlled]


@pytest.mark.parametrize("env_id", ["std-mini", "oneshot-mini", "std-2025"])
def test_decisions_are_those_of_the_environment(env_id):
    options = {"days": 12, "processes": 3} if env_id == "std-2025" else {}
    config = config_of(env_id, opponents="sync-random", **options)
    windows = threads = finished = 0
    for seed in range(3):
        there, here = (OneStream(env_id, seed, **options) for _ in range(2))
        game = ArrayEnv(config)
        game.reset(seed)
        while game.window is not None:
            actions = np.zeros(game.layout.n_agents, np.int64)
            active = game.arrays.active
            actions[active] = there.act(game.arrays.observation[active], game.arrays.bounds[active], None)
            game.step(actions)
        world, (me,) = world_with(config, seed, [Player(PolicyAgent, {"policy": here})])
        assert len(here.answered) == len(there.answered) and len(here.seen) == len(there.seen)
        for mine, its in zip(here.answered, there.answered, strict=True):
            assert mine.tolist() == its.tolist()
        for mine, its in zip(here.seen, there.seen, strict=True):
            assert mine[0].tobytes() == its[0].tobytes() and mine[1].tobytes() == its[1].tobytes()
        if not game.engine.is_bankrupt(0):  # the environment's episode ends with its factory, the world goes on
            assert list(world.scores().values()) == list(game.engine.world.scores().values())
            assert world.current_balance(me) == game.engine.final_balance(0)
            finished += 1
        agent = world.agents[me].adapted_object
        assert agent.counts["decisions"] == sum(map(len, here.answered))
        assert agent.counts["changed"] == sum(count for why, count in game.total_changed.items() if why != "illegal")
        windows, threads = windows + len(here.answered), threads + agent.counts["decisions"]
    assert windows > 300 and threads > 500 and finished


@pytest.mark.parametrize("policy", ["tests.policies:random_std", RandomPolicy("std-mini")], ids=["named", "object"])
def test_it_repeats_under_a_seed_and_survives_pickling(policy):
    config = config_of("std-mini", opponents="greedy")
    scores = []
    for seed in (0, 0, 1):
        player = pickle.loads(pickle.dumps(Player(PolicyAgent, {"policy": policy, "seed": seed})))
        scores.append(world_with(config, 4, [player])[0].scores())
    assert scores[0] == scores[1] != scores[2]
    copied = pickle.loads(pickle.dumps(PolicyAgent(policy=policy, seed=1)))
    assert world_with(config, 4, [Player(lambda: copied)])[0].scores() == scores[2]


def test_two_seats_draw_from_different_generators():
    config = config_of("std-mini", controlled=2, level=(0, 0))
    player = Player(PolicyAgent, {"policy": "tests.policies:random_std"})
    world, ids = world_with(config, 1, [player, player])
    first, second = (world.agents[i].adapted_object for i in ids)
    assert first._rng.random() != second._rng.random()


def test_it_leaves_the_global_generators_alone():
    config = config_of("std-mini", opponents="nothing")
    player = Player(PolicyAgent, {"policy": "tests.policies:random_std"})
    np.random.seed(5)
    expected = np.random.random()
    np.random.seed(5)
    agent = PolicyAgent(**player.params)
    world_with(config, 1, [Player(lambda: agent)])
    assert np.random.random() == expected


@pytest.mark.parametrize("how", ["raises", "shape", "dtype", "nan", "negative", "large", "wait"])
def test_a_broken_policy_is_answered_for_counted_and_logged_once(how, caplog):
    config = config_of("std-mini", opponents="greedy", level="first")
    with caplog.at_level(logging.WARNING):
        world, (me,) = world_with(config, 2, [Player(PolicyAgent, {"policy": "tests.policies:broken", "path": how})])
    report = world.agents[me].adapted_object.tournament_report()
    failed = {"raises": "fallback_exception"}.get(how, "fallback_illegal")
    assert report[failed] == report["decisions"] > 50
    assert sum("answers safely" in record.message for record in caplog.records) == 1
    assert world.scores()[me] > 0 and sum(world.n_total_agent_exceptions.values()) == 0
    assert world.n_failed_negotiations == 0


def test_the_safe_answer_is_the_smallest_offer_or_the_end():
    mask = np.zeros((3, OFFER + 6), np.int8)
    mask[:, 1:3] = 1
    mask[0, OFFER + 2 :] = 1
    mask[2, OFFER] = 1
    assert safe_answers(mask).tolist() == [OFFER + 2, END, OFFER]


def test_more_partners_than_in_training_are_no_trouble():
    small = RandomPolicy("std-mini")
    config = config_of("std-2025", days=10, processes=3, factories_per_level=6, level="middle", opponents="sync-random")
    world, (me,) = world_with(config, 0, [Player(PolicyAgent, {"policy": small})])
    agent = world.agents[me].adapted_object
    assert len(agent.book.partners) == 12 > small.layout.n_slots
    assert max(len(observation) for observation, _ in small.seen) == 12
    assert agent.counts["fallback_illegal"] == agent.counts["fallback_exception"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"policy": "nowhere:f"}, "Cannot load the policy 'nowhere:f'"),
        ({"policy": "tests.policies:nothing"}, "Cannot load the policy"),
        ({"policy": "tests.policies"}, "named 'package.module:function'"),
        ({"policy": "tests.policies:no_policy"}, "made a str, which is no policy"),
        ({"policy": "tests.policies:other_columns"}, "another version of the features"),
        ({"policy": "algorithms.checkpoint:load", "path": "/nowhere"}, "/nowhere is no checkpoint"),
    ],
)
def test_a_policy_that_does_not_fit_is_refused_when_the_agent_is_made(arguments, message):
    with pytest.raises(ValueError, match=message):
        PolicyAgent(**arguments)


def test_the_options_of_the_training_environment_are_followed():
    policy = load_policy("tests.policies:other_columns", path="history=2")
    agent = PolicyAgent(policy=policy)
    assert agent.config.history == 2 and len(agent.layout.observation_names) == len(policy.observation_names)


def test_a_policy_of_the_other_track_is_refused():
    config = config_of("oneshot-mini")
    with pytest.raises(Exception, match="plays the std track"):
        world_with(config, 0, [Player(PolicyAgent, {"policy": "tests.policies:random_std"})])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A checkpoint with the default networks of `experiments/run.py`, untrained."""
    from algorithms import checkpoint as saving
    from algorithms.mappo import MAPPO
    from algorithms.ppo import PPOConfig, Shapes
    from scml_marl_env import make_vector

    env = make_vector("std-2025", 1)
    env.reset()
    folder = tmp_path_factory.mktemp("run") / "update_0000001"
    saving.save(folder, MAPPO(Shapes.of(env), PPOConfig(), seed=0), env, {"update": 1}, {})
    env.close()
    return folder


def test_a_checkpoint_plays(checkpoint):
    config = config_of("std-2025", days=10, processes=3, opponents="sync-random", level="middle")
    policy = {"policy": "algorithms.checkpoint:load", "path": str(checkpoint)}
    world, (me,) = world_with(config, 0, [Player(PolicyAgent, policy)])
    report = world.agents[me].adapted_object.tournament_report()
    assert report["decisions"] > 50 and report["fallback_exception"] == report["fallback_illegal"] == 0


def test_sixteen_threads_are_decided_in_five_milliseconds(checkpoint):
    game = ArrayEnv(config_of("std-2025", days=10, processes=3, factories_per_level=8, level="middle"))
    game.reset(seed=0)
    arrays = game.arrays
    agent = PolicyAgent(policy="algorithms.checkpoint:load", path=str(checkpoint))
    agent._rng = np.random.default_rng(0)
    observation, bounds = arrays.observation[:16], arrays.bounds[:16]
    assert len(observation) == 16
    times = []
    for _ in range(50):
        start = time.process_time()
        agent.choose(observation, bounds)
        times.append(time.process_time() - start)
    assert np.median(times) < 0.005
