"""PPO that starts from a checkpoint: the same policy at first, held near it by the KL term, and resumed without it."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from algorithms import checkpoint, offline
from algorithms.behaviour_cloning import BC, BCConfig
from algorithms.buffer import RolloutBuffer
from algorithms.ippo import IPPO
from algorithms.log import Clock, read_metrics
from algorithms.mappo import MAPPO
from algorithms.policy import Policy
from algorithms.ppo import PPOConfig, Shapes
from algorithms.train import TrainConfig, collect, train
from algorithms.train_offline import Source
from algorithms.warm_start import architecture, start_from
from tests.algorithms.recorded import record
from tests.algorithms.test_resume import without_times
from tests.algorithms.worlds import GridWorld

CONFIG = PPOConfig(actor_hidden=(12, 8), critic_hidden=(16,), epochs=2, minibatches=2, entropy=0, entropy_end=0)


class FiveColumns(GridWorld):
    """GridWorld with as many columns as the recorded play has."""

    n_columns, n_state = 5, 4


def clone(folder, sees="state", normalise=False, gamma=0.99, critic_hidden=(16,), env_options=None):
    """A checkpoint of a policy that has learnt a little."""
    data = record()
    config = BCConfig(
        actor_hidden=(12, 8),
        critic_hidden=critic_hidden,
        critic_sees=sees,
        normalise_observation=normalise,
        gamma=gamma,
    )
    bc = BC(data, offline.select(data, offline.Selection()), config, seed=0)
    for number in range(3):
        bc.epoch(number)
    with torch.no_grad():
        for parameter in bc.actor.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    env = FiveColumns(n_worlds=1)
    source = Source(env.action_grid, [], env.observation_names, env_options or {})
    checkpoint.save(folder, bc, source, {"update": 1}, {})
    return bc


def weights_of(module):
    return torch.cat([x.detach().flatten().double() for x in module.state_dict().values()])


def rollout(env, learner, n_steps=32):
    buffer = RolloutBuffer(n_steps, env)
    collect(env, learner, buffer, Clock())
    return buffer


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("learner_class, sees", [(MAPPO, "state"), (IPPO, "observation")])
def test_the_first_actions_are_those_of_the_clone(tmp_path, learner_class, sees, normalise):
    bc = clone(tmp_path / "clone", sees, normalise)
    assert architecture(tmp_path / "clone") == {
        "actor_hidden": (12, 8), "activation": "tanh", "normalise_observation": normalise
    }  # fmt: skip
    env = FiveColumns(n_worlds=16)
    learner = learner_class(Shapes.of(env), replace(CONFIG, normalise_observation=normalise), seed=5)
    assert start_from(learner, env, tmp_path / "clone") == "the checkpoint's critic"
    assert torch.equal(weights_of(learner.critic), weights_of(bc.critic))
    twin = FiveColumns(n_worlds=16)
    chance = torch.Generator().manual_seed(5)
    buffer = rollout(env, learner)
    for t in range(32):  # the clone, with the learner's draws
        rows = np.flatnonzero(twin.active)
        seen, bounds = (torch.from_numpy(x.reshape(-1, x.shape[-1])[rows]) for x in (twin.observation, twin.bounds))
        with torch.inference_mode():
            action, _ = bc.actor.sample(seen, bounds, lambda n: torch.rand(n, generator=chance), False)
        assert buffer.action[t].reshape(-1)[rows].tolist() == action.tolist()
        twin.step(buffer.action[t])
    assert learner.update(buffer, 0.0)["policy/kl_to_init"] == pytest.approx(0, abs=1e-6)
    assert learner.update(rollout(env, learner), 0.0)["policy/kl_to_init"] != 0


@pytest.mark.parametrize(
    "change, words",
    [
        ({"sees": "none"}, "reads none, not state"),
        ({"sees": "observation"}, "reads observation, not state"),
        ({"gamma": 0.9}, "gamma 0.9, not 0.99"),
        ({"critic_hidden": (3,)}, "another size"),
        ({"env_options": {"reward": "potential"}}, "potential"),
        ({"normalise_value": False}, "normalise_value"),
    ],
)
def test_a_critic_that_does_not_fit_is_not_taken(tmp_path, change, words):
    config = replace(CONFIG, normalise_value=change.pop("normalise_value", True))
    clone(tmp_path / "clone", **change)
    env = FiveColumns(n_worlds=2)
    learner, fresh = (MAPPO(Shapes.of(env), config, seed=5) for _ in range(2))
    assert words in start_from(learner, env, tmp_path / "clone")
    assert torch.equal(weights_of(learner.critic), weights_of(fresh.critic))
    assert not torch.equal(weights_of(learner.actor), weights_of(fresh.actor))


def test_a_checkpoint_that_does_not_fit_is_refused(tmp_path):
    clone(tmp_path / "clone")
    env = FiveColumns(n_worlds=2)
    with pytest.raises(ValueError, match=r"actor_hidden.*\(12, 8\).*\(9,\)"):
        start_from(MAPPO(Shapes.of(env), replace(CONFIG, actor_hidden=(9,)), seed=5), env, tmp_path / "clone")
    narrow = GridWorld(n_worlds=2)
    with pytest.raises(ValueError, match="expects 5 observation columns"):
        start_from(MAPPO(Shapes.of(narrow), CONFIG, seed=5), narrow, tmp_path / "clone")
    meta = json.loads((tmp_path / "clone" / "meta.json").read_text())
    meta["grid"]["fields"]["n_prices"] = 4
    (tmp_path / "clone" / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(ValueError, match="chooses actions of"):
        start_from(MAPPO(Shapes.of(env), CONFIG, seed=5), env, tmp_path / "clone")
    with pytest.raises(ValueError, match=r"holds no meta\.json"):
        architecture(tmp_path)


@pytest.mark.parametrize("blocked", [True, False])
def test_the_pull_holds_the_policy_at_its_start(tmp_path, blocked):
    clone(tmp_path / "clone")
    moved = {}
    for weight in (0.0, 10.0):
        env = FiveColumns(n_worlds=32)
        config = replace(CONFIG, lr=5e-3, lr_end=1, init_kl=weight, init_kl_end=weight, epochs=4, blocked=blocked)
        learner = MAPPO(Shapes.of(env), config, seed=5)
        start_from(learner, env, tmp_path / "clone")
        for _ in range(25):
            metrics = learner.update(rollout(env, learner), 0.0)
        moved[weight] = metrics["policy/kl_to_init"]
    assert moved[0.0] > 0.5 and moved[10.0] < 0.1 * moved[0.0]


def test_the_pull_brings_a_strayed_policy_back_and_fades_on_schedule(tmp_path):
    clone(tmp_path / "clone")
    for progress, returns in ((0.0, True), (1.0, False)):
        env = FiveColumns(n_worlds=32)
        config = replace(CONFIG, lr=5e-3, lr_end=1, init_kl=20.0, init_kl_end=0.0, normalise_value=False)
        learner = MAPPO(Shapes.of(env), config, seed=5)
        start_from(learner, env, tmp_path / "clone")
        with torch.no_grad():
            for parameter in learner.actor.head.parameters():
                parameter.add_(0.5 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
        found = [learner.update(rollout(env, learner), progress)["policy/kl_to_init"] for _ in range(15)]
        assert found[0] > 0.1 and (found[-1] < 0.3 * found[0]) == returns


def test_while_the_critic_warms_up_the_actor_stays_bit_for_bit(tmp_path):
    clone(tmp_path / "clone", sees="none", normalise=True)
    env = FiveColumns(n_worlds=8)
    learner = MAPPO(Shapes.of(env), replace(CONFIG, normalise_observation=True, entropy=0.1, init_kl=1.0), seed=5)
    start_from(learner, env, tmp_path / "clone")
    config = TrainConfig(total_steps=3 * 8 * 8, n_steps=8, eval_every=0, critic_warmup=2)
    before, critic, seen = weights_of(learner.actor), weights_of(learner.critic), []
    update = learner.update

    def watched(*arguments):
        metrics = update(*arguments)
        assert ("policy/kl" in metrics) == (len(seen) == 2) and "loss/value" in metrics
        seen.append((torch.equal(weights_of(learner.actor), before), torch.equal(weights_of(learner.critic), critic)))
        return metrics

    learner.update = watched
    train(learner, env, None, config, tmp_path / "run", seed=1)
    assert seen == [(True, False), (True, False), (False, False)]


def test_a_resumed_run_needs_the_checkpoint_no_more_and_goes_on_as_it_would_have(tmp_path, monkeypatch):
    clone(tmp_path / "clone")

    def run(folder, resume=False):
        env = Rewinding(n_worlds=4)
        config = replace(CONFIG, init_kl=0.5, init_kl_end=0.1)
        learner = MAPPO(Shapes.of(env), config, seed=5)
        if resume:
            learner.keep_reference()
        else:
            start_from(learner, env, tmp_path / "clone")
        plan = TrainConfig(total_steps=4 * 8 * 6, n_steps=8, eval_every=0, checkpoint_every=1, critic_warmup=2)
        train(learner, env, None, plan, folder, seed=7, resume=resume)
        return learner

    run(tmp_path / "whole")
    monkeypatch.setattr("algorithms.train.Run.out_of_time", lambda self: self.update == 3)
    run(tmp_path / "parts")
    monkeypatch.setattr("algorithms.train.Run.out_of_time", lambda self: False)
    shutil.rmtree(tmp_path / "clone")
    learner = run(tmp_path / "parts", resume=True)
    whole, parts = (without_times(read_metrics(tmp_path / name)) for name in ("whole", "parts"))
    assert len(whole) == 6 and whole == parts and "policy/kl_to_init" in whole[-1]
    weights = [load_file(checkpoint.newest(tmp_path / name) / "weights.safetensors") for name in ("whole", "parts")]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert not torch.equal(weights_of(learner.reference), weights_of(learner.actor))
    policy = checkpoint.load(checkpoint.newest(tmp_path / "parts"))
    assert isinstance(policy, Policy) and torch.equal(weights_of(policy.actor), weights_of(learner.actor))


class Rewinding(FiveColumns):
    """Can be put back into a state."""

    def state_dict(self):
        arrays = {name: getattr(self, name).copy() for name in ("observation", "state", "bounds", "active", "returns")}
        return {
            "arrays": arrays,
            "t": self.t,
            "possible": self.possible.copy(),
            "rng": repr(self.rng.bit_generator.state),
        }

    def load_state_dict(self, state):
        for name, array in state["arrays"].items():
            getattr(self, name)[:] = array
        self.t, self.possible = state["t"], state["possible"]
        self.rng.bit_generator.state = eval(state["rng"])
