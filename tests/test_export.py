"""experiments/export.py: the zip holds what plays, and it plays where nothing of ours is installed."""

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest

from algorithms import checkpoint

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "experiments"))

import export  # noqa: E402

POLICIES = ROOT / "experiments" / "results" / "scoreboard" / "policies"
TRAINS = (
    "ppo", "mappo", "ippo", "buffer", "train", "blocks", "losses", "returns", "array_env", "env", "vector",
    "decision_transformer", "streams", "offline",
)  # fmt: skip

PLAYS = """
import json, sys
from pathlib import Path
import numpy as np
import scml_marl_env
assert Path(scml_marl_env.__file__).parent == Path.cwd() / "scml_marl_env", scml_marl_env.__file__
from my_agent import MyAgent

KEPT = []

class Recorded(MyAgent):
    def open_book(self):
        book = super().open_book()
        act, mine, played, seed = self.policy.act, [], self.rng, self.rng.bit_generator.seed_seq.entropy
        KEPT.append((seed, mine))
        class Listener:
            config, observation_names = self.policy.config, self.policy.observation_names
            def act(self, observation, bounds, rng, greedy=False):
                actions = act(observation, bounds, rng, greedy)
                if rng is played:  # not the rehearsal
                    mine.append((observation.copy(), bounds.copy(), actions))
                return actions
        self.policy = Listener()
        return book

if __name__ == "__main__":
    import recorded
    from scml.utils import anac2024_std
    results = anac2024_std(
        competitors=["recorded.Recorded", "scml.std.agents.greedy.GreedyStdAgent"], n_configs=1, n_steps=6,
        n_processes=2, parallelism="serial", tournament_path=str(Path.cwd() / "league"), forced_logs_fraction=0.0,
    )
    assert len(results.scores) and (results.scores["score"] > 0).all(), results.scores
    arrays, seeds = {}, []
    for number, (seed, windows) in enumerate(recorded.KEPT):
        seeds.append([int(word) for word in seed])
        for window, parts in enumerate(windows):
            for name, array in zip(("observation", "bounds", "actions"), parts):
                arrays[f"{number}-{window}-{name}"] = array
    np.savez("windows.npz", **arrays)
    Path("seeds.json").write_text(json.dumps([seeds, [len(windows) for _, windows in recorded.KEPT]]))
"""


@pytest.fixture
def unpacked(tmp_path):
    """The folder in which an exported agent lies."""
    assert export.main([str(POLICIES / "mappo-std"), str(tmp_path / "out.zip"), "--name", "MyAgent"]) == 0
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        archive.extractall(tmp_path / "agent")
    return tmp_path / "agent"


def test_the_zip_holds_what_plays_and_nothing_that_trains(unpacked):
    files = {str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if path.is_file()}
    assert {"my_agent.py", "requirements.txt", "policy/meta.json", "policy/weights.safetensors", "LICENSE"} <= files
    assert "scml_marl_env/policy_agent.py" in files and "algorithms/networks.py" in files
    assert not {Path(name).stem for name in files} & set(TRAINS)
    wanted = (unpacked / "requirements.txt").read_text().split()
    assert {line.partition(">=")[0] for line in wanted} == {"numpy", "numba", "torch", "safetensors"}
    assert sum((unpacked / name).stat().st_size for name in files) < 2**20


def test_it_can_be_imported_by_itself(unpacked):
    code = (
        f"import sys; sys.path[:] = [p for p in sys.path if p != {str(ROOT)!r}]; import my_agent, scml_marl_env; "
        "agent = my_agent.MyAgent(); print(scml_marl_env.__file__, my_agent.MAIN_AGENT.__name__, "
        "sorted(m for m in sys.modules if m.startswith(('algorithms.', 'scml_marl_env.'))))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-c", code], cwd=unpacked, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{unpacked}/scml_marl_env/__init__.py MyAgent")
    assert "algorithms.ppo" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("/nowhere", "out.zip"), "/nowhere holds no checkpoint"),
        ((str(POLICIES / "mappo-std"), "out.zip", "--name", "my_agent"), "class name such as MyAgent"),
    ],
)
def test_what_cannot_be_exported_is_refused(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=message):
        export.main(list(arguments))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_it_plays_in_the_leagues_runner_where_only_scml_and_its_requirements_are_installed(unpacked, tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}

    def run(*command):
        done = subprocess.run([str(python), *command], cwd=unpacked, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]

    run("-m", "pip", "install", "-q", "-c", str(ROOT / "constraints.txt"), "scml", "-r", "requirements.txt")
    (unpacked / "recorded.py").write_text(PLAYS)
    run("recorded.py")
    policy = checkpoint.load(POLICIES / "mappo-std")
    windows = np.load(unpacked / "windows.npz")
    seeds, lengths = json.loads((unpacked / "seeds.json").read_text())
    threads = 0
    for number, (seed, length) in enumerate(zip(seeds, lengths, strict=True)):
        rng = np.random.default_rng(seed)
        for window in range(length):
            observation, bounds, actions = (
                windows[f"{number}-{window}-{name}"] for name in ("observation", "bounds", "actions")
            )
            assert policy.act(observation, bounds, rng).tolist() == actions.tolist()
            threads += len(actions)
    assert threads > 50
