"""Does a Decision Transformer earn what it is asked for?   python experiments/target_return.py RUN --out FOLDER

RUN is the folder of a run of `--algo dt`, or of a checkpoint. The policy plays the same held-out worlds once for each
target, a quantile of the returns of the training episodes of the factory's kind (`--returns` names numbers instead),
and for each seed of its draws. FOLDER receives episodes.csv (every episode: target and return), target_return.json and
target_return.png: realised over target return with 95 % intervals over worlds, Spearman's correlation of the two
within each world, and by how much each step of the target raises what is earned.
"""

import csv
import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from about import about
from rich.console import Console
from rich.table import Table
from scipy import stats
from settings import load_policy, make_env, trained_in

from algorithms import checkpoint
from algorithms.evaluate import evaluate, interval
from algorithms.interface import VectorEnv
from algorithms.recollection import DecisionTransformerPolicy


@dataclass(frozen=True, kw_only=True)
class TargetConfig:
    """What is asked for, and where."""

    run: tyro.conf.Positional[Path]
    """folder of a run or of a checkpoint"""
    out: Path
    """folder that receives the results"""
    quantiles: tuple[float, ...] = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
    """targets, as quantiles of the returns of training episodes of the factory's kind"""
    returns: tuple[float, ...] = ()
    """targets in units of reward instead, the same for every kind"""
    episodes: int = 64
    """worlds for each target and seed, rounded up to a multiple of those that are stepped together"""
    seeds: tuple[int, ...] = (0, 1, 2)
    """of the policy's draws and of the worlds: each seed has worlds of its own, the same for every target"""
    world_seed: int = 3_000_000
    """added to the seeds: no run trains or evaluates on these"""
    greedy: bool = False
    """the most probable actions instead of drawn ones"""
    env_options: tuple[str, ...] = ()
    """key=value arguments of the environment, over those of the run"""


def main(argv: list[str] | None = None) -> int:
    """Plays, writes, prints, and returns 0."""
    config = tyro.cli(TargetConfig, args=argv, description=__doc__)
    policy, folder = load_policy(config.run)
    if not isinstance(policy, DecisionTransformerPolicy):
        raise SystemExit(f"{folder} holds no Decision Transformer, and other policies have no target.")
    worlds = trained_in(policy)
    options = worlds.env_options + config.env_options
    worlds = dataclasses.replace(worlds, env_options=options, eval_bank_worlds=0)  # a bank's worlds would repeat
    env = make_env(worlds, config.world_seed, min(worlds.eval_worlds or 64, config.episodes), evaluates=True)
    checkpoint.check_columns(policy.observation_names, env.observation_names, folder)
    rows = [row for target in config.returns or config.quantiles for row in play(policy, env, config, target)]
    env.close()
    config.out.mkdir(parents=True, exist_ok=True)
    with (config.out / "episodes.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    found = {"about": about(__file__, argv)} | summary(rows) | {"checkpoint": str(folder), "greedy": config.greedy}
    (config.out / "target_return.json").write_text(json.dumps(found, indent=1))
    draw(found, config.out / "target_return.png")
    Console().print(table(found))
    rho, low, high = (found["spearman"][key] for key in ("mean", "low", "high"))
    print(
        f"Spearman's correlation of target and return within a world: {rho:.3f}, 95 % interval [{low:.3f}, {high:.3f}]"
    )
    return 0


def play(
    policy: DecisionTransformerPolicy, env: VectorEnv, config: TargetConfig, target: float
) -> list[dict[str, Any]]:
    """Returns a row for each episode that is played with one target."""
    aiming = policy.aiming(target) if config.returns else policy.aiming(target_quantile=target)
    rows = []
    for seed in config.seeds:
        episodes = evaluate(env, aiming, config.world_seed + seed, config.episodes, config.greedy)
        for number, episode in enumerate(episodes):
            for team, (aimed, earned) in enumerate(zip(episode["target"], episode["return"], strict=True)):
                about = {"asked": target, "seed": seed, "number": number, "world": episode["seed"], "team": team}
                rows.append(about | {"target": aimed, "return": earned})
    return rows


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns for each target what was earned, over all worlds and for each seed, and how monotone that is.

    Every world is met once with every target: differences and correlations are taken within worlds, and their
    intervals over worlds.
    """
    asked = list(dict.fromkeys(row["asked"] for row in rows))
    worlds = list(dict.fromkeys((row["seed"], row["number"], row["team"]) for row in rows))
    place = {world: i for i, world in enumerate(worlds)}
    target, earned = np.zeros((2, len(asked), len(worlds)))
    for row in rows:
        at = asked.index(row["asked"]), place[row["seed"], row["number"], row["team"]]
        target[at], earned[at] = row["target"], row["return"]
    seed = np.array([world[0] for world in worlds])
    order = np.argsort(target.mean(1), kind="stable")
    asked, target, earned = [asked[i] for i in order], target[order], earned[order]
    steps = np.diff(earned, axis=0)
    with np.errstate(invalid="ignore"):
        rho = np.array([stats.spearmanr(target[:, i], earned[:, i]).statistic for i in range(len(worlds))])
    return {
        "worlds": len(worlds),
        "targets": [
            {
                "asked": asked[i],
                "target": float(target[i].mean()),
                "return": named(earned[i]),
                "seeds": {str(s): float(earned[i, seed == s].mean()) for s in np.unique(seed)},
                "step": named(steps[i - 1]) if i else None,
            }
            for i in range(len(asked))
        ],
        "spearman": named(np.nan_to_num(rho)),  # a world in which all targets earn the same shows no correlation
        "spearman_of_means": float(stats.spearmanr(target.mean(1), earned.mean(1)).statistic),
        "last_over_first": named(earned[-1] - earned[0]),
    }


def named(values: np.ndarray) -> dict[str, float]:
    """Returns mean, low and high of the interval of the mean."""
    return dict(zip(("mean", "low", "high"), interval(values), strict=True))


def table(found: dict[str, Any]) -> Table:
    """Returns a line for each target."""
    title = f"{found['worlds']} held-out factories; 95 % intervals over them"
    shown = Table("asked", "target", "return", "interval", "gain on the line above", "interval", title=title)
    for line in found["targets"]:
        cells = [f"{line['asked']:g}", f"{line['target']:.3f}"]
        for numbers in (line["return"], line["step"]):
            cells += (
                [f"{numbers['mean']:.3f}", f"[{numbers['low']:.3f}, {numbers['high']:.3f}]"] if numbers else ["", ""]
            )
        shown.add_row(*cells)
    return shown


def draw(found: dict[str, Any], path: Path) -> None:
    """Draws realised over target return: the mean with its interval, and each seed."""
    import matplotlib.pyplot as plt

    lines = found["targets"]
    x = [line["target"] for line in lines]
    mean, low, high = (np.array([line["return"][key] for line in lines]) for key in ("mean", "low", "high"))
    figure, axes = plt.subplots(figsize=(6, 4.5), layout="constrained")
    for seed in lines[0]["seeds"]:
        axes.plot(x, [line["seeds"][seed] for line in lines], color="tab:blue", alpha=0.3, linewidth=1)
    axes.errorbar(x, mean, [mean - low, high - mean], color="tab:blue", marker="o", capsize=3, label="realised")
    axes.plot(x, x, color="grey", linestyle=":", label="as asked")
    rho = found["spearman"]
    axes.set(xlabel="target return", ylabel="realised return")
    axes.set_title(f"Spearman within worlds {rho['mean']:.2f} [{rho['low']:.2f}, {rho['high']:.2f}]", fontsize=10)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    raise SystemExit(main())
