"""Datasets of decisions, version 1: flat arrays on disk with offsets and a manifest, far larger than memory if need be.

A dataset is a folder with `manifest.json` and one `NAME.npy` for each array of `ARRAYS`. Its three levels:

    episode    one factory in one world
    step       a window of it: what it decides at once, about all threads that wait, or one by one if that is its way
    decision   the answer in one thread of a step, in the order of the slots

Steps of episode p are first_step[p]:first_step[p+1], decisions of step w first_decision[w]:first_decision[w+1].

manifest.json: {"format", "version", "config": the `EnvConfig` whose features these are, "grid": class and fields of the
action grid, "observation_names", "state_names", "experts": names, "arrays": {name: {dtype, shape}}, "versions":
{package: version}, "card": see `data.card`, and "about": what else the writer was told}.
"""

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from scml_marl_env.actions import ActionGrid
from scml_marl_env.config import EnvConfig
from scml_marl_env.data.card import LEVELS, SPLITS, Card
from scml_marl_env.data.columns import Column
from scml_marl_env.data.rollouts import Rollout, from_rollout, rollout_of
from scml_marl_env.layout import Layout

__all__ = ["ARRAYS", "LEVELS", "SPLITS", "Dataset", "DatasetWriter", "from_rollout", "split_of"]

FORMAT, VERSION = "scml_marl_env.dataset", 1


_PACKAGES = ("scml_marl_env", "scml", "negmas", "scml-agents", "numpy")


class Array(NamedTuple):
    """An array of the format: what its rows are (`decision`, `step`, `episode`), its dtype, and the letter of its width
    ("" for a plain column)."""

    per: str
    dtype: type
    width: str = ""


ARRAYS: dict[str, Array] = {
    "observation": Array("decision", np.float32, "D"),  # features of the thread, as `open_window` writes them live
    "bounds": Array("decision", np.int32, "M"),  # compact bounds of the thread
    "action": Array("decision", np.int32),  # the answer on the action grid: nearest quantity and price, same lead
    "legal": Array("decision", np.bool_),  # whether the bounds allow the action
    "raw": Array("decision", np.int32, "raw"),  # operation, quantity, lead, price as sent
    "slot": Array("decision", np.int16),  # k
    "state": Array("step", np.float32, "S"),  # what the critic sees of the factory at the window
    "day": Array("step", np.int16),
    "round": Array("step", np.int16),  # the latest of the window's threads
    "reward": Array("step", np.float32),  # from the step until the next one of the factory (`RewardBook`)
    "elapsed": Array("step", np.float32),  # days that passed in the meantime
    "terminated": Array("step", np.bool_),  # at the last step: the world is over or the factory bankrupt
    "truncated": Array("step", np.bool_),  # at the last step: recording stopped earlier
    "first_decision": Array("step", np.int64),  # W + 1 numbers
    "first_step": Array("episode", np.int64),  # P + 1 numbers
    "world_seed": Array("episode", np.int64),
    "factory": Array("episode", np.int16),  # index in its world
    "level": Array("episode", np.int16),  # index into LEVELS
    "expert": Array("episode", np.int16),  # index into the manifest's experts
    "split": Array("episode", np.int16),  # index into SPLITS
    "n_days": Array("episode", np.int16),  # of the world
    "score": Array("episode", np.float64),  # SCML's, of the factory
}
_OFFSETS = ("first_decision", "first_step")


def split_of(world_seed: int) -> int:
    """Index into `SPLITS`, by the last digit of the seed: 1 is validation, 2 test, the other eight are training."""
    return {1: 1, 2: 2}.get(int(world_seed) % 10, 0)


class Dataset:
    """A dataset on disk. Every array of `ARRAYS` is an attribute, mapped into memory when it is first asked for.

    Args:
        folder: of the dataset.

    Raises:
        ValueError: if the folder holds no dataset of this version.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        path = self.folder / "manifest.json"
        if not path.is_file():
            raise ValueError(f"{folder} is no dataset: it holds no manifest.json.")
        self.manifest: dict[str, Any] = json.loads(path.read_text())
        found = self.manifest.get("format"), self.manifest.get("version")
        if found != (FORMAT, VERSION):
            raise ValueError(f"{folder} holds {found[0]!r} of version {found[1]!r}, expected {FORMAT!r} of {VERSION}.")
        self.observation_names: list[str] = self.manifest["observation_names"]
        self.state_names: list[str] = self.manifest["state_names"]
        self.experts: list[str] = self.manifest["experts"]
        shapes = self.manifest["arrays"]
        self.n_decisions: int = shapes["action"]["shape"][0]
        self.n_steps: int = shapes["reward"]["shape"][0]
        self.n_episodes: int = shapes["score"]["shape"][0]

    def __getattr__(self, name: str) -> np.ndarray:
        if name not in ARRAYS:
            raise AttributeError(f"A dataset has no array {name!r}; there are {', '.join(ARRAYS)}.")
        array = np.load(self.folder / f"{name}.npy", mmap_mode="r")
        self.__dict__[name] = array
        return array

    @cached_property
    def config(self) -> EnvConfig:
        """Of the environment whose features these are."""
        return self.config_in(self.manifest)

    @staticmethod
    def config_in(manifest: Mapping[str, Any]) -> EnvConfig:
        """The config of a manifest."""
        described = manifest["config"].items()
        options: dict[str, Any] = {name: tuple(x) if isinstance(x, list) else x for name, x in described}
        return EnvConfig(**options)

    @cached_property
    def grid(self) -> ActionGrid:
        return Layout(self.config).grid

    def decisions_of(self, episodes: Iterable[int]) -> np.ndarray:
        """int64 (n,), the rows of the decisions of episodes, in their order."""
        first, steps = self.first_decision, self.first_step
        return _ranges([(first[steps[p]], first[steps[p + 1]]) for p in episodes])

    def steps_of(self, episodes: Iterable[int]) -> np.ndarray:
        """int64 (n,), the rows of the steps of episodes, in their order."""
        return _ranges([(self.first_step[p], self.first_step[p + 1]) for p in episodes])

    def episodes_of(self, split: str | None = None, expert: str | None = None) -> np.ndarray:
        """int64 (n,), episodes of a split of `SPLITS` and of an expert, None for any.

        Raises:
            ValueError: for another name.
        """
        chosen = np.ones(self.n_episodes, bool)
        if split is not None:
            chosen &= self.split == _index(split, SPLITS, "split")
        if expert is not None:
            chosen &= self.expert == _index(expert, self.experts, "expert")
        return np.flatnonzero(chosen).astype(np.int64)

    def episode(self, index: int) -> dict[str, np.ndarray]:
        """What `DatasetWriter.episode` was given as `steps`: views of the arrays of one episode, by name."""
        first, last = (int(row) for row in self.first_step[index : index + 2])
        offsets = self.first_decision[first : last + 1]
        rows = {"decision": slice(int(offsets[0]), int(offsets[-1])), "step": slice(first, last)}
        steps = {
            name: getattr(self, name)[rows[array.per]]
            for name, array in ARRAYS.items()
            if array.per in rows and name not in (*_OFFSETS, "legal")
        }
        return steps | {"answers": np.diff(offsets)}

    def about(self, index: int) -> dict[str, Any]:
        """What `DatasetWriter.episode` was given beside: the numbers of one episode by name, its expert by name."""
        names = [name for name, array in ARRAYS.items() if array.per == "episode" and name not in _OFFSETS]
        return {name: getattr(self, name)[index].item() for name in names} | {
            "expert": self.experts[int(self.expert[index])]
        }

    def rollout(self, episode: int) -> Rollout:
        """One episode as the arrays of a rollout buffer."""
        return rollout_of(self.episode(episode), self.config.n_slots)


class DatasetWriter:
    """Writes a dataset, episode by episode; the folder appears complete with `close`, or not at all.

    As a context manager it closes at the end of the block, and leaves nothing behind if the block raises.

    Args:
        folder: of the dataset; a dataset that is there is replaced by `close`.
        config: of the environment whose features are written.
        experts: names of all who may be recorded.
        about: anything else worth keeping in the manifest (JSON).

    Raises:
        ValueError: if the folder holds something else.
    """

    def __init__(
        self, folder: str | Path, config: EnvConfig, experts: Sequence[str], about: Mapping[str, Any] | None = None
    ) -> None:
        self.folder, self.config, self.experts = Path(folder), config, list(experts)
        self._layout = Layout(config)
        self._about = dict(about or {})
        if self.folder.exists() and not (self.folder / "manifest.json").is_file():
            raise ValueError(f"{self.folder} is there and no dataset, so it is not replaced: choose another folder.")
        self._partial = self.folder.with_name(self.folder.name + ".partial")
        shutil.rmtree(self._partial, ignore_errors=True)
        self._partial.mkdir(parents=True)
        widths = {
            "D": (len(self._layout.observation_names),),
            "M": (self._layout.grid.n_bounds,),
            "S": (len(self._layout.state_names),),
            "raw": (4,),
            "": (),
        }
        self._columns = {
            name: Column(self._partial / f"{name}.npy", np.dtype(array.dtype), widths[array.width])
            for name, array in ARRAYS.items()
        }
        self._card = Card(self._layout.grid, self.experts)
        self._n_steps = self._n_decisions = 0
        for name in _OFFSETS:
            self._columns[name].append(np.zeros(1, np.int64))

    def __enter__(self) -> "DatasetWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()

    def episode(
        self,
        steps: Mapping[str, np.ndarray],
        *,
        world_seed: int,
        factory: int,
        level: int,
        expert: int | str,
        n_days: int,
        score: float,
        split: int | None = None,
    ) -> None:
        """Appends an episode.

        Args:
            steps: the arrays of `ARRAYS` that have a row for each decision or step (`legal` follows from the others),
                and "answers", int (W,), the number of decisions of each step.
            world_seed, factory, level, n_days, score: see `ARRAYS`.
            expert: name, or index of it.
            split: index into `SPLITS`; None takes `split_of` the seed.

        Raises:
            ValueError: for arrays that are missing or do not fit each other.
        """
        answers = np.asarray(steps["answers"], np.int64)
        n_decisions, n_steps = int(answers.sum()), len(answers)
        if n_steps == 0 or not (answers > 0).all():
            raise ValueError("An episode needs at least one step, and each of its steps at least one decision.")
        arrays = {name: np.asarray(array) for name, array in steps.items() if name != "answers"}
        about = {
            "world_seed": world_seed,
            "factory": factory,
            "level": level,
            "expert": _index(expert, self.experts, "expert") if isinstance(expert, str) else expert,
            "split": split_of(world_seed) if split is None else split,
            "n_days": n_days,
            "score": score,
        }
        arrays["first_decision"] = self._n_decisions + np.cumsum(answers)
        arrays["first_step"] = np.array([self._n_steps + n_steps])
        arrays |= {name: np.array([value]) for name, value in about.items()}
        wanted = set(ARRAYS) - {"legal"}
        if set(arrays) != wanted:
            raise ValueError(f"An episode has the arrays {sorted(wanted)}; got {sorted(arrays)}.")
        expected = {"decision": n_decisions, "step": n_steps, "episode": 1}
        for name, array in arrays.items():
            self._columns[name].check(array, expected[ARRAYS[name].per])
        for name, n in (("level", len(LEVELS)), ("expert", len(self.experts)), ("split", len(SPLITS))):
            if not 0 <= about[name] < n:
                raise ValueError(f"{name} is an index in 0..{n - 1}, got {about[name]}.")
        arrays["legal"] = self._layout.grid.allows(
            np.asarray(arrays["bounds"], np.int32), np.asarray(arrays["action"], np.int64)
        )
        for name, array in arrays.items():
            self._columns[name].append(array)
        self._n_decisions += n_decisions
        self._n_steps += n_steps
        self._card.add(arrays, answers)

    def close(self) -> None:
        """Writes the manifest and puts the folder in its place.

        Raises:
            ValueError: if there is no episode.
        """
        if self._n_steps == 0:
            self.abandon()
            raise ValueError("A dataset needs at least one episode.")
        shapes = {name: column.close() for name, column in self._columns.items()}
        for name in _OFFSETS:
            shapes[name][0] -= 1  # W and P, not the ends
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "config": _described(self.config),
            "grid": {"class": "scml_marl_env.actions:ActionGrid", "fields": asdict(self._layout.grid)},
            "observation_names": self._layout.observation_names,
            "state_names": self._layout.state_names,
            "experts": self.experts,
            "arrays": {
                name: {"dtype": str(np.dtype(ARRAYS[name].dtype)), "shape": shape} for name, shape in shapes.items()
            },
            "versions": {package: _version(package) for package in _PACKAGES},
            "card": self._card.to_json(),
            "about": self._about,
        }
        (self._partial / "manifest.json").write_text(json.dumps(manifest, indent=1))
        old = self.folder.with_name(self.folder.name + ".old")
        if self.folder.exists():
            shutil.rmtree(old, ignore_errors=True)  # of a writer that was killed right here
            self.folder.rename(old)
        self._partial.rename(self.folder)
        shutil.rmtree(old, ignore_errors=True)

    def abandon(self) -> None:
        """Deletes what has been written."""
        for column in self._columns.values():
            column.close()
        shutil.rmtree(self._partial, ignore_errors=True)


def _ranges(pairs: list[tuple[int, int]]) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.int64), *(np.arange(first, last, dtype=np.int64) for first, last in pairs)])


def _index(name: str, names: Sequence[str], what: str) -> int:
    if name not in names:
        raise ValueError(f"No {what} {name!r}; there are {', '.join(names)}.")
    return list(names).index(name)


def _described(config: EnvConfig) -> dict[str, Any]:
    from scml_marl_env.vector import describe

    return describe(config)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
