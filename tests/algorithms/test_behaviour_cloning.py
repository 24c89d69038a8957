"""Cloning: it finds a known policy, its gradient is that of autograd, a stop and a resumption change nothing."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from algorithms import agreement, checkpoint, offline
from algorithms.behaviour_cloning import BC, BCConfig
from algorithms.log import OFFLINE_COLUMNS, read_evaluations, read_metrics
from algorithms.offline import Selection
from algorithms.train_offline import PlayConfig, train_offline
from tests.algorithms.grids import SmallGrid
from tests.algorithms.recorded import record, teacher

SMALL = BCConfig(actor_hidden=(32,), critic_hidden=(16,), batch_size=256, epochs=3)


def learner(data, config=SMALL, seed=0):
    return BC(data, offline.select(data, Selection()), config, seed)


def without_times(rows):
    return [{k: v for k, v in row.items() if not k.startswith("time/") and not math.isnan(v)} for row in rows]


def test_a_known_policy_is_found_again():
    known = teacher()
    data = record(n_episodes=240, n_steps=60, actor=known)
    bc = learner(data, BCConfig(actor_hidden=(32,), batch_size=256, epochs=12, lr=0.01))
    for number in range(12):
        bc.epoch(number)
    rows = bc.rows["test"]
    found, entropy = bc.judge("test").result(), agreement.judge(known, data, rows).result()
    frequency = agreement.judge(agreement.frequency_actor(data, bc.rows["train"], SmallGrid()), data, rows).result()
    assert found["nll"] - entropy["nll"] < 0.02 < 0.3 < frequency["nll"] - found["nll"]
    for name in ("operation", "lead", "price", "quantity"):
        assert found[f"accuracy/{name}"] > entropy[f"accuracy/{name}"] - 0.02
    assert found["ece/operation"] < 0.03 and found["ece/action"] < 0.03


def test_learning_in_blocks_is_learning_by_autograd():
    data, weights, metrics = record(n_episodes=24), [], []
    for blocked in (False, True):
        bc = learner(data, BCConfig(actor_hidden=(16,), critic_hidden=(8,), critic_sees="state", blocked=blocked))
        metrics.append([bc.epoch(number) for number in range(2)])
        weights.append(torch.cat([p.detach().flatten() for m in (bc.actor, bc.critic) for p in m.parameters()]))
    torch.testing.assert_close(weights[1], weights[0], atol=2e-5, rtol=1e-4)
    for slow, fast in zip(*metrics, strict=True):
        assert fast == pytest.approx(slow, rel=1e-3, abs=1e-6)


def test_forbidden_labels_are_never_learnt_and_are_counted():
    data = record(n_episodes=12)
    data.legal[::7] = False
    data.action[::7] = -5  # would be an index error, if it were read
    bc = learner(data)
    assert math.isfinite(bc.epoch(0)["loss/policy"]) and bc.judge("validation").result()["decisions"] > 0
    n = {split: len(data.decisions_of(bc.episodes[split])) for split in offline.SPLITS}
    assert sum(bc.dropped.values()) == len(data.legal[::7])
    assert all(len(bc.rows[split]) + bc.dropped[split] == n[split] for split in n)


@pytest.mark.parametrize("sees", ["state", "observation"])
def test_the_critic_learns_the_discounted_returns(sees):
    data = record(n_episodes=120)
    first = np.repeat(data.first_step[:-1], 20)
    left = (20 - (np.arange(len(data.reward)) - first)).astype(np.float32)
    data.reward[:], data.elapsed[:] = 1.0, 0.0  # the return is the number of steps left
    data.state[:, 0] = left / 20
    data.observation[:, 0] = np.repeat(left / 20, np.diff(data.first_decision))
    config = BCConfig(actor_hidden=(8,), critic_hidden=(32,), critic_sees=sees, batch_size=64, lr=0.01)
    bc = learner(data, config)
    for number in range(5):
        bc.epoch(number)
    assert bc.judge_values("validation")["value/explained_variance"] > 0.95
    assert set(bc.modules()) == {"actor", "critic", "value_scale"}


def run(folder, data, epochs=4, resume=False, config=SMALL):
    bc = learner(data, BCConfig(**{**vars(config), "epochs": epochs, "lr_end": 1.0}), seed=3)
    return bc, train_offline(bc, None, PlayConfig(judge_decisions=300), folder, resume, about={"note": "test"})


def test_a_run_logs_keeps_the_best_pass_and_resumes_to_the_same(tmp_path):
    data = record(n_episodes=24)
    config = BCConfig(
        actor_hidden=(8,), critic_hidden=(8,), critic_sees="state", batch_size=64, normalise_observation=True
    )
    bc, summary = run(tmp_path / "whole", data, config=config)
    run(tmp_path / "parts", data, epochs=2, config=config)
    _, second = run(tmp_path / "parts", data, resume=True, config=config)
    whole, parts = (without_times(read_metrics(tmp_path / name)) for name in ("whole", "parts"))
    assert len(whole) == 4 and whole == parts and set(read_metrics(tmp_path / "whole")[0]) == set(OFFLINE_COLUMNS)
    assert {k: v for k, v in summary.items() if k != "seconds"} == {k: v for k, v in second.items() if k != "seconds"}
    weights = [load_file(checkpoint.newest(tmp_path / name) / "weights.safetensors") for name in ("whole", "parts")]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])

    saved = json.loads((tmp_path / "whole" / "offline.json").read_text())
    best = min(whole, key=lambda row: row["validation/nll"])
    assert saved["best"] == best["update"] and checkpoint.newest(tmp_path / "whole").name.endswith(str(saved["best"]))
    assert set(saved["test"]) == {"model", "frequency", "last offer"} and saved["splits"]["train"]["episodes"] == 16
    assert saved["test"]["model"]["nll"] < saved["test"]["frequency"]["nll"]
    assert not read_evaluations(tmp_path / "whole") and list((tmp_path / "whole").glob("events.out.tfevents*"))
    policy = checkpoint.load(checkpoint.newest(tmp_path / "whole"))
    rows = data.observation[:50], data.bounds[:50]
    mine = [p.act(*rows, np.random.default_rng(0)).tolist() for p in (policy, bc.policy())]
    assert mine[0] == mine[1] and policy.config["algorithm"] == "BC" and policy.config["about"] == {"note": "test"}


@pytest.mark.parametrize("killed_in", ["last", "update_0000002"])
def test_a_run_that_is_killed_while_it_saves_goes_on_to_the_same(tmp_path, monkeypatch, killed_in):
    data, save = record(n_episodes=24), checkpoint.save
    _, summary = run(tmp_path / "whole", data, epochs=3)

    def dies(folder, *rest):
        if folder.name == killed_in and (folder.parent / "last").exists():
            folder.with_name(folder.name + ".partial").mkdir()
            raise KeyboardInterrupt
        save(folder, *rest)

    monkeypatch.setattr(checkpoint, "save", dies)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", data, epochs=3)
    assert checkpoint.newest(tmp_path / "killed").name == "update_000000" + "12"[killed_in == "last"]
    monkeypatch.setattr(checkpoint, "save", save)
    _, again = run(tmp_path / "killed", data, epochs=3, resume=True)
    assert {k: v for k, v in summary.items() if k != "seconds"} == {k: v for k, v in again.items() if k != "seconds"}
    assert sorted(path.name for path in (tmp_path / "killed" / "checkpoints").iterdir()) == ["last", "update_0000003"]


def test_training_stops_when_validation_gets_no_better(tmp_path, monkeypatch):
    data = record(n_episodes=24)
    bc = learner(data, BCConfig(actor_hidden=(8,), epochs=20, patience=2))
    likelihoods = iter([3.0, 2.0, 2.5, 2.4, 0.0])
    real = bc.judge

    def judge(split, most=None):
        tally = real(split, most)
        if most is not None:
            found = tally.result() | {"nll": next(likelihoods)}
            tally.result = lambda: found
        return tally

    monkeypatch.setattr(bc, "judge", judge)
    summary = train_offline(bc, None, PlayConfig(), tmp_path)
    assert summary["update"] == 4 and summary["best"] == 2
