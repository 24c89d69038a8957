"""Policies as opponents: the same episodes on both engines, in one world or many, whatever is played beside them."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from pettingzoo.test import parallel_api_test

import scml_marl_env
from scml_marl_env import checkpoints, opponents
from scml_marl_env.array_env import ArrayEnv
from scml_marl_env.layout import Layout
from scml_marl_env.policy_opponent import PolicyOpponent
from scml_marl_env.registry import config_of, fast_engine_plays
from scml_marl_env.seat import seat_scores
from scml_marl_env.tournament.competitors import competitors
from scml_marl_env.tournament.plan import Tournament, jobs
from scml_marl_env.tournament.play import play
from scml_marl_env.vector import VectorEnv
from scml_marl_env.vector_worker import Shard, VectorArrays
from tests.players import random_masked
from tests.test_policy_agent import save_checkpoint

OWN = {
    "std": {"shield": "off", "useful": True, "observation": ("macro", "thread"), "price_levels": 7, "history": 0},
    "oneshot": {"shield": "covered", "observation": ("history", "broadcast"), "history": 5},
}
"""Options of a policy that are not those of the environments it plays in."""


@pytest.fixture(scope="module")
def policies(tmp_path_factory):
    """Folders of checkpoints of fresh learners: `std` and `oneshot`, and `std-own` and `oneshot-own` with OWN."""
    folder = tmp_path_factory.mktemp("policies")
    for track in ("std", "oneshot"):
        save_checkpoint(folder / track, f"{track}-mini")
        save_checkpoint(folder / f"{track}-own", f"{track}-mini", **OWN[track])
    return {each.name: str(each) for each in folder.iterdir()}


def same_episode(config, seed):
    """Plays a world on both engines with the same random actions; returns the scores of all its factories."""
    real, fast = ArrayEnv(config), ArrayEnv(replace(config, engine="fast"))
    rng = np.random.default_rng(seed)
    real.reset(seed)
    fast.reset(seed)
    while real.window is not None:
        for name, theirs, ours in zip(real.arrays._fields, real.arrays, fast.arrays, strict=True):
            assert (theirs == ours).all(), (real.n_steps, name)
        actions = random_masked(real, rng)
        real.step(actions)
        fast.step(actions)
    assert fast.window is None and real.n_steps > 3
    assert real.statistics() == fast.statistics()
    scores = list(real.engine.scores().values())
    assert scores == list(fast.engine.scores().values())
    real.close()
    return scores


@pytest.mark.parametrize(
    ("env_id", "names", "options"),
    [
        ("std-mini", ["std"], {}),
        ("std-mini", ["std", "std-own"], {"reward": "potential"}),
        ("std-mini", ["std-own"], {"controlled": 2, "inventory": "conserving"}),
        ("oneshot-mini", ["oneshot", "oneshot-own"], {"privileged_state": True}),
    ],
)
def test_the_same_episode_on_both_engines(policies, env_id, names, options):
    mix = {policies[name]: 1 for name in names} | {"prudent": 0.3}
    config = config_of(env_id, days=12, opponents=mix, **options)
    scores = [same_episode(config, seed) for seed in range(3)]
    assert len(set(np.concatenate(scores))) > 6


def test_policies_that_cannot_answer_row_by_row_play_on_the_real_engine_only(tmp_path):
    folder = save_checkpoint(tmp_path / "fine", "std-mini", price_levels=70)
    with pytest.raises(ValueError, match="cannot answer: use engine='scml'"):
        config_of("std-mini", engine="fast", opponents=str(folder))
    env = ArrayEnv(config_of("std-mini", days=4, opponents=str(folder)))
    rng = np.random.default_rng(0)
    env.reset(0)
    while env.window is not None:
        env.step(random_masked(env, rng))
    assert env.statistics()["opponent_exceptions"] == 0
    players = [agent.adapted_object for agent in env.engine.world.agents.values()]
    windows = [player.tournament_report()["windows"] for player in players if isinstance(player, PolicyOpponent)]
    assert len(windows) > 1 and min(windows) > 0
    for player in players:
        if isinstance(player, PolicyOpponent):
            player._note("range", "of a test", 2)
    assert env.statistics()["opponent_exceptions"] == 2 * len(windows)
    env.close()


def test_the_world_goes_on_when_a_policy_is_bankrupt(policies):
    config = config_of("std-mini", days=200, opponents=f"checkpoint:{policies['std-own']}")
    assert min(same_episode(config, 3)) < 0


def test_views_of_such_environments_pass_the_official_tests(policies):
    options = {"engine": "fast", "days": 6, "opponents": policies["std"]}
    parallel_api_test(scml_marl_env.make("std-mini", **options), num_cycles=60)
    check_env(scml_marl_env.make_factory("std-mini", **options), skip_render_check=True)


def test_many_worlds_are_many_single_ones(policies):
    """Bit for bit what single environments play, in whatever number of worlds and threads."""
    config = config_of(
        "std-mini", engine="fast", days=5, opponents={policies["std"]: 1, policies["std-own"]: 1, "default": 1}
    )
    layout, n_worlds = Layout(config), 3
    arrays = VectorArrays.over(bytearray(VectorArrays.size_of(layout, n_worlds)), layout, n_worlds)
    shard = Shard(config, arrays, range(n_worlds))
    arrays.stepped[:] = True
    shard.begin(7, dict.fromkeys(range(n_worlds), 0))
    envs = [VectorEnv(config, *sizes) for sizes in ((n_worlds, 7), (5, 7, 2), (1, 7))]
    for env in envs:
        env.reset(7)
    rng, ended = np.random.default_rng(0), 0
    for step in range(120):
        masks, actions = layout.grid.mask(arrays.now.bounds), np.zeros((n_worlds, layout.n_agents), np.int64)
        for e, n in np.argwhere(arrays.now.active):
            actions[e, n] = rng.choice(np.flatnonzero(masks[e, n]))
        for env in envs:
            n = min(n_worlds, env.n_worlds)
            for name in ("observation", "state", "bounds", "active", "reward", "terminated"):
                assert (getattr(env, name)[:n] == getattr(arrays.now, name)[:n]).all(), (step, name)
            mine = np.where(env.active, 1, 0)
            mine[:n] = actions[:n]
            env.step(mine)
        arrays.actions[:] = actions
        ended += len(shard.step())
    assert ended >= 6
    for env in envs:
        env.close()


def test_a_saved_moment_goes_on_as_it_would_have(policies):
    config = config_of("std-mini", engine="fast", days=6, opponents={policies["std"]: 1, "default": 1})
    one, two = VectorEnv(config, 4, seed=1), VectorEnv(config, 4, seed=99)
    one.reset(1)
    two.reset(5)

    def end_or_offer(env):
        masks = env.action_grid.mask(env.bounds)
        return np.where(env.active, np.where(masks[..., 3:].any(-1), 3 + masks[..., 3:].argmax(-1), 1), 0)

    for _ in range(15):
        one.step(end_or_offer(one))
    two.load_state_dict(one.state_dict())
    one.episodes.clear()
    for _ in range(150):
        for name in ("observation", "state", "bounds", "active"):
            assert (getattr(one, name) == getattr(two, name)).all(), name
        one.step(end_or_offer(one))
        two.step(end_or_offer(two))
    assert one.episodes == two.episodes and len(one.episodes) >= 3


def test_worlds_that_rest_stay_as_they_are(policies):
    env = scml_marl_env.make_vector("std-mini", 3, engine="fast", days=4, opponents=policies["std"])
    env.reset(1)
    before = [env.observation[1].copy(), env.active[1].copy()]
    for _ in range(5):
        env.step(np.where(env.active, 1, 0), np.array([True, False, True]))
        assert not env.reward[1].any() and not env.elapsed[1].any() and not env.terminated[1].any()
        assert (env.observation[1] == before[0]).all() and (env.active[1] == before[1]).all()


def test_worker_processes_of_the_real_engine_play_them(policies):
    options = {"days": 4, "opponents": policies["std"]}
    with scml_marl_env.make_vector("std-mini", 1, 3, workers=1, **options) as env:
        env.reset(3)
        fast = scml_marl_env.make_vector("std-mini", 1, 3, engine="fast", **options)
        fast.reset(3)
        for _ in range(6):
            assert (env.observation == fast.observation).all() and (env.reward == fast.reward).all()
            env.step(np.where(env.active, 1, 0))
            fast.step(np.where(fast.active, 1, 0))


def test_tournaments_and_yardsticks_meet_them(policies):
    tournament = Tournament(
        env="std-mini", options={"days": 4, "opponents": policies["std"]}, competitors=competitors(["nothing"], "std"),
        mode="swap", worlds=1,
    )  # fmt: skip
    (job,) = jobs(tournament)
    assert play(tournament, job).seats[0].measures["score"] < 1
    config = config_of("std-mini", engine="fast", days=5, opponents=policies["std"])
    scores = seat_scores(config, "nothing", range(2))
    assert scores.shape == (2, 1) and (scores < 1).all()


def test_folders_and_runs_are_named_in_several_ways(policies, tmp_path):
    run = tmp_path / "run"
    for update in ("update_1", "update_2"):
        (run / "checkpoints").mkdir(parents=True, exist_ok=True)
        shutil.copytree(policies["std"], run / "checkpoints" / update)
    found = [opponents.pool(spec, "std", 2025) for spec in (policies["std"], f"checkpoint:{policies['std']}", str(run))]
    folders = [policies["std"], policies["std"], run / "checkpoints" / "update_2"]
    assert found == [{f"checkpoint:{folder}": 1.0} for folder in folders]
    assert fast_engine_plays("std-mini", opponents={"default": 1, policies["std"]: 1})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"opponents": "checkpoint:/nowhere"}, "no checkpoint: it holds no meta.json"),
        ({"opponents": "./nowhere"}, "no checkpoint: it holds no meta.json"),
        ({"opponents": "oneshot"}, "trained on the oneshot track"),
        ({"opponents": "std", "engine": "fast", "slots": 5}, "slots=2, and here is slots=5"),
        ({"opponents": "std", "engine": "fast", "history": 3}, "history=5, and here is history=3"),
        ({"opponents": "champions-cloned"}, "is empty: of clones there are none yet"),
        ({"opponents": "penguin-clone"}, "no clone 'penguin-clone' .* --algo bc"),
    ],
)
def test_what_cannot_be_played_is_refused_with_what_would_be_right(policies, options, message, monkeypatch, tmp_path):
    monkeypatch.setattr(checkpoints, "CLONES", tmp_path)
    options = options | {"opponents": policies.get(options["opponents"], options["opponents"])}
    with pytest.raises(ValueError, match=message):
        config_of("std-mini", **options)
    if "engine" in options:
        assert not fast_engine_plays("std-mini", **{name: x for name, x in options.items() if name != "engine"})


@pytest.mark.parametrize(("env_id", "n"), [("std-2025", 2), ("oneshot-2025", 2)])
def test_the_clones_of_the_package_play(env_id, n):
    assert len(checkpoints.clones(env_id.partition("-")[0])) == n
    config = config_of(env_id, days=6, opponents="champions-cloned")
    config_of(env_id, days=6, opponents="champions-cloned", engine="fast")  # is not refused
    assert len(set(same_episode(config, 0))) > n


def test_clones_are_a_pool_opponents_and_competitors(policies, monkeypatch, tmp_path):
    (tmp_path / "std").mkdir()
    for expert, policy in (("penguin", "std"), ("ax", "std-own")):
        (tmp_path / "std" / expert).symlink_to(policies[policy])
    monkeypatch.setattr(checkpoints, "CLONES", tmp_path)
    assert {"champions-cloned", "penguin-clone", "ax-clone"} <= set(opponents.names("std"))
    assert len(opponents.pool("champions-cloned", "std", 2025)) == 2
    config = config_of("std-mini", days=6, opponents={"champions-cloned": 2, "penguin-clone": 1, "default": 1})
    same_episode(replace(config, opponents={"champions-cloned": 1}), 1)
    (clone,) = competitors(["penguin-clone"], "std")
    assert clone.name == "penguin-clone" and clone.params["path"] == policies["std"]
    with pytest.raises(ValueError, match="is a pool"):
        competitors(["champions-cloned"], "std")
