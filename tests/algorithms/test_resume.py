"""An interrupted run and an uninterrupted one are the same, bit for bit; a checkpoint plays what the learner plays."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from algorithms import checkpoint
from algorithms.ippo import IPPO
from algorithms.log import COLUMNS, read_evaluations, read_metrics
from algorithms.mappo import MAPPO
from algorithms.policy import Policy
from algorithms.ppo import PPOConfig, Shapes
from algorithms.train import TrainConfig, train
from algorithms.vector import ParallelVectorEnv
from tests.algorithms import probes
from tests.algorithms.worlds import GridWorld

CONFIG = PPOConfig(actor_hidden=(16,), critic_hidden=(16,), normalise_observation=True, target_kl=1.0)


def spread(seed=0):
    spread_v3 = pytest.importorskip("mpe2.simple_spread_v3")
    return ParallelVectorEnv([lambda: spread_v3.parallel_env(max_cycles=11)] * 2, seed=seed)


def probe(seed=0):
    return ParallelVectorEnv(probes.constructors(probes.LeavesEarly, 2), seed=seed)


def run(folder, make, learner_class, updates, resume=False):
    env = make()
    config = TrainConfig(
        total_steps=updates * 2 * 8, n_steps=8, eval_every=2, eval_episodes=4, checkpoint_every=1, keep_checkpoints=1
    )
    learner = learner_class(Shapes.of(env), CONFIG, seed=3)
    train(learner, env, make(seed=5), config, folder, seed=7, resume=resume)
    return learner


def without_times(rows):
    return [{k: v for k, v in row.items() if not k.startswith("time/") and not math.isnan(v)} for row in rows]


@pytest.mark.parametrize("make", [spread, probe])
@pytest.mark.parametrize("learner_class", [IPPO, MAPPO])
def test_six_updates_equal_three_a_stop_and_three_more(tmp_path, make, learner_class, monkeypatch):
    run(tmp_path / "whole", make, learner_class, updates=6)
    monkeypatch.setattr("algorithms.train.Run.out_of_time", lambda self: self.update == 3)
    run(tmp_path / "parts", make, learner_class, updates=6)
    assert len(read_metrics(tmp_path / "parts")) == 3
    monkeypatch.setattr("algorithms.train.Run.out_of_time", lambda self: False)
    run(tmp_path / "parts", make, learner_class, updates=6, resume=True)

    whole, parts = (without_times(read_metrics(tmp_path / name)) for name in ("whole", "parts"))
    assert len(whole) == 6 and whole == parts
    assert read_evaluations(tmp_path / "whole") == read_evaluations(tmp_path / "parts")
    weights = [load_file(checkpoint.newest(tmp_path / name) / "weights.safetensors") for name in ("whole", "parts")]
    assert weights[0].keys() == weights[1].keys() and len(weights[0]) > 10
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_what_was_logged_after_the_checkpoint_is_dropped_on_resume(tmp_path):
    run(tmp_path, probe, IPPO, updates=3)
    before = read_metrics(tmp_path)
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("4" + "," * (len(COLUMNS) - 1) + "\n")
    run(tmp_path, probe, IPPO, updates=3, resume=True)
    assert without_times(read_metrics(tmp_path)) == without_times(before)


def test_a_loaded_policy_plays_like_its_learner_and_like_itself(tmp_path):
    env = GridWorld(n_worlds=32)
    learner = IPPO(Shapes.of(env), CONFIG, seed=1)
    chance = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in learner.actor.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=chance))
    checkpoint.save(tmp_path / "c", learner, env, {"update": 1}, {"note": "test"})
    policy, original = checkpoint.load(tmp_path / "c"), Policy(learner.actor, env.observation_names, {})
    assert policy.observation_names == env.observation_names
    assert policy.config["about"] == {"note": "test"} and policy.config["env"] == env.config
    rows, bounds = env.observation[env.active], env.bounds[env.active]
    for greedy in (True, False):
        plays = [p.act(rows, bounds, np.random.default_rng(0), greedy) for p in (policy, policy, original)]
        assert plays[0].tolist() == plays[1].tolist() == plays[2].tolist()
        assert plays[0].dtype == np.int64 and (greedy or len(set(plays[0].tolist())) > 3)
        assert np.take_along_axis(env.action_grid.mask(bounds), plays[0][:, None], 1).all()
    assert policy.act(rows[:0], bounds[:0], np.random.default_rng(0)).shape == (0,)


def test_a_policy_uses_one_thread_and_leaves_the_callers_setting(monkeypatch):
    env = GridWorld(n_worlds=4)
    policy, seen = Policy.uniform(1, env.action_grid), []
    original = policy.actor.sample
    monkeypatch.setattr(policy.actor, "sample", lambda *a: (seen.append(torch.get_num_threads()), original(*a))[1])
    torch.set_num_threads(2)
    policy.act(env.observation[env.active], env.bounds[env.active], np.random.default_rng(0))
    assert seen == [1] and torch.get_num_threads() == 2
    torch.set_num_threads(1)


def test_two_seeds_train_in_different_worlds_and_one_seed_in_the_same(tmp_path):
    found = []
    for name, seed in (("a", 7), ("b", 8), ("c", 7)):
        env = RememberSeeds(probes.constructors(probes.LeavesEarly, 2))
        config = TrainConfig(total_steps=32, n_steps=8, eval_every=0)
        train(IPPO(Shapes.of(env), CONFIG, seed=3), env, None, config, tmp_path / name, seed=seed)
        found.append((env.seeds, without_times(read_metrics(tmp_path / name))))
    assert [seeds for seeds, _ in found] == [[0, 7], [0, 8], [0, 7]]
    assert found[0][1] == found[2][1]


class RememberSeeds(ParallelVectorEnv):
    """Keeps the seeds that it was reset with; the constructor's comes first."""

    def reset(self, seed):
        self.__dict__.setdefault("seeds", []).append(seed)
        super().reset(seed)


def test_other_columns_are_refused_with_their_names(tmp_path):
    env = GridWorld(n_worlds=4)
    learner = IPPO(Shapes.of(env), CONFIG, seed=1)
    checkpoint.save(tmp_path / "c", learner, env, {"update": 1}, {})
    env.observation_names = ["other"]
    with pytest.raises(ValueError, match=r"missing \['column_0'\], new \['other'\]"):
        checkpoint.restore(tmp_path / "c", learner, env)


def test_a_half_written_checkpoint_is_never_taken_for_one(tmp_path):
    env = GridWorld(n_worlds=4)
    learner = IPPO(Shapes.of(env), CONFIG, seed=1)
    checkpoint.save(tmp_path / "checkpoints" / "update_0000001", learner, env, {"update": 1}, {})
    (tmp_path / "checkpoints" / "update_0000002.partial").mkdir()
    assert checkpoint.newest(tmp_path).name == "update_0000001"
    with pytest.raises(ValueError, match=r"holds no meta\.json"):
        checkpoint.load(tmp_path / "checkpoints" / "update_0000002.partial")
    json.loads((tmp_path / "checkpoints" / "update_0000001" / "meta.json").read_text())
