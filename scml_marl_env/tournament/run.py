"""Plays a tournament into a folder: every finished world is on disk, and an interrupted tournament goes on from there.

tournament.json   what is played (`plan.Tournament`) and the versions it began with
worlds.jsonl      one `record.WorldRecord` a line, in the order in which the worlds finished
"""

import functools
import json
import os
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from scml_marl_env.tournament.attempts import outcomes
from scml_marl_env.tournament.backends import Backend
from scml_marl_env.tournament.isolate import Lost
from scml_marl_env.tournament.plan import Job, Tournament, jobs
from scml_marl_env.tournament.play import lost, play
from scml_marl_env.tournament.record import WorldRecord

_PACKAGES = ("scml_marl_env", "scml", "negmas", "scml-agents", "numpy", "torch")


def run(
    tournament: Tournament,
    folder: Path,
    backend: Backend,
    time_limit: float | None = None,
    retry_failed: bool = False,
    on_world: Callable[[WorldRecord], None] | None = None,
) -> list[WorldRecord]:
    """Plays what is not yet played.

    Args:
        tournament: what to play.
        folder: of its files; made if it is not there. One that holds the same tournament is continued.
        backend: where to play.
        time_limit: seconds for one world.
        retry_failed: play the worlds again that an earlier call reported as failed.
        on_world: told of every record, those that were on disk first.

    Returns:
        The record of every world, in the order of `plan.jobs`, whatever the order in which they finished.

    Raises:
        ValueError: if the folder holds another tournament, with what differs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    check_same(tournament, folder)
    plan = {job.key: job for job in jobs(tournament)}
    records = {record.key: record for record in read(folder) if record.key in plan}
    if retry_failed:
        records = {key: record for key, record in records.items() if record.error is None}
    if on_world is not None:
        for record in records.values():
            on_world(record)
    todo = [job for key, job in plan.items() if key not in records]
    with _opened(folder / "worlds.jsonl") as file:
        for record in _play_all(tournament, todo, backend, time_limit):
            file.write(record.to_json() + "\n")
            file.flush()
            os.fsync(file.fileno())
            records[record.key] = record
            if on_world is not None:
                on_world(record)
    return [records[key] for key in plan]


def read(folder: Path) -> list[WorldRecord]:
    """The records in a folder, the last one of a world that was played twice; a line that a crash cut short is none."""
    path = folder / "worlds.jsonl"
    if not path.is_file():
        return []
    lines = path.read_text().split("\n")
    records = {record.key: record for record in map(WorldRecord.from_json, lines[:-1])}
    return list(records.values())


def check_same(tournament: Tournament, folder: Path) -> None:
    """Writes what is played into a new folder; refuses one that holds something else."""
    path, now = folder / "tournament.json", tournament.to_json()
    if not path.is_file():
        versions = {package: _version(package) for package in _PACKAGES}
        path.write_text(json.dumps({"tournament": now, "versions": versions}, indent=1))
        return
    before = json.loads(path.read_text())["tournament"]
    differing = [name for name in now if now[name] != before.get(name) and name != "worlds"]
    if differing:
        raise ValueError(
            f"{folder} holds another tournament: it differs in {', '.join(differing)}. Choose another folder, or "
            "repeat the command that began it."
        )
    if now != before:  # more worlds of the same tournament
        path.write_text(json.dumps(json.loads(path.read_text()) | {"tournament": now}, indent=1))


def record_of(tournament: Tournament, job: Job, result: WorldRecord | Lost) -> WorldRecord:
    """The record of a world that was played or lost."""
    return lost(tournament, job, str(result), result.seconds) if isinstance(result, Lost) else result


def _play_all(
    tournament: Tournament, todo: list[Job], backend: Backend, time_limit: float | None
) -> Iterator[WorldRecord]:
    policies = {each.params["policy"] for each in tournament.competitors if "policy" in each.params}
    imports = sorted(policy.partition(":")[0] for policy in policies)
    for job, result in outcomes(functools.partial(play, tournament), todo, backend, time_limit, imports):
        yield record_of(tournament, job, result)


def _opened(path: Path) -> Any:
    """The file of worlds, without a last line that a crash cut short."""
    if path.is_file():
        text = path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        if whole != text:
            with open(path, "r+b") as file:
                file.truncate(len(whole))
    return open(path, "a")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except ModuleNotFoundError:  # importlib.metadata.PackageNotFoundError is one
        return None
