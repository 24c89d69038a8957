"""Is a policy worth the same on the real engine?   python experiments/transfer.py RUN --episodes 64 --workers 2

RUN is the folder of a run (its newest checkpoint is taken) or of one checkpoint. The policy plays the same held-out
worlds, with opponents from the same pool in the same seats, on the compiled engine and on SCML itself; its own draws
and the opponents' differ. Printed are both returns, the paired difference with its 95 % interval, and the margin within
which the two are equivalent at the 5 % level (two one-sided t tests: the larger end of the 90 % interval).
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from about import about
from scipy import stats
from settings import load_policy, make_env, trained_in

from algorithms import checkpoint
from algorithms.evaluate import evaluate, returns_of


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
    out: Path | None = None
    """JSON file for the numbers and every return"""


def main(argv: list[str] | None = None) -> int:
    """Plays, prints and returns 0."""
    config = tyro.cli(TransferConfig, args=argv, description=__doc__)
    policy, folder = load_policy(config.run)
    returns, bank = {}, ""
    for engine in ("fast", "scml"):
        worlds = dataclasses.replace(trained_in(policy), engine=engine, workers=config.workers)
        if engine == "scml":
            worlds = dataclasses.replace(worlds, env_options=(*worlds.env_options, f"bank={bank}"))
        env = make_env(worlds, config.seed, config.worlds, evaluates=True)
        bank = env.config["bank"]
        checkpoint.check_columns(policy.observation_names, env.observation_names, folder)
        returns[engine] = returns_of(evaluate(env, policy, config.seed, config.episodes))
        env.close()
    difference = returns["scml"] - returns["fast"]
    n, mean, error = len(difference), difference.mean(), stats.sem(difference)
    half, margin = error * stats.t.ppf(0.975, n - 1), abs(mean) + error * stats.t.ppf(0.95, n - 1)
    for engine, values in returns.items():
        print(f"{engine:<5} held-out return {values.mean():.4f}, standard error {stats.sem(values):.4f}, {n} episodes")
    print(f"scml - fast, same worlds: {mean:+.4f}, 95 % interval [{mean - half:+.4f}, {mean + half:+.4f}]")
    print(f"equivalent at the 5 % level within +-{margin:.4f}")
    if config.out is not None:
        numbers = {
            "about": about(__file__, argv),
            "difference": float(mean),
            "low": float(mean - half),
            "high": float(mean + half),
        }
        numbers |= {"margin": float(margin), "episodes": n, "checkpoint": str(folder)}
        config.out.write_text(json.dumps(numbers | {k: np.asarray(v).tolist() for k, v in returns.items()}) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
