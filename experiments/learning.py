"""Does it learn? MAPPO and IPPO beside the random policy, the built-in greedy agent and Prudent, over seeds.

    python experiments/learning.py --env oneshot-mini std-mini oneshot-2025 std-2025 --seeds 0 1 2 3 4

Each run is one `experiments/run.py` in a process of its own. When all are done, the trained policies and the agents in
the learner's place play the same held-out worlds; the folder `--out` receives learning.csv (a line for each run),
learning.json (means with 95 % bootstrap intervals over worlds and seeds) and learning.png (the curves).
"""

import csv
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from about import about
from rich.console import Console
from rich.table import Table
from scipy import stats
from settings import EVALUATION_WORLDS

import scml_marl_env
from algorithms import checkpoint
from algorithms.evaluate import evaluate
from algorithms.log import read_metrics
from algorithms.policy import Policy
from scml_marl_env.registry import config_of
from scml_marl_env.seat import seat_scores
from scml_marl_env.vector_worker import episode_seed
from scml_marl_env.world.bank import cached_bank

ROOT = Path(__file__).parents[1]
AGENTS = ("greedy", "prudent")
STEPS = {"oneshot-mini": 2_000_000, "std-mini": 2_000_000, "oneshot-2025": 4_000_000, "std-2025": 4_000_000}


@dataclass(frozen=True, kw_only=True)
class LearningConfig:
    """What is trained, and how it is judged."""

    env: tuple[str, ...] = tuple(STEPS)
    """ids"""
    algo: tuple[str, ...] = ("mappo", "ippo")
    """algorithms"""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """of the training runs"""
    steps: int | None = None
    """world steps of a run; by default 2 million for the minis, 4 million for the others"""
    episodes: int = 256
    """held-out episodes"""
    at_once: int = 2
    """runs at the same time, each on one core"""
    runs: Path = ROOT / "runs" / "learning"
    """folder of the runs; those that are done are not repeated"""
    out: Path = ROOT / "experiments" / "results"
    """folder of the results"""
    flags: tuple[str, ...] = field(default=("--entropy-end", "0.001"))
    """further flags of run.py"""


def train(config: LearningConfig, env: str, algo: str, seed: int) -> Path:
    """Trains unless it has been done; returns the folder of the run."""
    folder = config.runs / f"{env}-{algo}-{seed}"
    if not (folder / "summary.json").exists():
        command = [
            sys.executable, str(ROOT / "experiments" / "run.py"), "--algo", algo, "--env", env, "--seed", str(seed),
            "--total-steps", str(config.steps or STEPS.get(env, 2_000_000)), "--workers", "1", "--eval-every", "10",
            "--eval-episodes", "64", "--out", str(folder), *config.flags,
        ]  # fmt: skip
        with open(config.runs / f"{folder.name}.log", "w") as log:
            subprocess.run(command, check=True, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
    return folder


def held_out(env_id: str) -> dict[str, Any]:
    """Options of the held-out worlds: those of a bank that no training has seen."""
    options = {"engine": "fast"}
    return options | {"bank": str(cached_bank(config_of(env_id, **options), 128, EVALUATION_WORLDS))}


def judge(config: LearningConfig, env_id: str, folders: dict[tuple[str, int], Path]) -> dict[str, np.ndarray]:
    """Name -> returns (runs, episodes) on the same held-out worlds."""
    options, seed = held_out(env_id), 3_000_017
    env = scml_marl_env.make_vector(env_id, 64, seed, 1, **options)

    def returns(policy: Policy) -> np.ndarray:
        return np.array([np.mean(episode["return"]) for episode in evaluate(env, policy, seed, config.episodes)])

    found = {"random": [returns(Policy.uniform(env.observation.shape[-1], env.action_grid))]}
    for (algo, _), folder in folders.items():
        found.setdefault(algo, []).append(returns(checkpoint.load(checkpoint.newest(folder))))
    worlds = config_of(env_id, **options)
    seeds = [episode_seed(seed, e, i) for e in range(env.n_worlds) for i in range(-(-config.episodes // env.n_worlds))]
    for agent in AGENTS:
        found[agent] = [seat_scores(worlds, agent, seeds).mean(1) - 1]
    env.close()
    return {name: np.stack(rows) for name, rows in found.items()}


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean and 95 % bootstrap interval of (runs, episodes), runs and worlds drawn anew together."""
    rng = np.random.default_rng(0)
    n_runs, n = values.shape
    means = [
        values[rng.integers(n_runs, size=n_runs)][:, rng.integers(n, size=n)].mean() for _ in range(2000)
    ]  # fmt: skip
    low, high = np.percentile(means, (2.5, 97.5))
    return float(values.mean()), float(low), float(high)


def plot(config: LearningConfig, curves: dict[str, dict[str, list[Path]]], levels: dict[str, dict], path: Path) -> None:
    """Held-out return over decisions, a line for each run, and the agents' levels."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(curves), figsize=(5 * len(curves), 4), squeeze=False)
    for axis, (env, by_algo) in zip(axes[0], curves.items(), strict=True):
        for color, (algo, folders) in zip(("tab:blue", "tab:orange"), by_algo.items(), strict=False):
            for i, folder in enumerate(folders):
                rows = [row for row in read_metrics(folder) if not np.isnan(row["eval/return"])]
                x, y = [row["decisions"] for row in rows], [row["eval/return"] for row in rows]
                axis.plot(x, y, color=color, alpha=0.7, label=algo if i == 0 else None)
        for style, name in ((":", "random"), ("--", "greedy"), ("-.", "prudent")):
            axis.axhline(levels[env][name]["mean"], color="gray", linestyle=style, label=name)
        axis.set(title=env, xlabel="decisions", ylabel="held-out return")
        axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main(argv: list[str] | None = None) -> int:
    """Trains what is missing, judges, prints and writes."""
    config = tyro.cli(LearningConfig, args=argv, description=__doc__)
    console = Console()
    config.runs.mkdir(parents=True, exist_ok=True)
    config.out.mkdir(parents=True, exist_ok=True)
    for env in config.env:  # the banks before the runs, which would make them twice
        cached_bank(config_of(env, engine="fast"), 512)
        held_out(env)
    jobs = [(env, algo, seed) for env in config.env for algo in config.algo for seed in config.seeds]
    with ThreadPoolExecutor(config.at_once) as pool:
        folders = dict(zip(jobs, pool.map(lambda job: train(config, *job), jobs), strict=True))
    table = Table(
        "env", "policy", "runs", "held-out return", "95 % interval", "over random", "over greedy", "over prudent"
    )
    results: dict[str, dict[str, Any]] = {}
    lines = []
    for env in config.env:
        mine = {(algo, seed): folders[env, algo, seed] for algo in config.algo for seed in config.seeds}
        found = judge(config, env, mine)
        results[env] = {}
        for name, values in found.items():
            mean, low, high = interval(values)
            results[env][name] = {"mean": mean, "low": low, "high": high, "runs": len(values)}
            over = {}
            for other in ("random", *AGENTS):
                if name in config.algo:
                    over[other] = interval(values - found[other])
                    results[env][name][f"over_{other}"] = dict(zip(("mean", "low", "high"), over[other], strict=True))
            cells = [f"{m:+.3f} [{a:+.3f}, {b:+.3f}]" for m, a, b in over.values()]
            table.add_row(env, name, str(len(values)), f"{mean:.3f}", f"[{low:.3f}, {high:.3f}]", *(cells or [""] * 3))
        for (algo, seed), values in zip(mine, np.concatenate([found[algo] for algo in config.algo]), strict=True):
            lines.append((env, algo, seed, values.mean(), stats.sem(values)))
    with open(config.out / "learning.csv", "w", newline="") as file:
        csv.writer(file).writerows([("env", "algo", "seed", "held_out_return", "standard_error"), *lines])
    (config.out / "learning.json").write_text(json.dumps({"about": about(__file__, argv)} | results, indent=1) + "\n")
    curves = {
        env: {algo: [folders[env, algo, seed] for seed in config.seeds] for algo in config.algo} for env in config.env
    }
    plot(config, curves, results, config.out / "learning.png")
    console.print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
