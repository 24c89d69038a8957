"""What the commands that train and play have in common: which worlds, which checkpoint, and configs as JSON."""

import dataclasses
import json
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from algorithms import checkpoint
from algorithms.interface import VectorEnv
from algorithms.policy import Playable
from algorithms.vector import ParallelVectorEnv, parallel_env

EVALUATION_WORLDS = 1_000_000  # first world seed of the banks for evaluation: none of them is ever trained on


@dataclass(frozen=True, kw_only=True)
class EnvConfig:
    """Which worlds, and how many at once."""

    env: str
    """id of scml_marl_env, or package:module of a PettingZoo ParallelEnv such as mpe2:simple_spread_v3"""
    env_options: tuple[str, ...] = ()
    """key=value arguments of the environment; values are read as JSON where they are JSON"""
    engine: Literal["auto", "fast", "scml"] = "auto"
    """of scml_marl_env: the compiled one, SCML itself, or the compiled one if it plays the opponents"""
    n_worlds: int | None = None
    """worlds that are stepped together (E); by default 256 on the compiled engine, else 8"""
    eval_worlds: int | None = None
    """worlds that are stepped together in evaluations; by default 64 on the compiled engine, else 8"""
    workers: int | None = None
    """of scml_marl_env: threads of the compiled engine (by default one for each core), or processes of SCML (default 0:
    none but this one)"""
    frozen: tuple[Path, ...] = ()
    """checkpoints, or runs whose newest one is taken, that join the opponents of the environment, each with weight 1"""
    bank_worlds: int = 512
    """compiled engine only: worlds in the bank for training, drawn once; 0 draws every world anew (0.1 s each)"""
    eval_bank_worlds: int = 128
    """likewise for evaluation. Episodes draw their worlds from the bank, 128 of them some 81 different ones, while the
    intervals are taken over episodes: 0 gives each a world of its own"""
    teams: Literal["agent", "all"] = "agent"
    """ParallelEnv only: every agent has its own reward, or all share the mean"""
    agent_id: bool | None = None
    """ParallelEnv only: append the agent's one-hot to its observation; by default where agents' spaces differ"""


def make_env(
    env: EnvConfig, seed: int, n_worlds: int | None, evaluates: bool = False, reads_state: bool = False
) -> VectorEnv:
    """Returns the vector environment; scml_marl_env is imported only if one of its ids is asked for.

    Args:
        env: which worlds.
        seed: of their episodes.
        n_worlds: how many, by default as `EnvConfig` says.
        evaluates: take the bank of held-out worlds.
        reads_state: ParallelEnv only: fill the state.
    """
    options = options_of(env.env_options)
    if ":" not in env.env:
        return make_scml_env(env, seed, n_worlds, evaluates, options)
    constructor = parallel_env(env.env)
    return ParallelVectorEnv(
        [lambda: constructor(**options)] * (n_worlds or 8),
        seed=seed,
        teams=env.teams,
        state="env" if reads_state else "none",
        agent_id=env.agent_id,
    )


def make_scml_env(
    env: EnvConfig, seed: int, n_worlds: int | None, evaluates: bool, options: dict[str, Any]
) -> VectorEnv:
    """Returns worlds of scml_marl_env on the engine that fits, see `EnvConfig`."""
    import scml_marl_env
    from scml_marl_env.registry import config_of, fast_engine_plays
    from scml_marl_env.world.bank import cached_bank

    if env.frozen:
        others = options.get("opponents", "default")
        mix = others if isinstance(others, dict) else {others: 1.0}
        options["opponents"] = mix | {f"checkpoint:{folder.resolve()}": 1.0 for folder in env.frozen}
    fast = options.get("engine", env.engine) == "fast"
    try:
        if "engine" not in options and env.engine == "auto":
            fast = fast_engine_plays(env.env, **options)
        options["engine"] = "fast" if fast else "scml"
        config = config_of(env.env, **options)
    except (ValueError, TypeError, ModuleNotFoundError) as error:
        raise SystemExit(str(error)) from None
    if not fast:
        return scml_marl_env.make_vector(env.env, n_worlds or 8, seed, env.workers or 0, **options)
    n_bank = env.eval_bank_worlds if evaluates else env.bank_worlds
    if n_bank and "bank" not in options:
        first_seed = EVALUATION_WORLDS if evaluates else 0
        options["bank"] = str(cached_bank(config, n_bank, first_seed))
    workers = env.workers if env.workers is not None else os.cpu_count() or 1
    n_worlds = n_worlds or (64 if evaluates else 256)
    rows: Literal["all", "window"] = "window" if config.max_cycles is None and not evaluates else "all"
    return scml_marl_env.make_vector(env.env, n_worlds, seed, min(workers, n_worlds), rows, **options)


def checkpoint_folder(path: Path) -> Path:
    """Returns the folder if it is a checkpoint, else the newest one of that run."""
    return path if (path / "meta.json").is_file() else checkpoint.newest(path)


def load_policy(path: Path, env: VectorEnv | None = None) -> tuple[Playable, Path]:
    """Returns the policy of a checkpoint, or of the newest one of a run, and its folder; checks that it fits `env`."""
    try:
        folder = checkpoint_folder(path)
        policy = checkpoint.load(folder)
        if env is not None:
            checkpoint.check_columns(policy.observation_names, env.observation_names, folder)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    return policy, folder


def trained_in(policy: Playable) -> EnvConfig:
    """Returns the worlds that a policy from a run was trained in, or for a cloned one those it was judged in."""
    return from_json(EnvConfig, policy.config["about"]["env"])


def options_of(texts: Iterable[str]) -> dict[str, Any]:
    """Returns the options of a command line, or ends the program with what is wrong with them."""
    from scml_marl_env.config import read_options

    try:
        return read_options(texts)
    except ValueError as error:
        raise SystemExit(str(error)) from None


def describe(scores: dict[str, Any]) -> str:
    """Returns three lines: both policies and the paired gain, each with its interval."""
    lines = []
    for name, words in (("random", "random masked policy"), ("trained", "trained policy"), ("gain", "gain")):
        mean, low, high = (scores[name][key] for key in ("mean", "low", "high"))
        lines.append(f"held-out return, {words:<21} {mean:10.4g}   95 % interval [{low:.4g}, {high:.4g}]")
    return "\n".join(lines)


def to_json(config: Any) -> dict[str, Any]:
    """Returns a run's config as JSON; where the run lives is not part of it."""
    saved = _plain(dataclasses.asdict(config))
    return {name: value for name, value in saved.items() if name not in ("out", "resume")}


def from_json(cls: type, saved: dict[str, Any], **classes: type) -> Any:
    """Returns a frozen dataclass, nested ones included, from what `to_json` returned.

    Args:
        cls: of the whole.
        saved: its fields.
        classes: of fields whose own type does not tell.
    """
    types = {f.name: f.type for f in dataclasses.fields(cls)} | classes
    values = {}
    for name, value in saved.items():
        if name not in types:
            raise SystemExit(
                f"The saved config has {name!r}, which {cls.__name__} does not know; it has {list(types)}."
            )
        if isinstance(value, dict):
            value = from_json(types[name], value)
        if isinstance(value, str) and types[name] in (Path, Path | None):
            value = Path(value)
        if isinstance(value, list):
            value = tuple(Path(x) if types[name] == tuple[Path, ...] else x for x in value)
        values[name] = value
    return cls(**values)


def run_folder(out: Path | None, resume: Path | None, name: str) -> Path:
    """Returns the folder of a run, made if need be; ends the program if it holds another run already."""
    folder = (
        resume or out or Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}".replace(":", ".").replace("/", ".")
    )
    if resume is None and (folder / "metrics.csv").exists():
        raise SystemExit(f"{folder} already holds a run; go on with --resume {folder}, or choose another --out.")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def saved_config(folder: Path) -> dict[str, Any]:
    """Returns config.json of a run that is to go on."""
    if not (folder / "config.json").is_file():
        raise SystemExit(f"{folder} holds no config.json; --resume takes the folder of an earlier run.")
    return json.loads((folder / "config.json").read_text())


def _plain(value: Any) -> Any:
    """Returns the same tree of dicts and sequences with paths as text."""
    if isinstance(value, dict):
        return {key: _plain(x) for key, x in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(x) for x in value]
    return str(value) if isinstance(value, Path) else value
