"""experiments/transfer.py: what it makes of returns, and a run of it on the fast engine."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "experiments"))
import run  # noqa: E402
import transfer  # noqa: E402


def test_two_engines_are_compared_in_pairs():
    fast = np.array([0.0, 1.0, 2.0, 3.0])
    found = transfer.means({"fast": fast, "scml": fast + np.array([0.1, 0.3, 0.1, 0.3])})
    assert found["difference"]["mean"] == pytest.approx(0.2)
    assert found["difference"]["high"] - 0.2 == pytest.approx(0.1 / np.sqrt(3) * 3.182446, rel=1e-6)  # t, 3 degrees
    assert found["margin"] == pytest.approx(0.2 + 0.1 / np.sqrt(3) * 2.353363, rel=1e-6)
    assert "difference" not in transfer.means({"fast": fast})


def test_a_policy_and_agents_in_its_place_on_one_engine(tmp_path, capsys):
    worlds = ["--env", "std-mini", "--env-options", "days=4", "--bank-worlds", "0", "--eval-bank-worlds", "0"]
    sizes = ["--n-worlds", "2", "--n-steps", "4", "--total-steps", "8", "--eval-every", "0", "--workers", "1"]
    assert run.main(["--algo", "ippo", *worlds, *sizes, "--out", str(tmp_path / "run")]) == 0
    flags = ["--episodes", "4", "--worlds", "2", "--workers", "1", "--engines", "fast", "--beside", "prudent"]
    assert transfer.main([str(tmp_path / "run"), *flags, "--out", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["about"]["command"].startswith("python experiments/transfer.py")
    returns = {name: np.array(mine["fast"]) for name, mine in found["returns"].items()}
    assert set(returns) == {"policy", "prudent"} and all(len(values) == 4 for values in returns.values())
    gain = (returns["policy"] - returns["prudent"]).mean()
    assert found["policy_over"]["prudent"]["fast"]["mean"] == pytest.approx(gain) and gain != 0
    assert "over prudent: fast" in capsys.readouterr().out
