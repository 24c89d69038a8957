"""The real engine: windows, opponents, errors, and nothing left behind."""

import gc
import os
import subprocess
import sys
import threading
import tracemalloc

import greenlet
import numpy as np
import pytest

import scml_marl_env
from scml_marl_env import champions
from scml_marl_env.actions import ACCEPT, END
from scml_marl_env.array_env import ArrayEnv
from scml_marl_env.registry import config_of
from tests.players import Dying, Failing, Patient, greedy, play, random_masked


def environment(env_id="std-mini", **options):
    return ArrayEnv(config_of(env_id, **options))


def masked(rng, **how):
    return lambda game: random_masked(game, rng, **how)


def greenlets():
    """Living greenlets, without the main one of each thread."""
    found = [item for item in gc.get_objects() if type(item) is greenlet.greenlet]
    return sum(not item.dead and item.parent is not None for item in found)


@pytest.mark.parametrize(
    ("env_id", "options"),
    [
        ("std-mini", {"processes": 3, "level": level, "opponents": Patient}) for level in ("first", "middle", "last")
    ] + [("oneshot-mini", {"level": level, "opponents": Patient}) for level in (0, 1)],
)  # fmt: skip
def test_a_factory_is_first_mover_in_all_its_threads_or_in_none(env_id, options):
    game = environment(env_id, days=4, **options)
    game.reset(0)
    windows = 0
    while game.window is not None:
        view = game.engine.view
        on_turn = view.on_turn[0]
        assert on_turn.any() and len(set(view.round[0, on_turn])) == 1, "all threads of a window are in one round"
        opening = view.first_mover[0] == 1 and not view.sent[0, on_turn].any()
        assert view.has_offer[0, on_turn].all() != opening
        level, n_levels = view.level[0], view.n_levels[0]
        assert view.is_buy[0, on_turn].any() == (level > 0) or not opening
        assert view.first_mover[0] == ((n_levels - 1 - level) % 2 == 0)
        game.step(random_masked(game, np.random.default_rng(windows), p_end=0.0, p_accept=0.0))
        windows += 1
    # 4 days of 20 rounds; the second mover's threads may be taken by an accepting opponent in fewer
    assert windows >= 4 * 9


def test_a_window_of_each_round_when_nobody_agrees():
    game = environment("oneshot-mini", days=3, opponents="tests.players:Stubborn")
    steps, decisions = play(game, 1, masked(np.random.default_rng(0), p_accept=0.0, p_end=0.0))
    assert steps == 3 * 20 and decisions == 3 * 20 * 2


@pytest.mark.parametrize("controlled", [2, 3, "all"])
def test_several_factories_get_their_windows_in_turn_and_the_same_world(controlled):
    game = environment(days=6, processes=3, controlled=controlled, opponents="greedy")
    windows = set()
    game.reset(4)
    while game.window is not None:
        windows.add(game.window)
        game.step(random_masked(game, np.random.default_rng(len(windows))))
    assert windows == set(range(6 if controlled == "all" else controlled))
    assert game.statistics()["days"] == 6


@pytest.mark.parametrize(
    "opponents", ["default", "greedy", "random", "sync-random", "nothing", {"greedy": 2, "default": 1}]
)
@pytest.mark.parametrize("env_id", ["std-mini", "oneshot-mini"])
def test_built_in_opponents_play(env_id, opponents):
    game = environment(env_id, days=5, opponents=opponents)
    play(game, 2, greedy)
    assert game.statistics()["days"] == 5 and game.engine.n_exceptions() == 0


@pytest.mark.parametrize(
    ("env_id", "name"),
    [("std-mini", "penguin"), ("std-mini", "as0"), ("oneshot-mini", "rchan"), ("oneshot-mini", "champions")],
)
def test_competition_agents_play(env_id, name):
    pytest.importorskip("scml_agents")
    game = environment(env_id, days=5, opponents=name)
    play(game, 4, greedy)
    assert game.statistics()["days"] == 5


CHAMPIONS = [(f"{each.track}-mini", each.name) for each in champions.ALL if each.in_pool]


@pytest.mark.slow
@pytest.mark.parametrize(("env_id", "name"), CHAMPIONS)
def test_every_champion_plays_without_an_exception(env_id, name):
    pytest.importorskip("scml_agents")
    options = {"processes": 3} if env_id == "std-mini" else {}
    game = environment(env_id, days=8, opponents=name, **options)
    play(game, 1, greedy)
    assert game.statistics()["days"] == 8 and game.engine.n_exceptions() == 0 and game.world_error is None


def test_an_exception_inside_an_opponent_breaks_its_thread_and_is_told():
    env = scml_marl_env.make("std-mini", days=6, opponents=Failing)
    env.reset(seed=1)
    rng = np.random.default_rng(0)
    while env.agents:
        stepped = list(env.agents)
        actions = random_masked(env.game, rng, p_accept=0.0, p_end=0.0)
        *_, truncated, infos = env.step(dict(zip(env.possible_agents, actions.tolist(), strict=True)))
    episode = env.statistics()
    assert infos[stepped[0]]["opponent_exceptions"] == episode["opponent_exceptions"]
    assert episode["days"] == 6 and episode["opponent_exceptions"] > 0 and episode["world_error"] is None
    assert not any(truncated.values())


def test_a_world_that_fails_is_truncated_and_told():
    env = scml_marl_env.make("std-mini", days=6, opponents=Dying)
    env.reset(seed=1)
    rng = np.random.default_rng(0)
    while env.agents:
        stepped = list(env.agents)
        actions = random_masked(env.game, rng)
        *_, truncated, infos = env.step(dict(zip(env.possible_agents, actions.tolist(), strict=True)))
    episode = env.statistics()
    assert infos[stepped[0]]["world_failed"] == (episode["world_error"] is not None)
    if episode["world_error"] is None:  # SCML's rule took it as the agent's exception
        assert episode["opponent_exceptions"] > 0
    else:
        assert "the world cannot go on" in episode["world_error"] and all(truncated.values())
    env.reset(seed=2)
    assert env.agents


def test_an_error_of_ours_is_not_swallowed_by_scml(monkeypatch):
    from scml_marl_env.awi_view import AwiView

    game = environment(days=6, opponents=Patient)
    game.reset(1)

    def broken(self, *args):
        raise KeyError("ours")

    monkeypatch.setattr(AwiView, "see", broken)
    with pytest.raises(RuntimeError, match="failed inside the simulation") as error:
        for _ in range(30):
            game.step(random_masked(game, np.random.default_rng(0), p_end=0.0, p_accept=0.0))
    assert isinstance(error.value.__cause__, KeyError)
    monkeypatch.undo()
    play(game, 1, greedy)
    assert game.statistics()["days"] == 6


def test_a_bankrupt_factory_is_terminated_and_the_others_play_on():
    game = environment(
        days=40, processes=3, controlled=3, level=(1, 0, 1), shield="off", opponents="tests.players:Generous"
    )
    buyer = 0

    def ruin(game):
        """The first factory takes all the inputs it is offered and sells nothing; the others end their negotiations."""
        view, actions = game.engine.view, np.where(game.arrays.active, END, 0)
        for slot in np.flatnonzero(view.on_turn[buyer] & view.is_buy[buyer] & view.has_offer[buyer]):
            actions[slot] = ACCEPT
        return actions

    game.reset(3)
    bankrupt, windows_after, paid_after = False, 0, 0.0
    while game.window is not None:
        game.step(ruin(game))
        if game.arrays.terminated[buyer] and not bankrupt:
            bankrupt, reward = True, game.arrays.reward[buyer]
            assert game.window is not None
            assert game.engine.is_bankrupt(buyer) and game.engine.results[buyer][-1].balance < 0
            assert not game.arrays.active[game.agents_of(buyer)].any()
            total = game.books[buyer].total_profit
        elif bankrupt:
            windows_after += 1
            paid_after += abs(game.arrays.reward[buyer])
            assert not (game.arrays.terminated[buyer] and game.window is not None)
    assert bankrupt and windows_after > 5 and paid_after == 0 and reward < 0
    assert total == game.books[buyer].total_profit < -1
    assert game.statistics()["bankrupt"][:2] == [True, False]


def test_dropping_an_environment_mid_episode_frees_its_world():
    for _ in range(3):
        scml_marl_env.make("std-mini", days=5).reset(seed=0)
    gc.collect()
    before, threads = greenlets(), threading.active_count()
    for seed in range(10):
        game = environment(days=5)
        game.reset(seed)
        game.step(greedy(game))
    game.close()
    del game
    gc.collect()
    assert greenlets() <= before and threading.active_count() == threads


def test_memory_does_not_grow_with_episodes():
    game = environment(days=5, opponents="greedy")
    for seed in range(3):
        play(game, seed, greedy)
    gc.collect()
    tracemalloc.start()
    try:
        play(game, 0, greedy)
        gc.collect()
        first = tracemalloc.get_traced_memory()[0]
        for seed in range(15):
            play(game, seed, greedy)
        play(game, 0, greedy)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - first
    finally:
        tracemalloc.stop()
    assert grown < 15 * 20_000, f"{grown} bytes after 15 episodes"


def test_nothing_is_written_or_printed(tmp_path):
    code = (
        "from tests.test_engine import environment, play, greedy\n"
        "for env_id in ('std-mini', 'oneshot-mini'):\n"
        "    play(environment(env_id, days=5), 1, greedy)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "HOME": str(tmp_path), "TMPDIR": str(tmp_path), "NEGMAS_LOG_BASE": str(tmp_path / "logs")},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert run.stdout == "" and run.stderr == ""
    written = [
        path
        for path in tmp_path.rglob("*")
        if path.is_file() and "numba" not in str(path) and "matplotlib" not in str(path)
    ]
    assert written == []


@pytest.mark.slow
def test_a_thousand_episodes_leak_nothing():
    game = environment(days=4, opponents="default")
    sizes = []
    for seed in range(1000):
        play(game, seed, greedy)
        if seed in (200, 999):
            gc.collect()
            with open("/proc/self/statm") as statm:
                sizes.append(int(statm.read().split()[1]) * 4096)
    game.close()
    gc.collect()
    assert greenlets() == 0 and threading.active_count() == 1
    assert sizes[1] - sizes[0] < 40e6, f"{(sizes[1] - sizes[0]) / 1e6:.1f} MB over 800 episodes"
