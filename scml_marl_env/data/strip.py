"""From logs to episodes: the dataset is derived from the events of a log and from nothing else.

A decision event becomes one row, a window event one step, a log one episode. What is seen is what was logged with the
decision, what is got is what was logged after it, so that no label can reach a feature.
"""

from pathlib import Path
from typing import Any

import numpy as np

from scml_marl_env.actions import OPERATION_NAMES
from scml_marl_env.data.dataset import LEVELS
from scml_marl_env.data.log import LogReader


def strip(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """An episode as `DatasetWriter.episode` takes it: its arrays, and what is said beside but for the expert.

    The decisions of a step stand in the order of their slots. A log that was cut short is truncated at the last window
    whose reward it holds, and its score is nan.

    Args:
        path: of a log.

    Returns:
        None if there is no such window.
    """
    log = LogReader(path)
    decisions: list[dict[str, Any]] = []
    windows: list[dict[str, Any]] = []
    rewards: list[dict[str, Any]] = []
    observation, bounds, state, answers = [], [], [], []
    score = float("nan")
    for event in log.events():
        match event["ev"]:
            case "window":
                windows.append(event)
                answers.append(0)
                state.append(log.array("state", event["ref"]))
            case "decision":
                decisions.append(event)
                answers[-1] += 1
                observation.append(log.array("observation", event["ref"]))
                bounds.append(log.array("bounds", event["ref"]))
            case "reward":
                rewards.append(event)
            case "world_end":
                score = event["score"]
    n = len(rewards)
    if n == 0:
        return None
    rows = sum(answers[:n])
    ended = rewards[-1]["terminated"] or rewards[-1]["truncated"]
    truncated = _column(rewards, "truncated", bool)
    truncated[-1] |= not ended
    raw = [(OPERATION_NAMES.index(d["op"]), d["quantity"], d["delta"], d["price"]) for d in decisions[:rows]]
    slot = _column(decisions[:rows], "thread", np.int16)
    order = np.lexsort((slot, np.repeat(np.arange(n), answers[:n])))  # answers are logged in the order of sending
    steps = {
        "observation": np.stack(observation[:rows])[order],
        "bounds": np.stack(bounds[:rows])[order],
        "action": _column(decisions[:rows], "action", np.int32)[order],
        "raw": np.array(raw, np.int32)[order],
        "slot": slot[order],
        "state": np.stack(state[:n]),
        "day": _column(windows[:n], "day", np.int16),
        "round": _column(windows[:n], "round", np.int16),
        "reward": _column(rewards, "reward", np.float32),
        "elapsed": _column(rewards, "elapsed", np.float32),
        "terminated": _column(rewards, "terminated", bool),
        "truncated": truncated,
        "answers": np.array(answers[:n], np.int64),
    }
    about = {
        "factory": log.start["factory"],
        "level": LEVELS.index(log.start["level"]),
        "n_days": log.start["n_days"],
        "score": score,
    }
    return steps, about


def _column(events: list[dict[str, Any]], name: str, dtype: Any) -> np.ndarray:
    return np.array([event[name] for event in events], dtype)
