"""rows="window": the same worlds as ever, of which only the team is shown that has to answer."""

import numpy as np
import pytest

import scml_marl_env
from scml_marl_env.vector import VectorEnv

WORLDS = 6
SHOWN = ("observation", "bounds", "active", "executed")


def pair(env_id: str, workers: int = 0, **options) -> tuple[VectorEnv, VectorEnv]:
    """The same worlds with all teams shown, and with one."""
    options = {"engine": "fast", "controlled": "all", **options}
    both = tuple(
        scml_marl_env.make_vector(env_id, WORLDS, 3, workers, rows=rows, **options) for rows in ("all", "window")
    )
    for env in both:
        env.reset()
    return both


def rows_of(env: VectorEnv, array: np.ndarray, team: np.ndarray) -> np.ndarray:
    """The rows of one team of each world, from arrays of all teams."""
    grouped = array.reshape(env.n_worlds, env.n_teams, -1, *array.shape[2:])
    return grouped[np.arange(env.n_worlds), team]


def drawn(env: VectorEnv, rng: np.random.Generator) -> np.ndarray:
    """Legal actions, drawn evenly, of an environment that shows one team."""
    noise = rng.random((env.n_worlds, env.n_agents, env.action_grid.n_actions))
    return np.where(env.action_grid.mask(env.bounds), noise, -1.0).argmax(-1)


def spread(env: VectorEnv, actions: np.ndarray) -> np.ndarray:
    """The same actions for an environment that shows all teams."""
    every = np.zeros((env.n_worlds, env.n_teams, actions.shape[1]), np.int64)
    every[np.arange(env.n_worlds), env.team] = actions
    return every.reshape(env.n_worlds, -1)


@pytest.mark.parametrize(
    ("env_id", "options"),
    [
        ("std-mini", {}),
        ("oneshot-mini", {}),
        ("std-mini", {"privileged_state": True, "observation": ("history", "broadcast")}),
        ("std-mini", {"controlled": 2, "inventory": "conserving", "shield": "covered"}),
        ("std-mini", {"factories_per_level": (1, 5), "days": (3, 5)}),
    ],
)
def test_a_team_sees_the_same(env_id, options):
    """Step by step through several episodes: rows, results and ends are those of the environment with all rows."""
    every, window = pair(env_id, **options)
    rng, teams = np.random.default_rng(0), set()
    assert window.n_agents * every.n_teams == every.n_agents and window.n_teams == every.n_teams
    while len(window.episodes) < 2 * WORLDS:
        assert (every.team == window.team).all()
        teams |= set(window.team.tolist())
        for name in SHOWN[:3]:
            np.testing.assert_array_equal(rows_of(every, getattr(every, name), window.team), getattr(window, name))
        np.testing.assert_array_equal(rows_of(every, every.state, window.team), window.state)
        answered = window.team.copy()
        actions = drawn(window, rng)
        every.step(spread(every, actions))
        window.step(actions)
        np.testing.assert_array_equal(rows_of(every, every.executed, answered), window.executed)
        for name in ("reward", "elapsed", "terminated", "truncated"):
            np.testing.assert_array_equal(getattr(every, name), getattr(window, name))
    assert window.episodes == every.episodes
    assert len(teams) >= min(every.n_teams, 3)


def test_everyone_is_what_refresh_shows():
    """And looking at everyone changes nothing of what is shown."""
    every, window = pair("std-mini")
    rng = np.random.default_rng(1)
    for _ in range(200):
        actions = drawn(window, rng)
        every.step(spread(every, actions))
        window.step(actions)
    before = [getattr(window, name).copy() for name in (*SHOWN, "state")]
    observation, state = window.everyone()
    for name, array in zip((*SHOWN, "state"), before, strict=True):
        np.testing.assert_array_equal(getattr(window, name), array)
    every.refresh()
    np.testing.assert_array_equal(observation, every.observation)
    np.testing.assert_array_equal(state, every.state)
    for one, other in zip(every.everyone(), (observation, state), strict=True):
        np.testing.assert_array_equal(one, other)


def test_threads_change_nothing():
    """Nor does the number of cores."""
    _, alone = pair("std-mini")
    _, shared = pair("std-mini", workers=2)
    for seed in range(150):
        actions = drawn(alone, np.random.default_rng(seed))
        for env in (alone, shared):
            env.step(actions)
        for name in (*SHOWN, "state", "reward", "team"):
            np.testing.assert_array_equal(getattr(alone, name), getattr(shared, name))
    shared.close()


def test_a_saved_moment_goes_on_as_it_did():
    """With another number of workers, too; and a state of all rows is refused, with the reason."""
    every, window = pair("std-mini")
    rng = np.random.default_rng(2)
    for _ in range(40):
        window.step(drawn(window, rng))
    saved, chosen, seen = window.state_dict(), [], []
    for _ in range(60):
        chosen.append(drawn(window, rng))
        window.step(chosen[-1])
        seen.append([getattr(window, name).copy() for name in (*SHOWN, "state", "reward")])
    _, other = pair("std-mini", workers=3)
    other.load_state_dict(saved)
    for actions, arrays in zip(chosen, seen, strict=True):
        other.step(actions)
        for name, array in zip((*SHOWN, "state", "reward"), arrays, strict=True):
            np.testing.assert_array_equal(getattr(other, name), array)
    with pytest.raises(ValueError, match="rows='window'"):
        every.load_state_dict(saved)


@pytest.mark.parametrize("options", [{"engine": "scml"}, {"engine": "fast", "max_cycles": 10}])
def test_what_it_cannot_do_is_said(options):
    """Cut episodes need a last view, which is not kept."""
    with pytest.raises(ValueError, match="rows='window'"):
        scml_marl_env.make_vector("std-mini", 1, rows="window", **options)


def test_other_words_are_refused():
    """By name."""
    with pytest.raises(ValueError, match="'all' or 'window'"):
        scml_marl_env.make_vector("std-mini", 1, rows="some", engine="fast")


@pytest.mark.parametrize("engine", ["fast", "scml"])
def test_the_team_is_told_where_all_are_shown(engine):
    """By both engines: the active agents are its own."""
    env = scml_marl_env.make_vector("std-mini", 2, 0, engine=engine, controlled=2)
    env.reset()
    for _ in range(20):
        agents = np.nonzero(env.active)
        assert (agents[1] // (env.n_agents // env.n_teams) == env.team[agents[0]]).all()
        env.step(np.where(env.active, 1, 0))
    env.close()


def test_of_one_team_there_is_nothing_to_choose():
    """All rows are its own, and its last views are kept."""
    env = scml_marl_env.make_vector("std-mini", 2, rows="window", engine="fast")
    env.reset()
    assert env.rows == "all" and len(env.final_observation) == 2
