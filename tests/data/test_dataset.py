"""A dataset gives back what was written, lazily, and by the names of the rollout buffer."""

import json
import subprocess
import sys

import numpy as np
import pytest

import scml_marl_env
from algorithms.buffer import RolloutBuffer
from algorithms.checkpoint import describe_grid
from algorithms.returns import gae
from scml_marl_env.actions import END, OFFER
from scml_marl_env.data.dataset import ARRAYS, Dataset, DatasetWriter, from_rollout, split_of
from scml_marl_env.layout import Layout
from scml_marl_env.registry import config_of
from tests.data.made import made_dataset, made_steps

CONFIG = config_of("std-mini")


def test_what_is_written_is_read(tmp_path):
    written = made_dataset(tmp_path / "data", CONFIG)
    data = Dataset(tmp_path / "data")
    assert data.n_episodes == len(written) == 20
    assert data.n_steps == 20 * 30
    assert data.n_decisions == sum(len(steps["action"]) for steps, _ in written)
    assert data.config == CONFIG
    for name, array in ARRAYS.items():
        assert getattr(data, name).dtype == array.dtype
        assert isinstance(getattr(data, name), np.memmap)
        extra = name in ("first_decision", "first_step")
        assert len(getattr(data, name)) == data.manifest["arrays"][name]["shape"][0] + extra
    for p, (steps, about) in enumerate(written):
        read = data.episode(p)
        assert set(read) == set(steps)
        for name, array in steps.items():
            assert np.array_equal(read[name], array), name
        assert data.about(p) == about | {"split": split_of(about["world_seed"])}
        assert np.array_equal(data.action[data.decisions_of([p])], steps["action"])
        assert np.array_equal(data.reward[data.steps_of([p])], steps["reward"])
    assert data.legal.all()


def test_the_manifest_describes_the_grid_as_checkpoints_do(tmp_path):
    made_dataset(tmp_path / "data", CONFIG)
    data = Dataset(tmp_path / "data")
    assert data.manifest["grid"] == json.loads(json.dumps(describe_grid(Layout(CONFIG).grid)))
    assert data.observation_names == Layout(CONFIG).observation_names
    assert data.state_names == Layout(CONFIG).state_names


def test_episodes_are_chosen_by_split_and_expert(tmp_path):
    made_dataset(tmp_path / "data", CONFIG)
    data = Dataset(tmp_path / "data")
    splits = {name: set(data.episodes_of(name).tolist()) for name in ("train", "validation", "test")}
    assert [len(chosen) for chosen in splits.values()] == [16, 2, 2]
    assert set().union(*splits.values()) == set(range(20))
    worlds = [set(data.world_seed[sorted(chosen)].tolist()) for chosen in splits.values()]
    assert not worlds[0] & worlds[1] and not worlds[0] & worlds[2] and not worlds[1] & worlds[2]
    assert data.episodes_of(expert="prudent").tolist() == list(range(1, 20, 2))
    assert len(data.episodes_of("train", "penguin")) == 8
    with pytest.raises(ValueError, match="No split 'tset'"):
        data.episodes_of("tset")
    with pytest.raises(ValueError, match="No expert 'penguins'"):
        data.episodes_of(expert="penguins")


def test_an_action_that_the_bounds_forbid_is_not_legal(tmp_path):
    steps = made_steps(CONFIG, np.random.default_rng(1))
    grid = Layout(CONFIG).grid
    steps["action"] = np.random.default_rng(2).integers(END, grid.n_actions, len(steps["action"])).astype(np.int32)
    with DatasetWriter(tmp_path / "data", CONFIG, ["made"]) as writer:
        writer.episode(steps, world_seed=3, factory=0, level=0, expert=0, n_days=6, score=1.0)
    data = Dataset(tmp_path / "data")
    expected = grid.mask(steps["bounds"])[np.arange(len(steps["action"])), steps["action"]]
    assert np.array_equal(data.legal, expected) and 0 < expected.sum() < len(expected)
    (group,) = [g for g in data.manifest["card"]["groups"] if g["expert"] == "made" and g["level"] == "first"]
    assert group["outside_l1"]["all"] == 1 - expected.mean()
    offers = steps["action"] >= OFFER
    assert group["share"]["offer"] == offers.mean()
    assert group["outside_l1"]["offer"] == 1 - expected[offers].mean()


def test_a_folder_appears_complete_or_not_at_all(tmp_path):
    with pytest.raises(RuntimeError), DatasetWriter(tmp_path / "data", CONFIG, ["made"]) as writer:
        writer.episode(
            made_steps(CONFIG, np.random.default_rng(1)),
            world_seed=3,
            factory=0,
            level=0,
            expert=0,
            n_days=6,
            score=1.0,
        )
        raise RuntimeError
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="no dataset"):
        Dataset(tmp_path / "data")
    with pytest.raises(ValueError, match="at least one episode"):
        DatasetWriter(tmp_path / "data", CONFIG, ["made"]).close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reward": np.zeros(3, np.float32)}, "reward has shape"),
        ({"action": None}, "has the arrays"),
        ({"bounds": None}, "has the arrays"),
        ({"slot": np.full(1, 40000)}, "slot"),
        ({"answers": np.zeros(30, np.int64)}, "at least one"),
        ({"level": 7}, "level is an index in 0..2, got 7"),
        ({"expert": 1}, "expert is an index in 0..0, got 1"),
        ({"expert": -1}, "expert is an index"),
        ({"split": 9}, "split is an index"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path, change, message):
    steps = made_steps(CONFIG, np.random.default_rng(1))
    about = {"world_seed": 3, "factory": 0, "level": 0, "expert": 0, "n_days": 6, "score": 1.0}
    bad = steps | {name: array for name, array in change.items() if name not in ("level", "expert", "split")}
    wrong = about | {name: change[name] for name in change if name not in bad}
    if change.get("slot") is not None:
        bad["slot"] = np.full(len(steps["slot"]), 40000)
    with DatasetWriter(tmp_path / "data", CONFIG, ["made"]) as writer:
        with pytest.raises(ValueError, match=message):
            writer.episode({name: array for name, array in bad.items() if array is not None}, **wrong)
        writer.episode(steps, **about)
    data = Dataset(tmp_path / "data")
    assert data.n_steps == 30 and data.n_episodes == data.manifest["card"]["episodes"] == 1


def test_a_dataset_is_replaced_even_after_a_writer_that_was_killed_while_it_did(tmp_path):
    made_dataset(tmp_path / "data", CONFIG, seeds=range(1))
    (tmp_path / "data.old").mkdir()
    (tmp_path / "data.old" / "level.npy").touch()
    made_dataset(tmp_path / "data", CONFIG, seeds=range(2))
    assert Dataset(tmp_path / "data").n_episodes == 4 and [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_folder_that_is_no_dataset_is_not_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="is there and no dataset"):
        DatasetWriter(tmp_path, CONFIG, ["made"])
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def played(n_worlds=3, n_steps=400, **options):
    """A rollout of random players in the fast engine, and the env."""
    env = scml_marl_env.make_vector("std-mini", n_worlds, 5, engine="fast", days=8, **options)
    env.reset()
    buffer, rng = RolloutBuffer(n_steps, env), np.random.default_rng(0)
    for _ in range(n_steps):
        buffer.observe(env)
        masks = env.action_grid.mask(env.bounds)
        action = np.where(masks, rng.random(masks.shape), -1.0).argmax(-1) * env.active
        buffer.choose(action, np.zeros(action.shape, np.float32))
        env.step(action)
        buffer.receive(env)
    buffer.finish(env)
    return buffer, env


def test_an_online_rollout_becomes_episodes_and_comes_back(tmp_path):
    buffer, env = played()
    grid, config = env.action_grid, config_of("std-mini", engine="fast", days=8)
    pieces = list(from_rollout(buffer, grid))
    with DatasetWriter(tmp_path / "data", config, ["random"]) as writer:
        for piece in pieces:
            writer.episode(
                piece.steps, world_seed=piece.world, factory=0, level=0, expert=0, n_days=8, score=1 + piece.total
            )
    data = Dataset(tmp_path / "data")
    assert data.legal.all()
    assert data.n_decisions == buffer.active.sum()
    assert data.terminated.sum() == buffer.terminated.sum() > 10
    scores = [episode["score"][0] for episode in env.episodes]
    whole = [p for p, piece in enumerate(pieces) if piece.steps["terminated"].any() and piece.start > 0]
    assert len(whole) > 10
    for p in whole:
        assert np.isclose(scores, data.score[p], atol=1e-6).any()
    compared = 0
    for p, piece in enumerate(pieces):
        back, span = data.rollout(p), slice(piece.start, piece.start + len(piece.steps["reward"]))
        active = buffer.active[span, piece.world]
        assert np.array_equal(back.active[:, 0], active)
        for name in ("observation", "bounds", "executed"):
            mine, theirs = getattr(back, name)[:, 0], getattr(buffer, name)[span, piece.world]
            assert np.array_equal(mine[active], theirs[active]), name
        only_wait = grid.mask(back.bounds[:, 0][~active])
        assert only_wait[:, 0].all() and only_wait.sum() == len(only_wait)
        for name in ("state", "reward", "elapsed", "terminated"):
            assert np.array_equal(getattr(back, name)[:, 0], getattr(buffer, name)[span, piece.world]), name
        compared += len(active)
    assert compared == buffer.n_steps * buffer.n_worlds


def test_a_team_earns_at_its_own_steps_what_came_while_others_decided():
    buffer, env = played(controlled=2)
    pieces = list(from_rollout(buffer, env.action_grid))
    assert {piece.team for piece in pieces} == {0, 1}
    for piece in pieces:
        own = buffer.active[:, piece.world, piece.team * 2 : piece.team * 2 + 2].any(1)
        ended = (buffer.terminated | buffer.truncated)[piece.start :, piece.world, piece.team]
        last = piece.start + (int(ended.argmax()) + 1 if ended.any() else len(ended))
        windows = np.flatnonzero(own[piece.start : last]) + piece.start
        assert len(piece.steps["reward"]) == len(windows) < last - piece.start
        for w, (first, behind) in enumerate(zip(windows, [*windows[1:], last], strict=True)):
            for name in ("reward", "elapsed"):
                expected = getattr(buffer, name)[first:behind, piece.world, piece.team].sum(dtype=np.float64)
                assert piece.steps[name][w] == np.float32(expected)
    total = sum(piece.steps["reward"].sum(dtype=np.float64) for piece in pieces)
    assert np.isclose(total, buffer.reward.sum(dtype=np.float64), atol=1e-4)


def test_advantages_of_an_episode_are_those_of_its_rollout(tmp_path):
    buffer, env = played(n_worlds=1)
    piece = [p for p in from_rollout(buffer, env.action_grid) if p.steps["terminated"].any()][1]
    with DatasetWriter(tmp_path / "data", config_of("std-mini", engine="fast", days=8), ["random"]) as writer:
        writer.episode(piece.steps, world_seed=0, factory=0, level=0, expert=0, n_days=8, score=1.0)
    back, span = Dataset(tmp_path / "data").rollout(0), slice(piece.start, piece.start + len(piece.steps["reward"]))
    value = np.random.default_rng(1).random(buffer.active.shape, np.float32)
    online = gae(buffer.trajectory(value, np.zeros_like(value), np.zeros_like(value[0])), 0.99, 0.9)
    mine = value[span]
    offline = gae(RolloutBuffer.trajectory(back, mine, np.zeros_like(mine), np.zeros_like(mine[0])), 0.99, 0.9)
    assert np.array_equal(online[span], offline) and offline.any()


READ = """
import sys
import numpy as np
from scml_marl_env.data.dataset import Dataset
def private():
    return 1024 * next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon"))
data = Dataset(sys.argv[1])
before, most, total = private(), 0, 0.0
for p in range(data.n_episodes):
    rows = data.decisions_of([p])
    total += float(data.observation[rows].sum()) + int(data.action[rows].sum())
    most = max(most, private() - before)
print(data.observation.nbytes, most)
"""


def test_a_dataset_is_read_without_holding_it_in_memory(tmp_path):
    steps = made_steps(CONFIG, np.random.default_rng(0), 2000)
    with DatasetWriter(tmp_path / "data", CONFIG, ["made"]) as writer:
        for seed in range(100):
            writer.episode(steps, world_seed=seed, factory=0, level=0, expert=0, n_days=6, score=1.0)
    command = [sys.executable, "-c", READ, str(tmp_path / "data")]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    size, memory = map(int, found.stdout.split())
    assert size > 100e6 and memory < size / 10
