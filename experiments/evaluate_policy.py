"""Scores a trained policy on held-out worlds beside the random one.   python experiments/evaluate_policy.py RUN

RUN is the folder of a run (its newest checkpoint is taken) or of one checkpoint. The worlds are those that the run
was configured with, from another seed; `--env-options` replaces single options, to meet other opponents for example.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import tyro
from about import about
from settings import describe, load_policy, make_env, trained_in

from algorithms import checkpoint
from algorithms.evaluate import evaluate, paired, returns_of
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
    worlds = trained_in(policy)
    worlds = dataclasses.replace(worlds, env_options=worlds.env_options + config.env_options)
    env = make_env(worlds, config.seed, min(worlds.eval_worlds or 64, config.episodes), evaluates=True)
    checkpoint.check_columns(policy.observation_names, env.observation_names, folder)

    uniform = Policy.uniform(env.observation.shape[-1], env.action_grid)
    episodes = {
        "trained": evaluate(env, policy, config.seed, config.episodes, config.greedy),
        "random": evaluate(env, uniform, config.seed, config.episodes),
    }
    env.close()
    scores = paired(returns_of(episodes["trained"]), returns_of(episodes["random"]))
    print(f"{len(episodes['trained'])} held-out episodes of {worlds.env}; {folder}")
    print(describe(scores))
    if config.out is not None:
        found = {"about": about(__file__, argv), "checkpoint": str(folder), "scores": scores, "episodes": episodes}
        config.out.write_text(json.dumps(found))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
