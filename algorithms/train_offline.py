"""The loop around a learner from recorded play: passes over the data until held-out likelihood stops to improve."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from algorithms import checkpoint
from algorithms.agreement import Tally, frequency_actor, judge, judge_repeats
from algorithms.checkpoint import Learner
from algorithms.display import Display
from algorithms.evaluate import evaluate, paired, returns_of
from algorithms.interface import ActionGrid, VectorEnv
from algorithms.log import OFFLINE_COLUMNS, OFFLINE_PHASES, Clock, RunLog, read_metrics
from algorithms.offline import OfflineData, grid_of
from algorithms.policy import Playable, Policy


class OfflineLearner(Learner, Protocol):
    """What the loop asks of a learner.

    Attributes:
        config: with `epochs` and `patience`.
        clock: seconds inside `epoch`, by phases of `log.OFFLINE_LEARN_PHASES`.
        data, episodes: what it learns from, and the episodes of each split.
        rows, dropped: split -> its legal decisions, and the number of those that L1 forbids.
    """

    clock: Clock
    data: OfflineData
    episodes: dict[str, np.ndarray]
    rows: dict[str, np.ndarray]
    dropped: dict[str, int]

    def epoch(self, number: int) -> dict[str, float]:
        """Passes over the training data once and returns columns of the log; `number` counts from 0."""

    def judge(self, split: str, most: int | None = None) -> Tally:
        """Returns how well it foretells the decisions of a split, or at most `most` of them."""

    def judge_values(self, split: str, most: int | None = None) -> dict[str, float]:
        """Returns what the log shows of its critic, {} if it has none."""

    def policy(self) -> Playable:
        """Returns it as a policy."""


@dataclass(frozen=True, kw_only=True)
class PlayConfig:
    """How the learner is judged: on held-out decisions after each pass, and in held-out worlds at the end."""

    judge_decisions: int = 200_000
    """held-out decisions that are judged after each pass, at most; at the end all of them are"""
    eval_episodes: int = 64
    """held-out episodes that are played at the end, 0 for none"""
    eval_seed: int = 1_000_003
    """seed of the held-out worlds"""
    eval_greedy: bool = False
    """play the most probable actions instead of drawn ones"""


@dataclass
class Source:
    """The data as `checkpoint.Origin`."""

    action_grid: ActionGrid
    agent_names: list[str]
    observation_names: list[str]
    config: dict[str, Any]


def train_offline(
    learner: OfflineLearner,
    env: VectorEnv | None,
    config: PlayConfig,
    folder: Path,
    resume: bool = False,
    title: str = "",
    about: dict[str, Any] | None = None,
    head: Mapping[str, Any] = {},
) -> dict[str, Any]:
    """Trains, keeps the weights that foretell the validation split best, writes offline.json and returns it.

    Args:
        learner: with its data.
        env: worlds to play in at the end, or None.
        config: how it is judged.
        folder: receives logs, offline.json, checkpoints/update_N (the best pass) and checkpoints/last (to resume).
        resume: go on from checkpoints/last.
        title: heads the display.
        about: kept in every checkpoint.
        head: what offline.json begins with.
    """
    source = Source(grid_of(learner.data), [], learner.data.observation_names, learner.data.manifest["config"])
    last = folder / "checkpoints" / "last"
    counters: dict[str, Any] = {"update": 0, "decisions": 0, "best": 0, "nll": float("inf")}
    seconds = cpu = 0.0
    if resume:
        counters, _ = checkpoint.restore(last, learner, source)
        row = next(row for row in read_metrics(folder) if row["update"] == counters["update"])
        seconds, cpu = row["time/total"], row["time/cpu"]
    log = RunLog(folder, counters["update"], counters["decisions"], OFFLINE_COLUMNS, axis="decisions")
    began, began_cpu, clock = time.perf_counter() - seconds, time.process_time() - cpu, Clock(OFFLINE_PHASES)
    epochs, patience = learner.config.epochs, learner.config.patience
    with Display(title, epochs, offline=True) as display:
        while counters["update"] < epochs and counters["update"] - counters["best"] < patience:
            metrics = learner.epoch(counters["update"])
            clock.lap("learn")
            found = learner.judge("validation", config.judge_decisions).result()
            metrics |= {f"validation/{name}": found[name] for name in found if f"validation/{name}" in OFFLINE_COLUMNS}
            metrics |= learner.judge_values("validation", config.judge_decisions)
            clock.lap("judge")
            counters["update"] += 1
            counters["decisions"] += len(learner.rows["train"])
            if found["nll"] < counters["nll"]:
                counters |= {"best": counters["update"], "nll": found["nll"]}
                _save_best(folder, learner, source, counters, about or {})
            clock.lap("save")
            row = {"update": counters["update"], "decisions": counters["decisions"]} | metrics
            row |= {f"time/{phase}": value for phase, value in clock.take().items()}
            row |= {f"time/learn_{phase}": value for phase, value in learner.clock.take().items()}
            row |= {"time/total": time.perf_counter() - began, "time/cpu": time.process_time() - began_cpu}
            log.write(row, [])
            display.show(row)
            clock.lap("log")
            checkpoint.save(last, learner, source, counters, about or {})
            clock.lap("save")
    checkpoint.load_weights(checkpoint.newest(folder), learner.modules())
    summary = {**head, **counters, "seconds": time.perf_counter() - began, **compare(learner)}
    if env is not None:
        summary |= _play(learner.policy(), env, config, log, counters["best"])
    log.close()
    (folder / "offline.json").write_text(json.dumps(summary, indent=1))
    return summary


def compare(learner: OfflineLearner) -> dict[str, Any]:
    """Returns how well the model and both baselines foretell validation and test split, and what was learnt from."""
    data, grid = learner.data, grid_of(learner.data)
    frequency = frequency_actor(data, learner.rows["train"], grid)
    found: dict[str, Any] = {"splits": {}}
    for split, rows in learner.rows.items():
        n, dropped = len(rows), learner.dropped[split]
        counts = {"episodes": len(learner.episodes[split]), "decisions": n, "dropped": dropped}
        found["splits"][split] = counts | {"dropped_share": dropped / max(1, n + dropped)}
        if split == "train" or not n:
            continue
        model = learner.judge(split)
        found[split] = {
            "model": model.result() | learner.judge_values(split),
            "frequency": judge(frequency, data, rows).result(),
            "last offer": judge_repeats(data, learner.episodes[split], rows, grid),
        }
        found[split]["model"]["reliability"] = model.reliability()
    return found


def _save_best(folder: Path, learner: Learner, source: Source, counters: dict[str, Any], about: dict[str, Any]) -> None:
    best = folder / "checkpoints" / f"update_{counters['update']:07d}"
    checkpoint.save(best, learner, source, counters, about)
    for other in best.parent.glob("update_*"):
        if other != best:
            checkpoint.remove(other)


def _play(policy: Playable, env: VectorEnv, config: PlayConfig, log: RunLog, update: int) -> dict[str, Any]:
    """Returns the returns of the policy and of the random one in the same held-out worlds, and the gain."""
    uniform = Policy.uniform(env.observation.shape[-1], env.action_grid)
    found = {}
    for name, player, greedy in (("trained", policy, config.eval_greedy), ("random", uniform, False)):
        episodes = evaluate(env, player, config.eval_seed, config.eval_episodes, greedy)
        log.write_evaluation(update, name, episodes)
        found[name] = returns_of(episodes)
    return paired(found["trained"], found["random"])
