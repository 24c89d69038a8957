"""The fast engine beside the real one: the same windows, views, results and scores over whole episodes."""

from dataclasses import replace

import numpy as np
import pytest

from scml_marl_env.actions import ACCEPT, END, OFFER
from scml_marl_env.array_env import ArrayEnv
from scml_marl_env.registry import config_of
from scml_marl_env.vector import VectorEnv
from scml_marl_env.view import FIELDS
from scml_marl_env.world.engine import Answer, Bankrupt, Over, Window
from scml_marl_env.world.fast_engine import FastEngine
from scml_marl_env.world.scml_engine import ScmlEngine
from tests.players import random_masked


def random_answers(view, f, rng, p_end):
    answers = {}
    for k in np.flatnonzero(view.on_turn[f]):
        u, side = rng.random(), 0 if view.is_buy[f, k] else 1
        quantity = int(rng.integers(1, view.max_quantity[f] + 1 if rng.random() < 0.2 else 5))
        lead = int(rng.integers(0, view.last_lead[f] + 1))
        price = int(rng.integers(view.price_low[f, side], view.price_high[f, side] + 1))
        if view.has_offer[f, k] and u < 0.12:
            answers[int(k)] = Answer(ACCEPT)
        else:
            answers[int(k)] = Answer(END) if u > 1 - p_end else Answer(OFFER, quantity, lead, price)
    return answers


def play_both(config, seed, p_end):
    """Plays a world in both engines with the same random answers; returns (windows, numbers of views compared)."""
    real, fast = ScmlEngine(config), FastEngine(replace(config, engine="fast"))
    rng = np.random.default_rng(seed)
    event, other = real.reset(seed), fast.reset(seed)
    windows = numbers = 0
    while not isinstance(event, Over):
        assert event == other
        if isinstance(event, Bankrupt):
            event, other = real.resume(), fast.resume()
            continue
        assert isinstance(event, Window)
        f = event.factory
        for name in FIELDS:
            theirs, ours = getattr(real.view, name)[f], getattr(fast.view, name)[f]
            assert theirs.dtype == ours.dtype
            assert (theirs == ours).all(), (windows, name, theirs, ours)
            numbers += theirs.size
        answers = random_answers(real.view, f, rng, p_end)
        real.view.on_turn[f] = False
        event, other = real.resume(answers), fast.resume(answers)
        windows += 1
    assert isinstance(other, Over)
    assert real.results == fast.results
    assert list(real.scores().values()) == list(fast.scores().values())
    real.close()
    return windows, numbers


WORLDS = [
    ("std-mini", {"opponents": "nothing", "days": 8}),
    ("std-mini", {"controlled": "all", "days": 10, "processes": 3}),
    ("std-mini", {"controlled": "all", "days": 8, "processes": 4, "inventory": "conserving"}),
    ("oneshot-mini", {"controlled": "all", "days": 12, "factories_per_level": 3}),
    ("std-mini", {"controlled": 3, "days": 12, "processes": 3, "opponents": "nothing", "factories_per_level": 3}),
    ("std-mini", {"controlled": 2, "days": 10, "processes": 3, "opponents": "prudent", "factories_per_level": 2}),
    ("oneshot-mini", {"days": 10, "opponents": {"prudent": 2, "nothing": 1}, "factories_per_level": 3}),
    ("std-mini", {"controlled": "all", "days": 12, "rounds": 1}),
]


@pytest.mark.parametrize("p_end", [0.0, 0.1])
@pytest.mark.parametrize(("env_id", "options"), WORLDS)
def test_windows_views_and_results_are_those_of_the_real_engine(env_id, options, p_end):
    windows, numbers = play_both(config_of(env_id, **options), 5, p_end)
    assert windows >= 8 and numbers > 100 * windows


@pytest.mark.parametrize(
    ("env_id", "options"),
    [
        ("std-mini", {"opponents": "prudent", "days": 8, "reward": "potential"}),
        ("std-mini", {"controlled": "all", "days": 6, "processes": 3, "privileged_state": True, "shield": "covered"}),
        ("oneshot-mini", {"opponents": "prudent", "audit": True, "shield": "off"}),
        ("std-mini", {"opponents": "prudent", "max_cycles": 30, "observation": ("macro", "history"), "history": 2}),
    ],
)
def test_environments_show_the_same_on_both_engines(env_id, options):
    config = config_of(env_id, **options)
    real, fast = ArrayEnv(config), ArrayEnv(replace(config, engine="fast"))
    rng = np.random.default_rng(1)
    real.reset(4)
    fast.reset(4)
    steps = 0
    while real.window is not None:
        for name, theirs, ours in zip(real.arrays._fields, real.arrays, fast.arrays, strict=True):
            assert (theirs == ours).all(), (steps, name)
        actions = random_masked(real, rng)
        real.step(actions)
        fast.step(actions)
        steps += 1
    assert fast.window is None and steps > 10
    theirs, ours = real.statistics(), fast.statistics()
    assert theirs == ours
    if config.audit:
        assert sum(count for grade in ours["unsafe"].values() for who in grade.values() for count in who.values()) > 0


VECTORS = [
    ("std-mini", {"days": 6}, 1),
    ("std-mini", {"days": 6, "controlled": 2, "processes": 3, "opponents": "prudent"}, 2),
    ("oneshot-mini", {"controlled": "all", "reward": "potential", "days": 5, "privileged_state": True}, 2),
    ("std-mini", {"days": 8, "max_cycles": 25, "shield": "covered", "audit": True}, 1),
]


@pytest.mark.parametrize(("env_id", "options", "threads"), VECTORS)
def test_the_compiled_vector_environment_is_many_single_ones(env_id, options, threads):
    """Bit for bit what `Shard` makes of `ArrayEnv`s on the fast engine, over several episodes."""
    from scml_marl_env.layout import Layout
    from scml_marl_env.vector_worker import Shard, VectorArrays

    config = config_of(env_id, engine="fast", **options)
    layout, n_worlds = Layout(config), 3
    env = VectorEnv(config, n_worlds, seed=7, workers=threads)
    arrays = VectorArrays.over(bytearray(VectorArrays.size_of(layout, n_worlds)), layout, n_worlds)
    shard = Shard(config, arrays, range(n_worlds))
    env.reset(7)
    arrays.stepped[:] = True
    shard.begin(7, dict.fromkeys(range(n_worlds), 0))
    rng, ended = np.random.default_rng(0), 0
    names = [*arrays.now._fields, *(name for name in arrays._fields if name.startswith("final"))]
    for step in range(150):
        for name in names:
            theirs = getattr(arrays.now, name) if hasattr(arrays.now, name) else getattr(arrays, name)
            assert (getattr(env, name) == theirs).all(), (step, name)
        masks = layout.grid.mask(env.bounds)
        actions = np.zeros((n_worlds, env.n_agents), np.int64)
        for e, n in np.argwhere(env.active):
            allowed = np.flatnonzero(masks[e, n])
            actions[e, n] = allowed[1] if rng.random() < 0.2 and len(allowed) > 1 else rng.choice(allowed)
        arrays.actions[:] = np.where(env.active, actions, 0)
        env.step(actions)
        episodes = shard.step()
        assert env.episodes == episodes
        ended += len(episodes)
        env.episodes.clear()
    assert ended >= 3
    env.refresh()
    shard.refresh()
    assert (env.observation == arrays.now.observation).all() and (env.state == arrays.now.state).all()
    env.close()


def test_a_saved_moment_of_the_fast_engine_goes_on_as_it_would_have():
    config = config_of("std-mini", engine="fast", days=6, opponents="default")
    one, two = VectorEnv(config, 4, seed=1), VectorEnv(config, 4, seed=99)
    one.reset(1)
    two.reset(5)
    rng = np.random.default_rng(0)

    def actions(env):
        masks = env.action_grid.mask(env.bounds)
        chosen = np.zeros((env.n_worlds, env.n_agents), np.int64)
        for e, n in np.argwhere(env.active):
            chosen[e, n] = rng.choice(np.flatnonzero(masks[e, n]))
        return chosen

    for _ in range(40):
        one.step(actions(one))
    two.load_state_dict(one.state_dict())
    for _ in range(60):
        for name in ("observation", "state", "bounds", "active"):
            assert (getattr(one, name) == getattr(two, name)).all(), name
        chosen = actions(one)
        one.step(chosen)
        two.step(chosen)
        assert (one.reward == two.reward).all()
    assert one.episodes[-3:] == two.episodes[-3:] and len(two.episodes) >= 3


@pytest.mark.parametrize("env_id", ["std-2025", "oneshot-2025"])
def test_memory_does_not_grow_with_the_days(env_id):
    config = config_of(env_id, engine="fast", days=60)
    env = VectorEnv(config, 2, seed=0)
    before = env.nbytes
    env.reset(0)
    for _ in range(200):
        env.step(np.where(env.active, END, 0))
    assert env.nbytes == before
    assert len({id(array) for array in (env.observation, env._worlds.board.observation)}) == 1


def test_the_fast_engine_refuses_opponents_without_a_twin():
    with pytest.raises(ValueError, match="no twin of opponent"):
        config_of("std-mini", engine="fast", opponents="tests.players:Patient")


def test_saved_worlds_of_another_version_are_refused():
    env = VectorEnv(config_of("oneshot-mini", engine="fast"), 2)
    env.reset(0)
    saved = env.state_dict()
    arrays = saved["arrays"]
    without = {name: array for name, array in arrays.items() if name != "version"}
    for changed, name in (
        (arrays | {"board.window": arrays["board.window"][:-1]}, "board.window"),
        (arrays | {"version": arrays["version"] - 1}, "version"),
        (without, "version"),
    ):
        with pytest.raises(ValueError, match=rf"Another version .*{name} differs"):
            env.load_state_dict(saved | {"arrays": changed})
    env.load_state_dict(saved)
    env.close()
