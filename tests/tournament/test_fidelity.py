"""The worth of a copy: by hand, and experiments/fidelity.py as a user calls it."""

import json
import sys
from pathlib import Path

import pytest

from scml_marl_env.registry import config_of
from scml_marl_env.tournament.fidelity import worth
from tests.data.made import made_dataset
from tests.test_policy_agent import save_checkpoint
from tests.tournament.made import failed, world

sys.path.append(str(Path(__file__).resolve().parents[2] / "experiments"))

import fidelity


def records():
    scores = {1: (1.2, 1.1, 0.9), 2: (1.4, 1.4, 0.8), 3: (1.0, 0.8, 0.8)}
    found = []
    for seed, row in scores.items():
        for rotation, (name, score) in enumerate(zip(("expert", "clone", "nothing"), row, strict=True)):
            found.append(world(seed, rotation, name, {0: score, 2: score + 0.1 * (name == "expert")}))
    return [*found, world(4, 0, "expert", {0: 9.0}), failed(4, 1, "timeout: 60 s", "clone")]


def test_single_decisions_of_a_policy_with_a_memory_are_not_judged(tmp_path, monkeypatch):
    folder, data = save_checkpoint(tmp_path / "clone", "std-mini"), tmp_path / "data"
    made_dataset(data, config_of("std-mini"), seeds=range(2))
    monkeypatch.setattr(fidelity, "load_policy", lambda path: (object(), path))
    with pytest.raises(SystemExit, match=r"answers from memory.* leave out --data"):
        fidelity.main(["prudent", str(folder), "--data", str(data), "--worlds", "0", "--out", str(tmp_path / "out")])


def test_the_ratio_is_one_of_means_over_the_seats_that_all_played():
    found = worth(records(), "expert", "clone", "nothing")
    assert list(found) == ["all", "first", "last"]
    first = found["first"]
    assert (first.original, first.copy, first.idle) == pytest.approx((1.2, 1.1, 2.5 / 3))
    assert first.ratio.value == pytest.approx((0.2 + 0.6 + 0.0) / (0.3 + 0.6 + 0.2))
    assert found["last"].ratio.value == pytest.approx(0.8 / 1.4)
    assert found["all"].ratio.value == pytest.approx(1.6 / 2.5)
    assert found["all"].ratio.low <= 0.64 <= found["all"].ratio.high and found["all"].ratio.seats == 6
    assert worth(records(), "expert", "expert", "nothing")["all"].ratio.low == pytest.approx(1.0)
    with pytest.raises(ValueError, match="No world was played to its end by all of expert, other, nothing"):
        worth(records(), "expert", "other", "nothing")


def test_the_command_compares_decisions_and_scores(tmp_path, capsys):
    clone = save_checkpoint(tmp_path / "mine", "std-mini")
    made_dataset(tmp_path / "data", config_of("std-mini"), seeds=range(3))
    flags = ["prudent", str(clone), "--data", str(tmp_path / "data"), "--env", "std-mini", "--env-options", "days=5"]
    assert fidelity.main([*flags, "--worlds", "2", "--workers", "1", "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert ("operation offer" in printed and "side buy" in printed and "enough" in printed) or "too little" in printed
    found = json.loads((tmp_path / "out" / "fidelity.json").read_text())
    decisions = found["agreement"]["clone"]["decisions"]
    assert decisions == sum(x["decisions"] for name, x in found["agreement"].items() if name.startswith("operation"))
    assert {"by frequency", "last offer", "round 0", "level middle"} <= set(found["agreement"])
    assert found["worth"]["all"]["ratio"]["worlds"] == 2 and found["worth"]["all"]["idle"] < 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["prudent", "nothing"], "nothing is no checkpoint"),
        (["penguin-x", "{clone}"], "penguin-x"),
        (["penguin", "{clone}", "--decisions", "0"], "no decisions of penguin in test worlds"),
    ],
)
def test_what_cannot_be_compared_ends_in_one_line(flags, message, tmp_path):
    clone = save_checkpoint(tmp_path / "mine", "std-mini")
    made_dataset(tmp_path / "data", config_of("std-mini"), seeds=range(2))
    flags = [flag.format(clone=clone) for flag in flags]
    with pytest.raises(SystemExit, match=message):
        fidelity.main([*flags, "--data", str(tmp_path / "data"), "--env", "std-mini", "--worlds", "0"])
