"""Checkpoints: a folder to play from, and to go on training from as if training had never stopped.

    weights.safetensors   every tensor of actor, critic and running statistics; no code runs when it is read
    meta.json             algorithm, configuration, sizes, counters, names of the observation columns, action grid, env
    training.pt           optimiser, random generators, state of the worlds; read with weights_only=True

`load` reads the first two and returns a `Policy`; `restore` reads all three into a learner and an environment.
"""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from algorithms.interface import ActionGrid, Restorable, VectorEnv
from algorithms.load import build_grid, check_columns, load, newest
from algorithms.ppo import PPO

__all__ = ["build_grid", "check_columns", "load", "newest", "remove", "restore", "save"]


def save(folder: Path, learner: PPO, env: VectorEnv, counters: dict[str, int], about: dict[str, Any]) -> None:
    """Writes a checkpoint; the folder appears complete or not at all.

    Args:
        folder: replaced if it exists.
        learner: its weights, optimiser and generators are saved.
        env: its description and, where it is `Restorable`, the state of its worlds.
        counters: how far training is.
        about: anything else worth keeping (JSON), such as the configuration of the run.
    """
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_file(weights_of(learner), partial / "weights.safetensors")
    meta = {
        "algorithm": type(learner).__name__,
        "ppo": dataclasses.asdict(learner.config),
        "counters": counters,
        "grid": describe_grid(env.action_grid),
        "observation_names": env.observation_names,
        "agent_names": env.agent_names,
        "env": env.config,
        "about": about,
    }
    (partial / "meta.json").write_text(json.dumps(meta, indent=1))
    training = {
        "optimizer": learner.optimizer.state_dict(),
        "sampler": learner.sampler.get_state(),
        "shuffler": learner.shuffler.get_state(),
        "worlds": to_tensors(env.state_dict()) if isinstance(env, Restorable) else None,
    }
    torch.save(training, partial / "training.pt")
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def restore(folder: Path, learner: PPO, env: VectorEnv) -> tuple[dict[str, int], bool]:
    """Puts learner and worlds back to where `save` was called.

    Returns:
        The counters, and whether the worlds were restored too. If so, the training that follows is, bit for bit on a
        CPU, the one that would have followed without the interruption. If the env is not `Restorable`, the caller has
        to reset it.
    """
    meta = json.loads((folder / "meta.json").read_text())
    check_columns(meta["observation_names"], env.observation_names, folder)
    weights = load_file(folder / "weights.safetensors")
    for name, module in learner.modules().items():
        module.load_state_dict({key: weights[f"{name}.{key}"] for key in module.state_dict()})
    training = torch.load(folder / "training.pt", weights_only=True, map_location="cpu")
    learner.optimizer.load_state_dict(training["optimizer"])
    learner.sampler.set_state(training["sampler"])
    learner.shuffler.set_state(training["shuffler"])
    if training["worlds"] is None or not isinstance(env, Restorable):
        return meta["counters"], False
    env.load_state_dict(to_arrays(training["worlds"]))
    return meta["counters"], True


def remove(folder: Path) -> None:
    """Deletes a checkpoint."""
    shutil.rmtree(folder)


def describe_grid(grid: ActionGrid) -> dict[str, Any]:
    """Returns the class and the fields of a grid, as JSON; the grid must be a dataclass of plain values."""
    if not dataclasses.is_dataclass(grid) or isinstance(grid, type):
        raise ValueError(f"A checkpoint can keep only action grids that are dataclasses, got {type(grid).__name__}.")
    fields = {field.name: getattr(grid, field.name) for field in dataclasses.fields(grid) if field.init}
    return {"class": f"{type(grid).__module__}:{type(grid).__qualname__}", "fields": fields}


def weights_of(learner: PPO) -> dict[str, torch.Tensor]:
    """Returns every tensor of the learner's modules, named module.parameter."""
    return {
        f"{name}.{key}": tensor.contiguous()
        for name, module in learner.modules().items()
        for key, tensor in module.state_dict().items()
    }


def to_tensors(tree: Any) -> Any:
    """Returns the same tree of dicts and lists with arrays as tensors, which torch.load reads without running code."""
    if isinstance(tree, dict):
        return {key: to_tensors(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [to_tensors(value) for value in tree]
    if isinstance(tree, np.ndarray):
        return torch.from_numpy(tree.copy())
    return tree.item() if isinstance(tree, np.generic) else tree


def to_arrays(tree: Any) -> Any:
    """Returns the same tree with tensors as arrays."""
    if isinstance(tree, dict):
        return {key: to_arrays(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [to_arrays(value) for value in tree]
    return tree.numpy() if isinstance(tree, torch.Tensor) else tree
