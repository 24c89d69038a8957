"""Prepared worlds: drawn once by SCML's generator and constructor, kept in a folder, played by either engine.

    python -m scml_marl_env.world.bank std-2025 --worlds 1024 --out banks/std-2025

A bank is a folder with `bank.json` (what the worlds were generated with) and shards of 64 worlds, `worlds-0000.npz`.
World `row` is that of world seed `first_seed + row`, so it is the same in every bank that holds it.
"""

import argparse
import json
import os
import sys
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scml_marl_env.config import EnvConfig
from scml_marl_env.world.draw import WorldDraw, economy, mix
from scml_marl_env.world.fast.columns import LEVEL, N_FACTORIES, Tables
from scml_marl_env.world.fast.tables import Room, room_for, stack, static_of, tables_for, tables_of, write
from scml_marl_env.world.rng import GlobalRandomness

FORMAT = 2
SHARD_SIZE = 64
_ROWS = 0x726F7773  # keeps the choice of a row apart from others that are drawn with the same seed
_CACHE = "SCML_MARL_ENV_CACHE"


class Prepared(NamedTuple):
    """A world before its day 0 and before anybody has a role in it.

    Attributes:
        world_seed: what SCML's generator drew it with.
        tables: of the fast engine, W = 1.
        levels: production level of each factory, ascending.
        defaults: import path of the default agent of each factory, None where the generator had a competitor.
    """

    world_seed: int
    tables: Tables
    levels: tuple[int, ...]
    defaults: tuple[str | None, ...]


class _Shard(NamedTuple):
    tables: Tables
    seeds: list[int]
    levels: list[tuple[int, ...]]
    defaults: list[tuple[str | None, ...]]


def prepare(config: EnvConfig, world_seed: int) -> Prepared:
    """Draws a world of a config and reads its tables, with SCML's own generator and constructor (about 0.1 s)."""
    from scml.oneshot.agents import OneshotDoNothingAgent

    from scml_marl_env.world.official import build

    made = economy(config, world_seed)
    everyone = tuple(range(len(made.levels)))
    drawn = WorldDraw(
        seed=world_seed,
        world_seed=world_seed,
        params=made.params,
        levels=made.levels,
        agent_types=(None,) * len(everyone),
        controlled=everyone,
    )
    with GlobalRandomness(world_seed + 1):  # as ScmlEngine.reset does it: the constructor draws the daily penalties
        world = build(drawn, config, OneshotDoNothingAgent)
    return Prepared(world_seed, tables_of(static_of(world)), made.levels, made.defaults)


class Bank:
    """The prepared worlds in a folder; `library` holds them in memory.

    Raises:
        FileNotFoundError: if the folder holds no bank.
        ValueError: if the bank is unfinished, damaged, or of a format that this version does not read.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        about = _read_about(self.folder)
        if about is None:
            raise FileNotFoundError(
                f"There is no bank in {self.folder} (no bank.json): make one with "
                f"`python -m scml_marl_env.world.bank ENV_ID --worlds N --out {self.folder}`."
            )
        if about["n_worlds"] == 0:
            raise ValueError(f"The bank in {self.folder} is unfinished: run the command that makes it once more.")
        self.about: dict[str, Any] = about
        self._libraries: dict[Room, Library] = {}

    def __len__(self) -> int:
        return self.about["n_worlds"]

    def row_of(self, seed: int) -> int:
        """The world that an episode of a seed plays."""
        return mix(int(seed) ^ _ROWS) % len(self)

    def world_seed(self, row: int) -> int:
        """What SCML's generator draws world `row` with."""
        return self.about["first_seed"] + row

    def library(self, config: EnvConfig) -> "Library":
        """The worlds in memory, with room for those of a config; the same one for all configs with equal room."""
        room = room_for(config)
        if room not in self._libraries:
            self._libraries[room] = Library(self, config)
        return self._libraries[room]

    def check(self, config: EnvConfig) -> None:
        """Refuses a config whose worlds are generated otherwise than those of the bank.

        Raises:
            ValueError: naming every parameter that differs.
        """
        ours, theirs = self.about["parameters"], parameters(config)
        if ours != theirs:
            differing = "; ".join(
                f"{name} is {ours.get(name)} in the bank and {theirs.get(name)} in the environment"
                for name in sorted(ours.keys() | theirs.keys())
                if ours.get(name) != theirs.get(name)
            )
            raise ValueError(f"The bank in {self.folder} holds other worlds: {differing}. Use a bank made for these.")

    def read(self, number: int) -> _Shard:
        """A shard, from its file.

        Raises:
            ValueError: if it is missing or damaged.
        """
        path = self.folder / _shard_name(number)
        wanted = min(self.about["shard_size"], len(self) - number * self.about["shard_size"])
        shard = _load_shard(path)
        first = self.world_seed(number * self.about["shard_size"])
        if shard is None or shard.seeds[:wanted] != list(range(first, first + wanted)):
            raise ValueError(
                f"{path} is missing or damaged: delete it, if it is there, and run the command that made the bank once "
                "more; what is whole is kept."
            )
        return shard


class Library:
    """A bank's worlds in memory, as the fast engine plays them: all that a process plays at once share them.

    A shard is read when the first of its worlds is asked for, and kept.

    Attributes:
        bank: whose worlds.
        tables: of all of them, W = len(bank); only the rows of shards that were read are filled. Nobody may write.
    """

    def __init__(self, bank: Bank, config: EnvConfig) -> None:
        self.tables = tables_for(config, len(bank))
        self.bank = bank
        self._known: dict[int, Prepared] = {}

    def prepared(self, row: int) -> Prepared:
        """World `row`, which is in that row of `tables` from now on.

        Raises:
            IndexError: if the bank has no such world.
            ValueError: if its shard is missing or damaged.
        """
        known = self._known.get(row)
        return self._fill(row) if known is None else known

    def _fill(self, row: int) -> Prepared:
        bank = self.bank
        if not 0 <= row < len(bank):
            raise IndexError(f"The bank in {bank.folder} has worlds 0..{len(bank) - 1}, not {row}.")
        size = bank.about["shard_size"]
        shard, first = bank.read(row // size), row // size * size
        for i, about in enumerate(zip(shard.seeds, shard.levels, shard.defaults, strict=True)):
            if first + i < len(bank):
                write(self.tables, first + i, Tables(*(array[i : i + 1] for array in shard.tables)))
                place = Tables(*(array[first + i : first + i + 1] for array in self.tables))
                self._known[first + i] = Prepared(about[0], place, *about[1:])
        return self._known[row]


def open_bank(config: EnvConfig) -> Bank:
    """The bank that `config.bank` names, checked against the config. A bank is opened once in a process.

    Raises:
        FileNotFoundError, ValueError: as `Bank`, and ValueError if it is a bank of other worlds.
    """
    assert config.bank is not None
    about = Path(config.bank) / "bank.json"
    bank = _open(config.bank, about.stat().st_mtime_ns if about.is_file() else 0)
    bank.check(config)
    return bank


@lru_cache(maxsize=16)
def _open(folder: str, modified: int) -> Bank:
    bank = Bank(folder)
    _warn_versions(bank)
    return bank


def _warn_versions(bank: Bank) -> None:
    made, here = bank.about["versions"], _versions()
    if made != here:
        warnings.warn(
            f"The bank in {bank.folder} was made with {_listed(made)}, and here is {_listed(here)}: real SCML may draw "
            "other worlds for its seeds. Make the bank anew to be sure that both engines play the same ones.",
            stacklevel=4,
        )


def parameters(config: EnvConfig) -> dict[str, Any]:
    """What the generated worlds of a config depend on."""
    return {
        "track": config.track,
        "days": list(config.days_range),
        "processes": list(config.processes_range),
        "factories_per_level": None if config.factories_per_level is None else list(config.factories_range),
        "rounds": config.rounds,
    }


def build_bank(
    config: EnvConfig,
    folder: str | Path,
    n_worlds: int,
    first_seed: int = 0,
    processes: int = 2,
    show_progress: bool = True,
) -> Bank:
    """Makes a bank of at least `n_worlds`, or finishes or enlarges the one that is there; whole shards are kept.

    Args:
        config: whose worlds.
        folder: where; made if missing.
        n_worlds: how many. A bank that has more keeps them.
        first_seed: world seed of row 0.
        processes: that draw worlds at the same time; 1 draws them in this one.
        show_progress: a bar on stderr.

    Raises:
        ValueError: for numbers out of range, or if the folder holds another bank or other files.
    """
    _check_number("n_worlds", n_worlds, 1)
    _check_number("first_seed", first_seed, 0)
    _check_number("processes", processes, 1)
    folder = Path(folder)
    about = {
        "format": FORMAT,
        "parameters": parameters(config),
        "versions": _versions(),
        "first_seed": first_seed,
        "shard_size": SHARD_SIZE,
    }
    there = _claim(folder, about)
    if there < n_worlds:
        missing = [
            number
            for number in range(-(-n_worlds // SHARD_SIZE))
            if _n_kept(folder, number) < min(SHARD_SIZE, n_worlds - number * SHARD_SIZE)
        ]
        rows = [range(n * SHARD_SIZE, min(n_worlds, (n + 1) * SHARD_SIZE)) for n in missing]
        made = _prepare_all(config, [first_seed + row for shard in rows for row in shard], processes)
        if show_progress:
            made = _shown(made, sum(map(len, rows)), folder)
        for number, shard in zip(missing, rows, strict=True):
            _save_shard(folder / _shard_name(number), list(islice(made, len(shard))))
        _write_about(folder, {**about, "n_worlds": n_worlds})
    return Bank(folder)


def cached_bank(config: EnvConfig, n_worlds: int, first_seed: int = 0, processes: int = 2) -> Path:
    """The folder of a bank of exactly `n_worlds` of a config in the user's cache, made if it is not there yet.

    The cache is `$SCML_MARL_ENV_CACHE`, or `~/.cache/scml_marl_env`. Parameters, versions and `n_worlds` are in the
    folder's name: the same call names the same worlds on every machine, whatever else its cache holds.
    """
    _check_number("n_worlds", n_worlds, 1)
    made = parameters(config)
    per_level = "official" if made["factories_per_level"] is None else "{}-{}".format(*made["factories_per_level"])
    name = (
        f"{made['track']}-days{'-'.join(map(str, made['days']))}-levels{'-'.join(map(str, made['processes']))}"
        f"-factories{per_level}-rounds{made['rounds']}-{'-'.join(f'{k}{v}' for k, v in _versions().items())}"
        f"-format{FORMAT}-seed{first_seed}-{n_worlds}"
    )
    cache = Path(os.environ.get(_CACHE) or Path.home() / ".cache" / "scml_marl_env")
    folder = cache / "banks" / name
    about = _read_about(folder)
    if about is None or about["n_worlds"] < n_worlds:
        build_bank(config, folder, n_worlds, first_seed, processes)
    return folder


def _prepare_all(config: EnvConfig, seeds: Sequence[int], processes: int) -> Iterator[Prepared]:
    """The worlds of the seeds, in their order."""
    if processes == 1 or len(seeds) < 2:
        return (prepare(config, seed) for seed in seeds)
    from joblib import Parallel, delayed

    workers = Parallel(n_jobs=min(processes, len(seeds)), backend="loky", return_as="generator")
    return workers(delayed(prepare)(config, seed) for seed in seeds)


def _shown(made: Iterator[Prepared], total: int, folder: Path) -> Iterator[Prepared]:
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*Progress.get_default_columns()[1:2], *columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(f"worlds into {folder}", total=total)
        for one in made:
            progress.advance(task)
            yield one


def _claim(folder: Path, about: dict[str, Any]) -> int:
    """Makes the folder the bank that `about` describes; returns how many worlds it holds already."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: name a folder for the bank.")
    there = _read_about(folder)
    if there is None:
        if folder.is_dir() and any(folder.iterdir()):
            raise ValueError(f"{folder} holds files that are no bank: name an empty or new folder.")
        folder.mkdir(parents=True, exist_ok=True)
        _write_about(folder, {**about, "n_worlds": 0})
        return 0
    for name, value in about.items():
        if there[name] != value:
            raise ValueError(
                f"{folder} holds another bank, whose {name} is {there[name]} and not {value}: name another folder, or "
                "delete that one."
            )
    return there["n_worlds"]


def _read_about(folder: Path) -> dict[str, Any] | None:
    """What `bank.json` says, None if there is none."""
    path = folder / "bank.json"
    if not path.is_file():
        return None
    try:
        about = json.loads(path.read_text())
        known = {"format", "parameters", "versions", "first_seed", "shard_size", "n_worlds"} <= about.keys()
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({error}): delete the bank and make it anew.") from error
    if not known or about["format"] != FORMAT:
        raise ValueError(f"{path} is not of format {FORMAT}, which this version reads: make the bank anew.")
    return about


def _write_about(folder: Path, about: dict[str, Any]) -> None:
    path = folder / f"bank.json.{os.getpid()}"
    path.write_text(json.dumps(about, indent=2) + "\n")
    path.replace(folder / "bank.json")


def _shard_name(number: int) -> str:
    return f"worlds-{number:04d}.npz"


def _n_kept(folder: Path, number: int) -> int:
    """Worlds in a shard that is there and whole, else 0."""
    shard = _load_shard(folder / _shard_name(number))
    return 0 if shard is None else len(shard.seeds)


def _save_shard(path: Path, worlds: Sequence[Prepared]) -> None:
    longest = max(len(one.defaults) for one in worlds)
    defaults = [[name or "" for name in one.defaults] + [""] * (longest - len(one.defaults)) for one in worlds]
    part = path.with_name(f"{path.name}.{os.getpid()}")
    with part.open("wb") as file:
        np.savez(
            file,
            world_seed=np.array([one.world_seed for one in worlds], np.int64),
            default=np.array(defaults, np.bytes_),
            **stack([one.tables for one in worlds])._asdict(),
        )
    part.replace(path)


def _load_shard(path: Path) -> _Shard | None:
    """The shard in a file, None if it is missing or damaged."""
    try:
        with np.load(path) as file:
            tables = Tables(*(file[name] for name in Tables._fields))
            seeds, names = file["world_seed"].tolist(), file["default"].tolist()
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    counts = tables.world[:, N_FACTORIES].tolist()
    defaults = [
        tuple(sys.intern(name.decode()) if name else None for name in row[:n])
        for row, n in zip(names, counts, strict=True)
    ]
    levels = [tuple(row[:n].tolist()) for row, n in zip(tables.factory[:, :, LEVEL], counts, strict=True)]
    return _Shard(tables, seeds, levels, defaults)


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("scml", "negmas")}


def _listed(versions: dict[str, str]) -> str:
    return " and ".join(f"{name} {number}" for name, number in versions.items())


def _check_number(name: str, value: Any, low: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ValueError(f"{name} must be a whole number of at least {low}, got {value!r}.")


def main(argv: Sequence[str] | None = None) -> int:
    """The command, see the module."""
    from scml_marl_env.registry import config_of, ids

    parser = argparse.ArgumentParser(
        prog="python -m scml_marl_env.world.bank",
        description="Makes a bank of prepared worlds, or finishes or enlarges one. Play them with "
        "scml_marl_env.make(ENV_ID, bank=PATH), on either engine.",
    )
    parser.add_argument("env_id", help=f"whose worlds: {', '.join(ids())}")
    parser.add_argument("--worlds", type=int, required=True, help="how many worlds the bank holds in the end")
    parser.add_argument("--out", required=True, help="folder of the bank")
    parser.add_argument("--seed", type=int, default=0, help="world seed of the first world (default 0)")
    parser.add_argument("--processes", type=int, default=2, help="processes that draw worlds (default 2)")
    parser.add_argument("--days", type=_range, help="days of a world, N or LOW-HIGH, in place of the id's")
    parser.add_argument("--levels", type=_range, help="production levels, N or LOW-HIGH, in place of the id's")
    parser.add_argument("--factories", type=_range, help="factories on a level, N or LOW-HIGH, in place of the id's")
    parser.add_argument("--rounds", type=int, help="rounds of a negotiation, in place of the id's")
    asked = parser.parse_args(argv)
    options = {
        "days": asked.days,
        "processes": asked.levels,
        "factories_per_level": asked.factories,
        "rounds": asked.rounds,
    }
    try:
        config = config_of(asked.env_id, **{name: value for name, value in options.items() if value is not None})
        bank = build_bank(config, asked.out, asked.worlds, asked.seed, asked.processes)
    except (ValueError, OSError) as error:
        print(f"bank: {error}", file=sys.stderr)
        return 2
    print(f"{bank.folder}: {len(bank)} worlds")
    return 0


def _range(text: str) -> int | tuple[int, int]:
    low, dash, high = text.partition("-")
    try:
        return (int(low), int(high)) if dash else int(low)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number nor a range like 50-200") from None


if __name__ == "__main__":
    from scml_marl_env.world import bank  # so that workers find the functions by this name

    sys.exit(bank.main())
