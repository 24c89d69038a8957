"""experiments/run.py --algo dt --data FOLDER, and experiments/target_return.py with what it made."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from algorithms import log
from algorithms.recollection import DecisionTransformerPolicy
from tests.algorithms.test_offline_command import PLAY, folder  # noqa: F401 - a fixture

sys.path.append(str(Path(__file__).parents[2] / "experiments"))
import run
import target_return
from settings import load_policy

SMALL = ["--width", "16", "--layers", "1", "--heads", "2", "--context", "4", "--length", "8", "--warmup", "2"]


def test_a_transformer_from_the_command_line_and_what_it_earns_when_asked(folder, tmp_path, capsys):  # noqa: F811
    out = tmp_path / "dt"
    flags = ["--algo", "dt", "--data", str(folder), "--out", str(out), "--tokens", "factory", *SMALL, *PLAY]
    assert run.main([*flags, "--epochs", "2"]) == 0
    text = capsys.readouterr().out
    assert "last offer" in text and "frequency" in text and "held-out return, gain" in text
    found = json.loads((out / "offline.json").read_text())
    assert {"nll", "accuracy/operation", "ece/action"} <= set(found["test"]["model"])
    assert [line["policy"] for line in log.read_evaluations(out)] == ["trained", "random"]
    assert run.main(["--resume", str(out), "--epochs", "3"]) == 0
    saved = json.loads((out / "config.json").read_text())["learner"]
    assert len(log.read_metrics(out)) == 3 and saved["epochs"] == 3 and saved["tokens"] == "factory"
    policy, checkpoint = load_policy(out)
    assert isinstance(policy, DecisionTransformerPolicy) and policy.actor.config.width == 16

    asked = ["--quantiles", "0.1", "0.9", "--episodes", "4", "--seeds", "0", "1", "--out", str(tmp_path / "asked")]
    assert target_return.main([str(out), *asked]) == 0
    assert "within a world" in capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / "asked" / "episodes.csv").open()))
    assert len(rows) == 2 * 2 * 4
    for low, high in zip(rows[:8], rows[8:], strict=True):
        assert low["world"] == high["world"] and float(low["target"]) <= float(high["target"])
    told = json.loads((tmp_path / "asked" / "target_return.json").read_text())
    assert told["worlds"] == 8 and told["checkpoint"] == str(checkpoint)
    assert (tmp_path / "asked" / "target_return.png").stat().st_size > 1000
    exact = ["--returns", "-0.5", "--episodes", "4", "--seeds", "0", "--out", str(tmp_path / "exact"), "--greedy"]
    assert target_return.main([str(out), *exact]) == 0
    rows = list(csv.DictReader((tmp_path / "exact" / "episodes.csv").open()))
    assert {row["target"] for row in rows} == {"-0.5"} and len(rows) == 4

    with pytest.raises(SystemExit, match="DecisionTransformer"):
        run.main(["--algo", "mappo", "--env", "oneshot-mini", "--init", str(out)])
    cloned = ["--algo", "bc", "--data", str(folder), "--out", str(tmp_path / "bc"), "--epochs", "1"]
    assert run.main([*cloned, "--eval-episodes", "0"]) == 0
    with pytest.raises(SystemExit, match="holds no Decision Transformer"):
        target_return.main([str(tmp_path / "bc"), "--out", str(tmp_path / "no")])


def test_the_summary_of_targets_by_hand():
    rows = [
        {"asked": asked, "seed": seed, "number": number, "team": 0, "target": asked, "return": earned}
        for asked, returns in ((1.0, (3, 4, 5, 8)), (0.0, (1, 2, 3, 9)), (2.0, (5, 6, 7, 7)))
        for (seed, number), earned in zip(((0, 0), (0, 1), (1, 0), (1, 1)), returns, strict=True)
    ]
    found = target_return.summary(rows)
    assert [line["asked"] for line in found["targets"]] == [0, 1, 2] and found["worlds"] == 4
    assert [line["return"]["mean"] for line in found["targets"]] == [3.75, 5.0, 6.25]
    assert found["targets"][0]["seeds"] == {"0": 1.5, "1": 6.0} and found["targets"][0]["step"] is None
    assert found["targets"][1]["step"]["mean"] == pytest.approx(np.mean([2, 2, 2, -1]))
    assert found["spearman"]["mean"] == pytest.approx((1 + 1 + 1 - 1) / 4) and found["spearman_of_means"] == 1
    assert found["last_over_first"]["mean"] == pytest.approx(np.mean([4, 4, 4, -2]))
