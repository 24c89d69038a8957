"""Jobs that die are played again, the others are told as they end."""

import os
from functools import partial
from pathlib import Path

import pytest

from scml_marl_env.tournament.attempts import ATTEMPTS, outcomes
from scml_marl_env.tournament.backends import Serial, WorkerLost
from scml_marl_env.tournament.isolate import Lost


def dies(folder, deaths, job):
    """Ends its process, until it has done so as often as `deaths` says for this job; raises for job 9."""
    if job == 9:
        raise ValueError("no nines")
    attempt = len(list(Path(folder).glob(f"{job}-*")))
    (Path(folder) / f"{job}-{attempt}").touch()
    if attempt < deaths.get(job, 0):
        os._exit(3)
    return job * job


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    )


def test_a_job_that_dies_is_played_again_but_not_for_ever(tmp_path):
    assert ATTEMPTS == 3
    found = list(outcomes(partial(dies, tmp_path, {2: 1, 3: 2, 4: 3}), [1, 2, 3, 4, 9], Serial()))
    assert [job for job, _ in found] == [1, 9, 2, 3, 4]
    results = dict(found)
    assert [results[job] for job in (1, 2, 3)] == [1, 4, 9]
    assert isinstance(results[4], Lost) and results[4].kind == "death" and "exit code 3" in str(results[4])
    assert results[9].kind == "exception" and "no nines" in str(results[9]) and results[9].seconds > 0
    assert len(list(tmp_path.glob("*-*"))) == 1 + 2 + 3 + 3


def test_jobs_of_a_worker_that_dies_are_played_again():
    class LosesTheFirst(Serial):
        def run(self, call, jobs):
            for number, job in enumerate(jobs):
                yield job, WorkerLost("killed") if number == 0 else -job

    found = dict(outcomes(str, [1, 2, 3], LosesTheFirst()))
    assert found[2] == -2 and found[3] == -3
    assert str(found[1]) == "death: killed"  # alone, it is always the first
