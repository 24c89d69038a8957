"""Trains MAPPO or IPPO on any environment.   python experiments/run.py --algo mappo --env std-2025

`--env` is an id of scml_marl_env, or "package:module" of any PettingZoo ParallelEnv. The ids run on the compiled engine
where it plays all opponents that are asked for, on worlds prepared once by SCML's own generator (a bank, kept in the
user's cache; evaluation has a bank of other worlds), and else on the official simulator. The folder of the run receives
config.json, metrics.csv (columns: algorithms/log.py), TensorBoard events, evaluations.jsonl, checkpoints/ and
summary.json. `--resume FOLDER` goes on from its newest checkpoint with its config; further flags override that.
`--init CHECKPOINT` starts from the policy of a checkpoint, whose network it takes over. `--algo bc --data FOLDER`
and `--algo dt --data FOLDER` learn from recorded experts instead; flags: python experiments/run.py --algo bc --help
"""

import argparse
import dataclasses
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import run_offline
import torch
import tyro
from about import about
from settings import EnvConfig, checkpoint_folder, describe, from_json, make_env, run_folder, saved_config, to_json

from algorithms.interface import VectorEnv
from algorithms.ippo import IPPO
from algorithms.mappo import MAPPO, CriticSees
from algorithms.ppo import PPO, PPOConfig, Shapes
from algorithms.train import TrainConfig, train
from algorithms.warm_start import architecture, start_from


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
    init: Path | None = None
    """checkpoint, or folder of a run, whose policy training starts from; see also --init-kl and --critic-warmup"""
    out: Path | None = None
    """folder of the run, by default runs/ENV-ALGO-SEED-TIME"""
    resume: Path | None = None
    """folder of a run to go on with"""
    env: EnvConfig = field(default_factory=lambda: EnvConfig(env=""))
    ppo: PPOConfig = field(default_factory=PPOConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


def main(argv: list[str] | None = None) -> int:
    """Trains, prints the held-out gain over the random masked policy, and returns 0."""
    argv = sys.argv[1:] if argv is None else argv
    if run_offline.is_meant(argv):
        return run_offline.main(argv)
    config = parse(argv)
    folder = run_folder(config.out, config.resume, f"{config.env.env}-{config.algo}-{config.seed}")
    settings = to_json(config)
    (folder / "config.json").write_text(json.dumps(settings, indent=1))
    torch.set_num_threads(config.threads)

    reads_state = config.algo == "mappo" and config.critic_sees == "state"
    env = make_env(config.env, config.seed, config.env.n_worlds, reads_state=reads_state)
    eval_env = None
    if config.train.eval_every:
        eval_env = make_env(config.env, config.train.eval_seed, config.env.eval_worlds, evaluates=True)
    learner = make_learner(config, env)
    summary = train(
        learner,
        env,
        eval_env,
        config.train,
        folder,
        config.seed,
        resume=config.resume is not None,
        title=f"{config.algo} on {config.env.env}, seed {config.seed} -> {folder}",
        about=settings,
    )
    (folder / "summary.json").write_text(json.dumps({"about": about(__file__, argv)} | summary, indent=1))
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
    early.add_argument("--init", type=Path)
    found = early.parse_known_args(argv)[0]
    default = RunConfig()
    if found.resume is not None:
        default = from_json(RunConfig, saved_config(found.resume))
        if found.init is not None and default.init is None:
            raise SystemExit(f"{found.resume} did not start from a checkpoint: leave out --init, or begin another run.")
    elif found.init is not None:
        try:
            same = architecture(checkpoint_folder(found.init))
        except ValueError as error:
            raise SystemExit(str(error)) from None
        default = dataclasses.replace(default, ppo=dataclasses.replace(default.ppo, **same))
    config = tyro.cli(RunConfig, args=argv, default=default, description=__doc__, config=(tyro.conf.OmitArgPrefixes,))
    if not config.env.env:
        raise SystemExit("Say which environment: --env ID, or --env mpe2:simple_spread_v3.")
    if config.init is None and (config.ppo.init_kl or config.ppo.init_kl_end):
        raise SystemExit("--init-kl needs the policy to stay near: --init CHECKPOINT.")
    return config


def make_learner(config: RunConfig, env: VectorEnv) -> PPO:
    """Returns the algorithm with fresh weights, or with those of --init; a resumed run finds them in its checkpoint."""
    shapes = Shapes.of(env)
    learner: PPO
    if config.algo == "ippo":
        learner = IPPO(shapes, config.ppo, config.seed, config.device)
    else:
        learner = MAPPO(shapes, config.ppo, config.seed, config.device, config.critic_sees)
    if config.init is None:
        return learner
    if config.resume is not None:
        learner.keep_reference()
        return learner
    try:
        folder = checkpoint_folder(config.init)
        print(f"starts from {folder}, with {start_from(learner, env, folder)}")
    except ValueError as error:
        raise SystemExit(str(error)) from None
    return learner


if __name__ == "__main__":
    raise SystemExit(main())
