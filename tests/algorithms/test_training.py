"""The loop around the learner: logs, evaluation, command line."""

import csv
import io
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from algorithms import log
from algorithms.display import Display
from algorithms.evaluate import evaluate, interval, returns_of
from algorithms.policy import Policy
from algorithms.vector import ParallelVectorEnv
from tests.algorithms import probes
from tests.algorithms.grids import SmallGrid, random_bounds
from tests.algorithms.worlds import Gaps

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "experiments"))
import run  # noqa: E402
import settings  # noqa: E402

FLAGS = ["--env", "tests.algorithms.probes:RightAction", "--n-worlds", "4", "--n-steps", "16", "--eval-every", "5"]
FLAGS += ["--eval-episodes", "64", "--actor-hidden", "16", "--critic-hidden", "16", "--lr", "1e-2", "--entropy", "0"]


def test_the_command_trains_logs_evaluates_and_resumes(tmp_path, capsys):
    folder = tmp_path / "run"
    assert run.main([*FLAGS, "--algo", "ippo", "--out", str(folder), "--total-steps", "2560"]) == 0
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["about"]["command"].startswith("python experiments/run.py --env tests.algorithms")
    assert summary["world_steps"] == summary["decisions"] == 2560
    assert summary["trained"]["mean"] > 0.9 and summary["gain"]["low"] > 0.2
    assert "gain" in capsys.readouterr().out
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 40 and list(rows[0]) == list(log.COLUMNS)
    assert [row["update"] for row in rows if row["eval/return"]] == ["1", "6", "11", "16", "21", "26", "31", "36"]
    assert all(float(row["time/env"]) > 0 and float(row["time/learn"]) > 0 for row in rows)
    assert list(folder.glob("events.out.tfevents*"))
    lines = log.read_evaluations(folder)
    assert [line["policy"] for line in lines] == ["random"] + ["trained"] * 9
    seeds = {tuple(episode["seed"] for episode in line["episodes"]) for line in lines}
    assert len(seeds) == 1 and len(set(seeds.pop())) == 64  # the same 64 held-out worlds every time

    with pytest.raises(SystemExit, match="already holds a run"):
        run.main([*FLAGS, "--out", str(folder)])
    assert run.main(["--resume", str(folder), "--total-steps", "3200"]) == 0
    assert len(log.read_metrics(folder)) == 50
    saved = json.loads((folder / "config.json").read_text())
    assert saved["algo"] == "ippo" and saved["train"]["total_steps"] == 3200 and saved["ppo"]["lr"] == 0.01


def test_every_field_is_a_flag_with_words(capsys):
    with pytest.raises(SystemExit):
        run.main(["--help"])
    text = capsys.readouterr().out
    for name in (
        "algo",
        "env",
        "env-options",
        "n-worlds",
        "total-steps",
        "max-minutes",
        "lr-end",
        "target-kl",
        "resume",
    ):
        assert f"--{name}" in text


def test_config_survives_json():
    config = run.parse(["--env", "x", "--critic-hidden", "3", "4", "5", "--value-clip", "0.2", "--env-options", "a=1"])
    again = settings.from_json(run.RunConfig, json.loads(json.dumps(settings.to_json(config))))
    assert again == config and again.ppo.critic_hidden == (3, 4, 5)


def test_options_are_json_or_text():
    assert settings.options_of(["N=3", "a.b=null", "engine=fast"]) == {"N": 3, "a.b": None, "engine": "fast"}
    for bad in ("N", "=3"):
        with pytest.raises(SystemExit, match="key=value"):
            settings.options_of([bad])


def test_an_environment_that_cannot_be_made_is_an_error_in_words():
    for flags, words in ((["std-2055"], "did you mean"), (["std-mini", "--env-options", "opponents=nobody"], "nobody")):
        with pytest.raises(SystemExit, match=words):
            settings.make_env(run.parse(["--env", *flags]).env, 0, 1)


def test_an_undocumented_metric_is_refused(tmp_path):
    writer = log.RunLog(tmp_path)
    with pytest.raises(ValueError, match="loss/secret"):
        writer.write({"update": 1, "world_steps": 1, "decisions": 1, "loss/secret": 0.0}, [])
    writer.close()


def test_other_numbers_of_episodes_are_averaged():
    episodes = [{"world": 0, "seed": 1, "return": [1.0], "length": 3, "paid": 2.0}, {"return": [3.0], "paid": 4.0}]
    assert log.numbers_of(episodes) == {"paid": 3.0}


def test_evaluation_plays_the_first_episodes_of_every_world_and_repeats():
    env = ParallelVectorEnv(probes.constructors(probes.RightAction, 3))
    policy = Policy.uniform(1, env.action_grid)
    first, again = (evaluate(env, policy, seed=11, episodes=7) for _ in range(2))
    assert first == again and [e["world"] for e in first] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert evaluate(env, policy, seed=12, episodes=7) != first


def test_the_uniform_policy_takes_each_legal_choice_alike():
    grid, rng = SmallGrid(), np.random.default_rng(0)
    bounds = np.repeat(np.array([[0, 1, 0, 2, 0, 1, 0, 0, 5]], np.int32), 60_000, 0)
    action = Policy.uniform(1, grid).act(np.zeros((60_000, 1), np.float32), bounds, rng)
    share = np.bincount(action, minlength=grid.n_actions) / len(action)
    # end 1/2; offer 1/2, lead 1/2 each; lead 0: price 0 with 1 or 2 items, price 2 with 1; lead 1: price 2 with 1, 2, 5
    expected = np.zeros(grid.n_actions)
    expected[1] = 1 / 2
    expected[[3, 6]], expected[5], expected[[14, 17, 20]] = 1 / 16, 1 / 8, 1 / 12
    assert share == pytest.approx(expected, abs=0.01) and share[expected == 0].sum() == 0


def test_uniform_actions_are_legal_under_random_bounds():
    grid, rng = SmallGrid(), np.random.default_rng(1)
    bounds = random_bounds(rng, 5000, grid)
    action = Policy.uniform(2, grid).act(np.zeros((5000, 2), np.float32), bounds, rng)
    assert np.take_along_axis(grid.mask(bounds), action[:, None], 1).all()


def test_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    found = [interval(rng.exponential(size=20)) for _ in range(150)]
    assert 0.86 <= np.mean([low <= 1 <= high for _, low, high in found]) <= 0.99
    assert all(low < mean < high for mean, low, high in found)
    assert interval(np.ones(5)) == (1.0, 1.0, 1.0)


def test_idle_agents_are_asked_nothing_in_evaluation():
    env = Gaps(n_worlds=4)
    episodes = evaluate(env, Policy.uniform(2, env.action_grid), seed=0, episodes=8)
    assert len(episodes) == 8 and set(returns_of(episodes)) <= {-1.0, 0.0, 1.0}


def test_a_run_is_scored_by_a_command_of_its_own(tmp_path):
    folder, out = tmp_path / "run", tmp_path / "scores.json"
    run.main([*FLAGS, "--algo", "mappo", "--out", str(folder), "--total-steps", "2560", "--eval-every", "0"])
    command = [sys.executable, "experiments/evaluate_policy.py", str(folder), "--episodes", "40", "--out", str(out)]
    text = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True, capture_output=True, text=True
    ).stdout
    found = json.loads(out.read_text())
    assert len(found["episodes"]["trained"]) == len(found["episodes"]["random"]) == 40
    assert [e["seed"] for e in found["episodes"]["trained"]] == [e["seed"] for e in found["episodes"]["random"]]
    assert found["scores"]["trained"]["mean"] > 0.9 and "gain" in text


def test_the_display_shows_progress_results_and_times():
    row = dict.fromkeys(log.COLUMNS, math.nan) | {f"time/{phase}": 2.0 for phase in log.PHASES}
    console = Console(force_terminal=True, color_system=None, highlight=False, width=100, file=io.StringIO())
    with Display("mappo on a probe", 10, console) as display:
        display.show(row | {"update": 3, "decisions": 1234, "train/return": 5.5})
        display.show(row | {"update": 4, "decisions": 2345})
    text = console.file.getvalue()
    assert "mappo on a probe" in text and "update 4 of 10" in text and "2,345 decisions" in text
    assert "5.5" in text  # the last known value stays
    assert "4.0 s" in text and "14%" in text  # two of seven equal phases
    plain = Console(force_terminal=False, width=200, file=io.StringIO())
    with Display("title", 10, plain) as display:
        display.show(row | {"update": 4, "train/return": 5.5})
        display.show(row | {"update": 5, "eval/return": 6.5})
    assert plain.file.getvalue().splitlines() == ["update 5/10  train/return 5.5  eval/return 6.5"]
