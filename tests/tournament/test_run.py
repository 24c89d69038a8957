"""Tournaments as a whole: the same on every backend, whatever happens to a world, interrupted or not."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from scml_marl_env.tournament.backends import BACKENDS, Serial, backend
from scml_marl_env.tournament.competitors import Competitor
from scml_marl_env.tournament.plan import Tournament, jobs
from scml_marl_env.tournament.run import read, run

ROOT = Path(__file__).parents[2]
GREEDY = Competitor(name="greedy", path="scml.std.agents:GreedyStdAgent")


def trouble(kind, **params):
    return Competitor(name=kind, path=f"tests.tournament.troublemakers:{kind}", params=params)


def tournament(*competitors, **options):
    return Tournament(
        **{"env": "std-mini", "competitors": (GREEDY, *competitors), "mode": "swap", "worlds": 2} | options
    )


def outcomes(records):
    return [record.outcome() for record in records]


@pytest.fixture
def importable(monkeypatch):
    """Lets the processes of the workers import the tests."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The records of a small tournament, played one world after the other."""
    played = tournament(Competitor(name="random", path="scml.std.agents:RandomStdAgent"), worlds=3)
    return played, run(played, tmp_path_factory.mktemp("serial"), Serial())


def test_serial_plays_every_world_in_the_order_of_the_plan(alone):
    played, records = alone
    assert [record.key for record in records] == [job.key for job in jobs(played)]
    assert all(record.error is None and len(record.seats) == 2 for record in records)


@pytest.mark.parametrize("name", ["loky", pytest.param("ray", marks=pytest.mark.slow)])
def test_every_backend_gives_the_same(name, alone, tmp_path):
    pytest.importorskip(name)
    played, records = alone
    assert outcomes(run(played, tmp_path, backend(name, 2))) == outcomes(records)


@pytest.mark.slow
def test_a_cluster_of_several_nodes_gives_the_same(alone, tmp_path):
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    played, records = alone
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address, log_to_driver=False)
        assert len(ray.nodes()) == 2
        assert outcomes(run(played, tmp_path, backend("ray"))) == outcomes(records)
    finally:
        ray.shutdown()
        cluster.shutdown()


def test_the_hash_seed_of_the_caller_does_not_matter(alone, tmp_path):
    records = alone[1]
    code = (
        "import sys, pathlib; from tests.tournament.test_run import *; "
        "played = tournament(Competitor(name='random', path='scml.std.agents:RandomStdAgent'), worlds=3); "
        "run(played, pathlib.Path(sys.argv[1]), Serial())"
    )
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, cwd=ROOT, env=environment)
    assert outcomes(read(tmp_path)) == outcomes(records)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("Raises", "exception: "),
        ("Hangs", "timeout: not done within 10 seconds"),
        ("Dies", "death: its process ended with exit code 3"),
    ],
)
@pytest.mark.parametrize("name", ["serial", pytest.param("loky", marks=pytest.mark.slow)])
def test_a_failing_world_is_reported_and_the_others_are_played(name, kind, error, tmp_path, importable):
    records = run(tournament(trouble(kind), worlds=1), tmp_path, backend(name, 2), time_limit=10)
    good, bad = records
    assert good.error is None and bad.error.startswith(error) and bad.seats == ()
    if kind == "Raises":
        assert "no licence" in bad.error


def test_exceptions_in_play_are_counted_and_the_world_goes_on(tmp_path, importable):
    _, record = run(tournament(trouble("RaisesInPlay"), worlds=1), tmp_path, Serial())
    assert record.error is None
    for seat in record.seats:
        assert seat.measures["exceptions"] == seat.measures["windows"] == seat.extra["raised"] > 20


@pytest.mark.parametrize("kind", ["DiesOnce", "KillsWorkerOnce"])
@pytest.mark.parametrize("name", ["loky", pytest.param("ray", marks=pytest.mark.slow)])
def test_a_death_loses_nothing(name, kind, tmp_path, importable):
    pytest.importorskip(name)
    note = tmp_path / "died"
    played = tournament(trouble(kind, note=str(note)), worlds=2)
    first = run(played, tmp_path / "first", backend(name, 2), time_limit=120)
    assert note.exists()
    assert all(record.error is None for record in first)
    assert outcomes(run(played, tmp_path / "calm", Serial())) == outcomes(first)


def test_a_world_that_always_dies_is_given_up(tmp_path, importable):
    seen = []
    run(tournament(trouble("Dies"), worlds=1), tmp_path, Serial(), on_world=seen.append)
    assert [record.error is None for record in seen] == [True, False]


def test_agents_cannot_remember_other_worlds(tmp_path, importable):
    played = tournament(trouble("Remembers"), worlds=3)
    records = run(played, tmp_path, Serial())
    for record, same in zip(records[::2], records[1::2], strict=True):
        greedy, remembers = ([seat["measures"] for seat in each.outcome()["seats"]] for each in (record, same))
        assert greedy == remembers


def test_an_interrupted_tournament_goes_on_to_the_same_end(alone, tmp_path):
    played, records = alone
    code = (
        "import sys, pathlib; from tests.tournament.test_run import *; "
        "played = tournament(Competitor(name='random', path='scml.std.agents:RandomStdAgent'), worlds=3); "
        "run(played, pathlib.Path(sys.argv[1]), Serial())"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT)
    while len(read(tmp_path)) < 2:
        time.sleep(0.05)
        assert process.poll() is None, "it should not be done yet"
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = len(read(tmp_path))
    assert 2 <= before < len(records)
    with open(tmp_path / "worlds.jsonl", "a") as file:
        file.write('{"key": "100000')  # as a crash in the middle of a line leaves it
    again = []
    assert outcomes(run(played, tmp_path, Serial(), on_world=again.append)) == outcomes(records)
    lines = (tmp_path / "worlds.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["key"] for line in lines) == sorted(record.key for record in records)
    assert len(again) == len(records)


def test_a_killed_tournament_leaves_no_process(tmp_path):
    code = (
        "import sys, pathlib; from tests.tournament.test_run import *; "
        "run(tournament(worlds=1000), pathlib.Path(sys.argv[1]), backend('loky', 2))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT)
    while len(read(tmp_path)) < 3:
        time.sleep(0.1)
        assert process.poll() is None, "it should not be done yet"
    started = psutil.Process(process.pid).children(recursive=True)
    assert len(started) >= 4  # two workers, and two servers that fork the worlds
    process.send_signal(signal.SIGKILL)
    process.wait()
    _, left = psutil.wait_procs(started, timeout=20)
    assert left == []


def test_a_finished_tournament_plays_nothing(alone, tmp_path):
    class Refuses:
        def run(self, call, jobs):
            assert list(jobs) == []
            return iter(())

    played, records = alone
    (tmp_path / "worlds.jsonl").write_text("".join(record.to_json() + "\n" for record in records))
    assert outcomes(run(played, tmp_path, Refuses())) == outcomes(records)


def test_more_worlds_of_the_same_tournament_are_added(alone, tmp_path):
    played, records = alone
    fewer = tournament(*played.competitors[1:], worlds=1)
    assert outcomes(run(fewer, tmp_path, Serial())) == outcomes(records)[:2]
    run(played, tmp_path, Serial())
    assert len((tmp_path / "worlds.jsonl").read_text().splitlines()) == len(records)


def test_failed_worlds_are_played_again_on_demand(tmp_path, monkeypatch, importable):
    monkeypatch.setattr("scml_marl_env.tournament.attempts.ATTEMPTS", 1)
    played = tournament(trouble("DiesOnce", note=str(tmp_path / "died")), worlds=1)
    folder = tmp_path / "played"
    assert run(played, folder, Serial())[1].error.startswith("death")
    assert run(played, folder, Serial())[1].error.startswith("death")
    assert run(played, folder, Serial(), retry_failed=True)[1].error is None
    assert [record.error for record in read(folder)] == [None, None]


def test_a_folder_of_another_tournament_is_refused(tmp_path):
    run(tournament(worlds=1), tmp_path, Serial())
    with pytest.raises(ValueError, match="differs in mode, seed"):
        run(tournament(worlds=1, mode="free", seed=3), tmp_path, Serial())


def test_backends_have_names():
    with pytest.raises(ValueError, match="serial, loky, ray"):
        backend("dask")
    assert isinstance(backend(BACKENDS[0]), Serial)
