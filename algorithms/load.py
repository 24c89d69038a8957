"""Policies from checkpoints: what is needed to play, and nothing of what is needed to train."""

import importlib
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from algorithms.interface import ActionGrid
from algorithms.networks import Actor
from algorithms.policy import Policy
from algorithms.recollection import DecisionTransformerPolicy, Targets
from algorithms.stream_actor import StreamActor, StreamConfig


def load(path: str | Path) -> Any:
    """Returns the policy in a checkpoint folder; the env package names this function "algorithms.load:load".

    It is an `algorithms.policy.Policy`, or one with a memory, a `recollection.DecisionTransformerPolicy`.
    """
    folder = Path(path)
    if not (folder / "meta.json").is_file():
        raise ValueError(f"{folder} is no checkpoint: it holds no meta.json. Expected a folder that save() wrote.")
    meta = json.loads((folder / "meta.json").read_text())
    config, names = config_of(meta), meta["observation_names"]
    grid = build_grid(meta["grid"])
    if meta["algorithm"] == "DecisionTransformer":
        return load_transformer(folder, meta, grid)
    with torch.random.fork_rng(devices=[]):  # fresh weights are drawn, only to be replaced
        actor = Actor(len(names), grid, config["actor_hidden"], config["activation"], config["normalise_observation"])
    weights = load_file(folder / "weights.safetensors")
    actor.load_state_dict({key: weights[f"actor.{key}"] for key in actor.state_dict()})
    return Policy(actor.eval().requires_grad_(False), names, meta)


def load_transformer(folder: Path, meta: dict[str, Any], grid: ActionGrid) -> DecisionTransformerPolicy:
    """Returns the Decision Transformer of a checkpoint."""
    config, names = config_of(meta), meta["observation_names"]
    sizes = StreamConfig(**{field.name: config[field.name] for field in fields(StreamConfig)})
    with torch.random.fork_rng(devices=[]):
        actor, targets = StreamActor(len(names), grid, sizes), Targets(config["kinds"])
    weights = load_file(folder / "weights.safetensors")
    for name, module in (("actor", actor), ("targets", targets)):
        module.load_state_dict({key: weights[f"{name}.{key}"] for key in module.state_dict()})
    actor.eval().requires_grad_(False)
    return DecisionTransformerPolicy(actor, targets, names, meta, target_quantile=config["target_quantile"])


def config_of(meta: dict[str, Any]) -> dict[str, Any]:
    """Returns the learner's config from a checkpoint's meta.json; older ones call it "ppo"."""
    return meta["config"] if "config" in meta else meta["ppo"]


def newest(run: Path) -> Path:
    """Returns the last checkpoint of a run's folder."""
    found = sorted(path for path in (run / "checkpoints").glob("update_*") if not path.name.endswith(".partial"))
    if not found:
        raise ValueError(f"{run} holds no checkpoint; nothing to resume or to play.")
    return found[-1]


def build_grid(description: dict[str, Any]) -> ActionGrid:
    """Returns the grid that `describe_grid` described; JSON's lists become tuples again."""
    module, name = description["class"].split(":")
    fields = {key: tuple(x) if isinstance(x, list) else x for key, x in description["fields"].items()}
    return getattr(importlib.import_module(module), name)(**fields)


def check_columns(saved: list[str], now: list[str], folder: Path) -> None:
    """Raises ValueError if an environment shows other columns than those that were learnt from."""
    if saved != now:
        missing, new = sorted(set(saved) - set(now)), sorted(set(now) - set(saved))
        raise ValueError(
            f"Checkpoint {folder} expects {len(saved)} observation columns, but this env gives {len(now)}; "
            f"missing {missing}, new {new}. Make the env with the features that the checkpoint was trained with."
        )
