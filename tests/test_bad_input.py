"""Bad input of every kind: a clear error, and an environment that is usable or says that it must be reset."""

import numpy as np
import pytest

import scml_marl_env
from scml_marl_env.actions import END
from tests.players import random_masked

NAN = float("nan")
OPTIONS = {"days": 6, "opponents": "greedy"}
SEEDS = [
    -1,
    1.5,
    "1",
    NAN,
    None,
    [1],
    True,
    np.float64(2),
    np.array([1, 2]),
    {},
    b"1",
    float("inf"),
    (),
    complex(1),
    object,
]
ACTIONS = [
    -1, 3303, 10**9, 1.0, NAN, float("inf"), "1", None, [1], (1,), {}, True, np.bool_(True), np.float32(1), np.nan,
    np.array([1, 1]), np.array(1.0), b"1", -(10**20), object(),
]  # fmt: skip


def usable(env):
    """Plays on to the end of the episode, and one more."""
    rng = np.random.default_rng(0)
    for _ in range(2):
        while env.agents:
            env.step(dict(zip(env.possible_agents, random_masked(env.game, rng).tolist(), strict=True)))
        env.reset()
    return True


def everyone(env, action=None):
    """The masked random actions of all agents; `action` in place of the first active one's."""
    actions = dict(zip(env.possible_agents, random_masked(env.game, np.random.default_rng(1)).tolist(), strict=True))
    if action is not None:
        actions[env.possible_agents[int(np.flatnonzero(env.game.arrays.active)[0])]] = action
    return actions


@pytest.fixture(scope="module")
def env():
    environment = scml_marl_env.make("std-mini", **OPTIONS)
    yield environment
    environment.close()


@pytest.mark.parametrize("seed", [seed for seed in SEEDS if seed is not None])
def test_bad_seeds_are_refused_by_both_views(env, seed):
    env.reset(seed=1)
    before = env.state()
    with pytest.raises(ValueError, match="seed"):
        env.reset(seed=seed)
    assert (env.state() == before).all() and env.agents, "the episode goes on"
    with pytest.raises(ValueError, match="seed"):
        scml_marl_env.make_factory("std-mini", **OPTIONS).reset(seed=seed)


@pytest.mark.parametrize("action", [action for action in ACTIONS if action is not None])
def test_bad_actions_are_refused_and_nothing_happens(env, action):
    env.reset(seed=1)
    before = env.state()
    actions = everyone(env, action)
    with pytest.raises(ValueError, match="must be a whole number of 0"):
        env.step(actions)
    assert (env.state() == before).all()
    assert usable(env)


@pytest.mark.parametrize("actions", [None, 3, [0, 1], "actions", np.zeros(2), {1, 2}])
def test_actions_that_are_no_dict_are_refused(env, actions):
    env.reset(seed=1)
    with pytest.raises(ValueError, match="must be a dict"):
        env.step(actions)
    assert usable(env)


def test_missing_and_unknown_agents_are_named(env):
    env.reset(seed=1)
    actions = everyone(env)
    missing = dict(list(actions.items())[1:])
    with pytest.raises(ValueError, match=r"missing \['thread_0'\]"):
        env.step(missing)
    with pytest.raises(ValueError, match=r"unknown \['thread'\]"):
        env.step({**actions, "thread": 0})
    with pytest.raises(ValueError, match="missing"):
        env.step({})
    assert usable(env)


def test_calls_out_of_order_say_what_to_do():
    env = scml_marl_env.make("std-mini", **OPTIONS)
    for call in (lambda: env.step({}), lambda: env.step({"thread_0": 0})):
        with pytest.raises(RuntimeError, match="call reset"):
            call()
    env.reset(seed=1)
    assert usable(env)
    env.close()
    with pytest.raises(RuntimeError, match="call reset"):
        env.step({})
    env.close()
    env.reset(seed=1)
    assert usable(env)
    factory = scml_marl_env.make_factory("std-mini", **OPTIONS)
    with pytest.raises(RuntimeError, match="call reset"):
        factory.step(factory.action_space.sample())


def test_stepping_past_the_end_says_so():
    env = scml_marl_env.make("std-mini", max_cycles=3, **OPTIONS)
    env.reset(seed=1)
    while env.agents:
        actions = everyone(env)
        env.step(actions)
    with pytest.raises(RuntimeError, match="ended"):
        env.step(actions)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 2), (0,)])
def test_the_factory_view_refuses_wrong_shapes(shape):
    env = scml_marl_env.make_factory("std-mini", **OPTIONS)
    env.reset(seed=1)
    with pytest.raises(ValueError, match="each of the 2 slots"):
        env.step(np.zeros(shape, int))
    env.step(np.where(env.game.arrays.active, END, 0))


@pytest.mark.parametrize("action", [[0.5, 1], [NAN, 1], ["a", "b"], [-1, 0], [0, 3303], [True, False], [None, 0]])
def test_the_factory_view_refuses_wrong_values(action):
    env = scml_marl_env.make_factory("std-mini", **OPTIONS)
    env.reset(seed=1)
    with pytest.raises(ValueError, match="whole number"):
        env.step(np.array(action))
    env.step(np.where(env.game.arrays.active, END, 0))


def forbidden(env, rng):
    """One random action that the mask forbids, of an agent drawn at random."""
    n = int(rng.integers(len(env.possible_agents)))
    mask = env.game.grid.mask(env.game.arrays.bounds)[n]
    return env.possible_agents[n], int(rng.choice(np.flatnonzero(~mask)))


@pytest.mark.parametrize("seed", range(50))
def test_forbidden_actions_are_replaced_and_counted(env, seed):
    rng = np.random.default_rng(seed)
    _, infos = env.reset(seed=seed % 5)
    for _ in range(int(rng.integers(4))):
        *_, infos = env.step(everyone(env))
    actions = everyone(env)
    agent, action = forbidden(env, rng)
    actions[agent] = action
    active = infos[agent]["active"]
    *_, infos = env.step(actions)
    assert next(iter(infos.values()))["illegal"] == 1
    executed = infos[agent]["executed"] if agent in infos else 0
    assert executed != action
    assert (executed == 0) == (not active), "an active agent always answers"


@pytest.mark.parametrize("seed", range(20))
def test_strict_raises_on_forbidden_actions_and_nothing_happens(seed):
    env = scml_marl_env.make("std-mini", strict=True, **OPTIONS)
    env.reset(seed=seed % 5)
    actions = everyone(env)
    before = env.state()
    agent, action = forbidden(env, np.random.default_rng(seed))
    with pytest.raises(ValueError, match="forbidden by their mask"):
        env.step({**actions, agent: action})
    assert (env.state() == before).all()
    env.step(actions)


def test_unmasked_samples_never_break_the_environment(env):
    env.reset(seed=3)
    steps = 0
    while env.agents and steps < 200:
        env.step({agent: int(env.action_space(agent).sample()) for agent in env.agents})
        steps += 1
    assert steps > 5


@pytest.mark.parametrize("options", [{}, {"anything": 1}, {"options": 1}, None])
def test_reset_options_are_tolerated(env, options):
    env.reset(seed=1, options=options)
    assert env.agents
