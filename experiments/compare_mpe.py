"""MAPPO and IPPO beside BenchMARL's on mpe2 simple_spread: equal frames, networks and settings, five seeds each.

    python -m venv VENV && VENV/bin/pip install benchmarl==1.5.2 torch==2.13.0 mpe2==1.1.1
    python experiments/compare_mpe.py --benchmarl-python VENV/bin/python              # 20 runs, one after the other
    python experiments/compare_mpe.py --benchmarl-python VENV/bin/python --speed      # short runs of both in turn

Runs that are already in `--out` are not repeated. Writes runs.csv (one line a run), curves.csv (training returns) and
table.md; `--speed` writes speed.csv and speed.md. Learning is judged on the same 200 held-out episodes for everybody,
with sampled and with most probable actions; CPU seconds are those of training alone, on one thread.
"""

import csv
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from about import command_of
from mpe2 import simple_spread_v3
from mpe_settings import SETTINGS, play

from algorithms.evaluate import interval
from algorithms.ippo import IPPO
from algorithms.log import read_metrics
from algorithms.mappo import MAPPO
from algorithms.policy import Policy
from algorithms.ppo import PPOConfig, Shapes
from algorithms.train import TrainConfig, train
from algorithms.vector import ParallelVectorEnv

HERE = Path(__file__).parent
LIBRARIES = ("ours", "benchmarl")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Which runs to make."""

    benchmarl_python: Path
    """python of the virtual environment that holds BenchMARL"""
    out: Path = HERE / "results" / "mpe"
    """folder of the tables"""
    raw: Path = Path("runs") / "compare_mpe"
    """folder of the runs themselves"""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """one run for each"""
    algos: tuple[str, ...] = ("mappo", "ippo")
    """algorithms to compare"""
    libraries: tuple[str, ...] = LIBRARIES
    """which to run; tables need both"""
    gamma: float = SETTINGS["gamma"]
    """discount of both"""
    speed: bool = False
    """measure speed instead: three short runs of each, in turn"""


def main() -> int:
    """Makes the missing runs and writes the tables."""
    config = tyro.cli(Comparison, description=__doc__)
    config.out.mkdir(parents=True, exist_ok=True)
    config.raw.mkdir(parents=True, exist_ok=True)
    if config.speed:
        short = SETTINGS | {"frames": 20_000, "eval_episodes": 1, "gamma": config.gamma}
        results = [
            run(config, library, short | {"algo": algo, "seed": seed}, "speed")
            for seed in range(3)
            for algo in config.algos
            for library in config.libraries
        ]
        write_speed(config.out, results)
        return 0
    name = f"gamma{config.gamma}"
    results = [
        run(config, library, SETTINGS | {"algo": algo, "seed": seed, "gamma": config.gamma}, name)
        for seed in config.seeds
        for algo in config.algos
        for library in config.libraries
    ]
    if set(config.libraries) == set(LIBRARIES):
        write_runs(config.out / name, results)
    return 0


def run(config: Comparison, library: str, settings: dict[str, Any], name: str) -> dict[str, Any]:
    """Returns the result of one run, from its file if it was made before."""
    path = config.raw / name / f"{library}_{settings['algo']}_{settings['seed']}.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        if library == "ours":
            path.write_text(json.dumps(train_ours(settings, path.with_suffix(""))))
        else:
            command = [config.benchmarl_python, HERE / "benchmarl_mpe.py", "--out", path]
            subprocess.run([*command, "--settings", json.dumps(settings)], check=True, stderr=subprocess.DEVNULL)
    return json.loads(path.read_text())


def train_ours(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Trains and scores one of our learners; the same keys as benchmarl_mpe.py writes."""
    torch.set_num_threads(1)
    ppo = PPOConfig(
        actor_hidden=tuple(settings["hidden"]),
        critic_hidden=tuple(settings["hidden"]),
        lr=settings["lr"],
        critic_lr=settings["lr"],
        lr_end=1.0,
        entropy=settings["entropy"],
        entropy_end=settings["entropy"],
        **{key: settings[key] for key in ("gamma", "gae_lambda", "clip", "epochs", "minibatches", "max_grad_norm")},
    )
    make = [lambda: simple_spread_v3.parallel_env(max_cycles=settings["max_cycles"])]
    cpu, wall = time.process_time(), time.perf_counter()
    env = ParallelVectorEnv(
        make * settings["n_worlds"], settings["seed"], state="env" if settings["algo"] == "mappo" else "none"
    )
    learner = {"mappo": MAPPO, "ippo": IPPO}[settings["algo"]](Shapes.of(env), ppo, settings["seed"])
    budget = TrainConfig(
        total_steps=settings["frames"], n_steps=settings["n_steps"], eval_every=0, checkpoint_every=10**9
    )
    train(learner, env, None, budget, folder, settings["seed"], title=f"{settings['algo']} {settings['seed']}")
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall

    policy, scores = Policy(learner.actor, env.observation_names, {}), {}
    bounds = np.ones((3, env.bounds.shape[-1]), np.int32)
    for name, greedy in (("greedy", True), ("sampled", False)):
        rng = np.random.default_rng(settings["eval_seed"])
        scores[name] = play(lambda rows, g=greedy, r=rng: policy.act(rows, bounds, r, g).tolist(), settings)
    rows = read_metrics(folder)
    return {
        "library": "ours",
        "settings": settings,
        "cpu_seconds": cpu,
        "wall_seconds": wall,
        "agent_steps": int(rows[-1]["decisions"]),
        "curve": [[int(row["world_steps"]), row["train/return"], row["time/cpu"]] for row in rows],
        "evaluation": scores,
    }


def write_runs(folder: Path, results: list[dict[str, Any]]) -> None:
    """Writes runs.csv, curves.csv (in steps of 10,000 frames) and table.md."""
    folder.mkdir(parents=True, exist_ok=True)
    lines, curve_lines = [], []
    for result in results:
        settings, key = result["settings"], [result["library"], result["settings"]["algo"], result["settings"]["seed"]]
        curve = np.array(result["curve"])[:, :2]
        scores = [round(float(np.mean(result["evaluation"][name])), 4) for name in ("sampled", "greedy")]
        rate = result["agent_steps"] / result["cpu_seconds"]
        lines.append([*key, settings["frames"], *scores, round(curve[:, 1].mean(), 4)])
        lines[-1] += [round(result["cpu_seconds"], 1), round(result["wall_seconds"], 1), round(rate)]
        bins = (curve[:, 0] - 1) // 10_000
        curve_lines += [[*key, int(b + 1) * 10_000, round(curve[bins == b, 1].mean(), 3)] for b in np.unique(bins)]
    header = ["library", "algo", "seed", "frames", "sampled", "greedy", "training_mean"]
    write_csv(folder / "runs.csv", [*header, "cpu_seconds", "wall_seconds", "agent_steps_per_cpu_second"], lines)
    write_csv(folder / "curves.csv", ["library", "algo", "seed", "frames", "training_return"], curve_lines)
    shared = {key: value for key, value in results[0]["settings"].items() if key not in ("algo", "seed")}
    text = [f"`simple_spread_v3`, {shared}; other processes shared the machine.", "", machine(), ""]
    text += ["| algo | library | sampled | most probable | mean over training | agent steps per CPU-s |"]
    text += ["| --- | --- | --- | --- | --- | --- |"]
    for algo in dict.fromkeys(line[1] for line in lines):
        for library in LIBRARIES:
            columns = np.array([line[4:7] + line[9:10] for line in lines if line[:2] == [library, algo]])
            text.append(f"| {algo} | {library} | " + " | ".join(shown(x) for x in columns.T) + " |")
    (folder / "table.md").write_text("\n".join(text) + "\n")
    print("\n".join(text))


def write_speed(folder: Path, results: list[dict[str, Any]]) -> None:
    """Writes speed.csv and speed.md: medians, and the ratio of runs made one after the other."""
    lines, text = [], [machine(), "", "| algo | ours, agent steps per CPU-s | BenchMARL | ratio, each pair |"]
    text.append("| --- | --- | --- | --- |")
    rates: dict[tuple[str, str], list[float]] = {}
    for result in results:
        algo, rate = result["settings"]["algo"], result["agent_steps"] / result["cpu_seconds"]
        rates.setdefault((result["library"], algo), []).append(rate)
        lines.append(
            [result["library"], algo, result["settings"]["seed"], round(result["cpu_seconds"], 2), round(rate)]
        )
    write_csv(folder / "speed.csv", ["library", "algo", "run", "cpu_seconds", "agent_steps_per_cpu_second"], lines)
    for algo in dict.fromkeys(algo for _, algo in rates):
        ours, theirs = (np.array(rates[library, algo]) for library in LIBRARIES)
        ratios = ", ".join(f"{x:.2f}" for x in ours / theirs)
        text.append(f"| {algo} | {np.median(ours):,.0f} | {np.median(theirs):,.0f} | {ratios} |")
    (folder / "speed.md").write_text("\n".join(text) + "\n")
    print("\n".join(text))


def write_csv(path: Path, header: list[str], lines: list[list[Any]]) -> None:
    """Writes one table."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *lines])


def shown(values: np.ndarray) -> str:
    """Returns "mean [low, high]" over seeds, a 95 % bootstrap interval."""
    mean, low, high = interval(values)
    digits = 0 if abs(mean) > 1000 else 2
    return f"{mean:,.{digits}f} [{low:,.{digits}f}, {high:,.{digits}f}]"


def machine() -> str:
    """Returns what the figures were measured with."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True).stdout
    versions = f"Python {sys.version.split()[0]}, torch {torch.__version__}, numpy {np.__version__}"
    return (
        f"`{command_of(__file__, None)}`\n\n{versions}, {os.cpu_count()} cores, one used, commit {commit.strip()}, "
        f"{time.strftime('%Y-%m-%d')}; mean [95 % bootstrap interval over seeds]."
    )


if __name__ == "__main__":
    raise SystemExit(main())
