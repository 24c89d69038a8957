import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).resolve().parent.parent / "experiments"
sys.path.append(str(EXPERIMENTS))

import bench  # noqa: E402
import bench_cases as cases  # noqa: E402
import bench_versions  # noqa: E402
from about import about  # noqa: E402

from scml_marl_env.registry import config_of  # noqa: E402


@pytest.fixture(scope="module", params=["std-mini", "oneshot-mini"])
def workload(request):
    return cases.record(config_of(request.param, days=5), seconds=0.05, seed=0)


def test_the_recording_stops_at_the_end_of_a_day_and_counts_every_answer(workload):
    for played in workload.worlds:
        assert 1 <= played.days <= 5
        assert len(played.actions) == len(played.answers)
        assert played.decisions == sum(len(answers) for answers in played.answers.values())


def test_the_cases_play_the_same_worlds(workload):
    lean = cases.scml_loop(workload, lean=True)
    others = [cases.engine_alone(workload), cases.array_env(workload), cases.thread_env(workload)]
    for measure in (lean, *others):
        assert measure.same
        assert not measure.note
        assert measure.cpu > 0
        assert measure.days == sum(played.days for played in workload.worlds)
        assert measure.decisions == sum(played.decisions for played in workload.worlds)


def test_the_stopwatch_accounts_for_the_whole_time_and_leaves_the_code_as_it_was(workload):
    from scml_marl_env import array_env

    before = array_env.open_window, array_env.ArrayEnv.step
    measure = cases.where_the_time_goes(workload)
    assert (array_env.open_window, array_env.ArrayEnv.step) == before
    assert measure.same
    assert {"SCML", "view", "bounds and features", "settle and counters", "RNG swap", "dicts and masks"} <= set(
        measure.phases
    )
    assert sum(measure.phases.values()) == pytest.approx(measure.cpu, rel=0.15)  # it also watches the closing


def _spin(seconds: float) -> None:
    """Uses CPU time."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_a_part_is_not_charged_for_the_parts_inside_it():
    watch = cases._Stopwatch()
    inner = watch.around("inner", lambda: _spin(0.03))
    watch.around("outer", lambda: (_spin(0.01), inner()))()
    assert watch.seconds["inner"] >= 0.03
    assert 0.01 <= watch.seconds["outer"] < 0.03


def test_a_summary_has_medians_and_ratios_of_the_same_repeat():
    def measure(cpu: float, **more) -> cases.Measure:
        return cases.Measure(cpu=cpu, days=10, decisions=100, **more)

    rows = bench.summarise(
        "std-mini",
        {
            cases.BASELINE: [measure(2.0), measure(4.0), measure(8.0)],
            "ours": [measure(cpu, phases={"SCML": 3.0, "draw and build": 0.5, "view": 0.5}) for cpu in (1.0, 1.0, 4.0)],
        },
    )
    assert [row["ratio"] for row in rows] == [1.0, 0.5]
    assert (rows[1]["ratio_low"], rows[1]["ratio_high"]) == (0.25, 0.5)
    assert rows[0]["decisions_per_cpu_second"] == 25.0
    assert rows[1]["cpu_seconds_per_day"] == 0.1
    assert rows[1]["share: view"] == 0.125
    assert "12.5%" in list(bench.share_table("std-mini", rows).columns[1].cells)
    assert bench.result_table("std-mini", rows).row_count == 2


def test_what_is_written_names_machine_versions_and_commit(tmp_path):
    row = {"env": "std-mini", "case": "ours", "ratio": 0.5}
    bench.write(
        [row, row | {"note": "n"}], about("experiments/bench.py", ["--days", "3"]), bench.BenchConfig(out=tmp_path)
    )
    written = json.loads((tmp_path / "bench.json").read_text())
    assert written["about"]["command"] == "python experiments/bench.py --days 3"
    assert {"cpu", "cores", "python", "scml", "negmas", "numpy", "numba", "commit", "date"} <= set(written["about"])
    assert written["rows"][0] == row
    header, *lines = (tmp_path / "bench.csv").read_text().splitlines()
    assert header.startswith("env,case,ratio,note,command,cpu")
    assert len(lines) == 2


def test_help_tells_every_option(capsys):
    with pytest.raises(SystemExit) as stopped:
        bench.main(["--help"])
    assert stopped.value.code == 0
    told = capsys.readouterr().out
    for option in ("--env", "--days", "--repeats", "--seconds", "--seed", "--no-rl", "--out"):
        assert option in told


@pytest.mark.slow
def test_the_command_measures_every_case_and_writes_nothing_elsewhere(tmp_path):
    command = [sys.executable, str(EXPERIMENTS / "bench.py"), "--env", "oneshot-mini", "--days", "8"]
    command += ["--repeats", "1", "--seconds", "0.1", "--out", str(tmp_path / "out")]
    command += ["--fast-worlds", "2", "--fast-seconds", "0.2", "--bank-worlds", "2", "--no-start-up"]
    paths = os.pathsep.join([str(EXPERIMENTS.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "HOME": str(tmp_path / "home"), "PYTHONPATH": paths}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "out" / "bench.json").read_text())["rows"]
    real, fast = [row for row in rows if "same" in row], [row for row in rows if "same" not in row]
    assert [row["case"] for row in real] == [name for name, _ in (*cases.CASES, *cases.RL_CASES)]
    assert all(row["same"] in (True, None) and row["peak_mb"] > 50 for row in real)
    players = ("one factory", "all factories by turns", "all factories")
    assert [row["case"] for row in fast] == [f"fast, {who}, E = 2, 1 core" for who in players]
    assert all(row["decisions_per_cpu_second"] > 0 and row["kib_per_world"] > 0 for row in fast)
    assert not (tmp_path / "home" / "negmas").exists()


def test_the_benchs_random_policy_draws_every_allowed_action_and_no_other():
    import numpy as np
    from bench_fast import draw_actions

    import scml_marl_env

    env = scml_marl_env.make_vector("oneshot-mini", 4, engine="fast")
    env.reset(0)
    actions, stream = np.zeros((4, env.n_agents), np.int64), np.array([7], np.uint64)
    grid, drawn = env.action_grid, [[set() for _ in range(env.n_agents)] for _ in range(4)]
    for _ in range(3000):
        draw_actions(env.bounds, env.active, grid.quantity_array, grid.n_leads, stream, actions)
        for e, n in np.argwhere(env.active):
            drawn[e][n].add(int(actions[e, n]))
    masks = grid.mask(env.bounds)
    assert env.active.any() and not actions[~env.active].any()
    for e, n in np.argwhere(env.active):
        assert drawn[e][n] == set(np.flatnonzero(masks[e, n]).tolist())


def test_without_git_the_commit_is_unknown(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert about("experiments/bench.py", [])["commit"] == "unknown"


def test_folders_without_the_project_are_not_compared(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        bench_versions.main(["--trees", str(tmp_path)])
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert stopped.value.code == 2 and "is no checkout of this project" in said


@pytest.mark.slow
def test_versions_are_compared_in_pairs(tmp_path):
    root, out = str(EXPERIMENTS.parent), tmp_path / "versions.json"
    asked = ["--trees", root, root, "--env", "std-mini", "--n-worlds", "2", "--rounds", "3", "--seconds", "0.1"]
    assert bench_versions.main([*asked, "--out", str(out)]) == 0
    one, two = json.loads(out.read_text())["rows"]
    assert one["ratio"] == 1 and 0.2 < two["ratio"] < 5 and len(two["bursts"]) == 3
