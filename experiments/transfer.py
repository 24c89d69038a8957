"""Is a policy worth the same on the real engine?   python experiments/transfer.py RUN --episodes 64 --workers 2

RUN is the folder of a run (its newest checkpoint is taken) or of one checkpoint. The policy plays the same held-out
worlds, with opponents from the same pool in the same seats, on the compiled engine and on SCML itself; its own draws
and the opponents' differ. Printed are both returns, the paired difference with its 95 % interval, and the margin within
which the two are equivalent at the 5 % level (two one-sided t tests: the larger end of the 90 % interval). Beside it
stand random masked play and agents in the policy's place, in the same worlds on the same engines.
"""

import dataclasses
import json
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from about import about
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy import stats
from settings import load_policy, make_env, options_of, trained_in

from algorithms import checkpoint
from algorithms.evaluate import evaluate, returns_of
from algorithms.policy import Policy
from scml_marl_env.config import EnvConfig
from scml_marl_env.registry import config_of
from scml_marl_env.seat import mean_score, seat_scores
from scml_marl_env.tournament.attempts import outcomes
from scml_marl_env.tournament.backends import backend
from scml_marl_env.vector_worker import episode_seed


@dataclass(frozen=True, kw_only=True)
class TransferConfig:
    """What to play."""

    run: tyro.conf.Positional[Path]
    """folder of a run or of a checkpoint"""
    episodes: int = 64
    """held-out episodes on each engine, rounded up to a multiple of the worlds"""
    worlds: int = 8
    """worlds that are stepped together"""
    workers: int = 2
    """processes of the real engine, and threads of the compiled one"""
    seed: int = 4_000_037
    """of the episodes"""
    beside: tuple[str, ...] = ("random", "greedy", "prudent")
    """who else plays in the policy's place: random (masked play), or agents that both engines have"""
    engines: tuple[Literal["fast", "scml"], ...] = ("fast", "scml")
    """on one of them alone nothing is compared but the players"""
    out: Path | None = None
    """JSON file for the numbers and every return"""


def main(argv: list[str] | None = None) -> int:
    """Plays, prints and returns 0."""
    config = tyro.cli(TransferConfig, args=argv, description=__doc__)
    console = Console() if sys.stdout.isatty() else Console(width=120)
    policy, folder = load_policy(config.run)
    names = ("policy", *config.beside)
    returns: dict[str, dict[str, np.ndarray]] = {name: {} for name in names}
    bank: str | None = None
    for engine in config.engines:
        worlds = dataclasses.replace(trained_in(policy), engine=engine, workers=config.workers)
        if engine != config.engines[0]:
            worlds = dataclasses.replace(worlds, env_options=(*worlds.env_options, f"bank={json.dumps(bank)}"))
        env = make_env(worlds, config.seed, config.worlds, evaluates=True)
        bank = env.config["bank"]
        checkpoint.check_columns(policy.observation_names, env.observation_names, folder)
        players = {"policy": policy, "random": Policy.uniform(env.observation.shape[-1], env.action_grid)}
        place = config_of(worlds.env, **options_of(worlds.env_options) | {"engine": engine, "bank": bank})
        per_world = -(-config.episodes // env.n_worlds)
        seeds = [episode_seed(config.seed, e, i) for e in range(env.n_worlds) for i in range(per_world)]
        for name in names:
            title = f"{engine}: {name}"
            if name not in players:
                returns[name][engine] = in_place(place, name, seeds, config.workers, title, console)
                continue
            with console.status(title):
                returns[name][engine] = returns_of(evaluate(env, players[name], config.seed, config.episodes))
        env.close()
    found = {name: means(mine) for name, mine in returns.items()}
    console.print(table(found, len(returns["policy"][config.engines[0]])))
    if "margin" in found["policy"]:
        margin = found["policy"]["margin"]
        console.print(f"The policy's two returns are equivalent at the 5 % level within +-{margin:.4f}.")
    over = {name: gains(returns, name) for name in config.beside}
    for name, gain in over.items():
        texts = [f"{engine} {shown(numbers)}" for engine, numbers in gain.items()]
        console.print(f"over {name}: {', '.join(texts)}")
    if config.out is not None:
        plain = {name: {engine: values.tolist() for engine, values in mine.items()} for name, mine in returns.items()}
        numbers = {"about": about(__file__, argv), "checkpoint": str(folder), "engines": found, "policy_over": over}
        config.out.parent.mkdir(parents=True, exist_ok=True)
        config.out.write_text(json.dumps(numbers | {"returns": plain}) + "\n")
    return 0


def in_place(worlds: EnvConfig, agent: str, seeds: list[int], workers: int, title: str, console: Console) -> np.ndarray:
    """Returns of an agent in the policy's place, one for each seed."""
    if worlds.engine == "fast":
        with console.status(title):
            return seat_scores(worlds, agent, seeds).mean(1) - 1
    scores = {}
    played = outcomes(
        partial(mean_score, worlds, agent), seeds, backend("loky", workers), imports=[mean_score.__module__]
    )
    for seed, score in track(played, title, len(seeds), console=console):
        if isinstance(score, Exception):
            raise SystemExit(f"{title} in the world of seed {seed}: {score}")
        scores[seed] = score
    return np.array([scores[seed] for seed in seeds]) - 1


def means(returns: dict[str, np.ndarray]) -> dict[str, Any]:
    """Mean and standard error by engine; of two the paired difference, its interval, and the margin of equivalence."""
    found: dict[str, Any] = {"episodes": len(next(iter(returns.values())))}
    for engine, values in returns.items():
        found[engine] = {"mean": float(values.mean()), "error": float(stats.sem(values))}
    if len(returns) == 2:
        difference = returns["scml"] - returns["fast"]
        found["difference"] = estimate(difference)
        most = stats.sem(difference) * stats.t.ppf(0.95, len(difference) - 1)
        found["margin"] = float(abs(difference.mean()) + most)
    return found


def estimate(values: np.ndarray) -> dict[str, float]:
    """Mean and 95 % interval."""
    half = stats.sem(values) * stats.t.ppf(0.975, len(values) - 1)
    return {"mean": float(values.mean()), "low": float(values.mean() - half), "high": float(values.mean() + half)}


def gains(returns: dict[str, dict[str, np.ndarray]], name: str) -> dict[str, dict[str, float]]:
    """What the policy earns more than another one in the same worlds, by engine, with 95 % intervals."""
    return {engine: estimate(mine - returns[name][engine]) for engine, mine in returns["policy"].items()}


def table(found: dict[str, dict[str, Any]], n: int) -> Table:
    """A row for each player."""
    engines = [name for name in ("fast", "scml") if name in found["policy"]]
    compared = "difference" in found["policy"]
    columns = ["held-out return", *(f"{engine} (standard error)" for engine in engines)]
    columns += ["scml - fast, 95 % interval"] if compared else []
    shown_table = Table(*columns, title=f"{n} episodes, the same worlds", title_justify="left")
    for name, row in found.items():
        cells = [f"{row[engine]['mean']:.4f} ({row[engine]['error']:.4f})" for engine in engines]
        shown_table.add_row(name, *cells, *([shown(row["difference"])] if compared else []))
    return shown_table


def shown(numbers: dict[str, float]) -> str:
    """A difference with its interval."""
    return "{mean:+.4f} [{low:+.4f}, {high:+.4f}]".format(**numbers)


if __name__ == "__main__":
    raise SystemExit(main())
