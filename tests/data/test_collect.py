"""Collections: the same bytes however they are played, continued after a kill, failures told and nothing else lost."""

import filecmp
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from scml_marl_env.data.collect import FIRST_SEED, Collection, Job, collect, record
from scml_marl_env.data.dataset import Dataset
from scml_marl_env.data.log import LogReader
from scml_marl_env.data.strip import strip
from scml_marl_env.layout import Layout
from scml_marl_env.registry import config_of
from scml_marl_env.tournament.backends import backend
from tests.test_policy_agent import save_checkpoint

sys.path.append(str(Path(__file__).parents[2] / "experiments"))
import collect as collect_command

OPTIONS = {"days": 6, "rounds": 8}
MINI = {"env": "std-mini", "options": OPTIONS}
ROOT = Path(__file__).parents[2]


def same_bytes(first, second):
    """Asserts that two folders hold the same files, and returns how many."""
    names = sorted(path.name for path in first.iterdir())
    assert names == sorted(path.name for path in second.iterdir())
    assert filecmp.cmpfiles(first, second, names, shallow=False) == (names, [], [])
    return len(names)


@pytest.fixture
def in_process(monkeypatch):
    """Worlds are played in this process, which saves the start of one."""
    monkeypatch.setattr("scml_marl_env.tournament.attempts.isolated", lambda call, job, time_limit, imports: call(job))


def test_a_collection_holds_what_was_logged_and_is_played_once(in_process, tmp_path):
    collection, seen = Collection.of(["prudent", "greedy"], **MINI), []
    data, failed = collect(collection, tmp_path / "a", 3, backend("serial"), keep_logs=True, on_world=seen.append)
    jobs = [Job(FIRST_SEED + i, j) for i in range(3) for j in (0, 1)]
    assert not failed and [played.job for played in seen] == jobs
    assert data.n_decisions == sum(played.decisions for played in seen) > 300
    assert data.experts == ["prudent", "greedy"] and data.n_episodes == 3 * 2 * 2
    assert data.world_seed.tolist() == np.repeat([job.world_seed for job in jobs], 2).tolist()
    assert data.expert.tolist() == [0, 0, 1, 1] * 3 and data.level.tolist() == [0, 2] * 6
    logged = [json.loads(line) for path in (tmp_path / "a.logs").rglob("*.jsonl") for line in path.open()]
    assert sum(event["ev"] == "decision" for event in logged) == data.n_decisions
    assert sum(event["ev"] == "window" for event in logged) == data.n_steps
    again, failed = collect(collection, tmp_path / "a", 3, backend("serial"), on_world=seen.append)
    assert again.n_decisions == data.n_decisions and len(seen) == 6  # nothing was played
    collect(collection, tmp_path / "b", 2, backend("serial"), keep_logs=True)
    collect(collection, tmp_path / "b", 3, backend("serial"))  # goes on
    assert same_bytes(tmp_path / "a", tmp_path / "b") == 23
    assert not (tmp_path / "b.logs").exists()


@pytest.mark.slow
def test_a_collection_is_the_same_bytes_on_every_backend(tmp_path):
    collection = Collection.of(["prudent", "greedy"], **MINI)
    for name in ("serial", "loky"):
        assert collect(collection, tmp_path / name, 3, backend(name))[1] == []
    assert same_bytes(tmp_path / "serial", tmp_path / "loky") == 23


@pytest.mark.slow
def test_a_collection_that_was_killed_goes_on_to_the_same_bytes(tmp_path):
    arguments = ["--experts", "prudent,greedy", "--env", "std-mini", "--env-options", "days=12", "--worlds", "3"]
    script = [sys.executable, str(ROOT / "experiments" / "collect.py"), *arguments, "--backend", "serial", "--out"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = subprocess.Popen([*script, str(killed)], env=environment, stdout=subprocess.DEVNULL)
    logs, start = tmp_path / "killed.logs", time.monotonic()
    while not list(logs.glob("*.partial")) or len(list(logs.glob("2*-?"))) < 2:  # two worlds done, the third begun
        assert process.poll() is None and time.monotonic() - start < 120
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not killed.exists() and 2 <= len(list(logs.glob("2*-?"))) < 6
    for folder in (killed, whole):
        subprocess.run([*script, str(folder)], env=environment, check=True, stdout=subprocess.DEVNULL)
    assert same_bytes(killed, whole) == 23
    assert not logs.exists()


@pytest.mark.slow
def test_a_world_that_fails_is_told_and_the_others_are_kept(tmp_path):
    experts = ["prudent", "tests.data.troublemakers:FailsAtOddSeeds"]
    collection = Collection.of(experts, **MINI)
    data, failed = collect(collection, tmp_path / "a", 2, backend("loky", 2), time_limit=60)
    assert [played.job for played in failed] == [Job(FIRST_SEED + 1, 1)]
    assert "broken on purpose" in failed[0].error
    assert data.n_episodes == 6 and data.manifest["about"]["failed"][0][0] == failed[0].job.name
    assert (tmp_path / "a.logs").is_dir()  # the next call plays only what failed
    seen = []
    _, failed = collect(collection, tmp_path / "a", 2, backend("serial"), on_world=seen.append)
    assert len(failed) == 1 and len(seen) == 4


def test_a_world_whose_process_dies_is_played_again(tmp_path, monkeypatch):
    monkeypatch.setenv("DIES_ONCE", str(tmp_path / "died"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    collection, seen = Collection.of(["tests.data.troublemakers:DiesOnce"], **MINI), []
    data, failed = collect(collection, tmp_path / "a", 2, backend("loky", 2), on_world=seen.append)
    assert (tmp_path / "died").exists()
    assert failed == [] and data.n_episodes == 4 and [played.error for played in seen] == [None, None]


def test_exceptions_are_counted(in_process, tmp_path):
    experts = ["tests.data.troublemakers:RaisesInPlay", "prudent"]
    collection, seen = Collection.of(experts, **MINI), []
    data, failed = collect(collection, tmp_path / "a", 1, backend("serial"), on_world=seen.append)
    names = [expert.name for expert in collection.experts]
    counted = data.manifest["about"]["exceptions"]
    assert not failed and counted == {names[0]: seen[0].exceptions, names[1]: 0} and seen[0].exceptions > 3


def test_worlds_without_a_decision_give_no_dataset(in_process, tmp_path):
    collection, seen = Collection.of(["tests.data.troublemakers:NeverAnswers"], **MINI), []
    assert collect(collection, tmp_path / "a", 1, backend("serial"), on_world=seen.append) == (None, [])
    assert seen[0].decisions == 0 and seen[0].exceptions > 3 and not list(tmp_path.glob("a*.partial"))


def test_the_command_shows_a_dataset_that_did_not_count_exceptions(tmp_path, capsys):
    command = ["--experts", "prudent", "--env", "std-mini", "--env-options", "days=6", "--worlds", "1"]
    command += ["--backend", "serial"]
    assert collect_command.main([*command, "--out", str(tmp_path / "a")]) == 0
    path = tmp_path / "a" / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["about"]["exceptions"]
    path.write_text(json.dumps(manifest))
    assert collect_command.main([*command, "--out", str(tmp_path / "a")]) == 0
    assert capsys.readouterr().out.count("prudent") >= 2


def test_fewer_worlds_do_not_replace_more(in_process, tmp_path):
    collection = Collection.of(["prudent"], **MINI)
    collect(collection, tmp_path / "a", 2, backend("serial"))
    with pytest.raises(ValueError, match="holds 2 worlds, more than 1"):
        collect(collection, tmp_path / "a", 1, backend("serial"))
    assert Dataset(tmp_path / "a").n_episodes == 4


def test_logs_whose_deletion_was_interrupted_are_not_taken_for_worlds(in_process, tmp_path, monkeypatch):
    collection, really = Collection.of(["prudent"], **MINI), shutil.rmtree

    def dies(path, *rest, **options):
        if path.name.endswith(".deleted") and path.exists():
            really(next(path.glob("2*")))
            raise KeyboardInterrupt
        really(path, *rest, **options)

    monkeypatch.setattr(shutil, "rmtree", dies)
    with pytest.raises(KeyboardInterrupt):
        collect(collection, tmp_path / "a", 2, backend("serial"))
    monkeypatch.setattr(shutil, "rmtree", really)
    data, _ = collect(collection, tmp_path / "a", 3, backend("serial"))
    assert data.n_episodes == 6 and not list(tmp_path.glob("*.deleted")) and not (tmp_path / "a.logs").exists()


def test_another_collection_in_the_folder_is_refused(in_process, tmp_path):
    collect(Collection.of(["prudent"], **MINI), tmp_path / "a", 1, backend("serial"), keep_logs=True)
    other = Collection.of(["prudent"], **MINI | {"seats": "official"})
    with pytest.raises(ValueError, match="another collection"):
        collect(other, tmp_path / "a", 1, backend("serial"))
    (tmp_path / "a").rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="differs in seats"):
        collect(other, tmp_path / "a", 1, backend("serial"))
    for bad in ({"seats": "best"}, {"fractional_prices": "yes"}, {"options": {"privileged_state": True}}):
        with pytest.raises(ValueError):
            Collection.of(["prudent"], **MINI | bad)


def rows_of(config_options, tmp_path, expert, world_seed=FIRST_SEED):
    """The events of the logs of a world, by name of the log."""
    collection = Collection.of([expert], "std-mini", options=config_options)
    record(collection, tmp_path, Job(world_seed, 0))
    return {path.name: LogReader(path) for path in sorted((tmp_path / f"{world_seed}-0").glob("*.jsonl"))}


def test_a_label_reaches_no_feature_of_its_own_window(tmp_path):
    """The same world until one answer is another one: every window up to there, and its own, looks the same."""
    expert = "tests.data.troublemakers:"
    plain = rows_of(OPTIONS, tmp_path / "plain", expert + "Steady")
    other = rows_of(OPTIONS, tmp_path / "other", expert + "ChangesItsMind")
    (mine, *_), (theirs, *_) = plain.values(), other.values()
    seen = [[event for event in log.events() if event["ev"] in ("window", "decision")] for log in (mine, theirs)]
    equal = [_same_arrays(mine, a, theirs, b) for a, b in zip(*seen, strict=False)]
    changed = [a.get("action") != b.get("action") for a, b in zip(*seen, strict=False)].index(True)
    assert changed > 10 and all(equal[: changed + 1])
    a, b = seen[0][changed], seen[1][changed]
    assert [a[name] for name in ("day", "round", "thread")] == [b[name] for name in ("day", "round", "thread")]
    assert not all(equal)  # and it does reach the windows that follow

    logs = [sorted((tmp_path / name).rglob("*.jsonl"))[0] for name in ("plain", "other")]
    (one, _), (two, _) = (strip(path) for path in logs)
    n = [a != b for a, b in zip(one["action"], two["action"], strict=False)].index(True)
    step = int(np.searchsorted(np.cumsum(one["answers"]), n, side="right"))
    assert n > 5 and all(np.array_equal(one[name][: n + 1], two[name][: n + 1]) for name in ("observation", "bounds"))
    assert np.array_equal(one["state"][: step + 1], two["state"][: step + 1])


def _same_arrays(log_a, a, log_b, b):
    names = ("state",) if a["ev"] == "window" else ("observation", "bounds")
    return a["ev"] == b["ev"] and all(
        np.array_equal(log_a.array(name, a["ref"]), log_b.array(name, b["ref"])) for name in names
    )


@pytest.mark.parametrize("expert", ["prudent", "greedy"])
def test_the_history_of_a_decision_ends_before_it(tmp_path, expert):
    """Rebuilt from the events of the log that stand before the decision, and from nothing else."""
    options = {"days": 6, "rounds": 20, "processes": 3}
    compared = copies = countered = 0
    for log in rows_of(options, tmp_path, expert).values():
        columns = _history_columns(config_of("std-mini", **options))
        day, offers = {}, {}
        for event in log.events():
            if event["ev"] == "day_start":
                day, offers = event, {}
            if event["ev"] != "decision":
                continue
            k, side = event["thread"], 0 if event["role"] == "buyer" else 1
            past = offers.setdefault(k, [])
            if event["offer"] is not None:
                quantity, when, price = event["offer"]
                past.append((0, quantity, when - event["day"], price, event["round"]))
            best, worst = (
                (day["price_low"][0], day["price_high"][0])
                if side == 0
                else (day["price_high"][1], day["price_low"][1])
            )
            expected = np.zeros((5, 6))
            for row, (mine, quantity, lead, price, at) in zip(expected[::-1], past[::-1], strict=False):
                row[:] = 1, mine, quantity / 30, lead / 10, (price - best) / (worst - best), (event["round"] - at) / 20
            assert np.allclose(log.array("observation", event["ref"])[columns].reshape(5, 6), expected, atol=1e-6)
            compared += 1
            if event["op"] == "offer":
                countered += 1
                copies += bool(past) and past[-1][1:4] == (event["quantity"], event["delta"], event["price"])
                past.append((1, event["quantity"], event["delta"], event["price"], event["round"]))
    assert compared > 100
    assert copies < 0.5 * countered  # the newest entry is not the label


def _history_columns(config):
    return [i for i, name in enumerate(Layout(config).observation_names) if name.startswith("history_")]


def test_a_checkpoint_is_recorded(tmp_path):
    folder = save_checkpoint(tmp_path / "policy", "std-mini")
    collection = Collection.of([f"mine={folder}"], **MINI)
    record(collection, tmp_path / "logs", Job(FIRST_SEED, 0))
    assert len(list((tmp_path / "logs" / f"{FIRST_SEED}-0").glob("*.jsonl"))) == 2
