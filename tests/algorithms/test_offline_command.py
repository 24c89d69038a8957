"""experiments/run.py --algo bc --data FOLDER, and --init with what it made, on worlds of the compiled engine."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import scml_marl_env
from algorithms import checkpoint, log
from algorithms.buffer import RolloutBuffer
from algorithms.offline import returns_to_go
from algorithms.policy import Policy
from algorithms.returns import gae
from scml_marl_env.data.dataset import Dataset, DatasetWriter, from_rollout
from scml_marl_env.registry import config_of

sys.path.append(str(Path(__file__).parents[2] / "experiments"))
import run
import run_offline
from settings import EnvConfig, load_policy, trained_in

OPTIONS = {"engine": "fast", "observation": ("thread", "broadcast"), "opponents": {"random": 1, "greedy": 1}}
PLAY = ["--eval-episodes", "4", "--eval-worlds", "4", "--eval-bank-worlds", "0", "--workers", "1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Ten episodes or so of the random masked policy."""
    path = tmp_path_factory.mktemp("recorded") / "data"
    env = scml_marl_env.make_vector("oneshot-mini", 8, 0, **OPTIONS)
    env.reset(0)
    policy, rng, buffer = Policy.uniform(env.observation.shape[-1], env.action_grid), np.random.default_rng(0), None
    buffer = RolloutBuffer(400, env)
    for _ in range(400):
        buffer.observe(env)
        action = policy.act_all(env, rng)
        buffer.choose(action, np.zeros(action.shape, np.float32))
        env.step(action)
        buffer.receive(env)
    buffer.finish(env)
    with DatasetWriter(path, config_of("oneshot-mini", **OPTIONS), ["random"]) as writer:
        for i, piece in enumerate(from_rollout(buffer, env.action_grid)):
            about = {"factory": 0, "level": 0, "expert": 0, "n_days": 20, "score": 1 + piece.total}
            writer.episode(piece.steps, world_seed=i, **about)
    env.close()
    return path


def test_cloning_from_the_command_line_and_training_on_from_it(folder, tmp_path, capsys):
    out = tmp_path / "bc"
    flags = ["--algo", "bc", "--data", str(folder), "--out", str(out), "--actor-hidden", "24", "16", *PLAY]
    assert run.main([*flags, "--epochs", "2", "--critic-sees", "state"]) == 0
    text = capsys.readouterr().out
    assert "last offer" in text and "frequency" in text and "held-out return, gain" in text
    found = json.loads((out / "offline.json").read_text())
    assert found["about"]["command"].startswith("python experiments/run.py --algo")
    assert found["test"]["model"]["nll"] < found["test"]["frequency"]["nll"] and found["trained"]["mean"] < 0
    assert 0 < found["test"]["last offer"]["known"] < 1 and found["splits"]["test"]["dropped"] == 0
    assert len(log.read_metrics(out)) == 2
    assert [line["policy"] for line in log.read_evaluations(out)] == ["trained", "random"]

    assert run.main(["--resume", str(out), "--epochs", "3"]) == 0
    assert len(log.read_metrics(out)) == 3 and json.loads((out / "config.json").read_text())["learner"]["epochs"] == 3

    policy, _ = load_policy(out)
    worlds = trained_in(policy)
    assert worlds.env == "oneshot-2025" and "processes=2" not in worlds.env_options
    assert {'observation=["thread", "broadcast"]', "days=20"} <= set(worlds.env_options)
    assert policy.observation_names == Dataset(folder).observation_names

    train = ["--algo", "mappo", "--env", "oneshot-mini", "--n-worlds", "4", "--bank-worlds", "0", *PLAY]
    train += ["--n-steps", "8"]
    train += ["--env-options", 'observation=["thread", "broadcast"]', "--init", str(out), "--total-steps", "64"]
    assert run.main([*train, "--out", str(tmp_path / "on"), "--init-kl", "1", "--critic-warmup", "1"]) == 0
    assert "with the checkpoint's critic" in capsys.readouterr().out
    rows = log.read_metrics(tmp_path / "on")
    assert [row["policy/kl_to_init"] for row in rows] == pytest.approx([0, 0], abs=1e-6)
    saved = json.loads((tmp_path / "on" / "config.json").read_text())
    assert saved["ppo"]["actor_hidden"] == [24, 16] and saved["init"] == str(out)
    assert run.main(["--resume", str(tmp_path / "on"), "--total-steps", "96"]) == 0
    assert len(log.read_metrics(tmp_path / "on")) == 3
    assert checkpoint.load(checkpoint.newest(tmp_path / "on")).config["algorithm"] == "MAPPO"

    with pytest.raises(SystemExit, match=r"\(24, 16\).*\(5,\)"):
        run.main([*train, "--actor-hidden", "5", "--out", str(tmp_path / "no")])
    with pytest.raises(SystemExit, match="holds no checkpoint"):
        run.main([*train, "--init", str(tmp_path)])
    at = train.index("--init")
    assert run.main([*train[:at], *train[at + 2 :], "--out", str(tmp_path / "fresh")]) == 0
    with pytest.raises(SystemExit, match="did not start from a checkpoint"):
        run.main(["--resume", str(tmp_path / "fresh"), "--init", str(out)])
    with pytest.raises(SystemExit, match="is a run of bc, which dt cannot go on with"):
        run.main(["--resume", str(out), "--algo", "dt"])
    with pytest.raises(SystemExit, match="--init CHECKPOINT"):
        run.parse(["--env", "oneshot-mini", "--init-kl", "1"])


def test_worlds_in_which_the_data_means_something_else_are_refused(folder, tmp_path):
    config = Dataset(folder).config
    fitting = ('observation=["thread", "broadcast"]',)
    assert run_offline.worlds_of(config, EnvConfig(env="oneshot-mini", env_options=fitting), "dt").env == "oneshot-mini"
    otherwise = EnvConfig(env="oneshot-mini", env_options=(*fitting, "reward=potential"))
    assert run_offline.worlds_of(config, otherwise, "bc") == otherwise
    with pytest.raises(ValueError, match="reward is 'profit' in the data, 'potential'"):
        run_offline.worlds_of(config, otherwise, "dt")
    shaped = replace(config, reward="potential", discount=0.9, slots=5)
    assert {"slots=5", 'reward="potential"', "discount=0.9"} <= set(
        run_offline.worlds_of(shaped, EnvConfig(env=""), "dt").env_options
    )
    for env, options, words in (
        ("oneshot-mini", (*fitting, "slots=7"), "slots is 2 in the data, 7"),
        ("oneshot-mini", (), "observation is .* in the data, .*history.* in oneshot-mini"),
        ("oneshot-mini", (*fitting, "shield=covered"), "shield is 'feasible' in the data, 'covered'"),
        ("std-mini", fitting, "track is 'oneshot' in the data"),
        ("mpe2:simple_spread_v3", (), "no id"),
    ):
        with pytest.raises(ValueError, match=words):
            run_offline.worlds_of(config, EnvConfig(env=env, env_options=options), "bc")
    for flags, words in (
        (["--data", str(tmp_path)], "is no dataset"),
        ([], "--data FOLDER"),
        (["--data", str(folder), "--experts", "penguin"], r"no experts \['penguin'\]"),
        (["--data", str(folder), "--env", "std-mini"], "track"),
    ):
        with pytest.raises(SystemExit, match=words):
            run.main(["--algo", "bc", *flags])


def test_every_offline_field_is_a_flag(capsys):
    with pytest.raises(SystemExit):
        run.main(["--algo", "bc", "--help"])
    text = capsys.readouterr().out
    for name in ("data", "experts", "best-share", "epochs", "critic-sees", "eval-episodes", "resume", "env-options"):
        assert f"--{name}" in text


def test_the_returns_are_those_of_the_episode_as_a_rollout(folder):
    data = Dataset(folder)
    for episode in data.episodes_of("validation"):
        rollout = data.rollout(int(episode))
        zero = np.zeros(rollout.active.shape, np.float32)
        advantage = gae(RolloutBuffer.trajectory(rollout, zero, zero, zero[0]), 0.9, 1.0)
        steps, found = returns_to_go(data, np.array([episode]), 0.9)
        active = rollout.active[:, 0]
        assert len(steps) == len(active) and active.any(1).all()
        np.testing.assert_allclose(advantage[:, 0][active], np.repeat(found, active.sum(1)), rtol=1e-5, atol=1e-6)
