"""How faithful is a clone?   python experiments/fidelity.py penguin runs/bc-penguin --data runs/data --worlds 20

EXPERT is a competitor as experiments/evaluate.py names them, CLONE another, by right the folder of a checkpoint. Two
measures: how well the clone foretells the expert's decisions in the dataset's test worlds, by operation, round, level
and side, beside choosing by frequency and repeating the last offer; and what share of the expert's score, less that of
a do-nothing agent, the clone earns in the same seats of held-out real worlds, with a paired bootstrap interval. The
folder `--out` receives fidelity.json and the report of the tournament (see evaluate.py); the same command goes on after
an interruption.
"""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import evaluate
import tyro
from about import about
from rich.console import Console
from rich.table import Table
from settings import load_policy

from algorithms import agreement, offline
from algorithms.checkpoint import check_columns
from algorithms.policy import Policy
from scml_marl_env.data.dataset import Dataset
from scml_marl_env.data.groups import groups_of
from scml_marl_env.tournament.backends import backend
from scml_marl_env.tournament.competitors import competitors
from scml_marl_env.tournament.fidelity import Worth, worth
from scml_marl_env.tournament.report import write_report
from scml_marl_env.tournament.statistics import summarise

ENOUGH = 0.9  # of the expert's worth
COLUMNS = ("nll", "accuracy", *(f"accuracy/{head}" for head in ("operation", "lead", "price", "quantity")))


@dataclass(frozen=True, kw_only=True)
class FidelityConfig:
    """Who is compared with whom, and where."""

    expert: tyro.conf.Positional[str]
    """name, import path or folder of a checkpoint"""
    clone: tyro.conf.Positional[str]
    """likewise; the decisions can be compared if it is a checkpoint"""
    data: Path | None = None
    """dataset in which the expert was recorded; without it only scores are compared"""
    name: str | None = None
    """the expert's name in the dataset, by default EXPERT"""
    decisions: int = 200_000
    """of the test worlds, at most"""
    env: str = "std-2025"
    """id of an environment, whose worlds are played"""
    env_options: tuple[str, ...] = ()
    """key=value fields of its config; values are read as JSON if they are"""
    worlds: int = 20
    """economies; expert, clone and a do-nothing agent play each of them in one seat of every level; 0 for none"""
    seed: int = 0
    """of the tournament"""
    workers: int | None = None
    """worlds at a time, by default one for each core"""
    out: Path = Path("runs/fidelity")
    """folder of the results"""


def main(argv: list[str] | None = None) -> int:
    """Compares, prints both tables, writes fidelity.json; returns 1 if a world failed."""
    config = tyro.cli(FidelityConfig, args=argv, description=__doc__)
    console = Console() if sys.stdout.isatty() else Console(width=140)
    found: dict[str, Any] = {"expert": config.expert, "clone": config.clone, "about": about(__file__, argv)}
    failed = 0
    try:
        if config.data is not None:
            found["agreement"] = agree(config, Dataset(config.data))
            console.print(agreement_table(found["agreement"]))
        if config.worlds:
            earned, failed = play(config, console, found["about"])
            found["worth"] = {level: asdict(one) for level, one in earned.items()}
            console.print(worth_table(earned))
    except (ValueError, TypeError, ModuleNotFoundError) as error:
        raise SystemExit(str(error)) from None
    config.out.mkdir(parents=True, exist_ok=True)
    (config.out / "fidelity.json").write_text(json.dumps(found, indent=1) + "\n")
    console.print(f"written to {config.out / 'fidelity.json'}")
    return int(failed > 0)


def agree(config: FidelityConfig, data: Dataset) -> dict[str, Any]:
    """Group -> what the clone makes of its decisions, and the two baselines on all of them."""
    (clone,) = competitors([config.clone], data.config.track)
    if "path" not in clone.params:
        raise ValueError(f"{config.clone} is no checkpoint: its decisions cannot be foretold. Leave out --data.")
    policy, folder = load_policy(Path(clone.params["path"]))
    if not isinstance(policy, Policy):
        raise ValueError(
            f"{folder} answers from memory, and single decisions are judged here: leave out --data. Its training has "
            "judged its decisions, in offline.json of its run."
        )
    check_columns(policy.observation_names, data.observation_names, folder)
    name, grid = config.name or config.expert, offline.grid_of(data)
    episodes = data.episodes_of("test", name)
    rows, left_out = offline.legal_rows(data, episodes)
    if not len(rows):
        raise ValueError(f"The dataset has no decisions of {name} in test worlds (seeds that end in 2).")
    rows = offline.sample_rows(rows, config.decisions)
    past = offline.sample_rows(offline.legal_rows(data, data.episodes_of("train", name))[0], config.decisions)
    frequency = agreement.frequency_actor(data, past, grid)
    found = {
        "left_out": left_out,
        "clone": agreement.judge(policy.actor, data, rows).result(),
        "by frequency": agreement.judge(frequency, data, rows).result(),
        "last offer": agreement.judge_repeats(data, episodes, rows, grid),
    }
    for kind, groups in groups_of(data, rows).items():
        for group, some in groups.items():
            found[f"{kind} {group}"] = agreement.judge(policy.actor, data, some).result()
    return found


def play(config: FidelityConfig, console: Console, head: dict[str, Any]) -> tuple[dict[str, Worth], int]:
    """The worth of the clone, and how many worlds failed."""
    names = ("expert", "clone", "nothing")
    agents = f"expert={config.expert},clone={config.clone},nothing"
    swap = evaluate.EvaluateConfig(
        agents=agents, env=config.env, env_options=config.env_options, mode="swap", worlds=config.worlds,
        seed=config.seed, out=config.out,
    )  # fmt: skip
    tournament = evaluate.make(swap)
    records = evaluate.play(tournament, swap, backend("loky", config.workers), console)
    summary = summarise(records, "expert", config.seed, names)
    write_report(config.out, records, summary, {"tournament": tournament.to_json()} | head)
    for key, error in summary.failed:
        console.print(f"World {key} failed: {error.splitlines()[-1]}", style="red", markup=False)
    return worth(records, *names, config.seed), len(summary.failed)


def agreement_table(found: dict[str, Any]) -> Table:
    """A line for each group; the share of the loss says which decisions differ."""
    whole = found["clone"]
    title = f"{whole['decisions']} decisions of test worlds; {found['left_out']} that L1 forbids are left out"
    table = Table("decisions of", "share", "share of nll", *COLUMNS, title=title, title_justify="left")
    for group, one in found.items():
        if group == "left_out":
            continue
        share = one["decisions"] / whole["decisions"]
        loss = f"{share * one['nll'] / whole['nll']:.1%}" if "nll" in one and whole["nll"] else "-"
        numbers = [f"{one[column]:.3f}" if column in one else "-" for column in COLUMNS]
        table.add_row(group, f"{share:.1%}", loss, *numbers, end_section=group in ("clone", "last offer"))
    return table


def worth_table(found: dict[str, Worth]) -> Table:
    """A line for each level."""
    title = "(clone - nothing) / (expert - nothing), mean scores in the same seats, 95 % interval over worlds"
    table = Table("level", "seats", "expert", "clone", "nothing", "ratio", title=title, title_justify="left")
    for level, one in found.items():
        ratio, verdict = one.ratio, "enough" if one.ratio.value >= ENOUGH else "too little"
        interval = f"{ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}] {verdict}"
        table.add_row(level, str(ratio.seats), f"{one.original:.3f}", f"{one.copy:.3f}", f"{one.idle:.3f}", interval)
    return table


if __name__ == "__main__":
    raise SystemExit(main())
