"""The Decision Transformer learns what depends on returns and on the past, and keeps to the masks."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from algorithms import checkpoint
from algorithms.decision_transformer import DecisionTransformer, DTConfig
from algorithms.train_offline import PlayConfig, train_offline
from tests.algorithms.grids import SmallGrid, random_bounds
from tests.algorithms.recorded import record
from tests.algorithms.worlds import GridWorld

LAYOUTS = pytest.mark.parametrize("tokens", ["thread", "factory"])
SMALL = {"width": 32, "context": 4, "length": 10, "batch": 16, "warmup": 10, "lr": 5e-3}
SPLITS = {"train": np.arange(0, 20), "validation": np.arange(20, 24), "test": np.arange(24, 24)}


def learner_of(data, tokens, splits=SPLITS, **options):
    return DecisionTransformer(data, splits, DTConfig(**{"tokens": tokens} | SMALL | options), seed=0)


def only_by_return(n_episodes=24):
    """Episodes of which those that end well (all that is earned comes last) accepted always, and the others never."""
    data = record(n_episodes=n_episodes)
    good = np.arange(n_episodes) % 2
    data.bounds[:, :3] = [0, 1, 1]
    data.reward[:] = 0
    data.reward[19::20] = 2.0 * good - 1
    step = np.repeat(np.arange(len(data.reward)), np.diff(data.first_decision))
    data.action[:] = np.where(good[step // 20] == 1, 2, 1)
    return data


def only_by_past(tokens, n_episodes=24):
    """Each thread accepts one day and ends the next, in turn; which it begins with is drawn, and nothing tells else."""
    rng = np.random.default_rng(0)
    data = record(n_episodes=n_episodes)
    data.bounds[:, :3] = [0, 1, 1]
    step = np.repeat(np.arange(len(data.reward)), np.diff(data.first_decision))
    begins = rng.integers(0, 2, (n_episodes, 3))
    number = np.zeros((n_episodes, 3), int)
    for row, slot in enumerate(data.slot):
        episode = step[row] // 20
        turn = number[episode, slot] if tokens == "thread" else step[row] % 20
        data.action[row] = 1 + (begins[episode, slot if tokens == "thread" else 0] + turn) % 2
        number[episode, slot] += 1
    return data


@LAYOUTS
def test_learns_an_action_that_only_the_return_to_go_tells(tokens):
    data = only_by_return()
    learner = learner_of(data, tokens)
    for number in range(4):
        learner.epoch(number)
    assert learner.judge("validation").result()["accuracy"] > 0.97
    observation, bounds = data.observation[:50], data.bounds[:50]
    rng = np.random.default_rng(0)
    for target, expected in ((1.0, 2), (-1.0, 1)):
        action = learner.policy().aiming(target).act(observation, bounds, rng, greedy=True)
        assert (action == expected).mean() > 0.95
    assert learner.policy().aim(observation[:2]).tolist() == [1, 1]  # the default: the 90 % quantile
    assert learner.policy().aiming(target_quantile=0.2).aim(observation[:1]).tolist() == [-1]


@LAYOUTS
def test_learns_an_action_that_only_the_past_tells(tokens):
    data = only_by_past(tokens)
    learner = learner_of(data, tokens)
    for number in range(12):
        learner.epoch(number)
    accuracy = learner.judge("validation").result()["accuracy"]
    assert accuracy > 0.85, accuracy  # the first decision of each stream is a guess
    blind = learner_of(data, tokens, context=1)
    for number in range(4):
        blind.epoch(number)
    assert blind.judge("validation").result()["accuracy"] < 0.65


@LAYOUTS
def test_answers_keep_to_the_masks_whatever_is_aimed_at(tokens):
    data, grid = record(), SmallGrid()
    learner = learner_of(data, tokens, {"train": np.arange(8), "validation": np.arange(8, 12)})
    learner.epoch(0)
    rng = np.random.default_rng(0)
    for target in (-1e6, 0.0, 1e6):
        memory = learner.policy().aiming(target).start(3, rng)
        for step in range(60):
            n = 1 + step % 3
            bounds = random_bounds(rng, n, grid)
            observation = 100 * rng.normal(size=(n, 5)).astype(np.float32)
            action = memory.act(np.arange(n), observation, bounds, float(rng.normal()), 1.0, rng, bool(step % 2))
            assert grid.mask(bounds)[np.arange(n), action].all()


@LAYOUTS
def test_decisions_that_the_bounds_forbid_are_read_but_not_learnt(tokens):
    data = record()
    data.legal[5:60] = False
    splits = {"train": np.arange(8), "validation": np.arange(8, 12)}
    learner = learner_of(data, tokens, splits)
    assert learner.dropped == {"train": 55, "validation": 0}
    stretch = learner.streams["train"].stretches(1000)
    batch = learner.streams["train"].read(stretch)
    assert set(range(5, 60)) <= set(batch.rows.tolist())
    assert not set(range(5, 60)) & set(batch.rows[batch.counted.numpy()].tolist())
    assert np.isfinite(learner.epoch(0)["loss/policy"])


@LAYOUTS
def test_a_decision_is_judged_from_all_that_play_would_remember(tokens):
    """However the streams are cut, the judged likelihood is that of whole streams."""
    data = record()
    splits = {"train": np.arange(8), "validation": np.arange(8, 12)}
    found = [learner_of(data, tokens, splits, length=length).judge("validation").result() for length in (3, 7, 100)]
    assert found[0]["nll"] == pytest.approx(found[2]["nll"], abs=1e-6)
    assert found[1] == pytest.approx(found[2], abs=1e-6)
    part = learner_of(data, tokens, splits, length=3).judge("validation", 20).result()
    assert 5 < part["decisions"] < 60


def test_a_pass_is_drawn_from_seed_and_number_alone():
    data = record()
    splits = {"train": np.arange(8), "validation": np.arange(8, 12)}
    one, other = (learner_of(data, "thread", splits) for _ in range(2))
    assert one.epoch(0) == other.epoch(0)
    for name, weight in one.actor.state_dict().items():
        assert torch.equal(weight, other.actor.state_dict()[name])
    assert one.epoch(1) != one.epoch(2)


def test_dropout_is_off_outside_training():
    data = record()
    splits = {"train": np.arange(8), "validation": np.arange(8, 12)}
    learner = learner_of(data, "thread", splits, dropout=0.5)
    learner.epoch(0)
    assert learner.judge("validation").result() == learner.judge("validation").result()


@LAYOUTS
def test_a_run_is_judged_saved_resumed_and_loaded(tokens, tmp_path):
    data = only_by_return()
    splits = {"train": np.arange(0, 16), "validation": np.arange(16, 20), "test": np.arange(20, 24)}
    whole = learner_of(data, tokens, splits, epochs=2)
    summary = train_offline(whole, None, PlayConfig(), tmp_path / "whole", about={"run": 1})
    for name, numbers in summary["test"].items():
        assert {"accuracy", "accuracy/operation"} <= set(numbers), name
    assert summary["test"]["model"]["nll"] < summary["test"]["frequency"]["nll"] - 0.1

    part, resumed = (learner_of(data, tokens, splits, epochs=2) for _ in range(2))
    part.epoch(0)
    checkpoint.save(tmp_path / "part", part, Source(data), {}, {})
    checkpoint.restore(tmp_path / "part", resumed, Source(data))
    assert resumed.epoch(1) == part.epoch(1)

    policy = checkpoint.load(checkpoint.newest(tmp_path / "whole"))
    assert policy.config["about"] == {"run": 1} and policy.target_quantile == 0.9
    rows = data.observation[:9], data.bounds[:9]
    for greedy in (True, False):
        mine, theirs = (p.act(*rows, np.random.default_rng(1), greedy) for p in (whole.policy(), policy))
        assert np.array_equal(mine, theirs)
    assert policy.aim(rows[0]).tolist() == whole.policy().aim(rows[0]).tolist()
    with torch.random.fork_rng():
        torch.manual_seed(5)
        expected = torch.rand(1)
        torch.manual_seed(5)
        checkpoint.load(checkpoint.newest(tmp_path / "whole"))
        assert torch.rand(1) == expected  # loading draws nothing from the caller's generator


def test_it_plays_worlds_of_any_kind():
    """A team of three threads in a made-up world: idle threads, ends of episodes, factored answers."""
    data = record()
    splits = {"train": np.arange(8), "validation": np.arange(8, 12)}
    learner = learner_of(data, "factory", splits)

    class WiderWorld(GridWorld):
        n_columns = 5

    env = WiderWorld(4)
    player, rng = learner.policy().player(env), np.random.default_rng(0)
    for _ in range(20):
        env.step(player.act_all(env, rng))  # the world asserts that every offer is within its cap
        player.receive(env)
    assert len(env.episodes) == 12 and all(math.isfinite(x) for episode in env.episodes for x in episode["target"])


def test_an_episode_tells_the_targets_of_teams_that_ended_before_it():
    data = record()
    learner = learner_of(data, "thread", {"train": np.arange(8), "validation": np.arange(8, 12)})
    env = SimpleNamespace(
        n_worlds=1, n_teams=2, n_agents=2, active=np.ones((1, 2), bool), observation=data.observation[None, :2],
        bounds=data.bounds[None, :2], executed=np.ones((1, 2), int), reward=np.zeros((1, 2)), elapsed=np.ones((1, 2)),
        terminated=np.array([[True, False]]), truncated=np.zeros((1, 2), bool), episodes=[],
    )  # fmt: skip
    player, rng = learner.policy().aiming(0.7).player(env), np.random.default_rng(0)
    player.act_all(env, rng)
    player.receive(env)  # the first team is bankrupt
    env.active[0, 0], env.terminated[:] = False, [[False, True]]
    env.episodes.append({"world": 0, "return": [0.0, 0.0]})
    player.act_all(env, rng)
    player.receive(env)
    assert env.episodes[0]["target"] == [0.7, 0.7]
    env.active[:], env.episodes[:] = [[False, True]], [{"world": 0, "return": [0.0, 0.0]}]
    player.act_all(env, rng)  # in the next episode the first team does nothing
    player.receive(env)
    assert math.isnan(env.episodes[0]["target"][0]) and env.episodes[0]["target"][1] == 0.7


class Source:
    """As `train_offline` describes data to a checkpoint."""

    def __init__(self, data):
        self.action_grid, self.agent_names = SmallGrid(), []
        self.observation_names, self.config = data.observation_names, data.manifest["config"]


def test_settings_are_checked():
    for name in ("epochs", "length", "batch", "context"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1"):
            DTConfig(**{name: 0})
    with pytest.raises(ValueError, match="target_quantile lies in"):
        DTConfig(target_quantile=2)
