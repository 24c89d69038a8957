"""Repeats the README's first command over seeds: does the trained policy beat random masked play on held-out worlds?

    python experiments/first_run.py --seeds 0 1 2 --env oneshot-mini

Each seed is one `experiments/run.py` in a process of its own, one after the other. Writes a row for each to --out and
the mean over seeds with a bootstrap interval to the terminal.
"""

import csv
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table
from scipy import stats

ROOT = Path(__file__).parents[1]
COLUMNS = ("env", "algo", "seed", "decisions", "seconds", "random", "trained", "gain", "gain_low", "gain_high")


@dataclass(frozen=True, kw_only=True)
class FirstRunConfig:
    """What to repeat."""

    env: tuple[str, ...] = ("oneshot-mini",)
    """environment ids"""
    algo: tuple[str, ...] = ("mappo",)
    """algorithms"""
    seeds: tuple[int, ...] = (0, 1, 2)
    """training seeds"""
    runs: Path = ROOT / "runs" / "first"
    """folder for the runs"""
    out: Path = ROOT / "experiments" / "results" / "first_run.csv"
    """table of the results"""


def readme_flags() -> list[str]:
    """The flags of the README's first command."""
    command = re.findall(r"```bash\n(.*?)\n```", (ROOT / "README.md").read_text(), re.S)[0]
    return command.split("experiments/run.py ")[1].split()


def replaced(flags: list[str], **values: str) -> list[str]:
    """`flags` with other values of some of them."""
    flags = list(flags)
    for name, value in values.items():
        flags[flags.index(f"--{name}") + 1] = value
    return flags


def run(flags: list[str], seed: int, out: Path) -> dict:
    """The summary of one training run; one that is already there is read, not repeated."""
    if not (out / "summary.json").exists():
        command = [sys.executable, str(ROOT / "experiments" / "run.py"), *flags, "--seed", str(seed), "--out", str(out)]
        subprocess.run(command, check=True, cwd=ROOT)
    return json.loads((out / "summary.json").read_text())


def main(config: FirstRunConfig) -> int:
    rows = []
    for env in config.env:
        for algo in config.algo:
            for seed in config.seeds:
                flags = replaced(readme_flags(), env=env, algo=algo)
                summary = run(flags, seed, config.runs / f"{env}-{algo}-{seed}")
                values = (summary["decisions"], round(summary["seconds"]))
                means = [summary[name]["mean"] for name in ("random", "trained", "gain")]
                rows.append((env, algo, seed, *values, *means, summary["gain"]["low"], summary["gain"]["high"]))
    config.out.parent.mkdir(parents=True, exist_ok=True)
    with open(config.out, "w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    table = Table(*("env", "algo", "seeds", "random", "trained", "gain over seeds", "95 % interval"))
    for env in config.env:
        for algo in config.algo:
            mine = [row for row in rows if row[:2] == (env, algo)]
            random, trained, gain = (np.array([row[i] for row in mine]) for i in (5, 6, 7))
            # with a few seeds a t interval is the honest one
            half = stats.sem(gain) * stats.t.ppf(0.975, len(gain) - 1) if len(gain) > 1 else float("nan")
            interval = f"[{gain.mean() - half:.3f}, {gain.mean() + half:.3f}]"
            numbers = (f"{values.mean():.3f}" for values in (random, trained, gain))
            table.add_row(env, algo, str(len(mine)), *numbers, interval)
    Console().print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(tyro.cli(FirstRunConfig, description=__doc__)))
