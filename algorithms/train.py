"""The training loop: collect, learn, evaluate, save, log. The same for every algorithm and every environment."""

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from algorithms import checkpoint
from algorithms.buffer import RolloutBuffer
from algorithms.display import Display
from algorithms.evaluate import evaluate, interval, paired, returns_of
from algorithms.interface import VectorEnv
from algorithms.log import Clock, RunLog, read_evaluations, read_metrics
from algorithms.policy import Policy
from algorithms.ppo import PPO


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long to train, and when to look."""

    total_steps: int = 200_000
    """steps of single worlds to train for, rounded up to whole rollouts"""
    n_steps: int = 125
    """steps of a rollout (T), in each world"""
    max_minutes: float | None = None
    """stop early, after the update during which this time is up"""
    eval_every: int = 10
    """updates between two evaluations, one at the start and one at the end included; 0 for none at all"""
    eval_episodes: int = 32
    """held-out episodes of an evaluation"""
    eval_seed: int = 1_000_003
    """seed of the held-out worlds; never use it for training"""
    eval_greedy: bool = False
    """evaluate the most probable actions instead of drawn ones"""
    critic_warmup: int = 0
    """updates at the start in which only the critic learns, for a policy that starts well (--init) with a critic that
    does not"""
    checkpoint_every: int = 20
    """updates between two checkpoints; the last update always has one"""
    keep_checkpoints: int = 2
    """checkpoints to keep, older ones are deleted"""

    def __post_init__(self) -> None:
        for name in ("total_steps", "n_steps", "checkpoint_every", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise ValueError(f"TrainConfig.{name} must be at least 1, got {getattr(self, name)}.")


def train(
    learner: PPO,
    env: VectorEnv,
    eval_env: VectorEnv | None,
    config: TrainConfig,
    folder: Path,
    seed: int,
    resume: bool = False,
    title: str = "",
    about: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Trains and returns a summary: held-out returns of the trained and the random policy, counters and seconds.

    Args:
        learner: any PPO.
        env: the worlds to learn in.
        eval_env: other worlds of the same kind, or None for no evaluation.
        config: see TrainConfig.
        folder: receives logs and checkpoints.
        seed: fixes the episodes of the training worlds.
        resume: go on from the newest checkpoint in `folder`.
        title: heads the display.
        about: kept in every checkpoint.
    """
    run = Run(learner, env, eval_env if config.eval_every else None, config, folder, about or {})
    run.begin(seed, resume)
    buffer = RolloutBuffer(config.n_steps, env)
    with Display(title, run.n_updates) as display:
        while run.update < run.n_updates and not run.out_of_time():
            evaluation = run.evaluate_if_due()
            collect(env, learner, buffer, run.clock)
            progress, only_critic = run.update / run.n_updates, run.update < config.critic_warmup
            metrics = learner.update(buffer, progress, only_critic)
            run.clock.lap("learn")
            run.count(buffer)
            display.show(run.write(rollout_metrics(buffer, env.episodes) | metrics | evaluation))
            env.episodes.clear()
            if run.update % config.checkpoint_every == 0 or run.update == run.n_updates or run.out_of_time():
                run.save()
    return run.finish()


def collect(env: VectorEnv, learner: PPO, buffer: RolloutBuffer, clock: Clock) -> None:
    """Fills the buffer with T steps of the present policy."""
    for _ in range(buffer.n_steps):
        buffer.observe(env)
        clock.lap("store")
        action, log_prob = learner.act(env)
        clock.lap("act")
        buffer.choose(action, log_prob)
        clock.lap("store")
        env.step(action)
        clock.lap("env")
        buffer.receive(env)
    buffer.finish(env)
    clock.lap("store")


def rollout_metrics(buffer: RolloutBuffer, episodes: list[dict[str, Any]]) -> dict[str, float]:
    """Returns the train/* columns of one rollout."""
    changed = buffer.executed[buffer.active] != buffer.action[buffer.active]
    everyone = buffer.n_steps * buffer.last_observation.shape[0] * buffer.last_observation.shape[1]
    metrics = {
        "train/episodes": float(len(episodes)),
        "train/active": float(buffer.active.sum() / everyone),
        "train/changed": float(changed.mean()) if changed.size else math.nan,
    }
    if episodes:
        metrics["train/return"] = float(returns_of(episodes).mean())
        metrics["train/length"] = float(np.mean([episode["length"] for episode in episodes]))
    return metrics


class Run:
    """The bookkeeping of one training run: counters, clock, logs, evaluations and checkpoints."""

    def __init__(
        self,
        learner: PPO,
        env: VectorEnv,
        eval_env: VectorEnv | None,
        config: TrainConfig,
        folder: Path,
        about: dict[str, Any],
    ) -> None:
        """Makes a run that has not begun."""
        self.learner, self.env, self.eval_env, self.config, self.folder = learner, env, eval_env, config, folder
        self.about = about
        self.n_updates = -(-config.total_steps // (config.n_steps * env.n_worlds))
        self.update = self.world_steps = self.decisions = 0
        self.policy = Policy(learner.actor, env.observation_names, {})
        self.random: list[dict[str, Any]] = []

    def begin(self, seed: int, resume: bool) -> None:
        """Starts the worlds, or puts everything back to the newest checkpoint."""
        seconds = cpu = 0.0
        if resume:
            counters, restored = checkpoint.restore(checkpoint.newest(self.folder), self.learner, self.env)
            self.update, self.world_steps = counters["update"], counters["world_steps"]
            self.decisions = counters["decisions"]
            last = next(row for row in read_metrics(self.folder) if row["update"] == self.update)
            seconds, cpu = last["time/total"], last["time/cpu"]
            if not restored:
                print("The worlds cannot be restored: new episodes begin, and the curve is not the uninterrupted one.")
                self.env.reset(int(np.random.SeedSequence([seed, self.update]).generate_state(1)[0] >> 1))
        else:
            self.env.reset(seed)
        self.env.episodes.clear()
        self.log = RunLog(self.folder, self.update, self.world_steps)
        self._began, self._began_cpu = time.perf_counter() - seconds, time.process_time() - cpu
        self._session = time.perf_counter()
        self.clock = Clock()
        if self.eval_env is not None:
            lines = [line for line in read_evaluations(self.folder) if line["policy"] == "random"]
            self.random = lines[0]["episodes"] if lines else self._evaluate_random()
        self.clock.lap("evaluate")

    def out_of_time(self) -> bool:
        """Is the time of this session up?"""
        limit = self.config.max_minutes
        return limit is not None and time.perf_counter() - self._session > 60 * limit

    def evaluate_if_due(self) -> dict[str, float]:
        """Returns the eval/* columns, {} if none is due."""
        if self.eval_env is None or self.update % self.config.eval_every:
            return {}
        mean, low, high = interval(returns_of(self._evaluate_policy()))
        self.clock.lap("evaluate")
        random = float(returns_of(self.random).mean())
        return {"eval/return": mean, "eval/low": low, "eval/high": high, "eval/random": random}

    def count(self, buffer: RolloutBuffer) -> None:
        """Adds one rollout to the counters."""
        self.update += 1
        self.world_steps += buffer.n_steps * buffer.n_worlds
        self._new_decisions = int(buffer.active.sum())
        self.decisions += self._new_decisions

    def write(self, metrics: dict[str, float]) -> dict[str, float]:
        """Logs one update with counters and times, and returns the full row."""
        seconds = self.clock.take()
        working = sum(seconds[phase] for phase in ("env", "act", "store", "learn"))
        row = {"update": self.update, "world_steps": self.world_steps, "decisions": self.decisions} | metrics
        row |= {f"time/{phase}": value for phase, value in seconds.items()}
        row |= {f"time/learn_{phase}": value for phase, value in self.learner.clock.take().items()}
        row["time/total"] = time.perf_counter() - self._began
        row["time/cpu"] = time.process_time() - self._began_cpu
        row["time/decisions_per_second"] = self._new_decisions / working
        self.log.write(row, self.env.episodes)
        self.clock.lap("log")
        return row

    def save(self) -> None:
        """Writes a checkpoint and deletes the oldest ones beyond those to keep."""
        folder = self.folder / "checkpoints"
        counters = {"update": self.update, "world_steps": self.world_steps, "decisions": self.decisions}
        checkpoint.save(folder / f"update_{self.update:07d}", self.learner, self.env, counters, self.about)
        for old in sorted(folder.glob("update_*"))[: -self.config.keep_checkpoints]:
            checkpoint.remove(old)
        self.clock.lap("save")

    def finish(self) -> dict[str, Any]:
        """Evaluates once more, closes the log and returns the summary."""
        summary: dict[str, Any] = {"update": self.update, "world_steps": self.world_steps, "decisions": self.decisions}
        summary |= {"seconds": time.perf_counter() - self._began, "cpu_seconds": time.process_time() - self._began_cpu}
        if self.eval_env is not None:
            summary |= paired(returns_of(self._evaluate_policy()), returns_of(self.random))
        self.log.close()
        return summary

    def _evaluate_policy(self) -> list[dict[str, Any]]:
        assert self.eval_env is not None
        config = self.config
        episodes = evaluate(self.eval_env, self.policy, config.eval_seed, config.eval_episodes, config.eval_greedy)
        self.log.write_evaluation(self.update, "trained", episodes)
        return episodes

    def _evaluate_random(self) -> list[dict[str, Any]]:
        assert self.eval_env is not None
        policy = Policy.uniform(self.env.observation.shape[-1], self.env.action_grid)
        episodes = evaluate(self.eval_env, policy, self.config.eval_seed, self.config.eval_episodes)
        self.log.write_evaluation(self.update, "random", episodes)
        return episodes
