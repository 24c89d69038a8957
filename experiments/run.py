"""Trains MAPPO or IPPO on any environment.   python experiments/run.py --algo mappo --env std-2025

`--env` is an id of scml_marl_env, or "package:module" of any PettingZoo ParallelEnv. The ids run on the compiled engine
where it plays all opponents that are asked for, on worlds prepared once by SCML's own generator (a bank, kept in the
user's cache; evaluation has a bank of other worlds), and else on the official simulator. The folder of the run receives
config.json, metrics.csv (columns: algorithms/log.py), TensorBoard events, evaluations.jsonl, checkpoints/ and
summary.json. `--resume FOLDER` goes on from its newest checkpoint with its config; further flags override that.
"""

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import tyro

from algorithms import checkpoint
from algorithms.interface import VectorEnv
from algorithms.ippo import IPPO
from algorithms.league import frozen_teams
from algorithms.mappo import MAPPO, CriticSees
from algorithms.policy import Policy
from algorithms.ppo import PPO, PPOConfig, Shapes
from algorithms.train import TrainConfig, train
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
    """compiled engine: checkpoints that play a further factory of each world, one each"""
    bank_worlds: int = 512
    """compiled engine only: worlds in the bank for training, drawn once; 0 draws every world anew (0.1 s each)"""
    eval_bank_worlds: int = 128
    """likewise for evaluation"""
    teams: Literal["agent", "all"] = "agent"
    """ParallelEnv only: every agent has its own reward, or all share the mean"""
    agent_id: bool | None = None
    """ParallelEnv only: append the agent's one-hot to its observation; by default where agents' spaces differ"""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One training run, reproducible from this alone."""

    algo: Literal["mappo", "ippo"] = "mappo"
    """what the critic sees: the team (mappo) or each agent's own observation (ippo)"""
    critic_sees: CriticSees = "state"
    """mappo only: the env's state, or the pooled observations of the team's threads"""
    seed: int = 0
    """fixes weights, draws and training worlds"""
    device: str = "cpu"
    """where the networks live: cpu, cuda, cuda:1, ..."""
    threads: int = 1
    """threads of torch on the CPU; more than one rarely helps networks of this size"""
    out: Path | None = None
    """folder of the run, by default runs/ENV-ALGO-SEED-TIME"""
    resume: Path | None = None
    """folder of a run to go on with"""
    env: EnvConfig = field(default_factory=lambda: EnvConfig(env=""))
    ppo: PPOConfig = field(default_factory=PPOConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


def main(argv: list[str] | None = None) -> int:
    """Trains, prints the held-out gain over the random masked policy, and returns 0."""
    config = parse(sys.argv[1:] if argv is None else argv)
    folder = config.resume or config.out
    if folder is None:
        name = f"{config.env.env}-{config.algo}-{config.seed}-{time.strftime('%Y%m%d-%H%M%S')}"
        folder = Path("runs") / name.replace(":", ".").replace("/", ".")
    if config.resume is None and (folder / "metrics.csv").exists():
        raise SystemExit(f"{folder} already holds a run; go on with --resume {folder}, or choose another --out.")
    folder.mkdir(parents=True, exist_ok=True)
    about = to_json(config)
    (folder / "config.json").write_text(json.dumps(about, indent=1))
    torch.set_num_threads(config.threads)

    env = make_env(config, config.seed, config.env.n_worlds)
    eval_env = None
    if config.train.eval_every:
        eval_env = make_env(config, config.train.eval_seed, config.env.eval_worlds, evaluates=True)
    learner = make_learner(config, Shapes.of(env))
    summary = train(
        learner,
        env,
        eval_env,
        config.train,
        folder,
        config.seed,
        resume=config.resume is not None,
        title=f"{config.algo} on {config.env.env}, seed {config.seed} -> {folder}",
        about=about,
    )
    (folder / "summary.json").write_text(json.dumps(summary, indent=1))
    print(f"{summary['decisions']:,} decisions in {summary['seconds']:.0f} s; {folder}")
    if "gain" in summary:
        print(describe(summary))
    for made in (env, eval_env):
        if made is not None:
            made.close()
    return 0


def parse(argv: list[str]) -> RunConfig:
    """Returns the config of the flags; with --resume, of the flags over the saved config of that run."""
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--resume", type=Path)
    folder = early.parse_known_args(argv)[0].resume
    default = RunConfig()
    if folder is not None:
        if not (folder / "config.json").is_file():
            raise SystemExit(f"{folder} holds no config.json; --resume takes the folder of an earlier run.")
        default = from_json(RunConfig, json.loads((folder / "config.json").read_text()))
    config = tyro.cli(RunConfig, args=argv, default=default, description=__doc__, config=(tyro.conf.OmitArgPrefixes,))
    if not config.env.env:
        raise SystemExit("Say which environment: --env ID, or --env mpe2:simple_spread_v3.")
    return config


def make_env(config: RunConfig, seed: int, n_worlds: int | None, evaluates: bool = False) -> VectorEnv:
    """Returns the vector environment; scml_marl_env is imported only if one of its ids is asked for."""
    options = options_of(config.env.env_options)
    if ":" not in config.env.env:
        return make_scml_env(config.env, seed, n_worlds, evaluates, options)
    constructor = parallel_env(config.env.env)
    reads_state = config.algo == "mappo" and config.critic_sees == "state"
    return ParallelVectorEnv(
        [lambda: constructor(**options)] * (n_worlds or 8),
        seed=seed,
        teams=config.env.teams,
        state="env" if reads_state else "none",
        agent_id=config.env.agent_id,
    )


def make_scml_env(
    env: EnvConfig, seed: int, n_worlds: int | None, evaluates: bool, options: dict[str, Any]
) -> VectorEnv:
    """Returns worlds of scml_marl_env on the engine that fits, see `EnvConfig`."""
    import scml_marl_env
    from scml_marl_env.registry import config_of, fast_engine_plays
    from scml_marl_env.world.bank import cached_bank

    fast = options.get("engine", env.engine) == "fast"
    if "engine" not in options and env.engine == "auto":
        fast = fast_engine_plays(env.env, **options)
    options["engine"] = "fast" if fast else "scml"
    if not fast:
        return scml_marl_env.make_vector(env.env, n_worlds or 8, seed, env.workers or 0, **options)
    n_bank = env.eval_bank_worlds if evaluates else env.bank_worlds
    if n_bank and "bank" not in options:
        first_seed = EVALUATION_WORLDS if evaluates else 0
        options["bank"] = str(cached_bank(config_of(env.env, **options), n_bank, first_seed))
    workers = env.workers if env.workers is not None else os.cpu_count() or 1
    n_worlds = n_worlds or (64 if evaluates else 256)
    if not env.frozen:
        return scml_marl_env.make_vector(env.env, n_worlds, seed, min(workers, n_worlds), **options)
    options["controlled"] = options.get("controlled", 1) + len(env.frozen)
    worlds = scml_marl_env.make_vector(env.env, n_worlds, seed, min(workers, n_worlds), **options)
    return frozen_teams(worlds, [load_policy(folder, worlds)[0] for folder in env.frozen], seed)


def load_policy(path: Path, env: VectorEnv | None = None) -> tuple[Policy, Path]:
    """Returns the policy of a checkpoint, or of the newest one of a run, and its folder; checks that it fits `env`."""
    try:
        folder = path if (path / "meta.json").is_file() else checkpoint.newest(path)
        policy = checkpoint.load(folder)
        if env is not None:
            checkpoint.check_columns(policy.observation_names, env.observation_names, folder)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    return policy, folder


def make_learner(config: RunConfig, shapes: Shapes) -> PPO:
    """Returns the algorithm with fresh weights."""
    if config.algo == "ippo":
        return IPPO(shapes, config.ppo, config.seed, config.device)
    return MAPPO(shapes, config.ppo, config.seed, config.device, config.critic_sees)


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


def to_json(config: RunConfig) -> dict[str, Any]:
    """Returns the config as JSON; where the run lives is not part of it."""
    saved = dataclasses.asdict(config)
    del saved["out"], saved["resume"]
    saved["env"]["frozen"] = [str(folder) for folder in config.env.frozen]
    return saved


def from_json(cls: type, saved: dict[str, Any]) -> Any:
    """Returns a frozen dataclass, nested ones included, from what `to_json` returned."""
    types = {f.name: f.type for f in dataclasses.fields(cls)}
    values = {}
    for name, value in saved.items():
        if name not in types:
            raise SystemExit(
                f"The saved config has {name!r}, which {cls.__name__} does not know; it has {list(types)}."
            )
        if isinstance(value, dict):
            value = from_json(types[name], value)
        values[name] = tuple(value) if isinstance(value, list) else value
    return cls(**values)


if __name__ == "__main__":
    raise SystemExit(main())
