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
from typing import Any, Protocol

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from algorithms.interface import ActionGrid, Restorable
from algorithms.load import build_grid, check_columns, load, newest

__all__ = ["build_grid", "check_columns", "load", "newest", "remove", "restore", "save"]


class Learner(Protocol):
    """What is saved of a learner.

    Attributes:
        config: a dataclass, with actor_hidden, activation and normalise_observation where `load` rebuilds an actor.
        optimizer: of all its parameters.
        critic_sees: what the critic reads, see `warm_start`.
    """

    config: Any
    optimizer: torch.optim.Optimizer
    critic_sees: Any

    def modules(self) -> dict[str, nn.Module]:
        """Returns every module by name."""

    def generators(self) -> dict[str, torch.Generator]:
        """Returns every source of chance by name."""


class Origin(Protocol):
    """What is saved of where a policy learnt: an environment, or a dataset."""

    action_grid: ActionGrid
    agent_names: list[str]
    observation_names: list[str]
    config: dict[str, Any]


def save(folder: Path, learner: Learner, env: Origin, counters: dict[str, Any], about: dict[str, Any]) -> None:
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
        "config": dataclasses.asdict(learner.config),
        "critic_sees": learner.critic_sees,
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
        **{name: generator.get_state() for name, generator in learner.generators().items()},
        "worlds": to_tensors(env.state_dict()) if isinstance(env, Restorable) else None,
    }
    torch.save(training, partial / "training.pt")
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def restore(folder: Path, learner: Learner, env: Origin) -> tuple[dict[str, Any], bool]:
    """Puts learner and worlds back to where `save` was called.

    Returns:
        The counters, and whether the worlds were restored too. If so, the training that follows is, bit for bit on a
        CPU, the one that would have followed without the interruption. If the env is not `Restorable`, the caller has
        to reset it.
    """
    meta = json.loads((folder / "meta.json").read_text())
    check_columns(meta["observation_names"], env.observation_names, folder)
    load_weights(folder, learner.modules())
    training = torch.load(folder / "training.pt", weights_only=True, map_location="cpu")
    learner.optimizer.load_state_dict(training["optimizer"])
    for name, generator in learner.generators().items():
        generator.set_state(training[name])
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


def load_weights(folder: Path, modules: dict[str, nn.Module]) -> None:
    """Puts the tensors of a checkpoint into modules, by their names in it."""
    weights = load_file(folder / "weights.safetensors")
    for name, module in modules.items():
        module.load_state_dict({key: weights[f"{name}.{key}"] for key in module.state_dict()})


def weights_of(learner: Learner) -> dict[str, torch.Tensor]:
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
