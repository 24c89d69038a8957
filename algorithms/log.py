"""What a run writes: metrics.csv, TensorBoard events and evaluations.jsonl, under names that do not change.

metrics.csv has one line per update and exactly the columns of `COLUMNS`, or of `OFFLINE_COLUMNS` for recorded data;
where a number does not exist (no episode ended, no evaluation was due) they are empty. TensorBoard holds the same names
over world steps, or over decisions for recorded data, and `episode/*` beside them: means over the ended episodes of
whatever other numbers the environment reports. evaluations.jsonl holds every episode of every evaluation, one
evaluation a line, for statistics.
"""

import csv
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

COLUMNS = {
    "update": "gradient phases so far, this one included",
    "world_steps": "steps of single worlds so far, however many agents decided in each",
    "decisions": "decisions of single agents so far: the rows that were learnt from",
    "train/return": "undiscounted return of the episodes that ended, mean over teams and episodes",
    "train/length": "steps of the episodes that ended, mean",
    "train/episodes": "episodes that ended",
    "train/active": "share of (step, world, agent) with a decision to take",
    "train/changed": "share of decisions for which the env carried out another action than the chosen one",
    "loss/policy": "clipped objective, mean over gradient steps",
    "loss/value": "half the squared error of the critic, in normalised units",
    "policy/entropy": "nats per decision",
    "policy/entropy_weight": "weight of the entropy bonus",
    "policy/kl": "divergence from the policy that collected the rollout, nats, mean over gradient steps",
    "policy/first_kl": "the same at the first gradient step: 0 up to rounding, or masks or log p are wrong",
    "policy/kl_to_init": "divergence of the collecting policy from the one that training began with (--init), nats",
    "policy/clip_fraction": "share of decisions whose ratio left the trusted interval",
    "policy/grad_norm": "before scaling down, mean over gradient steps",
    "policy/epochs": "epochs begun before the KL limit stopped them",
    "policy/lr": "Adam's step for the actor",
    "value/explained_variance": "1 - Var(target - V) / Var(target), with V from before the update",
    "value/mean": "mean V, in units of reward",
    "value/grad_norm": "before scaling down, mean over gradient steps",
    "eval/return": "held-out return of the policy before this update, mean over teams and episodes",
    "eval/low": "95 % bootstrap interval of it, lower end",
    "eval/high": "and upper end",
    "eval/random": "held-out return of the random masked policy on the same worlds",
    "time/env": "seconds in env.step",
    "time/act": "seconds in the actor",
    "time/store": "seconds writing the buffer",
    "time/learn": "seconds in values, advantages and gradient steps",
    "time/learn_masks": "of these: finding the decisions and what was legal in them",
    "time/learn_values": "of these: values, advantages and targets, before each epoch",
    "time/learn_gradients": "of these: forward and backward passes of the minibatches, gathering their rows included",
    "time/learn_optimiser": "of these: clipping of gradients and Adam's steps",
    "time/evaluate": "seconds evaluating",
    "time/save": "seconds writing checkpoints",
    "time/log": "seconds writing logs and the display",
    "time/total": "seconds of the run so far, over all its resumptions",
    "time/cpu": "CPU seconds of this process so far, over all its resumptions",
    "time/decisions_per_second": "decisions of this update over its seconds of env, act, store and learn",
}
OFFLINE_COLUMNS = {
    "update": "passes over the training data so far, this one included",
    "decisions": "decisions that were learnt from so far, repeats included",
    "loss/policy": "- log p of the experts' actions, nats per decision, mean over gradient steps",
    "loss/value": "half the squared error of the critic, in normalised units",
    "policy/entropy": "nats per decision, along the experts' actions",
    "policy/grad_norm": "before scaling down, mean over gradient steps",
    "policy/lr": "Adam's step",
    "value/explained_variance": "1 - Var(target - V) / Var(target) on the validation split",
    "value/grad_norm": "before scaling down, mean over gradient steps",
    "validation/nll": "as loss/policy, on worlds that are not learnt from",
    "validation/accuracy": "share of decisions whose likeliest action is the expert's",
    "validation/accuracy/operation": "the same of the operation alone",
    "validation/accuracy/lead": "of the lead time, over offers",
    "validation/accuracy/price": "of the price level, given the expert's lead time",
    "validation/accuracy/quantity": "of the quantity, given the expert's lead time and price level",
    "validation/ece/operation": "expected calibration error of the operation's probability",
    "validation/ece/action": "and of the likeliest action's",
    "time/learn": "seconds in the pass",
    "time/learn_read": "of these: reading and shuffling",
    "time/learn_masks": "of these: finding what was legal",
    "time/learn_gradients": "of these: forward and backward passes",
    "time/learn_optimiser": "of these: clipping of gradients and Adam's steps",
    "time/judge": "seconds on the validation split",
    "time/evaluate": "seconds playing",
    "time/save": "seconds writing checkpoints",
    "time/log": "seconds writing logs and the display",
    "time/total": "seconds of the run so far, over all its resumptions",
    "time/cpu": "CPU seconds of this process so far, over all its resumptions",
}
PHASES = ("env", "act", "store", "learn", "evaluate", "save", "log")
LEARN_PHASES = ("masks", "values", "gradients", "optimiser")
OFFLINE_PHASES = ("learn", "judge", "evaluate", "save", "log")
OFFLINE_LEARN_PHASES = ("read", "masks", "gradients", "optimiser")


class Clock:
    """Seconds by phase: `lap(phase)` books the time since the last lap."""

    def __init__(self, phases: tuple[str, ...] = PHASES, now: Callable[[], float] = time.perf_counter) -> None:
        """Starts now; `now` tells the seconds, such as time.process_time for those of the CPU."""
        self._now = now
        self.seconds = dict.fromkeys(phases, 0.0)
        self.start()

    def start(self) -> None:
        """Leaves the time since the last lap unbooked."""
        self._last = self._now()

    def lap(self, phase: str) -> None:
        """Books the time since the last lap to `phase`."""
        now = self._now()
        self.seconds[phase] += now - self._last
        self._last = now

    def take(self) -> dict[str, float]:
        """Returns the seconds of every phase since the last take, and starts from zero."""
        taken, self.seconds = self.seconds, dict.fromkeys(self.seconds, 0.0)
        return taken


class RunLog:
    """Writes the three files of one run; a resumed run cuts them back to its checkpoint and goes on."""

    def __init__(
        self,
        folder: Path,
        first_update: int = 0,
        first_step: int = 0,
        columns: dict[str, str] = COLUMNS,
        axis: str = "world_steps",
    ) -> None:
        """Opens the files; what an interrupted run wrote after `first_update` is dropped.

        Args:
            folder: of the run.
            first_update: the last one that is kept.
            first_step: what `axis` was then.
            columns: name -> meaning.
            axis: the column over which TensorBoard draws the others.
        """
        from torch.utils.tensorboard import SummaryWriter  # slow to import, and only a run needs it

        folder.mkdir(parents=True, exist_ok=True)
        self._csv_path, self._json_path = folder / "metrics.csv", folder / "evaluations.jsonl"
        kept = [row for row in read_metrics(folder) if row["update"] <= first_update]
        evaluations = [line for line in read_evaluations(folder) if line["update"] < first_update]
        self._json_path.write_text("".join(json.dumps(line) + "\n" for line in evaluations))
        self._file = self._csv_path.open("w", newline="")
        self._columns, self._axis = columns, axis
        self._csv = csv.DictWriter(self._file, columns)
        self._csv.writeheader()
        self._csv.writerows({key: _cell(value) for key, value in row.items()} for row in kept)
        self._file.flush()
        self._board = SummaryWriter(str(folder), purge_step=first_step + 1 if first_update else None)

    def write(self, row: dict[str, float], episodes: list[dict[str, Any]]) -> None:
        """Writes one update: documented names to the CSV and TensorBoard, the episodes' other numbers to the latter."""
        unknown = sorted(set(row) - set(self._columns))
        if unknown:
            raise ValueError(f"Metrics {unknown} are not documented; add them to the columns in algorithms/log.py.")
        self._csv.writerow({key: _cell(value) for key, value in row.items()})
        self._file.flush()
        step = int(row[self._axis])
        for name, value in row.items():
            if "/" in name and math.isfinite(value):
                self._board.add_scalar(name, value, step)
        for name, value in numbers_of(episodes).items():
            self._board.add_scalar(f"episode/{name}", value, step)

    def write_evaluation(self, update: int, policy: str, episodes: list[dict[str, Any]]) -> None:
        """Appends all episodes of one evaluation."""
        with self._json_path.open("a") as file:
            file.write(json.dumps({"update": update, "policy": policy, "episodes": episodes}) + "\n")

    def close(self) -> None:
        """Closes the files."""
        self._file.close()
        self._board.close()


def read_metrics(folder: Path) -> list[dict[str, float]]:
    """Returns the lines of a run's metrics.csv as numbers; absent ones are NaN, and [] if there is no file."""
    path = folder / "metrics.csv"
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [
            {key: float(value) if value else math.nan for key, value in row.items()} for row in csv.DictReader(file)
        ]


def read_evaluations(folder: Path) -> list[dict[str, Any]]:
    """Returns the lines of a run's evaluations.jsonl, and [] if there is no file."""
    path = folder / "evaluations.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def numbers_of(episodes: list[dict[str, Any]]) -> dict[str, float]:
    """Returns the mean over episodes of every number in them but world and seed (return and length have columns)."""
    skip = {"world", "seed", "return", "length"}
    names = {name for episode in episodes for name, value in episode.items() if isinstance(value, int | float)} - skip
    found = {name: [episode[name] for episode in episodes if name in episode] for name in sorted(names)}
    return {name: sum(values) / len(values) for name, values in found.items()}


def _cell(value: float) -> str:
    """Returns the shortest text that reads back as the same number; empty for NaN."""
    if math.isnan(value):
        return ""
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(float(value))
