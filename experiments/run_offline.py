"""Learning from recorded experts; the part of experiments/run.py behind --algo bc and --algo dt.

    python experiments/run.py --algo bc --data FOLDER

`bc` is behaviour cloning, `dt` a Decision Transformer: conditioned on the return that is still to come, and on earlier
steps (its flags: python experiments/run.py --algo dt --help).

FOLDER is a dataset (experiments/collect.py). After each pass over its training worlds the policy is judged on the
validation worlds: likelihood, accuracy of each head, calibration. The best pass is kept, judged on the test worlds
beside two baselines (frequencies, and repeating the thread's last offer), and plays held-out worlds beside the random
masked policy: those of the dataset unless --env names others, whose L1, features and action grid must be the dataset's.
The folder of the run receives config.json, metrics.csv (columns: algorithms/log.py, OFFLINE_COLUMNS), TensorBoard
events, evaluations.jsonl, checkpoints/ and offline.json.
"""

import argparse
import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from about import about
from rich.console import Console
from rich.table import Table
from settings import EnvConfig, describe, from_json, make_env, options_of, run_folder, saved_config, to_json

from algorithms.behaviour_cloning import BC, BCConfig
from algorithms.decision_transformer import DecisionTransformer, DTConfig
from algorithms.offline import Selection, select
from algorithms.train_offline import PlayConfig, train_offline

LEARNERS: dict[str, tuple[Any, Any]] = {"bc": (BC, BCConfig), "dt": (DecisionTransformer, DTConfig)}
"""name -> learner and its config"""
MEANING = ("track", "inventory", "shield", "useful", "observation", "history", "price_levels", "slots")
"""options that decide what an observation and an action mean; `slots` is the unit of some features"""
REWARD = ("reward", "discount")
"""options that decide what a reward means"""
WORLDS = ("opponents", "days", "processes", "factories_per_level", "rounds", "level", "slots", "reward", "discount")
"""further options that are taken from the dataset unless --env is given"""


@dataclass(frozen=True, kw_only=True)
class OfflineConfig:
    """One run, reproducible from this and the dataset."""

    algo: Literal["bc", "dt"] = "bc"
    """behaviour cloning, or a Decision Transformer"""
    data: Path | None = None
    """folder of the dataset"""
    seed: int = 0
    """fixes weights and the order of the data"""
    device: str = "cpu"
    """where the networks live"""
    threads: int = 1
    """threads of torch on the CPU"""
    out: Path | None = None
    """folder of the run, by default runs/ENV-ALGO-SEED-TIME"""
    resume: Path | None = None
    """folder of a run to go on with"""
    env: EnvConfig = field(default_factory=lambda: EnvConfig(env=""))
    selection: Selection = field(default_factory=Selection)
    learner: BCConfig | DTConfig = field(default_factory=BCConfig)
    play: PlayConfig = field(default_factory=PlayConfig)


def is_meant(argv: Sequence[str]) -> bool:
    """Do these flags ask for a learner of this file, or for going on with its run?"""
    found = _early(argv)
    algo = found.algo
    if algo is None and found.resume is not None:
        algo = saved_config(found.resume)["algo"]
    return algo in LEARNERS


def main(argv: list[str]) -> int:
    """Learns, judges, plays, prints, and returns 0."""
    from scml_marl_env.data.dataset import Dataset

    config = parse(argv)
    try:
        data = Dataset(config.data)
        config = dataclasses.replace(config, env=worlds_of(data.config, config.env, config.algo))
        episodes = select(data, config.selection)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    folder = run_folder(config.out, config.resume, f"{config.env.env}-{config.algo}-{config.seed}")
    settings = to_json(config)
    (folder / "config.json").write_text(json.dumps(settings, indent=1))
    torch.set_num_threads(config.threads)

    env = None
    if config.play.eval_episodes:
        env = make_env(config.env, config.play.eval_seed, config.env.eval_worlds, evaluates=True)
    learner = LEARNERS[config.algo][0](data, episodes, config.learner, config.seed, config.device)
    summary = train_offline(
        learner,
        env,
        config.play,
        folder,
        resume=config.resume is not None,
        title=f"{config.algo} of {config.data}, seed {config.seed} -> {folder}",
        about=settings,
        head={"about": about("run.py", argv)},
    )
    print(f"pass {summary['best']} of {summary['update']} foretold best, {summary['seconds']:.0f} s; {folder}")
    Console(width=120).print(table(summary))
    if env is not None:
        print(describe(summary))
        env.close()
    return 0


def parse(argv: Sequence[str]) -> OfflineConfig:
    """Returns the config of the flags; with --resume, of the flags over the saved config of that run."""
    found = _early(argv)
    if found.resume is not None:
        saved = saved_config(found.resume)
        if found.algo not in (None, saved["algo"]):
            raise SystemExit(f"{found.resume} is a run of {saved['algo']}, which {found.algo} cannot go on with.")
        default = from_json(OfflineConfig, saved, learner=LEARNERS[saved["algo"]][1])
    else:
        default = OfflineConfig(algo=found.algo, learner=LEARNERS[found.algo][1]())
    flags = (tyro.conf.OmitArgPrefixes, tyro.conf.AvoidSubcommands)
    config = tyro.cli(OfflineConfig, args=argv, default=default, description=__doc__, config=flags)
    if config.data is None:
        raise SystemExit("Say which dataset: --data FOLDER, as experiments/collect.py makes it.")
    return config


def worlds_of(of_data: Any, env: EnvConfig, algo: str) -> EnvConfig:
    """Returns the worlds to play in: those of --env, or those that were recorded; options of the command line override.

    Args:
        of_data: the `scml_marl_env` config that the data was recorded in.
        env: of the command line.
        algo: a Decision Transformer also reads rewards, which must then be those of the data.

    Raises:
        ValueError: if an observation, an action or, where it matters, a reward means something else there than in the
            data.
    """
    from scml_marl_env.registry import config_of
    from scml_marl_env.vector import describe as described

    recorded, given = described(of_data), options_of(env.env_options)
    if not env.env:
        env_id = f"{recorded['track']}-{recorded['year']}"
        usual = described(config_of(env_id))
        differing = [name for name in (*MEANING, *WORLDS) if recorded[name] != usual[name] and name not in given]
        options = tuple(f"{name}={json.dumps(recorded[name])}" for name in differing)
        env = dataclasses.replace(env, env=env_id, env_options=(*options, *env.env_options))
    if ":" in env.env:
        raise ValueError(f"The data is of scml_marl_env; {env.env} is no id of it.")
    worlds = config_of(env.env, **options_of(env.env_options))
    meaning = MEANING + (REWARD if algo == "dt" else ())
    recorded, now = ({**described(config), "slots": config.n_slots} for config in (of_data, worlds))
    wrong = {name: (recorded[name], now[name]) for name in meaning if recorded[name] != now[name]}
    if wrong:
        texts = "; ".join(f"{name} is {a!r} in the data, {b!r} in {env.env}" for name, (a, b) in wrong.items())
        raise ValueError(f"The data does not fit the worlds: {texts}. Set them with --env and --env-options.")
    return env


def table(summary: dict[str, Any]) -> Table:
    """Returns the model beside the baselines on the test worlds, or on the validation worlds if there are none."""
    split = "test" if "test" in summary else "validation"
    counts = summary["splits"]
    dropped = ", ".join(f"{name} {count['dropped_share']:.2%}" for name, count in counts.items())
    n, episodes = counts[split]["decisions"], counts[split]["episodes"]
    title = f"{split}: {n:,} decisions of {episodes} episodes; L1 forbids {dropped}"
    columns = {"nll": "nats", "accuracy": "accuracy", "accuracy/operation": "operation", "accuracy/lead": "lead"}
    columns |= {"accuracy/price": "price", "accuracy/quantity": "quantity"}
    columns |= {"ece/operation": "ECE operation", "ece/action": "ECE action"}
    found = Table("", *columns.values(), title=title, title_justify="left", box=None)
    for player, numbers in summary[split].items():
        found.add_row(player, *(f"{numbers[name]:.3f}" if name in numbers else "" for name in columns))
    return found


def _early(argv: Sequence[str]) -> argparse.Namespace:
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--algo")
    early.add_argument("--resume", type=Path)
    return early.parse_known_args(argv)[0]
