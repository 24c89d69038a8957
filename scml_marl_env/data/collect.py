"""Collects a dataset: worlds in which experts play fixed seats and are recorded, played anywhere, to be continued.

NAME                     the dataset, see `data.dataset`; it appears when all worlds have been played
NAME.logs                what has been played so far: collection.json, and a folder of logs for each world and expert

A folder of logs appears when its world is finished. The dataset is made of the logs in the order of worlds and experts,
so that it is the same, byte for byte, whatever the number of processes and however often it was interrupted.
"""

import functools
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from scml_marl_env.config import EnvConfig
from scml_marl_env.data.dataset import Dataset, DatasetWriter
from scml_marl_env.data.recorder import recorded
from scml_marl_env.data.strip import strip
from scml_marl_env.registry import config_of
from scml_marl_env.tournament.attempts import outcomes
from scml_marl_env.tournament.backends import Backend
from scml_marl_env.tournament.competitors import Competitor, competitors
from scml_marl_env.tournament.isolate import Lost
from scml_marl_env.tournament.play import player_of
from scml_marl_env.tournament.prices import fractional_prices
from scml_marl_env.world.seats import check_seats, seated

FIRST_SEED = 20_000_000
"""World seeds begin here, away from those of the banks for training and evaluation, and of tournaments."""


@dataclass(frozen=True, kw_only=True)
class Collection:
    """What is recorded.

    Attributes:
        experts: who is recorded; each plays every world.
        env: id of the environment: track, size of the worlds, opponents, features.
        options: of the environment, in place of the id's own.
        seats: of `world.seats.SEATS`.
        fractional_prices: "refuse" or "accept", see `tournament.prices`.
        first_seed: of the first world; the others follow.
    """

    experts: tuple[Competitor, ...]
    env: str = "std-2025"
    options: dict[str, Any] = field(default_factory=dict)
    seats: str = "levels"
    fractional_prices: str = "refuse"
    first_seed: int = FIRST_SEED

    def __post_init__(self) -> None:
        """Raises ValueError for what cannot be recorded, TypeError as `config_of`."""
        if self.config().privileged_state:
            raise ValueError("privileged_state tells what an agent cannot know, so nothing of it can be recorded.")
        if self.fractional_prices not in ("refuse", "accept"):
            raise ValueError(f"fractional_prices must be refuse or accept, got {self.fractional_prices!r}.")
        check_seats(self.seats)

    def config(self) -> EnvConfig:
        return config_of(self.env, **self.options)

    @classmethod
    def of(cls, experts: list[str], env: str = "std-2025", **fields: Any) -> "Collection":
        """A collection of experts as `tournament.competitors` reads them.

        Raises:
            ValueError, TypeError, ModuleNotFoundError: as `competitors` and `config_of`.
        """
        track = config_of(env, **fields.get("options", {})).track
        return cls(experts=competitors(experts, track), env=env, **fields)

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON knows it."""
        described: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return described


class Job(NamedTuple):
    """A world to play: its seed, and which expert sits in it."""

    world_seed: int
    expert: int

    @property
    def name(self) -> str:
        return f"{self.world_seed}-{self.expert}"


class Played(NamedTuple):
    """A world that has been played, or could not be: `error` is None, or what went wrong.

    `exceptions` counts those that the expert raised into the world, which goes on without its answer.
    """

    job: Job
    decisions: int
    exceptions: int
    error: str | None


def collect(
    collection: Collection,
    folder: Path,
    worlds: int,
    backend: Backend,
    time_limit: float | None = None,
    keep_logs: bool = False,
    on_world: Callable[[Played], None] | None = None,
) -> tuple[Dataset | None, list[Played]]:
    """Plays what is not yet played, and makes the dataset.

    Worlds that fail are left out, and played again by the next call; their logs are then kept. A collection that is
    done can be made larger: without its logs all its worlds are played again.

    Args:
        collection: what to record.
        folder: of the dataset. If it holds this collection already, nothing is done, and `on_world` not called.
        worlds: how many; each is played once by every expert.
        backend: where to play.
        time_limit: seconds for one world.
        keep_logs: keep the logs when the dataset is made.
        on_world: told of every world that is there, those that were played by earlier calls first.

    Returns:
        The dataset, None if no world could be played or no window was seen in any, and the worlds that failed.

    Raises:
        ValueError: if the folder holds something else, or more worlds than are asked for.
    """
    about: dict[str, Any] = {"collection": collection.to_json(), "worlds": worlds}
    if folder.exists():
        data = Dataset(folder)
        held = data.manifest["about"]
        if held.get("collection") != about["collection"]:
            raise ValueError(f"{folder} holds another collection; choose another folder.")
        if held["worlds"] > worlds:
            raise ValueError(f"{folder} holds {held['worlds']} worlds, more than {worlds}: choose another folder.")
        if held["worlds"] == worlds and not held["failed"]:
            return data, []
    logs = folder.with_name(folder.name + ".logs")
    shutil.rmtree(_trash(logs), ignore_errors=True)
    _check_same(collection, logs)
    jobs = [Job(collection.first_seed + i, j) for i in range(worlds) for j in range(len(collection.experts))]
    failed = _play(collection, logs, jobs, backend, time_limit, on_world or (lambda played: None))
    about["failed"] = [[played.job.name, str(played.error).splitlines()[-1]] for played in failed]
    names = [each.name for each in collection.experts]
    there = [_played(logs, job) for job in jobs if (logs / job.name).is_dir()]
    if not any(played.decisions for played in there):
        return None, failed
    exceptions = dict.fromkeys(names, 0)
    for played in there:
        exceptions[names[played.job.expert]] += played.exceptions
    with DatasetWriter(folder, collection.config(), names, about | {"exceptions": exceptions}) as writer:
        for job, *_ in there:
            for path in sorted((logs / job.name).glob("*.jsonl")):
                episode = strip(path)
                if episode is not None:  # bankrupt before its first window
                    writer.episode(episode[0], world_seed=job.world_seed, expert=job.expert, **episode[1])
    if not keep_logs and not failed:
        logs.rename(_trash(logs))  # at once: half of the logs would look like fewer worlds
        shutil.rmtree(_trash(logs))
    return Dataset(folder), failed


def _trash(logs: Path) -> Path:
    return logs.with_name(logs.name + ".deleted")


def record(collection: Collection, logs: Path, job: Job) -> None:
    """Plays a world and writes its folder of logs. Call it in a process of its own."""
    partial = logs / f"{job.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    config, expert = collection.config(), player_of(collection.experts[job.expert])
    player = expert._replace(agent=recorded(expert.agent, config, partial))
    with fractional_prices(collection.fractional_prices == "accept"):
        made = seated(config, job.world_seed, player, collection.seats, "data")
        made.play()
    for index in made.chosen:
        made.agent(index).end_recording()
    partial.rename(logs / job.name)


def _play(
    collection: Collection,
    logs: Path,
    jobs: list[Job],
    backend: Backend,
    time_limit: float | None,
    on_world: Callable[[Played], None],
) -> list[Played]:
    """Plays the jobs without a folder; returns those that failed."""
    for job in jobs:
        if (logs / job.name).is_dir():
            on_world(_played(logs, job))
    policies = {each.params["policy"] for each in collection.experts if "policy" in each.params}
    imports = (__name__, *sorted(policy.partition(":")[0] for policy in policies))
    call, failed = functools.partial(record, collection, logs), []
    todo = [job for job in jobs if not (logs / job.name).is_dir()]
    for job, result in outcomes(call, todo, backend, time_limit, imports):
        played = Played(job, 0, 0, str(result)) if isinstance(result, Lost) else _played(logs, job)
        if played.error is not None:
            failed.append(played)
        on_world(played)
    return sorted(failed)


def _played(logs: Path, job: Job) -> Played:
    """A finished world, by the last line of each of its logs."""
    decisions = exceptions = 0
    for path in (logs / job.name).glob("*.jsonl"):
        with open(path, "rb") as file:
            file.seek(-min(512, path.stat().st_size), 2)
            end = json.loads(file.read().splitlines()[-1])
        decisions, exceptions = decisions + end["decisions"], exceptions + end["exceptions"]
    return Played(job, decisions, exceptions, None)


def _check_same(collection: Collection, logs: Path) -> None:
    """Writes what is recorded into a new folder; refuses one that holds something else."""
    path, now = logs / "collection.json", collection.to_json()
    logs.mkdir(parents=True, exist_ok=True)
    if not path.is_file():
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(now, indent=1))
        partial.rename(path)
        return
    before = json.loads(path.read_text())
    if before != now:
        differing = [name for name in now if now[name] != before.get(name)]
        raise ValueError(
            f"{logs} holds logs of another collection: it differs in {', '.join(differing)}. Choose another folder, or "
            "repeat the command that began it."
        )
