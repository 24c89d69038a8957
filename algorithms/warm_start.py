"""Starting PPO from a checkpoint: a cloned policy, or one of an earlier training."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from algorithms.checkpoint import check_columns, describe_grid
from algorithms.interface import VectorEnv
from algorithms.load import config_of
from algorithms.ppo import PPO

ARCHITECTURE = ("actor_hidden", "activation", "normalise_observation")


def architecture(folder: Path) -> dict[str, Any]:
    """Returns the fields of `PPOConfig` that a checkpoint's actor fixes.

    Raises:
        ValueError: if the folder holds no checkpoint of an actor.
    """
    config = config_of(_meta(folder))
    if any(name not in config for name in ARCHITECTURE):
        raise ValueError(f"{folder} holds a {_meta(folder)['algorithm']}, whose network is no actor of PPO's.")
    return {name: tuple(x) if isinstance(x := config[name], list) else x for name in ARCHITECTURE}


def start_from(learner: PPO, env: VectorEnv, folder: Path) -> str:
    """Gives the learner the policy of a checkpoint, kept as its reference too, and the critic if it fits.

    The critic fits if it reads what the learner's reads, is of the same size, and was taught the same returns: of equal
    gamma, reward and discount, in units that the learner keeps (`PPOConfig.normalise_value`).

    Returns:
        What became of the critic, in words.

    Raises:
        ValueError: if the checkpoint's network, observation columns or action grid are not the learner's.
    """
    meta, weights = _meta(folder), load_file(folder / "weights.safetensors")
    check_columns(meta["observation_names"], env.observation_names, folder)
    grid = describe_grid(env.action_grid)
    if json.loads(json.dumps(grid)) != meta["grid"]:
        raise ValueError(f"Checkpoint {folder} chooses actions of {meta['grid']}, but this env has {grid}.")
    wanted = {name: getattr(learner.config, name) for name in ARCHITECTURE}
    if wanted != architecture(folder):
        raise ValueError(f"The actor of {folder} is {architecture(folder)}, but {wanted} was asked for.")
    learner.actor.load_state_dict({key: weights[f"actor.{key}"] for key in learner.actor.state_dict()})
    learner.keep_reference()
    modules = {"critic": learner.critic, "value_scale": learner.value_scale}
    parts = {name: {key: weights.get(f"{name}.{key}") for key in m.state_dict()} for name, m in modules.items()}
    if meta.get("critic_sees") != learner.critic_sees:
        return (
            f"a fresh critic (the checkpoint's reads {meta.get('critic_sees', 'nothing')}, not {learner.critic_sees})"
        )
    if config_of(meta)["gamma"] != learner.config.gamma:
        return f"a fresh critic (the checkpoint's has gamma {config_of(meta)['gamma']}, not {learner.config.gamma})"
    taught, here = (
        {name: options.get(name) for name in ("reward", "discount")} for options in (meta["env"], env.config)
    )
    if taught != here:
        return f"a fresh critic (the checkpoint's was taught returns of {taught}, not {here})"
    if not learner.config.normalise_value:
        return "a fresh critic (without normalise_value the learner cannot keep the units of the checkpoint's)"
    for name, module in modules.items():
        if any(t is None or t.shape != module.state_dict()[key].shape for key, t in parts[name].items()):
            return "a fresh critic (the checkpoint's has another size)"
    for name, module in modules.items():
        module.load_state_dict(parts[name])
    return "the checkpoint's critic"


def _meta(folder: Path) -> dict[str, Any]:
    if not (folder / "meta.json").is_file():
        raise ValueError(f"{folder} is no checkpoint: it holds no meta.json.")
    return json.loads((folder / "meta.json").read_text())
