"""Scores a trained policy on held-out worlds beside the random one.   python experiments/evaluate_policy.py RUN

RUN is the folder of a run (its newest checkpoint is taken) or of one checkpoint. The worlds are those that the run
was configured with, from another seed; `--env-options` replaces single options, to meet other opponents for example.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import tyro
from run import RunConfig, describe, from_json, load_policy, make_env

from algorithms import checkpoint
from algorithms.evaluate import evaluate, interval, returns_of
from algorithms.policy import Policy


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """What to play."""

    run: tyro.conf.Positional[Path]
    """folder of a run or of a checkpoint"""
    episodes: int = 64
    """held-out episodes, rounded up to a multiple of the worlds"""
    seed: int = 2_000_003
    """of the worlds; neither the training seed nor that of the evaluations during training"""
    greedy: bool = False
    """the most probable actions instead of drawn ones"""
    env_options: tuple[str, ...] = ()
    """key=value arguments of the environment, over those of the run"""
    out: Path | None = None
    """JSON file that receives every episode of both policies"""


def main(argv: list[str] | None = None) -> int:
    """Plays both policies in the same worlds and prints means and paired gain with intervals."""
    config = tyro.cli(EvaluationConfig, args=argv, description=__doc__)
    policy, folder = load_policy(config.run)
    trained_with: RunConfig = from_json(RunConfig, policy.config["about"])
    options = trained_with.env.env_options + config.env_options
    worlds = dataclasses.replace(trained_with.env, env_options=options)
    run = dataclasses.replace(trained_with, env=worlds)
    env = make_env(run, config.seed, min(worlds.eval_worlds or 64, config.episodes), evaluates=True)
    checkpoint.check_columns(policy.observation_names, env.observation_names, folder)

    uniform = Policy.uniform(env.observation.shape[-1], env.action_grid)
    episodes = {
        "trained": evaluate(env, policy, config.seed, config.episodes, config.greedy),
        "random": evaluate(env, uniform, config.seed, config.episodes),
    }
    env.close()
    trained, random = returns_of(episodes["trained"]), returns_of(episodes["random"])
    scores = {
        name: dict(zip(("mean", "low", "high"), interval(values), strict=True))
        for name, values in (("trained", trained), ("random", random), ("gain", trained - random))
    }
    print(f"{len(trained)} held-out episodes of {worlds.env}; {folder}")
    print(describe(scores))
    if config.out is not None:
        config.out.write_text(json.dumps({"checkpoint": str(folder), "scores": scores, "episodes": episodes}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
